"""Open-set recognition: how well known speakers are found among strangers, and whether speech is like any known at all.

An utterance is accepted where the score of its best class is the threshold or more.
"""

import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from speechgmm.errors import InputError, SpeechGMMWarning
from speechgmm.metrics.detection import detection_curve
from speechgmm.metrics.trial_scores import TrialScores, row

Float64s = NDArray[np.float64]


class OpenSetPoint(NamedTuple):
    """What a threshold gives.

    Parameters
    ----------
    threshold : float
    false_alarm : float
        The share of unknown utterances that are accepted, as whomever.
    detection : float
        The share of known utterances that are accepted, and as the right one.
    """

    threshold: float
    false_alarm: float
    detection: float


@dataclass(frozen=True, eq=False)
class OpenSetCurve:
    """Every trade-off between detection and false alarms that a threshold can give; see `open_set_curve`.

    Only corners of the staircase are kept: between two of them one of both rates stays as it is.

    Parameters
    ----------
    thresholds : (n_points,) float64
        Rising. The last is infinity: nothing is accepted.
    false_alarm : (n_points,) float64
        The share of unknown utterances that are accepted, from 1 to 0.
    detection : (n_points,) float64
        The share of known utterances that are accepted, and as the right one; the first is the accuracy of
        closed-set identification, the last 0.
    """

    thresholds: Float64s
    false_alarm: Float64s
    detection: Float64s

    def at_false_alarm(self, rate: float) -> OpenSetPoint:
        """The best that can be had with no more false alarms than this; a real threshold, nothing between two.

        Parameters
        ----------
        rate : float
            A fraction, from 0 to 1.

        Raises
        ------
        InputError
            If it is none.
        """
        if not 0 <= rate <= 1:
            raise InputError(f"`rate` is {rate}; it must be a fraction from 0 to 1 (a per cent figure?)")
        first = int(np.argmax(self.false_alarm <= rate))
        values = (column[first] for column in (self.thresholds, self.false_alarm, self.detection))
        return OpenSetPoint(*map(float, values))

    @property
    def area(self) -> float:
        """Area under detection over false alarms, from 0 to 1.

        It is how probable it is that a known utterance is identified right and scores above an unknown one, of which
        equal scores count half.
        """
        rises = (self.detection[:-1] + self.detection[1:]) / 2
        return float((rises * -np.diff(self.false_alarm)).sum())


def open_set_curve(
    best_scores_known: ArrayLike,
    best_is_right: ArrayLike,
    best_scores_unknown: ArrayLike,
    known_weights: ArrayLike | None = None,
    unknown_weights: ArrayLike | None = None,
) -> OpenSetCurve:
    """Detection and identification against false alarms, over all thresholds (the watch-list task).

    Parameters
    ----------
    best_scores_known : array_like of float, shape (n_known,)
        For each utterance of an enrolled speaker the score of the class that scores highest; on any scale.
        Infinities are in order, NaN is refused.
    best_is_right : array_like of bool, shape (n_known,)
        Whether that class is the speaker's own. A wrong one is an error at every threshold.
    best_scores_unknown : array_like of float, shape (n_unknown,)
        The same score for each utterance of somebody who is not enrolled.
    known_weights, unknown_weights : array_like of float, optional
        How often each utterance counts, 0 or more, not all 0; once each by default.

    Returns
    -------
    OpenSetCurve

    Raises
    ------
    InputError
        If a side is empty, not one row of numbers or holds NaN, or if lengths or weights do not fit.

    References
    ----------
    Phillips, Grother, Micheals (2011), Evaluation Methods in Face Recognition, in: Handbook of Face Recognition,
    2nd ed., chapter 21. The area: Dhamija, Günther, Boult (2018), Reducing Network Agnostophobia, NeurIPS.
    """
    trials, is_right = _checked(best_scores_known, best_is_right, best_scores_unknown)
    known, unknown = trials.weights(known_weights, unknown_weights)
    share = known[is_right].sum() / known.sum()
    # With none right at any weight, detection is 0 throughout, whatever the others score.
    counted = is_right & (known > 0) if share > 0 else np.ones(len(is_right), np.bool_)
    curve = detection_curve(
        trials.target[counted], trials.nontarget, known[counted] if share > 0 else None, unknown
    )
    return OpenSetCurve(curve.thresholds, curve.p_fa, share * (1.0 - curve.p_miss))


