"""Dividing utterances without leaks."""

import hashlib
import random
from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechgmm.errors import InputError, SpeechGMMWarning
from speechgmm.manifest import Utterance
from speechgmm.manifest_split import split


def corpus(sessions, takes=2):
    """`sessions` maps each speaker to a number of sessions."""
    return [
        Utterance(
            f"{who}/{when}/{take}", f"{who}/{when}/{take}.wav", labels={"speaker": who, "session": str(when)}
        )
        for who, number in sessions.items()
        for when in range(number)
        for take in range(takes)
    ]


def speakers(number):
    return corpus({f"s{i}": 1 for i in range(number)})


def sides_of(utterances, *labels):
    sides = defaultdict(set)
    for utterance in utterances:
        sides[tuple(utterance.label(name) for name in labels)].add(utterance.split)
    return sides


def test_a_group_lands_on_one_side_and_the_fractions_are_of_groups():
    divided = split(speakers(10), by="speaker")
    sides = sides_of(divided, "speaker")
    assert all(len(where) == 1 for where in sides.values())
    assert Counter(min(where) for where in sides.values()) == {"train": 8, "test": 2}


def test_only_the_split_changes_and_the_order_stays():
    utterances = speakers(5)
    divided = split(utterances, by="speaker")
    assert [(u.id, u.audio, u.labels) for u in divided] == [(u.id, u.audio, u.labels) for u in utterances]
    assert all(utterance.split is None for utterance in utterances)
    assert split(divided, by="speaker", seed=1) == split(utterances, by="speaker", seed=1)


def test_groups_are_taken_in_the_order_of_their_sha256():
    order = sorted(
        (f"s{i}" for i in range(10)), key=lambda who: hashlib.sha256(f"7\n{who}".encode()).hexdigest()
    )
    sides = sides_of(split(speakers(10), by="speaker", seed=7), "speaker")
    assert [min(sides[who,]) for who in order] == ["train"] * 8 + ["test"] * 2


def test_within_orders_sessions_by_the_sha256_of_both_names():
    utterances = corpus({"a": 4, "b": 4})
    divided = sides_of(split(utterances, by="session", within="speaker", seed=3), "speaker", "session")
    for who in "ab":
        order = sorted("0123", key=lambda when: hashlib.sha256(f"3\n{who}\n{when}".encode()).hexdigest())
        assert [min(divided[who, when]) for when in order] == ["train"] * 3 + ["test"]


def test_the_order_of_utterances_and_of_fractions_does_not_matter():
    utterances = corpus({"a": 5, "b": 7, "c": 6})
    shuffled = random.Random(0).sample(utterances, len(utterances))
    first = split(utterances, "session", {"train": 0.6, "dev": 0.2, "test": 0.2}, within="speaker")
    second = split(shuffled, "session", {"test": 0.2, "dev": 0.2, "train": 0.6}, within="speaker")
    assert {u.id: u.split for u in first} == {u.id: u.split for u in second}


def test_another_seed_gives_another_split():
    utterances = speakers(20)
    results = {tuple(u.split for u in split(utterances, "speaker", seed=seed)) for seed in range(5)}
    assert len(results) == 5


def test_within_puts_every_speaker_on_every_side_without_sharing_a_session():
    divided = split(corpus({"a": 2, "b": 5, "c": 10}), by="session", within="speaker")
    assert all(len(where) == 1 for where in sides_of(divided, "speaker", "session").values())
    assert all(where == {"train", "test"} for where in sides_of(divided, "speaker").values())
    sessions = Counter(
        (who, min(where)) for (who, _), where in sides_of(divided, "speaker", "session").items()
    )
    assert sessions == {
        ("a", "train"): 1,
        ("a", "test"): 1,
        ("b", "train"): 4,
        ("b", "test"): 1,
        ("c", "train"): 8,
        ("c", "test"): 2,
    }


