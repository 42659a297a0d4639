"""Speech Commands v0.02: many speakers, each saying a few of 35 words, one second and 16 kHz a file.

The download is the corpus's own test archive; the layout of the whole corpus is read too. Every speaker used
one microphone, so part of any speaker-recognition score on it is the microphone.

References
----------
Warden (2018), Speech Commands: a dataset for limited-vocabulary speech recognition, arXiv:1804.03209.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from speechgmm.corpora.locate import Corpus
from speechgmm.errors import FormatError, InputError
from speechgmm.files import sha256_of_text
from speechgmm.manifest import Utterance
from speechgmm.phones.label_files import read_labels
from speechgmm.phones.labels import SILENCES

CORPUS = Corpus(
    name="speech_commands",
    folder="speech_commands_test_set_v0.02",
    archive="http://download.tensorflow.org/data/speech_commands_test_set_v0.02.tar.gz",
    licence="CC BY 4.0",
    example="down/0c40e715_nohash_0.wav",
)
# The test archive keeps words outside the ten commands in `_unknown_`, and doubles their ".wav".
UNKNOWN = "_unknown_"
FILE_NAME = re.compile(
    r"(?:(?P<word>[a-z]+)_)?(?P<speaker>[0-9a-f]{8})_nohash_(?P<take>[0-9]+)\.wav(?:\.wav)?"
)
OFFICIAL_LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}


def utterances(folder: str | Path) -> list[Utterance]:
    """List the words with labels `word`, `speaker` (the eight digits of the file name) and `take`.

    Parameters
    ----------
    folder : str or Path
        Of the test archive (`<word>/` and `_unknown_/`) or of the whole corpus (`<word>/`). Noise
        (`_background_noise_/`, `_silence_/`) is left out.

    Returns
    -------
    list of Utterance
        In the order of their ids, `<word>_<speaker>_<take>`. The split is the corpus's own where the folder
        holds its lists ("train", "validation", "test"), else None.

    Raises
    ------
    InputError
        If there are no words.
    FormatError
        If a file is not named `<speaker>_nohash_<take>.wav`, in `_unknown_/` after `<word>_`.
    """
    folder = Path(folder)
    splits = _official_splits(folder)
    found = [_utterance(path, splits) for path in _paths(folder)]
    if not found:
        raise InputError(f"{folder}: no words (<word>/*.wav); is it the folder of Speech Commands?")
    return sorted(found, key=lambda utterance: utterance.id)


def closed_set(utterances: list[Utterance], min_files: int = 15) -> list[Utterance]:
    """The part for closed-set speaker identification: speakers with enough files, tested on other words.

    The speakers' words are put in the order of the sha256 of their spelling; the last third of the words
    (rounded down) is the test part, the others are the training part.

    Parameters
    ----------
    utterances : list of Utterance
        From `utterances`.
    min_files : int
        Speakers with fewer files are left out.

    Returns
    -------
    list of Utterance
        With split "train" or "test", in the order given.

    Raises
    ------
    InputError
        If no speaker has `min_files` files, or they say fewer than three words.
    """
    speakers = _speakers_with(utterances, min_files)
    kept = [utterance for utterance in utterances if utterance.labels["speaker"] in speakers]
    words = sorted({utterance.labels["word"] for utterance in kept}, key=sha256_of_text)
    if len(words) < 3:
        raise InputError(
            f"the speakers say {len(words)} different words; a third for testing needs 3 or more"
        )
    test_words = set(words[-(len(words) // 3) :])
    return [
        replace(utterance, split="test" if utterance.labels["word"] in test_words else "train")
        for utterance in kept
    ]


def verification_split(
    utterances: list[Utterance], min_files: int = 20, n_enrol: int = 10
) -> list[Utterance]:
    """The parts for speaker verification: speakers with many files are enrolled, the others are the background.

    The archive holds some recordings twice, under two takes; of those that are the same file, byte by byte, the
    first is kept, so that no recording is both enrolled and tested. The first `n_enrol` files of a speaker, in
    the order of the sha256 of the file, are the enrolment; the speaker's others are the test.

    Parameters
    ----------
    utterances : list of Utterance
        From `utterances`, with their checksums (`speechgmm.manifest_check.describe`).
    min_files : int
        Speakers with fewer different files are the background.
    n_enrol : int
        Less than `min_files`.

    Returns
    -------
    list of Utterance
        With split "background", "enrol" or "test", in the order given.

    Raises
    ------
    InputError
        If a checksum is missing, `n_enrol` leaves nothing to test, no speaker has `min_files` files or all have.
    """
    if not 1 <= n_enrol < min_files:
        raise InputError(
            f"`n_enrol` is {n_enrol}; it must be 1 or more, and less than `min_files` = {min_files}, "
            "or a speaker has nothing to test"
        )
    first = _first_of_each_file(utterances)
    speakers = _speakers_with(first.values(), min_files)
    splits, seen = {}, Counter[str]()
    for checksum in sorted(first):
        speaker = first[checksum].labels["speaker"]
        seen[speaker] += 1
        part = "enrol" if seen[speaker] <= n_enrol else "test"
        splits[checksum] = part if speaker in speakers else "background"
    if "background" not in splits.values():
        raise InputError(
            f"every speaker has `min_files` = {min_files} files; none is left for the background"
        )
    return [replace(utterance, split=splits[checksum]) for checksum, utterance in first.items()]


def phone_utterances(folder: str | Path, phones: str | Path | None = None) -> list[Utterance]:
    """List the words whose phones are known, with segments "phones" and "words".

    Parameters
    ----------
    folder : str or Path
        Of the test archive.
    phones : str or Path, optional
        A table of labels, with paths from that folder; `phones.tsv` in it by default. It is not a part of the
        corpus, but made by forced alignment; words that it takes for nothing but silence are left out.

    Returns
    -------
    list of Utterance
        As `utterances` lists them.

    Raises
    ------
    InputError, FormatError
        As `utterances` does, and if the table cannot be read or knows none of the words.
    """
    folder = Path(folder)
    table = folder / "phones.tsv" if phones is None else Path(phones)
    labels = read_labels(table, "tsv")
    spoken = {
        path: tiers
        for path, tiers in labels.items()
        if any(segment.label not in SILENCES for segment in tiers["phones"])
    }
    paths = [(one, one.audio.relative_to(folder).as_posix()) for one in utterances(folder)]
    found = [replace(one, segments=spoken[path]) for one, path in paths if path in spoken]
    if not found:
        raise InputError(
            f"{table}: has the phones of none of the words; its paths start like {min(labels)!r}"
        )
    return found


def phone_split(utterances: Iterable[Utterance]) -> list[Utterance]:
    """The parts for phone and word recognition, tested on speakers who were not trained on.

    Of the speakers, in the order of the sha256 of their names, the first 70 % (rounded down) are the training
    part, those up to 80 % the development part, the others the test part. Recordings that are the same file,
    byte by byte, are kept once: the first.

    Parameters
    ----------
    utterances : iterable of Utterance
        From `phone_utterances`, with their checksums (`speechgmm.manifest_check.describe`).

    Returns
    -------
    list of Utterance
        With split "train", "dev" or "test", in the order given.

    Raises
    ------
    InputError
        If a checksum is missing, or there are fewer than five speakers.
    """
    first = _first_of_each_file(utterances)
    speakers = sorted({one.labels["speaker"] for one in first.values()}, key=sha256_of_text)
    if len(speakers) < 5:
        raise InputError(f"there are {len(speakers)} speakers; three parts of them need 5 or more")
    n_train, n_known = 7 * len(speakers) // 10, 8 * len(speakers) // 10
    splits = dict.fromkeys(speakers[:n_train], "train") | dict.fromkeys(speakers[n_train:n_known], "dev")
    return [replace(one, split=splits.get(one.labels["speaker"], "test")) for one in first.values()]


def _first_of_each_file(utterances: Iterable[Utterance]) -> dict[str, Utterance]:
    """Utterances by their checksums; of those of the same file, the first."""
    first: dict[str, Utterance] = {}
    for utterance in utterances:
        if utterance.sha256 is None:
            raise InputError(f"utterance {utterance.id!r} has no sha256, which decides the split")
        first.setdefault(utterance.sha256, utterance)
    return first


def _speakers_with(utterances: Iterable[Utterance], min_files: int) -> set[str]:
    counts = Counter(utterance.labels["speaker"] for utterance in utterances)
    most = max(counts.values(), default=0)
    if most < min_files:
        raise InputError(f"no speaker has `min_files` = {min_files} files; the most is {most}")
    return {speaker for speaker, count in counts.items() if count >= min_files}


def _paths(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.glob("*/*.wav")):
        noise = path.parent.name.startswith("_") and path.parent.name != UNKNOWN
        if not noise and not path.name.startswith("."):
            yield path


def _official_splits(folder: Path) -> dict[str, str]:
    """Split of every file that the whole corpus's lists name, as `<word>/<file>`."""
    splits = {}
    for split, name in OFFICIAL_LISTS.items():
        if (folder / name).is_file():
            splits.update(dict.fromkeys((folder / name).read_text("utf-8").split(), split))
    return splits


def _utterance(path: Path, splits: dict[str, str]) -> Utterance:
    match = FILE_NAME.fullmatch(path.name)
    unknown = path.parent.name == UNKNOWN
    if match is None or (match["word"] is not None) != unknown:
        pattern = "bed_0a1b2c3d_nohash_0.wav.wav" if unknown else "0a1b2c3d_nohash_0.wav"
        raise FormatError(f"{path}: expected a name like {pattern}")
    word, speaker, take = match["word"] or path.parent.name, match["speaker"], match["take"]
    return Utterance(
        id=f"{word}_{speaker}_{take}",
        audio=path,
        labels={"word": word, "speaker": speaker, "take": take},
        split=splits.get(f"{word}/{path.name}", "train") if splits else None,
    )
