"""Utterances and the labelled segments inside of them."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path

from speechgmm.errors import InputError

# Texts go into tables and lists; a lone surrogate (a file name that is not UTF-8) goes into no file at all.
UNWRITABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
# Segments may overlap by what rounding to samples or milliseconds does.
OVERLAP_TOLERANCE = 1e-3
# Alignments count whole analysis windows, the last of which may reach beyond the audio.
BEYOND_TOLERANCE = 0.05
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Segment:
    """A labelled part of an utterance, such as a phone.

    Attributes
    ----------
    start, end : float
        In seconds from the start of the utterance.
    label : str
    """

    start: float
    end: float
    label: str


@dataclass(frozen=True)
class Utterance:
    """A labelled stretch of speech: a whole audio file or a part of one.

    Attributes
    ----------
    id : str
        Names the utterance in scores and messages; unique in its manifest.
    audio : Path
        The audio file, ready to open.
    start, end : float, optional
        In seconds from the start of the file; None is the file's own start or end.
    labels : mapping of str to str
        What is known of it, such as `{"speaker": "george", "word": "seven"}`. Copied.
    split : str, optional
        The side it belongs to, such as "train".
    duration : float, optional
        Of the utterance, in seconds.
    sha256 : str, optional
        Of the audio file, 64 hexadecimal digits.
    segments : mapping of str to sequence of Segment
        Tiers by name, such as "phones" and "words". The segments of a tier are in order; there may be gaps
        between them, and overlaps of up to 1 ms. Where the duration is known (from `duration`, or `start` and
        `end`), they end within it or up to 50 ms later. Copied; tiers without segments are left out.

    Raises
    ------
    InputError
        If a value has the wrong type or cannot be; the message names the utterance and the field.
    """

    id: str
    audio: Path
    start: float | None = None
    end: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    split: str | None = None
    duration: float | None = None
    sha256: str | None = None
    segments: Mapping[str, Sequence[Segment]] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        _check_text(self, "id", self.id)
        if not isinstance(self.audio, str | Path):
            raise _bad(self, "audio", self.audio, "a path")
        _check_text(self, "audio", str(self.audio))
        if isinstance(self.audio, str):
            object.__setattr__(self, "audio", Path(self.audio))
        for name in ("start", "end", "duration"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _seconds(self, name, value))
        if self.start is not None and self.start < 0:
            raise _bad(self, "start", self.start, "0 seconds or more")
        if self.end is not None and self.end <= (self.start or 0.0):
            raise _bad(self, "end", self.end, f"after `start`, which is {self.start or 0.0}")
        if self.duration is not None and self.duration <= 0:
            raise _bad(self, "duration", self.duration, "more than 0 seconds")
        _check_labels(self)
        if self.split is not None:
            _check_text(self, "split", self.split)
        if self.sha256 is not None:
            if not isinstance(self.sha256, str) or not _SHA256.fullmatch(self.sha256.lower()):
                raise _bad(self, "sha256", self.sha256, "64 hexadecimal digits")
            object.__setattr__(self, "sha256", self.sha256.lower())
        _check_segments(self)

    def label(self, name: str) -> str:
        """The value of a label; raises `InputError` where the utterance has none of that name."""
        if name not in self.labels:
            raise InputError(
                f"utterance {self.id!r} has no label {name!r}; it has {quoted(self.labels) or 'none'}"
            )
        return self.labels[name]


def _bad(utterance: Utterance, name: str, value: object, wanted: str) -> InputError:
    return InputError(f"utterance {utterance.id!r}: `{name}` is {value!r}; it must be {wanted}")


def _check_text(utterance: Utterance, name: str, value: object) -> None:
    if not isinstance(value, str) or not value:
        raise _bad(utterance, name, value, "text that is not empty")
    if UNWRITABLE.search(value):
        raise _bad(utterance, name, value, "text without control characters or bytes that are not UTF-8")


def _check_labels(utterance: Utterance) -> None:
    if not isinstance(utterance.labels, Mapping):
        raise _bad(utterance, "labels", utterance.labels, "names with their values")
    object.__setattr__(utterance, "labels", dict(utterance.labels))
    for name, value in utterance.labels.items():
        _check_text(utterance, "labels", name)
        _check_text(utterance, f"labels.{name}", value)


def _check_segments(utterance: Utterance) -> None:
    if not isinstance(utterance.segments, Mapping):
        raise _bad(utterance, "segments", utterance.segments, "names of tiers with their segments")
    tiers: dict[str, tuple[Segment, ...]] = {}
    for tier, segments in utterance.segments.items():
        _check_text(utterance, "segments", tier)
        if isinstance(segments, str) or not isinstance(segments, Sequence):
            raise _bad(utterance, f"segments.{tier}", segments, "a sequence of segments")
        checked = tuple(_plain(utterance, f"segments.{tier}", segment) for segment in segments)
        problem = next(segment_problems(checked, _length(utterance)), None)
        if problem is not None:
            raise InputError(f"utterance {utterance.id!r}: `segments.{tier}`: {problem}")
        if checked:
            tiers[tier] = checked
    object.__setattr__(utterance, "segments", tiers)


def _plain(utterance: Utterance, name: str, segment: object) -> Segment:
    """The segment with a text for its label and plain floats for its times."""
    if not isinstance(segment, Segment):
        raise _bad(utterance, name, segment, "a sequence of segments")
    _check_text(utterance, f"{name}.label", segment.label)
    start = _seconds(utterance, f"{name}.start", segment.start)
    return Segment(start, _seconds(utterance, f"{name}.end", segment.end), segment.label)


def _length(utterance: Utterance) -> float | None:
    if utterance.duration is None and utterance.end is not None:
        return utterance.end - (utterance.start or 0.0)
    return utterance.duration


def segment_problems(segments: Iterable[Segment], duration: float | None = None) -> Iterator[str]:
    """What is wrong with the times of a tier's segments.

    Parameters
    ----------
    segments : iterable of Segment
    duration : float, optional
        Of the utterance, in seconds, where it is known.

    Yields
    ------
    str
        One message for each segment that is empty or starts before 0, starts more than 1 ms before the one
        before it ends, or ends more than 50 ms after the utterance.
    """
    latest = 0.0
    for segment in segments:
        what = f"{segment.label!r} goes from {segment.start:g} s to {segment.end:g} s"
        if not 0 <= segment.start < segment.end < math.inf:
            yield f"{what}; it must start at 0 s or later and end after that"
            continue
        if segment.start < latest - OVERLAP_TOLERANCE:
            yield f"{what}, but what comes before it ends at {latest:g} s; segments must be in order"
        if duration is not None and segment.end > duration + BEYOND_TOLERANCE:
            yield f"{what}, but the utterance lasts {duration:.3f} s"
        latest = segment.end


def _seconds(utterance: Utterance, name: str, value: object) -> float:
    """`value` as a plain float, so that 1, 1.0 and -0.0 cannot write, hash or compare in two ways."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise _bad(utterance, name, value, "a number of seconds")
    try:
        seconds = float(value) + 0.0
    except OverflowError:
        seconds = math.inf
    if not math.isfinite(seconds):
        raise _bad(utterance, name, value, "a finite number of seconds")
    return seconds


def quoted(values: Iterable[str], limit: int = 10) -> str:
    """Sorted names for a message: "'a', 'b' and 3 more"."""
    names = sorted(set(values))
    text = ", ".join(map(repr, names[:limit]))
    return text if len(names) <= limit else f"{text} and {len(names) - limit} more"
