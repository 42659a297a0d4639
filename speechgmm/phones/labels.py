"""Labelled segments of utterances: mapped, filled, and attached to the utterances they belong to."""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from speechgmm.errors import InputError
from speechgmm.phones.phone_sets import PhoneMap, require_known
from speechgmm.utterance import OVERLAP_TOLERANCE, Segment, Utterance, quoted

Tiers = Mapping[str, Sequence[Segment]]
SILENCES = frozenset({"SIL", "sil"})


def phone_string(utterance: Utterance) -> tuple[str, ...]:
    """The phones of an utterance, in order.

    Parameters
    ----------
    utterance : Utterance
        With segments "phones" or else a label "phones", a text with blanks between the phones.

    Raises
    ------
    InputError
        If it has neither.
    """
    if "phones" in utterance.segments:
        return tuple(segment.label for segment in utterance.segments["phones"])
    if phones := utterance.labels.get("phones", "").split():
        return tuple(phones)
    raise InputError(
        f"utterance {utterance.id!r} has no phones: it has no segments 'phones' and no label 'phones' "
        f"(segments: {quoted(utterance.segments) or 'none'}; labels: {quoted(utterance.labels) or 'none'})"
    )


def mapped(
    segments: Iterable[Segment], mapping: PhoneMap, merge: Collection[str] = SILENCES
) -> tuple[Segment, ...]:
    """Give segments the labels of another phone set.

    Parameters
    ----------
    segments : iterable of Segment
    mapping : mapping of str to str or None
        Such as `phone_map("timit61", "timit39")`. Segments whose label becomes None are dropped and leave a gap.
    merge : collection of str
        New labels, usually silences, of which neighbours without a gap become one segment: TIMIT's `pcl` after
        `pau` is one `sil`. Other phones stay apart, as two that follow each other are two phones.

    Raises
    ------
    InputError
        If labels are not in the mapping; lists them.
    """
    segments = list(segments)
    require_known((segment.label for segment in segments), mapping)
    renamed = [
        Segment(segment.start, segment.end, label)
        for segment in segments
        if (label := mapping[segment.label]) is not None
    ]
    return _merged(renamed, merge)


def _merged(segments: Iterable[Segment], labels: Collection[str]) -> tuple[Segment, ...]:
    """Segments in which neighbours with the same one of these labels are one."""
    merged: list[Segment] = []
    for segment in segments:
        if (
            merged
            and segment.label in labels
            and segment.label == merged[-1].label
            and segment.start <= merged[-1].end + OVERLAP_TOLERANCE
        ):
            segment = replace(merged.pop(), end=segment.end)
        merged.append(segment)
    return tuple(merged)


def filled(
    segments: Iterable[Segment], duration: float, silence: str = "SIL", least: float = OVERLAP_TOLERANCE
) -> tuple[Segment, ...]:
    """Segments without gaps: what is between them, before and after becomes silence.

    Parameters
    ----------
    segments : iterable of Segment
        In order.
    duration : float
        Of the utterance, in seconds.
    silence : str
        The label of gaps. A gap beside a silence becomes part of it.
    least : float
        Gaps of up to so many seconds stay. By default 1 ms, which is rounding.
    """
    whole: list[Segment] = []
    latest = 0.0
    for segment in segments:
        if segment.start > latest + least:
            whole.append(Segment(latest, segment.start, silence))
        whole.append(segment)
        latest = segment.end
    if duration > latest + least:
        whole.append(Segment(latest, duration, silence))
    return _merged(whole, {silence})


