"""Calibration, against closed forms, plain loops, scikit-learn and hand-computed cases."""

import json
import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechgmm.errors import InputError, SpeechGMMWarning
from speechgmm.metrics.detection import cllr, min_cllr, pav_llrs
from speechgmm.verification.calibration import (
    Calibration,
    calibration_report,
    decide,
    fit_calibration,
    fit_pav,
    posterior,
)


def gaussian_scores(target_mean, nontarget_mean, deviation, n_target=2000, n_nontarget=6000):
    """Scores whose llr is known, at even quantiles, so without sampling noise."""
    from scipy.stats import norm

    sides = []
    for mean, n in ((target_mean, n_target), (nontarget_mean, n_nontarget)):
        sides.append(norm.ppf((np.arange(n) + 0.5) / n, mean, deviation))
    return sides


def random_scores(seed, n_target=150, n_nontarget=700, n_systems=1):
    rng = np.random.default_rng(seed)
    target = rng.normal(1.0, 1.0, (n_target, n_systems)) * 0.03 - 0.2
    nontarget = rng.normal(-1.0, 1.3, (n_nontarget, n_systems)) * 0.03 - 0.2
    return target, nontarget


def plain_loss(weights, offset, target, nontarget, p_target, target_weights=None, nontarget_weights=None):
    """The objective in plain loops."""
    log_odds = math.log(p_target / (1 - p_target))
    total = 0.0
    for side, counts, prior, sign in (
        (target, target_weights, p_target, 1),
        (nontarget, nontarget_weights, 1 - p_target, -1),
    ):
        counts = [1.0] * len(side) if counts is None else counts
        loss = 0.0
        for scores, count in zip(side, counts, strict=True):
            llr = offset + sum(w * s for w, s in zip(weights, np.atleast_1d(scores), strict=True))
            loss += count * math.log1p(math.exp(-sign * (llr + log_odds)))
        total += prior * loss / sum(counts)
    return total


def example(**changes):
    values = {"weights": (2.0, -0.5), "offset": 0.25, "p_target": 0.01, "n_target": 3, "n_nontarget": 40}
    return Calibration(**(values | changes))


@pytest.mark.parametrize("p_target", [0.5, 0.01, 0.9])
def test_scores_of_two_gaussians_get_the_llr_of_two_gaussians(p_target):
    # N(3, 2) against N(-1, 2): llr = (3 + 1) / 4 s - (9 - 1) / 8 = s - 1. Even quantiles lose the last half trial of
    # each tail, so to 3 %.
    target, nontarget = gaussian_scores(3.0, -1.0, 2.0)
    fitted = fit_calibration(target, nontarget, p_target)
    assert fitted.weights[0] == pytest.approx(1.0, abs=0.03)
    assert fitted.offset == pytest.approx(-1.0, abs=0.03)
    assert (fitted.p_target, fitted.n_target, fitted.n_nontarget) == (p_target, 2000, 6000)


def test_llrs_that_are_calibrated_stay():
    # llrs of equal-variance Gaussians: means ± d²/2, variance d².
    target, nontarget = gaussian_scores(2.0, -2.0, 2.0)
    fitted = fit_calibration(target, nontarget)
    assert fitted.apply([0.0, 3.0]) == pytest.approx([0.0, 3.0], abs=0.05)


@pytest.mark.parametrize("n_systems", [1, 3])
@pytest.mark.parametrize("p_target", [0.5, 0.02])
def test_it_is_the_logistic_regression_of_scikit_learn(n_systems, p_target):
    from sklearn.linear_model import LogisticRegression

    target, nontarget = random_scores(0, n_systems=n_systems)
    shares = np.repeat(
        [p_target / len(target), (1 - p_target) / len(nontarget)], [len(target), len(nontarget)]
    )
    labels = np.repeat([1, 0], [len(target), len(nontarget)])
    peer = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12)
    # Standardised by hand, so that its stopping rule is sharp.
    peer.fit((np.concatenate([target, nontarget]) + 0.2) / 0.03, labels, sample_weight=shares * 1e4)
    fitted = fit_calibration(target, nontarget, p_target)
    weights = peer.coef_[0] / 0.03
    offset = peer.intercept_[0] + 0.2 * weights.sum() - math.log(p_target / (1 - p_target))
    assert fitted.weights == pytest.approx(weights, rel=1e-6)
    assert fitted.offset == pytest.approx(offset, rel=1e-6)


