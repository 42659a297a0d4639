"""Enrolment: the statistics of a speaker's utterances under the background model, and the model adapted with them.

What is kept of a speaker are statistics, not a mixture: they add, so utterances can come later and give the same model
as if all had been there from the start.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np

from speechgmm.em.adaptation import Adaptation, adapt
from speechgmm.em.coordinates import Coordinates, Float32s, Floats, require_finite, require_frames
from speechgmm.em.mixture import LARGEST, Mixture
from speechgmm.em.moments import moments_of
from speechgmm.em.statistics import EStep, Statistics
from speechgmm.errors import InputError
from speechgmm.manifest import UNWRITABLE, quoted
from speechgmm.model_file import UNKNOWN
from speechgmm.parallel import Progress, check_jobs, no_progress, one_blas_thread, shard_map
from speechgmm.training_frames import checked_frames
from speechgmm.verification.background import Background

# A speaker's utterances: of each its key, its frames, and its seconds of audio.
Speech = Sequence[tuple[str, Floats, float]]


@dataclass(frozen=True, eq=False)
class Enrolment:
    """What is known of one speaker.

    Parameters
    ----------
    speaker : str
    statistics : Statistics
        Of all frames, under the background model. `second` is zero unless variances are to be adapted.
    utterances : tuple of str
        Their keys, in the order in which they were folded into the statistics.
    background : str
        The fingerprint of the background model.
    seconds : float >= 0
        Of audio.

    Raises
    ------
    InputError
        If a name is empty or occurs twice, or seconds are no number of 0 or more.
    """

    speaker: str
    statistics: Statistics
    utterances: tuple[str, ...]
    background: str
    seconds: float = 0.0

    def __post_init__(self) -> None:
        require_speaker(self.speaker)
        object.__setattr__(self, "utterances", tuple(self.utterances))
        if not self.utterances:
            raise InputError(f"speaker {self.speaker!r}: an enrolment needs at least 1 utterance")
        for key in self.utterances:
            if not isinstance(key, str) or not key or UNWRITABLE.search(key):
                raise InputError(
                    f"speaker {self.speaker!r}: utterance {key!r}: keys must be texts that are not empty, without "
                    "control characters"
                )
        _refuse_twice(self.speaker, self.utterances)
        seconds = self.seconds
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < math.inf:
            raise InputError(
                f"speaker {self.speaker!r}: `seconds` is {seconds!r}; it must be a number from 0"
            )
        object.__setattr__(self, "seconds", float(seconds))

    @property
    def n_frames(self) -> float:
        """How many frames there were."""
        return self.statistics.n_frames

    def extended(self, other: "Enrolment") -> "Enrolment":
        """Both together; the same bits as if the utterances of `other` had followed one by one, where it has one.

        Raises
        ------
        InputError
            If `other` is of another speaker or under another background model, or an utterance is in both.
        """
        if other.speaker != self.speaker:
            raise InputError(f"enrolments of {self.speaker!r} and of {other.speaker!r} cannot be joined")
        if other.background != self.background:
            raise InputError(
                f"speaker {self.speaker!r}: enrolments under two background models ({self.background[:12]} and "
                f"{other.background[:12]}) cannot be joined; enrol anew from audio"
            )
        _refuse_twice(self.speaker, (*self.utterances, *other.utterances))
        return replace(
            self,
            statistics=self.statistics + other.statistics,
            utterances=self.utterances + other.utterances,
            seconds=self.seconds + other.seconds,
        )


@dataclass(frozen=True, eq=False)
class Cohort:
    """Other people's speech, against which scores are normalised.

    Parameters
    ----------
    enrolments : tuple of Enrolment
        Sorted by speaker, one each: models that test utterances are scored against.
    frames : tuple of (n_frames, n_features) float32 arrays
        Utterances that enrolled models are scored against.
    frame_speakers : tuple of str
        Who speaks in each.

    Raises
    ------
    InputError
        If speakers are not sorted and distinct, or frames and their speakers disagree.
    """

    enrolments: tuple[Enrolment, ...]
    frames: tuple[Float32s, ...]
    frame_speakers: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in ("enrolments", "frame_speakers"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if list(self.speakers) != sorted(set(self.speakers)):
            raise InputError("the enrolments of a cohort must be sorted by speaker, one each")
        if len(self.frames) != len(self.frame_speakers):
            raise InputError(
                f"a cohort of {len(self.frames)} `frames` and {len(self.frame_speakers)} `frame_speakers`; there must "
                "be as many of each"
            )
        if not self.enrolments and not self.frames:
            raise InputError("a cohort needs enrolments, frames, or both; it has none")
        for name in self.frame_speakers:
            require_speaker(name)
        checked = checked_frames(self.frames) if len(self.frames) else []
        object.__setattr__(self, "frames", tuple(frames.astype(np.float32, copy=False) for frames in checked))

    @property
    def speakers(self) -> tuple[str, ...]:
        """Who has a model."""
        return tuple(enrolment.speaker for enrolment in self.enrolments)


class _Piece(NamedTuple):
    speaker: str
    utterance: str
    frames: Floats
    seconds: float


class Enroller:
    """Makes enrolments, and models from them.

    Parameters
    ----------
    background : Background
    adaptation : Adaptation, optional
    coordinates : Coordinates, optional
        Those of the statistics. Default: those that suit the background model.

    Raises
    ------
    InputError
        If the background model cannot be adapted so, or `adaptation` has several iterations.
    """

    def __init__(
        self,
        background: Background,
        adaptation: Adaptation | None = None,
        coordinates: Coordinates | None = None,
    ) -> None:
        self.background = background
        self.adaptation = adaptation or Adaptation()
        self.adaptation.require_suits(background.ubm)
        if self.adaptation.iterations > 1:
            raise InputError(
                f"adaptation `iterations` is {self.adaptation.iterations}; enrolment keeps statistics under the "
                "background model, and a second iteration needs the frames of all utterances again (use 1, or "
                "`speechgmm.em.adapt_to_frames`)"
            )
        ubm = background.ubm
        self.coordinates = coordinates or moments_of(ubm).coordinates(ubm.covariance_type)

    @cached_property
    def _step(self) -> EStep:
        return EStep(self.background.ubm, self.coordinates)

    def enrol(
        self,
        speaker: str,
        frames: Sequence[Floats],
        utterances: Sequence[str],
        seconds: float = 0.0,
        known: Enrolment | None = None,
        n_jobs: int = 1,
    ) -> Enrolment:
        """Enrol one speaker; utterances are folded into the statistics in the order given.

        Parameters
        ----------
        speaker : str
        frames : sequence of (n_frames, n_features) arrays
            One for each utterance.
        utterances : sequence of str
            Their keys.
        seconds : float
            Of audio, all of them together.
        known : Enrolment, optional
            What was enrolled before, which these utterances are added to. The result is the same, to the last bit, as
            if all had been enrolled at once.
        n_jobs : int
            Threads; the result does not depend on it.

        Raises
        ------
        InputError
            If an utterance has no frames, the wrong number of features, or values that are not finite; or if it is
            enrolled already; or `known` is of another speaker or under another background model.
        """
        if len(frames) != len(utterances):
            raise InputError(
                f"{len(frames)} `frames` and {len(utterances)} `utterances` given; there must be as many of each"
            )
        first = [seconds] + [0.0] * (len(frames) - 1)
        speech = list(zip(utterances, frames, first, strict=False))
        before = {} if known is None else {speaker: known}
        return self.enrol_many({speaker: speech}, known=before, n_jobs=n_jobs)[speaker]

    def enrol_many(
        self,
        groups: Mapping[str, Speech],
        *,
        known: Mapping[str, Enrolment] | None = None,
        n_jobs: int = 1,
        progress: Progress = no_progress,
    ) -> dict[str, Enrolment]:
        """Enrol many speakers, as `enrol` does each.

        Parameters
        ----------
        groups : mapping
            Of each speaker a sequence of (utterance key, frames, seconds).
        known : mapping, optional
            Speakers' enrolments from before, to be added to.
        n_jobs : int
            Threads; the result does not depend on it.
        progress : callable
            Told ("enrolment", utterances done, utterances in all).

        Returns
        -------
        dict
            Speakers of `groups`, sorted, with their enrolments.
        """
        check_jobs(n_jobs)
        known = known or {}
        for speaker, speech in groups.items():
            self._check(speaker, [key for key, _, _ in speech], known.get(speaker))
        pieces = [_Piece(speaker, *one) for speaker in sorted(groups) for one in groups[speaker]]
        made = {speaker: known[speaker] for speaker in groups if speaker in known}
        # One utterance alone is worked on by all threads, one of many by one.
        inside = n_jobs if len(pieces) == 1 else 1
        with one_blas_thread():
            parts = shard_map(partial(self._enrolment_of, inside), pieces, n_jobs)
            for done, (piece, part) in enumerate(zip(pieces, parts, strict=True), 1):
                before = made.get(piece.speaker)
                made[piece.speaker] = part if before is None else before.extended(part)
                progress("enrolment", done, len(pieces))
        return {speaker: self.trimmed(made[speaker]) for speaker in sorted(groups)}

    def model(self, enrolment: Enrolment) -> Mixture:
        """The background model adapted to a speaker.

        Raises
        ------
        InputError
            If the enrolment was made under another background model, or without what is to be adapted.
        """
        self.require_own(enrolment)
        settings = self.adaptation
        return adapt(self.background.ubm, enrolment.statistics, settings.relevance_factor, settings.parts)

    def require_own(self, enrolment: Enrolment) -> None:
        """Raise `InputError` where an enrolment cannot be used with this background model and adaptation."""
        if enrolment.background != self.background.fingerprint:
            raise InputError(
                f"speaker {enrolment.speaker!r} was enrolled under another background model "
                f"({enrolment.background[:12]}; this is {self.background.fingerprint[:12]}); enrol anew from audio"
            )
        if "variances" in self.adaptation.parts and not enrolment.statistics.second.any():
            raise InputError(
                f"speaker {enrolment.speaker!r} was enrolled without the second moments that adapted variances need; "
                "enrol anew from audio"
            )

    def trimmed(self, enrolment: Enrolment) -> Enrolment:
        """An enrolment without what this adaptation does not read."""
        if "variances" in self.adaptation.parts:
            return enrolment
        statistics = enrolment.statistics
        # A view of one zero: matrices of many speakers would fill the memory.
        nothing = np.broadcast_to(0.0, statistics.second.shape)
        return replace(enrolment, statistics=replace(statistics, second=nothing))

    def _check(self, speaker: str, utterances: list[str], known: Enrolment | None) -> None:
        """What can be refused before any work."""
        require_speaker(speaker)
        if not utterances:
            raise InputError(f"speaker {speaker!r} has no utterances; at least 1 is needed")
        if known is None:
            _refuse_twice(speaker, utterances)
            return
        if known.speaker != speaker:
            raise InputError(f"the enrolment known of {speaker!r} is that of {known.speaker!r}")
        self.require_own(known)
        _refuse_twice(speaker, (*known.utterances, *utterances))

    def _enrolment_of(self, n_jobs: int, piece: _Piece) -> Enrolment:
        """Of one utterance."""
        name = f"frames of utterance {piece.utterance}"
        frames = require_frames(piece.frames, self.background.n_features, name)
        if len(frames) == 0:
            raise InputError(
                f"utterance {piece.utterance!r} of speaker {piece.speaker!r} has no frames (an utterance without "
                "speech?)"
            )
        require_finite(frames, name=name)
        if max(frames.max(), -frames.min()) > LARGEST:
            raise InputError(f"`{name}` has values so large that their squares overflow; scale them down")
        return Enrolment(
            speaker=piece.speaker,
            statistics=self._step.statistics_of(frames, n_jobs),
            utterances=(piece.utterance,),
            background=self.background.fingerprint,
            seconds=piece.seconds,
        )


def require_speaker(name: str) -> None:
    """Raise `InputError` for what cannot be the name of a speaker."""
    if not isinstance(name, str) or not name or UNWRITABLE.search(name):
        raise InputError(
            f"`speaker` is {name!r}; it must be a text that is not empty, without control characters"
        )
    if name == UNKNOWN:
        raise InputError(
            f"a speaker is named {UNKNOWN!r}, which is the answer for rejected utterances; rename them"
        )


def _refuse_twice(speaker: str, utterances: Sequence[str]) -> None:
    twice = [key for key, count in Counter(utterances).items() if count > 1]
    if twice:
        raise InputError(
            f"speaker {speaker!r}: duplicated enrolment: {quoted(twice)} would count twice (enrolled before?)"
        )
