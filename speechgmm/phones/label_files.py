"""Files of phone and word labels: read and written in the forms of the tools that make them.

Forms
-----
tsv
    One table for a corpus, with the columns path, start, end, phone, and perhaps word; names are the paths as
    they stand. See `label_tables` for how words are made of their column.
timit
    A `.phn` and perhaps a `.wrd` for each utterance, in TIMIT's way: sample numbers and label. They become the
    tiers "phones" and "words".
htk
    A `.lab` (or `.rec`) for each utterance, or a master label file (`.mlf`) for many; times in units of 100 ns.
    Scores are left aside.
textgrid
    A Praat `.TextGrid` for each utterance, long or short, as forced aligners write them; tiers keep their
    names. Needs the package praatio (`pip install 'speechgmm[phones]'`).
ctm
    One file for many utterances, as NIST's and Kaldi's tools write: name, channel, start, duration, label.
    Confidences are left aside.

A path may be a folder; then all files of the form in it are read, and the name of an utterance is the path of
its file without the suffix, relative to the folder.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from speechgmm.audio import AUDIO_SUFFIXES
from speechgmm.errors import FormatError, InputError, SpeechGMMError
from speechgmm.files import inside, write_atomically
from speechgmm.manifest import read_text, refuse
from speechgmm.phones import label_lines, label_tables, textgrids
from speechgmm.phones.label_lines import Collected, Tiers
from speechgmm.utterance import OVERLAP_TOLERANCE, Segment, quoted

Labels = dict[str, dict[str, tuple[Segment, ...]]]

_SUFFIXES = {
    "tsv": (".tsv",),
    "timit": (".phn", ".wrd"),
    "htk": (".lab", ".rec", ".mlf"),
    "textgrid": (".textgrid",),
    "ctm": (".ctm",),
}
_TIMIT_TIERS = {".phn": "phones", ".wrd": "words"}
_TIMIT_RATE = 16000.0


@dataclass(frozen=True)
class _Form:
    """A form with what its files leave unsaid."""

    name: str
    sample_rate: float
    tier: str

    def parse(self, text: str, name: str, suffix: str) -> Collected:
        """The labels of a file's text."""
        match self.name:
            case "tsv":
                return label_tables.parse_table(text)
            case "timit":
                return label_lines.parse_timit(
                    text, name, _TIMIT_TIERS.get(suffix, self.tier), self.sample_rate
                )
            case "htk":
                return label_lines.parse_htk(text, name, self.tier)
            case "textgrid":
                return textgrids.parse_textgrid(text, name)
            case _:
                return label_lines.parse_ctm(text, self.tier)

    def texts(self, labels: Labels, suffix: str) -> dict[str, str]:
        """The texts of the files that hold labels, by path relative to a folder; "" is the one file of all."""
        match self.name:
            case "tsv":
                return {"": label_tables.format_table(labels)}
            case "ctm":
                return {"": label_lines.format_ctm(labels, self.tier)}
            case "htk" if suffix == ".mlf":
                return {"": label_lines.format_master(labels, self.tier)}
            case "htk":
                return {
                    f"{name}.lab": label_lines.format_htk(tiers[self.tier]) for name, tiers in labels.items()
                }
            case "textgrid":
                return {
                    f"{name}.TextGrid": textgrids.format_textgrid(tiers) for name, tiers in labels.items()
                }
            case _:
                return {
                    name + ending: label_lines.format_timit(tiers[tier], self.sample_rate)
                    for name, tiers in labels.items()
                    for ending, tier in _TIMIT_TIERS.items()
                    if tier in tiers
                }

    @property
    def tiers(self) -> tuple[str, ...] | None:
        """Those that the form can hold; None for any."""
        if self.name == "textgrid":
            return None
        return (self.tier,) if self.name in ("htk", "ctm") else ("phones", "words")

    @property
    def resolution(self) -> float:
        """By how much times may differ in files, in seconds."""
        return {"timit": 0.5001 / self.sample_rate, "htk": 1e-7, "textgrid": OVERLAP_TOLERANCE}.get(
            self.name, 0.0
        )


def _form(name: str, sample_rate: float | None, tier: str) -> _Form:
    if name not in _SUFFIXES:
        raise InputError(f"`form` is {name!r}; it must be 'auto' or one of {', '.join(_SUFFIXES)}")
    if sample_rate is not None and name != "timit":
        raise InputError(
            f"`sample_rate` is for the form 'timit', which counts samples; the form is {name!r}, in seconds"
        )
    if sample_rate is not None and not 0 < sample_rate < 1e9:
        raise InputError(f"`sample_rate` is {sample_rate!r}; it must be a number of samples a second above 0")
    return _Form(name, _TIMIT_RATE if sample_rate is None else float(sample_rate), tier)


