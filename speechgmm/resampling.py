"""Samples at one rate become samples at another, by soxr."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechgmm.errors import InputError


def resample(samples: NDArray[np.floating[Any]], from_rate: int, to_rate: int) -> NDArray[np.float32]:
    """Change the sample rate, by soxr at its high quality ("HQ").

    Parameters
    ----------
    samples : ndarray of float, shape (n_samples,)
    from_rate, to_rate : int > 0
        In Hz. If they are equal, the samples are returned as they are.

    Returns
    -------
    ndarray of float32, shape (about n_samples * to_rate / from_rate,)

    Raises
    ------
    InputError
        If a rate is not positive, `samples` is not one channel of float samples, or is so short that
        nothing of it is left.
    """
    samples = np.asarray(samples)
    if from_rate <= 0 or to_rate <= 0:
        raise InputError(f"cannot resample from {from_rate} Hz to {to_rate} Hz: rates must be above 0")
    if samples.ndim != 1 or samples.dtype.kind != "f":
        raise InputError(
            f"`samples` has shape {samples.shape} and type {samples.dtype}; resampling takes one channel of "
            "float samples (channels not mixed down, or integers not scaled to [-1, 1]?)"
        )
    mono = samples.astype(np.float32, copy=False)
    if from_rate == to_rate:
        return mono
    import soxr

    resampled: NDArray[np.float32] = soxr.resample(mono, from_rate, to_rate, quality="HQ")
    if not resampled.size:
        raise InputError(
            f"{mono.size} samples at {from_rate} Hz are too short to resample: none is left at {to_rate} Hz"
        )
    return resampled


def resample_blocks(
    blocks: Iterable[NDArray[np.float32]], from_rate: int, to_rate: int
) -> Iterator[NDArray[np.float32]]:
    """What `resample` makes of blocks of samples joined, to the last bit, in blocks."""
    if from_rate == to_rate:
        yield from blocks
        return
    import soxr

    stream = soxr.ResampleStream(from_rate, to_rate, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.empty(0, np.float32), last=True)


def upsampling_message(n_files: int, file_rate: int, sample_rate: int) -> str:
    """The text of the warning about low-rate audio, for callers that warn once for many files."""
    files = "1 audio file" if n_files == 1 else f"{n_files} audio files"
    return (
        f"{files} at {file_rate} Hz brought up to {sample_rate} Hz: the upper band, {file_rate / 2:g} to "
        f"{sample_rate / 2:g} Hz, is empty, so features from it tell recordings apart, not voices "
        f"(work at {file_rate} Hz instead?)"
    )
