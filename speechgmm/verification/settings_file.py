"""Settings of a background model and of enrolment, and the TOML files that hold them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from speechgmm.em.adaptation import Adaptation
from speechgmm.settings import feature_settings, read_tables
from speechgmm.verification.background import UbmSettings


class VerificationSettings(NamedTuple):
    """What a configuration file says.

    Parameters
    ----------
    features : mapping
        Settings of a `FeatureConfig`, as far as they are given.
    background : UbmSettings
    adaptation : Adaptation
    """

    features: Mapping[str, Any] = {}
    background: UbmSettings = UbmSettings()
    adaptation: Adaptation = Adaptation()


def read_verification_settings(path: str | Path) -> VerificationSettings:
    """Read a TOML file with the tables `[features]`, `[background]` and `[adaptation]`, all optional.

    Raises
    ------
    InputError
        If the file cannot be read, or a setting is unknown or out of range.
    FormatError
        If it is not TOML, or has other tables.
    """
    return VerificationSettings(**read_tables(path, {"features": feature_settings, **VERIFICATION_TABLES}))


# The tables that verification has beside those of features, and what reads each.
VERIFICATION_TABLES: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "background": UbmSettings.from_dict,
    "adaptation": Adaptation.from_dict,
}
