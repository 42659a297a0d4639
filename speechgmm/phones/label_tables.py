"""The table of phones and words of all utterances of a corpus, `phones.tsv`: its text to labels, and back.

The columns are path, start, end (in seconds), phone, and perhaps word, with tabs between and a header.

The word column makes a tier of words. Neighbouring rows with the same word are one word; a silence, or a word in
angle brackets such as `<sil>`, is in none and ends the word before it; the number of a pronunciation variant, as in
`was(2)`, is left out. Two equal words in a row ("had had") are rows of the same word, too: they are several words
where their phones are those of the same word elsewhere in the table, several times over, and otherwise one
("papa" is one word, whose phones repeat).
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from speechgmm.errors import FormatError
from speechgmm.phones.label_lines import Collected, Tiers
from speechgmm.phones.labels import SILENCES
from speechgmm.utterance import Segment

_HEADER = ("path", "start", "end", "phone", "word")
_VARIANT = re.compile(r"\(\d+\)$")
_Run = tuple[str, tuple[Segment, ...]]


def parse_table(text: str) -> Collected:
    """Labels of a table's text: tiers "phones" and, with a word column, "words"."""
    header, *lines = text.removesuffix("\n").split("\n")
    columns = tuple(header.removesuffix("\r").split("\t"))
    collected = Collected()
    if columns not in (_HEADER, _HEADER[:-1]):
        message = (
            f"the header is {header[:80]!r}; it must be path, start, end, phone, perhaps word, with tabs"
        )
        collected.problems.append((1, FormatError(message)))
        return collected
    words: dict[str, list[str]] = defaultdict(list)
    for number, line in enumerate(lines, 2):
        cells = line.removesuffix("\r").split("\t")
        if cells == [""]:
            continue
        try:
            segment = _segment(cells, columns)
        except FormatError as error:
            collected.problems.append((number, error))
            continue
        if collected.add(number, cells[0], "phones", segment):
            words[cells[0]] += cells[4:]
    if "word" in columns:
        _add_words(collected.labels, words)
    return collected


def _segment(cells: Sequence[str], columns: Sequence[str]) -> Segment:
    if len(cells) != len(columns):
        raise FormatError(f"has {len(cells)} columns; expected {len(columns)}, as in the header")
    try:
        return Segment(float(cells[1]), float(cells[2]), cells[3])
    except ValueError as error:
        raise FormatError(
            f"start {cells[1][:40]!r} and end {cells[2][:40]!r} must be numbers of seconds"
        ) from error


def _add_words(labels: dict[str, dict[str, list[Segment]]], words: Mapping[str, Sequence[str]]) -> None:
    """Add the tier of words to each name that has any."""
    runs = {name: _runs(tiers["phones"], words[name]) for name, tiers in labels.items()}
    known: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for word, phones in (run for found in runs.values() for run in found):
        known[word].add(_labels(phones))
    for name, found in runs.items():
        spoken = [
            Segment(part[0].start, part[-1].end, _VARIANT.sub("", word) or word)
            for word, phones in found
            for part in _parts(phones, known[word])
        ]
        if spoken:
            labels[name]["words"] = spoken


def _runs(phones: Sequence[Segment], words: Sequence[str]) -> list[_Run]:
    """Stretches of phones of the same word, each with the word."""

    def word_of(row: tuple[Segment, str]) -> str:
        segment, word = row
        return "" if segment.label in SILENCES or (word[:1] == "<" and word[-1:] == ">") else word

    return [
        (word, tuple(segment for segment, _ in rows))
        for word, rows in groupby(zip(phones, words, strict=True), word_of)
        if word
    ]


def _labels(phones: Iterable[Segment]) -> tuple[str, ...]:
    return tuple(segment.label for segment in phones)


def _parts(phones: tuple[Segment, ...], known: set[tuple[str, ...]]) -> list[tuple[Segment, ...]]:
    """The run as words: several if it repeats the phones that the word has elsewhere."""
    n_phones, labels = len(phones), _labels(phones)
    for length in range(1, n_phones):
        once = labels[:length]
        if n_phones % length == 0 and once in known and once * (n_phones // length) == labels:
            return [phones[first : first + length] for first in range(0, n_phones, length)]
    return [phones]


def format_table(labels: Mapping[str, Tiers]) -> str:
    """The text that `parse_table` reads; a phone gets the word that its middle is in."""
    with_words = any("words" in tiers for tiers in labels.values())
    lines = ["\t".join(_HEADER if with_words else _HEADER[:-1])]
    for name, tiers in sorted(labels.items()):
        words = list(tiers.get("words", ()))
        for segment in tiers.get("phones", ()):
            middle = (segment.start + segment.end) / 2
            while words and words[0].end <= middle:
                words.pop(0)
            word = words[0].label if words and words[0].start <= middle else ""
            cells = [name, repr(segment.start), repr(segment.end), segment.label]
            lines.append("\t".join([*cells, word or _no_word(segment)] if with_words else cells))
    return "\n".join(lines) + "\n"


def _no_word(segment: Segment) -> str:
    return "<sil>" if segment.label in SILENCES else ""
