"""Normalisation of frames: what the channel adds is taken away."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from numbers import Integral
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from speechgmm.errors import InputError
from speechgmm.features.config import CHOICES, Normalisation

Float32s = NDArray[np.float32]
Float64s = NDArray[np.float64]

SLIDING = ("sliding_mean", "sliding_mean_variance", "warping")
# Ranks are counted in float32.
LONGEST_WINDOW = 1 << 23
# Frames that are worked on at a time.
BLOCK = 512


def normalise(
    frames: NDArray[np.floating], method: Normalisation, window: int, out: Float32s | None = None
) -> Float32s:
    """Frames of an utterance, normalised in each dimension by itself.

    What is constant becomes 0, a single frame too. Where the variance is made 1, so does what has a deviation of
    at most a millionth of its mean, or of 1 where the mean is smaller.

    Parameters
    ----------
    frames : (n_frames, n_features)
        Finite; that is not checked, and values that are not spoil others. May be a memory map of any length, and may
        have no frames.
    method : {"none", "mean", "mean_variance", "sliding_mean", "sliding_mean_variance", "warping"}
        "mean", "mean_variance": mean 0, and variance 1, over the utterance. The others: see `SlidingNormaliser`.
    window : int
        In frames; of no matter to the first three methods.
    out : (n_frames, n_features) float32, optional
        Written to. May be `frames` itself, but may not overlap it otherwise.

    Returns
    -------
    (n_frames, n_features) float32
        `out` if given, else an array of its own; "none" gives `frames` back.

    Raises
    ------
    InputError
        If the method is unknown, or the window or a shape is not possible.

    References
    ----------
    Atal (1974), J. Acoust. Soc. Am. 55, 1304-1312. Viikki, Laurila (1998), Speech Communication 25, 133-147.
    """
    if method not in CHOICES["normalisation"]:
        known = ", ".join(CHOICES["normalisation"])
        raise InputError(f"normalisation {method!r} is unknown; it can be {known}")
    rows = _as_rows(frames)
    if method in SLIDING:
        _check_count("window", window, LONGEST_WINDOW)
        normaliser = SlidingNormaliser(method, min(window, max(1, len(rows))), rows.shape[1])
        target = _target(rows, out)
        n_written = normaliser._take(rows, target)
        normaliser._end(target[n_written:])
        return target
    if method != "none" and len(rows):
        return FrameStatistics.of(rows).apply(rows, method == "mean_variance", out)
    if out is None:
        return np.asanyarray(frames, np.float32)
    target = _target(rows, out)
    if out is not frames:
        target[:] = rows
    return target


@dataclass(frozen=True, eq=False)
class FrameStatistics:
    """Number, mean and variance of frames: of an utterance, or of all there is of a speaker or a corpus.

    The sum of two is that of both their frames.

    Parameters
    ----------
    n_frames : int
    mean, variance : (n_features,)
        Copied as float64. The variance is the mean of squared distances from the mean.

    Raises
    ------
    InputError
        If there are no frames, shapes differ, a value is not finite, or a variance is negative.
    """

    n_frames: int
    mean: Float64s
    variance: Float64s

    def __post_init__(self) -> None:
        for name in ("mean", "variance"):
            object.__setattr__(self, name, np.array(getattr(self, name), np.float64))
        _check_count("n_frames", self.n_frames)
        if self.mean.ndim != 1 or self.mean.shape != self.variance.shape:
            raise InputError(
                f"`mean` and `variance` have the shapes {self.mean.shape} and {self.variance.shape}; "
                "they must be (n_features,) both"
            )
        if not np.isfinite([self.mean, self.variance]).all() or (self.variance < 0).any():
            raise InputError("mean or variance is not finite, or the variance negative (NaN in the frames?)")

    @classmethod
    def of(cls, frames: NDArray[np.floating] | Iterable[NDArray[np.floating]]) -> "FrameStatistics":
        """Statistics of frames; the same bits whatever arrays they come in.

        Parameters
        ----------
        frames : (n_frames, n_features) array, or iterable of such
            Of finite values.

        Raises
        ------
        InputError
            If there are no frames, or arrays differ in their number of features.
        """
        from speechgmm.features.kernels_normalisation import accumulate

        n_frames, moments = 0, np.empty((2, 0))
        for array in [frames] if isinstance(frames, np.ndarray) else frames:
            rows = _as_rows(array)
            if n_frames == 0:
                moments = np.zeros((2, rows.shape[1]))
            _check_features(rows, moments.shape[1])
            for start in range(0, len(rows), BLOCK):
                block = np.ascontiguousarray(rows[start : start + BLOCK], np.float32)
                accumulate(block, n_frames, moments)
                n_frames += len(block)
        if n_frames == 0:
            raise InputError("there are no frames to take statistics of (all dropped as silence?)")
        return cls(n_frames, moments[0], moments[1] / n_frames)

    def __add__(self, other: "FrameStatistics") -> "FrameStatistics":
        """Statistics of the frames of both (Chan, Golub, LeVeque 1983, Am. Stat. 37, 242-247)."""
        if not isinstance(other, FrameStatistics):
            return NotImplemented
        _check_features(other.mean[None], self.mean.size)
        n_frames = self.n_frames + other.n_frames
        share = other.n_frames / n_frames
        step = other.mean - self.mean
        variance = (1.0 - share) * self.variance + share * (other.variance + (1.0 - share) * step * step)
        return FrameStatistics(n_frames, self.mean + share * step, variance)

    def apply(
        self, frames: NDArray[np.floating], variance: bool = True, out: Float32s | None = None
    ) -> Float32s:
        """Frames less the mean and, with `variance`, divided by the deviation; 0 where that is too small.

        Parameters
        ----------
        frames, out : (n_frames, n_features)
            As for `normalise`.
        variance : bool

        Raises
        ------
        InputError
            If a shape does not fit.
        """
        from speechgmm.features.kernels_normalisation import inverse_deviations, scale

        rows = _as_rows(frames)
        _check_features(rows, self.mean.size)
        target, factors = _target(rows, out), np.ones(self.mean.size)
        if variance:
            inverse_deviations(self.mean, self.variance, factors)
        scaled = np.empty((min(BLOCK, len(rows)), self.mean.size), np.float32)
        for start in range(0, len(rows), BLOCK):
            block = np.ascontiguousarray(rows[start : start + BLOCK], np.float32)
            scale(block, self.mean, factors, scaled)
            target[start : start + BLOCK] = scaled[: len(block)]
        return target


class SlidingNormaliser:
    """Normalises each frame by a window around it, as frames come; the same bits over any blocks.

    The window of frame t is [t - window // 2, t - window // 2 + window), shifted to lie inside of the utterance, or all
    of an utterance that is shorter. Nothing comes out before the first window is full; then frames come out
    (window - 1) // 2 frames later than they went in.

    "sliding_mean", "sliding_mean_variance": mean 0, and variance 1, as Kaldi's `apply-cmvn-sliding --center`. A value
    that does not vary within the window becomes 0; Kaldi takes its variance for 1e-10.
    "warping": of N values in the window, the one of rank R, 1 being the largest, becomes the value below which a
    standard normal lies with the probability (N + 1/2 - R) / N. Equal values share the mean of their ranks, so what
    does not vary becomes 0. Takes time in proportion to the window; the others do not.

    Parameters
    ----------
    method : {"sliding_mean", "sliding_mean_variance", "warping"}
    window : int
        In frames, from 1 to 2**23.
    n_features : int

    Raises
    ------
    InputError
        If the method looks at no window, or a number is not possible.

    References
    ----------
    Pelecanos, Sridharan (2001), Feature warping for robust speaker verification, Odyssey, 213-218.
    """

    def __init__(self, method: Normalisation, window: int, n_features: int) -> None:
        if method not in SLIDING:
            raise InputError(f"normalisation {method!r} has no window; {', '.join(SLIDING)} have one")
        _check_count("window", window, LONGEST_WINDOW)
        _check_count("n_features", n_features)
        self._window, self._n_frames, self._n_held = int(window), 0, 0
        # The last window's frames and room for as many more, so that they are moved up now and then only.
        self._held = np.empty((self._window + max(self._window, BLOCK), n_features), np.float32)
        self._rule: _Rule = _Ranks(self._window)
        if method != "warping":
            self._rule = _Moments(self._window, int(n_features), method == "sliding_mean_variance")

    def push(self, block: NDArray[np.floating]) -> Float32s:
        """Take in the next frames; return those that are ready.

        Parameters
        ----------
        block : (n_frames, n_features)
            Finite; any number of frames, none included.

        Raises
        ------
        InputError
            If the shape does not fit.
        """
        rows = _as_rows(block)
        _check_features(rows, self._held.shape[1])
        n_ready = self._n_ready(self._n_frames + len(rows)) - self._n_ready(self._n_frames)
        out = np.empty((n_ready, rows.shape[1]), np.float32)
        self._take(rows, out)
        return out

    def finish(self) -> Float32s:
        """The frames that are left. Afterwards another utterance can begin."""
        n_left = self._n_frames - self._n_ready(self._n_frames)
        out = np.empty((n_left, self._held.shape[1]), np.float32)
        self._end(out)
        return out

    def _n_ready(self, n_frames: int) -> int:
        """How many frames are out when so many are in."""
        return 0 if n_frames < self._window else n_frames - (self._window - 1) // 2

    def _take(self, rows: NDArray[np.floating], out: Float32s) -> int:
        """`push`, to the beginning of `out`; returns how many. Rows are read before any later frame is written."""
        window, n_taken, n_written = self._window, 0, 0
        while n_taken < len(rows):
            # The first window ends with a piece.
            room = (window if self._n_frames < window else len(self._held)) - self._n_held
            piece = rows[n_taken : n_taken + room]
            stop = self._n_held + len(piece)
            self._held[self._n_held : stop] = piece
            if self._n_frames >= window:
                ready = self._rule.slide(self._held[self._n_held - window : stop])
            elif stop == window:
                ready = self._rule.begin(self._held[:window])
            else:
                ready = self._held[:0]
            out[n_written : n_written + len(ready)] = ready
            n_taken, n_written = n_taken + len(piece), n_written + len(ready)
            self._n_frames, self._n_held = self._n_frames + len(piece), stop
            if stop == len(self._held):
                self._held[:window] = self._held[-window:]
                self._n_held = window
        return n_written

    def _end(self, out: Float32s) -> None:
        """`finish`, to `out`."""
        n_frames = min(self._n_frames, self._window)
        if len(out):
            last = self._held[self._n_held - n_frames : self._n_held]
            out[:] = self._rule.hold(last, n_frames - len(out), n_frames)
        self._n_frames = self._n_held = 0


class _Rule(Protocol):
    """What becomes of a frame by its window."""

    def hold(self, frames: Float32s, start: int, stop: int) -> Float32s:
        """Frames start to stop, all by the one window that `frames` are."""

    def begin(self, frames: Float32s) -> Float32s:
        """The frames up to the middle of an utterance's first window."""

    def slide(self, frames: Float32s) -> Float32s:
        """The centres of all windows of `frames` but the first, which went before."""


class _Moments:
    """By mean and variance."""

    def __init__(self, window: int, n_features: int, variance: bool) -> None:
        self._variance, self._n_begun = variance, 0
        self._ends, self._beginning = np.empty((window + 1, 2, n_features)), np.empty((2, n_features))

    def hold(self, frames: Float32s, start: int, stop: int) -> Float32s:
        return FrameStatistics.of(frames).apply(frames[start:stop], self._variance)

    def begin(self, frames: Float32s) -> Float32s:
        from speechgmm.features.kernels_normalisation import endings

        endings(frames, self._ends)
        self._beginning[:] = 0.0
        self._n_begun = 0
        return self.hold(frames, 0, len(frames) // 2 + 1)

    def slide(self, frames: Float32s) -> Float32s:
        from speechgmm.features.kernels_normalisation import slide

        out = np.empty((len(frames) - len(self._ends) + 1, frames.shape[1]), np.float32)
        self._n_begun = slide(frames, self._n_begun, self._ends, self._beginning, self._variance, out)
        return out


class _Ranks:
    """By rank."""

    def __init__(self, window: int) -> None:
        self._window = window

    def hold(self, frames: Float32s, start: int, stop: int) -> Float32s:
        return _warped(frames, len(frames), 0, start, stop - start)

    def begin(self, frames: Float32s) -> Float32s:
        return self.hold(frames, 0, len(frames) // 2 + 1)

    def slide(self, frames: Float32s) -> Float32s:
        return _warped(frames[1:], self._window, 1, self._window // 2, len(frames) - self._window)


def _warped(frames: Float32s, window: int, step: int, first: int, n_ranked: int) -> Float32s:
    """Frames from `first` on; each has its window `step` frames after the one before."""
    from speechgmm.features.kernels_normalisation import warp

    out = np.empty((n_ranked, frames.shape[1]), np.float32)
    warp(frames, step, first, _normal_values(window), out)
    return out


@lru_cache(maxsize=4)
def _normal_values(n_frames: int) -> Float32s:
    """What a standard normal is below with the probability i / (2 n), for i from 0 to 2 n.

    Of n values, the one that k are less than and m are not more than, itself included, has the rank
    R = n + 1/2 - (k + m) / 2 from above, ties sharing their mean: it belongs to i = k + m.
    """
    from scipy.special import ndtri

    return np.asarray(ndtri(np.arange(2 * n_frames + 1) / (2 * n_frames)), np.float32)


def _as_rows(frames: Any) -> NDArray[np.floating]:
    """A plain view of frames, which may be a memory map."""
    rows = np.asarray(frames)
    if rows.ndim != 2 or rows.shape[1] < 1:
        raise InputError(f"`frames` has the shape {rows.shape}; it must be (n_frames, n_features)")
    if not np.issubdtype(rows.dtype, np.floating):
        raise InputError(f"`frames` holds values of type {rows.dtype}; features are floats")
    return rows


def _target(rows: NDArray[np.floating], out: Float32s | None) -> Float32s:
    """The array for the result."""
    if out is None:
        return np.empty(rows.shape, np.float32)
    if not isinstance(out, np.ndarray) or out.dtype != np.float32 or out.shape != rows.shape:
        kind = f"{out.dtype} of shape {out.shape}" if isinstance(out, np.ndarray) else type(out).__name__
        raise InputError(f"`out` is {kind}; it must be a float32 array of shape {rows.shape}, as `frames`")
    if not out.flags.writeable:
        raise InputError("`out` cannot be written to (a memory map opened for reading?)")
    return out


def _check_features(rows: NDArray[np.floating], n_features: int) -> None:
    if rows.shape[1] != n_features:
        raise InputError(
            f"`frames` have {rows.shape[1]} features; {n_features} are expected (deltas missing, or others?)"
        )


def _check_count(name: str, value: Any, most: int = sys.maxsize) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral) or not 1 <= int(value) <= most:
        raise InputError(f"`{name}` is {value!r}; it must be a whole number from 1 to {most}")
