"""How good a verifier is on a list of trials: figures with intervals, before and after calibration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from speechgmm.em.coordinates import Float64s
from speechgmm.errors import InputError
from speechgmm.metrics.bootstrap import bootstrap_intervals
from speechgmm.metrics.detection import DetectionFigures

# (p_target, c_miss, c_fa) that figures are given for, unless others are asked for.
USUAL_POINTS = ((0.5, 1.0, 1.0), (0.01, 1.0, 1.0))


@dataclass(frozen=True, eq=False)
class TrialFigures:
    """Figures of one system on a list of trials.

    Parameters
    ----------
    figures : mapping of str to float
        "eer", "min_cllr", "min_dcf_0.01", …; of calibrated llrs also "cllr", "actual_dcf_0.01", …
    intervals : mapping of str to (low, high)
        95 %, by resampling speakers.
    n_target, n_nontarget : int
    """

    figures: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    n_target: int
    n_nontarget: int


def trial_figures(
    scores: Float64s,
    is_target: NDArray[np.bool_],
    model_speakers: ArrayLike,
    test_speakers: ArrayLike,
    *,
    calibrated: bool = False,
    points: Sequence[tuple[float, float, float]] = USUAL_POINTS,
    n_replicates: int = 1000,
    seed: int = 0,
) -> TrialFigures:
    """Figures of scored trials, with bootstrap intervals over speakers.

    Parameters
    ----------
    scores : (n_trials,) float64
        Or llrs, natural log.
    is_target : (n_trials,) bool
    model_speakers, test_speakers : (n_trials,) str
    calibrated : bool
        Whether the scores are llrs, of which Cllr and actual costs can be told.
    points : sequence of (p_target, c_miss, c_fa)
    n_replicates : int
        Of the bootstrap; 0: no intervals.
    seed : int

    Raises
    ------
    InputError
        If there are no target or no nontarget trials, arrays do not fit, or as `bootstrap_intervals`.
    """
    if scores.shape != is_target.shape:
        raise InputError(
            f"{scores.size} `scores` and {is_target.size} `is_target` given; a trial has one of each"
        )
    if is_target.dtype != np.bool_:
        raise InputError(f"`is_target` is {is_target.dtype}; it must be bool (labels of 0 and 1?)")
    figures = DetectionFigures(scores[is_target], scores[~is_target], points, calibrated)
    intervals = {}
    if n_replicates:
        intervals = bootstrap_intervals(
            figures, is_target, model_speakers, test_speakers, n_replicates=n_replicates, seed=seed
        )
    return TrialFigures(figures(), intervals, int(is_target.sum()), int((~is_target).sum()))
