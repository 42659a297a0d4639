"""The feature configuration: what it refuses, what follows from it, and its trips through TOML and JSON."""

import dataclasses
import json
import math
import re
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
    scale=32768.0,
    dither=0.5,
    dither_seed=7,
    window_length=1e-3,
    hop_length=0.0007,
    framing="inside",
    remove_offset=True,
    pre_emphasis=0.1 + 0.2,
    emphasis_by="frame",
    window="povey",
    window_symmetric=True,
    fft_length=64,
    spectrum="magnitude",
    n_filters=24,
    frequency_scale="slaney",
    filter_slopes="scale",
    low_frequency=1 / 3,
    high_frequency=5000.5,
    floor=1e-7,
    log_scale="natural",
    top_db=79.99,
    n_coefficients=13,
    dct="htk",
    lifter=22,
    energy="both",
    delta_orders=1,
    delta_width=3,
    delta_method="polynomial",
    shifted_deltas="7-1-3-7",
    speech_activity="energy",
    activity_range=25,
    activity_context=2,
    activity_share=0.5,
    activity_components=3,
    no_speech="refuse",
    normalisation="warping",
    normalisation_window=2.5,
)
PRESETS = ("asvspoof", "default", "htk", "kaldi", "librosa")


def as_toml(settings):
    """A TOML table; JSON's way of writing text, numbers and truth is also TOML's."""
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items())


@pytest.mark.parametrize(
    "config",
    [*map(FeatureConfig.preset, PRESETS), LIBROSA_8K, UNUSUAL],
    ids=[*PRESETS, "librosa 8k", "unusual"],
)
def test_round_trips(config):
    settings = config.to_dict()
    assert FeatureConfig.from_dict(settings) == config
    assert FeatureConfig.from_dict(json.loads(canonical_json(settings))) == config
    assert FeatureConfig.from_dict(tomllib.loads(as_toml(settings))) == config
    assert hash(FeatureConfig.from_dict(settings)) == hash(config)


def test_every_setting_of_the_unusual_configuration_is_unusual():
    """So that the round trips above would lose any that is forgotten."""
    default = FeatureConfig().to_dict()
    assert [name for name, value in UNUSUAL.to_dict().items() if value == default[name]] == []


def test_every_setting_has_its_paragraph():
    documented = re.findall(r"^    (\w[\w, ]*) : ", FeatureConfig.__doc__, re.MULTILINE)
    names = [name for group in documented for name in group.split(", ")]
    assert names == [field.name for field in dataclasses.fields(FeatureConfig)]


def test_to_dict_has_every_setting_as_a_plain_value():
    settings = UNUSUAL.to_dict()
    assert list(settings) == [field.name for field in dataclasses.fields(FeatureConfig)]
    assert {type(value) for value in settings.values()} == {int, float, str, bool}
    settings["n_filters"] = 1  # a copy: the configuration stays as it is
    assert UNUSUAL.n_filters == 24


def test_settings_not_given_keep_their_defaults():
    assert FeatureConfig.from_dict({}) == FeatureConfig()
    config = FeatureConfig.from_dict({"n_filters": 30, "normalisation": "mean"})
    assert config == FeatureConfig(n_filters=30, normalisation="mean")
    assert config != FeatureConfig()


def test_from_dict_leaves_its_argument_alone():
    settings = {"preset": "librosa", "sample_rate": 16000}
    FeatureConfig.from_dict(settings)
    assert settings == {"preset": "librosa", "sample_rate": 16000}


def test_default_is_the_default_preset():
    assert FeatureConfig.preset("default") == FeatureConfig()
    assert FeatureConfig.from_dict({"preset": "default", "n_filters": 30}) == FeatureConfig(n_filters=30)


def test_librosas_windows_are_in_samples_at_any_rate():
    assert FeatureConfig.preset("librosa").sample_rate == 22050
    for rate in (8000, 11025, 16000, 22050, 44100, 48000):
        config = FeatureConfig.from_dict({"preset": "librosa", "sample_rate": rate})
        assert (config.window_samples, config.hop_samples, config.fft_samples) == (2048, 512, 2048)
        assert config == FeatureConfig.preset("librosa", sample_rate=rate)
        assert (config.n_features, config.upper_edge) == (60, rate / 2)
    assert FeatureConfig.preset("librosa", top_db=0.0).top_db == 0.0
    assert FeatureConfig.preset("librosa", window_length=0.05).window_samples == 1102


