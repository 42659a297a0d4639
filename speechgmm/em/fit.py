"""The EM loop from a given start."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from speechgmm.em.coordinates import Coordinates, Float64s, constant_dimensions, reference_variance
from speechgmm.em.mixture import Mixture
from speechgmm.em.sources import as_source
from speechgmm.em.statistics import Moments, Statistics, accumulate, moments
from speechgmm.errors import InputError, SpeechGMMWarning

# A component with fewer frames than this has lost them to others and describes nothing.
DEAD = 0.5
# The least variance of a component, in units of the coordinates: less cannot be told from rounding.
LEAST_VARIANCE = 1e-6
# A heavy component is split this many deviations to either side of its mean.
SPLIT = 0.2


@dataclass(frozen=True, eq=False)
class FitResult:
    """What EM found, and how it got there.

    Parameters
    ----------
    mixture : Mixture
    history : tuple of float
        Mean log-likelihood per frame after 0, 1, 2, … M-steps; the last one is `mixture`'s own.
    converged : bool
        Whether the last change was below the tolerance.
    reseeded : tuple of int
        After which M-steps components were re-seeded or dropped; there the likelihood may fall.
    """

    mixture: Mixture
    history: tuple[float, ...]
    converged: bool
    reseeded: tuple[int, ...]

    @property
    def n_iterations(self) -> int:
        """How many M-steps were made."""
        return len(self.history) - 1


def maximise(statistics: Statistics, variance_floor: Float64s | float = 0.0) -> Mixture:
    """The M-step: the mixture that makes the statistics most likely, no variance below the floor.

    For diagonal covariances the constrained maximum is the unconstrained variance, or the floor where that is
    larger. A component without frames gets weight 0 and lies at the origin with the scale of the coordinates.

    Parameters
    ----------
    statistics : Statistics
    variance_floor : float or (n_features,)
        In the frames' own units, squared. Never below a millionth of the squared scale of the coordinates.

    References
    ----------
    Dempster, Laird, Rubin (1977), J. R. Stat. Soc. B 39, example 4.3.
    """
    coordinates = statistics.coordinates
    alive = statistics.zeroth > 0
    zeroth = np.where(alive, statistics.zeroth, 1.0)[:, None]
    means = statistics.first / zeroth
    variances = np.where(alive[:, None], statistics.second / zeroth - means * means, 1.0)
    # Where a component has no spread at all, rounding may leave less than nothing.
    floor = np.maximum(variance_floor / np.square(coordinates.scale), LEAST_VARIANCE)
    return Mixture(
        weights=statistics.zeroth / statistics.zeroth.sum(),
        means=coordinates.origin + coordinates.scale * means,
        covariances=np.square(coordinates.scale) * np.maximum(variances, floor),
    )


def fit(
    frames: Any,
    start: Mixture,
    *,
    max_iterations: int = 100,
    tolerance: float = 1e-3,
    variance_floor: Float64s | float = 1e-3,
    n_jobs: int = 1,
    on_iteration: Callable[[int, float], None] | None = None,
) -> FitResult:
    """Fit a mixture to frames by expectation-maximisation.

    Parameters
    ----------
    frames : (n_frames, n_features) array or FrameSource
    start : Mixture
        Where to start; see `speechgmm.em.initialise`.
    max_iterations : int >= 0
        The most M-steps.
    tolerance : float >= 0
        Stop when the mean log-likelihood per frame changes by less than this.
    variance_floor : float or (n_features,)
        A number is a fraction of the frames' own variance in each dimension; an array is the floor itself.
    n_jobs : int
        Threads. The result does not depend on it.
    on_iteration : callable, optional
        Called with the number of M-steps made and the mean log-likelihood.

    Returns
    -------
    FitResult

    Raises
    ------
    InputError
        If frames and start disagree in shape, a value is not finite, or an option is out of range.
    """
    if max_iterations < 0 or not tolerance >= 0 or not np.all(np.asarray(variance_floor) >= 0):
        raise InputError(
            f"`max_iterations` {max_iterations}, `tolerance` {tolerance} and `variance_floor` {variance_floor} "
            "must not be negative"
        )
    source = as_source(frames)
    measured = moments(source, n_jobs)
    coordinates = Coordinates.from_moments(measured.mean, measured.variance)
    _warn_of_constants(measured)
    floor = absolute_floor(measured, variance_floor)
    mixture, converged = start, False
    history: list[float] = []
    reseeded: list[int] = []
    while True:
        statistics = accumulate(mixture, source, coordinates, n_jobs)
        history.append(statistics.mean_log_likelihood)
        if on_iteration is not None:
            on_iteration(len(history) - 1, history[-1])
        fresh = bool(reseeded) and reseeded[-1] == len(history) - 1
        converged = len(history) > 1 and not fresh and abs(history[-1] - history[-2]) < tolerance
        if converged or len(history) > max_iterations:
            break
        mixture = maximise(statistics, floor)
        if statistics.zeroth.min() < DEAD:
            allowed = len(reseeded) < mixture.n_components
            mixture = reseed(mixture, statistics.zeroth, allowed)
            reseeded.append(len(history))
    return FitResult(mixture, tuple(history), converged, tuple(reseeded))


def absolute_floor(measured: Moments, variance_floor: Float64s | float) -> Float64s:
    """The variance floor in the frames' units squared."""
    constant = constant_dimensions(measured.mean, measured.variance)
    reference = reference_variance(measured.mean, measured.variance)
    floor = np.asarray(variance_floor, np.float64)
    if floor.ndim == 0:
        return floor * reference
    # A constant dimension needs a floor of its own where the given one is nothing.
    return np.where(constant, np.maximum(floor, 1e-3 * reference), floor)


def _warn_of_constants(measured: Moments) -> None:
    constant = constant_dimensions(measured.mean, measured.variance)
    if constant.any():
        warnings.warn(
            f"{int(constant.sum())} of {constant.size} features do not vary (the first is number "
            f"{int(np.flatnonzero(constant)[0])}); they say nothing and get a small variance",
            SpeechGMMWarning,
            stacklevel=3,
        )


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
    weights, means, variances = mixture.weights.copy(), mixture.means.copy(), mixture.covariances.copy()
    counts, alive = zeroth.copy(), zeroth >= min(DEAD, zeroth.max())
    shares = np.ones(len(zeroth))
    for dead in np.flatnonzero(~alive):
        heaviest = int(np.argmax(np.where(alive, counts, -1.0)))
        if not allowed or counts[heaviest] < 4 * DEAD:
            break
        counts[dead] = counts[heaviest] = counts[heaviest] / 2
        weights[dead] = weights[heaviest] = weights[heaviest] / 2
        # Halves of halves move less, or they would land on one another and never part.
        step = SPLIT * np.sqrt(variances[heaviest] * shares[heaviest])
        shares[dead] = shares[heaviest] = shares[heaviest] / 2
        means[dead], means[heaviest] = means[heaviest] + step, means[heaviest] - step
        variances[dead] = variances[heaviest]
        alive[dead] = True
    if not alive.all():
        warnings.warn(
            f"{int((~alive).sum())} of {alive.size} components found no frames and were dropped "
            "(more components than distinct frames?)",
            SpeechGMMWarning,
            stacklevel=3,
        )
    return Mixture(weights / weights[alive].sum() * alive, means, variances).keep(alive)
