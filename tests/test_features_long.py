"""Long files are read in blocks: the same bits as in one piece, in little memory."""

import os
import subprocess
import sys
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from speechgmm.audio import audio_info, read_blocks
from speechgmm.errors import InputError, SpeechGMMWarning
from speechgmm.features import FeatureConfig, FeatureExtractor, reading
from speechgmm.features.config import CHOICES
from speechgmm.features.presets import PRESETS
from speechgmm.manifest import Utterance

RATE = 8000
SECONDS = 1.7
FORMATS = {"wav": "FLOAT", "flac": "PCM_16", "ogg": "VORBIS", "mp3": "MPEG_LAYER_III"}
FRAMINGS, NORMALISATIONS, ACTIVITIES = (CHOICES[n] for n in ("framing", "normalisation", "speech_activity"))
# A good many megabytes less than the audio of the long file in float32, or its frames.
MEMORY = 100


def speechlike(rate, n_channels=1, seconds=SECONDS, seed=0):
    """Bursts of noise between near silence, so that speech can be told; the loudest one at the end."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    loudness = np.where(time % 0.4 < 0.25, 0.02 * 10**time, 1e-3)
    samples = rng.standard_normal((time.size, n_channels)) * loudness[:, None] * 0.1
    return np.clip(samples, -1, 1).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Audio of every format, by name: "44100-2.flac" has two channels at 44.1 kHz."""
    made = tmp_path_factory.mktemp("audio")
    for suffix, rate, n_channels in product(FORMATS, (8000, 11025, 44100), (1, 2)):
        path = made / f"{rate}-{n_channels}.{suffix}"
        soundfile.write(path, speechlike(rate, n_channels), rate, subtype=FORMATS[suffix])
    return made


class Blockwise:
    """Makes every file long while it is active, read in blocks of so many samples; counts the files."""

    def __init__(self, block):
        self._patch, self._block, self.n_files = pytest.MonkeyPatch(), block, 0

    def __enter__(self):
        self._patch.setattr(reading, "LONG", 0.0)
        self._patch.setattr(reading, "SMALL_FILE", 0)
        self._patch.setattr(reading, "read_blocks", self._counted)
        self._patch.setattr(reading, "read_audio", self._refused)
        return self

    def __exit__(self, *error):
        self._patch.undo()

    def _counted(self, path, start=None, end=None):
        self.n_files += 1
        return read_blocks(path, start, end, self._block)

    def _refused(self, *arguments):
        raise AssertionError("a long file was read at once")


def assert_same_in_blocks(path, config, start, end, block):
    utterance, extractor = Utterance("u", path, start=start, end=end), FeatureExtractor(config)
    (whole,) = extractor.extract([utterance]).frames
    with Blockwise(block) as blockwise:
        extraction = extractor.extract([utterance])
    assert blockwise.n_files >= 1 and extraction.problems == ()
    np.testing.assert_array_equal(extraction.frames[0], whole)
    assert extraction.seconds == (pytest.approx(extractor.extract([utterance]).seconds[0], abs=2e-3),)


