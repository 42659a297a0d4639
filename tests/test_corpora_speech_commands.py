"""corpora.speech_commands: both layouts, the closed-set protocol, and the committed manifest."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from speechgmm.corpora import speech_commands
from speechgmm.corpora.__main__ import main
from speechgmm.corpora.locate import corpus_folder
from speechgmm.corpora.speech_commands import (
    closed_set,
    phone_split,
    phone_utterances,
    utterances,
    verification_split,
)
from speechgmm.errors import FormatError, InputError
from speechgmm.files import sha256_of_text
from speechgmm.manifest import Segment, Utterance, read_manifest, select

MANIFESTS = Path(__file__).parents[1] / "data_manifests" / "speech_commands"
PHONES = MANIFESTS.with_name("speech_commands_phones")


def place(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def said(speaker, words):
    """Utterances of a speaker who says each of the words once."""
    return [
        Utterance(f"{word}_{speaker}", "x.wav", labels={"word": word, "speaker": speaker}) for word in words
    ]


def test_test_archive(tmp_path):
    place(
        tmp_path,
        "down/0cb74144_nohash_12.wav",
        "_unknown_/backward_0cb74144_nohash_2.wav.wav",
        "_silence_/noise.wav",
        "down/._0cb74144_nohash_12.wav",
        "phones.wav",
    )
    backward, down = utterances(tmp_path)
    assert backward.id == "backward_0cb74144_2"
    assert backward.audio == tmp_path / "_unknown_" / "backward_0cb74144_nohash_2.wav.wav"
    assert backward.labels == {"word": "backward", "speaker": "0cb74144", "take": "2"}
    assert (down.id, down.split) == ("down_0cb74144_12", None)
    assert down.labels == {"word": "down", "speaker": "0cb74144", "take": "12"}


def test_whole_corpus_has_its_own_split(tmp_path):
    place(
        tmp_path,
        "bed/00176480_nohash_0.wav",
        "bed/004ae714_nohash_0.wav",
        "cat/004ae714_nohash_1.wav",
        "_background_noise_/running_tap.wav",
    )
    (tmp_path / "testing_list.txt").write_text("cat/004ae714_nohash_1.wav\n")
    (tmp_path / "validation_list.txt").write_text("bed/004ae714_nohash_0.wav\n")
    assert [(u.id, u.split) for u in utterances(tmp_path)] == [
        ("bed_00176480_0", "train"),
        ("bed_004ae714_0", "validation"),
        ("cat_004ae714_1", "test"),
    ]


@pytest.mark.parametrize(
    ("name", "example"),
    [
        ("down/ann_nohash_0.wav", "0a1b2c3d_nohash_0.wav"),
        ("down/bed_0cb74144_nohash_0.wav", "0a1b2c3d_nohash_0.wav"),
        ("_unknown_/0cb74144_nohash_0.wav", "bed_0a1b2c3d_nohash_0.wav.wav"),
    ],
)
def test_another_file_name_is_refused(tmp_path, name, example):
    place(tmp_path, name)
    with pytest.raises(FormatError, match=f"{Path(name).name}: expected a name like {example}"):
        utterances(tmp_path)


def test_a_folder_without_words_is_named(tmp_path):
    place(tmp_path, "_background_noise_/running_tap.wav")
    with pytest.raises(
        InputError, match=r"no words \(<word>/\*\.wav\); is it the folder of Speech Commands\?"
    ):
        utterances(tmp_path)


def test_closed_set_tests_the_last_third_of_the_words_in_the_order_of_their_sha256():
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight"]
    few = said("00000003", ["nine"])  # too few files: neither the speaker nor the word counts
    chosen = closed_set(
        [*said("00000001", words), *few, *said("00000002", words[:5]), *few, *few], min_files=5
    )
    assert Counter(u.labels["speaker"] for u in chosen) == {"00000001": 8, "00000002": 5}
    in_order = sorted(words, key=sha256_of_text)
    assert {u.labels["word"] for u in select(chosen, "test")} == set(in_order[6:])
    assert {u.labels["word"] for u in select(chosen, "train")} == set(in_order[:6])


def test_closed_set_keeps_speakers_with_exactly_min_files():
    chosen = closed_set([*said("00000001", "abc"), *said("00000002", "ab")], min_files=3)
    assert {u.labels["speaker"] for u in chosen} == {"00000001"}


def test_closed_set_without_speakers_or_words_is_an_error():
    with pytest.raises(InputError, match="no speaker has `min_files` = 15 files; the most is 3"):
        closed_set(said("00000001", "abc"))
    with pytest.raises(InputError, match="the speakers say 2 different words"):
        closed_set(said("00000001", "ab"), min_files=1)


def files(speaker, checksums):
    """Utterances of a speaker; of each file's checksum, the first digit is given."""
    return [
        Utterance(f"{speaker}_{n}", "x.wav", labels={"speaker": speaker}, sha256=first + "0" * 63)
        for n, first in enumerate(checksums)
    ]


