"""Trials, which ask whether a test utterance is an enrolled speaker's, and the lists that hold them.

Forms of lists
--------------
tsv
    Our own: the header `model`, `test`, `key` with tabs between; the key is `target` or `nontarget`.
kaldi
    `model test target`, with white space between. `tgt` and `tar` stand for target too, `imp` for nontarget,
    as in the lists of SITW and VOiCES.
voxceleb
    `1 id10270/x6uYqmx31kE/00001.wav id10270/8jEAjG6SegY/00008.wav`: 1 is a target, 0 a nontarget; the first
    utterance is the model's only enrolment.
nist
    The tables of the NIST evaluations since 2016, with tabs (or commas) and a header with the columns
    `modelid`, `segment` or `segmentid`, perhaps `side` or `channel`, and in keys `targettype`; other columns
    are left alone. Also the index files (`.ndx`) from before, without header or key: `model m segment:A`, the
    sex in the middle or not there.

A list without its key (a blind test) lacks that column; VoxCeleb's form has none without.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speechgmm.errors import FormatError, InputError, SpeechGMMError
from speechgmm.files import write_atomically
from speechgmm.manifest import UNWRITABLE, quoted, read_text, refuse

_WORDS = {"target": True, "nontarget": False}
_KALDI_WORDS = _WORDS | {"tgt": True, "tar": True, "imp": False}
_DIGITS = {"1": True, "0": False}
# What the columns of NIST's tables are, in the words of `_Layout`.
_NIST_COLUMNS = {"modelid": "model", "targettype": "key"}
_NIST_COLUMNS |= dict.fromkeys(("segment", "segmentid"), "test") | dict.fromkeys(("side", "channel"), "side")
_HEADERS = {"tsv": ("model", "test", "key"), "nist": ("modelid", "segment", "side", "targettype")}
_SIDED = re.compile(".+:[abAB]")
_BLANKS = re.compile("[ \t]+")
_EXAMPLES = (
    "model<tab>test<tab>key with a header (tsv), 'ann u1 target' (kaldi), '1 a/b/c.wav d/e/f.wav' (voxceleb), "
    "modelid<tab>segment<tab>side<tab>targettype with a header, or '1234 m segment:A' (nist)"
)


@dataclass(frozen=True, slots=True)
class Trial:
    """The question whether a test utterance is spoken by an enrolled speaker.

    Attributes
    ----------
    model : str
        Id of the enrolled model.
    test : str
        Id of the test utterance.
    is_target : bool, optional
        The answer; None where it is not known.

    Raises
    ------
    InputError
        If an id is not text, is empty or holds control characters, or the answer is none.
    """

    model: str
    test: str
    is_target: bool | None = None

    def __post_init__(self) -> None:
        for name, value in (("model", self.model), ("test", self.test)):
            if not isinstance(value, str) or not value or UNWRITABLE.search(value):
                raise InputError(
                    f"`{name}` of a trial is {value!r}; it must be text, not empty, "
                    "without control characters or bytes that are not UTF-8"
                )
        if isinstance(self.is_target, np.bool_):
            object.__setattr__(self, "is_target", bool(self.is_target))
        if self.is_target is not None and not isinstance(self.is_target, bool):
            raise InputError(f"`is_target` of a trial is {self.is_target!r}; it must be True, False or None")


@dataclass(frozen=True)
class _Layout:
    """How the rows of a list are cut, what their columns are ("" for one to leave alone), and the key's words."""

    cut: Callable[[str], Sequence[str]]
    columns: tuple[str, ...]
    words: Mapping[str, bool]
    header: bool

    def parse(self, line: str) -> Trial:
        cells = self.cut(line)
        if len(cells) != len(self.columns):
            raise FormatError(
                f"has {len(cells)} columns; expected {len(self.columns)}, as in the first line: {line[:80]!r}"
            )
        row = dict(zip(self.columns, cells, strict=True))
        key = row.get("key")
        if key is not None and key not in self.words:
            raise FormatError(f"the key is {key!r}; it must be {' or '.join(map(repr, self.words))}")
        side = row.get("side", "a").lower()
        if side not in ("a", "b"):
            raise FormatError(f"the side is {row['side']!r}; it must be 'a' or 'b'")
        test = f"{row['test']}:b" if side == "b" else row["test"]
        try:
            return Trial(row["model"], test, None if key is None else self.words[key])
        except InputError as error:
            raise FormatError(str(error)) from error


