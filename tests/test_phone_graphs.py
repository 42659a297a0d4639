"""phones.hmm and phones.graph: sets of HMMs, and what may be said in an utterance as a graph of their states."""

import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechgmm.em.mixture import Mixture
from speechgmm.errors import InputError
from speechgmm.phones.first_paths import first_paths, timed_path
from speechgmm.phones.graph import Occurrence, Step, compose, transcript_of
from speechgmm.phones.hmm import HmmSet, left_to_right
from speechgmm.phones.occupied_frames import Aligned
from speechgmm.phones.passes import AlignmentError, even_path
from tests import naive_hmm

HMMS = naive_hmm.hmm_set((1, 2, 3))
SILENCE = Step(((), ("A",)))


def ways(graph):
    """Every string of states through a graph, with the probability of taking it when states are left."""
    n_states = len(graph.pdfs)
    following = [[] for _ in range(n_states)]
    for target in range(n_states):
        for arc in range(graph.starts[target], graph.starts[target + 1]):
            following[graph.sources[arc]].append((target, math.exp(graph.branches[arc])))

    def onward(state):
        if math.isfinite(graph.exits[state]):
            yield (state,), math.exp(graph.exits[state])
        for target, probability in following[state]:
            for rest, own in onward(target):
                yield (state, *rest), probability * own

    for state in range(n_states):
        if math.isfinite(graph.entries[state]):
            for way, probability in onward(state):
                yield way, math.exp(graph.entries[state]) * probability


def described(graph):
    """For every way, what it says (place, state's mixture) and how probable it is, sorted."""
    found = []
    for way, probability in ways(graph):
        said = tuple((graph.occurrences[graph.owners[s]].step, int(graph.pdfs[s])) for s in way)
        found.append((said, round(probability, 12)))
    return sorted(found)


def expected(hmms, transcript):
    """The same from the transcript itself."""
    found = []
    for weight, states in naive_hmm.readings(hmms, transcript):
        if states:
            found.append((tuple((place, pdf) for place, *_, pdf in states), round(math.exp(weight), 12)))
    return sorted(found)


def check_sound(graph):
    """What passes rely on: states in order, probabilities that sum to 1, and every arc from a lower state."""
    n_states = len(graph.pdfs)
    assert graph.starts[0] == 0 and graph.starts[-1] == len(graph.sources) == len(graph.branches)
    leaving = np.where(np.isfinite(graph.exits), np.exp(graph.exits), 0.0)
    for target in range(n_states):
        sources = graph.sources[graph.starts[target] : graph.starts[target + 1]].tolist()
        assert sources == sorted(set(sources)) and all(source < target for source in sources)
        assert sources or np.isfinite(graph.entries[target])
    np.add.at(leaving, graph.sources, np.exp(graph.branches))
    np.testing.assert_allclose(leaving, 1.0, atol=1e-12)
    assert (np.diff(graph.owners) >= 0).all() and graph.owners[-1] == len(graph.occurrences) - 1


# Graphs


def test_units_in_a_row():
    graph = compose(HMMS, transcript_of("CAB"))
    assert graph.pdfs.tolist() == [3, 4, 5, 0, 1, 2]
    assert graph.owners.tolist() == [0, 0, 0, 1, 2, 2]
    assert graph.sources.tolist() == [0, 1, 2, 3, 4] and graph.starts.tolist() == [0, 0, 1, 2, 3, 4, 5]
    assert graph.branches.tolist() == [0.0] * 5
    assert graph.entries.tolist() == [0.0] + [-np.inf] * 5
    assert graph.exits.tolist() == [-np.inf] * 5 + [0.0]
    assert graph.occurrences == (Occurrence("C", 0), Occurrence("A", 1), Occurrence("B", 2))
    assert graph.least_frames == 6


TRANSCRIPTS = {
    "silence at both ends": (SILENCE, Step((("B",),)), SILENCE),
    "silence between words": (Step((("B",),)), SILENCE, SILENCE, Step((("C",),))),
    "pronunciations": (Step((("B", "C"), ("A",), ("C", "A", "B")), "word"), Step((("A",), ("B",)))),
    "a place that may be skipped between alternatives": (
        Step((("A",), ("B",))),
        Step(((), ("A",), ("C", "B"))),
        Step((("B",), ("A",))),
    ),
    "nothing but silence": (SILENCE, SILENCE),
    "an alternative given twice counts once": (Step((("A",), ("B",), ("A",))),),
    "nothing at a place": (Step((("A",),)), Step(((),)), Step((("B",),))),
    "alternatives that begin alike": (Step((("A", "B"), ("A", "C"), ("A",))),),
}


