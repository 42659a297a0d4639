"""phones.hmm_training and phones.occupied_frames: against plain loops and hmmlearn, known HMMs, real speech, odd data.

Tolerances. A re-estimation adds float32 posteriors of float32 densities: weights, means and probabilities in units of
order 1 are good to 1e-4, where plain loops in float64 are the measure.
"""

import warnings
from functools import partial
from itertools import pairwise

import numpy as np
import pytest

from speechgmm.em.mixture import Mixture
from speechgmm.errors import InputError, SpeechGMMWarning
from speechgmm.phones import hmm_training
from speechgmm.phones.graph import Step, compose, transcript_of
from speechgmm.phones.hmm import HmmSet, left_to_right
from speechgmm.phones.hmm_training import (
    LEAST_PROBABILITY,
    Failure,
    HmmSettings,
    HmmTrainer,
    train_hmms,
)
from speechgmm.phones.occupied_frames import Aligned, OccupiedFrames, find, find_paths, parts
from speechgmm.phones.passes import AlignmentError, Occupancy, Path
from tests import naive_hmm

NEAR = 1e-4
# Of log-likelihoods per frame: what one iteration may lose between growths.
A_FALL = 1e-5
METHODS = ("baum_welch", "viterbi")
every_method = pytest.mark.parametrize("method", METHODS)
SILENCE = Step(((), ("A",)))
# What plain loops do, with no floor that would hold.
PLAIN = {"variance_floor": 1e-6, "beam": np.inf}


def spoken(hmms, n_utterances, n_units, seed=0):
    """Utterances of random units: frames, units, and the first frame of each and the one after its last."""
    rng = np.random.default_rng(seed)
    frames, strings, times = [], [], []
    for _ in range(n_utterances):
        units = [hmms.units[number] for number in rng.integers(len(hmms.units), size=n_units)]
        pieces = [naive_hmm.sampled(hmms, [unit], rng)[0] for unit in units]
        edges = np.cumsum([0, *map(len, pieces)]).tolist()
        frames.append(np.concatenate(pieces))
        strings.append(units)
        times.append(list(pairwise(edges)))
    return frames, [transcript_of(units) for units in strings], times


def n_states_of(hmms):
    return {unit: len(states) for unit, states in zip(hmms.units, hmms.states, strict=True)}


def falls(history):
    """By how much the likelihood falls from each pass to the next, where nothing grew between."""
    return [
        before.log_likelihood - after.log_likelihood
        for before, after in pairwise(history)
        if not after.after_growth
    ]


def assert_same_hmms(left, right):
    assert left.units == right.units and left.states == right.states
    assert np.array_equal(left.stays, right.stays)
    assert left.mixtures == right.mixtures


def assert_near(found, expected, atol=NEAR):
    np.testing.assert_allclose(found.stays, expected.stays, atol=atol)
    for one, other in zip(found.mixtures, expected.mixtures, strict=True):
        np.testing.assert_allclose(one.weights, other.weights, atol=atol)
        np.testing.assert_allclose(one.means, other.means, atol=atol)
        np.testing.assert_allclose(one.variances, other.variances, atol=atol)


# One step against plain loops and hmmlearn


