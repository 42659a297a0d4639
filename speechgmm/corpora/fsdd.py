"""Free Spoken Digit Dataset: six speakers say the ten digits, 50 takes each, 8 kHz.

Every speaker used one microphone, so part of any speaker-recognition score on it is the microphone.
"""

import re
from pathlib import Path

from speechgmm.corpora.locate import Corpus
from speechgmm.errors import FormatError, InputError
from speechgmm.manifest import Utterance

CORPUS = Corpus(
    name="fsdd",
    folder="fsdd",
    archive="https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.zip",
    licence="CC BY-SA 4.0",
    example="recordings/0_george_0.wav",
)
FILE_NAME = re.compile(r"(?P<digit>[0-9])_(?P<speaker>[^_]+)_(?P<take>[0-9]+)\.wav")
TEST_TAKES = 5


def utterances(folder: str | Path) -> list[Utterance]:
    """List the recordings with labels `digit`, `speaker` and `take`.

    Parameters
    ----------
    folder : str or Path
        The corpus's folder, which holds `recordings/`.

    Returns
    -------
    list of Utterance
        In the order of their ids, such as `0_george_0`. The corpus's own split: takes 0 to 4 are "test", the
        others "train".

    Raises
    ------
    InputError
        If there are no recordings.
    FormatError
        If a file is not named `<digit>_<speaker>_<take>.wav`.
    """
    recordings = Path(folder) / "recordings"
    paths = sorted(path for path in recordings.glob("*.wav") if not path.name.startswith("."))
    if not paths:
        raise InputError(f"{recordings}: no recordings (*.wav); is {folder} the folder of fsdd?")
    return [_utterance(path) for path in paths]


def _utterance(path: Path) -> Utterance:
    match = FILE_NAME.fullmatch(path.name)
    if match is None:
        raise FormatError(f"{path}: expected a name like 0_george_0.wav: digit, speaker, take")
    split = "test" if int(match["take"]) < TEST_TAKES else "train"
    return Utterance(id=path.stem, audio=path, labels=match.groupdict(), split=split)
