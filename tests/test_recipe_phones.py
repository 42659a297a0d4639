"""What recipes of phones share, and what their own parts do that a whole run does not show."""

import importlib
import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from speechgmm.corpora import timit
from speechgmm.errors import InputError
from speechgmm.features import FeatureExtractor
from speechgmm.files import sha256_of_text
from speechgmm.manifest import Segment, Utterance, read_manifest
from speechgmm.metrics.boundaries import BoundaryAgreement
from speechgmm.phones.phone_sets import phone_map
from speechgmm.phones.recognition import evaluate_recognition
from speechgmm.phones.speaker_adaptation import adapted_to
from speechgmm.recipe_phones import (
    PhoneRecipe,
    boundary_metrics,
    every_nth,
    moved,
    part,
    relabelled,
    show_errors,
    speakers_of,
)
from tests.cli_tools import ROOT, run_process
from tests.made_phones import make_librispeech_phones, make_timit_tree

CONFIG = """
[segment_features]
n_coefficients = 13
delta_orders = 0
normalisation = "mean_variance"
[segments]
n_dimensions = 20
vector_dimensions = 20
frame_mixtures = { n_components = 1, variance_floor = 0.1 }
[features]
n_coefficients = 13
delta_orders = 0
normalisation = "mean_variance"
[recogniser]
context = 0
[hmm]
n_components = 2
"""


def utterance(name, speaker="a", segments=(), duration=None):
    return Utterance(
        name, f"{name}.wav", labels={"speaker": speaker}, segments={"phones": segments}, duration=duration
    )


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return make_librispeech_phones(tmp_path_factory.mktemp("made"))


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "config.toml").write_text(CONFIG)
    monkeypatch.setattr(
        sys, "argv", ["run.py", "--output", str(tmp_path / "out"), "--seed", "5", "--jobs", "1"]
    )
    return PhoneRecipe(tmp_path / "toy" / "run.py", "A toy")


@pytest.fixture
def extraction(recipe, manifest):
    return FeatureExtractor(recipe.features()).extract(read_manifest(manifest))


# Parts of utterances


def test_a_part_keeps_utterances_and_their_frames_together(extraction):
    chosen = part(extraction, lambda one: one.label("speaker") == "26")
    assert [one.id for one in chosen.utterances] == [
        one.id for one in extraction.utterances if one.id.startswith("26-")
    ]
    for one, frames, seconds in zip(chosen.utterances, chosen.frames, chosen.seconds, strict=True):
        number = extraction.utterances.index(one)
        assert frames is extraction.frames[number]
        assert seconds == extraction.seconds[number]
    assert part(extraction, lambda one: False).utterances == ()


def test_every_nth_goes_by_the_sha256_of_ids_whatever_the_order():
    ids = [f"utterance-{number}" for number in range(11)]
    by_sum = sorted(ids, key=sha256_of_text)
    assert every_nth(map(utterance, ids), 4) == {by_sum[0], by_sum[4], by_sum[8]}
    assert every_nth(map(utterance, reversed(ids)), 4) == every_nth(map(utterance, ids), 4)


def test_speakers_are_listed_once_and_sorted():
    assert speakers_of([utterance("1", "b"), utterance("2", "a"), utterance("3", "b")]) == ["a", "b"]


# Labels


def test_moved_labels_begin_and_end_with_the_audio():
    segments = (Segment(0.0, 0.1, "SIL"), Segment(0.1, 0.25, "AA"), Segment(0.25, 0.5, "SIL"))
    (later,) = moved([utterance("x", segments=segments, duration=0.505)], 0.01)
    assert later.segments["phones"] == (
        Segment(0.0, 0.11, "SIL"),
        Segment(0.11, 0.26, "AA"),
        Segment(0.26, 0.505, "SIL"),
    )
    (open_ended,) = moved([utterance("x", segments=segments)], 0.01)
    assert open_ended.segments["phones"][-1].end == 0.51
    (same,) = moved([utterance("x", segments=segments, duration=0.505)], 0.0)
    assert same.segments["phones"] == segments


def test_labels_that_reach_beyond_the_audio_stay_where_they_end():
    segments = (Segment(0.0, 0.25, "SIL"), Segment(0.25, 0.52, "AA"))
    (later,) = moved([utterance("x", segments=segments, duration=0.5)], 0.01)
    assert later.segments["phones"][-1] == Segment(0.26, 0.52, "AA")


def test_relabelled_utterances_have_silence_once():
    segments = (Segment(0.0, 0.1, "h#"), Segment(0.1, 0.2, "pau"), Segment(0.2, 0.3, "ux"))
    (folded,) = relabelled([utterance("x", segments=segments)], phone_map("timit61", "timit48"))
    assert folded.segments["phones"] == (Segment(0.0, 0.2, "sil"), Segment(0.2, 0.3, "uw"))
    with pytest.raises(InputError, match="unknown phones 'AA'"):
        relabelled([utterance("x", segments=(Segment(0, 1, "AA"),))], phone_map("timit61", "timit48"))


# Figures


def test_boundaries_are_named_by_their_tolerance():
    agreement = BoundaryAgreement((0.01, 0.02, 0.05), 10, 10, 9, (4, 7, 9), 0.0, 0.1)
    assert boundary_metrics(agreement) == {"boundary_10ms": 0.4, "boundary_20ms": 0.7, "boundary_50ms": 0.9}


