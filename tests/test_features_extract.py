"""One utterance to frames: whole files, stretches of files, segments of utterances, other sample rates."""

import math
from itertools import pairwise

import numpy as np
import pytest
import soundfile
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from speechgmm.audio import load_audio, read_audio, resample
from speechgmm.errors import InputError, SpeechGMMWarning
from speechgmm.features import FeatureConfig, FeatureExtractor
from speechgmm.features.cepstra import CepstralAnalyser
from speechgmm.manifest import Segment, Utterance

# The same windows, but the matrix products may add up in another order: a few last digits of 1000 in float32.
SAME = 1e-3


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """A second and a bit at 16 kHz that swells and fades, in float samples: 100.5 hops."""
    path = tmp_path_factory.mktemp("recording") / "recording.wav"
    rng = np.random.default_rng(0)
    samples = rng.standard_normal(16080) * np.geomspace(0.2, 0.002, 16080)
    soundfile.write(path, samples.astype(np.float32), 16000, subtype="FLOAT")
    return path


def part_of(whole, start, end, config):
    """Of the frames of a whole file, those with start <= time < end; an open end takes the last one too."""
    hop = config.hop_samples / config.sample_rate
    times, slack = np.arange(len(whole)) * hop, 1e-6 * hop  # 0.29 as a time is not exact in binary
    return whole[(times >= (start or 0.0) - slack) & (times < (math.inf if end is None else end - slack))]


def test_a_whole_file_equals_its_samples(recording):
    samples, _ = read_audio(recording)
    frames = FeatureExtractor().from_utterance(Utterance("u", recording))
    assert frames.shape == (101, 60) and frames.dtype == np.float32 and frames.flags.c_contiguous
    np.testing.assert_array_equal(frames, FeatureExtractor(FeatureConfig()).from_samples(samples))
    np.testing.assert_array_equal(frames, FeatureExtractor().from_samples(samples.astype(np.float64)))


@pytest.mark.parametrize(
    ("start", "end", "n_frames"),
    [
        (None, 0.5, 50),
        (0.0, 0.5, 50),
        (0.25, 0.75, 50),
        (0.29, 0.57, 28),
        (0.5, None, 51),
        (0.0, None, 101),
        (0.5, 1.005, 51),
        (0.5, 1.0055, 51),  # times in manifests are rounded: up to a millisecond beyond the end
        (0.3, 0.305, 1),
        (1.0, None, 1),
    ],
)
def test_a_stretch_has_the_whole_files_frames(recording, start, end, n_frames):
    extractor = FeatureExtractor()
    whole = extractor.from_utterance(Utterance("whole", recording))
    frames = extractor.from_utterance(Utterance("part", recording, start=start, end=end))
    assert len(frames) == n_frames
    expected = part_of(whole, start, end, extractor.config)
    np.testing.assert_allclose(frames, expected, rtol=0, atol=SAME)


STRETCH_CONFIGS = (
    FeatureConfig(),
    FeatureConfig(delta_orders=0, pre_emphasis=0.0),
    FeatureConfig(delta_orders=1, delta_width=5),
    FeatureConfig(delta_method="polynomial", delta_width=4),
    FeatureConfig(window_length=0.0333125, hop_length=0.0041875),  # 533 samples, an odd number, and 67
    FeatureConfig.preset("librosa", sample_rate=16000, top_db=0.0),
)


@settings(deadline=None)
@given(
    st.sampled_from(STRETCH_CONFIGS),
    st.none() | st.floats(0, 1) | st.integers(0, 100).map(lambda n: n / 100),
    st.none() | st.floats(0.001, 1.005) | st.integers(1, 100).map(lambda n: n / 100),
)
def test_any_stretch_has_the_whole_files_frames(recording, config, start, end):
    assume((1.005 if end is None else end) - (start or 0.0) > 1e-3)
    extractor = FeatureExtractor(config)
    whole = extractor.from_utterance(Utterance("whole", recording))
    frames = extractor.from_utterance(Utterance("part", recording, start=start, end=end))
    expected = part_of(whole, start, None if end == 1.005 else end, config)
    assume(len(expected))  # a stretch between two frames is another test's
    np.testing.assert_allclose(frames, expected, rtol=0, atol=SAME)


@pytest.mark.parametrize(("start", "end"), [(None, 0.04), (0.95, None)])
def test_a_stretch_at_an_end_has_the_whole_files_held_deltas(recording, start, end):
    config = FeatureConfig.preset("librosa", sample_rate=16000, top_db=0.0, delta_orders=1)
    extractor = FeatureExtractor(config)
    whole = extractor.from_utterance(Utterance("whole", recording))
    frames = extractor.from_utterance(Utterance("part", recording, start=start, end=end))
    np.testing.assert_allclose(frames, part_of(whole, start, end, config), rtol=0, atol=SAME)


