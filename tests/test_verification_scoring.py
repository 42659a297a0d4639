"""verification.scoring: three methods against plain loops, the same bits whatever else is scored, and hard cases.

Scores of single frames are compared, because errors of the frames of an utterance cancel in its mean.
"""

import threading

import numpy as np
import pytest

from speechgmm.em.adaptation import Adaptation, adapt_to_frames
from speechgmm.em.mixture import Mixture
from speechgmm.em.restarts import fit_mixture
from speechgmm.errors import InputError
from speechgmm.features.config import FeatureConfig
from speechgmm.features.extract import FeatureExtractor
from speechgmm.verification.scoring import BATCH, METHODS, USUAL_TOP, TrialScorer
from tests import naive

FAST = ("top", "linear")
MEANS, ALL = ("means",), ("means", "variances", "weights")
PARTS = (MEANS, ("variances",), ("weights",), ALL)
every_method = pytest.mark.parametrize("method", METHODS)
every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])
# A log-density is a sum of float32 terms of up to some 2**8, half a step of which is 2**-17, or 8e-6.
CLOSE = {"rtol": 1e-6, "atol": 2e-5}


def made_ubm(n_components=17, n_features=4, seed=0, offset=0.0, width=1.0):
    weights, means, variances = naive.random_parts(seed, "diag", n_components, n_features)
    return Mixture(weights, means + offset, width**2 * variances)


def made_model(ubm, seed, parts=MEANS, relevance_factor=16.0, n_frames=300):
    """Adapted to frames half a deviation away."""
    rng = np.random.default_rng(seed)
    frames = ubm.sample(n_frames, seed) + 0.5 * np.sqrt(ubm.variances.mean(axis=0)) * rng.standard_normal(
        ubm.n_features
    )
    return adapt_to_frames(ubm, frames, Adaptation(relevance_factor, parts))


def made_models(ubm, number, parts=PARTS, relevance_factor=16.0):
    return [made_model(ubm, seed, parts[seed % len(parts)], relevance_factor) for seed in range(number)]


def of_frames(ubm, models, frames, method, top=USUAL_TOP):
    """The score of each frame, (n_models, n_frames)."""
    return TrialScorer(ubm, models, method, top).score_all([frames[i : i + 1] for i in range(len(frames))])


def dense(ubm, models, frames):
    """The same by the plain equation in float64, which is tested against loops."""
    return np.array([model.log_likelihoods(frames) - ubm.log_likelihoods(frames) for model in models])


def linear_of_frames(ubm, model, frames, top):
    return [naive.linear_llr(ubm, model, frames[i : i + 1], top) for i in range(len(frames))]


class TestTwins:
    @pytest.mark.parametrize("n_components", [1, 5, 16, 17, 40])
    @every_dtype
    def test_of_all_methods(self, n_components, dtype):
        ubm = made_ubm(n_components)
        models = made_models(ubm, 4)
        frames = (ubm.sample(20, 5) + 0.3).astype(dtype)
        for top in sorted({1, 3, n_components}):
            expected = [naive.top_llrs(ubm, model, frames, top) for model in models]
            np.testing.assert_allclose(of_frames(ubm, models, frames, "top", top), expected, **CLOSE)
            expected = [linear_of_frames(ubm, model, frames, top) for model in models]
            np.testing.assert_allclose(of_frames(ubm, models, frames, "linear", top), expected, **CLOSE)
        expected = [
            naive.log_likelihoods(model, frames) - naive.log_likelihoods(ubm, frames) for model in models
        ]
        np.testing.assert_allclose(of_frames(ubm, models, frames, "dense"), expected, **CLOSE)

    @every_method
    def test_of_an_utterance_are_means_per_frame(self, method):
        ubm = made_ubm()
        models = made_models(ubm, 3)
        frames = [ubm.sample(n_frames, n_frames) for n_frames in (3, 700)]
        expected = [of_frames(ubm, models, one, method).mean(axis=1) for one in frames]
        # "linear" sums in float32: 700 terms of order 1 may lose 700 half steps.
        found = TrialScorer(ubm, models, method).score_all(frames)
        np.testing.assert_allclose(found, np.transpose(expected), rtol=0, atol=4e-5)

    @every_method
    @pytest.mark.parametrize("n_features", [1, 3, 39])
    def test_with_other_numbers_of_features(self, method, n_features):
        ubm = made_ubm(6, n_features, seed=3)
        models = made_models(ubm, 2)
        frames = ubm.sample(12, 1)
        twin = {
            "top": lambda model: naive.top_llrs(ubm, model, frames, 4),
            "linear": lambda model: linear_of_frames(ubm, model, frames, 4),
            "dense": lambda model: naive.log_likelihoods(model, frames) - naive.log_likelihoods(ubm, frames),
        }[method]
        expected = [twin(model) for model in models]
        # Of 39 features, log-densities reach 2**9 and are sums of 79 terms.
        np.testing.assert_allclose(of_frames(ubm, models, frames, method, 4), expected, rtol=1e-6, atol=6e-5)

    @every_method
    def test_the_background_itself_scores_zero(self, method):
        ubm = made_ubm(40)
        found = of_frames(ubm, [ubm], ubm.sample(50, 1), method, 5)
        # Shares of float32 sum to 1 but for a few half steps.
        np.testing.assert_allclose(found, 0.0, rtol=0, atol=1e-6)