def open_set_point(
    best_scores_known: ArrayLike,
    best_is_right: ArrayLike,
    best_scores_unknown: ArrayLike,
    threshold: float,
    known_weights: ArrayLike | None = None,
    unknown_weights: ArrayLike | None = None,
) -> OpenSetPoint:
    """Detection and false alarms at one threshold, such as one that was chosen on other utterances.

    Parameters
    ----------
    threshold : float

    The other parameters, the errors and the source are those of `open_set_curve`.
    """
    trials, is_right = _checked(best_scores_known, best_is_right, best_scores_unknown)
    known, unknown = trials.weights(known_weights, unknown_weights)
    if np.isnan(threshold):
        raise InputError("`threshold` is NaN; it must be a score")
    detected = known[is_right & (trials.target >= threshold)].sum() / known.sum()
    alarms = unknown[trials.nontarget >= threshold].sum() / unknown.sum()
    return OpenSetPoint(float(threshold), float(alarms), float(detected))


def _checked(
    known: ArrayLike, is_right: ArrayLike, unknown: ArrayLike
) -> tuple[TrialScores, NDArray[np.bool_]]:
    """Both kinds of utterances as targets and nontargets, and which of the known ones are identified right."""
    sides = {"best_scores_known": row("best_scores_known", known)}
    sides["best_scores_unknown"] = row("best_scores_unknown", unknown)
    for name, side in sides.items():
        if not side.size:
            raise InputError(f"`{name}` is empty; utterances of known and of unknown speakers are needed")
    right = np.asarray(is_right)
    if right.dtype != np.bool_ or right.shape != sides["best_scores_known"].shape:
        raise InputError(
            f"`best_is_right` is {right.dtype} of the shape {right.shape}; it must be bool, one for each of the "
            f"{sides['best_scores_known'].size} known utterances"
        )
    return TrialScores(*sides.values()), right


class AnomalyModel:
    """Tells whether an utterance is worse explained by everything known than held-out utterances are.

    A tone, or another sound that is far from speech, is none of the classes, and not like the background either: a
    threshold on log-likelihood ratios says nothing of it. This looks at the likelihood itself, through a conformal
    p-value: (1 + number of held-out scores that are no higher) / (number of held-out scores + 1). It does not see what
    is explained well though it is no speech, such as a steady noise like the hisses that the mixtures were trained on.

    Of utterances of the same kind as the held-out ones (exchangeable with them: recorded alike, about as long, and like
    them not used to train anything), no more than a fraction a get a p-value of a or less, whatever the scores are
    distributed like; this holds on average over held-out sets.

    Parameters
    ----------
    held_out_scores : array_like of float, shape (n,)
        Of utterances that no model was trained on; higher is better explained, see `cross_fitting.explanations`. With
        n of them, no p-value is below 1 / (n + 1).

    Raises
    ------
    InputError
        If there are none, or one is NaN.

    References
    ----------
    Vovk, Gammerman, Shafer (2005), Algorithmic Learning in a Random World. Laxhammar (2014), Conformal Anomaly
    Detection, University of Skövde. Bates et al. (2023), Testing for outliers with conformal p-values, Ann.
    Statist. 51.
    """

    def __init__(self, held_out_scores: ArrayLike) -> None:
        scores = row("held_out_scores", held_out_scores)
        if not scores.size:
            raise InputError("`held_out_scores` is empty; scores of utterances that were held out are needed")
        self.held_out_scores: Float64s = np.sort(scores)
        self.held_out_scores.flags.writeable = False

    def p_values(self, scores: ArrayLike) -> Float64s:
        """How usual it is to be explained as badly as this.

        Parameters
        ----------
        scores : array_like of float, shape (n_utterances,)
            Made as the held-out ones were.

        Returns
        -------
        (n_utterances,) float64
            From 1 / (n + 1) to 1. An equal held-out score counts as one that is no better.
        """
        no_higher = np.searchsorted(self.held_out_scores, row("scores", scores), side="right")
        return np.asarray((1 + no_higher) / (1 + self.held_out_scores.size), np.float64)

    def are_anomalies(self, scores: ArrayLike, rate: float = 0.01) -> NDArray[np.bool_]:
        """Which utterances are explained so badly that no more than this fraction of usual ones would be.

        Parameters
        ----------
        scores : array_like of float, shape (n_utterances,)
        rate : float
            False alarms among usual utterances, a fraction between 0 and 1, both excluded. Below 1 / (n + 1) nothing
            can be called an anomaly, and a warning says so.

        Returns
        -------
        (n_utterances,) bool

        Raises
        ------
        InputError
            If `rate` is no such fraction, or a score is NaN.
        """
        if not 0 < rate < 1:
            raise InputError(
                f"`rate` is {rate}; it must be between 0 and 1, both excluded (a per cent figure?)"
            )
        least = 1 / (1 + self.held_out_scores.size)
        if rate < least:
            warnings.warn(
                f"with {self.held_out_scores.size} held-out scores the least p-value is {least:.2g}: at a rate of "
                f"{rate:g} nothing can be called an anomaly (hold out {int(np.ceil(1 / rate)) - 1} or more)",
                SpeechGMMWarning,
                stacklevel=2,
            )
        return self.p_values(scores) <= rate
