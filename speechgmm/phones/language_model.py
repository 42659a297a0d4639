"""N-gram models of phone strings: how likely a phone is after those before it.

A string begins after `<s>` and ends with `</s>`. Both share one number, that of the boundary, which comes after
the phones' own: as context it is the start, as what is predicted the end.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechgmm.errors import InputError
from speechgmm.manifest import UNWRITABLE, quoted
from speechgmm.phones.phone_sets import require_known

START, END = "<s>", "</s>"
RESERVED = (START, END, "<unk>")
SMOOTHINGS = ("witten_bell", "kneser_ney")
# Of a table, in entries: 128 MiB. Order 4 of 60 phones fits, order 5 does not.
LARGEST_TABLE = 2**24
Float64s = NDArray[np.float64]
Int64s = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class NgramLevel:
    """The n-grams of one length that a model lists; the others follow from shorter ones.

    Attributes
    ----------
    ngrams : integer array, shape (n_ngrams, length)
        Numbers of phones, in ascending order of rows.
    log_probabilities : float array, shape (n_ngrams,)
        Natural logarithms, of the last phone after those before it.
    backoffs : float array, shape (n_ngrams,)
        What is added to the shorter n-gram's where a longer one that begins so is not listed.
    """

    ngrams: Int64s
    log_probabilities: Float64s
    backoffs: Float64s


@dataclass(frozen=True, eq=False)
class NgramModel:
    """Probabilities of phones after those before them; every event is possible.

    Attributes
    ----------
    vocabulary : tuple of str
        The phones; their places are their numbers.
    levels : tuple of NgramLevel
        N-grams of length 1, 2 and so on up to `order`. The first lists every phone and the boundary; its row
        for the boundary holds the probability of the end and the backoff of the start.

    Raises
    ------
    InputError
        If phones are not distinct texts without blanks, arrays do not fit together, or a table of this order
        would be too large.
    """

    vocabulary: tuple[str, ...]
    levels: tuple[NgramLevel, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "vocabulary", checked_vocabulary(self.vocabulary))
        object.__setattr__(self, "levels", tuple(self.levels))
        if not self.levels:
            raise InputError("an n-gram model must have unigrams at least")
        require_order(self.order, len(self.vocabulary))
        for length, level in enumerate(self.levels, 1):
            _check_level(level, length, len(self.vocabulary), self.order)

    @property
    def order(self) -> int:
        """The length of the longest n-grams: 1 knows no context, 2 the phone before."""
        return len(self.levels)

    @cached_property
    def numbers(self) -> Mapping[str, int]:
        """The number of each phone."""
        return {phone: number for number, phone in enumerate(self.vocabulary)}

    @cached_property
    def _table(self) -> Float64s:
        size = len(self.vocabulary) + 1
        table = self.levels[0].log_probabilities
        for shorter, level in zip(self.levels, self.levels[1:], strict=False):
            backoffs = np.zeros((size,) * shorter.ngrams.shape[1])
            backoffs[tuple(shorter.ngrams.T)] = shorter.backoffs
            table = backoffs[..., np.newaxis] + table[np.newaxis]
            table[tuple(level.ngrams.T)] = level.log_probabilities
        table = np.array(table)
        table.flags.writeable = False
        return table

    def table(self) -> Float64s:
        """All log-probabilities, for a decoder.

        Returns
        -------
        float array, shape (n_phones + 1,) * order
            Natural logarithms, read-only. The first axes are the context, oldest first, with the start of the
            string last; the last axis is what follows, with the end last. Nothing comes before the start: where
            it stands after another phone, that one has no influence.
        """
        return self._table

    def log_probabilities(self, context: Sequence[str] = ()) -> Float64s:
        """Of what follows a context.

        Parameters
        ----------
        context : sequence of str
            The phones of the string so far, from its start; only the last `order` - 1 matter.

        Returns
        -------
        float array, shape (n_phones + 1,)
            Natural logarithms, in the order of `vocabulary`, the end last.

        Raises
        ------
        InputError
            If a phone is not in the vocabulary.
        """
        reach = self.order - 1
        numbers = [len(self.vocabulary)] * reach + self._numbered(context).tolist()
        row: Float64s = self._table[tuple(numbers[len(numbers) - reach :])]
        return row

    def log_probability(self, string: Sequence[str]) -> float:
        """The natural log-probability of a whole string of phones and its end."""
        reach, boundary = self.order - 1, len(self.vocabulary)
        padded = np.pad(self._numbered(string), (reach, 1), constant_values=boundary)
        windows = np.lib.stride_tricks.sliding_window_view(padded, self.order)
        return float(self._table[tuple(windows.T)].sum())

    def perplexity(self, strings: Iterable[Sequence[str]]) -> float:
        """How many phones, all as likely, would be as hard to predict; ends of strings count as phones.

        Raises
        ------
        InputError
            If there are no strings, or a phone is not in the vocabulary.
        """
        strings = checked_strings(strings)
        total = math.fsum(self.log_probability(string) for string in strings)
        return math.exp(-total / sum(len(string) + 1 for string in strings))

    def _numbered(self, phones: Sequence[str]) -> Int64s:
        return _numbered(checked_strings([phones])[0], self.numbers)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """The levels as arrays by name, for a file; the vocabulary is not among them."""
        return {
            f"{name}_{length}": getattr(level, name)
            for length, level in enumerate(self.levels, 1)
            for name in ("ngrams", "log_probabilities", "backoffs")
        }

    @classmethod
    def from_arrays(cls, vocabulary: Sequence[str], arrays: Mapping[str, NDArray[Any]]) -> "NgramModel":
        """The model of which `to_arrays` gave the arrays.

        Raises
        ------
        InputError
            If arrays are missing, unknown or not what they should be.
        """
        names = ("ngrams", "log_probabilities", "backoffs")
        order = len(arrays) // len(names)
        wanted = [[f"{name}_{length}" for name in names] for length in range(1, order + 1)]
        if set(arrays) != {name for row in wanted for name in row}:
            raise InputError(
                f"an n-gram model has the arrays {', '.join(names)} of each length ('ngrams_1'); "
                f"there are {quoted(arrays) or 'none'}"
            )
        return cls(tuple(vocabulary), tuple(NgramLevel(*(arrays[name] for name in row)) for row in wanted))


def checked_vocabulary(phones: Sequence[str]) -> tuple[str, ...]:
    """Phones as a tuple; raises `InputError` unless they are distinct texts that fit into lists of phones."""
    phones = tuple(phones)
    for phone in phones:
        if not isinstance(phone, str) or not phone or UNWRITABLE.search(phone) or phone.split() != [phone]:
            raise InputError(f"phone {phone!r} of the vocabulary must be text without blanks")
    if not phones or len(set(phones)) < len(phones):
        repeated = {phone for phone in phones if phones.count(phone) > 1}
        raise InputError(f"the vocabulary must have distinct phones; {quoted(repeated) or 'it has none'}")
    if reserved := set(phones) & set(RESERVED):
        raise InputError(f"the vocabulary has {quoted(reserved)}, which language models use themselves")
    return phones


def checked_strings(strings: Iterable[Sequence[str]]) -> list[Sequence[str]]:
    """Strings of phones as a list; raises `InputError` for none, and for text that was not split into phones."""
    strings = list(strings)
    if not strings:
        raise InputError("there are no strings of phones")
    for string in strings:
        if isinstance(string, str):
            raise InputError(f"a string of phones is {string[:40]!r}; split it into a list of phones")
    return strings


def _numbered(string: Sequence[str], numbers: Mapping[str, int]) -> Int64s:
    require_known(string, numbers)
    return np.array([numbers[phone] for phone in string], dtype=np.int64)


def require_order(order: int, n_phones: int) -> None:
    """Refuse an order that is none, or whose table would be too large."""
    if type(order) is not int or order < 1:
        raise InputError(f"`order` is {order!r}; it must be a whole number from 1")
    if (n_phones + 1) ** order > LARGEST_TABLE:
        raise InputError(
            f"`order` is {order}: a table of all contexts of {n_phones} phones would have "
            f"{(n_phones + 1) ** order:.2g} entries, and {LARGEST_TABLE} is the limit; use a smaller order"
        )


def _check_level(level: NgramLevel, length: int, n_phones: int, order: int) -> None:
    """Raise `InputError` unless the arrays of n-grams of a length are whole, in range and in order."""
    ngrams, what = level.ngrams, f"{length}-grams"
    if ngrams.ndim != 2 or ngrams.shape[1] != length or ngrams.dtype.kind != "i":
        raise InputError(f"`ngrams` of the {what} must be whole numbers of shape (n_ngrams, {length})")
    if ngrams.size and not 0 <= ngrams.min() <= ngrams.max() <= n_phones:
        raise InputError(f"`ngrams` of the {what} has numbers out of the range 0 to {n_phones}")
    codes = np.ravel_multi_index(tuple(ngrams.T), (n_phones + 1,) * length)
    if not (np.diff(codes) > 0).all():
        raise InputError(f"`ngrams` of the {what} are not in ascending order, or not distinct")
    if length == 1 and len(codes) != n_phones + 1:
        raise InputError(f"{len(codes)} unigrams; there must be one a phone and one of the end")
    if (ngrams[:, 1:-1] == n_phones).any():
        raise InputError(f"the {what} have the start or the end of a string in their middle")
    for name, values in (("log_probabilities", level.log_probabilities), ("backoffs", level.backoffs)):
        if values.shape != codes.shape or values.dtype != np.float64 or not np.isfinite(values).all():
            raise InputError(f"`{name}` of the {what} must be {len(codes)} finite float64 numbers")
    if (level.log_probabilities > 1e-6).any():
        raise InputError(f"`log_probabilities` of the {what} has values above 0: no logarithms?")
    ends = np.ones(len(codes), bool) if length == order else (ngrams[:, -1] == n_phones) & (length > 1)
    if level.backoffs[ends].any():
        raise InputError(f"`backoffs` of the {what} must be 0 where no longer n-gram begins")


def train_ngrams(
    strings: Iterable[Sequence[str]],
    order: int = 2,
    smoothing: str = "witten_bell",
    vocabulary: Sequence[str] | None = None,
) -> NgramModel:
    """Estimate an n-gram model from strings of phones.

    Parameters
    ----------
    strings : iterable of sequences of str
        One an utterance, without marks of start and end.
    order : int >= 1
        2 for bigrams.
    smoothing : {"witten_bell", "kneser_ney"}
        Both interpolate with shorter contexts, down to equal probabilities of all phones and the end.
        Kneser-Ney is the modified kind, with three discounts of each order, where the counts of counts 1 to 4
        allow it; else with one, n1 / (n1 + 2 n2); and where there is no n-gram with count 1 or none with 2, as
        is usual for single phones, that one is 0.5.
    vocabulary : sequence of str, optional
        All phones there are, in the order wanted; without it, those of the strings, sorted.

    Returns
    -------
    NgramModel

    Raises
    ------
    InputError
        If there are no strings or no phones, a phone is not in `vocabulary`, there is no such smoothing, or a
        table of this order would be too large.

    References
    ----------
    Witten, Bell (1991), IEEE Transactions on Information Theory 37, method C.
    Chen, Goodman (1999), Computer Speech and Language 13, section 3; Kneser, Ney (1995), ICASSP.
    """
    strings = checked_strings(strings)
    if smoothing not in SMOOTHINGS:
        raise InputError(f"`smoothing` is {smoothing!r}; it must be one of {', '.join(SMOOTHINGS)}")
    if vocabulary is None:
        vocabulary = sorted({phone for string in strings for phone in string})
    vocabulary = checked_vocabulary(vocabulary)
    require_order(order, len(vocabulary))
    numbers = {phone: number for number, phone in enumerate(vocabulary)}
    rows = [_numbered(string, numbers) for string in strings]
    counts = [_counts(rows, len(vocabulary), length) for length in range(1, order + 1)]
    weigh = _witten_bell
    if smoothing == "kneser_ney":
        weigh = _kneser_ney
        counts = [*map(_continuations, counts, counts[1:]), counts[-1]]
    return NgramModel(vocabulary, _levels(counts, [weigh(level) for level in counts]))


def _counts(rows: Sequence[Int64s], boundary: int, length: int) -> Int64s:
    """How often each n-gram occurs, shape (n_phones + 1,) * length; the start alone is no unigram."""
    size = boundary + 1
    total = np.zeros(size**length, dtype=np.int64)
    for row in rows:
        padded = np.pad(row, (int(length > 1), 1), constant_values=boundary)
        if len(padded) >= length:
            windows = np.lib.stride_tricks.sliding_window_view(padded, length)
            np.add.at(total, np.ravel_multi_index(tuple(windows.T), (size,) * length), 1)
    return total.reshape((size,) * length)


def _continuations(counts: Int64s, longer: Int64s) -> Int64s:
    """After how many different phones each n-gram occurs; nothing comes before the start: there, how often."""
    different: Int64s = (longer > 0).sum(axis=0)
    if counts.ndim > 1:
        different[-1] = counts[-1]
    return different


def _witten_bell(counts: Int64s) -> tuple[Float64s, Float64s]:
    """The share of each n-gram's own count in its probability, and what each context leaves to shorter ones."""
    total = counts.sum(axis=-1, keepdims=True)
    types = (counts > 0).sum(axis=-1, keepdims=True)
    seen = np.maximum(total + types, 1)
    return counts / seen, np.where(total > 0, types / seen, 1.0)


