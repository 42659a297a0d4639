"""Extraction into a store: the same frames, never twice, whatever happens on the way."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechgmm.errors import InputError, SpeechGMMWarning
from speechgmm.features import FeatureConfig, FeatureExtractor, reading
from speechgmm.features.store import FeatureStore
from speechgmm.manifest import Utterance, write_manifest
from speechgmm.settings import TrainingSettings
from speechgmm.trainer import train

ROOT = Path(__file__).parents[1]
EXTRACT = "speechgmm.features.extract"
FEW = FeatureConfig(sample_rate=8000, n_filters=24, n_coefficients=7, delta_orders=1)
N = 12


@pytest.fixture
def utterances(write_tone, tmp_path):
    """Short ones of many lengths, some of them stretches."""
    made = []
    for n in range(N):
        path = write_tone(
            tmp_path / "audio" / f"{n}.wav", 90 + 20 * n, seconds=0.2 + 0.01 * n, sample_rate=8000, seed=n
        )
        made.append(
            Utterance(f"u{n}", path, end=0.15 if n % 4 == 0 else None, labels={"speaker": f"s{n % 2}"})
        )
    return made


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "store"


def extract(utterances, folder, config=FEW, **options):
    return FeatureExtractor(config).extract(utterances, store=folder, **options)


def assert_same(one, other):
    assert one.utterances == other.utterances
    assert one.seconds == other.seconds
    assert one.problems == other.problems
    assert len(one.frames) == len(other.frames)
    for left, right in zip(one.frames, other.frames, strict=True):
        assert left.dtype == right.dtype == np.float32
        np.testing.assert_array_equal(left, right)


def no_reading(monkeypatch):
    """From here on no sample can be read."""

    def refused(path, *arguments):
        raise AssertionError(f"the samples of {path} were read")

    monkeypatch.setattr(reading, "read_audio", refused)
    monkeypatch.setattr(reading, "read_blocks", refused)


def count_reading(monkeypatch):
    """The files whose samples are read from here on."""
    read, read_audio = [], reading.read_audio

    def counted(path, *arguments):
        read.append(Path(path).name)
        return read_audio(path, *arguments)

    monkeypatch.setattr(reading, "read_audio", counted)
    return read


def on_disk(folder):
    """Utterances and problems of what a process that opens the store now finds."""
    store = FeatureStore(folder, FEW, create=False)
    return [entry.utterance for entry in store.entries()], store.verify()


# --- the same frames


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_the_frames_are_those_of_extraction_without_a_store(utterances, folder, monkeypatch, n_jobs):
    monkeypatch.setattr(f"{EXTRACT}.SHORT", 0.0)
    utterances.insert(5, Utterance("bad", utterances[0].audio.with_name("missing.wav")))
    plain = FeatureExtractor(FEW).extract(utterances)
    assert [problem.utterance for problem in plain.problems] == ["bad"]
    calls = []
    stored = extract(utterances, folder, n_jobs=n_jobs, progress=lambda *call: calls.append(call))
    assert_same(stored, plain)
    assert calls == [("features", n, N + 1) for n in range(1, N + 2)]
    assert on_disk(folder) == (sorted(one.id for one in plain.utterances), [])


def test_a_store_may_be_given_open(utterances, folder):
    store = FeatureStore(folder, FEW)
    stored = extract(utterances, store)
    assert len(store) == N and store.n_frames == sum(map(len, stored.frames))
    assert_same(stored, FeatureExtractor(FEW).extract(utterances))


def test_every_kind_of_frames(write_tone, tmp_path, folder):
    """Normalised ones, and ones of which some were dropped."""
    samples = np.concatenate([np.random.default_rng(0).standard_normal(4000) * a for a in (0.3, 0.001, 0.2)])
    soundfile.write(tmp_path / "a.wav", samples, 8000)
    for normalisation in ("none", "mean_variance", "sliding_mean", "warping"):
        for activity in ("none", "energy", "gmm"):
            config = FeatureConfig(sample_rate=8000, normalisation=normalisation, speech_activity=activity)
            utterances = [Utterance("a", tmp_path / "a.wav")]
            assert_same(extract(utterances, folder, config), FeatureExtractor(config).extract(utterances))


def test_frames_too_many_for_memory_go_by_a_file(write_tone, tmp_path, folder, monkeypatch):
    reserved = []
    monkeypatch.setattr("speechgmm.features.store_files.LARGE", 1000)
    monkeypatch.setattr(
        "speechgmm.features.store_files._reserve", lambda file, n: os.ftruncate(file, n) or reserved.append(n)
    )
    utterances = [Utterance("a", write_tone(tmp_path / "a.wav", seconds=3.0, sample_rate=8000))]
    assert_same(extract(utterances, folder), FeatureExtractor(FEW).extract(utterances))
    assert reserved == [4 * 301 * 14]


def test_the_frames_are_views_of_files_that_cannot_be_written(utterances, folder):
    store = FeatureStore(folder, FEW)
    for frames in extract(utterances, store).frames:
        assert not frames.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            frames[0, 0] = 1.0
        assert not frames.flags.owndata
    assert on_disk(folder)[1] == []


# --- never twice


def test_the_second_run_reads_no_samples(utterances, folder, monkeypatch):
    first = extract(utterances, folder)
    no_reading(monkeypatch)
    second = extract(utterances, folder)
    assert_same(second, first)
    with pytest.raises(AssertionError, match=r"the samples of .*0\.wav were read"):
        extract(utterances, folder.with_name("another"))


def test_a_new_run_reads_what_is_new(utterances, folder, monkeypatch):
    extract(utterances[:7], folder)
    read = count_reading(monkeypatch)
    assert_same(extract(utterances, folder), FeatureExtractor(FEW).extract(utterances))
    assert read[: N - 7] == [f"{n}.wav" for n in range(7, N)]
    assert len(read) == N - 7 + N  # and all of them for the comparison


def test_another_configuration_has_frames_of_its_own(utterances, folder, monkeypatch):
    other = FeatureConfig(**{**FEW.to_dict(), "n_coefficients": 8})
    first, second = extract(utterances, folder), extract(utterances, folder, other)
    assert (first.frames[0].shape[1], second.frames[0].shape[1]) == (14, 16)
    assert_same(second, FeatureExtractor(other).extract(utterances))
    no_reading(monkeypatch)
    assert_same(extract(utterances, folder), first)
    assert_same(extract(utterances, folder, other), second)


def test_a_file_with_new_content_is_extracted_anew(utterances, folder, write_tone, monkeypatch):
    path = utterances[3].audio
    before = extract(utterances, folder)
    status = path.stat()
    write_tone(path, 333, seconds=0.23, sample_rate=8000, seed=77)
    # As a program does that unpacks or synchronises: of the same length and age.
    assert path.stat().st_size == status.st_size
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    read = count_reading(monkeypatch)
    after = extract(utterances, folder)
    assert read == ["3.wav"]
    assert_same(after, FeatureExtractor(FEW).extract(utterances))
    assert (after.frames[3] != before.frames[3]).any()
    # What is there for the old content stays, under the same id.
    assert on_disk(folder) == (sorted([*(one.id for one in utterances), "u3"]), [])


def test_the_same_audio_under_another_name_is_not_read_again(utterances, folder, tmp_path, monkeypatch):
    first = extract(utterances, folder)
    copy = tmp_path / "copy.wav"
    copy.write_bytes(utterances[1].audio.read_bytes())
    no_reading(monkeypatch)
    second = extract([Utterance("copy", copy)], folder)
    np.testing.assert_array_equal(second.frames[0], first.frames[1])
    assert second.utterances[0].id == "copy"


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_the_same_utterance_twice(utterances, folder, monkeypatch, n_jobs):
    monkeypatch.setattr(f"{EXTRACT}.SHORT", 0.0)
    twice = [*utterances, *utterances[:5], Utterance("other name", utterances[1].audio)]
    for _ in range(2):
        stored = extract(twice, folder, n_jobs=n_jobs)
        assert_same(stored, FeatureExtractor(FEW).extract(twice))
    assert on_disk(folder) == (sorted(one.id for one in utterances), [])


# --- what goes wrong


def test_problems_are_told_every_time_and_kept_by_no_store(utterances, folder, tmp_path):
    (tmp_path / "text.wav").write_text("this is not audio")
    (tmp_path / "folder.wav").mkdir()
    bad = [Utterance(name, tmp_path / f"{name}.wav") for name in ("text", "missing", "folder")]
    bad.append(Utterance("end", utterances[0].audio, start=0.1, end=9.0))
    mixed = [bad[0], *utterances[:4], *bad[1:], *utterances[4:]]
    messages = []
    for _ in range(2):
        extraction = extract(mixed, folder)
        assert [problem.utterance for problem in extraction.problems] == ["text", "missing", "folder", "end"]
        assert extraction.utterances == tuple(utterances)
        messages.append([problem.message for problem in extraction.problems])
    assert messages[0] == messages[1]
    for message, one, words in zip(
        messages[0],
        bad,
        (
            "cannot be read as audio",
            "No such file",
            "is a folder, not an audio file",
            "the file ends at 0.2 s",
        ),
        strict=True,
    ):
        assert message.startswith(str(one.audio)) and words in message
    (tmp_path / "text.wav").write_bytes(utterances[2].audio.read_bytes())
    assert [problem.utterance for problem in extract(mixed, folder).problems] == ["missing", "folder", "end"]


def test_a_file_that_changes_while_it_is_read_is_a_problem(utterances, folder, write_tone, monkeypatch):
    """The key would be that of other content than the frames."""
    path, read_audio = utterances[3].audio, reading.read_audio

    def disturbed(file, *arguments):
        if file == path:
            write_tone(path, 333, seconds=0.5, sample_rate=8000)
        return read_audio(file, *arguments)

    monkeypatch.setattr(reading, "read_audio", disturbed)
    extraction = extract(utterances, folder)
    (problem,) = extraction.problems
    assert problem.utterance == "u3"
    assert problem.message == f"{path}: changed while it was read (being written by another program?)"
    assert len(extraction.frames) == N - 1
    monkeypatch.setattr(reading, "read_audio", read_audio)
    assert_same(extract(utterances, folder), FeatureExtractor(FEW).extract(utterances))


def test_a_file_that_is_gone_after_it_was_read_is_a_problem(utterances, folder, monkeypatch):
    path, read_audio = utterances[3].audio, reading.read_audio

    def disturbed(file, *arguments):
        result = read_audio(file, *arguments)
        if file == path:
            path.unlink()
        return result

    monkeypatch.setattr(reading, "read_audio", disturbed)
    (problem,) = extract(utterances, folder).problems
    assert problem.utterance == "u3" and problem.message.startswith(f"{path}: cannot be opened (No such file")


@pytest.mark.parametrize("kind", ["file", "text", "imported", "settings"])
def test_what_cannot_be_the_store_is_refused(utterances, folder, kind):
    store, message = folder, "is a file; a feature store is a folder"
    if kind == "file":
        store.write_text("")
    elif kind == "text":
        store = str(utterances[0].audio)
    else:
        message = "holds features of other settings than the extractor's"
        store = (
            FeatureStore.imported(folder, 14) if kind == "imported" else FeatureStore(folder, FeatureConfig())
        )
    with pytest.raises(InputError, match=message):
        extract(utterances, store)


def test_nothing_to_do(folder):
    extraction = extract([], folder)
    assert (extraction.utterances, extraction.frames, extraction.problems) == ((), (), ())


def test_one_warning_for_all(utterances, folder):
    """And none where nothing is read."""
    message = f"^{N} audio files at 8000 Hz brought up to 16000 Hz"
    with pytest.warns(SpeechGMMWarning, match=message) as caught:
        FeatureExtractor().extract(utterances, store=folder)
    assert [warning.filename for warning in caught] == [__file__]
    FeatureExtractor().extract(utterances, store=folder)


# --- from the outside: several processes, killed ones

RUN = """
import hashlib, json, os, signal, sys, time
from pathlib import Path
from speechgmm.features import FeatureConfig, FeatureExtractor
from speechgmm.features import store, store_files