@pytest.mark.parametrize("p_target", [0.5, 0.1])
def test_no_direction_lowers_the_loss(p_target):
    target, nontarget = random_scores(1, 60, 90, n_systems=2)
    counts = (np.arange(60) % 3, np.arange(90) % 4)
    fitted = fit_calibration(target, nontarget, p_target, *counts)
    here = plain_loss(fitted.weights, fitted.offset, target, nontarget, p_target, *counts)
    # A step of one in a thousand costs about 1e-7, far above rounding.
    for change in np.vstack([np.eye(3), -np.eye(3)]) * 1e-3:
        weights = np.array(fitted.weights) * (1 + change[:2])
        offset = fitted.offset * (1 + change[2])
        there = plain_loss(weights, offset, target, nontarget, p_target, *counts)
        assert there > here + 1e-10


def test_weights_are_repeated_trials():
    target, nontarget = random_scores(2, 40, 50)
    counts = np.arange(40) % 3, np.arange(50) % 2
    weighted = fit_calibration(target, nontarget, 0.3, *counts)
    repeated = fit_calibration(np.repeat(target, counts[0], 0), np.repeat(nontarget, counts[1], 0), 0.3)
    assert weighted.weights == pytest.approx(repeated.weights, rel=1e-9)
    assert weighted.offset == pytest.approx(repeated.offset, rel=1e-9)
    # Trials that never count are none.
    assert (weighted.n_target, weighted.n_nontarget) == (26, 25)


@given(
    scale=st.floats(1e-6, 1e6),
    shift=st.floats(-1e3, 1e3),
    p_target=st.floats(1e-4, 1 - 1e-4),
    seed=st.integers(0, 99),
)
def test_llrs_do_not_depend_on_the_unit_of_scores(scale, shift, p_target, seed):
    target, nontarget = random_scores(seed, 30, 40)
    # Overlap, whatever the seed.
    target[0], nontarget[0] = -0.4, 0.0
    llrs = fit_calibration(target, nontarget, p_target).apply(target)
    moved = fit_calibration(target * scale + shift * scale, nontarget * scale + shift * scale, p_target)
    # The shift is up to 1e3 / 0.03 deviations, so five of sixteen digits.
    assert moved.apply(target * scale + shift * scale) == pytest.approx(llrs, rel=1e-6, abs=1e-6)


def test_fusion_is_at_least_as_good_as_each_system():
    target, nontarget = random_scores(3, n_systems=2)
    fused = fit_calibration(target, nontarget)
    both = cllr(fused.apply(target), fused.apply(nontarget))
    for system in range(2):
        alone = fit_calibration(target[:, system], nontarget[:, system])
        assert both < cllr(alone.apply(target[:, system]), alone.apply(nontarget[:, system])) - 0.05


def test_llrs_of_independent_systems_add_up():
    # N(±0.5, 1) and N(±1, 1) have llrs s and 2 s. All pairs of even quantiles are independent; tails cut off make
    # weights a little larger.
    pairs = [gaussian_scores(mean, -mean, 1.0, 150, 150) for mean in (0.5, 1.0)]
    target, nontarget = (
        np.array(np.meshgrid(pairs[0][side], pairs[1][side])).reshape(2, -1).T for side in (0, 1)
    )
    fitted = fit_calibration(target, nontarget)
    assert fitted.weights == pytest.approx((1.0, 2.0), rel=0.05)
    assert fitted.offset == pytest.approx(0.0, abs=1e-9)


def test_a_batch_is_each_trial_alone():
    calibration = example(weights=(0.1, 1 / 3))
    scores = np.random.default_rng(5).normal(size=(1000, 2))
    together = calibration.apply(scores)
    assert [calibration.apply(row[None])[0] for row in scores] == together.tolist()


def test_apply_is_a_weighted_sum():
    assert example().apply([[1.0, 2.0], [0.0, 0.5]]).tolist() == [1.25, 0.0]
    one = example(weights=(2.0,))
    assert one.apply([1.0, -1.0]).tolist() == one.apply([[1.0], [-1.0]]).tolist() == [2.25, -1.75]


