"""How many components: information criteria, or the likelihood of frames that were held out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from speechgmm.em.coordinates import Float64s, Floats
from speechgmm.em.fit import FitResult
from speechgmm.em.mixture import Mixture
from speechgmm.em.restarts import fit_mixture
from speechgmm.em.sources import FrameSource, Shard, as_source
from speechgmm.em.statistics import accumulate
from speechgmm.errors import InputError
from speechgmm.parallel import Progress, check_jobs, largest_first, no_progress

Criterion = Literal["bic", "aic", "held_out"]


class Candidate(NamedTuple):
    """One row of the curve.

    Parameters
    ----------
    n_components : int
        As asked for.
    log_likelihood : float
        Of the fitted frames, natural log, per frame.
    n_parameters : int
        Free numbers of the mixture.
    bic, aic : float
        Lower is better.
    held_out : float
        Log-likelihood per frame of frames that were not fitted; NaN without groups.
    """

    n_components: int
    log_likelihood: float
    n_parameters: int
    bic: float
    aic: float
    held_out: float


@dataclass(frozen=True, eq=False)
class Selection:
    """Which number of components was chosen, and why.

    Parameters
    ----------
    criterion : {"bic", "aic", "held_out"}
    curve : tuple of Candidate
        From few components to many. A choice at either end says that the candidates were too few.
    n_components : int
        The choice.
    result : FitResult
        Its fit to all frames.
    """

    criterion: Criterion
    curve: tuple[Candidate, ...]
    n_components: int
    result: FitResult

    @property
    def mixture(self) -> Mixture:
        """The fitted mixture of the choice."""
        return self.result.mixture


def select_components(
    frames: Any,
    candidates: Sequence[int],
    *,
    criterion: Criterion = "bic",
    groups: Any = None,
    folds: int = 5,
    covariance_type: str = "diag",
    initialisation: str = "kmeans",
    n_init: int = 1,
    seed: int = 0,
    max_iterations: int = 100,
    tolerance: float = 1e-3,
    variance_floor: Float64s | float = 1e-3,
    reg_covar: float = 0.0,
    n_jobs: int = 1,
    progress: Progress = no_progress,
) -> Selection:
    """Fit mixtures of several sizes and choose the best by a criterion; of equals, the smallest.

    Neighbouring frames of speech are much alike, so information criteria, which count each as news, choose too many
    components for recognition, and held-out frames must be whole utterances: `groups` says which frames belong
    together.

    Parameters
    ----------
    frames : (n_frames, n_features) array or FrameSource
        A source may give them weights; their sum is the number of frames then.
    candidates : sequence of int >= 1
        Numbers of components to try.
    criterion : {"bic", "aic", "held_out"}
    groups : (n_frames,), optional
        A label for each frame, such as its utterance: a group is fitted or held out as a whole. Needed for "held_out";
        with the others, it adds the column to the curve.
    folds : int >= 2
        The groups are dealt to so many parts, and each part is held out once.
    covariance_type, initialisation, n_init, seed, max_iterations, tolerance, variance_floor, reg_covar
        As in `speechgmm.em.restarts.fit_mixture`.
    n_jobs : int
        Threads, over the fits. The result does not depend on it.
    progress : callable, optional
        Called as `progress("fits", done, total)`.

    Returns
    -------
    Selection

    Raises
    ------
    InputError
        If there are no candidates, or no groups to hold out, a frame is not finite, or an option is out of range.

    References
    ----------
    Schwarz (1978), Ann. Statist. 6. Akaike (1974), IEEE Trans. Automat. Contr. 19. Smyth (2000), Statistics and
    Computing 10 (cross-validated likelihood).
    """
    check_jobs(n_jobs)
    if criterion not in get_args(Criterion):
        raise InputError(f"`criterion` is {criterion!r}; it must be one of {', '.join(get_args(Criterion))}")
    if criterion == "held_out" and groups is None:
        raise InputError(
            "criterion 'held_out' needs `groups`: a label for each frame, such as its utterance. Frames next to each "
            "other are so alike that single frames cannot be held out"
        )
    sizes = _sizes(candidates)
    source = as_source(frames)
    parts = [] if groups is None else _folds(source, groups, folds, seed)
    fits = [(size, part) for size in sizes for part in (None, *range(len(parts)))]
    work = partial(
        _fit_part,
        source,
        parts,
        covariance_type=covariance_type,
        initialisation=initialisation,
        n_init=n_init,
        seed=seed,
        max_iterations=max_iterations,
        tolerance=tolerance,
        variance_floor=variance_floor,
        reg_covar=reg_covar,
        n_jobs=n_jobs if len(fits) == 1 else 1,
    )
    progress("fits", 0, len(fits))
    done = largest_first(
        work, fits, [size for size, _ in fits], n_jobs, lambda count: progress("fits", count, len(fits))
    )
    each = len(parts) + 1
    n_frames = float(source.n_frames if source.weights is None else source.weights.sum())
    curve = tuple(
        _candidate(size, done[number * each : (number + 1) * each], n_frames)
        for number, size in enumerate(sizes)
    )
    chosen = _best(curve, criterion)
    return Selection(criterion, curve, sizes[chosen], done[chosen * each].result)


def _sizes(candidates: Sequence[int]) -> list[int]:
    """The candidates, each once, from few components to many."""
    candidates = list(candidates)
    for size in candidates:
        if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
            raise InputError(f"`candidates` has {size!r}; numbers of components are whole and 1 or more")
    if len(candidates) == 0:
        raise InputError("`candidates` is empty; give at least one number of components")
    return sorted({int(size) for size in candidates})


def _folds(source: FrameSource, groups: Any, folds: int, seed: int) -> list[NDArray[np.bool_]]:
    """For each fold, which frames are held out: whole groups, dealt at random."""
    labels = np.asarray(groups)
    if labels.shape != (source.n_frames,):
        raise InputError(
            f"`groups` has the shape {labels.shape}; with {source.n_frames} frames it must be ({source.n_frames},): "
            "one label for each frame"
        )
    if isinstance(folds, bool) or not isinstance(folds, int | np.integer) or folds < 2:
        raise InputError(f"`folds` is {folds!r}; it must be a whole number of 2 or more")
    # Groups whose frames all have weight 0 are not there.
    counted = np.ones(source.n_frames, np.bool_) if source.weights is None else source.weights > 0
    names, numbers = np.unique(labels[counted], return_inverse=True)
    if len(names) < folds:
        raise InputError(f"`groups` has {len(names)} distinct labels; that is too few for `folds` {folds}")
    fold = np.full(source.n_frames, -1)
    fold[counted] = (np.random.default_rng(seed).permutation(len(names)) % folds)[numbers]
    return [fold == number for number in range(folds)]


class _Masked:
    """A source whose frames have other weights: those of weight 0 are as if they were not there."""

    def __init__(self, source: FrameSource, weights: Float64s) -> None:
        self._source = source
        self.weights = weights
        self.n_frames, self.n_features = source.n_frames, source.n_features

    def shards(self) -> Iterator[Shard]:
        start = 0
        for frames, _ in self._source.shards():
            yield Shard(frames, self.weights[start : start + len(frames)])
            start += len(frames)

    def rows(self, indices: Any) -> Floats:
        return self._source.rows(indices)


class _Fit(NamedTuple):
    """A fit, and the sum of the log-likelihoods of the frames it has not seen."""

    result: FitResult
    held_out: float


def _fit_part(
    source: FrameSource, parts: list[NDArray[np.bool_]], task: tuple[int, int | None], **settings: Any
) -> _Fit:
    """Fit all frames, or all but one part, and score that."""
    size, part = task
    if part is None:
        return _Fit(fit_mixture(source, size, **settings), 0.0)
    weights = np.ones(source.n_frames) if source.weights is None else source.weights
    result = fit_mixture(_Masked(source, np.where(parts[part], 0.0, weights)), size, **settings)
    unseen = _Masked(source, np.where(parts[part], weights, 0.0))
    return _Fit(result, accumulate(result.mixture, unseen).log_likelihood)


def _candidate(size: int, fits: list[_Fit], n_frames: float) -> Candidate:
    """A row of the curve: of the fit to all frames, and those to parts."""
    result = fits[0].result
    total = result.history[-1] * n_frames
    return Candidate(
        n_components=size,
        log_likelihood=result.history[-1],
        n_parameters=result.mixture.n_parameters,
        bic=result.mixture.bic(total, n_frames),
        aic=result.mixture.aic(total),
        held_out=sum(fit.held_out for fit in fits[1:]) / n_frames if len(fits) > 1 else float("nan"),
    )


def _best(curve: Sequence[Candidate], criterion: Criterion) -> int:
    """The number of the best row, the first of equals."""
    values = [-row.held_out if criterion == "held_out" else getattr(row, criterion) for row in curve]
    return int(np.argmin(values))
