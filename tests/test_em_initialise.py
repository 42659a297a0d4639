"""em.initialise and the k-means under it: against plain loops and scikit-learn; weights, seeds, odd frames."""

import contextlib
import math
import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechgmm.em import kernels_lloyd, lloyd
from speechgmm.em.coordinates import Coordinates
from speechgmm.em.initialise import (
    LLOYD_SAMPLE,
    _draw,
    _longest_axes,
    _Sample,
    hard_statistics,
    kmeans,
    random_frames,
    split,
)
from speechgmm.em.maximise import maximise
from speechgmm.em.mixture import Mixture
from speechgmm.em.moments import moments
from speechgmm.em.sources import SHARD, BlockSource, as_source
from speechgmm.em.statistics import accumulate
from speechgmm.em.terms import BLOCK
from speechgmm.errors import InputError, SpeechGMMWarning
from tests import naive

TYPES = ("diag", "full", "tied", "spherical")
INITIALISERS = (kmeans, random_frames, split)

every_type = pytest.mark.parametrize("covariance_type", TYPES)
every_initialiser = pytest.mark.parametrize("initialise", INITIALISERS)


def clusters(seed=0, n_frames=2000, n_features=5, n_clusters=8, deviation=0.5):
    rng = np.random.default_rng(seed)
    means = 2 * rng.standard_normal((n_clusters, n_features))
    return means[rng.integers(n_clusters, size=n_frames)] + deviation * rng.standard_normal(
        (n_frames, n_features)
    )


def apart(n_clusters=4, n_frames=700, n_features=3, seed=0):
    """Clusters so well apart that any sound k-means finds them, and the cluster of each frame."""
    rng = np.random.default_rng(seed)
    centres = 50.0 * np.stack([np.roll(np.arange(n_clusters), j) for j in range(n_features)], axis=1)
    labels = rng.integers(n_clusters, size=n_frames)
    return centres[labels] + 0.1 * rng.standard_normal((n_frames, n_features)), labels


def compared(frames, covariance_type="diag"):
    """A function that gives frames as k-means compares them."""
    measured = moments(frames, covariance=True)
    if covariance_type == "spherical":
        return measured.coordinates(covariance_type).apply
    return lambda values: values / np.sqrt(measured.variance)


def error_of(frames, centres, covariance_type="diag"):
    """Sum of squared distances to the nearest centre."""
    scaled = compared(frames, covariance_type)
    distances = scaled(frames)[:, None] - scaled(centres)
    return np.square(distances).sum(axis=2).min(axis=1).sum()


def error_of_scikit_learn(frames, n_clusters, seed, covariance_type="diag"):
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    scaled = compared(frames, covariance_type)(frames)
    with threadpool_limits(1):  # threads that wait for each other are slow on a busy machine
        return KMeans(n_clusters, n_init=1, random_state=seed).fit(scaled).inertia_


