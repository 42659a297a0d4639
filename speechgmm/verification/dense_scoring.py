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
        everyone = np.array_equal(numbers, np.arange(len(self._mixtures)))
        projection = self._everyone if everyone else self._beside(numbers)
        scores = np.zeros((len(utterances), numbers.size))
        for frames, row in zip(utterances, scores, strict=True):
            self._add_log2_likelihoods(frames, numbers, projection, row)
            row *= LOG_2 / len(frames)
        return np.asarray(scores[:, 1:] - scores[:, :1])

    @cached_property
    def _everyone(self) -> Projection:
        return self._beside(np.arange(len(self._mixtures)))

    def _beside(self, numbers: NDArray[np.integer[Any]]) -> Projection:
        return Projection.side_by_side([self._projections[number] for number in numbers])

    def _add_log2_likelihoods(
        self, frames: Floats, numbers: NDArray[np.integer[Any]], projection: Projection, totals: Float64s
    ) -> None:
        """Add the sums over all frames under each mixture, in coordinates."""
        far = np.full(len(frames), projection.too_sharp)
        if not projection.too_sharp:
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
        if far.any():
            mixtures = [self._mixtures[number] for number in numbers]
            natural = [log_sum_exp(one.unchecked_log_densities(frames[far])).sum() for one in mixtures]
            totals += (np.array(natural) + far.sum() * self._coordinates.log_volume) / LOG_2
