"""Utterances, and reading, writing, fingerprinting and selecting from manifests."""

import hashlib
import json
import math
import os
import pickle
import time
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechgmm.errors import FormatError, InputError
from speechgmm.manifest import Segment, Utterance, fingerprint, quoted, read_manifest, select, write_manifest

DIGEST = "0123456789abcdef" * 4


@pytest.fixture
def manifest(tmp_path):
    """A function that writes lines (text, or values to turn into JSON) to a manifest."""

    def write(*lines):
        path = tmp_path / "utterances.jsonl"
        path.write_text(
            "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
        )
        return path

    return write


def full_utterance(folder):
    return Utterance(
        id="george/0",
        audio=folder / "audio" / "george 0.wav",
        start=0.25,
        end=1.5,
        labels={"word": "zéro", "speaker": "george"},
        split="train",
        duration=1.25,
        sha256=DIGEST,
    )


# Utterance


def test_an_utterance_needs_only_an_id_and_its_audio():
    utterance = Utterance("a", "folder/a.wav")
    assert utterance.audio == Path("folder/a.wav")
    assert utterance.labels == {}
    optional = (utterance.start, utterance.end, utterance.split, utterance.duration, utterance.sha256)
    assert optional == (None,) * 5


def test_an_utterance_keeps_its_own_copy_of_the_labels():
    labels = {"speaker": "george"}
    utterance = Utterance("a", Path("a.wav"), labels=labels)
    labels["speaker"] = "theo"
    assert utterance.label("speaker") == "george"


def test_utterances_are_frozen_hashable_and_survive_pickling(tmp_path):
    utterance = full_utterance(tmp_path)
    again = pickle.loads(pickle.dumps(utterance))
    assert again == utterance
    assert len({utterance, again, Utterance("b", "b.wav")}) == 2
    assert replace(utterance, labels={"speaker": "theo"}) != utterance
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'id'"):
        utterance.id = "b"


def test_numbers_become_plain_floats_so_that_equal_times_are_written_alike():
    utterance = Utterance("a", "a.wav", start=-0.0, end=np.float32(1.5), duration=2)
    assert [repr(value) for value in (utterance.start, utterance.end, utterance.duration)] == [
        "0.0",
        "1.5",
        "2.0",
    ]


def test_checksums_become_lower_case():
    assert Utterance("a", "a.wav", sha256=DIGEST.upper()).sha256 == DIGEST


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"id": ""}, r"utterance '': `id` is ''; it must be text that is not empty"),
        ({"id": 5}, r"utterance 5: `id` is 5; it must be text"),
        ({"id": "a\tb"}, r"`id` is 'a\\tb'; it must be text without control characters"),
        ({"id": "caf\udce9"}, r"`id` is 'caf\\udce9'; .* or bytes that are not UTF-8"),
        ({"audio": ""}, r"utterance 'u': `audio` is ''; it must be text that is not empty"),
        ({"audio": None}, r"`audio` is None; it must be a path"),
        ({"audio": "a\0.wav"}, r"`audio` is 'a\\x00.wav'; it must be text without control characters"),
        ({"start": -0.5}, r"`start` is -0.5; it must be 0 seconds or more"),
        ({"start": "1"}, r"`start` is '1'; it must be a number of seconds"),
        ({"start": True}, r"`start` is True; it must be a number of seconds"),
        ({"start": float("nan")}, r"`start` is nan; it must be a finite number of seconds"),
        ({"end": float("inf")}, r"`end` is inf; it must be a finite number of seconds"),
        ({"end": 10**400}, r"`end` is 10+; it must be a finite number of seconds"),
        ({"end": 0}, r"`end` is 0.0; it must be after `start`, which is 0.0"),
        ({"start": 2, "end": 2}, r"`end` is 2.0; it must be after `start`, which is 2.0"),
        ({"duration": 0}, r"`duration` is 0.0; it must be more than 0 seconds"),
        ({"labels": ["speaker"]}, r"`labels` is \['speaker'\]; it must be names with their values"),
        ({"labels": {"digit": 7}}, r"`labels.digit` is 7; it must be text that is not empty"),
        ({"labels": {"digit": ""}}, r"`labels.digit` is ''; it must be text that is not empty"),
        ({"labels": {"": "7"}}, r"`labels` is ''; it must be text that is not empty"),
        ({"labels": {"text": "a\nb"}}, r"`labels.text` is 'a\\nb'; it must be text without control"),
        ({"split": ""}, r"`split` is ''; it must be text that is not empty"),
        ({"sha256": "abc"}, r"`sha256` is 'abc'; it must be 64 hexadecimal digits"),
        ({"sha256": 7}, r"`sha256` is 7; it must be 64 hexadecimal digits"),
    ],
)
def test_an_utterance_refuses_what_cannot_be(fields, message):
    with pytest.raises(InputError, match=message):
        Utterance(**{"id": "u", "audio": "u.wav", **fields})


