"""speechgmm.phones.recognition: many utterances recognised, aligned and compared with what was said."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile

from speechgmm.errors import InputError
from speechgmm.features.extract import FeatureExtractor
from speechgmm.manifest import Segment, Utterance
from speechgmm.metrics.sequences import ErrorCounts
from speechgmm.phones.hmm_training import HmmSettings
from speechgmm.phones.label_files import read_labels, write_labels
from speechgmm.phones.lexicon import Lexicon
from speechgmm.phones.phone_sets import phone_map
from speechgmm.phones.recogniser_training import RecogniserSettings, train_recogniser
from speechgmm.phones.recognition import align_utterances, evaluate_recognition, recognise_utterances
from speechgmm.phones.speaker_adaptation import adapted_to

RATE = 8000
# Frequencies (Hz) of made phones, so far apart that hardly any is mistaken.
PITCHES = {"AA": (300, 700), "IY": (500, 2300), "M": (150, 250), "S": (2900, 3600)}
WORDS = {"ma": "M AA", "see": "S IY", "me": "M IY", "saw": "S AA"}
LEXICON = Lexicon({word: (tuple(phones.split()),) for word, phones in WORDS.items()})
N_UTTERANCES = 12


def sound(phone, seconds, rng):
    time = np.arange(round(seconds * RATE)) / RATE
    partials = sum(np.sin(2 * np.pi * (pitch * time + rng.random())) for pitch in PITCHES.get(phone, ()))
    return 0.1 * partials + rng.normal(0, 0.003, time.size)


def speak(path, words, seed):
    """Write words to a file, silence before and after; its utterance, with segments."""
    rng = np.random.default_rng(seed)
    phones = ["SIL", *(phone for word in words for phone in WORDS[word].split()), "SIL"]
    # Whole hops and a half: where stretches of frames centred on multiples of a hop begin.
    lengths = 0.01 * rng.integers(8, 16, len(phones))
    edges = np.concatenate([[0.0], np.cumsum(lengths) - 0.005]).round(6).tolist()
    path.parent.mkdir(parents=True, exist_ok=True)
    pieces = [
        sound(phone, end - start, rng)
        for start, end, phone in zip(edges[:-1], edges[1:], phones, strict=True)
    ]
    soundfile.write(path, np.concatenate(pieces).astype(np.float32), RATE)
    segments = tuple(Segment(*one) for one in zip(edges[:-1], edges[1:], phones, strict=True))
    labels = {"text": " ".join(words), "speaker": "ann" if seed % 2 else "bob"}
    return Utterance(path.stem, path, labels=labels, segments={"phones": segments})


def make_speech(folder):
    rng = np.random.default_rng(0)
    return [
        speak(folder / f"u{number:02d}.wav", [str(w) for w in rng.choice(sorted(WORDS), 4)], number)
        for number in range(N_UTTERANCES)
    ]


def train_small(utterances):
    settings = RecogniserSettings(context=0, order=2, smoothing="witten_bell", language_model_weight=1.0)
    return train_recogniser(utterances, settings=settings, hmm=HmmSettings(n_components=2)).recogniser


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("speech")


@pytest.fixture(scope="module")
def speech(folder):
    return make_speech(folder)


@pytest.fixture(scope="module")
def recogniser(speech):
    return train_small(speech[:8])


@pytest.fixture(scope="module")
def bad(folder):
    """Utterances that nothing can be made of: a text, and one too short for a phone."""
    (folder / "text.wav").write_text("this is not audio")
    soundfile.write(folder / "short.wav", np.random.default_rng(0).normal(0, 0.1, 80), RATE)
    return [Utterance(name, folder / f"{name}.wav", labels={"speaker": "eve"}) for name in ("text", "short")]


def strings(run):
    return [[segment.label for segment in one.phones] for one in run.recognitions]


# Recognition


def test_phones_are_found_and_one_bad_utterance_stops_no_other(recogniser, speech, bad):
    run = recognise_utterances(recogniser, [speech[9], *bad, speech[10]])
    assert [one.id for one in run.utterances] == ["u09", "u10"]
    assert strings(run) == [[segment.label for segment in one.segments["phones"]] for one in run.utterances]
    assert [problem.utterance for problem in run.problems] == ["text", "short"]
    assert "cannot be read as audio" in run.problems[0].message
    assert "no unit fits into the 2 frames" in run.problems[1].message


def test_recognition_is_that_of_the_recogniser_up_to_the_end_of_the_audio(recogniser, speech):
    run = recognise_utterances(recogniser, speech[9:10])
    (frames,) = FeatureExtractor(recogniser.features).extract(speech[9:10]).frames
    alone = recogniser.recognise(frames)
    (found,) = run.recognitions
    assert found.score == alone.score and found.confidences is None
    assert found.phones[:-1] == alone.phones[:-1]
    duration = soundfile.info(speech[9].audio).duration
    assert found.phones[-1] == Segment(alone.phones[-1].start, duration, "SIL")
    assert run.labels == {"u09": {"phones": found.phones}}


def test_the_same_for_any_number_of_workers(recogniser, speech, bad):
    one, two = (
        recognise_utterances(recogniser, [*speech, *bad], adapt_by="speaker", confidence=True, n_jobs=n)
        for n in (1, 2)
    )
    assert (one.recognitions, one.problems) == (two.recognitions, two.problems)
    one, two = (align_utterances(recogniser, speech, LEXICON, n_jobs=n) for n in (1, 2))
    assert (one.alignments, one.utterances) == (two.alignments, two.utterances)


def test_confidences_are_probabilities_of_each_phone(recogniser, speech):
    (found,) = recognise_utterances(recogniser, speech[9:10], confidence=True).recognitions
    assert len(found.confidences) == len(found.phones)
    assert all(0 < value <= 1 for value in found.confidences)


def test_adaptation_is_to_all_utterances_of_a_speaker(recogniser, speech, bad):
    run = recognise_utterances(recogniser, [*speech, *bad], adapt_by="speaker")
    own = [one for one in speech if one.labels["speaker"] == "ann"]
    frames = FeatureExtractor(recogniser.features).extract(own).frames
    adapted = adapted_to(recogniser, frames)
    scores = {one.id: found.score for one, found in zip(run.utterances, run.recognitions, strict=True)}
    plain = [found.score for found in recognise_utterances(recogniser, own).recognitions]
    assert [scores[one.id] for one in own] == [adapted.recognise(one).score for one in frames] != plain
    # Nothing of eve's can be adapted to, which is no reason to stop.
    assert [problem.utterance for problem in run.problems] == ["text", "short"]


def test_all_utterances_without_the_label_to_adapt_to_are_named(recogniser, speech):
    with pytest.raises(
        InputError, match="12 of 12 utterances have no label 'room' to adapt to: 'u00', 'u01'"
    ):
        recognise_utterances(recogniser, speech, adapt_by="room")


def test_ids_must_differ(recogniser, speech):
    with pytest.raises(InputError, match="utterance ids occur twice"):
        recognise_utterances(recogniser, [speech[0], speech[0]])
    with pytest.raises(InputError, match="utterance ids occur twice"):
        align_utterances(recogniser, [speech[0], speech[0]])


def test_nothing_but_problems_is_no_error(recogniser, bad):
    run = recognise_utterances(recogniser, bad)
    assert (run.utterances, run.recognitions, len(run.problems)) == ((), (), 2)


def test_times_of_a_part_of_a_file_count_from_its_own_start(recogniser, speech):
    whole = speech[9]
    (all_of_it,) = align_utterances(recogniser, [whole]).alignments
    phones = whole.segments["phones"]
    # Not a multiple of a hop, so that the first frame lies later than the start.
    start, end = phones[1].start + 0.002, phones[-2].end
    part = replace(whole, start=start, end=end, segments={"phones": [
        Segment(max(0.0, one.start - start), one.end - start, one.label) for one in phones[1:-1]
    ]})  # fmt: skip
    (found,) = align_utterances(recogniser, [part]).alignments
    assert (found.phones[0].start, found.phones[-1].end) == (0.0, pytest.approx(end - start, abs=1e-9))
    # The inner boundaries are the same moments of the file, to a frame: normalisation sees other frames.
    inner = [one.end + start for one in found.phones[:-1]]
    assert inner == pytest.approx([one.end for one in all_of_it.phones[1:-2]], abs=0.0101)
    # And on the grid of the file's frames.
    assert [round(1000 * one) % 10 for one in inner] == [5] * len(inner)


# Alignment


def test_alignment_by_words_finds_both_tiers(recogniser, speech):
    run = align_utterances(recogniser, speech[8:], LEXICON)
    assert run.problems == ()
    for one, reference in zip(run.utterances, speech[8:], strict=True):
        true = reference.segments["phones"]
        assert [s.label for s in one.segments["phones"]] == [s.label for s in true]
        assert [s.label for s in one.segments["words"]] == reference.labels["text"].split()
        # Pure tones: boundaries to two frames.
        ends = [s.end for s in one.segments["phones"]]
        assert ends == pytest.approx([s.end for s in true], abs=0.0201)
        edges = {edge for s in one.segments["phones"] for edge in (s.start, s.end)}
        assert all(s.start in edges and s.end in edges for s in one.segments["words"])
        assert ends[-1] == soundfile.info(one.audio).duration


def test_alignment_by_phones_takes_no_times_and_leaves_no_old_words(recogniser, speech):
    old = replace(
        speech[9],
        segments={**speech[9].segments, "words": [Segment(0, 0.5, "other")], "notes": [Segment(0, 0.1, "x")]},
    )
    spoken = " ".join(segment.label for segment in old.segments["phones"])
    as_label = replace(old, segments={}, labels={"phones": spoken})
    one, two = (align_utterances(recogniser, [given]) for given in (old, as_label))
    assert one.alignments == two.alignments
    assert sorted(one.utterances[0].segments) == ["notes", "phones"]
    assert one.labels["u09"] == {"phones": one.alignments[0].phones, "words": ()}


def test_words_come_before_phones_where_there_is_a_lexicon(recogniser, speech):
    wrong = replace(speech[9], labels={**speech[9].labels, "phones": "S"})
    run = align_utterances(recogniser, [wrong], LEXICON)
    assert run.alignments == align_utterances(recogniser, [speech[9]], LEXICON).alignments


def test_missing_words_are_all_named_before_any_audio_is_read(recogniser, speech):
    gone = [replace(one, audio=one.audio.with_name("gone.wav")) for one in speech[:3]]
    strange = [
        replace(one, labels={"text": text}, segments={})
        for one, text in zip(gone, ("ma mo", "no", "mo"), strict=True)
    ]
    with pytest.raises(
        InputError, match=r"2 of 3 words are not in the lexicon(?s:.)*'mo' \(2 times\)(?s:.)*'no' \(once\)"
    ):
        align_utterances(recogniser, strange, LEXICON)
    with pytest.raises(InputError, match="u00: has text alone; a lexicon is needed"):
        align_utterances(recogniser, strange)


def test_pronunciations_with_phones_that_training_never_had_are_left_out(recogniser, speech):
    more = LEXICON.extended({"see": "ZH IY", "ma": ["M", "OY"]})
    plain = align_utterances(recogniser, speech[8:], LEXICON)
    assert align_utterances(recogniser, speech[8:], more).alignments == plain.alignments


def test_words_that_training_never_had_the_phones_of_are_all_named_before_any_audio_is_read(
    recogniser, speech
):
    gone = [replace(one, audio=one.audio.with_name("gone.wav")) for one in speech[:3]]
    strange = [
        replace(one, labels={"text": text}, segments={})
        for one, text in zip(gone, ("toy ma", "ma zhe toy", "see"), strict=True)
    ]
    more = LEXICON.extended({"toy": "T OY", "zhe": "ZH IY"}).extended({"zhe": "ZH AA"})
    with pytest.raises(
        InputError,
        match=r"^2 of 4 words cannot be said without phones that were never heard in training: 'OY', 'T', 'ZH'; "
        r"train on (?s:.)*\(`extended`(?s:.)*:\n  'toy': T OY\n  'zhe': ZH IY or ZH AA$",
    ):
        align_utterances(recogniser, strange, more)


def test_a_long_list_of_such_words_is_cut_in_the_message(recogniser, speech):
    words = [f"toy{number:02d}" for number in range(60)]
    given = replace(speech[0], labels={"text": " ".join(words)}, segments={})
    with pytest.raises(InputError, match=r"^60 of 60 words(?s:.)*\n  'toy49': T OY\n  and 10 more$"):
        align_utterances(recogniser, [given], LEXICON.extended(dict.fromkeys(words, "T OY")))


def test_utterances_that_cannot_be_aligned_stop_no_other(recogniser, speech, bad):
    silent = [replace(one, labels={"text": "see"}) for one in bad]
    strange = replace(speech[8], segments={}, labels={"phones": "SIL ZH SIL"})
    run = align_utterances(recogniser, [*silent, strange, speech[9]], LEXICON)
    assert [one.id for one in run.utterances] == ["u09"]
    assert [problem.utterance for problem in run.problems] == ["text", "short", "u08"]
    assert "has 2 frames, and what it should say needs" in run.problems[1].message
    assert "there is no HMM of 'ZH'" in run.problems[2].message


@pytest.mark.parametrize("form", ["tsv", "timit", "textgrid"])
def test_label_files_hold_an_alignment(recogniser, speech, tmp_path, form):
    if form == "textgrid":
        pytest.importorskip("praatio")
    run = align_utterances(recogniser, speech[8:], LEXICON)
    place = tmp_path / ("a.tsv" if form == "tsv" else "labels")
    write_labels(run.labels, place, form, sample_rate=RATE if form == "timit" else None)
    read = read_labels(place, form, sample_rate=RATE if form == "timit" else None)
    for one in run.utterances:
        assert [s.label for s in read[one.id]["words"]] == [s.label for s in one.segments["words"]]
        ends = [s.end for s in read[one.id]["phones"]]
        # TIMIT's form holds samples.
        assert ends == pytest.approx([s.end for s in one.segments["phones"]], abs=0.5 / RATE)


# Figures


def utterance(name, phones, speaker=None, times=True):
    segments = {"phones": timed(phones)} if times else {}
    labels = {} if times else {"phones": phones}
    return Utterance(name, name, labels=labels | ({"speaker": speaker} if speaker else {}), segments=segments)


def timed(phones, late=0.0):
    return [
        Segment(0.1 * i + late * (i > 0), 0.1 * (i + 1) + late, phone)
        for i, phone in enumerate(phones.split())
    ]


def test_silences_that_become_one_are_one_in_strings_as_in_segments():
    segments = (Segment(0.0, 0.1, "h#"), Segment(0.1, 0.2, "pau"), Segment(0.2, 0.3, "aa"))
    string = Utterance("a", "a.wav", labels={"phones": "h# pau aa aa"})
    found = [(*segments, Segment(0.3, 0.4, "aa"))]
    result = evaluate_recognition([string], found, mapping=phone_map("timit61", "timit39"))
    assert result.counts_with_silence == ErrorCounts(3, 3)


def test_errors_are_counted_with_silence_and_without():
    references = [utterance("a", "SIL K AE T SIL", "ann"), utterance("b", "D AO G", "bob")]
    found = evaluate_recognition(references, [timed("SIL K AH T S"), timed("SIL D G")])
    # Without silence: AH for AE, S inserted; AO deleted. With it: AH, S for SIL; SIL for D, D for AO or such.
    counts, whole = found.counts, found.counts_with_silence
    assert (counts.n_reference, counts.substitutions, counts.deletions, counts.insertions) == (6, 1, 1, 1)
    assert (whole.n_reference, whole.errors) == (8, 4)
    assert {name: own.errors for name, own in found.groups.items()} == {"ann": 2, "bob": 1}
    assert set(found.confusions) == {("AE", "AH", 1), ("AO", None, 1), (None, "S", 1)}
    assert (found.interval.rate, found.interval.resampled) == (0.5, "utterances")
    figures = found.to_dict()
    assert (figures["per"], figures["per_with_silence"]) == (0.5, 0.5)
    assert figures["groups"]["bob"]["deletions"] == 1


def test_intervals_are_by_speaker_where_there_are_enough_of_them():
    references = [utterance(f"u{i}", "K AE T", f"s{i // 2}") for i in range(20)]
    hypotheses = [timed("K AE T" if i % 3 else "K AE") for i in range(20)]
    found = evaluate_recognition(references, hypotheses)
    assert (found.interval.resampled, found.interval.n_resampled) == ("speakers", 10)
    assert found.counts.rate == pytest.approx(7 / 60)
    assert found.interval.low < 7 / 60 < found.interval.high
    assert evaluate_recognition(references, hypotheses, group="room").interval.resampled == "utterances"
    assert evaluate_recognition(references, hypotheses, group="room").groups == {}


def test_boundaries_are_those_of_references_with_times():
    references = [utterance("a", "K AE T"), utterance("b", "D AO G", times=False)]
    hypotheses = [timed("K AE T", 0.015), timed("D AO G", 1.0)]
    found = evaluate_recognition(references, hypotheses)
    assert found.counts.errors == 0
    assert found.boundaries.n_reference == 4
    # The first start is right, the three ends are 15 ms late.
    assert found.boundaries.shares == (0.25, 1.0, 1.0)
    assert found.boundaries.mean_deviation == pytest.approx(0.015 * 3 / 4)
    assert found.to_dict()["boundary_20ms"] == 1.0
    moved = evaluate_recognition(references, hypotheses, shift=-0.015).boundaries
    assert moved.shares == (1.0, 1.0, 1.0)
    assert moved.mean_deviation == pytest.approx(0, abs=1e-12)
    assert "boundary_20ms" not in evaluate_recognition(references[1:], hypotheses[1:]).to_dict()


def test_phones_of_both_sides_are_folded():
    mapping = phone_map("timit61", "timit39")
    references = [utterance("a", "h# kcl k ae q tcl t"), utterance("b", "h# ix axr", times=False)]
    hypotheses = [timed("h# k ae t"), timed("pau ih er")]
    found = evaluate_recognition(references, hypotheses, {"sil"}, mapping=mapping)
    assert (found.counts.errors, found.counts.n_reference) == (0, 5)
    with pytest.raises(InputError, match="unknown phones 'K'"):
        evaluate_recognition([utterance("a", "K")], [timed("k")], mapping=mapping)


@pytest.mark.parametrize(
    ("references", "hypotheses", "message"),
    [
        (["K"], [], "1 references and 0 hypotheses were given"),
        ([], [], "0 references and 0 hypotheses were given"),
        (["SIL"], ["K"], "the references hold no label"),
    ],
)
def test_what_cannot_be_compared_is_refused(references, hypotheses, message):
    given = [utterance(f"u{i}", phones) for i, phones in enumerate(references)]
    with pytest.raises(InputError, match=message):
        evaluate_recognition(given, [timed(one) for one in hypotheses])


def test_a_reference_without_phones_is_refused():
    with pytest.raises(InputError, match="utterance 'a' has no phones"):
        evaluate_recognition([Utterance("a", "a")], [timed("K")])
