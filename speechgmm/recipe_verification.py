"""What recipes of speaker verification share: systems side by side, calibrated on background speakers alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from speechgmm.em.adaptation import Adaptation
from speechgmm.em.coordinates import Float64s, Floats
from speechgmm.em.mixture import Mixture, log_sum_exp
from speechgmm.errors import InputError
from speechgmm.metrics.detection import detection_curve
from speechgmm.parallel import Progress, no_progress
from speechgmm.recipe import Recipe
from speechgmm.terminal import print_table, shown_progress
from speechgmm.verification.background import UbmSettings, train_ubm_on_frames
from speechgmm.verification.calibration import fit_calibration
from speechgmm.verification.cross_fit import CrossFit, cohort_of, cross_fit
from speechgmm.verification.enrolment import Enroller, Speech
from speechgmm.verification.open_set import OpenSetCurve, open_set_curve, open_set_point
from speechgmm.verification.score_normalisation import refuse_cohort_targets
from speechgmm.verification.system import CohortSpeech, System, SystemScorer
from speechgmm.verification.trial_evaluation import TrialFigures, trial_figures

# Metrics that are printed at the end, where a recipe has them.
HEADLINES = (
    *("eer", "eer_snorm", "eer_mean_normalised", "eer_mean_normalised_snorm"),
    *("identification_accuracy", "open_set_detection", "open_set_false_alarm"),
)
COLUMNS = ("eer", "min_dcf_0.5", "actual_dcf_0.5", "min_dcf_0.01", "actual_dcf_0.01", "min_cllr", "cllr")


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
    """

    background: Mapping[str, Speech]
    enrolment: Mapping[str, Speech]
    model_speakers: Sequence[str]
    tests: Sequence[Floats]
    test_speakers: Sequence[str]
    models: NDArray[np.int64]
    test_numbers: NDArray[np.int64]

    def __post_init__(self) -> None:
        refuse_cohort_targets(self.background, {*self.model_speakers, *self.test_speakers})

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
class SystemResult:
    """What a system made of the trials.

    Parameters
    ----------
    scores, llrs : (n_trials,) float64
        Before and after calibration.
    figures : TrialFigures
        Of the llrs.
    """

    scores: Float64s
    llrs: Float64s
    figures: TrialFigures


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


