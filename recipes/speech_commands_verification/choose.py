"""Choose the settings in config.toml on the background speakers alone: the last round, one setting at a time.

Then the prior that the calibration is trained for: on trials among one half of the background speakers it is trained,
on those among the other half it is judged, for twenty random halves.
"""

from collections.abc import Mapping

import numpy as np

from speechgmm.corpora.speech_commands import CORPUS
from speechgmm.features import FeatureConfig
from speechgmm.manifest import select
from speechgmm.metrics.detection import detection_figures
from speechgmm.recipe import run
from speechgmm.recipe_verification import VerificationRecipe
from speechgmm.terminal import print_table
from speechgmm.verification.calibration import fit_calibration
from speechgmm.verification.cross_fitting import CrossFit
from speechgmm.verification.enrolment import Speech
from speechgmm.verification.store_calibration import speech_of
from speechgmm.verification.system import System

N_ENROL = 10  # as in the enrolment part
CHANGES = [
    ("features", "window_length", [0.025]),
    ("features", "dither", [0.0, 3e-5]),
    ("features", "normalisation", ["mean"]),
    ("background", "n_components", [32, 128]),
    ("adaptation", "parts", [["means"]]),
    ("adaptation", "relevance_factor", [8.0, 32.0]),
]
PRIORS = (0.5, 0.1, 0.01)
N_HALVES = 20
# What it costs, and what it would cost with the best calibration of all.
PAIRS = [("actual_dcf_0.5", "min_dcf_0.5"), ("actual_dcf_0.01", "min_dcf_0.01"), ("cllr", "min_cllr")]


def of_halves(crossed: CrossFit, system: System, p_target: float, seed: int) -> list[dict[str, float]]:
    """Figures of calibrated trials among speakers that the calibration was not trained on."""
    scores, rng, found = crossed.scores[system], np.random.default_rng(seed), []
    speakers = np.unique(crossed.model_speakers)
    for _ in range(N_HALVES):
        half = rng.permutation(speakers)[: len(speakers) // 2]
        first, second = (np.isin(side, half) for side in (crossed.model_speakers, crossed.test_speakers))
        train, test = first & second, ~first & ~second
        target, nontarget = crossed.is_target, ~crossed.is_target
        calibration = fit_calibration(scores[train & target], scores[train & nontarget], p_target)
        llrs = calibration.apply(scores)
        found.append(detection_figures(llrs[test & target], llrs[test & nontarget], calibrated=True))
    return found


def compare_priors(crossed: CrossFit, systems: Mapping[str, System], seed: int) -> None:
    """Print actual over least costs, each a mean over halves."""
    rows = []
    for name, system in systems.items():
        for prior in PRIORS:
            found = of_halves(crossed, system, prior, seed)
            ratios = [sum(one[up] for one in found) / sum(one[down] for one in found) for up, down in PAIRS]
            rows.append((name, prior, *(f"{ratio:.2f}" for ratio in ratios)))
    columns = ("system", "p_target", *(f"{up} / {down}" for up, down in PAIRS))
    print_table("Calibration by one half of the background speakers, judged on the other", columns, rows)


def main() -> None:
    recipe = VerificationRecipe(__file__, "Choose settings for speaker verification on Speech Commands")
    utterances = select(recipe.utterances(CORPUS, "speech_commands/verification.jsonl"), "background")

    def background(features: FeatureConfig) -> Mapping[str, Speech]:
        return speech_of(recipe.extract(utterances, features))

    recipe.compare_one_by_one(background, N_ENROL, CHANGES)
    systems = {"raw": System(), "S-norm": System(normalisation="s")}
    crossed = recipe.cross_fit(background(recipe.features()), list(systems.values()), N_ENROL)
    compare_priors(crossed, systems, recipe.options.seed)


if __name__ == "__main__":
    run(main)
