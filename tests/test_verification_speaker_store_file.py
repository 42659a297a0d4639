"""The file of a speaker store: format 1 to the bit, and every way a file can be wrong.

The golden file `golden/speakers_v1.safetensors` holds the values written out below. It was made with

    PYTHONPATH=. python -c "from tests.test_verification_speaker_store_file import *; write(GOLDEN, HEADER, ARRAYS)"

by safetensors and hashlib alone, not by the code under test. It stays as it is: a change of format adds a file.
"""

import copy
import hashlib
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from speechgmm.em.adaptation import Adaptation
from speechgmm.em.mixture import Mixture
from speechgmm.errors import FormatError, InputError
from speechgmm.features.config import FeatureConfig
from speechgmm.verification.calibration import Calibration
from speechgmm.verification.speaker_store import SpeakerStore
from speechgmm.verification.speaker_store_file import FORMAT
from speechgmm.verification.system import System
from tests.test_model_file import HUGE, VALUES
from tests.test_model_file_v3 import HEADER as MODEL_HEADER

GOLDEN = Path(__file__).parent / "golden" / "speakers_v1.safetensors"
HEADER = {
    "kind": "speechgmm speakers",
    "format": 1,
    "covariance_type": "diag",
    "features": MODEL_HEADER["features"],
    "record": {"version": "0.3.0", "settings": {"seed": 7}, "speakers": ["carl", "dora"]},
    "adaptation": {"relevance_factor": 4.0, "parts": ["means", "variances"], "iterations": 1},
    "speakers": [
        {
            "speaker": "anna",
            "utterances": ["b-2", "a-1"],
            "seconds": 0.125,
            "frames": 4.0,
            "log_likelihood": -31.5,
        },
        {
            "speaker": "zoë",
            "utterances": ["digit 7/zoë"],
            "seconds": 1.1,
            "frames": 10.0,
            "log_likelihood": -70.0,
        },
    ],
    "cohort": {
        "speakers": [
            {"speaker": "otto", "utterances": ["o"], "seconds": 0.5, "frames": 2.0, "log_likelihood": -1 / 3}
        ],
        "frame_speakers": ["otto", "paul"],
    },
    "calibration": {
        "calibration": {
            "weights": [3.5],
            "offset": -1.25,
            "p_target": 0.01,
            "n_target": 20,
            "n_nontarget": 380,
        },
        "basis": {
            "background": "",  # filled in below
            "adaptation": {"relevance_factor": 4.0, "parts": ["means", "variances"], "iterations": 1},
            "cohort": "",
        },
        "system": {"method": "linear", "top": 5, "normalisation": "adaptive_s", "top_n": 2},
        "explanations": [-60.5, -71.25, -1 / 3],
        "record": {"cllr": 0.25},
    },
}
ARRAYS = {
    "weights": np.array([0.25, 0.75]),
    "means": np.array([[-500.0, 1.5, 0.0, -1.0], [-480.25, -2.0, 0.5, 1 / 3]]),
    "covariances": np.array([[4.0, 0.5, 1.0, 1e-6], [1.0, 2.0, 0.25, 3.0]]),
    "origin": np.array([-485.5, -1.125, 0.375, 0.0]),
    "scale": np.array([8.0, 2.0, 1.0, 0.5]),
    "zeroth": np.array([[3.0, 1.0], [0.5, 9.5]]),
    "first": np.array(
        [
            [[-3.0, 1.5, 0.0, 3.0], [0.25, 0.0, -1.0, 0.5]],
            [[0.0, 0.25, 0.125, 0.0], [9.5, -1.0, 1 / 3, 0.1]],
        ]
    ),
    "second": np.array(
        [
            [[6.0, 2.0, 3.0, 6.0], [1.0, 0.5, 2.0, 1.0]],
            [[0.5, 0.25, 0.25, 0.5], [19.0, 9.5, 4.75, 3.0]],
        ]
    ),
    "cohort_zeroth": np.array([[2.0, 0.0]]),
    "cohort_first": np.array([[[1.0, 1.0, 0.5, 0.25], [0.0, 0.0, 0.0, 0.0]]]),
    "cohort_second": np.array([[[1.0, 2.0, 0.5, 0.25], [0.0, 0.0, 0.0, 0.0]]]),
    "cohort_frames": np.array(
        [[-490.0, 1.0, 0.5, 0.1], [-491.0, 0.0, 0.5, 0.1], [-480.0, -1.0, 0.0, 0.3]], np.float32
    ),
    "cohort_lengths": np.array([2, 1], np.int64),
}


