"""Choose the settings in config.toml for the official split on its training part alone.

Each fold holds out five of the takes 5 to 49, as the official test part is takes 0 to 4.
"""

from speechgmm.corpora.fsdd import CORPUS
from speechgmm.manifest import select
from speechgmm.recipe import Recipe, run


def main() -> None:
    recipe = Recipe(__file__, "Choose settings for FSDD digits")
    recipe.compare(
        select(recipe.utterances(CORPUS, "fsdd/utterances.jsonl"), "train"),
        "digit",
        {
            "normalisation": ["none", "mean_variance"],
            "delta_width": [2, 4],
            "speech_activity": ["none", "energy"],
        },
        [32, 64],
        [
            lambda utterance, first=first: first <= int(utterance.label("take")) < first + 5
            for first in (5, 14, 23, 32, 41)
        ],
    )


if __name__ == "__main__":
    run(main)
