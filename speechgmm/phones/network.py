"""A loop of units in which a language model weighs what may follow: what a decoder searches through."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from speechgmm.em.coordinates import Float32s
from speechgmm.errors import InputError
from speechgmm.phones.graph import Int32s
from speechgmm.phones.hmm import HmmSet
from speechgmm.phones.language_model import NgramModel


@dataclass(frozen=True)
class LoopWeights:
    """What a language model counts against the frames.

    Parameters
    ----------
    language_model : float >= 0
        Its log-probabilities are multiplied by this.
    insertion : float
        Added for every unit, in nats: positive values make strings longer, negative ones shorter.
    """

    language_model: float = 1.0
    insertion: float = 0.0

    def __post_init__(self) -> None:
        values = (self.language_model, self.insertion)
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        if not numbers or not 0 <= self.language_model < np.inf or not np.isfinite(self.insertion):
            raise InputError(
                f"the weight of the language model is {self.language_model!r} and that of insertions "
                f"{self.insertion!r}; they must be finite, the first not negative"
            )


@dataclass(frozen=True, eq=False)
class Network:
    """Instances of units and how they follow one another; see `speechgmm.phones.kernels_decoding.decode`.

    Parameters
    ----------
    units : tuple of str
    instances : (n_instances,) int32
        The number of the unit of each.
    pdfs : (n_instances, n_states) int32
    lengths : (n_instances,) int32
    junctions : (n_instances,) int32
    firsts : (n_junctions,) int32
    weights : (n_junctions, n_following) float32
    entries, exits : (n_instances,) float32
    """

    units: tuple[str, ...]
    instances: Int32s
    pdfs: Int32s
    lengths: Int32s
    junctions: Int32s
    firsts: Int32s
    weights: Float32s
    entries: Float32s
    exits: Float32s


def phone_loop(hmms: HmmSet, language_model: NgramModel, weights: LoopWeights | None = None) -> Network:
    """The loop of all units that a language model knows: what `PhoneRecogniser.recognise` searches through.

    An instance is a unit after the order - 2 units before it, so that a bigram needs one of each unit and a trigram
    one of each pair.

    Raises
    ------
    InputError
        If the language model has a unit that has no HMM.
    """
    weights = weights or LoopWeights()
    units = language_model.vocabulary
    states = [hmms.states_of(unit) for unit in units]
    table = language_model.table()
    if language_model.order == 1:  # the same whatever comes before
        table = np.repeat(table[None], len(units) + 1, axis=0)
    n_units = len(units)
    # A last context that is a unit, after anything: (..., n_units, n_units + 1).
    scores = weights.language_model * table + weights.insertion
    after_unit = scores[..., :n_units, :].reshape(-1, n_units + 1)
    instances = np.arange(len(after_unit)) % n_units
    entries = np.full(len(after_unit), -np.inf)
    entries[len(after_unit) - n_units :] = scores[(n_units,) * (table.ndim - 1)][:n_units]
    pdfs, lengths = _padded(states)
    return Network(
        units=units,
        instances=instances.astype(np.int32),
        pdfs=pdfs[instances],
        lengths=lengths[instances],
        junctions=np.arange(len(after_unit), dtype=np.int32),
        firsts=_first_followers(len(after_unit), n_units),
        weights=_float32(after_unit[:, :n_units]),
        entries=_float32(entries),
        exits=_float32(after_unit[:, n_units] - weights.insertion),
    )


def _first_followers(n_instances: int, n_units: int) -> Int32s:
    """For each instance (oldest, ..., unit), the number of instance (..., unit, 0)."""
    if n_instances == n_units:
        return np.zeros(n_instances, np.int32)
    # The oldest unit is forgotten; the last becomes one that may also be the start.
    between, last = np.divmod(np.arange(n_instances) % (n_instances // (n_units + 1)), n_units)
    return ((between * (n_units + 1) + last) * n_units).astype(np.int32)


def _padded(states: Sequence[tuple[int, ...]]) -> tuple[Int32s, Int32s]:
    """States as rows filled up with their last one, and their true lengths."""
    lengths = np.array([len(own) for own in states], np.int32)
    width = int(lengths.max())
    rows = [(*own, *(own[-1],) * (width - len(own))) for own in states]
    return np.array(rows, np.int32), lengths


def _float32(values: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> Float32s:
    """Log-probabilities for compiled code, which knows no infinity."""
    return np.ascontiguousarray(np.maximum(values, -1e30), np.float32)