@pytest.mark.parametrize("n", [3, 30, 3000])
@pytest.mark.parametrize("n_systems", [1, 2])
def test_separate_sides_end_in_finite_weights(n, n_systems):
    target, nontarget = np.linspace(1.0, 2.0, n), np.linspace(-2.0, -1.0, n)
    if n_systems == 2:
        noise = np.random.default_rng(6).normal(size=n)
        target, nontarget = np.column_stack([target, noise]), np.column_stack([nontarget, noise])
    with pytest.warns(SpeechGMMWarning, match=rf"separate {n} targets from {n} nontargets without an error"):
        fitted = fit_calibration(target, nontarget)
    llrs = fitted.apply(target)
    assert fitted.weights[0] > 0
    # No more certain than so many trials can be.
    assert 0.5 < llrs.min() < llrs.max() < 2 * math.log(n) + 1


def test_separate_sides_have_the_optimum_of_the_rule():
    """Two and two trials at ±1: the standardised score is the score, the ridge 1/2."""
    with pytest.warns(SpeechGMMWarning, match="separate"):
        fitted = fit_calibration([1.0, 1.0], [-1.0, -1.0])
    # Loss log(1 + exp(-w)) + w² / 4: at its least, 1 / (1 + exp(w)) = w / 2.
    weight = fitted.weights[0]
    assert 1 / (1 + math.exp(weight)) == pytest.approx(weight / 2, rel=1e-9)
    assert fitted.offset == pytest.approx(0.0, abs=1e-12)


def test_of_separate_sides_only_the_weights_are_held_back():
    """No direction lowers the loss plus half the squared standardised weight over the trials of the rarer side."""
    target, nontarget = np.array([1.0, 2.0, 2.5]), np.linspace(-3.0, 0.5, 10)
    with pytest.warns(SpeechGMMWarning, match="separate") as caught:
        fitted = fit_calibration(target, nontarget, 0.1)
    assert caught[0].filename == __file__
    centre = (target.mean() + nontarget.mean()) / 2
    variance = (np.mean((target - centre) ** 2) + np.mean((nontarget - centre) ** 2)) / 2

    # The offset where the standardised score is 0 is free, so it is that which is moved on its own.
    def loss(weight, middle):
        return (
            plain_loss([weight], middle - weight * centre, target, nontarget, 0.1) + weight**2 * variance / 6
        )

    weight, middle = fitted.weights[0], fitted.offset + fitted.weights[0] * centre
    here = loss(weight, middle)
    for step in (-1e-3, 1e-3):
        assert loss(weight + step, middle) > here + 1e-9
        assert loss(weight, middle + step) > here + 1e-9


