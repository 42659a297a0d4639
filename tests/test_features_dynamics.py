"""Deltas against librosa and against twins in plain loops, for utterances of any length."""

import tracemalloc
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechgmm.errors import InputError
from speechgmm.features.config import FeatureConfig
from speechgmm.features.dynamics import add_deltas, with_deltas
from tests import naive_features

METHODS = ("regression", "polynomial")
# Sums are in float64, so that what is left is the rounding of the result to float32: half a step, 6e-8 relative. The
# twins' fitted polynomials lose a few digits of float64 where terms of size 300 cancel.
EXACT = {"rtol": 6.1e-8, "atol": 1e-10}
# The twins' second deltas are of deltas that are not rounded to float32, whose steps are 1e-5 at values of 100.
SECOND = {"rtol": 1e-6, "atol": 5e-5}


def statics(n_frames, n=3, seed=0, spread=0.0):
    """Values of size 100; `spread` makes them differ by powers of ten."""
    rng = np.random.default_rng(seed)
    values = 100 * rng.standard_normal((n_frames, n)) * 10 ** (spread * rng.standard_normal((n_frames, n)))
    return values.astype(np.float32)


def filled(values, **choices):
    """Values with their deltas beside them; what is not written stays NaN."""
    n = values.shape[1]
    config = FeatureConfig(n_filters=max(40, n), n_coefficients=n, **choices)
    frames = np.full((len(values), config.n_features), np.nan, np.float32)
    frames[:, :n] = values
    add_deltas(frames, config)
    np.testing.assert_array_equal(frames[:, :n], values)
    return frames


@pytest.fixture(scope="module")
def librosa_delta():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # librosa's own, and those of what it imports
        from librosa.feature import delta
    return lambda values, **choices: delta(values.astype(np.float64), axis=0, **choices)


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 20), st.integers(0, 99))
def test_regression_equals_its_slow_twin(n_frames, width, n, seed):
    values = statics(n_frames, n, seed)
    actual = filled(values, delta_width=width)
    first = naive_features.regression_deltas(values, width)
    np.testing.assert_allclose(actual[:, n : 2 * n], first, **EXACT)
    # Deltas of the deltas as they are in the frame.
    second = naive_features.regression_deltas(actual[:, n : 2 * n], width)
    np.testing.assert_allclose(actual[:, 2 * n :], second, **EXACT)
    np.testing.assert_allclose(actual[:, 2 * n :], naive_features.regression_deltas(first, width), **SECOND)


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 20), st.integers(0, 99))
def test_polynomial_equals_its_slow_twin(n_frames, width, n, seed):
    values = statics(n_frames, n, seed)
    actual = filled(values, delta_width=width, delta_method="polynomial")
    expected = [naive_features.polynomial_deltas(values, width, order) for order in (1, 2)]
    np.testing.assert_allclose(actual[:, n:], np.concatenate(expected, axis=1), **EXACT)


@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("missing", [-1, 0, 1, 2])
def test_polynomial_where_a_frame_hardly_has_all_its_neighbours(width, missing):
    values = statics(max(1, 2 * width + 1 - missing))
    actual = filled(values, delta_width=width, delta_method="polynomial")
    expected = [naive_features.polynomial_deltas(values, width, order) for order in (1, 2)]
    np.testing.assert_allclose(actual[:, 3:], np.concatenate(expected, axis=1), **EXACT)


@settings(deadline=None)
@given(
    *(st.integers(1, 40), st.integers(1, 7), st.integers(1, 6), st.integers(1, 6), st.integers(1, 8)),
    *(st.integers(0, 2), st.sampled_from(METHODS)),
)
def test_shifted_deltas_equal_their_slow_twin(n_frames, kept, reach, shift, blocks, orders, method):
    values = statics(n_frames, 7, seed=n_frames)
    shifted = f"{kept}-{reach}-{shift}-{blocks}"
    actual = filled(values, delta_orders=orders, delta_method=method, shifted_deltas=shifted)
    expected = naive_features.shifted_deltas(values, kept, reach, shift, blocks)
    assert actual.shape == (n_frames, 7 * (1 + orders) + kept * blocks)
    # Differences of two float32 values, rounded once.
    np.testing.assert_array_equal(actual[:, 7 * (1 + orders) :], expected.astype(np.float32))
    np.testing.assert_array_equal(
        actual[:, : 7 * (1 + orders)], filled(values, delta_orders=orders, delta_method=method)
    )


