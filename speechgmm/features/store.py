"""Frames of many utterances on disk, keyed by configuration and audio; a source of frames for the engine."""

import math
import os
import time
import zlib
from collections.abc import Iterator
from numbers import Real
from operator import attrgetter, itemgetter
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from speechgmm.em.coordinates import Float64s, Floats, require_frames
from speechgmm.em.sources import PieceSource, Shard
from speechgmm.errors import InputError
from speechgmm.features import store_files as files
from speechgmm.features.config import FeatureConfig
from speechgmm.features.store_files import Entry, Float32s, Stamp
from speechgmm.files import canonical_json, require_writable, sha256_of_text
from speechgmm.manifest import Utterance

# A writer commits when so many bytes or seconds have gathered since it last did.
COMMIT_BYTES = 64 << 20
COMMIT_SECONDS = 5.0
# A writer starts a new pair of files beyond this.
FILE_BYTES = 4 << 30

_listed = itemgetter(*Entry._fields[:-1])
_stamped = itemgetter(*Stamp._fields)


class FeatureStore:
    """Frames of one configuration in a folder, read as memory maps; many configurations can share the folder.

    Several processes may read and write at once, and be killed at any moment: what was committed stays valid, and
    whoever opens the store next goes on from there. It is a source of frames for the engine: those of all utterances,
    sorted by utterance id, then key.

    Parameters
    ----------
    folder : str or Path
    config : FeatureConfig
        Frames of other configurations are in subfolders of their own.
    create : bool
        Whether to make the store if there is none; otherwise that is an error.

    Raises
    ------
    InputError
        If the folder is a file, cannot be written when it must be made, or holds a store of a newer format.
    FormatError
        If a file of the store is damaged; the message names it.

    Attributes
    ----------
    folder : Path
        The subfolder with the files of this configuration.
    config : FeatureConfig or None
        None for features made elsewhere.
    n_features : int
    """

    config: FeatureConfig | None
    weights: Float64s | None = None

    def __init__(self, folder: str | Path, config: FeatureConfig, create: bool = True) -> None:
        if not isinstance(config, FeatureConfig):
            raise InputError(
                f"`config` is {config!r}; it must be a FeatureConfig (for features made elsewhere: "
                "FeatureStore.imported)"
            )
        name = sha256_of_text(canonical_json([files.ANALYSIS, config.to_dict()]))[:16]
        self._open(Path(folder), name, config, config.n_features, create)

    @classmethod
    def imported(cls, folder: str | Path, n_features: int, create: bool = True) -> Self:
        """A store of features that were made elsewhere, so without a configuration.

        Parameters
        ----------
        folder : str or Path
        n_features : int >= 1
            Values in a frame.
        create : bool
        """
        if isinstance(n_features, bool) or not isinstance(n_features, int) or n_features < 1:
            raise InputError(f"`n_features` is {n_features!r}; it must be a whole number of 1 or more")
        store = cls.__new__(cls)
        store._open(Path(folder), f"imported-{n_features}", None, n_features, create)
        return store

    def _open(
        self, folder: Path, name: str, config: FeatureConfig | None, n_features: int, create: bool
    ) -> None:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder}: is a file; a feature store is a folder")
        self.folder = Path(os.path.abspath(folder)) / name
        self.config = config
        self.n_features = n_features
        files.require_header(self.folder, None if config is None else config.to_dict(), n_features, create)
        self._forget()
        self.refresh()

    def _forget(self) -> None:
        """Start as if no file had been read."""
        self._entries: dict[str, Entry] = {}
        self._checksums: dict[Stamp, str] = {}
        # Checksums that no file lists yet: left to the next commit of a writer.
        self._unlisted: list[Stamp] = []
        self._read_to: dict[str, int] = {}
        # Keys of lines whose frames are not on disk, and what to say of them.
        self._lost: dict[str, str] = {}
        self._maps: dict[str, Float32s] = {}
        self._sorted: tuple[Entry, ...] | None = None
        self._source: PieceSource | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("folder", "config", "n_features", "_read_to")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Only as far as the original had read, so that workers see the same frames whatever others add.
        read_to = state.pop("_read_to")
        self.__dict__.update(state)
        self._forget()
        for name, stop in read_to.items():
            self._read(name, stop)

    def refresh(self) -> None:
        """Read what others have added since."""
        for name in files.pair_names(self.folder):
            self._read(name)

    def _read(self, name: str, stop: int | None = None) -> None:
        """Read the lines of a pair that are new, up to a byte."""
        path = files.index_path(self.folder, name)
        for lines, read_to in files.read_lines(path, self._read_to.get(name, 0), stop):
            # After the lines were read, since the frames they list were there before them.
            n_rows = files.rows_on_disk(files.frames_path(self.folder, name), self.n_features)
            try:
                for line in lines:
                    if "path" in line:
                        self._checksums[Stamp._make(_stamped(line))] = line["sha256"]
                    else:
                        self._list(Entry._make((*_listed(line), name)), n_rows)
            except (KeyError, TypeError, ValueError) as error:
                raise files.damaged(
                    path, f"before byte {read_to} a field is missing or impossible: {error}"
                ) from error
            self._read_to[name] = read_to
            self._sorted = self._source = None

    def _list(self, entry: Entry, n_rows: int) -> None:
        """Take an entry in, unless its file ends before its frames do."""
        if entry.first_row < 0 or entry.n_frames < 1:
            raise ValueError(f"{entry.n_frames} frames from row {entry.first_row}")
        if entry.first_row + entry.n_frames > n_rows:
            self._lost[entry.key] = self._cut_short(entry)
            return
        # Of several files the first in sorted order counts, whichever was read first.
        if entry.file < self._entries.setdefault(entry.key, entry).file:
            self._entries[entry.key] = entry

    def _cut_short(self, entry: Entry) -> str:
        path = files.frames_path(self.folder, entry.file)
        return f"{path}: ends before the frames of utterance {entry.utterance!r} do (cut short, or deleted?)"

    def __len__(self) -> int:
        """How many utterances there are."""
        return len(self._entries)

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def entries(self) -> tuple[Entry, ...]:
        """What the store holds, sorted by utterance id, then key: the order of its shards."""
        if self._sorted is None:
            self._sorted = tuple(sorted(self._entries.values(), key=attrgetter("utterance", "key")))
        return self._sorted

    def entry(self, key: str) -> Entry:
        """The entry of a key; raises `InputError` where there is none."""
        if key not in self._entries:
            raise InputError(
                f"{self.folder}: holds no frames of the key {key!r} (not added, or not committed?)"
            )
        return self._entries[key]

    def seconds(self, key: str) -> float:
        """Length of an utterance's audio."""
        return self.entry(key).seconds

    def frames(self, key: str) -> Float32s:
        """The frames of an utterance.

        Returns
        -------
        (n_frames, n_features) float32
            A view of a memory map, read-only.

        Raises
        ------
        InputError
            If the store has none of that key, or their file has gone since it was opened.
        """
        entry = self.entry(key)
        stop = entry.first_row + entry.n_frames
        rows = self._maps.get(entry.file)
        if rows is None or len(rows) < stop:
            path = files.frames_path(self.folder, entry.file)
            n_rows = files.rows_on_disk(path, self.n_features)
            if n_rows < stop:
                raise InputError(self._cut_short(entry))
            rows = files.read_rows(path, (n_rows, self.n_features))
            self._maps[entry.file] = rows
        return rows[entry.first_row : stop]

    def key_of(self, utterance: Utterance) -> str:
        """The key of an utterance: the SHA-256 of its audio file, its start and its end.

        A file whose path, size and times are listed in the store is not read again. What a manifest says the
        checksum is does not count. Several threads may call this at once.

        Raises
        ------
        InputError
            If there is no such file.
        """
        digest = self._checksums.get(files.audio_stamp(utterance.audio))
        if digest is None:
            stamp, digest, settled = files.audio_checksum(utterance.audio)
            if settled:
                self._checksums[stamp] = digest
                self._unlisted.append(stamp)
        return f"{digest}:{utterance.start}:{utterance.end}"

    def writer(self) -> "FeatureWriter":
        """A writer, to be used in a `with` statement; raises `InputError` if the folder cannot be written."""
        return FeatureWriter(self)

    def verify(self) -> list[str]:
        """Read all frames and compare them with their checksums.

        Returns
        -------
        list of str
            What is wrong; empty if nothing is.
        """
        problems = [message for key, message in sorted(self._lost.items()) if key not in self._entries]
        for entry in sorted(self._entries.values(), key=attrgetter("file", "first_row")):
            path = files.frames_path(self.folder, entry.file)
            if files.rows_on_disk(path, self.n_features) < entry.first_row + entry.n_frames:
                problems.append(self._cut_short(entry))
            elif zlib.crc32(self.frames(entry.key).data) != entry.crc32:
                problems.append(
                    f"{path}: the frames of utterance {entry.utterance!r} differ from their checksum"
                )
        return problems

    @property
    def n_frames(self) -> int:
        """Frames of all utterances."""
        return sum(entry.n_frames for entry in self._entries.values())

    def shards(self) -> Iterator[Shard]:
        """The frames of all entries as shards of fixed size; see `FrameSource`."""
        return self._pieces().shards()

    def rows(self, indices: Any) -> Floats:
        """Frames by their numbers in the order of `entries`; see `FrameSource`."""
        return self._pieces().rows(indices)

    def _pieces(self) -> PieceSource:
        if self._source is None:
            self._source = PieceSource([self.frames(entry.key) for entry in self.entries()])
        return self._source


