"""Model files of format 1, exact round trips, and every way a file can be wrong.

The golden file `golden/model_v1.safetensors` holds the values written out below. It was made with

    PYTHONPATH=. python -c "from tests.test_model_file import *; write(GOLDEN, HEADER, ARRAYS)"

by safetensors alone, not by the code under test. It stays as it is: a change of format adds a file.
"""

import copy
import itertools
import json
import os
import pickle
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from speechgmm.em.mixture import Mixture
from speechgmm.errors import FormatError, InputError
from speechgmm.features.config import FeatureConfig
from speechgmm.model_file import FORMAT, Model

GOLDEN = Path(__file__).parent / "golden" / "model_v1.safetensors"

HEADER = {
    "kind": "speechgmm classifier",
    "format": 1,
    "label": "speaker",
    "labels": ["anna", "zoë"],
    "features": {
        "sample_rate": 8000,
        "window_length": 0.025,
        "hop_length": 0.01,
        "window": "hann",
        "pre_emphasis": 0.95,
        "n_mels": 23,
        "mel_scale": "slaney",
        "low_frequency": 50.0,
        "high_frequency": 3800.0,
        "n_coefficients": 2,
        "top_db": 60.0,
        "delta_orders": 0,
        "delta_width": 3,
        "delta_method": "polynomial",
        "normalisation": "mean",
        "speech_activity": True,
        "activity_range": 35.0,
    },
    "posterior_scale": 0.125,
    "log_priors": [-1.3862943611198906, -0.2876820724517809],  # log 1/4, log 3/4
    "record": {"version": "0.1.0", "settings": {"seed": 7}, "classes": [{"label": "anna", "files": 3}]},
}
# What the features above are called today.
FEATURES = {
    "sample_rate": 8000,
    "window_length": 0.025,
    "hop_length": 0.01,
    "window": "hann",
    "pre_emphasis": 0.95,
    "n_filters": 23,
    "frequency_scale": "slaney",
    "low_frequency": 50.0,
    "high_frequency": 3800.0,
    "n_coefficients": 2,
    "top_db": 60.0,
    "delta_orders": 0,
    "delta_width": 3,
    "delta_method": "polynomial",
    "normalisation": "mean",
    "speech_activity": "energy",
    "activity_range": 35.0,
}
# Two components for anna, one for zoë, two for the background.
ARRAYS = {
    "n_components": np.array([2, 1, 2], np.int64),
    "weights": np.array([0.25, 0.75, 1.0, 0.5, 0.5]),
    "means": np.array([[-500.0, 1.5], [-480.25, -2.0], [-450.0, 0.0], [-490.5, 0.1], [-460.0, 1 / 3]]),
    "covariances": np.array([[4.0, 0.5], [1.0, 2.0], [9.0, 0.25], [16.0, 1.0], [25.0, 1e-6]]),
}


def write(path, header, arrays):
    """Write a model file without the code under test; a header given as text is written as it is."""
    text = header if isinstance(header, str) else json.dumps(header, ensure_ascii=False, sort_keys=True)
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).write_bytes(safetensors.numpy.save(arrays, {"speechgmm": text}))


def assert_holds(path, header, arrays):
    """The file holds this header and these arrays, and is small."""
    assert path.stat().st_size < 4000
    with safetensors.safe_open(path, framework="np") as file:
        assert json.loads(file.metadata()["speechgmm"]) == header
        assert {*file.keys()} == arrays.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(file.get_tensor(name), array, strict=True)


def hand_made(**changes):
    """The model of the golden file, built here."""
    parts = [slice(0, 2), slice(2, 3), slice(3, 5)]
    anna, zoe, background = (
        Mixture(*(ARRAYS[name][part] for name in ("weights", "means", "covariances"))) for part in parts
    )
    values = {
        "label": "speaker",
        "labels": ("anna", "zoë"),
        "mixtures": (anna, zoe),
        "background": background,
        "posterior_scale": 0.125,
        "log_priors": np.log([0.25, 0.75]),
        "features": FeatureConfig(**FEATURES),
        "record": HEADER["record"],
    }
    return Model(**(values | changes))


