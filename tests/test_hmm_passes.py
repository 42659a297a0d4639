"""phones.passes: forward-backward and Viterbi, against every path written out, plain loops and hmmlearn.

Tolerances. A sum of two likelihoods is good to 1e-7 in logs and a frame takes a few, so a log-likelihood of T frames
is good to 1e-6 T. Posteriors are float32 exponentials of differences of such scores: 2e-5 where tests have tens of
frames. The best path adds in float64 what it is given: 1e-9. Emissions in float32 are given to the twins too, so that
their rounding, 1e-4 a frame, is no part of a comparison unless a test says so.
"""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechgmm.em.mixture import Mixture
from speechgmm.errors import InputError
from speechgmm.phones import passes
from speechgmm.phones.graph import Step, compose, transcript_of
from speechgmm.phones.hmm import HmmSet
from speechgmm.phones.passes import (
    LEAST_POSTERIOR,
    AlignmentError,
    best_path,
    log_likelihoods,
    occupancy,
    path_occupancy,
)
from tests import naive_hmm

HMMS = naive_hmm.hmm_set((1, 2, 3), n_components=2)
SILENCE = Step(((), ("A",)))
A_FRAME = 1e-6
POSTERIOR = 2e-5
EXACT = 1e-9

# (states of each unit, mixtures of all states, transcript)
CASES = {
    "one state": ((1,), None, transcript_of("A")),
    "one unit": ((3,), None, transcript_of("A")),
    "units in a row": ((1, 2, 3), None, transcript_of("BAC")),
    "the same unit twice": ((2, 1), None, transcript_of("AAB")),
    "optional silence": ((1, 2, 3), None, (SILENCE, Step((("B",),)), SILENCE, Step((("A",),)), SILENCE)),
    "pronunciations": (
        (1, 2, 3),
        None,
        (Step((("B", "A"), ("C",), ("A", "A", "A"))), Step((("A",), ("B",)))),
    ),
    "skipped in the middle": (
        (1, 2, 1),
        None,
        (Step((("A",),)), Step(((), ("B",), ("C",))), Step((("C",),))),
    ),
    "nothing but silence": ((2, 1), None, (Step(((), ("A",))), Step(((), ("B",))))),
    "shared by states of a unit": ((3, 1), (0, 1, 0, 1), transcript_of("AB")),
    "shared by units": ((2, 2), (0, 1, 1, 2), (Step((("A",), ("B",))), Step((("A",), ("B",))))),
}
every_case = pytest.mark.parametrize(("lengths", "shared", "transcript"), CASES.values(), ids=CASES)


def made(lengths, shared, n_frames, seed=0, n_components=2):
    hmms = naive_hmm.hmm_set(lengths, seed, n_components, shared=shared)
    frames = 2.0 * np.random.default_rng(seed + 1).standard_normal((n_frames, 2))
    return hmms, log_likelihoods(hmms, frames)


def utterance(units="BACB", seed=0, n_features=2, spread=2.0, hmms=None):
    """HMMs, a graph of a string of units with optional silence, and the emissions of frames drawn from them."""
    hmms = hmms or naive_hmm.hmm_set((1, 2, 3), seed, 2, n_features, spread)
    frames, _ = naive_hmm.sampled(hmms, units, np.random.default_rng(seed))
    transcript = [step for unit in units for step in (SILENCE, Step(((unit,),)))]
    return hmms, compose(hmms, (*transcript, SILENCE)), log_likelihoods(hmms, frames)


def posteriors(found, n_frames, n_mixtures):
    table = np.zeros((n_frames, n_mixtures))
    np.add.at(table, (found.rows, found.pdfs), found.weights)
    return table


def check_occupancy(found, expected, scores):
    total, gammas, stays = expected
    n_frames = len(scores)
    assert found.log_likelihood == pytest.approx(total, abs=A_FRAME * n_frames)
    np.testing.assert_allclose(posteriors(found, *scores.shape), gammas, atol=POSTERIOR)
    np.testing.assert_allclose(found.stays, stays, atol=POSTERIOR * n_frames)
    assert found.weights.min() >= LEAST_POSTERIOR and found.weights.max() <= 1.0
    np.testing.assert_allclose(np.bincount(found.rows, found.weights), 1.0, atol=POSTERIOR)


# The twins themselves


