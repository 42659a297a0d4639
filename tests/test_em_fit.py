"""em.fit: EM against scikit-learn and plain loops, and nothing degenerate gets out."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from speechgmm.em import fit as fit_module
from speechgmm.em.coordinates import Coordinates
from speechgmm.em.fit import FitResult, fit, run_em, usual_weight
from speechgmm.em.initialise import kmeans
from speechgmm.em.maximise import absolute_floor
from speechgmm.em.mixture import Mixture
from speechgmm.em.sources import SHARD, ArraySource
from speechgmm.em.statistics import Statistics, accumulate, moments
from speechgmm.errors import InputError, SpeechGMMWarning
from tests import naive

# What the engine promises, per frame: float32 products, summed over frames.
LARGEST_FALL = 1e-5
# Added to variances, as scikit-learn does: some of the full matrices need it.
REG_COVAR = 1e-2
TYPES = ["diag", "full", "tied", "spherical"]
NARROW = "float32 products lose the digits of components narrow beside their distance from the origin"


def clusters(seed=0, n_frames=600, n_features=3, n_clusters=3, deviation=0.5):
    rng = np.random.default_rng(seed)
    means = 2 * rng.standard_normal((n_clusters, n_features))
    noise = deviation * rng.standard_normal((n_frames, n_features))
    return means[rng.integers(n_clusters, size=n_frames)] + noise


def start_at(frames, n_components, seed=0, covariance_type="diag"):
    """A start that owes nothing to k-means: some of the frames, with everybody's variance."""
    rng = np.random.default_rng(seed)
    means = frames[rng.permutation(len(frames))[:n_components]].astype(np.float64)
    variances = frames.var(axis=0, dtype=np.float64)
    covariances = {
        "diag": np.tile(variances, (n_components, 1)),
        "full": np.tile(np.diag(variances), (n_components, 1, 1)),
        "tied": np.diag(variances),
        "spherical": np.full(n_components, variances.mean()),
    }
    weights = np.full(n_components, 1 / n_components)
    return Mixture(weights, means, covariances[covariance_type], covariance_type)


def falls(result):
    """How far the likelihood fell from one iteration to the next, where the history does not mark a re-seed."""
    changes = np.diff(result.history)
    marked = [iteration - 1 for iteration in result.reseeded if iteration <= len(changes)]
    return np.maximum(0.0, -np.delete(changes, marked))


def assert_valid(result, frames, least_variance=0.0):
    mixture = result.mixture
    for value in (mixture.weights, mixture.means, mixture.covariances, result.history):
        assert np.isfinite(value).all()
    assert mixture.weights.sum() == pytest.approx(1.0, abs=1e-9)
    assert mixture.weights.min() >= 0
    assert (mixture.variances > 0).all()
    # A spherical floor is the mean of those of the dimensions.
    least = np.mean(least_variance) if mixture.covariance_type == "spherical" else least_variance
    assert (mixture.variances >= least).all()
    assert mixture.n_features == frames.shape[1]
    assert np.isfinite(mixture.log_likelihoods(frames)).all()


