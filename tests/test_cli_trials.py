"""`speechgmm trials make`, `convert` and `score`, and `evaluate` of a speaker store."""

import json
import shutil

import pytest

from speechgmm.manifest import read_manifest
from speechgmm.verification.speaker_store import SpeakerStore
from speechgmm.verification.trial_lists import read_trials
from tests.cli_tools import (
    ENROLLED,
    N_ENROL,
    N_TAKES,
    STRANGER,
    done,
    make_voices,
    make_world,
    plain,
    run,
    strict_json,
    table_rows,
)

NAMES = sorted(ENROLLED)
N_TESTS = N_TAKES - N_ENROL
N_TARGETS, N_NONTARGETS = 3 * N_TESTS, 6 * N_TESTS


@pytest.fixture(scope="module")
def voices(tmp_path_factory):
    return make_voices(tmp_path_factory.mktemp("voices"))


def refused(result, message):
    (line,) = result.err.splitlines()
    assert line.startswith("speechgmm: ")
    assert message in line
    assert (result.code, result.out) == (2, "")


def without(voices, folder, utterance):
    """The options for a copy of the corpus in which this utterance is no audio."""
    shutil.copytree(voices.corpus, folder / "my corpus")
    (folder / "my corpus" / f"{utterance}.wav").write_text("this is not audio")
    return ("--data-dir", folder)


# make and convert


def test_make_writes_trials_and_their_enrolment(voices):
    trials = read_trials(voices.trials)
    assert len(trials) == N_TARGETS + N_NONTARGETS
    enrolled = read_manifest(voices.enrolment)
    assert [one.labels["speaker"] for one in enrolled] == [name for name in NAMES for _ in range(N_ENROL)]
    assert not {one.id for one in enrolled} & {trial.test for trial in trials}


def test_make_says_what_it_made(voices, tmp_path):
    options = ("--per-speaker", 2, "--nontargets-per-target", 1, "--enrol-utterances", 2, "--seed", 3)
    result = done("trials", "make", voices.people, "-o", tmp_path / "t.txt", *options)
    assert result.lines == [
        f"{tmp_path / 't.txt'}: 16 trials of 4 speakers, 8 of them targets",
        "Add --enrolment to write which utterances enrol the speakers: the trials hold for these only.",
    ]
    result = run("trials", "make", voices.people, "-o", tmp_path / "k", *options, "--form", "kaldi")
    refused(result, "the form 'kaldi' cannot hold ids with spaces; use 'tsv'")


def test_make_refuses_speakers_of_the_background(voices, tmp_path):
    result = run("trials", "make", voices.people, "-o", tmp_path / "t", "--background", voices.people)
    refused(result, "4 speakers are in the background too")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--enrol-utterances", 0), "`n_enrol` is 0; it must be a whole number from 1"),
        (("--enrol-utterances", 6), "0 of 4 values of 'speaker' have the 7 utterances"),
        (("--apart", "mood"), "has no label 'mood'"),
        (("--split", "dev"), "no utterance has split 'dev'"),
    ],
)
def test_make_refuses_what_cannot_be(voices, tmp_path, options, message):
    refused(run("trials", "make", voices.people, "-o", tmp_path / "t", *options), message)


def test_convert_there_and_back_is_the_same(voices, tmp_path):
    there, back = tmp_path / "t.nist", tmp_path / "t.tsv"
    result = done("trials", "convert", voices.trials, "-o", there, "--form", "nist")
    assert result.out == f"{there}: {N_TARGETS + N_NONTARGETS} trials\n"
    assert there.read_text("utf-8").startswith("modelid\tsegment\tside\ttargettype\n")
    done("trials", "convert", there, "-o", back, "--form", "tsv")
    assert back.read_bytes() == voices.trials.read_bytes()


