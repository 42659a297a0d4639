"""Which word an utterance is: one HMM for each word, trained on whole utterances of it."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from speechgmm.em.coordinates import Float64s, Floats
from speechgmm.errors import InputError, SpeechGMMWarning
from speechgmm.parallel import Progress, largest_first, no_progress, one_blas_thread, shard_map
from speechgmm.phones.graph import Graph, compose, transcript_of
from speechgmm.phones.hmm import HmmSet
from speechgmm.phones.hmm_training import HmmSettings, HmmTraining, train_hmms
from speechgmm.phones.passes import log_likelihoods, occupancy
from speechgmm.training_frames import checked_frames


@dataclass(frozen=True, eq=False)
class WordClassifier:
    """One HMM for each word, that say which one an utterance is; from `train_words`.

    Parameters
    ----------
    hmms : HmmSet
        One for each word; all words are taken for equally probable.
    """

    hmms: HmmSet

    @property
    def words(self) -> tuple[str, ...]:
        """The words it tells apart."""
        return self.hmms.units

    @cached_property
    def _graphs(self) -> tuple[Graph, ...]:
        return tuple(compose(self.hmms, transcript_of([word])) for word in self.words)

    def scores(self, frames: Sequence[Floats], n_jobs: int = 1) -> Float64s:
        """The log-likelihood of each utterance under each word, all paths through its states summed.

        Parameters
        ----------
        frames : sequence of (n_frames, n_features) arrays
            One for each utterance.
        n_jobs : int
            Threads; the scores are the same bits for any number.

        Returns
        -------
        (n_utterances, n_words) float64
            Natural logs of whole utterances; -inf where an utterance has fewer frames than a word has states.

        Raises
        ------
        InputError
            If frames are of other features, or an utterance is too short for every word.
        """
        with one_blas_thread():
            rows = list(shard_map(self._score, frames, n_jobs))
        scores = np.array(rows, np.float64).reshape(len(frames), len(self.words))
        short = np.flatnonzero(~np.isfinite(scores).any(axis=1))
        if short.size:
            number = int(short[0])
            least = min(graph.least_frames for graph in self._graphs)
            raise InputError(
                f"utterance {number} has {len(frames[number])} frames, and the shortest word needs {least} "
                "(cut off, or its speech cut away?)"
            )
        return scores

    def classify(self, frames: Sequence[Floats], n_jobs: int = 1) -> list[str]:
        """The most probable word of each utterance; arguments and errors as in `scores`."""
        return [self.words[number] for number in self.scores(frames, n_jobs).argmax(axis=1)]

    def _score(self, frames: Floats) -> list[float]:
        emissions = log_likelihoods(self.hmms, frames)
        return [
            occupancy(self.hmms, graph, emissions).log_likelihood
            if len(frames) >= graph.least_frames
            else -np.inf
            for graph in self._graphs
        ]


def train_words(
    frames: Sequence[Floats],
    words: Sequence[str],
    n_states: int | Mapping[str, int] = 8,
    settings: HmmSettings | None = None,
    *,
    n_jobs: int = 1,
    progress: Progress = no_progress,
) -> WordClassifier:
    """Train one left-to-right HMM for each word, on the utterances of it alone, from a flat start.

    Parameters
    ----------
    frames : sequence of (n_frames, n_features) arrays
        One for each utterance, which is one word.
    words : sequence of str
        Which.
    n_states : int or mapping of str to int
        Of each word. Utterances with fewer frames are left out, with a warning.
    settings : HmmSettings, optional
    n_jobs : int
        Words that are trained at the same time; the result is the same bits for any number.
    progress : callable

    Raises
    ------
    InputError
        If there is nothing to train on, a word has no number of states, or all of its utterances are too short.
    """
    if len(frames) != len(words):
        raise InputError(f"{len(frames)} `frames` came with {len(words)} `words`")
    by_word: dict[str, list[Floats]] = {word: [] for word in sorted(set(words))}
    for own, word in zip(checked_frames(frames), words, strict=True):
        by_word[word].append(own)
    counts = n_states if isinstance(n_states, Mapping) else dict.fromkeys(by_word, n_states)
    if missing := sorted(set(by_word) - set(counts)):
        raise InputError(f"`n_states` does not say how many states the word {missing[0]!r} has")
    names = list(by_word)
    with one_blas_thread():
        trained = largest_first(
            partial(_trained, by_word, counts, settings),
            names,
            [sum(map(len, by_word[word])) for word in names],
            n_jobs,
            lambda done: progress("words", done, len(names)),
        )
    return WordClassifier(_joined([one.hmms for one in trained]))


def _trained(
    by_word: Mapping[str, Sequence[Floats]],
    n_states: Mapping[str, int],
    settings: HmmSettings | None,
    word: str,
) -> HmmTraining:
    own = by_word[word]
    training = train_hmms(own, [transcript_of([word])] * len(own), {word: n_states[word]}, settings)
    if training.failures:
        warnings.warn(
            f"{len(training.failures)} of {len(own)} utterances of {word!r} are left out: "
            f"{training.failures[0].message}",
            SpeechGMMWarning,
            stacklevel=2,
        )
    return training


def _joined(hmms: Sequence[HmmSet]) -> HmmSet:
    """One set of the HMMs of several."""
    offsets = np.cumsum([0, *(len(one.mixtures) for one in hmms)]).tolist()
    return HmmSet(
        units=sum((one.units for one in hmms), ()),
        states=tuple(
            tuple(number + offset for number in states)
            for one, offset in zip(hmms, offsets[:-1], strict=True)
            for states in one.states
        ),
        mixtures=sum((one.mixtures for one in hmms), ()),
        stays=np.concatenate([one.stays for one in hmms]),
    )
