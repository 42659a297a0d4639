"""em.moments: mean, variance and covariance of frames against NumPy, and the coordinates that follow from them."""

import numpy as np
import pytest

from speechgmm.em.moments import moments
from speechgmm.em.sources import SHARD, ArraySource, Shard, as_source
from speechgmm.errors import InputError
from tests import naive


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

    @pytest.mark.parametrize("n_jobs", [1, 2, 3])
    def test_the_covariance_is_that_of_numpy(self, n_jobs):
        rng = np.random.default_rng(1)
        frames = rng.standard_normal((SHARD + 900, 4)) @ rng.standard_normal((4, 4)) + [0, 1e4, -500, 3]
        measured = moments(frames, n_jobs, covariance=True)
        np.testing.assert_allclose(measured.covariance, np.cov(frames.T, bias=True), rtol=1e-8, atol=1e-8)
        np.testing.assert_array_equal(measured.covariance, measured.covariance.T)
        np.testing.assert_array_equal(measured.covariance.diagonal(), measured.variance)
        np.testing.assert_allclose(measured.variance, moments(frames).variance, rtol=1e-12)
        assert moments(frames).covariance is None
        one = moments(frames, covariance=True)
        np.testing.assert_array_equal(measured.covariance, one.covariance)
        np.testing.assert_array_equal(measured.mean, one.mean)

    @pytest.mark.parametrize("covariance_type", naive.COVARIANCE_TYPES)
    def test_moments_of_weighted_frames_are_those_of_repeated_ones(self, covariance_type):
        frames = np.random.default_rng(0).standard_normal((700, 3)) - 50
        counts = np.random.default_rng(9).integers(0, 4, 700)
        weighted = moments(as_source(frames, counts), covariance=True)
        repeated = moments(np.repeat(frames, counts, axis=0), covariance=True)
        assert weighted.n_frames == repeated.n_frames
        # Double precision; the sums are formed in another order.
        for name in ("mean", "variance", "covariance"):
            np.testing.assert_allclose(
                getattr(weighted, name), getattr(repeated, name), rtol=1e-10, atol=1e-12
            )
        mine, theirs = weighted.coordinates(covariance_type), repeated.coordinates(covariance_type)
        np.testing.assert_array_equal(mine.scale, theirs.scale)

    @pytest.mark.parametrize("covariance", [False, True])
    def test_the_layout_of_an_array_does_not_matter(self, covariance):
        frames = np.random.default_rng(2).standard_normal((1300, 5))
        for weights in (None, np.random.default_rng(3).uniform(0, 2, 1300)):
            plain = moments(as_source(frames, weights), covariance=covariance)
            for other in (np.asfortranarray(frames), frames[::-1].copy()[::-1]):
                measured = moments(as_source(other, weights), covariance=covariance)
                np.testing.assert_array_equal(measured.mean, plain.mean)
                np.testing.assert_array_equal(measured.variance, plain.variance)
                if covariance:
                    np.testing.assert_array_equal(measured.covariance, plain.covariance)

    def test_a_value_that_is_not_finite_is_named_in_a_source_of_ones_own(self):
        class Source(ArraySource):
            def shards(self):
                return (Shard(frames, None) for frames, _ in super().shards())

        frames = np.zeros((SHARD + 50, 2))
        frames[SHARD + 7, 1] = np.nan
        with pytest.raises(InputError, match=f"the value nan at frame {SHARD + 7}, feature 1"):
            moments(Source(frames), covariance=True)

    def test_a_huge_value_among_others(self):
        frames = np.zeros((20, 2))
        frames[3] = 1e38
        with pytest.raises(InputError, match="so large that float32 cannot hold them; scale them down"):
            moments(frames)


class TestCoordinates:
    def test_moments_without_the_covariance_cannot_whiten(self):
        with pytest.raises(InputError, match="these moments were measured without the covariance"):
            moments(np.zeros((5, 3))).coordinates("full")

    @pytest.mark.parametrize("covariance_type", naive.COVARIANCE_TYPES)
    def test_dimensions_that_do_not_vary_get_a_scale_of_their_own(self, covariance_type):
        frames = np.random.default_rng(4).standard_normal((50, 4))
        frames[:, 1], frames[:, 3] = -500.0, 0.0
        coordinates = moments(frames, covariance=True).coordinates(covariance_type)
        assert np.isfinite(coordinates.log_volume)
        x = coordinates.apply(frames)
        assert np.isfinite(x).all() and np.abs(x).max() < 10
        # A thousandth of the value, or 1, as the nearest power of two.
        if covariance_type == "diag":
            assert coordinates.scale[[1, 3]].tolist() == [0.5, 1.0]

    @pytest.mark.parametrize("scale", [1e-15, 1e-6, 1e6, 1e30])
    @pytest.mark.parametrize("covariance_type", naive.COVARIANCE_TYPES)
    def test_the_unit_does_not_matter(self, scale, covariance_type):
        frames = np.random.default_rng(5).standard_normal((200, 3)) @ [[1, 0.5, 0], [0, 1, 0.9], [0, 0, 1]]
        x = moments(scale * frames, covariance=True).coordinates(covariance_type).apply(scale * frames)
        assert x.std(axis=0).min() > 0.5 and x.std(axis=0).max() < 2
