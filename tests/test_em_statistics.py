"""em.statistics and em.sources: the fast E-step against plain loops, and the same bits on any number of cores."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechgmm.em.coordinates import Coordinates
from speechgmm.em.mixture import Mixture
from speechgmm.em.sources import SHARD, ArraySource
from speechgmm.em.statistics import accumulate, moments
from speechgmm.errors import InputError
from tests import naive

# float32 products: each term is good to 6e-8, a log-density to about 1e-6, so posteriors and sums are good to 1e-5.
RELATIVE = 1e-5
# Per frame; see above.
LOG_LIKELIHOOD = 1e-5


def random_case(seed=0, n_frames=300, n_features=3, n_components=4, offset=0.0, scale=1.0):
    """Frames from a random mixture, and another mixture near it."""
    rng = np.random.default_rng(seed)
    means = 2 * rng.standard_normal((n_components, n_features))
    weights = rng.dirichlet(np.full(n_components, 5.0))
    covariances = np.exp(rng.uniform(-1, 1, means.shape))
    truth = Mixture(weights, offset + scale * means, scale**2 * covariances)
    moved = means + 0.3 * rng.standard_normal(means.shape)
    return Mixture(weights, offset + scale * moved, scale**2 * covariances), truth.sample(n_frames, seed)


def assert_as_loops(statistics, mixture, frames):
    """Statistics agree with the naive loop's; errors of Σγx are measured against Σγ|x|."""
    origin, scale = statistics.coordinates.origin, statistics.coordinates.scale
    zeroth, first, second, absolute, total = naive.statistics(mixture, frames, origin, scale)
    # Posteriors below 2**-60 count as 2**-60.
    tiny = 1e-15 * len(frames)
    assert (np.abs(statistics.zeroth - zeroth) <= RELATIVE * zeroth + tiny).all()
    assert (np.abs(statistics.first - first) <= RELATIVE * absolute + tiny).all()
    assert (np.abs(statistics.second - second) <= RELATIVE * second + tiny).all()
    assert abs(statistics.log_likelihood - total) <= LOG_LIKELIHOOD * len(frames)
    assert statistics.n_frames == len(frames)
    assert statistics.zeroth.sum() == pytest.approx(len(frames), rel=1e-6)


