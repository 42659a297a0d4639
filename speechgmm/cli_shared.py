"""What all commands share: options, how problems are listed, exit codes.

Exit codes: 0 all done, 1 done but for some files (they are listed), 2 nothing done because of the input.
"""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from speechgmm.errors import InputError

if TYPE_CHECKING:
    from speechgmm.features.extract import Problem


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
Split = Annotated[str | None, typer.Option("--split", help="Use the utterances of this split only.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="File to write.")]
Audio = Annotated[
    list[Path], typer.Argument(help="Audio files, or folders of them.", metavar="FILE_OR_FOLDER...")
]
FormatOption = Annotated[
    Format, typer.Option("--format", "-f", help="auto: a table on a terminal, TSV in a pipe.")
]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the figures to this file as well.")]


def new_app(**options: str) -> typer.Typer:
    """A group of commands in the project's style."""
    return typer.Typer(
        **options,  # type: ignore[arg-type]
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # help texts hold [brackets]
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun: "1 problem", "2 problems"."""
    return f"{number} {noun}" if number == 1 else f"{number} {plural or noun + 's'}"


def finish(problems: Sequence[str], rest: str = "; everything else is done", code: int = 1) -> None:
    """List what could not be done, say what became of the rest, and choose the exit code."""
    sys.stdout.flush()
    if problems:
        for problem in problems:
            print(f"problem: {problem}", file=sys.stderr)
        print(f"{counted(len(problems), 'problem')}{rest}", file=sys.stderr)
        raise typer.Exit(code)


def listed(problems: Sequence["Problem"]) -> list[str]:
    """Problems as texts that name their utterance once."""
    return [
        problem.message
        if problem.message.startswith(problem.utterance)
        else f"{problem.utterance}: {problem.message}"
        for problem in problems
    ]


def print_rows(
    rows: Sequence[Mapping[str, Any]],
    format: Format,
    columns: Sequence[str],
    shown: Sequence[str],
    below: str = "",
) -> None:
    """Print a line for each row.

    Parameters
    ----------
    rows : sequence of mapping
        JSON Lines hold all of it, None and infinities as null.
    format : Format
    columns, shown : sequence of str
        What TSV and tables have; None is an empty cell there, and a table leaves out columns of nothing else.
    below : str
        What is true of all rows, said below a table.
    """
    if format is Format.auto:
        format = Format.table if sys.stdout.isatty() else Format.tsv
    if format is Format.jsonl:
        for row in rows:
            plain = {name: None if _infinite(value) else value for name, value in row.items()}
            print(json.dumps(plain, ensure_ascii=False))
    elif format is Format.table:
        from speechgmm.terminal import print_table

        there = [name for name in shown if any(row[name] is not None for row in rows)]
        print_table("", there, [["" if row[name] is None else row[name] for name in there] for row in rows])
        if below:
            print(below)
    else:
        print("\t".join(columns))
        for row in rows:
            print("\t".join(cell(row[name]) for name in columns))


def cell(value: Any) -> str:
    """A value as tab-separated text has it."""
    if value is None:
        return ""
    return f"{value:.6f}" if isinstance(value, float) else str(value)


def _infinite(value: Any) -> bool:
    return isinstance(value, float) and math.isinf(value)


def refuse_options(path: Path, what: str, **options: Any) -> None:
    """Refuse options that were given and are for files of another kind than this one, which is `what`."""
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value is not None]
    if given:
        raise InputError(f"{path} is {what}, which takes no {' and no '.join(given)}")
