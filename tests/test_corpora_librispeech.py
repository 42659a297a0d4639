"""corpora.librispeech: the layout of every part, what SPEAKERS.TXT and the transcripts add, and downloads."""

import io
import tarfile
from collections import Counter

import pytest

from speechgmm.corpora import librispeech
from speechgmm.corpora.librispeech import PARTS, TEST_CLEAN, TRAIN_CLEAN_100, utterances
from speechgmm.corpora.locate import corpus_folder
from speechgmm.errors import FormatError, InputError
from speechgmm.manifest import read_manifest, select, write_manifest

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
