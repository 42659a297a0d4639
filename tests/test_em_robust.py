"""Never degenerate: whatever frames EM gets, a sound mixture comes out, or an error that says what to do."""

import warnings
from unittest import mock

import numpy as np
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from speechgmm.em import Mixture, sources
from speechgmm.em.fit import fit
from speechgmm.em.initialise import kmeans
from speechgmm.em.moments import moments
from speechgmm.em.sources import BlockSource, as_source
from speechgmm.em.statistics import accumulate
from speechgmm.errors import InputError, SpeechGMMWarning
from tests.naive import COVARIANCE_TYPES

# What the engine promises, per frame: float32 products, summed over frames.
LARGEST_FALL = 1e-5
# Of sums over frames, whatever the blocks: each float32 product is good to 6e-8, posteriors to about 1e-6.
RELATIVE = 1e-5

KINDS = (
    "normal",
    "copies",
    "narrow",
    "grid",
    "heavy tails",
    "half zeros",
    "constant",
    "collinear",
    "nearly collinear",
    "outlier",
)
CASES = {
    "seed": st.integers(0, 10_000),
    "kind": st.sampled_from(KINDS),
    "n_frames": st.one_of(st.integers(1, 30), st.integers(400, 1100)),
    "n_features": st.integers(1, 14),
    "n_components": st.integers(1, 9),
    "exponent": st.integers(-6, 6),
    "offset": st.sampled_from([0.0, -500.0, 1e4]),
    "dtype": st.sampled_from([np.float32, np.float64]),
}
every_type = pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
# Cases are small as they are, and making one smaller takes longer than finding it.
quickly = settings(max_examples=40, deadline=None, derandomize=True, phases=(Phase.explicit, Phase.generate))


def odd_frames(seed, kind, n_frames, n_features):
    """Frames of the kinds that break EM programs."""
    rng = np.random.default_rng(seed)
    frames = rng.standard_normal((n_frames, n_features))
    if kind in ("copies", "narrow"):
        places = rng.standard_normal((rng.integers(1, 9), n_features))
        noise = 0.0 if kind == "copies" else 10.0 ** rng.integers(-6, 0) * frames
        return places[rng.integers(len(places), size=n_frames)] + noise
    if kind == "grid":
        return rng.integers(0, rng.integers(2, 7), size=(n_frames, n_features)).astype(np.float64)
    if kind == "heavy tails":
        return rng.standard_t(1.5, size=(n_frames, n_features))
    if kind == "half zeros":
        frames[rng.random(frames.shape) < 0.5] = 0.0
    elif kind == "constant":
        frames[:, ::2] = rng.integers(-2, 3)
    elif kind == "collinear" and n_features > 1:
        frames[:, -1] = frames[:, :-1].sum(axis=1)
    elif kind == "nearly collinear" and n_features > 1:
        frames[:, -1] = frames[:, 0] + 10.0 ** rng.integers(-8, -1) * frames[:, -1]
    elif kind == "outlier":
        frames[rng.integers(n_frames)] *= 10.0 ** rng.integers(3, 8)
    return frames


def case(seed, kind, n_frames, n_features, exponent, offset, dtype):
    return (odd_frames(seed, kind, n_frames, n_features) * 10.0**exponent + offset).astype(dtype)


def random_weights(seed, n_frames):
    """Weights, a third of them zero, at least one not."""
    rng = np.random.default_rng(seed)
    weights = rng.uniform(0.1, 3.0, n_frames) * (rng.random(n_frames) < 2 / 3)
    weights[rng.integers(n_frames)] = 1.0
    return weights


def start_at(source, n_components, covariance_type, seed=0):
    """A start that owes nothing to k-means: some of the frames, with the covariance of the coordinates."""
    measured = moments(source, covariance=covariance_type in ("full", "tied"))
    rng = np.random.default_rng(seed)
    means = source.rows(rng.permutation(source.n_frames)[:n_components]).astype(np.float64)
    weights, unit = np.full(len(means), 1 / len(means)), np.ones(means.shape[1])
    whole = {"diag": np.tile(unit, (len(means), 1)), "spherical": np.ones(len(means))}
    whole |= {"tied": np.diag(unit), "full": np.tile(np.diag(unit), (len(means), 1, 1))}
    mixture = Mixture(weights, means, whole[covariance_type], covariance_type)
    covariances = mixture.type.undo(mixture.covariances, measured.coordinates(covariance_type))
    return Mixture(weights, means, covariances, covariance_type)


def falls(result):
    """How far the likelihood fell from one iteration to the next, where the history does not mark a re-seed."""
    changes = np.diff(result.history)
    marked = [iteration - 1 for iteration in result.reseeded if iteration <= len(changes)]
    return np.maximum(0.0, -np.delete(changes, marked)).max(initial=0.0)


