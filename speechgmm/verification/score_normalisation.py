"""Score normalisation: scores in deviations from what a cohort of other speakers gets."""

import warnings
from collections.abc import Iterable, Mapping
from numbers import Integral
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from speechgmm.errors import InputError, SpeechGMMWarning

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Method = Literal["none", "z", "t", "zt", "s", "adaptive_s"]

METHODS: tuple[Method, ...] = get_args(Method)
# Which cohort scores each method looks at.
NEEDS: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "z": ("model_cohort",),
    "t": ("test_cohort",),
    "zt": ("model_cohort", "test_cohort", "cohort_cohort"),
    "s": ("model_cohort", "test_cohort"),
    "adaptive_s": ("model_cohort", "test_cohort"),
}
# What the rows and columns of each are.
SHAPES = {
    "model_cohort": "(n_models, n_cohort_utterances)",
    "test_cohort": "(n_tests, n_cohort_models)",
    "cohort_cohort": "(n_cohort_models, n_cohort_utterances)",
}
# Rows looked at together, so that copies of a large cohort's scores stay small.
ROWS = 512
# A deviation below this fraction of the largest score is rounding.
LEAST_DEVIATION = 1e-12


def normalise_scores(
    scores: ArrayLike,
    models: ArrayLike,
    tests: ArrayLike,
    method: Method,
    *,
    model_cohort: ArrayLike | None = None,
    test_cohort: ArrayLike | None = None,
    cohort_cohort: ArrayLike | None = None,
    top_n: int | None = None,
) -> Floats:
    """Scores as distances from cohort scores, in their deviations, so that one threshold fits all models and tests.

    - "none": as they are.
    - "z" (zero): by the mean and deviation of what the trial's model gives cohort utterances.
    - "t" (test): by those of what cohort models give the trial's test utterance.
    - "zt": Z, then T by cohort scores that had Z themselves.
    - "s" (symmetric): the mean of Z and T.
    - "adaptive_s": the mean of Z and T by only the `top_n` highest cohort scores of the model, and of the test.

    Parameters
    ----------
    scores : (n,)
        Of trials.
    models, tests : (n,) int
        Each trial's row of `model_cohort` and of `test_cohort`.
    method : {"none", "z", "t", "zt", "s", "adaptive_s"}
    model_cohort : (n_models, n_cohort_utterances), optional
        Enrolled models against cohort utterances. In all three, NaN leaves a pair out; only the rows that trials
        name are looked at, and a method looks only at those of the three that it needs.
    test_cohort : (n_tests, n_cohort_models), optional
        Test utterances against cohort models.
    cohort_cohort : (n_cohort_models, n_cohort_utterances), optional
        For "zt": cohort models in the order of the columns of `test_cohort`. Pairs of the same speaker must be NaN.
    top_n : int from 2
        For "adaptive_s", and only there.

    Returns
    -------
    (n,) float64
        Deviations are the square root of the mean square, divided by n, as most toolkits do.

    Raises
    ------
    InputError
        If cohort scores are missing, infinite, of the wrong shape, fewer than two or all the same for a row, or a
        trial names a row that is not there.

    Warns
    -----
    SpeechGMMWarning
        If rows have fewer cohort scores than `top_n`; all of theirs are taken.

    References
    ----------
    Z: Li, Porter (1988), ICASSP, 595-598; Reynolds (1997), Eurospeech, 963-966. T and ZT: Auckenthaler, Carey,
    Lloyd-Thomas (2000), Digital Signal Processing 10, 42-54. S: Shum, Dehak, Dehak, Glass (2010), Odyssey, 76-82.
    Adaptive S: Karam, Campbell, Dehak (2011), ICASSP, 4540-4543; Matějka et al. (2017), Interspeech, 1567-1571 (there
    S-norm1: model and test have each their own highest scores).
    """
    if method not in METHODS:
        raise InputError(f"`method` is {method!r}; it can be {', '.join(METHODS)}")
    _check_top(method, top_n)
    given = {"model_cohort": model_cohort, "test_cohort": test_cohort, "cohort_cohort": cohort_cohort}
    cohorts = {name: _cohort_scores(name, given[name], method) for name in NEEDS[method]}
    trials = _trial_scores(scores)
    rows = {"model_cohort": ("models", models), "test_cohort": ("tests", tests)}
    sides = {
        name: _row_numbers(*rows[name], len(trials), len(cohorts[name])) for name in rows if name in cohorts
    }
    if not len(trials) or method == "none":
        return trials
    if method == "zt":
        return _zt(trials, sides["model_cohort"], sides["test_cohort"], cohorts)
    normalised = np.zeros(len(trials))
    for name, numbers in sides.items():
        normalised += _normalised(trials, numbers, cohorts[name], rows[name][0], top_n) / len(sides)
    return normalised


def refuse_cohort_targets(cohort_speakers: Iterable[str], enrolled_speakers: Iterable[str]) -> None:
    """Raise `InputError` if a speaker is both in the cohort and enrolled.

    A cohort stands for everybody else: with the speaker in it, targets are pushed down like nontargets.

    Parameters
    ----------
    cohort_speakers, enrolled_speakers : iterable of str
    """
    both = sorted(set(cohort_speakers) & set(enrolled_speakers))
    if both:
        shown = ", ".join(both[:10]) + (", …" if len(both) > 10 else "")
        raise InputError(
            f"{len(both)} speakers are both in the cohort and enrolled: {shown} (a cohort is of other speakers)"
        )


