"""Digits by one hidden Markov model each, which knows the order of sounds."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations, product
from statistics import mean
from typing import Any

from copies import COPY, noisy, warped, with_copies

from speechgmm.features import Extraction
from speechgmm.manifest import Utterance
from speechgmm.phones.hmm_training import HmmSettings
from speechgmm.phones.word_classifier import train_words
from speechgmm.recipe import Recipe


def official(recipe: Recipe, extraction: Extraction) -> float:
    """Accuracy on the test part."""
    settings = dict(recipe.config["words"])
    with recipe.stage("words, official split"):
        right = _right(
            recipe,
            extraction,
            settings,
            lambda utterance: utterance.split == "train",
            lambda utterance: utterance.split == "test",
        )
    return mean(right.values())


def leave_one_speaker_out(
    recipe: Recipe, utterances: Sequence[Utterance], speakers: Sequence[str]
) -> dict[str, float]:
    """Accuracy on each speaker, of models trained on all the others."""
    changes = dict(recipe.config["words_leave_one_speaker_out"])
    names = ("n_states", "n_components", "warps", "noises", "choice_step")
    n_states, counts, warps, noises, step = (changes.pop(name) for name in names)
    features = replace(recipe.features(), **changes)
    extraction = with_copies(recipe, utterances, {**warped(features, warps), **noisy(features, noises)})
    with recipe.stage("words, choice for each speaker"):
        few = {one.id for one in utterances[::step]}
        chosen = _choose(recipe, _of(extraction, few), speakers, n_states, counts)
    alone = {}
    with recipe.stage("words, leave one speaker out"):
        for speaker, count in chosen.items():
            settings = {"n_states": n_states, "n_components": count}
            alone |= _accuracies(recipe, extraction, [speaker], settings)
            print(f"  without {speaker}: {count} components: {alone[speaker]:.2%}")
    return alone


def _choose(
    recipe: Recipe, extraction: Extraction, speakers: Sequence[str], n_states: int, counts: Sequence[int]
) -> dict[str, int]:
    """For each speaker left out, the best number of components among the other speakers."""
    inner: dict[str, dict[int, list[float]]] = {speaker: {} for speaker in speakers}
    # Models without speakers a and b serve both, as for mixtures.
    for count, pair in product(counts, combinations(speakers, 2)):
        settings = {"n_states": n_states, "n_components": count}
        results = _accuracies(recipe, extraction, pair, settings)
        for left_out, tested in (pair, pair[::-1]):
            inner[left_out].setdefault(count, []).append(results[tested])
    return {speaker: max(found, key=lambda count: mean(found[count])) for speaker, found in inner.items()}


def _accuracies(
    recipe: Recipe, extraction: Extraction, left_out: Sequence[str], settings: dict[str, Any]
) -> dict[str, float]:
    """Accuracy on each of some speakers, of models trained on all the others."""
    right = _right(
        recipe,
        extraction,
        settings,
        lambda utterance: utterance.label("speaker") not in left_out,
        lambda utterance: utterance.label("speaker") in left_out and utterance.split != COPY,
    )
    return {
        speaker: mean(good for one, good in right.items() if one.label("speaker") == speaker)
        for speaker in left_out
    }


def _right(
    recipe: Recipe,
    extraction: Extraction,
    settings: dict[str, Any],
    in_training: Callable[[Utterance], bool],
    in_test: Callable[[Utterance], bool],
) -> dict[Utterance, bool]:
    """Whether each utterance of the test is recognised."""
    pairs = list(zip(extraction.utterances, extraction.frames, strict=True))
    train = [(utterance, frames) for utterance, frames in pairs if in_training(utterance)]
    test = [(utterance, frames) for utterance, frames in pairs if in_test(utterance)]
    classifier = train_words(
        [frames for _, frames in train],
        [utterance.label("digit") for utterance, _ in train],
        settings["n_states"],
        HmmSettings(n_components=settings["n_components"], seed=recipe.options.seed),
        n_jobs=recipe.jobs,
    )
    found = classifier.classify([frames for _, frames in test], recipe.jobs)
    return {
        utterance: utterance.label("digit") == digit
        for (utterance, _), digit in zip(test, found, strict=True)
    }


def _of(extraction: Extraction, ids: set[str]) -> Extraction:
    """Some utterances and their copies."""
    chosen = [number for number, one in enumerate(extraction.utterances) if one.id.split(" ")[0] in ids]
    rows = ((extraction.utterances[i], extraction.frames[i], extraction.seconds[i]) for i in chosen)
    return Extraction(*zip(*rows, strict=True), ())
