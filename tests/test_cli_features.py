"""`speechgmm features`: into a store, and as a picture; and `train --store`."""

import json
import re
import shutil
import sys

import numpy as np
import pytest
import soundfile

from speechgmm.features import FeatureConfig, FeatureExtractor
from speechgmm.features.store import FeatureStore
from speechgmm.manifest import read_manifest, select
from tests.cli_tools import N_TAKES, SPEAKERS, damaged, make_world, plain, run, run_on_terminal, run_process

N_FILES = N_TAKES * len(SPEAKERS)
# Of 0.6 s, one every 10 ms, the first at 0.
N_FRAMES = 61
CONFIG = FeatureConfig(sample_rate=8000, n_coefficients=7, delta_orders=1)
TOML = "[features]\nn_coefficients = 7\ndelta_orders = 1\n"
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(TOML)
    return path


def summary(folder, n_utterances=N_FILES, n_new=N_FILES, n_features=14):
    utterances = "1 utterance" if n_utterances == 1 else f"{n_utterances} utterances"
    new = "1 new utterance" if n_new == 1 else f"{n_new} new utterances"
    return f"{folder}: {utterances}, {n_utterances * N_FRAMES} frames of {n_features} features at 8000 Hz ({new})\n"


# Into a store


@pytest.mark.parametrize("jobs", [1, 2, -1])
def test_features_of_a_manifest_into_a_store(world, config, tmp_path, jobs):
    folder = tmp_path / "new folder" / "store"
    result = run("features", world.manifest, "-o", folder, "--config", config, "-j", jobs)
    assert (result.code, result.err) == (0, "")
    assert result.out == summary(folder)
    store = FeatureStore(folder, CONFIG, create=False)
    assert store.verify() == []
    utterances = {one.id: one for one in read_manifest(world.manifest)}
    assert {entry.utterance for entry in store.entries()} == set(utterances)
    for entry in store.entries():
        frames = FeatureExtractor(CONFIG).from_utterance(utterances[entry.utterance])
        np.testing.assert_array_equal(store.frames(entry.key), frames)


def test_a_second_run_finds_everything_there(world, config, tmp_path):
    folder = tmp_path / "store"
    for n_new in (N_FILES, 0):
        result = run("features", world.manifest, "--output", folder, "--config", config)
        assert (result.code, result.out, result.err) == (0, summary(folder, n_new=n_new), "")


def test_a_run_goes_on_with_what_is_missing(world, config, tmp_path):
    folder = tmp_path / "store"
    options = ("-o", folder, "--config", config)
    n_test = len(select(read_manifest(world.manifest), "test"))
    result = run("features", world.manifest, "--split", "test", *options)
    assert result.out == summary(folder, n_test, n_test)
    result = run("features", world.manifest, *options)
    assert result.out == summary(folder, n_new=N_FILES - n_test)


def test_other_settings_share_the_folder(world, config, tmp_path):
    folder = tmp_path / "store"
    assert run("features", world.manifest, "-o", folder, "--config", config).code == 0
    # Without any: the default, at the files' own rate.
    result = run("features", world.manifest, "-o", folder)
    assert (result.code, result.out) == (0, summary(folder, n_features=60))
    assert len(FeatureStore(folder, FeatureConfig(sample_rate=8000), create=False)) == N_FILES
    assert len(FeatureStore(folder, CONFIG, create=False)) == N_FILES


def test_a_preset_from_the_file(world, tmp_path):
    (tmp_path / "c.toml").write_text('[features]\npreset = "kaldi"\nnormalisation = "sliding_mean"\n')
    result = run("features", world.manifest, "-o", tmp_path / "s", "--config", tmp_path / "c.toml")
    assert result.code == 0 and " frames of 39 features " in result.out
    expected = FeatureConfig.preset("kaldi", sample_rate=8000, normalisation="sliding_mean")
    assert len(FeatureStore(tmp_path / "s", expected, create=False)) == N_FILES


