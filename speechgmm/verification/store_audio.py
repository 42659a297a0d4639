"""Audio and a speaker store: enrol, calibrate, verify and identify utterances, with the store's own features.

What cannot be read is left out and listed; the rest is done.
"""

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from speechgmm.errors import InputError, SpeechGMMWarning
from speechgmm.features.extract import Extraction, FeatureExtractor, Problem
from speechgmm.files import sha256
from speechgmm.manifest import Utterance, quoted
from speechgmm.parallel import Progress, no_progress
from speechgmm.verification.cross_fitting import CrossFit
from speechgmm.verification.speaker_store import SpeakerStore
from speechgmm.verification.store_calibration import calibrate_store, speech_of
from speechgmm.verification.system import System
from speechgmm.verification.verifier import Identification, OperatingPoint, Verification, Verifier


class Verified(NamedTuple):
    """Decided claims, and the utterances that could not be used."""

    results: tuple[Verification, ...]
    problems: tuple[Problem, ...]


class Identified(NamedTuple):
    """Who the utterances are of, and those that could not be used."""

    results: tuple[Identification, ...]
    problems: tuple[Problem, ...]


class Calibrated(NamedTuple):
    """The trials that a calibration was trained on, and the utterances that could not be used."""

    trials: CrossFit
    problems: tuple[Problem, ...]


def store_frames(
    store: SpeakerStore, utterances: Sequence[Utterance], n_jobs: int = 1, progress: Progress = no_progress
) -> Extraction:
    """Frames of utterances, made as those of the background model were.

    Parameters
    ----------
    store : SpeakerStore
    utterances : sequence of Utterance
        With distinct ids.
    n_jobs : int
        Workers; the frames do not depend on it.
    progress : callable
        Told ("features", utterances done, utterances in all).

    Raises
    ------
    InputError
        If ids repeat, or the background model is of frames that were made elsewhere.
    """
    repeated = [name for name, count in Counter(one.id for one in utterances).items() if count > 1]
    if repeated:
        raise InputError(
            f"utterance ids occur twice: {quoted(repeated)}; `speechgmm manifest check` lists them"
        )
    features = store.background.features
    if features is None:
        raise InputError(
            "the background model of this store was trained on frames made elsewhere, not on audio; in Python, "
            "`SpeakerStore.enrol` and `Verifier` take frames"
        )
    return FeatureExtractor(features).extract(utterances, n_jobs, progress)


def enrol_audio(
    store: SpeakerStore,
    utterances: Sequence[Utterance],
    label: str = "speaker",
    *,
    n_jobs: int = 1,
    progress: Progress = no_progress,
) -> tuple[Problem, ...]:
    """Enrol the speakers of utterances, or add utterances to those who are enrolled.

    Parameters
    ----------
    store : SpeakerStore
        Changed; its `save` keeps that.
    utterances : sequence of Utterance
    label : str
        What names the speakers; "id" enrols every utterance as a speaker of its own.
    n_jobs, progress
        As in `store_frames`.

    Returns
    -------
    tuple of Problem
        Utterances that could not be used.

    Raises
    ------
    InputError
        If none can be used, or as `SpeakerStore.enrol`: then nobody is enrolled.
    """
    names = {_name(one, label) for one in utterances}
    store.refuse_cohort(names)
    if heard := names & speakers_heard(store):
        warnings.warn(
            f"the background model was trained on speech of {quoted(heard)}; it finds such speakers worse than "
            "others",
            SpeechGMMWarning,
            stacklevel=2,
        )
    extraction = store_frames(store, utterances, n_jobs, progress)
    _require_some(extraction)
    _refuse_enrolled(store, extraction.utterances, label)
    store.enrol(speech_of(extraction, label, recording_key), n_jobs, progress)
    return extraction.problems


def recording_key(utterance: Utterance) -> str:
    """What names a stretch of a recording, whatever its file is called: the file's SHA-256, start and end."""
    return f"{sha256(utterance.audio)}:{utterance.start}:{utterance.end}"


def _name(utterance: Utterance, label: str) -> str:
    return utterance.id if label == "id" else utterance.label(label)