def load_edited(tmp_path, header=HEADER, arrays=ARRAYS):
    path = tmp_path / "edited.safetensors"
    write(path, header, arrays)
    return Model.load(path)


def assert_same(model, other):
    for name in ("label", "labels", "mixtures", "background", "posterior_scale", "features", "record"):
        assert getattr(model, name) == getattr(other, name), name
    np.testing.assert_array_equal(model.log_priors, other.log_priors)


HUGE = 10**400  # valid JSON, beyond float64


# --- what is written is what is read


def test_the_released_format_still_loads_with_the_right_values():
    assert FORMAT == 3, "a new format: keep this file and its test, and add a golden file of the new one"
    model = Model.load(GOLDEN)
    assert model.label == "speaker"
    assert model.labels == ("anna", "zoë")
    assert model.features.to_dict() == FeatureConfig().to_dict() | FEATURES
    assert model.posterior_scale == 0.125
    np.testing.assert_array_equal(model.log_priors, [-1.3862943611198906, -0.2876820724517809])
    assert model.record == HEADER["record"]
    assert [mixture.n_components for mixture in model.mixtures] == [2, 1]
    np.testing.assert_array_equal(model.mixtures[0].weights, [0.25, 0.75])
    np.testing.assert_array_equal(model.mixtures[0].means, [[-500.0, 1.5], [-480.25, -2.0]])
    np.testing.assert_array_equal(model.mixtures[0].covariances, [[4.0, 0.5], [1.0, 2.0]])
    np.testing.assert_array_equal(model.mixtures[1].means, [[-450.0, 0.0]])
    np.testing.assert_array_equal(model.background.covariances, [[16.0, 1.0], [25.0, 1e-6]])
    assert model.n_features == 2


def test_the_golden_file_is_small_and_holds_what_this_file_says():
    assert_holds(GOLDEN, HEADER, ARRAYS)


@pytest.mark.parametrize(("written", "meant"), [(True, "energy"), (False, "none")])
def test_speech_activity_yes_or_no_is_called_by_its_name_now(tmp_path, written, meant):
    model = load_edited(tmp_path, edited("features.speech_activity", written))
    assert model.features == FeatureConfig(**(FEATURES | {"speech_activity": meant}))


def test_settings_that_are_not_given_keep_their_defaults(tmp_path):
    model = load_edited(tmp_path, edited("features", {"n_coefficients": 2, "delta_orders": 0, "n_mels": 24}))
    assert model.features == FeatureConfig(n_coefficients=2, delta_orders=0, n_filters=24)
    assert model.features.speech_activity == "none"


@pytest.mark.parametrize("order", [1, -1])
def test_a_setting_under_both_names_is_refused(tmp_path, order):
    both = [("n_mels", 23), ("n_filters", 30)][::order]
    others = {name: value for name, value in HEADER["features"].items() if name != "n_mels"}
    path = tmp_path / "both.safetensors"
    write(path, json.dumps(edited("features", others | dict(both))), ARRAYS)
    with pytest.raises(FormatError, match=r"field `features`: .*(n_mels|n_filters)"):
        Model.load(path)