def read_trials(path: str | Path, form: str = "auto", allow_repeats: bool = False) -> list[Trial]:
    """Read a list of trials.

    Parameters
    ----------
    path : str or Path
        UTF-8 text, one trial a line; empty lines are left out.
    form : {"auto", "tsv", "kaldi", "voxceleb", "nist"}
        See the top of this module; "auto" goes by the first line. In NIST's tables side b of a segment becomes
        the id `segment:b`, side a the plain `segment`; the ids of index files stay as they are.
    allow_repeats : bool
        Keep trials that the list has several times, all of them: published figures on such a list count them
        so. A trial that is a target in one line and a nontarget in another is refused nonetheless.

    Returns
    -------
    list of Trial
        In the order of the file. Either all have `is_target`, or none.

    Raises
    ------
    FormatError
        If lines are not of the form, or repeat or contradict earlier ones, all named at once; if the list has
        no trials, or its form cannot be told.
    InputError
        If the file cannot be read, or there is no such form.
    """
    path = Path(path)
    if form != "auto":
        _require_form(form)
    lines = [
        (number, line.removesuffix("\r"))
        for number, line in enumerate(read_text(path).split("\n"), 1)
        if line.strip(" \t\r")
    ]
    if not lines:
        raise FormatError(f"{path}: lists no trials")
    number, first = lines[0]
    try:
        layout = _LAYOUTS[_guess(first) if form == "auto" else form](first)
    except FormatError as error:
        raise FormatError(f"{path}: line {number}: {error}") from error
    trials: list[tuple[int, Trial]] = []
    problems: list[tuple[int, SpeechGMMError]] = []
    for number, line in lines[layout.header :]:
        try:
            trials.append((number, layout.parse(line)))
        except FormatError as error:
            problems.append((number, error))
    problems += _repeats(trials, "line", allow_repeats)
    refuse(path, sorted(problems, key=lambda problem: problem[0]))
    if not trials:
        raise FormatError(f"{path}: lists no trials below the header")
    return [trial for _, trial in trials]


def _require_form(form: str) -> None:
    if form not in _LAYOUTS:
        raise InputError(f"`form` is {form!r}; it must be one of {', '.join(_LAYOUTS)}")


def _guess(first: str) -> str:
    """The form of a list that begins with this line."""
    fields = _fields(first)
    if first.split("\t")[:2] == ["model", "test"]:
        return "tsv"
    if "modelid" in re.split("[\t,]", first.lower()) or (
        len(fields) == 3 and fields[1] in ("m", "f") and _SIDED.fullmatch(fields[2])
    ):
        return "nist"
    if len(fields) == 2 or (len(fields) == 3 and fields[2] in _KALDI_WORDS):
        return "kaldi"
    if len(fields) == 3 and fields[0] in _DIGITS:
        return "voxceleb"
    raise FormatError(f"{first[:80]!r} is of no form of trials known: {_EXAMPLES}")


def _fields(line: str) -> list[str]:
    return _BLANKS.split(line.strip(" \t"))


def _tsv_layout(first: str) -> _Layout:
    columns = tuple(first.split("\t"))
    if columns not in (_HEADERS["tsv"], _HEADERS["tsv"][:-1]):
        raise FormatError(f"the header is {first!r}; it must be model, test and key with tabs between")
    return _Layout(lambda line: line.split("\t"), columns, _WORDS, header=True)


def _kaldi_layout(first: str) -> _Layout:
    columns = ("model", "test", "key")[: max(2, len(_fields(first)))]
    return _Layout(_fields, columns, _KALDI_WORDS, header=False)


