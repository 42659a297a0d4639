"""Praat's TextGrids: their text to labels, and back, through the library praatio."""

import codecs
import re
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from speechgmm.errors import FormatError, InputError
from speechgmm.phones.label_lines import Collected, Tiers
from speechgmm.utterance import Segment

_N_TIERS = re.compile(r"<exists>\s*(?:size\s*=\s*)?(\d+)")


def _praatio() -> ModuleType:
    try:
        from praatio.utilities import textgrid_io
    except ImportError as error:
        raise InputError(
            "TextGrids need the package praatio; install it with: pip install 'speechgmm[phones]'"
        ) from error
    return textgrid_io  # type: ignore[no-any-return]


def read_textgrid_text(path: Path) -> str:
    """The text of a TextGrid, which is UTF-8, or UTF-16 with a byte order mark."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(
            f"{path}: byte {error.start} is neither UTF-8 text nor UTF-16 with a byte order mark"
        ) from error


def parse_textgrid(text: str, name: str) -> Collected:
    """Labels of a TextGrid in its long or short form: a tier of segments for each tier of intervals.

    Intervals without text are gaps. Tiers of points are left aside. Problems are numbered by interval within
    their tier, not by line.

    Raises
    ------
    FormatError
        If the text is no TextGrid, is cut short, or has two tiers of one name.
    InputError
        If praatio is not installed.
    """
    collected = Collected()
    seen: set[str] = set()
    for tier in _tiers(text):
        if tier["name"] in seen:
            raise FormatError(f"has two tiers of the name {tier['name']!r}")
        seen.add(tier["name"])
        if tier["class"] != "IntervalTier":
            continue
        entries = [(float(start), float(end), label) for start, end, label in tier["entries"]]
        if entries and entries[-1][1] < tier["xmax"] - 1e-3:
            raise FormatError(
                f"tier {tier['name']!r} ends at {tier['xmax']:g} s, its last interval at {entries[-1][1]:g} s; "
                "the file was cut short, or written without empty intervals"
            )
        for number, entry in enumerate(entries, 1):
            if entry[2]:
                collected.add(number, name, tier["name"], Segment(*entry))
    return collected


def _tiers(text: str) -> list[dict[str, Any]]:
    """What praatio finds in the text, which stops without a word where a file was cut."""
    library = _praatio()
    from praatio.utilities.errors import PraatioException

    expected = _N_TIERS.search(text)
    if "ooTextFile" not in text or "TextGrid" not in text or expected is None:
        raise FormatError("is not a TextGrid")
    try:
        tiers = library.parseTextgridStr(text, includeEmptyIntervals=True)["tiers"]
        for tier in tiers:
            tier["entries"] = [(float(entry[0]), float(entry[-2]), entry[-1]) for entry in tier["entries"]]
    except (PraatioException, ValueError, IndexError) as error:
        raise FormatError(f"is not a whole TextGrid ({error})") from error
    if len(tiers) != int(expected[1]):
        raise FormatError(f"has {len(tiers)} tiers; its header says {expected[1]}: the file was cut short")
    if tiers and not tiers[-1]["entries"] and not _ends_empty(text, tiers[-1]):
        raise FormatError(f"has nothing in its last tier {tiers[-1]['name']!r}: the file was cut short")
    return list(tiers)


def _ends_empty(text: str, tier: dict[str, Any]) -> bool:
    """Whether the text ends with a tier that has nothing in it, and says so: its start, its end, and 0."""
    *start, end, number = text.split()[-3:]
    bounds = [f"{tier['xmin']:g}", f"{tier['xmax']:g}"]
    return number == "0" and (
        [*start, end] == ["size", "="] or [f"{float(x):g}" for x in (*start, end)] == bounds
    )


def format_textgrid(tiers: Tiers) -> str:
    """The text of a TextGrid in its long form; gaps become intervals without text.

    A segment that starts up to 1 ms before the one before it ends starts where that ends: intervals do not
    overlap.
    """
    library = _praatio()
    end = max(segments[-1].end for segments in tiers.values())
    grid: dict[str, Any] = {
        "xmin": 0.0,
        "xmax": end,
        "tiers": [
            {"class": "IntervalTier", "name": name, "xmin": 0.0, "xmax": end, "entries": _intervals(segments)}
            for name, segments in tiers.items()
        ],
    }
    return str(
        library.getTextgridAsStr(grid, "long_textgrid", includeBlankSpaces=True, minimumIntervalLength=None)
    )


def _intervals(segments: Sequence[Segment]) -> list[tuple[float, float, str]]:
    intervals: list[tuple[float, float, str]] = []
    for segment in segments:
        start = max(segment.start, intervals[-1][1]) if intervals else segment.start
        intervals.append((start, segment.end, segment.label))
    return intervals
