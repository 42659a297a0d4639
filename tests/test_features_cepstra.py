"""Cepstra against a twin of the whole chain in plain loops, their tables against librosa and SciPy, and their bits."""

import itertools
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.fft
import scipy.signal
from hypothesis import example, given, settings
from hypothesis import strategies as st

from speechgmm.errors import InputError
from speechgmm.features.cepstra import (
    DITHER_BLOCK,
    CepstralAnalyser,
    cosine_transform,
    require_samples,
    window_weights,
)
from speechgmm.features.config import FeatureConfig
from speechgmm.features.filter_bank import filter_bank, from_hertz, to_hertz
from tests import naive_features

RATES = (8000, 16000, 22050, 44100)
# Half a step of float32, relative.
EPSILON = 2.0**-24


@pytest.fixture(scope="module")
def librosa():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # librosa's own, and those of what it imports
        import librosa
    return librosa


def analysed(samples, config, size=None, **choices):
    """Frame data of samples given in blocks of one size; the static columns alone."""
    samples = np.asarray(samples, np.float32)
    starts = range(0, samples.size, size or samples.size)
    # More samples than there are may be announced.
    data = CepstralAnalyser(config).analyse(
        lambda: (samples[start : start + (size or samples.size)] for start in starts),
        samples.size + 10_000 * bool(size),
        **choices,
    )
    return data.frames[:, : config.n_statics], data.levels


def in_samples(length, hop, rate=8000, /, **choices):
    """A configuration by its lengths in samples, without deltas."""
    choices = {"delta_orders": 0, "sample_rate": rate} | choices
    return FeatureConfig(window_length=length / rate, hop_length=hop / rate, **choices)


