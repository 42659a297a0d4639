"""Where the engine's numbers are measured from: an origin and a scale for each dimension."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechgmm.errors import InputError

Floats = NDArray[np.floating[Any]]
Float32s = NDArray[np.float32]
Float64s = NDArray[np.float64]

# A dimension that varies by less than this fraction of its mean cannot be told from a constant in float32.
SMALLEST_RELATIVE_DEVIATION = 1e-6


@dataclass(frozen=True, eq=False)
class Coordinates:
    """Shift, scale and rotation in which frames enter float32 products: `(frames - origin) / scale @ transform`.

    Raw cepstra can lie far from zero (C0 near -500), where squares in float32 lose the digits that matter.
    Origin and scale are exact in float32, and scales are powers of two, so the division loses nothing.

    Parameters
    ----------
    origin : (n_features,) float64
    scale : (n_features,) float64 > 0
    transform : (n_features, n_features) float64, optional
        Whitens frames where whole covariance matrices are fitted. None: the identity.
    """

    origin: Float64s
    scale: Float64s
    transform: Float64s | None = None

    def __post_init__(self) -> None:
        origin = np.asarray(self.origin, np.float32).astype(np.float64)
        scale = np.exp2(np.round(np.log2(np.asarray(self.scale, np.float64))))
        object.__setattr__(self, "origin", origin)
        object.__setattr__(self, "scale", scale)

    @property
    def log_volume(self) -> float:
        """What a log-density gains when it is measured in these coordinates."""
        volume = float(np.log(self.scale).sum())
        return volume if self.transform is None else volume - float(np.linalg.slogdet(self.transform)[1])

    def apply(self, frames: Floats) -> Float64s:
        """Frames in these coordinates, as float64."""
        scaled = (np.asarray(frames, np.float64) - self.origin) / self.scale
        return np.asarray(scaled if self.transform is None else scaled @ self.transform, np.float64)

    def undo(self, values: Float64s) -> Float64s:
        """Values in these coordinates as frames."""
        turned = values if self.transform is None else np.linalg.solve(self.transform.T, values.T).T
        return np.asarray(self.origin + self.scale * turned, np.float64)

    def apply_to_matrices(self, matrices: Float64s) -> Float64s:
        """Covariance matrices (…, n_features, n_features) of frames in these coordinates."""
        scaled = matrices / (self.scale[:, None] * self.scale)
        return scaled if self.transform is None else symmetric(self.transform.T @ scaled @ self.transform)

    def undo_matrices(self, matrices: Float64s) -> Float64s:
        """Covariance matrices in these coordinates as those of frames."""
        if self.transform is not None:
            inverse = np.linalg.inv(self.transform)
            matrices = symmetric(inverse.T @ matrices @ inverse)
        return matrices * (self.scale[:, None] * self.scale)

    def in_precision(self, dtype: np.dtype[Any]) -> tuple[Floats, Floats]:
        """Origin and inverse scale in the precision of the frames, for the compiled passes."""
        return self.origin.astype(dtype), (1.0 / self.scale).astype(dtype)

    def same_as(self, other: "Coordinates") -> bool:
        """Whether values in both coordinates can be added."""
        transforms = (self.transform, other.transform)
        if any(transform is None for transform in transforms):
            same = all(transform is None for transform in transforms)
        else:
            same = np.array_equal(*transforms)  # type: ignore[arg-type]
        return same and np.array_equal(self.origin, other.origin) and np.array_equal(self.scale, other.scale)

    @classmethod
    def from_moments(cls, mean: Float64s, variance: Float64s) -> "Coordinates":
        """Coordinates in which frames of this mean and variance are near zero and of order one."""
        return cls(origin=mean, scale=np.sqrt(reference_variance(mean, variance)))

    def whitening(self, matrix: Float64s, least: float) -> "Coordinates":
        """These coordinates, turned so that frames of the given covariance matrix get the identity.

        Parameters
        ----------
        matrix : (n_features, n_features)
            In the frames' own units.
        least : float >= 0
            Directions with less than this fraction of the largest variance count as having that much.
        """
        values, vectors = np.linalg.eigh(matrix / (self.scale[:, None] * self.scale))
        return Coordinates(self.origin, self.scale, vectors / np.sqrt(np.maximum(values, least * values[-1])))


def symmetric(matrices: Float64s) -> Float64s:
    """What rounding made unequal across the diagonal, made equal."""
    return np.asarray(0.5 * (matrices + np.swapaxes(matrices, -1, -2)))


def reference_variance(mean: Float64s, variance: Float64s) -> Float64s:
    """The variance of each dimension, with a stand-in for dimensions that do not vary.

    A constant dimension says nothing about the frames, but a mixture over it must still be a density: it gets
    the deviation of one thousandth of its value, or 1 where the value is zero.
    """
    constant = constant_dimensions(mean, variance)
    stand_in = np.where(mean == 0, 1.0, np.square(1e-3 * mean))
    return np.where(constant, np.maximum(stand_in, np.finfo(np.float32).tiny), variance)


def constant_dimensions(mean: Float64s, variance: Float64s) -> NDArray[np.bool_]:
    """Which dimensions do not vary, as far as float32 can tell."""
    return np.sqrt(variance) <= np.maximum(SMALLEST_RELATIVE_DEVIATION * np.abs(mean), 1e-18)


def require_frames(frames: Any, n_features: int | None = None, name: str = "frames") -> Floats:
    """Check the shape and the type of frames; values are checked where they are read anyway.

    Parameters
    ----------
    frames : array-like, shape (n_frames, n_features)
        float32 and float64 pass as they are, memory maps too; other numbers become float64.
    n_features : int, optional
        How many columns there must be.

    Raises
    ------
    InputError
    """
    try:
        array = frames if isinstance(frames, np.ndarray) else np.asarray(frames)
    except ValueError as error:
        raise InputError(f"`{name}` is no array of numbers (rows of different lengths?)") from error
    if array.dtype.kind not in "fiubO":
        raise InputError(f"`{name}` holds {array.dtype} values; numbers are needed")
    if array.dtype not in (np.float32, np.float64):
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(f"`{name}` holds {array.dtype} values; numbers are needed") from error
    if array.ndim != 2:
        raise InputError(
            f"`{name}` has {array.ndim} dimensions; it must have 2: (n_frames, n_features)"
            + (" (one feature a frame? use frames[:, None])" if array.ndim == 1 else "")
        )
    if array.shape[1] == 0:
        raise InputError(f"`{name}` has no features (shape {array.shape})")
    if n_features is not None and array.shape[1] != n_features:
        raise InputError(
            f"`{name}` has {array.shape[1]} features; the mixture has {n_features} (deltas missing, or other settings?)"
        )
    return array


def require_finite(frames: Floats, first_row: int = 0, name: str = "frames") -> None:
    """Raise `InputError` naming the first row and column that is NaN or infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        total = np.sum(frames, dtype=np.float64)
    if not np.isfinite(total):
        rows, columns = np.nonzero(~np.isfinite(frames))
        if rows.size:
            row, column = int(rows[0]), int(columns[0])
            raise InputError(
                f"`{name}` has the value {frames[row, column]} at frame {first_row + row}, feature {column}; "
                "every value must be finite (log of zero, or a division by zero, on the way here?)"
            )
