"""The method "dense" of `speechgmm.verification.scoring`: all components of whole mixtures, one beside the other."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechgmm.em.coordinates import Float64s, Floats
from speechgmm.em.mixture import LOG_2, Mixture, log_sum_exp
from speechgmm.em.moments import moments_of
from speechgmm.em.projection import Projection
from speechgmm.em.terms import block_size
from speechgmm.verification.fast_scoring import kernels


class DenseScoring:
    """The definition itself, in float32 products where those are exact enough.

    Parameters
    ----------
    ubm : Mixture
    models : iterable of Mixture
    top : int
        Not used: all components count.
    """

    def __init__(self, ubm: Mixture, models: Iterable[Mixture], top: int) -> None:
        type_ = "full" if ubm.has_matrices else "diag"
        self._mixtures = [mixture.with_type(type_) for mixture in (ubm, *models)]
        self._kind = self._mixtures[0].type.kind
        self._coordinates = moments_of(self._mixtures[0]).coordinates(type_)
        self._projections = [Projection.of(mixture, self._coordinates) for mixture in self._mixtures]
        self._block = block_size(self._kind, ubm.n_features)
        place = [self._coordinates.origin, 1.0 / self._coordinates.scale]
        if self._coordinates.transform is not None:  # frames come turned
            place = [np.zeros(ubm.n_features), np.ones(ubm.n_features)]
        self._place = np.stack(place)

    def llrs(self, utterances: Sequence[Floats], models: NDArray[np.integer[Any]]) -> Float64s:
        """Mean llrs per frame, (n_utterances, n_models)."""
        numbers = np.concatenate([[0], models + 1])
        plain = np.array([self._projections[number].too_sharp for number in numbers])
        others = numbers[~plain]
        projection = self._beside(others)
        scores = np.zeros((len(utterances), numbers.size))
        for frames, row in zip(utterances, scores, strict=True):
            row[plain] = self._plainly(frames, numbers[plain])
            row[~plain] = self._log2_likelihoods(frames, others, projection)
            row *= LOG_2 / len(frames)
        return np.asarray(scores[:, 1:] - scores[:, :1])

    def _beside(self, numbers: NDArray[np.integer[Any]]) -> Projection | None:
        if np.array_equal(numbers, np.arange(len(self._mixtures))):
            return self._everyone
        if numbers.size == 0:
            return None
        return Projection.side_by_side([self._projections[number] for number in numbers])

    @cached_property
    def _everyone(self) -> Projection:
        return Projection.side_by_side(self._projections)

    def _log2_likelihoods(
        self, frames: Floats, numbers: NDArray[np.integer[Any]], projection: Projection | None
    ) -> Float64s:
        """Sums over all frames under each mixture, in coordinates."""
        totals, far = np.zeros(numbers.size), np.zeros(len(frames), np.bool_)
        if projection is None:
            return totals
        turned = np.ascontiguousarray(frames)
        if self._coordinates.transform is not None:
            turned = self._coordinates.apply(turned)
        order = np.argsort(projection.sharp)
        kernels().add_log2_likelihoods(
            turned,
            *self._place.astype(turned.dtype),
            self._place,
            self._kind,
            self._block,
            projection.matrix,
            projection.sharp[order],
            projection.sharp_rows[order],
            far,
            totals,
        )
        return totals + self._plainly(frames[far], numbers)

    def _plainly(self, frames: Floats, numbers: NDArray[np.integer[Any]]) -> Float64s:
        """The same sums by the plain equation."""
        mixtures = [self._mixtures[number] for number in numbers] if len(frames) else []
        totals = np.zeros(numbers.size)
        for place, mixture in enumerate(mixtures):
            totals[place] = log_sum_exp(mixture.unchecked_log_densities(frames)).sum()
        return np.asarray((totals + len(frames) * self._coordinates.log_volume) / LOG_2)
