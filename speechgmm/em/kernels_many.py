"""Compiled inner loops over many mixtures at once: no checks, the interpreter lock released."""

import numpy as np
from numba import njit, types

from speechgmm.compiled import MATRIX32, MATRIX64, OPTIONS, VECTOR32, VECTOR64, compiled, log
from speechgmm.em.kernels import FRAMES32, FRAMES64, blank, exp2, expand
from speechgmm.em.terms import FAR, LOG2_OF_NOTHING

LN2 = np.float32(np.log(2.0))


def _put_log_sums(log2_densities, peaks, masses, scores, column):  # type: ignore[no-untyped-def]
    """Write ln Σ 2**d over the rows of `log2_densities`, one value a frame, into a column of `scores`."""
    n_components, n_frames = log2_densities.shape
    peaks[:] = log2_densities[0]
    for k in range(1, n_components):
        row = log2_densities[k]
        for i in range(n_frames):
            peaks[i] = max(peaks[i], row[i])
    masses[:] = 0.0
    for k in range(n_components):
        row = log2_densities[k]
        for i in range(n_frames):
            masses[i] += exp2(row[i] - peaks[i])
    for i in range(n_frames):
        peaks[i] = LN2 * peaks[i] + log(masses[i])
    for i in range(n_frames):
        scores[i, column] = peaks[i]


put_log_sums = njit(**OPTIONS)(_put_log_sums)


@compiled(
    *(
        types.void(
            *(frames, vector, vector, MATRIX64, types.int64, types.int64, MATRIX32, types.int64[::1]),
            *(types.int64[::1], types.int64[::1], MATRIX64, types.boolean[::1], MATRIX32),
        )
        for frames, vector in ((FRAMES32, VECTOR32), (FRAMES64, VECTOR64))
    )
)
def log_likelihoods(  # type: ignore[no-untyped-def]
    frames, origin, inverse_scale, place, kind, block, matrix, starts, parts, sharp, exact, far, scores
):
    """Write the log-likelihood of each frame under each of many mixtures, natural log.

    Parameters
    ----------
    frames : (n_frames, n_features) float32 or float64
    origin, inverse_scale : (n_features,)
        In the precision of the frames.
    place : (2, n_features) float64
        The same, as they are.
    kind : int
        DIAG or FULL.
    block : int
        Frames handled at a time.
    matrix : (n_components_of_all, n_terms) float32
        The rows of a `Projection` of each mixture, one below the other.
    starts : (n_mixtures + 1,) int64
        Where the rows of each begin.
    parts : (n_parts + 1,) int64
        Mixtures whose densities fit in the cache together.
    sharp : (n_sharp,) int64
        Components whose densities go through float64, in rising order.
    exact : (n_sharp, n_terms) float64
        Their rows.
    far : (n_frames,) bool
        Gets the frames that were left out.
    scores : (n_frames, n_mixtures) float32
    """
    n_frames, n_rows = frames.shape[0], matrix.shape[1]
    widest = 0
    for p in range(parts.size - 1):
        widest = max(widest, starts[parts[p + 1]] - starts[parts[p]])
    densities_of_all = np.empty(widest * block, np.float32)
    rows_of_all = np.empty(n_rows * block, np.float32)
    peaks_of_all, masses_of_all = np.empty(block, np.float32), np.empty(block, np.float32)
    for start in range(0, n_frames, block):
        part, skipped = frames[start : start + block], far[start : start + block]
        size = part.shape[0]
        rows = rows_of_all[: n_rows * size].reshape((n_rows, size))
        peaks, masses = peaks_of_all[:size], masses_of_all[:size]
        expand(part, origin, inverse_scale, kind, rows, peaks)
        for i in range(size):
            skipped[i] = not peaks[i] <= FAR * FAR
        blank(rows, skipped)
        exact_densities = np.empty((0, 0))
        if sharp.size:
            exact_rows = np.empty((n_rows, size))
            expand(part, place[0], place[1], kind, exact_rows, peaks)
            blank(exact_rows, skipped)
            exact_densities = np.dot(exact, exact_rows)
        s = 0
        for p in range(parts.size - 1):
            first, last = starts[parts[p]], starts[parts[p + 1]]
            densities = densities_of_all[: (last - first) * size].reshape((last - first, size))
            np.dot(matrix[first:last], rows, densities)
            while s < sharp.size and sharp[s] < last:
                for i in range(size):
                    densities[sharp[s] - first, i] = max(exact_densities[s, i], LOG2_OF_NOTHING)
                s += 1
            for m in range(parts[p], parts[p + 1]):
                own = densities[starts[m] - first : starts[m + 1] - first]
                put_log_sums(own, peaks, masses, scores[start : start + block], m)
