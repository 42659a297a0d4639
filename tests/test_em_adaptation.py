"""em.adaptation: relevance MAP against plain loops, limits with known answers, and an objective that never falls."""

import copy
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechgmm.em.adaptation import Adaptation, adapt, adapt_to_frames
from speechgmm.em.coordinates import Coordinates
from speechgmm.em.maximise import maximise
from speechgmm.em.mixture import Mixture
from speechgmm.em.moments import moments_of
from speechgmm.em.sources import BlockSource
from speechgmm.em.statistics import accumulate
from speechgmm.errors import InputError
from tests import naive

ALL = ("means", "variances", "weights")
OWN = ("diag", "full", "spherical")  # kinds whose components have covariances of their own
every_type = pytest.mark.parametrize("covariance_type", naive.COVARIANCE_TYPES)
own_types = pytest.mark.parametrize("covariance_type", OWN)
every_choice = pytest.mark.parametrize(
    "parts", [("means",), ("variances",), ("weights",), ("means", "variances"), ("means", "weights"), ALL]
)


def random_case(seed=0, covariance_type="diag", n_frames=120, n_components=3, n_features=3, offset=0.0):
    """A prior, and frames that are not quite its own."""
    weights, means, covariances = naive.random_parts(seed, covariance_type, n_components, n_features)
    prior = Mixture(weights, means + offset, covariances, covariance_type)
    rng = np.random.default_rng(seed)
    frames = prior.sample(n_frames, seed) + 0.7 + 0.5 * rng.standard_normal((n_frames, n_features))
    return prior, frames


def statistics_of(prior, frames):
    """Under the prior, in the coordinates that suit it."""
    return accumulate(prior, frames, moments_of(prior).coordinates(prior.covariance_type))


def assert_parts(mixture, weights, means, covariances, rtol):
    np.testing.assert_allclose(mixture.weights, weights, rtol=rtol)
    np.testing.assert_allclose(mixture.means, means, rtol=rtol, atol=rtol * np.abs(means).max())
    np.testing.assert_allclose(
        mixture.covariances, covariances, rtol=rtol, atol=rtol * np.abs(covariances).max()
    )


def assert_same_bits(one, other, *names):
    for name in names or ("weights", "means", "covariances"):
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes(), name


class TestAgainstLoops:
    @own_types
    @every_choice
    @given(st.integers(0, 10_000), st.integers(2, 60), st.sampled_from([0.5, 4.0, 16.0, 100.0]))
    @settings(max_examples=6, deadline=None)
    def test_of_all_frames_and_relevance_factors(self, covariance_type, parts, seed, n_frames, factor):
        prior, frames = random_case(seed, covariance_type, n_frames)
        found = adapt(prior, statistics_of(prior, frames), factor, parts)
        # So few frames go through float64 alone: what is left is rounding of raw moments in the loops.
        assert_parts(found, *naive.adapted(prior, frames, factor, parts), rtol=1e-9)

    @own_types
    def test_of_frames_in_float32_far_from_zero(self, covariance_type):
        # Raw cepstra: C0 near -500. More frames than are taken exactly, so products are in float32.
        prior, frames = random_case(5, covariance_type, 700, offset=-500.0)
        found = adapt(prior, statistics_of(prior, frames.astype(np.float32)), 16.0, ALL)
        expected = naive.adapted(prior, frames.astype(np.float32), 16.0, ALL)
        np.testing.assert_allclose(found.weights, expected[0], rtol=1e-5)
        np.testing.assert_allclose(found.means - prior.means, expected[1] - prior.means, atol=1e-5)
        np.testing.assert_allclose(found.covariances, expected[2], rtol=1e-5, atol=1e-5)

    def test_tied_means_and_weights(self):
        prior, frames = random_case(3, "tied", 50)
        found = adapt(prior, statistics_of(prior, frames), 8.0, ("means", "weights"))
        untied = prior.with_type("full")
        weights, means, _ = naive.adapted(untied, frames, 8.0, ("means", "weights"))
        assert_parts(found, weights, means, prior.covariances, rtol=1e-9)
        assert_same_bits(found, prior, "covariances")

    def test_a_case_by_hand(self):
        # One component, frames 2 and 6 around 0 with variance 4; n = 2 and r = 2, so everything moves half way.
        prior = Mixture([1.0], [[0.0]], [[4.0]])
        statistics = statistics_of(prior, np.array([[2.0], [6.0]]))
        both = adapt(prior, statistics, 2.0, ("means", "variances"))
        assert both.means[0, 0] == pytest.approx(2.0, rel=1e-12)  # half of 4
        # Halves of 4 + 2² (about the new mean) on both sides: E[x²] = ½ 20 + ½ 4 = 12, less 2².
        assert both.covariances[0, 0] == pytest.approx(8.0, rel=1e-12)
        # About the mean that stays: ½ (4 + 4²) + ½ 4.
        still = adapt(prior, statistics, 2.0, ("variances",))
        assert still.covariances[0, 0] == pytest.approx(12.0, rel=1e-12)
        assert still.means[0, 0] == 0.0

    def test_variances_alone_stay_positive_where_the_raw_equation_would_not(self):
        # Eq. 13 with the means of the prior: a E[x²] + (1 - a)(σ² + μ²) - μ², with x = 0 and μ = 10.
        prior = Mixture([1.0], [[10.0]], [[1.0]])
        found = adapt(prior, statistics_of(prior, np.zeros((16, 1))), 16.0, ("variances",))
        raw = 0.5 * 0.0 + 0.5 * (1.0 + 100.0) - 100.0
        assert raw < 0
        assert found.covariances[0, 0] == pytest.approx(0.5 * 100.0 + 0.5 * 1.0, rel=1e-9)


