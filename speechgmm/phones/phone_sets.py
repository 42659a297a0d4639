"""Phone sets, what is known of their phones, and the maps that fold one set into a smaller one.

Sets
----
timit61
    TIMIT's own labels: the closure of a stop (`pcl`) and its release (`p`) are two segments; `h#` is the silence
    at the ends of an utterance, `pau` a pause, `epi` the short silence that may follow a fricative, `q` the
    glottal stop.
timit48, timit39
    The sets of Lee and Hon, in which models are usually trained and results reported. In 48, closures are
    `cl` or `vcl` (voiced) and silences `sil`; in 39, all of those and `epi` are `sil`, and pairs that are hard to
    tell apart are one: `aa` and `ao`, `ah` and `ax`, `ih` and `ix`, `l` and `el`, `n` and `en`, `sh` and `zh`.
    `q` is dropped. 39 counts `sil`. Some tools report with neighbouring `sil` as one, as `labels.mapped` gives
    them, others with each closure and pause counted.
arpabet
    The 39 phones of the CMU dictionary without stress, and the silence `SIL`.
arpabet_stress
    The same with the stress of each vowel: `AH0` without, `AH1` primary, `AH2` secondary.

References
----------
Lee, Hon (1989), IEEE Transactions on Acoustics, Speech, and Signal Processing 37, 1641-1648, table II.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

from speechgmm.errors import InputError
from speechgmm.utterance import quoted

PhoneMap = Mapping[str, str | None]

# Each set folds into the next; the two steps of ARPAbet only rename, or drop the stress.
_CHAIN = ("arpabet_stress", "arpabet", "timit61", "timit48", "timit39")
_STRESSED = re.compile("[A-Z]+[012]")
# Two vowels have signs of their own where they are without stress.
_UNSTRESSED_IPA = {"AH0": "ə", "ER0": "ɚ"}


@dataclass(frozen=True)
class PhoneSet:
    """The phones that a model or a transcript may use.

    Attributes
    ----------
    name : str
    phones : tuple of str
        All of them, silences included, vowels first.
    silences : tuple of str
        Those that are no speech. Closures are not among them: they are parts of stops.
    manner : mapping of str to str
        Class of each phone: vowel, diphthong, approximant, nasal, flap, stop, closure, fricative, affricate or
        silence.
    voiced : frozenset of str
        The phones in which the vocal folds vibrate.
    ipa : mapping of str to str
        Signs of the International Phonetic Alphabet, where there is one.

    Raises
    ------
    InputError
        If phones repeat, are without a class, or the other attributes name phones that are not in the set.
    """

    name: str
    phones: tuple[str, ...]
    silences: tuple[str, ...]
    manner: Mapping[str, str] = field(hash=False)
    voiced: frozenset[str] = frozenset()
    ipa: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if repeated := {phone for phone in self.phones if self.phones.count(phone) > 1}:
            raise InputError(f"phone set {self.name!r} has {quoted(repeated)} more than once")
        for what in ("silences", "manner", "voiced", "ipa"):
            if unknown := set(getattr(self, what)) - set(self.phones):
                raise InputError(
                    f"phone set {self.name!r}: `{what}` names {quoted(unknown)}, not among its phones"
                )
        if without := set(self.phones) - set(self.manner):
            raise InputError(f"phone set {self.name!r}: `manner` has no class for {quoted(without)}")

    @property
    def speech(self) -> tuple[str, ...]:
        """The phones without the silences."""
        return tuple(phone for phone in self.phones if phone not in self.silences)


@cache
def phone_set(name: str) -> PhoneSet:
    """A phone set by name.

    Parameters
    ----------
    name : {"timit61", "timit48", "timit39", "arpabet", "arpabet_stress"}
        TIMIT's own labels, the two sets of Lee and Hon that they are folded into, or the 39 phones of the CMU
        dictionary and a silence, without stress or with it.

    Raises
    ------
    InputError
        If there is no set of that name.
    """
    _require_set(name)
    if name == "arpabet_stress":
        return _with_stress(phone_set("arpabet"))
    rows = _table("arpabet" if name == "arpabet" else "timit")
    phones = tuple(dict.fromkeys(row[name] for row in rows if row[name]))
    # A folded phone keeps the properties of the one that has its name.
    own = {row[name if name == "arpabet" else "timit61"] or row["timit48"]: row for row in rows}
    return PhoneSet(
        name,
        phones,
        tuple(phone for phone in phones if own[phone]["manner"] == "silence"),
        {phone: own[phone]["manner"] for phone in phones},
        frozenset(phone for phone in phones if own[phone]["voiced"] == "yes"),
        {phone: own[phone]["ipa"] for phone in phones if own[phone]["ipa"]},
    )


def _with_stress(plain: PhoneSet) -> PhoneSet:
    """The set with three of every vowel."""
    bare = {
        f"{phone}{stress}": phone
        for phone in plain.phones
        for stress in ("012" if plain.manner[phone] in ("vowel", "diphthong") else ("",))
    }
    return PhoneSet(
        "arpabet_stress",
        tuple(bare),
        plain.silences,
        {phone: plain.manner[base] for phone, base in bare.items()},
        frozenset(phone for phone, base in bare.items() if base in plain.voiced),
        {phone: plain.ipa[base] for phone, base in bare.items() if base in plain.ipa} | _UNSTRESSED_IPA,
    )


@cache
def _table(name: str) -> tuple[dict[str, str], ...]:
    """The rows of a table that comes with the package, by column."""
    text = (files("speechgmm.phones") / "data" / f"{name}.tsv").read_text("utf-8")
    header, *lines = text.splitlines()
    return tuple(dict(zip(header.split("\t"), line.split("\t"), strict=True)) for line in lines)


def _require_set(name: str) -> None:
    if name not in _CHAIN:
        raise InputError(f"no phone set {name!r}; there are {quoted(_CHAIN)}")


def phone_map(source: str, target: str) -> PhoneMap:
    """What each phone of one set is in another.

    Parameters
    ----------
    source, target : str
        Names of sets. Folding goes one way: arpabet_stress, arpabet, timit61, timit48, timit39. A set maps to
        itself, too.

    Returns
    -------
    mapping of str to str or None
        None for a phone that is dropped: `q`, in the maps from timit61.

    Raises
    ------
    InputError
        If there is no set of such a name, or none of the folds leads from `source` to `target`.
    """
    for name in (source, target):
        _require_set(name)
    first, last = _CHAIN.index(source), _CHAIN.index(target)
    if first > last:
        raise InputError(
            f"phone set {source!r} does not fold into {target!r}; each of {', '.join(_CHAIN)} folds into those after it"
        )
    folded: dict[str, str | None] = {phone: phone for phone in phone_set(source).phones}
    for step in range(first, last):
        fold = _fold(_CHAIN[step], _CHAIN[step + 1])
        folded = {phone: None if now is None else fold[now] for phone, now in folded.items()}
    return folded


def _fold(source: str, target: str) -> PhoneMap:
    """One step of the chain."""
    if source == "arpabet_stress":
        return {phone: stressless(phone) for phone in phone_set(source).phones}
    rows = _table("arpabet" if source == "arpabet" else "timit")
    return {row[source]: row[target] or None for row in rows if row[source]}


def map_phones(phones: Iterable[str], mapping: PhoneMap) -> list[str]:
    """Phones of one set as those of another, without the dropped ones.

    Parameters
    ----------
    phones : iterable of str
    mapping : mapping of str to str or None
        Such as `phone_map("timit61", "timit39")`; None drops a phone. Silences that come to be neighbours stay
        two: see `labels.mapped` for segments.

    Raises
    ------
    InputError
        If phones are not in the mapping; lists them.
    """
    phones = list(phones)
    require_known(phones, mapping)
    return [folded for phone in phones if (folded := mapping[phone]) is not None]


def require_known(phones: Iterable[str], known: Collection[str]) -> None:
    """Raise `InputError` where phones are not among the known ones; lists both."""
    if unknown := set(phones) - set(known):
        cause = ""
        if {phone.upper() for phone in unknown} & set(known) or {p.lower() for p in unknown} & set(known):
            cause = " (upper and lower case differ)"
        elif {stressless(phone) for phone in unknown} & set(known):
            cause = " (with the stress taken off they would be)"
        raise InputError(f"unknown phones {quoted(unknown)}{cause}; known are {quoted(known, limit=70)}")


def stressless(phone: str) -> str:
    """A phone of the CMU dictionary without its stress: "AH0" gives "AH"; other labels stay as they are."""
    return phone[:-1] if _STRESSED.fullmatch(phone) else phone
