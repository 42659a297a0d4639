"""Linear transforms of frames: LDA, semi-tied covariances and constrained MLLR, against slow twins and others."""

import pickle
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import subspace_angles
from scipy.optimize import approx_fprime, minimize

from speechgmm.em.mixture import Mixture
from speechgmm.errors import InputError, SpeechGMMWarning
from speechgmm.phones.fmllr import FmllrStatistics, estimate_fmllr, fmllr_prior, fmllr_statistics
from speechgmm.phones.lda import class_statistics, estimate_lda
from speechgmm.phones.semi_tied import MlltStatistics, estimate_mllt, mllt_statistics
from speechgmm.phones.transforms import LinearTransform, replace_row, splice
from tests import naive_transforms as naive

N_FEATURES = 3
# Iterate until nothing is gained but rounding.
TO_THE_END = {"max_iterations": 2000, "tolerance": 1e-13}


def random_mixtures(seed, sizes=(2, 1, 3), n_features=N_FEATURES, far=0.0):
    rng = np.random.default_rng(seed)
    return [
        Mixture(
            rng.dirichlet(np.full(size, 5.0)),
            far + 3.0 * rng.standard_normal((size, n_features)),
            rng.uniform(0.3, 2.0, (size, n_features)),
        )
        for size in sizes
    ]


def entries(seed, n_frames, n_mixtures, n_entries):
    """Entries in no order, some frames in several, some twice in the same mixture, some with no weight."""
    rng = np.random.default_rng(seed)
    pdfs, rows = rng.integers(0, n_mixtures, n_entries), rng.integers(0, n_frames, n_entries)
    weights = rng.uniform(0.0, 1.0, n_entries) * (rng.random(n_entries) > 0.1)
    pdfs[1], rows[1] = pdfs[0], rows[0]
    return pdfs, rows, weights


def drawn(mixtures, counts, seed):
    """Frames drawn from each mixture, and the entries that say so."""
    seeds = range(seed, seed + len(mixtures))
    parts = [mixture.sample(n, own) for mixture, n, own in zip(mixtures, counts, seeds, strict=True)]
    frames = np.concatenate(parts)
    pdfs = np.repeat(np.arange(len(mixtures)), counts)
    return frames, (pdfs, np.arange(len(pdfs)), np.ones(len(pdfs)))


def near_identity(seed, n_features=N_FEATURES, size=0.3):
    rng = np.random.default_rng(seed)
    matrix = np.eye(n_features) + size * rng.standard_normal((n_features, n_features))
    return LinearTransform(matrix, rng.standard_normal(n_features))


# The value


def test_a_transform_multiplies_and_adds():
    transform = LinearTransform([[1.0, 2.0], [0.0, -1.0], [3.0, 0.5]], [10.0, 20.0, 30.0])
    assert transform.apply([[1.0, 1.0], [2.0, 0.0]]).tolist() == [[13.0, 19.0, 33.5], [12.0, 20.0, 36.0]]
    assert (transform.n_in, transform.n_out) == (2, 3)
    assert transform.apply(np.empty((0, 2))).shape == (0, 3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_frames_keep_their_precision(dtype):
    frames = np.ones((2, N_FEATURES), dtype)
    assert near_identity(0).apply(frames).dtype == dtype


def test_float32_frames_far_from_zero_lose_only_their_own_digits():
    # Computed in float32, an offset that cancels -500 would leave an error of 3e-5 here; rounding once leaves 6e-8.
    frames = (np.random.default_rng(0).standard_normal((50, N_FEATURES)) - 500).astype(np.float32)
    transform = LinearTransform(np.full((1, N_FEATURES), 1 / 3), [500.0])
    exact = frames.astype(np.float64).mean(axis=1) + 500.0
    np.testing.assert_allclose(transform.apply(frames)[:, 0], exact, rtol=1e-7, atol=1e-12)


def test_composition_is_one_after_the_other():
    first, second = near_identity(1), LinearTransform(np.arange(6.0).reshape(2, 3), [1.0, -1.0])
    frames = np.random.default_rng(2).standard_normal((5, 3))
    np.testing.assert_allclose(
        second.after(first).apply(frames), second.apply(first.apply(frames)), rtol=1e-12, atol=1e-12
    )
    with pytest.raises(InputError, match="of 3 features cannot come after one that gives 2"):
        first.after(second)


def test_the_identity_changes_nothing_and_has_no_log_determinant():
    frames = np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32)
    identity = LinearTransform.identity(5)
    assert np.array_equal(identity.apply(frames), frames)
    assert identity.log_determinant == 0.0


