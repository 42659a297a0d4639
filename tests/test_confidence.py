"""Posteriors of units over a loop, and how sure decoded units are."""

import hashlib
import itertools
import math

import numpy as np
import pytest

from speechgmm.corpora.librispeech import phone_split, phone_utterances
from speechgmm.errors import InputError
from speechgmm.features import FeatureConfig, FeatureExtractor
from speechgmm.metrics.sequences import edit_alignment
from speechgmm.phones.confidence import confidences, normalised_cross_entropy, unit_posteriors
from speechgmm.phones.decoder import Decoded, Found, decode
from speechgmm.phones.graph import transcript_of
from speechgmm.phones.hmm_training import HmmSettings, train_hmms
from speechgmm.phones.language_model import train_ngrams
from speechgmm.phones.network import LoopWeights, phone_loop
from speechgmm.phones.passes import AlignmentError, log_likelihoods
from tests import naive_hmm

STRINGS = [list(string) for string in ("ABCAB", "BBA", "CAB", "ACCBA", "A")]


def example(order, n_frames, seed=0, spread=2.0, lengths=(3, 1, 2)):
    hmms = naive_hmm.hmm_set(lengths, seed, 2, spread=spread)
    model = train_ngrams(STRINGS, order, vocabulary=hmms.units)
    rng = np.random.default_rng(seed)
    said = [hmms.units[i] for i in rng.integers(0, len(lengths), n_frames)]
    frames, _ = naive_hmm.sampled(hmms, said, rng)
    return hmms, model, log_likelihoods(hmms, frames[:n_frames])


def dense_posteriors(hmms, model, scores, scale, weights):
    """By a matrix of log-probabilities between all states of all units after all histories, in float64."""
    reach = max(model.order - 1, 1)
    histories = [
        tuple(one) for n in range(1, reach + 1) for one in itertools.product(model.vocabulary, repeat=n)
    ]
    states = [(one, place) for one in histories for place in range(len(hmms.states_of(one[-1])))]
    own = [hmms.states_of(history[-1])[place] for history, place in states]
    last = [place + 1 == len(hmms.states_of(history[-1])) for history, place in states]

    def said(history):
        return weights.language_model * np.asarray(model.log_probabilities(history))

    arcs = np.full((len(states), len(states)), -np.inf)
    entries, exits = np.full(len(states), -np.inf), np.full(len(states), -np.inf)
    for a, (history, place) in enumerate(states):
        leave = math.log(1 - hmms.stays[own[a]])
        arcs[a, a] = scale * math.log(hmms.stays[own[a]])
        if not last[a]:
            arcs[a, states.index((history, place + 1))] = scale * leave
            continue
        exits[a] = scale * (leave + said(history)[-1])
        for number, unit in enumerate(model.vocabulary):
            b = states.index(((*history, unit)[-reach:], 0))
            value = scale * (leave + said(history)[number] + weights.insertion)
            arcs[a, b] = np.logaddexp(
                arcs[a, b], value
            )  # a unit of one state may be stayed in or follow itself
    for number, unit in enumerate(model.vocabulary):
        entries[states.index(((unit,), 0))] = scale * (said(())[number] + weights.insertion)
    emitted = scale * scores.astype(np.float64)[:, own]
    forward, backward = [entries + emitted[0]], [exits]
    for row in emitted[1:]:
        forward.append(np.logaddexp.reduce(forward[-1][:, None] + arcs, axis=0) + row)
    for row in emitted[:0:-1]:
        backward.append(np.logaddexp.reduce(arcs + (row + backward[-1]), axis=1))
    both = np.array(forward) + np.array(backward[::-1])
    shares = np.exp(both - np.logaddexp.reduce(both, axis=1)[:, None])
    return np.stack(
        [shares[:, [s[0][-1] == unit for s in states]].sum(axis=1) for unit in model.vocabulary], axis=1
    )


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_posteriors_are_those_of_the_definition(order, scale):
    weights = LoopWeights(1.7, -0.6)
    for seed, n_frames in enumerate((3, 4, 10, 17, 60)):
        hmms, model, scores = example(order, n_frames, seed)
        found = unit_posteriors(hmms, phone_loop(hmms, model, weights), scores, scale)
        assert found.shape == (n_frames, 3) and found.dtype == np.float32
        # Weights of networks are kept in float32, and so are posteriors.
        np.testing.assert_allclose(found, dense_posteriors(hmms, model, scores, scale, weights), atol=3e-6)
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)