def test_shifted_deltas_by_hand():
    """2-1-3-2 of t² and 10 t: over one frame to either side, at t and at t + 3, the ends repeated."""
    time = np.arange(8, dtype=np.float32)
    values = np.stack([time**2, 10 * time, -time], axis=1)
    shifted = filled(values, delta_orders=0, shifted_deltas="2-1-3-2")[:, 3:]
    # (t+1)² - (t-1)² = 4 t; at the first frame 1² - 0², at the last 7² - 6², beyond it nothing changes any more.
    np.testing.assert_array_equal(shifted[:, 0], [1, 4, 8, 12, 16, 20, 24, 13])
    np.testing.assert_array_equal(shifted[:, 1], [10, 20, 20, 20, 20, 20, 20, 10])
    np.testing.assert_array_equal(shifted[:, 2], [12, 16, 20, 24, 13, 0, 0, 0])
    np.testing.assert_array_equal(shifted[:, 3], [20, 20, 20, 20, 10, 0, 0, 0])


@pytest.mark.parametrize("width", [1, 2, 4, 10])
@pytest.mark.parametrize("extra", [0, 1, 30])
def test_polynomial_is_librosas_default(librosa_delta, width, extra):
    values = statics(2 * width + 1 + extra)
    expected = [librosa_delta(values, width=2 * width + 1, order=order) for order in (1, 2)]
    actual = filled(values, delta_width=width, delta_method="polynomial")
    np.testing.assert_allclose(actual[:, 3:], np.concatenate(expected, axis=1), **EXACT)


@pytest.mark.parametrize("width", [1, 2, 4, 10])
@pytest.mark.parametrize("n_frames", [1, 2, 5, 30])
def test_regression_is_librosas_with_repeated_edges(librosa_delta, width, n_frames):
    values = statics(n_frames)
    first = librosa_delta(values, width=2 * width + 1, mode="nearest")
    second = librosa_delta(first, width=2 * width + 1, mode="nearest")
    actual = filled(values, delta_width=width)
    np.testing.assert_allclose(actual[:, 3:6], first, **EXACT)
    np.testing.assert_allclose(actual[:, 6:], second, **SECOND)


@pytest.mark.parametrize("method", METHODS)
def test_fewer_orders_are_the_first_columns_of_more(method):
    values = statics(20, n=4)
    both = filled(values, delta_method=method)
    assert both.shape == (20, 12)
    np.testing.assert_array_equal(filled(values, delta_method=method, delta_orders=1), both[:, :8])
    np.testing.assert_array_equal(filled(values, delta_method=method, delta_orders=0), values)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n_frames", [1, 4, 5, 50])
def test_what_does_not_change_has_no_deltas(method, n_frames):
    values = np.full((n_frames, 2), 700.1, np.float32)
    deltas = filled(values, delta_method=method, shifted_deltas="2-1-3-7")[:, 2:]
    np.testing.assert_array_equal(deltas, 0.0)


@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("method", METHODS)
def test_slope_and_curvature_have_their_units(method, width):
    """A parabola 3 t² - 5 t + 2 has the slope 6 t - 5 and the second derivative 6, in frames."""
    time = np.arange(30, dtype=np.float32)[:, None]
    middle = slice(2 * width, -2 * width)
    deltas = filled(3 * time**2 - 5 * time + 2, delta_width=width, delta_method=method)[middle]
    np.testing.assert_allclose(deltas[:, 1:2], 6 * time[middle] - 5, **EXACT)
    # rtol: deltas of deltas are of rounded ones.
    np.testing.assert_allclose(deltas[:, 2], 6.0, rtol=1e-6)


EVERYTHING = {"delta_width": 3, "shifted_deltas": "1-2-3-4"}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n_frames", [1, 5, 6, 7, 40])
def test_bits_of_a_coefficient_do_not_depend_on_those_beside_it(method, n_frames):
    """Compiled loops take several at a time, and those left over one by one."""
    values = statics(n_frames, n=37, seed=1, spread=2.0)
    together = filled(values, delta_method=method, delta_width=3, shifted_deltas="37-2-3-4")
    for c in range(37):
        alone = filled(values[:, c : c + 1], delta_method=method, **EVERYTHING)
        np.testing.assert_array_equal(together[:, c::37], alone)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("cut", [1, 7, 32])
def test_bits_of_a_frame_do_not_depend_on_frames_beyond_its_reach(method, cut):
    values = statics(80, n=13, seed=2, spread=2.0)
    whole = filled(values, delta_method=method, **EVERYTHING)
    later = filled(values[cut:], delta_method=method, **EVERYTHING)
    np.testing.assert_array_equal(later[6:], whole[cut + 6 :])
    earlier = filled(values[:-cut], delta_method=method, **EVERYTHING)
    np.testing.assert_array_equal(earlier[:-11], whole[: -cut - 11])


