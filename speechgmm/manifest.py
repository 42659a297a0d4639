"""Utterances, and the JSON Lines files that list them: read, write, select."""

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from speechgmm.errors import FormatError, InputError, SpeechGMMError
from speechgmm.files import canonical_json, inside, sha256_of_text, write_atomically
from speechgmm.utterance import UNWRITABLE as UNWRITABLE
from speechgmm.utterance import Segment as Segment
from speechgmm.utterance import Utterance as Utterance
from speechgmm.utterance import quoted as quoted

_FIELDS = ("id", "audio", "start", "end", "labels", "split", "duration", "sha256", "segments")
_FINGERPRINTED = ("id", "start", "end", "labels", "split", "sha256")


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
        Each line has the keys `id` and `audio`, and may have `start`, `end`, `labels`, `split`, `duration`,
        `sha256` and `segments`, as in `Utterance`; a segment is `[start, end, label]`. Audio files are not
        opened.
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
    if row.get("segments") is not None:
        row["segments"] = _tiers(row["segments"])
    try:
        return Utterance(audio=audio, **{name: value for name, value in row.items() if value is not None})
    except InputError as error:
        raise FormatError(str(error)) from error


def _tiers(value: object) -> dict[str, list[Segment]]:
    """The segments of a line of a manifest."""
    if not isinstance(value, dict):
        raise FormatError(f"`segments` is {value!r}; it must be an object of tiers")
    tiers: dict[str, list[Segment]] = {}
    for tier, rows in value.items():
        if not isinstance(rows, list):
            raise FormatError(f"`segments.{tier}` is {rows!r}; it must be a list of [start, end, label]")
        for number, row in enumerate(rows):
            if not isinstance(row, list) or len(row) != 3:
                raise FormatError(f"`segments.{tier}[{number}]` is {row!r}; it must be [start, end, label]")
        tiers[tier] = [Segment(*row) for row in rows]
    return tiers


def _rows(utterance: Utterance) -> dict[str, list[list[float | str]]]:
    """The segments of an utterance as JSON holds them."""
    return {
        tier: [[segment.start, segment.end, segment.label] for segment in segments]
        for tier, segments in sorted(utterance.segments.items())
    }


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
        row["segments"] = _rows(utterance)
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

    Covers ids, starts, ends, labels, splits, checksums, and segments where there are any; not paths, and not
    durations, which follow.
    """
    rows = []
    for utterance in utterances:
        row = {name: getattr(utterance, name) for name in _FINGERPRINTED}
        # Manifests without segments keep the fingerprint that they had before there were any.
        rows.append({**row, "segments": _rows(utterance)} if utterance.segments else row)
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
