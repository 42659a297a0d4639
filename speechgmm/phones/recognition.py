"""Many utterances recognised or aligned, one bad one never stopping the others, and how right that is."""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import reduce
from operator import add
from typing import Any, TypeVar

from speechgmm.errors import InputError
from speechgmm.features.config import FeatureConfig
from speechgmm.features.extract import Extraction, FeatureExtractor, Problem
from speechgmm.manifest import Segment, Utterance, quoted
from speechgmm.metrics.boundaries import BoundaryAgreement, boundary_agreement
from speechgmm.metrics.sequences import (
    ErrorCounts,
    ErrorRateInterval,
    confusions,
    error_rate_interval,
    utterance_error_counts,
)
from speechgmm.parallel import Progress, no_progress, one_blas_thread, shard_map
from speechgmm.phones.labels import SILENCES, mapped, phone_string
from speechgmm.phones.lexicon import Lexicon
from speechgmm.phones.phone_sets import PhoneMap, map_phones
from speechgmm.phones.recogniser import Alignment, PhoneRecogniser, Recognition
from speechgmm.phones.speaker_adaptation import adapted_to
from speechgmm.phones.transcripts import PHONES, alignable

WORDS = "words"
# How near boundaries are to count as found, in seconds.
TOLERANCES = (0.01, 0.02, 0.05)
Labels = dict[str, dict[str, Sequence[Segment]]]
Found = TypeVar("Found")


@dataclass(frozen=True, eq=False)
class RecognitionRun:
    """The phones that were recognised in many utterances, and why others could not be used.

    Parameters
    ----------
    utterances : tuple of Utterance
        Those that could be used, in the order given, as they were given.
    recognitions : tuple of Recognition
        Theirs; the last phone ends where the audio does.
    problems : tuple of Problem
        Of the others.
    """

    utterances: tuple[Utterance, ...]
    recognitions: tuple[Recognition, ...]
    problems: tuple[Problem, ...]

    @property
    def labels(self) -> Labels:
        """The phones by utterance, as `speechgmm.phones.label_files.write_labels` takes them."""
        found = zip(self.utterances, self.recognitions, strict=True)
        return {utterance.id: {PHONES: recognition.phones} for utterance, recognition in found}


@dataclass(frozen=True, eq=False)
class AlignmentRun:
    """When the phones and words of many utterances are said, and why others could not be aligned.

    Parameters
    ----------
    utterances : tuple of Utterance
        Those that could be aligned, in the order given; their segments "phones" and "words" are the alignment's.
    alignments : tuple of Alignment
        Theirs; the last phone ends where the audio does.
    problems : tuple of Problem
        Of the others.
    """

    utterances: tuple[Utterance, ...]
    alignments: tuple[Alignment, ...]
    problems: tuple[Problem, ...]

    @property
    def labels(self) -> Labels:
        """Phones and words by utterance, as `speechgmm.phones.label_files.write_labels` takes them."""
        found = zip(self.utterances, self.alignments, strict=True)
        return {
            utterance.id: {PHONES: alignment.phones, WORDS: alignment.words} for utterance, alignment in found
        }


def recognise_utterances(
    recogniser: PhoneRecogniser,
    utterances: Sequence[Utterance],
    *,
    adapt_by: str | None = None,
    confidence: bool = False,
    n_jobs: int = 1,
    progress: Progress = no_progress,
) -> RecognitionRun:
    """Recognise the phones of many utterances.

    Parameters
    ----------
    recogniser : PhoneRecogniser
    utterances : sequence of Utterance
        With distinct ids.
    adapt_by : str, optional
        A label, such as "speaker": the recogniser is adapted to each of its values by all utterances that have it.
    confidence : bool
        Whether to say how sure each phone is.
    n_jobs : int
        Workers; what is recognised does not depend on it.
    progress : callable

    Raises
    ------
    InputError
        If ids occur twice, or utterances lack the label to adapt to.
    """
    _require_distinct(utterances)
    _require_label(utterances, adapt_by)
    with one_blas_thread():
        extraction = FeatureExtractor(recogniser.features).extract(utterances, n_jobs, progress)
        recognisers = _adapted(recogniser, extraction, adapt_by, n_jobs, progress)

        def recognised(number: int) -> Recognition:
            utterance, seconds = extraction.utterances[number], extraction.seconds[number]
            own = recogniser if adapt_by is None else recognisers[utterance.labels[adapt_by]]
            found = own.recognise(extraction.frames[number], confidence=confidence)
            return found._replace(phones=_placed(recogniser.features, utterance, seconds, found.phones))

        return RecognitionRun(*_attempted(recognised, extraction, "recognising", n_jobs, progress))