def test_log_determinants_are_of_square_invertible_matrices():
    assert LinearTransform([[0.0, -2.0], [3.0, 7.0]], [0.0, 0.0]).log_determinant == pytest.approx(np.log(6))
    with pytest.raises(InputError, match="of 2 features to 1 has no determinant"):
        _ = LinearTransform([[1.0, 2.0]], [0.0]).log_determinant
    with pytest.raises(InputError, match="determinant of the transform is 0"):
        _ = LinearTransform(np.zeros((2, 2)), [0.0, 0.0]).log_determinant


def test_a_transform_survives_arrays_and_pickling_and_cannot_be_changed():
    transform = near_identity(3)
    assert LinearTransform.from_arrays(transform.to_arrays()) == transform
    copy = pickle.loads(pickle.dumps(transform))
    assert copy == transform and copy != near_identity(4)
    for one in (transform, copy):
        with pytest.raises(ValueError, match="read-only"):
            one.matrix[0, 0] = 1.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LinearTransform([1.0], [1.0]), r"`matrix` \(1,\) and `offset` \(1,\) must have the shapes"),
        (lambda: LinearTransform(np.eye(2), [1.0]), r"`matrix` \(2, 2\) and `offset` \(1,\)"),
        (lambda: LinearTransform(np.eye(2), [np.nan, 0.0]), "`offset` has values that are not finite"),
        (
            lambda: LinearTransform.identity(2).apply(np.zeros((3, 4))),
            "4 features; the transform needs 2 .*spliced",
        ),
        (lambda: LinearTransform.from_arrays({"matrix": np.eye(2)}), r"not \['matrix'\]"),
        (lambda: splice(np.zeros((3, 4)), -1, 0), "`left` is -1; it must be a whole number"),
        (lambda: splice(np.zeros((3, 4)), 0, 1.5), "`right` is 1.5"),
        (lambda: splice(np.zeros(3), 1, 1), "`frames` has 1 dimensions"),
    ],
)
def test_transforms_and_splicing_refuse_what_does_not_fit(call, message):
    with pytest.raises(InputError, match=message):
        call()


@given(st.integers(0, 6), st.integers(1, 3), st.integers(0, 4), st.integers(0, 4))
def test_splicing_is_its_slow_twins(n_frames, n_features, left, right):
    frames = np.arange(n_frames * n_features, dtype=np.float32).reshape(n_frames, n_features)
    spliced = splice(frames, left, right)
    assert spliced.dtype == np.float32 and spliced.shape == (n_frames, (left + 1 + right) * n_features)
    if n_frames:
        assert np.array_equal(spliced, naive.spliced(frames, left, right))


# LDA


def labelled_frames(seed, n_classes=5, n_features=6, n_frames=400):
    rng = np.random.default_rng(seed)
    labels = rng.choice(n_classes, n_frames, p=rng.dirichlet(np.full(n_classes, 3.0)))
    mixing = rng.standard_normal((n_features, n_features)) * np.logspace(-2, 2, n_features)
    centres = rng.standard_normal((n_classes, n_features)) * np.linspace(2, 0.2, n_features)
    return (centres[labels] + rng.standard_normal((n_frames, n_features))) @ mixing - 30.0, labels


@pytest.mark.parametrize("n_dimensions", [1, 2, 4])
def test_lda_whitens_within_classes_and_orders_what_lies_between(n_dimensions):
    frames, labels = labelled_frames(0)
    transform = estimate_lda(class_statistics(frames, labels, 5), n_dimensions)
    moved = transform.apply(frames)
    within, between = naive.scatters(moved, labels.tolist())
    np.testing.assert_allclose(moved.mean(axis=0), 0.0, atol=1e-8)
    np.testing.assert_allclose(within, np.eye(n_dimensions), atol=1e-8)
    np.testing.assert_allclose(between, np.diag(np.diagonal(between)), atol=1e-8 * between[0, 0])
    assert (np.diff(np.diagonal(between)) < 0).all()
    # The sign, which the criterion leaves open, follows a rule.
    assert (transform.matrix[np.arange(n_dimensions), np.abs(transform.matrix).argmax(axis=1)] > 0).all()


