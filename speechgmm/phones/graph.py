"""What may be said in an utterance, as a graph of HMM states: alternatives one after another."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from speechgmm.em.coordinates import Float64s
from speechgmm.errors import InputError
from speechgmm.phones.hmm import HmmSet

Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]


class Step(NamedTuple):
    """One place of a transcript: a word, a phone or a silence, in any of the ways it may be said.

    Parameters
    ----------
    alternatives : tuple of tuple of str
        Strings of units (phones) that may stand here, all as probable; an empty one lets the place be skipped.
    word : str
        What the alternatives pronounce; empty for silence, and where only phones are known.
    """

    alternatives: tuple[tuple[str, ...], ...]
    word: str = ""


class Occurrence(NamedTuple):
    """A unit at one place of a transcript."""

    unit: str
    step: int


Transcript = Sequence[Step]


def transcript_of(units: Iterable[str]) -> tuple[Step, ...]:
    """The transcript in which exactly these units follow one another."""
    return tuple(Step(((unit,),)) for unit in units)


@dataclass(frozen=True, eq=False)
class Graph:
    """States of an utterance, every one numbered higher than all that can come before it.

    Parameters
    ----------
    pdfs : (n_states,) int32
        The mixture of each state.
    starts : (n_states + 1,) int64
        Where the arcs into each state begin; arcs from other states, in rising order of those.
    sources : (n_arcs,) int32
        The state that an arc comes from.
    branches : (n_arcs,) float64
        Log-probability of taking it when its source is left.
    entries, exits : (n_states,) float64
        Log-probability of beginning in a state, and of ending when it is left; -inf where that cannot be.
    owners : (n_states,) int32
        The number of the occurrence that each state belongs to.
    occurrences : tuple of Occurrence
    least_frames : int
        Of the shortest way through.
    """

    pdfs: Int32s
    starts: Int64s
    sources: Int32s
    branches: Float64s
    entries: Float64s
    exits: Float64s
    owners: Int32s
    occurrences: tuple[Occurrence, ...]
    least_frames: int


class _Builder:
    """A graph that grows place by place."""

    def __init__(self, hmms: HmmSet) -> None:
        self._hmms = hmms
        self._pdfs: list[int] = []
        self._arcs: list[list[tuple[int, float]]] = []
        self._entries: list[float] = []
        self._owners: list[int] = []
        self._lengths: list[int] = []
        self._occurrences: list[Occurrence] = []
        # States that what comes next follows on, with the log-probability of getting there; -1: the beginning.
        self._ends: list[tuple[int, float]] = [(-1, 0.0)]

    def add(self, number: int, step: Step) -> None:
        """Let one of a place's alternatives follow what is there."""
        if not step.alternatives:
            raise InputError(
                f"place {number + 1} of a transcript ({step.word!r}) has nothing that may stand there"
            )
        alternatives = tuple(dict.fromkeys(step.alternatives))
        share = -float(np.log(len(alternatives)))
        before = [(state, weight + share) for state, weight in self._ends]
        self._ends = []
        for units in alternatives:
            ends = before
            for unit in units:
                ends = self._add_unit(Occurrence(unit, number), ends)
            self._ends += ends

    def _add_unit(self, occurrence: Occurrence, ends: list[tuple[int, float]]) -> list[tuple[int, float]]:
        for place, pdf in enumerate(self._hmms.states_of(occurrence.unit)):
            state = len(self._pdfs)
            into = ends if place == 0 else [(state - 1, 0.0)]
            self._pdfs.append(pdf)
            self._owners.append(len(self._occurrences))
            self._arcs.append([arc for arc in into if arc[0] >= 0])
            begins = [weight for source, weight in into if source < 0]
            self._entries.append(begins[0] if begins else -np.inf)
            self._lengths.append(1 + min(self._lengths[source] if source >= 0 else 0 for source, _ in into))
        self._occurrences.append(occurrence)
        return [(state, 0.0)]

    def graph(self) -> Graph:
        """The graph, which ends with what was added last."""
        ends = [(state, weight) for state, weight in self._ends if state >= 0]
        if not ends:
            raise InputError("the transcript is empty (a label without text?)")
        exits = np.full(len(self._pdfs), -np.inf)
        for state, weight in ends:
            exits[state] = weight
        arcs = [arc for own in self._arcs for arc in sorted(own)]
        return Graph(
            pdfs=np.array(self._pdfs, np.int32),
            starts=np.cumsum([0, *map(len, self._arcs)], dtype=np.int64),
            sources=np.array([source for source, _ in arcs], np.int32),
            branches=np.array([weight for _, weight in arcs], np.float64),
            entries=np.array(self._entries),
            exits=exits,
            owners=np.array(self._owners, np.int32),
            occurrences=tuple(self._occurrences),
            least_frames=min(self._lengths[state] for state, _ in ends),
        )


def compose(hmms: HmmSet, transcript: Transcript) -> Graph:
    """The states of a transcript's units, joined as they may follow one another.

    Parameters
    ----------
    hmms : HmmSet
    transcript : sequence of Step

    Raises
    ------
    InputError
        If a unit has no HMM, or nothing may be said.
    """
    builder = _Builder(hmms)
    for number, step in enumerate(transcript):
        builder.add(number, step)
    return builder.graph()
