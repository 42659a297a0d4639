"""Features made elsewhere: every form that they come in, what is wrong with them, and files that mean harm."""

import io
import os
import pickle
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from speechgmm.errors import InputError
from speechgmm.features.imported import export_features, import_features, read_features
from speechgmm.features.store import FeatureStore
from speechgmm.parallel import no_progress
from speechgmm.settings import TrainingSettings
from speechgmm.trainer import train_on_frames


def frames_of(seed, n_frames=20, n_features=5):
    return np.random.default_rng(seed).normal(-3.0, 10.0, (n_frames, n_features)).astype(np.float32)


FRAMES = {"ann_1": frames_of(0), "ann_2": frames_of(1, 7), "bob_1": frames_of(2, 31)}


def assert_same(found, expected, tolerance=0.0):
    """The same ids in the same order, the same values, and arrays of float32 that are the caller's own."""
    found = list(found)
    assert [one for one, _ in found] == list(expected)
    for utterance, frames in found:
        assert frames.dtype == np.float32
        assert frames.flags.c_contiguous and frames.flags.writeable
        np.testing.assert_allclose(frames, expected[utterance], rtol=0, atol=tolerance, err_msg=utterance)


def tried(source):
    """What can be used, and the messages of what cannot."""
    problems = []
    found = list(read_features(source, problems))
    return found, problems


class Harm:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.fixture
def kaldiio():
    return pytest.importorskip("kaldiio")


# Arrays


@pytest.mark.parametrize(
    "source", [FRAMES, FRAMES.items(), iter(FRAMES.items()), list(map(list, FRAMES.items()))]
)
def test_arrays_come_in_the_order_given(source):
    assert_same(read_features(source), FRAMES)


def test_an_npz_file_is_a_mapping(tmp_path):
    np.savez(tmp_path / "all.npz", **FRAMES)
    with np.load(tmp_path / "all.npz") as archive:
        assert_same(read_features(archive), FRAMES)


def test_the_frames_are_copies():
    given = frames_of(0)
    ((_, frames),) = read_features({"a": given})
    frames[:] = 0
    np.testing.assert_array_equal(given, frames_of(0))


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f4", "<f8", ">f8", "longdouble", "u1", "i2", ">i4", "i8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_numbers_of_any_size_become_float32(dtype, order):
    values = np.array([[1.5, 2.25], [3, 100], [0.5, 7]]).astype(dtype, order=order)
    assert_same(read_features({"a": values}), {"a": values.astype(np.float64)})


def test_lists_are_arrays():
    assert_same(read_features({"a": [[1, 2], [3, 4]]}), {"a": [[1, 2], [3, 4]]})


def test_whole_numbers_are_refused_where_float32_would_change_them():
    limit = 2**24
    assert_same(read_features({"a": [[limit, -limit]]}), {"a": [[limit, -limit]]})
    for value in (limit + 1, -limit - 1, 2**60, -(2**63)):
        with pytest.raises(InputError, match="utterance 'a': has whole numbers beyond ±16,777,216, which"):
            list(read_features({"a": [[0, value]]}))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            np.ones(5),
            r"has shape \(5,\); it must be \(n_frames, n_features\) \(one feature a frame\? use x\[:, None\]\)",
        ),
        (np.ones((1, 4, 5)), r"has shape \(1, 4, 5\); it must be .* \(a batch\? use x\[0\]\)"),
        (np.ones((1, 1, 4, 5)), r"has shape \(1, 1, 4, 5\); it must be \(n_frames, n_features\)$"),
        (np.float32(1), r"has shape \(\); it must be \(n_frames, n_features\)$"),
        (np.ones((0, 5)), r"has no frames \(shape \(0, 5\)\)"),
        (np.ones((5, 0)), r"has no frames \(shape \(5, 0\)\)"),
        (np.array([[1.0, np.nan]]), "has the value nan at frame 0, feature 1; every value must be finite"),
        (
            np.array([[1.0], [-np.inf]]),
            "has the value -inf at frame 1, feature 0; every value must be finite",
        ),
        (np.array([[1e39]]), r"has values too large for float32 \(3.4e38\)"),
        (np.array([[1, None]], object), "ndarray of object values; real numbers are needed"),
        (np.ones((2, 2), complex), "ndarray of complex128 values; real numbers are needed"),
        (np.ones((2, 2), bool), "ndarray of bool values; real numbers are needed"),
        (np.array([["1", "2"]]), "ndarray of <U1 values; real numbers are needed"),
        (np.zeros((2, 2), [("x", "f4")]), r"ndarray of \[\('x', '<f4'\)\] values; real numbers are needed"),
        (None, "NoneType of object values; real numbers are needed"),
        ([[1, 2], [3]], r"cannot be read \(.*inhomogeneous shape"),
    ],
)
def test_what_is_not_an_array_of_frames_is_refused_and_the_next_is_read(value, message):
    with pytest.raises(InputError, match=f"^`?(frames of )?utterance 'bad'`?:? {message}"):
        list(read_features({"bad": value}))
    found, problems = tried({"bad": value, "ann_1": FRAMES["ann_1"]})
    assert_same(found, {"ann_1": FRAMES["ann_1"]})
    assert [one.utterance for one in problems] == ["bad"]


