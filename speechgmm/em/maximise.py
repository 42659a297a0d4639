"""The M-step, its variance floor, and what becomes of components that lost their frames."""

import warnings

import numpy as np

from speechgmm.em.coordinates import Float64s, constant_dimensions, reference_variance
from speechgmm.em.covariance import covariance_type_of
from speechgmm.em.mixture import Mixture
from speechgmm.em.moments import Moments
from speechgmm.em.statistics import Statistics
from speechgmm.errors import InputError, SpeechGMMWarning

# A component with fewer frames than this has lost them to others and describes nothing.
DEAD = 0.5
# A heavy component is split this many deviations to either side of its mean.
SPLIT = 0.2


def maximise(
    statistics: Statistics, variance_floor: Float64s | float = 0.0, reg_covar: float = 0.0
) -> Mixture:
    """The M-step: the mixture that makes the statistics most likely, no variance below the floor.

    The floor is the exact constrained maximum: variances are the unconstrained ones, or the floor where that is
    larger; of whole matrices the same holds in every direction. A component without frames gets weight 0 and lies at
    the origin with the covariance of the coordinates.

    Parameters
    ----------
    statistics : Statistics
    variance_floor : float, (n_features,) or (n_features, n_features)
        In the frames' own units, squared; a matrix with "full" and "tied" only. "spherical" takes the mean. Never
        below a millionth of the squared scale of the coordinates.
    reg_covar : float >= 0
        Added to every variance afterwards, in the frames' own units, squared.

    References
    ----------
    Dempster, Laird, Rubin (1977), J. R. Stat. Soc. B 39, example 4.3.
    """
    coordinates, type_ = statistics.coordinates, covariance_type_of(statistics.covariance_type)
    alive = statistics.zeroth > 0
    zeroth = np.where(alive, statistics.zeroth, np.finfo(np.float64).tiny)
    means = statistics.first / zeroth[:, None]
    covariances = type_.estimate(zeroth, means, statistics.second)
    if not alive.all() and statistics.covariance_type != "tied":
        covariances[~alive] = type_.unit(*means.shape)[~alive]
    covariances = type_.floored(covariances, np.asarray(variance_floor, np.float64), coordinates)
    return Mixture(
        weights=statistics.zeroth / statistics.zeroth.sum(),
        means=coordinates.undo(means),
        covariances=type_.regularised(type_.undo(covariances, coordinates), reg_covar),
        covariance_type=statistics.covariance_type,
    )


def absolute_floor(
    measured: Moments, variance_floor: Float64s | float, covariance_type: str = "diag"
) -> Float64s:
    """The variance floor in the frames' units squared: a matrix for whole matrices where a fraction was given."""
    floor = np.asarray(variance_floor, np.float64)
    if floor.ndim and floor.shape != measured.mean.shape:
        raise InputError(
            f"`variance_floor` has the shape {floor.shape}; it must be a number, or one for each of "
            f"{measured.mean.size} features"
        )
    if floor.ndim == 0 and covariance_type in ("full", "tied"):
        # Of what counts as the frames' covariance: their own, but for directions in which they do not vary.
        return floor * measured.coordinates(covariance_type).undo_matrices(np.eye(measured.mean.size))
    reference = reference_variance(measured.mean, measured.variance)
    if floor.ndim == 0:
        return floor * reference
    # A constant dimension needs a floor of its own where the given one is nothing.
    constant = constant_dimensions(measured.mean, measured.variance)
    return np.where(constant, np.maximum(floor, 1e-3 * reference), floor)


def reseed(mixture: Mixture, zeroth: Float64s, allowed: bool = True) -> Mixture:
    """Replace components that lost their frames by halves of the heaviest ones, or drop them.

    Parameters
    ----------
    mixture : Mixture
    zeroth : (n_components,) float64
        Frames of each component.
    allowed : bool
        Whether to split; otherwise, or where the heaviest has too few frames for two, the dead are dropped.
    """
    weights, means, covariances = mixture.weights.copy(), mixture.means.copy(), mixture.covariances.copy()
    counts, alive = zeroth.copy(), zeroth >= min(DEAD, zeroth.max())
    shares = np.ones(len(zeroth))
    for dead in np.flatnonzero(~alive):
        heaviest = int(np.argmax(np.where(alive, counts, -1.0)))
        if not allowed or counts[heaviest] < 4 * DEAD:
            break
        counts[dead] = counts[heaviest] = counts[heaviest] / 2
        weights[dead] = weights[heaviest] = weights[heaviest] / 2
        # Halves of halves move less, or they would land on one another and never part.
        step = SPLIT * np.sqrt(shares[heaviest]) * mixture.deviations(heaviest)
        shares[dead] = shares[heaviest] = shares[heaviest] / 2
        means[dead], means[heaviest] = means[heaviest] + step, means[heaviest] - step
        if mixture.covariance_type != "tied":
            covariances[dead] = covariances[heaviest]
        alive[dead] = True
    if not alive.all():
        warnings.warn(
            f"{int((~alive).sum())} of {alive.size} components found no frames and were dropped "
            "(more components than distinct frames?)",
            SpeechGMMWarning,
            stacklevel=5,
        )
    weights = weights / weights[alive].sum() * alive
    return Mixture(weights, means, covariances, mixture.covariance_type).keep(alive)
