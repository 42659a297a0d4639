"""`speechgmm phones`, `align`, and `inspect` of a phone recogniser."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechgmm.manifest import read_manifest, write_manifest
from speechgmm.phones import recogniser_training
from speechgmm.phones.label_files import read_labels, write_labels
from speechgmm.phones.lexicon import write_lexicon
from speechgmm.phones.recogniser import PhoneRecogniser
from speechgmm.phones.recognition import align_utterances, recognise_utterances
from tests.cli_tools import done, make_world, plain, run, run_on_terminal, strict_json, without_warnings
from tests.test_recognition import LEXICON, RATE, make_speech

CONFIG = """
[features]
n_filters = 20
[recogniser]
context = 0
order = 2
smoothing = "witten_bell"
language_model_weight = 2
[hmm]
n_components = 2
"""
TEXTGRID = "File type"


@dataclass(frozen=True)
class Speech:
    """A corpus with its manifests, settings and lexicon, and a recogniser."""

    folder: Path

    @property
    def manifest(self):
        return self.folder / "all.jsonl"

    @property
    def text(self):
        """The same with text alone."""
        return self.folder / "text.jsonl"

    @property
    def labels(self):
        return self.folder / "labels.tsv"

    @property
    def config(self):
        return self.folder / "c.toml"

    @property
    def lexicon(self):
        return self.folder / "words.dict"

    @property
    def model(self):
        return self.folder / "p.model"

    def audio(self, number):
        return self.folder / "audio" / f"u{number:02d}.wav"


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    speech = Speech(tmp_path_factory.mktemp("phones"))
    utterances = make_speech(speech.folder / "audio")
    sides = ["train"] * 7 + ["dev"] * 2 + ["test"] * 3
    utterances = [replace(one, split=side) for one, side in zip(utterances, sides, strict=True)]
    write_manifest(utterances, speech.manifest)
    write_manifest([replace(one, segments={}) for one in utterances], speech.text)
    write_labels({one.id: one.segments for one in utterances}, speech.labels, "tsv")
    speech.config.write_text(CONFIG)
    write_lexicon(LEXICON, speech.lexicon)
    done(
        "phones", "train", speech.manifest, "-o", speech.model, "--split", "train", "--config", speech.config
    )
    return speech


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def bad(speech, tmp_path):
    """A folder with one good file, a text under an audio name, and audio too short for a phone."""
    folder = tmp_path / "some audio"
    folder.mkdir()
    shutil.copy(speech.audio(9), folder / "good.wav")
    (folder / "text.wav").write_text("this is not audio")
    soundfile.write(folder / "short.wav", np.random.default_rng(0).normal(0, 0.1, 80), RATE)
    return folder


def refused(result, *messages):
    """One error, nothing else."""
    line, *more = without_warnings(result.err)
    assert line.startswith("speechgmm: ")
    assert all(one.startswith("  ") for one in more)  # lists of what is missing
    for message in messages:
        assert message in result.err
    assert (result.code, result.out) == (2, "")


def phones_of(number, speech):
    return [one.label for one in read_manifest(speech.manifest)[number].segments["phones"]]


# train


def test_train_says_what_it_made(speech, tmp_path):
    result = done(
        "phones", "train", speech.manifest, "-o", tmp_path / "new" / "p", "--split", "train", "--config", speech.config,
        "-j", 1,
    )  # fmt: skip
    loaded = PhoneRecogniser.load(speech.model)
    assert (tmp_path / "new" / "p").read_bytes() == speech.model.read_bytes()
    assert "Gaussians" in result.lines[1] and "log-likelihood a frame" in result.lines[1]
    total = loaded.hmms.n_components
    assert result.lines[-1] == (
        f"{tmp_path / 'new' / 'p'}: 5 phones, 15 states, {total} Gaussians, from 7 utterances"
    )
    assert loaded.phones == ("AA", "IY", "M", "S", "SIL")
    assert (loaded.features.n_filters, loaded.features.sample_rate) == (20, RATE)
    assert loaded.weights.language_model == 2


def test_train_tunes_on_the_development_split_and_options_win(speech, tmp_path):
    options = ("--split", "train", "--dev-split", "dev", "-k", 1, "--seed", 3)
    result = done(
        "phones", "train", speech.manifest, "-o", tmp_path / "p", "--config", speech.config, *options
    )
    loaded = PhoneRecogniser.load(tmp_path / "p")
    assert (loaded.hmms.n_components, loaded.record["hmm"]["seed"]) == (15, 3)
    assert loaded.record["utterances"] == 7
    assert "tuned_on" in loaded.record and "tuned_on" not in PhoneRecogniser.load(speech.model).record
    per, weight = loaded.record["tuned_on"]["per"], loaded.weights.language_model
    n_phones = sum(phone != "SIL" for number in (7, 8) for phone in phones_of(number, speech))
    line = f"phone error rate {per:.2%} of {n_phones} phones to tune on, with a language model weight of {weight:g} "
    assert result.lines[-2].startswith(line)


def test_train_takes_labels_from_files_or_a_text_and_a_lexicon(speech, tmp_path):
    options = ("--split", "train", "--config", speech.config)
    done(
        "phones",
        "train",
        speech.text,
        "-o",
        tmp_path / "a",
        "--labels",
        speech.labels,
        "--form",
        "tsv",
        *options,
    )
    assert (tmp_path / "a").read_bytes() == speech.model.read_bytes()
    words = ("--lexicon", speech.lexicon, "--dev-split", "dev")
    done("phones", "train", speech.text, "-o", tmp_path / "b", *words, *options)
    done("phones", "train", speech.manifest, "-o", tmp_path / "c", "--flat", *options)
    for path in (tmp_path / "b", tmp_path / "c"):
        result = done("phones", "evaluate", path, speech.manifest, "--split", "test")
        # Four sounds far apart: even a flat start finds most of them.
        assert float(result.lines[-1].split()[3].rstrip("%,")) < 20
        assert path.read_bytes() != speech.model.read_bytes()


@pytest.mark.parametrize(
    ("manifest", "options", "messages"),
    [
        (
            "manifest",
            ("--dev-split", "dev"),
            ("beside 'dev' the manifest has the splits 'test', 'train'", "--split"),
        ),
        ("manifest", ("--dev-split", "dev", "--split", "dev"), ("--split and --dev-split are both 'dev'",)),
        ("manifest", ("--split", "all"), ("no utterance has split 'all'",)),
        ("manifest", ("--form", "ctm"), ("--form ctm is the form of --labels, which are not given",)),
        ("manifest", ("-k", "0"), ("HMM setting `n_components` is 0",)),
        (
            "text",
            (),
            ("u00: has text alone; a lexicon is needed", "or --lexicon pocketsphinx on the command line"),
        ),
        ("text", ("--lexicon", "nowhere.dict"), ("nowhere.dict: cannot be read",)),
    ],
)
def test_train_refuses(speech, tmp_path, manifest, options, messages):
    refused(run("phones", "train", getattr(speech, manifest), "-o", tmp_path / "p", *options), *messages)
    assert not (tmp_path / "p").exists()


def test_train_refuses_before_training_what_cannot_be_tuned_on(speech, tmp_path, monkeypatch):
    def never(*_args, **_options):
        raise AssertionError("trained")

    monkeypatch.setattr(recogniser_training, "train_recogniser", never)
    utterances = read_manifest(speech.manifest)
    for labels, message in (
        ({"phones": "SIL SIL"}, "the 2 utterances to tune on hold nothing but silence (SIL)"),
        ({"text": "see me"}, "has text alone; a lexicon is needed"),
        ({}, "2 utterances have neither phones nor text"),
    ):
        changed = [
            replace(one, segments={}, labels=labels) if one.split == "dev" else one for one in utterances
        ]
        write_manifest(changed, tmp_path / "m.jsonl", speech.folder)
        options = ("--split", "train", "--dev-split", "dev", "--data-dir", speech.folder)
        refused(run("phones", "train", tmp_path / "m.jsonl", "-o", tmp_path / "p", *options), message)
        assert not (tmp_path / "p").exists()


def test_train_warns_of_phones_that_tuning_cannot_find(speech, tmp_path):
    utterances = [
        replace(one, segments={}, labels={"phones": "SIL ZH AA"}) if one.split == "dev" else one
        for one in read_manifest(speech.manifest)
    ]
    write_manifest(utterances, tmp_path / "m.jsonl", speech.folder)
    options = ("--split", "train", "--dev-split", "dev", "--data-dir", speech.folder)
    result = run(
        "phones", "train", tmp_path / "m.jsonl", "-o", tmp_path / "p", *options, "--config", speech.config
    )
    assert result.code == 0
    assert "tuning: the recogniser does not know the phones 'ZH'" in result.err


def test_train_names_the_settings_file_and_what_is_wrong_in_it(speech, tmp_path):
    (tmp_path / "c.toml").write_text("[hmm]\nstates = 3\n")
    result = run("phones", "train", speech.manifest, "-o", tmp_path / "p", "--config", tmp_path / "c.toml")
    refused(result, f"speechgmm: {tmp_path / 'c.toml'}: unknown HMM setting 'states'")
    (tmp_path / "c.toml").write_text("[training]\n")
    result = run("phones", "train", speech.manifest, "-o", tmp_path / "p", "--config", tmp_path / "c.toml")
    refused(result, "has 'training'; there can be the tables [features], [recogniser] and [hmm]")


def test_train_names_all_words_that_the_lexicon_lacks(speech, tmp_path):
    (tmp_path / "few.dict").write_text("ma M AA\nsee S IY\n")
    result = run("phones", "train", speech.text, "-o", tmp_path / "p", "--lexicon", tmp_path / "few.dict")
    refused(result, "2 of 4 words are not in the lexicon", "another `--lexicon FILE`", "'me' (", "'saw' (")
    (tmp_path / "more.dict").write_text("me M IY\nsaw S AA\n")
    lexicons = ("--lexicon", tmp_path / "few.dict", "--lexicon", tmp_path / "more.dict")
    done("phones", "train", speech.text, "-o", tmp_path / "p", *lexicons, "--config", speech.config)


def test_train_names_words_to_tune_on_with_phones_that_training_lacks_before_the_work(speech, tmp_path):
    utterances = read_manifest(speech.text)[6:8]
    training, tuning = (
        replace(one, labels={"text": text}) for one, text in zip(utterances, ("ma", "see"), strict=True)
    )
    write_manifest([training, tuning], tmp_path / "m.jsonl", speech.folder)
    options = ("--data-dir", speech.folder, "--dev-split", "dev", "--lexicon", speech.lexicon)
    result = run("phones", "train", tmp_path / "m.jsonl", "-o", tmp_path / "p", *options)
    refused(result, "1 of 1 words cannot be said without phones that were never heard in training: 'IY', 'S'")
    assert not (tmp_path / "p").exists()


def test_train_lists_files_that_it_could_not_use(speech, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(speech.folder, folder)
    (folder / "audio" / "u03.wav").write_text("this is not audio")
    result = run("phones", "train", folder / "all.jsonl", "-o", tmp_path / "p", "--config", speech.config)
    assert (result.code, len(result.problems)) == (1, 1)
    assert "u03.wav: cannot be read as audio" in result.problems[0]
    assert result.lines[-1].endswith("from 11 utterances")


# recognise


def test_recognise_prints_a_table_of_labels(speech, tmp_path):
    result = done("phones", "recognise", speech.model, speech.audio(9), speech.audio(10))
    (tmp_path / "found.tsv").write_text(result.out)
    read = read_labels(tmp_path / "found.tsv")
    utterances = [replace(one, id=str(one.audio)) for one in read_manifest(speech.manifest)[9:11]]
    expected = recognise_utterances(PhoneRecogniser.load(speech.model), utterances).labels
    assert read == expected
    assert [one.label for one in read[str(speech.audio(9))]["phones"]] == phones_of(9, speech)


def test_recognise_says_how_sure_it_is(speech):
    result = done("phones", "recognise", speech.model, speech.audio(9), "--confidence")
    header, *rows = result.rows
    assert header == ["path", "start", "end", "phone", "confidence"]
    assert [row[3] for row in rows] == phones_of(9, speech)
    assert all(0 < float(row[4]) <= 1 for row in rows)
    result = done("phones", "recognise", speech.model, speech.audio(9), "-f", "jsonl")
    assert set(strict_json(result.lines[0])) == {"path", "start", "end", "phone"}


def test_recognise_takes_a_manifest_and_adapts_to_its_speakers(speech):
    options = ("--split", "test", "--adapt-by", "speaker")
    result = done("phones", "recognise", speech.model, speech.manifest, *options)
    assert {row[0] for row in result.rows[1:]} == {"u09", "u10", "u11"}
    refused(
        run("phones", "recognise", speech.model, speech.manifest, "--adapt-by", "room"),
        "12 of 12 utterances have no label 'room' to adapt to",
    )


@pytest.mark.parametrize(
    ("output", "options", "files"),
    [
        ("out", (), ["sub/x.TextGrid", "y.TextGrid"]),
        ("out", ("--form", "htk"), ["sub/x.lab", "y.lab"]),
        ("out", ("--form", "timit"), ["sub/x.phn", "y.phn"]),
        ("a.tsv", (), []),
        ("a.ctm", (), []),
        ("a.mlf", (), []),
        ("a.txt", ("--form", "ctm"), []),
    ],
)
def test_recognise_writes_label_files(speech, tmp_path, output, options, files):
    pytest.importorskip("praatio")
    (tmp_path / "in" / "sub").mkdir(parents=True)
    shutil.copy(speech.audio(9), tmp_path / "in" / "sub" / "x.wav")
    shutil.copy(speech.audio(10), tmp_path / "in" / "y.wav")
    place = tmp_path / output
    result = done("phones", "recognise", speech.model, tmp_path / "in", "-o", place, *options)
    form = options[1] if options else "auto"
    read = read_labels(place, form, sample_rate=RATE if form == "timit" else None)
    strings = [[one.label for one in read[name]["phones"]] for name in sorted(read)]
    assert strings == [phones_of(9, speech), phones_of(10, speech)]
    assert result.out == f"{place}: 2 utterances, {sum(map(len, strings))} phones\n"
    if place.is_dir():
        assert sorted(one.relative_to(place).as_posix() for one in place.rglob("*.*")) == files
        # The last phone ends with the audio: the files count the audio's own samples.
        duration = soundfile.info(speech.audio(9)).duration
        assert read["sub/x"]["phones"][-1].end == pytest.approx(duration, abs=1e-6)


def test_recognise_one_file_into_one_file(speech, tmp_path):
    pytest.importorskip("praatio")
    done("phones", "recognise", speech.model, speech.audio(9), "-o", tmp_path / "my.TextGrid")
    assert (tmp_path / "my.TextGrid").read_text().startswith(TEXTGRID)
    result = run("phones", "recognise", speech.model, speech.audio(9).parent, "-o", tmp_path / "all.TextGrid")
    refused(result, "all.TextGrid: such a file holds one utterance, and there are 12; name a folder")


def test_recognise_lists_what_it_could_not_use(speech, bad):
    result = run("phones", "recognise", speech.model, bad, bad / "gone.wav")
    assert {row[0] for row in result.rows[1:]} == {str(bad / "good.wav")}
    assert result.code == 1
    gone, text, short = result.problems
    assert "gone.wav: no such file or folder" in gone
    assert "text.wav: cannot be read as audio" in text
    assert "short.wav: no unit fits into the 2 frames" in short
    assert result.err.splitlines()[-1] == "3 problems; everything else is done"


def test_recognise_without_anything_to_use(speech, bad, tmp_path):
    (tmp_path / "empty").mkdir()
    for given, message in (
        (tmp_path / "empty", "holds no audio files"),
        (bad / "text.wav", "cannot be read as audio"),
    ):
        result = run("phones", "recognise", speech.model, given)
        assert (result.code, result.out) == (2, "")
        assert message in result.problems[0]
        assert result.err.splitlines()[-1] == "1 problem; no file can be used"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--form", "ctm"), "--form ctm needs --output"),
        (("-o", "a.ctm", "-f", "jsonl"), "--format is for what is printed"),
        (("-o", "a.ctm", "--confidence"), "--confidence is printed, and label files have no place for it"),
        (("--split", "test"), "u09.wav is audio, which takes no --split"),
        (
            ("-o", "a.ctm", "{bad}"),
            "the form ctm has blanks between columns; these names hold some: ",
        ),
        (("{manifest}",), "is a manifest; give it alone, or audio files and folders"),
    ],
)
def test_recognise_refuses(speech, bad, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    options = [one.format(bad=bad, manifest=speech.manifest) for one in options]
    refused(run("phones", "recognise", speech.model, speech.audio(9), *options), message)
    assert not (tmp_path / "a.ctm").exists()


def test_commands_for_other_models_name_those_for_recognisers(speech):
    refused(
        run("classify", speech.model, speech.audio(9), "--p-target", 0.5),
        "p.model: is a phone recogniser; use `speechgmm phones recognise`",
    )
    refused(
        run("evaluate", speech.model, speech.manifest, "--label", "speaker"),
        "p.model: is a phone recogniser; use `speechgmm phones evaluate`",
    )


def test_other_models_are_told_apart(world, speech, tmp_path):
    refused(
        run("phones", "recognise", world.model, speech.audio(9)),
        "is a model of `speechgmm train`; needed is a",
    )
    refused(
        run("phones", "recognise", tmp_path / "gone", speech.audio(9)), "there is no such recogniser file"
    )
    refused(run("phones", "recognise", speech.config, speech.audio(9)), "not a whole safetensors file")


# align


def test_align_one_file_with_its_text(speech, tmp_path):
    # One without a word twice in a row, which a table of labels may take for one.
    text = read_manifest(speech.manifest)[8].labels["text"]
    options = ("--text", text.upper(), "--lexicon", speech.lexicon)
    for command in (("align",), ("phones", "align")):
        result = done(*command, speech.model, speech.audio(8), *options)
        (tmp_path / "a.tsv").write_text(result.out)
        (tiers,) = read_labels(tmp_path / "a.tsv").values()
        (one,) = align_utterances(
            PhoneRecogniser.load(speech.model), [read_manifest(speech.text)[8]], LEXICON
        ).alignments
        assert (tiers["phones"], tiers["words"]) == (one.phones, one.words)
    rows = [
        strict_json(line)
        for line in done("align", speech.model, speech.audio(8), *options, "-f", "jsonl").lines
    ]
    assert [row["log_likelihood"] for row in rows] == list(one.phone_log_likelihoods)
    assert rows[0]["word"] is None


def test_align_takes_texts_beside_the_audio(speech, bad, tmp_path):
    pytest.importorskip("praatio")
    text = read_manifest(speech.manifest)[9].labels["text"]
    for name in ("good", "text"):
        (bad / f"{name}.txt").write_text(text.replace(" ", "\n"))
    result = run("align", speech.model, bad, "--lexicon", speech.lexicon, "-o", tmp_path / "out")
    assert result.code == 1
    assert ["what is said is not known" in one for one in result.problems] == [True, False]
    assert "short.txt: cannot be read" in result.problems[0]
    read = read_labels(tmp_path / "out")
    assert [one.label for one in read["good"]["words"]] == text.split()
    assert result.out == f"{tmp_path / 'out'}: 1 utterance, {len(read['good']['phones'])} phones\n"


def test_align_a_manifest_by_words_or_phones(speech, tmp_path):
    options = ("--lexicon", speech.lexicon, "--split", "test", "-o")
    result = done("align", speech.model, speech.text, *options, tmp_path / "words.ctm", "--tier", "words")
    assert result.out == f"{tmp_path / 'words.ctm'}: 3 utterances, 12 words\n"
    read = read_labels(tmp_path / "words.ctm", tier="words")
    for one in read_manifest(speech.manifest)[9:]:
        assert [segment.label for segment in read[one.id]["words"]] == one.labels["text"].split()
    done("align", speech.model, speech.manifest, "-o", tmp_path / "phones.ctm")
    assert len(read_labels(tmp_path / "phones.ctm")) == 12


def test_align_lists_what_cannot_be_what_its_text_says(speech, bad):
    long = " ".join(["ma"] * 200)
    result = run("align", speech.model, bad / "good.wav", "--text", long, "--lexicon", speech.lexicon)
    assert (result.code, result.out) == (2, "")
    assert "frames, and what it should say needs 1200 at least" in result.problems[0]
    lexicon = bad / "strange.dict"
    lexicon.write_text("ma ZH AA\n")
    result = run("align", speech.model, bad / "good.wav", "--text", "ma", "--lexicon", lexicon)
    refused(result, "never heard in training: 'ZH'", "another `--lexicon FILE`", "\n  'ma': ZH AA\n")


def test_align_takes_stress_off_for_a_recogniser_without(speech, tmp_path):
    (tmp_path / "stress.dict").write_text("ma M AA1\nsee S IY0\nme M IY2\nsaw S AA1\n")
    one, two = (
        done("align", speech.model, speech.text, "--lexicon", lexicon).out
        for lexicon in (speech.lexicon, tmp_path / "stress.dict")
    )
    assert one == two


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ("audio", ("--text", "ma"), "--lexicon is needed to make phones of a text"),
        ("audio", ("--text", "ma moo", "--lexicon", "{lexicon}"), "'moo' (once)"),
        ("folder", ("--text", "ma", "--lexicon", "{lexicon}"), "--text is for one audio file, not 12"),
        ("manifest", ("--text", "ma"), "is a manifest, whose label 'text' counts"),
        ("text", (), "u00: has text alone; a lexicon is needed"),
        ("audio", ("--text", "ma", "--lexicon", "gone"), "gone: cannot be read"),
    ],
)
def test_align_refuses(speech, given, options, message):
    path = {"audio": speech.audio(9), "folder": speech.folder / "audio"}.get(given) or getattr(speech, given)
    options = [one.format(lexicon=speech.lexicon) for one in options]
    refused(run("align", speech.model, path, *options), message)


# evaluate


def test_evaluate_a_recogniser(speech, tmp_path):
    result = done(
        "phones", "evaluate", speech.model, speech.manifest, "--split", "test", "--json", tmp_path / "f.json"
    )
    figures = json.loads((tmp_path / "f.json").read_text())
    assert (figures["per"], figures["counts"]["n_reference"]) == (0.0, 24)
    assert set(figures["groups"]) == {"ann", "bob"}
    assert figures["boundary_50ms"] == 1.0
    text = plain(result.out)
    assert "all 24 24 0 0 0 0.00%" in text and "all, with silence 30 30 0 0 0 0.00%" in text
    assert result.lines[-2].startswith("boundaries within 10 ms: ")
    assert result.lines[-1] == (
        "phone error rate 0.00%, 95 % interval 0.00% to 0.00% (by resampling 3 utterances)"
    )


def test_evaluate_is_the_same_from_label_files(speech, tmp_path):
    options = ("--split", "test", "-o", tmp_path / "found.ctm")
    done("phones", "recognise", speech.model, speech.manifest, *options)
    options = ("--reference", speech.labels, "--hypothesis", tmp_path / "found.ctm")
    result = run("phones", "evaluate", *options, "--shift", 0.1)
    assert result.code == 1
    (problem,) = result.problems
    assert "found.ctm: lacks 9 of 12 utterances of " in problem and "'u00', 'u01'" in problem
    assert "all 24 24 0 0 0 0.00%" in plain(result.out)
    assert " ms late on average" in result.lines[-2]
    same = ("--reference", speech.labels, "--hypothesis", speech.labels)
    result = done("phones", "evaluate", *same, "--silence", "S", "--silence", "SIL")
    n_phones = sum(phone not in ("S", "SIL") for number in range(12) for phone in phones_of(number, speech))
    assert f"all {n_phones} {n_phones} 0 0 0 0.00%" in plain(result.out)


def test_evaluate_shows_errors_and_folds(tmp_path):
    (tmp_path / "a.tsv").write_text(
        "path\tstart\tend\tphone\nu\t0\t0.1\tsil\nu\t0.1\t0.2\tao\nu\t0.2\t0.3\tzh\n"
    )
    (tmp_path / "b.tsv").write_text(
        "path\tstart\tend\tphone\nu\t0\t0.1\tsil\nu\t0.1\t0.2\taa\nu\t0.2\t0.3\tt\n"
    )
    files = ("--reference", tmp_path / "a.tsv", "--hypothesis", tmp_path / "b.tsv")
    result = done("phones", "evaluate", *files)
    assert "ao aa 1 zh t 1" in plain(result.out)
    assert "phone error rate 100.00%" in result.lines[-1]
    result = done("phones", "evaluate", *files, "--fold", "timit48", "timit39")
    assert "sh t 1" in plain(result.out)
    assert "phone error rate 50.00%" in result.lines[-1]
    refused(run("phones", "evaluate", *files, "--fold", "timit48", "ipa"), "no phone set 'ipa'")


def test_evaluate_warns_of_phones_that_the_recogniser_does_not_know(speech, tmp_path):
    strange = [
        replace(one, segments={}, labels={"phones": "SIL ZH AA"}) for one in read_manifest(speech.manifest)
    ]
    write_manifest(strange, tmp_path / "m.jsonl", speech.folder)
    result = run("phones", "evaluate", speech.model, tmp_path / "m.jsonl", "--data-dir", speech.folder)
    assert result.code == 0
    assert (
        "warning: " in result.err and "does not know the phones 'ZH', and will never find them" in result.err
    )
    assert "boundaries" not in result.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give a recogniser and a manifest, or both --reference and --hypothesis"),
        (("{model}",), "give a recogniser and a manifest, or both"),
        (("--reference", "{labels}"), "give a recogniser and a manifest, or both"),
        (("{model}", "{text}"), "text.jsonl: 12 of 12 utterances have no phones: 'u00'"),
        (
            ("{model}", "{text}"),
            "give them a label 'phones' or segments, or compare label files: what `speechgmm",
        ),
        (("{model}", "--reference", "{labels}", "--hypothesis", "{labels}"), "p.model is too much"),
        (("--reference", "{labels}", "--hypothesis", "{labels}", "--split", "a"), "takes no --split"),
        (("--reference", "{labels}", "--hypothesis", "gone.ctm"), "gone.ctm: cannot be read"),
    ],
)
def test_evaluate_refuses(speech, arguments, message):
    places = {name: getattr(speech, name) for name in ("model", "labels", "text")}
    # Without any argument typer shows the help.
    given = [one.format(**places) for one in arguments] or ["--shift", "0"]
    refused(run("phones", "evaluate", *given), message)


# inspect


def test_inspect_says_what_is_inside(speech):
    result = done("inspect", speech.model)
    text = plain(result.out)
    assert "phones 5 silence SIL states 15" in text
    assert "n_filters 20" in text and "language_model_weight 2.0000" in text
    assert result.lines[-1] == "AA IY M S SIL"
    facts = strict_json(done("inspect", speech.model, "--json").out)
    assert facts["phones"] == ["AA", "IY", "M", "S", "SIL"]
    assert (facts["states"], facts["features"]["n_filters"]) == (15, 20)
    assert facts["record"]["utterances"] == 7


def test_progress_is_drawn_on_a_terminal_and_not_in_a_pipe(speech):
    result = run_on_terminal("phones", "recognise", speech.model, speech.audio(9), pipe_output=True)
    assert "recognising" in plain(result.err)
    assert result.out.startswith("path\tstart")
    assert done("phones", "recognise", speech.model, speech.audio(9)).err == ""
