"""What tells segments apart: their frames by part, and one vector for each segment.

Segments come as ranges of frames: (n_segments, 2), the first frame of each and the first after it.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from speechgmm.em.coordinates import Float64s, Floats, require_finite, require_frames
from speechgmm.errors import InputError
from speechgmm.features.config import FeatureConfig
from speechgmm.utterance import Segment

Ints = NDArray[np.intp]

# By how much a segment may reach beyond the audio, in seconds: alignments are made of whole windows.
OVERHANG = 0.05
# Frames to average before and after the start of a segment, and mirrored around its end.
AROUND = ((-8, -4), (-4, -1), (-2, 2))


def frame_ranges(segments: Sequence[Segment], config: FeatureConfig, n_frames: int) -> Ints:
    """The frames of each segment, as `FeatureConfig.frame_range` counts them.

    Parameters
    ----------
    segments : sequence of Segment
    config : FeatureConfig
        How the frames were made; with speech activity they would not be in their places.
    n_frames : int
        Of the utterance.

    Returns
    -------
    (n_segments, 2) int
        Each range holds at least one frame; one that reaches beyond the last frame by 50 ms or less is cut.

    Raises
    ------
    InputError
        If a segment reaches further, or speech activity is on.
    """
    if config.speech_activity != "none":
        raise InputError("segments need every frame in its place; switch `speech_activity` off")
    hop = config.hop_samples / config.sample_rate
    length = config.window_length * (config.framing == "inside") + n_frames * hop
    ranges = np.empty((len(segments), 2), np.intp)
    for row, segment in enumerate(segments):
        if segment.end > length + OVERHANG or n_frames == 0:
            raise InputError(
                f"segment {row}, {segment.label!r}, ends at {segment.end:g} s; the {n_frames} frames of the utterance "
                f"end at {length:g} s (labels of another file?)"
            )
        ranges[row] = config.frame_range(segment.start, segment.end)
    first = np.minimum(ranges[:, 0], n_frames - 1)
    return np.stack([first, np.clip(ranges[:, 1], first + 1, n_frames)], axis=1)


def segment_vectors(
    frames: Floats,
    ranges: Ints,
    n_parts: int = 3,
    around: Sequence[tuple[int, int]] = AROUND,
    duration: bool = True,
) -> Float64s:
    """One vector for each segment of an utterance.

    Means of the frames over equal parts of the segment (a frame on the border of two counts for both in proportion),
    means over stretches around its two boundaries, and the logarithm of its number of frames.

    Parameters
    ----------
    frames : (n_frames, n_features)
        Of the whole utterance. Before the first and after the last, these two are repeated.
    ranges : (n_segments, 2) int
    n_parts : int > 0
    around : sequence of (int, int)
        Stretches of frames relative to the start: (-4, -1) are the fourth to the second frame before it. Each is
        mirrored at the end: (1, 4) is there the second to the fourth frame after it.
    duration : bool
        Whether the length is part of the vector.

    Returns
    -------
    (n_segments, n_values) float64
        n_features * (n_parts + 2 * len(around)) values, and the length.

    Raises
    ------
    InputError
        If shapes are wrong, values not finite, a range is empty or outside the frames, a stretch is empty, or
        nothing at all is asked for.

    References
    ----------
    Halberstadt and Glass (1997), Heterogeneous acoustic measurements for phonetic classification, Eurospeech; Clarkson
    and Moreno (1999), On the use of support vector machines for phonetic classification, ICASSP.
    """
    x, ranges = _checked(frames, ranges)
    if n_parts < 0 or any(low >= high for low, high in around):
        raise InputError(
            f"`n_parts` is {n_parts} and `around` {tuple(around)}; there must be 0 parts or more, and stretches must "
            "end after they start"
        )
    if not (n_parts or around or duration):
        raise InputError("a vector without parts, surroundings and duration is empty")
    reach = max((max(abs(low), abs(high)) for low, high in around), default=0)
    padded = np.pad(x, ((reach, reach), (0, 0)), mode="edge")
    sums = np.concatenate([np.zeros((1, x.shape[1])), np.cumsum(padded, axis=0)])
    start, stop = ranges.T + reach
    edges = [start + (stop - start) * part / n_parts for part in range(n_parts)] + [stop]
    stretches = list(pairwise(edges))
    stretches += [(start + low, start + high) for low, high in around]
    stretches += [(stop - high, stop - low) for low, high in reversed(around)]
    values = [_means(sums, np.asarray(low, float), np.asarray(high, float)) for low, high in stretches]
    if duration:
        values.append(np.log(stop - start)[:, None])
    return np.concatenate(values, axis=1)


def _means(sums: Float64s, start: Float64s, stop: Float64s) -> Float64s:
    """Means of frames between any two times, counted in frames, from the running sums of the frames."""
    return np.asarray((_sums_until(sums, stop) - _sums_until(sums, start)) / (stop - start)[:, None])


def _sums_until(sums: Float64s, time: Float64s) -> Float64s:
    whole = np.minimum(np.floor(time).astype(np.intp), len(sums) - 2)
    share = (time - whole)[:, None]
    return np.asarray((1 - share) * sums[whole] + share * sums[whole + 1])


def numbered_parts(ranges: Ints, n_parts: int) -> tuple[Ints, Ints, Ints]:
    """The frames of segments one after the other, each in one of equal parts of its segment.

    Parameters
    ----------
    ranges : (n_segments, 2) int
    n_parts : int > 0

    Returns
    -------
    rows, segments, parts : (n_rows,) int
        The frame, the number of its segment, and that of the part that its middle is in.
    """
    lengths = ranges[:, 1] - ranges[:, 0]
    segments = np.repeat(np.arange(len(ranges)), lengths)
    inside = np.arange(len(segments)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    # In whole numbers, so that a middle on the border of two parts always falls into the later one.
    parts = (2 * inside + 1) * n_parts // (2 * lengths[segments])
    return ranges[segments, 0] + inside, segments, parts


def _checked(frames: Floats, ranges: Ints) -> tuple[Float64s, Ints]:
    checked, ranges = require_frames(frames), np.asarray(ranges)
    require_finite(checked)
    if ranges.ndim != 2 or ranges.shape[1] != 2 or ranges.dtype.kind not in "iu":
        raise InputError(
            f"`ranges` is {ranges.dtype} of the shape {ranges.shape}; it must be whole numbers, (n_segments, 2)"
        )
    bad = (ranges[:, 0] < 0) | (ranges[:, 1] <= ranges[:, 0]) | (ranges[:, 1] > len(checked))
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(
            f"`ranges[{row}]` goes from frame {ranges[row, 0]} to {ranges[row, 1]}; it must hold a frame and lie "
            f"within the {len(checked)} of the utterance"
        )
    return np.asarray(checked, np.float64), ranges
