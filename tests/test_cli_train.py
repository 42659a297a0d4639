"""`speechgmm train` and `inspect`."""

import shutil
from dataclasses import replace
from unittest.mock import patch

import pytest

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
# Of 0.6 s, one every 10 ms, the first at 0.
N_FRAMES = 61


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


# train


def test_train_reports_each_class_and_writes_the_model(world, tmp_path):
    out = tmp_path / "new folder" / "m.model"
    result = run("train", world.manifest, "-o", out, "-k", 4, "--split", "train", "-j", 1)
    assert (result.code, result.err) == (0, "")
    header = "speaker files seconds frames components iterations converged log-likelihood"
    assert header in plain(result.out)
    assert result.lines[-1] == f"{out}: 4 classes of 'speaker'"
    rows = table_rows(result.out)
    assert [row[0] for row in rows] == SPEAKERS
    for row in rows:
        assert row[1:5] == ["4", "2.4000", str(4 * N_FRAMES), "4"]
    assert [path.name for path in out.parent.iterdir()] == ["m.model"]
    assert out.read_bytes() == world.model.read_bytes()


def test_train_gives_the_same_bytes_whatever_the_number_of_workers(world, tmp_path):
    for jobs in (1, 2):
        options = ("-o", tmp_path / f"{jobs}.model", "-k", 3, "--seed", 5, "-j", jobs)
        assert run("train", world.manifest, *options).code == 0
    assert (tmp_path / "1.model").read_bytes() == (tmp_path / "2.model").read_bytes()
    assert run("train", world.manifest, "-o", tmp_path / "s.model", "-k", 3, "--seed", 6, "-j", 1).code == 0
    assert (tmp_path / "s.model").read_bytes() != (tmp_path / "1.model").read_bytes()


def test_train_settings_come_from_the_file_and_options_win(world, tmp_path):
    config = tmp_path / "c.toml"
    config.write_text(
        "[features]\nn_coefficients = 7\ndelta_orders = 0\n[training]\nn_components = 3\nseed = 9\n"
    )
    assert run("train", world.manifest, "-o", tmp_path / "a", "--config", config).code == 0
    model = Model.load(tmp_path / "a")
    assert (model.n_features, model.mixtures[0].n_components) == (7, 3)
    assert (model.features.sample_rate, model.record["settings"]["seed"]) == (8000, 9)
    options = ("--config", config, "--components", 2, "--seed", 0)
    assert run("train", world.manifest, "-o", tmp_path / "b", *options).code == 0
    model = Model.load(tmp_path / "b")
    assert (model.n_features, model.mixtures[0].n_components) == (7, 2)
    assert model.record["settings"]["seed"] == 0


def test_train_on_another_label(world, tmp_path):
    result = run("train", world.manifest, "-o", tmp_path / "m", "--label", "session", "-k", 2)
    assert result.lines[-1] == f"{tmp_path / 'm'}: 3 classes of 'session'"
    assert Model.load(tmp_path / "m").labels == ("s0", "s1", "s2")


def test_train_shows_a_label_in_brackets(world, tmp_path):
    text = world.manifest.read_text("utf-8").replace('"speaker":', '"[who]":')
    (tmp_path / "m.jsonl").write_text(text, "utf-8")
    options = ("--label", "[who]", "-k", 1, "--data-dir", world.corpus.parent)
    result = run("train", tmp_path / "m.jsonl", "-o", tmp_path / "m", *options)
    assert result.code == 0
    assert "[who] files " in plain(result.out)


def test_train_lists_bad_files_at_the_end_and_does_the_others(world, tmp_path):
    bad = damaged(world, tmp_path, "ann/s0/take 0.wav")
    result = run("train", bad.manifest, "-o", tmp_path / "m", "-k", 2, "-j", 1)
    assert result.code == 1
    problem, last = result.err.splitlines()
    assert problem.startswith("problem: ann/s0/take 0: ")
    assert "cannot be read as audio" in problem
    assert last.endswith("; everything else is done")
    assert dict(zip(SPEAKERS, table_rows(result.out), strict=True))["ann"][1] == str(N_TAKES - 1)
    assert Model.load(tmp_path / "m").labels == tuple(SPEAKERS)


