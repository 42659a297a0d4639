"""The command line: parse, call, print, exit code."""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from speechgmm import cli_manifest, cli_phones, cli_trials
from speechgmm.cli_align import align_command
from speechgmm.cli_features import features_command
from speechgmm.cli_shared import (
    Audio,
    DataDir,
    Format,
    FormatOption,
    Jobs,
    JsonFile,
    Label,
    Output,
    Split,
    counted,
    finish,
    listed,
    new_app,
    print_rows,
    refuse_options,
)
from speechgmm.cli_store import CFa, CMiss, PTarget, operating_point
from speechgmm.cli_trials import Repeats
from speechgmm.cli_verification import calibrate_command, enrol_command, ubm_command, verify_command
from speechgmm.errors import InputError, SpeechGMMError

if TYPE_CHECKING:
    from speechgmm.scorer import Decision

app = new_app(name="speechgmm")
app.add_typer(cli_manifest.app, name="manifest")
app.command("features")(features_command)
app.command("ubm")(ubm_command)
app.command("calibrate")(calibrate_command)
app.command("enrol")(enrol_command)
app.command("verify")(verify_command)
app.add_typer(cli_trials.app, name="trials")
app.add_typer(cli_phones.app, name="phones")
app.command("align")(align_command)

# The figures of a class, as `trainer.ClassReport` has them.
CLASS_COLUMNS = (
    *("label", "files", "seconds", "frames", "components", "iterations", "converged", "log_likelihood"),
)
# Of a decision; JSON Lines have `accepted` as well.
COLUMNS = ("file", "label", "best", "posterior", "runner_up", "margin", "llr", "score", "frames")
SHOWN = ("file", "label", "posterior", "runner_up", "margin", "llr")
MODEL, STORE = "a classifier model", "a speaker store"

ModelFile = Annotated[Path, typer.Argument(help="Model file, or speaker store.")]
Threshold = Annotated[
    float | None,
    typer.Option(
        "--threshold", help="Answer 'unknown' where the winner beats the background by less (nats a frame)."
    ),
]


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
    model: ModelFile,
    audio: Audio,
    threshold: Threshold = None,
    p_target: PTarget = None,
    c_miss: CMiss = None,
    c_fa: CFa = None,
    format: FormatOption = Format.auto,
    jobs: Jobs = -1,
) -> None:
    """Say who (or what) speaks in audio files.

    A model takes --threshold. With a speaker store the answer is one of the enrolled, or unknown, as --p-target,
    --c-miss and --c-fa have it.
    """
    _refuse_recogniser(model, "speechgmm phones recognise")
    if _is_speaker_store(model):
        from speechgmm.cli_speakers import identify

        refuse_options(model, STORE, threshold=threshold)
        identify(model, audio, operating_point(p_target, c_miss, c_fa), format, jobs)
    else:
        refuse_options(model, MODEL, p_target=p_target, c_miss=c_miss, c_fa=c_fa)
        _classify(model, audio, threshold, format, jobs)


def _classify(model: Path, audio: Sequence[Path], threshold: float | None, format: Format, jobs: int) -> None:
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
    print_rows([_row(decision) for decision in outcome.decisions], format, COLUMNS, SHOWN)
    finish(problems)


@app.command("evaluate")
def evaluate_command(
    model: ModelFile,
    manifest: Annotated[Path, typer.Argument(help="Manifest of utterances whose labels are known.")],
    split: Split = None,
    threshold: Threshold = None,
    trials: Annotated[
        Path | None, typer.Option("--trials", help="List of trials; a speaker store is evaluated on one.")
    ] = None,
    label: Annotated[
        str | None, typer.Option("--label", help="Who speaks in the trials' utterances [default: speaker].")
    ] = None,
    allow_repeats: Repeats = False,
    det: Annotated[
        Path | None,
        typer.Option("--det", help="Draw misses over false alarms of the trials: a PNG, PDF or SVG."),
    ] = None,
    json_file: JsonFile = None,
    data_dir: DataDir = None,
    jobs: Jobs = -1,
) -> None:
    """Say how often a model is right.

    A speaker store is evaluated on --trials instead: error rates, costs and calibration, with intervals.
    """
    _refuse_recogniser(model, "speechgmm phones evaluate")
    if _is_speaker_store(model):
        refuse_options(model, STORE, threshold=threshold)
        if trials is None:
            raise InputError(
                f"{model} is {STORE}: --trials is needed, a list such as `speechgmm trials make` writes"
            )
        cli_trials.evaluate_store(
            model,
            manifest,
            trials,
            label=label or "speaker",
            split=split,
            allow_repeats=allow_repeats,
            det=det,
            json_file=json_file,
            data_dir=data_dir,
            jobs=jobs,
        )
    else:
        refuse_options(model, MODEL, trials=trials, label=label, allow_repeats=allow_repeats or None, det=det)
        _evaluate(model, manifest, split, threshold, json_file, data_dir, jobs)


def _evaluate(
    model: Path,
    manifest: Path,
    split: str | None,
    threshold: float | None,
    json_file: Path | None,
    data_dir: Path | None,
    jobs: int,
) -> None:
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
    model: ModelFile,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Say what is inside a model file, a speaker store or a phone recogniser."""
    from speechgmm.tensor_file import PHONES, kind_of

    if _is_speaker_store(model):
        from speechgmm.cli_speakers import describe

        describe(model, as_json)
    elif kind_of(model) == PHONES:
        cli_phones.describe(model, as_json)
    else:
        _inspect(model, as_json)


def _inspect(model: Path, as_json: bool) -> None:
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


def _is_speaker_store(path: Path) -> bool:
    """Whether a file says so; one that cannot be read is left to whoever reads models."""
    from speechgmm.tensor_file import SPEAKERS, kind_of

    return kind_of(path) == SPEAKERS


def _refuse_recogniser(path: Path, command: str) -> None:
    """Send a phone recogniser to the command that takes one."""
    from speechgmm.tensor_file import PHONES, kind_of

    if kind_of(path) == PHONES:
        raise InputError(
            f"{path}: is a phone recogniser; use `{command}` (needed here is a model of `speechgmm train`, or a "
            "speaker store)"
        )


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
        "accepted": decision.accepted,
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
