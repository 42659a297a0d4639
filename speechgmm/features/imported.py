"""Features made elsewhere come in, and features go out: arrays, `.npy` files, Kaldi archives."""

import io
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from speechgmm.em.coordinates import require_finite
from speechgmm.errors import InputError
from speechgmm.features.extract import Float32s, Problem
from speechgmm.features.store import FeatureStore
from speechgmm.files import inside, require_writable, write_atomically
from speechgmm.parallel import Progress, no_progress

Source = str | os.PathLike[str] | Mapping[str, Any] | Iterable[tuple[str, Any]]

# float32 holds all whole numbers up to here.
WHOLE = 2**24
LONGEST_ID = 4096  # bytes; a file with a longer one is no archive
# Kaldi lets a range end up to so many frames after the last: segments are rounded.
RANGE_TOLERANCE = 3

# What stands before the values of a binary matrix or vector: its kind, then its sizes; 22 bytes at most.
_HEADER = re.compile(
    rb"(?s)\0B(?:([FD]V) \x04(.{4})|([FD]M) \x04(.{4})\x04(.{4})|(CM[23]?) .{8}(.{4})(.{4}))"
)
_VALUE_BYTES = {b"FV": 4, b"DV": 8, b"FM": 4, b"DM": 8, b"CM": 1, b"CM2": 2, b"CM3": 1}
# A line of an .scp after the id: a file, where in it, and which part of the matrix.
_PLACE = re.compile(r"(?P<file>.+?)(?::(?P<offset>[0-9]{1,18}))?(?:\[(?P<range>[^\[\]]*)\])?")
_RANGE = re.compile("(?:([0-9]{1,9}):([0-9]{1,9})|:)(?:,(?:([0-9]{1,9}):([0-9]{1,9})|:))?")


class _Found(NamedTuple):
    """What should be the frames of an utterance, or the error that came instead."""

    utterance: Any
    value: Any
    where: str = ""


def read_features(source: Source, problems: list[Problem] | None = None) -> Iterator[tuple[str, Float32s]]:
    """Frames that were made elsewhere, one utterance after the other.

    Parameters
    ----------
    source : mapping, iterable or path
        - A mapping of ids to arrays (a dict, what `numpy.load` makes of an `.npz`, an open HDF5 file), or pairs of id
          and array; in their order.
        - A folder: all `.npy` files in it and its subfolders, sorted. The id is the path below the folder without
          `.npy`, such as "speaker/utterance".
        - A `.npy` file: one utterance, its id the name without `.npy`.
        - A Kaldi archive `.ark` (binary, compressed or text) or list of places in archives `.scp`. As in Kaldi,
          relative paths in an `.scp` start from the working folder. Lines that run a command are refused.
    problems : list of Problem, optional
        Gets what is wrong with utterances that cannot be used, and reading goes on with the next. Without it the
        first raises.

    Yields
    ------
    utterance : str
    frames : (n_frames, n_features) float32
        Made of floats of any size, or of whole numbers of at most 16,777,216, which float32 holds exactly.

    Raises
    ------
    InputError
        If the source cannot be read or holds no utterance; without `problems` also if an id occurs twice, an array is
        not (n_frames, n_features) of finite numbers, or it has other features than the first.
    """
    return _accepted(_open(source)[0], problems)


def import_features(
    source: Source, store_folder: str | Path, progress: Progress = no_progress
) -> tuple[FeatureStore, tuple[Problem, ...]]:
    """Put features that were made elsewhere into a store; their ids are its keys.

    Those that the store has already stay as they are, so an import that was interrupted can be run again.

    Parameters
    ----------
    source : mapping, iterable or path
        See `read_features`.
    store_folder : str or Path
        Made if missing.
    progress : callable
        Told ("features", utterances done, utterances in all, or 0 where that cannot be known before).

    Returns
    -------
    store : FeatureStore
        As `FeatureStore.imported` opens it; its lengths in seconds are 0, for they are not known.
    problems : tuple of Problem
        What is wrong with the utterances that were left out.

    Raises
    ------
    InputError
        If no utterance can be used, or the store cannot be written.
    """
    found, total = _open(source)
    problems: list[Problem] = []
    pairs = _accepted(_counted(found, total, progress), problems)
    first = next(pairs, None)
    if first is None:
        raise InputError(f"none of the utterances can be used; the first: {problems[0].message}")
    store = FeatureStore.imported(store_folder, first[1].shape[1])
    with store.writer() as writer:
        for utterance, frames in chain([first], pairs):
            if utterance not in store:
                writer.add(utterance, utterance, frames, 0.0)
            elif not np.array_equal(store.frames(utterance), frames):
                message = f"utterance {utterance!r}: {store.folder} has other frames of it, and keeps them"
                problems.append(Problem(utterance, message))
    return store, tuple(problems)


