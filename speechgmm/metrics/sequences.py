"""How well strings of phones or words were recognised: edits, error rates, confusions.

Strings are sequences of labels (any hashable values); a text of phones is split first: "DH IH S".split().
"""

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from speechgmm.errors import InputError
from speechgmm.metrics.bootstrap import corrected_percentiles, require_resampling

Labels = Sequence[Hashable]
Int64s = NDArray[np.int64]

# Cells of the table that an alignment walks back through: 1 GB.
MOST_CELLS = 2**27


@dataclass(frozen=True)
class ErrorCounts:
    """What became of the labels of some references; counts add with `+`, also by `sum(counts, ErrorCounts())`.

    Attributes
    ----------
    n_reference : int
        Labels of the references: n_correct + substitutions + deletions.
    n_correct, substitutions, deletions, insertions : int
        Insertions are labels of a hypothesis that stand for none of its reference.
    """

    n_reference: int = 0
    n_correct: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    def __add__(self, other: "ErrorCounts") -> "ErrorCounts":
        return ErrorCounts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors divided by the labels of the references: a fraction, above 1 where there are many insertions.

        Raises
        ------
        InputError
            If the references hold no label at all.
        """
        if self.n_reference == 0:
            raise InputError(
                "the references hold no label, so there is no error rate (nothing but silence left out?)"
            )
        return self.errors / self.n_reference


@dataclass(frozen=True)
class EditAlignment:
    """Which label of a hypothesis stands for which of its reference.

    Attributes
    ----------
    pairs : tuple of (int or None, int or None)
        Positions in the reference and in the hypothesis, in order. Without a second, the label was deleted;
        without a first, it was inserted.
    counts : ErrorCounts
    """

    pairs: tuple[tuple[int | None, int | None], ...]
    counts: ErrorCounts


def edit_alignment(reference: Labels, hypothesis: Labels) -> EditAlignment:
    """Align two strings with the fewest edits (substitutions, deletions, insertions of one label each).

    Parameters
    ----------
    reference, hypothesis : sequence of hashable
        Either may be empty.

    Returns
    -------
    EditAlignment

    Raises
    ------
    InputError
        If either is a plain text, a label cannot be hashed, or the strings are so long that their table does not
        fit 1 GB (about 11,000 labels each).

    Notes
    -----
    Of several alignments with the fewest edits, one with the most correct labels is taken, which leaves one answer
    for the counts: "a b" against "b c" is a deletion, a correct label and an insertion, not two substitutions.
    Should there still be several, they differ in positions alone, and the steps are chosen from the end of
    both strings: a pair before a deletion before an insertion.

    References
    ----------
    Wagner and Fischer (1974), Journal of the ACM 21, 168-173.
    """
    n, m = len(reference), len(hypothesis)
    if (n + 1) * (m + 1) > MOST_CELLS:
        raise InputError(
            f"strings of {n} and {m} labels are too long to be aligned, at most {MOST_CELLS} pairs of labels can be "
            "looked at (give utterances one by one)"
        )
    codes = _codes(reference, hypothesis)
    table = np.empty((n + 1, m + 1), np.int64)
    for number, row in enumerate(_gains(*codes)):
        table[number] = row
    true, found = (one.tolist() for one in codes)
    gains = _gains_of_pairs(n, m)
    pairs: list[tuple[int | None, int | None]] = []
    while n or m:
        gain = gains[int(true[n - 1] != found[m - 1])] if n and m else 0
        if gain and table[n, m] == table[n - 1, m - 1] + gain:
            n, m = n - 1, m - 1
            pairs.append((n, m))
        elif n and (not m or table[n, m] == table[n - 1, m]):
            n -= 1
            pairs.append((n, None))
        else:
            m -= 1
            pairs.append((None, m))
    return EditAlignment(tuple(reversed(pairs)), _counts(len(reference), len(hypothesis), table[-1, -1]))


def utterance_error_counts(references: Sequence[Labels], hypotheses: Sequence[Labels]) -> list[ErrorCounts]:
    """Errors of each of many hypotheses.

    Parameters
    ----------
    references, hypotheses : sequence of sequences of hashable
        In the same order.

    Returns
    -------
    list of ErrorCounts
        As `edit_alignment` counts.

    Raises
    ------
    InputError
        If there are not as many of both, one is a plain text, or a label cannot be hashed.
    """
    if len(references) != len(hypotheses):
        raise InputError(
            f"{len(references)} references and {len(hypotheses)} hypotheses were given; they must be of the same "
            "utterances"
        )
    counts = []
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        for row in _gains(*_codes(reference, hypothesis)):  # noqa: B007 (only the last is kept: they are many)
            pass
        counts.append(_counts(len(reference), len(hypothesis), row[-1]))
    return counts


def error_counts(references: Sequence[Labels], hypotheses: Sequence[Labels]) -> ErrorCounts:
    """Errors of many hypotheses together; see `utterance_error_counts`."""
    return sum(utterance_error_counts(references, hypotheses), ErrorCounts())


def phone_error_rate(references: Sequence[Labels], hypotheses: Sequence[Labels]) -> float:
    """All errors of the hypotheses divided by all phones of the references, a fraction.

    The same for words is the word error rate. Silence counts like any phone: leave it out of both beforehand for
    the figure that is usually published.

    Raises
    ------
    InputError
        As `utterance_error_counts`, and if the references hold no phone at all.
    """
    return error_counts(references, hypotheses).rate


@dataclass(frozen=True)
class ErrorRateInterval:
    """An error rate and how certain it is.

    Attributes
    ----------
    rate, low, high : float
        Fractions.
    resampled : {"speakers", "utterances"}
        What was drawn anew. The interval holds for other speakers, or only for other utterances of these.
    n_resampled : int
        How many there are of them.
    """

    rate: float
    low: float
    high: float
    resampled: str
    n_resampled: int


def error_rate_interval(
    counts: Sequence[ErrorCounts],
    speakers: Sequence[str],
    n_replicates: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    least_speakers: int = 10,
) -> ErrorRateInterval:
    """The error rate of some utterances, and its interval from resampling.

    Parameters
    ----------
    counts : sequence of ErrorCounts
        Of each utterance.
    speakers : sequence of str
        Of each utterance. Whole speakers are drawn, with replacement: utterances of one speaker share what makes
        them hard.
    n_replicates : int
        At least 2 / (1 - confidence).
    confidence : float
        Between 0 and 1, both excluded.
    seed : int >= 0
    least_speakers : int
        With fewer speakers, utterances are drawn, and `resampled` says so: intervals of so few speakers would be
        far too narrow, or no intervals at all.

    Raises
    ------
    InputError
        If there are not as many speakers as counts, none at all, a number is out of its range, or the references
        hold no label.

    References
    ----------
    Bisani and Ney (2004), Bootstrap estimates for confidence intervals in ASR performance evaluation, ICASSP. The
    percentiles are bias-corrected as those of `speechgmm.metrics.bootstrap`.
    """
    require_resampling(n_replicates, confidence, seed)
    if len(counts) != len(speakers):
        raise InputError(
            f"{len(counts)} counts and {len(speakers)} speakers were given; one of each an utterance"
        )
    rate = sum(counts, ErrorCounts()).rate
    whose = np.unique(np.asarray(speakers, np.str_), return_inverse=True)[1]
    by_speaker = int(whose.max()) + 1 >= least_speakers
    units = whose if by_speaker else np.arange(len(counts))
    n_units = int(units.max()) + 1
    errors = np.bincount(units, [one.errors for one in counts])
    lengths = np.bincount(units, [one.n_reference for one in counts])
    rng = np.random.default_rng(seed)
    rates: list[float] = []
    while len(rates) < n_replicates:
        drawn = rng.integers(n_units, size=n_units)
        # Of utterances without a single label there is no rate: drawn again.
        if length := lengths[drawn].sum():
            rates.append(errors[drawn].sum() / length)
    low, high = corrected_percentiles("rate", rate, np.array(rates), confidence)
    return ErrorRateInterval(rate, low, high, "speakers" if by_speaker else "utterances", n_units)


@dataclass(frozen=True, eq=False)
class Confusions:
    """How often each label was recognised as each.

    Attributes
    ----------
    labels : tuple of str
        Sorted.
    matrix : (n_labels + 1, n_labels + 1) int64
        [i, j]: label i of a reference, recognised as j. Last column: deleted; last row: inserted.
    """

    labels: tuple[str, ...]
    matrix: Int64s

    def most_frequent(self, n: int = 10) -> list[tuple[str | None, str | None, int]]:
        """The most frequent errors (reference, hypothesis, count), with None for nothing.

        Equal counts in the order of the labels.
        """
        names = (*self.labels, None)
        wrong = self.matrix.copy()
        np.fill_diagonal(wrong, 0)
        order = np.argsort(-wrong, axis=None, kind="stable")[:n]
        cells = [divmod(int(cell), len(names)) for cell in order]
        return [(names[i], names[j], int(wrong[i, j])) for i, j in cells if wrong[i, j]]


def confusions(references: Sequence[Sequence[str]], hypotheses: Sequence[Sequence[str]]) -> Confusions:
    """Count over many utterances what each label was recognised as.

    Parameters
    ----------
    references, hypotheses : sequence of sequences of str
        In the same order; aligned as by `edit_alignment`.

    Raises
    ------
    InputError
        As `edit_alignment`, or if there are not as many references as hypotheses.
    """
    if len(references) != len(hypotheses):
        raise InputError(f"{len(references)} references and {len(hypotheses)} hypotheses were given")
    seen: Counter[tuple[str | None, str | None]] = Counter()
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        for i, j in edit_alignment(reference, hypothesis).pairs:
            seen[None if i is None else reference[i], None if j is None else hypothesis[j]] += 1
    labels = sorted({label for pair in seen for label in pair if label is not None})
    numbers: dict[str | None, int] = {label: number for number, label in enumerate(labels)}
    numbers[None] = len(labels)
    matrix = np.zeros((len(numbers), len(numbers)), np.int64)
    for (true, found), count in seen.items():
        matrix[numbers[true], numbers[found]] = count
    return Confusions(tuple(labels), matrix)


def _codes(reference: Labels, hypothesis: Labels) -> tuple[Int64s, Int64s]:
    """Labels as numbers, equal where the labels are."""
    for labels in (reference, hypothesis):
        if isinstance(labels, str | bytes):
            raise InputError(
                f"a string of labels is the text {labels!r:.40}; split it first, as by `.split()`"
            )
    try:
        codes = {label: number for number, label in enumerate(dict.fromkeys([*reference, *hypothesis]))}
    except TypeError as error:
        raise InputError(f"a label cannot be compared ({error}); labels are text or numbers") from error
    true, found = (np.array([codes[one] for one in labels], np.int64) for labels in (reference, hypothesis))
    return true, found


def _gains_of_pairs(n: int, m: int) -> tuple[int, int]:
    """What a correct label and a substitution are worth: edits saved, and how many are correct below that.

    Deleting everything and inserting everything takes n + m edits; a correct pair saves two of them, a
    substitution one. The number of correct pairs is carried along in the digits below.
    """
    base = min(n, m) + 1
    return 2 * base + 1, base


def _gains(reference: Int64s, hypothesis: Int64s) -> Iterator[Int64s]:
    """Rows of the table [i, j]: the most that the first i and j labels can gain, (n_hypothesis + 1,) each.

    Counted as savings, rows need no loop: a gap is worth nothing, so the running maximum carries insertions.
    """
    correct, substituted = _gains_of_pairs(len(reference), len(hypothesis))
    present = sorted(set(reference.tolist()))
    gains = {code: np.where(hypothesis == code, correct, substituted) for code in present}
    row = np.zeros(len(hypothesis) + 1, np.int64)
    yield row
    for code in reference.tolist():
        after = row.copy()
        np.maximum(after[1:], row[:-1] + gains[code], out=after[1:])
        row = np.maximum.accumulate(after)
        yield row


def _counts(n: int, m: int, gain: int) -> ErrorCounts:
    """Counts of an alignment of n and m labels that gains so much: see `_gains_of_pairs`."""
    saved, n_correct = divmod(int(gain), min(n, m) + 1)
    substitutions = saved - 2 * n_correct
    paired = n_correct + substitutions
    return ErrorCounts(n, n_correct, substitutions, n - paired, m - paired)
