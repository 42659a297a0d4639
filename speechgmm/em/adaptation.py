"""Relevance MAP adaptation: a mixture moved towards new frames, each component as far as they speak of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechgmm.em.coordinates import Coordinates, Float64s, Floats, require_finite
from speechgmm.em.mixture import Mixture
from speechgmm.em.moments import moments_of
from speechgmm.em.sources import FrameSource, as_source
from speechgmm.em.statistics import Statistics, accumulate
from speechgmm.errors import InputError

# What can be adapted, in the order in which it is listed.
PARTS = ("means", "variances", "weights")
# A component with no more than this share of the frames saw none: compiled passes know no posterior below 2**-60.
NOTHING = 2.0**-50
# What an infinite relevance factor is called where numbers must be finite.
INFINITE = "inf"


@dataclass(frozen=True)
class Adaptation:
    """How a mixture is adapted to new frames.

    Parameters
    ----------
    relevance_factor : float >= 0
        In frames: a component that saw this many moves half way. 0: all the way, as maximum likelihood does;
        infinite: not at all.
    parts : tuple of {"means", "variances", "weights"}
        What moves; kept in this order. Means alone are what verification does best with.
    iterations : int >= 1
        How often posteriors are formed anew, under the mixture adapted so far; what is adapted is always the
        prior.

    Raises
    ------
    InputError
        If a value is out of range, or of another type.
    """

    relevance_factor: float = 16.0
    parts: tuple[str, ...] = ("means",)
    iterations: int = 1

    def __post_init__(self) -> None:
        factor = self.relevance_factor
        known = isinstance(factor, int | float) and not isinstance(factor, bool)
        # Whole numbers can be larger than what a float holds.
        if not known or not (0 <= factor <= 1e300 or factor == math.inf):
            raise InputError(f"`relevance_factor` is {factor!r:.80}; it must be a number of frames from 0")
        object.__setattr__(self, "relevance_factor", float(factor))
        object.__setattr__(self, "parts", _in_order(self.parts))
        if type(self.iterations) is not int or self.iterations < 1:
            raise InputError(
                f"adaptation `iterations` is {self.iterations!r}; it must be a whole number from 1"
            )

    def to_dict(self) -> dict[str, Any]:
        """The settings as values that JSON has."""
        factor = self.relevance_factor if math.isfinite(self.relevance_factor) else INFINITE
        return {"relevance_factor": factor, "parts": list(self.parts), "iterations": self.iterations}

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> "Adaptation":
        """Settings from plain values, such as `to_dict` gives; those not given keep their defaults.

        Raises
        ------
        InputError
            If a setting is unknown, or its value out of range.
        """
        known = [setting.name for setting in fields(cls)]
        unknown = sorted(set(settings) - set(known))
        if unknown:
            raise InputError(f"unknown adaptation setting {unknown[0]!r}; known are {', '.join(known)}")
        values = dict(settings)
        if values.get("relevance_factor") == INFINITE:
            values["relevance_factor"] = math.inf
        return cls(**values)

    def require_suits(self, mixture: Mixture) -> None:
        """Raise `InputError` where a mixture's covariances cannot be adapted as these settings ask."""
        if "variances" in self.parts and mixture.covariance_type == "tied":
            raise InputError(
                "the variances of tied covariances cannot be adapted, because no component has its own "
                "(leave `variances` out of `parts`, or train a mixture of another covariance type)"
            )


def _in_order(parts: Any) -> tuple[str, ...]:
    """Names of parts, checked, in the order of `PARTS`."""
    named = list(parts) if isinstance(parts, list | tuple) else []
    if not named or any(part not in PARTS for part in named) or len(set(named)) != len(named):
        raise InputError(
            f"adaptation `parts` is {parts!r}; it must be a list of one or more of {', '.join(PARTS)}, each once"
        )
    return tuple(part for part in PARTS if part in named)


def adapt(
    prior: Mixture,
    statistics: Statistics,
    relevance_factor: float = 16.0,
    parts: tuple[str, ...] = ("means",),
    variance_floor: Float64s | float = 0.0,
) -> Mixture:
    """Adapt a mixture to new frames by relevance MAP.

    A component that saw n frames moves by α = n / (n + relevance_factor) of the way from the prior to what is most
    likely. One that saw none keeps the prior's numbers, bit for bit, also at a relevance factor of 0; only weights
    are scaled to sum to 1.

    Variances are second moments of both sides about the new mean, α (v + (m - μ')²) + (1 - α) (σ² + (μ - μ')²). With
    adapted means that is equation 13 without its difference of squares. Without them it is not: there μ' = μ, and the
    equation, whose squares are those of means that do not move, could become negative.

    Parameters
    ----------
    prior : Mixture
        Usually the ubm. Not changed.
    statistics : Statistics
        Of the new frames, accumulated under `prior`; in any coordinates. `second` is read for variances only.
    relevance_factor : float >= 0
        In frames: a component that saw this many moves half way.
    parts : tuple of {"means", "variances", "weights"}
        What moves. Variances are those of "diag", "spherical" and "full" covariances (there whole matrices).
    variance_floor : float, (n_features,) or (n_features, n_features)
        Of adapted variances, as for `maximise`.

    Raises
    ------
    InputError
        If `prior` and `statistics` differ in shape or kind of covariance, or a setting is out of range.

    References
    ----------
    Reynolds, Quatieri, Dunn (2000), Digital Signal Processing 10, eq. 11-14; Gauvain, Lee (1994), IEEE Trans. Speech
    Audio Process. 2.
    """
    settings = Adaptation(relevance_factor, parts)
    settings.require_suits(prior)
    _require_alike(prior, statistics)
    alpha = _shares(statistics.zeroth, settings.relevance_factor)
    moved = alpha > 0
    if not moved.any():
        return prior
    found = statistics.first / np.where(moved, statistics.zeroth, 1.0)[:, None]
    weights, means, covariances = prior.weights, prior.means, prior.covariances
    if "weights" in settings.parts:
        weights = _between(alpha, weights, statistics.zeroth / statistics.zeroth.sum())
        weights = weights / weights.sum()
    if "means" in settings.parts:
        means = _between(alpha, means, statistics.coordinates.undo(found))
    if "variances" in settings.parts:
        adapted = _covariances(prior, statistics, alpha, found, means)
        floor = np.asarray(variance_floor, np.float64)
        adapted = prior.type.floored(adapted, floor, statistics.coordinates)
        covariances = np.where(
            _like(moved, covariances), prior.type.undo(adapted, statistics.coordinates), covariances
        )
    return Mixture(weights, means, covariances, prior.covariance_type)


