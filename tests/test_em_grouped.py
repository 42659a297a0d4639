"""EM over candidate components, against EM over all of them."""

from itertools import pairwise

import numpy as np
import pytest

from speechgmm.audio import read_audio
from speechgmm.em.candidates import (
    Piece,
    SortedFrames,
    as_matrix,
    pieces_of,
    trimmed,
    widened,
)
from speechgmm.em.fit import fit
from speechgmm.em.grouped import LEAST_FRAMES, fit_grouped
from speechgmm.em.initialise import kmeans, random_frames
from speechgmm.em.mixture import Mixture
from speechgmm.em.moments import moments
from speechgmm.em.projection import Projection
from speechgmm.em.sources import ArraySource, BlockSource
from speechgmm.em.statistics import accumulate
from speechgmm.errors import InputError
from speechgmm.features import FeatureConfig, FeatureExtractor


@pytest.fixture(scope="module")
def frames():
    """Overlapping clusters, far from zero: 34,000 x 8, float32."""
    rng = np.random.default_rng(0)
    centres = rng.normal(scale=2.0, size=(150, 8))
    made = centres[rng.integers(150, size=34_000)] + rng.normal(size=(34_000, 8))
    return (50.0 + 3.0 * made).astype(np.float32)


@pytest.fixture(scope="module")
def start(frames):
    return kmeans(frames, 100, max_iterations=3)


@pytest.fixture(scope="module")
def result(frames, start):
    return fit_grouped(frames, start, max_iterations=10, tolerance=0.0)


def in_blocks(frames, mixture):
    """The sorted frames and the projection of the mixture."""
    coordinates = moments(frames).coordinates()
    return SortedFrames.of(ArraySource(frames), mixture, coordinates), Projection.of(mixture, coordinates)


def everything(sorted_frames):
    """Lists of all components."""
    return pieces_of(np.ones((len(sorted_frames.blocks), 100), np.bool_))


def test_bound_never_falls_between_refreshes(result):
    marked = set(result.refreshed) | set(result.reseeded)
    steps = [number for number in range(1, result.dense_from) if number not in marked]
    assert len(steps) >= 3
    for number in steps:
        # What float32 products allow, as in the dense engine.
        assert result.history[number] >= result.history[number - 1] - 1e-5 * abs(result.history[number])


def test_close_to_dense(frames, start, result):
    dense = fit(frames, start, max_iterations=10, tolerance=0.0)
    assert result.n_iterations == dense.n_iterations == result.dense_from
    assert result.history[-1] > dense.history[-1] - 0.01
    assert 0.0 <= result.gap <= 0.01


def test_last_likelihood_is_the_true_one(frames, result):
    assert result.history[-1] == accumulate(result.mixture, frames).mean_log_likelihood


@pytest.mark.parametrize("n_jobs", [2, 3])
def test_same_bits_with_any_number_of_jobs(frames, start, result, n_jobs):
    other = fit_grouped(frames, start, max_iterations=10, tolerance=0.0, n_jobs=n_jobs)
    assert other.mixture == result.mixture
    assert other.history == result.history


def test_same_bits_from_a_stream_and_from_a_file(frames, start, result, tmp_path):
    blocks = BlockSource(np.array_split(frames, 7))
    other = fit_grouped(blocks, start, max_iterations=10, tolerance=0.0, folder=tmp_path)
    assert other.mixture == result.mixture
    assert not list(tmp_path.iterdir())


