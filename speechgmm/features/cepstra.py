"""From samples to cepstra: the tables of a configuration, and blocks of audio through the compiled pass."""

import math
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from speechgmm.errors import InputError
from speechgmm.features.config import FeatureConfig
from speechgmm.features.filter_bank import filter_bank

Float32s = NDArray[np.float32]
Float64s = NDArray[np.float64]
Allocate = Callable[[tuple[int, int]], Float32s]

# Float audio may well exceed 1, but the square of what exceeds this has no place in float32.
LOUDEST = 1e9
# Stands for an end that is not in sight; sums with it must not overflow.
FAR_OFF = 1 << 62
# Samples whose dither is drawn at a time.
DITHER_BLOCK = 1 << 12
# What a natural logarithm of power is multiplied by.
LOG_FACTORS = {"decibel": 10.0 / math.log(10.0), "natural": 1.0, "log10": 1.0 / math.log(10.0)}
# `matrix` has a multiple of so many rows, as the compiled pass needs it.
ROWS = 4


def empty(shape: tuple[int, int]) -> Float32s:
    """An array in memory."""
    return np.empty(shape, np.float32)


@dataclass(frozen=True, eq=False)
class FrameData:
    """What the compiled pass gives for the frames of some audio.

    Attributes
    ----------
    frames : (n_frames, n_features) float32
        Cepstra, and log energy where the configuration has it, in the first columns; the others are not filled.
    levels : (n_frames,) float32
        Natural logarithm of the power in all bands.
    """

    frames: Float32s
    levels: Float32s


def window_weights(config: FeatureConfig) -> Float64s:
    """The window, (window_samples,).

    "povey" is Kaldi's: a Hann window to the power of 0.85.
    """
    length = config.window_samples
    period = length - 1 if config.window_symmetric else length
    raised = 0.54 if config.window == "hamming" else 0.5
    weights = raised - (1.0 - raised) * np.cos(2.0 * np.pi * np.arange(length) / period)
    if config.window == "rectangular":
        return np.ones(length)
    return np.asarray(weights**0.85 if config.window == "povey" else weights)


def cosine_transform(config: FeatureConfig) -> Float64s:
    """From log band powers (natural) to cepstra, (n_coefficients, n_filters), liftered.

    References
    ----------
    The HTK Book, eq. 5.14 and 5.17; the orthonormal transform differs in C0 alone, by sqrt(2).
    """
    n, kept = config.n_filters, np.arange(config.n_coefficients)
    matrix = np.sqrt(2.0 / n) * np.cos(np.pi / n * kept[:, None] * (np.arange(n) + 0.5))
    if config.dct == "orthonormal":
        matrix[0] *= np.sqrt(0.5)
    if config.lifter:
        matrix *= (1.0 + config.lifter / 2.0 * np.sin(np.pi * kept / config.lifter))[:, None]
    return np.asarray(LOG_FACTORS[config.log_scale] * matrix)