@pytest.mark.parametrize("solver", ["svd", "eigen"])
def test_lda_finds_the_subspace_that_scikit_learn_finds(solver):
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    frames, labels = labelled_frames(1)
    known = LinearDiscriminantAnalysis(solver=solver).fit(frames, labels).scalings_
    for n_dimensions in (1, 3, 4):
        transform = estimate_lda(class_statistics(frames, labels, 5), n_dimensions)
        # Two solvers on features that differ by a factor 1e4 in scale agree to about 1e-8.
        assert subspace_angles(transform.matrix.T, known[:, :n_dimensions]).max() < 1e-6


def test_no_direction_has_a_better_ratio_than_the_first():
    frames, labels = labelled_frames(2, n_features=4)
    within, between = naive.scatters(frames, labels.tolist())

    def ratio(direction):
        return direction @ between @ direction / (direction @ within @ direction)

    best = ratio(estimate_lda(class_statistics(frames, labels, 5), 1).matrix[0])
    tried = np.random.default_rng(0).standard_normal((500, 4)) @ np.linalg.cholesky(np.linalg.inv(within)).T
    assert max(map(ratio, tried)) < best


def test_class_statistics_add_and_unseen_classes_do_not_matter():
    frames, labels = labelled_frames(3, n_frames=1200)
    whole = class_statistics(frames, labels, 5)
    parts = class_statistics(frames[:500], labels[:500], 5) + class_statistics(frames[500:], labels[500:], 5)
    np.testing.assert_allclose(parts.products, whole.products, rtol=1e-12)
    np.testing.assert_allclose(parts.sums, whole.sums, rtol=1e-12)
    assert np.array_equal(parts.counts, np.bincount(labels))
    assert estimate_lda(class_statistics(frames, labels + 2, 9), 3) == estimate_lda(whole, 3)


def test_lda_is_the_same_whatever_the_units_and_whatever_follows_from_other_features():
    frames, labels = labelled_frames(4)
    plain = estimate_lda(class_statistics(frames, labels, 5), 3).apply(frames)
    scaled = frames * np.logspace(-3, 3, 6)
    more = np.column_stack([scaled, scaled @ np.ones(6), np.full(len(frames), 7.0)])
    for other in (scaled, more):
        moved = estimate_lda(class_statistics(other, labels, 5), 3).apply(other)
        signs = np.sign((moved * plain).sum(axis=0))
        np.testing.assert_allclose(moved * signs, plain, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "n_dimensions", "message"),
    [
        (lambda frames, labels: frames, 5, "`n_dimensions` is 5; 5 classes with frames give 1 to 4"),
        (lambda frames, labels: frames, 0, "`n_dimensions` is 0"),
        (lambda frames, labels: frames[:, :2], 3, "`n_dimensions` is 3; of 2 features only 2 do not follow"),
        (lambda frames, labels: np.ones_like(frames), 1, "of 6 features only 0 do not follow from others"),
        (lambda frames, labels: np.column_stack([frames, labels]), 1, "no class spreads.*too few frames"),
    ],
)
def test_lda_says_why_there_is_no_transform(change, n_dimensions, message):
    frames, labels = labelled_frames(5)
    with pytest.raises(InputError, match=message):
        estimate_lda(class_statistics(change(frames, labels), labels, 5), n_dimensions)


@pytest.mark.parametrize(
    ("frames", "labels", "message"),
    [
        (np.zeros((3, 2)), [0, 1], "`labels` has 2 values; there are 3 frames, and each needs one"),
        (np.zeros((3, 2)), [0.0, 1.0, 2.0], "`labels` has the shape .* float64; it must list whole numbers"),
        (np.zeros((3, 2)), [0, 1, 5], "`labels` has values from 0 to 5; there are 5 classes"),
        (np.zeros((3, 2)), [0, -1, 1], "`labels` has values from -1 to 1"),
        (np.full((3, 2), np.nan), [0, 1, 1], "`frames` has the value nan at frame 0"),
    ],
)
def test_class_statistics_refuse_what_does_not_fit(frames, labels, message):
    with pytest.raises(InputError, match=message):
        class_statistics(frames, labels, 5)
    with pytest.raises(InputError, match=r"\(5, 2\) and \(4, 2\) cannot be added"):
        class_statistics(np.zeros((0, 2)), [], 5) + class_statistics(np.zeros((0, 2)), [], 4)


# What both other transforms share


def test_an_inverse_follows_its_matrix_as_rows_are_replaced():
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((6, 6))
    inverse = np.linalg.inv(matrix)
    for row in range(6):
        values = rng.standard_normal(6)
        replace_row(matrix, inverse, row, values)
        assert np.array_equal(matrix[row], values)
        np.testing.assert_allclose(inverse @ matrix, np.eye(6), atol=1e-11)