def test_verification_enrols_a_speaker_s_first_files_in_the_order_of_their_sha256():
    chosen = verification_split(
        [*files("ann", "5197"), *files("bob", "62"), *files("carl", "483")], min_files=3, n_enrol=2
    )
    assert [(u.id, u.split) for u in chosen] == [
        ("ann_0", "enrol"),
        ("ann_1", "enrol"),
        ("ann_2", "test"),
        ("ann_3", "test"),
        ("bob_0", "background"),
        ("bob_1", "background"),
        ("carl_0", "enrol"),
        ("carl_1", "test"),
        ("carl_2", "enrol"),
    ]


def test_verification_keeps_a_recording_once():
    # Without this, ann's "1" would be enrolled and tested, and bob, who has two files twice, enrolled.
    chosen = verification_split([*files("ann", "4112"), *files("bob", "5656")], min_files=3, n_enrol=1)
    assert [(u.id, u.split) for u in chosen] == [
        ("ann_0", "test"),
        ("ann_1", "enrol"),
        ("ann_3", "test"),
        ("bob_0", "background"),
        ("bob_1", "background"),
    ]


@pytest.mark.parametrize("n_enrol", [0, 3])
def test_verification_leaves_files_to_enrol_and_to_test(n_enrol):
    with pytest.raises(InputError, match=f"`n_enrol` is {n_enrol}; .* less than `min_files` = 3"):
        verification_split(files("ann", "1234"), min_files=3, n_enrol=n_enrol)


def test_verification_needs_speakers_on_both_sides_and_checksums():
    with pytest.raises(InputError, match="no speaker has `min_files` = 20 files; the most is 2"):
        verification_split([*files("ann", "12"), *files("bob", "344")])
    with pytest.raises(InputError, match="every speaker has `min_files` = 3 files; none is left"):
        verification_split(files("ann", "123"), min_files=3, n_enrol=1)
    with pytest.raises(InputError, match="utterance 'bed_bob' has no sha256"):
        verification_split([*files("ann", "1"), *said("bob", ["bed"])])


def test_committed_manifest_is_the_closed_set(tmp_path):
    listed = read_manifest(MANIFESTS / "utterances.jsonl", data_dir=tmp_path)
    assert Counter(u.split for u in listed) == {"train": 2373, "test": 604}
    speakers = Counter(u.labels["speaker"] for u in listed)
    assert (len(speakers), min(speakers.values())) == (73, 15)
    # Closed set: every speaker is tested and trained; text-independent: no word is on both sides.
    trained, tested = select(listed, "train"), select(listed, "test")
    for part in (trained, tested):
        assert {u.labels["speaker"] for u in part} == set(speakers)
    train_words, test_words = ({u.labels["word"] for u in part} for part in (trained, tested))
    assert (len(train_words), len(test_words), train_words & test_words) == (24, 11, set())
    assert len({u.id for u in listed}) == len(listed)
    assert all(u.sha256 is not None and u.duration is not None for u in listed)
    assert speech_commands.CORPUS.licence in (MANIFESTS / "LICENCE").read_text("utf-8")


def test_committed_verification_manifest_keeps_speakers_and_recordings_apart(tmp_path):
    listed = read_manifest(MANIFESTS / "verification.jsonl", data_dir=tmp_path)
    assert Counter(u.split for u in listed) == {"background": 1284, "enrol": 530, "test": 2012}
    speakers = {
        part: Counter(u.labels["speaker"] for u in select(listed, part))
        for part in ("background", "enrol", "test")
    }
    assert (len(speakers["background"]), len(speakers["enrol"])) == (102, 53)
    assert speakers["background"].keys().isdisjoint(speakers["enrol"])
    assert speakers["test"].keys() == speakers["enrol"].keys()
    assert set(speakers["enrol"].values()) == {10}
    assert len({u.sha256 for u in listed}) == len({u.id for u in listed}) == len(listed)
    assert all(u.duration is not None for u in listed)


