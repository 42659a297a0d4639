"""The command line: parse, call, print, exit code."""

import json
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from speechgmm import cli_manifest
from speechgmm.cli_features import features_command
from speechgmm.cli_shared import DataDir, Jobs, Label, Output, Split, counted, finish, listed, new_app
from speechgmm.errors import SpeechGMMError

if TYPE_CHECKING:
    from speechgmm.scorer import Decision

app = new_app(name="speechgmm")
app.add_typer(cli_manifest.app, name="manifest")
app.command("features")(features_command)

# The figures of a class, as `trainer.ClassReport` has them.
CLASS_COLUMNS = (
    *("label", "files", "seconds", "frames", "components", "iterations", "converged", "log_likelihood"),
)


class Format(StrEnum):
    """How decisions are printed."""

    auto = "auto"
    table = "table"
    tsv = "tsv"
    jsonl = "jsonl"


Threshold = Annotated[
    float | None,
    typer.Option(
        "--threshold", help="Answer 'unknown' where the winner beats the background by less (nats a frame)."
    ),
]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the figures to this file as well.")]


@app.command("train")
def train_command(
    manifest: Annotated[Path, typer.Argument(help="Manifest of the training utterances.")],
    output: Output,
    label: Label = "speaker",
    config: Annotated[
        Path | None, typer.Option("--config", help="TOML file with [features] and [training] settings.")
    ] = None,
    components: Annotated[
        int | None, typer.Option("--components", "-k", help="Gaussians a class [default: 32].")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="The same seed gives the same bits [default: 0].")
    ] = None,
    split: Split = None,
    store: Annotated[
        Path | None,
        typer.Option("--store", help="Feature store: keeps the frames, which are then trained on from disk."),
    ] = None,
    data_dir: DataDir = None,
    jobs: Jobs = -1,
) -> None:
    """Train a model: one Gaussian mixture for each value of a label."""
    from speechgmm.files import require_writable
    from speechgmm.manifest import read_manifest, select
    from speechgmm.settings import Settings, read_settings
    from speechgmm.terminal import print_table, shown_progress
    from speechgmm.trainer import train

    settings = read_settings(config) if config else Settings()
    training = settings.training
    if components is not None:
        training = replace(training, n_components=components)
    if seed is not None:
        training = replace(training, seed=seed)
    utterances = select(read_manifest(manifest, data_dir), split)
    require_writable(output)
    with shown_progress() as progress:
        result = train(
            utterances,
            label,
            features=settings.features,
            settings=training,
            store=store,
            n_jobs=jobs,
            progress=progress,
        )
    result.model.save(output)
    columns = (label, *map(_spoken, CLASS_COLUMNS[1:]))
    print_table("", columns, [tuple(asdict(report).values()) for report in result.classes])
    print(f"{output}: {counted(len(result.classes), 'class', 'classes')} of {label!r}")
    finish(listed(result.problems))


@app.command("classify")
def classify_command(
    model: Annotated[Path, typer.Argument(help="Model file.")],
    audio: Annotated[
        list[Path], typer.Argument(help="Audio files, or folders of them.", metavar="FILE_OR_FOLDER...")
    ],
    threshold: Threshold = None,
    format: Annotated[
        Format, typer.Option("--format", "-f", help="auto: a table on a terminal, TSV in a pipe.")
    ] = Format.auto,
    jobs: Jobs = -1,
) -> None:
    """Say who (or what) speaks in audio files."""
    from speechgmm.manifest_build import from_files
    from speechgmm.model_file import Model
    from speechgmm.scorer import classify
    from speechgmm.terminal import shown_progress

    loaded = Model.load(model)
    utterances, missing = from_files(audio)
    with shown_progress() as progress:
        outcome = classify(loaded, utterances, threshold=threshold, n_jobs=jobs, progress=progress)
    problems = [*missing, *listed(outcome.problems)]
    if not outcome.decisions:
        finish(problems, "; no file can be used", code=2)
    _print_decisions(outcome.decisions, format)
    finish(problems)