def sha256(head, *arrays):
    text = json.dumps(head, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(text.encode() + b"".join(array.tobytes() for array in arrays)).hexdigest()


def background_of(features):
    """The fingerprint of the background model above with other features."""
    head = {"type": "diag", "shape": [2, 4], "features": features}
    return sha256(head, *(ARRAYS[name] for name in ("weights", "means", "covariances")))


HEADER["calibration"]["basis"] |= {
    "background": background_of(HEADER["features"]),
    "cohort": sha256(
        {"speakers": ["otto"], "frame_speakers": ["otto", "paul"], "lengths": [2, 1]},
        *(ARRAYS[f"cohort_{name}"] for name in ("zeroth", "first", "frames")),
    ),
}


def write(path, header, arrays, checksum=True):
    """Write a store without the code under test; a header given as text is written as it is."""
    text = header if isinstance(header, str) else json.dumps(header, ensure_ascii=False, sort_keys=True)
    digest = hashlib.sha256(text.encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode() + array.tobytes())
    if checksum:
        arrays = arrays | {"checksum": np.frombuffer(digest.digest(), np.uint8)}
    Path(path).write_bytes(safetensors.numpy.save(arrays, {"speechgmm": text}))


def load_edited(tmp_path, header=HEADER, arrays=ARRAYS, **options):
    path = tmp_path / "edited.safetensors"
    write(path, header, arrays, **options)
    return SpeakerStore.load(path)


def edited(name, value):
    """The header with one field changed; a dotted name reaches into a field, a number into a list."""
    header = copy.deepcopy(HEADER)
    *path, last = [int(step) if step.isdigit() else step for step in name.split(".")]
    inner = header
    for step in path:
        inner = inner[step]
    inner[last] = value
    return header


def contents(path):
    """Header and arrays of a file, without the checksum."""
    with safetensors.safe_open(path, framework="np") as file:
        header = json.loads(file.metadata()["speechgmm"])
        return header, {name: file.get_tensor(name) for name in file.keys() if name != "checksum"}  # noqa: SIM118


# --- what is written is what is read


def test_the_released_format_loads_with_the_right_values():
    assert FORMAT == 1, "a new format: keep this file and its test, and add a golden file of the new one"
    store = SpeakerStore.load(GOLDEN)
    assert store.background.ubm == Mixture(*(ARRAYS[name] for name in ("weights", "means", "covariances")))
    assert store.background.features == FeatureConfig(**HEADER["features"])
    assert store.background.record == HEADER["record"]
    assert store.adaptation == Adaptation(4.0, ("means", "variances"), 1)
    assert list(store.enrolments) == ["anna", "zoë"]
    anna, zoe = store.enrolments.values()
    assert (anna.speaker, anna.utterances, anna.seconds, anna.n_frames) == (
        "anna",
        ("b-2", "a-1"),
        0.125,
        4.0,
    )
    assert anna.background == store.background.fingerprint
    for index, one in enumerate((anna, zoe)):
        assert one.statistics.log_likelihood == (-31.5, -70.0)[index]
        for name in ("zeroth", "first", "second"):
            np.testing.assert_array_equal(getattr(one.statistics, name), ARRAYS[name][index])
        np.testing.assert_array_equal(one.statistics.coordinates.origin, ARRAYS["origin"])
        np.testing.assert_array_equal(one.statistics.coordinates.scale, ARRAYS["scale"])
    assert store.cohort.speakers == ("otto",) and store.cohort.frame_speakers == ("otto", "paul")
    np.testing.assert_array_equal(store.cohort.enrolments[0].statistics.first, ARRAYS["cohort_first"][0])
    np.testing.assert_array_equal(store.cohort.frames[0], ARRAYS["cohort_frames"][:2])
    np.testing.assert_array_equal(store.cohort.frames[1], ARRAYS["cohort_frames"][2:])
    assert store.calibration.calibration == Calibration((3.5,), -1.25, 0.01, 20, 380)
    assert store.calibration.system == System("linear", 5, "adaptive_s", 2)
    assert store.calibration.explanations == (-60.5, -71.25, -1 / 3)
    basis = HEADER["calibration"]["basis"]
    assert store.calibration.basis == (basis["background"], store.adaptation, basis["cohort"])
    assert store.calibration.record == {"cllr": 0.25}


def test_the_model_of_the_golden_file_is_as_worked_out_by_hand():
    # The first component saw 3 frames, and r is 4: it moves 3/7 of the way.
    mean = -500 + 3 / 7 * (-485.5 + 8.0 * -3.0 / 3.0 + 500)
    assert SpeakerStore.load(GOLDEN).model("anna").means[0, 0] == pytest.approx(mean, rel=1e-14)


def test_the_golden_file_is_small_and_holds_what_this_file_says(tmp_path):
    assert GOLDEN.stat().st_size < 6000
    write(tmp_path / "made", HEADER, ARRAYS)
    for path in (GOLDEN, tmp_path / "made"):
        header, arrays = contents(path)
        assert header == HEADER and arrays.keys() == ARRAYS.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, ARRAYS[name], strict=True)


