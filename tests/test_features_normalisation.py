"""Normalisation: by the utterance, by a window that slides over it, by ranks, and by given statistics.

Every result is a float64 computation rounded once to float32, so it may be off by half a float32 step, 6e-8 of itself
(ROUNDED, with room for twins that round elsewhere). Means are of values up to 1000 and lose 1e-16 of those at each of
up to some hundred additions: less than TINY.
"""

import math
import tracemalloc
from functools import reduce
from operator import add

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechgmm.errors import InputError
from speechgmm.features import FeatureConfig, FeatureExtractor
from speechgmm.features.normalisation import FrameStatistics, SlidingNormaliser, normalise

ROUNDED = 2e-7
TINY = 1e-10
# Cepstra reach 1000, where float32 has steps of 6e-5: so much may a mean or variance of the *results* be off.
TOLERANCE = 1e-4

UTTERANCE = ["mean", "mean_variance"]
SLIDING = ["sliding_mean", "sliding_mean_variance", "warping"]
METHODS = [*UTTERANCE, *SLIDING]


def some_frames(n_frames, n_features=4, seed=0):
    """Frames like cepstra: far from 0 or not, of large and small variance, the last of few different values."""
    rng = np.random.default_rng(seed)
    scale, offset = np.array([50.0, 1.0, 0.05, 200.0]), np.array([-500.0, 3.0, 0.0, 900.0])
    columns = np.arange(n_features) % 4
    frames = rng.standard_normal((n_frames, n_features)) * scale[columns] + offset[columns]
    frames[:, -1] = np.round(frames[:, -1] / 100)
    return frames.astype(np.float32)


@pytest.fixture
def frames():
    return some_frames(400)


# Twins in plain loops.


def window_of(t, n_frames, window):
    """First frame of the window of frame t, and the first after it."""
    start = t - window // 2
    start = min(start, n_frames - window)
    start = max(start, 0)
    return start, min(start + window, n_frames)


def by_moments(value, values, variance):
    """A value less the mean of others, over their deviation; sums are exact."""
    mean = math.fsum(values) / len(values)
    if not variance:
        return value - mean
    deviation = math.sqrt(math.fsum((other - mean) ** 2 for other in values) / len(values))
    return 0.0 if deviation <= 1e-6 * max(abs(mean), 1.0) else (value - mean) / deviation


def by_rank(value, values):
    """What belongs to the mean rank of a value, the largest being 1."""
    norm, rankdata = (pytest.importorskip("scipy.stats").__dict__[name] for name in ("norm", "rankdata"))
    ranks = rankdata([-other for other in values])
    rank = ranks[values.index(value)]
    return norm.ppf((len(values) + 0.5 - rank) / len(values))


def twin(frames, method, window):
    """`normalise` in plain loops."""
    result = np.zeros(frames.shape)
    for t in range(len(frames)):
        start, stop = window_of(t, len(frames), window) if method in SLIDING else (0, len(frames))
        for d in range(frames.shape[1]):
            values = [float(value) for value in frames[start:stop, d]]
            value = float(frames[t, d])
            if method == "warping":
                result[t, d] = by_rank(value, values)
            else:
                result[t, d] = by_moments(value, values, method.endswith("variance"))
    return result


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("n_frames", "window"), [(1, 1), (1, 5), (7, 1), (7, 2), (7, 7), (8, 7), (7, 8), (40, 9)]
)
def test_every_method_is_its_definition(method, n_frames, window):
    frames = some_frames(n_frames)
    result = normalise(frames, method, window)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, twin(frames, method, window), rtol=ROUNDED, atol=TINY)


@pytest.mark.parametrize("method", SLIDING)
@pytest.mark.parametrize("n_features", [1, 15, 16, 17, 60])
def test_any_number_of_features(method, n_features):
    frames = some_frames(30, n_features)
    np.testing.assert_allclose(normalise(frames, method, 6), twin(frames, method, 6), rtol=ROUNDED, atol=TINY)


