"""Speech activity: speech stays, silence around it goes, and what cannot be told apart is not decided on."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechgmm.audio import read_audio
from speechgmm.features import FeatureConfig, FeatureExtractor
from speechgmm.features.activity import DECIBEL, speech_frames
from speechgmm.features.cepstra import CepstralAnalyser

RULES = ("energy", "kaldi", "gmm")
CONTEXT = {"activity_context": 10, "activity_share": 0.3}


def config_of(rule, **options):
    return FeatureConfig(speech_activity=rule, **({"activity_context": 0, "activity_share": 0.6} | options))


def from_decibels(decibels):
    return (np.asarray(decibels, float) * DECIBEL).astype(np.float32)


def levels_of(samples, config):
    return CepstralAnalyser(config).analyse(lambda: [samples.astype(np.float32)], samples.size).levels


def random_levels(n_frames, seed):
    """Levels of quiet and loud stretches, in fine steps so that no two ways of adding them up matter."""
    rng = np.random.default_rng(seed)
    loud = np.repeat(rng.random(n_frames // 5 + 1) < 0.5, 5)[:n_frames]
    return from_decibels(np.where(loud, rng.normal(-10, 5, n_frames), rng.normal(-30, 2, n_frames)))


# Plain-loop twins: each rule as its source or docstring has it.


def naive_context(speech, reach, share):
    if reach == 0:
        return list(speech)
    result = []
    for t in range(len(speech)):
        near = [speech[s] for s in range(t - reach, t + reach + 1) if 0 <= s < len(speech)]
        result.append(sum(near) >= share * len(near))
    return result


def naive_energy(levels, activity_range):
    """In powers, as it is defined."""
    powers = [math.exp(level) for level in levels]
    loud = sorted(powers, reverse=True)[int(0.05 * (len(powers) - 1))]
    return [10 * math.log10(power / loud) >= -activity_range for power in powers]


def naive_kaldi(energies, reach=0, share=0.6):
    """After `ComputeVadEnergy`, with Kaldi's default threshold and scale of the mean."""
    threshold = 5.0 + 0.5 * sum(energies) / len(energies)
    speech = []
    for t in range(len(energies)):
        above = near = 0
        for s in range(t - reach, t + reach + 1):
            if 0 <= s < len(energies):
                near += 1
                above += energies[s] > threshold
        speech.append(above >= near * share)
    return speech


def naive_heard(levels):
    """Levels clipped 30 dB below and 6 above the loud ones, and averaged over five frames."""
    loud = sorted(levels, reverse=True)[int(0.05 * (len(levels) - 1))]
    clipped = [min(6 * DECIBEL, max(-30 * DECIBEL, level - loud)) for level in levels]
    result = []
    for t in range(len(clipped)):
        near = [clipped[s] for s in range(t - 2, t + 3) if 0 <= s < len(clipped)]
        result.append(sum(near) / len(near))
    return result


def naive_gmm(levels, n_components):
    """Eight steps of EM."""
    x = naive_heard([float(level) for level in levels])
    components = range(n_components)
    mean = sum(x) / len(x)
    variance = sum((value - mean) ** 2 for value in x) / len(x)
    weights, variances = [1 / n_components] * n_components, [variance / n_components**2] * n_components
    means = [float(np.quantile(x, place)) for place in ((0.1, 0.9) if n_components == 2 else (0.1, 0.5, 0.9))]

    def density(k, value):
        peak = weights[k] / math.sqrt(2 * math.pi * variances[k])
        return peak * math.exp(-0.5 * (value - means[k]) ** 2 / variances[k])

    for _ in range(8):
        shares = [[density(k, value) for k in components] for value in x]
        shares = [[part / sum(row) for part in row] for row in shares]
        counts = [sum(row[k] for row in shares) for k in components]
        means = [
            sum(row[k] * value for row, value in zip(shares, x, strict=True)) / counts[k] for k in components
        ]
        variances = [
            max(
                sum(row[k] * (value - means[k]) ** 2 for row, value in zip(shares, x, strict=True))
                / counts[k],
                (0.25 * DECIBEL) ** 2,
            )
            for k in components
        ]
        weights = [count / len(x) for count in counts]
    order = sorted(components, key=lambda k: means[k])
    speech = []
    for value in x:
        best = max(components, key=lambda k: density(k, value))
        speech.append(value >= means[order[-1]] or (best == order[-1] and value > means[order[-2]]))
    return speech


