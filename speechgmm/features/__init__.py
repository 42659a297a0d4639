"""Audio becomes frames: cepstra, deltas, normalisation, speech activity, and a store for them.

Names are loaded when they are first used: compiled code takes a moment.
"""

from typing import TYPE_CHECKING

from speechgmm.lazy import lazy_names

if TYPE_CHECKING:
    from speechgmm.features.config import FeatureConfig
    from speechgmm.features.dynamics import with_deltas
    from speechgmm.features.extract import Extraction, FeatureExtractor, Outcome, Problem
    from speechgmm.features.imported import export_features, import_features, read_features
    from speechgmm.features.normalisation import FrameStatistics, SlidingNormaliser, normalise
    from speechgmm.features.store import FeatureStore

__all__ = [
    "Extraction",
    "FeatureConfig",
    "FeatureExtractor",
    "FeatureStore",
    "FrameStatistics",
    "Outcome",
    "Problem",
    "SlidingNormaliser",
    "export_features",
    "import_features",
    "normalise",
    "read_features",
    "with_deltas",
]

__getattr__ = lazy_names(
    __name__,
    {
        "config": ("FeatureConfig",),
        "dynamics": ("with_deltas",),
        "extract": ("Extraction", "FeatureExtractor", "Outcome", "Problem"),
        "imported": ("export_features", "import_features", "read_features"),
        "normalisation": ("FrameStatistics", "SlidingNormaliser", "normalise"),
        "store": ("FeatureStore",),
    },
)


def __dir__() -> list[str]:
    return __all__
