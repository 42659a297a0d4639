"""One utterance to frames: from samples, from whole files, and in segments; stretches have a file of their own."""

import math
import pickle
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import soundfile

from speechgmm.audio import audio_info, load_audio, read_audio
from speechgmm.errors import InputError, SpeechGMMWarning
from speechgmm.features import FeatureConfig, FeatureExtractor
from speechgmm.features.config import CHOICES
from speechgmm.features.normalisation import normalise
from speechgmm.features.presets import PRESETS
from speechgmm.manifest import Segment, Utterance

KALDI = FeatureConfig.preset("kaldi")


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """A second and a bit at 16 kHz that swells and fades, in float samples: 100.5 hops."""
    path = tmp_path_factory.mktemp("recording") / "recording.wav"
    rng = np.random.default_rng(0)
    samples = rng.standard_normal(16080) * np.geomspace(0.2, 0.002, 16080)
    soundfile.write(path, samples.astype(np.float32), 16000, subtype="FLOAT")
    return path


# --- whole files


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        (FeatureConfig(), (101, 60)),
        (KALDI, (99, 39)),
        (FeatureConfig(delta_orders=0, shifted_deltas="7-1-3-7"), (101, 20 + 49)),
        (FeatureConfig(energy="both", delta_orders=1), (101, 42)),
        (FeatureConfig(energy="none", framing="inside"), (99, 57)),
    ],
)
def test_a_whole_file_equals_its_samples(recording, config, shape):
    samples, _ = read_audio(recording)
    frames = FeatureExtractor(config).from_utterance(Utterance("u", recording))
    assert frames.shape == shape and frames.dtype == np.float32 and frames.flags.c_contiguous
    np.testing.assert_array_equal(frames, FeatureExtractor(config).from_samples(samples))
    np.testing.assert_array_equal(frames, FeatureExtractor(config).from_samples(samples.astype(np.float64)))


def test_the_default_configuration_is_the_default(recording):
    utterance = Utterance("u", recording)
    assert FeatureExtractor().config == FeatureConfig()
    np.testing.assert_array_equal(
        FeatureExtractor().from_utterance(utterance),
        FeatureExtractor(FeatureConfig()).from_utterance(utterance),
    )


def test_an_extractor_travels(recording):
    extractor = FeatureExtractor(KALDI)
    other = pickle.loads(pickle.dumps(extractor))
    assert other.config == KALDI
    utterance = Utterance("u", recording)
    np.testing.assert_array_equal(other.from_utterance(utterance), extractor.from_utterance(utterance))


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_samples_that_the_caller_keeps_are_left_alone(recording, name):
    config = FeatureConfig.preset(name, normalisation="mean_variance", dither=1e-4, speech_activity="energy")
    samples, _ = read_audio(recording)
    kept = samples.copy()
    samples.flags.writeable = False
    FeatureExtractor(config).from_samples(samples)
    np.testing.assert_array_equal(samples, kept)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros(400, np.int16), r"`samples` are int16; they must be floats in \[-1, 1\]"),
        (np.zeros((400, 2)), r"`samples` has shape \(400, 2\); it must be one row"),
        (np.zeros(0), r"`samples` has shape \(0,\); it must be one row of at least 1 sample"),
        (np.full(400, np.nan), r"`samples` reach nan; they must be finite"),
        (np.full(400, 1e10), r"`samples` reach 1e\+10; they must be finite, and lie in"),
    ],
)
def test_samples_that_cannot_be_are_refused(samples, message):
    with pytest.raises(InputError, match=message):
        FeatureExtractor().from_samples(samples)


def test_what_is_shorter_than_a_window_is_refused_where_windows_must_lie_inside(write_tone, tmp_path):
    window = KALDI.window_samples
    path = write_tone(tmp_path / "short.wav", seconds=(window - 1) / 16000)
    message = rf"{window - 1} samples are shorter than one window of {window}; `framing` \"centred\" takes"
    with pytest.raises(InputError, match=rf"^{message}"):
        FeatureExtractor(KALDI).from_samples(read_audio(path)[0])
    with pytest.raises(InputError, match=rf"^{path}: {message}"):
        FeatureExtractor(KALDI).from_utterance(Utterance("u", path))
    assert FeatureExtractor().from_utterance(Utterance("u", path)).shape == (3, 60)
    path = write_tone(tmp_path / "one.wav", seconds=window / 16000)
    assert FeatureExtractor(KALDI).from_utterance(Utterance("u", path)).shape == (1, 39)


