"""Constrained MLLR (fMLLR): the affine transform of one speaker's frames that suits mixtures trained on others."""

from collections.abc import Sequence
from dataclasses import dataclass
from warnings import warn

import numpy as np
from numpy.typing import ArrayLike

from speechgmm.em.coordinates import Float64s, Floats
from speechgmm.em.mixture import Mixture
from speechgmm.em.terms import BLOCK
from speechgmm.errors import InputError, SpeechGMMWarning
from speechgmm.parallel import one_blas_thread
from speechgmm.phones.transforms import (
    LinearTransform,
    common_features,
    explained_frames,
    replace_row,
    require_diagonal,
    require_limits,
    squares,
    triangles,
)


@dataclass(frozen=True, eq=False)
class FmllrStatistics:
    """What constrained MLLR needs to know of a speaker's frames; adds with `+`.

    A frame x is extended to ξ = [x, 1]. Means μ and variances σ² are those of the components.

    Parameters
    ----------
    count : float
        β: sum of posteriors, in frames.
    linear : (n_features, n_features + 1) float64
        k: row i is the sum of posterior times μ_i / σ²_i times ξ.
    quadratic : (n_features, n_features + 1, n_features + 1) float64
        G: matrix i is the sum of posterior / σ²_i times ξ ξ'.
    """

    count: float
    linear: Float64s
    quadratic: Float64s

    def __add__(self, other: object) -> "FmllrStatistics":
        if not isinstance(other, FmllrStatistics):
            return NotImplemented
        if self.linear.shape != other.linear.shape:
            raise InputError(
                f"statistics of {len(self.linear)} and {len(other.linear)} features cannot be added "
                "(collected with other mixtures?)"
            )
        return FmllrStatistics(
            self.count + other.count, self.linear + other.linear, self.quadratic + other.quadratic
        )

    def objective(self, transform: LinearTransform) -> float:
        """Log-likelihood of the transformed frames as densities of the frames, natural log, less a constant.

        Parameters
        ----------
        transform : LinearTransform
            Square and invertible.

        Raises
        ------
        InputError
            If it is not, or has another number of features.
        """
        if transform.n_in != len(self.linear):
            raise InputError(
                f"the transform needs {transform.n_in} features; the statistics are of {len(self.linear)}"
            )
        return self.count * transform.log_determinant + self._fit(_extended(transform))

    def _fit(self, extended: Float64s) -> float:
        """The objective without its determinant."""
        turned = np.einsum("ijk,ik->ij", self.quadratic, extended)
        return float(np.sum(extended * (self.linear - 0.5 * turned)))


def _extended(transform: LinearTransform) -> Float64s:
    """W = [A b], (n_features, n_features + 1)."""
    return np.column_stack([transform.matrix, transform.offset])


@one_blas_thread()
def fmllr_statistics(
    mixtures: Sequence[Mixture],
    frames: ArrayLike,
    pdfs: ArrayLike,
    rows: ArrayLike,
    weights: ArrayLike,
    current: LinearTransform | None = None,
) -> FmllrStatistics:
    """Collect what the frames of a speaker say about the transform that suits mixtures.

    Parameters
    ----------
    mixtures : sequence of Mixture
        Diagonal (or spherical); numbered from 0.
    frames : (n_frames, n_features)
        Before any transform that is to be estimated.
    pdfs, rows, weights : (n_entries,)
        Frame `rows[e]` belongs to mixture `pdfs[e]` with posterior `weights[e]`; inside a mixture, its own posteriors
        share the frame out. Leave silence out where only the speech is to be adapted.
    current : LinearTransform, optional
        The transform estimated so far: posteriors inside mixtures are those of frames after it. Repeating this with
        better transforms is the EM algorithm.

    Raises
    ------
    InputError
        If mixtures, frames or entries do not fit each other, or values are not finite.

    References
    ----------
    Gales (1998), Computer Speech & Language 12, section 3.
    """
    checked = require_diagonal(mixtures, frames)
    seen = checked if current is None else require_diagonal(mixtures, current.apply(checked))
    # For each frame, sums over components: Σγ / σ² and Σγ μ / σ², which products with ξ ξ' and ξ then share.
    precisions, targets = np.zeros(checked.shape), np.zeros(checked.shape)
    count = 0.0
    for number, places, posteriors in explained_frames(mixtures, seen, pdfs, rows, weights):
        inverses = 1.0 / mixtures[number].variances
        np.add.at(precisions, places, posteriors @ inverses)
        np.add.at(targets, places, posteriors @ (inverses * mixtures[number].means))
        count += float(posteriors.sum())
    return _statistics(count, checked, precisions, targets)


