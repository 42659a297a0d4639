"""Every recipe runs from start to end on a small corpus of its shape, and on real speech where that is at hand."""

import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import tomllib
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechgmm import __version__
from speechgmm.corpora import librispeech, speech_commands, voxceleb1
from speechgmm.corpora.fsdd import TEST_TAKES
from speechgmm.manifest import Segment, Utterance, write_manifest
from speechgmm.manifest_build import from_pattern
from speechgmm.recipe import Recipe
from tests.cli_tools import (
    PATIENCE,
    ROOT,
    environment,
    interruptible,
    run_process,
    run_until_reader_leaves,
    tone,
)
from tests.made_phones import make_librispeech_phones, make_timit

RECIPES = ROOT / "recipes"
KEYS = {"recipe", "version", "seed", "config", "manifest_sha256", "stages", "metrics"}


# Small corpora of the same shapes: speakers differ much in pitch, their words a little.


def make_fsdd(folder):
    """Names as in FSDD: 10 digits x 3 speakers x 6 takes of 0.3 s, some from each fold of choose.py."""
    for digit in range(10):
        for height, speaker in enumerate(("ann", "bob", "cat")):
            for take in (0, 5, 14, 23, 32, 41):
                pitch = 100 * 1.8**height * (1 + 0.03 * digit) + take
                seed = 100 * digit + 10 * height + take
                tone(folder / "fsdd" / f"{digit}_{speaker}_{take}.wav", pitch, 0.3, seed=seed)
    found = from_pattern(folder / "fsdd", "{digit}_{speaker}_{take}.wav")
    sides = [replace(one, split="test" if int(one.label("take")) < TEST_TAKES else "train") for one in found]
    write_manifest(sides, folder / "fsdd.jsonl")
    return folder / "fsdd.jsonl"


def make_speech_commands(folder):
    """4 speakers x 6 words x 2 takes of 0.4 s, with the split of the committed manifest."""
    for height, speaker in enumerate(("0a0a0a0a", "1b1b1b1b", "2c2c2c2c", "3d3d3d3d")):
        for number, word in enumerate(("bed", "cat", "down", "five", "go", "up")):
            for take in range(2):
                path = folder / "commands" / word / f"{speaker}_nohash_{take}.wav"
                seed = 100 * height + 10 * number + take
                tone(path, 100 * (1 + 0.6 * height) + 8 * number, 0.4, sample_rate=16000, seed=seed)
    utterances = speech_commands.closed_set(speech_commands.utterances(folder / "commands"), min_files=12)
    write_manifest(utterances, folder / "commands.jsonl")
    return folder / "commands.jsonl"


def make_speech_commands_verification(folder):
    """12 speakers x 6 words of 0.4 s: 9 in the background, 3 enrolled with 3 words each and tested with the others."""
    for number in range(12):
        for place, word in enumerate(("bed", "cat", "down", "five", "go", "up")):
            path = folder / "commands" / word / f"{number:08x}_nohash_0.wav"
            seed = 10 * number + place
            tone(path, 90 * 1.25**number + place, 0.4, sample_rate=16000, seed=seed)
    found = speech_commands.utterances(folder / "commands")
    splits = [
        "background" if int(one.label("speaker"), 16) % 4 else "enrol" if one.label("word") < "e" else "test"
        for one in found
    ]
    sides = [replace(one, split=split) for one, split in zip(found, splits, strict=True)]
    write_manifest(sides, folder / "verification.jsonl")
    return folder / "verification.jsonl"


PHONES = ["AA", "AE", "AH", "B", "CH", "D", "EH", "F", "IY", "K", "M", "N", "S", "T"]


