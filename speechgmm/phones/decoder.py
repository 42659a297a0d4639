"""The most probable string of units in an utterance, by Viterbi search with a beam."""

from typing import Any, NamedTuple

import numpy as np

from speechgmm.em.coordinates import Float32s
from speechgmm.errors import InputError
from speechgmm.phones.hmm import HmmSet
from speechgmm.phones.network import Network
from speechgmm.phones.passes import AlignmentError

# In nats. Wider ones change no string on read speech.
DECODING_BEAM = 100.0


class Found(NamedTuple):
    """A unit that was recognised, in frames.

    Parameters
    ----------
    unit : str
    first, stop : int
        Its first frame, and the one after its last.
    """

    unit: str
    first: int
    stop: int


class Decoded(NamedTuple):
    """The best string of an utterance.

    Parameters
    ----------
    units : tuple of Found
    score : float
        Log-likelihood of the best path, weights of the language model included.
    """

    units: tuple[Found, ...]
    score: float


def decode(hmms: HmmSet, network: Network, scores: Float32s, beam: float = DECODING_BEAM) -> Decoded:
    """Search for the best path.

    Parameters
    ----------
    hmms : HmmSet
        Those that the network was made of.
    network : Network
    scores : (n_frames, n_mixtures) float32
        From `speechgmm.phones.passes.log_likelihoods`.
    beam : float
        States further behind the best one of their frame are given up, in nats; infinity keeps all.

    Raises
    ------
    AlignmentError
        If no string of units fits into so few frames, or a frame is so far from all mixtures that none explains it.
    InputError
        If the beam is not positive.
    """
    if not beam > 0:
        raise InputError(f"`beam` is {beam}; it must be more than 0 nats")
    for width in (beam, np.inf):
        score, path = _kernels().decode(
            scores,
            *(network.pdfs, network.lengths),
            hmms.log_stays.astype(np.float32),
            hmms.log_leaves.astype(np.float32),
            *(network.junctions, network.firsts, network.weights, network.entries, network.exits),
            np.float32(min(width, 1e29)),
        )
        if len(path):
            break
    else:
        raise AlignmentError(
            f"no unit fits into the {len(scores)} frames of the utterance (too few, or unlike anything known?)"
        )
    firsts = [0, *path[:-1, 1].tolist()]
    names = [network.units[network.instances[instance]] for instance in path[:, 0]]
    found = zip(names, firsts, path[:, 1].tolist(), strict=True)
    return Decoded(tuple(Found(*one) for one in found), float(score))


def _kernels() -> Any:
    """The compiled search, loaded when the first utterance is decoded."""
    from speechgmm.phones import kernels_decoding

    return kernels_decoding
