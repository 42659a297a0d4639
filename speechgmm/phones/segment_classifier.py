"""Which phone a segment is, where its boundaries are known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from speechgmm.em.coordinates import Float64s, Floats
from speechgmm.errors import InputError
from speechgmm.features.config import FeatureConfig
from speechgmm.metrics.identification import (
    accuracy,
    confusion_matrix,
    per_class,
    top_confusions,
    wilson_interval,
)
from speechgmm.parallel import Progress, no_progress
from speechgmm.phones.segment_evidence import (
    CutUtterance,
    FrameEvidence,
    SegmentSettings,
    VectorEvidence,
    classes_of,
)
from speechgmm.phones.segment_features import frame_ranges
from speechgmm.scorer import require_utterance
from speechgmm.utterance import Segment

Utterances = Sequence[Sequence[Segment]]


@dataclass(frozen=True, eq=False)
class SegmentClassifier:
    """Mixtures of each phone that say which one a segment with known boundaries is; from `train_segment_classifier`.

    Attributes
    ----------
    phones : tuple of str
        Sorted.
    features : FeatureConfig
        Of the frames.
    settings : SegmentSettings
    log_priors : (n_phones,) float64
    frame_evidence, vector_evidence : FrameEvidence and VectorEvidence, or None
    """

    phones: tuple[str, ...]
    features: FeatureConfig
    settings: SegmentSettings
    log_priors: Float64s
    frame_evidence: FrameEvidence | None
    vector_evidence: VectorEvidence | None

    def scores(self, frames: Sequence[Floats], segments: Utterances, n_jobs: int = 1) -> Float64s:
        """Log-likelihoods, weighted, with the log-priors.

        Parameters
        ----------
        frames : sequence of (n_frames, n_features) arrays
            One for each utterance, whole: what lies around a segment is looked at.
        segments : sequence of sequences of Segment
            Of each utterance; their labels are not looked at.
        n_jobs : int
            Threads; the scores do not depend on it.

        Returns
        -------
        (n_segments, n_phones) float64
            The segments of all utterances one after the other.

        Raises
        ------
        InputError
            If frames or segments are not as in training, or segments reach beyond their frames.
        """
        utterances = _cut(frames, segments, self.features)
        scores = np.tile(self.log_priors, (sum(len(one.labels) for one in utterances), 1))
        if self.frame_evidence is not None:
            weight = self.settings.frame_weight if self.vector_evidence is not None else 1.0
            scores += weight * self.frame_evidence.log_likelihoods(utterances, n_jobs)
        if self.vector_evidence is not None:
            scores += self.vector_evidence.log_likelihoods(utterances, n_jobs)
        return scores

    def classify(self, frames: Sequence[Floats], segments: Utterances, n_jobs: int = 1) -> list[str]:
        """The most probable phone of each segment; arguments and errors as in `scores`."""
        best = self.scores(frames, segments, n_jobs).argmax(axis=1)
        return [self.phones[number] for number in best]


def train_segment_classifier(
    frames: Sequence[Floats],
    segments: Utterances,
    features: FeatureConfig,
    settings: SegmentSettings | None = None,
    *,
    n_jobs: int = 1,
    progress: Progress = no_progress,
) -> SegmentClassifier:
    """Train a classifier of segments, by the ordinary trainer.

    Parameters
    ----------
    frames : sequence of (n_frames, n_features) arrays
        One for each utterance, such as `FeatureExtractor(features).extract(utterances).frames`.
    segments : sequence of sequences of Segment
        Of each utterance, such as `utterance.segments["phones"]`.
    features : FeatureConfig
        How the frames were made. Deltas are not needed: `context` and discriminants do their work.
    settings : SegmentSettings, optional
    n_jobs : int
        Workers; the classifier is the same bits for any number.
    progress : callable

    Raises
    ------
    InputError
        If there are no segments, the numbers of utterances differ, or segments reach beyond their frames.
    """
    settings = settings or SegmentSettings()
    utterances = _cut(frames, segments, features)
    phones = tuple(sorted({label for one in utterances for label in one.labels}))
    of_frames = of_vectors = None
    if settings.evidence != "vectors":
        of_frames = FrameEvidence.trained(utterances, phones, settings, n_jobs, progress)
    if settings.evidence != "frames":
        of_vectors = VectorEvidence.trained(utterances, phones, settings, n_jobs, progress)
    counts = np.ones(len(phones))
    if settings.priors == "training":
        counts = np.bincount(classes_of(utterances, phones)).astype(np.float64)
    log_priors = np.log(counts / counts.sum())
    return SegmentClassifier(phones, features, settings, log_priors, of_frames, of_vectors)


def _cut(frames: Sequence[Floats], segments: Utterances, features: FeatureConfig) -> list[CutUtterance]:
    """Utterances with the frames of each of their segments."""
    if len(frames) != len(segments) or not any(segments):
        raise InputError(
            f"the frames of {len(frames)} utterances and the segments of {len(segments)} were given; there must be as "
            "many, with one segment or more"
        )
    utterances = []
    for number, (array, parts) in enumerate(zip(frames, segments, strict=True)):
        checked = require_utterance(array, number, features.n_features)
        try:
            ranges = frame_ranges(parts, features, len(checked))
        except InputError as error:
            raise InputError(f"utterance {number}: {error}") from error
        utterances.append(CutUtterance(checked, ranges, tuple(segment.label for segment in parts)))
    return utterances


@dataclass(frozen=True, eq=False)
class SegmentEvaluation:
    """How many segments were decided right.

    Attributes
    ----------
    accuracy : float
        A fraction, of all segments.
    interval : (float, float)
        95 % (Wilson); it takes segments as independent, which those of one speaker are not.
    balanced_accuracy : float
        The mean of each phone's own accuracy: rare phones count as much as common ones.
    n_segments : int
    confusions : tuple of (truth, decided, count)
        The most frequent first.
    manners : tuple of str
        Classes of phones; empty where none were given.
    manner_matrix : (n_manners, n_manners) int64
        [i, j]: segments of class i that were decided to be of class j.
    decided : tuple of str
    """

    accuracy: float
    interval: tuple[float, float]
    balanced_accuracy: float
    n_segments: int
    confusions: tuple[tuple[str, str, int], ...]
    manners: tuple[str, ...] = ()
    manner_matrix: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    decided: tuple[str, ...] = ()


def evaluate_segments(
    classifier: SegmentClassifier,
    frames: Sequence[Floats],
    segments: Utterances,
    manner: Mapping[str, str] | None = None,
    n_jobs: int = 1,
) -> SegmentEvaluation:
    """Classify segments and compare the decisions with their labels.

    Parameters
    ----------
    classifier : SegmentClassifier
    frames, segments, n_jobs
        As in `SegmentClassifier.scores`. A segment of a phone that the classifier does not know counts as wrong.
    manner : mapping of str to str, optional
        The class of each phone, such as `phone_set("arpabet").manner`, for confusions by class.

    Raises
    ------
    InputError
        As `SegmentClassifier.scores`, or if a phone has no class.
    """
    truth = [segment.label for one in segments for segment in one]
    decided = classifier.classify(frames, segments, n_jobs)
    right = sum(a == b for a, b in zip(truth, decided, strict=True))
    recalls = [one.recall for one in per_class(truth, decided, sorted(set(truth)))]
    manners: list[str] = []
    matrix = np.zeros((0, 0), np.int64)
    if manner is not None:
        if without := sorted({*truth, *decided} - set(manner)):
            raise InputError(
                f"`manner` has no class for the phone {without[0]!r} (labels of another phone set?)"
            )
        manners = sorted({manner[one] for one in (*truth, *decided)})
        matrix = confusion_matrix([manner[one] for one in truth], [manner[one] for one in decided], manners)
    return SegmentEvaluation(
        accuracy=accuracy(truth, decided),
        interval=wilson_interval(right, len(truth)),
        balanced_accuracy=float(np.mean(recalls)),
        n_segments=len(truth),
        confusions=tuple((str(a), str(b), n) for a, b, n in top_confusions(truth, decided)),
        manners=tuple(manners),
        manner_matrix=matrix,
        decided=tuple(decided),
    )
