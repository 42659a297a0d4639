"""The terms of a log-density: what the engine's matrix products are made of.

A log-density is linear in these terms of a frame x, given in `Coordinates`, so densities of a block of frames under
all components are one matrix product, and the sums that EM needs are another:

- DIAG: [x, x², 1]
- SPHERICAL: [x, |x|², 1]
- FULL: [x, x_i x_j for i <= j, 1]
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

DIAG, SPHERICAL, FULL = 0, 1, 2
# Frames handled at a time: fixed, because it decides the last bits.
BLOCK = 512
# Frames beyond so many deviations are handled one by one: their squares lose digits in float32.
FAR = 16.0
# Stands for log2(0) in products: finite, because infinity times zero is not a number.
LOG2_OF_NOTHING = -1e30
# Bytes of float32 terms that leave room in the cache for densities.
ROOM = 2**20


def n_terms(kind: int, n_features: int) -> int:
    """How many terms a frame has."""
    squares = {DIAG: n_features, SPHERICAL: 1, FULL: n_features * (n_features + 1) // 2}[kind]
    return n_features + squares + 1


def block_size(kind: int, n_features: int) -> int:
    """Frames whose terms and densities stay in cache; it divides `BLOCK`."""
    size = BLOCK
    while size > 32 and 4 * size * n_terms(kind, n_features) > ROOM:
        size //= 2
    return size


def terms_of(x: NDArray[Any], kind: int) -> NDArray[Any]:
    """The terms of frames, (n_terms, n_frames), by NumPy: for a few frames at a time, where loading the compiled
    pass would take longer.

    Parameters
    ----------
    x : (n_features, n_frames) float32 or float64
        In coordinates.
    """
    rows, columns = pairs(len(x)) if kind == FULL else (slice(None), slice(None))
    squares = x[rows] * x[columns]
    if kind == SPHERICAL:
        squares = squares.sum(axis=0, keepdims=True)
    return np.concatenate([x, squares, np.ones((1, x.shape[1]), x.dtype)])


def pairs(n_features: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Numbers i <= j of the features in each product of FULL terms, in their order."""
    return np.triu_indices(n_features)
