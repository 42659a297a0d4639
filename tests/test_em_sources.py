"""em.sources: frames in one piece or in many, cut to the same shards; and weights."""

import tracemalloc
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechgmm.em import sources
from speechgmm.em.fit import fit
from speechgmm.em.initialise import kmeans
from speechgmm.em.moments import moments
from speechgmm.em.sources import SHARD, ArraySource, BlockSource, PieceSource, as_source, require_weights
from speechgmm.em.terms import BLOCK
from speechgmm.errors import InputError


def numbered(n_frames, n_features=2, dtype=np.float32):
    return np.arange(n_frames * n_features, dtype=dtype).reshape(n_frames, n_features)


def assert_same_shards(one, other):
    mine, theirs = list(one.shards()), list(other.shards())
    assert [len(shard.frames) for shard in mine] == [len(shard.frames) for shard in theirs]
    for here, there in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(here.frames, there.frames)
        assert here.frames.dtype == there.frames.dtype
        assert (here.weights is None) == (there.weights is None)
        if here.weights is not None:
            np.testing.assert_array_equal(here.weights, there.weights)


def test_shards_are_whole_blocks():
    assert SHARD % BLOCK == 0


class TestArraySource:
    @pytest.mark.parametrize("n_frames", [1, SHARD - 1, SHARD, SHARD + 1, 2 * SHARD, 2 * SHARD + 5])
    @pytest.mark.parametrize("weighted", [False, True])
    def test_shards_are_the_frames_in_order(self, n_frames, weighted):
        frames = numbered(n_frames)
        weights = np.linspace(0.5, 2.0, n_frames) if weighted else None
        source = ArraySource(frames, weights)
        shards = list(source.shards())
        assert (source.n_frames, source.n_features) == (n_frames, 2)
        assert [len(shard.frames) for shard in shards[:-1]] == [SHARD] * (len(shards) - 1)
        assert 1 <= len(shards[-1].frames) <= SHARD
        np.testing.assert_array_equal(np.concatenate([shard.frames for shard in shards]), frames)
        if weighted:
            np.testing.assert_array_equal(np.concatenate([shard.weights for shard in shards]), weights)
        else:
            assert all(shard.weights is None for shard in shards) and source.weights is None

    def test_a_memory_map_is_read_piece_by_piece(self, tmp_path):
        np.save(tmp_path / "frames.npy", numbered(100))
        mapped = np.load(tmp_path / "frames.npy", mmap_mode="r")
        (shard,) = ArraySource(mapped).shards()
        assert np.shares_memory(shard.frames, mapped)


