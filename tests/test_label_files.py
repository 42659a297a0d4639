"""Files of phone and word labels: read, written and read again in every form."""

import math
import os
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechgmm.errors import FormatError, InputError
from speechgmm.manifest import Segment, Utterance
from speechgmm.phones.label_files import read_labels, write_labels
from speechgmm.phones.labels import attach

FILES = {"tsv": "x.tsv", "timit": "timit", "htk": "lab", "mlf": "x.mlf", "textgrid": "grids", "ctm": "x.ctm"}
# Half a sample at 16 kHz, half of 100 ns, and exactly; with a little for the rounding of the arithmetic.
RESOLUTION = {"timit": 0.5 / 16000 + 1e-9, "htk": 0.6e-7, "mlf": 0.6e-7}
LABELS = {
    "x/a": {
        "phones": (Segment(0.0, 0.25, "SIL"), Segment(0.25, 0.5, "AY"), Segment(0.75, 1.0, "S")),
        "words": (Segment(0.25, 0.5, "I"), Segment(0.75, 1.0, "'s")),
    },
    "x/b": {"phones": (Segment(0.5, 1.0, "é"),)},
}


def write(folder, texts):
    """Files from a mapping of path to text; the folder."""
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def read_text(tmp_path, name, text, *args, **options):
    """Labels of one file with this text."""
    write(tmp_path, {name: text})
    return read_labels(tmp_path / name, *args, **options)


def line(text):
    """Segments from "a:0-0.5 b:0.5-1"."""
    parts = [part.rsplit(":", 1) for part in text.split()]
    return tuple(Segment(*map(float, times.split("-")), label) for label, times in parts)


def form_of(key):
    return "htk" if key == "mlf" else key


def held(labels, key):
    """What of labels a form holds."""
    if form_of(key) in ("htk", "ctm"):
        return {name: {"phones": tiers["phones"]} for name, tiers in labels.items()}
    return labels


# All forms


@pytest.mark.parametrize("key", FILES)
def test_what_is_written_is_read_again(tmp_path, key):
    path = tmp_path / FILES[key]
    write_labels(LABELS, path, form_of(key))
    assert read_labels(path) == read_labels(path, form_of(key)) == held(LABELS, key)


label_text = st.text(
    st.characters(exclude_categories=("Z", "C"), exclude_characters="()<>"), min_size=1, max_size=4
)


@settings(max_examples=60)
@given(
    key=st.sampled_from(sorted(FILES)),
    steps=st.lists(st.tuples(st.floats(0.0002, 20), st.booleans(), label_text), min_size=1, max_size=8),
)
def test_any_segments_survive_writing_and_reading(tmp_path_factory, key, steps):
    segments, now = [], 0.0
    for seconds, is_gap, label in steps:
        if not is_gap:
            segments.append(Segment(now, now + seconds, label))
        now += seconds
    folder = tmp_path_factory.mktemp("labels", numbered=True)
    labels = {"u": {"phones": tuple(segments)}}
    if not segments:
        with pytest.raises(InputError, match="no labels to write"):
            write_labels(labels, folder / FILES[key], form_of(key))
        return
    write_labels(labels, folder / FILES[key], form_of(key))
    found = read_labels(folder / FILES[key])["u"]["phones"]
    assert [segment.label for segment in found] == [segment.label for segment in segments]
    for one, other in zip(found, segments, strict=True):
        apart = max(abs(one.start - other.start), abs(one.end - other.end))
        assert apart <= RESOLUTION.get(key, 0.0)


@pytest.mark.parametrize(
    ("corpus", "n_utterances", "n_phones"),
    [("LibriSpeech", 206, 21375), ("fsdd", 2901, 12523), ("speech_commands_test_set_v0.02", 3873, 18653)],
)
def test_real_tables_are_read_whole_and_written_alike(speech_data, tmp_path, corpus, n_utterances, n_phones):
    labels = read_labels(speech_data / corpus / "phones.tsv")
    assert len(labels) == n_utterances
    assert sum(len(tiers["phones"]) for tiers in labels.values()) == n_phones
    write_labels(labels, tmp_path / "again.tsv", "tsv")
    assert read_labels(tmp_path / "again.tsv") == labels
    utterances = [Utterance(str(number), speech_data / corpus / name) for number, name in enumerate(labels)]
    assert [one.segments for one in attach(utterances, labels)] == list(labels.values())


