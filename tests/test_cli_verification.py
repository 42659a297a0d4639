"""`speechgmm ubm`, `calibrate`, `enrol`, `verify`, and `classify` and `inspect` of a speaker store."""

import math
import shutil
from unittest.mock import patch

import pytest

from speechgmm.em.adaptation import Adaptation
from speechgmm.manifest import read_manifest
from speechgmm.verification.background import Background, UbmSettings, train_ubm
from speechgmm.verification.scoring import USUAL_TOP
from speechgmm.verification.speaker_store import SpeakerStore
from tests.cli_tools import (
    BACKGROUND,
    ENROLLED,
    N_ENROL,
    N_TAKES,
    done,
    make_voices,
    make_world,
    plain,
    run,
    run_on_terminal,
    run_process,
    strict_json,
    table_rows,
    without_warnings,
)

VERIFY = ["file", "claim", "decision", "llr", "posterior", "p_target", "threshold", "score", "frames"]
CLASSIFY = ["file", "label", "best", "posterior", "runner_up", "llr", "score", "p_value", "frames"]
NAMES = sorted(ENROLLED)
# Of 0.6 s, one every 10 ms, the first at 0.
N_FRAMES = "61"


@pytest.fixture(scope="module")
def voices(tmp_path_factory):
    return make_voices(tmp_path_factory.mktemp("voices"))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def store(voices, tmp_path):
    """A calibrated store with speakers, to be changed."""
    return shutil.copy(voices.ready, tmp_path / "s.store")


def refused(result, message):
    """One line of error, nothing else."""
    (line,) = without_warnings(result.err)
    assert line.startswith("speechgmm: ")
    assert message in line
    assert (result.code, result.out) == (2, "")


# ubm


def test_ubm_makes_a_store_without_speakers(voices, tmp_path):
    result = done("ubm", voices.background, "-o", tmp_path / "new" / "s.store", "-k", 4, "-j", 1)
    path = tmp_path / "new" / "s.store"
    seconds = len(BACKGROUND) * N_TAKES * 0.6
    assert result.out.startswith(f"{path}: a background model of 4 components from {seconds:.1f} seconds (")
    assert result.out.endswith("; nobody is enrolled yet\n")
    assert path.read_bytes() == voices.empty.read_bytes()
    loaded = SpeakerStore.load(path)
    assert (loaded.enrolments, loaded.calibration, loaded.cohort) == ({}, None, None)
    assert loaded.adaptation == Adaptation()
    assert loaded.background.record["speakers"] == sorted(BACKGROUND)


def test_ubm_is_the_library(voices):
    trained = train_ubm(read_manifest(voices.background), settings=UbmSettings(n_components=4))
    assert SpeakerStore.load(voices.empty).background.fingerprint == trained.background.fingerprint


def test_ubm_settings_come_from_the_file_and_options_win(voices, tmp_path):
    config = tmp_path / "c.toml"
    config.write_text(
        "[features]\nn_coefficients = 7\ndelta_orders = 0\n"
        "[background]\nn_components = 3\nmax_iterations = 2\nseed = 9\n"
        '[adaptation]\nrelevance_factor = 4\nparts = ["weights", "means"]\n'
    )
    done("ubm", voices.background, "-o", tmp_path / "a", "--config", config)
    loaded = SpeakerStore.load(tmp_path / "a")
    assert (loaded.background.n_features, loaded.background.ubm.n_components) == (7, 3)
    assert loaded.background.record["settings"]["seed"] == 9
    assert loaded.adaptation == Adaptation(4.0, ("means", "weights"))
    options = ("-k", 2, "--seed", 1, "--relevance-factor", "inf", "--adapt", "means, variances")
    done("ubm", voices.background, "-o", tmp_path / "b", "--config", config, *options, "--balance", "speaker")
    loaded = SpeakerStore.load(tmp_path / "b")
    assert loaded.background.ubm.n_components == 2
    assert loaded.background.record["settings"]["seed"] == 1
    assert loaded.background.record["balance"] == "speaker"
    assert loaded.adaptation == Adaptation(math.inf, ("means", "variances"))


