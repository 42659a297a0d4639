"""Normalisation over an utterance: mean 0, variance 1, and nothing that is not finite."""

import numpy as np
import pytest

from speechgmm.features import FeatureConfig, FeatureExtractor
from speechgmm.features.normalise import normalise

# Cepstra reach 1000, where float32 has steps of 6e-5; means are taken in float64.
TOLERANCE = 1e-4


@pytest.fixture
def frames():
    rng = np.random.default_rng(0)
    scale, offset = np.array([50.0, 1.0, 0.05, 200.0]), np.array([-500.0, 3.0, 0.0, 900.0])
    return (rng.standard_normal((400, 4)) * scale + offset).astype(np.float32)


def test_none_changes_nothing(frames):
    np.testing.assert_array_equal(normalise(frames.copy(), "none"), frames)


def test_mean_is_taken_away(frames):
    result = normalise(frames, "mean")
    assert result.dtype == np.float32
    np.testing.assert_allclose(result.mean(axis=0, dtype=np.float64), 0.0, atol=TOLERANCE)
    np.testing.assert_allclose(result.std(axis=0), frames.astype(np.float64).std(axis=0), rtol=1e-5)
    # The differences between frames stay as they were.
    np.testing.assert_allclose(np.diff(result, axis=0), np.diff(frames, axis=0), rtol=0, atol=2 * TOLERANCE)


def test_variance_becomes_1(frames):
    result = normalise(frames, "mean_variance")
    assert result.dtype == np.float32
    np.testing.assert_allclose(result.mean(axis=0, dtype=np.float64), 0.0, atol=TOLERANCE)
    np.testing.assert_allclose(result.var(axis=0, dtype=np.float64), 1.0, atol=TOLERANCE)


@pytest.mark.parametrize("method", ["mean", "mean_variance"])
def test_a_single_frame_becomes_zeros(frames, method):
    np.testing.assert_array_equal(normalise(frames[:1], method), 0.0)


@pytest.mark.parametrize("value", [0.0, 0.1, -632.4555, 1e-10, 1e6])
def test_a_constant_dimension_becomes_zeros(frames, value):
    frames[:, 1] = value
    result = normalise(frames, "mean_variance")
    np.testing.assert_array_equal(result[:, 1], 0.0)
    np.testing.assert_allclose(result[:, [0, 2, 3]].var(axis=0), 1.0, atol=TOLERANCE)


def test_a_dimension_that_varies_a_little_is_not_taken_for_constant(frames):
    frames[:, 0] = -500.0 + np.where(np.arange(400) % 2, 0.01, -0.01)
    assert normalise(frames, "mean_variance")[:, 0].var() == pytest.approx(1.0, abs=TOLERANCE)


@pytest.mark.parametrize("method", ["none", "mean", "mean_variance"])
def test_the_given_frames_stay_as_they_are(frames, method):
    before = frames.copy()
    normalise(frames, method)
    np.testing.assert_array_equal(frames, before)


def test_the_extractor_normalises_all_features_of_an_utterance():
    samples = np.random.default_rng(1).standard_normal(16000) * np.linspace(0.001, 0.5, 16000)
    frames = FeatureExtractor(FeatureConfig(normalisation="mean_variance")).from_samples(samples)
    assert frames.shape == (101, 60)
    np.testing.assert_allclose(frames.mean(axis=0, dtype=np.float64), 0.0, atol=TOLERANCE)
    np.testing.assert_allclose(frames.var(axis=0, dtype=np.float64), 1.0, atol=TOLERANCE)


def test_louder_audio_gives_the_same_normalised_frames():
    """A gain adds a constant to C0."""
    samples = np.random.default_rng(1).standard_normal(16000) * 0.01
    extractor = FeatureExtractor(FeatureConfig(normalisation="mean"))
    quiet, loud = extractor.from_samples(samples), extractor.from_samples(samples * 30)
    np.testing.assert_allclose(quiet, loud, rtol=0, atol=1e-3)
