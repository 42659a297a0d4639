"""The state of an EM loop on disk, so that a long fit can be stopped at any moment and go on later."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from speechgmm.em.mixture import Mixture
from speechgmm.em.sources import FrameSource
from speechgmm.errors import FormatError, InputError
from speechgmm.files import canonical_json, require_writable, write_atomically
from speechgmm.tensor_file import KEY, read_tensors

FORMAT = 1
KIND = "speechgmm checkpoint"
# In the order in which the checksum takes them.
TENSORS = ("weights", "means", "covariances", "history", "reseeded")


@dataclass(frozen=True, eq=False)
class EMState:
    """Where an EM loop is.

    Parameters
    ----------
    mixture : Mixture
    history : tuple of float
        Mean log-likelihood per frame after 0, 1, 2, … M-steps; the last one is `mixture`'s own.
    reseeded : tuple of int
        After which M-steps components were re-seeded or dropped.
    """

    mixture: Mixture
    history: tuple[float, ...] = ()
    reseeded: tuple[int, ...] = ()

    @property
    def n_iterations(self) -> int:
        """How many M-steps were made."""
        return len(self.history) - 1

    def converged(self, tolerance: float) -> bool:
        """Whether the last change of the likelihood was below the tolerance, and not that of a re-seed."""
        if len(self.history) < 2 or self.n_iterations in self.reseeded:
            return False
        return abs(self.history[-1] - self.history[-2]) < tolerance


@dataclass(frozen=True)
class Checkpoint:
    """A file in which a fit keeps its state, and from which the same fit goes on.

    The state is written whole or not at all. A fit that goes on from it gives the same bits as one that never
    stopped, also after the process was killed. The finished state stays in the file: the same call returns it at once,
    and one with more iterations goes on from it.

    Parameters
    ----------
    path : str or Path
        One safetensors file.
    every : int >= 1
        Iterations from one write to the next.

    Raises
    ------
    InputError
        If `every` is not a whole number of 1 or more.
    """

    path: str | Path
    every: int = 10

    def __post_init__(self) -> None:
        if isinstance(self.every, bool) or not isinstance(self.every, int) or self.every < 1:
            raise InputError(f"checkpoint `every` is {self.every!r}; it must be a whole number of 1 or more")

    def open(
        self, source: FrameSource, start: Mixture, settings: Mapping[str, ArrayLike]
    ) -> "OpenCheckpoint":
        """The checkpoint of one fit.

        Parameters
        ----------
        source : FrameSource
        start : Mixture
        settings : mapping
            Names and values (numbers, or arrays of them) of all that changes the steps of the loop.

        Raises
        ------
        InputError
            If the file could not be written.
        """
        require_writable(self.path)
        texts = {name: str(np.asarray(value, np.float64).tolist()) for name, value in settings.items()}
        return OpenCheckpoint(Path(self.path), self.every, _of_frames(source), _of_mixture(start), texts)


@dataclass(frozen=True)
class OpenCheckpoint:
    """A checkpoint file together with the fingerprint of the fit that it serves."""

    path: Path
    every: int
    frames: str
    start: str
    settings: Mapping[str, str]

    def load(self, max_iterations: int) -> EMState | None:
        """The state in the file, or None where there is no file yet.

        Raises
        ------
        FormatError
            If the file is damaged, of another kind or of a newer version.
        InputError
            If it belongs to another fit, or to this one after more than `max_iterations`.
        """
        if not self.path.exists():
            return None
        header, tensors = _read(self.path)
        differences = self._differences(header)
        if differences:
            raise InputError(
                f"{self.path}: this checkpoint belongs to another fit; different are {', '.join(differences)} "
                "(give another path, or delete the file)"
            )
        state = EMState(
            Mixture(tensors["weights"], tensors["means"], tensors["covariances"], header["covariance_type"]),
            tuple(tensors["history"].tolist()),
            tuple(tensors["reseeded"].tolist()),
        )
        if state.n_iterations > max_iterations:
            raise InputError(
                f"{self.path}: this checkpoint was written after {state.n_iterations} iterations; `max_iterations` is "
                f"only {max_iterations} (give another path, or delete the file)"
            )
        return state

    def _differences(self, header: Mapping[str, Any]) -> list[str]:
        """What of the fingerprint in a file is not that of this fit."""
        theirs, ours = header["settings"], self.settings
        named = [
            f"`{name}` ({theirs.get(name, 'not set'):.60} there, {ours.get(name, 'not set'):.60} here)"
            for name in sorted({*theirs, *ours})
            if theirs.get(name) != ours.get(name)
        ]
        return [f"the {name}" for name in ("frames", "start") if header[name] != getattr(self, name)] + named

    def save(self, state: EMState) -> None:
        """Replace the file by one with this state."""
        from safetensors.numpy import save

        header = canonical_json(
            {
                "kind": KIND,
                "format": FORMAT,
                "covariance_type": state.mixture.covariance_type,
                "frames": self.frames,
                "start": self.start,
                "settings": dict(self.settings),
            }
        )
        tensors: dict[str, NDArray[Any]] = {
            "weights": state.mixture.weights,
            "means": state.mixture.means,
            "covariances": state.mixture.covariances,
            "history": np.array(state.history, np.float64),
            "reseeded": np.array(state.reseeded, np.int64),
        }
        tensors["checksum"] = _checksum(header, tensors)
        write_atomically(self.path, save(tensors, {KEY: header}))


def _read(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Header and arrays of a checkpoint; once their checksum agrees, they are as `save` wrote them."""
    found, tensors = read_tensors(path)
    text = found or ""
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(
            f"{path}: a safetensors file, but not a {KIND} (`{KEY}` is not JSON: {error})"
        ) from error
    if not isinstance(header, dict) or header.get("kind") != KIND:
        raise FormatError(f"{path}: field `kind` must be {KIND!r}; this is another kind of file")
    if header.get("format") != FORMAT:
        raise FormatError(
            f"{path}: field `format` is {header.get('format')!r}; this speechgmm reads {FORMAT} "
            "(written by a newer speechgmm?)"
        )
    if set(tensors) != {*TENSORS, "checksum"} or not np.array_equal(
        tensors["checksum"], _checksum(text, tensors)
    ):
        raise FormatError(
            f"{path}: the content does not agree with its checksum (damaged, or edited by hand?)"
        )
    return header, tensors


def _checksum(header: str, tensors: Mapping[str, NDArray[Any]]) -> NDArray[np.uint8]:
    digest = hashlib.sha256(header.encode())
    _add(digest, *(tensors[name] for name in TENSORS))
    return np.frombuffer(digest.digest(), np.uint8)


def _of_frames(source: FrameSource) -> str:
    """A digest of the frames as the loop sees them: shard by shard, with their types and weights."""
    digest = hashlib.sha256()
    for frames, weights in source.shards():
        _add(digest, frames, np.empty(0) if weights is None else weights)
    return digest.hexdigest()


def _of_mixture(mixture: Mixture) -> str:
    digest = hashlib.sha256(mixture.covariance_type.encode())
    _add(digest, mixture.weights, mixture.means, mixture.covariances)
    return digest.hexdigest()


def _add(digest: Any, *arrays: NDArray[Any]) -> None:
    """Add types, shapes and bytes of arrays to a digest."""
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ravel(array))
