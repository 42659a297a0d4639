"""The EM engine on real speech frames, against scikit-learn, and against gmmx (JAX) where that is installed.

Programs take turns within one run; figures are medians. GFLOP/s of diagonal covariances counts 8 x frames x features x
components, what the two products of an iteration cost; beside it stands the float32 matrix product of this machine,
measured in the same run. Memory is the peak of anonymous memory of a process of its own, less what it held before (the
frames among it).

    SPEECHGMM_DATA=DIR python tests/benchmarks/bench_em.py [iteration classes scoring growth start]
"""

import argparse
import importlib.util
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import joblib
import numpy as np
from frames import as_scikit_learn, extra_memory, in_turn, product_rate, ratio, real_frames
from sklearn.mixture import GaussianMixture
from sklearn.mixture._gaussian_mixture import _compute_precision_cholesky

from speechgmm.em import Mixture
from speechgmm.em.coordinates import Coordinates
from speechgmm.em.fit import fit
from speechgmm.em.initialise import kmeans
from speechgmm.em.maximise import maximise
from speechgmm.em.moments import moments
from speechgmm.em.sources import SHARD
from speechgmm.em.statistics import accumulate
from speechgmm.parallel import largest_first, one_blas_thread, worker_count
from speechgmm.scorer import MixtureBank
from speechgmm.terminal import print_table

REG_COVAR = 1e-3
# Frames, features, components, kind; which scikit-learn runs beside ours, and whether memory is measured.
CASES: tuple[tuple[int, int, int, str, tuple[str, ...]], ...] = (
    (500_000, 60, 512, "diag", ("scikit-learn float32",)),
    (200_000, 60, 2048, "diag", ()),
    (200_000, 39, 64, "diag", ("scikit-learn float32", "scikit-learn float64", "gmmx float32")),
    (200_000, 39, 64, "full", ("scikit-learn float32",)),
    (200_000, 39, 64, "tied", ("scikit-learn float32",)),
    (200_000, 39, 64, "spherical", ("scikit-learn float32",)),
)


def standardised(n_frames: int, n_features: int) -> np.ndarray:
    """Real frames as most people train on them; raw ones are beyond scikit-learn's full covariances in float32."""
    frames = real_frames(n_frames, n_features)
    return (frames - frames.mean(axis=0)) / frames.std(axis=0)


def ours(frames: np.ndarray, start: Mixture, coordinates: Coordinates, n_jobs: int = -1) -> float:
    """One iteration; returns the mean log-likelihood at its start."""
    sums = accumulate(start, frames, coordinates, n_jobs)
    maximise(sums, reg_covar=REG_COVAR)
    return sums.mean_log_likelihood


def scikit_learn(frames: np.ndarray, start: Mixture) -> float:
    """The same iteration, its two steps called by themselves: `fit` makes a second E-step at its end."""
    model = GaussianMixture(start.n_components, covariance_type=start.covariance_type, reg_covar=REG_COVAR)
    model.weights_, model.means_, model.covariances_ = (
        value.astype(frames.dtype) for value in (start.weights, start.means, start.covariances)
    )
    model.precisions_cholesky_ = _compute_precision_cholesky(model.covariances_, start.covariance_type)
    log_likelihood, log_posteriors = model._e_step(frames)
    model._m_step(frames, log_posteriors)
    return float(log_likelihood)


def gmmx(frames: np.ndarray, start: Mixture) -> float:
    """The same iteration by gmmx."""
    from gmmx import EMFitter, GaussianMixtureModelJax

    model = GaussianMixtureModelJax.from_squeezed(
        means=start.means.astype(np.float32),
        covariances=start.covariances.astype(np.float32),
        weights=start.weights.astype(np.float32),
        covariance_type=start.covariance_type,
    )
    result = EMFitter(max_iter=1, reg_covar=REG_COVAR).fit(frames, model)
    return float(result.log_likelihood)


