"""The file of a phone recogniser: format 1 to the bit, and every way a file can be wrong.

The golden file `golden/phones_v1.safetensors` holds the values written out below. It was made with

    PYTHONPATH=. python -c "from tests.test_recogniser_file import *; write(GOLDEN, HEADER, ARRAYS)"

by safetensors and hashlib alone, not by the code under test. It stays as it is: a change of format adds a file.
"""

import copy
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy

from speechgmm.em.mixture import Mixture
from speechgmm.errors import FormatError, InputError
from speechgmm.features.config import FeatureConfig
from speechgmm.phones.front_end import FrontEnd
from speechgmm.phones.graph import transcript_of
from speechgmm.phones.hmm import HmmSet
from speechgmm.phones.language_model import NgramLevel, NgramModel
from speechgmm.phones.network import LoopWeights
from speechgmm.phones.recogniser import PhoneRecogniser
from speechgmm.phones.recogniser_file import FORMAT
from speechgmm.phones.transforms import LinearTransform
from tests import naive_hmm
from tests.test_model_file import GOLDEN as GOLDEN_MODEL
from tests.test_model_file import HUGE, VALUES
from tests.test_model_file_v3 import HEADER as MODEL_HEADER
from tests.test_verification_speaker_store_file import contents, write

GOLDEN = GOLDEN_MODEL.with_name("phones_v1.safetensors")
HEADER = {
    "kind": "speechgmm phones",
    "format": 1,
    "units": ["AA", "ʃ", "SIL"],
    "silence": "SIL",
    # Each another than its default, but for the one that phones cannot have; four values a frame.
    "features": MODEL_HEADER["features"] | {"speech_activity": "none"},
    "front_end": {"n_joined": 2, "context": 1},
    "vocabulary": ["SIL", "AA", "ʃ"],
    "loop_weights": {"language_model": 1.5, "insertion": -0.25},
    "record": {"version": "0.4.0", "hmm": {"seed": 7}, "utterances": 3},
}
# Two states of AA, the second shared with the last of ʃ; components of four mixtures.
ARRAYS = {
    "n_components": np.array([2, 1, 1, 1], np.int64),
    "weights": np.array([0.25, 0.75, 1.0, 1.0, 1.0]),
    "means": np.array([[4.0, 0.0], [5.0, 1 / 3], [4.0, 4.0], [-4.0, 4.0], [0.0, -4.0]]),
    "variances": np.array([[1.0, 0.5], [2.0, 1.0], [0.75, 1.0], [1.0, 1e-2], [1.5, 3.0]]),
    "stays": np.array([0.5, 0.7, 0.25, 0.9]),
    "states": np.array([0, 1, 2, 1, 3], np.int64),
    "n_states": np.array([2, 2, 1], np.int64),
    # Of three frames of two values: half of the neighbours, all of the frame itself.
    "transform": np.array([[0.5, 0.0, 1.0, 0.0, 0.5, 0.0], [0.0, 0.5, 0.0, 1.0, 0.0, 0.5]]),
    "offset": np.array([0.5, -0.25]),
    "ngram_ngrams_1": np.array([[0], [1], [2], [3]], np.int64),
    "ngram_log_probabilities_1": np.log([0.25, 0.375, 0.25, 0.125]),
    "ngram_backoffs_1": np.log([0.5, 0.75, 1.0, 0.25]),
    "ngram_ngrams_2": np.array([[0, 1], [1, 3], [3, 0]], np.int64),
    "ngram_log_probabilities_2": np.log([0.6875, 0.34375, 0.8125]),
    "ngram_backoffs_2": np.zeros(3),
}
# Frames of four values, the last two of which the front end leaves aside: SIL, AA, ʃ.
FRAMES = np.array(
    [[0.0, -2.0, 9.0, 9.0]] * 4 + [[2.0, 0.0, 9.0, 9.0]] * 3 + [[2.0, 2.0, 9.0, 9.0]] * 4
    + [[-2.0, 2.0, 9.0, 9.0]] * 4 + [[2.0, 2.0, 9.0, 9.0]] * 5,
    np.float32,
)  # fmt: skip
# What is recognised in them, and the edges in frames.
PHONES = [("SIL", 0, 4), ("AA", 4, 11), ("ʃ", 11, 20)]


