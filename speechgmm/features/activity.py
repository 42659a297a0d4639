"""Speech activity: which frames hold speech."""

import numpy as np
from numpy.typing import NDArray

# The loud frames of an utterance: this share of its frames is louder. The very loudest may be a click.
LOUD_SHARE = 0.05


def active_frames(bands: NDArray[np.float32], activity_range: float) -> NDArray[np.bool_]:
    """Frames whose level lies within a range of the utterance's loud frames.

    Parameters
    ----------
    bands : (n_frames, n_mels)
        Power in each mel band.
    activity_range : float
        In dB below the level that 5 % of the frames exceed.

    Returns
    -------
    (n_frames,) bool
        At least one is true.
    """
    powers = bands.sum(axis=1)
    loud = np.sort(powers)[-1 - int(LOUD_SHARE * (len(powers) - 1))]
    result: NDArray[np.bool_] = powers >= loud * 10.0 ** (-activity_range / 10.0)
    return result
