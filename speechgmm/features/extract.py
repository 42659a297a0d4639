"""Utterances become frames, in parallel, one bad file never stopping the others."""

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechgmm.audio import audio_info, read_audio, resample, upsampling_message
from speechgmm.errors import InputError, SpeechGMMWarning
from speechgmm.features.activity import active_frames
from speechgmm.features.cepstra import CepstralAnalyser
from speechgmm.features.config import FeatureConfig
from speechgmm.features.dynamics import add_deltas
from speechgmm.features.normalise import normalise
from speechgmm.manifest import Segment, Utterance
from speechgmm.parallel import Progress, Workers, check_jobs, no_progress, one_blas_thread, ordered_map

Float32s = NDArray[np.float32]

# Files shorter than this (seconds) spend so long in the interpreter that threads slow one another down; then
# processes pay, but only where there are so many files that starting them does not matter.
SHORT = 3.0
MANY = 10_000
BATCH = 256
SAMPLED = 16

# How far the resampler looks to either side (seconds).
RESAMPLER_REACH = 0.02


@dataclass(frozen=True)
class Problem:
    """An utterance that could not be used, and why."""

    utterance: str
    message: str


@dataclass(frozen=True, eq=False)
class Extraction:
    """Frames of the utterances that could be read, and what went wrong with the others.

    Parameters
    ----------
    utterances : tuple of Utterance
        Those that could be read, in the order given.
    frames : tuple of (n_frames, n_features) float32
        Theirs.
    seconds : tuple of float
        Their length.
    problems : tuple of Problem
    """

    utterances: tuple[Utterance, ...]
    frames: tuple[Float32s, ...]
    seconds: tuple[float, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, eq=False)
class _Outcome:
    """What became of one utterance: frames, or a message."""

    frames: Float32s | None
    seconds: float
    file_rate: int
    message: str = ""


