"""em.checkpoint: a stopped fit goes on to the same bits, and only from its own file."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from speechgmm.em.checkpoint import Checkpoint, EMState
from speechgmm.em.fit import fit
from speechgmm.em.mixture import Mixture
from speechgmm.em.sources import SHARD, ArraySource, BlockSource
from speechgmm.errors import FormatError, InputError, SpeechGMMWarning

TYPES = ["diag", "full", "tied", "spherical"]


class Stopped(Exception):
    """Stands for whatever ends a process in the middle of a fit."""


def stop_at(iteration):
    def on_iteration(number, _):
        if number == iteration:
            raise Stopped

    return on_iteration


def made_frames(n_frames=700, n_features=3, seed=0):
    rng = np.random.default_rng(seed)
    places = 2 * rng.standard_normal((4, n_features))
    return places[rng.integers(4, size=n_frames)] + rng.standard_normal((n_frames, n_features))


def made_start(covariance_type="diag", n_components=4, n_features=3, lost=()):
    """A start whose components `lost` are too far away to get a frame, so that they are re-seeded."""
    means = np.random.default_rng(1).standard_normal((n_components, n_features))
    means[list(lost)] = 1e4
    covariances = {
        "diag": np.ones((n_components, n_features)),
        "full": np.tile(np.eye(n_features), (n_components, 1, 1)),
        "tied": np.eye(n_features),
        "spherical": np.ones(n_components),
    }
    weights = np.full(n_components, 1 / n_components)
    return Mixture(weights, means, covariances[covariance_type], covariance_type)


def same(result, other):
    """Whether two results are equal to the last bit."""
    assert result.mixture == other.mixture
    assert (result.history, result.converged, result.reseeded) == (
        other.history,
        other.converged,
        other.reseeded,
    )
    return True


class TestGoingOn:
    @pytest.mark.parametrize("covariance_type", TYPES)
    @pytest.mark.parametrize(("every", "stop"), [(1, 1), (1, 5), (3, 8), (4, 3), (10, 19)])
    def test_a_stopped_fit_goes_on_to_the_same_bits(self, tmp_path, covariance_type, every, stop):
        frames, start = made_frames(), made_start(covariance_type, lost=(2,))
        options = {"max_iterations": 20, "tolerance": 0}
        whole = fit(frames, start, **options)
        assert whole.reseeded == (1,) and whole.n_iterations == 20
        checkpoint = Checkpoint(tmp_path / "fit.safetensors", every)
        with pytest.raises(Stopped):
            fit(frames, start, **options, checkpoint=checkpoint, on_iteration=stop_at(stop))
        seen = []
        resumed = fit(
            frames, start, **options, checkpoint=checkpoint, on_iteration=lambda *news: seen.append(news)
        )
        assert same(resumed, whole)
        # on_iteration stops a fit before it writes, so the file is of the iteration before.
        first = (stop - 1) // every * every
        assert seen == list(enumerate(whole.history))[first:]

    def test_it_may_be_stopped_again_and_again(self, tmp_path):
        frames, start = made_frames(), made_start(lost=(0, 3))
        whole = fit(frames, start, tolerance=1e-4)
        assert whole.converged and whole.n_iterations > 10
        checkpoint = Checkpoint(tmp_path / "fit.safetensors", every=2)
        for stop in range(2, whole.n_iterations, 3):
            with pytest.raises(Stopped):
                fit(frames, start, tolerance=1e-4, checkpoint=checkpoint, on_iteration=stop_at(stop))
        assert same(fit(frames, start, tolerance=1e-4, checkpoint=checkpoint), whole)

    @pytest.mark.filterwarnings("ignore:.*were dropped:speechgmm.errors.SpeechGMMWarning")
    def test_before_and_after_components_are_replaced_and_dropped(self, tmp_path):
        # Eight frames at six places cannot keep eight components.
        rng = np.random.default_rng(5)
        frames = rng.standard_normal((6, 3))[rng.integers(6, size=8)]
        start = Mixture(np.full(8, 0.125), 3 * rng.standard_normal((8, 3)), np.ones((8, 3)))
        options = {"max_iterations": 12, "tolerance": 0}
        whole = fit(frames, start, **options)
        assert whole.mixture.n_components < 8 and len(whole.reseeded) >= 2 and whole.reseeded[-1] < 12
        for stop in range(1, 13):
            checkpoint = Checkpoint(tmp_path / f"{stop}.safetensors", every=1)
            with pytest.raises(Stopped):
                fit(frames, start, **options, checkpoint=checkpoint, on_iteration=stop_at(stop))
            assert same(fit(frames, start, **options, checkpoint=checkpoint), whole)

    @pytest.mark.parametrize("options", [{"tolerance": 1e-2}, {"tolerance": 0, "max_iterations": 7}])
    def test_a_finished_fit_is_returned_at_once(self, tmp_path, options):
        frames, start = made_frames(), made_start()
        checkpoint = Checkpoint(tmp_path / "fit.safetensors")
        whole = fit(frames, start, **options, checkpoint=checkpoint)
        assert whole.converged == (options["tolerance"] > 0)
        again = fit(frames, start, **options, checkpoint=checkpoint, on_iteration=stop_at(whole.n_iterations))
        assert same(again, whole)
        assert same(whole, fit(frames, start, **options))

    def test_more_iterations_go_on_from_a_finished_fit(self, tmp_path):
        frames, start = made_frames(), made_start(lost=(1,))
        checkpoint = Checkpoint(tmp_path / "fit.safetensors")
        seen = []
        for max_iterations in (0, 1, 2, 7, 7, 20):
            result = fit(
                frames, start, tolerance=0, max_iterations=max_iterations, checkpoint=checkpoint,
                on_iteration=lambda number, _: seen.append(number),
            )  # fmt: skip
            assert same(result, fit(frames, start, tolerance=0, max_iterations=max_iterations))
        assert seen == [0, *(0, 1), *(1, 2), *range(2, 8), *range(7, 21)]

    def test_threads_and_kinds_of_sources_may_change(self, tmp_path):
        frames = made_frames(2 * SHARD + 300).astype(np.float32)
        weights = np.random.default_rng(3).random(len(frames))
        start, checkpoint = made_start(), Checkpoint(tmp_path / "fit.safetensors", every=1)
        whole = fit(ArraySource(frames, weights), start, tolerance=0, max_iterations=4)
        options = {"tolerance": 0, "max_iterations": 4, "checkpoint": checkpoint}
        with pytest.raises(Stopped):
            fit(ArraySource(frames, weights), start, **options, on_iteration=stop_at(2))
        blocks = BlockSource([frames[:1000], frames[1000:]], weights)
        assert same(fit(blocks, start, **options, n_jobs=2), whole)

    def test_a_memory_map_is_the_same_as_an_array(self, tmp_path):
        frames = made_frames()
        np.save(tmp_path / "frames.npy", frames)
        checkpoint = Checkpoint(tmp_path / "fit.safetensors")
        whole = fit(frames, made_start(), max_iterations=3, checkpoint=checkpoint)
        for other in (np.load(tmp_path / "frames.npy", mmap_mode="r"), np.asfortranarray(frames)):
            assert same(fit(other, made_start(), max_iterations=3, checkpoint=checkpoint), whole)

    def test_the_file_is_written_every_so_many_iterations(self, tmp_path):
        path, changes = tmp_path / "new folder" / "fit.safetensors", []

        def on_iteration(number, _):
            content = path.read_bytes() if path.exists() else None
            if not changes or changes[-1][1] != content:
                changes.append((number, content))

        fit(
            made_frames(),
            made_start(),
            tolerance=0,
            max_iterations=8,
            checkpoint=Checkpoint(path, every=3),
            on_iteration=on_iteration,
        )
        # Seen one iteration after it was written: after 0, 3 and 6 iterations.
        assert [number for number, _ in changes] == [0, 1, 4, 7]
        assert [entry.name for entry in path.parent.iterdir()] == ["fit.safetensors"]


PROGRAM = """
import sys, time
from speechgmm.em.checkpoint import Checkpoint
from speechgmm.em.fit import fit
from tests.test_em_checkpoint import OPTIONS, made_frames, made_start