def export_features(pairs: Mapping[str, Any] | Iterable[tuple[str, Any]], path: str | Path) -> None:
    """Write frames for other programs.

    Parameters
    ----------
    pairs : mapping or iterable of (str, (n_frames, n_features) array)
        Ids and frames.
    path : str or Path
        x.ark or x.scp: both are made, with absolute paths in x.scp. Any other: a folder that gets `<id>.npy` of each.

    Raises
    ------
    InputError
        If frames or ids cannot be used, or the place cannot be written.
    """
    path = Path(path)
    if path.suffix not in (".ark", ".scp"):
        for utterance, frames in read_features(pairs):
            content = io.BytesIO()
            np.save(content, frames)
            write_atomically(inside(path, f"{utterance}.npy"), content.getvalue())
        return
    kaldiio, places, target = _kaldiio(), io.StringIO(), path.with_suffix(".ark").absolute()
    require_writable(target)
    with _opened(target, "wb") as archive:
        for utterance, frames in read_features(pairs):
            if utterance.split() != [utterance]:
                raise InputError(f"utterance {utterance!r}: ids in a Kaldi archive have no white space")
            kaldiio.save_ark(archive, {utterance: frames}, scp=places)
    write_atomically(path.with_suffix(".scp"), places.getvalue())


def _open(source: Source) -> tuple[Iterable[_Found], int]:
    """What a source holds, read as it is taken, and how many there are, or 0."""
    if isinstance(source, Mapping):
        return (_Found(key, _attempt(partial(source.__getitem__, key))) for key in source), len(source)
    if not isinstance(source, str | os.PathLike):
        return _from_pairs(source), len(source) if isinstance(source, Sized) else 0
    path = Path(source)
    if os.path.isdir(path):
        ids = sorted(one.relative_to(path).as_posix()[:-4] for one in path.rglob("*.npy") if one.is_file())
        if not ids:
            raise InputError(f"{path}: holds no .npy file (of Kaldi archives give the .scp or the .ark)")
        return (_from_npy(one, path / f"{one}.npy") for one in ids), len(ids)
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such file or folder")
    if path.suffix == ".npy":
        return [_from_npy(path.stem, path)], 1
    if path.suffix == ".ark":
        return _from_archive(path, _kaldiio()), 0
    if path.suffix == ".scp":
        kaldiio = _kaldiio()
        with _opened(path) as file:
            lines = [one for one in enumerate(file.read().split(b"\n"), 1) if one[1].strip()]
        return (_from_line(path, number, line, kaldiio) for number, line in lines), len(lines)
    raise InputError(f"{path}: not a .npy, .ark or .scp file, nor a folder of .npy files")


def _accepted(found: Iterable[_Found], problems: list[Problem] | None) -> Iterator[tuple[str, Float32s]]:
    """Ids and frames of what can be used."""
    seen: set[str] = set()
    first: tuple[str, int] | None = None
    one: _Found | None = None
    for one in found:
        try:
            _check_id(one.utterance, seen)
            frames = _to_frames(one.utterance, one.value, first)
        except InputError as error:
            message = f"{one.where}: {error}" if one.where else str(error)
            if problems is None:
                raise InputError(message) from error
            problems.append(Problem(str(one.utterance), message))
            continue
        first = first or (one.utterance, frames.shape[1])
        yield one.utterance, frames
    if one is None:
        raise InputError("there are no utterances in what was given (an empty file, or a generator used up?)")


def _check_id(utterance: Any, seen: set[str]) -> None:
    if not isinstance(utterance, str) or not utterance:
        raise InputError(f"the id of an utterance is {utterance!r}; it must be text that is not empty")
    if utterance in seen:
        raise InputError(f"utterance {utterance!r}: the id occurs twice")
    seen.add(utterance)


