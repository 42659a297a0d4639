"""Training frames: made from utterances, checked, joined by class, and what the fits of all classes share."""

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from speechgmm.em.coordinates import Float64s, Floats, reference_variance, require_frames
from speechgmm.em.mixture import LARGEST
from speechgmm.em.moments import moments
from speechgmm.em.sources import ArraySource, FrameSource, PieceSource
from speechgmm.errors import InputError, SpeechGMMWarning
from speechgmm.features.config import FeatureConfig
from speechgmm.features.extract import Extraction, FeatureExtractor
from speechgmm.features.reading import suitable_config
from speechgmm.files import sha256_of_text
from speechgmm.manifest import Utterance, quoted
from speechgmm.model_file import UNKNOWN
from speechgmm.parallel import Progress
from speechgmm.scorer import require_utterance

# A Gaussian from fewer frames than this is a guess; classes with less speech get fewer components.
FRAMES_PER_COMPONENT = 8
# Frames per component of the background; more would change it little and cost as much as a class each.
BACKGROUND_FRAMES_PER_COMPONENT = 512
# Values of a class up to which its frames are joined for the time of its fit (in float32, 16 MB).
JOINED = 1 << 22
# One in so many training utterances is held out to fit the scale of the posteriors.
HELD_OUT = 5


def usable_frames(
    utterances: Sequence[Utterance],
    label: str | None,
    features: FeatureConfig | Mapping[str, Any] | None,
    store: str | Path | None,
    n_jobs: int,
    progress: Progress,
) -> tuple[FeatureConfig, Extraction]:
    """The frames of all utterances that can be used, and the configuration they are of.

    Parameters
    ----------
    utterances : sequence of Utterance
        With distinct ids.
    label : str or None
        What each must have; a warning names the values of which no utterance can be used.
    features, store, n_jobs, progress
        As in `speechgmm.trainer.train`.

    Raises
    ------
    InputError
        If no utterance can be used, or one lacks the label.
    """
    if not utterances:
        raise InputError("there are no utterances to train on (an empty manifest, or a split without any?)")
    values = set() if label is None else {utterance.label(label) for utterance in utterances}
    repeated = [name for name, count in Counter(one.id for one in utterances).items() if count > 1]
    if repeated:
        raise InputError(
            f"utterance ids occur twice: {quoted(repeated)}; `speechgmm manifest check` lists them"
        )
    if not isinstance(features, FeatureConfig):
        features = suitable_config(utterances, features or {})
    extraction = FeatureExtractor(features).extract(utterances, n_jobs, progress, store)
    if not extraction.frames:
        raise InputError(
            f"none of the {len(utterances)} utterances can be used; the first: {extraction.problems[0].message}"
        )
    lost = values - {utterance.labels.get(str(label)) for utterance in extraction.utterances}
    if lost:
        warnings.warn(
            f"no utterance of {label} {quoted(lost)} can be used; the model will not know them",
            SpeechGMMWarning,
            stacklevel=3,
        )
    return features, extraction


@dataclass(frozen=True, eq=False)
class ClassFrames:
    """The frames of a class, an array or memory map for each utterance; those that are held out come last."""

    label: str
    pieces: tuple[Floats, ...]
    n_held_out: int
    seconds: float

    @cached_property
    def frames(self) -> PieceSource:
        """All of them."""
        return PieceSource(self.pieces)

    @cached_property
    def part(self) -> PieceSource:
        """Those that are not held out."""
        return PieceSource(self.pieces[: len(self.pieces) - self.n_held_out])

    def sources(self) -> tuple[FrameSource, FrameSource]:
        """Those that are not held out, and all of them, to be gone through many times.

        Of a small class as one array, made anew: to gather many short pieces in every pass takes as long as EM.
        """
        if self.frames.n_frames * self.frames.n_features > JOINED:
            return self.part, self.frames
        joined = np.concatenate(self.pieces)
        return ArraySource(joined[: self.part.n_frames]), ArraySource(joined)

    @property
    def held_out(self) -> tuple[Floats, ...]:
        """Frames of each utterance that is held out."""
        return self.pieces[len(self.pieces) - self.n_held_out :]


