"""Utterances from folders, tables and file names."""

import os
from pathlib import Path

import pytest

from speechgmm.errors import FormatError, InputError, SpeechGMMWarning
from speechgmm.manifest import Utterance
from speechgmm.manifest_build import from_folders, from_pattern, from_table


@pytest.fixture
def plant(tmp_path):
    """A function that makes empty files of the names given; building does not open them."""

    def make(*names):
        for name in names:
            path = tmp_path / "root" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path / "root"

    return make


@pytest.fixture
def table(tmp_path):
    """A function that writes a table."""

    def write(text, name="t.csv"):
        path = tmp_path / name
        path.write_bytes(text.encode())
        return path

    return write


def ids(utterances):
    return [utterance.id for utterance in utterances]


# Folders


def test_the_first_folder_is_the_label(plant):
    root = plant("theo/b.wav", "george/2024/x/a.FLAC", "george/notes.txt", "theo/a.wav")
    assert from_folders(root) == [
        Utterance("george/2024/x/a", root / "george/2024/x/a.FLAC", labels={"speaker": "george"}),
        Utterance("theo/a", root / "theo/a.wav", labels={"speaker": "theo"}),
        Utterance("theo/b", root / "theo/b.wav", labels={"speaker": "theo"}),
    ]
    assert from_folders(root, label="singer")[0].labels == {"singer": "george"}


def test_relative_roots_give_audio_that_can_be_opened_from_anywhere(plant, monkeypatch):
    root = plant("theo/a.wav")
    monkeypatch.chdir(root.parent)
    assert from_folders("root")[0].audio == root / "theo/a.wav"


def test_hidden_files_and_folders_are_left_out(plant):
    root = plant("theo/a.wav", "theo/._a.wav", ".cache/a.wav", "theo/.old/b.wav")
    assert ids(from_folders(root)) == ["theo/a"]


def test_ids_keep_the_suffix_only_where_they_would_be_the_same(plant):
    root = plant("s/a.wav", "s/a.flac", "s/b.c.wav")
    assert ids(from_folders(root)) == ["s/a.flac", "s/a.wav", "s/b.c"]


def test_a_suffix_that_makes_another_clash_is_kept_too(plant):
    root = plant("s/a.wav", "s/a.flac", "s/a.wav.flac")
    assert ids(from_folders(root)) == ["s/a.flac", "s/a.wav", "s/a.wav.flac"]


def test_links_to_folders_are_followed_but_not_in_circles(plant):
    root = plant("theo/a.wav")
    elsewhere = root.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "b.wav").touch()
    (root / "george").symlink_to(elsewhere)
    (elsewhere / "round").symlink_to(root)
    assert ids(from_folders(root)) == ["george/b", "theo/a"]


def test_loose_audio_is_left_out_with_a_warning(plant):
    root = plant("theo/a.wav", "b.wav", "c.wav")
    with pytest.warns(SpeechGMMWarning, match=r"root: 2 audio files lie in no speaker folder") as caught:
        assert ids(from_folders(root)) == ["theo/a"]
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_a_root_without_audio_in_folders_names_the_layout(plant):
    for root in (plant("theo/readme.txt"), plant("a.wav")):
        with pytest.raises(
            InputError, match=r"root: no audio in folders below it; expected <speaker>/\*\.wav"
        ):
            from_folders(root)


def test_a_root_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere: no such folder"):
        from_folders(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"nowhere: no such folder"):
        from_pattern(tmp_path / "nowhere", "{a}.wav")


