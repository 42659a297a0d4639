"""The EM loop from a given start."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from speechgmm.em.checkpoint import Checkpoint, EMState, OpenCheckpoint
from speechgmm.em.coordinates import Float64s, constant_dimensions
from speechgmm.em.maximise import DEAD, absolute_floor, maximise, reseed
from speechgmm.em.mixture import Mixture
from speechgmm.em.moments import Moments, moments
from speechgmm.em.sources import FrameSource, as_source
from speechgmm.em.statistics import Statistics, accumulate
from speechgmm.em.terms import FAR
from speechgmm.errors import InputError, SpeechGMMWarning
from speechgmm.parallel import one_blas_thread


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


def fit(
    frames: Any,
    start: Mixture,
    *,
    max_iterations: int = 100,
    tolerance: float = 1e-3,
    variance_floor: Float64s | float = 1e-3,
    reg_covar: float = 0.0,
    n_jobs: int = 1,
    on_iteration: Callable[[int, float], None] | None = None,
    checkpoint: Checkpoint | None = None,
) -> FitResult:
    """Fit a mixture to frames by expectation-maximisation.

    Parameters
    ----------
    frames : (n_frames, n_features) array or FrameSource
        A source may give them weights.
    start : Mixture
        Where to start; see `speechgmm.em.initialise`. The result has its kind of covariance.
    max_iterations : int >= 0
        The most M-steps.
    tolerance : float >= 0
        Stop when the mean log-likelihood per frame changes by less than this.
    variance_floor : float or (n_features,)
        A number is a fraction of the frames' own variance in each dimension; an array is the floor itself.
    reg_covar : float >= 0
        Added to every variance at every M-step, in the frames' units squared.
    n_jobs : int
        Threads. The result does not depend on it.
    on_iteration : callable, optional
        Called with the number of M-steps made and the mean log-likelihood.
    checkpoint : Checkpoint, optional
        Where to keep the state. If there is one of this fit already, go on from it, to the same bits.

    Returns
    -------
    FitResult

    Raises
    ------
    InputError
        If frames and start disagree in shape, a value is not finite, an option is out of range, or the checkpoint
        belongs to another fit.
    FormatError
        If the checkpoint is damaged.
    """
    require_not_negative(
        max_iterations=max_iterations,
        tolerance=tolerance,
        variance_floor=variance_floor,
        reg_covar=reg_covar,
    )
    source = as_source(frames)
    settings = {"tolerance": tolerance, "variance_floor": variance_floor, "reg_covar": reg_covar}
    opened = None if checkpoint is None else checkpoint.open(source, start, settings)
    with one_blas_thread():  # matrices of the M-step too, for the same bits on any number of cores
        measured = moments(source, n_jobs, covariance=start.has_matrices)
        coordinates = measured.coordinates(start.covariance_type)
        warn_of_constants(measured)
        warn_of_outliers(measured)
        floor = absolute_floor(measured, variance_floor, start.covariance_type)
        return run_em(
            lambda mixture: accumulate(mixture, source, coordinates, n_jobs),
            lambda statistics: maximise(statistics, floor, reg_covar),
            start,
            max_iterations=max_iterations,
            tolerance=tolerance,
            usual_weight=usual_weight(source),
            on_iteration=on_iteration,
            checkpoint=opened,
        )


def require_not_negative(**options: Any) -> None:
    """Raise `InputError` naming the first option that is negative, or not a number."""
    for name, value in options.items():
        if not np.all(np.asarray(value) >= 0):
            raise InputError(f"`{name}` is {value}; it must not be negative")


def run_em(
    e_step: Callable[[Mixture], Statistics],
    m_step: Callable[[Statistics], Mixture],
    start: Mixture,
    *,
    max_iterations: int,
    tolerance: float,
    usual_weight: float = 1.0,
    on_iteration: Callable[[int, float], None] | None = None,
    checkpoint: OpenCheckpoint | None = None,
) -> FitResult:
    """The loop of `fit`, whatever the steps are made of.

    Parameters
    ----------
    e_step, m_step : callable
        Their results depend on their arguments alone, or a checkpoint could not go on to the same bits.
    start : Mixture
    usual_weight : float > 0
        What a frame counts, see `usual_weight`: a component with less than half of that has lost its frames.
    checkpoint : OpenCheckpoint, optional
    max_iterations, tolerance, on_iteration
        As in `fit`.
    """
    state = checkpoint.load(max_iterations) if checkpoint is not None else None
    if state is None:
        state = EMState(start)
    elif state.converged(tolerance) or state.n_iterations == max_iterations:
        return FitResult(state.mixture, state.history, state.converged(tolerance), state.reseeded)
    else:
        # Statistics are not kept: the E-step is made again, to the same bits.
        state = replace(state, history=state.history[:-1])
    while True:
        statistics = e_step(state.mixture)
        state = replace(state, history=(*state.history, statistics.mean_log_likelihood))
        if on_iteration is not None:
            on_iteration(state.n_iterations, state.history[-1])
        converged = state.converged(tolerance)
        done = converged or state.n_iterations >= max_iterations
        if checkpoint is not None and (done or state.n_iterations % checkpoint.every == 0):
            _save(checkpoint, state)
        if done:
            return FitResult(state.mixture, state.history, converged, state.reseeded)
        state = advance(state, m_step(statistics), statistics.zeroth / usual_weight)


def _save(checkpoint: OpenCheckpoint, state: EMState) -> None:
    """Write the state. A disk that has filled up must not cost the fit itself."""
    try:
        checkpoint.save(state)
    except InputError as error:
        warnings.warn(
            f"the checkpoint was not written; the fit goes on ({error})", SpeechGMMWarning, stacklevel=4
        )


def advance(state: EMState, mixture: Mixture, counts: Float64s) -> EMState:
    """The state after an M-step, components that lost their frames replaced; its likelihood is not known yet."""
    if counts.min() >= DEAD:
        return replace(state, mixture=mixture)
    allowed = len(state.reseeded) < mixture.n_components
    return replace(
        state, mixture=reseed(mixture, counts, allowed), reseeded=(*state.reseeded, len(state.history))
    )


def usual_weight(source: FrameSource) -> float:
    """The median weight of the frames that count at all: what is meant by one frame where weights have any scale."""
    weights = source.weights
    return 1.0 if weights is None else float(np.median(weights[weights > 0]))


def warn_of_constants(measured: Moments) -> None:
    constant = constant_dimensions(measured.mean, measured.variance)
    if constant.any():
        warnings.warn(
            f"{int(constant.sum())} of {constant.size} features do not vary (the first is number "
            f"{int(np.flatnonzero(constant)[0])}), or by less than a millionth of their value; they say nothing and "
            "get a small variance (subtract their mean, if they should say something)",
            SpeechGMMWarning,
            stacklevel=3,
        )


def warn_of_outliers(measured: Moments) -> None:
    """Warn where one frame of many makes most of the variance that coordinates and floors follow from."""
    if measured.largest is None:
        return
    squared_deviations = measured.largest / np.maximum(measured.variance, np.finfo(np.float64).tiny)
    share = squared_deviations / measured.n_frames
    # Among few frames, one may make most of the variance and still be no farther off than others.
    if share.max() > 0.5 and squared_deviations.max() > FAR**2:
        warnings.warn(
            f"one of {measured.n_frames:.0f} frames makes {min(share.max(), 1.0):.0%} of the variance of feature "
            f"{int(share.argmax())} (an outlier?); variances of components cannot fall far below such a variance, so "
            "leave that frame out",
            SpeechGMMWarning,
            stacklevel=3,
        )
