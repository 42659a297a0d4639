"""The speaker store: the background model, all enrolled speakers and how their scores are read, in one file."""

import difflib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from speechgmm.em.adaptation import Adaptation
from speechgmm.em.coordinates import Coordinates
from speechgmm.em.mixture import Mixture
from speechgmm.errors import FormatError, InputError
from speechgmm.manifest import quoted
from speechgmm.parallel import Progress, no_progress
from speechgmm.verification.background import Background
from speechgmm.verification.cohort import Cohort
from speechgmm.verification.enrolment import Enroller, Enrolment, Speech
from speechgmm.verification.score_normalisation import refuse_cohort_targets
from speechgmm.verification.speaker_store_file import Stored, read_store, write_store
from speechgmm.verification.stored_calibration import Basis, StoredCalibration
from speechgmm.verification.system import System

# What tells that a file is another one than before: when it was written, how long it is, which it is.
Stamp = tuple[int, int, int]


class SpeakerRow(NamedTuple):
    """An enrolled speaker, for tables."""

    speaker: str
    utterances: int
    seconds: float
    frames: int


@dataclass(eq=False)
class SpeakerStore:
    """Speakers and what verifies them; changes are kept by `save`.

    Make one with `SpeakerStore.create(background)`, or `SpeakerStore.load(path)`.

    Parameters
    ----------
    background : Background
    adaptation : Adaptation
    coordinates : Coordinates, optional
        Those of all statistics. Default: those that suit the background model.
    enrolments : dict
        Speakers, sorted by name, with their enrolments. To be changed by `add`, `enrol` and `remove`.
    cohort : Cohort or None
        None of them may be enrolled.
    calibration : StoredCalibration or None
        Of scores that rest on this background model, adaptation and, if normalised, cohort.

    Raises
    ------
    InputError
        If parts do not belong together.
    """

    background: Background
    adaptation: Adaptation = field(default_factory=Adaptation)
    coordinates: Coordinates | None = None
    enrolments: dict[str, Enrolment] = field(default_factory=dict)
    cohort: Cohort | None = None
    calibration: StoredCalibration | None = None
    # The file that this was read from or last written to, and how it was then.
    _file: tuple[str, Stamp | None] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self.coordinates = self.enroller.coordinates
        self.enrolments = dict(sorted(self.enrolments.items()))
        self.require_whole()

    @classmethod
    def create(cls, background: Background, adaptation: Adaptation | None = None) -> "SpeakerStore":
        """A store without speakers.

        Raises
        ------
        InputError
            If the background model cannot be adapted so.
        """
        return cls(background, adaptation or Adaptation())

    @classmethod
    def load(cls, path: str | Path) -> "SpeakerStore":
        """Read a store; nothing in the file is ever executed.

        Raises
        ------
        InputError
            If there is no such file.
        FormatError
            If it is damaged, of another kind, of a newer version, or says something impossible.
        """
        before = _stamp(path)  # whoever writes while this reads is seen at the next `save`
        stored = read_store(path)
        enrolments = {enrolment.speaker: enrolment for enrolment in stored.enrolments}
        try:
            store = cls(**(stored._asdict() | {"enrolments": enrolments}))
            store._file = os.path.realpath(path), before
            return store
        except InputError as error:
            raise FormatError(f"{path}: {error} (edited by hand, or damaged?)") from error

    @property
    def enroller(self) -> Enroller:
        """What makes enrolments that fit this store."""
        return Enroller(self.background, self.adaptation, self.coordinates)

    def save(self, path: str | Path) -> None:
        """Write the store to one file, whole or not at all. Equal stores give equal bytes.

        Raises
        ------
        InputError
            If the place cannot be written, parts do not belong together, or another program has changed the file
            since this store was read from it.
        """
        self.require_whole()
        place = os.path.realpath(path)
        if self._file is not None and self._file[0] == place and self._file[1] != _stamp(place):
            raise InputError(
                f"{path}: another program has changed this store since it was read; nothing is written (run this again)"
            )
        write_store(
            path,
            Stored(
                background=self.background,
                adaptation=self.adaptation,
                coordinates=self.enroller.coordinates,
                enrolments=tuple(self.enrolments[speaker] for speaker in sorted(self.enrolments)),
                cohort=self.cohort,
                calibration=self.calibration,
            ),
        )
        self._file = place, _stamp(place)

    def enrol(self, groups: Mapping[str, Speech], n_jobs: int = 1, progress: Progress = no_progress) -> None:
        """Enrol speakers, or add utterances to those who are enrolled; all of them, or none if one is refused.

        Parameters
        ----------
        groups : mapping
            Of each speaker a sequence of (utterance key, frames, seconds).
        n_jobs, progress
            See `Enroller.enrol_many`.

        Raises
        ------
        InputError
            If an utterance is enrolled already, has no frames, or ones that do not fit; if a speaker is one of the
            cohort; or if a speaker is enrolled already and adaptation has several iterations (`remove` the speaker
            first, then enrol all utterances).
        """
        self.refuse_cohort(groups)
        made = self.enroller.enrol_many(groups, known=self.enrolments, n_jobs=n_jobs, progress=progress)
        self._keep(made)

    def add(self, enrolment: Enrolment) -> None:
        """Add an enrolment that was made elsewhere; to what is known of the speaker, if they are enrolled.

        Raises
        ------
        InputError
            If it was made under another background model, in other coordinates, with other iterations of adaptation
            or without the moments needed; or if an utterance is enrolled already, the speaker is one of the cohort, or
            is enrolled already and adaptation has several iterations.
        """
        self.refuse_cohort([enrolment.speaker])
        enroller = self.enroller
        _require_own(enroller, enrolment)
        known = self.enrolments.get(enrolment.speaker)
        whole = enrolment if known is None else known.extended(enrolment)
        self._keep({enrolment.speaker: enroller.trimmed(whole)})

    def remove(self, speaker: str) -> None:
        """Forget a speaker.

        Raises
        ------
        InputError
            If there is no such speaker; the message names some that are called alike.
        """
        del self.enrolments[self._known(speaker)]

    def speakers(self) -> list[SpeakerRow]:
        """A row for each enrolled speaker, sorted by name."""
        return [
            SpeakerRow(name, len(one.utterances), one.seconds, round(one.n_frames))
            for name, one in sorted(self.enrolments.items())
        ]

    def model(self, speaker: str) -> Mixture:
        """The background model adapted to an enrolled speaker.

        Raises
        ------
        InputError
            If there is no such speaker; the message names some that are called alike.
        """
        return self.enroller.model(self.enrolments[self._known(speaker)])

    def cohort_models(self) -> tuple[Mixture, ...]:
        """The background model adapted to each speaker of the cohort; none without a cohort."""
        enroller, enrolments = self.enroller, () if self.cohort is None else self.cohort.enrolments
        return tuple(enroller.model(enrolment) for enrolment in enrolments)

    def basis(self, system: System) -> Basis:
        """What scores of a system rest on now, beside the speakers that are enrolled; for `StoredCalibration`.

        Raises
        ------
        InputError
            If the system normalises scores, and there is no cohort.
        """
        if system.normalisation == "none":
            return Basis(self.background.fingerprint, self.adaptation, None)
        if self.cohort is None:
            raise InputError(
                f"the scores are normalised by {system.normalisation!r}, and there is no cohort to normalise by"
            )
        return Basis(self.background.fingerprint, self.adaptation, self.cohort.fingerprint)

    def require_whole(self) -> None:
        """Raise `InputError` where parts do not belong together; they may have been set at any time."""
        self.refuse_cohort(list(self.enrolments))
        enroller = self.enroller
        for speaker, enrolment in self.enrolments.items():
            if speaker != enrolment.speaker:
                raise InputError(
                    f"the enrolment of {speaker!r} in `enrolments` is that of {enrolment.speaker!r}"
                )
            _require_own(enroller, enrolment)
        if self.cohort is not None:
            for enrolment in self.cohort.enrolments:
                _require_own(enroller, enrolment)
            widths = {frames.shape[1] for frames in self.cohort.frames} - {self.background.n_features}
            if widths:
                raise InputError(
                    f"the cohort's frames have {widths.pop()} features; the background model has "
                    f"{self.background.n_features}"
                )
        if self.calibration is not None:
            _require_basis(self.calibration, self.basis(self.calibration.system))

    def _known(self, speaker: str) -> str:
        if speaker in self.enrolments:
            return speaker
        if not self.enrolments:
            raise InputError(f"there is no speaker {speaker!r}; nobody is enrolled")
        near = difflib.get_close_matches(str(speaker), self.enrolments, n=3)
        hint = f"called alike: {quoted(near)}" if near else f"enrolled: {quoted(self.enrolments)}"
        raise InputError(f"there is no speaker {speaker!r}; {hint}")

    def _keep(self, made: Mapping[str, Enrolment]) -> None:
        self.enrolments = dict(sorted({**self.enrolments, **made}.items()))

    def refuse_cohort(self, speakers: Iterable[str]) -> None:
        """Raise `InputError` if one of these speakers is in the cohort."""
        if self.cohort is not None:
            refuse_cohort_targets({*self.cohort.speakers, *self.cohort.frame_speakers}, speakers)


def _require_own(enroller: Enroller, enrolment: Enrolment) -> None:
    enroller.require_own(enrolment)
    if not enrolment.statistics.coordinates.same_as(enroller.coordinates):
        raise InputError(
            f"speaker {enrolment.speaker!r} was enrolled in other coordinates than those of this store; enrol "
            "through the store, or with its `enroller`"
        )


def _require_basis(calibration: StoredCalibration, basis: Basis) -> None:
    pairs = zip(Basis._fields, calibration.basis, basis, strict=True)
    changed = [name for name, then, now in pairs if then != now]
    if changed:
        raise InputError(
            f"the calibration is of scores with another {' and another '.join(changed)} than this store has now; "
            "calibrate anew, or set `calibration` to None"
        )


def _stamp(path: str | Path) -> Stamp | None:
    """None where there is no such file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
