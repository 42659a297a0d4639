"""The file of a phone recogniser: one safetensors file with a checksum, safe to load, each field of it checked.

Arrays, with M mixtures, K components of all of them and D features of the HMMs:

- `n_components` (M,) int64; `weights` (K,), `means` (K, D), `variances` (K, D), `stays` (M,) float64;
- `states` (states of all units,) int64, numbers of mixtures, and `n_states` (units,) int64, how many each unit has;
- `transform` (D, joined values) and `offset` (D,) float64, where the front end transforms;
- `ngram_…`: the language model's levels;
- `checksum` (32,) uint8.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from speechgmm.em.mixture import Mixture
from speechgmm.errors import FormatError, InputError
from speechgmm.features.config import FeatureConfig
from speechgmm.phones.front_end import FrontEnd
from speechgmm.phones.hmm import HmmSet
from speechgmm.phones.language_model import NgramModel
from speechgmm.phones.network import LoopWeights
from speechgmm.phones.transforms import LinearTransform
from speechgmm.tensor_file import (
    PHONES,
    array_of,
    number_of,
    read_tensor_file,
    require_names,
    texts_field,
    typed_field,
    write_tensor_file,
)

FORMAT = 1
FIELDS = {
    *("kind", "format", "units", "silence", "features", "front_end"),
    *("vocabulary", "loop_weights", "record"),
}
ARRAYS = ("n_components", "weights", "means", "variances", "stays", "states", "n_states")
NGRAMS = "ngram_"


class Stored(NamedTuple):
    """All that a file holds."""

    features: FeatureConfig
    front_end: FrontEnd
    hmms: HmmSet
    language_model: NgramModel
    weights: LoopWeights
    silence: str
    record: Mapping[str, Any]


def write_recogniser(path: str | Path, recogniser: Stored) -> None:
    """Write a recogniser to one file, whole or not at all. Equal ones give equal bytes.

    Raises
    ------
    InputError
        If the place cannot be written, `record` holds what JSON cannot, or mixtures have no plain variances.
    """
    hmms, front_end = recogniser.hmms, recogniser.front_end
    mixtures = [mixture.with_type("diag") for mixture in hmms.mixtures]
    tensors: dict[str, NDArray[Any]] = {
        "n_components": np.array([mixture.n_components for mixture in mixtures], np.int64),
        "weights": np.concatenate([mixture.weights for mixture in mixtures]),
        "means": np.concatenate([mixture.means for mixture in mixtures]),
        "variances": np.concatenate([mixture.variances for mixture in mixtures]),
        "stays": hmms.stays,
        "states": np.concatenate([np.array(own, np.int64) for own in hmms.states]),
        "n_states": np.array([len(own) for own in hmms.states], np.int64),
    }
    if front_end.transform is not None:
        tensors |= {"transform": front_end.transform.matrix, "offset": front_end.transform.offset}
    tensors |= {NGRAMS + name: array for name, array in recogniser.language_model.to_arrays().items()}
    header = {
        "kind": PHONES,
        "format": FORMAT,
        "units": list(hmms.units),
        "silence": recogniser.silence,
        "features": recogniser.features.to_dict(),
        "front_end": {"n_joined": front_end.n_joined, "context": front_end.context},
        "vocabulary": list(recogniser.language_model.vocabulary),
        "loop_weights": asdict(recogniser.weights),
        "record": dict(recogniser.record),
    }
    write_tensor_file(path, header, tensors, "recogniser", checksum=True)


def read_recogniser(path: str | Path) -> Stored:
    """Read a recogniser; nothing in the file is ever executed.

    Raises
    ------
    InputError
        If there is no such file.
    FormatError
        If it is truncated, of another kind, of a newer version, or says something impossible.
    """
    header, tensors = read_tensor_file(Path(path), PHONES, FORMAT, "recogniser", checksum=True)
    try:
        require_names(header, FIELDS)
        ngrams = {name.removeprefix(NGRAMS): tensors[name] for name in tensors if name.startswith(NGRAMS)}
        others = {name: array for name, array in tensors.items() if not name.startswith(NGRAMS)}
        transformed = {"transform", "offset"} & set(others)
        require_names(others, {*ARRAYS, *(("transform", "offset") if transformed else ())}, "array")
        return Stored(
            features=FeatureConfig.from_dict(typed_field(header, "features", dict)),
            front_end=_front_end(typed_field(header, "front_end", dict), others),
            hmms=_hmms(texts_field(header, "units"), others),
            language_model=NgramModel.from_arrays(texts_field(header, "vocabulary"), ngrams),
            weights=_loop_weights(typed_field(header, "loop_weights", dict)),
            silence=typed_field(header, "silence", str),
            record=typed_field(header, "record", dict),
        )
    except InputError as error:
        raise FormatError(f"{path}: {error} (edited by hand, or damaged?)") from error


def _front_end(table: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> FrontEnd:
    require_names(table, {"n_joined", "context"}, of="front_end.")
    n_joined, context = (typed_field(table, name, int, "front_end.") for name in ("n_joined", "context"))
    if "transform" not in tensors:
        return FrontEnd(n_joined, context)
    matrix = array_of(tensors, "transform", (None, None), np.float64)
    offset = array_of(tensors, "offset", (len(matrix),), np.float64)
    return FrontEnd(n_joined, context, LinearTransform(matrix, offset))


def _loop_weights(table: Mapping[str, Any]) -> LoopWeights:
    require_names(table, ("language_model", "insertion"), of="loop_weights.")
    return LoopWeights(**{name: number_of(f"loop_weights.{name}", value) for name, value in table.items()})


def _hmms(units: list[str], tensors: Mapping[str, NDArray[Any]]) -> HmmSet:
    counts = _counts(tensors, "n_components")
    lengths = _counts(tensors, "n_states", len(units))
    total = int(counts.sum())
    means = array_of(tensors, "means", (total, None), np.float64)
    parts = {
        "weights": array_of(tensors, "weights", (total,), np.float64),
        "means": means,
        "variances": array_of(tensors, "variances", means.shape, np.float64),
    }
    bounds = np.cumsum(counts)[:-1]
    mixtures = [
        Mixture(*own) for own in zip(*(np.split(part, bounds) for part in parts.values()), strict=True)
    ]
    states = array_of(tensors, "states", (int(lengths.sum()),), np.int64)
    owned = np.split(states, np.cumsum(lengths)[:-1])
    stays = array_of(tensors, "stays", (counts.size,), np.float64)
    return HmmSet(tuple(units), tuple(tuple(own.tolist()) for own in owned), tuple(mixtures), stays)


def _counts(tensors: Mapping[str, NDArray[Any]], name: str, length: int | None = None) -> NDArray[Any]:
    """Positive whole numbers, not so many in sum that nothing could hold them."""
    counts = array_of(tensors, name, (length,), np.int64)
    if counts.size == 0 or counts.min() < 1 or counts.max() > 1 << 31:
        raise InputError(f"array `{name}` must hold positive numbers, one at least")
    return counts
