"""Segments classified with scikit-learn: one GaussianMixture a phone, what this recipe's classifier is compared with.

    python recipes/librispeech_phones/sklearn_segments.py [--data-dir DIR] [--manifest FILE]

The frames of all segments of a phone train its mixture; a segment gets the phone with the greatest sum of its frames'
log-likelihoods and the logarithm of the phone's share of the training segments. 13 MFCC with first and second
derivatives, as they are or brought to mean 0 and variance 1 in each utterance; 32 diagonal components. All on one core,
as times are compared.
"""

import argparse
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from speechgmm.corpora.librispeech import TRAIN_CLEAN_100
from speechgmm.corpora.locate import corpus_folder
from speechgmm.errors import InputError
from speechgmm.features import FeatureConfig, FeatureExtractor
from speechgmm.files import sha256_of_text
from speechgmm.manifest import Utterance, read_manifest
from speechgmm.parallel import one_blas_thread
from speechgmm.phones.segment_features import frame_ranges
from speechgmm.recipe import run
from speechgmm.terminal import print_table

MANIFEST = Path(__file__).resolve().parents[2] / "data_manifests" / "librispeech_phones" / "utterances.jsonl"
FRAMES_PER_COMPONENT = 8
RANDOM_SHARE = 5


@dataclass(frozen=True)
class Marked:
    """The frames of an utterance, with where its segments lie and what they are."""

    utterance: Utterance
    frames: np.ndarray
    ranges: np.ndarray
    phones: tuple[str, ...]


@dataclass(frozen=True)
class PhoneMixtures:
    """A fitted mixture for each phone, and the natural logarithm of each phone's share of the segments."""

    phones: tuple[str, ...]
    mixtures: tuple[Any, ...]
    log_shares: np.ndarray


def marked(utterances: Sequence[Utterance], features: FeatureConfig) -> list[Marked]:
    """Utterances with their frames; they have segments "phones"."""
    extraction = FeatureExtractor(features).extract(utterances)
    if extraction.problems:
        raise InputError(
            f"{len(extraction.problems)} utterances cannot be read: {extraction.problems[0].message}"
        )
    found = []
    for utterance, frames in zip(extraction.utterances, extraction.frames, strict=True):
        segments = utterance.segments["phones"]
        ranges = frame_ranges(segments, features, len(frames))
        found.append(Marked(utterance, frames, ranges, tuple(segment.label for segment in segments)))
    return found


def fit(training: Sequence[Marked], n_components: int = 32, seed: int = 0) -> PhoneMixtures:
    """Fit a mixture for each phone; a phone with few frames has fewer components, one for each eight frames."""
    frames: dict[str, list[np.ndarray]] = {}
    for one in training:
        for phone, (first, stop) in zip(one.phones, one.ranges, strict=True):
            frames.setdefault(phone, []).append(one.frames[first:stop])
    phones = tuple(sorted(frames))
    with one_blas_thread():
        mixtures = tuple(_mixture(np.concatenate(frames[phone]), n_components, seed) for phone in phones)
    shares = np.array([len(frames[phone]) for phone in phones], float)
    return PhoneMixtures(phones, mixtures, np.log(shares / shares.sum()))


def _mixture(frames: np.ndarray, n_components: int, seed: int) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    fewer = min(n_components, max(1, len(frames) // FRAMES_PER_COMPONENT))
    mixture = GaussianMixture(fewer, covariance_type="diag", random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return mixture.fit(frames.astype(np.float64))


def classify(model: PhoneMixtures, utterances: Sequence[Marked]) -> list[tuple[str, ...]]:
    """The phone of each segment of each utterance."""
    found = []
    with one_blas_thread():
        for one in utterances:
            frames = one.frames.astype(np.float64)
            scores = np.column_stack([mixture.score_samples(frames) for mixture in model.mixtures])
            sums = np.concatenate([np.zeros((1, scores.shape[1])), np.cumsum(scores, axis=0)])
            of_segments = sums[one.ranges[:, 1]] - sums[one.ranges[:, 0]] + model.log_shares
            found.append(tuple(model.phones[best] for best in of_segments.argmax(axis=1)))
    return found


def accuracy(utterances: Sequence[Marked], decisions: Sequence[Sequence[str]]) -> float:
    """The share of segments whose phone is found."""
    right = Counter(
        phone == decision
        for one, decided in zip(utterances, decisions, strict=True)
        for phone, decision in zip(one.phones, decided, strict=True)
    )
    return right[True] / right.total()


def in_random_test(utterances: Sequence[Utterance]) -> frozenset[str]:
    """The ids of every fifth utterance, from the first on, in the order of the sha256 of the ids."""
    return frozenset(sorted((one.id for one in utterances), key=sha256_of_text)[::RANDOM_SHARE])


def splits(utterances: Sequence[Utterance]) -> dict[str, Callable[[Utterance], bool]]:
    """Names of splits, each with whether an utterance is tested; the others train."""
    chosen = in_random_test(utterances)

    def of_speaker(speaker: str) -> Callable[[Utterance], bool]:
        return lambda one: one.label("speaker") == speaker

    speakers = sorted({one.label("speaker") for one in utterances})
    return {
        "every fifth utterance": lambda one: one.id in chosen,
        "held-out chapters": lambda one: one.split == "test",
        **{f"speaker {speaker} left out": of_speaker(speaker) for speaker in speakers},
    }


def compare(
    everything: Sequence[Marked], is_tested: Callable[[Utterance], bool]
) -> tuple[float, float, float]:
    """Accuracy on one split, and the seconds of fitting and of classification."""
    training = [one for one in everything if not is_tested(one.utterance)]
    tested = [one for one in everything if is_tested(one.utterance)]
    start = time.perf_counter()
    model = fit(training)
    fitted = time.perf_counter()
    decisions = classify(model, tested)
    return accuracy(tested, decisions), fitted - start, time.perf_counter() - fitted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="folder that holds the corpora")
    parser.add_argument("--manifest", type=Path, default=MANIFEST, help="another manifest")
    options = parser.parse_args()
    data_dir = corpus_folder(TRAIN_CLEAN_100, options.data_dir, options.manifest).parent
    utterances = read_manifest(options.manifest, data_dir)
    rows: list[tuple[str | float, ...]] = []
    for normalisation in ("none", "mean_variance"):
        everything = marked(utterances, FeatureConfig(n_coefficients=13, normalisation=normalisation))
        for name, is_tested in splits(utterances).items():
            rows.append((name, normalisation, *compare(everything, is_tested)))
    columns = ("split", "normalisation", "accuracy", "seconds to fit", "to classify")
    print_table("Segments by scikit-learn's GaussianMixture, 32 diagonal components, one core", columns, rows)


if __name__ == "__main__":
    run(main)
