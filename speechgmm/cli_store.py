"""What commands with a speaker store share: options, how it is read, and what is said of figures."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speechgmm.errors import InputError, SpeechGMMWarning

if TYPE_CHECKING:
    from speechgmm.verification.speaker_store import SpeakerStore
    from speechgmm.verification.verifier import OperatingPoint

Store = Annotated[Path, typer.Argument(help="Speaker store.", show_default=False)]
PTarget = Annotated[
    float | None,
    typer.Option(
        "--p-target", help="How probable an enrolled (or the claimed) voice is beforehand [default: 0.5]."
    ),
]
CMiss = Annotated[
    float | None, typer.Option("--c-miss", help="What it costs to reject the right one [default: 1].")
]
CFa = Annotated[
    float | None, typer.Option("--c-fa", help="What it costs to accept a wrong one [default: 1].")
]
# How the figures of `speechgmm.metrics.detection` are called, those of every other point by their own names.
FIGURES = {"eer": "EER", "cllr": "Cllr", "min_cllr": "min Cllr"}


def operating_point(p_target: float | None, c_miss: float | None, c_fa: float | None) -> "OperatingPoint":
    """The operating point of what was given on the command line."""
    from speechgmm.verification.verifier import OperatingPoint

    given = {"p_target": p_target, "c_miss": c_miss, "c_fa": c_fa}
    return OperatingPoint(**{name: value for name, value in given.items() if value is not None})


def spoken_point(store: "SpeakerStore", point: "OperatingPoint", accepted: str) -> str:
    """What decisions rest on, said of those that were accepted; nothing of a store that decides nothing."""
    if store.calibration is None:
        return ""
    return (
        f"p_target {point.p_target:g}, a miss costs {point.c_miss:g}, a false alarm {point.c_fa:g}: {accepted} from "
        f"an llr of {point.threshold:.4f}"
    )


def load_store(path: Path) -> "SpeakerStore":
    """Read a speaker store; a model of the other kind is told apart."""
    from speechgmm.tensor_file import CLASSIFIER, kind_of
    from speechgmm.verification.speaker_store import SpeakerStore

    if kind_of(path) == CLASSIFIER:
        raise InputError(
            f"{path}: is a model of `speechgmm train`, which tells classes apart; needed is a speaker store, which "
            "`speechgmm ubm` makes"
        )
    return SpeakerStore.load(path)


def say_uncalibrated(store: "SpeakerStore", consequence: str) -> None:
    """Warn that a store cannot decide yet, and what comes of it."""
    if store.calibration is None:
        warnings.warn(
            f"this store is not calibrated: {consequence}; `speechgmm calibrate` learns what scores mean",
            SpeechGMMWarning,
            stacklevel=2,
        )


def spoken_figure(name: str) -> str:
    """The name of a figure as people write it: "min DCF at 0.01" for `min_dcf_0.01`."""
    kind, cost, point = name.partition("_dcf_")
    return f"{kind} DCF at {point.replace('_', ', ')}" if cost else FIGURES[name]