class FeatureWriter:
    """Adds frames to a store, into files of its own. For one thread, but for `allocate`.

    What was added can be read once it is committed: after every 64 MB, every few seconds, and at the end of the
    `with` statement, also one that ends by an exception.
    """

    def __init__(self, store: FeatureStore) -> None:
        require_writable(store.folder / "config.json")
        self._store = store
        self._pair: files.Pair | None = None
        self._start_anew()

    def _start_anew(self) -> None:
        """Nothing waits for the next commit."""
        self._waiting: dict[str, Entry] = {}
        self._n_bytes = 0
        self._since = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.commit()
        finally:
            self._close()

    def allocate(self, shape: tuple[int, int]) -> Float32s:
        """An array to make frames in: in memory, or in a temporary file of the store's folder if it is large."""
        return files.allocate(self._store.folder, shape)

    def add(
        self,
        key: str,
        utterance_id: str,
        frames: Float32s,
        seconds: float,
        utterance: Utterance | None = None,
    ) -> None:
        """Add the frames of an utterance; those that the store has already are not written again.

        Parameters
        ----------
        key : str
            From `key_of`; for features made elsewhere, any that is unique.
        utterance_id : str
        frames : (n_frames, n_features) float32
        seconds : float
            Of audio.
        utterance : Utterance, optional
            To make sure that its file is still the one that the key is of.

        Raises
        ------
        InputError
            If there are no frames, they have another shape or type or values that are not finite, the store has
            others under this key, the audio file has changed, or there is no room.
        """
        frames = self._checked(key, utterance_id, frames, seconds)
        if utterance is not None and self._store.key_of(utterance) != key:
            raise InputError(
                f"utterance {utterance_id!r}: {utterance.audio} is not the file that its key was made of "
                "(changed since?)"
            )
        crc = files.checked_crc(frames, f"frames of utterance {utterance_id!r}")
        if self._has(key, len(frames), crc):
            return
        with files.writing(self._store.folder):
            row = self._opened().append(frames)
        name = self._opened().name
        self._waiting[key] = Entry(key, utterance_id, len(frames), row, float(seconds), crc, name)
        self._n_bytes += frames.nbytes
        if self._n_bytes >= COMMIT_BYTES or time.monotonic() - self._since >= COMMIT_SECONDS:
            self.commit()

    def _checked(self, key: str, utterance_id: str, frames: Any, seconds: float) -> Float32s:
        for name, value in (("key", key), ("utterance_id", utterance_id)):
            if not isinstance(value, str) or not value:
                raise InputError(f"`{name}` is {value!r}; it must be text that is not empty")
        name = f"frames of utterance {utterance_id!r}"
        frames = require_frames(frames, name=name)
        if frames.shape[1] != self._store.n_features or frames.dtype != np.float32:
            raise InputError(
                f"`{name}` have {frames.shape[1]} features of {frames.dtype}; those of the store have "
                f"{self._store.n_features} of float32 (other settings?)"
            )
        if len(frames) == 0:
            raise InputError(f"`{name}`: there are none (everything dropped as silence?)")
        if not isinstance(seconds, Real) or not 0 <= seconds < math.inf:
            raise InputError(f"`seconds` of utterance {utterance_id!r} is {seconds!r}; it must be 0 or more")
        return frames

    def _has(self, key: str, n_frames: int, crc: int) -> bool:
        """Whether these frames are there, or wait for their commit; other ones under their key are refused."""
        if key not in self._waiting and key not in self._store:
            return False
        known = self._waiting.get(key) or self._store.entry(key)
        if (known.n_frames, known.crc32) != (n_frames, crc):
            raise InputError(
                f"{self._store.folder}: has other frames under the key {key!r} (a key that is not unique, or frames "
                "made in another way?)"
            )
        return True

    def commit(self) -> None:
        """Make all that was added safe, and readable.

        Raises
        ------
        InputError
            If there is no room. What was added since the last commit is then lost, and no more than that.
        """
        store = self._store
        stamps = store._unlisted[:]
        lines = [files.encode_line(s._asdict() | {"sha256": store._checksums[s]}) for s in stamps]
        for entry in self._waiting.values():
            lines.append(files.encode_line(dict(zip(Entry._fields[:-1], entry, strict=False))))
        if not lines:
            return
        pair = self._opened()
        try:
            with files.writing(store.folder):
                pair.commit(lines)
        except InputError:
            # After a failed write or fsync these files' ends are not to be relied on: nothing is added to them.
            self._start_anew()
            self._close()
            raise
        del store._unlisted[: len(stamps)]
        self._start_anew()
        store._read(pair.name)
        if pair.n_bytes >= FILE_BYTES:
            self._close()

    def _opened(self) -> files.Pair:
        if self._pair is None:
            self._pair = files.Pair(self._store.folder, 4 * self._store.n_features)
        return self._pair

    def _close(self) -> None:
        if self._pair is not None:
            self._pair.close()
        self._pair = None
