"""Other people's speech, against which scores are normalised."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from speechgmm.em.coordinates import Float32s
from speechgmm.errors import InputError
from speechgmm.files import canonical_json
from speechgmm.training_frames import checked_frames
from speechgmm.verification.enrolment import Enrolment, require_speaker


@dataclass(frozen=True, eq=False)
class Cohort:
    """Models and utterances of other people.

    Parameters
    ----------
    enrolments : tuple of Enrolment
        Sorted by speaker, one each: models that test utterances are scored against.
    frames : tuple of (n_frames, n_features) float32 arrays
        Utterances that enrolled models are scored against.
    frame_speakers : tuple of str
        Who speaks in each.

    Raises
    ------
    InputError
        If speakers are not sorted and distinct, or frames and their speakers disagree.
    """

    enrolments: tuple[Enrolment, ...]
    frames: tuple[Float32s, ...]
    frame_speakers: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in ("enrolments", "frame_speakers"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if list(self.speakers) != sorted(set(self.speakers)):
            raise InputError("the enrolments of a cohort must be sorted by speaker, one each")
        if len(self.frames) != len(self.frame_speakers):
            raise InputError(
                f"a cohort of {len(self.frames)} `frames` and {len(self.frame_speakers)} `frame_speakers`; there must "
                "be as many of each"
            )
        if not self.enrolments and not self.frames:
            raise InputError("a cohort needs enrolments, frames, or both; it has none")
        for name in self.frame_speakers:
            require_speaker(name)
        checked = checked_frames(self.frames) if len(self.frames) else []
        object.__setattr__(self, "frames", tuple(frames.astype(np.float32, copy=False) for frames in checked))

    @property
    def speakers(self) -> tuple[str, ...]:
        """Who has a model."""
        return tuple(enrolment.speaker for enrolment in self.enrolments)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of speakers, statistics and frames, 64 hexadecimal digits: what normalised scores rest on.

        Second moments do not count: not every store keeps them.
        """
        lengths = [len(frames) for frames in self.frames]
        head = {"speakers": self.speakers, "frame_speakers": self.frame_speakers, "lengths": lengths}
        digest = hashlib.sha256(canonical_json(head).encode())
        for one in self.enrolments:
            for array in (one.statistics.zeroth, one.statistics.first):
                digest.update(np.ascontiguousarray(array, "<f8").reshape(-1).data)
        for frames in self.frames:
            digest.update(np.ascontiguousarray(frames, "<f4").reshape(-1).data)
        return digest.hexdigest()
