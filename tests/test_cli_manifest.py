"""`speechgmm manifest build`, `check` and `split`."""

import hashlib
import json
import shutil

import pytest

from speechgmm.errors import InputError
from speechgmm.manifest import fingerprint, read_manifest, select
from tests.cli_tools import N_TAKES, SECONDS, SPEAKERS, damaged, make_world, run

N_FILES = N_TAKES * len(SPEAKERS)
SUMMARY = f"{N_FILES} utterances, {N_FILES * SECONDS:.1f} seconds\n"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def copied(world, tmp_path):
    """A corpus and manifest that a test may spoil."""
    return damaged(world, tmp_path)


def rows_of(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


# build


def test_build_from_folders(world, tmp_path):
    out = tmp_path / "m.jsonl"
    result = run("manifest", "build", world.corpus, "-o", out, "--data-dir", world.corpus, "-j", 1)
    assert (result.code, result.err) == (0, "")
    assert result.out == f"{out}: {SUMMARY}"
    rows = rows_of(out)
    assert [row["audio"] for row in rows] == sorted(row["audio"] for row in rows)
    for row in rows:
        speaker, session, name = row["audio"].split("/")
        assert row["labels"] == {"speaker": speaker}
        assert row["id"] == f"{speaker}/{session}/{name.removesuffix('.wav')}"
        assert row["duration"] == SECONDS
        assert row["sha256"] == hashlib.sha256((world.corpus / row["audio"]).read_bytes()).hexdigest()
    assert {row["labels"]["speaker"] for row in rows} == set(SPEAKERS)


def test_build_puts_the_manifest_beside_the_audio_unless_told_otherwise(copied):
    assert run("manifest", "build", copied.corpus, "-o", copied.corpus / "m.jsonl").code == 0
    assert run("manifest", "check", copied.corpus / "m.jsonl").code == 0
    elsewhere = copied.corpus.parent / "lists" / "m.jsonl"
    result = run("manifest", "build", copied.corpus, "-o", elsewhere)
    assert (result.code, result.out) == (2, "")
    assert "name the folder that holds the audio with --data-dir" in result.err
    assert not elsewhere.exists()


def test_build_names_the_label_and_leaves_checksums_out_when_asked(copied):
    out = copied.corpus / "m.jsonl"
    assert run("manifest", "build", copied.corpus, "-o", out, "--label", "word", "--no-checksums").code == 0
    assert {name for row in rows_of(out) for name in row} == {"id", "audio", "labels", "duration"}
    assert {row["labels"]["word"] for row in rows_of(out)} == set(SPEAKERS)


def test_build_from_a_pattern(copied):
    out = copied.corpus / "m.jsonl"
    pattern = "{speaker}/{session}/take {take}.wav"
    result = run("manifest", "build", copied.corpus, "-o", out, "--pattern", pattern)
    assert (result.code, result.out, result.err) == (0, f"{out}: {SUMMARY}", "")
    labels = [tuple(row["labels"].values()) for row in rows_of(out)]
    assert set(labels) == {(f"s{take // 2}", name, str(take)) for name in SPEAKERS for take in range(N_TAKES)}


def test_build_says_in_one_warning_what_does_not_fit_a_pattern(copied):
    out = copied.corpus / "m.jsonl"
    result = run("manifest", "build", copied.corpus, "-o", out, "--pattern", "{speaker}/s0/take {take}.wav")
    assert result.code == 0
    (line,) = result.err.splitlines()
    assert line.startswith("warning: ")
    assert "16 of 24 audio files do not fit" in line
    assert result.out == f"{out}: 8 utterances, 4.8 seconds\n"


@pytest.mark.parametrize(("name", "delimiter"), [("t.csv", ","), ("t.csv", ";"), ("t.tsv", "\t")])
def test_build_from_a_table(copied, name, delimiter):
    cells = [("path", "speaker", "end", "split"), ("ann/s0/take 0.wav", "Ann, A.", "0.25", "train")]
    cells += [("dé f/s0/take 1.wav", "dé f", "", "test")]
    table = copied.corpus / name
    quoted = [delimiter.join(f'"{cell}"' for cell in row) for row in cells]
    table.write_text("\n".join(quoted) + "\n", "utf-8")
    result = run("manifest", "build", table, "-o", copied.corpus / "m.jsonl")
    assert (result.code, result.err) == (0, "")
    assert result.out == f"{copied.corpus / 'm.jsonl'}: 2 utterances, 0.8 seconds\n"
    first, second = rows_of(copied.corpus / "m.jsonl")
    assert (first["labels"], first["end"], first["split"]) == ({"speaker": "Ann, A."}, 0.25, "train")
    assert (second["audio"], second["duration"]) == ("dé f/s0/take 1.wav", SECONDS)


def test_build_renames_columns_and_takes_audio_from_the_data_folder(copied):
    table = copied.corpus.parent / "lists" / "t.tsv"
    table.parent.mkdir()
    table.write_text("clip\tclient=id\nann/s0/take 0.wav\tann\n")
    result = run(
        *("manifest", "build", table, "-o", table.parent / "m.jsonl", "--data-dir", copied.corpus),
        *("--column", "audio=clip", "--column", "speaker=client=id"),
    )
    assert (result.code, result.err) == (0, "")
    (row,) = rows_of(table.parent / "m.jsonl")
    assert (row["audio"], row["labels"]) == ("ann/s0/take 0.wav", {"speaker": "ann"})


def test_build_lists_bad_files_at_the_end_and_does_the_others(world, tmp_path):
    bad = damaged(world, tmp_path, "ann/s0/take 0.wav", "[red]cat/s1/take 2.wav")
    out = bad.corpus / "m.jsonl"
    result = run("manifest", "build", bad.corpus, "-o", out)
    assert result.code == 1
    assert result.out.startswith(f"{out}: {N_FILES - 2} utterances")
    assert len(rows_of(out)) == N_FILES - 2
    first, second, last = result.err.splitlines()
    assert first.startswith("problem: utterance '[red]cat/s1/take 2': ")
    assert second.startswith("problem: utterance 'ann/s0/take 0': ")
    assert last == "2 problems; everything else is done"


def test_build_of_nothing_usable_writes_nothing(world, tmp_path):
    bad = damaged(world, tmp_path)
    for path in bad.corpus.rglob("*.wav"):
        path.write_bytes(b"")
    result = run("manifest", "build", bad.corpus, "-o", bad.corpus / "m.jsonl")
    assert (result.code, result.out) == (2, "")
    *problems, last = result.err.splitlines()
    assert len(problems) == N_FILES and all(line.startswith("problem: utterance '") for line in problems)
    assert last == f"{N_FILES} problems; no file can be used"
    assert not (bad.corpus / "m.jsonl").exists()


def test_build_refuses_what_it_cannot_use(copied):
    (copied.corpus.parent / "empty").mkdir()
    (copied.corpus / "t.csv").write_text("path,speaker\n../outside.wav,ann\n")
    cases = [
        ((copied.corpus.parent / "empty",), "no audio in folders below it"),
        ((copied.corpus.parent / "none",), "no such folder"),
        ((copied.corpus, "--pattern", "{speaker}.wav"), "no audio file fits the pattern"),
        ((copied.corpus, "--pattern", "{speaker"), "has a brace without its partner"),
        ((copied.corpus / "t.csv", "--column", "audio"), "each must be OUR_NAME=THEIRS"),
        ((copied.corpus / "t.csv", "--column", "a=b", "--column", "a=c"), "and no name twice"),
        ((copied.corpus / "t.csv", "--column", "audio=clip"), "no column 'clip'"),
        ((copied.corpus / "t.csv",), "line 2: `audio` '../outside.wav' leads out of the data folder"),
        ((copied.corpus, "--data-dir", copied.corpus.parent / "none"), "no such folder"),
        ((copied.corpus, "--jobs", "0"), "`n_jobs` is 0"),
    ]
    for arguments, message in cases:
        result = run("manifest", "build", *arguments, "-o", copied.corpus / "m.jsonl")
        assert (result.code, result.out) == (2, "")
        assert result.err.startswith("speechgmm: ")
        assert message in result.err
        assert not (copied.corpus / "m.jsonl").exists()


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (".", ("--column", "audio=clip"), "--column"),
        ("t.csv", ("--pattern", "{speaker}/*/*.wav"), "--pattern"),
    ],
)
def test_build_refuses_options_that_do_not_apply(copied, source, options, message):
    (copied.corpus / "t.csv").write_text("path,speaker\nann/s0/take 0.wav,ann\n")
    result = run("manifest", "build", copied.corpus / source, *options, "-o", copied.corpus / "m.jsonl")
    assert result.code == 2
    assert message in result.err


