"""Choose the settings in config.toml on training data alone: on the text-independent split's digits 0 to 4.

Each fold leaves two of these digits out and tests on them, so words differ between training and test as they
do in the real split. Prints the mean accuracy of each combination; config.toml has the best.
"""

import itertools
from dataclasses import replace

from speechgmm.corpora.fsdd import CORPUS
from speechgmm.recipe import Recipe, run

FOLDS = [{"0", "1"}, {"1", "2"}, {"2", "3"}, {"3", "4"}, {"0", "4"}]


def main() -> None:
    recipe = Recipe(__file__, "Choose settings for FSDD speaker identification")
    train_digits = set(recipe.config["split"]["train_digits"])
    utterances = [
        utterance
        for utterance in recipe.utterances(CORPUS, "fsdd/utterances.jsonl")
        if utterance.label("digit") in train_digits
    ]
    base = recipe.features()
    for n_coefficients, orders in itertools.product((20, 30, 40), (0, 1, 2)):
        features = replace(base, n_coefficients=n_coefficients, delta_orders=orders)
        extraction = recipe.extract(utterances, features)
        for n_components in (8, 16, 32):
            training = replace(recipe.training(), n_components=n_components)
            results = [
                recipe.identify(
                    extraction,
                    "speaker",
                    lambda utterance, left_out=left_out: utterance.label("digit") not in left_out,
                    lambda utterance, left_out=left_out: utterance.label("digit") in left_out,
                    training,
                ).accuracy
                for left_out in FOLDS
            ]
            mean = sum(results) / len(results)
            print(
                f"{n_coefficients} coefficients, {orders} delta orders, {n_components} components: {mean:.2%}",
                flush=True,
            )


if __name__ == "__main__":
    run(main)