@pytest.mark.parametrize("key", FILES)
def test_real_labels_survive_every_form(speech_data, tmp_path, key):
    everything = read_labels(speech_data / "LibriSpeech" / "phones.tsv")
    labels = {name.removesuffix(".flac"): everything[name] for name in sorted(everything)[:20]}
    write_labels(labels, tmp_path / FILES[key], form_of(key))
    # Times are whole hundredths of seconds: whole samples at 16 kHz, and whole units of 100 ns.
    assert read_labels(tmp_path / FILES[key]) == held(labels, key)


def test_words_of_real_tables_are_those_of_the_transcripts(speech_data):
    folder = speech_data / "LibriSpeech" / "train-clean-100" / "19" / "198"
    labels = read_labels(speech_data / "LibriSpeech" / "phones.tsv")
    lines = (folder / "19-198.trans.txt").read_text().splitlines()
    compared = 0
    for name, _, text in (row.partition(" ") for row in lines):
        tiers = labels.get(f"train-clean-100/19/198/{name}.flac")
        if tiers:
            assert [segment.label.upper() for segment in tiers["words"]] == text.split()
            compared += 1
    assert compared > 5


def test_a_folder_gives_each_file_the_name_of_its_path(tmp_path):
    write(tmp_path, {"b/2.LAB": "0 10 a", "1.lab": "0 10 b", "b/2.wav": b"RIFF", "b/notes.txt": "none"})
    assert list(read_labels(tmp_path)) == ["1", "b/2"]


def test_one_tier_of_an_utterance_comes_from_one_file(tmp_path):
    write(tmp_path, {"1.lab": "0 10 a", "all.mlf": '#!MLF!#\n"*/1.lab"\n0 10 b\n.\n'})
    with pytest.raises(FormatError, match=r"all.mlf: has the phones of '1', as .*1.lab does"):
        read_labels(tmp_path)


def test_all_bad_lines_of_all_files_are_named_at_once(tmp_path):
    write(
        tmp_path, {"1.lab": "0 10 a\n5 x b\n10 20 c\n15 20 d\n", "2.lab": "0 10 a\n", "3.lab": "nonsense\n"}
    )
    with pytest.raises(FormatError) as caught:
        read_labels(tmp_path)
    assert str(caught.value).splitlines() == [
        f"{tmp_path}/1.lab: line 2: the time 'x' must be a whole number (of samples, or of 100 ns)",
        f"{tmp_path}/3.lab: line 1: has 1 columns; expected start, end and label: 'nonsense'",
    ]


def test_labels_out_of_order_are_named(tmp_path):
    with pytest.raises(
        FormatError, match=r"line 2: 'b' goes from 0.5 s to 1.5 s, but what comes before it ends at 1 s"
    ):
        read_text(tmp_path, "a.ctm", "u 1 0 1 a\nu 1 0.5 1 b\nu 1 2 1 c\n")
    with pytest.raises(
        FormatError, match=r"line 1: 'a' goes from 1 s to 1 s; it must start at 0 s or later and end"
    ):
        read_text(tmp_path, "b.ctm", "u 1 1 0 a\n")


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        (
            {"a.txt": "0 1 a"},
            {},
            r"a.txt: its form cannot be told by its suffix '.txt'; say which of 'ctm', 'htk'",
        ),
        (
            {"a.lab": "0 1 a"},
            {"form": "praat"},
            r"`form` is 'praat'; it must be 'auto' or one of tsv, timit, htk",
        ),
        (
            {"a.lab": "0 1 a"},
            {"sample_rate": 8000},
            r"`sample_rate` is for the form 'timit', .*; the form is 'htk'",
        ),
        ({"a.phn": "0 1 a"}, {"sample_rate": 0}, r"`sample_rate` is 0; it must be a number of samples"),
        (
            {"a.phn": "0 1 a"},
            {"sample_rate": math.nan},
            r"`sample_rate` is nan; it must be a number of samples",
        ),
    ],
)
def test_what_cannot_be_told_or_meant_is_named(tmp_path, texts, options, message):
    write(tmp_path, texts)
    with pytest.raises(InputError, match=message):
        read_labels(tmp_path / next(iter(texts)), **options)


