"""phones.network and phones.decoder: the best string of units, against a search in plain loops that forgets nothing.

Tolerances. The decoder keeps the scores of a frame relative to the best one, in float32: a score of T frames is good to
about 1e-5 T where they lie some tens of nats apart. Strings must be the same, since random frames leave no ties but
those of a unit of one state that is said twice.
"""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechgmm.em.mixture import Mixture
from speechgmm.errors import InputError
from speechgmm.phones.decoder import Decoded, Found, decode
from speechgmm.phones.graph import compose, transcript_of
from speechgmm.phones.hmm import HmmSet
from speechgmm.phones.language_model import train_ngrams
from speechgmm.phones.network import LoopWeights, phone_loop
from speechgmm.phones.passes import AlignmentError, best_path, log_likelihoods
from tests import naive_hmm

A_FRAME = 1e-5


def strings_of(units, seed=0):
    rng = np.random.default_rng(seed)
    return [
        [units[number] for number in rng.integers(len(units), size=rng.integers(1, 7))] for _ in range(30)
    ]


def made(lengths, order, n_frames, seed=0, spread=1.0, shared=None):
    """HMMs, a language model of some random strings, and the emissions of random frames."""
    hmms = naive_hmm.hmm_set(lengths, seed, 2, shared=shared, spread=spread)
    model = train_ngrams(strings_of(hmms.units, seed=seed), order, vocabulary=hmms.units)
    frames = 1.5 * np.random.default_rng(seed + 1).standard_normal((n_frames, 2))
    return hmms, model, log_likelihoods(hmms, frames)


def check(found, expected, n_frames):
    said, score = expected
    assert [one.unit for one in found.units] == [unit for unit, *_ in said]
    assert stretches(found.units) == stretches(said)
    assert found.score == pytest.approx(score, abs=A_FRAME * n_frames)


def stretches(said):
    """Where each unit begins, repetitions together: where a unit of one state ends and begins again is all the same."""
    return [
        (unit, first)
        for number, (unit, first, _) in enumerate(said)
        if number == 0 or said[number - 1][0] != unit
    ]


def score_of(hmms, model, scores, said, weights):
    """The score of a string with its times, added up."""
    total, string = 0.0, []
    for unit, first, stop in said:
        number = model.vocabulary.index(unit)
        total += weights.language_model * model.log_probabilities(string)[number] + weights.insertion
        string.append(unit)
        total += best_path(hmms, compose(hmms, transcript_of([unit])), scores[first:stop], np.inf).score
    return total + weights.language_model * model.log_probabilities(string)[-1]


# The twin itself


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_search_in_plain_loops_finds_the_best_of_all_strings(order):
    hmms, model, scores = made((1, 2, 1), order, 5)
    said, total = naive_hmm.decoded(hmms, model, scores, 1.3, -0.4)
    best = -math.inf
    for length in range(1, 6):
        for string in itertools.product(hmms.units, repeat=length):
            every = list(naive_hmm.paths(hmms, transcript_of(string), scores))
            if every:
                own = 1.3 * model.log_probability(list(string)) - 0.4 * length
                best = max(best, own + max(path.score for path in every))
    assert total == pytest.approx(best, abs=1e-9)
    assert said[0][1] == 0 and said[-1][2] == 5


# Against it


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("weights", [LoopWeights(), LoopWeights(3.0, -2.0), LoopWeights(0.5, 1.5)])
def test_decoding_is_exact_without_a_beam(order, weights):
    for seed in range(4):
        hmms, model, scores = made((1, 2, 3, 1), order, 24, seed)
        found = decode(hmms, phone_loop(hmms, model, weights), scores, np.inf)
        expected = naive_hmm.decoded(hmms, model, scores, weights.language_model, weights.insertion)
        check(found, expected, 24)
        exact = score_of(hmms, model, scores, found.units, weights)
        assert found.score == pytest.approx(exact, abs=A_FRAME * 24)


def test_states_may_share_mixtures():
    hmms, model, scores = made((3, 2, 1), 2, 30, shared=(0, 1, 0, 1, 2, 3))
    check(decode(hmms, phone_loop(hmms, model), scores, np.inf), naive_hmm.decoded(hmms, model, scores), 30)


def test_one_unit_of_one_state():
    hmms, model, scores = made((1,), 2, 6)
    check(decode(hmms, phone_loop(hmms, model), scores, np.inf), naive_hmm.decoded(hmms, model, scores), 6)
    check(
        decode(hmms, phone_loop(hmms, model), scores[:1], np.inf),
        naive_hmm.decoded(hmms, model, scores[:1]),
        1,
    )