class TestDense:
    @pytest.mark.parametrize("n_frames", [1, 511, 512, 513])
    @pytest.mark.parametrize("covariance_type", naive.COVARIANCE_TYPES)
    def test_is_what_scikit_learn_says(self, covariance_type, n_frames):
        ubm, model = (Mixture(*naive.random_parts(seed, covariance_type), covariance_type) for seed in (0, 1))
        frames = ubm.sample(n_frames, 2)
        expected = np.mean(
            naive.peer_of(model).score_samples(frames) - naive.peer_of(ubm).score_samples(frames)
        )
        found = TrialScorer(ubm, [model], "dense").score_all([frames])
        # Terms of log-densities here reach 2**10; those of frames far out go through float64.
        np.testing.assert_allclose(found, [[expected]], rtol=1e-6, atol=5e-5)

    @pytest.mark.parametrize("covariance_type", ["full", "tied"])
    def test_takes_adapted_whole_matrices(self, covariance_type):
        ubm = Mixture(*naive.random_parts(0, covariance_type), covariance_type)
        models = made_models(ubm, 2, (MEANS, ("means", "weights")))
        frames = ubm.sample(30, 1)
        found = of_frames(ubm, models, frames, "dense")
        np.testing.assert_allclose(found, dense(ubm, models, frames), **CLOSE)

    def test_takes_means_alone_for_no_more_than_they_are(self):
        """A component's share that moved apart: "linear" sees means alone, the definition all."""
        ubm = made_ubm(5)
        (model,) = made_models(ubm, 1, (("weights",),), 0.0)
        frames = ubm.sample(200, 3)
        assert np.abs(of_frames(ubm, [model], frames, "linear")).max() == 0
        assert np.abs(of_frames(ubm, [model], frames, "dense")).max() > 0.01


