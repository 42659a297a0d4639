"""Where EM starts: k-means, random frames, or splitting, all on a random sample of the frames."""

import warnings
from dataclasses import replace
from functools import reduce
from itertools import pairwise
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechgmm.em.coordinates import Coordinates, Float64s, Floats, reference_variance
from speechgmm.em.covariance import covariance_type_of
from speechgmm.em.fit import run_em, usual_weight
from speechgmm.em.lloyd import Points, lloyd, plus_plus
from speechgmm.em.maximise import absolute_floor, maximise
from speechgmm.em.mixture import Mixture
from speechgmm.em.moments import Moments, moments
from speechgmm.em.sources import SHARD, FrameSource, Shard, as_source
from speechgmm.em.statistics import Statistics, accumulate
from speechgmm.em.terms import BLOCK
from speechgmm.errors import InputError, SpeechGMMWarning
from speechgmm.parallel import one_blas_thread

# Frames per component that are enough to place centres: EM uses all frames afterwards.
SEEDING_SAMPLE = 64
LLOYD_SAMPLE = 256
# The halves of a Gaussian that is cut at its mean have their own means so many deviations to either side.
HALF_MEAN = float(np.sqrt(2.0 / np.pi))
# Frames that differ by less than so many deviations of all frames are the same.
SAME = 1e-6


