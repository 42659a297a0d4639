"""Slow twins of the transforms' statistics and objectives, in plain loops and double precision.

They follow the equations as the papers write them and share nothing with the package.
"""

import math

import numpy as np

from tests import naive


def spliced(frames, left, right):
    """Each frame between its neighbours, the ends repeated."""
    frames = [list(frame) for frame in frames]
    result = []
    for number in range(len(frames)):
        row = []
        for neighbour in range(number - left, number + right + 1):
            row += frames[min(max(neighbour, 0), len(frames) - 1)]
        result.append(row)
    return np.array(result)


def scatters(frames, labels):
    """Covariance within classes and covariance of their means, of all frames (divided by their number)."""
    mean = sum(np.asarray(frame, np.float64) for frame in frames) / len(frames)
    within, between = np.zeros((len(mean), len(mean))), np.zeros((len(mean), len(mean)))
    for label in sorted(set(labels)):
        own = [
            np.asarray(frame, np.float64) for frame, one in zip(frames, labels, strict=True) if one == label
        ]
        centre = sum(own) / len(own)
        for frame in own:
            within += np.outer(frame - centre, frame - centre)
            between += np.outer(centre - mean, centre - mean)
    return within / len(frames), between / len(frames)


def mllt_statistics(mixtures, frames, pdfs, rows, weights):
    """Counts and scatter matrices about the means, the components of all mixtures one after the other."""
    counts, matrices = [], []
    for mixture in mixtures:
        for _ in mixture.weights:
            counts.append(0.0)
            matrices.append(np.zeros((mixture.means.shape[1],) * 2))
    for pdf, row, weight in zip(pdfs, rows, weights, strict=True):
        before = sum(len(mixture.weights) for mixture in mixtures[:pdf])
        gammas = naive.posteriors(mixtures[pdf], frames[row : row + 1])[0]
        for component, gamma in enumerate(gammas):
            away = np.asarray(frames[row], np.float64) - mixtures[pdf].means[component]
            counts[before + component] += weight * gamma
            matrices[before + component] += weight * gamma * np.outer(away, away)
    return np.array(counts), np.array(matrices)


def fmllr_statistics(mixtures, frames, pdfs, rows, weights, seen=None):
    """Gales' β, k and G with ξ = [x, 1]; `seen`: the frames that posteriors are of, where others."""
    n_features = len(frames[0])
    count = 0.0
    linear = np.zeros((n_features, n_features + 1))
    quadratic = np.zeros((n_features, n_features + 1, n_features + 1))
    seen = frames if seen is None else seen
    for pdf, row, weight in zip(pdfs, rows, weights, strict=True):
        mixture = mixtures[pdf]
        extended = np.append(np.asarray(frames[row], np.float64), 1.0)
        for component, gamma in enumerate(naive.posteriors(mixture, seen[row : row + 1])[0]):
            count += weight * gamma
            for i in range(n_features):
                share = weight * gamma / mixture.covariances[component, i]
                linear[i] += share * mixture.means[component, i] * extended
                quadratic[i] += share * np.outer(extended, extended)
    return count, linear, quadratic


def transformed_log_likelihood(mixtures, frames, pdfs, rows, weights, matrix, offset, seen=None):
    """Sum over entries and components of posterior times log-density of the transformed frame, with its Jacobian.

    Posteriors are those of `seen`, by default the frames before the transform.
    """
    total = 0.0
    log_determinant = math.log(abs(np.linalg.det(matrix)))
    seen = frames if seen is None else seen
    for pdf, row, weight in zip(pdfs, rows, weights, strict=True):
        mixture = mixtures[pdf]
        moved = matrix @ np.asarray(frames[row], np.float64) + offset
        for component, gamma in enumerate(naive.posteriors(mixture, seen[row : row + 1])[0]):
            value = log_determinant
            for i, x in enumerate(moved):
                variance = mixture.covariances[component, i]
                away = x - mixture.means[component, i]
                value -= 0.5 * (math.log(2 * math.pi * variance) + away * away / variance)
            total += weight * gamma * value
    return total


def semi_tied_objective(matrix, counts, covariances):
    """Log-likelihood a frame, less a constant, of components with the best variances after the matrix."""
    total = 0.0
    for count, covariance in zip(counts, covariances, strict=True):
        value = math.log(abs(np.linalg.det(matrix)))
        for row in matrix:
            value -= 0.5 * math.log(row @ covariance @ row)
        total += count * value
    return total / sum(counts)
