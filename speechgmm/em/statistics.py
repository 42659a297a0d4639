"""Sufficient statistics of frames under a mixture: the unit of work of every training method."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from speechgmm.em import kernels
from speechgmm.em.coordinates import Coordinates, Float32s, Float64s, Floats, require_finite
from speechgmm.em.mixture import BLOCK, LARGEST, LOG_2, Mixture, log_sum_exp
from speechgmm.em.projection import FAR, Projection
from speechgmm.em.sources import FrameSource, as_source
from speechgmm.errors import InputError
from speechgmm.parallel import one_blas_thread, ordered_map


@dataclass(frozen=True, eq=False)
class Statistics:
    """Sums over frames, weighted with their posteriors γ; they add: `a + b`.

    Parameters
    ----------
    zeroth : (n_components,) float64
        Σγ, in frames.
    first : (n_components, n_features) float64
        Σγx, x in `coordinates`.
    second : (n_components, n_features) float64
        Σγx².
    log_likelihood : float
        Sum over frames of the natural log-likelihood, in the frames' own units.
    n_frames : int
    coordinates : Coordinates
    """

    zeroth: Float64s
    first: Float64s
    second: Float64s
    log_likelihood: float
    n_frames: int
    coordinates: Coordinates

    def __add__(self, other: "Statistics") -> "Statistics":
        if self.first.shape != other.first.shape:
            raise InputError(
                f"statistics of shapes {self.first.shape} and {other.first.shape} cannot be added"
            )
        if not self.coordinates.same_as(other.coordinates):
            raise InputError("statistics in different coordinates (origin, scale) cannot be added")
        return Statistics(
            self.zeroth + other.zeroth,
            self.first + other.first,
            self.second + other.second,
            self.log_likelihood + other.log_likelihood,
            self.n_frames + other.n_frames,
            self.coordinates,
        )

    @property
    def mean_log_likelihood(self) -> float:
        """Log-likelihood per frame."""
        return self.log_likelihood / self.n_frames


@dataclass(frozen=True, eq=False)
class Moments:
    """The number, the mean and the variance of frames, each dimension by itself, in float64."""

    n_frames: int
    mean: Float64s
    variance: Float64s


def moments(frames: Any, n_jobs: int = 1) -> Moments:
    """Mean and variance of every dimension; also the place where each frame's values are checked.

    Parameters
    ----------
    frames : (n_frames, n_features) array or FrameSource

    Raises
    ------
    InputError
        If there is no frame, or a value is NaN, infinite, or so large that its square overflows.
    """
    source = as_source(frames)
    shift = np.asarray(source.rows(slice(0, 1)), np.float64)[0]
    require_finite(shift[None, :])
    total, squares = np.zeros(source.n_features), np.zeros(source.n_features)
    for sums in ordered_map(partial(_shifted_sums, shift), source.shards(), n_jobs):
        if not np.isfinite(sums).all():
            _explain_overflow(source)
        total, squares = total + sums[0], squares + sums[1]
    if np.sqrt(squares.max() / source.n_frames) + np.abs(shift).max() > LARGEST:
        raise InputError("`frames` has values so large that float32 cannot hold them; scale them down")
    mean = total / source.n_frames
    variance = np.maximum(squares / source.n_frames - mean * mean, 0.0)
    return Moments(source.n_frames, mean + shift, variance)


def _shifted_sums(shift: Float64s, shard: Floats) -> Float64s:
    """Sums of (x - shift) and (x - shift)² over a shard, (2, n_features)."""
    sums = np.zeros((2, shift.size))
    for start in range(0, len(shard), BLOCK):
        with np.errstate(over="ignore", invalid="ignore"):
            centred = shard[start : start + BLOCK] - shift
            sums[0] += centred.sum(axis=0)
            sums[1] += np.einsum("ij,ij->j", centred, centred)
    return sums


def _explain_overflow(source: FrameSource) -> None:
    row = 0
    for shard in source.shards():
        require_finite(shard, row)
        row += len(shard)
    raise InputError("`frames` has values so large that their squares overflow; scale them down")


def accumulate(
    mixture: Mixture, frames: Any, coordinates: Coordinates | None = None, n_jobs: int = 1
) -> Statistics:
    """The E-step: statistics of frames under a mixture.

    Two matrix products and one compiled pass a block of 512 frames, in float32 with float64 sums. The bits do
    not depend on `n_jobs`.

    Parameters
    ----------
    mixture : Mixture
    frames : (n_frames, n_features) array or FrameSource
        Finite, as `moments` checks.
    coordinates : Coordinates, optional
        Default: the frames' own.
    n_jobs : int
        Threads, one BLAS thread each.

    Raises
    ------
    InputError
        If the shapes disagree.
    """
    source = as_source(frames)
    if source.n_features != mixture.n_features:
        raise InputError(f"`frames` has {source.n_features} features; the mixture has {mixture.n_features}")
    if coordinates is None:
        measured = moments(source, n_jobs)
        coordinates = Coordinates.from_moments(measured.mean, measured.variance)
    projection = Projection(mixture.projection(coordinates))
    if projection.too_sharp or source.n_frames <= BLOCK:
        # So few frames do not average rounding away.
        exact = None if projection.too_sharp else mixture.projection(coordinates)
        work = partial(_accumulate_shard_exactly, mixture, coordinates, exact)
    else:
        work = partial(_accumulate_shard, mixture, projection, coordinates)
    with one_blas_thread():
        parts = ordered_map(work, source.shards(), n_jobs)
        total = next(parts)
        for part in parts:
            total = total + part
    if not np.isfinite(total.first).all():
        _explain_overflow(source)
    return total


def _accumulate_shard(
    mixture: Mixture, projection: Projection, coordinates: Coordinates, shard: Floats
) -> Statistics:
    """Statistics of up to `SHARD` frames; the buffers stay in cache from block to block."""
    n_rows, n_components = projection.matrix.shape
    size = min(BLOCK, len(shard))
    expanded = np.empty((size, n_rows), np.float32)
    scaled = np.empty((size, n_rows), np.float32)
    log2_densities = np.empty((size, n_components), np.float32)
    product = np.empty((n_rows, n_components), np.float64 if projection.sharp.size else np.float32)
    origin, inverse_scale = coordinates.in_precision(shard.dtype)
    sums, log2_likelihood, far_likelihood = np.zeros((n_rows, n_components)), 0.0, 0.0
    for start in range(0, len(shard), BLOCK):
        block = np.ascontiguousarray(shard[start : start + BLOCK])
        if kernels.expand(block, origin, inverse_scale, expanded[: len(block)]) > FAR:
            block, far = _set_apart(block, expanded)
            far_sums, far_part = _accumulate_exactly(mixture, coordinates, far)
            sums += far_sums
            far_likelihood += far_part
        n = len(block)
        projection.log2_densities(expanded[:n], log2_densities[:n])
        log2_likelihood += kernels.posteriors(log2_densities[:n], expanded[:n], scaled[:n])
        np.matmul(scaled[:n].T, log2_densities[:n], out=product)
        projection.correct_sums(product, expanded[:n], scaled[:n, -1], log2_densities[:n])
        sums += product
    log_likelihood = log2_likelihood * LOG_2 - len(shard) * coordinates.log_volume + far_likelihood
    return _statistics(sums, log_likelihood, len(shard), coordinates)


def _statistics(sums: Float64s, log_likelihood: float, n_frames: int, coordinates: Coordinates) -> Statistics:
    """Name the rows of `[x, x², 1].T @ posteriors`."""
    n_features = coordinates.origin.size
    return Statistics(
        zeroth=sums[2 * n_features],
        first=np.ascontiguousarray(sums[:n_features].T),
        second=np.ascontiguousarray(sums[n_features : 2 * n_features].T),
        log_likelihood=log_likelihood,
        n_frames=n_frames,
        coordinates=coordinates,
    )


def _set_apart(block: Floats, expanded: Float32s) -> tuple[Floats, Floats]:
    """Move the near rows of `expanded` to the front; return the near and the far frames."""
    n_features = block.shape[1]
    far = np.abs(expanded[: len(block), :n_features]).max(axis=1) > FAR
    near = np.flatnonzero(~far)
    expanded[: near.size] = expanded[near]
    return block[near], block[far]


def _accumulate_shard_exactly(
    mixture: Mixture, coordinates: Coordinates, exact: Float64s | None, shard: Floats
) -> Statistics:
    """As `_accumulate_shard`, but all in float64."""
    sums, log_likelihood = np.zeros((2 * mixture.n_features + 1, mixture.n_components)), 0.0
    for start in range(0, len(shard), BLOCK):
        block = shard[start : start + BLOCK]
        part, part_likelihood = _accumulate_exactly(mixture, coordinates, block, exact)
        sums += part
        log_likelihood += part_likelihood
    return _statistics(sums, log_likelihood - len(shard) * coordinates.log_volume, len(shard), coordinates)


def _accumulate_exactly(
    mixture: Mixture, coordinates: Coordinates, frames: Floats, exact: Float64s | None = None
) -> tuple[Float64s, float]:
    """The same sums in float64, and the log-likelihood in coordinates.

    Densities come from the product with the exact projection, or, where terms would cancel even in float64 (of
    frames far from all others, or very sharp components), from the plain equation.
    """
    x = coordinates.apply(frames)
    expanded = np.concatenate([x, x * x, np.ones((len(x), 1))], axis=1)
    with np.errstate(invalid="ignore"):  # a value that is not finite shows in the sums
        if exact is None:
            log_densities = mixture.unchecked_log_densities(frames) + coordinates.log_volume
        else:
            log_densities = (expanded @ exact) * LOG_2
        log_likelihoods = log_sum_exp(log_densities)
        gamma = np.exp(log_densities - log_likelihoods[:, None])
    return expanded.T @ gamma, float(log_likelihoods.sum())