def test_units_of_the_language_model_may_be_fewer_than_those_of_the_hmms_and_in_another_order():
    hmms, _, scores = made((1, 2, 3, 1), 2, 20)
    model = train_ngrams([["D", "B"], ["B", "B", "D"]], 2, vocabulary=("D", "B"))
    network = phone_loop(hmms, model)
    assert network.units == ("D", "B")
    check(decode(hmms, network, scores, np.inf), naive_hmm.decoded(hmms, model, scores), 20)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=4),
    st.integers(1, 3),
    st.integers(3, 15),
    st.floats(0.0, 5.0),
    st.floats(-5.0, 5.0),
    st.integers(0, 2**16),
)
def test_any_loop(lengths, order, n_frames, weight, insertion, seed):
    hmms, model, scores = made(lengths, order, n_frames, seed)
    weights = LoopWeights(weight, insertion)
    found = decode(hmms, phone_loop(hmms, model, weights), scores, np.inf)
    _, total = naive_hmm.decoded(hmms, model, scores, weight, insertion)
    # Weights may make two strings as good as float32 can tell: then the score alone is compared.
    assert found.score == pytest.approx(total, abs=A_FRAME * n_frames)
    assert score_of(hmms, model, scores, found.units, weights) == pytest.approx(total, abs=A_FRAME * n_frames)
    edges = [0, *(one.stop for one in found.units)]
    assert [one.first for one in found.units] == edges[:-1] and edges[-1] == n_frames


def test_a_string_that_was_drawn_is_found_again():
    hmms = naive_hmm.hmm_set((1, 2, 3), 0, 2, n_features=6, spread=8.0)
    said = list("CABBACAB")
    frames, pdfs = naive_hmm.sampled(hmms, said, np.random.default_rng(1))
    model = train_ngrams(strings_of(hmms.units), 2, vocabulary=hmms.units)
    found = decode(hmms, phone_loop(hmms, model), log_likelihoods(hmms, frames))
    assert [one.unit for one in found.units] == said
    for unit, first, stop in found.units:
        assert set(pdfs[first:stop]) == set(hmms.states_of(unit))


def test_a_language_model_that_knows_one_string_leads_to_it():
    # Frames that all units explain alike: the language model alone decides.
    mixture = Mixture(np.ones(1), np.zeros((1, 2)), np.ones((1, 2)))
    hmms = HmmSet(("A", "B", "C"), ((0,), (1,), (2,)), (mixture,) * 3, np.full(3, 0.5))
    model = train_ngrams([["B", "C", "A"]] * 1000, 3)
    scores = np.zeros((3, 3), np.float32)
    found = decode(hmms, phone_loop(hmms, model, LoopWeights(10.0)), scores)
    assert [one.unit for one in found.units] == ["B", "C", "A"]
    # 0.5 to stay or to leave, four times; the string is nearly certain.
    assert found.score == pytest.approx(
        3 * math.log(0.5) + 10 * model.log_probability(["B", "C", "A"]), abs=1e-4
    )


def test_weights_of_nothing_leave_the_frames_to_decide():
    hmms, model, scores = made((1, 2, 3), 3, 20)
    other = train_ngrams([["A"]] * 50, 2, vocabulary=hmms.units)
    weights = LoopWeights(0.0, 0.0)
    found = [decode(hmms, phone_loop(hmms, one, weights), scores, np.inf) for one in (model, other)]
    assert found[0].units == found[1].units
    assert found[0].score == pytest.approx(found[1].score, abs=A_FRAME * 20)


def test_insertions_that_cost_more_make_strings_shorter():
    hmms, model, scores = made((1, 1, 1), 2, 60)
    lengths = [
        len(decode(hmms, phone_loop(hmms, model, LoopWeights(1.0, insertion)), scores).units)
        for insertion in (5.0, 0.0, -5.0, -100.0)
    ]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] == 60 and lengths[-1] == 1


# Beams


@pytest.mark.parametrize("order", [2, 3])
def test_the_usual_beam_finds_the_same(order):
    hmms, model, _ = made((1, 2, 3, 1), order, 1)
    frames, _ = naive_hmm.sampled(hmms, "ABCDABCDDCBACCA" * 4, np.random.default_rng(3))
    scores, network = log_likelihoods(hmms, frames), phone_loop(hmms, model)
    assert decode(hmms, network, scores) == decode(hmms, network, scores, np.inf)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_narrower_beams_never_score_better_and_still_give_a_whole_string(order):
    hmms, model, scores = made((1, 2, 3, 1), order, 80)
    network = phone_loop(hmms, model)
    best = decode(hmms, network, scores, np.inf)
    for beam in (30.0, 10.0, 3.0, 0.5):
        found = decode(hmms, network, scores, beam)
        assert found.score <= best.score + A_FRAME * 80
        exact = score_of(hmms, model, scores, found.units, LoopWeights())
        # What is pruned may have been a better time for a boundary, not what adds up along the way.
        assert found.score <= exact + A_FRAME * 80
        assert found.units[0].first == 0 and found.units[-1].stop == 80


