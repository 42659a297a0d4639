"""Slow twins of the fast code, in plain loops and double precision, and frames to compare them on.

They follow the equations as a textbook writes them and share nothing with the package. A mixture is anything with
weights, means, covariances and a covariance_type ("diag" where it has none).
"""

import math
from functools import cache

import numpy as np

COVARIANCE_TYPES = ("diag", "full", "tied", "spherical")


def log_densities(mixture, frames):
    """Log of weight times density of each frame under each component, (n_frames, n_components)."""
    weights, means = mixture.weights.tolist(), mixture.means.tolist()
    factors = [cholesky(matrix) for matrix in matrices_of(mixture)]
    result = []
    for frame in np.asarray(frames, np.float64).tolist():
        row = []
        for weight, mean, factor in zip(weights, means, factors, strict=True):
            value = math.log(weight) if weight > 0 else -math.inf
            whitened = solve_lower(factor, [x - m for x, m in zip(frame, mean, strict=True)])
            for i, z in enumerate(whitened):
                value -= 0.5 * (math.log(2 * math.pi) + z * z) + math.log(factor[i][i])
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


def statistics(mixture, frames, origin, scale, transform=None, frame_weights=None):
    """Σγ, Σγx, second moments and Σγ|x| with x = (frame - origin) / scale @ transform, and the log-likelihood.

    Second moments are Σγx² (diag), Σγxx' (full), Σxx' (tied) or Σγ|x|² (spherical). Σγ|x| is what the errors of Σγx
    are measured against: terms of both signs may cancel.
    """
    n_features, n_components = len(origin), len(mixture.weights)
    kind = _type_of(mixture)
    zeroth = [0.0] * n_components
    first, absolute = ([[0.0] * n_features for _ in range(n_components)] for _ in range(2))
    products = [[[0.0] * n_features for _ in range(n_features)] for _ in range(n_components)]
    turn = (np.eye(n_features) if transform is None else np.asarray(transform)).tolist()
    counts = [1.0] * len(frames) if frame_weights is None else np.asarray(frame_weights).tolist()
    gammas = posteriors(mixture, frames).tolist()
    for frame, gamma, count in zip(np.asarray(frames, np.float64).tolist(), gammas, counts, strict=True):
        scaled = [(x - o) / s for x, o, s in zip(frame, origin.tolist(), scale.tolist(), strict=True)]
        values = [sum(scaled[i] * turn[i][j] for i in range(n_features)) for j in range(n_features)]
        for k in range(n_components):
            share = count * gamma[k]
            zeroth[k] += share
            for i, x in enumerate(values):
                first[k][i] += share * x
                absolute[k][i] += share * abs(x)
                for j in range(n_features) if kind in ("full", "tied") else [i]:
                    products[k][i][j] += share * x * values[j]
    total = math.fsum(
        c * value for c, value in zip(counts, log_likelihoods(mixture, frames).tolist(), strict=True)
    )
    matrices = np.array(products)
    second = {
        "diag": matrices.diagonal(axis1=1, axis2=2).copy(),
        "full": matrices,
        "tied": matrices.sum(axis=0),
        "spherical": matrices.trace(axis1=1, axis2=2),
    }[kind]
    return np.array(zeroth), np.array(first), second, np.array(absolute), total


def em_step(mixture, frames, variance_floor, frame_weights=None):
    """One E-step and M-step: weights, means and covariances around the new means.

    `variance_floor` is the least variance of each dimension, (n_features,); "spherical" takes its mean.
    """
    gammas, kind = posteriors(mixture, frames).tolist(), _type_of(mixture)
    counts = [1.0] * len(frames) if frame_weights is None else np.asarray(frame_weights).tolist()
    rows = np.asarray(frames, np.float64).tolist()
    masses, means, scatters = [], [], []
    for k in range(len(mixture.weights)):
        gamma = [count * row[k] for count, row in zip(counts, gammas, strict=True)]
        masses.append(math.fsum(gamma))
        means.append(
            [
                math.fsum(g * row[j] for g, row in zip(gamma, rows, strict=True)) / masses[-1]
                for j in _range(rows)
            ]
        )
        scatters.append(
            [[_scatter(gamma, rows, means[-1], i, j, kind) for j in _range(rows)] for i in _range(rows)]
        )
    floors = [float(value) for value in variance_floor]
    covariances = _covariances(kind, masses, scatters, floors)
    total = math.fsum(counts)
    return np.array([mass / total for mass in masses]), np.array(means), np.array(covariances)


def _scatter(gamma, rows, mean, i, j, kind):
    if i != j and kind in ("diag", "spherical"):
        return 0.0
    return math.fsum(g * (row[i] - mean[i]) * (row[j] - mean[j]) for g, row in zip(gamma, rows, strict=True))


