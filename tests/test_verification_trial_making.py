"""verification.trial_making: who enrols, who tests, and that nothing of one is in the other."""

import hashlib
import random
import warnings
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechgmm.errors import InputError, SpeechGMMWarning
from speechgmm.manifest import Utterance
from speechgmm.verification.trial_lists import Trial
from speechgmm.verification.trial_making import make_trials


def corpus(counts, sessions=1, words=1):
    """`counts` maps each speaker to a number of utterances, dealt out to sessions and words in turn."""
    return [
        Utterance(
            f"{who}{number}",
            f"{who}/{number}.wav",
            labels={
                "speaker": who,
                "session": f"{who}-{number % sessions}",
                "word": str(number % words),
                "gender": "f" if who < "c" else "m",
            },
        )
        for who, count in counts.items()
        for number in range(count)
    ]


def sha(*names):
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def targets(trials, model):
    return {trial.test for trial in trials if trial.model == model and trial.is_target}


def nontargets(trials, model):
    return {trial.test for trial in trials if trial.model == model and not trial.is_target}


def test_all_pairs_of_enrolment_and_tests():
    utterances = corpus({"a": 4, "b": 3, "c": 5})
    enrolment, trials = make_trials(utterances, n_enrol=2)
    assert {who: len(enrolled) for who, enrolled in enrolment.items()} == {"a": 2, "b": 2, "c": 2}
    assert list(enrolment) == ["a", "b", "c"]
    speakers = {utterance.id: utterance.labels["speaker"] for utterance in utterances}
    enrolled = {utterance.id for members in enrolment.values() for utterance in members}
    tests = set(speakers) - enrolled
    # The twin: every model with every test, by hand.
    assert trials == [
        Trial(model, test, speakers[test] == model) for model in "abc" for test in sorted(tests)
    ]


def test_enrolment_is_first_in_the_order_of_the_sha256():
    utterances = corpus({"a": 6, "b": 6})
    enrolment, trials = make_trials(utterances, n_enrol=2, per_speaker=3, seed=7)
    for who in "ab":
        order = sorted((f"{who}{number}" for number in range(6)), key=lambda name: sha("7", who, name))
        assert [utterance.id for utterance in enrolment[who]] == order[:2]
        assert targets(trials, who) == set(order[2:5])


def test_nontargets_are_first_in_the_order_of_the_sha256():
    utterances = corpus({"a": 4, "b": 6, "c": 6})
    _, everything = make_trials(utterances, n_enrol=2, seed=5)
    enrolment, trials = make_trials(utterances, n_enrol=2, nontargets_per_target=1, seed=5)
    order = sorted(nontargets(everything, "a"), key=lambda name: sha("5", "a", name))
    assert nontargets(trials, "a") == set(order[:2])  # as many as it has tests of its own
    assert [targets(trials, who) for who in "abc"] == [targets(everything, who) for who in "abc"]
    assert enrolment == make_trials(utterances, n_enrol=2, seed=5)[0]


def test_the_order_of_the_utterances_does_not_matter_and_the_seed_does():
    utterances = corpus({"a": 8, "b": 7, "c": 9}, sessions=3, words=2)
    shuffled = random.Random(0).sample(utterances, len(utterances))
    options = {"n_enrol": 2, "per_speaker": 2, "nontargets_per_target": 1}
    for more in ({}, {"balance": "word"}, {"apart": "session", "balance": "word"}):
        assert make_trials(utterances, **options, **more) == make_trials(shuffled, **options, **more)
    assert list(make_trials(shuffled, **options)[0]) == ["a", "b", "c"]
    made = [make_trials(utterances, **options, seed=seed) for seed in range(4)]
    assert len({tuple(trials) for _, trials in made}) == 4
    assert len({tuple(u.id for u in enrolment["a"]) for enrolment, _ in made}) > 1


@given(
    counts=st.lists(st.integers(1, 7), min_size=2, max_size=4),
    n_enrol=st.integers(1, 2),
    sessions=st.integers(1, 3),
    apart=st.sampled_from([None, "session", "word"]),
    balance=st.sampled_from([None, "word", "gender"]),
    per_target=st.sampled_from([None, 1, 2]),
    seed=st.integers(0, 100),
)
@settings(max_examples=150)
def test_no_test_enrols_anyone_and_nothing_that_is_kept_apart_is_shared(
    counts, n_enrol, sessions, apart, balance, per_target, seed
):
    utterances = corpus(dict(zip("abcd", counts, strict=False)), sessions=sessions, words=2)
    known = {utterance.id: utterance for utterance in utterances}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SpeechGMMWarning)
            enrolment, trials = make_trials(
                utterances,
                n_enrol=n_enrol,
                nontargets_per_target=per_target,
                apart=apart,
                balance=balance,
                seed=seed,
            )
    except InputError as error:
        assert "trials need two or more" in str(error) or "no nontarget trial is possible" in str(error)  # noqa: PT017
        return
    enrolled = {utterance.id for members in enrolment.values() for utterance in members}
    assert not enrolled & {trial.test for trial in trials}
    assert len({(trial.model, trial.test) for trial in trials}) == len(trials)
    assert trials == sorted(trials, key=lambda trial: (trial.model, trial.test))
    for trial in trials:
        test = known[trial.test]
        assert trial.is_target == (test.labels["speaker"] == trial.model)
        if apart:
            assert test.labels[apart] not in {u.labels[apart] for u in enrolment[trial.model]}
    for model, members in enrolment.items():
        assert len(members) == n_enrol
        assert targets(trials, model)
        if per_target:
            assert len(nontargets(trials, model)) <= per_target * len(targets(trials, model))


