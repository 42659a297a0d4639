"""Scores of utterances under every class, and the decisions that follow from them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechgmm.em.coordinates import Float32s, Float64s, Floats, require_finite, require_frames
from speechgmm.em.mixture import LOG_2, Mixture, log_sum_exp
from speechgmm.em.moments import Moments
from speechgmm.em.projection import Projection
from speechgmm.em.terms import BLOCK, FAR, LOG2_OF_NOTHING, terms_of
from speechgmm.errors import InputError
from speechgmm.features.extract import Extraction, FeatureExtractor, Problem
from speechgmm.manifest import Utterance
from speechgmm.model_file import UNKNOWN, Model
from speechgmm.parallel import Progress, check_jobs, no_progress, one_blas_thread, parallel_map

# About what recorded corpora give (FSDD, Japanese Vowels), and what is taken where nothing can be held out.
USUAL_POSTERIOR_SCALE = 0.02
# Densities of one product: enough to keep BLAS busy, few enough to stay in cache.
COLUMNS = 1024


@dataclass(frozen=True)
class Decision:
    """What the model makes of one utterance.

    Parameters
    ----------
    utterance : str
        Its id.
    label : str
        The class that wins, or "unknown" where it beats the background by less than the threshold.
    best, runner_up : str
        The two most probable classes: with equal priors, those with the highest scores (of one class alone,
        `runner_up` is empty).
    score : float
        Mean log-likelihood per frame under `best`.
    margin : float
        `score` less that of the runner-up (infinite if there is none; below 0 where unequal priors decided).
    llr : float
        `score` less the background's: the log-likelihood ratio per frame that the threshold applies to.
    posterior : float
        Probability of `best` among the classes.
    n_frames : int
    """

    utterance: str
    label: str
    best: str
    runner_up: str
    score: float
    margin: float
    llr: float
    posterior: float
    n_frames: int

    @property
    def accepted(self) -> bool:
        """Whether the winner passed the threshold."""
        return self.label != UNKNOWN


@dataclass(frozen=True, eq=False)
class Scores:
    """Mean log-likelihoods per frame.

    Parameters
    ----------
    classes : (n_utterances, n_classes) float64
    background : (n_utterances,) float64
    n_frames : (n_utterances,) int64
    """

    classes: Float64s
    background: Float64s
    n_frames: NDArray[np.int64]


@dataclass(frozen=True)
class Classification:
    """Decisions on the utterances that could be read, and what went wrong with the others."""

    decisions: tuple[Decision, ...]
    problems: tuple[Problem, ...]


class MixtureBank:
    """Many mixtures made ready to score the same frames, in coordinates that they share.

    Parameters
    ----------
    mixtures : sequence of Mixture
        All with the same number of features.
    """

    def __init__(self, mixtures: Sequence[Mixture]) -> None:
        # One kind for all, so that they share the terms of a frame.
        type_ = "full" if any(mixture.has_matrices for mixture in mixtures) else "diag"
        self._mixtures = [mixture.with_type(type_) for mixture in mixtures]
        self.n_features = self._mixtures[0].n_features
        self.coordinates = _shared_moments(self._mixtures).coordinates(type_)
        self._kind = self._mixtures[0].type.kind
        self._groups = list(_groups_of_a_size(mixtures))
        self._projections = [
            Projection.side_by_side(
                [Projection.of(self._mixtures[index], self.coordinates) for index in group]
            )
            for group in self._groups
        ]
        self._too_sharp = any(projection.too_sharp for projection in self._projections)

    def mean_log_likelihoods(self, frames: Floats) -> Float64s:
        """Mean log-likelihood per frame under each mixture, (n_mixtures,) float64.

        The same bits whatever else is scored.
        """
        totals = np.zeros(len(self._mixtures))
        for start in range(0, len(frames), BLOCK):
            block = frames[start : start + BLOCK]
            x = self.coordinates.apply(block)
            far = np.abs(x).max(axis=1) > (-1.0 if self._too_sharp else FAR)
            if far.any():
                totals += self._exactly(block[far])
                x = x[~far]
            if len(x):
                self._add_block(x, totals)
        return totals * LOG_2 / len(frames) - self.coordinates.log_volume

    def _add_block(self, x: Float64s, totals: Float64s) -> None:
        """Add the log2-likelihoods of up to 512 frames, given in coordinates, to the totals of the mixtures."""
        terms = terms_of(np.ascontiguousarray(x.T, np.float32), self._kind)
        for group, projection in zip(self._groups, self._projections, strict=True):
            densities = projection.matrix @ terms
            if projection.sharp.size:
                exact_terms = terms_of(np.ascontiguousarray(x.T), self._kind)
                densities[projection.sharp] = np.maximum(projection.sharp_rows @ exact_terms, LOG2_OF_NOTHING)
            totals[group] += _sums(densities.reshape(len(group), -1, len(x)))

    def _exactly(self, frames: Floats) -> Float64s:
        """Log2-likelihood sums in coordinates of a few frames far from all others, in float64."""
        with np.errstate(invalid="ignore"):  # what overflows is refused by whoever asked
            natural = np.array(
                [log_sum_exp(mixture.unchecked_log_densities(frames)).sum() for mixture in self._mixtures]
            )
        return (natural + len(frames) * self.coordinates.log_volume) / LOG_2


def _groups_of_a_size(mixtures: Sequence[Mixture]) -> Iterator[list[int]]:
    """Numbers of mixtures to be scored in one product: alike in size, and of no more than `COLUMNS` together."""
    group: list[int] = []
    for index in sorted(range(len(mixtures)), key=lambda index: mixtures[index].n_components):
        if group and (len(group) + 1) * mixtures[index].n_components > COLUMNS:
            yield group
            group = []
        group.append(index)
    yield group


def _shared_moments(mixtures: Sequence[Mixture]) -> Moments:
    """Mean and spread of frames that come from these mixtures as often as each has components."""
    means = np.concatenate([mixture.means for mixture in mixtures])
    mean = means.mean(axis=0)
    covariances = np.concatenate([mixture.covariances for mixture in mixtures]).mean(axis=0)
    if covariances.ndim == 1:
        return Moments(1.0, mean, covariances + means.var(axis=0))
    covariance = covariances + (means - mean).T @ (means - mean) / len(means)
    return Moments(1.0, mean, np.diagonal(covariance), covariance)


def _sums(log2_densities: Float32s) -> Float64s:
    """Sums over frames of the log2-likelihood under each mixture, from (n_mixtures, n_components, n_frames)."""
    peaks = log2_densities.max(axis=1)
    np.subtract(log2_densities, peaks[:, None], out=log2_densities)
    masses = np.exp2(log2_densities, out=log2_densities).sum(axis=1)
    return np.asarray((peaks.astype(np.float64) + np.log2(masses.astype(np.float64))).sum(axis=1))


def require_utterance(frames: Any, index: int, n_features: int | None = None) -> Floats:
    """The frames of one of many utterances as an array; the error for bad ones says which."""
    name = f"frames[{index}]"
    checked = require_frames(frames, n_features, name)
    if len(checked) == 0:
        raise InputError(f"`{name}` holds no frames; an utterance needs at least 1")
    require_finite(checked, name=name)
    return checked


class Scorer:
    """Scores utterances under every class of a model.

    Parameters
    ----------
    model : Model
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self._bank = MixtureBank((*model.mixtures, model.background))

    def score(self, frames: Sequence[Floats], n_jobs: int = 1, progress: Progress = no_progress) -> Scores:
        """Score many utterances.

        Parameters
        ----------
        frames : sequence of (n_frames, n_features) arrays
            One for each utterance.
        n_jobs : int
            Threads; the scores do not depend on it, nor on what else is in the batch.

        Raises
        ------
        InputError
            If an utterance has no frames, the wrong number of features, or values that are not finite.
        """
        check_jobs(n_jobs)
        checked = [
            require_utterance(array, index, self.model.n_features) for index, array in enumerate(frames)
        ]
        results = np.empty((len(checked), len(self.model.labels) + 1))
        # A few short utterances are done before a second thread could help.
        jobs = n_jobs if sum(map(len, checked)) > 100 * BLOCK else 1
        with one_blas_thread():
            for row, result in enumerate(parallel_map(self._bank.mean_log_likelihoods, checked, jobs)):
                if not np.isfinite(result).all():
                    raise InputError(f"`frames[{row}]` has values so large that their squares overflow")
                results[row] = result
                progress("scores", row + 1, len(checked))
        return Scores(results[:, :-1], results[:, -1], np.array([len(array) for array in checked], np.int64))

    def decide(
        self, scores: Scores, utterances: Sequence[str], threshold: float | None = None
    ) -> list[Decision]:
        """Turn scores into decisions.

        Parameters
        ----------
        scores : Scores
        utterances : sequence of str
            Ids.
        threshold : float, optional
            In nats per frame. A winner whose score exceeds the background's by less is "unknown". Without it
            every winner is accepted.

        Raises
        ------
        InputError
            If there are not as many ids as scores, or the threshold is not a number.
        """
        if len(utterances) != len(scores.classes):
            raise InputError(f"{len(scores.classes)} scores and {len(utterances)} utterance ids were given")
        if threshold is not None and np.isnan(threshold):
            raise InputError(f"`threshold` is {threshold}; it must be a number")
        posteriors = class_posteriors(scores, self.model.posterior_scale, self.model.log_priors)
        evidence = _evidence(scores, self.model.posterior_scale, self.model.log_priors)
        # Sorted by what posteriors are made of; ties keep the order of the labels.
        order = np.argsort(-evidence, axis=1, kind="stable")
        decisions = []
        for row, utterance in enumerate(utterances):
            best = int(order[row, 0])
            score = float(scores.classes[row, best])
            margin, runner_up = float("inf"), ""
            if order.shape[1] > 1:
                runner_up = self.model.labels[order[row, 1]]
                margin = score - float(scores.classes[row, order[row, 1]])
            llr = score - float(scores.background[row])
            known = threshold is None or llr >= threshold
            decisions.append(
                Decision(
                    utterance=utterance,
                    label=self.model.labels[best] if known else UNKNOWN,
                    best=self.model.labels[best],
                    runner_up=runner_up,
                    score=score,
                    margin=margin,
                    llr=llr,
                    posterior=float(posteriors[row, best]),
                    n_frames=int(scores.n_frames[row]),
                )
            )
        return decisions