def test_the_largest_float32_is_not_too_large():
    largest = float(np.finfo(np.float32).max)
    assert_same(read_features({"a": np.array([[largest, -largest]])}), {"a": [[largest, -largest]]})


def test_other_numbers_of_features_are_refused_by_the_names_of_both():
    source = {"a": np.ones((4, 5)), "d": np.ones((1, 5)), "b": np.ones((4, 6)), "c": np.ones((5, 9))}
    with pytest.raises(
        InputError, match=r"'b': has shape \(4, 6\), so 6 features; 'a' has 5 \(made with other"
    ):
        list(read_features(source))
    found, problems = tried(source)
    assert [one for one, _ in found] == ["a", "d"]
    assert [one.utterance for one in problems] == ["b", "c"]
    assert "(transposed?)" in problems[1].message and "'a' has 5" in problems[1].message


def test_the_first_that_can_be_used_says_how_many_features_there_are():
    found, problems = tried({"bad": np.full((2, 3), np.nan), "a": np.ones((4, 5)), "b": np.ones((4, 5))})
    assert [one for one, _ in found] == ["a", "b"]
    assert len(problems) == 1


def test_an_id_that_occurs_twice_is_refused():
    pairs = [("a", np.ones((2, 2))), ("b", np.ones((2, 2))), ("a", np.zeros((2, 2)))]
    with pytest.raises(InputError, match="utterance 'a': the id occurs twice"):
        list(read_features(pairs))
    found, problems = tried(pairs)
    assert_same(found, {"a": np.ones((2, 2)), "b": np.ones((2, 2))})
    assert [one.utterance for one in problems] == ["a"]


@pytest.mark.parametrize("name", ["", None, 3, ("a",)])
def test_ids_are_text(name):
    found, problems = tried([(name, np.ones((2, 2))), ("a", np.ones((2, 2)))])
    assert [one for one, _ in found] == ["a"]
    assert f"the id of an utterance is {name!r}; it must be text" in problems[0].message


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "`source` is None; it must be a mapping of ids to arrays, pairs, or a path"),
        ([np.ones((2, 2))], r"item 0 of `source` is a ndarray; it must be \(id, array\)"),
        ([("a", np.ones((2, 2)), 16000)], r"item 0 of `source` is a tuple; it must be \(id, array\)"),
        ({}, "there are no utterances in what was given"),
        (iter(()), "there are no utterances in what was given"),
    ],
)
def test_what_holds_no_utterances_is_refused(source, message):
    with pytest.raises(InputError, match=message):
        list(read_features(source, []))


def test_a_mapping_that_cannot_read_one_goes_on_with_the_next(tmp_path):
    np.savez(tmp_path / "all.npz", a=np.array([[Harm(tmp_path / "harm")]]), b=FRAMES["bob_1"])
    with np.load(tmp_path / "all.npz") as archive:
        found, problems = tried(archive)
    assert_same(found, {"b": FRAMES["bob_1"]})
    assert "utterance 'a': cannot be read (Object arrays cannot be loaded" in problems[0].message
    assert not (tmp_path / "harm").exists()


# Files of NumPy


def test_a_folder_is_read_with_its_subfolders_in_order(tmp_path):
    expected = {
        "B": frames_of(0),
        "a": frames_of(1),
        "a/b.c": frames_of(2),
        "a/b/c": frames_of(3),
        "ab": frames_of(4),
    }
    for utterance, frames in reversed(expected.items()):
        path = tmp_path / f"{utterance}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, frames)
    (tmp_path / "notes.txt").write_text("not features")
    (tmp_path / "folder.npy").mkdir()
    assert_same(read_features(tmp_path), expected)
    assert_same(read_features(str(tmp_path)), expected)


def test_one_file_is_one_utterance(tmp_path):
    np.save(tmp_path / "ann.1.npy", FRAMES["ann_1"])
    assert_same(read_features(tmp_path / "ann.1.npy"), {"ann.1": FRAMES["ann_1"]})