def hand_made():
    """The recogniser of the golden file, built here."""
    parts = [ARRAYS[name] for name in ("weights", "means", "variances")]
    mixtures = [
        Mixture(*(part[first:stop] for part in parts)) for first, stop in ((0, 2), (2, 3), (3, 4), (4, 5))
    ]
    levels = [
        NgramLevel(
            *(ARRAYS[f"ngram_{name}_{length}"] for name in ("ngrams", "log_probabilities", "backoffs"))
        )
        for length in (1, 2)
    ]
    return PhoneRecogniser(
        features=FeatureConfig(**HEADER["features"]),
        front_end=FrontEnd(2, 1, LinearTransform(ARRAYS["transform"], ARRAYS["offset"])),
        hmms=HmmSet(("AA", "ʃ", "SIL"), ((0, 1), (2, 1), (3,)), tuple(mixtures), ARRAYS["stays"]),
        language_model=NgramModel(("SIL", "AA", "ʃ"), tuple(levels)),
        weights=LoopWeights(1.5, -0.25),
        silence="SIL",
        record=HEADER["record"],
    )


def edited(name, value):
    """The header with one field changed; a dotted name reaches into a field."""
    header = copy.deepcopy(HEADER)
    *path, last = name.split(".")
    inner = header
    for step in path:
        inner = inner[step]
    inner[last] = value
    return header


def load_edited(tmp_path, header=HEADER, arrays=ARRAYS, **options):
    path = tmp_path / "edited.safetensors"
    write(path, header, arrays, **options)
    return PhoneRecogniser.load(path)


def assert_holds(path, header=HEADER, arrays=ARRAYS):
    found, stored = contents(path)
    assert found == header and stored.keys() == arrays.keys()
    for name, array in stored.items():
        np.testing.assert_array_equal(array, arrays[name], strict=True)


def assert_same(left, right):
    assert (left.features, left.weights, left.silence, left.record) == (
        right.features,
        right.weights,
        right.silence,
        right.record,
    )
    assert (left.front_end.n_joined, left.front_end.context) == (
        right.front_end.n_joined,
        right.front_end.context,
    )
    assert left.front_end.transform == right.front_end.transform
    assert (left.hmms.units, left.hmms.states, left.hmms.mixtures) == (
        right.hmms.units,
        right.hmms.states,
        right.hmms.mixtures,
    )
    np.testing.assert_array_equal(left.hmms.stays, right.hmms.stays)
    assert left.language_model.vocabulary == right.language_model.vocabulary
    np.testing.assert_array_equal(left.language_model.table(), right.language_model.table())


# --- what is written is what is read


def test_the_released_format_loads_with_the_right_values():
    assert FORMAT == 1, "a new format: keep this file and its test, and add a golden file of the new one"
    assert_same(PhoneRecogniser.load(GOLDEN), hand_made())


def test_the_golden_file_is_small_and_holds_what_this_file_says(tmp_path):
    assert GOLDEN.stat().st_size < 5000
    write(tmp_path / "made", HEADER, ARRAYS)
    for path in (GOLDEN, tmp_path / "made"):
        assert_holds(path)
    defaults = FeatureConfig().to_dict()
    same = [name for name, value in HEADER["features"].items() if defaults[name] == value]
    assert same == ["speech_activity"]


def test_the_golden_recogniser_finds_the_recorded_phones():
    recogniser = PhoneRecogniser.load(GOLDEN)
    found = recogniser.recognise(FRAMES)
    edge = recogniser.features.edge_time
    assert [(one.label, one.start, one.end) for one in found.phones] == [
        (phone, edge(first), edge(stop)) for phone, first, stop in PHONES
    ]
    # Windows of 30 ms that lie inside, every 12.5 ms: the frame before the edge is the fourth.
    assert found.phones[0].end == pytest.approx(3.5 * 0.0125 + 0.015)
    # Worked out from the written arrays alone: frames joined by hand, then a search in plain loops.
    values = np.concatenate([FRAMES[:1], FRAMES, FRAMES[-1:]])[:, :2].astype(np.float64)
    turned = 0.5 * values[:-2] + values[1:-1] + 0.5 * values[2:] + [0.5, -0.25]
    made = hand_made()
    scores = naive_hmm.emissions(made.hmms, turned)
    said, score = naive_hmm.decoded(made.hmms, made.language_model, scores, 1.5, -0.25)
    assert list(said) == PHONES
    # Scores of 20 frames, tens of nats each, in float32.
    assert found.score == pytest.approx(score, abs=1e-3)