def made_points(n_points=700, n_features=3, seed=0):
    """Points in blocks, some with weight 0; and the same as plain arrays."""
    rng = np.random.default_rng(seed)
    n_blocks = -(-n_points // BLOCK)
    rows = np.zeros((n_blocks * BLOCK, n_features), np.float32)
    rows[:n_points] = rng.standard_normal((n_points, n_features))
    weights = np.zeros(n_blocks * BLOCK)
    weights[:n_points] = rng.choice([0.0, 0.5, 1.0, 3.0], n_points)
    return lloyd.Points.of(rows, weights), rows[:n_points], weights[:n_points]


class TestKernels:
    @pytest.mark.parametrize(("n_points", "n_features", "n_centres"), [(700, 3, 5), (512, 1, 2), (1, 4, 1)])
    def test_assign_against_loops(self, n_points, n_features, n_centres):
        points, rows, weights = made_points(n_points, n_features)
        centres = np.random.default_rng(1).standard_normal((n_centres, n_features)).astype(np.float32)
        labels, affinities = np.full(points.norms.shape, -1, np.int32), np.zeros_like(points.norms)
        sums = np.ones((n_centres, n_features + 1))
        total = kernels_lloyd.assign(*points[:3], centres, labels, affinities, sums)

        expected, _ = naive.nearest(rows, centres)
        np.testing.assert_array_equal(labels.ravel()[:n_points], expected)
        for k in range(n_centres):
            own = [i for i in range(n_points) if expected[i] == k]
            for j in range(n_features):
                value = math.fsum(weights[i] * float(rows[i, j]) for i in own)
                assert sums[k, j] == pytest.approx(
                    1 + value, abs=1e-10
                )  # float64 sums of 700 values of order 1
            assert sums[k, -1] == pytest.approx(1 + math.fsum(weights[own]))
        wide = rows.astype(np.float64)
        exact = [x @ c - 0.5 * c @ c for x, c in zip(wide, centres[expected].astype(np.float64), strict=True)]
        # Products in float32 of values of order 1.
        np.testing.assert_allclose(affinities.ravel()[:n_points], exact, atol=1e-5)
        assert total == pytest.approx(math.fsum(weights * exact), abs=1e-4 * n_points)

    def test_assign_takes_the_first_of_equal_centres(self):
        points, _, _ = made_points()
        centres = np.array([[5, 5, 5], [0, 0, 0], [0, 0, 0]], np.float32)
        labels, affinities = np.zeros(points.norms.shape, np.int32), np.zeros_like(points.norms)
        kernels_lloyd.assign(*points[:3], centres, labels, affinities, np.zeros((3, 4)))
        assert set(labels.ravel()) <= {0, 1}

    def test_try_centres_against_loops(self):
        points, rows, weights = made_points(700, 20)
        rng = np.random.default_rng(2)
        candidates = np.concatenate([rng.standard_normal((2, 20)), rows[640:660]]).astype(np.float32)
        nearest = rng.uniform(0, 40, points.norms.shape).astype(np.float32)
        distances = np.empty((22, *nearest.shape), np.float32)
        masses = np.empty((22, len(nearest)))
        norms = np.square(candidates).sum(axis=1)
        kernels_lloyd.try_centres(
            *(points.turned, points.norms, points.weights, candidates, norms, nearest, distances, masses)
        )
        for c in (0, 1, 2, 21):
            expected = [
                min(math.dist(x, candidates[c].tolist()) ** 2, least)
                for x, least in zip(rows.tolist(), nearest.ravel().tolist(), strict=False)
            ]
            # Products in float32 of squared norms of about 20.
            np.testing.assert_allclose(distances[c].ravel()[:700], expected, atol=1e-4)
            for number in range(2):
                part = slice(number * BLOCK, min((number + 1) * BLOCK, 700))
                mass = math.fsum(weights[part] * expected[part])
                assert masses[c, number] == pytest.approx(mass, rel=1e-5)
        # Copies of a candidate, although rounding leaves something.
        assert (distances[range(2, 22)].reshape(20, -1)[range(20), range(640, 660)] == 0).all()


class TestSeeding:
    def test_draws_are_in_proportion(self):
        rng = np.random.default_rng(0)
        values = np.zeros((3, BLOCK))
        values[0, 5], values[0, 500], values[2, 0], values[2, 511] = 1, 2, 3, 4
        weights, distances = np.sqrt(values), np.sqrt(values).astype(np.float32)
        drawn = lloyd._draw(weights, distances, values.sum(axis=1), rng.random((2, 20_000)))
        numbers, counts = np.unique(drawn, return_counts=True)
        np.testing.assert_array_equal(numbers, [5, 500, 2 * BLOCK, 2 * BLOCK + 511])
        np.testing.assert_allclose(counts / 20_000, [0.1, 0.2, 0.3, 0.4], atol=0.015)  # four deviations

    @pytest.mark.parametrize("uniform", [0.0, 1 - 2.0**-53])
    def test_no_draw_has_nothing_to_say_for_it(self, uniform):
        values = np.zeros((3, BLOCK))
        values[1, 3:7] = [0.1, 0.7, 1e-9, 0.3]
        ones = np.ones_like(values, np.float32)
        drawn = lloyd._draw(values, ones, values.sum(axis=1), np.full((2, 1), uniform))
        assert drawn[0] == BLOCK + (3 if uniform == 0 else 6)

    def test_each_of_clusters_apart_gets_a_seed(self):
        frames, labels = apart(12, 900)
        rows = np.zeros((2 * BLOCK, 3), np.float32)
        rows[:900] = frames
        points = lloyd.Points.of(rows, (np.arange(2 * BLOCK) < 900).astype(np.float64))
        for seed in range(5):
            centres = lloyd.plus_plus(points, 12, np.random.default_rng(seed))
            nearest, _ = naive.nearest(centres, frames)
            assert sorted(labels[nearest]) == list(range(12))

    def test_points_of_weight_zero_are_never_seeds(self):
        points, rows, weights = made_points(700)
        for seed in range(10):
            centres = lloyd.plus_plus(points, 20, np.random.default_rng(seed))
            numbers, error = naive.nearest(centres, rows)
            assert error == 0 and (weights[numbers] > 0).all()

    def test_seeds_end_where_points_do(self):
        rows = np.zeros((BLOCK, 2), np.float32)
        rows[:300] = np.repeat([[1.0, 0.0], [0.0, 1.0], [5.0, 5.0]], 100, axis=0)
        points = lloyd.Points.of(rows, (np.arange(BLOCK) < 300).astype(np.float64))
        centres = lloyd.plus_plus(points, 8, np.random.default_rng(0))
        assert sorted(map(tuple, centres.tolist())) == [(0, 1), (1, 0), (5, 5)]


class TestLloyd:
    def test_a_centre_without_points_moves_to_the_farthest(self):
        frames, labels = apart(3, 400)
        rows = np.zeros((BLOCK, 3), np.float32)
        rows[:400] = frames - frames.mean(axis=0)
        points = lloyd.Points.of(rows, (np.arange(BLOCK) < 400).astype(np.float64))
        # Two centres share a cluster, a third is nobody's.
        centres = np.array([*rows[:400][labels == 0][:2], [1e3, 1e3, 1e3]], np.float32)
        found = lloyd.lloyd(points, centres, 20)[:400]
        assert len(set(zip(found, labels, strict=True))) == 3

    def test_no_point_of_weight_zero_is_the_farthest(self):
        rows = np.zeros((BLOCK, 1), np.float32)
        rows[:40, 0] = np.repeat([0.0, 1.0, 10.0, 500.0], 10)
        weights = (np.arange(BLOCK) < 30).astype(np.float64)
        found = lloyd.lloyd(lloyd.Points.of(rows, weights), np.array([[0.5], [10], [1e4]], np.float32), 2)
        assert len({tuple(found[:10]), tuple(found[10:20]), tuple(found[20:30])}) == 3

    def test_weights_count(self):
        rows = np.zeros((BLOCK, 1), np.float32)
        rows[:4, 0] = [0, 1, 2, 10]
        weights = np.zeros(BLOCK)
        weights[:4] = [1, 1, 1, 1]
        start = np.array([[0], [3]], np.float32)
        np.testing.assert_array_equal(
            lloyd.lloyd(lloyd.Points.of(rows, weights), start, 20)[:4], [0, 0, 0, 1]
        )
        weights[:4] = [1, 1, 1000, 1]
        found = lloyd.lloyd(lloyd.Points.of(rows, weights), start, 20)[:4]
        np.testing.assert_array_equal(found, [0, 0, 1, 1])


class TestQuality:
    @staticmethod
    def errors(frames, n_components, n_seeds, covariance_type="diag"):
        ours = [
            error_of(
                frames,
                kmeans(frames, n_components, seed=seed, covariance_type=covariance_type).means,
                covariance_type,
            )
            for seed in range(n_seeds)
        ]
        theirs = [
            error_of_scikit_learn(frames, n_components, seed, covariance_type) for seed in range(n_seeds)
        ]
        return np.array(ours), np.array(theirs)

    def test_on_clusters_that_overlap(self):
        ours, theirs = self.errors(clusters(n_clusters=12, deviation=1.5), 12, 6)
        # Ours stops when the error settles to 1e-3, scikit-learn later: 1 % was measured.
        assert ours.mean() <= 1.03 * theirs.mean()
        assert ours.max() <= 1.06 * theirs.mean()

    def test_on_clusters_apart(self):
        # Seeds that miss a cluster are 10 to 60 % worse, in scikit-learn as here; the best ones find all.
        ours, theirs = self.errors(clusters(n_clusters=12, deviation=0.3), 12, 6)
        assert ours.min() <= 1.01 * theirs.min()
        assert np.median(ours) <= 1.15 * theirs.min()

    @every_type
    @pytest.mark.parametrize("delta_orders", [0, 2])
    def test_on_real_frames(self, speech_data, delta_orders, covariance_type):
        frames = naive.real_frames(speech_data, delta_orders).copy()
        ours, theirs = self.errors(frames, 16, 3, covariance_type)
        assert ours.mean() <= 1.03 * theirs.mean()  # measured: at most 1 %

    def test_a_sample_is_enough(self):
        frames = clusters(n_frames=40_000, n_clusters=4)
        assert len(frames) > 4 * LLOYD_SAMPLE
        ours = error_of(frames, kmeans(frames, 4).means)
        assert ours <= 1.03 * error_of_scikit_learn(frames, 4, 0)

    def test_lloyd_iterations_lower_the_error(self):
        frames = clusters(deviation=1.5)
        errors = [error_of(frames, kmeans(frames, 8, max_iterations=n).means) for n in (1, 3, 20)]
        assert errors[0] > errors[1] >= errors[2]

    @every_type
    def test_splitting_ends_near_k_means(self, speech_data, covariance_type):
        frames = naive.real_frames(speech_data, 0).copy()
        by_splitting, by_clusters, one = (
            accumulate(mixture, frames).mean_log_likelihood
            for mixture in (
                split(frames, 13, covariance_type=covariance_type),
                kmeans(frames, 13, covariance_type=covariance_type),
                kmeans(frames, 1, covariance_type=covariance_type),
            )
        )
        # Measured: splitting, which ends in EM, 1.5 better to 0.4 worse ("tied").
        assert by_splitting >= by_clusters - 0.06 * (by_clusters - one) - 0.6


class TestHardStatistics:
    @every_type
    @pytest.mark.parametrize("weighted", [False, True])
    def test_against_loops(self, covariance_type, weighted):
        rng = np.random.default_rng(0)
        frames = rng.standard_normal((40, 3)) * [1, 10, 100] - 500
        labels = rng.choice([0, 1, 3, 4], 40)  # component 2 has no frames
        weights = rng.choice([0.0, 1.0, 2.5], 40) if weighted else None
        coordinates = moments(frames, covariance=True).coordinates(covariance_type)
        found = hard_statistics(frames, labels, 5, coordinates, covariance_type, weights)

        x = coordinates.apply(frames).tolist()
        w = [1.0] * 40 if weights is None else weights.tolist()
        shape = {"diag": (5, 3), "full": (5, 3, 3), "tied": (3, 3), "spherical": (5,)}[covariance_type]
        zeroth, first, second = np.zeros(5), np.zeros((5, 3)), np.zeros(shape)
        for row, weight, k in zip(x, w, labels, strict=True):
            zeroth[k] += weight
            for i in range(3):
                first[k, i] += weight * row[i]
                if covariance_type == "diag":
                    second[k, i] += weight * row[i] ** 2
                if covariance_type == "spherical":
                    second[k] += weight * row[i] ** 2
                for j in range(3):
                    if covariance_type == "full":
                        second[k, i, j] += weight * row[i] * row[j]
                    if covariance_type == "tied":
                        second[i, j] += weight * row[i] * row[j]
        np.testing.assert_allclose(found.zeroth, zeroth, rtol=1e-12)
        np.testing.assert_allclose(found.first, first, atol=1e-10)
        np.testing.assert_allclose(found.second, second, atol=1e-10)
        assert found.n_frames == pytest.approx(sum(w))
        assert found.covariance_type == covariance_type and found.coordinates is coordinates

    @every_type
    def test_they_are_those_of_the_engine_for_clusters_apart(self, covariance_type):
        frames, labels = apart()
        means = np.array([frames[labels == k].mean(axis=0) for k in range(4)])
        coordinates = moments(frames, covariance=True).coordinates(covariance_type)
        hard = hard_statistics(frames, labels, 4, coordinates, covariance_type)
        mixture = maximise(hard)
        np.testing.assert_allclose(mixture.means, means, rtol=1e-9)
        soft = accumulate(mixture, frames, coordinates)
        # Posteriors are 0 and 1 here; products in float32 of values of order 1.
        for name in ("zeroth", "first", "second"):
            np.testing.assert_allclose(getattr(hard, name), getattr(soft, name), rtol=1e-5, atol=1e-3)


class TestMixtureOfClusters:
    @every_type
    @pytest.mark.parametrize("weighted", [False, True])
    def test_components_are_the_moments_of_their_frames(self, covariance_type, weighted):
        frames, labels = apart()
        frames -= 500.0
        rng = np.random.default_rng(1)
        weights = rng.choice([0.0, 1.0, 4.0], 700) if weighted else np.ones(700)
        source = as_source(frames, weights if weighted else None)
        mixture = kmeans(source, 4, covariance_type=covariance_type, variance_floor=0.0)
        within = np.zeros((3, 3))
        for k in range(4):
            own, w = frames[labels == k], weights[labels == k]
            mean = np.average(own, axis=0, weights=w)
            (component,) = np.flatnonzero(np.abs(mixture.means - mean).max(axis=1) < 1)
            assert mixture.weights[component] == pytest.approx(w.sum() / weights.sum())
            np.testing.assert_allclose(mixture.means[component], mean, rtol=1e-9)
            matrix = np.cov(own.T, aweights=w, bias=True)
            within += matrix * w.sum() / weights.sum()
            expected = {
                "diag": np.diagonal(matrix),
                "full": matrix,
                "spherical": np.diagonal(matrix).mean(),
            }
            if covariance_type != "tied":
                # Variances are differences of squares 2e5 times as large, in float64.
                covariance = mixture.covariances[component]
                np.testing.assert_allclose(covariance, expected[covariance_type], rtol=1e-6, atol=1e-8)
        if covariance_type == "tied":
            np.testing.assert_allclose(mixture.covariances, within, rtol=1e-6, atol=1e-8)

    @every_type
    @every_initialiser
    def test_one_component_is_all_frames(self, covariance_type, initialise):
        frames = clusters(n_frames=200)
        mixture = initialise(frames, 1, covariance_type=covariance_type)
        matrix = np.cov(frames.T, bias=True)
        expected = {
            "diag": np.diagonal(matrix)[None],
            "full": matrix[None],
            "tied": matrix,
            "spherical": np.array([np.diagonal(matrix).mean()]),
        }
        np.testing.assert_allclose(mixture.covariances, expected[covariance_type], rtol=1e-6, atol=1e-8)
        if initialise is random_frames:
            assert (frames == mixture.means[0]).all(axis=1).any()
        else:
            np.testing.assert_allclose(mixture.means[0], frames.mean(axis=0), atol=1e-9)

    @every_initialiser
    @pytest.mark.parametrize("floor", [0.3, np.array([0.0, 0.5, 0.0, 7.0, 0.0])])
    def test_the_floor_is_respected(self, floor, initialise):
        frames = clusters(deviation=0.1)
        mixture = initialise(frames, 8, variance_floor=floor)
        least = floor * frames.var(axis=0) * (1 - 1e-12) if np.ndim(floor) == 0 else floor
        assert (mixture.covariances >= least).all()

    @every_type
    @every_initialiser
    def test_what_is_added_to_variances(self, initialise, covariance_type):
        frames = clusters()
        make = partial(initialise, frames, 1, covariance_type=covariance_type)
        plain, more = make(), make(reg_covar=3.0)
        np.testing.assert_allclose(more.variances, plain.variances + 3.0, rtol=1e-9)

    def test_features_count_alike_in_any_unit(self):
        frames = clusters(n_clusters=3)
        scaled = frames * 2.0 ** np.array([0, 20, -20, 3, -5])
        here, there = kmeans(frames, 3), kmeans(scaled, 3)
        np.testing.assert_array_equal(here.weights, there.weights)
        # A third is no power of two: it moves the scale of the coordinates, but not the clusters.
        np.testing.assert_allclose(kmeans(frames / 3, 3).weights, here.weights)

    def test_spherical_clusters_are_in_the_frames_own_units(self):
        frames = np.random.default_rng(0).standard_normal((1000, 2)) * [1, 100]
        mixture = kmeans(frames, 2, covariance_type="spherical")
        assert np.abs(np.diff(mixture.means, axis=0)).argmax() == 1


class TestRandomFrames:
    @every_type
    def test_means_are_distinct_frames(self, covariance_type):
        frames = np.repeat(clusters(n_frames=30), 3, axis=0).astype(np.float32)
        mixture = random_frames(frames, 25, covariance_type=covariance_type)
        assert len(np.unique(mixture.means, axis=0)) == 25
        for mean in mixture.means:
            assert (frames == mean).all(axis=1).any()
        np.testing.assert_allclose(mixture.weights, 1 / 25)
        np.testing.assert_allclose(mixture.variances.std(axis=0), 0, atol=1e-12)

    def test_heavy_frames_are_drawn_more_often(self):
        frames = np.arange(10.0)[:, None]
        weights = np.where(np.arange(10) == 7, 9.0, 1.0)
        drawn = [random_frames(as_source(frames, weights), 1, seed=seed).means[0, 0] for seed in range(300)]
        assert drawn.count(7.0) / 300 == pytest.approx(0.5, abs=0.1)  # three and a half deviations


class TestSplit:
    @pytest.mark.parametrize("n_components", [2, 3, 5, 8, 13])
    def test_any_number(self, n_components):
        assert split(clusters(), n_components).n_components == n_components

    def test_the_heaviest_are_split(self):
        # Of three clusters, two are found first; the heavier of those two components is the one that holds two.
        frames, labels = apart(3, 900)
        means = split(frames, 3).means
        nearest, _ = naive.nearest(means, frames)
        assert sorted(labels[nearest]) == [0, 1, 2]

    @pytest.mark.parametrize("covariance_type", ["diag", "spherical"])
    def test_two_clusters_are_cut_where_they_are_long(self, covariance_type):
        # Features 1 and 2 are correlated; each alone looks like the others.
        rng = np.random.default_rng(0)
        side = np.where(rng.random(2000) < 0.5, -3.0, 3.0)
        frames = rng.standard_normal((2000, 3))
        frames[:, 1] += side
        frames[:, 2] -= side
        mixture = split(frames, 2, covariance_type=covariance_type, iterations=1)
        low, high = mixture.means[np.argsort(mixture.means[:, 1])]
        np.testing.assert_allclose(low, [0, -3, 3], atol=0.5)
        np.testing.assert_allclose(high, [0, 3, -3], atol=0.5)

    @every_type
    def test_the_longest_axes_against_loops(self, covariance_type):
        rng = np.random.default_rng(0)
        frames = rng.standard_normal((600, 3)) @ rng.standard_normal((3, 3)) * [1, 30, 0.2] + 7
        sample = _Sample(frames, 3, covariance_type, 0, 1e-3, 0.0, 1)
        # Means that are not in the middle of the frames nearest to them.
        mixture = replace(
            sample.as_one_component().keep(np.zeros(2, np.intp)), means=[frames.mean(axis=0), frames[0]]
        )
        axes = _longest_axes(mixture, sample.points(), sample)
        scaled = compared(frames, covariance_type)
        labels, _ = naive.nearest(scaled(frames), scaled(mixture.means))
        origin = scaled(np.zeros((1, 3)))
        for k in range(2):
            own = scaled(frames[labels == k])
            values, vectors = np.linalg.eigh(np.cov(own.T, bias=True))
            expected, found = np.sqrt(values[-1]) * vectors[:, -1], (scaled(axes[k][None]) - origin)[0]
            # Either way along the axis; points are in float32.
            np.testing.assert_allclose(found * np.sign(found @ expected), expected, rtol=1e-4, atol=1e-5)

    def test_copies_of_one_frame_are_not_split(self):
        # The heaviest component, of silence, say, has nothing in it to part.
        frames = np.concatenate([np.zeros((900, 2)), clusters(n_frames=100, n_features=2) + 40])
        mixture = split(frames, 6)
        assert mixture.n_components == 6
        assert (np.abs(mixture.means).max(axis=1) < 1).sum() == 1

    @every_type
    def test_more_iterations_are_more_likely(self, covariance_type):
        frames = clusters(deviation=1.0)
        likelihoods = [
            accumulate(
                split(frames, 8, covariance_type=covariance_type, iterations=n), frames
            ).mean_log_likelihood
            for n in (1, 10)
        ]
        assert likelihoods[1] > likelihoods[0]

    def test_levels_take_larger_samples(self, monkeypatch):
        from speechgmm.em import initialise

        seen = []
        monkeypatch.setattr(
            initialise,
            "accumulate",
            lambda mixture, source, *rest: (
                seen.append((mixture.n_components, source.n_frames)) or accumulate(mixture, source, *rest)
            ),
        )
        split(clusters(n_frames=3000), 12, iterations=1)
        assert sorted(set(seen)) == [(2, 512), (4, 1024), (8, 2048), (12, 3000)]


class TestSeeds:
    @every_initialiser
    def test_the_same_seed_gives_the_same_bits(self, initialise):
        frames = clusters()
        assert initialise(frames, 8, seed=5) == initialise(frames, 8, seed=5)
        assert initialise(frames, 8) == initialise(frames, 8, seed=0)

    @pytest.mark.parametrize("initialise", [kmeans, random_frames])
    def test_other_seeds_give_other_mixtures(self, initialise):
        frames = clusters(deviation=1.5)
        mixtures = [initialise(frames, 8, seed=seed) for seed in range(5)]
        assert all(one != other for i, one in enumerate(mixtures) for other in mixtures[:i])

    @every_initialiser
    def test_numpy_s_own_random_state_is_left_alone(self, initialise):
        np.random.seed(0)  # noqa: NPY002
        before = np.random.get_state()[1].copy()  # noqa: NPY002
        initialise(clusters(), 3)
        np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002

    @every_type
    @every_initialiser
    def test_the_same_bits_on_any_number_of_threads_and_from_a_stream(self, initialise, covariance_type):
        # 100 components make the sample of k-means larger than a shard.
        n_components = 100 if covariance_type == "diag" else 3
        frames = clusters(n_frames=2 * SHARD + 50, n_features=3).astype(np.float32)
        make = partial(
            initialise, n_components=n_components, covariance_type=covariance_type, variance_floor=0.01
        )
        plain = make(frames)
        assert plain.n_components == n_components
        assert make(frames, n_jobs=2) == plain
        stream = BlockSource([frames[:1000], frames[1000:1001], frames[1001:]])
        assert make(stream, n_jobs=3) == plain

    @every_initialiser
    def test_the_same_bits_for_float32_and_its_copy_in_float64(self, initialise):
        frames = clusters().astype(np.float32)
        assert kmeans(frames, 8) == kmeans(frames.astype(np.float64), 8)
        assert initialise(frames, 8) == initialise(np.asfortranarray(frames), 8)

    @every_initialiser
    def test_read_only_frames(self, initialise):
        frames = clusters()
        plain = initialise(frames, 8)
        frames.setflags(write=False)
        assert initialise(frames, 8) == plain

    def test_a_memory_map(self, tmp_path):
        frames = clusters()
        np.save(tmp_path / "frames.npy", frames)
        assert kmeans(np.load(tmp_path / "frames.npy", mmap_mode="r"), 8) == kmeans(frames, 8)


class TestWeights:
    def test_samples_are_in_proportion(self):
        rng = np.random.default_rng(0)
        weights = rng.choice([0.0, 0.1, 1.0, 50.0], 5000, p=[0.2, 0.4, 0.3, 0.1])
        source = as_source(np.arange(5000.0)[:, None], weights)
        for size in (300, 3000):
            numbers, counts = _draw(source, size, np.random.default_rng(1))
            assert counts.sum() == size and len(set(numbers)) == len(numbers)
            expected = weights[numbers] * size / weights.sum()
            assert (np.abs(counts - expected) < 1).all()
            assert not (np.diff(numbers) > 0).all()  # in random order
            missed = np.setdiff1d(np.flatnonzero(weights * size / weights.sum() >= 1), numbers)
            assert missed.size == 0

    def test_all_frames_are_taken_with_their_weights_where_they_are_few(self):
        weights = np.array([0.0, 2.0, 0.5, 0.0, 1.0])
        numbers, counts = _draw(as_source(np.zeros((5, 1)), weights), 3, np.random.default_rng(0))
        assert sorted(numbers) == [1, 2, 4]
        np.testing.assert_array_equal(counts, weights[numbers])

    def test_without_weights_no_frame_comes_twice(self):
        for size in (10, 100, 200):
            numbers, counts = _draw(as_source(np.zeros((100, 1))), size, np.random.default_rng(0))
            assert counts is None and len(set(numbers)) == min(size, 100)
            assert list(numbers) != sorted(numbers)

    @every_type
    @every_initialiser
    def test_frames_of_weight_zero_are_never_drawn(self, initialise, covariance_type):
        frames = clusters(n_frames=3000)
        frames[::3] += 1e4
        weights = np.where(np.arange(3000) % 3 == 0, 0.0, 1.0)
        mixture = initialise(as_source(frames, weights), 4, covariance_type=covariance_type)
        assert np.abs(mixture.means).max() < 20
        assert mixture.variances.max() < 100

    def test_a_heavy_frame_is_seeded(self):
        frames = clusters(n_frames=3000, deviation=1.0)
        frames[1234] += 30
        weights = np.where(np.arange(3000) == 1234, 1e5, 1.0)
        for seed in range(5):
            mixture = kmeans(as_source(frames, weights), 20, seed=seed, max_iterations=0)
            assert np.abs(mixture.means - frames[1234]).max(axis=1).min() < 1e-3

    @every_initialiser
    def test_only_the_proportion_of_weights_counts(self, initialise):
        frames, weights = clusters(), np.random.default_rng(0).choice([0.0, 1.0, 3.0], 2000)
        make = partial(initialise, n_components=10)  # few enough frames for all to be drawn
        plain = make(as_source(frames, weights))
        for factor in (2.0**-12, 2.0**12):
            # A power of two changes no digit.
            assert make(as_source(frames, factor * weights)) == plain

    @pytest.mark.parametrize("initialise", [kmeans, split])
    @every_type
    def test_a_weight_is_like_copies(self, initialise, covariance_type):
        frames, _ = apart(4, 300)
        counts = np.random.default_rng(5).integers(0, 4, 300)
        make = partial(initialise, n_components=4, covariance_type=covariance_type)
        weighted = make(as_source(frames, counts.astype(np.float64)))
        copied = make(np.repeat(frames, counts, axis=0))
        order = np.argsort(weighted.means[:, 0]), np.argsort(copied.means[:, 0])
        np.testing.assert_allclose(weighted.weights[order[0]], copied.weights[order[1]], atol=1e-6)
        np.testing.assert_allclose(weighted.means[order[0]], copied.means[order[1]], atol=1e-4)
        np.testing.assert_allclose(weighted.variances[order[0]], copied.variances[order[1]], rtol=1e-3)


class TestOddFrames:
    @every_type
    @every_initialiser
    def test_more_components_than_distinct_frames(self, initialise, covariance_type):
        frames = np.repeat(clusters(n_frames=3), 40, axis=0)
        message = "8 components asked for, but only 3 distinct frames found: 3 components are used"
        with pytest.warns(SpeechGMMWarning, match=message) as caught:
            mixture = initialise(frames, 8, covariance_type=covariance_type)
        assert caught[0].filename == __file__ and len(caught) == 1
        assert mixture.n_components == 3
        # Splitting ends in EM: posteriors under whole matrices on their floor are not quite 0 and 1.
        np.testing.assert_allclose(mixture.weights, 1 / 3, atol=0.01 if initialise is split else 1e-9)
        expected = np.unique(frames, axis=0)
        tolerance = 0.05 if initialise is split else 1e-9
        np.testing.assert_allclose(mixture.means[np.argsort(mixture.means[:, 0])], expected, atol=tolerance)

    @every_initialiser
    def test_one_frame_for_several_components(self, initialise):
        with pytest.warns(SpeechGMMWarning, match="4 components asked for, but only 1 distinct frames found"):
            mixture = initialise(np.array([[3.0, -500.0]]), 4)
        np.testing.assert_allclose(mixture.means, [[3.0, -500.0]])
        assert (mixture.covariances > 0).all()

    def test_as_many_components_as_frames(self):
        frames = clusters(n_frames=6)
        mixture = kmeans(frames, 6)
        assert sorted(mixture.means[:, 0].round(5)) == sorted(frames[:, 0].round(5))

    @pytest.mark.parametrize("scale", [1e-15, 1e30])
    def test_values_of_any_size(self, scale):
        frames = clusters() * scale
        mixture = kmeans(frames, 8)
        assert mixture.n_components == 8
        assert error_of(frames, mixture.means) < 1.2 * error_of_scikit_learn(frames, 8, 0)

    @every_type
    @every_initialiser
    def test_outliers_leave_a_valid_mixture(self, initialise, covariance_type):
        frames = clusters()
        frames[3] = 1e6
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SpeechGMMWarning)
            mixture = initialise(frames, 8, covariance_type=covariance_type)
        assert isinstance(mixture, Mixture) and mixture.n_components >= 1

    @every_type
    @every_initialiser
    def test_a_constant_dimension_is_left_for_the_fit_to_report(self, initialise, covariance_type):
        frames = clusters()
        frames[:, 2] = 7.0
        mixture = initialise(frames, 8, covariance_type=covariance_type)
        np.testing.assert_allclose(mixture.means[:, 2], 7.0, rtol=1e-5)
        assert (mixture.variances[:, 2] > 0).all()

    @settings(max_examples=150, deadline=None)
    @given(
        frames=st.integers(1, 3).flatmap(
            lambda n_features: st.lists(
                st.lists(
                    st.sampled_from([0.0, 1.0, -1.0, 1.5, -500.0, 1e-3]),
                    min_size=n_features,
                    max_size=n_features,
                ),
                min_size=1,
                max_size=12,
            )
        ),
        n_components=st.integers(1, 6),
        covariance_type=st.sampled_from(TYPES),
        initialise=st.sampled_from(INITIALISERS),
        weighted=st.booleans(),
        seed=st.integers(0, 3),
    )
    def test_few_frames_of_any_kind(self, frames, n_components, covariance_type, initialise, weighted, seed):
        array = np.array(frames)
        weights = None
        if weighted:
            weights = np.arange(len(array)) % 3.0
            weights[0] = 1.0
        seen = array if weights is None else array[weights > 0]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SpeechGMMWarning)
            mixture = initialise(
                as_source(array, weights), n_components, covariance_type=covariance_type, seed=seed
            )
        # A mixture is finite, positive (definite), and its weights sum to 1, or it would not have been made.
        assert 1 <= mixture.n_components <= min(n_components, len(np.unique(seen, axis=0)))
        # No mean can lie outside of the frames; means of whitened frames are turned back in float64. Halves of a
        # component that was split after the last iteration of EM are up to a fifth of its deviation away.
        reach = 1e-6 * (1 + np.abs(seen).max())
        if initialise is split:
            reach = reach + 0.2 * np.ptp(seen, axis=0)
        assert (mixture.means >= seen.min(axis=0) - reach).all()
        assert (mixture.means <= seen.max(axis=0) + reach).all()

    def test_the_filters_of_warnings_are_left_alone(self, monkeypatch):
        # They belong to all threads: where classes are trained in several, one would undo the other's.
        frames, entered = clusters(), []
        with monkeypatch.context() as patch:
            patch.setattr(warnings, "catch_warnings", lambda: entered.append(1) or contextlib.nullcontext())
            patch.setattr(warnings, "simplefilter", lambda *arguments: entered.append(2))
            kmeans(frames, 3)
        assert entered == []


