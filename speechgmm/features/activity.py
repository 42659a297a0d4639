"""Speech activity: which frames hold speech.

A rule decides on each frame by its level alone; then the frames around it may have their say. All rules tell loud
from quiet, not speech from other sounds, so none helps where voices in the background are nearly as loud.

"energy" keeps what lies within a range of the utterance's loud frames: for clean recordings, of any level.

"kaldi" is the rule of Kaldi's compute-vad, for levels turned into what Kaldi's log energy would be. What it keeps
depends on how loud the recording is: of speech at a good level it keeps nearly all, of noise too.

"gmm" fits a mixture to the utterance's levels and keeps the frames of its loudest component. It finds out by itself how
loud the noise is, so it is the one for noisy recordings, best with a context: weak sounds, which noise covers, are kept
for the loud ones around them.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from speechgmm.features.cepstra import window_weights
from speechgmm.features.config import FeatureConfig
from speechgmm.features.filter_bank import filter_bank
from speechgmm.parallel import one_blas_thread

Float64s = NDArray[np.float64]
Mask = NDArray[np.bool_]

# A decibel, as a difference of natural logarithms of power.
DECIBEL = float(np.log(10.0) / 10.0)
# The loud frames of an utterance: this share of its frames is louder. The very loudest may be a click.
LOUD_SHARE = 0.05
# In decibels below and above the loud frames: levels beyond count as if they were there. Else digital silence, or a
# few clicks, could be one component of a mixture, and all the rest another.
DEEPEST, HIGHEST = 30.0, 6.0
# Levels are averaged over so many frames to either side where noise matters: it evens out sooner than speech does.
NEIGHBOURS = 2
# In decibels. Of a steady noise or hum, averaged levels spread less than this; of speech without noise, more.
LEAST_SPREAD = 2.0

# Kaldi's defaults of `--vad-energy-threshold` and `--vad-energy-mean-scale`.
KALDI_THRESHOLD, KALDI_MEAN_SCALE = 5.0, 0.5
# Kaldi's window in seconds, and the scale of its samples.
KALDI_WINDOW, KALDI_SCALE = 0.025, 32768.0
# Speech on average: as much power at all frequencies up to 500 Hz, then 9 dB less with every octave.
SPEECH_BEND, SPEECH_SLOPE = 500.0, 9.0

# Where components start: these shares of the frames are quieter.
STARTS = {2: (0.1, 0.9), 3: (0.1, 0.5, 0.9)}
# M-steps. With more, the border drifts: down into the pauses of clean speech, and up into speech among other voices.
STEPS = 8
# In decibels. A component deviates by this at least, which is about what averaged levels of a steady noise do.
LEAST_DEVIATION = 0.25


def speech_frames(levels: NDArray[np.float32], config: FeatureConfig) -> Mask | None:
    """Which frames of an utterance hold speech.

    Parameters
    ----------
    levels : (n_frames,) float32
        Natural logarithm of each frame's sum over all filters; finite, one frame or more.
    config : FeatureConfig
        `speech_activity` and the settings that begin with `activity_`; for "kaldi" also all that levels depend on.

    Returns
    -------
    (n_frames,) bool or None
        At least one frame is speech. None where speech cannot be told from silence: averages over five frames spread
        by less than 2 dB, leaving out the loudest and the quietest 5 % (a steady noise or hum, digital silence, three
        frames or fewer), no frame is above the threshold of "kaldi", or no frame has enough speech around it.

    References
    ----------
    "kaldi", context: Kaldi, `ivector/voice-activity-detection.cc` (Povey et al. 2011, ASRU). "gmm": Bonastre, Wils,
    Meignier (2005), ALIZE, a free toolkit for speaker recognition, ICASSP.
    """
    if config.speech_activity == "none":
        return np.ones(len(levels), np.bool_)
    powers = levels.astype(np.float64) / _exponent(config)
    loud = _quiet_and_loud(powers)[1]
    heard = _window_means(np.clip(powers - loud, -DEEPEST * DECIBEL, HIGHEST * DECIBEL), NEIGHBOURS)
    quietest, loudest = _quiet_and_loud(heard)
    if loudest - quietest < LEAST_SPREAD * DECIBEL:
        return None
    if config.speech_activity == "energy":
        speech = powers >= loud - config.activity_range * DECIBEL
    elif config.speech_activity == "kaldi":
        speech = _above_kaldi_threshold(powers, config)
    else:
        speech = _in_loudest_component(heard, config.activity_components)
    speech = _with_context(speech, config.activity_context, config.activity_share)
    return speech if speech.any() else None


def _exponent(config: FeatureConfig) -> float:
    """The power of power that filters add up."""
    return 0.5 if config.spectrum == "magnitude" else 1.0


def _quiet_and_loud(levels: Float64s) -> tuple[float, float]:
    """The levels that 5 % of the frames stay below, and exceed."""
    ordered, rank = np.sort(levels), int(LOUD_SHARE * (len(levels) - 1))
    return float(ordered[rank]), float(ordered[-1 - rank])


def _above_kaldi_threshold(powers: Float64s, config: FeatureConfig) -> Mask:
    """Frames whose log energy is above a constant plus half of the utterance's mean."""
    # Kaldi adds noise with a deviation of one step, so its energy is hardly ever below that of the noise.
    least = np.log(KALDI_WINDOW * config.sample_rate)
    energies = np.maximum(powers + _kaldi_offset(config), least)
    return np.asarray(energies > KALDI_THRESHOLD + KALDI_MEAN_SCALE * energies.mean())


