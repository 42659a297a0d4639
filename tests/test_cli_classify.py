"""`speechgmm classify` and `evaluate`."""

import json
import re
import shutil

import numpy as np
import pytest

from speechgmm.errors import InputError
from speechgmm.metrics.identification import wilson_interval
from speechgmm.model_file import Model
from tests.cli_tools import (
    N_TAKES,
    SPEAKERS,
    damaged,
    make_world,
    plain,
    run,
    strict_json,
    table_rows,
)

N_FILES = N_TAKES * len(SPEAKERS)
COLUMNS = ["file", "label", "best", "posterior", "runner_up", "margin", "llr", "score", "frames"]
# Of 0.6 s, one every 10 ms, the first at 0.
N_FRAMES = 61


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


# classify


def test_classify_gives_tsv(world):
    result = run("classify", world.model, world.corpus)
    assert (result.code, result.err) == (0, "")
    header, *rows = result.rows
    assert header == COLUMNS
    assert [row[0] for row in rows] == sorted(str(path) for path in world.corpus.rglob("*.wav"))
    for file, label, best, posterior, runner_up, margin, llr, score, frames in rows:
        assert file.startswith(f"{world.corpus}/{label}/")
        assert best == label
        assert runner_up in set(SPEAKERS) - {label}
        assert 1 / len(SPEAKERS) < float(posterior) <= 1
        assert float(margin) > 0
        assert frames == str(N_FRAMES)
        assert all(re.fullmatch(r"-?\d+\.\d{6}", text) for text in (posterior, margin, llr, score))


def test_classify_takes_files_and_folders_in_order_each_once(world):
    files = [world.corpus / "dé f" / "s2" / "take 5.wav", world.corpus / "ann" / "s0"]
    result = run("classify", world.model, *files, files[0])
    names = [str(files[0]), *(str(files[1] / f"take {take}.wav") for take in (0, 1))]
    assert [row[0] for row in result.rows[1:]] == names
    assert [row[1] for row in result.rows[1:]] == ["dé f", "ann", "ann"]


def test_classify_says_the_same_in_every_format(world):
    folder = world.corpus / "[red]cat"
    tsv, jsonl, table = (
        run("classify", world.model, folder, "--format", name) for name in ("tsv", "jsonl", "table")
    )
    assert tsv == run("classify", world.model, folder, "-f", "auto")
    decisions = [strict_json(line) for line in jsonl.lines]
    assert len(decisions) == N_TAKES
    for decision, row in zip(decisions, tsv.rows[1:], strict=True):
        assert {"label", "best", "runner_up", "score", "margin", "llr", "posterior"} <= set(decision)
        assert decision["accepted"] is True
        assert row[0] in decision.values()
        assert [decision["label"], decision["runner_up"]] == [row[1], row[4]]
        numbers = [decision[name] for name in ("posterior", "margin", "llr", "score")]
        assert [f"{number:.6f}" for number in numbers] == [row[3], *row[5:8]]
    assert table.out.count(" [red]cat ") == N_TAKES
    assert "file label posterior runner_up margin llr" in plain(table.out)
    assert plain(table.out).count(f"{decisions[0]['llr']:.4f}") == 1


def test_classify_names_the_columns_of_jsonl_and_tsv_alike(world):
    result = run("classify", world.model, world.corpus / "ann", "-f", "jsonl")
    assert set(COLUMNS) <= set(json.loads(result.lines[0]))


