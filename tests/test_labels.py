"""Segments of utterances: mapped, filled, and attached to utterances."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechgmm.errors import InputError
from speechgmm.manifest import Segment, Utterance
from speechgmm.phones.labels import attach, filled, mapped, phone_string
from speechgmm.phones.phone_sets import phone_map


def line(text, step=0.1):
    """Segments of equal length from "a b - c", "-" being a gap."""
    return tuple(
        Segment(round(number * step, 9), round((number + 1) * step, 9), label)
        for number, label in enumerate(text.split())
        if label != "-"
    )


def shown(segments):
    return " ".join(f"{segment.label}:{segment.start:g}-{segment.end:g}" for segment in segments)


# Phone strings


def test_phones_come_from_segments_or_else_from_a_label():
    labelled = Utterance("u", "u.wav", labels={"phones": " B  IY "})
    assert phone_string(labelled) == ("B", "IY")
    both = Utterance("u", "u.wav", labels=labelled.labels, segments={"phones": line("SIL AA")})
    assert phone_string(both) == ("SIL", "AA")


def test_an_utterance_without_phones_is_named():
    utterance = Utterance("u", "u.wav", labels={"text": "bee"}, segments={"words": line("bee")})
    with pytest.raises(InputError, match=r"'u' has no phones: .* \(segments: 'words'; labels: 'text'\)$"):
        phone_string(utterance)


# Mapping and filling


def test_mapping_renames_drops_and_merges_silences_that_touch():
    timit = line("h# q ao pau pcl p iy iy - kcl - epi h#")
    assert shown(mapped(timit, phone_map("timit61", "timit39"))) == (
        "sil:0-0.1 aa:0.2-0.3 sil:0.3-0.5 p:0.5-0.6 iy:0.6-0.7 iy:0.7-0.8 sil:0.9-1 sil:1.1-1.3"
    )
    unmerged = mapped(timit, phone_map("timit61", "timit39"), merge=())
    assert [segment.label for segment in unmerged].count("sil") == 6


def test_mapping_lists_unknown_labels():
    with pytest.raises(InputError, match=r"unknown phones 'x', 'y'; known are 'a'"):
        mapped(line("x a y"), {"a": "b"})


@pytest.mark.parametrize(
    ("segments", "duration", "expected"),
    [
        ("", 0.2, "SIL:0-0.2"),
        ("a b", 0.2, "a:0-0.1 b:0.1-0.2"),
        ("a b", 0.2009, "a:0-0.1 b:0.1-0.2"),
        ("- a - b", 0.5, "SIL:0-0.1 a:0.1-0.2 SIL:0.2-0.3 b:0.3-0.4 SIL:0.4-0.5"),
        ("- SIL - a - SIL", 0.7, "SIL:0-0.3 a:0.3-0.4 SIL:0.4-0.7"),
        ("a b", 0.1, "a:0-0.1 b:0.1-0.2"),
    ],
)
def test_gaps_become_silence(segments, duration, expected):
    assert shown(filled(line(segments), duration)) == expected


@given(st.text("ab-", max_size=12), st.integers(0, 14))
def test_filled_segments_leave_no_gap_and_keep_the_speech(letters, tenths):
    segments = line(" ".join(letters))
    whole = filled(segments, tenths / 10, "s")
    assert [segment for segment in whole if segment.label != "s"] == list(segments)
    ends = [0.0, *(segment.end for segment in whole)]
    assert [segment.start for segment in whole] == ends[:-1]
    assert ends[-1] >= tenths / 10 - 1e-9


# Attaching


def utterance(audio, id=None, **fields):
    return Utterance(id or Path(audio).stem, Path("/data") / audio, **fields)


A = {"phones": line("A")}
B = {"phones": line("B")}


@pytest.mark.parametrize(
    "name", ["my id", "x/a.wav", "a.wav", "a", "x/a", "/data/x/a.wav", "other/a.flac", "a.TextGrid", "y/a"]
)
def test_labels_find_their_utterance(name):
    found = attach([utterance("x/a.wav", "my id"), utterance("x/b.wav")], {name: A, "b.wav": B, "c": B})
    assert [one.segments for one in found] == [A, B]


def test_a_nearer_name_wins():
    two = [utterance("x/a.wav", "b"), utterance("y/a.wav")]
    assert [one.segments for one in attach(two, {"b": A, "y/a": B})] == [A, B]
    # "a" as an id, although y/a.wav has the name, too: then the name belongs to x/a.wav alone.
    first = [utterance("x/a.wav", "a")]
    assert attach(first, {"a": A, "a.wav": B})[0].segments == A


def test_a_full_stop_in_a_name_is_no_suffix():
    found = attach([utterance("u.01.wav"), utterance("u.02.wav")], {"u.01": A, "u.02": B})
    assert [one.segments for one in found] == [A, B]


def test_tiers_of_other_names_stay():
    before = utterance("a.wav", segments={"phones": line("C"), "words": line("W")})
    assert attach([before], {"a": A})[0].segments == {"phones": A["phones"], "words": line("W")}


def test_utterances_without_labels_are_listed_dropped_or_kept():
    three = [utterance("a.wav"), utterance("b.wav"), utterance("c.wav")]
    message = (
        r"^2 of 3 utterances have no labels: 'b', 'c'; the labels are of 2 names: 'a', 'z' \(a name must be"
    )
    with pytest.raises(InputError, match=message):
        attach(three, {"a": A, "z": B})
    assert [one.id for one in attach(three, {"a": A}, missing="drop")] == ["a"]
    assert [bool(one.segments) for one in attach(three, {"a": A}, missing="keep")] == [True, False, False]
    for missing in ("drop", "keep"):
        with pytest.raises(InputError, match="3 of 3 utterances have no labels"):
            attach(three, {"z": A}, missing=missing)
    with pytest.raises(InputError, match="`missing` is 'ignore'; it must be 'refuse', 'drop' or 'keep'"):
        attach(three, {"a": A}, missing="ignore")


def test_what_could_belong_to_several_is_listed():
    message = r"utterance 'a': its labels may be any of 'p/a', 'q/a'\n  labels 'c' may belong to any of '/data/x/c.wav'"
    with pytest.raises(InputError, match=message):
        attach([utterance("a.wav"), utterance("x/c.wav"), utterance("y/c.wav")], {"p/a": A, "q/a": B, "c": A})


def test_labels_that_do_not_fit_are_listed():
    short = [utterance(f"{name}.wav", duration=0.01) for name in "ab"]
    with pytest.raises(
        InputError, match=r"utterance 'a': .* lasts 0.010 s\n  utterance 'b': .*'A' goes from 0 s"
    ):
        attach(short, {"a": A, "b": A})


def test_parts_of_a_file_get_their_part_of_its_labels():
    whole = {"a": {"phones": line("A B C D", step=1.0)}}
    parts = [
        utterance("a.wav", "1", end=1.5),
        utterance("a.wav", "2", start=1.5, end=3.0005, duration=1.5005),
    ]
    found = attach(parts, whole)
    assert shown(found[0].segments["phones"]) == "A:0-1 B:1-1.5"
    # Half a millisecond of D is what rounding left.
    assert shown(found[1].segments["phones"]) == "B:0-0.5 C:0.5-1.5"
    # Labels under an utterance's own id are its own.
    assert shown(attach([parts[1]], {"2": {"phones": line("X")}})[0].segments["phones"]) == "X:0-0.1"
