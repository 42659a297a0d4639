"""Normalisation of an utterance's frames: what the channel adds is taken away."""

import numpy as np
from numpy.typing import NDArray

from speechgmm.features.config import Normalisation

Float32s = NDArray[np.float32]


def normalise(frames: Float32s, method: Normalisation) -> Float32s:
    """Frames with mean 0, or mean 0 and variance 1, in each dimension over the utterance.

    A dimension that does not vary over the utterance, such as any of a single frame, is 0 afterwards.

    Parameters
    ----------
    frames : (n_frames, n_features) float32
    method : {"none", "mean", "mean_variance"}

    References
    ----------
    Atal (1974), J. Acoust. Soc. Am. 55, 1304-1312. Viikki, Laurila (1998), Speech Communication 25, 133-147.
    """
    if method == "none":
        return frames
    mean = frames.mean(axis=0, dtype=np.float64)
    centred: Float32s = (frames - mean).astype(np.float32)
    if method == "mean":
        return centred
    deviation = centred.std(axis=0, dtype=np.float64)
    # Rounding leaves a constant with a deviation of a few millionths of its value.
    constant = deviation <= 1e-6 * np.maximum(np.abs(mean), 1.0)
    centred *= np.where(constant, 0.0, 1.0 / np.where(constant, 1.0, deviation)).astype(np.float32)
    return centred
