"""Training: the same bits for the same seed, reports that are true, posteriors that mean what they say."""

import getpass
import hashlib
import itertools
import os
import re
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from speechgmm import trainer as trainer_module
from speechgmm.em import initialise
from speechgmm.errors import InputError, SpeechGMMWarning
from speechgmm.features import extract, reading
from speechgmm.features.config import FeatureConfig
from speechgmm.features.extract import FeatureExtractor
from speechgmm.features.reading import common_rate
from speechgmm.manifest import Utterance, fingerprint, read_manifest
from speechgmm.model_file import Model
from speechgmm.scorer import Scorer
from speechgmm.settings import TrainingSettings
from speechgmm.trainer import ClassReport, class_seed, train, train_on_frames
from speechgmm.training_frames import gather
from speechgmm.version import __version__

ROOT = Path(__file__).parent.parent
# float32 E-steps against float64, in nats a frame; the terms are below a hundred nats.
PER_FRAME = 1e-5
FEATURES = {"n_coefficients": 5, "delta_orders": 0}
SMALL = TrainingSettings(n_components=2)
ONE = TrainingSettings(n_components=1)


@pytest.fixture(autouse=True)
def _threads_for_small_work(monkeypatch):
    monkeypatch.setattr(trainer_module, "WORTH_THREADS", 0)


def made_frames(n_utterances=6, n_frames=40, n_features=3, classes="abc", shift=1.0, seed=0):
    """Frames of utterances and their labels, class after class; normal, the means apart by `shift` each."""
    rng = np.random.default_rng(seed)
    labels = [label for label in classes for _ in range(n_utterances)]
    frames = [
        (rng.normal(size=(n_frames, n_features)) + shift * classes.index(label)).astype(np.float32)
        for label in labels
    ]
    return frames, labels


def saved(model, folder):
    path = Path(folder) / "model.safetensors"
    model.save(path)
    return path.read_bytes()


