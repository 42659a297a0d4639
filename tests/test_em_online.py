"""em.online: stepwise EM comes close to EM on all frames, however the frames are divided, and never breaks."""

import warnings
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from threadpoolctl import threadpool_limits

from speechgmm.audio import read_audio
from speechgmm.em.fit import fit
from speechgmm.em.initialise import kmeans
from speechgmm.em.mixture import Mixture
from speechgmm.em.moments import moments
from speechgmm.em.online import StepwiseEM, _average
from speechgmm.em.sources import SHARD, BlockSource
from speechgmm.em.statistics import accumulate
from speechgmm.errors import InputError, SpeechGMMWarning
from speechgmm.features.config import FeatureConfig
from speechgmm.features.extract import FeatureExtractor
from tests import naive

TYPES = ["diag", "full", "tied", "spherical"]


def made_frames(n_frames=4000, n_features=3, seed=0):
    rng = np.random.default_rng(seed)
    places = 3 * rng.standard_normal((4, n_features))
    return places[rng.integers(4, size=n_frames)] + rng.standard_normal((n_frames, n_features))


def made_start(covariance_type="diag", n_components=4, n_features=3, offset=0.0, lost=()):
    rng = np.random.default_rng(1)
    means = rng.standard_normal((n_components, n_features)) + offset
    means[list(lost)] += 1e4
    factor = np.tril(rng.uniform(0.3, 0.6, (n_features, n_features))) + np.eye(n_features)
    covariances = {
        "diag": rng.uniform(1, 2, (n_components, n_features)),
        "full": np.arange(1, n_components + 1)[:, None, None] * (factor @ factor.T),
        "tied": factor @ factor.T,
        "spherical": rng.uniform(1, 2, n_components),
    }
    weights = rng.dirichlet(np.full(n_components, 20.0))
    return Mixture(weights, means, covariances[covariance_type], covariance_type)


def learnt(start, batches, **options):
    learner = StepwiseEM(start, **options)
    for batch in batches:
        learner.update(batch)
    return learner.mixture


def assert_close(mixture, other, tolerance):
    np.testing.assert_allclose(mixture.weights, other.weights, rtol=0, atol=tolerance)
    for name in ("means", "covariances"):
        size = np.abs(getattr(other, name)).max()
        np.testing.assert_allclose(
            getattr(mixture, name), getattr(other, name), rtol=0, atol=tolerance * size
        )


def assert_valid(mixture):
    for value in (mixture.weights, mixture.means, mixture.covariances):
        assert np.isfinite(value).all()
    assert mixture.weights.sum() == pytest.approx(1.0, abs=1e-9) and mixture.weights.min() >= 0
    assert mixture.variances.min() > 0


