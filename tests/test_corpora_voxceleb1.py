"""corpora.voxceleb1: both ways its archives are unpacked, its lists, and where to ask for it."""

import pytest

from speechgmm.corpora.locate import corpus_folder
from speechgmm.corpora.voxceleb1 import CORPUS, identification_split, utterances
from speechgmm.errors import FormatError, InputError
from speechgmm.manifest import read_manifest, write_manifest
from speechgmm.verification.trial_lists import check_trials, read_trials

META = """\
VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet
id10001\tA.J._Buckley\tm\tIreland\tdev
id10003\tAamir_Khan\tm\tNew Zealand\tdev
id10270\tEartha_Kitt\tf\tUSA\ttest
id10300\tErnest_Borgnine\tm\tUSA\ttest
"""
TEST_FILES = (
    "id10270/x6uYqmx31kE/00001.wav",
    "id10270/8jEAjG6SegY/00008.wav",
    "id10300/ize_eiCFEg0/00003.wav",
)
DEV_FILES = ("id10001/-zcIwhmdeo4/00001.wav", "id10001/Y8hIVOBuels/00002.wav")


@pytest.fixture
def tree(tmp_path):
    """A function that makes a small VoxCeleb1 with its files in the folders given."""

    def make(dev="wav", test="wav", meta=META):
        folder = tmp_path / "voxceleb1"
        for below, names in ((dev, DEV_FILES), (test, TEST_FILES)):
            for name in names:
                path = folder / below / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"")
        (folder / "vox1_meta.csv").write_text(meta)
        return folder

    return make


@pytest.mark.parametrize(
    ("dev", "test"), [("wav", "wav"), ("dev/wav", "test/wav"), ("vox1_dev_wav/wav", "vox1_test_wav/wav")]
)
def test_layouts(tree, dev, test):
    folder = tree(dev, test)
    found = utterances(folder)
    assert [(u.id, u.split, u.labels["gender"]) for u in found] == [
        ("id10001/-zcIwhmdeo4/00001.wav", "dev", "m"),
        ("id10001/Y8hIVOBuels/00002.wav", "dev", "m"),
        ("id10270/8jEAjG6SegY/00008.wav", "test", "f"),
        ("id10270/x6uYqmx31kE/00001.wav", "test", "f"),
        ("id10300/ize_eiCFEg0/00003.wav", "test", "m"),
    ]
    assert found[2].audio == folder / test / "id10270" / "8jEAjG6SegY" / "00008.wav"
    assert found[2].labels == {"speaker": "id10270", "video": "8jEAjG6SegY", "gender": "f"}


def test_the_copy_of_the_speakers_with_commas(tree):
    meta = META.replace("\t", ",").replace(" ID", "_ID").replace("\n", "\r\n")
    assert utterances(tree(meta=meta)) == utterances(tree())


def test_without_the_list_of_speakers(tree):
    folder = tree("dev/wav", "test/wav")
    (folder / "vox1_meta.csv").unlink()
    found = utterances(folder)
    assert [u.split for u in found] == ["dev"] * 2 + ["test"] * 3
    assert all(set(u.labels) == {"speaker", "video"} for u in found)
    (folder / "dev").rename(folder / "wav_of_dev")
    (folder / "wav_of_dev" / "wav").rename(folder / "wav")
    assert {u.labels["speaker"]: u.split for u in utterances(folder)}["id10001"] is None


def test_all_bad_lines_of_the_list_of_speakers_are_named(tree):
    meta = (
        META.replace("VGGFace1 ID", "Name").replace("\tm\tIreland", "\tx\tIreland").replace("\ttest\n", "\n")
    )
    with pytest.raises(FormatError) as caught:
        utterances(tree(meta=meta))
    lines = str(caught.value).split("\n  ")
    assert (
        "vox1_meta.csv: line 1: is 'VoxCeleb1 ID" in lines[0]
        and "expected the columns VoxCeleb1 ID" in lines[0]
    )
    assert [line[:7] for line in lines[1:]] == ["line 2:", "line 4:", "line 5:"]
    assert "expected id, name, f or m, country, dev or test" in lines[1]


