"""The four kinds of covariance, each with its own equations and nothing else.

In all of them K is the number of components and D that of features; `covariances` are in the shape of the kind,
`means` are (K, D). The equations hold in any `Coordinates`; `apply` and `undo` lead there and back.
"""

from abc import ABC, abstractmethod
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from speechgmm.em.coordinates import Coordinates, Float64s, symmetric
from speechgmm.em.terms import DIAG, FULL, SPHERICAL, pairs
from speechgmm.errors import InputError

# No mean counts as nearer to the origin than a hundredth of the scale, when it is asked how sharp a component is.
NEAREST = 1e-2
# The least variance of a component, in units of the coordinates: less cannot be told from rounding.
LEAST_VARIANCE = 1e-6


class CovarianceType(Protocol):
    """What the engine asks of a kind of covariance."""

    @property
    def kind(self) -> int:
        """Which terms a log-density has: see `speechgmm.em.terms`."""
        ...

    def shape(self, K: int, D: int) -> tuple[int, ...]:
        """The shape of `covariances`."""
        ...

    def n_parameters(self, K: int, D: int) -> int:
        """How many free numbers `covariances` hold."""
        ...

    def expanded(self, covariances: Float64s, K: int, D: int) -> Float64s:
        """One for each component: variances (K, D), or matrices (K, D, D)."""
        ...

    def keep(self, covariances: Float64s, components: NDArray[Any]) -> Float64s:
        """Those of some components."""
        ...

    def split_terms(self, sums: Float64s, D: int) -> Float64s:
        """Σγx² in the shape of the kind, from the rows of squares of `terms @ posteriors`, (n_squares, K)."""
        ...

    def estimate(self, zeroth: Float64s, means: Float64s, second: Float64s) -> Float64s:
        """The most likely covariances: second moments about the means. `zeroth` (K,) must be positive."""
        ...

    def second_moments(self, zeroth: Float64s, means: Float64s, covariances: Float64s) -> Float64s:
        """The other way round: Σγx² of frames that have these covariances."""
        ...

    def unit(self, K: int, D: int) -> Float64s:
        """Variances of 1, or identity matrices."""
        ...

    def apply(self, covariances: Float64s, coordinates: Coordinates) -> Float64s:
        """What covariances of frames are in coordinates."""
        ...

    def undo(self, covariances: Float64s, coordinates: Coordinates) -> Float64s:
        """What covariances in coordinates are for frames."""
        ...

    def floored(self, covariances: Float64s, floor: Float64s, coordinates: Coordinates) -> Float64s:
        """Covariances in coordinates, none of them less than a floor in the frames' own units.

        As the constrained maximum of the likelihood has them: each direction by itself. Never less than
        `LEAST_VARIANCE`, whatever the floor.
        """
        ...

    def regularised(self, covariances: Float64s, extra: float) -> Float64s:
        """Covariances with something added to each variance."""
        ...

    def terms(self, means: Float64s, covariances: Float64s) -> tuple[Float64s, Float64s]:
        """Each component's log-density as a product with a frame's terms, and how sharp it is.

        Returns
        -------
        matrix : (K, n_terms)
            The last column holds constants without weight and determinant: -½ μ'Λμ.
        sharpness : (K,)
            The size of the terms that cancel: |μ|'|Λ||μ|, and no less than a mean near the origin would give.
        """
        ...


class Variances(ABC):
    """What kinds with variances have in common."""

    def unit(self, K: int, D: int) -> Float64s:
        return np.ones(self.shape(K, D))

    def apply(self, covariances: Float64s, coordinates: Coordinates) -> Float64s:
        return covariances / self._unit_of(coordinates)

    def undo(self, covariances: Float64s, coordinates: Coordinates) -> Float64s:
        return covariances * self._unit_of(coordinates)

    def floored(self, covariances: Float64s, floor: Float64s, coordinates: Coordinates) -> Float64s:
        least = np.maximum(self._one_floor(floor) / self._unit_of(coordinates), LEAST_VARIANCE)
        return np.asarray(np.maximum(covariances, least))

    def regularised(self, covariances: Float64s, extra: float) -> Float64s:
        return covariances + extra

    @abstractmethod
    def shape(self, K: int, D: int) -> tuple[int, ...]: ...

    def _one_floor(self, floor: Float64s) -> Float64s | np.float64:
        return floor

    def _unit_of(self, coordinates: Coordinates) -> Float64s:
        """What a variance of 1 in coordinates is in the frames' own units."""
        if coordinates.transform is not None:
            raise InputError("coordinates that turn frames do not suit variances")
        return np.square(coordinates.scale)


