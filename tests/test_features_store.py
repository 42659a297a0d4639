"""features.store: what goes in comes out again, under keys that follow the audio and the settings."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from speechgmm.em.sources import SHARD, ArraySource, as_source
from speechgmm.errors import FormatError, InputError
from speechgmm.features import store as store_module
from speechgmm.features import store_files
from speechgmm.features.config import FeatureConfig
from speechgmm.features.store import FeatureStore
from speechgmm.manifest import Utterance

CONFIG = FeatureConfig(n_coefficients=4, delta_orders=0)
LINUX = sys.platform.startswith("linux")


def made(n_frames, n_features=4, seed=0):
    return np.random.default_rng(seed).standard_normal((n_frames, n_features), dtype=np.float32)


def with_one(value):
    """Frames of which one value, in the second chunk, is another."""
    frames = np.zeros((300_001, 4), np.float32)
    frames[300_000, 2] = value
    return frames


def filled(folder, frames, config=CONFIG):
    """A store with an utterance of each name in `frames`, keyed by that name."""
    store = FeatureStore(folder, config)
    with store.writer() as writer:
        for name, values in frames.items():
            writer.add(name, name, values, seconds=len(values) / 100)
    return store


def file_names(store, start=""):
    return sorted(name for name in os.listdir(store.folder) if name.startswith(start))


@pytest.fixture
def settled(monkeypatch):
    """Lets a file count as settled the moment it is written."""
    monkeypatch.setattr(store_files, "TICK", -(10**12))


@pytest.fixture
def never_read(monkeypatch):
    """A call from which on no audio file may be read."""

    def forbid():
        def refuse(path):
            raise AssertionError(f"{path} was read")

        monkeypatch.setattr(store_files, "sha256", refuse)

    return forbid


class TestFrames:
    def test_come_back_as_they_were(self, tmp_path):
        frames = {"a": made(3), "b": made(1000, seed=1), "c": made(1, seed=2)}
        written = filled(tmp_path, frames)
        for store in (written, FeatureStore(tmp_path, CONFIG, create=False)):
            assert (len(store), store.n_frames, store.n_features) == (3, 1004, 4)
            assert store.config == CONFIG
            assert "a" in store and "z" not in store
            for name, values in frames.items():
                back = store.frames(name)
                assert type(back) is np.ndarray and back.dtype == np.float32
                assert back.tobytes() == values.tobytes()
                assert store.seconds(name) == len(values) / 100
            assert store.verify() == []

    def test_are_read_only_views_of_one_map(self, tmp_path):
        store = filled(tmp_path, {"a": made(3), "b": made(5)})
        with pytest.raises(ValueError, match="read-only"):
            store.frames("a")[0] = 0
        assert store.frames("a").base is not None
        assert np.shares_memory(store.frames("a"), store.frames("a"))
        whole = store.frames("a").base
        assert np.shares_memory(whole, store.frames("b"))

    def test_may_lie_in_memory_as_they_like(self, tmp_path):
        wide = made(2000, n_features=8)
        store = filled(tmp_path, {"a": wide[:, ::2], "b": np.asfortranarray(wide[:, :4])})
        np.testing.assert_array_equal(store.frames("a"), wide[:, ::2])
        np.testing.assert_array_equal(store.frames("b"), wide[:, :4])

    def test_larger_than_one_chunk(self, tmp_path, monkeypatch):
        monkeypatch.setattr(store_files, "CHUNK", 100)
        frames = {"a": made(1000), "b": made(7), "c": np.asfortranarray(made(501))}
        store = filled(tmp_path, frames)
        for name, values in frames.items():
            np.testing.assert_array_equal(store.frames(name), values)
        reopened = FeatureStore(tmp_path, CONFIG)
        assert reopened.entries() == store.entries()
        assert reopened.verify() == []

    def test_of_an_unknown_key(self, tmp_path):
        store = filled(tmp_path, {"a": made(3)})
        for read in (store.frames, store.seconds, store.entry):
            with pytest.raises(InputError, match="no frames of the key 'z'"):
                read("z")

    def test_whose_file_has_gone(self, tmp_path):
        filled(tmp_path, {"a": made(3)})
        store = FeatureStore(tmp_path, CONFIG)
        (store.folder / file_names(store, "frames-")[0]).unlink()
        with pytest.raises(InputError, match=r"frames-.*\.f32: ends before the frames of utterance 'a'"):
            store.frames("a")
        assert "deleted?" in store.verify()[0]

    @pytest.mark.parametrize(
        ("frames", "message"),
        [
            (made(0), "`frames of utterance 'x'`: there are none"),
            (made(3, n_features=5), "have 5 features of float32; those of the store have 4"),
            (made(3).astype(np.float64), "have 4 features of float64"),
            (made(3)[0], "has 1 dimensions"),
            ([[1.0] * 4], "4 features of float64"),
            (with_one(np.nan), r"'x'` has the value nan at frame 300000, feature 2"),
            (with_one(np.inf), r"'x'` has the value inf at frame 300000, feature 2"),
            (with_one(-np.inf), r"'x'` has the value -inf at frame 300000, feature 2"),
        ],
    )
    def test_that_cannot_be_used(self, tmp_path, frames, message):
        store = FeatureStore(tmp_path, CONFIG)
        with store.writer() as writer, pytest.raises(InputError, match=message):
            writer.add("x", "x", frames, 1.0)
        assert file_names(store) == ["config.json"]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"key": ""}, "`key` is ''"),
            ({"key": 3}, "`key` is 3"),
            ({"utterance_id": None}, "`utterance_id` is None"),
            ({"seconds": float("nan")}, "`seconds` of utterance 'u' is nan"),
            ({"seconds": -1.0}, "`seconds` of utterance 'u' is -1.0"),
            ({"seconds": "3"}, "`seconds` of utterance 'u' is '3'"),
        ],
    )
    def test_with_names_that_cannot_be_used(self, tmp_path, change, message):
        given = {"key": "k", "utterance_id": "u", "frames": made(3), "seconds": 1.0} | change
        with FeatureStore(tmp_path, CONFIG).writer() as writer, pytest.raises(InputError, match=message):
            writer.add(**given)


class TestWriter:
    def test_leaves_nothing_where_nothing_was_added(self, tmp_path):
        store = FeatureStore(tmp_path, CONFIG)
        with store.writer() as writer:
            writer.commit()
        assert file_names(store) == ["config.json"]

    def test_frames_can_be_read_once_committed(self, tmp_path):
        store = FeatureStore(tmp_path, CONFIG)
        with store.writer() as writer:
            writer.add("a", "a", made(3), 1.0)
            assert "a" not in store
            writer.commit()
            view = store.frames("a")
            writer.add("b", "b", made(500, seed=1), 1.0)
            writer.commit()
            np.testing.assert_array_equal(store.frames("b"), made(500, seed=1))
            np.testing.assert_array_equal(view, made(3))
        assert len(file_names(store, "frames-")) == len(file_names(store, "index-")) == 1

    def test_an_exception_keeps_what_is_complete(self, tmp_path):
        store = FeatureStore(tmp_path, CONFIG)

        def stop(*arguments):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt), store.writer() as writer:
            list(map(stop, [writer.add("a", "a", made(3), 1.0)]))
        assert "a" in store and FeatureStore(tmp_path, CONFIG).verify() == []

    def test_the_same_frames_again_are_not_written_twice(self, tmp_path):
        store = filled(tmp_path, {"a": made(3)})
        with store.writer() as writer:
            writer.add("a", "again", made(3), 1.0)
        assert len(file_names(store)) == 3
        with store.writer() as writer:
            writer.add("b", "b", made(4), 1.0)
            writer.add("b", "again", made(4), 1.0)
        assert [entry.utterance for entry in store.entries()] == ["a", "b"]
        frames = [store.folder / name for name in file_names(store, "frames-")]
        assert sorted(path.stat().st_size for path in frames) == [3 * 16, 4 * 16]

    def test_other_frames_under_a_known_key_are_refused(self, tmp_path):
        store = filled(tmp_path, {"a": made(3)})
        with store.writer() as writer:
            writer.add("b", "b", made(3), 1.0)
            for key in ("a", "b"):
                with pytest.raises(InputError, match=f"has other frames under the key '{key}'"):
                    writer.add(key, "x", made(3, seed=1), 1.0)

    def test_commits_after_so_many_bytes(self, tmp_path, monkeypatch):
        monkeypatch.setattr(store_module, "COMMIT_BYTES", 10 * 16)
        store = FeatureStore(tmp_path, CONFIG)
        lengths = []
        with store.writer() as writer:
            for number in range(8):
                writer.add(f"{number}", f"{number}", made(3), 1.0)
                lengths.append(len(store))
        assert lengths == [0, 0, 0, 4, 4, 4, 4, 8]

    def test_commits_after_so_many_seconds(self, tmp_path, monkeypatch):
        now = [0.0]
        monkeypatch.setattr(store_module.time, "monotonic", lambda: now[0])
        store = FeatureStore(tmp_path, CONFIG)
        with store.writer() as writer:
            for second, expected in ((3, 0), (4.9, 0), (5.1, 3), (9, 3), (10.2, 5)):
                now[0] = second
                writer.add(f"{second}", "u", made(3, seed=int(10 * second)), 1.0)
                assert len(store) == expected

    def test_many_short_utterances_wait_for_the_disk_rarely(self, tmp_path, monkeypatch):
        calls = []
        monkeypatch.setattr(store_module, "COMMIT_SECONDS", np.inf)
        monkeypatch.setattr(store_files.os, "fsync", calls.append)
        filled(tmp_path, {f"{number}": made(2) for number in range(1000)})
        # Of config.json, the frames and the lines.
        assert len(calls) == 3

    def test_starts_new_files_when_they_become_large(self, tmp_path, monkeypatch):
        monkeypatch.setattr(store_module, "COMMIT_BYTES", 1)
        monkeypatch.setattr(store_module, "FILE_BYTES", 10 * 16)
        frames = {f"{number}": made(4, seed=number) for number in range(7)}
        store = filled(tmp_path, frames)
        assert len(file_names(store, "frames-")) == 3
        for name, values in frames.items():
            np.testing.assert_array_equal(FeatureStore(tmp_path, CONFIG).frames(name), values)

    def test_needs_a_folder_that_can_be_written(self, tmp_path):
        store = FeatureStore(tmp_path / "store", CONFIG)
        shutil.rmtree(tmp_path / "store")
        (tmp_path / "store").write_text("in the way")
        with pytest.raises(InputError, match="cannot be written"):
            store.writer()


class TestReaders:
    def test_see_what_others_add_when_they_refresh(self, tmp_path):
        reader, store = FeatureStore(tmp_path, CONFIG), FeatureStore(tmp_path, CONFIG)
        with store.writer() as writer:
            for number, name in enumerate("abc", 1):
                writer.add(name, name, made(number, seed=number), 1.0)
                writer.commit()
                assert len(reader) == number - 1
                reader.refresh()
                assert len(reader) == number
                np.testing.assert_array_equal(reader.frames(name), made(number, seed=number))
        filled(tmp_path, {"d": made(4)})
        reader.refresh()
        assert len(reader) == 4
        assert reader.entries() == FeatureStore(tmp_path, CONFIG).entries()

    def test_the_first_file_in_order_wins_whichever_was_read_first(self, tmp_path, monkeypatch):
        """Two writers added different frames under one key: everyone must see the same ones."""
        stores = [FeatureStore.imported(tmp_path, 4) for _ in range(3)]
        later, earlier, reader = stores
        for store, moment in ((later, 2000), (earlier, 1000)):
            monkeypatch.setattr(store_files.time, "time_ns", lambda moment=moment: moment)
            with store.writer() as writer:
                writer.add("a", "a", made(3, seed=moment), 1.0)
            reader.refresh()
        later.refresh()
        for store in (*stores, FeatureStore.imported(tmp_path, 4)):
            np.testing.assert_array_equal(store.frames("a"), made(3, seed=1000))
            assert (len(store), store.n_frames) == (1, 3)

    def test_travel_by_pickle_and_see_what_the_original_saw(self, tmp_path):
        store = filled(tmp_path, {"a": made(3), "b": made(5)})
        luggage = pickle.dumps(store)
        assert len(luggage) < 5000
        with store.writer() as writer:
            writer.add("c", "c", made(7), 1.0)
        copy = pickle.loads(luggage)
        assert sorted(entry.key for entry in copy.entries()) == ["a", "b"]
        np.testing.assert_array_equal(copy.frames("b"), made(5))
        assert copy.config == CONFIG
        copy.refresh()
        assert copy.entries() == store.entries()

    def test_pickled_between_two_commits_to_one_file(self, tmp_path):
        store = FeatureStore(tmp_path, CONFIG)
        with store.writer() as writer:
            writer.add("a", "a", made(3), 1.0)
            writer.commit()
            luggage = pickle.dumps(store)
            writer.add("b", "b", made(3), 1.0)
        assert [entry.key for entry in pickle.loads(luggage).entries()] == ["a"]

    def test_relative_folders_survive_a_change_of_folder(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        store = filled("store", {"a": made(3)})
        monkeypatch.chdir("/")
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(store)).frames("a"), made(3))


class TestSource:
    def test_shards_are_those_of_all_frames_in_order(self, tmp_path):
        sizes = {"b": 5, "a": SHARD + 3, "d": SHARD - 1, "c": 1}
        frames = {name: made(size, seed=size) for name, size in sizes.items()}
        store = filled(tmp_path, frames)
        assert [entry.utterance for entry in store.entries()] == ["a", "b", "c", "d"]
        everything = np.concatenate([frames[name] for name in "abcd"])
        expected = ArraySource(everything)
        source = as_source(store)
        assert (source.n_frames, source.n_features, source.weights) == (len(everything), 4, None)
        for mine, theirs in zip(source.shards(), expected.shards(), strict=True):
            np.testing.assert_array_equal(mine.frames, theirs.frames)
            assert mine.weights is None
        chosen = [5, SHARD + 4, 0, 2 * SHARD + 7, 5]
        np.testing.assert_array_equal(source.rows(chosen), everything[chosen])

    def test_order_is_that_of_utterances_then_keys(self, tmp_path):
        store = FeatureStore(tmp_path, CONFIG)
        with store.writer() as writer:
            for key, utterance in (("k3", "a"), ("k1", "b"), ("k2", "a")):
                writer.add(key, utterance, made(3, seed=int(key[1])), 1.0)
        assert [entry.key for entry in store.entries()] == ["k2", "k3", "k1"]

    def test_shards_follow_what_is_added(self, tmp_path):
        store = filled(tmp_path, {"b": made(3)})
        assert [len(shard.frames) for shard in store.shards()] == [3]
        with store.writer() as writer:
            writer.add("a", "a", made(4, seed=1), 1.0)
        (shard,) = store.shards()
        np.testing.assert_array_equal(shard.frames, np.concatenate([made(4, seed=1), made(3)]))

    def test_an_empty_store_has_no_shards(self, tmp_path):
        store = FeatureStore(tmp_path, CONFIG)
        assert (len(store), store.n_frames, store.entries()) == (0, 0, ())
        with pytest.raises(InputError, match="holds no frames"):
            list(store.shards())


class TestFolder:
    def test_configurations_live_side_by_side(self, tmp_path):
        other = FeatureConfig(n_coefficients=4, delta_orders=0, pre_emphasis=0.9)
        filled(tmp_path, {"a": made(3)})
        filled(tmp_path, {"a": made(3, seed=1)}, other)
        with FeatureStore.imported(tmp_path, 4).writer() as writer:
            writer.add("a", "a", made(3, seed=2), 1.0)
        stores = [
            FeatureStore(tmp_path, CONFIG),
            FeatureStore(tmp_path, other),
            FeatureStore.imported(tmp_path, 4),
        ]
        for seed, store in enumerate(stores):
            np.testing.assert_array_equal(store.frames("a"), made(3, seed=seed))
        assert stores[2].config is None
        assert stores[2].folder.name == "imported-4"
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(s.folder.name for s in stores)

    def test_its_name_stays_as_it_is(self, tmp_path):
        """Or users' stores would be made anew with every release."""
        header = json.loads((FeatureStore(tmp_path, CONFIG).folder / "config.json").read_text())
        assert header == {
            "kind": "speechgmm features",
            "format": 1,
            "n_features": 4,
            "config": CONFIG.to_dict(),
        }

    @pytest.mark.parametrize("n_features", [0, -1, True, 2.0, "3"])
    def test_of_imported_features_needs_their_number(self, tmp_path, n_features):
        with pytest.raises(InputError, match="`n_features` is"):
            FeatureStore.imported(tmp_path, n_features)

    def test_needs_a_configuration(self, tmp_path):
        with pytest.raises(InputError, match=r"`config` is None; it must be a FeatureConfig .*imported"):
            FeatureStore(tmp_path, None)

    def test_is_made_only_if_it_may_be(self, tmp_path):
        for open_store in (
            lambda: FeatureStore(tmp_path / "store", CONFIG, create=False),
            lambda: FeatureStore.imported(tmp_path / "store", 4, create=False),
        ):
            with pytest.raises(InputError, match="holds no features of these settings"):
                open_store()
        assert not (tmp_path / "store").exists()

    def test_cannot_be_a_file(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(InputError, match="file: is a file; a feature store is a folder"):
            FeatureStore(tmp_path / "file", CONFIG)
        with pytest.raises(InputError, match="cannot be written"):
            FeatureStore(tmp_path / "file" / "store", CONFIG)

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({"format": 2}, InputError, r"config\.json: field `format` is 2; this speechgmm reads 1"),
            ({"format": None}, InputError, "field `format` is None"),
            ({"kind": "other"}, FormatError, "field `kind` must be 'speechgmm features'"),
            ({"n_features": 5}, FormatError, "field `n_features` does not fit"),
            ({"config": None}, FormatError, "field `config` does not fit"),
        ],
    )
    def test_of_another_kind_is_refused(self, tmp_path, change, error, message):
        path = filled(tmp_path, {"a": made(3)}).folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        with pytest.raises(error, match=message):
            FeatureStore(tmp_path, CONFIG)

    @pytest.mark.parametrize("text", ["", "{", "[]", "\xff", "null"])
    def test_with_a_damaged_header_is_refused(self, tmp_path, text):
        path = FeatureStore(tmp_path, CONFIG).folder / "config.json"
        path.write_bytes(text.encode("latin-1"))
        with pytest.raises(FormatError, match=r"config\.json: (not JSON|field `kind`)"):
            FeatureStore(tmp_path, CONFIG)