def test_audio_may_lie_elsewhere(world, config, tmp_path):
    elsewhere = tmp_path / "lists"
    elsewhere.mkdir()
    shutil.copy(world.manifest, elsewhere)
    options = (elsewhere / world.manifest.name, "-o", tmp_path / "store", "--config", config)
    result = run("features", *options)
    assert result.code == 2
    assert result.err.splitlines()[-1] == f"{N_FILES} problems; no utterance can be used"
    result = run("features", *options, "--data-dir", world.corpus.parent)
    assert (result.code, result.out) == (0, summary(tmp_path / "store"))


def test_bad_files_are_listed_and_the_others_done(world, config, tmp_path):
    bad = damaged(world, tmp_path, "ann/s0/take 0.wav", "bob/s1/take 2.wav")
    options = (bad.manifest, "-o", tmp_path / "store", "--config", config)
    for n_new in (N_FILES - 2, 0):
        result = run("features", *options)
        assert (result.code, result.out) == (1, summary(tmp_path / "store", N_FILES - 2, n_new))
        first, second, last = result.err.splitlines()
        assert (
            first.startswith("problem: ann/s0/take 0: ") and "ann/s0/take 0.wav: cannot be read as" in first
        )
        assert second.startswith("problem: bob/s1/take 2: ")
        assert last == "2 problems; everything else is done"


def test_a_low_rate_is_warned_of_in_a_line(world, tmp_path):
    (tmp_path / "c.toml").write_text("[features]\nsample_rate = 16000\n")
    result = run("features", world.manifest, "-o", tmp_path / "s", "--config", tmp_path / "c.toml")
    assert result.code == 0
    (line,) = result.err.splitlines()
    assert line.startswith(f"warning: {N_FILES} audio files at 8000 Hz brought up to 16000 Hz")


def test_training_takes_the_frames_from_the_store(world, tmp_path, monkeypatch):
    """What `features` made with a file of settings is what `train` asks for with the same."""
    (tmp_path / "c.toml").write_text(TOML + "[training]\nn_components = 4\n")
    options = ("--config", tmp_path / "c.toml", "--split", "train", "-j", 1)
    assert run("train", world.manifest, "-o", tmp_path / "plain.model", *options).code == 0
    assert run("features", world.manifest, "-o", tmp_path / "store", *options).code == 0

    def refused(path, *arguments):
        raise AssertionError(f"the samples of {path} were read")

    monkeypatch.setattr("speechgmm.features.reading.read_audio", refused)
    options += ("--store", tmp_path / "store")
    result = run("train", world.manifest, "-o", tmp_path / "stored.model", *options)
    assert (result.code, result.err) == (0, "")
    assert (tmp_path / "stored.model").read_bytes() == (tmp_path / "plain.model").read_bytes()


def test_training_fills_a_store(world, tmp_path):
    options = ("-k", 4, "--split", "train", "-j", 1, "--store", tmp_path / "store")
    for name in ("first", "second"):
        result = run("train", world.manifest, "-o", tmp_path / name, *options)
        assert (result.code, result.err) == (0, "")
        assert (tmp_path / name).read_bytes() == world.model.read_bytes()
    result = run("features", world.manifest, "-o", tmp_path / "store", "--split", "train")
    assert result.out.endswith("(0 new utterances)\n")


# What people get wrong


def test_a_manifest_or_a_file_to_show_is_needed_and_not_both(world, config, tmp_path):
    message = "speechgmm: give a manifest and --output STORE, or --show FILE\n"
    for arguments in ((), (world.manifest, "--show", world.corpus / "ann" / "s0" / "take 0.wav")):
        result = run("features", *arguments, "-o", tmp_path / "store", "--config", config)
        assert (result.code, result.out, result.err) == (2, "", message)
    assert not (tmp_path / "store").exists()