def test_files_are_not_kept_open(tmp_path):
    for index in range(300):
        np.save(tmp_path / f"{index:03}.npy", FRAMES["ann_1"])
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("open files are counted in /proc")
    before = len(os.listdir("/proc/self/fd"))
    kept = list(read_features(tmp_path))
    assert len(kept) == 300
    assert len(os.listdir("/proc/self/fd")) <= before + 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "holds no .npy file .of Kaldi archives give the .scp or the .ark"),
        ("missing", "missing: no such file or folder"),
        ("touch harm |", "no such file or folder"),
        ("a" * 5000, "no such file or folder"),
        ("a\0b", "no such file or folder"),
        ("notes.txt", "notes.txt: not a .npy, .ark or .scp file, nor a folder of .npy files"),
    ],
)
def test_places_without_features_are_refused_at_once(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("not features")
    with pytest.raises(InputError, match=message):
        read_features(name or ".", [])
    assert os.listdir(tmp_path) == ["notes.txt"]


def npy(array, **options):
    content = io.BytesIO()
    np.save(content, array, **options)
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read .No data left in file"),
        (npy(FRAMES["ann_1"])[:-1], "cannot be read .mmap length is greater than file size"),
        (npy(FRAMES["ann_1"])[:20], "cannot be read .EOF: reading"),
        (npy(FRAMES["ann_1"]).replace(b"(20, 5)", b"(99999999999, 5)"), "cannot be read"),
        (b"not an array", "cannot be read"),
        (b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f4',", "cannot be read"),
    ],
)
def test_a_broken_npy_file_does_not_stop_the_others(tmp_path, content, message):
    (tmp_path / "a.npy").write_bytes(content)
    np.save(tmp_path / "b.npy", FRAMES["bob_1"])
    found, problems = tried(tmp_path)
    assert_same(found, {"b": FRAMES["bob_1"]})
    assert problems[0].utterance == "a"
    with pytest.raises(InputError, match=f"a.npy: utterance 'a': {message}"):
        list(read_features(tmp_path / "a.npy"))


def test_pickles_in_npy_files_are_not_loaded(tmp_path):
    harm = tmp_path / "harm"
    (tmp_path / "a.npy").write_bytes(npy(np.array([[Harm(harm)]]), allow_pickle=True))
    (tmp_path / "b.npy").write_bytes(pickle.dumps(Harm(harm)))
    found, problems = tried(tmp_path)
    assert not found
    assert not harm.exists()
    assert [one.utterance for one in problems] == ["a", "b"]
    np.load(tmp_path / "a.npy", allow_pickle=True)
    assert harm.exists()  # so the file would have done it


def test_no_damage_to_an_npy_file_gets_past_its_reader(tmp_path):
    whole, rng = npy(FRAMES["ann_1"]), np.random.default_rng(0)
    marks = np.frombuffer(b"([{)}'\"\0\xff,:#\\\n9", np.uint8)
    for _ in range(100):
        content = np.frombuffer(whole, np.uint8).copy()
        places = rng.integers(0, 90, rng.integers(1, 4))
        content[places] = rng.choice(marks, len(places))
        (tmp_path / "a.npy").write_bytes(content.tobytes())
        found, problems = tried(tmp_path / "a.npy")
        assert len(found) + len(problems) == 1


# Kaldi


@pytest.fixture
def archive(tmp_path, kaldiio):
    """A folder with FRAMES in feats.ark and feats.scp."""
    kaldiio.save_ark(str(tmp_path / "feats.ark"), FRAMES, scp=str(tmp_path / "feats.scp"))
    return tmp_path


@pytest.mark.parametrize("name", ["feats.ark", "feats.scp"])
def test_archives(archive, name):
    assert_same(read_features(archive / name), FRAMES)


@pytest.mark.parametrize("name", ["feats.ark", "feats.scp"])
def test_archives_of_text(tmp_path, kaldiio, name):
    kaldiio.save_ark(str(tmp_path / "feats.ark"), FRAMES, scp=str(tmp_path / "feats.scp"), text=True)
    # Nine digits at most are written of values up to 40: half a unit of the last.
    assert_same(read_features(tmp_path / name), FRAMES, 1e-6)


def test_archives_of_double_precision(tmp_path, kaldiio):
    kaldiio.save_ark(str(tmp_path / "feats.ark"), {one: x.astype(np.float64) for one, x in FRAMES.items()})
    assert_same(read_features(tmp_path / "feats.ark"), FRAMES)


# One byte a value leaves 255 steps over the range (of 3 sigma and more either way), two bytes 65,535.
@pytest.mark.parametrize(("method", "tolerance"), [(1, 1.0), (2, 1.0), (3, 1e-3), (5, 0.2)])
@pytest.mark.parametrize("name", ["feats.ark", "feats.scp"])
def test_compressed_archives(tmp_path, kaldiio, method, tolerance, name):
    ark, scp = str(tmp_path / "feats.ark"), str(tmp_path / "feats.scp")
    kaldiio.save_ark(ark, FRAMES, scp=scp, compression_method=method)
    assert_same(read_features(tmp_path / name), dict(kaldiio.load_ark(ark)))
    assert_same(read_features(tmp_path / name), FRAMES, tolerance)


