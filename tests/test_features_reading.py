"""Stretches of files: the whole file's frames, to the last bit, of no more samples than they need."""

import math
from functools import cache

import numpy as np
import pytest
import soundfile
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from speechgmm.audio import read_audio
from speechgmm.errors import InputError
from speechgmm.features import FeatureConfig, FeatureExtractor
from speechgmm.features.reading import duration_of, open_utterance
from speechgmm.manifest import Utterance

READ = "speechgmm.features.reading.read_audio"
DURATION = 1.005
KALDI = FeatureConfig.preset("kaldi")


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """A second and a bit at 16 kHz that swells and fades, in float samples: 100.5 hops."""
    path = tmp_path_factory.mktemp("recording") / "recording.wav"
    rng = np.random.default_rng(0)
    samples = rng.standard_normal(16080) * np.geomspace(0.2, 0.002, 16080)
    soundfile.write(path, samples.astype(np.float32), 16000, subtype="FLOAT")
    return path


@cache
def whole_frames(path, config):
    return FeatureExtractor(config).from_utterance(Utterance("whole", path))


@cache
def extractor(config):
    return FeatureExtractor(config)


def stretch(path, config, start, end):
    return extractor(config).from_utterance(Utterance("part", path, start=start, end=end))


def part_of(whole, start, end, config):
    """Of the frames of a whole file, those with start <= time < end; an open end takes the last one too."""
    hop = config.hop_samples / config.sample_rate
    middle = config.window_samples / config.sample_rate / 2 if config.framing == "inside" else 0.0
    times, slack = middle + np.arange(len(whole)) * hop, 1e-6 * hop  # 0.29 as a time is not exact in binary
    return whole[(times >= (start or 0.0) - slack) & (times < (math.inf if end is None else end - slack))]


@pytest.mark.parametrize(
    ("start", "end", "centred", "inside"),
    [
        (None, 0.5, 50, 49),
        (0.0, 0.5, 50, 49),
        (0.25, 0.75, 50, 50),
        (0.29, 0.57, 28, 28),
        (0.5, None, 51, 50),
        (0.0, None, 101, 99),
        (0.5, 1.005, 51, 50),
        (0.5, 1.0055, 51, 50),  # times in manifests are rounded: up to a millisecond beyond the end
        (0.3, 0.305, 1, 1),
        (1.0, None, 1, 1),
    ],
)
def test_a_stretch_has_the_whole_files_frames(recording, start, end, centred, inside):
    for config, n_frames in ((FeatureConfig(), centred), (KALDI, inside)):
        frames = stretch(recording, config, start, end)
        assert len(frames) == n_frames
        expected = part_of(whole_frames(recording, config), start, end, config)
        if start != 1.0:  # at 1.0 s no window that lies inside has its middle: the nearest stands for it
            np.testing.assert_array_equal(frames, expected)
        else:
            np.testing.assert_array_equal(frames, whole_frames(recording, config)[-1:])


CONFIGS = st.builds(
    FeatureConfig,
    framing=st.sampled_from(["centred", "inside"]),
    # 533 samples, an odd number, and 67: no times in whole milliseconds; and hops wider than windows.
    window_length=st.sampled_from([0.025, 0.0333125, 0.01, 0.1]),
    hop_length=st.sampled_from([0.010, 0.0041875, 0.02]),
    dither=st.sampled_from([0.0, 1e-3]),
    remove_offset=st.booleans(),
    pre_emphasis=st.sampled_from([0.97, 0.0]),
    emphasis_by=st.sampled_from(["signal", "frame"]),
    energy=st.sampled_from(["c0", "log", "both", "none"]),
    delta_orders=st.integers(0, 2),
    delta_width=st.integers(1, 5),
    delta_method=st.sampled_from(["regression", "polynomial"]),
    shifted_deltas=st.sampled_from(["", "7-1-3-7", "5-2-1-3", "7-5-9-2"]),
)
STARTS = st.none() | st.floats(0, 1) | st.integers(0, 100).map(lambda n: n / 100)
ENDS = st.none() | st.floats(0.001, DURATION) | st.integers(1, 100).map(lambda n: n / 100)


@settings(deadline=None, max_examples=200)
@given(CONFIGS, STARTS, ENDS)
@example(FeatureConfig(delta_method="polynomial", delta_width=4), None, 0.04)
@example(FeatureConfig(delta_method="polynomial", delta_width=4), 0.95, None)
@example(FeatureConfig(framing="inside", shifted_deltas="7-1-3-7"), 0.0, 0.02)
@example(FeatureConfig(framing="inside", shifted_deltas="7-1-3-7"), 0.97, None)
def test_any_stretch_has_the_whole_files_frames(recording, config, start, end):
    assume((DURATION if end is None else end) - (start or 0.0) > 1e-3)
    frames = stretch(recording, config, start, end)
    whole = whole_frames(recording, config)
    expected = part_of(whole, start, None if end == DURATION else end, config)
    if len(expected):
        np.testing.assert_array_equal(frames, expected)
    else:  # between two frames
        assert len(frames) == 1 and (whole == frames).all(axis=1).any()