def transform_tables(fft_samples: int) -> tuple[Float32s, NDArray[np.int64], Float32s]:
    """What the Fourier transform of `fft_samples` real samples needs, as a complex one of half the length n.

    Returns
    -------
    turns : (n_rows, 6)
        For each stage of size n, n / 4, … >= 4 and each j below a quarter of it: exp(-2 pi i j / size) to the
        powers 1, 2, 3, real and imaginary parts.
    order : (n,)
        Where the transform leaves each frequency.
    half_turns : (n // 2 + 1, 2)
        exp(-2 pi i k / fft_samples) / 2.
    """
    n = fft_samples // 2
    stages, sizes, size = [], [], n
    while size >= 4:
        turn = np.exp(-2j * np.pi * np.arange(size // 4)[:, None] * [1, 2, 3] / size)
        stages.append(turn.view(np.float64))
        sizes.append(4)
        size //= 4
    if size == 2:
        sizes.append(2)
    order, rest, place = np.zeros(n, np.int64), np.arange(n), n
    for radix in sizes:
        place //= radix
        order += rest % radix * place
        rest //= radix
    half_turns = 0.5 * np.exp(-2j * np.pi * np.arange(n // 2 + 1) / fft_samples)
    turns = np.concatenate([np.empty((0, 6)), *stages])
    return turns.astype(np.float32), order, half_turns.view(np.float64).reshape(-1, 2).astype(np.float32)


class CepstralAnalyser:
    """Cepstra of one configuration; its tables are made once.

    References
    ----------
    Davis, Mermelstein (1980), IEEE Trans. ASSP 28, 357-366.
    """

    def __init__(self, config: FeatureConfig) -> None:
        # Compiled code is loaded here, not with this file.
        from speechgmm.features.kernels import analyse
        from speechgmm.features.lanes import LANES

        self.config = config
        self._analyse = analyse
        filters = filter_bank(config)
        starts = np.array([_first(column) for column in filters.T], np.int64)
        stops = np.array([len(column) - _first(column[::-1]) for column in filters.T], np.int64)
        stops = np.maximum(starts, stops)
        weights = np.concatenate(
            [filters[a:b, i] for i, (a, b) in enumerate(zip(starts, stops, strict=True))]
        )
        self._bank = (starts, stops, weights.astype(np.float32))
        self.n_empty_filters = int((starts == stops).sum())
        # Without C0 and log energy the first row is left out.
        transform = cosine_transform(config)[1 if config.energy == "none" else 0 :]
        self._n_values = len(transform)
        matrix = np.zeros((-(-len(transform) // ROWS) * ROWS, config.n_filters))
        matrix[: len(transform)] = transform
        self._matrix = (matrix.astype(np.float32), matrix.sum(axis=1).astype(np.float32))
        self._window = np.zeros(-(-config.window_samples // LANES) * LANES, np.float32)
        self._window[: config.window_samples] = config.scale * window_weights(config)
        self._tables = transform_tables(config.fft_samples)

    def analyse(
        self,
        blocks: Callable[[], Iterable[Float32s]],
        n_samples: int,
        allocate: Allocate = empty,
        keep: slice = slice(None),
        first_sample: int = 0,
    ) -> FrameData:
        """Cepstra of audio that comes in blocks; the same bits whatever the blocks are.

        Parameters
        ----------
        blocks : callable
            Gives the blocks of samples, float32, finite, in their order; called twice with `top_db`.
        n_samples : int
            In all blocks, or more.
        allocate : callable
            Gives the array for the frames, of shape (n_frames, n_features); cepstra go into its first columns.
        keep : slice
            The frames of the utterance itself, whose loudest filter `top_db` counts from.
        first_sample : int
            Where in its file the audio begins: dither belongs to a place in the file.

        Raises
        ------
        InputError
            If the audio is too short for a frame.
        """
        config = self.config
        n_expected = config.n_frames(n_samples)
        try:
            levels, energies = np.empty(n_expected, np.float32), np.empty(n_expected, np.float32)
            frames = allocate((n_expected, config.n_features))
        except MemoryError as error:
            raise InputError(
                f"there is no memory for {n_expected} frames of {config.n_features} features, as {n_samples} "
                "samples make (a damaged header that promises too much, or a very short `hop_length`?)"
            ) from error
        floor = config.floor
        if config.top_db:
            peak = max(
                self._pass(piece.cut(keep), floor, frames, levels, energies)
                for piece in self._pieces(blocks(), first_sample)
            )
            floor = max(floor, peak * 10.0 ** (-config.top_db / 10.0))
        n_frames = 0
        for piece in self._pieces(blocks(), first_sample):
            if piece.stop > n_expected:
                raise InputError(f"the audio is longer than the {n_samples} samples that were announced")
            self._pass(piece, floor, frames, levels, energies)
            n_frames = piece.stop
        frames, levels, energies = frames[:n_frames], levels[:n_frames], energies[:n_frames]
        self._place_energy(frames, energies)
        return FrameData(frames, np.log(np.maximum(levels, np.float32(config.floor))))

    def _pass(
        self, piece: "_Piece", floor: float, frames: Float32s, levels: Float32s, energies: Float32s
    ) -> float:
        """One piece of audio through the compiled pass, into its rows."""
        config, rows = self.config, slice(piece.start, piece.stop)
        peak = self._analyse(
            *(
                piece.samples,
                piece.first,
                config.hop_samples,
                piece.stop - piece.start,
                piece.begin,
                piece.end,
            ),
            *(np.float32(config.pre_emphasis), config.emphasis_by == "frame", config.remove_offset),
            *(
                config.energy in ("log", "both"),
                config.spectrum == "magnitude",
                config.window_samples,
                self._window,
                *self._tables,
                *self._bank,
                np.float32(floor),
            ),
            *(self._n_values, *self._matrix, frames[rows], levels[rows], energies[rows]),
        )
        return float(peak)

    def _pieces(self, blocks: Iterable[Float32s], first_sample: int) -> Iterator["_Piece"]:
        """Pieces of audio with the frames that can be made of each: blocks, with what the next frames need of the
        samples before."""
        config, hop, lead = self.config, self.config.hop_samples, self.config.window_start
        waiting, origin, done = np.empty(0, np.float32), 0, 0
        for block, last in _with_end(blocks):
            samples = np.concatenate([waiting, block]) if waiting.size else block
            n_samples = origin + samples.size
            if last:
                stop = config.n_frames(n_samples)
            else:
                stop = max(done, (n_samples - lead - config.window_samples) // hop + 1)
            if last and stop == 0:
                raise InputError(
                    f"{n_samples} samples are shorter than one window of {config.window_samples}; "
                    '`framing` "centred" takes audio of any length'
                )
            end = samples.size if last else FAR_OFF
            yield _Piece(
                self._dithered(samples, first_sample + origin),
                done,
                stop,
                done * hop + lead - origin,
                hop,
                -origin,
                end,
            )
            done = stop
            # Where windows do not overlap, what the next one needs may not have come yet.
            needed = min(max(0, done * hop + lead - 1 - origin), samples.size)
            waiting, origin = samples[needed:], origin + needed

    def _dithered(self, samples: Float32s, origin: int) -> Float32s:
        """Samples with the noise that belongs to their place in the file."""
        config = self.config
        if not config.dither or not samples.size:
            return samples
        first, stop = origin // DITHER_BLOCK, -(-(origin + samples.size) // DITHER_BLOCK)
        noise = [
            np.random.default_rng([config.dither_seed, block]).standard_normal(DITHER_BLOCK, np.float32)
            for block in range(first, stop)
        ]
        start = origin - first * DITHER_BLOCK
        amount = np.float32(config.dither / config.scale)
        return samples + amount * np.concatenate(noise)[start : start + samples.size]

    def _place_energy(self, frames: Float32s, energies: Float32s) -> None:
        """Put log energies where the configuration has them."""
        config = self.config
        if config.energy in ("log", "both"):
            column = 0 if config.energy == "log" else config.n_statics - 1
            scaled = energies.astype(np.float64) * config.scale**2
            frames[:, column] = LOG_FACTORS[config.log_scale] * np.log(np.maximum(scaled, config.floor))


class _Piece(NamedTuple):
    """Some audio and the frames start to stop, which it holds the windows of; see `kernels.analyse`."""

    samples: Float32s
    start: int
    stop: int
    first: int
    hop: int
    begin: int
    end: int

    def cut(self, keep: slice) -> "_Piece":
        """The same with none but the frames in a range."""
        start, stop, _ = keep.indices(sys.maxsize)
        start, stop = max(start, self.start), min(stop, self.stop)
        first = self.first + (start - self.start) * self.hop
        return self._replace(start=start, stop=max(start, stop), first=first)


def _with_end(blocks: Iterable[Float32s]) -> Iterator[tuple[Float32s, bool]]:
    """Blocks, and whether each is the last."""
    rest = iter(blocks)
    block = next(rest, np.empty(0, np.float32))
    for following in rest:
        yield block, False
        block = following
    yield block, True


def require_samples(samples: NDArray[Any], config: FeatureConfig) -> Float32s:
    """Samples given by a caller, as float32.

    Raises
    ------
    InputError
        If there are none, or they are not one row of floats of a sensible size.
    """
    samples = np.asarray(samples)
    if samples.dtype.kind != "f":
        raise InputError(
            f"`samples` are {samples.dtype}; they must be floats in [-1, 1] (divide integers by 2**15?)"
        )
    if samples.ndim != 1 or samples.size == 0:
        raise InputError(f"`samples` has shape {samples.shape}; it must be one row of at least 1 sample")
    low, high = float(samples.min()), float(samples.max())
    if not (low * config.scale >= -LOUDEST and high * config.scale <= LOUDEST):
        raise InputError(
            f"`samples` reach {high if high > -low else low:g}; they must be finite, and lie in [-1, 1] "
            "(integers not scaled?)"
        )
    return np.ascontiguousarray(samples, np.float32)


def _first(weights: Float64s) -> int:
    """Number of zeros that an array begins with."""
    return int(np.argmax(weights > 0)) if weights.any() else len(weights)