@pytest.mark.parametrize("method", [4, 6, 7])
def test_archives_compressed_for_fixed_ranges(tmp_path, kaldiio, method):
    values = {4: [[-5.0, 0.0], [9.0, 32000.0]], 6: [[0.0, 3.0], [200.0, 255.0]], 7: [[0.0, 1.0], [0.2, 0.4]]}[
        method
    ]
    kaldiio.save_ark(str(tmp_path / "feats.ark"), {"a": np.array(values)}, compression_method=method)
    assert_same(read_features(tmp_path / "feats.ark"), {"a": values}, 0.01)


def test_text_as_kaldi_writes_it(tmp_path, kaldiio):
    """Six digits, whole numbers without a point."""
    text = "a  [\n  0 1.5 -2\n  1e-05 100 3.25 ]\n\n b  [\n  7 8 9.5 ]\n\n"
    (tmp_path / "feats.ark").write_text(text)
    expected = {"a": [[0, 1.5, -2], [1e-5, 100, 3.25]], "b": [[7, 8, 9.5]]}
    assert_same(read_features(tmp_path / "feats.ark"), expected, 1e-12)


def test_the_first_line_of_a_text_matrix_may_stand_by_the_bracket(tmp_path, kaldiio):
    (tmp_path / "feats.ark").write_bytes(b"a [ 0 2.5\r\n 3 4.5 ]\r\n")
    assert_same(read_features(tmp_path / "feats.ark"), {"a": [[0, 2.5], [3, 4.5]]})


def test_binary_as_the_format_is_described(tmp_path, kaldiio):
    """Kaldi's own layout, written by hand: FM, and CM3 with min -1 and range 2 (byte 255 is 1, byte 51 is -0.6)."""
    matrix = b"\0BFM \4" + struct.pack("<i", 2) + b"\4" + struct.pack("<i", 1) + struct.pack("<2f", 1.5, -2)
    compressed = b"\0BCM3 " + struct.pack("<ffii", -1, 2, 3, 1) + bytes([0, 255, 51])
    (tmp_path / "feats.ark").write_bytes(b"a " + matrix + b"b " + compressed)
    assert_same(read_features(tmp_path / "feats.ark"), {"a": [[1.5], [-2]], "b": [[-1], [1], [-0.6]]}, 1e-6)


def write_scp(folder, *lines):
    (folder / "some.scp").write_text("\n".join(lines) + "\n")
    return folder / "some.scp"


def place_of(folder, utterance):
    """Where the .scp says that an utterance is."""
    lines = (folder / "feats.scp").read_text().splitlines()
    return next(line.split(" ", 1)[1] for line in lines if line.startswith(utterance))


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("0:19", np.s_[:]),
        ("3:5", np.s_[3:6]),
        ("3:3", np.s_[3:4]),
        (":", np.s_[:]),
        ("2:4,1:2", np.s_[2:5, 1:3]),
        (":,0:0", np.s_[:, 0:1]),
        ("18:19,:", np.s_[18:]),
        ("18:22", np.s_[18:]),  # segments are rounded
    ],
)
def test_ranges(archive, text, part):
    scp = write_scp(archive, f"a {place_of(archive, 'ann_1')}[{text}]")
    assert_same(read_features(scp), {"a": FRAMES["ann_1"][part]})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("18:23", r"\[18:23\] is not within shape \(20, 5\); both ends of a range count, from 0"),
        ("20:21", r"\[20:21\] is not within shape \(20, 5\)"),
        ("5:4", r"\[5:4\] is not within shape \(20, 5\)"),
        ("0:3,0:5", r"\[0:3,0:5\] is not within shape \(20, 5\)"),
        ("0:3,3:2", r"\[0:3,3:2\] is not within shape \(20, 5\)"),
        ("", r"\[\] is no range such as \[0:99\] or \[0:99,0:12\]"),
        ("3", r"\[3\] is no range"),
        ("-3:4", r"\[-3:4\] is no range"),
        ("0:3,0:4,0:1", r"\[0:3,0:4,0:1\] is no range"),
        ("0:9999999999999999999", r"is no range"),
    ],
)
def test_ranges_that_are_none(archive, text, message):
    scp = write_scp(archive, f"bad {place_of(archive, 'ann_1')}[{text}]", f"b {place_of(archive, 'bob_1')}")
    found, problems = tried(scp)
    assert_same(found, {"b": FRAMES["bob_1"]})
    with pytest.raises(InputError, match=rf"some.scp, line 1: utterance 'bad': .*feats.ark:6\[.*{message}"):
        list(read_features(scp))
    assert len(problems) == 1


def test_a_range_of_a_vector_is_refused_as_a_vector(tmp_path, kaldiio):
    kaldiio.save_mat(str(tmp_path / "one.mat"), np.ones(3, np.float32))
    with pytest.raises(InputError, match=r"utterance 'a': has shape \(3,\); it must be"):
        list(read_features(write_scp(tmp_path, f"a {tmp_path}/one.mat[0:1]")))


