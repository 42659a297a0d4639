"""The main job in under a minute, with no data and no network: made voices, a model, decisions, figures."""

import tempfile
from pathlib import Path

import speechgmm
from speechgmm.corpora.espeak import make_corpus
from speechgmm.recipe import Recipe, run
from speechgmm.terminal import print_table


def main() -> None:
    recipe = Recipe(__file__, "Make a small corpus, train on it, classify, evaluate")
    with tempfile.TemporaryDirectory() as folder:
        with recipe.stage("making speech with espeak-ng"):
            train, test = make_corpus(
                Path(folder) / "corpus", seed=recipe.options.seed, **recipe.config["corpus"]
            )
        with recipe.stage("training"):
            training = speechgmm.train(
                train, features=recipe.features(), settings=recipe.training(), n_jobs=recipe.jobs
            )
        model = recipe.options.output / "model.safetensors"
        training.model.save(model)
        with recipe.stage("evaluation"):
            result = speechgmm.evaluate(speechgmm.Model.load(model), test, n_jobs=recipe.jobs)
    rows = [(d.utterance, d.label, d.posterior, d.runner_up, d.margin) for d in result.decisions[:5]]
    print_table("The first decisions", ("utterance", "speaker", "posterior", "runner-up", "margin"), rows)
    recipe.finish({"accuracy": result.accuracy}, intervals={"accuracy": result.interval})
    print(f"The model is in {model}; `speechgmm inspect {model}` says what is inside.")
    print(
        f"This speech is synthetic: {len(training.classes)} settings of one program, so the figure says nothing of "
        "real voices.\n"
        "For recorded speech run recipes/japanese_vowels_speaker_id/run.py (its data is here already),\n"
        "then recipes/fsdd_speaker_id/run.py (six speakers, 3000 recordings)."
    )


if __name__ == "__main__":
    run(main)
