"""The picture of an audio file's features: where things lie in it, what it says, and that it is always the same."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechgmm.errors import InputError
from speechgmm.features.cepstra import CepstralAnalyser, window_weights
from speechgmm.features.config import FeatureConfig
from speechgmm.features.extract import FeatureExtractor
from speechgmm.features.filter_bank import filter_bank
from speechgmm.features.reading import Reading, open_utterance
from speechgmm.manifest import Utterance
from speechgmm.report import feature_picture as module
from speechgmm.report.feature_picture import feature_picture

matplotlib = pytest.importorskip("matplotlib")

INSIDE = FeatureConfig(framing="inside")
HOP, WINDOW = 0.010, 0.025
SIX = FeatureConfig(framing="inside", n_filters=30, n_coefficients=9, lifter=9, energy="both", delta_orders=0)


@pytest.fixture
def write(tmp_path):
    """A function that writes samples to a file in 16-bit steps."""

    def write_samples(samples, sample_rate=16000, name="audio.wav"):
        soundfile.write(tmp_path / name, samples, sample_rate)
        return tmp_path / name

    return write_samples


def burst(start, end, seconds=3.0, frequency=1000.0, sample_rate=16000):
    """A tone from `start` to `end`, and faint noise everywhere."""
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    tone = 0.5 * np.sin(2 * np.pi * frequency * time) * ((time >= start) & (time < end))
    return tone + 1e-3 * np.random.default_rng(0).standard_normal(time.size)


def image(axes):
    """Rows of frames of a panel, their times, and the limits of its values."""
    (picture,) = axes.images
    assert picture.origin == "lower"
    rows = np.asarray(picture.get_array()).T
    left, right, low, high = picture.get_extent()
    return rows, left + (np.arange(len(rows)) + 0.5) * (right - left) / len(rows), (low, high)


def shaded(axes):
    """Beginning and end of the shaded spans of the last panel."""
    boxes = [path.get_extents() for path in axes.collections[0].get_paths()]
    return [(box.x0, box.x1) for box in boxes]


def texts(figure):
    return "\n".join([figure.get_suptitle(), *(axes.get_title(loc="left") for axes in figure.axes[:4])])


@pytest.mark.parametrize(
    ("config", "first", "n_frames"), [(FeatureConfig(), 0.0, 151), (INSIDE, WINDOW / 2, 148)]
)
def test_four_panels_share_a_time_axis_that_is_the_file_s(write, config, first, n_frames):
    figure = feature_picture(write(burst(0.5, 1.0, seconds=1.5)), config)
    panels = figure.axes[:4]
    assert [axes.get_ylabel().split("\n")[0] for axes in panels] == [
        *("Amplitude", "Frequency (kHz)", "Coefficient", "Level in all filters")
    ]
    assert panels[3].get_xlabel() == "Time (s)"
    for axes in panels:
        assert axes.get_xlim() == (0.0, 1.5)
    times = first + HOP * np.arange(n_frames)
    for axes in panels[1:3]:
        np.testing.assert_allclose(image(axes)[1], times, atol=1e-9)
    np.testing.assert_allclose(panels[3].lines[0].get_xdata(), times, atol=1e-9)
    np.testing.assert_allclose(shaded(panels[3]), [(times[0] - HOP / 2, times[-1] + HOP / 2)])


@pytest.mark.parametrize("config", [FeatureConfig(), INSIDE], ids=["centred", "inside"])
@pytest.mark.parametrize(("frequency", "start"), [(1000.0, 1.0), (5500.0, 2.2)])
def test_a_tone_is_at_its_frequency_and_time(write, config, frequency, start):
    figure = feature_picture(write(burst(start, start + 0.5, frequency=frequency)), config)
    rows, times, (low, high) = image(figure.axes[1])
    frequencies = low + (np.arange(rows.shape[1]) + 0.5) * (high - low) / rows.shape[1]
    assert frequencies[0] == pytest.approx(0.0, abs=1e-9)
    assert frequencies[-1] == pytest.approx(8.0)
    loudest, level = frequencies[rows.argmax(axis=1)], rows.max(axis=1)
    sounding = level > level.max() - 10
    # A bin is 31 Hz wide. Windows that hold a third of the tone count as sounding.
    np.testing.assert_allclose(loudest[sounding], frequency / 1000, atol=0.02)
    assert times[sounding][0] == pytest.approx(start, abs=WINDOW / 2)
    assert times[sounding][-1] == pytest.approx(start + 0.5, abs=WINDOW / 2)
    assert figure.axes[1].get_ylim() == (0.0, 8.0)


def test_a_full_scale_tone_is_at_0_db(write):
    time = np.arange(16000) / 16000
    config = FeatureConfig(pre_emphasis=0.0)
    figure = feature_picture(write(0.999 * np.sin(2 * np.pi * 1000 * time)), config)
    # 1 kHz is the middle of a bin.
    assert image(figure.axes[1])[0].max() == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize(
    "config",
    [
        FeatureConfig(),
        FeatureConfig(pre_emphasis=0.0, window="rectangular"),
        FeatureConfig.preset("kaldi"),
        FeatureConfig.preset("htk"),
        FeatureConfig.preset("librosa", sample_rate=16000, top_db=0.0),
        FeatureConfig(framing="inside", remove_offset=True, window_length=0.0211, hop_length=0.0033),
    ],
)
def test_spectra_and_levels_are_those_of_the_compiled_pass(write, config):
    path = write(0.1 + burst(0.3, 0.6, seconds=1.0))
    figure = feature_picture(path, config)
    amplitudes = 10 ** (image(figure.axes[1])[0] / 20) * config.scale * window_weights(config).sum() / 2
    values = amplitudes if config.spectrum == "magnitude" else amplitudes**2
    heard = np.log((values @ filter_bank(config)).sum(axis=1))
    reading = open_utterance(Utterance("a", path), config)
    levels = CepstralAnalyser(config).analyse(reading.blocks, reading.n_samples).levels
    # The compiled pass counts in float32, and so does the picture, in dB.
    np.testing.assert_allclose(heard, levels, atol=2e-3)
    drawn = figure.axes[3].lines[0].get_ydata()
    per_decibel = np.log(10) / (20 if config.spectrum == "magnitude" else 10)
    np.testing.assert_allclose(drawn, (levels - levels.max()) / per_decibel, atol=1e-4)


@pytest.mark.parametrize("energy", ["c0", "log", "both", "none"])
def test_cepstra_are_the_extractor_s_each_on_its_own_scale(write, energy):
    config = FeatureConfig(energy=energy, n_coefficients=9, shifted_deltas="7-1-3-7")
    path = write(burst(0.3, 0.6, seconds=1.0))
    figure = feature_picture(path, config)
    statics = FeatureExtractor(config).from_utterance(Utterance("a", path))[:, : config.n_statics]
    expected = (statics - statics.mean(axis=0, dtype=float)) / statics.std(axis=0, dtype=float)
    np.testing.assert_allclose(image(figure.axes[2])[0], expected, atol=1e-5)
    rows = [label.get_text() for label in figure.axes[2].get_yticklabels()]
    assert "".join(rows) == {"c0": "02468", "log": "E2468", "both": "0246E", "none": "12345678"}[energy]
    assert figure.axes[2].get_yticks()[-1] == config.n_statics - 1
    assert ("E: log energy" in texts(figure)) == (energy in ("log", "both"))


def test_a_coefficient_that_never_changes_is_drawn_as_its_mean(write):
    samples = np.tile(np.random.default_rng(0).uniform(-0.1, 0.1, 160), 100)
    figure = feature_picture(write(samples), FeatureConfig(framing="inside", hop_length=0.010))
    # Every frame sees the same samples, but for the first, before which there is none.
    rows = image(figure.axes[2])[0]
    assert np.isfinite(rows).all() and rows.any()
    figure = feature_picture(write(samples), FeatureConfig(framing="inside", emphasis_by="frame"))
    assert not image(figure.axes[2])[0].any()


def test_planted_silence_is_not_shaded(write):
    samples = burst(0.5, 1.0) + burst(2.0, 2.6)
    figure = feature_picture(write(samples), FeatureConfig(speech_activity="energy", activity_context=0))
    spans = shaded(figure.axes[3])
    # Windows that reach into a tone by a little are loud enough already.
    np.testing.assert_allclose(spans, [(0.5, 1.0), (2.0, 2.6)], atol=WINDOW / 2 + HOP)
    kept = round(sum(end - start for start, end in spans) / HOP)
    share = f"{kept} of 301 frames ({100 * kept / 301:.0f} %)"
    assert f'shaded: kept as speech by "energy", in all {share}' in texts(figure)


@pytest.mark.parametrize(
    ("settings", "said", "n_spans"),
    [
        ({"speech_activity": "none"}, "Speech activity; all frames kept", 1),
        ({"speech_activity": "gmm"}, "no speech can be told from silence: all frames kept", 1),
        ({"speech_activity": "gmm", "no_speech": "refuse"}, "no speech can be told from silence: refused", 0),
    ],
)
def test_what_is_kept_where_there_is_nothing_to_decide(write, settings, said, n_spans):
    steady = 0.1 * np.random.default_rng(0).standard_normal(16000)
    figure = feature_picture(write(steady), FeatureConfig(**settings))
    assert said in texts(figure)
    assert len(shaded(figure.axes[3])) == n_spans


@pytest.mark.parametrize(
    "config", [FeatureConfig(speech_activity="energy"), INSIDE], ids=["centred", "inside"]
)
def test_a_long_file_is_drawn_in_part_but_heard_as_a_whole(write, config):
    # Of the first second alone, the faint tone would be the loudest.
    path = write(0.005 * burst(0.2, 0.6) + burst(2.0, 2.5))
    whole, part = feature_picture(path, config), feature_picture(path, config, seconds=1.0)
    assert "of which the first 1 s are drawn" in texts(part)
    assert "drawn" not in texts(whole)
    assert part.axes[0].collections[0].get_paths()[0].get_extents().x1 < 1.0
    assert part.axes[0].get_xlim() == part.axes[3].get_xlim() == (0.0, 1.0)
    rows, times, _ = image(part.axes[1])
    assert times[0] - HOP / 2 < HOP + WINDOW / 2 and 1.0 - HOP / 2 <= times[-1] + 1e-9 < 1.0 + HOP
    np.testing.assert_array_equal(rows, image(whole.axes[1])[0][: len(rows)])
    levels = part.axes[3].lines[0].get_ydata()
    np.testing.assert_array_equal(levels, whole.axes[3].lines[0].get_ydata()[: len(rows)])
    assert levels.max() < -35
    if config.speech_activity == "energy":
        assert shaded(part.axes[3]) == []
        assert "of 301 frames" in texts(part)


def test_a_file_that_is_read_in_blocks_is_drawn_the_same(write, monkeypatch):
    path = write(burst(0.5, 1.0))
    at_once = feature_picture(path, FeatureConfig(), seconds=1.2)
    for name, value in (("LONG", 1.0), ("SMALL_FILE", 0)):
        monkeypatch.setattr(f"speechgmm.features.reading.{name}", value)
    in_blocks = feature_picture(path, FeatureConfig(), seconds=1.2)
    for panel in (1, 2):
        np.testing.assert_array_equal(image(at_once.axes[panel])[0], image(in_blocks.axes[panel])[0])
    assert texts(at_once) == texts(in_blocks)


def test_no_more_is_read_than_is_drawn():
    def blocks():
        yield from (np.zeros(10, np.float32), np.ones(10, np.float32))
        pytest.fail("asked for a third block")

    assert module._beginning(Reading(blocks, 30, 16000, slice(None), 1.0), 20).sum() == 10


@pytest.mark.parametrize("sample_rate", [16000, 8000])
@pytest.mark.parametrize("config", [FeatureConfig(), INSIDE], ids=["centred", "inside"])
def test_a_stretch_of_a_file_is_drawn_at_its_place(write, config, sample_rate):
    path = write(burst(1.2, 1.3, sample_rate=sample_rate), sample_rate)
    config = replace(config, speech_activity="energy")
    figure = feature_picture(Utterance("word", path, start=0.59, end=1.59), config)
    assert "1.00 s from 0.59 s; " in texts(figure)
    assert figure.axes[0].get_xlim() == pytest.approx((0.59, 1.59))
    rows, times, _ = image(figure.axes[1])
    level = rows.max(axis=1)
    sounding = times[level > level.max() - 10]
    assert sounding[0] == pytest.approx(1.2, abs=WINDOW / 2)
    assert sounding[-1] == pytest.approx(1.3, abs=WINDOW / 2)
    outline = figure.axes[0].collections[0].get_paths()[0].vertices
    loud = outline[np.abs(outline[:, 1]) > 0.25, 0]
    assert loud.min() == pytest.approx(1.2, abs=2e-3)
    assert loud.max() == pytest.approx(1.3, abs=2e-3)
    first, stop = config.frame_range(0.59, 1.59)
    assert len(rows) == stop - first
    assert f" of {len(rows)} frames" in texts(figure)


def test_no_click_is_lost_from_the_waveform(write):
    samples = 0.01 * np.sin(np.arange(5 * 16000) / 7)
    samples[[12345, 60013]] = 0.75, -0.5
    figure = feature_picture(write(samples), FeatureConfig())
    outline = figure.axes[0].collections[0].get_paths()[0].vertices
    for extreme, place in ((outline[:, 1].argmax(), 12345), (outline[:, 1].argmin(), 60013)):
        assert outline[extreme, 1] == pytest.approx(samples[place], abs=1e-4)
        assert outline[extreme, 0] == pytest.approx(place / 16000, abs=2e-3)


def test_very_many_frames_are_thinned_out(write, monkeypatch):
    path = write(burst(0.5, 1.0))
    whole = feature_picture(path, FeatureConfig())
    monkeypatch.setattr(module, "VALUES", 100 * 257)
    thinned = feature_picture(path, FeatureConfig())
    for panel in (1, 2):
        assert len(image(thinned.axes[panel])[0]) == 76  # every fourth of 301
    np.testing.assert_array_equal(image(thinned.axes[1])[0], image(whole.axes[1])[0][::4])
    # A frame stands for the time up to the next one drawn.
    np.testing.assert_allclose(image(thinned.axes[1])[1], 4 * HOP * np.arange(76) + 1.5 * HOP)
    ends = shaded(thinned.axes[3])[0]
    assert ends == pytest.approx((-HOP / 2, 76 * 4 * HOP - HOP / 2))


def test_filters_are_marked_at_their_edges(write):
    config = FeatureConfig(n_filters=5, n_coefficients=5, frequency_scale="linear", low_frequency=1000.0)
    figure = feature_picture(write(burst(0.5, 1.0)), config)
    marks = [path.vertices[0, 1] for path in figure.axes[1].collections[0].get_paths()]
    np.testing.assert_allclose(marks, np.linspace(1.0, 8.0, 7))
    assert "edges of the 5 filters" in texts(figure)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (FeatureConfig(), 'preset "default"\nWindows of 25 ms every 10 ms, 40 mel filters from 20 to 8000 '),
        (FeatureConfig.preset("kaldi"), 'preset "kaldi"\n'),
        (FeatureConfig.preset("librosa", sample_rate=16000), 'preset "librosa"\nWindows of 128 ms every '),
        (FeatureConfig.preset("asvspoof", lifter=7), 'preset "asvspoof" with lifter = 7\n'),
        (FeatureConfig(sample_rate=32000), '32000 Hz (file: 16000 Hz); preset "default"\n'),
        (SIX, 'preset "default" with framing = inside, n_filters = 30, n_coefficients = 9,'),
        (replace(SIX, log_scale="log10"), "settings of its own\n"),
    ],
)
def test_the_head_tells_file_and_settings(write, config, said):
    figure = feature_picture(str(write(burst(0.5, 1.0), name="spoken.wav")), config)
    assert texts(figure).startswith("spoken.wav\n3.00 s; ")
    assert said in texts(figure)


def test_names_of_files_are_shown_as_they_are(write, tmp_path):
    path = write(burst(0.1, 0.2, seconds=0.3), name="a$b$ _x^2 声.wav")
    figure = feature_picture(path, FeatureConfig(), tmp_path / "a.svg")  # a warning would be an error here
    assert figure.get_suptitle() == "a$b$ _x^2 声.wav"
    assert not figure.texts[0].get_parse_math()
    path = write(burst(0.1, 0.2, seconds=0.3), name=f"{'x' * 180}y.wav")
    assert feature_picture(path, FeatureConfig()).get_suptitle() == f"{'x' * 49}…{'x' * 43}y.wav"


SCRIPT = """
import sys
from speechgmm.report.feature_picture import feature_picture
from speechgmm.features.config import FeatureConfig
assert "matplotlib" not in sys.modules
for output in sys.argv[2:]:
    feature_picture(sys.argv[1], FeatureConfig(), output)
