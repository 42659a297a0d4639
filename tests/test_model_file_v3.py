"""Model files of format 3, which is written today: any kind of covariance, and today's names of feature settings.

The golden file `golden/model_v3.safetensors` holds the values written out below. It was made with

    PYTHONPATH=. python -c "from tests.test_model_file_v3 import *; write(GOLDEN, HEADER, ARRAYS)"

by safetensors alone, not by the code under test. It stays as it is: a change of format adds a file.
"""

import itertools
import json

import numpy as np
import pytest
from safetensors import safe_open

from speechgmm.em.mixture import Mixture
from speechgmm.errors import FormatError
from speechgmm.features.config import FeatureConfig
from speechgmm.model_file import Model
from tests import test_model_file as v1
from tests import test_model_file_v2 as v2
from tests.test_model_file import GOLDEN as GOLDEN_V1
from tests.test_model_file import write

GOLDEN = GOLDEN_V1.with_name("model_v3.safetensors")
TYPES = ["diag", "full", "spherical", "tied"]
HEADER = {
    "kind": "speechgmm classifier",
    "format": 3,
    "covariance_types": TYPES,
    "label": "speaker",
    "labels": ["anna", "bea", "zoë"],
    # Each another than its default, so that none can go unread.
    "features": {
        "sample_rate": 8000,
        "scale": 32768.0,
        "dither": 0.5,
        "dither_seed": 7,
        "window_length": 0.03,
        "hop_length": 0.0125,
        "framing": "inside",
        "remove_offset": True,
        "pre_emphasis": 0.95,
        "emphasis_by": "frame",
        "window": "povey",
        "window_symmetric": True,
        "fft_length": 512,
        "spectrum": "magnitude",
        "n_filters": 23,
        "frequency_scale": "slaney",
        "filter_slopes": "scale",
        "low_frequency": 50.0,
        "high_frequency": 3800.0,
        "floor": 1.1920928955078125e-07,
        "log_scale": "natural",
        "top_db": 60.0,
        "n_coefficients": 2,
        "dct": "htk",
        "lifter": 22,
        "energy": "none",
        "delta_orders": 1,
        "delta_width": 3,
        "delta_method": "polynomial",
        "shifted_deltas": "1-1-3-2",
        "speech_activity": "gmm",
        "activity_range": 35.0,
        "activity_context": 2,
        "activity_share": 0.5,
        "activity_components": 3,
        "no_speech": "refuse",
        "normalisation": "sliding_mean_variance",
        "normalisation_window": 1.5,
    },
    "posterior_scale": 0.125,
    "log_priors": [
        -0.6931471805599453,
        -1.3862943611198906,
        -1.3862943611198906,
    ],  # log 1/2, log 1/4, log 1/4
    "record": {"version": "0.2.0", "settings": {"seed": 7}, "classes": [{"label": "anna", "files": 3}]},
}
DIAG = [[4.0, 0.5, 1.0, 1e-6], [1.0, 2.0, 0.25, 3.0]]
FULL = [[2.0, -0.25, 0.0, 0.5], [-0.25, 3.0, 0.125, 0.0], [0.0, 0.125, 1.0, 1 / 3], [0.5, 0.0, 1 / 3, 4.0]]
SPHERICAL = [9.0, 0.75]
TIED = [[16.0, 1.5, 0.0, 0.0], [1.5, 25.0, -2.0, 0.0], [0.0, -2.0, 36.0, 0.5], [0.0, 0.0, 0.5, 49.0]]
# Two components for anna, one for bea, two for zoë, two for the background.
ARRAYS = {
    "n_components": np.array([2, 1, 2, 2], np.int64),
    "weights": np.array([0.25, 0.75, 1.0, 0.125, 0.875, 0.5, 0.5]),
    "means": np.array(
        [
            [-500.0, 1.5, 0.0, -1.0],
            [-480.25, -2.0, 0.5, 1.0],
            [-450.0, 0.0, 0.25, 2.0],
            [-490.5, 0.1, -0.5, 0.0],
            [-460.0, 1 / 3, 1.0, -2.0],
            [-470.0, 0.75, 0.0, 0.5],
            [-485.0, -0.75, 2.0, 0.0],
        ]
    ),
    "covariances": np.array([*np.ravel(DIAG), *np.ravel(FULL), *SPHERICAL, *np.ravel(TIED)]),
}


def hand_made():
    """The model of the golden file, built here."""
    weights, means = ARRAYS["weights"], ARRAYS["means"]
    return Model(
        label="speaker",
        labels=("anna", "bea", "zoë"),
        mixtures=(
            Mixture(weights[:2], means[:2], np.array(DIAG), "diag"),
            Mixture(weights[2:3], means[2:3], np.array([FULL]), "full"),
            Mixture(weights[3:5], means[3:5], np.array(SPHERICAL), "spherical"),
        ),
        background=Mixture(weights[5:], means[5:], np.array(TIED), "tied"),
        posterior_scale=0.125,
        log_priors=np.log([0.5, 0.25, 0.25]),
        features=FeatureConfig(**HEADER["features"]),
        record=HEADER["record"],
    )


