"""Edits, error rates and their intervals, boundaries and confusions: by hand, by a slow twin, by another library."""

import time
import tracemalloc
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechgmm.errors import InputError
from speechgmm.metrics.boundaries import BoundaryAgreement, boundary_agreement
from speechgmm.metrics.sequences import (
    ErrorCounts,
    confusions,
    edit_alignment,
    error_counts,
    error_rate_interval,
    phone_error_rate,
    utterance_error_counts,
)

STRINGS = st.lists(st.sampled_from("ABCD"), max_size=12)
quick = settings(max_examples=150, deadline=None)


@dataclass
class Piece:
    """What `boundary_agreement` asks of a segment."""

    start: float
    end: float
    label: str


def pieces(*ends_and_labels, start=0.0):
    """Segments that follow one another."""
    result = []
    for end, label in ends_and_labels:
        result.append(Piece(start, end, label))
        start = end
    return result


def best_by_loops(reference, hypothesis):
    """Fewest edits and, with them, the most correct labels; the textbook recursion."""
    table = {}
    for i, j in product(range(len(reference) + 1), range(len(hypothesis) + 1)):
        ways = [] if i or j else [(0, 0)]
        if i:
            ways.append((table[i - 1, j][0] + 1, table[i - 1, j][1]))
        if j:
            ways.append((table[i, j - 1][0] + 1, table[i, j - 1][1]))
        if i and j:
            same = reference[i - 1] == hypothesis[j - 1]
            ways.append((table[i - 1, j - 1][0] + (not same), table[i - 1, j - 1][1] - same))
        table[i, j] = min(ways)
    edits, minus_correct = table[len(reference), len(hypothesis)]
    return edits, -minus_correct


def random_strings(n_strings, length, seed=0, n_labels=39):
    rng = np.random.default_rng(seed)
    references = [[f"p{code}" for code in rng.integers(n_labels, size=length)] for _ in range(n_strings)]
    heard = [[f"p{rng.integers(n_labels)}" if rng.random() < 0.2 else one for one in r] for r in references]
    return references, [[one for one in r if rng.random() > 0.1] for r in heard]


def test_alignment_by_hand():
    found = edit_alignment(["DH", "IH", "S", "IH", "Z"], ["DH", "AH", "S", "Z", "T"])
    assert found.pairs == ((0, 0), (1, 1), (2, 2), (3, None), (4, 3), (None, 4))
    assert found.counts == ErrorCounts(n_reference=5, n_correct=3, substitutions=1, deletions=1, insertions=1)
    assert found.counts.rate == 3 / 5


def test_of_equally_few_edits_the_most_correct():
    found = edit_alignment(["a", "b"], ["b", "c"])
    assert found.pairs == ((0, None), (1, 0), (None, 1))
    assert found.counts == ErrorCounts(2, n_correct=1, deletions=1, insertions=1)


def test_what_is_left_is_decided_from_the_end():
    assert edit_alignment(["a", "a"], ["a"]).pairs == ((0, None), (1, 0))
    assert edit_alignment(["a"], ["a", "a"]).pairs == ((None, 0), (0, 1))
    assert edit_alignment(["a", "b"], ["c"]).pairs == ((0, None), (1, 0))


def test_empty_strings():
    assert edit_alignment([], []).pairs == ()
    assert edit_alignment(["a"], []).counts == ErrorCounts(1, deletions=1)
    assert edit_alignment([], ["a", "b"]).counts == ErrorCounts(insertions=2)
    assert utterance_error_counts([["a"], []], [[], ["b"]]) == [
        ErrorCounts(1, deletions=1),
        ErrorCounts(insertions=1),
    ]


def test_labels_of_any_kind():
    assert edit_alignment([1, 2, (3, 4)], [1, (3, 4)]).counts == ErrorCounts(3, n_correct=2, deletions=1)
    nan = float("nan")  # not equal to itself, but the same label
    assert edit_alignment([nan, 1.0], [nan]).counts == ErrorCounts(2, n_correct=1, deletions=1)


@quick
@given(STRINGS, STRINGS)
def test_alignment_agrees_with_the_slow_twin(reference, hypothesis):
    found = edit_alignment(reference, hypothesis)
    assert (found.counts.errors, found.counts.n_correct) == best_by_loops(reference, hypothesis)
    assert utterance_error_counts([reference], [hypothesis]) == [found.counts]
    # The pairs say what the counts say, and use every label once and in order.
    assert [i for i, _ in found.pairs if i is not None] == list(range(len(reference)))
    assert [j for _, j in found.pairs if j is not None] == list(range(len(hypothesis)))
    same = [reference[i] == hypothesis[j] for i, j in found.pairs if i is not None and j is not None]
    assert (sum(same), len(same) - sum(same)) == (found.counts.n_correct, found.counts.substitutions)