class TestTop:
    @pytest.mark.parametrize("n_components", [1, 5, 16, 17, 40])
    def test_of_all_components_is_dense(self, n_components):
        ubm = made_ubm(n_components)
        models = made_models(ubm, 4)
        frames = ubm.sample(300, 1)
        found = of_frames(ubm, models, frames, "top", n_components)
        # Both are rounded, in different ways; see CLOSE.
        np.testing.assert_allclose(found, of_frames(ubm, models, frames, "dense"), **CLOSE)
        np.testing.assert_allclose(found, dense(ubm, models, frames), **CLOSE)
        more = of_frames(ubm, models, frames, "top", n_components + 30)
        np.testing.assert_array_equal(more, found)

    def test_gets_nearer_to_dense_with_every_component(self):
        ubm = made_ubm(40, seed=2)
        models = made_models(ubm, 4, (MEANS,))
        frames = ubm.sample(300, 1)
        expected = dense(ubm, models, frames)
        errors = [
            np.abs(of_frames(ubm, models, frames, "top", top) - expected).mean() for top in (1, 2, 4, 8, 16)
        ]
        assert errors == sorted(errors, reverse=True)
        assert errors[0] > 1e-3 and errors[-1] < 1e-4

    @pytest.mark.parametrize("method", FAST)
    @pytest.mark.parametrize("n_components", [20, 48])
    def test_takes_the_first_of_equals(self, n_components, method):
        """All components are the same but in the models."""
        ubm = Mixture(
            np.full(n_components, 1 / n_components), np.ones((n_components, 3)), np.ones((n_components, 3))
        )
        rng = np.random.default_rng(0)
        model = Mixture(ubm.weights, ubm.means + rng.standard_normal(ubm.means.shape), ubm.covariances)
        frames = ubm.sample(8, 1)
        for top in (1, 2, 15, 16, 17):
            twin = naive.top_llrs if method == "top" else linear_of_frames
            expected = twin(ubm, model, frames, top)
            np.testing.assert_allclose(of_frames(ubm, [model], frames, method, top)[0], expected, **CLOSE)

    @pytest.mark.parametrize("method", FAST)
    def test_takes_the_first_of_many_equals_at_the_edge(self, method):
        """One component is best; the next are equal, and not all of them can be taken."""
        means = np.concatenate([[[0.0]], np.full((30, 1), 3.0), [[0.1]]])
        ubm = Mixture(np.full(32, 1 / 32), means, np.ones((32, 1)))
        model = Mixture(ubm.weights, means + np.linspace(-1, 1, 32)[:, None], ubm.covariances)
        frames = np.linspace(-1.0, 1.0, 9)[:, None]
        twin = naive.top_llrs if method == "top" else linear_of_frames
        for top in (2, 3, 7, 31):
            expected = twin(ubm, model, frames, top)
            np.testing.assert_allclose(of_frames(ubm, [model], frames, method, top)[0], expected, **CLOSE)

    @pytest.mark.parametrize("method", FAST)
    def test_equals_in_many_frames_do_not_change_the_others(self, method):
        """What the search for the best learns from one frame must not mislead it in the next."""
        rng = np.random.default_rng(0)
        means = np.concatenate([np.zeros((20, 2)), 6 + rng.standard_normal((20, 2))])
        ubm = Mixture(np.full(40, 1 / 40), means, np.ones((40, 2)))
        model = Mixture(ubm.weights, means + rng.standard_normal(means.shape), ubm.covariances)
        frames = rng.standard_normal((300, 2)) + np.repeat([0.0, 6.0], [250, 50])[:, None]
        for top in (1, 2, 5, 10, 39):
            expected = of_frames(ubm, [model], frames, method, top)[0]
            found = TrialScorer(ubm, [model], method, top).score_all([frames])[0, 0]
            assert found == pytest.approx(expected.mean(), rel=0, abs=1e-5)

    @every_method
    def test_components_without_weight_count_for_nothing(self, method):
        ubm = made_ubm(20)
        weights = ubm.weights.copy()
        weights[[0, 7, 19]] = 0.0
        ubm = Mixture(weights / weights.sum(), ubm.means, ubm.covariances)
        models = made_models(ubm, 3)
        assert all((model.weights[[0, 7, 19]] == 0).all() for model in models)
        lost = np.where(np.arange(20) == 3, 0.0, ubm.weights)
        models.append(Mixture(lost / lost.sum(), ubm.means, ubm.covariances))
        kept = np.flatnonzero(weights)
        frames = ubm.sample(40, 1)
        for top in (5, 17, 20):
            found = of_frames(ubm, models, frames, method, top)
            without = of_frames(
                ubm.keep(kept), [model.keep(kept) for model in models], frames, method, min(top, 17)
            )
            # The same sums in another order.
            np.testing.assert_allclose(found, without, **CLOSE)

    @every_method
    def test_spherical_variances_are_as_good(self, method):
        ubm = Mixture(*naive.random_parts(0, "spherical", 9), "spherical")
        models = made_models(ubm, 4)
        frames = ubm.sample(60, 1)
        diagonal = of_frames(
            ubm.with_type("diag"), [model.with_type("diag") for model in models], frames, method, 5
        )
        np.testing.assert_array_equal(of_frames(ubm, models, frames, method, 5), diagonal)
        if method == "top":
            expected = [naive.top_llrs(ubm, model, frames, 5) for model in models]
            np.testing.assert_allclose(diagonal, expected, **CLOSE)

    @pytest.mark.parametrize("covariance_type", ["full", "tied"])
    @pytest.mark.parametrize("method", FAST)
    def test_refuses_whole_matrices(self, method, covariance_type):
        ubm = Mixture(*naive.random_parts(0, covariance_type), covariance_type)
        with pytest.raises(InputError, match=f'"{covariance_type}" covariances .* "dense" only'):
            TrialScorer(ubm, [ubm], method)


