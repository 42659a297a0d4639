"""Audio as it should not be: each file gives finite frames, or a problem that names it and the cause."""

import os
import re
import shutil
import warnings

import numpy as np
import pytest
import soundfile

from speechgmm.errors import InputError, SpeechGMMWarning
from speechgmm.features import FeatureConfig, FeatureExtractor
from speechgmm.features.config import CHOICES
from speechgmm.features.presets import PRESETS
from speechgmm.manifest import Utterance, write_manifest
from tests.cli_tools import make_world, run

RATE = 8000
N_SAMPLES = 8000
FRAMES_OF_A_SECOND = 101
EXTRACT = "speechgmm.features.extract"
FEW = FeatureConfig(sample_rate=RATE, n_coefficients=7)


def noise(n_samples=N_SAMPLES, n_channels=1, level=0.1):
    samples = np.random.default_rng(0).standard_normal((n_samples, n_channels)) * level
    return np.clip(samples, -1, 1).astype(np.float32)


def wave(pitch=200.0):
    return np.sin(2 * np.pi * pitch * np.arange(N_SAMPLES) / RATE)


def with_value(value):
    samples = noise()
    samples[4000] = value
    return samples


def write(samples, rate=RATE, **options):
    return lambda path: soundfile.write(path, samples, rate, **options)


def write_text(path):
    path.write_text("this is not audio")


def write_cut_flac(path):
    soundfile.write(path, noise(), RATE, format="FLAC")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def write_cut_wav(path):
    soundfile.write(path, noise(), RATE)
    path.write_bytes(path.read_bytes()[:9000])


def write_with_rate(rate):
    """A header that says something else than the encoder would."""

    def writer(path):
        soundfile.write(path, noise(), RATE, subtype="PCM_16")
        content = bytearray(path.read_bytes())
        content[24:28] = rate.to_bytes(4, "little")
        path.write_bytes(content)

    return writer