def assert_same_bits(one, other):
    for name in ("zeroth", "first", "second"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert one.log_likelihood == other.log_likelihood
    assert one.n_frames == other.n_frames
    assert one.coordinates.same_as(other.coordinates)


class TestAgainstLoops:
    @given(
        st.integers(0, 10_000),
        st.integers(1, 60),
        st.integers(1, 6),
        st.integers(1, 6),
        st.sampled_from([0.0, -500.0, 1e4]),
    )
    @settings(max_examples=50, deadline=None, derandomize=True)
    def test_any_shape(self, seed, n_frames, n_features, n_components, offset):
        mixture, frames = random_case(seed, n_frames, n_features, n_components, offset)
        own = Coordinates(np.full(n_features, offset), np.full(n_features, 2.0))
        assert_as_loops(accumulate(mixture, frames, own), mixture, frames)

    @pytest.mark.parametrize("n_frames", [1, 511, 512, 513, SHARD, SHARD + 1])
    def test_around_the_ends_of_blocks_and_shards(self, n_frames):
        mixture, frames = random_case(1, n_frames, n_features=2, n_components=2)
        # One frame has no spread of its own to measure in.
        coordinates = Coordinates(np.zeros(2), np.full(2, 2.0))
        assert_as_loops(accumulate(mixture, frames, coordinates), mixture, frames)

    @pytest.mark.parametrize(("n_features", "n_components"), [(1, 1), (1, 5), (7, 1)])
    def test_one_feature_and_one_component(self, n_features, n_components):
        mixture, frames = random_case(2, 700, n_features, n_components)
        assert_as_loops(accumulate(mixture, frames), mixture, frames)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("offset", [0.0, -500.0])
    def test_raw_cepstra_lose_no_digits(self, dtype, offset):
        mixture, frames = random_case(3, 600, 5, offset=offset)
        frames = frames.astype(dtype)
        assert_as_loops(accumulate(mixture, frames), mixture, frames)

    def test_integers(self):
        frames = np.random.default_rng(0).integers(-30, 30, (600, 3))
        mixture = Mixture(np.array([0.5, 0.5]), np.array([[-9.0] * 3, [9.0] * 3]), np.full((2, 3), 200.0))
        for dtype in (np.int64, np.int16, np.float16):
            assert_as_loops(accumulate(mixture, frames.astype(dtype)), mixture, frames)

    @pytest.mark.parametrize("delta_orders", [0, 2])
    def test_real_frames(self, speech_data, delta_orders):
        frames = naive.real_frames(speech_data, delta_orders)[::3]
        rng = np.random.default_rng(0)
        means = frames[rng.permutation(len(frames))[:6]].astype(np.float64)
        mixture = Mixture(
            np.full(6, 1 / 6), means, np.tile(0.5 * frames.var(axis=0, dtype=np.float64), (6, 1))
        )
        assert_as_loops(accumulate(mixture, frames.copy()), mixture, frames)

    def test_frames_far_from_all_others(self):
        mixture, frames = random_case(4, 1200, 3)
        frames[[5, 600, 1199]] = [[1e3, 0, 0], [1e6, -1e6, 2.0], [1e30, 1e30, -1e30]]
        coordinates = Coordinates(np.zeros(3), np.full(3, 2.0))
        statistics = accumulate(mixture, frames[:-1], coordinates)
        origin, scale = coordinates.origin, coordinates.scale
        zeroth, first, second, absolute, total = naive.statistics(mixture, frames[:-1], origin, scale)
        np.testing.assert_allclose(statistics.zeroth, zeroth, rtol=RELATIVE)
        assert (np.abs(statistics.first - first) <= RELATIVE * absolute).all()
        np.testing.assert_allclose(statistics.second, second, rtol=RELATIVE)
        assert statistics.log_likelihood == pytest.approx(total, rel=1e-9)  # 1e12 is one frame's
        everything = accumulate(mixture, frames, coordinates)
        assert np.isfinite(everything.second).all() and np.isfinite(everything.log_likelihood)

    def test_a_component_of_weight_zero_gets_nothing(self):
        mixture, frames = random_case(5, n_components=2)
        mixture = replace(mixture, weights=np.array([1.0, 0.0]))
        statistics = accumulate(mixture, frames)
        assert statistics.zeroth[0] == pytest.approx(len(frames), rel=1e-6)
        assert statistics.zeroth[1] < 1e-12
        assert_as_loops(statistics, mixture, frames)

    @pytest.mark.parametrize("deviation", [1e-2, 1e-4])
    def test_narrow_components_away_from_the_origin(self, deviation):
        rng = np.random.default_rng(0)
        means = rng.standard_normal((4, 13))
        frames = means[rng.integers(4, size=400)] + deviation * rng.standard_normal((400, 13))
        mixture = Mixture(np.full(4, 0.25), means, np.full((4, 13), deviation**2))
        assert_as_loops(accumulate(mixture, frames), mixture, frames)

    @pytest.mark.parametrize(("place", "deviation"), [(1e20, 1e-5), (1e30, 1.0), (9e36, 1.0)])
    def test_a_component_absurdly_far_away_gets_nothing(self, place, deviation):
        mixture, frames = random_case(5, n_components=2)
        means, covariances = mixture.means.copy(), mixture.covariances.copy()
        means[1], covariances[1] = place, deviation**2
        mixture = Mixture(mixture.weights, means, covariances)
        assert_as_loops(accumulate(mixture, frames), mixture, frames)


class TestSum:
    def test_statistics_of_parts_add_up(self):
        mixture, frames = random_case(6, 1300)
        whole = accumulate(mixture, frames)
        coordinates = whole.coordinates
        parts = accumulate(mixture, frames[:700], coordinates) + accumulate(
            mixture, frames[700:], coordinates
        )
        assert_as_loops(parts, mixture, frames)
        # The cut makes other blocks; only float32 rounding inside them differs.
        np.testing.assert_allclose(parts.zeroth, whole.zeroth, rtol=RELATIVE)
        np.testing.assert_allclose(parts.second, whole.second, rtol=RELATIVE)
        assert parts.mean_log_likelihood == pytest.approx(whole.mean_log_likelihood, abs=LOG_LIKELIHOOD)
        assert parts.mean_log_likelihood == parts.log_likelihood / 1300

    def test_parts_cut_between_shards_give_the_same_bits(self):
        mixture, frames = random_case(6, SHARD + 600, 2, 2)
        whole = accumulate(mixture, frames)
        parts = [accumulate(mixture, part, whole.coordinates) for part in (frames[:SHARD], frames[SHARD:])]
        assert_same_bits(parts[0] + parts[1], whole)

    def test_other_coordinates_are_refused(self):
        mixture, frames = random_case()
        here = accumulate(mixture, frames, Coordinates(np.zeros(3), np.ones(3)))
        for other in (Coordinates(np.ones(3), np.ones(3)), Coordinates(np.zeros(3), np.full(3, 2.0))):
            with pytest.raises(
                InputError, match=r"in different coordinates \(origin, scale\) cannot be added"
            ):
                here + accumulate(mixture, frames, other)

    def test_other_shapes_are_refused(self):
        mixture, frames = random_case()
        statistics = accumulate(mixture, frames)
        for other in (random_case(n_components=5), random_case(n_features=2)):
            shape = (other[0].n_components, other[0].n_features)
            with pytest.raises(
                InputError, match=rf"of shapes \(4, 3\) and \({shape[0]}, {shape[1]}\) cannot be added"
            ):
                statistics + accumulate(*other)


class TestSameBits:
    @pytest.fixture(scope="class")
    def large(self):
        return random_case(7, 3 * SHARD + 777, 4, 3, offset=-50.0)

    @pytest.mark.parametrize("n_jobs", [2, 3])
    def test_on_any_number_of_threads(self, large, n_jobs):
        assert_same_bits(accumulate(*large, n_jobs=n_jobs), accumulate(*large))
        one, several = moments(large[1]), moments(large[1], n_jobs=n_jobs)
        np.testing.assert_array_equal(one.mean, several.mean)
        np.testing.assert_array_equal(one.variance, several.variance)

    def test_for_float32_and_its_copy_in_float64(self, large):
        mixture, frames = large[0], large[1][:5000].astype(np.float32)
        assert_same_bits(accumulate(mixture, frames), accumulate(mixture, frames.astype(np.float64)))

    @pytest.mark.parametrize("dtype", [np.float32, np.float64, ">f4"])
    def test_however_the_array_lies_in_memory(self, large, dtype):
        mixture, frames = large[0], large[1][:5000].astype(dtype)
        coordinates = Coordinates(np.full(4, -50.0), np.full(4, 2.0))
        plain = accumulate(mixture, frames, coordinates)
        spread = np.zeros((5000, 8), dtype)
        spread[:, ::2] = frames
        for other in (np.asfortranarray(frames), spread[:, ::2], frames[::-1].copy()[::-1], frames.tolist()):
            assert_same_bits(accumulate(mixture, other, coordinates), plain)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_read_only_arrays_and_memory_maps(self, large, dtype, tmp_path):
        mixture, frames = large[0], large[1][:5000].astype(dtype)
        np.save(tmp_path / "frames.npy", frames)
        plain = accumulate(mixture, frames)
        assert_same_bits(accumulate(mixture, np.load(tmp_path / "frames.npy", mmap_mode="r")), plain)
        frames.setflags(write=False)
        assert_same_bits(accumulate(mixture, frames), plain)

    def test_memory_maps_that_can_be_written(self, large, tmp_path):
        mixture, frames = large[0], large[1][:5000]
        np.save(tmp_path / "frames.npy", frames)
        for mode in ("r+", "c"):
            mapped = np.load(tmp_path / "frames.npy", mmap_mode=mode)
            assert_same_bits(accumulate(mixture, mapped), accumulate(mixture, frames))
        np.testing.assert_array_equal(np.load(tmp_path / "frames.npy"), frames)

    def test_for_a_source_of_ones_own(self, large):
        mixture, frames = large

        class Source(ArraySource):
            def shards(self):
                return (np.asfortranarray(shard) for shard in super().shards())

        assert_same_bits(accumulate(mixture, Source(frames)), accumulate(mixture, frames))

    def test_the_frames_are_not_changed(self):
        mixture, frames = random_case(4, 1200, 3)
        frames[5] = 1e6
        before = frames.copy()
        accumulate(mixture, frames)
        np.testing.assert_array_equal(frames, before)

    @pytest.mark.parametrize("seed", range(3))
    def test_the_order_of_the_frames_moves_little(self, large, seed):
        mixture, frames = large[0], large[1][:20_000]
        ordered = accumulate(mixture, frames)
        order = np.random.default_rng(seed).permutation(len(frames))
        shuffled = accumulate(mixture, frames[order], ordered.coordinates)
        np.testing.assert_allclose(shuffled.zeroth, ordered.zeroth, rtol=RELATIVE)
        np.testing.assert_allclose(shuffled.second, ordered.second, rtol=RELATIVE)
        # |x| is at most (1 + x²) / 2.
        assert (
            np.abs(shuffled.first - ordered.first)
            <= RELATIVE * 0.5 * (ordered.zeroth[:, None] + ordered.second)
        ).all()
        assert shuffled.mean_log_likelihood == pytest.approx(ordered.mean_log_likelihood, abs=LOG_LIKELIHOOD)


class TestMoments:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
    def test_they_are_those_of_numpy(self, dtype):
        frames = (100 * np.random.default_rng(0).standard_normal((2000, 3)) + [0, 1e4, -500]).astype(dtype)
        measured = moments(frames)
        assert measured.n_frames == 2000
        np.testing.assert_allclose(
            measured.mean, frames.mean(axis=0, dtype=np.float64), rtol=1e-12, atol=1e-10
        )
        np.testing.assert_allclose(measured.variance, frames.var(axis=0, dtype=np.float64), rtol=1e-9)

    def test_a_large_offset_takes_no_digits(self):
        noise = np.random.default_rng(0).standard_normal((5000, 1))
        assert moments(noise + 1e8).variance == pytest.approx(noise.var(), rel=1e-6)
        assert moments(np.full((5000, 1), 0.1)).variance == 0.0

    @pytest.mark.parametrize("row", [0, 1, 700, SHARD + 3])
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_a_value_that_is_not_finite_is_named(self, row, value):
        frames = np.zeros((SHARD + 5, 3), np.float32)
        frames[row, 2] = value
        with pytest.raises(
            InputError, match=rf"`frames` has the value {value} at frame {row}, feature 2; every"
        ):
            moments(frames)

    def test_both_infinities(self):
        with pytest.raises(InputError, match="the value -inf at frame 0, feature 0"):
            moments(np.array([[-np.inf, np.inf]]))

    def test_values_that_overflow_are_refused(self):
        with pytest.raises(InputError, match="so large that their squares overflow; scale them down"):
            moments(np.array([[1e200], [-1e200]]))


class TestRefusals:
    @pytest.mark.parametrize("call", [moments, lambda frames: accumulate(random_case()[0], frames)])
    def test_frames_that_cannot_be_used(self, call):
        with pytest.raises(
            InputError, match=r"`frames` holds no frames; at least 1 is needed \(everything dropped"
        ):
            call(np.zeros((0, 3)))
        with pytest.raises(
            InputError, match=r"`frames` has 1 dimensions; it must have 2.*use frames\[:, None\]"
        ):
            call(np.zeros(3))
        with pytest.raises(InputError, match="`frames` holds <U5 values; numbers are needed"):
            call(np.array([["hello", "you", "x"]]))
        with pytest.raises(InputError, match="`frames` holds object values; numbers are needed"):
            call(np.array([[1.0, {}, 2.0]], dtype=object))

    @pytest.mark.parametrize(
        "frames", [[["1", "2", "3"]], [[1j, 2, 3]], np.array([["2020-01-01"] * 3], dtype="M8[D]")]
    )
    def test_what_only_looks_like_numbers(self, frames):
        with pytest.raises(InputError, match="numbers are needed"):
            accumulate(random_case()[0], frames)

    def test_rows_of_different_lengths(self):
        with pytest.raises(InputError, match="`frames`"):
            moments([[1.0, 2.0], [3.0]])

    def test_another_number_of_features(self):
        with pytest.raises(InputError, match="`frames` has 5 features; the mixture has 3"):
            accumulate(random_case()[0], np.zeros((4, 5)))

    @pytest.mark.parametrize("n_jobs", [0, 1.5, "2"])
    def test_n_jobs(self, n_jobs):
        with pytest.raises(InputError, match=r"`n_jobs` is .*; it must be 1 or more, or -1 for all cores"):
            accumulate(*random_case(), n_jobs=n_jobs)

    def test_not_finite_without_coordinates(self):
        mixture, frames = random_case()
        frames[7, 1] = np.nan
        with pytest.raises(InputError, match="the value nan at frame 7, feature 1"):
            accumulate(mixture, frames)

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_not_finite_with_coordinates(self, value):
        mixture, frames = random_case()
        frames[7, 1] = value
        with pytest.raises(InputError, match=f"the value {value} at frame 7, feature 1"):
            accumulate(mixture, frames, Coordinates(np.zeros(3), np.ones(3)))
