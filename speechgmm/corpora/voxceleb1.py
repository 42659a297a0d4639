"""VoxCeleb1: 1251 celebrities in interviews from YouTube, 153 516 utterances, 16 kHz, many rooms and microphones.

Audio is given out on request only. The lists are public, at
https://www.robots.ox.ac.uk/~vgg/data/voxceleb/meta/: `vox1_meta.csv` (speakers), `veri_test2.txt`,
`list_test_all2.txt`, `list_test_hard2.txt` (trials O, E and H, cleaned; `read_trials` of
`speechgmm.verification` reads them, and their ids are those of `utterances`) and `iden_split.txt`
(identification).

References
----------
Nagrani, Chung, Zisserman (2017), VoxCeleb: a large-scale speaker identification dataset, Interspeech.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from speechgmm.corpora.locate import Corpus
from speechgmm.errors import FormatError, InputError, SpeechGMMError
from speechgmm.manifest import Utterance, read_text, refuse

CORPUS = Corpus(
    name="voxceleb1",
    folder="voxceleb1",
    archive=None,
    licence="CC BY 4.0",
    example="vox1_meta.csv",
    page="https://mm.kaist.ac.kr/datasets/voxceleb/",
)
# Where the archives of the two sets are unpacked, together or apart, and the set that a folder stands for.
FOLDERS = {
    "wav": None,
    "dev/wav": "dev",
    "test/wav": "test",
    "vox1_dev_wav/wav": "dev",
    "vox1_test_wav/wav": "test",
}
PLACE = re.compile(r"(?P<speaker>id[0-9]{5})/(?P<video>[A-Za-z0-9_-]{11})/[0-9]{5}\.wav")
META_COLUMNS = ("VoxCeleb1 ID", "VGGFace1 ID", "Gender", "Nationality", "Set")
IDENTIFICATION_SPLITS = {"1": "train", "2": "validation", "3": "test"}


def utterances(folder: str | Path) -> list[Utterance]:
    """List the utterances with labels `speaker`, `video` and `gender`.

    Parameters
    ----------
    folder : str or Path
        Holds `wav/<speaker>/<video>/*.wav`, or `dev/wav/` and `test/wav/`, or `vox1_dev_wav/wav/` and
        `vox1_test_wav/wav/`; and `vox1_meta.csv`.

    Returns
    -------
    list of Utterance
        In the order of their ids, which are those of the corpus's own lists:
        `id10270/x6uYqmx31kE/00001.wav`. The split is that of verification, "dev" or "test", and the gender
        `f` or `m`, both from `vox1_meta.csv`. Without it there is no gender, and the split is as the folders
        say, or None.

    Raises
    ------
    InputError
        If there are no utterances.
    FormatError
        If a file is not named as above, one utterance lies in two folders, or `vox1_meta.csv` is malformed.
    """
    folder = Path(folder)
    speakers = _speakers(folder / "vox1_meta.csv")
    found: dict[str, Utterance] = {}
    for below, split in FOLDERS.items():
        for path in sorted((folder / below).glob("*/*/*.wav")):
            name = path.relative_to(folder / below).as_posix()
            if path.name.startswith("."):
                continue
            if name in found:
                raise FormatError(f"{path}: the same utterance as {found[name].audio}")
            found[name] = _utterance(name, path, split, speakers)
    if not found:
        raise InputError(
            f"{folder}: no utterances (wav/<speaker>/<video>/*.wav, or dev/wav/ and test/wav/); "
            "is it the folder of VoxCeleb1?"
        )
    return [found[name] for name in sorted(found)]


def identification_split(utterances: Iterable[Utterance], path: str | Path) -> list[Utterance]:
    """Give utterances the sides of the corpus's identification task, which share speakers but no video.

    Parameters
    ----------
    utterances : iterable of Utterance
        From `utterances`.
    path : str or Path
        The corpus's `iden_split.txt`: `1 id10001/1zcIwhmdeo4/00001.wav` a line.

    Returns
    -------
    list of Utterance
        Those that the list names, in the order given, with split "train" (1), "validation" (2) or "test" (3).

    Raises
    ------
    FormatError
        If lines are malformed; all are named at once.
    InputError
        If the file cannot be read, or names none of the utterances.
    """
    path = Path(path)
    sides: dict[str, str] = {}
    problems: list[tuple[int, SpeechGMMError]] = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        fields = line.split()
        if fields:
            if len(fields) != 2 or fields[0] not in IDENTIFICATION_SPLITS:
                problems.append((number, FormatError(f"is {line!r}; expected 1, 2 or 3 and an utterance")))
            else:
                sides[fields[1]] = IDENTIFICATION_SPLITS[fields[0]]
    refuse(path, problems)
    listed = [
        replace(utterance, split=sides[utterance.id]) for utterance in utterances if utterance.id in sides
    ]
    if not listed:
        raise InputError(
            f"{path}: names none of the utterances; their ids must be like id10001/1zcIwhmdeo4/00001.wav"
        )
    return listed


def _utterance(
    name: str, path: Path, split: str | None, speakers: Mapping[str, tuple[str, str]]
) -> Utterance:
    match = PLACE.fullmatch(name)
    if match is None:
        raise FormatError(
            f"{path}: expected a place like id10270/x6uYqmx31kE/00001.wav: speaker, video, number (the first "
            "release, with names for speakers, is another layout)"
        )
    labels = match.groupdict()
    if labels["speaker"] in speakers:
        labels["gender"], split = speakers[labels["speaker"]]
    return Utterance(name, path, labels=labels, split=split)


def _speakers(path: Path) -> dict[str, tuple[str, str]]:
    """Gender and set of every speaker that vox1_meta.csv lists; nothing without it."""
    speakers: dict[str, tuple[str, str]] = {}
    problems: list[tuple[int, SpeechGMMError]] = []
    for number, line in enumerate(read_text(path).split("\n") if path.is_file() else [], 1):
        # The official file has tabs, a copy that is often used commas, and _ for the spaces of the header.
        cells = [cell.strip() for cell in line.split("\t" if "\t" in line else ",")]
        if number == 1:
            if tuple(cell.replace("_", " ") for cell in cells) != META_COLUMNS:
                problems.append(
                    (1, FormatError(f"is {line!r}; expected the columns {', '.join(META_COLUMNS)}"))
                )
        elif any(cells):
            if len(cells) != 5 or cells[2] not in ("f", "m") or cells[4] not in ("dev", "test"):
                problems.append(
                    (number, FormatError(f"is {line!r}; expected id, name, f or m, country, dev or test"))
                )
            else:
                speakers[cells[0]] = (cells[2], cells[4])
    refuse(path, problems)
    return speakers
