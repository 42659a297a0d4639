"""Compiled derivatives of frames along time: no checks, in place, the interpreter lock released.

Each takes `n` columns of `frames` from `source` on and writes as many, or a multiple, from `target` on. Sums are in
float64, where the products of float32 values and small whole numbers are exact.
"""

import numpy as np
from numba import types

from speechgmm.compiled import MATRIX32, VECTOR64, compiled

COUNT = types.int64


@compiled(types.void(MATRIX32, COUNT, COUNT, COUNT, COUNT))
def slopes(frames, source, target, n, width):  # type: ignore[no-untyped-def]
    """Slope of the line fitted to the frames up to `width` to either side; the first and last frame are repeated."""
    last, total, squares = frames.shape[0] - 1, np.empty(n, np.float64), 0
    for step in range(1, width + 1):
        squares += 2 * step * step
    share = 1.0 / squares
    for t in range(frames.shape[0]):
        total[:] = 0.0
        for step in range(1, width + 1):
            later = frames[min(t + step, last), source : source + n]
            earlier = frames[max(t - step, 0), source : source + n]
            factor = np.float64(step)
            for c in range(n):
                total[c] += factor * (np.float64(later[c]) - np.float64(earlier[c]))
        out = frames[t, target : target + n]
        for c in range(n):
            out[c] = total[c] * share


@compiled(types.void(MATRIX32, COUNT, COUNT, COUNT, VECTOR64))
def curvatures(frames, source, target, n, weights):  # type: ignore[no-untyped-def]
    """Sums over the frames to either side, each counted from the frame between, by their distance's weight; the first
    and last frame are repeated."""
    last, total = frames.shape[0] - 1, np.empty(n, np.float64)
    for t in range(frames.shape[0]):
        total[:] = 0.0
        here = frames[t, source : source + n]
        for step in range(1, weights.size + 1):
            later = frames[min(t + step, last), source : source + n]
            earlier = frames[max(t - step, 0), source : source + n]
            weight = weights[step - 1]
            for c in range(n):
                middle = np.float64(here[c])
                total[c] += weight * ((np.float64(later[c]) - middle) + (np.float64(earlier[c]) - middle))
        out = frames[t, target : target + n]
        for c in range(n):
            out[c] = total[c]


@compiled(types.void(MATRIX32, COUNT, COUNT, COUNT, COUNT, COUNT, COUNT))
def shifted_deltas(frames, source, target, n, reach, shift, blocks):  # type: ignore[no-untyped-def]
    """Differences over `reach` frames to either side of `blocks` places, `shift` frames apart from each frame on; the
    first and last frame are repeated."""
    last = frames.shape[0] - 1
    for t in range(frames.shape[0]):
        for block in range(blocks):
            place, start = t + block * shift, target + block * n
            later = frames[min(place + reach, last), source : source + n]
            earlier = frames[min(max(place - reach, 0), last), source : source + n]
            out = frames[t, start : start + n]
            for c in range(n):
                out[c] = later[c] - earlier[c]
