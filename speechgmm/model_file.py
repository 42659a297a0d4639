"""A model and its file: one safetensors file that is safe to load, and says how it was made."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechgmm.em.covariance import covariance_type_of
from speechgmm.em.mixture import Mixture
from speechgmm.errors import FormatError, InputError
from speechgmm.features.config import FeatureConfig
from speechgmm.manifest import UNWRITABLE
from speechgmm.tensor_file import (
    CLASSIFIER,
    number_of,
    read_tensor_file,
    require_names,
    texts_field,
    typed_field,
    write_tensor_file,
)

# Format 1 holds variances; 2 says what kind of covariance each mixture has; 3 has today's names of feature settings.
FORMAT = 3
KIND = CLASSIFIER
# The answer for utterances that no class explains.
UNKNOWN = "unknown"
TENSORS = ("n_components", "weights", "means", "covariances")
FIELDS = {"kind", "format", "label", "labels", "features", "posterior_scale", "log_priors", "record"}
NEW_FIELDS = {2: {"covariance_types"}, 3: {"covariance_types"}}
# Feature settings as formats 1 and 2 named them, and what speech activity yes or no is called now.
OLD_NAMES = {"n_mels": "n_filters", "mel_scale": "frequency_scale"}
OLD_ACTIVITY = {False: "none", True: "energy"}


@dataclass(frozen=True, eq=False)
class Model:
    """What `train` makes and `classify` uses: a mixture for each class, and one for all speech.

    Parameters
    ----------
    label : str
        What is told apart, such as "speaker".
    labels : tuple of str
        Its values, sorted: the classes.
    mixtures : tuple of Mixture
        Theirs, in the same order.
    background : Mixture
        Of all classes together; what a winner must beat by a threshold to be accepted.
    posterior_scale : float > 0
        The κ of the posteriors, softmax(κ × frames × mean log-likelihood + log prior): neighbouring frames
        say much the same, so each counts for less than one.
    log_priors : (n_classes,) float64
        Natural log; the priors sum to 1.
    features : FeatureConfig or None
        How audio becomes frames; None for a model of frames that were made elsewhere.
    record : mapping
        How the model was made: version, seed, settings, fingerprint of the training utterances, figures.
    """

    label: str
    labels: tuple[str, ...]
    mixtures: tuple[Mixture, ...]
    background: Mixture
    posterior_scale: float
    log_priors: NDArray[np.float64]
    features: FeatureConfig | None
    record: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "log_priors", np.array(self.log_priors, np.float64))
        object.__setattr__(self, "posterior_scale", float(self.posterior_scale))
        if (
            not self.labels
            or len(self.labels) != len(self.mixtures)
            or self.log_priors.shape != (len(self.labels),)
        ):
            raise InputError(
                f"a model needs one mixture and one prior for each label; it has {len(self.labels)} labels, "
                f"{len(self.mixtures)} mixtures and {self.log_priors.size} priors"
            )
        if list(self.labels) != sorted(set(self.labels)):
            raise InputError("model `labels` must be sorted and distinct")
        if len({mixture.n_features for mixture in (*self.mixtures, self.background)}) != 1:
            raise InputError("the mixtures of a model must have the same number of features")
        if self.features is not None and self.features.n_features != self.n_features:
            raise InputError(
                f"the feature configuration gives {self.features.n_features} values a frame; "
                f"the mixtures have {self.n_features}"
            )
        if not (math.isfinite(self.posterior_scale) and self.posterior_scale > 0):
            raise InputError(f"model `posterior_scale` is {self.posterior_scale}; it must be positive")
        if not all(label and not UNWRITABLE.search(label) for label in (self.label, *self.labels)):
            raise InputError("model labels must be texts that are not empty, without control characters")
        if UNKNOWN in self.labels:
            raise InputError(f"model `labels` has {UNKNOWN!r}, which is the answer for rejected utterances")
        if not np.isfinite(self.log_priors).all():
            raise InputError("model `log_priors` has values that are not finite; no class may be impossible")
        if not abs(np.exp(self.log_priors).sum() - 1.0) < 1e-6:
            raise InputError(f"model priors sum to {np.exp(self.log_priors).sum():g}; they must sum to 1")

    @property
    def n_features(self) -> int:
        """How many values a frame has."""
        return self.background.n_features

    def save(self, path: str | Path) -> None:
        """Write the model to one safetensors file, whole or not at all. Equal models give equal bytes.

        Raises
        ------
        InputError
            If the place cannot be written, or `record` holds what JSON cannot.
        """
        mixtures = (*self.mixtures, self.background)
        types = [mixture.covariance_type for mixture in mixtures]
        tensors = {
            "n_components": np.array([mixture.n_components for mixture in mixtures], np.int64),
            "weights": np.concatenate([mixture.weights for mixture in mixtures]),
            "means": np.concatenate([mixture.means for mixture in mixtures]),
            "covariances": np.concatenate([mixture.covariances.ravel() for mixture in mixtures]),
        }
        header = {
            "kind": KIND,
            "format": FORMAT,
            "covariance_types": types,
            "label": self.label,
            "labels": list(self.labels),
            "features": None if self.features is None else self.features.to_dict(),
            "posterior_scale": self.posterior_scale,
            "log_priors": self.log_priors.tolist(),
            "record": dict(self.record),
        }
        write_tensor_file(path, header, tensors, "model")

    @classmethod
    def load(cls, path: str | Path) -> "Model":
        """Read a model; nothing in the file is ever executed.

        Raises
        ------
        InputError
            If there is no such file.
        FormatError
            If it is truncated, of another kind, of a newer version, or says something impossible; the message
            names the field.
        """
        header, tensors = read_tensor_file(Path(path), KIND, FORMAT, "model")
        try:
            require_names(header, FIELDS | NEW_FIELDS.get(header["format"], set()))
            require_names(tensors, TENSORS, "array")
            mixtures = _mixtures(tensors, header.get("covariance_types"), header["format"])
            return cls(
                label=typed_field(header, "label", str),
                labels=tuple(texts_field(header, "labels")),
                mixtures=tuple(mixtures[:-1]),
                background=mixtures[-1],
                posterior_scale=number_of("posterior_scale", header["posterior_scale"]),
                log_priors=np.array(_numbers(header, "log_priors")),
                features=_features(header),
                record=_record(header),
            )
        except InputError as error:
            raise FormatError(f"{path}: {error} (edited by hand, or damaged?)") from error


def _mixtures(tensors: Mapping[str, NDArray[Any]], types: Any, version: int) -> list[Mixture]:
    """Cut the joined arrays into mixtures; `types` is None in files of format 1."""
    counts = tensors["n_components"]
    if counts.dtype != np.int64 or counts.ndim != 1 or counts.size < 2 or counts.min() < 1:
        raise InputError("array `n_components` must hold positive int64 numbers, one a class and one more")
    for name in ("weights", "means"):
        _require_rows(name, tensors[name], counts.sum())
    bounds = np.cumsum(counts)[:-1]
    means = np.split(tensors["means"], bounds)
    if version == 1:
        _require_rows("covariances", tensors["covariances"], counts.sum())
        types, covariances = ["diag"] * counts.size, np.split(tensors["covariances"], bounds)
    else:
        covariances = _covariances(tensors["covariances"], types, means)
    parts = zip(np.split(tensors["weights"], bounds), means, covariances, types, strict=True)
    return [Mixture(*part) for part in parts]


def _covariances(
    joined: NDArray[Any], types: Any, means: list[NDArray[np.float64]]
) -> list[NDArray[np.float64]]:
    """Cut numbers in a row into covariances of the given types."""
    if not isinstance(types, list) or len(types) != len(means):
        raise InputError(f"field `covariance_types` must be a list of {len(means)} names, one a mixture")
    if means[0].ndim != 2:
        raise InputError(f"array `means` has {means[0].ndim} dimensions; it must have 2")
    shapes = [
        covariance_type_of(str(type_)).shape(*mean.shape) for type_, mean in zip(types, means, strict=True)
    ]
    sizes = [math.prod(shape) for shape in shapes]
    _require_rows("covariances", joined, sum(sizes))
    parts = np.split(joined, np.cumsum(sizes)[:-1])
    if joined.ndim != 1:
        raise InputError(f"array `covariances` has {joined.ndim} dimensions; it must have 1")
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def _require_rows(name: str, array: NDArray[Any], n_rows: int) -> None:
    found = len(np.atleast_1d(array))
    if array.dtype != np.float64 or array.ndim == 0 or found != n_rows:
        raise InputError(
            f"array `{name}` holds {found} rows of {array.dtype}; there must be {n_rows} of float64"
        )


def _record(header: Mapping[str, Any]) -> dict[str, Any]:
    """The record, whose parts that people are shown must be what they are called."""
    record: dict[str, Any] = typed_field(header, "record", dict)
    if not isinstance(record.get("settings", {}), dict):
        raise InputError("field `record.settings` must be names with their values")
    rows = record.get("classes", [])
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and row.keys() == rows[0].keys() for row in rows
    ):
        raise InputError("field `record.classes` must be a list of the same figures of each class")
    return record


def _numbers(header: Mapping[str, Any], name: str) -> list[float]:
    return [number_of(name, value) for value in typed_field(header, name, list)]


def _features(header: Mapping[str, Any]) -> FeatureConfig | None:
    if header["features"] is None:
        return None
    settings = dict(typed_field(header, "features", dict))
    if header["format"] < 3:
        new = sorted(set(OLD_NAMES.values()) & settings.keys())
        if new:
            raise InputError(
                f"field `features`: unknown feature setting {new[0]!r} in format {header['format']}"
            )
        settings = {OLD_NAMES.get(name, name): value for name, value in settings.items()}
        activity = settings.get("speech_activity", False)
        settings["speech_activity"] = OLD_ACTIVITY[activity] if isinstance(activity, bool) else activity
    try:
        return FeatureConfig.from_dict(settings)
    except InputError as error:
        raise InputError(f"field `features`: {error}") from error
