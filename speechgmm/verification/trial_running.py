"""Lists of trials, run: scores of every trial that can be scored, and figures of how good they are."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechgmm.em.coordinates import Float64s, Floats
from speechgmm.errors import InputError, SpeechGMMWarning
from speechgmm.features.extract import Extraction, Problem
from speechgmm.manifest import Utterance, quoted
from speechgmm.metrics.detection import detection_curve
from speechgmm.metrics.trial_scores import DetectionCurve
from speechgmm.parallel import Progress, no_progress
from speechgmm.verification.speaker_store import SpeakerStore
from speechgmm.verification.store_audio import recording_keys, speakers_heard, store_frames
from speechgmm.verification.trial_evaluation import USUAL_POINTS, TrialFigures, trial_figures
from speechgmm.verification.trial_lists import Trial, check_trials
from speechgmm.verification.verifier import Verifier


@dataclass(frozen=True, eq=False)
class ScoredTrials:
    """Trials and their scores.

    Parameters
    ----------
    trials : tuple of Trial
        Those that could be scored, in the order given.
    scores : (n_trials,) float64
        By the store's system: mean log-likelihood ratios per frame, or normalised ones.
    llrs : (n_trials,) float64, or None
        Calibrated, of the whole trial, natural log; None without a calibration.
    n_left_out : int
        Trials whose utterances could not be used.
    problems : tuple of Problem
        Those utterances.
    """

    trials: tuple[Trial, ...]
    scores: Float64s
    llrs: Float64s | None
    n_left_out: int
    problems: tuple[Problem, ...]


@dataclass(frozen=True, eq=False)
class TrialEvaluation:
    """How good a store's decisions are on a list of trials.

    Parameters
    ----------
    scored : ScoredTrials
    is_target : (n_trials,) bool
    figures : TrialFigures
        Of the llrs, where there is a calibration; of the scores otherwise.
    n_speakers : int
        In the models and the tests.
    """

    scored: ScoredTrials
    is_target: NDArray[np.bool_]
    figures: TrialFigures
    n_speakers: int

    @property
    def curve(self) -> DetectionCurve:
        """Misses and false alarms over all thresholds, on what the figures are of."""
        scores = self.scored.scores if self.scored.llrs is None else self.scored.llrs
        return detection_curve(scores[self.is_target], scores[~self.is_target])

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain values, for JSON; None stands for infinity."""
        intervals = {name: [_finite(end) for end in ends] for name, ends in self.figures.intervals.items()}
        return {
            "calibrated": self.scored.llrs is not None,
            "n_target": self.figures.n_target,
            "n_nontarget": self.figures.n_nontarget,
            "n_speakers": self.n_speakers,
            "figures": {name: _finite(value) for name, value in self.figures.figures.items()},
            "intervals_95": intervals,
            "n_left_out": self.scored.n_left_out,
            "problems": [asdict(problem) for problem in self.scored.problems],
        }


def score_trials(
    store: SpeakerStore,
    trials: Sequence[Trial],
    utterances: Sequence[Utterance],
    *,
    n_jobs: int = 1,
    progress: Progress = no_progress,
) -> ScoredTrials:
    """Score trials of enrolled speakers, or of utterances that enrol a model each, against test utterances.

    Parameters
    ----------
    store : SpeakerStore
    trials : sequence of Trial
        A model is an enrolled speaker, or else the id of an utterance, which alone enrols a model for this run.
    utterances : sequence of Utterance
        The tests, and those that models are named by; others are left alone.
    n_jobs : int
        Workers; the scores do not depend on it.
    progress : callable

    Returns
    -------
    ScoredTrials
        Without those of utterances that cannot be read.

    Raises
    ------
    InputError
        If trials name models or tests that are not there, or none can be scored.
    """
    ids = {one.id for one in utterances}
    _check_names(store, trials, ids)
    named = {trial.model for trial in trials} - set(store.enrolments)
    wanted = named | {trial.test for trial in trials}
    extraction = store_frames(store, [one for one in utterances if one.id in wanted], n_jobs, progress)
    frames = {one.id: array for one, array in zip(extraction.utterances, extraction.frames, strict=True)}
    usable = {*store.enrolments, *frames}
    kept = tuple(trial for trial in trials if trial.model in usable and trial.test in frames)
    if not kept:
        first = f"; the first: {extraction.problems[0].message}" if extraction.problems else ""
        raise InputError(f"none of the {len(trials)} trials can be scored{first}")
    _warn_of_enrolled_tests(store, kept, extraction.utterances)
    whole = _with_models(store, extraction, named & frames.keys(), n_jobs)
    scores = _scores(Verifier(whole), kept, frames, n_jobs, progress)
    calibration = store.calibration
    return ScoredTrials(
        trials=kept,
        scores=scores,
        llrs=None if calibration is None else np.asarray(calibration.calibration.apply(scores), np.float64),
        n_left_out=len(trials) - len(kept),
        problems=extraction.problems,
    )