def align_utterances(
    recogniser: PhoneRecogniser,
    utterances: Sequence[Utterance],
    lexicon: Lexicon | None = None,
    *,
    n_jobs: int = 1,
    progress: Progress = no_progress,
) -> AlignmentRun:
    """Find when the phones and words of many utterances are said.

    Parameters
    ----------
    recogniser : PhoneRecogniser
    utterances : sequence of Utterance
        With distinct ids.
    lexicon : Lexicon, optional
        With it the words of utterances that have a label "text" are aligned, in any of their pronunciations, with
        silence between them or not; pronunciations with phones that the recogniser lacks are left out. Other
        utterances, and all without a lexicon, are aligned with their phones: the segments "phones", whose times are
        left aside, or the label "phones".
    n_jobs : int
        Workers; the alignments do not depend on it.
    progress : callable

    Raises
    ------
    InputError
        If ids occur twice, nothing is known of what utterances say, or words are not in the lexicon or have only
        pronunciations with phones that the recogniser lacks: all are listed, before any work.
    """
    _require_distinct(utterances)
    said = alignable(utterances, recogniser.phones, recogniser.silence, lexicon)
    steps = {one.id: own.steps for one, own in zip(utterances, said, strict=True)}
    with one_blas_thread():
        extraction = FeatureExtractor(recogniser.features).extract(utterances, n_jobs, progress)

        def aligned(number: int) -> Alignment:
            utterance, seconds = extraction.utterances[number], extraction.seconds[number]
            found = recogniser.align(extraction.frames[number], steps[utterance.id])
            phones = _placed(recogniser.features, utterance, seconds, found.phones)
            # Words begin and end where phones do.
            times = {
                old: new
                for before, after in zip(found.phones, phones, strict=True)
                for old, new in ((before.start, after.start), (before.end, after.end))
            }
            words = tuple(Segment(times[one.start], times[one.end], one.label) for one in found.words)
            return found._replace(phones=phones, words=words)

        good, alignments, problems = _attempted(aligned, extraction, "aligning", n_jobs, progress)
    tiers = ({PHONES: one.phones, WORDS: one.words} for one in alignments)
    whole = (replace(one, segments={**one.segments, **own}) for one, own in zip(good, tiers, strict=True))
    return AlignmentRun(tuple(whole), alignments, problems)


