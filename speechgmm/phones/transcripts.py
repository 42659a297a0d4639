"""From what is known of an utterance to what may be said in it: phones, or words through a lexicon."""

from collections.abc import Sequence
from typing import NamedTuple

from speechgmm.errors import InputError
from speechgmm.features.config import FeatureConfig
from speechgmm.manifest import Utterance, quoted
from speechgmm.phones.graph import Step, transcript_of
from speechgmm.phones.labels import phone_string
from speechgmm.phones.lexicon import Lexicon, transcript_words

# The tier of phones, and the labels of strings of phones and of text.
PHONES, TEXT = "phones", "text"


class Said(NamedTuple):
    """What may be said in an utterance, and when, where that is known.

    Parameters
    ----------
    steps : tuple of Step
    times : tuple of (first, stop), optional
        The frames of each step.
    """

    steps: tuple[Step, ...]
    times: tuple[tuple[int, int], ...] | None


def word_steps(words: Sequence[str], lexicon: Lexicon, silence: str) -> tuple[Step, ...]:
    """Words one after another, each in any of its pronunciations, with silence before, between and after or not.

    Raises
    ------
    InputError
        If words are not in the lexicon: all of them are listed.
    """
    perhaps = Step(((), (silence,)))
    steps = [perhaps]
    for word, pronunciations in zip(words, lexicon.pronunciations(words), strict=True):
        steps += [Step(pronunciations, word), perhaps]
    return tuple(steps)


def transcripts_of(
    utterances: Sequence[Utterance],
    silence: str,
    lexicon: Lexicon | None = None,
    features: FeatureConfig | None = None,
) -> list[Said]:
    """What may be said in utterances.

    Of each the first of these that there is: segments of the tier "phones", the label "phones", a string of phones
    with blanks between them, and the label "text", whose words are looked up.

    Parameters
    ----------
    utterances : sequence of Utterance
    silence : str
        The phone of silence, which may stand between words.
    lexicon : Lexicon, optional
        Needed for the label "text".
    features : FeatureConfig, optional
        With it segments have times; it says where their frames are.

    Raises
    ------
    InputError
        If nothing is known of an utterance, or words of any of them are not in the lexicon: all are listed at once.
    """
    by_words = [one for one in utterances if not _has_phones(one)]
    silent = [one.id for one in by_words if TEXT not in one.labels]
    if silent:
        raise InputError(
            f"{len(silent)} utterances have neither phones nor text: {quoted(silent)}; "
            "segments of a tier 'phones', a label 'phones' or a label 'text' is needed"
        )
    if by_words and lexicon is None:
        raise InputError(f"{by_words[0].id}: has text alone; a lexicon is needed to make phones of it")
    texts = {one.id: transcript_words(one.labels[TEXT]) for one in by_words}
    if lexicon is not None:
        lexicon.pronunciations([word for words in texts.values() for word in words])  # all that are missing
    return [
        Said(word_steps(texts[one.id], lexicon, silence), None)
        if one.id in texts and lexicon is not None
        else Said(transcript_of(phone_string(one)), _times(one, features))
        for one in utterances
    ]


def _has_phones(utterance: Utterance) -> bool:
    return bool(utterance.segments.get(PHONES)) or PHONES in utterance.labels


def _times(utterance: Utterance, features: FeatureConfig | None) -> tuple[tuple[int, int], ...] | None:
    segments = utterance.segments.get(PHONES)
    if features is None or not segments:
        return None
    return tuple(features.frame_range(segment.start, segment.end) for segment in segments)