class TestOneStep:
    @pytest.mark.parametrize("covariance_type", TYPES)
    def test_the_start_is_what_it_knows_at_first(self, covariance_type):
        start = made_start(covariance_type, offset=50.0)
        learner = StepwiseEM(start, variance_floor=0.0)
        assert learner.mixture == start and learner.n_frames == 0
        # So little weight that only the way through the statistics and back could change anything.
        learner.update(made_frames(10), np.full(10, 1e-13))
        assert_close(learner.mixture, start, 1e-10)

    @pytest.mark.parametrize(("alpha", "n_frames"), [(0.6, 30), (0.7, 100), (0.9, 77), (1.0, 50)])
    def test_a_step_is_the_average_of_textbook_statistics(self, alpha, n_frames):
        start, frames = made_start(n_components=2), made_frames(n_frames)
        expected = (
            start.weights,
            *(start.weights[:, None] * value for value in (start.means, start.covariances + start.means**2)),
        )
        time = 1.0
        learner = StepwiseEM(start, alpha=alpha, frames_per_step=100, variance_floor=0.0)
        for batch in (frames, frames[::2] + 1.0):
            mixture, later = learner.mixture, time + len(batch) / 100
            sums = naive.statistics(mixture, batch, np.zeros(3), np.ones(3))[:3]
            kept = np.exp(-quad(lambda t: t**-alpha, time, later)[0])
            expected = [
                kept * old + (1 - kept) * new / len(batch) for old, new in zip(expected, sums, strict=True)
            ]
            time = later
            assert learner.update(batch) == pytest.approx(mixture.log_likelihoods(batch).mean(), rel=1e-9)
            means = expected[1] / expected[0][:, None]
            covariances = expected[2] / expected[0][:, None] - means**2
            assert_close(learner.mixture, Mixture(expected[0], means, covariances), 1e-9)
        assert learner.n_frames == pytest.approx(n_frames + len(frames[::2]))

    def test_options_reach_the_m_step(self):
        frames, start = made_frames(), made_start()
        plain = learnt(start, [frames[:500]])
        more = learnt(start, [frames[:500]], reg_covar=2.0)
        np.testing.assert_allclose(more.covariances, plain.covariances + 2.0, rtol=1e-12)
        floored = learnt(start, [frames], variance_floor=np.array([0.0, 9.0, 0.0]))
        assert (floored.covariances[:, 1] >= 9.0).all() and (floored.covariances[:, 1] == 9.0).any()
        assert learnt(start, [frames]).covariances[:, 1].min() < 8.0

    def test_the_floor_is_a_fraction_of_the_variance_of_the_frames(self):
        # Components without any spread of their own are at the floor, also when their places have moved apart.
        rng = np.random.default_rng(5)
        start = Mixture(np.full(2, 0.5), np.array([[0.0], [1.0]]), np.full((2, 1), 1e-3))
        learner = StepwiseEM(start, variance_floor=0.01)
        for places in (np.array([0.0, 1.0]), np.array([0.0, 3.0])):
            frames = places[rng.integers(2, size=(60000, 1))]
            learner.update(frames)
            least = 0.01 * frames.var()
            # The average still remembers a little of the start, and of the frames before.
            assert learner.mixture.covariances.min() == pytest.approx(least, rel=0.05)

    def test_what_is_added_to_variances_is_not_learnt(self):
        # From a start so far away that coordinates are replaced, and again when it is forgotten.
        frames, start = made_frames(6000), made_start(n_components=1, offset=300.0)
        options = {"alpha": 0.6, "frames_per_step": 100, "variance_floor": 0.0}
        plain = learnt(start, np.split(frames, 60), **options)
        more = learnt(start, np.split(frames, 60), reg_covar=40.0, **options)
        np.testing.assert_allclose(more.covariances, plain.covariances + 40.0, rtol=1e-6)

    @pytest.mark.parametrize("covariance_type", TYPES)
    @pytest.mark.parametrize(("place", "spread"), [(0.0, 1e-4), (40.0, 0.3), (40.0, 1e-4)])
    def test_frames_unlike_the_start_are_measured_as_well_as_others(self, covariance_type, place, spread):
        start, frames = made_start(covariance_type, n_components=1), made_frames(1000)
        frames = spread * (frames - frames.mean(axis=0)) + start.means[0] + place
        learner = StepwiseEM(start, variance_floor=0.0)
        learner.update(frames, np.full(1000, 1e9))
        expected = fit(frames, start, variance_floor=0.0).mixture
        np.testing.assert_allclose(learner.mixture.means, expected.means, atol=1e-6 * spread)
        np.testing.assert_allclose(learner.mixture.variances, expected.variances, rtol=1e-6)


@pytest.mark.parametrize("place", [0.0, 5.0])
def test_moments_are_pooled(place):
    some, others = made_frames(100), 2 * made_frames(300, seed=1) + place
    pooled = _average(moments(some, covariance=True), moments(others, covariance=True), 0.75)
    expected = moments(np.concatenate([some, others]), covariance=True)
    for name in ("mean", "variance", "covariance"):
        np.testing.assert_allclose(getattr(pooled, name), getattr(expected, name), rtol=1e-9)