def test_ubm_takes_frames_from_a_feature_store(voices, tmp_path):
    config = tmp_path / "settings.toml"
    config.write_text("[features]\ndither = 1e-5\n")  # as `ubm` has it by itself
    done("features", voices.background, "-o", tmp_path / "frames", "--config", config)
    before = sorted(path.name for path in (tmp_path / "frames").iterdir())
    done("ubm", voices.background, "-o", tmp_path / "s", "-k", 4, "--store", tmp_path / "frames")
    assert (tmp_path / "s").read_bytes() == voices.empty.read_bytes()
    assert sorted(path.name for path in (tmp_path / "frames").iterdir()) == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[training]\n", "has 'training'; there can be the tables [features], [background] and [adaptation]"),
        ("[background]\ncomponents = 3\n", "unknown background setting 'components'"),
        ("[adaptation]\nfactor = 3\n", "unknown adaptation setting 'factor'"),
        ("[adaptation]\niterations = 0\n", "adaptation `iterations` is 0"),
        ("[features]\nn_filter = 3\n", "unknown feature setting 'n_filter'"),
    ],
)
def test_ubm_names_the_settings_file_and_what_is_wrong_in_it(voices, tmp_path, text, message):
    (tmp_path / "c.toml").write_text(text)
    result = run("ubm", voices.background, "-o", tmp_path / "s", "--config", tmp_path / "c.toml")
    refused(result, message)
    assert result.err.startswith(f"speechgmm: {tmp_path / 'c.toml'}: ")
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-k", "0"), "background setting `n_components` is 0; it must be a whole number from 1"),
        (("--adapt", "means,speed"), "it must be a list of one or more of means, variances, weights"),
        (("--relevance-factor", "-1"), "`relevance_factor` is -1.0; it must be a number of frames from 0"),
        (("--balance", "mood"), "has no label 'mood'"),
        (("--split", "dev"), "no utterance has split 'dev'"),
    ],
)
def test_ubm_refuses_what_cannot_be(voices, tmp_path, options, message):
    refused(run("ubm", voices.background, "-o", tmp_path / "s", *options), message)
    assert not list(tmp_path.iterdir())


def test_ubm_does_not_overwrite_speakers(voices, store):
    before = store.read_bytes()
    refused(
        run("ubm", voices.background, "-o", store), "is a store with 3 enrolled speakers, who would be lost"
    )
    assert store.read_bytes() == before


def test_features_takes_the_settings_file_of_both(voices, tmp_path):
    (tmp_path / "c.toml").write_text(
        "[features]\nn_coefficients = 7\n[background]\nseed = 1\n[training]\nseed = 1\n"
    )
    result = done("features", voices.background, "-o", tmp_path / "f", "--config", tmp_path / "c.toml")
    assert " of 21 features " in result.out
    (tmp_path / "c.toml").write_text("[background]\nseeds = 1\n")
    result = run("features", voices.background, "-o", tmp_path / "f", "--config", tmp_path / "c.toml")
    refused(result, "unknown background setting 'seeds'")


# calibrate


def test_calibrate_reports_what_it_gained(voices, tmp_path):
    path = shutil.copy(voices.empty, tmp_path / "s.store")
    result = done("calibrate", path, voices.background)
    n_tests = len(BACKGROUND) * N_TAKES
    assert result.lines[0].startswith(
        f"{n_tests} targets and {2 * n_tests} nontargets of 9 speakers, scored under"
    )
    figures = {row[0]: row[1:] for row in table_rows(result.out)}
    assert set(figures) == {
        *("EER", "Cllr", "min Cllr", "min DCF at 0.5", "actual DCF at 0.5"),
        *("min DCF at 0.01", "actual DCF at 0.01"),
    }
    assert float(figures["Cllr"][0]) > float(figures["Cllr"][1]) >= float(figures["min Cllr"][1])
    assert figures["EER"][0] == figures["EER"][1]
    assert "'after' is on the very trials" in result.out
    assert result.lines[-1] == f"{path}: calibrated, scores by top-{USUAL_TOP}"
    assert SpeakerStore.load(path).calibration.system.top == USUAL_TOP


def test_help_names_the_usual_number_of_components():
    assert f"[default: {USUAL_TOP}]" in plain(run("calibrate", "--help").out)


def test_calibrate_before_or_after_enrolment_is_the_same(voices, tmp_path):
    path = shutil.copy(voices.plain, tmp_path / "s.store")
    done("calibrate", path, voices.background, "-j", 1)
    assert path.read_bytes() == voices.ready.read_bytes()