class TestAgainstOthers:
    @pytest.mark.parametrize("covariance_type", TYPES)
    @pytest.mark.parametrize(("delta_orders", "n_components"), [(0, 8), (0, 16), (2, 4)])
    def test_scikit_learn_takes_the_same_steps_on_real_frames(
        self, speech_data, delta_orders, n_components, covariance_type
    ):
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture

        frames = naive.real_frames(speech_data, delta_orders).copy()
        start = kmeans(frames, n_components, variance_floor=1e-3, covariance_type=covariance_type)
        result = fit(frames, start, max_iterations=10, tolerance=0, variance_floor=0.0, reg_covar=REG_COVAR)
        assert result.n_iterations == 10 and not result.reseeded and not result.converged
        precisions = np.linalg.inv(start.covariances) if start.has_matrices else 1 / start.covariances
        peer = GaussianMixture(
            n_components,
            covariance_type=covariance_type,
            reg_covar=REG_COVAR,
            max_iter=1,
            warm_start=True,
            init_params="random",
            weights_init=start.weights,
            means_init=start.means,
            precisions_init=precisions,
        )
        double = frames.astype(np.float64)
        for iteration in range(1, 11):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                peer.fit(double)
            # float32 products against double precision; measured: 1.2e-6 at most, "spherical" 5.6e-6.
            assert result.history[iteration] == pytest.approx(peer.score(double), abs=1e-5)
        np.testing.assert_allclose(result.mixture.weights, peer.weights_, atol=1e-4)

    def test_plain_loops_take_the_same_steps(self):
        frames = clusters(deviation=1.0)[:250] - 500.0
        start = start_at(frames, 3)
        floor = np.array([0.0, 0.0, 2.0])  # reached in the last dimension
        result = fit(frames, start, max_iterations=6, tolerance=0, variance_floor=floor)
        mixture = start
        for iteration in range(7):
            expected = naive.mean_log_likelihood(mixture, frames)
            assert result.history[iteration] == pytest.approx(expected, abs=1e-5)
            if iteration < 6:
                mixture = Mixture(*naive.em_step(mixture, frames, floor))
        assert (result.mixture.covariances[:, 2] == 2.0).any()
        np.testing.assert_allclose(result.mixture.weights, mixture.weights, atol=1e-4)
        np.testing.assert_allclose(result.mixture.means, mixture.means, atol=1e-3)
        np.testing.assert_allclose(result.mixture.covariances, mixture.covariances, rtol=1e-3)

    def test_one_component_is_the_mean_and_the_variance(self):
        frames = clusters(n_frames=2000) + np.array([0, -500, 1e4])
        result = fit(frames, start_at(frames, 1))
        np.testing.assert_allclose(result.mixture.means[0], frames.mean(axis=0), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(result.mixture.covariances[0], frames.var(axis=0), rtol=1e-5)
        assert result.converged

    def test_clusters_are_found(self):
        frames = clusters(n_frames=3000, deviation=0.2)
        mixture = fit(frames, kmeans(frames, 3), tolerance=1e-6).mixture
        np.testing.assert_allclose(mixture.covariances, 0.04, rtol=0.15)
        # Every weight is near a third: 3000 frames, drawn evenly.
        np.testing.assert_allclose(mixture.weights, 1 / 3, atol=0.05)


class TestSteps:
    def test_the_history_is_the_likelihood_after_each_step(self):
        frames, seen = clusters(), []
        start = start_at(frames, 3)
        result = fit(
            frames, start, max_iterations=5, tolerance=0, on_iteration=lambda *news: seen.append(news)
        )
        assert seen == list(enumerate(result.history))
        assert result.n_iterations == 5 and len(result.history) == 6
        assert result.history[0] == pytest.approx(start.log_likelihoods(frames).mean(), abs=1e-5)
        assert result.history[-1] == pytest.approx(result.mixture.log_likelihoods(frames).mean(), abs=1e-5)
        shorter = fit(frames, start, max_iterations=2, tolerance=0)
        assert shorter.history == result.history[:3]

    def test_no_iterations_give_the_start_back(self):
        frames = clusters()
        start = start_at(frames, 3)
        result = fit(frames, start, max_iterations=0)
        assert result.mixture == start
        assert result.history == pytest.approx([start.log_likelihoods(frames).mean()], abs=1e-5)
        assert (result.n_iterations, result.converged, result.reseeded) == (0, False, ())

    def test_it_stops_when_the_change_is_below_the_tolerance(self):
        frames = clusters()
        result = fit(frames, start_at(frames, 3), tolerance=1e-2)
        changes = np.abs(np.diff(result.history))
        assert result.converged
        assert changes[-1] < 1e-2 and (changes[:-1] >= 1e-2).all()
        assert not fit(frames, start_at(frames, 3), tolerance=1e-2, max_iterations=1).converged

    def test_the_start_is_not_changed(self):
        frames = clusters()
        start = start_at(frames, 3)
        before = start.means.copy()
        fit(frames, start)
        np.testing.assert_array_equal(start.means, before)

    @pytest.mark.parametrize("covariance_type", TYPES)
    @pytest.mark.parametrize("n_jobs", [2, 3])
    def test_the_same_bits_on_any_number_of_threads(self, n_jobs, covariance_type):
        frames = clusters(n_frames=3 * SHARD + 100, n_features=4)
        start = start_at(frames, 4, covariance_type=covariance_type)
        one = fit(frames, start, max_iterations=3, tolerance=0)
        several = fit(frames, start, max_iterations=3, tolerance=0, n_jobs=n_jobs)
        assert several.mixture == one.mixture
        assert several.history == one.history

    @pytest.mark.parametrize("covariance_type", ["full", "tied"])
    def test_the_same_bits_on_any_number_of_blas_threads(self, covariance_type):
        frames = np.random.default_rng(0).standard_normal((1000, 110))
        start = start_at(frames, 2, covariance_type=covariance_type)
        found = []
        for limit in (1, 2):
            with threadpool_limits(limit, user_api="blas"):
                found.append(fit(frames, start, max_iterations=2, tolerance=0))
        assert found[0].mixture == found[1].mixture and found[0].history == found[1].history

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"max_iterations": -1}, "`max_iterations` is -1; it must not be negative"),
            ({"tolerance": -1e-3}, "`tolerance` is -0.001; it must not be negative"),
            ({"tolerance": np.nan}, "`tolerance` is nan; it must not be negative"),
            ({"variance_floor": [-1, 1, 1]}, r"`variance_floor` is \[-1, 1, 1\]; it must not be negative"),
            ({"reg_covar": -1e-9}, "`reg_covar` is -1e-09; it must not be negative"),
        ],
    )
    def test_options_out_of_range(self, options, match):
        frames = clusters()
        with pytest.raises(InputError, match=match):
            fit(frames, start_at(frames, 2), **options)

    @pytest.mark.parametrize("covariance_type", TYPES)
    def test_something_is_added_to_every_variance_at_every_step(self, covariance_type):
        frames = clusters()
        start = start_at(frames, 3, covariance_type=covariance_type)
        options = {"tolerance": 0, "variance_floor": 0.0}
        plain = fit(frames, start, max_iterations=1, **options).mixture
        more = fit(frames, start, max_iterations=1, reg_covar=0.5, **options).mixture
        np.testing.assert_allclose(more.variances, plain.variances + 0.5, rtol=1e-9)
        twice = fit(frames, start, max_iterations=2, reg_covar=0.5, **options)
        again = fit(frames, more, max_iterations=1, reg_covar=0.5, **options)
        assert twice.mixture == again.mixture and twice.history[1:] == again.history

    def test_frames_that_cannot_be_used(self):
        start = start_at(clusters(), 2)
        with pytest.raises(InputError, match="`frames` holds no frames; at least 1 is needed"):
            fit(np.zeros((0, 3)), start)
        with pytest.raises(InputError, match="`frames` has 2 features; the mixture has 3"):
            fit(np.ones((4, 2)) * [[1], [2], [3], [4]], start)
        with pytest.raises(InputError, match="`frames` has 1 dimensions"):
            fit(np.zeros(3), start)
        with pytest.raises(InputError, match="`frames` holds <U1 values"):
            fit(np.array([["a", "b", "c"]]), start)
        frames = clusters()
        frames[43, 1] = np.nan
        with pytest.raises(InputError, match="`frames` has the value nan at frame 43, feature 1"):
            fit(frames, start)