@pytest.mark.parametrize("n_frames", [15, 20, 21, 60, 203])
@pytest.mark.parametrize("activity_range", [0.0, 10.0, 20.0])
def test_energy_is_its_plain_equation(n_frames, activity_range):
    levels = random_levels(n_frames, seed=n_frames)
    speech = speech_frames(levels, config_of("energy", activity_range=activity_range))
    assert speech.dtype == bool
    np.testing.assert_array_equal(speech, naive_energy(levels.astype(float), activity_range))


@pytest.mark.parametrize("n_components", [2, 3])
@pytest.mark.parametrize("n_frames", [25, 80, 600])  # beyond 512 frames the engine goes other ways
def test_gmm_is_its_plain_equations(n_components, n_frames):
    for seed in range(5):
        levels = random_levels(n_frames, seed)
        speech = speech_frames(levels, config_of("gmm", activity_components=n_components))
        np.testing.assert_array_equal(speech, naive_gmm(levels, n_components))
        assert 0.1 < speech.mean() < 0.9


@pytest.mark.parametrize(("reach", "share"), [(0, 0.6), (0, 0.0), (2, 0.12), (10, 0.3), (100, 0.5)])
@pytest.mark.parametrize("rule", RULES)
def test_context_is_a_vote_of_the_frames_around(rule, reach, share):
    levels = random_levels(150, seed=4) - np.float32(2.0)  # so that "kaldi" finds both
    alone = speech_frames(levels, config_of(rule, activity_range=15.0))
    assert 0.1 < alone.mean() < 0.9
    options = {"activity_range": 15.0, "activity_context": reach, "activity_share": share}
    speech = speech_frames(levels, config_of(rule, **options))
    expected = naive_context(alone, reach, share)
    assert any(expected) == (speech is not None)
    if speech is not None:
        np.testing.assert_array_equal(speech, expected)


def test_context_counts_shares_exactly():
    """Three of five frames are 0.6 of them; at the ends there are fewer."""
    loud = np.zeros(40)
    loud[[0, 10, 11, 12, 20, 22, 30]] = 1
    levels = from_decibels(np.where(loud, 0.0, -50.0))
    speech = speech_frames(levels, config_of("energy", activity_context=2, activity_share=0.6))
    np.testing.assert_array_equal(np.flatnonzero(speech), [10, 11, 12])
    speech = speech_frames(levels, config_of("energy", activity_context=2, activity_share=0.4))
    np.testing.assert_array_equal(np.flatnonzero(speech), [9, 10, 11, 12, 13, 20, 21, 22])
    speech = speech_frames(levels, config_of("energy", activity_context=2, activity_share=1 / 3))
    np.testing.assert_array_equal(np.flatnonzero(speech), [0, 9, 10, 11, 12, 13, 20, 21, 22])


# Levels as Kaldi would have them.


