"""The method "dense" of `speechgmm.verification.scoring`: all components of whole mixtures."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechgmm.em.coordinates import Float64s, Floats
from speechgmm.em.many import ManyMixtures
from speechgmm.em.mixture import Mixture
from speechgmm.em.moments import moments_of


class DenseScoring:
    """The definition itself, in float32 products where those are exact enough.

    Parameters
    ----------
    ubm : Mixture
    models : iterable of Mixture
    top : int
        Not used: all components count.
    """

    def __init__(self, ubm: Mixture, models: Iterable[Mixture], top: int) -> None:
        coordinates = moments_of(ubm).coordinates("full" if ubm.has_matrices else "diag")
        self._mixtures = ManyMixtures([ubm, *models], coordinates, together=1)

    def llrs(self, utterances: Sequence[Floats], models: NDArray[np.integer[Any]]) -> Float64s:
        """Mean llrs per frame, (n_utterances, n_models)."""
        numbers, mixtures = np.concatenate([[0], models + 1]), self._mixtures
        if not np.array_equal(numbers, np.arange(len(mixtures.mixtures))):
            mixtures = mixtures.chosen(numbers.tolist())
        means = np.array([mixtures.total_log_likelihoods(frames) / len(frames) for frames in utterances])
        return np.asarray(means[:, 1:] - means[:, :1])
