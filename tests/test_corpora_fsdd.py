"""corpora.fsdd: file names to utterances, and the committed manifest."""

from collections import Counter
from pathlib import Path

import pytest

from speechgmm.corpora import fsdd
from speechgmm.corpora.__main__ import main
from speechgmm.corpora.locate import corpus_folder
from speechgmm.errors import FormatError, InputError
from speechgmm.manifest import read_manifest, select
from speechgmm.manifest_check import check

MANIFESTS = Path(__file__).parents[1] / "data_manifests" / "fsdd"


@pytest.fixture
def small_fsdd(tmp_path, write_tone):
    """A data folder with two speakers saying two digits, two takes each side of the split."""
    for digit in "07":
        for speaker, pitch in (("ann", 210), ("bob", 110)):
            for take in (0, 4, 5, 49):
                name = f"fsdd/recordings/{digit}_{speaker}_{take}.wav"
                write_tone(tmp_path / name, pitch, seconds=0.1, sample_rate=8000, seed=take)
    return tmp_path


def test_labels_and_official_split(small_fsdd):
    found = fsdd.utterances(small_fsdd / "fsdd")
    assert len(found) == 16
    assert [u.id for u in found] == sorted(u.id for u in found)
    by_id = {u.id: u for u in found}
    assert by_id["7_bob_4"].labels == {"digit": "7", "speaker": "bob", "take": "4"}
    assert by_id["7_bob_4"].audio == small_fsdd / "fsdd" / "recordings" / "7_bob_4.wav"
    assert {u.labels["take"] for u in select(found, "test")} == {"0", "4"}
    assert {u.labels["take"] for u in select(found, "train")} == {"5", "49"}


def test_hidden_files_are_left_out(small_fsdd):
    (small_fsdd / "fsdd" / "recordings" / "._0_ann_0.wav").write_bytes(b"")
    assert len(fsdd.utterances(small_fsdd / "fsdd")) == 16


def test_a_folder_without_recordings_is_named(tmp_path):
    with pytest.raises(
        InputError, match=r"recordings: no recordings \(\*\.wav\); is .* the folder of fsdd\?"
    ):
        fsdd.utterances(tmp_path)


@pytest.mark.parametrize("name", ["zero_ann_0.wav", "0_ann.wav", "0_ann_0.wav.wav", "0_ann_b_0.wav"])
def test_another_file_name_is_refused(small_fsdd, name):
    (small_fsdd / "fsdd" / "recordings" / name).write_bytes(b"")
    with pytest.raises(FormatError, match=f"{name}: expected a name like 0_george_0.wav"):
        fsdd.utterances(small_fsdd / "fsdd")


def test_the_command_writes_a_manifest_that_checks(small_fsdd, tmp_path):
    (small_fsdd / "fsdd" / "recordings" / "0_ann_0.wav").rename(
        small_fsdd / "fsdd" / "recordings" / "0_george_0.wav"
    )
    output = tmp_path / "out" / "fsdd.jsonl"
    assert main(["fsdd", str(small_fsdd), str(output)]) == 0
    written = read_manifest(output, data_dir=small_fsdd)
    assert len(written) == 16
    assert check(written, label="speaker") == []
    assert all(u.sha256 is not None and u.duration == pytest.approx(0.1) for u in written)


def test_the_command_names_what_is_missing(tmp_path, capsys):
    assert main(["fsdd", str(tmp_path), str(tmp_path / "out.jsonl")]) == 1
    assert "0_george_0.wav does not exist" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_nothing_if_a_file_is_damaged(small_fsdd, tmp_path, capsys):
    (small_fsdd / "fsdd" / "recordings" / "0_george_0.wav").write_bytes(b"RIFF")
    assert main(["fsdd", str(small_fsdd), str(tmp_path / "out.jsonl")]) == 1
    assert "utterance '0_george_0'" in capsys.readouterr().err
    assert not (tmp_path / "out.jsonl").exists()


def test_committed_manifest_has_the_whole_corpus(tmp_path):
    listed = read_manifest(MANIFESTS / "utterances.jsonl", data_dir=tmp_path)
    assert Counter(u.split for u in listed) == {"train": 2700, "test": 300}
    assert set(Counter(u.labels["speaker"] for u in listed).values()) == {500}
    assert set(Counter((u.labels["speaker"], u.labels["digit"]) for u in listed).values()) == {50}
    assert len({u.id for u in listed}) == 3000
    assert all(u.sha256 is not None and u.duration is not None for u in listed)
    assert fsdd.CORPUS.licence in (MANIFESTS / "LICENCE").read_text("utf-8")


def test_real_corpus_is_as_the_committed_manifest_says(speech_data, tmp_path):
    folder = corpus_folder(fsdd.CORPUS, speech_data)
    found = fsdd.utterances(folder)
    assert len({u.labels["speaker"] for u in found}) == 6
    listed = read_manifest(MANIFESTS / "utterances.jsonl", data_dir=folder.parent)
    assert [(u.id, u.audio, u.labels, u.split) for u in listed] == [
        (u.id, u.audio, u.labels, u.split) for u in found
    ]
    assert check(listed[::60]) == []
