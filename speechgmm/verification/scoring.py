"""Trials scored: how much better an enrolled model explains an utterance than the background does.

The background is evaluated once for each utterance, whatever the number of models it is tried against. Three methods
give the log-likelihood ratio per frame, natural log:

- "dense": all components of both mixtures, which is the definition itself.
- "top": for each frame the background's best components decide which of the model's are touched; the others count as
  they do in the background. A model that was adapted from the background keeps its order of components, so little is
  lost.
- "linear": the first term of the ratio's Taylor series around the background: the product of the model's shift of
  means with the utterance's first-order statistics, from the same best components. It sees means alone.

References
----------
Reynolds, Quatieri, Dunn (2000), Digital Signal Processing 10, section 3.4 (fast scoring). Glembek, Burget, Dehak,
Brummer, Kenny (2009), Comparison of scoring methods used in speaker recognition with joint factor analysis, ICASSP.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Literal, Protocol, get_args

import numpy as np

from speechgmm.em.coordinates import Float64s, Floats
from speechgmm.em.mixture import LARGEST, Mixture
from speechgmm.errors import InputError
from speechgmm.parallel import Progress, check_jobs, no_progress, one_blas_thread, shard_map
from speechgmm.scorer import require_utterance
from speechgmm.verification.dense_scoring import DenseScoring
from speechgmm.verification.fast_scoring import LinearScoring, Numbers, TopScoring

Method = Literal["top", "dense", "linear"]
METHODS: tuple[Method, ...] = get_args(Method)
# Components of the background that are kept for a frame, unless said otherwise.
USUAL_TOP = 20
# Utterances scored by one call where they are tried against the same models.
BATCH = 16


class TrialScorer:
    """Scores trials of enrolled models against utterances.

    Parameters
    ----------
    ubm : Mixture
        The background that the models were adapted from. "top" and "linear" need variances ("diag" or "spherical").
    models : sequence of Mixture
        Each item is asked for once, as the scorer is made.
    method : {"top", "dense", "linear"}
    top : int >= 1
        For "top" and "linear": components kept for each frame.

    Raises
    ------
    InputError
        If a model does not have the shape of the background, or an option is unknown.
    """

    def __init__(
        self, ubm: Mixture, models: Sequence[Mixture], method: Method = "top", top: int = USUAL_TOP
    ) -> None:
        if method not in METHODS:
            raise InputError(f"`method` is {method!r}; it can be {', '.join(METHODS)}")
        if isinstance(top, bool) or not isinstance(top, int) or top < 1:
            raise InputError(f"`top` is {top!r}; it must be a whole number of 1 or more")
        if not len(models):
            raise InputError("there is no model to try utterances against")
        self.n_features = ubm.n_features
        self.n_models = len(models)
        checked = (_require_adapted(ubm, model, number) for number, model in enumerate(models))
        with one_blas_thread():
            self._scoring = _SCORINGS[method](ubm, checked, top)

    def score(
        self,
        frames: Sequence[Floats],
        models: Any,
        tests: Any,
        n_jobs: int = 1,
        progress: Progress = no_progress,
    ) -> Float64s:
        """Score a list of trials.

        Parameters
        ----------
        frames : sequence of (n_frames, n_features) arrays
            One for each utterance; each is asked for once, when its turn comes.
        models, tests : (n_trials,) int
            Each trial's model and utterance, as numbers.
        n_jobs : int
            Threads. The scores do not depend on it, nor on what else is scored.
        progress : callable
            Told ("trials", utterances done, utterances in all).

        Returns
        -------
        (n_trials,) float64
            Log-likelihood ratios per frame, natural log.

        Raises
        ------
        InputError
            If a number is out of range, or an utterance has no frames, the wrong number of features, or values
            that are not finite.
        """
        models, tests = _numbers("models", models, self.n_models), _numbers("tests", tests, len(frames))
        if models.shape != tests.shape:
            raise InputError(
                f"{models.size} `models` and {tests.size} `tests` given; a trial has one of each"
            )
        order = np.argsort(tests, kind="stable")
        utterances, starts = np.unique(tests[order], return_index=True)
        wanted = np.split(models[order], starts[1:]) if order.size else []
        scores = np.empty(models.size)
        found = self._scores(frames, list(zip(utterances.tolist(), wanted, strict=True)), n_jobs, progress)
        if order.size:
            scores[order] = np.concatenate(list(found))
        return scores

    def score_all(
        self, frames: Sequence[Floats], n_jobs: int = 1, progress: Progress = no_progress
    ) -> Float64s:
        """Score every model against every utterance: (n_models, n_utterances); see `score`."""
        everyone = np.arange(self.n_models)
        scores = np.empty((self.n_models, len(frames)))
        wanted = [(number, everyone) for number in range(len(frames))]
        for number, found in enumerate(self._scores(frames, wanted, n_jobs, progress)):
            scores[:, number] = found
        return scores

    def _scores(
        self,
        frames: Sequence[Floats],
        wanted: Sequence[tuple[int, Numbers]],
        n_jobs: int,
        progress: Progress,
    ) -> Iterator[Float64s]:
        """The scores of each utterance against the models wanted, in order."""
        check_jobs(n_jobs)
        done = 0
        with one_blas_thread():
            for found in shard_map(partial(self._score_batch, frames), list(_batches(wanted)), n_jobs):
                yield from found
                done += len(found)
                progress("trials", done, len(wanted))

    def _score_batch(self, frames: Sequence[Floats], batch: tuple[list[int], Numbers]) -> Float64s:
        """Scores (n_utterances, n_models) of some utterances against the same models."""
        utterances, models = batch
        checked = [self._checked(frames, number) for number in utterances]
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows shows in the scores
            scores = self._scoring.llrs(checked, models)
        for number, row in zip(utterances, scores, strict=True):
            if not np.isfinite(row).all():
                raise _too_large(number)
        return scores

    def _checked(self, frames: Sequence[Floats], number: int) -> Floats:
        """The frames of an utterance, known to be sound."""
        checked = require_utterance(frames[number], number, self.n_features)
        if max(checked.max(), -checked.min()) > LARGEST:
            raise _too_large(number)
        return checked


def _too_large(number: int) -> InputError:
    return InputError(f"`frames[{number}]` has values so large that their squares overflow; scale them down")


def _batches(wanted: Sequence[tuple[int, Numbers]]) -> Iterator[tuple[list[int], Numbers]]:
    """Utterances in a row that are tried against the same models, a few at a time."""
    batch: list[int] = []
    models: Numbers = np.empty(0, np.int64)
    for number, own in wanted:
        if batch and (len(batch) == BATCH or not (own is models or np.array_equal(own, models))):
            yield batch, models
            batch = []
        batch, models = [*batch, number], own
    if batch:
        yield batch, models


def _numbers(name: str, values: Any, limit: int) -> Numbers:
    numbers = np.asarray(values)
    if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
        raise InputError(f"`{name}` must be whole numbers in one row, one a trial")
    if numbers.size and (numbers.min() < 0 or numbers.max() >= limit):
        raise InputError(
            f"`{name}` has numbers from {numbers.min()} to {numbers.max()}; there are {limit}, counted from 0"
        )
    return numbers.astype(np.int64)


def _require_adapted(ubm: Mixture, model: Mixture, number: int) -> Mixture:
    if model.means.shape != ubm.means.shape or model.covariance_type != ubm.covariance_type:
        raise InputError(
            f"model {number} has {model.n_components} components of {model.n_features} features "
            f"({model.covariance_type}); the background has {ubm.n_components} of {ubm.n_features} "
            f"({ubm.covariance_type}): was it adapted from another one?"
        )
    return model


class _Scoring(Protocol):
    """A method, made ready for some models."""

    def __init__(self, ubm: Mixture, models: Iterable[Mixture], top: int) -> None: ...

    def llrs(self, utterances: Sequence[Floats], models: Numbers) -> Float64s:
        """Mean llrs per frame, (n_utterances, n_models)."""
        ...


_SCORINGS: dict[Method, type[_Scoring]] = {"top": TopScoring, "dense": DenseScoring, "linear": LinearScoring}
