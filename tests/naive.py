"""Slow twins of the fast code, in plain loops and double precision, and real frames to compare them on.

They follow the equations as a textbook writes them and share nothing with the package.
"""

import math
from functools import cache

import numpy as np


def log_densities(mixture, frames):
    """Log of weight times density of each frame under each component, (n_frames, n_components)."""
    weights, means, covariances = _lists(mixture)
    result = []
    for frame in np.asarray(frames, np.float64).tolist():
        row = []
        for weight, mean, variances in zip(weights, means, covariances, strict=True):
            value = math.log(weight) if weight > 0 else -math.inf
            for x, m, v in zip(frame, mean, variances, strict=True):
                value -= 0.5 * (math.log(2 * math.pi * v) + (x - m) ** 2 / v)
            row.append(value)
        result.append(row)
    return np.array(result)


def log_likelihoods(mixture, frames):
    """Log-likelihood of each frame."""
    return np.array([_log_sum_exp(row) for row in log_densities(mixture, frames).tolist()])


def mean_log_likelihood(mixture, frames):
    """Log-likelihood per frame."""
    return math.fsum(log_likelihoods(mixture, frames)) / len(frames)


def posteriors(mixture, frames):
    """Probability of each component given each frame, (n_frames, n_components)."""
    result = []
    for row in log_densities(mixture, frames).tolist():
        total = _log_sum_exp(row)
        result.append([math.exp(value - total) for value in row])
    return np.array(result)


def statistics(mixture, frames, origin, scale):
    """Σγ, Σγx, Σγx² and Σγ|x| with x = (frame - origin) / scale, and the sum of the log-likelihoods.

    Σγ|x| is what the errors of Σγx are measured against: terms of both signs may cancel.
    """
    n_features = len(origin)
    n_components = len(mixture.weights)
    zeroth = [0.0] * n_components
    first, second, absolute = ([[0.0] * n_features for _ in range(n_components)] for _ in range(3))
    gammas = posteriors(mixture, frames).tolist()
    for frame, gamma in zip(np.asarray(frames, np.float64).tolist(), gammas, strict=True):
        values = [(x - o) / s for x, o, s in zip(frame, origin.tolist(), scale.tolist(), strict=True)]
        for k in range(n_components):
            zeroth[k] += gamma[k]
            for j, x in enumerate(values):
                first[k][j] += gamma[k] * x
                second[k][j] += gamma[k] * x * x
                absolute[k][j] += gamma[k] * abs(x)
    total = math.fsum(log_likelihoods(mixture, frames))
    return np.array(zeroth), np.array(first), np.array(second), np.array(absolute), total


def em_step(mixture, frames, variance_floor):
    """One E-step and M-step: weights, means and variances, the variances around the new means.

    `variance_floor` is the least variance of each dimension, (n_features,).
    """
    gammas = posteriors(mixture, frames).tolist()
    rows = np.asarray(frames, np.float64).tolist()
    weights, means, covariances = [], [], []
    for k in range(len(mixture.weights)):
        gamma = [row[k] for row in gammas]
        mass = math.fsum(gamma)
        mean, variances = [], []
        for j, floor in enumerate(variance_floor):
            m = math.fsum(g * row[j] for g, row in zip(gamma, rows, strict=True)) / mass
            v = math.fsum(g * (row[j] - m) ** 2 for g, row in zip(gamma, rows, strict=True)) / mass
            mean.append(m)
            variances.append(max(v, float(floor)))
        weights.append(mass / len(rows))
        means.append(mean)
        covariances.append(variances)
    return np.array(weights), np.array(means), np.array(covariances)


def nearest(frames, centres):
    """The number of the nearest centre of each frame, and the sum of the squared distances."""
    labels, error = [], 0.0
    for frame in np.asarray(frames, np.float64).tolist():
        distances = [
            sum((x - c) ** 2 for x, c in zip(frame, centre, strict=True))
            for centre in np.asarray(centres, np.float64).tolist()
        ]
        labels.append(distances.index(min(distances)))
        error += min(distances)
    return np.array(labels), error


@cache
def real_frames(folder, delta_orders=2):
    """Raw MFCCs of two speakers' digits, two takes each: float32, not normalised, C0 far from zero."""
    from speechgmm.audio import read_audio
    from speechgmm.features.config import FeatureConfig
    from speechgmm.features.extract import FeatureExtractor

    extractor = FeatureExtractor(FeatureConfig(sample_rate=8000, delta_orders=delta_orders))
    names = [
        f"{digit}_{speaker}_{take}.wav"
        for speaker in ("jackson", "theo")
        for digit in range(10)
        for take in (5, 6)
    ]
    frames = np.concatenate(
        [extractor.from_samples(read_audio(folder / "fsdd" / "recordings" / name)[0]) for name in names]
    )
    frames.setflags(write=False)
    return frames


def _lists(mixture):
    return mixture.weights.tolist(), mixture.means.tolist(), mixture.covariances.tolist()


def _log_sum_exp(row):
    peak = max(row)
    return peak + math.log(math.fsum(math.exp(value - peak) for value in row))
