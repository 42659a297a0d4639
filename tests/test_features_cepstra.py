"""Cepstra against librosa, against a twin in plain loops, and on audio of any length."""

import warnings

import numpy as np
import pytest
import scipy.fft
from hypothesis import given, settings
from hypothesis import strategies as st

from speechgmm.audio import read_audio
from speechgmm.errors import InputError
from speechgmm.features import FeatureConfig, FeatureExtractor
from speechgmm.features.cepstra import BLOCK, CepstralAnalyser, hertz_to_mel, mel_filters, mel_to_hertz
from tests import naive_features

RATES = (8000, 16000, 22050, 44100)

# Cepstra in dB times the square root of the number of bands reach 1000, of which float32 keeps seven digits.
TOLERANCE = 1e-3


@pytest.fixture(scope="module")
def librosa():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # librosa's own, and those of what it imports
        import librosa
        import librosa.feature
    return librosa


@pytest.fixture(scope="module")
def speech(speech_data):
    """Real speech as (name, samples, rate): the shortest digits and others, read sentences, single words."""
    digits = sorted(
        speech_data.glob("fsdd/recordings/*.wav"), key=lambda path: (path.stat().st_size, path.name)
    )
    sentences = sorted(speech_data.glob("LibriSpeech/train-clean-100/*/*/*.flac"))
    words = sorted(speech_data.glob("speech_commands_test_set_v0.02/*/*.wav"))
    chosen = [*digits[:6], *digits[6::200], *sentences[::80][:5], *words[100::700][:5]]
    assert len(chosen) == 31
    return [(path.name, *read_audio(path)) for path in chosen]