def test_values_that_were_allowed_then_are_still_read(tmp_path):
    assert load_edited(tmp_path, edited("features.top_db", 300.0)).features.top_db == 300.0


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"features": None},
        {"posterior_scale": 0.1 + 0.2},
        {"labels": ('a "quoted" \\ name', "王 Zoë\N{COMBINING DIAERESIS}"), "label": "Sprecher:in"},
        {"record": {"b": [1, 2.5, None, True], "a": {"nested": {"deep": "ü"}}, "tiny": 5e-324}},
        {"background": Mixture([1.0], [[-0.0, 1e-30]], [[1e-300, 1e60]])},
        {"log_priors": np.log([0.1 + 0.2, 0.7])},
    ],
)
def test_a_round_trip_is_exact(tmp_path, changes):
    model = hand_made(**changes)
    model.save(tmp_path / "first.safetensors")
    loaded = Model.load(tmp_path / "first.safetensors")
    assert_same(loaded, model)
    # Equality takes -0.0 for 0.0; the bytes do not.
    loaded.save(tmp_path / "second.safetensors")
    assert (tmp_path / "first.safetensors").read_bytes() == (tmp_path / "second.safetensors").read_bytes()


def test_equal_models_give_equal_bytes_whatever_the_order_of_their_record(tmp_path):
    record = HEADER["record"]
    hand_made().save(tmp_path / "a")
    hand_made(record=dict(reversed(record.items()))).save(tmp_path / "b")
    hand_made(record=record | {"seed": 8}).save(tmp_path / "c")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").read_bytes() != (tmp_path / "c").read_bytes()


def test_equal_models_give_equal_bytes_in_every_process(tmp_path):
    hand_made().save(tmp_path / "here")
    code = "import sys; from tests.test_model_file import hand_made; hand_made().save(sys.argv[1])"
    for seed in ("1", "2"):
        path = tmp_path / f"seed{seed}"
        subprocess.run(
            [sys.executable, "-c", code, str(path)],
            cwd=Path(__file__).parent.parent,
            env=os.environ | {"PYTHONHASHSEED": seed},
            check=True,
        )
        assert path.read_bytes() == (tmp_path / "here").read_bytes()


def test_a_whole_number_as_posterior_scale_round_trips_too(tmp_path):
    hand_made(posterior_scale=1).save(tmp_path / "first")
    Model.load(tmp_path / "first").save(tmp_path / "second")
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


# --- writing


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    hand_made().save(path)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, step, full)
            with pytest.raises(
                InputError, match=r"model\.safetensors: cannot be written \(No space left on device\)"
            ):
                hand_made(posterior_scale=0.5).save(path)
        assert path.read_bytes() == before
        assert os.listdir(tmp_path) == ["model.safetensors"]
    hand_made(posterior_scale=0.5).save(path)
    assert Model.load(path).posterior_scale == 0.5


def test_saving_makes_the_folder_and_refuses_a_place_below_a_file(tmp_path):
    hand_made().save(tmp_path / "new" / "folder" / "model")
    with pytest.raises(InputError, match="below: cannot be written"):
        hand_made().save(tmp_path / "new" / "folder" / "model" / "below")


@pytest.mark.parametrize(
    "changes",
    [
        {"log_priors": np.array([-np.inf, 0.0])},
        {"record": {"accuracy": float("nan")}},
        {"record": {"accuracy": np.float32(0.5)}},
    ],
)
def test_what_cannot_be_saved_is_refused_with_a_message(tmp_path, changes):
    with pytest.raises(InputError, match=next(iter(changes))):
        hand_made(**changes).save(tmp_path / "model")


# --- a model that cannot be


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"labels": ("anna",)},
            "one mixture and one prior for each label; it has 1 labels, 2 mixtures and 2 priors",
        ),
        ({"log_priors": np.log([1.0])}, "it has 2 labels, 2 mixtures and 1 priors"),
        ({"labels": (), "mixtures": (), "log_priors": []}, "it has 0 labels, 0 mixtures and 0 priors"),
        ({"labels": ("zoë", "anna")}, "`labels` must be sorted and distinct"),
        ({"labels": ("anna", "anna")}, "`labels` must be sorted and distinct"),
        ({"background": Mixture([1.0], [[0.0]], [[1.0]])}, "must have the same number of features"),
        ({"features": FeatureConfig()}, "configuration gives 60 values a frame; the mixtures have 2"),
        ({"posterior_scale": 0.0}, "`posterior_scale` is 0.0; it must be positive"),
        ({"posterior_scale": float("nan")}, "`posterior_scale` is nan; it must be positive"),
        ({"posterior_scale": float("inf")}, "`posterior_scale` is inf; it must be positive"),
        ({"log_priors": np.log([0.5, 0.6])}, r"priors sum to 1\.1; they must sum to 1"),
        ({"log_priors": [np.nan, 0.0]}, "`log_priors` has values that are not finite"),
    ],
)
def test_a_model_that_cannot_be_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        hand_made(**changes)