def test_posteriors_of_every_string_that_fits():
    """Three frames and units of 2, 1 and 2 states: strings and their paths are written out and added up."""
    hmms, model, scores = example(2, 3, 5, lengths=(2, 1, 2))
    expected = np.zeros((3, 3))
    for n_units in (1, 2, 3):
        for string in itertools.product(hmms.units, repeat=n_units):
            said = sum(
                model.log_probabilities(string[:n])[hmms.units.index(string[n])] for n in range(n_units)
            )
            said += model.log_probabilities(string)[-1]
            expected += written_out(hmms, string, scores, said)
    expected /= expected.sum(axis=1, keepdims=True)
    found = unit_posteriors(hmms, phone_loop(hmms, model), scores, 0.5)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def written_out(hmms, string, scores, said):
    """The probability, to the power 1/2, with which each frame is in each unit, over all paths of a string."""
    pdfs = [(unit, pdf) for unit in string for pdf in hmms.states_of(unit)]
    sums = np.zeros((len(scores), len(hmms.units)))
    # How many frames each state takes.
    for counts in itertools.product(range(1, len(scores) + 1), repeat=len(pdfs)):
        if sum(counts) != len(scores):
            continue
        path = [state for state, count in zip(pdfs, counts, strict=True) for _ in range(count)]
        score = said + sum(float(scores[t, pdf]) for t, (_, pdf) in enumerate(path))
        for (_, pdf), count in zip(pdfs, counts, strict=True):
            score += (count - 1) * math.log(hmms.stays[pdf]) + math.log(1 - hmms.stays[pdf])
        for t, (unit, _) in enumerate(path):
            sums[t, hmms.units.index(unit)] += math.exp(0.5 * score)
    return sums


def test_frames_far_from_every_mixture():
    """Mixtures so far apart that a frame's likelihoods are hundreds of nats apart; nothing overflows or is lost."""
    hmms, model, scores = example(2, 200, 3, spread=30.0)
    assert np.ptp(scores, axis=1).max() > 1000
    found = unit_posteriors(hmms, phone_loop(hmms, model), scores, 0.5)
    np.testing.assert_allclose(found, dense_posteriors(hmms, model, scores, 0.5, LoopWeights()), atol=1e-5)


def test_frames_beyond_any_range():
    """Thousands of nats between mixtures at every frame: no path fits into float64, yet there is an answer."""
    for seed in range(6):
        hmms, model, scores = example(2, 60, seed, spread=60.0)
        found = unit_posteriors(hmms, phone_loop(hmms, model), scores, 1.0)
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)


def test_long_utterances():
    """Nothing runs out of range, and blocks of frames join: 1500 frames, against the definition."""
    hmms, model, scores = example(2, 1500, 7)
    found = unit_posteriors(hmms, phone_loop(hmms, model), scores, 1.0)
    np.testing.assert_allclose(found, dense_posteriors(hmms, model, scores, 1.0, LoopWeights()), atol=1e-5)


def test_a_small_scale_knows_nothing_of_the_frames():
    hmms, model, scores = example(2, 30, 2)
    network = phone_loop(hmms, model)
    entropies = [
        -(p * np.log(p + 1e-30)).sum(axis=1).mean()
        for p in (unit_posteriors(hmms, network, scores, scale) for scale in (1.0, 0.3, 0.1, 0.01))
    ]
    assert entropies == sorted(entropies)
    others = unit_posteriors(hmms, network, np.zeros_like(scores), 1e-6)
    np.testing.assert_allclose(unit_posteriors(hmms, network, scores, 1e-6), others, atol=1e-3)


def test_what_does_not_fit():
    hmms, model, scores = example(2, 10, lengths=(3, 3, 2))
    network = phone_loop(hmms, model)
    assert unit_posteriors(hmms, network, scores[:2], 1.0)[0].tolist() == [0, 0, 1]
    for n_frames in (0, 1):
        with pytest.raises(AlignmentError, match=f"no unit fits into the {n_frames} frames"):
            unit_posteriors(hmms, network, scores[:n_frames], 1.0)
    for scale in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(InputError, match=f"`scale` is {scale}; it must be more than 0"):
            unit_posteriors(hmms, network, scores, scale)
    with pytest.raises(InputError, match=r"shape \(10, 7\); the HMMs need \(n_frames, 8\)"):
        unit_posteriors(hmms, network, scores[:, :7], 1.0)


