"""features.store when things go wrong: kills, full disks, damaged files, several writers at once."""

import errno
import inspect
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from speechgmm.errors import FormatError, InputError
from speechgmm.features import store as store_module
from speechgmm.features import store_files
from speechgmm.features.store import FeatureStore

N_FEATURES = 2


def made(name, n_frames=None):
    """Frames that only their name decides."""
    seed = int(name)
    n_frames = 1 + seed % 7 if n_frames is None else n_frames
    return np.random.default_rng(seed).standard_normal((n_frames, N_FEATURES), dtype=np.float32)


def opened(folder):
    return FeatureStore.imported(folder, N_FEATURES)


def add(writer, names):
    for name in names:
        writer.add(name, name, made(name), 1.0)


def assert_right(store):
    """What the store holds is what was put in."""
    assert store.verify() == []
    for entry in store.entries():
        np.testing.assert_array_equal(store.frames(entry.key), made(entry.key))


def the_file(store, start):
    (path,) = store.folder.glob(f"{start}-*")
    return path


@contextmanager
def flipped(path, place, bit):
    """A file with one bit turned over while inside."""
    with open(path, "r+b", buffering=0) as file:
        file.seek(place)
        (byte,) = file.read(1)
        for value in (byte ^ (1 << bit), byte):
            file.seek(place)
            file.write(bytes([value]))
            if value != byte:
                yield


class Killed(BaseException):
    """Stands for the end of the process: nobody catches it, nothing is tidied up."""


def kill_after(monkeypatch, n_bytes):
    """From now on so many bytes reach the disk; then the process ends in the middle of a write."""
    left = [n_bytes]

    def write(file, content):
        content = memoryview(content)
        file.write(content[: left[0]])
        left[0] -= len(content)
        if left[0] < 0:
            raise Killed

    monkeypatch.setattr(store_files, "_write_all", write)


def let_go(writer):
    """Close the files as the system does when a process ends."""
    for file in (writer._pair._frames, writer._pair._index):
        if file is not None:
            file.close()


# For processes of their own, which start sooner without this file's imports.
HELPERS = "\n".join(
    [
        "import sys",
        "import numpy as np",
        "from speechgmm.errors import InputError",
        "from speechgmm.features import store as store_module",
        "from speechgmm.features.store import FeatureStore",
        f"N_FEATURES = {N_FEATURES}",
        *map(inspect.getsource, (made, opened, add)),
    ]
)

WRITER = (
    HELPERS
    + """
store_module.COMMIT_BYTES = int(sys.argv[2])
with opened(sys.argv[1]).writer() as writer:
    print("ready", flush=True)
    add(writer, map(str, range(int(sys.argv[3]), int(sys.argv[4]))))
"""
)


class TestKills:
    def test_after_every_byte(self, tmp_path, monkeypatch):
        names = ["1", "2", "3"]
        monkeypatch.setattr(store_files.os, "fsync", lambda file: None)
        # Two utterances to a commit, so that one waits when the process ends.
        monkeypatch.setattr(store_module, "COMMIT_BYTES", made("1").nbytes + made("2").nbytes)
        found, n_bytes, finished = set(), 0, False
        while not finished:
            store = opened(tmp_path)
            with monkeypatch.context() as patch:
                kill_after(patch, n_bytes)
                writer = store.writer()
                try:
                    add(writer, names)
                    writer.commit()
                    finished = True
                except Killed:
                    let_go(writer)
                else:
                    writer._close()
            again = opened(tmp_path)
            assert_right(again)
            found.add(len(again))
            with again.writer() as writer:
                add(writer, names)
            assert len(again) == 3
            assert_right(opened(tmp_path))
            n_bytes += 1
            for path in [*store.folder.glob("index-*"), *store.folder.glob("frames-*")]:
                path.unlink()
        # Lines that are whole count, even where the last of their batch is not.
        assert found == {0, 1, 2, 3}
        assert n_bytes > 300

    def test_frames_are_on_disk_before_the_lines_that_list_them(self, tmp_path, monkeypatch):
        store, events = opened(tmp_path), []
        write, kinds = store_files._write_all, {}

        def note_write(file, content):
            kinds[file.fileno()] = Path(file.name).name.split("-")[0]
            events.append(f"write {kinds[file.fileno()]}")
            write(file, content)

        monkeypatch.setattr(store_files, "_write_all", note_write)
        monkeypatch.setattr(store_files.os, "fsync", lambda file: events.append(f"sync {kinds[file]}"))
        with store.writer() as writer:
            add(writer, ["1", "2"])
            writer.commit()
            add(writer, ["3"])
        batch = ["sync frames", "write index", "sync index"]
        assert events == ["write frames", "write frames", *batch, "write frames", *batch]

    def start(self, folder, commit_bytes, first, stop):
        command = [sys.executable, "-c", WRITER, *map(str, (folder, commit_bytes, first, stop))]
        return subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent, text=True)

    def test_of_processes_at_any_moment(self, tmp_path):
        """Ten are killed one after the other; each goes on where the last one was."""
        rng, lengths = random.Random(0), []
        for kill in range(10):
            process = self.start(tmp_path, rng.choice([1, 100, 1000]), 0, 1_000_000)
            assert process.stdout.readline() == "ready\n"
            time.sleep(rng.uniform(0, 0.1))
            process.send_signal(signal.SIGKILL)
            process.communicate()
            assert process.returncode == -signal.SIGKILL, kill
            store = opened(tmp_path)
            assert_right(store)
            lengths.append(len(store))
            assert set(store._entries) == {str(number) for number in range(len(store))}
        assert lengths == sorted(lengths)
        assert lengths[-1] > 10
        with store.writer() as writer:
            add(writer, map(str, range(lengths[-1] + 5)))
        assert len(store) == lengths[-1] + 5
        assert_right(opened(tmp_path))

    def test_two_processes_at_once(self, tmp_path):
        """They share a part of their keys, and a third reads while they write."""
        reader = opened(tmp_path)
        processes = [self.start(tmp_path, 100, 0, 200), self.start(tmp_path, 70, 100, 300)]
        while any(process.poll() is None for process in processes):
            reader.refresh()
            assert_right(reader)
        for process in processes:
            process.communicate()
            assert process.returncode == 0
        reader.refresh()
        assert len(reader) == 300
        assert_right(reader)
        again = opened(tmp_path)
        assert again.entries() == reader.entries()
        assert len(list(again.folder.glob("index-*"))) == 2


