"""Compiled inner loops of normalisation: no checks, the interpreter lock released. Values are taken to be finite.

Mean and variance are always carried as (mean, sum of squared distances from it), frame by frame in their order, so
nothing large ever cancels, a constant has a sum of exactly 0, and nothing depends on how frames were cut into blocks.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from speechgmm.compiled import MATRIX32, MATRIX64, OPTIONS, VECTOR32, VECTOR64, compiled, inlined
from speechgmm.features.lanes import LANES, Lanes, load, spread, store

# Frames may be read-only, as memory maps are.
FRAMES32 = types.Array(types.float32, 2, "C", readonly=True)
MATRICES64 = types.float64[:, :, ::1]

# A deviation of less than this part of the mean, or of 1, is rounding of the values themselves.
CONSTANT = 1e-6


def _add_frame(frame, share, moments):  # type: ignore[no-untyped-def]
    """Bring one more frame into mean and sum of squares; `share` is 1 / (their frames, with this one).

    Welford (1962), Technometrics 4, 419-420.
    """
    mean, squares = moments[0], moments[1]
    for d in range(mean.size):
        value = np.float64(frame[d])
        before = value - mean[d]
        centre = mean[d] + before * share
        squares[d] += before * (value - centre)
        mean[d] = centre


def _inverse_deviation(mean, variance):  # type: ignore[no-untyped-def]
    """1 / deviation, or 0 of what does not vary."""
    limit = CONSTANT * max(abs(mean), 1.0)
    return 1.0 / np.sqrt(variance) if variance > limit * limit else 0.0


add_frame, inverse_deviation = njit(**OPTIONS)(_add_frame), inlined(_inverse_deviation)


@compiled(types.void(FRAMES32, types.int64, MATRIX64))
def accumulate(frames, n_before, moments):  # type: ignore[no-untyped-def]
    """Bring frames into `moments`, (2, n_features): mean and sum of squares of the `n_before` frames so far."""
    for i in range(frames.shape[0]):
        add_frame(frames[i], 1.0 / (n_before + i + 1), moments)


@compiled(types.void(VECTOR64, VECTOR64, VECTOR64))
def inverse_deviations(mean, variance, out):  # type: ignore[no-untyped-def]
    """`_inverse_deviation` of each dimension."""
    for d in range(mean.size):
        out[d] = inverse_deviation(mean[d], variance[d])


@compiled(types.void(FRAMES32, VECTOR64, VECTOR64, MATRIX32))
def scale(frames, mean, factors, out):  # type: ignore[no-untyped-def]
    """(frames - mean) * factors, rounded once. Fast only where `out` is apart from `frames`."""
    for i in range(frames.shape[0]):
        frame, row = frames[i], out[i]
        for d in range(mean.size):
            row[d] = np.float32((frame[d] - mean[d]) * factors[d])


@compiled(types.void(MATRIX32, MATRICES64))
def endings(frames, moments):  # type: ignore[no-untyped-def]
    """Mean and sum of squares of every ending of a stretch: `moments[n]` is of `frames[n:]`; that of none is 0."""
    n_frames = frames.shape[0]
    moments[n_frames] = 0.0
    for n in range(n_frames - 1, -1, -1):
        moments[n] = moments[n + 1]
        add_frame(frames[n], 1.0 / (n_frames - n), moments[n])


@compiled(types.int64(MATRIX32, types.int64, MATRICES64, MATRIX64, types.boolean, MATRIX32))
def slide(frames, n, ends, beginning, with_variance, out):  # type: ignore[no-untyped-def]
    """Normalise the centre of each window of consecutive frames by the mean, and the variance, of the window.

    The utterance is cut into stretches as long as the window. A window is then the ending of one stretch and the
    beginning of the next: two pairs of moments, which are put together (Chan, Golub, LeVeque 1983, Am. Stat. 37,
    242-247). So the work for a frame does not depend on the window, and no sum is longer than one.

    Parameters
    ----------
    frames : (window + n_windows, n_features)
        Window i is `frames[i + 1 : i + 1 + window]`.
    n : int
        The number of frames in `beginning`, from 0 to window - 1.
    ends : (window + 1, 2, n_features)
        `endings` of the stretch before. Changed.
    beginning : (2, n_features)
        Moments of the stretch's frames so far. Changed.
    with_variance : bool
    out : (n_windows, n_features)

    Returns
    -------
    int
        The number of frames in `beginning` now.
    """
    window = ends.shape[0] - 1
    mean, squares = beginning[0], beginning[1]
    for i in range(out.shape[0]):
        n += 1
        add_frame(frames[window + i], 1.0 / n, beginning)
        end_mean, end_squares = ends[n, 0], ends[n, 1]
        frame, row = frames[i + 1 + window // 2], out[i]
        share = n / window
        apart = share * (window - n)
        if with_variance:
            for d in range(mean.size):
                step = mean[d] - end_mean[d]
                centre = end_mean[d] + share * step
                total = end_squares[d] + squares[d] + apart * step * step
                row[d] = np.float32((frame[d] - centre) * inverse_deviation(centre, total / window))
        else:
            for d in range(mean.size):
                row[d] = np.float32(frame[d] - (end_mean[d] + share * (mean[d] - end_mean[d])))
        if n == window:
            endings(frames[i + 1 : i + 1 + window], ends)
            beginning[:] = 0.0
            n = 0
    return n


def _counting(relation: str) -> Any:
    """An operation on `Lanes`: (counts, left, right) -> counts, 1 more where left `relation` right."""

    def count(typing_context: Any, counts: Any, left: Any, right: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            so_far, *sides = arguments
            more = builder.fadd(so_far, ir.Constant(so_far.type, [1.0] * LANES))
            return builder.select(builder.fcmp_ordered(relation, *sides), more, so_far)

        return Lanes(Lanes, Lanes, Lanes), generate

    return intrinsic(count)


count_less, count_up_to = _counting("<"), _counting("<=")


def _count(tile, start, stop, row, counts):  # type: ignore[no-untyped-def]
    """Write how many of the rows are less than the given one plus how many are not more, in each column."""
    value = load(tile, row)
    less = up_to = other_less = other_up_to = spread(np.float32(0.0))
    for i in range(start, stop - 1, 2):  # two at a time, so that none waits for its last addition
        one, two = load(tile, i), load(tile, i + 1)
        less, up_to = count_less(less, one, value), count_up_to(up_to, one, value)
        other_less, other_up_to = count_less(other_less, two, value), count_up_to(other_up_to, two, value)
    if (stop - start) & 1:
        last = load(tile, stop - 1)
        less, up_to = count_less(less, last, value), count_up_to(up_to, last, value)
    store(counts, 0, (less + up_to) + (other_less + other_up_to))


count_below = njit(**OPTIONS)(_count)


@compiled(types.void(MATRIX32, types.int64, types.int64, VECTOR32, MATRIX32))
def warp(frames, step, first, values, out):  # type: ignore[no-untyped-def]
    """Replace each value by the one that belongs to its rank within a window.

    Parameters
    ----------
    frames : (n_frames, n_features)
    step, first : int
        Frame `first + i` is ranked within the window that begins at frame `i * step`.
    values : (2 * window + 1,)
        By the number of the window's values that are less plus the number of those that are not more.
    out : (n_ranked, n_features)
    """
    n_frames, n_features = frames.shape
    window = values.size // 2
    # Sixteen dimensions at a time: a window of three seconds then stays in the nearest cache.
    tile, counts = np.zeros((n_frames, LANES), np.float32), np.empty((1, LANES), np.float32)
    for start in range(0, n_features, LANES):
        width = min(LANES, n_features - start)
        for i in range(n_frames):
            for lane in range(width):
                tile[i, lane] = frames[i, start + lane]
        for i in range(out.shape[0]):
            count_below(tile, i * step, i * step + window, first + i, counts)
            for lane in range(width):
                out[i, start + lane] = values[np.int64(counts[0, lane])]