assert "matplotlib.pyplot" not in sys.modules
"""


def test_the_same_input_gives_the_same_bytes(write, tmp_path):
    path = write(burst(0.1, 0.2, seconds=0.3))
    kinds = ("png", "svg", "pdf")
    others = [str(tmp_path / f"other.{kind}") for kind in kinds]
    environment = os.environ | {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "SOURCE_DATE_EPOCH": "86400"}
    subprocess.run([sys.executable, "-c", SCRIPT, str(path), *others], check=True, env=environment)
    with matplotlib.rc_context({"font.size": 20.0, "axes.facecolor": "black", "savefig.dpi": 30.0}):
        before = dict(matplotlib.rcParams)
        for kind, other in zip(kinds, others, strict=True):
            feature_picture(path, FeatureConfig(), tmp_path / f"picture.{kind.upper()}")
            drawn, again = (tmp_path / f"picture.{kind.upper()}").read_bytes(), Path(other).read_bytes()
            # matplotlib names what clips in an SVG by places to the last bit, which its layout does not always repeat.
            assert re.sub(rb"\bp[0-9a-f]{10}\b", b"", drawn) == re.sub(rb"\bp[0-9a-f]{10}\b", b"", again)
        assert dict(matplotlib.rcParams) == before
    png, svg, pdf = (Path(other).read_bytes() for other in others)
    assert [png[:5], svg[:5], pdf[:5]] == [b"\x89PNG\r", b"<?xml", b"%PDF-"]
    assert b"<dc:date>" not in svg and b"CreationDate" not in pdf


@pytest.mark.parametrize(
    ("name", "said"),
    [("a.jpeg", r"a\.jpeg: .* '\.jpeg'; use \.png, \.pdf, \.svg"), ("a", "without a suffix")],
)
def test_other_formats_are_refused_before_any_work(tmp_path, name, said):
    with pytest.raises(InputError, match=said):
        feature_picture("not there.wav", FeatureConfig(), tmp_path / name)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_the_length_drawn_must_be_one(seconds):
    with pytest.raises(InputError, match=r"`seconds` is .*; it must be a length of time to draw, above 0"):
        feature_picture("not there.wav", FeatureConfig(), seconds=seconds)


@pytest.mark.parametrize("config", [FeatureConfig(), INSIDE], ids=["centred", "inside"])
def test_the_shortest_drawing_is_of_one_frame(write, config):
    figure = feature_picture(write(burst(0.0, 1.0)), config, seconds=1e-4)
    assert len(image(figure.axes[1])[0]) == len(figure.axes[3].lines[0].get_ydata()) == 1
    assert figure.axes[0].get_xlim() == (0.0, 1e-4)


def test_without_matplotlib_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=r"needs matplotlib: pip install 'speechgmm\[report\]'"):
        feature_picture("not there.wav", FeatureConfig())


@pytest.mark.parametrize(
    ("samples", "config", "said"),
    [
        (np.zeros(16000), FeatureConfig(), "silent in the 1 s"),
        (np.full(1, 0.5), FeatureConfig(), "silent in the 6.25e-05 s"),
        (burst(0.0, 0.1, seconds=0.02), INSIDE, "320 samples are shorter than one window of 400"),
    ],
)
def test_audio_that_cannot_be_used_is_refused(write, tmp_path, samples, config, said):
    with pytest.raises(InputError, match=said):
        feature_picture(write(samples), config, tmp_path / "picture.png")
    assert not (tmp_path / "picture.png").exists()


def test_silence_at_the_beginning_of_a_long_file_can_be_drawn(write):
    samples = burst(2.0, 2.5)
    samples[:24000] = 0.0
    figure = feature_picture(write(samples), FeatureConfig(), seconds=1.0)
    assert np.isfinite(image(figure.axes[1])[0]).all()
    assert not image(figure.axes[2])[0].any()
    low, high = figure.axes[3].get_ylim()
    assert low >= -100 and high > 0


@pytest.mark.parametrize("name", ["default", "kaldi", "htk", "librosa", "asvspoof"])
def test_real_speech_with_every_preset(speech_data, name):
    config = FeatureConfig.preset(name, sample_rate=8000, speech_activity="energy")
    figure = feature_picture(speech_data / "fsdd" / "recordings" / "3_theo_7.wav", config)
    rows, times, _ = image(figure.axes[1])
    spans = shaded(figure.axes[3])
    assert 0.0 <= times[0] < times[-1] <= figure.axes[0].get_xlim()[1]
    hop = times[1] - times[0]
    assert 0.05 < sum(end - start for start, end in spans) <= hop * len(times) + 1e-9
    # Speech is loudest below 4 kHz by far more than the noise between words.
    assert rows.max() - np.median(rows) > 20
    figure.canvas.draw()
