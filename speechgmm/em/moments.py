"""Mean and covariance of all frames, and the coordinates that follow from them."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from speechgmm.em.coordinates import Coordinates, Float64s, reference_variance, require_finite, symmetric
from speechgmm.em.mixture import LARGEST, Mixture
from speechgmm.em.sources import FrameSource, Shard, as_source
from speechgmm.em.terms import BLOCK
from speechgmm.errors import InputError
from speechgmm.parallel import one_blas_thread, shard_map

# Directions in which frames vary by less than this fraction of the most are taken to vary that much: features that
# depend on one another leave some in which they do not vary at all.
LEAST_DIRECTION = 1e-6


@dataclass(frozen=True, eq=False)
class Moments:
    """The number, the mean and the variance of frames, in float64.

    Parameters
    ----------
    n_frames : float
        The sum of their weights, where they have any.
    mean, variance : (n_features,)
    largest : (n_features,), optional
        Squared distance from the mean of the frame that is farthest, in each dimension; of frames without weights.
    covariance : (n_features, n_features), optional
        Where it was asked for.
    """

    n_frames: float
    mean: Float64s
    variance: Float64s
    covariance: Float64s | None = None
    largest: Float64s | None = None

    def coordinates(self, covariance_type: str = "diag") -> Coordinates:
        """Coordinates that suit this kind of covariance: whitening for matrices, one scale for spherical ones."""
        if covariance_type == "spherical":
            reference = reference_variance(self.mean, self.variance)
            return Coordinates(self.mean, np.full(self.mean.size, np.sqrt(reference.mean())))
        plain = Coordinates.from_moments(self.mean, self.variance)
        if covariance_type == "diag":
            return plain
        return plain.whitening(self.reference_covariance(), LEAST_DIRECTION)

    def reference_covariance(self) -> Float64s:
        """The covariance, with a stand-in for dimensions that do not vary; needs `covariance`."""
        if self.covariance is None:
            raise InputError("these moments were measured without the covariance")
        extra = reference_variance(self.mean, self.variance) - self.variance
        return self.covariance + np.diag(extra)


def moments_of(mixture: Mixture) -> Moments:
    """The moments of frames that a mixture describes."""
    mean = mixture.weights @ mixture.means
    apart = mixture.means - mean
    variance = mixture.weights @ (mixture.variances + np.square(apart))
    if not mixture.has_matrices:
        return Moments(1.0, mean, variance)
    matrices = mixture.type.expanded(mixture.covariances, *mixture.means.shape)
    within = np.tensordot(mixture.weights, matrices, axes=1)
    return Moments(1.0, mean, variance, within + (mixture.weights[:, None] * apart).T @ apart)


def moments(frames: Any, n_jobs: int = 1, *, covariance: bool = False) -> Moments:
    """Mean and variance of every dimension; also the place where each frame's values are checked.

    Parameters
    ----------
    frames : (n_frames, n_features) array or FrameSource
    n_jobs : int
        Threads; the result does not depend on it.
    covariance : bool
        Whether to measure the whole matrix.

    Raises
    ------
    InputError
        If there is no frame, or a value is NaN, infinite, or so large that its square overflows.
    """
    source = as_source(frames)
    counted = 0 if source.weights is None else int(np.flatnonzero(source.weights)[0])
    shift = np.asarray(source.rows(slice(counted, counted + 1)), np.float64)[0]
    require_finite(shift[None, :])
    first, second = np.zeros(shift.size), np.zeros((shift.size,) * (2 if covariance else 1))
    low, high = np.full(shift.size, np.inf), np.full(shift.size, -np.inf)
    with one_blas_thread():
        for part in shard_map(partial(_shifted_sums, shift, covariance), source.shards(), n_jobs):
            if not all(np.isfinite(sums).all() for sums in part[:2]):
                explain_overflow(source)
            first, second = first + part[0], second + part[1]
            low, high = np.minimum(low, part[2]), np.maximum(high, part[3])
    n_frames = float(source.n_frames if source.weights is None else source.weights.sum())
    squares = np.diagonal(second) if covariance else second
    if np.sqrt(squares.max() / n_frames) + np.abs(shift).max() > LARGEST:
        raise InputError("`frames` has values so large that float32 cannot hold them; scale them down")
    mean = first / n_frames
    largest = np.square(np.maximum(high - mean, mean - low)) if source.weights is None else None
    if covariance:
        matrix = symmetric(second / n_frames - np.outer(mean, mean))
        return Moments(n_frames, mean + shift, np.maximum(np.diagonal(matrix), 0.0), matrix, largest)
    return Moments(n_frames, mean + shift, np.maximum(second / n_frames - mean * mean, 0.0), None, largest)


def _shifted_sums(
    shift: Float64s, covariance: bool, shard: Shard
) -> tuple[Float64s, Float64s, Float64s, Float64s]:
    """Sums of x - shift and of its squares, or its products, over a shard; its least and its largest values."""
    first, second = np.zeros(shift.size), np.zeros((shift.size,) * (2 if covariance else 1))
    low, high = np.full(shift.size, np.inf), np.full(shift.size, -np.inf)
    for start in range(0, len(shard.frames), BLOCK):
        with np.errstate(over="ignore", invalid="ignore"):
            # Rows together, or NumPy would sum in another order.
            centred = np.ascontiguousarray(shard.frames[start : start + BLOCK]) - shift
            low, high = np.minimum(low, centred.min(axis=0)), np.maximum(high, centred.max(axis=0))
            weighted = centred
            if shard.weights is not None:
                weighted = centred * shard.weights[start : start + BLOCK, None]
            first += weighted.sum(axis=0)
            second += weighted.T @ centred if covariance else np.einsum("ij,ij->j", weighted, centred)
    return first, second, low, high


def explain_overflow(source: FrameSource) -> None:
    """Raise the error that says which value is not finite, or that their squares are not."""
    row = 0
    for shard in source.shards():
        require_finite(shard.frames, row)
        row += len(shard.frames)
    raise InputError("`frames` has values so large that their squares overflow; scale them down")