def _covariances(kind, masses, scatters, floors):
    """The constrained maximum from weighted scatters around each mean, in the shape of the kind."""
    dimensions = range(len(floors))
    if kind == "tied":
        total = math.fsum(masses)
        pooled = [[math.fsum(s[i][j] for s in scatters) / total for j in dimensions] for i in dimensions]
        return floored(pooled, floors)
    result = []
    for mass, scatter in zip(masses, scatters, strict=True):
        variances = [scatter[j][j] / mass for j in dimensions]
        if kind == "spherical":
            result.append(max(sum(variances) / len(floors), sum(floors) / len(floors)))
        elif kind == "diag":
            result.append([max(v, floor) for v, floor in zip(variances, floors, strict=True)])
        else:
            result.append(floored([[value / mass for value in row] for row in scatter], floors))
    return result


def floored(matrix, floors):
    """A covariance matrix, in no direction less than a diagonal one: eigenvalues in units of the floor, at least 1."""
    dimensions = range(len(floors))
    if min(floors) <= 0:
        return matrix
    units = [math.sqrt(floor) for floor in floors]
    values, vectors = jacobi([[matrix[i][j] / units[i] / units[j] for j in dimensions] for i in dimensions])
    values = [max(value, 1.0) for value in values]
    return [
        [
            units[i] * units[j] * sum(values[d] * vectors[i][d] * vectors[j][d] for d in dimensions)
            for j in dimensions
        ]
        for i in dimensions
    ]


def adapted(prior, frames, relevance_factor, parts):
    """Weights, means and covariances after relevance MAP (Reynolds, Quatieri, Dunn 2000, eq. 11-14), in raw moments.

    Variances without means, for which there is no such equation, are second moments about the prior's means.
    """
    gammas, kind = posteriors(prior, frames).tolist(), _type_of(prior)
    rows = np.asarray(frames, np.float64).tolist()
    dimensions = _range(rows)
    new_weights, new_means, new_matrices = [], [], []
    for k, matrix in enumerate(matrices_of(prior)):
        gamma, mean = [row[k] for row in gammas], prior.means[k].tolist()
        mass = math.fsum(gamma)
        alpha = mass / (mass + relevance_factor) if mass > 0 else 0.0
        expected = [math.fsum(g * x[i] for g, x in zip(gamma, rows, strict=True)) / mass for i in dimensions]
        new_weights.append(alpha * mass / len(rows) + (1 - alpha) * float(prior.weights[k]))
        new_means.append([alpha * expected[i] + (1 - alpha) * mean[i] for i in dimensions])
        centre = new_means[-1] if "means" in parts else mean
        new_matrices.append([[0.0] * len(mean) for _ in mean])
        for i, j in [(i, j) for i in dimensions for j in dimensions]:
            if "means" in parts:
                product = math.fsum(g * x[i] * x[j] for g, x in zip(gamma, rows, strict=True)) / mass
                value = alpha * product + (1 - alpha) * (matrix[i][j] + mean[i] * mean[j])
                value -= centre[i] * centre[j]
            else:
                about = _scatter(gamma, rows, mean, i, j, "full") / mass
                value = alpha * about + (1 - alpha) * matrix[i][j]
            new_matrices[-1][i][j] = value
    matrices = np.array(new_matrices)
    shaped = {
        "diag": matrices.diagonal(axis1=1, axis2=2),
        "full": matrices,
        "spherical": matrices.trace(axis1=1, axis2=2) / len(dimensions),
    }
    return (
        np.array(new_weights) / math.fsum(new_weights) if "weights" in parts else prior.weights,
        np.array(new_means) if "means" in parts else prior.means,
        shaped[kind] if "variances" in parts else prior.covariances,
    )


def top_llrs(ubm, model, frames, top):
    """Log-likelihood ratio of each frame, the model's components counting where they are among the ubm's `top` best.

    The log of the sum over those of posterior times ratio of weighted densities, and of the posterior of all others.
    Of equals the first is better.
    """
    result = []
    for of_ubm, of_model in zip(
        log_densities(ubm, frames).tolist(), log_densities(model, frames).tolist(), strict=True
    ):
        best = sorted(range(len(of_ubm)), key=lambda k: (-of_ubm[k], k))[:top]
        touched = [of_model[k] for k in best if of_ubm[k] > -math.inf]
        others = [of_ubm[k] for k in range(len(of_ubm)) if k not in best]
        result.append(_log_sum_exp(touched + others) - _log_sum_exp(of_ubm))
    return np.array(result)