# --- files that are no model, or no longer


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.safetensors: there is no such model file"):
        Model.load(tmp_path / "nothing.safetensors")
    with pytest.raises(InputError, match="there is no such model file"):
        Model.load(tmp_path)


def test_a_file_cut_short_anywhere_is_refused(tmp_path):
    whole = GOLDEN.read_bytes()
    path = tmp_path / "part.safetensors"
    for length in (*range(20), *range(20, len(whole), 11), *range(len(whole) - 10, len(whole))):
        path.write_bytes(whole[:length])
        with pytest.raises(FormatError, match=r"part\.safetensors: not a whole safetensors file .*truncated"):
            Model.load(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(FormatError, match="not a whole safetensors file"):
        Model.load(path)


def test_a_damaged_byte_ends_in_a_model_or_a_format_error(tmp_path):
    whole = GOLDEN.read_bytes()
    path = tmp_path / "damaged.safetensors"
    messages = []
    for position in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << (position % 8)
        path.write_bytes(damaged)
        try:
            Model.load(path)
        except FormatError as error:
            messages.append(str(error))
    assert len(messages) > len(whole) / 9
    assert all("damaged.safetensors: " in message for message in messages)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a whole safetensors file"),
        (b"anna,0.5\nzoe,0.5\n" * 20, "not a whole safetensors file"),
        (b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(40), "not a whole safetensors file"),
        (
            safetensors.numpy.save({"weights": np.ones(3)}),
            "not a speechgmm model .no metadata field `speechgmm`",
        ),
        (
            safetensors.numpy.save({"weights": np.ones(3)}, {"format": "pt"}),
            "a safetensors file, but not a speechgmm model",
        ),
    ],
    ids=["empty", "text", "WAV", "no metadata", "other metadata"],
)
def test_another_file_is_refused(tmp_path, content, message):
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=f"other: .*{message}"):
        Model.load(path)


class Trap:
    """Unpickling this fails the test."""

    def __reduce__(self):
        return pytest.fail, ("something in the file was executed",)


def test_nothing_in_a_file_is_executed(tmp_path, monkeypatch):
    path = tmp_path / "trap"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        path.write_bytes(pickle.dumps(Trap(), protocol))
        with pytest.raises(FormatError, match="trap: not a whole safetensors file"):
            Model.load(path)
    np.save(tmp_path / "trap.npy", np.array([Trap()], object), allow_pickle=True)
    with pytest.raises(FormatError, match=r"trap\.npy: not a whole safetensors file"):
        Model.load(tmp_path / "trap.npy")

    def used(*_, **__):
        pytest.fail("pickle was used")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, used)
    assert Model.load(GOLDEN).label == "speaker"


# --- the header, field by field


def edited(name, value):
    """The header with one field changed; a dotted name reaches into a field."""
    header = copy.deepcopy(HEADER)
    *path, last = name.split(".")
    inner = header
    for step in path:
        inner = inner[step]
    inner[last] = value
    return header


@pytest.mark.parametrize("name", HEADER)
def test_a_missing_field_is_named(tmp_path, name):
    header = {key: value for key, value in HEADER.items() if key != name}
    missing = {
        "kind": "must be 'speechgmm classifier'",
        "format": "is None; it must be a whole number from 1",
    }
    with pytest.raises(FormatError, match=rf"edited.*: field `{name}` {missing.get(name, 'is missing')}"):
        load_edited(tmp_path, header)