@one_blas_thread()
def fmllr_prior(
    mixtures: Sequence[Mixture], n_frames: float, occupancies: ArrayLike | None = None
) -> FmllrStatistics:
    """The statistics to be expected of frames that the mixtures themselves produce, with nothing to adapt.

    Their best transform is the identity, so with them added to a speaker's statistics, the transform of a speaker
    with few frames stays near it: `adapted_to` adds them before it estimates.

    Parameters
    ----------
    mixtures : sequence of Mixture
        Diagonal (or spherical).
    n_frames : float > 0
        How many frames to stand for.
    occupancies : (n_mixtures,), optional
        How often each mixture occurs, as frames or shares. Default: all equally often.

    Raises
    ------
    InputError
        If mixtures do not fit each other, or a number is out of range.
    """
    common_features(mixtures)
    if not 0 < n_frames < np.inf:
        raise InputError(f"`n_frames` is {n_frames}; it must be a number of frames above 0")
    shares = np.ones(len(mixtures)) if occupancies is None else np.asarray(occupancies, np.float64)
    if (
        shares.shape != (len(mixtures),)
        or not (np.isfinite(shares) & (shares >= 0)).all()
        or not shares.any()
    ):
        raise InputError(
            f"`occupancies` must have one number from 0 for each of {len(mixtures)} mixtures, not all of them 0; "
            f"it has the shape {shares.shape}"
        )
    shares = n_frames * shares / shares.sum()
    counts = np.concatenate([share * one.weights for share, one in zip(shares, mixtures, strict=True)])
    means = np.concatenate([mixture.means for mixture in mixtures])
    variances = np.concatenate([mixture.variances for mixture in mixtures])
    precisions = counts[:, None] / variances
    at_means = _statistics(float(n_frames), means, precisions, precisions * means)
    quadratic = at_means.quadratic
    diagonal = np.arange(means.shape[1])
    quadratic[:, diagonal, diagonal] += precisions.T @ variances
    return FmllrStatistics(at_means.count, at_means.linear, quadratic)