def _to_frames(utterance: str, value: Any, first: tuple[str, int] | None) -> Float32s:
    """A new array of float32, with as many features as the utterance that came first."""
    name = f"utterance {utterance!r}"
    array = value if isinstance(value, InputError) else _attempt(partial(np.asarray, value))
    if isinstance(array, InputError):
        raise InputError(f"{name}: {array}")
    if array.dtype.kind not in "fiu":
        raise InputError(f"{name}: {type(value).__name__} of {array.dtype} values; real numbers are needed")
    if array.ndim != 2:
        cause = {1: " (one feature a frame? use x[:, None])", 3: " (a batch? use x[0])"}.get(array.ndim, "")
        raise InputError(f"{name}: has shape {array.shape}; it must be (n_frames, n_features){cause}")
    if array.size == 0:
        raise InputError(f"{name}: has no frames (shape {array.shape})")
    if first is not None and array.shape[1] != first[1]:
        cause = "transposed?" if array.shape[0] == first[1] else "made with other settings?"
        raise InputError(
            f"{name}: has shape {array.shape}, so {array.shape[1]} features; {first[0]!r} has {first[1]} ({cause})"
        )
    if array.dtype.kind in "iu" and (array.max() > WHOLE or array.min() < -WHOLE):
        raise InputError(f"{name}: has whole numbers beyond ±{WHOLE:,}, which float32 cannot tell apart")
    require_finite(array, name=f"frames of {name}")
    with np.errstate(over="ignore"):
        frames = np.array(array, np.float32, order="C")
    if array.dtype.itemsize > 4 and not np.isfinite(frames).all():
        raise InputError(f"{name}: has values too large for float32 (3.4e38)")
    return frames


def _counted(found: Iterable[_Found], total: int, progress: Progress) -> Iterator[_Found]:
    for done, one in enumerate(found, 1):
        yield one
        progress("features", done, total)


def _attempt(load: Callable[[], Any]) -> Any:
    """What `load()` returns, or the error that it raises, so that the next can be tried."""
    try:
        return load()
    except Exception as error:  # broken files make numpy raise errors of many kinds
        return InputError(f"cannot be read ({error})")


def _from_pairs(pairs: Any) -> Iterator[_Found]:
    if not isinstance(pairs, Iterable):
        raise InputError(f"`source` is {pairs!r}; it must be a mapping of ids to arrays, pairs, or a path")
    for index, pair in enumerate(pairs):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise InputError(f"item {index} of `source` is a {type(pair).__name__}; it must be (id, array)")
        yield _Found(*pair)


def _from_npy(utterance: str, path: Path) -> _Found:
    # A memory map finds out that the file is shorter than it says before anything is allocated.
    array = _attempt(partial(np.load, path, mmap_mode="r", allow_pickle=False))
    return _Found(utterance, array, str(path))


def _from_archive(path: Path, kaldiio: Any) -> Iterator[_Found]:
    """All utterances of a Kaldi archive; what follows a broken one cannot be found."""
    utterance: str | None = "?"
    with _opened(path) as file:
        try:
            while (utterance := _next_id(file)) is not None:
                yield _Found(utterance, _matrix(file, kaldiio), str(path))
        except InputError as error:
            yield _Found(utterance, InputError(f"{error}; nothing after it can be read"), str(path))


def _next_id(file: BinaryIO) -> str | None:
    """The id before a matrix; None at the end of the archive."""
    name = b""
    while (byte := file.read(1)) and not (byte.isspace() and name):
        name += byte.strip()
        if len(name) > LONGEST_ID:
            raise InputError("no id of an utterance where there should be one; is this a Kaldi archive?")
    return name.decode("utf-8", "backslashreplace") or None


def _from_line(path: Path, number: int, line: bytes, kaldiio: Any) -> _Found:
    """The utterance of a line of an .scp."""
    utterance, *place = line.split(None, 1)
    try:
        value: Any = _at_place(os.fsdecode(b"".join(place)).strip(), kaldiio)
    except InputError as error:
        value = error
    return _Found(utterance.decode("utf-8", "backslashreplace"), value, f"{path}, line {number}")


