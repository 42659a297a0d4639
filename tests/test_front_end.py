"""phones.front_end and its training: joined frames and transforms, on frames that are a known mix of others.

Tolerances. Frames are float32, and transforms are applied in float64: values of order 10 are good to 1e-5.
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from speechgmm.errors import InputError
from speechgmm.features.config import FeatureConfig
from speechgmm.phones.first_paths import first_paths
from speechgmm.phones.front_end import FrontEnd
from speechgmm.phones.front_end_training import discriminant, with_semi_tied
from speechgmm.phones.graph import transcript_of
from speechgmm.phones.hmm import left_to_right
from speechgmm.phones.hmm_training import HmmSettings, HmmTrainer
from speechgmm.phones.passes import AlignmentError
from speechgmm.phones.recogniser_training import train_on_material
from speechgmm.phones.transforms import LinearTransform
from speechgmm.training_frames import checked_frames
from tests import naive_hmm
from tests.test_recogniser import SMALL, error_rate, material_of, said_by

SETTINGS = HmmSettings(1, start_iterations=8)


def mix_of(n_features, seed=0):
    """A matrix that turns and stretches, far from diagonal, and its log determinant."""
    rng = np.random.default_rng(seed)
    left, right = (np.linalg.qr(rng.standard_normal((n_features, n_features)))[0] for _ in range(2))
    matrix = left @ np.diag(np.geomspace(0.2, 5.0, n_features)) @ right
    return matrix, np.linalg.slogdet(matrix)[1]


def transform(n_out, n_in, seed=0):
    rng = np.random.default_rng(seed)
    return LinearTransform(rng.standard_normal((n_out, n_in)), rng.standard_normal(n_out))


FRAMES = np.random.default_rng(9).standard_normal((7, 5)).astype(np.float32)


# The value


def test_frames_stay_as_they_are_without_a_transform():
    front_end = FrontEnd()
    assert front_end.n_features(39) == 39
    np.testing.assert_array_equal(front_end.apply(FRAMES), FRAMES)
    assert front_end.apply(FRAMES.astype(np.float64)).dtype == np.float32


def test_the_first_values_of_neighbours_are_joined_and_transformed():
    own = transform(4, 9)
    front_end = FrontEnd(3, 1, own)
    assert front_end.n_features(5) == 4
    rows = [0, *range(7), 6]
    expected = [
        own.matrix @ np.concatenate([FRAMES[rows[t + step], :3].astype(np.float64) for step in range(3)])
        + own.offset
        for t in range(7)
    ]
    found = front_end.apply(FRAMES)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_array_equal(front_end.apply(FRAMES[:, :3]), found)
    assert front_end.apply(FRAMES[:0]).shape == (0, 4)


def test_one_more_transform_at_the_end():
    for front_end in (FrontEnd(3, 1, transform(4, 9)), FrontEnd()):
        more = transform(2, front_end.n_features(5), seed=1)
        longer = front_end.followed_by(more)
        assert longer.n_features(5) == 2
        np.testing.assert_allclose(longer.apply(FRAMES), more.apply(front_end.apply(FRAMES)), atol=1e-5)
    with pytest.raises(InputError, match="a transform of 3 features cannot come after one that gives 4"):
        FrontEnd(3, 1, transform(4, 9)).followed_by(transform(2, 3))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            (3, 1, transform(4, 8)),
            "front end of 3 values in 1 frames to either side gives 9 values; the transform",
        ),
        ((3, -1, transform(4, 3)), "front end of 3 values in -1 frames to either side gives -3 values"),
        ((-3, -1, transform(4, 3)), "front end of -3 values in -1 frames to either side gives 3 values"),
        ((0, 0, transform(4, 3)), "front end of 0 values in 0 frames to either side gives 0 values"),
        ((3, 0, None), "a front end without a transform joins nothing; it has 3 values in 0 frames"),
        ((0, 2, None), "a front end without a transform joins nothing; it has 0 values in 2 frames"),
    ],
)
def test_parts_that_do_not_fit_together(parts, message):
    with pytest.raises(InputError, match=message):
        FrontEnd(*parts)


def test_frames_that_are_too_narrow():
    with pytest.raises(InputError, match="frames have 2 values; the front end joins 3 of each"):
        FrontEnd(3, 1, transform(4, 9)).apply(FRAMES[:, :2])


# Known mixes


def trained(strings, frames, hmms):
    """HMMs trained on frames, the likelihood of those, and the trainer."""
    trainer = HmmTrainer(checked_frames(frames), [transcript_of(own) for own in strings], SETTINGS)
    n_states = {unit: len(states) for unit, states in zip(hmms.units, hmms.states, strict=True)}
    flat = left_to_right(n_states, trainer.one_gaussian())
    training = trainer.train(flat, first_paths(trainer.aligned(flat), times_of(strings, frames, hmms)))
    return training.hmms, training.history[-1].log_likelihood, trainer


def times_of(strings, frames, hmms):
    """A rough guess: as many frames for each state."""
    guesses = []
    for string, own in zip(strings, frames, strict=True):
        lengths = [len(hmms.states_of(unit)) for unit in string]
        edges = np.round(np.cumsum([0, *lengths]) / sum(lengths) * len(own)).astype(int).tolist()
        guesses.append(list(pairwise(edges)))
    return guesses


def as_material(strings, frames):
    """What a recogniser may be trained on, and the features that such frames would have."""
    features = FeatureConfig(n_coefficients=frames[0].shape[1], delta_orders=0)
    return material_of(strings, frames), features


def mixed(frames, matrix):
    return [(own @ matrix.T).astype(np.float32) for own in frames]


@pytest.mark.parametrize("seed", range(3))
def test_semi_tied_covariances_undo_a_mix(seed):
    hmms = naive_hmm.hmm_set((1, 2, 2, 2), seed, n_features=4, spread=3.0)
    strings, frames = said_by(hmms, 30, 10, seed)
    matrix, log_determinant = mix_of(4, seed)
    turned = mixed(frames, matrix)
    _, unmixed, _ = trained(strings, frames, hmms)
    start, plain, trainer = trained(strings, turned, hmms)
    front_end, found, paths = FrontEnd(4, 0, LinearTransform.identity(4)), [], trainer.paths(start)
    transcripts = [transcript_of(own) for own in strings]
    for _ in range(2):
        front_end = with_semi_tied(front_end, turned, transcripts, start, paths, SETTINGS)
        _, tied, _ = trained(strings, [front_end.apply(own) for own in turned], hmms)
        # As densities of the frames before the transform.
        found.append(tied + front_end.transform.log_determinant)
    # Each mixed frame is as likely as the one it was made of, less the volume it takes. Of some 1500 frames the
    # matrix is not exact, and their own maximum may lie a little above that of the truth.
    assert found[-1] == pytest.approx(unmixed - log_determinant, abs=0.05)
    assert found[1] > found[0] - 0.01
    assert found[0] > plain + 2.0


def test_the_same_bits_for_any_number_of_workers():
    hmms = naive_hmm.hmm_set((1, 2, 2), 1, n_features=3)
    strings, frames = said_by(hmms, 10, 10)
    start, _, trainer = trained(strings, frames, hmms)
    found = [
        with_semi_tied(
            FrontEnd(3, 0, LinearTransform.identity(3)),
            frames,
            [transcript_of(own) for own in strings],
            start,
            trainer.paths(start),
            SETTINGS,
            n_jobs,
        )
        for n_jobs in (1, 2)
    ]
    assert found[0].transform == found[1].transform


def test_the_discriminant_finds_the_directions_that_tell_states_apart():
    # Three values that differ from state to state, and four of noise ten times as wide, in an unknown mix.
    hmms = naive_hmm.hmm_set((1, 2, 2, 2), 2, n_features=3, spread=3.0)
    strings, frames = said_by(hmms, 30, 10)
    rng = np.random.default_rng(0)
    matrix, _ = mix_of(7)
    wide = mixed([np.column_stack([own, 10 * rng.standard_normal((len(own), 4))]) for own in frames], matrix)
    known, _, trainer = trained(strings, frames, hmms)
    paths = trainer.paths(known)
    aligned = HmmTrainer(wide, [transcript_of(own) for own in strings], SETTINGS).aligned(hmms)
    front_end = discriminant(aligned, paths, len(hmms.mixtures), 7, 0, 3)
    assert (front_end.n_joined, front_end.context, front_end.n_features(7)) == (7, 0, 3)
    # Rows of the inverse give the three values back; the found directions span the same space.
    span = np.linalg.qr(front_end.transform.matrix.T)[0]
    true = np.linalg.qr(np.linalg.inv(matrix)[:3].T)[0]
    cosines = np.linalg.svd(span.T @ true, compute_uv=False)
    assert cosines.min() > 0.99
    # An utterance that could not be aligned does not count.
    with_a_bad_one = discriminant(
        [*aligned, aligned[0]], [*paths, AlignmentError("no")], len(hmms.mixtures), 7, 0, 3
    )
    assert with_a_bad_one.transform == front_end.transform


@pytest.mark.parametrize("seed", range(2))
def test_recognisers_of_mixed_frames_err_less_with_each_part_of_the_front_end(seed):
    hmms = naive_hmm.hmm_set((1, 2, 2, 2), seed + 5, n_features=3, spread=1.3)
    rng = np.random.default_rng(seed)
    matrix, _ = mix_of(5, seed)

    def wide(strings, frames):
        noisy = [np.column_stack([own, 3 * rng.standard_normal((len(own), 2))]) for own in frames]
        return strings, mixed(noisy, matrix)

    train, test = (wide(*said_by(hmms, number, 10, 10 * seed + number)) for number in (60, 40))
    material, features = as_material(*train)
    hmm = HmmSettings(1, start_iterations=10)
    rates = [
        error_rate(train_on_material(material, features, own, hmm).recogniser, *test)
        for own in (
            SMALL,
            replace(SMALL, context=1, n_dimensions=5, semi_tied=0),
            replace(SMALL, context=1, n_dimensions=5, semi_tied=1),
        )
    ]
    # Neighbours that are joined and turned are worth a third of the errors or so, the semi-tied transform a little.
    assert rates[1] < 0.75 * rates[0]
    assert rates[2] < rates[1]
