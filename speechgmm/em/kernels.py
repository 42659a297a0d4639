"""Compiled inner loops: no checks, no allocation, the interpreter lock released.

They assume finite values (fastmath); their callers see to that. Importing this file loads numba and compiles
or loads every kernel, so no worker thread ever waits for the compiler.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from speechgmm.errors import SpeechGMMWarning

OPTIONS = {"nogil": True, "fastmath": True, "error_model": "numpy"}
# Frames may be read-only, as memory maps are.
FRAMES32 = types.Array(types.float32, 2, "C", readonly=True)
FRAMES64 = types.Array(types.float64, 2, "C", readonly=True)
VECTOR32, VECTOR64, MATRIX32 = types.float32[::1], types.float64[::1], types.float32[:, ::1]

_cacheable = True


def compiled(*signatures: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile for the given signatures now; keep the result on disk where a folder for it can be written."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        global _cacheable
        try:
            if _cacheable:
                return njit(list(signatures), cache=True, **OPTIONS)(function)  # type: ignore[no-any-return]
        except (RuntimeError, OSError) as error:
            _cacheable = False  # one warning is enough
            warnings.warn(
                f"compiled code cannot be kept ({error}); it is compiled anew in every process. "
                "Set NUMBA_CACHE_DIR to a folder that can be written.",
                SpeechGMMWarning,
                stacklevel=2,
            )
        return njit(list(signatures), **OPTIONS)(function)  # type: ignore[no-any-return]

    return decorate


def _float32_from_bits(typing_context: Any, bits: Any) -> Any:
    """The float32 with the given bits: a register bit-cast, so that loops around it still vectorise."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


float32_from_bits = intrinsic(_float32_from_bits)


def _exp2(exponent: Any) -> Any:
    """2 to the power of a float32 <= 0, to 2e-7 relative; below -60 it is 2**-60.

    Such a posterior counts for nothing, but products with a smaller one would be denormal, and those are slow.
    """
    clipped = max(exponent, np.float32(-60.0))
    whole = np.floor(clipped + np.float32(0.5))
    part = clipped - whole
    # Minimax polynomial of 2**x over [-0.5, 0.5] with constant term 1: relative error 9e-8.
    power = np.float32(1.326472567e-3)
    power = power * part + np.float32(9.671513826e-3)
    power = power * part + np.float32(5.550733758e-2)
    power = power * part + np.float32(0.2402224207)
    power = power * part + np.float32(0.6931469776)
    power = power * part + np.float32(1.0)
    return power * float32_from_bits(np.int32((np.int32(whole) + np.int32(127)) << np.int32(23)))


exp2 = njit(inline="always", **OPTIONS)(_exp2)


@compiled(
    types.float32(FRAMES32, VECTOR32, VECTOR32, MATRIX32),
    types.float32(FRAMES64, VECTOR64, VECTOR64, MATRIX32),
)
def expand(frames, origin, inverse_scale, expanded):  # type: ignore[no-untyped-def]
    """Write [x, x², 1] of each frame in the given coordinates; return the largest |x|."""
    n_frames, n_features = frames.shape
    largest = np.float32(0.0)
    for i in range(n_frames):
        # Rows by themselves, and the maximum apart: otherwise the compiler does not vectorise.
        frame = frames[i]
        values = expanded[i, :n_features]
        squares = expanded[i, n_features : 2 * n_features]
        for j in range(n_features):
            value = np.float32((frame[j] - origin[j]) * inverse_scale[j])
            values[j] = value
            squares[j] = value * value
        peak = squares[0]
        for j in range(n_features):
            peak = max(peak, squares[j])
        largest = max(largest, peak)
        expanded[i, 2 * n_features] = np.float32(1.0)
    return np.sqrt(largest)


@compiled("float64(float32[:,::1], float32[:,::1], float32[:,::1])")
def posteriors(log2_densities, expanded, scaled):  # type: ignore[no-untyped-def]
    """Turn log2 densities into unnormalised posteriors in place; return the sum of the log2 likelihoods.

    The division by the sum of each row goes into `scaled`, a copy of `expanded`: it has fewer columns.
    """
    n_frames, n_components = log2_densities.shape
    total = 0.0
    for i in range(n_frames):
        peak = log2_densities[i, 0]
        for k in range(n_components):
            peak = max(peak, log2_densities[i, k])
        mass = np.float32(0.0)
        for k in range(n_components):
            value = exp2(log2_densities[i, k] - peak)
            log2_densities[i, k] = value
            mass += value
        total += np.float64(peak) + np.log2(np.float64(mass))
        share = np.float32(1.0) / mass
        for j in range(expanded.shape[1]):
            scaled[i, j] = expanded[i, j] * share
    return total


@compiled("void(float32[:,:,::1], float64[::1])")
def add_log2_likelihoods(log2_densities, sums):  # type: ignore[no-untyped-def]
    """Add to `sums` (n_classes,) the log2 likelihood of every frame: (n_frames, n_classes, n_components)."""
    n_frames, n_classes, n_components = log2_densities.shape
    for i in range(n_frames):
        for c in range(n_classes):
            peak = log2_densities[i, c, 0]
            for k in range(n_components):
                peak = max(peak, log2_densities[i, c, k])
            mass = np.float32(0.0)
            for k in range(n_components):
                mass += exp2(log2_densities[i, c, k] - peak)
            sums[c] += np.float64(peak) + np.log2(np.float64(mass))


@compiled("float64(float32[:,::1], float32[:,::1], float64[:,::1])")
def assign(affinities, expanded, sums):  # type: ignore[no-untyped-def]
    """Add each expanded frame to the row of `sums` of its best cluster; return the sum of the best affinities."""
    n_frames, n_clusters = affinities.shape
    total = 0.0
    for i in range(n_frames):
        best = 0
        for k in range(1, n_clusters):
            if affinities[i, k] > affinities[i, best]:
                best = k
        total += np.float64(affinities[i, best])
        for j in range(expanded.shape[1]):
            sums[best, j] += np.float64(expanded[i, j])
    return total
