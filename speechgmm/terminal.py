"""What people see: tables, progress and warnings; quiet in a pipe."""

import signal
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any, TextIO

from speechgmm.parallel import Progress, no_progress


@contextmanager
def shown_progress(stream: TextIO | None = None) -> Iterator[Progress]:
    """A progress callback that draws bars on standard error if that is a terminal, and nothing otherwise."""
    stream = sys.stderr if stream is None else stream
    if not stream.isatty():
        yield no_progress
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, console=Console(file=stream), transient=True) as bars:
        tasks: dict[str, Any] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done)

        yield show


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table on standard output; numbers are set flush right."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = [list(row) for row in rows]
    # Text, because labels and file names may look like markup.
    table = Table(title=Text(title) if title else None, title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[index], int | float) for row in rows)
        table.add_column(Text(column), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(readable(value)) for value in row))
    console = Console()
    if not sys.stdout.isatty():
        # A pipe has no width of its own: lines there are as long as they need to be.
        unbounded = console.options.update(max_width=100_000)
        console = Console(width=max(1, console.measure(table, options=unbounded).maximum))
    console.print(table)


def readable(value: Any) -> str:
    """A value as text: floats with four digits after the point, or four that matter if they are small."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.4g}" if 0 < abs(value) < 1e-3 else f"{value:.4f}"


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Show each warning as one line on standard error, without the place in the code."""

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        print("warning:", " ".join(str(message).split()), file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def ready_streams() -> None:
    """Make a program's output end as people expect: quietly with its reader, and whatever letters it holds."""
    if hasattr(signal, "SIGPIPE") and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a letter that the encoding lacks is no reason to stop
            stream.reconfigure(errors="backslashreplace")