# check


def test_check_of_a_good_manifest(world):
    options = ["--label", "speaker", *(word for name in SPEAKERS for word in ("--known", name))]
    result = run("manifest", "check", world.manifest, *options)
    assert (result.code, result.err) == (0, "")
    first, second = result.lines
    assert first == f"{world.manifest}: {N_FILES} utterances, 0 problems"
    assert second == f"fingerprint {fingerprint(read_manifest(world.manifest))}"


def test_check_lists_everything_at_once(copied):
    rows = rows_of(copied.manifest)
    rows[0]["audio"] = "not there.wav"
    rows[1]["sha256"] = "0" * 64
    rows[3]["id"] = rows[2]["id"]
    rows[4]["labels"]["speaker"] = "nobody"
    del rows[5]["labels"]["speaker"]
    rows[6]["end"] = 9.5
    (copied.corpus / "ann" / "s0" / "take 1.wav").write_text("this is not audio")
    write_rows(copied.manifest, rows)
    options = ["--label", "speaker", *(word for name in SPEAKERS for word in ("--known", name))]
    result = run("manifest", "check", copied.manifest, *options)
    assert result.code == 1
    assert result.lines[0] == f"{copied.manifest}: {N_FILES} utterances, 7 problems"
    expected = [
        (0, "not there.wav: cannot be opened"),
        (1, f"the manifest says {'0' * 64}"),
        (3, "has the same id as number 3"),
        (4, "speaker 'nobody' is not one of the 4 known"),
        (5, "no label 'speaker'"),
        (6, "0 s to 9.5 s is outside of"),
        (7, "cannot be read as audio"),
    ]
    assert len(result.problems) == len(expected)
    for (index, message), problem in zip(expected, result.problems, strict=True):
        assert problem.startswith(f"problem: utterance {rows[index]['id']!r}: ")
        assert message in problem


