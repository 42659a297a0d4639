"""Segments told apart: made ones by what each kind of evidence can see, and real ones."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from speechgmm.errors import InputError, SpeechGMMWarning
from speechgmm.features.config import FeatureConfig
from speechgmm.features.extract import FeatureExtractor
from speechgmm.manifest import Segment, Utterance
from speechgmm.phones.segment_classifier import evaluate_segments, train_segment_classifier
from speechgmm.phones.segment_evidence import SegmentSettings
from speechgmm.settings import TrainingSettings

CONFIG = FeatureConfig(n_coefficients=3, delta_orders=0)
SMALL = SegmentSettings(
    context=1,
    n_dimensions=5,
    vector_dimensions=8,
    frame_mixtures=TrainingSettings(n_components=2, variance_floor=0.05),
)
PLACES = {"A": (0.0, 0.0), "B": (2.0, 1.0), "C": (-1.0, 2.0)}


def made(n_utterances=8, n_segments=15, seed=0, spread=1.0, place=None):
    """Utterances of segments of A, B and C: frames about a place of their own, or as `place(label, share)` says."""
    rng = np.random.default_rng(seed)
    frames, segments = [], []
    for _ in range(n_utterances):
        rows, parts, first = [], [], 0
        for label in rng.choice(list(PLACES), n_segments):
            n = int(rng.integers(3, 10))
            means = np.zeros((n, 3))
            if place is None:
                means[:, :2] = PLACES[label]
            else:
                means[:, 0] = [place(label, (row + 0.5) / n) for row in range(n)]
            rows.append(means + spread * rng.normal(size=(n, 3)))
            parts.append(Segment(first / 100, (first + n) / 100, str(label)))
            first += n
        frames.append(np.concatenate(rows).astype(np.float32))
        segments.append(tuple(parts))
    return frames, segments


def accuracy_of(settings, training, test):
    classifier = train_segment_classifier(*training, CONFIG, settings)
    return evaluate_segments(classifier, *test).accuracy


def test_segments_are_told_apart_by_either_evidence():
    training, test = made(), made(seed=1)
    for evidence in ("frames", "vectors", "both"):
        # Five frames a segment at two deviations from one another: few errors can be left.
        assert accuracy_of(replace(SMALL, evidence=evidence), training, test) > 0.9


def test_parts_see_what_one_mixture_cannot():
    def rising_or_falling(label, share):
        return {"A": 4 * share, "B": 4 - 4 * share, "C": 2.0}[label]

    training, test = (made(seed=seed, spread=0.6, place=rising_or_falling) for seed in (0, 1))
    blind = replace(SMALL, evidence="frames", context=0, n_dimensions=0, n_parts=1)
    # A and B hold the same frames in another order: without parts one is as good as the other.
    assert accuracy_of(blind, training, test) < 0.7
    assert accuracy_of(replace(blind, n_parts=3), training, test) > 0.85
    assert accuracy_of(replace(SMALL, evidence="vectors"), training, test) > 0.85


def test_surroundings_are_looked_at_where_asked():
    frames, segments = made(seed=2, spread=0.3)
    # Each label gets what its neighbour on the left has in its frames.
    shifted = [[Segment(b.start, b.end, a.label) for a, b in pairwise(one)] for one in segments]
    alone = replace(SMALL, evidence="vectors", around=())
    assert accuracy_of(alone, (frames, shifted), (frames, shifted)) < 0.7
    assert accuracy_of(replace(alone, around=((-3, 0),)), (frames, shifted), (frames, shifted)) > 0.95


def test_scores_are_sums_of_the_evidence():
    training, test = made(), made(3, seed=1)
    weighted = replace(SMALL, frame_weight=0.25)
    of = {
        name: train_segment_classifier(*training, CONFIG, replace(weighted, evidence=name))
        for name in ("both", "frames", "vectors")
    }
    scores = {name: classifier.scores(*test) for name, classifier in of.items()}
    prior = of["both"].log_priors
    expected = 0.25 * (scores["frames"] - prior) + (scores["vectors"] - prior) + prior
    # The same models; only the order of float64 sums differs.
    np.testing.assert_allclose(scores["both"], expected, rtol=1e-9)
    assert scores["both"].shape == (45, 3)


def test_priors():
    frames, segments = made(seed=3)
    counts = np.array([sum(s.label == label for one in segments for s in one) for label in "ABC"])
    classifier = train_segment_classifier(frames, segments, CONFIG, SMALL)
    np.testing.assert_allclose(np.exp(classifier.log_priors), counts / counts.sum(), rtol=1e-12)
    equal = train_segment_classifier(frames, segments, CONFIG, replace(SMALL, priors="equal"))
    np.testing.assert_allclose(np.exp(equal.log_priors), 1 / 3, rtol=1e-12)


def test_the_same_bits_again_and_on_two_workers():
    training, test = made(), made(2, seed=1)
    first = train_segment_classifier(*training, CONFIG, SMALL)
    again = train_segment_classifier(*training, CONFIG, SMALL, n_jobs=2)
    assert first.frame_evidence.mixtures == again.frame_evidence.mixtures
    np.testing.assert_array_equal(first.scores(*test), again.scores(*test, n_jobs=2))


def test_a_segment_scores_the_same_whatever_else_is_scored():
    classifier, (frames, segments) = train_segment_classifier(*made(), CONFIG, SMALL), made(2, seed=1)
    together, alone = classifier.scores(frames, segments), classifier.scores(frames[1:], segments[1:])
    # What log_likelihoods promises.
    np.testing.assert_allclose(together[15:], alone, rtol=1e-9)


def test_segments_of_a_frame_and_utterances_without_segments():
    frames, segments = made(seed=4)
    short = [[Segment(s.start, s.start + 0.01, s.label) for s in one] for one in segments]
    frames, short = [*frames, np.zeros((5, 3), np.float32)], [*short, []]
    classifier = train_segment_classifier(frames, short, CONFIG, SMALL)
    assert classifier.scores(frames, short).shape == (120, 3)


def test_a_single_phone_has_no_discriminants_and_is_always_right():
    frames, segments = made(2)
    alone = [[replace(segment, label="A") for segment in one] for one in segments]
    # Without a second part, frames are of a single class too.
    with pytest.warns(SpeechGMMWarning, match="there is one class only"):
        classifier = train_segment_classifier(frames, alone, CONFIG, replace(SMALL, n_parts=1))
    assert classifier.frame_evidence.transform is None and classifier.vector_evidence.transform is None
    assert classifier.classify(frames, segments) == ["A"] * 30


def test_discriminants_are_fewer_than_classes():
    classifier = train_segment_classifier(*made(), CONFIG, replace(SMALL, n_dimensions=20))
    # Three parts of three phones; three phones.
    assert classifier.frame_evidence.transform.n_out == 8
    assert classifier.vector_evidence.transform.n_out == 2


def test_too_few_segments_for_discriminants_of_vectors():
    with pytest.raises(
        InputError, match=r"vectors of 12 segments, 28 values each: .* tells them apart for certain"
    ):
        train_segment_classifier(*made(2, 6), CONFIG, replace(SMALL, evidence="vectors"))


def test_evaluation():
    training, test = made(), made(seed=1, spread=1.5)
    classifier = train_segment_classifier(*training, CONFIG, SMALL)
    found = evaluate_segments(classifier, *test, manner={"A": "vowel", "B": "stop", "C": "stop"})
    truth = np.array([s.label for one in test[1] for s in one])
    right = np.array(found.decided) == truth
    assert found.n_segments == 120
    assert found.accuracy == right.mean() < 1
    assert found.interval[0] < found.accuracy < found.interval[1]
    assert found.balanced_accuracy == pytest.approx(
        np.mean([right[truth == label].mean() for label in "ABC"])
    )
    assert found.manners == ("stop", "vowel")
    assert found.manner_matrix.sum(axis=1).tolist() == [np.sum(truth != "A"), np.sum(truth == "A")]
    assert found.manner_matrix[0, 0] >= right[truth != "A"].sum()
    assert sum(count for *_, count in found.confusions) == np.sum(~right)


def test_an_unknown_phone_counts_as_wrong():
    classifier = train_segment_classifier(*made(), CONFIG, SMALL)
    frames, segments = made(1, 4, seed=1)
    strange = [[replace(segment, label="D") for segment in segments[0]]]
    assert evaluate_segments(classifier, frames, strange).accuracy == 0.0
    with pytest.raises(InputError, match="`manner` has no class for the phone 'D'"):
        evaluate_segments(classifier, frames, strange, manner=dict.fromkeys("ABC", "vowel"))


def test_bad_input():
    frames, segments = made(2)
    with pytest.raises(InputError, match="the frames of 2 utterances and the segments of 1"):
        train_segment_classifier(frames, segments[:1], CONFIG)
    with pytest.raises(InputError, match="with one segment or more"):
        train_segment_classifier(frames, [[], []], CONFIG)
    with pytest.raises(InputError, match=r"utterance 1: segment 0, 'A', ends at 99 s"):
        train_segment_classifier(frames, [segments[0], [Segment(0.0, 99.0, "A")]], CONFIG)
    with pytest.raises(InputError, match="`frames\\[0\\]` has 2"):
        train_segment_classifier([frames[0][:, :2], frames[1]], segments, CONFIG)


def test_settings():
    table = {
        "evidence": "vectors",
        "around": [[-2, 0]],
        "vector_mixtures": {"n_components": 2, "covariance_type": "tied"},
    }
    found = SegmentSettings.from_dict(table)
    assert found == SegmentSettings(
        "vectors",
        around=((-2, 0),),
        vector_mixtures=TrainingSettings(2, "tied"),
    )
    with pytest.raises(InputError, match="unknown segment setting 'parts'"):
        SegmentSettings.from_dict({"parts": 3})
    with pytest.raises(
        InputError, match="segment setting `evidence` is 'all'; it can be both, frames, vectors"
    ):
        SegmentSettings(evidence="all")
    with pytest.raises(InputError, match="segment setting `priors` is 'some'"):
        SegmentSettings(priors="some")
    with pytest.raises(InputError, match="segment setting `n_parts` is 0"):
        SegmentSettings(n_parts=0)
    with pytest.raises(InputError, match="segment setting `around` is"):
        SegmentSettings.from_dict({"around": [3]})


def test_real_speech(speech_data):
    """A chapter of one speaker: far above the most frequent phone (about 9 %) with a minute or two to learn from."""
    folder = speech_data / "LibriSpeech"
    rows = [line.split("\t") for line in (folder / "phones.tsv").read_text().splitlines()[1:]]
    paths = sorted({row[0] for row in rows if "/19/227/" in row[0]})[:20]
    segments = [
        [Segment(float(a), float(b), phone) for p, a, b, phone, _ in rows if p == path] for path in paths
    ]
    config = FeatureConfig(n_coefficients=13, delta_orders=0, normalisation="mean")
    frames = FeatureExtractor(config).extract([Utterance(id=p, audio=folder / p) for p in paths]).frames
    settings = SegmentSettings(
        frame_mixtures=TrainingSettings(n_components=1), vector_mixtures=TrainingSettings(1, "tied")
    )
    classifier = train_segment_classifier(frames[:15], segments[:15], config, settings)
    assert evaluate_segments(classifier, frames[15:], segments[15:]).accuracy > 0.55
