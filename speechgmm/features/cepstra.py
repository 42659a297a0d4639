"""From samples to cepstra: framing, power spectrum, mel filter bank, log, cosine transform."""

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from speechgmm.errors import InputError
from speechgmm.features.config import FeatureConfig, MelScale

Float32s = NDArray[np.float32]
Float64s = NDArray[np.float64]

# Frames handled at a time: their spectra stay in cache.
BLOCK = 256
# The least power of a band; -100 dB, as in librosa.
LEAST_POWER = 1e-10
# Float audio may well exceed 1, but the square of what exceeds this has no place in float32.
LOUDEST = 1e9
DECIBELS = 10.0 / np.log(10.0)


def hertz_to_mel(frequencies: NDArray[np.floating], scale: MelScale) -> Float64s:
    """Frequencies in Hz on a mel scale.

    References
    ----------
    "htk": Young et al., The HTK Book, eq. 5.13. "slaney": Slaney (1998), Auditory Toolbox, Interval TR 1998-010.
    """
    frequencies = np.asarray(frequencies, np.float64)
    if scale == "htk":
        return np.asarray(2595.0 * np.log10(1.0 + frequencies / 700.0))
    linear = frequencies * 3.0 / 200.0
    return np.where(
        frequencies < 1000.0,
        linear,
        15.0 + np.log(np.maximum(frequencies, 1.0) / 1000.0) / (np.log(6.4) / 27.0),
    )


def mel_to_hertz(mels: NDArray[np.floating], scale: MelScale) -> Float64s:
    """The inverse of `hertz_to_mel`."""
    mels = np.asarray(mels, np.float64)
    if scale == "htk":
        return np.asarray(700.0 * (10.0 ** (mels / 2595.0) - 1.0))
    return np.where(mels < 15.0, mels * 200.0 / 3.0, 1000.0 * np.exp((mels - 15.0) * np.log(6.4) / 27.0))


def mel_filters(config: FeatureConfig) -> Float64s:
    """Weights of each frequency bin in each mel band, (fft_length // 2 + 1, n_mels).

    Triangles between neighbouring centres, linear in Hz; of height 1 ("htk") or of area 1 ("slaney").
    """
    ends = hertz_to_mel(np.array([config.low_frequency, config.upper_edge]), config.mel_scale)
    edges = mel_to_hertz(np.linspace(ends[0], ends[1], config.n_mels + 2), config.mel_scale)
    bins = np.arange(config.fft_length // 2 + 1)[:, None] * config.sample_rate / config.fft_length
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    filters = np.maximum(0.0, np.minimum(rising, falling))
    if config.mel_scale == "slaney":
        filters *= 2.0 / (edges[2:] - edges[:-2])
    return filters


class CepstralAnalyser:
    """Mel-frequency cepstra of one configuration; its tables are made once.

    References
    ----------
    Davis, Mermelstein (1980), IEEE Trans. ASSP 28, 357-366.
    """

    def __init__(self, config: FeatureConfig) -> None:
        self.config = config
        turns = 2.0 * np.pi * np.arange(config.window_samples) / config.window_samples
        raised = {"hamming": 0.54, "hann": 0.5}[config.window]
        self._window = (raised - (1.0 - raised) * np.cos(turns)).astype(np.float32)
        self._filters = np.ascontiguousarray(mel_filters(config), np.float32)
        transform = scipy.fft.dct(np.eye(config.n_mels), type=2, norm="ortho", axis=1)
        # In float64: log powers near -100 dB add up to thousands before they cancel.
        self._transform = np.ascontiguousarray(DECIBELS * transform[:, : config.n_coefficients])

    def bands(self, samples: Float32s) -> Float32s:
        """Power in each mel band of each frame, (n_frames, n_mels), never below 1e-10.

        Raises
        ------
        InputError
            If there are no samples, or they are not one row of them.
        """
        frames = self._frames(samples)
        config = self.config
        padded = np.zeros((min(BLOCK, len(frames)), config.fft_length), np.float32)
        bands = np.empty((len(frames), config.n_mels), np.float32)
        for start in range(0, len(frames), BLOCK):
            block = frames[start : start + BLOCK]
            n = len(block)
            np.multiply(block, self._window, out=padded[:n, : config.window_samples])
            parts = scipy.fft.rfft(padded[:n], axis=1).view(np.float32)
            np.multiply(parts, parts, out=parts)
            np.matmul(parts[:, 0::2] + parts[:, 1::2], self._filters, out=bands[start : start + n])
        np.maximum(bands, np.float32(LEAST_POWER), out=bands)
        return bands

    def cepstra(self, bands: Float32s, keep: slice = slice(None)) -> Float32s:
        """Cosine transform of the band powers in dB, (n_frames, n_coefficients).

        `keep` are the frames of the utterance itself, whose loudest band `top_db` counts from.
        """
        if self.config.top_db:
            bands = np.maximum(bands, bands[keep].max() * np.float32(10.0 ** (-self.config.top_db / 10.0)))
        return np.asarray(np.log(bands) @ self._transform, np.float32)

    def _frames(self, samples: Float32s) -> Float32s:
        """Overlapping windows centred at multiples of the hop, a view of shape (n_frames, window_samples)."""
        samples = np.asarray(samples, np.float32)
        if samples.ndim != 1 or samples.size == 0:
            raise InputError(f"`samples` has shape {samples.shape}; it must be one row of at least 1 sample")
        peak = float(np.abs(samples).max())
        if not peak <= LOUDEST:
            raise InputError(
                f"`samples` reach {peak:g}; they must be finite, and lie in [-1, 1] (integers not scaled?)"
            )
        config = self.config
        # As in librosa: an FFT frame is centred, and the window is centred in the FFT frame.
        before = config.fft_length // 2 - (config.fft_length - config.window_samples) // 2
        padded = np.zeros(samples.size + config.window_samples, np.float32)
        inner = padded[before : before + samples.size]
        inner[:] = samples
        if config.pre_emphasis:
            # The audio is taken to have been steady before its first sample.
            inner[1:] -= np.float32(config.pre_emphasis) * samples[:-1]
            inner[0] -= np.float32(config.pre_emphasis) * samples[0]
        n_frames = 1 + samples.size // config.hop_samples
        # What `sliding_window_view` gives, without the 30 microseconds that it takes.
        step = padded.itemsize
        return np.ndarray(
            (n_frames, config.window_samples), np.float32, padded, strides=(config.hop_samples * step, step)
        )