def test_a_folder_that_cannot_be_read_is_named(plant, monkeypatch):
    root = plant("theo/a.wav")

    def refuse(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(InputError, match=r"root: cannot be read \(Permission denied\)"):
        from_folders(root)


def test_a_name_that_is_not_utf8_is_refused_before_it_breaks_a_manifest(plant):
    root = plant("theo/a.wav")
    try:
        Path(os.fsdecode(bytes(root / "theo") + b"/caf\xe9.wav")).touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(InputError, match=r"utterance 'theo/caf\\udce9': .* bytes that are not UTF-8"):
        from_folders(root)


# Patterns


def test_the_parts_of_names_are_labels(plant):
    root = plant("7_theo_12.wav", "0_george_3.wav")
    assert from_pattern(root, "{word}_{speaker}_{take}.wav") == [
        Utterance(
            "0_george_3", root / "0_george_3.wav", labels={"word": "0", "speaker": "george", "take": "3"}
        ),
        Utterance("7_theo_12", root / "7_theo_12.wav", labels={"word": "7", "speaker": "theo", "take": "12"}),
    ]


def test_a_pattern_may_hold_folders_stars_and_characters_special_elsewhere(plant):
    root = plant("19/s (1)/a.flac", "19/s (2)/b.flac")
    utterances = from_pattern(root, "{speaker}/s ({session})/*.flac")
    assert ids(utterances) == ["19/s (1)/a", "19/s (2)/b"]
    assert [utterance.labels for utterance in utterances] == [
        {"speaker": "19", "session": "1"},
        {"speaker": "19", "session": "2"},
    ]


def test_names_and_stars_stay_within_a_folder(plant):
    root = plant("a/b/c.wav")
    for pattern in ("{speaker}.wav", "{speaker}/*.wav"):
        with pytest.raises(InputError, match="no audio file fits"):
            from_pattern(root, pattern)


def test_a_name_that_comes_again_is_the_same_text(plant):
    root = plant("19/19-1.flac", "19/26-1.flac")
    with pytest.warns(SpeechGMMWarning, match="1 of 2 audio files do not fit"):
        utterances = from_pattern(root, "{speaker}/{speaker}-{take}.flac")
    assert [utterance.labels for utterance in utterances] == [{"speaker": "19", "take": "1"}]


def test_files_that_do_not_fit_are_counted_in_one_warning(plant):
    root = plant("a_1.wav", "b.wav", "c.wav", "notes_1.txt")
    with pytest.warns(
        SpeechGMMWarning, match=r"root: 2 of 3 audio files do not fit '\{s\}_\{t\}.wav'"
    ) as caught:
        assert ids(from_pattern(root, "{s}_{t}.wav")) == ["a_1"]
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_a_name_that_fits_in_several_ways_is_read_from_the_left_with_a_warning(plant):
    root = plant("0_mary_ann_3.wav", "1_theo_4.wav")
    message = (
        r"1 audio files fit '.*' in several ways; '0_mary_ann_3.wav' was read as "
        r"\{'word': '0', 'speaker': 'mary', 'take': 'ann_3'\}"
    )
    with pytest.warns(SpeechGMMWarning, match=message):
        utterances = from_pattern(root, "{word}_{speaker}_{take}.wav")
    assert [utterance.label("speaker") for utterance in utterances] == ["mary", "theo"]


def test_a_pattern_that_nothing_fits_is_shown_beside_a_file(plant):
    root = plant("theo/a.wav", "theo/b.wav")
    message = (
        r"root: no audio file fits the pattern '\{s\}\.wav'; the first of 2 audio files is 'theo/a\.wav'$"
    )
    with pytest.raises(InputError, match=message):
        from_pattern(root, "{s}.wav")


def test_a_root_without_audio_says_so(plant):
    with pytest.raises(InputError, match=r"no audio file fits the pattern '\{s\}\.wav': it has no audio$"):
        from_pattern(plant("a.txt"), "{s}.wav")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("*.wav", r"pattern '\*\.wav' needs a label in braces, such as \{speaker\}/\*\.wav"),
        ("{speaker.wav", r"pattern '\{speaker\.wav' has a brace without its partner"),
        ("{speaker}}.wav", r"pattern '\{speaker\}\}\.wav' has a brace without its partner"),
        ("{}.wav", r"pattern '\{\}\.wav': '\{\}' is no label; write \{speaker\} or the like"),
        ("{my speaker}.wav", r"'\{my speaker\}' is no label"),
    ],
)
def test_a_malformed_pattern_is_refused(plant, pattern, message):
    with pytest.raises(InputError, match=message):
        from_pattern(plant("a.wav"), pattern)


# Tables


def test_columns_become_fields_and_labels(table, tmp_path):
    digest = "0f" * 32
    path = table(
        "id,audio,start,end,split,sha256,speaker,text\n"
        f'u1,x/a.wav,0.5,1.25,train,{digest},george,"yes, no"\n'
        "u2,x/b.wav,,,,,,\n"
    )
    assert from_table(path) == [
        Utterance(
            "u1",
            tmp_path / "x/a.wav",
            start=0.5,
            end=1.25,
            split="train",
            sha256=digest,
            labels={"speaker": "george", "text": "yes, no"},
        ),
        Utterance("u2", tmp_path / "x/b.wav"),
    ]


@pytest.mark.parametrize("name", ["audio", "path", "file"])
def test_the_audio_column_has_three_names(table, tmp_path, name):
    assert from_table(table(f"{name},speaker\na.wav,s\n")) == [
        Utterance("a", tmp_path / "a.wav", labels={"speaker": "s"})
    ]


@pytest.mark.parametrize(
    ("name", "delimiter"), [("t.tsv", "\t"), ("t.TAB", "\t"), ("t.csv", ","), ("t.csv", ";"), ("t.txt", "\t")]
)
def test_the_delimiter_follows_from_the_suffix_or_the_header(table, name, delimiter):
    text = "\ufeffaudio , speaker\r\na.wav , s\r\n\r\n".replace(",", delimiter)
    assert [utterance.labels for utterance in from_table(table(text, name))] == [{"speaker": "s"}]


def test_commas_in_the_header_of_a_tsv_file_are_text(table):
    path = table("audio\tname,first,last\na.wav\tx\n", "t.TSV")
    assert from_table(path)[0].labels == {"name,first,last": "x"}


def test_columns_may_be_renamed(table, tmp_path):
    path = table("clip,client_id,path\nx/a.mp3,s1,p\n")
    columns = {"audio": "clip", "speaker": "client_id"}
    assert from_table(path, columns=columns) == [
        Utterance("x/a", tmp_path / "x/a.mp3", labels={"speaker": "s1", "path": "p"})
    ]