@pytest.mark.parametrize(
    ("name", "rate", "window", "hop", "fft", "n_features"),
    [
        ("kaldi", 16000, 400, 160, 512, 39),
        ("kaldi", 8000, 200, 80, 256, 39),
        ("htk", 16000, 400, 160, 512, 39),
        ("asvspoof", 16000, 320, 160, 512, 60),
    ],
)
def test_presets_have_the_lengths_of_their_models(name, rate, window, hop, fft, n_features):
    config = FeatureConfig.preset(name, sample_rate=rate)
    assert (config.window_samples, config.hop_samples, config.fft_samples) == (window, hop, fft)
    assert config.n_features == n_features


def test_frozen():
    config = FeatureConfig()
    with pytest.raises(dataclasses.FrozenInstanceError, match="n_filters"):
        config.n_filters = 20


def test_whole_numbers_stand_for_floats():
    config = FeatureConfig(top_db=80, low_frequency=0)
    assert type(config.top_db) is float and type(config.low_frequency) is float
    assert config.to_dict() == FeatureConfig(top_db=80.0, low_frequency=0.0).to_dict()


LIMITS = {
    "sample_rate": (1000, 768000),
    "scale": (1e-6, 1e6),
    "dither": (0.0, 1e6),
    "dither_seed": (0, 2**32),
    "window_length": (1e-4, 10.0),
    "hop_length": (1e-5, 10.0),
    "pre_emphasis": (0.0, 1.0),
    "fft_length": (0, 2**17),
    "n_filters": (1, 1024),
    "low_frequency": (0.0, 8000.0),
    "high_frequency": (0.0, 8000.0),
    "floor": (1e-30, 1e10),
    "top_db": (0.0, 1000.0),
    "n_coefficients": (1, 40),
    "lifter": (0, 1000),
    "delta_orders": (0, 2),
    "delta_width": (1, 100),
    "activity_range": (0.0, 1000.0),
    "activity_context": (0, 100),
    "activity_share": (0.0, 1.0),
    "activity_components": (2, 3),
    "normalisation_window": (0.1, 60.0),
}
# What else must be set for a limit itself to be valid.
ALONG = {
    ("sample_rate", 1000): {"high_frequency": 500.0},
    ("sample_rate", 768000): {"window_length": 0.01},
    ("window_length", 1e-4): {"sample_rate": 48000},
    ("window_length", 10.0): {"sample_rate": 6000},
    ("hop_length", 1e-5): {"sample_rate": 96000},
    ("n_filters", 1): {"n_coefficients": 1},
    ("low_frequency", 8000.0): {"sample_rate": 16002},
    ("high_frequency", 0.0): {},
}


def test_every_number_has_a_limit():
    numbers = [f.name for f in dataclasses.fields(FeatureConfig) if type(f.default) in (int, float)]
    assert numbers == list(LIMITS)


@pytest.mark.parametrize("name", LIMITS)
def test_limits_themselves_are_taken_and_what_lies_beyond_is_refused(name):
    kind = type(getattr(FeatureConfig(), name))
    for value, away in zip(LIMITS[name], (-1, 1), strict=True):
        along = ALONG.get((name, value), {})
        assert getattr(FeatureConfig(**(along | {name: kind(value)})), name) == value
        beyond = value + away if kind is int else math.nextafter(value, away * math.inf)
        low, high = (re.escape(f"{limit:g}") for limit in LIMITS[name])
        with pytest.raises(InputError, match=f"`{name}` is .*; it must lie from {low} to {high}"):
            FeatureConfig(**{name: beyond})


CHOICES = {
    "framing": "centred, inside",
    "emphasis_by": "signal, frame",
    "window": "hamming, hann, povey, rectangular",
    "spectrum": "power, magnitude",
    "frequency_scale": "htk, slaney, linear",
    "filter_slopes": "hertz, scale",
    "log_scale": "decibel, natural, log10",
    "dct": "orthonormal, htk",
    "energy": "c0, log, both, none",
    "delta_method": "regression, polynomial",
    "speech_activity": "none, energy, kaldi, gmm",
    "no_speech": "keep, refuse",
    "normalisation": "none, mean, mean_variance, sliding_mean, sliding_mean_variance, warping",
}


def test_every_name_has_its_choices():
    texts = [f.name for f in dataclasses.fields(FeatureConfig) if type(f.default) is str]
    assert sorted(texts) == sorted([*CHOICES, "shifted_deltas"])


@pytest.mark.parametrize("name", CHOICES)
def test_choices_are_taken_and_other_names_refused(name):
    for choice in CHOICES[name].split(", "):
        assert getattr(FeatureConfig(**{name: choice}), name) == choice
    for wrong in ("blackman", "", CHOICES[name].split(",")[0].upper(), " none"):
        with pytest.raises(InputError, match=f"`{name}` is {wrong!r}; it can be {CHOICES[name]}$"):
            FeatureConfig(**{name: wrong})