def test_sides_that_only_touch_count_as_separate():
    with pytest.warns(SpeechGMMWarning, match="separate 2 targets from 2"):
        fitted = fit_calibration([1.0, 2.0], [0.0, 1.0])
    assert math.isfinite(fitted.weights[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit_calibration([0.9, 2.0], [0.0, 1.0])


def test_one_trial_that_does_not_count_separates_nothing():
    with pytest.warns(SpeechGMMWarning, match="separate 2 targets from 2"):
        fit_calibration([1.0, 2.0, -5.0], [0.0, -1.0], target_weights=[1, 1, 0])


def test_systems_whose_weights_grow_without_end_though_some_trials_are_mixed_up():
    # x + y is 0 or more for targets and 0 or less for nontargets; those at 0 are mixed up along x - y.
    target = np.array([[1.0, -1.0], [-2.0, 2.0], [1.5, 0.1]])
    nontarget = np.array([[-1.0, 1.0], [2.0, -2.0], [-1.5, -0.3]])
    with pytest.warns(SpeechGMMWarning, match="separate 3 targets from 3"):
        fitted = fit_calibration(target, nontarget)
    assert np.isfinite(fitted.weights).all()


def test_scores_upside_down_are_noticed():
    target, nontarget = random_scores(7)
    with pytest.warns(SpeechGMMWarning, match=r"turns scores round \(weight -\d") as caught:
        fitted = fit_calibration(-target, -nontarget)
    assert fitted.weights[0] < 0
    assert caught[0].filename == __file__


def test_sides_with_the_same_scores_are_worth_nothing():
    scores = np.random.default_rng(14).normal(size=500)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fitted = fit_calibration(scores, scores[::-1], 0.01)
    # The sign of what rounding leaves is chance; that the sides are not separate is not.
    assert not [warning for warning in caught if "separate" in str(warning.message)]
    assert fitted.apply([-3.0, 0.0, 3.0]) == pytest.approx([0.0] * 3, abs=1e-12)


def test_a_negative_weight_in_a_fusion_is_fine():
    rng = np.random.default_rng(8)
    noise = rng.normal(size=(2, 400))
    target = np.column_stack([1 + noise[0] + rng.normal(size=400), noise[0] + 0.1 * rng.normal(size=400)])
    nontarget = np.column_stack([noise[1] + rng.normal(size=400), noise[1] + 0.1 * rng.normal(size=400)])
    assert fit_calibration(target, nontarget).weights[1] < 0


def test_large_scores_do_not_overflow():
    target, nontarget = random_scores(9)
    fitted = fit_calibration(target * 1e150, nontarget * 1e150)
    assert np.isfinite(fitted.apply(target * 1e150)).all()


@pytest.mark.parametrize("p_target", [0.5, 1e-5])
def test_one_wild_trial_does_not_stop_the_steps(p_target):
    target, nontarget = random_scores(9)
    for wild in (50.0, 1e6):
        fitted = fit_calibration(np.append(target, wild), nontarget, p_target)
        plain = fit_calibration(target, nontarget, p_target)
        # Far on the right side it costs nothing; one target more or less is one in 150.
        assert fitted.weights == pytest.approx(plain.weights, rel=0.05)
    with pytest.warns(SpeechGMMWarning, match="turns scores round"):
        fit_calibration(np.append(target, -50.0), nontarget, p_target)


@pytest.mark.parametrize(
    ("target", "nontarget", "message"),
    [
        ([], [1.0], r"`target` has the shape \(0,\); it must be .* one trial or more"),
        ([1.0], np.zeros((0, 2)), r"`nontarget` has the shape \(0, 2\)"),
        ([1.0, np.nan], [1.0], r"`target` has 1 trials whose scores are not finite, first trial 1 .*nan"),
        ([1.0], [-np.inf, 0.0], "`nontarget` has 1 trials whose scores are not finite"),
        (np.zeros((2, 2)), [1.0], "`target` has scores of 2 systems, `nontarget` of 1"),
        ([0.1] * 7, [0.1] * 9, r"all scores of system 0 \(from 0\) are 0.1; nothing can be learnt"),
        ([[1, 5], [2, 5.0]], [[0, 5], [1.5, 5.0]], r"all scores of system 1 \(from 0\) are 5"),
        (
            [[1, 2], [0, 0.0]],
            [[0.5, 1], [-1, -2.0]],
            "the scores of the 2 systems are not independent.*twice",
        ),
        (np.zeros((1, 1, 1)), [1.0], r"`target` has the shape \(1, 1, 1\)"),
    ],
)
def test_scores_that_cannot_be_used_are_refused(target, nontarget, message):
    with pytest.raises(InputError, match=message):
        fit_calibration(target, nontarget)


@pytest.mark.parametrize("p_target", [0, 1, -0.1, 50, math.nan, True, "0.5", None])
def test_a_prior_that_is_none_is_refused(p_target):
    for call in (
        lambda: fit_calibration([1.0, 0.0], [0.5], p_target),
        lambda: posterior([0.0], p_target),
        lambda: decide([0.0], p_target),
        lambda: example(p_target=p_target),
    ):
        with pytest.raises(InputError, match=r"`p_target` .*between 0 and 1"):
            call()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0], r"`target_weights` has the shape \(1,\); it must be one weight for each of 2 trials"),
        ([1.0, -1.0], "`target_weights` must be finite, from 0, and not all 0"),
        ([0.0, 0.0], "`target_weights` must be finite, from 0, and not all 0"),
        ([1.0, np.inf], "`target_weights` must be finite"),
    ],
)
@pytest.mark.parametrize("fit", [fit_calibration, fit_pav])
def test_weights_that_cannot_be_used_are_refused(weights, message, fit):
    with pytest.raises(InputError, match=message):
        fit([1.0, 0.0], [0.5, 0.2], target_weights=weights)


def test_a_calibration_is_for_its_systems():
    with pytest.raises(InputError, match=r"`scores` are of 1 systems; .* trained on those of 2"):
        example().apply([1.0, 2.0])
    with pytest.raises(InputError, match="`scores` has 1 trials whose scores are not finite, first trial 1"):
        example().apply([[1.0, 2.0], [1.0, np.nan]])