class TestWeights:
    def test_a_weight_of_two_is_two_frames(self):
        frames, start = clusters(), start_at(clusters(), 3)
        weights = np.random.default_rng(3).integers(0, 4, len(frames)).astype(np.float64)
        weighted = fit(ArraySource(frames, weights), start, tolerance=0, max_iterations=10)
        repeated = fit(np.repeat(frames, weights.astype(int), axis=0), start, tolerance=0, max_iterations=10)
        np.testing.assert_allclose(weighted.history, repeated.history, atol=1e-5)
        np.testing.assert_allclose(weighted.mixture.means, repeated.mixture.means, atol=1e-3)

    @pytest.mark.parametrize("covariance_type", TYPES)
    @pytest.mark.parametrize("factor", [2.0**-30, 0.1, 2.0**20, 1e9])
    def test_the_unit_of_weights_does_not_matter(self, factor, covariance_type):
        frames = clusters(n_frames=2000)
        start = with_lost_component(start_at(frames, 4, covariance_type=covariance_type))
        weights = np.random.default_rng(3).uniform(0.5, 2.0, len(frames))
        plain = fit(ArraySource(frames, weights), start, tolerance=0, max_iterations=10)
        scaled = fit(ArraySource(frames, factor * weights), start, tolerance=0, max_iterations=10)
        assert scaled.reseeded == plain.reseeded == (1,)
        np.testing.assert_allclose(scaled.history, plain.history, rtol=1e-6)
        np.testing.assert_allclose(scaled.mixture.means, plain.mixture.means, atol=1e-3)
        if np.log2(factor).is_integer():
            assert scaled.mixture == plain.mixture and scaled.history == plain.history

    def test_frames_without_weight_are_not_there(self):
        frames, start = clusters(), with_lost_component(start_at(clusters(), 3))
        weights = np.zeros(len(frames))
        weights[:200] = 1e-3
        few = fit(ArraySource(frames, weights), start, tolerance=0, max_iterations=5)
        alone = fit(frames[:200], start, tolerance=0, max_iterations=5)
        assert few.reseeded == alone.reseeded == (1,)
        np.testing.assert_allclose(few.history, alone.history, atol=1e-5)

    @pytest.mark.parametrize(
        ("weights", "expected"),
        [(None, 1.0), ([1.0, 1.0, 1.0], 1.0), ([0.25] * 3, 0.25), ([3.0, 0.0, 1.0], 2.0)],
    )
    def test_a_frame_counts_what_those_with_weight_count_on_average(self, weights, expected):
        assert usual_weight(ArraySource(np.ones((3, 2)), weights)) == expected


