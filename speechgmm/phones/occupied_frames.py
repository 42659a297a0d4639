"""The frames of many utterances, sorted by the mixtures that explain them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np

from speechgmm.em.coordinates import Float32s, Float64s, Floats
from speechgmm.errors import InputError
from speechgmm.parallel import shard_map
from speechgmm.phones.graph import Graph, Int32s, Int64s
from speechgmm.phones.hmm import HmmSet
from speechgmm.phones.passes import (
    AlignmentError,
    Occupancy,
    Path,
    best_path,
    log_likelihoods,
    occupancy,
    path_occupancy,
)

# Frames that are held together with their posteriors; a pass over more goes through them in parts.
TOGETHER = 1 << 19

METHODS = ("viterbi", "baum_welch")
Result = TypeVar("Result")


class Aligned(NamedTuple):
    """An utterance and what may be said in it."""

    frames: Floats
    graph: Graph


@dataclass(frozen=True, eq=False)
class OccupiedFrames:
    """Frames, and for each mixture those that it explains.

    Parameters
    ----------
    frames : (n_frames, n_features)
        Of all utterances, one after the other.
    rows : (n_entries,) int64
        Numbers of frames, sorted by mixture.
    weights : (n_entries,) float64
        How much of each frame.
    starts : (n_mixtures + 1,) int64
        Where the entries of each mixture begin.
    """

    frames: Floats
    rows: Int64s
    weights: Float64s
    starts: Int64s

    @classmethod
    def of(cls, frames: Sequence[Floats], found: Sequence[Occupancy], n_mixtures: int) -> "OccupiedFrames":
        """Sort what was found in utterances."""
        offsets = np.cumsum([0, *map(len, frames)])
        rows = np.concatenate([one.rows + offset for one, offset in zip(found, offsets[:-1], strict=True)])
        pdfs = np.concatenate([one.pdfs for one in found])
        weights = np.concatenate([one.weights for one in found])
        order = np.argsort(pdfs, kind="stable")
        starts = np.searchsorted(pdfs[order], np.arange(n_mixtures + 1))
        return cls(np.concatenate(frames), rows[order], weights[order].astype(np.float64), starts)

    @property
    def pdfs(self) -> Int32s:
        """The mixture of each entry."""
        return np.repeat(np.arange(len(self.starts) - 1, dtype=np.int32), np.diff(self.starts))

    def of_mixture(self, number: int) -> tuple[Floats, Float64s]:
        """The frames that a mixture explains, and how much of each."""
        own = slice(self.starts[number], self.starts[number + 1])
        return self.frames[self.rows[own]], self.weights[own]


def find(
    hmms: HmmSet, utterances: Sequence[Aligned], method: str, beam: float, n_jobs: int = 1
) -> Iterator[Occupancy | AlignmentError]:
    """What explains each utterance, or why nothing does; computed in parallel, in the order given."""
    if method not in METHODS:
        raise InputError(f"`method` is {method!r}; it must be one of {', '.join(METHODS)}")

    def explain(graph: Graph, scores: Float32s) -> Occupancy:
        if method == "baum_welch":
            return occupancy(hmms, graph, scores, beam)
        return path_occupancy(hmms, graph, best_path(hmms, graph, scores, beam))

    return _attempts(explain, hmms, utterances, n_jobs)


def find_paths(
    hmms: HmmSet, utterances: Sequence[Aligned], beam: float, n_jobs: int = 1
) -> Iterator[Path | AlignmentError]:
    """The best path of each utterance, or why there is none."""
    return _attempts(partial(best_path, hmms, beam=beam), hmms, utterances, n_jobs)


def _attempts(
    function: Callable[[Graph, Float32s], Result], hmms: HmmSet, utterances: Sequence[Aligned], n_jobs: int
) -> Iterator[Result | AlignmentError]:
    """`function` of the graph and the scores of each utterance, or the error that it ended in."""

    def attempt(utterance: Aligned) -> Result | AlignmentError:
        try:
            return function(utterance.graph, log_likelihoods(hmms, utterance.frames))
        except AlignmentError as error:
            return error

    return shard_map(attempt, utterances, n_jobs)


def parts(utterances: Sequence[Aligned], n_frames: int = TOGETHER) -> Iterator[Sequence[Aligned]]:
    """Cut utterances into runs of at most so many frames, or of one utterance."""
    first, total = 0, 0
    for number, utterance in enumerate(utterances):
        if number > first and total + len(utterance.frames) > n_frames:
            yield utterances[first:number]
            first, total = number, 0
        total += len(utterance.frames)
    yield utterances[first:]