def evaluate_trials(
    store: SpeakerStore,
    trials: Sequence[Trial],
    utterances: Sequence[Utterance],
    label: str = "speaker",
    *,
    points: Sequence[tuple[float, float, float]] = USUAL_POINTS,
    n_replicates: int = 1000,
    seed: int = 0,
    n_jobs: int = 1,
    progress: Progress = no_progress,
) -> TrialEvaluation:
    """Score trials whose answers are known, and say how good the scores are.

    Parameters
    ----------
    store : SpeakerStore
    trials : sequence of Trial
        Each with its answer.
    utterances : sequence of Utterance
        As in `score_trials`.
    label : str
        Who speaks in them. A model that is called as an utterance is of that utterance's speaker; every other is
        of the speaker it is called by.
    points, n_replicates, seed
        As in `trial_figures`; intervals are by resampling speakers.
    n_jobs, progress
        As in `score_trials`.

    Raises
    ------
    InputError
        If an answer is missing or contradicts the speakers, or as `score_trials` and `trial_figures`.
    """
    ids = {one.id for one in utterances}
    _check_names(store, trials, ids)
    wanted = {name for trial in trials for name in (trial.model, trial.test)}
    speakers = {one.id: one.label(label) for one in utterances if one.id in wanted}
    _require_answers(trials, speakers, label)
    named = {name for trial in trials for name in _speakers(trial, speakers)}
    _warn_of_heard(store, named)
    scored = score_trials(store, trials, utterances, n_jobs=n_jobs, progress=progress)
    is_target = np.array([trial.is_target for trial in scored.trials], np.bool_)
    models, tests = np.array([_speakers(trial, speakers) for trial in scored.trials]).T
    figures = trial_figures(
        scored.scores if scored.llrs is None else scored.llrs,
        is_target,
        models,
        tests,
        calibrated=scored.llrs is not None,
        points=points,
        n_replicates=n_replicates,
        seed=seed,
    )
    return TrialEvaluation(scored, is_target, figures, np.union1d(models, tests).size)


def _check_names(store: SpeakerStore, trials: Sequence[Trial], ids: set[str]) -> None:
    """Refuse trials of models or tests that are not there."""
    if not store.enrolments and not any(trial.model in ids for trial in trials):
        raise InputError(
            "nobody is enrolled in this store; `speechgmm enrol` adds the speakers of the trials"
        )
    check_trials(trials, {*store.enrolments, *ids}, ids)


def _with_models(store: SpeakerStore, extraction: Extraction, ids: set[str], n_jobs: int) -> SpeakerStore:
    """The store with models of single utterances as well; the one given is left as it is."""
    if not ids:
        return store
    found = zip(extraction.utterances, extraction.frames, extraction.seconds, strict=True)
    speech = {one.id: [(one.id, frames, seconds)] for one, frames, seconds in found if one.id in ids}
    made = store.enroller.enrol_many(speech, n_jobs=n_jobs)
    return replace(store, enrolments={**store.enrolments, **made})


def _scores(
    verifier: Verifier,
    trials: Sequence[Trial],
    frames: Mapping[str, Floats],
    n_jobs: int,
    progress: Progress,
) -> Float64s:
    tests = sorted({trial.test for trial in trials})
    places = {name: place for place, name in enumerate(tests)}
    return verifier.score(
        [frames[name] for name in tests],
        [trial.model for trial in trials],
        [places[trial.test] for trial in trials],
        n_jobs,
        progress,
    )


def _speakers(trial: Trial, speakers: Mapping[str, str]) -> tuple[str, str]:
    """Who was enrolled, and who speaks."""
    return speakers.get(trial.model, trial.model), speakers[trial.test]


def _require_answers(trials: Sequence[Trial], speakers: Mapping[str, str], label: str) -> None:
    """Refuse trials without an answer, or with one that the speakers contradict."""
    without = [trial for trial in trials if trial.is_target is None]
    if without:
        raise InputError(
            f"{len(without)} of {len(trials)} trials have no answer, such as that of {without[0].model!r} and "
            f"{without[0].test!r}; they can be scored, not evaluated"
        )
    wrong = []
    for trial in trials:
        model, test = _speakers(trial, speakers)
        if trial.is_target != (model == test):
            wrong.append((trial, model, test))
    if wrong:
        trial, model, test = wrong[0]
        kind = "target" if trial.is_target else "nontarget"
        raise InputError(
            f"{len(wrong)} of {len(trials)} trials contradict their speakers: that of {trial.model!r} and "
            f"{trial.test!r} is a {kind} trial, of the {label} {model!r} as model and {test!r} as test (another "
            "label, or models that are not called as their speakers?)"
        )


def _warn_of_enrolled_tests(
    store: SpeakerStore, trials: Sequence[Trial], utterances: Sequence[Utterance]
) -> None:
    """Scores of an utterance against a model that it made say nothing of other utterances."""
    # Enrolment of audio knows recordings by their content, that of frames by the ids they were given.
    keys = {name: {name, key} for name, key in recording_keys(utterances).items()}
    enrolled = {**keys, **{name: {*enrolment.utterances} for name, enrolment in store.enrolments.items()}}
    same = [trial for trial in trials if keys[trial.test] & enrolled[trial.model]]
    if same:
        warnings.warn(
            f"{len(same)} of {len(trials)} trials test an utterance that enrolled their model, such as "
            f"{same[0].test!r} and {same[0].model!r}; that looks far better than it is",
            SpeechGMMWarning,
            stacklevel=3,
        )


def _warn_of_heard(store: SpeakerStore, named: set[str]) -> None:
    """Figures are of speakers whom the store has not heard before."""
    if both := speakers_heard(store) & named:
        warnings.warn(
            f"{len(both)} speakers of the trials trained the background model or the calibration, or are the cohort: "
            f"{quoted(both)}; the figures are not those of new speakers",
            SpeechGMMWarning,
            stacklevel=3,
        )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