def test_a_missing_label_is_named_with_those_that_are_there():
    with pytest.raises(InputError, match=r"^utterance 'a' has no label 'speaker'; it has 'take', 'word'$"):
        Utterance("a", "a.wav", labels={"word": "yes", "take": "1"}).label("speaker")
    with pytest.raises(InputError, match=r"utterance 'a' has no label 'speaker'; it has none"):
        Utterance("a", "a.wav").label("speaker")


def test_a_segment_is_a_stretch_and_a_label():
    assert Segment(0.1, 0.2, "AA") == Segment(start=0.1, end=0.2, label="AA")


def test_long_lists_are_cut_in_messages():
    assert quoted(["b", "a", "b"]) == "'a', 'b'"
    assert quoted("abcd", limit=2) == "'a', 'b' and 2 more"
    assert quoted("ab", limit=2) == "'a', 'b'"


# Segments


def with_segments(**fields):
    return Utterance("u", "u.wav", **fields)


def test_segments_are_copied_into_tuples_of_plain_floats():
    phones = [Segment(np.float32(0.5), 1, "AA"), Segment(-0.0, 0.25, "B")][::-1]
    utterance = with_segments(segments={"phones": phones, "words": []})
    phones.clear()
    assert utterance.segments == {"phones": (Segment(0.0, 0.25, "B"), Segment(0.5, 1.0, "AA"))}
    times = [time for segment in utterance.segments["phones"] for time in (segment.start, segment.end)]
    assert [repr(time) for time in times] == ["0.0", "0.25", "0.5", "1.0"]
    assert hash(utterance) == hash(with_segments())
    assert utterance != with_segments()


def test_segments_may_have_gaps_and_overlap_and_end_late_by_a_little():
    phones = [Segment(0.1, 0.5, "A"), Segment(0.4995, 0.9, "B"), Segment(1.0, 2.049, "C")]
    assert with_segments(segments={"phones": phones}, duration=2.0).segments["phones"] == tuple(phones)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"segments": [1]}, r"utterance 'u': `segments` is \[1\]; it must be names of tiers with their segm"),
        ({"segments": {"": ()}}, r"`segments` is ''; it must be text that is not empty"),
        ({"segments": {"phones": "AA"}}, r"`segments.phones` is 'AA'; it must be a sequence of segments"),
        (
            {"segments": {"phones": [(0, 1, "A")]}},
            r"`segments.phones` is \(0, 1, 'A'\); it must be a sequence",
        ),
        ({"segments": {"phones": [Segment(0, 1, "")]}}, r"`segments.phones.label` is ''; it must be text"),
        (
            {"segments": {"phones": [Segment(0, 1, "a\tb")]}},
            r"label` is 'a\\tb'; .* without control characters",
        ),
        (
            {"segments": {"phones": [Segment("0", 1, "A")]}},
            r"`segments.phones.start` is '0'; it must be a number",
        ),
        (
            {"segments": {"phones": [Segment(0, math.nan, "A")]}},
            r"`segments.phones.end` is nan; it must be a fin",
        ),
        (
            {"segments": {"phones": [Segment(-0.1, 1, "A")]}},
            r"`segments.phones`: 'A' goes from -0.1 s to 1 s; it m",
        ),
        (
            {"segments": {"phones": [Segment(1, 1, "A")]}},
            r"goes from 1 s to 1 s; it must start at 0 s or later and",
        ),
        (
            {"segments": {"p": [Segment(0, 1, "A"), Segment(0.9985, 2, "B")]}},
            r"`segments.p`: 'B' goes from 0.9985 s to 2 s, but what comes before it ends at 1 s; segments must be in",
        ),
        (
            {"segments": {"p": [Segment(0, 1.06, "A")]}, "duration": 1},
            r"`segments.p`: 'A' goes from 0 s to 1.06 s, but the utterance lasts 1.000 s",
        ),
        (
            {"segments": {"p": [Segment(0, 1.06, "A")]}, "start": 3, "end": 4},
            r"but the utterance lasts 1.000 s",
        ),
    ],
)
def test_an_utterance_refuses_segments_that_cannot_be(fields, message):
    with pytest.raises(InputError, match=message):
        with_segments(**fields)