@pytest.mark.parametrize(
    "estimate",
    [lambda **limits: estimate_mllt(mixed(0)[0], **limits), lambda **limits: estimate_fmllr(SMALL, **limits)],
)
@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_iterations": 0}, "`max_iterations` is 0; it must be a whole number from 1"),
        ({"max_iterations": 2.5}, "`max_iterations` is 2.5"),
        ({"tolerance": -1.0}, "`tolerance` is -1.0; it must be a number of nats a frame from 0"),
        ({"tolerance": np.nan}, "`tolerance` is nan"),
    ],
)
def test_limits_of_iterations_are_checked(estimate, limits, message):
    with pytest.raises(InputError, match=message):
        estimate(**limits)


STATISTICS = [mllt_statistics, fmllr_statistics]


@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mixtures": []}, "`mixtures` is empty"),
        (
            {"mixtures": [*random_mixtures(0), *random_mixtures(0, (1,), 2)]},
            "`mixtures` have 2 to 3 features",
        ),
        ({"mixtures": [random_mixtures(0)[0].with_type("full")]}, "mixture 0 has full covariances.*'diag'"),
        ({"frames": np.zeros((4, 2))}, "`frames` has 2 features; the mixture has 3"),
        ({"frames": np.full((4, 3), np.inf)}, "`frames` has the value inf"),
        ({"pdfs": [0, 3]}, "`pdfs` has values from 0 to 3; there are 3 mixtures"),
        ({"pdfs": [0.0, 1.0]}, "`pdfs` has the shape .* float64; it must list whole numbers"),
        ({"rows": [4, 0]}, "`rows` has values from 0 to 4; there are 4 frames"),
        ({"rows": [-1, 0]}, "`rows` has values from -1 to 0"),
        ({"rows": [0]}, r"`pdfs` \(2,\), `rows` \(1,\) and `weights` \(2,\)"),
        ({"weights": [1.0, -0.1]}, "`weights` has values that are negative or not finite"),
        ({"weights": [1.0, np.nan]}, "`weights` has values that are negative or not finite"),
    ],
)
def test_statistics_refuse_entries_that_do_not_fit(statistics, change, message):
    given = {"mixtures": random_mixtures(0), "frames": np.zeros((4, 3)), "pdfs": [0, 1], "rows": [0, 1]}
    with pytest.raises(InputError, match=message):
        statistics(**{**given, "weights": [1.0, 1.0], **change})


@pytest.mark.parametrize("statistics", STATISTICS)
def test_no_entries_give_empty_statistics(statistics):
    found = statistics(random_mixtures(0), np.zeros((4, 3)), [], [], [])
    assert all(not np.any(value) for value in vars(found).values())


@pytest.mark.parametrize("statistics", STATISTICS)
def test_spherical_mixtures_count_as_diagonal_ones(statistics):
    diagonal = [Mixture([0.5, 0.5], np.eye(3)[:2], np.tile([[2.0], [3.0]], 3))]
    spherical = [Mixture([0.5, 0.5], np.eye(3)[:2], [2.0, 3.0], "spherical")]
    frames = np.random.default_rng(0).standard_normal((9, 3))
    first, second = (statistics(some, frames, [0] * 9, range(9), [1.0] * 9) for some in (diagonal, spherical))
    for name, value in vars(first).items():
        np.testing.assert_allclose(getattr(second, name), value, rtol=1e-12)


# Semi-tied covariances


@pytest.mark.parametrize("far", [0.0, -500.0])
@pytest.mark.parametrize("n_entries", [1, 40, 2000])
def test_mllt_statistics_are_their_slow_twins(far, n_entries):
    mixtures = random_mixtures(1, far=far)
    frames = (far + 3 * np.random.default_rng(2).standard_normal((50, 3))).astype(np.float32)
    given = entries(3, 50, 3, max(n_entries, 2))
    found = mllt_statistics(mixtures, frames, *given)
    counts, scatters = naive.mllt_statistics(mixtures, frames, *given)
    np.testing.assert_allclose(found.counts, counts, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.scatters, scatters, rtol=1e-8, atol=1e-8)


def mixed(seed, n_components=6, n_features=3, n_frames=300):
    """Statistics of components that share a matrix after which their covariances are diagonal, and the matrix."""
    rng = np.random.default_rng(seed)
    matrix = near_identity(seed, n_features, 0.6).matrix
    back = np.linalg.inv(matrix)
    variances = rng.uniform(0.2, 5.0, (n_components, n_features))
    counts = rng.uniform(0.5, 2.0, n_components) * n_frames
    return MlltStatistics(counts, counts[:, None, None] * ((back * variances[:, None, :]) @ back.T)), matrix