def test_calibrate_keeps_a_cohort_for_systems_that_normalise(voices, tmp_path):
    path = shutil.copy(voices.empty, tmp_path / "s.store")
    options = ("--enrol-utterances", 2, "--cohort-utterances", 3)
    system = ("--normalisation", "adaptive_s", "--top-n", 5, "--method", "linear", "--top", 2)
    result = done("calibrate", path, voices.background, *options, *system)
    assert result.lines[-1].endswith(": calibrated, scores by linear-2 adaptive_s-5")
    cohort = SpeakerStore.load(path).cohort
    assert [len(one.utterances) for one in cohort.enrolments] == [2] * 9
    assert len(cohort.frames) == 27
    done("enrol", path, voices.enrolment)
    for claim, answer in (("ann", "accepted"), ("[red]cat", "rejected")):
        answers = [row[2] for row in done("verify", path, "--claim", claim, voices.corpus / "ann").rows[1:]]
        assert answers.count(answer) > 0.7 * len(answers), (claim, answers)


def test_a_store_that_does_not_normalise_keeps_no_cohort(voices):
    assert SpeakerStore.load(voices.ready).cohort is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--folds", 4), "there are 9 speakers; 4 folds need 12 or more"),
        (("--folds", 1), "`n_folds` is 1"),
        (("--method", "slow"), "system `method` is 'slow'; it can be top, dense, linear"),
        (("--normalisation", "adaptive_s"), "adaptive_s needs a `top_n`"),
        (("--method", "dense", "--top", 5), "--top is for the methods top and linear; dense scores by all"),
        (("--label", "mood"), "has no label 'mood'"),
    ],
)
def test_calibrate_refuses_what_cannot_be(voices, store, options, message):
    before = store.read_bytes()
    refused(run("calibrate", store, voices.background, *options), message)
    assert store.read_bytes() == before


def test_calibrate_refuses_enrolled_speakers(voices, store):
    refused(run("calibrate", store, voices.people), "would calibrate and are enrolled")


# enrol


def test_enrol_says_who_is_new_and_lists_them(voices, tmp_path):
    path = shutil.copy(voices.empty, tmp_path / "s.store")
    result = done("enrol", path, voices.enrolment)
    assert result.out == f"{path}: 9 utterances enrolled, 3 new speakers, 3 in all\n"
    assert path.read_bytes() == voices.plain.read_bytes()
    listed = done("enrol", path, "--list")
    assert "speaker utterances seconds frames" in plain(listed.out)
    assert [row[:3] for row in table_rows(listed.out)] == [[name, str(N_ENROL), "1.8000"] for name in NAMES]


def test_utterances_added_later_give_the_same_store(voices, tmp_path):
    lines = voices.enrolment.read_text("utf-8").splitlines(keepends=True)
    path = shutil.copy(voices.empty, tmp_path / "s.store")
    for number, part in enumerate((lines[:4], lines[4:])):
        (tmp_path / f"{number}.jsonl").write_text("".join(part), "utf-8")
        result = done("enrol", path, tmp_path / f"{number}.jsonl", "--data-dir", voices.folder)
    assert result.out.endswith(": 5 utterances enrolled, 1 new speaker, 3 in all\n")
    assert path.read_bytes() == voices.plain.read_bytes()


def test_enrol_by_id_makes_every_utterance_a_speaker(voices, tmp_path):
    path = shutil.copy(voices.empty, tmp_path / "s.store")
    done("enrol", path, voices.enrolment, "--label", "id")
    assert sorted(SpeakerStore.load(path).enrolments) == sorted(
        one.id for one in read_manifest(voices.enrolment)
    )


def test_enrol_lists_bad_files_at_the_end_and_enrols_the_others(voices, tmp_path):
    shutil.copytree(voices.corpus, tmp_path / "my corpus")
    first = read_manifest(voices.enrolment)[0]
    (tmp_path / first.audio.relative_to(voices.folder)).write_text("this is not audio")
    path = shutil.copy(voices.empty, tmp_path / "s.store")
    result = run("enrol", path, voices.enrolment, "--data-dir", tmp_path)
    assert result.code == 1
    assert result.out == f"{path}: 8 utterances enrolled, 3 new speakers, 3 in all\n"
    (problem,) = result.problems
    assert problem.startswith(f"problem: {first.id}: ")
    assert len(SpeakerStore.load(path).enrolments[first.labels["speaker"]].utterances) == N_ENROL - 1