def test_all_candidates_give_the_dense_statistics(frames, start):
    sorted_frames, projection = in_blocks(frames, start)
    pieces = everything(sorted_frames)
    found, masses = sorted_frames.accumulate(start, projection, pieces)
    dense = accumulate(start, frames)
    # Other blocks, so other roundings of float32 products.
    np.testing.assert_allclose(found.zeroth, dense.zeroth, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(found.second, dense.second, rtol=1e-4, atol=1e-3)
    assert found.n_frames == dense.n_frames
    assert found.mean_log_likelihood == pytest.approx(dense.mean_log_likelihood, abs=1e-5)
    assert as_matrix(pieces, masses, (len(sorted_frames.blocks), 100)).sum() == pytest.approx(
        len(frames), rel=1e-5
    )


def test_far_frames_are_set_apart(frames, start):
    far = frames.copy()
    far[[5, 700, 20_000]] += 5e4
    sorted_frames, projection = in_blocks(far, start)
    np.testing.assert_array_equal(sorted_frames.far.frames, far[[5, 700, 20_000]])
    assert sorted_frames.weights.sum() == len(frames) - 3
    found, _ = sorted_frames.accumulate(start, projection, everything(sorted_frames))
    dense = accumulate(start, far)
    assert found.n_frames == dense.n_frames
    assert found.mean_log_likelihood == pytest.approx(dense.mean_log_likelihood, rel=1e-6)
    np.testing.assert_allclose(found.first, dense.first, rtol=1e-4, atol=1e-2)


def test_sharp_components_go_through_float64(frames, start):
    covariances = start.covariances.copy()
    covariances[5] = 1e-4
    means = start.means.copy()
    means[5] = frames[100]
    sharp = Mixture(start.weights, means, covariances)
    sorted_frames, projection = in_blocks(frames, sharp)
    assert list(projection.sharp) == [5]
    pieces = everything(sorted_frames)
    found, _ = sorted_frames.accumulate(sharp, projection, pieces)
    dense = accumulate(sharp, frames)
    np.testing.assert_allclose(found.second[5], dense.second[5], rtol=1e-9)
    assert found.mean_log_likelihood == pytest.approx(dense.mean_log_likelihood, abs=1e-5)


def test_weights_are_repetitions(frames, start):
    counts = np.random.default_rng(1).integers(3, size=2 * len(frames))
    more = np.concatenate([frames, frames + np.float32(0.1)])
    options = {"max_iterations": 6, "tolerance": 0.0}
    weighted = fit_grouped(ArraySource(more, counts.astype(np.float64)), start, **options)
    assert weighted.dense_from == 6
    repeated = fit_grouped(np.repeat(more, counts, axis=0), start, **options)
    # Other blocks, other lists: the two are near, not equal.
    assert weighted.history[-1] == pytest.approx(repeated.history[-1], abs=0.01)


def test_scale_of_weights_does_not_matter(frames, start, result):
    options = {"max_iterations": 10, "tolerance": 0.0}
    scaled = fit_grouped(ArraySource(frames, np.full(len(frames), 2.0**-30)), start, **options)
    assert scaled.refreshed == result.refreshed
    assert scaled.history == pytest.approx(result.history, rel=1e-9)


def test_sample_estimates_masses(frames, start):
    sorted_frames, projection = in_blocks(frames, start)
    pieces = everything(sorted_frames)
    _, masses = sorted_frames.accumulate(start, projection, pieces)
    exact = as_matrix(pieces, masses, (len(sorted_frames.blocks), 100))
    estimates = [sorted_frames.sample_masses(projection, 8, first) for first in range(8)]
    # The eight samples make up all frames.
    np.testing.assert_allclose(np.mean(estimates, axis=0), exact, rtol=1e-3, atol=1e-3)


def test_components_outside_lists_come_back(frames, start):
    """Lists made for one mixture, then components change places: a refresh must find them again."""
    turned = Mixture(start.weights[::-1], start.means[::-1], start.covariances[::-1])
    sorted_frames, projection = in_blocks(frames, turned)
    shape = (len(sorted_frames.blocks), 100)
    pieces = everything(sorted_frames)
    truth = as_matrix(pieces, sorted_frames.accumulate(turned, projection, pieces)[1], shape)
    old = truth[:, ::-1]
    sample = sorted_frames.sample_masses(projection, 8, 0)
    chosen = widened(sample + old, 2 * int(trimmed(sample + old, 0.001).sum()))
    assert truth[trimmed(old, 0.001)].sum() / truth.sum() < 0.7
    assert truth[chosen].sum() / truth.sum() > 0.98


def test_trimmed_leaves_out_the_least_mass():
    masses = np.array([[90.0, 9.0, 0.5, 0.0], [1.0, 99.0, 0.4, 0.0]], np.float32)
    expected = np.array([[True, True, True, False], [True, True, False, False]])
    np.testing.assert_array_equal(trimmed(masses, 0.003), expected)
    # The third component explains something, so it keeps its best block whatever is asked.
    expected = np.array([[True, True, True, False], [False, True, False, False]])
    np.testing.assert_array_equal(trimmed(masses, 0.01), expected)


def test_widened_tries_what_explains_the_blocks_beside():
    masses = np.zeros((4, 5), np.float32)
    masses[[0, 1, 2, 3], [0, 1, 2, 3]] = 100.0
    chosen = widened(masses, 10)
    np.testing.assert_array_equal(chosen[1], [True, True, True, False, False])
    np.testing.assert_array_equal(chosen[3], [False, False, True, True, False])
    assert not chosen[:, 4].any()


def test_pieces_hold_what_was_chosen():
    chosen = np.random.default_rng(0).random((70, 20)) < 0.3
    chosen[:, 7] = True
    pieces = pieces_of(chosen)
    assert [type(piece) for piece in pieces] == [Piece] * 3
    masses = [np.ones(len(piece.members), np.float32) for piece in pieces]
    np.testing.assert_array_equal(as_matrix(pieces, masses, (70, 20)), chosen)


def test_goes_on_densely_where_the_gap_is_too_large(frames, start, monkeypatch):
    monkeypatch.setattr("speechgmm.em.grouped.LOST", 300.0)
    monkeypatch.setattr("speechgmm.em.grouped.WIDER", 1.0)
    seen = []
    result = fit_grouped(
        frames,
        start,
        largest_gap=1e-4,
        max_iterations=60,
        tolerance=0.02,
        on_iteration=lambda *pair: seen.append(pair),
    )
    assert result.gap > 1e-4
    assert result.dense_from < result.n_iterations
    assert [number for number, _ in seen] == [
        *range(result.dense_from + 1),
        *range(result.dense_from, result.n_iterations + 1),
    ]
    true = result.history[result.dense_from :]
    assert all(after >= before - 1e-5 * abs(after) for before, after in pairwise(true))
    assert result.converged


def test_stops_where_the_bound_settles(frames, start):
    result = fit_grouped(frames, start, max_iterations=100, tolerance=0.01)
    assert result.converged
    assert result.n_iterations < 100
    assert result.n_iterations not in result.refreshed


def test_components_too_sharp_are_left_to_the_dense_engine(frames, start):
    covariances = start.covariances.copy()
    covariances[5] = 1e-9
    result = fit_grouped(
        frames, Mixture(start.weights, start.means, covariances), max_iterations=1, tolerance=0.0
    )
    assert result.dense_from == 0
    assert result.n_iterations == 1


def test_reseeded_components_get_frames(frames, start):
    means = start.means.copy()
    means[:4] = 1e5
    result = fit_grouped(
        frames, Mixture(start.weights, means, start.covariances), max_iterations=6, tolerance=0.0
    )
    assert result.reseeded
    assert accumulate(result.mixture, frames).zeroth.min() > 0.5


@pytest.mark.parametrize(("n_frames", "n_components"), [(LEAST_FRAMES - 1, 80), (34_000, 63), (300, 4)])
def test_tiny_inputs_fall_back_to_dense(frames, n_frames, n_components):
    few = frames[:n_frames]
    start = random_frames(few, n_components)
    result = fit_grouped(few, start, max_iterations=2, tolerance=0.0)
    dense = fit(few, start, max_iterations=2, tolerance=0.0)
    assert result.mixture == dense.mixture
    assert result.history == dense.history
    assert result.refreshed == ()


def test_bad_options_are_refused(frames, start):
    with pytest.raises(InputError, match="`largest_gap` is 0; it must be more than 0"):
        fit_grouped(frames, start, largest_gap=0)
    with pytest.raises(InputError, match="`tolerance` is -1; it must not be negative"):
        fit_grouped(frames, start, tolerance=-1)
    with pytest.raises(InputError, match="`frames` has 7 features; `start` has 8"):
        fit_grouped(frames[:, :7], start)
    full = Mixture([1.0], np.zeros((1, 2)), np.eye(2)[None], "full")
    with pytest.raises(InputError, match="`start` has 'full' covariances"):
        fit_grouped(frames, full)


def test_real_frames(speech_data):
    """Against the dense engine on speech."""
    extractor = FeatureExtractor(FeatureConfig(sample_rate=8000))
    paths = sorted((speech_data / "fsdd" / "recordings").glob("*_[2-4]?.wav"))
    frames = np.concatenate([extractor.from_samples(read_audio(path)[0]) for path in paths])
    start = kmeans(frames, 128, max_iterations=3)
    result = fit_grouped(frames, start, max_iterations=10, tolerance=0.0)
    dense = fit(frames, start, max_iterations=10, tolerance=0.0)
    assert result.dense_from == 10
    assert result.gap <= 0.01
    assert result.history[-1] > dense.history[-1] - 0.02
