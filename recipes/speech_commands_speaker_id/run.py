"""Closed-set speaker identification on Speech Commands: 73 speakers, test words that differ from training words."""

from speechgmm.corpora.speech_commands import CORPUS
from speechgmm.recipe import Recipe, run


def main() -> None:
    recipe = Recipe(__file__, "Closed-set speaker identification on Speech Commands")
    extraction = recipe.extract(recipe.utterances(CORPUS, "speech_commands/utterances.jsonl"))
    with recipe.stage("training and test"):
        result = recipe.identify(extraction, "speaker", recipe.training())
    recipe.finish({"accuracy": result.accuracy}, intervals={"accuracy": result.interval})
    print("Every speaker used one microphone throughout: part of this score is the microphone.")


if __name__ == "__main__":
    run(main)