def with_lost_component(start):
    """The start with its second component so far away that it gets no frames."""
    means = start.means.copy()
    means[1] = 1e4
    return replace(start, means=means)


class TestLoop:
    """`run_em` with steps that only pretend."""

    @staticmethod
    def run(likelihoods, zeroth=(5.0, 5.0), **options):
        """The result and the weights of the mixtures that the E-step saw: after each M-step the first has less."""
        seen, left = [], iter(likelihoods)

        def e_step(mixture):
            seen.append(float(mixture.weights[0]))
            n = np.array(zeroth)
            return Statistics(
                n, np.zeros((2, 1)), n[:, None], next(left), 1.0, Coordinates(np.zeros(1), np.ones(1))
            )

        def m_step(statistics):
            weight = seen[-1] / 2
            return Mixture(np.array([weight, 1 - weight]), np.zeros((2, 1)), np.ones((2, 1)))

        start = Mixture(np.array([0.5, 0.5]), np.zeros((2, 1)), np.ones((2, 1)))
        options = {"max_iterations": 9, "tolerance": 0.5, **options}
        return run_em(e_step, m_step, start, **options), seen

    def test_steps_alternate_until_the_change_is_small(self):
        result, seen = self.run([-9.0, -7.0, -5.0, -4.75])
        assert seen == [0.5, 0.25, 0.125, 0.0625]
        assert result.mixture.weights[0] == 0.0625 and result.converged
        assert result.history == (-9.0, -7.0, -5.0, -4.75)

    def test_a_fall_is_a_change_too(self):
        assert self.run([-9.0, -7.0, -7.25])[0].converged
        assert not self.run([-9.0, -7.0, -9.0], max_iterations=2)[0].converged

    def test_it_stops_after_so_many_steps(self):
        result, seen = self.run(range(10), max_iterations=4)
        assert result.n_iterations == 4 and len(seen) == 5 and not result.converged

    @pytest.mark.parametrize(("usual", "reseeded"), [(1.0, ()), (4.0, (1, 2))])
    def test_what_a_frame_counts_decides_who_is_lost(self, usual, reseeded):
        result, _ = self.run(range(3), zeroth=(1.0, 90.0), usual_weight=usual, max_iterations=2)
        assert result.reseeded == reseeded


