"""Divide a manifest into sides, such as train and test, that share no speaker, session or file."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from warnings import warn

from speechgmm.errors import InputError, SpeechGMMWarning
from speechgmm.files import sha256_of_text
from speechgmm.manifest import Utterance, quoted

_DEFAULT_FRACTIONS = MappingProxyType({"train": 0.8, "test": 0.2})


def split(
    utterances: Iterable[Utterance],
    by: str,
    fractions: Mapping[str, float] = _DEFAULT_FRACTIONS,
    within: str | None = None,
    seed: int = 0,
) -> list[Utterance]:
    """Divide utterances into sides, such as train and test, with no leak between them.

    A group is all utterances with the same value of the label `by`; it lands on one side as a whole. Groups
    are taken in the order of the SHA-256 of `f"{seed}\n{group}"`, so the result depends on their names alone,
    not on the order of the utterances. Fractions are of groups, rounded to whole ones, at least one a side.

    Parameters
    ----------
    utterances : iterable of Utterance
        What `split` they have is replaced.
    by : str
        A label that every utterance has: "speaker" for sides that share no speaker. "id" stands for the
        utterance itself, where there is nothing that must stay together.
    fractions : mapping of str to float
        The share of each side; two sides or more, which sum to 1.
    within : str, optional
        Divide the groups of each value of this label on their own: by="session", within="speaker" has every
        speaker on every side. A group is then one session of one speaker (`f"{seed}\n{speaker}\n{session}"`).
        A speaker with fewer sessions than there are sides goes to the largest sides, with one warning.
    seed : int

    Returns
    -------
    list of Utterance
        In the order given.

    Raises
    ------
    InputError
        If a label is missing, a side would be empty, or one audio file holds utterances of several groups,
        whichever side these would land on: cut such a file, or divide by a label that its utterances share.
    """
    utterances = list(utterances)
    if len(fractions) < 2 or not (
        min(fractions.values()) > 0 and math.isclose(sum(fractions.values()), 1, abs_tol=1e-6)
    ):
        raise InputError(f"`fractions` is {dict(fractions)}; it must be two or more, above 0, with the sum 1")
    labels = (by,) if within is None else (within, by)
    groups = [tuple(_value(utterance, name) for name in labels) for utterance in utterances]
    _refuse_shared_files(utterances, groups)
    sides = _divide(set(groups), fractions, labels, seed)
    return [
        replace(utterance, split=sides[group]) for utterance, group in zip(utterances, groups, strict=True)
    ]


def _value(utterance: Utterance, name: str) -> str:
    return utterance.id if name == "id" and name not in utterance.labels else utterance.label(name)


def _refuse_shared_files(utterances: Sequence[Utterance], groups: Sequence[tuple[str, ...]]) -> None:
    owners: dict[str, tuple[Utterance, tuple[str, ...]]] = {}
    for utterance, group in zip(utterances, groups, strict=True):
        first, owner = owners.setdefault(os.path.abspath(utterance.audio), (utterance, group))
        if owner != group:
            raise InputError(
                f"utterances {first.id!r} and {utterance.id!r} are in one audio file, {utterance.audio}, but "
                f"in different groups, {' '.join(owner)!r} and {' '.join(group)!r}: the file could land on "
                "two sides; cut it, or split by a label that all its utterances share"
            )


def _divide(
    groups: set[tuple[str, ...]], fractions: Mapping[str, float], labels: tuple[str, ...], seed: int
) -> dict[tuple[str, ...], str]:
    """The side of each group; `labels` are the names of a group's parts."""
    order = sorted(fractions, key=lambda side: (-fractions[side], side))
    strata: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for group in sorted(groups, key=lambda group: sha256_of_text("\n".join([str(seed), *group]))):
        strata.setdefault(group[:-1], []).append(group)
    sides: dict[tuple[str, ...], str] = {}
    for members in strata.values():
        counts = _shares(len(members), fractions, order)
        taken = [side for side in order for _ in range(counts[side])]
        sides.update(zip(members, taken, strict=True))
    if empty := set(order) - set(sides.values()):
        most = max(map(len, strata.values()), default=0)
        where = f", at most {most} for one {labels[0]}" if labels[1:] else ""
        raise InputError(
            f"nothing is left for {quoted(empty)}: there are {len(groups)} groups by {labels[-1]!r}{where}, "
            f"and each of the {len(order)} sides needs one"
        )
    if short := [members[0][0] for members in strata.values() if len(members) < len(order)]:
        warn(
            f"{len(short)} of {len(strata)} values of {labels[0]!r} have fewer groups by {labels[-1]!r} than "
            f"there are sides, so they are not on every side: {quoted(short)}",
            SpeechGMMWarning,
            stacklevel=3,
        )
    return sides


def _shares(n_groups: int, fractions: Mapping[str, float], order: Sequence[str]) -> dict[str, int]:
    """How many groups each side gets: one each while they last, then one at a time where most are due."""
    counts = {side: int(rank < n_groups) for rank, side in enumerate(order)}
    for _ in range(n_groups - sum(counts.values())):
        counts[max(order, key=lambda side: fractions[side] * n_groups - counts[side])] += 1
    return counts