def test_top_db_goes_by_the_loudest_of_the_stretch_itself(tmp_path):
    rng = np.random.default_rng(0)
    samples = rng.standard_normal(16000) * 0.001 * np.tile(np.repeat([1.0, 0.01], 800), 10)
    samples[7800:7950] += 0.9 * rng.standard_normal(150)  # ends 3 ms before the stretch begins
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    config = FeatureConfig(top_db=30.0, delta_orders=0, pre_emphasis=0.0)
    frames = FeatureExtractor(config).from_utterance(Utterance("u", tmp_path / "a.wav", start=0.51, end=0.9))
    analyser = CepstralAnalyser(config)
    bands = analyser.bands(read_audio(tmp_path / "a.wav")[0])[51:90]
    np.testing.assert_allclose(frames, analyser.cepstra(bands), rtol=0, atol=SAME)


@pytest.mark.parametrize(
    ("start", "end", "frame"), [(0.301, 0.304, 30), (0.306, 0.309, 31), (1.001, None, 100)]
)
def test_a_stretch_between_two_frames_has_the_nearest(recording, start, end, frame):
    extractor = FeatureExtractor()
    whole = extractor.from_utterance(Utterance("whole", recording))
    frames = extractor.from_utterance(Utterance("part", recording, start=start, end=end))
    np.testing.assert_allclose(frames, whole[frame : frame + 1], rtol=0, atol=SAME)


def test_only_the_stretch_and_its_context_are_read(recording, monkeypatch):
    asked = []

    def recorded(path, start=None, end=None):
        asked.append((path, start, end))
        return read_audio(path, start, end)

    monkeypatch.setattr("speechgmm.features.extract.read_audio", recorded)
    extractor = FeatureExtractor()
    extractor.from_utterance(Utterance("whole", recording))
    extractor.from_utterance(Utterance("part", recording, start=0.5, end=0.6))
    extractor.from_utterance(Utterance("beginning", recording, end=0.1))
    extractor.from_utterance(Utterance("end", recording, start=0.9))
    assert [path for path, _, _ in asked] == [recording] * 4
    # 6 frames of context: 2 for half a window, 2 for each order of deltas; 59 is the last of [0.5, 0.6).
    expected = [(None, None), (0.44, 0.65), (0.0, 0.15), (0.84, 1.005)]
    for (_, start, end), (first, last) in zip(asked, expected, strict=True):
        assert (start, end) == (
            (None, None) if first is None else (pytest.approx(first), pytest.approx(last))
        )


def test_normalisation_and_activity_see_the_stretch_alone(recording):
    config = FeatureConfig(normalisation="mean_variance")
    frames = FeatureExtractor(config).from_utterance(Utterance("u", recording, start=0.2, end=0.6))
    assert len(frames) == 40
    np.testing.assert_allclose(frames.mean(axis=0), 0.0, atol=1e-4)
    np.testing.assert_allclose(frames.var(axis=0), 1.0, atol=1e-4)
    # The recording falls by 40 dB: a range of 10 dB keeps about a quarter, of the whole or of a quiet part.
    for start, end in ((None, None), (0.8, None)):
        plain, active = (
            FeatureExtractor(FeatureConfig(speech_activity=on, activity_range=10.0)) for on in (False, True)
        )
        utterance = Utterance("u", recording, start=start, end=end)
        n_frames = len(plain.from_utterance(utterance))
        kept = active.from_utterance(utterance)
        assert 1 <= len(kept) <= n_frames
        assert (len(kept) < 0.5 * n_frames) == (start is None)


@pytest.mark.parametrize("times", [{"end": 1.5}, {"start": 0.5, "end": 1.5}, {"start": 5.0, "end": 6.0}])
def test_an_end_beyond_the_file_is_refused(recording, times):
    end = times["end"]
    with pytest.raises(
        InputError, match=rf"recording\.wav: utterance 'u' ends at {end:g} s; the file ends at 1\.005"
    ):
        FeatureExtractor().from_utterance(Utterance("u", recording, **times))


@pytest.mark.parametrize("start", [1.1, 5.0])
def test_a_start_beyond_the_file_is_refused(recording, start):
    with pytest.raises(InputError, match=rf"recording\.wav: utterance 'u' starts at {start:g} s"):
        FeatureExtractor().from_utterance(Utterance("u", recording, start=start))


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


@pytest.mark.parametrize(
    ("start", "end", "frame"), [(0.301, 0.304, 30), (0.306, 0.309, 31), (1.006, 1.01, 100)]
)
def test_a_segment_too_short_for_a_frame_has_the_nearest(recording, start, end, frame):
    utterance, extractor = Utterance("u", recording), FeatureExtractor()
    (piece,) = extractor.from_segments(utterance, [Segment(start, end, "t")])
    np.testing.assert_array_equal(piece, extractor.from_utterance(utterance)[frame : frame + 1])


def test_a_segment_beyond_the_utterance_is_refused(recording):
    with pytest.raises(
        InputError, match=r"u1: segment 'sh' ends at 1\.5 s; the utterance's frames end at 1\.01 s"
    ):
        FeatureExtractor().from_segments(
            Utterance("u1", recording), [Segment(0, 1, "a"), Segment(0.5, 1.5, "sh")]
        )