def kmeans(
    frames: Any,
    n_components: int,
    *,
    covariance_type: str = "diag",
    seed: int = 0,
    max_iterations: int = 20,
    variance_floor: Float64s | float = 1e-3,
    reg_covar: float = 0.0,
    n_jobs: int = 1,
) -> Mixture:
    """A mixture with one component for each cluster of k-means.

    Frames are compared in units of each dimension's deviation ("spherical": as they are). Centres are seeded by
    k-means++ with local trials and moved by Lloyd's iterations, both on a random sample of at most 256 frames a
    component.

    Parameters
    ----------
    frames : (n_frames, n_features) array or FrameSource
    n_components : int >= 1
        Fewer come back, with a warning, where there are fewer distinct frames.
    covariance_type : {"diag", "full", "tied", "spherical"}
    seed : int
        The same seed gives the same mixture.
    max_iterations : int
        The most Lloyd iterations.
    variance_floor : float or (n_features,)
        As in `speechgmm.em.fit.fit`.
    reg_covar : float >= 0
        As in `speechgmm.em.fit.fit`.
    n_jobs : int
        Threads. The result does not depend on it.

    Raises
    ------
    InputError
        If a frame is not finite, or an option is out of range.

    References
    ----------
    Arthur, Vassilvitskii (2007), k-means++: the advantages of careful seeding, SODA. Lloyd (1982), IEEE
    Trans. Inf. Theory 28.
    """
    if max_iterations < 0:
        raise InputError(f"`max_iterations` is {max_iterations}; it must not be negative")
    sample = _Sample(frames, n_components, covariance_type, seed, variance_floor, reg_covar, n_jobs)
    with one_blas_thread():
        points = sample.points()
        # Of weighted frames, a part could miss the heaviest.
        share = -(-SEEDING_SAMPLE * n_components // BLOCK) if sample.weights is None else len(points.rows)
        centres = plus_plus(points.blocks(0, share), n_components, sample.rng)
        labels = lloyd(points, centres, max_iterations, n_jobs)[: len(sample.frames)]
        occupied, clusters = np.unique(labels, return_inverse=True)
        if occupied.size < n_components:
            _warn_of_few(n_components, occupied.size)
        statistics = sample.statistics(clusters, occupied.size)
        return sample.maximise(statistics)


def random_frames(
    frames: Any,
    n_components: int,
    *,
    covariance_type: str = "diag",
    seed: int = 0,
    variance_floor: Float64s | float = 1e-3,
    reg_covar: float = 0.0,
    n_jobs: int = 1,
) -> Mixture:
    """A mixture whose means are distinct frames, drawn at random, all with the covariance of the sample they are from.

    Parameters
    ----------
    frames, n_components, covariance_type, seed, variance_floor, reg_covar, n_jobs
        As in `kmeans`.
    """
    sample = _Sample(frames, n_components, covariance_type, seed, variance_floor, reg_covar, n_jobs)
    order = np.arange(len(sample.frames))
    if sample.weights is not None:
        # As if frames were drawn one after the other in proportion to their weights.
        order = np.argsort(sample.rng.exponential(size=len(order)) / sample.weights, kind="stable")
    chosen = order[_first_of_equals(sample.frames[order])[:n_components]]
    if len(chosen) < n_components:
        _warn_of_few(n_components, len(chosen))
    with one_blas_thread():
        spread = sample.as_one_component().keep(np.zeros(len(chosen), np.intp))
    return replace(spread, means=np.asarray(sample.frames[chosen], np.float64))


def random_parts(
    frames: Any,
    n_components: int,
    *,
    covariance_type: str = "diag",
    seed: int = 0,
    variance_floor: Float64s | float = 1e-3,
    reg_covar: float = 0.0,
    n_jobs: int = 1,
) -> Mixture:
    """A mixture of frames that were dealt to the components at random, all of them: components nearly alike.

    Parameters
    ----------
    frames, n_components, covariance_type, seed, variance_floor, reg_covar, n_jobs
        As in `kmeans`.
    """
    source = as_source(frames)
    measured = moments(source, n_jobs, covariance=covariance_type in ("full", "tied"))
    coordinates = measured.coordinates(covariance_type)
    rng = np.random.default_rng(seed)

    def statistics(shard: Shard) -> Statistics:
        labels = rng.integers(n_components, size=len(shard.frames))
        return hard_statistics(
            shard.frames, labels, n_components, coordinates, covariance_type, shard.weights
        )

    floor = absolute_floor(measured, variance_floor, covariance_type)
    return maximise(reduce(add, map(statistics, source.shards())), floor, reg_covar)


def split(
    frames: Any,
    n_components: int,
    *,
    covariance_type: str = "diag",
    seed: int = 0,
    iterations: int = 3,
    variance_floor: Float64s | float = 1e-3,
    reg_covar: float = 0.0,
    n_jobs: int = 1,
) -> Mixture:
    """A mixture grown from one component by splitting: 1, 2, 4, … and at last `n_components`.

    At every level the heaviest components are split and a few iterations of EM follow, on a random sample of at most
    256 frames a component of that level. A component is cut in the middle of the frames nearest to it, across the
    direction in which they vary most: its halves begin where the means of the two halves of a Gaussian are, 0.8
    deviations to either side. On real cepstra this is better than the usual step of 0.2 deviations along all features
    at once, whose direction means nothing.

    Parameters
    ----------
    frames, n_components, covariance_type, seed, variance_floor, reg_covar, n_jobs
        As in `kmeans`.
    iterations : int >= 1
        EM iterations at each level.

    References
    ----------
    Young et al. (2006), The HTK Book, section 10.6 (mixture splitting).
    """
    sample = _Sample(frames, n_components, covariance_type, seed, variance_floor, reg_covar, n_jobs)
    with one_blas_thread():
        return _grown(sample.as_one_component(), sample, n_components, iterations)


def grow(
    mixture: Mixture,
    frames: Any,
    n_components: int,
    *,
    seed: int = 0,
    iterations: int = 3,
    variance_floor: Float64s | float = 1e-3,
    reg_covar: float = 0.0,
    n_jobs: int = 1,
) -> Mixture:
    """A mixture with more components, by the splitting that `split` does, from the components that are there.

    Parameters
    ----------
    mixture : Mixture
        Fitted to the frames, or to ones like them.
    frames, n_components, seed, iterations, variance_floor, reg_covar, n_jobs
        As in `split`.
    """
    sample = _Sample(frames, n_components, mixture.covariance_type, seed, variance_floor, reg_covar, n_jobs)
    if sample.frames.shape[1] != mixture.n_features:
        raise InputError(
            f"`frames` has {sample.frames.shape[1]} features; the mixture has {mixture.n_features}"
        )
    with one_blas_thread():
        return _grown(mixture, sample, n_components, iterations)


def _grown(mixture: Mixture, sample: "_Sample", n_components: int, iterations: int) -> Mixture:
    """Split the heaviest components until there are so many, with some EM iterations at each level."""
    if iterations < 1:
        raise InputError(f"`iterations` is {iterations}; it must be 1 or more")
    wanted = min(int(n_components), len(_first_of_equals(sample.frames)))
    if wanted < n_components:
        _warn_of_few(n_components, wanted, stacklevel=4)
    points = sample.points()
    while mixture.n_components < wanted:
        target = min(2 * mixture.n_components, wanted)
        head = points.blocks(0, -(-SEEDING_SAMPLE * target // BLOCK))
        larger = _split_heaviest(mixture, target - mixture.n_components, head, sample)
        larger = sample.improve(larger, LLOYD_SAMPLE * target, iterations)
        if larger.n_components <= mixture.n_components:
            _warn_of_few(n_components, larger.n_components, stacklevel=4)
            break
        mixture = larger
    return mixture


def _split_heaviest(mixture: Mixture, n_extra: int, points: Points, sample: "_Sample") -> Mixture:
    """Part the heaviest components in two, each with half the weight: what a cut through the middle would give."""
    axes = _longest_axes(mixture, points, sample)
    order = np.argsort(-mixture.weights, kind="stable")
    heaviest = order[np.abs(axes[order]).max(axis=1) > 0][:n_extra]
    both = mixture.keep(np.concatenate([np.arange(mixture.n_components), heaviest]))
    weights, means = mixture.weights.copy(), mixture.means.copy()
    weights[heaviest] /= 2
    step = HALF_MEAN * axes[heaviest]
    means[heaviest] -= step
    return replace(
        both,
        weights=np.concatenate([weights, weights[heaviest]]),
        means=np.concatenate([means, means[heaviest] + 2 * step]),
    )


def _longest_axes(mixture: Mixture, points: Points, sample: "_Sample") -> Float64s:
    """One deviation of the points nearest to each mean along their longest axis; zero where they are all the same.

    Not the axes of the component itself: those of "diag" and "spherical" say nothing of correlations, and along
    these a component says least of its frames.
    """
    means = sample.compared.apply(mixture.means) * sample.unit
    labels = lloyd(points, means.astype(np.float32), 0, sample.n_jobs)
    plain = Coordinates(np.zeros(mixture.n_features), np.ones(mixture.n_features))
    rows = points.rows.reshape(len(labels), -1)
    found = hard_statistics(rows, labels, len(means), plain, "full", points.weights.ravel())
    zeroth = np.maximum(found.zeroth, np.finfo(np.float64).tiny)
    scatter = covariance_type_of("full").estimate(zeroth, found.first / zeroth[:, None], found.second)
    values, vectors = np.linalg.eigh(scatter)
    deviations = np.sqrt(np.maximum(values[:, -1], 0.0))
    longest = np.where(deviations > SAME, deviations, 0.0)[:, None] * vectors[:, :, -1]
    return np.asarray(longest / sample.unit * sample.compared.scale)


def _first_of_equals(frames: Floats) -> NDArray[np.intp]:
    """Numbers of the frames that are not copies of ones before them."""
    # Equal frames have equal projections, and others practically never.
    direction = np.random.default_rng(0).standard_normal(frames.shape[1])
    slices = (frames[start : start + SHARD] for start in range(0, len(frames), SHARD))
    projections = np.concatenate([(np.asarray(part, np.float64) * direction).sum(axis=1) for part in slices])
    return np.sort(np.unique(projections, return_index=True)[1])


def _check_numbers(n_components: int, seed: int, variance_floor: Float64s | float, reg_covar: float) -> None:
    if isinstance(n_components, bool) or not isinstance(n_components, int | np.integer) or n_components < 1:
        raise InputError(f"`n_components` is {n_components!r}; it must be a whole number of 1 or more")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise InputError(f"`seed` is {seed!r}; it must be a whole number of 0 or more")
    if not np.all(np.asarray(variance_floor) >= 0) or not reg_covar >= 0:
        raise InputError(
            f"`variance_floor` {variance_floor} and `reg_covar` {reg_covar} must not be negative"
        )


def _warn_of_few(asked: int, found: int, stacklevel: int = 3) -> None:
    warnings.warn(
        f"{asked} components asked for, but only {found} distinct frames found: {found} components are used "
        "(frames closer than about a thousandth of a deviation count as one)",
        SpeechGMMWarning,
        stacklevel=stacklevel,
    )


class _Sample:
    """A random sample of frames in random order, at most `LLOYD_SAMPLE` for each component."""

    def __init__(
        self,
        frames: Any,
        n_components: int,
        covariance_type: str,
        seed: int,
        variance_floor: Float64s | float,
        reg_covar: float,
        n_jobs: int,
    ) -> None:
        _check_numbers(n_components, seed, variance_floor, reg_covar)
        covariance_type_of(covariance_type)
        source = as_source(frames)
        self.rng = np.random.default_rng(seed)
        self.covariance_type, self.n_jobs = covariance_type, n_jobs
        self.measured: Moments = moments(source, n_jobs, covariance=covariance_type in ("full", "tied"))
        self.coordinates: Coordinates = self.measured.coordinates(covariance_type)
        # What k-means compares in: not whitened, which would shrink the directions in which clusters lie apart.
        self.compared = self.measured.coordinates("spherical" if covariance_type == "spherical" else "diag")
        self.unit = np.ones(source.n_features)
        if covariance_type != "spherical":
            # Scales of coordinates are powers of two; clusters must not depend on the unit of a feature.
            reference = reference_variance(self.measured.mean, self.measured.variance)
            self.unit = self.compared.scale / np.sqrt(reference)
        self.floor = absolute_floor(self.measured, variance_floor, covariance_type)
        self.reg_covar = reg_covar
        numbers, self.weights = _draw(source, LLOYD_SAMPLE * n_components, self.rng)
        self.frames: Floats = source.rows(numbers)

    def points(self) -> Points:
        """The frames as k-means compares them."""
        n_frames, n_features = self.frames.shape
        rows = np.zeros((-(-n_frames // BLOCK) * BLOCK, n_features), np.float32)
        for start in range(0, n_frames, SHARD):  # float64 of a few at a time
            part = self.frames[start : start + SHARD]
            rows[start : start + len(part)] = self.compared.apply(part) * self.unit
        weights = np.zeros(len(rows))
        weights[:n_frames] = 1.0 if self.weights is None else self.weights
        return Points.of(rows, weights)

    def statistics(self, labels: NDArray[Any], n_components: int) -> Statistics:
        return hard_statistics(
            self.frames, labels, n_components, self.coordinates, self.covariance_type, self.weights
        )

    def as_one_component(self) -> Mixture:
        """One Gaussian for all of them."""
        statistics = self.statistics(np.zeros(len(self.frames), np.intp), 1)
        return self.maximise(statistics)

    def maximise(self, statistics: Statistics) -> Mixture:
        """The M-step, with the floor that these frames have."""
        return maximise(statistics, self.floor, self.reg_covar)

    def improve(self, mixture: Mixture, n_frames: int, iterations: int) -> Mixture:
        """The mixture after some iterations of EM on the first so many frames."""
        weights = None if self.weights is None else self.weights[:n_frames]
        part = as_source(self.frames[:n_frames], weights)
        return run_em(
            lambda current: accumulate(current, part, self.coordinates, self.n_jobs),
            self.maximise,
            mixture,
            max_iterations=iterations,
            tolerance=0.0,
            usual_weight=usual_weight(part),
        ).mixture


def _draw(
    source: FrameSource, size: int, rng: np.random.Generator
) -> tuple[NDArray[np.intp], Float64s | None]:
    """Numbers of a random sample of frames, in random order, and how often each counts (None: once)."""
    weights = source.weights
    if weights is None:
        return rng.choice(source.n_frames, min(size, source.n_frames), replace=False), None
    numbers = np.flatnonzero(weights)
    counts = weights[numbers]
    if len(numbers) > size:
        # At equal steps through the sum of the weights: each frame about as often as its weight says.
        sums = np.cumsum(counts)
        steps = (np.arange(size) + rng.random()) * (sums[-1] / size)
        drawn = np.searchsorted(sums, np.minimum(steps, np.nextafter(sums[-1], 0)), side="right")
        distinct, repeats = np.unique(drawn, return_counts=True)
        numbers, counts = numbers[distinct], repeats.astype(np.float64)
    order = rng.permutation(len(numbers))
    return numbers[order], counts[order]


def hard_statistics(
    frames: Floats,
    labels: NDArray[Any],
    n_components: int,
    coordinates: Coordinates,
    covariance_type: str = "diag",
    weights: Float64s | None = None,
) -> Statistics:
    """Statistics of frames that belong to one component each, in float64.

    Parameters
    ----------
    frames : (n_frames, n_features)
    labels : (n_frames,) int
        The component of each.
    n_components : int
    coordinates : Coordinates
    covariance_type : {"diag", "full", "tied", "spherical"}
    weights : (n_frames,), optional
    """
    order = np.argsort(labels, kind="stable")
    x = coordinates.apply(frames[order])
    w = np.ones(len(x)) if weights is None else weights[order]
    bounds = np.searchsorted(labels[order], np.arange(n_components + 1))
    weighted = x if weights is None else x * w[:, None]
    if covariance_type == "diag":
        second = _sums_between(bounds, weighted * x)
    elif covariance_type == "spherical":
        second = _sums_between(bounds, (weighted * x).sum(axis=1))
    elif covariance_type == "tied":
        second = weighted.T @ x
    else:
        parts = [slice(*pair) for pair in pairwise(bounds)]
        second = np.array([weighted[part].T @ x[part] for part in parts])
    zeroth = _sums_between(bounds, w)
    first = _sums_between(bounds, weighted)
    return Statistics(zeroth, first, second, 0.0, float(w.sum()), coordinates, covariance_type)


def _sums_between(bounds: NDArray[np.intp], values: Float64s) -> Float64s:
    """The sum of the values from each bound to the next, along the first axis."""
    filled = np.flatnonzero(np.diff(bounds))
    result = np.zeros((len(bounds) - 1, *values.shape[1:]))
    result[filled] = np.add.reduceat(values, bounds[filled], axis=0)
    return result
