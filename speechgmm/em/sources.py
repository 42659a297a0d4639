"""Frames as fixed shards of fixed blocks, so that sums are formed in the same order on any number of cores."""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from speechgmm.em.coordinates import Floats, require_frames
from speechgmm.em.mixture import BLOCK
from speechgmm.errors import InputError

SHARD = 32 * BLOCK


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

    def shards(self) -> Iterator[Floats]:
        """Arrays of `SHARD` frames, the last one shorter."""
        ...

    def rows(self, indices: Any) -> Floats:
        """The frames with the given numbers."""
        ...


class ArraySource:
    """Frames in one array or memory map, shape (n_frames, n_features)."""

    def __init__(self, frames: Any) -> None:
        self._frames = require_frames(frames)
        if len(self._frames) == 0:
            raise InputError(
                "`frames` holds no frames; at least 1 is needed (everything dropped as silence?)"
            )

    @property
    def n_frames(self) -> int:
        return int(self._frames.shape[0])

    @property
    def n_features(self) -> int:
        return int(self._frames.shape[1])

    def shards(self) -> Iterator[Floats]:
        for start in range(0, self.n_frames, SHARD):
            yield self._frames[start : start + SHARD]

    def rows(self, indices: Any) -> Floats:
        return np.ascontiguousarray(self._frames[indices])


def as_source(frames: Any) -> FrameSource:
    """Frames given as an array, or already as a source."""
    return frames if hasattr(frames, "shards") else ArraySource(frames)