manifest, folder, config, when, start = sys.argv[1:]
store.COMMIT_SECONDS = 0.0  # after every utterance
die_at, _, how = when.partition(" ")
append = store_files.Pair.append

def die(stage, done, total):
    print(done, flush=True)
    if str(done) == die_at and not how:
        os.kill(os.getpid(), signal.SIGKILL)

def half(self, frames):
    if self._n_rows and how:
        self._frames.write(frames.tobytes()[: frames.nbytes // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    return append(self, frames)

store_files.Pair.append = half
extractor = FeatureExtractor(FeatureConfig(**json.loads(config)))
extractor.extract(manifest, store=folder + "-warm")
print("ready", flush=True)
while start and not os.path.exists(start):
    time.sleep(0.001)
extraction = extractor.extract(manifest, progress=die, store=folder)
digest = hashlib.sha256()
for frames in extraction.frames:
    digest.update(frames.tobytes())
print(len(extraction.frames), digest.hexdigest(), *extraction.problems)
"""


def started(manifest, folder, when="", start=""):
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(manifest), str(folder), json.dumps(FEW.to_dict()), when, str(start)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.fixture
def manifest(utterances, tmp_path):
    write_manifest(utterances, tmp_path / "m.jsonl")
    return tmp_path / "m.jsonl"


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_killed_run_is_taken_up(utterances, manifest, folder, monkeypatch):
    killed = started(manifest, folder, "7")
    out, _ = killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert out.split()[-1] == "7"
    there, faults = on_disk(folder)
    assert faults == [] and set(there) == {f"u{n}" for n in range(7)}
    killed = started(manifest, folder, "0 half")  # in the middle of the second utterance that is missing
    assert killed.communicate(timeout=120)[0] and killed.returncode == -signal.SIGKILL
    there, faults = on_disk(folder)
    assert faults == [] and set(there) == {f"u{n}" for n in range(8)}
    read = count_reading(monkeypatch)
    resumed = extract(utterances, folder)
    assert read == [f"{n}.wav" for n in range(8, N)]
    assert_same(resumed, FeatureExtractor(FEW).extract(utterances))
    assert on_disk(folder) == (sorted(one.id for one in utterances), [])


def test_two_processes_at_once(utterances, manifest, folder, tmp_path):
    start = tmp_path / "start"
    processes = [started(manifest, folder, start=start) for _ in range(2)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    start.touch()
    results = [process.communicate(timeout=120)[0].splitlines()[-1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert results[0] == results[1] and results[0].startswith(f"{N} ")
    assert on_disk(folder) == (sorted(one.id for one in utterances), [])
    assert_same(extract(utterances, folder), FeatureExtractor(FEW).extract(utterances))


def test_an_error_in_the_middle_keeps_what_is_done(utterances, folder, monkeypatch):
    def stop(stage, done, total):
        if done == 5:
            raise KeyboardInterrupt("enough")

    with pytest.raises(KeyboardInterrupt, match="enough"):
        extract(utterances, folder, progress=stop)
    assert on_disk(folder) == (sorted(f"u{n}" for n in range(5)), [])
    read = count_reading(monkeypatch)
    extract(utterances, folder)
    assert read == [f"{n}.wav" for n in range(5, N)]


def test_the_store_grows_while_others_read(utterances, folder):
    """A store that was opened before sees what a run adds once it is refreshed, and its frames stay as they are."""
    early = FeatureStore(folder, FEW)
    first = extract(utterances[:3], folder)
    assert len(early) == 0
    early.refresh()
    assert len(early) == 3
    kept = [frames.copy() for frames in first.frames]
    extract(utterances, folder)
    for frames, copy in zip(first.frames, kept, strict=True):
        np.testing.assert_array_equal(frames, copy)


# --- training


def test_training_from_a_store_gives_the_same_bits(utterances, folder, tmp_path, monkeypatch):
    settings = TrainingSettings(n_components=2)
    models = []
    for number, store in enumerate((None, folder, folder)):
        if number == 2:
            no_reading(monkeypatch)
        training = train(utterances, features=FEW, settings=settings, store=store)
        training.model.save(tmp_path / f"{number}.model")
        models.append((tmp_path / f"{number}.model").read_bytes())
        assert training.problems == ()
    assert models[0] == models[1] == models[2]


def test_training_from_a_store_chooses_the_settings_as_without(utterances, folder):
    """The store's subfolder is that of the settings which the audio's rate decides."""
    settings = TrainingSettings(n_components=2)
    model = train(utterances, features={"n_coefficients": 5}, settings=settings, store=str(folder)).model
    assert model.features == FeatureConfig(sample_rate=8000, n_coefficients=5)
    assert len(FeatureStore(folder, model.features, create=False)) == N


def test_the_files_of_a_second_ago_are_looked_at_again(utterances, folder, monkeypatch):
    """Their checksum is not to be relied on: they may change within a tick of the clock. Older ones are not read."""
    hashed = []
    monkeypatch.setattr("speechgmm.features.store_files.sha256", lambda path: hashed.append(path) or "0" * 64)
    old = time.time_ns() + 10**10
    monkeypatch.setattr(time, "time_ns", lambda: old)
    one = utterances[:1]
    extract(one, folder)
    assert hashed == [one[0].audio]
    extract(one, folder)
    assert hashed == [one[0].audio]
