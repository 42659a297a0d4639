"""GaussianMixture: the engine with the face of scikit-learn's class of that name."""

import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from speechgmm.em import inference
from speechgmm.em.coordinates import Float64s, Floats
from speechgmm.em.covariance import COVARIANCE_TYPES, covariance_type_of, symmetric_inverse
from speechgmm.em.fit import FitResult, fit
from speechgmm.em.initialise import kmeans, random_frames, random_parts, split
from speechgmm.em.mixture import Mixture
from speechgmm.em.online import StepwiseEM
from speechgmm.em.sources import FrameSource, as_source
from speechgmm.errors import InputError
from speechgmm.parallel import parallel_map

INITIALISERS: dict[str, Callable[..., Mixture]] = {
    "kmeans": kmeans,
    "k-means++": partial(kmeans, max_iterations=0),
    "random": random_parts,
    "random_from_data": random_frames,
    "split": split,
}


class GaussianMixture(DensityMixin, BaseEstimator):  # type: ignore[misc]
    """A Gaussian mixture with scikit-learn's interface: for pipelines, grid searches, and programs written for it.

    Parameters and attributes mean what they mean in `sklearn.mixture.GaussianMixture`, with these differences:

    - Products inside `fit` are float32, so that it agrees with scikit-learn in float64 to about five digits of the
      log-likelihood and of the parameters, for float32 frames as well; everything else is float64.
    - `lower_bound_` is that of the mixture which `fit` leaves, not of the one before it. For the same reason
      `n_iter_` is smaller by 1 where the fit converged: scikit-learn then makes one more M-step.
    - Where clusters collapse, no variance falls below a millionth of the frames' own; components that lose their
      frames are re-seeded. With fewer distinct frames than components there are fewer components, and a warning.
    - k-means compares features in units of their deviation, and looks at a sample of the frames.

    Parameters
    ----------
    n_components : int >= 1
    covariance_type : {"full", "tied", "diag", "spherical"}
    tol : float >= 0
        EM stops when the mean log-likelihood of a frame changes by less.
    reg_covar : float >= 0
        Added to the diagonal of every covariance.
    max_iter : int >= 0
        The most EM iterations.
    n_init : int >= 1
        How many starts; the most likely result is kept.
    init_params : {"kmeans", "k-means++", "random", "random_from_data", "split"}
        "kmeans": clusters of k-means. "k-means++": clusters around its seeds. "random": random posteriors.
        "random_from_data": random frames as means. "split": one Gaussian, split again and again.
    weights_init, means_init, precisions_init : array-like, optional
        Replace what `init_params` finds; with all three nothing else is needed. Shapes as of the attributes.
    random_state : int, RandomState or None
    warm_start : bool
        Whether `fit` starts where the last one ended.
    verbose : int
        1 prints starts and iterations, 2 also times and log-likelihoods.
    verbose_interval : int >= 1
        Iterations from one print to the next.
    n_jobs : int or None
        Threads, over the starts where there are several; -1 for all cores, None for 1. Results do not depend on it.

    Attributes
    ----------
    weights_ : (n_components,)
    means_ : (n_components, n_features)
    covariances_, precisions_, precisions_cholesky_ : float64
        (n_components, n_features, n_features), (n_features, n_features), (n_components, n_features) or
        (n_components,), by `covariance_type`.
    converged_ : bool
    n_iter_ : int
        M-steps of the best start.
    lower_bound_ : float
        Mean log-likelihood of a frame.
    lower_bounds_ : list of float
        The same after every iteration.
    mixture_ : Mixture
        What `weights_`, `means_` and `covariances_` describe, for the rest of speechgmm.
    n_features_in_, feature_names_in_

    Examples
    --------
    >>> import numpy as np
    >>> from speechgmm.em.estimator import GaussianMixture
    >>> X = np.array([[1.0, 2], [1, 4], [1, 0], [10, 12], [10, 14], [10, 10]])
    >>> gm = GaussianMixture(n_components=2, random_state=0).fit(X)
    >>> sorted(gm.means_.round(6).tolist())
    [[1.0, 2.0], [10.0, 12.0]]
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "covariance_type": [StrOptions(set(COVARIANCE_TYPES))],
        "tol": [Interval(Real, 0.0, None, closed="left")],
        "reg_covar": [Interval(Real, 0.0, None, closed="left")],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "init_params": [StrOptions(set(INITIALISERS))],
        "weights_init": ["array-like", None],
        "means_init": ["array-like", None],
        "precisions_init": ["array-like", None],
        "random_state": ["random_state"],
        "warm_start": ["boolean"],
        "verbose": ["verbose"],
        "verbose_interval": [Interval(Integral, 1, None, closed="left")],
        "n_jobs": [Integral, None],
    }

    _online: StepwiseEM | None = None

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: str = "full",
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
        max_iter: int = 100,
        n_init: int = 1,
        init_params: str = "kmeans",
        weights_init: Any = None,
        means_init: Any = None,
        precisions_init: Any = None,
        random_state: Any = None,
        warm_start: bool = False,
        verbose: int = 0,
        verbose_interval: int = 10,
        n_jobs: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.weights_init = weights_init
        self.means_init = means_init
        self.precisions_init = precisions_init
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.verbose_interval = verbose_interval
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Fit the mixture by EM, from `n_init` starts or, with `warm_start`, from where the last fit ended.

        Parameters
        ----------
        X : array-like, shape (n_samples, n_features)
            float32 and float64 are used as they are, memory maps too.
        y : ignored
        sample_weight : array-like, shape (n_samples,), optional
            How often each sample counts.

        Raises
        ------
        ValueError
            If a parameter or a value cannot be used, or there are fewer samples than 2 or than components.

        Warns
        -----
        ConvergenceWarning
            If the best start did not converge.
        """
        self._fit(self._checked(X, min_samples=2), sample_weight)
        return self

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> NDArray[np.intp]:
        """`fit`, and then the most probable component of each of the same samples, (n_samples,)."""
        frames = self._checked(X, min_samples=2)
        self._fit(frames, sample_weight)
        return inference.assign(self.mixture_, frames, self._n_jobs)

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Learn from some more samples by stepwise EM; the first call takes its start from them.

        After `fit` it goes on from the fitted mixture. Parameters are those of the first call; set later, they count
        from the next `fit`. Arguments and errors are those of `fit`, but after the first
        call any number of samples will do. `lower_bound_` is the mean log-likelihood of these samples before they
        were learnt from.

        See Also
        --------
        speechgmm.em.online.StepwiseEM
        """
        first = not hasattr(self, "weights_")
        frames = self._checked(X, min_samples=2 if first else 1, reset=first)
        source = as_source(frames, sample_weight)
        if first or self._online is None:
            rng = check_random_state(self.random_state)
            start = self._start(source, _seed(rng), self._n_jobs) if first else self.mixture_
            floor = np.zeros(source.n_features)
            self._online = StepwiseEM(start, variance_floor=floor, reg_covar=self.reg_covar)
        self.lower_bound_ = self._online.update(source)
        self._describe(self._online.mixture)
        return self

    def predict(self, X: Any) -> NDArray[np.intp]:
        """The number of the most probable component of each sample, (n_samples,)."""
        return inference.assign(*self._question(X))

    def predict_proba(self, X: Any) -> Float64s:
        """Probability of each component given each sample, (n_samples, n_components)."""
        return inference.posteriors(*self._question(X))

    def score_samples(self, X: Any) -> Float64s:
        """Log-likelihood of each sample, (n_samples,)."""
        return inference.log_likelihoods(*self._question(X))

    def score(self, X: Any, y: Any = None) -> float:
        """Mean log-likelihood of the samples."""
        return float(self.score_samples(X).mean())

    def bic(self, X: Any) -> float:
        """The Bayesian information criterion on these samples; lower is better."""
        likelihoods = self.score_samples(X)
        return self.mixture_.bic(float(likelihoods.sum()), likelihoods.size)

    def aic(self, X: Any) -> float:
        """Akaike's information criterion on these samples; lower is better."""
        return self.mixture_.aic(float(self.score_samples(X).sum()))

    def sample(self, n_samples: int = 1) -> tuple[Float64s, NDArray[np.int64]]:
        """Draw samples from the mixture.

        Returns
        -------
        X : (n_samples, n_features) float64
        y : (n_samples,) int
            The component each comes from; in rising order, as scikit-learn gives them.
        """
        check_is_fitted(self)
        if n_samples < 1:
            raise InputError(f"`n_samples` is {n_samples}; at least 1 can be drawn")
        mixture = self.mixture_
        rng = check_random_state(self.random_state)
        counts = rng.multinomial(n_samples, mixture.weights / mixture.weights.sum())
        drawn = np.flatnonzero(counts)
        parts = [mixture.keep(np.array([k])).sample(int(counts[k]), _seed(rng)) for k in drawn]
        return np.concatenate(parts), np.repeat(np.arange(counts.size), counts)

    @property
    def mixture_(self) -> Mixture:
        """The mixture that `weights_`, `means_` and `covariances_` describe."""
        return Mixture(self.weights_, self.means_, self.covariances_, self.covariance_type)

    @property
    def _n_jobs(self) -> int:
        return 1 if self.n_jobs is None else int(self.n_jobs)

    def _checked(self, X: Any, min_samples: int = 1, reset: bool = True) -> Floats:
        """Samples to learn from, as an array of floats."""
        self._validate_params()
        frames: Floats = validate_data(
            self, X, dtype=[np.float64, np.float32], reset=reset, ensure_min_samples=min_samples
        )
        if min_samples > 1 and len(frames) < self.n_components:
            raise InputError(
                f"Expected n_samples >= n_components but got n_components = {self.n_components}, "
                f"n_samples = {len(frames)}"
            )
        return frames

    def _question(self, X: Any) -> tuple[Mixture, Floats, int]:
        """What the functions of `inference` are asked with."""
        check_is_fitted(self)
        frames = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return self.mixture_, frames, self._n_jobs

    def _fit(self, frames: Floats, sample_weight: Any) -> None:
        source = as_source(frames, sample_weight)
        warm = self.warm_start and hasattr(self, "weights_")
        rng = check_random_state(self.random_state)
        seeds = [0] if warm else [_seed(rng) for _ in range(self.n_init)]
        # Never both at once: several starts, and several threads for one of them.
        n_jobs = self._n_jobs if len(seeds) == 1 else 1

        def one(number: int) -> FitResult:
            report = _Report(self.verbose, self.verbose_interval)
            report.begin(number)
            result = fit(
                source,
                self.mixture_ if warm else self._start(source, seeds[number], n_jobs),
                max_iterations=self.max_iter,
                tolerance=self.tol,
                variance_floor=np.zeros(source.n_features),
                reg_covar=self.reg_covar,
                n_jobs=n_jobs,
                on_iteration=report.iteration,
            )
            report.end(result)
            return result

        results = parallel_map(one, range(len(seeds)), self._n_jobs)
        best = max(results, key=lambda result: result.history[-1])
        self._describe(best.mixture)
        self._online = None
        self.converged_ = best.converged
        self.n_iter_ = best.n_iterations
        self.lower_bound_ = best.history[-1]
        self.lower_bounds_ = list(best.history[1:])
        if not best.converged and self.max_iter > 0:
            warnings.warn(
                f"EM did not converge in {self.max_iter} iterations; increase max_iter or tol, or try other "
                "init_params",
                ConvergenceWarning,
                stacklevel=3,
            )

    def _describe(self, mixture: Mixture) -> None:
        self.weights_, self.means_, self.covariances_ = (
            value.copy() for value in (mixture.weights, mixture.means, mixture.covariances)
        )
        if mixture.has_matrices:
            factors = np.linalg.inv(np.linalg.cholesky(mixture.covariances))
            # What rounding leaves beside the triangle goes: others rely on its being one.
            upper = np.triu(np.swapaxes(factors, -1, -2))
            self.precisions_cholesky_, self.precisions_ = upper, upper @ np.swapaxes(upper, -1, -2)
        else:
            self.precisions_ = 1.0 / mixture.covariances
            self.precisions_cholesky_ = np.sqrt(self.precisions_)

    def _start(self, source: FrameSource, seed: int, n_jobs: int) -> Mixture:
        """Where EM starts: what `init_params` finds, replaced by what is given."""
        given = self._given(source.n_features)
        if len(given) == 3:
            return Mixture(**given, covariance_type=self.covariance_type)
        options = {
            "covariance_type": self.covariance_type,
            "seed": seed,
            "variance_floor": np.zeros(source.n_features),
            "reg_covar": self.reg_covar,
            "n_jobs": n_jobs,
        }
        start = INITIALISERS[self.init_params](source, self.n_components, **options)
        if given and start.n_components < self.n_components:
            raise InputError(
                f"only {start.n_components} of {self.n_components} components have samples to start from; give "
                "all of weights_init, means_init and precisions_init"
            )
        return replace(start, **given)

    def _given(self, n_features: int) -> dict[str, Any]:
        """`weights_init`, `means_init` and `precisions_init` as parts of a mixture, where they are given."""
        K = self.n_components
        shapes = {
            "weights": (K,),
            "means": (K, n_features),
            "precisions": covariance_type_of(self.covariance_type).shape(K, n_features),
        }
        given: dict[str, Any] = {}
        for name, shape in shapes.items():
            value = getattr(self, f"{name}_init")
            if value is not None:
                given[name] = np.asarray(value, np.float64)
                if given[name].shape != shape:
                    raise InputError(f"`{name}_init` has the shape {given[name].shape}; it must be {shape}")
        if "precisions" in given:
            given["covariances"] = _inverse(given.pop("precisions"), self.covariance_type)
        return given


