"""The two kinds of evidence on which phone a segment is: the mixtures of its frames, and those of its vector."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, Literal

import numpy as np

from speechgmm.em.coordinates import Float64s, Floats
from speechgmm.em.inference import log_likelihoods
from speechgmm.em.mixture import Mixture
from speechgmm.errors import InputError
from speechgmm.parallel import Progress
from speechgmm.phones.lda import ClassStatistics, class_statistics, estimate_lda
from speechgmm.phones.segment_features import AROUND, Ints, numbered_parts, segment_vectors
from speechgmm.phones.transforms import LinearTransform, splice
from speechgmm.settings import TrainingSettings, require_numbers, settings_from_table
from speechgmm.trainer import train_on_frames

FRAME_MIXTURES = TrainingSettings(n_components=16, variance_floor=0.1)
VECTOR_MIXTURES = TrainingSettings(n_components=1, covariance_type="full", variance_floor=0.05)


@dataclass(frozen=True)
class SegmentSettings:
    """How segments are told apart.

    Parameters
    ----------
    evidence : {"both", "frames", "vectors"}
        Sums of the frames' log-likelihoods, the log-likelihood of the segment's vector, or both.
    frame_weight : float
        Of the frames' log-likelihood where the evidence is both, beside 1 for the vector's: neighbouring frames say
        much the same. From 0.2 to 0.7 it changes little.
    n_parts : int
        Equal parts of a segment whose frames have mixtures of their own; 1 is one mixture a phone.
    context : int
        Frames to either side that are joined to a frame.
    n_dimensions : int
        Discriminants that frames are reduced to, at most their number of values, and fewer than there are parts of
        phones; 0 leaves them as they are.
    frame_mixtures : TrainingSettings
        Of each part of each phone.
    vector_parts : int
        See `segment_vectors`.
    around : tuple of (int, int)
        See `segment_vectors`.
    vector_dimensions : int
        Discriminants of the vectors, fewer than there are phones; 0 leaves them as they are.
    vector_mixtures : TrainingSettings
    priors : {"training", "equal"}
        Of the phones: in proportion to their training segments, or all the same.
    """

    evidence: Literal["both", "frames", "vectors"] = "both"
    frame_weight: float = 0.4
    n_parts: int = 3
    context: int = 6
    n_dimensions: int = 39
    frame_mixtures: TrainingSettings = FRAME_MIXTURES
    vector_parts: int = 3
    around: tuple[tuple[int, int], ...] = AROUND
    vector_dimensions: int = 39
    vector_mixtures: TrainingSettings = VECTOR_MIXTURES
    priors: Literal["training", "equal"] = "training"

    def __post_init__(self) -> None:
        whole = {"n_parts": 1, "context": 0, "n_dimensions": 0, "vector_parts": 0, "vector_dimensions": 0}
        require_numbers(self, "segment", whole, ("frame_weight",))
        for name, choices in (
            ("evidence", ("both", "frames", "vectors")),
            ("priors", ("training", "equal")),
        ):
            if getattr(self, name) not in choices:
                raise InputError(
                    f"segment setting `{name}` is {getattr(self, name)!r}; it can be {', '.join(choices)}"
                )

        pairs = all(isinstance(one, tuple) and list(map(type, one)) == [int, int] for one in self.around)
        if not pairs or not all(low < high for low, high in self.around):
            raise InputError(
                f"segment setting `around` is {self.around!r}; it must be pairs of frames, rising, such as (-4, -1)"
            )

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> "SegmentSettings":
        """Settings from plain values, such as a TOML table; those not given keep their defaults."""
        table = dict(settings)
        for name in ("frame_mixtures", "vector_mixtures"):
            if isinstance(table.get(name), Mapping):
                table[name] = TrainingSettings.from_dict(table[name])
        if "around" in table:
            table["around"] = tuple(tuple(one) if isinstance(one, list) else one for one in table["around"])
        return settings_from_table(cls, table, "segment")


@dataclass(frozen=True, eq=False)
class CutUtterance:
    """The frames of an utterance, the range of each of its segments (n_segments, 2), and their labels."""

    frames: Floats
    ranges: Ints
    labels: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class FrameEvidence:
    """A mixture for each part of each phone, and what frames go through before.

    Parameters
    ----------
    settings : SegmentSettings
    transform : LinearTransform or None
    mixtures : tuple of tuple of Mixture
        By phone and part.
    """

    settings: SegmentSettings
    transform: LinearTransform | None
    mixtures: tuple[tuple[Mixture, ...], ...]

    @classmethod
    def trained(
        cls,
        utterances: Sequence[CutUtterance],
        phones: Sequence[str],
        settings: SegmentSettings,
        n_jobs: int,
        progress: Progress,
    ) -> "FrameEvidence":
        """Fit to utterances; a part that has no frame in any of them takes those of the whole phone."""
        transform, n_parts = None, settings.n_parts
        if settings.n_dimensions:
            transform = _discriminants(_statistics_of(utterances, phones, settings), settings.n_dimensions)
        frames, segment, part = _frames_of(utterances, settings, transform)
        phone = classes_of(utterances, phones)[segment]
        rows, labels = [], []
        for number, name in enumerate(phones):
            own = phone == number
            for place in range(n_parts):
                chosen = own & (part == place)
                rows.append(frames[chosen if chosen.any() else own])
                labels.append(f"{name} {place + 1}/{n_parts}")
        training = train_on_frames(
            rows, labels, "phone part", settings=settings.frame_mixtures, n_jobs=n_jobs, progress=progress
        )
        found = dict(zip(training.model.labels, training.model.mixtures, strict=True))
        mixtures = [found[label] for label in labels]
        firsts = range(0, len(mixtures), n_parts)
        return cls(settings, transform, tuple(tuple(mixtures[one : one + n_parts]) for one in firsts))

    def log_likelihoods(self, utterances: Sequence[CutUtterance], n_jobs: int) -> Float64s:
        """Sums over the frames of each segment, (n_segments, n_phones)."""
        n_segments = sum(len(one.ranges) for one in utterances)
        result = np.zeros((n_segments, len(self.mixtures)))
        frames, segment, part = _frames_of(utterances, self.settings, self.transform)
        for place in range(self.settings.n_parts):
            chosen = np.flatnonzero(part == place)
            if not chosen.size:  # segments of a frame or two have no frame in some parts
                continue
            for phone, mixtures in enumerate(self.mixtures):
                values = log_likelihoods(mixtures[place], frames[chosen], n_jobs)
                result[:, phone] += np.bincount(segment[chosen], values, n_segments)
        return result


@dataclass(frozen=True, eq=False)
class VectorEvidence:
    """A mixture for each phone, of one vector for each segment, and what vectors go through before."""

    settings: SegmentSettings
    transform: LinearTransform | None
    mixtures: tuple[Mixture, ...]

    @classmethod
    def trained(
        cls,
        utterances: Sequence[CutUtterance],
        phones: Sequence[str],
        settings: SegmentSettings,
        n_jobs: int,
        progress: Progress,
    ) -> "VectorEvidence":
        """Fit to the segments of utterances."""
        vectors, classes, transform = _vectors_of(utterances, settings), classes_of(utterances, phones), None
        if settings.vector_dimensions:
            statistics = class_statistics(vectors, classes, len(phones))
            try:
                transform = _discriminants(statistics, settings.vector_dimensions)
            except InputError as error:
                raise InputError(
                    f"the vectors of {len(vectors)} segments, {vectors.shape[1]} values each: {error}"
                ) from error
        vectors = _transformed(vectors, transform)
        rows = [vectors[classes == number] for number in range(len(phones))]
        training = train_on_frames(
            rows, phones, "phone", settings=settings.vector_mixtures, n_jobs=n_jobs, progress=progress
        )
        return cls(settings, transform, training.model.mixtures)

    def log_likelihoods(self, utterances: Sequence[CutUtterance], n_jobs: int) -> Float64s:
        """Of the vector of each segment, (n_segments, n_phones)."""
        vectors = _transformed(_vectors_of(utterances, self.settings), self.transform)
        return np.stack([log_likelihoods(mixture, vectors, n_jobs) for mixture in self.mixtures], axis=1)


def classes_of(utterances: Sequence[CutUtterance], phones: Sequence[str]) -> Ints:
    """The number of the phone of each segment; all must be among `phones`."""
    numbers = {phone: number for number, phone in enumerate(phones)}
    return np.array([numbers[label] for one in utterances for label in one.labels], np.intp)


def _parts_of(one: CutUtterance, settings: SegmentSettings) -> tuple[Floats, Ints, Ints]:
    """The frames of an utterance's segments with their neighbours, the number of their segment, their part of it."""
    rows, segments, parts = numbered_parts(one.ranges, settings.n_parts)
    return splice(one.frames, settings.context, settings.context)[rows], segments, parts


