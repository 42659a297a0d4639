"""N-gram models as ARPA files, the text form that language modelling tools share: logarithms to base 10."""

import math
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from speechgmm.errors import FormatError, InputError, SpeechGMMError, SpeechGMMWarning
from speechgmm.files import write_atomically
from speechgmm.manifest import quoted, read_text, refuse
from speechgmm.phones.language_model import END, RESERVED, START, NgramLevel, NgramModel

_UNKNOWN = "<unk>"
# What tools write for the probability of the start, which is never predicted.
_IMPOSSIBLE = "-99"
_LN_10 = math.log(10.0)
# How far the probabilities after a context may be from 1 in sum before it is said: files are rounded.
_ROUNDING = 1e-3
Line = tuple[int, list[str]]


def write_arpa(model: NgramModel, path: str | Path) -> None:
    """Write an n-gram model as an ARPA file, whole or not at all.

    Parameters
    ----------
    model : NgramModel
    path : str or Path
        Replaced if it exists. Ten digits of every logarithm are kept, in natural ones those of 1e-8 or so.

    Raises
    ------
    InputError
        If `path` cannot be written.
    """
    boundary = len(model.vocabulary)
    sections = [_section(level, (*model.vocabulary, END), model.order) for level in model.levels]
    unigrams = sections[0]
    unigrams[boundary] = unigrams[boundary].split("\t")[0] + f"\t{END}"
    start = f"{_IMPOSSIBLE}\t{START}" + _backoff(model.levels[0].backoffs[boundary], model.order > 1)
    unigrams.insert(0, start)
    lines = ["\\data\\", *(f"ngram {length}={len(rows)}" for length, rows in enumerate(sections, 1))]
    for length, rows in enumerate(sections, 1):
        lines += ["", f"\\{length}-grams:", *rows]
    write_atomically(path, "\n".join([*lines, "", "\\end\\", ""]))


def _section(level: NgramLevel, names: Sequence[str], order: int) -> list[str]:
    """The lines of the n-grams of one length."""
    boundary, length = len(names) - 1, level.ngrams.shape[1]
    lines = []
    for ngram, log_probability, backoff in zip(
        level.ngrams.tolist(), level.log_probabilities, level.backoffs, strict=True
    ):
        words = [names[number] for number in ngram]
        if length > 1 and ngram[0] == boundary:
            words[0] = START
        ended = length > 1 and ngram[-1] == boundary
        tail = _backoff(backoff, length < order and not ended)
        lines.append(f"{log_probability / _LN_10:.10g}\t{' '.join(words)}{tail}")
    return lines


def _backoff(value: float, wanted: bool) -> str:
    return f"\t{value / _LN_10:.10g}" if wanted else ""


def read_arpa(path: str | Path, vocabulary: Sequence[str] | None = None) -> NgramModel:
    """Read an n-gram model from an ARPA file.

    Parameters
    ----------
    path : str or Path
        N-grams with `<unk>`, and those that run on after `</s>`, are left out: phone strings have neither.
    vocabulary : sequence of str, optional
        The phones in the order wanted; without it, that of the file.

    Returns
    -------
    NgramModel

    Raises
    ------
    FormatError
        If the file is no ARPA file or not whole, or lines are not what they should be, all named at once.
    InputError
        If the file cannot be read, or its phones are not those of `vocabulary`.

    Warns
    -----
    SpeechGMMWarning
        If the probabilities after some context do not sum to 1.
    """
    path = Path(path)
    sections = _sections(path, read_text(path))
    words = [fields[1] for _, fields in sections[0] if len(fields) in (2, 3)]
    phones = [word for word in dict.fromkeys(words) if word not in RESERVED]
    if vocabulary is not None:
        if set(vocabulary) != set(phones):
            raise InputError(
                f"{path}: has not the phones of `vocabulary`; only the file has "
                f"{quoted(set(phones) - set(vocabulary)) or 'none'}, "
                f"only `vocabulary` {quoted(set(vocabulary) - set(phones)) or 'none'}"
            )
        phones = list(vocabulary)
    if END not in words:
        raise FormatError(f"{path}: has no unigram {END}; without it strings have no end")
    numbers = {phone: number for number, phone in enumerate([*phones, END])}
    problems: list[tuple[int, SpeechGMMError]] = []
    levels = [
        _level(lines, length, length == len(sections), numbers, problems)
        for length, lines in enumerate(sections, 1)
    ]
    refuse(path, problems)
    try:
        model = NgramModel(tuple(phones), tuple(levels))
    except InputError as error:
        raise FormatError(f"{path}: {error}") from error
    _warn_unless_whole(path, model)
    return model


