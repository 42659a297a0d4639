"""Hidden Markov models of phones or words: left to right, a mixture in every state."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from speechgmm.em.coordinates import Float64s
from speechgmm.em.many import ManyMixtures
from speechgmm.em.mixture import Mixture
from speechgmm.errors import InputError
from speechgmm.manifest import quoted


@dataclass(frozen=True, eq=False)
class HmmSet:
    """One left-to-right HMM for each unit: a phone, a word, or a phone in its context.

    A state is stayed in or left for the next one; no state is skipped, so a unit takes at least as many frames as it
    has states. Leaving the last state leaves the unit.

    Parameters
    ----------
    units : tuple of str
        Distinct.
    states : tuple of tuple of int
        For each unit, the numbers of its states' mixtures from left to right; states may share one.
    mixtures : tuple of Mixture
        All with as many features. Some may have no state.
    stays : (n_mixtures,) float64
        The probability that a state with this mixture is stayed in, between 0 and 1.

    Raises
    ------
    InputError
        If a unit occurs twice or has no states, or a number or a probability is out of range.
    """

    units: tuple[str, ...]
    states: tuple[tuple[int, ...], ...]
    mixtures: tuple[Mixture, ...]
    stays: Float64s

    def __post_init__(self) -> None:
        stays = np.array(self.stays, np.float64)
        stays.flags.writeable = False
        object.__setattr__(self, "stays", stays)
        object.__setattr__(self, "mixtures", tuple(self.mixtures))
        object.__setattr__(self, "states", tuple(tuple(map(int, one)) for one in self.states))
        if not self.units or len(set(self.units)) < len(self.units) or not all(self.units):
            raise InputError("the units of HMMs must be one or more distinct names")
        if len(self.states) != len(self.units) or not all(self.states):
            raise InputError("each unit of HMMs needs one state or more")
        numbers = {number for one in self.states for number in one}
        if min(numbers) < 0 or max(numbers) >= len(self.mixtures):
            raise InputError(
                f"states of HMMs name mixtures {min(numbers)} to {max(numbers)}; there are {len(self.mixtures)}"
            )
        if stays.shape != (len(self.mixtures),) or not ((stays > 0) & (stays < 1)).all():
            raise InputError(
                "HMMs need one probability of staying, between 0 and 1, for each mixture; "
                f"there are {len(self.mixtures)} mixtures and probabilities {stays.tolist()!s:.80}"
            )
        if len({mixture.n_features for mixture in self.mixtures}) > 1:
            raise InputError("the mixtures of HMMs must have the same number of features")

    @property
    def n_features(self) -> int:
        """How many values a frame has."""
        return self.mixtures[0].n_features

    @property
    def n_components(self) -> int:
        """Gaussians of all mixtures."""
        return sum(mixture.n_components for mixture in self.mixtures)

    @cached_property
    def log_stays(self) -> Float64s:
        """Natural logs of `stays`."""
        return np.asarray(np.log(self.stays))

    @cached_property
    def log_leaves(self) -> Float64s:
        """Natural logs of the probabilities of leaving."""
        return np.asarray(np.log1p(-self.stays))

    @cached_property
    def emissions(self) -> ManyMixtures:
        """The mixtures made ready to explain frames."""
        return ManyMixtures(self.mixtures)

    def states_of(self, unit: str) -> tuple[int, ...]:
        """The numbers of the mixtures of a unit's states; raises `InputError` for an unknown unit."""
        return self._states_by_unit[require_unit(self._states_by_unit, unit)]

    @cached_property
    def _states_by_unit(self) -> dict[str, tuple[int, ...]]:
        return dict(zip(self.units, self.states, strict=True))

    def with_mixtures(self, mixtures: Sequence[Mixture], stays: Float64s | None = None) -> "HmmSet":
        """The same units with other mixtures."""
        return replace(self, mixtures=tuple(mixtures), stays=self.stays if stays is None else stays)


def require_unit(known: dict[str, tuple[int, ...]], unit: str) -> str:
    """Refuse a unit that has no HMM."""
    if unit not in known:
        raise InputError(f"there is no HMM of {unit!r}; there are {quoted(known, 60)}")
    return unit


def left_to_right(n_states: dict[str, int], mixture: Mixture, stay: float = 0.7) -> HmmSet:
    """HMMs of units with so many states each, all states alike: where a flat start begins.

    Parameters
    ----------
    n_states : dict of str to int
        By unit.
    mixture : Mixture
    stay : float
        Probability of staying; 0.7 is a mean of 3.3 frames a state.
    """
    numbers = iter(range(sum(n_states.values())))
    states = tuple(tuple(next(numbers) for _ in range(count)) for count in n_states.values())
    total = sum(n_states.values())
    return HmmSet(tuple(n_states), states, (mixture,) * total, np.full(total, stay))