def iteration(repeats: int) -> None:
    """One EM iteration of one mixture."""
    for n_frames, n_features, n_components, kind, peers in CASES:
        frames = standardised(n_frames, n_features)
        start, coordinates = _start(frames, n_components, kind)
        peer_calls = {
            "scikit-learn float32": partial(scikit_learn, frames, start),
            "scikit-learn float64": partial(scikit_learn, frames.astype(np.float64), start),
            "gmmx float32": partial(gmmx, frames, start),
        }
        programs: dict[str, Callable[[], Any]] = {
            "speechgmm": partial(ours, frames, start, coordinates),
            "speechgmm, one core": partial(ours, frames, start, coordinates, 1),
        }
        for name in peers:
            if not name.startswith("gmmx") or importlib.util.find_spec("gmmx"):
                programs[name] = peer_calls[name]
        likelihoods = {name: program() for name, program in programs.items()}
        rates: list[float] = []
        seconds = in_turn({"product": lambda rates=rates: rates.append(product_rate()), **programs}, repeats)
        work = 8 * frames.size * n_components / 1e9 if kind == "diag" else float("nan")
        rows = []
        for name in programs:
            median = statistics.median(seconds[name])
            memory = _memory(name, frames, start, coordinates)
            rows.append((name, median, ratio(seconds, name), work / median, memory, likelihoods[name]))
        print_table(
            f"{n_frames} frames x {n_features} features x {n_components} components, {kind}, "
            f"{worker_count(-1)} cores, median of {repeats}",
            ("program", "s/iteration", "times ours", "GFLOP/s", "extra MB", "log-likelihood"),
            rows,
        )
        rate = statistics.median(rates)
        print(f"float32 matrix product of this machine: {rate:.0f} GFLOP/s", end="")
        if kind == "diag":
            shares = (work / s / r for s, r in zip(seconds["speechgmm"], rates, strict=True))
            print(f"; ours reaches {statistics.median(shares):.0%} of it", end="")
        print("\n")


def _start(frames: np.ndarray, n_components: int, kind: str) -> tuple[Mixture, Coordinates]:
    """A mixture as it is early in a fit: from k-means, after one iteration."""
    measured = moments(frames, -1, covariance=True)
    coordinates = measured.coordinates(kind)
    options: dict[str, Any] = {
        "variance_floor": np.zeros(frames.shape[1]),
        "reg_covar": REG_COVAR,
        "n_jobs": -1,
    }
    mixture = kmeans(frames, n_components, covariance_type=kind, max_iterations=2, **options)
    sums = accumulate(mixture, frames, coordinates, -1)
    return maximise(sums, reg_covar=REG_COVAR), coordinates


def _memory(name: str, frames: np.ndarray, start: Mixture, coordinates: Coordinates) -> float:
    if name == "speechgmm":
        return extra_memory(ours, (frames[:2000], start, coordinates), (frames, start, coordinates))
    if name == "scikit-learn float32":
        return extra_memory(scikit_learn, (frames[:2000], start), (frames, start))
    return float("nan")


def classes(repeats: int) -> None:
    """Many small fits: k-means and 10 iterations for each class, both programs with the same floor."""
    n_classes, n_frames, n_components = 100, 6000, 32
    frames = np.split(standardised(n_classes * n_frames, 39), n_classes)

    def all_ours() -> list[Mixture]:
        def one(part: np.ndarray) -> Mixture:
            start = kmeans(part, n_components, variance_floor=np.zeros(39), reg_covar=REG_COVAR)
            options: dict[str, Any] = {"variance_floor": np.zeros(39), "reg_covar": REG_COVAR}
            return fit(part, start, max_iterations=10, tolerance=0.0, **options).mixture

        return largest_first(one, frames, [len(part) for part in frames], -1)

    def all_theirs() -> list[GaussianMixture]:
        return joblib.Parallel(n_jobs=-1)(joblib.delayed(_fit_theirs)(part, n_components) for part in frames)

    mixtures, models = all_ours(), all_theirs()
    seconds = in_turn({"speechgmm": all_ours, "scikit-learn under joblib": all_theirs}, repeats)
    quality = {
        "speechgmm": [m.log_likelihoods(part).mean() for m, part in zip(mixtures, frames, strict=True)],
        "scikit-learn under joblib": [m.score(part) for m, part in zip(models, frames, strict=True)],
    }
    print_table(
        f"{n_classes} classes x {n_frames} frames x 39 x {n_components}: k-means and 10 iterations",
        ("program", "seconds", "times ours", "log-likelihood"),
        [
            (name, statistics.median(seconds[name]), ratio(seconds, name), float(np.mean(quality[name])))
            for name in seconds
        ],
    )


def _fit_theirs(frames: np.ndarray, n_components: int) -> GaussianMixture:
    """In float64: in float32, it finds the covariances of some class ill-defined."""
    with warnings.catch_warnings(action="ignore"):
        model = GaussianMixture(
            n_components, covariance_type="diag", max_iter=10, tol=0.0, reg_covar=REG_COVAR, random_state=0
        )
        return model.fit(frames.astype(np.float64))


