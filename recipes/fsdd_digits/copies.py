"""Utterances as others would have said or recorded them, so that the speech of few speakers goes further."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from speechgmm.features import Extraction, FeatureConfig
from speechgmm.manifest import Utterance
from speechgmm.recipe import Recipe

# The split of copies, which are for training alone.
COPY = "copy"


def warped(features: FeatureConfig, warps: Sequence[float]) -> dict[str, FeatureConfig]:
    """Features whose filters lie lower or higher, as if vocal tracts were longer or shorter; 1 has no name.

    After Jaitly, Hinton (2013), Vocal tract length perturbation improves speech recognition, ICML workshop.
    """
    return {
        "" if warp == 1.0 else f" x {warp}": replace(
            features,
            low_frequency=warp * features.low_frequency,
            high_frequency=warp * features.high_frequency,
        )
        for warp in warps
    }


def noisy(features: FeatureConfig, noises: Sequence[float]) -> dict[str, FeatureConfig]:
    """Features of audio with white noise of so much standard deviation, as of poorer microphones."""
    return {f" + {noise}": replace(features, dither=noise) for noise in noises}


def with_copies(
    recipe: Recipe, utterances: Sequence[Utterance], features: Mapping[str, FeatureConfig]
) -> Extraction:
    """The utterances by several features, by what is added to their ids: nothing for themselves."""
    parts = []
    for name, own in features.items():
        extraction = recipe.extract(utterances, own)
        if name:
            copies = tuple(replace(one, id=f"{one.id}{name}", split=COPY) for one in extraction.utterances)
            extraction = replace(extraction, utterances=copies)
        parts.append(extraction)
    names = ("utterances", "frames", "seconds", "problems")
    return Extraction(*(sum((getattr(part, name) for part in parts), ()) for name in names))