def gather(
    frames: Sequence[Floats], labels: Sequence[str], ids: Sequence[str], seconds: Sequence[float]
) -> list[ClassFrames]:
    """The utterances of each class, classes sorted, held-out utterances last; no frame is copied."""
    if not len(frames) == len(labels) == len(ids) == len(seconds) or len(frames) == 0:
        raise InputError(
            f"{len(frames)} `frames`, {len(labels)} `labels`, {len(ids)} `ids` and {len(seconds)} `seconds` given; "
            "there must be as many of each, and at least 1"
        )
    require_labels(labels)
    checked = checked_frames(frames)
    members: dict[str, list[int]] = {}
    for index, value in enumerate(labels):
        members.setdefault(str(value), []).append(index)
    if len(members) == 1:
        warnings.warn(
            f"there is one class only, {next(iter(members))!r}: every utterance will be called that, and a "
            "threshold says nothing, because the background is made of the same class",
            SpeechGMMWarning,
            stacklevel=3,
        )
    classes = []
    for value in sorted(members):
        # Which utterances are held out depends on their ids alone, not on their order.
        rows = sorted(members[value], key=lambda index: (sha256_of_text(ids[index]), index))
        classes.append(
            ClassFrames(
                label=value,
                pieces=tuple(checked[index] for index in rows),
                n_held_out=max(1, len(rows) // HELD_OUT) if len(rows) > 1 else 0,
                seconds=sum(seconds[index] for index in rows),
            )
        )
    return classes


def checked_frames(frames: Sequence[Floats]) -> list[Floats]:
    """The frames of each utterance, checked and of one type; none is copied where they are of one type already.

    Raises
    ------
    InputError
        If there are no utterances, one has no frames or another number of features, or values are not finite or too
        large to be squared.
    """
    if len(frames) == 0:
        raise InputError("`frames` is empty; at least 1 utterance is needed")
    n_features = require_frames(frames[0], name="frames[0]").shape[1]
    checked = [require_utterance(array, index, n_features) for index, array in enumerate(frames)]
    for index, array in enumerate(checked):
        if max(array.max(), -array.min()) > LARGEST:
            raise InputError(
                f"`frames[{index}]` has values so large that their squares overflow; scale them down"
            )
    dtype = np.result_type(*{array.dtype for array in checked})
    return [array.astype(dtype, copy=False) for array in checked]


def require_texts(values: Sequence[str], name: str) -> None:
    """Refuse names that are no texts, or empty."""
    for index, value in enumerate(values):
        if not isinstance(value, str) or not value:
            raise InputError(
                f"`{name}[{index}]` is {value!r}; a {name[:-1]} must be a text that is not empty"
            )


def require_labels(labels: Sequence[str]) -> None:
    """Refuse what cannot be the name of a class."""
    require_texts(labels, "labels")
    if UNKNOWN in labels:
        raise InputError(
            f"a class is named {UNKNOWN!r}, which is the answer for rejected utterances; rename it"
        )


def pooled_variance(classes: Sequence[ClassFrames]) -> Float64s:
    """Variance of all training frames, each dimension by itself; positive."""
    parts = [moments(group.frames) for group in classes]
    total = sum(part.n_frames for part in parts)
    mean = np.asarray(sum(part.mean * (part.n_frames / total) for part in parts))
    variance = sum((part.variance + np.square(part.mean - mean)) * (part.n_frames / total) for part in parts)
    return reference_variance(mean, np.asarray(variance))


def component_counts(classes: Sequence[ClassFrames], asked: int) -> list[int]:
    """How many components each class can carry; one warning for all that carry fewer than asked for."""
    counts = [min(asked, max(1, group.part.n_frames // FRAMES_PER_COMPONENT)) for group in classes]
    fewer = [(group, count) for group, count in zip(classes, counts, strict=True) if count < asked]
    if fewer:
        listed = ", ".join(
            f"{group.label} ({group.part.n_frames} frames): {count}" for group, count in fewer[:10]
        )
        more = f", and {len(fewer) - 10} more" if len(fewer) > 10 else ""
        warnings.warn(
            f"{len(fewer)} of {len(classes)} classes have too few frames for {asked} components "
            f"({FRAMES_PER_COMPONENT} frames each are needed) and get fewer: {listed}{more}",
            SpeechGMMWarning,
            stacklevel=3,
        )
    return counts


def background_frames(classes: Sequence[ClassFrames], n_components: int) -> ClassFrames:
    """An even choice of frames, as many of every class as far as they go."""
    share = max(1, BACKGROUND_FRAMES_PER_COMPONENT * n_components // len(classes))
    chosen = tuple(
        group.frames.rows(slice(None, None, -(-group.frames.n_frames // share))) for group in classes
    )
    return ClassFrames("", chosen, 0, 0.0)
