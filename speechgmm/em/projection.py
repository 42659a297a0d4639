"""Log-densities of blocks of frames as matrix products: float32 where that is exact enough, float64 elsewhere."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from speechgmm.em.coordinates import Coordinates, Float32s, Float64s
from speechgmm.em.mixture import LOG_2, LOG_TWO_PI, Mixture
from speechgmm.em.terms import LOG2_OF_NOTHING

# A component whose mean lies farther from the origin than this, squared and in its own deviations, is sharp:
# terms of that size cancel in its log-density, and float32 holds seven digits of them.
SHARP = 300.0
# Beyond this its sums need float64 too: variances are differences of sums, but may lose a few digits more.
SHARP_SUMS = 1e4
# Beyond this even float64 loses what matters: a millionth of a nat.
TOO_SHARP = 1e9


class Projection:
    """Components made ready for products with the terms of frames.

    Parameters
    ----------
    exact : (n_components, n_terms) float64
        `exact @ terms` are log2 of weight times density, in coordinates.
    sharpness : (n_components,)
        See `CovarianceType.terms`.

    Attributes
    ----------
    matrix : (n_components, n_terms) float32
        Finite; sharp components have rows of zeros.
    sharp : (n_sharp,) int
        The components whose densities need float64, the sharpest first.
    n_exact_sums : int
        How many of them have sums that need it too.
    sharp_rows : (n_sharp, n_terms) float64
    too_sharp : bool
        Whether even that is not enough for one of them.
    """

    def __init__(self, exact: Float64s, sharpness: Float64s) -> None:
        self.exact = exact
        self.sharpness = sharpness
        # Not "greater than": what is not a number or infinite is sharp too.
        sharp = np.flatnonzero(~(sharpness <= SHARP))
        order = np.argsort(-np.nan_to_num(sharpness[sharp], nan=np.inf), kind="stable")
        self.sharp: NDArray[np.int64] = sharp[order].astype(np.int64)
        self.n_exact_sums = int((~(sharpness[sharp] <= SHARP_SUMS)).sum())
        self.too_sharp = bool((~(sharpness <= TOO_SHARP)).any())
        rough = exact.copy()
        rough[self.sharp] = 0.0
        self.matrix: Float32s = np.ascontiguousarray(np.maximum(rough, LOG2_OF_NOTHING), np.float32)
        self.sharp_rows = np.ascontiguousarray(exact[self.sharp])

    @classmethod
    def of(cls, mixture: Mixture, coordinates: Coordinates) -> "Projection":
        """The projection of a mixture, for frames in the given coordinates.

        Raises
        ------
        InputError
            If the coordinates do not suit the mixture's covariances.
        """
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            covariances = mixture.type.apply(mixture.covariances, coordinates)
            exact, sharpness = mixture.type.terms(coordinates.apply(mixture.means), covariances)
            exact[:, -1] += np.log(mixture.weights) - 0.5 * (
                LOG_TWO_PI * mixture.n_features + _log_determinants(mixture, covariances)
            )
        return cls(exact / LOG_2, sharpness)

    @classmethod
    def side_by_side(cls, projections: "Sequence[Projection]") -> "Projection":
        """Several as one, each filled up to the same number of components with ones that never matter."""
        width = max(len(projection.exact) for projection in projections)
        exact = np.zeros((len(projections), width, projections[0].exact.shape[1]))
        exact[:, :, -1] = LOG2_OF_NOTHING
        sharpness = np.zeros((len(projections), width))
        for index, projection in enumerate(projections):
            exact[index, : len(projection.exact)] = projection.exact
            sharpness[index, : len(projection.exact)] = projection.sharpness
        return cls(exact.reshape(-1, exact.shape[2]), sharpness.ravel())


def working_coordinates(mixture: Mixture, coordinates: Coordinates) -> Coordinates:
    """Coordinates in which the terms of this mixture are formed: for tied covariances those that whiten them."""
    if mixture.covariance_type == "tied":
        return coordinates.whitening(mixture.covariances, 1e-15)
    return coordinates


def _log_determinants(mixture: Mixture, covariances: Float64s) -> Float64s:
    if mixture.has_matrices:
        return np.asarray(np.linalg.slogdet(covariances)[1])
    return np.asarray(np.log(mixture.type.expanded(covariances, *mixture.means.shape)).sum(axis=1))
