"""Speaker identification on the Free Spoken Digit Dataset: the official split, and a text-independent one."""

from dataclasses import replace

from speechgmm.corpora.fsdd import CORPUS
from speechgmm.recipe import Recipe, run


def main() -> None:
    recipe = Recipe(__file__, "Speaker identification on the Free Spoken Digit Dataset")
    utterances = recipe.utterances(CORPUS, "fsdd/utterances.jsonl")
    digits, changes = recipe.config["split"], dict(recipe.config["text_independent"])

    extraction = recipe.extract(utterances)
    with recipe.stage("official split"):
        official = recipe.identify(extraction, "speaker", recipe.training())
    n_components = changes.pop("n_components")
    extraction = recipe.extract(utterances, replace(recipe.features(), **changes))
    with recipe.stage("text-independent split"):
        independent = recipe.identify(
            extraction,
            "speaker",
            replace(recipe.training(), n_components=n_components),
            lambda utterance: utterance.label("digit") in digits["train_digits"],
            lambda utterance: utterance.label("digit") in digits["test_digits"],
        )
    recipe.finish(
        {"accuracy_official": official.accuracy, "accuracy_text_independent": independent.accuracy},
        intervals={
            "accuracy_official": official.interval,
            "accuracy_text_independent": independent.interval,
        },
    )
    print("Every speaker used one microphone throughout: part of these scores is the microphone.")


if __name__ == "__main__":
    run(main)