def assert_valid(result, source, frames, floor):
    mixture = result.mixture
    for value in (mixture.weights, mixture.means, mixture.covariances, result.history):
        assert np.isfinite(value).all()
    assert mixture.weights.sum() == pytest.approx(1.0, abs=1e-9)
    assert mixture.weights.min() >= 0
    matrices = mixture.type.expanded(mixture.covariances, *mixture.means.shape)
    if mixture.has_matrices:
        np.testing.assert_array_equal(matrices, np.swapaxes(matrices, 1, 2))
        assert np.linalg.eigvalsh(matrices).min() > 0
    # No direction falls short of the floor, so none of the dimensions does.
    measured = moments(source)
    varies = np.sqrt(measured.variance) > 2e-6 * np.abs(measured.mean)
    least = floor * np.where(varies, measured.variance, 0.0)
    if mixture.covariance_type == "spherical":
        least = least.mean()
    assert (mixture.variances >= least * (1 - 1e-6)).all()
    log_likelihoods = mixture.log_likelihoods(frames)
    assert np.isfinite(log_likelihoods).all()
    exact = np.average(log_likelihoods, weights=source.weights)
    # The last entry of the history is the mixture's own likelihood.
    assert result.history[-1] == pytest.approx(exact, abs=2 * LARGEST_FALL, rel=1e-9)


def quiet_fit(source, start, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SpeechGMMWarning)
        return fit(source, start, max_iterations=10, tolerance=0, **options)


class TestAnyFrames:
    @every_type
    @given(**CASES, floor=st.sampled_from([1e-3, 1e-2, 0.1]), weighted=st.booleans())
    @example(
        seed=0,
        kind="normal",
        n_frames=2,
        n_features=2,
        n_components=1,
        exponent=0,
        offset=0.0,
        dtype=np.float32,
        floor=1e-3,
        weighted=False,
    )
    @quickly
    def test_a_valid_mixture_comes_out(
        self, covariance_type, seed, n_components, floor, weighted, **description
    ):
        frames = case(seed, **description)
        source = as_source(frames, random_weights(seed, len(frames)) if weighted else None)
        result = quiet_fit(source, start_at(source, n_components, covariance_type), variance_floor=floor)
        assert_valid(result, source, frames, floor)
        assert result.mixture.covariance_type == covariance_type
        assert result.mixture.n_components <= n_components
        assert falls(result) <= LARGEST_FALL

    @every_type
    @given(**CASES, reg_covar=st.sampled_from([0.0, 1e-3]))
    @quickly
    def test_a_valid_mixture_comes_out_of_kmeans_and_without_a_floor(
        self, covariance_type, seed, n_components, reg_covar, **description
    ):
        frames = case(seed, **description)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SpeechGMMWarning)
            start = kmeans(frames, n_components, covariance_type=covariance_type, variance_floor=0.0)
        result = quiet_fit(frames, start, variance_floor=0.0, reg_covar=reg_covar)
        source = as_source(frames)
        log_likelihoods = result.mixture.log_likelihoods(frames)
        assert np.isfinite(log_likelihoods).all() and np.isfinite(result.history).all()
        assert result.mixture.weights.sum() == pytest.approx(1.0, abs=1e-9)
        # Some directions have a millionth of a millionth of the variance of others: float64 leaves four digits of it.
        assert result.history[-1] == pytest.approx(log_likelihoods.mean(), abs=1e-3)
        if reg_covar == 0:
            assert falls(result) <= 1e-3
        assert result.mixture.n_features == source.n_features

    @every_type
    @pytest.mark.parametrize("size", [1e6, 1e12])
    def test_a_start_that_does_not_know_of_the_outliers(self, covariance_type, size):
        frames = odd_frames(0, "normal", 1500, 3)
        start = start_at(as_source(frames), 3, covariance_type)
        frames[::700] *= size
        result = quiet_fit(frames, start)
        assert_valid(result, as_source(frames), frames, 1e-3)

    @every_type
    def test_one_frame(self, covariance_type):
        frames = np.array([[1.0, -500.0, 0.0]])
        start = Mixture(*at_the_frame(frames[0], covariance_type), covariance_type)
        with pytest.warns(SpeechGMMWarning, match=r"3 of 3 features do not vary \(the first is number 0\)"):
            result = fit(frames, start)
        assert_valid(result, as_source(frames), frames, 1e-3)
        np.testing.assert_allclose(result.mixture.means, frames, rtol=1e-6)

    @every_type
    def test_more_components_than_distinct_frames(self, covariance_type):
        frames = np.repeat(odd_frames(1, "normal", 3, 4), 30, axis=0)
        with pytest.warns(SpeechGMMWarning, match="8 components asked for, but only 3 distinct frames"):
            start = kmeans(frames, 8, covariance_type=covariance_type)
        result = fit(frames, start)
        assert_valid(result, as_source(frames), frames, 1e-3)
        # Tied components of frames without any spread about them melt into one another at the floor's own pace.
        np.testing.assert_allclose(result.mixture.weights, 1 / 3, rtol=1e-4)

    @every_type
    def test_a_component_that_lost_its_frames_is_replaced(self, covariance_type):
        frames = odd_frames(2, "normal", 900, 3)
        near = start_at(as_source(frames), 3, covariance_type)
        means = near.means.copy()
        means[1] = 1e4
        start = Mixture(near.weights, means, near.covariances, covariance_type)
        result = fit(frames, start, tolerance=1e-5)
        assert result.reseeded == (1,) and result.mixture.n_components == 3
        assert np.abs(result.mixture.means).max() < 10
        assert (accumulate(result.mixture, frames).zeroth > 2).all()  # not one stays useless
        assert falls(result) <= LARGEST_FALL

    @every_type
    def test_frames_of_weight_zero_might_as_well_not_be_there(self, covariance_type):
        frames = odd_frames(3, "normal", 1300, 4) - 500.0
        weights = random_weights(3, 1300)
        frames[weights == 0] *= 1e5
        start = start_at(as_source(frames[weights > 0]), 3, covariance_type)
        here = fit(as_source(frames, weights), start, max_iterations=5, tolerance=0)
        there = fit(
            as_source(frames[weights > 0], weights[weights > 0]), start, max_iterations=5, tolerance=0
        )
        np.testing.assert_allclose(here.history, there.history, atol=LARGEST_FALL)
        np.testing.assert_allclose(here.mixture.weights, there.mixture.weights, atol=1e-4)