def test_the_golden_recogniser_is_written_as_the_golden_file_holds_it(tmp_path):
    for number, recogniser in enumerate((hand_made(), PhoneRecogniser.load(GOLDEN))):
        recogniser.save(tmp_path / str(number))
        assert_holds(tmp_path / str(number))
    PhoneRecogniser.load(tmp_path / "0").save(tmp_path / "again")
    assert (tmp_path / "0").read_bytes() == (tmp_path / "1").read_bytes() == (tmp_path / "again").read_bytes()


def test_answers_after_a_round_trip_are_the_same_bits(tmp_path):
    before = hand_made()
    before.save(tmp_path / "file")
    after = PhoneRecogniser.load(tmp_path / "file")
    rng = np.random.default_rng(0)
    for _ in range(5):
        frames = (3 * rng.standard_normal((40, 4))).astype(np.float32)
        assert after.recognise(frames, confidence=True) == before.recognise(frames, confidence=True)
        steps = transcript_of(["SIL", "AA", "ʃ", "ʃ", "SIL"])
        assert after.align(frames, steps) == before.align(frames, steps)


def test_a_recogniser_without_a_front_end(tmp_path):
    plain = replace(
        hand_made(),
        features=FeatureConfig(n_coefficients=2, delta_orders=0),
        front_end=FrontEnd(),
        language_model=NgramModel(hand_made().language_model.vocabulary, (flat_level(3),)),
    )
    plain.save(tmp_path / "file")
    header, arrays = contents(tmp_path / "file")
    assert header["front_end"] == {"n_joined": 0, "context": 0}
    assert not {"transform", "offset", "ngram_ngrams_2"} & set(arrays)
    assert_same(PhoneRecogniser.load(tmp_path / "file"), plain)


def flat_level(n_phones):
    size = n_phones + 1
    return NgramLevel(np.arange(size)[:, None], np.full(size, -math.log(size)), np.zeros(size))


def test_spherical_variances_are_written_as_diagonal_ones(tmp_path):
    hmms = hand_made().hmms
    round_ones = [
        Mixture(one.weights, one.means, np.full(one.n_components, 0.5), "spherical") for one in hmms.mixtures
    ]
    replace(hand_made(), hmms=hmms.with_mixtures(round_ones)).save(tmp_path / "file")
    loaded = PhoneRecogniser.load(tmp_path / "file").hmms
    np.testing.assert_array_equal(loaded.mixtures[0].covariances, np.full((2, 2), 0.5))


def test_what_cannot_be_written(tmp_path):
    full = [one.with_type("full") for one in hand_made().hmms.mixtures]
    with pytest.raises(InputError, match="a mixture of full covariances is none of diag ones"):
        replace(hand_made(), hmms=hand_made().hmms.with_mixtures(full)).save(tmp_path / "file")
    with pytest.raises(InputError, match="recogniser `record` cannot be written as JSON"):
        replace(hand_made(), record={"beam": math.inf}).save(tmp_path / "file")
    (tmp_path / "text").write_text("")
    with pytest.raises(InputError, match="text"):
        hand_made().save(tmp_path / "text" / "file")
    assert not (tmp_path / "file").exists()


# --- files that are no recogniser, or no longer


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"nothing: there is no such recogniser file"):
        PhoneRecogniser.load(tmp_path / "nothing")


def test_every_damaged_byte_is_noticed(tmp_path):
    whole = GOLDEN.read_bytes()
    path = tmp_path / "damaged"
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << (position % 8)
        path.write_bytes(damaged)
        with pytest.raises(FormatError, match="damaged: "):
            PhoneRecogniser.load(path)


