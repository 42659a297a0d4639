"""What all commands share: options, how problems are listed, exit codes.

Exit codes: 0 all done, 1 done but for some files (they are listed), 2 nothing done because of the input.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from speechgmm.features.extract import Problem

Jobs = Annotated[int, typer.Option("--jobs", "-j", help="Workers; -1 for all cores.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same bits.")]
Label = Annotated[str, typer.Option("--label", help="What is told apart, such as speaker or word.")]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Folder that audio paths start from [default: the manifest's]."),
]
Split = Annotated[str | None, typer.Option("--split", help="Use the utterances of this split only.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="File to write.")]


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