def test_speakers_with_too_few_sessions_go_to_the_largest_side_with_a_warning():
    utterances = corpus({"a": 1, "b": 3, "c": 1})
    message = r"2 of 3 values of 'speaker' have fewer groups by 'session' than there are sides, .*: 'a', 'c'$"
    with pytest.warns(SpeechGMMWarning, match=message) as caught:
        divided = split(utterances, "session", {"test": 0.3, "train": 0.7}, within="speaker")
    sides = sides_of(divided, "speaker")
    assert sides["a",] == sides["c",] == {"train"}
    assert sides["b",] == {"train", "test"}
    assert len(caught) == 1
    assert caught[0].filename == __file__


@given(
    n_groups=st.integers(3, 60),
    weights=st.lists(st.integers(1, 20), min_size=2, max_size=3),
    seed=st.integers(0, 1000),
)
def test_shares_are_whole_groups_near_the_fractions_and_never_none(n_groups, weights, seed):
    fractions = {f"side{i}": weight / sum(weights) for i, weight in enumerate(weights)}
    sides = sides_of(split(speakers(n_groups), "speaker", fractions, seed=seed), "speaker")
    counts = Counter(min(where) for where in sides.values())
    assert counts.keys() == fractions.keys()
    for side, count in counts.items():
        # One group for rounding, and one for each other side that was lifted to its first group.
        assert abs(count - fractions[side] * n_groups) < len(fractions) or count == 1


def test_parts_of_one_file_in_one_group_stay_together():
    utterances = [
        Utterance(f"{who}{n}", f"{who}.wav", start=n, labels={"speaker": who})
        for who in "abc"
        for n in range(3)
    ]
    assert all(len(where) == 1 for where in sides_of(split(utterances, "speaker"), "speaker").values())


@pytest.mark.parametrize("seed", range(4))
def test_a_file_that_holds_several_groups_is_refused_whatever_the_seed(seed):
    utterances = [
        *speakers(6),
        Utterance("left", "talk.wav", end=1, labels={"speaker": "x"}),
        Utterance("right", "folder/../talk.wav", start=1, labels={"speaker": "y"}),
    ]
    message = (
        r"utterances 'left' and 'right' are in one audio file, .*talk\.wav, but in different groups, "
        r"'x' and 'y': .* two sides; cut it, or split by a label that all its utterances share"
    )
    with pytest.raises(InputError, match=message):
        split(utterances, by="speaker", seed=seed)


def test_too_few_groups_are_counted():
    message = (
        r"nothing is left for 'test': there are 1 groups by 'speaker', and each of the 2 sides needs one$"
    )
    with pytest.raises(InputError, match=message):
        split(speakers(1), by="speaker")
    with pytest.raises(InputError, match=r"nothing is left for 'test', 'train': there are 0 groups"):
        split([], by="speaker")
    with pytest.raises(
        InputError, match=r"for 'test': there are 3 groups by 'session', at most 2 for one speaker"
    ):
        split(corpus({"a": 2, "b": 1}), "session", {"train": 0.6, "dev": 0.2, "test": 0.2}, within="speaker")


@pytest.mark.parametrize(
    "fractions",
    [
        {},
        {"train": 1.0},
        {"train": 0.8, "test": 0.3},
        {"train": 1.0, "test": 0.0},
        {"a": float("nan"), "b": 1},
    ],
)
def test_fractions_that_are_none_are_refused(fractions):
    with pytest.raises(
        InputError, match=r"`fractions` is \{.*\}; it must be two or more, above 0, with the sum 1"
    ):
        split(speakers(5), "speaker", fractions)


def test_an_utterance_without_the_label_is_named():
    with pytest.raises(InputError, match=r"utterance 'u' has no label 'session'; it has 'speaker'"):
        split([*speakers(5), Utterance("u", "u.wav", labels={"speaker": "x"})], "session", within="speaker")


def test_a_nameless_side_is_refused():
    with pytest.raises(InputError, match=r"`split` is ''; it must be text that is not empty"):
        split(speakers(5), "speaker", {"": 0.5, "test": 0.5})


def test_id_stands_for_single_utterances():
    divided = split(speakers(10), by="id", within="speaker")  # two takes each
    assert all(sides == {"train", "test"} for sides in sides_of(divided, "speaker").values())
    labelled = [Utterance("a", "a.wav", labels={"id": "x"}), Utterance("b", "b.wav", labels={"id": "x"})]
    with pytest.raises(InputError, match="there are 1 groups by 'id'"):
        split(labelled, by="id")