def odd_frames(seed, kind, n_frames, n_features):
    """Frames of the kinds that break EM programs."""
    rng = np.random.default_rng(seed)
    if kind == "copies":
        places = rng.standard_normal((rng.integers(1, 9), n_features))
        return places[rng.integers(len(places), size=n_frames)]
    if kind == "narrow":
        deviation = 10.0 ** rng.integers(-6, 0)
        return odd_frames(seed, "copies", n_frames, n_features) + deviation * rng.standard_normal(
            (n_frames, n_features)
        )
    if kind == "grid":
        return rng.integers(0, rng.integers(2, 7), size=(n_frames, n_features)).astype(np.float64)
    if kind == "heavy tails":
        return rng.standard_t(1.5, size=(n_frames, n_features))
    frames = rng.standard_normal((n_frames, n_features))
    if kind == "half zeros":
        frames[rng.random(frames.shape) < 0.5] = 0.0
    return frames


KINDS = ["normal", "copies", "narrow", "grid", "heavy tails", "half zeros"]
ANY_CASE = {
    "seed": st.integers(0, 10_000),
    "kind": st.sampled_from(KINDS),
    "n_frames": st.integers(1, 400),
    "n_features": st.integers(1, 20),
    "n_components": st.integers(1, 10),
    "exponent": st.integers(-10, 12),
    "offset": st.sampled_from([0.0, -500.0, 1e4]),
    "floor": st.sampled_from([1e-3, 1e-2, 0.1]),
    "covariance_type": st.sampled_from(TYPES),
}


def fit_odd_frames(seed, kind, n_frames, n_features, n_components, exponent, offset, floor, covariance_type):
    frames = odd_frames(seed, kind, n_frames, n_features) * 10.0**exponent + offset
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SpeechGMMWarning)
        start = kmeans(frames, n_components, seed=seed, variance_floor=floor, covariance_type=covariance_type)
        return frames, fit(frames, start, max_iterations=12, tolerance=0, variance_floor=floor)


class TestAnyFrames:
    @given(**ANY_CASE)
    @settings(max_examples=150, deadline=None, derandomize=True)
    def test_a_valid_mixture_comes_out(self, **case):
        frames, result = fit_odd_frames(**case)
        measured = moments(frames)
        varies = measured.variance > 1e-10 * np.maximum(measured.mean**2, 1e-20)
        least = np.where(varies, case["floor"] * measured.variance * (1 - 1e-9), 0.0)
        assert_valid(result, frames, least)
        assert result.mixture.n_components <= case["n_components"]
        assert len(result.reseeded) <= 2 * case["n_components"]

    @given(**ANY_CASE)
    @example(
        seed=1,
        kind="narrow",
        n_frames=9,
        n_features=20,
        n_components=9,
        exponent=0,
        offset=0.0,
        floor=1e-3,
        covariance_type="diag",
    )
    @settings(max_examples=150, deadline=None, derandomize=True)
    def test_the_likelihood_never_falls(self, **case):
        _, result = fit_odd_frames(**case)
        assert falls(result).max(initial=0.0) <= LARGEST_FALL

    @given(
        st.integers(0, 10_000),
        st.integers(200, 900),
        st.integers(1, 8),
        st.integers(1, 6),
        st.integers(-8, 8),
    )
    @settings(max_examples=60, deadline=None, derandomize=True)
    def test_the_likelihood_never_falls_on_clusters_that_overlap(
        self, seed, n_frames, n_features, n_components, exponent
    ):
        frames = 10.0**exponent * (clusters(seed, n_frames, n_features, deviation=1.0) - 50.0)
        result = fit(frames, start_at(frames, n_components, seed), max_iterations=15, tolerance=0)
        assert_valid(result, frames)
        assert falls(result).max() <= LARGEST_FALL

    @pytest.mark.parametrize("covariance_type", TYPES)
    def test_the_likelihood_never_falls_on_real_frames(self, speech_data, covariance_type):
        frames = naive.real_frames(speech_data).copy()
        for seed in range(2):
            start = start_at(frames, 12, seed, covariance_type)
            result = fit(frames, start, max_iterations=30, tolerance=0)
            assert falls(result).max() <= LARGEST_FALL


