"""How well classes were identified: arrays of true and decided labels in, figures out."""

import math
from collections import Counter
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from speechgmm.errors import InputError

Label = str | int


@dataclass(frozen=True)
class ClassResult:
    """How one class fared.

    Attributes
    ----------
    label : str or int
    n : int
        Utterances that are of the class.
    correct : int
        Of these, how many were decided right.
    recall : float
        correct / n; 0 where n is.
    precision : float
        The share of the decisions for the class that are right; 0 where there are none.
    f1 : float
        Harmonic mean of recall and precision; 0 where both are.
    """

    label: Label
    n: int
    correct: int
    recall: float
    precision: float
    f1: float


def accuracy(truth: ArrayLike, decided: ArrayLike) -> float:
    """The share of decisions that are right.

    Parameters
    ----------
    truth, decided : array_like of str or int, shape (n,)
        Decisions may be labels that never are the truth, such as "unknown"; they count as wrong.

    Returns
    -------
    float
        A fraction, from 0 to 1.

    Raises
    ------
    InputError
        If the two differ in length, are empty, not one-dimensional, or not both text or both integers.
    """
    truth, decided = _labels(truth=truth, decided=decided)
    return float(np.mean(truth == decided))


def wilson_interval(correct: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """The score interval of a proportion: sensible also for few trials and near 0 and 1.

    Parameters
    ----------
    correct : int
        From 0 to `total`.
    total : int > 0
    confidence : float
        Between 0 and 1, both excluded.

    Returns
    -------
    low, high : float
        Fractions, from 0 to 1.

    Raises
    ------
    InputError
        If a value is out of its range.

    Notes
    -----
    It takes trials to be independent. Utterances of one speaker are not: with few speakers the truth is less
    certain than this interval says.

    References
    ----------
    Wilson (1927), Journal of the American Statistical Association 22, 209-212.
    """
    if not (0 <= correct <= total and total > 0):
        raise InputError(
            f"{correct} correct of {total}: there must be one or more, and no more correct than all"
        )
    if not 0 < confidence < 1:
        raise InputError(f"`confidence` is {confidence}; it must be between 0 and 1 (a per cent figure?)")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = correct / total
    centre = share + z * z / (2 * total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    # At both ends the bound is exact, which rounding would hide.
    low = 0.0 if correct == 0 else (centre - half) / scale
    high = 1.0 if correct == total else (centre + half) / scale
    return low, high


def confusion_matrix(truth: ArrayLike, decided: ArrayLike, labels: ArrayLike) -> NDArray[np.int64]:
    """How often each class was decided as each.

    Parameters
    ----------
    truth, decided : array_like of str or int, shape (n,)
    labels : array_like of str or int, shape (n_classes,)
        The classes, in the order of rows and columns. Every truth must be among them. A decision that is not,
        such as "unknown", has no column: its row then sums to less than the class has utterances.

    Returns
    -------
    ndarray of int64, shape (n_classes, n_classes)
        [i, j]: utterances of class i that were decided as j.

    Raises
    ------
    InputError
        As `accuracy`, and if labels repeat or a truth is not among them.
    """
    truth, decided, labels = _labels(truth=truth, decided=decided, labels=labels)
    rows, columns = _positions(truth, labels), _positions(decided, labels)
    if (rows < 0).any():
        strangers = np.unique(truth[rows < 0]).tolist()
        raise InputError(
            f"`truth` holds {len(strangers)} labels that are not among the {len(labels)} of `labels`, "
            f"such as {strangers[0]!r}"
        )
    shown = columns >= 0
    n = len(labels)
    return np.bincount(rows[shown] * n + columns[shown], minlength=n * n).reshape(n, n)


def per_class(truth: ArrayLike, decided: ArrayLike, labels: ArrayLike) -> list[ClassResult]:
    """Recall, precision and F1 of each class, in the order of `labels`.

    Parameters and errors are those of `confusion_matrix`.
    """
    matrix = confusion_matrix(truth, decided, labels)
    totals = Counter(np.asarray(truth).tolist())
    results = []
    for position, label in enumerate(np.asarray(labels).tolist()):
        n = totals[label]
        correct, chosen = int(matrix[position, position]), int(matrix[:, position].sum())
        results.append(
            ClassResult(
                label=label,
                n=n,
                correct=correct,
                recall=correct / max(n, 1),
                precision=correct / max(chosen, 1),
                f1=2 * correct / max(n + chosen, 1),
            )
        )
    return results


def top_confusions(truth: ArrayLike, decided: ArrayLike, n: int = 10) -> list[tuple[Label, Label, int]]:
    """The wrong decisions made most often.

    Parameters
    ----------
    truth, decided : array_like of str or int, shape (n_utterances,)
    n : int > 0
        How many to return at most.

    Returns
    -------
    list of (truth, decided, count)
        The most frequent first; equal counts in the order of the names.

    Raises
    ------
    InputError
        As `accuracy`, and if `n` is not positive.
    """
    if n < 1:
        raise InputError(f"`n` is {n}; it must be 1 or more")
    truth, decided = _labels(truth=truth, decided=decided)
    wrong = truth != decided
    counts = Counter(zip(truth[wrong].tolist(), decided[wrong].tolist(), strict=True))
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [(*pair, count) for pair, count in ranked[:n]]


def _labels(**given: ArrayLike) -> tuple[NDArray[Any], ...]:
    """Arrays of labels that may be compared with one another."""
    arrays = []
    for name, values in given.items():
        array = np.asarray(values)
        if array.ndim != 1 or not array.size:
            raise InputError(
                f"`{name}` has the shape {array.shape}; it must be one label or more, in one row"
            )
        if array.dtype.kind in "OT" and all(isinstance(value, str) for value in array):
            array = array.astype(np.str_)
        if array.dtype.kind not in "Uiu":
            raise InputError(f"`{name}` holds {array.dtype}; labels are text or integers")
        arrays.append(array)
    kinds = {array.dtype.kind == "U" for array in arrays}
    if len(kinds) > 1:
        raise InputError(f"{' and '.join(given)}: some are text and some integers, which are never equal")
    if len(arrays[0]) != len(arrays[1]):
        raise InputError(
            f"`truth` has {len(arrays[0])} labels, `decided` has {len(arrays[1])}; they must be of the same "
            "utterances"
        )
    return tuple(arrays)


def _positions(values: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.intp]:
    """Where in `labels` each value is; -1 where it is not."""
    order = np.argsort(labels)
    ranked = labels[order]
    if repeated := ranked[1:][ranked[1:] == ranked[:-1]].tolist():
        raise InputError(f"`labels` has {repeated[0]!r} more than once")
    found = np.searchsorted(ranked, values).clip(max=len(labels) - 1)
    return np.where(ranked[found] == values, order[found], -1)