@pytest.mark.parametrize("method", SLIDING)
def test_frames_far_into_an_utterance(method):
    """By then frames have been moved up in the memory of the last window, more than once."""
    frames = some_frames(1800)
    expected = twin(frames[1300:], method, 100)[100:]
    np.testing.assert_allclose(normalise(frames, method, 100)[1400:], expected, rtol=ROUNDED, atol=TINY)


# The whole utterance.


def test_none_gives_the_frames_back(frames):
    before = frames.copy()
    assert normalise(frames, "none", 300) is frames
    out = np.zeros_like(frames)
    assert normalise(frames, "none", 300, out=out) is out
    np.testing.assert_array_equal(out, before)
    assert normalise(frames, "none", 300, out=frames) is frames
    np.testing.assert_array_equal(frames, before)


def test_mean_is_taken_away(frames):
    result = normalise(frames, "mean", 300)
    np.testing.assert_allclose(result.mean(axis=0, dtype=np.float64), 0.0, atol=TOLERANCE)
    np.testing.assert_allclose(result.std(axis=0), frames.astype(np.float64).std(axis=0), rtol=1e-5)
    # The differences between frames stay as they were.
    np.testing.assert_allclose(np.diff(result, axis=0), np.diff(frames, axis=0), rtol=0, atol=2 * TOLERANCE)


def test_variance_becomes_1(frames):
    result = normalise(frames, "mean_variance", 300)
    np.testing.assert_allclose(result.mean(axis=0, dtype=np.float64), 0.0, atol=TOLERANCE)
    np.testing.assert_allclose(result.var(axis=0, dtype=np.float64), 1.0, atol=TOLERANCE)


@pytest.mark.parametrize("method", METHODS)
def test_a_single_frame_becomes_zeros(frames, method):
    np.testing.assert_array_equal(normalise(frames[:1], method, 300), 0.0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [0.0, 0.1, -632.4555, 1e-10, 1e6])
def test_a_constant_dimension_becomes_zeros(frames, method, value):
    others = [0, 2, 3]
    without = normalise(frames[:, others], method, 30)
    frames[:, 1] = value
    result = normalise(frames, method, 30)
    np.testing.assert_array_equal(result[:, 1], 0.0)
    np.testing.assert_allclose(result[:, others], without, rtol=ROUNDED, atol=TINY)


@pytest.mark.parametrize("method", ["mean_variance", "sliding_mean_variance"])
def test_a_deviation_of_a_millionth_of_the_mean_is_the_limit(method):
    # Near 500 float32 has steps of 2**-15; 16 and 17 of them are just below and just above 500e-6.
    sign = np.where(np.arange(40) % 2, 1.0, -1.0)[:, None]
    for steps, expected in ((16, 0.0), (17, sign)):
        frames = (500.0 + sign * steps * 2.0**-15).astype(np.float32)
        np.testing.assert_allclose(normalise(frames, method, 10) - expected, 0.0, atol=ROUNDED)
    # Around 0 it is a millionth of 1.
    for deviation, expected in ((0.99e-6, 0.0), (1.01e-6, sign)):
        frames = (sign * deviation).astype(np.float32)
        np.testing.assert_allclose(normalise(frames, method, 10) - expected, 0.0, atol=ROUNDED)


def test_no_frames_stay_none():
    empty = np.zeros((0, 3), np.float32)
    for method in ["none", *METHODS]:
        assert normalise(empty, method, 300).shape == (0, 3)


# The window that slides.


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        # Windows from two frames before to one after, shifted into the six: 0-4, 0-4, 0-4, 1-5, 2-6, 2-6.
        ("sliding_mean", [-1.5, -0.5, 0.5, 0.5, -0.5, 4.5]),
        # Of ranks from the smallest up: 1, 2, 3, 3, 3, 4 of 4.
        ("warping", [-1.1503494, -0.3186394, 0.3186394, 0.3186394, 0.3186394, 1.1503494]),
    ],
)
def test_an_example_by_hand(method, expected):
    frames = np.array([[0], [1], [2], [3], [4], [9]], np.float32)
    np.testing.assert_allclose(normalise(frames, method, 4)[:, 0], expected, rtol=ROUNDED)