@pytest.mark.parametrize(
    ("start", "end"), [(-0.5, 0.2), (0.5, 0.2), (2.0, 0.5), (math.nan, 0.3), (0.2, math.nan)]
)
def test_a_segment_that_cannot_be_is_refused(recording, start, end):
    with pytest.raises(InputError, match="u1: segment 'sh'"):
        FeatureExtractor().from_segments(Utterance("u1", recording), [Segment(start, end, "sh")])


def test_segments_need_every_frame(recording):
    extractor = FeatureExtractor(FeatureConfig(speech_activity=True))
    with pytest.raises(
        InputError, match="segments need every frame in its place; switch `speech_activity` off"
    ):
        extractor.from_segments(Utterance("u", recording), [Segment(0, 0.5, "a")])


def test_real_speech_in_segments_adds_up_to_its_frames(speech_data):
    path = sorted(speech_data.glob("LibriSpeech/train-clean-100/19/*/*.flac"))[0]
    utterance, extractor = Utterance(path.stem, path), FeatureExtractor()
    frames = extractor.from_utterance(utterance)
    edges = np.linspace(0, len(frames) * 0.01, 38)
    segments = [Segment(a, b, "x") for a, b in pairwise(edges)]
    np.testing.assert_array_equal(np.concatenate(extractor.from_segments(utterance, segments)), frames)


def test_real_speech_in_stretches_has_the_files_frames(speech_data):
    """Of FLAC and of WAV, at the configured rate."""
    flac = sorted(speech_data.glob("LibriSpeech/train-clean-100/26/*/*.flac"))[0]
    wav = sorted(speech_data.glob("fsdd/recordings/*_theo_*.wav"))[0]
    for path, start, end in ((flac, 1.234, 2.7), (flac, 0.5, None), (wav, 0.1, 0.2), (wav, None, 0.15)):
        _, rate = read_audio(path)
        extractor = FeatureExtractor(FeatureConfig(sample_rate=rate))
        whole = extractor.from_utterance(Utterance("whole", path))
        frames = extractor.from_utterance(Utterance("part", path, start=start, end=end))
        np.testing.assert_allclose(frames, part_of(whole, start, end, extractor.config), rtol=0, atol=SAME)


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
    bands, expected = (
        np.log10(extractor._analyser.bands(samples.astype(np.float32))[5:-5].mean(axis=0))
        for samples in (load_audio(tmp_path / "stereo.wav", 16000), mean)
    )
    loud = expected > expected.max() - 2
    # The tones' bands agree; the floors between them are those of 16 bits and of the resampling.
    np.testing.assert_allclose(bands[loud], expected[loud], atol=0.01)


def test_a_stretch_of_a_file_at_another_rate(tmp_path):
    """10 ms are 441 whole samples at 44.1 kHz, so only the resampling's own edges differ, beyond the context."""
    samples = np.random.default_rng(0).standard_normal(44100) * 0.1
    soundfile.write(tmp_path / "a.wav", samples, 44100, subtype="FLOAT")
    extractor = FeatureExtractor()
    whole = extractor.from_utterance(Utterance("whole", tmp_path / "a.wav"))
    frames = extractor.from_utterance(Utterance("part", tmp_path / "a.wav", start=0.3, end=0.6))
    np.testing.assert_allclose(frames, whole[30:60], rtol=0, atol=SAME)


def test_a_low_rate_file_warns_the_caller(write_tone, tmp_path):
    path = write_tone(tmp_path / "telephone.wav", sample_rate=8000)
    with pytest.warns(SpeechGMMWarning, match="1 audio file at 8000 Hz brought up to 16000 Hz") as caught:
        frames = FeatureExtractor().from_utterance(Utterance("u", path))
    assert frames.shape == (101, 60)
    assert [warning.filename for warning in caught] == [__file__]


def test_an_unusable_file_is_named(tmp_path):
    for times in ({}, {"start": 0.1, "end": 0.2}):
        with pytest.raises(InputError, match=r"missing\.wav: cannot be opened \(No such file"):
            FeatureExtractor().from_utterance(Utterance("u", tmp_path / "missing.wav", **times))


@pytest.mark.parametrize("file_rate", [8000, 11025, 22050, 44100, 48000])
@pytest.mark.parametrize("start", [0.2, 0.333, 0.5])
def test_a_stretch_of_a_file_at_another_rate_has_the_whole_files_frames(tmp_path, file_rate, start):
    # Noise below a quarter of the lower rate: near the edge of the band, the resampler's filter is at work.
    rng = np.random.default_rng(0)
    samples = resample(rng.standard_normal(8000).astype(np.float32) * 0.1, 4000, file_rate)
    path = tmp_path / "noise.wav"
    soundfile.write(path, samples, file_rate, subtype="FLOAT")
    extractor = FeatureExtractor(FeatureConfig(sample_rate=8000, high_frequency=1800.0))
    whole = extractor.from_utterance(Utterance("whole", path))
    frames = extractor.from_utterance(Utterance("part", path, start=start, end=1.2))
    expected = part_of(whole, start, 1.2, extractor.config)
    # Without a common grid of samples and frames this is off by whole decibels.
    np.testing.assert_allclose(frames, expected, rtol=0, atol=5e-3)