def on_iteration(number, _):
    print(number, flush=True)
    time.sleep(float(sys.argv[2]))

frames = made_frames(SHARD_FRAMES)
fit(frames, made_start(lost=(3,)), **OPTIONS, on_iteration=on_iteration, checkpoint=Checkpoint(sys.argv[1], every=1))
print("done", flush=True)
"""
OPTIONS = {"tolerance": 0, "max_iterations": 30, "variance_floor": 1e-2, "reg_covar": 1e-4}


def run_and_kill(path, stop, pause):
    """Run the fit in another process and kill it when it says that it made `stop` iterations; None: let it end."""
    program = PROGRAM.replace("SHARD_FRAMES", str(SHARD + 50))
    root = Path(__file__).parent.parent
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(path), str(pause)],
        stdout=subprocess.PIPE, text=True, cwd=root, env={**os.environ, "PYTHONPATH": str(root)},
    )  # fmt: skip
    said = []
    for line in process.stdout:
        said.append(line.strip())
        if said[-1] == str(stop):
            process.send_signal(signal.SIGKILL)
    process.stdout.close()
    return said, process.wait(60)


def test_a_killed_process_loses_nothing_that_was_written(tmp_path):
    whole = fit(made_frames(SHARD + 50), made_start(lost=(3,)), **OPTIONS)
    assert whole.reseeded and whole.n_iterations == 30
    path = tmp_path / "fit.safetensors"
    for stop, pause in ((6, 0.01), (17, 0.0)):
        said, code = run_and_kill(path, stop, pause)
        assert code == -signal.SIGKILL and "done" not in said
    said, code = run_and_kill(path, None, 0)
    # The first kill came after the fifth iteration was written, the second after the sixteenth at least.
    assert code == 0 and said[-2:] == ["30", "done"] and 16 <= int(said[0]) < 30
    result = fit(made_frames(SHARD + 50), made_start(lost=(3,)), **OPTIONS, checkpoint=Checkpoint(path))
    assert same(result, whole)


class TestOtherFits:
    @pytest.fixture
    def checkpoint(self, tmp_path):
        checkpoint = Checkpoint(tmp_path / "fit.safetensors")
        fit(made_frames(), made_start(), max_iterations=5, tolerance=0, checkpoint=checkpoint)
        return checkpoint

    def refuse(self, checkpoint, match, frames=None, start=None, **options):
        before = Path(checkpoint.path).read_bytes()
        with pytest.raises(InputError, match=match):
            fit(
                made_frames() if frames is None else frames,
                made_start() if start is None else start,
                checkpoint=checkpoint,
                **{"max_iterations": 5, "tolerance": 0, **options},
            )
        assert Path(checkpoint.path).read_bytes() == before

    def test_other_frames(self, checkpoint):
        only_frames = (
            r"fit\.safetensors: this checkpoint belongs to another fit; different are the frames \(give"
        )
        last_bit = made_frames()
        last_bit[-1, -1] = np.nextafter(last_bit[-1, -1], np.inf)
        ones = np.ones(len(last_bit))
        for frames in (
            last_bit,
            made_frames()[:-1],
            made_frames()[::-1],
            made_frames().astype(np.float32),
            ArraySource(made_frames(), ones),
        ):
            self.refuse(checkpoint, only_frames, frames)

    def test_other_weights(self, tmp_path):
        checkpoint, weights = Checkpoint(tmp_path / "weighted"), np.random.default_rng(4).random(700)
        options = {"max_iterations": 2, "tolerance": 0, "checkpoint": checkpoint}
        fit(ArraySource(made_frames(), weights), made_start(), **options)
        with pytest.raises(InputError, match=r"different are the frames \(give another path, or delete"):
            fit(ArraySource(made_frames(), weights[::-1].copy()), made_start(), **options)

    def test_another_start(self, checkpoint):
        only_start = r"different are the start \(give another path"
        start = made_start()
        moved = start.means.copy()
        moved[0, 0] += 1e-12
        self.refuse(checkpoint, only_start, start=Mixture(start.weights, moved, start.covariances))
        self.refuse(checkpoint, only_start, start=Mixture(start.weights, start.means, 2 * start.covariances))
        self.refuse(checkpoint, only_start, start=made_start(n_components=5))
        self.refuse(checkpoint, only_start, start=made_start("spherical"))

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"tolerance": 1e-3}, r"different are `tolerance` \(0.0 there, 0.001 here\) \(give"),
            ({"variance_floor": 0.5}, r"different are `variance_floor` \(0.001 there, 0.5 here\)"),
            (
                {"variance_floor": np.full(3, 1e-3)},
                r"`variance_floor` \(0.001 there, \[0.001, 0.001, 0.001\] here",
            ),
            ({"reg_covar": 1e-6}, r"`reg_covar` \(0.0 there, 1e-06 here\)"),
            ({"reg_covar": 1, "tolerance": 2}, r"`reg_covar` \(0.0 there, 1.0 here\), `tolerance` \(0.0 th"),
        ],
    )
    def test_other_settings(self, checkpoint, options, match):
        self.refuse(checkpoint, match, **options)

    def test_everything_that_differs_is_named(self, checkpoint):
        match = "different are the frames, the start, `reg_covar` "
        self.refuse(checkpoint, match, made_frames(n_features=2), made_start(n_features=2), reg_covar=1)

    def test_a_number_is_what_it_is_worth(self, checkpoint):
        result = fit(
            made_frames(), made_start(), max_iterations=5, tolerance=np.float32(0), reg_covar=0, checkpoint=checkpoint
        )  # fmt: skip
        assert result.n_iterations == 5

    def test_fewer_iterations_cannot_be_had_back(self, checkpoint):
        match = r"was written after 5 iterations; `max_iterations` is only 4 \(give another path, or delete"
        self.refuse(checkpoint, match, max_iterations=4)


class TestDamage:
    @pytest.fixture(scope="class")
    def written(self, tmp_path_factory):
        path = tmp_path_factory.mktemp("whole") / "fit.safetensors"
        checkpoint = Checkpoint(path).open(ArraySource(made_frames(20)), made_start(), {"tolerance": 0.5})
        checkpoint.save(EMState(made_start(), (-2.5, -1.5), (1,)))
        return path.read_bytes()

    def load(self, tmp_path, content):
        path = tmp_path / "fit.safetensors"
        path.write_bytes(content)
        return Checkpoint(path).open(ArraySource(made_frames(20)), made_start(), {"tolerance": 0.5}).load(9)

    def test_what_was_saved_is_loaded(self, tmp_path, written):
        state = self.load(tmp_path, written)
        assert (state.mixture, state.history, state.reseeded) == (made_start(), (-2.5, -1.5), (1,))

    def test_equal_states_are_equal_bytes(self, tmp_path, written):
        again = tmp_path / "again"
        checkpoint = Checkpoint(again).open(ArraySource(made_frames(20)), made_start(), {"tolerance": 0.5})
        for _ in range(2):
            checkpoint.save(EMState(made_start(), (-2.5, -1.5), (1,)))
            assert again.read_bytes() == written

    def test_a_truncated_file(self, tmp_path, written):
        for size in (0, 4, 8, 50, len(written) // 2, len(written) - 1):
            with pytest.raises(
                FormatError, match=r"fit\.safetensors: not a whole safetensors file .*truncated"
            ):
                self.load(tmp_path, written[:size])

    def test_a_truncated_file_stops_a_fit(self, tmp_path, written):
        path = tmp_path / "cut"
        path.write_bytes(written[:-1])
        with pytest.raises(FormatError, match="cut: not a whole safetensors file"):
            fit(made_frames(20), made_start(), checkpoint=Checkpoint(path))

    @given(st.integers(0, 10**6), st.integers(1, 255))
    @settings(max_examples=300, deadline=None, derandomize=True)
    def test_no_changed_byte_goes_unnoticed(self, tmp_path_factory, written, place, change):
        content = bytearray(written)
        content[place % len(content)] ^= change
        try:
            state = self.load(tmp_path_factory.getbasetemp(), bytes(content))
        except FormatError:
            return
        # White space in the header says nothing, so it may change.
        assert (state.mixture, state.history, state.reseeded) == (made_start(), (-2.5, -1.5), (1,))

    @pytest.mark.parametrize("name", ["weights", "means", "covariances", "history", "reseeded", "checksum"])
    def test_every_array_is_vouched_for(self, tmp_path, written, name):
        text = json.loads(written[8 : 8 + int.from_bytes(written[:8], "little")])["__metadata__"]
        tensors = safetensors.numpy.load(written)
        match = "does not agree with its checksum"
        changed = tensors[name].copy()
        changed.view(np.uint8).reshape(-1)[0] ^= 1
        with pytest.raises(FormatError, match=match):
            self.load(tmp_path, safetensors.numpy.save({**tensors, name: changed}, text))
        with pytest.raises(FormatError, match=match):
            self.load(tmp_path, safetensors.numpy.save({**tensors, name: tensors[name][None]}, text))
        without = {other: value for other, value in tensors.items() if other != name}
        with pytest.raises(FormatError, match=match):
            self.load(tmp_path, safetensors.numpy.save(without, text))
        with pytest.raises(FormatError, match=match):
            self.load(tmp_path, safetensors.numpy.save({**tensors, "more": changed}, text))

    @pytest.mark.parametrize(
        ("metadata", "match"),
        [
            (None, r"a safetensors file, but not a speechgmm checkpoint \(`speechgmm` is not JSON"),
            ({"speechgmm": "{"}, "a safetensors file, but not a speechgmm checkpoint"),
            (
                {"speechgmm": "[1]"},
                "field `kind` must be 'speechgmm checkpoint'; this is another kind of file",
            ),
            (
                {"speechgmm": '{"kind": "speechgmm classifier"}'},
                "field `kind` must be 'speechgmm checkpoint'",
            ),
            (
                {"speechgmm": '{"kind": "speechgmm checkpoint", "format": 2}'},
                r"field `format` is 2; this speechgmm reads 1 \(written by a newer speechgmm\?\)",
            ),
            (
                {"speechgmm": '{"kind": "speechgmm checkpoint"}'},
                "field `format` is None; this speechgmm reads 1",
            ),
            (
                {"speechgmm": '{"kind": "speechgmm checkpoint", "format": 1}'},
                "does not agree with its checksum",
            ),
        ],
    )
    def test_other_files(self, tmp_path, metadata, match):
        with pytest.raises(FormatError, match=match):
            self.load(tmp_path, safetensors.numpy.save({"weights": np.ones(2)}, metadata))

    def test_a_file_of_another_kind_is_not_overwritten(self, tmp_path):
        path = tmp_path / "notes.txt"
        path.write_text("not a checkpoint")
        with pytest.raises(FormatError, match=r"notes\.txt: not a whole safetensors file"):
            fit(made_frames(20), made_start(), checkpoint=Checkpoint(path))
        assert path.read_text() == "not a checkpoint"


def test_a_write_that_fails_leaves_the_state_before_it(tmp_path, monkeypatch):
    frames, start, path = made_frames(), made_start(), tmp_path / "fit.safetensors"
    options = {"tolerance": 0, "max_iterations": 10, "checkpoint": Checkpoint(path, every=4)}
    with pytest.raises(Stopped):
        fit(frames, start, **options, on_iteration=stop_at(5))
    before = path.read_bytes()

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("speechgmm.files.os.replace", full_disk)
        with pytest.warns(
            SpeechGMMWarning, match=r"the fit goes on \(.*fit\.safetensors: cannot be written \(No space left"
        ):
            finished = fit(frames, start, **options)
    assert same(finished, fit(frames, start, tolerance=0, max_iterations=10))
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1
    assert same(fit(frames, start, **options), fit(frames, start, tolerance=0, max_iterations=10))


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    with pytest.raises(InputError, match=r"cannot be written \(it is a folder\)"):
        fit(made_frames(), made_start(), checkpoint=Checkpoint(tmp_path), on_iteration=stop_at(0))


@pytest.mark.parametrize("every", [0, -1, 1.5, True, "10"])
def test_every_must_be_a_whole_number(every):
    with pytest.raises(InputError, match=r"checkpoint `every` is .*; it must be a whole number of 1 or more"):
        Checkpoint("fit.safetensors", every)


@pytest.mark.parametrize(
    ("history", "reseeded", "tolerance", "expected"),
    [
        ((), (), 1e-3, False),
        ((-1.0,), (), 1e9, False),
        ((-2.0, -1.0), (), 1.5, True),
        ((-1.0, -2.0), (), 1.5, True),
        ((-2.0, -1.0), (), 1.0, False),
        ((-2.0, -1.0), (1,), 1.5, False),
        ((-3.0, -2.0, -1.0), (1,), 1.5, True),
        ((-1.0, -1.0), (), 0.0, False),
    ],
)
def test_when_a_state_has_converged(history, reseeded, tolerance, expected):
    assert EMState(made_start(), history, reseeded).converged(tolerance) is expected