@every_case
def test_passes_in_plain_loops_agree_with_every_path_written_out(lengths, shared, transcript):
    hmms, scores = made(lengths, shared, 7)
    graph = compose(hmms, transcript)
    total, gammas, stays, best = naive_hmm.enumerated(hmms, transcript, scores)
    found = naive_hmm.forward_backward(hmms, graph, scores)
    assert found[0] == pytest.approx(total, abs=EXACT)
    assert naive_hmm.backward(hmms, graph, scores)[1] == pytest.approx(total, abs=EXACT)
    np.testing.assert_allclose(found[1], gammas, atol=EXACT)
    np.testing.assert_allclose(found[2], stays, atol=EXACT)
    assert naive_hmm.viterbi(hmms, graph, scores)[0] == pytest.approx(best.score, abs=EXACT)


# Against every path


@every_case
@pytest.mark.parametrize("beam", [np.inf, 250.0])
def test_posteriors_are_those_of_every_path_written_out(lengths, shared, transcript, beam):
    for seed in range(3):
        hmms, scores = made(lengths, shared, 7, seed)
        found = occupancy(hmms, compose(hmms, transcript), scores, beam)
        check_occupancy(found, naive_hmm.enumerated(hmms, transcript, scores)[:3], scores)


@every_case
@pytest.mark.parametrize("beam", [np.inf, 250.0])
def test_the_best_path_is_the_best_of_every_path_written_out(lengths, shared, transcript, beam):
    for seed in range(3):
        hmms, scores = made(lengths, shared, 7, seed)
        graph = compose(hmms, transcript)
        path = best_path(hmms, graph, scores, beam)
        best = naive_hmm.enumerated(hmms, transcript, scores)[3]
        assert path.score == pytest.approx(best.score, abs=EXACT)
        assert tuple(graph.pdfs[path.states]) == best.pdfs
        places = [graph.occurrences[graph.owners[state]].step for state in path.states]
        assert places == [place for place, *_ in best.states]


def test_emissions_and_passes_together_against_exact_emissions():
    # Emissions are good to 1e-4 nats a frame, and so is their sum.
    transcript = (SILENCE, Step((("B", "A"), ("C",))), SILENCE)
    frames = 2.0 * np.random.default_rng(5).standard_normal((7, 2))
    exact = naive_hmm.emissions(HMMS, frames)
    total, gammas, _, best = naive_hmm.enumerated(HMMS, transcript, exact)
    graph, scores = compose(HMMS, transcript), log_likelihoods(HMMS, frames)
    np.testing.assert_allclose(scores, exact, atol=1e-4)
    found = occupancy(HMMS, graph, scores)
    assert found.log_likelihood == pytest.approx(total, abs=1e-4 * 7)
    np.testing.assert_allclose(posteriors(found, *scores.shape), gammas, atol=2e-4)
    assert best_path(HMMS, graph, scores).score == pytest.approx(best.score, abs=1e-4 * 7)


# Against plain loops


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("beam", [np.inf, 250.0])
def test_longer_utterances_against_plain_loops(seed, beam):
    hmms, graph, scores = utterance("BACBCAAB", seed)
    found = occupancy(hmms, graph, scores, beam)
    check_occupancy(found, naive_hmm.forward_backward(hmms, graph, scores), scores)
    path = best_path(hmms, graph, scores, beam)
    score, states = naive_hmm.viterbi(hmms, graph, scores)
    assert path.score == pytest.approx(score, abs=EXACT * len(scores))
    assert path.states.tolist() == states


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(st.lists(st.sampled_from("ABC"), max_size=2).map(tuple), min_size=1, max_size=3).map(
            lambda alternatives: Step(tuple(alternatives))
        ),
        min_size=1,
        max_size=5,
    ),
    st.integers(0, 12),
    st.integers(0, 2**16),
)
def test_any_transcript_against_plain_loops(transcript, extra, seed):
    if not any(any(step.alternatives) for step in transcript):
        return
    hmms = naive_hmm.hmm_set((1, 2, 3), seed)
    graph = compose(hmms, transcript)
    frames = 2.0 * np.random.default_rng(seed).standard_normal((graph.least_frames + extra, 2))
    scores = log_likelihoods(hmms, frames)
    found = occupancy(hmms, graph, scores, np.inf)
    check_occupancy(found, naive_hmm.forward_backward(hmms, graph, scores), scores)
    path = best_path(hmms, graph, scores, np.inf)
    assert path.score == pytest.approx(naive_hmm.viterbi(hmms, graph, scores)[0], abs=EXACT * len(scores))
    assert score_of(hmms, graph, scores, path.states) == pytest.approx(path.score, abs=EXACT * len(scores))


def score_of(hmms, graph, scores, path):
    """The score of a path, added up along it."""
    found, entries, exits = naive_hmm.arcs(hmms, graph)
    weights = {(source, target): weight for source, target, weight in found}
    total = entries[path[0]] + exits[path[-1]]
    total += sum(weights[pair] for pair in pairwise(path))
    return total + sum(float(row[graph.pdfs[state]]) for row, state in zip(scores, path, strict=True))


