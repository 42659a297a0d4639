"""A calibration as a speaker store keeps it: with the system whose scores it is of, and what those rest on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from speechgmm.em.adaptation import Adaptation
from speechgmm.errors import InputError
from speechgmm.tensor_file import number_of, require_names, typed_field
from speechgmm.verification.calibration import Calibration
from speechgmm.verification.system import System


class Basis(NamedTuple):
    """What scores rest on, beside the speakers that are enrolled; see `SpeakerStore.basis`.

    Parameters
    ----------
    background : str
        The fingerprint of the background model.
    adaptation : Adaptation
    cohort : str or None
        The fingerprint of the cohort; None where scores are not normalised.
    """

    background: str
    adaptation: Adaptation
    cohort: str | None


@dataclass(frozen=True, eq=False)
class StoredCalibration:
    """A calibration, and of which scores it is.

    Parameters
    ----------
    calibration : Calibration
        Of one system.
    basis : Basis
        What the scores rest on; a store refuses the calibration once that changes.
    system : System
        Whose scores it reads.
    explanations : tuple of float
        How well held-out utterances were explained: see `AnomalyModel`. None: nothing is said of anomalies.
    record : mapping
        What it was trained on, and figures.

    Raises
    ------
    InputError
        If the calibration is of several systems.
    """

    calibration: Calibration
    basis: Basis
    system: System = field(default_factory=System)
    explanations: tuple[float, ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "explanations", tuple(map(float, self.explanations)))
        if len(self.calibration.weights) != 1:
            raise InputError(
                f"the calibration is of {len(self.calibration.weights)} systems' scores; a store reads those of one"
            )

    def to_dict(self) -> dict[str, Any]:
        """The fields as values that JSON has."""
        return {
            "calibration": self.calibration.to_dict(),
            "basis": self.basis._asdict() | {"adaptation": self.basis.adaptation.to_dict()},
            "system": self.system.to_dict(),
            "explanations": list(self.explanations),
            "record": dict(self.record),
        }

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> "StoredCalibration":
        """The calibration of `to_dict`; raises `InputError` where a field is missing, unknown or wrong."""
        require_names(table, {"calibration", "basis", "system", "explanations", "record"}, of="calibration.")
        system = typed_field(table, "system", dict, "calibration.")
        values = typed_field(table, "explanations", list, "calibration.")
        require_names(system, System().to_dict(), of="calibration.system.")
        return cls(
            calibration=Calibration.from_dict(typed_field(table, "calibration", dict, "calibration.")),
            basis=_basis(typed_field(table, "basis", dict, "calibration.")),
            system=System.from_dict(system),
            explanations=tuple(number_of("calibration.explanations", value) for value in values),
            record=typed_field(table, "record", dict, "calibration."),
        )


def _basis(table: Mapping[str, Any]) -> Basis:
    of = "calibration.basis."
    require_names(table, Basis._fields, of=of)
    adaptation = typed_field(table, "adaptation", dict, of)
    require_names(adaptation, Adaptation().to_dict(), of=f"{of}adaptation.")
    return Basis(
        background=typed_field(table, "background", str, of),
        adaptation=Adaptation.from_dict(adaptation),
        cohort=None if table["cohort"] is None else typed_field(table, "cohort", str, of),
    )
