"""phones.tuning: the weights of a language model, chosen on development data."""

import numpy as np
import pytest

from speechgmm.errors import InputError
from speechgmm.metrics.sequences import ErrorCounts, error_counts
from speechgmm.parallel import no_progress
from speechgmm.phones.network import LoopWeights
from speechgmm.phones.tuning import MOST_ROUNDS, _descend, _neighbours, tune_weights
from tests.test_recogniser import made, said_by

STARTS = [
    LoopWeights(),
    LoopWeights(0.0, 0.0),
    LoopWeights(12.0, -8.0),
    LoopWeights(1.0, 30.0),
    LoopWeights(0.5, -60.0),
]


def development(spread=0.8, n_utterances=15):
    recogniser = made(spread)
    strings, frames = said_by(recogniser.hmms, n_utterances, 12, seed=4)
    return recogniser, frames, strings


def counted(recogniser, frames, strings):
    """Errors of all phones but silence, by the recogniser itself."""

    def spoken(phones):
        return [phone for phone in phones if phone != "A"]

    found = [[one.label for one in recogniser.recognise(own).phones] for own in frames]
    return error_counts(list(map(spoken, strings)), list(map(spoken, found)))


@pytest.mark.parametrize("start", STARTS)
def test_tuned_weights_are_no_worse_than_the_start_and_the_best_that_were_tried(start):
    recogniser, frames, strings = development()
    recogniser = recogniser.with_weights(start)
    tuning = tune_weights(recogniser, frames, strings)
    tried = dict(tuning.tried)
    assert len(tried) == len(tuning.tried)
    assert tuning.counts.rate <= tried[start]
    assert tuning.counts.rate == tried[tuning.weights] == min(tried.values())
    assert min(weights.language_model for weights in tried) >= 0
    # The figures are those of recognition with these weights.
    for weights in (start, tuning.weights):
        assert counted(recogniser.with_weights(weights), frames, strings).rate == tried[weights]
    assert tuning.counts == counted(recogniser.with_weights(tuning.weights), frames, strings)


def test_weights_far_off_are_left_behind():
    recogniser, frames, strings = development()
    far = LoopWeights(1.0, 30.0)
    tuning = tune_weights(recogniser.with_weights(far), frames, strings)
    # With 30 nats for every phone no phone is right; the search leaves that far behind.
    assert tuning.counts.rate < dict(tuning.tried)[far] - 0.3


def test_the_same_for_any_number_of_workers():
    recogniser, frames, strings = development(n_utterances=6)
    assert tune_weights(recogniser, frames, strings, n_jobs=2) == tune_weights(recogniser, frames, strings)


def test_silence_counts_for_nothing():
    recogniser, frames, strings = development(n_utterances=6)
    without = [[phone for phone in own if phone != "A"] for own in strings]
    assert tune_weights(recogniser, frames, without) == tune_weights(recogniser, frames, strings)


def test_progress_is_told_of_every_trial():
    recogniser, frames, strings = development(n_utterances=3)
    told = []
    tuning = tune_weights(recogniser, frames, strings, progress=lambda *done: told.append(done))
    assert [(stage, done) for stage, done, _ in told] == [
        ("weights", number) for number in range(1, len(tuning.tried) + 1)
    ]
    assert all(done <= total for _, done, total in told)


@pytest.mark.parametrize(
    ("frames", "phones", "message"),
    [
        ([], [], "0 utterances came with 0 strings of phones to tune on"),
        ([np.zeros((9, 4))], [], "1 utterances came with 0 strings of phones to tune on"),
        ([np.zeros((9, 4))], [["B"]] * 2, "1 utterances came with 2 strings"),
        ([np.zeros((9, 4))], ["A B A"], "a string of phones is 'A B A'; split it into a list of phones"),
        ([np.zeros((9, 4))], [["A"]], r"the references hold no label.* \(nothing but silence left out\?\)"),
        ([np.zeros((9, 5))], [["B"]], "frames have 5 values; the recogniser needs 4"),
        ([np.zeros((0, 4))], [["B"]], "no unit fits into the 0 frames"),
    ],
)
def test_what_cannot_be_tuned_on(frames, phones, message):
    with pytest.raises(InputError, match=message):
        tune_weights(made(), frames, phones)


# The search alone


def searched(errors_of, start):
    """What the search finds where errors are a function of the weights, and how often it asks."""
    asked = []

    def errors(weights):
        asked.append(weights)
        n_errors = round(errors_of(weights.language_model, weights.insertion))
        return ErrorCounts(n_reference=10**6, deletions=n_errors)

    return _descend(errors, start, no_progress), asked


@pytest.mark.parametrize("start", STARTS[:3])
def test_the_bottom_of_a_bowl_is_found_on_the_finest_grid(start):
    # A bottom on the grid of every start: half a unit and one nat are the last steps.
    tuning, asked = searched(lambda x, y: 1000 * ((x - 5.0) ** 2 + (y + 2.0) ** 2 / 4), start)
    assert len(asked) == len(set(asked)) == len(tuning.tried)
    assert tuning.weights == LoopWeights(5.0, -2.0)
    assert tuning.counts.errors == 0


def test_neighbours_differ_by_a_step_and_no_weight_is_negative():
    found = {(one.language_model, one.insertion) for one in _neighbours(LoopWeights(1.5, 3.0), 1.0)}
    assert found == {(3.5, 3.0), (0.0, 3.0), (1.5, 7.0), (1.5, -1.0), (3.5, -1.0), (0.0, 7.0)}


def test_the_search_ends():
    # Ever fewer errors with every step: it goes as far as it may, and equal errors are no reason to move.
    tuning, asked = searched(lambda x, y: 10**6 - 100 * y, LoopWeights(1.0, 0.0))
    assert tuning.weights.insertion == 4.0 * MOST_ROUNDS
    flat, asked = searched(lambda x, y: 7, LoopWeights(1.0, 0.0))
    assert flat.weights == LoopWeights(1.0, 0.0)
    assert len(asked) <= 1 + 3 * 6


def test_the_recogniser_stays_what_it_was():
    recogniser, frames, strings = development(n_utterances=3)
    before = recogniser.weights
    tune_weights(recogniser, frames, strings)
    assert recogniser.weights is before
