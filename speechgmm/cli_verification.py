"""`speechgmm ubm | enrol | calibrate | verify`: one file, the speaker store, from start to end."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from speechgmm.cli_shared import (
    Audio,
    DataDir,
    Format,
    FormatOption,
    Jobs,
    Label,
    Output,
    Split,
    counted,
    finish,
    listed,
    print_rows,
)
from speechgmm.cli_store import (
    CFa,
    CMiss,
    PTarget,
    Store,
    load_store,
    operating_point,
    say_uncalibrated,
    spoken_figure,
    spoken_point,
)
from speechgmm.errors import InputError

if TYPE_CHECKING:
    from speechgmm.em.adaptation import Adaptation
    from speechgmm.verification.cross_fitting import CrossFit
    from speechgmm.verification.speaker_store import SpeakerStore
    from speechgmm.verification.stored_calibration import StoredCalibration

VERIFY_COLUMNS = (
    *("file", "claim", "decision", "llr", "posterior", "p_target", "threshold", "score", "frames"),
)
VERIFY_SHOWN = ("file", "decision", "llr", "posterior", "score")


def ubm_command(
    manifest: Annotated[
        Path, typer.Argument(help="Manifest of speech of people who are neither enrolled nor tested later.")
    ],
    output: Output,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="TOML file with [features], [background] and [adaptation] settings."),
    ] = None,
    components: Annotated[
        int | None, typer.Option("--components", "-k", help="Gaussians in the mixture [default: 256].")
    ] = None,
    balance: Annotated[
        str | None,
        typer.Option("--balance", help="Label whose values weigh the same, such as speaker or gender."),
    ] = None,
    relevance_factor: Annotated[
        float | None,
        typer.Option("--relevance-factor", help="Frames that move a component half way [default: 16]."),
    ] = None,
    adapt: Annotated[
        str | None,
        typer.Option(
            "--adapt", help="What is adapted to speakers: means,variances,weights [default: means]."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="The same seed gives the same bits [default: 0].")
    ] = None,
    split: Split = None,
    store: Annotated[
        Path | None,
        typer.Option("--store", help="Feature store: keeps the frames, which are then trained on from disk."),
    ] = None,
    data_dir: DataDir = None,
    jobs: Jobs = -1,
) -> None:
    """Train a background model, for a new speaker store."""
    from speechgmm.files import require_writable
    from speechgmm.manifest import read_manifest, select
    from speechgmm.terminal import shown_progress
    from speechgmm.verification.background import train_ubm
    from speechgmm.verification.settings_file import VerificationSettings, read_verification_settings
    from speechgmm.verification.speaker_store import SpeakerStore

    settings = read_verification_settings(config) if config else VerificationSettings()
    background = settings.background
    if components is not None:
        background = replace(background, n_components=components)
    if seed is not None:
        background = replace(background, seed=seed)
    adaptation = _adaptation(settings.adaptation, relevance_factor, adapt)
    utterances = select(read_manifest(manifest, data_dir), split)
    require_writable(output)
    _refuse_overwriting(output)
    with shown_progress() as progress:
        trained = train_ubm(
            utterances,
            features=settings.features,
            settings=background,
            balance=balance,
            store=store,
            n_jobs=jobs,
            progress=progress,
        )
    SpeakerStore.create(trained.background, adaptation).save(output)
    record = trained.background.record
    print(
        f"{output}: a background model of {counted(record['components'], 'component')} "
        f"from {record['seconds']:.1f} seconds ({counted(record['iterations'], 'iteration')}); nobody is enrolled yet"
    )
    finish(listed(trained.problems))


def _adaptation(settings: "Adaptation", relevance_factor: float | None, adapt: str | None) -> "Adaptation":
    if relevance_factor is not None:
        settings = replace(settings, relevance_factor=relevance_factor)
    return (
        settings
        if adapt is None
        else replace(settings, parts=tuple(part.strip() for part in adapt.split(",")))
    )


def _refuse_overwriting(output: Path) -> None:
    """The audio of enrolled speakers may be gone; a model can be trained again."""
    from speechgmm.tensor_file import SPEAKERS, kind_of
    from speechgmm.verification.speaker_store import SpeakerStore

    if kind_of(output) == SPEAKERS and (speakers := SpeakerStore.load(output).enrolments):
        raise InputError(
            f"{output}: is a store with {counted(len(speakers), 'enrolled speaker')}, who would be lost; write to "
            "another file, or remove this one first"
        )


def enrol_command(
    store: Store,
    manifest: Annotated[
        Path | None, typer.Argument(help="Manifest of the speech to enrol.", show_default=False)
    ] = None,
    label: Annotated[
        str, typer.Option("--label", help="What names the speakers; id: every utterance is one of its own.")
    ] = "speaker",
    split: Split = None,
    show: Annotated[bool, typer.Option("--list", help="List who is enrolled.")] = False,
    remove: Annotated[
        list[str] | None, typer.Option("--remove", help="Forget a speaker; repeat for more.")
    ] = None,
    data_dir: DataDir = None,
    jobs: Jobs = -1,
) -> None:
    """Add speakers to a store, list them, or remove them.

    Utterances of speakers who are enrolled are added to theirs.
    """
    from speechgmm.terminal import print_table

    if (manifest is not None) + show + bool(remove) != 1:
        raise InputError("give a manifest of speech to enrol, or --list, or --remove NAME; one of the three")
    if manifest is None and (split is not None or data_dir is not None):
        raise InputError("--split and --data-dir are for manifests")
    speakers = load_store(store)
    if manifest is not None:
        _enrol(store, speakers, manifest, label, split, data_dir, jobs)
    elif remove:
        for name in remove:
            speakers.remove(name)
        speakers.save(store)
        print(f"{store}: {counted(len(remove), 'speaker')} removed, {len(speakers.enrolments)} left")
    else:
        print_table("", ("speaker", "utterances", "seconds", "frames"), speakers.speakers())


def _enrol(
    path: Path,
    store: "SpeakerStore",
    manifest: Path,
    label: str,
    split: str | None,
    data_dir: Path | None,
    jobs: int,
) -> None:
    from speechgmm.files import require_writable
    from speechgmm.manifest import read_manifest, select
    from speechgmm.terminal import shown_progress
    from speechgmm.verification.store_audio import enrol_audio

    utterances = select(read_manifest(manifest, data_dir), split)
    require_writable(path)
    before = len(store.enrolments)
    with shown_progress() as progress:
        problems = enrol_audio(store, utterances, label, n_jobs=jobs, progress=progress)
    store.save(path)
    n_enrolled = len(store.enrolments)
    print(
        f"{path}: {counted(len(utterances) - len(problems), 'utterance')} enrolled, "
        f"{counted(n_enrolled - before, 'new speaker')}, {n_enrolled} in all"
    )
    finish(listed(problems))


def calibrate_command(
    store: Store,
    manifest: Annotated[
        Path,
        typer.Argument(
            help="Manifest of background speakers, such as those that the background model is of."
        ),
    ],
    label: Label = "speaker",
    split: Split = None,
    folds: Annotated[
        int,
        typer.Option("--folds", help="Parts that the speakers are dealt to; each is tried without itself."),
    ] = 3,
    enrol_utterances: Annotated[
        int | None,
        typer.Option(
            "--enrol-utterances",
            help="Utterances that enrol a speaker, as many as yours will have [default: all but the one tried].",
        ),
    ] = None,
    cohort_utterances: Annotated[
        int | None,
        typer.Option(
            "--cohort-utterances",
            help="Utterances of each speaker kept to normalise by [default: all, or none for --normalisation none].",
        ),
    ] = None,
    method: Annotated[
        str, typer.Option("--method", help="How trials are scored: top, dense or linear.")
    ] = "top",
    top: Annotated[
        int | None,
        typer.Option("--top", help="Components kept for each frame by top and linear [default: 20]."),
    ] = None,
    normalisation: Annotated[
        str, typer.Option("--normalisation", help="Of scores: none, z, t, zt, s or adaptive_s.")
    ] = "none",
    top_n: Annotated[
        int | None, typer.Option("--top-n", help="Cohort scores that adaptive_s keeps; it needs this.")
    ] = None,
    data_dir: DataDir = None,
    jobs: Jobs = -1,
) -> None:
    """Learn what scores mean; decisions need that.

    From trials among background speakers, under background models that have not heard them.
    """
    from speechgmm.files import require_writable
    from speechgmm.manifest import read_manifest, select
    from speechgmm.terminal import shown_progress
    from speechgmm.verification.store_audio import calibrate_audio
    from speechgmm.verification.system import System

    if method == "dense" and top is not None:
        raise InputError("--top is for the methods top and linear; dense scores by all components")
    chosen: dict[str, Any] = {"method": method, "normalisation": normalisation, "top_n": top_n}
    system = System.from_dict(chosen if top is None else {**chosen, "top": top})
    speakers = load_store(store)
    utterances = select(read_manifest(manifest, data_dir), split)
    require_writable(store)
    with shown_progress() as progress:
        trials, problems = calibrate_audio(
            speakers,
            utterances,
            system,
            label=label,
            n_folds=folds,
            n_enrol=enrol_utterances,
            cohort_utterances=cohort_utterances,
            n_jobs=jobs,
            progress=progress,
        )
    speakers.save(store)
    assert speakers.calibration is not None
    _print_quality(trials, speakers.calibration)
    print(f"{store}: calibrated, scores by {system}")
    finish(listed(problems))


def _print_quality(trials: "CrossFit", stored: "StoredCalibration") -> None:
    """What the calibration was trained on, and what it does to that."""
    from speechgmm.terminal import print_table
    from speechgmm.verification.calibration import calibration_report

    scores = trials.scores[stored.system]
    report = calibration_report(scores, stored.calibration.apply(scores), trials.is_target)
    names = list(report["before"])
    rows = [(spoken_figure(name), report["before"][name], report["after"][name]) for name in names]
    n_target = int(trials.is_target.sum())
    print(
        f"{counted(n_target, 'target')} and {counted(trials.is_target.size - n_target, 'nontarget')} of "
        f"{len(stored.record['speakers'])} speakers, scored under background models of other speakers:"
    )
    print_table("", ("figure", "before", "after"), rows)
    print(
        "'after' is on the very trials that the two numbers of the calibration were trained on; "
        "`speechgmm evaluate --trials` tells of others."
    )


def verify_command(
    store: Store,
    audio: Audio,
    claim: Annotated[str, typer.Option("--claim", help="Who all of it is said to be.")],
    p_target: PTarget = None,
    c_miss: CMiss = None,
    c_fa: CFa = None,
    format: FormatOption = Format.auto,
    jobs: Jobs = -1,
) -> None:
    """Decide whether audio is of the speaker it is said to be."""
    from speechgmm.manifest_build import from_files
    from speechgmm.terminal import shown_progress
    from speechgmm.verification.store_audio import verify_audio

    point = operating_point(p_target, c_miss, c_fa)
    speakers = load_store(store)
    utterances, missing = from_files(audio)
    with shown_progress() as progress:
        results, unusable = verify_audio(speakers, utterances, claim, point, n_jobs=jobs, progress=progress)
    problems = [*missing, *listed(unusable)]
    if not results:
        finish(problems, "; no file can be used", code=2)
    decisions = {None: None, True: "accepted", False: "rejected"}
    rows = [
        {
            "file": one.utterance,
            "claim": one.claim,
            "decision": decisions[one.accepted],
            "llr": one.llr,
            "posterior": one.posterior,
            "p_target": None if one.llr is None else point.p_target,
            "threshold": None if one.llr is None else point.threshold,
            "score": one.score,
            "frames": one.n_frames,
        }
        for one in results
    ]
    print_rows(
        rows, format, VERIFY_COLUMNS, VERIFY_SHOWN, spoken_point(speakers, point, f"{claim!r} is accepted")
    )
    say_uncalibrated(speakers, "these are scores without a decision")
    finish(problems)
