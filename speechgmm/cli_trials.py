"""`speechgmm trials make | convert | score`, and what `evaluate` does with a speaker store."""

import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speechgmm.cli_shared import (
    DataDir,
    Jobs,
    Label,
    Output,
    Seed,
    Split,
    cell,
    counted,
    finish,
    listed,
    new_app,
)
from speechgmm.cli_store import Store, load_store, say_uncalibrated, spoken_figure

if TYPE_CHECKING:
    from speechgmm.manifest import Utterance
    from speechgmm.verification.trial_lists import Trial
    from speechgmm.verification.trial_running import ScoredTrials, TrialEvaluation

app = new_app(help="Make, convert and score lists of verification trials.")


class Form(StrEnum):
    """How a list of trials is written."""

    tsv = "tsv"
    kaldi = "kaldi"
    voxceleb = "voxceleb"
    nist = "nist"


Repeats = Annotated[
    bool,
    typer.Option("--allow-repeats", help="Count trials that the list has twice as often as it has them."),
]


@app.command()
def make(
    manifest: Annotated[Path, typer.Argument(help="Manifest of the speakers to enrol and test.")],
    output: Output,
    enrolment: Annotated[
        Path | None,
        typer.Option("--enrolment", help="Manifest to write of the utterances that enrol the speakers."),
    ] = None,
    enrol_utterances: Annotated[
        int, typer.Option("--enrol-utterances", help="Utterances that enrol each speaker.")
    ] = 3,
    per_speaker: Annotated[
        int | None,
        typer.Option("--per-speaker", help="The most tests of each speaker [default: all the rest]."),
    ] = None,
    nontargets_per_target: Annotated[
        int | None,
        typer.Option(
            "--nontargets-per-target", help="Nontarget trials of a model for each target [default: all]."
        ),
    ] = None,
    balance: Annotated[
        str | None, typer.Option("--balance", help="Label to take evenly where some of many are chosen.")
    ] = None,
    apart: Annotated[
        str | None,
        typer.Option("--apart", help="Label, such as session, that a test never shares with the enrolment."),
    ] = None,
    background: Annotated[
        Path | None, typer.Option("--background", help="Manifest whose speakers must be other people.")
    ] = None,
    label: Label = "speaker",
    split: Split = None,
    seed: Seed = 0,
    form: Annotated[Form, typer.Option("--form", help="How the list is written.")] = Form.tsv,
    data_dir: DataDir = None,
) -> None:
    """Choose enrolment and trials from labelled utterances.

    By a rule that anyone can repeat: equal utterances and seeds give equal trials.
    """
    from speechgmm.files import require_writable
    from speechgmm.manifest import read_manifest, require_below, select, write_manifest
    from speechgmm.verification.trial_lists import write_trials
    from speechgmm.verification.trial_making import make_trials

    chosen, trials = make_trials(
        select(read_manifest(manifest, data_dir), split),
        label,
        n_enrol=enrol_utterances,
        per_speaker=per_speaker,
        nontargets_per_target=nontargets_per_target,
        apart=apart,
        balance=balance,
        background=[] if background is None else read_manifest(background, data_dir),
        seed=seed,
    )
    enrolled = [utterance for own in chosen.values() for utterance in own]
    if enrolment is not None:
        require_below(enrolled, enrolment, data_dir)
        require_writable(enrolment)
    write_trials(trials, output, form.value)
    n_target = sum(trial.is_target is True for trial in trials)
    print(
        f"{output}: {counted(len(trials), 'trial')} of {counted(len(chosen), 'speaker')}, {n_target} of them targets"
    )
    if enrolment is None:
        print("Add --enrolment to write which utterances enrol the speakers: the trials hold for these only.")
    else:
        write_manifest(enrolled, enrolment, data_dir)
        print(f"{enrolment}: {counted(len(enrolled), 'utterance')} to enrol")


@app.command()
def convert(
    trials: Annotated[Path, typer.Argument(help="List of trials; its form is told by its first line.")],
    output: Output,
    form: Annotated[Form, typer.Option("--form", help="How the new list is written.")],
    allow_repeats: Repeats = False,
) -> None:
    """Write a list of trials in another form."""
    from speechgmm.verification.trial_lists import read_trials, write_trials

    found = read_trials(trials, allow_repeats=allow_repeats)
    write_trials(found, output, form.value, allow_repeats=allow_repeats)
    print(f"{output}: {counted(len(found), 'trial')}")


