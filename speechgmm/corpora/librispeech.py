"""LibriSpeech: over 2400 readers of public-domain audio books, 16 kHz, in seven parts that share no reader.

Readers recorded themselves, each mostly in one place with one microphone, so part of any speaker-recognition
score on it is the microphone and the room.

References
----------
Panayotov, Chen, Povey, Khudanpur (2015), LibriSpeech: an ASR corpus based on public domain audio books, ICASSP.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from speechgmm.corpora.locate import Corpus
from speechgmm.errors import FormatError, InputError
from speechgmm.files import sha256_of_text
from speechgmm.manifest import Utterance, quoted, read_text
from speechgmm.phones.label_files import read_labels
from speechgmm.phones.labels import attach

PARTS = (
    *("train-clean-100", "train-clean-360", "train-other-500"),
    *("dev-clean", "dev-other", "test-clean", "test-other"),
)
TRAIN_CLEAN_100 = Corpus(
    name="librispeech",
    folder="LibriSpeech",
    archive="http://www.openslr.org/resources/12/train-clean-100.tar.gz",
    licence="CC BY 4.0",
    example="train-clean-100/19/198/19-198-0001.flac",
    shares_folder=True,
)
TEST_CLEAN = replace(
    TRAIN_CLEAN_100,
    archive="http://www.openslr.org/resources/12/test-clean.tar.gz",
    example="test-clean/1089/134686/1089-134686-0000.flac",
)
FILE_NAME = re.compile(r"(?P<speaker>[0-9]+)-(?P<chapter>[0-9]+)-[0-9]+\.flac")
# One of each of the three speakers whose phones are known.
PHONE_TEST_CHAPTERS = frozenset({("19", "198"), ("26", "496"), ("27", "124992")})
PHONE_DEV_SHARE = 8


def utterances(folder: str | Path, parts: Iterable[str] | None = None, text: bool = False) -> list[Utterance]:
    """List the utterances with labels `speaker`, `chapter`, `part` and `gender`.

    Parameters
    ----------
    folder : str or Path
        The corpus's folder, which holds `SPEAKERS.TXT` and folders such as `train-clean-100/`.
    parts : iterable of str, optional
        Which of `PARTS` to list; without it, all that are there.
    text : bool
        Add the label `text`, what is said, where a chapter's transcript (`19-198.trans.txt`) has it.

    Returns
    -------
    list of Utterance
        By part in the order of `PARTS`, then in the order of their ids, such as `19-198-0001`. The gender, `f`
        or `m`, is in `SPEAKERS.TXT`; a reader whom it does not know has no such label. The split is the first
        word of the part: "train", "dev" or "test".

    Raises
    ------
    InputError
        If `parts` names one that is not there, or there are no utterances.
    FormatError
        If a file is not named `<speaker>-<chapter>-<number>.flac` in a folder `<speaker>/<chapter>/`, or
        `SPEAKERS.TXT` or a transcript is malformed.
    """
    folder = Path(folder)
    there = [part for part in PARTS if (folder / part).is_dir()]
    wanted = there if parts is None else [parts] if isinstance(parts, str) else list(parts)
    if missing := set(wanted) - set(there):
        raise InputError(f"{folder}: no part {quoted(missing)}; there are {quoted(there) or 'none'}")
    genders = _genders(folder / "SPEAKERS.TXT")
    found = [
        utterance for part in PARTS if part in wanted for utterance in _part(folder / part, genders, text)
    ]
    if not found:
        raise InputError(
            f"{folder}: no utterances (<part>/<speaker>/<chapter>/*.flac, with a part such as {PARTS[0]}); "
            "is it the folder of LibriSpeech?"
        )
    return found


def phone_utterances(folder: str | Path, phones: str | Path | None = None) -> list[Utterance]:
    """List the utterances whose phones are known, with segments "phones" and "words" and the label `text`.

    Parameters
    ----------
    folder : str or Path
        The corpus's folder.
    phones : str or Path, optional
        A table of labels, with paths from that folder; `phones.tsv` in it by default. It is not a part of the
        corpus: `recipes/librispeech_phones` makes one by forced alignment.

    Returns
    -------
    list of Utterance
        As `utterances` lists them.

    Raises
    ------
    InputError, FormatError
        As `utterances` does, and if the table cannot be read or knows none of the utterances.
    """
    table = Path(folder) / "phones.tsv" if phones is None else Path(phones)
    return attach(utterances(folder, text=True), read_labels(table, "tsv"), missing="drop")


def phone_split(utterances: Iterable[Utterance]) -> list[Utterance]:
    """The parts for phone recognition: speakers 19, 26 and 27, tested on chapters that were not trained on.

    The chapters 19/198, 26/496 and 27/124992 are the test part. Of the others, in the order of the sha256 of
    their ids, every eighth from the first on is the development part, the rest the training part.

    Parameters
    ----------
    utterances : iterable of Utterance
        From `phone_utterances`.

    Returns
    -------
    list of Utterance
        With split "train", "dev" or "test", in the order given.

    Raises
    ------
    InputError
        If a part is empty.
    """
    utterances = list(utterances)
    tested = {
        one.id for one in utterances if (one.label("speaker"), one.label("chapter")) in PHONE_TEST_CHAPTERS
    }
    others = sorted((one.id for one in utterances if one.id not in tested), key=sha256_of_text)
    splits = dict.fromkeys(tested, "test") | dict.fromkeys(others, "train")
    splits |= dict.fromkeys(others[::PHONE_DEV_SHARE], "dev")
    if missing := {"train", "dev", "test"} - set(splits.values()):
        raise InputError(
            f"of {len(utterances)} utterances none is for {quoted(missing)}; the test part is the chapters 19/198, "
            "26/496 and 27/124992 of train-clean-100"
        )
    return [replace(one, split=splits[one.id]) for one in utterances]


def _part(folder: Path, genders: Mapping[str, str], text: bool) -> list[Utterance]:
    found = []
    for chapter in sorted(folder.glob("*/*/")):
        texts = _texts(chapter) if text else {}
        for path in sorted(chapter.glob("*.flac")):
            if not path.name.startswith("."):
                labels = {**_names(path), "part": folder.name}
                labels |= {"gender": genders[labels["speaker"]]} if labels["speaker"] in genders else {}
                labels |= {"text": texts[path.stem]} if path.stem in texts else {}
                found.append(Utterance(path.stem, path, labels=labels, split=folder.name.split("-")[0]))
    return sorted(found, key=lambda utterance: utterance.id)


def _names(path: Path) -> dict[str, str]:
    match = FILE_NAME.fullmatch(path.name)
    if match is None or path.parts[-3:-1] != (match["speaker"], match["chapter"]):
        raise FormatError(f"{path}: expected a place like 19/198/19-198-0001.flac: speaker, chapter, number")
    return match.groupdict()


def _genders(path: Path) -> dict[str, str]:
    """Gender of every reader that SPEAKERS.TXT lists; nothing without it."""
    genders: dict[str, str] = {}
    for number, line in enumerate(read_text(path).split("\n") if path.is_file() else [], 1):
        if not line.strip() or line.startswith(";"):
            continue
        # Names come last, and one of them holds the separator: |CBW|Simon.
        speaker, *fields = (field.strip() for field in line.split("|", 4))
        if len(fields) != 4 or fields[0] not in ("F", "M"):
            raise FormatError(
                f"{path}: line {number} is {line!r}; expected one like '19 | F | part | 25.19 | name'"
            )
        genders[speaker] = fields[0].lower()
    return genders


def _texts(chapter: Path) -> dict[str, str]:
    """What is said in a chapter's utterances, by their ids; nothing where there is no transcript."""
    path = chapter / f"{chapter.parent.name}-{chapter.name}.trans.txt"
    texts: dict[str, str] = {}
    for number, line in enumerate(read_text(path).split("\n") if path.is_file() else [], 1):
        name, _, words = line.strip().partition(" ")
        if name and not words:
            raise FormatError(f"{path}: line {number} is {line!r}; expected an id and what is said")
        if name:
            texts[name] = words
    return texts
