"""Speaker identification on the Free Spoken Digit Dataset: the official split, and a text-independent one."""

from speechgmm.corpora.fsdd import CORPUS
from speechgmm.recipe import Recipe, run


def main() -> None:
    recipe = Recipe(__file__, "Speaker identification on the Free Spoken Digit Dataset")
    extraction = recipe.extract(recipe.utterances(CORPUS, "fsdd/utterances.jsonl"))
    digits = recipe.config["split"]

    with recipe.stage("official split"):
        official = recipe.identify(
            extraction,
            "speaker",
            lambda utterance: utterance.split == "train",
            lambda utterance: utterance.split == "test",
            recipe.training(),
        )
    with recipe.stage("text-independent split"):
        independent = recipe.identify(
            extraction,
            "speaker",
            lambda utterance: utterance.label("digit") in digits["train_digits"],
            lambda utterance: utterance.label("digit") in digits["test_digits"],
            recipe.training(),
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
