"""What is wrong with a manifest, and what its audio files are: everything that opens them."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from os.path import abspath
from pathlib import Path

from speechgmm.audio import END_TOLERANCE, audio_info
from speechgmm.errors import InputError
from speechgmm.files import sha256
from speechgmm.manifest import Utterance, quoted
from speechgmm.parallel import Progress, no_progress, parallel_map
from speechgmm.utterance import BEYOND_TOLERANCE


@dataclass(frozen=True)
class _File:
    duration: float = 0.0
    sha256: str | None = None
    problem: str | None = None


def _inspect(item: tuple[Path, bool]) -> _File:
    path, checksum = item
    try:
        return _File(audio_info(path).duration, sha256(path) if checksum else None)
    except InputError as error:
        return _File(problem=str(error))
    except OSError as error:
        return _File(problem=f"{path}: cannot be read ({error.strerror or error})")


def _inspect_all(checksums: Mapping[Path, bool], n_jobs: int, progress: Progress) -> dict[Path, _File]:
    """Open each file once, however many utterances it holds; `checksums` says which need one."""
    files: dict[Path, _File] = {}
    for path, file in zip(checksums, parallel_map(_inspect, checksums.items(), n_jobs), strict=True):
        files[path] = file
        progress("reading audio files", len(files), len(checksums))
    return files


def _stretch_problem(utterance: Utterance, duration: float) -> str | None:
    start, end = utterance.start or 0.0, utterance.end
    if start < duration and (end is None or end <= duration + END_TOLERANCE):
        return None
    stretch = f"{start:g} s to {'the end' if end is None else f'{end:g} s'}"
    return f"{stretch} is outside of {utterance.audio}, which lasts {duration:.3f} s"


def _tier_problems(utterance: Utterance, duration: float) -> Iterator[str]:
    """Where labelled segments reach beyond the audio there is, whatever `utterance.duration` says."""
    end = duration if utterance.end is None else min(utterance.end, duration)
    length = end - (utterance.start or 0.0)
    for tier, segments in utterance.segments.items():
        late = [segment for segment in segments if segment.end > length + BEYOND_TOLERANCE]
        if late:
            yield (
                f"{tier}: {len(late)} of {len(segments)} segments reach beyond the audio, the last, "
                f"{late[-1].label!r}, to {late[-1].end:g} s; there are {length:.3f} s of {utterance.audio} "
                "(labels of another file, or counted at another sample rate?)"
            )


def check(
    utterances: Iterable[Utterance],
    label: str | None = None,
    known_labels: Collection[str] | None = None,
    n_jobs: int = 1,
    progress: Progress = no_progress,
) -> list[str]:
    """Every problem of a manifest at once, instead of the first one an hour into training.

    Looks for missing and unreadable files, checksums that differ, repeated ids, one stretch of audio under
    several ids, utterances outside of their file (by more than 1 ms), segments that reach beyond the audio (by
    more than 50 ms), and labels that are missing or unknown.

    Parameters
    ----------
    utterances : iterable of Utterance
    label : str, optional
        A label that every utterance must have.
    known_labels : collection of str, optional
        The values that `label` may take, such as those a model was trained on.
    n_jobs : int
        How many files are read at a time; see `parallel.worker_count`.
    progress : Progress
        Told of each file.

    Returns
    -------
    list of str
        In the order of the manifest; each names its utterance. Empty if all is well.

    Raises
    ------
    InputError
        If `known_labels` comes without `label`.
    """
    if known_labels is not None and label is None:
        raise InputError("`known_labels` needs `label`, the name of the label whose values they are")
    utterances = list(utterances)
    checksums: dict[Path, bool] = {}
    for utterance in utterances:
        checksums[utterance.audio] = checksums.get(utterance.audio, False) or utterance.sha256 is not None
    files = _inspect_all(checksums, n_jobs, progress)
    known = None if known_labels is None else frozenset(known_labels)
    ids: dict[str, int] = {}
    stretches: dict[tuple[str, float, float | None], str] = {}
    problems = []
    for position, utterance in enumerate(utterances, 1):
        found = [
            *_repeats(utterance, position, ids, stretches),
            *_label_problems(utterance, label, known),
            *_file_problems(utterance, files[utterance.audio]),
        ]
        problems += [f"utterance {utterance.id!r}: {problem}" for problem in found]
    return problems


def _repeats(
    utterance: Utterance,
    position: int,
    ids: dict[str, int],
    stretches: dict[tuple[str, float, float | None], str],
) -> Iterator[str]:
    """Problems with what came before, which `ids` and `stretches` remember."""
    first = ids.setdefault(utterance.id, position)
    if first != position:
        yield f"number {position} of the manifest has the same id as number {first}"
    stretch = (abspath(utterance.audio), utterance.start or 0.0, utterance.end)
    other = stretches.setdefault(stretch, utterance.id)
    if other != utterance.id:
        yield f"the same stretch of the same file as utterance {other!r}: {utterance.audio}"


def _label_problems(utterance: Utterance, label: str | None, known: frozenset[str] | None) -> Iterator[str]:
    if label is None:
        return
    value = utterance.labels.get(label)
    if value is None:
        yield f"no label {label!r}; it has {quoted(utterance.labels) or 'none'}"
    elif known is not None and value not in known:
        yield f"{label} {value!r} is not one of the {len(known)} known: {quoted(known) or 'none'}"


def _file_problems(utterance: Utterance, file: _File) -> Iterator[str]:
    if file.problem is not None:
        yield file.problem
        return
    if utterance.sha256 is not None and utterance.sha256 != file.sha256:
        yield (
            f"{utterance.audio} has the SHA-256 {file.sha256}, the manifest says {utterance.sha256}; "
            "the file was changed, damaged or replaced"
        )
    if problem := _stretch_problem(utterance, file.duration):
        yield problem
        return
    yield from _tier_problems(utterance, file.duration)


def describe(
    utterances: Iterable[Utterance],
    checksums: bool = True,
    n_jobs: int = 1,
    progress: Progress = no_progress,
) -> tuple[list[Utterance], list[str]]:
    """Fill in the durations and checksums of utterances from their files.

    Parameters
    ----------
    utterances : iterable of Utterance
        Durations and checksums they have are replaced.
    checksums : bool
        Without them only the headers of files are read, and the checksums stay as they are.
    n_jobs : int
        How many files are read at a time; see `parallel.worker_count`.
    progress : Progress
        Told of each file.

    Returns
    -------
    list of Utterance
        Those whose audio could be read, in the order given.
    list of str
        What was wrong with the others, one message each, which names its utterance.
    """
    utterances = list(utterances)
    files = _inspect_all({utterance.audio: checksums for utterance in utterances}, n_jobs, progress)
    described, problems = [], []
    for utterance in utterances:
        file = files[utterance.audio]
        problem = file.problem or _stretch_problem(utterance, file.duration)
        if problem := problem or next(_tier_problems(utterance, file.duration), None):
            problems.append(f"utterance {utterance.id!r}: {problem}")
            continue
        end = file.duration if utterance.end is None else min(utterance.end, file.duration)
        described.append(
            replace(
                utterance,
                duration=end - (utterance.start or 0.0),
                sha256=file.sha256 if checksums else utterance.sha256,
            )
        )
    return described, problems
