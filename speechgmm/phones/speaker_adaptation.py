"""Adaptation of a recogniser to a speaker, from speech of which nothing is known."""

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from operator import add

import numpy as np

from speechgmm.em.coordinates import Floats
from speechgmm.errors import InputError
from speechgmm.parallel import shard_map
from speechgmm.phones.decoder import decode
from speechgmm.phones.fmllr import FmllrStatistics, estimate_fmllr, fmllr_prior, fmllr_statistics
from speechgmm.phones.graph import compose, transcript_of
from speechgmm.phones.passes import AlignmentError, best_path, log_likelihoods
from speechgmm.phones.recogniser import PhoneRecogniser
from speechgmm.phones.transforms import LinearTransform

# Times that speech is recognised and the transform estimated anew.
ROUNDS = 2
# Frames that speak for no transform at all.
PRIOR_FRAMES = 200.0


def adapted_to(
    recogniser: PhoneRecogniser, frames: Sequence[Floats], *, rounds: int = ROUNDS, n_jobs: int = 1
) -> PhoneRecogniser:
    """A recogniser for one speaker: its front end ends in the transform that makes this speech most likely.

    What is said is recognised first, and taken for the truth: constrained maximum-likelihood linear regression.

    Parameters
    ----------
    recogniser : PhoneRecogniser
    frames : sequence of (n_frames, n_features) arrays
        All that there is of the speaker, as the recogniser's `features` make them.
    rounds : int >= 1
    n_jobs : int
        Threads; the result does not depend on it.

    Raises
    ------
    InputError
        If there is no utterance, or none is long enough for a phone.

    References
    ----------
    Gales (1998), Maximum likelihood linear transformations for HMM-based speech recognition, Computer Speech &
    Language 12.
    """
    if rounds < 1 or not len(frames):
        raise InputError(
            f"adaptation needs 1 round or more, and speech; {rounds} and {len(frames)} were given"
        )
    plain = [recogniser.prepared(own) for own in frames]
    prior = fmllr_prior(recogniser.hmms.mixtures, PRIOR_FRAMES)
    transform: LinearTransform | None = None
    for _ in range(rounds):
        found = shard_map(lambda own: _statistics(recogniser, own, transform), plain, n_jobs)  # noqa: B023
        known = [one for one in found if one is not None]
        if not known:
            raise InputError(
                f"none of {len(frames)} utterances is long enough for a phone; there is nothing to adapt to"
            )
        transform = estimate_fmllr(reduce(add, known), prior)
    assert transform is not None
    return replace(recogniser, front_end=recogniser.front_end.followed_by(transform))


def _statistics(
    recogniser: PhoneRecogniser, frames: Floats, transform: LinearTransform | None
) -> FmllrStatistics | None:
    """What an utterance says of its speaker's transform; None if it is too short."""
    hmms = recogniser.hmms
    turned = frames if transform is None else np.asarray(transform.apply(frames), np.float32)
    scores = log_likelihoods(hmms, turned)
    try:
        decoded = decode(hmms, recogniser.network, scores)
    except AlignmentError:
        return None
    graph = compose(hmms, transcript_of(one.unit for one in decoded.units))
    pdfs = graph.pdfs[best_path(hmms, graph, scores).states]
    rows = np.arange(len(pdfs))
    return fmllr_statistics(hmms.mixtures, frames, pdfs, rows, np.ones(len(pdfs)), transform)