def _zt(trials: Floats, models: Integers, tests: Integers, cohorts: Mapping[str, Floats]) -> Floats:
    """Z, then T by cohort scores that had Z by their own cohort model."""
    tested, cohort = cohorts["test_cohort"], cohorts["cohort_cohort"]
    if tested.shape[1] != len(cohort):
        raise InputError(
            f"`test_cohort` has {tested.shape[1]} cohort models, `cohort_cohort` {len(cohort)}; they must be the same"
        )
    used, places = np.unique(tests, return_inverse=True)
    means, deviations = _moments(cohort, np.arange(len(cohort)), "cohort models", None)
    zeroed = (tested[used] - means) / deviations
    z_scores = _normalised(trials, models, cohorts["model_cohort"], "models", None)
    means, deviations = _moments(zeroed, used, "tests", None)
    return (z_scores - means[places]) / deviations[places]


def _normalised(trials: Floats, numbers: Integers, cohort: Floats, side: str, top_n: int | None) -> Floats:
    """Scores of trials in deviations from the mean cohort score of one side's row."""
    used, places = np.unique(numbers, return_inverse=True)
    means, deviations = _moments(cohort[used], used, side, top_n)
    return (trials - means[places]) / deviations[places]


def _moments(cohort: Floats, numbers: Integers, side: str, top_n: int | None) -> tuple[Floats, Floats]:
    """Mean and deviation of each row of cohort scores, or of its `top_n` highest; `numbers` name the rows."""
    means, deviations = np.empty(len(cohort)), np.empty(len(cohort))
    n_short = 0
    for start in range(0, len(cohort), ROWS):
        block = slice(start, start + ROWS)
        kept, counts = _highest(cohort[block], top_n)
        _refuse_few(counts, numbers[block], side)
        n_short += 0 if top_n is None else int(np.count_nonzero(counts < top_n))
        there = np.isfinite(kept)
        means[block] = np.where(there, kept, 0.0).sum(1) / counts
        centred = np.where(there, kept - means[block, None], 0.0)
        deviations[block] = np.sqrt((centred**2).sum(1) / counts)
        _refuse_flat(deviations[block], np.abs(np.where(there, kept, 0.0)).max(1), numbers[block], side)
    if n_short:
        warnings.warn(
            f"{n_short} of {len(cohort)} {side} have fewer than `top_n` = {top_n} cohort scores; all of theirs are "
            "taken (the cohort is small?)",
            SpeechGMMWarning,
            stacklevel=4,
        )
    return means, deviations


def _highest(cohort: Floats, top_n: int | None) -> tuple[Floats, Integers]:
    """The `top_n` highest of each row, or all, with -inf for what is left out; and how many are there."""
    kept = np.where(np.isnan(cohort), -np.inf, cohort)
    if top_n is not None and top_n < kept.shape[1]:
        kept = np.partition(kept, kept.shape[1] - top_n, axis=1)[:, -top_n:]
    return kept, np.isfinite(kept).sum(1)


def _refuse_few(counts: Integers, numbers: Integers, side: str) -> None:
    if (few := np.flatnonzero(counts < 2)).size:
        raise InputError(
            f"row {numbers[few[0]]} of the {side} has {counts[few[0]]} cohort scores; two or more are needed "
            "(a cohort of one speaker, or too many pairs left out?)"
        )


def _refuse_flat(deviations: Floats, largest: Floats, numbers: Integers, side: str) -> None:
    if (flat := np.flatnonzero(deviations <= LEAST_DEVIATION * largest)).size:
        raise InputError(
            f"row {numbers[flat[0]]} of the {side} has the same score for all of the cohort; it cannot be normalised "
            "(the same cohort utterance again and again?)"
        )


def _check_top(method: str, top_n: Any) -> None:
    if method != "adaptive_s":
        if top_n is not None:
            raise InputError(f"`top_n` is {top_n!r}; it is for the method adaptive_s, not {method}")
    elif isinstance(top_n, bool) or not isinstance(top_n, Integral) or top_n < 2:
        raise InputError(f"`top_n` is {top_n!r}; adaptive_s needs a whole number from 2, often 100 to 400")


def _trial_scores(scores: ArrayLike) -> Floats:
    trials = np.array(scores, np.float64)
    if trials.ndim != 1:
        raise InputError(f"`scores` has the shape {trials.shape}; it must be (n,)")
    if (bad := np.flatnonzero(~np.isfinite(trials))).size:
        raise InputError(f"`scores` has {bad.size} values that are not finite, first trial {bad[0]} (from 0)")
    return trials


def _cohort_scores(name: str, cohort: ArrayLike | None, method: str) -> Floats:
    if cohort is None:
        raise InputError(f"the method {method} needs `{name}`, of shape {SHAPES[name]}")
    matrix = np.asarray(cohort, np.float64)
    if matrix.ndim != 2:
        raise InputError(f"`{name}` has the shape {matrix.shape}; it must be {SHAPES[name]}")
    if np.isinf(matrix).any():
        raise InputError(f"`{name}` has infinite scores; they must be finite, or NaN to leave a pair out")
    return matrix


def _row_numbers(name: str, numbers: ArrayLike, n_trials: int, n_rows: int) -> Integers:
    """Each trial's row of a cohort matrix."""
    array = np.asarray(numbers)
    if array.shape != (n_trials,) or (n_trials and array.dtype.kind not in "iu"):
        raise InputError(
            f"`{name}` is {array.dtype} of shape {array.shape}; it must be one row number for each of the {n_trials} "
            "scores"
        )
    if (wrong := array[(array < 0) | (array >= n_rows)]).size:
        raise InputError(f"`{name}` names row {wrong[0]}, but there are cohort scores of {n_rows} {name}")
    return array.astype(np.int64)
