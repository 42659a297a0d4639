"""em.many and em.initialise.grow: many mixtures scored in one pass, and mixtures that gain components."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechgmm.em.coordinates import Coordinates
from speechgmm.em.initialise import grow, split
from speechgmm.em.many import TOGETHER, ManyMixtures, _parts
from speechgmm.em.mixture import Mixture
from speechgmm.em.moments import moments
from speechgmm.em.sources import ArraySource
from speechgmm.em.terms import BLOCK
from speechgmm.errors import InputError, SpeechGMMWarning
from tests import naive
from tests.naive_hmm import random_mixture

TYPES = ("diag", "full", "tied", "spherical")
every_type = pytest.mark.parametrize("covariance_type", TYPES)


def mixtures_of(sizes, covariance_type="diag", n_features=3, seed=0, spread=2.0):
    rng = np.random.default_rng(seed)
    return [random_mixture(rng, size, n_features, spread, covariance_type) for size in sizes]


def frames_of(n_frames, n_features=3, seed=1, spread=2.0):
    return spread * np.random.default_rng(seed).standard_normal((n_frames, n_features))


def expected(mixtures, frames):
    return np.stack([naive.log_likelihoods(mixture, frames) for mixture in mixtures], axis=1)


# Scoring. Products in float32 of terms that add up to some tens of nats: 1e-4 is what the docstring promises; for
# scores that are larger still, so many digits: 1e-5 of them.
NEAR = {"atol": 1e-4, "rtol": 1e-5}


@every_type
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_are_those_of_plain_loops(covariance_type, dtype):
    mixtures = mixtures_of((1, 4, 2, 3), covariance_type)
    frames = frames_of(60).astype(dtype)
    scores = ManyMixtures(mixtures).log_likelihoods(frames)
    assert scores.shape == (60, 4) and scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected(mixtures, frames), **NEAR)


def test_mixtures_of_different_covariances_are_scored_together():
    mixtures = [mixtures_of((2,), one, seed=number)[0] for number, one in enumerate(TYPES)]
    frames = frames_of(20)
    np.testing.assert_allclose(
        ManyMixtures(mixtures).log_likelihoods(frames), expected(mixtures, frames), **NEAR
    )


@pytest.mark.parametrize("n_frames", [1, 7, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 3])
def test_any_number_of_frames(n_frames):
    mixtures = mixtures_of((2, 1))
    frames = frames_of(n_frames)
    exact = np.stack([mixture.log_likelihoods(frames) for mixture in mixtures], axis=1)
    np.testing.assert_allclose(ManyMixtures(mixtures).log_likelihoods(frames), exact, **NEAR)


def test_no_frames_have_no_scores():
    assert ManyMixtures(mixtures_of((2, 1))).log_likelihoods(np.empty((0, 3))).shape == (0, 2)


def test_more_components_than_are_worked_on_together():
    # Parts end in the middle, and one mixture is larger than a part by itself.
    sizes = (200, 100, 156, TOGETHER + 5, 1, 1)
    assert _parts(sizes, TOGETHER).tolist() == [0, 1, 3, 4, 6]
    mixtures = mixtures_of(sizes)
    frames = frames_of(700)
    exact = np.stack([mixture.log_likelihoods(frames) for mixture in mixtures], axis=1)
    np.testing.assert_allclose(ManyMixtures(mixtures).log_likelihoods(frames), exact, **NEAR)


@given(st.lists(st.integers(1, 400), min_size=1, max_size=30))
def test_parts_hold_every_mixture_once_and_are_no_larger_than_needed(counts):
    bounds = _parts(counts, TOGETHER).tolist()
    assert bounds[0] == 0 and bounds[-1] == len(counts) and bounds == sorted(set(bounds))
    for first, last in pairwise(bounds):
        assert sum(counts[first:last]) <= TOGETHER or last == first + 1
    for first, middle, last in zip(bounds, bounds[1:], bounds[2:], strict=False):
        assert sum(counts[first:middle]) + counts[middle] > TOGETHER
        assert last > middle


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=5),
    st.sampled_from(TYPES),
    st.integers(1, 4),
    st.integers(0, 2**16),
)
def test_any_mixtures(sizes, covariance_type, n_features, seed):
    mixtures = mixtures_of(sizes, covariance_type, n_features, seed)
    frames = frames_of(9, n_features, seed)
    scores = ManyMixtures(mixtures).log_likelihoods(frames)
    np.testing.assert_allclose(scores, expected(mixtures, frames), **NEAR)


def test_cepstra_far_from_zero_lose_no_digits():
    # In float32 the squares of 500 have an error of 0.02, a hundred times what is allowed here.
    mixtures = [
        Mixture(one.weights, one.means - 500.0, one.covariances) for one in mixtures_of((3, 2), spread=1.0)
    ]
    frames = (frames_of(50, spread=1.0) - 500.0).astype(np.float32)
    np.testing.assert_allclose(
        ManyMixtures(mixtures).log_likelihoods(frames), expected(mixtures, frames), **NEAR
    )


def test_frames_far_from_all_mixtures_are_scored_by_the_plain_equation():
    mixtures = mixtures_of((3, 2))
    frames = frames_of(10)
    frames[3] = 1e6
    frames[7, 1] = -1e9
    scores = ManyMixtures(mixtures).log_likelihoods(frames)
    # Rounded to float32 once, which is good to 6e-8; near frames are not disturbed.
    far = [3, 7]
    np.testing.assert_allclose(scores[far], expected(mixtures, frames[far]), rtol=1e-7)
    near = [i for i in range(10) if i not in far]
    np.testing.assert_allclose(scores[near], expected(mixtures, frames[near]), **NEAR)


@pytest.mark.parametrize("value", [1e15, 1e25, -1e37])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_frames_as_far_as_they_may_be_have_scores_that_can_be_added(value, dtype):
    # A score must stay finite in float32, because compiled passes know no infinity, and nothing may warn.
    frames = frames_of(3).astype(dtype)
    frames[1] = value
    scores = ManyMixtures(mixtures_of((3, 2))).log_likelihoods(frames)
    assert np.isfinite(scores).all()
    assert (scores[1] < -1e28).all()


@pytest.mark.parametrize("variance", [1e-4, 1e-8, 1e-14])
def test_sharp_components_are_scored_exactly(variance):
    # Its own deviations away from the others', where terms of float32 would cancel: 1e4 of them, and 1e7.
    wide, sharp = mixtures_of((3, 2))
    sharp = Mixture(sharp.weights, sharp.means, np.full(sharp.means.shape, variance))
    mixtures = [wide, sharp, wide]
    frames = np.concatenate([frames_of(20), sharp.means + np.sqrt(variance) * frames_of(2)])
    scores = ManyMixtures(mixtures).log_likelihoods(frames)
    np.testing.assert_allclose(scores, expected(mixtures, frames), rtol=1e-5, atol=1e-3)


def test_a_mixture_too_sharp_for_products_does_not_change_the_way_of_others():
    one, other = mixtures_of((3, 2))
    needle = Mixture(other.weights, other.means, np.full(other.means.shape, 1e-14))
    frames, shared = frames_of(40), Coordinates(np.zeros(3), np.ones(3))
    together = ManyMixtures([one, needle, other], shared, together=1)
    assert together._too_sharp() == [1]
    expected_bits = ManyMixtures([one, other], shared, together=1).log_likelihoods(frames)
    assert np.array_equal(together.log_likelihoods(frames)[:, [0, 2]], expected_bits)


def test_totals_are_sums_over_all_frames_in_float64():
    wide, sharp = mixtures_of((3, 2))
    needle = Mixture(sharp.weights, sharp.means, np.full(sharp.means.shape, 1e-14))
    mixtures, frames = [wide, sharp, needle], frames_of(600)
    exact = expected(mixtures, frames)
    totals = ManyMixtures(mixtures).total_log_likelihoods(frames)
    assert totals.dtype == np.float64
    # No frame is off by more than NEAR says, and errors do not pile up.
    np.testing.assert_allclose(totals / 600, exact.mean(axis=0), **NEAR)
    frames[3] = 1e6
    difference = ManyMixtures(mixtures).total_log_likelihoods(frames) - totals
    # The score of a frame far out, -1e12 and beyond, keeps the digits of float64: float32 holds seven.
    exact = expected(mixtures, frames[3:4])[0] - exact[3]
    np.testing.assert_allclose(difference, exact, rtol=1e-14, atol=1e-4)


@pytest.mark.parametrize("numbers", [[0], [2, 0], [0, 1, 2, 3], [1, 1]])
def test_chosen_mixtures_have_the_bits_of_all(numbers):
    # With a product for each mixture no other one has a say in its bits.
    many, frames = ManyMixtures(mixtures_of((17, 40, 5, 1)), together=1), frames_of(550).astype(np.float32)
    frames[7] += 1e4
    chosen = many.chosen(numbers)
    assert chosen.mixtures == tuple(many.mixtures[number] for number in numbers)
    assert np.array_equal(chosen.log_likelihoods(frames), many.log_likelihoods(frames)[:, numbers])
    assert np.array_equal(chosen.total_log_likelihoods(frames), many.total_log_likelihoods(frames)[numbers])
    assert len(many.mixtures) == 4


def test_a_component_of_no_weight_counts_for_nothing():
    one = mixtures_of((2,))[0]
    empty = Mixture(np.array([1.0, 0.0]), one.means, one.covariances)
    alone = Mixture(np.ones(1), one.means[:1], one.covariances[:1])
    scores = ManyMixtures([empty, alone]).log_likelihoods(frames_of(30))
    np.testing.assert_allclose(scores[:, 0], scores[:, 1], atol=1e-5)


def test_coordinates_may_be_given():
    mixtures = mixtures_of((3, 2))
    frames = frames_of(20)
    shifted = ManyMixtures(mixtures, Coordinates(np.array([1.0, -2.0, 0.5]), np.array([4.0, 1.0, 0.5])))
    np.testing.assert_allclose(shifted.log_likelihoods(frames), expected(mixtures, frames), **NEAR)


def test_frames_may_be_read_only_and_not_contiguous():
    mixtures = mixtures_of((2, 2))
    frames = frames_of(40)
    whole = ManyMixtures(mixtures).log_likelihoods(frames)
    view = np.repeat(frames, 2, axis=0)[::2]
    view.flags.writeable = False
    assert np.array_equal(ManyMixtures(mixtures).log_likelihoods(view), whole)


def test_the_same_frames_have_the_same_bits_again():
    many, frames = ManyMixtures(mixtures_of((40, 3))), frames_of(700).astype(np.float32)
    assert np.array_equal(many.log_likelihoods(frames), many.log_likelihoods(frames.copy()))


def test_mixtures_must_agree_in_features():
    with pytest.raises(InputError, match="mixtures scored together must be one or more, all with as many"):
        ManyMixtures([])
    with pytest.raises(InputError, match="all with as many features"):
        ManyMixtures([mixtures_of((1,))[0], mixtures_of((1,), n_features=2)[0]])


# Growing


def clusters(n_frames=1200, n_clusters=4, seed=0):
    """Four clusters ten deviations apart, and their means."""
    rng = np.random.default_rng(seed)
    means = 10.0 * np.array([[0, 0], [0, 1], [1, 0], [1, 1]])[:n_clusters]
    return means[np.arange(n_frames) % n_clusters] + rng.standard_normal((n_frames, 2)), means


def gaussian_of(frames):
    measured = moments(frames)
    return Mixture(np.ones(1), measured.mean[None], measured.variance[None])


def test_growth_from_one_gaussian_is_what_split_does():
    frames, _ = clusters(1000)
    grown, made = grow(gaussian_of(frames), frames, 4, seed=3), split(frames, 4, seed=3)
    # `split` begins with the Gaussian of its sample, which is all frames here, in random order: rounding.
    np.testing.assert_allclose(grown.means, made.means, atol=1e-6)
    np.testing.assert_allclose(grown.covariances, made.covariances, atol=1e-6)


@every_type
def test_growth_finds_the_clusters(covariance_type):
    frames, means = clusters()
    start = split(frames, 1, covariance_type=covariance_type)
    grown = grow(start, frames, 4, iterations=20)
    assert grown.covariance_type == covariance_type
    # A mean of 300 frames is good to 1 / sqrt(300) = 0.06 deviations; four times that.
    order = np.lexsort(grown.means.round().T[::-1])
    np.testing.assert_allclose(grown.means[order], means, atol=0.25)


def test_every_growth_explains_the_frames_better():
    frames, _ = clusters(n_clusters=3)
    mixture, before = gaussian_of(frames), -np.inf
    for n_components in (1, 2, 3, 5, 6):
        mixture = grow(mixture, frames, n_components)
        assert mixture.n_components == n_components
        after = naive.mean_log_likelihood(mixture, frames[::4])
        assert after > before
        before = after


def test_weights_of_frames_count_as_copies():
    frames, _ = clusters(60)
    counts = np.random.default_rng(0).integers(1, 4, 60)
    weighted = grow(gaussian_of(frames), ArraySource(frames, counts.astype(float)), 2, iterations=20)
    copied = grow(gaussian_of(frames), np.repeat(frames, counts, axis=0), 2, iterations=20)
    order, other = np.argsort(weighted.means[:, 0]), np.argsort(copied.means[:, 0])
    # Other starts, because frames come in another order, and the same maximum.
    np.testing.assert_allclose(weighted.means[order], copied.means[other], atol=1e-3)


def test_a_mixture_that_is_large_enough_stays_as_it_is():
    frames, _ = clusters()
    mixture = split(frames, 3)
    assert grow(mixture, frames, 3) == mixture
    assert grow(mixture, frames, 2) == mixture


def test_growth_is_the_same_bits_for_a_seed_and_any_number_of_jobs():
    frames, _ = clusters(6000)
    grown = [grow(gaussian_of(frames), frames, 5, seed=seed, n_jobs=jobs) for seed, jobs in ((7, 1), (7, 3))]
    assert grown[0] == grown[1]
    other = grow(gaussian_of(frames), frames, 5, seed=8)
    assert other != grown[0]


def test_too_few_distinct_frames_warn_and_give_fewer_components():
    frames = np.repeat([[0.0, 0.0], [5.0, 1.0], [9.0, -2.0]], 20, axis=0)
    with pytest.warns(SpeechGMMWarning, match="8 components asked for, but only 3 distinct frames found"):
        grown = grow(gaussian_of(frames), frames, 8)
    assert grown.n_components == 3
    assert np.isfinite(grown.log_likelihoods(frames)).all()


def test_what_grow_refuses():
    frames, _ = clusters(40)
    mixture = gaussian_of(frames)
    with pytest.raises(InputError, match="`frames` has 3 features; the mixture has 2"):
        grow(mixture, np.zeros((5, 3)), 2)
    with pytest.raises(InputError, match="`iterations` is 0; it must be 1 or more"):
        grow(mixture, frames, 2, iterations=0)
    with pytest.raises(InputError, match="`n_components` is 0; it must be a whole number"):
        grow(mixture, frames, 0)