@lru_cache(maxsize=32)
def _kaldi_offset(config: FeatureConfig) -> float:
    """What Kaldi's log energy of speech is above its log power in all filters.

    Kaldi sums up the squares of the n samples of a window, in steps of 16-bit audio, neither pre-emphasised nor
    weighted: samples of power 1 give log(32768² n). The bins of a transform of length m share (m / 2) Σ(scale window)²
    of their power as it is spread over frequencies; pre-emphasis and filters weigh each of them. Pre-emphasis makes
    this depend on the sound: 0.97 costs voices some 14 dB and adds 3 dB to white noise. So the two rules agree for a
    sound with the average spectrum of speech, and on 92 % of the frames of LibriSpeech and Speech Commands (96 %
    without pre-emphasis).
    """
    frequencies = np.fft.rfftfreq(config.fft_samples, 1.0 / config.sample_rate)
    octaves = np.log2(np.maximum(frequencies / SPEECH_BEND, 1.0))
    speech = 10.0 ** (-SPEECH_SLOPE / 10.0 * octaves)
    turns = np.exp(-2j * np.pi * frequencies / config.sample_rate)
    emphasis = np.square(np.abs(1.0 - config.pre_emphasis * turns))
    window = np.square(config.scale * window_weights(config)).sum()
    powers = 0.5 * config.fft_samples * window * emphasis * speech / speech.sum()
    weights = filter_bank(config).sum(axis=1)
    exponent = _exponent(config)
    level = np.log(weights @ powers**exponent) / exponent
    return float(np.log(KALDI_SCALE**2 * KALDI_WINDOW * config.sample_rate) - level)


def _in_loudest_component(levels: Float64s, n_components: int) -> Mask:
    """Frames whose most probable component is the loudest of a mixture that is fitted to the levels.

    Of three components the middle one is no speech: in noise it is noise.
    """
    # Imported here, because compiled code comes with it.
    from speechgmm.em.coordinates import Coordinates
    from speechgmm.em.maximise import maximise
    from speechgmm.em.mixture import Mixture
    from speechgmm.em.statistics import accumulate

    frames = levels[:, None]
    deviation = frames.std(axis=0)
    mixture = Mixture(
        weights=np.full(n_components, 1.0 / n_components),
        means=np.quantile(frames, STARTS[n_components], axis=0),
        covariances=np.full((n_components, 1), np.square(deviation / n_components)),
    )
    coordinates = Coordinates(frames.mean(axis=0), deviation)
    with one_blas_thread():  # once for all steps, which saves a fifth of the time
        for _ in range(STEPS):
            statistics = accumulate(mixture, frames, coordinates)
            mixture = maximise(statistics, np.square(LEAST_DEVIATION * DECIBEL))
    order = np.argsort(mixture.means[:, 0], kind="stable")
    densities = mixture.unchecked_log_densities(frames)[:, order]
    next_loudest, loudest = mixture.means[order[-2:], 0]
    probable = densities[:, -1] > densities[:, :-1].max(axis=1)
    # A wide component is the most probable one beyond a narrow one on both sides; only louder frames are meant.
    return np.asarray((levels >= loudest) | (probable & (levels > next_loudest)))


def _with_context(speech: Mask, context: int, share: float) -> Mask:
    """Frames with at least this share of speech among themselves and their neighbours, as far as there are any."""
    if context == 0:
        return speech
    # Sums of ones are exact.
    return np.asarray(_window_sums(speech, context) >= share * _window_sums(np.ones(len(speech)), context))


def _window_means(values: Float64s, reach: int) -> Float64s:
    """Of each value and its neighbours up to `reach` places away, as far as there are any."""
    return _window_sums(values, reach) / _window_sums(np.ones(len(values)), reach)


def _window_sums(values: Float64s | Mask, reach: int) -> Float64s:
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    places = np.arange(len(values))
    return np.asarray(sums[np.minimum(places + reach + 1, len(values))] - sums[np.maximum(places - reach, 0)])