@pytest.mark.parametrize(
    "name", ["Eartha_Kitt/x6uYqmx31kE/00001.wav", "id10270/x6uYqmx31kE/1.wav", "id10270/short/00001.wav"]
)
def test_another_place_is_refused(tree, name):
    folder = tree()
    (folder / "wav" / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / "wav" / name).write_bytes(b"")
    with pytest.raises(FormatError, match=r"\.wav: expected a place like id10270/x6uYqmx31kE/00001\.wav"):
        utterances(folder)


def test_an_utterance_in_two_folders_is_refused(tree):
    tree("dev/wav", "test/wav")
    with pytest.raises(
        FormatError, match=r"dev/wav/id10001/.*: the same utterance as .*voxceleb1/wav/id10001/"
    ):
        utterances(tree())


def test_a_folder_without_utterances_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no utterances \(wav/.*; is it the folder of VoxCeleb1\?"):
        utterances(tmp_path)


def test_manifest_there_and_back(tree, tmp_path):
    found = utterances(tree())
    write_manifest(found, tmp_path / "m.jsonl")
    assert read_manifest(tmp_path / "m.jsonl") == found


def test_official_trials_name_the_utterances(tree):
    folder = tree()
    (folder / "veri_test2.txt").write_text(
        "1 id10270/x6uYqmx31kE/00001.wav id10270/8jEAjG6SegY/00008.wav\n"
        "0 id10270/x6uYqmx31kE/00001.wav id10300/ize_eiCFEg0/00003.wav\n"
    )
    trials = read_trials(folder / "veri_test2.txt")
    ids = [u.id for u in utterances(folder)]
    check_trials(trials, ids, ids)
    speakers = {u.id: u.labels["speaker"] for u in utterances(folder)}
    assert [trial.is_target for trial in trials] == [speakers[t.model] == speakers[t.test] for t in trials]


class TestIdentification:
    def test_sides(self, tree):
        folder = tree()
        (folder / "iden_split.txt").write_text(
            "1 id10001/-zcIwhmdeo4/00001.wav\n2 id10270/8jEAjG6SegY/00008.wav\n"
            "3 id10001/Y8hIVOBuels/00002.wav\n1 id19999/Y8hIVOBuels/00002.wav\n"
        )
        listed = identification_split(utterances(folder), folder / "iden_split.txt")
        assert [(u.id, u.split) for u in listed] == [
            ("id10001/-zcIwhmdeo4/00001.wav", "train"),
            ("id10001/Y8hIVOBuels/00002.wav", "test"),
            ("id10270/8jEAjG6SegY/00008.wav", "validation"),
        ]

    def test_bad_lines(self, tree):
        folder = tree()
        (folder / "iden_split.txt").write_text("0 a\n1 b\n1\n")
        with pytest.raises(FormatError, match=r"(?s)line 1: is '0 a'; expected 1, 2 or 3 .*line 3: is '1'"):
            identification_split(utterances(folder), folder / "iden_split.txt")
        (folder / "iden_split.txt").write_text("1 b\n")
        with pytest.raises(
            InputError, match=r"names none of the utterances; their ids must be like id10001/"
        ):
            identification_split(utterances(folder), folder / "iden_split.txt")


def test_there_is_no_download(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("SPEECHGMM_DATA", raising=False)
    monkeypatch.setattr("pooch.HTTPDownloader.__call__", lambda *_: pytest.fail("asked the network"))
    with pytest.raises(InputError) as caught:
        corpus_folder(CORPUS)
    assert str(caught.value) == (
        "voxceleb1: not found; put it in DIR/voxceleb1 (so that DIR/voxceleb1/vox1_meta.csv exists) and pass "
        "--data-dir DIR, or set SPEECHGMM_DATA; it has no public download; ask for it at "
        "https://mm.kaist.ac.kr/datasets/voxceleb/"
    )
    assert not (tmp_path / "cache").exists()


def test_the_corpus_is_found(tree):
    folder = tree()
    assert corpus_folder(CORPUS, folder.parent) == folder
