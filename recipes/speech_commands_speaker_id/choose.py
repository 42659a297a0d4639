"""Choose the settings in config.toml on training data alone: training words stand in for the test words.

In the order of their sha256, every third training word is held out, in three folds.
"""

from speechgmm.corpora.speech_commands import CORPUS
from speechgmm.files import sha256_of_text
from speechgmm.manifest import select
from speechgmm.recipe import Recipe, run


def main() -> None:
    recipe = Recipe(__file__, "Choose settings for speaker identification on Speech Commands")
    utterances = select(recipe.utterances(CORPUS, "speech_commands/utterances.jsonl"), "train")
    words = sorted({utterance.label("word") for utterance in utterances}, key=sha256_of_text)
    recipe.compare(
        utterances,
        "speaker",
        {"n_coefficients": [20, 30, 40], "delta_orders": [0, 1], "n_filters": [40, 60]},
        [8, 16],
        [lambda utterance, fold=fold: words.index(utterance.label("word")) % 3 == fold for fold in range(3)],
    )


if __name__ == "__main__":
    run(main)