def test_enrol_of_nothing_usable_changes_nothing(voices, store, tmp_path):
    before = store.read_bytes()
    result = run("enrol", store, voices.people, "--data-dir", tmp_path)
    refused(result, f"none of the {4 * N_TAKES} utterances can be used; the first: ")
    assert store.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "duplicated enrolment"),
        (("--label", "mood"), "has no label 'mood'"),
        (("--list",), "give a manifest of speech to enrol, or --list, or --remove NAME"),
    ],
)
def test_enrol_refuses_what_cannot_be(voices, store, options, message):
    before = store.read_bytes()
    refused(run("enrol", store, voices.enrolment, *options), message)
    assert store.read_bytes() == before


def test_enrol_refuses_what_does_not_go_together(store):
    refused(run("enrol", store), "give a manifest of speech to enrol, or --list, or --remove NAME")
    refused(run("enrol", store, "--list", "--split", "test"), "--split and --data-dir are for manifests")


def test_enrol_refuses_the_cohort_and_warns_of_background_speakers(voices, tmp_path):
    with_cohort = shutil.copy(voices.empty, tmp_path / "cohort.store")
    done("calibrate", with_cohort, voices.background, "--normalisation", "s")
    result = run("enrol", with_cohort, voices.background)
    refused(result, "9 speakers are both in the cohort and enrolled: b0, b1, ")
    path = shutil.copy(voices.plain, tmp_path / "plain.store")
    result = done("enrol", path, voices.background)
    assert result.err.startswith("warning: the background model was trained on speech of 'b0', 'b1', ")


def test_remove_forgets_speakers(voices, store):
    result = done("enrol", store, "--remove", "ann", "--remove", "dé f")
    assert result.out == f"{store}: 2 speakers removed, 1 left\n"
    assert list(SpeakerStore.load(store).enrolments) == ["[red]cat"]
    before = store.read_bytes()
    refused(
        run("enrol", store, "--remove", "[red]cat", "--remove", "[red]cow"), "there is no speaker '[red]cow'"
    )
    assert store.read_bytes() == before


def test_ctrl_c_keeps_the_store_there_was(voices, tmp_path):
    path = shutil.copy(voices.empty, tmp_path / "s.store")
    for command in (("enrol", path, voices.enrolment), ("calibrate", path, voices.background)):
        with patch("speechgmm.files.os.replace", side_effect=KeyboardInterrupt):
            result = run(*command)
        assert result.code == 130
        assert "Traceback" not in result.err
        assert path.read_bytes() == voices.empty.read_bytes()
    assert [one.name for one in tmp_path.iterdir()] == ["s.store"]


# verify


def test_verify_decides_and_says_on_what_grounds(voices):
    files = [*voices.files("ann"), *voices.files("eve")]
    result = done("verify", voices.ready, "--claim", "ann", *files)
    assert result.err == ""
    header, *rows = result.rows
    assert header == VERIFY
    assert [row[0] for row in rows] == [str(file) for file in files]
    assert [row[2] for row in rows] == ["accepted"] * N_TAKES + ["rejected"] * N_TAKES
    for row in rows:
        _, claim, decision, llr, posterior, p_target, threshold, score, frames = row
        assert (claim, p_target, threshold, frames) == ("ann", "0.500000", "0.000000", N_FRAMES)
        assert (decision == "accepted") == (float(llr) >= 0)
        assert float(posterior) == pytest.approx(1 / (1 + math.exp(-float(llr))), abs=2e-6)
        assert math.isfinite(float(score))


def test_a_decision_follows_from_prior_and_costs(voices):
    options = ("--p-target", 0.01, "--c-miss", 10, "--c-fa", 2, "-f", "jsonl")
    decisions = [
        strict_json(line)
        for line in done("verify", voices.ready, "--claim", "ann", voices.corpus, *options).lines
    ]
    assert len(decisions) == N_TAKES * (len(BACKGROUND) + len(ENROLLED) + 1)
    threshold = math.log(2 / 10) - math.log(0.01 / 0.99)
    for decision in decisions:
        assert (decision["p_target"], decision["threshold"]) == (0.01, pytest.approx(threshold))
        assert decision["decision"] == ("accepted" if decision["llr"] >= threshold else "rejected")


def test_verify_without_a_calibration_gives_scores_alone_and_says_so(voices):
    result = run("verify", voices.plain, "--claim", "ann", voices.corpus / "ann")
    assert result.code == 0
    assert result.err == (
        "warning: this store is not calibrated: these are scores without a decision; `speechgmm calibrate` learns "
        "what scores mean\n"
    )
    assert all(row[2:7] == [""] * 5 and float(row[7]) > 0 for row in result.rows[1:])
    row = strict_json(
        run("verify", voices.plain, "--claim", "ann", voices.corpus / "ann", "-f", "jsonl").lines[0]
    )
    assert (row["decision"], row["llr"], row["threshold"]) == (None, None, None)
    table = run("verify", voices.plain, "--claim", "ann", voices.corpus / "ann", "-f", "table").out
    assert plain(table).startswith("file score ")
    assert "p_target" not in table


