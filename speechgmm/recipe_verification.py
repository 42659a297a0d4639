"""What recipes of speaker verification share: systems side by side, calibrated on background speakers alone."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from speechgmm.corpora.locate import Corpus, corpus_folder
from speechgmm.em.adaptation import Adaptation
from speechgmm.em.coordinates import Float64s
from speechgmm.em.mixture import Mixture
from speechgmm.features import Extraction, FeatureConfig
from speechgmm.manifest import Utterance, read_manifest
from speechgmm.metrics.detection import detection_curve, detection_figures
from speechgmm.parallel import Progress, no_progress
from speechgmm.recipe import Recipe
from speechgmm.recipe_protocol import OpenSetResult, Protocol
from speechgmm.terminal import print_table, shown_progress
from speechgmm.verification.background import UbmSettings, train_ubm_on_frames
from speechgmm.verification.calibration import fit_calibration
from speechgmm.verification.cross_fitting import CrossFit, cohort_of, cross_fit
from speechgmm.verification.enrolment import Enroller, Speech
from speechgmm.verification.system import CohortSpeech, System, SystemScorer
from speechgmm.verification.trial_evaluation import TrialFigures, trial_figures

Published = Sequence[tuple[str, float, str]]
COLUMNS = ("eer", "min_dcf_0.5", "actual_dcf_0.5", "min_dcf_0.01", "actual_dcf_0.01", "min_cllr", "cllr")
# Figures that settings are compared by.
TRIED = ("eer", "min_cllr", "min_dcf_0.01")


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


class Metrics(NamedTuple):
    """Figures by their plain names, and 95 % intervals of some of them."""

    values: dict[str, float]
    intervals: dict[str, tuple[float, float]]


class VerificationRecipe(Recipe):
    """A recipe of verification; config.toml has the tables [background], [adaptation], [calibration] and [systems].

    Parameters
    ----------
    script, description
        As in `Recipe`.
    trials : str, optional
        The name of the corpus's own list of trials. With it there is an option `--trials FILE`.
    """

    def __init__(self, script: str | Path, description: str, trials: str = "") -> None:
        super().__init__(script, description, trials)
        self._trials = trials

    def listed(self, corpus: Corpus, utterances: Callable[[Path], list[Utterance]]) -> list[Utterance]:
        """The utterances of `--manifest`, or all that the folder of a corpus holds."""
        if self.options.manifest is not None:
            return read_manifest(self.manifest(""), self.options.data_dir)
        return utterances(corpus_folder(corpus, self.options.data_dir))

    def trials_file(self, corpus: Corpus) -> Path:
        """The list given with `--trials`, or the one in the folder of the corpus or beside the manifest."""
        if self.options.trials is not None:
            return Path(self.options.trials)
        if self.options.manifest is not None:
            return Path(self.options.manifest).parent / self._trials
        return corpus_folder(corpus, self.options.data_dir) / self._trials

    def extract_to_store(
        self, utterances: Iterable[Utterance], features: FeatureConfig | None = None
    ) -> Extraction:
        """As `extract`, but frames lie in a feature store in the output folder: the next run finds them there.

        Utterances given more than once are taken once.
        """
        distinct = sorted({one.id: one for one in utterances}.items())
        return self.extract([one for _, one in distinct], features, self.options.output / "features")

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
            cohort = protocol.cohort or protocol.background
            crossed = self.cross_fit(cohort, list(systems.values()), protocol.n_enrol, progress)
        scores = self._score(protocol, systems, enroller, models)
        with self.stage("figures"):
            return {
                name: self._result(protocol, scores[name], crossed, system)
                for name, system in systems.items()
            }

    def cross_fit(
        self,
        background: Mapping[str, Speech],
        systems: Sequence[System],
        n_enrol: int,
        progress: Progress = no_progress,
    ) -> CrossFit:
        """Trials among background speakers, in the folds of the `[calibration]` of config.toml."""
        return cross_fit(
            background,
            systems,
            ubm=self.ubm(),
            adaptation=self.adaptation(),
            n_folds=self.config["calibration"]["n_folds"],
            n_enrol=n_enrol,
            n_jobs=self.jobs,
            progress=progress,
        )

    def compare_one_by_one(
        self,
        background: Callable[[FeatureConfig], Mapping[str, Speech]],
        n_enrol: int,
        changes: Sequence[tuple[str, str, Sequence[Any]]],
    ) -> None:
        """Cross-fit as configured and with one setting changed at a time, and print what each gives.

        Parameters
        ----------
        background : callable
            The speech of background speakers with some features.
        n_enrol : int
            As in `cross_fit`.
        changes : sequence of (table of config.toml, setting, values to try)
        """
        configured, speech = self.config, {}
        systems = [System(), System(normalisation="s")]
        rows: list[tuple[Any, ...]] = []
        every = [(table, setting, value) for table, setting, values in changes for value in values]
        for table, setting, value in [("", "as configured", ""), *every]:
            changed = {table: {**configured[table], setting: value}} if table else {}
            self.config = {**configured, **changed}
            if self.features() not in speech:
                speech[self.features()] = background(self.features())
            with self.stage(f"{setting} {value}".strip()):
                crossed = self.cross_fit(speech[self.features()], systems, n_enrol)
            found = [figures_of(crossed, system) for system in systems]
            rows.append((setting, str(value), *(round(one[name], 4) for one in found for name in TRIED)))
        self.config = configured
        print_table("", ("setting", "value", *TRIED, *(f"{name}, S-norm" for name in TRIED)), rows)

    def _score(
        self,
        protocol: Protocol,
        systems: Mapping[str, System],
        enroller: Enroller,
        models: Sequence[Mixture],
    ) -> dict[str, Float64s]:
        """Scores of all trials by each system; a stage for each method."""
        people = protocol.cohort or protocol.background
        cohort = cohort_of(enroller, people, protocol.n_enrol, n_jobs=self.jobs)
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

    def show_open_set(self, results: Mapping[str, OpenSetResult]) -> None:
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

    def conclude(self, metrics: Metrics, shown: Sequence[str], published: Published = ()) -> None:
        """Print some metrics with their intervals, published ones beside them, and write all to `results.json`."""
        self.finish(metrics.values, published, metrics.intervals, shown)

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

    def draw_open_set(self, results: Mapping[str, OpenSetResult]) -> None:
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


def figures_of(crossed: CrossFit, system: System) -> dict[str, float]:
    """Figures of a system on trials among background speakers, before calibration."""
    scores = crossed.scores[system]
    return detection_figures(scores[crossed.is_target], scores[~crossed.is_target])


def metrics_of(results: Mapping[str, SystemResult], raw: str, normalised: str, suffix: str = "") -> Metrics:
    """All figures of all systems, and those of two by their plain names: "eer", "eer_snorm", "min_dcf_0.01", …

    Parameters
    ----------
    results : mapping of str to SystemResult
        By system.
    raw, normalised : str
        The two systems: without normalisation and with S-norm.
    suffix : str, optional
        Added to every name, such as "_chapters".
    """
    figures = {name: result.figures.figures for name, result in results.items()}
    intervals = {name: result.figures.intervals for name, result in results.items()}
    return Metrics(
        _plain_names(figures, raw, normalised, suffix), _plain_names(intervals, raw, normalised, suffix)
    )


def _plain_names(
    values: Mapping[str, Mapping[str, Any]], raw: str, normalised: str, suffix: str
) -> dict[str, Any]:
    every = {f"{figure}_{name}": one for name, own in values.items() for figure, one in own.items()}
    every |= {**values[raw], "eer_snorm": values[normalised]["eer"]}
    return {f"{name}{suffix}": one for name, one in every.items()}


def shown(result: SystemResult, name: str) -> str:
    """A figure with its interval: error rates in per cent, others as they are."""
    low, high = result.figures.intervals[name]
    value = result.figures.figures[name]
    if name == "eer":
        return f"{value:.2%} ({100 * low:.2f} to {100 * high:.2f})"
    return f"{value:.3f} ({low:.3f} to {high:.3f})"