def held_out_ids(ids):
    """Which of a class's utterances are held out: the last fifth, at least one, in the order of their hashes."""
    ranked = sorted(ids, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    return set(ranked[-max(1, len(ranked) // 5) :]) if len(ranked) > 1 else set()


def accuracy_and_confidence(model, frames, labels):
    scorer = Scorer(model)
    decisions = scorer.decide(scorer.score(frames), [""] * len(frames))
    right = [decision.label == label for decision, label in zip(decisions, labels, strict=True)]
    return float(np.mean(right)), float(np.mean([decision.posterior for decision in decisions]))


@pytest.fixture
def voices(tmp_path, write_tone):
    """Four short files of each of three voices, at 8 kHz."""
    return [
        Utterance(
            f"{name}{take}",
            write_tone(tmp_path / "audio" / f"{name}{take}.wav", pitch + 3 * take, 0.3, 8000, seed=take),
            labels={"speaker": name, "take": str(take)},
        )
        for name, pitch in (("alto", 320.0), ("bass", 90.0), ("child", 700.0))
        for take in range(4)
    ]


# --- the same bits


def test_the_same_seed_gives_the_same_file_for_any_number_of_workers(tmp_path, voices):
    def train_bytes(n_jobs, seed):
        settings = TrainingSettings(n_components=3, seed=seed)
        return saved(train(voices, features=FEATURES, settings=settings, n_jobs=n_jobs).model, tmp_path)

    first = train_bytes(1, seed=0)
    assert train_bytes(2, seed=0) == first
    assert train_bytes(1, seed=0) == first
    assert train_bytes(1, seed=1) != first


def test_another_seed_gives_other_mixtures():
    frames, labels = made_frames()
    one, other = (
        train_on_frames(frames, labels, settings=TrainingSettings(n_components=4, seed=seed)).model
        for seed in (0, 1)
    )
    assert one.mixtures != other.mixtures
    assert one.background != other.background


def test_real_speech_gives_the_same_file_for_any_number_of_workers(tmp_path, speech_data):
    manifest = read_manifest(ROOT / "data_manifests" / "fsdd" / "utterances.jsonl", speech_data)
    chosen = [utterance for utterance in manifest if utterance.split == "train"][::53]
    settings = TrainingSettings(n_components=4)
    one, two = (train(chosen, settings=settings, n_jobs=n_jobs) for n_jobs in (1, 2))
    assert len(one.classes) == 6
    assert len(chosen) == 51
    assert one.model.features.sample_rate == 8000
    assert saved(one.model, tmp_path) == saved(two.model, tmp_path)


def test_the_same_seed_gives_the_same_file_in_every_process(tmp_path):
    code = (
        "import sys; from tests.test_trainer import *; frames, labels = made_frames(); "
        "train_on_frames(frames, labels, settings=SMALL).model.save(sys.argv[1])"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "there")],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": "5"},
        check=True,
    )
    frames, labels = made_frames()
    here = saved(train_on_frames(frames, labels, settings=SMALL).model, tmp_path)
    assert (tmp_path / "there").read_bytes() == here


def test_the_order_of_the_utterances_changes_the_manifest_fingerprint_and_nothing_else(tmp_path, voices):
    model = train(voices, features=FEATURES, settings=SMALL).model
    shuffled = [voices[index] for index in np.random.default_rng(0).permutation(len(voices))]
    other = train(shuffled, features=FEATURES, settings=SMALL).model
    assert other.mixtures == model.mixtures
    assert other.background == model.background
    assert other.posterior_scale == model.posterior_scale
    assert {name for name in model.record if model.record[name] != other.record[name]} == {"manifest"}
    # So the files differ in the fingerprint's digits alone.
    bytes_, others = saved(model, tmp_path), saved(other, tmp_path)
    mine, theirs = (record["manifest"].encode() for record in (model.record, other.record))
    assert bytes_.replace(mine, theirs) == others


def test_seeds_of_classes_follow_from_seed_and_label_alone():
    assert class_seed(0, "a") == int.from_bytes(hashlib.sha256(b"0\na").digest()[:8], "big")
    assert len({class_seed(seed, label) for seed in (0, 1) for label in ("a", "b", "")}) == 6


def test_classes_do_not_share_a_seed():
    frames, _ = made_frames(n_utterances=1, n_frames=200, classes="a")
    model = train_on_frames(frames * 2, ["a", "b"], settings=TrainingSettings(n_components=4)).model
    assert model.mixtures[0] != model.mixtures[1]


def test_a_class_is_the_same_whatever_other_classes_there_are():
    # Up to the variance floor, which follows from all frames; none here.
    frames, labels = made_frames(classes="abcd")
    settings = TrainingSettings(n_components=3, variance_floor=0.0)
    ids = [f"u{index}" for index in range(24)]
    whole = train_on_frames(frames, labels, ids=ids, settings=settings).model
    part = train_on_frames(frames[6:18], labels[6:18], ids=ids[6:18], settings=settings).model
    assert (whole.labels, part.labels) == (("a", "b", "c", "d"), ("b", "c"))
    assert whole.mixtures[1:3] == part.mixtures


# --- what is reported


def test_the_report_of_each_class_is_true(voices):
    voices = [voice for voice in voices if voice.id != "bass3"]
    training = train(voices[::-1], features=FEATURES, settings=SMALL)
    assert training.model.labels == ("alto", "bass", "child")
    assert [report.label for report in training.classes] == ["alto", "bass", "child"]
    assert [report.files for report in training.classes] == [4, 3, 4]
    assert [report.seconds for report in training.classes] == pytest.approx([1.2, 0.9, 1.2], abs=1e-3)
    extraction = FeatureExtractor(training.model.features).extract(voices)
    for report, mixture in zip(training.classes, training.model.mixtures, strict=True):
        own = [
            frames
            for utterance, frames in zip(extraction.utterances, extraction.frames, strict=True)
            if utterance.label("speaker") == report.label
        ]
        assert report.frames == sum(map(len, own)) == 31 * report.files
        assert report.components == mixture.n_components == 2
        assert 1 <= report.iterations <= 2 * 100
        exact = mixture.log_likelihoods(np.concatenate(own)).mean()
        assert report.log_likelihood == pytest.approx(exact, abs=PER_FRAME)
    assert training.problems == ()


def test_iterations_are_those_of_both_fits_and_a_fit_that_did_not_end_is_named():
    frames, labels = made_frames()
    settings = TrainingSettings(n_components=4, max_iterations=3, tolerance=0.0)
    message = "EM stopped at 3 iterations before it converged for 'a', 'b', 'c'"
    with pytest.warns(SpeechGMMWarning, match=message):
        training = train_on_frames(frames, labels, settings=settings)
    assert [report.iterations for report in training.classes] == [6, 6, 6]
    assert [report.converged for report in training.classes] == [False] * 3


def test_ids_that_occur_twice_are_refused_before_any_audio_is_read():
    missing = Utterance("u", Path("none.wav"), labels={"speaker": "ann"})
    with pytest.raises(InputError, match="utterance ids occur twice: 'u'; `speechgmm manifest check`"):
        train([missing, missing])


def test_a_class_named_unknown_is_refused_before_any_audio_is_read():
    with pytest.raises(InputError, match="a class is named 'unknown', which is the answer"):
        train([Utterance("u", Path("none.wav"), labels={"speaker": "unknown"})])


def test_the_record_says_how_the_model_was_made_but_not_when_where_or_by_how_many(tmp_path, voices):
    training = train(voices, features=FEATURES, settings=SMALL, n_jobs=2)
    record = training.model.record
    assert record.keys() == {"version", "settings", "manifest", "classes", "held_out_utterances"}
    assert record["version"] == __version__
    assert record["settings"]["seed"] == 0
    assert record["settings"]["n_components"] == 2
    assert record["manifest"] == fingerprint(voices)
    assert record["held_out_utterances"] == 3
    assert [ClassReport(**row) for row in record["classes"]] == list(training.classes)
    content = saved(training.model, tmp_path)
    assert b"alto" in content and fingerprint(voices).encode() in content
    for secret in (str(tmp_path), tmp_path.name, os.sep + "audio", f'"{getpass.getuser()}"', "n_jobs"):
        assert secret.encode() not in content
    assert not re.search(rb"20\d\d-\d\d|\d\d:\d\d", content)


def test_the_record_of_training_on_frames_can_be_extended_and_the_configuration_kept(tmp_path):
    frames, labels = made_frames()
    config = FeatureConfig(n_coefficients=3, delta_orders=0)
    model = train_on_frames(
        frames, labels, "vowel", features=config, settings=SMALL, record={"corpus": "made", "version": "mine"}
    ).model
    assert model.label == "vowel"
    assert model.features == config
    assert model.record["corpus"] == "made"
    assert model.record["version"] == __version__  # not for callers to say
    assert "manifest" not in model.record
    saved(model, tmp_path)
    assert Model.load(tmp_path / "model.safetensors").mixtures == model.mixtures


def test_progress_counts_utterances_then_mixtures(voices):
    seen = []
    train(voices, features=FEATURES, settings=SMALL, n_jobs=2, progress=lambda *args: seen.append(args))
    assert seen == [("features", n, 12) for n in range(1, 13)] + [("mixtures", n, 4) for n in range(5)]


# --- small classes


def test_a_class_with_too_few_frames_gets_fewer_components_and_one_warning_names_it():
    frames, labels = made_frames()
    frames += [frames[0][:30], frames[1][:10]]
    labels += ["short", "short"]
    ids = [f"u{index}" for index in range(20)]
    # Components follow from the frames that are not held out, in this case those of one utterance of the two.
    trained_on = 10 if held_out_ids(ids[18:]) == {"u18"} else 30
    message = (
        r"^1 of 4 classes have too few frames for 4 components \(8 frames each are needed\) and get fewer: "
        rf"short \({trained_on} frames\): {max(1, trained_on // 8)}$"
    )
    with pytest.warns(SpeechGMMWarning, match=message) as caught:
        training = train_on_frames(frames, labels, ids=ids, settings=TrainingSettings(n_components=4))
    assert len(caught) == 1
    assert [report.components for report in training.classes] == [4, 4, 4, max(1, trained_on // 8)]
    assert [mixture.n_components for mixture in training.model.mixtures][-1] == max(1, trained_on // 8)


def test_many_small_classes_are_not_all_listed():
    frames, labels = made_frames(n_utterances=1, n_frames=9, classes="abcdefghijklm")
    with pytest.warns(SpeechGMMWarning, match=r"13 of 13 classes .* a \(9 frames\): 1, .* j .*, and 3 more$"):
        training = train_on_frames(frames, labels, settings=SMALL)
    assert {report.components for report in training.classes} == {1}


def test_classes_of_one_file_are_trained_on_all_of_it():
    frames, labels = made_frames(n_utterances=1, n_frames=60)
    training = train_on_frames(frames, labels, settings=SMALL)
    assert [report.files for report in training.classes] == [1, 1, 1]
    assert training.model.record["held_out_utterances"] == 0
    assert training.model.posterior_scale == trainer_module.USUAL_POSTERIOR_SCALE
    assert accuracy_and_confidence(training.model, frames, labels)[0] == 1.0


@pytest.mark.parametrize("n_others", [0, 3])
@pytest.mark.filterwarnings("ignore:.*have too few frames", "ignore:.*features do not vary")
def test_classes_of_one_frame_end_in_a_valid_model(tmp_path, n_others):
    frames, labels = made_frames(n_utterances=n_others, n_frames=40, classes="ab")
    frames += [np.full((1, 3), 9.0), np.full((1, 3), -9.0)]
    labels += ["y", "z"]
    training = train_on_frames(frames, labels, settings=SMALL)
    assert [report.components for report in training.classes[-2:]] == [1, 1]
    assert [report.frames for report in training.classes[-2:]] == [1, 1]
    for mixture in training.model.mixtures[-2:]:
        assert (mixture.covariances > 0).all()
    scores = Scorer(training.model).score([np.full((5, 3), 8.0), *frames])
    assert np.isfinite(scores.classes).all()
    assert training.model.labels[int(scores.classes[0].argmax())] == "y"
    saved(training.model, tmp_path)
    assert Model.load(tmp_path / "model.safetensors").labels == training.model.labels


@pytest.mark.filterwarnings("ignore:.*features do not vary")
def test_one_class_alone_is_trained_with_a_warning():
    frames, labels = made_frames(classes="a")
    with pytest.warns(
        SpeechGMMWarning, match="there is one class only, 'a': every utterance will be called that"
    ):
        training = train_on_frames(frames, labels, settings=SMALL)
    assert training.model.labels == ("a",)
    assert training.model.log_priors.tolist() == [0.0]
    assert training.model.posterior_scale == trainer_module.USUAL_POSTERIOR_SCALE


def test_no_warning_is_about_the_background():
    rng = np.random.default_rng(0)
    frames = [rng.normal(size=(600, 2)), *rng.normal(size=(60, 3, 2))]
    labels = ["big", *(f"c{index}" for index in range(60))]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train_on_frames(frames, labels, settings=TrainingSettings(n_components=64))
    assert [str(warning.message)[:40] for warning in caught] == ["60 of 61 classes have too few frames for"]


# --- audio that cannot be used


def test_a_bad_file_among_good_ones_is_listed_and_the_others_are_trained_on(tmp_path, voices):
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"RIFF, but not for long")
    utterances = [*voices[:5], Utterance("bad", bad, labels={"speaker": "bass"}), *voices[5:]]
    training = train(utterances, features=FEATURES, settings=SMALL)
    assert [problem.utterance for problem in training.problems] == ["bad"]
    assert "bad.wav: cannot be read as audio" in training.problems[0].message
    assert [report.files for report in training.classes] == [4, 4, 4]
    good = train(voices, features=FEATURES, settings=SMALL)
    assert training.model.mixtures == good.model.mixtures
    assert training.model.record == good.model.record


def test_nothing_to_train_on_is_refused(tmp_path, voices):
    with pytest.raises(
        InputError,
        match=r"there are no utterances to train on \(an empty manifest, or a split without any\?\)",
    ):
        train([])
    gone = [Utterance(name, tmp_path / f"{name}.wav", labels={"speaker": name}) for name in ("x", "y")]
    with pytest.raises(
        InputError, match=r"none of the 2 utterances can be used; the first: .*x\.wav: cannot be opened"
    ):
        train(gone)
    with pytest.raises(InputError, match="utterance 'alto0' has no label 'word'; it has 'speaker', 'take'"):
        train(voices, "word")
    with pytest.raises(InputError, match="utterance 'u' has no label 'speaker'; it has none"):
        train([*voices, Utterance("u", voices[0].audio)])


def test_a_class_named_unknown_is_refused(voices):
    renamed = [
        Utterance(
            voice.id, voice.audio, labels={"speaker": voice.labels["speaker"].replace("bass", "unknown")}
        )
        for voice in voices
    ]
    with pytest.raises(
        InputError, match="a class is named 'unknown', which is the answer for rejected utterances; rename it"
    ):
        train(renamed, features=FEATURES)


# --- features and sample rates


def test_features_can_be_a_mapping_a_configuration_or_left_out(voices):
    config = FeatureConfig(sample_rate=16000, n_coefficients=4, delta_orders=1)
    with pytest.warns(SpeechGMMWarning, match="8000"):  # files below the rate asked for
        assert train(voices, features=config, settings=SMALL).model.features == config
    given = train(voices, features={"n_coefficients": 4, "delta_orders": 0}, settings=SMALL).model.features
    assert given == FeatureConfig(sample_rate=8000, n_coefficients=4, delta_orders=0)
    explicit = train(voices, features={**FEATURES, "sample_rate": 6000}, settings=SMALL).model.features
    assert explicit == FeatureConfig(sample_rate=6000, **FEATURES)
    assert train(voices, settings=SMALL).model.features == FeatureConfig(sample_rate=8000)
    preset = train(voices, features={"preset": "kaldi", "delta_orders": 0}, settings=SMALL).model.features
    assert preset == FeatureConfig.preset("kaldi", sample_rate=8000, delta_orders=0)
    with pytest.raises(InputError, match="unknown feature setting 'n_mel'"):
        train(voices, features={"n_mel": 20})


def test_the_common_rate_is_the_most_common_one_up_to_16_khz(tmp_path, write_tone):
    def files(*rates):
        return [
            Utterance(f"{index}", write_tone(tmp_path / f"{index}.wav", 200, 0.05, rate))
            for index, rate in enumerate(rates)
        ]

    assert common_rate(files(8000, 16000, 8000)) == 8000
    assert common_rate(files(44100, 44100, 8000)) == 16000
    assert common_rate(files(11025, 8000)) == 8000  # a tie: the lower, which every file can give
    assert common_rate([Utterance("gone", tmp_path / "gone.wav"), *files(8000)]) == 8000
    assert common_rate([Utterance("gone", tmp_path / "gone.wav")]) == 16000


def test_the_common_rate_looks_at_a_sample_of_many_files(monkeypatch):
    looked = []
    info = type("Info", (), {"sample_rate": 8000})
    monkeypatch.setattr(reading, "audio_info", lambda path: looked.append(path.name) or info)
    many = [Utterance(f"{index}", Path(f"{index}.wav")) for index in range(1000)]
    assert common_rate(many) == 8000
    assert looked == [f"{index}.wav" for index in range(0, 1000, 10)]


# --- frames of several types, and from a store


@pytest.mark.parametrize("odd", [0, 7, 17])
def test_utterances_of_both_types_train_as_float64_all(odd):
    frames, labels = made_frames()
    # Far from zero float32 has few digits: what float64 has more of must not be lost.
    narrow = [array + np.float32(5000) for array in frames]
    wide = [array.astype(np.float64) for array in narrow]
    wide[odd] = frames[odd].astype(np.float64) + 5000
    mixed = [*narrow[:odd], wide[odd], *narrow[odd + 1 :]]
    settings = TrainingSettings(n_components=3)
    of_mixed, of_wide, of_narrow = (
        train_on_frames(given, labels, settings=settings).model for given in (mixed, wide, narrow)
    )
    for name in ("mixtures", "background", "posterior_scale", "record"):
        assert getattr(of_mixed, name) == getattr(of_wide, name)
    own = "abc".index(labels[odd])
    assert of_narrow.mixtures[own] != of_wide.mixtures[own]
    classes = gather(mixed, labels, [str(index) for index in range(18)], [0.0] * 18)
    assert {piece.dtype for group in classes for piece in group.pieces} == {np.dtype(np.float64)}


def test_whole_numbers_count_as_float64():
    rng = np.random.default_rng(0)
    labels = ["a", "b"] * 4
    frames = [rng.integers(0, 40, (50, 3)).astype(np.int16) for _ in labels]
    model = train_on_frames(frames, labels, settings=SMALL).model
    wider = train_on_frames([array.astype(np.float64) for array in frames], labels, settings=SMALL).model
    assert model.mixtures == wider.mixtures
    assert model.background == wider.background


def test_frames_in_a_store_give_the_same_file(tmp_path, voices, monkeypatch):
    bad = Utterance("bad", tmp_path / "bad.wav", labels={"speaker": "bass"})
    bad.audio.write_bytes(b"RIFF, but not for long")

    def trained(store=None, n_jobs=1):
        training = train([*voices, bad], features=FEATURES, settings=SMALL, store=store, n_jobs=n_jobs)
        return saved(training.model, tmp_path), training.classes, training.problems

    plain = trained()
    assert trained(tmp_path / "store") == plain
    opened = []
    open_utterance = extract.open_utterance
    monkeypatch.setattr(
        extract, "open_utterance", lambda one, config: opened.append(one.id) or open_utterance(one, config)
    )
    for n_jobs in (1, 2):
        assert trained(str(tmp_path / "store"), n_jobs) == plain  # now from the store
    assert opened == ["bad", "bad"]
    assert b"store" not in plain[0]


def test_a_store_that_cannot_be_is_refused(tmp_path, voices):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InputError, match="file: is a file; a feature store is a folder"):
        train(voices, features=FEATURES, settings=SMALL, store=tmp_path / "file")


# --- threads


def test_no_more_threads_than_asked_for(monkeypatch):
    lock, running, most = threading.Lock(), set(), []
    fit = trainer_module.fit

    def watched(*args, **options):
        assert options.get("n_jobs", 1) == 1
        with lock:
            running.add(threading.get_ident())
            most.append(len(running))
        time.sleep(0.01)
        try:
            return fit(*args, **options)
        finally:
            with lock:
                running.discard(threading.get_ident())

    monkeypatch.setattr(trainer_module, "fit", watched)
    frames, labels = made_frames(classes="abcdef")
    for n_jobs in (1, 2):
        most.clear()
        train_on_frames(frames, labels, settings=SMALL, n_jobs=n_jobs)
        assert (
            len(most) == 2 * 6 + 1
        )  # each class without and with its held-out utterances, and the background
        assert max(most) == n_jobs


def test_blas_is_held_to_one_thread_meanwhile():
    from threadpoolctl import threadpool_info, threadpool_limits

    def blas_threads():
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    frames, labels = made_frames()
    seen = []
    with threadpool_limits(2, "blas"):
        for n_jobs in (1, 2):
            train_on_frames(
                frames, labels, settings=SMALL, n_jobs=n_jobs, progress=lambda *_: seen.append(blas_threads())
            )
        assert blas_threads() == {2}
    assert seen == [{1}] * 10


def test_training_in_threads_leaves_the_warning_filters_alone(monkeypatch):
    calls, meeting = itertools.count(), threading.Barrier(2, timeout=10)
    absolute_floor = initialise.absolute_floor

    def overlapping(*args, **options):
        number = next(calls)
        if number < 2:
            meeting.wait()  # both are inside of kmeans
        if number == 1:
            time.sleep(0.2)  # the other leaves first
        return absolute_floor(*args, **options)

    monkeypatch.setattr(initialise, "absolute_floor", overlapping)
    before = list(warnings.filters)
    frames, labels = made_frames()
    train_on_frames(frames, labels, settings=SMALL, n_jobs=2)
    assert list(warnings.filters) == before


@pytest.mark.parametrize("n_jobs", [0, 1.5, "2", None])
def test_a_number_of_workers_that_cannot_be_is_refused(n_jobs):
    frames, labels = made_frames()
    with pytest.raises(
        InputError, match=f"`n_jobs` is {n_jobs!r}; it must be 1 or more, or -1 for all cores"
    ):
        train_on_frames(frames, labels, settings=SMALL, n_jobs=n_jobs)


# --- frames that cannot be used


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"labels": ["a"] * 3},
            "4 `frames`, 3 `labels`, 4 `ids` and 4 `seconds` given; there must be as many",
        ),
        ({"ids": ["u"]}, "4 `frames`, 4 `labels`, 1 `ids` and 4 `seconds` given"),
        ({"seconds": [1.0] * 5}, "4 `frames`, 4 `labels`, 4 `ids` and 5 `seconds` given"),
        (
            {"frames": [], "labels": []},
            "0 `frames`, 0 `labels`, .*; there must be as many of each, and at least 1",
        ),
    ],
)
def test_lists_of_different_lengths_are_refused(changes, message):
    frames, labels = made_frames(n_utterances=2, classes="ab")
    values = {"frames": frames, "labels": labels} | changes
    with pytest.raises(InputError, match=message):
        train_on_frames(**values, settings=SMALL)


