"""Audio becomes frames: cepstra, deltas, speech activity, normalisation."""

from speechgmm.features.config import FeatureConfig
from speechgmm.features.extract import Extraction, FeatureExtractor, Problem

__all__ = ["Extraction", "FeatureConfig", "FeatureExtractor", "Problem"]