@pytest.mark.parametrize(("start", "end"), [(None, None), (0.5, 1.2), (0.77, None)])
@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_rate_and_stretch(folder, suffix, start, end):
    for rate, n_channels, framing in product((8000, 11025, 44100), (1, 2), FRAMINGS):
        config = FeatureConfig(
            sample_rate=RATE,
            framing=framing,
            dither=1e-4,
            shifted_deltas="7-1-3-7",
            normalisation="warping",
        )
        assert_same_in_blocks(folder / f"{rate}-{n_channels}.{suffix}", config, start, end, rate // 4)


def test_a_block_that_the_resampler_keeps_to_itself(folder):
    config = FeatureConfig(sample_rate=RATE, dither=1e-4)
    assert_same_in_blocks(folder / "44100-1.wav", config, None, None, 500)


@pytest.mark.parametrize(("start", "end"), [(None, None), (0.3, 1.2)])
@pytest.mark.parametrize("activity", ACTIVITIES)
@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_every_normalisation_and_speech_activity(folder, normalisation, activity, start, end):
    for number, framing in enumerate(FRAMINGS):
        config = FeatureConfig(
            sample_rate=RATE,
            framing=framing,
            dither=1e-4 * number,
            delta_method=("regression", "polynomial")[number],
            normalisation=normalisation,
            normalisation_window=0.5,
            speech_activity=activity,
        )
        assert_same_in_blocks(folder / "8000-1.wav", config, start, end, 997)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset(folder, name):
    config = FeatureConfig.preset(name, sample_rate=RATE, speech_activity="kaldi")
    for file in ("8000-1.wav", "44100-2.flac"):
        assert_same_in_blocks(folder / file, config, None, None, 1000)


@settings(deadline=None, max_examples=100)
@given(
    st.sampled_from([f"{r}-{n}.{s}" for r, n, s in product((8000, 11025), (1, 2), FORMATS)]),
    st.builds(
        partial(FeatureConfig, sample_rate=RATE),
        framing=st.sampled_from(FRAMINGS),
        dither=st.sampled_from([0.0, 1e-3]),
        top_db=st.sampled_from([0.0, 40.0]),
        remove_offset=st.booleans(),
        emphasis_by=st.sampled_from(CHOICES["emphasis_by"]),
        energy=st.sampled_from(CHOICES["energy"]),
        delta_method=st.sampled_from(CHOICES["delta_method"]),
        shifted_deltas=st.sampled_from(["", "7-1-3-7"]),
        normalisation=st.sampled_from(NORMALISATIONS),
        normalisation_window=st.sampled_from([0.3, 3.0]),
        speech_activity=st.sampled_from(ACTIVITIES),
    ),
    st.none() | st.floats(0.0, 1.0),
    st.none() | st.floats(1.2, 1.6),
    st.integers(1000, 20000),
)
def test_any_combination(folder, name, config, start, end, block):
    assert_same_in_blocks(folder / name, config, start, end, block)


TOP_DB = FeatureConfig(sample_rate=RATE, top_db=40.0, delta_orders=0)


@pytest.mark.parametrize("framing", FRAMINGS)
def test_top_db_reads_a_long_file_twice(folder, framing):
    """The loudest is at the end: what comes before must wait for it."""
    config = FeatureConfig(**{**TOP_DB.to_dict(), "framing": framing})
    path = folder / "8000-1.wav"
    whole = FeatureExtractor(config).from_utterance(Utterance("u", path))
    with Blockwise(4000) as blockwise:
        frames = FeatureExtractor(config).from_utterance(Utterance("u", path))
    assert blockwise.n_files == 2
    np.testing.assert_array_equal(frames, whole)
    unclipped = FeatureConfig(**{**config.to_dict(), "top_db": 0.0})
    assert (FeatureExtractor(unclipped).from_utterance(Utterance("u", path)) != whole).any()


@pytest.mark.parametrize("framing", FRAMINGS)
def test_top_db_is_the_same_in_any_blocks(tmp_path, framing):
    """Of a steady tone, whose spectrum would be broad if a window ended within it."""
    tone = 0.9 * np.sin(2 * np.pi * 200 * np.arange(8000) / RATE)
    soundfile.write(tmp_path / "tone.wav", tone, RATE, subtype="FLOAT")
    config = FeatureConfig(**{**TOP_DB.to_dict(), "framing": framing})
    for block in range(500, 8000, 123):
        assert_same_in_blocks(tmp_path / "tone.wav", config, None, None, block)


def test_a_block_may_be_shorter_than_a_hop(folder):
    config = FeatureConfig(sample_rate=RATE, framing="inside")
    assert_same_in_blocks(folder / "8000-1.wav", config, None, None, 7)
    assert_same_in_blocks(folder / "44100-1.wav", config, None, None, 7)


def test_which_files_are_long(folder, monkeypatch):
    """By their length; files of few bytes are not opened to learn it."""
    asked, opened = [], []
    monkeypatch.setattr(reading, "audio_info", lambda path: asked.append(path) or audio_info(path))
    monkeypatch.setattr(reading, "read_blocks", lambda *a: opened.append(a) or read_blocks(*a))
    path, extractor = folder / "8000-1.wav", FeatureExtractor(FeatureConfig(sample_rate=RATE))
    extractor.from_utterance(Utterance("u", path))
    assert asked == []
    monkeypatch.setattr(reading, "SMALL_FILE", path.stat().st_size)
    monkeypatch.setattr(reading, "LONG", SECONDS)
    extractor.from_utterance(Utterance("u", path))
    assert asked and not opened
    monkeypatch.setattr(reading, "LONG", SECONDS - 0.01)
    extractor.from_utterance(Utterance("u", path, start=0.1, end=0.3))
    assert not opened
    extractor.from_utterance(Utterance("u", path))
    assert len(opened) == 1


def test_warnings_and_refusals_are_those_of_short_files(folder, write_tone, tmp_path):
    hum = write_tone(tmp_path / "hum.wav", sample_rate=RATE)
    with Blockwise(1000):
        with pytest.warns(SpeechGMMWarning, match="1 audio file at 8000 Hz brought up to 16000 Hz"):
            FeatureExtractor().from_utterance(Utterance("u", folder / "8000-1.wav"))
        refusing = FeatureConfig(sample_rate=RATE, speech_activity="energy", no_speech="refuse")
        with pytest.raises(InputError, match=r"hum\.wav: no speech can be told from silence"):
            FeatureExtractor(refusing).from_utterance(Utterance("u", hum))
        with pytest.raises(InputError, match=r"utterance 'u' ends at 9 s; the file ends at 1 s"):
            FeatureExtractor().from_utterance(Utterance("u", hum, end=9.0))


@pytest.mark.parametrize("place", [0.0, 0.6, 0.999])
def test_a_late_fault_is_found(tmp_path, place):
    """A sample that is no number, a cut, a file without a sound: each shows when its block comes."""
    samples = speechlike(RATE)[:, 0]
    samples[round(place * samples.size)] = np.nan
    soundfile.write(tmp_path / "nan.wav", samples, RATE, subtype="FLOAT")
    extractor = FeatureExtractor(FeatureConfig(sample_rate=RATE))
    with Blockwise(1000), pytest.raises(InputError, match=r"nan\.wav: the sample at [\d.]+ s is NaN or inf"):
        extractor.from_utterance(Utterance("u", tmp_path / "nan.wav"))
    soundfile.write(tmp_path / "silent.wav", np.zeros(8000), RATE)
    with Blockwise(1000), pytest.raises(InputError, match=r"silent\.wav: silent in the 1 s from 0 s"):
        extractor.from_utterance(Utterance("u", tmp_path / "silent.wav"))


LONG_RUN = """
import sys, threading
from pathlib import Path
from speechgmm.features import FeatureConfig, FeatureExtractor
from speechgmm.manifest import Utterance

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")) / 1024

audio, store = sys.argv[1:]
extractor = FeatureExtractor(
    FeatureConfig(hop_length=0.005, speech_activity="gmm", normalisation="sliding_mean_variance")
)
# What is loaded for the first file is no matter of length.
extractor.extract([Utterance("short", Path(audio), end=2.0)], store=store)
before, highest, done = anonymous(), [0.0], threading.Event()

def watch():
    while not done.wait(0.005):
        highest[0] = max(highest[0], anonymous())

watcher = threading.Thread(target=watch)
watcher.start()
frames = extractor.extract([Utterance("long", Path(audio))], store=store).frames[0]
done.set()
watcher.join()
print(len(frames), highest[0] - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is told by /proc")
def test_half_an_hour_takes_little_memory(tmp_path):
    piece = (speechlike(16000, seconds=6.0) * 32767).astype(np.int16)[:, 0]
    with soundfile.SoundFile(tmp_path / "long.wav", "w", 16000, 1) as file:
        for _ in range(300):
            file.write(piece)
    run = subprocess.run(
        [sys.executable, "-c", LONG_RUN, str(tmp_path / "long.wav"), str(tmp_path / "store")],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    n_frames, growth = map(float, run.stdout.split())
    assert 0.2 * 360_000 < n_frames < 360_001
    assert growth < MEMORY
