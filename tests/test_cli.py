"""The command line as a whole: help, exit codes, pipes, terminals, Ctrl-C. Its commands have files of their own."""

import json
import os
import shutil
import sys
from pathlib import Path
from unittest.mock import patch

import pytest

from tests.cli_tools import (
    COMMAND,
    N_TAKES,
    SPEAKERS,
    make_world,
    plain,
    run,
    run_on_terminal,
    run_process,
    run_until_reader_leaves,
)

COMMANDS = {
    ("manifest", "build"): ("--output", "--label", "--pattern", "--column", "--data-dir", "--no-checksums"),
    ("manifest", "check"): ("--label", "--known", "--model", "--data-dir"),
    ("manifest", "split"): ("--by", "--within", "--test", "--seed", "--output", "--data-dir"),
    ("train",): ("--output", "--label", "--config", "--components", "--seed", "--split", "--data-dir"),
    ("classify",): ("--threshold", "--format", "--p-target", "--c-miss", "--c-fa"),
    ("evaluate",): ("--split", "--threshold", "--json", "--data-dir", "--trials", "--det", "--label"),
    ("ubm",): (
        "--output",
        "--config",
        "--components",
        "--balance",
        "--relevance-factor",
        "--adapt",
        "--store",
    ),
    ("enrol",): ("--label", "--list", "--remove", "--split", "--data-dir"),
    ("calibrate",): ("--folds", "--enrol-utterances", "--method", "--top", "--normalisation", "--top-n"),
    ("verify",): ("--claim", "--p-target", "--c-miss", "--c-fa", "--format"),
    ("trials", "make"): (
        "--enrolment",
        "--enrol-utterances",
        "--apart",
        "--balance",
        "--background",
        "--form",
    ),
    ("trials", "convert"): ("--output", "--form", "--allow-repeats"),
    ("trials", "score"): ("--output", "--split", "--allow-repeats", "--data-dir"),
    ("inspect",): ("--json",),
}
ENDLESS = "[training]\ntolerance = 0.0\nmax_iterations = 1000000000\n"
HEAVY = ("numpy", "joblib", "scipy", "numba", "soundfile", "soxr", "safetensors", "sklearn", "pooch")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


def help_of(*command):
    with patch.dict(os.environ, {"COLUMNS": "200", "TERMINAL_WIDTH": "200"}):
        result = run(*command, "--help")
    assert (result.code, result.err) == (0, "")
    return plain(result.out)


# Help and version


def test_help_names_every_command():
    text = help_of()
    for command, *_ in COMMANDS:
        assert f" {command} " in text
    assert "Gaussian mixture models" in text
    assert all(f" {command[1]} " in help_of(command[0]) for command in COMMANDS if len(command) == 2)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_of_a_command_names_its_options(command):
    text = help_of(*command)
    assert f"Usage: speechgmm {' '.join(command)} " in text
    missing = [option for option in (*COMMANDS[command], "--help") if option not in text]
    assert missing == []


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (("manifest", "check"), "Folder that audio paths start from [default: the manifest's]."),
        (("train",), "TOML file with [features] and [training] settings."),
        (("train",), "Gaussians a class [default: 32]."),
        (("train",), "The same seed gives the same bits [default: 0]."),
    ],
)
def test_help_keeps_text_in_brackets(command, text):
    assert text in help_of(*command)


def test_help_shows_a_pattern_in_full():
    assert "'{word}_{speaker}_{take}.wav'" in help_of("manifest", "build")


@pytest.mark.parametrize("command", [(), ("train",), ("manifest", "build")])
def test_help_has_a_short_form(command):
    assert run(*command, "-h") == run(*command, "--help")


def test_version():
    from speechgmm import __version__

    assert run("--version") == run_process("--version")
    result = run("--version")
    assert (result.code, result.out, result.err) == (0, f"speechgmm {__version__}\n", "")


def test_the_console_script_is_the_same_program():
    script = Path(sys.executable).with_name("speechgmm")
    if not script.exists():
        pytest.skip("the console script is not installed beside this Python: pip install -e .")
    assert run_process("--version", command=[script]) == run("--version")


def test_help_loads_nothing_heavy():
    code = (
        "import sys\nfrom speechgmm.cli import main\nsys.argv = ['speechgmm', '--help']\n"
        f"try:\n    main()\nfinally:\n    print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    result = run_process("-c", code, command=[sys.executable])
    assert result.code == 0
    assert result.lines[-1] == "[]"


# Wrong usage


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nonsense",), "No such command 'nonsense'"),
        (("manifest", "nonsense"), "No such command 'nonsense'"),
        (("--nonsense",), "No such option: --nonsense"),
        (("train", "m.jsonl"), "Missing option '--output' / '-o'"),
        (("train", "-o", "m.model"), "Missing argument"),
        (("manifest", "split", "m.jsonl", "-o", "s.jsonl"), "Missing option '--by'"),
        (("classify", "m.model"), "Missing argument"),
        (
            ("classify", "m.model", "a.wav", "--format", "xml"),
            "'xml' is not one of 'auto', 'table', 'tsv', 'jsonl'",
        ),
        (("classify", "m.model", "a.wav", "--threshold", "high"), "Invalid value for '--threshold'"),
        (
            ("train", "m.jsonl", "-o", "m.model", "--components", "many"),
            "Invalid value for '--components' / '-k'",
        ),
        (
            ("manifest", "split", "m.jsonl", "--by", "a", "-o", "b", "--seed", "-1"),
            "Invalid value for '--seed'",
        ),
        (("inspect", "a.model", "b.model"), "Got unexpected extra argument"),
    ],
)
def test_wrong_usage_is_said_on_standard_error(arguments, message):
    result = run(*arguments)
    assert (result.code, result.out) == (2, "")
    assert message in plain(result.err)
    assert "Usage: speechgmm" in plain(result.err)