def test_segments_have_one_form_in_a_manifest(tmp_path):
    segments = {"words": [Segment(0.0, 0.5, "é")], "phones": [Segment(0.0, 0.1, "A"), Segment(0.1, 0.5, "B")]}
    utterance = Utterance("a", tmp_path / "a.wav", segments=segments)
    write_manifest([utterance, Utterance("b", tmp_path / "b.wav")], tmp_path / "m.jsonl")
    assert (tmp_path / "m.jsonl").read_text("utf-8").splitlines() == [
        '{"id": "a", "audio": "a.wav", "segments": '
        '{"phones": [[0.0, 0.1, "A"], [0.1, 0.5, "B"]], "words": [[0.0, 0.5, "é"]]}}',
        '{"id": "b", "audio": "b.wav"}',
    ]
    assert read_manifest(tmp_path / "m.jsonl")[0] == utterance


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], r"line 1: `segments` is \[\]; it must be an object of tiers"),
        ({"phones": {}}, r"line 1: `segments.phones` is {}; it must be a list of \[start, end, label\]"),
        (
            {"phones": [[0, 1, "A"], [1, 2]]},
            r"line 1: `segments.phones\[1\]` is \[1, 2\]; it must be \[start",
        ),
        (
            {"phones": [[0, "1", "A"]]},
            r"line 1: utterance 'a': `segments.phones.end` is '1'; it must be a num",
        ),
        ({"phones": [[0, 1, 7]]}, r"line 1: utterance 'a': `segments.phones.label` is 7; it must be text"),
        ({"phones": [[2, 1, "A"]]}, r"line 1: utterance 'a': `segments.phones`: 'A' goes from 2 s to 1 s"),
    ],
)
def test_malformed_segments_of_a_manifest_are_named(manifest, value, message):
    path = manifest({"id": "a", "audio": "a.wav", "segments": value})
    with pytest.raises(FormatError, match=message):
        read_manifest(path)


@given(
    lengths=st.lists(st.floats(1e-9, 100), min_size=1, max_size=8),
    label=st.text(min_size=1).filter(str.isprintable),
)
def test_segments_survive_writing_and_reading_to_the_last_digit(tmp_path_factory, lengths, label):
    folder = tmp_path_factory.mktemp("segments", numbered=True)
    ends = np.cumsum(lengths).tolist()
    segments = [Segment(start, end, label) for start, end in zip([0.0, *ends[:-1]], ends, strict=True)]
    utterance = Utterance("u", folder / "u.wav", segments={label: segments})
    write_manifest([utterance], folder / "m.jsonl")
    assert read_manifest(folder / "m.jsonl") == [utterance]


# Reading and writing


def test_what_is_written_is_read_back(tmp_path):
    utterances = [full_utterance(tmp_path), Utterance("b", tmp_path / "b.wav")]
    write_manifest(utterances, tmp_path / "m.jsonl")
    assert read_manifest(tmp_path / "m.jsonl") == utterances


def test_a_manifest_has_one_form(tmp_path):
    utterance = full_utterance(tmp_path)
    write_manifest([utterance, Utterance("b", tmp_path / "b.wav")], tmp_path / "m.jsonl")
    assert (tmp_path / "m.jsonl").read_bytes().decode() == (
        '{"id": "george/0", "audio": "audio/george 0.wav", "start": 0.25, "end": 1.5, '
        '"labels": {"speaker": "george", "word": "zéro"}, "split": "train", "duration": 1.25, '
        f'"sha256": "{DIGEST}"}}\n'
        '{"id": "b", "audio": "b.wav"}\n'
    )


