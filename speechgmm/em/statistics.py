"""Sufficient statistics of frames under a mixture: the unit of work of every training method."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from speechgmm.em import kernels
from speechgmm.em.coordinates import Coordinates, Float64s, Floats
from speechgmm.em.mixture import LOG_2, Mixture, log_sum_exp, normalised
from speechgmm.em.moments import explain_overflow, moments
from speechgmm.em.projection import Projection, working_coordinates
from speechgmm.em.sources import FrameSource, Shard, as_source
from speechgmm.em.terms import BLOCK, block_size, n_terms
from speechgmm.errors import InputError
from speechgmm.parallel import one_blas_thread, shard_map

NO_WEIGHTS = np.empty(0)


@dataclass(frozen=True, eq=False)
class Statistics:
    """Sums over frames, weighted with their posteriors γ; they add: `a + b`.

    Parameters
    ----------
    zeroth : (n_components,) float64
        Σγ, in frames.
    first : (n_components, n_features) float64
        Σγx, x in `coordinates`.
    second : float64
        "diag": Σγx² (n_components, n_features); "full": Σγxx' (n_components, n_features, n_features); "tied": Σxx'
        (n_features, n_features) over all components; "spherical": Σγ|x|² (n_components,).
    log_likelihood : float
        Sum over frames of the natural log-likelihood, in the frames' own units.
    n_frames : float
        The sum of their weights, where they have any.
    coordinates : Coordinates
    covariance_type : str
    """

    zeroth: Float64s
    first: Float64s
    second: Float64s
    log_likelihood: float
    n_frames: float
    coordinates: Coordinates
    covariance_type: str = "diag"

    def __add__(self, other: "Statistics") -> "Statistics":
        if self.first.shape != other.first.shape or self.covariance_type != other.covariance_type:
            raise InputError(
                f"statistics of shapes {self.first.shape} ({self.covariance_type}) and {other.first.shape} "
                f"({other.covariance_type}) cannot be added"
            )
        if not self.coordinates.same_as(other.coordinates):
            raise InputError("statistics in different coordinates (origin, scale) cannot be added")
        return replace(
            self,
            zeroth=self.zeroth + other.zeroth,
            first=self.first + other.first,
            second=self.second + other.second,
            log_likelihood=self.log_likelihood + other.log_likelihood,
            n_frames=self.n_frames + other.n_frames,
        )

    def scaled(self, factor: float) -> "Statistics":
        """The statistics of the same frames, each counting `factor` times."""
        return replace(
            self,
            zeroth=factor * self.zeroth,
            first=factor * self.first,
            second=factor * self.second,
            log_likelihood=factor * self.log_likelihood,
            n_frames=factor * self.n_frames,
        )

    @property
    def mean_log_likelihood(self) -> float:
        """Log-likelihood per frame."""
        return self.log_likelihood / self.n_frames


def accumulate(
    mixture: Mixture, frames: Any, coordinates: Coordinates | None = None, n_jobs: int = 1
) -> Statistics:
    """The E-step: statistics of frames under a mixture.

    Two matrix products and one compiled pass a block of frames, in float32 with float64 sums. The bits do not
    depend on `n_jobs`.

    Parameters
    ----------
    mixture : Mixture
    frames : (n_frames, n_features) array or FrameSource
        Finite, as `moments` checks.
    coordinates : Coordinates, optional
        Default: those that suit the frames and the kind of covariance.
    n_jobs : int
        Threads, one BLAS thread each.

    Raises
    ------
    InputError
        If the shapes disagree, or coordinates do not suit the kind of covariance.
    """
    source = source_for(mixture, frames)
    if coordinates is None:
        measured = moments(source, n_jobs, covariance=mixture.has_matrices)
        coordinates = measured.coordinates(mixture.covariance_type)
    return EStep(mixture, coordinates).statistics_of(source, n_jobs)


def source_for(mixture: Mixture, frames: Any) -> FrameSource:
    """Frames as a source; raises `InputError` unless they have as many features as the mixture."""
    source = as_source(frames)
    if source.n_features != mixture.n_features:
        raise InputError(
            f"`frames` has {source.n_features} features; the mixture has {mixture.n_features} "
            "(deltas missing, or other settings?)"
        )
    return source


class EStep:
    """The E-step under one mixture, made ready once for many sets of frames.

    Parameters
    ----------
    mixture : Mixture
    coordinates : Coordinates
        Those of the statistics.
    short_exactly : bool
        Whether 512 frames and fewer go through float64. The compiled pass is several times as fast, but what it rounds
        does not average away over so few: sums are then good to 1e-5 of the largest, log-likelihoods to 1e-4 nats a
        frame.

    Raises
    ------
    InputError
        If the coordinates do not suit the kind of covariance.
    """

    def __init__(self, mixture: Mixture, coordinates: Coordinates, *, short_exactly: bool = True) -> None:
        self.mixture = mixture
        self._short_exactly = short_exactly
        self._wanted = coordinates
        self.kind = mixture.type.kind
        self.n_terms = n_terms(self.kind, mixture.n_features)
        with one_blas_thread():
            self.coordinates = working_coordinates(mixture, coordinates)
            self.projection = Projection.of(mixture, self.coordinates)
        self._place = np.stack([self.coordinates.origin, 1.0 / self.coordinates.scale])

    def statistics_of(self, frames: Any, n_jobs: int = 1) -> Statistics:
        """Statistics of frames; arguments, errors and, by default, bits are those of `accumulate`."""
        source = source_for(self.mixture, frames)
        exactly = (self._short_exactly and source.n_frames <= BLOCK) or self.projection.too_sharp
        with one_blas_thread():
            parts = shard_map(partial(_accumulate_shard, self, exactly), source.shards(), n_jobs)
            total = next(parts)
            for part in parts:
                total = total + part
            if not np.isfinite(total.first).all():
                explain_overflow(source)
            return total if self.coordinates is self._wanted else _in_coordinates(total, self._wanted)

    def for_kernels(self, frames: Floats) -> tuple[Floats, Float64s]:
        """Frames, and origin and inverse scale (2, n_features), for compiled passes, which cannot turn frames."""
        if self.coordinates.transform is None:
            return np.ascontiguousarray(frames), self._place
        turned = self.coordinates.apply(np.ascontiguousarray(frames))
        return turned, np.stack([np.zeros(frames.shape[1]), np.ones(frames.shape[1])])

    def statistics(self, sums: Float64s, log_likelihood: float, shard: Shard) -> Statistics:
        """Name the rows of `terms @ posteriors`."""
        n_features = self.mixture.n_features
        if self.mixture.covariance_type == "tied":
            second = _scatter(self.coordinates, shard)
        else:
            second = self.mixture.type.split_terms(sums[n_features:-1], n_features)
        n_frames = float(len(shard.frames) if shard.weights is None else shard.weights.sum())
        return Statistics(
            zeroth=sums[-1],
            first=np.ascontiguousarray(sums[:n_features].T),
            second=second,
            log_likelihood=log_likelihood - n_frames * self.coordinates.log_volume,
            n_frames=n_frames,
            coordinates=self.coordinates,
            covariance_type=self.mixture.covariance_type,
        )


@np.errstate(over="ignore", invalid="ignore")  # a value that is not finite shows in the sums
def _accumulate_shard(step: EStep, exactly: bool, shard: Shard) -> Statistics:
    """Statistics of one shard: a compiled pass, and float64 for the frames that it leaves out."""
    sums = np.zeros((step.n_terms, step.mixture.n_components))
    if exactly:
        return step.statistics(sums, _add_exactly(step, shard, sums), shard)
    frames, place = step.for_kernels(shard.frames)
    far = np.zeros(len(frames), np.bool_)
    log2_likelihood = kernels.accumulate(
        frames,
        NO_WEIGHTS if shard.weights is None else shard.weights,
        *place.astype(frames.dtype),
        place,
        step.kind,
        min(block_size(step.kind, step.mixture.n_features), len(frames)),  # which decides what room is taken
        step.projection.matrix,
        step.projection.sharp,
        step.projection.n_exact_sums,
        step.projection.sharp_rows,
        far,
        sums,
    )
    log_likelihood = log2_likelihood * LOG_2
    if far.any():
        apart = Shard(shard.frames[far], None if shard.weights is None else shard.weights[far])
        log_likelihood += _add_exactly(step, apart, sums, plainly=True)
    return step.statistics(sums, log_likelihood, shard)


def _add_exactly(step: EStep, shard: Shard, sums: Float64s, plainly: bool = False) -> float:
    """Add the same sums in float64; return the log-likelihood in coordinates.

    Densities come from the product with the exact projection, or, where terms would cancel even in float64 (of
    frames far from all others, or very sharp components), from the plain equation.
    """
    log_likelihood = 0.0
    for start in range(0, len(shard.frames), BLOCK):
        frames = shard.frames[start : start + BLOCK]
        turned, place = step.for_kernels(frames)
        terms = np.empty((step.n_terms, len(frames)))
        kernels.expand(turned, *place, step.kind, terms, np.empty(len(frames), np.float32))
        if plainly or step.projection.too_sharp:
            log_densities = step.mixture.unchecked_log_densities(frames) + step.coordinates.log_volume
        else:
            log_densities = (step.projection.exact @ terms).T * LOG_2
        log_likelihoods, gamma = log_sum_exp(log_densities), normalised(log_densities)
        if shard.weights is not None:
            weights = shard.weights[start : start + BLOCK]
            gamma *= weights[:, None]
            log_likelihoods = log_likelihoods * weights
        sums += terms @ gamma
        log_likelihood += float(log_likelihoods.sum())
    return log_likelihood


def _scatter(coordinates: Coordinates, shard: Shard) -> Float64s:
    """Σxx' over the frames of a shard, whatever their component."""
    scatter = np.zeros((shard.frames.shape[1],) * 2)
    for start in range(0, len(shard.frames), BLOCK):
        x = coordinates.apply(np.ascontiguousarray(shard.frames[start : start + BLOCK]))
        counts = 1.0 if shard.weights is None else shard.weights[start : start + BLOCK, None]
        scatter += x.T @ (counts * x)
    return scatter


def _in_coordinates(statistics: Statistics, coordinates: Coordinates) -> Statistics:
    """Tied statistics in other coordinates of the same origin and scale."""
    working = statistics.coordinates
    turn: Any = np.eye(coordinates.origin.size) if coordinates.transform is None else coordinates.transform
    if working.transform is not None:
        turn = np.linalg.solve(working.transform, turn)
    return replace(
        statistics,
        first=statistics.first @ turn,
        second=turn.T @ statistics.second @ turn,
        coordinates=coordinates,
    )