def read_labels(
    path: str | Path, form: str = "auto", sample_rate: float | None = None, tier: str = "phones"
) -> Labels:
    """Read the labels of utterances.

    Parameters
    ----------
    path : str or Path
        A file, or a folder with files of the form at any depth.
    form : {"auto", "tsv", "timit", "htk", "textgrid", "ctm"}
        Tables of a corpus (tsv), TIMIT's .phn and .wrd, HTK's .lab, .rec and .mlf, Praat's TextGrids, or NIST's and
        Kaldi's .ctm; "auto" goes by the suffixes of the files.
    sample_rate : float, optional
        Of the audio, for the form "timit"; without it 16000 Hz, which TIMIT has.
    tier : str
        What the labels of the forms "htk" and "ctm" are, which do not say: "phones" or "words".

    Returns
    -------
    dict of str to dict of str to tuple of Segment
        Name of the utterance to tier to segments. `labels.attach` gives them to utterances.

    Raises
    ------
    FormatError
        If files are not of the form or labels do not follow each other, all lines named at once; if two files
        have the same tier of one utterance, or there are no labels.
    InputError
        If files cannot be read, the form cannot be told, or praatio is needed and not installed.
    """
    path = Path(path)
    files = _files(path, form)
    found = _form(_told(path, files) if form == "auto" else form, sample_rate, tier)
    labels: dict[str, dict[str, tuple[Segment, ...]]] = defaultdict(dict)
    homes: dict[tuple[str, str], Path] = {}
    problems: list[SpeechGMMError] = []
    for file in files:
        try:
            collected = _read(file, path, found)
        except SpeechGMMError as error:
            problems.append(error)
            continue
        for name, tiers in collected.labels.items():
            for kind, segments in tiers.items():
                first = homes.setdefault((name, kind), file)
                if first != file:
                    problems.append(FormatError(f"{file}: has the {kind} of {name!r}, as {first} does"))
                labels[name][kind] = tuple(segments)
    _refuse_all(problems)
    if not labels:
        raise FormatError(f"{path}: holds no labels")
    return dict(sorted(labels.items()))


def _read(file: Path, root: Path, form: _Form) -> Collected:
    """The labels of one file; raises one error for all that is wrong with it."""
    text = textgrids.read_textgrid_text(file) if form.name == "textgrid" else read_text(file)
    name = file.stem if file == root else file.relative_to(root).with_suffix("").as_posix()
    try:
        collected = form.parse(text, name, file.suffix.lower())
    except FormatError as error:
        raise FormatError(f"{file}: {error}") from error
    refuse(file, collected.problems)
    return collected


def _refuse_all(problems: Sequence[SpeechGMMError], limit: int = 20) -> None:
    if not problems:
        return
    lines = [str(problem) for problem in problems[:limit]]
    if len(problems) > limit:
        lines.append(f"and {len(problems) - limit} more files")
    kind = InputError if all(isinstance(problem, InputError) for problem in problems) else FormatError
    raise kind("\n".join(lines))


def _files(path: Path, form: str) -> list[Path]:
    """The files to read, in order: the one given, or those of a folder that are of the form, or of any."""
    if not path.is_dir():
        return [path]
    suffixes = _SUFFIXES.get(form, tuple(suffix for known in _SUFFIXES.values() for suffix in known))
    files = [file for file in sorted(path.rglob("*")) if file.suffix.lower() in suffixes and file.is_file()]
    if not files:
        raise InputError(f"{path}: holds no label files ({', '.join(suffixes)})")
    return files


def _told(path: Path, files: Sequence[Path]) -> str:
    """The form that files have by their suffixes."""
    forms = {
        form for form, suffixes in _SUFFIXES.items() for file in files if file.suffix.lower() in suffixes
    }
    if len(forms) > 1:
        raise InputError(f"{path}: holds files of several forms; say which to read: {quoted(forms)}")
    if not forms:
        raise InputError(
            f"{path}: its form cannot be told by its suffix {path.suffix!r}; say which of {quoted(_SUFFIXES)} it is"
        )
    return forms.pop()


