"""Frames sorted so that neighbours lie together, and for each block of them a list of candidate components."""

import math
import os
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from speechgmm.em import kernels_grouped as kernels
from speechgmm.em.coordinates import Coordinates, Float32s, Float64s
from speechgmm.em.fit import usual_weight
from speechgmm.em.mixture import LOG_2, Mixture
from speechgmm.em.projection import Projection
from speechgmm.em.sources import SHARD, ArraySource, FrameSource, Shard
from speechgmm.em.statistics import Statistics, accumulate
from speechgmm.em.terms import BLOCK, LOG2_OF_NOTHING
from speechgmm.parallel import one_blas_thread, shard_map

Chosen = NDArray[np.bool_]

# Blocks handled by one call: enough to keep the interpreter out of the way.
PIECE = 32
# What a component explains in the blocks beside a block counts there too, with this factor.
NEARBY = 0.1
# Less than so much of a frame is no reason to try a component.
NOTHING = 1e-4


class Piece(NamedTuple):
    """The candidates of a few blocks in a row.

    Parameters
    ----------
    blocks : slice
    components : (n_components,) int64
        All that are a candidate of one of them, sorted.
    offsets : (n_blocks + 1,) int64
        Block b has members[offsets[b] : offsets[b + 1]].
    members : (n_pairs,) int32
        Positions in `components`.
    """

    blocks: slice
    components: NDArray[np.int64]
    offsets: NDArray[np.int64]
    members: NDArray[np.int32]


def pieces_of(chosen: Chosen) -> list[Piece]:
    """The candidates (n_blocks, n_components), at least one in each row, cut to pieces."""
    return [_piece(chosen, slice(first, first + PIECE)) for first in range(0, len(chosen), PIECE)]


def _piece(chosen: Chosen, blocks: slice) -> Piece:
    components = np.flatnonzero(chosen[blocks].any(axis=0))
    own = chosen[blocks][:, components]
    offsets = np.concatenate([[0], np.cumsum(own.sum(axis=1))])
    return Piece(blocks, components, offsets, np.nonzero(own)[1].astype(np.int32))


def as_matrix(pieces: list[Piece], masses: list[Float32s], shape: tuple[int, int]) -> Float32s:
    """The masses of candidates as a matrix (n_blocks, n_components), zero elsewhere."""
    matrix = np.zeros(shape, np.float32)
    for piece, values in zip(pieces, masses, strict=True):
        rows = np.repeat(np.arange(len(piece.offsets) - 1), np.diff(piece.offsets))
        matrix[piece.blocks][rows, piece.components[piece.members]] = values
    return matrix


def trimmed(masses: Float32s, lost: float) -> Chosen:
    """The fewest candidates that leave out no more than this fraction of all mass."""
    some = np.sort(masses[masses > NOTHING])
    place = np.searchsorted(np.cumsum(some, dtype=np.float64), lost * some.sum(dtype=np.float64))
    least = some[min(place, some.size - 1)]
    return _with_best(masses >= least, masses)


def widened(masses: Float32s, n_pairs: int) -> Chosen:
    """About so many candidates in all: the likeliest to have mass, judged by the block's own and its neighbours'."""
    likely = masses.copy()
    likely[1:] += NEARBY * masses[:-1]
    likely[:-1] += NEARBY * masses[1:]
    n_pairs = min(n_pairs, likely.size)
    least = np.partition(likely.ravel(), likely.size - n_pairs)[likely.size - n_pairs]
    return _with_best(likely >= max(least, NOTHING), masses)


def _with_best(chosen: Chosen, masses: Float32s) -> Chosen:
    """No block is left without a candidate, and no component that explains anything without a block."""
    n_blocks, n_components = masses.shape
    chosen[np.arange(n_blocks), masses.argmax(axis=1)] = True
    chosen[masses.argmax(axis=0), np.arange(n_components)] |= masses.max(axis=0) > NOTHING
    return chosen


