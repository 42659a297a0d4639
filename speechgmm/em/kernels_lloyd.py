"""Compiled inner loops of k-means: no checks, the interpreter lock released.

Points come as blocks of 512, the last one filled up with points of weight 0. As in `speechgmm.em.kernels`, products
have them side by side, (n_centres, BLOCK), so that every loop runs over many points at once, however few centres
there are.
"""

import numpy as np
from numba import types

from speechgmm.compiled import MATRIX32, MATRIX64, compiled
from speechgmm.em.terms import BLOCK

# Rounding leaves a copy of a centre at a squared distance of up to so much of its squared norm.
SAME = np.float32(1e-6)
# Sums side by side: one sum would wait for each of its additions.
LANES = 16

BLOCKS32, BLOCKS64 = types.float32[:, :, ::1], types.float64[:, :, ::1]


@compiled(
    types.float64(BLOCKS32, BLOCKS32, MATRIX64, MATRIX32, types.int32[:, ::1], MATRIX32, MATRIX64),
)
def assign(rows, turned, weights, centres, labels, affinities, sums):  # type: ignore[no-untyped-def]
    """Give each point to its nearest centre; return the weighted sum of the affinities.

    Parameters
    ----------
    rows : (n_blocks, BLOCK, n_features) float32
    turned : (n_blocks, n_features, BLOCK) float32
        The same points once more, side by side.
    weights : (n_blocks, BLOCK) float64
    centres : (n_centres, n_features) float32
    labels : (n_blocks, BLOCK) int32
        Gets the number of the nearest centre, the first of several.
    affinities : (n_blocks, BLOCK) float32
        Gets x·c - |c|²/2, which is largest for the nearest centre.
    sums : (n_centres, n_features + 1) float64
        The sum of weight times [x, 1] over the points of each centre is added to it.
    """
    n_centres, n_features = centres.shape
    half_norms = np.empty(n_centres, np.float32)
    for k in range(n_centres):
        norm = 0.0
        for j in range(n_features):
            norm += np.float64(centres[k, j]) * np.float64(centres[k, j])
        half_norms[k] = 0.5 * norm
    products = np.empty((n_centres, BLOCK), np.float32)
    total = 0.0
    for block in range(rows.shape[0]):
        best, label = affinities[block], labels[block]
        np.dot(centres, turned[block], products)
        best[:] = products[0] - half_norms[0]
        label[:] = 0
        for k in range(1, n_centres):
            row, half_norm = products[k], half_norms[k]
            for i in range(BLOCK):
                affinity = row[i] - half_norm
                better = affinity > best[i]
                best[i] = affinity if better else best[i]
                label[i] = np.int32(k) if better else label[i]
        for i in range(BLOCK):
            weight, point, target = weights[block, i], rows[block, i], sums[label[i]]
            total += weight * best[i]
            for j in range(n_features):
                target[j] += weight * point[j]
            target[n_features] += weight
    return total


@compiled(
    types.void(
        *(BLOCKS32, MATRIX32, MATRIX64, MATRIX32, types.float32[::1], MATRIX32, BLOCKS32, MATRIX64),
    )
)
def try_centres(  # type: ignore[no-untyped-def]
    turned, norms, weights, candidates, candidate_norms, nearest, distances, masses
):
    """What would be the squared distance of every point to its nearest centre, were a candidate one too.

    Parameters
    ----------
    turned : (n_blocks, n_features, BLOCK) float32
    norms : (n_blocks, BLOCK) float32
        Squared.
    weights : (n_blocks, BLOCK) float64
    candidates : (n_candidates, n_features) float32
    candidate_norms : (n_candidates,) float32
    nearest : (n_blocks, BLOCK) float32
        Squared distances to the centres there are.
    distances : (n_candidates, n_blocks, BLOCK) float32
        Gets the squared distances; what cannot be told from zero is zero.
    masses : (n_candidates, n_blocks) float64
        Gets the sum of weight times squared distance over each block of points.
    """
    products, lanes = np.empty((candidates.shape[0], BLOCK), np.float32), np.empty(LANES)
    for block in range(turned.shape[0]):
        np.dot(candidates, turned[block], products)
        own_norms, least, weight = norms[block], nearest[block], weights[block]
        for c in range(candidates.shape[0]):
            product, target, candidate_norm = products[c], distances[c, block], candidate_norms[c]
            for i in range(BLOCK):
                distance = own_norms[i] - np.float32(2.0) * product[i] + candidate_norm
                distance = min(distance, least[i])
                target[i] = distance if distance > SAME * own_norms[i] else np.float32(0.0)
            lanes[:] = 0.0
            for start in range(0, BLOCK, LANES):
                for i in range(LANES):
                    lanes[i] += weight[start + i] * target[start + i]
            masses[c, block] = lanes.sum()