def make_speech_commands_phones(folder):
    """10 speakers x 14 words of two phones and silence, each phone a tone: 7 speakers to train on, 1 to tune on."""
    rng, rate, found = np.random.default_rng(0), 16000, []
    for number in range(10):
        for first, second in zip(PHONES, PHONES[1:] + PHONES[:1], strict=True):
            start, middle, end = (np.array([10, 30, 50]) + rng.integers(-4, 5, 3)) / 100
            parts = [(0.0, start, "SIL"), (start, middle, first), (middle, end, second), (end, 0.6, "SIL")]
            time = np.arange(round(0.6 * rate)) / rate
            samples = 0.005 * rng.standard_normal(time.size)
            for begin, stop, phone in parts[1:3]:
                own = slice(round(begin * rate), round(stop * rate))
                pitch = (250 + 3 * number) * 1.25 ** PHONES.index(phone)
                samples[own] += 0.1 * np.sin(2 * np.pi * pitch * time[own])
            name = f"{first}{second}_{number:08x}_0"
            path = folder / "commands" / f"{name}.wav"
            path.parent.mkdir(exist_ok=True)
            soundfile.write(path, samples, rate)
            segments = tuple(Segment(*part) for part in parts)
            labels = {"speaker": f"{number:08x}", "word": first + second}
            split = "train" if number < 7 else "dev" if number == 7 else "test"
            found.append(Utterance(name, path, labels=labels, split=split, segments={"phones": segments}))
    write_manifest(found, folder / "phones.jsonl")
    return folder / "phones.jsonl"


def make_librispeech(folder):
    """18 speakers, each with a chapter of 9.5 s, which is enough for three stretches, and another of 1 s."""
    corpus = folder / "LibriSpeech"
    for number in range(18):
        for chapter, seconds in ((1, 9.5), (2, 1.0)):
            path = corpus / f"train-clean-100/{number}/{chapter}/{number}-{chapter}-0000.flac"
            tone(path, 80 * 1.15**number, seconds, sample_rate=16000, seed=10 * number + chapter)
    write_manifest(librispeech.utterances(corpus), folder / "librispeech.jsonl")
    return folder / "librispeech.jsonl"


def make_voxceleb1(folder):
    """9 speakers in the background and 3 others, each with 3 videos of 0.6 s; all trials among the others."""
    for number in range(12):
        for video in range(3):
            below = "test" if number % 4 == 0 else "dev"
            path = folder / f"voxceleb1/{below}/wav/id{10000 + number}/video-{video:05}/00001.wav"
            tone(path, 90 * 1.25**number + video, 0.6, sample_rate=16000, seed=10 * number + video)
    found = voxceleb1.utterances(folder / "voxceleb1")
    write_manifest(found, folder / "voxceleb1.jsonl")
    tests = [one for one in found if one.split == "test"]
    pairs = [(model, test) for model in tests for test in tests if model is not test]
    lines = [
        f"{model.label('speaker') == test.label('speaker'):d} {model.id} {test.id}" for model, test in pairs
    ]
    (folder / "veri_test2.txt").write_text("\n".join(lines) + "\n")
    return folder / "voxceleb1.jsonl"


