"""One mixture for each class, fitted in parallel, and a background mixture over all of them."""

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from speechgmm.em.coordinates import Float64s, Floats
from speechgmm.em.fit import FitResult, fit
from speechgmm.em.initialise import kmeans
from speechgmm.em.mixture import Mixture
from speechgmm.errors import SpeechGMMWarning
from speechgmm.features.config import FeatureConfig
from speechgmm.features.extract import Problem
from speechgmm.manifest import Utterance, fingerprint, quoted
from speechgmm.model_file import Model
from speechgmm.parallel import Progress, check_jobs, largest_first, no_progress, one_blas_thread
from speechgmm.scorer import (
    USUAL_POSTERIOR_SCALE,
    MixtureBank,
    Scores,
    fit_posterior_scale,
)
from speechgmm.settings import TrainingSettings
from speechgmm.training_frames import (
    FRAMES_PER_COMPONENT,
    ClassFrames,
    background_frames,
    component_counts,
    gather,
    pooled_variance,
    require_labels,
    usable_frames,
)
from speechgmm.version import __version__

# Frames times components from which a second thread helps; less is over before.
WORTH_THREADS = 1_000_000


@dataclass(frozen=True)
class ClassReport:
    """What a class was trained on, and how its fit went.

    Parameters
    ----------
    label : str
    files : int
        Utterances.
    seconds : float
        Of audio; 0 for frames made elsewhere.
    frames, components : int
    iterations : int
        Of EM, those without the held-out utterances included.
    converged : bool
        Whether the last change of the likelihood was below the tolerance.
    log_likelihood : float
        Mean per frame, of the final mixture.
    """

    label: str
    files: int
    seconds: float
    frames: int
    components: int
    iterations: int
    converged: bool
    log_likelihood: float


@dataclass(frozen=True, eq=False)
class Training:
    """A trained model, a report for each class, and the utterances that could not be used."""

    model: Model
    classes: tuple[ClassReport, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, eq=False)
class _Fitted:
    """The fit to all frames of a class, and the mixture that it started from: without the held-out utterances."""

    final: FitResult
    part: Mixture
    n_iterations: int


def train(
    utterances: Sequence[Utterance],
    label: str = "speaker",
    *,
    features: FeatureConfig | Mapping[str, Any] | None = None,
    settings: TrainingSettings | None = None,
    store: str | Path | None = None,
    n_jobs: int = 1,
    progress: Progress = no_progress,
) -> Training:
    """Train a model that tells the values of a label apart.

    Parameters
    ----------
    utterances : sequence of Utterance
        Each with that label.
    label : str
    features : FeatureConfig or mapping, optional
        A mapping gives some of the settings of a `FeatureConfig`. Where it gives no sample rate, or nothing is
        given at all, it is the most common one of the files, at most 16 kHz.
    settings : TrainingSettings, optional
    store : path, optional
        Folder of a feature store. Frames are kept there, or taken from there, and trained on from disk: in memory are
        its index and what the fits at work need.
    n_jobs : int
        Workers; the model is the same bits for any number.
    progress : callable

    Returns
    -------
    Training
        Utterances that cannot be read are left out and listed in `problems`.

    Raises
    ------
    InputError
        If no utterance can be used, or one lacks the label.
    """
    require_labels([utterance.label(label) for utterance in utterances])
    features, extraction = usable_frames(utterances, label, features, store, n_jobs, progress)
    used = extraction.utterances
    training = train_on_frames(
        extraction.frames,
        [utterance.label(label) for utterance in used],
        label,
        ids=[utterance.id for utterance in used],
        seconds=extraction.seconds,
        features=features,
        settings=settings,
        record={"manifest": fingerprint(used)},
        n_jobs=n_jobs,
        progress=progress,
    )
    return Training(training.model, training.classes, extraction.problems)