def _evidence(scores: Scores, scale: float, log_priors: Float64s) -> Float64s:
    return np.asarray(scale * scores.n_frames[:, None] * scores.classes + log_priors)


def class_posteriors(scores: Scores, scale: float, log_priors: Float64s) -> Float64s:
    """Probability of each class: softmax of κ × frames × mean log-likelihood + log prior.

    Parameters
    ----------
    scores : Scores
    scale : float
        κ. At 1 frames count as independent, and every answer would be sure of itself.
    log_priors : (n_classes,)

    Returns
    -------
    (n_utterances, n_classes) float64
    """
    evidence = _evidence(scores, scale, log_priors)
    weights = np.exp(evidence - evidence.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def fit_posterior_scale(scores: Scores, truth: NDArray[np.integer[Any]]) -> float:
    """Fit κ to scores of utterances whose classes are known, and which the mixtures were not fitted to.

    The most probable κ, given the posteriors of the true classes. One label in n + 2 is taken to be a slip, so
    that a single odd utterance does not rule the rest; and κ has a broad prior (log-normal, a factor of e)
    around `USUAL_POSTERIOR_SCALE`, so that faultless scores do not ask for posteriors of exactly 1.

    Parameters
    ----------
    scores : Scores
    truth : (n_utterances,) int
        The number of each one's class.
    """
    from scipy.optimize import minimize_scalar

    n_utterances, n_classes = scores.classes.shape
    slip, equal = 1.0 / (n_utterances + 2), np.zeros(n_classes)

    def loss(log_scale: float) -> float:
        posteriors = class_posteriors(scores, float(np.exp(log_scale)), equal)[np.arange(n_utterances), truth]
        surprise = -np.log((1.0 - slip) * posteriors + slip / n_classes).sum()
        return float(surprise + 0.5 * (log_scale - np.log(USUAL_POSTERIOR_SCALE)) ** 2)

    best = minimize_scalar(loss, bounds=(np.log(1e-5), 0.0), method="bounded", options={"xatol": 1e-6})
    # Rounded: the last digits of a minimum carry no meaning.
    return float(f"{np.exp(best.x):.4g}")


def classify(
    model: Model,
    utterances: Sequence[Utterance],
    *,
    threshold: float | None = None,
    n_jobs: int = 1,
    progress: Progress = no_progress,
) -> Classification:
    """Classify audio by maximum likelihood.

    Parameters
    ----------
    model : Model
    utterances : sequence of Utterance
    threshold : float, optional
        See `Scorer.decide`.
    n_jobs : int
        Workers; the decisions do not depend on it.
    progress : callable

    Returns
    -------
    Classification
        A decision for every utterance that could be read, a `Problem` for every other.

    Raises
    ------
    InputError
        If the model was trained on frames made elsewhere: score those with `Scorer`.
    """
    if model.features is None:
        raise InputError(
            "this model was trained on frames made elsewhere, not on audio; use Scorer(model).score"
        )
    extraction: Extraction = FeatureExtractor(model.features).extract(utterances, n_jobs, progress)
    scorer = Scorer(model)
    scores = scorer.score(extraction.frames, n_jobs, progress)
    ids = [utterance.id for utterance in extraction.utterances]
    return Classification(tuple(scorer.decide(scores, ids, threshold)), extraction.problems)
