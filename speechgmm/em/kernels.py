"""Compiled inner loops: no checks, the interpreter lock released.

They assume finite values (fastmath); their callers see to that. Importing this file loads numba and compiles
or loads every kernel, so no worker thread ever waits for the compiler.

Frames lie side by side: a block is (n_rows, n_frames), one row for each term of a log-density, and densities are
(n_components, n_frames). So every loop runs over many frames at once, however few components there are.
`np.dot` here is SciPy's BLAS.
"""

from typing import Any

import numpy as np
import scipy.linalg.cython_blas  # noqa: F401  (what `np.dot` calls; loaded here, so that its threads can be limited)
from numba import njit, types

from speechgmm.compiled import (
    MATRIX32,
    MATRIX64,
    OPTIONS,
    VECTOR32,
    VECTOR64,
    bits_of,
    compiled,
    float32_from_bits,
    inlined,
)
from speechgmm.em.terms import FAR, FULL, LOG2_OF_NOTHING, SPHERICAL

# Frames may be read-only, as memory maps are.
FRAMES32 = types.Array(types.float32, 2, "C", readonly=True)
FRAMES64 = types.Array(types.float64, 2, "C", readonly=True)
# Frames turned at a time: they fill one line of the cache.
TILE = 16

# Added to a small float32, it leaves the nearest whole number in the last bits. This holds only while the
# compiler may not reorder sums, which is why no loop here asks for that.
ROUNDER = np.float32(1.5 * 2**23)


def _exp2(exponent: Any) -> Any:
    """2 to the power of a float32 <= 0, to 2e-7 relative; below -60 it is 2**-60.

    Such a posterior counts for nothing, but products with a smaller one would be denormal, and those are slow.
    """
    clipped = max(exponent, np.float32(-60.0))
    rounded = clipped + ROUNDER
    part = clipped - (rounded - ROUNDER)
    # Minimax polynomial of 2**x over [-0.5, 0.5] with constant term 1: relative error 9e-8.
    power = np.float32(1.326472567e-3)
    power = power * part + np.float32(9.671513826e-3)
    power = power * part + np.float32(5.550733758e-2)
    power = power * part + np.float32(0.2402224207)
    power = power * part + np.float32(0.6931469776)
    power = power * part + np.float32(1.0)
    # Times 2 to the whole part: added to the exponent's bits.
    return float32_from_bits(np.int32(bits_of(power) + np.int32(bits_of(rounded) << np.int32(23))))


exp2 = inlined(_exp2)


def _expand(frames, origin, inverse_scale, kind, rows, peaks):  # type: ignore[no-untyped-def]
    """Write the terms of each frame, in the given coordinates, into a column of `rows`.

    The terms are [x, x², 1] (DIAG), [x, |x|², 1] (SPHERICAL), or [x, x_i x_j for i <= j, 1] (FULL). `peaks` gets the
    largest x² of each frame. Returns whether one of them is beyond `FAR`.
    """
    n_frames, n_features = frames.shape
    _turn(frames, origin, inverse_scale, rows)
    peaks[:] = 0.0
    rows[n_features] = 0.0
    next_row = n_features
    for j in range(n_features):
        row = rows[j]
        for i in range(n_frames):
            peaks[i] = max(peaks[i], np.float32(row[i] * row[i]))
        for other in range(j, n_features if kind == FULL else j + 1):
            factor, product = rows[other], rows[next_row]
            if kind == SPHERICAL:
                for i in range(n_frames):
                    product[i] += row[i] * factor[i]
            else:
                for i in range(n_frames):
                    product[i] = row[i] * factor[i]
                next_row += 1
    rows[-1] = 1.0
    far = False
    for i in range(n_frames):
        far |= peaks[i] > FAR * FAR
    return far


def _turn_frames(frames, origin, inverse_scale, rows):  # type: ignore[no-untyped-def]
    """Write frames, in the given coordinates, into columns: in small squares that stay in the nearest cache."""
    n_frames, n_features = frames.shape
    square = np.empty((TILE, n_features), rows.dtype)
    for start in range(0, n_frames, TILE):
        size = min(TILE, n_frames - start)
        for i in range(size):
            frame, line = frames[start + i], square[i]
            for j in range(n_features):
                line[j] = (frame[j] - origin[j]) * inverse_scale[j]
        for j in range(n_features):
            row = rows[j, start : start + TILE]
            if size == TILE:  # a constant length makes fast code
                for i in range(TILE):
                    row[i] = square[i, j]
            else:
                for i in range(size):
                    row[i] = square[i, j]


_turn = njit(**OPTIONS)(_turn_frames)

# Terms in float64 are formed in float64 from the beginning, also those of float32 frames.
expand = compiled(
    *(
        types.boolean(frames, vector, vector, types.int64, rows, VECTOR32)
        for frames, vector, rows in (
            (FRAMES32, VECTOR32, MATRIX32),
            (FRAMES64, VECTOR64, MATRIX32),
            (FRAMES32, VECTOR64, MATRIX64),
            (FRAMES64, VECTOR64, MATRIX64),
        )
    )
)(_expand)


@compiled("void(float32[:,::1], boolean[::1])", "void(float64[:,::1], boolean[::1])")
def blank(rows, far):  # type: ignore[no-untyped-def]
    """Set the columns of marked frames to zero."""
    for i in range(rows.shape[1]):
        if far[i]:
            rows[:, i] = 0.0