def _voxceleb_layout(first: str) -> _Layout:
    return _Layout(_fields, ("key", "model", "test"), _DIGITS, header=False)


def _nist_layout(first: str) -> _Layout:
    fields = _fields(first)
    if len(fields) in (2, 3) and _SIDED.fullmatch(fields[-1]):
        return _Layout(_fields, ("model", *[""] * (len(fields) - 2), "test"), _WORDS, header=False)
    separator = "\t" if "\t" in first else ","
    names = [name.strip().lower() for name in first.split(separator)]
    columns = tuple(_NIST_COLUMNS.get(name, "") for name in names)
    counts = Counter(columns)
    if not counts["model"] == counts["test"] == 1 or counts["side"] > 1 or counts["key"] > 1:
        raise FormatError(
            f"the header is {first[:80]!r}; it must have the columns modelid and segment (or segmentid), and none twice"
        )
    return _Layout(lambda line: line.split(separator), columns, _WORDS, header=True)


_LAYOUTS = {"tsv": _tsv_layout, "kaldi": _kaldi_layout, "voxceleb": _voxceleb_layout, "nist": _nist_layout}


def _repeats(
    trials: Iterable[tuple[int, Trial]], place: str, allow_repeats: bool
) -> list[tuple[int, SpeechGMMError]]:
    """What is wrong with trials that came before, at another `place` ("line" 3)."""
    seen: dict[tuple[str, str], tuple[int, bool | None]] = {}
    problems: list[tuple[int, SpeechGMMError]] = []
    for number, trial in trials:
        first, answer = seen.setdefault((trial.model, trial.test), (number, trial.is_target))
        same = answer == trial.is_target
        if first == number or (allow_repeats and same):
            continue
        what = f"{place} {first}: the trial of {trial.model!r} and {trial.test!r}"
        text = f"repeats {what}" if same else f"contradicts {what} is a target in one of them only"
        problems.append((number, FormatError(text)))
    return problems


def write_trials(
    trials: Iterable[Trial], path: str | Path, form: str = "tsv", allow_repeats: bool = False
) -> None:
    """Write a list that `read_trials` reads, whole or not at all.

    Parameters
    ----------
    trials : iterable of Trial
        Either all have `is_target`, or none.
    path : str or Path
        Replaced if it exists.
    form : {"tsv", "kaldi", "voxceleb", "nist"}
        "nist" is the table with a header; `segment:b` becomes side b of `segment`, other tests are side a.
    allow_repeats : bool
        As in `read_trials`.

    Raises
    ------
    InputError
        If there are no trials, they repeat or contradict each other, the form cannot hold them (an id with a
        space, VoxCeleb's form without keys), there is no such form, or `path` cannot be written.
    """
    trials = list(trials)
    _require_form(form)
    if not trials:
        raise InputError(f"{path}: no trials to write")
    if problems := _repeats(enumerate(trials, 1), "trial", allow_repeats):
        raise InputError(f"trial {problems[0][0]} {problems[0][1]}; in all {len(problems)} such trials")
    keyed = _all_keyed(trials)
    ids = (name for trial in trials for name in (trial.model, trial.test))
    if form in ("kaldi", "voxceleb") and (spaced := [name for name in ids if " " in name]):
        raise InputError(f"the form {form!r} cannot hold ids with spaces; use 'tsv': {quoted(spaced)}")
    if form == "voxceleb" and not keyed:
        raise InputError(f"{path}: the form 'voxceleb' needs `is_target` of every trial; there is none")
    header = ["\t".join(_HEADERS[form] if keyed else _HEADERS[form][:-1])] if form in _HEADERS else []
    write_atomically(path, "\n".join([*header, *(_line(trial, form) for trial in trials)]) + "\n")


def _all_keyed(trials: Sequence[Trial]) -> bool:
    """Whether the trials have their answers; some with and some without are refused."""
    without = [trial for trial in trials if trial.is_target is None]
    if without and len(without) < len(trials):
        raise InputError(
            f"{len(without)} of {len(trials)} trials have no `is_target`, such as that of "
            f"{without[0].model!r} and {without[0].test!r}; give it for all trials or for none"
        )
    return not without


