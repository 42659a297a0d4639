"""Training on frames that lie on disk: the same bits as in memory, and memory that does not grow with them."""

import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from speechgmm.model_file import Model
from speechgmm.settings import TrainingSettings
from speechgmm.trainer import train_on_frames
from speechgmm.training_frames import background_frames, gather, pooled_variance

STATUS = Path("/proc/self/status")
SETTINGS = TrainingSettings(n_components=2, max_iterations=2, tolerance=0.0)
CLASSES = "abcde"
N_FEATURES = 64
# 20 utterances of 20 MB, four of each class.
UTTERANCE_FRAMES, N_UTTERANCES = 80_000, 20
# A class joined would be 80 MB; shards, samples of frames and what lies around take about 20 MB.
MEGABYTE = 1e6
LIMIT = 60 * MEGABYTE


def mapped_utterances(path, n_utterances=N_UTTERANCES, n_frames=UTTERANCE_FRAMES, n_features=N_FEATURES):
    """Views of one memory map of float32, and their labels; the classes in turn."""
    rows = np.memmap(path, np.float32, "r", shape=(n_utterances * n_frames, n_features))
    return np.split(rows, n_utterances), [CLASSES[index % 5] for index in range(n_utterances)]


def write_utterances(path, n_utterances=N_UTTERANCES, n_frames=UTTERANCE_FRAMES, n_features=N_FEATURES):
    rng = np.random.default_rng(0)
    block = rng.standard_normal((n_frames, n_features), np.float32)
    with open(path, "wb") as file:
        for index in range(n_utterances):
            shift = np.float32(0.3 * (index % 5) + 0.01 * index)
            file.write((block + shift * rng.standard_normal(n_features, np.float32)).data)


def anonymous_memory():
    """Bytes of this process's memory that no file backs: maps of files do not count."""
    (line,) = [line for line in STATUS.read_text().splitlines() if line.startswith("RssAnon:")]
    return 1024 * int(line.split()[1])


def most_while(work):
    """The most anonymous memory while some work is done, above what there was before it."""
    before, most, done = anonymous_memory(), [0], threading.Event()

    def watch():
        while not done.wait(0.002):
            most[0] = max(most[0], anonymous_memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return most[0] - before


def train_and_measure(path, in_memory=False):
    """Print the most memory that training takes, in bytes, and its seconds; to be run in a process of its own."""
    import warnings

    warnings.simplefilter("ignore")  # of EM that stops early
    small, labels = np.random.default_rng(0).normal(size=(10, 2000, N_FEATURES)).astype("f4"), list("ab" * 5)
    train_on_frames(list(small), labels, settings=SETTINGS, n_jobs=2)  # loads what training needs
    frames, labels = mapped_utterances(path)
    start = time.perf_counter()

    def work():
        used = [np.array(part) for part in frames] if in_memory else frames
        train_on_frames(used, labels, settings=SETTINGS, n_jobs=2)

    print(most_while(work), time.perf_counter() - start)


@pytest.mark.skipif(
    not STATUS.is_file() or "RssAnon:" not in STATUS.read_text(),
    reason="this system does not tell memory of its own from maps of files",
)
def test_memory_does_not_grow_with_frames_on_disk(tmp_path):
    path = tmp_path / "frames.f32"
    try:
        write_utterances(path)
        assert path.stat().st_size > 400 * MEGABYTE
        code = f"from tests.test_trainer_memory import *; train_and_measure({str(path)!r})"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=Path(__file__).parent.parent, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert float(done.stdout.split()[0]) < LIMIT
    finally:
        path.unlink(missing_ok=True)  # pytest keeps its folders


@pytest.fixture
def on_disk(tmp_path):
    """Fifteen utterances of 300 frames, three of each class, in one read-only memory map."""
    write_utterances(tmp_path / "frames.f32", 15, 300, 6)
    return mapped_utterances(tmp_path / "frames.f32", 15, 300, 6)


@pytest.mark.filterwarnings("ignore:EM stopped at 2 iterations")
@pytest.mark.parametrize("covariance_type", ["diag", "full", "tied", "spherical"])
def test_frames_on_disk_give_the_same_bits_as_in_memory(tmp_path, on_disk, covariance_type):
    frames, labels = on_disk
    settings = TrainingSettings(
        n_components=4, covariance_type=covariance_type, max_iterations=2, tolerance=0.0
    )
    saved = []
    for given in (frames, [np.array(part) for part in frames], [np.asfortranarray(part) for part in frames]):
        for n_jobs in (1, 2):
            train_on_frames(given, labels, settings=settings, n_jobs=n_jobs).model.save(tmp_path / "model")
            saved.append((tmp_path / "model").read_bytes())
    assert set(Counter(saved).values()) == {6}
    assert Model.load(tmp_path / "model").labels == tuple(CLASSES)


def test_frames_are_neither_joined_nor_copied(on_disk):
    frames, labels = on_disk
    classes = gather(frames, labels, [str(index) for index in range(15)], [2.0] * 15)
    assert [group.label for group in classes] == list(CLASSES)
    for group in classes:
        own = [part for part, label in zip(frames, labels, strict=True) if label == group.label]
        assert len(group.pieces) == 3 and group.n_held_out == 1 and group.seconds == 6.0
        assert all(sum(np.shares_memory(piece, part) for part in own) == 1 for piece in group.pieces)
        assert (group.frames.n_frames, group.part.n_frames) == (900, 600)
        assert len(group.held_out) == 1 and group.held_out[0] is group.pieces[-1]
        joined = np.concatenate(group.pieces)
        np.testing.assert_array_equal(group.frames.rows(slice(None)), joined)
        np.testing.assert_array_equal(group.part.rows(slice(None)), joined[:600])


def test_the_variance_of_all_frames_is_that_of_all_joined(on_disk):
    frames, labels = on_disk
    classes = gather(frames, labels, [str(index) for index in range(15)], [0.0] * 15)
    # Sums of float64 in another order.
    expected = np.concatenate(frames).astype(np.float64).var(axis=0)
    np.testing.assert_allclose(pooled_variance(classes), expected, rtol=1e-12)


def test_the_background_gets_as_many_frames_of_every_class(on_disk):
    frames, labels = on_disk
    classes = gather(frames, labels, [str(index) for index in range(15)], [0.0] * 15)
    everyone = background_frames(classes, n_components=2)
    # 512 frames a component, over 5 classes: a share of 204, so every fifth of 900.
    assert [len(piece) for piece in everyone.pieces] == [180] * 5
    for group, piece in zip(classes, everyone.pieces, strict=True):
        np.testing.assert_array_equal(piece, np.concatenate(group.pieces)[::5])
    assert everyone.frames.n_frames == everyone.part.n_frames == 900
    assert everyone.held_out == ()
