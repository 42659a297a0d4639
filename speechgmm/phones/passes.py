"""An utterance against the graph of what was said in it: likelihood, posteriors of states, the best path."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from speechgmm.em.coordinates import Float32s, Float64s, require_finite
from speechgmm.errors import InputError
from speechgmm.phones.graph import Graph, Int32s
from speechgmm.phones.hmm import HmmSet

# States whose forward score lies so many nats below the best one of their frame are given up.
BEAM = 250.0
# Where no path is left in the beam, all states of all frames are kept, if they are not more than these: 2 GB.
MOST_KEPT = 2**28
# Posteriors of states below this count for nothing.
LEAST_POSTERIOR = 1e-6


class AlignmentError(InputError):
    """An utterance cannot be what its transcript says."""


@dataclass(frozen=True, eq=False)
class Occupancy:
    """Which mixture explains which frame, and how probably.

    Parameters
    ----------
    log_likelihood : float
        Of the whole utterance, natural log; of the best path alone where that is all that counts.
    rows, pdfs : (n_entries,) int32
        Numbers of frames and mixtures.
    weights : (n_entries,) float32
        Posteriors.
    stays : (n_mixtures,) float64
        How often the states of each mixture were stayed in.
    """

    log_likelihood: float
    rows: Int32s
    pdfs: Int32s
    weights: Float32s
    stays: Float64s


class Path(NamedTuple):
    """The most probable states of an utterance.

    Parameters
    ----------
    score : float
        Log-likelihood of frames and path together, natural log.
    states : (n_frames,) int32
        Numbers of states of the graph.
    """

    score: float
    states: Int32s


def log_likelihoods(hmms: HmmSet, frames: NDArray[np.floating[Any]]) -> Float32s:
    """Of each frame under each mixture, (n_frames, n_mixtures).

    Raises
    ------
    InputError
        If shapes disagree, or a value is not finite.
    """
    if frames.ndim != 2 or frames.shape[1] != hmms.n_features:
        raise InputError(
            f"`frames` is of shape {frames.shape}; the HMMs need (n_frames, {hmms.n_features}) "
            "(deltas missing, or other settings?)"
        )
    require_finite(frames)
    return hmms.emissions.log_likelihoods(frames)


def occupancy(hmms: HmmSet, graph: Graph, scores: Float32s, beam: float = BEAM) -> Occupancy:
    """Posteriors of states by the forward-backward algorithm.

    Parameters
    ----------
    hmms : HmmSet
    graph : Graph
        As `compose` makes it of the same HMMs.
    scores : (n_frames, n_mixtures) float32
        From `log_likelihoods`.
    beam : float
        States further behind the best one of their frame are given up, in nats; infinity keeps all.

    Raises
    ------
    AlignmentError
        If the utterance is too short for what it says, or no path has a likelihood, or none is left in the beam and the
        utterance is too long to go without one.

    References
    ----------
    Rabiner (1989), A tutorial on hidden Markov models, Proc. IEEE 77, equations 19 to 27 and 40.
    """
    _require_frames(graph, scores)
    for width in _widths(beam, graph, scores):
        stays = np.zeros(len(hmms.mixtures))
        total, rows, pdfs, weights = _kernels().forward_backward(
            scores, *_arcs(hmms, graph), _finite(width), LEAST_POSTERIOR, stays
        )
        if total > _kernels().NO_PATH:
            return Occupancy(total, rows, pdfs, weights, stays)
    raise _no_path(beam, graph, scores)


def best_path(hmms: HmmSet, graph: Graph, scores: Float32s, beam: float = BEAM) -> Path:
    """The most probable states by the Viterbi algorithm; arguments and errors as of `occupancy`.

    References
    ----------
    Rabiner (1989), A tutorial on hidden Markov models, Proc. IEEE 77, equations 32 to 35.
    """
    _require_frames(graph, scores)
    states = np.empty(len(scores), np.int32)
    for width in _widths(beam, graph, scores):
        total = _kernels().viterbi(scores, *_arcs(hmms, graph), _finite(width), states)
        if total > _kernels().NO_PATH:
            return Path(total, states)
    raise _no_path(beam, graph, scores)


def path_occupancy(hmms: HmmSet, graph: Graph, path: Path) -> Occupancy:
    """The occupancy in which the path has all the probability."""
    pdfs = graph.pdfs[path.states]
    stayed = path.states[1:] == path.states[:-1]
    return Occupancy(
        log_likelihood=path.score,
        rows=np.arange(len(pdfs), dtype=np.int32),
        pdfs=pdfs,
        weights=np.ones(len(pdfs), np.float32),
        stays=np.bincount(pdfs[1:][stayed], minlength=len(hmms.mixtures)).astype(np.float64),
    )


def even_path(graph: Graph, n_frames: int) -> Path:
    """A path that gives each state of the shortest way through as many frames: where a flat start begins.

    Raises
    ------
    AlignmentError
        If there are more states than frames.
    """
    states = _shortest_way(graph)
    if len(states) > n_frames:
        raise _too_short(n_frames, len(states))
    return Path(0.0, states[np.arange(n_frames) * len(states) // n_frames])


def _shortest_way(graph: Graph) -> Int32s:
    """The states of the way through with the fewest states; the first of several."""
    n_states = len(graph.pdfs)
    lengths, origins = np.full(n_states, n_states + 1), np.full(n_states, -1)
    for state in range(n_states):
        sources = graph.sources[graph.starts[state] : graph.starts[state + 1]]
        if np.isfinite(graph.entries[state]):
            lengths[state] = 1
        elif sources.size:
            origins[state] = sources[np.argmin(lengths[sources])]
            lengths[state] = 1 + lengths[origins[state]]
    state = int(np.argmin(np.where(np.isfinite(graph.exits), lengths, n_states + 2)))
    way = []
    while state >= 0:
        way.append(state)
        state = int(origins[state])
    return np.array(way[::-1], np.int32)


def _arcs(hmms: HmmSet, graph: Graph) -> tuple[Any, ...]:
    """The graph as compiled passes take it, with the probabilities that these HMMs give it."""
    leaves = hmms.log_leaves[graph.pdfs]
    never = _kernels().NEVER
    return (
        *(graph.pdfs, graph.starts, graph.sources),
        leaves[graph.sources] + graph.branches,
        hmms.log_stays[graph.pdfs],
        np.maximum(graph.entries, never),
        np.maximum(graph.exits + leaves, never),
    )


def _require_frames(graph: Graph, scores: Float32s) -> None:
    if len(scores) < graph.least_frames:
        raise _too_short(len(scores), graph.least_frames)


def _too_short(n_frames: int, least: int) -> AlignmentError:
    return AlignmentError(
        f"the utterance has {n_frames} frames, and what it should say needs {least} at least "
        "(cut off, or the transcript of another utterance?)"
    )


def _widths(beam: float, graph: Graph, scores: Float32s) -> tuple[float, ...]:
    """The beams to try, one after the other."""
    return (beam, np.inf) if len(scores) * len(graph.pdfs) <= MOST_KEPT else (beam,)


def _no_path(beam: float, graph: Graph, scores: Float32s) -> AlignmentError:
    if len(_widths(beam, graph, scores)) == 1:
        return AlignmentError(
            f"no path through {len(graph.pdfs)} states is left in a beam of {beam:g} nats, and {len(scores)} frames "
            "are too many to go without (the transcript of another utterance? Else cut it, or take a wider beam)"
        )
    return AlignmentError(
        "the frames are so unlike what the transcript says that no path has a likelihood (another utterance's?)"
    )


def _finite(beam: float) -> float:
    if not beam > 0:
        raise InputError(f"`beam` is {beam}; it must be more than 0 nats")
    return min(beam, 1e29)


def _kernels() -> Any:
    """The compiled passes, loaded when the first is made."""
    from speechgmm.phones import kernels_hmm

    return kernels_hmm
