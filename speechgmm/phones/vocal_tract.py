"""Normalisation of vocal tract length: filters are moved down or up until a voice sounds like those in training."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from speechgmm.errors import InputError, SpeechGMMWarning
from speechgmm.features.config import FeatureConfig
from speechgmm.features.extract import Extraction, FeatureExtractor
from speechgmm.manifest import Utterance
from speechgmm.parallel import shard_map
from speechgmm.phones.recogniser import PhoneRecogniser

# How far filters are moved, as factors of their frequencies.
WARPS = (0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15)


class Voice(NamedTuple):
    """The frames of a speaker, made so that the voice is most like those in training.

    Parameters
    ----------
    warp : float
        The factor of the filters' frequencies.
    extraction : Extraction
        The frames with it.
    """

    warp: float
    extraction: Extraction


def warped(features: FeatureConfig, warp: float) -> FeatureConfig:
    """The same features with filters whose edges are `warp` times as high: for a shorter vocal tract above 1.

    Raises
    ------
    InputError
        If the highest filter would end above half the sample rate, or the factor is not above 0.

    References
    ----------
    Lee, Rose (1998), A frequency warping approach to speaker normalization, IEEE Trans. Speech Audio Process. 6.
    """
    if warp == 1.0:
        return features
    if not 0 < warp < np.inf:
        raise InputError(f"`warp` is {warp}; it must be a factor above 0")
    high = features.upper_edge
    if _leads_too_high(features, warp):
        raise InputError(
            f"filters up to {high:g} Hz cannot be moved by {warp:g}: they would end above "
            f"{features.sample_rate / 2:g} Hz, half the sample rate (choose a lower `high_frequency`)"
        )
    return replace(features, low_frequency=warp * features.low_frequency, high_frequency=warp * high)


def _leads_too_high(features: FeatureConfig, warp: float) -> bool:
    return warp * features.upper_edge > features.sample_rate / 2


def _possible(features: FeatureConfig, warps: Sequence[float]) -> Sequence[float]:
    """The warps under which filters stay below half the sample rate; all where there is none, to be refused."""
    beyond = [warp for warp in warps if _leads_too_high(features, warp)]
    if not beyond or len(beyond) == len(warps):
        return warps
    warnings.warn(
        f"filters up to {features.upper_edge:g} Hz cannot be moved by {', '.join(f'{warp:g}' for warp in beyond)}: "
        f"they would end above {features.sample_rate / 2:g} Hz, half the sample rate; to try these as well, train the "
        "recogniser with a lower `high_frequency`",
        SpeechGMMWarning,
        stacklevel=3,
    )
    return [warp for warp in warps if warp not in beyond]


def fitting_voice(
    recogniser: PhoneRecogniser,
    utterances: Sequence[Utterance],
    warps: Sequence[float] = WARPS,
    n_jobs: int = 1,
    normalised: Callable[[Extraction], Extraction] | None = None,
) -> Voice:
    """The frames of one speaker with the warp under which what is recognised is most likely.

    Parameters
    ----------
    recogniser : PhoneRecogniser
    utterances : sequence of Utterance
        All of the speaker.
    warps : sequence of float
        Those that lead beyond half the sample rate are left out with a warning: filters that end there, as they do
        where nothing else is asked for, can be moved down alone. Train with a lower `high_frequency`, such as 6900
        Hz at 16 kHz, to have all of `WARPS`.
    n_jobs : int
        Threads; the result does not depend on it.
    normalised : callable, optional
        What the recogniser's training did to the frames of all utterances of a speaker, such as a normalisation over
        all of them together.

    Raises
    ------
    InputError
        If no utterance can be read or is long enough for a phone, or all warps lead beyond half the sample rate.
    """
    if not len(warps):
        raise InputError("`warps` is empty; one factor at least is needed")
    warps = _possible(recogniser.features, warps)
    # A warp that cannot be shows before the long work.
    configs = [warped(recogniser.features, warp) for warp in warps]
    least = min(map(len, recogniser.hmms.states))

    def tried(warp: float, config: FeatureConfig) -> tuple[float, Voice]:
        extraction = FeatureExtractor(config).extract(utterances, n_jobs)
        if not any(len(own) >= least for own in extraction.frames):
            raise InputError(
                f"none of {len(utterances)} utterances can be read and is long enough for a phone"
            )
        extraction = extraction if normalised is None else normalised(extraction)
        frames = [own for own in extraction.frames if len(own) >= least]
        score = sum(one.score for one in shard_map(recogniser.recognise, frames, n_jobs))
        return score, Voice(warp, extraction)

    return max(map(tried, warps, configs), key=lambda found: found[0])[1]