def test_paths_start_from_the_data_folder_if_one_is_given(tmp_path):
    (tmp_path / "data").mkdir()
    utterance = Utterance("a", tmp_path / "data" / "x" / "a.wav")
    path = tmp_path / "lists" / "m.jsonl"
    write_manifest([utterance], path, data_dir=tmp_path / "data")
    assert '"audio": "x/a.wav"' in path.read_text()
    assert read_manifest(path, data_dir=tmp_path / "data") == [utterance]
    assert read_manifest(path)[0].audio == tmp_path / "lists" / "x" / "a.wav"


def test_audio_paths_stay_valid_when_the_working_folder_changes(tmp_path, manifest, monkeypatch):
    manifest({"id": "a", "audio": "a.wav"})
    monkeypatch.chdir(tmp_path)
    assert read_manifest("utterances.jsonl")[0].audio == tmp_path / "a.wav"


def test_writing_audio_outside_of_the_folder_names_the_way_out(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data-2").mkdir()
    inside = Utterance("a", tmp_path / "data" / "a.wav")
    # A folder whose name starts alike is another folder.
    outside = Utterance("b", tmp_path / "data-2" / "b.wav")
    with pytest.raises(InputError, match=r"utterance 'b': .*b\.wav is outside of .*data/, .*--data-dir"):
        write_manifest([inside, outside], tmp_path / "data" / "m.jsonl")
    assert not (tmp_path / "data" / "m.jsonl").exists()


def test_writing_no_utterances_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"m\.jsonl: no utterances to write"):
        write_manifest([], tmp_path / "m.jsonl")


def test_a_data_folder_that_is_not_there_is_named(tmp_path, manifest):
    path = manifest({"id": "a", "audio": "a.wav"})
    with pytest.raises(InputError, match=r"data folder '.*nowhere': no such folder"):
        read_manifest(path, data_dir=tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"data folder '.*nowhere': no such folder"):
        write_manifest([Utterance("a", tmp_path / "a.wav")], path, data_dir=tmp_path / "nowhere")


def test_null_is_absent_and_blank_lines_and_a_byte_order_mark_are_nothing(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"id": "a", "audio": "a.wav", "labels": null, "start": null}\r\n\r\n')
    assert read_manifest(path) == [Utterance("a", tmp_path / "a.wav")]


def test_line_ends_inside_of_text_do_not_end_the_line(tmp_path):
    utterance = Utterance("a", tmp_path / "a.wav", labels={"text": "one\u2028two\x85three"})
    write_manifest([utterance], tmp_path / "m.jsonl")
    assert read_manifest(tmp_path / "m.jsonl") == [utterance]


@pytest.mark.parametrize("audio", ["../b.wav", "x/../../b.wav", "/etc/passwd", ".."])
def test_a_path_that_leads_out_is_refused(tmp_path, manifest, audio):
    path = manifest({"id": "a", "audio": "a.wav"}, {"id": "b", "audio": audio})
    message = f"^{path}: line 2: `audio` '{audio}' leads out of the data folder '{tmp_path}'; .*--data-dir"
    with pytest.raises(InputError, match=message):
        read_manifest(path)