class TestBlockSource:
    @given(
        st.lists(st.integers(0, 40), min_size=1, max_size=12).filter(any),
        st.sampled_from([1, 7, 16, 32]),
        st.booleans(),
        st.sampled_from([np.float32, np.float64]),
    )
    @settings(max_examples=80, deadline=None, derandomize=True)
    def test_any_blocks_are_cut_to_the_same_shards(self, lengths, shard, weighted, dtype):
        frames = numbered(sum(lengths), 3, dtype)
        weights = np.arange(1.0, len(frames) + 1) if weighted else None
        blocks = np.split(frames, np.cumsum(lengths)[:-1])
        with mock.patch.object(sources, "SHARD", shard):
            whole = ArraySource(frames, weights)
            for given_ in (blocks, tuple(blocks), lambda: iter(blocks), lambda: (block for block in blocks)):
                source = BlockSource(given_, weights)
                assert (source.n_frames, source.n_features) == (len(frames), 3)
                assert_same_shards(source, whole)
                assert_same_shards(source, whole)  # and again

    @given(
        st.lists(st.integers(0, 40), min_size=1, max_size=12).filter(any),
        st.lists(st.integers(0, 10_000), max_size=12),
        st.sampled_from([1, 7, 16, 32]),
    )
    @settings(max_examples=80, deadline=None, derandomize=True)
    def test_rows_come_in_the_order_asked_for(self, lengths, numbers, shard):
        frames = numbered(sum(lengths), 3)
        source = BlockSource(np.split(frames, np.cumsum(lengths)[:-1]))
        wanted = np.array([number % len(frames) for number in numbers], np.intp)
        with mock.patch.object(sources, "SHARD", shard):
            for indices in (wanted, slice(0, 1), slice(None), slice(None, None, -1)):
                rows = source.rows(indices)
                np.testing.assert_array_equal(rows, ArraySource(frames).rows(indices))
                assert rows.dtype == np.float32 and rows.flags.c_contiguous

    def test_real_shards(self):
        frames = numbered(2 * SHARD + 100)
        assert_same_shards(BlockSource(np.split(frames, [3, SHARD, SHARD + 1])), ArraySource(frames))
        assert_same_shards(BlockSource([frames]), ArraySource(frames))

    def test_an_iterator_is_refused(self):
        with pytest.raises(
            InputError, match=r"read only once; give a list, .* or the function that makes the"
        ):
            BlockSource(iter([numbered(3)]))
        with pytest.raises(InputError, match="`blocks` is an iterator, which can be read only once"):
            BlockSource(block for block in [numbered(3)])

    @pytest.mark.parametrize("blocks", [[], [np.zeros((0, 2))], lambda: iter(())])
    def test_no_frames(self, blocks):
        with pytest.raises(
            InputError, match=r"`frames` holds no frames; at least 1 is needed \(everything dr"
        ):
            BlockSource(blocks)

    @pytest.mark.parametrize(
        ("odd", "message"),
        [
            (
                numbered(3, 5),
                "block 1 of frames has 5 features of float32; those before it have 2 of float32",
            ),
            (
                numbered(3, dtype=np.float64),
                r"2 features of float64; .* 2 of float32 \(features of two settings",
            ),
            (np.zeros(4), "`block 1 of frames` has 1 dimensions; it must have 2"),
            (np.array([["a", "b"]]), "`block 1 of frames` holds <U1 values; numbers are needed"),
        ],
    )
    def test_blocks_that_disagree(self, odd, message):
        with pytest.raises(InputError, match=message):
            BlockSource([numbered(3), odd])

    @pytest.mark.parametrize("later", [[numbered(3)], [numbered(4), numbered(4)]])
    def test_blocks_that_change(self, later):
        answers = [[numbered(3), numbered(3)], later]
        source = BlockSource(lambda: answers.pop(0))
        with pytest.raises(
            InputError, match=r"held 6 frames when first read, and (3|8 or more) now; they must not change"
        ):
            list(source.shards())

    def test_other_features_later(self):
        answers = [[numbered(3), numbered(3)], [numbered(3, 4), numbered(3, 4)]]
        source = BlockSource(lambda: answers.pop(0))
        with pytest.raises(InputError, match="block 0 of frames has 4 features"):
            list(source.shards())


LENGTHS = st.lists(st.integers(0, 40), min_size=1, max_size=12).filter(any)


def pieces_of(lengths, n_features=3, dtype=np.float32):
    """Numbered frames, and the same in pieces of the given lengths."""
    frames = numbered(sum(lengths), n_features, dtype)
    return frames, np.split(frames, np.cumsum(lengths)[:-1])