class TestSameBits:
    """No score depends on what else is scored, on the order, on threads, or on how frames lie in memory."""

    @pytest.fixture(scope="class")
    def ubm(self):
        return made_ubm(17, 5)

    @pytest.fixture(scope="class")
    def models(self, ubm):
        """Also some that only exact arithmetic can score: adapted to a few frames, collapsed, far away."""
        models = made_models(ubm, 30)
        models[3] = made_model(ubm, 3, ALL, 0.0, n_frames=20)
        models[18] = Mixture(ubm.weights, ubm.means, 1e-10 * ubm.covariances)
        models[20] = Mixture(ubm.weights, ubm.means + 30.0, ubm.covariances)
        return [*models, *made_models(ubm, 3)]

    @pytest.fixture(scope="class")
    def frames(self, ubm):
        frames = [ubm.sample(n_frames, n_frames).astype(np.float32) for n_frames in (1, 30, 511, 512, 513)]
        frames[1][7] += 1e4
        return frames * 5

    @every_method
    def test_alone_and_with_others(self, ubm, models, frames, method):
        scorer = TrialScorer(ubm, models, method, 8)
        together = scorer.score_all(frames)
        assert np.isfinite(together).all() and together.shape == (33, 25)
        for number in (0, 3, 4, 15, 16, 18, 19, 32):
            alone = TrialScorer(ubm, [models[number]], method, 8).score_all(frames[:5])
            np.testing.assert_array_equal(alone[0], together[number, :5])
            one_by_one = [scorer.score(frames, [number], [test])[0] for test in range(5)]
            np.testing.assert_array_equal(one_by_one, together[number, :5])
        np.testing.assert_array_equal(together, np.tile(together[:, :5], 5))

    @every_method
    @pytest.mark.parametrize("number", [1, 15, 16, 17, 33])
    def test_any_number_of_models(self, ubm, models, frames, method, number):
        expected = TrialScorer(ubm, models, method, 8).score_all(frames[:5])
        found = TrialScorer(ubm, models[:number], method, 8).score_all(frames[:5])
        np.testing.assert_array_equal(found, expected[:number])
        backwards = TrialScorer(ubm, models[number - 1 :: -1], method, 8).score_all(frames[:5])
        np.testing.assert_array_equal(backwards[::-1], expected[:number])

    @every_method
    @pytest.mark.parametrize("n_jobs", [1, 2, -1])
    def test_sparse_lists_in_any_order(self, ubm, models, frames, method, n_jobs):
        scorer = TrialScorer(ubm, models, method, 8)
        everything = scorer.score_all(frames, n_jobs=n_jobs)
        np.testing.assert_array_equal(everything, scorer.score_all(frames))
        rng = np.random.default_rng(0)
        numbers, tests = rng.integers(33, size=300), rng.integers(25, size=300)
        numbers[::7], tests[::7] = numbers[1], tests[1]  # the same trial again and again
        found = scorer.score(frames, numbers, tests, n_jobs=n_jobs)
        np.testing.assert_array_equal(found, everything[numbers, tests])
        sorted_ = np.lexsort((numbers, tests))
        np.testing.assert_array_equal(
            scorer.score(frames, numbers[sorted_], tests[sorted_], n_jobs=n_jobs), found[sorted_]
        )
        everyone = np.tile(np.arange(33), 25), np.repeat(np.arange(25), 33)
        np.testing.assert_array_equal(scorer.score(frames, *everyone), everything.T.ravel())

    @every_method
    @every_dtype
    def test_however_frames_lie_in_memory(self, ubm, models, method, dtype, tmp_path):
        frames = ubm.sample(600, 1).astype(dtype)
        frames[11] += 1e4
        scorer = TrialScorer(ubm, models[:3], method, 8)
        expected = scorer.score_all([frames])
        np.save(tmp_path / "frames.npy", frames)
        fixed = frames.copy()
        fixed.setflags(write=False)
        forms = {
            "memory map": np.load(tmp_path / "frames.npy", mmap_mode="r"),
            "read-only": fixed,
            "columns together": np.asfortranarray(frames),
            "every other column": np.repeat(frames, 2, axis=1)[:, ::2],
            "backwards twice": np.ascontiguousarray(frames[::-1])[::-1],
        }
        for form, value in forms.items():
            np.testing.assert_array_equal(scorer.score_all([value]), expected, err_msg=form)
        assert not forms["memory map"].flags.writeable
        kept = frames.copy()
        scorer.score_all([frames])
        np.testing.assert_array_equal(frames, kept)

    @every_method
    def test_float64_frames_differ_by_rounding(self, ubm, models, method):
        frames = ubm.sample(600, 1).astype(np.float32)
        scorer = TrialScorer(ubm, models[:3], method, 8)
        double = scorer.score_all([frames.astype(np.float64)])
        np.testing.assert_allclose(double, scorer.score_all([frames]), rtol=0, atol=1e-5)

    @every_method
    def test_models_and_frames_are_asked_for_once(self, ubm, models, frames, method):
        asked = Asked(models[:5]), Asked(frames[:20])
        scorer = TrialScorer(ubm, asked[0], method, 8)
        assert asked[0].numbers == list(range(5))
        found = scorer.score(asked[1], np.tile(np.arange(5), 20), np.repeat(np.arange(20)[::-1], 5))
        assert asked[1].numbers == list(range(20))
        np.testing.assert_array_equal(
            found.reshape(20, 5)[::-1].T, TrialScorer(ubm, models[:5], method, 8).score_all(frames[:20])
        )


