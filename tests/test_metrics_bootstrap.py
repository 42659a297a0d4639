"""Intervals from resampled speakers: the weights, the percentiles, and how often they hold the truth."""

import math
from collections import Counter

import numpy as np
import pytest

from speechgmm.errors import InputError
from speechgmm.metrics.bootstrap import bootstrap_intervals
from speechgmm.metrics.detection import DetectionFigures, detection_figures

# Two targets of each of four speakers, and some nontargets.
SPEAKERS = ["ann", "bob", "cy", "di"]
IS_TARGET = [True, False] * 8
MODELS = [
    "ann",
    "ann",
    "bob",
    "ann",
    "cy",
    "bob",
    "di",
    "di",
    "ann",
    "cy",
    "bob",
    "di",
    "cy",
    "di",
    "di",
    "bob",
]
TESTS = [
    "ann",
    "bob",
    "bob",
    "cy",
    "cy",
    "di",
    "di",
    "ann",
    "ann",
    "bob",
    "bob",
    "cy",
    "cy",
    "ann",
    "di",
    "ann",
]
TRIALS = (IS_TARGET, MODELS, TESTS)


def simulated(rng, n_speakers, of_speakers, per_speaker=5, distance=3.0):
    """llrs with a variance of 1 around targets at `distance`, part of it the speakers'; and whose they are."""
    own = np.repeat(np.arange(n_speakers), per_speaker)
    first, second = np.nonzero(~np.eye(n_speakers, dtype=bool))
    hard, wolf, lamb = rng.normal(size=(3, n_speakers)) * np.sqrt(of_speakers) * [[1], [0.5**0.5], [0.5**0.5]]
    noise = np.sqrt(1 - of_speakers)
    target = distance + hard[own] + noise * rng.normal(size=len(own))
    nontarget = wolf[first] + lamb[second] + noise * rng.normal(size=len(first))
    is_target = np.repeat([True, False], [len(own), len(first)])
    trials = is_target, np.append(own, first), np.append(own, second)
    return [distance * (side - distance / 2) for side in (target, nontarget)], trials


def recorded(**settings):
    """All weights that the figures were asked for with."""
    seen = []

    def figures(target_weights, nontarget_weights):
        seen.append((target_weights, nontarget_weights))
        return {"nothing": 0.0}

    bootstrap_intervals(figures, *TRIALS, n_replicates=200, **settings)
    return seen


def test_trials_count_as_often_as_their_speakers_are_drawn():
    seen = recorded()
    assert len(seen) == 201
    drawings = Counter()
    for target_weights, nontarget_weights in seen:
        # Targets 0 to 3 are of ann, bob, cy and di, and so are 4 to 7 but for their order.
        drawn = dict(zip(SPEAKERS, target_weights[:4], strict=True))
        drawings[tuple(drawn.values())] += 1
        assert sum(drawn.values()) == 4
        expected = {True: [], False: []}
        for target, model, test in zip(*TRIALS, strict=True):
            expected[target].append(drawn[model] if target else drawn[model] * drawn[test])
        assert target_weights.tolist() == expected[True]
        assert nontarget_weights.tolist() == expected[False]
        assert target_weights.any() and nontarget_weights.any()
    # Once as measured; of 35 drawings those of one speaker alone have no nontargets.
    assert 25 < len(drawings) <= 31


def test_speakers_are_drawn_evenly_with_replacement():
    drawn = np.array([target_weights[:4] for target_weights, _ in recorded()[:-1]])
    # Binomial counts: variance 3/4 of 4 draws; 200 replicates, and those of one speaker alone are missing.
    np.testing.assert_allclose(drawn.mean(axis=0), 1, atol=0.25)
    np.testing.assert_allclose(drawn.var(axis=0), 0.75, atol=0.2)


def test_a_replicate_has_the_figures_of_its_trials_repeated():
    (target, nontarget), trials = simulated(np.random.default_rng(0), 6, 0.5)
    prepared = DetectionFigures(target, nontarget, calibrated=True)

    def checked(target_weights, nontarget_weights):
        found = prepared(target_weights, nontarget_weights)
        repeated = [
            np.repeat(side, counts.astype(int))
            for side, counts in ((target, target_weights), (nontarget, nontarget_weights))
        ]
        # Other sums of the same terms.
        assert found == pytest.approx(detection_figures(*repeated, calibrated=True), abs=1e-12)
        return found

    found = bootstrap_intervals(checked, *trials, n_replicates=50)
    assert list(found) == list(prepared())
    for name, (low, high) in found.items():
        assert 0 <= low < high, name