def test_folders_without_labels_or_with_several_forms_are_refused(tmp_path):
    with pytest.raises(
        InputError, match=r"holds no label files \(.tsv, .phn, .wrd, .lab, .rec, .mlf, .textgrid, .ctm"
    ):
        read_labels(tmp_path)
    write(tmp_path, {"a.lab": "0 1 a", "b.phn": "0 1 a"})
    with pytest.raises(InputError, match=r"holds files of several forms; say which to read: 'htk', 'timit'"):
        read_labels(tmp_path)
    assert list(read_labels(tmp_path, "htk")) == ["a"]


def test_files_that_hold_nothing_or_cannot_be_read_are_named(tmp_path):
    with pytest.raises(FormatError, match=r"a.lab: holds no labels"):
        read_text(tmp_path, "a.lab", "\n")
    with pytest.raises(InputError, match=r"none.lab: cannot be read \(No such file or directory\)"):
        read_labels(tmp_path / "none.lab")
    with pytest.raises(FormatError, match=r"b.lab: byte 4 is not UTF-8 text"):
        read_text(tmp_path, "b.lab", b"0 1 \xe9\n")


# Writing


def test_writing_nothing_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"x.ctm: no labels to write \(of the tier 'words'\)"):
        write_labels({"u": {"phones": line("a:0-1")}}, tmp_path / "x.ctm", "ctm", tier="words")
    with pytest.raises(InputError, match=r"x.tsv: no labels to write"):
        write_labels({"u": {"phones": ()}}, tmp_path / "x.tsv", "tsv")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("labels", "form", "message"),
    [
        (
            {"u": {"phones": line("a:0-1 b:0.5-2")}},
            "tsv",
            r"^'u', phones, segment 2: 'b' goes from 0.5 s to 2 s, but",
        ),
        (
            {"u": {"phones": [Segment(0, 1, "")]}},
            "tsv",
            r"^'u', phones, segment 1: the label is ''; it must be text",
        ),
        ({"u\t": {"phones": line("a:0-1")}}, "tsv", r"the name is 'u\\t'; it must be text"),
        (
            {"u": {"tones": line("a:0-1")}},
            "timit",
            r"the form 'timit' holds phones and words; 'u' has 'tones' \(use 't",
        ),
        (
            {"u": {"phones": [Segment(0, 1, "a b")]}},
            "timit",
            r"cannot hold the phones of 'u' as they are: of 1 segm",
        ),
        (
            {"u": {"phones": [Segment(0, 1, "a b")]}},
            "ctm",
            r"cannot hold .* segment 1, 'a b' from 0 s to 1 s, would be read as 'a' from 0 s to 1 s",
        ),
        (
            {"u": {"phones": [Segment(0, 1e-5, "a")]}},
            "timit",
            r"cannot hold the phones of 'u' .* 'a' from 0 s to 1e-05 s",
        ),
        (
            {"u": {"words": line("a:0-1")}},
            "tsv",
            r"cannot hold the words of 'u' as they are: of 1 segments 0 would",
        ),
        (
            {"u": {"phones": line("a:0-1"), "words": line("w:0-0.9")}},
            "tsv",
            r"'w' from 0 s to 0.9 s, would be read as 'w",
        ),
        (
            {"u": {"phones": line("a:0-1"), "words": line("w(2):0-1")}},
            "tsv",
            r"'w\(2\)' .* would be read as 'w' from 0",
        ),
        (
            {"../u": {"phones": line("a:0-1")}},
            "textgrid",
            r"path '../u.TextGrid' leads out of the data folder",
        ),
        (
            {"u.wav": LABELS["x/b"], "u.flac": LABELS["x/b"]},
            "htk",
            r"two names give the file 'u', such as 'u.flac'",
        ),
    ],
)
def test_what_a_form_cannot_hold_is_refused_before_anything_is_written(tmp_path, labels, form, message):
    with pytest.raises(InputError, match=message):
        write_labels(labels, tmp_path / "out", form)
    assert not list(tmp_path.iterdir())


def test_files_of_utterances_take_the_place_of_audio_suffixes_only(tmp_path):
    write_labels({"x/a.FLAC": LABELS["x/b"], "x/b.01": LABELS["x/b"]}, tmp_path, "textgrid")
    assert sorted(os.listdir(tmp_path / "x")) == ["a.TextGrid", "b.01.TextGrid"]
    assert sorted(read_labels(tmp_path)) == ["x/a", "x/b.01"]


