"""What the tests of the command line share: a small corpus, and ways to run commands as people do."""

import json
import os
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import time
import warnings
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import soundfile

from speechgmm.cli import main
from speechgmm.manifest import write_manifest
from speechgmm.manifest_build import from_pattern
from speechgmm.manifest_check import describe
from speechgmm.manifest_split import split
from speechgmm.settings import TrainingSettings
from speechgmm.trainer import train

ROOT = Path(__file__).parents[1]
COMMAND = [sys.executable, "-m", "speechgmm.cli"]
# Pitches (Hz) far apart, so that any sound model tells them apart; names with what breaks careless programs.
PITCHES = {"[red]cat": 260, "ann": 110, "bob": 170, "dé f": 390}
SPEAKERS = sorted(PITCHES)
N_TAKES = 6
SECONDS = 0.6
# A guard against hanging tests, not a limit on speed.
PATIENCE = 120


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def lines(self):
        return self.out.splitlines()

    @property
    def rows(self):
        """Standard output as TSV, the header included."""
        return [line.split("\t") for line in self.lines]

    @property
    def problems(self):
        return [line for line in self.err.splitlines() if line.startswith("problem: ")]


@dataclass(frozen=True)
class World:
    """A corpus, its manifest with sides "train" and "test", and a model of the training side."""

    corpus: Path
    manifest: Path
    model: Path


def tone(path, pitch, seconds=SECONDS, sample_rate=8000, seed=0):
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    partials = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 6))
    samples = 0.1 * partials + 0.01 * rng.standard_normal(time.size)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples.astype(np.float32), sample_rate)


def make_world(folder):
    corpus = folder / "my corpus"
    for number, (speaker, pitch) in enumerate(PITCHES.items()):
        for take in range(N_TAKES):
            path = corpus / speaker / f"s{take // 2}" / f"take {take}.wav"
            tone(path, pitch * (1 + 0.01 * take), seed=10 * number + take)
    utterances, _ = describe(from_pattern(corpus, "{speaker}/{session}/take {take}.wav"))
    utterances = split(utterances, "session", {"train": 2 / 3, "test": 1 / 3}, within="speaker")
    write_manifest(utterances, folder / "all.jsonl")
    training = [utterance for utterance in utterances if utterance.split == "train"]
    train(training, settings=TrainingSettings(n_components=4)).model.save(folder / "speakers.model")
    return World(corpus, folder / "all.jsonl", folder / "speakers.model")


def damaged(world, folder, *paths):
    """A copy of the world's corpus and manifest in which some audio files are text."""
    shutil.copytree(world.corpus, folder / world.corpus.name)
    shutil.copy(world.manifest, folder)
    for path in paths:
        (folder / world.corpus.name / path).write_text("this is not audio")
    return World(folder / world.corpus.name, folder / world.manifest.name, world.model)


def run(*arguments):
    """Run a command in this process, as in a pipe."""
    out, err = StringIO(), StringIO()
    with (
        patch.object(sys, "argv", ["speechgmm", *map(str, arguments)]),
        warnings.catch_warnings(),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        warnings.simplefilter("always")
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
    return Outcome(code, out.getvalue(), err.getvalue())


def environment(**changes):
    """For a process of its own: finds the package, and nothing forces colours or a width on it."""
    kept = {k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "GITHUB_ACTIONS", "COLUMNS")}
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**kept, "PYTHONPATH": path, **changes}


def run_process(*arguments, command=COMMAND, **changes):
    """Run a command in a process of its own, as in a pipe; `changes` are of the environment."""
    done = subprocess.run(
        [*command, *map(str, arguments)],
        capture_output=True,
        check=False,
        timeout=PATIENCE,
        env=environment(**changes),
    )
    return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())