class TestLimits:
    @own_types
    def test_at_no_relevance_it_is_the_most_likely(self, covariance_type):
        prior, frames = random_case(1, covariance_type)
        statistics = statistics_of(prior, frames)
        found, expected = adapt(prior, statistics, 0.0, ALL), maximise(statistics)
        assert_same_bits(found, expected, "means")
        assert_parts(found, expected.weights, expected.means, expected.covariances, rtol=1e-12)

    @every_type
    def test_means_at_no_relevance(self, covariance_type):
        prior, frames = random_case(1, covariance_type)
        statistics = statistics_of(prior, frames)
        found = adapt(prior, statistics, 0)
        assert_same_bits(found, maximise(statistics), "means")
        assert_same_bits(found, prior, "weights", "covariances")

    def test_the_most_likely_is_met_exactly_however_far_the_prior_is(self):
        prior = Mixture([1.0], [[1e8 / 3]], [[1e16]])
        statistics = accumulate(prior, np.array([[0.1], [0.3]]), Coordinates(np.zeros(1), np.ones(1)))
        assert adapt(prior, statistics, 0.0).means[0, 0] == statistics.first[0, 0] / statistics.zeroth[0]

    @own_types
    @every_choice
    def test_at_infinite_relevance_it_is_the_prior(self, covariance_type, parts):
        prior, frames = random_case(1, covariance_type)
        assert_same_bits(adapt(prior, statistics_of(prior, frames), math.inf, parts), prior)

    @own_types
    @pytest.mark.parametrize("factor", [0.0, 16.0])
    @pytest.mark.parametrize("n_frames", [200, 600])
    def test_components_without_frames_keep_their_bits(self, covariance_type, factor, n_frames):
        weights, means, covariances = naive.random_parts(2, covariance_type)
        means[2] += 1e4  # far from all frames
        prior = Mixture(weights, means, covariances, covariance_type)
        near = prior.keep(np.array([0, 1, 3]))
        # Compiled passes give it a trace of each frame, the exact way nothing.
        statistics = statistics_of(prior, near.sample(n_frames, 1).astype(np.float32))
        assert (statistics.zeroth[2] == 0) == (n_frames == 200)
        found = adapt(prior, statistics, factor, ("means", "variances"))
        assert found.means[2].tobytes() == prior.means[2].tobytes()
        assert found.covariances[2].tobytes() == prior.covariances[2].tobytes()
        assert (found.means[[0, 1, 3]] != prior.means[[0, 1, 3]]).all()
        assert_same_bits(found, prior, "weights")
        # Its weight is scaled, and no more.
        scaled = adapt(prior, statistics, factor, ("weights",)).weights
        shares = statistics.zeroth / n_frames
        alpha = statistics.zeroth / (statistics.zeroth + factor + 1e-300)
        alpha[2] = 0.0
        expected = alpha * shares + (1 - alpha) * prior.weights
        np.testing.assert_allclose(scaled, expected / expected.sum(), rtol=1e-6)

    @every_type
    def test_no_frames_at_all_give_the_prior(self, covariance_type):
        prior, frames = random_case(1, covariance_type)
        nothing = statistics_of(prior, frames).scaled(0.0)
        parts = ("means", "weights") if covariance_type == "tied" else ALL
        for factor in (0.0, 16.0):
            assert_same_bits(adapt(prior, nothing, factor, parts), prior)

    def test_more_frames_move_a_mean_farther(self):
        prior, frames = random_case(4)
        statistics = statistics_of(prior, frames)
        goal = maximise(statistics).means
        distances = [
            np.abs(adapt(prior, statistics.scaled(times)).means - goal).max() for times in (1, 2, 8, 64)
        ]
        assert distances == sorted(distances, reverse=True) and distances[-1] < 0.1 * distances[0]

    def test_the_prior_is_not_changed(self):
        prior, frames = random_case(4)
        before = copy.deepcopy(prior)
        adapt(prior, statistics_of(prior, frames), 1.0, ALL)
        assert_same_bits(prior, before)

    def test_second_moments_are_not_read_for_means_and_weights(self):
        prior, frames = random_case(4)
        statistics = statistics_of(prior, frames)
        without = replace(statistics, second=np.zeros_like(statistics.second))
        parts = ("means", "weights")
        assert_same_bits(adapt(prior, statistics, 16.0, parts), adapt(prior, without, 16.0, parts))


