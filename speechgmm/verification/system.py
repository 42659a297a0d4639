"""A verification system: how trials are scored, and how their scores are normalised."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechgmm.em.coordinates import Float64s, Floats
from speechgmm.em.mixture import Mixture
from speechgmm.errors import InputError
from speechgmm.parallel import Progress, no_progress
from speechgmm.settings import settings_from_table
from speechgmm.verification.score_normalisation import METHODS as NORMALISATIONS
from speechgmm.verification.score_normalisation import NEEDS, normalise_scores
from speechgmm.verification.score_normalisation import Method as Normalisation
from speechgmm.verification.scoring import METHODS, USUAL_TOP, Method, TrialScorer


@dataclass(frozen=True)
class System:
    """How scores of trials come about.

    Parameters
    ----------
    method : {"top", "dense", "linear"}
        See `speechgmm.verification.scoring`.
    top : int >= 1
        Components of the background kept for each frame, by "top" and "linear".
    normalisation : {"none", "z", "t", "zt", "s", "adaptive_s"}
        See `normalise_scores`.
    top_n : int >= 2, optional
        Cohort scores that adaptive normalisation keeps; it needs one, and the others take none.

    Raises
    ------
    InputError
        If a name is unknown, or a number out of range.
    """

    method: Method = "top"
    top: int = USUAL_TOP
    normalisation: Normalisation = "none"
    top_n: int | None = None

    def __post_init__(self) -> None:
        for name, known in (("method", METHODS), ("normalisation", NORMALISATIONS)):
            if getattr(self, name) not in known:
                raise InputError(
                    f"system `{name}` is {getattr(self, name)!r:.80}; it can be {', '.join(known)}"
                )
        for name, value, least in (("top", self.top, 1), ("top_n", self.top_n, 2)):
            if (name, value) != ("top_n", None) and (type(value) is not int or value < least):
                raise InputError(f"system `{name}` is {value!r}; it must be a whole number from {least}")
        if (self.normalisation == "adaptive_s") != (self.top_n is not None):
            raise InputError(
                f"system `normalisation` is {self.normalisation!r} and `top_n` is {self.top_n}; adaptive_s needs a "
                "`top_n`, and the others take none"
            )

    def __str__(self) -> str:
        method = self.method if self.method == "dense" else f"{self.method}-{self.top}"
        normalisation = self.normalisation if self.top_n is None else f"{self.normalisation}-{self.top_n}"
        return method if normalisation == "none" else f"{method} {normalisation}"

    def to_dict(self) -> dict[str, Any]:
        """The fields as values that JSON has."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "System":
        """The system of `to_dict`; fields that are not given keep their defaults.

        Raises
        ------
        InputError
            If a field is unknown or not what it should be.
        """
        if not isinstance(values, Mapping):
            raise InputError(f"a system is {values!r:.80}; it must be a table of its settings")
        return settings_from_table(cls, values, "system")


@dataclass(frozen=True, eq=False)
class CohortSpeech:
    """Other people's models and utterances.

    Parameters
    ----------
    models : sequence of Mixture
        What tests are scored against.
    speakers : sequence of str
        Whose they are.
    frames : sequence of (n_frames, n_features) arrays
        What models are scored against.
    frame_speakers : sequence of str
        Who speaks.
    """

    models: Sequence[Mixture]
    speakers: Sequence[str]
    frames: Sequence[Floats]
    frame_speakers: Sequence[str]


class SystemScorer:
    """Scores trials by one method, and by any normalisation.

    Parameters
    ----------
    ubm : Mixture
    models : sequence of Mixture
    method, top
        See `System`.
    cohort : CohortSpeech, optional
        What normalisations need.
    """

    def __init__(
        self,
        ubm: Mixture,
        models: Sequence[Mixture],
        method: Method = "top",
        top: int = USUAL_TOP,
        cohort: CohortSpeech | None = None,
    ) -> None:
        self._scorer = TrialScorer(ubm, models, method, top)
        self._cohort = cohort
        self._cohort_scorer: TrialScorer | None = None
        if cohort is not None and len(cohort.models):
            self._cohort_scorer = TrialScorer(ubm, cohort.models, method, top)
        # Scores of models against the cohort's utterances: they do not depend on the trials.
        self._model_cohort = np.full((len(models), 0 if cohort is None else len(cohort.frames)), np.nan)
        self._known = np.zeros(len(models), np.bool_)

    def score(
        self,
        frames: Sequence[Floats],
        models: NDArray[np.integer[Any]],
        tests: NDArray[np.integer[Any]],
        systems: Sequence[System],
        n_jobs: int = 1,
        progress: Progress = no_progress,
    ) -> list[Float64s]:
        """Scores of trials by several systems that differ in normalisation alone.

        Parameters
        ----------
        frames, models, tests, n_jobs, progress
            As in `TrialScorer.score`.
        systems : sequence of System
            Their normalisations count.

        Returns
        -------
        list of (n_trials,) float64
            One for each system: mean log-likelihood ratios per frame, or what normalisation made of them.

        Raises
        ------
        InputError
            As `TrialScorer.score` and `normalise_scores`; or if a normalisation needs a cohort and there is none.
        """
        needed = {name for system in systems for name in NEEDS[system.normalisation]}
        if needed and (self._cohort is None or self._cohort_scorer is None or not len(self._cohort.frames)):
            raise InputError("normalisation needs a cohort's models and utterances, and there are none")
        raw = self._scorer.score(frames, models, tests, n_jobs, progress)
        sides: dict[str, Callable[[], Float64s]] = {
            "model_cohort": lambda: self._model_cohort_scores(models, n_jobs),
            "test_cohort": lambda: self._test_cohort_scores(frames, n_jobs),
            "cohort_cohort": lambda: self._cohort_cohort_scores(n_jobs),
        }
        cohort = {name: sides[name]() for name in sorted(needed)}
        return [
            normalise_scores(
                raw,
                models,
                tests,
                system.normalisation,
                top_n=system.top_n,
                **{name: cohort[name] for name in NEEDS[system.normalisation]},
            )
            for system in systems
        ]

    def _model_cohort_scores(self, models: NDArray[np.integer[Any]], n_jobs: int) -> Float64s:
        """Each model of the trials against the cohort's utterances; rows of other models are not filled."""
        assert self._cohort is not None
        new = np.setdiff1d(models, np.flatnonzero(self._known))
        utterances = np.arange(len(self._cohort.frames))
        pairs = np.tile(new, utterances.size), np.repeat(utterances, new.size)
        found = self._scorer.score(self._cohort.frames, *pairs, n_jobs)
        self._model_cohort[new] = found.reshape(utterances.size, new.size).T
        self._known[new] = True
        return self._model_cohort

    def _test_cohort_scores(self, frames: Sequence[Floats], n_jobs: int) -> Float64s:
        """Each utterance against the cohort's models."""
        assert self._cohort_scorer is not None
        return self._cohort_scorer.score_all(frames, n_jobs).T

    def _cohort_cohort_scores(self, n_jobs: int) -> Float64s:
        """The cohort's models against its utterances, but for those of their own speakers."""
        assert self._cohort is not None and self._cohort_scorer is not None
        scores = self._cohort_scorer.score_all(self._cohort.frames, n_jobs)
        own = np.array(self._cohort.speakers)[:, None] == np.array(self._cohort.frame_speakers)
        return np.where(own, np.nan, scores)