@pytest.mark.parametrize("method", UTTERANCE)
def test_a_window_longer_than_the_utterance_is_the_whole_of_it(frames, method):
    whole = normalise(frames, method, 300)
    for window in (400, 401, 5000):
        np.testing.assert_array_equal(normalise(frames, f"sliding_{method}", window), whole)


@pytest.mark.parametrize("variance", [False, True])
@pytest.mark.parametrize(
    ("n_frames", "window"), [(50, 7), (50, 8), (50, 50), (50, 80), (1, 4), (9, 1), (400, 300)]
)
def test_torchaudio_agrees(n_frames, window, variance):
    """In float64, because torchaudio adds to its sums and takes away from them through the whole utterance.

    Its sums of squares, up to 300 * 900**2, and its variance, as the difference of two such, are off by some 1e-16 of
    that, which is 1e-10 of the variances of the dimensions that lie far from 0. It divides by deviations of 0 too,
    so there are none here.
    """
    torch, torchaudio = pytest.importorskip("torch"), pytest.importorskip("torchaudio")
    frames = some_frames(n_frames)
    frames[:, 3] += np.linspace(0, 1, n_frames, dtype=np.float32)
    expected = torchaudio.functional.sliding_window_cmn(
        torch.from_numpy(frames.astype(np.float64)), cmn_window=window, center=True, norm_vars=variance
    )
    result = normalise(frames, "sliding_mean_variance" if variance else "sliding_mean", window)
    np.testing.assert_allclose(result, expected.numpy().reshape(frames.shape), rtol=ROUNDED, atol=1e-8)