def test_the_golden_store_is_written_as_the_golden_file_holds_it(tmp_path):
    SpeakerStore.load(GOLDEN).save(tmp_path / "anew")
    header, arrays = contents(tmp_path / "anew")
    assert header == HEADER and arrays.keys() == ARRAYS.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, ARRAYS[name], strict=True)
    SpeakerStore.load(tmp_path / "anew").save(tmp_path / "again")
    assert (tmp_path / "anew").read_bytes() == (tmp_path / "again").read_bytes()


def test_what_may_be_absent_may_be_absent(tmp_path):
    plain = HEADER | {"features": None, "cohort": None, "calibration": None, "speakers": []}
    arrays = {name: array for name, array in ARRAYS.items() if not name.startswith("cohort")}
    arrays |= {name: arrays[name][:0] for name in ("zeroth", "first", "second")}
    store = load_edited(tmp_path, plain, arrays)
    assert store.speakers() == [] and store.cohort is None and store.calibration is None
    store.save(tmp_path / "anew")
    assert contents(tmp_path / "anew")[0] == plain


def test_an_infinite_relevance_factor_is_written_by_its_name(tmp_path):
    store = load_edited(tmp_path, edited("adaptation.relevance_factor", "inf") | {"calibration": None})
    assert store.model("anna") == store.background.ubm
    store.save(tmp_path / "anew")
    assert contents(tmp_path / "anew")[0]["adaptation"]["relevance_factor"] == "inf"


# --- files that are no store, or no longer


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"nothing: there is no such speaker store file"):
        SpeakerStore.load(tmp_path / "nothing")


def test_every_damaged_bit_is_noticed(tmp_path):
    whole = GOLDEN.read_bytes()
    path = tmp_path / "damaged"
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << (position % 8)
        path.write_bytes(damaged)
        with pytest.raises(FormatError, match="damaged: "):
            SpeakerStore.load(path)


def test_a_file_cut_short_is_refused(tmp_path):
    whole = GOLDEN.read_bytes()
    path = tmp_path / "part"
    for length in (0, 7, 8, 9, 500, *range(1000, len(whole), 97), len(whole) - 8, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(FormatError, match=r"part: not a whole safetensors file .*truncated"):
            SpeakerStore.load(path)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FormatError, match=r"field `kind` must be 'speechgmm speakers'; this is another kind"):
        SpeakerStore.load(GOLDEN.with_name("model_v3.safetensors"))
    (tmp_path / "other").write_bytes(safetensors.numpy.save({"weights": np.ones(3)}))
    with pytest.raises(FormatError, match="a safetensors file, but not a speechgmm speaker store"):
        SpeakerStore.load(tmp_path / "other")
    (tmp_path / "text").write_text("anna,0.5\n" * 20)
    with pytest.raises(FormatError, match="text: not a whole safetensors file"):
        SpeakerStore.load(tmp_path / "text")


def test_a_value_edited_by_hand_is_noticed(tmp_path):
    path = tmp_path / "edited"
    path.write_bytes(GOLDEN.read_bytes().replace(b": 0.125", b": 0.525"))
    with pytest.raises(FormatError, match=r"edited: the content does not agree with its checksum \(damaged"):
        SpeakerStore.load(path)


def test_a_file_without_checksum_is_refused(tmp_path):
    with pytest.raises(FormatError, match="does not agree with its checksum"):
        load_edited(tmp_path, checksum=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "metadata field `speechgmm` is not JSON"),
        ("[1, 2]", "field `kind` must be 'speechgmm speakers'"),
        ("[" * 100_000, "is not JSON"),
    ],
    ids=lambda value: value[:20],
)
def test_a_header_that_is_not_one_is_refused(tmp_path, text, message):
    with pytest.raises(FormatError, match=message):
        load_edited(tmp_path, text)


# --- the header, field by field; checksums are right, as a hostile writer would have them

