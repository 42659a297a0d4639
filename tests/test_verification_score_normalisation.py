"""Score normalisation, against plain loops and hand-computed cases."""

import math
import statistics
import time
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechgmm.errors import InputError, SpeechGMMWarning
from speechgmm.verification.score_normalisation import (
    METHODS,
    NEEDS,
    normalise_scores,
    refuse_cohort_targets,
)


def naive(scores, models, tests, method, model_cohort, test_cohort, cohort_cohort, top_n):
    """Every method, trial after trial."""

    def distance(score, row, top=None):
        row = [value for value in row if not math.isnan(value)]
        row = sorted(row, reverse=True)[:top]
        mean = sum(row) / len(row)
        return (score - mean) / math.sqrt(sum((value - mean) ** 2 for value in row) / len(row))

    results = []
    for score, model, test in zip(scores, models, tests, strict=True):
        z = distance(score, model_cohort[model])
        t = distance(score, test_cohort[test])
        if method == "zt":
            zeroed = [
                distance(value, row) for value, row in zip(test_cohort[test], cohort_cohort, strict=True)
            ]
            result = distance(z, zeroed)
        elif method == "adaptive_s":
            result = (
                distance(score, model_cohort[model], top_n) + distance(score, test_cohort[test], top_n)
            ) / 2
        else:
            result = {"none": score, "z": z, "t": t, "s": (z + t) / 2}[method]
        results.append(result)
    return results


def example(seed=0, n_models=5, n_tests=8, n_cohort_models=11, n_cohort_utterances=13, left_out=0.1):
    """Trials and the three cohort matrices, some pairs of which are left out."""
    rng = np.random.default_rng(seed)
    cohorts = {
        "model_cohort": rng.normal(1.0, 2.0, (n_models, n_cohort_utterances)),
        "test_cohort": rng.normal(-3.0, 0.5, (n_tests, n_cohort_models)),
        "cohort_cohort": rng.normal(0.0, 1.0, (n_cohort_models, n_cohort_utterances)),
    }
    for matrix in cohorts.values():
        matrix[rng.random(matrix.shape) < left_out] = np.nan
    models, tests = (np.repeat(np.arange(n_models), n_tests), np.tile(np.arange(n_tests), n_models))
    return rng.normal(size=n_models * n_tests), models, tests, cohorts


def normalised(method, seed=0, **changes):
    scores, models, tests, cohorts = example(seed)
    given = {"scores": scores, "models": models, "tests": tests} | cohorts
    given["top_n"] = 4 if method == "adaptive_s" else None
    return normalise_scores(method=method, **(given | changes))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_is_what_plain_loops_find(method, seed):
    scores, models, tests, cohorts = example(seed)
    expected = naive(scores, models, tests, method, *cohorts.values(), 4)
    # The same sums in another order.
    assert normalised(method, seed=seed) == pytest.approx(expected, rel=1e-10, abs=1e-10)


@given(
    n_models=st.integers(1, 4),
    n_tests=st.integers(1, 4),
    top_n=st.integers(2, 12),
    seed=st.integers(0, 2**20),
)
def test_adaptive_s_is_what_plain_loops_find(n_models, n_tests, top_n, seed):
    scores, models, tests, cohorts = example(seed, n_models, n_tests, 12, 15, left_out=0.0)
    del cohorts["cohort_cohort"]
    # Many ties, among which it must not matter who is taken.
    cohorts = {name: np.round(matrix, 1) for name, matrix in cohorts.items()}
    for matrix in cohorts.values():
        matrix[:, 0] = matrix.max(1) + 1
    expected = naive(scores, models, tests, "adaptive_s", *cohorts.values(), None, top_n)
    found = normalise_scores(scores, models, tests, "adaptive_s", top_n=top_n, **cohorts)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_by_hand():
    model_cohort, test_cohort = [[1.0, 3.0]], [[0.0, 4.0, np.nan, 8.0]]
    trial = ([6.0], [0], [0])
    z = 4.0
    t = 2.0 / statistics.pstdev([0, 4, 8])
    assert normalise_scores(*trial, "z", model_cohort=model_cohort).tolist() == [z]
    assert normalise_scores(*trial, "t", test_cohort=test_cohort) == pytest.approx([t], rel=1e-14)
    both = {"model_cohort": model_cohort, "test_cohort": test_cohort}
    assert normalise_scores(*trial, "s", **both) == pytest.approx([(z + t) / 2], rel=1e-14)
    # The two highest of the test's side are 4 and 8.
    assert normalise_scores(*trial, "adaptive_s", top_n=2, **both).tolist() == [(z + 0.0) / 2]
    # Cohort models' own cohort scores are 0 ± 1 and 2 ± 2, so the test's 0 and 4 become 0 and 1, which are
    # 1/2 ± 1/2.
    zt = normalise_scores(
        *trial,
        "zt",
        model_cohort=model_cohort,
        test_cohort=[[0.0, 4.0]],
        cohort_cohort=[[-1.0, 1.0, np.nan], [np.nan, 0.0, 4.0]],
    )
    assert zt.tolist() == [(z - 0.5) / 0.5]