def test_stereo_at_another_rate(tmp_path):
    """Two channels at 44.1 kHz become their mean at 16 kHz."""
    time = np.arange(44100) / 44100
    left, right = np.sin(2 * np.pi * 440 * time), np.sin(2 * np.pi * 3000 * time)
    soundfile.write(tmp_path / "stereo.wav", 0.4 * np.stack([left, right], axis=1), 44100)
    extractor = FeatureExtractor(FeatureConfig(delta_orders=0, n_coefficients=40))
    frames = extractor.from_utterance(Utterance("u", tmp_path / "stereo.wav"))
    assert frames.shape == (101, 40)
    np.testing.assert_array_equal(frames, extractor.from_samples(load_audio(tmp_path / "stereo.wav", 16000)))
    time = np.arange(16000) / 16000
    mean = 0.2 * (np.sin(2 * np.pi * 440 * time) + np.sin(2 * np.pi * 3000 * time))
    # All forty cepstra are the filters again, in dB.
    inverse = np.linalg.inv(_orthonormal(40)).T
    filters, expected = (rows[5:-5].mean(axis=0) @ inverse for rows in (frames, extractor.from_samples(mean)))
    loud = expected > expected.max() - 20
    assert loud.sum() >= 4
    # The tones' filters agree; the floors between them are those of 16 bits and of the resampling.
    np.testing.assert_allclose(filters[loud], expected[loud], atol=0.1)


def _orthonormal(n):
    """The cosine transform, written down anew."""
    row = np.arange(n)[:, None]
    matrix = np.sqrt(2 / n) * np.cos(np.pi / n * row * (np.arange(n) + 0.5))
    matrix[0] /= math.sqrt(2)
    return matrix


def test_a_low_rate_file_warns_the_caller(write_tone, tmp_path):
    path = write_tone(tmp_path / "telephone.wav", sample_rate=8000)
    with pytest.warns(SpeechGMMWarning, match="1 audio file at 8000 Hz brought up to 16000 Hz") as caught:
        frames = FeatureExtractor().from_utterance(Utterance("u", path))
    assert frames.shape == (101, 60)
    assert [warning.filename for warning in caught] == [__file__]
    with pytest.warns(SpeechGMMWarning, match="1 audio file at 8000 Hz brought up to 16000 Hz"):
        FeatureExtractor().from_segments(Utterance("u", path), [Segment(0.0, 0.5, "a")])


def test_speech_that_cannot_be_told_warns_the_caller(write_tone, tmp_path):
    path = write_tone(tmp_path / "hum.wav")
    extractor = FeatureExtractor(FeatureConfig(speech_activity="energy"))
    message = "no speech can be told from silence in '{}'; all frames are kept"
    with pytest.warns(SpeechGMMWarning, match=message.format("hum")) as caught:
        frames = extractor.from_utterance(Utterance("hum", path))
    with pytest.warns(SpeechGMMWarning, match=message.format("samples")) as more:
        np.testing.assert_array_equal(extractor.from_samples(read_audio(path)[0]), frames)
    np.testing.assert_array_equal(frames, FeatureExtractor().from_utterance(Utterance("hum", path)))
    assert [warning.filename for warning in (*caught, *more)] == [__file__] * 2


def test_speech_that_cannot_be_told_may_be_refused(write_tone, tmp_path):
    path = write_tone(tmp_path / "hum.wav")
    extractor = FeatureExtractor(FeatureConfig(speech_activity="energy", no_speech="refuse"))
    message = r"no speech can be told from silence \(a steady noise or hum"
    with pytest.raises(InputError, match=rf"hum\.wav: {message}"):
        extractor.from_utterance(Utterance("u", path))
    with pytest.raises(InputError, match=f"^{message}"):
        extractor.from_samples(read_audio(path)[0])


def test_an_unusable_file_is_named(tmp_path):
    for times in ({}, {"start": 0.1, "end": 0.2}):
        with pytest.raises(InputError, match=r"missing\.wav: cannot be opened \(No such file"):
            FeatureExtractor().from_utterance(Utterance("u", tmp_path / "missing.wav", **times))


# --- the order of the steps


SLIDING = ("none", "sliding_mean", "sliding_mean_variance", "warping")


@pytest.mark.parametrize("normalisation", CHOICES["normalisation"])
@pytest.mark.parametrize("activity", CHOICES["speech_activity"])
@pytest.mark.parametrize("framing", CHOICES["framing"])
def test_the_steps_have_an_order(tmp_path, monkeypatch, normalisation, activity, framing):
    """Sliding windows see all frames, of which some are dropped then; the mean is that of those which are kept."""
    monkeypatch.setattr("speechgmm.features.extract.ROWS", 7)
    n = np.arange(24000)
    samples = np.random.default_rng(0).standard_normal(24000) * np.where(n % 5000 < 2000, 0.1, 1e-4)
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    steps = {"normalisation": normalisation, "speech_activity": activity}
    config = FeatureConfig(framing=framing, normalisation_window=0.4, **steps)
    for times in ({}, {"start": 0.2, "end": 1.3}):
        utterance = Utterance("u", tmp_path / "a.wav", **times)
        plain, decided, frames = (
            FeatureExtractor(one).from_utterance(utterance)
            for one in (
                replace(config, normalisation="none", speech_activity="none"),
                replace(config, normalisation="none"),
                config,
            )
        )
        kept = [int(np.flatnonzero((plain == row).all(axis=1))[0]) for row in decided]
        assert kept == sorted(set(kept))
        assert (len(kept) == len(plain)) == (activity == "none")
        if normalisation in SLIDING:
            expected = normalise(plain, normalisation, 40)[kept]
        else:
            expected = normalise(plain[kept], normalisation, 40)
        np.testing.assert_array_equal(frames, expected)


