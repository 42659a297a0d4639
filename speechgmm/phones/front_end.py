"""What becomes of frames before the HMMs of a recogniser see them: neighbours joined, and a linear transform."""

from dataclasses import dataclass

import numpy as np

from speechgmm.em.coordinates import Float32s, Floats
from speechgmm.errors import InputError
from speechgmm.phones.transforms import LinearTransform, splice


@dataclass(frozen=True, eq=False)
class FrontEnd:
    """Frames as they are, or the first values of neighbouring frames joined and transformed.

    Parameters
    ----------
    n_joined : int
        How many of the values of each frame are joined, such as the cepstra without their deltas.
    context : int
        Frames to either side.
    transform : LinearTransform, optional
        Of the joined values; None: frames stay as they are, and the other two must be 0.

    Raises
    ------
    InputError
        If the parts do not fit together.
    """

    n_joined: int = 0
    context: int = 0
    transform: LinearTransform | None = None

    def __post_init__(self) -> None:
        if self.transform is None and (self.n_joined or self.context):
            raise InputError(
                f"a front end without a transform joins nothing; it has {self.n_joined} values in "
                f"{self.context} frames to either side"
            )
        joined = self.n_joined * (1 + 2 * self.context)
        if min(self.n_joined, self.context) < 0 or joined != (self.transform.n_in if self.transform else 0):
            raise InputError(
                f"a front end of {self.n_joined} values in {self.context} frames to either side gives {joined} values; "
                "the transform takes another number"
            )

    def n_features(self, n_given: int) -> int:
        """How many values a frame has afterwards."""
        if self.transform is None:
            return n_given
        if n_given < self.n_joined:
            raise InputError(f"frames have {n_given} values; the front end joins {self.n_joined} of each")
        return self.transform.n_out

    def followed_by(self, transform: LinearTransform) -> "FrontEnd":
        """The front end with one more transform at its end, such as a speaker's."""
        if self.transform is None:
            return FrontEnd(transform.n_in, 0, transform)
        return FrontEnd(self.n_joined, self.context, transform.after(self.transform))

    def apply(self, frames: Floats) -> Float32s:
        """Frames (n_frames, n_features) as the HMMs take them."""
        if self.transform is None:
            return np.asarray(frames, np.float32)
        self.n_features(frames.shape[1])
        joined = splice(frames[:, : self.n_joined], self.context, self.context)
        return np.asarray(self.transform.apply(joined), np.float32)
