"""corpora.librispeech: the layout of every part, what SPEAKERS.TXT and the transcripts add, and downloads."""

import io
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from speechgmm.corpora import librispeech
from speechgmm.corpora.__main__ import main
from speechgmm.corpora.librispeech import (
    PARTS,
    TEST_CLEAN,
    TRAIN_CLEAN_100,
    phone_split,
    phone_utterances,
    utterances,
)
from speechgmm.corpora.locate import corpus_folder
from speechgmm.errors import FormatError, InputError
from speechgmm.files import sha256_of_text
from speechgmm.manifest import Segment, Utterance, read_manifest, select, write_manifest

PHONES = Path(__file__).parents[1] / "data_manifests" / "librispeech_phones"

SPEAKERS = """\
; Some pipe(|) separated metadata about all LibriVox readers
;
;ID  |SEX| SUBSET           |MINUTES| NAME
19   | F | train-clean-100  | 25.19 | Kara Shallenberg
60   | M | train-clean-100  | 20.18 | |CBW|Simon
1089 | M | test-clean       | 8.04  | Peter Bobbe
"""


def place(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


@pytest.fixture
def tree(tmp_path):
    """A small LibriSpeech."""
    folder = tmp_path / "LibriSpeech"
    place(
        folder,
        "train-clean-100/60/121082/60-121082-0003.flac",
        "train-clean-100/19/227/19-227-0000.flac",
        "train-clean-100/19/198/19-198-0010.flac",
        "train-clean-100/19/198/19-198-0002.flac",
        "train-clean-100/19/198/._19-198-0002.flac",
        "train-clean-100/7/1/7-1-0000.flac",
        "test-clean/1089/134686/1089-134686-0000.flac",
        "intro/19/198/intro.flac",
    )
    (folder / "SPEAKERS.TXT").write_text(SPEAKERS)
    (folder / "train-clean-100/19/198/19-198.trans.txt").write_text(
        "19-198-0002 NORTHANGER ABBEY\n19-198-0003 NOT THERE\n"
    )
    return folder


def test_layout(tree):
    found = utterances(tree)
    assert [(u.id, u.split, u.labels.get("gender")) for u in found] == [
        ("19-198-0002", "train", "f"),
        ("19-198-0010", "train", "f"),
        ("19-227-0000", "train", "f"),
        ("60-121082-0003", "train", "m"),
        ("7-1-0000", "train", None),
        ("1089-134686-0000", "test", "m"),
    ]
    assert found[0].audio == tree / "train-clean-100" / "19" / "198" / "19-198-0002.flac"
    assert found[0].labels == {"speaker": "19", "chapter": "198", "part": "train-clean-100", "gender": "f"}


def test_parts(tree):
    assert [u.id for u in utterances(tree, parts=["test-clean"])] == ["1089-134686-0000"]
    assert utterances(tree, parts="test-clean") == utterances(tree, parts=["test-clean"])
    assert utterances(tree, parts=["test-clean", "train-clean-100"]) == utterances(tree)
    with pytest.raises(InputError, match="no part 'dev-clean'; there are 'test-clean', 'train-clean-100'"):
        utterances(tree, parts=["dev-clean", "test-clean"])


@pytest.mark.parametrize("part", PARTS)
def test_every_part_is_known(tmp_path, part):
    place(tmp_path, f"{part}/19/198/19-198-0001.flac")
    (found,) = utterances(tmp_path)
    assert (found.labels["part"], found.split) == (part, part[: part.index("-")])


def test_text_where_the_transcript_has_it(tree):
    texts = {u.id: u.labels.get("text") for u in utterances(tree, text=True)}
    assert texts == {**dict.fromkeys(texts), "19-198-0002": "NORTHANGER ABBEY"}
    (tree / "train-clean-100/19/198/19-198.trans.txt").write_text("19-198-0002 A\n\n19-198-0010\n")
    with pytest.raises(
        FormatError, match=r"19-198\.trans\.txt: line 3 is '19-198-0010'; expected an id and what"
    ):
        utterances(tree, text=True)
    assert all("text" not in u.labels for u in utterances(tree))


def test_without_speakers_txt_there_is_no_gender(tree):
    (tree / "SPEAKERS.TXT").unlink()
    assert all(set(u.labels) == {"speaker", "chapter", "part"} for u in utterances(tree))


@pytest.mark.parametrize("line", ["19 | F | train-clean-100", "19 | X | train-clean-100 | 25.19 | Kara"])
def test_another_speakers_txt_is_refused(tree, line):
    (tree / "SPEAKERS.TXT").write_text(f"; comment\n{line}\n")
    with pytest.raises(FormatError, match=r"SPEAKERS\.TXT: line 2 is .*; expected one like '19 \| F"):
        utterances(tree)


@pytest.mark.parametrize("name", ["19/198/20-198-0001.flac", "19/198/19-199-0001.flac", "19/198/a.flac"])
def test_another_place_is_refused(tmp_path, name):
    place(tmp_path, f"dev-other/{name}")
    with pytest.raises(FormatError, match=r"\.flac: expected a place like 19/198/19-198-0001\.flac"):
        utterances(tmp_path)


def test_a_folder_without_utterances_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no utterances \(<part>/.*is it the folder of LibriSpeech\?"):
        utterances(tmp_path)


def test_manifest_there_and_back(tree, tmp_path):
    write_manifest(utterances(tree, text=True), tmp_path / "m.jsonl")
    assert read_manifest(tmp_path / "m.jsonl") == utterances(tree, text=True)


def test_parts_are_downloaded_beside_each_other(tree, tmp_path, monkeypatch):
    """Each archive holds one part and the files about all of them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("SPEECHGMM_DATA", raising=False)
    place(tree, TRAIN_CLEAN_100.example)

    def download(self, url, output_file, pooch):
        part = url.removeprefix("http://www.openslr.org/resources/12/").removesuffix(".tar.gz")
        with tarfile.open(output_file, "w:gz") as archive:
            archive.add(tree / part, arcname=f"LibriSpeech/{part}")
            content = f"{SPEAKERS};{part}\n".encode()
            info = tarfile.TarInfo("LibriSpeech/SPEAKERS.TXT")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))

    monkeypatch.setattr("pooch.HTTPDownloader.__call__", download)
    folder = corpus_folder(TEST_CLEAN)
    assert {u.labels["part"] for u in utterances(folder)} == {"test-clean"}
    assert corpus_folder(TRAIN_CLEAN_100) == folder
    assert sorted(path.name for path in folder.iterdir()) == ["SPEAKERS.TXT", "test-clean", "train-clean-100"]
    assert (folder / "SPEAKERS.TXT").read_text().endswith(";test-clean\n")  # the first stays
    assert len(utterances(folder)) == 7


def test_real_corpus(speech_data):
    folder = corpus_folder(librispeech.TRAIN_CLEAN_100, speech_data)
    found = utterances(folder, text=True)
    speakers = Counter(u.labels["speaker"] for u in found)
    assert len(found) == 336 and len(speakers) == 133
    assert sum(speakers[who] for who in ("19", "26", "27")) == 206
    assert {u.labels["gender"] for u in found} == {"f", "m"}
    assert {u.labels["part"] for u in found} == {"train-clean-100"}
    assert all(u.audio.is_file() for u in found)
    texts = select(found, speaker="19", chapter="198")
    assert texts[0].labels["text"].startswith("THIS LITTLE WORK WAS FINISHED")
    assert sum("text" in u.labels for u in found) == 206


PHONE_TABLE = """\
path\tstart\tend\tphone\tword
train-clean-100/19/198/19-198-0002.flac\t0.00\t0.54\tSIL\t<sil>
train-clean-100/19/198/19-198-0002.flac\t0.54\t0.59\tDH\tthe(2)
train-clean-100/19/198/19-198-0002.flac\t0.59\t0.66\tIY\tthe(2)
"""


def test_phones_of_the_utterances_that_have_them(tree, tmp_path):
    (tree / "phones.tsv").write_text(PHONE_TABLE)
    (found,) = phone_utterances(tree)
    assert (found.id, found.labels["text"]) == ("19-198-0002", "NORTHANGER ABBEY")
    assert found.segments == {
        "phones": (Segment(0.0, 0.54, "SIL"), Segment(0.54, 0.59, "DH"), Segment(0.59, 0.66, "IY")),
        "words": (Segment(0.54, 0.66, "the"),),
    }
    (tmp_path / "other.tsv").write_text(PHONE_TABLE.replace("IY", "AH").replace("19-198-0002", "19-198-0010"))
    (other,) = phone_utterances(tree, tmp_path / "other.tsv")
    assert (other.id, other.segments["phones"][2].label) == ("19-198-0010", "AH")


def test_phones_of_other_utterances_are_an_error(tree):
    (tree / "phones.tsv").write_text(PHONE_TABLE.replace("0002", "0003"))
    with pytest.raises(InputError, match="6 of 6 utterances have no labels"):
        phone_utterances(tree)


def spoken(*names):
    """Utterances by their ids, speaker-chapter-number."""
    return [
        Utterance(name, "x.flac", labels=dict(zip(("speaker", "chapter"), name.split("-"), strict=False)))
        for name in names
    ]


def test_phones_are_tested_on_three_chapters_and_every_eighth_of_the_others_is_for_development():
    others = [f"{chapter}-{n:04d}" for chapter in ("19-227", "26-495", "7-124992") for n in range(6)]
    tested = ["19-198-0000", "26-496-0001", "27-124992-0002"]
    chosen = phone_split(spoken(*others, *tested))
    assert [one.id for one in chosen] == [*others, *tested]
    in_order = sorted(others, key=sha256_of_text)
    assert {one.id for one in select(chosen, "dev")} == {in_order[0], in_order[8], in_order[16]}
    assert {one.id for one in select(chosen, "test")} == set(tested)
    assert len(select(chosen, "train")) == 15


def test_every_part_for_phones_must_have_utterances():
    with pytest.raises(InputError, match="of 9 utterances none is for 'test'; the test part is the chapters"):
        phone_split(spoken(*(f"19-227-{n}" for n in range(9))))
    with pytest.raises(InputError, match="of 2 utterances none is for 'train'"):
        phone_split(spoken("19-227-0", "19-198-0"))


def test_committed_phone_manifest(tmp_path):
    listed = read_manifest(PHONES / "utterances.jsonl", data_dir=tmp_path)
    assert Counter(one.split for one in listed) == {"train": 105, "dev": 16, "test": 85}
    assert {(one.labels["speaker"], one.labels["chapter"]) for one in select(listed, "test")} == {
        *(("19", "198"), ("26", "496"), ("27", "124992"))
    }
    assert phone_split(listed) == listed
    assert len({segment.label for one in listed for segment in one.segments["phones"]}) == 40
    for one in listed:
        assert one.labels["text"].lower().split() == [segment.label for segment in one.segments["words"]]
        assert one.sha256 is not None and one.segments["phones"][0].start == 0.0
    licence = (PHONES / "LICENCE").read_text("utf-8")
    assert TRAIN_CLEAN_100.licence in licence and "forced alignment" in licence


def test_committed_phone_manifest_is_what_the_program_writes(speech_data, tmp_path):
    assert main(["librispeech_phones", str(speech_data), str(tmp_path / "m.jsonl")]) == 0
    assert (tmp_path / "m.jsonl").read_bytes() == (PHONES / "utterances.jsonl").read_bytes()