def linear_llr(ubm, model, frames, top):
    """Σγ (m' - m)' S⁻¹ (x - m) per frame, over the `top` best of variances S (Glembek et al. 2009)."""
    rows, total = np.asarray(frames, np.float64).tolist(), 0.0
    for frame, of_ubm, gamma in zip(
        rows, log_densities(ubm, frames).tolist(), posteriors(ubm, frames).tolist(), strict=True
    ):
        for k in sorted(range(len(of_ubm)), key=lambda k: (-of_ubm[k], k))[:top]:
            mean, other, variances = ubm.means[k].tolist(), model.means[k].tolist(), ubm.variances[k].tolist()
            for x, m, o, v in zip(frame, mean, other, variances, strict=True):
                total += gamma[k] * (o - m) / v * (x - m)
    return total / len(rows)


def matrices_of(mixture):
    """The whole covariance matrix of each component, as lists."""
    kind, n_features = _type_of(mixture), len(mixture.means[0])
    result = []
    for k in range(len(mixture.weights)):
        if kind in ("full", "tied"):
            result.append((mixture.covariances if kind == "tied" else mixture.covariances[k]).tolist())
        else:
            of_one = mixture.covariances[k].tolist()
            variances = [of_one] * n_features if kind == "spherical" else of_one
            result.append(
                [[v if i == j else 0.0 for j in range(n_features)] for i, v in enumerate(variances)]
            )
    return result


def cholesky(matrix):
    """The lower triangular L with L L' = matrix (Golub, Van Loan: Matrix Computations, 4.2)."""
    size = len(matrix)
    factor = [[0.0] * size for _ in range(size)]
    for i in range(size):
        for j in range(i + 1):
            rest = matrix[i][j] - sum(factor[i][n] * factor[j][n] for n in range(j))
            factor[i][j] = math.sqrt(rest) if i == j else rest / factor[j][j]
    return factor


def solve_lower(factor, values):
    """The z with `factor` z = values, by forward substitution."""
    result = []
    for i, value in enumerate(values):
        result.append((value - sum(factor[i][n] * result[n] for n in range(i))) / factor[i][i])
    return result


def jacobi(matrix):
    """Eigenvalues of a symmetric matrix and their vectors in columns, by Jacobi's rotations."""
    size = len(matrix)
    a = [list(row) for row in matrix]
    vectors = [[float(i == j) for j in range(size)] for i in range(size)]
    for _ in range(50):
        for p in range(size):
            for q in range(p + 1, size):
                angle = 0.5 * math.atan2(2 * a[p][q], a[q][q] - a[p][p])
                c, s = math.cos(angle), math.sin(angle)
                for row in (*a, *vectors):
                    row[p], row[q] = c * row[p] - s * row[q], s * row[p] + c * row[q]
                a[p], a[q] = (
                    [c * x - s * y for x, y in zip(a[p], a[q], strict=True)],
                    [s * x + c * y for x, y in zip(a[p], a[q], strict=True)],
                )
    return [a[i][i] for i in range(size)], vectors


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


def random_parts(seed=0, covariance_type="diag", n_components=4, n_features=5, spread=2.0):
    """Weights, means and covariances of some mixture, with deviations from 0.5 to 2."""
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.full(n_components, 5.0))
    means = spread * rng.standard_normal((n_components, n_features))
    variances = np.exp(rng.uniform(-1.4, 1.4, (n_components, n_features)))
    if covariance_type == "diag":
        return weights, means, variances
    if covariance_type == "spherical":
        return weights, means, variances[:, 0]
    turns = np.linalg.qr(rng.standard_normal((n_components, n_features, n_features)))[0]
    matrices = np.einsum("kij,kj,klj->kil", turns, variances, turns)
    matrices = 0.5 * (matrices + matrices.transpose(0, 2, 1))
    return weights, means, matrices if covariance_type == "full" else matrices[0]


def peer_of(mixture):
    """The same mixture as scikit-learn's, with `_e_step` and `_m_step` to call; it adds nothing to covariances."""
    from sklearn.mixture import GaussianMixture
    from sklearn.mixture._gaussian_mixture import _compute_precision_cholesky

    kind = _type_of(mixture)
    peer = GaussianMixture(len(mixture.weights), covariance_type=kind, reg_covar=0.0)
    peer.weights_, peer.means_ = mixture.weights.copy(), mixture.means.copy()
    peer.covariances_ = mixture.covariances.copy()
    peer.precisions_cholesky_ = _compute_precision_cholesky(peer.covariances_, kind)
    return peer


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


def _range(rows):
    return range(len(rows[0]))


def _type_of(mixture):
    return getattr(mixture, "covariance_type", "diag")


def _log_sum_exp(row):
    peak = max(row)
    return peak + math.log(math.fsum(math.exp(value - peak) for value in row))
