"""k-means: where centres are seeded, and how they are moved to the middle of their points."""

from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from speechgmm.em import kernels_lloyd
from speechgmm.em.coordinates import Float32s, Float64s
from speechgmm.em.sources import SHARD
from speechgmm.em.terms import BLOCK
from speechgmm.parallel import shard_map

# Iterations stop when the error falls by less than this fraction of itself.
SETTLED = 1e-4

Int32s = NDArray[np.int32]
Numbers = NDArray[np.intp]


class Points(NamedTuple):
    """Points in blocks, the last one filled up with points of weight 0.

    Parameters
    ----------
    rows : (n_blocks, BLOCK, n_features)
    turned : (n_blocks, n_features, BLOCK)
        The same, side by side.
    weights : (n_blocks, BLOCK)
    norms : (n_blocks, BLOCK)
        Squared.
    """

    rows: Float32s
    turned: Float32s
    weights: Float64s
    norms: Float32s

    @classmethod
    def of(cls, rows: Float32s, weights: Float64s) -> "Points":
        """Points of which there is a whole number of blocks, (n_points, n_features)."""
        blocks = rows.reshape(-1, BLOCK, rows.shape[1])
        turned = np.ascontiguousarray(blocks.transpose(0, 2, 1))
        norms = np.einsum("bij,bij->bi", blocks, blocks)
        return cls(blocks, turned, weights.reshape(-1, BLOCK), norms)

    def blocks(self, start: int, stop: int) -> "Points":
        """Some blocks of them."""
        part = slice(start, stop)
        return Points(self.rows[part], self.turned[part], self.weights[part], self.norms[part])

    def chosen(self, numbers: Numbers) -> Float32s:
        """Some points, (n_points, n_features)."""
        rows: Float32s = self.rows.reshape(-1, self.rows.shape[2])[numbers]
        return rows


def plus_plus(points: Points, n_centres: int, rng: np.random.Generator) -> Float32s:
    """k-means++ seeding: each new centre is the best of a few drawn in proportion to squared distance.

    Fewer come back where all other points are copies of them.
    """
    n_trials = 2 + int(np.log(n_centres))
    nearest = np.full(points.norms.shape, np.finfo(np.float32).max)
    distances = np.empty((n_trials, *nearest.shape), np.float32)
    masses = np.empty((n_trials, len(nearest)))
    first = _draw(points.weights, np.ones_like(nearest), points.weights.sum(axis=1), rng.random((2, 1)))
    chosen: list[Float32s] = []
    candidates = points.chosen(first)
    while True:
        n = len(candidates)
        norms = np.einsum("ij,ij->i", candidates, candidates)
        kernels_lloyd.try_centres(
            points.turned, points.norms, points.weights, candidates, norms, nearest, distances[:n], masses[:n]
        )
        best = int(np.argmin(masses[:n].sum(axis=1)))
        chosen.append(candidates[best])
        if len(chosen) == n_centres or masses[best].sum() <= 0:
            return np.array(chosen)
        nearest[...] = distances[best]
        drawn = _draw(points.weights, nearest, masses[best], rng.random((2, n_trials)))
        candidates = points.chosen(drawn)


def _draw(weights: Float64s, distances: Float32s, sums: Float64s, uniform: Float64s) -> Numbers:
    """Numbers of points drawn in proportion to weight times distance, which sum to `sums` in each block.

    First a block, then a point in it: no sum over all points. `uniform` (2, n_draws) are numbers in [0, 1).
    """
    bounds = np.cumsum(sums)
    blocks = np.searchsorted(bounds, uniform[0] * bounds[-1], side="right")
    within = np.cumsum(weights[blocks] * distances[blocks], axis=1)
    targets = uniform[1] * within[:, -1]
    return np.asarray(blocks * BLOCK + (within <= targets[:, None]).sum(axis=1), np.intp)


def lloyd(points: Points, centres: Float32s, max_iterations: int, n_jobs: int = 1) -> Int32s:
    """Move centres to the means of their points until the error settles.

    Returns
    -------
    (n_points,) int32
        The centre of each point.
    """
    step = SHARD // BLOCK
    shards = [points.blocks(start, start + step) for start in range(0, len(points.rows), step)]
    total_norm = float((points.weights * points.norms).sum())
    previous = np.inf
    for _ in range(max(1, max_iterations)):
        parts = list(shard_map(partial(_assign, centres), shards, n_jobs))
        sums = np.sum([part.sums for part in parts], axis=0)
        error = total_norm - 2 * sum(part.affinity for part in parts)
        occupied = sums[:, -1] > 0
        centres = centres.copy()
        centres[occupied] = sums[occupied, :-1] / sums[occupied, -1:]
        if not occupied.all():
            affinities = np.concatenate([part.affinities for part in parts])
            centres[~occupied] = _farthest(points, affinities, int((~occupied).sum()))
        elif previous - error <= SETTLED * max(error, 0.0):
            break
        previous = error
    return np.concatenate([part.labels for part in parts]).ravel()


class _Assigned(NamedTuple):
    """What `kernels_lloyd.assign` found in a shard."""

    labels: Int32s
    affinities: Float32s
    sums: Float64s
    affinity: float


def _assign(centres: Float32s, shard: Points) -> _Assigned:
    labels, affinities = np.empty(shard.norms.shape, np.int32), np.empty_like(shard.norms)
    sums = np.zeros((len(centres), centres.shape[1] + 1))
    affinity = kernels_lloyd.assign(
        shard.rows, shard.turned, shard.weights, centres, labels, affinities, sums
    )
    return _Assigned(labels, affinities, sums, affinity)


def _farthest(points: Points, affinities: Float32s, n_points: int) -> Float32s:
    """Points farthest from their centres, for centres that have lost theirs."""
    distances = np.where(points.weights > 0, points.norms - 2 * affinities, -np.inf).ravel()
    return points.chosen(np.argsort(-distances, kind="stable")[:n_points])
