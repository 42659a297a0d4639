"""Audio and a speaker store: enrol, calibrate, verify and identify utterances, with the store's own features.

What cannot be read is left out and listed; the rest is done.
"""

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from speechgmm.errors import InputError, SpeechGMMWarning
from speechgmm.features.extract import Extraction, FeatureExtractor, Problem
from speechgmm.files import sha256
from speechgmm.manifest import Utterance, quoted
from speechgmm.parallel import Progress, no_progress
from speechgmm.verification.cross_fitting import CrossFit
from speechgmm.verification.enrolment import Speech
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
    keys = recording_keys(extraction.utterances)
    _refuse_enrolled(store, extraction.utterances, label, keys)
    store.enrol(speech_of(extraction, label, lambda one: keys[one.id]), n_jobs, progress)
    return extraction.problems


def recording_keys(utterances: Sequence[Utterance]) -> dict[str, str]:
    """By ids, what names stretches of recordings, whatever files are called: the file's SHA-256, start and end.

    Each file is read once, however many utterances are in it.
    """
    digests = {audio: sha256(audio) for audio in {one.audio for one in utterances}}
    # A start at 0 and none are the same.
    return {one.id: f"{digests[one.audio]}:{one.start or None}:{one.end}" for one in utterances}


def _name(utterance: Utterance, label: str) -> str:
    return utterance.id if label == "id" else utterance.label(label)


def _refuse_enrolled(
    store: SpeakerStore, utterances: Sequence[Utterance], label: str, keys: Mapping[str, str]
) -> None:
    """Refuse recordings that would count twice, by the ids that people know."""
    there = {(name, key): "" for name, known in store.enrolments.items() for key in known.utterances}
    twice = []
    for utterance in utterances:
        own = (_name(utterance, label), keys[utterance.id])
        if own in there:
            twice.append(f"{utterance.id!r} ({f'as {there[own]!r}' if there[own] else 'enrolled before'})")
        there.setdefault(own, utterance.id)
    if twice:
        more = f" and {len(twice) - 3} more" if len(twice) > 3 else ""
        raise InputError(
            f"duplicated enrolment: {len(twice)} of {len(utterances)} utterances are the same recording as another "
            f"of their speaker and would count twice; leave them out: {', '.join(twice[:3])}{more}"
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
        Of those that are one recording under several names the first alone is used, and speakers with a single
        utterance are left out, each with one warning.
    system, n_folds, n_enrol
        As in `calibrate_store`.
    cohort_utterances : int, optional
        As in `calibrate_store`.
    label : str
        What names the speakers.
    n_jobs, progress
        As in `store_frames`.

    Raises
    ------
    InputError
        If none can be used, or the system scores by means that the store does not adapt, or as `calibrate_store`.
    """
    system = system or System()
    if system.method == "linear" and "means" not in store.adaptation.parts:
        raise InputError(
            "the method 'linear' scores by adapted means alone, and this store adapts "
            f"{' and '.join(store.adaptation.parts)}: all scores would be 0; take another method"
        )
    extraction = store_frames(store, utterances, n_jobs, progress)
    _require_some(extraction)
    trials = calibrate_store(
        store,
        _of_two_or_more(_without_copies(extraction, label)),
        system,
        n_folds=n_folds,
        n_enrol=n_enrol,
        cohort_utterances=cohort_utterances,
        n_jobs=n_jobs,
        progress=progress,
    )
    return Calibrated(trials, extraction.problems)


def _without_copies(extraction: Extraction, label: str) -> dict[str, Speech]:
    """Utterances by speaker; of those that are one recording, the first alone."""
    keys = recording_keys(extraction.utterances)
    firsts: dict[str, str] = {}
    copies = [name for name, key in keys.items() if firsts.setdefault(key, name) != name]
    if copies:
        warnings.warn(
            f"{len(copies)} utterances are recordings that are there already under other names: {quoted(copies)}; they "
            "are left out, since a trial of one would have it in its model",
            SpeechGMMWarning,
            stacklevel=3,
        )
    speech = speech_of(extraction, label)
    left_out = set(copies)
    return {name: [one for one in own if one[0] not in left_out] for name, own in speech.items()}


def _of_two_or_more(speech: dict[str, Speech]) -> dict[str, Speech]:
    """The speakers who can be enrolled by one utterance and tried by another."""
    single = {name for name, own in speech.items() if len(own) < 2}
    if single:
        warnings.warn(
            f"{len(single)} of {len(speech)} speakers have one utterance only: {quoted(single)}; they are left out, "
            "since a trial of their own needs two",
            SpeechGMMWarning,
            stacklevel=3,
        )
    return {name: own for name, own in speech.items() if name not in single}


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
    """Speakers of the background model, the calibration (as far as their records name them) and the cohort."""
    records = [store.background.record]
    if store.calibration is not None:
        records.append(store.calibration.record)
    named = [record.get("speakers") for record in records]
    heard = {name for names in named if isinstance(names, list) for name in names if isinstance(name, str)}
    return heard if store.cohort is None else heard.union(store.cohort.speakers, store.cohort.frame_speakers)


def _require_some(extraction: Extraction) -> None:
    if not extraction.frames:
        first = f"; the first: {extraction.problems[0].message}" if extraction.problems else ""
        raise InputError(f"none of the {len(extraction.problems)} utterances can be used{first}")
