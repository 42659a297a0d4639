"""Atomic writes, checksums, and paths that stay inside their folder."""

import errno
import hashlib
import math
import os
import threading

import pytest

from speechgmm.errors import InputError
from speechgmm.files import canonical_json, inside, require_writable, sha256, sha256_of_text, write_atomically


def test_write_makes_folders_and_replaces(tmp_path):
    path = tmp_path / "new" / "folder" / "file.json"
    write_atomically(path, "first")
    assert path.read_bytes() == b"first"
    write_atomically(str(path), "zweitens: ä\n")
    assert path.read_bytes() == "zweitens: ä\n".encode()
    write_atomically(path, b"\x00\xff\r\n")
    assert path.read_bytes() == b"\x00\xff\r\n"
    assert os.listdir(path.parent) == ["file.json"]


def test_write_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_atomically("file.txt", "here")
    assert (tmp_path / "file.txt").read_text() == "here"
    assert os.listdir(tmp_path) == ["file.txt"]


@pytest.mark.parametrize("step", ["fsync", "chmod", "replace"])
def test_a_failing_write_leaves_the_old_content_and_nothing_else(tmp_path, monkeypatch, step):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def fail(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(InputError, match=r"file\.txt: cannot be written \(No space left on device\)"):
        write_atomically(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_an_interrupted_write_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupt(handle):
        raise KeyboardInterrupt("Ctrl-C")

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt, match="Ctrl-C"):
        write_atomically(tmp_path / "file.txt", "new")
    assert os.listdir(tmp_path) == []


def test_readers_never_see_a_part(tmp_path):
    path = tmp_path / "file.txt"
    texts = {letter * 200_000 for letter in "ab"}
    write_atomically(path, min(texts))
    done = threading.Event()

    def write():
        for _ in range(10):
            for text in sorted(texts):
                write_atomically(path, text)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while not done.is_set():
        seen.add(path.read_text())
    writer.join()
    assert seen <= texts and seen


@pytest.mark.parametrize(
    ("where", "reason"), [("folder", "it is a folder"), ("file/below", "exists|Not a dir")]
)
def test_a_place_that_cannot_be_written_is_named(tmp_path, where, reason):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=rf"{where}: cannot be written \(.*({reason})"):
        write_atomically(tmp_path / where, "new")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664), (0, 0o666)])
def test_new_files_honour_the_umask(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        write_atomically(tmp_path / "file.txt", "text")
        assert os.umask(mask) == mask  # and it is as it was
    finally:
        os.umask(before)
    assert (tmp_path / "file.txt").stat().st_mode & 0o777 == mode


def test_a_name_as_long_as_the_system_allows(tmp_path):
    path = tmp_path / ("x" * 250)
    path.write_text("old")  # so the system allows it
    write_atomically(path, "new")
    assert path.read_text() == "new"


def test_sha256_of_files_and_texts(tmp_path):
    content = os.urandom(300_000)
    (tmp_path / "file.bin").write_bytes(content)
    assert sha256(tmp_path / "file.bin") == sha256(str(tmp_path / "file.bin"))
    assert sha256(tmp_path / "file.bin") == hashlib.sha256(content).hexdigest()
    # The digest of nothing and of "abc" are in FIPS 180-4's examples.
    (tmp_path / "empty").touch()
    assert sha256(tmp_path / "empty") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert sha256_of_text("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    (tmp_path / "text").write_bytes("ä→𝄞".encode())
    assert sha256_of_text("ä→𝄞") == sha256(tmp_path / "text")


def test_sha256_of_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing"):
        sha256(tmp_path / "missing")


def test_canonical_json():
    value = {"b": [1, 2.5, None, True], "a": {"z": "ä\n", "y": ()}, "B": "x"}
    text = canonical_json(value)
    assert text == '{"B":"x","a":{"y":[],"z":"ä\\n"},"b":[1,2.5,null,true]}'
    assert canonical_json(dict(reversed(value.items()))) == text
    assert canonical_json(0.1 + 0.2) == "0.30000000000000004"


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_canonical_json_refuses_what_json_does_not_have(number):
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": [number]})


@pytest.mark.parametrize(
    ("relative", "joined"),
    [
        ("a.wav", "data/a.wav"),
        ("a/b/c.wav", "data/a/b/c.wav"),
        ("./a//b.wav", "data/a/b.wav"),
        ("a/../b.wav", "data/b.wav"),
        ("../data/a.wav", "data/a.wav"),
        ("..a/...", "data/..a/..."),
        (".", "data"),
    ],
)
def test_paths_inside(tmp_path, monkeypatch, relative, joined):
    monkeypatch.chdir(tmp_path)
    assert os.fspath(inside("data", relative)) == joined
    assert inside(tmp_path / "data", relative) == tmp_path / joined
    assert inside(f"{tmp_path}/other/../data/", relative) == tmp_path / joined


@pytest.mark.parametrize(
    "relative",
    ["..", "../a.wav", "a/../../a.wav", "../database/a.wav", "a/../../../../../../../../../etc/passwd"],
)
def test_paths_that_climb_out_are_refused(tmp_path, relative):
    with pytest.raises(InputError, match=r"path '.*\.\..*' leads out of the data folder '.*data'"):
        inside(tmp_path / "data", relative)
    with pytest.raises(InputError, match="leads out of the data folder 'data'"):
        inside("data", relative)


def test_absolute_paths_are_refused_even_inside(tmp_path):
    for path in (tmp_path / "data" / "a.wav", "/etc/passwd"):
        with pytest.raises(InputError, match="leads out of the data folder"):
            inside(tmp_path / "data", path)


@pytest.mark.parametrize("folder", ["/", ".", "", "..", "../.."])
def test_folders_of_every_form(tmp_path, monkeypatch, folder):
    (tmp_path / "one" / "two").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "one" / "two")
    assert (
        inside(folder, "a/b.wav").resolve() == (tmp_path / "one" / "two" / folder / "a" / "b.wav").resolve()
    )
    if folder != "/":  # nothing is above it
        with pytest.raises(InputError, match="leads out"):
            inside(folder, "../b.wav")


def test_symbolic_links_may_point_anywhere(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.wav").write_text("x")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "link").symlink_to(tmp_path / "elsewhere")
    assert inside(tmp_path / "data", "link/a.wav").read_text() == "x"
    # ".." is taken off the text, so a link cannot be used to climb.
    assert inside(tmp_path / "data", "link/../b.wav") == tmp_path / "data" / "b.wav"
    with pytest.raises(InputError, match="leads out"):
        inside(tmp_path / "data", "link/../../elsewhere/a.wav")


@pytest.mark.parametrize("write", [lambda path: write_atomically(path, "new"), require_writable])
def test_a_device_or_a_pipe_is_not_replaced(write, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(
        InputError, match=r"pipe: cannot be written \(a device or a pipe, which a file would replace"
    ):
        write(tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()


def test_a_symbolic_link_stays_one(tmp_path):
    (tmp_path / "file").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_atomically(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_text() == "new"