def _at_place(place: str, kaldiio: Any) -> Any:
    """The matrix that a line of an .scp points at."""
    match = _PLACE.fullmatch(place)
    if match is None:
        raise InputError("no file is named after the id")
    name = match["file"].strip()
    if name.startswith("|") or name.endswith("|"):
        raise InputError(f"{place!r} is a command; only files are read (Kaldi's copy-feats makes archives)")
    if "://" in name:
        raise InputError(f"{place!r} is an address; only files are read")
    with _opened(Path(name)) as file:
        file.seek(int(match["offset"] or 0))
        try:
            matrix = _matrix(file, kaldiio)
            return matrix if match["range"] is None else _part(matrix, match["range"])
        except InputError as error:
            raise InputError(f"{place}: {error}") from error


def _part(matrix: Any, text: str) -> Any:
    """Part of a matrix: "first:last" of the rows, or of the rows and the columns, or ":" for all."""
    match = _RANGE.fullmatch(text)
    if match is None:
        raise InputError(f"[{text}] is no range such as [0:99] or [0:99,0:12]")
    if np.ndim(matrix) != 2:
        return matrix
    rows, columns = matrix.shape
    whole = (0, rows - 1, 0, columns - 1)
    first, last, left, right = (int(end or other) for end, other in zip(match.groups(), whole, strict=True))
    if not (first <= last < rows + RANGE_TOLERANCE and first < rows and left <= right < columns):
        raise InputError(f"[{text}] is not within shape {matrix.shape}; both ends of a range count, from 0")
    return matrix[first : last + 1, left : right + 1]


def _matrix(file: BinaryIO, kaldiio: Any) -> Any:
    """The matrix or vector that begins here in a Kaldi file; the file is left at its end."""
    head = file.read(22)
    file.seek(-len(head), os.SEEK_CUR)
    if head.startswith(b"\0B"):
        return _binary_matrix(file, head, kaldiio)
    # What else kaldiio would load are audio and pickles, and these can run any command.
    if not head.lstrip().startswith(b"["):
        raise InputError(f"no matrix here, but {head[:5]!r} (cut short? audio and pickles are not read)")
    return _text_matrix(file)


def _binary_matrix(file: BinaryIO, head: bytes, kaldiio: Any) -> Any:
    match = _HEADER.match(head)
    if match is None:
        raise InputError(f"no matrix here, but kind {head[2:5]!r} (cut short, or an alignment?)")
    kind, *sizes = [group for group in match.groups() if group is not None]
    shape = tuple(int.from_bytes(size, "little", signed=True) for size in sizes)
    n_bytes = _VALUE_BYTES[kind] * math.prod(shape) + (8 * shape[1] if kind == b"CM" else 0)
    file.seek(match.end(), os.SEEK_CUR)
    left = os.fstat(file.fileno()).st_size - file.tell()
    if min(shape) < 0 or n_bytes > left:
        raise InputError(f"cut short: a matrix of {shape} needs {n_bytes:,} bytes, and {left:,} are left")
    # kaldiio gets what is of a known kind and length, and never a name: it would run those that are commands.
    content = io.BytesIO(b"_ " + match[0] + file.read(n_bytes))
    with np.errstate(all="ignore"):
        return next(kaldiio.load_ark(content))[1]


def _text_matrix(file: BinaryIO) -> Any:
    """A matrix or vector, or an error after which the file can be read on."""
    lines = [file.readline()]
    while b"]" not in lines[-1]:
        lines.append(file.readline())
        if not lines[-1]:
            raise InputError("the file ends before its matrix does: there is no ']' (cut short?)")
    body, _, rest = b"".join(lines).decode("ascii", "replace").partition("]")
    rows = [row for row in body.replace("[", "", 1).split("\n") if row.strip()]
    try:
        matrix = np.loadtxt(rows, np.float64, comments=None, ndmin=2) if rows else np.empty((0, 0))
    except ValueError as error:
        return InputError(f"no matrix of numbers ({error})")
    if rest.strip():
        return InputError(f"{rest[:20]!r} follows the matrix on its line")
    return matrix[0] if len(rows) == len(lines) == 1 else matrix


@contextmanager
def _opened(path: Path, mode: str = "rb") -> Iterator[Any]:
    """A file, its errors as `InputError`; not a device or a pipe, which may never end."""
    try:
        if mode == "rb" and not os.path.isfile(path):
            raise InputError(f"{path}: no such file (relative paths start from the working folder)")
        with open(path, mode) as file:
            yield file
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error


def _kaldiio() -> Any:
    try:
        import kaldiio
    except ImportError as error:
        raise InputError("Kaldi's files need kaldiio: pip install 'speechgmm[kaldi]'") from error
    return kaldiio
