"""Linear transforms of frames: the value that holds one, splicing, and what their estimators share."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from speechgmm.em.coordinates import Float64s, Floats, require_finite, require_frames
from speechgmm.em.mixture import Mixture, normalised
from speechgmm.em.terms import pairs
from speechgmm.errors import InputError
from speechgmm.parallel import one_blas_thread

Int64s = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LinearTransform:
    """Frames times a matrix plus an offset: `frames @ matrix.T + offset`.

    Parameters
    ----------
    matrix : (n_out, n_in) float64
    offset : (n_out,) float64

    Raises
    ------
    InputError
        If shapes disagree, or values are not finite.
    """

    matrix: Float64s
    offset: Float64s

    def __post_init__(self) -> None:
        for name in ("matrix", "offset"):
            # A copy, which nobody else can change.
            value = np.array(getattr(self, name), np.float64, order="C")
            if not np.isfinite(value).all():
                raise InputError(f"transform `{name}` has values that are not finite")
            value.flags.writeable = False
            object.__setattr__(self, name, value)
        if self.matrix.ndim != 2 or 0 in self.matrix.shape or self.offset.shape != self.matrix.shape[:1]:
            raise InputError(
                f"transform `matrix` {self.matrix.shape} and `offset` {self.offset.shape} must have the shapes "
                "(n_out, n_in) and (n_out,)"
            )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LinearTransform):
            return NotImplemented
        return np.array_equal(self.matrix, other.matrix) and np.array_equal(self.offset, other.offset)

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> Any:
        # Through the constructor, so that a copy's arrays are frozen too.
        return LinearTransform, (self.matrix, self.offset)

    @classmethod
    def identity(cls, n_features: int) -> "LinearTransform":
        """The transform that changes nothing."""
        return cls(np.eye(n_features), np.zeros(n_features))

    @property
    def n_in(self) -> int:
        """How many values a frame has before."""
        return int(self.matrix.shape[1])

    @property
    def n_out(self) -> int:
        """How many values a frame has after."""
        return int(self.matrix.shape[0])

    @property
    def log_determinant(self) -> float:
        """Log of the absolute determinant: what a log-density of transformed frames lacks to be one of the frames.

        Raises
        ------
        InputError
            If the matrix is not square, or has no inverse.
        """
        if self.n_out != self.n_in:
            raise InputError(f"a transform of {self.n_in} features to {self.n_out} has no determinant")
        value = float(np.linalg.slogdet(self.matrix)[1])
        if not np.isfinite(value):
            raise InputError("the determinant of the transform is 0: it maps different frames to the same")
        return value

    @one_blas_thread()
    def apply(self, frames: ArrayLike) -> Floats:
        """Transform frames, computed in float64.

        Parameters
        ----------
        frames : (n_frames, n_in)

        Returns
        -------
        (n_frames, n_out), float32 where frames are float32, else float64

        Raises
        ------
        InputError
            If the frames have another number of features, or no numbers.
        """
        checked = require_frames(frames)
        if checked.shape[1] != self.n_in:
            raise InputError(
                f"`frames` has {checked.shape[1]} features; the transform needs {self.n_in} "
                "(not spliced, or other feature settings?)"
            )
        return (checked.astype(np.float64) @ self.matrix.T + self.offset).astype(checked.dtype, copy=False)

    def after(self, other: "LinearTransform") -> "LinearTransform":
        """One transform that does what `other` and then this one do.

        Raises
        ------
        InputError
            If the other gives another number of features than this one needs.
        """
        if other.n_out != self.n_in:
            raise InputError(
                f"a transform of {self.n_in} features cannot come after one that gives {other.n_out}"
            )
        return LinearTransform(self.matrix @ other.matrix, self.matrix @ other.offset + self.offset)

    def to_arrays(self) -> dict[str, Float64s]:
        """The arrays by name, for a model file."""
        return {"matrix": self.matrix, "offset": self.offset}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, ArrayLike]) -> "LinearTransform":
        """The transform that `to_arrays` gave the arrays of.

        Raises
        ------
        InputError
            If an array is missing or unknown, or does not fit.
        """
        if set(arrays) != {"matrix", "offset"}:
            raise InputError(f"a transform has the arrays `matrix` and `offset`, not {sorted(arrays)}")
        return cls(np.asarray(arrays["matrix"]), np.asarray(arrays["offset"]))


def splice(frames: ArrayLike, left: int, right: int) -> Floats:
    """Set each frame between its neighbours; beyond the ends, the first and the last frame are repeated.

    Parameters
    ----------
    frames : (n_frames, n_features)
        Of one utterance.
    left, right : int >= 0
        How many frames before and after.

    Returns
    -------
    (n_frames, (left + 1 + right) * n_features)
        The earliest neighbour first.

    Raises
    ------
    InputError
        If `left` or `right` is no whole number from 0, or frames are no array of numbers.
    """
    checked = require_frames(frames)
    for name, value in (("left", left), ("right", right)):
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 0:
            raise InputError(f"`{name}` is {value!r}; it must be a whole number of frames from 0")
    width = int(left) + 1 + int(right)
    neighbours = np.arange(len(checked))[:, None] + np.arange(-int(left), int(right) + 1)
    spliced = checked[np.clip(neighbours, 0, max(len(checked) - 1, 0))]
    return np.asarray(spliced.reshape(len(checked), width * checked.shape[1]))


class Explained(NamedTuple):
    """The frames that one mixture explains.

    Parameters
    ----------
    number : int
        Of the mixture.
    rows : (n_entries,) int64
        Numbers of frames; one may occur twice.
    posteriors : (n_entries, n_components) float64
        Of the components, times the weight of the entry.
    """

    number: int
    rows: Int64s
    posteriors: Float64s


def explained_frames(
    mixtures: Sequence[Mixture], frames: Floats, pdfs: ArrayLike, rows: ArrayLike, weights: ArrayLike
) -> Iterator[Explained]:
    """Sort entries by mixture, and share each out among the mixture's components.

    Parameters
    ----------
    mixtures : sequence of Mixture
    frames : (n_frames, n_features)
        Known to be sound.
    pdfs, rows, weights : (n_entries,)
        Frame `rows[e]` belongs to mixture `pdfs[e]` with posterior `weights[e]`.

    Raises
    ------
    InputError
        If an entry names a mixture or a frame that there is not, or its weight is negative or not finite.
    """
    numbers = whole_numbers("pdfs", pdfs, len(mixtures), "mixtures")
    places = whole_numbers("rows", rows, len(frames), "frames")
    shares = np.asarray(weights, np.float64)
    if numbers.shape != places.shape or numbers.shape != shares.shape:
        raise InputError(
            f"`pdfs` {numbers.shape}, `rows` {places.shape} and `weights` {shares.shape} must have one value an entry"
        )
    if not (np.isfinite(shares) & (shares >= 0)).all():
        raise InputError("`weights` has values that are negative or not finite; they must be posteriors")
    order = np.argsort(numbers, kind="stable")
    starts = np.searchsorted(numbers[order], np.arange(len(mixtures) + 1))
    for number in np.flatnonzero(np.diff(starts)).tolist():
        own = order[starts[number] : starts[number + 1]]
        densities = mixtures[number].unchecked_log_densities(frames[places[own]])
        yield Explained(number, places[own], normalised(densities) * shares[own, None])


def whole_numbers(name: str, values: ArrayLike, limit: int, of: str) -> Int64s:
    """Numbers from 0 to below a limit, checked."""
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise InputError(
            f"`{name}` has the shape {array.shape} and the type {array.dtype}; it must list whole numbers"
        )
    if array.size and (array.min() < 0 or array.max() >= limit):
        raise InputError(
            f"`{name}` has values from {array.min()} to {array.max()}; there are {limit} {of}, counted from 0"
        )
    return array.astype(np.int64)


def require_diagonal(mixtures: Sequence[Mixture], frames: ArrayLike) -> Floats:
    """Check that mixtures have variances only and fit the frames; the frames as an array.

    Raises
    ------
    InputError
        If there are no mixtures, one has whole matrices, or they and the frames differ in their number of features.
    """
    n_features = common_features(mixtures)
    checked = require_frames(frames, n_features)
    require_finite(checked)
    return checked


def common_features(mixtures: Sequence[Mixture]) -> int:
    """The number of features of mixtures with variances only; raises `InputError` as `require_diagonal` does."""
    if not mixtures:
        raise InputError("`mixtures` is empty; at least one is needed")
    sizes = sorted({mixture.n_features for mixture in mixtures})
    if len(sizes) > 1:
        raise InputError(f"`mixtures` have {sizes[0]} to {sizes[-1]} features; all must have the same number")
    matrices = [number for number, mixture in enumerate(mixtures) if mixture.has_matrices]
    if matrices:
        raise InputError(
            f"mixture {matrices[0]} has {mixtures[matrices[0]].covariance_type} covariances; the transform is "
            "estimated for diagonal ones (train with covariance_type='diag')"
        )
    return sizes[0]


def require_limits(max_iterations: int, tolerance: float) -> None:
    """Refuse a number of iterations or a gain at which to stop that is out of range."""
    if isinstance(max_iterations, bool) or not isinstance(max_iterations, Integral) or max_iterations < 1:
        raise InputError(f"`max_iterations` is {max_iterations!r}; it must be a whole number from 1")
    if not 0 <= tolerance < np.inf:
        raise InputError(f"`tolerance` is {tolerance!r}; it must be a number of nats a frame from 0")


def replace_row(matrix: Floats, inverse: Floats, row: int, values: Floats) -> None:
    """Put values into a row of a matrix, and update its inverse, both in place (Sherman and Morrison)."""
    change = (values - matrix[row]) @ inverse
    inverse -= np.outer(inverse[:, row], change / (1.0 + change[row]))
    matrix[row] = values


def triangles(vectors: Float64s) -> Float64s:
    """Products of each vector's values, those of its pairs i <= j only, (n_vectors, n_pairs)."""
    rows, columns = pairs(vectors.shape[1])
    return np.asarray(vectors[:, rows] * vectors[:, columns])


def squares(halves: Float64s, n: int) -> Float64s:
    """Symmetric matrices (..., n, n) from their pairs i <= j."""
    rows, columns = pairs(n)
    result = np.empty((*halves.shape[:-1], n, n))
    result[..., rows, columns] = halves
    result[..., columns, rows] = halves
    return result