class Asked:
    """A sequence that writes down which of its items were asked for."""

    def __init__(self, items):
        self.items, self.numbers = items, []

    def __len__(self):
        return len(self.items)

    def __getitem__(self, number):
        if number < len(self.items):
            self.numbers.append(number)
        return self.items[number]


class TestHardCases:
    @every_method
    @pytest.mark.parametrize("offset", [-500.0, 1e4])
    def test_raw_cepstra_far_from_zero(self, method, offset):
        near, far = made_ubm(17), made_ubm(17, offset=offset)
        models = made_models(near, 4)
        moved = [Mixture(model.weights, model.means + offset, model.covariances) for model in models]
        frames = near.sample(100, 1)
        expected = of_frames(near, models, frames, method, 5)
        found = of_frames(far, moved, frames + offset, method, 5)
        np.testing.assert_allclose(found, expected, **CLOSE)
        # Frames in float32 are themselves rounded: a half step of 1e4 is 5e-4.
        found = of_frames(far, moved, (frames + offset).astype(np.float32), method, 5)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 if offset == -500 else 1e-2)

    @pytest.mark.parametrize(
        ("width", "means_close", "close"), [(0.1, 2e-5, 2e-4), (0.01, 2e-4, 5e-2), (0.001, 2e-3, np.inf)]
    )
    def test_small_variances_far_from_the_origin(self, width, means_close, close):
        """Terms of (distance / deviation)² cancel; frames and ratios are float32 in the method "top"."""
        ubm = made_ubm(17, width=width)
        frames = ubm.sample(200, 1)
        for parts, allowed in ((MEANS, means_close), (ALL, close)):
            models = made_models(ubm, 3, (parts,))
            expected = dense(ubm, models, frames)
            found = of_frames(ubm, models, frames, "dense")
            # Non-sharp components may have terms of up to 300.
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-4)
            if np.isfinite(allowed):
                found = of_frames(ubm, models, frames, "top", 17)
                np.testing.assert_allclose(found, expected, rtol=0, atol=allowed)

    def test_linear_of_small_variances(self):
        ubm = made_ubm(17, width=0.01)
        models = made_models(ubm, 2, (MEANS,))
        frames = ubm.sample(40, 1)
        expected = [linear_of_frames(ubm, model, frames, 17) for model in models]
        # A deviation holds 1e5 half steps of a frame.
        np.testing.assert_allclose(
            of_frames(ubm, models, frames, "linear", 17), expected, rtol=1e-4, atol=1e-4
        )

    @every_method
    @every_dtype
    @pytest.mark.parametrize("distance", [30.0, 300.0, 1e6])
    def test_frames_far_from_everything(self, distance, dtype, method):
        ubm = made_ubm(17)
        models = made_models(ubm, 4)
        rng = np.random.default_rng(0)
        frames = (ubm.sample(40, 1) + distance * rng.standard_normal((40, 4))).astype(dtype)
        if method == "linear":
            expected = [linear_of_frames(ubm, model, frames, 17) for model in models]
        else:
            expected = dense(ubm, models, frames)
        found = of_frames(ubm, models, frames, method, 17)
        # Log-densities of 1e12 hold 1e-4 in float64; a ratio linear in the distance, 1e-6 of it in float32.
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.square(distance / 1e4) + 1e-4)

    def test_a_far_frame_does_not_change_the_way_of_others(self):
        ubm = made_ubm(17)
        models = made_models(ubm, 2)
        frames = ubm.sample(40, 1)
        far = frames.copy()
        far[20] += 1e3
        for method in METHODS:
            alone = [of_frames(ubm, models, some, method) for some in (frames, far)]
            difference = (alone[1] - alone[0])[:, 20] / 40
            found = [TrialScorer(ubm, models, method).score_all([some]) for some in (frames, far)]
            np.testing.assert_allclose((found[1] - found[0])[:, 0], difference, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("parts", [MEANS, ALL])
    def test_ratios_of_hundreds_of_nats(self, parts):
        """Models of maximum likelihood from few frames, so that much is impossible under them, or only there."""
        ubm = made_ubm(20, width=0.2)
        models = [made_model(ubm, seed, parts, 0.0, n_frames=25) for seed in range(3)]
        frames = ubm.sample(200, 1) + 3.0 * np.random.default_rng(0).standard_normal((200, 4))
        expected = dense(ubm, models, frames)
        assert expected.min() < -100 and expected.max() > 30
        found = of_frames(ubm, models, frames, "top", 20)
        # Ratios are sums of float32 terms of up to thousands, in which small variances cancel.
        close = {"rtol": 1e-5, "atol": 1e-3}
        np.testing.assert_allclose(found, expected, **close)
        for top in (2, 10):
            found = of_frames(ubm, models, frames[:60], "top", top)
            expected = np.array([naive.top_llrs(ubm, model, frames[:60], top) for model in models])
            # What is left to the others counts from 2**-60 on, that is -41.6 nats.
            there = expected > -35
            assert there.mean() > 0.2
            np.testing.assert_allclose(found[there], expected[there], **close)
            assert (found[~there] < -34).all()

    def test_a_component_that_was_impossible_becomes_the_likeliest(self):
        """Its posterior, 2**-580, is far below what a float32 holds, and its ratio far above."""
        ubm = Mixture(np.full(2, 0.5), np.array([[0.0], [40.0]]), np.ones((2, 1)))
        model = Mixture(ubm.weights, np.array([[-40.0], [12.0]]), ubm.covariances)
        frames = np.array([[8.0], [10.0], [12.0], [13.0]])
        found = of_frames(ubm, [model], frames, "top", 2)
        np.testing.assert_allclose(found, dense(ubm, [model], frames), rtol=1e-5)
        assert (found > 20).all()

    def test_what_no_component_explains_is_not_left_to_the_others(self):
        """With all components chosen nothing is left: the score has no floor, as rounding would give it."""
        ubm = made_ubm(20)
        model = Mixture(ubm.weights, ubm.means + 50.0, ubm.covariances)
        frames = ubm.sample(100, 1)
        expected = dense(ubm, [model], frames)
        assert expected.max() < -300
        np.testing.assert_allclose(of_frames(ubm, [model], frames, "top", 20), expected, rtol=1e-5)

    @every_method
    def test_utterances_of_many_lengths(self, method):
        ubm = made_ubm(17)
        models = made_models(ubm, 2)
        frames = ubm.sample(513, 1)
        scorer = TrialScorer(ubm, models, method)
        each = of_frames(ubm, models, frames, method)
        for length in (1, 2, 31, 511, 512, 513):
            expected = each[:, :length].mean(axis=1)
            # Blocks of frames of other sizes round otherwise; "linear" sums in float32.
            np.testing.assert_allclose(scorer.score_all([frames[:length]])[:, 0], expected, rtol=0, atol=4e-5)

    @every_method
    def test_many_equal_frames_score_as_one_does(self, method):
        # Where one float32 sum would be worst: it loses the same digits of each frame, in all 4e-4 of the score.
        ubm = made_ubm(17)
        scorer = TrialScorer(ubm, made_models(ubm, 2, (MEANS,)), method)
        frame = ubm.sample(1, 1).astype(np.float32)
        one, many = scorer.score_all([frame, frame.repeat(200_000, axis=0)]).T
        np.testing.assert_allclose(many, one, rtol=2e-5, atol=2e-5)

    @every_method
    @pytest.mark.parametrize("value", [1e38, 1e160, -1e200])
    def test_values_too_large_to_be_squared_are_refused(self, method, value):
        ubm = made_ubm(17)
        frames = ubm.sample(30, 1)
        frames[7, 2] = value
        scorer = TrialScorer(ubm, made_models(ubm, 3), method)
        outcome = []

        def score():
            with pytest.raises(InputError, match=r"`frames\[1\]` has values so large that their squares"):
                scorer.score_all([frames[:5], frames])
            outcome.append("refused")

        # In a thread, because compiled code that never ended could not be interrupted.
        thread = threading.Thread(target=score, daemon=True)
        thread.start()
        thread.join(60.0)
        assert outcome == ["refused"]

    def test_large_values_that_can_be_squared_are_scored(self):
        ubm = made_ubm(17)
        models = made_models(ubm, 2, (MEANS,))
        frames = ubm.sample(30, 1)
        frames[7, 2] = 1e18
        for method in METHODS:
            assert np.isfinite(TrialScorer(ubm, models, method).score_all([frames])).all()


class TestErrors:
    @pytest.fixture(scope="class")
    def scorer(self):
        ubm = made_ubm(5)
        return TrialScorer(ubm, made_models(ubm, 3))

    @every_method
    def test_models_of_another_shape(self, method):
        ubm = made_ubm(5)
        wrong = [
            (made_ubm(6), "model 1 has 6 components of 4 features"),
            (made_ubm(5, 3), "model 1 has 5 components of 3 features"),
            (Mixture(*naive.random_parts(0, "spherical", 5, 4), "spherical"), r"\(spherical\)"),
        ]
        for model, message in wrong:
            with pytest.raises(InputError, match=f"{message}.*adapted from another one"):
                TrialScorer(ubm, [ubm, model], method)

    def test_no_models(self):
        with pytest.raises(InputError, match="there is no model to try"):
            TrialScorer(made_ubm(5), [])

    @pytest.mark.parametrize("method", ["fast", "", None])
    def test_unknown_method(self, method):
        with pytest.raises(InputError, match="it can be top, dense, linear"):
            TrialScorer(made_ubm(5), [made_ubm(5)], method)

    @pytest.mark.parametrize("top", [0, -1, 2.0, True, None, "10"])
    def test_top_out_of_range(self, top):
        with pytest.raises(InputError, match=r"`top` is .*; it must be a whole number of 1 or more"):
            TrialScorer(made_ubm(5), [made_ubm(5)], "top", top)

    @pytest.mark.parametrize("n_jobs", [0, 1.5, True])
    def test_workers(self, scorer, n_jobs):
        with pytest.raises(InputError, match="`n_jobs` is"):
            scorer.score_all([np.zeros((3, 4))], n_jobs=n_jobs)

    @pytest.mark.parametrize(
        ("frames", "message"),
        [
            (np.zeros((0, 4)), r"`frames\[1\]` holds no frames"),
            (np.full((3, 4), np.nan), r"`frames\[1\]` has the value nan at frame 0, feature 0"),
            (np.full((3, 4), -np.inf), r"`frames\[1\]` has the value -inf"),
            (np.zeros((3, 5)), r"`frames\[1\]` has 5 features; the mixture has 4"),
            (np.zeros(4), r"`frames\[1\]` has 1 dimensions"),
            (np.full((3, 4), "a"), r"`frames\[1\]` holds .* values; numbers are needed"),
        ],
    )
    @pytest.mark.parametrize("n_jobs", [1, 2])
    def test_bad_frames(self, scorer, frames, message, n_jobs):
        with pytest.raises(InputError, match=message):
            scorer.score_all([np.zeros((3, 4)), frames], n_jobs=n_jobs)
        with pytest.raises(InputError, match=message):
            scorer.score([np.zeros((3, 4)), frames], [0, 1, 2], [0, 0, 1], n_jobs=n_jobs)
        # An utterance that no trial names is not looked at.
        assert scorer.score([np.zeros((3, 4)), frames], [0], [0], n_jobs=n_jobs).shape == (1,)

    @pytest.mark.parametrize(
        ("models", "tests", "message"),
        [
            ([3], [0], "`models` has numbers from 3 to 3; there are 3, counted from 0"),
            ([0, -1], [0, 0], "`models` has numbers from -1 to 0; there are 3"),
            ([0, 0], [0, 2], "`tests` has numbers from 0 to 2; there are 2"),
            ([0], [-1], "`tests` has numbers from -1 to -1"),
            ([0, 1], [0], "2 `models` and 1 `tests` given"),
            ([[0, 1]], [[0, 1]], "`models` must be whole numbers in one row"),
            ([0.0], [0], "`models` must be whole numbers"),
            ([0], ["0"], "`tests` must be whole numbers"),
            ([True], [0], "`models` must be whole numbers"),
        ],
    )
    def test_trial_numbers(self, scorer, models, tests, message):
        with pytest.raises(InputError, match=message):
            scorer.score([np.zeros((3, 4))] * 2, models, tests)

    def test_no_trials(self, scorer):
        for frames in ([], [np.zeros((3, 4))]):
            for nothing in ([], np.empty(0, np.int64)):
                found = scorer.score(frames, nothing, nothing)
                assert found.shape == (0,) and found.dtype == np.float64
        assert scorer.score_all([]).shape == (3, 0)

    def test_numbers_of_any_whole_type(self, scorer):
        frames = [np.zeros((3, 4)), np.ones((3, 4))]
        expected = scorer.score(frames, [2, 0], [1, 0])
        for dtype in (np.uint8, np.int16, np.uint64):
            np.testing.assert_array_equal(
                scorer.score(frames, np.array([2, 0], dtype), np.array([1, 0], dtype)), expected
            )


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_progress_is_told_of_each_batch_of_utterances(n_jobs):
    ubm = made_ubm(5)
    scorer = TrialScorer(ubm, made_models(ubm, 2))
    frames = [ubm.sample(3, seed) for seed in range(2 * BATCH + 1)]
    told = []
    scorer.score_all(frames, n_jobs, lambda *news: told.append(news))
    assert told == [("trials", done, len(frames)) for done in (BATCH, 2 * BATCH, 2 * BATCH + 1)]
    told.clear()
    scorer.score(frames, [0, 1, 1], [4, 4, 9], n_jobs, lambda *news: told.append(news))
    assert told == [("trials", 1, 2), ("trials", 2, 2)]


@pytest.fixture(scope="module")
def digits(speech_data):
    """A background model of 64 components, three speakers adapted from it, and utterances of all six."""
    from speechgmm.audio import read_audio

    extractor = FeatureExtractor(FeatureConfig(sample_rate=8000))
    speakers = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")

    def frames_of(speaker, take):
        names = [f"{digit}_{speaker}_{take}.wav" for digit in range(10)]
        folder = speech_data / "fsdd" / "recordings"
        return [extractor.from_samples(read_audio(folder / name)[0]) for name in names]

    background = np.concatenate(
        [one for name in speakers for take in (10, 11) for one in frames_of(name, take)]
    )
    ubm = fit_mixture(background, 64, max_iterations=8, variance_floor=1e-2).mixture
    models = [adapt_to_frames(ubm, np.concatenate(frames_of(name, 5)), Adaptation()) for name in speakers[:3]]
    return ubm, models, [one for name in speakers for one in frames_of(name, 0)]


class TestRealSpeech:
    def test_few_components_are_nearly_all(self, digits):
        ubm, models, tests = digits
        expected = TrialScorer(ubm, models, "dense").score_all(tests)
        exact = np.stack([dense(ubm, models, frames).mean(axis=1) for frames in tests], axis=1)
        np.testing.assert_allclose(expected, exact, rtol=0, atol=1e-5)
        errors = np.abs(TrialScorer(ubm, models, "top", 10).score_all(tests) - expected)
        assert errors.mean() <= 0.001
        errors = np.abs(TrialScorer(ubm, models, "top", 20).score_all(tests) - expected)
        assert errors.max() <= 0.002
        errors = np.abs(TrialScorer(ubm, models, "top", 64).score_all(tests) - expected)
        assert errors.max() <= 1e-5

    def test_linear_scores_go_with_the_definition(self, digits):
        ubm, models, tests = digits
        scores = [TrialScorer(ubm, models, method).score_all(tests).ravel() for method in ("dense", "linear")]
        assert np.corrcoef(scores)[0, 1] > 0.9

    @every_method
    def test_speakers_are_told_apart(self, digits, method):
        ubm, models, tests = digits
        scores = TrialScorer(ubm, models, method).score_all(tests)
        own = np.concatenate([scores[i, 10 * i : 10 * i + 10] for i in range(3)])
        others = np.concatenate([scores[i, 30:] for i in range(3)])
        assert own.mean() > others.mean() + 0.3
