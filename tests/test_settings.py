"""Training settings and the TOML files that hold them: defaults, limits and messages."""

import dataclasses

import pytest

from speechgmm.errors import FormatError, InputError
from speechgmm.settings import Settings, TrainingSettings, read_settings


@pytest.fixture
def read(tmp_path):
    """A function that writes a text to settings.toml and reads it."""

    def read_text(text):
        path = tmp_path / "settings.toml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return read_settings(path)

    return read_text


def test_a_file_gives_its_settings_and_leaves_the_others(read):
    settings = read(
        '[features]\nn_filters = 24\nhop_length = 0.008\n\n[training]\nn_components = 4\npriors = "training"\n'
        "tolerance = 0\nvariance_floor = 1e-3\nseed = 12345678901234567890\n"
    )
    assert settings.features == {"n_filters": 24, "hop_length": 0.008}
    assert settings.training == TrainingSettings(
        n_components=4, priors="training", tolerance=0, variance_floor=1e-3, seed=12345678901234567890
    )
    assert settings.training.max_iterations == 100


def test_a_preset_and_settings_of_every_type(read):
    text = (
        '[features]\npreset = "kaldi"\nsample_rate = 8000\nremove_offset = false\nspeech_activity = "gmm"\n'
        'shifted_deltas = "7-1-3-7"\nscale = 1\n'
    )
    assert read(text).features == {
        "preset": "kaldi",
        "sample_rate": 8000,
        "remove_offset": False,
        "speech_activity": "gmm",
        "shifted_deltas": "7-1-3-7",
        "scale": 1,
    }


@pytest.mark.parametrize("text", ["", "# nothing\n", "[training]\n", "[features]\n[training]\n"])
def test_what_is_not_given_keeps_its_default(read, text):
    assert read(text) == Settings({}, TrainingSettings())


def test_the_defaults():
    assert dataclasses.asdict(TrainingSettings()) == {
        "n_components": 32,
        "covariance_type": "diag",
        "max_iterations": 100,
        "tolerance": 1e-3,
        "variance_floor": 1e-2,
        "priors": "equal",
        "seed": 0,
    }
    assert dict(Settings().features) == {}


def test_settings_round_trip_through_plain_values_and_are_frozen():
    settings = TrainingSettings(n_components=1, max_iterations=1, tolerance=0.0, priors="training", seed=3)
    assert TrainingSettings.from_dict(dataclasses.asdict(settings)) == settings
    with pytest.raises(dataclasses.FrozenInstanceError, match="seed"):
        settings.seed = 4


BAD_VALUES = [
    ("n_components", "0", "`n_components` is 0; it must be a whole number from 1"),
    ("n_components", "-3", "`n_components` is -3; it must be a whole number from 1"),
    ("n_components", "1.5", r"`n_components` is 1\.5; it must be a whole number from 1"),
    ("n_components", "8.0", r"`n_components` is 8\.0; it must be a whole number from 1"),
    ("n_components", '"8"', "`n_components` is '8'; it must be a whole number from 1"),
    ("n_components", "true", "`n_components` is True; it must be a whole number from 1"),
    ("max_iterations", "0", "`max_iterations` is 0; it must be a whole number from 1"),
    ("max_iterations", "inf", "`max_iterations` is inf; it must be a whole number from 1"),
    ("seed", "-1", "`seed` is -1; it must be a whole number from 0"),
    ("seed", "false", "`seed` is False; it must be a whole number from 0"),
    ("seed", "2020-01-01", "`seed` is datetime.*; it must be a whole number from 0"),
    ("tolerance", "-1e-9", "`tolerance` is -1e-09; it must be a number from 0"),
    ("tolerance", "nan", "`tolerance` is nan; it must be a number from 0"),
    ("tolerance", "inf", "`tolerance` is inf; it must be a number from 0"),
    ("tolerance", "true", "`tolerance` is True; it must be a number from 0"),
    ("variance_floor", '"1"', "`variance_floor` is '1'; it must be a number from 0"),
    ("variance_floor", "[1]", r"`variance_floor` is \[1\]; it must be a number from 0"),
    ("variance_floor", "-0.1", r"`variance_floor` is -0\.1; it must be a number from 0"),
    ("priors", '"even"', "`priors` is 'even'; it can be equal, training"),
    ("priors", "[]", r"`priors` is \[\]; it can be equal, training"),
    ("priors", '"Equal"', "`priors` is 'Equal'; it can be equal, training"),
    (
        "covariance_type",
        '"diagonal"',
        "`covariance_type` is 'diagonal'; it can be diag, full, tied, spherical",
    ),
    ("covariance_type", "3", "`covariance_type` is 3; it can be diag, full, tied, spherical"),
]


