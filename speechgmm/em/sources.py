"""Frames as fixed shards of fixed blocks, so that sums are formed in the same order on any number of cores."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from speechgmm.em.coordinates import Float64s, Floats, require_frames
from speechgmm.errors import InputError

# Frames read at a time. A whole number of blocks of every size that the engine uses.
SHARD = 16384
# Weights are sums of float32 products: their mean must leave room on both sides.
LEAST_WEIGHT, LARGEST_WEIGHT = 1e-15, 1e15


class Shard(NamedTuple):
    """Some frames in a row, (n_frames, n_features), and their weights (None: every frame counts once)."""

    frames: Floats
    weights: Float64s | None


class FrameSource(Protocol):
    """Frames that can be read again and again, shard by shard, in a fixed order."""

    @property
    def n_frames(self) -> int:
        """How many frames there are."""
        ...

    @property
    def n_features(self) -> int:
        """How many values a frame has."""
        ...

    @property
    def weights(self) -> Float64s | None:
        """How often each frame counts, (n_frames,); None: once."""
        ...

    def shards(self) -> Iterator[Shard]:
        """Shards of `SHARD` frames, the last one shorter."""
        ...

    def rows(self, indices: Any) -> Floats:
        """The frames with the given numbers, in the order asked for."""
        ...


class ArraySource:
    """Frames in one array or memory map.

    Parameters
    ----------
    frames : (n_frames, n_features)
    weights : (n_frames,), optional
        How often each frame counts; not negative.
    """

    def __init__(self, frames: Any, weights: Any = None) -> None:
        self._frames = require_frames(frames)
        if len(self._frames) == 0:
            raise InputError(
                "`frames` holds no frames; at least 1 is needed (everything dropped as silence?)"
            )
        self.weights: Float64s | None = (
            None if weights is None else require_weights(weights, len(self._frames))
        )

    @property
    def n_frames(self) -> int:
        return int(self._frames.shape[0])

    @property
    def n_features(self) -> int:
        return int(self._frames.shape[1])

    def shards(self) -> Iterator[Shard]:
        for start in range(0, self.n_frames, SHARD):
            rows = slice(start, start + SHARD)
            yield Shard(self._frames[rows], None if self.weights is None else self.weights[rows])

    def rows(self, indices: Any) -> Floats:
        return np.ascontiguousarray(self._frames[indices])


class BlockSource:
    """Frames that come as blocks of any length, as from many files, and are cut anew to shards.

    The result is the same, to the last bit, as from one array of all the frames.

    Parameters
    ----------
    blocks : iterable of (n, n_features) arrays, or callable that returns one
        Gone through several times, so no generator; a function that makes one will do. All of one type:
        float32 or float64.
    weights : (n_frames,), optional

    Raises
    ------
    InputError
        If the blocks can be read only once, hold no frames, or disagree in type or number of features.
    """

    def __init__(
        self,
        blocks: Iterable[Floats] | Callable[[], Iterable[Floats]],
        weights: Any = None,
    ) -> None:
        if isinstance(blocks, Iterator):
            raise InputError(
                "`blocks` is an iterator, which can be read only once; give a list, an object that can be gone "
                "through again, or the function that makes the iterator"
            )
        if not (callable(blocks) or isinstance(blocks, Iterable)):
            raise InputError(
                f"`frames` is of type {type(blocks).__name__}; an array, or blocks of frames, is needed"
            )
        self._make: Callable[[], Iterable[Floats]] = blocks if callable(blocks) else lambda: blocks
        self._first: Floats | None = None
        self.n_frames: int = sum(len(block) for block in self._blocks())
        if self._first is None or self.n_frames == 0:
            raise InputError(
                "`frames` holds no frames; at least 1 is needed (everything dropped as silence?)"
            )
        self.n_features: int = int(self._first.shape[1])
        self.weights: Float64s | None = None if weights is None else require_weights(weights, self.n_frames)

    def _blocks(self) -> Iterator[Floats]:
        for number, block in enumerate(self._make()):
            checked = require_frames(block, name=f"block {number} of frames")
            if self._first is None:
                self._first = checked[:1]
            elif checked.shape[1] != self._first.shape[1] or checked.dtype != self._first.dtype:
                raise InputError(
                    f"block {number} of frames has {checked.shape[1]} features of {checked.dtype}; those before it "
                    f"have {self._first.shape[1]} of {self._first.dtype} (features of two settings mixed?)"
                )
            yield checked

    def shards(self) -> Iterator[Shard]:
        start, waiting, n_waiting = 0, [], 0
        for block in self._blocks():
            while len(block):
                part = block[: SHARD - n_waiting]
                waiting.append(np.array(part))  # a copy: whoever makes blocks may use their memory again
                n_waiting += len(part)
                if start + n_waiting > self.n_frames:
                    self._refuse_change(f"{start + n_waiting} or more")
                block = block[len(part) :]
                if n_waiting == SHARD:
                    yield self._shard(start, waiting)
                    start, waiting, n_waiting = start + SHARD, [], 0
        if waiting:
            yield self._shard(start, waiting)
            start += n_waiting
        if start != self.n_frames:
            self._refuse_change(f"{start}")

    def _refuse_change(self, found: str) -> None:
        raise InputError(
            f"the blocks held {self.n_frames} frames when first read, and {found} now; they must not change"
        )

    def _shard(self, start: int, parts: list[Floats]) -> Shard:
        frames = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return Shard(frames, None if self.weights is None else self.weights[start : start + len(frames)])

    def rows(self, indices: Any) -> Floats:
        wanted = _numbers(indices, self.n_frames)
        order = np.argsort(wanted, kind="stable")
        found, start, done = [], 0, 0
        for frames, _ in self.shards():
            stop = int(np.searchsorted(wanted[order], start + len(frames)))
            found.append(frames[wanted[order[done:stop]] - start])
            start, done = start + len(frames), stop
            if done == len(wanted):
                break
        result = np.empty((len(wanted), self.n_features), found[0].dtype)
        result[order] = np.concatenate(found)
        return result


class PieceSource:
    """Frames in many arrays or views of memory maps, one after the other, cut anew to shards.

    The result is the same, to the last bit, as from one array of all the frames; at no time are more than a few
    shards of it in memory.

    Parameters
    ----------
    pieces : sequence of (n, n_features) arrays
        All of one type: float32 or float64. They must not change.
    weights : (n_frames,), optional
        How often each frame of all pieces counts; not negative.

    Raises
    ------
    InputError
        If the pieces hold no frames, or disagree in type or number of features.
    """

    def __init__(self, pieces: Sequence[Floats], weights: Any = None) -> None:
        self._pieces = pieces
        # Frames before each piece, and of all.
        self._starts = np.concatenate([[0], np.cumsum([len(piece) for piece in pieces], dtype=np.int64)])
        if self.n_frames == 0:
            raise InputError(
                "`frames` holds no frames; at least 1 is needed (everything dropped as silence?)"
            )
        first = pieces[0]
        for number, piece in enumerate(pieces):
            if piece.ndim != 2 or piece.shape[1] != first.shape[1] or piece.dtype != first.dtype:
                raise InputError(
                    f"piece {number} of frames is of shape {piece.shape} and {piece.dtype}; the first is of shape "
                    f"{first.shape} and {first.dtype} (features of two settings mixed?)"
                )
        self.weights: Float64s | None = None if weights is None else require_weights(weights, self.n_frames)

    @property
    def n_frames(self) -> int:
        return int(self._starts[-1])

    @property
    def n_features(self) -> int:
        return int(self._pieces[0].shape[1])

    def shards(self) -> Iterator[Shard]:
        for start in range(0, self.n_frames, SHARD):
            stop = min(start + SHARD, self.n_frames)
            yield Shard(self._range(start, stop), None if self.weights is None else self.weights[start:stop])

    def _range(self, start: int, stop: int) -> Floats:
        """Frames start to stop: a view where one piece holds them all."""
        first = int(np.searchsorted(self._starts, start, "right")) - 1
        last = int(np.searchsorted(self._starts, stop, "left"))
        parts = [
            self._pieces[i][max(0, start - self._starts[i]) : stop - self._starts[i]]
            for i in range(first, last)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def rows(self, indices: Any) -> Floats:
        wanted = _numbers(indices, self.n_frames)
        order = np.argsort(wanted, kind="stable")
        result = np.empty((len(wanted), self.n_features), self._pieces[0].dtype)
        # Each piece is read once, from its beginning to its end.
        bounds = np.searchsorted(wanted[order], self._starts)
        for i in map(int, np.flatnonzero(np.diff(bounds))):
            chosen = order[bounds[i] : bounds[i + 1]]
            result[chosen] = self._pieces[i][wanted[chosen] - self._starts[i]]
        return result


def _numbers(indices: Any, n_frames: int) -> Any:
    """The numbers of frames that an index of any kind stands for."""
    if isinstance(indices, slice):  # without an array of all numbers
        return np.arange(*indices.indices(n_frames))
    return np.arange(n_frames)[indices]


def as_source(frames: Any, weights: Any = None) -> FrameSource:
    """Frames of any kind as a source.

    Parameters
    ----------
    frames : array-like, memory map, list or tuple of 2-D arrays, other re-iterable of blocks, callable, or FrameSource
    weights : (n_frames,), optional
        Not with a source, which has its own.
    """
    if hasattr(frames, "shards"):
        if weights is not None:
            raise InputError("`weights` cannot be given beside a frame source; make the source with them")
        return frames  # type: ignore[no-any-return]
    if isinstance(frames, str | bytes | Path):
        raise InputError(f"`frames` is {frames!r}; a path? Open it first: numpy.load(path, mmap_mode='r')")
    blocks = isinstance(frames, list | tuple) and any(getattr(block, "ndim", 0) == 2 for block in frames)
    if blocks or not (isinstance(frames, list | tuple) or hasattr(frames, "__array__")):
        return BlockSource(frames, weights)
    return ArraySource(frames, weights)


def require_weights(weights: Any, n_frames: int) -> Float64s:
    """Check the weights of frames.

    Raises
    ------
    InputError
        If there is not one for each frame, one is negative or not finite, or all are zero.
    """
    try:
        checked = np.array(weights, np.float64, order="C")  # a copy, as compiled code needs it
    except (TypeError, ValueError) as error:
        raise InputError("`weights` are no numbers") from error
    if checked.shape != (n_frames,):
        raise InputError(
            f"`weights` has the shape {checked.shape}; with {n_frames} frames it must be ({n_frames},)"
        )
    bad = np.flatnonzero(~(np.isfinite(checked) & (checked >= 0)))
    if bad.size:
        raise InputError(
            f"`weights` has the value {checked[bad[0]]} at frame {bad[0]}; it must be 0 or more, finite"
        )
    if not LEAST_WEIGHT < checked.mean() < LARGEST_WEIGHT:
        raise InputError(
            f"`weights` are {checked.mean():g} on average; it must be between {LEAST_WEIGHT:g} and {LARGEST_WEIGHT:g} "
            "(all zero? otherwise scale them)"
        )
    return checked
