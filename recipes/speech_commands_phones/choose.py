"""Compare settings of run.py on the development speakers, one changed at a time, without a look at the test."""

from dataclasses import replace

from run import MANIFEST, classified, hmm_settings, trained, tuned, without_language_model

from speechgmm.corpora.speech_commands import CORPUS
from speechgmm.features import FeatureConfig
from speechgmm.manifest import Utterance, select
from speechgmm.phones.segment_evidence import SegmentSettings
from speechgmm.recipe import Recipe, run
from speechgmm.terminal import print_table

SEGMENT_FEATURES = ({}, {"normalisation": "none"}, {"normalisation": "mean_variance"})
SEGMENTS = (
    *({"evidence": "frames"}, {"evidence": "vectors"}),
    *({"frame_weight": 0.2}, {"frame_weight": 0.7}),
)
FEATURES = ({}, {"normalisation": "none"}, {"normalisation": "mean"})
HMMS = ({"n_components": 8}, {"n_components": 32})


def compare_segments(recipe: Recipe, utterances: list[Utterance]) -> None:
    """Classify segments with given boundaries."""
    rows = []
    for change in SEGMENT_FEATURES:
        features = FeatureConfig.from_dict({**recipe.config["segment_features"], **change})
        extraction = recipe.extract(utterances, features)
        for other in ({},) if change else ({}, *SEGMENTS):
            settings = SegmentSettings.from_dict({**recipe.config["segments"], **other})
            found = classified(recipe, extraction, features, settings, "dev")
            rows.append((said(change | other), found.accuracy, found.balanced_accuracy))
    print_table("Segments", ("changed", "accuracy", "balanced accuracy"), rows)


def compare_recognisers(recipe: Recipe, utterances: list[Utterance]) -> None:
    """Recognise words by a loop of phones, the weights of the language model tuned."""
    rows = []
    for change in FEATURES:
        features = replace(recipe.features(), **change)
        extraction = recipe.extract(utterances, features)
        train, development = extraction.of_split("train"), extraction.of_split("dev")
        for other in ({},) if change else ({}, *HMMS):
            recogniser = trained(recipe, train, features, replace(hmm_settings(recipe), **other))
            rates = [
                tuned(recipe, one, development).counts.rate
                for one in (recogniser, without_language_model(recogniser, train.utterances))
            ]
            rows.append((said(change | other), *rates))
    print_table("Phone error rate", ("changed", "with language model", "without"), rows)


def said(change: dict[str, object]) -> str:
    """What is changed, in words."""
    return ", ".join(f"{name} {value}" for name, value in change.items()) or "as configured"


def main() -> None:
    recipe = Recipe(__file__, "Choose settings for phones of Speech Commands")
    utterances = recipe.utterances(CORPUS, MANIFEST)
    seen = [*select(utterances, "train"), *select(utterances, "dev")]
    compare_segments(recipe, seen)
    compare_recognisers(recipe, seen)


if __name__ == "__main__":
    run(main)
