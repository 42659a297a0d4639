"""Forced alignment: when each unit of a transcript is said."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from speechgmm.em.coordinates import Floats
from speechgmm.phones.graph import Step, compose
from speechgmm.phones.hmm import HmmSet
from speechgmm.phones.passes import BEAM, best_path, log_likelihoods


class AlignedUnit(NamedTuple):
    """A unit of a transcript, in frames.

    Parameters
    ----------
    unit : str
    first, stop : int
        Its first frame, and the one after its last.
    step : int
        The place of the transcript that it belongs to.
    log_likelihood : float
        Mean per frame, of the frames alone.
    """

    unit: str
    first: int
    stop: int
    step: int
    log_likelihood: float


class FrameAlignment(NamedTuple):
    """The most probable way to say a transcript.

    Parameters
    ----------
    units : tuple of AlignedUnit
        Every frame belongs to one of them.
    log_likelihood : float
        Of the whole utterance and the best path.
    """

    units: tuple[AlignedUnit, ...]
    log_likelihood: float


def align_frames(
    hmms: HmmSet, frames: Floats, transcript: Sequence[Step], beam: float = BEAM
) -> FrameAlignment:
    """Align an utterance with what was said in it.

    Parameters
    ----------
    hmms : HmmSet
    frames : (n_frames, n_features)
    transcript : sequence of Step
    beam : float
        States further behind the best one of their frame are given up, in nats.

    Raises
    ------
    AlignmentError
        If the utterance is too short for what it says, or no path has a likelihood.
    InputError
        If a unit has no HMM, or shapes disagree.
    """
    graph = compose(hmms, transcript)
    scores = log_likelihoods(hmms, frames)
    path = best_path(hmms, graph, scores, beam)
    own = scores[np.arange(len(path.states)), graph.pdfs[path.states]].astype(np.float64)
    owners = graph.owners[path.states]
    firsts = np.flatnonzero(np.diff(owners, prepend=-1))
    stops = [*firsts[1:].tolist(), len(owners)]
    units = []
    for first, stop in zip(firsts.tolist(), stops, strict=True):
        unit, step = graph.occurrences[owners[first]]
        units.append(AlignedUnit(unit, first, stop, step, float(own[first:stop].mean())))
    return FrameAlignment(tuple(units), path.score)