@pytest.mark.parametrize("name", ["librosa", "htk", "asvspoof"])
@pytest.mark.parametrize(("start", "end"), [(None, 0.2), (0.31, 0.62), (0.8, None)])
def test_presets_in_stretches(recording, name, start, end):
    config = FeatureConfig.preset(name, sample_rate=16000, top_db=0.0, shifted_deltas="3-2-3-3")
    expected = part_of(whole_frames(recording, config), start, end, config)
    np.testing.assert_array_equal(stretch(recording, config, start, end), expected)


def test_dither_in_a_stretch_is_that_of_its_place_in_the_file(recording):
    config = FeatureConfig(dither=1e-3)
    expected = part_of(whole_frames(recording, config), 0.3, 0.6, config)
    np.testing.assert_array_equal(stretch(recording, config, 0.3, 0.6), expected)


@pytest.mark.parametrize(
    ("start", "end", "centred", "inside"),
    [(0.301, 0.304, 30, 29), (0.308, 0.311, 31, 30), (1.001, None, 100, 98), (0.0, 0.002, 0, 0)],
)
def test_a_stretch_between_two_frames_has_the_nearest(recording, start, end, centred, inside):
    for config, frame in ((FeatureConfig(), centred), (KALDI, inside)):
        expected = whole_frames(recording, config)[frame : frame + 1]
        np.testing.assert_array_equal(stretch(recording, config, start, end), expected)


@pytest.mark.parametrize(
    ("start", "end", "noise_at"),
    [
        (0.51, 0.9, 0.480),  # lasts 10 ms, and ends 7 ms before the first window begins
        (0.2, 0.55, 0.565),
    ],
)
def test_top_db_goes_by_the_loudest_of_the_stretch_itself(tmp_path, start, end, noise_at):
    """A loud noise beside a stretch, but within its deltas' reach, changes none of its frames."""
    rng = np.random.default_rng(0)
    samples = rng.standard_normal(16000) * 0.001 * np.tile(np.repeat([1.0, 0.01], 800), 10)
    soundfile.write(tmp_path / "quiet.wav", samples, 16000, subtype="FLOAT")
    first = round(16000 * noise_at)
    samples[first : first + 160] += 0.9 * rng.standard_normal(160)
    soundfile.write(tmp_path / "loud.wav", samples, 16000, subtype="FLOAT")
    # Of deltas that look at one frame only, so that the noise is in what is read, and in no frame.
    config = FeatureConfig(top_db=30.0, delta_orders=0, shifted_deltas="1-9-1-1", pre_emphasis=0.0)
    loud, quiet = (stretch(tmp_path / name, config, start, end) for name in ("loud.wav", "quiet.wav"))
    np.testing.assert_array_equal(loud[:, :20], quiet[:, :20])
    whole = part_of(whole_frames(tmp_path / "loud.wav", config), start, end, config)
    assert (whole[:, :20] != quiet[:, :20]).any()


@pytest.mark.parametrize(
    ("config", "reach_back", "reach_on"),
    [
        # 3 frames for a window, 2 for each order of deltas; 59 is the last frame of [0.5, 0.6).
        (FeatureConfig(), 0.07, 0.06),
        (FeatureConfig(delta_orders=0), 0.03, 0.02),
        (FeatureConfig(delta_orders=0, shifted_deltas="7-1-3-7"), 0.22, 0.21),
        # The first window whose middle is at 0.5 s or later begins at 0.49 s.
        (FeatureConfig(framing="inside"), 0.08, 0.05),
    ],
)
def test_only_the_stretch_and_its_context_are_read(recording, monkeypatch, config, reach_back, reach_on):
    asked = []

    def recorded(path, start=None, end=None):
        asked.append((path, start, end))
        return read_audio(path, start, end)

    monkeypatch.setattr(READ, recorded)
    stretch(recording, config, None, None)
    stretch(recording, config, 0.5, 0.6)
    stretch(recording, config, None, 0.1)
    stretch(recording, config, 0.9, None)
    assert [path for path, _, _ in asked] == [recording] * 4
    assert asked[0][1:] == (None, None)
    expected = [(0.5 - reach_back, 0.6 + reach_on), (0.0, 0.1 + reach_on), (0.9 - reach_back, DURATION)]
    for (_, *times), limits in zip(asked[1:], expected, strict=True):
        assert times == [pytest.approx(limit) for limit in limits]