def slow_interval(measured, values, confidence):
    """Efron's bias-corrected percentiles from scipy's normal distribution and a sorted list."""
    from scipy.stats import norm

    ranked = sorted(values)
    below = sum(value < measured for value in ranked) + sum(value == measured for value in ranked) / 2
    z0 = norm.ppf(min(max(below, 0.5), len(ranked) - 0.5) / len(ranked))
    low = norm.cdf(2 * z0 + norm.ppf((1 - confidence) / 2)) * (len(ranked) - 1)
    high = norm.cdf(2 * z0 + norm.ppf((1 + confidence) / 2)) * (len(ranked) - 1)
    return ranked[math.floor(low)], ranked[math.ceil(high)]


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95])
def test_intervals_are_bias_corrected_percentiles(confidence):
    (target, nontarget), trials = simulated(np.random.default_rng(1), 8, 0.5, distance=1.0)
    prepared = DetectionFigures(target, nontarget)
    replicates = []

    def keep(*weights):
        replicates.append(prepared(*weights))
        return replicates[-1]

    found = bootstrap_intervals(keep, *trials, n_replicates=100, confidence=confidence)
    measured = prepared()
    assert replicates.count(measured) >= 1
    replicates.remove(measured)
    for name, interval in found.items():
        values = [replicate[name] for replicate in replicates]
        assert interval == slow_interval(measured[name], values, confidence)
    # EERs of replicates are lower than the measured one on the whole: the correction raises the interval.
    plain = np.quantile(
        [replicate["eer"] for replicate in replicates], [(1 - confidence) / 2, (1 + confidence) / 2]
    )
    assert found["eer"][0] > plain[0] and found["eer"][1] > plain[1]


def test_a_rising_change_of_scale_changes_the_interval_alike():
    (target, nontarget), trials = simulated(np.random.default_rng(2), 8, 0.5)
    prepared = DetectionFigures(target, nontarget)

    def figures(*weights):
        eer = prepared(*weights)["eer"]
        return {"eer": eer, "per cent": 100 * eer, "constant": 0.25}

    found = bootstrap_intervals(figures, *trials, n_replicates=100)
    assert found["per cent"] == tuple(100 * bound for bound in found["eer"])
    assert found["constant"] == (0.25, 0.25)


def test_the_interval_of_a_mean_over_speakers_is_the_normal_one():
    rng = np.random.default_rng(3)
    values = rng.normal(5, 2, 50)
    speakers = np.arange(50)
    trials = (
        np.repeat([True, False], 50),
        np.append(speakers, speakers),
        np.append(speakers, (speakers + 1) % 50),
    )
    low, high = bootstrap_intervals(lambda own, _: {"mean": own @ values / own.sum()}, *trials)["mean"]
    reach = 1.96 * values.std() / 50**0.5
    # A bound is a quantile of 1000 replicates, uncertain by about 8 % of the reach.
    assert low == pytest.approx(values.mean() - reach, abs=0.25 * reach)
    assert high == pytest.approx(values.mean() + reach, abs=0.25 * reach)


def test_speakers_held_the_truth_more_often_than_trials():
    from scipy.stats import norm

    truth = norm.cdf(-1.5)
    by_speakers = by_trials = 0
    n_cases = 60
    for case in range(n_cases):
        rng = np.random.default_rng(case)
        scores, trials = simulated(rng, 20, 0.6)
        prepared = DetectionFigures(*scores, points=[])
        low, high = bootstrap_intervals(prepared, *trials, n_replicates=100, seed=case)["eer"]
        by_speakers += low <= truth <= high
        resampled = [
            prepared(*(rng.multinomial(len(side), np.full(len(side), 1 / len(side))) for side in scores))[
                "eer"
            ]
            for _ in range(100)
        ]
        low, high = np.quantile(resampled, [0.025, 0.975])
        by_trials += low <= truth <= high
    # 0.87 and 0.62 of 500 cases; the deviation of 60 is 0.05 and 0.06.
    assert by_speakers / n_cases >= 0.77
    assert by_trials / n_cases <= 0.74


def test_more_speakers_or_less_confidence_narrow_the_interval():
    def width(n_speakers, **settings):
        scores, trials = simulated(np.random.default_rng(0), n_speakers, 0.6)
        low, high = bootstrap_intervals(DetectionFigures(*scores), *trials, n_replicates=200, **settings)[
            "eer"
        ]
        return high - low

    assert width(80) < width(10)
    assert width(20, confidence=0.5) < width(20)


