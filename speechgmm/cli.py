"""The command line: parse, call, print, exit code.

Exit codes: 0 all done, 1 done but for some files (they are listed), 2 nothing done because of the input.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from speechgmm.errors import InputError, SpeechGMMError

if TYPE_CHECKING:
    from speechgmm.features.extract import Problem
    from speechgmm.manifest import Utterance
    from speechgmm.scorer import Decision

app = typer.Typer(
    name="speechgmm",
    help="Recognise speakers, words and phonemes from audio with Gaussian mixture models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
manifest_app = typer.Typer(help="Make, check and split manifests: lists of utterances.", no_args_is_help=True)
app.add_typer(manifest_app, name="manifest")


class Format(StrEnum):
    """How decisions are printed."""

    auto = "auto"
    table = "table"
    tsv = "tsv"
    jsonl = "jsonl"


Jobs = Annotated[int, typer.Option("--jobs", "-j", help="Workers; -1 for all cores.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same bits.")]
Label = Annotated[str, typer.Option("--label", help="What is told apart, such as speaker or word.")]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Folder that audio paths start from [default: the manifest's]."),
]
Output = Annotated[Path, typer.Option("--output", "-o", help="File to write.")]
Split = Annotated[str | None, typer.Option("--split", help="Use the utterances of this split only.")]
Threshold = Annotated[
    float | None,
    typer.Option(
        "--threshold", help="Answer 'unknown' where the winner beats the background by less (nats a frame)."
    ),
]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the figures to this file as well.")]


@manifest_app.command("build")
def manifest_build(
    source: Annotated[Path, typer.Argument(help="Folder of audio, or a CSV or TSV table with a header.")],
    output: Output,
    label: Label = "speaker",
    pattern: Annotated[
        str | None, typer.Option("--pattern", help="File names with labels: '{word}_{speaker}_{take}.wav'.")
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option("--column", help="OUR_NAME=THEIRS, where a table's columns differ.")
    ] = None,
    data_dir: DataDir = None,
    checksums: Annotated[bool, typer.Option(help="Store a SHA-256 of every file.")] = True,
    jobs: Jobs = -1,
) -> None:
    """Make a manifest from a folder (<label>/*.wav), from file names, or from a table."""
    from speechgmm.manifest import write_manifest
    from speechgmm.manifest_build import from_folders, from_pattern, from_table
    from speechgmm.manifest_check import describe
    from speechgmm.terminal import shown_progress

    if pattern is not None:
        utterances = from_pattern(source, pattern)
    elif source.is_file():
        utterances = from_table(source, data_dir, _columns(column or []))
    else:
        utterances = from_folders(source, label)
    with shown_progress() as progress:
        described, problems = describe(utterances, checksums, jobs, progress)
    if not described:
        raise InputError(
            f"{source}: none of the {len(utterances)} files can be used; the first: {problems[0]}"
        )
    write_manifest(described, output, data_dir)
    print(f"{output}: {len(described)} utterances, {_hours(described)}")
    _finish(problems)


@manifest_app.command("check")
def manifest_check(
    manifest: Annotated[Path, typer.Argument(help="Manifest to check.")],
    label: Annotated[
        str | None, typer.Option("--label", help="A label that every utterance must have.")
    ] = None,
    known: Annotated[
        list[str] | None, typer.Option("--known", help="A value that the label may have; repeat for more.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option("--model", help="Take the label and its values from this model.")
    ] = None,
    data_dir: DataDir = None,
    jobs: Jobs = -1,
) -> None:
    """List everything that is wrong with a manifest, all at once."""
    from speechgmm.manifest import read_manifest
    from speechgmm.manifest_check import check
    from speechgmm.model_file import Model
    from speechgmm.terminal import shown_progress

    values: Sequence[str] | None = known
    if model is not None:
        loaded = Model.load(model)
        label, values = loaded.label, loaded.labels
    utterances = read_manifest(manifest, data_dir)
    with shown_progress() as progress:
        problems = check(utterances, label, values, jobs, progress)
    print(f"{manifest}: {len(utterances)} utterances, {len(problems)} problems")
    _finish(problems)


@manifest_app.command("split")
def manifest_split(
    manifest: Annotated[Path, typer.Argument(help="Manifest to split.")],
    by: Annotated[
        str,
        typer.Option(
            "--by",
            help="Label whose values stay together, such as speaker or session; id for single utterances.",
        ),
    ],
    output: Output,
    within: Annotated[
        str | None,
        typer.Option("--within", help="Split inside each value of this label (by session, within speaker)."),
    ] = None,
    test: Annotated[float, typer.Option("--test", help="Share of the groups that are the test part.")] = 0.2,
    seed: Seed = 0,
    data_dir: DataDir = None,
) -> None:
    """Mark utterances as train or test so that no speaker (or session, …) is on both sides."""
    from collections import Counter

    from speechgmm.manifest import read_manifest, write_manifest
    from speechgmm.manifest_split import split

    utterances = split(
        read_manifest(manifest, data_dir), by, {"train": 1.0 - test, "test": test}, within=within, seed=seed
    )
    write_manifest(utterances, output, data_dir)
    counts = Counter(utterance.split for utterance in utterances)
    print(f"{output}: {counts['train']} train, {counts['test']} test")


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
    data_dir: DataDir = None,
    jobs: Jobs = -1,
) -> None:
    """Train a model: one Gaussian mixture for each value of a label."""
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
    with shown_progress() as progress:
        result = train(
            utterances, label, features=settings.features, settings=training, n_jobs=jobs, progress=progress
        )
    result.model.save(output)
    columns = (label, "files", "seconds", "frames", "components", "iterations", "log-likelihood")
    print_table("", columns, [tuple(asdict(report).values()) for report in result.classes])
    print(f"{output}: {len(result.classes)} classes of {label!r}")
    _finish(_listed(result.problems))


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
    _print_decisions(outcome.decisions, format)
    _finish([*missing, *_listed(outcome.problems)])


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
    from speechgmm.files import write_atomically
    from speechgmm.manifest import read_manifest, select
    from speechgmm.model_file import Model
    from speechgmm.terminal import print_table, shown_progress

    loaded = Model.load(model)
    utterances = select(read_manifest(manifest, data_dir), split)
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
    _finish(_listed(result.problems))


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
        print(
            json.dumps(
                {**facts, "components": components, "front_end": features, "record": loaded.record}, indent=2
            )
        )
        return
    print_table("Model", ("what", "value"), [(name, readable(value)) for name, value in facts.items()])
    if features is None:
        print("Frames were made elsewhere: this model scores frames, not audio.")
    else:
        print_table(
            "Features", ("setting", "value"), [(name, str(value)) for name, value in features.items()]
        )
    print_table("Made with", ("what", "value"), [(name, str(value)) for name, value in record.items()])
    if classes:
        print_table("Classes", tuple(classes[0]), [tuple(row.values()) for row in classes])


def _columns(pairs: Sequence[str]) -> dict[str, str]:
    """`OUR_NAME=THEIRS` options as a mapping."""
    columns = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    if len(columns) < len(pairs):
        raise InputError(
            f"--column {' --column '.join(pairs)}: each must be OUR_NAME=THEIRS, and no name twice"
        )
    return columns


def _print_decisions(decisions: Sequence["Decision"], format: Format) -> None:
    if format is Format.auto:
        format = Format.table if sys.stdout.isatty() else Format.tsv
    if format is Format.jsonl:
        for decision in decisions:
            print(json.dumps({**asdict(decision), "accepted": decision.accepted}, ensure_ascii=False))
        return
    columns = ("file", "label", "posterior", "runner_up", "margin", "llr", "score", "frames")
    rows: list[tuple[Any, ...]] = [
        (d.utterance, d.label, d.posterior, d.runner_up, d.margin, d.llr, d.score, d.n_frames)
        for d in decisions
    ]
    if format is Format.table:
        from speechgmm.terminal import print_table

        print_table("", columns, rows)
        return
    print("\t".join(columns))
    for row in rows:
        print("\t".join(f"{value:.6f}" if isinstance(value, float) else str(value) for value in row))


def _hours(utterances: Sequence["Utterance"]) -> str:
    seconds = sum(utterance.duration or 0.0 for utterance in utterances)
    return f"{seconds / 3600:.2f} hours" if seconds >= 3600 else f"{seconds:.1f} seconds"


def _listed(problems: Sequence["Problem"]) -> list[str]:
    return [f"{problem.utterance}: {problem.message}" for problem in problems]


def _finish(problems: Sequence[str]) -> None:
    """List what could not be done and choose the exit code."""
    sys.stdout.flush()
    if problems:
        for problem in problems:
            print(f"problem: {problem}", file=sys.stderr)
        print(f"{len(problems)} problems; everything else is done", file=sys.stderr)
        raise typer.Exit(1)


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
    from speechgmm.terminal import plain_warnings

    try:
        with plain_warnings():
            app()
    except SpeechGMMError as error:
        print(f"speechgmm: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        # The reader has gone, as with `| head`; nothing more can be said to it.
        sys.stderr.close()
        sys.exit(141)


if __name__ == "__main__":
    main()
