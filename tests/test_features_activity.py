"""Speech activity: speech stays, silence around it goes, and something always stays."""

import numpy as np
import pytest

from speechgmm.audio import read_audio
from speechgmm.features import FeatureConfig, FeatureExtractor
from speechgmm.features.activity import active_frames
from speechgmm.features.cepstra import CepstralAnalyser


def bands_of_levels(levels):
    """Bands whose sums have these levels in dB."""
    share = np.array([0.5, 0.25, 0.125, 0.125])
    return (10.0 ** (np.asarray(levels, float)[:, None] / 10) * share).astype(np.float32)


def test_frames_within_the_range_of_the_loud_ones_are_active():
    levels = np.repeat([0.0, -29.5, -30.5, -90.0], [10, 30, 30, 30])
    active = active_frames(bands_of_levels(levels), 30.0)
    assert active.dtype == bool
    np.testing.assert_array_equal(active, levels > -30)


def test_the_level_does_not_matter():
    levels = np.random.default_rng(0).uniform(-60, 0, 200)
    active = active_frames(bands_of_levels(levels), 25.0)
    assert 0.2 < active.mean() < 0.8
    for gain in (-30.0, 40.0):
        np.testing.assert_array_equal(active_frames(bands_of_levels(levels + gain), 25.0), active)


def test_clicks_do_not_set_the_level():
    """Of 100 frames, 4 clicks 60 dB above the speech are within the 5 % that are louder than loud."""
    levels = np.zeros(100)
    levels[10:50:10] = 60.0
    assert active_frames(bands_of_levels(levels), 30.0).all()
    levels[10:70:10] = 60.0  # 6 are not
    assert active_frames(bands_of_levels(levels), 30.0).sum() == 6


@pytest.mark.parametrize("n_frames", [1, 2, 3, 19, 20, 21, 100])
@pytest.mark.parametrize("activity_range", [0.0, 1.0, 1000.0])
def test_at_least_one_frame_stays(n_frames, activity_range):
    levels = np.random.default_rng(n_frames).uniform(-50, 50, n_frames)
    for bands in (bands_of_levels(levels), np.full((n_frames, 4), 1e-10, np.float32)):
        active = active_frames(bands, activity_range)
        assert active.shape == (n_frames,) and active.any()
        assert active[bands.sum(axis=1).argmax()]


def test_the_extractor_keeps_the_active_frames():
    rng = np.random.default_rng(0)
    samples = rng.standard_normal(16000) * np.repeat([1e-4, 0.1, 1e-4], [4000, 8000, 4000])
    everything = FeatureExtractor(FeatureConfig()).from_samples(samples)
    active = FeatureExtractor(FeatureConfig(speech_activity=True)).from_samples(samples)
    # Frames 25 to 75 are centred in the noise; windows reach one frame further.
    assert 51 <= len(active) <= 53
    first = int(np.flatnonzero((everything == active[0]).all(axis=1))[0])
    assert 24 <= first <= 25
    np.testing.assert_array_equal(active, everything[first : first + len(active)])


def test_normalisation_sees_the_active_frames_only():
    rng = np.random.default_rng(0)
    samples = rng.standard_normal(16000) * np.repeat([1e-4, 0.1, 1e-4], [4000, 8000, 4000])
    config = FeatureConfig(speech_activity=True, normalisation="mean_variance")
    frames = FeatureExtractor(config).from_samples(samples)
    assert len(frames) < 60
    # Means and variances of float32 frames.
    np.testing.assert_allclose(frames.mean(axis=0), 0.0, atol=1e-4)
    np.testing.assert_allclose(frames.var(axis=0), 1.0, atol=1e-4)


def test_silence_added_to_speech_is_dropped(speech_data):
    """A second of noise 50 dB below the speech on either side; pre-emphasis lifts such hiss by some 10 dB."""
    paths = [
        *sorted(speech_data.glob("fsdd/recordings/*.wav"))[::250],
        *sorted(speech_data.glob("LibriSpeech/train-clean-100/*/*/*.flac"))[::80][:5],
        *sorted(speech_data.glob("speech_commands_test_set_v0.02/*/*.wav"))[100::700][:5],
    ]
    assert len(paths) == 22
    rng = np.random.default_rng(0)
    kept_of_speech = []
    for path in paths:
        samples, rate = read_audio(path)
        analyser = CepstralAnalyser(FeatureConfig(sample_rate=rate))
        level = np.sqrt(np.mean(np.square(samples)))
        before, after = (rng.standard_normal((2, rate)) * level * 10 ** (-50 / 20)).astype(np.float32)
        alone = active_frames(analyser.bands(samples), 30.0)
        active = active_frames(analyser.bands(np.concatenate([before, samples, after])), 30.0)
        # The speech begins at frame 100; windows at the seams see both.
        stop = 100 + len(alone)
        added = np.concatenate([active[:98], active[stop + 2 :]])
        assert added.mean() < 0.02, path.name
        # Added silence lowers the level that 5 % of the frames exceed, so it never costs speech.
        assert (active[101 : stop - 2] >= alone[1:-2]).all(), path.name
        kept_of_speech.append(active[100:stop].mean())
    # These recordings are cut close to the words; the pauses in them are silence too.
    assert np.median(kept_of_speech) > 0.7
    assert min(kept_of_speech) > 0.2
