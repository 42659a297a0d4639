"""Many utterances to frames: in order, the same bits with any workers, no bad file stopping the others."""

import numpy as np
import pytest
import soundfile
from joblib.externals.loky import get_reusable_executor

from speechgmm.audio import read_audio
from speechgmm.errors import InputError, SpeechGMMWarning
from speechgmm.features import FeatureConfig, FeatureExtractor, Problem
from speechgmm.manifest import Utterance
from speechgmm.parallel import ordered_map

EXTRACT = "speechgmm.features.extract"
FEW = FeatureConfig(sample_rate=8000, n_mels=24, n_coefficients=13)


@pytest.fixture
def utterances(write_tone, tmp_path):
    """40 quick ones at 8 kHz, of many lengths, a few of them stretches of their files."""
    made = []
    for n in range(40):
        path = write_tone(
            tmp_path / f"{n}.wav", pitch=90 + 7 * n, seconds=0.2 + 0.013 * n, sample_rate=8000, seed=n
        )
        made.append(Utterance(f"u{n}", path, start=0.05 if n % 5 == 0 else None, labels={"speaker": str(n)}))
    return made


@pytest.fixture
def workers(monkeypatch):
    """How `ordered_map` was asked to work; processes it started are ended."""
    asked = []

    def recorded(function, items, n_jobs=1, prefer="threads"):
        asked.append((n_jobs, prefer))
        return ordered_map(function, items, n_jobs, prefer)

    monkeypatch.setattr(f"{EXTRACT}.ordered_map", recorded)
    yield asked
    if any(n_jobs > 1 and prefer == "processes" for n_jobs, prefer in asked):
        get_reusable_executor().shutdown(wait=True)


def assert_same(one, other):
    """Equal utterances, equal bits, equal problems."""
    assert one.utterances == other.utterances
    assert one.seconds == other.seconds
    assert one.problems == other.problems
    assert len(one.frames) == len(other.frames)
    for left, right in zip(one.frames, other.frames, strict=True):
        assert left.dtype == np.float32
        np.testing.assert_array_equal(left, right)


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


def test_threads_give_the_same_bits(utterances, workers, monkeypatch):
    monkeypatch.setattr(f"{EXTRACT}.SHORT", 0.0)
    extractor = FeatureExtractor(FEW)
    serial, threaded = (extractor.extract(utterances, n_jobs=n_jobs) for n_jobs in (1, 2))
    assert workers == [(1, "threads"), (2, "threads")]
    assert_same(serial, threaded)


def test_processes_give_the_same_bits(utterances, workers, monkeypatch):
    bad = Utterance("bad", utterances[0].audio.with_name("missing.wav"))
    utterances.insert(30, bad)
    extractor = FeatureExtractor(FEW)
    serial = extractor.extract(utterances)
    monkeypatch.setattr(f"{EXTRACT}.MANY", 10)
    monkeypatch.setattr(f"{EXTRACT}.SAMPLED", 4)
    monkeypatch.setattr(f"{EXTRACT}.BATCH", 5)
    calls = []
    in_processes = extractor.extract(
        utterances, n_jobs=2, progress=lambda stage, done, total: calls.append((stage, done, total))
    )
    assert workers[-1] == (2, "processes")
    assert [problem.utterance for problem in serial.problems] == ["bad"]
    assert_same(serial, in_processes)
    assert calls == [("features", n, 41) for n in range(1, 42)]


def test_few_short_files_are_not_worth_workers(utterances, workers):
    FeatureExtractor(FEW).extract(utterances, n_jobs=2)
    assert workers == [(1, "threads")]


def test_progress_counts_every_utterance(utterances):
    calls = []
    utterances[3] = Utterance("bad", utterances[3].audio.with_name("missing.wav"))
    FeatureExtractor(FEW).extract(
        utterances, progress=lambda stage, done, total: calls.append((stage, done, total))
    )
    assert calls == [("features", n, 40) for n in range(1, 41)]


def test_progress_is_told_as_the_work_goes_on(utterances, monkeypatch):
    n_read, seen = [], []

    def recorded(path, start=None, end=None):
        n_read.append(path)
        return read_audio(path, start, end)

    monkeypatch.setattr(f"{EXTRACT}.read_audio", recorded)
    FeatureExtractor(FEW).extract(
        utterances[:10], progress=lambda stage, done, total: seen.append(len(n_read))
    )
    assert seen == list(range(1, 11))


def test_a_few_long_files_are_worth_workers(utterances, workers, monkeypatch):
    monkeypatch.setattr(f"{EXTRACT}.SHORT", 0.0)
    handed_over = []

    def recorded(function, items, n_jobs=1, prefer="threads"):
        items = list(items)
        handed_over.extend(items)
        return ordered_map(function, items, n_jobs, prefer)

    monkeypatch.setattr(f"{EXTRACT}.ordered_map", recorded)
    FeatureExtractor(FEW).extract(utterances[:12], n_jobs=2)
    assert len(handed_over) >= 10


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


def write_bad_files(folder):
    """A file for every way to be bad, with the words that tell it."""
    (folder / "text.wav").write_text("this is not audio")
    (folder / "empty.wav").touch()
    soundfile.write(folder / "silent.wav", np.zeros(8000), 8000)
    broken = np.random.default_rng(0).standard_normal(8000)
    broken[4000] = np.nan
    soundfile.write(folder / "nan.wav", broken, 8000, subtype="FLOAT")
    return {
        "text": "cannot be read as audio",
        "empty": "is empty, 0 bytes long",
        "missing": "No such file or directory",
        "silent": "silent in the 1 s from 0 s",
        "nan": r"the sample at 0.5 s is NaN or infinite",
    }


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_bad_files_become_problems_and_the_others_are_done(utterances, tmp_path, monkeypatch, n_jobs):
    monkeypatch.setattr(f"{EXTRACT}.SHORT", 0.0)
    monkeypatch.setattr(f"{EXTRACT}.SAMPLED", 2)
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


def test_a_file_beyond_float32s_reach_becomes_a_problem(utterances, tmp_path):
    huge = np.random.default_rng(0).standard_normal(8000) * 1e25
    soundfile.write(tmp_path / "huge.wav", huge, 8000, subtype="FLOAT")
    with np.errstate(all="ignore"):
        extraction = FeatureExtractor(FEW).extract([utterances[0], Utterance("huge", tmp_path / "huge.wav")])
    assert all(np.isfinite(frames).all() for frames in extraction.frames)
    assert [problem.utterance for problem in extraction.problems] == ["huge"]


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


@pytest.mark.parametrize("n_jobs", [0, "2", True])
def test_a_bad_number_of_workers_is_refused(utterances, n_jobs):
    with pytest.raises(InputError, match="`n_jobs` is"):
        FeatureExtractor(FEW).extract(utterances, n_jobs=n_jobs)
