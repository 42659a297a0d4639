"""FSDD speakers from disk to accuracy: speechgmm against the script people write with librosa and scikit-learn.

The same features (20 MFCCs with deltas and delta-deltas, librosa's settings with 25 ms windows every 10 ms and 40
bands), the same number of components, the official split. Imports and first calls are left out on both sides.

    SPEECHGMM_DATA=DIR python tests/benchmarks/bench_fsdd_speakers.py [--components 32] [--repeats 3]
"""

import argparse
import statistics
import time
from collections.abc import Callable

import joblib
import librosa
import numpy as np
from sklearn.mixture import GaussianMixture

import speechgmm
from speechgmm.corpora import fsdd
from speechgmm.corpora.locate import corpus_folder
from speechgmm.terminal import print_table

WINDOW, HOP, BANDS, COEFFICIENTS = 200, 80, 40, 20


def script_features(utterance: speechgmm.Utterance) -> np.ndarray:
    samples, rate = librosa.load(utterance.audio, sr=None)
    mfcc = librosa.feature.mfcc(
        y=samples,
        sr=rate,
        n_mfcc=COEFFICIENTS,
        n_fft=256,
        win_length=WINDOW,
        hop_length=HOP,
        n_mels=BANDS,
    )
    deltas = [librosa.feature.delta(mfcc, order=order) for order in (1, 2)]
    return np.concatenate([mfcc, *deltas]).T


def script_fit(frames: list[np.ndarray], n_components: int) -> GaussianMixture:
    return GaussianMixture(n_components, covariance_type="diag", random_state=0).fit(np.concatenate(frames))


def script(utterances: list[speechgmm.Utterance], n_components: int, n_jobs: int) -> float:
    """The whole job with librosa and scikit-learn; returns the accuracy."""
    parallel = joblib.Parallel(n_jobs=n_jobs)
    frames = parallel(joblib.delayed(script_features)(utterance) for utterance in utterances)
    by_speaker: dict[str, list[np.ndarray]] = {}
    for utterance, array in zip(utterances, frames, strict=True):
        if utterance.split == "train":
            by_speaker.setdefault(utterance.label("speaker"), []).append(array)
    speakers = sorted(by_speaker)
    models = parallel(joblib.delayed(script_fit)(by_speaker[name], n_components) for name in speakers)
    right = total = 0
    for utterance, array in zip(utterances, frames, strict=True):
        if utterance.split == "test":
            best = np.argmax([model.score(array) for model in models])
            right += speakers[best] == utterance.label("speaker")
            total += 1
    return right / total


def ours(utterances: list[speechgmm.Utterance], n_components: int, n_jobs: int) -> float:
    """The whole job with speechgmm; returns the accuracy."""
    features = speechgmm.FeatureConfig.preset(
        "librosa", sample_rate=8000, window_length=WINDOW / 8000, hop_length=HOP / 8000, n_filters=BANDS
    )
    training = speechgmm.train(
        speechgmm.select(utterances, "train"),
        features=features,
        settings=speechgmm.TrainingSettings(n_components=n_components),
        n_jobs=n_jobs,
    )
    return speechgmm.evaluate(training.model, speechgmm.select(utterances, "test"), n_jobs=n_jobs).accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--components", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    utterances = fsdd.utterances(corpus_folder(fsdd.CORPUS))
    few = [utterance for utterance in utterances if int(utterance.label("take")) % 10 < 2][:120]
    contenders: dict[str, Callable[[list[speechgmm.Utterance]], float]] = {
        "speechgmm, all cores": lambda chosen: ours(chosen, options.components, -1),
        "speechgmm, one core": lambda chosen: ours(chosen, options.components, 1),
        "librosa + scikit-learn": lambda chosen: script(chosen, options.components, 1),
        "librosa + scikit-learn, joblib": lambda chosen: script(chosen, options.components, -1),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    accuracy: dict[str, float] = {}
    for contender in contenders.values():
        contender(few)
    for _ in range(options.repeats):
        for name, contender in contenders.items():
            start = time.perf_counter()
            accuracy[name] = contender(utterances)
            seconds[name].append(time.perf_counter() - start)
    first = next(iter(contenders))
    rows = [
        (
            name,
            statistics.median(times),
            statistics.median(t / o for t, o in zip(times, seconds[first], strict=True)),
            accuracy[name],
        )
        for name, times in seconds.items()
    ]
    print_table(
        f"FSDD speakers, 3000 files, {options.components} components, median of {options.repeats}",
        ("program", "seconds", "times ours", "accuracy"),
        rows,
    )


if __name__ == "__main__":
    main()