def _refuse_enrolled(store: SpeakerStore, utterances: Sequence[Utterance], label: str) -> None:
    """Refuse recordings that would count twice, by the ids that people know."""
    there = {(name, key) for name, known in store.enrolments.items() for key in known.utterances}
    twice: dict[str, list[str]] = {}
    for utterance in utterances:
        own = (_name(utterance, label), recording_key(utterance))
        if own in there:
            twice.setdefault(own[0], []).append(utterance.id)
        there.add(own)
    for name, ids in twice.items():
        raise InputError(
            f"speaker {name!r}: duplicated enrolment: the recordings of {quoted(ids)} would count twice (enrolled "
            "before, or one recording under two names?)"
        )


def calibrate_audio(
    store: SpeakerStore,
    utterances: Sequence[Utterance],
    system: System | None = None,
    *,
    label: str = "speaker",
    n_folds: int = 3,
    n_enrol: int | None = None,
    cohort_utterances: int | None = None,
    n_jobs: int = 1,
    progress: Progress = no_progress,
) -> Calibrated:
    """Calibrate a store on the speech of background speakers; see `calibrate_store`.

    Parameters
    ----------
    store : SpeakerStore
        Changed; its `save` keeps that.
    utterances : sequence of Utterance
    system, n_folds, n_enrol
        As in `calibrate_store`.
    cohort_utterances : int, optional
        As in `calibrate_store`, but none by default for a system that does not normalise: most of a store's bytes
        would be frames that nobody reads.
    label : str
        What names the speakers.
    n_jobs, progress
        As in `store_frames`.

    Raises
    ------
    InputError
        If none can be used, or as `calibrate_store`.
    """
    if cohort_utterances is None and (system or System()).normalisation == "none":
        cohort_utterances = 0
    extraction = store_frames(store, utterances, n_jobs, progress)
    _require_some(extraction)
    trials = calibrate_store(
        store,
        speech_of(extraction, label),
        system,
        n_folds=n_folds,
        n_enrol=n_enrol,
        cohort_utterances=cohort_utterances,
        n_jobs=n_jobs,
        progress=progress,
    )
    return Calibrated(trials, extraction.problems)


def verify_audio(
    store: SpeakerStore,
    utterances: Sequence[Utterance],
    claim: str,
    point: OperatingPoint | None = None,
    *,
    n_jobs: int = 1,
    progress: Progress = no_progress,
) -> Verified:
    """Decide whether utterances are of the speaker they are said to be of.

    Parameters
    ----------
    store : SpeakerStore
    utterances : sequence of Utterance
    claim : str
        The enrolled speaker that all are said to be of.
    point : OperatingPoint, optional
    n_jobs, progress
        As in `store_frames`.

    Raises
    ------
    InputError
        If there is no such speaker; the message names some that are called alike.
    """
    verifier = Verifier(store)
    store.model(claim)  # says who there is, before any work
    extraction = store_frames(store, utterances, n_jobs, progress)
    ids = [one.id for one in extraction.utterances]
    results = (
        verifier.verify(extraction.frames, ids, [claim] * len(ids), point, n_jobs, progress) if ids else []
    )
    return Verified(tuple(results), extraction.problems)


def identify_audio(
    store: SpeakerStore,
    utterances: Sequence[Utterance],
    point: OperatingPoint | None = None,
    *,
    n_jobs: int = 1,
    progress: Progress = no_progress,
) -> Identified:
    """Say which of the enrolled speakers each utterance is of, if any.

    Parameters
    ----------
    store : SpeakerStore
    utterances : sequence of Utterance
    point : OperatingPoint, optional
    n_jobs, progress
        As in `store_frames`.

    Raises
    ------
    InputError
        If nobody is enrolled.
    """
    verifier = Verifier(store)
    extraction = store_frames(store, utterances, n_jobs, progress)
    ids = [one.id for one in extraction.utterances]
    results = verifier.identify(extraction.frames, ids, point, n_jobs, progress) if ids else []
    return Identified(tuple(results), extraction.problems)


def speakers_heard(store: SpeakerStore) -> set[str]:
    """Speakers that the background model or the calibration was trained on, as far as their records name them."""
    records = [store.background.record]
    if store.calibration is not None:
        records.append(store.calibration.record)
    named = [record.get("speakers") for record in records]
    return {name for names in named if isinstance(names, list) for name in names if isinstance(name, str)}


def _require_some(extraction: Extraction) -> None:
    if not extraction.frames:
        first = f"; the first: {extraction.problems[0].message}" if extraction.problems else ""
        raise InputError(f"none of the {len(extraction.problems)} utterances can be used{first}")