def run_until_reader_leaves(*arguments, command=COMMAND, n_lines=0):
    """Run a command whose reader takes some lines and goes, as `| head` does."""
    process = subprocess.Popen(
        [*command, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    lines = [process.stdout.readline().decode() for _ in range(n_lines)]
    process.stdout.close()
    err = process.stderr.read().decode()
    process.stderr.close()
    return Outcome(process.wait(PATIENCE), "".join(lines), err)


@contextmanager
def interruptible():
    """Processes started inside heed Ctrl-C, also where this one was started in the background and does not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def run_on_terminal(*arguments, columns=80, pipe_output=False, interrupt_at=None):
    """Run a command on a terminal; `out` is what the pipe got, `err` what was drawn on the terminal.

    With `interrupt_at`, Ctrl-C is pressed soon after that text was drawn.
    """
    fcntl, pty, termios = (pytest.importorskip(name) for name in ("fcntl", "pty", "termios"))
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with interruptible():
        process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if pipe_output else slave,
            stderr=slave,
            env=environment(TERM="xterm-256color"),
        )
    os.close(slave)
    try:
        drawn = _drawn(master, process, interrupt_at)
        out = process.stdout.read().decode() if pipe_output else ""
        return Outcome(process.wait(PATIENCE), out, drawn)
    finally:
        process.kill()
        process.wait()
        os.close(master)
        if pipe_output:
            process.stdout.close()


def _drawn(master, process, interrupt_at):
    drawn = b""
    give_up = time.monotonic() + PATIENCE
    while time.monotonic() < give_up:
        if not select.select([master], [], [], 0.5)[0]:
            continue
        try:
            piece = os.read(master, 65536)
        except OSError:  # how Linux says that nobody holds the other end any more
            break
        if not piece:
            break
        drawn += piece
        if interrupt_at is not None and interrupt_at.encode() in drawn:
            interrupt_at = None
            time.sleep(0.5)  # into the work that the bar announces
            process.send_signal(signal.SIGINT)
    return drawn.decode()


def plain(text):
    """Without colours, boxes and line breaks: what a reader takes in."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    return " ".join(re.sub(r"[\u2500-\u257f]", " ", text).split())


def table_rows(text):
    """The cells of a drawn table, without its header."""
    return [[cell.strip() for cell in line[1:-1].split("│")] for line in text.splitlines() if "│" in line]


def strict_json(text):
    """JSON as its standard has it, without NaN and Infinity."""

    def refuse(name):
        raise ValueError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


# Verification: people of the background, people who are enrolled, and somebody whom no list names.
BACKGROUND = [f"b{number}" for number in range(9)]
ENROLLED = ["[red]cat", "ann", "dé f"]
STRANGER = "eve"
N_ENROL = 3


def whisper(path, speaker, take):
    """Noise through a filter of the speaker's, which differs a little from take to take.

    Unlike tones, whispers of two people have much in common, and scores behave like those of speech.
    """
    own, now = (np.random.default_rng([*map(ord, speaker), *more]) for more in ([], [take]))
    taps = np.array([1.0, *own.normal(0, 0.4, 8)]) + now.normal(0, 0.1, 9)
    samples = 0.05 * np.convolve(now.standard_normal(round(SECONDS * 8000)), taps, "same")
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples.astype(np.float32), 8000)


@dataclass(frozen=True)
class Voices:
    """A corpus with its manifests and trials, and the speaker store from start to end."""

    folder: Path

    def __getattr__(self, name):
        return self.folder / {
            "corpus": "my corpus",
            "background": "background.jsonl",
            "people": "people.jsonl",
            "enrolment": "enrolment.jsonl",
            "trials": "trials.tsv",
            "empty": "empty.store",  # a background model
            "plain": "plain.store",  # and three speakers
            "ready": "ready.store",  # and a calibration
        }.get(name, name)

    def files(self, speaker):
        return sorted((self.corpus / speaker).glob("*.wav"))


def make_voices(folder):
    """All of it, made by the commands themselves."""
    voices = Voices(folder)
    for speaker in (*BACKGROUND, *ENROLLED, STRANGER):
        for take in range(N_TAKES):
            whisper(voices.corpus / speaker / f"take {take}.wav", speaker, take)
    utterances, _ = describe(from_pattern(voices.corpus, "{speaker}/take {take}.wav"))
    groups = {"background": BACKGROUND, "people": [*ENROLLED, STRANGER], "known": ENROLLED}
    for name, speakers in groups.items():
        chosen = [one for one in utterances if one.labels["speaker"] in speakers]
        write_manifest(chosen, folder / f"{name}.jsonl")
    done(
        "trials", "make", folder / "known.jsonl", "-o", voices.trials, "--enrolment", voices.enrolment,
        "--enrol-utterances", N_ENROL, "--background", voices.background,
    )  # fmt: skip
    done("ubm", voices.background, "-o", voices.empty, "-k", 4)
    for name in ("plain", "ready"):
        shutil.copy(voices.empty, getattr(voices, name))
    done("calibrate", voices.ready, voices.background)
    for name in ("plain", "ready"):
        done("enrol", getattr(voices, name), voices.enrolment)
    return voices


def done(*arguments):
    """Run a command that must succeed."""
    result = run(*arguments)
    assert result.code == 0, result.err
    return result


def without_warnings(text):
    """Standard error, but for the warnings."""
    return [line for line in text.splitlines() if not line.startswith("warning: ")]