@pytest.mark.parametrize(("name", "value", "message"), BAD_VALUES)
def test_a_value_out_of_range_is_named_with_its_limit_and_its_file(read, name, value, message):
    with pytest.raises(InputError, match=rf"settings\.toml: training setting {message}"):
        read(f"[training]\n{name} = {value}\n")


def test_settings_made_in_code_are_checked_too():
    with pytest.raises(
        InputError, match=r"^training setting `n_components` is 0; it must be a whole number from 1$"
    ):
        TrainingSettings(n_components=0)
    with pytest.raises(
        InputError, match=r"^training setting `seed` is None; it must be a whole number from 0$"
    ):
        TrainingSettings.from_dict({"seed": None})


def test_an_unknown_training_setting_is_named_with_those_known(read):
    message = (
        r"settings\.toml: unknown training setting 'components'; known are n_components, covariance_type, "
        "max_iterations, tolerance, variance_floor, priors, seed"
    )
    with pytest.raises(InputError, match=message):
        read("[training]\ncomponents = 8\nwrong_too = 1\n")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("seed = 1\n", "seed"),
        ("[train]\nseed = 1\n", "train"),
        ("[training]\nseed = 1\n[output]\n", "output"),
        ("[[training]]\nseed = 1\n", "training"),
        ("training = 3\n", "training"),
        ('features = "default"\n', "features"),
    ],
)
def test_another_table_is_named(read, text, name):
    with pytest.raises(
        FormatError,
        match=rf"settings\.toml: has '{name}'; there can be the tables \[features\] and \[training\]",
    ):
        read(text)


@pytest.mark.parametrize(
    "text",
    [
        "[training\n",
        "[training]\nseed 1\n",
        "[training]\nseed = 1\nseed = 2\n",
        "{}",
        "\ufeff[training]\n",
        b"\xff\xfe[training]\n",
        b"RIFF\x00\x00\x00\x00WAVE",
        "[training]\nseed = " + "9" * 5000,
        "a = " + "[" * 5000,
    ],
    ids=lambda text: repr(text)[:30],
)
def test_a_file_that_is_not_toml_is_refused(read, text):
    with pytest.raises(FormatError, match=r"settings\.toml: is not TOML \("):
        read(text)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match=r"none\.toml: cannot be read \(No such file or directory\)"):
        read_settings(tmp_path / "none.toml")
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory\)"):
        read_settings(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n_mel = 24", "unknown feature setting 'n_mel'"),
        ("n_mels = 24", "unknown feature setting 'n_mels'; known are .*, n_filters, "),
        ('mel_scale = "htk"', "unknown feature setting 'mel_scale'; known are .*, frequency_scale, "),
        ("speech_activity = true", "feature setting `speech_activity` is True; it must be like 'none'"),
        ('speech_activity = "yes"', "feature setting `speech_activity` is 'yes'; it can be none, energy, "),
        ("n_filters = 0", "feature setting `n_filters` is 0"),
        ('n_filters = "24"', "feature setting `n_filters` is '24'"),
        ('window = "kaiser"', "feature setting `window` is 'kaiser'"),
        ('preset = "mfcc"', "there is no feature preset 'mfcc'"),
    ],
)
def test_a_feature_setting_that_cannot_be_is_named_with_its_file(read, text, message):
    with pytest.raises(InputError, match=rf"settings\.toml: {message}"):
        read(f"[features]\n{text}\n")