def test_a_table_says_on_what_its_decisions_rest(voices):
    for command, accepted in (("verify", "'ann' is"), ("classify", "the best is")):
        claim = ("--claim", "ann") if command == "verify" else ()
        options = (*claim, "-f", "table", "--p-target", 0.01, "--c-fa", 10)
        result = done(command, voices.ready, voices.corpus / "ann", *options)
        assert result.lines[-1] == (
            f"p_target 0.01, a miss costs 1, a false alarm 10: {accepted} accepted from an llr of 6.8977"
        )
    assert plain(result.out).startswith("file label best posterior llr p_value ")


def test_scores_do_not_change_with_calibration(voices):
    both = [run("verify", store, "--claim", "dé f", voices.corpus) for store in (voices.plain, voices.ready)]
    assert [row[7] for row in both[0].rows] == [row[7] for row in both[1].rows]


def test_verify_lists_bad_files_at_the_end(voices, tmp_path):
    (tmp_path / "bad.wav").write_text("this is not audio")
    (tmp_path / "empty").mkdir()
    options = ("--claim", "ann", tmp_path / "bad.wav", tmp_path / "empty", tmp_path / "none.wav")
    result = run("verify", voices.ready, *options, voices.files("ann")[0])
    assert (result.code, len(result.rows), len(result.problems)) == (1, 2, 3)
    nothing = run("verify", voices.ready, *options)
    assert (nothing.code, nothing.out) == (2, "")
    assert nothing.err.splitlines()[-1] == "3 problems; no file can be used"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--claim", "anna"), "there is no speaker 'anna'; called alike: 'ann'"),
        (("--claim", "ann", "--p-target", 1), "`p_target` is 1.0; it must be between 0 and 1, both excluded"),
        (("--claim", "ann", "--p-target", 50), "`p_target` is 50.0; it must be between 0 and 1"),
        (("--claim", "ann", "--c-fa", 0), "`c_fa` is 0.0; a cost must be above 0"),
    ],
)
def test_verify_refuses_what_cannot_be(voices, options, message):
    with patch(
        "speechgmm.features.extract.FeatureExtractor.extract", side_effect=AssertionError("for nothing")
    ):
        refused(run("verify", voices.ready, *options, voices.corpus), message)


def test_verify_in_a_store_of_nobody(voices):
    refused(run("verify", voices.empty, "--claim", "ann", voices.corpus), "nobody is enrolled in this store")


def test_verify_is_quiet_in_a_pipe_and_draws_on_a_terminal(voices):
    command = ("verify", voices.ready, "--claim", "ann", voices.files("ann")[0])
    assert run_process(*command) == run(*command)
    shown = run_on_terminal(*command, columns=200)
    assert shown.code == 0
    assert " accepted " in plain(shown.err)


# classify and inspect


def test_classify_finds_the_enrolled_and_calls_others_unknown(voices):
    result = done("classify", voices.ready, *(voices.corpus / name for name in [*NAMES, "eve"]))
    assert result.err == ""
    header, *rows = result.rows
    assert header == CLASSIFY
    names = [name for name in [*NAMES, "eve"] for _ in range(N_TAKES)]
    assert [row[1] for row in rows] == ["unknown" if name == "eve" else name for name in names]
    for row in rows:
        assert row[2] in NAMES
        assert row[4] in set(NAMES) - {row[2]}
        assert (float(row[5]) >= 0) == (row[1] != "unknown")
        assert 0 < float(row[7]) <= 1


def test_classify_knows_prior_and_costs(voices):
    sure, unsure = (
        done("classify", voices.ready, voices.corpus / "ann", "-f", "jsonl", "--c-fa", cost)
        for cost in (1, 1e200)
    )
    assert {strict_json(line)["label"] for line in sure.lines} == {"ann"}
    assert {strict_json(line)["label"] for line in unsure.lines} == {"unknown"}
    assert {strict_json(line)["best"] for line in unsure.lines} == {"ann"}


