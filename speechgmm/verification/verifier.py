"""Decisions: is this who they claim to be, and which of the enrolled speakers is it, if any?

Both follow from calibrated log-likelihood ratios, a stated prior and stated costs, by one rule: accept where the ratio
reaches log(c_fa / c_miss) - logit(p_target).
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechgmm.em.coordinates import Float64s, Floats
from speechgmm.em.mixture import log_sum_exp
from speechgmm.errors import InputError, SpeechGMMWarning
from speechgmm.manifest import quoted
from speechgmm.metrics.detection import bayes_threshold
from speechgmm.model_file import UNKNOWN
from speechgmm.parallel import Progress, no_progress
from speechgmm.verification.calibration import posterior
from speechgmm.verification.cross_fitting import explanations
from speechgmm.verification.open_set import AnomalyModel
from speechgmm.verification.speaker_store import SpeakerStore
from speechgmm.verification.system import CohortSpeech, System, SystemScorer


@dataclass(frozen=True)
class OperatingPoint:
    """What decisions rest on.

    Parameters
    ----------
    p_target : float
        How probable it is, before anything is heard, that the claim is true; or, where speakers are looked for, that
        the voice is an enrolled one.
    c_miss, c_fa : float > 0
        What it costs to reject one who should be accepted, and to accept one who should not.
    """

    p_target: float = 0.5
    c_miss: float = 1.0
    c_fa: float = 1.0

    def __post_init__(self) -> None:
        bayes_threshold(self.p_target, self.c_miss, self.c_fa)  # says what is wrong

    @property
    def threshold(self) -> float:
        """Ratios from here on are accepted, natural log."""
        return bayes_threshold(self.p_target, self.c_miss, self.c_fa)


@dataclass(frozen=True)
class Verification:
    """What became of one claim.

    Parameters
    ----------
    utterance : str
        Its id.
    claim : str
        The speaker it is said to be.
    score : float
        As the store's system scores: a mean log-likelihood ratio per frame, or a normalised one.
    llr : float or None
        Calibrated, of the whole trial, natural log; None without a calibration.
    posterior : float or None
        Probability that the claim is true, with the prior of the operating point.
    accepted : bool or None
    n_frames : int
    """

    utterance: str
    claim: str
    score: float
    llr: float | None
    posterior: float | None
    accepted: bool | None
    n_frames: int


@dataclass(frozen=True)
class Identification:
    """Who of the enrolled speakers it is, if any.

    Parameters
    ----------
    utterance : str
        Its id.
    label : str
        The best speaker, or "unknown".
    best, runner_up : str
        The speakers with the highest scores (of one speaker alone, `runner_up` is empty).
    score : float
        Of the best.
    llr : float or None
        Calibrated, for "one of the enrolled" against "nobody of them", each as probable as the others.
    posterior : float or None
        Probability that it is the best, with the prior of the operating point that it is one of them at all.
    n_frames : int
    p_value : float or None
        How usual it is for speech to be explained as badly as this by everything known; None without held-out scores.
    """

    utterance: str
    label: str
    best: str
    runner_up: str
    score: float
    llr: float | None
    posterior: float | None
    n_frames: int
    p_value: float | None


class Verifier:
    """Scores utterances against the speakers of a store and decides.

    Parameters
    ----------
    store : SpeakerStore
        As it is now; what is enrolled or removed later, another verifier will know.
    system : System, optional
        Default: the one that the store's calibration is of; without a calibration, `System()`. With another system
        scores are not calibrated.

    Raises
    ------
    InputError
        If nobody is enrolled, or parts of the store do not belong together, such as a calibration and another
        adaptation.
    """

    def __init__(self, store: SpeakerStore, system: System | None = None) -> None:
        if not store.enrolments:
            raise InputError("nobody is enrolled in this store; `speechgmm enrol` adds speakers")
        # Of its own, since models that were made once serve again; this checks that all parts belong together.
        self.store = replace(store)
        own = None if store.calibration is None else store.calibration.system
        self.system = system or own or System()
        self._calibration = store.calibration if self.system == own else None
        self.speakers = tuple(store.enrolments)
        # The one used last, and whom it scores: others would pile up.
        self._scorer: tuple[tuple[str, ...], SystemScorer] | None = None

    def score(
        self,
        frames: Sequence[Floats],
        claims: Sequence[str],
        tests: Any,
        n_jobs: int = 1,
        progress: Progress = no_progress,
    ) -> Float64s:
        """Scores of trials by the verifier's system.

        Parameters
        ----------
        frames : sequence of (n_frames, n_features) arrays
            One for each utterance.
        claims : sequence of str
            The speaker of each trial.
        tests : (n_trials,) int
            Its utterance.
        n_jobs : int
            Threads; the scores do not depend on it, nor on what else is scored.
        progress : callable

        Raises
        ------
        InputError
            If a speaker is not enrolled, or as `SystemScorer.score`.
        """
        return self._scores([self.system], frames, claims, np.asarray(tests), n_jobs, progress)[0]

    def verify(
        self,
        frames: Sequence[Floats],
        utterances: Sequence[str],
        claims: Sequence[str],
        point: OperatingPoint | None = None,
        n_jobs: int = 1,
        progress: Progress = no_progress,
    ) -> list[Verification]:
        """Decide claims, one for each utterance.

        Parameters
        ----------
        frames : sequence of (n_frames, n_features) arrays
        utterances : sequence of str
            Ids.
        claims : sequence of str
            Who each is said to be.
        point : OperatingPoint, optional
        n_jobs, progress
            As in `score`.

        Raises
        ------
        InputError
            If there are not as many of each, or as `score`.
        """
        point = point or OperatingPoint()
        _require_as_many(frames=frames, utterances=utterances, claims=claims)
        scores = self.score(frames, claims, np.arange(len(frames)), n_jobs, progress)
        self._warn_of_short(frames, utterances)
        results = []
        for array, name, claim, score in zip(frames, utterances, claims, scores.tolist(), strict=True):
            llr = self._llr(score)
            results.append(
                Verification(
                    utterance=name,
                    claim=claim,
                    score=score,
                    llr=llr,
                    posterior=None if llr is None else float(posterior([llr], point.p_target)[0]),
                    accepted=None if llr is None else llr >= point.threshold,
                    n_frames=len(array),
                )
            )
        return results

    def identify(
        self,
        frames: Sequence[Floats],
        utterances: Sequence[str],
        point: OperatingPoint | None = None,
        n_jobs: int = 1,
        progress: Progress = no_progress,
    ) -> list[Identification]:
        """Look for the speaker of each utterance among all that are enrolled.

        The ratio of "one of them" to "nobody of them" is the mean of the speakers' own ratios; where it does not
        reach the threshold, the answer is "unknown". Without a calibration the best speaker is always accepted.

        Parameters
        ----------
        frames, utterances, n_jobs, progress
            As in `verify`.
        point : OperatingPoint, optional
            Its prior is that of hearing an enrolled speaker.

        Raises
        ------
        InputError
            As `verify`.
        """
        point = point or OperatingPoint()
        _require_as_many(frames=frames, utterances=utterances)
        tests = np.repeat(np.arange(len(frames)), len(self.speakers))
        raw = System(self.system.method, self.system.top)
        flat = self._scores([self.system, raw], frames, self.speakers * len(frames), tests, n_jobs, progress)
        self._warn_of_short(frames, utterances)
        scores, ratios = (one.reshape(len(frames), len(self.speakers)) for one in flat)
        p_values = self._p_values(frames, ratios.max(axis=1), n_jobs)
        return [
            self._identification(name, len(array), row, p_value, point)
            for name, array, row, p_value in zip(utterances, frames, scores, p_values, strict=True)
        ]

    def _identification(
        self, utterance: str, n_frames: int, scores: Float64s, p_value: float | None, point: OperatingPoint
    ) -> Identification:
        order = np.argsort(-scores, kind="stable")
        best = int(order[0])
        llr, probability = None, None
        if self._calibration is not None:
            llrs = self._calibration.calibration.apply(scores)
            llr = known_llr(llrs)
            share = np.exp(llrs[best] - log_sum_exp(llrs))
            probability = float(posterior([llr], point.p_target)[0] * share)
        return Identification(
            utterance=utterance,
            label=UNKNOWN if llr is not None and llr < point.threshold else self.speakers[best],
            best=self.speakers[best],
            runner_up=self.speakers[order[1]] if order.size > 1 else "",
            score=float(scores[best]),
            llr=llr,
            posterior=probability,
            n_frames=n_frames,
            p_value=p_value,
        )

    def _warn_of_short(self, frames: Sequence[Floats], utterances: Sequence[str]) -> None:
        """Warn of utterances so short that the calibration, which knows longer ones, is too sure of them."""
        usual = 0 if self._calibration is None else self._calibration.record.get("median_frames", 0)
        short = [name for name, one in zip(utterances, frames, strict=True) if 4 * len(one) < usual]
        if short:
            warnings.warn(
                f"{quoted(short)}: fewer frames than a quarter of the {usual} that trials of the calibration usually "
                "had; of so little speech ratios and posteriors claim too much",
                SpeechGMMWarning,
                stacklevel=3,
            )

    def _llr(self, score: float) -> float | None:
        return None if self._calibration is None else float(self._calibration.calibration.apply([score])[0])

    def _p_values(self, frames: Sequence[Floats], best_ratios: Float64s, n_jobs: int) -> list[float | None]:
        """How usual each utterance is; None where no held-out utterances were scored alike."""
        held_out = () if self._calibration is None else self._calibration.explanations
        if not held_out:
            return [None] * len(frames)
        found = explanations(self.store.background.ubm, frames, best_ratios, n_jobs)
        return [float(value) for value in AnomalyModel(held_out).p_values(found)]

    def _scores(
        self,
        systems: Sequence[System],
        frames: Sequence[Floats],
        claims: Sequence[str],
        tests: NDArray[np.integer[Any]],
        n_jobs: int,
        progress: Progress,
    ) -> list[Float64s]:
        if not len(claims):
            return [np.empty(0) for _ in systems]
        named = sorted(set(claims))
        places = {name: place for place, name in enumerate(named)}
        models = np.array([places[claim] for claim in claims], np.int64)
        return self._scorer_of(tuple(named)).score(frames, models, tests, systems, n_jobs, progress)

    def _scorer_of(self, named: tuple[str, ...]) -> SystemScorer:
        """What scores some speakers; not made anew for the same ones."""
        if self._scorer is None or self._scorer[0] != named:
            cohort = self.store.cohort
            speech = None
            if cohort is not None and self.system.normalisation != "none":
                speech = CohortSpeech(
                    self.store.cohort_models(), cohort.speakers, cohort.frames, cohort.frame_speakers
                )
            models = [self.store.model(name) for name in named]
            ubm, system = self.store.background.ubm, self.system
            self._scorer = named, SystemScorer(ubm, models, system.method, system.top, speech)
        return self._scorer[1]


def _require_as_many(**values: Sequence[Any]) -> None:
    lengths = {name: len(one) for name, one in values.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{length} `{name}`" for name, length in lengths.items())
        raise InputError(f"{found} given; there must be as many of each")


def known_llr(llrs: Float64s) -> float:
    """The log-likelihood ratio of "one of these speakers", each as probable, to "nobody of them"."""
    return float(log_sum_exp(llrs) - np.log(llrs.size))