def test_paths_start_from_the_working_folder(archive, monkeypatch):
    (archive / "deep").mkdir()
    scp = write_scp(archive / "deep", "a feats.ark:6")
    with pytest.raises(
        InputError, match=r"feats.ark: no such file .relative paths start from the working folder"
    ):
        list(read_features(scp))
    monkeypatch.chdir(archive)
    assert_same(read_features(scp), {"a": FRAMES["ann_1"]})


def test_lines_may_have_tabs_spaces_and_gaps(archive):
    os.rename(archive / "feats.ark", archive / "my [best] feats.ark")
    scp = write_scp(
        archive, f"a\t {archive}/my [best] feats.ark:6 \r", "", f"b {archive}/my [best] feats.ark:6[0:1]"
    )
    assert_same(read_features(scp), {"a": FRAMES["ann_1"], "b": FRAMES["ann_1"][:2]})


def test_a_file_of_one_matrix_needs_no_offset(tmp_path, kaldiio):
    kaldiio.save_mat(str(tmp_path / "one.mat"), FRAMES["ann_1"])
    assert_same(read_features(write_scp(tmp_path, f"a {tmp_path}/one.mat")), {"a": FRAMES["ann_1"]})


def test_utterances_are_read_one_at_a_time(archive):
    found = read_features(archive / "feats.scp")
    assert next(found)[0] == "ann_1"
    os.unlink(archive / "feats.ark")
    with pytest.raises(InputError, match=r"feats.scp, line 2: utterance 'ann_2': .*feats.ark: no such file"):
        next(found)


@pytest.mark.parametrize("name", ["feats.ark", "feats.scp"])
def test_kaldiio_is_asked_for_where_it_is_missing(archive, monkeypatch, name):
    monkeypatch.setitem(sys.modules, "kaldiio", None)
    with pytest.raises(InputError, match=r"Kaldi's files need kaldiio: pip install 'speechgmm\[kaldi\]'"):
        read_features(archive / name)
    np.save(archive / "a.npy", FRAMES["ann_1"])
    assert_same(read_features(archive / "a.npy"), {"a": FRAMES["ann_1"]})


@pytest.mark.parametrize("name", ["feats.ark", "feats.scp"])
def test_empty_files_hold_no_utterances(tmp_path, kaldiio, name):
    (tmp_path / name).write_bytes(b"\n")
    with pytest.raises(InputError, match="there are no utterances in what was given"):
        list(read_features(tmp_path / name, []))


# Kaldi: what is broken, and what means harm


def test_an_archive_cut_short_anywhere_gives_what_is_whole(tmp_path, kaldiio):
    small = {"a": frames_of(0, 3, 2), "b": frames_of(1, 3, 2)}
    for text in (False, True):
        kaldiio.save_ark(str(tmp_path / "feats.ark"), small, text=text)
        whole = (tmp_path / "feats.ark").read_bytes()
        second = whole.index(b"b ", 4 if text else 40)
        for length in range(second + 1, len(whole) - 1):
            (tmp_path / "cut.ark").write_bytes(whole[:length])
            found, problems = tried(tmp_path / "cut.ark")
            assert_same(found, {"a": small["a"]}, 1e-6)
            assert [one.utterance for one in problems] == ["b"]
            assert problems[0].message.startswith(f"{tmp_path / 'cut.ark'}: utterance 'b': ")
            assert problems[0].message.endswith("; nothing after it can be read")


def test_a_matrix_that_can_be_read_past_does_not_stop_the_others(tmp_path, kaldiio):
    nan, vector = np.array([[np.nan] * 5], np.float32), np.ones(3, np.float32)
    source = {"nan": nan, "vector": vector, "wide": frames_of(3, 4, 6), "ann_1": FRAMES["ann_1"]}
    for text in (False, True):
        kaldiio.save_ark(str(tmp_path / "feats.ark"), {"first": FRAMES["ann_2"], **source}, text=text)
        found, problems = tried(tmp_path / "feats.ark")
        assert [one for one, _ in found] == ["first", "ann_1"]
        assert [one.utterance for one in problems] == ["nan", "vector", "wide"]
        assert "has the value nan at frame 0, feature 0" in problems[0].message
        assert "has shape (3,); it must be (n_frames, n_features)" in problems[1].message
        assert "so 6 features; 'first' has 5" in problems[2].message


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ("[\n 1 2\n 3 ]", r"no matrix of numbers \(.*columns changed from 2 to 1"),
        ("[\n 1 two ]", "no matrix of numbers .*'two'"),
        ("[\n 1 2 # 3 ]", "no matrix of numbers .*'#'"),
        ("[\n 1 2 ] 3", "' 3.n' follows the matrix on its line"),
        ("[ ]", r"has no frames \(shape \(0, 0\)\)"),
        ("[ 1 2 3 ]", r"has shape \(3,\)"),
    ],
)
def test_text_that_is_no_matrix_is_passed_over(tmp_path, kaldiio, matrix, message):
    (tmp_path / "feats.ark").write_text(f"bad {matrix}\na [\n 1 2 ]\n")
    found, problems = tried(tmp_path / "feats.ark")
    assert_same(found, {"a": [[1, 2]]})
    with pytest.raises(InputError, match=f"feats.ark: utterance 'bad': .*{message}"):
        list(read_features(tmp_path / "feats.ark"))
    assert len(problems) == 1


