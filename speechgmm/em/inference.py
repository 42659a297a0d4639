"""What a mixture says of many frames, in float64: log-likelihoods, posteriors, the most probable components."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechgmm.em import kernels
from speechgmm.em.coordinates import Coordinates, Float64s, Floats, require_finite
from speechgmm.em.mixture import LOG_2, Mixture, log_sum_exp, normalised
from speechgmm.em.moments import moments_of
from speechgmm.em.projection import Projection, working_coordinates
from speechgmm.em.sources import SHARD, FrameSource, Shard
from speechgmm.em.statistics import source_for
from speechgmm.em.terms import block_size, n_terms
from speechgmm.errors import InputError
from speechgmm.parallel import one_blas_thread, shard_map

# Terms of a log-density may cancel; up to this size that costs at most 1e-10 of it in float64.
LARGEST_TERMS = 1e5
# Directions with less than this fraction of the largest variance are not stretched to unit variance.
LEAST_STRETCHED = 1e-10


def log_likelihoods(mixture: Mixture, frames: Any, n_jobs: int = 1) -> Float64s:
    """Log-likelihood of each frame, natural log.

    Parameters
    ----------
    mixture : Mixture
    frames : (n_frames, n_features) array or FrameSource
        Memory maps are read shard by shard.
    n_jobs : int
        Threads. The result does not depend on it.

    Returns
    -------
    (n_frames,) float64
        That of a frame is the same whatever other frames come with it, to 1e-9 (relative where it is beyond 1).

    Raises
    ------
    InputError
        If the shapes disagree, a value is not finite, or so large that its square overflows.
    """
    return _answers(mixture, frames, n_jobs, log_sum_exp, (), np.float64)


def mean_log_likelihoods(mixture: Mixture, utterances: Sequence[Floats], n_jobs: int = 1) -> Float64s:
    """Mean log-likelihood per frame of each of many utterances, (n_utterances,) float64.

    The same bits as the means of `log_likelihoods` of each, with the mixture made ready once for all; errors as there.
    """
    sources = [source_for(mixture, frames) for frames in utterances]
    work = partial(_answer_shard, _Densities(mixture), log_sum_exp)

    def mean(source: FrameSource) -> float:
        return float(np.concatenate([work(numbered) for numbered in enumerate(source.shards())]).mean())

    with one_blas_thread():
        return np.array(list(shard_map(mean, sources, n_jobs)))


def posteriors(mixture: Mixture, frames: Any, n_jobs: int = 1) -> Float64s:
    """Probability of each component given each frame, (n_frames, n_components) float64; rows sum to 1.

    Arguments and errors are those of `log_likelihoods`.
    """
    return _answers(mixture, frames, n_jobs, normalised, (mixture.n_components,), np.float64)


def assign(mixture: Mixture, frames: Any, n_jobs: int = 1) -> NDArray[np.intp]:
    """The number of the most probable component of each frame, (n_frames,); the first of several equal ones.

    Arguments and errors are those of `log_likelihoods`.
    """
    return _answers(mixture, frames, n_jobs, _most_probable, (), np.intp)


def _most_probable(log_densities: Float64s) -> NDArray[np.intp]:
    return np.asarray(np.argmax(log_densities, axis=1))


def _answers(
    mixture: Mixture,
    frames: Any,
    n_jobs: int,
    answer: Callable[[Float64s], NDArray[Any]],
    shape: tuple[int, ...],
    dtype: type,
) -> NDArray[Any]:
    """What `answer` makes of the log-densities (n, n_components) of each block, for all frames."""
    source = source_for(mixture, frames)
    result: NDArray[Any] = np.empty((source.n_frames, *shape), dtype)
    with one_blas_thread():
        work = partial(_answer_shard, _Densities(mixture), answer)
        for number, part in enumerate(shard_map(work, enumerate(source.shards()), n_jobs)):
            result[number * SHARD : number * SHARD + len(part)] = part
    return result


def _answer_shard(
    densities: "_Densities", answer: Callable[[Float64s], NDArray[Any]], numbered: tuple[int, Shard]
) -> NDArray[Any]:
    number, (frames, _) = numbered
    parts = []
    for start in range(0, len(frames), densities.block):
        block = frames[start : start + densities.block]
        require_finite(block, number * SHARD + start)
        parts.append(answer(densities.of(block)))
    return np.concatenate(parts)


class _Densities:
    """Log-densities under one mixture: a product with the frames' terms, or the plain equation where those cancel."""

    def __init__(self, mixture: Mixture) -> None:
        self._kind = mixture.type.kind
        self._coordinates = _own_coordinates(mixture)
        projection = Projection.of(mixture, self._coordinates)
        exact = projection.exact * LOG_2
        self._matrix = np.ascontiguousarray(exact[:, :-1].T)
        self._constants = exact[:, -1] - self._coordinates.log_volume
        # Not "greater than": what is not a number is sharp too.
        self._sharp = np.flatnonzero(~(projection.sharpness <= LARGEST_TERMS))
        if self._sharp.size:
            self._sharp_part, self._sharp_weights = _evenly_weighted(mixture, self._sharp)
        self.block = block_size(self._kind, mixture.n_features)

    def of(self, frames: Floats) -> Float64s:
        """Log of weight times density, (n_frames, n_components)."""
        with np.errstate(over="ignore", invalid="ignore"):
            result = self._terms(frames)[:-1].T @ self._matrix
            result += self._constants
            if self._sharp.size:
                plain = self._sharp_part.unchecked_log_densities(frames)
                result[:, self._sharp] = plain + self._sharp_weights
        if not np.isfinite(result.max(axis=1)).all():
            raise InputError(
                "`frames` has values so large, or so far from every component, that their squares overflow; "
                "scale them down"
            )
        return np.asarray(result)

    def _terms(self, frames: Floats) -> Float64s:
        """The terms of frames in coordinates, (n_terms, n_frames)."""
        x = np.ascontiguousarray(self._coordinates.apply(frames))
        n, n_features = x.shape
        terms = np.empty((n_terms(self._kind, n_features), n))
        peaks = np.empty(n, np.float32)
        kernels.expand(x, np.zeros(n_features), np.ones(n_features), self._kind, terms, peaks)
        return terms


def _own_coordinates(mixture: Mixture) -> Coordinates:
    """Coordinates in which the mixture as a whole has mean zero and variances of order one."""
    described = moments_of(mixture)
    if mixture.covariance_type != "full":
        kind = "spherical" if mixture.covariance_type == "spherical" else "diag"
        return working_coordinates(mixture, described.coordinates(kind))
    return described.coordinates("diag").whitening(described.reference_covariance(), LEAST_STRETCHED)


def _evenly_weighted(mixture: Mixture, components: NDArray[np.intp]) -> tuple[Mixture, Float64s]:
    """Some components as a mixture with equal weights, and what that takes from their log-densities."""
    n = components.size
    covariances = mixture.type.keep(mixture.covariances, components)
    part = Mixture(np.full(n, 1 / n), mixture.means[components], covariances, mixture.covariance_type)
    with np.errstate(divide="ignore"):
        return part, np.log(n * mixture.weights[components])
