"""Open-set recognition against plain loops, and p-values that are uniform on fresh data of the same kind."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechgmm.em.restarts import fit_mixture
from speechgmm.errors import InputError, SpeechGMMWarning
from speechgmm.metrics.detection import detection_curve
from speechgmm.verification.open_set import (
    AnomalyModel,
    OpenSetPoint,
    open_set_curve,
    open_set_point,
)

# By hand: five known utterances, the second of them identified wrong, and four unknown ones, one score in common.
KNOWN, RIGHT = [1.0, 9.0, 3.0, 5.0, 7.0], [True, False, True, True, True]
UNKNOWN = [0.0, 3.0, 4.0, 6.0]


def naive_rates(known, right, unknown, threshold, known_weights, unknown_weights):
    """False alarms and detection at one threshold, utterance after utterance."""
    detected = alarms = 0.0
    for score, is_right, weight in zip(known, right, known_weights, strict=True):
        if score >= threshold and is_right:
            detected += weight
    for score, weight in zip(unknown, unknown_weights, strict=True):
        if score >= threshold:
            alarms += weight
    return alarms / sum(unknown_weights), detected / sum(known_weights)


def naive_area(known, right, unknown, known_weights, unknown_weights):
    """The chance to be right and above an unknown utterance, pair after pair."""
    area = 0.0
    for score, is_right, weight in zip(known, right, known_weights, strict=True):
        for other, count in zip(unknown, unknown_weights, strict=True):
            area += weight * count * is_right * ((score > other) + (score == other) / 2)
    return area / (sum(known_weights) * sum(unknown_weights))


def rates(curve):
    return list(zip(curve.thresholds, curve.false_alarm, curve.detection, strict=True))


class TestCurve:
    def test_by_hand(self):
        curve = open_set_curve(KNOWN, RIGHT, UNKNOWN)
        assert rates(curve) == [
            (0.0, 1.0, 0.8),
            (1.0, 0.75, 0.8),
            (3.0, 0.75, pytest.approx(0.6)),  # both a known and an unknown utterance score 3
            (4.0, 0.5, pytest.approx(0.4)),
            (5.0, 0.25, pytest.approx(0.4)),
            (6.0, 0.25, pytest.approx(0.2)),
            (7.0, 0.0, pytest.approx(0.2)),
            (np.inf, 0.0, 0.0),
        ]
        assert curve.area == pytest.approx((1 + 1.5 + 3 + 4) / 20)  # unknown utterances below each right one

    def test_the_best_with_no_more_false_alarms(self):
        curve = open_set_curve(KNOWN, RIGHT, UNKNOWN)
        assert curve.at_false_alarm(1.0) == (0.0, 1.0, 0.8)
        assert curve.at_false_alarm(0.75) == (1.0, 0.75, 0.8)
        assert curve.at_false_alarm(0.74) == (4.0, 0.5, pytest.approx(0.4))
        assert curve.at_false_alarm(0.25) == (5.0, 0.25, pytest.approx(0.4))
        assert curve.at_false_alarm(0.2) == curve.at_false_alarm(0.0) == (7.0, 0.0, pytest.approx(0.2))
        assert isinstance(curve.at_false_alarm(0.0), OpenSetPoint)
        for rate in (-0.01, 1.01, 5, float("nan")):
            with pytest.raises(InputError, match=r"`rate` is .*; it must be a fraction from 0 to 1 \(a per"):
                curve.at_false_alarm(rate)

    @given(
        st.lists(st.tuples(st.integers(-4, 4), st.booleans(), st.integers(0, 3)), min_size=1, max_size=12),
        st.lists(st.tuples(st.integers(-4, 4), st.integers(0, 3)), min_size=1, max_size=12),
        st.booleans(),
    )
    @settings(max_examples=200, deadline=None, derandomize=True)
    def test_every_threshold_against_plain_loops(self, knowns, unknowns, weighted):
        known, right, known_weights = map(np.array, zip(*knowns, strict=True))
        unknown, unknown_weights = map(np.array, zip(*unknowns, strict=True))
        if not weighted or not (known_weights.any() and unknown_weights.any()):
            known_weights, unknown_weights = np.ones(len(known)), np.ones(len(unknown))
        weights = (known_weights, unknown_weights)
        curve = open_set_curve(known, right, unknown, *weights)
        assert (curve.false_alarm[0], curve.detection[-1], curve.false_alarm[-1]) == (1.0, 0.0, 0.0)
        assert curve.detection[0] == pytest.approx((known_weights * right).sum() / known_weights.sum())
        for threshold, alarms, detection in rates(curve):
            expected = naive_rates(known, right, unknown, threshold, *weights)
            assert (alarms, detection) == pytest.approx(expected, abs=1e-12)
            point = open_set_point(known, right, unknown, threshold, *weights)
            assert point == pytest.approx((threshold, *expected), abs=1e-12)
        # No threshold is better than all the points of the curve.
        for threshold in np.arange(-5.0, 5.5, 0.5):
            alarms, detection = naive_rates(known, right, unknown, threshold, *weights)
            assert curve.at_false_alarm(alarms).detection >= detection - 1e-12
            assert open_set_point(known, right, unknown, threshold, *weights)[1:] == pytest.approx(
                (alarms, detection), abs=1e-12
            )
        assert curve.area == pytest.approx(naive_area(known, right, unknown, *weights), abs=1e-12)

    def test_with_all_right_it_is_the_detection_curve(self):
        rng = np.random.default_rng(0)
        known, unknown = rng.normal(size=300).round(1) + 1, rng.normal(size=400).round(1)
        curve, plain = open_set_curve(known, np.ones(300, bool), unknown), detection_curve(known, unknown)
        np.testing.assert_array_equal(curve.thresholds, plain.thresholds)
        np.testing.assert_array_equal(curve.false_alarm, plain.p_fa)
        np.testing.assert_array_equal(curve.detection, 1 - plain.p_miss)

    def test_with_none_right_nothing_is_detected(self):
        curve = open_set_curve([1.0, 2.0], [False, False], [0.0, 3.0])
        assert not curve.detection.any() and curve.area == 0.0
        assert curve.at_false_alarm(0.5).false_alarm == 0.5
        only = open_set_curve([1.0, 2.0], [True, False], [0.0, 3.0], known_weights=[0, 1])
        assert not only.detection.any()

    def test_infinite_scores_are_in_order(self):
        curve = open_set_curve([np.inf, -np.inf], [True, True], [-np.inf, 0.0])
        assert rates(curve) == [(-np.inf, 1.0, 1.0), (0.0, 0.5, 0.5), (np.inf, 0.0, 0.5), (np.inf, 0.0, 0.0)]
        assert open_set_point([np.inf, -np.inf], [True, True], [-np.inf, 0.0], 1.0) == (1.0, 0.0, 0.5)

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (
                ([], np.zeros(0, bool), [1.0]),
                "`best_scores_known` is empty; utterances of known and of unknown",
            ),
            (([1.0], [True], []), "`best_scores_unknown` is empty"),
            (([1.0, np.nan], [True, True], [1.0]), "`best_scores_known` holds 1 NaN, the first at 1"),
            (([1.0], [True], [np.nan]), "`best_scores_unknown` holds 1 NaN"),
            (([1.0], [1], [1.0]), r"`best_is_right` is int64 of the shape \(1,\); it must be bool"),
            (
                ([1.0, 2.0], [True], [1.0]),
                r"`best_is_right` is bool of the shape \(1,\); .* each of the 2 known",
            ),
            (([[1.0]], [[True]], [1.0]), r"`best_scores_known` is float64 of the shape \(1, 1\)"),
        ],
    )
    def test_what_is_refused(self, arguments, said):
        with pytest.raises(InputError, match=said):
            open_set_curve(*arguments)
        with pytest.raises(InputError, match=said):
            open_set_point(*arguments, 0.0)

    def test_a_threshold_that_is_no_number(self):
        with pytest.raises(InputError, match="`threshold` is NaN; it must be a score"):
            open_set_point(KNOWN, RIGHT, UNKNOWN, float("nan"))


class TestAnomalies:
    def test_by_hand_ties_count_as_no_better(self):
        model = AnomalyModel([3.0, 1.0, 2.0, 2.0])
        p_values = model.p_values([0.0, 1.0, 1.5, 2.0, 3.0, 9.0, -np.inf])
        assert p_values.tolist() == [0.2, 0.4, 0.4, 0.8, 1.0, 1.0, 0.2]

    @given(
        st.lists(st.integers(-3, 3), min_size=1, max_size=10),
        st.lists(st.integers(-4, 4), min_size=1, max_size=10),
    )
    @settings(max_examples=100, deadline=None, derandomize=True)
    def test_against_plain_loops(self, held_out, scores):
        expected = [(1 + sum(one <= score for one in held_out)) / (len(held_out) + 1) for score in scores]
        assert AnomalyModel(held_out).p_values(scores).tolist() == expected

    def test_uniform_on_fresh_data_of_the_same_kind(self):
        # Scores of no simple distribution: mean log-likelihoods of utterances under a mixture fitted to others.
        rng = np.random.default_rng(0)

        def utterances(n):
            return rng.gamma(2.0, size=(n, 20, 3)) + rng.normal(size=(n, 1, 3))

        mixture = fit_mixture(utterances(50).reshape(-1, 3), 4).mixture

        def scores(n):
            return mixture.log_likelihoods(utterances(n).reshape(-1, 3)).reshape(n, 20).mean(axis=1)

        n_sets, n_held_out, n_fresh = 200, 19, 20
        p_values = np.array(
            [AnomalyModel(scores(n_held_out)).p_values(scores(n_fresh)) for _ in range(n_sets)]
        )
        # Each of 1/20, 2/20, … 1 is equally likely. The utterances of a set share held-out ones, so the share below
        # a rate varies from set to set like a beta distribution's mean: over 200 sets by up to 0.008 (1 deviation).
        for rate in (0.05, 0.1, 0.5, 0.9):
            assert (p_values <= rate).mean() == pytest.approx(rate, abs=0.03)
        assert p_values.min() == pytest.approx(0.05) and p_values.max() == 1.0

    def test_few_of_another_kind_are_usual(self):
        rng = np.random.default_rng(0)
        model = AnomalyModel(rng.normal(size=999))
        assert model.are_anomalies(rng.normal(size=5000) - 5.0, 0.01).mean() > 0.98
        assert model.are_anomalies(rng.normal(size=5000), 0.01).mean() < 0.02

    def test_a_rate_that_cannot_be(self):
        model = AnomalyModel(np.arange(9.0))
        assert model.are_anomalies([-1.0, 0.0], 0.1).tolist() == [True, False]
        with pytest.warns(
            SpeechGMMWarning, match=r"9 held-out scores the least p-value is 0\.1: at a rate of 0\.01"
        ):
            assert not model.are_anomalies([-1.0, 0.0], 0.01).any()
        with pytest.warns(SpeechGMMWarning, match=r"hold out 99 or more"):
            model.are_anomalies([0.0], 0.01)
        for rate in (0.0, 1.0, 5, float("nan")):
            with pytest.raises(InputError, match=r"`rate` is .*; it must be between 0 and 1, both excluded"):
                model.are_anomalies([0.0], rate)

    def test_what_is_refused(self):
        with pytest.raises(
            InputError, match="`held_out_scores` is empty; scores of utterances that were held out"
        ):
            AnomalyModel([])
        with pytest.raises(InputError, match="`held_out_scores` holds 1 NaN, the first at 0"):
            AnomalyModel([np.nan])
        with pytest.raises(InputError, match="`scores` holds 1 NaN, the first at 0"):
            AnomalyModel([1.0]).p_values([np.nan])

    def test_the_model_is_its_own(self):
        given_ = np.array([2.0, 1.0])
        model = AnomalyModel(given_)
        given_[:] = 0.0
        assert model.held_out_scores.tolist() == [1.0, 2.0]
        with pytest.raises(ValueError, match="read-only"):
            model.held_out_scores[0] = 5.0