def test_repeated_trials_are_kept_if_asked(tmp_path):
    (tmp_path / "t").write_text("1 a/1.wav a/2.wav\n0 a/1.wav b/2.wav\n1 a/1.wav a/2.wav\n")
    refused(run("trials", "convert", tmp_path / "t", "-o", tmp_path / "n", "--form", "kaldi"), "line 3: ")
    done("trials", "convert", tmp_path / "t", "-o", tmp_path / "n", "--form", "kaldi", "--allow-repeats")
    assert len((tmp_path / "n").read_text().splitlines()) == 3


# score


def test_score_gives_every_trial_its_score_and_ratio(voices, tmp_path):
    result = done("trials", "score", voices.ready, voices.people, voices.trials, "-o", tmp_path / "s.tsv")
    assert (result.out, result.err) == (f"{tmp_path / 's.tsv'}: 27 trials scored\n", "")
    header, *rows = [line.split("\t") for line in (tmp_path / "s.tsv").read_text("utf-8").splitlines()]
    assert header == ["model", "test", "key", "score", "llr"]
    trials = read_trials(voices.trials)
    assert [(row[0], row[1], row[2] == "target") for row in rows] == [
        (trial.model, trial.test, trial.is_target) for trial in trials
    ]
    calibration = SpeakerStore.load(voices.ready).calibration.calibration
    expected = calibration.apply([float(row[3]) for row in rows])
    assert [float(row[4]) for row in rows] == pytest.approx(expected.tolist(), abs=1e-5)


def test_score_is_what_verify_says(voices, tmp_path):
    done("trials", "score", voices.ready, voices.people, voices.trials, "-o", tmp_path / "s.tsv", "-j", 1)
    scored = {
        tuple(line.split("\t")[:2]): line.split("\t")[3:]
        for line in (tmp_path / "s.tsv").read_text("utf-8").splitlines()
    }
    trial = read_trials(voices.trials)[5]
    row = done("verify", voices.ready, "--claim", trial.model, voices.corpus / f"{trial.test}.wav").rows[1]
    assert scored[trial.model, trial.test] == [row[7], row[3]]


def test_score_without_calibration_or_key_has_fewer_columns(voices, tmp_path):
    (tmp_path / "blind").write_text("model\ttest\nann\teve/take 1\n")
    result = run("trials", "score", voices.plain, voices.people, tmp_path / "blind", "-o", tmp_path / "s.tsv")
    assert result.code == 0
    assert "there are scores, but no log-likelihood ratios" in result.err
    assert (tmp_path / "s.tsv").read_text().startswith("model\ttest\tscore\nann\teve/take 1\t")


def test_score_lists_unknown_ids(voices, tmp_path):
    (tmp_path / "t").write_text(
        "model\ttest\tkey\nann\teve/take 1.wav\tnontarget\nzoe\teve/take 1\tnontarget\n"
    )
    result = run("trials", "score", voices.ready, voices.people, tmp_path / "t", "-o", tmp_path / "s.tsv")
    refused(
        result,
        "'zoe'; 1 of 2 test utterances of the trials are not among the 24 there are: 'eve/take 1.wav' (with",
    )
    assert not (tmp_path / "s.tsv").exists()


def test_score_leaves_out_trials_of_unreadable_files(voices, tmp_path):
    test = read_trials(voices.trials)[0].test
    options = without(voices, tmp_path, test)
    result = run(
        "trials", "score", voices.ready, voices.people, voices.trials, "-o", tmp_path / "s.tsv", *options
    )
    assert result.code == 1
    assert result.out == f"{tmp_path / 's.tsv'}: 24 trials scored, 3 left out\n"
    assert result.problems[0].startswith(f"problem: {test}: ")
    assert test not in (tmp_path / "s.tsv").read_text("utf-8")