@app.command("evaluate")
def evaluate_command(
    model: Annotated[Path, typer.Argument(help="Model file.")],
    manifest: Annotated[Path, typer.Argument(help="Manifest of utterances whose labels are known.")],
    split: Split = None,
    threshold: Threshold = None,
    json_file: JsonFile = None,
    data_dir: DataDir = None,
    jobs: Jobs = -1,
) -> None:
    """Say how often a model is right."""
    from speechgmm.evaluation import evaluate
    from speechgmm.files import require_writable, write_atomically
    from speechgmm.manifest import read_manifest, select
    from speechgmm.model_file import Model
    from speechgmm.terminal import print_table, shown_progress

    loaded = Model.load(model)
    utterances = select(read_manifest(manifest, data_dir), split)
    if json_file is not None:
        require_writable(json_file)
    with shown_progress() as progress:
        result = evaluate(loaded, utterances, threshold=threshold, n_jobs=jobs, progress=progress)
    columns = (loaded.label, "utterances", "correct", "recall", "precision", "F1")
    print_table("", columns, [tuple(asdict(one).values()) for one in result.classes])
    if result.confusions:
        print_table("Most frequent confusions", ("truth", "decided", "count"), result.confusions)
    low, high = result.interval
    print(
        f"accuracy {result.accuracy:.2%} ({result.n_correct} of {result.n_utterances}), "
        f"95 % interval {low:.2%} to {high:.2%}"
    )
    if json_file is not None:
        write_atomically(json_file, json.dumps(result.to_dict(), indent=2, ensure_ascii=False) + "\n")
    finish(listed(result.problems))


@app.command("inspect")
def inspect_command(
    model: Annotated[Path, typer.Argument(help="Model file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Say what is inside a model file."""
    from speechgmm.model_file import Model
    from speechgmm.terminal import print_table, readable

    loaded = Model.load(model)
    record = dict(loaded.record)
    classes = record.pop("classes", [])
    features = None if loaded.features is None else loaded.features.to_dict()
    facts: dict[str, Any] = {
        "label": loaded.label,
        "classes": len(loaded.labels),
        "features": loaded.n_features,
        "background_components": loaded.background.n_components,
        "posterior_scale": loaded.posterior_scale,
    }
    if as_json:
        components = {k: m.n_components for k, m in zip(loaded.labels, loaded.mixtures, strict=True)}
        whole = {**facts, "components": components, "front_end": features, "record": loaded.record}
        print(json.dumps(whole, indent=2, ensure_ascii=False))
        return
    print_table("Model", ("what", "value"), [(name, readable(value)) for name, value in facts.items()])
    if features is None:
        print("Frames were made elsewhere: this model scores frames, not audio.")
    else:
        print_table(
            "Features", ("setting", "value"), [(name, str(value)) for name, value in features.items()]
        )
    settings = record.pop("settings", {})
    made = [(name, str(value)) for name, value in [*record.items(), *settings.items()]]
    print_table("Made with", ("what", "value"), made)
    if classes:
        columns = [name for name in CLASS_COLUMNS if name in classes[0]]
        print_table("Classes", [*map(_spoken, columns)], [[row[name] for name in columns] for row in classes])


def _print_decisions(decisions: Sequence["Decision"], format: Format) -> None:
    if format is Format.auto:
        format = Format.table if sys.stdout.isatty() else Format.tsv
    rows = [_row(decision) for decision in decisions]
    if format is Format.jsonl:
        for row, decision in zip(rows, decisions, strict=True):
            # JSON has no infinity, which the margin of a model with one class is.
            plain = {name: None if value == math.inf else value for name, value in row.items()}
            print(json.dumps({**plain, "accepted": decision.accepted}, ensure_ascii=False))
    elif format is Format.table:
        from speechgmm.terminal import print_table

        shown = ("file", "label", "posterior", "runner_up", "margin", "llr")
        print_table("", shown, [[row[name] for name in shown] for row in rows])
    else:
        print("\t".join(rows[0]))
        for row in rows:
            values = row.values()
            print("\t".join(f"{value:.6f}" if isinstance(value, float) else str(value) for value in values))


def _spoken(name: str) -> str:
    """A field's name as people write it."""
    return name.replace("_", "-")


def _row(decision: "Decision") -> dict[str, Any]:
    return {
        "file": decision.utterance,
        "label": decision.label,
        "best": decision.best,
        "posterior": decision.posterior,
        "runner_up": decision.runner_up,
        "margin": decision.margin,
        "llr": decision.llr,
        "score": decision.score,
        "frames": decision.n_frames,
    }


def _version(asked: bool) -> None:
    if asked:
        from speechgmm.version import __version__

        print(f"speechgmm {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Recognise speakers, words and phonemes from audio with Gaussian mixture models."""


def main() -> None:
    """Run the command line; the program's entry point."""
    from speechgmm.terminal import plain_warnings, ready_streams

    ready_streams()
    try:
        with plain_warnings():
            app(prog_name="speechgmm")
    except SpeechGMMError as error:
        print(f"speechgmm: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.filename is not None:
            print(f"speechgmm: {error.filename}: {error.strerror}", file=sys.stderr)
            sys.exit(2)
        # What could not be written must not be tried again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"speechgmm: the output cannot be written ({error.strerror or error})", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
