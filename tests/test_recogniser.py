"""phones.recogniser and its training: recognition and alignment in seconds, same bits, and what people get wrong."""

from dataclasses import replace

import numpy as np
import pytest

from speechgmm.errors import InputError
from speechgmm.features.config import FeatureConfig
from speechgmm.manifest import Segment, Utterance
from speechgmm.metrics.sequences import error_counts
from speechgmm.phones.front_end import FrontEnd
from speechgmm.phones.graph import Step, transcript_of
from speechgmm.phones.hmm_training import HmmSettings
from speechgmm.phones.labels import filled
from speechgmm.phones.language_model import train_ngrams
from speechgmm.phones.lexicon import Lexicon
from speechgmm.phones.network import LoopWeights
from speechgmm.phones.passes import AlignmentError
from speechgmm.phones.recogniser import PhoneRecogniser
from speechgmm.phones.recogniser_training import (
    PHONE_FEATURES,
    Material,
    RecogniserSettings,
    train_on_material,
    train_recogniser,
)
from speechgmm.phones.transcripts import Said, word_steps
from speechgmm.phones.transforms import LinearTransform
from speechgmm.training_frames import checked_frames
from tests import naive_hmm
from tests.test_recognition import LEXICON, make_speech

# One Gaussian a state and few passes: quick, and enough for made frames.
QUICK = HmmSettings(1, start_iterations=3)
SMALL = RecogniserSettings(
    n_states=2, silence="A", silence_states=1, order=2, context=0, language_model_weight=1.0, insertion=0.0
)


def said_by(hmms, n_utterances, n_units, seed=0):
    """Strings of units, none twice in a row, that begin and end with silence; and their frames."""
    rng = np.random.default_rng(seed)
    strings = []
    for _ in range(n_utterances):
        string = ["A"]
        while len(string) < n_units:
            string.append(str(rng.choice([unit for unit in hmms.units if unit != string[-1]])))
        strings.append(string if string[-1] == "A" else [*string, "A"])
    return strings, [naive_hmm.sampled(hmms, string, rng)[0].astype(np.float32) for string in strings]


def made(spread=6.0, seed=1, lengths=(1, 2, 2, 2), n_features=4, **weights):
    """A recogniser of known HMMs, and a language model of what they say."""
    hmms = naive_hmm.hmm_set(lengths, seed, n_features=n_features, spread=spread)
    strings, _ = said_by(hmms, 40, 12, seed)
    return PhoneRecogniser(
        features=FeatureConfig(n_coefficients=n_features, delta_orders=0),
        front_end=FrontEnd(),
        hmms=hmms,
        language_model=train_ngrams(strings, 2, vocabulary=hmms.units),
        weights=LoopWeights(**weights),
        silence="A",
    )


def material_of(strings, frames):
    utterances = [Utterance(f"u{number:03d}", f"u{number:03d}.wav") for number in range(len(strings))]
    return Material(utterances, checked_frames(frames), [Said(transcript_of(own), None) for own in strings])


def error_rate(recogniser, strings, frames):
    """Of all phones, silence too."""
    found = [[one.label for one in recogniser.recognise(own).phones] for own in frames]
    return error_counts(strings, found).rate


# Recognition


def test_known_hmms_find_what_they_said():
    recogniser = made()
    strings, frames = said_by(recogniser.hmms, 10, 10, seed=5)
    assert error_rate(recogniser, strings, frames) == 0.0


def test_phones_follow_one_another_from_the_beginning_to_the_end():
    recogniser = replace(made(), features=FeatureConfig(n_coefficients=4, delta_orders=0, framing="inside"))
    (string,), (frames,) = said_by(recogniser.hmms, 1, 10)
    found = recogniser.recognise(frames)
    edge = recogniser.features.edge_time
    ends = [one.end for one in found.phones]
    assert [one.start for one in found.phones] == [0.0, *ends[:-1]]
    assert ends[-1] == edge(len(frames)) and set(ends) <= {edge(frame) for frame in range(len(frames) + 1)}
    assert [one.label for one in found.phones] == string and found.confidences is None


def test_confidences_are_of_each_phone_and_change_nothing_else():
    recogniser = made(spread=2.0, language_model=3.0)
    _, (frames,) = said_by(recogniser.hmms, 1, 10)
    plain, sure = recogniser.recognise(frames), recogniser.recognise(frames, confidence=True)
    assert (sure.phones, sure.score) == (plain.phones, plain.score)
    assert len(sure.confidences) == len(sure.phones) and all(0 <= value <= 1 for value in sure.confidences)


