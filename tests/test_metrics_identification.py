"""Figures of identification, against scikit-learn and published values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechgmm.errors import InputError
from speechgmm.metrics.identification import (
    ClassResult,
    accuracy,
    confusion_matrix,
    per_class,
    top_confusions,
    wilson_interval,
)

TRUTH = ["a", "a", "a", "b", "b", "c"]
DECIDED = ["a", "b", "unknown", "b", "a", "b"]


def random_decisions(seed, n=500, n_classes=7, strangers=True):
    rng = np.random.default_rng(seed)
    names = np.array([f"speaker {i}" for i in range(n_classes)])
    truth = names[rng.integers(n_classes, size=n)]
    choice = np.append(names, "unknown") if strangers else names
    guess = choice[rng.integers(len(choice), size=n)]
    return truth, np.where(rng.random(n) < 0.6, truth, guess), names


def test_accuracy_counts_what_is_right():
    assert accuracy(TRUTH, DECIDED) == 2 / 6
    assert accuracy(np.array([1, 2, 3]), [1, 2, 4]) == 2 / 3
    assert accuracy(np.array(["long name", "b"], dtype=object), ["long", "b"]) == 0.5


def test_the_confusion_matrix_leaves_out_decisions_that_are_no_class():
    assert confusion_matrix(TRUTH, DECIDED, ["b", "a", "c"]).tolist() == [[1, 1, 0], [1, 1, 0], [1, 0, 0]]
    assert confusion_matrix(TRUTH, DECIDED, ["a", "b", "c", "unknown"])[0].tolist() == [1, 1, 0, 1]


def test_results_of_a_class_by_hand():
    assert per_class(TRUTH, DECIDED, ["b", "a", "c", "d"]) == [
        ClassResult("b", n=2, correct=1, recall=1 / 2, precision=1 / 3, f1=2 / 5),
        ClassResult("a", n=3, correct=1, recall=1 / 3, precision=1 / 2, f1=2 / 5),
        ClassResult("c", n=1, correct=0, recall=0.0, precision=0.0, f1=0.0),
        ClassResult("d", n=0, correct=0, recall=0.0, precision=0.0, f1=0.0),
    ]
    assert per_class(["a"], ["a"], ["a"]) == [ClassResult("a", 1, 1, recall=1.0, precision=1.0, f1=1.0)]


def test_labels_may_be_integers():
    assert confusion_matrix([5, 5, 9], [9, 5, 7], [9, 5]).tolist() == [[0, 0], [1, 1]]
    assert [(row.label, row.n) for row in per_class([5, 5, 9], [9, 5, 7], [9, 5])] == [(9, 1), (5, 2)]
    assert top_confusions([5, 5, 9], [9, 5, 7]) == [(5, 9, 1), (9, 7, 1)]


@pytest.mark.parametrize("seed", range(5))
def test_the_figures_are_those_of_scikit_learn(seed):
    from sklearn import metrics

    truth, decided, names = random_decisions(seed)
    labels = names[np.random.default_rng(seed).permutation(len(names))]
    assert accuracy(truth, decided) == metrics.accuracy_score(truth, decided)
    np.testing.assert_array_equal(
        confusion_matrix(truth, decided, labels), metrics.confusion_matrix(truth, decided, labels=labels)
    )
    precision, recall, f1, n = metrics.precision_recall_fscore_support(truth, decided, labels=labels)
    results = per_class(truth, decided, labels)
    assert [row.label for row in results] == labels.tolist()
    assert [row.n for row in results] == n.tolist()
    # The same few operations in another order: a rounding or two apart.
    np.testing.assert_allclose([row.recall for row in results], recall, rtol=1e-15)
    np.testing.assert_allclose([row.precision for row in results], precision, rtol=1e-15)
    np.testing.assert_allclose([row.f1 for row in results], f1, rtol=1e-14)


def test_top_confusions_are_the_wrong_decisions_most_frequent_first_then_by_name():
    truth = ["b", "a", "a", "c", "c", "a", "a"]
    decided = ["a", "c", "unknown", "a", "a", "b", "a"]
    everything = [("c", "a", 2), ("a", "b", 1), ("a", "c", 1), ("a", "unknown", 1), ("b", "a", 1)]
    assert top_confusions(truth, decided) == everything
    assert top_confusions(truth, decided, n=1) == everything[:1]
    assert top_confusions(truth, decided, n=2) == everything[:2]
    assert top_confusions(["a"], ["a"]) == []


def test_top_confusions_agree_with_the_matrix():
    truth, decided, names = random_decisions(0, strangers=False)
    matrix = confusion_matrix(truth, decided, names)
    listed = top_confusions(truth, decided, n=1000)
    assert sum(count for *_, count in listed) == matrix.sum() - np.trace(matrix)
    for first, second, count in listed:
        assert matrix[names.tolist().index(first), names.tolist().index(second)] == count


# Newcombe (1998), Statistics in Medicine 17, 857-872, table I, method 3: four digits.
@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_the_wilson_interval_is_the_published_one(correct, total, low, high):
    assert wilson_interval(correct, total) == pytest.approx((low, high), abs=5e-5)


@given(total=st.integers(1, 10_000), data=st.data(), confidence=st.floats(0.5, 0.999))
def test_the_wilson_bounds_are_where_the_score_test_just_rejects(total, data, confidence):
    from scipy.stats import norm

    correct = data.draw(st.integers(0, total))
    low, high = wilson_interval(correct, total, confidence)
    assert 0 <= low <= correct / total <= high <= 1
    # The definition: |share - p| = z sqrt(p (1 - p) / n); squared, so that a bound near 0 or 1 does not
    # magnify the rounding of p.
    z = norm.ppf((1 + confidence) / 2)
    for bound in (low, high):
        assert (correct / total - bound) ** 2 == pytest.approx(
            z * z * bound * (1 - bound) / total, rel=1e-6, abs=1e-12
        )


def test_none_and_all_correct_give_exact_ends():
    for total in range(1, 200):
        assert wilson_interval(0, total)[0] == 0.0
        assert wilson_interval(total, total)[1] == 1.0


def test_more_confidence_is_a_wider_interval():
    low, high = wilson_interval(90, 100)
    wider_low, wider_high = wilson_interval(90, 100, confidence=0.99)
    assert wider_low < low < 0.9 < high < wider_high


@pytest.mark.parametrize(("correct", "total"), [(-1, 5), (6, 5), (0, 0), (0, -1)])
def test_impossible_counts_are_refused(correct, total):
    with pytest.raises(InputError, match=f"^{correct} correct of {total}: there must be one or more"):
        wilson_interval(correct, total)


@pytest.mark.parametrize("confidence", [0, 1, 95, float("nan")])
def test_a_confidence_that_is_no_fraction_is_refused(confidence):
    with pytest.raises(
        InputError, match=rf"`confidence` is {confidence}; it must be between 0 and 1 \(a per c"
    ):
        wilson_interval(1, 2, confidence)


@pytest.mark.parametrize(
    ("truth", "decided", "message"),
    [
        (["a", "b"], ["a"], r"`truth` has 2 labels, `decided` has 1; they must be of the same utterances"),
        ([], [], r"`truth` has the shape \(0,\); it must be one label or more, in one row"),
        ("a", ["a"], r"`truth` has the shape \(\); it must be one label or more"),
        (["a"], [["a"]], r"`decided` has the shape \(1, 1\); it must be one label or more"),
        (["a", None], ["a", "b"], r"`truth` holds object; labels are text or integers"),
        ([0.5], [0.5], r"`truth` holds float64; labels are text or integers"),
        (["1"], [1], r"truth and decided: some are text and some integers, which are never equal"),
    ],
)
def test_labels_that_cannot_be_compared_are_refused(truth, decided, message):
    for figure in (accuracy, top_confusions, lambda *both: confusion_matrix(*both, labels=["a", "b"])):
        with pytest.raises(InputError, match=message.replace("truth and decided:", "truth and decided.*:")):
            figure(truth, decided)


def test_a_truth_that_is_no_class_is_refused():
    message = r"`truth` holds 2 labels that are not among the 1 of `labels`, such as 'b'"
    for figure in (confusion_matrix, per_class):
        with pytest.raises(InputError, match=message):
            figure(TRUTH, DECIDED, ["a"])


def test_repeated_classes_are_refused():
    with pytest.raises(InputError, match=r"`labels` has 'a' more than once"):
        confusion_matrix(TRUTH, DECIDED, ["a", "b", "c", "a"])


def test_no_confusions_asked_for_is_refused():
    with pytest.raises(InputError, match=r"`n` is 0; it must be 1 or more"):
        top_confusions(TRUTH, DECIDED, n=0)
