"""Presets against the independent implementations that they name, on real speech and on made signals."""

import importlib.util
import warnings

import numpy as np
import pytest

from speechgmm.features.cepstra import CepstralAnalyser, cosine_transform
from speechgmm.features.config import FeatureConfig
from speechgmm.features.filter_bank import from_hertz
from speechgmm.features.presets import PRESETS
from tests.benchmarks import preset_agreement
from tests.benchmarks.preset_agreement import PEERS, Agreement, ours

NAMES = [f"{peer.preset}: {peer.name}" for peer in PEERS]
peers = pytest.mark.parametrize("peer", PEERS, ids=NAMES)


def peer_of(preset, package=""):
    """The first of a preset that is made by a package."""
    return next(peer for peer in PEERS if peer.preset == preset and package in peer.packages[0])


def require(peer):
    """Skip the test unless the peer is installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs
        for package in peer.packages:
            pytest.importorskip(package)


def voice(rate, seconds=1.0, seed=0, tail=0.1):
    """A buzz that glides and swells, with noise, a click and a quiet tail: something at every frequency."""
    time = np.arange(round(rate * seconds)) / rate
    phase = 2 * np.pi * np.cumsum(120 + 40 * np.sin(3 * time)) / rate
    samples = sum(np.sin(k * phase) / k for k in range(1, 20)) * 0.1
    samples = samples + 0.02 * np.random.default_rng(seed).standard_normal(time.size)
    samples *= np.sin(np.linspace(0.05, 3.1, time.size)) ** 2
    samples[time.size // 3] = 0.9
    samples[-time.size // 5 :] *= tail
    # In steps of 16-bit audio, so that no implementation rounds it.
    return (np.round(samples * 32768) / 32768).astype(np.float32)


def assert_agrees(peer, utterances):
    """The preset equals the peer; returns how many utterances were compared."""
    result = Agreement()
    for name, samples, rate in utterances:
        result.add(peer, samples, rate)
        assert result.agreed, f"{name}: {peer.preset} and {peer.name} differ by {result.largest:g}"
    return result.utterances


@peers
def test_preset_agrees_on_real_speech(peer, speech_data):
    """To a thousandth, Kaldi's also of the value: both sides count in float32, and logarithms magnify what is soft."""
    require(peer)
    utterances = list(preset_agreement.speech(speech_data, 3))
    assert {rate for _, _, rate in utterances} == {8000, 16000} and len(utterances) == 9
    compared = assert_agrees(peer, utterances)
    # librosa's own windows are so long that the shortest digits have too few frames for its deltas.
    assert compared == 9 if peer.name != "librosa" else compared >= 6


# Kaldi drops fractions of a sample where we round (551 and 220 at 22 050 Hz); the baseline's transform of 512 samples
# holds no longer window than at 16 kHz.
RATES = {"kaldi": (8000, 16000, 44100), "htk": (8000, 16000, 44100), "asvspoof": (8000, 16000)}


@pytest.mark.parametrize(
    ("peer", "rate"),
    [
        pytest.param(peer, rate, id=f"{name}, {rate}")
        for peer, name in zip(PEERS, NAMES, strict=True)
        for rate in RATES.get(peer.preset, (8000, 16000, 22050, 44100))
    ],
)
def test_preset_agrees_on_a_made_signal(peer, rate):
    require(peer)
    assert assert_agrees(peer, [("made", voice(rate), rate)]) == 1


@peers
@pytest.mark.parametrize("tail", [1e-5, 0.0])
def test_preset_agrees_where_nothing_is_heard(peer, tail):
    """The floor decides there, or what is clipped; every filter holds the same, which rounds the same way."""
    require(peer)
    samples = voice(16000, tail=tail)
    assert not samples[-3000:].any()
    assert assert_agrees(peer, [("made", samples, 16000)]) == 1


