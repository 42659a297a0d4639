"""terminal: tables, progress and warnings."""

import sys
import warnings
from io import StringIO

import pytest

from speechgmm.errors import SpeechGMMWarning
from speechgmm.parallel import no_progress
from speechgmm.terminal import plain_warnings, print_table, readable, shown_progress
from tests.cli_tools import plain, table_rows


class Terminal(StringIO):
    def isatty(self):
        return True


@pytest.fixture
def colourful(monkeypatch):
    """A terminal that can do all that terminals do, whatever this process runs in."""
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


# Progress


def test_nothing_is_drawn_where_there_is_no_terminal():
    stream = StringIO()
    with shown_progress(stream) as progress:
        assert progress is no_progress
        progress("features", 1, 2)
    assert stream.getvalue() == ""


def test_standard_error_is_where_progress_goes(capsys, monkeypatch):
    with shown_progress() as progress:
        progress("features", 1, 2)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys, "stderr", Terminal())
    with shown_progress() as progress:
        progress("features", 2, 2)
    assert "2/2" in plain(sys.stderr.getvalue())
    assert capsys.readouterr().out == ""


def test_each_stage_has_a_bar_that_ends_full_and_is_wiped(colourful):
    stream = Terminal()
    with shown_progress(stream) as progress:
        for stage, total in (("features", 3), ("mixtures", 5)):
            for done in range(1, total + 1):
                progress(stage, done, total)
    text = plain(stream.getvalue())
    assert "features 3/3" in text
    assert "mixtures 5/5" in text
    assert stream.getvalue().endswith("\x1b[2K")
    assert stream.getvalue().count("\x1b[?25l") == stream.getvalue().count("\x1b[?25h") == 1


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_a_clean_terminal(colourful, error):
    stream = Terminal()

    def work():
        with shown_progress(stream) as progress:
            progress("features", 1, 3)
            raise error("stop")

    with pytest.raises(error, match="stop"):
        work()
    assert stream.getvalue().endswith("\x1b[2K")
    assert "\x1b[?25h" in stream.getvalue()  # the cursor is shown again


# Tables


def test_a_table_has_a_title_a_header_and_rows(capsys):
    print_table("Figures", ("name", "value"), (row for row in [("a", 1), ("b", 0.25)]))
    out = capsys.readouterr().out
    assert out.splitlines()[0].strip() == "Figures"
    assert plain(out) == "Figures name value a 1 b 0.2500"
    assert table_rows(out) == [["a", "1"], ["b", "0.2500"]]


def test_a_table_may_have_no_title_and_no_rows(capsys):
    print_table("", ("name", "value"), [])
    out = capsys.readouterr().out
    assert plain(out) == "name value"
    assert out.startswith("┏")


def test_numbers_are_set_flush_right_and_text_flush_left(capsys):
    print_table("", ("text", "number", "mixed"), [("a", 1, 1), ("bcdefg", 23.5, "x")])
    first, second = (line[1:-1].split("│") for line in capsys.readouterr().out.splitlines() if "│" in line)
    assert (first[0], second[0]) == (" a      ", " bcdefg ")
    assert (first[1], second[1]) == ("       1 ", " 23.5000 ")
    assert (first[2], second[2]) == (" 1     ", " x     ")


def test_cells_are_shown_as_they_are(capsys):
    cells = ["[red]cat", "[/]", "[link=http://x]y[/link]", ":smile:", "a\\[b]", "dé ф 音"]
    print_table("", ("name", "count"), [(cell, 1) for cell in cells])
    assert [row[0] for row in table_rows(capsys.readouterr().out)] == cells


@pytest.mark.parametrize("text", ["[red]cat", ":smile:"])
def test_titles_and_column_names_are_shown_as_they_are(capsys, text):
    print_table(text, (text,), [("a",)])
    assert plain(capsys.readouterr().out) == f"{text} {text} a"


def test_a_column_name_like_closing_markup_is_no_error(capsys):
    print_table("", ("[/red]",), [("a",)])
    assert "[/red]" in capsys.readouterr().out


def test_a_pipe_gets_lines_as_long_as_they_need_to_be(capsys):
    print_table("", ("name",), [("x" * 500,)])
    assert "x" * 500 in capsys.readouterr().out


def test_a_pipe_gets_no_control_characters(capsys, colourful):
    print_table("Figures", ("name",), [("a",)])
    assert "\x1b" not in capsys.readouterr().out


def test_a_terminal_folds_what_is_too_wide(monkeypatch, colourful):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys, "stdout", Terminal())
    print_table("", ("name",), [("x" * 100,)])
    text = plain(sys.stdout.getvalue())
    assert text.count("x") == 100
    assert max(map(len, sys.stdout.getvalue().splitlines())) <= 40 + len("\x1b[1m\x1b[0m") * 3


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.25, "0.2500"), (12.34567, "12.3457"), (-1.0, "-1.0000"), (3, "3"), ("a", "a"), (None, "None")],
)
def test_readable(value, text):
    assert readable(value) == text


# Warnings


def test_a_warning_is_one_line_on_standard_error(capsys):
    before = warnings.showwarning
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with plain_warnings():
            warnings.warn("3 files are [odd]", SpeechGMMWarning, stacklevel=1)
            warnings.warn("and this", UserWarning, stacklevel=1)
    assert capsys.readouterr() == ("", "warning: 3 files are [odd]\nwarning: and this\n")
    assert warnings.showwarning is before


def test_warnings_are_as_before_after_an_error():
    before = warnings.showwarning
    with pytest.raises(ValueError, match="stop"), plain_warnings():
        raise ValueError("stop")
    assert warnings.showwarning is before


def test_a_warning_of_several_lines_becomes_one(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with plain_warnings():
            warnings.warn("\nThis is\nlong", UserWarning, stacklevel=1)
    assert capsys.readouterr().err == "warning: This is long\n"
