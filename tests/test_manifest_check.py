"""Checking and describing utterances by their audio files."""

import os
from dataclasses import replace

import pytest

from speechgmm.errors import InputError
from speechgmm.files import sha256
from speechgmm.manifest import Segment, Utterance
from speechgmm.manifest_build import from_folders
from speechgmm.manifest_check import check, describe


@pytest.fixture
def good(tmp_path, write_tone):
    """Two utterances without problems."""
    for seed, speaker in enumerate(("anna", "bert")):
        write_tone(tmp_path / speaker / "1.wav", seed=seed, seconds=0.5)
    return describe(from_folders(tmp_path))[0]


def test_a_good_manifest_has_no_problems(good):
    assert check(good) == []
    assert check(good, label="speaker", known_labels=["anna", "bert"], n_jobs=2) == []


def test_files_that_cannot_be_used_are_named(good, tmp_path):
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("not audio at all")
    whole = good[0].audio.read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 2])
    bad = [Utterance(name, tmp_path / f"{name}.wav") for name in ("missing", "empty", "text", "cut")]
    bad.append(Utterance("folder", tmp_path))
    problems = check([good[0], *bad, good[1]])
    assert [problem.split(":")[0] for problem in problems] == [
        f"utterance '{name}'" for name in ("missing", "empty", "text", "cut", "folder")
    ]
    for problem, words in zip(
        problems, ("No such file", "empty", "cannot be read as audio", "cut short", "a folder"), strict=True
    ):
        assert words in problem
        assert str(tmp_path) in problem


def test_a_file_that_fails_while_it_is_read_is_named(good, monkeypatch):
    def fail(path):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("speechgmm.manifest_check.sha256", fail)
    assert check(good[:1]) == [f"utterance 'anna/1': {good[0].audio}: cannot be read (Input/output error)"]


def test_a_changed_file_is_named(good):
    with open(good[1].audio, "r+b") as handle:
        handle.seek(-1, os.SEEK_END)
        handle.write(b"\x55")
    digest = sha256(good[1].audio)
    assert check(good) == [
        f"utterance 'bert/1': {good[1].audio} has the SHA-256 {digest}, the manifest says {good[1].sha256}; "
        "the file was changed, damaged or replaced"
    ]


def test_repeated_ids_are_named(good):
    assert check([good[0], good[1], replace(good[1], id="anna/1")]) == [
        "utterance 'anna/1': number 3 of the manifest has the same id as number 1",
        f"utterance 'anna/1': the same stretch of the same file as utterance 'bert/1': {good[1].audio}",
    ]


def test_one_stretch_under_two_ids_is_named_however_it_is_written(good, tmp_path):
    parts = [
        Utterance("first", good[0].audio, end=0.2),
        Utterance("second", good[0].audio, start=0.1, end=0.2),
        Utterance("third", tmp_path / "bert" / ".." / "anna" / "1.wav", start=0.0, end=0.2),
    ]
    assert check(parts) == [
        f"utterance 'third': the same stretch of the same file as utterance 'first': {parts[2].audio}"
    ]


def test_missing_and_unknown_labels_are_named(good):
    utterances = [good[0], replace(good[1], labels={"word": "x"})]
    assert check(utterances, label="speaker", known_labels={"carl", "bert"}) == [
        "utterance 'anna/1': speaker 'anna' is not one of the 2 known: 'bert', 'carl'",
        "utterance 'bert/1': no label 'speaker'; it has 'word'",
    ]
    assert check([replace(good[0], labels={})], label="speaker") == [
        "utterance 'anna/1': no label 'speaker'; it has none"
    ]
    assert check(good[:1], label="speaker", known_labels=[]) == [
        "utterance 'anna/1': speaker 'anna' is not one of the 0 known: none"
    ]


def test_known_labels_alone_are_refused(good):
    with pytest.raises(InputError, match="`known_labels` needs `label`"):
        check(good, known_labels=["anna"])


@pytest.mark.parametrize(
    ("start", "end", "stretch"),
    [
        (None, 0.5, None),
        (0.1, 0.5009, None),  # within the tolerance of 1 ms
        (0.4999, None, None),
        (None, 0.502, "0 s to 0.502 s"),
        (0.5, None, "0.5 s to the end"),
        (0.5, 0.5005, "0.5 s to 0.5005 s"),  # holds no sample, though it ends within the tolerance
        (2, 3, "2 s to 3 s"),
    ],
)
def test_segments_outside_of_the_file_are_named(good, start, end, stretch):
    utterance = Utterance("u", good[0].audio, start=start, end=end)
    expected = (
        [f"utterance 'u': {stretch} is outside of {utterance.audio}, which lasts 0.500 s"] if stretch else []
    )
    assert check([utterance]) == expected
    assert describe([utterance])[1] == expected