# Those that give frames, with the number of them, at 8 kHz.
USABLE = {
    "clipped.wav": (write(np.sign(wave())), FRAMES_OF_A_SECOND),
    "full scale.wav": (write(np.where(wave() > 0, 1.0, -1.0), subtype="FLOAT"), FRAMES_OF_A_SECOND),
    "offset.wav": (write(0.5 + 0.1 * wave()), FRAMES_OF_A_SECOND),
    "all but offset.wav": (write(0.9 + 1e-4 * noise(), subtype="FLOAT"), FRAMES_OF_A_SECOND),
    "beyond full scale.wav": (write(1e4 * noise(), subtype="FLOAT"), FRAMES_OF_A_SECOND),
    "whisper.wav": (write(1e-3 * noise(), subtype="FLOAT"), FRAMES_OF_A_SECOND),
    "impulse.wav": (write(np.eye(1, N_SAMPLES, 4000)[0]), FRAMES_OF_A_SECOND),
    "silence at first.wav": (write(np.concatenate([np.zeros(4000), wave()[:4000]])), FRAMES_OF_A_SECOND),
    "two samples.wav": (write(np.array([0.5, -0.5])), 1),
    "768 kHz.wav": (write(noise(768_000), 768_000), FRAMES_OF_A_SECOND),
    "32 channels.wav": (write(noise(n_channels=32)), FRAMES_OF_A_SECOND),
    "24 bits.wav": (write(noise(), subtype="PCM_24"), FRAMES_OF_A_SECOND),
    "8 bits.wav": (write(noise(), subtype="PCM_U8"), FRAMES_OF_A_SECOND),
    "mu-law.wav": (write(noise(), subtype="ULAW"), FRAMES_OF_A_SECOND),
    "flac called.wav": (write(noise(), format="FLAC"), FRAMES_OF_A_SECOND),
}
# Those that are problems, with what is said of them after their name.
UNUSABLE = {
    "0 samples.wav": (write(noise(0)), "holds no samples, or its header says so"),
    "1 sample.wav": (write(noise(1)), "silent in the 0.000125 s from 0 s: all samples lie within one step"),
    "zeros.wav": (write(np.zeros(N_SAMPLES)), "silent in the 1 s from 0 s"),
    "constant.wav": (write(np.full(N_SAMPLES, 0.5)), "silent in the 1 s from 0 s"),
    "all nan.wav": (
        write(np.full(N_SAMPLES, np.nan), subtype="FLOAT"),
        "the sample at 0 s is NaN or infinite",
    ),
    "nan.wav": (write(with_value(np.nan), subtype="FLOAT"), "the sample at 0.5 s is NaN or infinite"),
    "inf.wav": (write(with_value(np.inf), subtype="FLOAT"), "the sample at 0.5 s is NaN or infinite"),
    "minus inf.wav": (write(with_value(-np.inf), subtype="DOUBLE"), "the sample at 0.5 s is NaN or infinite"),
    "beyond reason.wav": (write(1e20 * noise(), subtype="FLOAT"), "they must lie in [-1, 1] or near it"),
    "1 Hz.wav": (write_with_rate(1), "its header says 1 Hz; speech has from 1000 to 1000000 Hz"),
    "2 GHz.wav": (write_with_rate(2**31 - 1), "its header says 2147483647 Hz; speech has from 1000 to"),
    "0 Hz.wav": (write_with_rate(0), "cannot be read as audio"),
    "too short for its rate.wav": (
        write(noise(2), 768_000),
        "2 samples at 768000 Hz are too short to resample",
    ),
    "cut.flac": (write_cut_flac, "cut short"),
    "cut.wav": (write_cut_wav, "cut short: its header promises 16000 bytes, of which 8956 are there"),
    "text.wav": (write_text, "cannot be read as audio"),
    "empty.wav": (lambda path: path.touch(), "is empty, 0 bytes long"),
    "folder.wav": (lambda path: path.mkdir(), "is a folder, not an audio file"),
    "missing.wav": (lambda path: None, "cannot be opened (No such file or directory)"),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def hostile(world):
    """Utterances of all these files, in a folder beside the good ones; and the good ones."""
    folder = world.corpus / "hostile"
    folder.mkdir()
    for name, (writer, _) in {**USABLE, **UNUSABLE}.items():
        writer(folder / name)
    good = [Utterance(path.parent.parent.name + path.name, path) for path in good_files(world)[:6]]
    yield {name: Utterance(name, folder / name) for name in (*USABLE, *UNUSABLE)}, good
    shutil.rmtree(folder)


def good_files(world):
    return sorted(path for path in world.corpus.rglob("take*.wav"))


def mixed(bad, good):
    """All of them, a good one among the others now and then."""
    some = []
    for number, utterance in enumerate(bad.values()):
        some += [utterance, good[number // 6]] if number % 6 == 0 else [utterance]
    return some


def as_said(problems):
    """What was said of each, after the name of its file."""
    said = {}
    for problem in problems:
        head, found, rest = problem.message.partition(f"{problem.utterance}: ")
        assert found and head.endswith(os.sep), problem.message
        said[problem.utterance] = rest
    return said


# --- all of them together


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("in_store", [False, True])
def test_every_file_gives_frames_or_a_problem(hostile, tmp_path, monkeypatch, n_jobs, in_store):
    monkeypatch.setattr(f"{EXTRACT}.SHORT", 0.0)
    bad, good = hostile
    store = tmp_path / "store" if in_store else None
    extractor = FeatureExtractor(FEW)
    alone = extractor.extract(good)
    assert alone.problems == ()
    extraction = extractor.extract(mixed(bad, good), n_jobs, store=store)
    found = {one.id: frames for one, frames in zip(extraction.utterances, extraction.frames, strict=True)}
    assert set(found) == set(USABLE) | {one.id for one in good}
    for name, (_, n_frames) in USABLE.items():
        assert found[name].shape == (n_frames, 21)
        assert np.isfinite(found[name]).all()
    said = as_said(extraction.problems)
    assert list(said) == list(UNUSABLE)
    for name, (_, words) in UNUSABLE.items():
        assert words in said[name], f"{name}: {said[name]}"
    for one, frames in zip(good, alone.frames, strict=True):
        np.testing.assert_array_equal(found[one.id], frames)


@pytest.mark.parametrize("name", UNUSABLE)
def test_alone_it_is_an_error_of_the_same_words(hostile, name):
    with pytest.raises(InputError, match=re.escape(f"{name}: ")) as caught:
        FeatureExtractor(FEW).from_utterance(hostile[0][name])
    assert UNUSABLE[name][1] in str(caught.value)


@pytest.mark.parametrize("name", UNUSABLE)
def test_in_a_stretch_it_is_a_problem_too(hostile, name):
    utterance = Utterance(name, hostile[0][name].audio, start=0.0, end=0.9)
    (problem,) = FeatureExtractor(FEW).extract([utterance]).problems
    assert problem.message.startswith(f"{utterance.audio}: ")
    for words in ("is NaN or infinite", "silent in the", "cut short", "cannot be", "is empty", "is a folder"):
        if words in UNUSABLE[name][1] and name != "1 sample.wav":  # which has no 0.9 s
            assert words in problem.message


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(write_tone, tmp_path):
    utterances = [Utterance(name, write_tone(tmp_path / f"{name}.wav")) for name in ("a", "b")]
    utterances[1].audio.chmod(0)
    for store in (None, tmp_path / "store"):
        extraction = FeatureExtractor().extract(utterances, store=store)
        (problem,) = extraction.problems
        assert problem.message.startswith(f"{utterances[1].audio}: cannot be")
        assert "ermission" in problem.message
        assert len(extraction.frames) == 1


# --- every setting


@pytest.mark.parametrize("name", sorted(PRESETS))
@pytest.mark.parametrize("normalisation", CHOICES["normalisation"])
def test_every_preset_and_normalisation_survives(name, normalisation):
    """Square waves, a level that never changes but by rounding, and samples too few to speak of."""
    config = FeatureConfig.preset(name, normalisation=normalisation)
    extractor = FeatureExtractor(config)
    rate = config.sample_rate
    steady = np.sin(2 * np.pi * 200 * np.arange(rate) / rate)
    for samples in (np.sign(steady), np.full(rate, 0.5), 0.9 + 1e-4 * steady, np.eye(1, rate, rate // 2)[0]):
        frames = extractor.from_samples(samples)
        assert frames.shape == (config.n_frames(rate), config.n_features)
        assert np.isfinite(frames).all()
        if normalisation != "none":
            assert np.abs(frames).max() < 1e3
    for n_samples in (1, 2, config.window_samples - 1, config.window_samples):
        if config.n_frames(n_samples):
            frames = extractor.from_samples(np.full(n_samples, 0.5))
            assert len(frames) == config.n_frames(n_samples) and np.isfinite(frames).all()
        else:
            with pytest.raises(InputError, match=rf"^{n_samples} samples are shorter than one window of"):
                extractor.from_samples(np.full(n_samples, 0.5))


@pytest.mark.parametrize("name", sorted(PRESETS))
@pytest.mark.parametrize("method", ["energy", "kaldi", "gmm"])
@pytest.mark.parametrize("components", [2, 3])
def test_every_preset_and_speech_activity_survives(name, method, components):
    config = FeatureConfig.preset(
        name, speech_activity=method, activity_components=components, normalisation="mean_variance"
    )
    extractor, rate = FeatureExtractor(config), config.sample_rate
    steady = np.sin(2 * np.pi * 200 * np.arange(rate) / rate)
    hostile = [np.sign(steady), np.full(rate, 0.5), 0.9 + 1e-4 * steady, np.eye(1, rate, rate // 2)[0]]
    hostile += [
        np.zeros(rate),
        np.concatenate([np.zeros(rate // 2), steady]),
        steady[: config.window_samples],
    ]
    for samples in hostile:
        with warnings.catch_warnings():
            # That no speech was found is right for most of them.
            warnings.filterwarnings("ignore", "no speech can be told", SpeechGMMWarning)
            frames = extractor.from_samples(samples)
        assert 1 <= len(frames) <= config.n_frames(samples.size)
        assert np.isfinite(frames).all()


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_survives_the_files(hostile, name):
    """At a rate of its own, to which most files must be brought."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* brought up to", SpeechGMMWarning)
        extraction = FeatureExtractor(FeatureConfig.preset(name, dither=1e-5)).extract(mixed(*hostile))
    assert all(np.isfinite(frames).all() for frames in extraction.frames)
    expected = set(UNUSABLE)
    if FeatureConfig.preset(name).framing == "inside":
        expected.add("two samples.wav")
        assert "are shorter than one window" in as_said(extraction.problems)["two samples.wav"]
    assert set(as_said(extraction.problems)) == expected


# --- the commands


@pytest.fixture
def manifest(hostile, world):
    path = world.corpus / "hostile.jsonl"
    write_manifest(mixed(*hostile), path)
    yield path
    path.unlink()


@pytest.mark.parametrize("jobs", [1, 2])
def test_features_lists_all_problems_and_does_the_rest(hostile, manifest, tmp_path, jobs):
    (tmp_path / "c.toml").write_text("[features]\nsample_rate = 8000\n")
    result = run("features", manifest, "-o", tmp_path / "store", "--config", tmp_path / "c.toml", "-j", jobs)
    assert result.code == 1
    n_good = len(USABLE) + len(hostile[1])
    assert result.lines[-1].startswith(f"{tmp_path / 'store'}: {n_good} utterances, ")
    assert result.lines[-1].endswith(f"({n_good} new utterances)")
    assert len(result.problems) == len(UNUSABLE)
    for line, (name, (_, words)) in zip(result.problems, UNUSABLE.items(), strict=True):
        assert line.startswith(f"problem: {name}: {hostile[0][name].audio}: ") and words in line
    assert result.err.splitlines()[-1] == f"{len(UNUSABLE)} problems; everything else is done"
    assert "Traceback" not in result.err
    again = run("features", manifest, "-o", tmp_path / "store", "--config", tmp_path / "c.toml", "-j", jobs)
    assert (again.code, again.problems) == (1, result.problems)
    assert again.lines[-1].endswith("(0 new utterances)")


@pytest.mark.parametrize("jobs", [1, 2])
def test_classify_lists_all_problems_and_does_the_rest(hostile, world, jobs):
    bad, good = hostile
    alone = run("classify", world.model, *(one.audio for one in good))
    assert (alone.code, alone.err) == (0, "")
    result = run("classify", world.model, *(one.audio for one in mixed(bad, good)), "-j", jobs)
    assert result.code == 1
    decided = {row[0]: row for row in result.rows[1:]}
    assert set(decided) == {str(one.audio) for one in good} | {str(bad[name].audio) for name in USABLE}
    assert [decided[row[0]] for row in alone.rows[1:]] == alone.rows[1:]
    for row in decided.values():
        assert all(np.isfinite(float(value)) for value in row[3:4] + row[5:])
    assert len(result.problems) == len(UNUSABLE)
    for name, (_, words) in UNUSABLE.items():
        (line,) = [line for line in result.problems if line.startswith(f"problem: {bad[name].audio}: ")]
        # A folder is one of files here, and what is missing may be a folder too.
        words = {"folder.wav": "holds no audio files", "missing.wav": "no such file"}.get(name, words)
        assert words in line
    assert result.err.splitlines()[-1] == f"{len(UNUSABLE)} problems; everything else is done"


def test_nothing_but_bad_files(hostile, world, tmp_path):
    bad = [hostile[0][name] for name in ("text.wav", "zeros.wav")]
    path = world.corpus / "bad.jsonl"
    write_manifest(bad, path)
    result = run("features", path, "-o", tmp_path / "store")
    assert (result.code, result.out) == (2, "")
    assert result.err.splitlines()[-1] == "2 problems; no utterance can be used"
    result = run("classify", world.model, *(one.audio for one in bad))
    assert (result.code, result.out) == (2, "")
    assert result.err.splitlines()[-1] == "2 problems; no file can be used"