class TestNothingDegenerate:
    def test_a_constant_dimension(self):
        frames = clusters()
        frames[:, 1] = 5.0
        with pytest.warns(
            SpeechGMMWarning, match=r"^1 of 3 features do not vary \(the first is number 1\), or by less"
        ):
            result = fit(frames, start_at(clusters(), 3))
        assert_valid(result, frames)
        np.testing.assert_allclose(result.mixture.means[:, 1], 5.0, rtol=1e-5)

    @pytest.mark.parametrize("floor", [0.0, np.zeros(3)], ids=["number", "array"])
    def test_a_constant_dimension_without_a_floor(self, floor):
        frames = clusters()
        frames[:, 1] = 5.0
        with pytest.warns(SpeechGMMWarning, match="1 of 3 features do not vary"):
            result = fit(frames, start_at(clusters(), 3), variance_floor=floor)
        assert_valid(result, frames)

    def test_copies_of_few_frames(self):
        frames = np.repeat(clusters(n_frames=5), 20, axis=0)
        result = fit(frames, kmeans(frames, 5))
        assert_valid(result, frames)
        np.testing.assert_allclose(result.mixture.weights, 0.2, rtol=1e-5)

    @pytest.mark.parametrize("deviation", [0.0, 1e-6, 1e-4])
    def test_narrow_clusters_without_a_floor(self, deviation):
        frames = clusters(n_features=13, deviation=deviation)
        result = fit(
            frames, kmeans(frames, 3, variance_floor=0.0), variance_floor=0.0, tolerance=0, max_iterations=20
        )
        assert_valid(result, frames)
        assert falls(result).max() <= LARGEST_FALL

    def test_more_components_than_distinct_frames(self):
        frames = np.repeat(clusters(n_frames=3), 30, axis=0)
        with pytest.warns(SpeechGMMWarning, match="8 components asked for, but only 3 distinct frames found"):
            start = kmeans(frames, 8)
        result = fit(frames, start)
        assert result.mixture.n_components == 3
        assert_valid(result, frames)

    def test_one_frame(self):
        frames = np.array([[1.0, -500.0, 0.0]])
        start = kmeans(frames, 1)
        with pytest.warns(SpeechGMMWarning, match=r"3 of 3 features do not vary \(the first is number 0\)"):
            result = fit(frames, start)
        assert_valid(result, frames)
        np.testing.assert_allclose(result.mixture.means, frames)

    @pytest.mark.parametrize(("n_frames", "n_components"), [(1, 3), (2, 8)])
    def test_fewer_frames_than_half_the_components(self, n_frames, n_components):
        frames = clusters(n_frames=n_frames)
        same = Mixture(
            np.full(n_components, 1 / n_components), np.zeros((n_components, 3)), np.ones((n_components, 3))
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SpeechGMMWarning)
            result = fit(frames, same)
        assert_valid(result, frames)

    @pytest.mark.parametrize("size", [1e6, 1e12, 1e30])
    def test_outliers(self, size):
        frames = clusters(n_frames=2000)
        frames[::700] *= size
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SpeechGMMWarning)
            start = kmeans(frames, 4)
        with pytest.warns(
            SpeechGMMWarning, match=r"one of 2000 frames makes \d+% of the variance of feature"
        ):
            result = fit(frames, start, max_iterations=10)
        assert_valid(result, frames)

    def test_among_few_frames_one_may_stand_out_without_a_warning(self):
        frames = clusters(n_frames=60)
        # Most of the variance, and yet fewer than 8 deviations from the mean.
        frames[7] += 100 * frames.std(axis=0)
        assert_valid(fit(frames, start_at(frames, 2), max_iterations=3), frames)

    @pytest.mark.parametrize("size", [1e6, 1e12, 1e30])
    @pytest.mark.filterwarnings("ignore:one of 2000 frames makes")
    def test_a_start_that_does_not_know_of_the_outliers(self, size):
        frames = clusters(n_frames=2000)
        start = start_at(frames, 4)
        frames[::700] *= size
        assert_valid(fit(frames, start, max_iterations=10), frames)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("scale", [1e30, 1e-10, 1e-15])
    def test_the_unit_of_measurement_does_not_matter(self, scale, dtype):
        plain = clusters().astype(dtype)
        frames = (plain * dtype(scale)).astype(dtype)
        here = fit(frames, start_at(frames, 3), max_iterations=5, tolerance=0)
        there = fit(plain, start_at(plain, 3), max_iterations=5, tolerance=0)
        assert_valid(here, frames)
        # Scales are rounded to powers of two, so other digits are lost.
        np.testing.assert_allclose(np.array(here.history) + 3 * np.log(scale), there.history, atol=1e-4)

    @pytest.mark.parametrize("scale", [1e45, 1e100])
    def test_values_beyond_float32_are_refused(self, scale):
        with pytest.raises(InputError, match="so large"):
            fit(clusters() * scale, start_at(clusters(), 3))

    @pytest.mark.parametrize("offset", [1e4, -1e4])
    def test_an_offset_changes_nothing_but_the_means(self, offset):
        plain = clusters()
        here = fit(plain + offset, kmeans(plain + offset, 3))
        there = fit(plain, kmeans(plain, 3))
        np.testing.assert_allclose(here.mixture.means - offset, there.mixture.means, atol=1e-3)
        np.testing.assert_allclose(here.history, there.history, atol=1e-4)


