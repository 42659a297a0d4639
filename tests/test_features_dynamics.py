"""Deltas against librosa and against twins in plain loops, for utterances of any length."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechgmm.features.dynamics import add_deltas
from tests import naive_features

# Deltas are sums of a few frames of size about 100; float32 has steps of 3e-5 there.
TOLERANCE = 3e-4


def cepstra(n_frames, n_coefficients=3, seed=0):
    rng = np.random.default_rng(seed)
    return (100 * rng.standard_normal((n_frames, n_coefficients))).astype(np.float32)


@pytest.fixture(scope="module")
def librosa_delta():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # librosa's own, and those of what it imports
        from librosa.feature import delta
    return delta


@given(st.integers(1, 40), st.integers(1, 9))
def test_regression_equals_its_slow_twin(n_frames, width):
    frames = cepstra(n_frames, seed=n_frames)
    first = naive_features.regression_deltas(frames, width)
    second = naive_features.regression_deltas(first, width)
    expected = np.concatenate([frames, first, second], axis=1)
    actual = add_deltas(frames, 2, width, "regression")
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE)


@given(st.integers(1, 40), st.integers(1, 9))
def test_polynomial_equals_its_slow_twin(n_frames, width):
    frames = cepstra(n_frames, seed=n_frames)
    deltas = [naive_features.polynomial_deltas(frames, width, order) for order in (1, 2)]
    expected = np.concatenate([frames, *deltas], axis=1)
    actual = add_deltas(frames, 2, width, "polynomial")
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("width", [1, 2, 4, 10])
@pytest.mark.parametrize("extra", [0, 1, 30])
def test_polynomial_is_librosas_default(librosa_delta, width, extra):
    frames = cepstra(2 * width + 1 + extra)
    deltas = [librosa_delta(frames, width=2 * width + 1, order=order, axis=0) for order in (1, 2)]
    actual = add_deltas(frames, 2, width, "polynomial")
    np.testing.assert_allclose(actual, np.concatenate([frames, *deltas], axis=1), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("width", [1, 2, 4, 10])
@pytest.mark.parametrize("n_frames", [1, 2, 5, 30])
def test_regression_is_librosas_with_repeated_edges(librosa_delta, width, n_frames):
    frames = cepstra(n_frames)
    first = librosa_delta(frames, width=2 * width + 1, axis=0, mode="nearest")
    second = librosa_delta(first, width=2 * width + 1, axis=0, mode="nearest")
    actual = add_deltas(frames, 2, width, "regression")
    np.testing.assert_allclose(
        actual, np.concatenate([frames, first, second], axis=1), rtol=0, atol=TOLERANCE
    )


@pytest.mark.parametrize("method", ["regression", "polynomial"])
def test_fewer_orders_are_the_first_columns_of_more(method):
    frames = cepstra(20, n_coefficients=4)
    both = add_deltas(frames, 2, 2, method)
    assert both.shape == (20, 12)
    np.testing.assert_array_equal(add_deltas(frames, 1, 2, method), both[:, :8])
    np.testing.assert_array_equal(add_deltas(frames, 0, 2, method), both[:, :4])
    np.testing.assert_array_equal(both[:, :4], frames)


@pytest.mark.parametrize("method", ["regression", "polynomial"])
@pytest.mark.parametrize("n_frames", [1, 4, 5, 50])
def test_what_does_not_change_has_no_deltas(method, n_frames):
    frames = np.full((n_frames, 2), 700.0, np.float32)
    # atol: the curvature's weights add up to zero only as far as float32 goes.
    np.testing.assert_allclose(add_deltas(frames, 2, 2, method)[:, 2:], 0.0, atol=TOLERANCE)


@pytest.mark.parametrize("width", [1, 2, 4])
def test_slope_and_curvature_have_their_units(width):
    """A parabola 3 t² - 5 t + 2 has the slope 6 t - 5 and the second derivative 6, in frames."""
    time = np.arange(30, dtype=np.float32)[:, None]
    frames = 3 * time**2 - 5 * time + 2
    middle = slice(2 * width, -2 * width)
    for method in ("regression", "polynomial"):
        deltas = add_deltas(frames, 2, width, method)[middle]
        np.testing.assert_allclose(deltas[:, 1:2], 6 * time[middle] - 5, rtol=1e-4)
        np.testing.assert_allclose(deltas[:, 2], 6.0, rtol=1e-3)


def test_the_given_frames_stay_as_they_are():
    frames = cepstra(20)
    before = frames.copy()
    for method in ("regression", "polynomial"):
        add_deltas(frames, 2, 3, method)
    np.testing.assert_array_equal(frames, before)
