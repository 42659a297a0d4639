"""A speaker store learns what its scores mean: cohort, calibration and usual explanations, from background speakers."""

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any

import numpy as np

from speechgmm.errors import InputError
from speechgmm.features.extract import Extraction
from speechgmm.manifest import Utterance, quoted
from speechgmm.parallel import Progress, no_progress
from speechgmm.verification.background import Background, UbmSettings
from speechgmm.verification.calibration import fit_calibration
from speechgmm.verification.cross_fitting import CrossFit, cohort_of, cross_fit
from speechgmm.verification.enrolment import Speech
from speechgmm.verification.speaker_store import SpeakerStore
from speechgmm.verification.stored_calibration import StoredCalibration
from speechgmm.verification.system import System
from speechgmm.version import __version__

# Of the calibration's training trials: between 0.5 and 0.01, the priors that decisions are made at most often.
PRIOR = 0.1
# Decimals of held-out explanations that a store keeps.
DECIMALS = 6


def speech_of(
    extraction: Extraction,
    label: str = "speaker",
    key: Callable[[Utterance], str] = attrgetter("id"),
) -> dict[str, Speech]:
    """Utterances by speaker: of each (key, frames, seconds).

    Parameters
    ----------
    extraction : Extraction
    label : str
        What names the speakers; "id" makes every utterance one of its own.
    key : callable
        What names an utterance; by default its id.
    """
    groups: dict[str, list[Any]] = {}
    for utterance, frames, seconds in zip(
        extraction.utterances, extraction.frames, extraction.seconds, strict=True
    ):
        name = utterance.id if label == "id" else utterance.label(label)
        groups.setdefault(name, []).append((key(utterance), frames, seconds))
    return dict(groups)


def calibrate_store(
    store: SpeakerStore,
    speech: Mapping[str, Speech],
    system: System | None = None,
    *,
    n_folds: int = 3,
    n_enrol: int | None = None,
    cohort_utterances: int | None = None,
    n_jobs: int = 1,
    progress: Progress = no_progress,
) -> CrossFit:
    """Give a store its cohort and its calibration, from the speakers that its background model was trained on.

    The calibration is trained on trials among these speakers that no background model has seen: see `cross_fit`. The
    cohort comes from all of them; a store whose system does not normalise keeps none.

    Parameters
    ----------
    store : SpeakerStore
        Changed; its `save` keeps that.
    speech : mapping
        Of each background speaker a sequence of (utterance key, frames, seconds).
    system : System, optional
        Whose scores are calibrated, and which the store uses from then on.
    n_folds, n_enrol, n_jobs, progress
        As in `cross_fit`.
    cohort_utterances : int, optional
        Utterances of each speaker that the store keeps to normalise by, at most; all by default.

    Returns
    -------
    CrossFit
        The trials that the calibration was trained on.

    Raises
    ------
    InputError
        If a speaker is enrolled in the store, its background model has other than diagonal covariances, or as
        `cross_fit`. The store is as before then.
    """
    system = system or System()
    enrolled = sorted(set(speech) & set(store.enrolments))
    if enrolled:
        raise InputError(
            f"{quoted(enrolled)} would calibrate and are enrolled; background speakers must be other people"
        )
    trials = cross_fit(
        speech,
        [system],
        ubm=_settings_of(store.background),
        adaptation=store.adaptation,
        n_folds=n_folds,
        n_enrol=n_enrol,
        cohort_utterances=cohort_utterances,
        n_jobs=n_jobs,
        progress=progress,
    )
    scores = trials.scores[system]
    calibration = fit_calibration(scores[trials.is_target], scores[~trials.is_target], PRIOR)
    store.cohort = None
    if system.normalisation != "none":  # otherwise most of the file would be what nobody reads
        store.cohort = cohort_of(store.enroller, speech, n_enrol, cohort_utterances, n_jobs)
    store.calibration = StoredCalibration(
        calibration=calibration,
        basis=store.basis(system),
        system=system,
        explanations=tuple(round(value, DECIMALS) for value in trials.explanations.tolist()),
        record={
            "version": __version__,
            "speakers": sorted(speech),
            "utterances": sum(map(len, speech.values())),
            "median_frames": int(np.median([len(frames) for own in speech.values() for _, frames, _ in own])),
            "n_folds": n_folds,
            "n_enrol": n_enrol,
        },
    )
    return trials


def _settings_of(background: Background) -> UbmSettings:
    """What trains background models like this one."""
    if background.ubm.covariance_type != "diag":
        raise InputError(
            f"the background model has {background.ubm.covariance_type} covariances; calibration trains others like "
            "it, and can do that with diagonal ones only"
        )
    settings = background.record.get("settings")
    return UbmSettings.from_dict(settings or {"n_components": background.ubm.n_components})
