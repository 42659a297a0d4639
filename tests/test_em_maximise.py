"""em.maximise: the M-step against an optimiser, plain loops and scikit-learn; floors, and components without frames."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from speechgmm.em.coordinates import Coordinates
from speechgmm.em.maximise import absolute_floor, maximise, reseed
from speechgmm.em.mixture import Mixture
from speechgmm.em.moments import moments
from speechgmm.em.sources import as_source
from speechgmm.em.statistics import accumulate
from speechgmm.errors import SpeechGMMWarning
from tests import naive

every_type = pytest.mark.parametrize("covariance_type", naive.COVARIANCE_TYPES)


def random_case(seed=0, covariance_type="diag", n_frames=200, n_components=3, n_features=3, offset=0.0):
    """A mixture, and frames that are not quite its own."""
    weights, means, covariances = naive.random_parts(seed, covariance_type, n_components, n_features)
    mixture = Mixture(weights, means + offset, covariances, covariance_type)
    rng = np.random.default_rng(seed)
    return mixture, mixture.sample(n_frames, seed) + 0.5 * rng.standard_normal((n_frames, n_features))


def assert_close(mixture, weights, means, covariances, rtol):
    np.testing.assert_allclose(mixture.weights, weights, rtol=rtol)
    np.testing.assert_allclose(mixture.means, means, rtol=rtol, atol=rtol * np.abs(means).max())
    np.testing.assert_allclose(
        mixture.covariances, covariances, rtol=rtol, atol=rtol * np.abs(covariances).max()
    )


class TestOptimum:
    """Against a numerical optimiser of the expected complete log-likelihood."""

    @staticmethod
    def expected_log_likelihood(gamma, frames, weights, means, matrices):
        """Q, what an M-step maximises, per frame."""
        densities = [
            np.log(w) + multivariate_normal(m, s).logpdf(frames)
            for w, m, s in zip(weights, means, matrices, strict=True)
        ]
        return float((gamma * np.transpose(densities)).sum() / len(frames))

    @staticmethod
    def unpack(values, kind, floor, K, D):
        """Parameters without constraints as weights, means and matrices: each of them the floor and more."""
        weights = np.exp(values[:K] - values[:K].max())
        means = values[K : K + K * D].reshape(K, D)
        rest = values[K + K * D :]
        if kind == "diag":
            matrices = [np.diag(v) for v in np.diag(floor) + rest.reshape(K, D) ** 2]
        elif kind == "spherical":
            matrices = [(np.diag(floor).mean() + v * v) * np.eye(D) for v in rest]
        else:
            factors = rest.reshape(-1, D, D)
            matrices = [floor + factor @ factor.T for factor in factors] * (K if kind == "tied" else 1)
        return weights / weights.sum(), means, matrices

    @pytest.mark.parametrize(
        ("covariance_type", "floor"),
        [(kind, floor) for kind in naive.COVARIANCE_TYPES for floor in (0.0, 0.6, np.array([0.1, 3.0]))]
        + [(kind, np.array([[1.0, 0.9], [0.9, 1.0]])) for kind in ("full", "tied")],
        ids=str,
    )
    def test_no_optimiser_finds_better(self, covariance_type, floor):
        K, D = 2, 2
        mixture, frames = random_case(3, covariance_type, 40, K, D)
        gamma = naive.posteriors(mixture, frames)
        found = maximise(accumulate(mixture, frames), floor)
        matrices = np.array(naive.matrices_of(found))
        best = self.expected_log_likelihood(gamma, frames, found.weights, found.means, matrices)
        matrix = floor if np.ndim(floor) == 2 else np.diag(np.broadcast_to(floor, D)).astype(float)
        n_rest = {"diag": K * D, "spherical": K, "tied": D * D, "full": K * D * D}[covariance_type]
        rest = np.tile(np.eye(D).ravel(), K)[:n_rest] if n_rest % (D * D) == 0 else np.ones(n_rest)
        start = np.concatenate(
            [np.zeros(K), frames.mean(axis=0) + mixture.means.ravel().reshape(K, D)], axis=None
        )
        result = minimize(
            lambda values: (
                -self.expected_log_likelihood(
                    gamma, frames, *self.unpack(values, covariance_type, matrix + 1e-9 * np.eye(D), K, D)
                )
            ),
            np.concatenate([start, rest + 0.1]),
            method="BFGS",
            options={"gtol": 1e-6},
        )
        # The optimiser comes from below, to the accuracy of its differences.
        assert -result.fun <= best + 1e-9
        assert -result.fun == pytest.approx(best, abs=1e-5)
        weights, means, others = self.unpack(result.x, covariance_type, matrix, K, D)
        np.testing.assert_allclose(found.weights, weights, atol=1e-3)
        np.testing.assert_allclose(found.means, means, atol=1e-2)
        np.testing.assert_allclose(matrices, others, atol=2e-2)

    @every_type
    def test_a_floor_acts(self, covariance_type):
        # Or the cases above would show little: in each some direction lies on the floor, some above it.
        mixture, frames = random_case(3, covariance_type, 40, 2, 2)
        free, floored = (
            np.linalg.eigvalsh(naive.matrices_of(maximise(accumulate(mixture, frames), floor)))
            for floor in (0.0, np.median(maximise(accumulate(mixture, frames)).variances))
        )
        assert (floored >= free - 1e-9).all() and (floored > free + 1e-3).any()


class TestAgainstOthers:
    @every_type
    @given(
        st.integers(0, 10_000),
        st.integers(5, 80),
        st.integers(1, 5),
        st.integers(1, 4),
        st.sampled_from([0.0, -500.0]),
        st.sampled_from([0.0, 0.3, 2.0]),
        st.booleans(),
    )
    @settings(max_examples=30, deadline=None, derandomize=True)
    def test_plain_loops(
        self, covariance_type, seed, n_frames, n_features, n_components, offset, floor, weighted
    ):
        mixture, frames = random_case(seed, covariance_type, n_frames, n_components, n_features, offset)
        rng = np.random.default_rng(seed)
        weights = rng.integers(0, 3, n_frames) + (np.arange(n_frames) == 0) if weighted else None
        floors = floor * rng.uniform(0.5, 2.0, n_features) + 1e-3
        expected = naive.em_step(mixture, frames, floors, weights)
        found = maximise(accumulate(mixture, as_source(frames, weights)), floors)
        # So few frames are handled in double precision; masses may be as small as a part of one frame.
        assert_close(found, *expected, rtol=1e-6)

    @every_type
    @pytest.mark.parametrize("reg_covar", [0.0, 0.7])
    def test_scikit_learn_on_real_frames(self, speech_data, covariance_type, reg_covar):
        frames = naive.real_frames(speech_data, 0)
        double = frames.astype(np.float64)
        rng = np.random.default_rng(0)
        means = double[rng.permutation(len(frames))[:5]]
        covariance = np.cov(double.T)
        covariances = {
            "diag": np.tile(np.diag(covariance), (5, 1)),
            "full": np.tile(covariance, (5, 1, 1)),
            "tied": covariance,
            "spherical": np.full(5, np.diag(covariance).mean()),
        }[covariance_type]
        mixture = Mixture(np.full(5, 0.2), means, covariances, covariance_type)
        peer = naive.peer_of(mixture)
        peer.reg_covar = reg_covar
        _, log_posteriors = peer._e_step(double)
        peer._m_step(double, log_posteriors)
        found = maximise(accumulate(mixture, frames), reg_covar=reg_covar)
        # float32 products against double precision.
        assert_close(found, peer.weights_, peer.means_, peer.covariances_, rtol=2e-5)

    @every_type
    def test_second_moments_are_the_way_back(self, covariance_type):
        mixture, frames = random_case(1, covariance_type)
        statistics = accumulate(mixture, frames)
        means = statistics.first / statistics.zeroth[:, None]
        covariances = mixture.type.estimate(statistics.zeroth, means, statistics.second)
        back = mixture.type.second_moments(statistics.zeroth, means, covariances)
        np.testing.assert_allclose(back, statistics.second, rtol=1e-9, atol=1e-9)

    @every_type
    def test_what_is_added_comes_after_the_floor(self, covariance_type):
        statistics = accumulate(*random_case(1, covariance_type))
        plain, more = maximise(statistics, 2.0), maximise(statistics, 2.0, 0.25)
        added = np.array(naive.matrices_of(more)) - naive.matrices_of(plain)
        np.testing.assert_allclose(added, np.broadcast_to(0.25 * np.eye(3), (3, 3, 3)), atol=1e-12)

    @every_type
    def test_one_component_is_the_mean_and_the_covariance(self, covariance_type):
        mixture, frames = random_case(2, covariance_type, 2000, 1)
        frames = frames + np.array([0.0, -500.0, 1e4])
        found = maximise(accumulate(mixture, frames))
        covariance = np.cov(frames.T, bias=True)
        expected = {"diag": np.diag(covariance)[None], "full": covariance[None], "tied": covariance}
        expected = expected.get(covariance_type, np.array([np.diag(covariance).mean()]))
        np.testing.assert_allclose(found.means[0], frames.mean(axis=0), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(found.covariances, expected, rtol=1e-5, atol=1e-5)

    @every_type
    def test_it_does_not_depend_on_the_coordinates(self, covariance_type):
        mixture, frames = random_case(4, covariance_type, 600, offset=-500.0)
        frames = frames - 3.0
        one = maximise(accumulate(mixture, frames))
        other = maximise(accumulate(mixture, frames, Coordinates(np.full(3, -498.0), np.full(3, 4.0))))
        # Digits are lost in the compiled pass, in both.
        assert_close(one, other.weights, other.means, other.covariances, rtol=1e-4)


class TestFloors:
    @every_type
    @pytest.mark.parametrize("floor", [1e-3, 0.5, 3.0])
    def test_none_falls_short(self, covariance_type, floor):
        mixture, frames = random_case(5, covariance_type)
        absolute = absolute_floor(moments(frames, covariance=True), floor, covariance_type)
        found = maximise(accumulate(mixture, frames), absolute)
        least = absolute if absolute.ndim == 2 else np.diag(absolute)
        if covariance_type == "spherical":
            least = np.eye(3) * absolute.mean()
        for matrix in naive.matrices_of(found):
            # No direction has less: the difference has no negative eigenvalue, to rounding.
            assert np.linalg.eigvalsh(matrix - least).min() >= -1e-9

    @every_type
    def test_a_number_is_a_fraction_of_the_frames_own(self, covariance_type):
        _, frames = random_case(6)
        measured = moments(frames, covariance=True)
        expected = 0.25 * (
            np.cov(frames.T, bias=True) if covariance_type in ("full", "tied") else frames.var(axis=0)
        )
        np.testing.assert_allclose(
            absolute_floor(measured, 0.25, covariance_type), expected, rtol=1e-9, atol=1e-12
        )

    @every_type
    def test_an_array_is_the_floor_itself(self, covariance_type):
        measured = moments(random_case(6)[1], covariance=True)
        floor = np.array([0.3, 0.0, 0.02])
        np.testing.assert_array_equal(absolute_floor(measured, floor, covariance_type), floor)
        mixture, frames = random_case(6, covariance_type)
        found = maximise(accumulate(mixture, frames), 50 * floor)
        if covariance_type == "spherical":
            np.testing.assert_allclose(found.covariances, 50 * floor.mean(), rtol=1e-6)
        else:
            assert (found.variances[:, 0] >= 15.0 * (1 - 1e-9)).all()
            assert (found.variances[:, 2] >= 1.0 * (1 - 1e-9)).all()
            assert found.variances[:, 1].min() < 5  # left alone

    @every_type
    def test_of_dimensions_that_do_not_vary(self, covariance_type):
        frames = random_case(7)[1]
        frames[:, 0] = 0.0
        measured = moments(frames, covariance=True)
        floor = absolute_floor(measured, 0.01, covariance_type)
        variances = np.diag(floor) if floor.ndim == 2 else floor
        np.testing.assert_allclose(variances, [0.01, *(0.01 * measured.variance[1:])], rtol=1e-9)
        given_ = absolute_floor(measured, np.array([0.0, 0.5, 0.0]), covariance_type)
        assert given_.tolist() == [1e-3, 0.5, 0.0]

    @every_type
    def test_nothing_is_below_what_rounding_leaves(self, covariance_type):
        mixture, frames = random_case(8, covariance_type, n_components=1)
        frames[:] = frames[0]
        coordinates = Coordinates(np.zeros(3), np.full(3, 4.0))
        found = maximise(accumulate(mixture, frames, coordinates))
        # A millionth of the squared scale.
        np.testing.assert_allclose(found.variances, 16e-6, rtol=1e-9)


class TestDead:
    @every_type
    def test_a_component_without_frames_has_no_weight(self, covariance_type):
        mixture, frames = random_case(9, covariance_type, n_components=2)
        coordinates = Coordinates(np.array([10.0, 0.0, -4.0]), np.full(3, 2.0))
        lone = Mixture(
            mixture.weights, mixture.means + np.array([[0.0], [1e9]]), mixture.covariances, covariance_type
        )
        statistics = accumulate(lone, frames, coordinates)
        assert statistics.zeroth[1] == 0
        found = maximise(statistics)
        np.testing.assert_allclose(found.weights, [1.0, 0.0])
        np.testing.assert_allclose(found.means, [frames.mean(axis=0), [10.0, 0.0, -4.0]], rtol=1e-9)
        of_dead = np.cov(frames.T, bias=True) if covariance_type == "tied" else 4.0 * np.eye(3)
        np.testing.assert_allclose(naive.matrices_of(found)[1], of_dead, rtol=1e-9, atol=1e-9)

    @pytest.mark.parametrize("share", [1e-300, 1e-30, 1e-6])
    @every_type
    def test_next_to_nothing_will_do(self, covariance_type, share):
        statistics = accumulate(*random_case(10, covariance_type, n_components=2))
        factors = np.array([1.0, share])
        of_each = factors if covariance_type == "spherical" else factors[:, None]
        of_each = of_each[:, None] if covariance_type == "full" else of_each
        few = replace(
            statistics,
            zeroth=statistics.zeroth * factors,
            first=statistics.first * factors[:, None],
            second=statistics.second * (1.0 if covariance_type == "tied" else of_each),
        )
        found, whole = maximise(few), maximise(statistics)
        np.testing.assert_allclose(found.means, whole.means, rtol=1e-9, atol=1e-12)
        if covariance_type != "tied":
            np.testing.assert_allclose(found.covariances, whole.covariances, rtol=1e-9, atol=1e-12)


class TestReseed:
    @every_type
    def test_the_heaviest_gives_half(self, covariance_type):
        mixture, _ = random_case(11, covariance_type)
        heavy = Mixture(np.array([0.1, 0.6, 0.3]), mixture.means, mixture.covariances, covariance_type)
        replaced = reseed(heavy, np.array([0.1, 60.0, 30.0]))
        assert replaced.covariance_type == covariance_type
        # The dead one's own weight is shared out among all.
        np.testing.assert_allclose(replaced.weights, np.array([0.3, 0.3, 0.3]) / 0.9)
        np.testing.assert_array_equal(replaced.means[2], heavy.means[2])
        np.testing.assert_allclose(replaced.means[:2].mean(axis=0), heavy.means[1], rtol=1e-12)
        matrices, before = naive.matrices_of(replaced), naive.matrices_of(heavy)
        np.testing.assert_array_equal(matrices, [before[1], before[1], before[2]])
        # A fifth of a deviation to either side: along each of the three axes of the component's own.
        step = replaced.means[0] - heavy.means[1]
        assert step @ np.linalg.solve(before[1], step) == pytest.approx(3 * 0.2**2, rel=1e-9)

    def test_the_halves_of_plain_numbers(self):
        mixture = Mixture(
            np.array([0.1, 0.6, 0.3]), np.array([[0.0], [10.0], [20.0]]), np.array([[1.0], [4.0], [9.0]])
        )
        replaced = reseed(mixture, np.array([0.1, 60.0, 30.0]))
        np.testing.assert_allclose(replaced.means, [[10.4], [9.6], [20.0]])
        assert replaced.covariances.tolist() == [[4.0], [4.0], [9.0]]

    @every_type
    def test_several_dead_ones_split_the_heaviest_in_turn(self, covariance_type):
        mixture, _ = random_case(12, covariance_type, n_components=4)
        replaced = reseed(mixture, np.array([0.0, 0.0, 0.0, 80.0]))
        np.testing.assert_allclose(replaced.weights, 0.25)
        assert len(np.unique(replaced.means, axis=0)) == 4

    @every_type
    @pytest.mark.parametrize(("allowed", "frames"), [(False, 60.0), (True, 1.9)])
    def test_otherwise_the_dead_are_dropped_with_a_warning(self, covariance_type, allowed, frames):
        mixture, _ = random_case(13, covariance_type, n_components=2)
        with pytest.warns(
            SpeechGMMWarning, match=r"1 of 2 components found no frames and were dropped \(more comp"
        ):
            left = reseed(mixture, np.array([0.1, frames]), allowed)
        assert left == mixture.keep(np.array([1]))

    @every_type
    def test_the_living_stay_as_they_are(self, covariance_type):
        mixture, _ = random_case(14, covariance_type)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            left = reseed(mixture, np.array([0.5, 3.0, 1.0]))
        np.testing.assert_array_equal(left.means, mixture.means)
        np.testing.assert_array_equal(left.covariances, mixture.covariances)
        np.testing.assert_allclose(left.weights, mixture.weights, rtol=1e-12)