def make_japanese_vowels(folder):
    """2 speakers x 6 utterances of 9 frames to train on and 4 to test, in the corpus's own format."""
    sums = []
    rng = np.random.default_rng(0)
    for part, count in (("TRAIN", 6), ("TEST", 4)):
        lines = ["@problemName Toy", "@dimensions 12", "@classLabel true 1 2", "@data"]
        for speaker in (1, 2):
            for _ in range(count):
                frames = 0.3 * rng.standard_normal((12, 9)) + speaker
                series = [",".join(f"{value:.6f}" for value in row) for row in frames]
                lines.append(":".join([*series, str(speaker)]))
        path = folder / f"JapaneseVowels_{part}.ts"
        path.write_text("\n".join(lines) + "\n")
        sums.append(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n")
    (folder / "SHA256SUMS").write_text("".join(sums))
    return folder / "SHA256SUMS"


def make_nothing(folder):
    """The recipe makes its corpus itself."""
    if find_spec("espeakng_loader") is None:
        pytest.skip("needs espeak-ng: pip install 'speechgmm[demo]'")


@dataclass(frozen=True)
class Registered:
    """How a recipe is tested: its small corpus, the metrics it must give, where its data would be.

    `shown` are the metrics that it prints, if not all.
    """

    make: object
    metrics: tuple
    place: str = ""
    shown: tuple = ()


TRIAL_FIGURES = (
    *("eer", "min_cllr", "cllr"),
    *("min_dcf_0.5", "min_dcf_0.01", "actual_dcf_0.5", "actual_dcf_0.01"),
)


def trial_metrics(*systems, suffix=""):
    """What recipes of verification give of some systems, the first two being without and with S-norm."""
    every = [f"{figure}_{system}" for figure in TRIAL_FIGURES for system in systems]
    return tuple(f"{name}{suffix}" for name in [*every, *TRIAL_FIGURES, "eer_snorm"])


SYSTEMS = ("top", "top_snorm", "top_adaptive_snorm", "dense", "dense_snorm", "linear", "linear_snorm")
LISTS = ("stretches", "stretches_mean_normalised", "chapters", "chapters_mean_normalised")
BOUNDARIES = tuple(f"boundary_{milliseconds}ms" for milliseconds in (10, 20, 50))
SPEAKERS_OUT = ("without_19", "without_26", "without_27")
LIBRISPEECH_PHONES = (
    *(f"segment_accuracy_{kind}{split}" for kind in ("", "sklearn_") for split in ("random", "chapters")),
    *(f"segment_accuracy_{kind}{split}" for kind in ("", "sklearn_") for split in SPEAKERS_OUT),
    *("per", "per_fmllr", "per_with_silence", "per_pocketsphinx", *BOUNDARIES),
    *(
        f"per_{split}{system}"
        for split in (*SPEAKERS_OUT, "leave_one_speaker_out")
        for system in ("", "_fmllr", "_vtln_fmllr")
    ),
)

REGISTRY = {
    "fsdd_digits": Registered(
        make_fsdd,
        (
            *("accuracy_official", "accuracy_leave_one_speaker_out"),
            *("accuracy_without_ann", "accuracy_without_bob", "accuracy_without_cat"),
            *("accuracy_hmm_official", "accuracy_hmm_leave_one_speaker_out"),
            *("accuracy_hmm_without_ann", "accuracy_hmm_without_bob", "accuracy_hmm_without_cat"),
        ),
        "fsdd",
    ),
    "fsdd_speaker_id": Registered(make_fsdd, ("accuracy_official", "accuracy_text_independent"), "fsdd"),
    "japanese_vowels_speaker_id": Registered(make_japanese_vowels, ("accuracy",)),
    "librispeech_phones": Registered(
        make_librispeech_phones,
        (
            *LIBRISPEECH_PHONES,
            *(f"segment_balanced_accuracy_{split}" for split in ("random", "chapters", *SPEAKERS_OUT)),
            *(f"per_speaker_{speaker}" for speaker in (19, 26, 27)),
            *(f"recognised_{name}" for name in BOUNDARIES),
        ),
        "LibriSpeech",
        shown=LIBRISPEECH_PHONES,
    ),
    "librispeech_verification": Registered(
        make_librispeech,
        sum(
            (trial_metrics("top", "top_snorm", suffix=f"_{name}") for name in LISTS),
            (),
        ),
        "LibriSpeech",
        shown=tuple(f"{figure}_{name}" for name in LISTS for figure in ("eer", "eer_snorm")),
    ),
    "quickstart": Registered(make_nothing, ("accuracy",)),
    "speech_commands_phones": Registered(
        make_speech_commands_phones,
        (
            *("accuracy_segments", "balanced_accuracy_segments", "accuracy_segments_manner"),
            *("per", "per_without_language_model"),
        ),
        "speech_commands_test_set_v0.02",
    ),
    "speech_commands_speaker_id": Registered(
        make_speech_commands, ("accuracy",), "speech_commands_test_set_v0.02"
    ),
    "speech_commands_verification": Registered(
        make_speech_commands_verification,
        (
            *trial_metrics(*SYSTEMS),
            *trial_metrics("top", "top_snorm", suffix="_mean_normalised"),
            *(f"identification_{system}" for system in SYSTEMS),
            *("identification_accuracy", "open_set_detection", "open_set_false_alarm"),
        ),
        "speech_commands_test_set_v0.02",
        shown=(
            *("eer", "eer_snorm", "eer_mean_normalised", "eer_snorm_mean_normalised"),
            *("identification_accuracy", "open_set_detection", "open_set_false_alarm"),
        ),
    ),
    "timit_phones": Registered(
        make_timit,
        ("segment_accuracy", "per", "per_fmllr", "per_dev", "per_with_silence", *BOUNDARIES),
        "TIMIT",
    ),
    "voxceleb1_verification": Registered(
        make_voxceleb1,
        trial_metrics("top", "top_snorm", "linear", "linear_snorm"),
        "voxceleb1",
        shown=("eer", "eer_snorm"),
    ),
}
# Of the recipes on one corpus, one stands for all where they share the code.
DOWNLOADED = (
    *("fsdd_speaker_id", "speech_commands_speaker_id"),
    *("librispeech_verification", "voxceleb1_verification"),
)


def command(name, script="run.py"):
    return [sys.executable, str(RECIPES / name / script)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """The manifest of a recipe's small corpus, made once."""

    @cache
    def made(make):
        return make(tmp_path_factory.mktemp(make.__name__))

    return lambda name: made(REGISTRY[name].make)


def arguments(manifest, output, *others):
    given = [] if manifest is None else ["--manifest", manifest]
    return [*given, "--output", output, *others]


def results_in(folder):
    return json.loads((folder / "results.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def finished(corpus, tmp_path_factory):
    """What a recipe printed and wrote on its small corpus with one worker, run once."""

    @cache
    def run(name):
        output = tmp_path_factory.mktemp("results") / name
        outcome = run_process(*arguments(corpus(name), output, "--jobs", 1), command=command(name))
        assert outcome.code == 0, outcome.err
        return outcome, results_in(output)

    return run


def test_every_recipe_is_registered():
    folders = {path.parent.name for path in RECIPES.glob("*/*") if path.name != "__pycache__"}
    assert folders == set(REGISTRY)


@pytest.mark.parametrize("name", REGISTRY)
def test_a_recipe_has_its_four_files(name):
    missing = [
        file
        for file in ("README.md", "RESULTS.md", "config.toml", "run.py")
        if not (RECIPES / name / file).is_file()
    ]
    assert missing == []


def test_the_table_of_recipes_is_complete():
    table = (RECIPES / "README.md").read_text("utf-8")
    assert [name for name in REGISTRY if f"| `{name}` |" not in table] == []


@pytest.mark.parametrize("name", REGISTRY)
def test_the_results_page_prints_the_command_beside_the_figures(name):
    page = RECIPES / name / "RESULTS.md"
    assert page.is_file()
    assert f"python recipes/{name}/run.py" in page.read_text("utf-8")


@pytest.mark.parametrize("name", REGISTRY)
def test_a_recipe_writes_its_results(name, corpus, finished):
    _, results = finished(name)
    assert set(results) == KEYS
    assert (results["recipe"], results["version"], results["seed"]) == (name, __version__, 0)
    assert results["config"] == tomllib.loads((RECIPES / name / "config.toml").read_text("utf-8"))
    manifest = corpus(name)
    sha256 = None if manifest is None else hashlib.sha256(manifest.read_bytes()).hexdigest()
    assert results["manifest_sha256"] == sha256
    assert set(results["metrics"]) == set(REGISTRY[name].metrics)
    for metric, value in results["metrics"].items():
        # Costs and Cllr of a poor calibration can be of any size.
        assert 0 <= value <= (math.inf if "dcf" in metric or "cllr" in metric else 1)
    assert len(results["stages"]) > 1
    assert all(value >= 0 and math.isfinite(value) for value in results["stages"].values())


@pytest.mark.parametrize("name", REGISTRY)
def test_a_recipe_prints_its_stages_and_figures(name, finished):
    outcome, results = finished(name)
    for stage in results["stages"]:
        assert any(line.startswith(f"{stage} ") and line.endswith(" s") for line in outcome.lines)
    for metric in REGISTRY[name].shown or results["metrics"]:
        value = results["metrics"][metric]
        (row,) = (line for line in outcome.lines if f" {metric} " in line and "speechgmm" in line)
        assert f" {value:.2%} " in row
    assert "results.json" in outcome.out
    assert all(line.startswith("warning: ") for line in outcome.err.splitlines())
    assert "\x1b" not in outcome.out + outcome.err


@pytest.mark.parametrize("name", REGISTRY)
def test_a_recipe_gives_the_same_metrics_again_with_more_workers(name, corpus, finished, tmp_path):
    again = run_process(*arguments(corpus(name), tmp_path, "--jobs", 2), command=command(name))
    assert again.code == 0
    before, after = finished(name)[1], results_in(tmp_path)
    assert {**after, "stages": None} == {**before, "stages": None}


def test_recipes_do_well_on_what_is_easy(finished):
    # Chance is one in two to four. Only a broken chain misses speakers so far apart.
    for name in ("fsdd_speaker_id", "japanese_vowels_speaker_id", "speech_commands_speaker_id"):
        assert min(finished(name)[1]["metrics"].values()) > 0.8
    for name in (name for name in REGISTRY if name.endswith("_verification")):
        metrics = finished(name)[1]["metrics"]
        assert max(value for metric, value in metrics.items() if metric.startswith("eer")) < 0.3
    metrics = finished("speech_commands_phones")[1]["metrics"]
    assert metrics["accuracy_segments"] > 0.9
    assert metrics["per"] < 0.1


def test_a_given_manifest_starts_from_the_data_folder(corpus, tmp_path):
    name = "speech_commands_speaker_id"
    moved = tmp_path / "moved.jsonl"
    moved.write_bytes(corpus(name).read_bytes())
    options = arguments(moved, tmp_path / "out", "--jobs", 1, "--seed", 3)
    outcome = run_process(*options, "--data-dir", corpus(name).parent, command=command(name))
    assert outcome.code == 0
    assert results_in(tmp_path / "out")["seed"] == 3
    outcome = run_process(*options, command=command(name))
    assert outcome.code == 2
    (line,) = outcome.err.splitlines()
    assert line.startswith("error: 48 utterances cannot be read; the first: ")


# What a recipe prints and writes of given figures


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A recipe in this process, without settings."""
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "config.toml").write_text("")
    monkeypatch.setattr(sys, "argv", ["run.py", "--output", str(tmp_path / "out"), "--seed", "5"])
    return Recipe(tmp_path / "toy" / "run.py", "A toy")


def test_a_recipe_prints_the_metrics_to_be_shown_and_writes_all(recipe, tmp_path, capsys):
    metrics = {"eer": 0.0123, "cllr": 1.5, "eer_snorm": 0.01}
    published = [("eer", 0.188, "Somebody (2020)")]
    recipe.finish(metrics, published, {"eer": (0.01, 0.02), "cllr": (1, 2)}, shown=["eer_snorm", "eer"])
    out = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if "│" in line]
    assert rows == [
        ["speechgmm", "eer", "1.23%", "1.00% to 2.00%"],
        ["speechgmm", "eer_snorm", "1.00%", ""],
        ["Somebody (2020)", "eer", "18.8%", ""],
    ]
    results = results_in(tmp_path / "out")
    assert results["metrics"] == metrics
    assert (results["recipe"], results["seed"], results["manifest_sha256"]) == ("toy", 5, None)


def test_a_recipe_prints_every_metric_unless_told_otherwise(recipe, capsys):
    recipe.finish({"accuracy": 0.5, "per": 0.25})
    out = capsys.readouterr().out
    assert "50.00%" in out
    assert "25.00%" in out
    recipe.finish({"accuracy": 0.5, "per": 0.25}, shown=[])
    assert "%" not in capsys.readouterr().out.replace("95 %", "")


# Problems


def test_without_its_list_of_trials_voxceleb1_says_where_it_is(corpus, tmp_path):
    name = "voxceleb1_verification"
    alone = tmp_path / "alone.jsonl"
    alone.write_bytes(corpus(name).read_bytes())
    options = (*arguments(alone, tmp_path / "out"), "--data-dir", corpus(name).parent)
    outcome = run_process(*options, command=command(name))
    assert outcome.code == 2
    (line,) = outcome.err.splitlines()
    assert line.startswith(f"error: {tmp_path / 'veri_test2.txt'}: no list of trials; download https://")
    assert "--trials" in line
    named = tmp_path / "mine.txt"
    named.write_text("1 id10000/video-00000/00001.wav id10000/video-00099/00001.wav\n")
    outcome = run_process(*options, "--trials", named, command=command(name))
    assert outcome.code == 2
    assert "id10000/video-00099/00001.wav" in outcome.err


def test_voxceleb1_refuses_trials_of_background_speakers(corpus, tmp_path):
    name = "voxceleb1_verification"
    leaking = tmp_path / "leaking.txt"
    leaking.write_text("0 id10000/video-00000/00001.wav id10001/video-00000/00001.wav\n")
    options = (*arguments(corpus(name), tmp_path / "out"), "--trials", leaking)
    outcome = run_process(*options, command=command(name))
    assert outcome.code == 2
    assert "id10001" in outcome.err.splitlines()[-1]


def offline(folder):
    """An environment with neither corpora nor network: a home of its own, and a proxy where none listens."""
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    home = {"HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache"), "LOCALAPPDATA": str(folder)}
    return {**nowhere, **home, "no_proxy": "", "NO_PROXY": "", "SPEECHGMM_DATA": ""}


@pytest.mark.parametrize("name", DOWNLOADED)
def test_without_data_and_network_a_recipe_says_where_to_put_the_files(name, tmp_path):
    outcome = run_process("--output", tmp_path / "out", command=command(name), **offline(tmp_path))
    assert outcome.code == 2
    (line,) = outcome.err.splitlines()
    place = REGISTRY[name].place
    assert line.startswith("error: ")
    assert f"not found; put it in DIR/{place} (so that DIR/{place}/" in line
    assert "and pass --data-dir DIR, or set SPEECHGMM_DATA" in line
    assert not (tmp_path / "out").exists()
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


@pytest.mark.parametrize("name", DOWNLOADED)
def test_a_data_folder_without_the_corpus_is_refused(name, tmp_path):
    (tmp_path / "empty").mkdir()
    options = ("--output", tmp_path / "out", "--data-dir", tmp_path / "empty")
    outcome = run_process(*options, command=command(name), **offline(tmp_path))
    assert outcome.code == 2
    (line,) = outcome.err.splitlines()
    assert f"{tmp_path / 'empty' / REGISTRY[name].place}" in line
    assert f"the data folder must be the one that holds {REGISTRY[name].place}" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["fsdd_digits", "japanese_vowels_speaker_id"])
def test_a_manifest_that_is_not_there_is_named(name, tmp_path):
    outcome = run_process(*arguments(tmp_path / "none", tmp_path / "out"), command=command(name))
    assert (outcome.code, outcome.out) == (2, "")
    (line,) = outcome.err.splitlines()
    assert line.startswith("error: ")
    assert str(tmp_path) in line
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_list_of_checksums_is_refused(corpus, tmp_path):
    other = corpus("japanese_vowels_speaker_id").parent / "JapaneseVowels_TRAIN.ts"
    outcome = run_process(*arguments(other, tmp_path), command=command("japanese_vowels_speaker_id"))
    assert outcome.code == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--nonsense",), "unrecognized arguments: --nonsense"),
        (("--jobs", "many"), "argument --jobs: invalid int value"),
        (("--jobs", "0"), "`n_jobs` is 0; it must be 1 or more, or -1 for all cores"),
        (("--seed", "-1"), "`seed` is -1; it must be a whole number from 0"),
    ],
)
def test_wrong_options_are_refused(corpus, tmp_path, options, message):
    name = "japanese_vowels_speaker_id"
    outcome = run_process(*arguments(corpus(name), tmp_path, *options), command=command(name))
    assert outcome.code == 2
    assert message in outcome.err
    assert "Traceback" not in outcome.err
    assert not list(tmp_path.iterdir())


def test_help_names_the_options():
    name = "quickstart"
    outcome = run_process("--help", command=command(name))
    assert (outcome.code, outcome.err) == (0, "")
    assert all(
        option in outcome.out for option in ("--data-dir", "--manifest", "--output", "--jobs", "--seed")
    )
    assert f"recipes/{name}/run.py" in outcome.out


def test_ctrl_c_ends_a_recipe_without_a_traceback(tmp_path):
    with interruptible():
        process = subprocess.Popen(
            [*command("japanese_vowels_speaker_id"), "--output", str(tmp_path / "out"), "--jobs", "1"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
        )
    process.stdout.readline()  # the first stage is done; the next takes seconds
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert not (tmp_path / "out").exists()
    assert b"Traceback" not in err
    assert process.returncode == 130


def test_a_reader_that_leaves_sees_no_traceback(corpus, tmp_path):
    options = arguments(corpus("speech_commands_speaker_id"), tmp_path, "--jobs", 1)
    outcome = run_until_reader_leaves(*options, command=command("speech_commands_speaker_id"))
    assert outcome.code != 0
    assert "Traceback" not in outcome.err


# Real data


def test_japanese_vowels_reaches_its_figure(tmp_path):
    name = "japanese_vowels_speaker_id"
    assert run_process("--output", tmp_path, "--jobs", 1, command=command(name)).code == 0
    results = results_in(tmp_path)
    assert results["metrics"]["accuracy"] >= 0.970
    sums = ROOT / "data_manifests" / "japanese_vowels" / "SHA256SUMS"
    assert results["manifest_sha256"] == hashlib.sha256(sums.read_bytes()).hexdigest()


def test_fsdd_speakers_are_recognised(speech_data, tmp_path):
    options = ("--data-dir", speech_data, "--output", tmp_path, "--jobs", 2)
    assert run_process(*options, command=command("fsdd_speaker_id")).code == 0
    metrics = results_in(tmp_path)["metrics"]
    assert metrics["accuracy_official"] == 1.0
    assert metrics["accuracy_text_independent"] >= 0.97


def needs_time():
    if not os.environ.get("SPEECHGMM_SLOW"):
        pytest.skip("takes minutes: set SPEECHGMM_SLOW to run it")


@pytest.mark.slow
def test_fsdd_digits_are_recognised(speech_data, tmp_path):
    needs_time()
    options = ("--data-dir", speech_data, "--output", tmp_path, "--jobs", 2)
    subprocess.run([*command("fsdd_digits"), *map(str, options)], check=True, env=environment())
    metrics = results_in(tmp_path)["metrics"]
    assert metrics["accuracy_official"] >= 0.98
    assert metrics["accuracy_leave_one_speaker_out"] >= 0.86
    assert metrics["accuracy_hmm_official"] >= 0.98
    assert metrics["accuracy_hmm_leave_one_speaker_out"] >= 0.88


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.parent.name for path in RECIPES.glob("*/choose.py")))
def test_the_choice_of_settings_can_be_repeated(name, corpus, tmp_path):
    needs_time()
    manifest = Path(corpus(name))
    options = map(str, arguments(manifest, tmp_path, "--jobs", 2))
    run = subprocess.run(
        [*command(name, "choose.py"), *options], check=True, env=environment(), capture_output=True
    )
    assert "n_components" in run.stdout.decode()
    assert ("eer" if name.endswith("_verification") else "accuracy") in run.stdout.decode()