@pytest.mark.parametrize(
    ("index", "array", "message"),
    [
        (3, np.zeros((40, 2)), r"`frames\[3\]` has 2 features; the mixture has 3 \(deltas missing"),
        (3, np.zeros(40), r"`frames\[3\]` has 1 dimensions; it must have 2"),
        (0, np.zeros((2, 20, 3)), r"`frames\[0\]` has 3 dimensions; it must have 2"),
        (0, np.zeros((40, 0)), r"`frames\[0\]` has no features"),
        (3, np.full((40, 3), "x"), r"`frames\[3\]` holds <U1 values; numbers are needed"),
        pytest.param(7, np.zeros((0, 3)), r"`frames\[7\]` holds no frames", id="empty"),
        pytest.param(
            7, np.full((40, 3), np.nan), r"`frames\[7\]` has the value nan at frame 0, feature 0", id="nan"
        ),
        pytest.param(7, np.full((40, 3), 1e200), r"`frames\[7\]`.*squares overflow", id="huge"),
    ],
)
def test_frames_that_cannot_be_used_are_named(index, array, message):
    frames, labels = made_frames()
    frames[index] = array
    with pytest.raises(InputError, match=message):
        train_on_frames(frames, labels, settings=SMALL)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(value):
    frames, labels = made_frames()
    frames[7][3, 1] = value
    with pytest.raises(
        InputError, match=f"has the value {value} at frame .*, feature 1; every value must be finite"
    ):
        train_on_frames(frames, labels, settings=SMALL)