@pytest.mark.parametrize("arguments", [(), ("manifest",)])
def test_no_command_at_all_shows_the_help(arguments):
    result = run(*arguments)
    assert result.code == 2
    assert "--help" in result.out + result.err


def test_exit_codes_reach_the_shell(world, tmp_path):
    missing = tmp_path / "none.model"
    assert run_process("inspect", missing) == run("inspect", missing)
    result = run_process("classify", world.model, world.corpus / "ann", tmp_path / "none.wav", "-j", 1)
    assert (result.code, len(result.rows), len(result.problems)) == (1, 1 + N_TAKES, 1)


# Pipes and terminals


def test_a_pipe_gets_tsv_and_no_progress(world):
    result = run_process("classify", world.model, world.corpus)
    assert (result.code, result.err) == (0, "")
    assert {len(row) for row in result.rows} == {9}
    assert len(result.rows) == 1 + N_TAKES * len(SPEAKERS)
    assert "\x1b" not in result.out


def test_a_terminal_gets_a_table(world):
    result = run_on_terminal("classify", world.model, world.corpus / "bob", columns=200)
    assert result.code == 0
    drawn = plain(result.err)
    assert "file label posterior runner_up margin llr" in drawn
    assert drawn.count(" bob ") == N_TAKES
    assert "\t" not in result.err


def test_a_narrow_terminal_loses_nothing_of_a_file_name(world):
    result = run_on_terminal("classify", world.model, world.corpus / "bob", columns=80)
    table = [line for line in result.err.splitlines() if line.startswith("│")]
    names = "".join(line.split("│")[1].strip() for line in table)
    assert max(map(len, table)) <= 80
    assert "".join(str(world.corpus / "bob" / "s2" / "take 5.wav").split()) in names.replace(" ", "")


def test_progress_is_drawn_on_a_terminal_beside_a_clean_pipe(world, tmp_path):
    result = run_on_terminal("classify", world.model, world.corpus, "-j", 1, pipe_output=True)
    assert result.code == 0
    assert {len(line.split("\t")) for line in result.lines} == {9}
    assert "\x1b" not in result.out
    total = N_TAKES * len(SPEAKERS)
    for stage in ("features", "scores"):
        assert stage in plain(result.err)
    assert f"{total}/{total}" in plain(result.err)
    assert result.err.rstrip().endswith("\x1b[2K")  # the bars are wiped in the end
    trained = run_on_terminal("train", world.manifest, "-o", tmp_path / "m", "-k", 2, pipe_output=True)
    assert f"{len(SPEAKERS) + 1}/{len(SPEAKERS) + 1}" in plain(trained.err)


def test_warnings_are_one_line_each_on_standard_error(world, tmp_path):
    result = run_process("train", world.manifest, "-o", tmp_path / "m", "-k", 40, "-j", 1)
    assert result.code == 0
    (warning,) = result.err.splitlines()
    assert warning.startswith("warning: 4 of 4 classes have too few frames for 40 components")
    assert "warning:" not in result.out


@pytest.mark.parametrize("n_lines", [0, 1])
def test_a_reader_that_leaves_sees_no_traceback(world, n_lines):
    # Far more rows than a pipe holds, so that the writer is still writing when the reader has gone.
    result = run_until_reader_leaves("classify", world.model, *crowd(world), "-j", 1, n_lines=n_lines)
    assert result.code != 0
    assert result.err == ""


def test_a_reader_that_leaves_is_not_a_failed_file(world):
    assert run_until_reader_leaves("inspect", world.model).code not in (0, 1, 2)


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("inspect",)])
def test_a_reader_that_never_reads_sees_no_traceback(world, arguments):
    arguments = (*arguments, world.model) if arguments == ("inspect",) else arguments
    assert run_until_reader_leaves(*arguments).err == ""


def crowd(world):
    """Thousands of names of few files: the corpus through links, made once."""
    folder = world.model.parent / "crowd"
    if not folder.exists():
        folder.mkdir()
        for number in range(30):
            (folder / f"a link with a long name, number {number:03}").symlink_to(world.corpus)
    return [folder]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_one_line(world):
    shell = ["sh", "-c", '"$@" > /dev/full', "sh", *COMMAND]
    result = run_process("inspect", world.model, command=shell)
    assert result.code == 2
    assert result.err.startswith("speechgmm: ")
    assert "No space left on device" in result.err
    assert len(result.err.splitlines()) == 1


