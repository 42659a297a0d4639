"""Semi-tied covariances (MLLT): one matrix shared by all components, after which variances alone suit them best."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from speechgmm.em.coordinates import Float64s, Floats
from speechgmm.em.mixture import Mixture
from speechgmm.em.terms import BLOCK
from speechgmm.errors import InputError
from speechgmm.parallel import one_blas_thread
from speechgmm.phones.transforms import (
    Explained,
    LinearTransform,
    common_features,
    explained_frames,
    replace_row,
    require_diagonal,
    require_limits,
    squares,
    triangles,
)

# Sweeps over the rows of the matrix between two updates of the variances, which cost as much as hundreds of sweeps.
SWEEPS = 10


@dataclass(frozen=True, eq=False)
class MlltStatistics:
    """How frames scatter about the means of components; adds with `+`.

    Parameters
    ----------
    counts : (n_components,) float64
        Sums of posteriors, the components of all mixtures one after the other.
    scatters : (n_components, n_features, n_features) float64
        Sums of posterior times (x - mean)(x - mean)'.
    """

    counts: Float64s
    scatters: Float64s

    def __add__(self, other: object) -> "MlltStatistics":
        if not isinstance(other, MlltStatistics):
            return NotImplemented
        if self.scatters.shape != other.scatters.shape:
            raise InputError(
                f"statistics of shapes {self.scatters.shape} and {other.scatters.shape} cannot be added "
                "(collected with other mixtures?)"
            )
        return MlltStatistics(self.counts + other.counts, self.scatters + other.scatters)

    def covariances(self, prior_count: float) -> Float64s:
        """The covariance matrix of each component, smoothed by that of all together.

        Parameters
        ----------
        prior_count : float > 0
            In frames: a component that saw this many has half its own, half the common one.

        Returns
        -------
        (n_components, n_features, n_features)

        Raises
        ------
        InputError
            If the prior count is not positive, or frames do not vary in every direction.
        """
        if not 0 < prior_count < np.inf:
            raise InputError(f"`prior_count` is {prior_count}; it must be a number of frames above 0")
        if not self.counts.sum() > 0:
            raise InputError("no frames were counted; there is nothing to estimate a transform from")
        common = self.scatters.sum(axis=0) / self.counts.sum()
        scales = np.sqrt(np.maximum(np.diagonal(common), np.finfo(np.float64).tiny))
        least = np.linalg.eigvalsh(common / (scales[:, None] * scales))[0]
        if not least > 1e-10:
            raise InputError(
                f"about their means, frames do not vary in every direction (the least variance is {least:.3g} of that "
                "of one feature): too few frames, or features that follow from others"
            )
        total = (self.counts + prior_count)[:, None, None]
        return np.asarray((self.scatters + prior_count * common) / total)


@one_blas_thread()
def mllt_statistics(
    mixtures: Sequence[Mixture], frames: ArrayLike, pdfs: ArrayLike, rows: ArrayLike, weights: ArrayLike
) -> MlltStatistics:
    """Collect how frames scatter about the components of the mixtures that explain them.

    Takes 8 n_features² bytes for each component.

    Parameters
    ----------
    mixtures : sequence of Mixture
        Diagonal (or spherical); numbered from 0.
    frames : (n_frames, n_features)
    pdfs, rows, weights : (n_entries,)
        Frame `rows[e]` belongs to mixture `pdfs[e]` with posterior `weights[e]`; inside a mixture, its own posteriors
        share the frame out.

    Raises
    ------
    InputError
        If mixtures, frames or entries do not fit each other, or values are not finite.

    References
    ----------
    Gales (1999), IEEE Trans. Speech Audio Process. 7, eq. 19.
    """
    checked = require_diagonal(mixtures, frames)
    starts = np.cumsum([0, *(mixture.n_components for mixture in mixtures)])
    n_features = checked.shape[1]
    counts, scatters = np.zeros(starts[-1]), np.zeros((starts[-1], n_features, n_features))
    for explained in explained_frames(mixtures, checked, pdfs, rows, weights):
        own = slice(starts[explained.number], starts[explained.number + 1])
        counts[own] = explained.posteriors.sum(axis=0)
        scatters[own] = _scatters(mixtures[explained.number], checked, explained)
    return MlltStatistics(counts, scatters)


def _scatters(mixture: Mixture, frames: Floats, explained: Explained) -> Float64s:
    """Scatter matrices of one mixture's components, (n_components, n_features, n_features)."""
    # About the centre of the mixture first: squares of features far from zero lose the digits that matter.
    centre = mixture.weights @ mixture.means
    means = mixture.means - centre
    n_features = mixture.n_features
    first = np.zeros(means.shape)
    second = np.zeros((len(means), n_features * (n_features + 1) // 2))
    for start in range(0, len(explained.rows), BLOCK):
        block = frames[explained.rows[start : start + BLOCK]] - centre
        shares = explained.posteriors[start : start + BLOCK].T
        first += shares @ block
        second += shares @ triangles(block)
    crossed = first[:, :, None] * means[:, None, :]
    zeroth = explained.posteriors.sum(axis=0)[:, None, None]
    about_centre = squares(second, n_features)
    return np.asarray(
        about_centre - crossed - np.swapaxes(crossed, 1, 2) + zeroth * means[:, :, None] * means[:, None, :]
    )


@dataclass(frozen=True, eq=False)
class SemiTied:
    """A transform and the variances of components after it.

    Parameters
    ----------
    transform : LinearTransform
        Square, with offset 0 and a determinant of 1, so that log-likelihoods before and after can be compared.
    variances : (n_components, n_features) float64
        Of transformed frames, the components of all mixtures one after the other.
    objectives : tuple of float
        Log-likelihood a frame less a constant, nats, before the first and after each update.
    """

    transform: LinearTransform
    variances: Float64s
    objectives: tuple[float, ...]

    def turned(self, mixtures: Sequence[Mixture]) -> tuple[Mixture, ...]:
        """The mixtures as they explain transformed frames: weights kept, means transformed, variances from here.

        Raises
        ------
        InputError
            If these are not the mixtures that the statistics were collected with.
        """
        n_features = common_features(mixtures)
        starts = np.cumsum([0, *(mixture.n_components for mixture in mixtures)])
        if (starts[-1], n_features) != self.variances.shape:
            raise InputError(
                f"`mixtures` have {starts[-1]} components of {n_features} features; the transform was estimated for "
                f"{self.variances.shape[0]} of {self.variances.shape[1]}"
            )
        return tuple(
            Mixture(
                mixture.weights,
                np.asarray(self.transform.apply(mixture.means), np.float64),
                self.variances[start:end],
            )
            for mixture, start, end in zip(mixtures, starts[:-1], starts[1:], strict=True)
        )


@one_blas_thread()
def estimate_mllt(
    statistics: MlltStatistics, prior_count: float = 10.0, max_iterations: int = 100, tolerance: float = 1e-3
) -> SemiTied:
    """The matrix after which the diagonal covariances of all components together explain frames best.

    Variances given the matrix, and each row of the matrix given variances and the other rows, are updated in turn to
    the best there is, so the objective never falls. `train_recogniser` does this after the discriminant analysis, in
    each of its `semi_tied` rounds.

    Parameters
    ----------
    statistics : MlltStatistics
    prior_count : float > 0
        In frames: a component that saw this many has half its own covariance matrix, half that of all components
        together. Without that, components that saw few frames would pull the matrix to where these do not vary.
    max_iterations : int >= 1
        The most updates of the variances, with 10 of each row between two of them.
    tolerance : float >= 0
        Stop when an update gains less, in nats a frame.

    Returns
    -------
    SemiTied

    Raises
    ------
    InputError
        If there are no frames, they do not vary in every direction, or a setting is out of range.

    References
    ----------
    Gales (1999), IEEE Trans. Speech Audio Process. 7, eq. 15-22; Gopinath (1998), Proc. ICASSP.
    """
    require_limits(max_iterations, tolerance)
    covariances = statistics.covariances(prior_count)
    shares = statistics.counts / statistics.counts.sum()
    matrix = np.eye(covariances.shape[1])
    variances = _variances(matrix, covariances)
    objectives = [_objective(matrix, variances, shares)]
    for _ in range(max_iterations):
        inverses = np.linalg.inv(np.tensordot((shares[:, None] / variances).T, covariances, axes=1))
        for _ in range(SWEEPS):
            _update_rows(matrix, inverses)
        variances = _variances(matrix, covariances)
        objectives.append(_objective(matrix, variances, shares))
        if objectives[-1] - objectives[-2] < tolerance:
            break
    scale = np.exp(-np.linalg.slogdet(matrix)[1] / len(matrix))
    transform = LinearTransform(scale * matrix, np.zeros(len(matrix)))
    return SemiTied(transform, scale**2 * variances, tuple(objectives))


def _variances(matrix: Float64s, covariances: Float64s) -> Float64s:
    """Of transformed frames, (n_components, n_features)."""
    return np.asarray(np.sum((matrix @ covariances) * matrix, axis=-1))


def _objective(matrix: Float64s, variances: Float64s, shares: Float64s) -> float:
    """Log-likelihood a frame at the best variances, less a constant."""
    return float(np.linalg.slogdet(matrix)[1] - 0.5 * shares @ np.log(variances).sum(axis=1))


def _update_rows(matrix: Float64s, inverses: Float64s) -> None:
    """Put the best row in the place of each in turn, the others given."""
    inverse = np.linalg.inv(matrix)
    for row, of_row in enumerate(inverses):
        # In the direction of the row's cofactors; their length does not matter.
        cofactors = inverse[:, row]
        turned = of_row @ cofactors
        replace_row(matrix, inverse, row, turned / np.sqrt(cofactors @ turned))
