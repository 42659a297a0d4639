"""The weights of a recogniser's language model, chosen by the phone error rate on development data."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from speechgmm.em.coordinates import Floats
from speechgmm.errors import InputError
from speechgmm.metrics.sequences import ErrorCounts, error_counts
from speechgmm.parallel import Progress, no_progress, shard_map
from speechgmm.phones.decoder import decode
from speechgmm.phones.language_model import checked_strings
from speechgmm.phones.network import LoopWeights, phone_loop
from speechgmm.phones.passes import log_likelihoods
from speechgmm.phones.recogniser import PhoneRecogniser

# Where the search begins, and how far it goes at first; the steps are halved twice.
LANGUAGE_MODEL_STEP, INSERTION_STEP = 2.0, 4.0
HALVINGS = 2
MOST_ROUNDS = 12


@dataclass(frozen=True)
class Tuning:
    """The weights of a language model that make fewest errors, and all that were tried.

    Parameters
    ----------
    weights : LoopWeights
    counts : ErrorCounts
        With them, silence left out.
    tried : tuple of (LoopWeights, float)
        All weights that were tried, and their phone error rates.
    """

    weights: LoopWeights
    counts: ErrorCounts
    tried: tuple[tuple[LoopWeights, float], ...]


def tune_weights(
    recogniser: PhoneRecogniser,
    frames: Sequence[Floats],
    phones: Sequence[Sequence[str]],
    n_jobs: int = 1,
    progress: Progress = no_progress,
) -> Tuning:
    """Choose the weights of the language model that make fewest errors on development data.

    A search from the recogniser's own weights to better neighbours, first in steps of 2 (language model) and 4
    (insertion), then of half and a quarter of that.

    Parameters
    ----------
    recogniser : PhoneRecogniser
    frames : sequence of (n_frames, n_features) arrays
        Of utterances that nothing was trained on.
    phones : sequence of sequence of str
        What is said in each; silence counts for nothing.

    Raises
    ------
    InputError
        If there are no utterances, or strings of phones are not split into phones.
    """
    if len(frames) == 0 or len(frames) != len(phones):
        raise InputError(f"{len(frames)} utterances came with {len(phones)} strings of phones to tune on")
    hmms, silence = recogniser.hmms, recogniser.silence
    scores = [log_likelihoods(hmms, recogniser.prepared(own)) for own in frames]
    references = [_without(own, silence) for own in checked_strings(phones)]

    def errors(weights: LoopWeights) -> ErrorCounts:
        network = phone_loop(hmms, recogniser.language_model, weights)
        decoded = shard_map(lambda own: decode(hmms, network, own), scores, n_jobs)
        return error_counts(
            references, [_without([one.unit for one in own.units], silence) for own in decoded]
        )

    return _descend(errors, recogniser.weights, progress)


def _descend(errors: Callable[[LoopWeights], ErrorCounts], start: LoopWeights, progress: Progress) -> Tuning:
    """Go to the best neighbour as long as one is better."""
    known: dict[LoopWeights, ErrorCounts] = {}

    def rate(weights: LoopWeights) -> float:
        if weights not in known:
            known[weights] = errors(weights)
            progress("weights", len(known), max(len(known), 8 * (HALVINGS + 1)))
        return known[weights].rate

    best, scale, rounds = start, 1.0, 0
    while scale >= 0.5**HALVINGS and rounds < MOST_ROUNDS:
        rounds += 1
        better = min(_neighbours(best, scale), key=rate)
        if rate(better) < rate(best):
            best = better
        else:
            scale /= 2
    tried = tuple((weights, counts.rate) for weights, counts in known.items())
    return Tuning(best, known[best], tried)


def _neighbours(weights: LoopWeights, scale: float) -> Iterator[LoopWeights]:
    for language_model, insertion in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, -1), (-1, 1)):
        moved = weights.language_model + scale * LANGUAGE_MODEL_STEP * language_model
        yield LoopWeights(max(moved, 0.0), weights.insertion + scale * INSERTION_STEP * insertion)


def _without(phones: Sequence[str], silence: str) -> list[str]:
    return [phone for phone in phones if phone != silence]