@pytest.mark.parametrize("transcript", TRANSCRIPTS.values(), ids=TRANSCRIPTS)
def test_graphs_hold_every_way_to_say_a_transcript(transcript):
    graph = compose(HMMS, transcript)
    check_sound(graph)
    found = described(graph)
    assert found == expected(HMMS, transcript)
    assert graph.least_frames == min(len(said) for said, _ in found)
    assert len(even_path(graph, 50).states) == 50


steps = st.lists(
    st.lists(st.lists(st.sampled_from("ABC"), max_size=2).map(tuple), min_size=1, max_size=3).map(
        lambda alternatives: Step(tuple(alternatives))
    ),
    min_size=1,
    max_size=4,
)


@settings(deadline=None)
@given(steps)
def test_any_transcript(transcript):
    if all(step.alternatives == ((),) * len(step.alternatives) for step in transcript):
        with pytest.raises(InputError, match="the transcript is empty"):
            compose(HMMS, transcript)
        return
    graph = compose(HMMS, transcript)
    check_sound(graph)
    assert described(graph) == expected(HMMS, transcript)
    lengths = [len(way) for way, _ in ways(graph)]
    assert graph.least_frames == min(lengths)
    shortest = even_path(graph, min(lengths)).states
    assert tuple(shortest) in {way for way, _ in ways(graph)}


def test_occurrences_say_which_place_they_stand_at():
    graph = compose(HMMS, (SILENCE, Step((("B", "C"), ("C",)), "word"), SILENCE))
    assert [tuple(one) for one in graph.occurrences] == [("A", 0), ("B", 1), ("C", 1), ("C", 1), ("A", 2)]
    assert graph.owners.tolist() == [0, 1, 1, 2, 2, 2, 3, 3, 3, 4]


def test_long_transcripts_compose_in_time_that_grows_with_their_length():
    # 3000 places with optional silence between: arcs grow with the places, not with their square.
    transcript = [step for _ in range(3000) for step in (Step((("B",), ("C",))), SILENCE)]
    graph = compose(HMMS, transcript)
    assert len(graph.sources) < 15 * 3000
    assert graph.least_frames == 6000


@pytest.mark.parametrize(
    ("transcript", "message"),
    [
        ((), "the transcript is empty"),
        ((Step(((),)), Step(((),))), "the transcript is empty"),
        (transcript_of(["A", "Z"]), r"there is no HMM of 'Z'; there are 'A', 'B', 'C'"),
        (
            (Step((("A",),)), Step((), "word")),
            r"place 2 of a transcript \('word'\) has nothing that may stand",
        ),
    ],
)
def test_what_cannot_be_composed(transcript, message):
    with pytest.raises(InputError, match=message):
        compose(HMMS, transcript)


# First paths


def test_even_paths_take_the_shortest_way():
    graph = compose(HMMS, (SILENCE, Step((("C", "C"), ("B",), ("A", "A"))), SILENCE))
    # Two states are the fewest: those of "B", which stands before "A", "A".
    path = even_path(graph, 7)
    assert graph.pdfs[path.states].tolist() == [1, 1, 1, 1, 2, 2, 2]


def test_an_utterance_shorter_than_its_shortest_way_has_no_even_path():
    graph = compose(HMMS, (SILENCE, Step((("C",), ("B", "B")))))
    assert graph.least_frames == 3
    with pytest.raises(AlignmentError, match="the utterance has 2 frames, and what it should say needs 3"):
        even_path(graph, 2)


def test_times_divide_the_frames_of_every_unit():
    graph = compose(HMMS, transcript_of("CAB"))
    path = timed_path(graph, [(0, 7), (7, 8), (8, 12)], 12)
    assert path.states.tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 4, 4, 5, 5]


def test_times_that_leave_gaps_or_end_early_cover_all_frames():
    # What lies before a unit and after the last belongs to the nearest: every frame has a state.
    graph = compose(HMMS, transcript_of("AB"))
    assert timed_path(graph, [(1, 3), (4, 5)], 7).states.tolist() == [0, 0, 0, 1, 1, 2, 2]


