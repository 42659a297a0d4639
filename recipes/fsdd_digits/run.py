"""Spoken digits of the Free Spoken Digit Dataset: the official split, and speakers never heard in training."""

from dataclasses import replace
from itertools import combinations
from statistics import mean

from speechgmm.corpora.fsdd import CORPUS
from speechgmm.features import Extraction
from speechgmm.recipe import Recipe, run
from speechgmm.settings import TrainingSettings


def accuracy(
    recipe: Recipe, extraction: Extraction, without: set[str], tested: str, training: TrainingSettings
) -> float:
    """Accuracy on one speaker of models trained on all speakers but some."""
    return recipe.identify(
        extraction,
        "digit",
        lambda utterance: utterance.label("speaker") not in without,
        lambda utterance: utterance.label("speaker") == tested,
        training,
    ).accuracy


def main() -> None:
    recipe = Recipe(__file__, "Spoken digits of the Free Spoken Digit Dataset")
    extraction = recipe.extract(recipe.utterances(CORPUS, "fsdd/utterances.jsonl"))
    candidates = [
        replace(recipe.training(), n_components=count) for count in recipe.config["choice"]["n_components"]
    ]
    speakers = sorted({utterance.label("speaker") for utterance in extraction.utterances})

    with recipe.stage("official split"):
        official = recipe.identify(
            extraction,
            "digit",
            lambda utterance: utterance.split == "train",
            lambda utterance: utterance.split == "test",
            recipe.training(),
        )
    # Models without speakers a and b serve both: b's test while a is left out, and a's while b is.
    inner: dict[tuple[str, int], list[float]] = {}
    with recipe.stage("choice for each speaker"):
        for pair in combinations(speakers, 2):
            for index, candidate in enumerate(candidates):
                for left_out, tested in (pair, pair[::-1]):
                    result = accuracy(recipe, extraction, set(pair), tested, candidate)
                    inner.setdefault((left_out, index), []).append(result)
    metrics = {"accuracy_official": official.accuracy}
    with recipe.stage("leave one speaker out"):
        for speaker in speakers:
            best = max(range(len(candidates)), key=lambda index: mean(inner[speaker, index]))
            result = accuracy(recipe, extraction, {speaker}, speaker, candidates[best])
            metrics[f"accuracy_without_{speaker}"] = result
            print(f"  {speaker}: {candidates[best].n_components} components, {result:.2%}")
    metrics["accuracy_leave_one_speaker_out"] = mean(list(metrics.values())[1:])
    recipe.finish(metrics, intervals={"accuracy_official": official.interval})
    print("Every speaker used one microphone throughout: unseen speakers bring unseen microphones.")


if __name__ == "__main__":
    run(main)
