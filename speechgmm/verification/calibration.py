"""Calibration: from scores to log-likelihood ratios that mean what they say, and decisions by stated costs."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from speechgmm.errors import InputError, SpeechGMMWarning
from speechgmm.metrics.detection import bayes_threshold, detection_figures, pav_llrs
from speechgmm.parallel import one_blas_thread
from speechgmm.verification.logistic_regression import PriorWeightedRegression, logit, sigmoid

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """An affine map from the scores of one system or several to one llr: llr = weights · scores + offset.

    Parameters
    ----------
    weights : tuple of float
        One a system.
    offset : float
        In nats.
    p_target : float
        The prior of a target for which the training trials were weighted. The llrs can be used at any prior.
    n_target, n_nontarget : int
        Training trials.
    """

    weights: tuple[float, ...]
    offset: float
    p_target: float
    n_target: int
    n_nontarget: int

    def __post_init__(self) -> None:
        if isinstance(self.weights, str) or not isinstance(self.weights, Sequence) or not self.weights:
            raise InputError(f"calibration `weights` is {self.weights!r}; it must be one number a system")
        for name, values in (("weights", self.weights), ("offset", (self.offset,))):
            if not all(_is_number(value) for value in values):
                raise InputError(f"calibration `{name}` is {getattr(self, name)!r}; it must be finite")
        object.__setattr__(self, "weights", tuple(map(float, self.weights)))
        object.__setattr__(self, "offset", float(self.offset))
        _check_prior(self.p_target)
        object.__setattr__(self, "p_target", float(self.p_target))
        for name in ("n_target", "n_nontarget"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise InputError(f"calibration `{name}` is {value!r}; it must be a whole number from 1")

    def apply(self, scores: ArrayLike) -> Floats:
        """Llrs of trials.

        Parameters
        ----------
        scores : (n,) or (n, n_systems)
            Systems in the order of training; one system may be one row.

        Returns
        -------
        (n,) float64
            Natural log, of the whole trial.

        Raises
        ------
        InputError
            If the shape does not fit, or a score is not finite.
        """
        columns = _score_matrix("scores", scores)
        if columns.shape[1] != len(self.weights):
            raise InputError(
                f"`scores` are of {columns.shape[1]} systems; the calibration was trained on those of "
                f"{len(self.weights)}"
            )
        # Column by column: a matrix product may round a trial differently in a batch than alone.
        llrs = np.full(len(columns), self.offset)
        for weight, column in zip(self.weights, columns.T, strict=True):
            llrs += weight * column
        return llrs

    def to_dict(self) -> dict[str, Any]:
        """The calibration as plain values, for JSON."""
        return {**asdict(self), "weights": list(self.weights)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Calibration":
        """The calibration of `to_dict`.

        Raises
        ------
        InputError
            If a field is missing, unknown or not what it should be.
        """
        if not isinstance(values, Mapping):
            raise InputError(f"a calibration is {type(values).__name__}; it must be a table of its fields")
        known = {field.name for field in fields(cls)}
        for name in sorted(set(map(str, values)) ^ known):
            kind = "has no" if name in known else "has the unknown field"
            raise InputError(f"a calibration {kind} `{name}`; its fields are {', '.join(sorted(known))}")
        return cls(**values)


@dataclass(frozen=True)
class PavCalibration:
    """A rising map from the scores of one system to llrs, made of straight lines.

    Parameters
    ----------
    scores, llrs : tuple of float
        Where the map bends, rising, and the llr there; beyond the ends, llrs are those at the ends.
    n_target, n_nontarget : int
        Training trials.
    """

    scores: tuple[float, ...]
    llrs: tuple[float, ...]
    n_target: int
    n_nontarget: int

    def apply(self, scores: ArrayLike) -> Floats:
        """Llrs of trials; see `Calibration.apply`. `scores` are those of one system."""
        return np.interp(_one_system("scores", scores), self.scores, self.llrs)


def fit_calibration(
    target: ArrayLike,
    nontarget: ArrayLike,
    p_target: float = 0.5,
    target_weights: ArrayLike | None = None,
    nontarget_weights: ArrayLike | None = None,
) -> Calibration:
    """Learn weights and an offset by prior-weighted logistic regression; of several systems, this fuses them.

    Parameters
    ----------
    target : (n_target,) or (n_target, n_systems)
        Scores of trials where the speaker is the enrolled one. Not those that will be judged by the result.
    nontarget : (n_nontarget,) or (n_nontarget, n_systems)
    p_target : float
        Between 0 and 1: where the map should be best. Trials are weighted as if targets were so frequent, however
        many there are; for unequal costs, p c_miss / (p c_miss + (1 - p) c_fa).
    target_weights, nontarget_weights : (n,), optional
        How often each trial counts.

    Returns
    -------
    Calibration

    Raises
    ------
    InputError
        If scores are missing, not finite or all the same, if one system is a weighted sum of the others, if `p_target`
        or a weight is out of range.

    Warns
    -----
    SpeechGMMWarning
        If the scores separate targets from nontargets without an error: the best weights are infinite. Then a
        standard normal prior on the weights of the standardised scores, counted as one trial among those of the
        rarer side, keeps them finite and cautious.
        If the weight of a single system is negative.

    References
    ----------
    Brümmer, du Preez (2006), Computer Speech & Language 20, 230-275; Brümmer (2010), Measuring, refining and
    calibrating speaker and language information extracted from speech, PhD thesis, chapter 8.
    """
    _check_prior(p_target)
    target, target_counts = _side("target", target, target_weights)
    nontarget, nontarget_counts = _side("nontarget", nontarget, nontarget_weights)
    if target.shape[1] != nontarget.shape[1]:
        raise InputError(
            f"`target` has scores of {target.shape[1]} systems, `nontarget` of {nontarget.shape[1]}"
        )
    # More BLAS threads would change the last bits.
    with one_blas_thread():
        regression = PriorWeightedRegression(target, nontarget, target_counts, nontarget_counts, p_target)
        solution = regression.solve()
        if solution is None:
            _warn_of_separation(len(target), len(nontarget))
            solution = regression.solve(ridge=1.0 / min(len(target), len(nontarget)))
    if solution is None:
        raise InputError("the calibration does not settle (scores of very different sizes?)")
    weights, offset = solution
    if len(weights) == 1 and weights[0] < 0:
        warnings.warn(
            f"the calibration turns scores round (weight {weights[0]:.3g}): targets score lower than nontargets "
            "(distances instead of scores, or the two mixed up?)",
            SpeechGMMWarning,
            stacklevel=2,
        )
    return Calibration(tuple(weights.tolist()), offset, p_target, len(target), len(nontarget))


def fit_pav(
    target: ArrayLike,
    nontarget: ArrayLike,
    target_weights: ArrayLike | None = None,
    nontarget_weights: ArrayLike | None = None,
) -> PavCalibration:
    """Learn the best rising map by pool adjacent violators: no straight line assumed, more trials needed.

    Laplace's rule keeps it finite: one target and one nontarget are added below all scores, and one of each above.

    Parameters
    ----------
    target, nontarget : (n,)
        Scores of one system.
    target_weights, nontarget_weights : (n,), optional
        How often each trial counts.

    Returns
    -------
    PavCalibration

    Raises
    ------
    InputError
        If scores are missing or not finite, or a weight is out of range.

    References
    ----------
    Zadrozny, Elkan (2002), KDD, 694-699; Brümmer, du Preez (2006), Computer Speech & Language 20, 230-275.
    """
    target, target_counts = _side("target", target, target_weights)
    nontarget, nontarget_counts = _side("nontarget", nontarget, nontarget_weights)
    target, nontarget = _one_system("target", target), _one_system("nontarget", nontarget)
    scores = np.concatenate([target, nontarget])
    ends = [np.nextafter(scores.min(), -np.inf), np.nextafter(scores.max(), np.inf)]
    llrs = pav_llrs(
        np.append(target, ends),
        np.append(nontarget, ends),
        np.append(target_counts, [1.0, 1.0]),
        np.append(nontarget_counts, [1.0, 1.0]),
    )
    places, first = np.unique(scores, return_index=True)
    # Neighbours that are equal but for rounding may fall.
    heights = np.maximum.accumulate(np.concatenate([side[:-2] for side in llrs])[first])
    # Only the first and the last score of each flat piece are needed.
    bends = np.ones(len(places), bool)
    bends[1:-1] = (heights[1:-1] != heights[:-2]) | (heights[1:-1] != heights[2:])
    return PavCalibration(
        tuple(places[bends].tolist()), tuple(heights[bends].tolist()), len(target), len(nontarget)
    )


def posterior(llrs: ArrayLike, p_target: float) -> Floats:
    """The probability that each trial is a target.

    Parameters
    ----------
    llrs : (n,)
        Calibrated; may be infinite.
    p_target : float
        How frequent targets are, between 0 and 1.

    Raises
    ------
    InputError
        If `p_target` is out of range or a llr is not a number.
    """
    _check_prior(p_target)
    return sigmoid(_llrs(llrs) + logit(p_target))


def decide(llrs: ArrayLike, p_target: float, c_miss: float = 1.0, c_fa: float = 1.0) -> NDArray[np.bool_]:
    """Accept the trials for which accepting is expected to cost no more than rejecting.

    Parameters
    ----------
    llrs : (n,)
        Calibrated; may be infinite.
    p_target : float
        How frequent targets are, between 0 and 1.
    c_miss, c_fa : float > 0
        What it costs to reject a target, to accept a nontarget.

    Returns
    -------
    (n,) bool

    Raises
    ------
    InputError
        If a prior or cost is out of range, or a llr is not a number.
    """
    _check_prior(p_target)
    return np.asarray(_llrs(llrs) >= bayes_threshold(p_target, c_miss, c_fa))


def calibration_report(
    scores: ArrayLike,
    llrs: ArrayLike,
    is_target: ArrayLike,
    points: Sequence[tuple[float, float, float]] = ((0.5, 1.0, 1.0), (0.01, 1.0, 1.0)),
) -> dict[str, dict[str, float]]:
    """What calibration gained: the figures of the same trials before and after it.

    Parameters
    ----------
    scores, llrs : (n,)
        Of one system, before and after. The former are taken as if they were llrs.
    is_target : (n,) bool
    points : sequence of (p_target, c_miss, c_fa)
        Where costs are looked at.

    Returns
    -------
    dict of dict
        "before" and "after": the figures of `detection_figures`, cllr, min_cllr, actual and least costs among them.

    Raises
    ------
    InputError
        If lengths differ, a value is not finite, or one kind of trial is missing.
    """
    is_target = np.asarray(is_target)
    if is_target.dtype != np.bool_ or is_target.ndim != 1:
        raise InputError(f"`is_target` is {is_target.dtype} of shape {is_target.shape}; it must be (n,) bool")
    report = {}
    for name, label, values in (("before", "scores", scores), ("after", "llrs", llrs)):
        row = _one_system(label, values)
        if row.shape != is_target.shape:
            raise InputError(f"`{label}` has {len(row)} trials, `is_target` {len(is_target)}")
        report[name] = detection_figures(row[is_target], row[~is_target], points, calibrated=True)
    return report


def _warn_of_separation(n_target: int, n_nontarget: int) -> None:
    warnings.warn(
        f"the scores separate {n_target} targets from {n_nontarget} nontargets without an error, so the best weights "
        "are infinite; a prior holds them back (few or easy trials, or trials that trained the models?)",
        SpeechGMMWarning,
        stacklevel=3,
    )


def _side(name: str, scores: ArrayLike, weights: ArrayLike | None) -> tuple[Floats, Floats]:
    """Scores as (n, n_systems) and how often each trial counts, without those that never do."""
    matrix = _score_matrix(name, scores)
    if weights is None:
        return matrix, np.ones(len(matrix))
    counts = np.asarray(weights, np.float64)
    if counts.shape != (len(matrix),):
        raise InputError(
            f"`{name}_weights` has the shape {counts.shape}; it must be one weight for each of {len(matrix)} trials"
        )
    if not (np.isfinite(counts).all() and (counts >= 0).all() and counts.any()):
        raise InputError(f"`{name}_weights` must be finite, from 0, and not all 0")
    return matrix[counts > 0], counts[counts > 0]


def _check_prior(p_target: float) -> None:
    if not _is_number(p_target) or not 0 < p_target < 1:
        raise InputError(
            f"`p_target` is {p_target!r}; it must be between 0 and 1, both excluded (a per cent figure?)"
        )


def _is_number(value: Any) -> bool:
    """A finite number; a bool is none."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _score_matrix(name: str, scores: ArrayLike) -> Floats:
    """Scores as (n, n_systems), finite, one trial or more."""
    matrix = np.asarray(scores, np.float64)
    if matrix.ndim not in (1, 2) or not matrix.size:
        raise InputError(
            f"`{name}` has the shape {matrix.shape}; it must be (n,) or (n, n_systems), with one trial or more"
        )
    matrix = matrix.reshape(len(matrix), -1)
    if (bad := np.flatnonzero(~np.isfinite(matrix).all(1))).size:
        raise InputError(
            f"`{name}` has {bad.size} trials whose scores are not finite, first trial {bad[0]} (from 0): "
            f"{matrix[bad[0]].tolist()}"
        )
    return matrix


def _one_system(name: str, scores: ArrayLike) -> Floats:
    matrix = _score_matrix(name, scores)
    if matrix.shape[1] != 1:
        raise InputError(f"`{name}` are of {matrix.shape[1]} systems; they must be of one")
    return matrix[:, 0]


def _llrs(llrs: ArrayLike) -> Floats:
    values = np.asarray(llrs, np.float64)
    if np.isnan(values).any():
        raise InputError(f"`llrs` has {int(np.isnan(values).sum())} values that are not numbers (NaN)")
    return values