def test_as_many_frames_as_states_leave_one_path():
    hmms, scores = made((1, 2, 3), None, 6)
    graph = compose(hmms, transcript_of("BAC"))
    path, found = best_path(hmms, graph, scores), occupancy(hmms, graph, scores)
    assert path.states.tolist() == list(range(6))
    assert found.log_likelihood == pytest.approx(path.score, abs=A_FRAME * 6)
    np.testing.assert_allclose(found.weights, 1.0, atol=POSTERIOR)
    # exp2 of the fast kind is never quite 0: 2**-60.
    np.testing.assert_allclose(found.stays, 0.0, atol=1e-12)


def test_one_frame():
    hmms = naive_hmm.hmm_set((1, 1))
    scores = log_likelihoods(hmms, np.array([[0.3, -0.2]]))
    graph = compose(hmms, (Step((("A",), ("B",))),))
    found = occupancy(hmms, graph, scores)
    check_occupancy(found, naive_hmm.forward_backward(hmms, graph, scores), scores)
    assert best_path(hmms, graph, scores).states.tolist() == [naive_hmm.viterbi(hmms, graph, scores)[1][0]]


def test_log_additions_are_good_to_their_word():
    # Of 20000 frames that every state explains alike, the likelihood is known in closed form: the frames' own, times
    # the probability that a chain of three equal states lasts so long. Each frame takes one addition a state.
    n_frames, stay = 20_000, 0.999
    mixture = Mixture(np.ones(1), np.zeros((1, 1)), np.ones((1, 1)))
    hmms = HmmSet(("A",), ((0, 1, 2),), (mixture,) * 3, np.full(3, stay))
    scores = np.full((n_frames, 3), -1.25, np.float32)
    found = occupancy(hmms, compose(hmms, transcript_of("A")), scores, np.inf)
    ways = np.log(n_frames - 1) + np.log(n_frames - 2) - np.log(2)
    exact = -1.25 * n_frames + ways + (n_frames - 3) * np.log(stay) + 3 * np.log1p(-stay)
    assert found.log_likelihood == pytest.approx(exact, abs=1e-7 * n_frames)


# Beams


@pytest.mark.parametrize("seed", range(5))
def test_the_usual_beam_changes_nothing_that_shows(seed):
    hmms, graph, scores = utterance("BACBCAABCBA" * 3, seed, n_features=8, spread=3.0)
    whole, narrow = occupancy(hmms, graph, scores, np.inf), occupancy(hmms, graph, scores)
    # What lies 250 nats behind has no digit in the sum; sums of fewer terms differ by the error of additions.
    assert narrow.log_likelihood == pytest.approx(whole.log_likelihood, abs=1e-9 * len(scores))
    np.testing.assert_allclose(posteriors(narrow, *scores.shape), posteriors(whole, *scores.shape), atol=1e-6)
    paths = [best_path(hmms, graph, scores, beam) for beam in (np.inf, 250.0)]
    assert paths[0].score == paths[1].score and np.array_equal(paths[0].states, paths[1].states)


@pytest.mark.parametrize("seed", range(5))
def test_beams_that_prune_lose_no_more_than_they_say(seed):
    # Each frame may lose what lies 30 nats behind its best: exp(-30) of it, but from less good beginnings. Clear
    # speech loses nothing that shows.
    hmms, graph, scores = utterance("BACBCAABCBA" * 3, seed, n_features=8, spread=3.0)
    whole, narrow = occupancy(hmms, graph, scores, np.inf), occupancy(hmms, graph, scores, 30.0)
    assert narrow.log_likelihood <= whole.log_likelihood + A_FRAME * len(scores)
    assert narrow.log_likelihood == pytest.approx(whole.log_likelihood, abs=1e-4 * len(scores))
    assert best_path(hmms, graph, scores, 30.0).score == pytest.approx(
        best_path(hmms, graph, scores, np.inf).score, abs=EXACT * len(scores)
    )


def test_a_beam_in_which_no_path_is_left_is_given_up():
    # A first state that explains the first frames far better than what follows, of which the beam leaves it alone,
    # so that the end is out of reach: the second attempt, without a beam, finds it.
    hmms = naive_hmm.hmm_set((1, 1))
    scores = np.zeros((3, 2), np.float32)
    scores[:, 1] = -100.0
    graph = compose(hmms, transcript_of("AB"))
    assert occupancy(hmms, graph, scores, 1.0).log_likelihood == pytest.approx(
        naive_hmm.forward(hmms, graph, scores)[1], abs=A_FRAME * 3
    )
    path = best_path(hmms, graph, scores, 1.0)
    assert path.states.tolist() == [0, 0, 1]
    assert path.score == pytest.approx(naive_hmm.viterbi(hmms, graph, scores)[0], abs=EXACT)


