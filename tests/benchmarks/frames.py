"""Real speech frames for the benchmarks, and what they measure by."""

import multiprocessing
import os
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soxr
from sklearn.mixture import GaussianMixture

from speechgmm.audio import read_audio
from speechgmm.em import Mixture
from speechgmm.features import FeatureConfig, FeatureExtractor
from speechgmm.manifest_build import from_files
from speechgmm.parallel import parallel_map

# How fast the copies are played; the voice and the tempo change with it, so no frame occurs twice.
SPEEDS = (1.0, 0.9, 1.1, 0.8, 1.25, 0.95, 1.05)


def real_frames(n_frames: int, n_features: int = 60, config: FeatureConfig | None = None) -> np.ndarray:
    """MFCCs and deltas of LibriSpeech, float32, in random order, so that any number of them is alike.

    Where there are too few, copies at other speeds follow; then, beyond about 2.7 million, the same again.
    """
    utterances, _ = from_files([Path(os.environ["SPEECHGMM_DATA"]) / "LibriSpeech"])
    config = config or FeatureConfig(sample_rate=16000)
    extractor, parts, total = FeatureExtractor(config), [], 0
    for speed in SPEEDS:
        if total < n_frames:
            paths = [(utterance.audio, speed) for utterance in utterances]
            parts += list(parallel_map(lambda job: _at_speed(extractor, *job), paths, 2))
            total = sum(map(len, parts))
    frames = np.concatenate(parts)[:, :n_features]
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.permutation(total) for _ in range(-(-n_frames // total))])
    return np.ascontiguousarray(frames[rows[:n_frames]])


def _at_speed(extractor: FeatureExtractor, path: str | Path, speed: float) -> np.ndarray:
    samples, rate = read_audio(path)
    if speed != 1.0:
        samples = soxr.resample(samples, round(rate * speed), rate)
    return extractor.from_samples(samples)


def as_scikit_learn(mixture: Mixture) -> GaussianMixture:
    """A mixture of diagonal covariances as scikit-learn has it, in float32."""
    model = GaussianMixture(mixture.n_components, covariance_type="diag")
    model.weights_, model.means_, model.covariances_ = (
        value.astype(np.float32) for value in (mixture.weights, mixture.means, mixture.covariances)
    )
    model.precisions_cholesky_ = 1 / np.sqrt(model.covariances_)
    return model


def in_turn(programs: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each program, called one after the other again and again, so that a busy machine is fair to all."""
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(repeats):
        for name, program in programs.items():
            time.sleep(0.1)  # until BLAS threads of the program before have stopped spinning
            start = time.perf_counter()
            program()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(seconds: dict[str, list[float]], name: str, to: str = "speechgmm") -> float:
    """How many times longer a program took: the median of the ratios of each round."""
    return statistics.median(a / b for a, b in zip(seconds[name], seconds[to], strict=True))


def product_rate() -> float:
    """GFLOP/s of a large float32 matrix product on all cores."""
    matrix = np.random.default_rng(0).standard_normal((3000, 3000)).astype(np.float32)
    start = time.perf_counter()
    matrix @ matrix
    return 2 * 3000**3 / (time.perf_counter() - start) / 1e9


def anonymous() -> int:
    """Bytes of memory of this process that no file backs."""
    with open("/proc/self/status") as handle:
        return next(1024 * int(line.split()[1]) for line in handle if line.startswith("RssAnon"))


def _peak(queue: Any, function: Callable[..., Any], warm: tuple, args: tuple) -> None:
    function(*warm)
    before = peak = anonymous()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.005):
            peak = max(peak, anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    function(*args)
    done.set()
    watcher.join()
    queue.put((peak - before) / 1e6)


def extra_memory(function: Callable[..., Any], warm: tuple, args: tuple) -> float:
    """The peak of anonymous memory while `function(*args)` runs in a process of its own, in MB.

    Less what the process held before, after `function(*warm)`: the interpreter, its libraries, and `args`.
    """
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_peak, args=(queue, function, warm, args))
    process.start()
    result = queue.get()
    process.join()
    return float(result)
