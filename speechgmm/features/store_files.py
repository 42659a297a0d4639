"""The files of a feature store: rows of frames, lines that list them, checksums of audio files.

`config.json` says what the frames are. Each writer makes a pair of files that no other writer ever touches:

- `frames-<name>.f32`: rows of little-endian float32, one frame a row, nothing else.
- `index-<name>.jsonl`: JSON Lines, added to only after what they speak of is on disk. Each begins with the CRC-32 of
  the rest of it. One kind of line lists the frames of an utterance, the other the checksum of an audio file.

What follows the last line end of an index is half a line of a writer that is still at it, or was killed: it counts as
absent. So does a line whose frames the other file does not hold. Whatever else is not as it was written is refused.
"""

import errno
import io
import json
import os
import secrets
import stat
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from speechgmm.audio import audio_info
from speechgmm.em.coordinates import require_finite
from speechgmm.errors import FormatError, InputError
from speechgmm.files import sha256, write_atomically

Float32s = NDArray[np.float32]

FORMAT = 1
# To be raised when the same configuration comes to give other frames: stores of before then count for nothing.
ANALYSIS = 1
KIND = "speechgmm features"

# Arrays above this (in bytes) lie in a temporary file instead of memory.
LARGE = 64 << 20
# Bytes taken at a time from frames that may be larger than memory.
CHUNK = 4 << 20
# Files of frames below this (in bytes) are read instead of mapped: each map holds a file open, and a store that many
# programs added a little to has many.
SMALL = 1 << 20
# A file may change twice within one tick of its file system's clock: the largest in use (FAT).
TICK = 2_000_000_000


class Entry(NamedTuple):
    """Where the frames of an utterance lie.

    Parameters
    ----------
    key : str
    utterance : str
        Its id, when it was added.
    n_frames : int
    first_row : int
        In its file.
    seconds : float
        Of audio.
    crc32 : int
        Of the frames' bytes.
    file : str
        The name that the two files share.
    """

    key: str
    utterance: str
    n_frames: int
    first_row: int
    seconds: float
    crc32: int
    file: str


class Stamp(NamedTuple):
    """What tells, without reading it, that an audio file is the one it was; times in nanoseconds.

    `ctime_ns` is here because programs that copy and unpack files set `mtime_ns` as they like.
    """

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int


class Checksum(NamedTuple):
    """SHA-256 of an audio file, and whether its stamp will tell a later change."""

    stamp: Stamp
    sha256: str
    settled: bool


def require_header(folder: Path, settings: dict[str, Any] | None, n_features: int, create: bool) -> None:
    """Make sure that a folder is the store of some settings, made now if it may be.

    Raises
    ------
    InputError
        If there is no such store and it may not or cannot be made, or it is of a newer format.
    FormatError
        If the header is damaged, or of another store.
    """
    path = folder / "config.json"
    expected = {"kind": KIND, "format": FORMAT, "n_features": n_features, "config": settings}
    if not path.exists():
        if not create:
            raise InputError(
                f"{folder.parent}: holds no features of these settings (another folder, or settings?)"
            )
        write_atomically(path, json.dumps(expected, indent=1) + "\n")
    with reading(path):
        text = path.read_bytes()
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: not JSON ({error}); is this a feature store?") from error
    if not isinstance(header, dict) or header.get("kind") != KIND:
        raise FormatError(f"{path}: field `kind` must be {KIND!r}; this is another kind of file")
    if header.get("format") != FORMAT:
        raise InputError(
            f"{path}: field `format` is {header.get('format')!r}; this speechgmm reads {FORMAT} "
            "(written by a newer speechgmm?)"
        )
    for name in ("n_features", "config"):
        if header.get(name) != expected[name]:
            raise FormatError(f"{path}: field `{name}` does not fit the folder's name (edited, or renamed?)")


def frames_path(folder: Path, name: str) -> Path:
    """The file with the frames of the pair `name`."""
    return folder / f"frames-{name}.f32"