def test_labelled_segments_beyond_the_audio_are_named(good):
    # The file lasts 0.5 s, and 50 ms more are allowed: an alignment's last window may reach so far.
    fits = [Segment(0.0, 0.3, "A"), Segment(0.3, 0.549, "B")]
    late = [Segment(0.0, 0.3, "A"), Segment(0.56, 0.7, "B"), Segment(0.7, 0.8, "C")]
    bare = replace(good[0], duration=None)
    assert check([replace(bare, segments={"phones": fits})]) == []
    utterance = replace(bare, segments={"phones": late, "words": fits})
    problem = (
        f"utterance 'anna/1': phones: 2 of 3 segments reach beyond the audio, the last, 'C', to 0.8 s; there are "
        f"0.500 s of {bare.audio} (labels of another file, or counted at another sample rate?)"
    )
    assert check([utterance]) == [problem]
    assert describe([utterance, good[1]]) == ([good[1]], [problem])
    part = replace(bare, start=0.3, segments={"phones": [Segment(0.0, 0.3, "A")]})
    assert ["1 of 1 segments" in problem and "there are 0.200 s" in problem for problem in check([part])] == [
        True
    ]


def test_segments_of_an_utterance_outside_of_its_file_are_named_once(good):
    outside = replace(good[0], duration=None, start=2, segments={"phones": [Segment(0.0, 1.0, "A")]})
    assert len(check([outside])) == 1


def test_every_problem_comes_at_once_in_the_order_of_the_manifest(good, tmp_path):
    utterances = [
        Utterance("z", tmp_path / "missing.wav"),
        replace(good[0], sha256="0" * 64, end=9, labels={}),
        Utterance("z", tmp_path / "missing.wav"),
    ]
    problems = check(utterances, label="speaker", n_jobs=2)
    assert [problem.split(":")[0] for problem in problems] == [
        *["utterance 'z'"] * 2,
        *["utterance 'anna/1'"] * 3,
        *["utterance 'z'"] * 3,
    ]
    assert check(utterances, label="speaker", n_jobs=1) == problems


def test_each_file_is_opened_once_and_progress_is_told(good):
    parts = [Utterance(str(n), good[0].audio, start=n / 100, end=n / 100 + 0.1) for n in range(20)]
    told = []
    assert check([*parts, good[1]], progress=lambda *args: told.append(args)) == []
    assert told == [("reading audio files", 1, 2), ("reading audio files", 2, 2)]


def test_a_checksum_is_checked_where_only_one_of_a_files_utterances_has_it(good):
    bare = replace(good[0], id="bare", sha256=None, end=0.1)
    wrong = replace(good[0], sha256="0" * 64)
    for utterances in ([bare, wrong], [wrong, bare]):
        assert [problem[:19] for problem in check(utterances)] == ["utterance 'anna/1':"]


# Describing


def test_describing_fills_in_durations_and_checksums(good):
    bare = [
        replace(good[0], duration=None, sha256=None),
        Utterance("part", good[1].audio, start=0.1),
        Utterance("all but", good[1].audio, end=0.5005),
        Utterance("middle", good[1].audio, start=0.125, end=0.25),
    ]
    described, problems = describe(bare, n_jobs=2)
    assert problems == []
    assert [utterance.id for utterance in described] == [utterance.id for utterance in bare]
    assert [utterance.duration for utterance in described] == [0.5, 0.4, 0.5, 0.125]
    assert [utterance.sha256 for utterance in described] == [
        sha256(good[0].audio),
        *[sha256(good[1].audio)] * 3,
    ]
    assert described == describe(bare, n_jobs=1)[0]


def test_describing_without_checksums_leaves_them(good):
    known, bare = replace(good[0], duration=None), replace(good[1], sha256=None)
    described, _ = describe([known, bare], checksums=False)
    assert [(u.duration, u.sha256) for u in described] == [(0.5, good[0].sha256), (0.5, None)]


def test_bad_files_do_not_stop_describing(good, tmp_path):
    described, problems = describe([Utterance("gone", tmp_path / "gone.wav"), *good])
    assert described == good
    assert len(problems) == 1
    assert problems[0].startswith(f"utterance 'gone': {tmp_path / 'gone.wav'}: ")


def test_real_speech_is_described(speech_data):
    recordings = speech_data / "fsdd" / "recordings"
    described, problems = describe(
        [Utterance(name, recordings / f"{name}.wav") for name in ("0_george_0", "9_theo_13")], n_jobs=2
    )
    assert problems == []
    assert all(0.1 < utterance.duration < 3 for utterance in described)
    assert check(described) == []