@pytest.mark.parametrize("field", dataclasses.fields(FeatureConfig), ids=lambda field: field.name)
def test_wrong_types_are_refused(field):
    """Text for numbers, numbers for text, truth for numbers, and what is no value at all."""
    wrong = [None, [], {}, "x" if type(field.default) is not str else 3, math.nan, math.inf, b"none"]
    wrong += [True, 1 + 0j] if type(field.default) is not bool else [0, 1, "true"]
    wrong += [float(field.default)] if type(field.default) is int else []
    wrong += [10**400, -(10**400)] if type(field.default) in (int, float) else []
    for value in wrong:
        with pytest.raises(
            InputError, match=f"`{field.name}` is .*; it must be like {re.escape(repr(field.default))}"
        ):
            FeatureConfig(**{field.name: value})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_mel": 40}, "unknown feature setting 'n_mel'; known are activity_components, .*, n_filters, "),
        ({"n_mels": 40}, "unknown feature setting 'n_mels'"),  # of earlier versions
        ({"mel_scale": "htk"}, "unknown feature setting 'mel_scale'"),
        ({"speech_activity": True}, "`speech_activity` is True; it must be like 'none'"),
        ({"n_coefficients": 41}, "`n_coefficients` is 41; it must lie from 1 to 40"),
        ({"sample_rate": 8000, "low_frequency": 4001}, "`low_frequency` is 4001; it must lie from 0 to 4000"),
        (
            {"hop_length": 1e-5},
            r"at 16000 Hz a window of 0\.025 s and a hop of 1e-05 s are 400 and 0 samples; they must be from 2 to "
            "65536, and 1 or more",
        ),
        ({"sample_rate": 8000, "window_length": 1e-4}, "are 1 and 80 samples; they must be from 2 to 65536"),
        ({"window_length": 5.0}, "are 80000 and 160 samples; they must be from 2 to 65536"),
        (
            {"fft_length": 256},
            "`fft_length` is 256; it must be a power of two that holds the window of 400 samp",
        ),
        (
            {"fft_length": 600},
            "`fft_length` is 600; it must be a power of two that holds the window of 400 samp",
        ),
        ({"fft_length": 1}, "`fft_length` is 1; it must be a power of two"),
        (
            {"low_frequency": 4000.0, "high_frequency": 3000.0},
            "the filters end at 3000 Hz, not above `low_frequency` 4000 Hz",
        ),
        ({"low_frequency": 8000.0}, "the filters end at 8000 Hz, not above `low_frequency` 8000 Hz"),
        (
            {"energy": "none", "n_coefficients": 1},
            "with `energy` 'none' C0 is left out: .* must be 2 or more",
        ),
        ({"shifted_deltas": "21-1-3-7"}, "`shifted_deltas` are of 21 coefficients; a frame has 20"),
        (
            {"shifted_deltas": "20-1-3-7", "energy": "none"},
            "`shifted_deltas` are of 20 coefficients; a frame has 19",
        ),
        (
            {"preset": "sphinx"},
            "no feature preset 'sphinx'; there are asvspoof, default, htk, kaldi, librosa",
        ),
        ({"preset": None}, "there is no feature preset None; there are asvspoof"),
        ({"preset": ["librosa"]}, r"there is no feature preset \['librosa'\]"),
        ({"preset": "librosa", "hop": 1}, "unknown feature setting 'hop'"),
        ({"preset": "librosa", "n_filters": 10}, "`n_coefficients` is 20; it must lie from 1 to 10"),
        ({1: 2, "n_filters": 30, "x": 3}, "unknown feature setting"),
    ],
)
def test_bad_settings_are_named_with_their_limits(settings, message):
    with pytest.raises(InputError, match=message):
        FeatureConfig.from_dict(settings)


WRONG_SHIFTS = (
    "7-1-3 7-1-3-7-1 7,1,3,7 0-1-3-7 7-0-3-7 7-1-0-7 7-1-3-0 07-1-3-7 7-1-3-100 -7-1-3-7 seven 1000-1-3-7"
)


@pytest.mark.parametrize("text", [*WRONG_SHIFTS.split(), " 7-1-3-7", "7-1-3-7\n", "７-1-3-7"])
def test_shifted_deltas_of_another_form_are_refused(text):
    with pytest.raises(InputError, match=r"`shifted_deltas` is .*; it must be like '7-1-3-7' \(N-d-P-k\)"):
        FeatureConfig(shifted_deltas=text)