def index_path(folder: Path, name: str) -> Path:
    """The file with the lines of the pair `name`."""
    return folder / f"index-{name}.jsonl"


def pair_names(folder: Path) -> list[str]:
    """Names of the pairs in a folder, sorted: usually the oldest first."""
    with reading(folder):
        files = os.listdir(folder)
    return sorted(
        file.removeprefix("index-").removesuffix(".jsonl")
        for file in files
        if file.startswith("index-") and file.endswith(".jsonl")
    )


def rows_on_disk(path: Path, n_features: int) -> int:
    """Whole frames in a file of frames; 0 if there is no such file."""
    try:
        return path.stat().st_size // (4 * n_features)
    except FileNotFoundError:
        return 0


def read_rows(path: Path, shape: tuple[int, int]) -> Float32s:
    """The first rows of a file of frames, not to be written to: a memory map of a large file, a copy of a small one."""
    with reading(path):
        if 4 * shape[0] * shape[1] > SMALL:
            return np.asarray(np.memmap(path, "<f4", "r", shape=shape))
        rows = np.fromfile(path, "<f4", shape[0] * shape[1]).reshape(shape)
    rows.flags.writeable = False
    return rows


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn the system's errors into an `InputError` that names what cannot be read."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn the system's errors into an `InputError` that names the folder."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror or error}); what was committed before stays valid"
        ) from error


def encode_line(fields: dict[str, Any]) -> bytes:
    """A line of an index: `fields` as JSON, the checksum of the rest of the line before them."""
    rest = json.dumps(fields, separators=(",", ":"), allow_nan=False).encode("ascii")[1:] + b"\n"
    return _checksum_field(rest) + rest


def _checksum_field(rest: bytes) -> bytes:
    return b'{"crc":"%08x",' % zlib.crc32(rest)


_FIELD = len(_checksum_field(b""))


def read_lines(path: Path, start: int = 0, stop: int | None = None) -> Iterator[tuple[list[Any], int]]:
    """Yield the lines between two bytes of an index, many at a time, and where they end.

    Raises
    ------
    FormatError
        If a whole line is not as it was written. Nothing after it can be trusted either, and what it listed cannot be
        told: to go on without a word would make training sets smaller in secret.
    InputError
        If the file cannot be read.
    """
    with reading(path), open(path, "rb") as file:
        file.seek(start)
        content = file.read(-1 if stop is None else stop - start)
    whole = io.BytesIO(content[: content.rfind(b"\n") + 1])
    place = start
    while lines := whole.readlines(CHUNK):
        for line in lines:
            if line[:_FIELD] != _checksum_field(line[_FIELD:]):
                raise damaged(path, f"the line at byte {place} does not agree with its checksum")
            place += len(line)
        try:
            # Together they take half the time that they take one by one.
            rows = json.loads(b"[" + b",".join(lines) + b"]")
        except (ValueError, RecursionError) as error:
            raise damaged(path, f"not JSON before byte {place}: {error}") from error
        yield rows, place


def damaged(path: Path, reason: str) -> FormatError:
    """The error for an index that is not as it was written."""
    return FormatError(
        f"{path}: {reason} (damaged, or edited by hand?); delete this file, and add the utterances that it listed "
        "again: those in other files of the folder stay"
    )


def checked_crc(frames: Float32s, name: str) -> int:
    """CRC-32 of the bytes of frames, all of which must be finite."""
    crc, n_done = 0, 0
    for chunk in _chunks(frames):
        require_finite(chunk, n_done, name)
        crc, n_done = zlib.crc32(chunk.data, crc), n_done + len(chunk)
    return crc


