"""Log-densities of blocks of frames as matrix products: float32 where that is exact enough, float64 elsewhere."""

import numpy as np
from numpy.typing import NDArray

from speechgmm.em.coordinates import Float32s, Float64s
from speechgmm.em.mixture import LOG2_E

# Frames beyond so many deviations are handled one by one: their squares lose digits in float32.
FAR = 64.0
# A component whose mean lies farther from the origin than this, squared and in its own deviations, is sharp:
# terms of that size cancel in its log-density, and float32 holds seven digits of them. No mean counts as nearer
# than a hundredth of the scale.
SHARP = 1e3
NEAREST = 1e-2
# Beyond this even frames themselves, rounded to float32, are too coarse.
TOO_SHARP = 1e6
# Stands for log2(0) in products: finite, because infinity times zero is not a number.
LOG2_OF_NOTHING = -1e30


class Projection:
    """Components made ready for products with expanded frames `[x, x², 1]`.

    Parameters
    ----------
    exact : (2 * n_features + 1, n_columns) float64
        See `Mixture.projection`; of one mixture, or of several side by side.
    """

    def __init__(self, exact: Float64s) -> None:
        n_features = len(exact) // 2
        linear, quadratic = exact[:n_features], exact[n_features:-1]
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            precisions = -2.0 / LOG2_E * quadratic
            sharpness = (np.square(linear / LOG2_E) / precisions + NEAREST**2 * precisions).sum(axis=0)
        # Not "greater than": what is not a number or infinite is sharp too. Columns of padding are not.
        sharpness[quadratic[0] == 0] = 0.0
        self.sharp: NDArray[np.intp] = np.flatnonzero(~(sharpness <= SHARP))
        self.too_sharp = bool((~(sharpness <= TOO_SHARP)).any())
        self._exact = np.ascontiguousarray(exact[:, self.sharp])
        rough = exact.copy()
        rough[:, self.sharp] = 0.0
        self.matrix: Float32s = np.ascontiguousarray(np.maximum(rough, LOG2_OF_NOTHING), np.float32)

    def log2_densities(self, expanded: Float32s, out: Float32s) -> None:
        """Write log2 of weight times density of each frame under each component, (n_frames, n_columns)."""
        np.matmul(expanded, self.matrix, out=out)
        if self.sharp.size:
            out[:, self.sharp] = np.maximum(in_float64(expanded) @ self._exact, LOG2_OF_NOTHING)

    def correct_sums(
        self, sums: Float64s, expanded: Float32s, shares: Float32s, posteriors: Float32s
    ) -> None:
        """Put in float64 what a float32 product gave for sharp components.

        Parameters
        ----------
        sums : (2 * n_features + 1, n_columns) float64
            `expanded.T @ posteriors` of this block, changed in place.
        expanded : (n_frames, 2 * n_features + 1) float32
        shares : (n_frames,) float32
            What the posteriors of each frame are to be multiplied by.
        posteriors : (n_frames, n_columns) float32
        """
        if self.sharp.size:
            weighted = posteriors[:, self.sharp] * shares[:, None].astype(np.float64)
            sums[:, self.sharp] = in_float64(expanded).T @ weighted


def in_float64(expanded: Float32s) -> Float64s:
    """Expanded frames with squares that are exact."""
    values = expanded[:, : expanded.shape[1] // 2].astype(np.float64)
    return np.concatenate([values, values * values, np.ones((len(values), 1))], axis=1)