PHONE_TABLE = """\
path\tstart\tend\tphone\tword
go/0cb74144_nohash_2.wav\t0.00\t0.20\tG\tgo
go/0cb74144_nohash_2.wav\t0.20\t0.50\tOW\tgo
go/0cb74144_nohash_2.wav\t0.50\t0.99\tSIL\tgo
no/0cb74144_nohash_2.wav\t0.00\t0.40\tSIL\tno
no/0cb74144_nohash_2.wav\t0.40\t0.99\tSIL\tno
"""


def test_phones_of_the_words_in_which_there_are_any(tmp_path):
    """The table's words have the same file name in other folders: only the whole path counts."""
    place(tmp_path, *(f"{word}/0cb74144_nohash_2.wav" for word in ("down", "go", "no")))
    (tmp_path / "phones.tsv").write_text(PHONE_TABLE)
    (found,) = phone_utterances(tmp_path)
    assert found.id == "go_0cb74144_2"
    assert found.segments == {
        "phones": (Segment(0.0, 0.2, "G"), Segment(0.2, 0.5, "OW"), Segment(0.5, 0.99, "SIL")),
        "words": (Segment(0.0, 0.5, "go"),),
    }
    (tmp_path / "other.tsv").write_text(PHONE_TABLE.replace("go/", "yes/"))
    with pytest.raises(
        InputError, match=r"other\.tsv: has the phones of none of the words; its paths start like"
    ):
        phone_utterances(tmp_path, tmp_path / "other.tsv")


def test_phones_are_tested_on_speakers_who_were_not_trained_on():
    names = [f"s{n}" for n in range(13)]
    listed = [
        Utterance(f"{name}_{n}", "x.wav", labels={"speaker": name}, sha256=sha256_of_text(f"{name}{n}"))
        for n in range(2)
        for name in names
    ]
    chosen = phone_split([*listed, replace(listed[0], id="copy")])
    assert [one.id for one in chosen] == [one.id for one in listed]
    in_order = sorted(names, key=sha256_of_text)
    parts = {"train": in_order[:9], "dev": in_order[9:10], "test": in_order[10:]}
    for part, speakers in parts.items():
        assert {one.labels["speaker"] for one in select(chosen, part)} == set(speakers)


def test_phones_need_five_speakers_and_checksums():
    with pytest.raises(InputError, match="there are 4 speakers; three parts of them need 5 or more"):
        phone_split([one for n in range(4) for one in files(f"s{n}", f"{n}")])
    with pytest.raises(InputError, match="utterance 'bed_bob' has no sha256"):
        phone_split(said("bob", ["bed"]))


def test_committed_phone_manifest_keeps_speakers_and_recordings_apart(tmp_path):
    listed = read_manifest(PHONES / "utterances.jsonl", data_dir=tmp_path)
    assert Counter(one.split for one in listed) == {"train": 2312, "dev": 404, "test": 901}
    speakers = [{one.labels["speaker"] for one in select(listed, part)} for part in ("train", "dev", "test")]
    assert [len(part) for part in speakers] == [108, 16, 31]
    assert len(set.union(*speakers)) == 155
    assert len({one.sha256 for one in listed}) == len({one.id for one in listed}) == len(listed)
    for one in listed:
        assert [segment.label for segment in one.segments["words"]] == [one.labels["word"]]
    assert phone_split(listed) == listed
    licence = (PHONES / "LICENCE").read_text("utf-8")
    assert speech_commands.CORPUS.licence in licence and "forced alignment" in licence


def test_real_corpus_has_the_files_that_the_layout_promises(speech_data):
    assert len(utterances(corpus_folder(speech_commands.CORPUS, speech_data))) == 3947


@pytest.mark.parametrize(
    ("name", "manifest"),
    [
        ("speech_commands", MANIFESTS / "utterances.jsonl"),
        ("speech_commands_verification", MANIFESTS / "verification.jsonl"),
        ("speech_commands_phones", PHONES / "utterances.jsonl"),
    ],
)
def test_committed_manifests_are_what_the_program_writes(speech_data, tmp_path, name, manifest):
    assert main([name, str(speech_data), str(tmp_path / "m.jsonl")]) == 0
    assert (tmp_path / "m.jsonl").read_bytes() == manifest.read_bytes()