@app.command()
def score(
    store: Store,
    manifest: Annotated[Path, typer.Argument(help="Manifest of the test utterances.")],
    trials: Annotated[
        Path,
        typer.Argument(
            help="List of trials; models are enrolled speakers, or ids of utterances that enrol one."
        ),
    ],
    output: Output,
    split: Split = None,
    allow_repeats: Repeats = False,
    data_dir: DataDir = None,
    jobs: Jobs = -1,
) -> None:
    """Score every trial of a list."""
    from speechgmm.files import require_writable, write_atomically
    from speechgmm.terminal import shown_progress
    from speechgmm.verification.trial_running import score_trials

    speakers = load_store(store)
    asked, utterances = _asked(manifest, trials, split, allow_repeats, data_dir)
    require_writable(output)
    with shown_progress() as progress:
        scored = score_trials(speakers, asked, utterances, n_jobs=jobs, progress=progress)
    write_atomically(output, "".join("\t".join(row) + "\n" for row in _rows(scored)))
    left_out = f", {scored.n_left_out} left out" if scored.n_left_out else ""
    print(f"{output}: {counted(len(scored.trials), 'trial')} scored{left_out}")
    say_uncalibrated(speakers, "there are scores, but no log-likelihood ratios")
    finish(listed(scored.problems))


def _asked(
    manifest: Path, trials: Path, split: str | None, allow_repeats: bool, data_dir: Path | None
) -> tuple[list["Trial"], list["Utterance"]]:
    """The trials of a list, and the utterances that they may name."""
    from speechgmm.manifest import read_manifest, select
    from speechgmm.verification.trial_lists import read_trials

    asked = read_trials(trials, allow_repeats=allow_repeats)
    return asked, select(read_manifest(manifest, data_dir), split)


def _rows(scored: "ScoredTrials") -> list[list[str]]:
    """The cells of the table of scores: the key and the calibrated ratio where there are any."""
    keys = {True: "target", False: "nontarget"}
    columns = {
        "model": [trial.model for trial in scored.trials],
        "test": [trial.test for trial in scored.trials],
        "key": [keys.get(trial.is_target) for trial in scored.trials],  # type: ignore[arg-type]
        "score": scored.scores.tolist(),
        "llr": None if scored.llrs is None else scored.llrs.tolist(),
    }
    there = {name: values for name, values in columns.items() if values is not None and values[0] is not None}
    return [list(there), *([cell(value) for value in row] for row in zip(*there.values(), strict=True))]


def evaluate_store(
    store: Path,
    manifest: Path,
    trials: Path,
    *,
    label: str,
    split: str | None,
    allow_repeats: bool,
    det: Path | None,
    json_file: Path | None,
    data_dir: Path | None,
    jobs: int,
) -> None:
    """Print how good a speaker store is on trials whose answers are known."""
    from speechgmm.files import require_writable, write_atomically
    from speechgmm.report.pictures import require_format
    from speechgmm.terminal import shown_progress
    from speechgmm.verification.trial_running import evaluate_trials

    speakers = load_store(store)
    asked, utterances = _asked(manifest, trials, split, allow_repeats, data_dir)
    for output in (det, json_file):
        if output is not None:
            require_writable(output)
    if det is not None:
        require_format(det)
    with shown_progress() as progress:
        result = evaluate_trials(speakers, asked, utterances, label, n_jobs=jobs, progress=progress)
    _print_figures(result)
    say_uncalibrated(speakers, "there are no figures of decisions")
    if json_file is not None:
        write_atomically(json_file, json.dumps(result.to_dict(), indent=2, ensure_ascii=False) + "\n")
    if det is not None:
        from speechgmm.report.detection_picture import det_picture

        det_picture({store.name: result.curve}, det)
        print(det)
    finish(listed(result.scored.problems))


def _print_figures(result: "TrialEvaluation") -> None:
    from speechgmm.terminal import print_table, readable

    figures = result.figures
    rows: list[Sequence[str | float]] = [
        (spoken_figure(name), value, " to ".join(map(readable, figures.intervals[name])))
        for name, value in figures.figures.items()
    ]
    print_table("", ("figure", "value", "95 % interval"), rows)
    left_out = f"; {counted(result.scored.n_left_out, 'trial')} left out" if result.scored.n_left_out else ""
    print(
        f"{counted(figures.n_target, 'target')} and {counted(figures.n_nontarget, 'nontarget')} of "
        f"{counted(result.n_speakers, 'speaker')}; intervals by resampling speakers{left_out}"
    )
