"""Nine male speakers say two Japanese vowels: speaker identification from frames that come with the corpus."""

from dataclasses import replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from speechgmm.corpora.japanese_vowels import load
from speechgmm.errors import InputError
from speechgmm.evaluation import Evaluation, judge
from speechgmm.features.dynamics import with_deltas
from speechgmm.recipe import Recipe, run
from speechgmm.scorer import Scorer
from speechgmm.settings import TrainingSettings
from speechgmm.trainer import train_on_frames

Utterances = list[tuple[NDArray[np.float32], str]]
PUBLISHED = [
    ("accuracy", 0.941, "Kudo et al. (1999)"),
    ("accuracy", 0.962, "Kudo et al. (1999)"),
]


def with_dynamics(utterances: Utterances, delta_width: int) -> Utterances:
    """Frames with deltas, and with how far into the utterance they are (-1 to 1): /ae/ is a movement."""
    return [
        (
            np.column_stack(
                [with_deltas(frames, delta_orders=1, delta_width=delta_width), position(len(frames))]
            ),
            speaker,
        )
        for frames, speaker in utterances
    ]


def position(n_frames: int) -> NDArray[np.float32]:
    return np.linspace(-1, 1, n_frames, dtype=np.float32)


def identify(train: Utterances, test: Utterances, settings: TrainingSettings, n_jobs: int) -> Evaluation:
    """Train on one part and evaluate on the other."""
    frames, speakers = zip(*train, strict=True)
    model = train_on_frames(frames, speakers, settings=settings, n_jobs=n_jobs).model
    scorer = Scorer(model)
    ids = [str(index) for index in range(len(test))]
    decisions = scorer.decide(scorer.score([frames for frames, _ in test]), ids)
    return judge(model, decisions, {name: speaker for name, (_, speaker) in zip(ids, test, strict=True)})


def cross_validated(train: Utterances, settings: TrainingSettings, n_folds: int, n_jobs: int) -> float:
    """Accuracy over all training utterances, each decided by models that never saw it."""
    folds = [
        (train[k::n_folds], [u for i, u in enumerate(train) if i % n_folds != k]) for k in range(n_folds)
    ]
    return sum(identify(rest, fold, settings, n_jobs).n_correct for fold, rest in folds) / len(train)


def main() -> None:
    recipe = Recipe(__file__, "Speaker identification on Japanese Vowels")
    sums = recipe.manifest("japanese_vowels/SHA256SUMS")
    if sums.name != "SHA256SUMS":
        raise InputError(f"--manifest {sums}: it must be the SHA256SUMS beside the .ts files")
    with recipe.stage("frames"):
        train, test = (list(zip(*load(sums.parent, part), strict=True)) for part in ("train", "test"))
    choice = recipe.config["choice"]
    results = {}
    with recipe.stage("choice by cross-validation"):
        for n_components, width in product(choice["n_components"], choice["delta_width"]):
            settings = replace(recipe.training(), n_components=n_components)
            data = with_dynamics(train, width)
            results[n_components, width] = cross_validated(data, settings, choice["folds"], recipe.jobs)
    n_components, width = max(results, key=lambda key: results[key])
    print(
        f"chosen: {n_components} components, delta width {width} ({results[n_components, width]:.2%} on training data)"
    )
    with recipe.stage("training and test"):
        result = identify(
            with_dynamics(train, width),
            with_dynamics(test, width),
            replace(recipe.training(), n_components=n_components),
            recipe.jobs,
        )
    recipe.finish({"accuracy": result.accuracy}, PUBLISHED, {"accuracy": result.interval})


if __name__ == "__main__":
    run(main)
