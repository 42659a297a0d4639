"""The background model of verification: one mixture over the speech of many, from which speakers are adapted."""

import hashlib
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from speechgmm.em.coordinates import Float64s, Floats
from speechgmm.em.mixture import Mixture
from speechgmm.em.restarts import fit_mixture
from speechgmm.em.sources import FrameSource, PieceSource, as_source
from speechgmm.errors import InputError, SpeechGMMWarning
from speechgmm.features.config import FeatureConfig
from speechgmm.features.extract import Problem
from speechgmm.features.store import FeatureStore
from speechgmm.files import canonical_json
from speechgmm.manifest import Utterance, fingerprint, quoted
from speechgmm.parallel import Progress, check_jobs, no_progress
from speechgmm.settings import require_numbers, settings_from_table
from speechgmm.training_frames import (
    FRAMES_PER_COMPONENT,
    checked_frames,
    require_texts,
    usable_frames,
)
from speechgmm.version import __version__

STARTS = ("split", "kmeans")
# Feature settings that a background model has unless others are given: noise of a third of a 16-bit step. Without it
# digital silence, which some recordings have, gets likelihoods that say nothing of who speaks.
USUAL_FEATURES: Mapping[str, Any] = {"dither": 1e-5}


@dataclass(frozen=True, eq=False)
class Background:
    """The universal background model (ubm), and how the audio that it is of becomes frames.

    Parameters
    ----------
    ubm : Mixture
    features : FeatureConfig or None
        None for frames that were made elsewhere.
    record : mapping
        How it was made: version, settings, figures, fingerprint of the utterances, their speakers where known.

    Raises
    ------
    InputError
        If the mixture and the feature configuration differ in the number of features.
    """

    ubm: Mixture
    features: FeatureConfig | None = None
    record: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.ubm, Mixture):
            raise InputError(f"`ubm` is of type {type(self.ubm).__name__}; it must be a Mixture")
        if self.features is not None and not isinstance(self.features, FeatureConfig):
            raise InputError(
                f"`features` is of type {type(self.features).__name__}; it must be a FeatureConfig or None"
            )
        _require_features(self.features, self.n_features)

    @property
    def n_features(self) -> int:
        """How many values a frame has."""
        return self.ubm.n_features

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the mixture and the feature settings, 64 hexadecimal digits: what statistics and models rest on.

        The record does not count.
        """
        features = None if self.features is None else self.features.to_dict()
        head = {"type": self.ubm.covariance_type, "shape": list(self.ubm.means.shape), "features": features}
        digest = hashlib.sha256(canonical_json(head).encode())
        for array in (self.ubm.weights, self.ubm.means, self.ubm.covariances):
            # Minus zero is zero, and every machine's bytes are in one order.
            digest.update((array + 0.0).astype("<f8").tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class UbmSettings:
    """How the background mixture is fitted; its covariances are diagonal.

    Parameters
    ----------
    n_components : int
        Gaussians in the mixture.
    start : {"split", "kmeans"}
        See `speechgmm.em.initialise`.
    max_iterations : int
        The most EM iterations; more change a background model little, whether or not EM has converged by then.
    tolerance : float
        EM stops when the mean log-likelihood per frame changes by less.
    variance_floor : float
        As a fraction of the variance of all frames.
    seed : int
    """

    n_components: int = 256
    start: str = "split"
    max_iterations: int = 20
    tolerance: float = 1e-3
    variance_floor: float = 1e-2
    seed: int = 0

    def __post_init__(self) -> None:
        whole = {"n_components": 1, "max_iterations": 1, "seed": 0}
        require_numbers(self, "background", whole, ("tolerance", "variance_floor"))
        if self.start not in STARTS:
            raise InputError(f"background setting `start` is {self.start!r}; it can be {', '.join(STARTS)}")

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> "UbmSettings":
        """Settings from plain values, such as a TOML table; those not given keep their defaults."""
        return settings_from_table(cls, settings, "background")


@dataclass(frozen=True, eq=False)
class UbmTraining:
    """A trained background model, how its fit went, and the utterances that could not be used.

    Parameters
    ----------
    background : Background
    history : tuple of float
        Mean log-likelihood per frame, weighted where groups are balanced, after 0, 1, 2, … iterations of EM.
    problems : tuple of Problem
    """

    background: Background
    history: tuple[float, ...]
    problems: tuple[Problem, ...]


def train_ubm(
    utterances: Sequence[Utterance],
    *,
    features: FeatureConfig | Mapping[str, Any] | None = None,
    settings: UbmSettings | None = None,
    balance: str | None = None,
    store: str | Path | None = None,
    n_jobs: int = 1,
    progress: Progress = no_progress,
) -> UbmTraining:
    """Train a background model on the speech of people who are neither enrolled nor tested later.

    Parameters
    ----------
    utterances : sequence of Utterance
    features : FeatureConfig or mapping, optional
        As in `speechgmm.trainer.train`, but with a little noise (`dither` 1e-5) where a mapping says nothing of it.
    settings : UbmSettings, optional
    balance : str, optional
        A label such as "speaker" or "gender": all its values get the same weight, however much speech each has.
    store : path, optional
        Folder of a feature store. Frames are kept there, or taken from there, and trained on from disk: in memory are
        its index, what the start needs and, where groups are balanced, 8 bytes a frame, up to 40 for a moment.
    n_jobs : int
        Workers; the model is the same bits for any number.
    progress : callable
        Told ("features", utterances done, utterances in all), then ("background", iterations done, the most there
        can be).

    Returns
    -------
    UbmTraining
        Utterances that cannot be read are left out and listed in `problems`.

    Raises
    ------
    InputError
        If no utterance can be used, or one lacks the label to balance by.
    """
    if not isinstance(features, FeatureConfig):
        features = {**USUAL_FEATURES, **(features or {})}
    features, extraction = usable_frames(utterances, balance, features, store, n_jobs, progress)
    used = extraction.utterances
    speakers = {utterance.labels["speaker"] for utterance in used if "speaker" in utterance.labels}
    training = train_ubm_on_frames(
        extraction.frames,
        groups=None if balance is None else [utterance.label(balance) for utterance in used],
        settings=settings,
        features=features,
        record={
            "manifest": fingerprint(used),
            "seconds": round(sum(extraction.seconds), 3),
            "balance": balance,
            "speakers": sorted(speakers),
        },
        n_jobs=n_jobs,
        progress=progress,
    )
    return UbmTraining(training.background, training.history, extraction.problems)


def train_ubm_on_frames(
    frames: Sequence[Floats] | FrameSource,
    *,
    groups: Sequence[str] | None = None,
    settings: UbmSettings | None = None,
    features: FeatureConfig | None = None,
    record: Mapping[str, Any] | None = None,
    n_jobs: int = 1,
    progress: Progress = no_progress,
) -> UbmTraining:
    """Train a background model on frames instead of audio; see `train_ubm`.

    Parameters
    ----------
    frames : sequence of (n_frames, n_features) arrays, FeatureStore or other FrameSource
        Arrays, or memory maps: one for each utterance.
    groups : sequence of str, optional
        The group of each utterance, of a store in the order of its `entries()`; all groups get the same weight. A
        source other than a store has no utterances; it can bring weights of its own.
    settings : UbmSettings, optional
    features : FeatureConfig, optional
        How the frames were made, kept in the background model. Default: the store's, if it is one.
    record : mapping, optional
        More for the record of how it was made.
    """
    check_jobs(n_jobs)
    settings = settings or UbmSettings()
    if isinstance(frames, FeatureStore):
        features = features or frames.config
        frames = [frames.frames(entry.key) for entry in frames.entries()]
    source = _source(frames, groups, settings.n_components)
    _require_features(features, source.n_features)
    progress("background", 0, settings.max_iterations)
    fitted = fit_mixture(
        source,
        _component_count(source.n_frames, settings.n_components),
        initialisation=settings.start,
        seed=settings.seed,
        max_iterations=settings.max_iterations,
        tolerance=settings.tolerance,
        variance_floor=settings.variance_floor,
        n_jobs=n_jobs,
        on_iteration=lambda number, _: progress("background", number, settings.max_iterations),
    )
    progress("background", settings.max_iterations, settings.max_iterations)
    made = {
        **(record or {}),
        "version": __version__,
        "settings": asdict(settings),
        "frames": source.n_frames,
        "groups": sorted(set(groups or ())),
        "components": fitted.mixture.n_components,
        "iterations": fitted.n_iterations,
        "converged": fitted.converged,
        "log_likelihood": fitted.history[-1],
    }
    return UbmTraining(Background(fitted.mixture, features, made), fitted.history, ())


def _require_features(features: FeatureConfig | None, n_features: int) -> None:
    """Refuse a configuration that gives another number of values a frame."""
    if features is not None and features.n_features != n_features:
        raise InputError(
            f"the feature configuration gives {features.n_features} values a frame; the background frames have "
            f"{n_features} (deltas missing, or other settings?)"
        )


def _source(
    frames: Sequence[Floats] | FrameSource, groups: Sequence[str] | None, n_components: int
) -> FrameSource:
    """The frames as one source, weighted so that groups are balanced."""
    if hasattr(frames, "shards"):
        if groups is not None:
            raise InputError(
                f"`groups` cannot be given beside frames of type {type(frames).__name__}, which has no "
                "utterances; give a sequence of arrays, or a source with weights"
            )
        return as_source(frames)
    pieces = checked_frames(frames)
    if groups is None:
        return PieceSource(pieces)
    if len(groups) != len(pieces):
        raise InputError(
            f"{len(pieces)} `frames` and {len(groups)} `groups` given; there must be as many of each"
        )
    require_texts(groups, "groups")
    return PieceSource(pieces, _balanced_weights(pieces, groups, n_components))


def _balanced_weights(pieces: Sequence[Floats], groups: Sequence[str], n_components: int) -> Float64s:
    """A weight for each frame, 1 on average, that makes the sums of all groups equal."""
    lengths = [len(piece) for piece in pieces]
    totals: Counter[str] = Counter()
    for group, length in zip(groups, lengths, strict=True):
        totals[group] += length
    if len(totals) == 1:
        warnings.warn(
            f"there is one group only, {groups[0]!r}; a background model of one says nothing of others",
            SpeechGMMWarning,
            stacklevel=4,
        )
    needed = FRAMES_PER_COMPONENT * max(1, n_components // len(totals))
    few = [group for group, total in totals.items() if total < needed]
    if few and len(totals) > 1:
        warnings.warn(
            f"{len(few)} of {len(totals)} groups have fewer frames than the {needed} that an equal share of "
            f"{n_components} components needs: {quoted(few)}; each of their frames counts as many of others "
            "(leave them out, or do without balance?)",
            SpeechGMMWarning,
            stacklevel=4,
        )
    share = sum(lengths) / len(totals)
    return np.repeat([share / totals[group] for group in groups], lengths)


def _component_count(n_frames: int, asked: int) -> int:
    """How many components so many frames can carry."""
    count = min(asked, max(1, n_frames // FRAMES_PER_COMPONENT))
    if count < asked:
        warnings.warn(
            f"{n_frames} frames are too few for {asked} components ({FRAMES_PER_COMPONENT} frames each are needed); "
            f"the background model gets {count}",
            SpeechGMMWarning,
            stacklevel=3,
        )
    return count