@dataclass(frozen=True, eq=False)
class PhoneEvaluation:
    """How right recognised phones are.

    Parameters
    ----------
    counts : ErrorCounts
        Silence left out: its rate is the phone error rate that is usually published.
    counts_with_silence : ErrorCounts
    interval : ErrorRateInterval
        95 %, of `counts`.
    groups : mapping of str to ErrorCounts
        `counts` by the value of a label; empty where utterances have none.
    confusions : tuple of (reference, hypothesis, count)
        The most frequent first; None for nothing, where a phone was deleted or inserted.
    boundaries : BoundaryAgreement, optional
        Of utterances whose references have times, silence included.
    """

    counts: ErrorCounts
    counts_with_silence: ErrorCounts
    interval: ErrorRateInterval
    groups: Mapping[str, ErrorCounts]
    confusions: tuple[tuple[str | None, str | None, int], ...]
    boundaries: BoundaryAgreement | None

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain values, for JSON; rates and shares as fractions, times in seconds."""
        interval = self.interval
        figures: dict[str, Any] = {
            "per": self.counts.rate,
            "per_interval_95": [interval.low, interval.high],
            "per_interval_by": interval.resampled,
            "per_with_silence": self.counts_with_silence.rate,
            "counts": asdict(self.counts),
            "counts_with_silence": asdict(self.counts_with_silence),
            "groups": {name: asdict(counts) for name, counts in self.groups.items()},
            "confusions": [
                {"reference": reference, "hypothesis": hypothesis, "count": count}
                for reference, hypothesis, count in self.confusions
            ],
        }
        if self.boundaries is not None:
            shares = zip(self.boundaries.tolerances, self.boundaries.shares, strict=True)
            figures |= {f"boundary_{1000 * tolerance:g}ms": share for tolerance, share in shares}
            figures["boundary_mean_deviation"] = self.boundaries.mean_deviation
        return figures


def evaluate_recognition(
    references: Sequence[Utterance],
    hypotheses: Sequence[Sequence[Segment]],
    silences: Collection[str] = SILENCES,
    *,
    mapping: PhoneMap | None = None,
    group: str = "speaker",
    shift: float = 0.0,
    seed: int = 0,
) -> PhoneEvaluation:
    """Compare recognised phones with those that were said.

    Parameters
    ----------
    references : sequence of Utterance
        With segments "phones", or a label "phones".
    hypotheses : sequence of sequences of Segment
        The phones of each utterance.
    silences : collection of str
        Phones that the usual error rate leaves out, after the mapping; without it `SIL` and `sil`.
    mapping : mapping of str to str or None, optional
        Such as `phone_map("timit48", "timit39")`, for both sides.
    group : str
        A label. Its values are drawn anew for the interval; where they are fewer than 10, or utterances have none,
        utterances are.
    shift : float
        In seconds, added to the times of hypotheses before boundaries are compared; usually a few thousandths. Here
        times are those of the audio itself; labels of tools that count from where windows begin lie early.
    seed : int >= 0
        Of the interval.

    Raises
    ------
    InputError
        If there are not as many of both, a reference says nothing of phones, none of them has any but silence, or
        phones are not in the mapping.
    """
    silences = frozenset(silences)
    if len(references) != len(hypotheses) or not len(references):
        raise InputError(
            f"{len(references)} references and {len(hypotheses)} hypotheses were given; there must be as many of both"
        )
    true = [_reference_phones(one, mapping, silences) for one in references]
    found = [one if mapping is None else mapped(one, mapping, silences) for one in hypotheses]
    strings = [[segment.label for segment in one] for one in found]
    spoken = [[[phone for phone in one if phone not in silences] for one in side] for side in (true, strings)]
    counts = utterance_error_counts(*spoken)
    values = [one.labels.get(group) for one in references]
    groups: dict[str, ErrorCounts] = defaultdict(ErrorCounts)
    for value, own in zip(values, counts, strict=True):
        if value is not None:
            groups[value] += own
    speakers = [str(value) for value in values] if None not in values else [""] * len(values)
    agreements = [
        boundary_agreement(_timed(one, mapping, silences), _shifted(own, shift), TOLERANCES)
        for one, own in zip(references, found, strict=True)
        if PHONES in one.segments
    ]
    return PhoneEvaluation(
        counts=sum(counts, ErrorCounts()),
        counts_with_silence=sum(utterance_error_counts(true, strings), ErrorCounts()),
        interval=error_rate_interval(counts, speakers, seed=seed),
        groups=dict(sorted(groups.items())),
        confusions=tuple(confusions(*spoken).most_frequent()),
        boundaries=reduce(add, agreements) if agreements else None,
    )


def _timed(utterance: Utterance, mapping: PhoneMap | None, silences: Collection[str]) -> tuple[Segment, ...]:
    segments = tuple(utterance.segments[PHONES])
    return segments if mapping is None else mapped(segments, mapping, silences)


def _reference_phones(utterance: Utterance, mapping: PhoneMap | None, silences: Collection[str]) -> list[str]:
    if PHONES in utterance.segments:
        return [segment.label for segment in _timed(utterance, mapping, silences)]
    phones = phone_string(utterance)
    if mapping is None:
        return list(phones)
    folded = map_phones(phones, mapping)
    # Silences next to each other are one, as in segments.
    return [
        phone
        for before, phone in zip([None, *folded], folded, strict=False)
        if phone != before or phone not in silences
    ]


def _shifted(segments: Sequence[Segment], shift: float) -> list[Segment]:
    """Segments at other times, but for the beginning of the utterance."""
    return [
        Segment(max(0.0, one.start + shift) if one.start else 0.0, max(0.0, one.end + shift), one.label)
        for one in segments
    ]


def _attempted(
    work: Callable[[int], Found], extraction: Extraction, stage: str, n_jobs: int, progress: Progress
) -> tuple[tuple[Utterance, ...], tuple[Found, ...], tuple[Problem, ...]]:
    """Work on each utterance by its number: those it was done on, its results, and the problems of all others."""

    def attempt(number: int) -> Found | Problem:
        try:
            return work(number)
        except InputError as error:
            return Problem(extraction.utterances[number].id, str(error))

    total = len(extraction.utterances)
    good, results, problems = [], [], list(extraction.problems)
    outcomes = shard_map(attempt, range(total), n_jobs)
    for done, (utterance, outcome) in enumerate(zip(extraction.utterances, outcomes, strict=True), 1):
        if isinstance(outcome, Problem):
            problems.append(outcome)
        else:
            good.append(utterance)
            results.append(outcome)
        progress(stage, done, total)
    return tuple(good), tuple(results), tuple(problems)


def _adapted(
    recogniser: PhoneRecogniser, extraction: Extraction, label: str | None, n_jobs: int, progress: Progress
) -> dict[str, PhoneRecogniser]:
    """The recogniser of each value of a label."""
    frames = defaultdict(list)
    for utterance, own in zip(extraction.utterances, extraction.frames, strict=True):
        if label is not None:
            frames[utterance.labels[label]].append(own)
    recognisers = {}
    for done, value in enumerate(sorted(frames), 1):
        try:
            recognisers[value] = adapted_to(recogniser, frames[value], n_jobs=n_jobs)
        except InputError:  # no utterance is long enough for a phone, which recognition says of each
            recognisers[value] = recogniser
        progress("adapting", done, len(frames))
    return recognisers


def _placed(
    features: FeatureConfig, utterance: Utterance, seconds: float, segments: Sequence[Segment]
) -> tuple[Segment, ...]:
    """Segments from the utterance's own start to its end.

    The frames of a part of a file are those of the whole file, so that the first lies up to a hop after the start.
    """
    late = 0.0
    if utterance.start is not None:
        first, _ = features.frame_range(utterance.start, utterance.start + seconds)
        late = first * features.hop_samples / features.sample_rate - utterance.start
    edges = [min(one.start + late, seconds) for one in segments]
    ends = [*edges[1:], seconds]
    edges[:1] = [0.0]
    return tuple(
        Segment(start, end, one.label) for start, end, one in zip(edges, ends, segments, strict=True)
    )


def _require_distinct(utterances: Sequence[Utterance]) -> None:
    ids = [utterance.id for utterance in utterances]
    if len(set(ids)) < len(ids):
        raise InputError("utterance ids occur twice; `speechgmm manifest check` lists them")


def _require_label(utterances: Sequence[Utterance], label: str | None) -> None:
    if without := [one.id for one in utterances if label is not None and label not in one.labels]:
        raise InputError(
            f"{len(without)} of {len(utterances)} utterances have no label {label!r} to adapt to: {quoted(without)}"
        )
