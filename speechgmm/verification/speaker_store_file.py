"""The file of a speaker store: one safetensors file with a checksum, safe to load, each field of it checked.

Arrays, with S speakers, C speakers of the cohort, K components and D features:

- `weights` (K,), `means` (K, D), `covariances` (in the shape of their type): the background mixture;
- `origin` (D,), `scale` (D,) and, of matrices, `transform` (D, D): the coordinates of all statistics;
- `zeroth` (S, K), `first` (S, K, D) and, where variances are adapted, `second` (S, …): the speakers;
- `cohort_zeroth` (C, K), `cohort_first` (C, K, D), `cohort_second`, `cohort_frames` (frames, D) float32, one utterance
  after the other, and `cohort_lengths` (utterances,) int64: the cohort, where there is one;
- `checksum` (32,) uint8.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from speechgmm.em.adaptation import Adaptation
from speechgmm.em.coordinates import Coordinates, Float64s
from speechgmm.em.covariance import covariance_type_of
from speechgmm.em.mixture import Mixture
from speechgmm.em.statistics import Statistics
from speechgmm.errors import FormatError, InputError
from speechgmm.features.config import FeatureConfig
from speechgmm.tensor_file import (
    SPEAKERS,
    array_of,
    number_of,
    read_tensor_file,
    require_names,
    texts_field,
    typed_field,
    write_tensor_file,
)
from speechgmm.verification.background import Background
from speechgmm.verification.cohort import Cohort
from speechgmm.verification.enrolment import Enrolment
from speechgmm.verification.stored_calibration import StoredCalibration

FORMAT = 1
KIND = SPEAKERS
FIELDS = {
    *("kind", "format", "covariance_type", "features", "record"),
    *("adaptation", "speakers", "cohort", "calibration"),
}
ROW = {"speaker", "utterances", "seconds", "frames", "log_likelihood"}
# Posteriors of a frame sum to 1 but for rounding, and so do the frames of all components to their number.
LEAST_AGREEMENT = 1e-3


class Stored(NamedTuple):
    """All that a file holds; enrolments are sorted by speaker."""

    background: Background
    adaptation: Adaptation
    coordinates: Coordinates
    enrolments: tuple[Enrolment, ...]
    cohort: Cohort | None
    calibration: StoredCalibration | None


def write_store(path: str | Path, stored: Stored) -> None:
    """Write a store to one file, whole or not at all. Equal stores give equal bytes.

    Raises
    ------
    InputError
        If the place cannot be written, or a `record` holds what JSON cannot.
    """
    background, cohort = stored.background, stored.cohort
    header = {
        "kind": KIND,
        "format": FORMAT,
        "covariance_type": background.ubm.covariance_type,
        "features": None if background.features is None else background.features.to_dict(),
        "record": dict(background.record),
        "adaptation": stored.adaptation.to_dict(),
        "speakers": [_row(enrolment) for enrolment in stored.enrolments],
        "cohort": None
        if cohort is None
        else {
            "speakers": [_row(enrolment) for enrolment in cohort.enrolments],
            "frame_speakers": list(cohort.frame_speakers),
        },
        "calibration": None if stored.calibration is None else stored.calibration.to_dict(),
    }
    tensors = {name: getattr(background.ubm, name) for name in ("weights", "means", "covariances")}
    for name in _of_coordinates(background.ubm):
        tensors[name] = getattr(stored.coordinates, name)
    tensors |= _joined(stored.enrolments, stored, "")
    if cohort is not None:
        tensors |= _joined(cohort.enrolments, stored, "cohort_")
        nothing = np.empty((0, background.n_features), np.float32)
        tensors["cohort_frames"] = np.concatenate([nothing, *cohort.frames])
        tensors["cohort_lengths"] = np.array([len(frames) for frames in cohort.frames], np.int64)
    write_tensor_file(path, header, tensors, "speaker store", checksum=True)


def _row(enrolment: Enrolment) -> dict[str, Any]:
    return {
        "speaker": enrolment.speaker,
        "utterances": list(enrolment.utterances),
        "seconds": enrolment.seconds,
        "frames": float(enrolment.n_frames),
        "log_likelihood": float(enrolment.statistics.log_likelihood),
    }


def _of_coordinates(ubm: Mixture) -> tuple[str, ...]:
    return ("origin", "scale", "transform") if ubm.has_matrices else ("origin", "scale")


def _shapes(ubm: Mixture, adaptation: Adaptation) -> dict[str, tuple[int, ...]]:
    """The orders of statistics that are kept, with their shapes."""
    shapes = {"zeroth": ubm.weights.shape, "first": ubm.means.shape}
    return shapes | ({"second": ubm.covariances.shape} if "variances" in adaptation.parts else {})


def _joined(enrolments: Sequence[Enrolment], stored: Stored, prefix: str) -> dict[str, Float64s]:
    """The statistics of many speakers, each order in one array."""
    return {
        prefix + name: np.array(
            [getattr(enrolment.statistics, name) for enrolment in enrolments], np.float64
        ).reshape(len(enrolments), *shape)
        for name, shape in _shapes(stored.background.ubm, stored.adaptation).items()
    }


def read_store(path: str | Path) -> Stored:
    """Read a store; nothing in the file is ever executed.

    Raises
    ------
    InputError
        If there is no such file.
    FormatError
        If it is truncated, damaged, of another kind, of a newer version, or says something impossible; the message
        names the field.
    """
    header, tensors = read_tensor_file(Path(path), KIND, FORMAT, "speaker store", checksum=True)
    try:
        require_names(header, FIELDS)
        return _stored(header, tensors)
    except InputError as error:
        raise FormatError(f"{path}: {error} (edited by hand, or damaged?)") from error


def _stored(header: Mapping[str, Any], tensors: dict[str, NDArray[Any]]) -> Stored:
    adaptation = _adaptation(header)
    ubm = _mixture(header, tensors)
    background = Background(ubm, _features(header), typed_field(header, "record", dict))
    table = None if header["cohort"] is None else typed_field(header, "cohort", dict)
    orders = tuple(_shapes(ubm, adaptation))
    names = {"weights", "means", "covariances", *_of_coordinates(ubm), *orders}
    if table is not None:
        require_names(table, {"speakers", "frame_speakers"}, of="cohort.")
        names |= {"cohort_frames", "cohort_lengths", *(f"cohort_{name}" for name in orders)}
    require_names(tensors, names, "array")
    coordinates = _coordinates(ubm, tensors)
    stored = Stored(background, adaptation, coordinates, (), None, _calibration(header))
    enrolments = _enrolments(header, "", "", tensors, stored)
    if table is not None:
        stored = stored._replace(cohort=_cohort(table, tensors, stored))
    return stored._replace(enrolments=enrolments)


def _adaptation(header: Mapping[str, Any]) -> Adaptation:
    table = typed_field(header, "adaptation", dict)
    require_names(table, Adaptation().to_dict(), of="adaptation.")
    try:
        return Adaptation.from_dict(table)
    except InputError as error:
        raise InputError(f"field `adaptation`: {error}") from error


def _features(header: Mapping[str, Any]) -> FeatureConfig | None:
    if header["features"] is None:
        return None
    try:
        return FeatureConfig.from_dict(typed_field(header, "features", dict))
    except InputError as error:
        raise InputError(f"field `features`: {error}") from error


def _calibration(header: Mapping[str, Any]) -> StoredCalibration | None:
    if header["calibration"] is None:
        return None
    try:
        return StoredCalibration.from_dict(typed_field(header, "calibration", dict))
    except InputError as error:
        raise InputError(f"field `calibration`: {error}") from error


def _mixture(header: Mapping[str, Any], tensors: dict[str, NDArray[Any]]) -> Mixture:
    type_ = typed_field(header, "covariance_type", str)
    kind = covariance_type_of(type_)
    for name in ("weights", "means", "covariances"):
        if name not in tensors:
            raise InputError(f"array `{name}` is missing")
    weights = array_of(tensors, "weights", (None,), np.float64)
    means = array_of(tensors, "means", (len(weights), None), np.float64)
    covariances = array_of(tensors, "covariances", kind.shape(*means.shape), np.float64)
    return Mixture(weights, means, covariances, type_)


def _coordinates(ubm: Mixture, tensors: dict[str, NDArray[Any]]) -> Coordinates:
    sizes = {
        "origin": (ubm.n_features,),
        "scale": (ubm.n_features,),
        "transform": (ubm.n_features, ubm.n_features),
    }
    parts = {name: array_of(tensors, name, sizes[name], np.float64) for name in _of_coordinates(ubm)}
    for name, part in parts.items():
        if not np.isfinite(part).all() or (name == "scale" and part.min() <= 0):
            raise InputError(f"array `{name}` has values that are not finite, or not positive")
    transform = parts.get("transform")
    if transform is not None and not np.linalg.cond(transform) < 1e12:
        raise InputError("array `transform` cannot be undone")
    found = Coordinates(**parts)
    if not (np.array_equal(found.origin, parts["origin"]) and np.array_equal(found.scale, parts["scale"])):
        raise InputError("array `origin` or `scale` has values that float32, or powers of two, do not")
    return found


def _cohort(table: Mapping[str, Any], tensors: dict[str, NDArray[Any]], stored: Stored) -> Cohort:
    lengths = array_of(tensors, "cohort_lengths", (None,), np.int64)
    if lengths.size and lengths.min() < 1:
        raise InputError(f"array `cohort_lengths` has the value {lengths.min()}; it must be 1 or more")
    # Python's whole numbers, whose sum cannot run over.
    shape = (sum(lengths.tolist()), stored.background.n_features)
    joined = array_of(tensors, "cohort_frames", shape, np.float32)
    frames = np.split(joined, np.cumsum(lengths)[:-1]) if lengths.size else []
    return Cohort(
        enrolments=_enrolments(table, "cohort_", "cohort.", tensors, stored),
        frames=tuple(frames),
        frame_speakers=tuple(texts_field(table, "frame_speakers", "cohort.")),
    )


def _enrolments(
    table: Mapping[str, Any], prefix: str, of: str, tensors: dict[str, NDArray[Any]], stored: Stored
) -> tuple[Enrolment, ...]:
    """The enrolments that a list of rows and arrays with a prefix describe."""
    rows = typed_field(table, "speakers", list, of)
    ubm = stored.background.ubm
    orders = {
        name: array_of(tensors, prefix + name, (len(rows), *shape), np.float64)
        for name, shape in _shapes(ubm, stored.adaptation).items()
    }
    nothing = np.broadcast_to(0.0, ubm.covariances.shape)
    iterated = stored.adaptation if stored.adaptation.iterations > 1 else None
    made = []
    for index, row in enumerate(rows):
        where = f"{of}speakers[{index}]."
        if not isinstance(row, dict):
            raise InputError(f"field `{where[:-1]}` is {row!r:.80}; it must be of type dict")
        require_names(row, ROW, of=where)
        statistics = Statistics(
            zeroth=orders["zeroth"][index],
            first=orders["first"][index],
            second=orders["second"][index] if "second" in orders else nothing,
            log_likelihood=number_of(f"{where}log_likelihood", row["log_likelihood"]),
            n_frames=number_of(f"{where}frames", row["frames"]),
            coordinates=stored.coordinates,
            covariance_type=ubm.covariance_type,
        )
        speaker = typed_field(row, "speaker", str, where)
        _require_possible(speaker, statistics)
        utterances = tuple(texts_field(row, "utterances", where))
        seconds = number_of(f"{where}seconds", row["seconds"])
        made.append(
            Enrolment(speaker, statistics, utterances, stored.background.fingerprint, seconds, iterated)
        )
    names = [enrolment.speaker for enrolment in made]
    if names != sorted(set(names)):
        raise InputError(f"field `{of}speakers` must be sorted by speaker, one row each")
    return tuple(made)


def _require_possible(speaker: str, statistics: Statistics) -> None:
    """Refuse statistics that no frames have."""
    for name in ("zeroth", "first", "second"):
        if not np.isfinite(getattr(statistics, name)).all():
            raise InputError(
                f"the statistics of speaker {speaker!r} have values in `{name}` that are not finite"
            )
    total, n_frames = float(statistics.zeroth.sum()), statistics.n_frames
    if (
        statistics.zeroth.min() < 0
        or not abs(total - n_frames) <= LEAST_AGREEMENT * n_frames
        or n_frames <= 0
    ):
        raise InputError(
            f"the statistics of speaker {speaker!r} are of {total:g} frames, the least component of "
            f"{statistics.zeroth.min():g}; {n_frames:g} frames are listed"
        )