class FeatureExtractor:
    """Makes frames of one configuration from samples, utterances and manifests.

    The frames of an utterance are the same bits alone or in a batch.

    Parameters
    ----------
    config : FeatureConfig, optional
    """

    def __init__(self, config: FeatureConfig | None = None) -> None:
        self.config = config or FeatureConfig()
        self._analyser = CepstralAnalyser(self.config)

    def from_samples(self, samples: NDArray[np.floating]) -> Float32s:
        """Frames of audio that is already at the configured sample rate.

        Parameters
        ----------
        samples : (n_samples,)
            Mono, in [-1, 1].

        Returns
        -------
        (n_frames, n_features) float32
            Frame i is centred at sample `i * hop`; with speech activity, only the active frames.

        Raises
        ------
        InputError
            If there are no samples, or they are not floats of a sensible size.
        """
        with one_blas_thread():
            return self._frames(_as_float32(samples))

    def from_utterance(self, utterance: Utterance) -> Float32s:
        """Frames of one utterance, read from its file.

        Of an utterance with start or end only that stretch is read, and as much around it as its windows and
        deltas reach; its frames are those of the whole file with start <= time < end. What looks at a whole
        utterance (normalisation, speech activity, `top_db`) looks at that stretch alone.

        Raises
        ------
        InputError
            If the file cannot be used; the message names it.
        """
        with one_blas_thread():
            samples, file_rate, keep = self._read(utterance)
            self._warn_of_low_rates([file_rate])
            return self._frames(samples, keep)

    def from_segments(self, utterance: Utterance, segments: Sequence[Segment]) -> list[Float32s]:
        """Frames of stretches of an utterance, cut from the features of the whole of it.

        A segment gets the frames with start <= time < end, at least one: see `FeatureConfig.frame_range`.

        Raises
        ------
        InputError
            If a segment is empty or reaches beyond the utterance, or speech activity is on: it drops frames,
            and with them the time of the others.
        """
        if self.config.speech_activity:
            raise InputError("segments need every frame in its place; switch `speech_activity` off")
        frames = self.from_utterance(utterance)
        length = len(frames) * self.config.hop_samples / self.config.sample_rate
        pieces = []
        for segment in segments:
            if not 0 <= segment.start < segment.end:
                raise InputError(
                    f"{utterance.id}: segment {segment.label!r} goes from {segment.start:g} s to {segment.end:g} s; "
                    "it must start at 0 or later and end after that"
                )
            if segment.end > length + 1e-3:
                raise InputError(
                    f"{utterance.id}: segment {segment.label!r} ends at {segment.end:g} s; "
                    f"the utterance's frames end at {length:g} s"
                )
            first, stop = self.config.frame_range(segment.start, segment.end)
            first = min(first, len(frames) - 1)
            pieces.append(frames[first : max(stop, first + 1)])
        return pieces

    def extract(
        self, utterances: Sequence[Utterance], n_jobs: int = 1, progress: Progress = no_progress
    ) -> Extraction:
        """Frames of many utterances.

        Parameters
        ----------
        utterances : sequence of Utterance
        n_jobs : int
            Workers; the frames do not depend on it. Fewer than 10,000 short files take one in any case: more
            would be slower.
        progress : callable
            Told ("features", utterances done, utterances in all).

        Returns
        -------
        Extraction
            With a `Problem` for every utterance that could not be read.
        """
        done: list[tuple[Utterance, _Outcome]] = []
        with one_blas_thread():
            for utterance, outcome in zip(utterances, self._outcomes(utterances, n_jobs), strict=True):
                done.append((utterance, outcome))
                progress("features", len(done), len(utterances))
        good = [(utterance, outcome) for utterance, outcome in done if outcome.frames is not None]
        self._warn_of_low_rates([outcome.file_rate for _, outcome in good])
        return Extraction(
            utterances=tuple(utterance for utterance, _ in good),
            frames=tuple(outcome.frames for _, outcome in good if outcome.frames is not None),
            seconds=tuple(outcome.seconds for _, outcome in good),
            problems=tuple(
                Problem(utterance.id, outcome.message)
                for utterance, outcome in done
                if outcome.frames is None
            ),
        )

    def _outcomes(self, utterances: Sequence[Utterance], n_jobs: int) -> Iterator[_Outcome]:
        """What becomes of each utterance, in order, by the workers that suit their length."""
        check_jobs(n_jobs)
        sample = utterances[:: -(-len(utterances) // SAMPLED) or 1]
        seconds = [_seconds(utterance) for utterance in sample]
        short = sum(seconds) < SHORT * len(seconds)
        size: int = 1
        prefer: Workers = "threads"
        if short and len(utterances) >= MANY:
            size, prefer = BATCH, "processes"
        elif short:
            n_jobs = 1
        batches = [utterances[start : start + size] for start in range(0, len(utterances), size)]
        for outcomes in ordered_map(self._attempt_all, batches, n_jobs, prefer):
            yield from outcomes

    def _attempt_all(self, utterances: Sequence[Utterance]) -> list[_Outcome]:
        # Again, because this may be another process.
        with one_blas_thread():
            return [self._attempt(utterance) for utterance in utterances]

    def _attempt(self, utterance: Utterance) -> _Outcome:
        try:
            samples, file_rate, keep = self._read(utterance)
            frames = self._frames(samples, keep)
        except InputError as error:
            return _Outcome(None, 0.0, 0, str(error))
        seconds = samples.size / self.config.sample_rate
        if utterance.start is not None or utterance.end is not None:
            seconds = _seconds(utterance)
        return _Outcome(frames, seconds, file_rate)

    def _read(self, utterance: Utterance) -> tuple[Float32s, int, slice]:
        """Samples at the configured rate, the file's own rate, and which of their frames are the utterance's."""
        start, end, keep = None, None, slice(None)
        if utterance.start is not None or utterance.end is not None:
            start, end, keep = self._stretch(utterance)
        samples, file_rate = read_audio(utterance.audio, start, end)
        return resample(samples, file_rate, self.config.sample_rate), file_rate, keep

    def _stretch(self, utterance: Utterance) -> tuple[float, float, slice]:
        """Start and end in seconds of what must be read for an utterance, and its frames within that."""
        config = self.config
        info = audio_info(utterance.audio)
        duration = info.duration
        end = duration if utterance.end is None else utterance.end
        if end > duration + 1e-3:
            raise InputError(
                f"{utterance.audio}: utterance {utterance.id!r} ends at {end:g} s; the file ends at {duration:g} s"
            )
        if (utterance.start or 0.0) >= duration:
            raise InputError(
                f"{utterance.audio}: utterance {utterance.id!r} starts at {utterance.start:g} s; "
                f"the file ends at {duration:g} s"
            )
        hop = config.hop_samples / config.sample_rate
        first, stop = config.frame_range(utterance.start or 0.0, end)
        first = min(first, int(duration / hop))
        if utterance.end is None or end >= duration:
            stop += 1  # a whole file has a frame at its very end
        context, period = config.context, 1
        if info.sample_rate != config.sample_rate:
            # The resampler looks around too, and must begin where a sample of the file and a frame coincide.
            context += math.ceil(RESAMPLER_REACH / hop)
            period = config.sample_rate // math.gcd(config.sample_rate, config.hop_samples * info.sample_rate)
        before = max(0, first - context) // period * period
        after = min(duration, (stop - 1 + context) * hop)
        return before * hop, after, slice(first - before, stop - before)

    def _frames(self, samples: Float32s, keep: slice = slice(None)) -> Float32s:
        """The chain from samples to frames; `keep` cuts before anything looks at the whole of the frames."""
        config = self.config
        bands = self._analyser.bands(samples)
        frames = add_deltas(
            self._analyser.cepstra(bands, keep), config.delta_orders, config.delta_width, config.delta_method
        )
        bands, frames = bands[keep], frames[keep]
        if config.speech_activity:
            frames = frames[active_frames(bands, config.activity_range)]
        return np.ascontiguousarray(normalise(frames, config.normalisation))

    def _warn_of_low_rates(self, file_rates: Sequence[int]) -> None:
        low = [rate for rate in file_rates if rate < self.config.sample_rate]
        if low:
            warnings.warn(
                upsampling_message(len(low), min(low), self.config.sample_rate),
                SpeechGMMWarning,
                stacklevel=3,
            )


def _as_float32(samples: NDArray[Any]) -> Float32s:
    """Samples given by a caller, who may have forgotten to scale integers."""
    samples = np.asarray(samples)
    if samples.dtype.kind != "f":
        raise InputError(
            f"`samples` are {samples.dtype}; they must be floats in [-1, 1] (divide integers by 2**15?)"
        )
    return samples.astype(np.float32, copy=False)


def _seconds(utterance: Utterance) -> float:
    """How long an utterance is; 0 if its file cannot be read, which its turn will show."""
    try:
        end = audio_info(utterance.audio).duration
    except InputError:
        return 0.0
    return min(end, utterance.end or end) - (utterance.start or 0.0)