def train_on_frames(
    frames: Sequence[Floats],
    labels: Sequence[str],
    label: str = "speaker",
    *,
    ids: Sequence[str] | None = None,
    seconds: Sequence[float] | None = None,
    features: FeatureConfig | None = None,
    settings: TrainingSettings | None = None,
    record: Mapping[str, Any] | None = None,
    n_jobs: int = 1,
    progress: Progress = no_progress,
) -> Training:
    """Train on frames instead of audio; see `train`.

    Parameters
    ----------
    frames : sequence of (n_frames, n_features) arrays
        One for each utterance.
    labels : sequence of str
        The class of each.
    label : str
        What the classes are.
    ids : sequence of str, optional
        Of the utterances; they decide which are held out. Default: their numbers.
    seconds : sequence of float, optional
        Their lengths, for the report.
    features : FeatureConfig, optional
        How the frames were made, kept in the model.
    settings : TrainingSettings, optional
    record : mapping, optional
        More for the model's record of how it was made.
    """
    check_jobs(n_jobs)
    settings = settings or TrainingSettings()
    ids = [str(index) for index in range(len(frames))] if ids is None else ids
    classes = gather(frames, labels, ids, [0.0] * len(frames) if seconds is None else seconds)
    floor = settings.variance_floor * pooled_variance(classes)
    components = component_counts(classes, settings.n_components)
    with one_blas_thread():
        *fitted, background = _fit_all(classes, components, floor, settings, n_jobs, progress)
        scale = _posterior_scale(classes, [one.part for one in fitted])
    unfinished = [group.label for group, one in zip(classes, fitted, strict=True) if not one.final.converged]
    if unfinished:
        warnings.warn(
            f"EM stopped at {settings.max_iterations} iterations before it converged for {quoted(unfinished)}",
            SpeechGMMWarning,
            stacklevel=2,
        )
    reports = tuple(_report(group, one) for group, one in zip(classes, fitted, strict=True))
    files = np.array([report.files if settings.priors == "training" else 1 for report in reports])
    model = Model(
        label=label,
        labels=tuple(group.label for group in classes),
        mixtures=tuple(one.final.mixture for one in fitted),
        background=background.final.mixture,
        posterior_scale=scale,
        log_priors=np.log(files / files.sum()),
        features=features,
        record={
            **(record or {}),
            "version": __version__,
            "settings": asdict(settings),
            "classes": [asdict(report) for report in reports],
            "held_out_utterances": sum(group.n_held_out for group in classes),
        },
    )
    return Training(model, reports, ())


def _report(group: ClassFrames, fitted: _Fitted) -> ClassReport:
    return ClassReport(
        label=group.label,
        files=len(group.pieces),
        seconds=round(group.seconds, 3),
        frames=group.frames.n_frames,
        components=fitted.final.mixture.n_components,
        iterations=fitted.n_iterations,
        converged=fitted.final.converged,
        log_likelihood=fitted.final.history[-1],
    )


def _fit_all(
    classes: Sequence[ClassFrames],
    components: Sequence[int],
    floor: Float64s,
    settings: TrainingSettings,
    n_jobs: int,
    progress: Progress,
) -> list[_Fitted]:
    """Fit every class, and the background as one more, largest first."""
    everyone = background_frames(classes, settings.n_components)
    carried = min(max(components), max(1, everyone.part.n_frames // FRAMES_PER_COMPONENT))
    jobs = [*zip(classes, components, strict=True), (everyone, carried)]
    sizes = [group.frames.n_frames * count for group, count in jobs]
    progress("mixtures", 0, len(jobs))
    return largest_first(
        lambda job: _fit_class(job[0], job[1], floor, settings),
        jobs,
        sizes,
        n_jobs if sum(sizes) > WORTH_THREADS else 1,
        lambda done: progress("mixtures", done, len(jobs)),
    )


def _fit_class(group: ClassFrames, n_components: int, floor: Float64s, settings: TrainingSettings) -> _Fitted:
    """Fit without the held-out utterances first, then go on from there with all of them."""
    options: dict[str, Any] = {
        "max_iterations": settings.max_iterations,
        "tolerance": settings.tolerance,
        "variance_floor": floor,
    }
    part, everything = group.sources()
    start = kmeans(
        part,
        n_components,
        covariance_type=settings.covariance_type,
        seed=class_seed(settings.seed, group.label),
        variance_floor=floor,
    )
    first = fit(part, start, **options)
    if not group.n_held_out:
        return _Fitted(first, first.mixture, first.n_iterations)
    final = fit(everything, first.mixture, **options)
    return _Fitted(final, first.mixture, first.n_iterations + final.n_iterations)


def class_seed(seed: int, label: str) -> int:
    """A seed of its own for each class, from the seed given and the class's label."""
    return int.from_bytes(hashlib.sha256(f"{seed}\n{label}".encode()).digest()[:8], "big")


def _posterior_scale(classes: Sequence[ClassFrames], mixtures: Sequence[Mixture]) -> float:
    """κ fitted to the held-out utterances, scored by mixtures that were fitted without them."""
    held_out = [frames for group in classes for frames in group.held_out]
    if not held_out or len(classes) < 2:
        return USUAL_POSTERIOR_SCALE
    truth = np.repeat(np.arange(len(classes)), [group.n_held_out for group in classes])
    bank = MixtureBank(mixtures)
    means = np.array([bank.mean_log_likelihoods(frames) for frames in held_out])
    scores = Scores(means, np.zeros(len(means)), np.array([len(frames) for frames in held_out]))
    return fit_posterior_scale(scores, truth)