def test_train_on_nothing_usable_writes_nothing(world, tmp_path):
    bad = damaged(world, tmp_path)
    shutil.rmtree(bad.corpus)
    result = run("train", bad.manifest, "-o", tmp_path / "m", "-j", 1)
    assert (result.code, result.out) == (2, "")
    (line,) = result.err.splitlines()
    assert line.startswith(f"speechgmm: none of the {N_FILES} utterances can be used; the first: ")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--label", "mood"), "has no label 'mood'; it has 'session', 'speaker', 'take'"),
        (("--split", "dev"), "no utterance has split 'dev'; there are split: 'test', 'train'"),
        (("--components", "0"), "it must be a whole number from 1"),
        (("--seed", "-1"), "`seed` is -1; it must be a whole number from 0"),
        (("--jobs", "0"), "`n_jobs` is 0; it must be 1 or more, or -1 for all cores"),
        (("--config", "none.toml"), "none.toml: cannot be read (No such file or directory)"),
        (("--data-dir", "none"), "data folder 'none': no such folder"),
    ],
)
def test_train_refuses_what_cannot_be(world, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    result = run("train", world.manifest, "-o", "m", *options)
    assert (result.code, result.out) == (2, "")
    (line,) = result.err.splitlines()
    assert line.startswith("speechgmm: ")
    assert message in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[training]\nn_component = 3\n", "unknown training setting 'n_component'"),
        ("[model]\n", "has 'model'; there can be the tables [features] and [training]"),
        ("[training\n", "is not TOML"),
        ("[features]\nn_coefficient = 3\n", "unknown feature setting 'n_coefficient'"),
    ],
)
def test_train_names_the_settings_file_and_what_is_wrong_in_it(world, tmp_path, text, message):
    (tmp_path / "c.toml").write_text(text)
    result = run("train", world.manifest, "-o", tmp_path / "m", "--config", tmp_path / "c.toml")
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert result.err.startswith(f"speechgmm: {tmp_path / 'c.toml'}: ")


def test_a_model_that_cannot_be_written_is_one_line(world, tmp_path):
    (tmp_path / "file").write_text("in the way")
    for place in (tmp_path, tmp_path / "file" / "m"):
        result = run("train", world.manifest, "-o", place, "-k", 1, "-j", 1)
        assert result.code == 2
        assert result.err.startswith(f"speechgmm: {place}: cannot be written (")
        assert len(result.err.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_model_that_cannot_be_written_is_said_before_the_work(world, tmp_path):
    with patch("speechgmm.trainer.train", side_effect=AssertionError("trained for nothing")):
        assert run("train", world.manifest, "-o", tmp_path).code == 2


# inspect


def test_inspect_shows_tables(world):
    result = run("inspect", world.model)
    assert (result.code, result.err) == (0, "")
    cells = dict(row for row in table_rows(result.out) if len(row) == 2)
    assert (cells["label"], cells["classes"], cells["features"]) == ("speaker", "4", "60")
    assert (cells["sample_rate"], cells["n_coefficients"]) == ("8000", "20")
    assert (cells["seed"], cells["variance_floor"]) == ("0", "0.01")
    text = plain(result.out)
    assert all(title in text for title in ("Model what value", "Features setting", "Made with", "Classes"))
    assert all(name in text for name in SPEAKERS)


def test_inspect_names_the_class_first(world):
    rows = [row for row in table_rows(run("inspect", world.model).out) if len(row) > 2]
    assert [row[0] for row in rows] == SPEAKERS


def test_inspect_keeps_the_digits_of_small_numbers(world, tmp_path):
    replace(Model.load(world.model), posterior_scale=0.0001708).save(tmp_path / "m")
    cells = dict(row for row in table_rows(run("inspect", tmp_path / "m").out) if len(row) == 2)
    assert float(cells["posterior_scale"]) == pytest.approx(0.0001708, rel=1e-2)


def test_inspect_gives_json(world):
    result = run("inspect", world.model, "--json")
    assert (result.code, result.err) == (0, "")
    facts = strict_json(result.out)
    model = Model.load(world.model)
    assert set(facts) == {
        *("label", "classes", "features", "background_components", "posterior_scale", "components"),
        *("front_end", "record"),
    }
    assert facts["components"] == dict.fromkeys(SPEAKERS, 4)
    assert (facts["label"], facts["classes"], facts["features"]) == ("speaker", 4, 60)
    assert facts["posterior_scale"] == model.posterior_scale
    assert facts["front_end"] == model.features.to_dict()
    assert facts["record"] == model.record


def test_inspect_keeps_names_readable_in_json(world):
    assert '"dé f": 4' in run("inspect", world.model, "--json").out


def test_a_model_of_frames_is_inspected_but_classifies_no_audio(world, tmp_path):
    replace(Model.load(world.model), features=None, record={}).save(tmp_path / "frames.model")
    shown = run("inspect", tmp_path / "frames.model")
    assert shown.code == 0
    assert "Frames were made elsewhere: this model scores frames, not audio." in shown.lines
    assert strict_json(run("inspect", tmp_path / "frames.model", "--json").out)["front_end"] is None
    for command in (["classify", world.corpus], ["evaluate", world.manifest]):
        result = run(command[0], tmp_path / "frames.model", command[1])
        assert (result.code, result.out) == (2, "")
        assert "this model was trained on frames made elsewhere" in result.err