class Matrices(ABC):
    """What kinds with whole matrices have in common."""

    def unit(self, K: int, D: int) -> Float64s:
        return np.broadcast_to(np.eye(D), self.shape(K, D)).copy()

    def apply(self, covariances: Float64s, coordinates: Coordinates) -> Float64s:
        return coordinates.apply_to_matrices(covariances)

    def undo(self, covariances: Float64s, coordinates: Coordinates) -> Float64s:
        return coordinates.undo_matrices(covariances)

    def floored(self, covariances: Float64s, floor: Float64s, coordinates: Coordinates) -> Float64s:
        matrix = floor if floor.ndim == 2 else np.diag(np.broadcast_to(floor, coordinates.origin.shape))
        values, vectors = np.linalg.eigh(coordinates.apply_to_matrices(matrix))
        root = vectors * np.sqrt(np.maximum(values, LEAST_VARIANCE))
        inverse = np.linalg.inv(root)
        # In units of the floor, where no direction may have less than 1.
        inside = symmetric(inverse @ covariances @ inverse.T)
        for matrix in inside if inside.ndim == 3 else [inside]:
            if not _is_positive_definite(matrix - np.eye(len(matrix))):
                values, vectors = np.linalg.eigh(matrix)
                matrix[:] = (vectors * np.maximum(values, 1.0)) @ vectors.T
        return symmetric(root @ inside @ root.T)

    def regularised(self, covariances: Float64s, extra: float) -> Float64s:
        return covariances + extra * np.eye(covariances.shape[-1])

    @abstractmethod
    def shape(self, K: int, D: int) -> tuple[int, ...]: ...


def _is_positive_definite(matrix: Float64s) -> bool:
    try:
        np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        return False
    return True


class Diag(Variances):
    """Each component has its own variance in each dimension: (K, D)."""

    kind = DIAG

    def shape(self, K: int, D: int) -> tuple[int, ...]:
        return (K, D)

    def n_parameters(self, K: int, D: int) -> int:
        return K * D

    def expanded(self, covariances: Float64s, K: int, D: int) -> Float64s:
        return covariances

    def keep(self, covariances: Float64s, components: NDArray[Any]) -> Float64s:
        return np.asarray(covariances[components])

    def split_terms(self, sums: Float64s, D: int) -> Float64s:
        return np.ascontiguousarray(sums.T)

    def estimate(self, zeroth: Float64s, means: Float64s, second: Float64s) -> Float64s:
        return second / zeroth[:, None] - means * means

    def second_moments(self, zeroth: Float64s, means: Float64s, covariances: Float64s) -> Float64s:
        return zeroth[:, None] * (covariances + means * means)

    def terms(self, means: Float64s, covariances: Float64s) -> tuple[Float64s, Float64s]:
        precisions = 1.0 / covariances
        squared = (means * means * precisions).sum(axis=1)
        matrix = np.concatenate([means * precisions, -0.5 * precisions, -0.5 * squared[:, None]], axis=1)
        return matrix, squared + NEAREST**2 * precisions.sum(axis=1)


class Spherical(Variances):
    """Each component has one variance for all dimensions: (K,)."""

    kind = SPHERICAL

    def shape(self, K: int, D: int) -> tuple[int, ...]:
        return (K,)

    def n_parameters(self, K: int, D: int) -> int:
        return K

    def expanded(self, covariances: Float64s, K: int, D: int) -> Float64s:
        return np.repeat(covariances[:, None], D, axis=1)

    def keep(self, covariances: Float64s, components: NDArray[Any]) -> Float64s:
        return np.asarray(covariances[components])

    def split_terms(self, sums: Float64s, D: int) -> Float64s:
        return np.asarray(sums[0])

    def estimate(self, zeroth: Float64s, means: Float64s, second: Float64s) -> Float64s:
        return np.asarray((second / zeroth - (means * means).sum(axis=1)) / means.shape[1])

    def second_moments(self, zeroth: Float64s, means: Float64s, covariances: Float64s) -> Float64s:
        return np.asarray(zeroth * (means.shape[1] * covariances + (means * means).sum(axis=1)))

    def terms(self, means: Float64s, covariances: Float64s) -> tuple[Float64s, Float64s]:
        precisions = 1.0 / covariances[:, None]
        squared = (means * means * precisions).sum(axis=1)
        matrix = np.concatenate([means * precisions, -0.5 * precisions, -0.5 * squared[:, None]], axis=1)
        return matrix, squared + NEAREST**2 * means.shape[1] * precisions[:, 0]

    def _one_floor(self, floor: Float64s) -> np.float64:
        return np.float64(floor.mean())

    def _unit_of(self, coordinates: Coordinates) -> Float64s:
        if (coordinates.scale != coordinates.scale[0]).any():
            raise InputError("coordinates with several scales do not suit spherical covariances")
        return super()._unit_of(coordinates)[:1]