def test_the_store_must_be_named(world):
    result = run("features", world.manifest)
    message = "speechgmm: --output is needed: the folder of the feature store\n"
    assert (result.code, result.out, result.err) == (2, "", message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[features]\nn_mels = 40\n", "unknown feature setting 'n_mels'; known are activity_components,"),
        (
            "[features]\nenergy = 'loud'\n",
            "feature setting `energy` is 'loud'; it can be c0, log, both, none",
        ),
        ("[features]\npreset = 'mine'\n", "there is no feature preset 'mine'; there are asvspoof, default,"),
        (
            "[features]\nhop_length = '10 ms'\n",
            "feature setting `hop_length` is '10 ms'; it must be like 0.01",
        ),
        (
            "features = 3\n",
            "has 'features'; there can be the tables [features], [training], [background] and [adaptation]",
        ),
        ("[features\n", "is not TOML"),
    ],
)
@pytest.mark.parametrize("mode", ["store", "show"])
def test_bad_settings_are_refused_before_anything_is_done(world, tmp_path, mode, text, message):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    source = (world.manifest,) if mode == "store" else ("--show", world.corpus / "ann" / "s0" / "take 0.wav")
    result = run("features", *source, "-o", tmp_path / "out.png", "--config", path)
    assert (result.code, result.out) == (2, "")
    (line,) = result.err.splitlines()
    assert line.startswith(f"speechgmm: {path}: {message}")
    assert not (tmp_path / "out.png").exists()


def test_settings_that_do_not_fit_the_files_are_refused(world, tmp_path):
    """They are sound in themselves, but the files' rate is not that of the default."""
    (tmp_path / "c.toml").write_text("[features]\nhigh_frequency = 7000\n")
    result = run("features", world.manifest, "-o", tmp_path / "s", "--config", tmp_path / "c.toml")
    assert (result.code, result.out) == (2, "")
    assert result.err == ("speechgmm: feature setting `high_frequency` is 7000; it must lie from 0 to 4000\n")


def test_what_is_not_there_is_named(world, config, tmp_path):
    for arguments, message in (
        (
            (tmp_path / "none.jsonl",),
            f"{tmp_path / 'none.jsonl'}: cannot be read (No such file or directory)",
        ),
        ((world.manifest, "--config", "none.toml"), "none.toml: cannot be read (No such file or directory)"),
        (
            (world.manifest, "--split", "dev"),
            "no utterance has split 'dev'; there are split: 'test', 'train'",
        ),
        ((world.manifest, "--data-dir", "none"), "data folder 'none': no such folder"),
        ((world.manifest, "-j", 0), "`n_jobs` is 0; it must be 1 or more, or -1 for all cores"),
        ((world.manifest, "-o", config), f"{config}: is a file; a feature store is a folder"),
    ):
        result = run("features", "-o", tmp_path / "store", *arguments)
        assert (result.code, result.out, result.err) == (2, "", f"speechgmm: {message}\n")


def test_a_folder_that_cannot_be_written_is_named(world, tmp_path):
    (tmp_path / "file").write_text("")
    result = run("features", world.manifest, "-o", tmp_path / "file" / "store")
    assert (result.code, result.out) == (2, "")
    (line,) = result.err.splitlines()
    assert line.startswith(f"speechgmm: {tmp_path / 'file' / 'store'}") and "cannot be written" in line


def test_a_damaged_store_is_named(world, config, tmp_path):
    folder = tmp_path / "store"
    options = ("features", world.manifest, "-o", folder, "--config", config)
    assert run(*options).code == 0
    (index,) = folder.rglob("index-*.jsonl")
    index.write_text(index.read_text().replace('"n_frames":61', '"n_frames":62', 1))
    result = run(*options)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"speechgmm: {index}: the line at byte ")
    assert "Traceback" not in result.err


# Pipes and terminals


def test_a_process_of_its_own_is_quiet_in_a_pipe(world, config, tmp_path):
    result = run_process("features", world.manifest, "-o", tmp_path / "store", "--config", config)
    assert (result.code, result.out, result.err) == (0, summary(tmp_path / "store"), "")


def test_progress_is_drawn_on_a_terminal_beside_a_clean_pipe(world, config, tmp_path):
    options = ("features", world.manifest, "-o", tmp_path / "store", "--config", config, "-j", 1)
    result = run_on_terminal(*options, pipe_output=True)
    assert (result.code, result.out) == (0, summary(tmp_path / "store"))
    assert re.search(rf"features .*\d+/{N_FILES}", plain(result.err))
    assert "Traceback" not in result.err


def test_the_help_names_both_uses():
    result = run("features", "--help")
    assert result.code == 0 and result.err == ""
    for words in (
        "manifest",
        "--output",
        "--show",
        "--config",
        "--split",
        "--data-dir",
        "--jobs",
        "feature store",
    ):
        assert words in plain(result.out)


