"""Choose the settings in config.toml on training data alone.

For the official split each fold holds out five takes of the training part, as the test part is five takes. For
the text-independent split each fold holds out one of the training digits, so words differ between training and
test as they do in the real split.
"""

from speechgmm.corpora.fsdd import CORPUS
from speechgmm.manifest import select
from speechgmm.recipe import Recipe, run


def main() -> None:
    recipe = Recipe(__file__, "Choose settings for FSDD speaker identification")
    utterances = recipe.utterances(CORPUS, "fsdd/utterances.jsonl")
    digits = recipe.config["split"]["train_digits"]
    print("Text-independent split")
    recipe.compare(
        [utterance for utterance in utterances if utterance.label("digit") in digits],
        "speaker",
        {
            "n_coefficients": [30, 40],
            "n_filters": [40, 60],
            "delta_orders": [1, 2],
            "speech_activity": ["none", "energy"],
        },
        [8, 16, 32],
        [lambda utterance, digit=digit: utterance.label("digit") == digit for digit in digits],
    )
    print("Official split")
    recipe.compare(
        select(utterances, "train"),
        "speaker",
        {"n_coefficients": [20, 30, 40], "delta_orders": [0, 1]},
        [16, 32],
        [
            lambda utterance, first=first: first <= int(utterance.label("take")) < first + 5
            for first in (5, 14, 23, 32, 41)
        ],
    )


if __name__ == "__main__":
    run(main)
