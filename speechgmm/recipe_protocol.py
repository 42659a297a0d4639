"""Who is background, who is enrolled with what, and which trials there are: what recipes of verification run on."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from speechgmm.em.coordinates import Float64s, Floats
from speechgmm.em.mixture import log_sum_exp
from speechgmm.errors import InputError
from speechgmm.features import Extraction
from speechgmm.files import sha256_of_text
from speechgmm.manifest import Utterance
from speechgmm.verification.enrolment import Speech
from speechgmm.verification.open_set import OpenSetCurve, open_set_curve, open_set_point
from speechgmm.verification.score_normalisation import refuse_cohort_targets
from speechgmm.verification.trial_lists import Trial, TrialIndex


@dataclass(frozen=True, eq=False)
class Protocol:
    """Who is background, who is enrolled with what, and which trials there are.

    Parameters
    ----------
    background, enrolment : mapping of str to Speech
        By speaker; of `enrolment` by model, where a speaker may have several.
    model_speakers : sequence of str
        Of the models, in the order of `enrolment`.
    tests : sequence of (n_frames, n_features) arrays
    test_speakers : sequence of str
    models, test_numbers : (n_trials,) int
        The model and the test of each trial; it is a target trial where their speakers are the same.
    cohort : mapping of str to Speech, optional
        The background speakers whose trials calibrate, and who normalise. Default: all, with all their speech.

    Raises
    ------
    InputError
        If somebody is in the background and in the trials.
    """

    background: Mapping[str, Speech]
    enrolment: Mapping[str, Speech]
    model_speakers: Sequence[str]
    tests: Sequence[Floats]
    test_speakers: Sequence[str]
    models: NDArray[np.intp]
    test_numbers: NDArray[np.intp]
    cohort: Mapping[str, Speech] | None = None

    def __post_init__(self) -> None:
        evaluated = {*self.model_speakers, *self.test_speakers}
        refuse_cohort_targets({*self.background, *(self.cohort or ())}, evaluated)

    @classmethod
    def of_trials(
        cls,
        extraction: Extraction,
        trials: Iterable[Trial],
        enrolment: Mapping[str, Sequence[Utterance]],
        background: Iterable[Utterance],
        cohort: Iterable[Utterance],
    ) -> "Protocol":
        """The protocol of a list of trials.

        Parameters
        ----------
        extraction : Extraction
            Of all utterances that follow, and of the tests that the trials name by their ids.
        trials : iterable of Trial
            With their answers.
        enrolment : mapping of str to sequence of Utterance
            By model; all of one speaker.
        background, cohort : iterable of Utterance

        Raises
        ------
        InputError
            If the answers contradict the speakers, somebody is in the background and in the trials, or as
            `TrialIndex.from_trials`.
        """
        speech = {
            one.id: (one.id, frames, seconds)
            for one, frames, seconds in zip(
                extraction.utterances, extraction.frames, extraction.seconds, strict=True
            )
        }
        speaker = {one.id: one.label("speaker") for one in extraction.utterances}
        index = TrialIndex.from_trials(trials, models=enrolment)
        protocol = cls(
            background=_speech_by_speaker(background, speech),
            enrolment={name: [speech[one.id] for one in own] for name, own in enrolment.items()},
            model_speakers=[own[0].label("speaker") for own in enrolment.values()],
            tests=[speech[name][1] for name in index.tests],
            test_speakers=[speaker[name] for name in index.tests],
            models=index.model_numbers,
            test_numbers=index.test_numbers,
            cohort=_speech_by_speaker(cohort, speech),
        )
        if index.is_target is None or (index.is_target != protocol.is_target).any():
            raise InputError(
                "the answers of the trials are not what the labels 'speaker' say (another list?)"
            )
        return protocol

    @property
    def n_enrol(self) -> int:
        """How many utterances enrol a model, at most; as many enrol speakers of the cohort."""
        return max(map(len, self.enrolment.values()))

    @cached_property
    def trial_speakers(self) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
        """The speakers of the model and of the test of each trial."""
        named = np.array(self.model_speakers)[self.models]
        return named, np.array(self.test_speakers)[self.test_numbers]

    @cached_property
    def is_target(self) -> NDArray[np.bool_]:
        """Which trials are of one speaker."""
        named, spoken = self.trial_speakers
        return np.asarray(named == spoken)


@dataclass(frozen=True, eq=False)
class OpenSetResult:
    """Identification among all models, where every test comes once with its speaker enrolled and once without.

    Parameters
    ----------
    accuracy : float
        Of the best model, where the speaker is enrolled and nobody is turned away.
    detection, false_alarm : float
        At the threshold that follows from equal costs and a prior of 0.5: known speakers accepted and right, and
        unknown ones accepted.
    curve : OpenSetCurve
    """

    accuracy: float
    detection: float
    false_alarm: float
    curve: OpenSetCurve


def first_of_each(utterances: Iterable[Utterance], *labels: str, count: int = 1) -> list[Utterance]:
    """The first utterances of each combination of labels, in the order of the sha256 of their ids."""
    taken: dict[tuple[str, ...], list[Utterance]] = {}
    for one in sorted(utterances, key=lambda one: sha256_of_text(one.id)):
        taken.setdefault(tuple(map(one.label, labels)), []).append(one)
    return [one for own in taken.values() for one in own[:count]]


def open_set(protocol: Protocol, llrs: Float64s) -> OpenSetResult:
    """Identification by calibrated llrs of all models against all tests.

    Parameters
    ----------
    protocol : Protocol
    llrs : (n_trials,) float64

    Raises
    ------
    InputError
        If the trials are not all pairs, there is one model only, a speaker has several, or somebody is tested who is
        not enrolled.
    """
    models, tests = protocol.model_speakers, protocol.test_speakers
    matrix = np.full((len(models), len(tests)), np.nan)
    matrix[protocol.models, protocol.test_numbers] = llrs
    alone = len(models) == len(set(models)) >= 2 and set(tests) <= set(models)
    if not alone or np.isnan(matrix).any():
        raise InputError(
            "identification needs two speakers or more, one model of each, and each of them tried against every test"
        )
    number = {name: place for place, name in enumerate(models)}
    truth = np.array([number[name] for name in tests])
    right = matrix.argmax(axis=0) == truth
    without = matrix.copy()
    without[truth, np.arange(len(tests))] = -np.inf
    # One of them, each as probable as the others, against nobody of them.
    known = log_sum_exp(matrix.T) - np.log(len(models))
    unknown = log_sum_exp(without.T) - np.log(len(models) - 1)
    point = open_set_point(known, right, unknown, 0.0)
    return OpenSetResult(
        accuracy=float(right.mean()),
        detection=point.detection,
        false_alarm=point.false_alarm,
        curve=open_set_curve(known, right, unknown),
    )


def _speech_by_speaker(
    utterances: Iterable[Utterance], speech: Mapping[str, tuple[str, Floats, float]]
) -> dict[str, Speech]:
    groups: dict[str, list[tuple[str, Floats, float]]] = {}
    for one in utterances:
        groups.setdefault(one.label("speaker"), []).append(speech[one.id])
    return {name: groups[name] for name in sorted(groups)}