def test_apart_takes_as_few_sessions_as_it_can():
    utterances = corpus({"a": 12, "b": 12}, sessions=3)  # four utterances in each session
    enrolment, trials = make_trials(utterances, n_enrol=4, apart="session", seed=3)
    for who in "ab":
        first = min((f"{who}-{session}" for session in range(3)), key=lambda name: sha("3", who, name))
        assert {utterance.labels["session"] for utterance in enrolment[who]} == {first}
        assert len(targets(trials, who)) == 8


def test_apart_holds_for_nontargets_too():
    utterances = corpus({"a": 6, "b": 6, "c": 6}, words=3)
    enrolment, trials = make_trials(utterances, n_enrol=1, apart="word")
    word = {utterance.id: utterance.labels["word"] for utterance in utterances}
    for who in "abc":
        enrolled = enrolment[who][0].labels["word"]
        # Of each of two others' tests, four of two words that they did not enrol with; of those, not its word.
        words = Counter(word[test] for test in nontargets(trials, who))
        assert enrolled not in words and words
        assert enrolled not in {word[test] for test in targets(trials, who)}


def test_a_balanced_choice_has_one_of_each_value_in_turn():
    utterances = corpus({"a": 12, "b": 12, "c": 12, "d": 12}, words=4)
    word = {utterance.id: utterance.labels["word"] for utterance in utterances}
    gender = {utterance.id: utterance.labels["gender"] for utterance in utterances}
    enrolment, trials = make_trials(utterances, n_enrol=4, per_speaker=4, balance="word")
    for who in "abcd":
        assert Counter(word[utterance.id] for utterance in enrolment[who]) == dict.fromkeys("0123", 1)
        assert Counter(word[test] for test in targets(trials, who)) == dict.fromkeys("0123", 1)
    _, trials = make_trials(utterances, n_enrol=4, nontargets_per_target=1, balance="gender")
    for who in "abcd":
        # Eight target trials; of the others' tests, eight are of one gender (one speaker), sixteen of the other.
        assert Counter(gender[test] for test in nontargets(trials, who)) == {"f": 4, "m": 4}


def test_values_that_run_out_leave_the_rest_to_others():
    utterances = corpus({"a": 4, "b": 4, "c": 10, "d": 10, "e": 10})
    _, trials = make_trials(utterances, n_enrol=2, nontargets_per_target=2, balance="gender")
    # Two times eight; of the four tests of a and b all, and the rest from the other gender.
    assert Counter(test < "c" for test in nontargets(trials, "c")) == {True: 4, False: 12}


def test_fewer_nontargets_than_wanted_are_all_taken_with_a_warning():
    utterances = corpus({"a": 4, "b": 4, "c": 10, "d": 10, "e": 10})
    with pytest.warns(
        SpeechGMMWarning, match="3 models have fewer than 3 nontarget trials a target"
    ) as caught:
        _, trials = make_trials(utterances, n_enrol=2, nontargets_per_target=3)
    assert caught[0].filename == __file__ and len(caught) == 1
    assert [len(nontargets(trials, who)) for who in "abcde"] == [6, 6, 20, 20, 20]


def test_just_as_many_nontargets_as_wanted_are_enough():
    _, trials = make_trials(corpus({"a": 4, "b": 4}), n_enrol=2, nontargets_per_target=1)
    assert Counter(trial.is_target for trial in trials) == {True: 4, False: 4}


def test_speakers_with_too_few_utterances_are_left_out_with_a_warning():
    utterances = corpus({"a": 3, "b": 2, "c": 4, "d": 1})
    message = r"2 of 4 values of 'speaker' do not have the 3 utterances that .*, and were left out: 'b', 'd'$"
    with pytest.warns(SpeechGMMWarning, match=message) as caught:
        enrolment, trials = make_trials(utterances, n_enrol=2)
    assert caught[0].filename == __file__ and len(caught) == 1
    assert list(enrolment) == ["a", "c"]
    assert {trial.test[0] for trial in trials} == {"a", "c"}


def test_one_session_leaves_nothing_to_test_apart():
    utterances = corpus({"a": 4, "b": 4, "c": 4}, sessions=2)
    utterances = [u for u in utterances if u.labels["session"] != "b-1"]
    message = "1 of 3 values of 'speaker' do not have the 2 utterances and one of another session that"
    with pytest.warns(SpeechGMMWarning, match=message):
        enrolment, _ = make_trials(utterances, n_enrol=2, apart="session")
    assert list(enrolment) == ["a", "c"]


