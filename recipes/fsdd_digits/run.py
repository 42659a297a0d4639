"""Spoken digits of the Free Spoken Digit Dataset: the official split, and speakers never heard in training."""

from collections.abc import Collection
from dataclasses import replace
from itertools import combinations, product
from statistics import mean

import words
from copies import COPY, warped, with_copies

from speechgmm.corpora.fsdd import CORPUS
from speechgmm.features import Extraction
from speechgmm.recipe import Recipe, run
from speechgmm.settings import TrainingSettings


def accuracies(
    recipe: Recipe, extraction: Extraction, left_out: Collection[str], training: TrainingSettings
) -> dict[str, float]:
    """Accuracy on each of some speakers, of models trained on all the others."""
    evaluation = recipe.identify(
        extraction,
        "digit",
        training,
        lambda utterance: utterance.label("speaker") not in left_out,
        lambda utterance: utterance.label("speaker") in left_out and utterance.split != COPY,
    )
    labels = {utterance.id: utterance.labels for utterance in extraction.utterances}
    right: dict[str, list[bool]] = {speaker: [] for speaker in left_out}
    for decision in evaluation.decisions:
        truth = labels[decision.utterance]
        right[truth["speaker"]].append(decision.label == truth["digit"])
    return {speaker: mean(answers) for speaker, answers in right.items()}


def choose(
    recipe: Recipe, extractions: list[Extraction], speakers: list[str], counts: list[int]
) -> dict[str, tuple[int, int]]:
    """For each speaker left out, the best extraction and number of components among the other speakers."""
    inner: dict[str, dict[tuple[int, int], list[float]]] = {speaker: {} for speaker in speakers}
    # Models without speakers a and b serve both: b tests them while a is left out, and a while b is.
    for index, count, pair in product(range(len(extractions)), counts, combinations(speakers, 2)):
        results = accuracies(recipe, extractions[index], pair, replace(recipe.training(), n_components=count))
        for left_out, tested in (pair, pair[::-1]):
            inner[left_out].setdefault((index, count), []).append(results[tested])
    return {speaker: max(found, key=lambda key: mean(found[key])) for speaker, found in inner.items()}


def main() -> None:
    recipe = Recipe(__file__, "Spoken digits of the Free Spoken Digit Dataset")
    utterances = recipe.utterances(CORPUS, "fsdd/utterances.jsonl")
    speakers = sorted({utterance.label("speaker") for utterance in utterances})
    changes, choice = dict(recipe.config["leave_one_speaker_out"]), dict(recipe.config["choice"])
    warps, counts = changes.pop("warps"), choice.pop("n_components")
    combined = [dict(zip(choice, values, strict=True)) for values in product(*choice.values())]

    extraction = recipe.extract(utterances)
    with recipe.stage("official split"):
        official = recipe.identify(extraction, "digit", recipe.training())
    extractions = [
        with_copies(recipe, utterances, warped(replace(recipe.features(), **changes, **chosen), warps))
        for chosen in combined
    ]
    with recipe.stage("choice for each speaker"):
        chosen = choose(recipe, extractions, speakers, counts)
    alone = {}
    with recipe.stage("leave one speaker out"):
        for speaker, (index, count) in chosen.items():
            settings = replace(recipe.training(), n_components=count)
            alone |= accuracies(recipe, extractions[index], [speaker], settings)
            print(f"  without {speaker}: {count} components, {combined[index]}: {alone[speaker]:.2%}")
    hmm_official = words.official(recipe, extraction)
    hmm_alone = words.leave_one_speaker_out(recipe, utterances, speakers)
    recipe.finish(
        {
            "accuracy_official": official.accuracy,
            **{f"accuracy_without_{speaker}": value for speaker, value in alone.items()},
            "accuracy_leave_one_speaker_out": mean(alone.values()),
            "accuracy_hmm_official": hmm_official,
            **{f"accuracy_hmm_without_{speaker}": value for speaker, value in hmm_alone.items()},
            "accuracy_hmm_leave_one_speaker_out": mean(hmm_alone.values()),
        },
        intervals={"accuracy_official": official.interval},
    )
    print("Every speaker used one microphone throughout: unseen speakers bring unseen microphones.")


if __name__ == "__main__":
    run(main)