def test_errors_are_shown_by_kind(capsys):
    said = [Segment(0, 1, "SIL"), Segment(1, 2, "AA"), Segment(2, 3, "B"), Segment(3, 4, "K")]
    found = [Segment(0, 2, "AA"), Segment(2, 3, "P")]
    evaluation = evaluate_recognition([utterance("x", segments=tuple(said))], [found])
    show_errors("A title", {"toy": evaluation})
    rows = [line.split("│")[1:-1] for line in capsys.readouterr().out.splitlines() if "│" in line]
    cells = [[cell.strip() for cell in row] for row in rows]
    assert cells[0] == [
        "toy",
        "66.67%",
        "33.33%",
        "33.33%",
        "0.00%",
        "75.00%",
        "66.7% to 66.7% by utterances",
    ]
    assert sorted(row[2] for row in cells[1:]) == ["1", "1"]
    assert {row[1] for row in cells[1:]} in ({"P", "nothing"},)


# Stages


def test_settings_come_from_their_tables_and_the_seed_from_the_command_line(recipe):
    assert (recipe.hmm_settings().n_components, recipe.hmm_settings().seed) == (2, 5)
    assert recipe.recogniser_settings().context == 0
    assert recipe.segment_features().n_features == 13
    recipe.config["hmm"]["gaussians"] = 3
    with pytest.raises(InputError, match="unknown HMM setting 'gaussians'"):
        recipe.hmm_settings()


def test_segments_of_made_phones_are_told_apart(recipe, extraction):
    # Each phone has tones of its own: nearly all can be told apart, one in 24 by guessing.
    found = recipe.classify(extraction.of_split("train"), extraction.of_split("test"))
    assert found.n_segments == sum(
        len(one.segments["phones"]) for one in extraction.of_split("test").utterances
    )
    assert found.accuracy > 0.8


def test_a_recogniser_is_trained_tuned_and_adapted_to_each_speaker(recipe, extraction, capsys):
    test = extraction.of_split("test")
    plain = recipe.trained(extraction.of_split("train"))
    recogniser = recipe.tuned(plain, extraction.of_split("dev"))
    assert recogniser.hmms is plain.hmms
    assert "tuning part: " in capsys.readouterr().out
    found = recipe.recognised(recogniser, test.frames)
    evaluation = evaluate_recognition(test.utterances, [one.phones for one in found])
    assert evaluation.counts.rate < 0.3
    adapted = recipe.recognised_adapted(recogniser, test)
    for number, one in enumerate(test.utterances):
        own = part(test, lambda other, one=one: other.label("speaker") == one.label("speaker"))
        alone = adapted_to(recogniser, own.frames)
        assert adapted[number] == alone.recognise(test.frames[number])


def test_adapted_recognitions_come_in_the_order_of_the_utterances(recipe, extraction):
    recogniser = recipe.trained(extraction.of_split("train"))
    order = np.random.default_rng(0).permutation(len(extraction.utterances))
    shuffled = replace(
        extraction,
        utterances=tuple(extraction.utterances[n] for n in order),
        frames=tuple(extraction.frames[n] for n in order),
        seconds=tuple(extraction.seconds[n] for n in order),
    )
    ends = [one.phones[-1].end for one in recipe.recognised_adapted(recogniser, shuffled)]
    # Utterances differ in length, so that their last edges name them.
    np.testing.assert_allclose(ends, shuffled.seconds, atol=0.02)


# The recipes


def test_without_pocketsphinx_the_recipe_says_so(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "recipes" / "librispeech_phones"))
    monkeypatch.delitem(sys.modules, "run", raising=False)
    module = importlib.import_module("run")
    monkeypatch.delitem(sys.modules, "run")
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert module.with_pocketsphinx(None, None, []) == {}
    assert capsys.readouterr().out.startswith("pocketsphinx is not installed")


def test_timit_is_found_in_its_folder(tmp_path):
    make_timit_tree(tmp_path / "data" / "TIMIT")
    command = [sys.executable, str(ROOT / "recipes" / "timit_phones" / "run.py")]
    options = ("--data-dir", tmp_path / "data", "--output", tmp_path / "out", "--jobs", 1)
    outcome = run_process(*options, command=command)
    assert outcome.code == 0, outcome.err
    assert "warning: TIMIT is not complete: 16 instead of 3696 for 'train'" in outcome.err
    metrics = json.loads((tmp_path / "out" / "results.json").read_text("utf-8"))["metrics"]
    # Made phones differ clearly; a broken chain would leave most of them wrong.
    assert metrics["per"] < 0.2
    assert metrics["segment_accuracy"] > 0.8


def test_without_timit_the_recipe_says_where_to_put_it(tmp_path):
    command = [sys.executable, str(ROOT / "recipes" / "timit_phones" / "run.py")]
    outcome = run_process("--data-dir", tmp_path, "--output", tmp_path / "out", command=command)
    assert outcome.code == 2
    (line,) = outcome.err.splitlines()
    assert line.startswith("error: ")
    assert timit.CORPUS.folder in line
