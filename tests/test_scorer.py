"""Scores against the plain equation in float64, whatever the mixtures; see test_scorer_decisions.py for the rest."""

import math

import numpy as np
import pytest

from speechgmm import scorer as scorer_module
from speechgmm.em.mixture import Mixture
from speechgmm.errors import InputError
from speechgmm.model_file import Model
from speechgmm.scorer import COLUMNS, MixtureBank, Scorer
from tests import naive

# float32 products are right to about 6e-8 of their largest terms. For frames within a few deviations these are
# some hundred nats: 1e-5 a frame, and less in the mean over frames.
PER_FRAME = 1e-5
# Of frames far away the terms grow as the score does.
RELATIVE = 1e-6
# Every kind alone, and kinds mixed: background models and classes need not be alike.
MIXES = [(kind,) for kind in naive.COVARIANCE_TYPES]
MIXES += [("diag", "spherical"), ("tied", "diag"), naive.COVARIANCE_TYPES]
every_mix = pytest.mark.parametrize("kinds", MIXES, ids="+".join)


def random_mixture(seed, n_components, n_features, origin=0.0, deviation=1.0, kind="diag"):
    weights, means, covariances = naive.random_parts(seed, kind, n_components, n_features, spread=1.0)
    return Mixture(weights, origin + deviation * means, deviation**2 * covariances, kind)


def random_model(
    sizes=(1, 8, 3), n_features=5, seed=0, origin=0.0, deviation=1.0, kinds=("diag",), **changes
):
    """A model with classes a, b, c, … of the given numbers of components, and a background; kinds come in turn."""
    mixtures = [
        random_mixture(100 * seed + index, size, n_features, origin, deviation, kinds[index % len(kinds)])
        for index, size in enumerate((*sizes, 6))
    ]
    values = {
        "label": "speaker",
        "labels": tuple(f"{index:04d}" for index in range(len(sizes))),
        "mixtures": tuple(mixtures[:-1]),
        "background": mixtures[-1],
        "posterior_scale": 0.1,
        "log_priors": np.full(len(sizes), -math.log(len(sizes))),
        "features": None,
    }
    return Model(**(values | changes))


def exact_scores(model, frames):
    """Mean log-likelihoods in float64; the background last."""
    mixtures = (*model.mixtures, model.background)
    return np.array([[mixture.log_likelihoods(array).mean() for mixture in mixtures] for array in frames])


def joined(scores):
    return np.column_stack([scores.classes, scores.background])


def sampled(model, lengths, seed=0):
    """Utterances drawn from the classes in turn."""
    return [
        model.mixtures[index % len(model.mixtures)].sample(length, seed + index).astype(np.float32)
        for index, length in enumerate(lengths)
    ]


# --- scores


@pytest.mark.parametrize(("origin", "deviation"), [(0.0, 1.0), (-500.0, 1.0), (-500.0, 40.0), (3e4, 1e-2)])
@every_mix
def test_scores_are_mean_log_likelihoods(origin, deviation, kinds):
    model = random_model(origin=origin, deviation=deviation, n_features=12, kinds=kinds)
    # Around the 512 frames of a block, too.
    frames = [array.astype(np.float64) for array in sampled(model, [1, 2, 100, 511, 512, 513, 1100])]
    scores = Scorer(model).score(frames)
    exact = exact_scores(model, frames)
    assert np.abs(exact).max() < 300
    np.testing.assert_allclose(joined(scores), exact, rtol=0, atol=PER_FRAME)
    assert scores.n_frames.tolist() == [1, 2, 100, 511, 512, 513, 1100]


def test_more_classes_than_fit_in_one_product():
    sizes = [1, 3, 2] * 400
    model = random_model(sizes=sizes, n_features=2)
    assert len(sizes) * max(sizes) > 3 * COLUMNS
    frames = sampled(model, [7, 600, 1])
    np.testing.assert_allclose(
        joined(Scorer(model).score(frames)), exact_scores(model, frames), rtol=0, atol=PER_FRAME
    )


@pytest.mark.parametrize("columns", [1, 8, 17, 10**6])
@pytest.mark.parametrize("kinds", [("diag",), naive.COVARIANCE_TYPES], ids="+".join)
def test_any_number_of_columns_gives_the_same_scores(monkeypatch, columns, kinds):
    model = random_model(sizes=(4, 8, 1, 2, 8), kinds=kinds)
    frames = sampled(model, [20, 513])
    monkeypatch.setattr(scorer_module, "COLUMNS", columns)
    np.testing.assert_allclose(
        joined(Scorer(model).score(frames)), exact_scores(model, frames), rtol=0, atol=PER_FRAME
    )