def attach(
    utterances: Iterable[Utterance], labels: Mapping[str, Tiers], missing: str = "refuse"
) -> list[Utterance]:
    """Give utterances the segments that were read from label files.

    Parameters
    ----------
    utterances : iterable of Utterance
    labels : mapping of str to mapping of str to sequence of Segment
        Name to tier to segments, as `read_labels` gives them. A name belongs to the utterance whose id it is; else
        to the audio file whose path ends with it ("19/198/19-198-0001.flac", with the suffix or without); else to
        the one audio file of the same name whatever its folder and suffix. Names that belong to none are left.
    missing : {"refuse", "drop", "keep"}
        What becomes of utterances without labels.

    Returns
    -------
    list of Utterance
        In the order given. Tiers that an utterance had are replaced by those of the same name. Labels found by
        the audio file are of the whole of it: an utterance that is a part of a file gets those within its start
        and end, cut there, and counted from its start.

    Raises
    ------
    InputError
        If utterances are without labels and `missing` is "refuse", or all of them are; if several names belong to
        one utterance, or one name to several audio files; if labels do not fit an utterance. Lists them.
    """
    if missing not in ("refuse", "drop", "keep"):
        raise InputError(f"`missing` is {missing!r}; it must be 'refuse', 'drop' or 'keep'")
    utterances = list(utterances)
    matches = _Matcher(labels).matches(utterances)
    without = [utterance.id for utterance, name in zip(utterances, matches, strict=True) if name is None]
    if without and (missing == "refuse" or len(without) == len(utterances)):
        raise InputError(
            f"{len(without)} of {len(utterances)} utterances have no labels: {quoted(without)}; the labels are of "
            f"{len(labels)} names: {quoted(labels, limit=3) or 'none'} (a name must be an utterance's id, the end of "
            "the path of its audio, or the name of its audio file)"
        )
    attached: list[Utterance] = []
    problems: list[str] = []
    for utterance, name in zip(utterances, matches, strict=True):
        if name is None:
            attached += [utterance] * (missing == "keep")
            continue
        try:
            tiers = {tier: _within(utterance, segments, name) for tier, segments in labels[name].items()}
            attached.append(replace(utterance, segments={**utterance.segments, **tiers}))
        except InputError as error:
            problems.append(str(error))
    _refuse(problems)
    return attached


def _refuse(problems: Sequence[str], limit: int = 20) -> None:
    if problems:
        more = [f"and {len(problems) - limit} more"] * (len(problems) > limit)
        raise InputError("\n  ".join([*problems[:limit], *more]))


def _within(utterance: Utterance, segments: Sequence[Segment], name: str) -> Sequence[Segment]:
    """The segments of a whole file's that are in an utterance; those of the utterance's own name are all its own."""
    start = utterance.start or 0.0
    end = math.inf if utterance.end is None else utterance.end
    if name == utterance.id or (start == 0.0 and utterance.end is None):
        return segments
    return [
        Segment(max(segment.start, start) - start, min(segment.end, end) - start, segment.label)
        for segment in segments
        # Less than the tolerance is what rounding leaves of a neighbour.
        if min(segment.end, end) - max(segment.start, start) > OVERLAP_TOLERANCE
    ]


class _Matcher:
    """Finds the name among those of label files that belongs to an utterance."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = frozenset(names)
        self.by_stem: dict[str, list[str]] = defaultdict(list)
        for name in sorted(self.names):
            path = PurePosixPath(name)
            # What follows a full stop may be a suffix or not: "utt.01".
            for stem in {path.name, path.stem}:
                self.by_stem[stem].append(name)

    def candidates(self, utterance: Utterance) -> list[str]:
        """The names that the first rule finds that finds any."""
        if utterance.id in self.names:
            return [utterance.id]
        parts = utterance.audio.as_posix().split("/")
        ends = ["/".join(parts[first:]) for first in range(len(parts))]
        found = [name for end in ends for name in (end, _bare(end)) if name in self.names]
        return found or self.by_stem.get(utterance.audio.stem, [])

    def matches(self, utterances: Sequence[Utterance]) -> list[str | None]:
        """For each utterance its name, or None; raises `InputError` where there is a choice."""
        matches: list[str | None] = []
        owners: dict[str, set[str]] = defaultdict(set)
        problems: list[str] = []
        for utterance in utterances:
            found = self.candidates(utterance)
            if len(found) > 1:
                problems.append(f"utterance {utterance.id!r}: its labels may be any of {quoted(found)}")
            matches.append(found[0] if found else None)
            for name in found:
                owners[name].add(utterance.audio.as_posix())
        for name, audio in owners.items():
            if len(audio) > 1:
                problems.append(f"labels {name!r} may belong to any of {quoted(audio)}")
        _refuse(problems)
        return matches


def _bare(path: str) -> str:
    """A path without its suffix."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{name.rpartition('.')[0] or name}"