class TestFairness:
    @given(st.lists(st.integers(1, 3000), min_size=1, max_size=8), st.integers(100, 2000), st.integers(0, 99))
    @settings(max_examples=40, deadline=None, derandomize=True)
    def test_every_frame_weighs_the_same_when_nothing_is_forgotten(self, sizes, frames_per_step, seed):
        # One component has no posteriors to change, so the answer is known: the start counts as one step.
        frames, start = made_frames(sum(sizes), seed=seed), made_start(n_components=1)
        batches = np.split(frames, np.cumsum(sizes)[:-1])
        options = {"alpha": 1.0, "frames_per_step": frames_per_step, "variance_floor": 0.0}
        mixture = learnt(start, batches, **options)
        total = frames_per_step + len(frames)
        mean = (frames_per_step * start.means[0] + frames.sum(axis=0)) / total
        squares = frames_per_step * (start.covariances[0] + start.means[0] ** 2) + (frames**2).sum(axis=0)
        # Parts of more than 512 frames go through float32 products.
        np.testing.assert_allclose(mixture.means[0], mean, atol=2e-6)
        np.testing.assert_allclose(mixture.covariances[0], squares / total - mean**2, rtol=2e-5)

    @pytest.mark.parametrize("covariance_type", TYPES)
    def test_one_frame_at_a_time_is_as_good_as_all_at_once(self, covariance_type):
        frames, start = made_frames(600), made_start(covariance_type)
        single = learnt(start, frames[:, None])
        whole = learnt(start, [frames])
        before = start.log_likelihoods(frames).mean()
        gain = whole.log_likelihoods(frames).mean() - before
        assert gain > 0.1
        # Measured: between 1.00 and 1.10 times the gain. Single frames meet a mixture that knows those before them.
        assert single.log_likelihoods(frames).mean() - before > 0.95 * gain

    @pytest.mark.parametrize("covariance_type", TYPES)
    def test_batches_of_any_size_give_much_the_same(self, speech_data, covariance_type):
        frames = shuffled_frames(speech_data)
        start = kmeans(frames[:1000], 8, covariance_type=covariance_type)
        rng = np.random.default_rng(0)
        random = np.split(frames, np.unique(rng.integers(1, len(frames), 30)))
        found = [
            learnt(start, batches).log_likelihoods(frames).mean()
            for batches in ([frames], np.split(frames, range(100, len(frames), 100)), random)
        ]
        gain = max(found) - start.log_likelihoods(frames).mean()
        assert max(found) - min(found) < 0.1 * gain  # measured: 0.05

    def test_a_weight_of_two_is_two_frames(self):
        frames, start = made_frames(300), made_start()
        weights = np.random.default_rng(6).integers(0, 4, 300)
        weighted, repeated = StepwiseEM(start), StepwiseEM(start)
        one = weighted.update(frames, weights)
        other = repeated.update(np.repeat(frames, weights, axis=0))
        assert one == pytest.approx(other, rel=1e-9)
        assert weighted.n_frames == pytest.approx(weights.sum()) == pytest.approx(repeated.n_frames)
        assert_close(weighted.mixture, repeated.mixture, 1e-9)

    def test_frames_without_weight_are_not_there(self):
        frames, start = made_frames(5000), made_start()
        weights = np.zeros(5000)
        weights[:200] = 1.0  # the parts after the first have none at all
        learner = StepwiseEM(start)
        learner.update(frames, weights)
        # Apart from the part of 1024 frames that they are in: float32 against float64.
        assert_close(learner.mixture, learnt(start, [frames[:200]]), 1e-5)

    def test_heavy_frames_outweigh_the_start(self):
        frames, start = made_frames(1000), made_start()
        learner = StepwiseEM(start, variance_floor=0.0)
        learner.update(frames, np.full(1000, 1e9))
        step = fit(frames, start, max_iterations=1, variance_floor=0.0)
        assert_close(learner.mixture, step.mixture, 1e-5)


@cache
def shuffled_frames(speech_data):
    """About 13000 frames of three speakers' digits in random order."""
    extractor = FeatureExtractor(FeatureConfig(sample_rate=8000, delta_orders=0))
    paths = [
        speech_data / "fsdd" / "recordings" / f"{digit}_{speaker}_{take}.wav"
        for speaker in ("jackson", "nicolas", "theo")
        for digit in range(10)
        for take in range(5, 17)
    ]
    frames = np.concatenate([extractor.from_samples(read_audio(path)[0]) for path in paths])
    return frames[np.random.default_rng(0).permutation(len(frames))]


class TestAgainstBatch:
    @pytest.mark.parametrize("covariance_type", TYPES)
    def test_one_pass_over_real_frames_comes_close(self, speech_data, covariance_type):
        frames = shuffled_frames(speech_data)
        start = kmeans(frames[:1000], 8, covariance_type=covariance_type)
        options = {"tolerance": 0, "max_iterations": 20}
        before = start.log_likelihoods(frames).mean()
        batch = fit(frames, start, **options).history[-1] - before
        online = learnt(start, [frames]).log_likelihoods(frames).mean() - before
        # In one pass of some twelve steps, against twenty over all frames; measured: 0.63 to 0.83.
        assert online > 0.55 * batch

    @pytest.mark.parametrize("covariance_type", TYPES)
    def test_more_passes_come_closer(self, speech_data, covariance_type):
        frames = shuffled_frames(speech_data)
        start = kmeans(frames[:1000], 8, covariance_type=covariance_type)
        before = start.log_likelihoods(frames).mean()
        batch = fit(frames, start, tolerance=0, max_iterations=40).history[-1] - before
        online = learnt(start, [frames] * 10).log_likelihoods(frames).mean() - before
        # Not the same of many maxima; measured: 0.86 to 0.98.
        assert online > 0.8 * batch