def test_a_class_without_frames_is_named():
    frames, labels = made_frames()
    try:
        train_on_frames([*frames, np.zeros((0, 3))], [*labels, "empty"], settings=SMALL)
    except InputError as error:
        if "'empty'" not in str(error) and "frames[18]" not in str(error):
            raise


@pytest.mark.parametrize("labels", [[0] * 6 + [1] * 6, np.repeat([0, 1], 6)], ids=["int", "numpy int"])
def test_labels_that_are_not_texts_are_refused(labels):
    frames, _ = made_frames(classes="ab")
    with pytest.raises(InputError, match="label"):
        train_on_frames(frames, labels, settings=SMALL)


# --- priors


def test_priors_are_equal_or_those_of_the_training_utterances():
    frames, labels = made_frames(n_utterances=4)
    frames, labels = frames[:9], labels[:9]  # 4 a, 4 b, 1 c
    for priors, expected in (("equal", [1 / 3] * 3), ("training", [4 / 9, 4 / 9, 1 / 9])):
        settings = TrainingSettings(n_components=2, priors=priors)
        model = train_on_frames(frames, labels, settings=settings).model
        np.testing.assert_allclose(np.exp(model.log_priors), expected, rtol=1e-12)


# --- the scale of the posteriors


def repeated(frames, ids, labels, times, which):
    """Frames of some utterances repeated: of the held-out ones, or of the others."""
    out = set().union(
        *(held_out_ids([i for i, c in zip(ids, labels, strict=True) if c == k]) for k in set(labels))
    )
    return [
        np.repeat(array, times, axis=0) if (name in out) == (which == "held out") else array
        for array, name in zip(frames, ids, strict=True)
    ]


