"""Which samples an utterance's frames need, and how they come from its file."""

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechgmm.audio import audio_info, read_audio, read_blocks
from speechgmm.errors import InputError
from speechgmm.features.cepstra import LOUDEST
from speechgmm.features.config import FeatureConfig
from speechgmm.manifest import Utterance
from speechgmm.resampling import resample, resample_blocks

Float32s = NDArray[np.float32]

# The sample rate for files of higher ones (Hz): what lies above 8 kHz tells microphones apart rather than voices.
BEST_RATE = 16000
# Sample rates of files (Hz).
LOWEST_RATE, HIGHEST_RATE = 1000, 1_000_000

# Audio that lasts longer (seconds) is read in blocks; no file of fewer bytes is looked at for that.
LONG = 120.0
SMALL_FILE = 1 << 20
# How far the resampler looks to either side (seconds).
RESAMPLER_REACH = 0.02


@dataclass(frozen=True, eq=False)
class Reading:
    """Samples at the configured rate, and what is the utterance's own among their frames.

    Attributes
    ----------
    blocks : callable
        Gives the samples in blocks, from their beginning each time it is called.
    n_samples : int
        In all blocks, or a few more.
    file_rate : int
        The file's own sample rate in Hz.
    keep : slice
        The utterance's own frames; those around them serve windows and deltas.
    seconds : float
        Length of the utterance.
    first_sample : int
        Where in the file the samples begin, at the configured rate.
    """

    blocks: Callable[[], Iterable[Float32s]]
    n_samples: int
    file_rate: int
    keep: slice
    seconds: float
    first_sample: int = 0


def open_utterance(utterance: Utterance, config: FeatureConfig) -> Reading:
    """What must be read for an utterance; a short one is read at once.

    Raises
    ------
    InputError
        If the file cannot be used, or the utterance lies outside of it.
    """
    start, end, keep = None, None, slice(None)
    path, seconds = utterance.audio, 0.0
    if utterance.start is not None or utterance.end is not None:
        start, end, keep, seconds = _stretch(utterance, config)
        duration = end - start
    else:
        duration = _duration_of_large(path)
    if duration > LONG:
        return _in_blocks(path, start, end, keep, seconds or duration, config)
    samples, file_rate = read_audio(path, start, end)
    _check_rate(path, file_rate)
    samples = resample(samples, file_rate, config.sample_rate)
    _check_loudness(path, samples, config)
    seconds = seconds or samples.size / config.sample_rate
    return Reading(lambda: [samples], samples.size, file_rate, keep, seconds, _first_sample(start, config))


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Let errors that do not say which file they are about begin with its path."""
    try:
        yield
    except InputError as error:
        if str(path) in str(error):
            raise
        raise InputError(f"{path}: {error}") from error


def duration_of(utterance: Utterance) -> float:
    """How long an utterance is in seconds; 0 if its file cannot be read, which its turn will show."""
    try:
        end = audio_info(utterance.audio).duration
    except InputError:
        return 0.0
    return min(end, utterance.end or end) - (utterance.start or 0.0)


def suitable_config(utterances: Sequence[Utterance], settings: Mapping[str, Any]) -> FeatureConfig:
    """A configuration of some settings, its sample rate, where they give none, that of the files."""
    return FeatureConfig.from_dict({"sample_rate": common_rate(utterances), **settings})


def common_rate(utterances: Sequence[Utterance]) -> int:
    """The most common sample rate of the files (in Hz, at most 16000), judged by up to 100 of them."""
    step = -(-len(utterances) // 100)
    rates: Counter[int] = Counter()
    for utterance in utterances[::step]:
        try:
            rates[audio_info(utterance.audio).sample_rate] += 1
        except InputError:
            continue  # extraction will say what is wrong with it
    return min(BEST_RATE, max(rates, key=lambda rate: (rates[rate], -rate))) if rates else BEST_RATE


def _duration_of_large(path: str | os.PathLike[str]) -> float:
    """How long the audio of a large file is in seconds; 0 for a small file, without opening it."""
    try:
        if os.stat(path).st_size < SMALL_FILE:
            return 0.0
    except (OSError, ValueError):
        return 0.0  # reading will say what is wrong
    return audio_info(str(path)).duration


def _in_blocks(
    path: str | os.PathLike[str],
    start: float | None,
    end: float | None,
    keep: slice,
    seconds: float,
    config: FeatureConfig,
) -> Reading:
    file_rate, wanted = audio_info(str(path)).sample_rate, config.sample_rate
    _check_rate(path, file_rate)
    whole = (end - start) if start is not None and end is not None else seconds
    # Rounding, of the stretch and by the resampler, may bring a few samples more.
    n_samples = math.ceil(whole * wanted) + 16

    def blocks() -> Iterator[Float32s]:
        for block in resample_blocks(read_blocks(str(path), start, end), file_rate, wanted):
            _check_loudness(path, block, config)
            yield block

    return Reading(blocks, n_samples, file_rate, keep, seconds, _first_sample(start, config))


def _first_sample(start: float | None, config: FeatureConfig) -> int:
    return round((start or 0.0) * config.sample_rate)


def _check_rate(path: str | os.PathLike[str], file_rate: int) -> None:
    """Refuse a rate that is no speech's: to bring up a low one makes hours of nothing, to bring down one takes long."""
    if not LOWEST_RATE <= file_rate <= HIGHEST_RATE:
        raise InputError(
            f"{path}: its header says {file_rate} Hz; speech has from {LOWEST_RATE} to {HIGHEST_RATE} Hz (a damaged "
            "header, or not audio at all?)"
        )


def _check_loudness(path: str | os.PathLike[str], samples: Float32s, config: FeatureConfig) -> None:
    """Refuse samples whose squares have no place in float32."""
    low, high = (float(samples.min()), float(samples.max())) if samples.size else (0.0, 0.0)
    if max(-low, high) * config.scale > LOUDEST:
        raise InputError(
            f"{path}: samples reach {high if high > -low else low:g}; they must lie in [-1, 1] or near it (a float "
            "file that holds something else, or damaged?)"
        )


def _stretch(utterance: Utterance, config: FeatureConfig) -> tuple[float, float, slice, float]:
    """Start and end in seconds of what must be read for an utterance, its frames within that, and its length."""
    info = audio_info(utterance.audio)
    duration, begin = info.duration, utterance.start or 0.0
    end = duration if utterance.end is None else utterance.end
    if end > duration + 1e-3:
        raise InputError(
            f"{utterance.audio}: utterance {utterance.id!r} ends at {end:g} s; the file ends at {duration:g} s"
        )
    if begin >= duration:
        raise InputError(
            f"{utterance.audio}: utterance {utterance.id!r} starts at {begin:g} s; the file ends at {duration:g} s"
        )
    hop = config.hop_samples / config.sample_rate
    n_frames = config.n_frames(round(duration * config.sample_rate))
    first, stop = config.frame_range(begin, end)
    first = min(first, max(0, n_frames - 1))
    if utterance.end is None or end >= duration:
        stop = max(stop, n_frames)  # those whose middle lies at the very end, or beyond the last whole window
    context, period = config.context, 1
    if info.sample_rate != config.sample_rate:
        # The resampler looks around too, and must begin where a sample of the file and a frame coincide.
        context += math.ceil(RESAMPLER_REACH / hop)
        period = config.sample_rate // math.gcd(config.sample_rate, config.hop_samples * info.sample_rate)
    before = max(0, first - context) // period * period
    after = min(duration, (stop - 1 + context) * hop)
    return before * hop, after, slice(first - before, stop - before), min(end, duration) - begin