def test_a_file_that_is_in_the_way_stays(tmp_path):
    write(tmp_path, {"x.ctm": "old"})
    with pytest.raises(InputError, match="cannot hold"):
        write_labels({"u": {"phones": [Segment(0, 1, "a b")]}}, tmp_path / "x.ctm", "ctm")
    assert (tmp_path / "x.ctm").read_text() == "old"


# Tables


def table(*rows, header="path start end phone word"):
    return "\n".join("\t".join(row.split()) for row in (header, *rows)) + "\n"


def words_of(tmp_path, *rows):
    found = read_text(tmp_path, "x.tsv", table(*rows))
    return [(segment.label, segment.start, segment.end) for segment in found["u"].get("words", ())]


def test_words_are_neighbouring_rows_of_one_word(tmp_path):
    rows = [
        "u 0 1 SIL <sil>",
        "u 1 2 B bee(2)",
        "u 2 3 IY bee(2)",
        "u 3 4 SIL bee(2)",
        "u 4 5 B bee",
        "u 5 6 M <um>",
    ]
    assert words_of(tmp_path, *rows) == [("bee", 1.0, 3.0), ("bee", 4.0, 5.0)]


def test_equal_words_in_a_row_are_told_by_the_word_elsewhere(tmp_path):
    had = ["u 0 1 HH had", "u 1 2 D had", "u 2 3 HH had", "u 3 4 D had"]
    assert words_of(tmp_path, *had) == [("had", 0.0, 4.0)]
    once = ["v 0 1 HH had", "v 1 2 D had"]
    assert words_of(tmp_path, *had, *once) == [("had", 0.0, 2.0), ("had", 2.0, 4.0)]
    # The word elsewhere is what counts: phones that repeat are no two words by themselves.
    papa = [row.replace("had", "papa") for row in had]
    assert words_of(tmp_path, *papa, *once, *[row.replace("u ", "w ") for row in papa]) == [
        ("papa", 0.0, 4.0)
    ]


def test_a_table_may_have_no_words_and_windows_line_ends(tmp_path):
    text = table("u 0 0.5 a", "v 0 1 b", "u 0.5 1 c", header="path start end phone").replace("\n", "\r\n")
    assert read_text(tmp_path, "x.tsv", text) == {
        "u": {"phones": line("a:0-0.5 c:0.5-1")},
        "v": {"phones": line("b:0-1")},
    }
    assert "words" not in read_text(tmp_path, "y.tsv", table("u 0 1 a <sil>"))["u"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a\tb\nc\td\n",
            r"^.*x.tsv: line 1: the header is 'a\\tb'; it must be path, start, end, phone, perhaps word",
        ),
        (table("u 0 1 a"), r"line 2: has 4 columns; expected 5, as in the header"),
        (table("u 0 1 a w", "u 1 x b w"), r"line 3: start '1' and end 'x' must be numbers of seconds"),
        (table("u 0 nan a w"), r"line 2: 'a' goes from 0 s to nan s; it must"),
        (table("u 0 inf a w"), r"line 2: 'a' goes from 0 s to inf s; it must"),
        ("path\tstart\tend\tphone\nu\t0\t1\t\n", r"line 2: the label is ''; it must be text"),
        (table(), r"x.tsv: holds no labels"),
    ],
)
def test_bad_rows_of_tables_are_named(tmp_path, text, message):
    with pytest.raises(FormatError, match=message):
        read_text(tmp_path, "x.tsv", text)


# TIMIT's form


def test_timits_files_count_samples_and_make_two_tiers(tmp_path):
    write(tmp_path, {"DR1/SA1.PHN": "0 8000 h#\r\n8000 16000 sh\r\n", "DR1/SA1.WRD": "8000 16000 she\r\n"})
    expected = {"phones": line("h#:0-0.5 sh:0.5-1"), "words": line("she:0.5-1")}
    assert read_labels(tmp_path) == {"DR1/SA1": expected}
    assert read_labels(tmp_path / "DR1" / "SA1.WRD") == {"SA1": {"words": expected["words"]}}
    assert read_labels(tmp_path, sample_rate=8000)["DR1/SA1"]["words"] == line("she:1-2")


def test_words_that_share_a_phone_are_parted_in_its_middle(tmp_path):
    text = "5723 10337 had\n9190 11517 your\n"
    found = read_text(tmp_path, "x.wrd", text)["x"]["words"]
    middle = (9190 + 10337) / 2 / 16000
    assert [(word.label, word.start, word.end) for word in found] == [
        ("had", 5723 / 16000, pytest.approx(middle, abs=1e-12)),
        ("your", found[0].end, 11517 / 16000),
    ]
    with pytest.raises(
        FormatError, match=r"line 2: 'your' goes from .* but what comes before it ends at 0.646"
    ):
        read_text(tmp_path, "x.phn", text)


