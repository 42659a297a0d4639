"""Try settings on the background speakers alone, on stretches of one utterance of each, one setting at a time."""

from collections.abc import Mapping

from run import N_ENROL, divided, stretches

from speechgmm.corpora.librispeech import TRAIN_CLEAN_100, utterances
from speechgmm.features import FeatureConfig
from speechgmm.recipe import run
from speechgmm.recipe_verification import VerificationRecipe
from speechgmm.verification.enrolment import Speech
from speechgmm.verification.store_calibration import speech_of

CHANGES = [
    ("features", "window_length", [0.025]),
    ("features", "dither", [0.0]),
    ("features", "normalisation", ["mean"]),
    ("features", "speech_activity", ["energy"]),
    ("background", "n_components", [32, 128, 256]),
    ("adaptation", "parts", [["means"]]),
    ("adaptation", "relevance_factor", [8.0, 32.0]),
]


def main() -> None:
    recipe = VerificationRecipe(__file__, "Try settings for speaker verification on LibriSpeech")
    everything = recipe.listed(TRAIN_CLEAN_100, lambda folder: utterances(folder, ["train-clean-100"]))
    cut = stretches(divided(everything)[0])

    def background(features: FeatureConfig) -> Mapping[str, Speech]:
        return speech_of(recipe.extract_to_store(cut, features))

    recipe.compare_one_by_one(background, N_ENROL, CHANGES)


if __name__ == "__main__":
    run(main)
