"""The Gaussian mixture: a frozen value, and what can be asked of it in exact arithmetic."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from speechgmm.em.coordinates import (
    Coordinates,
    Float64s,
    Floats,
    require_finite,
    require_frames,
)
from speechgmm.errors import InputError

LOG_TWO_PI = float(np.log(2.0 * np.pi))
LOG_2 = float(np.log(2.0))
LOG2_E = 1.0 / LOG_2
# Frames handled at a time: their densities stay in cache.
BLOCK = 512
# What float32 holds, with room for sums of a few; its square is what variances may reach.
LARGEST = 1e37


@dataclass(frozen=True, eq=False)
class Mixture:
    """A Gaussian mixture with diagonal covariances.

    Parameters
    ----------
    weights : (n_components,) float64
        Not negative; they sum to 1.
    means : (n_components, n_features) float64
    covariances : (n_components, n_features) float64
        The diagonal of each component's covariance matrix: variances, positive.

    Raises
    ------
    InputError
        If shapes disagree, or values are not finite, not positive, or do not sum to 1.
    """

    weights: Float64s
    means: Float64s
    covariances: Float64s

    def __post_init__(self) -> None:
        for name in ("weights", "means", "covariances"):
            value = np.array(getattr(self, name), np.float64)  # a copy: nobody else can change a mixture
            if not np.isfinite(value).all():
                raise InputError(f"mixture `{name}` has values that are not finite")
            value.flags.writeable = False
            object.__setattr__(self, name, value)
        if self.weights.ndim != 1 or self.means.ndim != 2 or 0 in self.means.shape:
            raise InputError(
                f"mixture `weights` {self.weights.shape} and `means` {self.means.shape} must have the shapes "
                "(n_components,) and (n_components, n_features)"
            )
        if self.means.shape[0] != self.weights.shape[0] or self.covariances.shape != self.means.shape:
            raise InputError(
                f"mixture `weights` {self.weights.shape}, `means` {self.means.shape} and `covariances` "
                f"{self.covariances.shape} disagree"
            )
        if np.abs(self.means).max() > LARGEST or not 1 / LARGEST**2 < self.covariances.max() < LARGEST**2:
            raise InputError(
                f"mixture `means` reach {np.abs(self.means).max():.3g} and `covariances` {self.covariances.max():.3g}; "
                "that is beyond what can be computed with"
            )
        if self.covariances.min() <= 0:
            raise InputError(
                f"mixture `covariances` has the value {self.covariances.min()}; it must be positive"
            )
        if self.weights.min() < 0 or abs(self.weights.sum() - 1.0) > 1e-6:
            raise InputError(
                f"mixture `weights` sum to {self.weights.sum()}, the least is {self.weights.min()}; "
                "they must not be negative and must sum to 1"
            )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mixture):
            return NotImplemented
        return all(
            np.array_equal(getattr(self, name), getattr(other, name))
            for name in ("weights", "means", "covariances")
        )

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> Any:
        # Through the constructor, so that a copy's arrays are frozen too.
        return Mixture, (self.weights, self.means, self.covariances)

    @property
    def n_components(self) -> int:
        """How many Gaussians there are."""
        return int(self.means.shape[0])

    @property
    def n_features(self) -> int:
        """How many values a frame has."""
        return int(self.means.shape[1])

    def log_densities(self, frames: ArrayLike) -> Float64s:
        """Log of weight times density of each frame under each component, in float64.

        The plain equation, exact and slow; the engine's fast paths are tested against it.

        Parameters
        ----------
        frames : (n_frames, n_features)

        Returns
        -------
        (n_frames, n_components) float64
        """
        checked = require_frames(frames, self.n_features)
        require_finite(checked)
        result = self.unchecked_log_densities(checked)
        if len(result) and not np.isfinite(result.max(axis=1)).all():
            raise InputError(
                "`frames` has values so large that their squares overflow, or so far from every component; "
                "scale them down"
            )
        return result

    def unchecked_log_densities(self, frames: Floats) -> Float64s:
        """`log_densities` of an array that is known to be sound."""
        result = np.empty((len(frames), self.n_components))
        with np.errstate(divide="ignore"):
            constants = np.log(self.weights)
        constants = constants - 0.5 * (LOG_TWO_PI * self.n_features + np.log(self.covariances).sum(axis=1))
        precisions = 1.0 / self.covariances
        with np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, len(frames), BLOCK):
                block = np.asarray(frames[start : start + BLOCK], np.float64)
                for k in range(self.n_components):
                    distances = np.square(block - self.means[k]) @ precisions[k]
                    result[start : start + BLOCK, k] = constants[k] - 0.5 * distances
        return result

    def log_likelihoods(self, frames: ArrayLike) -> Float64s:
        """Log-likelihood of each frame, (n_frames,) float64, natural log."""
        return log_sum_exp(self.log_densities(frames))

    def posteriors(self, frames: ArrayLike) -> Float64s:
        """Probability of each component given each frame, (n_frames, n_components); rows sum to 1."""
        log_densities = self.log_densities(frames)
        return np.exp(log_densities - log_sum_exp(log_densities)[:, None])

    def sample(self, n_frames: int, seed: int = 0) -> Float64s:
        """Draw frames from the mixture, (n_frames, n_features); the same seed gives the same frames."""
        rng = np.random.default_rng(seed)
        components = rng.choice(self.n_components, size=n_frames, p=self.weights / self.weights.sum())
        noise = rng.standard_normal((n_frames, self.n_features))
        return self.means[components] + noise * np.sqrt(self.covariances[components])

    def projection(self, coordinates: Coordinates) -> Float64s:
        """The matrix P with `[x, x², 1] @ P` = log2 of weight times density, for x in `coordinates`.

        Returns
        -------
        (2 * n_features + 1, n_components) float64
        """
        means = coordinates.apply(self.means)
        precisions = np.square(coordinates.scale) / self.covariances
        with np.errstate(divide="ignore", over="ignore"):
            constants = np.log(self.weights) - 0.5 * (
                LOG_TWO_PI * self.n_features
                - np.log(precisions).sum(axis=1)
                + (means * means * precisions).sum(axis=1)
            )
        rows = [(means * precisions).T, -0.5 * precisions.T, constants[None, :]]
        return np.asarray(np.concatenate(rows) * LOG2_E)

    def keep(self, components: NDArray[Any]) -> "Mixture":
        """The mixture of some of its components, weights scaled to sum to 1."""
        weights = self.weights[components]
        return Mixture(weights / weights.sum(), self.means[components], self.covariances[components])


def log_sum_exp(values: Floats) -> Float64s:
    """log(sum(exp(values))) over the last axis, without overflow."""
    peaks = values.max(axis=-1, keepdims=True)
    result: Float64s = np.log(np.exp(values - peaks).sum(axis=-1)) + peaks[..., 0]
    return result