class TestRepeating:
    @pytest.mark.parametrize("covariance_type", TYPES)
    def test_the_same_batches_give_the_same_bits(self, covariance_type):
        frames, start = made_frames(SHARD + 500), made_start(covariance_type, lost=(1,))
        batches = [frames[:10], frames[10:5000], frames[5000:5001], frames[5001:]]
        assert learnt(start, batches) == learnt(start, batches)
        blocks = BlockSource([frames[:3], frames[3:12000], frames[12000:]])
        assert learnt(start, [blocks]) == learnt(start, [frames])

    @pytest.mark.parametrize("covariance_type", ["full", "tied"])
    def test_the_same_bits_on_any_number_of_blas_threads(self, covariance_type):
        frames, start = made_frames(1100, 110), made_start(covariance_type, 2, 110)
        found = []
        for limit in (1, 2):
            with threadpool_limits(limit, user_api="blas"):
                found.append(learnt(start, [frames]))
        assert found[0] == found[1]

    def test_another_order_of_batches_is_as_good(self):
        frames, start = made_frames(20000), made_start()
        batches = np.split(frames, 10)
        one, other = learnt(start, batches), learnt(start, batches[::-1])
        assert one != other
        likelihoods = one.log_likelihoods(frames).mean(), other.log_likelihoods(frames).mean()
        assert likelihoods[0] == pytest.approx(likelihoods[1], abs=0.02)


class TestNothingDegenerate:
    def test_a_component_without_frames_is_replaced(self):
        frames, start = made_frames(20000), made_start(lost=(2,))
        mixture = learnt(start, np.split(frames, 200))
        assert mixture.n_components == 4
        # It is forgotten, not at once: until then it might still be needed.
        mixture = learnt(mixture, [frames] * 60)
        assert np.abs(mixture.means).max() < 20
        assert (accumulate(mixture, frames).zeroth > 100).all()

    def test_a_component_without_weight_is_replaced_at_once(self):
        frames, start = made_frames(2000), made_start()
        without = Mixture(np.array([0.0, 0.5, 0.25, 0.25]), start.means, start.covariances)
        learner = StepwiseEM(without)
        learner.update(frames[:10], np.full(10, 1e9))
        assert learner.mixture.weights.min() > 0.1
        # What the batch said is not lost on the way: the mixture is that of its frames, with one component split.
        mean = learner.mixture.weights @ learner.mixture.means
        np.testing.assert_allclose(mean, frames[:10].mean(axis=0), atol=1e-6)

    def test_components_follow_frames_that_change(self):
        start, before = made_start(), made_frames(20000)
        after = made_frames(40000, seed=7) + 30.0
        learner = StepwiseEM(start, alpha=0.6)
        learner.update(before)
        for _ in range(4):
            learner.update(after)
        best = fit(after, kmeans(after, 4)).history[-1]
        assert learner.mixture.log_likelihoods(after).mean() > best - 0.6
        assert (learner.mixture.means.mean(axis=1) > 15).sum() >= 3

    @pytest.mark.parametrize("covariance_type", TYPES)
    @pytest.mark.parametrize("offset", [100.0, -1e4, 1e5])
    def test_a_start_far_from_the_frames(self, covariance_type, offset):
        frames, start = made_frames(20000), made_start(covariance_type)
        learner = StepwiseEM(start, alpha=0.6)
        for batch in np.split(frames + offset, 20):
            learner.update(batch)
            assert_valid(learner.mixture)
        for _ in range(20):
            learner.update(frames + offset)
        # Far components split one that found the frames; what is left is to tell the four places apart.
        found = learner.mixture.log_likelihoods(frames + offset).mean()
        one = fit(frames, made_start(covariance_type, n_components=1)).history[-1]
        assert found > one - 0.1

    @pytest.mark.parametrize("covariance_type", TYPES)
    def test_an_offset_changes_nothing_but_the_means(self, covariance_type):
        frames = made_frames(8000)
        here = learnt(made_start(covariance_type), [frames])
        there = learnt(made_start(covariance_type, offset=1e4), [frames + 1e4])
        np.testing.assert_allclose(there.means - 1e4, here.means, atol=1e-3)
        np.testing.assert_allclose(there.covariances, here.covariances, atol=1e-3)
        np.testing.assert_allclose(there.weights, here.weights, atol=1e-4)

    @given(
        seed=st.integers(0, 10_000),
        covariance_type=st.sampled_from(TYPES),
        n_components=st.integers(1, 6),
        n_features=st.integers(1, 5),
        kinds=st.lists(
            st.tuples(
                st.sampled_from(["normal", "one place", "copies", "heavy tails", "line"]),
                st.integers(1, 300),
                st.integers(-6, 6),
                st.sampled_from([0.0, -500.0, 1e5]),
            ),
            min_size=1,
            max_size=6,
        ),
        alpha=st.sampled_from([0.51, 0.7, 1.0]),
    )
    @settings(max_examples=150, deadline=None, derandomize=True)
    def test_a_valid_mixture_comes_out(self, seed, covariance_type, n_components, n_features, kinds, alpha):
        start = made_start(covariance_type, n_components, n_features)
        learner = StepwiseEM(start, alpha=alpha, frames_per_step=max(64, 4 * n_components))
        rng = np.random.default_rng(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SpeechGMMWarning)
            for kind, n_frames, exponent, offset in kinds:
                frames = 10.0**exponent * odd_frames(rng, kind, n_frames, n_features) + offset
                assert np.isfinite(learner.update(frames))
                assert_valid(learner.mixture)
                assert learner.mixture.n_components == n_components
                assert np.isfinite(learner.mixture.log_likelihoods(frames)).all()


