"""Code compiled when it is loaded, by numba, and kept on disk.

Loading a file of kernels compiles or loads every kernel in it, so no worker thread ever waits for the compiler.
"""

import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from speechgmm.errors import SpeechGMMWarning

# Everything of fastmath but the freedom to reorder sums: every bit is written down in the loops.
FAST = {"nnan", "ninf", "nsz", "arcp", "contract"}
OPTIONS = {"nogil": True, "fastmath": FAST, "error_model": "numpy"}
VECTOR32, VECTOR64 = types.float32[::1], types.float64[::1]
MATRIX32, MATRIX64 = types.float32[:, ::1], types.float64[:, ::1]

_cacheable = True


def compiled(*signatures: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile for the given signatures now; keep the result on disk where a folder for it can be written."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        global _cacheable
        try:
            if _cacheable:
                return _compile_and_keep(function, signatures)
        except (RuntimeError, OSError, AttributeError) as error:  # the last: another numba inside
            _cacheable = False  # one warning is enough
            warnings.warn(
                f"compiled code cannot be kept ({error}); it is compiled anew in every process. "
                "Set NUMBA_CACHE_DIR to a folder that can be written.",
                SpeechGMMWarning,
                stacklevel=2,
            )
        return njit(list(signatures), **OPTIONS)(function)  # type: ignore[no-any-return]

    return decorate


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """A part of kernels, compiled into each of them."""
    return njit(inline="always", **OPTIONS)(function)  # type: ignore[no-any-return]


def _compile_and_keep(function: Callable[..., Any], signatures: tuple[Any, ...]) -> Callable[..., Any]:
    """Compile, or load what was kept, if no source of compiled code has changed since."""
    dispatcher = njit(cache=True, **OPTIONS)(function)
    # numba itself looks only at the function's own file, but kernels call one another across files.
    dispatcher._cache._cache_file._source_stamp = SOURCES
    for signature in signatures:
        dispatcher.compile(signature)
    dispatcher.disable_compile()
    return dispatcher  # type: ignore[no-any-return]


def _digest_of_sources() -> str:
    """A digest of all files that compiled code is made of."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        if path.stem.startswith(("kernels", "terms", "lanes", "compiled")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _bits(typing_context: Any, value: Any) -> Any:
    """The bits of a float32 as an int32: a register bit-cast, so that loops around it still vectorise."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.int32(types.float32), generate


def _from_bits(typing_context: Any, bits: Any) -> Any:
    """The float32 with the given bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


SOURCES = _digest_of_sources()
bits_of, float32_from_bits = intrinsic(_bits), intrinsic(_from_bits)


def _log(value: Any) -> Any:
    """The natural logarithm of a positive, normal float32, to 1e-7 relative or 6e-8 absolute."""
    bits = bits_of(value)
    # Split into 2**exponent times a part in [sqrt(1/2), sqrt(2)); 0x3504f3 are the fraction bits of sqrt(2).
    exponent = np.int32((bits - np.int32(0x3F3504F3)) >> np.int32(23))
    part = float32_from_bits(np.int32(bits - np.int32(exponent << np.int32(23)))) - np.float32(1.0)
    # log(1 + x) = x - x²/2 + x³ p(x): p is the minimax polynomial over that interval, with an error of 6e-9.
    power = np.float32(-7.634429908e-2)
    power = power * part + np.float32(0.1276155036)
    power = power * part + np.float32(-0.1316019505)
    power = power * part + np.float32(0.1420176247)
    power = power * part + np.float32(-0.1662335648)
    power = power * part + np.float32(0.2000122667)
    power = power * part + np.float32(-0.2500082106)
    power = power * part + np.float32(0.3333333171)
    square = part * part
    correction = power * part * square - np.float32(0.5) * square
    return np.float32(exponent) * np.float32(0.693147180559945) + (part + correction)


log = inlined(_log)
