"""Where EM starts: k-means on a sample of the frames."""

import warnings
from typing import Any

import numpy as np

from speechgmm.em import kernels
from speechgmm.em.coordinates import Coordinates, Float32s, Float64s, reference_variance
from speechgmm.em.fit import absolute_floor, maximise
from speechgmm.em.mixture import BLOCK, Mixture
from speechgmm.em.sources import as_source
from speechgmm.em.statistics import Moments, Statistics, moments
from speechgmm.errors import InputError, SpeechGMMWarning
from speechgmm.parallel import one_blas_thread

# Frames per component that are enough to place centres: EM uses all frames afterwards.
SEEDING_SAMPLE = 64
LLOYD_SAMPLE = 256


def kmeans(
    frames: Any,
    n_components: int,
    *,
    seed: int = 0,
    max_iterations: int = 20,
    variance_floor: Float64s | float = 1e-3,
    n_jobs: int = 1,
) -> Mixture:
    """A mixture with one component for each cluster of k-means.

    Frames are compared in units of each dimension's deviation. Centres are seeded by k-means++ with local
    trials and moved by Lloyd's iterations, both on a random sample of at most 256 frames a component.

    Parameters
    ----------
    frames : (n_frames, n_features) array or FrameSource
    n_components : int >= 1
        Fewer come back, with a warning, where there are fewer distinct frames.
    seed : int
        The same seed gives the same mixture.
    max_iterations : int
        The most Lloyd iterations.
    variance_floor : float or (n_features,)
        As in `speechgmm.em.fit.fit`.

    References
    ----------
    Arthur, Vassilvitskii (2007), k-means++: the advantages of careful seeding, SODA. Lloyd (1982), IEEE
    Trans. Inf. Theory 28.
    """
    if isinstance(n_components, bool) or not isinstance(n_components, int | np.integer) or n_components < 1:
        raise InputError(f"`n_components` is {n_components!r}; it must be a whole number of 1 or more")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise InputError(f"`seed` is {seed!r}; it must be a whole number of 0 or more")
    if max_iterations < 0 or not np.all(np.asarray(variance_floor) >= 0):
        raise InputError(
            f"`max_iterations` {max_iterations} and `variance_floor` {variance_floor} must not be negative"
        )
    source = as_source(frames)
    measured = moments(source, n_jobs)
    coordinates = Coordinates.from_moments(measured.mean, measured.variance)
    rng = np.random.default_rng(seed)
    sample = source.rows(_sample_rows(source.n_frames, LLOYD_SAMPLE * n_components, rng))
    floor = absolute_floor(measured, variance_floor)
    with one_blas_thread():
        expanded = np.empty((len(sample), 2 * source.n_features + 1), np.float32)
        kernels.expand(sample, *coordinates.in_precision(sample.dtype), expanded)
        # Scales of coordinates are powers of two; clusters must not depend on the unit of a feature.
        unit = coordinates.scale / np.sqrt(reference_variance(measured.mean, measured.variance))
        points = expanded[:, : source.n_features] * unit.astype(np.float32)
        centres = _plus_plus(points[: SEEDING_SAMPLE * n_components], n_components, rng)
        sums = _lloyd(points, expanded, centres, unit, max_iterations)
    return maximise(_as_statistics(sums, measured, coordinates), floor)


def _sample_rows(n_frames: int, size: int, rng: np.random.Generator) -> Any:
    """Numbers of a random sample of frames, in random order."""
    return rng.permutation(n_frames)[:size]


def _plus_plus(points: Float32s, n_centres: int, rng: np.random.Generator) -> Float32s:
    """k-means++ seeding: each new centre is the best of a few drawn in proportion to squared distance."""
    norms = np.einsum("ij,ij->i", points, points)
    trials = 2 + int(np.log(n_centres))
    chosen = [int(rng.integers(len(points)))]
    nearest = _squared_distances(points, norms, chosen)[0]
    while len(chosen) < n_centres:
        # Rounding leaves a copy of a centre at a squared distance of up to 1e-6 of its squared norm.
        mass = np.cumsum(np.where(nearest > 1e-6 * norms, nearest, 0.0), dtype=np.float64)
        if mass[-1] <= 0:
            warnings.warn(
                f"{n_centres} components asked for, but only {len(chosen)} distinct frames found: "
                f"{len(chosen)} components are used",
                SpeechGMMWarning,
                stacklevel=3,
            )
            break
        candidates = np.searchsorted(mass, rng.random(trials) * mass[-1], side="right").clip(
            max=len(points) - 1
        )
        distances = np.minimum(nearest, _squared_distances(points, norms, candidates))
        best = int(np.argmin(distances.sum(axis=1, dtype=np.float64)))
        chosen.append(int(candidates[best]))
        nearest = distances[best]
    return points[chosen]


def _squared_distances(points: Float32s, norms: Float32s, rows: Any) -> Float32s:
    """Squared distance of every point to some of them, (n_rows, n_points)."""
    products = points[rows] @ points.T
    result: Float32s = np.maximum(norms[rows][:, None] - 2 * products + norms, 0.0)
    return result


def _lloyd(
    points: Float32s, expanded: Float32s, centres: Float32s, unit: Float64s, max_iterations: int
) -> Float64s:
    """Move centres to the means of their frames until the error settles; return the sums of each cluster."""
    n_features = centres.shape[1]
    total_norm = float(np.einsum("ij,ij->", points, points, dtype=np.float64))
    previous = np.inf
    for _ in range(max(1, max_iterations)):
        sums, affinity = _assign(points, expanded, centres)
        error = total_norm - 2 * affinity
        occupied = sums[:, -1] > 0
        centres[occupied] = unit * sums[occupied, :n_features] / sums[occupied, -1:]
        if previous - error <= 1e-3 * max(error, 0.0):
            break
        previous = error
    return sums


def _assign(points: Float32s, expanded: Float32s, centres: Float32s) -> tuple[Float64s, float]:
    """Sums of [x, x², 1] over the frames of each centre, and the sum of x·c - |c|²/2."""
    sums = np.zeros((len(centres), expanded.shape[1]))
    half_norms = 0.5 * np.einsum("ij,ij->i", centres, centres)
    affinity = 0.0
    for start in range(0, len(points), BLOCK):
        affinities = points[start : start + BLOCK] @ centres.T
        affinities -= half_norms
        affinity += kernels.assign(affinities, expanded[start : start + BLOCK], sums)
    return sums, affinity


def _as_statistics(sums: Float64s, measured: Moments, coordinates: Coordinates) -> Statistics:
    """Clusters as statistics with posteriors of 0 and 1; clusters without frames are left out."""
    occupied = sums[sums[:, -1] > 0]
    n_features = measured.mean.size
    return Statistics(
        zeroth=occupied[:, -1],
        first=occupied[:, :n_features],
        second=occupied[:, n_features : 2 * n_features],
        log_likelihood=0.0,
        n_frames=int(occupied[:, -1].sum()),
        coordinates=coordinates,
    )
