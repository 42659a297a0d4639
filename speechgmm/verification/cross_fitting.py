"""Trials among background speakers, for calibration: scores of speakers whom no background model has seen.

Speakers are dealt to folds. The background model and the cohort of a fold come from the speakers of all others. Each
utterance of a speaker of the fold is tried against its own speaker, enrolled without it, and against everybody else in
the fold.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from speechgmm.em.adaptation import Adaptation
from speechgmm.em.coordinates import Float64s, Floats
from speechgmm.em.inference import mean_log_likelihoods
from speechgmm.em.mixture import Mixture
from speechgmm.errors import InputError
from speechgmm.files import sha256_of_text
from speechgmm.parallel import Progress, no_progress
from speechgmm.verification.background import UbmSettings, train_ubm_on_frames
from speechgmm.verification.cohort import Cohort
from speechgmm.verification.enrolment import Enroller, Enrolment, Speech
from speechgmm.verification.system import CohortSpeech, System, SystemScorer

# Fewer speakers in a fold would have too few to be told from.
LEAST_SPEAKERS = 3


@dataclass(frozen=True, eq=False)
class CrossFit:
    """Trials among background speakers and their scores.

    Parameters
    ----------
    scores : mapping of System to (n_trials,) float64
    is_target : (n_trials,) bool
    model_speakers, test_speakers : (n_trials,) str
    explanations : (n_tests,) float64
        Of each test utterance the mean log-likelihood per frame under the best of all models in its fold and the
        background model: what `AnomalyModel` takes.
    """

    scores: Mapping[System, Float64s]
    is_target: NDArray[np.bool_]
    model_speakers: NDArray[np.str_]
    test_speakers: NDArray[np.str_]
    explanations: Float64s


def cross_fit(
    speech: Mapping[str, Speech],
    systems: Sequence[System],
    *,
    ubm: UbmSettings | None = None,
    adaptation: Adaptation | None = None,
    n_folds: int = 3,
    n_enrol: int | None = None,
    cohort_utterances: int | None = None,
    n_jobs: int = 1,
    progress: Progress = no_progress,
) -> CrossFit:
    """Score trials among background speakers by several systems.

    Parameters
    ----------
    speech : mapping
        Of each speaker a sequence of (utterance key, frames, seconds); two utterances or more. Keys are distinct.
    systems : sequence of System
    ubm : UbmSettings, optional
        Of the background model of each fold.
    adaptation : Adaptation, optional
    n_folds : int >= 2
    n_enrol : int, optional
        Utterances that enrol a speaker, at most: as many as real speakers will have. The first in the order of the
        sha256 of their keys. Default: all but the one that is tried.
    cohort_utterances : int, optional
        Utterances of each speaker outside of a fold that models in it are scored against, at most; all by default.
        Can be 0 only where no system normalises.
    n_jobs : int
        Threads; the scores do not depend on it.
    progress : callable
        Told ("cross-fitting", folds done, folds in all).

    Raises
    ------
    InputError
        If there are fewer than three speakers for each fold, one has a single utterance, an utterance occurs twice,
        there is no system, or a number is out of range.

    References
    ----------
    Cross-fitting: Chernozhukov et al. (2018), The Econometrics Journal 21, section 1.
    """
    normalised = any(system.normalisation != "none" for system in systems)
    _require_whole(2, n_folds=n_folds)
    _require_whole(1, n_enrol=n_enrol)
    _require_whole(int(normalised), cohort_utterances=cohort_utterances)
    _check(speech, systems, n_folds)
    ordered = sorted(speech, key=sha256_of_text)
    parts = []
    progress("cross-fitting", 0, n_folds)
    for number in range(n_folds):
        inside = {name: speech[name] for name in ordered[number::n_folds]}
        outside = {name: speech[name] for name in sorted(set(speech) - set(inside))}
        fold = _Fold(outside, ubm, adaptation, n_enrol, n_jobs)
        if normalised:
            fold.add_cohort(outside, cohort_utterances)
        parts.append(fold.trials(inside, systems))
        progress("cross-fitting", number + 1, n_folds)
    return CrossFit(
        scores={system: np.concatenate([part.scores[system] for part in parts]) for system in systems},
        is_target=np.concatenate([part.is_target for part in parts]),
        model_speakers=np.concatenate([part.model_speakers for part in parts]),
        test_speakers=np.concatenate([part.test_speakers for part in parts]),
        explanations=np.concatenate([part.explanations for part in parts]),
    )


def cohort_of(
    enroller: Enroller,
    speech: Mapping[str, Speech],
    n_enrol: int | None = None,
    n_utterances: int | None = None,
    n_jobs: int = 1,
) -> Cohort:
    """Speakers to normalise by: a model of each, and utterances.

    Parameters
    ----------
    enroller : Enroller
    speech : mapping
        As in `cross_fit`.
    n_enrol : int, optional
        Utterances that make a model, at most.
    n_utterances : int, optional
        Utterances of each speaker that models are scored against, at most.
    n_jobs : int

    Raises
    ------
    InputError
        If a number is out of range, or as `Enroller.enrol_many` and `Cohort`.
    """
    _require_whole(1, n_enrol=n_enrol)
    _require_whole(0, n_utterances=n_utterances)
    chosen = {name: in_order(own)[:n_enrol] for name, own in sorted(speech.items())}
    frames = [
        (name, frames)
        for name, own in sorted(speech.items())
        for _, frames, _ in in_order(own)[:n_utterances]
    ]
    return Cohort(
        enrolments=tuple(enroller.enrol_many(chosen, n_jobs=n_jobs).values()),
        frames=tuple(np.asarray(one, np.float32) for _, one in frames),
        frame_speakers=tuple(name for name, _ in frames),
    )


def in_order(speech: Speech) -> list[tuple[str, Floats, float]]:
    """Utterances in the order of the sha256 of their keys: no order of names or of recording decides which enrol."""
    return sorted(speech, key=lambda one: sha256_of_text(one[0]))


def explanations(ubm: Mixture, frames: Sequence[Floats], best_ratios: Float64s, n_jobs: int = 1) -> Float64s:
    """How well each utterance is explained by the best of all models or the background: what `AnomalyModel` takes.

    Parameters
    ----------
    ubm : Mixture
    frames : sequence of (n_frames, n_features) arrays
    best_ratios : (n_utterances,)
        Each one's highest log-likelihood ratio per frame.
    n_jobs : int
        Threads; the result does not depend on it.

    Returns
    -------
    (n_utterances,) float64
        Mean log-likelihoods per frame, natural log.
    """
    return np.asarray(mean_log_likelihoods(ubm, frames, n_jobs) + np.maximum(best_ratios, 0.0))


class _Fold:
    """What speakers outside of a fold give: the background model, and a cohort where scores are normalised."""

    _cohort: CohortSpeech | None = None

    def __init__(
        self,
        outside: Mapping[str, Speech],
        ubm: UbmSettings | None,
        adaptation: Adaptation | None,
        n_enrol: int | None,
        n_jobs: int,
    ) -> None:
        everything = [frames for own in outside.values() for _, frames, _ in own]
        background = train_ubm_on_frames(everything, settings=ubm, n_jobs=n_jobs).background
        self._enroller = Enroller(background, adaptation)
        self._n_enrol = n_enrol
        self._n_jobs = n_jobs

    def add_cohort(self, outside: Mapping[str, Speech], n_utterances: int | None) -> None:
        """Let scores be normalised by the speakers outside."""
        cohort = cohort_of(self._enroller, outside, self._n_enrol, n_utterances, self._n_jobs)
        models = [self._enroller.model(one) for one in cohort.enrolments]
        self._cohort = CohortSpeech(models, cohort.speakers, cohort.frames, cohort.frame_speakers)

    def trials(self, inside: Mapping[str, Speech], systems: Sequence[System]) -> CrossFit:
        """Score the trials of the speakers in the fold."""
        models = _Models(self._enroller, inside, self._n_enrol, self._n_jobs)
        frames = [one for own in inside.values() for _, one, _ in own]
        tests = [(name, key) for name, own in inside.items() for key, _, _ in own]
        trials = [
            (models.without(name, key) if name == speaker else models.of(name), number, name, speaker)
            for number, (speaker, key) in enumerate(tests)
            for name in inside
        ]
        numbers, utterances = (np.array([trial[side] for trial in trials]) for side in (0, 1))
        named, spoken = (np.array([trial[side] for trial in trials]) for side in (2, 3))
        scores: dict[System, Float64s] = {}
        raw = System(systems[0].method, systems[0].top)
        for (method, top), group in groupby(
            sorted({*systems, raw}, key=str), lambda system: (system.method, system.top)
        ):
            scorer = SystemScorer(self._enroller.background.ubm, models.mixtures, method, top, self._cohort)
            alike = list(group)
            found = scorer.score(frames, numbers, utterances, alike, self._n_jobs)
            scores.update(zip(alike, found, strict=True))
        best = scores[raw].reshape(len(tests), len(inside)).max(axis=1)
        explained = explanations(self._enroller.background.ubm, frames, best, self._n_jobs)
        return CrossFit(scores, named == spoken, named, spoken, explained)


class _Models:
    """Models of the speakers in a fold, with all their utterances and without each of them; none is made twice."""

    def __init__(
        self, enroller: Enroller, speech: Mapping[str, Speech], n_enrol: int | None, n_jobs: int
    ) -> None:
        self._enroller, self._n_enrol, self._n_jobs = enroller, n_enrol, n_jobs
        self._speech = {one[0]: [one] for own in speech.values() for one in own}
        # Statistics of several iterations do not add: then each model is made from frames.
        self._adding = enroller.adaptation.iterations == 1
        self._single = enroller.enrol_many(self._speech, n_jobs=n_jobs) if self._adding else {}
        self._keys = {name: [key for key, _, _ in in_order(own)] for name, own in speech.items()}
        self._numbers: dict[tuple[str, ...], int] = {}
        self.mixtures: list[Mixture] = []

    def of(self, speaker: str) -> int:
        """The number of a speaker's model."""
        return self._number(speaker, self._keys[speaker])

    def without(self, speaker: str, key: str) -> int:
        """The number of a speaker's model that an utterance is no part of."""
        return self._number(speaker, (other for other in self._keys[speaker] if other != key))

    def _number(self, speaker: str, keys: Iterable[str]) -> int:
        chosen = tuple(keys)[: self._n_enrol]
        if chosen not in self._numbers:
            self._numbers[chosen] = len(self.mixtures)
            self.mixtures.append(self._enroller.model(self._enrolment(speaker, chosen)))
        return self._numbers[chosen]

    def _enrolment(self, speaker: str, keys: Sequence[str]) -> Enrolment:
        if self._adding:
            return reduce(Enrolment.extended, (replace(self._single[key], speaker=speaker) for key in keys))
        speech = [one for key in keys for one in self._speech[key]]
        return self._enroller.enrol_many({speaker: speech}, n_jobs=self._n_jobs)[speaker]


def _require_whole(least: int, **numbers: int | None) -> None:
    for name, value in numbers.items():
        if value is not None and (type(value) is not int or value < least):
            raise InputError(f"`{name}` is {value!r}; it must be a whole number from {least}")


def _check(speech: Mapping[str, Speech], systems: Sequence[System], n_folds: int) -> None:
    if not systems:
        raise InputError("there is no system to score by")
    if len(speech) < LEAST_SPEAKERS * n_folds:
        raise InputError(
            f"there are {len(speech)} speakers; {n_folds} folds need {LEAST_SPEAKERS * n_folds} or more (fewer "
            "folds, or more background speakers?)"
        )
    single = sorted(name for name, own in speech.items() if len(own) < 2)
    if single:
        raise InputError(
            f"{len(single)} speakers have one utterance only, such as {single[0]!r}; a trial of their own needs two "
            "(leave them out)"
        )
    keys = Counter(key for own in speech.values() for key, _, _ in own)
    twice = sorted(key for key, count in keys.items() if count > 1)
    if twice:
        raise InputError(
            f"{len(twice)} utterances occur twice, such as {twice[0]!r}; a trial of one would have it in its model"
        )