def test_a_calibration_survives_json():
    fitted = fit_calibration(*random_scores(10, n_systems=3), 0.05)
    assert Calibration.from_dict(json.loads(json.dumps(fitted.to_dict()))) == fitted


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": []}, r"calibration `weights` is \[\]; it must be one number a system"),
        ({"weights": "12"}, "calibration `weights` is '12'"),
        ({"weights": 3.0}, "calibration `weights` is 3.0"),
        ({"weights": [1.0, "2"]}, r"calibration `weights` is \[1.0, '2'\]; it must be finite"),
        ({"weights": [math.inf]}, r"calibration `weights` is \[inf\]"),
        ({"offset": math.nan}, "calibration `offset` is nan"),
        ({"offset": True}, "calibration `offset` is True"),
        ({"p_target": 1.5}, "`p_target` is 1.5"),
        ({"n_target": 0}, "calibration `n_target` is 0; it must be a whole number from 1"),
        ({"n_nontarget": 3.0}, "calibration `n_nontarget` is 3.0"),
        ({"scale": 1.0}, "a calibration has the unknown field `scale`"),
        ({1: 1.0}, "a calibration has the unknown field `1`"),
    ],
)
def test_a_calibration_is_read_strictly(change, message):
    with pytest.raises(InputError, match=message):
        Calibration.from_dict(example().to_dict() | change)


def test_a_calibration_is_read_whole():
    values = example().to_dict()
    del values["offset"]
    with pytest.raises(
        InputError, match="a calibration has no `offset`; its fields are n_nontarget, n_target"
    ):
        Calibration.from_dict(values)
    with pytest.raises(InputError, match="a calibration is list; it must be a table"):
        Calibration.from_dict([1.0])


def test_pav_by_hand():
    # From below: the added pair, n at 0, n at 1, t at 2, n at 3, t at 4, the added pair: targets' share 1 of 4, 1 of 2,
    # 2 of 3 in three pieces. Targets are 4 of 9 in all.
    fitted = fit_pav([2.0, 4.0], [0.0, 1.0, 3.0])
    odds = math.log(4 / 5)
    expected = np.array([math.log(1 / 3), math.log(1 / 3), 0.0, 0.0, math.log(2)]) - odds
    assert fitted.apply([0.0, 1.0, 2.0, 3.0, 4.0]) == pytest.approx(expected, rel=1e-12)
    # Halfway between pieces; beyond the ends.
    assert fitted.apply([1.5, -9.0, 9.0]) == pytest.approx(
        [expected[1:3].mean(), expected[0], expected[-1]], rel=1e-12
    )
    assert fitted.scores == (0.0, 1.0, 2.0, 3.0, 4.0)
    assert (fitted.n_target, fitted.n_nontarget) == (2, 3)


def test_pav_of_scores_that_say_nothing():
    assert fit_pav([1.0] * 5, [1.0] * 5).apply([0.0, 1.0, 2.0]) == pytest.approx([0.0] * 3, abs=1e-12)
    # The pair below pools with the trials, that above does not: 6 of 7 targets, 81 of 82 nontargets.
    expected = math.log(6 / 7) - math.log(81 / 82)
    assert fit_pav([1.0] * 5, [1.0] * 80).apply([0.0, 1.0, 2.0]) == pytest.approx([expected] * 3, rel=1e-12)


def test_pav_of_separate_sides_is_finite():
    # 1 target of 12 and 11 of 12, counting the added pairs; as many targets as nontargets.
    fitted = fit_pav(np.arange(10) + 5.0, -np.arange(10.0))
    assert fitted.apply([-20.0, 20.0]) == pytest.approx([-math.log(11), math.log(11)], rel=1e-12)


def test_pav_is_scikit_learns_isotonic_regression():
    from sklearn.isotonic import IsotonicRegression

    target, nontarget = np.round(random_scores(11)[0][:, 0], 3), np.round(random_scores(11)[1][:, 0], 3)
    scores = np.concatenate([[-9.0, -9.0], target, nontarget, [9.0, 9.0]])
    labels = np.concatenate([[1, 0], np.ones(len(target)), np.zeros(len(nontarget)), [1, 0]])
    share = IsotonicRegression().fit(scores, labels).predict(scores)[2:-2]
    expected = np.log(share / (1 - share)) - math.log(labels.sum() / (1 - labels).sum())
    fitted = fit_pav(target, nontarget).apply(np.concatenate([target, nontarget]))
    assert fitted == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(
    target=st.lists(st.floats(-9, 9), min_size=1, max_size=30),
    nontarget=st.lists(st.floats(-9, 9), min_size=1, max_size=30),
)
def test_pav_rises_and_is_finite(target, nontarget):
    fitted = fit_pav(target, nontarget)
    llrs = fitted.apply(np.sort(np.concatenate([target, nontarget, [-20.0, 20.0]])))
    assert np.isfinite(llrs).all()
    assert (np.diff(llrs) >= 0).all()
    assert (np.diff(fitted.scores) > 0).all()


