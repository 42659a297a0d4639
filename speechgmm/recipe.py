"""What every recipe shares: its options, its stages and their times, its results."""

import argparse
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from speechgmm.corpora.locate import Corpus, corpus_folder
from speechgmm.errors import InputError, SpeechGMMError
from speechgmm.evaluation import Evaluation, judge
from speechgmm.features import Extraction, FeatureConfig, FeatureExtractor
from speechgmm.files import sha256, write_atomically
from speechgmm.manifest import Utterance, read_manifest
from speechgmm.scorer import Scorer
from speechgmm.settings import TrainingSettings
from speechgmm.terminal import plain_warnings, print_table, ready_streams, shown_progress
from speechgmm.trainer import train_on_frames
from speechgmm.version import __version__


class Recipe:
    """One run of a recipe: `recipes/<corpus>_<task>/run.py`.

    Parameters
    ----------
    script : str or Path
        The recipe's `__file__`; `config.toml` lies beside it.
    description : str
        For `--help`.
    trials : str, optional
        The name of the corpus's own list of trials. With it there is an option `--trials FILE`.
    """

    def __init__(self, script: str | Path, description: str, trials: str = "") -> None:
        self.folder = Path(script).resolve().parent
        self.name = self.folder.name
        parser = argparse.ArgumentParser(prog=f"recipes/{self.name}/run.py", description=description)
        parser.add_argument("--data-dir", type=Path, help="folder that holds the corpora")
        parser.add_argument(
            "--manifest", type=Path, help="another manifest; paths start from its folder or DATA_DIR"
        )
        parser.add_argument(
            "--output", type=Path, default=Path("results") / self.name, help="folder for the results"
        )
        parser.add_argument("--jobs", type=int, default=-1, help="workers; -1 (the default) for all cores")
        parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same results")
        if trials:
            parser.add_argument(
                "--trials",
                type=Path,
                metavar="FILE",
                help=f"list of trials; {trials} beside the audio without it",
            )
        self.options = parser.parse_args()
        self.config: dict[str, Any] = tomllib.loads((self.folder / "config.toml").read_text(encoding="utf-8"))
        self.jobs: int = self.options.jobs
        self._manifest: Path | None = None
        self._stages: dict[str, float] = {}

    def features(self) -> FeatureConfig:
        """The `[features]` of config.toml."""
        return FeatureConfig.from_dict(self.config["features"])

    def training(self) -> TrainingSettings:
        """The `[training]` of config.toml, with the seed of the command line."""
        return replace(TrainingSettings.from_dict(self.config["training"]), seed=self.options.seed)

    def manifest(self, name: str) -> Path:
        """The manifest given with `--manifest`, or the committed one of a name such as "fsdd/utterances.jsonl"."""
        given: Path | None = self.options.manifest
        self._manifest = given or self.folder.parents[1] / "data_manifests" / name
        return self._manifest

    def utterances(self, corpus: Corpus, name: str) -> list[Utterance]:
        """The utterances of `manifest(name)`, their audio found, or downloaded where it is a committed one."""
        path = self.manifest(name)
        if self.options.manifest is not None:
            return read_manifest(path, self.options.data_dir)
        return read_manifest(path, corpus_folder(corpus, self.options.data_dir, path).parent)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage and print how long it took; the times of a stage that comes again add up."""
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        self._stages[name] = self._stages.get(name, 0.0) + seconds
        print(f"{name:<32} {seconds:8.2f} s", flush=True)

    def extract(
        self,
        utterances: Sequence[Utterance],
        features: FeatureConfig | None = None,
        store: Path | None = None,
    ) -> Extraction:
        """Features of all utterances, as a stage; every one must be readable.

        `features` stands in for the `[features]` of config.toml; a feature store in the folder `store` keeps them.
        """
        extractor = FeatureExtractor(features or self.features())
        with self.stage("features"), shown_progress() as progress:
            extraction = extractor.extract(utterances, self.jobs, progress, store)
        if extraction.problems:
            first = extraction.problems[0]
            raise InputError(
                f"{len(extraction.problems)} utterances cannot be read; the first: {first.message}"
            )
        return extraction

    def identify(
        self,
        extraction: Extraction,
        label: str,
        training: TrainingSettings,
        in_training: Callable[[Utterance], bool] = lambda utterance: utterance.split == "train",
        in_test: Callable[[Utterance], bool] = lambda utterance: utterance.split == "test",
    ) -> Evaluation:
        """Train on one part of the utterances and evaluate on another; by default, by their splits."""
        pairs = list(zip(extraction.utterances, extraction.frames, strict=True))
        train = [(utterance, frames) for utterance, frames in pairs if in_training(utterance)]
        test = [(utterance, frames) for utterance, frames in pairs if in_test(utterance)]
        model = train_on_frames(
            [frames for _, frames in train],
            [utterance.label(label) for utterance, _ in train],
            label,
            ids=[utterance.id for utterance, _ in train],
            settings=training,
            n_jobs=self.jobs,
        ).model
        scorer = Scorer(model)
        scores = scorer.score([frames for _, frames in test], self.jobs)
        decisions = scorer.decide(scores, [utterance.id for utterance, _ in test])
        return judge(model, decisions, {utterance.id: utterance.label(label) for utterance, _ in test})

    def compare(
        self,
        utterances: Sequence[Utterance],
        label: str,
        features: Mapping[str, Sequence[Any]],
        n_components: Sequence[int],
        held_out: Sequence[Callable[[Utterance], bool]],
    ) -> None:
        """Cross-validate every combination of settings on these utterances and print them, the best first.

        Parameters
        ----------
        utterances : sequence of Utterance
            Of the training part alone.
        label : str
        features : mapping
            Values to try of settings of `FeatureConfig`; the others are those of config.toml.
        n_components : sequence of int
            Values to try.
        held_out : sequence of callables
            One a fold: says which utterances it holds out.
        """
        rows: list[tuple[Any, ...]] = []
        for values in product(*features.values()):
            config = replace(self.features(), **dict(zip(features, values, strict=True)))
            extraction = self.extract(utterances, config)
            for count in n_components:
                training = replace(self.training(), n_components=count)
                folds = [self._fold(extraction, label, out, training) for out in held_out]
                right, total = sum(fold.n_correct for fold in folds), sum(fold.n_utterances for fold in folds)
                rows.append((*map(str, values), count, right / total))
        rows.sort(key=lambda row: -float(row[-1]))
        print_table("", (*features, "n_components", "accuracy"), rows)

    def _fold(
        self,
        extraction: Extraction,
        label: str,
        held_out: Callable[[Utterance], bool],
        training: TrainingSettings,
    ) -> Evaluation:
        return self.identify(extraction, label, training, lambda one: not held_out(one), held_out)

    def finish(
        self,
        metrics: Mapping[str, float],
        published: Sequence[tuple[str, float, str]] = (),
        intervals: Mapping[str, tuple[float, float]] | None = None,
        shown: Sequence[str] | None = None,
    ) -> None:
        """Print the results, published ones beside them, and write `results.json`.

        Parameters
        ----------
        metrics : mapping of str to float
            Plain names and fractions, such as {"accuracy": 0.97}.
        published : sequence of (metric, value, source)
        intervals : mapping of str to (low, high), optional
            95 % confidence intervals of some of the metrics.
        shown : sequence of str, optional
            The metrics to print, if not all.
        """
        intervals = intervals or {}
        rows = [
            (
                "speechgmm",
                name,
                f"{value:.2%}",
                "{:.2%} to {:.2%}".format(*intervals[name]) if name in intervals else "",
            )
            for name, value in metrics.items()
            if shown is None or name in shown
        ]
        rows += [(source, name, f"{value:.1%}", "") for name, value, source in published]
        print_table("", ("result of", "metric", "value", "95 % interval"), rows)
        output = self.options.output / "results.json"
        write_results(
            output,
            {
                "recipe": self.name,
                "version": __version__,
                "seed": self.options.seed,
                "config": self.config,
                "manifest_sha256": None if self._manifest is None else sha256(self._manifest),
                "stages": {name: round(seconds, 3) for name, seconds in self._stages.items()},
                "metrics": dict(metrics),
            },
        )
        print(f"total {sum(self._stages.values()):.2f} s; results in {output}")


def write_results(path: Path, results: Mapping[str, Any]) -> None:
    """Write results as JSON that people can read."""
    import json

    write_atomically(path, json.dumps(results, indent=2, ensure_ascii=False) + "\n")


def run(main: Callable[[], None]) -> None:
    """Run a recipe's main function; problems with the input end in one line and exit code 2."""
    ready_streams()
    try:
        with plain_warnings():
            main()
    except SpeechGMMError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
