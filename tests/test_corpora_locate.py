"""corpora.locate: where a corpus is looked for, and downloads from a server on this machine."""

import functools
import http.server
import io
import sys
import tarfile
import threading
import zipfile
from dataclasses import replace

import pytest

from speechgmm.corpora.locate import Corpus, corpus_folder, unpack, whole_folder
from speechgmm.errors import InputError
from speechgmm.manifest import Utterance, write_manifest
from speechgmm.manifest_check import describe

TOY = Corpus(
    name="toy",
    folder="toy_v1",
    archive="http://127.0.0.1:9/toy.zip",  # nothing listens on the discard port
    licence="CC0",
    example="recordings/a.wav",
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty user's cache, no data folder, and no proxy between the tests and their server."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("SPEECHGMM_DATA", raising=False)
    return tmp_path / "cache" / "speechgmm"


@pytest.fixture
def tree(tmp_path, write_tone):
    """A data folder that holds the toy corpus."""
    for name in ("a", "b"):
        write_tone(tmp_path / "source" / "toy_v1" / "recordings" / f"{name}.wav", seconds=0.1, seed=ord(name))
    return tmp_path / "source"


@pytest.fixture
def serve(tmp_path):
    """A function that publishes bytes and returns the toy corpus with their address."""
    folder = tmp_path / "public"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()

    def publish(content):
        (folder / "archive").write_bytes(content)
        return replace(TOY, archive=f"http://127.0.0.1:{server.server_port}/archive")

    yield publish
    server.shutdown()
    thread.join()
    server.server_close()


def zipped(folder, top):
    """The bytes of a zip archive with the files of a folder under `top`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*.wav")):
            archive.write(path, f"{top}{path.relative_to(folder)}")
    return buffer.getvalue()


def tarred(folder, top):
    """The bytes of a tar.gz archive with the files of a folder under `top`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.add(folder, arcname=top)
    return buffer.getvalue()


def manifest_of(tree):
    """A manifest of the toy corpus, with checksums."""
    paths = sorted(tree.rglob("*.wav"))
    described, problems = describe([Utterance(path.stem, path) for path in paths])
    assert problems == []
    write_manifest(described, tree / "toy.jsonl", data_dir=tree)
    return tree / "toy.jsonl"


def place_toy(folder):
    example = folder / TOY.folder / TOY.example
    example.parent.mkdir(parents=True)
    example.write_bytes(b"")
    return folder / TOY.folder


def test_data_dir_comes_before_the_environment_and_the_environment_before_the_cache(
    tmp_path, cache, monkeypatch
):
    in_cache = place_toy(cache)
    assert corpus_folder(TOY) == in_cache
    in_environment = place_toy(tmp_path / "environment")
    monkeypatch.setenv("SPEECHGMM_DATA", str(tmp_path / "environment"))
    assert corpus_folder(TOY) == in_environment
    in_data_dir = place_toy(tmp_path / "given")
    assert corpus_folder(TOY, tmp_path / "given") == in_data_dir


def test_the_cache_serves_where_the_environments_folder_lacks_the_corpus(tmp_path, cache, monkeypatch):
    monkeypatch.setenv("SPEECHGMM_DATA", str(tmp_path / "other"))
    in_cache = place_toy(cache)
    assert corpus_folder(TOY) == in_cache


def test_a_data_dir_without_the_corpus_is_an_error_and_nothing_is_downloaded(tmp_path, cache, serve, tree):
    corpus = serve(zipped(tree / "toy_v1", "toy-1.0/"))
    place_toy(cache)
    with pytest.raises(InputError, match=r"toy: .*toy_v1/recordings/a\.wav does not exist.* holds toy_v1/"):
        corpus_folder(corpus, tmp_path / "empty")


def test_no_network_says_in_one_line_where_to_put_the_files(cache):
    with pytest.raises(InputError) as caught:
        corpus_folder(TOY)
    message = str(caught.value)
    assert message.startswith(
        "toy: not found; put it in DIR/toy_v1 (so that DIR/toy_v1/recordings/a.wav exists) and pass "
        "--data-dir DIR, or set SPEECHGMM_DATA; the download from http://127.0.0.1:9/toy.zip failed: "
    )
    assert "\n" not in message
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize(
    ("pack", "top"), [(zipped, "toy-1.0/"), (zipped, ""), (tarred, "./"), (tarred, "toy")]
)
def test_download_unpacks_and_verifies_and_is_found_again(cache, serve, tree, pack, top, capfd):
    corpus = serve(pack(tree / "toy_v1", top))
    folder = corpus_folder(corpus, manifest=manifest_of(tree))
    assert folder == cache / "toy_v1"
    assert [path.name for path in cache.iterdir()] == ["toy_v1"]
    for name in ("recordings/a.wav", "recordings/b.wav"):
        assert (folder / name).read_bytes() == (tree / "toy_v1" / name).read_bytes()
    assert corpus_folder(replace(corpus, archive=TOY.archive)) == folder
    assert capfd.readouterr().err == ""  # no bar: not a terminal


def test_a_terminal_shows_a_bar(serve, tree, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Terminal())
    corpus_folder(serve(zipped(tree / "toy_v1", "")))
    assert "downloading toy" in sys.stderr.getvalue()


@pytest.mark.parametrize("pack", [zipped, tarred])
@pytest.mark.parametrize("damage", ["cut", "flipped", "page"])
def test_a_damaged_archive_leaves_nothing_behind(cache, serve, tree, pack, damage):
    content = bytearray(pack(tree / "toy_v1", ""))
    if damage == "flipped":
        content[len(content) // 3] ^= 0xFF
    content = {"cut": content[: len(content) // 2], "flipped": content, "page": b"<html>Sign in</html>"}[
        damage
    ]
    with pytest.raises(InputError, match=r"toy: not found; put it .* failed: the archive cannot be unpacked"):
        corpus_folder(serve(bytes(content)))
    assert list(cache.iterdir()) == []


def test_a_file_that_differs_from_the_manifest_leaves_nothing_behind(cache, serve, tree, write_tone):
    manifest = manifest_of(tree)
    write_tone(tree / "toy_v1" / "recordings" / "b.wav", seconds=0.1, seed=99)
    corpus = serve(zipped(tree / "toy_v1", ""))
    with pytest.raises(
        InputError,
        match=r"failed: it is not what .*toy\.jsonl lists \(1 problems\); utterance 'b': .*SHA-256",
    ):
        corpus_folder(corpus, manifest=manifest)
    assert list(cache.iterdir()) == []


def test_an_archive_of_something_else_is_refused(cache, serve, tree):
    corpus = replace(serve(zipped(tree / "toy_v1", "")), example="recordings/c.wav")
    with pytest.raises(InputError, match=r"failed: the archive does not hold recordings/c\.wav"):
        corpus_folder(corpus)
    assert list(cache.iterdir()) == []


def test_an_interrupted_download_leaves_nothing_behind(cache, monkeypatch):
    def interrupted(self, url, output_file, pooch):
        with open(output_file, "wb") as handle:
            handle.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("pooch.HTTPDownloader.__call__", interrupted)
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        corpus_folder(TOY)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("name", ["../outside.wav", "a/../../outside.wav", "/outside.wav"])
def test_unpacking_refuses_paths_out_of_the_folder(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "archive", "w") as archive:
        archive.writestr(name, "x")
    with pytest.raises(InputError, match="leads out of"):
        unpack(tmp_path / "archive", tmp_path / "here")
    assert not list(tmp_path.rglob("outside.wav"))


def test_unpacking_leaves_links_out(tmp_path):
    (tmp_path / "content").mkdir()
    (tmp_path / "content" / "a.txt").write_text("a")
    (tmp_path / "content" / "link").symlink_to("/")
    (tmp_path / "archive").write_bytes(tarred(tmp_path / "content", "."))
    unpack(tmp_path / "archive", tmp_path / "unpacked")
    assert [path.name for path in (tmp_path / "unpacked").iterdir()] == ["a.txt"]


def test_a_whole_folder_never_replaces_one_with_content(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine.txt").write_text("mine")
    with (
        pytest.raises(InputError, match="there: cannot be written"),
        whole_folder(tmp_path / "there") as made,
    ):
        made.mkdir()
    assert [path.name for path in tmp_path.rglob("*")] == ["there", "mine.txt"]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match="file/corpus: cannot be written"),
        whole_folder(tmp_path / "file" / "corpus"),
    ):
        pass


def test_a_corpus_without_a_public_archive_says_where_to_ask_for_it(cache, monkeypatch):
    monkeypatch.setattr("pooch.HTTPDownloader.__call__", lambda *_: pytest.fail("asked the network"))
    asked_for = replace(TOY, archive=None, page="https://toy.example/form")
    with pytest.raises(InputError) as caught:
        corpus_folder(asked_for)
    assert str(caught.value) == (
        "toy: not found; put it in DIR/toy_v1 (so that DIR/toy_v1/recordings/a.wav exists) and pass "
        "--data-dir DIR, or set SPEECHGMM_DATA; it has no public download; ask for it at "
        "https://toy.example/form"
    )
    in_cache = place_toy(cache)
    assert corpus_folder(asked_for) == in_cache


def test_archives_that_share_a_folder_are_unpacked_beside_each_other(cache, serve, tree):
    (cache / "toy_v1" / "other").mkdir(parents=True)
    (cache / "toy_v1" / "notes.wav").write_bytes(b"old")
    (tree / "toy_v1" / "notes.wav").write_bytes(b"new")
    corpus = replace(serve(zipped(tree / "toy_v1", "toy/")), shares_folder=True)
    folder = corpus_folder(corpus)
    assert [path.name for path in cache.iterdir()] == ["toy_v1"]
    assert sorted(path.name for path in folder.iterdir()) == ["notes.wav", "other", "recordings"]
    assert (folder / "notes.wav").read_bytes() == b"old"
    assert sorted(path.name for path in (folder / "recordings").iterdir()) == ["a.wav", "b.wav"]


def test_a_shared_folder_begins_with_the_first_archive(cache, serve, tree):
    corpus = replace(serve(tarred(tree / "toy_v1", ".")), shares_folder=True)
    folder = corpus_folder(corpus, manifest=manifest_of(tree))
    assert [path.name for path in folder.iterdir()] == ["recordings"]


def test_a_part_with_content_is_never_replaced(cache, serve, tree):
    (cache / "toy_v1" / "recordings").mkdir(parents=True)
    (cache / "toy_v1" / "recordings" / "mine.wav").write_bytes(b"mine")
    (tree / "toy_v1" / "notes.wav").write_bytes(b"new")
    corpus = replace(serve(zipped(tree / "toy_v1", "")), shares_folder=True)
    with pytest.raises(InputError, match=r"failed: .*toy_v1: cannot be written"):
        corpus_folder(corpus)
    assert [path.name for path in cache.rglob("*")] == ["toy_v1", "recordings", "mine.wav"]