def test_the_scale_follows_from_the_held_out_utterances():
    frames, labels = made_frames(n_utterances=20, n_frames=10, shift=0.4)
    ids = [f"{label}-{index}" for index, label in enumerate(labels)]

    def scale(frames):
        return train_on_frames(frames, labels, ids=ids, settings=ONE).model.posterior_scale

    plain = scale(frames)
    assert scale(frames) == plain
    assert 0.05 < plain < 1.0
    # Ten times the same frame says as much as once: only κ × frames counts, so κ is about a tenth, but for the
    # prior, which draws the first down and the second up: here a fifth is left.
    assert plain / 20 < scale(repeated(frames, ids, labels, 10, "held out")) < plain / 4
    # Of the others the mixture is the same up to rounding, and so is κ.
    assert scale(repeated(frames, ids, labels, 10, "others")) == pytest.approx(plain, rel=0.01)


def test_frames_that_depend_on_one_another_get_a_smaller_scale():
    # As neighbouring frames of speech do, less than fully: each is mostly the one before.
    def correlated(frames, kept):
        out = [frames[0]]
        for frame in frames[1:]:
            out.append(kept * out[-1] + np.sqrt(1 - kept**2) * frame)
        return np.array(out)

    rng = np.random.default_rng(3)
    labels = [label for label in "abc" for _ in range(60)]
    noise = [rng.normal(size=(30, 3)) for _ in labels]
    scales = []
    for kept in (0.0, 0.8):
        frames = [correlated(array, kept) + 0.3 * ord(c) for array, c in zip(noise, labels, strict=True)]
        scales.append(train_on_frames(frames, labels, settings=ONE).model.posterior_scale)
    # The variance of a mean of such frames is (1 + 0.8) / (1 - 0.8) = 9 times as large.
    assert scales[1] < scales[0] / 4


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("times", [1, 10])
def test_posteriors_are_calibrated(seed, times):
    # 240 utterances held out, 1200 to test: both shares are known to about 0.03.
    rng = np.random.default_rng(seed)
    centres = 0.4 * rng.normal(size=(4, 3))

    def draw(n_utterances):
        labels = [label for label in "abcd" for _ in range(n_utterances)]
        frames = [
            np.repeat(rng.normal(size=(10, 3)) + centres["abcd".index(c)], times, axis=0) for c in labels
        ]
        return frames, labels

    model = train_on_frames(*draw(300), settings=ONE).model
    right, confidence = accuracy_and_confidence(model, *draw(300))
    assert 0.4 < right < 0.9  # moderately overlapping
    assert confidence == pytest.approx(right, abs=0.05)