def noise(n, seed=0):
    """Noise that swells and fades, with a click in it and a silent tail."""
    samples = np.random.default_rng(seed).standard_normal(n) * 0.1
    samples *= np.sin(np.linspace(0.3, 3.0, n)) ** 2
    samples[n // 3] += 0.8
    samples[n - n // 8 :] = 0.0
    return samples.astype(np.float32)


# The whole chain against its twin.


def window_sizes(samples, config):
    """The root of the sum of squares of what each window and the sample before it hold."""
    sizes = []
    for first in naive_features.first_samples(len(samples), config):
        around = samples[max(0, first - 1) : max(0, first + config.window_samples)].astype(np.float64)
        sizes.append(config.scale * np.sqrt(np.square(around).sum()))
    return np.array(sizes)


def tolerances(samples, config, values):
    """How far float32 may lead from the twin: for the cepstra, the levels and the log energies.

    A bin of the transform is off by a few half steps of the size of its window, whatever its own size: bins and filters
    that hold little of a loud window have few digits, and so have their logarithms. Sums of n terms are off by up to n
    half steps. Edges of filters are known to 1e-13, which counts where a bin lies on one.
    """
    weights = np.array(naive_features.filters(config))
    size = window_sizes(samples, config)[:, None]
    amplitude = 32 * EPSILON * size
    power = config.fft_samples * size
    if config.spectrum == "magnitude":
        of_filter = weights.sum(axis=1) * amplitude + 1e-13 * weights.max() * power
    else:
        of_filter = 2 * np.sqrt(values * weights.sum(axis=1)) * amplitude + weights.sum(axis=1) * amplitude**2
        of_filter += 1e-13 * weights.max() * power * size
    floor = config.floor
    if config.top_db:
        floor = max(floor, values.max() * 10 ** (-config.top_db / 10))
    of_logarithm = of_filter / np.maximum(values, floor) + 8 * EPSILON
    if config.top_db:
        of_logarithm = of_logarithm + of_logarithm.flat[values.argmax()]
    factor = {"decibel": 10 / np.log(10), "natural": 1.0, "log10": 1 / np.log(10)}[config.log_scale]
    matrix = np.abs(naive_features.cosine_weights(config)).T
    logarithms = np.abs(np.log(np.maximum(values, floor)))
    terms = config.n_filters + 8
    of_cepstra = factor * (of_logarithm @ matrix + terms * EPSILON * (logarithms @ matrix))
    total = np.maximum(values.sum(axis=1), config.floor)
    of_levels = of_filter.sum(axis=1) / total + terms * EPSILON * (1 + np.abs(np.log(total)))
    return of_cepstra, of_levels, size[:, 0] ** 2 * (config.window_samples + 8) * EPSILON


def assert_equals_twin(samples, config):
    """The chain's frames and levels are its twin's, as far as float32 goes; returns its frames and the twin's."""
    samples = np.asarray(samples, np.float32)
    values, energies = naive_features.bands(samples, config)
    expected = naive_features.cepstra(values, energies, config)
    actual, levels = analysed(samples, config)
    assert actual.dtype == levels.dtype == np.float32
    assert actual.shape == (config.n_frames(samples.size), config.n_statics) == expected.shape
    of_cepstra, of_levels, of_energy = tolerances(samples, config, values)
    kept = slice(1, None) if config.energy in ("log", "none") else slice(None)
    columns = slice(1, config.n_coefficients) if config.energy == "log" else slice(None)
    difference = np.abs(actual - expected)
    if config.energy == "both":
        difference = difference[:, :-1]
    assert (difference[:, columns] <= of_cepstra[:, kept]).all()
    assert (np.abs(levels - naive_features.levels(values, config)) <= of_levels).all()
    if config.energy in ("log", "both"):
        column = 0 if config.energy == "log" else -1
        logarithms = np.abs(expected[:, column])
        relative = 10 * of_energy / np.maximum(energies, config.floor)
        assert (np.abs(actual[:, column] - expected[:, column]) <= relative + 8 * EPSILON * logarithms).all()
    return actual, expected


@st.composite
def configurations(draw):
    """Any settings of the chain, with windows and transforms so short that the twin is quick."""
    window = draw(st.integers(2, 70))
    shortest = (window - 1).bit_length()
    n_filters = draw(st.integers(1, 40))
    energy = draw(st.sampled_from(["c0", "log", "both", "none"]))
    return in_samples(
        window,
        draw(st.integers(1, 90)),
        scale=draw(st.sampled_from([1.0, 32768.0])),
        framing=draw(st.sampled_from(["centred", "inside"])),
        remove_offset=draw(st.booleans()),
        pre_emphasis=draw(st.sampled_from([0.97, 0.0, 0.5, 1.0])),
        emphasis_by=draw(st.sampled_from(["signal", "frame"])),
        window=draw(st.sampled_from(["hamming", "hann", "povey", "rectangular"])),
        window_symmetric=draw(st.booleans()),
        fft_length=draw(st.sampled_from([0, *(2**n for n in range(max(1, shortest), 8))])),
        spectrum=draw(st.sampled_from(["power", "magnitude"])),
        n_filters=n_filters,
        frequency_scale=draw(st.sampled_from(["htk", "slaney", "linear"])),
        filter_slopes=draw(st.sampled_from(["hertz", "scale"])),
        low_frequency=draw(st.sampled_from([0.0, 20.3, 307.1, 1503.7])),
        high_frequency=draw(st.sampled_from([0.0, 1600.9, 3001.3, 3999.1])),
        floor=draw(st.sampled_from([1e-10, 1e-4, 1.0])),
        log_scale=draw(st.sampled_from(["decibel", "natural", "log10"])),
        top_db=draw(st.sampled_from([0.0, 6.0, 80.0])),
        n_coefficients=draw(st.integers(min(n_filters, 2) if energy == "none" else 1, n_filters)),
        dct=draw(st.sampled_from(["orthonormal", "htk"])),
        lifter=draw(st.sampled_from([0, 22, 3])),
        energy=energy if n_filters > 1 or energy != "none" else "c0",
    )


@st.composite
def audio(draw, config):
    """Up to six windows of noise, perhaps with an offset, a tone, or silence."""
    fewest = 1 if config.framing == "centred" else config.window_samples
    n = draw(st.integers(fewest, fewest + 5 * config.hop_samples))
    samples = np.random.default_rng(draw(st.integers(0, 2**16))).standard_normal(n) * 0.1
    samples += draw(st.sampled_from([0.0, 0.5]))
    samples += draw(st.sampled_from([0.0, 0.3])) * np.sin(np.arange(n) * draw(st.sampled_from([0.1, 1.3])))
    samples[draw(st.integers(0, n)) :] *= draw(st.sampled_from([1.0, 0.0]))
    return samples.astype(np.float32)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_any_configuration_equals_its_slow_twin(data):
    config = data.draw(configurations())
    assert_equals_twin(data.draw(audio(config)), config)


HTK = {"emphasis_by": "frame", "spectrum": "magnitude", "filter_slopes": "scale", "dct": "htk"}
KALDI = {"framing": "inside", "remove_offset": True, "window": "povey", "window_symmetric": True}
FEW = {"n_filters": 12, "n_coefficients": 12}
CASES = {
    "default": (in_samples(200, 80), 500),
    "default, one sample": (in_samples(200, 80), 1),
    "odd window": (in_samples(21, 8, pre_emphasis=0.0, high_frequency=3700.0, **FEW), 200),
    "window as long as the transform": (in_samples(64, 25, **FEW), 200),
    "longer transform": (in_samples(64, 25, fft_length=256, **FEW), 200),
    "hop beyond the window": (in_samples(21, 90, **FEW), 500),
    "two samples": (in_samples(2, 3, n_filters=3, n_coefficients=3), 40),
    "three samples, hop one": (in_samples(3, 1, n_filters=3, n_coefficients=2, **HTK), 40),
    "kaldi": (in_samples(50, 20, energy="both", log_scale="natural", lifter=22, **KALDI, **FEW), 210),
    "htk": (in_samples(50, 20, scale=32768.0, log_scale="natural", energy="none", **HTK, **FEW), 210),
    "linear": (in_samples(40, 20, frequency_scale="linear", log_scale="log10", energy="log", **FEW), 210),
    "slaney": (in_samples(64, 16, frequency_scale="slaney", window="hann", top_db=30.0, **FEW), 300),
    "rectangular": (in_samples(33, 16, window="rectangular", remove_offset=True, **FEW), 300),
}


@pytest.mark.parametrize("name", CASES)
def test_cepstra_are_within_a_thousandth_of_the_slow_twins(name):
    """What the tolerances of the last test come to: noise fills all bins alike, so they keep their digits."""
    config, n = CASES[name]
    actual, expected = assert_equals_twin(np.random.default_rng(3).standard_normal(n) * 0.1, config)
    # In decibels, where all logarithms are largest; the worst of these is 1e-4.
    np.testing.assert_allclose(actual, expected, rtol=0, atol=5e-4)


@pytest.mark.parametrize("length", [20, 21])
@pytest.mark.parametrize("emphasis_by", ["signal", "frame"])
def test_audio_may_end_anywhere_in_a_window(length, emphasis_by):
    """Pre-emphasis must not leave a trace of the last sample just beyond the end, whichever frame that is in."""
    config = in_samples(
        length, 12, window="rectangular", emphasis_by=emphasis_by, n_filters=4, n_coefficients=4
    )
    samples = np.random.default_rng(4).standard_normal(260).astype(np.float32)
    for n in [*range(1, 50), *range(180, 230)]:  # in the first sixteen frames, and the next
        assert_equals_twin(samples[:n], config)


# What single settings mean.


@pytest.mark.parametrize("framing", ["centred", "inside"])
@pytest.mark.parametrize("emphasis_by", ["signal", "frame"])
def test_an_offset_makes_no_difference_where_it_is_removed(framing, emphasis_by):
    config = in_samples(50, 20, remove_offset=True, framing=framing, emphasis_by=emphasis_by, **FEW)
    samples = np.random.default_rng(5).standard_normal(400) * 0.1
    without, _ = analysed(samples, config)
    with_offset, _ = analysed(samples + 0.5, config)
    # Windows that reach beyond the audio hold zeros too, for which the offset does not count.
    inside = slice(2, -2) if framing == "centred" else slice(None)
    np.testing.assert_allclose(with_offset[inside], without[inside], rtol=0, atol=1e-3)


def test_pre_emphasis_takes_the_audio_as_steady_before_its_first_sample():
    """A constant offset keeps its height: no step at the beginning, which would light up every band."""
    config = in_samples(64, 64, 16000, low_frequency=1000.0, **FEW)
    steady = np.full(640, 0.5, np.float32)
    _, levels = analysed(steady, config)
    _, with_step = analysed(np.concatenate([np.zeros(640, np.float32), steady]), config)
    assert levels[0] < with_step[10] + np.log(0.01)


@pytest.mark.parametrize("top_db", [20.0, 60.0])
def test_top_db_clips_filters_far_below_the_loudest(top_db):
    config = in_samples(200, 80, 8000, n_coefficients=40)
    samples = noise(2000)
    logarithms = scipy.fft.idct(analysed(samples, config)[0].astype(np.float64), norm="ortho", axis=1)
    clipped = np.maximum(logarithms, logarithms.max() - top_db)
    assert (clipped > logarithms).any() and (clipped == logarithms).any()
    expected = scipy.fft.dct(clipped, norm="ortho", axis=1)
    actual, _ = analysed(samples, in_samples(200, 80, 8000, n_coefficients=40, top_db=top_db))
    # Logarithms come back from float32 cepstra with steps of 6e-5.
    np.testing.assert_allclose(actual, expected, rtol=0, atol=5e-4)


def test_top_db_counts_from_the_frames_kept():
    """The frames around a stretch that its deltas need may be louder than the stretch itself."""
    config = in_samples(80, 40, top_db=15.0, **FEW)
    samples = np.random.default_rng(2).standard_normal(800) * 0.01
    samples[:100] *= 100
    samples[-100:] *= 50
    quiet, _ = analysed(samples[200:600], config)
    kept, _ = analysed(samples, config, keep=slice(7, 14))
    whole, _ = analysed(samples, config)
    np.testing.assert_array_equal(kept[7:14], quiet[2:9])
    assert np.abs(whole[7:14] - kept[7:14]).max() > 1
    np.testing.assert_array_equal(analysed(samples, config, keep=slice(0, 5))[0], whole)


def test_the_power_that_counts_is_never_below_the_floor():
    for floor in (1e-30, 1e-10, 1.0):
        config = in_samples(200, 80, floor=floor)
        frames, levels = analysed(np.zeros(1000), config)
        # C0 of 40 filters.
        np.testing.assert_allclose(frames[:, 0], 10 * np.log10(floor) * np.sqrt(40), rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(frames[:, 1:], 0.0, atol=1e-4)
        np.testing.assert_allclose(levels, np.log(floor), rtol=1e-6, atol=1e-9)


def test_cepstra_keep_their_digits_where_filters_are_level():
    """A long silence makes every filter the least power; 128 of them would round the same way each time."""
    for power in np.geomspace(1e-29, 1e9, 100):
        config = in_samples(200, 80, n_filters=128, floor=power)
        expected = scipy.fft.dct(np.full(128, 10 * np.log10(power)), norm="ortho")[:20]
        frames, _ = analysed(np.zeros(400), config)
        # rtol: three steps of float32; atol: what the logarithm itself is off by where it is near 0.
        np.testing.assert_allclose(frames, np.tile(expected, (len(frames), 1)), rtol=2e-7, atol=5e-6)


@pytest.mark.parametrize("rate", [8000, 11025, 11000, 16000])
def test_frame_i_is_centred_at_i_hops(rate):
    config = FeatureConfig(sample_rate=rate, delta_orders=0)
    for i in range(20):
        samples = np.zeros(20 * config.hop_samples, np.float32)
        samples[i * config.hop_samples] = 1.0
        energies = np.exp(analysed(samples, config)[1])
        assert energies.argmax() == i
        if 0 < i < 19:  # and the frames to either side are as far from it
            assert abs(energies[i - 1] - energies[i + 1]) < 0.1 * energies[i]


@pytest.mark.parametrize(("window", "hop"), [(200, 80), (21, 8), (8, 21)])
def test_frame_i_inside_begins_at_i_hops(window, hop):
    """Lit up by one sample: the first frame that holds it is the last that begins no later."""
    config = in_samples(window, hop, framing="inside", window="rectangular", pre_emphasis=0.0, **FEW)
    n = 10 * hop + window
    for place in range(0, n, 7):
        samples = np.zeros(n, np.float32)
        samples[place] = 1.0
        _, levels = analysed(samples, config)
        lit = [i for i in range(config.n_frames(n)) if i * hop <= place < i * hop + window]
        assert np.flatnonzero(levels > np.log(1e-9)).tolist() == lit


# Numbers of frames.


SHAPES = (
    FeatureConfig(),
    FeatureConfig.preset("librosa", sample_rate=8000),
    FeatureConfig(sample_rate=8000, delta_width=7),
    FeatureConfig(sample_rate=11000, window_length=0.021, hop_length=0.03),  # hop longer than the odd window
    in_samples(2, 5, 16000),
)


@settings(deadline=None)
@given(st.integers(1, 6000), st.sampled_from(SHAPES))
def test_n_samples_give_1_plus_n_over_hop_frames(n, config):
    samples = np.random.default_rng(n).standard_normal(n).astype(np.float32)
    frames, levels = analysed(samples, config)
    assert frames.shape == (1 + n // config.hop_samples, config.n_statics)
    assert np.isfinite(frames).all() and np.isfinite(levels).all()


@pytest.mark.parametrize("config", SHAPES)
@pytest.mark.parametrize("n", [1, 2, 79, 80, 81, 399, 400])
def test_very_short_audio(config, n):
    frames, _ = analysed(np.full(n, 0.5), config)
    assert frames.shape == (1 + n // config.hop_samples, config.n_statics)
    assert np.isfinite(frames).all()


@pytest.mark.parametrize("top_db", [0.0, 40.0])
@pytest.mark.parametrize("size", [None, 1, 30])
def test_audio_shorter_than_a_window_inside_is_refused(top_db, size):
    config = in_samples(50, 20, framing="inside", top_db=top_db, **FEW)
    with pytest.raises(InputError, match='49 samples are shorter than one window of 50; `framing` "centred"'):
        analysed(np.ones(49), config, size)
    assert len(analysed(np.ones(50), config, size)[0]) == 1
    assert len(analysed(np.ones(69), config, size)[0]) == 1
    assert len(analysed(np.ones(70), config, size)[0]) == 2


# The same bits.


BITS = {
    "default": in_samples(50, 20, **FEW),
    "offset": in_samples(51, 20, remove_offset=True, energy="both", **FEW),
    "inside, by frame": in_samples(50, 20, framing="inside", emphasis_by="frame", energy="log", **FEW),
    "inside, by signal": in_samples(33, 7, framing="inside", remove_offset=True, **FEW),
    "hop beyond the window": in_samples(7, 45, **FEW),
    "dither": in_samples(50, 20, dither=0.001, **FEW),
    "top_db": in_samples(50, 20, top_db=20.0, **FEW),
    "top_db, inside": in_samples(50, 20, framing="inside", top_db=20.0, **FEW),
    "magnitude": in_samples(64, 16, spectrum="magnitude", **FEW),
    "longer than the audio": in_samples(500, 100, **FEW),
}


def assert_same_bits(one, other):
    for left, right in zip(one, other, strict=True):
        np.testing.assert_array_equal(left.view(np.int32), right.view(np.int32))


@pytest.mark.parametrize("name", BITS)
def test_bits_do_not_depend_on_the_blocks_that_audio_comes_in(name):
    config, samples = BITS[name], noise(431)
    whole = analysed(samples, config)
    # Each block draws its dither anew, which takes a millisecond.
    for size in (1, 19, 20, 163, 430) if config.dither else range(1, 431):
        assert_same_bits(analysed(samples, config, size), whole)


@pytest.mark.parametrize("name", BITS)
@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 431), max_size=8))
@example([0, 0, 100, 100, 431])
@example([50, 60, 61, 400])
def test_bits_do_not_depend_on_blocks_of_unequal_and_no_size(name, cuts):
    config, samples = BITS[name], noise(431)
    blocks = np.split(samples, sorted(cuts))
    data = CepstralAnalyser(config).analyse(lambda: iter(blocks), samples.size + 10_000)
    assert_same_bits((data.frames, data.levels), analysed(samples, config))


@pytest.mark.parametrize("name", [name for name in BITS if BITS[name].dither == BITS[name].top_db == 0])
def test_bits_of_a_frame_do_not_depend_on_the_frames_beside_it(name):
    """The same window content at other places, in other company: alone, in sixteens, at the end of the audio."""
    config = BITS[name]
    hop, length = config.hop_samples, config.window_samples
    samples = np.random.default_rng(8).standard_normal(70 * hop + 500).astype(np.float32)
    frames, levels = analysed(samples, config)
    for i in range(20, 50):
        start = i * hop + config.window_start
        for before, after in itertools.product((0, 1, 17), repeat=2):
            # Frames that begin with the sample before the window, or a few earlier, and end with its last or later.
            first = max(0, (start - 1) // hop - before)
            part, part_levels = analysed(samples[first * hop : start + length + after * hop], config)
            place = i - first
            assert_same_bits((part[place], part_levels[place : place + 1]), (frames[i], levels[i : i + 1]))


def test_bits_are_the_same_in_read_only_and_mapped_samples_and_in_threads(tmp_path):
    config = FeatureConfig(sample_rate=8000, top_db=60.0, delta_orders=0)
    samples = noise(8000)
    expected = analysed(samples, config)
    still = samples.copy()
    still.setflags(write=False)
    samples.tofile(tmp_path / "samples")
    mapped = np.memmap(tmp_path / "samples", np.float32, "r")
    analyser = CepstralAnalyser(config)
    for given_samples in (still, mapped, mapped[:]):
        data = analyser.analyse(lambda given=given_samples: [given], 8000)
        assert_same_bits((data.frames, data.levels), expected)
        data = analyser.analyse(lambda given=given_samples: np.array_split(given, 3), 8000)
        assert_same_bits((data.frames, data.levels), expected)
    with ThreadPoolExecutor(4) as pool:
        for data in pool.map(lambda _: analyser.analyse(lambda: [samples], 8000), range(32)):
            assert_same_bits((data.frames, data.levels), expected)
    np.testing.assert_array_equal(samples, noise(8000))


def test_frames_go_into_the_array_that_was_allocated(tmp_path):
    """Cepstra into the first columns of a memory map, and nothing else into it."""
    config = FeatureConfig(sample_rate=8000, energy="both", n_coefficients=13)
    samples, shapes = noise(2000), []

    def allocate(shape):
        shapes.append(shape)
        mapped = np.memmap(tmp_path / "frames", np.float32, "w+", shape=shape)
        mapped[:] = 7.0
        return mapped

    data = CepstralAnalyser(config).analyse(lambda: [samples], 2000, allocate)
    assert shapes == [(config.n_frames(2000), config.n_features)]
    np.testing.assert_array_equal(data.frames[:, :14], analysed(samples, config)[0])
    assert (data.frames[:, 14:] == 7.0).all()
    assert isinstance(data.frames, np.memmap)


@pytest.mark.parametrize("framing", ["centred", "inside"])
@pytest.mark.parametrize("top_db", [0.0, 20.0])
def test_more_samples_may_be_announced_than_come(framing, top_db):
    config = in_samples(200, 80, framing=framing, top_db=top_db)
    samples = noise(2000)
    for announced in (2001, 2400, 100_000):
        data = CepstralAnalyser(config).analyse(lambda: [samples], announced)
        assert_same_bits((data.frames, data.levels), analysed(samples, config))


# Dither.


def test_dither_is_noise_of_its_standard_deviation_in_scaled_samples():
    config = in_samples(
        2000, 2000, scale=32768.0, dither=2.0, energy="both", log_scale="natural", framing="inside"
    )
    frames, _ = analysed(np.zeros(400_000), config)
    # The mean energy of 200 windows of 2000 samples of variance 4; its standard deviation is 0.2 %.
    assert np.exp(frames[:, -1]).mean() / 2000 == pytest.approx(4.0, rel=0.01)


def test_dither_is_the_same_for_the_same_seed_and_goes_on_beyond_its_blocks():
    config = in_samples(200, 200, dither=0.01)
    silence = np.zeros(2 * DITHER_BLOCK + 5000)
    frames, levels = analysed(silence, config)
    assert_same_bits(analysed(silence, config), (frames, levels))
    assert_same_bits(analysed(silence, config, 6_000), (frames, levels))
    assert_same_bits([analysed(silence[:4000], config)[0][:-1]], [frames[:20]])
    # A stretch of a file gets the noise of its place there.
    later, _ = analysed(silence[6_000:], config, first_sample=6_000)
    assert_same_bits([later[1:]], [frames[31:]])
    other, _ = analysed(silence, in_samples(200, 200, dither=0.01, dither_seed=1))
    assert np.abs(other - frames).max(axis=1).min() > 0.1
    assert len(np.unique(frames[:, 1])) == len(frames)


# Tables.


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(
    ("scale", "norm", "n_filters", "low"),
    [("htk", None, 40, 20.0), ("slaney", "slaney", 128, 0.0), ("htk", None, 24, 300.0)],
)
@pytest.mark.parametrize("high", [0.0, 3700.0])
def test_mel_filters_are_librosas(librosa, rate, scale, norm, n_filters, low, high):
    config = in_samples(
        2048,
        512,
        rate,
        n_filters=n_filters,
        frequency_scale=scale,
        low_frequency=low,
        high_frequency=high,
    )
    expected = librosa.filters.mel(
        sr=rate,
        n_fft=2048,
        n_mels=n_filters,
        fmin=low,
        fmax=high or rate / 2,
        htk=scale == "htk",
        norm=norm,
        dtype=np.float64,
    ).T
    filters = filter_bank(config)
    assert filters.shape == (1025, n_filters)
    np.testing.assert_allclose(filters, expected, rtol=1e-9, atol=1e-11 * expected.max())


@pytest.mark.parametrize("slopes", ["hertz", "scale"])
@pytest.mark.parametrize(
    ("n_filters", "low", "high"), [(20, 0.0, 0.0), (70, 20.0, 3500.5), (3, 100.0, 3000.0)]
)
def test_linear_filters_are_even_triangles_in_hertz(slopes, n_filters, low, high):
    config = in_samples(
        400,
        160,
        n_filters=n_filters,
        n_coefficients=1,
        frequency_scale="linear",
        filter_slopes=slopes,
        low_frequency=low,
        high_frequency=high,
    )
    edges = np.linspace(low, high or 4000, n_filters + 2)
    bins = np.fft.rfftfreq(512, 1 / 8000)
    # One filter is a line from its left edge up to its centre and down to its right edge.
    expected = [np.interp(bins, edges[i : i + 3], [0, 1, 0], 0, 0) for i in range(n_filters)]
    np.testing.assert_allclose(filter_bank(config), np.array(expected).T, rtol=0, atol=1e-12)


@pytest.mark.parametrize("scale", ["htk", "slaney"])
@pytest.mark.parametrize("slopes", ["hertz", "scale"])
def test_filters_equal_their_slow_twin(scale, slopes):
    config = in_samples(
        64, 20, frequency_scale=scale, filter_slopes=slopes, n_filters=30, low_frequency=307.1
    )
    expected = np.array(naive_features.filters(config)).T
    np.testing.assert_allclose(filter_bank(config), expected, rtol=1e-9, atol=1e-12 * expected.max())


def test_straight_slopes_on_the_scale_are_kaldis_triangles():
    """At the centres in mel a filter is 1 and its neighbours 0; half way between they are equal."""
    config = in_samples(400, 160, 16000, fft_length=1 << 17, n_filters=23, filter_slopes="scale")
    filters = filter_bank(config)
    edges = np.linspace(2595 * np.log10(1 + 20 / 700), 2595 * np.log10(1 + 8000 / 700), 25)
    for i in range(23):
        quarters = np.linspace(edges[i], edges[i + 2], 9)
        places = np.round(700 * (10 ** (quarters / 2595) - 1) * (1 << 17) / 16000).astype(int)
        # Bins are 0.12 Hz apart, at most 0.004 of a filter's side.
        heights = [0, 0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25, 0]
        np.testing.assert_allclose(filters[places, i], heights, atol=0.004)


@pytest.mark.parametrize("scale", ["htk", "slaney"])
def test_mel_scales_are_librosas_and_have_inverses(librosa, scale):
    hertz = np.concatenate([[0.0, 999.999, 1000.0, 1000.001], np.geomspace(1e-3, 48000, 500)])
    mels = from_hertz(hertz, scale)
    np.testing.assert_allclose(mels, librosa.hz_to_mel(hertz, htk=scale == "htk"), rtol=1e-12)
    np.testing.assert_allclose(to_hertz(mels, scale), librosa.mel_to_hz(mels, htk=scale == "htk"), rtol=1e-12)
    # rtol: the logarithm of a number near 1 takes digits from the lowest frequencies.
    np.testing.assert_allclose(to_hertz(mels, scale), hertz, rtol=1e-9, atol=1e-9)
    assert (np.diff(from_hertz(np.sort(hertz), scale)) > 0).all()


def test_the_linear_scale_is_hertz():
    hertz = np.linspace(0, 24000, 100)
    np.testing.assert_array_equal(from_hertz(hertz, "linear"), hertz)
    np.testing.assert_array_equal(to_hertz(hertz, "linear"), hertz)


@pytest.mark.parametrize("log_scale", ["decibel", "natural", "log10"])
@pytest.mark.parametrize("lifter", [0, 22])
@pytest.mark.parametrize(("n_filters", "kept"), [(40, 20), (23, 13), (5, 5), (1, 1)])
def test_cosine_transform_is_scipys(log_scale, lifter, n_filters, kept):
    choices = {"n_filters": n_filters, "n_coefficients": kept, "lifter": lifter, "log_scale": log_scale}
    powers = np.exp(np.random.default_rng(0).standard_normal(n_filters) * 5)
    logarithms = {"decibel": 10 * np.log10(powers), "natural": np.log(powers), "log10": np.log10(powers)}
    expected = scipy.fft.dct(logarithms[log_scale], type=2, norm="ortho")[:kept]
    if lifter:
        expected *= 1 + 11 * np.sin(np.pi * np.arange(kept) / 22)
    orthonormal = cosine_transform(FeatureConfig(**choices))
    assert orthonormal.shape == (kept, n_filters)
    np.testing.assert_allclose(orthonormal @ np.log(powers), expected, rtol=1e-10, atol=1e-11)
    # HTK's factor is sqrt(2 / n) for all coefficients.
    expected[0] *= np.sqrt(2)
    htk = cosine_transform(FeatureConfig(dct="htk", **choices))
    np.testing.assert_allclose(htk @ np.log(powers), expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("length", [2, 3, 21, 400])
def test_windows_are_scipys_and_kaldis(symmetric, length):
    def weights(kind):
        return window_weights(in_samples(length, 1, window=kind, window_symmetric=symmetric))

    for kind in ("hamming", "hann"):
        expected = scipy.signal.get_window(kind, length, fftbins=not symmetric)
        np.testing.assert_allclose(weights(kind), expected, rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(weights("rectangular"), np.ones(length))
    hann = scipy.signal.get_window("hann", length, fftbins=not symmetric)
    np.testing.assert_allclose(weights("povey"), np.abs(hann) ** 0.85, rtol=1e-12, atol=1e-12)


# What callers may give.


@pytest.mark.parametrize(
    ("samples", "shape"), [([], r"\(0,\)"), (np.zeros((2, 100)), r"\(2, 100\)"), (0.5, r"\(\)")]
)
def test_samples_that_are_not_one_row_are_refused(samples, shape):
    with pytest.raises(
        InputError, match=f"`samples` has shape {shape}; it must be one row of at least 1 sample"
    ):
        require_samples(samples, FeatureConfig())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e25, -1e25])
def test_samples_that_are_not_usable_are_refused(value):
    samples = noise(16000).astype(np.float64)
    samples[5000] = value
    with pytest.raises(InputError, match=r"`samples` reach .*; they must be finite, and lie in \[-1, 1\]"):
        require_samples(samples, FeatureConfig())


def test_integer_samples_are_refused():
    samples = (noise(16000) * 32767).astype(np.int16)
    with pytest.raises(InputError, match="`samples` are int16; they must be floats in"):
        require_samples(samples, FeatureConfig())


def test_samples_become_float32_in_one_piece():
    samples = noise(1000)
    assert require_samples(samples, FeatureConfig()) is samples
    doubled = np.repeat(samples.astype(np.float64), 2)[::2]
    taken = require_samples(doubled, FeatureConfig())
    assert taken.dtype == np.float32 and taken.flags.c_contiguous
    np.testing.assert_array_equal(taken, samples)