@pytest.mark.parametrize("deviation", [1.0, 0.02])
def test_no_drift_over_200_000_frames_far_from_0(deviation):
    """Whole multiples of 2**-11 have sums and sums of squares that are exact as integers."""
    window, unit = 300, 2.0**-11
    rng = np.random.default_rng(3)
    steps = np.round((rng.standard_normal((200_000, 2)) * deviation - 500.0) / unit).astype(np.int64)
    steps[:, 1] += np.int64(400 / unit) * (np.arange(200_000) // 50_000 % 2)  # jumps between -500 and -100
    frames = (steps * unit).astype(np.float32)
    np.testing.assert_array_equal(frames.astype(np.float64), steps * unit)  # float32 holds them
    totals = [
        np.concatenate([np.zeros((1, 2), np.int64), np.cumsum(powers, axis=0)])
        for powers in (steps, steps**2)
    ]
    starts = np.clip(np.arange(200_000) - window // 2, 0, 200_000 - window)
    first, second = (total[starts + window] - total[starts] for total in totals)
    centred = (window * steps - first).astype(np.float64)  # exact: below 2**53
    variance = (window * second - first**2).astype(np.float64)
    # The values' own float32 rounding, and that of float64 in means of some hundred.
    np.testing.assert_allclose(
        normalise(frames, "sliding_mean", window), centred * unit / window, rtol=ROUNDED, atol=TINY
    )
    np.testing.assert_allclose(
        normalise(frames, "sliding_mean_variance", window),
        centred / np.sqrt(variance),
        rtol=ROUNDED,
        atol=TINY / deviation,
    )


# Warping.


def test_warped_frames_are_like_a_standard_normal():
    """Of exponentially distributed ones: mean, variance, skewness and kurtosis of 5000."""
    frames = np.random.default_rng(4).exponential(size=(5000, 2)).astype(np.float32)
    warped = normalise(frames, "warping", 300).astype(np.float64)
    # Ends of the table are cut at 1/600, which takes 2 % of the variance; chance is 1/sqrt(5000) and multiples.
    for power, expected, tolerance in ((1, 0.0, 0.05), (2, 1.0, 0.05), (3, 0.0, 0.15), (4, 3.0, 0.4)):
        np.testing.assert_allclose((warped**power).mean(axis=0), expected, atol=tolerance)


def test_warping_looks_at_the_order_alone(frames):
    warped = normalise(frames, "warping", 51)
    np.testing.assert_array_equal(normalise(frames * 4, "warping", 51), warped)
    bent = np.where(frames > 0, 4 * frames, frames / 4)  # exact in float32
    np.testing.assert_array_equal(normalise(bent, "warping", 51), warped)
    np.testing.assert_allclose(normalise(-frames, "warping", 51), -warped, rtol=ROUNDED)


def test_equal_values_share_their_ranks():
    frames = np.array([[5], [1], [5], [5], [0]], np.float32)
    # From the largest: 5, 5, 5 have 1 to 3, so 2; 1 has 4; 0 has 5. (5 + 1/2 - R) / 5 is 0.7, 0.3, 0.1.
    expected = [0.52440051, -0.52440051, 0.52440051, 0.52440051, -1.2815516]
    np.testing.assert_allclose(normalise(frames, "warping", 5)[:, 0], expected, rtol=ROUNDED)


# Frames as they come.


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(SLIDING),
    st.integers(1, 40),
    st.lists(st.integers(0, 90), min_size=1, max_size=12),
    st.integers(0, 2**16),
)
def test_blocks_do_not_matter(method, window, sizes, seed):
    frames = some_frames(sum(sizes), 3, seed)
    whole = normalise(frames, method, window)
    sliding = SlidingNormaliser(method, window, 3)
    parts = [sliding.push(block) for block in np.split(frames, np.cumsum(sizes)[:-1])]
    np.testing.assert_array_equal(np.concatenate([*parts, sliding.finish()]), whole)


@pytest.mark.parametrize("method", SLIDING)
@pytest.mark.parametrize("size", [1, 7, 100, 511, 1700])
def test_long_streams_in_equal_blocks(method, size):
    frames = some_frames(3000, 3)
    sliding = SlidingNormaliser(method, 50, 3)
    parts = [sliding.push(frames[start : start + size]) for start in range(0, 3000, size)]
    np.testing.assert_array_equal(np.concatenate([*parts, sliding.finish()]), normalise(frames, method, 50))


@pytest.mark.parametrize("method", SLIDING)
@pytest.mark.parametrize("window", [1, 2, 9, 10])
def test_frames_come_out_half_a_window_late(method, window):
    frames, n_out = some_frames(40), 0
    sliding = SlidingNormaliser(method, window, 4)
    for n_in in range(1, 41):
        n_out += len(sliding.push(frames[n_in - 1 : n_in]))
        # The last frame out has all its window in.
        assert n_out == (0 if n_in < window else n_in - (window - 1) // 2)
    assert n_out + len(sliding.finish()) == 40


@pytest.mark.parametrize("method", SLIDING)
def test_a_normaliser_can_begin_again(frames, method):
    sliding = SlidingNormaliser(method, 30, 4)
    for utterance in (frames[:100], frames[:20], frames[:0], frames[:30], frames):
        result = np.concatenate([sliding.push(utterance), sliding.finish()])
        np.testing.assert_array_equal(result, normalise(utterance, method, 30))
    assert sliding.finish().shape == (0, 4)


def test_a_stream_holds_a_few_windows():
    frames = some_frames(1000, 20)
    for method in SLIDING:
        sliding = SlidingNormaliser(method, 100, 20)
        sliding.push(frames)  # what is loaded and cached with the first frames does not count
        tracemalloc.start()
        for _ in range(100):
            sliding.push(frames)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        # Two results of a push, and room to work: all together would be 100.
        assert peak < 5 * frames.nbytes


# Where frames lie.


@pytest.mark.parametrize("method", METHODS)
def test_the_given_frames_stay_as_they_are(frames, method):
    before = frames.copy()
    result = normalise(frames, method, 30)
    np.testing.assert_array_equal(frames, before)
    assert not np.shares_memory(result, frames)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n_frames", [1, 29, 30, 31, 2000])
def test_in_place(method, n_frames):
    frames = some_frames(n_frames)
    expected = normalise(frames, method, 30)
    assert normalise(frames, method, 30, out=frames) is frames
    np.testing.assert_array_equal(frames, expected)


@pytest.mark.parametrize("method", METHODS)
def test_columns_of_wider_frames_and_float64(method):
    frames = some_frames(700)
    expected = normalise(frames, method, 30)
    wide = np.full((700, 9), 7.0, np.float32)
    wide[:, 2:6] = frames
    np.testing.assert_array_equal(normalise(wide[:, 2:6], method, 30), expected)
    np.testing.assert_array_equal(normalise(np.asfortranarray(frames), method, 30), expected)
    np.testing.assert_array_equal(normalise(frames.astype(np.float64), method, 30), expected)
    np.testing.assert_array_equal(normalise(frames[::-1][::-1], method, 30), expected)
    normalise(wide[:, 2:6], method, 30, out=wide[:, 2:6])
    np.testing.assert_array_equal(wide[:, 2:6], expected)
    np.testing.assert_array_equal(wide[:, [0, 1, 6, 7, 8]], 7.0)


@pytest.mark.parametrize("method", METHODS)
def test_memory_maps_need_no_memory(tmp_path, method):
    frames = some_frames(50_000, 20)
    np.save(tmp_path / "frames.npy", frames)
    read_only = np.load(tmp_path / "frames.npy", mmap_mode="r")
    expected = normalise(frames, method, 30)
    np.testing.assert_array_equal(normalise(read_only, method, 30), expected)
    changed = np.load(tmp_path / "frames.npy", mmap_mode="r+")
    tracemalloc.start()
    assert normalise(changed, method, 30, out=changed) is changed
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < frames.nbytes / 10  # 4 MB
    np.testing.assert_array_equal(changed, expected)
    with pytest.raises(InputError, match=r"`out` cannot be written to \(a memory map opened for reading\?\)"):
        normalise(read_only, method, 30, out=read_only)


# Statistics.


def test_statistics_are_those_of_the_frames(frames):
    statistics = FrameStatistics.of(frames)
    assert statistics.n_frames == 400
    assert statistics.mean.dtype == statistics.variance.dtype == np.float64
    exact = frames.astype(np.float64)
    np.testing.assert_allclose(statistics.mean, exact.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(statistics.variance, exact.var(axis=0), rtol=1e-11)


def test_statistics_of_many_frames_lose_nothing():
    """Of 200,000 at -500 with a deviation of 0.01: sums of raw squares would leave 1e-16 * 500**2 / 0.01**2."""
    frames = (np.random.default_rng(5).standard_normal((200_000, 1)) * 0.01 - 500).astype(np.float32)
    exact = frames.astype(np.float64) + 500
    statistics = FrameStatistics.of(frames)
    np.testing.assert_allclose(statistics.mean + 500, exact.mean(axis=0), rtol=0, atol=1e-10)
    np.testing.assert_allclose(statistics.variance, exact.var(axis=0), rtol=1e-8)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 700), min_size=1, max_size=6).filter(any), st.integers(0, 2**16))
