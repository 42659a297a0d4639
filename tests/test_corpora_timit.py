"""corpora.timit: the layouts that copies have, labels and segments, SPHERE audio, and the usual parts."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from speechgmm.audio import audio_info, read_audio
from speechgmm.corpora.__main__ import main
from speechgmm.corpora.timit import (
    CORE_TEST_SPEAKERS,
    CORPUS,
    DEV_SPEAKERS,
    OFFICIAL_COUNTS,
    phone_split,
    utterances,
)
from speechgmm.errors import FormatError, InputError, SpeechGMMWarning
from speechgmm.manifest import Segment, Utterance, read_manifest, write_manifest

N_SAMPLES = 4000
FILES = {
    "TXT": "0 4000 She had your dark suit.\n",
    "PHN": "0 800 h#\n800 1600 sh\n1600 2400 ix\n2400 4000 h#\n",
    # As in the corpus: "had your" share a phone.
    "WRD": "800 1600 she\n1600 2400 had\n2000 3200 your\n",
}


def write_sphere(path, samples):
    """NIST SPHERE as TIMIT has it: a header of 1024 bytes in plain text, then 16-bit samples."""
    header = (
        "NIST_1A\n   1024\nsample_count -i {n}\nsample_rate -i 16000\nchannel_count -i 1\n"
        "sample_n_bytes -i 2\nsample_byte_format -s2 01\nsample_sig_bits -i 16\nend_head\n"
    )
    path.write_bytes(header.format(n=len(samples)).encode().ljust(1024) + samples.astype("<i2").tobytes())


def noise(n_samples=N_SAMPLES):
    return np.random.default_rng(0).integers(-3000, 3000, n_samples)


def make_sentence(top, place, lower=False, riff=False, files=FILES):
    """One sentence with all its files: `place` is like TRAIN/DR1/FCJF0/SA1."""

    def named(name):
        return top / (name.lower() if lower else name)

    audio = named(f"{place}.WAV")
    audio.parent.mkdir(parents=True, exist_ok=True)
    if riff:
        soundfile.write(audio, noise().astype("int16"), 16000, format="WAV")
    else:
        write_sphere(audio, noise())
    for suffix, text in files.items():
        named(f"{place}.{suffix}").write_text(text)


PLACES = (
    "TRAIN/DR1/FCJF0/SA1",
    "TRAIN/DR1/FCJF0/SX127",
    "TRAIN/DR8/MBCG0/SI486",
    "TEST/DR1/FAKS0/SI943",
    "TEST/DR1/MDAB0/SX49",
    "TEST/DR7/MDVC0/SX36",
    "TEST/DR2/MABW0/SI1230",
)


def make_tree(top, **options):
    for place in PLACES:
        make_sentence(top, place, **options)
    return top


def listed_without_audio(found):
    return [replace(one, audio="x") for one in found]


def test_labels_and_segments(tmp_path):
    found = utterances(make_tree(tmp_path / "TIMIT"))
    assert [(one.id, one.split) for one in found] == [
        ("FAKS0_SI943", "test"),
        ("FCJF0_SA1", "train"),
        ("FCJF0_SX127", "train"),
        ("MABW0_SI1230", "test"),
        ("MBCG0_SI486", "train"),
        ("MDAB0_SX49", "test"),
        ("MDVC0_SX36", "test"),
    ]
    assert found[2].labels == {
        "speaker": "FCJF0",
        "gender": "f",
        "dialect": "DR1",
        "sentence": "SX127",
        "type": "SX",
        "text": "She had your dark suit.",
    }
    assert found[2].audio == tmp_path / "TIMIT" / "TRAIN" / "DR1" / "FCJF0" / "SX127.WAV"
    assert found[2].segments["phones"] == (
        Segment(0.0, 0.05, "h#"),
        Segment(0.05, 0.1, "sh"),
        Segment(0.1, 0.15, "ix"),
        Segment(0.15, 0.25, "h#"),
    )
    # Of the 400 samples that two words share, each has 200.
    assert found[2].segments["words"] == (
        Segment(0.05, 0.1, "she"),
        Segment(0.1, 0.1375, "had"),
        Segment(0.1375, 0.2, "your"),
    )


@pytest.mark.parametrize("options", [{"lower": True}, {"riff": True}, {"lower": True, "riff": True}])
def test_case_and_container_make_no_difference(tmp_path, options):
    original = utterances(make_tree(tmp_path / "TIMIT"))
    assert listed_without_audio(utterances(make_tree(tmp_path / "copy", **options))) == listed_without_audio(
        original
    )


def test_a_folder_in_between_makes_no_difference(tmp_path):
    top = make_tree(tmp_path / "LDC93S1" / "timit")
    assert utterances(tmp_path / "LDC93S1") == utterances(top)


def test_sphere_audio_is_read(tmp_path):
    top = make_tree(tmp_path / "TIMIT")
    (first, *_) = utterances(top)
    samples, rate = read_audio(first.audio)
    assert rate == 16000
    np.testing.assert_array_equal(samples, (noise() / 32768).astype(np.float32))
    assert audio_info(first.audio).duration == N_SAMPLES / 16000


def test_the_original_is_preferred_to_a_riff_copy_beside_it(tmp_path):
    top = make_tree(tmp_path / "TIMIT")
    folder = top / "TRAIN" / "DR1" / "FCJF0"
    soundfile.write(folder / "SA1.WAV.wav", noise().astype("int16"), 16000)
    soundfile.write(folder / "SX37.WAV.wav", noise().astype("int16"), 16000)
    (folder / "SX37.PHN").write_text(FILES["PHN"])
    (folder / "._SX37.WAV").write_bytes(b"")
    by_id = {one.id: one for one in utterances(top)}
    assert by_id["FCJF0_SA1"].audio == folder / "SA1.WAV"
    assert by_id["FCJF0_SX37"].audio == folder / "SX37.WAV.wav"
    assert list(by_id["FCJF0_SX37"].segments) == ["phones"]
    assert "text" not in by_id["FCJF0_SX37"].labels


def test_without_labels_there_are_no_segments(tmp_path):
    found = utterances(make_tree(tmp_path / "TIMIT", files={}))
    assert len(found) == len(PLACES)
    assert all(not one.segments and "text" not in one.labels for one in found)


def test_faults_are_named(tmp_path):
    with pytest.raises(InputError, match=r"no sentences \(TRAIN/DR1/.*is it the folder of TIMIT\?"):
        utterances(tmp_path)
    top = make_tree(tmp_path / "TIMIT")
    (top / "TRAIN/DR1/FCJF0/SA1.PHN").write_text("0 800 h#\n800 x sh\n")
    (top / "TRAIN/DR1/FCJF0/SX127.PHN").write_text("0 800\n")
    with pytest.raises(FormatError, match=r"(?s)SA1\.PHN: line 2: .*SX127\.PHN: line 1: "):
        utterances(top)
    (top / "TRAIN/DR1/FCJF0/SA1.TXT").write_text("She had your dark suit.\n")
    with pytest.raises(
        FormatError, match=r"SA1\.TXT: is 'She had .*expected the first and last sample, then what is said"
    ):
        utterances(top)


@pytest.mark.parametrize(
    "place", ["TRAIN/DR9/FCJF0/SA1", "TRAIN/DR1/FCJ/SA1", "TRAIN/DR1/FCJF0/SB1", "TRAIN/FCJF0/SA1"]
)
def test_another_place_is_refused(tmp_path, place):
    make_sentence(tmp_path, place)
    with pytest.raises(
        FormatError, match=r"\.WAV: expected a place like TRAIN/DR1/FCJF0/SA1\.WAV: part, dial"
    ):
        utterances(tmp_path)


def test_official_lists():
    """Facts of the corpus: two men and a woman of each of eight dialects; 50 others, of whom 18 are women."""
    assert (len(CORE_TEST_SPEAKERS), len(DEV_SPEAKERS)) == (24, 50)
    assert CORE_TEST_SPEAKERS.isdisjoint(DEV_SPEAKERS)
    assert Counter(name[0] for name in CORE_TEST_SPEAKERS) == {"M": 16, "F": 8}
    assert Counter(name[0] for name in DEV_SPEAKERS) == {"M": 32, "F": 18}
    sentences = {"train": 462 * 8, "dev": len(DEV_SPEAKERS) * 8, "test": len(CORE_TEST_SPEAKERS) * 8}
    assert sentences == OFFICIAL_COUNTS


def whole_corpus():
    """Ten sentences of each of 630 speakers, 168 of them in the test folder, with names made up for most."""
    test = sorted(CORE_TEST_SPEAKERS | DEV_SPEAKERS) + [f"MTST{n}" for n in range(94)]
    speakers = [("train", f"MTRN{n}") for n in range(462)] + [("test", name) for name in test]
    kinds = ["SA"] * 2 + ["SI"] * 3 + ["SX"] * 5
    return [
        Utterance(f"{name}_{n}", "x.wav", labels={"speaker": name, "type": kind}, split=part)
        for part, name in speakers
        for n, kind in enumerate(kinds)
    ]


def test_usual_parts():
    everything = whole_corpus()
    assert len(everything) == 6300
    chosen = phone_split(everything)
    assert Counter(one.split for one in chosen) == {"train": 3696, "dev": 400, "test": 192}
    assert {one.labels["type"] for one in chosen} == {"SI", "SX"}
    for part, speakers in (("dev", DEV_SPEAKERS), ("test", CORE_TEST_SPEAKERS)):
        assert {one.labels["speaker"] for one in chosen if one.split == part} == speakers
    order = [one.id for one in everything]
    assert [one.id for one in chosen] == [name for name in order if name in {one.id for one in chosen}]


def test_an_incomplete_corpus_is_told(tmp_path):
    found = utterances(make_tree(tmp_path / "TIMIT"))
    with pytest.warns(
        SpeechGMMWarning, match="TIMIT is not complete: 2 instead of 3696 for 'train', 2 instead"
    ):
        chosen = phone_split(found)
    assert [(one.id, one.split) for one in chosen] == [
        ("FAKS0_SI943", "dev"),
        ("FCJF0_SX127", "train"),
        ("MBCG0_SI486", "train"),
        ("MDAB0_SX49", "test"),
        ("MDVC0_SX36", "dev"),
    ]
    without_dev = [one for one in found if one.labels["speaker"] not in DEV_SPEAKERS]
    with pytest.raises(InputError, match="no sentences of the speakers for 'dev'; is the corpus complete"):
        phone_split(without_dev)


def test_manifest_there_and_back(tmp_path):
    found = utterances(make_tree(tmp_path / "TIMIT"))
    write_manifest(found, tmp_path / "m.jsonl")
    assert read_manifest(tmp_path / "m.jsonl") == found


def test_the_command_writes_a_manifest(tmp_path):
    make_tree(tmp_path / "TIMIT")
    assert (tmp_path / "TIMIT" / CORPUS.example).is_file()
    with pytest.warns(SpeechGMMWarning, match="TIMIT is not complete"):
        assert main(["timit", str(tmp_path), str(tmp_path / "out.jsonl")]) == 0
    written = read_manifest(tmp_path / "out.jsonl", data_dir=tmp_path)
    assert len(written) == 5
    assert all(one.segments["phones"] and one.duration == 0.25 and one.sha256 for one in written)
