"""Label files with a segment a line (TIMIT's, HTK's, CTM): their text to labels, and back."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal, InvalidOperation

from speechgmm.errors import FormatError, SpeechGMMError
from speechgmm.utterance import UNWRITABLE, Segment, segment_problems

Tiers = Mapping[str, Sequence[Segment]]
Row = tuple[str, str, Segment]

MLF_HEADER = "#!MLF!#"
_HTK_RATE = 10_000_000
# A word in double quotes, in which a backslash keeps the next character, or one without blanks.
_HTK_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"(?!\S)|(\S+)')
_HTK_ESCAPE = re.compile(r"\\(.)")
_HTK_PLAIN = re.compile(r"""[^\s"'\\\d.+-]\S*""")


class Collected:
    """Labels as the lines of a file give them, and what is wrong with lines.

    Attributes
    ----------
    labels : dict of str to dict of str to list of Segment
        Name to tier to segments.
    problems : list of (int, SpeechGMMError)
        With the number of the line.
    """

    def __init__(self, part_overlaps: bool = False) -> None:
        self.labels: dict[str, dict[str, list[Segment]]] = {}
        self.problems: list[tuple[int, SpeechGMMError]] = []
        self._part_overlaps = part_overlaps

    def add(self, number: int, name: str, tier: str, segment: Segment) -> bool:
        """Keep the segment of a line, or else what is wrong with it; whether it was kept."""
        for what, text in (("name", name), ("tier", tier), ("label", segment.label)):
            if not text or UNWRITABLE.search(text):
                return self._refuse(
                    number, f"the {what} is {text!r}; it must be text, not empty, without control characters"
                )
        before = self.labels.get(name, {}).get(tier, [])
        if self._part_overlaps and before and before[-1].start < segment.start < before[-1].end < segment.end:
            middle = (segment.start + before[-1].end) / 2
            before[-1], segment = replace(before[-1], end=middle), replace(segment, start=middle)
        if problem := next(segment_problems([*before[-1:], segment]), None):
            return self._refuse(number, problem)
        self.labels.setdefault(name, {}).setdefault(tier, []).append(segment)
        return True

    def _refuse(self, number: int, message: str) -> bool:
        self.problems.append((number, FormatError(message)))
        return False


def _collect(text: str, parse: Callable[[str], Row | None], part_overlaps: bool = False) -> Collected:
    """The labels of a text; `parse` gives None for a line that holds none."""
    collected = Collected(part_overlaps)
    for number, line in enumerate(text.split("\n"), 1):
        try:
            row = parse(line.strip()) if line.strip() else None
        except FormatError as error:
            collected.problems.append((number, error))
            continue
        if row is not None:
            collected.add(number, *row)
    return collected


def _counted(text: str, rate: float) -> float:
    """Seconds of a whole number of samples, or of another unit of which `rate` make a second."""
    try:
        return int(text) / rate
    except (ValueError, OverflowError) as error:
        raise FormatError(
            f"the time {text[:40]!r} must be a whole number (of samples, or of 100 ns)"
        ) from error


def parse_timit(text: str, name: str, tier: str, sample_rate: float) -> Collected:
    """Lines such as `0 3050 h#`: the first sample, the first sample after it, the label.

    Of words that overlap ("had your" said as "hadjer" shares a phone), each gets half of what they share.
    """

    def parse(line: str) -> Row:
        fields = line.split()
        if len(fields) != 3:
            raise FormatError(f"has {len(fields)} columns; expected start, end and label: {line[:80]!r}")
        start, end = (_counted(field, sample_rate) for field in fields[:2])
        return name, tier, Segment(start, end, fields[2])

    return _collect(text, parse, part_overlaps=tier == "words")


def format_timit(segments: Sequence[Segment], sample_rate: float) -> str:
    """The text that `parse_timit` reads; times become those of the nearest samples."""
    return "".join(
        f"{round(segment.start * sample_rate)} {round(segment.end * sample_rate)} {segment.label}\n"
        for segment in segments
    )