class TestReseed:
    @pytest.mark.parametrize("place", [100.0, 1e4, -1e12])
    def test_a_component_that_lost_its_frames_is_replaced(self, place):
        frames = clusters()
        near = start_at(frames, 3)
        means = near.means.copy()
        means[1] = place
        start = Mixture(near.weights, means, near.covariances)
        result = fit(frames, start, tolerance=1e-5)
        assert result.reseeded == (1,)
        assert result.mixture.n_components == 3
        assert (accumulate(result.mixture, frames).zeroth > 2).all()  # not one stays useless
        assert np.abs(result.mixture.means).max() < 10
        assert_valid(result, frames)
        assert falls(result).max() <= LARGEST_FALL

    def test_it_does_not_go_on_for_ever(self, monkeypatch):
        frames = clusters()
        lost = Mixture(np.full(3, 1 / 3), np.array([[0.0] * 3, [1e4] * 3, [1.0] * 3]), np.ones((3, 3)))
        answers = []

        def reseed_in_vain(mixture, zeroth, allowed):
            answers.append(allowed)
            return lost if allowed else mixture.keep(zeroth > 0.5)

        monkeypatch.setattr(fit_module, "reseed", reseed_in_vain)
        result = fit(frames, lost, max_iterations=30)
        assert answers == [True, True, True, False]
        assert result.reseeded == (1, 2, 3, 4)
        assert result.mixture.n_components == 2
        assert_valid(result, frames)
        assert falls(result).max() <= LARGEST_FALL

    @pytest.mark.parametrize("seed", range(20))
    def test_more_components_than_places(self, seed):
        rng = np.random.default_rng(seed)
        places = rng.standard_normal((3, 3))
        frames = places[rng.integers(3, size=40)]
        start = Mixture(np.full(8, 0.125), 3 * rng.standard_normal((8, 3)), np.ones((8, 3)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SpeechGMMWarning)
            result = fit(frames, start, tolerance=0, max_iterations=60)
        assert_valid(result, frames)
        assert len(result.reseeded) <= 16

    def test_the_loop_does_not_stop_right_after_a_reseed(self):
        # Far beyond any change, so the first change after the re-seed would look like convergence.
        frames = clusters()
        means = start_at(frames, 3).means.copy()
        means[0] = 1e4
        result = fit(frames, Mixture(np.full(3, 1 / 3), means, np.ones((3, 3))), tolerance=1e9)
        assert result.reseeded == (1,) and result.n_iterations == 2 and result.converged


def test_floors_of_dimensions_that_do_not_vary():
    frames = clusters()
    frames[:, 0] = 0.0
    measured = moments(frames)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SpeechGMMWarning)
        np.testing.assert_allclose(absolute_floor(measured, 0.01), [0.01, *(0.01 * measured.variance[1:])])
        assert absolute_floor(measured, np.array([0.0, 0.5, 0.0])).tolist() == [1e-3, 0.5, 0.0]


def test_a_result_counts_its_steps():
    mixture = Mixture(np.ones(1), np.zeros((1, 1)), np.ones((1, 1)))
    assert FitResult(mixture, (-2.0, -1.0, -0.5), True, ()).n_iterations == 2
