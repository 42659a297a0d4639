"""Seconds for one EM iteration on real speech frames: speechgmm against scikit-learn, in turn within one run.

GFLOP/s counts 8 x frames x features x components, what the two products of an iteration cost; beside it stands what
the machine's own float32 matrix product reaches in the same run. Memory is the peak of a process of its own for each
program, less what it held before the iteration (the frames among it).

    SPEECHGMM_DATA=DIR python tests/benchmarks/bench_em.py [--components 64] [--frames 200000] [--repeats 3]
"""

import argparse
import multiprocessing
import os
import statistics
import threading
import time
from pathlib import Path

import numpy as np
from sklearn.mixture import GaussianMixture

from speechgmm.em import Mixture
from speechgmm.em.coordinates import Coordinates
from speechgmm.em.fit import maximise
from speechgmm.em.initialise import kmeans
from speechgmm.em.statistics import accumulate, moments
from speechgmm.features import FeatureConfig, FeatureExtractor
from speechgmm.manifest_build import from_files
from speechgmm.parallel import worker_count
from speechgmm.terminal import print_table


def real_frames(n_frames: int) -> np.ndarray:
    """Frames of LibriSpeech in random order, so that any number of them is alike; repeated if there are too few."""
    utterances, _ = from_files([Path(os.environ["SPEECHGMM_DATA"]) / "LibriSpeech"])
    frames = np.concatenate(FeatureExtractor(FeatureConfig()).extract(utterances, n_jobs=-1).frames)
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.permutation(len(frames)) for _ in range(-(-n_frames // len(frames)))])
    return frames[rows[:n_frames]]


def ours(frames: np.ndarray, start: Mixture) -> float:
    """One iteration; returns the mean log-likelihood at its start."""
    measured = moments(frames, -1)
    statistics_ = accumulate(start, frames, Coordinates.from_moments(measured.mean, measured.variance), -1)
    maximise(statistics_, 1e-3 * measured.variance)
    return statistics_.mean_log_likelihood


def scikit_learn(frames: np.ndarray, start: Mixture) -> float:
    """One iteration from the same start; returns the mean log-likelihood at its start.

    The two steps are called by themselves: `fit` makes a second E-step at its end.
    """
    model = GaussianMixture(start.n_components, covariance_type="diag")
    model.weights_, model.means_, model.covariances_ = (
        value.astype(frames.dtype) for value in (start.weights, start.means, start.covariances)
    )
    model.precisions_cholesky_ = 1 / np.sqrt(model.covariances_)
    log_likelihood, log_posteriors = model._e_step(frames)
    model._m_step(frames, log_posteriors)
    return float(log_likelihood)


def resident() -> int:
    with open("/proc/self/statm") as handle:
        return int(handle.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def extra_memory(queue: multiprocessing.Queue, name: str, frames: np.ndarray, start: Mixture) -> None:
    """Put the peak of resident memory in one iteration, less what was there before, in MB."""
    program = {"speechgmm": ours, "scikit-learn": scikit_learn}[name]
    program(frames[:2000], start)
    before = peak = resident()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.005):
            peak = max(peak, resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    program(frames, start)
    done.set()
    watcher.join()
    queue.put((peak - before) / 1e6)


def memory(name: str, frames: np.ndarray, start: Mixture) -> float:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=extra_memory, args=(queue, name, frames, start))
    process.start()
    result = queue.get()
    process.join()
    return float(result)


def product_rate() -> float:
    """GFLOP/s of a large float32 matrix product on all cores."""
    matrix = np.random.default_rng(0).standard_normal((3000, 3000)).astype(np.float32)
    matrix @ matrix
    start = time.perf_counter()
    matrix @ matrix
    return 2 * 3000**3 / (time.perf_counter() - start) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--components", type=int, default=64)
    parser.add_argument("--frames", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    frames = real_frames(options.frames)
    start = kmeans(frames, options.components)
    programs = {"speechgmm": ours, "scikit-learn": scikit_learn}
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    likelihood, rates = {}, []
    for program in programs.values():
        program(frames[:2000], start)
    for _ in range(options.repeats):
        rates.append(product_rate())
        for name, program in programs.items():
            began = time.perf_counter()
            likelihood[name] = program(frames, start)
            seconds[name].append(time.perf_counter() - began)
    work = 8 * frames.size * options.components / 1e9
    rows = [
        (
            name,
            statistics.median(times),
            statistics.median(t / o for t, o in zip(times, seconds["speechgmm"], strict=True)),
            work / statistics.median(times),
            memory(name, frames, start),
            likelihood[name],
        )
        for name, times in seconds.items()
    ]
    print_table(
        f"{frames.shape[0]} frames x {frames.shape[1]} features x {options.components} components, "
        f"{worker_count(-1)} cores, median of {options.repeats}",
        ("program", "seconds", "times ours", "GFLOP/s", "extra MB", "log-likelihood"),
        rows,
    )
    print(f"float32 matrix product of this machine: {statistics.median(rates):.0f} GFLOP/s")


if __name__ == "__main__":
    main()