def load_edited(tmp_path, header=HEADER, arrays=ARRAYS):
    return v1.load_edited(tmp_path, header, arrays)


def features(**changes):
    """The header with some feature settings changed."""
    return HEADER | {"features": HEADER["features"] | changes}


# --- what is written is what is read


def test_the_released_format_loads_with_the_right_values():
    model = Model.load(GOLDEN)
    v1.assert_same(model, hand_made())
    assert [mixture.covariance_type for mixture in (*model.mixtures, model.background)] == TYPES
    np.testing.assert_array_equal(model.mixtures[0].covariances, DIAG)
    np.testing.assert_array_equal(model.mixtures[1].covariances, [FULL])
    np.testing.assert_array_equal(model.mixtures[2].covariances, SPHERICAL)
    np.testing.assert_array_equal(model.background.covariances, TIED)
    # A setting that is added later has its default.
    assert model.features.to_dict() == FeatureConfig().to_dict() | HEADER["features"]


def test_the_golden_file_is_small_and_holds_what_this_file_says():
    v1.assert_holds(GOLDEN, HEADER, ARRAYS)
    defaults = FeatureConfig().to_dict()
    assert [name for name, value in HEADER["features"].items() if defaults[name] == value] == []


def test_the_golden_model_is_written_as_the_golden_file_holds_it(tmp_path):
    hand_made().save(tmp_path / "model")
    v1.assert_holds(tmp_path / "model", HEADER, ARRAYS)


@pytest.mark.parametrize("made", [v1.hand_made, v2.hand_made, hand_made])
def test_every_model_is_written_in_format_3(tmp_path, made):
    made().save(tmp_path / "model")
    with safe_open(tmp_path / "model", framework="np") as file:
        header = json.loads(file.metadata()["speechgmm"])
        covariances = file.get_tensor("covariances")
    mixtures = (*made().mixtures, made().background)
    assert header["format"] == 3
    assert header["covariance_types"] == [mixture.covariance_type for mixture in mixtures]
    assert covariances.shape == (sum(mixture.covariances.size for mixture in mixtures),)
    assert header["features"] == made().features.to_dict()
    v1.assert_same(Model.load(tmp_path / "model"), made())


@pytest.mark.parametrize("golden", [v1.GOLDEN, v2.GOLDEN, GOLDEN], ids=lambda path: path.stem)
def test_released_files_are_written_anew_without_a_change(tmp_path, golden):
    model = Model.load(golden)
    model.save(tmp_path / "anew")
    v1.assert_same(Model.load(tmp_path / "anew"), model)
    Model.load(tmp_path / "anew").save(tmp_path / "again")
    assert (tmp_path / "anew").read_bytes() == (tmp_path / "again").read_bytes()


def test_a_model_without_features_or_of_a_preset(tmp_path):
    assert load_edited(tmp_path, HEADER | {"features": None}).features is None
    preset = {"preset": "kaldi", "n_coefficients": 4, "delta_orders": 0}
    loaded = load_edited(tmp_path, HEADER | {"features": preset}).features
    assert loaded == FeatureConfig.preset("kaldi", n_coefficients=4, delta_orders=0)


# --- what a file of format 3 may not hold


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_mels": 23}, "unknown feature setting 'n_mels'; known are .*n_filters"),
        ({"mel_scale": "slaney"}, "unknown feature setting 'mel_scale'; known are .*frequency_scale"),
        ({"speech_activity": True}, "feature setting `speech_activity` is True; it must be like 'none'"),
        ({"speech_activity": False}, "feature setting `speech_activity` is False; it must be like 'none'"),
        ({"speech_activity": "yes"}, "feature setting `speech_activity` is 'yes'; it can be none, energy, "),
        ({"shifted_deltas": "7137"}, "feature setting `shifted_deltas` is '7137'; it must be like '7-1-3-7'"),
        ({"energy": "c0"}, "feature configuration gives 6 values a frame; the mixtures have 4"),
        ({"preset": "mfcc"}, "there is no feature preset 'mfcc'"),
    ],
)
def test_feature_settings_that_cannot_be_are_named(tmp_path, changes, message):
    with pytest.raises(FormatError, match=rf"edited\.safetensors: .*{message}"):
        load_edited(tmp_path, features(**changes))


@pytest.mark.parametrize("old", ["n_mels", "mel_scale"])
def test_a_file_with_old_names_alone_is_refused(tmp_path, old):
    renamed = {"n_mels": "n_filters", "mel_scale": "frequency_scale"}
    settings = dict(HEADER["features"])
    settings[old] = settings.pop(renamed[old])
    with pytest.raises(FormatError, match=f"field `features`: unknown feature setting '{old}'"):
        load_edited(tmp_path, HEADER | {"features": settings})


@pytest.mark.parametrize("name", sorted(HEADER["features"]))
def test_a_feature_setting_of_the_wrong_type_is_named(tmp_path, name):
    for value in (None, [], {"a": 1}, "x" if not isinstance(HEADER["features"][name], str) else 3):
        with pytest.raises(FormatError, match=f"field `features`: feature setting `{name}` is "):
            load_edited(tmp_path, features(**{name: value}))


