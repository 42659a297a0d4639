"""Figures of detection, against plain loops, closed forms, scikit-learn and published definitions."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechgmm.errors import InputError
from speechgmm.metrics.detection import (
    DetectionFigures,
    actual_dcf,
    bayes_threshold,
    cllr,
    detection_curve,
    detection_figures,
    eer,
    min_cllr,
    min_dcf,
    pav_llrs,
    tippett,
)

INF = math.inf
# Two scores, 0.5 and -0.5 and -1, that both kinds have; counted by hand below.
TARGET = [1.5, -0.5, 2.0, 0.5, 3.0, 0.5, 4.0, -1.0]
NONTARGET = [-3.0, -1.0, 0.0, 0.5, -2.0, 1.0, -0.5, -4.0, 2.5, -2.5]

FIGURES = (eer, min_dcf, actual_dcf, cllr, min_cllr, pav_llrs, detection_curve, tippett, detection_figures)
few_scores = st.lists(st.integers(-4, 4), min_size=1, max_size=12)


def random_trials(seed, n_targets=150, n_nontargets=600, step=0.0):
    """Scores that are no llrs; ties where a step is given."""
    rng = np.random.default_rng(seed)
    target, nontarget = rng.normal(1.5, 1.3, n_targets), rng.normal(0, 1, n_nontargets)
    return (np.round(target / step), np.round(nontarget / step)) if step else (target, nontarget)


def gaussian_trials(distance, n):
    """Evenly spaced quantiles of the llrs of two Gaussians of variance 1, a distance apart."""
    from scipy.stats import norm

    quantiles = norm.ppf((np.arange(n) + 0.5) / n)
    return distance * (quantiles + distance / 2), distance * (quantiles - distance / 2)


# The slow twins.


def operating_points(target, nontarget):
    """(threshold, p_miss, p_fa) of every threshold there is."""
    points = []
    for threshold in [*sorted({*target, *nontarget}), INF]:
        misses = sum(score < threshold for score in target)
        false_alarms = sum(score >= threshold for score in nontarget)
        points.append((threshold, misses / len(target), false_alarms / len(nontarget)))
    return points


def slow_eer(target, nontarget):
    """The lowest that any line between two operating points crosses equality at: that is the hull."""
    points = operating_points(target, nontarget)
    best = 1.0
    for _, low_miss, low_fa in points:
        for _, high_miss, high_fa in points:
            before, after = low_miss - low_fa, high_miss - high_fa
            if before < 0 <= after:
                share = before / (before - after)
                best = min(best, low_miss + share * (high_miss - low_miss))
    return best


def slow_min_dcf(target, nontarget, p_target, c_miss, c_fa):
    costs = [
        p_target * c_miss * miss + (1 - p_target) * c_fa * fa
        for _, miss, fa in operating_points(target, nontarget)
    ]
    return min(costs) / min(p_target * c_miss, (1 - p_target) * c_fa)


def slow_pav(target, nontarget):
    """llr of each score, by the max-min formula of isotonic regression."""
    scores = sorted({*target, *nontarget})
    counts = [(target.count(score), nontarget.count(score)) for score in scores]

    def share(first, last):
        hits = sum(count[0] for count in counts[first : last + 1])
        return hits / sum(sum(count) for count in counts[first : last + 1])

    llrs = {}
    for place, score in enumerate(scores):
        best = max(
            min(share(first, last) for last in range(place, len(scores))) for first in range(place + 1)
        )
        odds = best / (1 - best) if best < 1 else INF
        llrs[score] = math.log(odds * len(nontarget) / len(target)) if odds > 0 else -INF
    return [llrs[score] for score in target], [llrs[score] for score in nontarget]


def slow_cllr(target, nontarget):
    def bits(llr):
        return 0.0 if llr == INF else math.log2(1 + math.exp(-llr))

    targets = sum(map(bits, target)) / len(target)
    return (targets + sum(bits(-llr) for llr in nontarget) / len(nontarget)) / 2


# By hand.


def test_the_curve_by_hand():
    curve = detection_curve(TARGET, NONTARGET)
    assert curve.thresholds.tolist() == [-4, -1, -0.5, 0, 0.5, 1, 1.5, 2.5, 3, INF]
    assert (curve.p_miss * 8).tolist() == [0, 0, 1, 2, 2, 4, 4, 6, 6, 8]
    np.testing.assert_allclose(curve.p_fa * 10, [10, 6, 5, 4, 3, 2, 1, 1, 0, 0], atol=1e-15)
    assert curve.on_hull.tolist() == [0, 1, 4, 6, 8, 9]
    p_fa, p_miss = curve.hull
    np.testing.assert_allclose(p_fa, [1, 0.6, 0.3, 0.1, 0, 0], atol=1e-15)
    assert p_miss.tolist() == [0, 0, 0.25, 0.5, 0.75, 1]


def test_the_figures_by_hand():
    # Between (p_fa, p_miss) = (0.3, 0.25) and (0.1, 0.5): e = 0.25 + 1.25 (0.3 - e).
    assert eer(TARGET, NONTARGET) == pytest.approx(0.625 / 2.25, abs=1e-15)
    assert min_dcf(TARGET, NONTARGET, 0.5) == pytest.approx(0.3 + 0.25, abs=1e-15)
    assert min_dcf(TARGET, NONTARGET, 0.01) == 0.75
    assert min_dcf(TARGET, NONTARGET, 0.5, c_miss=10) == pytest.approx(0.6, abs=1e-15)
    # At a threshold of 0: 2 targets are below, the nontargets 0, 0.5, 1 and 2.5 are not.
    assert actual_dcf(TARGET, NONTARGET, 0.5) == pytest.approx(2 / 8 + 4 / 10, abs=1e-15)
    assert actual_dcf(TARGET, NONTARGET, 0.01) == 1.0
    targets, nontargets = pav_llrs(TARGET, NONTARGET)
    low, middle, high = (
        math.log((2 / 8) / (3 / 10)),
        math.log((2 / 8) / (2 / 10)),
        math.log((2 / 8) / (1 / 10)),
    )
    np.testing.assert_allclose(targets, [high, low, high, middle, INF, middle, INF, low], atol=1e-15)
    np.testing.assert_allclose(
        nontargets, [-INF, low, low, middle, -INF, middle, low, -INF, high, -INF], atol=1e-15
    )


def test_the_figures_are_those_of_llreval():
    # llreval 0.0.3 (Brümmer and Swart's code of the BOSARIS definitions); its EER comes of a search that ends
    # 1e-10 from the maximum.
    assert eer(TARGET, NONTARGET) == pytest.approx(0.277777777750483, abs=1e-10)
    assert cllr(TARGET, NONTARGET) == pytest.approx(0.804842290838047, abs=1e-15)
    assert min_cllr(TARGET, NONTARGET) == pytest.approx(0.647396521118924, abs=1e-15)


@pytest.mark.parametrize(
    ("target", "nontarget", "expected"),
    [
        ([1, 2], [-1, 0], {"eer": 0, "min_cllr": 0, "min_dcf_0.5": 0, "min_dcf_0.01": 0}),
        ([INF], [-INF], {"eer": 0, "min_cllr": 0, "min_dcf_0.5": 0, "min_dcf_0.01": 0}),
        ([-1, 0], [1, 2], {"eer": 0.5, "min_cllr": 1, "min_dcf_0.5": 1, "min_dcf_0.01": 1}),
        ([5, 5, 5], [5, 5], {"eer": 0.5, "min_cllr": 1, "min_dcf_0.5": 1, "min_dcf_0.01": 1}),
        ([INF], [INF], {"eer": 0.5, "min_cllr": 1, "min_dcf_0.5": 1, "min_dcf_0.01": 1}),
    ],
)
def test_perfect_useless_and_reversed_scores(target, nontarget, expected):
    assert detection_figures(target, nontarget) == pytest.approx(expected, abs=1e-15)


def test_few_false_alarms_are_counted_exactly():
    curve = detection_curve([INF], np.arange(3e6))
    assert curve.p_fa.tolist() == [1, 0, 0]
    nontarget = np.zeros(10**6)
    nontarget[:3] = 2
    assert detection_curve([1], nontarget).p_fa.tolist() == [1, 3e-6, 3e-6, 0]


# Against the slow twins.


@given(target=few_scores, nontarget=few_scores)
def test_every_figure_is_that_of_plain_loops(target, nontarget):
    assert eer(target, nontarget) == pytest.approx(slow_eer(target, nontarget), abs=1e-13)
    for point in ((0.5, 1, 1), (0.01, 1, 1), (0.2, 10, 1), (0.9, 1, 3)):
        assert min_dcf(target, nontarget, *point) == pytest.approx(
            slow_min_dcf(target, nontarget, *point), abs=1e-13
        )
    slow = slow_pav(target, nontarget)
    for found, wanted in zip(pav_llrs(target, nontarget), slow, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-13)
    # Infinities are all on the right side here, and cost nothing.
    assert min_cllr(target, nontarget) == pytest.approx(slow_cllr(*slow), abs=1e-13)
    assert cllr(target, nontarget) == pytest.approx(slow_cllr(target, nontarget), abs=1e-13)


@given(target=few_scores, nontarget=few_scores)
def test_the_curve_lies_on_all_points_and_its_corners_are_some(target, nontarget):
    curve = detection_curve(target, nontarget)
    points = operating_points(target, nontarget)
    by_threshold = {threshold: rates for threshold, *rates in points}
    corners = zip(curve.thresholds.tolist(), curve.p_miss, curve.p_fa, strict=True)
    for threshold, miss, fa in corners:
        assert [miss, fa] == pytest.approx(by_threshold[threshold], abs=1e-15)
    for threshold, miss, fa in points:
        after = int(np.searchsorted(curve.thresholds, threshold))
        before = max(after - 1, 0) if curve.thresholds[after] != threshold else after
        # Between two corners only one rate changes, unless both are the same trial.
        assert miss == pytest.approx(curve.p_miss[after], abs=1e-15) or fa == pytest.approx(
            curve.p_fa[before], abs=1e-15
        )
        assert curve.p_miss[before] <= miss + 1e-15 and miss <= curve.p_miss[after] + 1e-15


@given(
    target=st.lists(st.tuples(st.integers(-4, 4), st.integers(0, 3)), min_size=1, max_size=10),
    nontarget=st.lists(st.tuples(st.integers(-4, 4), st.integers(0, 3)), min_size=1, max_size=10),
    scale=st.sampled_from([1.0, 0.1, 1e6]),
)
def test_a_weight_is_how_often_a_trial_counts(target, nontarget, scale):
    if not sum(count for _, count in target) or not sum(count for _, count in nontarget):
        return
    sides, weights, repeated = [], [], []
    for side in (target, nontarget):
        scores, counts = np.array(side, dtype=float).T
        sides.append(scores)
        weights.append(counts * scale)
        repeated.append(np.repeat(scores, counts.astype(int)))
    point = (0.1, 5.0, 1.0)
    prepared = DetectionFigures(*sides, points=[point], calibrated=True)
    expected = detection_figures(*repeated, points=[point], calibrated=True)
    # Other sums of the same terms.
    assert prepared(*weights) == pytest.approx(expected, abs=1e-12)
    apart = (eer, min_cllr, lambda *given: min_dcf(*given[:2], *point, *given[2:]), cllr)
    apart += (lambda *given: actual_dcf(*given[:2], *point, *given[2:]),)
    assert [figure(*sides, *weights) for figure in apart] == pytest.approx(list(expected.values()), abs=1e-12)
    grid = np.arange(-5.0, 6.0)
    weighted = tippett(*sides, values=grid, target_weights=weights[0], nontarget_weights=weights[1])
    counted = tippett(*repeated, values=grid)
    np.testing.assert_allclose(weighted.targets, counted.targets, atol=1e-12)
    np.testing.assert_allclose(weighted.nontargets, counted.nontargets, atol=1e-12)
    llrs = pav_llrs(*sides, *weights)
    for found, wanted, counts in zip(llrs, pav_llrs(*repeated), weights, strict=True):
        np.testing.assert_allclose(np.repeat(found, np.rint(counts / scale).astype(int)), wanted, atol=1e-12)
        assert not np.isnan(found).any()


def test_an_infinite_cost_that_does_not_count_is_left_out():
    assert cllr([-INF, 0], [0]) == INF
    assert cllr([-INF, 0], [0], target_weights=[0, 3]) == 1.0


# Against scikit-learn.


@pytest.mark.parametrize("step", [0.0, 0.3])
@pytest.mark.parametrize("seed", range(3))
def test_the_curve_is_that_of_scikit_learn(seed, step):
    from sklearn.metrics import roc_curve

    target, nontarget = random_trials(seed, step=step)
    labels = np.repeat([1, 0], [len(target), len(nontarget)])
    p_fa, hits, thresholds = roc_curve(labels, np.concatenate([target, nontarget]), drop_intermediate=False)
    places = np.searchsorted(thresholds[::-1], detection_curve(target, nontarget).thresholds)
    curve = detection_curve(target, nontarget)
    np.testing.assert_array_equal(thresholds[::-1][places], curve.thresholds)
    np.testing.assert_allclose(p_fa[::-1][places], curve.p_fa, atol=1e-15)
    np.testing.assert_allclose(1 - hits[::-1][places], curve.p_miss, atol=1e-15)


@pytest.mark.parametrize("step", [0.0, 0.3])
@pytest.mark.parametrize("seed", range(3))
def test_pav_is_the_isotonic_regression_of_scikit_learn(seed, step):
    from sklearn.isotonic import IsotonicRegression

    target, nontarget = random_trials(seed, step=step)
    labels = np.repeat([1.0, 0.0], [len(target), len(nontarget)])
    posterior = IsotonicRegression().fit_transform(np.concatenate([target, nontarget]), labels)
    with np.errstate(divide="ignore"):
        expected = np.log(posterior) - np.log1p(-posterior) - math.log(len(target) / len(nontarget))
    # A posterior near 1 loses digits: 1e-16 of 1 / 750.
    np.testing.assert_allclose(np.concatenate(pav_llrs(target, nontarget)), expected, atol=1e-11)


# Against closed forms.


@pytest.mark.parametrize("distance", [0.5, 1.0, 3.0])
def test_gaussian_scores_have_the_figures_of_the_closed_form(distance):
    from scipy.integrate import quad
    from scipy.stats import norm

    n = 20_000
    target, nontarget = gaussian_trials(distance, n)
    # Quantiles half a step off at most: errors of half a trial of n, times how costs weigh them.
    assert eer(target, nontarget) == pytest.approx(norm.cdf(-distance / 2), abs=1 / n)
    for p_target, c_miss, c_fa in ((0.5, 1, 1), (0.01, 1, 1), (0.1, 10, 1)):
        threshold = bayes_threshold(p_target, c_miss, c_fa) / distance
        miss, fa = norm.cdf(threshold - distance / 2), norm.sf(threshold + distance / 2)
        cheaper = min(p_target * c_miss, (1 - p_target) * c_fa)
        expected = (p_target * c_miss * miss + (1 - p_target) * c_fa * fa) / cheaper
        heavier = max(p_target * c_miss, (1 - p_target) * c_fa) / cheaper
        assert actual_dcf(target, nontarget, p_target, c_miss, c_fa) == pytest.approx(
            expected, abs=heavier / n
        )
        assert min_dcf(target, nontarget, p_target, c_miss, c_fa) == pytest.approx(
            expected, abs=2 * heavier / n
        )
    information = quad(
        lambda x: norm.pdf(x, distance / 2) * np.logaddexp(0, -distance * x) / math.log(2), -12, 12
    )[0]
    # The two halves are equal by symmetry. Quantiles cut the tails off: of order distance / n.
    assert cllr(target, nontarget) == pytest.approx(information, abs=5 * distance / n)
    # PAV gains what it overfits: about a pool per cube root of n trials.
    assert information - 0.005 < min_cllr(target, nontarget) <= cllr(target, nontarget)


@pytest.mark.parametrize("step", [0.0, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_figures_keep_their_order(seed, step):
    target, nontarget = random_trials(seed, step=step)
    found = detection_figures(
        target, nontarget, points=[(p, 1, 1) for p in (0.01, 0.5, 0.9)], calibrated=True
    )
    assert 0 < found["min_cllr"] < found["cllr"]
    for p_target in (0.01, 0.5, 0.9):
        assert 0 < found[f"min_dcf_{p_target}"] <= min(1, found[f"actual_dcf_{p_target}"])


@pytest.mark.parametrize("step", [0.0, 0.5])
def test_the_eer_is_the_worst_minimal_error_rate_over_all_priors(step):
    target, nontarget = random_trials(0, step=step)
    rates = [min_dcf(target, nontarget, p) * min(p, 1 - p) for p in np.linspace(0.3, 0.7, 401)]
    # The maximum lies between two of the priors tried, 0.001 apart.
    assert max(rates) == pytest.approx(eer(target, nontarget), abs=1e-3)
    assert max(rates) <= eer(target, nontarget) + 1e-15


@pytest.mark.parametrize("seed", range(3))
def test_the_cllr_of_pav_llrs_is_the_least(seed):
    for step in (0.0, 0.5):
        trials = random_trials(seed, step=step)
        best = pav_llrs(*trials)
        assert cllr(*best) == pytest.approx(min_cllr(*trials), abs=1e-14)
        # They are their own best llrs, they rank as before, and imply the best decisions at every prior.
        for again, llrs in zip(pav_llrs(*best), best, strict=True):
            np.testing.assert_allclose(again, llrs, atol=1e-12)
        assert eer(*best) == pytest.approx(eer(*trials), abs=1e-14)
        for p_target in (0.011, 0.21, 0.52):
            assert actual_dcf(*best, p_target) == pytest.approx(min_dcf(*trials, p_target), abs=1e-12)
        # Any affine map of the scores does worse.
        for scale in (0.5, 1.0, 2.0):
            for shift in (-2.0, -1.0, 0.0):
                assert cllr(scale * trials[0] + shift, scale * trials[1] + shift) > min_cllr(*trials)


def test_only_the_order_of_scores_matters():
    target, nontarget = random_trials(1)
    expected = detection_figures(target, nontarget)
    assert detection_figures(np.exp(target), np.exp(nontarget)) == expected
    assert detection_figures(target[::-1], nontarget[::-1]) == expected
    assert detection_figures(target.astype(np.float32), nontarget.astype(np.float32)) == expected
    # Targets and nontargets change places when the scores turn round.
    assert eer(-nontarget, -target) == pytest.approx(expected["eer"], abs=1e-15)
    assert min_cllr(-nontarget, -target) == pytest.approx(expected["min_cllr"], abs=1e-14)
    assert min_dcf(-nontarget, -target, 0.99) == pytest.approx(expected["min_dcf_0.01"], abs=1e-13)


# llrs.


def test_the_bayes_threshold():
    assert bayes_threshold(0.5) == 0.0
    assert bayes_threshold(0.01) == pytest.approx(math.log(99), rel=1e-15)
    assert bayes_threshold(0.1, c_miss=9, c_fa=1) == pytest.approx(0, abs=1e-15)
    assert bayes_threshold(0.5, c_miss=1, c_fa=20) == pytest.approx(math.log(20), rel=1e-15)


def test_an_llr_at_the_threshold_is_accepted():
    assert actual_dcf([0.0], [-1.0], 0.5) == 0
    assert actual_dcf([1.0], [0.0], 0.5) == 1
    assert actual_dcf([-1e-9], [-1.0], 0.5) == 1


def test_actual_costs_may_be_worse_than_no_system():
    # 99 nontargets of the prior are accepted for each target.
    assert actual_dcf([10.0], [10.0], 0.01) == pytest.approx(99, rel=1e-14)
    assert actual_dcf([-10.0, 10.0], [-10.0], 0.1, c_miss=100) == pytest.approx(0.5 * 10 / 0.9, rel=1e-14)


def test_cllr_counts_bits():
    assert cllr([0, 0, 0], [0, 0]) == 1.0
    assert cllr([1e4, INF], [-1e4, -INF]) == 0.0
    # The wrong side costs the llr itself: no overflow, no saturation.
    assert cllr([-1e5], [-1e5]) == pytest.approx(1e5 / math.log(4), rel=1e-15)
    assert cllr([40.0], [-40.0]) == pytest.approx(math.exp(-40) / math.log(2), rel=1e-12)
    assert cllr([1.0], [INF]) == INF


def test_tippett_by_hand():
    found = tippett([1, 2, 2, 3], [-1, 2, -INF, 0, INF], values=[-1, 1.5, 2, 3, 0])
    assert found.values.tolist() == [-1, 1.5, 2, 3, 0]
    assert found.targets.tolist() == [1, 0.75, 0.25, 0, 1]
    np.testing.assert_allclose(found.nontargets, [0.6, 0.4, 0.2, 0.2, 0.4], atol=1e-15)


def test_tippett_values_reach_from_the_lowest_llr_to_the_highest():
    found = tippett([1, 4], [-6, 2, -INF])
    assert len(found.values) == 1001 and found.values[[0, 500, -1]].tolist() == [-6, -1, 4]
    assert found.targets[[0, -1]].tolist() == [1, 0]
    assert all(later <= earlier for earlier, later in pairwise(found.nontargets))
    assert tippett([INF], [-INF], values=[0]).targets.tolist() == [1]
    with pytest.raises(InputError, match=r"every llr is infinite: there is no range of values"):
        tippett([INF], [-INF])


def test_the_names_of_figures():
    names = ["eer", "min_cllr", "min_dcf_0.5", "min_dcf_0.01"]
    assert list(detection_figures(TARGET, NONTARGET)) == names
    calibrated = [*names, "cllr", "actual_dcf_0.5", "actual_dcf_0.01"]
    assert list(detection_figures(TARGET, NONTARGET, calibrated=True)) == calibrated
    points = [(np.float64(0.01), 10, 1), (0.01, 1, 1.0), (1e-5, 1, 2.5)]
    assert list(detection_figures(TARGET, NONTARGET, points)) == [
        "eer",
        "min_cllr",
        "min_dcf_0.01_10_1",
        "min_dcf_0.01",
        "min_dcf_1e-05_1_2.5",
    ]


def test_the_cheapest_point_is_where_the_least_cost_is():
    curve = detection_curve(TARGET, NONTARGET)
    best = curve.cheapest(0.5)
    assert (curve.thresholds[best], curve.p_miss[best]) == (0.5, 0.25)
    assert curve.cheapest(0.01) == 8 and curve.cheapest(0.99) == 1
    assert curve.min_dcf(0.5) == curve.p_miss[best] + curve.p_fa[best] == min_dcf(TARGET, NONTARGET, 0.5)


# What is refused.


@pytest.mark.parametrize(
    ("target", "nontarget", "message"),
    [
        ([], [1.0], r"^`target`: no score at all; both kinds of trial are needed \(wrong labels"),
        ([1.0], [], r"^`nontarget`: no score at all"),
        ([], [], r"^`target` and `nontarget`: no score at all"),
        ([0, np.nan, np.nan], [1], r"`target` holds 2 NaN, the first at 1; every trial needs a number"),
        ([0], [np.nan], r"`nontarget` holds 1 NaN, the first at 0"),
        ([[0, 1]], [1], r"`target` is int64 of the shape \(1, 2\); it must be numbers, in one row"),
        ([0], 1.0, r"`nontarget` is float64 of the shape \(\); it must be numbers, in one row"),
        (["1"], [0], r"`target` is <U1 of the shape \(1,\); it must be numbers"),
        ([True], [0], r"`target` is bool of the shape \(1,\); it must be numbers"),
    ],
)
def test_scores_that_cannot_be_used_are_refused(target, nontarget, message):
    for figure in FIGURES:
        with pytest.raises(InputError, match=message):
            figure(target, nontarget)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1], r"`nontarget_weights` has 1 weights for 2 scores"),
        ([1, -1], r"`nontarget_weights` holds -1; a weight must be 0 or more and finite"),
        ([1, INF], r"`nontarget_weights` holds inf; a weight must be 0 or more and finite"),
        ([1, np.nan], r"`nontarget_weights` holds 1 NaN, the first at 1"),
        ([0, 0], r"`nontarget_weights` are all 0: no trial of this kind is left"),
        ([[1, 1]], r"`nontarget_weights` is int64 of the shape \(1, 2\); it must be numbers, in one row"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights, message):
    for figure in FIGURES:
        with pytest.raises(InputError, match=message):
            figure([1, 2], [0, 1], nontarget_weights=weights)
        with pytest.raises(InputError, match=message.replace("nontarget", "target")):
            figure([1, 2], [0, 1], target_weights=weights)


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ((0, 1, 1), r"`p_target` is 0; it must be between 0 and 1, both excluded \(a per cent figure\?\)"),
        ((1, 1, 1), r"`p_target` is 1; it must be between 0 and 1"),
        ((5, 1, 1), r"`p_target` is 5; it must be between 0 and 1"),
        ((math.nan, 1, 1), r"`p_target` is nan; it must be between 0 and 1"),
        ((0.5, 0, 1), r"`c_miss` is 0; a cost must be above 0 and finite"),
        ((0.5, 1, -1), r"`c_fa` is -1; a cost must be above 0 and finite"),
        ((0.5, 1, INF), r"`c_fa` is inf; a cost must be above 0 and finite"),
        (
            (5e-324, 1, 1),
            r"`p_target` of 5e-324, .* make all errors of one kind cost more than 1e\+300 times",
        ),
        ((0.5, 1e300, 1e-300), r"a `c_miss` of 1e\+300 and a `c_fa` of 1e-300 make all errors of one kind"),
        ((1e-300, 1e-300, 1e-300), r"those of the other, or less than can be told from nothing"),
    ],
)
def test_points_out_of_range_are_refused(point, message):
    for figure in (
        lambda: bayes_threshold(*point),
        lambda: min_dcf(TARGET, NONTARGET, *point),
        lambda: actual_dcf(TARGET, NONTARGET, *point),
        lambda: detection_curve(TARGET, NONTARGET).cheapest(*point),
        lambda: DetectionFigures(TARGET, NONTARGET, points=[point]),
    ):
        with pytest.raises(InputError, match=message):
            figure()


@pytest.mark.parametrize("points", [[0.01], [(0.01, 1)], (0.01, 1, 1)])
def test_points_that_are_not_three_numbers_are_refused(points):
    with pytest.raises(InputError, match=r"a point is three numbers: \(p_target, c_miss, c_fa\)"):
        detection_figures(TARGET, NONTARGET, points)