def test_check_takes_known_labels_from_a_model(world, copied):
    rows = rows_of(copied.manifest)
    rows[0]["labels"]["speaker"] = "nobody"
    write_rows(copied.manifest, rows)
    result = run("manifest", "check", copied.manifest, "--model", world.model)
    assert result.code == 1
    (problem,) = result.problems
    assert "speaker 'nobody' is not one of the 4 known: '[red]cat', 'ann', 'bob', 'dé f'" in problem


def test_check_finds_the_audio_in_the_data_folder(world, tmp_path):
    moved = shutil.copy(world.manifest, tmp_path)
    assert run("manifest", "check", moved, "--data-dir", world.corpus.parent).code == 0
    result = run("manifest", "check", moved)
    assert (result.code, len(result.problems)) == (1, N_FILES)


def test_check_names_the_data_folder_that_is_not_there(world, tmp_path):
    result = run("manifest", "check", world.manifest, "--data-dir", tmp_path / "none")
    assert (result.code, result.out) == (2, "")
    assert result.err == f"speechgmm: data folder {str(tmp_path / 'none')!r}: no such folder\n"


def test_check_says_which_option_is_missing(world):
    result = run("manifest", "check", world.manifest, "--known", "ann")
    assert result.code == 2
    assert "--label" in result.err


def test_check_refuses_known_labels_of_no_label(world):
    result = run("manifest", "check", world.manifest, "--known", "ann")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("speechgmm: ")
    assert "label" in result.err


@pytest.mark.parametrize("options", [("--label", "session"), ("--known", "nobody")])
def test_check_refuses_a_model_beside_labels(world, options):
    assert run("manifest", "check", world.manifest, "--model", world.model, *options).code == 2


def test_check_does_not_say_that_everything_else_is_done(copied):
    (copied.corpus / "ann" / "s0" / "take 1.wav").unlink()
    result = run("manifest", "check", copied.manifest)
    assert result.code == 1
    assert "everything else is done" not in result.err


def test_one_is_singular(copied):
    write_rows(copied.manifest, rows_of(copied.manifest)[:1])
    shutil.rmtree(copied.corpus)
    result = run("manifest", "check", copied.manifest)
    assert result.lines[0] == f"{copied.manifest}: 1 utterance, 1 problem"
    assert "1 problems" not in result.err


# split


