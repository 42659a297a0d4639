"""Settings of a training, and the TOML files that hold them."""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from speechgmm.em.covariance import COVARIANCE_TYPES
from speechgmm.errors import FormatError, InputError
from speechgmm.features.config import FeatureConfig

Priors = Literal["equal", "training"]
Made = TypeVar("Made")


@dataclass(frozen=True)
class TrainingSettings:
    """How mixtures are fitted.

    Parameters
    ----------
    n_components : int
        Gaussians in each mixture.
    covariance_type : {"diag", "full", "tied", "spherical"}
        Of each mixture; "full" tells features apart that vary together, and needs many more frames.
    max_iterations : int
        The most EM iterations.
    tolerance : float
        EM stops when the mean log-likelihood per frame changes by less.
    variance_floor : float
        As a fraction of the variance of all training frames.
    priors : {"equal", "training"}
        Of the classes: all the same, or in proportion to their training utterances.
    seed : int
    """

    n_components: int = 32
    covariance_type: str = "diag"
    max_iterations: int = 100
    tolerance: float = 1e-3
    variance_floor: float = 1e-2
    priors: Priors = "equal"
    seed: int = 0

    def __post_init__(self) -> None:
        whole = {"n_components": 1, "max_iterations": 1, "seed": 0}
        require_numbers(self, "training", whole, ("tolerance", "variance_floor"))
        if self.covariance_type not in COVARIANCE_TYPES:
            raise InputError(
                f"training setting `covariance_type` is {self.covariance_type!r}; it can be "
                f"{', '.join(COVARIANCE_TYPES)}"
            )
        if self.priors not in ("equal", "training"):
            raise InputError(f"training setting `priors` is {self.priors!r}; it can be equal, training")

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> "TrainingSettings":
        """Settings from plain values, such as a TOML table; those not given keep their defaults."""
        return settings_from_table(cls, settings, "training")


def require_numbers(settings: Any, kind: str, whole: Mapping[str, int], real: Sequence[str]) -> None:
    """Refuse settings that are out of range.

    Parameters
    ----------
    settings : object
        With the attributes named.
    kind : str
        What they are of, for the message.
    whole : mapping
        Whole numbers, with the least that each may be.
    real : sequence of str
        Numbers from 0.
    """
    for name, least in whole.items():
        value = getattr(settings, name)
        if type(value) is not int or value < least:
            raise InputError(f"{kind} setting `{name}` is {value!r}; it must be a whole number from {least}")
    for name in real:
        value = getattr(settings, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise InputError(f"{kind} setting `{name}` is {value!r}; it must be a number from 0")


def settings_from_table(cls: type[Made], settings: Mapping[str, Any], kind: str) -> Made:
    """Settings of a class from plain values; those not given keep their defaults, unknown ones are refused."""
    known = [setting.name for setting in fields(cls)]  # type: ignore[arg-type]
    unknown = sorted(set(map(str, settings)) - set(known))
    if unknown:
        raise InputError(f"unknown {kind} setting {unknown[0]!r}; known are {', '.join(known)}")
    return cls(**settings)


@dataclass(frozen=True)
class Settings:
    """What a configuration file says.

    Parameters
    ----------
    features : mapping
        Settings of a `FeatureConfig`, as far as they are given.
    training : TrainingSettings
    """

    features: Mapping[str, Any] = field(default_factory=dict)
    training: TrainingSettings = field(default_factory=TrainingSettings)


def feature_settings(table: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings of a `FeatureConfig` that a table gives, checked; a sample rate may come from the audio later."""
    FeatureConfig.from_dict(table)
    return table


# The tables that a training has, and what reads each.
TRAINING_TABLES: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "features": feature_settings,
    "training": TrainingSettings.from_dict,
}


def read_settings(path: str | Path) -> Settings:
    """Read a TOML file with the tables `[features]` and `[training]`, both optional; errors are as in `read_tables`."""
    return Settings(**read_tables(path, TRAINING_TABLES))


def read_tables(
    path: str | Path, readers: Mapping[str, Callable[[Mapping[str, Any]], Any]]
) -> dict[str, Any]:
    """Read a TOML file of tables, all of them optional.

    Parameters
    ----------
    path : str or Path
    readers : mapping
        By the name of a table what makes settings of it; `{}` is read where the file has no such table.

    Returns
    -------
    dict
        What the readers made, by the names of the tables.

    Raises
    ------
    InputError
        If the file cannot be read, or a setting is unknown or out of range.
    FormatError
        If it is not TOML, or has other tables.
    """
    try:
        with open(path, "rb") as handle:
            tables = tomllib.load(handle)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: is not TOML ({error})") from error
    for name, table in tables.items():
        if name not in readers or not isinstance(table, dict):
            *first, last = (f"[{known}]" for known in readers)
            raise FormatError(f"{path}: has {name!r}; there can be the tables {', '.join(first)} and {last}")
    try:
        return {name: read(tables.get(name, {})) for name, read in readers.items()}
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
