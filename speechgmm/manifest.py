"""Utterances, and the JSON Lines files that list them: read, write, select."""

import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

from speechgmm.errors import FormatError, InputError, SpeechGMMError
from speechgmm.files import canonical_json, inside, sha256_of_text, write_atomically

_FIELDS = ("id", "audio", "start", "end", "labels", "split", "duration", "sha256")
_FINGERPRINTED = ("id", "start", "end", "labels", "split", "sha256")
# Texts go into tables and lists; a lone surrogate (a file name that is not UTF-8) goes into no file at all.
UNWRITABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
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


def audio_folder(path: Path, data_dir: str | Path | None) -> Path:
    """The folder that a manifest's or table's audio paths start from: `data_dir`, or the one `path` is in."""
    if data_dir is not None and not Path(data_dir).is_dir():
        raise InputError(f"data folder {str(data_dir)!r}: no such folder")
    return Path(os.path.abspath(path.parent if data_dir is None else data_dir))


def audio_path(folder: Path, audio: str) -> Path:
    """Where an audio path of a manifest or table leads; raises `InputError` where that is out of `folder`."""
    relative = Path(audio)
    if not relative.anchor and ".." not in relative.parts:  # cannot lead out, and `inside` takes its time
        return folder / relative
    try:
        return inside(folder, os.path.relpath(audio, folder) if relative.is_absolute() else audio)
    except ValueError:
        raise InputError(
            f"`audio` {audio!r} leads out of the data folder {str(folder)!r}; "
            "name the folder that holds the audio with --data-dir"
        ) from None