def _chunks(frames: Float32s) -> Iterator[Float32s]:
    """Frames in contiguous pieces of a few MB; views where they are contiguous already."""
    step = max(1, CHUNK // (4 * frames.shape[1]))
    for start in range(0, len(frames), step):
        yield np.ascontiguousarray(frames[start : start + step], "<f4")


class Pair:
    """A new pair of files, of which the one that makes it is the only writer.

    Parameters
    ----------
    folder : Path
    row_bytes : int
        Of one frame.
    """

    def __init__(self, folder: Path, row_bytes: int) -> None:
        self.name = f"{time.time_ns():016x}-{secrets.token_hex(4)}"
        self._folder = folder
        self._row_bytes = row_bytes
        self._n_rows = 0
        self._index_bytes = 0
        self._frames: io.FileIO | None = None
        self._index: io.FileIO | None = None

    @property
    def n_bytes(self) -> int:
        """Of frames."""
        return self._n_rows * self._row_bytes

    def append(self, frames: Float32s) -> int:
        """Write frames behind those that are there, and return the row of the first.

        After an error the next call starts at the same row.
        """
        if self._frames is None:
            self._frames = _create(frames_path(self._folder, self.name))
        self._frames.seek(self.n_bytes)
        try:
            for chunk in _chunks(frames):
                _write_all(self._frames, chunk.data.cast("B"))
        except OSError:
            with suppress(OSError):  # on a full disk this makes room for the lines of what is complete
                self._frames.truncate(self.n_bytes)
            raise
        first_row, self._n_rows = self._n_rows, self._n_rows + len(frames)
        return first_row

    def commit(self, lines: Sequence[bytes]) -> None:
        """Make sure that all frames are on disk, then write lines and make sure of them."""
        if self._frames is not None:
            os.fsync(self._frames.fileno())
        if self._index is None:
            self._index = _create(index_path(self._folder, self.name))
        content = b"".join(lines)
        self._index.seek(self._index_bytes)
        _write_all(self._index, memoryview(content))
        os.fsync(self._index.fileno())
        self._index_bytes += len(content)

    def close(self) -> None:
        """Close the files; frames that no line was ever written for are deleted."""
        if self._index is not None:
            self._index.close()
        if self._frames is not None:
            self._frames.close()
            if self._index is None:
                frames_path(self._folder, self.name).unlink(missing_ok=True)


def _create(path: Path) -> io.FileIO:
    """A new file without a buffer, so that a failed write leaves nothing to be written again."""
    return open(path, "xb", buffering=0)


def _write_all(file: io.FileIO, content: memoryview) -> None:
    while content:
        content = content[file.write(content) :]


def allocate(folder: Path, shape: tuple[int, int]) -> Float32s:
    """An array of float32, (n_frames, n_features), in memory if it is small, else in a file without a name in `folder`.

    Raises
    ------
    InputError
        If there is no room for it.
    """
    n_bytes = 4 * shape[0] * shape[1]
    if n_bytes <= LARGE:
        return np.empty(shape, np.float32)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            _reserve(file.fileno(), n_bytes)
            return np.asarray(np.memmap(file, np.float32, "r+", shape=shape))
    except OSError as error:
        raise InputError(
            f"{folder}: no room for {n_bytes / 2**20:.0f} MB of frames ({error.strerror or error})"
        ) from error


def _reserve(file: int, n_bytes: int) -> None:
    """Make a file so long, with room for all of it: a full disk would end the process when the array is written to."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file, 0, n_bytes)
            return
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # not every file system can
                raise
    os.ftruncate(file, n_bytes)


def audio_stamp(path: Path) -> Stamp:
    """The stamp of an audio file.

    Raises
    ------
    InputError
        As `read_audio`, if there is no such file.
    """
    with _audio_errors(path):
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a file")
    return Stamp(os.path.abspath(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def audio_checksum(path: Path) -> Checksum:
    """Read an audio file for its checksum.

    Raises
    ------
    InputError
        As `read_audio`, if it cannot be opened.
    """
    now = time.time_ns()
    before = audio_stamp(path)
    with _audio_errors(path):
        digest = sha256(path)
    # A change within the clock's tick would leave the stamp as it is.
    settled = audio_stamp(path) == before and now - max(before.mtime_ns, before.ctime_ns) > TICK
    return Checksum(before, digest, settled)


@contextmanager
def _audio_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        audio_info(path)  # says best what is wrong with it
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