def parse_ctm(text: str, tier: str) -> Collected:
    """Lines such as `utt1 1 0.54 0.05 dh 0.98`: name, channel, start, duration, label, perhaps a confidence.

    Channels other than 1 and A are parts of the name: `utt1:2`. Lines that begin with `;;` are comments.
    """

    def parse(line: str) -> Row | None:
        if line.startswith(";;"):
            return None
        fields = line.split()
        if len(fields) not in (5, 6):
            raise FormatError(
                f"has {len(fields)} columns; expected name, channel, start, duration, label and perhaps a confidence: "
                f"{line[:80]!r}"
            )
        name, channel, start, duration, label = fields[:5]
        if channel not in ("1", "A", "a"):
            name = f"{name}:{channel}"
        try:
            # Decimal, so that 0.54 + 0.05 is the 0.59 at which the next segment starts.
            end = float(Decimal(start) + Decimal(duration))
            return name, tier, Segment(float(start), end, label)
        except (InvalidOperation, ValueError) as error:
            raise FormatError(
                f"start {start[:40]!r} and duration {duration[:40]!r} must be numbers of seconds"
            ) from error

    return _collect(text, parse)


def format_ctm(labels: Mapping[str, Tiers], tier: str) -> str:
    """The text that `parse_ctm` reads, all of channel 1."""
    lines = []
    for name, tiers in sorted(labels.items()):
        for segment in tiers[tier]:
            start = Decimal(repr(segment.start))
            duration = Decimal(repr(segment.end)) - start
            lines.append(f"{name} 1 {start:f} {duration:f} {segment.label}\n")
    return "".join(lines)


def parse_htk(text: str, name: str, tier: str) -> Collected:
    """Lines such as `0 5400000 sil -12.3`: start and end in units of 100 ns, label; what follows is left aside.

    In a master label file each utterance's lines come after its name in quotes, and end with a full stop; the
    name loses its suffix, and `*/` before it.
    """
    master = text.lstrip().startswith(MLF_HEADER)
    current = None if master else name

    def parse(line: str) -> Row | None:
        nonlocal current
        if master and line == MLF_HEADER:
            return None
        words = _htk_words(line)
        if master and line == ".":
            current = None
            return None
        if current is None:
            current = _master_name(words, line)
            return None
        if len(words) < 3:
            raise FormatError(f"has {len(words)} columns; expected start, end and label: {line[:80]!r}")
        start, end = (_counted(word, _HTK_RATE) for word in words[:2])
        return current, tier, Segment(start, end, words[2])

    return _collect(text, parse)


def _htk_words(line: str) -> list[str]:
    return [
        _HTK_ESCAPE.sub(r"\1", match[1]) if match[1] is not None else match[2]
        for match in _HTK_WORD.finditer(line)
    ]


def _master_name(words: Sequence[str], line: str) -> str:
    """The utterance of `"*/folder/name.lab"`."""
    if len(words) != 1 or not line.startswith('"'):
        raise FormatError(f"is {line[:80]!r}; expected the name of an utterance in double quotes")
    name = words[0].removeprefix("*/")
    return re.sub(r"\.(lab|rec)$", "", name, flags=re.IGNORECASE)


def format_htk(segments: Sequence[Segment]) -> str:
    """The lines that `parse_htk` reads; times become the nearest 100 ns."""
    return "".join(
        f"{round(segment.start * _HTK_RATE)} {round(segment.end * _HTK_RATE)} {_htk_label(segment.label)}\n"
        for segment in segments
    )


def _htk_label(label: str) -> str:
    """A label as HTK takes it: in quotes where it could be taken for something else."""
    return label if _HTK_PLAIN.fullmatch(label) and "\\" not in label else _htk_quoted(label)


def _htk_quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def format_master(labels: Mapping[str, Tiers], tier: str) -> str:
    """A master label file of all utterances."""
    blocks = [
        f"{_htk_quoted(f'*/{name}.lab')}\n{format_htk(tiers[tier])}.\n"
        for name, tiers in sorted(labels.items())
    ]
    return f"{MLF_HEADER}\n{''.join(blocks)}"