class TestTornFiles:
    def test_frames_cut_at_any_length(self, tmp_path):
        names = ["3", "1", "2"]
        store = opened(tmp_path)
        with store.writer() as writer:
            add(writer, names)
        path = the_file(store, "frames")
        ends = np.cumsum([made(name).nbytes for name in names])
        for length in reversed(range(path.stat().st_size)):
            os.truncate(path, length)
            cut = opened(tmp_path)
            whole = int(np.searchsorted(ends, length, "right"))
            assert {entry.key for entry in cut.entries()} == set(names[:whole])
            for name in names[:whole]:
                np.testing.assert_array_equal(cut.frames(name), made(name))
            assert [
                f"utterance '{name}'" in problem for name, problem in zip(names, cut.verify(), strict=False)
            ]
            assert len(cut.verify()) == 3 - whole

    def test_a_store_that_lost_frames_is_made_whole_by_adding_them_again(self, tmp_path):
        store = opened(tmp_path)
        with store.writer() as writer:
            add(writer, ["1", "2", "3"])
        os.truncate(the_file(store, "frames"), made("1").nbytes + 3)
        store = opened(tmp_path)
        assert [problem.split("utterance ")[1][:3] for problem in store.verify()] == ["'2'", "'3'"]
        with store.writer() as writer:
            add(writer, ["1", "2", "3"])
        store = opened(tmp_path)
        assert len(store) == 3
        assert_right(store)

    def test_frames_cut_after_the_store_was_opened(self, tmp_path):
        store = opened(tmp_path)
        with store.writer() as writer:
            add(writer, ["1", "2"])
        reader = opened(tmp_path)
        os.truncate(the_file(store, "frames"), made("1").nbytes)
        np.testing.assert_array_equal(reader.frames("1"), made("1"))
        with pytest.raises(InputError, match="ends before the frames of utterance '2'"):
            reader.frames("2")
        (problem,) = reader.verify()
        assert "utterance '2'" in problem

    def test_lines_cut_at_any_length(self, tmp_path):
        names = ["3", "1", "2"]
        store = opened(tmp_path)
        with store.writer() as writer:
            add(writer, names)
        path = the_file(store, "index")
        content = path.read_bytes()
        for length in reversed(range(len(content))):
            os.truncate(path, length)
            cut = opened(tmp_path)
            assert {entry.key for entry in cut.entries()} == set(names[: content[:length].count(b"\n")])
            assert_right(cut)

    def test_half_a_line_is_read_when_it_is_whole(self, tmp_path):
        store = opened(tmp_path)
        with store.writer() as writer:
            add(writer, ["1", "2"])
        path = the_file(store, "index")
        content = path.read_bytes()
        for length in range(len(content)):
            os.truncate(path, length)
            reader = opened(tmp_path)
            with open(path, "ab") as file:
                file.write(content[length:])
            reader.refresh()
            assert len(reader) == 2
            assert_right(reader)

    def test_every_flipped_bit_of_a_line_is_noticed(self, tmp_path):
        names = ["3", "1"]
        store = opened(tmp_path)
        with store.writer() as writer:
            add(writer, names)
        path = the_file(store, "index")
        content = path.read_bytes()
        for place in range(len(content)):
            for bit in (place % 8, (place + 3) % 8):
                with flipped(path, place, bit):
                    if place == len(content) - 1:  # without its end the last line counts as torn
                        assert [entry.key for entry in opened(tmp_path).entries()] == ["3"]
                        continue
                    line = 0 if place <= content.index(b"\n") else content.index(b"\n") + 1
                    with pytest.raises(FormatError, match=rf"{path.name}: the line at byte {line} does not"):
                        opened(tmp_path)

    def test_every_flipped_bit_of_the_frames_is_found(self, tmp_path):
        store = opened(tmp_path)
        with store.writer() as writer:
            add(writer, ["1", "2"])
        path = the_file(store, "frames")
        for place in range(path.stat().st_size):
            with flipped(path, place, place % 8):
                (problem,) = opened(tmp_path).verify()
            name = "1" if place < made("1").nbytes else "2"
            assert f"{path}: the frames of utterance '{name}' differ" in problem

    @pytest.mark.parametrize("end", [b"", b"\0" * 100, b"\xff\xfe", b"{", b'{"crc":"00000000",'])
    def test_what_follows_the_last_line_end_counts_as_absent(self, tmp_path, end):
        store = opened(tmp_path)
        with store.writer() as writer:
            add(writer, ["1"])
        with open(the_file(store, "index"), "ab") as file:
            file.write(end)
        assert_right(opened(tmp_path))
        assert len(opened(tmp_path)) == 1

    @pytest.mark.parametrize("line", [b"\n", b"{}\n", b"\0" * 100 + b"\n", b"[" * 100_000 + b"\n"])
    def test_garbage_is_refused_and_the_message_says_what_to_do(self, tmp_path, line):
        store = opened(tmp_path)
        with store.writer() as writer:
            add(writer, ["1"])
        path = the_file(store, "index")
        start = path.stat().st_size
        with open(path, "ab") as file:
            file.write(line)
        message = rf"{path}: the line at byte {start} .*delete this file, and add the utterances"
        with pytest.raises(FormatError, match=message):
            opened(tmp_path)
        with pytest.raises(FormatError, match=message):
            store.refresh()
        path.unlink()
        assert len(opened(tmp_path)) == 0

    @pytest.mark.parametrize(
        "change",
        [
            {"key": None},
            {"n_frames": 0},
            {"n_frames": -1},
            {"n_frames": "1"},
            {"first_row": -1},
            {"first_row": None},
            {"key": []},
        ],
    )
    def test_lines_that_cannot_be_are_refused_though_their_checksum_agrees(self, tmp_path, change):
        store = opened(tmp_path)
        with store.writer() as writer:
            add(writer, ["1"])
        fields = {"key": "x", "utterance": "x", "n_frames": 1, "first_row": 0, "seconds": 1.0, "crc32": 0}
        fields |= change
        if fields["key"] is None:
            del fields["key"]
        with open(the_file(store, "index"), "ab") as file:
            file.write(store_files.encode_line(fields))
        with pytest.raises(FormatError, match="a field is missing or impossible"):
            opened(tmp_path)

    def test_lines_that_are_not_json_are_refused_though_their_checksum_agrees(self, tmp_path):
        store = opened(tmp_path)
        with store.writer() as writer:
            add(writer, ["1"])
        for rest in (b"\n", b"]\n", b"[" * 100_000 + b"\n"):
            path = the_file(store, "index")
            content = path.read_bytes()
            path.write_bytes(content + store_files._checksum_field(rest) + rest)
            with pytest.raises(FormatError, match="not JSON before byte"):
                opened(tmp_path)
            path.write_bytes(content)

    def test_files_of_others_are_left_alone(self, tmp_path):
        store = opened(tmp_path)
        for name in ("frames-1.f32", "index-1.txt", "notes.jsonl", ".index-1.jsonl"):
            (store.folder / name).write_text("not ours")
        with store.writer() as writer:
            add(writer, ["1"])
        assert_right(opened(tmp_path))

    def test_an_index_without_its_frames(self, tmp_path):
        store = opened(tmp_path)
        with store.writer() as writer:
            add(writer, ["1"])
        the_file(store, "frames").unlink()
        store = opened(tmp_path)
        assert len(store) == 0
        assert "cut short, or deleted?" in store.verify()[0]


