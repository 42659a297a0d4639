"""The feature configuration: what it refuses, what follows from it, and its trips through TOML and JSON."""

import dataclasses
import json
import math
import tomllib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechgmm.errors import InputError
from speechgmm.features import FeatureConfig
from speechgmm.files import canonical_json

LIBROSA_8K = FeatureConfig.preset("librosa", sample_rate=8000)
UNUSUAL = FeatureConfig(
    sample_rate=11025,
    window_length=1e-3,
    hop_length=0.0007,
    window="hann",
    pre_emphasis=0.1 + 0.2,
    n_mels=24,
    mel_scale="slaney",
    low_frequency=1 / 3,
    high_frequency=5000.5,
    n_coefficients=13,
    top_db=79.99,
    delta_orders=1,
    delta_width=3,
    delta_method="polynomial",
    normalisation="mean_variance",
    speech_activity=True,
    activity_range=25,
)


def as_toml(settings):
    """A TOML table; JSON's way of writing text, numbers and truth is also TOML's."""
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items())


@pytest.mark.parametrize("config", [FeatureConfig(), LIBROSA_8K, UNUSUAL])
def test_round_trips(config):
    settings = config.to_dict()
    assert FeatureConfig.from_dict(settings) == config
    assert FeatureConfig.from_dict(json.loads(canonical_json(settings))) == config
    assert FeatureConfig.from_dict(tomllib.loads(as_toml(settings))) == config
    assert hash(FeatureConfig.from_dict(settings)) == hash(config)


def test_to_dict_has_every_setting_as_a_plain_value():
    settings = UNUSUAL.to_dict()
    assert list(settings) == [field.name for field in dataclasses.fields(FeatureConfig)]
    assert {type(value) for value in settings.values()} == {int, float, str, bool}
    assert FeatureConfig().to_dict() != settings
    settings["n_mels"] = 1  # a copy: the configuration stays as it is
    assert UNUSUAL.n_mels == 24


def test_settings_not_given_keep_their_defaults():
    assert FeatureConfig.from_dict({}) == FeatureConfig()
    config = FeatureConfig.from_dict({"n_mels": 30, "normalisation": "mean"})
    assert config == FeatureConfig(n_mels=30, normalisation="mean")
    assert config != FeatureConfig()


def test_from_dict_leaves_its_argument_alone():
    settings = {"preset": "librosa", "sample_rate": 16000}
    FeatureConfig.from_dict(settings)
    assert settings == {"preset": "librosa", "sample_rate": 16000}


def test_presets():
    assert FeatureConfig.preset("default") == FeatureConfig()
    assert FeatureConfig.preset("librosa").sample_rate == 22050
    for rate in (8000, 11025, 16000, 22050, 44100, 48000):
        config = FeatureConfig.from_dict({"preset": "librosa", "sample_rate": rate})
        assert (config.window_samples, config.hop_samples, config.fft_length) == (2048, 512, 2048)
        assert config == FeatureConfig.preset("librosa", sample_rate=rate)
        assert (config.n_features, config.upper_edge) == (60, rate / 2)
    assert FeatureConfig.preset("librosa", top_db=0.0).top_db == 0.0


def test_frozen():
    config = FeatureConfig()
    with pytest.raises(dataclasses.FrozenInstanceError, match="n_mels"):
        config.n_mels = 20