TABLES = (
    "",
    "adaptation",
    "speakers.0",
    "cohort",
    "cohort.speakers.0",
    "calibration",
    "calibration.calibration",
    "calibration.basis",
    "calibration.basis.adaptation",
    "calibration.system",
)


def fields_of(table):
    inner = HEADER
    for step in filter(None, table.split(".")):
        inner = inner[int(step) if step.isdigit() else step]
    return {f"{table}.{name}".strip("."): value for name, value in inner.items()}


EVERY_FIELD = [name for table in TABLES for name in fields_of(table)]


@pytest.mark.parametrize("name", EVERY_FIELD)
def test_a_missing_field_is_named(tmp_path, name):
    *path, last = name.split(".")
    table = {one.rsplit(".", 1)[-1]: value for one, value in fields_of(".".join(path)).items()}
    del table[last]
    header = edited(".".join(path), table) if path else table
    with pytest.raises(FormatError, match=rf"edited\.safetensors: .*`([a-z.\[\]0-9]*\.)?{last}`"):
        load_edited(tmp_path, header)


@pytest.mark.parametrize("table", TABLES)
def test_an_unknown_field_is_named(tmp_path, table):
    with pytest.raises(FormatError, match=r"edited\.safetensors: .*`[a-z.\[\]0-9]*colour`"):
        load_edited(tmp_path, edited(f"{table}.colour".strip("."), "blue"))


