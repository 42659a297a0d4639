"""Many utterances to frames: in order, the same bits with any workers, no bad file stopping the others."""

import threading
import time

import joblib
import numpy as np
import pytest
import soundfile
from joblib.externals.loky import get_reusable_executor

from speechgmm.audio import read_audio
from speechgmm.errors import FormatError, InputError, SpeechGMMWarning
from speechgmm.features import FeatureConfig, FeatureExtractor, Problem, reading
from speechgmm.features.store import FeatureStore
from speechgmm.manifest import Utterance, write_manifest
from speechgmm.parallel import parallel_map

EXTRACT = "speechgmm.features.extract"
READ = "speechgmm.features.reading.read_audio"
FEW = FeatureConfig(sample_rate=8000, n_filters=24, n_coefficients=13)
N = 40


@pytest.fixture(scope="module", autouse=True)
def _processes():
    """Processes that were started are ended."""
    yield
    get_reusable_executor().shutdown(wait=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """40 quick ones at 8 kHz, of many lengths, a few of them stretches of their files."""
    folder, rng = tmp_path_factory.mktemp("made"), np.random.default_rng(0)
    utterances = []
    for n in range(N):
        path = folder / f"{n}.wav"
        time = np.arange(round((0.2 + 0.013 * n) * 8000)) / 8000
        tone = 0.1 * np.sin(2 * np.pi * (90 + 7 * n) * time) + 0.01 * rng.standard_normal(time.size)
        soundfile.write(path, tone, 8000)
        utterances.append(
            Utterance(f"u{n}", path, start=0.05 if n % 5 == 0 else None, labels={"speaker": str(n)})
        )
    return tuple(utterances)


@pytest.fixture
def utterances(made):
    return list(made)


@pytest.fixture
def workers(monkeypatch):
    """How `parallel_map` was asked to work, and how many batches it got."""
    asked = []

    def recorded(function, items, n_jobs=1, prefer="threads", ordered=True):
        asked.append((n_jobs, prefer, len(items)))
        return parallel_map(function, items, n_jobs, prefer, ordered)

    monkeypatch.setattr(f"{EXTRACT}.parallel_map", recorded)
    return asked


@pytest.fixture
def long_enough(monkeypatch):
    """As if the files were long, so that workers are worth while."""
    monkeypatch.setattr(f"{EXTRACT}.SHORT", 0.0)


@pytest.fixture
def many(monkeypatch):
    """As if there were so many files that processes are worth while."""
    for name, value in (("MANY", 10), ("SAMPLED", 4), ("BATCHES", {"threads": 32, "processes": 5})):
        monkeypatch.setattr(f"{EXTRACT}.{name}", value)


def assert_same(one, other):
    """Equal utterances, equal bits, equal problems."""
    assert one.utterances == other.utterances
    assert one.seconds == other.seconds
    assert one.problems == other.problems
    assert len(one.frames) == len(other.frames)
    for left, right in zip(one.frames, other.frames, strict=True):
        assert left.dtype == np.float32
        np.testing.assert_array_equal(left, right)


# --- alone and together


def test_in_a_batch_as_alone(utterances):
    extractor = FeatureExtractor(FEW)
    extraction = extractor.extract(utterances)
    assert extraction.utterances == tuple(utterances)
    assert extraction.problems == ()
    for utterance, frames in zip(utterances, extraction.frames, strict=True):
        np.testing.assert_array_equal(frames, extractor.from_utterance(utterance))
        np.testing.assert_array_equal(frames, extractor.extract([utterance]).frames[0])
        if utterance.start is None:
            np.testing.assert_array_equal(frames, extractor.from_samples(read_audio(utterance.audio)[0]))


def test_order_and_company_do_not_matter(utterances):
    extractor = FeatureExtractor(FEW)
    forwards, backwards = extractor.extract(utterances), extractor.extract(utterances[::-1])
    for left, right in zip(forwards.frames, backwards.frames[::-1], strict=True):
        np.testing.assert_array_equal(left, right)


def test_a_manifest_may_be_given_by_its_path(utterances):
    path = utterances[0].audio.with_name("m.jsonl")
    write_manifest(utterances, path)
    extractor = FeatureExtractor(FEW)
    for given in (path, str(path), tuple(utterances)):
        assert_same(extractor.extract(given), extractor.extract(utterances))
    path.write_text("this is no manifest")
    with pytest.raises(FormatError, match=r"m\.jsonl: line 1: not valid JSON"):
        extractor.extract(path)
    with pytest.raises(InputError, match=r"none\.jsonl: cannot be read \(No such file"):
        extractor.extract("none.jsonl")


def test_seconds_of_whole_files(utterances):
    whole = [utterance for utterance in utterances if utterance.start is None]
    extraction = FeatureExtractor(FEW).extract(whole)
    assert extraction.seconds == tuple(read_audio(utterance.audio)[0].size / 8000 for utterance in whole)


@pytest.mark.parametrize(
    ("start", "end", "seconds"), [(0.0, None, 1.0), (0.5, None, 0.5), (0.5, 1.0, 0.5), (0.991, None, 0.009)]
)
def test_seconds_of_stretches(write_tone, tmp_path, start, end, seconds):
    path = write_tone(tmp_path / "a.wav", seconds=1.0)
    extraction = FeatureExtractor().extract([Utterance("u", path, start=start, end=end)])
    assert extraction.seconds == (pytest.approx(seconds),)


def test_nothing_to_do():
    calls = []
    extraction = FeatureExtractor().extract([], progress=lambda *call: calls.append(call))
    assert (extraction.utterances, extraction.frames, extraction.seconds, extraction.problems) == (
        (),
        (),
        (),
        (),
    )
    assert calls == []
    assert list(FeatureExtractor().stream([])) == []


# --- workers


def test_threads_give_the_same_bits(utterances, workers, long_enough):
    extractor = FeatureExtractor(FEW)
    serial, threaded = (extractor.extract(utterances, n_jobs=n_jobs) for n_jobs in (1, 2))
    assert [how[:2] for how in workers] == [(1, "threads"), (2, "threads")]
    assert_same(serial, threaded)


def test_processes_give_the_same_bits(utterances, workers, many):
    bad = Utterance("bad", utterances[0].audio.with_name("missing.wav"))
    utterances.insert(30, bad)
    extractor = FeatureExtractor(FEW)
    serial = extractor.extract(utterances)
    calls = []
    in_processes = extractor.extract(utterances, n_jobs=2, progress=lambda *call: calls.append(call))
    assert workers[-1][:2] == (2, "processes")
    assert [problem.utterance for problem in serial.problems] == ["bad"]
    assert_same(serial, in_processes)
    assert calls == [("features", n, N + 1) for n in range(1, N + 2)]


@pytest.mark.parametrize(("files", "asked"), [("many", (1, "threads")), ("long_enough", (2, "threads"))])
def test_into_a_store_by_workers(utterances, workers, tmp_path, monkeypatch, request, files, asked):
    request.getfixturevalue(files)  # many short files go to no processes, which would each read the index
    monkeypatch.setattr("speechgmm.features.store_files.LARGE", 10_000)  # so that some go by a file
    extractor = FeatureExtractor(FEW)
    for _ in range(2):
        assert_same(extractor.extract(utterances, 2, store=tmp_path), extractor.extract(utterances))
    assert workers[0][:2] == workers[2][:2] == asked
    assert FeatureStore(tmp_path, FEW).verify() == []


@pytest.mark.parametrize("backend", ["sequential", "threading", "loky", "multiprocessing"])
def test_any_backend_of_joblib(utterances, tmp_path, long_enough, backend):
    utterances[3] = Utterance("bad", utterances[3].audio.with_name("missing.wav"))
    extractor = FeatureExtractor(FEW)
    plain = extractor.extract(utterances)
    with joblib.parallel_config(backend=backend):
        assert_same(extractor.extract(utterances, n_jobs=2), plain)
        assert_same(extractor.extract(utterances, n_jobs=2, store=tmp_path), plain)
        assert len(list(extractor.stream(utterances, n_jobs=2, ordered=False))) == N


def test_few_short_files_are_not_worth_workers(utterances, workers):
    FeatureExtractor(FEW).extract(utterances, n_jobs=2)
    assert workers[0][:2] == (1, "threads")


def test_a_few_long_files_are_worth_workers(utterances, workers, long_enough):
    FeatureExtractor(FEW).extract(utterances[:12], n_jobs=2)
    assert workers == [(2, "threads", 12)]


def test_batches_are_of_a_size_that_keeps_workers_busy(utterances, workers, long_enough):
    FeatureExtractor(FEW).extract(utterances * 26, n_jobs=2)
    assert workers == [(2, "threads", 33)]  # 1040 utterances by 32


@pytest.mark.parametrize("n_jobs", [0, "2", True])
def test_a_bad_number_of_workers_is_refused(utterances, n_jobs):
    with pytest.raises(InputError, match="`n_jobs` is"):
        FeatureExtractor(FEW).extract(utterances, n_jobs=n_jobs)
    with pytest.raises(InputError, match="`n_jobs` is"):
        list(FeatureExtractor(FEW).stream(utterances, n_jobs=n_jobs))


# --- as a stream


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("ordered", [True, False])
def test_a_stream_gives_what_extraction_gives(utterances, long_enough, n_jobs, ordered):
    utterances[3] = Utterance("bad", utterances[3].audio.with_name("missing.wav"))
    extractor = FeatureExtractor(FEW)
    extraction = extractor.extract(utterances)
    outcomes = list(extractor.stream(utterances, n_jobs, ordered))
    if ordered:
        assert [one.utterance for one in outcomes] == utterances
    by_id = {one.utterance.id: one for one in outcomes}
    assert len(by_id) == len(outcomes) == N
    bad = by_id.pop("bad")
    assert (bad.frames, bad.message) == (None, extraction.problems[0].message)
    for utterance, frames, seconds in zip(
        extraction.utterances, extraction.frames, extraction.seconds, strict=True
    ):
        outcome = by_id[utterance.id]
        np.testing.assert_array_equal(outcome.frames, frames)
        assert (outcome.seconds, outcome.message, outcome.file_rate) == (seconds, "", 8000)
        assert outcome.speech_found


def test_an_unordered_stream_does_not_wait_for_the_first(utterances, monkeypatch, long_enough):
    others_are_done = threading.Event()

    def first_waits(path, *arguments):
        if path == utterances[0].audio:
            assert others_are_done.wait(30)
        return read_audio(path, *arguments)

    monkeypatch.setattr(READ, first_waits)
    stream = FeatureExtractor(FEW).stream(utterances[:8], n_jobs=2, ordered=False)
    assert next(stream).utterance.id != "u0"
    others_are_done.set()
    assert {one.utterance.id for one in stream} >= {"u0"}


@pytest.mark.filterwarnings("ignore:.*tasks have been successfully executed:UserWarning")  # joblib's, both
@pytest.mark.filterwarnings("ignore:.*tasks which were still being processed:UserWarning")
@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_stream_that_is_left_stops_its_workers(utterances, monkeypatch, long_enough, n_jobs, ordered):
    read = []

    def counted(path, *arguments):
        read.append(path)
        time.sleep(0.002)
        return read_audio(path, *arguments)

    monkeypatch.setattr(READ, counted)
    stream = FeatureExtractor(FEW).stream(utterances * 5, n_jobs, ordered)
    next(stream)
    stream.close()
    n_read, give_up = -1, time.monotonic() + 30
    while n_read < len(read) and time.monotonic() < give_up:  # each worker ends the batch that it is at
        n_read = len(read)
        time.sleep(0.3)
    assert len(read) == n_read < 0.75 * 5 * N
    assert len(FeatureExtractor(FEW).extract(utterances[:5], n_jobs=n_jobs).frames) == 5


def test_a_stream_is_lazy(utterances, monkeypatch):
    read = []
    monkeypatch.setattr(READ, lambda path, *a: read.append(path) or read_audio(path, *a))
    stream = FeatureExtractor(FEW).stream(utterances[:10])
    assert read == []
    for n_read in (1, 2, 3):
        next(stream)
        assert len(read) == n_read


# --- progress


def test_progress_counts_every_utterance(utterances):
    calls = []
    utterances[3] = Utterance("bad", utterances[3].audio.with_name("missing.wav"))
    FeatureExtractor(FEW).extract(
        utterances, progress=lambda stage, done, total: calls.append((stage, done, total))
    )
    assert calls == [("features", n, N) for n in range(1, N + 1)]


def test_progress_is_told_as_the_work_goes_on(utterances, monkeypatch):
    n_read, seen = [], []
    monkeypatch.setattr(READ, lambda path, *a: n_read.append(path) or read_audio(path, *a))
    FeatureExtractor(FEW).extract(
        utterances[:10], progress=lambda stage, done, total: seen.append(len(n_read))
    )
    assert seen == list(range(1, 11))


# --- what goes wrong


def write_bad_files(folder):
    """A file for a few ways to be bad, with the words that tell it; more are in the tests of hostile files."""
    (folder / "text.wav").write_text("this is not audio")
    soundfile.write(folder / "silent.wav", np.zeros(8000), 8000)
    return {
        "text": "cannot be read as audio",
        "missing": "No such file or directory",
        "silent": "silent in the 1 s from 0 s",
    }


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_bad_files_become_problems_and_the_others_are_done(utterances, tmp_path, long_enough, n_jobs):
    words = write_bad_files(tmp_path)
    mixed = []
    for good, name in zip(utterances, words, strict=False):
        mixed += [good, Utterance(f"bad {name}", tmp_path / f"{name}.wav")]
    mixed.append(Utterance("bad end", utterances[0].audio, start=0.1, end=9.0))
    mixed.append(utterances[-1])
    extraction = FeatureExtractor(FEW).extract(mixed, n_jobs=n_jobs)
    assert extraction.utterances == (*utterances[: len(words)], utterances[-1])
    assert len(extraction.frames) == len(extraction.seconds) == len(words) + 1
    assert all(len(frames) and np.isfinite(frames).all() for frames in extraction.frames)
    assert [type(problem) for problem in extraction.problems] == [Problem] * (len(words) + 1)
    for problem, (name, text) in zip(extraction.problems, words.items(), strict=False):
        assert problem.utterance == f"bad {name}"
        assert f"{name}.wav: " in problem.message and text in problem.message
    assert extraction.problems[-1].utterance == "bad end"
    assert "utterance 'bad end' ends at 9 s; the file ends at 0.2 s" in extraction.problems[-1].message


def test_all_bad(tmp_path):
    extraction = FeatureExtractor().extract([Utterance("u", tmp_path / "missing.wav")] * 3)
    assert (extraction.utterances, extraction.frames, extraction.seconds) == ((), (), ())
    assert len(extraction.problems) == 3


def test_a_file_that_is_named_already_is_named_once(tmp_path):
    (problem,) = FeatureExtractor().extract([Utterance("u", tmp_path / "missing.wav")]).problems
    assert problem.message.count("missing.wav") == 1


def test_a_mistake_in_the_program_is_not_taken_for_a_bad_file(utterances, monkeypatch):
    """What no file is to blame for stops the run."""

    def broken(path, *arguments):
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(reading, "read_audio", broken)
    with pytest.raises(ZeroDivisionError, match="oops"):
        FeatureExtractor(FEW).extract(utterances)


# --- warnings


def test_one_warning_for_all_low_rate_files(utterances, write_tone, tmp_path):
    wide = [Utterance(f"w{n}", write_tone(tmp_path / f"w{n}.wav", sample_rate=16000)) for n in range(2)]
    telephone = [Utterance("t", write_tone(tmp_path / "t.wav", sample_rate=11025))]
    missing = [Utterance("bad", tmp_path / "missing.wav")]
    with pytest.warns(SpeechGMMWarning, match="^21 audio files at 8000 Hz brought up to 16000 Hz") as caught:
        extraction = FeatureExtractor().extract(utterances[:20] + wide + telephone + missing)
    assert [warning.filename for warning in caught] == [__file__]
    assert len(extraction.frames) == 23


def test_no_warning_where_rates_match_or_are_higher(utterances, write_tone, tmp_path):
    """Warnings are errors here, so extraction alone shows it."""
    wide = Utterance("w", write_tone(tmp_path / "w.wav", sample_rate=44100))
    assert len(FeatureExtractor(FEW).extract([*utterances[:2], wide]).frames) == 3


@pytest.fixture
def spoken(tmp_path):
    """In which speech can be told from silence."""
    samples = np.random.default_rng(0).standard_normal(8000) * np.where(
        np.arange(8000) % 4000 < 2000, 0.1, 1e-4
    )
    soundfile.write(tmp_path / "spoken.wav", samples, 8000)
    return Utterance("spoken", tmp_path / "spoken.wav")


@pytest.mark.parametrize("method", ["energy", "gmm"])
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_one_warning_for_all_without_speech(utterances, spoken, long_enough, method, n_jobs):
    """All their frames are kept."""
    config = FeatureConfig(**{**FEW.to_dict(), "speech_activity": method})
    whole = [one for one in utterances if one.start is None][:12]
    ids = ", ".join(map(repr, sorted(one.id for one in whole)[:10]))
    message = rf"^no speech can be told from silence in {ids} and 2 more; all frames are kept$"
    with pytest.warns(SpeechGMMWarning, match=message) as caught:
        extraction = FeatureExtractor(config).extract([*whole, spoken], n_jobs)
    assert [warning.filename for warning in caught] == [__file__]
    plain = FeatureExtractor(FEW).extract([*whole, spoken])
    for frames, everything in zip(extraction.frames[:-1], plain.frames[:-1], strict=True):
        np.testing.assert_array_equal(frames, everything)
    assert len(extraction.frames[-1]) < 0.7 * len(plain.frames[-1])


@pytest.mark.parametrize("method", ["energy", "gmm"])
def test_those_without_speech_may_be_refused(utterances, spoken, method):
    config = FeatureConfig(**{**FEW.to_dict(), "speech_activity": method, "no_speech": "refuse"})
    whole = [one for one in utterances if one.start is None][:12]
    extraction = FeatureExtractor(config).extract([*whole[:5], spoken, *whole[5:]])
    assert extraction.utterances == (spoken,)
    assert [problem.utterance for problem in extraction.problems] == [one.id for one in whole]
    for problem, one in zip(extraction.problems, whole, strict=True):
        assert problem.message.startswith(f"{one.audio}: no speech can be told from silence (a steady noise")
        assert '`no_speech` "keep" keeps all frames' in problem.message


def test_a_stream_says_where_no_speech_was_found(utterances, spoken):
    config = FeatureConfig(**{**FEW.to_dict(), "speech_activity": "energy"})
    outcomes = list(FeatureExtractor(config).stream([utterances[1], spoken]))
    assert [one.speech_found for one in outcomes] == [False, True]