def sizes(kind, *values):
    return b"\0B" + kind + b" " + b"".join(b"\4" + struct.pack("<i", value) for value in values)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            sizes(b"FM", 2**31 - 1, 2**31 - 1),
            r"cut short: a matrix of \(2147483647, 2147483647\) needs 18,446,",
        ),
        (sizes(b"FM", -1, 3) + bytes(48), r"cut short: a matrix of \(-1, 3\)"),
        (sizes(b"FM", -2, -3) + bytes(24), r"cut short: a matrix of \(-2, -3\)"),
        (sizes(b"FV", -1) + bytes(48), r"cut short: a matrix of \(-1,\)"),
        (b"\0BCM " + struct.pack("<ffii", 0, 1, 9, 2) + bytes(33), "needs 34 bytes, and 33 are left"),
        (b"\0BCM2 " + struct.pack("<ffii", 0, 1, 9, 2) + bytes(35), "needs 36 bytes, and 35 are left"),
        (b"\0BCM3 " + struct.pack("<ffii", np.inf, np.nan, 1, 1) + bytes(1), "has the value nan at frame 0"),
        (b"\0BCM2 " + struct.pack("<ffii", 0, 3e38, 1, 1) + b"\xff\xff", "has the value inf at frame 0"),
        (sizes(b"FM", 0, 0), r"has no frames \(shape \(0, 0\)\)"),
        (b"\0BCM " + struct.pack("<ffii", 0, 0, 0, 0), r"has no frames \(shape \(0, 0\)\)"),
        (b"\0B\4" + struct.pack("<i", 1) + b"\4" + struct.pack("<i", 7), r"no matrix here, but kind b'\\x04"),
        (b"\0BXM " + bytes(50), "no matrix here, but kind b'XM '"),
        (b"\0BFM \5" + bytes(50), "no matrix here, but kind b'FM '"),
        (
            b"RIFF" + bytes(50),
            r"no matrix here, but b'RIFF\\x00' \(cut short\? audio and pickles are not read\)",
        ),
        (b"", "no matrix here, but b''"),
        (b"[ 1 2 3", "the file ends before its matrix does"),
        (b"x" * 5000, "no matrix here, but b'xxxxx'"),
    ],
)
def test_matrices_that_are_not_what_they_say(tmp_path, kaldiio, content, message):
    (tmp_path / "feats.ark").write_bytes(b"a " + content)
    with pytest.raises(InputError, match=f"feats.ark: .*utterance 'a'.* {message}"):
        list(read_features(tmp_path / "feats.ark"))
    with pytest.raises(InputError, match=f"line 1: .*utterance 'a'.* {message}"):
        list(read_features(write_scp(tmp_path, f"a {tmp_path}/feats.ark:2")))


def test_a_file_without_ids_is_no_archive(tmp_path, kaldiio):
    (tmp_path / "feats.ark").write_bytes(b"x" * 100_000)
    found, problems = tried(tmp_path / "feats.ark")
    assert not found
    assert "no id of an utterance where there should be one; is this a Kaldi archive?" in problems[0].message


@pytest.mark.parametrize("method", [None, 2, 3])
def test_no_damage_to_an_archive_gets_past_its_reader(tmp_path, kaldiio, method):
    kaldiio.save_ark(
        str(tmp_path / "feats.ark"),
        {"a": frames_of(0, 9, 2), "b": frames_of(1, 9, 2)},
        compression_method=method,
    )
    whole, rng = (tmp_path / "feats.ark").read_bytes(), np.random.default_rng(0)
    for _ in range(100):
        content = np.frombuffer(whole, np.uint8).copy()
        places = rng.integers(0, len(content), rng.integers(1, 6))
        content[places] = rng.integers(0, 256, len(places))
        (tmp_path / "feats.ark").write_bytes(content.tobytes())
        found, problems = tried(tmp_path / "feats.ark")
        assert len(found) + len(problems) >= 1
        assert all(np.isfinite(frames).all() for _, frames in found)