@pytest.mark.parametrize("method", METHODS)
def test_reach_is_within_the_context_that_the_configuration_tells(method):
    """A stretch read with `context` frames around it has the bits of the whole, also at the ends of the audio."""
    values = statics(60, n=2, seed=3)
    choices = {"delta_method": method, "delta_width": 4, "shifted_deltas": "2-1-3-4"}
    whole = filled(values, **choices)
    config = FeatureConfig(n_coefficients=2, **choices)
    window = config.context - FeatureConfig(delta_orders=0).context
    for start in range(60):
        for stop in (start + 1, min(start + 9, 60), 60):
            first, last = max(0, start - window), min(60, stop + window)
            part = filled(values[first:last], **choices)[start - first : stop - first]
            np.testing.assert_array_equal(part, whole[start:stop])


def test_a_memory_map_is_filled_in_place(tmp_path):
    values = statics(50, n=13)
    config = FeatureConfig(n_coefficients=13, **EVERYTHING)
    mapped = np.memmap(tmp_path / "frames", np.float32, "w+", shape=(70, config.n_features))
    mapped[10:60, :13] = values
    assert add_deltas(mapped[10:60], config) is None
    mapped.flush()
    stored = np.fromfile(tmp_path / "frames", np.float32).reshape(70, -1)
    np.testing.assert_array_equal(stored[10:60], filled(values, **EVERYTHING))
    assert not stored[:10].any() and not stored[60:].any()


def test_columns_beyond_the_features_stay_as_they_are():
    values = statics(20, n=5)
    config = FeatureConfig(n_coefficients=5, shifted_deltas="5-1-1-2", delta_method="polynomial")
    frames = np.full((20, config.n_features + 3), 7.0, np.float32)
    frames[:, :5] = values
    add_deltas(frames, config)
    expected = filled(values, shifted_deltas="5-1-1-2", delta_method="polynomial")
    np.testing.assert_array_equal(frames[:, :-3], expected)
    assert (frames[:, -3:] == 7.0).all()


@pytest.mark.parametrize("energy", ["c0", "log", "both", "none"])
def test_deltas_are_of_all_static_values(energy):
    config = FeatureConfig(energy=energy, n_coefficients=6, shifted_deltas="5-1-3-2")
    values = statics(30, n=config.n_statics)
    frames = np.full((30, config.n_features), np.nan, np.float32)
    frames[:, : config.n_statics] = values
    add_deltas(frames, config)
    np.testing.assert_array_equal(frames, filled(values, shifted_deltas="5-1-3-2"))


@pytest.mark.parametrize(
    "choices", [{}, {"delta_method": "polynomial"}, {"delta_orders": 0, "shifted_deltas": "20-1-3-2"}]
)
def test_no_temporary_of_the_size_of_the_frames_is_made(choices):
    config = FeatureConfig(**choices)
    frames = np.zeros((20_000, config.n_features), np.float32)
    add_deltas(frames[:10], config)  # tables and compiled code are made now
    tracemalloc.start()
    add_deltas(frames, config)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # 1 000 rows would be 240 kB. What compiled code allocates is a row of sums, and not seen here.
    assert peak < 20_000


def test_cepstra_made_elsewhere_get_the_same_deltas():
    config = FeatureConfig(n_coefficients=13, n_filters=13, delta_width=3, shifted_deltas="7-1-3-7")
    frames = np.zeros((40, config.n_features), np.float32)
    frames[:, :13] = np.random.default_rng(0).standard_normal((40, 13))
    add_deltas(frames, config)
    given = np.asfortranarray(frames[:, :13], np.float64)
    np.testing.assert_array_equal(with_deltas(given, delta_width=3, shifted_deltas="7-1-3-7"), frames)


@pytest.mark.parametrize(
    ("cepstra", "settings", "message"),
    [
        (np.zeros(13), {}, "`cepstra`"),
        (np.zeros((0, 13)), {}, "at least 1 of each"),
        (np.zeros((3, 2000)), {}, r"`cepstra` has the shape \(3, 2000\).*at most 1024 coefficients"),
        (np.full((2, 13), np.nan), {}, "`cepstra` has the value nan at frame 0"),
        (np.zeros((2, 13)), {"n_filters": 20}, "'n_filters' is no setting of deltas; those are delta_method"),
        (np.zeros((2, 13)), {"delta_width": 0}, "`delta_width` is 0"),
    ],
)
def test_what_cannot_have_deltas_is_refused(cepstra, settings, message):
    with pytest.raises(InputError, match=message):
        with_deltas(cepstra, **settings)