def test_every_bit_of_some_bytes(tmp_path):
    whole = GOLDEN.read_bytes()
    path = tmp_path / "damaged"
    for position, bit in itertools.product(range(5, len(whole), 61), range(8)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << bit
        path.write_bytes(damaged)
        with pytest.raises(FormatError, match="damaged: "):
            PhoneRecogniser.load(path)


def test_a_file_cut_short_is_refused(tmp_path):
    whole = GOLDEN.read_bytes()
    path = tmp_path / "part"
    for length in (*range(12), 500, *range(1000, len(whole), 97), len(whole) - 8, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(FormatError, match=r"part: not a whole safetensors file .*truncated"):
            PhoneRecogniser.load(path)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FormatError, match=r"field `kind` must be 'speechgmm phones'; this is another kind"):
        PhoneRecogniser.load(GOLDEN.with_name("speakers_v1.safetensors"))
    (tmp_path / "other").write_bytes(safetensors.numpy.save({"weights": np.ones(3)}))
    with pytest.raises(FormatError, match="a safetensors file, but not a speechgmm recogniser"):
        PhoneRecogniser.load(tmp_path / "other")
    (tmp_path / "text").write_text("SIL 0.5\n" * 20)
    with pytest.raises(FormatError, match="text: not a whole safetensors file"):
        PhoneRecogniser.load(tmp_path / "text")


def test_a_file_without_checksum_is_refused(tmp_path):
    with pytest.raises(FormatError, match="does not agree with its checksum"):
        load_edited(tmp_path, checksum=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "metadata field `speechgmm` is not JSON"),
        ("[1, 2]", "field `kind` must be 'speechgmm phones'"),
        ("[" * 100_000, "is not JSON"),
    ],
    ids=lambda value: value[:20],
)
def test_a_header_that_is_not_one_is_refused(tmp_path, text, message):
    with pytest.raises(FormatError, match=message):
        load_edited(tmp_path, text)


# --- the header, field by field; checksums are right, as a hostile writer would have them

TABLES = {"": HEADER, "front_end": HEADER["front_end"], "loop_weights": HEADER["loop_weights"]}
EVERY_FIELD = [f"{table}.{name}".strip(".") for table, fields in TABLES.items() for name in fields]


@pytest.mark.parametrize("name", EVERY_FIELD)
def test_a_missing_field_is_named(tmp_path, name):
    table, _, last = name.rpartition(".")
    rest = {key: value for key, value in TABLES[table].items() if key != last}
    with pytest.raises(
        FormatError, match=rf"edited\.safetensors: field `{name}` (is missing|must be|is None)"
    ):
        load_edited(tmp_path, edited(table, rest) if table else rest)


@pytest.mark.parametrize("table", [*TABLES, "features"])
def test_an_unknown_field_is_named(tmp_path, table):
    name = f"{table}.colour".strip(".")
    message = "unknown feature setting 'colour'" if table == "features" else f"field `{name}` is unknown"
    with pytest.raises(FormatError, match=rf"edited\.safetensors: {message}"):
        load_edited(tmp_path, edited(name, "blue"))