@every_method
@pytest.mark.parametrize("shared", [None, (0, 1, 2, 1, 3, 0)])
def test_one_step_is_that_of_plain_loops(method, shared):
    # Gaussians that overlap: none of them loses its frames.
    hmms = naive_hmm.hmm_set((1, 2, 3), 2, n_components=2, spread=0.7, shared=shared)
    frames, _, _ = spoken(hmms, 10, 5)
    transcripts = [(SILENCE, Step((("B",), ("C", "A"))), SILENCE, Step((("C",), ("A",))), SILENCE)] * 10
    trainer = HmmTrainer(frames, transcripts, HmmSettings(method=method, **PLAIN))
    utterances = trainer.aligned(hmms)
    found = trainer.improved(hmms, utterances)
    total, expected = naive_hmm.reestimated(hmms, utterances, trainer.floor, method)
    expected = expected.with_mixtures(
        expected.mixtures, np.clip(expected.stays, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    )
    assert_near(found, expected)
    n_frames = sum(map(len, frames))
    assert trainer.history[0].log_likelihood == pytest.approx(total / n_frames, abs=NEAR)
    assert found.units == hmms.units and found.states == hmms.states


@pytest.mark.parametrize("n_components", [1, 2])
def test_one_step_is_that_of_hmmlearn(n_components):
    pytest.importorskip("hmmlearn")
    hmms = naive_hmm.hmm_set((1, 2, 3), 3, n_components)
    rng = np.random.default_rng(0)
    frames = [naive_hmm.sampled(hmms, "BAC", rng)[0] for _ in range(8)]
    transcripts = [transcript_of("BAC")] * 8
    trainer = HmmTrainer(frames, transcripts, HmmSettings(method="baum_welch", **PLAIN))
    utterances = trainer.aligned(hmms)
    found = trainer.improved(hmms, utterances)

    pdfs = utterances[0].graph.pdfs
    model = naive_hmm.as_hmmlearn(hmms, utterances[0].graph)
    before = np.array(model.means_[:-1])
    ended = [naive_hmm.ended(one) for one in frames]
    with np.errstate(divide="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the frames of the end are all alike
        model.fit(np.concatenate(ended), [len(one) for one in ended])
    total = model.monitor_.history[0] - len(frames) * naive_hmm.of_the_end(2)
    assert trainer.history[0].log_likelihood == pytest.approx(total / sum(map(len, frames)), abs=NEAR)
    np.testing.assert_allclose(found.stays[pdfs], np.diag(model.transmat_)[:-1], atol=NEAR)
    means = np.array([found.mixtures[pdf].means for pdf in pdfs]).reshape(before.shape)
    variances = np.array([found.mixtures[pdf].variances for pdf in pdfs]).reshape(before.shape)
    np.testing.assert_allclose(means, model.means_[:-1], atol=NEAR)
    if n_components == 1:
        of_hmmlearn = np.diagonal(model.covars_[:-1], axis1=1, axis2=2)
    else:
        weights = np.array([found.mixtures[pdf].weights for pdf in pdfs])
        np.testing.assert_allclose(weights, model.weights_[:-1], atol=NEAR)
        # Its GMMHMM measures variances from the means before the step.
        of_hmmlearn = model.covars_[:-1] - np.square(before - means)
    np.testing.assert_allclose(variances, of_hmmlearn, atol=NEAR)


def test_a_step_of_viterbi_counts_the_best_path_alone():
    # By hand: frames that leave no doubt which of two states they are of.
    start = naive_hmm.hmm_set((2,), spread=0.0)
    mixtures = [Mixture(np.ones(1), np.array([[mean, 0.0]]), np.ones((1, 2))) for mean in (-5.0, 5.0)]
    frames = np.array([[-5.0, 1.0], [-7.0, 3.0], [5.0, 0.0], [6.0, 2.0], [7.0, 4.0]])
    trainer = HmmTrainer([frames], [transcript_of("A")], HmmSettings(method="viterbi", **PLAIN))
    found = trainer.improved(start.with_mixtures(mixtures), trainer.aligned(start))
    np.testing.assert_allclose([one.means[0] for one in found.mixtures], [[-6, 2], [6, 2]], atol=NEAR)
    np.testing.assert_allclose(
        [one.variances[0] for one in found.mixtures], [[1, 1], [2 / 3, 8 / 3]], atol=NEAR
    )
    # One of two frames is stayed in, two of three.
    np.testing.assert_allclose(found.stays, [1 / 2, 2 / 3])


# Whole trainings


@every_method
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("timed", [False, True])
def test_the_likelihood_never_falls_between_growths(method, seed, timed):
    hmms = naive_hmm.hmm_set((1, 2, 3), seed, n_components=2, spread=3.0)
    frames, transcripts, times = spoken(hmms, 12, 6, seed)
    settings = HmmSettings(
        4, method, start_iterations=6, iterations=5, last_iterations=8, variance_floor=0.05
    )
    training = train_hmms(
        frames, transcripts, n_states_of(hmms), settings, times=times if timed else None, n_jobs=2
    )
    assert max(falls(training.history)) <= A_FALL
    # And it rises as a whole, by far more than rounding.
    assert training.history[-1].log_likelihood > training.history[0].log_likelihood + 0.1
    assert not training.failures


@every_method
def test_at_the_maximum_only_rounding_is_left(method):
    hmms = naive_hmm.hmm_set((1, 2, 3), 5, n_components=2, spread=3.0)
    frames, transcripts, _ = spoken(hmms, 12, 6, 5)
    settings = HmmSettings(2, method, start_iterations=30, last_iterations=60)
    training = train_hmms(frames, transcripts, n_states_of(hmms), settings)
    assert max(falls(training.history)) <= A_FALL
    assert abs(falls(training.history)[-1]) <= A_FALL


@every_method
def test_nor_does_it_with_optional_silence_and_alternatives(method):
    hmms = naive_hmm.hmm_set((1, 2, 3), 5, n_components=2, spread=3.0)
    frames, transcripts, _ = spoken(hmms, 12, 4)
    transcripts = [
        [one for step in steps for one in (SILENCE, Step((*step.alternatives, ("A", "B"))))]
        for steps in transcripts
    ]
    training = train_hmms(frames, transcripts, n_states_of(hmms), HmmSettings(4, method))
    assert max(falls(training.history)) <= A_FALL


def test_history_says_what_was_done():
    hmms = naive_hmm.hmm_set((1, 2), 0, spread=3.0)
    frames, transcripts, _ = spoken(hmms, 20, 8)
    told = []
    settings = HmmSettings(5, start_iterations=2, iterations=3, last_iterations=4, frames_per_component=1.0)
    training = train_hmms(
        frames,
        transcripts,
        n_states_of(hmms),
        settings,
        progress=lambda *arguments: told.append(arguments),
    )
    # 1, then 2, 4 and 5 Gaussians in each of three mixtures.
    assert [one.n_components for one in training.history] == [3] * 2 + [6] * 3 + [12] * 3 + [15] * 4
    assert [one.after_growth for one in training.history] == [
        number in (2, 5, 8) for number in range(len(training.history))
    ]
    assert told == [("training", done, 12) for done in range(1, 13)]
    assert training.hmms.n_components == 15


def test_mixtures_do_not_outgrow_their_frames():
    hmms = naive_hmm.hmm_set((1, 1), 0, spread=5.0)
    frames = [np.concatenate([hmms.mixtures[0].sample(90, 1), hmms.mixtures[1].sample(10, 2)])]
    training = train_hmms(
        frames, [transcript_of("AB")], {"A": 1, "B": 1}, HmmSettings(8, frames_per_component=20.0)
    )
    assert [one.n_components for one in training.hmms.mixtures] == [4, 1]


@every_method
def test_the_same_bits_for_any_number_of_jobs(method):
    hmms = naive_hmm.hmm_set((1, 2, 3), 1, n_components=2, spread=3.0)
    frames, transcripts, _ = spoken(hmms, 15, 6)
    transcripts[3] = transcript_of("ABC" * 40)
    settings = HmmSettings(3, method, 2, 2, 2)
    trainings = [
        train_hmms(frames, transcripts, n_states_of(hmms), settings, n_jobs=n_jobs) for n_jobs in (1, 2, 3, 1)
    ]
    for other in trainings[1:]:
        assert_same_hmms(other.hmms, trainings[0].hmms)
        assert other.history == trainings[0].history and other.failures == trainings[0].failures
    assert [one.utterance for one in trainings[0].failures] == [3]


def test_another_seed_grows_otherwise():
    hmms = naive_hmm.hmm_set((1, 2), 1, n_components=3, spread=2.0)
    frames, transcripts, _ = spoken(hmms, 60, 10)
    found = [
        train_hmms(frames, transcripts, n_states_of(hmms), HmmSettings(4, "viterbi", 1, 1, 1, seed=seed)).hmms
        for seed in (0, 0, 1)
    ]
    assert_same_hmms(found[0], found[1])
    assert found[0].n_components == found[2].n_components
    # Samples are whole up to 256 frames a component, and then another seed is only another order: compare bits.
    assert found[0].mixtures != found[2].mixtures


@every_method
def test_statistics_are_the_same_in_parts(method, monkeypatch):
    # Sums of float32 products in another order: the design allows 1e-5 relative.
    hmms = naive_hmm.hmm_set((1, 2, 3), 1, n_components=2)
    frames, transcripts, _ = spoken(hmms, 15, 5)
    found = []
    for n_frames in (10**6, 60, 1):
        monkeypatch.setattr(hmm_training, "parts", partial(parts, n_frames=n_frames))
        trainer = HmmTrainer(frames, transcripts, HmmSettings(method=method))
        found.append((trainer.improved(hmms, trainer.aligned(hmms)), trainer.history[0].log_likelihood))
    for other, log_likelihood in found[1:]:
        assert_near(other, found[0][0], 1e-5)
        assert log_likelihood == pytest.approx(found[0][1], abs=1e-9)


def test_growth_looks_at_utterances_from_end_to_end_where_there_are_too_many(monkeypatch):
    monkeypatch.setattr(hmm_training, "TOGETHER", 100)
    utterances = [Aligned(np.zeros((10, 2)), None) for _ in range(35)]
    assert hmm_training._spread(utterances, 100) == utterances[::4]
    assert hmm_training._spread(utterances, 350) == utterances
    hmms = naive_hmm.hmm_set((1, 2), 1, n_components=2)
    frames, transcripts, _ = spoken(hmms, 40, 5)
    training = train_hmms(frames, transcripts, n_states_of(hmms), HmmSettings(2, frames_per_component=2.0))
    assert training.hmms.n_components == 6


# Known HMMs


def known(seed=7):
    """HMMs of well separated Gaussians, and what they say: some 1400 frames of each state."""
    hmms = naive_hmm.hmm_set((1, 2, 3), seed, n_features=3, spread=8.0)
    return hmms, spoken(hmms, 120, 12, seed)


def check_recovered(found, hmms, frames, transcripts):
    """Parameters within four standard errors of those the frames were drawn with, and some rounding."""
    counts = np.zeros(len(hmms.mixtures))
    for transcript in transcripts:
        for step in transcript:
            for pdf in hmms.states_of(step.alternatives[0][0]):
                counts[pdf] += 1 / (1 - hmms.stays[pdf])
    assert counts.min() > 500
    for pdf, (one, true) in enumerate(zip(found.mixtures, hmms.mixtures, strict=True)):
        error = 4 * np.sqrt(true.variances / counts[pdf])
        assert (np.abs(one.means - true.means) < error).all()
        assert (np.abs(one.variances / true.variances - 1) < 4 * np.sqrt(2 / counts[pdf])).all()
        stay = hmms.stays[pdf]
        assert abs(found.stays[pdf] - stay) < 4 * np.sqrt(stay * (1 - stay) / counts[pdf])


@every_method
def test_known_hmms_are_recovered_from_times(method):
    hmms, (frames, transcripts, times) = known()
    settings = HmmSettings(1, method, start_iterations=8, variance_floor=1e-3)
    found = train_hmms(frames, transcripts, n_states_of(hmms), settings, times=times).hmms
    check_recovered(found, hmms, frames, transcripts)


@every_method
def test_known_hmms_are_recovered_from_transcripts_alone(method):
    hmms, (frames, transcripts, _) = known()
    settings = HmmSettings(1, method, start_iterations=25, variance_floor=1e-3)
    found = train_hmms(frames, transcripts, n_states_of(hmms), settings).hmms
    check_recovered(found, hmms, frames, transcripts)


def test_times_are_a_better_start_than_none():
    hmms, (frames, transcripts, times) = known()
    settings = HmmSettings(1, "viterbi", start_iterations=1)
    starts = [
        train_hmms(frames, transcripts, n_states_of(hmms), settings, times=given).history[0].log_likelihood
        for given in (None, times)
    ]
    assert starts[1] > starts[0] + 1.0


def test_times_of_some_utterances_are_enough():
    hmms, (frames, transcripts, times) = known()
    some = [own if number % 4 == 0 else None for number, own in enumerate(times)]
    settings = HmmSettings(1, "baum_welch", start_iterations=15, variance_floor=1e-3)
    found = train_hmms(frames, transcripts, n_states_of(hmms), settings, times=some).hmms
    check_recovered(found, hmms, frames, transcripts)


def test_mixtures_of_a_known_hmm_are_recovered():
    # Two clusters in each state, eight deviations apart along the first feature.
    pair = [[-4.0, 0.0], [4.0, 0.0]]
    true = [
        Mixture(np.array([0.3, 0.7]), np.add(pair, [0.0, 12.0 * number]), np.ones((2, 2)))
        for number in range(2)
    ]
    hmms = HmmSet(("A",), ((0, 1),), tuple(true), np.array([0.9, 0.8]))
    frames, transcripts, _ = spoken(hmms, 60, 3)
    settings = HmmSettings(2, "baum_welch", last_iterations=30)
    found = train_hmms(frames, transcripts, {"A": 2}, settings).hmms
    for one, other in zip(found.mixtures, true, strict=True):
        order = np.argsort(one.means[:, 0])
        # 900 frames and more: a mean of 270 of them is good to 0.06; weights to 0.015; four times that.
        np.testing.assert_allclose(one.means[order], other.means, atol=0.25)
        np.testing.assert_allclose(one.weights[order], other.weights, atol=0.06)


# What cannot be aligned


@every_method
def test_training_goes_past_utterances_that_cannot_be_aligned_and_lists_them(method):
    hmms = naive_hmm.hmm_set((1, 2, 3), 0, spread=4.0)
    frames, transcripts, _ = spoken(hmms, 10, 5)
    transcripts[2] = transcript_of("CCCC" * 20)
    transcripts[7] = transcript_of("AB")
    frames[7] = frames[7][:2]
    training = train_hmms(frames, transcripts, n_states_of(hmms), HmmSettings(2, method, 2, 2, 2))
    assert training.failures == (
        Failure(
            2,
            f"the utterance has {len(frames[2])} frames, and what it should say needs 240 at least "
            "(cut off, or the transcript of another utterance?)",
        ),
        Failure(
            7,
            "the utterance has 2 frames, and what it should say needs 3 at least "
            "(cut off, or the transcript of another utterance?)",
        ),
    )
    # They count for nothing in the likelihood, which is per frame of those that were aligned.
    good = [number for number in range(10) if number not in (2, 7)]
    trainer = HmmTrainer(
        [frames[i] for i in good], [transcripts[i] for i in good], HmmSettings(method=method)
    )
    trainer.improved(training.hmms, trainer.aligned(training.hmms))
    both = HmmTrainer(frames, transcripts, HmmSettings(method=method))
    both.improved(training.hmms, both.aligned(training.hmms))
    assert trainer.history[0].log_likelihood == both.history[0].log_likelihood


@every_method
def test_an_utterance_that_nothing_explains_is_passed_over(method):
    # A mixture so sharp that only its own mean has a likelihood.
    sharp = Mixture(np.ones(1), np.zeros((1, 1)), np.full((1, 1), 1e-40))
    wide = Mixture(np.ones(1), np.zeros((1, 1)), np.ones((1, 1)))
    hmms = HmmSet(("A", "B"), ((0,), (1,)), (sharp, wide), np.full(2, 0.5))
    frames = [np.zeros((3, 1)), np.ones((3, 1)), np.ones((3, 1))]
    trainer = HmmTrainer(frames, [transcript_of("A"), transcript_of("A"), transcript_of("B")], HmmSettings())
    trainer.settings = HmmSettings(method=method)
    found = trainer.improved(hmms, trainer.aligned(hmms))
    assert list(trainer.failures) == [1]
    assert "so unlike what the transcript says that no path has a likelihood" in trainer.failures[1]
    np.testing.assert_allclose(found.mixtures[0].means, 0.0, atol=1e-12)
    np.testing.assert_allclose(found.mixtures[1].means, 1.0)


def test_nothing_that_can_be_aligned_is_an_error():
    frames = [np.zeros((2, 2)), np.ones((1, 2))]
    with pytest.raises(InputError, match=r"none of 2 utterances can be what .* the first: .* has 2 frames"):
        train_hmms(frames, [transcript_of("AAA")] * 2, {"A": 1})


def test_growth_without_anything_aligned_is_an_error_in_words():
    hmms = naive_hmm.hmm_set((1,))
    trainer = HmmTrainer([np.ones((1, 2))], [transcript_of("AA")], HmmSettings())
    with pytest.raises(InputError, match="none of 1 utterances can be what its transcript says"):
        trainer.grown(hmms, trainer.aligned(hmms), 2)


@pytest.mark.parametrize(
    ("transcript", "message"),
    [
        (transcript_of("AZ"), "utterance 1: there is no HMM of 'Z'; there are 'A', 'B'"),
        ((), "utterance 1: the transcript is empty"),
        ((Step(((),)),), "utterance 1: the transcript is empty"),
        ((Step(()),), "utterance 1: place 1 .* has nothing that may stand there"),
    ],
)
def test_transcripts_that_are_none_stop_the_training(transcript, message):
    frames = [np.random.default_rng(0).standard_normal((9, 2)) for _ in range(2)]
    with pytest.raises(InputError, match=message):
        train_hmms(frames, [transcript_of("AB"), transcript], {"A": 1, "B": 2})


FRAMES = [np.random.default_rng(0).standard_normal((9, 2)) for _ in range(2)]
GOOD = [transcript_of("AB"), transcript_of("BA")]


@pytest.mark.parametrize(
    ("frames", "transcripts", "times", "message"),
    [
        (FRAMES, GOOD[:1], None, r"2 `frames` came with 1 `transcripts`, or other `times`"),
        (FRAMES, GOOD, [[(0, 4), (4, 9)]], r"2 `frames` came with 2 `transcripts`, or other `times`"),
        ([], [], None, "`frames` is empty; at least 1 utterance is needed"),
        ([FRAMES[0], np.full((9, 2), np.nan)], GOOD, None, "has the value nan"),
        ([FRAMES[0], np.zeros((9, 3))], GOOD, None, "3 features"),
    ],
)
def test_what_training_refuses(frames, transcripts, times, message):
    with pytest.raises(InputError, match=message):
        train_hmms(frames, transcripts, {"A": 1, "B": 1}, times=times)


def test_times_that_fit_nothing_leave_an_utterance_out_of_the_start_alone():
    hmms, (frames, transcripts, times) = known()
    frames, transcripts, times = frames[:20], transcripts[:20], list(times[:20])
    times[4] = times[4][:-1]
    training = train_hmms(frames, transcripts, n_states_of(hmms), HmmSettings(1), times=times)
    # The passes that follow need no times.
    assert training.failures == ()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_components": 0}, "HMM setting `n_components` is 0; it must be a whole number from 1"),
        ({"start_iterations": 0}, "`start_iterations` is 0"),
        ({"iterations": 1.5}, "`iterations` is 1.5"),
        ({"last_iterations": True}, "`last_iterations` is True"),
        ({"seed": -1}, "`seed` is -1"),
        ({"variance_floor": -0.1}, "`variance_floor` is -0.1; it must be a number from 0"),
        ({"frames_per_component": np.inf}, "`frames_per_component` is inf"),
        ({"method": "em"}, "HMM setting `method` is 'em'; it can be viterbi, baum_welch"),
        ({"beam": 0.0}, "HMM setting `beam` is 0.0; it must be more than 0 nats"),
        ({"beam": np.nan}, "HMM setting `beam` is nan"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(InputError, match=message):
        HmmSettings(**settings)


# Odd data


def test_one_utterance_of_one_state_and_one_frame():
    training = train_hmms([np.array([[3.0, -1.0]])], [transcript_of("A")], {"A": 1})
    mixture = training.hmms.mixtures[0]
    np.testing.assert_allclose(mixture.means, [[3.0, -1.0]])
    assert mixture.variances.min() > 0 and np.isfinite(training.history[-1].log_likelihood)
    # Never stayed in: as little as a probability may be.
    assert training.hmms.stays.tolist() == [LEAST_PROBABILITY]


@every_method
def test_a_constant_feature_says_nothing(method):
    hmms = naive_hmm.hmm_set((1, 2), 0, spread=5.0)
    frames, transcripts, _ = spoken(hmms, 20, 6)
    padded = [np.insert(one, 1, -7.5, axis=1) for one in frames]
    settings = HmmSettings(2, method)
    plain = train_hmms(frames, transcripts, n_states_of(hmms), settings)
    found = train_hmms(padded, transcripts, n_states_of(hmms), settings)
    for one, other in zip(found.hmms.mixtures, plain.hmms.mixtures, strict=True):
        np.testing.assert_allclose(one.means[:, 1], -7.5)
        np.testing.assert_allclose(one.means[:, [0, 2]], other.means, atol=1e-2)
    assert max(falls(found.history)) <= A_FALL


@every_method
def test_frames_far_from_zero_train_as_those_near_it(method):
    hmms = naive_hmm.hmm_set((1, 2), 0, spread=5.0)
    frames, transcripts, _ = spoken(hmms, 20, 6)
    settings = HmmSettings(1, method)
    near = train_hmms(frames, transcripts, n_states_of(hmms), settings)
    far = train_hmms([one + 1e6 for one in frames], transcripts, n_states_of(hmms), settings)
    # The origin of coordinates is rounded to float32: 0.06 at 1e6, which is no loss of digits but other rounding.
    for one, other in zip(far.hmms.mixtures, near.hmms.mixtures, strict=True):
        np.testing.assert_allclose(one.means - 1e6, other.means, atol=1e-3)
        np.testing.assert_allclose(one.variances, other.variances, atol=1e-3)


@every_method
def test_one_frame_far_out_breaks_nothing(method):
    hmms = naive_hmm.hmm_set((1, 2), 0, spread=5.0)
    frames, transcripts, _ = spoken(hmms, 20, 6)
    frames[3] = frames[3].copy()
    frames[3][4] = 1e6
    training = train_hmms(frames, transcripts, n_states_of(hmms), HmmSettings(2, method))
    for mixture in training.hmms.mixtures:
        assert np.isfinite(mixture.means).all() and np.isfinite(mixture.variances).all()
    assert all(np.isfinite(one.log_likelihood) for one in training.history)
    assert max(falls(training.history)) <= A_FALL


def test_a_unit_that_nobody_says_stays_what_it_was():
    hmms = naive_hmm.hmm_set((1, 2), 0, spread=5.0)
    frames, transcripts, _ = spoken(hmms, 5, 4)
    training = train_hmms(frames, transcripts, {"A": 1, "B": 2, "never": 3}, HmmSettings(2))
    trainer = HmmTrainer(frames, transcripts, HmmSettings())
    unsaid = training.hmms.states_of("never")
    assert all(training.hmms.mixtures[pdf] == trainer.one_gaussian() for pdf in unsaid)
    assert training.hmms.stays[list(unsaid)].tolist() == [0.7] * 3


def test_a_component_that_lost_its_frames_is_replaced_and_history_says_so():
    lost = Mixture(np.array([0.5, 0.5]), np.array([[0.0], [1e4]]), np.ones((2, 1)))
    hmms = HmmSet(("A",), ((0,),), (lost,), np.array([0.9]))
    frames = [np.random.default_rng(0).standard_normal((200, 1))]
    trainer = HmmTrainer(frames, [transcript_of("A")], HmmSettings(2))
    utterances = trainer.aligned(hmms)
    hmms = trainer.improved(hmms, utterances)
    trainer.improved(hmms, utterances)
    assert hmms.mixtures[0].n_components == 2 and np.abs(hmms.mixtures[0].means).max() < 1.0
    assert [one.after_growth for one in trainer.history] == [False, True]


def test_a_component_without_frames_for_two_is_dropped_with_a_warning():
    lost = Mixture(np.array([0.5, 0.5]), np.array([[0.0], [1e4]]), np.ones((2, 1)))
    hmms = HmmSet(("A",), ((0,),), (lost,), np.array([0.9]))
    trainer = HmmTrainer([np.array([[0.5]])], [transcript_of("A")], HmmSettings(2))
    with pytest.warns(SpeechGMMWarning, match="1 of 2 components found no frames and were dropped"):
        hmms = trainer.improved(hmms, trainer.aligned(hmms))
    assert hmms.mixtures[0].n_components == 1


def test_float32_frames_train_too():
    hmms = naive_hmm.hmm_set((1, 2), 0, spread=5.0)
    frames, transcripts, _ = spoken(hmms, 20, 6)
    settings = HmmSettings(1, "baum_welch")
    wide = train_hmms(frames, transcripts, n_states_of(hmms), settings)
    narrow = train_hmms([one.astype(np.float32) for one in frames], transcripts, n_states_of(hmms), settings)
    assert_near(narrow.hmms, wide.hmms, 1e-3)


# Frames and what explains them


def occupancy_of(rows, pdfs, weights):
    return Occupancy(
        0.0, np.array(rows, np.int32), np.array(pdfs, np.int32), np.array(weights, np.float32), np.zeros(3)
    )


def test_occupied_frames_are_sorted_by_mixture():
    first = occupancy_of([1, 0, 0], [2, 0, 2], [1.0, 0.25, 0.75])
    second = occupancy_of([0, 1], [0, 2], [1.0, 1.0])
    frames = [np.array([[10.0], [11.0]]), np.array([[20.0], [21.0], [22.0]])]
    found = OccupiedFrames.of(frames, [first, second], 3)
    assert found.starts.tolist() == [0, 2, 2, 5]
    assert found.pdfs.tolist() == [0, 0, 2, 2, 2]
    assert [part.tolist() for part in found.of_mixture(0)] == [[[10.0], [20.0]], [0.25, 1.0]]
    assert [part.tolist() for part in found.of_mixture(1)] == [[], []]
    assert [part.tolist() for part in found.of_mixture(2)] == [[[11.0], [10.0], [21.0]], [1.0, 0.75, 1.0]]


def test_parts_keep_the_order_and_the_limit():
    utterances = [Aligned(np.zeros((n, 1)), None) for n in (3, 4, 9, 1, 1, 5)]
    assert [[len(one.frames) for one in part] for part in parts(utterances, 7)] == [[3, 4], [9], [1, 1, 5]]
    assert [len(part) for part in parts(utterances, 1)] == [1] * 6
    assert [len(part) for part in parts(utterances)] == [6]


def test_finding_goes_on_past_errors_in_the_order_given():
    hmms = naive_hmm.hmm_set((1, 2))
    graph = compose(hmms, transcript_of("AB"))
    frames = np.random.default_rng(0).standard_normal((7, 2))
    utterances = [Aligned(frames[:n], graph) for n in (7, 2, 5)]
    for n_jobs in (1, 2):
        found = list(find(hmms, utterances, "baum_welch", np.inf, n_jobs))
        assert [type(one) for one in found] == [Occupancy, AlignmentError, Occupancy]
        assert [one.rows.max() for one in found[::2]] == [6, 4]
        paths = list(find_paths(hmms, utterances, np.inf, n_jobs))
        assert [type(one) for one in paths] == [Path, AlignmentError, Path]
        assert [len(one.states) for one in paths[::2]] == [7, 5]
    with pytest.raises(InputError, match="`method` is 'other'; it must be one of viterbi, baum_welch"):
        list(find(hmms, utterances, "other", np.inf))


def test_paths_of_a_trainer_start_another_training():
    # As state tying does: the paths of one set of HMMs are the first guess of another.
    hmms, (frames, transcripts, _) = known()
    trainer = HmmTrainer(frames[:30], transcripts[:30], HmmSettings(1, start_iterations=6))
    flat = left_to_right(n_states_of(hmms), trainer.one_gaussian())
    training = trainer.train(flat, trainer.paths(hmms))
    assert_near(
        training.hmms,
        HmmTrainer(frames[:30], transcripts[:30], HmmSettings()).improved(hmms, trainer.aligned(hmms)),
        0.2,
    )


# Real speech


def read_speech(folder, n_utterances):
    """Frames of the shortest utterances whose phones are known, the phones, and their frames."""
    from speechgmm.features import FeatureConfig, FeatureExtractor
    from speechgmm.manifest import Utterance

    rows = [line.split("\t") for line in (folder / "phones.tsv").read_text().splitlines()[1:]]
    phones = {}
    for path, start, end, phone, _ in rows:
        phones.setdefault(path, []).append((phone, float(start), float(end)))
    paths = sorted(phones, key=lambda path: (phones[path][-1][2], path))[:n_utterances]
    config = FeatureConfig(sample_rate=16000, n_coefficients=13, normalisation="mean_variance")
    utterances = [Utterance(path, str(folder / path)) for path in paths]
    frames = FeatureExtractor(config).extract(utterances).frames
    transcripts = [transcript_of(phone for phone, *_ in phones[path]) for path in paths]
    times = [[(round(100 * a), round(100 * b)) for _, a, b in phones[path]] for path in paths]
    return frames, transcripts, times


@pytest.fixture(scope="module")
def speech(speech_data):
    return read_speech(speech_data / "LibriSpeech", 12)


@every_method
@pytest.mark.parametrize("timed", [False, True])
def test_the_likelihood_of_speech_never_falls_between_growths(speech, method, timed):
    frames, transcripts, times = speech
    units = sorted({step.alternatives[0][0] for transcript in transcripts for step in transcript})
    # Two states a phone: some phones are shorter than three frames.
    settings = HmmSettings(4, method, start_iterations=5, iterations=4, last_iterations=5)
    training = train_hmms(
        frames,
        transcripts,
        dict.fromkeys(units, 2),
        settings,
        times=times if timed else None,
        n_jobs=2,
    )
    assert max(falls(training.history)) <= A_FALL
    assert training.history[-1].log_likelihood > training.history[0].log_likelihood + 1.0
    assert not training.failures


def test_speech_trained_by_any_number_of_jobs_has_the_same_bits(speech):
    frames, transcripts, times = speech
    units = sorted({step.alternatives[0][0] for transcript in transcripts for step in transcript})
    settings = HmmSettings(3, "baum_welch", 1, 1, 1)
    found = [
        train_hmms(frames, transcripts, dict.fromkeys(units, 3), settings, times=times, n_jobs=n_jobs)
        for n_jobs in (1, 2, 3)
    ]
    for other in found[1:]:
        assert_same_hmms(other.hmms, found[0].hmms)
        assert other.history == found[0].history
