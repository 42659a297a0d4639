"""Enrolment: the statistics of a speaker's utterances under the background model, and the model adapted with them.

What is kept of a speaker are statistics, not a mixture: they add, so utterances can come later and give the same model
as if all had been there from the start. Several iterations of adaptation need all frames again each time: then what is
kept are the statistics of the last one, which do not add.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial, reduce
from operator import add
from typing import Any, NamedTuple

import numpy as np

from speechgmm.em.adaptation import Adaptation, adapt, last_statistics
from speechgmm.em.coordinates import Coordinates, Floats, require_finite, require_frames
from speechgmm.em.mixture import LARGEST, Mixture
from speechgmm.em.moments import moments_of
from speechgmm.em.sources import BlockSource
from speechgmm.em.statistics import EStep, Statistics
from speechgmm.errors import InputError
from speechgmm.manifest import UNWRITABLE, quoted
from speechgmm.model_file import UNKNOWN
from speechgmm.parallel import Progress, check_jobs, no_progress, one_blas_thread, shard_map
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
        Of all frames, under the background model, or in the last of several iterations of adaptation. `second` is zero
        unless variances are to be adapted.
    utterances : tuple of str
        Their keys, in the order in which they were folded into the statistics.
    background : str
        The fingerprint of the background model.
    seconds : float >= 0
        Of audio.
    adaptation : Adaptation or None
        The one whose last iteration the statistics are of, where it has several. None: it had one, and they can be
        used with every adaptation of one iteration.

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
    adaptation: Adaptation | None = None

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
        object.__setattr__(self, "seconds", _seconds(self.speaker, self.seconds))

    @property
    def n_frames(self) -> float:
        """How many frames there were."""
        return self.statistics.n_frames

    def extended(self, other: "Enrolment") -> "Enrolment":
        """Both together; the same bits as if the utterances of `other` had followed one by one, where it has one.

        Raises
        ------
        InputError
            If `other` is of another speaker or under another background model, an utterance is in both, or one of
            them is of several iterations.
        """
        if other.speaker != self.speaker:
            raise InputError(f"enrolments of {self.speaker!r} and of {other.speaker!r} cannot be joined")
        if other.background != self.background:
            raise InputError(
                f"speaker {self.speaker!r}: enrolments under two background models ({self.background[:12]} and "
                f"{other.background[:12]}) cannot be joined; enrol anew from audio"
            )
        _refuse_twice(self.speaker, (*self.utterances, *other.utterances))
        for one in (self, other):
            _refuse_iterated(one.speaker, one.adaptation)
        return replace(
            self,
            statistics=self.statistics + other.statistics,
            utterances=self.utterances + other.utterances,
            seconds=self.seconds + other.seconds,
        )


class _Task(NamedTuple):
    """A speaker to be enrolled."""

    speaker: str
    speech: Speech
    known: Enrolment | None


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
        If the background model cannot be adapted so.
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
        ubm = background.ubm
        self.coordinates = coordinates or moments_of(ubm).coordinates(ubm.covariance_type)

    @property
    def _iterated(self) -> Adaptation | None:
        """The adaptation whose own statistics are needed, where it has several iterations."""
        return self.adaptation if self.adaptation.iterations > 1 else None

    @cached_property
    def _step(self) -> EStep:
        return EStep(self.background.ubm, self.coordinates, short_exactly=False)

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
            if all had been enrolled at once. Not where adaptation has several iterations.
        n_jobs : int
            Threads; the result does not depend on it.

        Raises
        ------
        InputError
            If an utterance has no frames, the wrong number of features, or values that are not finite; or if it is
            enrolled already; or `known` is of another speaker, under another background model, or of several
            iterations.
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
            Told ("enrolment", utterances done, utterances in all) after each speaker.

        Returns
        -------
        dict
            Speakers of `groups`, sorted, with their enrolments.
        """
        check_jobs(n_jobs)
        known = known or {}
        for speaker, speech in groups.items():
            self._check(speaker, [key for key, _, _ in speech], known.get(speaker))
        tasks = [_Task(speaker, groups[speaker], known.get(speaker)) for speaker in sorted(groups)]
        made = {}
        done, total = 0, sum(map(len, groups.values()))
        # One speaker alone is worked on by all threads, one of many by one.
        inside = n_jobs if len(tasks) == 1 else 1
        with one_blas_thread():
            for enrolment in shard_map(partial(self._enrolment_of, inside), tasks, n_jobs):
                made[enrolment.speaker] = self.trimmed(enrolment)
                done += len(groups[enrolment.speaker])
                progress("enrolment", done, total)
        return made

    def model(self, enrolment: Enrolment) -> Mixture:
        """The background model adapted to a speaker.

        Raises
        ------
        InputError
            If the enrolment was made under another background model, without what is to be adapted, or if it or this
            adaptation is of several iterations and they are not the same.
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
        if enrolment.adaptation != self._iterated:
            raise InputError(
                f"speaker {enrolment.speaker!r}: the statistics are of {_named(enrolment.adaptation)}; this adaptation "
                f"reads those of {_named(self._iterated)} (enrol anew from audio)"
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
        _refuse_iterated(speaker, self._iterated)

    def _enrolment_of(self, n_jobs: int, task: _Task) -> Enrolment:
        known = task.known
        frames = (self._checked(task.speaker, key, one) for key, one, _ in task.speech)
        if self._iterated is None:
            parts = (self._step.statistics_of(one, n_jobs) for one in frames)
            statistics = reduce(add, parts) if known is None else reduce(add, parts, known.statistics)
        else:
            statistics = self._last_statistics(list(frames), n_jobs)
        return Enrolment(
            speaker=task.speaker,
            statistics=statistics,
            utterances=(*(() if known is None else known.utterances), *(key for key, _, _ in task.speech)),
            background=self.background.fingerprint,
            # Not `sum`, which may round in a way of its own.
            seconds=reduce(
                add,
                (_seconds(task.speaker, seconds) for _, _, seconds in task.speech),
                0.0 if known is None else known.seconds,
            ),
            adaptation=self._iterated,
        )

    def _last_statistics(self, frames: list[Floats], n_jobs: int) -> Statistics:
        """Those of the last iteration, over the frames of all utterances."""
        common = np.result_type(*frames)
        alike = BlockSource([one.astype(common, copy=False) for one in frames])
        return last_statistics(self.background.ubm, alike, self.adaptation, self.coordinates, n_jobs)

    def _checked(self, speaker: str, utterance: str, frames: Floats) -> Floats:
        """The frames of one utterance."""
        name = f"frames of utterance {utterance}"
        checked = require_frames(frames, self.background.n_features, name)
        if len(checked) == 0:
            raise InputError(
                f"utterance {utterance!r} of speaker {speaker!r} has no frames (an utterance without speech?)"
            )
        if not max(checked.max(), -checked.min()) <= LARGEST:
            require_finite(checked, name=name)
            raise InputError(f"`{name}` has values so large that their squares overflow; scale them down")
        return checked


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


def _seconds(speaker: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise InputError(f"speaker {speaker!r}: `seconds` is {value!r}; it must be a number from 0")
    return float(value)


def _refuse_twice(speaker: str, utterances: Sequence[str]) -> None:
    twice = [key for key, count in Counter(utterances).items() if count > 1]
    if twice:
        raise InputError(
            f"speaker {speaker!r}: duplicated enrolment: {quoted(twice)} would count twice (enrolled before?)"
        )


def _refuse_iterated(speaker: str, adaptation: Adaptation | None) -> None:
    if adaptation is not None:
        raise InputError(
            f"speaker {speaker!r} is enrolled with {_named(adaptation)}, each of which needs the frames of all "
            "utterances; remove the speaker first, then enrol anew with all utterances"
        )


def _named(adaptation: Adaptation | None) -> str:
    if adaptation is None:
        return "1 iteration of adaptation"
    parts = ", ".join(adaptation.parts)
    return f"{adaptation.iterations} iterations of adaptation ({parts}; {adaptation.relevance_factor:g})"
