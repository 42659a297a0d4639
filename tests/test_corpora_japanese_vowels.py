"""corpora.japanese_vowels: the committed files, and malformed ones."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from speechgmm.corpora.japanese_vowels import load, read_ts
from speechgmm.errors import FormatError, InputError

FOLDER = Path(__file__).parents[1] / "data_manifests" / "japanese_vowels"
HEADER = "# a comment\n@problemName Toy\n@dimensions 12\n@classLabel true 1 2\n@data\n"


def case(label="1", n_frames=2, n_coefficients=12):
    """A line in which frame t of coefficient d has the value d + t / 10."""
    series = [",".join(str(d + t / 10) for t in range(n_frames)) for d in range(n_coefficients)]
    return ":".join([*series, label]) + "\n"


def written(tmp_path, text):
    (tmp_path / "toy.ts").write_text(text)
    return tmp_path / "toy.ts"


@pytest.mark.parametrize(
    ("part", "n_utterances", "fewest", "most"), [("train", 270, 30, 30), ("test", 370, 24, 88)]
)
def test_committed_corpus(part, n_utterances, fewest, most):
    frames, speakers = load(FOLDER, part)
    assert len(frames) == len(speakers) == n_utterances
    counts = Counter(speakers)
    assert sorted(counts) == list("123456789")
    assert (min(counts.values()), max(counts.values())) == (fewest, most)
    assert all(f.dtype == np.float32 and f.shape[1] == 12 and f.flags.c_contiguous for f in frames)
    assert (min(map(len, frames)), max(map(len, frames))) == (7, 26 if part == "train" else 29)


def test_first_utterance_is_read_as_it_is_written():
    frames, speakers = load(FOLDER, "train")
    # The beginnings of the file's first two coefficients, typed by hand.
    np.testing.assert_array_equal(frames[0][:3, 0], np.float32([1.860936, 1.891651, 1.939205]))
    np.testing.assert_array_equal(frames[0][:3, 1], np.float32([-0.207383, -0.193249, -0.239664]))
    assert (frames[0].shape, speakers[0]) == ((20, 12), "1")


def test_licence_names_source_and_licence():
    text = (FOLDER / "LICENCE").read_text("utf-8")
    assert "https://archive.ics.uci.edu/dataset/128/japanese+vowels" in text
    assert "CC BY 4.0" in text


def test_frames_are_rows(tmp_path):
    (frames, other), labels = read_ts(written(tmp_path, HEADER + case() + "\n" + case("2", n_frames=5)))
    np.testing.assert_array_equal(frames, np.float32([np.arange(12), np.arange(12) + np.float32(0.1)]))
    assert (other.shape, labels) == ((5, 12), ["1", "2"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER + case() + case("3"), r"line 7: label '3' is not one of those in @classLabel: 1, 2"),
        (HEADER + case(n_coefficients=11), r"line 6: 11 coefficients and a label; expected 12"),
        (HEADER + case().replace("0.1:", "0.1,0.2:", 1), r"line 6: the coefficients have 2 to 3 frames"),
        (HEADER + case().replace("0.1", "?", 1), r"line 6: could not convert string to float: '\?'"),
        (HEADER + case().replace("0.1", "nan", 1), r"line 6: a value is not finite"),
        (HEADER + case().replace("0.1", "1e39", 1), r"line 6: a value is not finite, or too large"),
        (HEADER.replace("12", "13") + case(), r"line 3: @dimensions is '13'; expected 12"),
        (HEADER.replace("@data", "data") + case(), r"line 5: expected a field such as @dimensions"),
        ("# nothing\n", r"no line @data; is it a \.ts file\?"),
        (HEADER, r"no utterances after @data"),
    ],
)
def test_malformed_files_name_the_line(tmp_path, text, message):
    with pytest.raises(FormatError, match=rf"toy\.ts.*{message}"):
        read_ts(written(tmp_path, text))


def test_binary_and_missing_files(tmp_path):
    (tmp_path / "toy.ts").write_bytes(b"RIFF\xff\xfe")
    with pytest.raises(FormatError, match=r"toy\.ts: .*UTF-8"):
        read_ts(tmp_path / "toy.ts")
    with pytest.raises(InputError, match=r"none\.ts: cannot be read"):
        read_ts(tmp_path / "none.ts")


def test_load_compares_checksums(tmp_path):
    folder = shutil.copytree(FOLDER, tmp_path / "copy")
    path = folder / "JapaneseVowels_TEST.ts"
    path.write_text(path.read_text().replace("1.635533", "1.635534", 1))
    assert len(load(folder, "train")[0]) == 270
    with pytest.raises(FormatError, match=r"JapaneseVowels_TEST\.ts: differs from its checksum"):
        load(folder, "test")
    path.unlink()
    with pytest.raises(InputError, match=r"JapaneseVowels_TEST\.ts: no such file"):
        load(folder, "test")


def test_load_without_checksums_or_with_another_part(tmp_path):
    with pytest.raises(InputError, match=r"SHA256SUMS: no such file; is .* the folder of Japanese Vowels"):
        load(tmp_path, "train")
    with pytest.raises(InputError, match='`part` is \'dev\'; it must be "train" or "test"'):
        load(FOLDER, "dev")
