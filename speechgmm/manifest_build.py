"""Build utterances from what people have: folders named by label, tables, and file names with a pattern."""

import csv
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from io import StringIO
from pathlib import Path
from warnings import warn

from speechgmm.audio import AUDIO_SUFFIXES
from speechgmm.errors import FormatError, InputError, SpeechGMMError, SpeechGMMWarning
from speechgmm.manifest import Utterance, audio_folder, audio_path, quoted, read_text, refuse

_COLUMNS = ("audio", "id", "start", "end", "split", "sha256")
_AUDIO_COLUMNS = ("audio", "path", "file")


def from_folders(root: str | Path, label: str = "speaker") -> list[Utterance]:
    """One utterance for each audio file under `root`, labelled by the first folder on the way to it.

    Parameters
    ----------
    root : str or Path
        Laid out as `<label>/*.wav`, with any folders below `<label>`. Hidden files and folders are left out,
        links to folders followed. Audio directly in `root` has no label and is left out with one warning.
    label : str
        What the folders are.

    Returns
    -------
    list of Utterance
        Sorted by path. The id is the path from `root` without its suffix, or with it where two would be the
        same.

    Raises
    ------
    InputError
        If there is no such folder, or no audio in folders below it.
    """
    root = _root(root)
    files = _audio_files(root)
    labelled = [name for name in files if "/" in name]
    if not labelled:
        raise InputError(
            f"{root}: no audio in folders below it; expected <{label}>/*.wav, a folder a {label}"
        )
    if loose := len(files) - len(labelled):
        _warn(f"{root}: {loose} audio files lie in no {label} folder and were left out")
    ids = _short_ids(labelled)
    return [
        Utterance(id=ids[name], audio=root / name, labels={label: name.split("/", 1)[0]}) for name in labelled
    ]


def from_pattern(root: str | Path, pattern: str) -> list[Utterance]:
    """One utterance for each audio file under `root` whose path fits a pattern, labelled by its parts.

    Parameters
    ----------
    root : str or Path
        Hidden files and folders are left out, links to folders followed.
    pattern : str
        For the path from `root`: `{word}_{speaker}_{take}.wav`, or with folders
        `{speaker}/{session}/*.flac`. Each `{name}` is a label and stands for one character or more, `*` for
        any number, both without `/`. A name that comes again stands for the same text. Where a path fits in
        several ways, each part from the left takes as little as it can, with one warning. Files that do not
        fit are left out, with one warning.

    Returns
    -------
    list of Utterance
        Sorted by path, with ids as in `from_folders`.

    Raises
    ------
    InputError
        If there is no such folder or no file that fits, or the pattern is malformed.
    """
    root = _root(root)
    shortest, longest = (re.compile(_expression(pattern, lazy)) for lazy in ("?", ""))
    files = _audio_files(root)
    matches = {name: match for name in files if (match := shortest.fullmatch(name))}
    if not matches:
        example = f"; the first of {len(files)} audio files is {files[0]!r}" if files else ": it has no audio"
        raise InputError(f"{root}: no audio file fits the pattern {pattern!r}{example}")
    if others := len(files) - len(matches):
        _warn(f"{root}: {others} of {len(files)} audio files do not fit {pattern!r} and were left out")
    unclear = [
        name
        for name, match in matches.items()
        if (other := longest.fullmatch(name)) and other.groupdict() != match.groupdict()
    ]
    if unclear:
        _warn(
            f"{len(unclear)} audio files fit {pattern!r} in several ways; "
            f"{unclear[0]!r} was read as {matches[unclear[0]].groupdict()}"
        )
    ids = _short_ids(matches)
    return [Utterance(id=ids[name], audio=root / name, labels=matches[name].groupdict()) for name in matches]


