"""`speechgmm phones train | evaluate`, and what `inspect` says of a phone recogniser."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import astuple, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from speechgmm.cli_align import (
    AdaptBy,
    Form,
    LexiconNames,
    align_command,
    lexicon_named,
    load_recogniser,
    recognise_command,
)
from speechgmm.cli_shared import (
    DataDir,
    Jobs,
    JsonFile,
    Output,
    Split,
    counted,
    finish,
    listed,
    new_app,
    refuse_options,
)
from speechgmm.errors import InputError, SpeechGMMWarning

if TYPE_CHECKING:
    from speechgmm.features.extract import Problem
    from speechgmm.manifest import Segment, Utterance
    from speechgmm.parallel import Progress
    from speechgmm.phones.hmm_training import Iteration
    from speechgmm.phones.lexicon import Lexicon
    from speechgmm.phones.recogniser import PhoneRecogniser
    from speechgmm.phones.recognition import PhoneEvaluation
    from speechgmm.phones.tuning import Tuning

PHONES_WANTED = (
    "; give them a label 'phones' or segments, or compare label files: what `speechgmm phones recognise --output` "
    "writes (--hypothesis) with what you have (--reference)"
)
app = new_app(help="Train phone recognisers; recognise, align and evaluate phones.")
app.command("recognise")(recognise_command)
app.command("align")(align_command)


@app.command("train")
def train_command(
    manifest: Annotated[
        Path,
        typer.Argument(help="Manifest of utterances with segments or a label 'phones', or a label 'text'."),
    ],
    output: Output,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", help="File or folder of phone labels, for the utterances of the manifest."),
    ] = None,
    form: Annotated[
        Form | None, typer.Option("--form", help="Of the labels [default: by the suffixes of the files].")
    ] = None,
    lexicon: LexiconNames = None,
    stress: Annotated[
        bool, typer.Option("--stress", help="Keep the stress that a lexicon gives vowels, such as AH0.")
    ] = False,
    dev_split: Annotated[
        str | None,
        typer.Option("--dev-split", help="Split that the language model's weights are tuned on."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="TOML file with [features], [recogniser] and [hmm] settings."),
    ] = None,
    components: Annotated[
        int | None, typer.Option("--components", "-k", help="The most Gaussians of a state [default: 64].")
    ] = None,
    flat: Annotated[
        bool, typer.Option("--flat", help="Do not look at the times of labels: start with even divisions.")
    ] = False,
    seed: Annotated[
        int | None, typer.Option("--seed", help="The same seed gives the same bits [default: 0].")
    ] = None,
    split: Split = None,
    data_dir: DataDir = None,
    jobs: Jobs = -1,
) -> None:
    """Train a phone recogniser: HMMs of Gaussian mixtures, and a language model of phones."""
    from speechgmm.files import require_writable
    from speechgmm.manifest import read_manifest
    from speechgmm.phones.recogniser_training import train_recogniser
    from speechgmm.phones.transcripts import require_tunable
    from speechgmm.terminal import shown_progress

    if labels is None and form is not None:
        raise InputError(f"--form {form.value} is the form of --labels, which are not given")
    settings = _settings(config)
    asked = {"n_components": components, "seed": seed}
    hmm = replace(settings["hmm"], **{name: value for name, value in asked.items() if value is not None})
    training, development = _sides(read_manifest(manifest, data_dir), split, dev_split)
    if labels is not None:
        training, development = _labelled(training, development, labels, form)
    words = lexicon_named(lexicon or (), stress)
    require_tunable(development, training, settings["recogniser"].silence, words)
    require_writable(output)
    with shown_progress() as progress:
        result = train_recogniser(
            [_without_times(one) for one in training] if flat else training,
            features=settings["features"],
            settings=settings["recogniser"],
            hmm=hmm,
            lexicon=words,
            n_jobs=jobs,
            progress=progress,
        )
        recogniser, problems, tuning = result.recogniser, list(result.problems), None
        if development:
            recogniser.save(output)  # should tuning fail, training was not in vain
            recogniser, tuning, unused = _tuned(recogniser, development, words, jobs, progress)
            problems += unused
    recogniser.save(output)
    _print_training(output, recogniser, result.history, tuning)
    finish(listed(problems))


def _settings(config: Path | None) -> dict[str, Any]:
    """The settings of a file, or the usual ones."""
    from speechgmm.phones.hmm_training import HmmSettings
    from speechgmm.phones.recogniser_training import RecogniserSettings
    from speechgmm.settings import feature_settings, read_tables, settings_from_table

    def hmm(table: Mapping[str, Any]) -> HmmSettings:
        return settings_from_table(HmmSettings, table, "HMM")

    readers = {"features": feature_settings, "recogniser": RecogniserSettings.from_dict, "hmm": hmm}
    return read_tables(config, readers) if config else {name: read({}) for name, read in readers.items()}


def _sides(
    utterances: Sequence["Utterance"], split: str | None, dev_split: str | None
) -> tuple[list["Utterance"], list["Utterance"]]:
    """What to train on and what to tune on, never the same."""
    from speechgmm.manifest import quoted, select

    if dev_split is None:
        return select(utterances, split), []
    if split == dev_split:
        raise InputError(
            f"--split and --dev-split are both {split!r}; what was trained on says nothing of others"
        )
    development = select(utterances, dev_split)
    if split is not None:
        return select(utterances, split), development
    others = {one.split or "" for one in utterances} - {dev_split}
    if len(others) != 1:
        raise InputError(
            f"beside {dev_split!r} the manifest has the splits {quoted(others) or 'none'}; say with --split which to "
            "train on"
        )
    return [one for one in utterances if one.split != dev_split], development


def _labelled(
    training: list["Utterance"], development: list["Utterance"], labels: Path, form: Form | None
) -> tuple[list["Utterance"], list["Utterance"]]:
    """Both sides with the labels of files."""
    from speechgmm.phones.label_files import read_labels
    from speechgmm.phones.labels import attach

    attached = attach([*training, *development], read_labels(labels, form.value if form else "auto"))
    return attached[: len(training)], attached[len(training) :]


def _without_times(utterance: "Utterance") -> "Utterance":
    """The same phones as a label."""
    if "phones" not in utterance.segments:
        return utterance
    phones = " ".join(segment.label for segment in utterance.segments["phones"])
    return replace(utterance, segments={}, labels={**utterance.labels, "phones": phones})


def _tuned(
    recogniser: "PhoneRecogniser",
    utterances: Sequence["Utterance"],
    lexicon: "Lexicon | None",
    jobs: int,
    progress: "Progress",
) -> tuple["PhoneRecogniser", "Tuning", list["Problem"]]:
    """The recogniser with the weights that are best for utterances, and those of them that could not be used.

    Where some have text alone, the phones of all are those of an alignment by the recogniser itself.
    """
    from speechgmm.features.extract import FeatureExtractor
    from speechgmm.manifest import fingerprint
    from speechgmm.phones.labels import phone_string
    from speechgmm.phones.recognition import align_utterances
    from speechgmm.phones.tuning import tune_weights

    problems: list[Problem] = []
    if any("phones" not in one.segments and "phones" not in one.labels for one in utterances):
        run = align_utterances(recogniser, utterances, lexicon, n_jobs=jobs, progress=progress)
        utterances, problems = run.utterances, list(run.problems)
    extraction = FeatureExtractor(recogniser.features).extract(utterances, jobs, progress)
    problems += extraction.problems
    strings = [phone_string(one) for one in extraction.utterances]
    if not strings:
        raise InputError(f"none of the utterances to tune on can be used; the first: {problems[0].message}")
    _warn_of_strange("tuning", extraction.utterances, recogniser)
    tuning = tune_weights(recogniser, extraction.frames, strings, jobs, progress)
    tuned_on = {"manifest": fingerprint(extraction.utterances), "per": tuning.counts.rate}
    record = {**recogniser.record, "tuned_on": tuned_on}
    return replace(recogniser, weights=tuning.weights, record=record), tuning, problems


def _print_training(
    output: Path, recogniser: "PhoneRecogniser", history: Sequence["Iteration"], tuning: "Tuning | None"
) -> None:
    from speechgmm.terminal import print_table

    # The last pass with each number of Gaussians, which grows.
    last = {one.n_components: one.log_likelihood for one in history}
    print_table("", ("Gaussians", "log-likelihood a frame"), list(last.items()))
    if tuning is not None:
        weights = tuning.weights
        print(
            f"phone error rate {tuning.counts.rate:.2%} of {counted(tuning.counts.n_reference, 'phone')} to tune on, "
            f"with a language model weight of {weights.language_model:g} and {weights.insertion:g} for each phone"
        )
    print(
        f"{output}: {counted(len(recogniser.phones), 'phone')}, {counted(len(recogniser.hmms.mixtures), 'state')}, "
        f"{counted(recogniser.hmms.n_components, 'Gaussian')}, "
        f"from {counted(recogniser.record['utterances'], 'utterance')}"
    )


@app.command("evaluate")
def evaluate_command(
    model: Annotated[Path | None, typer.Argument(help="Phone recogniser.", show_default=False)] = None,
    manifest: Annotated[
        Path | None,
        typer.Argument(help="Manifest of utterances whose phones are known.", show_default=False),
    ] = None,
    reference: Annotated[
        Path | None, typer.Option("--reference", help="Labels to compare with, without a recogniser.")
    ] = None,
    hypothesis: Annotated[
        Path | None, typer.Option("--hypothesis", help="Labels to compare, of the same utterances.")
    ] = None,
    fold: Annotated[
        tuple[str, str] | None,
        typer.Option(
            "--fold", help="Fold the phones of both from one set into another, such as timit48 timit39."
        ),
    ] = None,
    group: Annotated[
        str, typer.Option("--group", help="Label by which errors are listed and intervals drawn.")
    ] = "speaker",
    shift: Annotated[
        float,
        typer.Option(
            "--shift",
            help="Seconds added to recognised times before boundaries are compared, usually a few thousandths: "
            "labels of tools that count from where windows begin lie early.",
        ),
    ] = 0.0,
    silence: Annotated[
        list[str] | None,
        typer.Option(
            "--silence", help="Phone to leave out; repeat for more [default: SIL, sil and the recogniser's]."
        ),
    ] = None,
    adapt_by: AdaptBy = None,
    split: Split = None,
    json_file: JsonFile = None,
    data_dir: DataDir = None,
    jobs: Jobs = -1,
) -> None:
    """Say how often phones are recognised rightly, and how near their boundaries are.

    Of a recogniser on a manifest, or of two files (or folders) of labels.
    """
    from speechgmm.files import require_writable, write_atomically
    from speechgmm.phones.labels import SILENCES
    from speechgmm.phones.phone_sets import phone_map
    from speechgmm.phones.recognition import evaluate_recognition

    if json_file is not None:
        require_writable(json_file)
    mapping = None if fold is None else phone_map(*fold)
    silences = set(silence or SILENCES)
    if reference is not None and hypothesis is not None:
        refuse_options(reference, "a reference", adapt_by=adapt_by, split=split, data_dir=data_dir)
        if model is not None:
            raise InputError(
                f"give a recogniser and a manifest, or --reference and --hypothesis; {model} is too much"
            )
        references, hypotheses, problems = _two_files(reference, hypothesis)
    elif model is not None and manifest is not None and reference is hypothesis is None:
        recogniser = load_recogniser(model)
        known = _known(manifest, split, data_dir, recogniser)
        references, hypotheses, problems = _recognised(recogniser, known, adapt_by, jobs)
        silences |= set() if silence else {recogniser.silence}
    else:
        raise InputError("give a recogniser and a manifest, or both --reference and --hypothesis")
    result = evaluate_recognition(references, hypotheses, silences, mapping=mapping, group=group, shift=shift)
    _print_evaluation(result, group)
    if json_file is not None:
        write_atomically(json_file, json.dumps(result.to_dict(), indent=2, ensure_ascii=False) + "\n")
    finish(problems)


def _two_files(
    reference: Path, hypothesis: Path
) -> tuple[Sequence["Utterance"], list[Sequence["Segment"]], list[str]]:
    """Utterances of a reference, what a hypothesis has of each, and whether it lacks some."""
    from speechgmm.manifest import Utterance, quoted
    from speechgmm.phones.label_files import read_labels
    from speechgmm.phones.labels import attach

    true = read_labels(reference)
    named = [Utterance(id=name, audio=Path(name)) for name in true]
    found = attach(named, read_labels(hypothesis), missing="drop")
    references = [replace(one, segments=true[one.id]) for one in found]
    for path, side in ((reference, references), (hypothesis, found)):
        _require_phones(path, side)
    lacking = set(true) - {one.id for one in found}
    problem = (
        f"{hypothesis}: lacks {len(lacking)} of {len(true)} utterances of {reference}: {quoted(lacking)}"
    )
    return references, [one.segments["phones"] for one in found], [problem] if lacking else []


def _require_phones(path: Path, utterances: Sequence["Utterance"]) -> None:
    from speechgmm.manifest import quoted

    without = [one.id for one in utterances if not {"phones"} & {*one.segments, *one.labels}]
    if without:
        tiers = {tier for one in utterances for tier in one.segments}
        raise InputError(
            f"{path}: {len(without)} of {len(utterances)} utterances have no phones: {quoted(without)}"
            + (f" (the tiers are {quoted(tiers)})" if tiers else PHONES_WANTED)
        )


def _known(
    manifest: Path, split: str | None, data_dir: Path | None, recogniser: "PhoneRecogniser"
) -> list["Utterance"]:
    """Utterances whose phones are known; warns of phones that the recogniser cannot find."""
    from speechgmm.manifest import read_manifest, select

    utterances = select(read_manifest(manifest, data_dir), split)
    _require_phones(manifest, utterances)
    _warn_of_strange(str(manifest), utterances, recogniser)
    return utterances


def _warn_of_strange(where: str, utterances: Sequence["Utterance"], recogniser: "PhoneRecogniser") -> None:
    """Warn of phones that the recogniser cannot find."""
    from speechgmm.manifest import quoted
    from speechgmm.phones.labels import phone_string

    if strange := {phone for one in utterances for phone in phone_string(one)} - set(recogniser.phones):
        warnings.warn(
            f"{where}: the recogniser does not know the phones {quoted(strange)}, and will never find them",
            SpeechGMMWarning,
            stacklevel=3,
        )


def _recognised(
    recogniser: "PhoneRecogniser", utterances: Sequence["Utterance"], adapt_by: str | None, jobs: int
) -> tuple[Sequence["Utterance"], list[Sequence["Segment"]], list[str]]:
    """The utterances that could be used, what was recognised in them, and what is wrong with the others."""
    from speechgmm.phones.recognition import recognise_utterances
    from speechgmm.terminal import shown_progress

    with shown_progress() as progress:
        run = recognise_utterances(recogniser, utterances, adapt_by=adapt_by, n_jobs=jobs, progress=progress)
    problems = listed(run.problems)
    if not run.utterances:
        finish(problems, "; no file can be used", code=2)
    return run.utterances, [one.phones for one in run.recognitions], problems


def _print_evaluation(result: "PhoneEvaluation", group: str) -> None:
    from speechgmm.terminal import print_table

    columns = ("phones", "correct", "substituted", "deleted", "inserted")
    rows = [("all", result.counts), *result.groups.items(), ("all, with silence", result.counts_with_silence)]
    shown = [
        (name, *astuple(counts), f"{counts.rate:.2%}" if counts.n_reference else "") for name, counts in rows
    ]
    print_table("", (group, *columns, "error rate"), shown)
    if result.confusions:
        pairs = [(true or "(inserted)", found or "(deleted)", n) for true, found, n in result.confusions]
        print_table("Most frequent errors", ("reference", "recognised", "count"), pairs)
    if result.boundaries is not None:
        late = 1000 * result.boundaries.mean_deviation
        near = zip(result.boundaries.tolerances, result.boundaries.shares, strict=True)
        print(
            f"boundaries within {', '.join(f'{1000 * limit:g} ms: {share:.2%}' for limit, share in near)}; "
            f"{abs(late):.1f} ms {'late' if late > 0 else 'early'} on average"
        )
    interval = result.interval
    print(
        f"phone error rate {result.counts.rate:.2%}, 95 % interval {interval.low:.2%} to {interval.high:.2%} "
        f"(by resampling {interval.n_resampled} {interval.resampled})"
    )


def describe(model: Path, as_json: bool) -> None:
    """Print what is inside a phone recogniser."""
    from speechgmm.terminal import print_table, readable

    recogniser = load_recogniser(model)
    hmms = recogniser.hmms
    facts: dict[str, Any] = {
        "phones": len(recogniser.phones),
        "silence": recogniser.silence,
        "states": len(hmms.mixtures),
        "gaussians": hmms.n_components,
        "values_a_frame": hmms.n_features,
        "language_model_order": recogniser.language_model.order,
        "language_model_weight": recogniser.weights.language_model,
        "insertion": recogniser.weights.insertion,
    }
    features = recogniser.features.to_dict()
    if as_json:
        whole = {
            **facts,
            "phones": list(recogniser.phones),
            "features": features,
            "record": dict(recogniser.record),
        }
        print(json.dumps(whole, indent=2, ensure_ascii=False))
        return
    record = dict(recogniser.record)
    made = {**record.pop("settings", {}), **record.pop("hmm", {}), **record}
    for title, table in (("Phone recogniser", facts), ("Features", features), ("Made with", made)):
        print_table(title, ("what", "value"), [(name, readable(value)) for name, value in table.items()])
    print(" ".join(recogniser.phones))