@pytest.mark.parametrize("deviation", [0.03, 1e-3, 1e-6])  # beyond what float32, and what float64 sums can do
@every_mix
def test_narrow_components_keep_their_digits(deviation, kinds):
    mixtures = [
        random_mixture(index, 4, 6, deviation=20.0, kind=kind) for index, kind in enumerate((*kinds, *kinds))
    ]
    narrow = [
        Mixture(m.weights, m.means, m.covariances * (deviation / 20.0) ** 2, m.covariance_type)
        for m in mixtures
    ]
    bank = MixtureBank([*mixtures, *narrow])
    for mixture in narrow:
        frames = mixture.sample(600, seed=1)
        for array in (frames[:1], frames):
            found = bank.mean_log_likelihoods(array)
            exact = np.array([each.log_likelihoods(array).mean() for each in (*mixtures, *narrow)])
            # The narrow ones are tens of thousands of deviations apart: of those scores seven digits are right.
            np.testing.assert_allclose(found, exact, rtol=RELATIVE, atol=PER_FRAME)


@every_mix
def test_real_frames(speech_data, kinds):
    from speechgmm.em.fit import fit
    from speechgmm.em.initialise import kmeans

    frames = naive.real_frames(speech_data, 0)
    halves = frames[: len(frames) // 2], frames[len(frames) // 2 :]  # one for each speaker
    mixtures = [
        fit(halves[index % 2], kmeans(halves[index % 2], 6, covariance_type=kind), max_iterations=3).mixture
        for index, kind in enumerate((*kinds, *kinds))
    ]
    bank = MixtureBank(mixtures)
    for array in (frames, halves[0][:50]):
        exact = [mixture.log_likelihoods(array).mean() for mixture in mixtures]
        np.testing.assert_allclose(bank.mean_log_likelihoods(array), exact, rtol=0, atol=PER_FRAME)


def test_components_of_weight_zero_count_for_nothing():
    rng = np.random.default_rng(3)
    means, variances = rng.normal(size=(3, 4)), np.ones((3, 4))
    half = Mixture([0.5, 0.0, 0.5], means, variances)
    frames = means[[1, 1, 1]]
    np.testing.assert_allclose(
        MixtureBank([half]).mean_log_likelihoods(frames),
        half.log_likelihoods(frames).mean(),
        atol=PER_FRAME,
    )


@every_mix
def test_scores_are_the_same_bits_alone_and_in_a_batch(kinds):
    model = random_model(sizes=(4, 1, 7), n_features=13, kinds=kinds)
    frames = sampled(model, [512, 3, 900, 1, 40, 40])
    frames[2][100] = 1e8  # far from all others
    for batch in (frames[:3], frames[::-1], [frames[2], frames[5], frames[0]]):
        together = joined(Scorer(model).score(batch))
        for row, array in zip(together, batch, strict=True):
            np.testing.assert_array_equal(joined(Scorer(model).score([array]))[0], row)


def test_scores_are_the_same_bits_for_any_number_of_threads(monkeypatch):
    model = random_model(n_features=4)
    frames = sampled(model, [500] * 110)  # more than 100 blocks: enough for a second thread
    asked = []
    parallel_map = scorer_module.parallel_map
    monkeypatch.setattr(
        scorer_module, "parallel_map", lambda *args: asked.append(args[2]) or parallel_map(*args)
    )
    one, two = (joined(Scorer(model).score(frames, n_jobs)) for n_jobs in (1, 2))
    np.testing.assert_array_equal(one, two)
    few = joined(Scorer(model).score(frames[:3], n_jobs=2))
    np.testing.assert_array_equal(few, one[:3])
    assert asked == [1, 2, 1]


def test_scoring_holds_blas_to_one_thread_and_tells_progress():
    from threadpoolctl import threadpool_info, threadpool_limits

    def blas_threads():
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    model, seen = random_model(), []
    with threadpool_limits(2, "blas"):
        Scorer(model).score(
            sampled(model, [3, 4]), progress=lambda *args: seen.append((*args, *blas_threads()))
        )
        assert blas_threads() == {2}
    assert seen == [("scores", 1, 2, 1), ("scores", 2, 2, 1)]


# --- frames far away


@every_mix
def test_frames_far_away_among_others_lose_nothing(kinds):
    model = random_model(sizes=(3, 8), n_features=6, origin=-500.0, kinds=kinds)
    (frames,) = sampled(model, [600])
    frames[[0, 17, 511, 599]] += np.float32(1e6)
    exact = exact_scores(model, [frames])
    np.testing.assert_allclose(joined(Scorer(model).score([frames])), exact, rtol=RELATIVE)
    # What tells the classes apart is right, too: their difference is as large as the terms.
    assert abs(exact[0, 0] - exact[0, 1]) > 1e6


@pytest.mark.parametrize(
    "lengths",
    [
        pytest.param([1], id="one frame"),
        pytest.param([3, 700], id="all"),
    ],
)
@every_mix
def test_utterances_far_away_as_a_whole_are_scored(lengths, kinds):
    model = random_model(sizes=(3, 8), n_features=6, kinds=kinds)
    frames = [array + np.float32(1e6) for array in sampled(model, lengths)]
    scores = Scorer(model).score(frames)
    np.testing.assert_allclose(joined(scores), exact_scores(model, frames), rtol=1e-12)


def test_a_block_far_away_is_scored():
    model = random_model(sizes=(3, 8), n_features=6)
    (frames,) = sampled(model, [600])
    frames[:512] += np.float32(1e6)
    np.testing.assert_allclose(
        joined(Scorer(model).score([frames])), exact_scores(model, [frames]), rtol=RELATIVE
    )


@pytest.mark.parametrize("factor", [5, 15, 30])
@pytest.mark.parametrize("kind", naive.COVARIANCE_TYPES)
def test_frames_many_deviations_off_keep_seven_digits(factor, kind):
    # Variances a hundredth of the spread, as at the variance floor: the worst case for float32.
    rng = np.random.default_rng(5)
    unit = {"diag": np.ones((8, 20)), "full": np.tile(np.eye(20), (8, 1, 1)), "tied": np.eye(20)}
    covariances = 0.1 * unit.get(kind, np.ones(8))
    mixtures = [Mixture(np.full(8, 1 / 8), 3 * rng.normal(size=(8, 20)), covariances, kind) for _ in "abc"]
    frames = factor * rng.normal(size=(100, 20))
    exact = [mixture.log_likelihoods(frames).mean() for mixture in mixtures]
    np.testing.assert_allclose(MixtureBank(mixtures).mean_log_likelihoods(frames), exact, rtol=RELATIVE)


@pytest.mark.parametrize("value", [1e100, 1e160, 1e300])
def test_huge_values_are_scored_or_refused(value):
    model = random_model()
    (frames,) = sampled(model, [20])
    frames = frames.astype(np.float64)
    frames[3] = value
    try:
        assert np.isfinite(joined(Scorer(model).score([frames]))).all()
    except InputError as error:
        if "frames[0]" not in str(error):
            raise


# --- what cannot be scored


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros((0, 5)), r"`frames\[1\]` holds no frames; an utterance needs at least 1"),
        (np.zeros((3, 4)), r"`frames\[1\]` has 4 features; the mixture has 5 \(deltas missing"),
        (np.zeros(5), r"`frames\[1\]` has 1 dimensions; it must have 2"),
        (np.zeros((2, 3, 5)), r"`frames\[1\]` has 3 dimensions; it must have 2"),
        ([["a"] * 5], r"`frames\[1\]` holds <U1 values; numbers are needed"),
        (np.array([[0, 0, np.nan, 0, 0]]), r"`frames\[1\]` has the value nan at frame 0, feature 2"),
        (
            np.array([[0.0] * 5, [0, 0, 0, 0, -np.inf]]),
            r"`frames\[1\]` has the value -inf at frame 1, feature 4",
        ),
    ],
)
def test_frames_that_cannot_be_scored_are_named(frames, message):
    model = random_model()
    with pytest.raises(InputError, match=message):
        Scorer(model).score([np.zeros((2, 5)), frames])


@every_mix
def test_frames_may_be_lists_integers_or_no_utterances_at_all(kinds):
    scorer = Scorer(random_model(kinds=kinds))
    whole = np.arange(15).reshape(3, 5) % 4
    expected = joined(scorer.score([whole.astype(np.float64)]))
    for frames in (whole, whole.tolist(), whole.astype(np.float16), np.asfortranarray(whole)):
        np.testing.assert_array_equal(joined(scorer.score([frames])), expected)
    nothing = scorer.score([])
    assert nothing.classes.shape == (0, 3)
    assert scorer.decide(nothing, []) == []


def test_lists_may_hold_a_frame_far_away():
    model = random_model()
    frames = [[1e6] * 5, [0.0] * 5]
    np.testing.assert_allclose(
        joined(Scorer(model).score([frames])), exact_scores(model, [frames]), rtol=RELATIVE
    )


def test_a_number_of_workers_that_cannot_be_is_refused():
    model = random_model()
    with pytest.raises(InputError, match="`n_jobs` is 0"):
        Scorer(model).score(sampled(model, [3, 3]), n_jobs=0)
