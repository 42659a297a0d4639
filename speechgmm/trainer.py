"""One mixture for each class, fitted in parallel, and a background mixture over all of them."""

import hashlib
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from speechgmm.audio import audio_info
from speechgmm.em.coordinates import Float64s, Floats, reference_variance, require_frames
from speechgmm.em.fit import FitResult, fit
from speechgmm.em.initialise import kmeans
from speechgmm.em.mixture import Mixture
from speechgmm.em.statistics import LARGEST, moments
from speechgmm.errors import InputError, SpeechGMMWarning
from speechgmm.features.config import FeatureConfig
from speechgmm.features.extract import FeatureExtractor, Problem
from speechgmm.files import sha256_of_text
from speechgmm.manifest import Utterance, fingerprint, quoted
from speechgmm.model_file import UNKNOWN, Model
from speechgmm.parallel import Progress, check_jobs, largest_first, no_progress, one_blas_thread
from speechgmm.scorer import (
    USUAL_POSTERIOR_SCALE,
    MixtureBank,
    Scores,
    fit_posterior_scale,
    require_utterance,
)
from speechgmm.settings import TrainingSettings
from speechgmm.version import __version__

# A Gaussian from fewer frames than this is a guess; classes with less speech get fewer components.
FRAMES_PER_COMPONENT = 8
# Frames per component of the background; more would change it little and cost as much as a class each.
BACKGROUND_FRAMES_PER_COMPONENT = 512
# One in so many training utterances is held out to fit the scale of the posteriors.
HELD_OUT = 5
BEST_RATE = 16000
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
    frames, components, iterations : int
    log_likelihood : float
        Mean per frame, of the final mixture.
    """

    label: str
    files: int
    seconds: float
    frames: int
    components: int
    iterations: int
    log_likelihood: float


@dataclass(frozen=True, eq=False)
class Training:
    """A trained model, a report for each class, and the utterances that could not be used."""

    model: Model
    classes: tuple[ClassReport, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, eq=False)
class _ClassData:
    """The frames of a class; those of the utterances that are held out come last."""

    label: str
    frames: Floats
    lengths: tuple[int, ...]
    n_held_out: int
    seconds: float

    @property
    def n_part(self) -> int:
        """Frames that are not held out."""
        return sum(self.lengths[: len(self.lengths) - self.n_held_out])

    def held_out(self) -> list[Floats]:
        """Frames of each utterance that is held out."""
        bounds = np.cumsum(self.lengths)[:-1]
        return np.split(self.frames, bounds)[len(self.lengths) - self.n_held_out :]


@dataclass(frozen=True, eq=False)
class _Fitted:
    """The fit to all frames of a class, and the mixture fitted without the utterances held out."""

    final: FitResult
    part: Mixture


def train(
    utterances: Sequence[Utterance],
    label: str = "speaker",
    *,
    features: FeatureConfig | Mapping[str, Any] | None = None,
    settings: TrainingSettings | None = None,
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
    if not utterances:
        raise InputError("there are no utterances to train on (an empty manifest, or a split without any?)")
    for utterance in utterances:
        utterance.label(label)
    if not isinstance(features, FeatureConfig):
        given = dict(features or {})
        features = FeatureConfig.from_dict({"sample_rate": common_rate(utterances)} | given)
    extraction = FeatureExtractor(features).extract(utterances, n_jobs, progress)
    if not extraction.frames:
        raise InputError(
            f"none of the {len(utterances)} utterances can be used; the first: {extraction.problems[0].message}"
        )
    used = extraction.utterances
    lost = {one.label(label) for one in utterances} - {one.label(label) for one in used}
    if lost:
        warnings.warn(
            f"no utterance of {label} {quoted(lost)} can be used; the model will not know them",
            SpeechGMMWarning,
            stacklevel=2,
        )
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


def common_rate(utterances: Sequence[Utterance]) -> int:
    """The most common sample rate of the files (in Hz, at most 16000), judged by up to 100 of them."""
    step = -(-len(utterances) // 100)
    rates: Counter[int] = Counter()
    for utterance in utterances[::step]:
        try:
            rates[audio_info(utterance.audio).sample_rate] += 1
        except InputError:
            continue  # extraction will say what is wrong with it
    return min(BEST_RATE, max(rates, key=lambda rate: (rates[rate], -rate))) if rates else BEST_RATE


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
    classes = _gather(frames, labels, ids, [0.0] * len(frames) if seconds is None else seconds)
    floor = settings.variance_floor * _pooled_variance(classes)
    components = _component_counts(classes, settings.n_components)
    with one_blas_thread():
        *fitted, background = _fit_all(classes, components, floor, settings, n_jobs, progress)
        scale = _posterior_scale(classes, [one.part for one in fitted])
    reports = tuple(_report(data, one.final) for data, one in zip(classes, fitted, strict=True))
    files = np.array([report.files if settings.priors == "training" else 1 for report in reports])
    model = Model(
        label=label,
        labels=tuple(data.label for data in classes),
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
            "held_out_utterances": sum(data.n_held_out for data in classes),
        },
    )
    return Training(model, reports, ())


def _report(data: _ClassData, result: FitResult) -> ClassReport:
    return ClassReport(
        label=data.label,
        files=len(data.lengths),
        seconds=round(data.seconds, 3),
        frames=len(data.frames),
        components=result.mixture.n_components,
        iterations=result.n_iterations,
        log_likelihood=result.history[-1],
    )


def _gather(
    frames: Sequence[Floats], labels: Sequence[str], ids: Sequence[str], seconds: Sequence[float]
) -> list[_ClassData]:
    """The utterances of each class joined, classes sorted, held-out utterances last."""
    if not len(frames) == len(labels) == len(ids) == len(seconds) or not frames:
        raise InputError(
            f"{len(frames)} `frames`, {len(labels)} `labels`, {len(ids)} `ids` and {len(seconds)} `seconds` given; "
            "there must be as many of each, and at least 1"
        )
    n_features = require_frames(frames[0], name="frames[0]").shape[1]
    members: dict[str, list[int]] = {}
    for index, (array, value) in enumerate(zip(frames, labels, strict=True)):
        if np.abs(require_utterance(array, index, n_features)).max() > LARGEST:
            raise InputError(
                f"`frames[{index}]` has values so large that their squares overflow; scale them down"
            )
        if type(value) is not str or not value:
            raise InputError(f"`labels[{index}]` is {value!r}; a label must be a text that is not empty")
        members.setdefault(value, []).append(index)
    if UNKNOWN in members:
        raise InputError(
            f"a class is named {UNKNOWN!r}, which is the answer for rejected utterances; rename it"
        )
    if len(members) == 1:
        warnings.warn(
            f"there is one class only, {next(iter(members))!r}: every utterance will be called that, "
            "unless it is classified with a threshold",
            SpeechGMMWarning,
            stacklevel=3,
        )
    classes = []
    for value in sorted(members):
        # Which utterances are held out depends on their ids alone, not on their order.
        rows = sorted(members[value], key=lambda index: (sha256_of_text(ids[index]), index))
        classes.append(
            _ClassData(
                label=value,
                frames=np.concatenate([frames[index] for index in rows]),
                lengths=tuple(len(frames[index]) for index in rows),
                n_held_out=max(1, len(rows) // HELD_OUT) if len(rows) > 1 else 0,
                seconds=sum(seconds[index] for index in rows),
            )
        )
    return classes


def _pooled_variance(classes: Sequence[_ClassData]) -> Float64s:
    """Variance of all training frames, each dimension by itself; positive."""
    parts = [moments(data.frames) for data in classes]
    total = sum(part.n_frames for part in parts)
    mean = np.asarray(sum(part.mean * (part.n_frames / total) for part in parts))
    variance = sum((part.variance + np.square(part.mean - mean)) * (part.n_frames / total) for part in parts)
    return reference_variance(mean, np.asarray(variance))


def _component_counts(classes: Sequence[_ClassData], asked: int) -> list[int]:
    """How many components each class can carry; one warning for all that carry fewer than asked for."""
    counts = [min(asked, max(1, data.n_part // FRAMES_PER_COMPONENT)) for data in classes]
    fewer = [(data, count) for data, count in zip(classes, counts, strict=True) if count < asked]
    if fewer:
        listed = ", ".join(f"{data.label} ({data.n_part} frames): {count}" for data, count in fewer[:10])
        more = f", and {len(fewer) - 10} more" if len(fewer) > 10 else ""
        warnings.warn(
            f"{len(fewer)} of {len(classes)} classes have too few frames for {asked} components "
            f"({FRAMES_PER_COMPONENT} frames each are needed) and get fewer: {listed}{more}",
            SpeechGMMWarning,
            stacklevel=3,
        )
    return counts


def _fit_all(
    classes: Sequence[_ClassData],
    components: Sequence[int],
    floor: Float64s,
    settings: TrainingSettings,
    n_jobs: int,
    progress: Progress,
) -> list[_Fitted]:
    """Fit every class, and the background as one more, largest first."""
    everyone = _background_data(classes, settings.n_components)
    carried = min(max(components), max(1, everyone.n_part // FRAMES_PER_COMPONENT))
    jobs = [*zip(classes, components, strict=True), (everyone, carried)]
    sizes = [len(data.frames) * count for data, count in jobs]
    progress("mixtures", 0, len(jobs))
    return largest_first(
        lambda job: _fit_class(job[0], job[1], floor, settings),
        jobs,
        sizes,
        n_jobs if sum(sizes) > WORTH_THREADS else 1,
        lambda done: progress("mixtures", done, len(jobs)),
    )


def _background_data(classes: Sequence[_ClassData], n_components: int) -> _ClassData:
    """An even choice of frames, as many of every class as far as they go."""
    share = max(1, BACKGROUND_FRAMES_PER_COMPONENT * n_components // len(classes))
    chosen = [data.frames[:: -(-len(data.frames) // share)] for data in classes]
    frames = np.concatenate(chosen)
    return _ClassData("", frames, (len(frames),), 0, 0.0)


def _fit_class(data: _ClassData, n_components: int, floor: Float64s, settings: TrainingSettings) -> _Fitted:
    """Fit without the held-out utterances first, then go on from there with all of them."""
    options: dict[str, Any] = {
        "max_iterations": settings.max_iterations,
        "tolerance": settings.tolerance,
        "variance_floor": floor,
    }
    part = data.frames[: data.n_part]
    start = kmeans(part, n_components, seed=class_seed(settings.seed, data.label), variance_floor=floor)
    first = fit(part, start, **options)
    final = fit(data.frames, first.mixture, **options) if data.n_held_out else first
    return _Fitted(final, first.mixture)


def class_seed(seed: int, label: str) -> int:
    """A seed of its own for each class, from the seed given and the class's label."""
    return int.from_bytes(hashlib.sha256(f"{seed}\n{label}".encode()).digest()[:8], "big")


def _posterior_scale(classes: Sequence[_ClassData], mixtures: Sequence[Mixture]) -> float:
    """κ fitted to the held-out utterances, scored by mixtures that were fitted without them."""
    held_out = [frames for data in classes for frames in data.held_out()]
    if not held_out or len(classes) < 2:
        return USUAL_POSTERIOR_SCALE
    truth = np.repeat(np.arange(len(classes)), [data.n_held_out for data in classes])
    bank = MixtureBank(mixtures)
    means = np.array([bank.mean_log_likelihoods(frames) for frames in held_out])
    scores = Scores(means, np.zeros(len(means)), np.array([len(frames) for frames in held_out]))
    return fit_posterior_scale(scores, truth)
