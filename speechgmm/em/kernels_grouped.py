"""Compiled inner loops of the E-step over candidate components: no checks, the interpreter lock released.

Frames come as blocks of 512, side by side, (n_features, BLOCK), in coordinates; the last block is filled up with
frames of weight 0. Log-densities have DIAG terms. As in `speechgmm.em.kernels`, every loop runs over many frames at
once.
"""

import numpy as np
from numba import njit, types

from speechgmm.compiled import MATRIX32, MATRIX64, OPTIONS, VECTOR32, VECTOR64, compiled
from speechgmm.em.kernels import FRAMES32, FRAMES64, expand, posteriors, scale_columns
from speechgmm.em.terms import BLOCK, FAR, LOG2_OF_NOTHING, SPHERICAL

BLOCKS32 = types.float32[:, :, ::1]


def _fill(block, rows):  # type: ignore[no-untyped-def]
    """Write the terms [x, x², 1] of a block."""
    n_features = block.shape[0]
    for j in range(n_features):
        source, values, squares = block[j], rows[j], rows[n_features + j]
        for i in range(BLOCK):
            values[i] = source[i]
            squares[i] = values[i] * values[i]
    rows[2 * n_features] = 1.0


fill = njit(**OPTIONS)(_fill)


@compiled(
    *(
        types.void(frames, vector, vector, MATRIX32, types.int32[:, ::1], types.boolean[::1])
        for frames, vector in ((FRAMES32, VECTOR32), (FRAMES64, VECTOR64))
    )
)
def nearest_two(frames, origin, inverse_scale, matrix, nearest, far):  # type: ignore[no-untyped-def]
    """Find the two centres nearest to each frame, and the frames beyond `FAR`.

    Parameters
    ----------
    frames : (n_frames, n_features) float32 or float64
    origin, inverse_scale : (n_features,)
    matrix : (n_centres, n_features + 2) float32
        Times [x, |x|², 1]: half the negative squared distance, but for what all centres share.
    nearest : (2, n_frames) int32
        Gets their numbers.
    far : (n_frames,) bool
    """
    n_centres, n_rows = matrix.shape
    peaks = np.empty(BLOCK, np.float32)
    best, second = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    # Arrays of their own: two over the same memory would keep the compiler from vectorising.
    first_label, second_label = np.empty(BLOCK, np.int32), np.empty(BLOCK, np.int32)
    for start in range(0, frames.shape[0], BLOCK):
        part = frames[start : start + BLOCK]
        size = part.shape[0]
        rows = np.empty((n_rows, size), np.float32)
        expand(part, origin, inverse_scale, SPHERICAL, rows, peaks[:size])
        products = np.dot(matrix, rows)
        best[:] = LOG2_OF_NOTHING
        second[:] = LOG2_OF_NOTHING
        first_label[:] = 0
        second_label[:] = 0
        for k in range(n_centres):
            row, label = products[k], np.int32(k)
            for i in range(size):
                # Choices, not branches: those would not vectorise.
                value, better = row[i], row[i] > best[i]
                runner_up, runner_up_label = (best[i], first_label[i]) if better else (value, label)
                first_label[i] = label if better else first_label[i]
                best[i] = max(best[i], value)
                better = runner_up > second[i]
                second_label[i] = runner_up_label if better else second_label[i]
                second[i] = max(second[i], runner_up)
        nearest[0, start : start + size] = first_label[:size]
        nearest[1, start : start + size] = second_label[:size]
        for i in range(size):
            far[start + i] = peaks[i] > FAR * FAR


@compiled(
    *(
        types.void(frames, vector, vector, types.int64[::1], MATRIX32)
        for frames, vector in ((FRAMES32, VECTOR32), (FRAMES64, VECTOR64))
    )
)
def place(frames, origin, inverse_scale, places, target):  # type: ignore[no-untyped-def]
    """Write each frame, in coordinates, into its row of `target`; not where the place is negative."""
    for i in range(frames.shape[0]):
        if places[i] >= 0:
            row, frame = target[places[i]], frames[i]
            for j in range(frame.shape[0]):
                row[j] = (frame[j] - origin[j]) * inverse_scale[j]


@compiled(types.void(BLOCKS32))
def turn(blocks):  # type: ignore[no-untyped-def]
    """Turn blocks of frames in rows, (BLOCK, n_features), into frames side by side, in place."""
    n_features = blocks.shape[1]
    for block in blocks:
        rows = block.copy().reshape((BLOCK, n_features))
        for i in range(BLOCK):
            for j in range(n_features):
                block[j, i] = rows[i, j]