# HTK's forms


def test_htks_labels_may_have_scores_quotes_and_escapes(tmp_path):
    text = (
        '0 5000000 sil -12.5 SENT-START\n5000000 10000000 "two words" -1e3\n10000000 20000000 "a\\"b\\\\"\n'
    )
    assert read_text(tmp_path, "u.rec", text, tier="words") == {
        "u": {"words": (Segment(0, 0.5, "sil"), Segment(0.5, 1, "two words"), Segment(1, 2, 'a"b\\'))}
    }


def test_labels_that_htk_would_misread_are_quoted(tmp_path):
    labels = ["a b", '"', "'s", "5", "-", ".", "\\", "é", "a'b"]
    segments = tuple(Segment(number, number + 1, label) for number, label in enumerate(labels))
    write_labels({"u": {"phones": segments}}, tmp_path / "x.mlf", "htk")
    assert (tmp_path / "x.mlf").read_text("utf-8").splitlines()[2:7] == [
        '0 10000000 "a b"',
        '10000000 20000000 "\\""',
        '20000000 30000000 "\'s"',
        '30000000 40000000 "5"',
        '40000000 50000000 "-"',
    ]
    assert read_labels(tmp_path / "x.mlf") == {"u": {"phones": segments}}


def test_a_master_label_file_holds_many_utterances(tmp_path):
    text = '#!MLF!#\n"*/s1/a.lab"\n0 10000000 x\n.\n"/full/path/b.rec"\n0 10000000 y\n.\n'
    assert read_text(tmp_path, "x.mlf", text) == {
        "/full/path/b": {"phones": line("y:0-1")},
        "s1/a": {"phones": line("x:0-1")},
    }


def test_lines_outside_of_utterances_are_named(tmp_path):
    with pytest.raises(
        FormatError, match=r"line 2: is '0 1 x'; expected the name of an utterance in double quotes"
    ):
        read_text(tmp_path, "x.mlf", '#!MLF!#\n0 1 x\n"*/a.lab"\n0 1 x\n.\n')


# CTM


def test_ctm_rows_give_durations_and_perhaps_confidences(tmp_path):
    text = ";; a comment\nu 1 0.54 0.05 DH 0.98\nu A 0.59 0.07 IH\nu 2 0.10 0.10 S\n"
    assert read_text(tmp_path, "x.ctm", text, tier="words") == {
        # 0.54 + 0.05 is 0.5900000000000001 in binary arithmetic.
        "u": {"words": line("DH:0.54-0.59 IH:0.59-0.66")},
        "u:2": {"words": line("S:0.1-0.2")},
    }


def test_bad_ctm_rows_are_named(tmp_path):
    with pytest.raises(FormatError) as caught:
        read_text(tmp_path, "x.ctm", "u 1 0 1\nu 1 a 1 x\nu 1 0 NaN x\nu 1 0 1e999 x\n")
    assert str(caught.value).split("x.ctm: ")[1].splitlines() == [
        "line 1: has 4 columns; expected name, channel, start, duration, label and perhaps a confidence: 'u 1 0 1'",
        "  line 2: start 'a' and duration '1' must be numbers of seconds",
        "  line 3: 'x' goes from 0 s to nan s; it must start at 0 s or later and end after that",
        "  line 4: 'x' goes from 0 s to inf s; it must start at 0 s or later and end after that",
    ]


# TextGrids

LONG = '''File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 1.5
tiers? <exists>
size = 3
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 1.5
        intervals: size = 2
        intervals [1]:
            xmin = 0
            xmax = 0.5
            text = ""
        intervals [2]:
            xmin = 0.5
            xmax = 1.5
            text = "a ""b"""
    item [2]:
        class = "TextTier"
        name = "clicks"
        xmin = 0
        xmax = 1.5
        points: size = 1
        points [1]:
            number = 0.7
            mark = "!"
    item [3]:
        class = "IntervalTier"
        name = "phones"
        xmin = 0
        xmax = 1.5
        intervals: size = 2
        intervals [1]:
            xmin = 0
            xmax = 0.5
            text = "é"
        intervals [2]:
            xmin = 0.5
            xmax = 1.5
            text = "s"
'''
SHORT = '''File type = "ooTextFile"
Object class = "TextGrid"

0
1.5
<exists>
3
"IntervalTier"
"words"
0
1.5
2
0
0.5
""
0.5
1.5
"a ""b"""
"TextTier"
"clicks"
0
1.5
1
0.7
"!"
"IntervalTier"
"phones"
0
1.5
2
0
0.5
"é"
0.5
1.5
"s"
'''
GRID = {"words": (Segment(0.5, 1.5, 'a "b"'),), "phones": line("é:0-0.5 s:0.5-1.5")}