def test_a_beam_in_which_no_unit_can_end_is_given_up():
    # The first state explains everything far better than the last, which the beam cuts off.
    hmms = naive_hmm.hmm_set((2,))
    scores = np.tile(np.array([0.0, -50.0], np.float32), (5, 1))
    model = train_ngrams([["A"]], 2)
    found = decode(hmms, phone_loop(hmms, model), scores, 1.0)
    assert [tuple(one) for one in found.units] == [("A", 0, 5)]
    check(found, naive_hmm.decoded(hmms, model, scores), 5)


# Ties, bits, odd input


def test_ties_have_one_outcome():
    mixture = Mixture(np.ones(1), np.zeros((1, 2)), np.ones((1, 2)))
    hmms = HmmSet(("A", "B"), ((0,), (1,)), (mixture,) * 2, np.full(2, 0.5))
    model = train_ngrams([["A", "B"], ["B", "A"]], 2)
    scores = np.zeros((6, 2), np.float32)
    network = phone_loop(hmms, model, LoopWeights(0.0))
    found = decode(hmms, network, scores)
    # All strings are alike: staying wins over leaving, and the first unit over others.
    assert [tuple(one) for one in found.units] == [("A", 0, 6)]
    assert all(decode(hmms, network, scores) == found for _ in range(3))


def test_the_same_bits_whatever_the_beam_that_prunes_nothing():
    hmms, model, scores = made((1, 2, 3), 3, 40)
    network = phone_loop(hmms, model)
    assert decode(hmms, network, scores, 1e6) == decode(hmms, network, scores, np.inf)


def test_more_junctions_than_there_is_room_for_at_first():
    # Records of the search grow beyond 4096: 400 frames, in each of which 12 instances may end.
    hmms, model, scores = made((1, 1, 1, 1), 3, 500)
    found = decode(hmms, phone_loop(hmms, model, LoopWeights(1.0, 3.0)), scores, np.inf)
    check(found, naive_hmm.decoded(hmms, model, scores, 1.0, 3.0), 500)


@pytest.mark.parametrize("far", [1e3, 1e6, 1e9])
def test_frames_far_out_lose_digits_and_not_the_way(far):
    # Scores of the frame itself are known to 6e-8 of them, which hides what else differs there.
    hmms, model, _ = made((1, 2, 3), 2, 1)
    frames = np.random.default_rng(0).standard_normal((12, 2))
    frames[5] = far
    scores = log_likelihoods(hmms, frames)
    found = decode(hmms, phone_loop(hmms, model), scores)
    assert found.score == pytest.approx(naive_hmm.decoded(hmms, model, scores)[1], rel=1e-6)
    check_whole(hmms, found, 12)


def check_whole(hmms, found, n_frames):
    edges = [0, *(one.stop for one in found.units)]
    assert [one.first for one in found.units] == edges[:-1] and edges[-1] == n_frames
    for unit, first, stop in found.units:
        assert stop - first >= len(hmms.states_of(unit))


def test_frames_that_nothing_explains_have_no_string():
    hmms, model, _ = made((3, 2), 2, 1)
    frames = np.random.default_rng(0).standard_normal((8, 2))
    frames[4] = 1e25
    with pytest.raises(AlignmentError, match=r"no unit fits into the 8 frames .*unlike anything known"):
        decode(hmms, phone_loop(hmms, model), log_likelihoods(hmms, frames))


def test_an_utterance_too_short_for_any_unit_is_refused():
    hmms, model, scores = made((3, 2), 2, 2)
    assert decode(hmms, phone_loop(hmms, model), scores).units == (Found("B", 0, 2),)
    with pytest.raises(AlignmentError, match=r"no unit fits into the 1 frames of the utterance .*too few"):
        decode(hmms, phone_loop(hmms, model), scores[:1])


@pytest.mark.parametrize("beam", [0.0, -3.0, np.nan])
def test_beams_must_be_positive(beam):
    hmms, model, scores = made((1,), 2, 3)
    with pytest.raises(InputError, match=r"`beam` is .*; it must be more than 0 nats"):
        decode(hmms, phone_loop(hmms, model), scores, beam)


def test_units_without_hmms_are_refused():
    hmms, _, _ = made((1, 2), 2, 3)
    with pytest.raises(InputError, match=r"there is no HMM of 'Z'; there are 'A', 'B'"):
        phone_loop(hmms, train_ngrams([["A", "Z"]], 2))


@pytest.mark.parametrize(
    "arguments", [(-0.1, 0.0), (math.inf, 0.0), (math.nan, 0.0), (1.0, math.inf), (1.0, math.nan)]
)
def test_weights_must_be_finite(arguments):
    with pytest.raises(InputError, match="they must be finite, the first not negative"):
        LoopWeights(*arguments)


def test_what_is_decoded_can_be_compared():
    assert Decoded((Found("A", 0, 2),), 1.0) == Decoded((Found("A", 0, 2),), 1.0)