def test_normalisation_and_activity_see_the_stretch_alone(recording):
    config = FeatureConfig(normalisation="mean_variance")
    frames = stretch(recording, config, 0.2, 0.6)
    assert len(frames) == 40
    np.testing.assert_allclose(frames.mean(axis=0), 0.0, atol=1e-4)
    np.testing.assert_allclose(frames.var(axis=0), 1.0, atol=1e-4)
    # The recording falls by 40 dB: a range of 10 dB keeps about a quarter of the whole, and all of its last second.
    active = FeatureConfig(speech_activity="energy", activity_range=10.0)
    for start, end in ((None, None), (0.8, None)):
        n_frames = len(stretch(recording, FeatureConfig(), start, end))
        kept = stretch(recording, active, start, end)
        assert 1 <= len(kept) <= n_frames
        assert (len(kept) < 0.5 * n_frames) == (start is None)


@pytest.mark.parametrize("method", ["sliding_mean", "sliding_mean_variance", "warping"])
def test_sliding_windows_end_where_the_stretch_does(recording, method):
    config = FeatureConfig(normalisation=method, normalisation_window=10.0)
    plain = stretch(recording, FeatureConfig(), 0.2, 0.6).astype(np.float64)
    frames = stretch(recording, config, 0.2, 0.6)
    np.testing.assert_allclose(frames.mean(axis=0), 0.0, atol=1e-4)
    order = np.argsort(plain, axis=0, kind="stable")
    assert (np.diff(np.take_along_axis(frames, order, axis=0), axis=0) >= 0).all()


@pytest.mark.parametrize("times", [{"end": 1.5}, {"start": 0.5, "end": 1.5}, {"start": 5.0, "end": 6.0}])
def test_an_end_beyond_the_file_is_refused(recording, times):
    end = times["end"]
    with pytest.raises(
        InputError, match=rf"recording\.wav: utterance 'u' ends at {end:g} s; the file ends at 1\.005"
    ):
        FeatureExtractor().from_utterance(Utterance("u", recording, **times))


@pytest.mark.parametrize("start", [1.005, 1.1, 5.0])
def test_a_start_beyond_the_file_is_refused(recording, start):
    with pytest.raises(InputError, match=rf"recording\.wav: utterance 'u' starts at {start:g} s"):
        FeatureExtractor().from_utterance(Utterance("u", recording, start=start))


def test_a_stretch_of_a_file_shorter_than_a_window_is_refused_where_windows_must_lie_inside(
    write_tone, tmp_path
):
    path = write_tone(tmp_path / "short.wav", seconds=0.02)
    with pytest.raises(InputError, match=rf"{path}: 320 samples are shorter than one window of 400"):
        stretch(path, KALDI, 0.005, 0.015)
    assert stretch(path, FeatureConfig(), 0.005, 0.015).shape == (1, 60)


@pytest.mark.parametrize("n_samples", [400, 401, 559, 560, 720])
def test_a_stretch_of_a_file_of_a_window_or_two(write_tone, tmp_path, n_samples):
    path = write_tone(tmp_path / "short.wav", seconds=n_samples / 16000)
    whole = whole_frames(path, KALDI)
    assert len(whole) == 1 + (n_samples - 400) // 160
    np.testing.assert_array_equal(stretch(path, KALDI, 0.0, None), whole)
    np.testing.assert_array_equal(stretch(path, KALDI, 0.0, 0.001), whole[:1])
    np.testing.assert_array_equal(stretch(path, KALDI, n_samples / 16000 - 0.001, None), whole[-1:])


def test_real_speech_in_stretches_has_the_files_frames(speech_data):
    """Of FLAC and of WAV, at the configured rate."""
    flac = sorted(speech_data.glob("LibriSpeech/train-clean-100/26/*/*.flac"))[0]
    wav = sorted(speech_data.glob("fsdd/recordings/*_theo_*.wav"))[0]
    for path, start, end in ((flac, 1.234, 2.7), (flac, 0.5, None), (wav, 0.1, 0.2), (wav, None, 0.15)):
        _, rate = read_audio(path)
        for config in (FeatureConfig(sample_rate=rate), FeatureConfig.preset("kaldi", sample_rate=rate)):
            expected = part_of(whole_frames(path, config), start, end, config)
            np.testing.assert_array_equal(stretch(path, config, start, end), expected)


# --- files at other rates


@pytest.fixture(scope="module")
def noises(tmp_path_factory):
    """Two seconds of noise at several rates, over the whole band of each, by rate."""
    folder, rng = tmp_path_factory.mktemp("noises"), np.random.default_rng(0)
    for rate in OTHER_RATES:
        samples = (rng.standard_normal(2 * rate) * 0.1).astype(np.float32)
        soundfile.write(folder / f"{rate}.wav", samples, rate, subtype="FLOAT")
    return {rate: folder / f"{rate}.wav" for rate in OTHER_RATES}