@pytest.mark.parametrize("format", ["tsv", "table"])
def test_names_that_the_output_cannot_encode_do_not_stop_it(world, format):
    arguments = ("classify", world.model, world.corpus / "dé f", "--format", format)
    result = run_process(*arguments, PYTHONIOENCODING="ascii")
    assert (result.code, result.err) == (0, "")
    assert "d\\xe9 f" in result.out


# Ctrl-C


def test_ctrl_c_while_training_leaves_nothing(world, tmp_path):
    (tmp_path / "endless.toml").write_text(ENDLESS)
    everything = N_TAKES * len(SPEAKERS)
    result = run_on_terminal(
        *("train", world.manifest, "-o", tmp_path / "out" / "m.model"),
        *("--config", tmp_path / "endless.toml", "-k", 8, "-j", 2),
        pipe_output=True,
        interrupt_at=f"{everything}/{everything}",
    )
    assert result.code == 130
    assert "Traceback" not in result.err
    assert result.out == ""
    assert not list(tmp_path.glob("out/*"))
    assert result.err.rstrip().endswith("\x1b[2K")  # the cursor is back and the bars are gone
    assert "\x1b[?25h" in result.err


@pytest.mark.parametrize("place", ["speechgmm.trainer.train", "speechgmm.files.os.replace"])
def test_ctrl_c_keeps_the_model_there_was(world, tmp_path, place):
    model = tmp_path / "m.model"
    model.write_text("the old one")
    with patch(place, side_effect=KeyboardInterrupt):
        result = run("train", world.manifest, "-o", model, "-k", 1, "-j", 1)
    assert result.code == 130
    assert "Traceback" not in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["m.model"]
    assert model.read_text() == "the old one"


# Inputs that are not what they should be


def model_files(world, folder):
    whole = world.model.read_bytes()
    contents = {
        "cut short": whole[: len(whole) // 2],
        "empty": b"",
        "text": b"this is no model",
        "changed": whole.replace(b'\\"kind\\"', b'\\"kine\\"'),
        "audio": next(world.corpus.glob("ann/*/*.wav")).read_bytes(),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [folder / "not there", folder, *(folder / name for name in contents)]


@pytest.mark.parametrize("command", ["classify", "evaluate", "inspect", "check"])
def test_a_missing_or_damaged_model_is_one_line(world, tmp_path, command):
    for path in model_files(world, tmp_path):
        rest = {"classify": [world.corpus], "evaluate": [world.manifest]}.get(command, [])
        arguments = [command, path, *rest]
        if command == "check":
            arguments = ["manifest", "check", world.manifest, "--model", path]
        result = run(*arguments)
        assert (result.code, result.out) == (2, "")
        (line,) = result.err.splitlines()
        assert line.startswith(f"speechgmm: {path}: ")


@pytest.mark.parametrize("command", ["train", "evaluate", "check", "split"])
def test_a_manifest_that_is_not_there_or_none_is_named(world, tmp_path, command):
    (tmp_path / "empty").write_text("")
    (tmp_path / "text").write_text("this is no manifest")
    (tmp_path / "table").write_text("path,speaker\na.wav,ann\n")
    for name in ("not there", "empty", "text", "table", "."):
        path = tmp_path / name
        arguments = {
            "train": ["train", path, "-o", tmp_path / "out"],
            "evaluate": ["evaluate", world.model, path],
            "check": ["manifest", "check", path],
            "split": ["manifest", "split", path, "--by", "speaker", "-o", tmp_path / "out"],
        }[command]
        result = run(*arguments)
        assert (result.code, result.out) == (2, "")
        assert result.err.startswith(f"speechgmm: {path}: ")
        assert not (tmp_path / "out").exists()


def test_a_manifest_that_names_a_file_elsewhere_is_refused(world, tmp_path):
    outside = tmp_path / "outside.wav"
    shutil.copy(next(world.corpus.glob("ann/*/*.wav")), outside)
    folder = tmp_path / "folder"
    folder.mkdir()
    rows = [{"id": "climbs", "audio": "../outside.wav"}, {"id": "absolute", "audio": str(outside)}]
    text = "".join(json.dumps({**row, "labels": {"speaker": "ann"}}) + "\n" for row in rows)
    (folder / "m.jsonl").write_text(text)
    for arguments in (
        ["manifest", "check", folder / "m.jsonl"],
        ["train", folder / "m.jsonl", "-o", folder / "out"],
        ["evaluate", world.model, folder / "m.jsonl"],
    ):
        result = run(*arguments)
        assert (result.code, result.out) == (2, "")
        assert result.err.startswith(f"speechgmm: {folder / 'm.jsonl'}: line 1: ")
        assert result.err.count("leads out of the data folder") == 2
        assert "--data-dir" in result.err
        assert not (folder / "out").exists()
