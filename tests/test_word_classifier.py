"""Words by one HMM each: scores against hmmlearn and a slow twin, training, words told apart, bad input."""

import numpy as np
import pytest

from speechgmm.errors import InputError, SpeechGMMWarning
from speechgmm.phones.graph import transcript_of
from speechgmm.phones.hmm_training import HmmSettings
from speechgmm.phones.word_classifier import WordClassifier, train_words
from tests import naive_hmm

# Few frames for each Gaussian, so that every state has two of them, as hmmlearn needs.
QUICK = HmmSettings(n_components=2, start_iterations=2, last_iterations=2, frames_per_component=10.0)


def spoken(word, seed, n_frames=18):
    """Frames that walk from one corner to the next: "there" and "back" hold the same frames in another order."""
    rng = np.random.default_rng(seed)
    n_frames += seed % 5
    corners = np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 4.0]])
    walk = corners[np.arange(n_frames) * 3 // n_frames] + rng.standard_normal((n_frames, 2))
    return walk if word == "there" else walk[::-1].copy()


@pytest.fixture(scope="module")
def material():
    words = ["there", "back"] * 12
    return [spoken(word, seed) for seed, word in enumerate(words)], words


@pytest.fixture(scope="module")
def trained(material):
    return train_words(*material, n_states=3, settings=QUICK)


def test_scores_are_sums_over_all_paths():
    hmms = naive_hmm.hmm_set([3, 2], seed=4, n_components=2)
    frames = [np.random.default_rng(seed).standard_normal((seed + 4, 2)) for seed in range(4)]
    scores = WordClassifier(hmms).scores(frames)
    for own, row in zip(frames, scores, strict=True):
        emissions = naive_hmm.emissions(hmms, own)
        expected = [naive_hmm.enumerated(hmms, transcript_of([unit]), emissions)[0] for unit in hmms.units]
        # Emissions are float32: 1e-7 of some tens, times the frames.
        np.testing.assert_allclose(row, expected, atol=2e-4)


def test_scores_are_those_of_hmmlearn(material, trained):
    hmm = pytest.importorskip("hmmlearn.hmm", reason="hmmlearn is not installed")
    frames = material[0][:6]
    scores = trained.scores(frames)
    # hmmlearn lets an utterance end in any state. One more frame, far from all others, and a state that emits nothing
    # else make it leave the last one.
    far, end = np.full((1, 2), 500.0), 4
    for column, word in enumerate(trained.words):
        numbers = list(trained.hmms.states_of(word))
        mixtures, stays = [trained.hmms.mixtures[number] for number in numbers], trained.hmms.stays[numbers]
        peer = hmm.GMMHMM(n_components=end, n_mix=2, covariance_type="diag")
        peer.startprob_ = np.array([1.0, 0.0, 0.0, 0.0])
        peer.transmat_ = np.diag([*stays, 1.0]) + np.diag(1 - stays, 1)
        peer.weights_ = np.array([*(one.weights for one in mixtures), np.full(2, 0.5)])
        peer.means_ = np.array([*(one.means for one in mixtures), far.repeat(2, 0)])
        peer.covars_ = np.array([*(one.covariances for one in mixtures), np.ones((2, 2))])
        at_the_end = -np.log(2 * np.pi)
        expected = [peer.score(np.concatenate([own, far])) - at_the_end for own in frames]
        np.testing.assert_allclose(scores[:, column], expected, atol=2e-4, rtol=1e-6)


def test_the_order_of_sounds_tells_words_apart(trained):
    words = ["there", "back"] * 10
    frames = [spoken(word, 100 + seed) for seed, word in enumerate(words)]
    assert trained.words == ("back", "there")
    assert trained.classify(frames) == words
    assert trained.classify([]) == []
    assert trained.scores([]).shape == (0, 2)


def test_each_word_is_trained_on_its_own_utterances(material, trained):
    frames, words = material
    alone = train_words(frames[::2], words[::2], n_states=3, settings=QUICK)
    assert alone.words == ("there",)
    for one, other in zip(alone.hmms.mixtures, trained.hmms.mixtures[3:], strict=True):
        np.testing.assert_array_equal(one.means, other.means)
        np.testing.assert_array_equal(one.covariances, other.covariances)
    np.testing.assert_array_equal(alone.hmms.stays, trained.hmms.stays[3:])


def test_words_may_have_different_numbers_of_states(material):
    found = train_words(*material, n_states={"there": 3, "back": 5, "unsaid": 2}, settings=QUICK)
    assert [len(states) for states in found.hmms.states] == [5, 3]
    assert sorted(number for states in found.hmms.states for number in states) == list(range(8))


def test_any_number_of_workers_gives_the_same_bits(material, trained):
    again = train_words(*material, n_states=3, settings=QUICK, n_jobs=2)
    frames = material[0]
    assert again.scores(frames, n_jobs=2).tobytes() == trained.scores(frames).tobytes()


def test_progress_counts_words(material):
    calls = []
    train_words(*material, n_states=3, settings=QUICK, progress=lambda *call: calls.append(call))
    assert calls == [("words", 1, 2), ("words", 2, 2)]


def test_utterances_that_are_too_short_are_left_out_with_a_warning(material):
    frames, words = material
    with pytest.warns(SpeechGMMWarning, match=r"1 of 13 utterances of 'back' are left out: .* 2 frames"):
        found = train_words([*frames, frames[0][:2]], [*words, "back"], n_states=3, settings=QUICK)
    assert found.classify(frames) == words


def test_a_word_longer_than_the_utterance_scores_nothing(material):
    found = train_words(*material, n_states={"there": 2, "back": 6}, settings=QUICK)
    scores = found.scores([material[0][0][:4]])
    assert scores[0, 0] == -np.inf
    assert np.isfinite(scores[0, 1])
    with pytest.raises(InputError, match=r"utterance 1 has 1 frames, and the shortest word needs 2"):
        found.scores([material[0][0], material[0][1][:1]])


@pytest.mark.parametrize(
    ("frames", "words", "n_states", "message"),
    [
        ([np.zeros((9, 2))], [], 3, r"1 `frames` came with 0 `words`"),
        ([], [], 3, r"`frames` is empty"),
        ([np.zeros((9, 2))], ["a"], {"b": 3}, r"how many states the word 'a' has"),
        ([np.eye(2)], ["a"], 3, r"none of 1 utterances can be what its transcript says"),
        ([np.full((9, 2), np.nan)], ["a"], 3, r"frames\[0\].*nan"),
    ],
)
def test_training_refuses_what_it_cannot_use(frames, words, n_states, message):
    with pytest.raises(InputError, match=message):
        train_words(frames, words, n_states, QUICK)


def test_scores_refuse_other_features(trained):
    with pytest.raises(InputError, match=r"shape \(9, 3\); the HMMs need \(n_frames, 2\)"):
        trained.scores([np.zeros((9, 3))])