class Full(Matrices):
    """Each component has a matrix of its own: (K, D, D)."""

    kind = FULL

    def shape(self, K: int, D: int) -> tuple[int, ...]:
        return (K, D, D)

    def n_parameters(self, K: int, D: int) -> int:
        return K * D * (D + 1) // 2

    def expanded(self, covariances: Float64s, K: int, D: int) -> Float64s:
        return covariances

    def keep(self, covariances: Float64s, components: NDArray[Any]) -> Float64s:
        return np.asarray(covariances[components])

    def split_terms(self, sums: Float64s, D: int) -> Float64s:
        rows, columns = pairs(D)
        second = np.empty((sums.shape[1], D, D))
        second[:, rows, columns] = second[:, columns, rows] = sums.T
        return second

    def estimate(self, zeroth: Float64s, means: Float64s, second: Float64s) -> Float64s:
        return second / zeroth[:, None, None] - means[:, :, None] * means[:, None, :]

    def second_moments(self, zeroth: Float64s, means: Float64s, covariances: Float64s) -> Float64s:
        return zeroth[:, None, None] * (covariances + means[:, :, None] * means[:, None, :])

    def terms(self, means: Float64s, covariances: Float64s) -> tuple[Float64s, Float64s]:
        n_features = means.shape[1]
        precisions = symmetric_inverse(covariances)
        linear = np.einsum("kij,kj->ki", precisions, means)
        rows, columns = pairs(n_features)
        # Products of two different features come once, for both halves of the matrix.
        quadratic = precisions[:, rows, columns] * np.where(rows == columns, -0.5, -1.0)
        constants = -0.5 * (linear * means).sum(axis=1, keepdims=True)
        distances = np.einsum("ki,kij,kj->k", np.abs(means), np.abs(precisions), np.abs(means))
        sharpness = distances + NEAREST**2 * np.einsum("kii->k", precisions)
        return np.concatenate([linear, quadratic, constants], axis=1), sharpness


class Tied(Matrices):
    """All components share one matrix: (D, D).

    In coordinates in which that matrix is the identity, log-densities have SPHERICAL terms; `terms` is asked only
    there. Second moments are summed over all frames: (D, D).
    """

    kind = SPHERICAL

    def shape(self, K: int, D: int) -> tuple[int, ...]:
        return (D, D)

    def n_parameters(self, K: int, D: int) -> int:
        return D * (D + 1) // 2

    def expanded(self, covariances: Float64s, K: int, D: int) -> Float64s:
        return np.broadcast_to(covariances, (K, D, D))

    def keep(self, covariances: Float64s, components: NDArray[Any]) -> Float64s:
        return covariances

    def split_terms(self, sums: Float64s, D: int) -> Float64s:
        raise NotImplementedError("second moments of tied covariances are no sums over terms")

    def estimate(self, zeroth: Float64s, means: Float64s, second: Float64s) -> Float64s:
        return np.asarray((second - (means * zeroth[:, None]).T @ means) / zeroth.sum())

    def second_moments(self, zeroth: Float64s, means: Float64s, covariances: Float64s) -> Float64s:
        return np.asarray(zeroth.sum() * covariances + (means * zeroth[:, None]).T @ means)

    def terms(self, means: Float64s, covariances: Float64s) -> tuple[Float64s, Float64s]:
        return Spherical().terms(means, np.ones(len(means)))


COVARIANCE_TYPES: dict[str, CovarianceType] = {
    "diag": Diag(),
    "full": Full(),
    "tied": Tied(),
    "spherical": Spherical(),
}


def covariance_type_of(name: str) -> CovarianceType:
    """The kind of that name.

    Raises
    ------
    InputError
        If there is none.
    """
    if name not in COVARIANCE_TYPES:
        raise InputError(f"`covariance_type` is {name!r}; it must be one of {', '.join(COVARIANCE_TYPES)}")
    return COVARIANCE_TYPES[name]


def symmetric_inverse(matrices: Float64s) -> Float64s:
    """Inverses of positive definite matrices (…, D, D), exactly symmetric."""
    factors = np.linalg.inv(np.linalg.cholesky(matrices))
    return np.asarray(np.swapaxes(factors, -1, -2) @ factors)