class TestFullDisks:
    def refuse(self, *arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def test_while_frames_are_written(self, tmp_path, monkeypatch):
        store = opened(tmp_path)
        with store.writer() as writer:
            add(writer, ["1", "2"])
            with monkeypatch.context() as patch:
                patch.setattr(store_files, "_write_all", self.half)
                with pytest.raises(InputError, match=f"{store.folder}: cannot be written .No space left"):
                    add(writer, ["6"])
            assert the_file(store, "frames").stat().st_size == made("1").nbytes + made("2").nbytes
            add(writer, ["4"])
        assert {entry.key for entry in store.entries()} == {"1", "2", "4"}
        assert_right(store)

    def half(self, file, content):
        file.write(memoryview(content)[: len(content) // 2])
        self.refuse()

    @pytest.mark.parametrize("at", ["lines", "fsync"])
    def test_while_committing(self, tmp_path, monkeypatch, at):
        store = opened(tmp_path)
        with store.writer() as writer:
            add(writer, ["1"])
            writer.commit()
            add(writer, ["2"])
            with monkeypatch.context() as patch:
                if at == "lines":
                    patch.setattr(store_files, "_write_all", self.half)
                else:
                    patch.setattr(store_files.os, "fsync", self.refuse)
                with pytest.raises(
                    InputError, match=r"No space left.*; what was committed before stays valid"
                ):
                    writer.commit()
            assert [entry.key for entry in opened(tmp_path).entries()] == ["1"]
            assert_right(opened(tmp_path))
            add(writer, ["6", "5"])  # longer than what was lost, whose rows would be theirs
        # An fsync that failed once may report success the next time: those files are not written to again.
        assert len(list(store.folder.glob("index-*"))) == 2
        assert {entry.key for entry in store.entries()} == {"1", "5", "6"}
        with store.writer() as writer:
            add(writer, ["1", "2", "6"])
        assert_right(opened(tmp_path))
        assert len(opened(tmp_path)) == 4

    def test_at_the_first_byte_leave_nothing_behind(self, tmp_path, monkeypatch):
        store = opened(tmp_path)
        monkeypatch.setattr(store_files, "_write_all", self.refuse)
        with store.writer() as writer, pytest.raises(InputError, match="No space left"):
            add(writer, ["1"])
        assert [path.name for path in store.folder.iterdir()] == ["config.json"]

    def test_an_error_on_the_way_out_does_not_hide_the_first(self, tmp_path, monkeypatch):
        store = opened(tmp_path)
        writer = store.writer()
        add(writer, ["1"])
        monkeypatch.setattr(store_files.os, "fsync", self.refuse)
        with pytest.raises(InputError, match="No space left") as caught, writer:
            raise KeyError("first")
        assert isinstance(caught.value.__context__.__context__, KeyError)

    LIMITED = (
        HELPERS
        + """
import resource

store = opened(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    with store.writer() as writer:
        for number in range(100):
            writer.add(str(number), str(number), made(str(number), n_frames=1000), 1.0)
except InputError as error:
    print(len(store), error)
"""
    )

    @pytest.mark.skipif(sys.platform == "win32", reason="limits are of POSIX systems")
    def test_where_the_system_refuses_larger_files(self, tmp_path):
        """Files of 100 kB at most: 12 utterances of 8000 bytes."""
        run = subprocess.run(
            [sys.executable, "-c", self.LIMITED, str(tmp_path)],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parent.parent,
        )
        assert run.stdout.startswith(f"12 {opened(tmp_path).folder}: cannot be written (File too large)")
        store = opened(tmp_path)
        assert (len(store), store.verify()) == (12, [])
        for entry in store.entries():
            np.testing.assert_array_equal(store.frames(entry.key), made(entry.key, n_frames=1000))


class TestReadOnlyFolders:
    def test_can_be_read_and_not_be_written(self, tmp_path):
        if not hasattr(os, "geteuid") or os.geteuid() == 0:
            pytest.skip("the superuser may write everywhere")
        with opened(tmp_path).writer() as writer:
            add(writer, ["1"])
        folder = opened(tmp_path).folder
        folder.chmod(0o500)
        tmp_path.chmod(0o500)
        try:
            store = opened(tmp_path)
            assert_right(store)
            with pytest.raises(InputError, match="cannot be written"):
                store.writer()
            with pytest.raises(InputError, match="cannot be written"):
                FeatureStore.imported(tmp_path, 5)
        finally:
            tmp_path.chmod(0o700)
            folder.chmod(0o700)

    def test_opening_writes_nothing(self, tmp_path, monkeypatch):
        with opened(tmp_path).writer() as writer:
            add(writer, ["1"])
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        monkeypatch.delattr(store_files, "write_atomically")
        assert_right(opened(tmp_path))
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before

    def test_a_folder_that_has_gone_is_named(self, tmp_path):
        store = opened(tmp_path)
        shutil.rmtree(store.folder)
        with pytest.raises(InputError, match=f"{store.folder}: cannot be read"):
            store.refresh()