def test_absolute_and_crooked_paths_inside_of_the_folder_are_taken(tmp_path, manifest):
    path = manifest(
        {"id": "a", "audio": str(tmp_path / "x" / "a.wav")}, {"id": "b", "audio": "x/../y/./b..wav"}
    )
    audio = [utterance.audio for utterance in read_manifest(path)]
    assert audio == [tmp_path / "x" / "a.wav", tmp_path / "y" / "b..wav"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "b", "audio": "b.wav"', r"line 2: not valid JSON \(Expecting ',' delimiter at column 29\)"),
        ('{"id": "b", "id": "c", "audio": "b.wav"}', r"line 2: not valid JSON \(a key occurs twice\)"),
        ("[" * 100_000, r"line 2: not valid JSON \(maximum recursion depth"),
        ("[1]", r"line 2: not a JSON object"),
        ({"audio": "b.wav"}, r"line 2: no `id`"),
        ({"id": "b"}, r"line 2: no `audio`"),
        ({"id": 7, "audio": "b.wav"}, r"line 2: `id` is 7; it must be text"),
        ({"id": "b", "audio": ""}, r"line 2: `audio` is ''; it must be text"),
        ({"id": "b", "audio": None}, r"line 2: `audio` is None; it must be text"),
        (
            {"id": "b", "audio": "b.wav", "speaker": "x"},
            r"line 2: unknown key 'speaker'; an utterance has id, ",
        ),
        (
            {"id": "b", "audio": "b.wav", "start": "1"},
            r"line 2: utterance 'b': `start` is '1'; it must be a nu",
        ),
        (
            '{"id": "b", "audio": "b.wav", "end": 1e999}',
            r"line 2: utterance 'b': `end` is inf; it must be a fin",
        ),
        ('{"id": "b", "audio": "b.wav", "end": NaN}', r"line 2: utterance 'b': `end` is nan"),
        (
            {"id": "b", "audio": "b.wav", "labels": {"a": 1}},
            r"line 2: utterance 'b': `labels.a` is 1; it must",
        ),
        ({"id": "b", "audio": "b.wav", "split": 1}, r"line 2: utterance 'b': `split` is 1; it must be text"),
        ({"id": "b", "audio": "b\0.wav"}, r"line 2: utterance 'b': `audio` is '.*b\\x00.wav'; it must be"),
    ],
)
def test_a_malformed_line_is_named(manifest, line, message):
    path = manifest({"id": "a", "audio": "a.wav"}, line)
    with pytest.raises(FormatError, match=f"^{path}: {message}"):
        read_manifest(path)


def test_all_malformed_lines_are_named_at_once(manifest):
    path = manifest({"audio": "a.wav"}, {"id": "b", "audio": "b.wav"}, {"id": "c", "audio": "/c.wav"}, "{")
    with pytest.raises(
        FormatError, match=r"line 1: no `id`\n  line 3: `audio` '/c.wav' leads .*\n  line 4: not v"
    ):
        read_manifest(path)


def test_a_long_list_of_malformed_lines_is_cut(manifest):
    with pytest.raises(FormatError, match=r"\n  line 20: no `id`$"):
        read_manifest(manifest(*[{"audio": "a.wav"}] * 20))
    with pytest.raises(FormatError, match=r"\n  line 20: no `id`\n  and 5 more$"):
        read_manifest(manifest(*[{"audio": "a.wav"}] * 25))


def test_an_empty_manifest_is_refused(manifest):
    with pytest.raises(FormatError, match=r"utterances.jsonl: lists no utterances"):
        read_manifest(manifest("", "  "))


def test_a_manifest_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(InputError, match=r"m\.jsonl: cannot be read \(No such file or directory\)"):
        read_manifest(tmp_path / "m.jsonl")
    (tmp_path / "m.jsonl").write_bytes(b'{"id": "caf\xe9"}\n')
    with pytest.raises(FormatError, match=r"m\.jsonl: byte 11 is not UTF-8 text"):
        read_manifest(tmp_path / "m.jsonl")


def test_a_large_manifest_is_read_in_seconds(manifest):
    line = json.dumps({"id": "a", "audio": "x/a.wav", "labels": {"speaker": "s"}, "sha256": DIGEST})
    path = manifest(*[line] * 20_000)
    before = time.perf_counter()
    assert len(read_manifest(path)) == 20_000
    # About 0.4 s where this was written; the limit only catches work that grows out of proportion.
    assert time.perf_counter() - before < 5


text = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1)
seconds = st.none() | st.floats(0, 1e6, allow_nan=False)


@given(
    id=text,
    name=text.filter(lambda text: "/" not in text and text not in (".", "..")),
    start=seconds,
    labels=st.dictionaries(text, text),
)
def test_any_utterance_survives_writing_and_reading(tmp_path_factory, id, name, start, labels):
    folder = tmp_path_factory.mktemp("round-trip", numbered=True)
    utterance = Utterance(id, folder / name, start=start, labels=labels, duration=start or None)
    write_manifest([utterance], folder / "m.jsonl")
    assert read_manifest(folder / "m.jsonl") == [utterance]