def noise(rate, seconds=1.0, seed=0, tail=0.1):
    """Noise that swells and fades, with a click in it and a quiet tail."""
    samples = np.random.default_rng(seed).standard_normal(round(rate * seconds)) * 0.1
    samples *= np.sin(np.linspace(0.05, 3.1, samples.size)) ** 2
    samples[samples.size // 3] = 0.9
    samples[-samples.size // 5 :] *= tail
    return samples.astype(np.float32)


def librosa_default(librosa, samples, rate):
    """What librosa makes of samples, deltas included, left to its own settings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cepstra = librosa.feature.mfcc(y=samples, sr=rate, n_mfcc=20)
        deltas = [librosa.feature.delta(cepstra, order=order) for order in (1, 2)]
    return np.concatenate([cepstra, *deltas]).T


def librosa_like_ours(librosa, samples, rate):
    """What librosa makes of samples with the settings of our default configuration."""
    window, hop = round(0.025 * rate), round(0.010 * rate)
    fft_length = 2 ** int(np.ceil(np.log2(window)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        emphasised = librosa.effects.preemphasis(samples, coef=0.97, zi=[-0.97 * samples[0]])
        powers = librosa.feature.melspectrogram(
            y=emphasised,
            sr=rate,
            n_fft=fft_length,
            win_length=window,
            hop_length=hop,
            window="hamming",
            n_mels=40,
            htk=True,
            norm=None,
            fmin=20.0,
        )
        cepstra = librosa.feature.mfcc(S=librosa.power_to_db(powers, top_db=None), n_mfcc=20)
        deltas = librosa.feature.delta(cepstra, width=5, mode="nearest")
        return np.concatenate([cepstra, deltas, librosa.feature.delta(deltas, width=5, mode="nearest")]).T


def frames_of(preset, samples, rate):
    return FeatureExtractor(FeatureConfig.preset(preset, sample_rate=rate)).from_samples(samples)


@pytest.mark.parametrize("rate", RATES)
def test_librosa_preset_agrees_with_librosa_on_noise(librosa, rate):
    samples = noise(rate)
    expected = librosa_default(librosa, samples, rate)
    np.testing.assert_allclose(frames_of("librosa", samples, rate), expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("rate", RATES)
def test_default_agrees_with_librosa_on_noise(librosa, rate):
    samples = noise(rate)
    expected = librosa_like_ours(librosa, samples, rate)
    np.testing.assert_allclose(frames_of("default", samples, rate), expected, rtol=0, atol=TOLERANCE)


def test_default_agrees_with_librosa_on_speech(librosa, speech):
    for name, samples, rate in speech:
        expected = librosa_like_ours(librosa, samples, rate)
        actual = frames_of("default", samples, rate)
        np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE, err_msg=name)


def test_librosa_preset_agrees_with_librosa_on_speech(librosa, speech):
    compared = 0
    for name, samples, rate in speech:
        actual = frames_of("librosa", samples, rate)
        if len(actual) >= 9:
            compared += 1
            expected = librosa_default(librosa, samples, rate)
            np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE, err_msg=name)
    assert compared >= 10


def test_speech_too_short_for_librosa_still_gives_frames(librosa, speech):
    short = [(samples, rate) for _, samples, rate in speech if 1 + samples.size // 512 < 9]
    assert len(short) >= 6
    for samples, rate in short:
        with pytest.raises(librosa.ParameterError, match="cannot exceed"):
            librosa_default(librosa, samples, rate)
        frames = frames_of("librosa", samples, rate)
        assert frames.shape == (1 + samples.size // 512, 60)
        assert np.isfinite(frames).all()


# The cosine transform must add up in float64: 128 bands at one level round the same way each time.
@pytest.mark.parametrize("rate", [8000, 16000])
def test_librosa_preset_agrees_with_librosa_where_nothing_is_heard(librosa, rate):
    samples = noise(rate, tail=1e-5)
    expected = librosa_default(librosa, samples, rate)
    np.testing.assert_allclose(frames_of("librosa", samples, rate), expected, rtol=0, atol=TOLERANCE)


def test_cepstra_keep_their_digits_where_bands_are_level():
    """A long silence in the audio makes every band the least power, or the clipped one."""
    config = FeatureConfig.preset("librosa")
    transform = scipy.fft.dct(np.eye(128), type=2, norm="ortho", axis=1)[:, :20]
    analyser = CepstralAnalyser(config)
    for power in np.logspace(-10, 2, 200):
        bands = np.full((4, 128), power, np.float32)
        expected = 10 * np.log10(bands.astype(np.float64)) @ transform
        # 1100 in float32 has steps of 1.2e-4.
        np.testing.assert_allclose(analyser.cepstra(bands), expected, rtol=0, atol=3e-4)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(
    ("scale", "n_mels", "low"), [("htk", 40, 20.0), ("slaney", 128, 0.0), ("htk", 24, 300.0)]
)
@pytest.mark.parametrize("high", [0.0, 3700.0])
def test_mel_filters_are_librosas(librosa, rate, scale, n_mels, low, high):
    config = FeatureConfig(
        sample_rate=rate,
        window_length=2048 / rate,
        n_mels=n_mels,
        mel_scale=scale,
        low_frequency=low,
        high_frequency=high,
    )
    norm = None if scale == "htk" else "slaney"
    expected = librosa.filters.mel(
        sr=rate, n_fft=2048, n_mels=n_mels, fmin=low, fmax=high or rate / 2, htk=scale == "htk", norm=norm
    ).T
    filters = mel_filters(config)
    assert filters.shape == (1025, n_mels)
    # librosa's are float32.
    np.testing.assert_allclose(filters, expected, rtol=0, atol=1e-6 * expected.max())


@pytest.mark.parametrize("scale", ["htk", "slaney"])
def test_mel_scales_are_librosas_and_have_inverses(librosa, scale):
    hertz = np.concatenate([[0.0, 999.999, 1000.0, 1000.001], np.geomspace(1e-3, 48000, 500)])
    mels = hertz_to_mel(hertz, scale)
    np.testing.assert_allclose(mels, librosa.hz_to_mel(hertz, htk=scale == "htk"), rtol=1e-12)
    np.testing.assert_allclose(
        mel_to_hertz(mels, scale), librosa.mel_to_hz(mels, htk=scale == "htk"), rtol=1e-12
    )
    # rtol: the logarithm of a number near 1 takes digits from the lowest frequencies.
    np.testing.assert_allclose(mel_to_hertz(mels, scale), hertz, rtol=1e-9, atol=1e-9)
    assert (np.diff(hertz_to_mel(np.sort(hertz), scale)) > 0).all()


@pytest.mark.parametrize(
    "config",
    [
        FeatureConfig(sample_rate=8000, delta_orders=0),
        FeatureConfig(
            sample_rate=2000,
            window_length=0.0105,  # an odd number of samples
            hop_length=0.004,
            window="hann",
            pre_emphasis=0.0,
            n_mels=8,
            n_coefficients=8,
            low_frequency=0.0,
            high_frequency=900.0,
            delta_orders=0,
        ),
    ],
)
def test_cepstra_equal_the_slow_twins(config):
    samples = noise(config.sample_rate, seconds=0.1, seed=3)
    expected = naive_features.mfcc(samples, config)
    actual = FeatureExtractor(config).from_samples(samples)
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("top_db", [20.0, 60.0])
def test_top_db_clips_bands_far_below_the_loudest(top_db):
    samples = noise(16000)
    config = FeatureConfig(top_db=top_db, delta_orders=0, n_coefficients=40)
    analyser = CepstralAnalyser(config)
    bands = analyser.bands(samples)
    levels = 10 * np.log10(bands.astype(np.float64))
    clipped = np.maximum(levels, levels.max() - top_db)
    assert (clipped > levels).any() and (clipped == levels).any()
    expected = scipy.fft.dct(clipped, type=2, norm="ortho", axis=1)
    np.testing.assert_allclose(analyser.cepstra(bands), expected, rtol=0, atol=TOLERANCE)


def test_bands_are_never_below_the_least_power():
    bands = CepstralAnalyser(FeatureConfig()).bands(np.zeros(1000, np.float32))
    assert (bands == np.float32(1e-10)).all()
    frames = FeatureExtractor().from_samples(np.zeros(1000))
    assert np.isfinite(frames).all()
    # C0 of 40 bands at -100 dB.
    np.testing.assert_allclose(frames[:, 0], -100 * np.sqrt(40), rtol=1e-6)


CONFIGS = (
    FeatureConfig(),
    FeatureConfig.preset("librosa"),
    FeatureConfig(sample_rate=8000, delta_width=7),
    FeatureConfig(sample_rate=11000, window_length=0.021, hop_length=0.03),  # hop longer than the odd window
    FeatureConfig(window_length=2 / 16000, hop_length=5 / 16000, delta_orders=0),
)


@settings(deadline=None)
@given(st.integers(1, 6000), st.sampled_from(CONFIGS))
def test_n_samples_give_1_plus_n_over_hop_frames(n, config):
    samples = np.random.default_rng(n).standard_normal(n).astype(np.float32)
    frames = FeatureExtractor(config).from_samples(samples)
    assert frames.shape == (1 + n // config.hop_samples, config.n_features)
    assert frames.dtype == np.float32
    assert np.isfinite(frames).all()


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("n", [1, 2, 79, 80, 81, 399, 400])
def test_very_short_audio(config, n):
    frames = FeatureExtractor(config).from_samples(np.full(n, 0.5, np.float32))
    assert frames.shape == (1 + n // config.hop_samples, config.n_features)
    assert np.isfinite(frames).all()


@pytest.mark.parametrize("preset", ["default", "librosa"])
@pytest.mark.parametrize("rate", [8000, 11025, 11000, 16000])
def test_frame_i_is_centred_at_i_hops(preset, rate):
    config = FeatureConfig.preset(preset, sample_rate=rate)
    analyser = CepstralAnalyser(config)
    n = 20 * config.hop_samples
    for i in range(20):
        samples = np.zeros(n, np.float32)
        samples[i * config.hop_samples] = 1.0
        energy = analyser.bands(samples).sum(axis=1)
        assert energy.argmax() == i
        if 0 < i < 19:  # and the frames to either side are as far from it
            assert abs(energy[i - 1] - energy[i + 1]) < 0.1 * energy[i]


def test_blocks_leave_no_seam():
    """Frames are made in blocks; each depends on its own window alone."""
    config = FeatureConfig(pre_emphasis=0.0)
    hop = config.hop_samples
    samples = noise(16000, seconds=(2 * BLOCK + 10) * hop / 16000)
    analyser = CepstralAnalyser(config)
    whole = analyser.bands(samples)
    shifted = analyser.bands(samples[100 * hop :])
    # rtol: the matrix product may add up in another order.
    np.testing.assert_allclose(shifted[3:], whole[103:], rtol=1e-4)


def test_pre_emphasis_takes_the_audio_as_steady_before_its_first_sample():
    """A constant offset keeps its height: no step at the beginning, which would light up every band."""
    config = FeatureConfig(window_length=0.004, hop_length=0.004, low_frequency=1000.0)
    analyser = CepstralAnalyser(config)
    ramp = np.full(640, 0.5, np.float32)
    bands = analyser.bands(ramp)
    zeros_before = analyser.bands(np.concatenate([np.zeros(640, np.float32), ramp]))
    assert bands[0].sum() < 0.01 * zeros_before[10].sum()


@pytest.mark.parametrize(
    ("samples", "shape"), [([], r"\(0,\)"), (np.zeros((2, 100)), r"\(2, 100\)"), (0.5, r"\(\)")]
)
def test_samples_that_are_not_one_row_are_refused(samples, shape):
    with pytest.raises(
        InputError, match=f"`samples` has shape {shape}; it must be one row of at least 1 sample"
    ):
        FeatureExtractor().from_samples(samples)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e25])
def test_samples_that_are_not_usable_are_refused(value):
    samples = noise(16000)
    samples[5000] = value
    with np.errstate(all="ignore"), pytest.raises(InputError, match="samples"):
        FeatureExtractor().from_samples(samples)


def test_integer_samples_are_refused():
    samples = (noise(16000) * 32767).astype(np.int16)
    with pytest.raises(InputError, match="int16"):
        FeatureExtractor().from_samples(samples)