@compiled(types.void(BLOCKS32, MATRIX64, MATRIX32, types.int64, types.int64, MATRIX32))
def sample_masses(blocks, weights, matrix, step, first, masses):  # type: ignore[no-untyped-def]
    """Estimate the mass of every component in each block from every `step`-th of its frames.

    `masses` (n_blocks, n_components) gets the sums of their posteriors, times `step`, which must divide `BLOCK`.
    """
    n_components, n_rows = matrix.shape
    n_features, size = blocks.shape[1], BLOCK // step
    sample, rows = np.zeros((n_features, BLOCK), np.float32), np.empty((n_rows, BLOCK), np.float32)
    densities = np.empty((n_components, BLOCK), np.float32)
    peaks, sums = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    product = np.empty((n_components, step), np.float32)
    for start in range(0, blocks.shape[0], step):
        n_blocks = min(step, blocks.shape[0] - start)
        for b in range(n_blocks):
            for j in range(n_features):
                for i in range(size):
                    sample[j, b * size + i] = blocks[start + b, j, first + i * step]
        fill(sample, rows)
        np.dot(matrix, rows, densities)
        posteriors(densities, peaks, sums)
        shares = np.zeros((BLOCK, step), np.float32)
        for b in range(n_blocks):
            for i in range(size):
                share = step * weights[start + b, first + i * step]
                shares[b * size + i, b] = share / sums[b * size + i]
        np.dot(densities, shares, product)
        for b in range(n_blocks):
            masses[start + b] = product[:, b]


def _in_float64(rows):  # type: ignore[no-untyped-def]
    """Terms with squares that are exact."""
    n_features = rows.shape[0] // 2
    exact_rows = rows.astype(np.float64)
    for j in range(n_features):
        exact_rows[n_features + j] = exact_rows[j] * exact_rows[j]
    return exact_rows


def _put_densities(exact_part, exact_rows, places, log2_densities):  # type: ignore[no-untyped-def]
    """Replace the densities in some places by those of float64 products."""
    exact_densities = np.dot(exact_part, exact_rows)
    for s in range(places.size):
        for i in range(BLOCK):
            log2_densities[places[s], i] = max(exact_densities[s, i], LOG2_OF_NOTHING)


def _add_exactly(densities, shares, exact_rows, places, own, sums):  # type: ignore[no-untyped-def]
    """Add to `sums` what the candidates in some places get."""
    gamma = np.empty((places.size, BLOCK))
    for s in range(places.size):
        for i in range(BLOCK):
            gamma[s, i] = np.float64(densities[places[s], i]) * shares[i]
    product = np.dot(gamma, exact_rows.T)
    for s in range(places.size):
        sums[own[places[s]]] += product[s]


in_float64 = njit(**OPTIONS)(_in_float64)
put_densities = njit(**OPTIONS)(_put_densities)
add_exactly = njit(**OPTIONS)(_add_exactly)


@compiled(
    types.float64(
        *(BLOCKS32, MATRIX64, types.int64[::1], types.int32[::1], MATRIX32, types.boolean[::1], MATRIX64),
        *(VECTOR32, MATRIX64),
    )
)
def accumulate_candidates(blocks, weights, offsets, members, matrix, sharp, exact, masses, sums):  # type: ignore[no-untyped-def]
    """Add to `sums` what blocks give over their candidates alone; return the log2 likelihood over those.

    Parameters
    ----------
    blocks : (n_blocks, n_features, BLOCK) float32
    weights : (n_blocks, BLOCK) float64
    offsets : (n_blocks + 1,) int64
        Block b has the candidates members[offsets[b] : offsets[b + 1]], one at least.
    members : (n_pairs,) int32
    matrix : (n_components, n_terms) float32
    sharp : (n_components,) bool
        Components that go through float64.
    exact : (n_components, n_terms) float64
    masses : (n_pairs,) float32
        Gets the sum of the posteriors of each candidate in its block.
    sums : (n_components, n_terms) float64
    """
    n_rows, longest = matrix.shape[1], np.diff(offsets).max()
    rows = np.empty((n_rows, BLOCK), np.float32)
    peaks, shares = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    parts, products = np.empty((longest, n_rows), np.float32), np.empty((longest, n_rows), np.float32)
    densities_of_all = np.empty((longest, BLOCK), np.float32)
    total = 0.0
    for b in range(blocks.shape[0]):
        own = members[offsets[b] : offsets[b + 1]]
        part, product, log2_densities = parts[: own.size], products[: own.size], densities_of_all[: own.size]
        for c in range(own.size):
            part[c] = matrix[own[c]]
        fill(blocks[b], rows)
        np.dot(part, rows, log2_densities)
        places = np.flatnonzero(sharp[own])
        exact_rows = in_float64(rows) if places.size else np.empty((0, 0))
        if places.size:
            put_densities(exact[own[places]], exact_rows, places, log2_densities)
        posteriors(log2_densities, peaks, shares)
        for i in range(BLOCK):
            total += weights[b, i] * (np.float64(peaks[i]) + np.log2(np.float64(shares[i])))
            shares[i] = weights[b, i] / shares[i]
        if places.size:
            add_exactly(log2_densities, shares, exact_rows, places, own, sums)
        # The division by the sum of each column goes into the smaller of the two factors.
        scale_columns(rows if n_rows <= own.size else log2_densities, shares)
        np.dot(log2_densities, rows.T, product)
        for c in range(own.size):
            target, source = sums[own[c]], product[c]
            masses[offsets[b] + c] = source[n_rows - 1]
            if not sharp[own[c]]:
                for j in range(n_rows):
                    target[j] += source[j]
    return total
