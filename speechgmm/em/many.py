"""Many mixtures at once: the log-likelihood of every frame under each, by one compiled pass."""

from collections.abc import Sequence
from copy import copy
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from speechgmm.em import kernels_many
from speechgmm.em.coordinates import Coordinates, Float32s, Float64s, Floats
from speechgmm.em.mixture import LOG_2, Mixture, log_sum_exp
from speechgmm.em.moments import moments_of
from speechgmm.em.projection import Projection
from speechgmm.em.terms import LOG2_OF_NOTHING, block_size
from speechgmm.errors import InputError
from speechgmm.parallel import one_blas_thread

# Components whose densities are worked on at a time; those of a block of 512 frames then fit in the cache.
TOGETHER = 256


class ManyMixtures:
    """Mixtures made ready to explain the same frames, in coordinates that they share.

    Parameters
    ----------
    mixtures : sequence of Mixture
        All with the same number of features, and of any number of components.
    coordinates : Coordinates, optional
        Default: those that suit all mixtures together, each counting the same.
    together : int
        Components whose densities one product gives, or those of one mixture. With 1 every mixture has a product of
        its own, and the bits of its scores depend on no other mixture.

    Raises
    ------
    InputError
        If there are none, or they have different numbers of features.
    """

    def __init__(
        self,
        mixtures: Sequence[Mixture],
        coordinates: Coordinates | None = None,
        together: int = TOGETHER,
    ) -> None:
        if not mixtures or len({mixture.n_features for mixture in mixtures}) > 1:
            raise InputError("mixtures scored together must be one or more, all with as many features")
        type_ = "full" if any(mixture.has_matrices for mixture in mixtures) else "diag"
        self.mixtures = tuple(mixture.with_type(type_) for mixture in mixtures)
        self.n_features = self.mixtures[0].n_features
        self.coordinates = coordinates or moments_of(_joined(self.mixtures)).coordinates(type_)
        self._together = together
        self._kind = self.mixtures[0].type.kind
        self._block = block_size(self._kind, self.n_features)
        place = [self.coordinates.origin, 1.0 / self.coordinates.scale]
        if self.coordinates.transform is not None:  # frames come turned
            place = [np.zeros(self.n_features), np.ones(self.n_features)]
        self._place = np.stack(place)
        with one_blas_thread():
            self._projections = [Projection.of(mixture, self.coordinates) for mixture in self.mixtures]

    @cached_property
    def _rows(self) -> "_Rows":
        counts = [mixture.n_components for mixture in self.mixtures]
        exact = np.concatenate([one.exact for one in self._projections])
        exact[:, -1] -= self.coordinates.log_volume / LOG_2
        joined = Projection(exact, np.concatenate([one.sharpness for one in self._projections]))
        order = np.argsort(joined.sharp)
        return _Rows(
            joined.matrix,
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            _parts(counts, self._together),
            joined.sharp[order],
            joined.sharp_rows[order],
        )

    def chosen(self, numbers: Sequence[int]) -> "ManyMixtures":
        """Some of the mixtures, in the order given, without making them ready anew."""
        result = copy(self)
        result.mixtures = tuple(self.mixtures[number] for number in numbers)
        result._projections = [self._projections[number] for number in numbers]
        result.__dict__.pop("_rows", None)  # those of all mixtures
        return result

    def log_likelihoods(self, frames: Floats) -> Float32s:
        """The log-likelihood of each frame under each mixture, natural log.

        In float32 products where those are exact enough: to about 1e-4 nats. The bits of a frame's row depend on no
        other frame beyond its own utterance.

        Parameters
        ----------
        frames : (n_frames, n_features) float32 or float64
            Finite.

        Returns
        -------
        (n_frames, n_mixtures) float32
        """
        scores, far = self._scores(frames)
        # What float32 cannot hold is no likelihood at all.
        if far.any():
            scores[far] = np.maximum(self._plainly(frames[far], self.mixtures), LOG2_OF_NOTHING)
        for number in self._too_sharp():
            plain = self._plainly(frames, self.mixtures[number : number + 1])
            scores[:, number] = np.maximum(plain[:, 0], LOG2_OF_NOTHING)
        return scores

    def total_log_likelihoods(self, frames: Floats) -> Float64s:
        """The log-likelihood of all frames together under each mixture, natural log.

        Frames far from everything count in float64; the others as in `log_likelihoods`.

        Parameters
        ----------
        frames : (n_frames, n_features) float32 or float64
            Finite.

        Returns
        -------
        (n_mixtures,) float64
        """
        scores, far = self._scores(frames)
        # A row for each mixture: the order in which a row is summed depends on its length alone.
        totals: Float64s = np.ascontiguousarray(scores[~far].T, np.float64).sum(axis=1)
        if far.any():
            totals += self._plainly(frames[far], self.mixtures).sum(axis=0)
        for number in self._too_sharp():
            totals[number] = self._plainly(frames, self.mixtures[number : number + 1]).sum()
        return totals

    def _scores(self, frames: Floats) -> tuple[Float32s, NDArray[np.bool_]]:
        """Log-likelihoods by products, and which frames are too far for those."""
        turned = np.ascontiguousarray(frames)
        if self.coordinates.transform is not None:
            turned = self.coordinates.apply(turned)
        scores = np.empty((len(frames), len(self.mixtures)), np.float32)
        far = np.zeros(len(frames), np.bool_)
        with one_blas_thread():
            kernels_many.log_likelihoods(
                turned,
                *self._place.astype(turned.dtype),
                self._place,
                self._kind,
                self._block,
                *self._rows,
                far,
                scores,
            )
        return scores, far

    def _too_sharp(self) -> list[int]:
        """Mixtures with a component for which no product is exact enough."""
        return [number for number, one in enumerate(self._projections) if one.too_sharp]

    @staticmethod
    def _plainly(frames: Floats, mixtures: Sequence[Mixture]) -> Float64s:
        """Log-likelihoods by the plain equation, (n_frames, n_mixtures)."""
        columns = [log_sum_exp(mixture.unchecked_log_densities(frames)) for mixture in mixtures]
        return np.stack(columns, axis=1)


class _Rows(NamedTuple):
    """Components of all mixtures one below the other, as `kernels_many.log_likelihoods` takes them."""

    matrix: Float32s
    starts: NDArray[np.int64]
    parts: NDArray[np.int64]
    sharp: NDArray[np.int64]
    exact: Float64s


def _joined(mixtures: Sequence[Mixture]) -> Mixture:
    """All components in one mixture."""
    return Mixture(
        np.concatenate([mixture.weights for mixture in mixtures]) / len(mixtures),
        np.concatenate([mixture.means for mixture in mixtures]),
        np.concatenate([mixture.covariances for mixture in mixtures]),
        mixtures[0].covariance_type,
    )


def _parts(counts: Sequence[int], together: int) -> NDArray[np.int64]:
    """Cut mixtures into runs of at most `together` components, or of one mixture."""
    bounds, n_components = [0], 0
    for number, count in enumerate(counts):
        if number > bounds[-1] and n_components + count > together:
            bounds.append(number)
            n_components = 0
        n_components += count
    return np.array([*bounds, len(counts)], np.int64)
