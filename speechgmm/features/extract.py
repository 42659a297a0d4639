"""Utterances become frames, in parallel, one bad file never stopping the others."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechgmm.errors import InputError, SpeechGMMWarning
from speechgmm.features.activity import speech_frames
from speechgmm.features.cepstra import Allocate, CepstralAnalyser, empty, require_samples
from speechgmm.features.config import FeatureConfig
from speechgmm.features.dynamics import add_deltas
from speechgmm.features.normalisation import normalise
from speechgmm.features.reading import Reading, duration_of, naming, open_utterance
from speechgmm.features.store import FeatureStore, FeatureWriter
from speechgmm.features.store_files import allocate as allocate_in
from speechgmm.manifest import Segment, Utterance, quoted, read_manifest
from speechgmm.parallel import Progress, Workers, check_jobs, no_progress, parallel_map, worker_count
from speechgmm.resampling import upsampling_message

Float32s = NDArray[np.float32]

# Files shorter than this (seconds) spend so long in the interpreter that threads slow one another down; then
# processes pay, but only where there are so many files that starting them does not matter.
SHORT = 3.0
MANY = 30_000
SAMPLED = 16
# Utterances that a worker takes at a time, at most: threads and processes.
BATCHES: dict[Workers, int] = {"threads": 32, "processes": 256}

# Frames moved at a time.
ROWS = 1 << 16


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

    def of_split(self, split: str) -> "Extraction":
        """The utterances of a split, with their frames."""
        chosen = [number for number, one in enumerate(self.utterances) if one.split == split]
        rows = ((self.utterances[number], self.frames[number], self.seconds[number]) for number in chosen)
        utterances, frames, seconds = zip(*rows, strict=True) if chosen else ((), (), ())
        return Extraction(utterances, frames, seconds, ())


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of one utterance.

    Attributes
    ----------
    utterance : Utterance
    frames : (n_frames, n_features) float32, or None
        None where it could not be used, or where a store has them.
    seconds : float
        Its length.
    message : str
        Why it could not be used.
    file_rate : int
        Of its file, in Hz; 0 where a store had its frames.
    speech_found : bool
        False where speech could not be told from silence, and all frames were kept.
    key : str
        Its name in the store, if there is one.
    """

    utterance: Utterance
    frames: Float32s | None = None
    seconds: float = 0.0
    message: str = ""
    file_rate: int = 0
    speech_found: bool = True
    key: str = ""


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
        empty_filters = self._analyser.n_empty_filters
        if empty_filters:
            warnings.warn(
                f"{empty_filters} of {self.config.n_filters} filters hold no frequency of a transform of "
                f"{self.config.fft_samples} samples, and never change (fewer `n_filters`, or a longer `fft_length`?)",
                SpeechGMMWarning,
                stacklevel=2,
            )

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
        samples = require_samples(samples, self.config)
        reading = Reading(lambda: [samples], samples.size, self.config.sample_rate, slice(None), 0.0)
        frames, speech_found = self._frames(reading)
        self._warn([], [] if speech_found else ["samples"])
        return frames

    def from_utterance(self, utterance: Utterance) -> Float32s:
        """Frames of one utterance, read from its file; a long one is read in blocks.

        Of an utterance with start or end only that stretch is read, and as much around it as its windows and
        deltas reach; its frames are those of the whole file with start <= time < end. What looks at a whole
        utterance (normalisation, speech activity, `top_db`) looks at that stretch alone.

        Raises
        ------
        InputError
            If the file cannot be used; the message names it.
        """
        reading, frames, speech_found = self._read(utterance)
        self._warn([reading.file_rate], [] if speech_found else [utterance.id])
        return frames

    def from_segments(self, utterance: Utterance, segments: Sequence[Segment]) -> list[Float32s]:
        """Frames of stretches of an utterance, cut from the features of the whole of it.

        A segment gets the frames with start <= time < end, at least one: see `FeatureConfig.frame_range`.

        Raises
        ------
        InputError
            If a segment is empty or reaches beyond the utterance, or speech activity is on: it drops frames,
            and with them the time of the others.
        """
        if self.config.speech_activity != "none":
            raise InputError("segments need every frame in its place; switch `speech_activity` off")
        reading, frames, _ = self._read(utterance)
        self._warn([reading.file_rate], [])
        # Times of alignments are often those of whole frames.
        length = max(reading.seconds, len(frames) * self.config.hop_samples / self.config.sample_rate)
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
                    f"the utterance ends at {length:g} s"
                )
            first, stop = self.config.frame_range(segment.start, segment.end)
            pieces.append(frames[min(first, len(frames) - 1) : stop])
        return pieces

    def stream(
        self, utterances: Sequence[Utterance], n_jobs: int = 1, ordered: bool = True
    ) -> Iterator[Outcome]:
        """What becomes of each of many utterances, as they are done; few of them wait in memory.

        Parameters
        ----------
        utterances : sequence of Utterance
        n_jobs : int
            Workers; the frames do not depend on it. Fewer than 30,000 short files take one in any case: more
            would be slower. `joblib.parallel_config` may choose another backend.
        ordered : bool
            In the order given, or as they come.
        """
        return self._outcomes(utterances, n_jobs, ordered, None)

    def extract(
        self,
        utterances: Sequence[Utterance] | str | Path,
        n_jobs: int = 1,
        progress: Progress = no_progress,
        store: FeatureStore | str | Path | None = None,
    ) -> Extraction:
        """Frames of many utterances.

        Parameters
        ----------
        utterances : sequence of Utterance, or path of a manifest
        n_jobs : int
            See `stream`.
        progress : callable
            Told ("features", utterances done, utterances in all).
        store : FeatureStore or path of its folder, optional
            Keeps the frames, and gives those it has already; the frames of the result are then views of its files, and
            only the index is in memory. Warnings are about new utterances only.

        Returns
        -------
        Extraction
            With a `Problem` for every utterance that could not be used.
        """
        if isinstance(utterances, str | Path):
            utterances = read_manifest(utterances)
        if store is None:
            done = _collected(self.stream(utterances, n_jobs), len(utterances), progress)
        else:
            if not isinstance(store, FeatureStore):
                store = FeatureStore(store, self.config)
            done = self._stored(utterances, n_jobs, progress, store)
        self._warn(
            [one.file_rate for one in done if one.file_rate],
            [one.utterance.id for one in done if not one.speech_found],
        )
        return _extraction(done)

    def _stored(
        self, utterances: Sequence[Utterance], n_jobs: int, progress: Progress, store: FeatureStore
    ) -> list[Outcome]:
        """What becomes of each utterance, the frames in a store."""
        if store.config != self.config:
            raise InputError(f"{store.folder}: holds features of other settings than the extractor's")
        with store.writer() as writer:
            outcomes = self._outcomes(utterances, n_jobs, True, store)
            done = _collected(_added(outcomes, store, writer), len(utterances), progress)
        return [
            one if one.message else replace(one, frames=store.frames(one.key), seconds=store.seconds(one.key))
            for one in done
        ]

    def _outcomes(
        self, utterances: Sequence[Utterance], n_jobs: int, ordered: bool, store: FeatureStore | None
    ) -> Iterator[Outcome]:
        """What becomes of each utterance, by the workers that suit their length."""
        check_jobs(n_jobs)
        sample = utterances[:: -(-len(utterances) // SAMPLED) or 1]
        short = sum(map(duration_of, sample)) < SHORT * len(sample)
        # A store's index would go to every process again and again.
        prefer: Workers = "processes" if short and store is None and len(utterances) >= MANY else "threads"
        if short and prefer == "threads":
            n_jobs = 1
        size = max(1, min(BATCHES[prefer], len(utterances) // (8 * worker_count(n_jobs))))
        batches = [utterances[start : start + size] for start in range(0, len(utterances), size)]
        allocate = empty if store is None else partial(allocate_in, store.folder)
        attempt = partial(self._attempt_all, store, allocate)
        for outcomes in parallel_map(attempt, batches, n_jobs, prefer, ordered):
            yield from outcomes

    def _attempt_all(
        self, store: FeatureStore | None, allocate: Allocate, batch: Sequence[Utterance]
    ) -> list[Outcome]:
        # A method, because functions within functions cannot go to every kind of worker.
        return [self._attempt(utterance, store, allocate) for utterance in batch]

    def _attempt(self, utterance: Utterance, store: FeatureStore | None, allocate: Allocate) -> Outcome:
        key = ""
        try:
            if store is not None:
                key = store.key_of(utterance)
                if key in store:
                    return Outcome(utterance, key=key)
            reading, frames, speech_found = self._read(utterance, allocate)
        except InputError as error:
            return Outcome(utterance, message=str(error))
        return Outcome(utterance, frames, reading.seconds, "", reading.file_rate, speech_found, key)

    def _read(self, utterance: Utterance, allocate: Allocate = empty) -> tuple[Reading, Float32s, bool]:
        """What was read of an utterance, its frames, and whether speech was found; an error names the file."""
        with naming(utterance.audio):
            reading = open_utterance(utterance, self.config)
            return reading, *self._frames(reading, allocate)

    def _frames(self, reading: Reading, allocate: Allocate = empty) -> tuple[Float32s, bool]:
        """The chain from samples to frames, and whether speech was told from silence.

        The reading's `keep` cuts before anything looks at the whole of the frames.
        """
        config, method = self.config, self.config.normalisation
        data = self._analyser.analyse(
            reading.blocks, reading.n_samples, allocate, reading.keep, reading.first_sample
        )
        add_deltas(data.frames, config)
        frames, levels = data.frames[reading.keep], data.levels[reading.keep]
        by_utterance = method in ("mean", "mean_variance")
        if not by_utterance:
            normalise(frames, method, config.normalisation_frames, out=frames)
        speech_found = True
        if config.speech_activity != "none":
            chosen = speech_frames(levels, config)
            speech_found = chosen is not None
            if chosen is not None:
                frames = _compacted(frames, chosen)
            elif config.no_speech == "refuse":
                raise InputError(
                    "no speech can be told from silence (a steady noise or hum, speech without a pause, or another "
                    '`activity_range`?); `no_speech` "keep" keeps all frames'
                )
        if by_utterance:
            normalise(frames, method, config.normalisation_frames, out=frames)
        return frames, speech_found

    def _warn(self, file_rates: Sequence[int], silent: Sequence[str]) -> None:
        """One warning for all files of a low rate, and one for all utterances where speech cannot be told."""
        rate = self.config.sample_rate
        low = [file_rate for file_rate in file_rates if file_rate < rate]
        if low:
            warnings.warn(upsampling_message(len(low), min(low), rate), SpeechGMMWarning, stacklevel=3)
        if silent:
            warnings.warn(
                f"no speech can be told from silence in {quoted(silent)}; all frames are kept",
                SpeechGMMWarning,
                stacklevel=3,
            )

    def __reduce__(self) -> Any:
        # Tables and compiled code are made anew where it is unpickled.
        return type(self), (self.config,)


def _collected(outcomes: Iterator[Outcome], total: int, progress: Progress) -> list[Outcome]:
    """All outcomes, with progress."""
    done = []
    for outcome in outcomes:
        done.append(outcome)
        progress("features", len(done), total)
    return done


def _added(outcomes: Iterator[Outcome], store: FeatureStore, writer: FeatureWriter) -> Iterator[Outcome]:
    """Outcomes whose frames have gone into a store."""
    for one in outcomes:
        message = one.message
        if one.frames is not None:
            message = _changed(one, store)
            if not message:
                writer.add(one.key, one.utterance.id, one.frames, one.seconds)
        yield replace(one, frames=None, message=message)


def _changed(outcome: Outcome, store: FeatureStore) -> str:
    """What to say if the audio file is not the one any more that the key is of; else nothing."""
    try:
        if store.key_of(outcome.utterance) == outcome.key:
            return ""
    except InputError as error:
        return str(error)
    return f"{outcome.utterance.audio}: changed while it was read (being written by another program?)"


def _extraction(outcomes: Sequence[Outcome]) -> Extraction:
    good = [(one, one.frames) for one in outcomes if one.frames is not None]
    return Extraction(
        utterances=tuple(one.utterance for one, _ in good),
        frames=tuple(frames for _, frames in good),
        seconds=tuple(one.seconds for one, _ in good),
        problems=tuple(Problem(one.utterance.id, one.message) for one in outcomes if one.message),
    )


def _compacted(frames: Float32s, chosen: NDArray[np.bool_]) -> Float32s:
    """The chosen frames, moved to the front."""
    n = 0
    for start in range(0, len(frames), ROWS):
        block = frames[start : start + ROWS][chosen[start : start + ROWS]]
        frames[n : n + len(block)] = block
        n += len(block)
    return frames[:n]