def test_ids_name_the_parts_of_a_file(table):
    path = table("audio,start,end\na.wav,0,1.5\na.wav,1.5,\na.flac,,2\nb.wav,,\n")
    assert ids(from_table(path)) == ["a.wav@0-1.5", "a.wav@1.5-", "a.flac@0-2", "b"]


def test_parts_of_one_file_do_not_lengthen_its_id(table):
    assert ids(from_table(table("audio,start,end\nx/a.wav,0,1\nx/a.wav,1,2\n"))) == ["x/a@0-1", "x/a@1-2"]


def test_paths_of_a_table_start_from_the_data_folder_if_one_is_given(table, tmp_path):
    (tmp_path / "data").mkdir()
    path = table("audio\nx/a.wav\n")
    assert from_table(path, data_dir=tmp_path / "data")[0].audio == tmp_path / "data/x/a.wav"
    with pytest.raises(InputError, match=r"data folder '.*nowhere': no such folder"):
        from_table(path, data_dir=tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"t\.csv: line 1: no column 'audio', 'path' or 'file'; the columns are none"),
        ("speaker,wav\n", r"line 1: no column 'audio', 'path' or 'file'; the columns are 'speaker', 'wav'"),
        ("audio,,speaker\n", r"line 1: column 2 has no name"),
        ("audio,speaker,speaker\n", r"line 1: 2 columns for 'speaker': 'speaker', 'speaker'"),
        ("\naudio,path\n", r"line 2: 2 columns for 'audio': 'audio', 'path'"),
        ("audio,speaker\n,,\n", r"t\.csv: no rows below the header"),
        ("audio\na.wav\nb.wav,x\n", r"t\.csv: line 3: has 2 cells, the header has 1"),
        ("audio,speaker\n,x\n", r"line 2: the cell of `audio` is empty"),
        ("audio,id\na.wav,\n", r"line 2: the cell of `id` is empty"),
        ('audio,end\na.wav,"1,5"\n', r"line 2: `end` is '1,5'; it must be a number of seconds, such as 1.25"),
        (
            "audio,start,end\na.wav,2,1\n",
            r"line 2: utterance 'a\.wav': `end` is 1.0; it must be after `start`",
        ),
        ("audio,sha256\na.wav,abc\n", r"line 2: utterance 'a\.wav': `sha256` is 'abc'; it must be 64"),
        ('audio,speaker\na.wav,"x\n', r"t\.csv: line 2: unexpected end of data"),
    ],
)
def test_a_malformed_table_is_refused(table, text, message):
    with pytest.raises(FormatError, match=message):
        from_table(table(text))


def test_all_malformed_rows_are_named_at_once(table):
    path = table("audio,start\na.wav,x\n../b.wav,1\nc.wav,1\n,\nd.wav\n")
    message = r"line 2: `start` is 'x'.*\n  line 3: `audio` '../b.wav' leads out.*\n  line 6: has 1 cells"
    with pytest.raises(FormatError, match=message):
        from_table(path)


def test_table_paths_that_lead_out_are_refused(table):
    with pytest.raises(InputError, match=r"t\.csv: line 2: `audio` '/a\.wav' leads out of .*--data-dir"):
        from_table(table("audio\n/a.wav\n"))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"speaker": "who"}, r"t\.csv: line 1: no column 'who'; the columns are 'audio', 'name'"),
        ({"speaker": "name", "id": "name"}, r"`columns` gives one column of the table two names"),
    ],
)
def test_columns_that_do_not_fit_the_table_are_refused(table, columns, message):
    with pytest.raises(InputError, match=message):
        from_table(table("audio,name\na.wav,x\n"), columns=columns)


def test_renaming_a_column_to_one_that_is_there_is_refused(table):
    path = table("audio,speaker,client\na.wav,x,y\n")
    with pytest.raises(FormatError, match=r"line 1: 2 columns for 'speaker': 'speaker', 'client'"):
        from_table(path, columns={"speaker": "client"})


def test_a_table_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(InputError, match=r"t\.csv: cannot be read \(No such file or directory\)"):
        from_table(tmp_path / "t.csv")


# Real speech


def test_the_digit_dataset_by_its_file_names(speech_data):
    utterances = from_pattern(speech_data / "fsdd" / "recordings", "{word}_{speaker}_{take}.wav")
    assert len(utterances) == 3000
    assert {utterance.label("speaker") for utterance in utterances} == {
        "george",
        "jackson",
        "lucas",
        "nicolas",
        "theo",
        "yweweler",
    }


def test_librispeech_by_its_folders_and_by_its_names(speech_data):
    root = speech_data / "LibriSpeech" / "train-clean-100"
    by_folder = from_folders(root)
    by_name = from_pattern(root, "{speaker}/{chapter}/{speaker}-{chapter}-{take}.flac")
    assert ids(by_folder) == ids(by_name)
    assert [u.label("speaker") for u in by_folder] == [u.label("speaker") for u in by_name]
    assert sum(u.label("speaker") in ("19", "26", "27") for u in by_name) == 206
