"""Make trials from labelled utterances: some enrol their speakers, others test them."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from warnings import warn

from speechgmm.errors import InputError, SpeechGMMWarning
from speechgmm.files import sha256_of_text
from speechgmm.manifest import Utterance, quoted
from speechgmm.verification.trial_lists import Trial


def make_trials(
    utterances: Iterable[Utterance],
    label: str = "speaker",
    *,
    n_enrol: int,
    per_speaker: int | None = None,
    nontargets_per_target: int | None = None,
    apart: str | None = None,
    balance: str | None = None,
    background: Iterable[Utterance] = (),
    seed: int = 0,
) -> tuple[dict[str, list[Utterance]], list[Trial]]:
    """Choose the enrolment of every speaker and the trials of their models, by a rule that anyone can repeat.

    A speaker's utterances are taken in the order of the SHA-256 of `f"{seed}\\n{speaker}\\n{id}"`: the first
    `n_enrol` enrol the speaker, those after them test. Each model, named by its speaker, meets the tests of its
    own speaker (target trials) and those of the others (nontarget trials): all of them, or the first in the
    order of the SHA-256 of `f"{seed}\\n{model}\\n{id}"`. So the choice depends on names alone, not on the order
    of the utterances. No utterance that enrols a speaker is a test.

    Parameters
    ----------
    utterances : iterable of Utterance
        Ids and stretches of audio must be unique. Of files that are the same, byte by byte, as far as checksums are
        given, the first by id counts; a warning names the others.
    label : str
        Who speaks.
    n_enrol : int
        Enrolment utterances of each speaker, 1 or more.
    per_speaker : int, optional
        The most test utterances of each speaker; all without it.
    nontargets_per_target : int, optional
        The nontarget trials of each model, as a multiple of its target trials; all without it.
    apart : str, optional
        A label such as a session, or a word, whose values a test never shares with the model's enrolment, in
        target and nontarget trials alike. Enrolment then takes one value of it after the other, in the order of
        the SHA-256 of `f"{seed}\\n{speaker}\\n{value}"`, so that others are left for testing.
    balance : str, optional
        A label such as a gender, or a word, to take evenly wherever some of several utterances are chosen: one
        of each of its values in turn, while they last. (Not in enrolment that keeps values `apart`.)
    background : iterable of Utterance
        What the background model, or a cohort, is trained on.
    seed : int

    Returns
    -------
    dict of str to list of Utterance
        The enrolment of each speaker, in the order taken; the speakers are sorted. Speakers with too few
        utterances for enrolment and a test are left out, with one warning.
    list of Trial
        Sorted by model and test.

    Raises
    ------
    InputError
        If a number is too small, ids or stretches of audio repeat, a label is missing, a speaker is also in
        the background, or there are not two speakers and a nontarget trial left.
    """
    utterances = list(utterances)
    _check_numbers(n_enrol=n_enrol, per_speaker=per_speaker, nontargets_per_target=nontargets_per_target)
    _refuse_repeats(utterances)
    utterances = _without_copies(utterances)
    by_speaker: dict[str, list[Utterance]] = {}
    for utterance in utterances:
        by_speaker.setdefault(utterance.label(label), []).append(utterance)
    _refuse_leaks(by_speaker, background, label)
    enrolment, tests = {}, {}
    for speaker in sorted(by_speaker):
        enrolled, rest = _divide(by_speaker[speaker], speaker, n_enrol, apart, balance, seed)
        if rest:
            enrolment[speaker], tests[speaker] = enrolled, rest[:per_speaker]
    _report_left_out(by_speaker.keys() - enrolment.keys(), len(by_speaker), label, n_enrol, apart)
    trials = [Trial(speaker, test.id, True) for speaker, own in tests.items() for test in own]
    short = []
    for model, enrolled in enrolment.items():
        others = [test for speaker, own in tests.items() if speaker != model for test in own]
        others = _without(others, enrolled, apart)
        if nontargets_per_target is not None:
            wanted = nontargets_per_target * len(tests[model])
            short += [model] * (len(others) < wanted)
            others = _spread(_shuffled(others, model, seed), balance)[:wanted]
        trials += [Trial(model, test.id, False) for test in others]
    _check_nontargets(trials, short, nontargets_per_target, apart)
    return enrolment, sorted(trials, key=lambda trial: (trial.model, trial.test))


def _check_numbers(**numbers: int | None) -> None:
    for name, value in numbers.items():
        if (value is None and name == "n_enrol") or (
            value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1)
        ):
            raise InputError(f"`{name}` is {value!r}; it must be a whole number from 1")


def _refuse_repeats(utterances: Sequence[Utterance]) -> None:
    if repeated := [name for name, count in Counter(u.id for u in utterances).items() if count > 1]:
        raise InputError(f"{len(repeated)} ids stand for several utterances: {quoted(repeated)}")
    owners: dict[tuple[str, float, float | None], str] = {}
    for utterance in utterances:
        stretch = (os.path.abspath(utterance.audio), utterance.start or 0.0, utterance.end)
        owner = owners.setdefault(stretch, utterance.id)
        if owner != utterance.id:
            raise InputError(
                f"utterances {owner!r} and {utterance.id!r} are the same stretch of {utterance.audio}: one could "
                "enrol a speaker and the other test it"
            )


def _without_copies(utterances: Sequence[Utterance]) -> list[Utterance]:
    """Utterances without copies of a file under another name: one would enrol a speaker and the other test it."""
    first: dict[tuple[str, float, float | None], str] = {}
    for one in sorted(utterances, key=lambda utterance: utterance.id):
        if one.sha256 is not None:
            first.setdefault((one.sha256, one.start or 0.0, one.end), one.id)
    kept = [
        one
        for one in utterances
        if one.sha256 is None or first[one.sha256, one.start or 0.0, one.end] == one.id
    ]
    if len(kept) < len(utterances):
        copies = {one.id for one in utterances} - {one.id for one in kept}
        warn(
            f"{len(copies)} utterances are copies of others, byte by byte, and left out: {quoted(copies)}",
            SpeechGMMWarning,
            stacklevel=3,
        )
    return kept


def _refuse_leaks(speakers: Iterable[str], background: Iterable[Utterance], label: str) -> None:
    if leaked := set(speakers) & {utterance.label(label) for utterance in background}:
        raise InputError(
            f"{len(leaked)} speakers are in the background too: {quoted(leaked)}; a model that was trained on "
            "them makes their trials look easier than those of anyone new: leave them out of one of the two"
        )


def _divide(
    utterances: Sequence[Utterance],
    speaker: str,
    n_enrol: int,
    apart: str | None,
    balance: str | None,
    seed: int,
) -> tuple[list[Utterance], list[Utterance]]:
    """The enrolment of a speaker, and what is left for testing, both in the order to take them."""
    shuffled = _shuffled(utterances, speaker, seed)
    if apart is None:
        enrolled = _spread(shuffled, balance)[:n_enrol]
    else:
        enrolled = sorted(
            shuffled, key=lambda utterance: sha256_of_text(f"{seed}\n{speaker}\n{utterance.label(apart)}")
        )[:n_enrol]
    taken = {utterance.id for utterance in enrolled}
    rest = [utterance for utterance in shuffled if utterance.id not in taken]
    return enrolled, _spread(_without(rest, enrolled, apart), balance)


def _shuffled(utterances: Iterable[Utterance], name: str, seed: int) -> list[Utterance]:
    return sorted(utterances, key=lambda utterance: sha256_of_text(f"{seed}\n{name}\n{utterance.id}"))


def _spread(utterances: list[Utterance], balance: str | None) -> list[Utterance]:
    """The first of each value of the label, then the second of each, and so on."""
    if balance is None:
        return utterances
    counts: Counter[str] = Counter()
    turns = []
    for utterance in utterances:
        value = utterance.label(balance)
        turns.append(counts[value])
        counts[value] += 1
    places = sorted(range(len(utterances)), key=turns.__getitem__)
    return [utterances[place] for place in places]


def _without(
    utterances: list[Utterance], enrolled: Iterable[Utterance], apart: str | None
) -> list[Utterance]:
    """The utterances that share no value of the label `apart` with the enrolment."""
    if apart is None:
        return utterances
    values = {utterance.label(apart) for utterance in enrolled}
    return [utterance for utterance in utterances if utterance.label(apart) not in values]


def _report_left_out(
    left_out: Iterable[str], n_speakers: int, label: str, n_enrol: int, apart: str | None
) -> None:
    left_out = list(left_out)
    need = (
        f"{n_enrol + 1} utterances" if apart is None else f"{n_enrol} utterances and one of another {apart}"
    )
    if n_speakers - len(left_out) < 2:
        raise InputError(
            f"{n_speakers - len(left_out)} of {n_speakers} values of {label!r} have the {need} that enrolment and "
            "a test need; trials need two or more"
        )
    if left_out:
        warn(
            f"{len(left_out)} of {n_speakers} values of {label!r} do not have the {need} that enrolment and a "
            f"test need, and were left out: {quoted(left_out)}",
            SpeechGMMWarning,
            stacklevel=3,
        )


def _check_nontargets(
    trials: Sequence[Trial], short: Sequence[str], wanted: int | None, apart: str | None
) -> None:
    if all(trial.is_target for trial in trials):
        raise InputError(
            f"no nontarget trial is possible: every test shares its {apart!r} with the enrolment of all others"
        )
    if short:
        warn(
            f"{len(short)} models have fewer than {wanted} nontarget trials a target trial, as there are no more "
            f"tests of other speakers: {quoted(short)}",
            SpeechGMMWarning,
            stacklevel=3,
        )