def test_other_weights_are_those_of_another_recogniser():
    recogniser = made(spread=1.0)
    _, (frames,) = said_by(recogniser.hmms, 1, 40)
    numbers = [
        len(recogniser.with_weights(LoopWeights(1.0, insertion)).recognise(frames).phones)
        for insertion in (-20.0, 0.0, 20.0)
    ]
    assert numbers[0] < numbers[1] < numbers[2]
    assert recogniser.weights == LoopWeights()
    assert recogniser.phones == ("A", "B", "C", "D")


def test_the_front_end_is_applied_to_what_is_recognised_and_aligned():
    plain = made()
    rng = np.random.default_rng(0)
    matrix, offset = rng.standard_normal((4, 4)), rng.standard_normal(4)
    turned = replace(plain, front_end=FrontEnd(4, 0, LinearTransform(matrix, offset)))
    (string,), (frames,) = said_by(plain.hmms, 1, 10)
    before = ((frames - offset) @ np.linalg.inv(matrix).T).astype(np.float32)
    # float32 on both sides of the transform.
    assert turned.recognise(before).phones == plain.recognise(frames).phones
    assert turned.recognise(before).score == pytest.approx(plain.recognise(frames).score, abs=0.01)
    assert (
        turned.align(before, transcript_of(string)).phones
        == plain.align(frames, transcript_of(string)).phones
    )


# Alignment


def test_an_alignment_has_phones_and_words_in_seconds():
    recogniser = made()
    edge = recogniser.features.edge_time
    lexicon = Lexicon({"dab": (("D", "B"), ("D", "C", "B")), "bad": (("B", "D"),)})
    rng = np.random.default_rng(3)
    pieces = [naive_hmm.sampled(recogniser.hmms, unit, rng)[0] for unit in "ADCBBD"]
    frames = np.concatenate(pieces).astype(np.float32)
    edges = [edge(int(frame)) for frame in np.cumsum([0, *map(len, pieces)])]
    found = recogniser.align(frames, word_steps(["dab", "bad"], lexicon, "A"))
    assert found.phones == tuple(map(Segment, edges[:-1], edges[1:], "ADCBBD"))
    assert found.words == (Segment(edges[1], edges[4], "dab"), Segment(edges[4], edges[6], "bad"))
    assert len(found.phone_log_likelihoods) == 6
    # Of frames and path together, per frame: less than that of the frames alone.
    own = np.average(found.phone_log_likelihoods, weights=list(map(len, pieces)))
    assert own - 1.5 < found.log_likelihood < own
    assert recogniser.align(frames, transcript_of("ADCBBD")).words == ()


def test_a_word_that_is_said_twice_is_two_words():
    recogniser = made()
    lexicon = Lexicon({"bad": (("B", "D"),)})
    frames = naive_hmm.sampled(recogniser.hmms, "BDBDABD", np.random.default_rng(0))[0]
    found = recogniser.align(frames, word_steps(["bad"] * 3, lexicon, "A"))
    assert [one.label for one in found.words] == ["bad"] * 3
    assert found.words[0].end == found.words[1].start < found.words[1].end < found.words[2].start


def test_what_cannot_be_aligned_or_recognised():
    recogniser = made()
    with pytest.raises(AlignmentError, match="has 3 frames, and what it should say needs 4 at least"):
        recogniser.align(np.zeros((3, 4)), transcript_of("BC"))
    with pytest.raises(InputError, match="there is no HMM of 'Z'"):
        recogniser.align(np.zeros((9, 4)), transcript_of("AZ"))
    with pytest.raises(InputError, match=r"place 1 of a transcript .* has nothing that may stand there"):
        recogniser.align(np.zeros((9, 4)), [Step(())])
    with pytest.raises(AlignmentError, match="no unit fits into the 0 frames"):
        recogniser.recognise(np.zeros((0, 4)))
    with pytest.raises(InputError, match="`frames` has the value nan at frame 1, feature 2"):
        recogniser.recognise(np.where(np.arange(12).reshape(3, 4) == 6, np.nan, 0.0))


