"""Stepwise EM: a mixture that goes on learning from frames that are seen once."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from speechgmm.em.coordinates import Coordinates, Float64s
from speechgmm.em.fit import require_not_negative
from speechgmm.em.maximise import DEAD, absolute_floor, maximise, reseed
from speechgmm.em.mixture import Mixture
from speechgmm.em.moments import Moments, moments, moments_of
from speechgmm.em.sources import LEAST_WEIGHT, ArraySource, FrameSource, as_source
from speechgmm.em.statistics import Statistics, accumulate
from speechgmm.errors import InputError
from speechgmm.parallel import one_blas_thread

# A step has so many frames at least, to stay on the E-step's fast path, and so many values for each free parameter:
# with fewer the noise of single steps stays in the mixture, with more there are too few steps.
LEAST_STEP, VALUES_PER_PARAMETER = 1024, 8
# Coordinates are replaced when the frames have moved by so many deviations, or spread by such a factor.
DRIFT = 4.0


class StepwiseEM:
    """A mixture that is updated with batch after batch of frames, none of which is kept.

    Statistics are a running average over frames. A batch of n frames leaves of the average before it, at step t
    (counted in `frames_per_step` frames, from 1), exp(-∫ s^-alpha ds) from t to t + n / frames_per_step, and has the
    rest of the weight itself; to first order that is the usual step size (t + 1)^-alpha, and with alpha = 1 every
    frame has the same weight. Each frame thus weighs the same however the frames are divided into batches. Longer
    batches are learnt from in parts of `frames_per_step` frames, with an M-step after each.

    The start counts as one step's worth of frames. Nothing is random: the same batches give the same bits.

    Parameters
    ----------
    start : Mixture
        Not changed; see `speechgmm.em.initialise`. What comes out has its kind of covariance.
    alpha : float, 0.5 < alpha <= 1
        The smaller, the sooner early frames are forgotten.
    frames_per_step : int, optional
        Default: 8 values for each free parameter of the mixture, and 1024 frames at least.
    variance_floor : float or (n_features,)
        A number is a fraction of the frames' own variance, which is averaged along; an array is the floor itself.
    reg_covar : float >= 0
        Added to every variance at every M-step, in the frames' units squared.

    Raises
    ------
    InputError
        If an option is out of range.

    References
    ----------
    Cappé, Moulines (2009), On-line expectation-maximization for latent data models, J. R. Stat. Soc. B 71.
    Liang, Klein (2009), Online EM for unsupervised models, NAACL.
    """

    def __init__(
        self,
        start: Mixture,
        *,
        alpha: float = 0.7,
        frames_per_step: int | None = None,
        variance_floor: Float64s | float = 1e-3,
        reg_covar: float = 0.0,
    ) -> None:
        if not 0.5 < alpha <= 1:
            raise InputError(f"`alpha` is {alpha}; it must be above 0.5 and at most 1")
        if frames_per_step is None:
            frames_per_step = max(LEAST_STEP, VALUES_PER_PARAMETER * start.n_parameters // start.n_features)
        if (
            isinstance(frames_per_step, bool)
            or not isinstance(frames_per_step, int | np.integer)
            or frames_per_step < 4 * start.n_components
        ):
            raise InputError(
                f"`frames_per_step` is {frames_per_step!r}; it must be a whole number, with {start.n_components} "
                f"components {4 * start.n_components} or more"
            )
        require_not_negative(variance_floor=variance_floor, reg_covar=reg_covar)
        self._alpha = float(alpha)
        self._frames_per_step = int(frames_per_step)
        self._variance_floor = variance_floor
        self._reg_covar = reg_covar
        self._steps = 1.0
        self._mixture = start
        with one_blas_thread():
            self._moments = moments_of(start)
            self._statistics = _statistics_of(start, self._moments.coordinates(start.covariance_type))

    @property
    def mixture(self) -> Mixture:
        """What was learnt so far; at first the start."""
        return self._mixture

    @property
    def n_frames(self) -> float:
        """How many frames were seen: the sum of their weights."""
        return (self._steps - 1.0) * self._frames_per_step

    def update(self, frames: Any, weights: ArrayLike | None = None) -> float:
        """Learn from a batch.

        Parameters
        ----------
        frames : (n_frames, n_features) array or FrameSource
            Any number of frames from 1.
        weights : (n_frames,), optional
            How often each frame counts: 2 is as good as two frames in one place.

        Returns
        -------
        float
            Mean log-likelihood per frame, of each before it was learnt from: what a held-out frame would get.

        Raises
        ------
        InputError
            If the batch cannot be used; then, as after an interrupt, nothing was learnt from it.
        """
        source = as_source(frames, weights)
        if source.n_features != self._mixture.n_features:
            raise InputError(
                f"`frames` has {source.n_features} features; the mixture has {self._mixture.n_features}"
            )
        moments(source)  # all values are checked before any is used
        before = self._steps, self._mixture, self._moments, self._statistics
        log_likelihood, n_frames = 0.0, 0.0
        try:
            with one_blas_thread():
                for part in _parts(source, self._frames_per_step):
                    statistics = self._learn(part)
                    log_likelihood += statistics.log_likelihood
                    n_frames += statistics.n_frames
        except BaseException:  # an interrupt too: the batch can be given again
            self._steps, self._mixture, self._moments, self._statistics = before
            raise
        return log_likelihood / n_frames

    def _learn(self, part: FrameSource) -> Statistics:
        """One E-step and one M-step."""
        measured = moments(part, covariance=self._mixture.has_matrices)
        share = self._share(measured.n_frames)
        self._moments = _average(self._moments, measured, share)
        self._follow(self._moments.coordinates(self._mixture.covariance_type))
        statistics = accumulate(self._mixture, part, self._statistics.coordinates)
        self._statistics = self._statistics.scaled(1.0 - share) + statistics.scaled(
            share / statistics.n_frames
        )
        self._steps += measured.n_frames / self._frames_per_step
        self._replace_lost_components()
        floor = absolute_floor(self._moments, self._variance_floor, self._mixture.covariance_type)
        self._mixture = maximise(self._statistics, floor, self._reg_covar)
        return statistics

    def _share(self, n_frames: float) -> float:
        """The weight of the next frames in the average."""
        start, stop = self._steps, self._steps + n_frames / self._frames_per_step
        if self._alpha == 1:
            return (stop - start) / stop
        power = 1.0 - self._alpha
        return float(-np.expm1((start**power - stop**power) / power))

    def _follow(self, suitable: Coordinates) -> None:
        """Move the statistics to coordinates that suit the frames, where their own do so no longer."""
        images = suitable.apply(self._statistics.coordinates.undo(np.eye(len(suitable.origin) + 1)[:, 1:]))
        stretch = np.linalg.svd(images[1:] - images[0], compute_uv=False)
        if np.abs(images[0]).max() > DRIFT or stretch.max() > DRIFT or stretch.min() < 1 / DRIFT:
            self._statistics = _statistics_of(maximise(self._statistics), suitable)

    def _replace_lost_components(self) -> None:
        """Split the heaviest components where others have less than half of a frame of those remembered."""
        # One over the weight of the last frame: the average is about as good as that of so many frames.
        remembered = self._steps**self._alpha * self._frames_per_step
        counts = self._statistics.zeroth * remembered
        if counts.min() < DEAD:
            replaced = reseed(maximise(self._statistics), counts)
            self._statistics = _statistics_of(replaced, self._statistics.coordinates)


def _parts(source: FrameSource, size: int) -> Iterator[FrameSource]:
    """The frames in parts; those that count nothing are left out."""
    for frames, weights in source.shards():
        for start in range(0, len(frames), size):
            rows = slice(start, start + size)
            if weights is None:
                yield ArraySource(frames[rows])
            elif weights[rows].mean() > LEAST_WEIGHT:
                yield ArraySource(frames[rows], weights[rows])


def _average(old: Moments, new: Moments, share: float) -> Moments:
    """Moments of two sets of frames together, the new ones with a share of the weight."""
    between = share * (1.0 - share)
    apart = new.mean - old.mean
    covariance = None
    if old.covariance is not None and new.covariance is not None:
        covariance = (
            (1.0 - share) * old.covariance + share * new.covariance + between * np.outer(apart, apart)
        )
    return Moments(
        n_frames=1.0,
        mean=old.mean + share * apart,
        variance=(1.0 - share) * old.variance + share * new.variance + between * np.square(apart),
        covariance=covariance,
    )


def _statistics_of(mixture: Mixture, coordinates: Coordinates) -> Statistics:
    """The statistics, per frame, of frames that a mixture describes: `maximise` gives it back."""
    weights = mixture.weights
    means = coordinates.apply(mixture.means)
    covariances = mixture.type.apply(mixture.covariances, coordinates)
    second = mixture.type.second_moments(weights, means, covariances)
    return Statistics(
        weights, weights[:, None] * means, second, 0.0, 1.0, coordinates, mixture.covariance_type
    )