# Of VALUES in the tests of models; what is said of each depends on the field.
ACCEPTED = {
    "features": {"null"},
    "record": {"a table"},
    "cohort": {"null"},
    "calibration": {"null"},
    "adaptation.relevance_factor": {"a number"},
    "speakers.0.speaker": {"a text"},
    "speakers.0.seconds": {"a number"},
    "speakers.0.log_likelihood": {"a number"},
    "cohort.speakers.0.speaker": {"a text"},
    "cohort.speakers.0.seconds": {"a number"},
    "cohort.speakers.0.log_likelihood": {"a number"},
    "calibration.record": {"a table"},
    "calibration.calibration.offset": {"a number"},
    "calibration.calibration.p_target": {"a number"},
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param(name, value, id=f"{name} is {kind}")
        for name, (kind, value) in itertools.product(EVERY_FIELD, VALUES.items())
        if kind not in ACCEPTED.get(name, ())
    ],
)
def test_a_field_of_the_wrong_type_is_refused(tmp_path, name, value):
    with pytest.raises(FormatError, match=r"edited\.safetensors: .*(`|speaker)"):
        load_edited(tmp_path, edited(name, value))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("format", 2, r"`format` is 2; this speechgmm reads up to 1 \(install a newer speechgmm\)"),
        ("format", 0, "field `format` is 0; it must be a whole number from 1"),
        ("covariance_type", "round", "`covariance_type` is 'round'; it must be one of"),
        (
            "covariance_type",
            "spherical",
            r"array `covariances` is float64 of shape \(2, 4\); .* shape \(2,\)",
        ),
        ("features.n_coefficients", 3, "feature configuration gives 6 values a frame"),
        ("features.window", "kaiser", "field `features`: feature setting `window` is 'kaiser'"),
        ("adaptation.relevance_factor", -1, r"field `adaptation`: `relevance_factor` is -1"),
        ("adaptation.relevance_factor", float("nan"), "field `adaptation`: `relevance_factor` is nan"),
        ("adaptation.relevance_factor", HUGE, "field `adaptation`: `relevance_factor`"),
        ("adaptation.parts", ["means", "mean"], "field `adaptation`: adaptation `parts` is"),
        ("adaptation.parts", ["means"], "array `cohort_second` is unknown"),
        ("adaptation.iterations", 2, "calibration is of scores with another adaptation than this store has"),
        (
            "speakers",
            [],
            r"array `zeroth` is float64 of shape \(2, 2\); it must be float64 of shape \(0, 2\)",
        ),
        ("speakers.0.speaker", "zoë 2", "field `speakers` must be sorted by speaker, one row each"),
        ("speakers.1.speaker", "anna", "field `speakers` must be sorted by speaker, one row each"),
        ("speakers.0.speaker", "", "`speaker` is ''; it must be a text that is not empty"),
        ("speakers.1.speaker", "unknown", "a speaker is named 'unknown'"),
        ("speakers.0.utterances", [], "speaker 'anna': an enrolment needs at least 1 utterance"),
        ("speakers.0.utterances", ["a", 1], r"field `speakers\[0\].utterances` must be a list of texts"),
        ("speakers.0.utterances", ["a", "a"], "speaker 'anna': duplicated enrolment: 'a' would count twice"),
        ("speakers.0.utterances", ["a\n"], r"speaker 'anna': utterance 'a\\n'"),
        ("speakers.0.seconds", -1, r"speaker 'anna': `seconds` is -1\.0; it must be a number from 0"),
        ("speakers.0.seconds", float("inf"), r"field `speakers\[0\].seconds` holds inf; finite"),
        ("speakers.0.seconds", HUGE, r"field `speakers\[0\].seconds` holds 1000"),
        ("speakers.0.frames", 5, "statistics of speaker 'anna' are of 4 frames, .* 5 frames are listed"),
        ("speakers.0.frames", -4, "statistics of speaker 'anna' are of 4 frames, .* -4 frames are listed"),
        ("speakers.0.log_likelihood", float("nan"), r"field `speakers\[0\].log_likelihood` holds nan"),
        ("cohort.speakers.0.frames", 3, "statistics of speaker 'otto' are of 2 frames"),
        ("cohort.speakers.0.speaker", "anna", "speakers are both in the cohort and enrolled: anna"),
        ("cohort.frame_speakers", ["otto"], "a cohort of 2 `frames` and 1 `frame_speakers`"),
        ("cohort.frame_speakers", ["otto", "zoë"], "both in the cohort and enrolled: zoë"),
        ("cohort.frame_speakers", ["otto", ""], "`speaker` is ''"),
        ("cohort", None, "array `cohort_first` is unknown"),
        (
            "calibration.system.method",
            "best",
            "field `calibration`: system `method` is 'best'; it can be top",
        ),
        ("calibration.system.normalisation", "c", "system `normalisation` is 'c'; it can be none, z, t, zt"),
        (
            "calibration.system.normalisation",
            "s",
            "`normalisation` is 's' and `top_n` is 2; adaptive_s needs",
        ),
        ("calibration.system.top", 0, "system `top` is 0; it must be a whole number from 1"),
        ("calibration.system.top_n", 0, "system `top_n` is 0; it must be a whole number from 2"),
        ("calibration.explanations", [1, "2"], "`calibration.explanations` holds '2'; finite numbers"),
        ("calibration.basis.background", "ab", "is of scores with another background than this store has"),
        ("calibration.basis.cohort", "ab", "is of scores with another cohort than this store has now"),
        ("calibration.basis.cohort", None, "is of scores with another cohort than this store has now"),
        ("calibration.basis.adaptation.parts", ["means"], "with another adaptation than this store has now"),
        ("calibration.calibration.p_target", 1, "field `calibration`: .*p_target"),
        ("calibration.calibration.weights", [], "field `calibration`: calibration `weights`"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_field_with_a_wrong_value_is_named(tmp_path, name, value, message):
    with pytest.raises(FormatError, match=rf"edited\.safetensors: .*{message}"):
        load_edited(tmp_path, edited(name, value))


def test_a_calibration_of_normalised_scores_needs_the_cohort(tmp_path):
    arrays = {name: array for name, array in ARRAYS.items() if not name.startswith("cohort")}
    with pytest.raises(
        FormatError, match="normalised by 'adaptive_s', and there is no cohort to normalise by"
    ):
        load_edited(tmp_path, HEADER | {"cohort": None}, arrays)
    plain = edited("calibration.system", {"method": "top", "top": 5, "normalisation": "none", "top_n": None})
    plain["calibration"]["basis"]["cohort"] = None
    assert load_edited(tmp_path, plain).calibration.system.normalisation == "none"
    loaded = load_edited(tmp_path, plain | {"cohort": None}, arrays)
    assert loaded.cohort is None and loaded.calibration.system.top == 5


def test_of_several_iterations_as_of_one(tmp_path):
    header = edited("adaptation.iterations", 3) | {"calibration": None}
    store = load_edited(tmp_path, header)
    assert store.enrolments["anna"].adaptation == Adaptation(4.0, ("means", "variances"), 3)
    assert store.model("anna") == SpeakerStore.load(GOLDEN).model("anna")
    store.save(tmp_path / "anew")
    assert contents(tmp_path / "anew")[0] == header


# --- the arrays, one by one


@pytest.mark.parametrize("name", ARRAYS)
def test_a_missing_array_is_named(tmp_path, name):
    with pytest.raises(FormatError, match=f"array `{name}` is missing"):
        load_edited(tmp_path, arrays={key: value for key, value in ARRAYS.items() if key != name})


@pytest.mark.parametrize("name", ["precisions", "transform", "Zeroth"])
def test_an_unknown_array_is_named(tmp_path, name):
    with pytest.raises(FormatError, match=f"array `{name}` is unknown"):
        load_edited(tmp_path, arrays=ARRAYS | {name: np.ones(3)})


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("dtype", ["float16", "int32", "bool"])
def test_an_array_of_another_type_is_named(tmp_path, name, dtype):
    with pytest.raises(FormatError, match=f"array `{name}` is {dtype} of shape .*; it must be "):
        load_edited(tmp_path, arrays=ARRAYS | {name: ARRAYS[name].astype(dtype)})


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_of_another_shape_is_refused(tmp_path, name):
    for array in (
        ARRAYS[name][:-1],
        ARRAYS[name][..., None],
        ARRAYS[name][..., :0],
        np.ravel(ARRAYS[name])[0],
    ):
        with pytest.raises(FormatError, match=r"edited\.safetensors: .*(array|mixture|cohort|`weights`)"):
            load_edited(tmp_path, arrays=ARRAYS | {name: np.array(array)})


@pytest.mark.parametrize("name", [name for name in ARRAYS if name != "cohort_lengths"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_array_that_is_not_finite_is_refused(tmp_path, name, value):
    array = ARRAYS[name].copy()
    array[(-1,) * array.ndim] = value
    with pytest.raises(FormatError, match=r"edited\.safetensors: .*(not finite|must be finite)"):
        load_edited(tmp_path, arrays=ARRAYS | {name: array})


@pytest.mark.parametrize(
    ("name", "position", "value", "message"),
    [
        ("weights", (0,), 0.26, "mixture `weights` sum to 1.01"),
        ("covariances", (0, 0), -4.0, r"mixture `covariances` has the value -4\.0; it must be positive"),
        ("scale", (0,), 0.0, "array `scale` has values that are not finite, or not positive"),
        ("scale", (0,), -2.0, "array `scale` has values that are not finite, or not positive"),
        ("scale", (0,), 3.0, "array `origin` or `scale` has values that float32, or powers of two, do not"),
        ("origin", (0,), 0.1, "array `origin` or `scale` has values that float32, or powers of two, do not"),
        ("zeroth", (0, 1), -1.0, "statistics of speaker 'anna' are of 2 frames, the least component of -1"),
        ("zeroth", (1, 1), 9.0, "statistics of speaker 'zoë' are of 9.5 frames, .* 10 frames are listed"),
        (
            "zeroth",
            (0,),
            [5.0, -1.0],
            "statistics of speaker 'anna' are of 4 frames, the least component of -1",
        ),
        ("cohort_zeroth", (0, 1), 1.0, "statistics of speaker 'otto' are of 3 frames"),
        ("cohort_lengths", (0,), 0, "array `cohort_lengths` has the value 0; it must be 1 or more"),
        ("cohort_lengths", (0,), -1, "array `cohort_lengths` has the value -1; it must be 1 or more"),
        ("cohort_lengths", (0,), 3, r"array `cohort_frames` is .* \(3, 4\); it must be .* shape \(4, 4\)"),
        (
            "cohort_lengths",
            (0,),
            2**62,
            r"array `cohort_frames` is .*; it must be .* shape \(4611686018427387905",
        ),
    ],
)
def test_an_array_with_an_impossible_value_is_named(tmp_path, name, position, value, message):
    array = ARRAYS[name].copy()
    array[position] = value
    with pytest.raises(FormatError, match=rf"edited\.safetensors: .*{message}"):
        load_edited(tmp_path, arrays=ARRAYS | {name: array})


def test_coordinates_that_cannot_be_undone_are_refused(tmp_path):
    full = np.array([np.diag(row) for row in ARRAYS["covariances"]])
    second = np.array([[np.diag(row) for row in rows] for rows in ARRAYS["second"]])
    arrays = ARRAYS | {"covariances": full, "second": second, "transform": np.eye(4)}
    arrays["cohort_second"] = np.array([[np.diag(row) for row in rows] for rows in ARRAYS["cohort_second"]])
    header = HEADER | {"covariance_type": "full", "calibration": None}
    assert load_edited(tmp_path, header, arrays).background.ubm.covariance_type == "full"
    for transform in (np.zeros((4, 4)), np.ones((4, 4))):
        with pytest.raises(FormatError, match="array `transform` cannot be undone"):
            load_edited(tmp_path, header, arrays | {"transform": transform})