def _kneser_ney(counts: Int64s) -> tuple[Float64s, Float64s]:
    total = counts.sum(axis=-1, keepdims=True)
    discounts = _discounts(counts)[np.minimum(counts, 3)]
    seen = np.maximum(total, 1)
    left = discounts.sum(axis=-1, keepdims=True) / seen
    return (counts - discounts) / seen, np.where(total > 0, left, 1.0)


def _discounts(counts: Int64s) -> Float64s:
    """What is taken from counts of 0, 1, 2 and more."""
    n1, n2, n3, n4 = (int((counts == count).sum()) for count in (1, 2, 3, 4))
    single = n1 / (n1 + 2 * n2) if n1 and n2 else 0.5
    if n1 and n2 and n3 and n4:
        several = np.array(
            [0.0, 1 - 2 * single * n2 / n1, 2 - 3 * single * n3 / n2, 3 - 4 * single * n4 / n3]
        )
        # Odd counts of counts can make a discount negative, which would leave contexts nothing to share out.
        if (several[1:] > 0).all():
            return several
    return np.array([0.0, single, single, single])


def _levels(counts: Sequence[Int64s], weights: Sequence[tuple[Float64s, Float64s]]) -> tuple[NgramLevel, ...]:
    size = counts[0].size
    probabilities = np.full(size, 1 / size)
    levels = []
    for length, (own, left) in enumerate(weights, 1):
        probabilities = own + left * probabilities
        listed = np.ones(size, dtype=bool) if length == 1 else counts[length - 1] > 0
        following = weights[length][1][..., 0] if length < len(weights) else np.ones(listed.shape)
        ngrams = np.argwhere(listed)
        levels.append(NgramLevel(ngrams, np.log(probabilities[listed]), np.log(following[listed])))
    return tuple(levels)