@pytest.mark.parametrize("seed", [0, 1])
def test_split_by_speaker_shares_no_speaker(copied, seed):
    out = copied.manifest.parent / "s.jsonl"
    result = run("manifest", "split", copied.manifest, "--by", "speaker", "-o", out, "--seed", seed)
    assert (result.code, result.err) == (0, "")
    assert result.out == f"{out}: {N_FILES - N_TAKES} train, {N_TAKES} test\n"
    sides = [{u.label("speaker") for u in select(read_manifest(out), side)} for side in ("train", "test")]
    assert not sides[0] & sides[1]
    assert sides[0] | sides[1] == set(SPEAKERS)


def test_split_by_session_within_speaker_has_every_speaker_on_both_sides(copied):
    out = copied.manifest.parent / "s.jsonl"
    options = ("--by", "session", "--within", "speaker", "--test", "0.33", "-o", out)
    result = run("manifest", "split", copied.manifest, *options)
    assert (result.code, result.err) == (0, "")
    assert result.out == f"{out}: 16 train, 8 test\n"
    train, test = (select(read_manifest(out), side) for side in ("train", "test"))
    assert {u.label("speaker") for u in train} == {u.label("speaker") for u in test} == set(SPEAKERS)
    sessions = [{(u.label("speaker"), u.label("session")) for u in side} for side in (train, test)]
    assert not sessions[0] & sessions[1]


def test_split_by_id_takes_single_utterances(copied):
    out = copied.manifest.parent / "s.jsonl"
    options = ("--by", "id", "--within", "speaker", "--test", "0.5", "-o", out)
    result = run("manifest", "split", copied.manifest, *options)
    assert (result.code, result.out, result.err) == (0, f"{out}: 12 train, 12 test\n", "")
    for side in ("train", "test"):
        counts = [u.label("speaker") for u in select(read_manifest(out), side)]
        assert {counts.count(speaker) for speaker in SPEAKERS} == {N_TAKES // 2}


def test_split_depends_on_the_seed_alone_and_may_replace_its_input(copied):
    def split(*options):
        run("manifest", "split", copied.manifest, "--by", "speaker", "-o", copied.manifest, *options)
        return copied.manifest.read_bytes()

    assert split() == split("--seed", "0")
    # Four speakers: ten seeds that all choose the same one would be a seed without effect.
    assert len({split("--seed", seed) for seed in range(10)}) > 1


def test_split_keeps_all_else(copied):
    out = copied.manifest.parent / "s.jsonl"
    run("manifest", "split", copied.manifest, "--by", "speaker", "-o", out)
    before, after = rows_of(copied.manifest), rows_of(out)
    assert [{**row, "split": ""} for row in after] == [{**row, "split": ""} for row in before]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--by", "mood"), "has no label 'mood'; it has 'session', 'speaker', 'take'"),
        (("--by", "speaker", "--within", "mood"), "has no label 'mood'"),
        (("--by", "speaker", "--test", "0"), "--test is 0; it must lie between 0 and 1"),
        (("--by", "speaker", "--test", "1.5"), "--test is 1.5; it must lie between 0 and 1"),
        (("--by", "speaker", "--test", "nan"), "--test is nan; it must lie between 0 and 1"),
        (("--by", "speaker", "--within", "take"), "nothing is left for"),
    ],
)
def test_split_refuses_what_cannot_be(copied, options, message):
    before = copied.manifest.read_bytes()
    if "take" in options:
        write_rows(copied.manifest, rows_of(copied.manifest)[:1])
        before = copied.manifest.read_bytes()
    result = run("manifest", "split", copied.manifest, *options, "-o", copied.manifest)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("speechgmm: ")
    assert message in result.err
    assert copied.manifest.read_bytes() == before


def test_split_names_the_option_that_is_out_of_range(copied):
    result = run("manifest", "split", copied.manifest, "--by", "speaker", "--test", "1.5", "-o", "x.jsonl")
    assert result.code == 2
    assert "--test" in result.err


def test_split_of_a_moved_manifest_starts_from_the_data_folder(world, tmp_path):
    out = tmp_path / "s.jsonl"
    arguments = ("manifest", "split", world.manifest, "--by", "speaker", "-o", out)
    assert run(*arguments).code == 2
    assert run(*arguments, "--data-dir", world.corpus.parent).code == 0
    assert run("manifest", "check", out, "--data-dir", world.corpus.parent).code == 0
    with pytest.raises(InputError, match="no utterance has split 'dev'"):
        select(read_manifest(out, world.corpus.parent), "dev")