CHANGES = {
    "default": {
        "pre_emphasis": 0.95,
        "window": "hann",
        "window_symmetric": True,
        "fft_length": 1024,
        "spectrum": "magnitude",
        "n_filters": 41,
        "frequency_scale": "slaney",
        "filter_slopes": "scale",
        "low_frequency": 0.0,
        "high_frequency": 7900.0,
        "log_scale": "natural",
        "top_db": 20.0,
        "dct": "htk",
        "lifter": 22,
        "energy": "log",
        "delta_width": 3,
        "delta_method": "polynomial",
        "remove_offset": True,
        "emphasis_by": "frame",
        "framing": "inside",
        "delta_orders": 1,
        "window_length": 401 / 16000,
        "hop_length": 161 / 16000,
        "scale": 2.0,
    },
    "librosa": {
        "window": "hamming",
        "window_symmetric": True,
        "pre_emphasis": 0.1,
        "n_filters": 127,
        "frequency_scale": "htk",
        "low_frequency": 20.0,
        "top_db": 40.0,
        "delta_width": 3,
        "delta_method": "regression",
    },
    "kaldi": {
        "scale": 16384.0,
        "framing": "centred",
        "remove_offset": False,
        "window": "hann",
        "window_symmetric": False,
        "n_filters": 24,
        "filter_slopes": "hertz",
        "low_frequency": 0.0,
        "floor": 1e-3,
        "log_scale": "decibel",
        "n_coefficients": 12,
        "lifter": 21,
        "energy": "c0",
        "spectrum": "magnitude",
    },
    "htk": {
        "scale": 1.0,
        "framing": "centred",
        "emphasis_by": "signal",
        "window_symmetric": False,
        "spectrum": "power",
        "n_filters": 21,
        "filter_slopes": "hertz",
        "low_frequency": 20.0,
        "floor": 1e-3,
        "log_scale": "decibel",
        "n_coefficients": 12,
        "dct": "orthonormal",
        "lifter": 0,
        "energy": "log",
        "remove_offset": True,
    },
    "asvspoof": {
        "window_length": 0.025,
        "framing": "centred",
        "pre_emphasis": 0.95,
        "window_symmetric": False,
        "fft_length": 1024,
        "n_filters": 21,
        "frequency_scale": "htk",
        "low_frequency": 20.0,
        "floor": 1e-10,
        "log_scale": "natural",
        "delta_width": 2,
    },
}
OWN = {"default": "librosa", "librosa": "librosa", "kaldi": "kaldi", "htk": "kaldi", "asvspoof": "numpy"}