def test_whole_numbers_stand_for_floats():
    config = FeatureConfig(top_db=80, low_frequency=0)
    assert type(config.top_db) is float and type(config.low_frequency) is float
    assert config.to_dict() == FeatureConfig(top_db=80.0, low_frequency=0.0).to_dict()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_mel": 40}, "unknown feature setting 'n_mel'; known are activity_range, .*, n_mels, "),
        ({"sample_rate": "16000"}, "`sample_rate` is '16000'; it must be like 16000"),
        ({"sample_rate": 16000.0}, r"`sample_rate` is 16000\.0; it must be like 16000"),
        ({"n_mels": True}, "`n_mels` is True; it must be like 40"),
        ({"top_db": False}, r"`top_db` is False; it must be like 0\.0"),
        ({"speech_activity": 1}, "`speech_activity` is 1; it must be like False"),
        ({"window": 3}, "`window` is 3; it must be like 'hamming'"),
        ({"window": None}, "`window` is None; it must be like 'hamming'"),
        ({"pre_emphasis": math.nan}, r"`pre_emphasis` is nan; it must be like 0\.97"),
        ({"activity_range": math.inf}, r"`activity_range` is inf; it must be like 30\.0"),
        ({"window": "blackman"}, "`window` is 'blackman'; it can be hamming, hann"),
        ({"mel_scale": "HTK"}, "`mel_scale` is 'HTK'; it can be htk, slaney"),
        ({"delta_method": "savgol"}, "`delta_method` is 'savgol'; it can be regression, polynomial"),
        ({"normalisation": "cmvn"}, "`normalisation` is 'cmvn'; it can be none, mean, mean_variance"),
        ({"sample_rate": 999}, "`sample_rate` is 999; it must lie from 1000 to 768000"),
        ({"sample_rate": -8000}, "`sample_rate` is -8000; it must lie from 1000"),
        ({"window_length": 25.0}, r"`window_length` is 25; it must lie from 0\.0001 to 10"),
        ({"hop_length": 0.0}, r"`hop_length` is 0; it must lie from 1e-05 to 10"),
        ({"pre_emphasis": 1.5}, r"`pre_emphasis` is 1\.5; it must lie from 0 to 1"),
        ({"n_mels": 0}, "`n_mels` is 0; it must lie from 1 to 1024"),
        ({"n_coefficients": 41}, "`n_coefficients` is 41; it must lie from 1 to 40"),
        ({"n_coefficients": 0}, "`n_coefficients` is 0; it must lie from 1 to 40"),
        ({"low_frequency": -1.0}, "`low_frequency` is -1; it must lie from 0 to 8000"),
        ({"high_frequency": 8000.5}, r"`high_frequency` is 8000\.5; it must lie from 0 to 8000"),
        ({"top_db": -80.0}, "`top_db` is -80; it must lie from 0 to 1000"),
        ({"delta_orders": 3}, "`delta_orders` is 3; it must lie from 0 to 2"),
        ({"delta_width": 0}, "`delta_width` is 0; it must lie from 1 to 100"),
        ({"activity_range": -1.0}, "`activity_range` is -1; it must lie from 0 to 1000"),
        (
            {"hop_length": 1e-5},
            r"at 16000 Hz a window of 0\.025 s and a hop of 1e-05 s are 400 and 0 samples; at least 2 and 1",
        ),
        ({"sample_rate": 8000, "window_length": 1e-4}, "are 1 and 80 samples; at least 2 and 1 are needed"),
        (
            {"low_frequency": 4000.0, "high_frequency": 3000.0},
            "the mel bands end at 3000 Hz, not above `low_frequency` 4000 Hz",
        ),
        ({"low_frequency": 8000.0}, "the mel bands end at 8000 Hz, not above `low_frequency` 8000 Hz"),
        ({"preset": "kaldi"}, "there is no feature preset 'kaldi'; there are default, librosa"),
        ({"preset": None}, "there is no feature preset None; there are default, librosa"),
        ({"preset": "librosa", "hop": 1}, "unknown feature setting 'hop'"),
        ({"preset": "librosa", "n_mels": 10}, "`n_coefficients` is 20; it must lie from 1 to 10"),
    ],
)
def test_bad_settings_are_named_with_their_limits(settings, message):
    with pytest.raises(InputError, match=message):
        FeatureConfig.from_dict(settings)


@pytest.mark.parametrize("rate", ["8000", 0, None])
def test_a_bad_rate_of_the_librosa_preset_is_named(rate):
    with pytest.raises(InputError, match="`sample_rate` is"):
        FeatureConfig.from_dict({"preset": "librosa", "sample_rate": rate})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"preset": ["librosa"]}, r"there is no feature preset \['librosa'\]"),
        ({1: 2, "n_mels": 30, "x": 3}, "unknown feature setting"),
        ({"window_length": 10**400}, "`window_length` is"),
    ],
)
def test_settings_of_odd_types_are_refused_as_input(settings, message):
    with pytest.raises(InputError, match=message):
        FeatureConfig.from_dict(settings)