# --- segments of utterances


def test_segments_are_slices_of_the_utterances_frames(recording):
    utterance = Utterance("u", recording, start=0.1, end=0.9)
    extractor = FeatureExtractor(FeatureConfig(normalisation="mean"))
    frames = extractor.from_utterance(utterance)
    spans = {"a": (0.0, 0.25), "b": (0.25, 0.3), "c": (0.29, 0.57), "d": (0.6, 0.8)}
    pieces = extractor.from_segments(utterance, [Segment(*span, label) for label, span in spans.items()])
    slices = [slice(0, 25), slice(25, 30), slice(29, 57), slice(60, 80)]
    for piece, part in zip(pieces, slices, strict=True):
        np.testing.assert_array_equal(piece, frames[part])
    assert extractor.from_segments(utterance, []) == []


def test_segments_of_windows_that_lie_inside(recording):
    """The middle of window i is at 12.5 ms + i * 10 ms."""
    utterance, extractor = Utterance("u", recording), FeatureExtractor(KALDI)
    frames = extractor.from_utterance(utterance)
    spans = {(0.0, 0.25): slice(0, 24), (0.25, 0.3): slice(24, 29), (0.012, 0.02): slice(0, 1)}
    spans |= {(0.0, 0.005): slice(0, 1), (0.98, 0.99): slice(97, 98), (0.98, 1.005): slice(97, 99)}
    pieces = extractor.from_segments(utterance, [Segment(*span, "x") for span in spans])
    for piece, part in zip(pieces, spans.values(), strict=True):
        np.testing.assert_array_equal(piece, frames[part])


@pytest.mark.parametrize(
    ("start", "end", "frame"), [(0.301, 0.304, 30), (0.306, 0.309, 31), (1.006, 1.01, 100)]
)
def test_a_segment_too_short_for_a_frame_has_the_nearest(recording, start, end, frame):
    utterance, extractor = Utterance("u", recording), FeatureExtractor()
    (piece,) = extractor.from_segments(utterance, [Segment(start, end, "t")])
    np.testing.assert_array_equal(piece, extractor.from_utterance(utterance)[frame : frame + 1])


def test_a_segment_beyond_the_utterance_is_refused(recording):
    with pytest.raises(InputError, match=r"u1: segment 'sh' ends at 1\.5 s; the utterance ends at 1\.01 s"):
        FeatureExtractor().from_segments(
            Utterance("u1", recording), [Segment(0, 1, "a"), Segment(0.5, 1.5, "sh")]
        )


@pytest.mark.parametrize(
    ("start", "end"), [(-0.5, 0.2), (0.5, 0.2), (2.0, 0.5), (math.nan, 0.3), (0.2, math.nan)]
)
def test_a_segment_that_cannot_be_is_refused(recording, start, end):
    with pytest.raises(InputError, match="u1: segment 'sh'"):
        FeatureExtractor().from_segments(Utterance("u1", recording), [Segment(start, end, "sh")])


@pytest.mark.parametrize("method", ["energy", "kaldi", "gmm"])
def test_segments_need_every_frame(recording, method):
    extractor = FeatureExtractor(FeatureConfig(speech_activity=method))
    with pytest.raises(
        InputError, match="segments need every frame in its place; switch `speech_activity` off"
    ):
        extractor.from_segments(Utterance("u", recording), [Segment(0, 0.5, "a")])


@pytest.mark.parametrize("name", ["default", "kaldi"])
def test_real_speech_in_segments_adds_up_to_its_frames(speech_data, name):
    path = sorted(speech_data.glob("LibriSpeech/train-clean-100/19/*/*.flac"))[0]
    utterance, extractor = Utterance(path.stem, path), FeatureExtractor(FeatureConfig.preset(name))
    frames = extractor.from_utterance(utterance)
    edges = np.linspace(0, audio_info(path).duration, 38)
    segments = [Segment(a, b, "x") for a, b in pairwise(edges)]
    pieces = extractor.from_segments(utterance, segments)
    np.testing.assert_array_equal(np.concatenate(pieces), frames)