def test_pickles_in_archives_are_not_loaded(tmp_path, kaldiio):
    harm = tmp_path / "harm"
    kaldiio.save_ark(str(tmp_path / "feats.ark"), {"a": Harm(harm)}, write_function="pickle")
    with pytest.raises(
        InputError, match=r"utterance 'a': no matrix here, but b'PKL.* audio and pickles are not read"
    ):
        list(read_features(tmp_path / "feats.ark"))
    with pytest.raises(
        InputError, match=r"utterance 'a': .*no matrix here, but b'PKL.* audio and pickles are not"
    ):
        list(read_features(write_scp(tmp_path, f"a {tmp_path}/feats.ark:2")))
    assert not harm.exists()
    list(kaldiio.load_ark(str(tmp_path / "feats.ark")))
    assert harm.exists()  # so the file would have done it


@pytest.mark.parametrize(
    "place",
    [
        "touch harm |",
        "touch harm|",
        "touch harm |  ",
        "touch harm |:0",
        "touch harm | :0",
        "touch harm |[0:3]",
        "touch harm |:12[0:3,0:1]",
        "| touch harm",
        "  |touch harm",
        "|touch harm:3",
        "gunzip -c feats.ark.gz; touch harm |",
    ],
)
def test_commands_in_an_scp_are_refused_and_not_run(archive, monkeypatch, place):
    monkeypatch.chdir(archive)
    scp = write_scp(archive, f"bad {place}", f"b {place_of(archive, 'bob_1')}")
    found, problems = tried(scp)
    assert_same(found, {"b": FRAMES["bob_1"]})
    assert "' is a command; only files are read (Kaldi's copy-feats makes archives)" in problems[0].message
    assert problems[0].message.startswith(f"{scp}, line 1: utterance 'bad': ")
    with pytest.raises(InputError, match="is a command; only files are read"):
        list(read_features(scp))
    with pytest.raises(InputError, match=r"none of the utterances can be used; .* is a command"):
        import_features(write_scp(archive, f"bad {place}"), archive / "store")
    assert not (archive / "harm").exists()


def test_kaldiio_would_run_such_a_command(archive, monkeypatch):
    """The tests above prove nothing if it does not."""
    kaldiio = pytest.importorskip("kaldiio")
    monkeypatch.chdir(archive)
    scp = write_scp(archive, "bad touch harm; echo wrong |")
    with pytest.warns(UserWarning, match="An error happend"), pytest.raises(Exception, match="wrong"):
        kaldiio.load_scp(str(scp))["bad"]
    assert (archive / "harm").exists()


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("http://example.org/feats.ark:6", "is an address; only files are read"),
        ("file:///feats.ark:6", "is an address; only files are read"),
        ("-", "-: no such file"),
        ("/dev/zero", "/dev/zero: no such file"),
        (".", r"\.: no such file"),
        ("", "no file is named after the id"),
        ("feats.ark:99999999", r"feats.ark:99999999: no matrix here, but b''"),
        ("feats.ark:99999999999999999", "no matrix here|Invalid argument|too large"),
        ("feats.ark:99999999999999999999", "no such file"),
        ("feats.ark:-6", "feats.ark:-6: no such file"),
        ("a" * 5000, "no such file"),
        ("a\0b", "no such file"),
    ],
)
def test_places_that_are_no_files_are_refused(archive, monkeypatch, place, message):
    monkeypatch.chdir(archive)
    scp = write_scp(archive, f"bad {place}", f"b {place_of(archive, 'bob_1')}")
    found, problems = tried(scp)
    assert_same(found, {"b": FRAMES["bob_1"]})
    with pytest.raises(InputError, match=f"some.scp, line 1: utterance 'bad': .*({message})"):
        list(read_features(scp))
    assert len(problems) == 1


# Into a store


def recorded():
    calls = []
    return calls, lambda *call: calls.append(call)


@pytest.mark.parametrize("form", ["mapping", "folder", "ark", "scp"])
def test_features_of_every_form_go_into_a_store(archive, form):
    (archive / "npy").mkdir()
    for utterance, frames in FRAMES.items():
        np.save(archive / "npy" / f"{utterance}.npy", frames)
    source = {"mapping": FRAMES, "folder": archive / "npy"}.get(form, archive / f"feats.{form}")
    calls, progress = recorded()
    store, problems = import_features(source, archive / "store", progress)
    total = 0 if form == "ark" else 3
    assert calls == [("features", done, total) for done in (1, 2, 3)]
    assert problems == ()
    for opened in (store, FeatureStore.imported(archive / "store", 5, create=False)):
        assert len(opened) == 3
        for utterance, frames in FRAMES.items():
            np.testing.assert_array_equal(opened.frames(utterance), frames)
            assert opened.seconds(utterance) == 0
    assert store.config is None


def test_an_import_leaves_out_what_cannot_be_used(tmp_path):
    calls, progress = recorded()
    source = {"bad": np.ones(3), **FRAMES, "wide": np.ones((2, 6))}
    store, problems = import_features(source, tmp_path, progress)
    assert len(store) == 3
    assert [one.utterance for one in problems] == ["bad", "wide"]
    assert calls[-1] == ("features", 5, 5)