def _require_alike(prior: Mixture, statistics: Statistics) -> None:
    if (
        statistics.first.shape != prior.means.shape
        or statistics.covariance_type != prior.covariance_type
        or statistics.zeroth.shape != prior.weights.shape
    ):
        raise InputError(
            f"statistics of shape {statistics.first.shape} ({statistics.covariance_type}) cannot adapt a mixture of "
            f"shape {prior.means.shape} ({prior.covariance_type}) (accumulated under another mixture?)"
        )


def _shares(zeroth: Float64s, relevance_factor: float) -> Float64s:
    """How far each component moves, from 0 to 1; not at all where it saw nothing."""
    seen = zeroth > NOTHING * zeroth.sum()
    return np.divide(zeroth, zeroth + relevance_factor, out=np.zeros(zeroth.shape), where=seen)


def _like(values: NDArray[Any], array: NDArray[Any]) -> NDArray[Any]:
    """One value a component, in a shape that goes with an array of all components."""
    return values.reshape(-1, *[1] * (array.ndim - 1))


def _between(alpha: Float64s, prior: Float64s, found: Float64s) -> Float64s:
    """Convex, so that shares of 0 and 1 give the one and the other exactly."""
    share = _like(alpha, prior)
    return np.asarray((1.0 - share) * prior + share * found)


def _covariances(
    prior: Mixture, statistics: Statistics, alpha: Float64s, found: Float64s, means: Float64s
) -> Float64s:
    """Those of both sides about the new means, in coordinates."""
    type_, coordinates = prior.type, statistics.coordinates
    centres = coordinates.apply(means)
    zeroth = np.where(alpha > 0, statistics.zeroth, 1.0)
    of_frames = type_.estimate(zeroth, found, statistics.second)
    of_prior = type_.apply(prior.covariances, coordinates)
    ones, nothing = np.ones(alpha.shape), np.zeros(of_prior.shape)

    def about_centres(covariances: Float64s, own: Float64s) -> Float64s:
        # Without second moments, an estimate is what distance from the mean takes away.
        return np.asarray(covariances - type_.estimate(ones, own - centres, nothing))

    return _between(
        alpha,
        about_centres(of_prior, coordinates.apply(prior.means)),
        about_centres(of_frames, found),
    )


def adapt_to_frames(
    prior: Mixture,
    frames: Floats | FrameSource,
    adaptation: Adaptation,
    coordinates: Coordinates | None = None,
    n_jobs: int = 1,
) -> Mixture:
    """Adapt a mixture to frames, with statistics under the mixture adapted so far in every iteration.

    What is adapted is the prior each time; of means, and of means with variances, this is the EM algorithm for the
    most probable mixture (Gauvain, Lee 1994), whose objective never falls.

    Parameters
    ----------
    prior : Mixture
    frames : (n_frames, n_features) array or FrameSource
    adaptation : Adaptation
    coordinates : Coordinates, optional
        Those of the statistics. Default: those that suit the prior.
    n_jobs : int
        Threads; the result does not depend on it.

    Raises
    ------
    InputError
        If the frames do not fit the prior, are none, or are not finite.
    """
    statistics = last_statistics(prior, frames, adaptation, coordinates, n_jobs)
    return adapt(prior, statistics, adaptation.relevance_factor, adaptation.parts)


def last_statistics(
    prior: Mixture,
    frames: Floats | FrameSource,
    adaptation: Adaptation,
    coordinates: Coordinates | None = None,
    n_jobs: int = 1,
) -> Statistics:
    """The statistics of the last iteration of `adapt_to_frames`, which the prior is adapted with.

    Parameters and errors are those of `adapt_to_frames`.
    """
    adaptation.require_suits(prior)
    source = as_source(frames)
    row = 0
    for shard in source.shards():
        require_finite(shard.frames, row)
        row += len(shard.frames)
    if coordinates is None:
        coordinates = moments_of(prior).coordinates(prior.covariance_type)
    statistics = accumulate(prior, source, coordinates, n_jobs)
    for _ in range(adaptation.iterations - 1):
        adapted = adapt(prior, statistics, adaptation.relevance_factor, adaptation.parts)
        statistics = accumulate(adapted, source, coordinates, n_jobs)
    return statistics