@pytest.mark.parametrize("rate", ["8000", 0, None, True, -8000, 8000.0])
def test_a_bad_rate_of_the_librosa_preset_is_named(rate):
    with pytest.raises(InputError, match="`sample_rate` is"):
        FeatureConfig.from_dict({"preset": "librosa", "sample_rate": rate})


# What follows from the settings.


@pytest.mark.parametrize(("orders", "n_features"), [(0, 13), (1, 26), (2, 39)])
def test_number_of_features(orders, n_features):
    assert FeatureConfig(n_coefficients=13, delta_orders=orders).n_features == n_features


@pytest.mark.parametrize(("energy", "n_statics"), [("c0", 13), ("log", 13), ("both", 14), ("none", 12)])
def test_number_of_statics(energy, n_statics):
    config = FeatureConfig(n_coefficients=13, energy=energy)
    assert (config.n_statics, config.n_features) == (n_statics, 3 * n_statics)
    shifted = FeatureConfig(n_coefficients=13, energy=energy, shifted_deltas="7-1-3-5", delta_orders=0)
    assert shifted.n_features == n_statics + 35


def test_shifts():
    assert FeatureConfig().shifts == (0, 0, 0, 0)
    assert FeatureConfig(shifted_deltas="7-1-3-9").shifts == (7, 1, 3, 9)
    assert FeatureConfig(n_filters=128, n_coefficients=120, shifted_deltas="119-12-34-56").shifts == (
        119,
        12,
        34,
        56,
    )


@pytest.mark.parametrize(
    ("rate", "window", "hop", "fft"),
    [(8000, 200, 80, 256), (11025, 276, 110, 512), (16000, 400, 160, 512), (44100, 1102, 441, 2048)],
)
def test_lengths_in_samples(rate, window, hop, fft):
    config = FeatureConfig(sample_rate=rate)
    assert (config.window_samples, config.hop_samples, config.fft_samples) == (window, hop, fft)


def test_transform_of_a_window_that_is_a_power_of_two_is_the_window():
    assert FeatureConfig(window_length=0.032).fft_samples == 512
    assert FeatureConfig(window_length=513 / 16000).fft_samples == 1024
    assert FeatureConfig(window_length=2 / 16000, hop_length=1 / 16000).fft_samples == 2
    assert FeatureConfig(window_length=0.032, fft_length=512).fft_samples == 512
    assert FeatureConfig(window_length=0.032, fft_length=4096).fft_samples == 4096
    assert FeatureConfig(window_length=65536 / 16000).fft_samples == 65536


def test_upper_edge_is_half_the_rate_unless_given():
    assert FeatureConfig(sample_rate=8000).upper_edge == 4000
    assert FeatureConfig(high_frequency=7600.0).upper_edge == 7600


def test_the_longest_window_and_transform():
    config = FeatureConfig(sample_rate=16384, window_length=4.0, fft_length=2**17)
    assert (config.window_samples, config.fft_samples) == (65536, 131072)


@pytest.mark.parametrize(("length", "start"), [(200, -100), (201, -101), (2, -1), (3, -2)])
def test_window_start(length, start):
    settings = {"sample_rate": 8000, "window_length": length / 8000}
    assert FeatureConfig(**settings).window_start == start
    assert FeatureConfig(framing="inside", **settings).window_start == 0


@pytest.mark.parametrize(
    ("n_samples", "centred", "inside"),
    [(1, 1, 0), (79, 1, 0), (80, 2, 0), (199, 3, 0), (200, 3, 1), (279, 4, 1), (280, 4, 2), (8000, 101, 98)],
)
def test_n_frames(n_samples, centred, inside):
    assert FeatureConfig(sample_rate=8000).n_frames(n_samples) == centred
    assert FeatureConfig(sample_rate=8000, framing="inside").n_frames(n_samples) == inside


@given(st.integers(2, 300), st.integers(1, 300), st.integers(0, 3000))
def test_n_frames_inside_are_those_whose_windows_fit(window, hop, n_samples):
    config = FeatureConfig(
        sample_rate=8000, window_length=window / 8000, hop_length=hop / 8000, framing="inside"
    )
    fitting = sum(start + window <= n_samples for start in range(0, n_samples, hop))
    assert config.n_frames(n_samples) == fitting