def test_an_unknown_field_is_named(tmp_path):
    with pytest.raises(FormatError, match="field `colour` is unknown"):
        load_edited(tmp_path, edited("colour", "blue"))


# What each field may not be; every value is tried in every field that does not accept it.
VALUES = {
    "null": None,
    "true": True,
    "a text": "x",
    "a number": 0.5,
    "a list": [{}],
    "a list of null": [None],
    "a table": {"a": 1},
}
ACCEPTED = {"label": {"a text"}, "features": {"null"}, "posterior_scale": {"a number"}, "record": {"a table"}}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param(name, value, id=f"{name} is {kind}")
        for name, (kind, value) in itertools.product(HEADER, VALUES.items())
        if kind not in ACCEPTED.get(name, ())
    ],
)
def test_a_field_of_the_wrong_type_is_named(tmp_path, name, value):
    with pytest.raises(FormatError, match=rf"edited\.safetensors: field `{name}`"):
        load_edited(tmp_path, edited(name, value))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "kind",
            "speechgmm ubm",
            "field `kind` must be 'speechgmm classifier'; this is another kind of file",
        ),
        ("format", 2, "field `covariance_types` is missing"),
        ("format", 3, "field `covariance_types` is missing"),
        ("format", 4, r"`format` is 4; this speechgmm reads up to 3 \(install a newer speechgmm\)"),
        ("format", 0, "field `format` is 0; it must be a whole number from 1"),
        ("format", "1", "field `format` is '1'; it must be a whole number"),
        ("format", 1.0, r"field `format` is 1\.0; it must be a whole number"),
        ("labels", [], "it has 0 labels, 2 mixtures and 2 priors"),
        ("labels", ["anna"], "it has 1 labels, 2 mixtures and 2 priors"),
        ("labels", ["zoë", "anna"], "`labels` must be sorted and distinct"),
        ("labels", ["anna", "anna"], "`labels` must be sorted and distinct"),
        ("labels", ["anna", 3], "field `labels` must be a list of texts"),
        ("posterior_scale", 0, r"`posterior_scale` is 0\.0; it must be positive"),
        ("posterior_scale", -0.1, "`posterior_scale` is -0.1; it must be positive"),
        ("posterior_scale", float("nan"), "`posterior_scale` holds nan; finite numbers are needed"),
        ("posterior_scale", float("inf"), "`posterior_scale` holds inf; finite numbers are needed"),
        ("log_priors", [-0.5], "it has 2 labels, 2 mixtures and 1 priors"),
        ("log_priors", [-0.5, -0.5], r"priors sum to 1\.2"),
        ("log_priors", [0.0, float("-inf")], "field `log_priors` holds -inf; finite numbers are needed"),
        ("log_priors", [0.0, "x"], "field `log_priors` holds 'x'; finite numbers are needed"),
        ("log_priors", [0.0, True], "field `log_priors` holds True; finite numbers are needed"),
        ("features", {}, "feature configuration gives 60 values a frame; the mixtures have 2"),
        ("features.n_coefficients", 3, "feature configuration gives 3 values a frame; the mixtures have 2"),
        ("features.colour", 3, "field `features`: unknown feature setting 'colour'"),
        ("features.window", "kaiser", "field `features`: feature setting `window` is 'kaiser'"),
        ("features.window", [], r"field `features`: feature setting `window` is \[\]"),
        # Under today's names.
        ("features.n_mels", "23", "field `features`: feature setting `n_filters` is '23'"),
        ("features.n_mels", 0, "field `features`: feature setting `n_filters` is 0"),
        ("features.mel_scale", "bark", "field `features`: feature setting `frequency_scale` is 'bark'"),
        ("features.hop_length", float("nan"), "field `features`: feature setting `hop_length` is nan"),
        ("features.speech_activity", 1, "field `features`: feature setting `speech_activity` is 1"),
        ("features.speech_activity", "yes", "field `features`: feature setting `speech_activity` is 'yes'"),
        ("features.speech_activity", [], r"field `features`: feature setting `speech_activity` is \[\]"),
        ("features.speech_activity", None, "field `features`: feature setting `speech_activity` is None"),
        ("labels", ["anna", "unknown"], "unknown"),
        ("posterior_scale", HUGE, "`posterior_scale`"),
        ("log_priors", [0, HUGE], "`log_priors`"),
        ("features.n_mels", HUGE, "`features`.*`n_filters`"),
        ("features.preset", [], r"field `features`: there is no feature preset \[\]"),
        (
            "features",
            {"preset": "librosa", "sample_rate": 0},
            "field `features`: feature setting `sample_rate` is 0",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_field_with_a_wrong_value_is_named(tmp_path, name, value, message):
    with pytest.raises(FormatError, match=rf"edited\.safetensors: .*{message}"):
        load_edited(tmp_path, edited(name, value))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "metadata field `speechgmm` is not JSON"),
        ('{"kind": ', "metadata field `speechgmm` is not JSON"),
        ("[1, 2]", "field `kind` must be 'speechgmm classifier'"),
        ("3", "field `kind` must be 'speechgmm classifier'"),
        ("[" * 100_000, "is not JSON"),
        ('{"format": 1' + "0" * 5000 + "}", "is not JSON"),
    ],
    ids=lambda value: value[:20],
)
def test_a_header_that_is_not_one_is_refused(tmp_path, text, message):
    with pytest.raises(FormatError, match=message):
        load_edited(tmp_path, text)


