"""Japanese Vowels: nine speakers say two vowels, given as 12 LPC cepstra a frame; no audio.

References
----------
Kudo, Toyama, Shimbo (1999), Multidimensional curve classification using passing-through regions, Pattern
Recognition Letters 20(11-13), 1103-1111. https://archive.ics.uci.edu/dataset/128/japanese+vowels
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speechgmm.errors import FormatError, InputError
from speechgmm.files import sha256
from speechgmm.manifest import read_text

N_COEFFICIENTS = 12
SUMS = "SHA256SUMS"
PARTS = {"train": "JapaneseVowels_TRAIN.ts", "test": "JapaneseVowels_TEST.ts"}

Frames = NDArray[np.float32]


def load(folder: str | Path, part: str) -> tuple[list[Frames], list[str]]:
    """Read one part of the corpus after comparing its file with the folder's checksums.

    Parameters
    ----------
    folder : str or Path
        The project's `data_manifests/japanese_vowels`: the two `.ts` files and `SHA256SUMS`.
    part : {"train", "test"}
        270 and 370 utterances.

    Returns
    -------
    frames : list of arrays, float32, shape (n_frames, 12)
        One for each utterance, in the file's order.
    speakers : list of str
        "1" to "9".

    Raises
    ------
    InputError
        If `part` is neither, or a file is missing.
    FormatError
        If the file differs from its checksum.
    """
    if part not in PARTS:
        raise InputError(f'`part` is {part!r}; it must be "train" or "test"')
    path, sums = Path(folder) / PARTS[part], Path(folder) / SUMS
    for needed in (sums, path):
        if not needed.is_file():
            raise InputError(f"{needed}: no such file; is {folder} the folder of Japanese Vowels?")
    if f"{sha256(path)}  {path.name}" not in sums.read_text("utf-8").splitlines():
        raise FormatError(f"{path}: differs from its checksum in {SUMS}; it was changed or damaged")
    return read_ts(path)


def read_ts(path: str | Path) -> tuple[list[Frames], list[str]]:
    """Read utterances from a `.ts` file of the UEA/UCR archive.

    After the line `@data` each line is an utterance: 12 coefficients between colons, each with its values
    for all frames between commas, and the label at the end.

    Returns
    -------
    frames : list of arrays, float32, shape (n_frames, 12)
    labels : list of str

    Raises
    ------
    InputError
        If the file cannot be read.
    FormatError
        If it is malformed; the message has the line's number.
    """
    lines = read_text(Path(path)).splitlines()
    first, known = _header(path, lines)
    frames, labels = [], []
    for number, line in enumerate(lines[first:], first + 1):
        if line.strip():
            values, label = _utterance(f"{path}, line {number}", line, known)
            frames.append(values)
            labels.append(label)
    if not frames:
        raise FormatError(f"{path}: no utterances after @data")
    return frames, labels


def _header(path: str | Path, lines: list[str]) -> tuple[int, list[str]]:
    """Index of the line after `@data`, and the labels that `@classLabel` announces."""
    known: list[str] = []
    for index, line in enumerate(lines):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if not words[0].startswith("@"):
            raise FormatError(f"{path}, line {index + 1}: expected a field such as @dimensions before @data")
        field = words[0].lower()
        if field == "@data":
            return index + 1, known
        if field == "@dimensions" and words[1:] != [str(N_COEFFICIENTS)]:
            raise FormatError(
                f"{path}, line {index + 1}: @dimensions is {' '.join(words[1:])!r}; expected {N_COEFFICIENTS}"
            )
        if field == "@classlabel":
            known = words[2:]
    raise FormatError(f"{path}: no line @data; is it a .ts file?")


def _utterance(place: str, line: str, known: list[str]) -> tuple[Frames, str]:
    """The frames and the label of one line."""
    *series, label = (part.strip() for part in line.split(":"))
    if len(series) != N_COEFFICIENTS:
        raise FormatError(f"{place}: {len(series)} coefficients and a label; expected {N_COEFFICIENTS}")
    if known and label not in known:
        raise FormatError(f"{place}: label {label!r} is not one of those in @classLabel: {', '.join(known)}")
    try:
        columns = [[float(value) for value in values.split(",")] for values in series]
    except ValueError as error:
        raise FormatError(f"{place}: {error}") from error
    lengths = {len(column) for column in columns}
    if len(lengths) > 1:
        raise FormatError(
            f"{place}: the coefficients have {min(lengths)} to {max(lengths)} frames; one is cut short"
        )
    frames = np.array(columns).T
    if not (np.abs(frames) <= np.finfo(np.float32).max).all():  # also false for a NaN
        raise FormatError(f"{place}: a value is not finite, or too large")
    return frames.astype(np.float32, order="C"), label
