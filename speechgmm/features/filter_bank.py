"""Frequency scales and the triangular filters that are even on them."""

import numpy as np
from numpy.typing import NDArray

from speechgmm.features.config import FeatureConfig, FrequencyScale

Float64s = NDArray[np.float64]

# What a bin at the very edge of a filter may weigh by rounding.
ROUNDING = 1e-12


def from_hertz(frequencies: NDArray[np.floating], scale: FrequencyScale) -> Float64s:
    """Frequencies in Hz on a scale: mel for "htk" and "slaney", Hz for "linear".

    References
    ----------
    "htk": Young et al., The HTK Book, eq. 5.13. "slaney": Slaney (1998), Auditory Toolbox, Interval TR 1998-010.
    """
    frequencies = np.asarray(frequencies, np.float64)
    if scale == "linear":
        return np.array(frequencies)
    if scale == "htk":
        return np.asarray(2595.0 * np.log10(1.0 + frequencies / 700.0))
    linear = frequencies * 3.0 / 200.0
    return np.where(
        frequencies < 1000.0,
        linear,
        15.0 + np.log(np.maximum(frequencies, 1.0) / 1000.0) / (np.log(6.4) / 27.0),
    )


def to_hertz(values: NDArray[np.floating], scale: FrequencyScale) -> Float64s:
    """The inverse of `from_hertz`."""
    values = np.asarray(values, np.float64)
    if scale == "linear":
        return np.array(values)
    if scale == "htk":
        return np.asarray(700.0 * (10.0 ** (values / 2595.0) - 1.0))
    return np.where(
        values < 15.0, values * 200.0 / 3.0, 1000.0 * np.exp((values - 15.0) * np.log(6.4) / 27.0)
    )


def filter_bank(config: FeatureConfig) -> Float64s:
    """Weights of each frequency bin in each filter, (fft_samples // 2 + 1, n_filters).

    Triangles between neighbouring centres, their slopes straight in Hz or on the scale; of height 1, or, on the
    "slaney" scale, of area 1.
    """
    scale = config.frequency_scale
    ends = from_hertz(np.array([config.low_frequency, config.upper_edge]), scale)
    edges = np.linspace(ends[0], ends[1], config.n_filters + 2)
    hertz = to_hertz(edges, scale)
    bins = np.arange(config.fft_samples // 2 + 1)[:, None] * config.sample_rate / config.fft_samples
    if config.filter_slopes == "scale":
        bins = from_hertz(bins, scale)
    else:
        edges = hertz
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    filters = np.minimum(rising, falling)
    filters[filters < ROUNDING] = 0.0
    if scale == "slaney":
        filters *= 2.0 / (hertz[2:] - hertz[:-2])
    return np.asarray(filters)
