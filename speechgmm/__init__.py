"""Recognise speakers and phonemes from audio with Gaussian mixture models.

Names are loaded when they are first used, so `import speechgmm` is quick.
"""

from typing import TYPE_CHECKING

from speechgmm.lazy import lazy_names
from speechgmm.version import __version__

if TYPE_CHECKING:
    from speechgmm.audio import load_audio
    from speechgmm.em.estimator import GaussianMixture
    from speechgmm.em.mixture import Mixture
    from speechgmm.errors import FormatError, InputError, SpeechGMMError, SpeechGMMWarning
    from speechgmm.evaluation import Evaluation, evaluate
    from speechgmm.features import FeatureConfig, FeatureExtractor
    from speechgmm.manifest import read_manifest, select, write_manifest
    from speechgmm.manifest_build import from_files, from_folders, from_pattern, from_table
    from speechgmm.manifest_check import check, describe
    from speechgmm.manifest_split import split
    from speechgmm.model_file import Model
    from speechgmm.scorer import Decision, Scorer, classify
    from speechgmm.settings import TrainingSettings
    from speechgmm.trainer import Training, train, train_on_frames
    from speechgmm.utterance import Segment, Utterance

_HOMES = {
    "audio": ("load_audio",),
    "em.estimator": ("GaussianMixture",),
    "em.mixture": ("Mixture",),
    "errors": ("FormatError", "InputError", "SpeechGMMError", "SpeechGMMWarning"),
    "evaluation": ("Evaluation", "evaluate"),
    "features": ("FeatureConfig", "FeatureExtractor"),
    "manifest": ("read_manifest", "select", "write_manifest"),
    "manifest_build": ("from_files", "from_folders", "from_pattern", "from_table"),
    "manifest_check": ("check", "describe"),
    "manifest_split": ("split",),
    "model_file": ("Model",),
    "scorer": ("Decision", "Scorer", "classify"),
    "settings": ("TrainingSettings",),
    "trainer": ("Training", "train", "train_on_frames"),
    "utterance": ("Segment", "Utterance"),
}
__all__ = [
    "Decision",
    "Evaluation",
    "FeatureConfig",
    "FeatureExtractor",
    "FormatError",
    "GaussianMixture",
    "InputError",
    "Mixture",
    "Model",
    "Scorer",
    "Segment",
    "SpeechGMMError",
    "SpeechGMMWarning",
    "Training",
    "TrainingSettings",
    "Utterance",
    "__version__",
    "check",
    "classify",
    "describe",
    "evaluate",
    "from_files",
    "from_folders",
    "from_pattern",
    "from_table",
    "load_audio",
    "read_manifest",
    "select",
    "split",
    "train",
    "train_on_frames",
    "write_manifest",
]

__getattr__ = lazy_names(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