def at_the_frame(frame, covariance_type):
    covariances = {
        "diag": np.ones((1, 3)),
        "full": np.eye(3)[None],
        "tied": np.eye(3),
        "spherical": np.ones(1),
    }
    return np.ones(1), frame[None], covariances[covariance_type]


def odd_blocks(frames, seed=0):
    """The frames as a list of blocks of odd lengths, some of them empty."""
    rng = np.random.default_rng(seed)
    cuts = np.sort(rng.integers(0, len(frames) + 1, size=7))
    return np.split(frames, cuts)


def assert_same_bits(one, other):
    for name in ("zeroth", "first", "second"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert (one.log_likelihood, one.n_frames) == (other.log_likelihood, other.n_frames)
    assert one.coordinates.same_as(other.coordinates)


def assert_close(one, other):
    """Equal sums but for rounding; those of x and of products against the sums of squares that bound them."""
    n_components = len(one.zeroth)
    squares = np.abs(one.second)
    if one.covariance_type == "full":
        roots = np.sqrt(squares.diagonal(axis1=1, axis2=2))
        bound, of_first = roots[:, :, None] * roots[:, None, :], roots
    elif one.covariance_type == "tied":
        roots = np.sqrt(squares.diagonal())
        bound, of_first = np.outer(roots, roots), np.tile(roots, (n_components, 1))
    else:
        bound = squares
        of_first = np.sqrt(squares if one.covariance_type == "diag" else squares[:, None])
    tiny = 1e-12 * one.n_frames
    assert (np.abs(one.zeroth - other.zeroth) <= RELATIVE * one.zeroth + tiny).all()
    assert (np.abs(one.second - other.second) <= RELATIVE * bound + tiny * (1 + bound.max())).all()
    # Σγ|x| <= sqrt(Σγ Σγx²)
    bound = RELATIVE * np.sqrt(one.zeroth)[:, None] * of_first
    assert (np.abs(one.first - other.first) <= bound + tiny * (1 + of_first.max())).all()
    mean = one.mean_log_likelihood
    assert other.mean_log_likelihood == pytest.approx(mean, abs=LARGEST_FALL, rel=1e-6)


class TestStatistics:
    @every_type
    @given(**CASES)
    @example(
        seed=24,
        kind="outlier",
        n_frames=600,
        n_features=6,
        n_components=8,
        exponent=0,
        offset=0.0,
        dtype=np.float64,
    )
    @example(
        seed=165,
        kind="outlier",
        n_frames=1100,
        n_features=7,
        n_components=5,
        exponent=0,
        offset=1e4,
        dtype=np.float64,
    )
    @example(
        seed=111,
        kind="outlier",
        n_frames=600,
        n_features=5,
        n_components=8,
        exponent=0,
        offset=-500.0,
        dtype=np.float64,
    )
    @quickly
    def test_blocks_and_order_move_them_little(self, covariance_type, seed, n_components, **description):
        frames = case(seed, **description)
        mixture = start_at(as_source(frames), n_components, covariance_type, seed)
        measured = moments(frames, covariance=mixture.has_matrices)
        coordinates = measured.coordinates(covariance_type)
        whole = accumulate(mixture, frames, coordinates)
        order = np.random.default_rng(seed).permutation(len(frames))
        assert_close(whole, accumulate(mixture, frames[order], coordinates))
        parts = [accumulate(mixture, block, coordinates) for block in odd_blocks(frames, seed) if len(block)]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        assert_close(whole, total)

    @every_type
    @given(**CASES, weighted=st.booleans())
    @quickly
    def test_arrays_lists_of_blocks_memory_maps_and_either_precision_give_the_same_bits(
        self, covariance_type, seed, n_components, weighted, **description
    ):
        frames = case(seed, **description).astype(np.float32)
        weights = random_weights(seed, len(frames)) if weighted else None
        plain = as_source(frames, weights)
        mixture = start_at(plain, n_components, covariance_type, seed)
        expected = accumulate(mixture, plain)
        blocks = odd_blocks(frames, seed)
        for other in (frames.astype(np.float64), blocks, lambda: iter(blocks), np.asfortranarray(frames)):
            assert_same_bits(accumulate(mixture, as_source(other, weights)), expected)

    @every_type
    @given(**CASES, n_jobs=st.sampled_from([2, 3]))
    @settings(quickly, max_examples=15)
    def test_any_number_of_threads_gives_the_same_bits(
        self, covariance_type, seed, n_components, n_jobs, **description
    ):
        frames = case(seed, **description)
        mixture = start_at(as_source(frames), n_components, covariance_type, seed)
        with mock.patch.object(sources, "SHARD", 512):  # several shards even of few frames
            one = accumulate(mixture, frames)
            assert_same_bits(accumulate(mixture, frames, n_jobs=n_jobs), one)
            assert_same_bits(accumulate(mixture, BlockSource(odd_blocks(frames, seed)), n_jobs=n_jobs), one)


class TestWholeFits:
    @every_type
    def test_the_same_bits_however_frames_come_and_on_any_number_of_threads(self, covariance_type, tmp_path):
        frames = (odd_frames(5, "nearly collinear", 2 * sources.SHARD + 700, 4) - 500.0).astype(np.float32)
        np.save(tmp_path / "frames.npy", frames)
        start = start_at(as_source(frames), 3, covariance_type)
        expected = quiet_fit(frames, start)
        mapped = np.load(tmp_path / "frames.npy", mmap_mode="r")
        for other, n_jobs in (
            (frames, 2),
            (frames, 3),
            (odd_blocks(frames), 1),
            (mapped, 2),
            (frames.astype(np.float64), 1),
        ):
            result = quiet_fit(other, start, n_jobs=n_jobs)
            assert result.mixture == expected.mixture
            assert result.history == expected.history


class TestRefusals:
    @every_type
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("row", [0, 1, 700])
    def test_a_value_that_is_not_finite_is_named(self, covariance_type, value, row):
        frames = odd_frames(0, "normal", 800, 3)
        start = start_at(as_source(frames), 2, covariance_type)
        frames[row, 1] = value
        message = (
            rf"the value {value} at frame {row}, feature 1; every value must be finite \(log of zero, or a"
        )
        for bad in (frames, odd_blocks(frames)):
            with pytest.raises(InputError, match=message):
                fit(bad, start)
            with pytest.raises(InputError, match=message):
                kmeans(bad, 2, covariance_type=covariance_type)

    @every_type
    def test_no_frames(self, covariance_type):
        start = start_at(as_source(odd_frames(0, "normal", 20, 3)), 2, covariance_type)
        for nothing in (np.zeros((0, 3)), [np.zeros((0, 3))], lambda: iter(())):
            with pytest.raises(
                InputError, match=r"holds no frames; at least 1 is needed \(everything dropped"
            ):
                fit(nothing, start)

    @every_type
    @pytest.mark.parametrize("size", [1e38, 1e45, 1e200])
    def test_values_beyond_float32(self, covariance_type, size):
        start = start_at(as_source(odd_frames(0, "normal", 20, 3)), 2, covariance_type)
        with pytest.raises(InputError, match=r"so large.*; scale them down"):
            fit(size * odd_frames(0, "normal", 20, 3), start)

    def test_weights_of_zero_alone(self):
        with pytest.raises(
            InputError, match=r"`weights` are 0 on average; .*all zero\? otherwise scale them"
        ):
            as_source(odd_frames(0, "normal", 20, 3), np.zeros(20))