def test_normalisation_frames():
    assert FeatureConfig().normalisation_frames == 300
    assert FeatureConfig(normalisation_window=0.104, hop_length=0.05).normalisation_frames == 2
    assert FeatureConfig(normalisation_window=0.1, hop_length=1.0).normalisation_frames == 1
    # By the hop in samples: 220 of 22 050 a second.
    assert FeatureConfig(sample_rate=22050).normalisation_frames == round(3 * 22050 / 220)


# Which frames a stretch of time takes.


STRETCHES = [
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
]


@pytest.mark.parametrize(("start", "end", "frames"), STRETCHES)
def test_frame_range(start, end, frames):
    assert FeatureConfig().frame_range(start, end) == frames


@pytest.mark.parametrize(("start", "end", "frames"), STRETCHES)
def test_frame_range_inside_is_later_by_half_a_window(start, end, frames):
    """The middle of frame 0 is that of its window: 12.5 ms, or 10 ms, after the beginning."""
    for half in (0.0125, 0.01):
        config = FeatureConfig(framing="inside", window_length=2 * half)
        assert config.frame_range(start + half, end + half) == frames


@pytest.mark.parametrize(
    ("start", "end", "frames"),
    [
        (0.0, 0.0125, (0, 1)),  # no frame's time, and the nearest is frame 0
        (0.0, 0.0126, (0, 1)),
        (0.0, 0.0226, (0, 2)),
        (0.005, 0.01, (0, 1)),
        (0.0, 0.3, (0, 29)),  # 0.2925 is the time of frame 28
        (0.013, 0.0226, (1, 2)),
        (0.013, 0.017, (0, 1)),
        (0.018, 0.019, (1, 2)),
    ],
)
def test_frame_range_inside_at_the_beginning(start, end, frames):
    assert FeatureConfig(framing="inside").frame_range(start, end) == frames


def test_frame_range_goes_by_the_hop_in_samples():
    config = FeatureConfig(sample_rate=22050)  # 220.5 samples, rounded to 220
    assert config.hop_samples == 220
    assert config.frame_range(0.0, 100 * 220 / 22050) == (0, 100)
    assert config.frame_range(10.0, 20.0) == (math.ceil(10 * 22050 / 220), math.ceil(20 * 22050 / 220))


FRAMINGS = st.sampled_from(["centred", "inside"])


@given(
    st.integers(0, 10**6),
    st.integers(1, 10**4),
    st.sampled_from([8000, 11025, 16000, 22050, 48000]),
    FRAMINGS,
)
def test_frame_range_of_times_on_frames_is_exact(first, n, rate, framing):
    config = FeatureConfig(sample_rate=rate, framing=framing)
    middle = config.window_samples / 2 / rate if framing == "inside" else 0.0
    hop = config.hop_samples / rate
    assert config.frame_range(middle + first * hop, middle + (first + n) * hop) == (first, first + n)


@given(st.lists(st.floats(0, 100), min_size=2, max_size=12, unique=True), FRAMINGS)
def test_neighbouring_stretches_share_no_frame_and_lose_none(times, framing):
    config = FeatureConfig(framing=framing)
    middle = 0.0125 if framing == "inside" else 0.0

    def first_at(time):
        return max(0, math.ceil((time - middle) / 0.01 - 1e-6))

    times = sorted(times)
    taken = []
    for start, end in pairwise(times):
        first, stop = config.frame_range(start, end)
        assert stop > first >= 0
        if first_at(end) > first_at(start):  # holds a frame's time
            taken += range(first, stop)
    assert taken == sorted(set(taken))
    assert len(taken) == first_at(times[-1]) - first_at(times[0])


def test_context_covers_half_a_window_and_the_deltas():
    assert FeatureConfig(delta_orders=0).context == 3  # 400 samples of window and 1 of pre-emphasis, hop 160
    assert FeatureConfig(delta_orders=2, delta_width=3).context == 3 + 6
    assert FeatureConfig(delta_orders=1, delta_width=3).context == 3 + 3
    assert FeatureConfig(window_length=0.01, delta_orders=0).context == 2
    # Edges of the polynomial method take the value of a frame `delta_width` further in.
    for orders, frames in ((0, 0), (1, 8), (2, 8)):
        config = FeatureConfig(delta_orders=orders, delta_width=4, delta_method="polynomial")
        assert config.context == 3 + frames
    assert FeatureConfig(delta_orders=0, shifted_deltas="7-1-3-7").context == 3 + 1 + 18
    assert FeatureConfig(delta_orders=2, shifted_deltas="7-1-3-7").context == 3 + 1 + 18
    assert FeatureConfig(delta_orders=2, delta_width=20, shifted_deltas="7-1-3-7").context == 3 + 40
