"""What recipes of phones share: segments classified, recognisers trained, tuned, adapted and judged."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, replace

from speechgmm.em.coordinates import Floats
from speechgmm.features import Extraction, FeatureConfig, FrameStatistics
from speechgmm.files import sha256_of_text
from speechgmm.manifest import Segment, Utterance
from speechgmm.metrics.boundaries import BoundaryAgreement
from speechgmm.parallel import one_blas_thread, shard_map
from speechgmm.phones.hmm_training import HmmSettings
from speechgmm.phones.labels import SILENCES, mapped, phone_string
from speechgmm.phones.phone_sets import PhoneMap
from speechgmm.phones.recogniser import PhoneRecogniser, Recognition
from speechgmm.phones.recogniser_training import Material, RecogniserSettings, train_on_material
from speechgmm.phones.recognition import PhoneEvaluation
from speechgmm.phones.segment_classifier import SegmentEvaluation, evaluate_segments, train_segment_classifier
from speechgmm.phones.segment_evidence import SegmentSettings
from speechgmm.phones.speaker_adaptation import adapted_to
from speechgmm.phones.transcripts import PHONES, transcripts_of
from speechgmm.phones.tuning import tune_weights
from speechgmm.recipe import Recipe
from speechgmm.settings import settings_from_table
from speechgmm.terminal import print_table, shown_progress

Wanted = Callable[[Utterance], bool]
# How many confusions are worth printing.
LISTED = 10


class PhoneRecipe(Recipe):
    """A recipe of phones.

    config.toml has tables for segments with known boundaries, [segment_features] and [segments], and for recognition,
    [features], [recogniser] and [hmm].
    """

    def segment_features(self) -> FeatureConfig:
        """The `[segment_features]` of config.toml."""
        return FeatureConfig.from_dict(self.config["segment_features"])

    def recogniser_settings(self, table: str = "recogniser") -> RecogniserSettings:
        """A table such as `[recogniser]` of config.toml."""
        return RecogniserSettings.from_dict(self.config[table])

    def hmm_settings(self, table: str = "hmm") -> HmmSettings:
        """A table such as `[hmm]` of config.toml, with the seed of the command line."""
        settings = settings_from_table(HmmSettings, self.config[table], "HMM")
        return replace(settings, seed=self.options.seed)

    def classify(self, train: Extraction, test: Extraction) -> SegmentEvaluation:
        """Train on the segments of some utterances and classify those of others, as the stage "segments".

        The frames are those of `segment_features`.
        """
        with self.stage("segments"), shown_progress() as progress:
            classifier = train_segment_classifier(
                train.frames,
                [one.segments[PHONES] for one in train.utterances],
                self.segment_features(),
                SegmentSettings.from_dict(self.config["segments"]),
                n_jobs=self.jobs,
                progress=progress,
            )
            segments = [one.segments[PHONES] for one in test.utterances]
            return evaluate_segments(classifier, test.frames, segments, n_jobs=self.jobs)

    def trained(self, train: Extraction) -> PhoneRecogniser:
        """A recogniser trained on utterances with segments, as the stage "training"."""
        settings = self.recogniser_settings()
        said = transcripts_of(train.utterances, settings.silence, features=self.features())
        material = Material(train.utterances, train.frames, said)
        with self.stage("training"), one_blas_thread(), shown_progress() as progress:
            return train_on_material(
                material, self.features(), settings, self.hmm_settings(), self.jobs, progress
            ).recogniser

    def tuned(self, recogniser: PhoneRecogniser, development: Extraction) -> PhoneRecogniser:
        """The recogniser with the weights that do best on other utterances, as the stage "weights"."""
        references = [phone_string(one) for one in development.utterances]
        with self.stage("weights"), shown_progress() as progress:
            tuning = tune_weights(recogniser, development.frames, references, self.jobs, progress)
        weights = tuning.weights
        print(
            f"  tuning part: {tuning.counts.rate:.2%}; weight of the language model {weights.language_model:g}, "
            f"of insertions {weights.insertion:g}"
        )
        return recogniser.with_weights(weights)

    def recognised(self, recogniser: PhoneRecogniser, frames: Sequence[Floats]) -> list[Recognition]:
        """The phones of utterances."""
        with one_blas_thread():
            return list(shard_map(recogniser.recognise, frames, self.jobs))

    def recognised_adapted(self, recogniser: PhoneRecogniser, test: Extraction) -> list[Recognition]:
        """The phones of utterances by recognisers that are adapted to each speaker's, nothing of them being known."""
        found: dict[str, Recognition] = {}
        for speaker in speakers_of(test.utterances):
            own = part(test, lambda one: one.label("speaker") == speaker)  # noqa: B023
            with one_blas_thread():
                adapted = adapted_to(recogniser, own.frames, n_jobs=self.jobs)
            recognitions = self.recognised(adapted, own.frames)
            ids = (one.id for one in own.utterances)
            found |= zip(ids, recognitions, strict=True)
        return [found[one.id] for one in test.utterances]


