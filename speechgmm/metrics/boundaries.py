"""How near the boundaries of recognised or aligned segments are to those of a reference."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from speechgmm.errors import InputError
from speechgmm.metrics.sequences import edit_alignment

# In seconds. Times such as 0.29 are not exact in binary; this decides no real case.
ROUNDING = 1e-6


class Stretch(Protocol):
    """A part of an utterance with a label, such as a `speechgmm.manifest.Segment`; times in seconds."""

    @property
    def start(self) -> float: ...
    @property
    def end(self) -> float: ...
    @property
    def label(self) -> str: ...


@dataclass(frozen=True)
class BoundaryAgreement:
    """How near the boundaries of hypotheses are to those of their references; adds with `+`.

    Attributes
    ----------
    tolerances : tuple of float
        In seconds.
    n_reference, n_hypothesis : int
        Boundaries of both: one more than an utterance has segments.
    n_matched : int
        Boundaries that stand for one another.
    n_within : tuple of int
        Of these, how many lie no further apart than each tolerance.
    deviation : float
        Sum over them of the time from the reference's to the hypothesis's boundary, in seconds; positive where
        the hypothesis is late.
    absolute_deviation : float
        The same without signs.
    """

    tolerances: tuple[float, ...]
    n_reference: int
    n_hypothesis: int
    n_matched: int
    n_within: tuple[int, ...]
    deviation: float
    absolute_deviation: float

    def __add__(self, other: "BoundaryAgreement") -> "BoundaryAgreement":
        if self.tolerances != other.tolerances:
            raise InputError(f"agreements within {self.tolerances} s and {other.tolerances} s do not add")
        return BoundaryAgreement(
            self.tolerances,
            self.n_reference + other.n_reference,
            self.n_hypothesis + other.n_hypothesis,
            self.n_matched + other.n_matched,
            tuple(a + b for a, b in zip(self.n_within, other.n_within, strict=True)),
            self.deviation + other.deviation,
            self.absolute_deviation + other.absolute_deviation,
        )

    @property
    def shares(self) -> tuple[float, ...]:
        """For each tolerance, the share of all the reference's boundaries that were found within it."""
        return tuple(n / max(self.n_reference, 1) for n in self.n_within)

    @property
    def mean_deviation(self) -> float:
        """Seconds by which a matched boundary is late on average; 0 where none is matched."""
        return self.deviation / max(self.n_matched, 1)

    @property
    def mean_absolute_deviation(self) -> float:
        """Seconds by which a matched boundary is early or late on average; 0 where none is matched."""
        return self.absolute_deviation / max(self.n_matched, 1)


def boundary_agreement(
    reference: Sequence[Stretch],
    hypothesis: Sequence[Stretch],
    tolerances: Sequence[float] = (0.01, 0.02, 0.05),
) -> BoundaryAgreement:
    """Compare the boundaries of one utterance's segments with those of its reference.

    The labels are aligned as by `edit_alignment`. Where a segment of the hypothesis stands for one of the reference,
    under the same label or another, their ends are compared; and the starts of the first two, if they stand for one
    another. All other boundaries of the reference are misses: they count in `n_reference`, within no tolerance.
    A start inside the utterance is taken for the end of the segment before, so gaps are not looked at.

    Parameters
    ----------
    reference, hypothesis : sequence of Segment
        In order of time.
    tolerances : sequence of float > 0
        In seconds; a boundary that is exactly so far off counts as found.

    Raises
    ------
    InputError
        If a tolerance is not positive, or the strings are too long (see `edit_alignment`).
    """
    tolerances = tuple(float(one) for one in tolerances)
    if not tolerances or not min(tolerances) > 0:
        raise InputError(f"`tolerances` are {tolerances}; there must be one or more, in seconds, all above 0")
    pairs = edit_alignment([one.label for one in reference], [one.label for one in hypothesis]).pairs
    matched = [(reference[i], hypothesis[j]) for i, j in pairs if i is not None and j is not None]
    off = [found.end - true.end for true, found in matched]
    if (0, 0) in pairs:
        off.append(hypothesis[0].start - reference[0].start)
    deviations = np.array(off, np.float64)
    return BoundaryAgreement(
        tolerances,
        len(reference) + bool(reference),
        len(hypothesis) + bool(hypothesis),
        len(off),
        tuple(int((np.abs(deviations) <= limit + ROUNDING).sum()) for limit in tolerances),
        float(deviations.sum()),
        float(np.abs(deviations).sum()),
    )
