"""Choose the settings in config.toml on training data alone: some training words stand in for the test words."""

import itertools
from dataclasses import replace

from speechgmm.corpora.speech_commands import CORPUS
from speechgmm.files import sha256_of_text
from speechgmm.manifest import select
from speechgmm.recipe import Recipe, run


def main() -> None:
    recipe = Recipe(__file__, "Choose settings for speaker identification on Speech Commands")
    utterances = select(recipe.utterances(CORPUS, "speech_commands/utterances.jsonl"), "train")
    words = sorted({utterance.label("word") for utterance in utterances}, key=sha256_of_text)
    held_out = set(words[-(len(words) // 3) :])
    base = recipe.features()
    for n_coefficients, orders, activity in itertools.product((20, 30, 40), (0, 1), (False, True)):
        features = replace(base, n_coefficients=n_coefficients, delta_orders=orders, speech_activity=activity)
        extraction = recipe.extract(utterances, features)
        for n_components in (8, 16, 32):
            result = recipe.identify(
                extraction,
                "speaker",
                lambda utterance: utterance.label("word") not in held_out,
                lambda utterance: utterance.label("word") in held_out,
                replace(recipe.training(), n_components=n_components),
            )
            print(
                f"{n_coefficients} coefficients, {orders} delta orders, speech activity {activity}, "
                f"{n_components} components: {result.accuracy:.2%}",
                flush=True,
            )


if __name__ == "__main__":
    run(main)
