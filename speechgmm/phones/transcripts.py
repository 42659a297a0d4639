"""From what is known of an utterance to what may be said in it: phones, or words through a lexicon."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from speechgmm.errors import InputError
from speechgmm.features.config import FeatureConfig
from speechgmm.manifest import Utterance, quoted
from speechgmm.phones.graph import Step, transcript_of
from speechgmm.phones.labels import filled, phone_string
from speechgmm.phones.lexicon import LISTED, Lexicon, transcript_words

# The tier of phones, and the labels of strings of phones and of text.
PHONES, TEXT = "phones", "text"
# Gaps between phones up to so many seconds are shorter than any silence that HMMs can stand for.
LEAST_GAP = 0.05


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

    Of each the first of these that there is: segments of the tier "phones", gaps of more than 50 ms between them taken
    for silence, the label "phones", a string of phones
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
        raise InputError(
            f"{by_words[0].id}: has text alone; a lexicon is needed to make phones of it, such as "
            "`pocketsphinx_lexicon()`, or --lexicon pocketsphinx on the command line"
        )
    texts = {one.id: transcript_words(one.labels[TEXT]) for one in by_words}
    if lexicon is not None:
        lexicon.pronunciations([word for words in texts.values() for word in words])  # all that are missing
    return [
        Said(word_steps(texts[one.id], lexicon, silence), None)
        if one.id in texts and lexicon is not None
        else Said(transcript_of(phone_string(one)), _times(one, features))
        for one in (_without_gaps(one, silence) for one in utterances)
    ]


def _without_gaps(utterance: Utterance, silence: str) -> Utterance:
    """The utterance with what its phones leave out as silence, as many aligners mean it."""
    segments = utterance.segments.get(PHONES)
    if not segments:
        return utterance
    whole = filled(segments, utterance.duration or segments[-1].end, silence, LEAST_GAP)
    return replace(utterance, segments={**utterance.segments, PHONES: whole})


def phones_of(said: Iterable[Said]) -> list[str]:
    """All phones that may be said, sorted."""
    return sorted(
        {phone for one in said for step in one.steps for units in step.alternatives for phone in units}
    )


def alignable(
    utterances: Sequence[Utterance], phones: Collection[str], silence: str, lexicon: Lexicon | None = None
) -> list[Said]:
    """What a recogniser may find said in utterances: with a lexicon, words come before phones.

    Pronunciations with phones that the recogniser lacks are left out.

    Parameters
    ----------
    utterances : sequence of Utterance
    phones : collection of str
        The recogniser's.
    silence : str
    lexicon : Lexicon, optional

    Raises
    ------
    InputError
        As of `transcripts_of`; or if words have no other pronunciations: all are listed.
    """
    asked = utterances if lexicon is None else [_by_words(one) for one in utterances]
    said = transcripts_of(asked, silence, lexicon)
    known = set(phones)
    _require_heard(said, known)
    return [
        one._replace(steps=tuple(_of_heard(step, known) if step.word else step for step in one.steps))
        for one in said
    ]


def require_tunable(
    development: Sequence[Utterance], training: Sequence[Utterance], silence: str, lexicon: Lexicon | None
) -> None:
    """Refuse, before training, utterances that no weights can be tuned on.

    Raises
    ------
    InputError
        As of `transcripts_of`; if all that they hold is silence; or, where some have text alone, as of `alignable`.
    """
    said = transcripts_of(development, silence, lexicon)
    if said and set(phones_of(said)) <= {silence}:
        raise InputError(f"the {len(said)} utterances to tune on hold nothing but silence ({silence})")
    if not all(map(_has_phones, development)):
        heard = {silence, *phones_of(transcripts_of(training, silence, lexicon))}
        alignable(development, heard, silence, lexicon)


def _of_heard(step: Step, phones: set[str]) -> Step:
    """A word in those of its pronunciations that have no other phones."""
    return step._replace(alternatives=tuple(units for units in step.alternatives if phones.issuperset(units)))


def _require_heard(said: Sequence[Said], phones: set[str]) -> None:
    """Raise one error for all words without a pronunciation in these phones."""
    words = {step.word: step for one in said for step in one.steps if step.word}
    without = [step for _, step in sorted(words.items()) if not _of_heard(step, phones).alternatives]
    if not without:
        return
    strange = {phone for step in without for units in step.alternatives for phone in units} - phones
    lines = [f"{step.word!r}: {' or '.join(map(' '.join, step.alternatives))}" for step in without[:LISTED]]
    if len(without) > LISTED:
        lines.append(f"and {len(without) - LISTED} more")
    raise InputError(
        f"{len(without)} of {len(words)} words cannot be said without phones that were never heard in training: "
        f"{quoted(strange, 60)}; train on speech that has these, give the words pronunciations of other phones "
        "(`extended`, or another `--lexicon FILE` on the command line), or leave their utterances out:\n  "
        + "\n  ".join(lines)
    )


def _by_words(utterance: Utterance) -> Utterance:
    """The utterance without its phones, if it has a text."""
    if TEXT not in utterance.labels:
        return utterance
    segments = {tier: own for tier, own in utterance.segments.items() if tier != PHONES}
    labels = {name: value for name, value in utterance.labels.items() if name != PHONES}
    return replace(utterance, segments=segments, labels=labels)


def _has_phones(utterance: Utterance) -> bool:
    return bool(utterance.segments.get(PHONES)) or PHONES in utterance.labels


def _times(utterance: Utterance, features: FeatureConfig | None) -> tuple[tuple[int, int], ...] | None:
    segments = utterance.segments.get(PHONES)
    if features is None or not segments:
        return None
    return tuple(features.frame_range(segment.start, segment.end) for segment in segments)