@pytest.mark.parametrize("function", [occupancy, best_path])
def test_long_utterances_are_not_searched_without_a_beam(function, monkeypatch):
    hmms = naive_hmm.hmm_set((1, 1))
    scores = np.zeros((3, 2), np.float32)
    scores[:, 1] = -100.0
    graph = compose(hmms, transcript_of("AB"))
    monkeypatch.setattr(passes, "MOST_KEPT", 6)
    function(hmms, graph, scores, 1.0)
    monkeypatch.setattr(passes, "MOST_KEPT", 5)
    with pytest.raises(
        AlignmentError, match=r"2 states is left in a beam of 1 nats, and 3 frames are too many"
    ):
        function(hmms, graph, scores, 1.0)
    function(hmms, graph, scores, np.inf)


@pytest.mark.parametrize("beam", [0.0, -1.0, np.nan])
def test_beams_must_be_positive(beam):
    hmms, scores = made((1,), None, 2)
    graph = compose(hmms, transcript_of("A"))
    for function in (occupancy, best_path):
        with pytest.raises(InputError, match=r"`beam` is .*; it must be more than 0 nats"):
            function(hmms, graph, scores, beam)


# Ties and bits


def test_among_equal_paths_the_one_that_stays_wins_and_then_the_lower_state():
    mixture = Mixture(np.ones(1), np.zeros((1, 1)), np.ones((1, 1)))
    hmms = HmmSet(("A", "B"), ((0,), (1,)), (mixture,) * 2, np.full(2, 0.5))
    scores = np.zeros((4, 2), np.float32)
    stayed = best_path(hmms, compose(hmms, transcript_of("AB")), scores)
    # All paths are alike; traced back from the end, "B" is stayed in as long as can be.
    assert stayed.states.tolist() == [0, 1, 1, 1]
    either = best_path(hmms, compose(hmms, (Step((("A",), ("B",))),)), scores)
    assert either.states.tolist() == [0] * 4
    after = best_path(hmms, compose(hmms, (Step((("A",), ("B",))), Step((("A",),)))), scores[:2])
    assert after.states.tolist() == [0, 2]


def test_the_order_in_which_a_place_may_be_skipped_decides_no_tie():
    mixture = Mixture(np.ones(1), np.zeros((1, 1)), np.ones((1, 1)))
    hmms = HmmSet(("A", "B"), ((0,), (1,)), (mixture,) * 2, np.full(2, 0.5))
    scores = np.zeros((3, 2), np.float32)
    for skipped in (((), ("B",)), (("B",), ())):
        graph = compose(hmms, (Step((("A",),)), Step(skipped), Step((("A",),))))
        path = best_path(hmms, graph, scores)
        assert path.states.tolist() == [0, 2, 2]


def test_the_same_bits_again():
    hmms, graph, scores = utterance("BACB")
    first, second = occupancy(hmms, graph, scores), occupancy(hmms, graph, scores.copy())
    assert first.log_likelihood == second.log_likelihood
    for name in ("rows", "pdfs", "weights", "stays"):
        assert np.array_equal(getattr(first, name), getattr(second, name))


# What the best path counts for


def test_the_occupancy_of_a_path_counts_frames_and_stays():
    hmms = naive_hmm.hmm_set((3, 1), shared=(0, 1, 0, 1))
    graph = compose(hmms, transcript_of("AB"))
    scores = log_likelihoods(hmms, np.random.default_rng(0).standard_normal((9, 2)))
    path = best_path(hmms, graph, scores)
    found = path_occupancy(hmms, graph, path)
    assert found.log_likelihood == path.score
    assert found.rows.tolist() == list(range(9)) and found.pdfs.tolist() == graph.pdfs[path.states].tolist()
    assert found.weights.tolist() == [1.0] * 9
    # Four states, each of them left once.
    assert found.stays.sum() == 9 - 4
    expected = np.zeros(2)
    for before, after in zip(path.states, path.states[1:], strict=False):
        expected[graph.pdfs[after]] += before == after
    assert found.stays.tolist() == expected.tolist()


def test_frames_whose_state_is_clear_have_posteriors_of_the_best_path():
    hmms, graph, scores = utterance("BACBCAAB", 3, n_features=8, spread=40.0)
    found, path = occupancy(hmms, graph, scores), best_path(hmms, graph, scores)
    table = posteriors(found, *scores.shape)
    np.testing.assert_allclose(table[np.arange(len(scores)), graph.pdfs[path.states]], 1.0, atol=1e-4)