def test_an_import_that_was_stopped_is_run_again(tmp_path):
    def stopped():
        yield "ann_1", FRAMES["ann_1"]
        yield "ann_2", FRAMES["ann_2"]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_features(stopped(), tmp_path)
    assert len(FeatureStore.imported(tmp_path, 5)) == 2
    store, problems = import_features(FRAMES, tmp_path)
    assert problems == ()
    assert len(store) == 3
    before = {path: path.stat().st_size for path in store.folder.iterdir()}
    again, problems = import_features(FRAMES, tmp_path)
    assert problems == ()
    assert len(again) == 3
    assert {path: path.stat().st_size for path in store.folder.iterdir()} == before
    assert sum(path.stat().st_size for path in store.folder.glob("*.f32")) == 4 * 5 * (20 + 7 + 31)


def test_a_store_keeps_the_frames_that_it_has_of_an_id(tmp_path):
    import_features(FRAMES, tmp_path)
    store, problems = import_features({**FRAMES, "ann_2": frames_of(9, 7), "new": frames_of(8)}, tmp_path)
    assert [one.utterance for one in problems] == ["ann_2"]
    assert "utterance 'ann_2': " in problems[0].message
    assert "has other frames of it, and keeps them" in problems[0].message
    np.testing.assert_array_equal(store.frames("ann_2"), FRAMES["ann_2"])
    assert len(store) == 4


def test_an_import_of_nothing_that_can_be_used_makes_no_store(tmp_path):
    with pytest.raises(
        InputError, match=r"none of the utterances can be used; the first: utterance 'a': has shape"
    ):
        import_features({"a": np.ones(3), "b": np.ones(4)}, tmp_path / "store", no_progress)
    assert not (tmp_path / "store").exists()


def test_a_model_is_trained_on_imported_features(tmp_path):
    rng = np.random.default_rng(0)
    source = {
        f"{speaker}_{index}": rng.normal(centre, 1.0, (200, 4))
        for speaker, centre in (("ann", -2.0), ("bob", 2.0))
        for index in range(4)
    }
    store, _ = import_features(source, tmp_path)
    frames = [store.frames(utterance) for utterance in source]
    labels = [utterance.split("_")[0] for utterance in source]
    training = train_on_frames(
        frames,
        labels,
        ids=list(source),
        seconds=[store.seconds(one) for one in source],
        settings=TrainingSettings(n_components=2),
    )
    assert [(one.label, one.frames, one.seconds) for one in training.classes] == [
        ("ann", 800, 0),
        ("bob", 800, 0),
    ]
    # The centres are four deviations apart.
    means = [mixture.weights @ mixture.means for mixture in training.model.mixtures]
    np.testing.assert_allclose(means, [[-2.0] * 4, [2.0] * 4], atol=0.2)


# Out again


@pytest.mark.parametrize("name", ["out.scp", "out.ark", "out"])
def test_features_go_out_and_come_back(tmp_path, monkeypatch, kaldiio, name):
    monkeypatch.chdir(tmp_path)
    export_features(FRAMES, Path("new") / name)
    monkeypatch.chdir("/")
    assert_same(read_features(tmp_path / "new" / name), FRAMES)


def test_kaldiio_reads_what_goes_out(tmp_path, kaldiio):
    export_features(FRAMES.items(), tmp_path / "out.ark")
    read = kaldiio.load_scp(str(tmp_path / "out.scp"))
    assert list(read) == list(FRAMES)
    for utterance, frames in read.items():
        np.testing.assert_array_equal(frames, FRAMES[utterance])


def test_ids_become_folders(tmp_path):
    export_features({"ann/1": FRAMES["ann_1"]}, tmp_path)
    np.testing.assert_array_equal(np.load(tmp_path / "ann" / "1.npy"), FRAMES["ann_1"])


def test_nothing_goes_out_of_the_folder_or_to_ids_that_kaldi_cannot_read(tmp_path, kaldiio):
    with pytest.raises(InputError, match="leads out of the data folder"):
        export_features({"../a": FRAMES["ann_1"]}, tmp_path / "out")
    for utterance in ("ann 1", " ann", "ann\n"):
        with pytest.raises(InputError, match="ids in a Kaldi archive have no white space"):
            export_features({utterance: FRAMES["ann_1"]}, tmp_path / "out.scp")
    with pytest.raises(InputError, match="utterance 'b': has shape"):
        export_features({"a": FRAMES["ann_1"], "b": np.ones(3)}, tmp_path / "out.scp")
    assert not (tmp_path / "a.npy").exists()
    assert not (tmp_path / "out.scp").exists()
    (tmp_path / "dir.ark").mkdir()
    with pytest.raises(InputError, match=r"dir.ark: cannot be written .it is a folder"):
        export_features(FRAMES, tmp_path / "dir.ark")