def test_posteriors_of_real_speech_are_calibrated(speech_data):
    manifest = read_manifest(ROOT / "data_manifests" / "fsdd" / "utterances.jsonl", speech_data)
    extractor = FeatureExtractor(FeatureConfig(sample_rate=8000))
    training, test = (
        extractor.extract([utterance for utterance in manifest if utterance.split == split][start::step])
        for split, start, step in (("train", 0, 3), ("test", 0, 2))
    )
    truth = [utterance.label("digit") for utterance in test.utterances]
    shares = []
    for start in range(4):  # four models, each of a quarter
        utterances = training.utterances[start::4]
        model = train_on_frames(
            training.frames[start::4],
            [utterance.label("digit") for utterance in utterances],
            ids=[utterance.id for utterance in utterances],
            settings=TrainingSettings(n_components=4),
        ).model
        shares.append(accuracy_and_confidence(model, test.frames, truth))
    right, confidence = np.mean(shares, axis=0)
    assert 0.9 < right < 0.99
    # 150 utterances say it to about 0.02.
    assert confidence == pytest.approx(right, abs=0.05)


def test_held_out_utterances_are_a_fifth_of_each_class():
    frames, labels = made_frames(n_utterances=12, n_frames=20)
    frames, labels = frames[:16] + frames[24:25], labels[:16] + labels[24:25]
    assert Counter(labels) == {"a": 12, "b": 4, "c": 1}
    model = train_on_frames(frames, labels, settings=SMALL).model
    assert model.record["held_out_utterances"] == 2 + 1 + 0