# --- the arrays, one by one

FLOATS = ("weights", "means", "covariances")


@pytest.mark.parametrize("name", ARRAYS)
def test_a_missing_array_is_named(tmp_path, name):
    arrays = {key: value for key, value in ARRAYS.items() if key != name}
    with pytest.raises(FormatError, match=f"array `{name}` is missing"):
        load_edited(tmp_path, arrays=arrays)


def test_an_unknown_array_is_named(tmp_path):
    with pytest.raises(FormatError, match="array `precisions` is unknown"):
        load_edited(tmp_path, arrays=ARRAYS | {"precisions": np.ones(3)})


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "uint8", "bool"])
def test_an_array_of_another_type_is_named(tmp_path, name, dtype):
    with pytest.raises(
        FormatError, match=f"array `{name}` holds 5 rows of {dtype}; there must be 5 of float64"
    ):
        load_edited(tmp_path, arrays=ARRAYS | {name: ARRAYS[name].astype(dtype)})


@pytest.mark.parametrize("name", FLOATS)
def test_an_array_with_too_few_rows_or_too_many_is_named(tmp_path, name):
    for rows in (0, 4, 6):
        array = np.resize(ARRAYS[name], (rows, *ARRAYS[name].shape[1:]))
        with pytest.raises(
            FormatError, match=f"array `{name}` holds {rows} rows of float64; there must be 5"
        ):
            load_edited(tmp_path, arrays=ARRAYS | {name: array})


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_array_that_is_not_finite_is_named(tmp_path, name, value):
    array = ARRAYS[name].copy()
    array[-1] = value
    with pytest.raises(
        FormatError, match=rf"edited\.safetensors: mixture `{name}` has values that are not finite"
    ):
        load_edited(tmp_path, arrays=ARRAYS | {name: array})


@pytest.mark.parametrize("name", FLOATS)
def test_an_array_with_another_number_of_dimensions_is_named(tmp_path, name):
    with pytest.raises(FormatError, match=rf"edited\.safetensors: mixture .*`{name}` \(.*, 1\)"):
        load_edited(tmp_path, arrays=ARRAYS | {name: ARRAYS[name][..., None]})