def test_mllt_finds_the_matrix_that_makes_all_covariances_diagonal():
    statistics, matrix = mixed(0)
    semi_tied = estimate_mllt(statistics, prior_count=1e-9, **TO_THE_END)
    turned = semi_tied.transform.matrix @ np.linalg.inv(matrix)
    # A permutation and scales are left open; what remains is zero.
    shares = np.sort(np.abs(turned) / np.abs(turned).max(axis=1, keepdims=True), axis=1)
    assert shares[:, -2].max() < 2e-3
    assert semi_tied.transform.log_determinant == pytest.approx(0.0, abs=1e-10)
    assert not semi_tied.transform.offset.any()


def unlike(seed, n_components=5, n_features=3):
    """Statistics of components that no matrix makes diagonal together."""
    rng = np.random.default_rng(seed)
    factors = rng.standard_normal((n_components, n_features, 2 * n_features))
    counts = rng.uniform(20, 90, n_components)
    return MlltStatistics(counts, counts[:, None, None] * (factors @ np.swapaxes(factors, 1, 2)))


@pytest.mark.parametrize("seed", range(5))
def test_the_mllt_objective_is_the_slow_twins_and_never_falls(seed):
    statistics = unlike(seed)
    semi_tied = estimate_mllt(statistics, prior_count=5.0)
    covariances = statistics.covariances(5.0)
    before = naive.semi_tied_objective(np.eye(3), statistics.counts, covariances)
    after = naive.semi_tied_objective(semi_tied.transform.matrix, statistics.counts, covariances)
    assert semi_tied.objectives[0] == pytest.approx(before, abs=1e-10)
    assert semi_tied.objectives[-1] == pytest.approx(after, abs=1e-10)
    assert after > before + 0.01
    assert np.diff(semi_tied.objectives).min() > -1e-12


@pytest.mark.parametrize("seed", range(3))
def test_another_optimiser_does_no_better_than_mllt(seed):
    statistics = unlike(seed)
    covariances = statistics.covariances(1.0)
    found = estimate_mllt(statistics, prior_count=1.0, **TO_THE_END)

    def loss(flat):
        return -naive.semi_tied_objective(flat.reshape(3, 3), statistics.counts, covariances)

    optimum = found.transform.matrix.ravel()
    # Slopes by differences are known to about 1e-6.
    assert np.abs(approx_fprime(optimum, loss, 1e-7)).max() < 1e-5
    best = minimize(loss, optimum, method="BFGS").fun
    from_identity = minimize(loss, np.eye(3).ravel(), method="BFGS").fun
    assert found.objectives[-1] > -min(best, from_identity) - 1e-8


def test_turned_mixtures_explain_turned_frames_better():
    rng = np.random.default_rng(5)
    mixing = near_identity(6, size=0.7).matrix
    parts = [rng.standard_normal((1500, 3)) @ mixing.T * scale + far for scale, far in ((2, 0), (1, 4))]
    frames = np.concatenate(parts)
    mixtures = [Mixture([1.0], part.mean(axis=0)[None], part.var(axis=0)[None]) for part in parts]
    pdfs = np.repeat([0, 1], 1500)
    semi_tied = estimate_mllt(mllt_statistics(mixtures, frames, pdfs, range(3000), np.ones(3000)))
    turned = semi_tied.turned(mixtures)
    gains = [
        new.log_likelihoods(semi_tied.transform.apply(part)).mean() - old.log_likelihoods(part).mean()
        for old, new, part in zip(mixtures, turned, parts, strict=True)
    ]
    # The determinant is 1, so the gain in log-likelihood is the gain in the objective, but for the prior's few frames.
    assert np.mean(gains) == pytest.approx(semi_tied.objectives[-1] - semi_tied.objectives[0], abs=0.01)
    assert np.mean(gains) > 0.1
    with pytest.raises(
        InputError, match="have 1 components of 3 features; the transform was estimated for 2 of 3"
    ):
        semi_tied.turned(mixtures[:1])