def from_table(
    path: str | Path, data_dir: str | Path | None = None, columns: Mapping[str, str] | None = None
) -> list[Utterance]:
    """One utterance for each row of a CSV or TSV file.

    Parameters
    ----------
    path : str or Path
        A UTF-8 table with a header. The column `audio` (or `path`, or `file`) is needed; `id`, `start`,
        `end`, `split` and `sha256` are as in `Utterance`; every other column is a label. An empty cell is
        nothing known. `.tsv` and `.tab` files have tabs between cells, others the most frequent of comma, tab
        and semicolon in the header.
    data_dir : str or Path, optional
        The folder that audio paths start from; without it, the table's own.
    columns : mapping of str to str, optional
        Our name to the table's, where they differ: `{"audio": "clip", "speaker": "client_id"}`.

    Returns
    -------
    list of Utterance
        In the order of the table. Without an `id` column, ids are as in `from_folders`, followed by
        `@start-end` for parts of files.

    Raises
    ------
    FormatError
        If the header or rows are not what they should be; all rows are named at once.
    InputError
        If the file cannot be read, `columns` names a column that is not there, or audio paths lead out of the
        folder.
    """
    path = Path(path)
    folder = audio_folder(path, data_dir)
    rows = _rows(path)
    number, header = next(rows, (1, []))
    names = _column_names(f"{path}: line {number}", header, columns or {})
    utterances: list[Utterance] = []
    problems: list[tuple[int, SpeechGMMError]] = []
    for number, cells in rows:
        try:
            if len(cells) != len(names):
                raise FormatError(f"has {len(cells)} cells, the header has {len(names)}")
            row = dict(zip(names, cells, strict=True))
            utterances.append(_from_row(row, folder))
        except SpeechGMMError as error:
            problems.append((number, error))
    refuse(path, problems)
    if not utterances:
        raise FormatError(f"{path}: no rows below the header")
    return utterances if "id" in names else _named(utterances)


def from_files(paths: Iterable[str | Path]) -> tuple[list[Utterance], list[str]]:
    """One utterance for each audio file named, and for each one under the folders named, without labels.

    Parameters
    ----------
    paths : iterable of str or Path

    Returns
    -------
    list of Utterance
        In the order of the paths, those of a folder sorted; their ids are their paths, each named once.
    list of str
        What was wrong with the others: not there, a folder without audio, a name that no table can hold.
    """
    found: dict[str, Utterance] = {}
    problems = []
    for path in map(Path, paths):
        try:
            names = _named_files(path)
        except InputError as error:
            problems.append(str(error))
            continue
        except OSError as error:
            problems.append(f"{path}: cannot be read ({error.strerror or error})")
            continue
        for name in names:
            try:
                found[str(name)] = Utterance(id=str(name), audio=name)
            except InputError as error:
                problems.append(str(error))
    return list(found.values()), problems