@pytest.mark.parametrize("text", [LONG, SHORT, LONG.replace("\n", "\r\n"), SHORT.replace("\n", "\r\n")])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_textgrids_are_read_in_both_forms_and_encodings(tmp_path, text, encoding):
    assert read_text(tmp_path, "u.TextGrid", text.encode(encoding)) == {"u": GRID}


@pytest.mark.parametrize("whole", [LONG, SHORT])
def test_a_textgrid_that_is_cut_short_is_never_taken_for_a_whole_one(tmp_path, whole):
    lines = whole.splitlines(keepends=True)
    for stop in range(1, len(lines)):
        with pytest.raises((FormatError, InputError), match=r"u.TextGrid: "):
            read_text(tmp_path, "u.TextGrid", "".join(lines[:stop]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense", r"u.TextGrid: is not a TextGrid"),
        (b"\xff\xfe\x00", r"u.TextGrid: byte 2 is neither UTF-8 text nor UTF-16 with a byte order mark"),
        (b"\xe9", r"u.TextGrid: byte 0 is neither UTF-8 text nor UTF-16"),
        (LONG.replace('"phones"', '"words"'), r"u.TextGrid: has two tiers of the name 'words'"),
        (
            "xmin = 0.4".join(LONG.rsplit("xmin = 0.5", 1)),
            r"u.TextGrid: line 2: 's' goes from 0.4 s to 1.5 s, but what comes before it ends at 0.5 s",
        ),
        (LONG.replace("xmax = 0.5", "xmax = x"), r"u.TextGrid: is not a whole TextGrid \("),
    ],
)
def test_bad_textgrids_are_named(tmp_path, text, message):
    with pytest.raises(FormatError, match=message):
        read_text(tmp_path, "u.TextGrid", text)


def test_an_independent_reader_finds_what_was_written(tmp_path):
    textgrids = pytest.importorskip("textgrids", reason="compares with the package praat-textgrids")
    write_labels(LABELS, tmp_path, "textgrid")
    grid = textgrids.TextGrid(str(tmp_path / "x" / "a.TextGrid"))
    for tier, segments in LABELS["x/a"].items():
        found = [Segment(one.xmin, one.xmax, one.text) for one in grid[tier] if one.text]
        assert found == list(segments)
    # Praat wants intervals without gaps, from the start to the end of the file.
    assert [(one.xmin, one.xmax) for one in grid["words"]] == [(0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1)]


def test_small_overlaps_are_taken_off_in_textgrids(tmp_path):
    labels = {"u": {"phones": line("a:0-0.5 b:0.4995-1")}}
    write_labels(labels, tmp_path, "textgrid")
    assert read_labels(tmp_path)["u"]["phones"] == line("a:0-0.5 b:0.5-1")


def test_textgrids_say_what_to_install(tmp_path, monkeypatch):
    for module in ("praatio", "praatio.utilities"):
        monkeypatch.setitem(sys.modules, module, None)
    message = r"need the package praatio; install it with: pip install 'speechgmm\[phones\]'"
    with pytest.raises(InputError, match=message):
        read_text(tmp_path, "u.TextGrid", LONG)
    with pytest.raises(InputError, match=message):
        write_labels(LABELS, tmp_path / "out", "textgrid")


def test_a_tier_may_be_without_intervals(tmp_path):
    empty = (
        LONG[: LONG.index("        intervals: size = 2", LONG.index('"phones"'))]
        + "        intervals: size = 0\n"
    )
    assert read_text(tmp_path, "u.TextGrid", empty) == {"u": {"words": GRID["words"]}}
    short = SHORT[: SHORT.rindex("1.5\n2\n")] + "1.5\n0\n"
    assert read_text(tmp_path, "u.TextGrid", short) == {"u": {"words": GRID["words"]}}