@pytest.mark.parametrize("front_end", [FrontEnd(), FrontEnd(4, 0, LinearTransform.identity(4))])
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        # A front end that takes the first values of each frame would not mind more of them.
        ((9, 5), "frames have 5 values; the recogniser needs 4, as its `features` make them"),
        ((9, 3), "frames have 3 values; the recogniser needs 4"),
        ((9,), "`frames` has 1 dimensions; it must have 2"),
    ],
)
def test_frames_of_other_features_are_refused(front_end, shape, message):
    recogniser = replace(made(), front_end=front_end)
    with pytest.raises(InputError, match=message):
        recogniser.recognise(np.zeros(shape))
    with pytest.raises(InputError, match=message):
        recogniser.align(np.zeros(shape), transcript_of("A"))


# What does not fit together


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"features": FeatureConfig(n_coefficients=4, delta_orders=0, speech_activity="energy")},
            "phones need every frame in its place; switch `speech_activity` off",
        ),
        ({"features": FeatureConfig()}, "the front end gives 60 values a frame; the HMMs need 4"),
        (
            {"front_end": FrontEnd(4, 0, LinearTransform(np.eye(4)[:3], np.zeros(3)))},
            "the front end gives 3 values a frame; the HMMs need 4",
        ),
        (
            {"front_end": FrontEnd(5, 0, LinearTransform(np.eye(5)[:4], np.zeros(4)))},
            "frames have 4 values; the front end joins 5 of each",
        ),
        (
            {"language_model": train_ngrams([["A", "B", "C"]], vocabulary=("A", "B", "C"))},
            "the language model and the HMMs must be of the same phones",
        ),
        (
            {"language_model": train_ngrams([["A", "B", "C", "D", "E"]])},
            "the language model and the HMMs must be of the same phones",
        ),
        ({"silence": "SIL"}, "there is no HMM of the silence phone 'SIL'"),
    ],
)
def test_parts_that_do_not_fit_together(changes, message):
    with pytest.raises(InputError, match=message):
        replace(made(), **changes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_states": 0}, "recogniser setting `n_states` is 0; it must be a whole number from 1"),
        ({"n_states": 3.0}, r"recogniser setting `n_states` is 3\.0; it must be a whole number from 1"),
        ({"silence_states": True}, "recogniser setting `silence_states` is True; it must be a whole number"),
        ({"order": 0}, "recogniser setting `order` is 0"),
        ({"context": -1}, "recogniser setting `context` is -1; it must be a whole number from 0"),
        ({"n_dimensions": "40"}, "recogniser setting `n_dimensions` is '40'"),
        ({"semi_tied": -1}, "recogniser setting `semi_tied` is -1"),
        ({"smoothing": "good_turing"}, "`smoothing` is 'good_turing'; it can be witten_bell, kneser_ney"),
        ({"silence": ""}, "recogniser setting `silence` is ''; it must be the name of a phone"),
        ({"silence": "sil pau"}, "recogniser setting `silence` is 'sil pau'"),
        ({"silence": "sil\t"}, r"recogniser setting `silence` is 'sil\\t'"),
        ({"silence": None}, "recogniser setting `silence` is None"),
        ({"language_model_weight": -1.0}, r"weight of the language model is -1\.0 .* the first not negative"),
        ({"language_model_weight": "6"}, "weight of the language model is '6'"),
        ({"insertion": float("nan")}, "that of insertions nan; they must be finite"),
        ({"insertion": None}, "that of insertions None"),
        ({"states": 3}, "unknown recogniser setting 'states'; known are n_states, silence, "),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(InputError, match=message):
        RecogniserSettings.from_dict(settings)


@pytest.mark.parametrize("beam", ["x", None, True, 0, -1.0, float("nan")])
def test_a_beam_that_cannot_be(beam):
    with pytest.raises(InputError, match=r"HMM setting `beam` is .*; it must be more than 0 nats"):
        HmmSettings(beam=beam)


# Training


def test_a_recogniser_is_trained_from_strings_alone():
    known = made(spread=5.0)
    strings, frames = said_by(known.hmms, 40, 10, seed=2)
    training = train_on_material(
        material_of(strings, frames), known.features, SMALL, HmmSettings(1, start_iterations=12)
    )
    recogniser = training.recogniser
    assert training.problems == ()
    assert [one.n_components for one in training.history] == [7] * 12
    assert recogniser.phones == ("A", "B", "C", "D")
    assert [len(own) for own in recogniser.hmms.states] == [1, 2, 2, 2]
    test = said_by(known.hmms, 20, 10, seed=9)
    # The true HMMs make hardly an error; those that were found make few more.
    assert error_rate(known, *test) < 0.01
    assert error_rate(recogniser, *test) < 0.03


def test_the_record_says_how_it_was_made_and_can_be_written(tmp_path):
    known = made()
    material = material_of(*said_by(known.hmms, 8, 8))
    hmm = replace(QUICK, beam=float("inf"), seed=3)
    recogniser = train_on_material(material, known.features, SMALL, hmm).recogniser
    assert recogniser.record["settings"]["order"] == 2
    assert (
        recogniser.record["hmm"] | {"seed": 3, "beam": "inf", "n_components": 1} == recogniser.record["hmm"]
    )
    assert recogniser.record["utterances"] == 8
    recogniser.save(tmp_path / "file")
    assert PhoneRecogniser.load(tmp_path / "file").record == recogniser.record


def test_utterances_that_cannot_be_aligned_are_listed_and_are_no_part_of_the_language_model():
    known = made()
    strings, frames = said_by(known.hmms, 10, 8)
    strings[3] = ["D"] * 300
    training = train_on_material(material_of(strings, frames), known.features, SMALL, QUICK)
    (problem,) = training.problems
    assert problem.utterance == "u003" and "what it should say needs 600 at least" in problem.message
    assert training.recogniser.record["utterances"] == 9
    again = training.recogniser.language_model.log_probabilities(["D"])
    without = train_ngrams(strings[:3] + strings[4:], 2, SMALL.smoothing, known.hmms.units)
    np.testing.assert_array_equal(again, without.log_probabilities(["D"]))


def test_the_language_model_is_of_the_pronunciations_and_silences_that_were_said():
    known = made()
    lexicon = Lexicon({"dab": (("D", "B"), ("D", "C", "B"))})
    rng = np.random.default_rng(0)
    spoken = ["ADBA", "ADCBA", "ADBADBA", "ADCBDB"] * 6
    frames = [naive_hmm.sampled(known.hmms, own, rng)[0] for own in spoken]
    said = [Said(word_steps(["dab"] * own.count("D"), lexicon, "A"), None) for own in spoken]
    utterances = [Utterance(f"u{number}", "a.wav") for number in range(len(spoken))]
    training = train_on_material(
        Material(utterances, checked_frames(frames), said),
        known.features,
        SMALL,
        HmmSettings(1, start_iterations=8),
    )
    found = [
        "".join(one.label for one in training.recogniser.align(own, steps.steps).phones)
        for own, steps in zip(frames, said, strict=True)
    ]
    model = train_ngrams([list(own) for own in found], 2, SMALL.smoothing, ("A", "B", "C", "D"))
    np.testing.assert_array_equal(training.recogniser.language_model.table(), model.table())


def test_segments_without_silence_make_a_recogniser_all_the_same():
    known = made()
    rng = np.random.default_rng(0)
    strings = [list(own) for own in ("BCD", "DCBD", "BDCB", "CDBC") * 5]
    frames = [naive_hmm.sampled(known.hmms, own, rng)[0] for own in strings]
    recogniser = train_on_material(
        material_of(strings, frames),
        known.features,
        replace(SMALL, silence="SIL"),
        HmmSettings(1, start_iterations=8),
    ).recogniser
    assert recogniser.phones == ("B", "C", "D", "SIL")
    assert np.isfinite(recogniser.language_model.table()).all()
    assert error_rate(recogniser, strings, frames) < 0.05


@pytest.mark.parametrize(
    ("strings", "settings", "message"),
    [
        (["A", "B C"], SMALL, "phone 'B C' of the vocabulary must be text without blanks"),
        (["A", "<s>"], SMALL, "the vocabulary has '<s>', which language models use themselves"),
        (["A", "B"], replace(SMALL, order=20), "`order` is 20: a table of all contexts of 2 phones"),
    ],
)
def test_what_no_language_model_can_be_of_shows_before_training(strings, settings, message):
    told = []
    material = material_of([strings] * 3, [np.zeros((9, 4))] * 3)
    features = FeatureConfig(n_coefficients=4, delta_orders=0)
    with pytest.raises(InputError, match=message):
        train_on_material(material, features, settings, QUICK, progress=lambda *done: told.append(done))
    assert told == []


def test_more_dimensions_than_classes_give():
    known = made()
    material = material_of(*said_by(known.hmms, 8, 8))
    told = []
    with pytest.raises(
        InputError, match=r"`n_dimensions` is 40; \d+ states of phones and \d+ values a frame give"
    ):
        train_on_material(
            material,
            known.features,
            replace(SMALL, context=1, n_dimensions=40),
            QUICK,
            progress=lambda *done: told.append(done),
        )
    assert told == []


# From audio


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    return make_speech(tmp_path_factory.mktemp("speech"))


JOINED = RecogniserSettings(n_states=2, silence_states=2, order=2, context=1, n_dimensions=8, semi_tied=1)


def test_the_same_bits_for_any_number_of_workers(speech, tmp_path):
    hmm = HmmSettings(2, start_iterations=2, iterations=2, last_iterations=2)
    told = []
    for n_jobs in (1, 2):
        training = train_recogniser(
            speech[:6], settings=JOINED, hmm=hmm, n_jobs=n_jobs, progress=lambda stage, *_: told.append(stage)
        )
        training.recogniser.save(tmp_path / str(n_jobs))
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    assert "training" in told
    recogniser = training.recogniser
    assert recogniser.features == FeatureConfig(sample_rate=8000, **PHONE_FEATURES)
    assert (recogniser.front_end.n_joined, recogniser.front_end.context) == (13, 1)
    assert recogniser.hmms.n_features == 8


def test_settings_of_features_come_beside_those_of_phones(speech):
    settings = replace(JOINED, context=0)
    found = train_recogniser(speech[:2], features={"n_filters": 20}, settings=settings, hmm=QUICK).recogniser
    assert found.features == FeatureConfig(sample_rate=8000, n_filters=20, **PHONE_FEATURES)
    whole = FeatureConfig(sample_rate=8000, n_coefficients=5, delta_orders=1)
    assert (
        train_recogniser(speech[:2], features=whole, settings=settings, hmm=QUICK).recogniser.features
        == whole
    )
    with pytest.raises(InputError, match="phones need every frame in its place"):
        train_recogniser(speech[:2], features={"speech_activity": "energy"}, settings=settings, hmm=QUICK)


def test_what_is_missing_shows_before_any_audio_is_read(speech):
    gone = [
        replace(one, audio=one.audio.with_name("gone.wav"), segments={}, labels={"text": text})
        for one, text in zip(speech, ("ma mo", "no"), strict=False)
    ]
    with pytest.raises(InputError, match=r"2 of 3 words are not in the lexicon(?s:.)*'mo'(?s:.)*'no'"):
        train_recogniser(gone, lexicon=LEXICON)
    with pytest.raises(InputError, match="u00: has text alone; a lexicon is needed"):
        train_recogniser(gone)
    with pytest.raises(InputError, match="2 utterances have neither phones nor text: 'u00', 'u01'"):
        train_recogniser([replace(one, labels={}) for one in gone], lexicon=LEXICON)


def test_gaps_between_labels_are_silence(speech):
    settings = replace(JOINED, context=0)
    gaps = [
        replace(one, segments={"phones": [own for own in one.segments["phones"] if own.label != "SIL"]})
        for one in speech[:2]
    ]
    whole = [
        replace(one, segments={"phones": filled(one.segments["phones"], one.duration or 0.0, least=0.05)})
        for one in gaps
    ]
    assert any(own.label == "SIL" for own in whole[0].segments["phones"])
    found, expected = (train_recogniser(own, settings=settings, hmm=QUICK) for own in (gaps, whole))
    assert found.history == expected.history


def test_bad_files_are_listed_and_no_good_one_is_an_error(speech, tmp_path):
    (tmp_path / "text.wav").write_text("this is not audio")
    bad = replace(speech[0], id="bad", audio=tmp_path / "text.wav")
    settings = replace(JOINED, context=0)
    training = train_recogniser([bad, *speech[:2]], settings=settings, hmm=QUICK)
    assert [one.utterance for one in training.problems] == ["bad"]
    assert training.recogniser.record["utterances"] == 2
    with pytest.raises(InputError, match="cannot be read as audio"):
        train_recogniser([bad], settings=settings, hmm=QUICK)