@every_initialiser
class TestRefusals:
    @pytest.mark.parametrize("n_components", [0, -1, 2.0, True, "8", None])
    def test_n_components(self, initialise, n_components):
        with pytest.raises(InputError, match=r"`n_components` is .*; it must be a whole number of 1 or more"):
            initialise(clusters(), n_components)

    def test_a_number_of_numpy_is_a_number(self, initialise):
        assert initialise(clusters(), np.int64(3)).n_components == 3

    def test_covariance_type(self, initialise):
        with pytest.raises(InputError, match="`covariance_type` is 'diagonal'; it must be one of diag"):
            initialise(clusters(), 3, covariance_type="diagonal")

    def test_frames(self, initialise):
        with pytest.raises(InputError, match="`frames` holds no frames; at least 1 is needed"):
            initialise(np.zeros((0, 3)), 2)
        with pytest.raises(InputError, match=r"`frames` has 1 dimensions.*use frames\[:, None\]"):
            initialise(np.zeros(10), 2)
        with pytest.raises(InputError, match="`frames` holds <U1 values; numbers are needed"):
            initialise(np.array([["a"]]), 2)
        frames = clusters()
        frames[1500, 4] = np.inf
        with pytest.raises(InputError, match="`frames` has the value inf at frame 1500, feature 4"):
            initialise(frames, 2)

    @pytest.mark.parametrize(
        "options",
        [
            {"variance_floor": -1.0},
            {"variance_floor": np.nan},
            {"reg_covar": -1.0},
            {"reg_covar": np.nan},
            {"seed": -1},
            {"seed": 1.0},
        ],
    )
    def test_options_out_of_range(self, initialise, options):
        with pytest.raises(InputError, match=f"`{next(iter(options))}`"):
            initialise(clusters(), 3, **options)


def test_refused_iterations():
    with pytest.raises(InputError, match="`max_iterations` is -1; it must not be negative"):
        kmeans(clusters(), 3, max_iterations=-1)
    with pytest.raises(InputError, match="`iterations` is 0; it must be 1 or more"):
        split(clusters(), 3, iterations=0)


def test_coordinates_are_those_of_all_frames():
    # The floor is a fraction of the variance of all frames, not of the sample's.
    frames = clusters(n_frames=3000)
    mixture = kmeans(frames, 1, variance_floor=1.0)
    measured = moments(frames)
    assert len(frames) > LLOYD_SAMPLE
    assert (mixture.covariances >= measured.variance * (1 - 1e-12)).all()
    assert isinstance(measured.coordinates(), Coordinates)