def part(extraction: Extraction, wanted: Wanted) -> Extraction:
    """The utterances of some kind, with their frames."""
    chosen = [number for number, one in enumerate(extraction.utterances) if wanted(one)]
    return Extraction(
        tuple(extraction.utterances[number] for number in chosen),
        tuple(extraction.frames[number] for number in chosen),
        tuple(extraction.seconds[number] for number in chosen),
        (),
    )


def normalised_by_session(extraction: Extraction) -> Extraction:
    """Frames with mean 0 and variance 1 over all that there is of a speaker, or of a chapter that a speaker read."""
    sessions = [(one.label("speaker"), one.labels.get("chapter", "")) for one in extraction.utterances]
    pieces: dict[tuple[str, str], list[Floats]] = {}
    for session, frames in zip(sessions, extraction.frames, strict=True):
        pieces.setdefault(session, []).append(frames)
    statistics = {session: FrameStatistics.of(own) for session, own in pieces.items()}
    normalised = (
        statistics[session].apply(frames) for session, frames in zip(sessions, extraction.frames, strict=True)
    )
    return replace(extraction, frames=tuple(normalised))


def speakers_of(utterances: Iterable[Utterance]) -> list[str]:
    """The values of the label "speaker", sorted."""
    return sorted({one.label("speaker") for one in utterances})


def every_nth(utterances: Iterable[Utterance], n: int) -> frozenset[str]:
    """The ids of every n-th utterance, from the first on, in the order of the sha256 of the ids."""
    return frozenset(sorted((one.id for one in utterances), key=sha256_of_text)[::n])


def relabelled(
    utterances: Iterable[Utterance], mapping: PhoneMap, silences: Collection[str] = SILENCES
) -> list[Utterance]:
    """Utterances with their segments in another phone set."""
    return [
        replace(one, segments={**one.segments, PHONES: mapped(one.segments[PHONES], mapping, silences)})
        for one in utterances
    ]


def moved(utterances: Iterable[Utterance], seconds: float) -> list[Utterance]:
    """Utterances whose segments lie later, where labels count from another time than the audio does.

    The first still begins with the audio, and the last ends with it at the latest.
    """

    def later(utterance: Utterance, one: Segment) -> Segment:
        end = one.end + seconds if utterance.duration is None else min(one.end + seconds, utterance.duration)
        return Segment(one.start + seconds if one.start else 0.0, max(one.end, end), one.label)

    return [
        replace(
            utterance,
            segments={
                tier: tuple(later(utterance, one) for one in segments)
                for tier, segments in utterance.segments.items()
            },
        )
        for utterance in utterances
    ]


def boundary_metrics(agreement: BoundaryAgreement) -> dict[str, float]:
    """Shares of boundaries by the name of the tolerance, such as `boundary_20ms`."""
    shares = zip(agreement.tolerances, agreement.shares, strict=True)
    return {f"boundary_{1000 * tolerance:g}ms": share for tolerance, share in shares}


def show_errors(title: str, evaluations: dict[str, PhoneEvaluation]) -> None:
    """Print the kinds of errors of several systems, silence left out, and the commonest confusions of the first."""
    rows = []
    for name, one in evaluations.items():
        counts = asdict(one.counts)
        kinds = (
            counts[kind] / counts["n_reference"] for kind in ("substitutions", "deletions", "insertions")
        )
        interval = f"{one.interval.low:.1%} to {one.interval.high:.1%} by {one.interval.resampled}"
        rates = (one.counts.rate, *kinds, one.counts_with_silence.rate)
        rows.append((name, *(f"{rate:.2%}" for rate in rates), interval))
    columns = ("system", "PER", "substituted", "deleted", "inserted", "with silence", "95 % interval of PER")
    print_table(title, columns, rows)
    errors = next(iter(evaluations.values())).confusions[:LISTED]
    print_table(
        "The commonest errors of the first",
        ("said", "recognised", "times"),
        [(said or "nothing", found or "nothing", count) for said, found, count in errors],
    )