def test_none_returns_the_scores_and_looks_at_no_cohort():
    scores = np.array([1.5, -2.0])
    found = normalise_scores(scores, [0, 7], [3, 3], "none", model_cohort="nonsense")
    assert found.tolist() == scores.tolist()
    assert found is not scores


def test_a_shift_of_one_models_scores_is_undone():
    """What it is for: models whose scores are all high, or spread, become comparable."""
    scores, models, _, cohorts = example()
    shift, spread = np.array([0.0, 5.0, -3.0, 1.0, 40.0]), np.array([1.0, 2.0, 0.1, 1.0, 9.0])
    plain = normalised("z")
    moved = normalised(
        "z",
        scores=scores * spread[models] + shift[models],
        model_cohort=cohorts["model_cohort"] * spread[:, None] + shift[:, None],
    )
    assert moved == pytest.approx(plain, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_a_trial_alone_gets_the_bits_it_gets_among_others(method):
    scores, models, tests, _ = example()
    together = normalised(method)
    for trial in (0, 17, 39):
        one = slice(trial, trial + 1)
        alone = normalised(method, scores=scores[one], models=models[one], tests=tests[one])
        assert alone[0] == together[trial]


@pytest.mark.parametrize("method", METHODS)
def test_many_rows_are_taken_in_parts(method, monkeypatch):
    whole = normalised(method)
    monkeypatch.setattr("speechgmm.verification.score_normalisation.ROWS", 2)
    assert normalised(method).tolist() == whole.tolist()


@pytest.mark.parametrize("method", METHODS)
def test_no_trials_give_no_scores(method):
    assert normalised(method, scores=[], models=[], tests=[]).shape == (0,)


def test_rows_that_no_trial_names_are_not_looked_at():
    scores, models, tests, cohorts = example()
    cohorts["model_cohort"][4] = np.nan
    named = models != 4
    found = normalised(
        "z",
        scores=scores[named],
        models=models[named],
        tests=tests[named],
        model_cohort=cohorts["model_cohort"],
    )
    assert found.tolist() == normalised("z")[named].tolist()


def test_input_is_not_changed():
    scores, models, tests, cohorts = example()
    before = [scores.copy(), *(matrix.copy() for matrix in cohorts.values())]
    for method in METHODS:
        normalise_scores(
            scores, models, tests, method, top_n=3 if method == "adaptive_s" else None, **cohorts
        )
    for old, new in zip(before, [scores, *cohorts.values()], strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("method", [method for method in METHODS if method != "none"])
def test_a_cohort_that_is_missing_is_named(method):
    for name in NEEDS[method]:
        with pytest.raises(InputError, match=rf"the method {method} needs `{name}`, of shape \(n_"):
            normalised(method, **{name: None})


@pytest.mark.parametrize(
    ("method", "changes", "message"),
    [
        ("a", {}, "`method` is 'a'; it can be none, z, t, zt, s, adaptive_s"),
        ("adaptive_s", {"top_n": None}, "`top_n` is None; adaptive_s needs a whole number from 2"),
        ("adaptive_s", {"top_n": 1}, "`top_n` is 1; adaptive_s needs"),
        ("adaptive_s", {"top_n": True}, "`top_n` is True; adaptive_s needs"),
        ("adaptive_s", {"top_n": 3.0}, r"`top_n` is 3\.0; adaptive_s needs"),
        ("s", {"top_n": 3}, "`top_n` is 3; it is for the method adaptive_s, not s"),
        ("z", {"scores": [[1.0]]}, r"`scores` has the shape \(1, 1\); it must be \(n,\)"),
        ("none", {"scores": [0.0, np.nan]}, "`scores` has 1 values that are not finite, first trial 1"),
        ("z", {"models": [0, 1]}, r"`models` is int64 of shape \(2,\); .* each of the 40 scores"),
        ("t", {"tests": np.zeros(40)}, r"`tests` is float64 of shape \(40,\)"),
        ("z", {"models": [5] * 40}, "`models` names row 5, but there are cohort scores of 5 models"),
        ("t", {"tests": [-1] * 40}, "`tests` names row -1, but there are cohort scores of 8 tests"),
        ("z", {"model_cohort": np.zeros(5)}, r"`model_cohort` has the shape \(5,\); it must be \(n_models, "),
        ("t", {"test_cohort": np.full((8, 3), np.inf)}, "`test_cohort` has infinite scores; .* or NaN"),
        ("z", {"model_cohort": np.zeros((5, 1))}, "row 0 of the models has 1 cohort scores; two or more"),
        ("z", {"model_cohort": np.full((5, 9), np.nan)}, "row 0 of the models has 0 cohort scores"),
        ("z", {"model_cohort": np.zeros((5, 0))}, "row 0 of the models has 0 cohort scores"),
        ("zt", {"cohort_cohort": np.zeros((4, 9))}, "`test_cohort` has 11 cohort models, `cohort_cohort` 4"),
        ("zt", {"cohort_cohort": np.ones((11, 9))}, "row 0 of the cohort models has the same score"),
    ],
)
def test_what_cannot_be_used_is_refused(method, changes, message):
    with pytest.raises(InputError, match=message):
        normalised(method, **changes)


@pytest.mark.parametrize("method", ["t", "s", "adaptive_s", "zt"])
def test_a_row_that_cannot_be_normalised_is_named(method):
    _, _, _, cohorts = example()
    cohorts["test_cohort"][3, 1:] = np.nan
    with pytest.raises(InputError, match=r"row 3 of the tests has \d cohort scores; two or more are needed"):
        normalised(method, test_cohort=cohorts["test_cohort"])
    with pytest.raises(InputError, match=r"row 3 of the tests"):
        normalised(method, scores=[1.0], models=[4], tests=[3], test_cohort=cohorts["test_cohort"])


def test_equal_cohort_scores_are_named_whatever_their_rounding():
    _, _, _, cohorts = example()
    # Ten times 0.1 have a mean that is not 0.1.
    cohorts["model_cohort"][2] = 0.1
    with pytest.raises(InputError, match="row 2 of the models has the same score for all of the cohort"):
        normalised("z", model_cohort=cohorts["model_cohort"])
    cohorts["model_cohort"][2] = 0.0
    with pytest.raises(InputError, match="row 2 of the models has the same score"):
        normalised("z", model_cohort=cohorts["model_cohort"])
    # Only the highest are looked at.
    cohorts["model_cohort"][2] = [*np.arange(9.0), *[20.0] * 4]
    with pytest.raises(InputError, match="row 2 of the models has the same score"):
        normalised("adaptive_s", model_cohort=cohorts["model_cohort"])


def test_fewer_than_top_n_are_all_taken_with_a_warning():
    scores, models, tests, cohorts = example()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = normalised("adaptive_s", top_n=13)
    assert {warning.category for warning in caught} == {SpeechGMMWarning}
    assert {warning.filename for warning in caught} == {__file__}
    short = int(np.isnan(cohorts["model_cohort"]).any(1).sum())
    assert [str(warning.message)[:46] for warning in caught] == [
        f"{short} of 5 models have fewer than `top_n` = 13 coh",
        "8 of 8 tests have fewer than `top_n` = 13 coho",
    ]
    expected = naive(scores, models, tests, "adaptive_s", *cohorts.values(), 13)
    assert found == pytest.approx(expected, rel=1e-10, abs=1e-10)


def test_exactly_top_n_are_no_reason_to_warn():
    cohorts = example(left_out=0.0)[3]
    found = normalised(
        "adaptive_s", top_n=11, **(cohorts | {"model_cohort": cohorts["model_cohort"][:, :11]})
    )
    assert found == pytest.approx(
        normalised("s", **(cohorts | {"model_cohort": cohorts["model_cohort"][:, :11]}))
    )


def test_scores_of_other_types_are_taken():
    _, models, tests, cohorts = example()
    single = {name: matrix.astype(np.float32) for name, matrix in cohorts.items()}
    wide = {name: matrix.astype(np.float64) for name, matrix in single.items()}
    found = normalised("s", models=models.astype(np.uint8), tests=tests.tolist(), **single)
    assert found.dtype == np.float64
    assert found.tolist() == normalised("s", **wide).tolist()


def test_nontargets_of_any_model_end_up_alike():
    """Simulated: models differ in level and spread; afterwards each has nontargets of mean 0 and deviation 1."""
    rng = np.random.default_rng(3)
    level, spread = rng.normal(0, 3, 20), rng.uniform(0.5, 4, 20)
    cohort = level[:, None] + spread[:, None] * rng.normal(size=(20, 4000))
    models = np.repeat(np.arange(20), 500)
    scores = level[models] + spread[models] * rng.normal(size=10_000)
    after = normalise_scores(scores, models, np.zeros(10_000, int), "z", model_cohort=cohort)
    by_model = after.reshape(20, 500)
    # Standard errors of 500 draws: 0.045 and 0.032.
    assert np.abs(by_model.mean(1)).max() < 0.2
    assert np.abs(by_model.std(1) - 1).max() < 0.15


def test_speed():
    """100 models, 5000 tests, 500 of cohort, all pairs: about 0.1 s, and never seconds."""
    rng = np.random.default_rng(4)
    models, tests = np.repeat(np.arange(100), 5000), np.tile(np.arange(5000), 100)
    cohorts = {"model_cohort": rng.normal(size=(100, 500)), "test_cohort": rng.normal(size=(5000, 500))}
    start = time.perf_counter()
    normalise_scores(rng.normal(size=500_000), models, tests, "adaptive_s", top_n=200, **cohorts)
    assert time.perf_counter() - start < 2.0


def test_a_cohort_is_of_other_speakers():
    refuse_cohort_targets(["a", "b"], ["c", "d"])
    with pytest.raises(
        InputError, match=r"2 speakers are both in the cohort and enrolled: b, c \(a cohort is"
    ):
        refuse_cohort_targets(["c", "a", "b", "b"], ["d", "c", "b"])
    many = [f"s{number:02}" for number in range(12)]
    with pytest.raises(InputError, match=r"12 speakers .*: s00, .*s09, … \("):
        refuse_cohort_targets(many, many)
