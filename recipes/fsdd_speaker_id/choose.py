"""Choose the settings in config.toml on training data alone: on the text-independent split's digits 0 to 4.

Each fold leaves two of these digits out and tests on them, so words differ between training and test as they
do in the real split.
"""

from itertools import combinations

from speechgmm.corpora.fsdd import CORPUS
from speechgmm.recipe import Recipe, run


def main() -> None:
    recipe = Recipe(__file__, "Choose settings for FSDD speaker identification")
    digits = recipe.config["split"]["train_digits"]
    utterances = recipe.utterances(CORPUS, "fsdd/utterances.jsonl")
    recipe.compare(
        [utterance for utterance in utterances if utterance.label("digit") in digits],
        "speaker",
        {"n_coefficients": [20, 30, 40], "delta_orders": [0, 1, 2]},
        [8, 16, 32],
        [lambda utterance, pair=pair: utterance.label("digit") in pair for pair in combinations(digits, 2)],
    )


if __name__ == "__main__":
    run(main)
