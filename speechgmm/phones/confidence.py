"""How sure each unit of a decoded string is: its posterior probability among all that might have been said."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from speechgmm.em.coordinates import Float32s, Float64s
from speechgmm.errors import InputError
from speechgmm.phones.decoder import Decoded
from speechgmm.phones.hmm import HmmSet
from speechgmm.phones.network import Network
from speechgmm.phones.passes import AlignmentError

# Mixtures that explain a frame worse than the best one by more nats than these, once scaled, all count as equally
# bad. The second is for frames so unlike the HMMs that whole paths leave the range of float64.
WORST_EMISSIONS = (600.0, 40.0)


def unit_posteriors(hmms: HmmSet, network: Network, scores: Float32s, scale: float) -> Float32s:
    """The posterior of each unit at each frame, over all strings of units of all lengths.

    Parameters
    ----------
    hmms : HmmSet
        Those that the network was made of.
    network : Network
    scores : (n_frames, n_mixtures) float32
        From `speechgmm.phones.passes.log_likelihoods`.
    scale : float
        All log-scores, those of frames, transitions and language model, are multiplied by it. Frames are scored as if
        they were independent, which makes a path far too sure; the usual remedy is the inverse of the weight of the
        language model.

    Returns
    -------
    (n_frames, n_units) float32
        Units as in `network.units`; each frame sums to 1.

    Raises
    ------
    AlignmentError
        If no string of units fits into so few frames.
    InputError
        If the scores are not those of the HMMs' mixtures, or the scale is not positive.

    References
    ----------
    Wessel, Schlüter, Macherey & Ney (2001), Confidence measures for large vocabulary continuous speech recognition,
    IEEE Trans. Speech and Audio Processing 9(3), sections III and IV.
    """
    if not 0 < scale < np.inf:
        raise InputError(f"`scale` is {scale}; it must be more than 0, and is at most 1 usually")
    if scores.ndim != 2 or scores.shape[1] != len(hmms.mixtures):
        raise InputError(
            f"`scores` is of shape {scores.shape}; the HMMs need (n_frames, {len(hmms.mixtures)}) "
            "(scores of other HMMs?)"
        )
    states, weights = _states(hmms, network, scale), _scaled(network.weights, scale)
    links = (network.junctions, network.firsts, weights)
    ends = _scaled(network.entries, scale), _scaled(network.exits, scale)
    posteriors = np.empty((len(scores), len(network.units)), np.float32)
    for worst in WORST_EMISSIONS if len(scores) else ():
        emissions = _emissions(scores, scale, worst)
        if _kernels().forward_backward(emissions, states, links, *ends, network.instances, posteriors):
            return posteriors
    raise AlignmentError(f"no unit fits into the {len(scores)} frames of the utterance")


def confidences(decoded: Decoded, posteriors: Float32s, units: Sequence[str]) -> tuple[float, ...]:
    """The mean posterior of each decoded unit over its frames, from 0 to 1.

    Parameters
    ----------
    decoded : Decoded
    posteriors : (n_frames, n_units) float32
        From `unit_posteriors`, of the same utterance.
    units : sequence of str
        Those of the network.

    Raises
    ------
    InputError
        If the posteriors are not of these units, or of a shorter utterance.
    """
    columns = {unit: number for number, unit in enumerate(units)}
    if posteriors.ndim != 2 or posteriors.shape[1] != len(columns):
        raise InputError(
            f"`posteriors` is of shape {posteriors.shape}; {len(columns)} units need (n_frames, {len(columns)})"
        )
    unknown = sorted({found.unit for found in decoded.units} - set(columns))
    if unknown:
        raise InputError(f"there are no posteriors of {unknown[0]!r} (decoded by another network?)")
    n_frames = max((found.stop for found in decoded.units), default=0)
    if n_frames != len(posteriors):
        raise InputError(
            f"`posteriors` has {len(posteriors)} frames, the decoded string {n_frames} (another utterance's?)"
        )
    return tuple(
        float(posteriors[found.first : found.stop, columns[found.unit]].mean(dtype=np.float64))
        for found in decoded.units
    )


def normalised_cross_entropy(confidences: Sequence[float], right: Sequence[bool]) -> float:
    """How much of what is unknown about which units are right their confidences tell.

    1 where all is told; 0 where as little as by the share of right ones alone; less where confidences mislead.

    Parameters
    ----------
    confidences : (n_units,) sequence of float
        From 0 to 1; taken as 1e-7 or 1 - 1e-7 where they are beyond these.
    right : (n_units,) sequence of bool

    Raises
    ------
    InputError
        If there are not as many of both, a confidence is out of range, or all units are right or all wrong.

    References
    ----------
    Siu & Gish (1999), Evaluation of word confidence for speech recognition systems, Computer Speech and Language 13.
    """
    given, answers = np.asarray(confidences, np.float64), np.asarray(right, bool)
    if given.shape != answers.shape:
        raise InputError(f"{given.size} confidences came with {answers.size} answers")
    if not ((given >= 0) & (given <= 1)).all():
        raise InputError(f"confidences are from 0 to 1; there is {given[~((given >= 0) & (given <= 1))][0]}")
    if answers.all() or not answers.any():
        raise InputError("confidences can be judged only where there are some right and some wrong units")
    share, sure = answers.mean(), np.clip(given, 1e-7, 1 - 1e-7)
    told = np.log(np.where(answers, sure, 1 - sure)).sum()
    return float(1 - told / np.log(np.where(answers, share, 1 - share)).sum())


def _emissions(scores: Float32s, scale: float, worst: float) -> Float64s:
    """Likelihoods, relative to the best mixture of each frame."""
    best = scores.max(axis=1, keepdims=True)
    relative = np.maximum(scale * (scores.astype(np.float64) - best), -worst)
    return np.asarray(np.exp(relative, out=relative))


def _states(hmms: HmmSet, network: Network, scale: float) -> tuple[Any, ...]:
    """The states of all instances as `kernels_confidence.forward_backward` takes them."""
    numbers = np.ascontiguousarray(network.pdfs.T)
    inside = np.arange(len(numbers))[:, None] < network.lengths
    leaves = np.exp(scale * hmms.log_leaves)[numbers]
    stays = np.where(inside, np.exp(scale * hmms.log_stays)[numbers], 0.0)
    moves = np.where(inside, np.vstack([np.ones_like(leaves[:1]), leaves[:-1]]), 0.0)
    lasts = leaves[network.lengths - 1, np.arange(len(network.lengths))]
    return numbers, stays, moves, network.lengths, lasts


def _scaled(log_probabilities: Float32s, scale: float) -> Float64s:
    return np.asarray(np.exp(scale * log_probabilities.astype(np.float64)))


def _kernels() -> Any:
    """The compiled passes, loaded when the first utterance is explained."""
    from speechgmm.phones import kernels_confidence

    return kernels_confidence