def scoring(repeats: int) -> None:
    """1000 utterances of 300 frames under 100 mixtures of 32."""
    frames = standardised(300_000, 39)
    utterances = np.split(frames, 1000)
    parts = np.split(frames, 100)
    mixtures = [kmeans(part, 32, max_iterations=2, seed=index) for index, part in enumerate(parts)]
    models = [as_scikit_learn(mixture) for mixture in mixtures]
    bank = MixtureBank(mixtures)

    def our_scores() -> np.ndarray:
        with one_blas_thread():
            return np.array(largest_first(bank.mean_log_likelihoods, utterances, [300] * 1000, -1))

    def their_scores() -> np.ndarray:
        columns = joblib.Parallel(n_jobs=-1, prefer="threads")(
            joblib.delayed(model.score_samples)(frames) for model in models
        )
        return np.stack([column.reshape(1000, 300).mean(axis=1) for column in columns], axis=1)

    difference = np.abs(our_scores() - their_scores()).max()
    seconds = in_turn({"speechgmm": our_scores, "scikit-learn under joblib": their_scores}, repeats)
    print_table(
        "scoring 300000 frames x 39 under 100 mixtures of 32",
        ("program", "seconds", "times ours"),
        [(name, statistics.median(times), ratio(seconds, name)) for name, times in seconds.items()],
    )
    print(f"largest difference of a score: {difference:.1e} per frame\n")


class Stream:
    """Blocks of real frames, again and again with a little noise of their own, made as they are asked for."""

    def __init__(self, frames: np.ndarray, n_frames: int) -> None:
        self.frames, self.n_frames = frames, n_frames

    def __iter__(self) -> Iterator[np.ndarray]:
        rng = np.random.default_rng(0)
        for start in range(0, self.n_frames, 10_000):
            first = start % (len(self.frames) - 10_000)
            noise = np.float32(0.1) * rng.standard_normal(self.frames.shape[1], np.float32)
            yield self.frames[first : first + 10_000] + noise


def _fit_stream(stream: Stream, n_components: int, iterations: int) -> None:
    start = kmeans(stream, n_components, max_iterations=2, n_jobs=-1)
    fit(stream, start, max_iterations=iterations, tolerance=0.0, n_jobs=-1)


def growth(repeats: int) -> None:
    """Streams of 1 to 10 million frames; one core and two."""
    frames = standardised(200_000, 60)
    rows = []
    for millions in (1, 3, 10):
        stream = Stream(frames, millions * 1_000_000)
        began = time.perf_counter()
        memory = extra_memory(_fit_stream, (Stream(frames, 2 * SHARD), 64, 1), (stream, 64, 2))
        rows.append((millions, time.perf_counter() - began, memory))
    print_table(
        "a stream x 60 x 64 components: k-means and two iterations, a process of its own",
        ("million frames", "seconds", "extra MB"),
        rows,
    )
    start, coordinates = _start(frames, 512, "diag")
    programs = {str(n): partial(ours, frames, start, coordinates, n) for n in (1, 2)}
    seconds = in_turn(programs, max(5, repeats))
    print(f"200000 x 60 x 512: two cores {ratio(seconds, '1', '2'):.2f} times one core\n")


START = {
    "engine": "from speechgmm.em.initialise import kmeans; from speechgmm.em.fit import fit; "
    "x = np.random.default_rng(0).standard_normal((2000, 20)); fit(x, kmeans(x, 4))",
    "GaussianMixture": "from speechgmm import GaussianMixture; "
    "x = np.random.default_rng(0).standard_normal((2000, 20)); GaussianMixture(4).fit(x)",
}


def start(repeats: int) -> None:
    """From a new interpreter to a first small fit, compiled code kept from before."""
    rows = []
    for name, program in START.items():
        command = [sys.executable, "-W", "ignore", "-c", f"import numpy as np; import speechgmm; {program}"]
        subprocess.run(command, check=True)
        seconds = in_turn({name: partial(subprocess.run, command, check=True)}, max(5, repeats))[name]
        rows.append((name, statistics.median(seconds)))
    print_table("a new process: import and a first fit of 2000 x 20 x 4", ("through", "seconds"), rows)


PARTS = {part.__name__: part for part in (iteration, classes, scoring, growth, start)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    for name in options.parts or PARTS:
        PARTS[name](options.repeats)


if __name__ == "__main__":
    main()
