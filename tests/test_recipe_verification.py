"""What recipes of verification share, against plain loops and against the parts they are made of."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest

from speechgmm.corpora.locate import Corpus
from speechgmm.errors import InputError
from speechgmm.features import Extraction
from speechgmm.files import sha256_of_text
from speechgmm.manifest import Utterance, write_manifest
from speechgmm.recipe_protocol import Protocol, first_of_each, open_set
from speechgmm.recipe_verification import SystemResult, VerificationRecipe, figures_of, metrics_of
from speechgmm.verification.background import train_ubm_on_frames
from speechgmm.verification.calibration import fit_calibration
from speechgmm.verification.cross_fitting import cross_fit
from speechgmm.verification.enrolment import Enroller
from speechgmm.verification.scoring import TrialScorer
from speechgmm.verification.system import System
from speechgmm.verification.trial_evaluation import TrialFigures
from speechgmm.verification.trial_lists import Trial

CORPUS = Corpus("toy", "toy", None, "none", "example.txt", "https://example.org")
CONFIG = """
[features]
dither = 1e-5
n_coefficients = 3
delta_orders = 0
[background]
n_components = 4
[adaptation]
relevance_factor = 4.0
[calibration]
n_folds = 3
p_target = 0.3
[systems]
top = { method = "top", top = 4 }
top_snorm = { method = "top", top = 4, normalisation = "s" }
linear = { method = "linear", top = 4 }
"""


def speech_of_people(names, n_utterances, seed=0, n_frames=30):
    """Utterances of speakers whose frames lie about a place of their own."""
    rng = np.random.default_rng(seed)
    people = {}
    for name in names:
        place = rng.standard_normal(3)
        people[name] = [
            (f"{name}-{number}", (place + rng.standard_normal((n_frames, 3))).astype(np.float32), 0.3)
            for number in range(n_utterances)
        ]
    return people


def all_pairs(background, people, n_enrol):
    """Every speaker enrolled with the first utterances, and tried with all others of everybody."""
    tests = [(name, frames) for name, own in people.items() for _, frames, _ in own[n_enrol:]]
    return Protocol(
        background=background,
        enrolment={name: own[:n_enrol] for name, own in people.items()},
        model_speakers=list(people),
        tests=[frames for _, frames in tests],
        test_speakers=[name for name, _ in tests],
        models=np.repeat(np.arange(len(people)), len(tests)),
        test_numbers=np.tile(np.arange(len(tests)), len(people)),
    )


@pytest.fixture
def protocol():
    background = speech_of_people([f"b{number}" for number in range(9)], 4)
    return all_pairs(background, speech_of_people(["ann", "bob", "cat"], 5, seed=1), n_enrol=2)


@pytest.fixture
def make_recipe(tmp_path, monkeypatch):
    """A function that makes a recipe as its run.py would, with options."""

    def make(*options, trials=""):
        folder = tmp_path / "toy_verification"
        folder.mkdir(exist_ok=True)
        (folder / "config.toml").write_text(CONFIG)
        given = ["run.py", "--output", str(tmp_path / "out"), "--jobs", "1", *map(str, options)]
        monkeypatch.setattr(sys, "argv", given)
        return VerificationRecipe(folder / "run.py", "A toy", trials)

    return make


# Protocols


def test_trials_are_targets_where_speakers_are_the_same(protocol):
    named, spoken = protocol.trial_speakers
    assert named.tolist() == ["ann"] * 9 + ["bob"] * 9 + ["cat"] * 9
    assert spoken.tolist() == (["ann"] * 3 + ["bob"] * 3 + ["cat"] * 3) * 3
    assert protocol.is_target.tolist() == [a == b for a, b in zip(named, spoken, strict=True)]
    assert protocol.n_enrol == 2


def test_a_protocol_refuses_background_speakers_in_its_trials():
    people = speech_of_people(["ann", "bob"], 3)
    with pytest.raises(InputError, match="1 speakers are both in the cohort and enrolled: bob"):
        all_pairs(speech_of_people(["bob", "eve"], 3), people, 1)


def listed(**speakers):
    """Utterances with frames that tell them apart: ann=2 are ann-0 and ann-1."""
    names = [(name, f"{name}-{number}") for name, count in speakers.items() for number in range(count)]
    utterances = tuple(Utterance(id, Path(f"{id}.wav"), labels={"speaker": name}) for name, id in names)
    frames = tuple(np.full((2, 1), place, np.float32) for place in range(len(names)))
    return Extraction(utterances, frames, tuple(float(place) for place in range(len(names))), ())


def test_a_protocol_of_a_list_of_trials():
    extraction = listed(eve=2, ann=2, bob=2)
    one = {utterance.id: utterance for utterance in extraction.utterances}
    protocol = Protocol.of_trials(
        extraction,
        [Trial("model b", "ann-1", False), Trial("model a", "ann-1", True), Trial("model a", "bob-1", False)],
        {"model a": [one["ann-0"]], "model b": [one["bob-0"]]},
        [one["eve-0"], one["eve-1"]],
        [one["eve-1"]],
    )
    assert [protocol.model_speakers, protocol.test_speakers] == [["ann", "bob"], ["ann", "bob"]]
    assert protocol.models.tolist() == [1, 0, 0]
    assert protocol.test_numbers.tolist() == [0, 0, 1]
    assert [frames[0, 0] for frames in protocol.tests] == [3, 5]
    assert [(key, seconds) for key, _, seconds in protocol.background["eve"]] == [("eve-0", 0), ("eve-1", 1)]
    assert [key for key, _, _ in protocol.cohort["eve"]] == ["eve-1"]
    assert [key for key, _, _ in protocol.enrolment["model b"]] == ["bob-0"]


@pytest.mark.parametrize("answer", [False, None])
def test_answers_that_contradict_the_speakers_are_refused(answer):
    extraction = listed(eve=1, ann=2)
    eve, first, _ = extraction.utterances
    with pytest.raises(InputError, match="not what the labels 'speaker' say"):
        Protocol.of_trials(extraction, [Trial("m", "ann-1", answer)], {"m": [first]}, [eve], [eve])


def test_the_first_of_each_go_by_the_sha256_of_their_ids():
    utterances = [
        Utterance(
            f"{speaker}{chapter}{number}", Path("x.wav"), labels={"speaker": speaker, "chapter": chapter}
        )
        for speaker in "ab"
        for chapter in "xy"
        for number in range(5)
    ]
    for count in (1, 3):
        expected = []
        for start in ("ax", "ay", "bx", "by"):
            own = [one.id for one in utterances if one.id.startswith(start)]
            expected += sorted(own, key=sha256_of_text)[:count]
        found = first_of_each(reversed(utterances), "speaker", "chapter", count=count)
        assert sorted(one.id for one in found) == sorted(expected)
    assert len(first_of_each(utterances, "speaker", count=7)) == 14


# Identification


def test_identification_by_loops(protocol):
    rng = np.random.default_rng(0)
    llrs = 2 * rng.standard_normal(27) + 3.0 * protocol.is_target
    result = open_set(protocol, llrs)
    table = {
        (protocol.model_speakers[model], test): llr
        for model, test, llr in zip(protocol.models, protocol.test_numbers, llrs, strict=True)
    }
    right = detected = alarms = 0
    for test, speaker in enumerate(protocol.test_speakers):
        own = {name: table[name, test] for name in protocol.model_speakers}
        best = max(own, key=own.get)
        one_of_all = math.log(sum(math.exp(llr) for llr in own.values()) / 3)
        others = [llr for name, llr in own.items() if name != speaker]
        one_of_others = math.log(sum(math.exp(llr) for llr in others) / 2)
        right += best == speaker
        detected += best == speaker and one_of_all >= 0
        alarms += one_of_others >= 0
    assert 0 < detected < right < 9 or 0 < alarms < 9  # or the comparison says little
    assert (result.accuracy, result.detection, result.false_alarm) == (right / 9, detected / 9, alarms / 9)
    # The curve goes through the point that the costs choose.
    place = np.searchsorted(result.curve.thresholds, 0.0)
    assert result.curve.detection[place] == pytest.approx(detected / 9, abs=1e-12)


def test_identification_needs_every_pair_once(protocol):
    llrs = np.zeros(27)
    cases = {
        "a pair twice, and one never": {"models": np.array([1, *protocol.models[1:]])},
        "two models of a speaker": {"model_speakers": ["ann", "ann", "cat"]},
        "a stranger": {"test_speakers": [*protocol.test_speakers[:-1], "dan"]},
    }
    for change in cases.values():
        changed = Protocol(**{**vars_of(protocol), **change})
        with pytest.raises(InputError, match="each of them tried against every test"):
            open_set(changed, llrs)


def vars_of(protocol):
    names = ("background", "enrolment", "model_speakers", "tests", "test_speakers", "models", "test_numbers")
    return {name: getattr(protocol, name) for name in names}


def test_identification_of_one_speaker_is_refused():
    alone = all_pairs(speech_of_people(["eve"], 1), speech_of_people(["ann"], 2), 1)
    with pytest.raises(InputError, match="two speakers or more"):
        open_set(alone, np.zeros(1))


# Systems


def test_systems_on_a_protocol_are_what_their_parts_give(protocol, make_recipe, capsys):
    recipe = make_recipe("--seed", 3)
    results = recipe.verify(protocol, recipe.systems())
    assert list(results) == ["top", "top_snorm", "linear"]
    speech = [frames for own in protocol.background.values() for _, frames, _ in own]
    enroller = Enroller(train_ubm_on_frames(speech, settings=recipe.ubm()).background, recipe.adaptation())
    made = enroller.enrol_many(protocol.enrolment)
    models = [enroller.model(made[name]) for name in protocol.enrolment]
    for name, method in (("top", "top"), ("linear", "linear")):
        scorer = TrialScorer(enroller.background.ubm, models, method, 4)
        scores = scorer.score(protocol.tests, protocol.models, protocol.test_numbers)
        np.testing.assert_array_equal(results[name].scores, scores)
    # Calibrated on the background speakers alone.
    crossed = cross_fit(
        protocol.background,
        [recipe.systems()["top"]],
        ubm=recipe.ubm(),
        adaptation=recipe.adaptation(),
        n_folds=3,
        n_enrol=2,
    )
    own = crossed.scores[recipe.systems()["top"]]
    calibration = fit_calibration(own[crossed.is_target], own[~crossed.is_target], 0.3)
    np.testing.assert_array_equal(results["top"].llrs, calibration.apply(results["top"].scores))
    assert results["top"].figures.n_target == 9
    assert results["top"].figures.n_nontarget == 18
    out = capsys.readouterr().out
    assert [line.split("  ")[0] for line in out.splitlines()] == [
        *("background model", "enrolment", "calibration trials"),
        *("trials, linear-4", "trials, top-4", "figures"),
    ]


def test_the_cohort_calibrates_where_there_is_one(protocol, make_recipe):
    few = {name: own[:2] for name, own in protocol.background.items()}
    recipe = make_recipe()
    systems = {"top": System(top=4)}
    whole = recipe.verify(protocol, systems)["top"]
    part = recipe.verify(Protocol(**vars_of(protocol), cohort=few), systems)["top"]
    np.testing.assert_array_equal(part.scores, whole.scores)
    assert (part.llrs != whole.llrs).all()


def test_a_recipe_shows_systems_side_by_side(protocol, make_recipe, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    recipe = make_recipe()
    results = recipe.verify(protocol, {"top": System(top=4)})
    capsys.readouterr()
    recipe.show("A title", results)
    out = capsys.readouterr().out
    assert "A title" in out
    figures = results["top"].figures
    low, high = figures.intervals["eer"]
    assert f"{figures.figures['eer']:.2%} ({100 * low:.2f} to {100 * high:.2f})" in out
    assert f"{figures.figures['cllr']:.3f} (" in out
    assert "9 target and 18 nontarget trials" in out
    recipe.show_open_set({"top": open_set(protocol, results["top"].llrs)})
    assert f"{open_set(protocol, results['top'].llrs).accuracy:.2%}" in capsys.readouterr().out


def test_without_matplotlib_pictures_are_left_out(protocol, make_recipe, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("speechgmm.recipe_verification.find_spec", lambda name: None)
    recipe = make_recipe()
    scores = np.arange(27.0)
    result = SystemResult(scores, scores, TrialFigures({}, {}, 9, 18))
    recipe.draw_det(protocol, {"top": result})
    recipe.draw_open_set({"top": open_set(protocol, scores)})
    out = capsys.readouterr().out
    assert "no det.png: it needs matplotlib" in out
    assert "no open_set.png" in out
    assert not (tmp_path / "out").exists()


def test_settings_are_changed_one_at_a_time(protocol, make_recipe, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    recipe = make_recipe()
    before, asked = recipe.config, []

    def background(features):
        asked.append(features.n_coefficients)
        return protocol.background

    changes = [("features", "n_coefficients", [4]), ("background", "n_components", [2, 8])]
    recipe.compare_one_by_one(background, 2, changes)
    assert asked == [3, 4]
    assert recipe.config == before
    rows = [
        [cell.strip() for cell in line.split("│")[1:-1]]
        for line in capsys.readouterr().out.splitlines()
        if "│" in line
    ]
    assert [row[:2] for row in rows] == [
        *(["as configured", ""], ["n_coefficients", "4"]),
        *(["n_components", "2"], ["n_components", "8"]),
    ]
    crossed = recipe.cross_fit(protocol.background, [System()], 2)
    assert rows[0][2] == f"{figures_of(crossed, System())['eer']:.4f}"
    assert rows[0][2:] == rows[1][2:]  # the same frames stand for both
    assert rows[2][2:] != rows[3][2:]


# Metrics


def test_metrics_have_plain_names():
    nothing = np.zeros(0)

    def result(eer, cllr):
        figures = {"eer": eer, "cllr": cllr}
        intervals = {name: (value / 2, 2 * value) for name, value in figures.items()}
        return SystemResult(nothing, nothing, TrialFigures(figures, intervals, 1, 1))

    results = {"top": result(0.1, 0.5), "s": result(0.2, 0.6), "z": result(0.3, 0.7)}
    values, intervals = metrics_of(results, "top", "s", "_chapters")
    assert values == {
        "eer_top_chapters": 0.1,
        "eer_s_chapters": 0.2,
        "eer_z_chapters": 0.3,
        "cllr_top_chapters": 0.5,
        "cllr_s_chapters": 0.6,
        "cllr_z_chapters": 0.7,
        "eer_chapters": 0.1,
        "cllr_chapters": 0.5,
        "eer_snorm_chapters": 0.2,
    }
    assert intervals == {name: (value / 2, 2 * value) for name, value in values.items()}


# Options and files


def test_the_list_of_trials_is_given_or_beside_the_audio(make_recipe, tmp_path):
    folder = tmp_path / "data" / "toy"
    folder.mkdir(parents=True)
    (folder / "example.txt").write_text("")
    options = ("--data-dir", tmp_path / "data")
    assert make_recipe(*options, trials="list.txt").trials_file(CORPUS) == folder / "list.txt"
    beside = make_recipe("--manifest", tmp_path / "m.jsonl", trials="list.txt")
    assert beside.trials_file(CORPUS) == tmp_path / "list.txt"
    given = make_recipe("--trials", "my.txt", "--seed", 4, trials="list.txt")
    assert given.trials_file(CORPUS) == Path("my.txt")
    assert given.options.seed == 4


def test_the_option_for_trials_is_where_a_corpus_has_a_list(make_recipe, capsys):
    with pytest.raises(SystemExit, match="2"):
        make_recipe("--trials", "my.txt")
    assert "unrecognized arguments: --trials my.txt" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="0"):
        make_recipe("--help", trials="list.txt")
    assert "--trials FILE" in " ".join(capsys.readouterr().out.split())


def test_utterances_are_those_of_a_manifest_or_of_the_folder(make_recipe, tmp_path):
    folder = tmp_path / "data" / "toy"
    folder.mkdir(parents=True)
    (folder / "example.txt").write_text("")
    found = [Utterance("a", folder / "a.wav"), Utterance("b", folder / "b.wav")]
    asked = []

    def list_folder(given):
        asked.append(given)
        return found

    options = ("--data-dir", tmp_path / "data")
    assert make_recipe(*options).listed(CORPUS, list_folder) == found
    assert asked == [folder]
    write_manifest(found[:1], tmp_path / "data" / "m.jsonl")
    recipe = make_recipe("--manifest", tmp_path / "data" / "m.jsonl")
    assert [one.id for one in recipe.listed(CORPUS, list_folder)] == ["a"]
    assert len(asked) == 1


def test_frames_are_kept_in_the_output_folder(make_recipe, write_tone, tmp_path, monkeypatch):
    path = write_tone(tmp_path / "a.wav")
    parts = [Utterance("b", path, start=0.2, end=0.5), Utterance("a", path), Utterance("a", path)]
    first = make_recipe().extract_to_store(parts)
    assert [one.id for one in first.utterances] == ["a", "b"]
    assert list((tmp_path / "out" / "features").iterdir())
    assert not any(frames.flags.writeable for frames in first.frames)  # views of the store's files
    monkeypatch.setattr(
        "speechgmm.features.FeatureExtractor._read", lambda *_: pytest.fail("audio is read once more")
    )
    second = make_recipe().extract_to_store(parts)
    for before, after in zip(first.frames, second.frames, strict=True):
        np.testing.assert_array_equal(before, after)


def test_audio_that_cannot_be_read_ends_the_recipe(make_recipe, write_tone, tmp_path):
    good = Utterance("a", write_tone(tmp_path / "a.wav"))
    with pytest.raises(InputError, match=r"1 utterances cannot be read; the first: .*none\.wav"):
        make_recipe().extract_to_store([good, Utterance("b", tmp_path / "none.wav")])