@pytest.mark.parametrize(("orders", "n_features"), [(0, 13), (1, 26), (2, 39)])
def test_number_of_features(orders, n_features):
    assert FeatureConfig(n_coefficients=13, delta_orders=orders).n_features == n_features


@pytest.mark.parametrize(
    ("rate", "window", "hop", "fft"),
    [(8000, 200, 80, 256), (11025, 276, 110, 512), (16000, 400, 160, 512), (44100, 1102, 441, 2048)],
)
def test_lengths_in_samples(rate, window, hop, fft):
    config = FeatureConfig(sample_rate=rate)
    assert (config.window_samples, config.hop_samples, config.fft_length) == (window, hop, fft)


def test_fft_length_of_a_window_that_is_a_power_of_two_is_the_window():
    assert FeatureConfig(window_length=0.032).fft_length == 512
    assert FeatureConfig(window_length=513 / 16000).fft_length == 1024
    assert FeatureConfig(window_length=2 / 16000, hop_length=1 / 16000).fft_length == 2


def test_upper_edge_is_half_the_rate_unless_given():
    assert FeatureConfig(sample_rate=8000).upper_edge == 4000
    assert FeatureConfig(high_frequency=7600.0).upper_edge == 7600


@pytest.mark.parametrize(
    ("start", "end", "frames"),
    [
        (0.0, 0.01, (0, 1)),
        (0.0, 1.0, (0, 100)),
        (0.01, 0.02, (1, 2)),  # start belongs to the stretch, end does not
        (0.005, 0.015, (1, 2)),
        (0.29, 0.57, (29, 57)),  # 0.29 / 0.01 is a little below 29, 0.57 / 0.01 a little below 57
        (0.07, 0.14, (7, 14)),  # and these are a little above
        (0.290001, 0.570001, (30, 58)),
        (0.012, 0.014, (1, 2)),  # no frame's time: the nearest to the middle
        (0.016, 0.018, (2, 3)),
        (0.02, 0.02, (2, 3)),
    ],
)
def test_frame_range(start, end, frames):
    assert FeatureConfig().frame_range(start, end) == frames


def test_frame_range_goes_by_the_hop_in_samples():
    config = FeatureConfig(sample_rate=22050)  # 220.5 samples, rounded to 220
    assert config.hop_samples == 220
    assert config.frame_range(0.0, 100 * 220 / 22050) == (0, 100)
    assert config.frame_range(10.0, 20.0) == (math.ceil(10 * 22050 / 220), math.ceil(20 * 22050 / 220))


@given(st.integers(0, 10**6), st.integers(1, 10**4), st.sampled_from([8000, 11025, 16000, 22050, 48000]))
def test_frame_range_of_times_on_frames_is_exact(first, n, rate):
    config = FeatureConfig(sample_rate=rate)
    hop = config.hop_samples / rate
    assert config.frame_range(first * hop, (first + n) * hop) == (first, first + n)


@given(st.lists(st.floats(0, 100), min_size=2, max_size=12, unique=True))
def test_neighbouring_stretches_share_no_frame_and_lose_none(times):
    config = FeatureConfig()
    times = sorted(times)
    taken = []
    for start, end in pairwise(times):
        first, stop = config.frame_range(start, end)
        assert stop > first >= 0
        if math.ceil(end / 0.01 - 1e-6) > math.ceil(start / 0.01 - 1e-6):  # holds a frame's time
            taken += range(first, stop)
    assert taken == sorted(set(taken))
    assert len(taken) == math.ceil(times[-1] / 0.01 - 1e-6) - math.ceil(times[0] / 0.01 - 1e-6)


def test_context_covers_half_a_window_and_the_deltas():
    assert FeatureConfig(delta_orders=0).context == 2  # 200 samples of window and 1 of pre-emphasis, hop 160
    assert FeatureConfig(delta_orders=2, delta_width=3).context == 2 + 6
    assert FeatureConfig(window_length=0.01, delta_orders=0).context == 1
