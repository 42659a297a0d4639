"""Phones of Speech Commands, by speakers never heard in training: segments, and isolated words by a loop of phones."""

from collections.abc import Sequence
from dataclasses import replace

from speechgmm.corpora.speech_commands import CORPUS
from speechgmm.features import Extraction, FeatureConfig
from speechgmm.manifest import Segment, Utterance
from speechgmm.metrics.sequences import (
    ErrorRateInterval,
    confusions,
    error_rate_interval,
    utterance_error_counts,
)
from speechgmm.parallel import shard_map
from speechgmm.phones.hmm_training import HmmSettings
from speechgmm.phones.labels import phone_string
from speechgmm.phones.language_model import train_ngrams
from speechgmm.phones.phone_sets import phone_set
from speechgmm.phones.recogniser import PhoneRecogniser
from speechgmm.phones.recogniser_training import Material, RecogniserSettings, train_on_material
from speechgmm.phones.segment_classifier import SegmentEvaluation, evaluate_segments, train_segment_classifier
from speechgmm.phones.segment_evidence import SegmentSettings
from speechgmm.phones.transcripts import transcripts_of
from speechgmm.phones.tuning import Tuning, tune_weights
from speechgmm.recipe import Recipe, run
from speechgmm.settings import settings_from_table
from speechgmm.terminal import print_table

MANIFEST = "speech_commands_phones/utterances.jsonl"


def classified(
    recipe: Recipe, extraction: Extraction, features: FeatureConfig, settings: SegmentSettings, part: str
) -> SegmentEvaluation:
    """Which phone each segment of a part is, by what the training speakers said."""
    train, test = extraction.of_split("train"), extraction.of_split(part)
    with recipe.stage("segments"):
        classifier = train_segment_classifier(
            train.frames, segments(train), features, settings, n_jobs=recipe.jobs
        )
        return evaluate_segments(
            classifier, test.frames, segments(test), phone_set("arpabet").manner, recipe.jobs
        )


def segments(extraction: Extraction) -> list[tuple[Segment, ...]]:
    """The segments of each utterance."""
    return [one.segments["phones"] for one in extraction.utterances]


def show_classes(known: SegmentEvaluation) -> None:
    """Print as segments of which class of phones those of each were decided."""
    rows = zip(known.manners, known.manner_matrix.tolist(), strict=True)
    print_table("Segments by class", ("said", *known.manners), [(name, *row) for name, row in rows])


def trained(recipe: Recipe, train: Extraction, features: FeatureConfig, hmm: HmmSettings) -> PhoneRecogniser:
    """A recogniser of the training speakers."""
    settings = RecogniserSettings.from_dict(recipe.config["recogniser"])
    said = transcripts_of(train.utterances, settings.silence, features=features)
    material = Material(train.utterances, train.frames, said)
    with recipe.stage("recogniser"):
        return train_on_material(material, features, settings, hmm, recipe.jobs).recogniser


def hmm_settings(recipe: Recipe) -> HmmSettings:
    """The `[hmm]` of config.toml, with the seed of the command line."""
    return replace(settings_from_table(HmmSettings, recipe.config["hmm"], "HMM"), seed=recipe.options.seed)


def strings(utterances: Sequence[Utterance], silence: str) -> list[list[str]]:
    """The phones of utterances, silence left out."""
    return [[phone for phone in phone_string(one) if phone != silence] for one in utterances]


def without_language_model(recogniser: PhoneRecogniser, train: Sequence[Utterance]) -> PhoneRecogniser:
    """The same HMMs, where any phone may follow any other as often as it occurs."""
    occurring = [phone_string(one) for one in train]
    unigrams = train_ngrams(occurring, 1, "witten_bell", recogniser.phones)
    return replace(recogniser, language_model=unigrams)


def tuned(recipe: Recipe, recogniser: PhoneRecogniser, development: Extraction) -> Tuning:
    """The weights that do best on the development speakers."""
    with recipe.stage("weights"):
        references = strings(development.utterances, recogniser.silence)
        found = tune_weights(recogniser, development.frames, references, recipe.jobs)
    print(
        f"  development speakers: {found.counts.rate:.2%}; weight of the language model "
        f"{found.weights.language_model:g}, of insertions {found.weights.insertion:g}"
    )
    return found


def recognised(recipe: Recipe, recogniser: PhoneRecogniser, test: Extraction) -> ErrorRateInterval:
    """The phone error rate on the test speakers, silence left out; what goes wrong most often is printed."""
    with recipe.stage("recognition"):
        found = list(shard_map(recogniser.recognise, test.frames, recipe.jobs))
    references = strings(test.utterances, recogniser.silence)
    hypotheses = [[one.label for one in own.phones if one.label != recogniser.silence] for own in found]
    counts = utterance_error_counts(references, hypotheses)
    errors = [
        (a or "nothing", b or "nothing", n) for a, b, n in confusions(references, hypotheses).most_frequent()
    ]
    print_table("Most frequent errors", ("said", "recognised", "times"), errors)
    speakers = [one.label("speaker") for one in test.utterances]
    return error_rate_interval(counts, speakers, seed=recipe.options.seed)


def main() -> None:
    recipe = Recipe(__file__, "Phones of Speech Commands")
    utterances = recipe.utterances(CORPUS, MANIFEST)
    features = FeatureConfig.from_dict(recipe.config["segment_features"])
    settings = SegmentSettings.from_dict(recipe.config["segments"])
    known = classified(recipe, recipe.extract(utterances, features), features, settings, "test")
    show_classes(known)
    extraction = recipe.extract(utterances)
    train, development, test = (extraction.of_split(part) for part in ("train", "dev", "test"))
    recogniser = trained(recipe, train, recipe.features(), hmm_settings(recipe))
    alone = without_language_model(recogniser, train.utterances)
    rates = {
        name: recognised(recipe, one.with_weights(tuned(recipe, one, development).weights), test)
        for name, one in (("per", recogniser), ("per_without_language_model", alone))
    }
    recipe.finish(
        {
            "accuracy_segments": known.accuracy,
            "balanced_accuracy_segments": known.balanced_accuracy,
            "accuracy_segments_manner": float(known.manner_matrix.trace() / known.n_segments),
            **{name: one.rate for name, one in rates.items()},
        },
        intervals={
            "accuracy_segments": known.interval,
            **{name: (one.low, one.high) for name, one in rates.items()},
        },
    )
    print("All figures are agreement with forced alignment. Every speaker used one microphone throughout.")


if __name__ == "__main__":
    run(main)
