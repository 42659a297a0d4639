"""em.statistics: the same bits on any number of cores, and however frames come."""

import numpy as np
import pytest

from speechgmm.em.coordinates import Coordinates
from speechgmm.em.mixture import Mixture
from speechgmm.em.moments import moments
from speechgmm.em.sources import SHARD, ArraySource, BlockSource, Shard
from speechgmm.em.statistics import accumulate
from tests import naive
from tests.test_em_statistics import LOG_LIKELIHOOD, RELATIVE, assert_same_bits, bounds, random_case


@pytest.fixture(scope="module", params=naive.COVARIANCE_TYPES)
def large(request):
    """A mixture, and frames in several shards."""
    return random_case(7, 3 * SHARD + 777, 4, 3, offset=-50.0, covariance_type=request.param)


class TestSameBits:
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

    def test_for_blocks_of_any_length(self, large):
        mixture, frames = large
        cuts = [3, 511, SHARD, SHARD + 1, 3 * SHARD]
        assert_same_bits(
            accumulate(mixture, BlockSource(np.split(frames, cuts))), accumulate(mixture, frames)
        )

    def test_for_a_source_of_ones_own(self, large):
        mixture, frames = large

        class Source(ArraySource):
            def shards(self):
                return (Shard(np.asfortranarray(frames), None) for frames, _ in super().shards())

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
        bound = bounds(ordered.second, mixture.covariance_type)
        assert (np.abs(shuffled.second - ordered.second) <= RELATIVE * bound).all()
        # Some |x| add up to more, if they are of the order of one.
        assert (np.abs(shuffled.first - ordered.first) <= RELATIVE * ordered.zeroth[:, None]).all()
        assert shuffled.mean_log_likelihood == pytest.approx(ordered.mean_log_likelihood, abs=LOG_LIKELIHOOD)


@pytest.mark.parametrize("covariance_type", naive.COVARIANCE_TYPES)
def test_sharp_components_lose_nothing_to_float32_frames(covariance_type):
    weights, means, covariances = naive.random_parts(1, covariance_type, 3, 4)
    sharp = Mixture(weights, 10 * means, 1e-3 * covariances, covariance_type)
    frames = sharp.sample(1500, seed=1).astype(np.float32)
    assert_same_bits(accumulate(sharp, frames), accumulate(sharp, frames.astype(np.float64)))
