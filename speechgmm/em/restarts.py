"""From frames to a fitted mixture in one call: a start, EM, and the best of several."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from speechgmm.em.checkpoint import Checkpoint
from speechgmm.em.coordinates import Float64s
from speechgmm.em.fit import FitResult, fit
from speechgmm.em.initialise import kmeans, random_frames, split
from speechgmm.em.mixture import Mixture
from speechgmm.em.sources import as_source
from speechgmm.errors import InputError
from speechgmm.parallel import check_jobs, parallel_map

INITIALISATIONS: dict[str, Callable[..., Mixture]] = {
    "kmeans": kmeans,
    "random": random_frames,
    "split": split,
}


def fit_mixture(
    frames: Any,
    n_components: int,
    *,
    covariance_type: str = "diag",
    initialisation: str | Mixture = "kmeans",
    n_init: int = 1,
    seed: int = 0,
    max_iterations: int = 100,
    tolerance: float = 1e-3,
    variance_floor: Float64s | float = 1e-3,
    reg_covar: float = 0.0,
    n_jobs: int = 1,
    on_iteration: Callable[[int, float], None] | None = None,
    checkpoint: Checkpoint | None = None,
) -> FitResult:
    """Find a start, fit a mixture from it by EM, and keep the best of `n_init` such fits.

    Parameters
    ----------
    frames : (n_frames, n_features) array or FrameSource
        A source may give them weights.
    n_components : int >= 1
        Fewer come back, with a warning, where there are fewer distinct frames.
    covariance_type : {"diag", "full", "tied", "spherical"}
    initialisation : {"kmeans", "random", "split"} or Mixture
        See `speechgmm.em.initialise`. A mixture is the start itself.
    n_init : int >= 1
        How many fits, each from a start of its own. The one with the highest likelihood is kept, the first of equals.
    seed : int >= 0
        The same seed gives the same mixture. The first start has this seed itself, the others have seeds that follow
        from it, so that more of them never do worse.
    max_iterations, tolerance, variance_floor, reg_covar, on_iteration
        As in `speechgmm.em.fit.fit`. Of several fits, each calls `on_iteration`, from threads.
    n_jobs : int
        Threads: over the fits where there are several, otherwise over parts of the frames. The result does not depend
        on it.
    checkpoint : Checkpoint, optional
        As in `speechgmm.em.fit.fit`. Of several fits, each has a file of its own: `name-1.suffix` and so on.

    Returns
    -------
    FitResult

    Raises
    ------
    InputError
        If a frame is not finite, or an option is out of range.
    """
    check_jobs(n_jobs)
    _check_start(initialisation, n_components, covariance_type, n_init)
    source = as_source(frames)
    seeds, files = seeds_of(seed, n_init), _one_each(checkpoint, n_init)
    # Never both at once: several fits, and several threads for one of them.
    jobs = n_jobs if n_init == 1 else 1

    stopped = threading.Event()

    def go_on(number: int, likelihood: float) -> None:
        if stopped.is_set():
            raise InterruptedError("another fit failed, or the program was interrupted")
        if on_iteration is not None:
            on_iteration(number, likelihood)

    def fit_one(number: int) -> FitResult:
        if isinstance(initialisation, Mixture):
            start = initialisation
        else:
            start = INITIALISATIONS[initialisation](
                source,
                n_components,
                covariance_type=covariance_type,
                seed=seeds[number],
                variance_floor=variance_floor,
                reg_covar=reg_covar,
                n_jobs=jobs,
            )
        return fit(
            source,
            start,
            max_iterations=max_iterations,
            tolerance=tolerance,
            variance_floor=variance_floor,
            reg_covar=reg_covar,
            n_jobs=jobs,
            on_iteration=go_on,
            checkpoint=files[number],
        )

    try:
        results = parallel_map(fit_one, range(n_init), n_jobs)
        return max(results, key=lambda result: result.history[-1])
    finally:
        stopped.set()  # after an interrupt, threads would go on by themselves


def seeds_of(seed: int, n_seeds: int) -> list[int]:
    """The seed itself and others that follow from it; asking for more changes none of the first."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise InputError(f"`seed` is {seed!r}; it must be a whole number of 0 or more")
    following = np.random.SeedSequence(int(seed)).generate_state(n_seeds - 1, np.uint64)
    return [int(seed), *map(int, following)]


def _check_start(initialisation: str | Mixture, n_components: int, covariance_type: str, n_init: int) -> None:
    if isinstance(n_init, bool) or not isinstance(n_init, int | np.integer) or n_init < 1:
        raise InputError(f"`n_init` is {n_init!r}; it must be a whole number of 1 or more")
    if not isinstance(initialisation, Mixture):
        if initialisation not in INITIALISATIONS:
            raise InputError(
                f"`initialisation` is {initialisation!r}; it must be a mixture or one of {', '.join(INITIALISATIONS)}"
            )
        return
    if n_init > 1:
        raise InputError(
            f"`n_init` is {n_init}, but fits that start from the same mixture are all the same; use 1"
        )
    if (initialisation.n_components, initialisation.covariance_type) != (n_components, covariance_type):
        raise InputError(
            f"the mixture given as `initialisation` has {initialisation.n_components} components "
            f"({initialisation.covariance_type}); asked for were {n_components} ({covariance_type})"
        )


def _one_each(checkpoint: Checkpoint | None, n_init: int) -> list[Checkpoint | None]:
    """A checkpoint for each fit."""
    if checkpoint is None or n_init == 1:
        return [checkpoint] * n_init
    path = Path(checkpoint.path)
    names = [path.with_name(f"{path.stem}-{number}{path.suffix}") for number in range(1, n_init + 1)]
    return [replace(checkpoint, path=name) for name in names]
