"""EM over candidate components against EM over all of them: likelihood against time, on real speech, from one start.

The frames are those of LibriSpeech, and of the same speech played slower and faster, in random order. Beside the wall
clock stands the processor time of all threads, which says more where others use the machine. A few iterations of
scikit-learn, from the same start, come last, where it has the memory.

    SPEECHGMM_DATA=DIR python tests/benchmarks/bench_grouped.py [--components 512 2048] [--frames 1000000] [--jobs -1]
"""

import argparse
import statistics
import time
from collections.abc import Iterator

import numpy as np
from frames import real_frames
from sklearn.mixture import GaussianMixture

from speechgmm.em import Mixture
from speechgmm.em.fit import FitResult, fit
from speechgmm.em.grouped import GroupedResult, fit_grouped
from speechgmm.em.initialise import kmeans
from speechgmm.terminal import print_table

# Frames times components that scikit-learn can hold: it takes some 20 bytes for each.
PEER_DENSITIES = 520_000_000


class Clock:
    """Wall and processor seconds since the start at every iteration, and at the end."""

    def __init__(self) -> None:
        self._start = time.perf_counter(), time.process_time()
        self.times: list[tuple[float, float]] = []

    def __call__(self, number: int = 0, value: float = 0.0) -> None:
        now = time.perf_counter(), time.process_time()
        self.times.append((now[0] - self._start[0], now[1] - self._start[1]))

    def steady(self, numbers: list[int]) -> tuple[float, float]:
        """The median cost of the iterations with these numbers."""
        return tuple(
            statistics.median(self.times[number][kind] - self.times[number - 1][kind] for number in numbers)
            for kind in (0, 1)
        )


def compare(
    frames: np.ndarray,
    n_components: int,
    n_iterations: int,
    n_jobs: int,
    largest_gap: float,
    peer_iterations: int,
) -> None:
    start = kmeans(frames[:: max(1, len(frames) // (100 * n_components))], n_components, n_jobs=n_jobs)
    options = {"max_iterations": n_iterations, "tolerance": 0.0, "n_jobs": n_jobs}
    # So that nothing is loaded while the clock runs.
    fit_grouped(frames[:2000], kmeans(frames[:2000], 4), max_iterations=1)
    grouped_clock = Clock()
    grouped = fit_grouped(frames, start, **options, largest_gap=largest_gap, on_iteration=grouped_clock)
    grouped_clock()
    dense_clock = Clock()
    dense = fit(frames, start, **options, on_iteration=dense_clock)
    dense_clock()
    report(frames, n_components, dense, grouped, dense_clock, grouped_clock)
    if peer_iterations and len(frames) * n_components <= PEER_DENSITIES:
        rows = list(scikit_learn(frames, start, peer_iterations))
        print_table("scikit-learn, float32", ["M-steps", "s", "likelihood"], rows)


def scikit_learn(frames: np.ndarray, start: Mixture, n_iterations: int) -> Iterator[tuple[int, float, float]]:
    """Numbers of M-steps, seconds since the start, and mean log-likelihoods."""
    model = GaussianMixture(start.n_components, covariance_type="diag", reg_covar=0.0)
    model.weights_, model.means_, model.covariances_ = (
        value.astype(np.float32) for value in (start.weights, start.means, start.covariances)
    )
    model.precisions_cholesky_ = 1 / np.sqrt(model.covariances_)
    began = time.perf_counter()
    for number in range(n_iterations):
        likelihood, log_posteriors = model._e_step(frames)
        yield number, time.perf_counter() - began, float(likelihood)
        model._m_step(frames, log_posteriors)


def report(
    frames: np.ndarray,
    n_components: int,
    dense: FitResult,
    grouped: GroupedResult,
    dense_clock: Clock,
    grouped_clock: Clock,
) -> None:
    rows = []
    for number in range(dense.n_iterations + 1):
        rows.append(
            [
                f"{number}{' *' if number in grouped.refreshed else ''}",
                f"{dense_clock.times[number][0]:.2f}",
                f"{dense.history[number]:.4f}",
                f"{grouped_clock.times[number][0]:.2f}",
                f"{grouped.history[number]:.4f}",
            ]
        )
    title = f"{len(frames)} x {frames.shape[1]} frames, {n_components} components (* lists refreshed)"
    print_table(title, ["M-steps", "dense: s", "likelihood", "grouped: s", "bound"], rows)
    refreshed = set(grouped.refreshed)
    steady = [number for number in range(1, grouped.dense_from + 1) if number not in refreshed]
    one, other = dense_clock.steady(list(range(1, dense.n_iterations + 1))), grouped_clock.steady(steady)
    whole, part = dense_clock.times[-1], grouped_clock.times[-1]
    print_table(
        "dense / grouped",
        ["", "wall", "processor"],
        [
            [
                "steady iteration",
                *(f"{a:.3f} / {b:.3f} = {a / b:.1f}" for a, b in zip(one, other, strict=True)),
            ],
            ["whole fit", *(f"{a:.2f} / {b:.2f} = {a / b:.1f}" for a, b in zip(whole, part, strict=True))],
        ],
    )
    difference = grouped.history[-1] - dense.history[-1]
    print(
        f"likelihood of the result, grouped - dense: {difference:+.4f}; bound below the truth: {grouped.gap:.4f}\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--components", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=-1)
    parser.add_argument("--largest-gap", type=float, default=0.01)
    parser.add_argument("--peer-iterations", type=int, default=4)
    options = parser.parse_args()
    frames = real_frames(options.frames)
    for n_components in options.components:
        compare(
            frames,
            n_components,
            options.iterations,
            options.jobs,
            options.largest_gap,
            options.peer_iterations,
        )


if __name__ == "__main__":
    main()