@pytest.mark.parametrize("name", HEADER)
def test_a_missing_field_is_named(tmp_path, name):
    header = {key: value for key, value in HEADER.items() if key != name}
    with pytest.raises(
        FormatError, match=rf"edited.*: field `{name}` (is missing|must be '|is None; it must)"
    ):
        load_edited(tmp_path, header)


def test_an_unknown_field_is_named(tmp_path):
    with pytest.raises(FormatError, match="field `colour` is unknown"):
        load_edited(tmp_path, HEADER | {"colour": "blue"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param(
            name,
            value,
            id=f"{name} is {kind}",
        )
        for name, (kind, value) in itertools.product(HEADER, v1.VALUES.items())
        if kind not in v1.ACCEPTED.get(name, ())
    ],
)
def test_a_field_of_the_wrong_type_is_named(tmp_path, name, value):
    with pytest.raises(FormatError, match=rf"edited\.safetensors: field `{name}`"):
        load_edited(tmp_path, HEADER | {name: value})


@pytest.mark.parametrize(
    ("types", "message"),
    [
        (TYPES[:3], "field `covariance_types` must be a list of 4 names, one a mixture"),
        ([*TYPES, "diag"], "field `covariance_types` must be a list of 4 names"),
        (["diag", "full", None, "tied"], "`covariance_type` is 'None'; it must be one of"),
        (["diag", "full", "Spherical", "tied"], "`covariance_type` is 'Spherical'; it must be one of"),
        (
            ["full", "full", "spherical", "tied"],
            "array `covariances` holds 42 rows of .* there must be 66 of",
        ),
        # The same count, but not those numbers.
        (
            ["diag", "tied", "spherical", "full"],
            "array `covariances` holds 42 rows of .* there must be 58 of",
        ),
        (
            ["diag", "full", "spherical", "diag"],
            "array `covariances` holds 42 rows of .* there must be 34 of",
        ),
    ],
)
def test_kinds_of_covariances_that_cannot_be_are_named(tmp_path, types, message):
    with pytest.raises(FormatError, match=rf"edited\.safetensors: .*{message}"):
        load_edited(tmp_path, HEADER | {"covariance_types": types})


def test_variances_in_rows_are_of_format_1(tmp_path):
    header = v1.HEADER | {"format": 3, "covariance_types": None, "features": None}
    with pytest.raises(FormatError, match="field `covariance_types`"):
        load_edited(tmp_path, header, v1.ARRAYS)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        (
            "covariances",
            ARRAYS["covariances"][:, None],
            "array `covariances` has 2 dimensions; it must have 1",
        ),
        ("covariances", ARRAYS["covariances"][:-1], "holds 41 rows of float64; there must be 42 of float64"),
        ("covariances", ARRAYS["covariances"][:0], "holds 0 rows of float64; there must be 42 of float64"),
        ("covariances", np.array(1.0), "array `covariances` holds 1 rows of float64; there must be 42"),
        ("covariances", ARRAYS["covariances"].astype("f4"), "holds 42 rows of float32; there must be 42 of"),
        ("covariances", -ARRAYS["covariances"], "`covariances` has the value -4.0; it must be positive"),
        ("means", ARRAYS["means"][:, :3], "array `covariances` holds 42 rows of float64; there must be 26"),
        ("means", ARRAYS["means"].ravel(), "array `means` holds 28 rows of float64; there must be 7"),
        ("n_components", np.array([2, 1, 2, 3]), "array `weights` holds 7 rows of float64; there must be 8"),
        ("n_components", np.array([2, 1, 2, 0]), "array `n_components` must hold positive int64 numbers"),
        # As many components, dealt otherwise.
        ("n_components", np.array([1, 2, 2, 2]), "array `covariances` holds 42 rows of .*; there must be 54"),
    ],
)
def test_arrays_that_cannot_be_are_named(tmp_path, name, array, message):
    with pytest.raises(FormatError, match=rf"edited\.safetensors: .*{message}"):
        load_edited(tmp_path, arrays=ARRAYS | {name: array})


def test_a_matrix_that_is_none_is_refused(tmp_path):
    covariances = ARRAYS["covariances"].copy()
    covariances[9] = covariances[12] = 5.0  # off the diagonal of bea's, larger than what is on it
    with pytest.raises(FormatError, match="a matrix that is not positive definite"):
        load_edited(tmp_path, arrays=ARRAYS | {"covariances": covariances})


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


def test_a_file_cut_short_is_refused(tmp_path):
    whole = GOLDEN.read_bytes()
    path = tmp_path / "part.safetensors"
    for length in (0, 7, 8, 9, 500, len(whole) // 2, len(whole) - 8, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(FormatError, match=r"part\.safetensors: not a whole safetensors file .*truncated"):
            Model.load(path)


def test_the_golden_file_is_made_as_said(tmp_path):
    write(tmp_path / "made.safetensors", HEADER, ARRAYS)
    v1.assert_holds(tmp_path / "made.safetensors", HEADER, ARRAYS)