class _Report:
    """What is printed as a fit goes on: nothing, or what scikit-learn prints."""

    def __init__(self, verbose: int, interval: int) -> None:
        self._verbose, self._interval = int(verbose), interval

    def begin(self, number: int) -> None:
        self._began = self._before = time.perf_counter()
        self._likelihood = -np.inf
        if self._verbose:
            print(f"Initialization {number}")

    def iteration(self, number: int, likelihood: float) -> None:
        change, self._likelihood = likelihood - self._likelihood, likelihood
        if not self._verbose or number == 0 or number % self._interval:
            return
        lapse, self._before = time.perf_counter() - self._before, time.perf_counter()
        details = f"\t time lapse {lapse:.5f}s\t ll change {change:.5f}" if self._verbose > 1 else ""
        print(f"  Iteration {number}{details}")

    def end(self, result: FitResult) -> None:
        if not self._verbose:
            return
        lapse, likelihood = time.perf_counter() - self._began, result.history[-1]
        details = f" time lapse {lapse:.5f}s\t lower bound {likelihood:.5f}." if self._verbose > 1 else ""
        print(f"Initialization {'converged' if result.converged else 'did not converge'}.{details}")


def _seed(rng: np.random.RandomState) -> int:
    return int(rng.randint(np.iinfo(np.int32).max))


def _inverse(precisions: Float64s, covariance_type: str) -> Float64s:
    """Covariances of the given precisions."""
    if covariance_type in ("full", "tied"):
        try:
            if np.allclose(precisions, np.swapaxes(precisions, -1, -2)):
                return symmetric_inverse(precisions)
        except np.linalg.LinAlgError:
            pass
        raise InputError("`precisions_init` has a matrix that is not symmetric and positive definite")
    if not (precisions > 0).all():
        raise InputError(f"`precisions_init` has the value {precisions.min()}; it must be positive")
    return 1.0 / precisions