def speech_like_noise(rate, seconds=30, rms=0.05):
    """Noise with as much power at all frequencies up to 500 Hz, then 9 dB less with every octave."""
    rng = np.random.default_rng(0)
    frequencies = np.arange(1, rate * seconds // 2 + 1) / seconds
    amplitudes = np.minimum(1.0, (frequencies / 500.0) ** (-9.0 / 2 / (10 * math.log10(2))))
    phases = np.exp(2j * np.pi * rng.random(frequencies.size))
    samples = np.fft.irfft(np.concatenate([[0.0], amplitudes * phases]), rate * seconds)
    return rms * samples / samples.std()


def kaldi_energies(samples, rate):
    """Log energy of 16-bit samples in windows of 25 ms every 10 ms; at least that of noise of one step."""
    window, hop = rate // 40, rate // 100
    return np.array(
        [
            math.log(max(window, np.square(32768.0 * samples[start : start + window]).sum()))
            for start in range(0, samples.size - window + 1, hop)
        ]
    )


CONFIGURATIONS = [
    (FeatureConfig(), 0.1),
    (FeatureConfig(sample_rate=8000), 0.1),
    (FeatureConfig(pre_emphasis=0.0, window="rectangular", scale=100.0), 0.1),
    (FeatureConfig(window_length=0.05, fft_length=2048), 0.1),
    (FeatureConfig.preset("kaldi"), 0.1),
    # Filters of the sum of amplitudes: noise has less of that than a steady tone of the same power.
    (FeatureConfig.preset("htk"), 0.3),
    (FeatureConfig.preset("librosa"), 0.1),
    (FeatureConfig.preset("asvspoof"), 0.1),
]


@pytest.mark.parametrize(("config", "tolerance"), CONFIGURATIONS)
def test_levels_of_speech_become_kaldis_energy(config, tolerance):
    """So that thresholds, half of the sum, are right to half of the tolerance (natural logarithm of power)."""
    from speechgmm.features.activity import _exponent, _kaldi_offset

    samples = speech_like_noise(config.sample_rate)
    energy = np.log(np.mean(np.exp(kaldi_energies(samples, config.sample_rate))))
    powers = levels_of(samples, config).astype(float) / _exponent(config)
    assert np.log(np.mean(np.exp(powers))) + _kaldi_offset(config) == pytest.approx(energy, abs=tolerance)


@pytest.mark.parametrize("gain", [1.0, 0.02])
def test_kaldi_is_kaldis_rule(gain):
    """Louder and softer by turns; from the same windows, so levels differ from energies by chance alone."""
    turns = np.repeat(np.random.default_rng(1).uniform(-45, 0, 100), 4800)
    samples = gain * speech_like_noise(16000) * 10 ** (turns / 20)
    levels = levels_of(samples, config_of("kaldi", framing="inside"))
    energies = kaldi_energies(samples, 16000)
    for options in ({}, {"activity_context": 5, "activity_share": 0.5}):
        speech = speech_frames(levels, config_of("kaldi", framing="inside", **options))
        expected = np.array(naive_kaldi(energies, *options.values()))
        assert 0.1 < expected.mean() < 0.9
        assert (speech == expected).mean() > 0.97


def test_kaldi_depends_on_the_level_alone_not_on_the_scale():
    samples = speech_like_noise(16000, 4) * np.repeat([1e-2, 1.0], 32000)
    plain, scaled = (config_of("kaldi", scale=scale) for scale in (1.0, 32768.0))
    expected = speech_frames(levels_of(samples, plain), plain)
    np.testing.assert_array_equal(speech_frames(levels_of(samples, scaled), scaled), expected)
    assert expected.mean() == pytest.approx(0.5, abs=0.01)
    # Log energies of 7.8, and 6.0 of Kaldi's noise: the threshold is 8.5.
    softer = 0.0015 * samples
    assert speech_frames(levels_of(softer, plain), plain) is None


def test_kaldi_decides_as_kaldis_own_energies(speech_data):
    """On nine frames in ten; where pre-emphasis does not part the two, on 19 in 20."""
    kaldi_native_fbank = pytest.importorskip("kaldi_native_fbank")
    options = kaldi_native_fbank.MfccOptions()
    options.frame_opts.dither = 0.0
    paths = [
        *sorted(speech_data.glob("LibriSpeech/train-clean-100/*/*/*.flac"))[::30],
        *sorted(speech_data.glob("speech_commands_test_set_v0.02/*/*.wav"))[::200],
    ]
    assert len(paths) == 32
    for emphasis, least in ((0.97, 0.9), (0.0, 0.95)):
        config = config_of("kaldi", framing="inside", pre_emphasis=emphasis)
        same, kept = [], []
        for path in paths:
            samples = read_audio(path)[0]
            mfcc = kaldi_native_fbank.OnlineMfcc(options)
            mfcc.accept_waveform(16000, (32768.0 * samples).tolist())
            mfcc.input_finished()
            energies = [float(mfcc.get_frame(i)[0]) for i in range(mfcc.num_frames_ready)]
            expected = np.array(naive_kaldi(energies))
            same.append(speech_frames(levels_of(samples, config), config) == expected)
            kept.append(expected)
        assert np.concatenate(same).mean() > least
        assert 0.3 < np.concatenate(kept).mean() < least  # so keeping all frames would not pass


# What each rule is for.


def test_frames_within_the_range_of_the_loud_ones_are_active():
    levels = np.repeat([0.0, -29.5, -30.5, -90.0], [10, 30, 30, 30])
    speech = speech_frames(from_decibels(levels), config_of("energy", activity_range=30.0))
    np.testing.assert_array_equal(speech, levels > -30)


def test_clicks_do_not_set_the_level_of_energy():
    """Of 100 frames, 4 clicks 60 dB above the speech are within the 5 % that are louder than loud."""
    levels = np.tile([0.0, -6.0], 50)
    levels[::10] = -20.0  # for the spread
    levels[11:51:10] = 60.0
    assert speech_frames(from_decibels(levels), config_of("energy")).all()
    levels[11:71:10] = 60.0  # 6 are not
    assert speech_frames(from_decibels(levels), config_of("energy")).sum() == 6


def test_clicks_are_no_component_of_gmm():
    rng = np.random.default_rng(0)
    levels = np.repeat([-25.0, 0.0, -25.0], 100) + rng.normal(0, 1, 300)
    expected = speech_frames(from_decibels(levels), config_of("gmm"))
    assert expected[103:197].all() and expected.sum() < 110
    levels[[50, 250]] = 60.0
    speech = speech_frames(from_decibels(levels), config_of("gmm"))
    unlike = set(np.flatnonzero(speech != expected))
    assert unlike <= {*range(48, 53), *range(248, 253), *range(98, 103), *range(198, 203)}


def test_digital_silence_is_no_component_of_gmm():
    """Beside it, a recorded pause would be all but speech."""
    rng = np.random.default_rng(0)
    levels = np.repeat([-150.0, -45.0, 0.0, -45.0], 100) + np.repeat([0.0, 1.0, 4.0, 1.0], 100) * rng.normal(
        0, 1, 400
    )
    speech = speech_frames(from_decibels(levels), config_of("gmm"))
    assert speech[203:297].all()
    assert speech[:197].sum() == speech[303:].sum() == 0


def test_the_middle_of_three_components_is_no_speech():
    rng = np.random.default_rng(0)
    levels = from_decibels(np.repeat([-25.0, -12.0, 0.0], 200) + rng.normal(0, 1, 600))
    speech = speech_frames(levels, config_of("gmm", activity_components=3))
    assert speech[403:].all() and not speech[:397].any()
    assert speech_frames(levels, config_of("gmm", activity_components=2))[203:].mean() > 0.5


@pytest.mark.parametrize(
    ("noise", "dips", "speech"),
    [
        ((-8.9, 0.3, 208), (-19.2, 12), (-6.7, 1.0, 86)),  # a wide component above a narrow one
        ((-10.0, 0.3, 300), (-30.0, 3), (-10.0, 6.0, 100)),  # and below it
    ],
)
def test_what_is_louder_than_speech_is_speech(noise, dips, speech):
    """Though a wide component is the more probable one beyond a narrow one, on both sides."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        decibels = np.concatenate([rng.normal(*noise), np.full(dips[1], dips[0]), rng.normal(*speech)])
        levels = from_decibels(decibels)
        heard, chosen = (
            np.array(naive_heard(list(map(float, levels)))),
            speech_frames(levels, config_of("gmm")),
        )
        assert heard[chosen].min() > heard[~chosen].max()


@pytest.mark.parametrize("rule", RULES)
def test_amplitudes_are_as_good_as_powers(rule):
    """Filters add up amplitudes with "magnitude": a range in dB must mean the same."""
    turns = np.repeat(np.random.default_rng(1).uniform(-40, 0, 100), 4800)
    samples = speech_like_noise(16000) * 10 ** (turns / 20)
    decisions = []
    for spectrum in ("power", "magnitude"):
        config = config_of(rule, spectrum=spectrum, activity_range=20.0)
        decisions.append(speech_frames(levels_of(samples, config), config))
    assert 0.2 < decisions[0].mean() < 0.9
    assert (decisions[0] == decisions[1]).mean() > 0.97


# No speech.


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("emphasis", [0.97, 0.0])
@pytest.mark.parametrize("sound", ["digital silence", "one step", "noise", "tone", "hum"])
def test_steady_sounds_are_no_speech(rule, rate, emphasis, sound):
    rng, time = np.random.default_rng(0), np.arange(2 * rate) / rate
    samples = {
        "digital silence": np.zeros(2 * rate),
        "one step": np.round(rng.standard_normal(2 * rate)) / 32768,
        "noise": 0.1 * rng.standard_normal(2 * rate),
        "tone": 0.1 * np.sin(2 * np.pi * 440 * time),
        "hum": 0.1 * sum(np.sin(2 * np.pi * 50 * k * time + k) / k for k in range(1, 10)),
    }[sound]
    config = config_of(rule, sample_rate=rate, pre_emphasis=emphasis)
    assert speech_frames(levels_of(samples, config), config) is None


@pytest.mark.parametrize("rule", RULES)
def test_the_least_spread_is_2_db(rule):
    for difference, told in ((1.9, False), (2.1, True)):
        levels = from_decibels(np.repeat([0.0, difference, 0.0], 50) - 20)
        config = config_of(rule, activity_range=1.0)
        assert (speech_frames(levels, config) is not None) == told


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("n_frames", [1, 2, 3])
def test_so_few_frames_have_nothing_to_be_told_from(rule, n_frames):
    assert speech_frames(from_decibels([0.0, -40.0, -20.0][:n_frames]), config_of(rule)) is None


def test_no_frame_with_enough_speech_around_it_is_no_speech():
    levels = np.full(100, -40.0)
    levels[:60:8] = 0.0
    levels = from_decibels(levels)
    assert speech_frames(levels, config_of("energy")).sum() == 8
    assert speech_frames(levels, config_of("energy", activity_context=10, activity_share=0.3)) is None


def test_without_a_rule_all_frames_count():
    assert speech_frames(from_decibels([0.0, 0.0]), FeatureConfig()).tolist() == [True, True]


# Whatever the levels are.

STEPS_OF_LEVELS = st.lists(st.integers(-2000, 600), min_size=1, max_size=120)


@settings(deadline=None, max_examples=150)
@given(
    steps=STEPS_OF_LEVELS,
    rule=st.sampled_from(RULES),
    components=st.sampled_from([2, 3]),
    activity_range=st.sampled_from([0.0, 10.0, 1000.0]),
    reach=st.sampled_from([0, 1, 10, 100]),
    share=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_some_speech_or_none_at_all(steps, rule, components, activity_range, reach, share):
    levels = (np.array(steps) / 64).astype(np.float32)
    options = {"activity_components": components, "activity_range": activity_range}
    config = config_of(rule, **options, activity_context=reach, activity_share=share)
    speech = speech_frames(levels, config)
    assert speech is None or (speech.shape == levels.shape and speech.dtype == bool and speech.any())


@settings(deadline=None, max_examples=60)
@given(
    steps=STEPS_OF_LEVELS,
    gain=st.integers(-20, 20),
    rule=st.sampled_from(["energy", "gmm"]),
    context=st.sampled_from([{}, CONTEXT]),
)
def test_the_level_of_a_recording_does_not_matter(steps, gain, rule, context):
    """Exact sums, so that nothing but the rules can differ."""
    levels = (np.array(steps) / 64).astype(np.float32)
    quiet, loud = (speech_frames(x, config_of(rule, **context)) for x in (levels, levels + np.float32(gain)))
    assert (quiet is None) == (loud is None)
    if quiet is not None:
        assert (quiet == loud).all()


@settings(deadline=None, max_examples=60)
@given(steps=STEPS_OF_LEVELS, components=st.sampled_from([2, 3]))
def test_speech_of_gmm_is_louder_than_what_is_not(steps, components):
    levels = np.array(steps) / 64
    speech = speech_frames(levels.astype(np.float32), config_of("gmm", activity_components=components))
    averages = naive_heard(list(levels))
    if speech is not None and not speech.all():
        loud = [average for average, chosen in zip(averages, speech, strict=True) if chosen]
        quiet = [average for average, chosen in zip(averages, speech, strict=True) if not chosen]
        assert min(loud) > max(quiet) - 1e-9


def test_many_frames_are_decided_on_like_few():
    """More frames than a block or a shard of the engine holds; a pattern that repeats, but for the ends."""
    part = random_levels(150, seed=3)
    many, few = (speech_frames(np.tile(part, n), config_of("gmm")) for n in (120, 3))
    assert 0.2 < few.mean() < 0.8
    assert (many[150:-150].reshape(-1, 150) == few[150:300]).mean() > 0.98


def test_compiled_code_is_loaded_for_gmm_alone():
    program = (
        "import sys, numpy; from speechgmm.features import FeatureConfig; "
        "from speechgmm.features.activity import speech_frames; "
        "levels = numpy.float32([0, -9] * 9 + [-9] * 30); "
        "assert all(speech_frames(levels, FeatureConfig(speech_activity=rule)) is not None "
        "for rule in ('energy', 'kaldi')); assert 'numba' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# With the extractor.


def test_the_extractor_keeps_the_active_frames():
    rng = np.random.default_rng(0)
    samples = rng.standard_normal(16000) * np.repeat([1e-4, 0.1, 1e-4], [4000, 8000, 4000])
    everything = FeatureExtractor(FeatureConfig()).from_samples(samples)
    for rule in RULES:
        active = FeatureExtractor(config_of(rule)).from_samples(samples)
        # Frames 25 to 75 are centred in the noise; windows reach one frame further, and averages two more.
        assert 51 <= len(active) <= (57 if rule == "gmm" else 53)
        first = int(np.flatnonzero((everything == active[0]).all(axis=1))[0])
        assert 22 <= first <= 25
        np.testing.assert_array_equal(active, everything[first : first + len(active)])


def test_normalisation_sees_the_active_frames_only():
    rng = np.random.default_rng(0)
    samples = rng.standard_normal(16000) * np.repeat([1e-4, 0.1, 1e-4], [4000, 8000, 4000])
    frames = FeatureExtractor(config_of("energy", normalisation="mean_variance")).from_samples(samples)
    assert len(frames) < 60
    # Means and variances of float32 frames.
    np.testing.assert_allclose(frames.mean(axis=0), 0.0, atol=1e-4)
    np.testing.assert_allclose(frames.var(axis=0), 1.0, atol=1e-4)


# Real speech.


def with_silence_around(samples, rate, decibels, rng):
    """A second of noise at a level below the speech on either side."""
    level = np.sqrt(np.mean(np.square(samples))) * 10 ** (decibels / 20)
    before, after = level * rng.standard_normal((2, rate))
    return np.concatenate([before, samples, after]).astype(np.float32)


@pytest.mark.parametrize(("rule", "options"), [("energy", {}), ("kaldi", {}), ("gmm", {}), ("gmm", CONTEXT)])
def test_silence_added_to_speech_is_dropped(speech_data, rule, options):
    """Noise 70 dB below the speech; pre-emphasis lifts such hiss by some 15 dB."""
    paths = [
        *sorted(speech_data.glob("fsdd/recordings/*.wav"))[::250],
        *sorted(speech_data.glob("LibriSpeech/train-clean-100/*/*/*.flac"))[::80][:5],
        *sorted(speech_data.glob("speech_commands_test_set_v0.02/*/*.wav"))[100::700][:5],
    ]
    assert len(paths) == 22
    rng, reach = np.random.default_rng(0), 2 + options.get("activity_context", 0)
    added, kept = [], []
    for path in paths:
        samples, rate = read_audio(path)
        config = config_of(rule, sample_rate=rate, **options)
        speech = speech_frames(levels_of(with_silence_around(samples, rate, -70, rng), config), config)
        # The speech begins at frame 100; windows, averages and context at the seams see both.
        stop = 101 + samples.size // (rate // 100)
        added.append(np.concatenate([speech[: 98 - reach], speech[stop + reach + 2 :]]).mean())
        kept.append(speech[100:stop].mean())
    assert np.median(added) == 0.0
    assert max(added) < 0.02
    # These recordings are cut close to the words; the pauses in them are silence too.
    assert np.median(kept) > (0.55 if (rule, options) == ("gmm", {}) else 0.7)
    assert min(kept) > 0.2


def test_gmm_finds_speech_in_noise(speech_data):
    """White noise 10 dB below speech, a second of it alone at each end; the words begin and end within the middle."""
    paths = sorted(speech_data.glob("LibriSpeech/train-clean-100/*/*/*.flac"))[::40]
    config = config_of("gmm", **CONTEXT)
    rng, added, kept = np.random.default_rng(0), [], []
    for path in paths:
        samples = with_silence_around(read_audio(path)[0], 16000, -60, rng)
        samples = samples + 10 ** (-10 / 20) * samples[16000:-16000].std() * rng.standard_normal(samples.size)
        speech = speech_frames(levels_of(samples, config), config)
        added.append(np.concatenate([speech[:85], speech[-85:]]).mean())
        kept.append(speech[100:-100].mean())
        assert speech_frames(
            levels_of(samples, config), config_of("energy")
        ).all()  # which this noise is too much for
    assert max(added) < 0.1 and np.mean(added) < 0.02
    assert np.median(kept) > 0.5


@pytest.mark.parametrize(("rule", "options"), [("energy", {}), ("kaldi", {}), ("gmm", {}), ("gmm", CONTEXT)])
def test_tightly_cut_words_stay_usable(speech_data, rule, options):
    """Of all 3000 digits one, and of 3947 words five, are not told from silence (all of them are kept then)."""
    kept = []
    for pattern, rate in (("fsdd/recordings/*.wav", 8000), ("speech_commands_test_set_v0.02/*/*.wav", 16000)):
        config = config_of(rule, sample_rate=rate, **options)
        analyser = CepstralAnalyser(config)
        for path in sorted(speech_data.glob(pattern))[::40]:
            samples = read_audio(path)[0]
            levels = analyser.analyse(lambda: [samples], samples.size).levels  # noqa: B023
            speech = speech_frames(levels, config)
            assert speech is not None, path.name
            kept.append(int(speech.sum()))
    assert len(kept) == 174
    assert min(kept) >= 8  # frames
    assert np.median(kept) > 20