class TestFloor:
    @pytest.mark.parametrize(
        ("covariance_type", "floor"),
        [("diag", 1.5), ("diag", np.array([0.1, 1.5, 3.0])), ("spherical", 1.5), ("full", 1.5)],
        ids=str,
    )
    def test_no_variance_that_moved_is_below(self, covariance_type, floor):
        prior, frames = random_case(6, covariance_type)
        statistics = statistics_of(prior, frames)
        free = adapt(prior, statistics, 16.0, ALL)
        found = adapt(prior, statistics, 16.0, ALL, floor)
        least = np.broadcast_to(np.mean(floor) if covariance_type == "spherical" else floor, 3)
        assert (free.variances < least).any()
        assert (found.variances >= least * (1 - 1e-12)).all()
        if covariance_type == "full":
            assert np.linalg.eigvalsh(found.covariances).min() >= 1.5 * (1 - 1e-9)

    @own_types
    def test_frames_that_are_all_one_point_leave_a_mixture(self, covariance_type):
        prior, _ = random_case(6, covariance_type)
        statistics = statistics_of(prior, np.ones((600, 3), np.float32))
        found = adapt(prior, statistics, 0.0, ALL)
        assert found.variances.min() > 0


class TestObjective:
    """What the iterations maximise; with a relevance factor of r the prior speaks like r frames a component."""

    @staticmethod
    def objective(mixture, prior, frames, factor):
        """Log-likelihood, and the expected one of r frames of each component of the prior (Gauvain, Lee 1994)."""
        total = mixture.log_likelihoods(frames).sum()
        spread = prior.variances + np.square(mixture.means - prior.means)
        expected = -0.5 * (np.log(mixture.variances) + spread / mixture.variances).sum()
        return total + factor * expected

    @pytest.mark.parametrize("parts", [("means",), ("means", "variances"), ("variances",)], ids=str)
    @pytest.mark.parametrize("seed", range(4))
    def test_of_the_posterior_never_falls(self, parts, seed):
        prior, frames = random_case(seed, n_frames=80, n_components=4)
        values = [self.objective(prior, prior, frames, 5.0)]
        for iterations in range(1, 8):
            found = adapt_to_frames(prior, frames, Adaptation(5.0, parts, iterations))
            values.append(self.objective(found, prior, frames, 5.0))
        assert np.diff(values).min() > -1e-9 * abs(values[0])
        assert values[2] - values[1] > 1e-3  # a second iteration does something

    @own_types
    def test_of_the_likelihood_never_falls_without_a_prior(self, covariance_type):
        prior, frames = random_case(2, covariance_type, n_frames=300)
        values = [
            adapt_to_frames(prior, frames, Adaptation(0.0, ALL, iterations)).log_likelihoods(frames).sum()
            for iterations in range(1, 8)
        ]
        assert np.diff(values).min() > -1e-9 * abs(values[0])