def test_pav_is_near_the_best_for_many_trials():
    target, nontarget = gaussian_scores(1.0, -1.0, 1.0)
    fitted = fit_pav(target, nontarget)
    found = cllr(fitted.apply(target), fitted.apply(nontarget))
    # Four added trials among 8000.
    assert found == pytest.approx(min_cllr(target, nontarget), abs=2e-3)
    assert found >= min_cllr(target, nontarget)
    free = pav_llrs(target, nontarget)[0]
    inner = np.isfinite(free)
    assert fitted.apply(target)[inner] == pytest.approx(free[inner], abs=0.7)


def test_pav_is_of_one_system():
    with pytest.raises(InputError, match="`target` are of 2 systems; they must be of one"):
        fit_pav(np.zeros((3, 2)), np.zeros((3, 2)))


def test_posteriors():
    assert posterior([0.0, math.log(3)], 0.5) == pytest.approx([0.5, 0.75], rel=1e-14)
    # Prior odds 1 : 99 and a ratio of 99 are even.
    assert posterior([math.log(99)], 0.01) == pytest.approx([0.5], rel=1e-12)
    assert posterior([-np.inf, np.inf, 1e4, -1e4], 0.3).tolist() == [0.0, 1.0, 1.0, 0.0]
    with pytest.raises(InputError, match=r"`llrs` has 1 values that are not numbers \(NaN\)"):
        posterior([np.nan], 0.5)


def test_decisions_follow_from_expected_costs():
    llrs = np.linspace(-9.0, 9.0, 1001)
    for p_target, c_miss, c_fa in ((0.5, 1.0, 1.0), (0.01, 1.0, 1.0), (0.01, 10.0, 1.0), (0.9, 1.0, 30.0)):
        chance = posterior(llrs, p_target)
        cheaper = c_fa * (1 - chance) <= c_miss * chance
        assert decide(llrs, p_target, c_miss, c_fa).tolist() == cheaper.tolist()
    assert decide([-np.inf, 0.0, np.inf], 0.5).tolist() == [False, True, True]


@pytest.mark.parametrize("costs", [(0.0, 1.0), (1.0, -1.0), (np.nan, 1.0), (1.0, np.inf)])
def test_costs_that_are_none_are_refused(costs):
    with pytest.raises(InputError, match=r"`c_(miss|fa)`"):
        decide([0.0], 0.5, *costs)


def test_a_report_shows_what_calibration_gained():
    target, nontarget = random_scores(12)
    scores = np.concatenate([target, nontarget])[:, 0]
    is_target = np.arange(len(scores)) < len(target)
    llrs = fit_calibration(target, nontarget).apply(scores)
    report = calibration_report(scores, llrs, is_target, points=((0.5, 1, 1),))
    before, after = report["before"], report["after"]
    assert before["cllr"] == cllr(target[:, 0], nontarget[:, 0])
    # Scores near -0.2 say hardly anything as llrs.
    assert before["cllr"] > 0.95 and after["cllr"] < 0.6
    # A rising map changes no order.
    for name in ("eer", "min_cllr", "min_dcf_0.5"):
        assert after[name] == pytest.approx(before[name], rel=1e-12)
    assert after["min_cllr"] <= after["cllr"]
    assert after["min_dcf_0.5"] <= after["actual_dcf_0.5"] < before["actual_dcf_0.5"]


def test_a_report_needs_trials_that_fit():
    with pytest.raises(InputError, match="`llrs` has 2 trials, `is_target` 3"):
        calibration_report([1.0, 2.0, 3.0], [1.0, 2.0], np.array([True, False, True]))
    with pytest.raises(InputError, match=r"`is_target` is int64 of shape \(2,\); it must be \(n,\) bool"):
        calibration_report([1.0, 2.0], [1.0, 2.0], np.array([1, 0]))


def test_the_same_bits_on_any_number_of_blas_threads():
    from threadpoolctl import threadpool_limits

    target, nontarget = random_scores(13, 2000, 30_000, n_systems=4)
    results = []
    for threads in (1, 2):
        with threadpool_limits(threads, user_api="blas"):
            results.append(fit_calibration(target, nontarget))
    assert results[0] == results[1]
