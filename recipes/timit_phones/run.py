"""Phones of TIMIT: trained on 48, judged on 39, tuned on the development speakers, tested on the core test."""

from speechgmm.corpora.locate import corpus_folder
from speechgmm.corpora.timit import CORPUS, phone_split, utterances
from speechgmm.features import Extraction
from speechgmm.manifest import Utterance, read_manifest
from speechgmm.metrics.identification import wilson_interval
from speechgmm.phones.phone_sets import PhoneMap, phone_map
from speechgmm.phones.recognition import PhoneEvaluation, evaluate_recognition
from speechgmm.recipe import run
from speechgmm.recipe_phones import PhoneRecipe, boundary_metrics, relabelled, show_errors

KALDI = "Kaldi, egs/timit/s5 ({}), silence optional"
PUBLISHED = [("per", 0.327, KALDI.format("monophones")), ("per", 0.256, KALDI.format("triphones"))]


def main() -> None:
    recipe = PhoneRecipe(__file__, "Phones of TIMIT")
    trained, judged = recipe.config["phones"]["trained"], recipe.config["phones"]["judged"]
    marked = relabelled(listed(recipe), phone_map("timit61", trained))
    fold = phone_map(trained, judged)
    segment_accuracy, interval = segments(recipe, marked, fold)
    evaluations = recognition(recipe, recipe.extract(marked), fold)
    first = evaluations["per"]
    metrics = {
        "segment_accuracy": segment_accuracy,
        **{name: one.counts.rate for name, one in evaluations.items()},
        "per_with_silence": first.counts_with_silence.rate,
    }
    intervals = {name: (one.interval.low, one.interval.high) for name, one in evaluations.items()}
    if first.boundaries is not None:
        metrics |= boundary_metrics(first.boundaries)
    recipe.finish(metrics, PUBLISHED, {**intervals, "segment_accuracy": interval})


def listed(recipe: PhoneRecipe) -> list[Utterance]:
    """The utterances of `--manifest`, or the usual parts of the corpus in its folder."""
    if recipe.options.manifest is not None:
        return read_manifest(recipe.manifest(""), recipe.options.data_dir)
    return phone_split(utterances(corpus_folder(CORPUS, recipe.options.data_dir)))


def segments(
    recipe: PhoneRecipe, marked: list[Utterance], fold: PhoneMap
) -> tuple[float, tuple[float, float]]:
    """How many segments of the core test are of the phone that is decided, both folded, and a 95 % interval."""
    extraction = recipe.extract(marked, recipe.segment_features())
    test = extraction.of_split("test")
    decided = recipe.classify(extraction.of_split("train"), test).decided
    truth = [fold[one.label] for utterance in test.utterances for one in utterance.segments["phones"]]
    # What the smaller set drops is not judged.
    right = [said == fold[found] for said, found in zip(truth, decided, strict=True) if said is not None]
    return sum(right) / len(right), wilson_interval(sum(right), len(right))


def recognition(recipe: PhoneRecipe, extraction: Extraction, fold: PhoneMap) -> dict[str, PhoneEvaluation]:
    """The core test as it is and adapted to each speaker, and the development part."""
    development, test = extraction.of_split("dev"), extraction.of_split("test")
    recogniser = recipe.tuned(recipe.trained(extraction.of_split("train")), development)
    with recipe.stage("recognition"):
        plain = recipe.recognised(recogniser, test.frames)
        tuned_on = recipe.recognised(recogniser, development.frames)
    with recipe.stage("recognition, fMLLR"):
        adapted = recipe.recognised_adapted(recogniser, test)
    evaluations = {
        name: evaluate_recognition(
            part.utterances, [one.phones for one in found], mapping=fold, seed=recipe.options.seed
        )
        for name, part, found in (
            ("per", test, plain),
            ("per_fmllr", test, adapted),
            ("per_dev", development, tuned_on),
        )
    }
    show_errors("39 phones, silence left out", evaluations)
    return evaluations


if __name__ == "__main__":
    run(main)