def test_a_unit_with_fewer_frames_than_states_skips_some():
    graph = compose(HMMS, transcript_of("CAC"))
    path = timed_path(graph, [(0, 2), (2, 2), (2, 5)], 5)
    assert path.states.tolist() == [0, 1, 4, 5, 6]


@pytest.mark.parametrize(
    ("times", "n_frames", "message"),
    [
        ([(0, 3)], 5, "there are times of 1 units, and 2 in the transcript"),
        ([(0, 9), (9, 12)], 5, "the times of its units are not in order, or reach beyond its frames"),
        ([(0, -1), (2, 5)], 5, "not in order"),
    ],
)
def test_times_that_fit_nothing(times, n_frames, message):
    with pytest.raises(AlignmentError, match=message):
        timed_path(compose(HMMS, transcript_of("AB")), times, n_frames)


def test_first_paths_go_past_utterances_that_have_none():
    graph = compose(HMMS, transcript_of("AB"))
    utterances = [Aligned(np.zeros((n, 2)), graph) for n in (3, 2, 6)]
    flat = first_paths(utterances)
    assert [isinstance(one, AlignmentError) for one in flat] == [False, True, False]
    timed = first_paths(utterances, [[(0, 1), (1, 3)], None, [(0, 1)]])
    assert timed[0].states.tolist() == [0, 1, 2]
    assert [isinstance(one, AlignmentError) for one in timed] == [False, True, True]


# Sets of HMMs


def test_a_set_knows_its_units():
    assert HMMS.states_of("B") == (1, 2)
    assert HMMS.n_features == 2 and HMMS.n_components == 6
    np.testing.assert_allclose(np.exp(HMMS.log_stays) + np.exp(HMMS.log_leaves), 1.0)
    with pytest.raises(InputError, match=r"there is no HMM of 'Q'; there are 'A', 'B', 'C'"):
        HMMS.states_of("Q")


def test_flat_hmms_have_states_of_their_own():
    mixture = Mixture(np.ones(1), np.zeros((1, 2)), np.ones((1, 2)))
    flat = left_to_right({"sil": 1, "a": 3}, mixture, stay=0.6)
    assert flat.units == ("sil", "a") and flat.states == ((0,), (1, 2, 3))
    assert flat.stays.tolist() == [0.6] * 4 and all(one is mixture for one in flat.mixtures)


def test_a_set_can_be_pickled_and_cannot_be_changed():
    copy = pickle.loads(pickle.dumps(HMMS))
    assert copy.units == HMMS.units and copy.mixtures == HMMS.mixtures
    assert np.array_equal(copy.stays, HMMS.stays)
    with pytest.raises(ValueError, match="read-only"):
        HMMS.stays[0] = 0.5
    stays = np.full(6, 0.5)
    made = HMMS.with_mixtures(HMMS.mixtures, stays)
    stays[0] = 0.9
    assert made.stays[0] == 0.5 and HMMS.stays[0] != 0.5


ONE = Mixture(np.ones(1), np.zeros((1, 2)), np.ones((1, 2)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((), (), (ONE,), [0.5]), "must be one or more distinct names"),
        ((("A", "A"), ((0,), (0,)), (ONE,), [0.5]), "distinct names"),
        ((("A", ""), ((0,), (0,)), (ONE,), [0.5]), "distinct names"),
        ((("A",), ((0,), (0,)), (ONE,), [0.5]), "each unit of HMMs needs one state or more"),
        ((("A",), ((),), (ONE,), [0.5]), "each unit of HMMs needs one state or more"),
        ((("A",), ((0, 1),), (ONE,), [0.5]), "states of HMMs name mixtures 0 to 1; there are 1"),
        ((("A",), ((-1,),), (ONE,), [0.5]), "name mixtures -1 to -1"),
        (
            (("A",), ((0,),), (ONE,), [0.5, 0.5]),
            "one probability of staying, between 0 and 1, for each mixture",
        ),
        ((("A",), ((0,),), (ONE,), [1.0]), "between 0 and 1"),
        ((("A",), ((0,),), (ONE,), [0.0]), "between 0 and 1"),
        ((("A",), ((0,),), (ONE,), [math.nan]), "between 0 and 1"),
        (
            (("A",), ((0,),), (ONE, Mixture(np.ones(1), np.zeros((1, 3)), np.ones((1, 3)))), [0.5, 0.5]),
            "must have the same number of features",
        ),
    ],
)
def test_what_is_no_set_of_hmms(arguments, message):
    with pytest.raises(InputError, match=message):
        HmmSet(*arguments)
