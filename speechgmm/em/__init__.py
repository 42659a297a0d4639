"""The core EM engine: Gaussian mixtures over frames of any kind. It knows nothing of speech.

Names are loaded when they are first used: compiled code and scikit-learn take a moment.
"""

from typing import TYPE_CHECKING

from speechgmm.lazy import lazy_names

if TYPE_CHECKING:
    from speechgmm.em.adaptation import Adaptation, adapt, adapt_to_frames
    from speechgmm.em.checkpoint import Checkpoint
    from speechgmm.em.coordinates import Coordinates
    from speechgmm.em.estimator import GaussianMixture
    from speechgmm.em.fit import FitResult
    from speechgmm.em.grouped import GroupedResult, fit_grouped
    from speechgmm.em.initialise import kmeans, random_frames, split
    from speechgmm.em.mixture import Mixture
    from speechgmm.em.online import StepwiseEM
    from speechgmm.em.restarts import fit_mixture
    from speechgmm.em.selection import Selection, select_components
    from speechgmm.em.sources import ArraySource, BlockSource, FrameSource
    from speechgmm.em.statistics import EStep, Statistics, accumulate

_HOMES = {
    "adaptation": ("Adaptation", "adapt", "adapt_to_frames"),
    "checkpoint": ("Checkpoint",),
    "coordinates": ("Coordinates",),
    "estimator": ("GaussianMixture",),
    "fit": ("FitResult",),
    "grouped": ("GroupedResult", "fit_grouped"),
    "initialise": ("kmeans", "random_frames", "split"),
    "mixture": ("Mixture",),
    "online": ("StepwiseEM",),
    "restarts": ("fit_mixture",),
    "selection": ("Selection", "select_components"),
    "sources": ("ArraySource", "BlockSource", "FrameSource"),
    "statistics": ("EStep", "Statistics", "accumulate"),
}

__all__ = [
    "Adaptation",
    "ArraySource",
    "BlockSource",
    "Checkpoint",
    "Coordinates",
    "EStep",
    "FitResult",
    "FrameSource",
    "GaussianMixture",
    "GroupedResult",
    "Mixture",
    "Selection",
    "Statistics",
    "StepwiseEM",
    "accumulate",
    "adapt",
    "adapt_to_frames",
    "fit_grouped",
    "fit_mixture",
    "kmeans",
    "random_frames",
    "select_components",
    "split",
]

__getattr__ = lazy_names(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