def test_confidences_are_means():
    posteriors = np.array([[1.0, 0.0], [0.5, 0.5], [0.25, 0.75], [0.0, 1.0]], np.float32)
    decoded = Decoded((Found("x", 0, 2), Found("y", 2, 3), Found("x", 3, 4)), -1.0)
    assert confidences(decoded, posteriors, ("x", "y")) == (0.75, 0.75, 0.0)
    assert confidences(decoded, posteriors, ("y", "x")) == (0.25, 0.25, 1.0)
    with pytest.raises(InputError, match="no posteriors of 'x'"):
        confidences(decoded, posteriors, ("y", "z"))
    with pytest.raises(InputError, match=r"shape \(4, 2\); 3 units need \(n_frames, 3\)"):
        confidences(decoded, posteriors, ("x", "y", "z"))
    with pytest.raises(InputError, match="`posteriors` has 5 frames, the decoded string 4"):
        confidences(decoded, np.vstack([posteriors, posteriors[:1]]), ("x", "y"))


def test_normalised_cross_entropy():
    right = [True, True, True, False]
    assert normalised_cross_entropy([0.75] * 4, right) == pytest.approx(0.0)  # as good as knowing how many
    assert normalised_cross_entropy([1.0, 1.0, 1.0, 0.0], right) == pytest.approx(1.0, abs=1e-5)
    base = 3 * math.log2(0.75) + math.log2(0.25)
    given = 3 * math.log2(0.9) + math.log2(0.6)
    assert normalised_cross_entropy([0.9, 0.9, 0.9, 0.4], right) == pytest.approx(1 - given / base)
    assert normalised_cross_entropy([0.0, 1.0, 1.0, 1.0], right) < -5  # sure and wrong is dear, not infinite
    with pytest.raises(InputError, match="3 confidences came with 4 answers"):
        normalised_cross_entropy([0.5] * 3, right)
    with pytest.raises(InputError, match="some right and some wrong"):
        normalised_cross_entropy([0.5] * 4, [True] * 4)
    with pytest.raises(InputError, match=r"from 0 to 1; there is 1\.5"):
        normalised_cross_entropy([0.5, 0.5, 1.5, 0.5], right)


@pytest.fixture(scope="module")
def read_speech(speech_data):
    """Monophones of few utterances: frames and phones of utterances that they were not trained on."""
    folder = speech_data / "LibriSpeech"
    known = phone_split(phone_utterances(folder))
    known.sort(key=lambda one: hashlib.sha256(one.id.encode()).hexdigest())
    parts = [[one for one in known if one.split == split][:n] for split, n in (("train", 24), ("dev", 8))]
    config = FeatureConfig(normalisation="mean_variance")
    frames = [FeatureExtractor(config).extract(part).frames for part in parts]
    strings = [[[segment.label for segment in one.segments["phones"]] for one in part] for part in parts]
    times = [[config.frame_range(s.start, s.end) for s in one.segments["phones"]] for one in parts[0]]
    units = sorted({unit for string in strings[0] for unit in string})
    trained = train_hmms(
        frames[0],
        [transcript_of(string) for string in strings[0]],
        dict.fromkeys(units, 3),
        HmmSettings(n_components=4, start_iterations=2, iterations=1, last_iterations=2),
        times=times,
    )
    return trained.hmms, train_ngrams(strings[0], 2), frames[1], strings[1]


def test_right_phones_are_surer_than_wrong_ones(read_speech):
    hmms, model, frames, strings = read_speech
    network = phone_loop(hmms, model, LoopWeights(6.0, 2.0))
    sure, right = [], []
    for own, string in zip(frames, strings, strict=True):
        scores = log_likelihoods(hmms, own)
        decoded = decode(hmms, network, scores)
        sure += confidences(decoded, unit_posteriors(hmms, network, scores, 1 / 6), network.units)
        said = [found.unit for found in decoded.units]
        pairs = edit_alignment(string, said).pairs
        right += [a is not None and string[a] == said[b] for a, b in pairs if b is not None]
    assert len(sure) == len(right) > 500
    ranks = np.argsort(np.argsort(sure))[right]
    n_right, n_wrong = sum(right), len(right) - sum(right)
    area = (ranks.sum() - n_right * (n_right - 1) / 2) / (n_right * n_wrong)
    assert area > 0.64  # measured 0.69; with 16 Gaussians a state and all training utterances 0.75
