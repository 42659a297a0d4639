"""TIMIT: 630 speakers of eight dialects of American English, ten sentences each, 16 kHz, phones marked by hand.

Given out by the Linguistic Data Consortium against a licence; never downloaded. Two of the sentences (SA) are
the same for everybody, so that results on phones leave them out; `phone_split` has the usual parts.

References
----------
Garofolo, Lamel, Fisher, Fiscus, Pallett, Dahlgren, Zue (1993), TIMIT acoustic-phonetic continuous speech
corpus, LDC93S1, DOI 10.35111/17gk-bn40. The core test part is its documentation's.
Halberstadt (1998), Heterogeneous acoustic measurements and multiple classifiers for speech recognition, PhD
thesis, MIT: the development part, which the recipes of Kaldi and SpeechBrain use too.
"""

import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from speechgmm.corpora.locate import Corpus
from speechgmm.errors import FormatError, InputError, SpeechGMMWarning
from speechgmm.manifest import Segment, Utterance, quoted, read_text
from speechgmm.phones.label_files import read_labels

CORPUS = Corpus(
    name="timit",
    folder="TIMIT",
    archive=None,
    licence="LDC User Agreement",
    example="TRAIN/DR1/FCJF0/SA1.WAV",
    page="https://catalog.ldc.upenn.edu/LDC93S1",
)
# Two men and a woman of each dialect, DR1 to DR8.
_CORE_TEST = """
MDAB0 MWBT0 FELC0   MTAS1 MWEW0 FPAS0   MJMP0 MLNT0 FPKT0   MLLL0 MTLS0 FJLM0
MBPM0 MKLT0 FNLP0   MCMJ0 MJDH0 FMGD0   MGRT0 MNJM0 FDHC0   MJLN0 MPAM0 FMLD0
"""
_DEV = """
FADG0 FAKS0 FCAL1 FCMH0 FDAC1 FDMS0 FDRW0 FEDW0 FGJD0 FJEM0 FJMG0 FJSJ0 FKMS0 FMAH0 FMML0 FNMR0 FREW0 FSEM0
MAJC0 MBDG0 MBNS0 MBWM0 MCSH0 MDLF0 MDLS0 MDVC0 MERS0 MGJF0 MGLB0 MGWT0 MJAR0 MJFC0 MJSW0 MMDB1 MMDM2 MMJR0
MMWH0 MPDF0 MRCS0 MREB0 MRJM4 MRJR0 MROA0 MRTK0 MRWS1 MTAA0 MTDT0 MTEB0 MTHC0 MWJG0
"""
CORE_TEST_SPEAKERS = frozenset(_CORE_TEST.split())
DEV_SPEAKERS = frozenset(_DEV.split())
# Of the sentences of each part.
OFFICIAL_COUNTS = {"train": 3696, "dev": 400, "test": 192}

# Copies of the corpus have names in upper or lower case, and some hold RIFF files beside the originals,
# whose names go on after the first suffix.
AUDIO_NAME = re.compile(r"(?P<sentence>(?P<type>S[AIX])[0-9]+)\.WAV(?:\.WAV)?", re.IGNORECASE)
SPEAKER = re.compile(r"[FM][A-Z]{3}[0-9]")
DIALECT = re.compile(r"DR[1-8]")
PLACE = "TRAIN/DR1/FCJF0/SA1.WAV: part, dialect, speaker, sentence"
# The first and last sample stand before the sentence.
TEXT = re.compile(r"\s*[0-9]+\s+[0-9]+\s+(?P<text>\S.*?)\s*")


def utterances(folder: str | Path) -> list[Utterance]:
    """List the sentences with labels `speaker`, `gender`, `dialect`, `sentence`, `type` and `text`.

    Parameters
    ----------
    folder : str or Path
        The corpus's folder, which holds `TRAIN/` and `TEST/`, or a folder `TIMIT/` that does; names in upper or
        lower case. Audio is NIST SPHERE, as it was given out, or RIFF, also as `SA1.WAV.wav`, which comes second
        where both are there.

    Returns
    -------
    list of Utterance
        In the order of their ids, such as `FCJF0_SX127`: everything from names is in upper case, whatever the case
        of the files, but the gender, `f` or `m`. The split is that of the folders, "train" or "test". Segments
        "phones" (61 phones) and "words" are in seconds; where two words share a phone, each has half of it.
        A sentence without `.TXT` has no text, one without `.PHN` or `.WRD` no such segments.

    Raises
    ------
    InputError
        If there are no sentences.
    FormatError
        If a file is in another place than `<part>/<dialect>/<speaker>/`, or labels are malformed.
    """
    top = _top(Path(folder))
    found: dict[str, Utterance] = {}
    for path in _audio(top):
        utterance = _utterance(path, top)
        # The name of the original is the shorter one, and comes first.
        found.setdefault(utterance.id, utterance)
    if not found:
        raise InputError(f"{folder}: no sentences ({PLACE}); is it the folder of TIMIT?")
    labels = _labels(top)
    return [
        replace(one, segments=labels.get(_place(one.audio, one.labels["sentence"], top), {}))
        for _, one in sorted(found.items())
    ]


