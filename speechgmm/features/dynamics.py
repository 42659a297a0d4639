"""Deltas: how cepstra change from frame to frame."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from speechgmm.features.config import DeltaMethod

Float32s = NDArray[np.float32]


def add_deltas(cepstra: Float32s, orders: int, width: int, method: DeltaMethod) -> Float32s:
    """Cepstra with their first, or first and second, derivatives beside them.

    Parameters
    ----------
    cepstra : (n_frames, n_coefficients) float32
        Any number of frames from 1 up; missing neighbours are stood in for by the edges.
    orders : {0, 1, 2}
    width : int
        Frames to either side.
    method : {"regression", "polynomial"}

    Returns
    -------
    (n_frames, (1 + orders) * n_coefficients) float32

    References
    ----------
    "regression": The HTK Book, eq. 5.16. "polynomial": Savitzky, Golay (1964), Anal. Chem. 36, 1627-1639, with
    the edges of `librosa.feature.delta`.
    """
    if orders == 0:
        return cepstra
    n = cepstra.shape[1]
    result = np.empty((len(cepstra), (1 + orders) * n), np.float32)
    result[:, :n] = cepstra
    slope = _slope(width)
    for order in range(1, orders + 1):
        out = result[:, order * n : (order + 1) * n]
        if method == "regression":
            _filter(result[:, (order - 1) * n : order * n], slope, out)
        else:
            _filter(cepstra, slope if order == 1 else _curvature(width), out)
            _hold_edges(out, width)
    return result


@cache
def _slope(width: int) -> Float32s:
    """Weights of the frames -width..width that give the slope of the line fitted to them."""
    steps = np.arange(-width, width + 1)
    return np.asarray(steps / np.square(steps).sum(), np.float32)


@cache
def _curvature(width: int) -> Float32s:
    """Weights of the frames -width..width that give the second derivative of the parabola fitted to them."""
    steps = np.arange(-width, width + 1)
    parabola = np.linalg.pinv(np.stack([np.ones(steps.size), steps, np.square(steps)], axis=1))[2]
    return np.asarray(2.0 * parabola, np.float32)


def _filter(values: Float32s, weights: Float32s, out: Float32s) -> None:
    """Weighted sums over neighbouring frames, edges repeated."""
    width, n_frames = len(weights) // 2, len(values)
    padded = np.empty((n_frames + 2 * width, values.shape[1]), np.float32)
    padded[:width], padded[width:-width], padded[-width:] = values[0], values, values[-1]
    out[:] = weights[width] * values
    for step in range(1, width + 1):
        later = padded[width + step : width + step + n_frames]
        earlier = padded[width - step : width - step + n_frames]
        if weights[width] == 0:  # an odd filter
            out += weights[width + step] * (later - earlier)
        else:
            out += weights[width + step] * (later + earlier)


def _hold_edges(values: Float32s, width: int) -> None:
    """Give the first and last frames the value of the nearest frame with all its neighbours, if there is one."""
    if len(values) > 2 * width:
        values[:width] = values[width]
        values[-width:] = values[-width - 1]