def _line(trial: Trial, form: str) -> str:
    if form == "voxceleb":
        return f"{trial.is_target:d} {trial.model} {trial.test}"
    cells = [trial.model, trial.test]
    if form == "nist":
        segment, _, side = trial.test.rpartition(":")
        cells[1:] = [segment, "b"] if segment and side == "b" else [trial.test, "a"]
    if trial.is_target is not None:
        cells.append("target" if trial.is_target else "nontarget")
    return (" " if form == "kaldi" else "\t").join(cells)


def check_trials(trials: Iterable[Trial], models: Iterable[str], tests: Iterable[str]) -> None:
    """Raise `InputError` where trials name models or test utterances that are not there; lists them.

    Parameters
    ----------
    trials : iterable of Trial
    models : iterable of str
        The ids of the enrolled models.
    tests : iterable of str
        The ids of the test utterances.
    """
    trials, problems = list(trials), []
    for what, named, there in (
        ("models", {trial.model for trial in trials}, set(models)),
        ("test utterances", {trial.test for trial in trials}, set(tests)),
    ):
        if unknown := named - there:
            problems.append(
                f"{len(unknown)} of {len(named)} {what} of the trials are not among the {len(there)} there are: "
                f"{quoted(unknown)}{_cause(unknown, there)}"
            )
    if problems:
        raise InputError("; ".join(problems))


def _cause(unknown: set[str], there: set[str]) -> str:
    """Why ids are unknown, where it is the suffix of files: the usual cause."""
    bare = {Path(name).with_suffix("").as_posix() for name in there}
    if any(Path(name).with_suffix("").as_posix() in bare for name in unknown):
        return " (with or without the suffix, such as .wav, some would be)"
    return ""


@dataclass(frozen=True, eq=False)
class TrialIndex:
    """Trials as arrays of row numbers, for scoring.

    Attributes
    ----------
    models, tests : tuple of str
        The ids that the numbers stand for.
    model_numbers, test_numbers : integer arrays, shape (n_trials,)
        For each trial, the places of its model in `models` and of its test in `tests`.
    is_target : bool array, shape (n_trials,), or None
        None where the trials have no answers.
    """

    models: tuple[str, ...]
    tests: tuple[str, ...]
    model_numbers: NDArray[np.intp]
    test_numbers: NDArray[np.intp]
    is_target: NDArray[np.bool_] | None

    @classmethod
    def from_trials(
        cls, trials: Iterable[Trial], models: Iterable[str] | None = None, tests: Iterable[str] | None = None
    ) -> "TrialIndex":
        """Number the models and the tests of trials.

        Parameters
        ----------
        trials : iterable of Trial
            The arrays keep their order.
        models, tests : iterable of str, optional
            The ids in the order of the rows they stand for; without it, those of the trials, sorted.

        Raises
        ------
        InputError
            If there are no trials, some have an answer and some do not, an id is given twice, or a trial names
            one that is not given.
        """
        trials = list(trials)
        if not trials:
            raise InputError("there are no trials")
        models = tuple(sorted({trial.model for trial in trials}) if models is None else models)
        tests = tuple(sorted({trial.test for trial in trials}) if tests is None else tests)
        for what, ids in (("models", models), ("tests", tests)):
            if repeated := [name for name, count in Counter(ids).items() if count > 1]:
                raise InputError(f"`{what}` names {quoted(repeated)} more than once")
        check_trials(trials, models, tests)
        model_numbers = {name: number for number, name in enumerate(models)}
        test_numbers = {name: number for number, name in enumerate(tests)}
        keyed = _all_keyed(trials)
        return cls(
            models,
            tests,
            np.array([model_numbers[trial.model] for trial in trials], dtype=np.intp),
            np.array([test_numbers[trial.test] for trial in trials], dtype=np.intp),
            np.array([trial.is_target for trial in trials], dtype=np.bool_) if keyed else None,
        )
