"""How well targets are told from nontargets: scores of two kinds of trials in, figures out.

A trial is accepted where its score is the threshold or more; trials of equal score are accepted or rejected
together. Every figure takes weights, how often each trial counts, so that trials can be resampled.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from speechgmm.errors import InputError
from speechgmm.metrics.trial_scores import DetectionCurve, Float64s, TrialScores, relative_costs, row

Point = tuple[float, float, float]
Pair = tuple[Float64s, Float64s]

POINTS: tuple[Point, ...] = ((0.5, 1.0, 1.0), (0.01, 1.0, 1.0))


@dataclass(frozen=True, eq=False)
class Tippett:
    """Shares of llrs that are greater than given values.

    Attributes
    ----------
    values : ndarray of float64, shape (n,)
        Natural log.
    targets, nontargets : ndarray of float64, shape (n,)
        The share of each kind with an llr greater than the value.
    """

    values: Float64s
    targets: Float64s
    nontargets: Float64s


class DetectionFigures:
    """The figures of one list of trials, sorted once, for as many weightings as wanted.

    Call it with weights, or without: it gives what `detection_figures` gives. Parameters and errors are those of
    that function.
    """

    def __init__(
        self,
        target: ArrayLike,
        nontarget: ArrayLike,
        points: Sequence[Point] = POINTS,
        calibrated: bool = False,
    ) -> None:
        self._trials = TrialScores(target, nontarget)
        self._points = _named(points)
        self._costs = {}
        if calibrated:
            self._costs["cllr"] = _cllr_costs(self._trials)
            for name, point in self._points.items():
                self._costs[f"actual_dcf_{name}"] = _dcf_costs(self._trials, *point)

    def __call__(
        self, target_weights: ArrayLike | None = None, nontarget_weights: ArrayLike | None = None
    ) -> dict[str, float]:
        weights = self._trials.weights(target_weights, nontarget_weights)
        curve = self._trials.curve(*weights)
        figures = {"eer": curve.eer, "min_cllr": curve.min_cllr}
        for name, point in self._points.items():
            figures[f"min_dcf_{name}"] = curve.min_dcf(*point)
        for name, costs in self._costs.items():
            figures[name] = _expected(costs, weights)
        return figures


def bayes_threshold(p_target: float, c_miss: float = 1.0, c_fa: float = 1.0) -> float:
    """The llr from which accepting is the cheaper decision: log(c_fa / c_miss) - logit(p_target).

    Parameters
    ----------
    p_target : float
        How probable a target is before the trial; between 0 and 1, both excluded.
    c_miss, c_fa : float > 0
        What a rejected target and an accepted nontarget cost.

    Returns
    -------
    float
        Natural log.

    Raises
    ------
    InputError
        If a value is out of its range.
    """
    relative_costs(p_target, c_miss, c_fa)
    return math.log(c_fa) - math.log(c_miss) + math.log1p(-p_target) - math.log(p_target)


def eer(
    target: ArrayLike,
    nontarget: ArrayLike,
    target_weights: ArrayLike | None = None,
    nontarget_weights: ArrayLike | None = None,
) -> float:
    """Equal error rate: where the convex hull of the ROC has as many misses as false alarms.

    Parameters
    ----------
    target, nontarget : array_like of float, shapes (n_targets,) and (n_nontargets,)
        Scores, greater for targets; on any scale. Infinities are in order, NaN is refused.
    target_weights, nontarget_weights : array_like of float, optional
        How often each trial counts, 0 or more, not all 0; once each by default.

    Returns
    -------
    float
        A fraction, from 0 to 0.5: scores that are worse than chance have 0.5.

    Raises
    ------
    InputError
        If a side is empty, not one row of numbers or holds NaN, or if weights do not fit.

    Notes
    -----
    The hull is what thresholds chosen at random between two give. This figure is therefore at most that of a
    line between neighbouring points of the ROC, and it is the worst minimal error over all `p_target` (costs of
    1), which makes it well defined: no rule for ties or gaps is needed.

    References
    ----------
    Brümmer and de Villiers (2013), The BOSARIS Toolkit: theory, algorithms and code for surviving the new DCF,
    arXiv:1304.2865.
    """
    return detection_curve(target, nontarget, target_weights, nontarget_weights).eer


def min_dcf(
    target: ArrayLike,
    nontarget: ArrayLike,
    p_target: float = 0.01,
    c_miss: float = 1.0,
    c_fa: float = 1.0,
    target_weights: ArrayLike | None = None,
    nontarget_weights: ArrayLike | None = None,
) -> float:
    """Normalised detection cost at the threshold that is best for these very trials.

    Parameters and errors are those of `eer` and `bayes_threshold`.

    Returns
    -------
    float
        (p_target c_miss p_miss + (1 - p_target) c_fa p_fa) / min(p_target c_miss, (1 - p_target) c_fa), from 0
        to 1. A value of 1 is what accepting or rejecting everything, whichever is cheaper, costs.
    """
    curve = detection_curve(target, nontarget, target_weights, nontarget_weights)
    return curve.min_dcf(p_target, c_miss, c_fa)


def actual_dcf(
    target_llrs: ArrayLike,
    nontarget_llrs: ArrayLike,
    p_target: float = 0.01,
    c_miss: float = 1.0,
    c_fa: float = 1.0,
    target_weights: ArrayLike | None = None,
    nontarget_weights: ArrayLike | None = None,
) -> float:
    """Normalised detection cost of the decisions that the llrs imply, at `bayes_threshold`.

    Parameters and errors are those of `eer` and `bayes_threshold`; scores must be llrs, in nats.

    Returns
    -------
    float
        As `min_dcf`, which is never more; above 1 where the llrs do harm.
    """
    trials = TrialScores(target_llrs, nontarget_llrs)
    costs = _dcf_costs(trials, p_target, c_miss, c_fa)
    return _expected(costs, trials.weights(target_weights, nontarget_weights))


def cllr(
    target_llrs: ArrayLike,
    nontarget_llrs: ArrayLike,
    target_weights: ArrayLike | None = None,
    nontarget_weights: ArrayLike | None = None,
) -> float:
    """What the llrs lack, in bits: their logarithmic cost averaged over targets and over nontargets.

    Parameters and errors are those of `eer`; scores must be llrs, in nats.

    Returns
    -------
    float
        0 for perfect llrs, 1 for llrs that are all 0, and infinity if one is infinite on the wrong side.

    References
    ----------
    Brümmer and du Preez (2006), Computer Speech and Language 20, 230-275.
    """
    trials = TrialScores(target_llrs, nontarget_llrs)
    return _expected(_cllr_costs(trials), trials.weights(target_weights, nontarget_weights))


def min_cllr(
    target: ArrayLike,
    nontarget: ArrayLike,
    target_weights: ArrayLike | None = None,
    nontarget_weights: ArrayLike | None = None,
) -> float:
    """`cllr` of the llrs of `pav_llrs`, in bits: what no rising calibration can take away.

    Parameters, errors and source are those of `eer`.
    """
    return detection_curve(target, nontarget, target_weights, nontarget_weights).min_cllr


def pav_llrs(
    target: ArrayLike,
    nontarget: ArrayLike,
    target_weights: ArrayLike | None = None,
    nontarget_weights: ArrayLike | None = None,
) -> tuple[Float64s, Float64s]:
    """The llrs that suit these very trials best among all that rise with the scores.

    Pool adjacent violators. Parameters, errors and source are those of `eer`.

    Returns
    -------
    target_llrs, nontarget_llrs : ndarray of float64, shapes (n_targets,) and (n_nontargets,)
        Natural log, in the order given. Minus infinity below all targets, infinity above all nontargets.

    Notes
    -----
    They know which trial is which: a measure of the scores, not a calibration for other trials.
    """
    trials = TrialScores(target, nontarget)
    curve = trials.curve(*trials.weights(target_weights, nontarget_weights))
    targets, nontargets = curve.pools
    with np.errstate(divide="ignore"):
        llrs = np.log(targets) - np.log(nontargets)
    inner = curve.thresholds[curve.on_hull[1:-1]]
    return (
        llrs[np.searchsorted(inner, trials.target, side="right")],
        llrs[np.searchsorted(inner, trials.nontarget, side="right")],
    )


def detection_curve(
    target: ArrayLike,
    nontarget: ArrayLike,
    target_weights: ArrayLike | None = None,
    nontarget_weights: ArrayLike | None = None,
) -> DetectionCurve:
    """Misses and false alarms at every threshold that matters, and their convex hull.

    Parameters, errors and source are those of `eer`.
    """
    trials = TrialScores(target, nontarget)
    return trials.curve(*trials.weights(target_weights, nontarget_weights))


def tippett(
    target_llrs: ArrayLike,
    nontarget_llrs: ArrayLike,
    values: ArrayLike | None = None,
    target_weights: ArrayLike | None = None,
    nontarget_weights: ArrayLike | None = None,
) -> Tippett:
    """How many llrs of each kind are greater than each value.

    Parameters
    ----------
    values : array_like of float, shape (n,), optional
        By default 1001 evenly spaced ones from the lowest finite llr to the highest.

    The other parameters and the errors are those of `eer`.
    """
    trials = TrialScores(target_llrs, nontarget_llrs)
    weights = trials.weights(target_weights, nontarget_weights)
    if values is None:
        llrs = np.concatenate([trials.target, trials.nontarget])
        finite = llrs[np.isfinite(llrs)]
        if not finite.size:
            raise InputError(
                "every llr is infinite: there is no range of values to count over; give `values`"
            )
        grid = np.linspace(finite.min(), finite.max(), 1001)
    else:
        grid = row("values", values)
    return Tippett(grid, _above(grid, trials.target, weights[0]), _above(grid, trials.nontarget, weights[1]))


def detection_figures(
    target: ArrayLike,
    nontarget: ArrayLike,
    points: Sequence[Point] = POINTS,
    calibrated: bool = False,
    target_weights: ArrayLike | None = None,
    nontarget_weights: ArrayLike | None = None,
) -> dict[str, float]:
    """The usual figures at once.

    Parameters
    ----------
    target, nontarget, target_weights, nontarget_weights
        As in `eer`.
    points : sequence of (p_target, c_miss, c_fa)
        Where to take detection costs, as in `min_dcf`.
    calibrated : bool
        Whether the scores are llrs, in nats: then Cllr and actual costs are among the figures.

    Returns
    -------
    dict of str to float
        "eer", "min_cllr", and "min_dcf_0.01" for the point (0.01, 1, 1) or "min_dcf_0.01_10_1" for (0.01, 10, 1);
        calibrated also "cllr" and "actual_dcf_0.01".

    Raises
    ------
    InputError
        As `eer` and `bayes_threshold`, and if a point is not three numbers.
    """
    return DetectionFigures(target, nontarget, points, calibrated)(target_weights, nontarget_weights)


def _named(points: Sequence[Point]) -> dict[str, Point]:
    """Points by the names that their figures end with, checked."""
    named = {}
    for point in points:
        if np.shape(point) != (3,):
            raise InputError(f"`points` holds {point!r}; a point is three numbers: (p_target, c_miss, c_fa)")
        relative_costs(*point)
        p_target, c_miss, c_fa = point
        costs = "" if c_miss == c_fa == 1 else f"_{c_miss:g}_{c_fa:g}"
        named[f"{p_target}{costs}"] = point
    return named


def _cllr_costs(trials: TrialScores) -> Pair:
    """What each trial adds to Cllr, were it the only one of its kind."""
    target: Float64s = np.logaddexp(0, -trials.target) / math.log(4)
    nontarget: Float64s = np.logaddexp(0, trials.nontarget) / math.log(4)
    return target, nontarget


def _dcf_costs(trials: TrialScores, p_target: float, c_miss: float, c_fa: float) -> Pair:
    """What each trial adds to the normalised cost, were it the only one of its kind."""
    miss, false_alarm = relative_costs(p_target, c_miss, c_fa)
    threshold = bayes_threshold(p_target, c_miss, c_fa)
    target: Float64s = miss * (trials.target < threshold).astype(np.float64)
    nontarget: Float64s = false_alarm * (trials.nontarget >= threshold).astype(np.float64)
    return target, nontarget


def _expected(costs: Pair, weights: Pair) -> float:
    """Mean cost of targets plus mean cost of nontargets."""
    total = 0.0
    for cost, weight in zip(costs, weights, strict=True):
        # An infinite cost that counts 0 times is NaN, the only NaN there can be: it is left out.
        with np.errstate(invalid="ignore"):
            total += float(np.nansum(cost * weight) / weight.sum())
    return total


def _above(values: Float64s, llrs: Float64s, weights: Float64s) -> Float64s:
    """The share of llrs greater than each value."""
    order = np.argsort(llrs)
    above = np.append(np.cumsum(weights[order][::-1])[::-1], 0.0)
    shares: Float64s = above[np.searchsorted(llrs[order], values, side="right")] / above[0]
    return shares