def test_a_model_may_be_an_utterance(voices, tmp_path):
    (tmp_path / "t").write_text(
        "model\ttest\tkey\nann/take 0\tann/take 1\ttarget\nann/take 0\teve/take 1\tnontarget\n"
        "ann\teve/take 1\tnontarget\n"
    )
    before = voices.ready.read_bytes()
    done("trials", "score", voices.ready, voices.people, tmp_path / "t", "-o", tmp_path / "s.tsv")
    scores = [float(line.split("\t")[3]) for line in (tmp_path / "s.tsv").read_text().splitlines()[1:]]
    assert scores[0] > 1 > scores[1]
    assert voices.ready.read_bytes() == before
    # The same as a store in which that utterance is enrolled.
    one = [line for line in voices.people.read_text().splitlines() if '"ann/take 0"' in line]
    (tmp_path / "one.jsonl").write_text(one[0] + "\n")
    path = shutil.copy(voices.empty, tmp_path / "one.store")
    done("enrol", path, tmp_path / "one.jsonl", "--data-dir", voices.folder, "--label", "id")
    row = done("verify", voices.ready, "--claim", "ann", voices.corpus / STRANGER / "take 1.wav").rows[1]
    assert float(row[7]) == scores[2]
    row = run("verify", path, "--claim", "ann/take 0", voices.corpus / "ann" / "take 1.wav").rows[1]
    assert float(row[7]) == scores[0]


def test_trials_of_what_was_enrolled_are_warned_of(voices, tmp_path):
    enrolled = next(one.id for one in read_manifest(voices.enrolment) if one.labels["speaker"] == "ann")
    (tmp_path / "t").write_text(f"model\ttest\tkey\nann\t{enrolled}\ttarget\n")
    result = run("trials", "score", voices.ready, voices.people, tmp_path / "t", "-o", tmp_path / "s.tsv")
    assert result.code == 0
    assert result.err.startswith(
        f"warning: 1 of 1 trials test an utterance that enrolled their model, such as '{enrolled}' and 'ann'"
    )


# evaluate


def test_evaluate_gives_figures_with_intervals(voices, tmp_path):
    command = ("evaluate", voices.ready, voices.people, "--trials", voices.trials)
    result = done(*command, "--json", tmp_path / "f.json", "-j", 1)
    assert result.err == ""
    rows = {row[0]: row[1:] for row in table_rows(result.out)}
    assert list(rows) == [
        *("EER", "min Cllr", "min DCF at 0.5", "min DCF at 0.01"),
        *("Cllr", "actual DCF at 0.5", "actual DCF at 0.01"),
    ]
    assert result.lines[-1] == "9 targets and 18 nontargets of 3 speakers; intervals by resampling speakers"
    facts = strict_json((tmp_path / "f.json").read_text())
    assert (facts["n_target"], facts["n_nontarget"], facts["n_speakers"]) == (N_TARGETS, N_NONTARGETS, 3)
    assert facts["calibrated"] is True
    low, high = facts["intervals_95"]["cllr"]
    assert low <= facts["figures"]["cllr"] <= high
    assert rows["Cllr"] == [f"{facts['figures']['cllr']:.4f}", f"{low:.4f} to {high:.4f}"]
    assert done(*command, "-j", 2).out == result.out


def test_evaluate_without_a_calibration_has_no_figures_of_decisions(voices):
    result = run("evaluate", voices.plain, voices.people, "--trials", voices.trials)
    assert result.code == 0
    assert [row[0] for row in table_rows(result.out)] == [
        "EER",
        "min Cllr",
        "min DCF at 0.5",
        "min DCF at 0.01",
    ]
    assert "there are no figures of decisions" in result.err


def test_evaluate_draws_a_det_plot(voices, tmp_path):
    pytest.importorskip("matplotlib")
    command = ("evaluate", voices.ready, voices.people, "--trials", voices.trials)
    result = done(*command, "--det", tmp_path / "d.svg")
    assert result.lines[-1] == str(tmp_path / "d.svg")
    assert (tmp_path / "d.svg").read_text().count("<svg") == 1
    refused(run(*command, "--det", tmp_path / "d.doc"), "a picture cannot be written as '.doc'")