def _statistics_of(
    utterances: Sequence[CutUtterance], phones: Sequence[str], settings: SegmentSettings
) -> ClassStatistics:
    """Of the parts of phones. An utterance at a time, for frames with their neighbours are many times as large."""

    def of(one: CutUtterance) -> ClassStatistics:
        frames, segments, parts = _parts_of(one, settings)
        classes = classes_of([one], phones)[segments] * settings.n_parts + parts
        return class_statistics(frames, classes, len(phones) * settings.n_parts)

    return reduce(add, map(of, utterances))


def _discriminants(statistics: ClassStatistics, n_dimensions: int) -> LinearTransform | None:
    """The transform to so many discriminants, or as many as there are; a single class has none."""
    n_classes, n_features = int((statistics.counts > 0).sum()), statistics.sums.shape[1]
    n = min(n_dimensions, n_features, n_classes - 1)
    return estimate_lda(statistics, n) if n else None


def _transformed(frames: Floats, transform: LinearTransform | None) -> Floats:
    return frames if transform is None else transform.apply(frames)


def _frames_of(
    utterances: Sequence[CutUtterance], settings: SegmentSettings, transform: LinearTransform | None
) -> tuple[Floats, Ints, Ints]:
    """All frames of segments as the mixtures see them, the number of their segment, their part of it."""
    values, segments, parts, first = [], [], [], 0
    for one in utterances:
        frames, segment, part = _parts_of(one, settings)
        values.append(_transformed(frames, transform))
        segments.append(segment + first)
        parts.append(part)
        first += len(one.ranges)
    return np.concatenate(values), np.concatenate(segments), np.concatenate(parts)


def _vectors_of(utterances: Sequence[CutUtterance], settings: SegmentSettings) -> Floats:
    """The vectors of the segments of all utterances."""
    parts, around = settings.vector_parts, settings.around
    return np.concatenate([segment_vectors(one.frames, one.ranges, parts, around) for one in utterances])
