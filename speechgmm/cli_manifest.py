"""`speechgmm manifest build | check | split`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speechgmm.cli_shared import DataDir, Jobs, Label, Output, Seed, counted, finish, new_app
from speechgmm.errors import InputError

if TYPE_CHECKING:
    from speechgmm.manifest import Utterance

app = new_app(help="Make, check and split manifests: lists of utterances.")


@app.command()
def build(
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
    from speechgmm.files import require_writable
    from speechgmm.manifest import require_below, write_manifest
    from speechgmm.manifest_check import describe
    from speechgmm.terminal import shown_progress

    utterances = _list(source, label, pattern, column or [], data_dir)
    require_writable(output)
    require_below(utterances, output, data_dir)
    with shown_progress() as progress:
        described, problems = describe(utterances, checksums, jobs, progress)
    if not described:
        finish(problems, "; no file can be used", code=2)
    write_manifest(described, output, data_dir)
    seconds = sum(utterance.duration or 0.0 for utterance in described)
    length = f"{seconds / 3600:.2f} hours" if seconds >= 3600 else f"{seconds:.1f} seconds"
    print(f"{output}: {counted(len(described), 'utterance')}, {length}")
    finish(problems)


def _list(
    source: Path, label: str, pattern: str | None, column: Sequence[str], data_dir: Path | None
) -> list["Utterance"]:
    """Utterances from a folder, a pattern or a table, whichever the options ask for."""
    from speechgmm.manifest_build import from_folders, from_pattern, from_table

    if source.is_file():
        if pattern is not None:
            raise InputError(f"--pattern is for folders; {source} is a file, read as a table")
        return from_table(source, data_dir, _columns(column))
    if column:
        raise InputError(f"--column is for tables; {source} is not a file")
    return from_folders(source, label) if pattern is None else from_pattern(source, pattern)


def _columns(pairs: Sequence[str]) -> dict[str, str]:
    """`OUR_NAME=THEIRS` options as a mapping."""
    columns = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    if len(columns) < len(pairs):
        raise InputError(
            f"--column {' --column '.join(pairs)}: each must be OUR_NAME=THEIRS, and no name twice"
        )
    return columns


@app.command()
def check(
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
    from speechgmm import manifest_check
    from speechgmm.manifest import fingerprint, read_manifest
    from speechgmm.model_file import Model
    from speechgmm.terminal import shown_progress

    if known and label is None:
        raise InputError("--known needs --label, the name of the label whose values they are")
    values: Sequence[str] | None = known
    if model is not None:
        if label is not None:
            raise InputError("--model brings its own label and values; leave out --label and --known")
        loaded = Model.load(model)
        label, values = loaded.label, loaded.labels
    utterances = read_manifest(manifest, data_dir)
    with shown_progress() as progress:
        problems = manifest_check.check(utterances, label, values, jobs, progress)
    print(f"{manifest}: {counted(len(utterances), 'utterance')}, {counted(len(problems), 'problem')}")
    print(f"fingerprint {fingerprint(utterances)}")
    finish(problems, rest=" in all")


@app.command()
def split(
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

    from speechgmm import manifest_split
    from speechgmm.manifest import read_manifest, write_manifest

    if not 0 < test < 1:
        raise InputError(f"--test is {test:g}; it must lie between 0 and 1")
    fractions = {"train": 1.0 - test, "test": test}
    utterances = manifest_split.split(
        read_manifest(manifest, data_dir), by, fractions, within=within, seed=seed
    )
    write_manifest(utterances, output, data_dir)
    counts = Counter(utterance.split for utterance in utterances)
    print(f"{output}: {counts['train']} train, {counts['test']} test")