class VerificationRecipe(Recipe):
    """A recipe of verification; config.toml has the tables [background], [adaptation], [calibration] and [systems]."""

    def ubm(self) -> UbmSettings:
        """The `[background]` of config.toml, with the seed of the command line."""
        return replace(UbmSettings.from_dict(self.config["background"]), seed=self.options.seed)

    def adaptation(self) -> Adaptation:
        """The `[adaptation]` of config.toml."""
        return Adaptation.from_dict(self.config["adaptation"])

    def systems(self, table: str = "systems") -> dict[str, System]:
        """The `[systems]` of config.toml, or those of another table, by name."""
        return {name: System.from_dict(settings) for name, settings in self.config[table].items()}

    def verify(self, protocol: Protocol, systems: Mapping[str, System]) -> dict[str, SystemResult]:
        """Run systems on a protocol: background model, enrolment, calibration, trials, figures; a stage each."""
        with self.stage("background model"), shown_progress() as progress:
            frames = [one for own in protocol.background.values() for _, one, _ in own]
            trained = train_ubm_on_frames(frames, settings=self.ubm(), n_jobs=self.jobs, progress=progress)
        enroller = Enroller(trained.background, self.adaptation())
        with self.stage("enrolment"), shown_progress() as progress:
            made = enroller.enrol_many(protocol.enrolment, n_jobs=self.jobs, progress=progress)
            models = [enroller.model(made[name]) for name in protocol.enrolment]
        with self.stage("calibration trials"), shown_progress() as progress:
            crossed = self.cross_fit(protocol.background, list(systems.values()), progress)
        scores = self._score(protocol, systems, enroller, models)
        with self.stage("figures"):
            return {
                name: self._result(protocol, scores[name], crossed, system)
                for name, system in systems.items()
            }

    def cross_fit(
        self, background: Mapping[str, Speech], systems: Sequence[System], progress: Progress = no_progress
    ) -> CrossFit:
        """Trials among background speakers, as the `[calibration]` of config.toml has them."""
        settings = self.config["calibration"]
        return cross_fit(
            background,
            systems,
            ubm=self.ubm(),
            adaptation=self.adaptation(),
            n_folds=settings["n_folds"],
            n_enrol=settings["n_enrol"],
            n_jobs=self.jobs,
            progress=progress,
        )

    def _score(
        self,
        protocol: Protocol,
        systems: Mapping[str, System],
        enroller: Enroller,
        models: Sequence[Mixture],
    ) -> dict[str, Float64s]:
        """Scores of all trials by each system; a stage for each method."""
        n_enrol = self.config["calibration"]["n_enrol"]
        cohort = cohort_of(enroller, protocol.background, n_enrol, n_jobs=self.jobs)
        others = [enroller.model(one) for one in cohort.enrolments]
        speech = CohortSpeech(others, cohort.speakers, cohort.frames, cohort.frame_speakers)
        scores: dict[str, Float64s] = {}
        for method, top in sorted({(system.method, system.top) for system in systems.values()}):
            alike = {name: one for name, one in systems.items() if (one.method, one.top) == (method, top)}
            with self.stage(f"trials, {System(method, top)}"), shown_progress() as progress:
                scorer = SystemScorer(enroller.background.ubm, models, method, top, speech)
                trials = (protocol.tests, protocol.models, protocol.test_numbers)
                found = scorer.score(*trials, list(alike.values()), self.jobs, progress)
            scores.update(zip(alike, found, strict=True))
        return scores

    def _result(
        self, protocol: Protocol, scores: Float64s, crossed: CrossFit, system: System
    ) -> SystemResult:
        own, p_target = crossed.scores[system], self.config["calibration"]["p_target"]
        calibration = fit_calibration(own[crossed.is_target], own[~crossed.is_target], p_target)
        llrs = calibration.apply(scores)
        speakers = protocol.trial_speakers
        figures = trial_figures(llrs, protocol.is_target, *speakers, calibrated=True, seed=self.options.seed)
        return SystemResult(scores, llrs, figures)

    def show(self, title: str, results: Mapping[str, SystemResult]) -> None:
        """Print all systems side by side."""
        rows = [(name, *(shown(result, column) for column in COLUMNS)) for name, result in results.items()]
        print_table(title, ("system", *COLUMNS), rows)
        one = next(iter(results.values())).figures
        print(
            f"{one.n_target} target and {one.n_nontarget} nontarget trials; EER of the convex hull, costs normalised; "
            "in brackets 95 % intervals over speakers"
        )

    def show_open_set(self, results: Mapping[str, "OpenSetResult"]) -> None:
        """Print identification, all systems side by side."""
        columns = ("system", "identification", "detected and right", "false alarms", "detected at 1 %")
        rows = [
            (
                name,
                *(f"{value:.2%}" for value in (one.accuracy, one.detection, one.false_alarm)),
                f"{one.curve.at_false_alarm(0.01).detection:.2%}",
            )
            for name, one in results.items()
        ]
        print_table("Open set: each test with its speaker enrolled, and without", columns, rows)

    def metrics(self, results: Mapping[str, SystemResult], raw: str, normalised: str) -> dict[str, float]:
        """All figures of all systems, and those of two by their plain names."""
        every = {
            f"{figure}_{name}": value
            for name, result in results.items()
            for figure, value in result.figures.figures.items()
        }
        plain = dict(results[raw].figures.figures)
        return {**every, **plain, "eer_snorm": results[normalised].figures.figures["eer"]}

    def conclude(
        self, metrics: Mapping[str, float], published: Sequence[tuple[str, float, str]] = ()
    ) -> None:
        """Print the plain metrics beside published ones, and write all to `results.json`."""
        self.finish(metrics, published, shown=[name for name in HEADLINES if name in metrics])

    def draw_det(self, protocol: Protocol, results: Mapping[str, SystemResult]) -> None:
        """Draw DET curves into the output folder, where matplotlib is installed."""
        target = protocol.is_target
        curves = {
            name: detection_curve(result.scores[target], result.scores[~target])
            for name, result in results.items()
        }
        if self._can_draw("det.png"):
            from speechgmm.report.detection_picture import det_picture

            det_picture(curves, self.options.output / "det.png")

    def draw_open_set(self, results: Mapping[str, "OpenSetResult"]) -> None:
        """Draw what is detected against false alarms."""
        if self._can_draw("open_set.png"):
            from speechgmm.report.detection_picture import open_set_picture

            curves = {name: result.curve for name, result in results.items()}
            open_set_picture(curves, self.options.output / "open_set.png")

    def _can_draw(self, name: str) -> bool:
        if find_spec("matplotlib") is None:
            print(f"no {name}: it needs matplotlib (pip install 'speechgmm[report]')")
            return False
        self.options.output.mkdir(parents=True, exist_ok=True)
        print(f"drawn: {self.options.output / name}")
        return True


def shown(result: SystemResult, name: str) -> str:
    """A figure with its interval: error rates in per cent, others as they are."""
    low, high = result.figures.intervals[name]
    value = result.figures.figures[name]
    if name == "eer":
        return f"{value:.2%} ({100 * low:.2f} to {100 * high:.2f})"
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def open_set(protocol: Protocol, llrs: Float64s) -> OpenSetResult:
    """Identification by calibrated llrs of all models against all tests.

    Raises
    ------
    InputError
        If the trials are not all pairs, or a speaker has several models.
    """
    n_models, n_tests = len(protocol.model_speakers), len(protocol.tests)
    if llrs.size != n_models * n_tests or len(set(protocol.model_speakers)) < n_models:
        raise InputError(
            "identification needs one model a speaker, and each of them tried against every test"
        )
    matrix = np.empty((n_models, n_tests))
    matrix[protocol.models, protocol.test_numbers] = llrs
    number = {name: place for place, name in enumerate(protocol.model_speakers)}
    truth = np.array([number[name] for name in protocol.test_speakers])
    right = matrix.argmax(axis=0) == truth
    without = matrix.copy()
    without[truth, np.arange(n_tests)] = -np.inf
    # One of them, each as probable as the others, against nobody of them.
    known = log_sum_exp(matrix.T) - np.log(n_models)
    unknown = log_sum_exp(without.T) - np.log(n_models - 1)
    point = open_set_point(known, right, unknown, 0.0)
    return OpenSetResult(
        accuracy=float(right.mean()),
        detection=point.detection,
        false_alarm=point.false_alarm,
        curve=open_set_curve(known, right, unknown),
    )
