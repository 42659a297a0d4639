"""The Gaussian mixture: a frozen value, and what can be asked of it in exact arithmetic."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from speechgmm.em.coordinates import Float64s, Floats, require_finite, require_frames
from speechgmm.em.covariance import CovarianceType, covariance_type_of
from speechgmm.em.terms import BLOCK
from speechgmm.errors import InputError

LOG_TWO_PI = float(np.log(2.0 * np.pi))
LOG_2 = float(np.log(2.0))
# What float32 holds, with room for sums of a few; its square is what variances may reach.
LARGEST = 1e37


@dataclass(frozen=True, eq=False)
class Mixture:
    """A Gaussian mixture.

    Parameters
    ----------
    weights : (n_components,) float64
        Not negative; they sum to 1.
    means : (n_components, n_features) float64
    covariances : float64
        "diag": variances (n_components, n_features); "full": matrices (n_components, n_features, n_features); "tied":
        one matrix (n_features, n_features); "spherical": variances (n_components,). Positive, or positive definite.
    covariance_type : {"diag", "full", "tied", "spherical"}

    Raises
    ------
    InputError
        If shapes disagree, or values are not finite, not positive (definite), or do not sum to 1.
    """

    weights: Float64s
    means: Float64s
    covariances: Float64s
    covariance_type: str = "diag"

    def __post_init__(self) -> None:
        for name in ("weights", "means", "covariances"):
            # A copy, which nobody else can change; rows together, as those who write arrays to files expect.
            value = np.array(getattr(self, name), np.float64, order="C")
            if not np.isfinite(value).all():
                raise InputError(f"mixture `{name}` has values that are not finite")
            value.flags.writeable = False
            object.__setattr__(self, name, value)
        self._check_shapes()
        variances = self.variances
        if variances.min() <= 0:
            raise InputError(f"mixture `covariances` has the value {variances.min()}; it must be positive")
        if np.abs(self.means).max() > LARGEST or not 1 / LARGEST**2 < variances.max() < LARGEST**2:
            raise InputError(
                f"mixture `means` reach {np.abs(self.means).max():.3g} and `covariances` {variances.max():.3g}; "
                "that is beyond what can be computed with"
            )
        if self.has_matrices:
            self._check_matrices()
        if self.weights.min() < 0 or abs(self.weights.sum() - 1.0) > 1e-6:
            raise InputError(
                f"mixture `weights` sum to {self.weights.sum()}, the least is {self.weights.min()}; "
                "they must not be negative and must sum to 1"
            )

    def _check_shapes(self) -> None:
        if self.weights.ndim != 1 or self.means.ndim != 2 or 0 in self.means.shape:
            raise InputError(
                f"mixture `weights` {self.weights.shape} and `means` {self.means.shape} must have the shapes "
                "(n_components,) and (n_components, n_features)"
            )
        if self.means.shape[0] != self.weights.shape[0] or self.covariances.shape != self.type.shape(
            *self.means.shape
        ):
            raise InputError(
                f"mixture `weights` {self.weights.shape}, `means` {self.means.shape} and {self.covariance_type} "
                f"`covariances` {self.covariances.shape} disagree"
            )

    def _check_matrices(self) -> None:
        matrices = self.covariances
        largest = np.abs(matrices).max()
        if np.abs(matrices - np.swapaxes(matrices, -1, -2)).max() > 1e-6 * largest:
            raise InputError("mixture `covariances` has a matrix that is not symmetric")
        try:
            np.linalg.cholesky(matrices)
        except np.linalg.LinAlgError as error:
            raise InputError(
                "mixture `covariances` has a matrix that is not positive definite "
                "(features that depend on one another?)"
            ) from error

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mixture):
            return NotImplemented
        return self.covariance_type == other.covariance_type and all(
            np.array_equal(getattr(self, name), getattr(other, name))
            for name in ("weights", "means", "covariances")
        )

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> Any:
        # Through the constructor, so that a copy's arrays are frozen too.
        return Mixture, (self.weights, self.means, self.covariances, self.covariance_type)

    @property
    def type(self) -> CovarianceType:
        """The equations of this kind of covariance."""
        return covariance_type_of(self.covariance_type)

    @property
    def has_matrices(self) -> bool:
        """Whether covariances are whole matrices, not only variances."""
        return self.covariance_type in ("full", "tied")

    @property
    def variances(self) -> Float64s:
        """The variance of each feature in each component, (n_components, n_features)."""
        expanded = self.type.expanded(self.covariances, self.n_components, self.n_features)
        return np.einsum("kii->ki", expanded) if self.has_matrices else expanded

    @property
    def n_components(self) -> int:
        """How many Gaussians there are."""
        return int(self.means.shape[0])

    @property
    def n_features(self) -> int:
        """How many values a frame has."""
        return int(self.means.shape[1])

    def deviations(self, component: int) -> Float64s:
        """One deviation of a component along each of its features, or of its own axes together, (n_features,)."""
        if not self.has_matrices:
            return np.asarray(np.sqrt(self.variances[component]))
        factor = np.linalg.cholesky(self.type.expanded(self.covariances, *self.means.shape)[component])
        return np.asarray(factor.sum(axis=1))

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
        covariances = self.type.expanded(self.covariances, self.n_components, self.n_features)
        with np.errstate(over="ignore", invalid="ignore"):
            for k in range(self.n_components):
                whiten, log_determinant = _whitener(covariances[k])
                for start in range(0, len(frames), BLOCK):
                    centred = np.asarray(frames[start : start + BLOCK], np.float64) - self.means[k]
                    distances = np.square(whiten(centred)).sum(axis=1)
                    result[start : start + BLOCK, k] = -0.5 * distances
                result[:, k] += constants[k] - 0.5 * (LOG_TWO_PI * self.n_features + log_determinant)
        return result

    def log_likelihoods(self, frames: ArrayLike) -> Float64s:
        """Log-likelihood of each frame, (n_frames,) float64, natural log."""
        return log_sum_exp(self.log_densities(frames))

    def posteriors(self, frames: ArrayLike) -> Float64s:
        """Probability of each component given each frame, (n_frames, n_components); rows sum to 1."""
        return normalised(self.log_densities(frames))

    def sample(self, n_frames: int, seed: int = 0) -> Float64s:
        """Draw frames from the mixture, (n_frames, n_features); the same seed gives the same frames."""
        rng = np.random.default_rng(seed)
        components = rng.choice(self.n_components, size=n_frames, p=self.weights / self.weights.sum())
        noise = rng.standard_normal((n_frames, self.n_features))
        if self.has_matrices:
            factors = np.linalg.cholesky(self.covariances)
            for k in range(self.n_components):
                rows = components == k
                noise[rows] = noise[rows] @ (factors if self.covariance_type == "tied" else factors[k]).T
        else:
            noise *= np.sqrt(self.variances[components])
        return self.means[components] + noise

    @property
    def n_parameters(self) -> int:
        """How many numbers are free: weights, which sum to 1, means and covariances."""
        K, D = self.means.shape
        return int(K - 1 + K * D + self.type.n_parameters(K, D))

    def bic(self, log_likelihood: float, n_frames: float) -> float:
        """The Bayesian information criterion; lower is better.

        Parameters
        ----------
        log_likelihood : float
            The sum over all frames, natural log.
        n_frames : float
            The sum of their weights, where they have any.

        References
        ----------
        Schwarz (1978), Ann. Statist. 6.
        """
        return float(-2.0 * log_likelihood + self.n_parameters * np.log(n_frames))

    def aic(self, log_likelihood: float) -> float:
        """Akaike's information criterion of frames with this sum of log-likelihoods; lower is better.

        References
        ----------
        Akaike (1974), IEEE Trans. Automat. Contr. 19.
        """
        return float(-2.0 * log_likelihood + 2.0 * self.n_parameters)

    def with_type(self, covariance_type: str) -> "Mixture":
        """The same densities as "diag" or "full", where that holds them: variances as either, matrices as "full"."""
        if covariance_type == self.covariance_type:
            return self
        if covariance_type == "diag" and not self.has_matrices:
            covariances = self.variances
        elif covariance_type == "full" and self.has_matrices:
            covariances = self.type.expanded(self.covariances, *self.means.shape)
        elif covariance_type == "full":
            covariances = self.variances[:, :, None] * np.eye(self.n_features)
        else:
            raise InputError(
                f"a mixture of {self.covariance_type} covariances is none of {covariance_type} ones"
            )
        return Mixture(self.weights, self.means, covariances, covariance_type)

    def keep(self, components: NDArray[Any]) -> "Mixture":
        """The mixture of some of its components, weights scaled to sum to 1."""
        weights = self.weights[components]
        covariances = self.type.keep(self.covariances, components)
        return Mixture(weights / weights.sum(), self.means[components], covariances, self.covariance_type)


def _whitener(covariance: Float64s) -> tuple[Any, float]:
    """What turns centred frames into ones of unit covariance, and the log-determinant of the covariance."""
    if covariance.ndim == 1:
        deviations = np.sqrt(covariance)
        return lambda centred: centred / deviations, float(np.log(covariance).sum())
    factor = np.linalg.cholesky(covariance)
    # Not through an inverse: this is the equation that others answer to.
    return lambda centred: np.linalg.solve(factor, centred.T).T, float(
        2.0 * np.log(np.diagonal(factor)).sum()
    )


def normalised(log_densities: Floats) -> Float64s:
    """Posteriors from log-densities: exp, divided by its sum over the last axis.

    Not exp(l - log_sum_exp(l)): of a frame so far away that its log-densities have no digits left below 1, that would
    not sum to 1.
    """
    result = np.exp(log_densities - log_densities.max(axis=-1, keepdims=True))
    return np.asarray(result / result.sum(axis=-1, keepdims=True))


def log_sum_exp(values: Floats) -> Float64s:
    """log(sum(exp(values))) over the last axis, without overflow."""
    peaks = values.max(axis=-1, keepdims=True)
    result: Float64s = np.log(np.exp(values - peaks).sum(axis=-1)) + peaks[..., 0]
    return result