@quick
@given(STRINGS, STRINGS, STRINGS)
def test_edits_are_a_distance(a, b, c):
    def distance(x, y):
        return error_counts([x], [y]).errors

    assert distance(a, a) == 0
    assert (distance(a, b) == 0) == (a == b)
    assert distance(a, c) <= distance(a, b) + distance(b, c)
    there, back = error_counts([a], [b]), error_counts([b], [a])
    assert (there.n_correct, there.substitutions) == (back.n_correct, back.substitutions)
    assert (there.deletions, there.insertions) == (back.insertions, back.deletions)


def test_edits_agree_with_rapidfuzz():
    distance = pytest.importorskip("rapidfuzz.distance").Levenshtein.distance
    references, hypotheses = random_strings(60, 80)
    counts = utterance_error_counts(references, hypotheses)
    assert [one.errors for one in counts] == [
        distance(r, h) for r, h in zip(references, hypotheses, strict=True)
    ]


def test_rate_agrees_with_jiwer():
    jiwer = pytest.importorskip("jiwer")
    references, hypotheses = random_strings(30, 100, seed=1)
    expected = jiwer.wer([" ".join(one) for one in references], [" ".join(one) for one in hypotheses])
    # One division on both sides.
    assert phone_error_rate(references, hypotheses) == pytest.approx(expected, rel=1e-12)


def test_speed():
    # Measured 0.09 s and 0.02 s on one laptop core; the limits leave room for a busy one.
    references, hypotheses = random_strings(206, 150)
    start = time.perf_counter()
    error_counts(references, hypotheses)
    assert time.perf_counter() - start < 1.0
    (long,), (heard,) = random_strings(1, 1000)
    start = time.perf_counter()
    edit_alignment(long, heard)
    assert time.perf_counter() - start < 0.5


def test_counts_of_long_strings_take_no_table():
    (long,), (heard,) = random_strings(1, 1500)
    tracemalloc.start()
    try:
        error_counts([long], [heard])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # The table of all pairs takes 18 MB; a row of it for each label and what a few rows take is far less.
    assert peak < 4e6


def test_counts_add():
    references, hypotheses = random_strings(5, 20)
    one_by_one = [edit_alignment(r, h).counts for r, h in zip(references, hypotheses, strict=True)]
    assert sum(one_by_one, ErrorCounts()) == error_counts(references, hypotheses)
    assert ErrorCounts(3, 1, 1, 1, 2) + ErrorCounts(1, 1) == ErrorCounts(4, 2, 1, 1, 2)


def test_bad_strings():
    with pytest.raises(InputError, match=r"is the text 'DH IH S'; split it first"):
        edit_alignment("DH IH S", ["DH"])
    with pytest.raises(InputError, match="a label cannot be compared"):
        edit_alignment([["DH"]], ["DH"])
    with pytest.raises(InputError, match="2 references and 1 hypotheses"):
        error_counts([["a"], ["b"]], [["a"]])
    with pytest.raises(InputError, match="2 references and 1 hypotheses"):
        confusions([["a"], ["b"]], [["a"]])
    with pytest.raises(InputError, match="hold no label, so there is no error rate"):
        phone_error_rate([[]], [["a"]])
    with pytest.raises(InputError, match="strings of 12000 and 12000 labels are too long"):
        edit_alignment(range(12000), range(12000))


def speaker_counts(n_speakers, per_speaker=8, seed=0):
    """Speakers whose own error rates differ, and so their utterances' hardly at all."""
    rng = np.random.default_rng(seed)
    counts, speakers = [], []
    for speaker, rate in enumerate(rng.uniform(0.1, 0.5, n_speakers)):
        for errors in rng.binomial(100, rate, per_speaker):
            counts.append(ErrorCounts(100, 100 - errors, substitutions=int(errors)))
            speakers.append(f"s{speaker}")
    return counts, speakers


def test_interval_of_speakers_is_wider_than_of_utterances():
    counts, speakers = speaker_counts(20)
    by_speaker = error_rate_interval(counts, speakers)
    by_utterance = error_rate_interval(counts, speakers, least_speakers=21)
    assert (by_speaker.resampled, by_speaker.n_resampled) == ("speakers", 20)
    assert (by_utterance.resampled, by_utterance.n_resampled) == ("utterances", 160)
    assert by_speaker.rate == by_utterance.rate == sum(counts, ErrorCounts()).rate
    assert by_speaker.low < by_utterance.low < by_speaker.rate < by_utterance.high < by_speaker.high
    # Nearly all variance is the speakers': theory says sqrt(8) times as wide, less binomial noise; 2 is far from 1.
    assert by_speaker.high - by_speaker.low > 2 * (by_utterance.high - by_utterance.low)


def test_interval_is_as_wide_as_theory_says():
    # Independent utterances of 100 phones at 30 %: the rate of 400 has a deviation of sqrt(.21 / 40000) = 0.0023.
    errors = np.random.default_rng(1).binomial(100, 0.3, 400)
    counts = [ErrorCounts(100, 100 - int(n), substitutions=int(n)) for n in errors]
    found = error_rate_interval(counts, [str(n) for n in range(400)], n_replicates=2000)
    # Ten per cent: what the draw of 400 and of 2000 replicates may move the ends.
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.00229, rel=0.1)


