"""verification.trial_evaluation: figures of trials worked out by hand, and intervals by speaker."""

import math

import numpy as np
import pytest

from speechgmm.errors import InputError
from speechgmm.metrics.bootstrap import bootstrap_intervals
from speechgmm.metrics.detection import DetectionFigures
from speechgmm.verification.trial_evaluation import USUAL_POINTS, trial_figures


def made_trials(n_speakers=12, n_tests=3, shift=2.0, seed=0):
    """All pairs of speakers; llrs of two normal distributions `shift` apart are calibrated at that very shift."""
    rng = np.random.default_rng(seed)
    models, tests = (side.ravel() for side in np.meshgrid(np.arange(n_speakers), np.arange(n_speakers)))
    models, tests = np.repeat(models, n_tests), np.repeat(tests, n_tests)
    is_target = models == tests
    scores = shift * (np.where(is_target, shift, 0) + rng.standard_normal(len(models)) - shift / 2)
    names = np.array([f"speaker-{number:02}" for number in range(n_speakers)])
    return scores, is_target, names[models], names[tests]


HAND = {
    "scores": np.array([2.0, -1.0, 1.0, -2.0, -3.0, -4.0]),
    "is_target": np.array([True, True, False, False, False, False]),
    "model_speakers": ["a", "b", "a", "b", "a", "b"],
    "test_speakers": ["a", "b", "b", "a", "b", "a"],
}


def test_figures_worked_out_by_hand():
    found = trial_figures(**HAND, calibrated=True, n_replicates=0)
    assert (found.n_target, found.n_nontarget, found.intervals) == (2, 4, {})
    # One of two targets is missed at 0, one of four nontargets is accepted.
    assert found.figures["actual_dcf_0.5"] == pytest.approx(0.5 + 0.25)
    # From -1 on no target is missed, one nontarget is accepted: the best threshold.
    assert found.figures["min_dcf_0.5"] == pytest.approx(0.25)
    # Of the convex hull through (0, 1/2) and (1/4, 0): misses and false alarms are equal at 1/6.
    assert found.figures["eer"] == pytest.approx(1 / 6)
    # At log 99 everything is rejected, which costs 1; rejecting all but the first target costs a half.
    assert found.figures["actual_dcf_0.01"] == pytest.approx(1)
    assert found.figures["min_dcf_0.01"] == pytest.approx(0.5)
    targets = [math.log2(1 + math.exp(-value)) for value in (2, -1)]
    others = [math.log2(1 + math.exp(value)) for value in (1, -2, -3, -4)]
    assert found.figures["cllr"] == pytest.approx(sum(targets) / 4 + sum(others) / 8)


def test_scores_have_no_actual_costs():
    found = trial_figures(**HAND, n_replicates=0)
    assert set(found.figures) == {"eer", "min_cllr", "min_dcf_0.5", "min_dcf_0.01"}
    # What does not need llrs does not care for the scale.
    scaled = trial_figures(**HAND | {"scores": 7 * HAND["scores"] + 3}, n_replicates=0)
    assert scaled.figures == pytest.approx(dict(found.figures))


def test_points_can_be_chosen():
    assert USUAL_POINTS == ((0.5, 1.0, 1.0), (0.01, 1.0, 1.0))
    found = trial_figures(**HAND, calibrated=True, points=[(0.1, 1.0, 1.0)], n_replicates=0)
    assert set(found.figures) == {"eer", "min_cllr", "cllr", "min_dcf_0.1", "actual_dcf_0.1"}


def test_calibrated_llrs_of_normal_scores_have_the_known_figures():
    found = trial_figures(*made_trials(60, 10), calibrated=True, n_replicates=0).figures
    # 600 targets: a standard error of 0.015 at most.
    assert found["eer"] == pytest.approx(0.5 * math.erfc(1 / math.sqrt(2)), abs=0.03)
    assert found["cllr"] == pytest.approx(found["min_cllr"], abs=0.03)
    assert found["actual_dcf_0.5"] == pytest.approx(found["min_dcf_0.5"], abs=0.03)


def test_intervals_are_by_speaker():
    scores, is_target, models, tests = made_trials()
    found = trial_figures(scores, is_target, models, tests, calibrated=True, n_replicates=200, seed=3)
    figures = DetectionFigures(scores[is_target], scores[~is_target], USUAL_POINTS, True)
    expected = bootstrap_intervals(figures, is_target, models, tests, n_replicates=200, seed=3)
    assert found.intervals == expected and set(expected) == set(found.figures)
    for name, (low, high) in found.intervals.items():
        assert low < high
        assert low <= found.figures[name] <= high, name
    other = trial_figures(scores, is_target, models, tests, calibrated=True, n_replicates=200, seed=4)
    assert other.figures == found.figures and other.intervals != found.intervals


def test_the_order_of_trials_does_not_matter():
    columns = made_trials()
    order = np.random.default_rng(1).permutation(len(columns[0]))
    one, other = (
        trial_figures(*(column[places] for column in columns), calibrated=True, n_replicates=50)
        for places in (slice(None), order)
    )
    assert other.figures == pytest.approx(dict(one.figures))
    for name, interval in one.intervals.items():
        assert other.intervals[name] == pytest.approx(interval)


class TestRefused:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"scores": HAND["scores"][:5]}, "5 `scores` and 6 `is_target` given; a trial has one of each"),
            (
                {"is_target": HAND["is_target"].astype(int)},
                r"`is_target` is int64; it must be bool \(labels of",
            ),
            ({"is_target": np.ones(6, bool)}, "nontarget"),
            ({"is_target": np.zeros(6, bool)}, "target"),
            ({"scores": np.where(HAND["is_target"], np.nan, 1.0)}, "NaN"),
            ({"test_speakers": ["a"] * 5}, "speakers"),
            ({"points": [(1.5, 1.0, 1.0)]}, "p_target"),
            ({"n_replicates": -1}, "`n_replicates`"),
        ],
        ids=str,
    )
    def test_what_cannot_be(self, changes, message):
        with pytest.raises(InputError, match=message):
            trial_figures(**HAND | changes)

    def test_speakers_that_contradict_the_answers(self):
        with pytest.raises(InputError, match="speaker"):
            trial_figures(**HAND | {"test_speakers": ["b", "a", "b", "a", "b", "a"]}, n_replicates=50)
