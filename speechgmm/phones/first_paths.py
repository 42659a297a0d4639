"""Where the training of HMMs begins: frames divided evenly over states."""

from collections.abc import Sequence

import numpy as np

from speechgmm.phones.graph import Graph
from speechgmm.phones.occupied_frames import Aligned
from speechgmm.phones.passes import AlignmentError, Path, even_path

Times = Sequence[tuple[int, int]]


def first_paths(
    utterances: Sequence[Aligned], times: Sequence[Times | None] | None = None
) -> list[Path | AlignmentError]:
    """Where training begins: the frames of every step, where they are known, divided evenly over its states; otherwise
    all frames of an utterance over all states."""
    paths: list[Path | AlignmentError] = []
    for (frames, graph), own in zip(utterances, times or [None] * len(utterances), strict=True):
        try:
            paths.append(
                even_path(graph, len(frames)) if own is None else timed_path(graph, own, len(frames))
            )
        except AlignmentError as error:
            paths.append(error)
    return paths


def timed_path(graph: Graph, times: Times, n_frames: int) -> Path:
    """The path that divides the frames of each step evenly over the states of its unit.

    Raises
    ------
    AlignmentError
        If times are not those of the steps one after the other, or frames are missing.
    """
    if len(times) != len(graph.occurrences):
        raise AlignmentError(
            f"there are times of {len(times)} units, and {len(graph.occurrences)} in the transcript"
        )
    edges = [0, *(stop for _, stop in times[:-1]), n_frames]
    if sorted(edges) != edges:
        raise AlignmentError("the times of its units are not in order, or reach beyond its frames")
    firsts = np.searchsorted(graph.owners, np.arange(len(times) + 1))
    states = [
        first + np.arange(stop - start) * (last - first) // max(stop - start, 1)
        for first, last, start, stop in zip(firsts[:-1], firsts[1:], edges[:-1], edges[1:], strict=True)
    ]
    return Path(0.0, np.concatenate(states).astype(np.int32))