def odd_frames(rng, kind, n_frames, n_features):
    shape = (n_frames, n_features)
    if kind == "one place":
        return np.ones(shape) * rng.standard_normal(n_features)
    if kind == "copies":
        return rng.standard_normal((3, n_features))[rng.integers(3, size=n_frames)]
    if kind == "heavy tails":
        return rng.standard_t(1.2, size=shape)
    if kind == "line":
        return np.ones(shape) * rng.standard_normal((n_frames, 1))
    return rng.standard_normal(shape)


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"alpha": 0.5}, r"`alpha` is 0.5; it must be above 0.5 and at most 1"),
            ({"alpha": 1.01}, "`alpha` is 1.01; it must"),
            ({"alpha": np.nan}, "`alpha` is nan; it must"),
            ({"frames_per_step": 15}, "`frames_per_step` is 15; .* with 4 components 16 or more"),
            ({"frames_per_step": 100.0}, "`frames_per_step` is 100.0; it must be a whole number"),
            ({"frames_per_step": True}, "`frames_per_step` is True; it must be a whole number"),
            ({"variance_floor": -1}, "`variance_floor` is -1; it must not be negative"),
            ({"variance_floor": [1, np.nan, 1]}, "`variance_floor` is .*; it must not be negative"),
            ({"reg_covar": -1e-6}, "`reg_covar` is -1e-06; it must not be negative"),
        ],
    )
    def test_options_out_of_range(self, options, match):
        with pytest.raises(InputError, match=match):
            StepwiseEM(made_start(), **options)

    def test_a_bad_batch_changes_nothing(self):
        learner = StepwiseEM(made_start())
        learner.update(made_frames(100))
        before, n_frames = learner.mixture, learner.n_frames
        bad = made_frames(3000)
        bad[2500, 1] = np.nan
        with pytest.raises(InputError, match="`frames` has the value nan at frame 2500, feature 1"):
            learner.update(bad)
        with pytest.raises(InputError, match="`frames` has 2 features; the mixture has 3"):
            learner.update(made_frames(10, n_features=2))
        with pytest.raises(InputError, match="`frames` holds no frames"):
            learner.update(np.zeros((0, 3)))
        with pytest.raises(InputError, match="all zero"):
            learner.update(made_frames(10), np.zeros(10))
        assert learner.mixture == before and learner.n_frames == n_frames
        again = StepwiseEM(made_start())
        again.update(made_frames(100))
        for one in (learner, again):
            one.update(made_frames(50, seed=3))
        assert learner.mixture == again.mixture