def phone_split(utterances: Iterable[Utterance]) -> list[Utterance]:
    """The usual parts for phone recognition, without the sentences that everybody says (SA).

    All speakers of the training folder (462, with 3696 sentences) are the training part; of the others, 50 are the
    development part (400 sentences) and 24 the core test part (192 sentences).

    Parameters
    ----------
    utterances : iterable of Utterance
        From `utterances`.

    Returns
    -------
    list of Utterance
        With split "train", "dev" or "test", in the order given.

    Raises
    ------
    InputError
        If a part is empty.

    Warns
    -----
    SpeechGMMWarning
        If a part has not as many sentences as the corpus: results are not those of the usual parts.
    """
    parts = [(one, _part(one)) for one in utterances if one.label("type") != "SA"]
    chosen = [replace(one, split=part) for one, part in parts if part is not None]
    counts = Counter(one.split for one in chosen)
    if missing := OFFICIAL_COUNTS.keys() - counts.keys():
        raise InputError(f"no sentences of the speakers for {quoted(missing)}; is the corpus complete?")
    if other := [part for part, count in OFFICIAL_COUNTS.items() if counts[part] != count]:
        numbers = ", ".join(
            f"{counts[part]} instead of {OFFICIAL_COUNTS[part]} for {part!r}" for part in other
        )
        warnings.warn(f"TIMIT is not complete: {numbers} sentences", SpeechGMMWarning, stacklevel=2)
    return chosen


def _labels(top: Path) -> Mapping[str, Mapping[str, Sequence[Segment]]]:
    """Segments of the sentences by their places in upper case; none where there are no such files."""
    if not any(path.suffix.upper() in (".PHN", ".WRD") for path in _files(top)):
        return {}
    return {name.upper(): tiers for name, tiers in read_labels(top, "timit").items()}


def _place(path: Path, sentence: str, top: Path) -> str:
    """Of the files of a sentence, without suffix: `TRAIN/DR1/FCJF0/SA1`."""
    return path.with_name(sentence).relative_to(top).as_posix().upper()


def _part(utterance: Utterance) -> str | None:
    if utterance.split == "train":
        return "train"
    speaker = utterance.label("speaker")
    return "test" if speaker in CORE_TEST_SPEAKERS else "dev" if speaker in DEV_SPEAKERS else None


def _top(folder: Path) -> Path:
    """The folder that holds TRAIN/ and TEST/: the one given, or one named TIMIT in it."""
    below = [path for path in sorted(folder.glob("*/")) if path.name.upper() == "TIMIT"]
    parts = [path for path in folder.glob("*/") if path.name.upper() in ("TRAIN", "TEST")]
    return below[0] if below and not parts else folder


def _files(top: Path) -> Iterator[Path]:
    """What lies in TRAIN/ and TEST/, in order."""
    for part in sorted(top.glob("*/")):
        if part.name.upper() in ("TRAIN", "TEST"):
            yield from sorted(path for path in part.rglob("*") if not path.name.startswith("."))


def _audio(top: Path) -> Iterator[Path]:
    return (path for path in _files(top) if path.suffix.upper() == ".WAV")


def _utterance(path: Path, top: Path) -> Utterance:
    match = AUDIO_NAME.fullmatch(path.name)
    part, *middle = (name.upper() for name in path.parent.relative_to(top).parts)
    if not match or len(middle) != 2 or not DIALECT.fullmatch(middle[0]) or not SPEAKER.fullmatch(middle[1]):
        raise FormatError(f"{path}: expected a place like {PLACE}")
    dialect, speaker = middle
    labels = {"speaker": speaker, "gender": speaker[0].lower(), "dialect": dialect}
    labels |= {name: text.upper() for name, text in match.groupdict().items()}
    labels |= _text(path, match["sentence"])
    return Utterance(f"{speaker}_{labels['sentence']}", path, labels=labels, split=part.lower())


def _text(path: Path, sentence: str) -> dict[str, str]:
    """The label `text` of the sentence beside an audio file; nothing where there is no such file."""
    for suffix in (".TXT", ".txt"):
        file = path.with_name(sentence + suffix)
        if file.is_file():
            content = read_text(file)
            match = TEXT.fullmatch(content)
            if match is None:
                raise FormatError(
                    f"{file}: is {content[:80]!r}; expected the first and last sample, then what is said"
                )
            return {"text": match["text"]}
    return {}
