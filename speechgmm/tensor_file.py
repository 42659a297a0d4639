"""Safetensors files of arrays and one JSON header: safe to load, and checked claim by claim.

What reads a field raises `InputError` without the name of the file; whoever opened it adds that, as a `FormatError`.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechgmm.errors import FormatError, InputError
from speechgmm.files import canonical_json, write_atomically

# The one metadata key: safetensors orders several keys differently from process to process.
KEY = "speechgmm"
CHECKSUM = "checksum"
# Kinds that commands tell apart before they load what reads them.
CLASSIFIER, SPEAKERS, PHONES = "speechgmm classifier", "speechgmm speakers", "speechgmm phones"
Tensors = Mapping[str, NDArray[Any]]


def write_tensor_file(
    path: str | Path, header: Mapping[str, Any], tensors: Tensors, what: str, checksum: bool = False
) -> None:
    """Write header and arrays, whole or not at all; equal content gives equal bytes.

    Parameters
    ----------
    path : str or Path
    header : mapping
        JSON values; `record` is the only field that people fill as they like.
    tensors : mapping
    what : str
        The kind of file, for the message.
    checksum : bool
        Whether to add the SHA-256 of all the rest, as the array `checksum`.

    Raises
    ------
    InputError
        If the place cannot be written, or `record` holds what JSON cannot.
    """
    from safetensors.numpy import save

    try:
        text = canonical_json(header)
        text.encode()  # what came from an odd file name may have no UTF-8
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} `record` cannot be written as JSON ({error})") from error
    arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    if checksum:
        arrays[CHECKSUM] = _checksum(text, arrays)
    write_atomically(path, save(arrays, {KEY: text}))


def read_tensors(path: Path) -> tuple[str | None, dict[str, NDArray[Any]]]:
    """The text of the header, None where there is none, and the arrays.

    Raises
    ------
    FormatError
        If the file is no safetensors file, not whole, or holds types that NumPy lacks.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            text = (file.metadata() or {}).get(KEY)
            return text, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, TypeError, AttributeError) as error:  # the last two: types NumPy lacks
        raise FormatError(
            f"{path}: not a whole safetensors file ({error}); truncated, or of another kind?"
        ) from error


def kind_of(path: str | Path) -> str | None:
    """The field `kind` of a file's header; None where there is no file, or none with such a header."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            header = json.loads((file.metadata() or {}).get(KEY, "null"))
    except (SafetensorError, OSError, ValueError, RecursionError):
        return None
    kind = header.get("kind") if isinstance(header, dict) else None
    return kind if isinstance(kind, str) else None


def read_tensor_file(
    path: Path, kind: str, newest: int, what: str, checksum: bool = False
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Header and arrays of a file that is of the right kind and of a version that can be read.

    Parameters
    ----------
    path : Path
    kind : str
        What the field `kind` must be.
    newest : int
        The highest `format` that can be read.
    what : str
        The kind of file, for messages.
    checksum : bool
        Whether to compare it with its array `checksum`, and leave that out.

    Raises
    ------
    InputError
        If there is no such file.
    FormatError
        If it is damaged, of another kind or of a newer version.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such {what} file")
    text, tensors = read_tensors(path)
    if text is None:
        raise FormatError(
            f"{path}: a safetensors file, but not a speechgmm {what} (no metadata field `{KEY}`)"
        )
    header = _header(path, text, kind, newest)
    if checksum:
        found = tensors.pop(CHECKSUM, None)
        if not np.array_equal(found, _checksum(text, tensors)):  # type: ignore[arg-type]
            raise FormatError(
                f"{path}: the content does not agree with its checksum (damaged, or edited by hand?)"
            )
    return header, tensors


def _header(path: Path, text: str, kind: str, newest: int) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: metadata field `{KEY}` is not JSON ({error})") from error
    if not isinstance(header, dict) or header.get("kind") != kind:
        raise FormatError(f"{path}: field `kind` must be {kind!r}; this is another kind of file")
    version = header.get("format")
    if type(version) is not int or version < 1:
        raise FormatError(f"{path}: field `format` is {version!r}; it must be a whole number from 1")
    if version > newest:
        raise FormatError(
            f"{path}: field `format` is {version}; this speechgmm reads up to {newest} (install a newer speechgmm)"
        )
    return header


def _checksum(text: str, tensors: Tensors) -> NDArray[np.uint8]:
    """SHA-256 of a header and of names, types, shapes and bytes of arrays."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        array = tensors[name]
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(np.ravel(array).view(np.uint8).data)
    return np.frombuffer(digest.digest(), np.uint8)


def require_names(found: Iterable[str], expected: Iterable[str], what: str = "field", of: str = "") -> None:
    """Raise `InputError` naming the first field or array that is missing or unknown; `of` is what they are part of."""
    names = set(expected)
    for name in sorted(names ^ set(found)):
        raise InputError(f"{what} `{of}{name}` is {'missing' if name in names else 'unknown'}")


def typed_field(table: Mapping[str, Any], name: str, kind: type, of: str = "") -> Any:
    """A field that must be of one type."""
    value = table[name]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise InputError(f"field `{of}{name}` is {value!r:.80}; it must be of type {kind.__name__}")
    return value


def texts_field(table: Mapping[str, Any], name: str, of: str = "") -> list[str]:
    """A field that must be a list of texts."""
    values = typed_field(table, name, list, of)
    if not all(isinstance(value, str) for value in values):
        raise InputError(f"field `{of}{name}` must be a list of texts")
    return list(values)


def number_of(name: str, value: Any) -> float:
    """A number that float64 holds; JSON has whole numbers beyond that, and NaN in Python's dialect."""
    if type(value) not in (int, float) or not abs(value) <= 1e300:
        raise InputError(f"field `{name}` holds {value!r:.80}; finite numbers are needed")
    return float(value)


def array_of(tensors: Tensors, name: str, shape: tuple[int | None, ...], dtype: type) -> NDArray[Any]:
    """An array that must have a type and a shape; None stands for any length."""
    array = tensors[name]
    fits = array.ndim == len(shape) and all(
        wanted is None or length == wanted for length, wanted in zip(array.shape, shape, strict=True)
    )
    if array.dtype != dtype or not fits:
        wanted = tuple("any" if length is None else length for length in shape)
        raise InputError(
            f"array `{name}` is {array.dtype} of shape {array.shape}; it must be {np.dtype(dtype)} of shape "
            f"{str(wanted).replace(repr('any'), 'any')}"
        )
    return array