def _statistics(count: float, frames: Floats, precisions: Float64s, targets: Float64s) -> FmllrStatistics:
    """Sums over frames of products with their precisions and targets, each (n_frames, n_features)."""
    n_features = frames.shape[1]
    linear = np.zeros((n_features, n_features + 1))
    halves = np.zeros((n_features, (n_features + 1) * (n_features + 2) // 2))
    for start in range(0, len(frames), BLOCK):
        rows = slice(start, start + BLOCK)
        block = np.asarray(frames[rows], np.float64)
        extended = np.column_stack([block, np.ones(len(block))])
        linear += targets[rows].T @ extended
        halves += precisions[rows].T @ triangles(extended)
    return FmllrStatistics(count, linear, squares(halves, n_features + 1))


@one_blas_thread()
def estimate_fmllr(
    statistics: FmllrStatistics,
    prior: FmllrStatistics | None = None,
    minimum_frames: float = 1500.0,
    max_iterations: int = 100,
    tolerance: float = 1e-3,
) -> LinearTransform:
    """The affine transform of a speaker's frames that makes them most likely.

    The rows of the matrix are updated in turn, each to the best there is given the others, beginning with the
    identity, so the objective never falls.

    Parameters
    ----------
    statistics : FmllrStatistics
    prior : FmllrStatistics, optional
        Such as `fmllr_prior` gives, which draws the transform towards the identity; some 200 to 1000 frames of it do
        good for speakers with up to half a minute of speech. Default: none.
    minimum_frames : float
        Without a prior, a speaker with fewer frames gets the identity: so few would do more harm than good. With one,
        any number will do.
    max_iterations : int >= 1
        The most updates of each row.
    tolerance : float >= 0
        Stop when an update of all rows gains less, in nats a frame.

    Returns
    -------
    LinearTransform

    Raises
    ------
    InputError
        If prior and statistics differ in shape, the frames do not determine a transform, or a setting is out of range.

    Warns
    -----
    SpeechGMMWarning
        If there are too few frames for a transform.

    References
    ----------
    Gales (1998), Computer Speech & Language 12, eq. 43-50 and appendix C.
    """
    require_limits(max_iterations, tolerance)
    n_features = len(statistics.linear)
    if prior is not None:
        statistics = statistics + prior
    elif statistics.count < minimum_frames:
        warn(
            f"{statistics.count:.0f} frames are too few to adapt to (the limit is {minimum_frames:g}); they are left "
            "as they are (a `prior` makes do with fewer)",
            SpeechGMMWarning,
            stacklevel=3,  # the caller, seen through the decorator
        )
        return LinearTransform.identity(n_features)
    inverses = _inverses(statistics.quadratic)
    transform = LinearTransform.identity(n_features)
    objective = statistics.objective(transform)
    for _ in range(max_iterations):
        updated = _sweep(_extended(transform), statistics, inverses)
        transform = LinearTransform(updated[:, :-1], updated[:, -1])
        previous, objective = objective, statistics.objective(transform)
        if objective - previous < tolerance * statistics.count:
            break
    return transform


def _inverses(quadratic: Float64s) -> Float64s:
    """Inverses of symmetric matrices, checked to be positive definite, each feature in its own scale."""
    scales = np.sqrt(np.maximum(np.diagonal(quadratic, axis1=1, axis2=2), np.finfo(np.float64).tiny))
    outer = scales[:, :, None] * scales[:, None, :]
    least = np.linalg.eigvalsh(quadratic / outer)[:, 0].min()
    if not least > 1e-12:
        raise InputError(
            f"the frames do not determine a transform (least eigenvalue {least:.3g}): there are too few, or a feature "
            "is constant or follows from others (a `prior` makes do with fewer frames)"
        )
    return np.asarray(np.linalg.inv(quadratic / outer) / outer)


def _sweep(extended: Float64s, statistics: FmllrStatistics, inverses: Float64s) -> Float64s:
    """Put the best row in the place of each in turn, the others given."""
    result = extended.copy()
    inverse = np.linalg.inv(result[:, :-1])
    for row, (of_row, linear) in enumerate(zip(inverses, statistics.linear, strict=True)):
        # Proportional to the row's cofactors; the factor makes up for their length.
        cofactors = inverse[:, row]
        turned = of_row[:, :-1] @ cofactors
        factor = _best_factor(float(cofactors @ turned[:-1]), float(linear @ turned), statistics.count)
        updated = factor * turned + of_row @ linear
        replace_row(result[:, :-1], inverse, row, updated[:-1])
        result[row, -1] = updated[-1]
    return result


def _best_factor(a: float, b: float, count: float) -> float:
    """The α that makes count log|α a + b| - α² a / 2 greatest, for a and count above 0."""
    # Roots of α² a + α b = count. α a + b is half of b plus or minus the root, so the sign of b tells which is larger;
    # that one is also the smaller α, which its other form gives without a difference of near equals.
    root = np.sqrt(b * b + 4.0 * a * count)
    return float(2.0 * count / (b + root) if b >= 0 else 2.0 * count / (b - root))