def _named_files(path: Path) -> list[Path]:
    """The file a path names, or the audio files under the folder that it names."""
    if not path.is_dir():
        if not path.exists():
            raise InputError(f"{path}: no such file or folder")
        return [path]
    names = [path / name for name in _audio_files(path)]
    if not names:
        raise InputError(f"{path}: holds no audio files ({', '.join(sorted(AUDIO_SUFFIXES))})")
    return names


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows of a table that are not blank, stripped, with the numbers of their (last) lines."""
    text = read_text(path)
    header = text.lstrip().split("\n", 1)[0]
    delimiter = "\t" if path.suffix.lower() in (".tsv", ".tab") else max(",\t;", key=header.count)
    reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise FormatError(f"{path}: line {reader.line_num}: {error}") from error


def _column_names(where: str, header: list[str], columns: Mapping[str, str]) -> list[str]:
    """Our names of a table's columns, in the table's order."""
    ours = {theirs: name for name, theirs in columns.items()}
    if len(ours) < len(columns):
        raise InputError(f"`columns` gives one column of the table two names: {dict(columns)}")
    if missing := ours.keys() - set(header):
        raise InputError(f"{where}: no column {quoted(missing)}; the columns are {quoted(header) or 'none'}")
    if "" in header:
        raise FormatError(f"{where}: column {header.index('') + 1} has no name")
    aliases = () if "audio" in columns else _AUDIO_COLUMNS
    names = [ours.get(name, "audio" if name in aliases else name) for name in header]
    for name, count in Counter(names).items():
        if count > 1:
            same = [theirs for theirs, our in zip(header, names, strict=True) if our == name]
            raise FormatError(f"{where}: {count} columns for {name!r}: {', '.join(map(repr, same))}")
    if "audio" not in names:
        raise FormatError(
            f"{where}: no column 'audio', 'path' or 'file'; the columns are {quoted(header) or 'none'}"
        )
    return names


def _from_row(row: Mapping[str, str], folder: Path) -> Utterance:
    """Without an `id` column, the utterance gets its path for one."""
    for name in ("audio", "id"):
        if row.get(name) == "":
            raise FormatError(f"the cell of `{name}` is empty")
    audio = audio_path(folder, row["audio"])
    try:
        return Utterance(
            id=row.get("id", audio.relative_to(folder).as_posix()),
            audio=audio,
            start=_seconds(row, "start"),
            end=_seconds(row, "end"),
            labels={name: value for name, value in row.items() if value and name not in _COLUMNS},
            split=row.get("split") or None,
            sha256=row.get("sha256") or None,
        )
    except InputError as error:
        raise FormatError(str(error)) from error


def _seconds(row: Mapping[str, str], name: str) -> float | None:
    text = row.get(name)
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise FormatError(f"`{name}` is {text!r}; it must be a number of seconds, such as 1.25") from None


def _named(utterances: list[Utterance]) -> list[Utterance]:
    """Replace the ids, which are paths, by shorter ones that also tell the parts of a file apart."""
    ids = _short_ids({utterance.id for utterance in utterances})
    named = []
    for utterance in utterances:
        start, end = utterance.start, utterance.end
        part = "" if start is end is None else f"@{start or 0:.12g}-{'' if end is None else f'{end:.12g}'}"
        named.append(replace(utterance, id=ids[utterance.id] + part))
    return named


def _expression(pattern: str, lazy: str) -> str:
    """A regular expression whose parts take as little as they can (`lazy` is "?") or as much (it is "")."""
    parts = re.split(r"(\{[^{}]*\}|\*)", pattern)  # literals at even positions, names and stars at odd ones
    if any(brace in literal for literal in parts[::2] for brace in "{}"):
        raise InputError(f"pattern {pattern!r} has a brace without its partner")
    seen: set[str] = set()
    expression = re.escape(parts[0])
    for part, literal in zip(parts[1::2], parts[2::2], strict=True):
        name = part[1:-1]
        if part == "*":
            expression += f"[^/]*{lazy}"
        elif not name.isidentifier():
            raise InputError(f"pattern {pattern!r}: {part!r} is no label; write {{speaker}} or the like")
        else:
            expression += f"(?P={name})" if name in seen else f"(?P<{name}>[^/]+{lazy})"
            seen.add(name)
        expression += re.escape(literal)
    if not seen:
        raise InputError(f"pattern {pattern!r} needs a label in braces, such as {{speaker}}/*.wav")
    return expression


def _root(root: str | Path) -> Path:
    if not Path(root).is_dir():
        raise InputError(f"{root}: no such folder")
    return Path(os.path.abspath(root))


def _audio_files(root: Path) -> list[str]:
    """The POSIX paths, from `root`, of the audio files under it, sorted."""
    try:
        return sorted(path.relative_to(root).as_posix() for path in _walk(root, frozenset()))
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read ({error.strerror})") from error


def _walk(folder: Path, above: frozenset[str]) -> Iterator[Path]:
    real = os.path.realpath(folder)
    if real in above:  # a link to a folder that holds it: following it would never end
        return
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _walk(path, above | {real})
        elif path.suffix.lower() in AUDIO_SUFFIXES:
            yield path


def _short_ids(names: Iterable[str]) -> dict[str, str]:
    """The id of each path: without its suffix, or with it where two would be the same."""
    ids = {name: os.path.splitext(name)[0] for name in names}
    while True:
        # Again and again: with its suffix, a.wav may now be the same as a.wav.flac without.
        counts = Counter(ids.values())
        longer = {name: name if counts[short] > 1 else short for name, short in ids.items()}
        if longer == ids:
            return ids
        ids = longer


def _warn(message: str) -> None:
    """Point at the caller of the public function."""
    warn(message, SpeechGMMWarning, stacklevel=3)