# Fingerprint


def test_the_fingerprint_does_not_depend_on_where_files_lie_or_how_labels_are_ordered(tmp_path):
    utterance = full_utterance(tmp_path)
    elsewhere = replace(
        utterance, audio=Path("/elsewhere/b.flac"), labels=dict(reversed(utterance.labels.items()))
    )
    assert list(elsewhere.labels) != list(utterance.labels)
    assert fingerprint([elsewhere]) == fingerprint([utterance])


def test_the_fingerprint_is_the_same_in_every_release():
    # sha256sum of: [{"end":2.0,"id":"é","labels":{"s":"x"},"sha256":null,"split":"train","start":1.0}]
    utterance = Utterance("é", "a.wav", start=1, end=2, labels={"s": "x"}, split="train")
    assert fingerprint([utterance]) == "ada5f41c3f71cfed169fc36b6f9cb8d89f22bb76026b9ba689836e685245f820"


@pytest.mark.parametrize(
    "change",
    [
        {"id": "b"},
        {"start": 0.5},
        {"end": 1.0},
        {"labels": {"speaker": "theo"}},
        {"split": None},
        {"sha256": None},
    ],
)
def test_the_fingerprint_changes_with_what_matters(tmp_path, change):
    utterance = full_utterance(tmp_path)
    assert fingerprint([replace(utterance, **change)]) != fingerprint([utterance])


def test_the_fingerprint_covers_segments_where_there_are_any():
    text = (
        '[{"end":2.0,"id":"é","labels":{"s":"x"},"segments":{"p":[[0.0,0.5,"A"]]},'
        '"sha256":null,"split":"train","start":1.0}]'
    )
    plain = Utterance("é", "a.wav", start=1, end=2, labels={"s": "x"}, split="train")
    with_one = replace(plain, segments={"p": [Segment(0, 0.5, "A")]})
    assert fingerprint([with_one]) == hashlib.sha256(text.encode()).hexdigest()
    assert fingerprint([replace(plain, segments={"p": []})]) == fingerprint([plain])
    assert fingerprint([replace(plain, segments={"p": [Segment(0, 0.5, "B")]})]) != fingerprint([with_one])


def test_the_fingerprint_changes_with_the_order(tmp_path):
    first, second = Utterance("a", tmp_path / "a.wav"), Utterance("b", tmp_path / "b.wav")
    assert fingerprint([first, second]) != fingerprint([second, first])


# Selecting


def some():
    return [
        Utterance("a", "a.wav", split="train", labels={"speaker": "x", "word": "yes"}),
        Utterance("b", "b.wav", split="test", labels={"speaker": "x", "word": "no"}),
        Utterance("c", "c.wav", split="train", labels={"speaker": "y"}),
        Utterance("d", "d.wav"),
    ]


@pytest.mark.parametrize(
    ("asked", "ids"),
    [
        ({}, "abcd"),
        ({"split": "train"}, "ac"),
        ({"speaker": "x"}, "ab"),
        ({"split": "train", "speaker": "x", "word": "yes"}, "a"),
    ],
)
def test_selecting_keeps_what_fits_in_order(asked, ids):
    assert "".join(utterance.id for utterance in select(some(), **asked)) == ids


def test_selecting_nothing_lists_what_there_is():
    with pytest.raises(InputError, match=r"^no utterance has split 'dev'; there are split: 'test', 'train'$"):
        select(some(), "dev")
    message = r"no utterance has split 'test' and speaker 'z' and sex 'f'; .* speaker: 'x', 'y'; sex: none$"
    with pytest.raises(InputError, match=message):
        select(some(), "test", speaker="z", sex="f")
    with pytest.raises(InputError, match=r"no utterance has split 'dev'; there are split: none"):
        select([], "dev")


def test_relative_audio_paths_are_written_from_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_manifest([Utterance("a", os.path.join("x", "a.wav"))], "m.jsonl")
    assert read_manifest("m.jsonl")[0].audio == tmp_path / "x" / "a.wav"