def test_statistics_do_not_depend_on_blocks(sizes, seed):
    frames = some_frames(sum(sizes), 3, seed)
    pieces = np.split(frames, np.cumsum(sizes)[:-1])
    whole, parts = FrameStatistics.of(frames), FrameStatistics.of(iter(pieces))
    assert whole.n_frames == parts.n_frames
    np.testing.assert_array_equal(whole.mean, parts.mean)
    np.testing.assert_array_equal(whole.variance, parts.variance)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 90), min_size=2, max_size=6), st.integers(0, 2**16))
def test_statistics_add(sizes, seed):
    frames = some_frames(sum(sizes), 3, seed)
    pieces = np.split(frames, np.cumsum(sizes)[:-1])
    whole, summed = FrameStatistics.of(frames), reduce(add, map(FrameStatistics.of, pieces))
    assert summed.n_frames == whole.n_frames
    # Rounding of float64, a few hundred times: relative to the values for a mean, to themselves for variances, which
    # are sums of what is not negative.
    np.testing.assert_allclose(summed.mean, whole.mean, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(summed.variance, whole.variance, rtol=1e-11, atol=1e-20)


def test_constants_add_to_constants():
    one = FrameStatistics.of(np.full((3, 1), 0.1, np.float32))
    both = one + FrameStatistics.of(np.full((5, 1), 0.1, np.float32))
    assert both.variance == 0.0
    assert both.mean == np.float32(0.1)


def test_statistics_of_others_are_applied(frames):
    speaker = FrameStatistics.of([frames, some_frames(900, seed=1)])
    expected = frames - speaker.mean
    np.testing.assert_allclose(speaker.apply(frames, variance=False), expected, rtol=ROUNDED, atol=TINY)
    expected /= np.sqrt(speaker.variance)
    np.testing.assert_allclose(speaker.apply(frames), expected, rtol=ROUNDED, atol=TINY)
    assert speaker.apply(frames[:0]).shape == (0, 4)
    own = FrameStatistics.of(frames)
    np.testing.assert_array_equal(own.apply(frames), normalise(frames, "mean_variance", 1))
    np.testing.assert_array_equal(own.apply(frames, variance=False), normalise(frames, "mean", 1))
    expected = speaker.apply(frames)
    assert speaker.apply(frames, out=frames) is frames
    np.testing.assert_array_equal(frames, expected)


def test_given_numbers_are_copied():
    mean, variance = np.zeros(2, np.float32), [1, 4]
    statistics = FrameStatistics(10, mean, variance)
    mean += 1
    np.testing.assert_array_equal(statistics.mean, 0.0)
    np.testing.assert_array_equal(statistics.apply(np.full((1, 2), 6.0)), [[6.0, 3.0]])


# What cannot be.


def test_refused_methods():
    frames = some_frames(5)
    with pytest.raises(
        InputError, match=r"normalisation 'cmvn' is unknown; it can be none, mean, .*, warping"
    ):
        normalise(frames, "cmvn", 300)
    with pytest.raises(
        InputError, match=r"normalisation 'mean' has no window; sliding_mean, .*, warping have one"
    ):
        SlidingNormaliser("mean", 300, 4)


@pytest.mark.parametrize("window", [0, -3, 2.0, True, None, 2**23 + 1])
def test_refused_windows(window):
    message = rf"`window` is {window}; it must be a whole number from 1 to 8388608"
    with pytest.raises(InputError, match=message):
        normalise(some_frames(5), "warping", window)
    with pytest.raises(InputError, match=message):
        SlidingNormaliser("sliding_mean", window, 4)


def test_windows_of_numpy_integers_are_fine(frames):
    np.testing.assert_array_equal(
        normalise(frames, "sliding_mean", np.int64(30)), normalise(frames, "sliding_mean", 30)
    )


@pytest.mark.parametrize("method", ["none", *METHODS])
def test_refused_shapes(method):
    with pytest.raises(
        InputError, match=r"`frames` has the shape \(5,\); it must be \(n_frames, n_features\)"
    ):
        normalise(np.zeros(5, np.float32), method, 3)
    with pytest.raises(InputError, match=r"`frames` has the shape \(5, 0\)"):
        normalise(np.zeros((5, 0), np.float32), method, 3)
    with pytest.raises(InputError, match=r"`frames` holds values of type int64; features are floats"):
        normalise(np.zeros((5, 2), np.int64), method, 3)
    frames = some_frames(5)
    with pytest.raises(
        InputError, match=r"`out` is float64 of shape \(5, 4\); it must be a float32 array of shape"
    ):
        normalise(frames, method, 3, out=np.zeros((5, 4)))
    with pytest.raises(
        InputError, match=r"`out` is float32 of shape \(4, 4\); .* of shape \(5, 4\), as `frames`"
    ):
        normalise(frames, method, 3, out=np.zeros((4, 4), np.float32))
    with pytest.raises(InputError, match=r"`out` is list; it must be a float32 array"):
        normalise(frames, method, 3, out=[])


def test_refused_features():
    sliding = SlidingNormaliser("warping", 3, 4)
    with pytest.raises(
        InputError, match=r"`frames` have 3 features; 4 are expected \(deltas missing, or others\?\)"
    ):
        sliding.push(some_frames(5, 3))
    for n_features in (0, 2.0, True):
        with pytest.raises(
            InputError, match=rf"`n_features` is {n_features}; it must be a whole number from 1"
        ):
            SlidingNormaliser("warping", 3, n_features)
    with pytest.raises(InputError, match=r"`frames` have 4 features; 3 are expected"):
        FrameStatistics.of(some_frames(5, 3)).apply(some_frames(5))
    with pytest.raises(InputError, match=r"`frames` have 4 features; 3 are expected"):
        FrameStatistics.of([some_frames(5, 3), some_frames(5)])
    with pytest.raises(InputError, match=r"`frames` have 4 features; 3 are expected"):
        FrameStatistics.of(some_frames(5, 3)) + FrameStatistics.of(some_frames(5))


def test_refused_statistics():
    for nothing in (np.zeros((0, 3)), [], [np.zeros((0, 3))]):
        with pytest.raises(
            InputError, match=r"there are no frames to take statistics of \(all dropped as silence\?\)"
        ):
            FrameStatistics.of(nothing)
    for n_frames in (0, 2.5, True):
        with pytest.raises(InputError, match=rf"`n_frames` is {n_frames}; it must be a whole number from 1"):
            FrameStatistics(n_frames, np.zeros(2), np.ones(2))
    with pytest.raises(InputError, match=r"`mean` and `variance` have the shapes \(2,\) and \(3,\)"):
        FrameStatistics(5, np.zeros(2), np.ones(3))
    with pytest.raises(InputError, match=r"`mean` and `variance` have the shapes \(1, 2\) and \(1, 2\)"):
        FrameStatistics(5, np.zeros((1, 2)), np.ones((1, 2)))
    for mean, variance in ((np.nan, 1.0), (0.0, np.inf), (0.0, -1.0)):
        with pytest.raises(InputError, match=r"mean or variance is not finite, or the variance negative"):
            FrameStatistics(5, [mean], [variance])
    with pytest.raises(TypeError, match="unsupported operand"):
        FrameStatistics.of(some_frames(5)) + 1


# In the extractor.


def test_the_extractor_normalises_all_features_of_an_utterance():
    samples = np.random.default_rng(1).standard_normal(16000) * np.linspace(0.001, 0.5, 16000)
    frames = FeatureExtractor(FeatureConfig(normalisation="mean_variance")).from_samples(samples)
    assert frames.shape == (101, 60)
    np.testing.assert_allclose(frames.mean(axis=0, dtype=np.float64), 0.0, atol=TOLERANCE)
    np.testing.assert_allclose(frames.var(axis=0, dtype=np.float64), 1.0, atol=TOLERANCE)


@pytest.mark.parametrize("method", METHODS)
def test_louder_audio_gives_the_same_normalised_frames(method):
    """A gain adds a constant to C0. It also changes float32 roundings of cepstra, by 1e-4 or less, which may change
    the order of values that are as near to each other, and so the rank of one by a few."""
    samples = np.random.default_rng(1).standard_normal(16000) * 0.01
    extractor = FeatureExtractor(FeatureConfig(normalisation=method, normalisation_window=0.5))
    quiet, loud = extractor.from_samples(samples), extractor.from_samples(samples * 32)
    if method == "warping":
        assert (np.abs(quiet - loud) > 1e-6).mean() < 0.01
    else:
        np.testing.assert_allclose(quiet, loud, rtol=0, atol=2e-3)
