"""Deltas: how cepstra change from frame to frame."""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechgmm.em.coordinates import require_finite, require_frames
from speechgmm.errors import InputError
from speechgmm.features.config import FeatureConfig

Float32s = NDArray[np.float32]
Float64s = NDArray[np.float64]

MOST_COEFFICIENTS = 1024
DELTA_SETTINGS = {"delta_orders", "delta_width", "delta_method", "shifted_deltas"}


def add_deltas(frames: Float32s, config: FeatureConfig) -> None:
    """Fill in the deltas, delta-deltas and shifted deltas of frames, beside the values that they are of.

    What a frame gets depends on the frames around it alone, to the last bit.

    Parameters
    ----------
    frames : (n_frames, config.n_features) float32, in rows one after the other
        The first `config.n_statics` columns are read, the others written. Any number of frames from 1 up; it may be a
        memory map, of which nothing is copied.
    config : FeatureConfig

    References
    ----------
    "regression": Young et al., The HTK Book, eq. 5.16. "polynomial": Savitzky, Golay (1964), Anal. Chem. 36,
    1627-1639, with the edges of `librosa.feature.delta`. Shifted deltas: Torres-Carrasquillo et al. (2002),
    Approaches to language identification using Gaussian mixture models and shifted delta cepstral features, ICSLP.
    """
    # Compiled code is loaded here, not with this file.
    from speechgmm.features.kernels_dynamics import curvatures, shifted_deltas, slopes

    n, width, polynomial = config.n_statics, config.delta_width, config.delta_method == "polynomial"
    if config.delta_orders >= 1:
        slopes(frames, 0, n, n, width)
    if config.delta_orders == 2 and polynomial:
        curvatures(frames, 0, 2 * n, n, _curvature(width))
    elif config.delta_orders == 2:
        slopes(frames, n, 2 * n, n, width)
    end = n * (1 + config.delta_orders)
    if polynomial:
        _hold_edges(frames[:, n:end], width)
    if config.shifted_deltas:
        kept, reach, shift, blocks = config.shifts
        shifted_deltas(frames, 0, end, kept, reach, shift, blocks)


def with_deltas(cepstra: NDArray[np.floating], **settings: Any) -> Float32s:
    """Cepstra made elsewhere, with their deltas beside them.

    Parameters
    ----------
    cepstra : (n_frames, n_coefficients)
        At least one frame; up to 1024 coefficients.
    settings
        `delta_orders`, `delta_width`, `delta_method` and `shifted_deltas` of a `FeatureConfig`, as far as they differ
        from its defaults.

    Returns
    -------
    (n_frames, n_features) float32

    Raises
    ------
    InputError
        If the shape is another, or a setting unknown or out of range.
    """
    cepstra = require_frames(cepstra, name="cepstra")
    if not cepstra.size or cepstra.shape[1] > MOST_COEFFICIENTS:
        raise InputError(
            f"`cepstra` has the shape {cepstra.shape}; it must be (n_frames, n_coefficients), at least 1 of each, and "
            f"at most {MOST_COEFFICIENTS} coefficients"
        )
    require_finite(cepstra, name="cepstra")
    unknown = sorted(set(settings) - DELTA_SETTINGS)
    if unknown:
        raise InputError(
            f"{unknown[0]!r} is no setting of deltas; those are {', '.join(sorted(DELTA_SETTINGS))}"
        )
    n = cepstra.shape[1]
    config = FeatureConfig(n_filters=n, n_coefficients=n, **settings)
    frames = np.empty((len(cepstra), config.n_features), np.float32)
    frames[:, :n] = cepstra
    add_deltas(frames, config)
    return frames


@cache
def _curvature(width: int) -> Float64s:
    """Weights of the frames 1..width to either side that give the second derivative of the parabola fitted to them.

    Fitted to all frames -width..width; the weight of the frame between makes their sum zero.
    """
    squares = np.square(np.arange(-width, width + 1.0))
    bend = squares - squares.mean()
    return np.asarray(2.0 * bend[width + 1 :] / (bend @ bend))


def _hold_edges(deltas: Float32s, width: int) -> None:
    """Give the first and last frames the value of the nearest frame with all its neighbours, if there is one."""
    if len(deltas) > 2 * width:
        deltas[:width] = deltas[width]
        deltas[-width:] = deltas[-width - 1]
