"""Ranges, vectors and parts of segments: by hand and by slow twins."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechgmm.errors import InputError
from speechgmm.features.config import FeatureConfig
from speechgmm.manifest import Segment
from speechgmm.phones.segment_features import frame_ranges, numbered_parts, segment_vectors

RANGES = st.lists(st.integers(1, 9), min_size=1, max_size=6).map(
    lambda lengths: np.stack([np.cumsum([0, *lengths[:-1]]), np.cumsum(lengths)], axis=1)
)
quick = settings(max_examples=60, deadline=None)


def random_frames(n_frames, n_features=3, seed=0):
    return np.random.default_rng(seed).normal(size=(n_frames, n_features))


def slow_mean(frames, start, stop):
    """The mean of frames from one time to another, each frame a unit long, in plain loops."""
    total, length = np.zeros(frames.shape[1]), 0.0
    for row in range(-50, len(frames) + 50):
        share = min(row + 1, stop) - max(row, start)
        if share > 0:
            total += share * frames[min(max(row, 0), len(frames) - 1)]
            length += share
    return total / length


@quick
@given(RANGES, st.integers(1, 4))
def test_vectors_agree_with_the_slow_twin(ranges, n_parts):
    frames, around = random_frames(ranges[-1, 1]), [(-5, -2), (-1, 1)]
    expected = []
    for start, stop in ranges:
        step = (stop - start) / n_parts
        row = [slow_mean(frames, start + k * step, start + (k + 1) * step) for k in range(n_parts)]
        row += [slow_mean(frames, start - 5, start - 2), slow_mean(frames, start - 1, start + 1)]
        row += [slow_mean(frames, stop - 1, stop + 1), slow_mean(frames, stop + 2, stop + 5)]
        expected.append(np.concatenate([*row, [np.log(stop - start)]]))
    found = segment_vectors(frames, ranges, n_parts, around)
    # Differences of running sums of up to 60 values near 1, in float64.
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_vectors_by_hand():
    frames = np.array([[0.0], [1.0], [2.0], [10.0]])
    found = segment_vectors(frames, np.array([[0, 3], [3, 4]]), n_parts=2, around=[(-1, 1)])
    # Halves of three frames share the second; before the first frame and after the last these are repeated.
    np.testing.assert_allclose(found, [[1 / 3, 5 / 3, 0.0, 6.0, np.log(3)], [10, 10, 6, 10, 0]], atol=1e-12)
    assert segment_vectors(frames, np.array([[0, 3]]), n_parts=1, around=(), duration=False) == [[1.0]]
    assert segment_vectors(frames, np.zeros((0, 2), int)).shape == (0, 10)


def test_bad_vectors():
    frames = random_frames(5)
    for ranges in ([[2, 2]], [[-1, 2]], [[3, 6]]):
        with pytest.raises(
            InputError, match=r"`ranges\[0\]` goes from frame .* within the 5 of the utterance"
        ):
            segment_vectors(frames, np.array(ranges))
    with pytest.raises(InputError, match=r"`ranges` is float64 of the shape \(1, 2\)"):
        segment_vectors(frames, np.array([[0.0, 1.0]]))
    with pytest.raises(InputError, match="stretches must end after they start"):
        segment_vectors(frames, np.array([[0, 1]]), around=[(2, 2)])
    with pytest.raises(InputError, match="without parts, surroundings and duration is empty"):
        segment_vectors(frames, np.array([[0, 1]]), 0, (), duration=False)
    with pytest.raises(InputError, match="has the value nan at frame 0"):
        segment_vectors(np.full((5, 1), np.nan), np.array([[0, 1]]))


def test_ranges_are_those_of_the_front_end():
    config = FeatureConfig()
    segments = [Segment(0.0, 0.12, "A"), Segment(0.12, 0.125, "B"), Segment(0.125, 0.5, "C")]
    found = frame_ranges(segments, config, 49)
    # The middle segment holds frame 12; the last would end with frame 49, which is not there.
    assert found.tolist() == [[0, 12], [12, 13], [13, 49]]
    assert frame_ranges([Segment(0.52, 0.54, "A")], config, 50).tolist() == [[49, 50]]
    assert frame_ranges([], config, 50).shape == (0, 2)


def test_bad_ranges():
    with pytest.raises(
        InputError, match=r"segment 0, 'A', ends at 0.6 s; the 50 frames of the utterance end at 0.5 s"
    ):
        frame_ranges([Segment(0.0, 0.6, "A")], FeatureConfig(), 50)
    with pytest.raises(InputError, match="switch `speech_activity` off"):
        frame_ranges([], FeatureConfig(speech_activity="energy"), 50)


@quick
@given(RANGES, st.integers(1, 4))
def test_parts_agree_with_the_slow_twin(ranges, n_parts):
    expected = [
        (row, number, min(int((row - start + 0.5) * n_parts / (stop - start) + 1e-9), n_parts - 1))
        for number, (start, stop) in enumerate(ranges.tolist())
        for row in range(start, stop)
    ]
    assert list(zip(*(one.tolist() for one in numbered_parts(ranges, n_parts)), strict=True)) == expected
