"""Scores of target and nontarget trials, checked and sorted once, and the error rates they allow.

What the figures in `detection` have in common; see there for what a trial and a weight are.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from speechgmm.errors import InputError

Float64s = NDArray[np.float64]
# All misses may cost so many times what all false alarms do, or the other way round.
LARGEST_RATIO = 1e300


@dataclass(frozen=True, eq=False)
class DetectionCurve:
    """Every trade-off between misses and false alarms that a threshold on the scores can give.

    Only corners of the staircase are kept: scores between two of them belong to targets only or to nontargets
    only, and lie on the straight line between both.

    Attributes
    ----------
    thresholds : ndarray of float64, shape (n_points,)
        Rising. The last is infinity: nothing is accepted (a score of infinity neither).
    p_miss : ndarray of float64, shape (n_points,)
        The share of targets below the threshold, from 0 to 1.
    p_fa : ndarray of float64, shape (n_points,)
        The share of nontargets at or above it, from 1 to 0.
    on_hull : ndarray of int64
        Which points are on the convex hull; it is straight between them.
    """

    thresholds: Float64s
    p_miss: Float64s
    p_fa: Float64s
    on_hull: NDArray[np.int64]

    @property
    def hull(self) -> tuple[Float64s, Float64s]:
        """Corners (p_fa, p_miss) of the convex hull, the first accepting everything."""
        return self.p_fa[self.on_hull], self.p_miss[self.on_hull]

    @property
    def eer(self) -> float:
        """Where the convex hull has as many misses as false alarms; see the function `eer`."""
        p_fa, p_miss = self.hull
        excess = p_miss - p_fa
        after = int(np.searchsorted(excess, 0.0))
        share = excess[after - 1] / (excess[after - 1] - excess[after])
        return float(p_miss[after - 1] + share * (p_miss[after] - p_miss[after - 1]))

    @property
    def min_cllr(self) -> float:
        """Cllr, in bits, of the best llrs that rise with the scores; see the function `min_cllr`."""
        targets, nontargets = self.pools
        return (_surprise(targets, nontargets) + _surprise(nontargets, targets)) / 2

    @property
    def pools(self) -> tuple[Float64s, Float64s]:
        """Shares of targets and of nontargets on each straight piece of the hull, from the lowest scores."""
        p_fa, p_miss = self.hull
        return np.diff(p_miss), -np.diff(p_fa)

    def cheapest(self, p_target: float, c_miss: float = 1.0, c_fa: float = 1.0) -> int:
        """The number of the point whose expected cost is least; of several, the lowest threshold."""
        miss, false_alarm = relative_costs(p_target, c_miss, c_fa)
        return int(np.argmin(miss * self.p_miss + false_alarm * self.p_fa))

    def min_dcf(self, p_target: float, c_miss: float = 1.0, c_fa: float = 1.0) -> float:
        """The normalised cost at that point; see the function `min_dcf`."""
        miss, false_alarm = relative_costs(p_target, c_miss, c_fa)
        best = self.cheapest(p_target, c_miss, c_fa)
        return float(miss * self.p_miss[best] + false_alarm * self.p_fa[best])


class TrialScores:
    """Scores of both kinds of trial, in runs that no weighting can tell apart.

    A run is one score that both kinds share, or neighbouring scores that only one kind has. Thresholds inside a
    run are never better than the better of its ends, and pooling never splits one.

    Attributes
    ----------
    target, nontarget : ndarray of float64, shapes (n_targets,) and (n_nontargets,)
        In the order given.
    """

    def __init__(self, target: ArrayLike, nontarget: ArrayLike) -> None:
        self.target, self.nontarget = row("target", target), row("nontarget", nontarget)
        sides = {"target": self.target, "nontarget": self.nontarget}
        if empty := [name for name, side in sides.items() if not side.size]:
            raise InputError(
                f"{' and '.join(f'`{name}`' for name in empty)}: no score at all; both kinds of trial are needed "
                "(wrong labels, or a list of one speaker?)"
            )

    def weights(
        self, target_weights: ArrayLike | None, nontarget_weights: ArrayLike | None
    ) -> tuple[Float64s, Float64s]:
        """Weights of both kinds, checked; once each where None is given."""
        return (
            _weights("target_weights", target_weights, self.target),
            _weights("nontarget_weights", nontarget_weights, self.nontarget),
        )

    @cached_property
    def _runs(self) -> tuple[Float64s, NDArray[np.int64], NDArray[np.int64]]:
        """The lowest score of each run, rising, and the run of each target and nontarget."""
        values, place = np.unique(np.concatenate([self.target, self.nontarget]), return_inverse=True)
        n_targets = len(self.target)
        is_of_targets = np.bincount(place[:n_targets], minlength=len(values)) > 0
        is_of_nontargets = np.bincount(place[n_targets:], minlength=len(values)) > 0
        starts = is_of_targets & is_of_nontargets
        starts[1:] |= starts[:-1] | (is_of_targets[1:] != is_of_targets[:-1])
        starts[0] = True
        run = (np.cumsum(starts) - 1)[place]
        return values[starts], run[:n_targets], run[n_targets:]

    def curve(self, target_weights: Float64s, nontarget_weights: Float64s) -> DetectionCurve:
        """Error rates with the weights given, which must have been checked."""
        from scipy.optimize import isotonic_regression

        lowest, target_runs, nontarget_runs = self._runs
        targets = np.bincount(target_runs, target_weights, len(lowest))
        nontargets = np.bincount(nontarget_runs, nontarget_weights, len(lowest))
        kept = targets + nontargets > 0
        targets, nontargets = targets[kept], nontargets[kept]
        below = np.append(0.0, np.cumsum(targets))
        # Counted from the top, so that a rate of few false alarms is exact.
        above = np.append(np.cumsum(nontargets[::-1])[::-1], 0.0)
        both = targets + nontargets
        return DetectionCurve(
            thresholds=np.append(lowest[kept], np.inf),
            p_miss=below / below[-1],
            p_fa=above / above[0],
            on_hull=isotonic_regression(targets / both, weights=both).blocks,
        )


def relative_costs(p_target: float, c_miss: float, c_fa: float) -> tuple[float, float]:
    """What all misses and all false alarms cost, in units of the cheaper of both."""
    if not 0 < p_target < 1:
        raise InputError(
            f"`p_target` is {p_target}; it must be between 0 and 1, both excluded (a per cent figure?)"
        )
    for name, cost in (("c_miss", c_miss), ("c_fa", c_fa)):
        if not 0 < cost < math.inf:
            raise InputError(f"`{name}` is {cost}; a cost must be above 0 and finite")
    miss, false_alarm = p_target * c_miss, (1 - p_target) * c_fa
    cheaper = min(miss, false_alarm)
    # Beyond, products and quotients are 0 or infinite.
    if not (cheaper > 0 and max(miss, false_alarm) <= LARGEST_RATIO * cheaper):
        raise InputError(
            f"a `p_target` of {p_target}, a `c_miss` of {c_miss} and a `c_fa` of {c_fa} make all errors of one kind "
            f"cost more than {LARGEST_RATIO:g} times those of the other, or less than can be told from nothing"
        )
    return miss / cheaper, false_alarm / cheaper


def row(name: str, values: ArrayLike) -> Float64s:
    """One row of numbers, as float64; NaN is refused."""
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "fiu":
        raise InputError(
            f"`{name}` is {array.dtype} of the shape {array.shape}; it must be numbers, in one row"
        )
    array = array.astype(np.float64)
    if bad := np.flatnonzero(np.isnan(array)).tolist():
        raise InputError(f"`{name}` holds {len(bad)} NaN, the first at {bad[0]}; every trial needs a number")
    return array


def _weights(name: str, weights: ArrayLike | None, scores: Float64s) -> Float64s:
    if weights is None:
        return np.ones(len(scores))
    array = row(name, weights)
    if len(array) != len(scores):
        raise InputError(f"`{name}` has {len(array)} weights for {len(scores)} scores")
    if (bad := array[(array < 0) | np.isinf(array)]).size:
        raise InputError(f"`{name}` holds {bad[0]:g}; a weight must be 0 or more and finite")
    if not array.any():
        raise InputError(f"`{name}` are all 0: no trial of this kind is left")
    return array


def _surprise(share: Float64s, other: Float64s) -> float:
    """Bits that trials of one kind cost when pools hold these shares of them and of the other kind."""
    held = share > 0
    return float((share[held] * np.log1p(other[held] / share[held])).sum() / math.log(2))