# The first three have hops of no whole number of samples of the file, which must begin where both grids meet.
OTHER_RATES = (11025, 22050, 44100, 48000, 12345)
BARE = {"window": "rectangular", "delta_orders": 0, "pre_emphasis": 0.0}


@pytest.mark.parametrize("file_rate", OTHER_RATES)
@pytest.mark.parametrize("framing", ["centred", "inside"])
@pytest.mark.parametrize("others", [BARE, {"shifted_deltas": "7-1-3-3", "dither": 1e-3}])
def test_a_stretch_of_a_file_at_another_rate_has_the_whole_files_frames(noises, file_rate, framing, others):
    """But for what the resampler still has of samples further away."""
    config = FeatureConfig(sample_rate=8000, framing=framing, **others)
    whole = whole_frames(noises[file_rate], config)
    for start, end in ((None, 0.3), (0.2, 1.2), (0.333, 1.111), (0.5, None), (1.5, 1.52)):
        frames = stretch(noises[file_rate], config, start, end)
        # In dB. Where the grids do not meet, it is off by whole ones; where the resampler finds an edge, by 1e-3.
        np.testing.assert_allclose(frames, part_of(whole, start, end, config), rtol=0, atol=1e-4)


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(OTHER_RATES), st.floats(0.0, 1.9), st.floats(0.001, 2.0), st.booleans())
def test_there_is_room_for_all_samples_of_a_long_stretch(noises, file_rate, start, length, inside):
    assume(start + length <= 2.0)
    config = FeatureConfig(sample_rate=8000, framing="inside" if inside else "centred")
    utterance = Utterance("u", noises[file_rate], start=start, end=start + length)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("speechgmm.features.reading.LONG", 0.0)
        reading = open_utterance(utterance, config)
    n_samples = sum(block.size for block in reading.blocks())
    assert n_samples <= reading.n_samples <= n_samples + 20
    first, stop, _ = reading.keep.indices(config.n_frames(n_samples))
    assert stop > first


@pytest.mark.parametrize("file_rate", [1, 8, 999, 1_000_001, 2**31 - 1])
def test_a_rate_that_is_no_speechs_is_refused(tmp_path, monkeypatch, file_rate):
    """Brought up to 16 kHz, a second of audio under a header of 1 Hz would be hours, and fill the memory."""
    path = tmp_path / "odd.wav"
    soundfile.write(path, np.random.default_rng(0).standard_normal(1000) * 0.1, file_rate)
    message = rf"odd\.wav: its header says {file_rate} Hz; speech has from 1000 to 1000000 Hz"
    with pytest.raises(InputError, match=message):
        stretch(path, FeatureConfig(), None, None)
    with pytest.raises(InputError, match=message):
        stretch(path, FeatureConfig(), 100 / file_rate, 900 / file_rate)
    monkeypatch.setattr("speechgmm.features.reading.SMALL_FILE", 0)
    monkeypatch.setattr("speechgmm.features.reading.LONG", 0.0)
    with pytest.raises(InputError, match=message):
        stretch(path, FeatureConfig(), None, None)


@pytest.mark.parametrize(("config", "limit"), [(FeatureConfig(), 1e9), (KALDI, 1e9 / 32768)])
@pytest.mark.parametrize("long", [False, True])
def test_samples_beyond_float32s_reach_are_refused(tmp_path, monkeypatch, config, limit, long):
    if long:
        monkeypatch.setattr("speechgmm.features.reading.SMALL_FILE", 0)
        monkeypatch.setattr("speechgmm.features.reading.LONG", 0.5)
    samples = np.random.default_rng(0).uniform(-1, 1, 16000)
    samples[7] = -1.0
    for factor in (0.99, 1.01):
        soundfile.write(tmp_path / "a.wav", factor * limit * samples, 16000, subtype="FLOAT")
        if factor < 1:
            assert np.isfinite(stretch(tmp_path / "a.wav", config, None, None)).all()
        else:
            with pytest.raises(
                InputError, match=r"a\.wav: samples reach -[\d.e+]+; they must lie in \[-1, 1\]"
            ):
                stretch(tmp_path / "a.wav", config, None, None)


# --- what is known before reading


def test_the_reading_says_how_long_an_utterance_is(recording):
    for start, end, seconds in (
        (None, None, 1.005),
        (0.5, None, 0.505),
        (0.0, 0.25, 0.25),
        (0.5, 1.0055, 0.505),
    ):
        utterance = Utterance("u", recording, start=start, end=end)
        for config in (FeatureConfig(), KALDI, FeatureConfig(sample_rate=8000)):
            reading = open_utterance(utterance, config)
            assert reading.seconds == pytest.approx(seconds, abs=1e-9)
            assert reading.file_rate == 16000
        assert duration_of(utterance) == pytest.approx(seconds, abs=1e-9)
    assert duration_of(Utterance("u", recording.with_name("missing.wav"))) == 0.0