def test_a_component_with_few_frames_takes_the_common_covariance():
    statistics, _ = mixed(1)
    counts = np.append(statistics.counts, [0.0, 1e-12])
    scatters = np.concatenate([statistics.scatters, np.zeros((2, 3, 3))])
    more = MlltStatistics(counts, scatters)
    common = statistics.scatters.sum(axis=0) / statistics.counts.sum()
    np.testing.assert_allclose(more.covariances(10.0)[-2:], [common, common], rtol=1e-9)
    np.testing.assert_allclose(
        estimate_mllt(more).transform.matrix, estimate_mllt(statistics).transform.matrix, rtol=1e-6, atol=1e-8
    )


def test_mllt_statistics_add():
    mixtures = random_mixtures(1)
    frames = 3 * np.random.default_rng(2).standard_normal((50, 3))
    pdfs, rows, weights = entries(3, 50, 3, 60)
    whole = mllt_statistics(mixtures, frames, pdfs, rows, weights)
    first = mllt_statistics(mixtures, frames, pdfs[:20], rows[:20], weights[:20])
    total = first + mllt_statistics(mixtures, frames, pdfs[20:], rows[20:], weights[20:])
    np.testing.assert_allclose(total.scatters, whole.scatters, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(total.counts, whole.counts, rtol=1e-12)
    with pytest.raises(InputError, match="cannot be added"):
        whole + mixed(0, n_components=2)[0]


@pytest.mark.parametrize(
    ("statistics", "prior_count", "message"),
    [
        (mixed(0)[0], 0.0, "`prior_count` is 0.0; it must be a number of frames above 0"),
        (mixed(0)[0], np.nan, "`prior_count` is nan"),
        (MlltStatistics(np.zeros(2), np.zeros((2, 3, 3))), 1.0, "no frames were counted"),
        (
            MlltStatistics(np.ones(2), np.ones((2, 3, 3))),
            1.0,
            "do not vary in every direction.*too few frames",
        ),
    ],
)
def test_mllt_says_why_there_is_no_transform(statistics, prior_count, message):
    with pytest.raises(InputError, match=message):
        estimate_mllt(statistics, prior_count)


# Constrained MLLR


@pytest.mark.parametrize("far", [0.0, -500.0])
@pytest.mark.parametrize("current", [None, near_identity(9, size=0.1)])
def test_fmllr_statistics_are_their_slow_twins(far, current):
    mixtures = random_mixtures(1, far=far)
    frames = (far + 3 * np.random.default_rng(2).standard_normal((600, 3))).astype(np.float32)
    if far and current is not None:
        current = LinearTransform(current.matrix, current.offset + far - current.matrix @ np.full(3, far))
    given = entries(3, 600, 3, 700)
    seen = None if current is None else current.apply(frames)
    found = fmllr_statistics(mixtures, frames, *given, current=current)
    count, linear, quadratic = naive.fmllr_statistics(mixtures, frames, *given, seen=seen)
    assert found.count == pytest.approx(count, rel=1e-12)
    # Relative to the largest: entries of both signs may cancel.
    np.testing.assert_allclose(found.linear, linear, rtol=1e-9, atol=1e-11 * np.abs(linear).max())
    np.testing.assert_allclose(found.quadratic, quadratic, rtol=1e-9, atol=1e-11 * np.abs(quadratic).max())


def test_the_fmllr_objective_is_the_slow_twins_but_for_a_constant():
    mixtures = random_mixtures(1)
    frames = 3 * np.random.default_rng(2).standard_normal((40, 3))
    given = entries(3, 40, 3, 60)
    statistics = fmllr_statistics(mixtures, frames, *given)
    differences = [
        statistics.objective(transform)
        - naive.transformed_log_likelihood(mixtures, frames, *given, transform.matrix, transform.offset)
        for transform in (LinearTransform.identity(3), near_identity(4), near_identity(5, size=1.0))
    ]
    np.testing.assert_allclose(differences, differences[0], rtol=1e-10)


def test_fmllr_recovers_a_known_distortion():
    mixtures = random_mixtures(7, (3, 2, 4, 1))
    frames, given = drawn(mixtures, [4000] * 4, seed=8)
    distortion = near_identity(10, size=0.15)
    distorted = distortion.apply(frames)
    transform = None
    for _ in range(8):
        transform = estimate_fmllr(fmllr_statistics(mixtures, distorted, *given, current=transform))
    undone = transform.after(distortion)
    # 16000 frames determine each number to about their deviation, 3, over the root of 16000: 0.02 at two deviations.
    np.testing.assert_allclose(undone.matrix, np.eye(3), atol=0.03)
    np.testing.assert_allclose(undone.offset, 0.0, atol=0.06)


def speaker(seed, n_frames=150):
    mixtures = random_mixtures(seed)
    frames, given = drawn(mixtures, [n_frames] * 3, seed)
    return mixtures, near_identity(seed + 1).apply(frames), given


@pytest.mark.parametrize("seed", range(6))
def test_another_optimiser_does_no_better_than_fmllr(seed):
    mixtures, frames, given = speaker(seed)
    statistics = fmllr_statistics(mixtures, frames, *given)
    transform = estimate_fmllr(statistics, minimum_frames=0, **TO_THE_END)

    def loss(flat):
        extended = flat.reshape(3, 4)
        return -statistics.objective(LinearTransform(extended[:, :3], extended[:, 3])) / statistics.count

    optimum = np.column_stack([transform.matrix, transform.offset]).ravel()
    # Slopes by differences are known to about 1e-6 of the second derivatives, which are near 30.
    assert np.abs(approx_fprime(optimum, loss, 1e-7)).max() < 1e-4
    start = np.column_stack([np.eye(3), np.zeros(3)]).ravel()
    assert loss(optimum) < minimize(loss, start, method="BFGS").fun + 1e-8
    assert loss(optimum) < loss(start) - 0.01


@pytest.mark.parametrize("seed", range(4))
def test_repeated_fmllr_never_makes_frames_less_likely(seed):
    mixtures, frames, given = speaker(seed)
    transform = LinearTransform.identity(3)
    likelihoods = []
    for _ in range(5):
        moved = transform.apply(frames)
        per_frame = [
            mixture.log_likelihoods(moved[given[0] == number]).sum()
            for number, mixture in enumerate(mixtures)
        ]
        likelihoods.append(sum(per_frame) + len(frames) * transform.log_determinant)
        transform = estimate_fmllr(
            fmllr_statistics(mixtures, frames, *given, current=transform), minimum_frames=0, **TO_THE_END
        )
    # Each round begins at the identity, but goes to its optimum.
    assert np.diff(likelihoods).min() > -1e-9 * len(frames)
    assert likelihoods[-1] > likelihoods[0] + 0.1 * len(frames)


def test_a_row_update_never_lets_the_objective_fall(monkeypatch):
    from speechgmm.phones import fmllr

    mixtures, frames, given = speaker(11)
    statistics = fmllr_statistics(mixtures, frames, *given)
    seen = []
    sweep = fmllr._sweep

    def recorded(extended, *others):
        result = sweep(extended, *others)
        for row in range(4):
            # Rows up to this one are new: what the objective is after each update within the sweep.
            part = np.concatenate([result[:row], extended[row:]])
            seen.append(statistics.objective(LinearTransform(part[:, :-1], part[:, -1])))
        return result

    monkeypatch.setattr(fmllr, "_sweep", recorded)
    estimate_fmllr(statistics, minimum_frames=0, **TO_THE_END)
    assert len(seen) > 20
    assert np.diff(seen).min() > -1e-9 * statistics.count


@pytest.mark.parametrize("a", [0.3, 2.0, 1e8])
@pytest.mark.parametrize("b", [-1e6, -3.0, 0.0, 0.7, 1e6])
def test_the_best_factor_is_the_best_of_a_grid(a, b):
    from speechgmm.phones.fmllr import _best_factor

    count = 5.0
    found = _best_factor(a, b, count)

    def value(factor):
        return count * np.log(np.abs(factor * a + b)) - 0.5 * factor**2 * a

    assert found * (found * a + b) == pytest.approx(count, rel=1e-9)
    largest = (abs(b) + np.sqrt(b * b + 4 * a * count)) / a
    grid = np.linspace(-1.37 * largest, 1.37 * largest, 4001)
    with np.errstate(divide="ignore"):
        assert value(found) >= value(grid).max() - 1e-9 * abs(value(found))


def test_the_prior_is_what_frames_of_the_mixtures_give():
    mixtures = random_mixtures(12)
    frames, given = drawn(mixtures, [30000, 60000, 10000], seed=13)
    sampled = fmllr_statistics(mixtures, frames, *given)
    prior = fmllr_prior(mixtures, 1e5, occupancies=[3, 6, 1])
    assert prior.count == sampled.count == 1e5
    # Posteriors of drawn frames are those of the mixtures on average; 1e5 draws settle sums to about 1 %.
    np.testing.assert_allclose(prior.linear, sampled.linear, atol=0.01 * np.abs(prior.linear).max())
    np.testing.assert_allclose(prior.quadratic, sampled.quadratic, atol=0.01 * np.abs(prior.quadratic).max())


@pytest.mark.parametrize("far", [0.0, -500.0])
def test_the_best_transform_of_the_prior_is_the_identity(far):
    mixtures = random_mixtures(14, (4, 2, 8), n_features=6, far=far)
    transform = estimate_fmllr(fmllr_prior(mixtures, 1000.0), minimum_frames=0)
    np.testing.assert_allclose(transform.matrix, np.eye(6), atol=1e-7)
    np.testing.assert_allclose(transform.offset, 0.0, atol=1e-4 if far else 1e-7)


def test_a_prior_draws_the_transform_of_few_frames_to_the_identity():
    mixtures, frames, given = speaker(15, n_frames=20)
    statistics = fmllr_statistics(mixtures, frames, *given)
    free = estimate_fmllr(statistics, minimum_frames=0, **TO_THE_END)
    away = []
    for n_frames in (1e-3, 10.0, 100.0, 1e3, 1e6):
        drawn_back = estimate_fmllr(statistics, fmllr_prior(mixtures, n_frames), **TO_THE_END)
        away.append(np.abs(drawn_back.matrix - np.eye(3)).max())
    assert np.abs(free.matrix - np.eye(3)).max() == pytest.approx(away[0], rel=1e-2)
    assert (np.diff(away) < 0).all() and away[-1] < 1e-3


def test_no_frames_at_all_give_the_identity_with_a_prior():
    mixtures = random_mixtures(16)
    nothing = fmllr_statistics(mixtures, np.zeros((0, 3)), [], [], [])
    transform = estimate_fmllr(nothing, fmllr_prior(mixtures, 50.0))
    np.testing.assert_allclose(transform.matrix, np.eye(3), atol=1e-8)


def test_too_few_frames_without_a_prior_give_the_identity_and_say_so():
    mixtures, frames, given = speaker(17, n_frames=20)
    statistics = fmllr_statistics(mixtures, frames, *given)
    with pytest.warns(
        SpeechGMMWarning, match=r"60 frames are too few to adapt to \(the limit is 1500\)"
    ) as seen:
        assert estimate_fmllr(statistics) == LinearTransform.identity(3)
    assert seen[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert estimate_fmllr(statistics, minimum_frames=60 - 1e-6) != LinearTransform.identity(3)


def test_fmllr_statistics_add():
    mixtures, frames, _ = speaker(18)
    pdfs, rows, weights = entries(3, len(frames), 3, 60)
    whole = fmllr_statistics(mixtures, frames, pdfs, rows, weights)
    first = fmllr_statistics(mixtures, frames, pdfs[:20], rows[:20], weights[:20])
    total = first + fmllr_statistics(mixtures, frames, pdfs[20:], rows[20:], weights[20:])
    assert total.count == pytest.approx(whole.count)
    np.testing.assert_allclose(total.linear, whole.linear, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(total.quadratic, whole.quadratic, rtol=1e-9, atol=1e-9)


SMALL = FmllrStatistics(1.0, np.zeros((2, 3)), np.zeros((2, 3, 3)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: SMALL + fmllr_prior(random_mixtures(0), 1.0),
            "statistics of 2 and 3 features cannot be added",
        ),
        (
            lambda: SMALL.objective(LinearTransform.identity(3)),
            "transform needs 3 features; the statistics are of 2",
        ),
        (lambda: estimate_fmllr(SMALL, minimum_frames=0), "do not determine a transform.*`prior`"),
        (
            lambda: fmllr_prior(random_mixtures(0), 0.0),
            "`n_frames` is 0.0; it must be a number of frames above 0",
        ),
        (lambda: fmllr_prior(random_mixtures(0), 1.0, [1, 2]), r"each of 3 mixtures.*the shape \(2,\)"),
        (lambda: fmllr_prior(random_mixtures(0), 1.0, [0, 0, 0]), "not all of them 0"),
        (lambda: fmllr_prior(random_mixtures(0), 1.0, [1, -1, 0]), "one number from 0"),
        (lambda: fmllr_prior([], 1.0), "`mixtures` is empty"),
    ],
)
def test_fmllr_says_what_does_not_fit(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_a_constant_feature_is_refused_with_the_likely_cause():
    mixtures, frames, given = speaker(19)
    frames[:, 1] = 2.0
    with pytest.raises(InputError, match="a feature is constant or follows from others"):
        estimate_fmllr(fmllr_statistics(mixtures, frames, *given), minimum_frames=0)