class TestKeys:
    def written(self, path, content=b"some audio", times=None):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        if times is not None:
            os.utime(path, ns=times)
        return Utterance("u", path)

    def test_follow_the_content_not_the_place(self, tmp_path):
        store = FeatureStore(tmp_path / "store", CONFIG)
        one, two = self.written(tmp_path / "a.wav"), self.written(tmp_path / "b" / "c.wav")
        other = self.written(tmp_path / "d.wav", b"other audio")
        assert store.key_of(one) == store.key_of(two)
        assert store.key_of(one) != store.key_of(other)

    def test_tell_stretches_apart(self, tmp_path):
        store = FeatureStore(tmp_path / "store", CONFIG)
        audio = self.written(tmp_path / "a.wav").audio
        stretches = [(None, None), (0.0, None), (1.0, None), (None, 1.0), (1.0, 2.0), (1.5, 2.0), (1.0, 2.5)]
        keys = {store.key_of(Utterance("u", audio, start, end)) for start, end in stretches}
        assert len(keys) == len(stretches)
        assert store.key_of(Utterance("v", audio, 1, 2)) in keys

    def test_do_not_trust_the_manifest(self, tmp_path):
        store = FeatureStore(tmp_path / "store", CONFIG)
        utterance = self.written(tmp_path / "a.wav")
        claims = Utterance("u", utterance.audio, sha256="0" * 64)
        assert store.key_of(claims) == store.key_of(utterance)

    @pytest.mark.parametrize("name", ["missing.wav", "folder", "pipe"])
    def test_of_what_is_no_file(self, tmp_path, name):
        (tmp_path / "folder").mkdir()
        os.mkfifo(tmp_path / "pipe")
        store = FeatureStore(tmp_path / "store", CONFIG)
        reason = {"missing.wav": "No such file", "folder": "is a folder", "pipe": "is a pipe"}[name]
        with pytest.raises(InputError, match=f"{name}: .*{reason}"):
            store.key_of(Utterance("u", tmp_path / name))

    def test_a_file_that_is_listed_is_not_read_again(self, tmp_path, settled, never_read):
        utterance = self.written(tmp_path / "a.wav")
        store = FeatureStore(tmp_path / "store", CONFIG)
        key = store.key_of(utterance)
        with store.writer() as writer:
            writer.add(key, "u", made(3), 1.0, utterance)
        n_files = len(file_names(store))
        with store.writer():
            pass
        assert len(file_names(store)) == n_files
        never_read()
        assert store.key_of(utterance) == key
        assert FeatureStore(tmp_path / "store", CONFIG).key_of(utterance) == key

    def test_a_changed_file_is_read_again(self, tmp_path, settled):
        """Of the same size; even if its time was set back, as programs that unpack archives do."""
        path, times = tmp_path / "a.wav", (10**18, 10**18)
        store = FeatureStore(tmp_path / "store", CONFIG)
        keys = [
            store.key_of(self.written(path, b"aaaa", times)),
            store.key_of(self.written(path, b"bbbb", (times[0], times[1] + 1))),
        ]
        stamp = path.stat().st_ctime_ns
        while path.stat().st_ctime_ns == stamp:  # the clock of some file systems is slow
            self.written(path, b"cccc", (times[0], times[1] + 1))
        keys.append(store.key_of(Utterance("u", path)))
        assert len(set(keys)) == 3

    def test_a_file_that_was_written_just_now_is_not_trusted(self, tmp_path):
        """It could change once more without its times changing."""
        path, times = tmp_path / "a.wav", (10**18, 10**18)
        store = FeatureStore(tmp_path / "store", CONFIG)
        keys = [
            store.key_of(self.written(path, content, times))
            for content in (b"aaaa", b"bbbb", b"cccc", b"dddd")
        ]
        assert len(set(keys)) == 4
        with store.writer():
            pass
        assert file_names(store) == ["config.json"]

    def test_moved_audio_is_found_and_its_new_place_remembered(self, tmp_path, settled, never_read):
        folder = tmp_path / "store"
        store = FeatureStore(folder, CONFIG)
        utterance = self.written(tmp_path / "old" / "a.wav")
        with store.writer() as writer:
            writer.add(store.key_of(utterance), "u", made(3), 1.0, utterance)
        (tmp_path / "old").rename(tmp_path / "new")
        moved = Utterance("u", tmp_path / "new" / "a.wav")
        store = FeatureStore(folder, CONFIG)
        assert store.key_of(moved) in store
        with store.writer():
            pass
        assert len(file_names(store, "frames-")) == 1
        never_read()
        store = FeatureStore(folder, CONFIG)
        np.testing.assert_array_equal(store.frames(store.key_of(moved)), made(3))
        n_files = len(file_names(store))
        with store.writer():
            pass
        assert len(file_names(store)) == n_files

    def test_relative_paths_are_told_apart_by_their_folder(self, tmp_path, settled, monkeypatch):
        """Files unpacked from archives often have one size and one time."""
        store = FeatureStore(tmp_path / "store", CONFIG)
        monkeypatch.setattr(store_files.os, "stat", lambda path, stat=os.stat: FixedTimes(stat(path)))
        keys = set()
        for folder in ("one", "two"):
            self.written(tmp_path / folder / "a.wav", folder.encode())
            monkeypatch.chdir(tmp_path / folder)
            keys.add(store.key_of(Utterance("u", "a.wav")))
        assert len(keys) == 2

    def test_audio_that_changed_before_its_frames_came_is_refused(self, tmp_path):
        store = FeatureStore(tmp_path / "store", CONFIG)
        utterance = self.written(tmp_path / "a.wav")
        key = store.key_of(utterance)
        self.written(tmp_path / "a.wav", b"changed")
        with store.writer() as writer, pytest.raises(InputError, match=r"a\.wav is not the file .*changed"):
            writer.add(key, "u", made(3), 1.0, utterance)
        assert len(store) == 0