# What cannot be aligned


def test_an_utterance_that_is_too_short_says_what_it_needs():
    hmms, scores = made((1, 2, 3), None, 4)
    graph = compose(hmms, transcript_of("CB"))
    for function in (occupancy, best_path):
        with pytest.raises(AlignmentError, match="has 4 frames, and what it should say needs 5 at least"):
            function(hmms, graph, scores)


def test_frames_unlike_anything_have_no_path():
    hmms = naive_hmm.hmm_set((1, 2))
    frames = np.random.default_rng(0).standard_normal((6, 2))
    frames[3] = 1e25
    graph, scores = compose(hmms, transcript_of("AB")), log_likelihoods(hmms, frames)
    for function in (occupancy, best_path):
        with pytest.raises(AlignmentError, match="so unlike what the transcript says that no path"):
            function(hmms, graph, scores)


@pytest.mark.parametrize("far", [1e3, 1e6, 1e9])
def test_frames_far_out_still_have_a_path(far):
    # Scores near -1e12 have four digits after the point in float64, enough for posteriors; those near -1e18 have none.
    hmms = naive_hmm.hmm_set((1, 2))
    frames = np.random.default_rng(0).standard_normal((6, 2))
    frames[3] = far
    graph, scores = compose(hmms, transcript_of("AB")), log_likelihoods(hmms, frames)
    found, path = occupancy(hmms, graph, scores), best_path(hmms, graph, scores)
    assert found.log_likelihood == pytest.approx(naive_hmm.forward(hmms, graph, scores)[1], rel=1e-12)
    assert path.score == pytest.approx(naive_hmm.viterbi(hmms, graph, scores)[0], rel=1e-12)
    assert np.isfinite(found.weights).all() and np.isfinite(found.stays).all()
    if far < 1e9:
        np.testing.assert_allclose(np.bincount(found.rows, found.weights, 6), 1.0, atol=0.01)


@pytest.mark.parametrize("shape", [(4, 3), (4,), (4, 2, 1)])
def test_frames_of_other_shapes_are_refused(shape):
    with pytest.raises(InputError, match=r"`frames` is of shape .*; the HMMs need \(n_frames, 2\)"):
        log_likelihoods(HMMS, np.zeros(shape))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(value):
    # Compiled passes would make something of them, because they assume that there are none.
    frames = np.zeros((4, 2), np.float32)
    frames[2, 1] = value
    with pytest.raises(InputError, match=rf"`frames` has the value {value} at frame 2, feature 1"):
        log_likelihoods(HMMS, frames)


# hmmlearn


HMMLEARN_CASES = {
    "left to right": transcript_of("BAC"),
    "optional silence": (SILENCE, Step((("B",),)), SILENCE, Step((("C",),)), SILENCE),
    "alternatives": (Step((("B", "A"), ("C",))), Step((("A",), ("B",), ()))),
}


@pytest.mark.parametrize("transcript", HMMLEARN_CASES.values(), ids=HMMLEARN_CASES)
@pytest.mark.parametrize("n_components", [1, 3])
def test_hmmlearn_agrees(transcript, n_components):
    pytest.importorskip("hmmlearn")
    hmms = naive_hmm.hmm_set((1, 2, 3), 4, n_components)
    frames, _ = naive_hmm.sampled(hmms, "BACAB", np.random.default_rng(2))
    graph = compose(hmms, transcript)
    model = naive_hmm.as_hmmlearn(hmms, graph)
    scores = log_likelihoods(hmms, frames)
    found, path = occupancy(hmms, graph, scores, np.inf), best_path(hmms, graph, scores, np.inf)
    # Emissions in float32: 1e-4 nats a frame.
    near = 1e-4 * len(frames)
    with np.errstate(divide="ignore"):
        total, gammas = model.score_samples(naive_hmm.ended(frames))
        best, states = model.decode(naive_hmm.ended(frames), algorithm="viterbi")
    assert found.log_likelihood == pytest.approx(total - naive_hmm.of_the_end(2), abs=near)
    assert path.score == pytest.approx(best - naive_hmm.of_the_end(2), abs=near)
    assert path.states.tolist() == states[:-1].tolist()
    expected = np.zeros(scores.shape)
    for state, pdf in enumerate(graph.pdfs):
        expected[:, pdf] += gammas[:-1, state]
    np.testing.assert_allclose(posteriors(found, *scores.shape), expected, atol=1e-4)