def test_a_threshold_rejects_winners_below_it(world):
    accepted = run("classify", world.model, world.corpus)
    ratios = sorted(float(row[6]) for row in accepted.rows[1:])
    middle = (ratios[N_FILES // 2 - 1] + ratios[N_FILES // 2]) / 2
    result = run("classify", world.model, world.corpus, "--threshold", middle, "-f", "jsonl")
    decisions = [json.loads(line) for line in result.lines]
    assert sum(decision["accepted"] for decision in decisions) == N_FILES // 2
    for decision in decisions:
        assert decision["accepted"] == (decision["llr"] >= middle) == (decision["label"] != "unknown")
        assert decision["best"] in SPEAKERS


@pytest.mark.parametrize("command", ["classify", "evaluate"])
def test_a_threshold_that_is_no_number_is_refused(world, command):
    source = world.corpus if command == "classify" else world.manifest
    result = run(command, world.model, source, "--threshold", "nan")
    assert (result.code, result.out) == (2, "")
    assert result.err == "speechgmm: `threshold` is nan; it must be a number\n"


def test_classify_lists_bad_files_at_the_end_and_does_the_others(world, tmp_path):
    bad = damaged(world, tmp_path, "ann/s0/take 0.wav")
    (tmp_path / "empty").mkdir()
    others = [tmp_path / "none[1].wav", tmp_path / "empty"]
    result = run("classify", world.model, bad.corpus / "ann", *others, "-j", 1)
    assert result.code == 1
    assert len(result.rows) == N_TAKES
    assert [row[1] for row in result.rows[1:]] == ["ann"] * (N_TAKES - 1)
    assert len(result.problems) == 3
    text = "\n".join(result.problems)
    assert f"problem: {others[0]}: no such file or folder" in text
    assert f"problem: {others[1]}: holds no audio files (" in text
    assert "take 0.wav: cannot be read as audio" in text
    assert result.err.splitlines()[-1] == "3 problems; everything else is done"


def test_classify_names_a_bad_file_once(world, tmp_path):
    bad = damaged(world, tmp_path, "ann/s0/take 0.wav")
    result = run("classify", world.model, bad.corpus / "ann")
    assert result.problems[0].count("take 0.wav") == 1


@pytest.mark.parametrize("content", [None, "an empty folder", "no audio"])
def test_classify_of_nothing_usable_is_an_error(world, tmp_path, content):
    path = tmp_path / "a.wav"
    if content == "an empty folder":
        path.mkdir()
    elif content:
        path.write_text("this is not audio")
    result = run("classify", world.model, path)
    assert (result.code, result.out) == (2, "")


def test_a_file_with_a_tab_in_its_name_stops_no_other(world, tmp_path):
    audio = next(world.corpus.glob("ann/*/*.wav"))
    for name in ("a\tb.wav", "good.wav"):
        shutil.copy(audio, tmp_path / name)
    result = run("classify", world.model, tmp_path)
    assert result.code == 1
    assert [row[0] for row in result.rows[1:]] == [str(tmp_path / "good.wav")]
    assert "a\\tb.wav" in result.problems[0]


def model_of(world, folder, names):
    """A model whose classes have other names, through its file, so that no check of training helps."""
    loaded = Model.load(world.model)
    labels = tuple(sorted(names))
    Model(
        label="speaker",
        labels=labels,
        mixtures=loaded.mixtures[: len(labels)],
        background=loaded.background,
        posterior_scale=loaded.posterior_scale,
        log_priors=np.log(np.full(len(labels), 1 / len(labels))),
        features=loaded.features,
    ).save(folder / "renamed.model")
    return folder / "renamed.model"


@pytest.mark.parametrize("label", ["a\tb", "c\nd", "e\rf", ""])
def test_labels_that_would_break_tsv_are_in_no_model(world, tmp_path, label):
    with pytest.raises(InputError, match="texts that are not empty, without control characters"):
        model_of(world, tmp_path, [label, "z"])


def test_one_class_alone_gives_valid_json(world, tmp_path):
    model = model_of(world, tmp_path, ["only"])
    result = run("classify", model, world.corpus / "ann", "-f", "jsonl")
    assert result.code == 0
    assert {strict_json(line)["label"] for line in result.lines} == {"only"}


def test_a_table_in_a_pipe_folds_nothing(world, tmp_path):
    path = tmp_path / ("a very long name " * 12 + ".wav")
    shutil.copy(next(world.corpus.glob("ann/*/*.wav")), path)
    result = run("classify", world.model, path, "-f", "table")
    assert path.name in result.out


# evaluate


def test_evaluate_gives_accuracy_with_its_interval_and_figures_of_each_class(world):
    result = run("evaluate", world.model, world.manifest, "--split", "test")
    assert (result.code, result.err) == (0, "")
    low, high = wilson_interval(8, 8)
    last = f"accuracy 100.00% (8 of 8), 95 % interval {low:.2%} to {high:.2%}"
    assert result.lines[-1] == last
    assert "speaker utterances correct recall precision F1" in plain(result.out)
    assert table_rows(result.out) == [[name, "2", "2", *["1.0000"] * 3] for name in SPEAKERS]
    assert "confusions" not in result.out


def mislabelled(world, folder):
    """The manifest with two of ann's utterances in bob's name."""
    rows = [json.loads(line) for line in world.manifest.read_text("utf-8").splitlines()]
    for row in [row for row in rows if row["labels"]["speaker"] == "ann"][:2]:
        row["labels"]["speaker"] = "bob"
    (folder / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "m.jsonl"


def test_evaluate_shows_confusions(world, tmp_path):
    manifest = mislabelled(world, tmp_path)
    result = run("evaluate", world.model, manifest, "--data-dir", world.corpus.parent)
    assert result.code == 0
    assert "Most frequent confusions truth decided count bob ann 2" in plain(result.out)
    classes = {row[0]: row[1:] for row in table_rows(result.out)[:4]}
    assert classes["bob"] == ["8", "6", "0.7500", "1.0000", "0.8571"]
    assert classes["ann"] == ["4", "4", "1.0000", "0.6667", "0.8000"]
    assert result.lines[-1].startswith("accuracy 91.67% (22 of 24), 95 % interval ")


def test_evaluate_writes_its_figures_as_json(world, tmp_path):
    manifest = mislabelled(world, tmp_path)
    options = ("--data-dir", world.corpus.parent, "--json", tmp_path / "new" / "figures.json")
    shown = run("evaluate", world.model, manifest, *options[:2])
    assert run("evaluate", world.model, manifest, *options) == shown
    figures = strict_json((tmp_path / "new" / "figures.json").read_text("utf-8"))
    assert set(figures) == {
        *("accuracy", "accuracy_interval_95", "n_utterances", "n_correct", "classes", "confusions"),
        "problems",
    }
    assert (figures["accuracy"], figures["n_utterances"], figures["n_correct"]) == (22 / 24, 24, 22)
    assert figures["accuracy_interval_95"] == list(wilson_interval(22, 24))
    assert figures["confusions"] == [{"truth": "bob", "decided": "ann", "count": 2}]
    assert figures["problems"] == []
    assert [row["label"] for row in figures["classes"]] == SPEAKERS
    bob = {"label": "bob", "n": 8, "correct": 6, "recall": 0.75, "precision": 1.0, "f1": pytest.approx(6 / 7)}
    assert figures["classes"][2] == bob


def test_evaluate_lists_bad_files_at_the_end_and_does_the_others(world, tmp_path):
    bad = damaged(world, tmp_path, "ann/s0/take 0.wav")
    result = run("evaluate", world.model, bad.manifest, "--json", tmp_path / "figures.json")
    assert result.code == 1
    assert result.lines[-1].startswith("accuracy 100.00% (23 of 23), ")
    assert len(result.problems) == 1
    assert result.problems[0].startswith("problem: ann/s0/take 0: ")
    figures = strict_json((tmp_path / "figures.json").read_text("utf-8"))
    assert [problem["utterance"] for problem in figures["problems"]] == ["ann/s0/take 0"]


def test_evaluate_of_nothing_usable_is_an_error(world, tmp_path):
    bad = damaged(world, tmp_path)
    shutil.rmtree(bad.corpus)
    result = run("evaluate", world.model, bad.manifest, "--json", tmp_path / "figures.json")
    assert (result.code, result.out) == (2, "")
    (line,) = result.err.splitlines()
    assert line.startswith("speechgmm: there is nothing to evaluate: no utterance could be used; the first: ")
    assert not (tmp_path / "figures.json").exists()


def test_evaluate_warns_of_speakers_that_the_model_does_not_know(world, tmp_path):
    text = world.manifest.read_text("utf-8").replace('"speaker": "bob"', '"speaker": "eve"')
    (tmp_path / "m.jsonl").write_text(text, "utf-8")
    options = ("--data-dir", world.corpus.parent)
    result = run("evaluate", world.model, tmp_path / "m.jsonl", *options)
    (line,) = result.err.splitlines()
    assert line.startswith("warning: the model does not know speaker eve; ")
    assert result.code == 0
    assert result.lines[-1].startswith("accuracy 75.00% (18 of 24), ")
    rejecting = run("evaluate", world.model, tmp_path / "m.jsonl", *options, "--threshold", "1e9")
    assert rejecting.lines[-1].startswith("accuracy 25.00% (6 of 24), ")


def test_evaluate_needs_the_label_of_the_model(world, tmp_path):
    text = world.manifest.read_text("utf-8").replace('"speaker":', '"name":')
    (tmp_path / "m.jsonl").write_text(text, "utf-8")
    result = run("evaluate", world.model, tmp_path / "m.jsonl", "--data-dir", world.corpus.parent)
    assert (result.code, result.out) == (2, "")
    assert "has no label 'speaker'; it has 'name', 'session', 'take'" in result.err