def _sections(path: Path, text: str) -> list[list[Line]]:
    """The lines of the n-grams of each length, split at blanks; counts are checked against the file's own."""
    lines = [(number, line.split()) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    marks = [fields for _, fields in lines]
    for mark in (["\\data\\"], ["\\end\\"]):
        if mark not in marks:
            raise FormatError(f"{path}: has no line {mark[0]}; no ARPA file, or not whole?")
    declared: dict[int, int] = {}
    sections: dict[int, list[Line]] = {}
    current: list[Line] | None = None
    for number, fields in lines[marks.index(["\\data\\"]) + 1 : marks.index(["\\end\\"])]:
        if title := re.fullmatch(r"\\(\d{1,2})-grams:", " ".join(fields)):
            current = sections.setdefault(int(title[1]), [])
        elif current is not None:
            current.append((number, fields))
        elif count := re.fullmatch(r"ngram (\d{1,2}) ?= ?(\d{1,12})", " ".join(fields)):
            declared[int(count[1])] = int(count[2])
        else:
            raise FormatError(f"{path}: line {number}: {' '.join(fields)[:80]!r} is no count of n-grams")
    found = {length: len(rows) for length, rows in sections.items()}
    if found != declared or sorted(found) != list(range(1, len(found) + 1)) or not found:
        raise FormatError(
            f"{path}: has n-grams {found} and declares {declared} (by length); they must be equal, "
            "from length 1 (not whole, or edited?)"
        )
    return [sections[length] for length in sorted(sections)]


def _level(
    lines: Sequence[Line],
    length: int,
    longest: bool,
    numbers: dict[str, int],
    problems: list[tuple[int, SpeechGMMError]],
) -> NgramLevel:
    """The n-grams of one length; what is wrong with lines is added to `problems`."""
    rows: dict[tuple[int, ...], tuple[float, float]] = {}
    start_backoff, seen = 0.0, dict[tuple[str, ...], int]()
    for number, fields in lines:
        try:
            words, log_probability, backoff = _parse(fields, length, numbers)
            if seen.setdefault(words, number) != number:
                raise FormatError(f"{' '.join(words)} repeats line {seen[words]}")
        except FormatError as error:
            problems.append((number, error))
            continue
        if words == (START,):
            start_backoff = backoff
        elif _UNKNOWN not in words and START not in words[1:] and END not in words[:-1]:
            unused = longest or words[-1] == END
            ngram = tuple(numbers[END] if word == START else numbers[word] for word in words)
            rows[ngram] = log_probability, 0.0 if unused else backoff
    if length == 1 and not longest and (numbers[END],) in rows:
        rows[(numbers[END],)] = rows[(numbers[END],)][0], start_backoff
    ngrams = sorted(rows)
    values = np.array([rows[ngram] for ngram in ngrams]).reshape(-1, 2) * _LN_10
    return NgramLevel(
        np.array(ngrams, dtype=np.int64).reshape(-1, length), values[:, 0].copy(), values[:, 1].copy()
    )


def _parse(fields: list[str], length: int, numbers: dict[str, int]) -> tuple[tuple[str, ...], float, float]:
    """Words, probability and backoff of a line, in logarithms to base 10."""
    words = tuple(fields[1 : length + 1])
    if len(fields) not in (length + 1, length + 2):
        raise FormatError(
            f"{' '.join(fields)[:80]!r} has {len(fields)} fields; a {length}-gram has {length + 1}, "
            f"or {length + 2} with its backoff"
        )
    if unknown := {word for word in words if word not in numbers} - set(RESERVED):
        raise FormatError(f"{quoted(unknown)} is not among the unigrams")
    try:
        log_probability, backoff = float(fields[0]), float((fields[length + 1 :] or ["0"])[0])
    except ValueError:
        log_probability = math.nan
    if not (math.isfinite(log_probability) and math.isfinite(backoff)):
        raise FormatError(f"{' '.join(fields)[:80]!r}: a probability or backoff is no finite number")
    if log_probability > 1e-6 and words != (START,):
        raise FormatError(
            f"the logarithm of the probability of {' '.join(words)!r} is {fields[0]}; it must be 0 or less"
        )
    return words, log_probability, backoff


def _warn_unless_whole(path: Path, model: NgramModel) -> None:
    sums = np.exp(model.table()).sum(axis=-1)
    worst = np.unravel_index(np.abs(sums - 1).argmax(), sums.shape)
    if abs(sums[worst] - 1) > _ROUNDING:
        names = [*model.vocabulary, START]
        after = " ".join(names[place] for place in worst) or "no context"
        warnings.warn(
            f"{path}: the probabilities after {after} sum to {sums[worst]:.4g}; they should sum to 1 "
            f"(n-grams with {_UNKNOWN}, or an edited file?)",
            SpeechGMMWarning,
            stacklevel=3,
        )