# As a picture


@pytest.fixture(scope="module")
def matplotlib():
    return pytest.importorskip("matplotlib")


@pytest.fixture
def spoken(tmp_path):
    """Two bursts of noise in near silence."""
    samples = np.random.default_rng(0).standard_normal(8000) * np.where(
        np.arange(8000) % 4000 < 2000, 0.1, 1e-4
    )
    soundfile.write(tmp_path / "two bursts.wav", samples, 8000)
    return tmp_path / "two bursts.wav"


def test_show_writes_a_picture(matplotlib, spoken, tmp_path):
    picture = tmp_path / "new folder" / "p.png"
    result = run("features", "--show", spoken, "-o", picture)
    assert (result.code, result.out, result.err) == (0, f"{picture}\n", "")
    assert picture.read_bytes().startswith(PNG)
    again = tmp_path / "again.png"
    assert run("features", "--show", spoken, "-o", again).code == 0
    assert again.read_bytes() == picture.read_bytes()


def test_show_names_the_picture_after_the_file(matplotlib, spoken, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("features", "--show", spoken.name)
    assert (result.code, result.out, result.err) == (0, "two bursts.features.png\n", "")
    assert (tmp_path / "two bursts.features.png").read_bytes().startswith(PNG)


def test_show_obeys_the_settings(matplotlib, spoken, tmp_path):
    pictures = []
    for number, text in enumerate(("", "speech_activity = 'energy'\n", "preset = 'kaldi'\n")):
        (tmp_path / "c.toml").write_text(f"[features]\n{text}")
        picture = tmp_path / f"{number}.svg"
        result = run("features", "--show", spoken, "-o", picture, "--config", tmp_path / "c.toml")
        assert (result.code, result.err) == (0, "")
        pictures.append(picture.read_text())
    assert len(set(pictures)) == 3
    assert all(picture.startswith("<?xml") for picture in pictures)


def test_show_of_what_cannot_be_shown(matplotlib, world, spoken, tmp_path):
    (tmp_path / "text.wav").write_text("this is not audio")
    for arguments, words in (
        ((tmp_path / "text.wav",), "text.wav: cannot be read as audio"),
        ((tmp_path / "none.wav",), "none.wav: cannot be opened (No such file or directory)"),
        ((tmp_path,), "is a folder, not an audio file"),
        ((spoken, "-o", tmp_path / "p.gif"), "p.gif: a picture cannot be written as '.gif'; use .p"),
        ((spoken, "-o", tmp_path / "text.wav" / "p.png"), "p.png: cannot be written ("),
    ):
        result = run("features", "--show", *arguments[:1], "-o", tmp_path / "p.png", *arguments[1:])
        assert (result.code, result.out) == (2, "")
        (line,) = result.err.splitlines()
        assert line.startswith("speechgmm: ") and words in line
    assert not (tmp_path / "p.png").exists()


def test_show_of_too_short_a_file_names_it(matplotlib, tmp_path):
    soundfile.write(tmp_path / "short.wav", [0.5, -0.5], 8000)
    (tmp_path / "c.toml").write_text("[features]\npreset = 'kaldi'\n")
    options = ("-o", tmp_path / "p.png", "--config", tmp_path / "c.toml")
    result = run("features", "--show", tmp_path / "short.wav", *options)
    message = '2 samples are shorter than one window of 200; `framing` "centred" takes audio of any length'
    assert (result.code, result.err) == (2, f"speechgmm: {tmp_path / 'short.wav'}: {message}\n")


def test_show_without_matplotlib_says_how_to_get_it(spoken, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run("features", "--show", spoken, "-o", tmp_path / "p.png")
    assert (result.code, result.out) == (2, "")
    (line,) = result.err.splitlines()
    assert line.endswith("the picture needs matplotlib: pip install 'speechgmm[report]'")


def test_the_header_of_a_store_says_what_it_holds(world, config, tmp_path):
    assert run("features", world.manifest, "-o", tmp_path / "store", "--config", config).code == 0
    (header,) = tmp_path.rglob("config.json")
    assert FeatureConfig(**json.loads(header.read_text())["config"]) == CONFIG
