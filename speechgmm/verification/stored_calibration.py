"""A calibration as a speaker store keeps it: with the system whose scores it is of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from speechgmm.errors import InputError
from speechgmm.tensor_file import number_of, require_names, typed_field
from speechgmm.verification.calibration import Calibration
from speechgmm.verification.system import System


@dataclass(frozen=True, eq=False)
class StoredCalibration:
    """A calibration, and of which scores it is.

    Parameters
    ----------
    calibration : Calibration
        Of one system.
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
            "system": self.system.to_dict(),
            "explanations": list(self.explanations),
            "record": dict(self.record),
        }

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> "StoredCalibration":
        """The calibration of `to_dict`; raises `InputError` where a field is missing, unknown or wrong."""
        require_names(table, {"calibration", "system", "explanations", "record"}, of="calibration.")
        values = typed_field(table, "explanations", list, "calibration.")
        return cls(
            calibration=Calibration.from_dict(typed_field(table, "calibration", dict, "calibration.")),
            system=System.from_dict(typed_field(table, "system", dict, "calibration.")),
            explanations=tuple(number_of("calibration.explanations", value) for value in values),
            record=typed_field(table, "record", dict, "calibration."),
        )