@pytest.mark.parametrize("counts", [{}, {"a": 5}, {"a": 5, "b": 2}])
def test_fewer_than_two_speakers(counts):
    message = rf"[01] of {len(counts)} values of 'speaker' have the 3 utterances .*; trials need two or more"
    with pytest.raises(InputError, match=message):
        make_trials(corpus(counts), n_enrol=2)


def test_no_nontarget_that_is_apart():
    utterances = [
        Utterance(f"{who}{word}", f"{who}{word}.wav", labels={"speaker": who, "word": word})
        for who, words in (("a", "xy"), ("b", "xy"))
        for word in words
    ]
    seeds = {}
    for seed in range(20):
        try:
            seeds[seed] = make_trials(utterances, n_enrol=1, apart="word", seed=seed)
        except InputError as error:
            seeds[seed] = str(error)
    # Both enrol with one word and test with the other, or crosswise: then no nontarget is left.
    refused = [text for text in seeds.values() if isinstance(text, str)]
    assert 0 < len(refused) < 20
    assert set(refused) == {
        "no nontarget trial is possible: every test shares its 'word' with the enrolment of all others"
    }


def test_speakers_of_the_background_are_refused():
    utterances = corpus({"a": 3, "b": 3, "c": 3})
    background = [Utterance("x", "x.wav", labels={"speaker": who}) for who in "bcx"]
    with pytest.raises(InputError, match="2 speakers are in the background too: 'b', 'c'; a model that"):
        make_trials(utterances, n_enrol=1, background=background)
    assert make_trials(utterances, n_enrol=1, background=background[2:]) == make_trials(utterances, n_enrol=1)
    with pytest.raises(InputError, match="utterance 'x' has no label 'speaker'"):
        make_trials(utterances, n_enrol=1, background=[Utterance("x", "x.wav")])


def test_utterances_that_repeat_are_refused():
    utterances = corpus({"a": 3, "b": 3})
    with pytest.raises(InputError, match="1 ids stand for several utterances: 'a1'"):
        make_trials([*utterances, utterances[1]], n_enrol=1)
    again = Utterance("again", "a/../a/1.wav", start=0.0, labels=utterances[1].labels)
    with pytest.raises(
        InputError, match=r"utterances 'a1' and 'again' are the same stretch of .*1\.wav: one"
    ):
        make_trials([*utterances, again], n_enrol=1)
    part = Utterance("part", "a/1.wav", start=1.0, labels=utterances[1].labels)
    make_trials([*utterances, part], n_enrol=1)


@pytest.mark.parametrize("value", [0, -1, 1.0, True, "2"])
def test_numbers_are_whole_and_at_least_one(value):
    utterances = corpus({"a": 3, "b": 3})
    for name in ("n_enrol", "per_speaker", "nontargets_per_target"):
        options = {"n_enrol": 1, name: value}
        with pytest.raises(InputError, match=f"`{name}` is {value!r}; it must be a whole number from 1"):
            make_trials(utterances, **options)


def test_labels_that_are_missing_are_named():
    utterances = corpus({"a": 3, "b": 3})
    with pytest.raises(InputError, match="utterance 'a0' has no label 'voice'"):
        make_trials(utterances, "voice", n_enrol=1)
    for options in ({"apart": "room"}, {"balance": "room"}):
        with pytest.raises(InputError, match=r"utterance 'a\d' has no label 'room'"):
            make_trials(utterances, n_enrol=1, **options)


def test_other_labels_than_speaker():
    enrolment, trials = make_trials(corpus({"a": 3, "b": 3, "c": 4}), "gender", n_enrol=2)
    assert list(enrolment) == ["f", "m"]
    assert len(targets(trials, "f")) == 4 and len(nontargets(trials, "f")) == 2


def test_copies_of_a_recording_under_other_names_are_left_out():
    def spoken(speaker, take, content):
        name = f"{speaker}{take}"
        return Utterance(name, f"{name}.wav", labels={"speaker": speaker}, sha256=f"{content:064x}")

    utterances = [spoken(s, take, 10 * (s == "b") + take) for s in "ab" for take in range(4)]
    copies = [spoken("a", 8, 0), spoken("b", 9, 13)]
    whole = make_trials(utterances, n_enrol=2)
    with pytest.warns(SpeechGMMWarning, match="2 utterances are copies of .* left out: 'a8', 'b9'"):
        assert make_trials([*copies, *utterances], n_enrol=2) == whole
    # Stretches of one file are no copies.
    halves = [replace(one, id=f"{one.id}h", start=0.5) for one in utterances]
    enrolment, trials = make_trials([*utterances, *halves], n_enrol=2)
    assert len({trial.test for trial in trials} | {u.id for own in enrolment.values() for u in own}) == 16