class TestPieceSource:
    @given(
        LENGTHS,
        st.sampled_from([1, 7, 16, 32]),
        st.booleans(),
        st.sampled_from([np.float32, np.float64]),
    )
    @settings(max_examples=80, deadline=None, derandomize=True)
    def test_any_pieces_are_cut_to_the_same_shards(self, lengths, shard, weighted, dtype):
        frames, pieces = pieces_of(lengths, dtype=dtype)
        weights = np.arange(1.0, len(frames) + 1) if weighted else None
        with mock.patch.object(sources, "SHARD", shard):
            whole = ArraySource(frames, weights)
            for given_ in (pieces, tuple(pieces)):
                source = PieceSource(given_, weights)
                assert (source.n_frames, source.n_features) == (len(frames), 3)
                assert (source.weights is None) == (weights is None)
                np.testing.assert_array_equal(source.weights, whole.weights)
                assert_same_shards(source, whole)
                assert_same_shards(source, whole)  # and again

    @given(LENGTHS, st.lists(st.integers(-10_000, 10_000), max_size=12), st.data())
    @settings(max_examples=80, deadline=None, derandomize=True)
    def test_rows_come_in_the_order_asked_for(self, lengths, numbers, data):
        frames, pieces = pieces_of(lengths)
        n = len(frames)
        # From the end too, unsorted, some more than once.
        wanted = np.array([np.sign(number) * (abs(number) % n) for number in numbers], np.intp)
        some = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
        steps = [slice(None, None, step) for step in (1, 2, 3, -1, -7)]
        cuts = [slice(0, 1), slice(n - 1, n + 9), slice(-3, None), slice(2, -2), slice(n, None)]
        for indices in (wanted, wanted.tolist(), some, *steps, *cuts):
            rows = PieceSource(pieces).rows(indices)
            np.testing.assert_array_equal(rows, ArraySource(frames).rows(indices), strict=True)
            assert rows.flags.c_contiguous and rows.flags.writeable

    @pytest.mark.parametrize("outside", [[6], [-7], [0, 99]])
    def test_rows_that_are_not_there(self, outside):
        with pytest.raises(IndexError, match="out of bounds for axis 0 with size 6"):
            PieceSource([numbered(4), numbered(2)]).rows(outside)

    def test_rows_are_a_copy_of_the_pieces(self):
        pieces = [numbered(3), numbered(4)]
        PieceSource(pieces).rows(slice(None))[:] = -1
        np.testing.assert_array_equal(np.concatenate(pieces), np.concatenate([numbered(3), numbered(4)]))

    def test_real_shards(self):
        frames = numbered(2 * SHARD + 100)
        for cuts in ([], [3, SHARD, SHARD + 1], [SHARD, 2 * SHARD], [2 * SHARD + 99], [0, 0, SHARD, SHARD]):
            assert_same_shards(PieceSource(np.split(frames, cuts)), ArraySource(frames))

    def test_a_shard_within_one_piece_is_no_copy(self):
        frames = numbered(3 * SHARD)
        first, second, third = PieceSource(np.split(frames, [SHARD + 5])).shards()
        assert np.shares_memory(first.frames, frames) and np.shares_memory(third.frames, frames)
        assert not np.shares_memory(second.frames, frames)  # it lies across both

    @pytest.mark.parametrize("indices", [slice(0, 1), slice(None, None, 1 << 20)])
    def test_a_few_of_very_many_rows_take_little_memory(self, indices):
        many = np.broadcast_to(np.zeros((1, 2), np.float32), (20_000_000, 2))
        source = PieceSource([many, many])
        tracemalloc.start()
        try:
            assert len(source.rows(indices)) in (1, 39)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 1e6

    def test_only_the_pieces_of_a_shard_are_read(self):
        class Watched(list):
            def __getitem__(self, index):
                read.append(index)
                return super().__getitem__(index)

        read = []
        source = PieceSource(Watched(pieces_of([8] * 10)[1]))
        read.clear()
        with mock.patch.object(sources, "SHARD", 16):
            shards = source.shards()
            for number in range(5):
                next(shards)
                assert {*read} == {2 * number, 2 * number + 1}
                read.clear()

    def test_memory_maps_that_cannot_be_written(self, tmp_path):
        frames, _ = pieces_of([700, 0, 800, 500])
        np.save(tmp_path / "frames.npy", frames)
        mapped = np.load(tmp_path / "frames.npy", mmap_mode="r")
        source = PieceSource([mapped[:700], mapped[700:700], mapped[700:1500], mapped[1500:]])
        assert_same_shards(source, ArraySource(frames))
        np.testing.assert_array_equal(source.rows([1999, 0, -1, 800]), frames[[1999, 0, -1, 800]])
        (shard,) = PieceSource([mapped]).shards()
        assert np.shares_memory(shard.frames, mapped) and not shard.frames.flags.writeable

    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("covariance_type", ["diag", "full"])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_a_fit_gives_the_same_bits_as_over_the_array(self, tmp_path, covariance_type, dtype, weighted):
        frames = np.random.default_rng(0).normal(size=(SHARD + 3000, 4)).astype(dtype)
        frames[::3] += 4.0
        np.save(tmp_path / "frames.npy", frames)
        mapped = np.load(tmp_path / "frames.npy", mmap_mode="r")
        cuts = [1, 1, 517, 4000, 4001, SHARD - 1, SHARD + 7]
        by_columns = [np.asfortranarray(piece) for piece in np.split(frames, cuts)]
        weights = np.random.default_rng(1).choice([0.0, 0.5, 3.0], len(frames)) if weighted else None

        def fitted(source):
            start = kmeans(source, 3, covariance_type=covariance_type, seed=5)
            return fit(source, start, max_iterations=4, tolerance=0.0)

        whole = ArraySource(frames, weights)
        expected, measured = fitted(whole), moments(whole)
        for pieces in (np.split(frames, cuts), np.split(mapped, cuts), by_columns):
            source = PieceSource(pieces, weights)
            result = fitted(source)
            assert result.mixture == expected.mixture
            assert result.history == expected.history
            np.testing.assert_array_equal(moments(source).variance, measured.variance)

    @pytest.mark.parametrize("pieces", [[], (), [np.zeros((0, 2))], [np.zeros((0, 2))] * 3])
    def test_no_frames(self, pieces):
        with pytest.raises(
            InputError, match=r"`frames` holds no frames; at least 1 is needed \(everything dr"
        ):
            PieceSource(pieces)

    @pytest.mark.parametrize(
        ("odd", "message"),
        [
            (
                numbered(3, 5),
                r"piece 1 of frames is of shape \(3, 5\) and float32; the first is of shape \(4, 2\)",
            ),
            (numbered(3, dtype=np.float64), r"\(3, 2\) and float64; the first .* and float32 \(features of"),
            (np.zeros((0, 2)), r"\(0, 2\) and float64; the first is of shape \(4, 2\) and float32"),
            (np.zeros(4, np.float32), r"piece 1 of frames is of shape \(4,\) and float32"),
            (np.zeros((1, 1, 2), np.float32), r"piece 1 of frames is of shape \(1, 1, 2\)"),
        ],
    )
    def test_pieces_that_disagree(self, odd, message):
        with pytest.raises(InputError, match=message):
            PieceSource([numbered(4), odd])

    def test_whole_weights_are_frames_that_come_more_than_once(self):
        frames = np.random.default_rng(0).normal(size=(600, 3))
        counts = np.repeat([2, 0, 1], [100, 200, 300])
        repeated = np.repeat(frames, counts, axis=0)
        start = kmeans(repeated, 2, seed=1)
        weighted = fit(PieceSource(np.split(frames, [50, 350]), counts), start, max_iterations=3)
        plain = fit(repeated, start, max_iterations=3)
        # Posteriors are float32, and sums formed in another order.
        np.testing.assert_allclose(weighted.mixture.means, plain.mixture.means, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(weighted.mixture.weights, plain.mixture.weights, rtol=1e-4)
        np.testing.assert_allclose(weighted.history, plain.history, rtol=1e-5)

    def test_it_passes_as_a_source(self):
        source = PieceSource([numbered(3), numbered(2)])
        assert as_source(source) is source
        with pytest.raises(InputError, match="`weights` cannot be given beside a frame source"):
            as_source(source, np.ones(5))


class TestAsSource:
    def test_each_kind_of_frames(self):
        frames = numbered(6, dtype=np.float64)
        for array in (frames, frames.tolist(), tuple(map(tuple, frames.tolist())), frames.astype(np.int64)):
            assert isinstance(as_source(array), ArraySource)
        for blocks in ([frames[:2], frames[2:]], (frames,), lambda: iter([frames]), {1: frames}.values()):
            assert isinstance(as_source(blocks), BlockSource)
        for each in (frames.tolist(), [frames[:2], frames[2:]], list(frames)):
            assert_same_shards(as_source(each), ArraySource(frames))
        source = ArraySource(frames)
        assert as_source(source) is source

    def test_weights_go_into_the_source(self):
        frames, weights = numbered(4), np.array([1.0, 0.0, 2.0, 0.5])
        for given_ in (frames, [frames[:1], frames[1:]]):
            np.testing.assert_array_equal(as_source(given_, weights).weights, weights)
        with pytest.raises(InputError, match="`weights` cannot be given beside a frame source; make the"):
            as_source(ArraySource(frames), weights)

    @pytest.mark.parametrize("frames", [5, None, object()])
    def test_what_is_no_frames(self, frames):
        with pytest.raises(InputError, match="frames"):
            as_source(frames)

    def test_a_generator(self):
        with pytest.raises(InputError, match="is an iterator, which can be read only once"):
            as_source(block for block in [numbered(3)])


class TestWeights:
    @pytest.mark.parametrize(
        ("weights", "message"),
        [
            ([1.0, 1.0], r"`weights` has the shape \(2,\); with 3 frames it must be \(3,\)"),
            ([[1.0], [1.0], [1.0]], r"has the shape \(3, 1\); with 3 frames"),
            (1.0, r"has the shape \(\); with 3 frames"),
            ([1.0, -0.5, 1.0], "`weights` has the value -0.5 at frame 1; it must be 0 or more, finite"),
            ([1.0, 1.0, np.nan], "has the value nan at frame 2"),
            ([np.inf, 1.0, 1.0], "has the value inf at frame 0"),
            ([0.0, 0.0, 0.0], r"`weights` are 0 on average; it must be between .* \(all zero\?"),
            ([1e-17] * 3, "are 1e-17 on average; it must be between 1e-15 and 1e\\+15"),
            ([1e17] * 3, "are 1e\\+17 on average"),
            (["a", "b", "c"], "`weights` are no numbers"),
            ([1.0, None, {}], "`weights` are no numbers"),
        ],
    )
    def test_what_cannot_be_weights(self, weights, message):
        for call in (require_weights, lambda weights, n: ArraySource(numbered(n), weights)):
            with pytest.raises(InputError, match=message):
                call(weights, 3)
        for source in (BlockSource, PieceSource):
            with pytest.raises(InputError, match=message):
                source([numbered(1), numbered(2)], weights)

    def test_integers_and_lists_will_do(self):
        assert require_weights([1, 0, 3], 3).tolist() == [1.0, 0.0, 3.0]
        assert require_weights(np.array([True, False]), 2).dtype == np.float64
