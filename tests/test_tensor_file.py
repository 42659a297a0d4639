"""tensor_file: what is written is what is read, and what readers of fields and arrays refuse."""

import numpy as np
import pytest
import safetensors.numpy

from speechgmm.errors import FormatError, InputError
from speechgmm.tensor_file import (
    array_of,
    number_of,
    read_tensor_file,
    read_tensors,
    require_names,
    texts_field,
    typed_field,
    write_tensor_file,
)

HEADER = {"kind": "a kind", "format": 2, "record": {"name": "zoë"}}
ARRAYS = {
    "empty": np.empty((0, 3)),
    "numbers": np.arange(6.0).reshape(2, 3),
    "flags": np.array([True, False]),
    "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
}


@pytest.mark.parametrize("checksum", [True, False])
def test_a_round_trip(tmp_path, checksum):
    path = tmp_path / "file"
    write_tensor_file(path, HEADER, ARRAYS, "test", checksum)
    header, arrays = read_tensor_file(path, "a kind", 2, "test", checksum)
    assert header == HEADER and arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array, strict=True)
    write_tensor_file(tmp_path / "again", dict(reversed(HEADER.items())), ARRAYS, "test", checksum)
    assert path.read_bytes() == (tmp_path / "again").read_bytes()


@pytest.mark.parametrize(
    "changes",
    [
        {"numbers": ARRAYS["numbers"] + 1},
        {"numbers": ARRAYS["numbers"].reshape(3, 2)},
        {"numbers": ARRAYS["numbers"].view(np.int64)},
        {"more": np.ones(1)},
    ],
    ids=["value", "shape", "type", "another"],
)
def test_the_checksum_is_of_values_shapes_types_and_names(tmp_path, changes):
    write_tensor_file(tmp_path / "file", HEADER, ARRAYS, "test", checksum=True)
    text, arrays = read_tensors(tmp_path / "file")
    for given, name in ((arrays | changes, "changed"), (arrays, "same")):
        (tmp_path / name).write_bytes(safetensors.numpy.save(given, {"speechgmm": text}))
    assert read_tensor_file(tmp_path / "same", "a kind", 2, "test", checksum=True)[0] == HEADER
    with pytest.raises(FormatError, match="changed: the content does not agree with its checksum"):
        read_tensor_file(tmp_path / "changed", "a kind", 2, "test", checksum=True)


def test_a_file_without_header_has_none(tmp_path):
    (tmp_path / "file").write_bytes(safetensors.numpy.save({"a": np.ones(2)}))
    text, arrays = read_tensors(tmp_path / "file")
    assert text is None and list(arrays) == ["a"]
    with pytest.raises(FormatError, match=r"not a speechgmm test \(no metadata field `speechgmm`\)"):
        read_tensor_file(tmp_path / "file", "a kind", 1, "test")


@pytest.mark.parametrize("value", [np.float32(1), float("nan"), "\udce4", {1, 2}])
def test_what_json_cannot_hold_is_refused_before_writing(tmp_path, value):
    with pytest.raises(InputError, match="test `record` cannot be written as JSON"):
        write_tensor_file(tmp_path / "file", {"record": value}, ARRAYS, "test")
    assert not (tmp_path / "file").exists()


def test_names():
    require_names(["b", "a"], {"a", "b"})
    with pytest.raises(InputError, match=r"field `inner\.b` is missing"):
        require_names(["a"], {"a", "b"}, of="inner.")
    with pytest.raises(InputError, match="array `c` is unknown"):
        require_names(["a", "c"], {"a"}, "array")


def test_fields():
    table = {"text": "a", "texts": ["a", "b"], "mixed": ["a", 1]}
    assert typed_field(table, "text", str) == "a" and texts_field(table, "texts") == ["a", "b"]
    with pytest.raises(InputError, match=r"field `row\.text` is 'a'; it must be of type list"):
        texts_field(table, "text", "row.")
    with pytest.raises(InputError, match="field `mixed` must be a list of texts"):
        texts_field(table, "mixed")


@pytest.mark.parametrize("value", [True, None, "1", float("nan"), float("inf"), 10**400, 2e300])
def test_numbers(value):
    assert number_of("n", 3) == 3.0 and isinstance(number_of("n", 3), float)
    with pytest.raises(InputError, match=r"field `n` holds .{1,80}; finite numbers are needed"):
        number_of("n", value)


@pytest.mark.parametrize("shape", [(2,), (3, 3), (2, 3, 1), (None, 4), ()])
def test_arrays(shape):
    for fitting in ((2, 3), (None, 3), (2, None)):
        assert array_of(ARRAYS, "numbers", fitting, np.float64) is ARRAYS["numbers"]
    with pytest.raises(
        InputError, match=r"array `numbers` is float64 of shape \(2, 3\); it must be float64 of"
    ):
        array_of(ARRAYS, "numbers", shape, np.float64)
    with pytest.raises(InputError, match=r"it must be float32 of shape \(any, 3\)"):
        array_of(ARRAYS, "numbers", (None, 3), np.float32)