def test_evaluate_leaves_out_trials_of_unreadable_files(voices, tmp_path):
    options = without(voices, tmp_path, read_trials(voices.trials)[0].test)
    result = run("evaluate", voices.ready, voices.people, "--trials", voices.trials, *options)
    assert result.code == 1
    assert result.lines[-1].endswith("; 3 trials left out")
    assert len(result.problems) == 1


def test_evaluate_of_nothing_usable_is_an_error(voices, tmp_path):
    result = run("evaluate", voices.ready, voices.people, "--trials", voices.trials, "--data-dir", tmp_path)
    refused(result, "none of the 27 trials can be scored; the first: ")


def test_evaluate_takes_utterances_as_models(voices, tmp_path):
    ids = [f"{name}/take {take}" for name in ("ann", STRANGER) for take in range(3)]
    lines = [f"{a}\t{b}\t{'target' if a[:3] == b[:3] else 'nontarget'}" for a in ids for b in ids if a != b]
    (tmp_path / "t").write_text("\n".join(["model\ttest\tkey", *lines]) + "\n")
    result = done("evaluate", voices.ready, voices.people, "--trials", tmp_path / "t")
    assert result.lines[-1].startswith("12 targets and 18 nontargets of 2 speakers; ")


def test_evaluate_warns_of_speakers_that_were_heard_before(voices, tmp_path):
    lines = [
        f"{one.id}\tb0/take 5\t{'target' if one.id[:2] == 'b0' else 'nontarget'}"
        for one in read_manifest(voices.background)[:8]
    ]
    (tmp_path / "t").write_text(
        "\n".join(["model\ttest\tkey", *[line for line in lines if not line.startswith("b0/take 5")]]) + "\n"
    )
    result = run("evaluate", voices.ready, voices.background, "--trials", tmp_path / "t")
    assert result.code == 0
    assert (
        "2 speakers of the trials trained the background model or the calibration, or are the cohort: 'b0', 'b1'"
        in plain(result.err)
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "ann\teve/take 1\ttarget",
            "1 of 28 trials contradict their speakers: that of 'ann' and 'eve/take 1' is a target",
        ),
        ("joe\teve/take 1\tnontarget", "1 of 4 models of the trials are not among"),
    ],
)
def test_evaluate_refuses_trials_that_cannot_be(voices, tmp_path, line, message):
    (tmp_path / "t").write_text(voices.trials.read_text("utf-8") + line + "\n", "utf-8")
    refused(run("evaluate", voices.ready, voices.people, "--trials", tmp_path / "t"), message)


def test_evaluate_needs_answers(voices, tmp_path):
    (tmp_path / "t").write_text("model\ttest\nann\teve/take 1\n")
    refused(
        run("evaluate", voices.ready, voices.people, "--trials", tmp_path / "t"),
        "1 of 1 trials have no answer",
    )


def test_evaluate_tells_stores_and_models_apart(voices, tmp_path):
    refused(run("evaluate", voices.ready, voices.people), "is a speaker store: --trials is needed")
    result = run("evaluate", voices.ready, voices.people, "--trials", voices.trials, "--threshold", 0)
    refused(result, "is a speaker store, which takes no --threshold")
    world = make_world(tmp_path)
    options = (
        "--trials",
        voices.trials,
        "--label",
        "speaker",
        "--allow-repeats",
        "--det",
        tmp_path / "d.png",
    )
    result = run("evaluate", world.model, world.manifest, *options)
    refused(
        result,
        "is a classifier model, which takes no --trials and no --label and no --allow-repeats and no --det",
    )


def test_problems_are_in_the_json(voices, tmp_path):
    test = read_trials(voices.trials)[0].test
    options = ("--trials", voices.trials, *without(voices, tmp_path, test), "--json", tmp_path / "f.json")
    assert run("evaluate", voices.ready, voices.people, *options).code == 1
    facts = json.loads((tmp_path / "f.json").read_text())
    assert facts["n_left_out"] == 3
    assert [problem["utterance"] for problem in facts["problems"]] == [test]