@compiled("void(float32[:,::1], float32[::1], float32[::1])")
def posteriors(log2_densities, peaks, masses):  # type: ignore[no-untyped-def]
    """Turn log2 densities into unnormalised posteriors in place.

    `peaks` gets the largest log2 density of each frame, which its densities are divided by, and `masses` what they
    then sum to.
    """
    n_components, n_frames = log2_densities.shape
    peaks[:] = log2_densities[0]
    masses[:] = 0.0
    for k in range(1, n_components):
        row = log2_densities[k]
        for i in range(n_frames):
            peaks[i] = max(peaks[i], row[i])
    for k in range(n_components):
        row = log2_densities[k]
        for i in range(n_frames):
            value = exp2(row[i] - peaks[i])
            row[i] = value
            masses[i] += value


@compiled("void(float32[:,::1], float32[::1])")
def scale_columns(rows, shares):  # type: ignore[no-untyped-def]
    """Multiply each frame's column by its share."""
    for k in range(rows.shape[0]):
        row = rows[k]
        for i in range(rows.shape[1]):
            row[i] *= shares[i]


@compiled("void(float32[:,::1], float64[:,::1])")
def add(product, sums):  # type: ignore[no-untyped-def]
    """Add a float32 matrix to one of float64."""
    for j in range(product.shape[0]):
        source, target = product[j], sums[j]
        for k in range(product.shape[1]):
            target[k] += source[k]


def _accumulate(  # type: ignore[no-untyped-def]
    frames, weights, origin, inverse_scale, place, kind, block, matrix, sharp, n_exact_sums, exact, far, sums
):
    """Add to `sums` (n_rows, n_components) what the frames of a shard give; return their log2 likelihood.

    Parameters
    ----------
    frames : (n_frames, n_features) float32 or float64
    weights : (n_frames,) float64, or (0,) where every frame counts once
    origin, inverse_scale : (n_features,)
        In the precision of the frames.
    place : (2, n_features) float64
        The same, as they are.
    kind : int
        DIAG, SPHERICAL or FULL.
    block : int
        Frames handled at a time.
    matrix : (n_components, n_rows) float32
        Of a `Projection`.
    sharp : (n_sharp,) int64
        Components whose densities go through float64.
    n_exact_sums : int
        How many of them, from the first, have sums that need it too.
    exact : (n_sharp, n_rows) float64
        Their rows of the matrix.
    far : (n_frames,) bool
        Gets the frames that were left out.
    """
    n_frames = frames.shape[0]
    n_components, n_rows = matrix.shape
    rows_of_all = np.empty(n_rows * block, np.float32)
    densities_of_all = np.empty(n_components * block, np.float32)
    exact_rows_of_all = np.empty(n_rows * block if sharp.size else 0, np.float64)
    peaks_of_all, masses_of_all = np.empty(block, np.float32), np.empty(block, np.float32)
    product = np.empty((n_rows, n_components), np.float32)
    total = 0.0
    for start in range(0, n_frames, block):
        part, skipped = frames[start : start + block], far[start : start + block]
        size = part.shape[0]
        rows = rows_of_all[: n_rows * size].reshape((n_rows, size))
        log2_densities = densities_of_all[: n_components * size].reshape((n_components, size))
        peaks, masses = peaks_of_all[:size], masses_of_all[:size]
        any_far = expand(part, origin, inverse_scale, kind, rows, peaks)
        if any_far:
            for i in range(size):
                skipped[i] = peaks[i] > FAR * FAR
            blank(rows, skipped)
        np.dot(matrix, rows, log2_densities)
        if sharp.size:
            exact_rows = exact_rows_of_all[: n_rows * size].reshape((n_rows, size))
            expand(part, place[0], place[1], kind, exact_rows, peaks)
            if any_far:
                blank(exact_rows, skipped)
            exact_densities = np.dot(exact, exact_rows)
            for s in range(sharp.size):
                for i in range(size):
                    log2_densities[sharp[s], i] = max(exact_densities[s, i], LOG2_OF_NOTHING)
        posteriors(log2_densities, peaks, masses)
        for i in range(size):
            share = np.float64(1.0) if weights.size == 0 else weights[start + i]
            if skipped[i]:
                share = 0.0
            total += share * (np.float64(peaks[i]) + np.log2(np.float64(masses[i])))
            masses[i] = share / masses[i]
        if n_exact_sums:
            for s in range(n_exact_sums):
                for i in range(size):
                    exact_densities[s, i] = np.float64(log2_densities[sharp[s], i]) * masses[i]
                log2_densities[sharp[s]] = 0.0
            exact_product = np.dot(exact_rows, exact_densities[:n_exact_sums].T)
            for s in range(n_exact_sums):
                for j in range(n_rows):
                    sums[j, sharp[s]] += exact_product[j, s]
        # The division by the sum of each column goes into the smaller of the two factors.
        scale_columns(rows if n_rows <= n_components else log2_densities, masses)
        np.dot(rows, log2_densities.T, product)
        add(product, sums)
    return total


accumulate = compiled(
    *(
        types.float64(
            *(frames, VECTOR64, vector, vector, MATRIX64, types.int64, types.int64, MATRIX32),
            *(types.int64[::1], types.int64, MATRIX64, types.boolean[::1], MATRIX64),
        )
        for frames, vector in ((FRAMES32, VECTOR32), (FRAMES64, VECTOR64))
    )
)(_accumulate)
