"""Training of HMMs on whole utterances, from transcripts with or without times; mixtures grow by splitting."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import add
from typing import NamedTuple

import numpy as np

from speechgmm.em.coordinates import Coordinates, Float64s, Floats
from speechgmm.em.initialise import grow
from speechgmm.em.maximise import DEAD, absolute_floor, maximise, reseed
from speechgmm.em.mixture import Mixture
from speechgmm.em.moments import Moments, moments
from speechgmm.em.sources import ArraySource, PieceSource
from speechgmm.em.statistics import EStep, Statistics
from speechgmm.errors import InputError
from speechgmm.parallel import Progress, no_progress, one_blas_thread, shard_map
from speechgmm.phones.first_paths import Times, first_paths
from speechgmm.phones.graph import Step, compose
from speechgmm.phones.hmm import HmmSet, left_to_right
from speechgmm.phones.occupied_frames import (
    METHODS,
    TOGETHER,
    Aligned,
    OccupiedFrames,
    find,
    find_paths,
    parts,
)
from speechgmm.phones.passes import BEAM, AlignmentError, Occupancy, Path, path_occupancy
from speechgmm.settings import require_numbers
from speechgmm.training_frames import checked_frames

# Probabilities of staying are kept this far from 0 and 1.
LEAST_PROBABILITY = 0.01


@dataclass(frozen=True)
class HmmSettings:
    """How HMMs are trained.

    Parameters
    ----------
    n_components : int
        Gaussians that a mixture may reach. It grows by splitting, to 2, 4, 8 and so on, where `frames_per_component`
        lets it.
    method : {"viterbi", "baum_welch"}
        Whether the best path counts alone, or all paths.
    start_iterations : int
        Re-estimations with one Gaussian a state.
    iterations : int
        Re-estimations after each growth, the last one excepted.
    last_iterations : int
        Re-estimations at the end.
    frames_per_component : float
        A mixture does not grow beyond one Gaussian for so many of its frames, whatever `n_components` allows.
    variance_floor : float
        As a fraction of the variance of all frames.
    beam : float
        States further behind the best one of their frame are given up, in nats.
    seed : int
    """

    n_components: int = 64
    method: str = "viterbi"
    start_iterations: int = 4
    iterations: int = 4
    last_iterations: int = 6
    frames_per_component: float = 45.0
    variance_floor: float = 0.02
    beam: float = BEAM
    seed: int = 0

    def __post_init__(self) -> None:
        whole = dict.fromkeys(("n_components", "start_iterations", "iterations", "last_iterations"), 1)
        require_numbers(self, "HMM", {**whole, "seed": 0}, ("frames_per_component", "variance_floor"))
        if self.method not in METHODS:
            raise InputError(f"HMM setting `method` is {self.method!r}; it can be {', '.join(METHODS)}")
        if isinstance(self.beam, bool) or not isinstance(self.beam, int | float) or not self.beam > 0:
            raise InputError(f"HMM setting `beam` is {self.beam!r}; it must be more than 0 nats")


class Iteration(NamedTuple):
    """One pass over the training utterances.

    Parameters
    ----------
    n_components : int
        Gaussians of all mixtures.
    log_likelihood : float
        Mean per frame; of the best paths, where they alone count.
    after_growth : bool
        Whether mixtures were split, or lost components, since the pass before: then the likelihood may fall.
    """

    n_components: int
    log_likelihood: float
    after_growth: bool


class Failure(NamedTuple):
    """An utterance, by its number, that is not what its transcript says."""

    utterance: int
    message: str


@dataclass(frozen=True, eq=False)
class HmmTraining:
    """Trained HMMs, how training went, and the utterances that could not be aligned in the last pass."""

    hmms: HmmSet
    history: tuple[Iteration, ...]
    failures: tuple[Failure, ...]


def train_hmms(
    frames: Sequence[Floats],
    transcripts: Sequence[Sequence[Step]],
    n_states: Mapping[str, int],
    settings: HmmSettings | None = None,
    *,
    times: Sequence[Times | None] | None = None,
    n_jobs: int = 1,
    progress: Progress = no_progress,
) -> HmmTraining:
    """Train left-to-right HMMs: embedded, in whole utterances.

    Parameters
    ----------
    frames : sequence of (n_frames, n_features) arrays
        One for each utterance.
    transcripts : sequence of sequence of Step
        What may be said in each.
    n_states : mapping of str to int
        By unit.
    settings : HmmSettings, optional
    times : sequence of (sequence of (first, stop) or None), optional
        Frames of each step, which must be one unit. An utterance without starts flat: divided evenly over states.
    n_jobs : int
        Threads; the result is the same bits for any number.
    progress : callable

    Raises
    ------
    InputError
        If there is nothing to train on, a unit has no number of states, or no utterance can be aligned.

    References
    ----------
    Young et al. (2006), The HTK Book, chapter 8. Rabiner (1989), Proc. IEEE 77, equations 40 to 54.
    """
    settings = settings or HmmSettings()
    if len(frames) != len(transcripts) or len(frames) != len(frames if times is None else times):
        raise InputError(
            f"{len(frames)} `frames` came with {len(transcripts)} `transcripts`, or other `times`"
        )
    checked = checked_frames(frames)
    with one_blas_thread():
        trainer = HmmTrainer(checked, transcripts, settings, n_jobs, progress)
        flat = left_to_right(dict(n_states), trainer.one_gaussian())
        return trainer.train(flat, first_paths(trainer.aligned(flat), times))


class HmmTrainer:
    """Training utterances, and the steps of training on them.

    Parameters
    ----------
    frames : sequence of (n_frames, n_features) arrays
        Checked.
    transcripts : sequence of sequence of Step
    settings : HmmSettings
    n_jobs : int
    progress : callable
    """

    def __init__(
        self,
        frames: Sequence[Floats],
        transcripts: Sequence[Sequence[Step]],
        settings: HmmSettings,
        n_jobs: int = 1,
        progress: Progress = no_progress,
    ) -> None:
        self.settings, self.n_jobs = settings, n_jobs
        self._frames, self._transcripts = frames, transcripts
        self._measured: Moments = moments(PieceSource(frames), n_jobs)
        self.coordinates: Coordinates = self._measured.coordinates()
        self.floor: Float64s = absolute_floor(self._measured, settings.variance_floor)
        self._progress, self._n_done, self._n_passes = progress, 0, 0
        self._changed = False
        self.history: list[Iteration] = []
        self.failures: dict[int, str] = {}

    def one_gaussian(self) -> Mixture:
        """The Gaussian of all frames."""
        variance = np.maximum(self._measured.variance, self.floor)
        return Mixture(np.ones(1), self._measured.mean[None], variance[None])

    def train(self, flat: HmmSet, paths: Sequence[Path | AlignmentError]) -> HmmTraining:
        """From first paths to the end, mixtures growing on the way.

        Parameters
        ----------
        flat : HmmSet
            Its units and states; its mixtures stand where a state has no frame.
        paths : sequence of Path or AlignmentError
            One for each utterance, such as `first_paths` or `paths` gives.
        """
        settings = self.settings
        utterances = self.aligned(flat)
        levels = list(_levels(settings.n_components))
        rounds = [settings.start_iterations, *(settings.iterations for _ in levels)]
        rounds[-1] = settings.last_iterations if levels else settings.start_iterations
        self._n_passes = sum(rounds)
        hmms = self._first_guess(flat, utterances, paths)
        for level, count in zip([1, *levels], rounds, strict=True):
            if level > 1:
                hmms = self.grown(hmms, utterances, level)
            for _ in range(count):
                hmms = self.improved(hmms, utterances)
        failures = tuple(Failure(*one) for one in sorted(self.failures.items()))
        return HmmTraining(hmms, tuple(self.history), failures)

    def paths(self, hmms: HmmSet) -> list[Path | AlignmentError]:
        """The best path of each utterance."""
        return list(find_paths(hmms, self.aligned(hmms), self.settings.beam, self.n_jobs))

    def aligned(self, hmms: HmmSet) -> list[Aligned]:
        """The utterances with their graphs."""
        found = []
        for number, (frames, transcript) in enumerate(zip(self._frames, self._transcripts, strict=True)):
            try:
                found.append(Aligned(frames, compose(hmms, transcript)))
            except InputError as error:
                raise InputError(f"utterance {number}: {error}") from error
        return found

    def improved(self, hmms: HmmSet, utterances: Sequence[Aligned]) -> HmmSet:
        """The HMMs after one re-estimation; the pass goes into the history."""
        statistics, stays, log_likelihood = self._expectation(hmms, utterances)
        n_frames = sum(one.n_frames for one in statistics if one is not None)
        self.history.append(Iteration(hmms.n_components, log_likelihood, self._changed))
        self._n_done += 1
        self._progress("training", self._n_done, max(self._n_passes, self._n_done))
        if not n_frames:
            raise _nothing_aligned(len(utterances), next(iter(self.failures.values())))
        return self._maximised(hmms, statistics, stays)

    def grown(self, hmms: HmmSet, utterances: Sequence[Aligned], n_components: int) -> HmmSet:
        """The HMMs with so many Gaussians in every mixture that has the frames for them."""
        found = self.occupied(hmms, _spread(utterances, TOGETHER))
        with_more = partial(_grown, hmms, found, n_components, self.settings, self.floor)
        mixtures = list(shard_map(with_more, range(len(hmms.mixtures)), self.n_jobs))
        self._changed = True
        return hmms.with_mixtures(mixtures)

    def occupied(self, hmms: HmmSet, utterances: Sequence[Aligned]) -> OccupiedFrames:
        """What explains each frame of some utterances, those left out that cannot be aligned."""
        frames: list[Floats] = []
        found: list[Occupancy] = []
        problems: list[AlignmentError] = []
        outcomes = find(hmms, utterances, self.settings.method, self.settings.beam, self.n_jobs)
        for utterance, outcome in zip(utterances, outcomes, strict=True):
            if isinstance(outcome, AlignmentError):
                problems.append(outcome)
            else:
                frames.append(utterance.frames)
                found.append(outcome)
        if not found:
            raise _nothing_aligned(len(utterances), str(problems[0]))
        return OccupiedFrames.of(frames, found, len(hmms.mixtures))

    def _first_guess(
        self, flat: HmmSet, utterances: Sequence[Aligned], paths: Sequence[Path | AlignmentError]
    ) -> HmmSet:
        """One Gaussian for each state, from paths."""
        occupancies: list[Occupancy] = []
        frames: list[Floats] = []
        for number, ((own, graph), path) in enumerate(zip(utterances, paths, strict=True)):
            if isinstance(path, AlignmentError):
                self.failures[number] = str(path)
            else:
                frames.append(own)
                occupancies.append(path_occupancy(flat, graph, path))
        if not frames:
            raise _nothing_aligned(len(utterances), next(iter(self.failures.values())))
        found = OccupiedFrames.of(frames, occupancies, len(flat.mixtures))
        stays = reduce(add, (one.stays for one in occupancies))
        return self._maximised(flat, self._statistics(flat, found), stays)

    def _expectation(
        self, hmms: HmmSet, utterances: Sequence[Aligned]
    ) -> tuple[list[Statistics | None], Float64s, float]:
        """Statistics of each mixture, how often its states were stayed in, and the log-likelihood per frame."""
        totals: list[Statistics | None] = [None] * len(hmms.mixtures)
        stays, log_likelihood, n_frames = np.zeros(len(hmms.mixtures)), 0.0, 0
        self.failures = {}
        for first, part in _numbered(parts(utterances)):
            frames, good = [], []
            outcomes = find(hmms, part, self.settings.method, self.settings.beam, self.n_jobs)
            for number, (utterance, outcome) in enumerate(zip(part, outcomes, strict=True), first):
                if isinstance(outcome, AlignmentError):
                    self.failures[number] = str(outcome)
                    continue
                frames.append(utterance.frames)
                good.append(outcome)
                stays += outcome.stays
                log_likelihood += outcome.log_likelihood
                n_frames += len(utterance.frames)
            if good:
                found = OccupiedFrames.of(frames, good, len(hmms.mixtures))
                totals = [_sum(*pair) for pair in zip(totals, self._statistics(hmms, found), strict=True)]
        return totals, stays, log_likelihood / max(n_frames, 1)

    def _statistics(self, hmms: HmmSet, found: OccupiedFrames) -> list[Statistics | None]:
        """Statistics of each mixture; None where it explains nothing."""
        return list(
            shard_map(
                partial(_statistics_of, hmms, found, self.coordinates), range(len(hmms.mixtures)), self.n_jobs
            )
        )

    def _maximised(self, hmms: HmmSet, statistics: Sequence[Statistics | None], stays: Float64s) -> HmmSet:
        """The M-step; a mixture that explained nothing stays what it was."""
        mixtures, probabilities = list(hmms.mixtures), np.array(hmms.stays)
        self._changed = False
        for number, own in enumerate(statistics):
            if own is None:
                continue
            mixture = maximise(own, self.floor)
            if own.zeroth.min() < DEAD and mixture.n_components > 1:
                mixture = reseed(mixture, own.zeroth)
                self._changed = True
            mixtures[number] = mixture
            probabilities[number] = stays[number] / own.n_frames
        probabilities = np.clip(probabilities, LEAST_PROBABILITY, 1.0 - LEAST_PROBABILITY)
        return hmms.with_mixtures(mixtures, probabilities)


def _nothing_aligned(n_utterances: int, first: str) -> InputError:
    return InputError(
        f"none of {n_utterances} utterances can be what its transcript says; the first: {first}"
    )


def _levels(n_components: int) -> Iterator[int]:
    """2, 4, 8, … and at last `n_components`."""
    level = 1
    while level < n_components:
        level = min(2 * level, n_components)
        yield level


def _numbered(runs: Iterator[Sequence[Aligned]]) -> Iterator[tuple[int, Sequence[Aligned]]]:
    first = 0
    for run in runs:
        yield first, run
        first += len(run)


def _spread(utterances: Sequence[Aligned], n_frames: int) -> Sequence[Aligned]:
    """Every so-manieth of the utterances, so that they have about so many frames."""
    total = sum(len(one.frames) for one in utterances)
    return utterances[:: -(-total // n_frames)]


def _sum(left: Statistics | None, right: Statistics | None) -> Statistics | None:
    if left is None or right is None:
        return right if left is None else left
    return left + right


def _statistics_of(
    hmms: HmmSet, found: OccupiedFrames, coordinates: Coordinates, number: int
) -> Statistics | None:
    frames, weights = found.of_mixture(number)
    if not len(frames):
        return None
    step = EStep(hmms.mixtures[number], coordinates, short_exactly=False)
    return step.statistics_of(ArraySource(frames, weights))


def _grown(
    hmms: HmmSet,
    found: OccupiedFrames,
    n_components: int,
    settings: HmmSettings,
    floor: Float64s,
    number: int,
) -> Mixture:
    mixture = hmms.mixtures[number]
    frames, weights = found.of_mixture(number)
    wanted = min(n_components, int(weights.sum() / max(settings.frames_per_component, 1.0)))
    if wanted <= mixture.n_components:
        return mixture
    seed = settings.seed + number
    return grow(mixture, ArraySource(frames, weights), wanted, seed=seed, variance_floor=floor, iterations=2)
