"""Fast scoring of models that were adapted from a background: "top" and "linear" of `speechgmm.verification.scoring`.

What a model adds to the log-density of each of the background's components is a short vector times the terms of a
frame, and most of a frame's density lies in few components.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from speechgmm.em.coordinates import Coordinates, Float32s, Float64s, Floats
from speechgmm.em.mixture import LOG_2, Mixture
from speechgmm.em.moments import moments_of
from speechgmm.em.projection import Projection
from speechgmm.em.terms import BLOCK, LOG2_OF_NOTHING
from speechgmm.errors import InputError

# Models that one vector holds, as `speechgmm.features.lanes` has it.
LANES = 16
Numbers = NDArray[np.integer[Any]]


class Explained(NamedTuple):
    """An utterance as the background explains it.

    Parameters
    ----------
    x : (n_frames, n_features) float32
        The frames, in coordinates.
    components : (n_frames, top) int32
        The background's best for each, in rising order.
    shares : (n_frames, top) float32
        Log2 of their posteriors among all components.
    rests : (n_frames,) float32
        The posterior of all other components.
    """

    x: Float32s
    components: NDArray[np.int32]
    shares: Float32s
    rests: Float32s


class BackgroundPass:
    """The background's part in all trials of an utterance.

    Parameters
    ----------
    ubm : Mixture
    top : int
        Components kept for each frame; all, where there are fewer.

    Raises
    ------
    InputError
        If the background has whole covariance matrices.
    """

    def __init__(self, ubm: Mixture, top: int) -> None:
        if ubm.has_matrices:
            raise InputError(
                f'a background of "{ubm.covariance_type}" covariances can be scored with the method "dense" only'
            )
        self.ubm = ubm.with_type("diag")
        self.coordinates: Coordinates = moments_of(self.ubm).coordinates("diag")
        self._top = min(top, ubm.n_components)
        self._projection = Projection.of(self.ubm, self.coordinates)
        self._place = np.stack([self.coordinates.origin, 1.0 / self.coordinates.scale])
        self._centres = self._sharp_centres()
        # Filled up with components that never matter.
        self._n_extra = -ubm.n_components % LANES
        self._matrix = np.pad(self._projection.matrix, ((0, self._n_extra), (0, 0)))
        self._matrix[ubm.n_components :, -1] = LOG2_OF_NOTHING

    def _sharp_centres(self) -> Float32s:
        """Sharp components as the compiled pass takes them."""
        sharp, rows = self._projection.sharp, self._projection.sharp_rows
        means = self.coordinates.apply(self.ubm.means[sharp])
        factors = -rows[:, self.ubm.n_features : -1]
        constants = rows[:, -1] + (factors * means * means).sum(axis=1)
        return np.concatenate([means, factors, constants[:, None]], axis=1).astype(np.float32)

    def explain(self, utterances: Iterable[Floats]) -> Iterator[Explained]:
        """The components that matter to each frame of utterances; the same bits whatever else is scored."""
        n_components, n_terms = self._matrix.shape
        room = np.empty((n_components + n_terms) * BLOCK, np.float32)
        for frames in utterances:
            yield self._explain(np.ascontiguousarray(frames), room)

    def _explain(self, frames: Floats, room: Float32s) -> Explained:
        projection = self._projection
        x = np.empty(frames.shape, np.float32)
        chosen = self._empty(len(frames))
        far = np.full(len(frames), projection.too_sharp)
        _background_kernels().explain(
            frames,
            *self._place.astype(frames.dtype),
            self._matrix,
            projection.sharp,
            self._centres,
            room,
            x,
            *chosen,
            far,
        )
        if far.any():
            for every, exact in zip(chosen, self._explain_exactly(frames[far]), strict=True):
                every[far] = exact
        return Explained(x, *chosen)

    def _empty(self, n_frames: int) -> tuple[NDArray[np.int32], Float32s, Float32s]:
        """Room for components, shares and rests."""
        shape = n_frames, self._top
        return np.empty(shape, np.int32), np.empty(shape, np.float32), np.empty(n_frames, np.float32)

    def _explain_exactly(self, frames: Floats) -> tuple[NDArray[np.int32], Float32s, Float32s]:
        """Components, shares and rests of frames far from all others, by the plain equation."""
        densities = self.ubm.unchecked_log_densities(frames) / LOG_2
        peaks = densities.max(axis=1, keepdims=True)
        if not np.isfinite(peaks).all():
            raise InputError("a frame is so far from every component of the background that squares overflow")
        padded = np.pad(densities - peaks, ((0, 0), (0, self._n_extra)), constant_values=-np.inf)
        rough = np.maximum(padded, LOG2_OF_NOTHING).astype(np.float32)
        chosen = self._empty(len(frames))
        _background_kernels().choose(rough, np.zeros(len(frames), np.bool_), *chosen)
        return chosen


class Bank:
    """Vectors of models, to be taken out as tiles of sixteen side by side.

    Parameters
    ----------
    vectors : iterable of (n_items,) float32
        One for each model.
    """

    def __init__(self, vectors: Iterable[Float32s]) -> None:
        self._vectors = list(vectors)

    def tiles(self, models: Numbers) -> Float32s:
        """The vectors of some models: (n_tiles * n_items, LANES), the last tile filled up with zeros."""
        if models.size == len(self._vectors) and np.array_equal(models, np.arange(models.size)):
            return self._everyone
        return self._packed(models)

    @cached_property
    def _everyone(self) -> Float32s:
        return self._packed(np.arange(len(self._vectors)))

    def _packed(self, models: Numbers) -> Float32s:
        n_items = self._vectors[0].size
        tiles = np.zeros((-(-models.size // LANES), n_items, LANES), np.float32)
        for place, number in enumerate(models.tolist()):
            tiles[place // LANES, :, place % LANES] = self._vectors[number]
        return tiles.reshape(-1, LANES)


class TopScoring:
    """The method "top".

    Parameters
    ----------
    ubm : Mixture
    models : sequence of Mixture
    top : int
    """

    def __init__(self, ubm: Mixture, models: Iterable[Mixture], top: int) -> None:
        self._pass = BackgroundPass(ubm, top)
        rows = [log2_ratios(self._pass.ubm, model, self._pass.coordinates) for model in models]
        self._squares = any(row.shape[1] > ubm.n_features + 1 for row in rows)
        self._bank = Bank((_with_squares(row, ubm) if self._squares else row).ravel() for row in rows)

    def llrs(self, utterances: Sequence[Floats], models: Numbers) -> Float64s:
        """Mean llrs per frame, (n_utterances, n_models)."""
        tiles = self._bank.tiles(models)
        scores = np.zeros((len(utterances), -(-models.size // LANES) * LANES))
        explained = self._pass.explain(utterances)
        for frames, (x, *chosen), row in zip(utterances, explained, scores, strict=True):
            terms = np.concatenate([x, x * x], axis=1) if self._squares else x
            kernels().add_llrs(terms, *chosen, tiles, self._pass.ubm.n_components, row)
            row /= len(frames)
        return scores[:, : models.size]


class LinearScoring:
    """The method "linear".

    Parameters
    ----------
    ubm : Mixture
    models : sequence of Mixture
        Their means alone count.
    top : int
    """

    def __init__(self, ubm: Mixture, models: Iterable[Mixture], top: int) -> None:
        self._pass = BackgroundPass(ubm, top)
        coordinates = self._pass.coordinates
        self._means = coordinates.apply(ubm.means)
        precisions = 1.0 / self._pass.ubm.type.apply(self._pass.ubm.covariances, coordinates)
        shifts = ((coordinates.apply(model.means) - self._means) * precisions for model in models)
        # The constant that a bank ends with is nothing here.
        self._bank = Bank(np.append(shift, 0.0).astype(np.float32) for shift in shifts)

    def llrs(self, utterances: Sequence[Floats], models: Numbers) -> Float64s:
        """Mean llrs per frame, (n_utterances, n_models)."""
        tiles = self._bank.tiles(models)
        means = self._means.astype(np.float32)
        first = np.empty((len(utterances), *means.shape), np.float32)
        explained = self._pass.explain(utterances)
        for frames, (x, components, shares, _), row in zip(utterances, explained, first, strict=True):
            kernels().centred_statistics(x, components, shares, means, row)
            row /= len(frames)
        scores = np.empty((len(utterances), -(-models.size // LANES) * LANES), np.float32)
        kernels().products(first.reshape(len(utterances), -1), tiles, scores)
        return scores[:, : models.size].astype(np.float64)


def log2_ratios(ubm: Mixture, model: Mixture, coordinates: Coordinates) -> Float32s:
    """What a model adds to the log2 density of each component of the background, as factors of a frame's terms.

    Returns
    -------
    (n_components, n_terms + 1) float32
        The terms are [x], or [x, x²] where variances differ; the last column holds constants.
    """
    means, others = coordinates.apply(ubm.means), coordinates.apply(model.means)
    variances = ubm.type.apply(ubm.variances, coordinates)
    with np.errstate(divide="ignore", invalid="ignore"):
        weights = np.where(ubm.weights > 0, np.log(model.weights) - np.log(ubm.weights), 0.0)
    if np.array_equal(model.variances, ubm.variances):
        shifts = others - means
        constants = weights - 0.5 * (shifts * (others + means) / variances).sum(axis=1)
        parts = [shifts / variances]
    else:
        theirs = ubm.type.apply(model.variances, coordinates)
        constants = weights + 0.5 * (
            means * means / variances - others * others / theirs + np.log(variances / theirs)
        ).sum(axis=1)
        parts = [others / theirs - means / variances, 0.5 / variances - 0.5 / theirs]
    rows = np.concatenate([*parts, constants[:, None]], axis=1) / LOG_2
    return np.maximum(rows, LOG2_OF_NOTHING).astype(np.float32)


def _with_squares(rows: Float32s, ubm: Mixture) -> Float32s:
    """Rows that say something of squares: nothing, where they did not."""
    if rows.shape[1] > ubm.n_features + 1:
        return rows
    return np.insert(rows, [ubm.n_features] * ubm.n_features, 0.0, axis=1)


def kernels() -> ModuleType:
    """The compiled loops of trials, loaded when the first is scored."""
    from speechgmm.verification import kernels_scoring

    return kernels_scoring


def _background_kernels() -> ModuleType:
    """Those of the background's part in them."""
    from speechgmm.verification import kernels_background

    return kernels_background
