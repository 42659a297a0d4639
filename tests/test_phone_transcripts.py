"""phones.transcripts, phones.alignment and the times of frames: what may be said, and when it is said."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechgmm.errors import InputError
from speechgmm.features.config import FeatureConfig
from speechgmm.manifest import Segment, Utterance
from speechgmm.phones.alignment import align_frames
from speechgmm.phones.graph import Step, transcript_of
from speechgmm.phones.lexicon import Lexicon
from speechgmm.phones.passes import AlignmentError
from speechgmm.phones.transcripts import transcripts_of, word_steps
from tests import naive_hmm

# Of "A" to "D"; "A" is silence. One word has two pronunciations, one of them the beginning of the other.
LEXICON = Lexicon({"dab": (("D", "B"),), "cab": (("C", "B"), ("C", "B", "D")), "see": (("C",),)})
PERHAPS = Step(((), ("A",)))


def timed(string, start=0.0, seconds=0.1):
    edges = start + seconds * np.arange(len(string) + 1)
    return tuple(map(Segment, edges[:-1].tolist(), edges[1:].tolist(), string))


def utterance(name="u", string="", **labels):
    return Utterance(name, f"{name}.wav", labels=labels, segments={"phones": timed(string)})


# What may be said


def test_words_in_any_pronunciation_with_silence_or_not():
    assert word_steps(["cab", "See"], LEXICON, "A") == (
        PERHAPS,
        Step((("C", "B"), ("C", "B", "D")), "cab"),
        PERHAPS,
        Step((("C",),), "See"),
        PERHAPS,
    )
    assert word_steps([], LEXICON, "A") == (PERHAPS,)


def test_all_words_that_are_missing_are_named():
    with pytest.raises(InputError, match=r"2 of 3 words are not in the lexicon(?s:.)*'bed'(?s:.)*'dad'"):
        word_steps(["dad", "dab", "bed"], LEXICON, "A")


def test_segments_come_first_then_the_string_of_phones_then_the_text():
    everything = {"phones": "D  C", "text": "See"}
    found = transcripts_of(
        [
            utterance("a", "ABA", **everything),
            utterance("b", **everything),
            utterance("c", text="Cab, SEE!"),
        ],
        "A",
        LEXICON,
    )
    assert [one.steps for one in found] == [
        transcript_of("ABA"),
        transcript_of("DC"),
        word_steps(["cab", "see"], LEXICON, "A"),
    ]
    assert [one.times for one in found] == [None] * 3


def test_segments_have_times_where_the_features_are_known():
    given = [utterance("a", "AB"), utterance("b", phones="A B")]
    for framing, frames in (("centred", ((0, 10), (10, 20))), ("inside", ((0, 9), (9, 19)))):
        # A window of 20 ms lies inside from 10 ms on.
        features = FeatureConfig(framing=framing, window_length=0.02)
        assert [one.times for one in transcripts_of(given, "A", features=features)] == [frames, None]


def test_a_text_without_words_is_silence():
    (found,) = transcripts_of([utterance(text="...")], "A", LEXICON)
    assert found.steps == (PERHAPS,)
    hmms = naive_hmm.hmm_set((2, 1))
    aligned = align_frames(hmms, np.zeros((5, 2)), found.steps)
    assert [one[:3] for one in aligned.units] == [("A", 0, 5)]


def test_what_is_not_known_is_named():
    silent = [utterance(f"u{number}", speaker="ann") for number in range(3)]
    with pytest.raises(
        InputError,
        match=r"2 utterances have neither phones nor text: 'u1', 'u2'; segments of a tier 'phones', a label",
    ):
        transcripts_of([utterance("a", "AB"), *silent[1:]], "A", LEXICON)
    with pytest.raises(InputError, match="u: has text alone; a lexicon is needed to make phones of it"):
        transcripts_of([utterance("a", "AB"), utterance(text="see")], "A")
    with pytest.raises(InputError, match="utterance 'u' has no phones"):
        transcripts_of([utterance(phones="  ")], "A")


def test_words_of_all_utterances_that_are_missing_are_named_together():
    given = [utterance("a", text="see dad"), utterance("b", text="bed dad"), utterance("c", "A", text="doc")]
    with pytest.raises(
        InputError,
        match=r"2 of 3 words are not in the lexicon(?s:.)*'dad' \(2 times\)(?s:.)*'bed' \(once\)",
    ) as error:
        transcripts_of(given, "A", LEXICON)
    assert "doc" not in str(error.value)


# When it is said


def spoken(hmms, units, seed):
    """Frames of units, and the edges between them."""
    rng = np.random.default_rng(seed)
    pieces = [naive_hmm.sampled(hmms, unit, rng)[0] for unit in units]
    return np.concatenate(pieces), np.cumsum([0, *map(len, pieces)]).tolist()


@pytest.mark.parametrize("seed", range(4))
def test_the_alignment_is_the_best_of_all_paths(seed):
    hmms = naive_hmm.hmm_set((1, 2, 1, 2), seed)
    frames = 2 * np.random.default_rng(seed).standard_normal((9, 2))
    steps = word_steps(["cab", "see"], LEXICON, "A")
    found = align_frames(hmms, frames, steps, np.inf)
    scores = naive_hmm.emissions(hmms, frames)
    *_, best = naive_hmm.enumerated(hmms, steps, scores)
    # Densities are float32.
    assert found.log_likelihood == pytest.approx(best.score, abs=1e-4)
    units = [one.unit for one in found.units for _ in range(one.first, one.stop)]
    places = [one.step for one in found.units for _ in range(one.first, one.stop)]
    assert places == [place for place, *_ in best.states]
    assert units == [steps[place].alternatives[way][unit] for place, way, unit, *_ in best.states]
    own = [scores[frame, pdf] for frame, pdf in enumerate(best.pdfs)]
    for one in found.units:
        assert one.log_likelihood == pytest.approx(np.mean(own[one.first : one.stop]), abs=1e-4)


@pytest.mark.parametrize(
    "said", ["CBC", "CBDC", "ACBC", "CBAC", "CBDCA", "ACBDACA"], ids=lambda said: f"said {said}"
)
@pytest.mark.parametrize("seed", range(3))
def test_the_pronunciation_and_the_silences_are_found(said, seed):
    # Gaussians some eight deviations apart leave no doubt about any frame.
    hmms = naive_hmm.hmm_set((2, 1, 2, 1), 1, n_features=4, spread=10.0)
    frames, edges = spoken(hmms, said, seed)
    steps = word_steps(["cab", "see"], LEXICON, "A")
    found = align_frames(hmms, frames, steps)
    assert "".join(one.unit for one in found.units) == said
    assert [one.first for one in found.units] == edges[:-1]
    assert [one.stop for one in found.units] == edges[1:]
    words = [steps[one.step].word for one in found.units if steps[one.step].word]
    assert words == ["cab"] * (len(said.replace("A", "")) - 1) + ["see"]


def test_a_unit_that_is_said_twice_is_two():
    hmms = naive_hmm.hmm_set((2, 1), 1, spread=10.0)
    frames, edges = spoken(hmms, "AAB", 0)
    found = align_frames(hmms, frames, transcript_of("AAB"))
    assert [(one.unit, one.first, one.step) for one in found.units] == [
        ("A", edges[0], 0),
        ("A", edges[1], 1),
        ("B", edges[2], 2),
    ]


def test_what_cannot_be_aligned():
    hmms = naive_hmm.hmm_set((2, 1))
    with pytest.raises(AlignmentError, match="has 2 frames, and what it should say needs 3 at least"):
        align_frames(hmms, np.zeros((2, 2)), transcript_of("AB"))
    with pytest.raises(InputError, match="there is no HMM of 'Z'"):
        align_frames(hmms, np.zeros((9, 2)), transcript_of("AZ"))
    with pytest.raises(InputError, match="the transcript is empty"):
        align_frames(hmms, np.zeros((9, 2)), ())
    with pytest.raises(InputError, match=r"`frames` is of shape \(9, 3\); the HMMs need \(n_frames, 2\)"):
        align_frames(hmms, np.zeros((9, 3)), transcript_of("AB"))


# Frames and times

CONFIGS = st.builds(
    lambda rate, hop, window, framing: FeatureConfig(
        sample_rate=rate,
        hop_length=hop,
        window_length=window,
        framing=framing,
        low_frequency=0.0,
        n_filters=20,
    ),
    st.sampled_from([8000, 11025, 16000, 22050, 44100]),
    st.sampled_from([0.01, 0.005, 0.0125, 0.016]),
    st.sampled_from([0.025, 0.0256, 0.02, 0.032]),
    st.sampled_from(["centred", "inside"]),
)


@given(CONFIGS, st.lists(st.integers(0, 10**5), min_size=2, max_size=5, unique=True))
def test_stretches_of_frames_come_back_from_their_times(config, frames):
    first, *others = sorted(frames)
    for stop in others:
        assert config.frame_range(config.edge_time(first), config.edge_time(stop)) == (first, stop)
        first = stop


@given(CONFIGS, st.floats(0.05, 1000))
def test_times_come_back_from_their_frames_to_half_a_hop(config, time):
    first, _ = config.frame_range(time, time + 1.0)
    hop = config.hop_samples / config.sample_rate
    # A millionth of a hop is what `frame_range` takes for rounding.
    assert abs(config.edge_time(first) - time) <= hop * (0.5 + 2e-6)


def test_edges_lie_between_the_middles_of_windows():
    centred, inside = FeatureConfig(), FeatureConfig(framing="inside")
    assert [centred.edge_time(frame) for frame in (0, 1, 2)] == pytest.approx([0.0, 0.005, 0.015])
    # Windows of 25 ms that begin at 0 and 10 ms: their middles are at 12.5 and 22.5 ms.
    assert [inside.edge_time(frame) for frame in (0, 1, 2)] == pytest.approx([0.0, 0.0175, 0.0275])
    edges = [config.edge_time(frame) for config in (centred, inside) for frame in range(5)]
    assert edges[:5] == sorted(set(edges[:5])) and edges[5:] == sorted(set(edges[5:]))