def read_text(path: Path) -> str:
    """The whole of a UTF-8 file, with or without a byte order mark."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: byte {error.start} is not UTF-8 text") from error


def refuse(path: Path, problems: Sequence[tuple[int, SpeechGMMError]], limit: int = 20) -> None:
    """Raise one error for all the (line number, error) of a file, if there are any."""
    if not problems:
        return
    lines = [f"line {number}: {error}" for number, error in problems[:limit]]
    if len(problems) > limit:
        lines.append(f"and {len(problems) - limit} more")
    message = f"{path}: " + "\n  ".join(lines)
    # A well-formed file whose paths lead elsewhere is the caller's matter: usually another data folder.
    raise (InputError if all(isinstance(error, InputError) for _, error in problems) else FormatError)(
        message
    )


def read_manifest(path: str | Path, data_dir: str | Path | None = None) -> list[Utterance]:
    """Read a manifest: JSON Lines, one utterance a line.

    Parameters
    ----------
    path : str or Path
        Each line has the keys `id` and `audio`, and may have `start`, `end`, `labels`, `split`, `duration`
        and `sha256`, as in `Utterance`. Audio files are not opened.
    data_dir : str or Path, optional
        The folder that audio paths start from; without it, the manifest's own.

    Returns
    -------
    list of Utterance
        In the order of the file.

    Raises
    ------
    FormatError
        If lines are not what they should be, all named at once, or the file lists nothing.
    InputError
        If the file cannot be read, or audio paths lead out of the folder.
    """
    path = Path(path)
    folder = audio_folder(path, data_dir)
    utterances: list[Utterance] = []
    problems: list[tuple[int, SpeechGMMError]] = []
    # Not splitlines(): JSON text may hold U+2028 and other characters that it takes for line ends.
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            try:
                utterances.append(_parse(line, folder))
            except SpeechGMMError as error:
                problems.append((number, error))
    refuse(path, problems)
    if not utterances:
        raise FormatError(f"{path}: lists no utterances; a manifest has one JSON object a line")
    return utterances


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError("a key occurs twice")
    return row


_DECODER = json.JSONDecoder(object_pairs_hook=_unique_keys)


def _parse(line: str, folder: Path) -> Utterance:
    try:
        row = _DECODER.decode(line)
    except json.JSONDecodeError as error:
        raise FormatError(f"not valid JSON ({error.msg} at column {error.colno})") from error
    except (ValueError, RecursionError) as error:
        raise FormatError(f"not valid JSON ({error})") from error
    if not isinstance(row, dict):
        raise FormatError("not a JSON object")
    if unknown := row.keys() - set(_FIELDS):
        raise FormatError(f"unknown key {quoted(unknown)}; an utterance has {', '.join(_FIELDS)}")
    for name in ("id", "audio"):
        if not isinstance(row.get(name), str) or not row[name]:
            raise FormatError(
                f"`{name}` is {row[name]!r}; it must be text" if name in row else f"no `{name}`"
            )
    audio = audio_path(folder, row.pop("audio"))
    try:
        return Utterance(audio=audio, **{name: value for name, value in row.items() if value is not None})
    except InputError as error:
        raise FormatError(str(error)) from error


def write_manifest(
    utterances: Iterable[Utterance], path: str | Path, data_dir: str | Path | None = None
) -> None:
    """Write a manifest that `read_manifest` reads, whole or not at all.

    Parameters
    ----------
    utterances : iterable of Utterance
    path : str or Path
        Replaced if it exists.
    data_dir : str or Path, optional
        The folder that the audio paths in the file start from; without it, the manifest's own.

    Raises
    ------
    InputError
        If there are no utterances, an audio file is outside of that folder, or `path` cannot be written.
    """
    utterances = list(utterances)
    folder = require_below(utterances, path, data_dir)
    lines = []
    for utterance in utterances:
        audio = os.path.abspath(utterance.audio)
        row = {name: getattr(utterance, name) for name in _FIELDS}
        row["audio"] = audio.removeprefix(folder).replace(os.sep, "/")
        row["labels"] = dict(sorted(utterance.labels.items()))
        lines.append(
            json.dumps({name: row[name] for name in row if row[name] not in (None, {})}, ensure_ascii=False)
        )
    if not lines:
        raise InputError(f"{path}: no utterances to write")
    write_atomically(path, "\n".join(lines) + "\n")


def require_below(
    utterances: Iterable[Utterance], path: str | Path, data_dir: str | Path | None = None
) -> str:
    """The folder, with a separator at its end, that the audio paths of a manifest to be written start from.

    Raises
    ------
    InputError
        If an audio file is outside of it.
    """
    path = Path(path)
    folder = os.path.join(audio_folder(path, data_dir), "")
    for utterance in utterances:
        audio = os.path.abspath(utterance.audio)
        if not audio.startswith(folder):
            raise InputError(
                f"utterance {utterance.id!r}: {audio} is outside of {folder}, where the manifest's paths "
                "start; name the folder that holds the audio with --data-dir"
            )
    return folder


def fingerprint(utterances: Iterable[Utterance]) -> str:
    """SHA-256 of what the utterances are, in order, wherever their files lie.

    Covers ids, starts, ends, labels, splits and checksums; not paths, and not durations, which follow.
    """
    rows = [{name: getattr(utterance, name) for name in _FINGERPRINTED} for utterance in utterances]
    return sha256_of_text(canonical_json(rows))


def select(utterances: Iterable[Utterance], split: str | None = None, **labels: str) -> list[Utterance]:
    """The utterances of a split with the labels given, in order: `select(all, "train", speaker="george")`.

    Raises
    ------
    InputError
        If there are none; the message lists the values there are.
    """
    utterances = list(utterances)
    asked = labels if split is None else {"split": split, **labels}
    chosen = [
        utterance
        for utterance in utterances
        if split in (None, utterance.split) and labels.items() <= utterance.labels.items()
    ]
    if asked and not chosen:
        wanted = " and ".join(f"{name} {value!r}" for name, value in asked.items())
        known = [{**utterance.labels, "split": utterance.split or ""} for utterance in utterances]
        there = "; ".join(
            f"{name}: {quoted(row[name] for row in known if row.get(name)) or 'none'}" for name in asked
        )
        raise InputError(f"no utterance has {wanted}; there are {there}")
    return chosen