class TestToFrames:
    @every_type
    def test_one_iteration_is_adapt(self, covariance_type):
        prior, frames = random_case(7, covariance_type)
        expected = adapt(prior, statistics_of(prior, frames), 4.0)
        assert_same_bits(adapt_to_frames(prior, frames, Adaptation(4.0)), expected)

    def test_two_iterations_adapt_the_prior_again(self):
        prior, frames = random_case(7)
        coordinates = moments_of(prior).coordinates()
        once = adapt_to_frames(prior, frames, Adaptation(4.0, ALL))
        expected = adapt(prior, accumulate(once, frames, coordinates), 4.0, ALL)
        found = adapt_to_frames(prior, frames, Adaptation(4.0, ALL, iterations=2))
        assert_same_bits(found, expected)
        assert (found.means != once.means).all()

    def test_bits_do_not_depend_on_workers_or_blocks(self):
        prior, frames = random_case(7, n_frames=40_000, n_components=8)
        settings_ = Adaptation(iterations=2)
        one = adapt_to_frames(prior, frames, settings_)
        assert_same_bits(adapt_to_frames(prior, frames, settings_, n_jobs=2), one)
        assert_same_bits(
            adapt_to_frames(prior, BlockSource(np.array_split(frames, 7)), settings_, n_jobs=2), one
        )

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_a_value_that_is_not_finite_is_named(self, value):
        prior, frames = random_case(7)
        frames[100, 2] = value
        with pytest.raises(InputError, match=f"has the value {value} at frame 100, feature 2"):
            adapt_to_frames(prior, frames, Adaptation())

    def test_frames_that_do_not_fit_are_refused(self):
        prior, frames = random_case(7)
        with pytest.raises(InputError, match="`frames` has 2 features; the mixture has 3"):
            adapt_to_frames(prior, frames[:, :2], Adaptation())
        with pytest.raises(InputError, match="`frames` holds no frames"):
            adapt_to_frames(prior, frames[:0], Adaptation())

    def test_on_real_frames_the_adapted_mixture_fits_them_better(self, speech_data):
        frames = naive.real_frames(speech_data)
        prior = maximise(accumulate(Mixture(*naive.random_parts(0, n_components=8, n_features=60)), frames))
        own = frames[: len(frames) // 2]  # of the first speaker, nearly
        values = [
            adapt_to_frames(prior, own, Adaptation(factor)).log_likelihoods(own).mean()
            for factor in (math.inf, 256.0, 16.0)
        ]
        assert values == sorted(values) and values[2] - values[0] > 0.01


class TestRefused:
    def test_statistics_of_another_mixture(self):
        prior, frames = random_case(0)
        other, _ = random_case(0, n_components=4)
        with pytest.raises(InputError, match=r"of shape \(4, 3\) \(diag\) cannot adapt .* shape \(3, 3\)"):
            adapt(prior, statistics_of(other, frames))
        full, _ = random_case(0, "full")
        with pytest.raises(InputError, match=r"\(full\) cannot adapt a mixture of shape \(3, 3\) \(diag\)"):
            adapt(prior, statistics_of(full, frames))

    def test_tied_variances(self):
        prior, frames = random_case(0, "tied")
        with pytest.raises(InputError, match="variances of tied covariances cannot be adapted"):
            adapt(prior, statistics_of(prior, frames), 16.0, ALL)
        with pytest.raises(InputError, match="variances of tied covariances cannot be adapted"):
            adapt_to_frames(prior, frames, Adaptation(parts=ALL))

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (
                {"relevance_factor": -1.0},
                r"`relevance_factor` is -1\.0; it must be a number of frames from 0",
            ),
            ({"relevance_factor": math.nan}, "`relevance_factor` is nan"),
            ({"relevance_factor": "16"}, "`relevance_factor` is '16'"),
            ({"relevance_factor": True}, "`relevance_factor` is True"),
            (
                {"parts": ()},
                r"`parts` is \(\); it must be a list of one or more of means, variances, weights",
            ),
            ({"parts": "means"}, "`parts` is 'means'; it must be a list"),
            ({"parts": ("means", "means")}, r"`parts` is \('means', 'means'\); .* each once"),
            ({"parts": ("mean",)}, r"`parts` is \('mean',\)"),
            ({"parts": [["means"]]}, r"`parts` is \[\['means'\]\]"),
            ({"parts": None}, "`parts` is None"),
        ],
        ids=str,
    )
    def test_settings(self, changes, message):
        prior, frames = random_case(0)
        with pytest.raises(InputError, match=message):
            Adaptation(**changes)
        with pytest.raises(InputError, match=message):
            adapt(prior, statistics_of(prior, frames), **changes)

    @pytest.mark.parametrize("iterations", [0, -1, 1.0, True, "1", None])
    def test_iterations(self, iterations):
        with pytest.raises(InputError, match=f"`iterations` is {iterations!r}; it must be a whole number"):
            Adaptation(iterations=iterations)


class TestSettings:
    @pytest.mark.parametrize(
        "adaptation",
        [
            Adaptation(),
            Adaptation(0, ("weights", "means"), 3),
            Adaptation(math.inf),
            Adaptation(0.1 + 0.2, ALL),
        ],
        ids=str,
    )
    def test_they_round_trip_through_json(self, adaptation):
        text = json.dumps(adaptation.to_dict(), allow_nan=False)
        assert Adaptation.from_dict(json.loads(text)) == adaptation

    def test_parts_have_one_order(self):
        assert Adaptation(parts=("weights", "means")) == Adaptation(parts=("means", "weights"))
        assert Adaptation(parts=["weights", "variances", "means"]).parts == ALL
        assert hash(Adaptation(parts=["means"])) == hash(Adaptation())

    def test_what_is_not_given_has_its_default(self):
        assert Adaptation.from_dict({}) == Adaptation()
        assert Adaptation.from_dict({"iterations": 2}) == Adaptation(iterations=2)

    def test_an_unknown_setting_is_named(self):
        with pytest.raises(InputError, match="unknown adaptation setting 'relevance'; known are relevance_f"):
            Adaptation.from_dict({"relevance": 16})
