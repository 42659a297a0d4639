"""Speaker verification and open-set identification on Speech Commands: 53 speakers, 102 others as background."""

from dataclasses import replace

import numpy as np

from speechgmm.corpora.speech_commands import CORPUS
from speechgmm.features import Extraction
from speechgmm.recipe import run
from speechgmm.recipe_protocol import Protocol, open_set
from speechgmm.recipe_verification import Metrics, VerificationRecipe, metrics_of
from speechgmm.verification.store_calibration import speech_of

# On this very split by `d_vectors.py`, silences cut as the package does by itself.
D_VECTORS = "Resemblyzer 0.1.4, d-vectors, this split"
SHOWN = (
    *("eer", "eer_snorm", "eer_mean_normalised", "eer_snorm_mean_normalised"),
    *("identification_accuracy", "open_set_detection", "open_set_false_alarm"),
)


def protocol_of(extraction: Extraction) -> Protocol:
    """All target and all cross-speaker trials of the test part against the enrolled speakers."""
    tests = extraction.of_split("test")
    enrolment = dict(sorted(speech_of(extraction.of_split("enrol")).items()))
    n_models, n_tests = len(enrolment), len(tests.frames)
    return Protocol(
        background=speech_of(extraction.of_split("background")),
        enrolment=enrolment,
        model_speakers=list(enrolment),
        tests=tests.frames,
        test_speakers=[utterance.label("speaker") for utterance in tests.utterances],
        models=np.repeat(np.arange(n_models), n_tests),
        test_numbers=np.tile(np.arange(n_tests), n_models),
    )


def main() -> None:
    recipe = VerificationRecipe(__file__, "Speaker verification on Speech Commands")
    utterances = recipe.utterances(CORPUS, "speech_commands/verification.jsonl")
    protocol = protocol_of(recipe.extract(utterances))
    results = recipe.verify(protocol, recipe.systems())
    recipe.show("As configured", results)
    without = protocol_of(recipe.extract(utterances, replace(recipe.features(), normalisation="mean")))
    normalised = recipe.verify(without, recipe.systems("normalised_systems"))
    recipe.show("With mean normalisation", normalised)
    recipe.draw_det(protocol, results)
    found = {name: open_set(protocol, result.llrs) for name, result in results.items()}
    recipe.show_open_set(found)
    recipe.draw_open_set(found)
    configured = metrics_of(results, "top", "top_snorm")
    others = metrics_of(normalised, "top", "top_snorm", "_mean_normalised")
    identification = {
        **{f"identification_{name}": one.accuracy for name, one in found.items()},
        "identification_accuracy": found["top"].accuracy,
        "open_set_detection": found["top"].detection,
        "open_set_false_alarm": found["top"].false_alarm,
    }
    recipe.conclude(
        Metrics(
            {**configured.values, **others.values, **identification},
            {**configured.intervals, **others.intervals},
        ),
        SHOWN,
        [("eer", 0.0711, D_VECTORS), ("identification_accuracy", 0.875, D_VECTORS)],
    )
    print("Every speaker used one microphone throughout: part of these scores is the microphone.")


if __name__ == "__main__":
    run(main)