@pytest.mark.parametrize("name", FLOATS)
def test_an_array_that_is_a_single_number_is_named(tmp_path, name):
    with pytest.raises(FormatError, match=f"array `{name}`"):
        load_edited(tmp_path, arrays=ARRAYS | {name: np.array(1.0)})


@pytest.mark.parametrize(
    ("name", "position", "value", "message"),
    [
        ("covariances", (2, 1), 0.0, r"mixture `covariances` has the value 0\.0; it must be positive"),
        ("covariances", (0, 0), -4.0, r"mixture `covariances` has the value -4\.0; it must be positive"),
        ("weights", (0,), 0.26, r"mixture `weights` sum to 1\.01, .*must sum to 1"),
        ("weights", (2,), 0.0, r"mixture `weights` sum to 0\.0, .*must sum to 1"),
        ("n_components", (0,), 0, "array `n_components` must hold positive int64 numbers"),
        ("n_components", (0,), -2, "array `n_components` must hold positive int64 numbers"),
        ("n_components", (0,), 3, "array `weights` holds 5 rows of float64; there must be 6 of float64"),
        ("n_components", (0,), 2**62, "array `weights` holds 5 rows of float64; there must be 46"),
    ],
)
def test_an_array_with_an_impossible_value_is_named(tmp_path, name, position, value, message):
    array = ARRAYS[name].copy()
    array[position] = value
    with pytest.raises(FormatError, match=rf"edited\.safetensors: {message}"):
        load_edited(tmp_path, arrays=ARRAYS | {name: array})


def test_negative_weights_are_refused_though_they_sum_to_one(tmp_path):
    weights = np.array([-0.25, 1.25, 1.0, 0.5, 0.5])
    with pytest.raises(
        FormatError, match=r"mixture `weights` .*the least is -0\.25; they must not be negative"
    ):
        load_edited(tmp_path, arrays=ARRAYS | {"weights": weights})


@pytest.mark.parametrize(
    "counts",
    [np.array(5), np.array([5]), np.array([], np.int64), np.array([[2, 1, 2]]), np.array([2, 1, 2], "i4")],
)
def test_numbers_of_components_of_another_shape_or_type_are_named(tmp_path, counts):
    with pytest.raises(FormatError, match="array `n_components` must hold positive int64 numbers"):
        load_edited(tmp_path, arrays=ARRAYS | {"n_components": counts})


def test_another_number_of_mixtures_than_labels_is_refused(tmp_path):
    counts = np.array([2, 1, 1, 1])
    arrays = ARRAYS | {"n_components": counts, "weights": np.array([0.25, 0.75, 1.0, 1.0, 1.0])}
    with pytest.raises(FormatError, match="it has 2 labels, 3 mixtures and 2 priors"):
        load_edited(tmp_path, arrays=arrays)


@pytest.mark.parametrize(
    ("dtype", "size"),
    [
        ("U64", 8),
        ("C64", 8),
        ("BF16", 2),
        ("F8_E4M3", 1),
    ],
)
def test_a_type_that_no_model_has_is_refused(tmp_path, dtype, size):
    whole = GOLDEN.read_bytes()
    length = struct.unpack("<Q", whole[:8])[0]
    header = json.loads(whole[8 : 8 + length])
    start, end = header["weights"]["data_offsets"]
    header["weights"] |= {"dtype": dtype, "shape": [(end - start) // size]}
    text = json.dumps(header).encode()
    path = tmp_path / "typed"
    path.write_bytes(struct.pack("<Q", len(text)) + text + whole[8 + length :])
    with pytest.raises(FormatError, match=r"typed: .*(array `weights`|not a whole safetensors file)"):
        Model.load(path)


def test_a_model_does_not_share_the_arrays_it_was_given():
    log_priors = np.log([0.25, 0.75])
    model = hand_made(log_priors=log_priors)
    log_priors[0] = 0.0
    assert model.log_priors[0] == np.log(0.25)
    assert replace(model, posterior_scale=0.5).log_priors[0] == np.log(0.25)