def test_equal_seeds_give_equal_intervals_in_whatever_order_the_trials_are():
    scores, (is_target, models, tests) = simulated(np.random.default_rng(4), 7, 0.5)
    # Error rates are sums of whole numbers, equal in any order; Cllr is not among them.
    first = bootstrap_intervals(DetectionFigures(*scores), is_target, models, tests, 100, seed=5)
    assert bootstrap_intervals(DetectionFigures(*scores), is_target, models, tests, 100, seed=5) == first
    assert bootstrap_intervals(DetectionFigures(*scores), is_target, models, tests, 100, seed=6) != first
    order = np.random.default_rng(0).permutation(len(is_target))
    shuffled = is_target[order]
    moved = np.concatenate(scores)[order]
    names = np.array([f"speaker {number}" for number in range(7)], dtype=object)
    again = bootstrap_intervals(
        DetectionFigures(moved[shuffled], moved[~shuffled]),
        shuffled,
        names[models[order]],
        tuple(names[tests[order]]),
        100,
        seed=5,
    )
    assert again == first


def test_two_speakers_are_enough():
    found = bootstrap_intervals(
        DetectionFigures([1, 2, 3], [0, 2.5]),
        [True, True, True, False, False],
        [0, 1, 1, 0, 1],
        [0, 1, 1, 1, 0],
        n_replicates=40,
    )
    # Whatever has nontargets has both speakers: there is one replicate only.
    assert found["eer"] == (DetectionFigures([1, 2, 3], [0, 2.5])()["eer"],) * 2


def test_infinite_figures_have_infinite_bounds():
    def figures(own, _):
        return {"of ann": math.inf if own[0] else 1.0, "never": math.inf}

    found = bootstrap_intervals(figures, *TRIALS, n_replicates=100)
    assert found == {"of ann": (1.0, math.inf), "never": (math.inf, math.inf)}


# What is refused.


def nothing(*weights):
    return {"nothing": 0.0}


@pytest.mark.parametrize(
    ("is_target", "models", "tests", "message"),
    [
        (
            [True, True],
            [1, 2],
            [1, 2],
            r"all 2 trials are of one kind; both targets and nontargets are needed, and",
        ),
        ([False], [1], [2], r"all 1 trials are of one kind"),
        (
            [True, False],
            [1, 1],
            [1, 1],
            r"^1 trials contradict their speakers: the first, 1, is a nontarget trial",
        ),
        (
            [True, True, False],
            ["a", "a", "b"],
            ["b", "a", "b"],
            r"^2 trials contradict .*first, 0, is a target trial of the model speaker 'a' and the test speaker 'b'",
        ),
        (
            [1, 0],
            [1, 1],
            [1, 2],
            r"`is_target` is int64 of the shape \(2,\); it must be true or false, in one row",
        ),
        ([], [], [], r"`is_target` is float64 of the shape \(0,\); it must be true or false"),
        ([True, False], [1], [1, 2], r"`model_speakers` has 1 speakers, `is_target` has 2 trials"),
        ([True, False], [1, 1], [1, 2, 3], r"`test_speakers` has 3 speakers, `is_target` has 2 trials"),
        (
            [True, False],
            [1.0, 1.0],
            [1, 2],
            r"`model_speakers` is float64 of the shape \(2,\); speakers are text or",
        ),
        (
            [True, False],
            [1, 1],
            [1, None],
            r"`test_speakers` is object of the shape \(2,\); speakers are text or",
        ),
        ([True, False], [[1, 1]], [1, 2], r"`model_speakers` is int64 of the shape \(1, 2\)"),
        ([True, False], ["1", "1"], [1, 2], r"some are text and some integers, which are never equal"),
    ],
)
def test_trials_that_do_not_fit_together_are_refused(is_target, models, tests, message):
    with pytest.raises(InputError, match=message):
        bootstrap_intervals(nothing, is_target, models, tests)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"confidence": 95}, r"`confidence` is 95; it must be between 0 and 1 \(a per cent figure\?\)"),
        ({"confidence": math.nan}, r"`confidence` is nan; it must be between 0 and 1"),
        ({"n_replicates": 39}, r"`n_replicates` is 39; an interval of confidence 0.95 needs 40 or more"),
        ({"n_replicates": 19, "confidence": 0.9}, r"`n_replicates` is 19; .* 0.9 needs 20 or more"),
        ({"seed": -1}, r"`seed` is -1; it must be 0 or more"),
    ],
)
def test_numbers_out_of_range_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        bootstrap_intervals(nothing, *TRIALS, **settings)


def test_the_least_number_of_replicates_is_enough():
    assert bootstrap_intervals(nothing, *TRIALS, n_replicates=20, confidence=0.9) == {"nothing": (0, 0)}
    assert bootstrap_intervals(nothing, *TRIALS, n_replicates=40) == {"nothing": (0, 0)}


def test_a_figure_that_is_no_number_is_refused():
    with pytest.raises(
        InputError, match=r"the figure 'of ann' is NaN for some weights; figures must be numbers"
    ):
        bootstrap_intervals(lambda own, _: {"of ann": 1.0 if own[0] else math.nan}, *TRIALS)