@pytest.mark.parametrize(
    ("preset", "setting"), [(preset, setting) for preset, changes in CHANGES.items() for setting in changes]
)
def test_every_setting_of_a_preset_shows(preset, setting):
    """With any one of them changed the preset does not agree: the comparisons above see them all."""
    peer = peer_of(preset, OWN[preset])
    require(peer)
    result = Agreement()
    samples = voice(16000, seconds=0.5, tail=0.0)
    samples[: samples.size // 2] += np.float32(0.125)  # an offset, for those who would remove it
    result.add(peer, samples, 16000, **{setting: CHANGES[preset][setting]})
    assert not result.agreed
    unchanged = Agreement()
    unchanged.add(peer, samples, 16000)
    assert unchanged.agreed


def test_every_setting_that_a_preset_sets_is_among_those_changed():
    for preset, settings in PRESETS.items():
        unchanged = set(settings) - set(CHANGES[preset]) - {"sample_rate"}
        # Kaldi's window begins with 0, so that it does not matter how its first sample is emphasised.
        assert unchanged == ({"emphasis_by"} if preset == "kaldi" else set())
    assert {peer.preset for peer in PEERS} == set(PRESETS) == set(CHANGES)


@pytest.mark.parametrize("n_samples", [1, 511, 512, 4095])
def test_audio_too_short_for_librosa_still_gives_frames(n_samples):
    samples = voice(16000)[4000 : 4000 + n_samples]
    frames = ours("librosa", samples, 16000)
    assert frames.shape == (1 + n_samples // 512, 60)
    assert np.isfinite(frames).all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert peer_of("librosa", "librosa").frames(samples, 16000) is None


# What python_speech_features has of HTK.


def test_mel_scale_is_that_of_python_speech_features():
    psf = pytest.importorskip("python_speech_features")
    hertz = np.linspace(0, 24000, 1000)
    np.testing.assert_allclose(from_hertz(hertz, "htk"), psf.base.hz2mel(hertz), rtol=1e-12)


def test_lifter_is_that_of_python_speech_features():
    psf = pytest.importorskip("python_speech_features")
    config = FeatureConfig.preset("htk")
    plain = cosine_transform(FeatureConfig.preset("htk", lifter=0))
    np.testing.assert_allclose(cosine_transform(config), psf.lifter(plain.T, 22).T, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("width", [1, 2, 5])
def test_deltas_are_those_of_python_speech_features(width):
    psf = pytest.importorskip("python_speech_features")
    frames = ours("htk", voice(16000), 16000, delta_width=width).astype(np.float64)
    # Both are sums in float64; ours are rounded to float32.
    np.testing.assert_allclose(frames[:, 13:26], psf.delta(frames[:, :13], width), rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(frames[:, 26:], psf.delta(frames[:, 13:26], width), rtol=1e-7, atol=1e-12)


def test_kaldis_log_energy_is_before_pre_emphasis_and_window():
    samples = voice(16000)
    frames = ours("kaldi", samples, 16000)
    windows = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64) * 32768, 400)[::160]
    energies = np.square(windows - windows.mean(axis=1, keepdims=True)).sum(axis=1)
    # Half a dozen steps of float32 at 20.
    np.testing.assert_allclose(frames[:, 0], np.log(np.maximum(energies, 2.0**-23)), rtol=0, atol=1e-5)


# The table itself.


@pytest.fixture
def two_peers(monkeypatch):
    """Only what is always installed, and one made utterance in the place of real speech."""
    chosen = (peer_of("default"), peer_of("librosa"))
    monkeypatch.setattr(preset_agreement, "PEERS", chosen)
    return [("made", voice(16000), 16000)]


def test_table_names_preset_peer_version_counts_and_verdict(two_peers):
    import librosa

    rows, agreed = preset_agreement.table(two_peers)
    assert agreed
    assert [row[:5] for row in rows] == [
        ("default", "librosa, same settings", librosa.__version__, "1", "101"),
        ("librosa", "librosa", librosa.__version__, "1", "32"),
    ]
    assert all(0 < float(row[5]) <= 1e-3 and row[6:] == ("0.001", "yes") for row in rows)


@pytest.mark.parametrize("wrong", [lambda frames: frames + 0.01, lambda frames: frames[:-1]])
def test_table_says_which_disagrees(two_peers, monkeypatch, wrong):
    def changed(preset, samples, rate):
        frames = ours(preset, samples, rate)
        return wrong(frames) if preset == "librosa" else frames

    monkeypatch.setattr(preset_agreement, "ours", changed)
    rows, agreed = preset_agreement.table(two_peers)
    assert not agreed
    assert [row[-1] for row in rows] == ["yes", "NO"]


def test_not_a_number_from_us_is_no_agreement(two_peers, monkeypatch):
    monkeypatch.setattr(preset_agreement, "ours", lambda *given: np.full_like(ours(*given), np.nan))
    assert preset_agreement.table(two_peers)[1] is False


def test_missing_peers_are_listed_as_such(two_peers, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "librosa" else found(name))
    rows, agreed = preset_agreement.table(two_peers)
    assert agreed
    assert {row[2] for row in rows} == {"not installed: librosa"}
    assert {len(row) for row in rows} == {8}


@pytest.mark.parametrize("agreed", [True, False])
def test_exit_code(monkeypatch, capsys, tmp_path, agreed):
    monkeypatch.setenv("SPEECHGMM_DATA", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["preset_agreement.py"])
    monkeypatch.setattr(preset_agreement, "table", lambda utterances: ([("x",) * 8], agreed))
    assert preset_agreement.main() == (0 if agreed else 1)
    assert "independent implementation" in capsys.readouterr().out


def test_without_data_there_is_one_clear_line(monkeypatch):
    monkeypatch.delenv("SPEECHGMM_DATA", raising=False)
    monkeypatch.setattr("sys.argv", ["preset_agreement.py"])
    with pytest.raises(SystemExit, match="set SPEECHGMM_DATA to the folder that holds LibriSpeech/"):
        preset_agreement.main()


def test_bits_of_presets_do_not_depend_on_blocks():
    samples = voice(8000)
    for preset in PRESETS:
        analyser = CepstralAnalyser(FeatureConfig.preset(preset, sample_rate=8000, delta_orders=0))
        whole = analyser.analyse(lambda: [samples], samples.size).frames
        parts = analyser.analyse(lambda: np.array_split(samples, 7), samples.size).frames
        np.testing.assert_array_equal(parts, whole)