ACCEPTED = {
    "record": {"a table"},
    "loop_weights.language_model": {"a number"},
    "loop_weights.insertion": {"a number"},
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
    with pytest.raises(
        FormatError, match=r"edited\.safetensors: .*(`|silence phone|feature setting|front end)"
    ):
        load_edited(tmp_path, edited(name, value))


@pytest.mark.parametrize("name", sorted(HEADER["features"]))
def test_a_feature_setting_of_the_wrong_type_is_named(tmp_path, name):
    for value in (None, [], {"a": 1}, "x" if not isinstance(HEADER["features"][name], str) else 3):
        with pytest.raises(FormatError, match=rf"edited\.safetensors: feature setting `{name}` is "):
            load_edited(tmp_path, edited(f"features.{name}", value))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("format", 2, r"`format` is 2; this speechgmm reads up to 1 \(install a newer speechgmm\)"),
        ("format", 0, "field `format` is 0; it must be a whole number from 1"),
        ("units", [], r"array `n_states` is int64 of shape \(3,\); it must be int64 of shape \(0,\)"),
        ("units", ["AA", "AA", "SIL"], "the units of HMMs must be one or more distinct names"),
        ("units", ["AA", "", "SIL"], "the units of HMMs must be one or more distinct names"),
        ("units", ["AA", 1, "SIL"], "field `units` must be a list of texts"),
        (
            "units",
            ["AA", "ʃ"],
            r"array `n_states` is int64 of shape \(3,\); it must be int64 of shape \(2,\)",
        ),
        ("units", ["AA", "s", "SIL"], "the language model and the HMMs must be of the same phones"),
        ("silence", "sil", "there is no HMM of the silence phone 'sil'"),
        ("silence", 3, "field `silence` is 3; it must be of type str"),
        ("vocabulary", ["SIL", "AA", "AA"], "the vocabulary must have distinct phones; 'AA'"),
        ("vocabulary", ["SIL", "AA", "<s>"], "the vocabulary has '<s>', which language models use"),
        ("vocabulary", ["SIL", "AA", "a b"], "phone 'a b' of the vocabulary must be text without blanks"),
        ("vocabulary", ["SIL", "AA"], "`ngrams` of the 1-grams has numbers out of the range 0 to 2"),
        ("vocabulary", ["SIL", "AA", "ʃ", "T"], "4 unigrams; there must be one a phone and one of the end"),
        ("features.window", "kaiser", "feature setting `window` is 'kaiser'"),
        (
            "features.speech_activity",
            "energy",
            "phones need every frame in its place; switch `speech_activity`",
        ),
        (
            "features",
            {"n_coefficients": 1, "delta_orders": 0},
            "frames have 1 values; the front end joins 2 of each",
        ),
        ("features.preset", [], r"there is no feature preset \[\]"),
        ("features.n_filters", HUGE, "feature setting `n_filters` is 1000"),
        ("front_end.n_joined", 3, "front end of 3 values in 1 frames to either side gives 9 values"),
        ("front_end.context", 2, "front end of 2 values in 2 frames to either side gives 10 values"),
        ("front_end.context", -2, "front end of 2 values in -2 frames to either side gives -6 values"),
        ("front_end.n_joined", HUGE, "front end of 1000"),
        ("front_end.n_joined", 2.0, r"field `front_end\.n_joined` is 2\.0; it must be of type int"),
        ("loop_weights.language_model", -1, r"the weight of the language model is -1\.0"),
        (
            "loop_weights.language_model",
            float("nan"),
            r"field `loop_weights\.language_model` holds nan; finite",
        ),
        ("loop_weights.insertion", float("-inf"), r"field `loop_weights\.insertion` holds -inf; finite"),
        ("loop_weights.insertion", HUGE, r"field `loop_weights\.insertion` holds 1000"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_field_with_a_wrong_value_is_named(tmp_path, name, value, message):
    with pytest.raises(FormatError, match=rf"edited\.safetensors: .*({message})"):
        load_edited(tmp_path, edited(name, value))


# --- the arrays, one by one


@pytest.mark.parametrize("name", ARRAYS)
def test_a_missing_array_is_named(tmp_path, name):
    message = f"array `{name}` is missing"
    if name.startswith("ngram_"):
        message = "an n-gram model has the arrays ngrams, log_probabilities, backoffs of each length"
    with pytest.raises(FormatError, match=rf"edited\.safetensors: {message}"):
        load_edited(tmp_path, arrays={key: value for key, value in ARRAYS.items() if key != name})


@pytest.mark.parametrize("name", ["precisions", "scale", "Weights"])
def test_an_unknown_array_is_named(tmp_path, name):
    with pytest.raises(FormatError, match=f"array `{name}` is unknown"):
        load_edited(tmp_path, arrays=ARRAYS | {name: np.ones(3)})


@pytest.mark.parametrize("names", [[], ["ngrams_3"], ["ngrams_1", "ngrams_2"]])
def test_a_language_model_of_other_arrays_is_refused(tmp_path, names):
    arrays = {key: value for key, value in ARRAYS.items() if not key.startswith("ngram_")}
    arrays |= {f"ngram_{name}": np.ones((2, 1), np.int64) for name in names}
    with pytest.raises(
        FormatError, match=r"edited\.safetensors: an n-gram model (has the arrays|must have unigrams)"
    ):
        load_edited(tmp_path, arrays=arrays)


def test_a_transform_that_nobody_asked_for_is_refused(tmp_path):
    header = edited("front_end", {"n_joined": 0, "context": 0})
    with pytest.raises(FormatError, match="front end of 0 values in 0 frames to either side gives 0 values"):
        load_edited(tmp_path, header)
    arrays = {key: value for key, value in ARRAYS.items() if key not in ("transform", "offset")}
    for given in (HEADER, edited("front_end", {"n_joined": 0, "context": 7})):
        with pytest.raises(
            FormatError, match=r"a front end without a transform joins nothing; it has [02] values"
        ):
            load_edited(tmp_path, given, arrays)


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("dtype", ["float16", "uint8", "bool"])
def test_an_array_of_another_type_is_named(tmp_path, name, dtype):
    bare = name.removeprefix("ngram_").rpartition("_")[0] if name.startswith("ngram_") else name
    with pytest.raises(FormatError, match=rf"edited\.safetensors: .*`{bare}`"):
        load_edited(tmp_path, arrays=ARRAYS | {name: ARRAYS[name].astype(dtype)})


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_of_another_shape_is_refused(tmp_path, name):
    for array in (
        ARRAYS[name][:-1],
        ARRAYS[name][..., None],
        ARRAYS[name][..., :0],
        np.ravel(ARRAYS[name])[0],
    ):
        with pytest.raises(FormatError, match=r"edited\.safetensors: .*(array|mixture|`|unigrams|front end)"):
            load_edited(tmp_path, arrays=ARRAYS | {name: np.array(array)})


@pytest.mark.parametrize("name", [name for name, array in ARRAYS.items() if array.dtype == np.float64])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_array_that_is_not_finite_is_refused(tmp_path, name, value):
    array = ARRAYS[name].copy()
    array[(-1,) * array.ndim] = value
    with pytest.raises(
        FormatError, match=r"edited\.safetensors: .*(not finite|finite float64|probability of staying)"
    ):
        load_edited(tmp_path, arrays=ARRAYS | {name: array})


@pytest.mark.parametrize(
    ("name", "position", "value", "message"),
    [
        ("weights", (0,), 0.26, "mixture `weights` sum to 1.01"),
        ("variances", (0, 0), -4.0, r"mixture `covariances` has the value -4\.0; it must be positive"),
        ("variances", (0, 0), 0.0, r"mixture `covariances` has the value 0\.0; it must be positive"),
        ("stays", (0,), 1.0, "HMMs need one probability of staying, between 0 and 1, for each mixture"),
        ("stays", (3,), 0.0, "HMMs need one probability of staying, between 0 and 1, for each mixture"),
        ("states", (0,), 4, "states of HMMs name mixtures 1 to 4; there are 4"),
        ("states", (0,), -1, "states of HMMs name mixtures -1 to 3; there are 4"),
        ("states", (0,), 2**62, "states of HMMs name mixtures 1 to 4611686018427387904; there are 4"),
        ("n_states", (0,), 3, r"array `states` is int64 of shape \(5,\); it must be int64 of shape \(6,\)"),
        ("n_states", (0,), 0, "array `n_states` must hold positive numbers, one at least"),
        ("n_states", (0,), 2**62, "array `n_states` must hold positive numbers"),
        (
            "n_components",
            (0,),
            3,
            r"array `means` is .* \(5, 2\); it must be|array `weights` is .* shape \(6,\)",
        ),
        ("n_components", (1,), 0, "array `n_components` must hold positive numbers, one at least"),
        ("n_components", (1,), -1, "array `n_components` must hold positive numbers, one at least"),
        ("n_components", (1,), 2**62, "array `n_components` must hold positive numbers"),
        ("ngram_ngrams_1", (3, 0), 4, "`ngrams` of the 1-grams has numbers out of the range 0 to 3"),
        ("ngram_ngrams_1", (3, 0), 2, "`ngrams` of the 1-grams are not in ascending order, or not distinct"),
        ("ngram_ngrams_2", (0, 0), -1, "`ngrams` of the 2-grams has numbers out of the range 0 to 3"),
        ("ngram_log_probabilities_2", (0,), 0.1, "`log_probabilities` of the 2-grams has values above 0"),
        ("ngram_backoffs_2", (0,), -1.0, "`backoffs` of the 2-grams must be 0 where no longer n-gram begins"),
    ],
)
def test_an_array_with_an_impossible_value_is_named(tmp_path, name, position, value, message):
    array = ARRAYS[name].copy()
    array[position] = value
    with pytest.raises(FormatError, match=rf"edited\.safetensors: .*({message})"):
        load_edited(tmp_path, arrays=ARRAYS | {name: array})