class FixedTimes:
    """A file's status with the times that all files have."""

    def __init__(self, status):
        self.st_size, self.st_mode = status.st_size, status.st_mode
        self.st_mtime_ns = self.st_ctime_ns = 10**18


class TestAllocate:
    def test_small_arrays_are_in_memory(self, tmp_path):
        store = FeatureStore(tmp_path, CONFIG)
        with store.writer() as writer:
            array = writer.allocate((10, 4))
        assert array.shape == (10, 4) and array.dtype == np.float32 and array.base is None

    def test_large_ones_are_in_a_file_that_leaves_no_trace(self, tmp_path, monkeypatch):
        monkeypatch.setattr(store_files, "LARGE", 100)
        store = FeatureStore(tmp_path, CONFIG)
        with store.writer() as writer:
            array = writer.allocate((10, 4))
            assert isinstance(array.base, np.memmap) and type(array) is np.ndarray
            assert array.shape == (10, 4) and array.dtype == np.float32 and array.flags.writeable
            assert file_names(store) == ["config.json"]
            array[:] = made(10)
            writer.add("a", "a", array[:7], 1.0)
        np.testing.assert_array_equal(store.frames("a"), made(10)[:7])

    def test_where_room_cannot_be_reserved(self, tmp_path, monkeypatch):
        def refuse(*arguments):
            raise OSError(95, "Operation not supported")

        monkeypatch.setattr(store_files, "LARGE", 100)
        monkeypatch.setattr(store_files.os, "posix_fallocate", refuse, raising=False)
        array = store_files.allocate(tmp_path, (10, 4))
        array[:] = 1
        assert array.sum() == 40

    def test_without_room(self, tmp_path, monkeypatch):
        def refuse(*arguments):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(store_files, "LARGE", 100)
        monkeypatch.setattr(store_files.os, "posix_fallocate", refuse, raising=False)
        with pytest.raises(InputError, match=r"no room for 4 MB of frames \(No space left"):
            store_files.allocate(tmp_path, (1 << 18, 4))


MEMORY = """
import sys
import numpy as np
from speechgmm.features.store import FeatureStore

def anonymous():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon")) / 1024

store = FeatureStore.imported(sys.argv[1], 60)
frames = np.ones((8700, 60), np.float32)
with store.writer() as writer:
    for number in range(50):
        frames[:, 0] = number
        writer.add(f"{number:02d}", f"{number:02d}", frames, 87.0)
    before = anonymous()
    large = writer.allocate((435_000, 60))
    for start in range(0, len(large), 8700):
        large[start : start + 8700] = frames
    writer.add("large", "large", large, 4350.0)
    print(anonymous() - before)
del large
before = highest = anonymous()
total = 0
for shard in store.shards():
    total += len(shard.frames)
    highest = max(highest, anonymous())
assert total == 870_000
print(highest - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads its memory use from /proc")
def test_memory_does_not_grow_with_the_frames(tmp_path):
    """Of 100 MB in 50 utterances and 100 MB in one, little is ever in memory of this process's own."""
    run = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path)], capture_output=True, text=True, check=True
    )
    writing, reading = map(float, run.stdout.split())
    # A shard of 60 features has 4 MB; where it spans utterances it and the one before it are in memory.
    assert writing < 30
    assert reading < 30