@dataclass(frozen=True, eq=False)
class SortedFrames:
    """A copy of all frames as blocks of neighbours.

    Parameters
    ----------
    blocks : (n_blocks, n_features, BLOCK) float32
        In `coordinates`, side by side; the last block is filled up with zeros.
    weights : (n_blocks, BLOCK) float64
        About 1, whatever weights the source gives; zero for what was filled up.
    unit : float
        What a weight of 1 stands for.
    far : Shard or None
        Frames too far out for float32: they are handled exactly, with all components.
    coordinates : Coordinates
    """

    blocks: Float32s
    weights: Float64s
    unit: float
    far: Shard | None
    coordinates: Coordinates

    @classmethod
    def of(
        cls,
        source: FrameSource,
        mixture: Mixture,
        coordinates: Coordinates,
        n_jobs: int = 1,
        folder: str | Path | None = None,
    ) -> "SortedFrames":
        """Sort frames by the two components whose means are nearest, in deviations averaged over components.

        Parameters
        ----------
        source, mixture, coordinates, n_jobs
            As in `accumulate`. Frames of weight 0 are left out.
        folder : path, optional
            Where to keep the copy, in a temporary file; by default it is kept in memory.
        """
        keys, far = _sort_keys(source, mixture, coordinates, n_jobs)
        unit = usual_weight(source)
        all_weights = np.ones(source.n_frames) if source.weights is None else source.weights
        near = ~far & (all_weights > 0)
        order = np.argsort(np.where(near, keys, np.iinfo(np.int64).max), kind="stable")[: near.sum()]
        places = np.full(source.n_frames, -1)
        places[order] = np.arange(len(order))
        shape = (-(-len(order) // BLOCK), source.n_features, BLOCK)
        blocks = np.zeros(shape, np.float32) if folder is None else _map_temporary(folder, shape)
        _copy(source, coordinates, places, blocks, n_jobs)
        weights = np.zeros((shape[0], BLOCK))
        weights.ravel()[: len(order)] = all_weights[order] / unit
        apart = np.flatnonzero(far & (all_weights > 0))
        far_shard = Shard(source.rows(apart), all_weights[apart]) if apart.size else None
        return cls(blocks, weights, unit, far_shard, coordinates)

    def accumulate(
        self, mixture: Mixture, projection: Projection, pieces: list[Piece], n_jobs: int = 1
    ) -> tuple[Statistics, list[Float32s]]:
        """The E-step over candidates, and for each piece the mass of each candidate in its block, in frames."""
        n_features = self.blocks.shape[1]
        sums, log2_likelihood, masses = np.zeros(projection.exact.shape), 0.0, []
        with one_blas_thread():
            parts = shard_map(partial(self._accumulate_piece, projection), pieces, n_jobs)
            for piece, (part_sums, part_likelihood, part_masses) in zip(pieces, parts, strict=True):
                sums[piece.components] += part_sums
                log2_likelihood += part_likelihood
                masses.append(part_masses)
        n_frames = float(self.weights.sum())
        statistics = Statistics(
            zeroth=np.ascontiguousarray(sums[:, -1]),
            first=np.ascontiguousarray(sums[:, :n_features]),
            second=np.ascontiguousarray(sums[:, n_features:-1]),
            log_likelihood=log2_likelihood * LOG_2 - n_frames * self.coordinates.log_volume,
            n_frames=n_frames,
            coordinates=self.coordinates,
        ).scaled(self.unit)
        if self.far is not None:
            statistics = statistics + accumulate(mixture, ArraySource(*self.far), self.coordinates, n_jobs)
        return statistics, masses

    def _accumulate_piece(self, projection: Projection, piece: Piece) -> tuple[Float64s, float, Float32s]:
        exact = projection.exact[piece.components]
        sums, masses = np.zeros(exact.shape), np.empty(len(piece.members), np.float32)
        log2_likelihood = kernels.accumulate_candidates(
            self.blocks[piece.blocks],
            self.weights[piece.blocks],
            piece.offsets,
            piece.members,
            projection.matrix[piece.components],
            np.isin(piece.components, projection.sharp),
            exact,
            masses,
            sums,
        )
        return sums, log2_likelihood, masses

    def sample_masses(self, projection: Projection, step: int, first: int, n_jobs: int = 1) -> Float32s:
        """The mass of every component in each block, (n_blocks, n_components), estimated from a sample of its frames.

        In float32 throughout, which is enough to choose candidates. Frames `first`, `first + step`, … of each block are
        in the sample; `step` must divide `BLOCK`.
        """
        masses = np.empty((len(self.blocks), len(projection.exact)), np.float32)
        matrix = np.maximum(projection.exact, LOG2_OF_NOTHING).astype(np.float32)

        def sample(rows: slice) -> None:
            kernels.sample_masses(self.blocks[rows], self.weights[rows], matrix, step, first, masses[rows])

        with one_blas_thread():
            for _ in shard_map(sample, _slices(len(self.blocks)), n_jobs):
                pass
        return masses


def _map_temporary(folder: str | Path, shape: tuple[int, ...]) -> Float32s:
    """An array of zeros in a file that is gone when the array is."""
    with tempfile.TemporaryFile(dir=folder) as file:
        if hasattr(os, "posix_fallocate"):  # a full disk is an error now, not a crash later
            os.posix_fallocate(file.fileno(), 0, 4 * math.prod(shape))
        return np.memmap(file, np.float32, "w+", shape=shape)


def _slices(n_blocks: int) -> list[slice]:
    return [slice(first, first + PIECE) for first in range(0, n_blocks, PIECE)]


def _sort_keys(
    source: FrameSource, mixture: Mixture, coordinates: Coordinates, n_jobs: int
) -> tuple[NDArray[np.int64], Chosen]:
    """A number for each frame, close for frames that lie together, and which frames are far."""
    means = coordinates.apply(mixture.means)
    precisions = np.square(coordinates.scale) / mixture.covariances.mean(axis=0)
    matrix = np.zeros((len(means), means.shape[1] + 2), np.float32)
    matrix[:, :-2], matrix[:, -1] = means * precisions, -0.5 * np.square(means) @ precisions
    rank = _chain(means * np.sqrt(precisions))

    def find(shard: Shard) -> tuple[NDArray[np.int64], Chosen]:
        frames = np.ascontiguousarray(shard.frames)
        nearest, far = np.zeros((2, len(frames)), np.int32), np.zeros(len(frames), np.bool_)
        kernels.nearest_two(frames, *coordinates.in_precision(frames.dtype), matrix, nearest, far)
        return rank[nearest[0]] * len(means) + rank[nearest[1]], far

    with one_blas_thread():
        parts = list(shard_map(find, source.shards(), n_jobs))
    return np.concatenate([keys for keys, _ in parts]), np.concatenate([far for _, far in parts])


def _chain(points: Float64s) -> NDArray[np.int64]:
    """The place of each point in a chain in which neighbours are near: each is followed by the nearest one left."""
    norms = np.square(points).sum(axis=1)
    distances = norms[:, None] - 2.0 * points @ points.T + norms
    rank, point = np.zeros(len(points), np.int64), 0
    for place in range(1, len(points)):
        distances[:, point] = np.inf
        point = int(np.argmin(distances[point]))
        rank[point] = place
    return rank


def _copy(
    source: FrameSource, coordinates: Coordinates, places: NDArray[np.int64], blocks: Float32s, n_jobs: int
) -> None:
    """Write each frame into its place among the blocks."""
    rows = blocks.reshape(-1, source.n_features)

    def place(numbered: tuple[int, Shard]) -> None:
        number, shard = numbered
        frames = np.ascontiguousarray(shard.frames)
        own = places[number * SHARD : number * SHARD + len(frames)]
        kernels.place(frames, *coordinates.in_precision(frames.dtype), own, rows)

    for _ in shard_map(place, enumerate(source.shards()), n_jobs):
        pass
    for _ in shard_map(lambda part: kernels.turn(blocks[part]), _slices(len(blocks)), n_jobs):
        pass