def write_labels(
    labels: Mapping[str, Tiers],
    path: str | Path,
    form: str,
    sample_rate: float | None = None,
    tier: str = "phones",
) -> None:
    """Write labels that `read_labels` reads, each file whole or not at all.

    Parameters
    ----------
    labels : mapping of str to mapping of str to sequence of Segment
        Name of the utterance to tier to segments. Names and tiers without segments are left out.
    path : str or Path
        A file for the forms "tsv" and "ctm", and for "htk" where it ends in `.mlf`; else a folder, with a file
        for each utterance. In the forms "timit", "htk" and "textgrid" the form's suffix takes the place of an
        audio file's in the name.
    form : {"tsv", "timit", "htk", "textgrid", "ctm"}
        A table of the corpus (tsv), TIMIT's .phn and .wrd, HTK's .lab or .mlf, Praat's TextGrids, or NIST's and
        Kaldi's .ctm. The form "timit" holds times to the nearest sample, "htk" to 100 ns, the others as they are.
    sample_rate : float, optional
        Of the audio, for the form "timit"; without it 16000 Hz.
    tier : str
        The tier to write, of which the forms "htk" and "ctm" hold one.

    Raises
    ------
    InputError
        If there are no labels, they do not follow each other, the form cannot hold them as they are (blanks in
        a label, a tier it does not have), a name leads out of the folder, or files cannot be written.
    """
    path, found = Path(path), _form(form, sample_rate, tier)
    suffix = path.suffix.lower()
    whole = _checked(labels, path, found)
    if found.name in ("timit", "textgrid", "htk"):
        whole = _without_audio_suffixes(whole)
    texts = found.texts(whole, suffix)
    files = {place: inside(path, place) if place else path for place in sorted(texts)}
    _require_same(whole, texts, path, found)
    for place, file in files.items():
        write_atomically(file, texts[place])


def _checked(labels: Mapping[str, Tiers], path: Path, form: _Form) -> Labels:
    """What the form holds of labels, as plain values; raises one error for all that is wrong with them."""
    collected = Collected()
    origins: list[str] = []
    for name, tiers in labels.items():
        other = {tier for tier, segments in tiers.items() if segments} - set(form.tiers or tiers)
        if other and form.name in ("tsv", "timit"):
            raise InputError(
                f"{path}: the form {form.name!r} holds phones and words; {name!r} has {quoted(other)} (use 'textgrid')"
            )
        for kind in sorted(set(tiers) - other):
            for number, segment in enumerate(tiers[kind], 1):
                plain = Segment(float(segment.start) + 0.0, float(segment.end) + 0.0, segment.label)
                collected.add(len(origins), name, kind, plain)
                origins.append(f"{name!r}, {kind}, segment {number}")
    _refuse_all([InputError(f"{origins[number]}: {problem}") for number, problem in collected.problems])
    if not collected.labels:
        raise InputError(f"{path}: no labels to write{_wanted(form)}")
    return _frozen(collected)


def _wanted(form: _Form) -> str:
    return f" (of the tier {form.tier!r})" if form.name in ("htk", "ctm") else ""


def _frozen(collected: Collected) -> Labels:
    return {
        name: {kind: tuple(segments) for kind, segments in tiers.items()}
        for name, tiers in collected.labels.items()
    }


def _without_audio_suffixes(labels: Labels) -> Labels:
    """The same with names that files can have which lie beside the audio."""
    renamed: Labels = {}
    for name, tiers in labels.items():
        stem, dot, suffix = name.rpartition(".")
        short = stem if f"{dot}{suffix}".lower() in AUDIO_SUFFIXES else name
        if short in renamed:
            raise InputError(
                f"two names give the file {short!r}, such as {name!r}; they differ by their suffix alone"
            )
        renamed[short] = tiers
    return renamed


def _require_same(labels: Labels, texts: Mapping[str, str], path: Path, form: _Form) -> None:
    """Refuse labels that would not be read back as they are: the form cannot hold them."""
    read: Labels = {}
    for place, text in texts.items():
        file = Path(place or path.name)
        try:
            collected = form.parse(text, file.with_suffix("").as_posix(), file.suffix.lower())
        except FormatError as error:
            raise InputError(f"{path}: the form {form.name!r} cannot hold these labels: {error}") from error
        for name, tiers in _frozen(collected).items():
            read[name] = {**read.get(name, {}), **tiers}
    for name, tiers in labels.items():
        for kind, segments in tiers.items():
            if problem := _difference(segments, read.get(name, {}).get(kind, ()), form.resolution):
                raise InputError(
                    f"{path}: the form {form.name!r} cannot hold the {kind} of {name!r} as they are: {problem}"
                )


def _difference(given: Sequence[Segment], read: Sequence[Segment], resolution: float) -> str | None:
    """What a reader of the file would make of segments, if that is something else."""
    for number, (one, other) in enumerate(zip(given, read, strict=False), 1):
        apart = max(abs(one.start - other.start), abs(one.end - other.end))
        if one.label != other.label or apart > resolution:
            return f"segment {number}, {_shown(one)}, would be read as {_shown(other)}"
    if len(given) != len(read):
        first = min(len(given), len(read))
        lost = _shown((given if len(given) > len(read) else read)[first])
        return f"of {len(given)} segments {len(read)} would be read; the first that differs is {lost}"
    return None


def _shown(segment: Segment) -> str:
    return f"{segment.label!r} from {segment.start:g} s to {segment.end:g} s"