def test_interval_repeats():
    counts, speakers = speaker_counts(12)
    assert error_rate_interval(counts, speakers, seed=3) == error_rate_interval(counts, speakers, seed=3)
    assert error_rate_interval(counts, speakers, seed=3) != error_rate_interval(counts, speakers, seed=4)


def test_interval_of_utterances_without_labels():
    found = error_rate_interval([ErrorCounts(10, 9, 1), ErrorCounts()], ["a", "b"], n_replicates=100)
    assert (found.rate, found.low, found.high) == (0.1, 0.1, 0.1)


def test_bad_intervals():
    counts, speakers = speaker_counts(3)
    with pytest.raises(InputError, match="24 counts and 3 speakers"):
        error_rate_interval(counts, speakers[:3])
    with pytest.raises(InputError, match="`confidence` is 95"):
        error_rate_interval(counts, speakers, confidence=95)
    with pytest.raises(InputError, match="`n_replicates` is 10"):
        error_rate_interval(counts, speakers, n_replicates=10)
    with pytest.raises(InputError, match="no error rate"):
        error_rate_interval([], [])


def test_boundaries_by_hand():
    reference = pieces((0.5, "SIL"), (0.6, "DH"), (0.7, "IH"), (0.8, "S"))
    hypothesis = pieces((0.51, "SIL"), (0.63, "DH"), (0.8, "S"), start=0.0)
    found = boundary_agreement(reference, hypothesis)
    # IH is missed; the start, and the ends of SIL (10 ms late), DH (30 ms late) and S are compared.
    assert (found.n_reference, found.n_hypothesis, found.n_matched) == (5, 4, 4)
    assert found.n_within == (3, 3, 4)
    assert found.shares == (3 / 5, 3 / 5, 4 / 5)
    assert found.mean_deviation == pytest.approx(0.01)
    assert found.mean_absolute_deviation == pytest.approx(0.01)


def test_boundaries_of_substitutions_count_and_the_first_start_needs_its_pair():
    reference = pieces((0.1, "A"), (0.2, "B"))
    substituted = boundary_agreement(reference, pieces((0.08, "C"), (0.2, "B")), tolerances=(0.015, 0.03))
    assert (substituted.n_matched, substituted.n_within) == (3, (2, 3))
    assert substituted.deviation == pytest.approx(-0.02)
    shifted = boundary_agreement(reference, pieces((0.2, "B"), start=0.1))
    assert (shifted.n_reference, shifted.n_matched, shifted.n_within) == (3, 1, (1, 1, 1))


def test_boundaries_exactly_at_a_tolerance_are_found():
    # 0.29 + 0.01 and 0.3 differ in binary.
    found = boundary_agreement(pieces((0.29, "A")), pieces((0.30, "A")), tolerances=(0.01,))
    assert found.n_within == (2,)
    found = boundary_agreement(pieces((0.29, "A")), pieces((0.3001, "A")), tolerances=(0.01,))
    assert found.n_within == (1,)


def test_boundaries_add():
    one = boundary_agreement(pieces((0.1, "A")), pieces((0.13, "A")))
    both = one + boundary_agreement(pieces((0.1, "A"), (0.2, "B")), pieces((0.1, "A")))
    assert both == BoundaryAgreement((0.01, 0.02, 0.05), 5, 4, 4, (3, 3, 4), both.deviation, 0.13 - 0.1)
    nothing = boundary_agreement([], [])
    assert nothing + one == one
    assert (nothing.shares, nothing.mean_deviation, nothing.mean_absolute_deviation) == ((0, 0, 0), 0, 0)
    with pytest.raises(InputError, match=r"within \(0.01, 0.02, 0.05\) s and \(0.1,\) s do not add"):
        one + boundary_agreement([], [], tolerances=(0.1,))


def test_bad_tolerances():
    for tolerances in ((), (0.01, 0.0), (float("nan"),)):
        with pytest.raises(InputError, match=r"`tolerances` are .*all above 0"):
            boundary_agreement([], [], tolerances)


def test_confusions_by_hand():
    found = confusions([["A", "B", "B"], ["A"]], [["A", "C", "B", "B"], ["B"]])
    assert found.labels == ("A", "B", "C")
    assert found.matrix.tolist() == [[1, 1, 0, 0], [0, 2, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]]
    assert found.most_frequent() == [("A", "B", 1), (None, "C", 1)]
    assert found.most_frequent(1) == [("A", "B", 1)]


def test_confusions_hold_all_counts():
    references, hypotheses = random_strings(20, 60)
    found, counts = confusions(references, hypotheses), error_counts(references, hypotheses)
    assert np.trace(found.matrix) == counts.n_correct
    assert found.matrix[:, -1].sum() == counts.deletions
    assert found.matrix[-1].sum() == counts.insertions
    assert found.matrix[:-1].sum() == counts.n_reference
    wrong = found.most_frequent(10**6)
    assert sum(count for *_, count in wrong) == counts.errors
    assert [count for *_, count in wrong] == sorted((count for *_, count in wrong), reverse=True)