def test_classify_without_a_calibration_says_that_nobody_is_unknown(voices):
    result = run("classify", voices.plain, voices.corpus / "eve")
    assert result.code == 0
    assert "everybody gets the best speaker's name, and nobody is unknown" in result.err
    assert all(row[1] == row[2] and row[3] == row[5] == row[7] == "" for row in result.rows[1:])


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("store", ("--threshold", 0), "s.store is a speaker store, which takes no --threshold"),
        ("model", ("--p-target", 0.5), "speakers.model is a classifier model, which takes no --p-target"),
        ("model", ("--c-miss", 1, "--c-fa", 1), "which takes no --c-miss and no --c-fa"),
    ],
)
def test_options_for_one_kind_of_file_are_refused_for_the_other(world, store, kind, options, message):
    path = store if kind == "store" else world.model
    refused(run("classify", path, world.corpus, *options), message)


def test_inspect_shows_what_is_in_a_store(voices):
    result = done("inspect", voices.ready)
    cells = dict(row for row in table_rows(result.out) if len(row) == 2)
    assert (cells["background_components"], cells["enrolled"], cells["cohort_speakers"]) == ("4", "3", "0")
    assert (cells["adapted"], cells["relevance_factor"], cells["calibrated"]) == ("means", "16.0000", "True")
    assert (cells["sample_rate"], cells["system"], cells["max_iterations"]) == (
        "8000",
        f"top-{USUAL_TOP}",
        "20",
    )
    assert [row[0] for row in table_rows(result.out) if len(row) == 4] == NAMES
    assert done("inspect", voices.empty).lines[-1] == "Nobody is enrolled."


def test_inspect_gives_json(voices):
    facts = strict_json(done("inspect", voices.ready, "--json").out)
    store = SpeakerStore.load(voices.ready)
    assert facts["front_end"] == store.background.features.to_dict()
    assert facts["record"] == store.background.record
    assert facts["speakers"][0]["speaker"] == NAMES[0]
    assert facts["calibration"]["weight"] == store.calibration.calibration.weights[0]
    assert strict_json(done("inspect", voices.empty, "--json").out)["calibration"] is None


# Files of the wrong kind, and damaged ones

STORE_COMMANDS = (
    ("enrol", "{file}", "--list"),
    ("calibrate", "{file}", "{background}"),
    ("verify", "{file}", "--claim", "ann", "{corpus}"),
    ("trials", "score", "{file}", "{people}", "{trials}", "-o", "{folder}/scores.tsv"),
)
EITHER = (("inspect", "{file}"), ("classify", "{file}", "{corpus}"))


def command_with(template, voices, file):
    places = {name: getattr(voices, name) for name in ("background", "corpus", "people", "trials", "folder")}
    return [text.format(file=file, **places) for text in template]


@pytest.mark.parametrize("template", STORE_COMMANDS, ids=lambda template: template[0])
def test_a_model_where_a_store_is_needed(voices, world, template):
    result = run(*command_with(template, voices, world.model))
    refused(
        result,
        f"{world.model}: is a model of `speechgmm train`, which tells classes apart; needed is a speaker",
    )


def test_a_store_where_a_model_is_needed(voices):
    result = run("manifest", "check", voices.people, "--model", voices.ready)
    refused(result, "field `kind` must be 'speechgmm classifier'; this is another kind of file")


@pytest.mark.parametrize("template", [*STORE_COMMANDS, *EITHER], ids=lambda template: template[0])
def test_a_damaged_store_is_said_to_be(voices, tmp_path, template):
    content = bytearray(voices.ready.read_bytes())
    content[-100] ^= 1
    (tmp_path / "s.store").write_bytes(content)
    refused(
        run(*command_with(template, voices, tmp_path / "s.store")),
        "the content does not agree with its checksum",
    )
    (tmp_path / "s.store").write_bytes(content[:-50])
    refused(run(*command_with(template, voices, tmp_path / "s.store")), "not a whole safetensors file")
    refused(run(*command_with(template, voices, tmp_path / "none")), "there is no such ")


def test_a_store_of_frames_made_elsewhere_takes_no_audio(voices, tmp_path):
    store = SpeakerStore.load(voices.empty)
    SpeakerStore.create(Background(store.background.ubm)).save(tmp_path / "f.store")
    refused(
        run("enrol", tmp_path / "f.store", voices.enrolment),
        "was trained on frames made elsewhere, not on audio",
    )
    assert "Frames were made elsewhere" in done("inspect", tmp_path / "f.store").out
