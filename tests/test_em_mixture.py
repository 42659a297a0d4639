"""em.mixture and em.coordinates: densities against loops, SciPy and scikit-learn, and what is refused."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from speechgmm.em.coordinates import Coordinates, constant_dimensions, reference_variance
from speechgmm.em.mixture import Mixture, log_sum_exp
from speechgmm.errors import InputError
from tests import naive

every_type = pytest.mark.parametrize("covariance_type", naive.COVARIANCE_TYPES)


def random_mixture(seed=0, covariance_type="diag", n_components=4, n_features=5):
    parts = naive.random_parts(seed, covariance_type, n_components, n_features)
    return Mixture(*parts, covariance_type)


def random_frames(seed=0, n_frames=50, n_features=5):
    return 3.0 * np.random.default_rng(seed).standard_normal((n_frames, n_features))


class TestDensities:
    @every_type
    @given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 6), st.integers(1, 9))
    @settings(max_examples=40, deadline=None, derandomize=True)
    def test_they_are_those_of_plain_loops(self, covariance_type, seed, n_components, n_features, n_frames):
        mixture = random_mixture(seed, covariance_type, n_components, n_features)
        frames = random_frames(seed + 1, n_frames, n_features)
        expected = naive.log_densities(mixture, frames)
        # Double precision on both sides; only the order of the sums differs.
        np.testing.assert_allclose(mixture.log_densities(frames), expected, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(mixture.posteriors(frames), naive.posteriors(mixture, frames), atol=1e-12)
        np.testing.assert_allclose(
            mixture.log_likelihoods(frames), naive.log_likelihoods(mixture, frames), rtol=1e-12, atol=1e-12
        )

    @every_type
    def test_they_are_those_of_scipy(self, covariance_type):
        mixture = random_mixture(covariance_type=covariance_type)
        frames = random_frames(n_frames=1030)  # more than two blocks
        for k in range(mixture.n_components):
            matrix = np.broadcast_to(mixture.covariances, (4, 5, 5))[k] if covariance_type == "tied" else None
            if covariance_type == "full":
                matrix = mixture.covariances[k]
            elif matrix is None:
                matrix = np.eye(5) * mixture.covariances[k]
            normal = multivariate_normal(mixture.means[k], matrix)
            expected = np.log(mixture.weights[k]) + normal.logpdf(frames)
            np.testing.assert_allclose(mixture.log_densities(frames)[:, k], expected, rtol=1e-12)

    @every_type
    def test_they_are_those_of_scikit_learn_on_real_frames(self, speech_data, covariance_type):
        frames = naive.real_frames(speech_data, 0)[::5].astype(np.float64)
        parts = naive.random_parts(1, covariance_type, 4, frames.shape[1])
        spread = frames.std(axis=0) if covariance_type != "spherical" else np.full(frames.shape[1], 5.0)
        squares = {"diag": spread**2, "spherical": 25.0}.get(covariance_type, np.outer(spread, spread))
        mixture = Mixture(
            parts[0], frames.mean(axis=0) + 0.5 * spread * parts[1], squares * parts[2], covariance_type
        )
        # Both in double precision; scikit-learn multiplies with factors of the precisions.
        expected = naive.peer_of(mixture)._estimate_weighted_log_prob(frames)
        np.testing.assert_allclose(mixture.log_densities(frames), expected, rtol=1e-9, atol=1e-9)

    @every_type
    def test_posteriors_sum_to_one_also_far_from_every_component(self, covariance_type):
        mixture = random_mixture(covariance_type=covariance_type)
        frames = np.concatenate([random_frames(), 1e6 * random_frames(1), np.full((1, 5), -1e30)])
        posteriors = mixture.posteriors(frames)
        np.testing.assert_allclose(posteriors.sum(axis=1), 1.0, rtol=1e-12)
        assert posteriors.min() >= 0
        assert np.isfinite(mixture.log_likelihoods(frames)).all()

    def test_a_weight_of_zero_is_a_density_of_zero(self):
        mixture = Mixture(np.array([1.0, 0.0]), np.zeros((2, 1)), np.ones((2, 1)))
        assert mixture.log_densities([[0.5]])[0, 1] == -np.inf
        assert mixture.posteriors([[0.5]]).tolist() == [[1.0, 0.0]]

    def test_log_sum_exp_does_not_overflow(self):
        np.testing.assert_allclose(
            log_sum_exp(np.array([[1e4, 1e4], [-1e4, -np.inf]])), [1e4 + np.log(2), -1e4]
        )

    def test_values_whose_squares_overflow_are_refused(self):
        with pytest.raises(InputError, match="so large that their squares overflow"):
            random_mixture().log_likelihoods(np.full((1, 5), 1e200))

    @pytest.mark.parametrize(
        ("frames", "message"),
        [
            (
                np.zeros(5),
                r"`frames` has 1 dimensions; it must have 2: .* \(one feature a frame\? use frames\[:, None\]",
            ),
            (np.zeros((2, 5, 1)), r"`frames` has 3 dimensions; it must have 2: \(n_frames, n_features\)$"),
            (
                np.zeros((3, 2)),
                r"`frames` has 2 features; the mixture has 5 \(deltas missing, or other settings\?\)",
            ),
            (np.zeros((3, 0)), r"`frames` has no features \(shape \(3, 0\)\)"),
            (np.array([["a", "b"]]), "`frames` holds <U1 values; numbers are needed"),
            (
                [[0, 0, 0, np.nan, 0]],
                "`frames` has the value nan at frame 0, feature 3; every value must be finite",
            ),
            ([[0, 0, 0, 0, 0], [0, np.inf, 0, 0, 0]], "the value inf at frame 1, feature 1"),
        ],
    )
    def test_what_cannot_be_frames_is_refused(self, frames, message):
        with pytest.raises(InputError, match=message):
            random_mixture().log_densities(frames)


class TestSample:
    @every_type
    def test_it_has_the_moments_of_the_mixture(self, covariance_type):
        mixture = random_mixture(covariance_type=covariance_type)
        frames = mixture.sample(200_000, seed=3)
        mean = mixture.weights @ mixture.means
        matrices = (
            np.array(naive.matrices_of(mixture)) + mixture.means[:, :, None] * mixture.means[:, None, :]
        )
        covariance = np.einsum("k,kij->ij", mixture.weights, matrices) - np.outer(mean, mean)
        variance = np.diagonal(covariance)
        # Five standard errors of the mean; a variance of 200 000 frames is good to about 1 %.
        assert (np.abs(frames.mean(axis=0) - mean) < 5 * np.sqrt(variance / 200_000)).all()
        deviations = np.sqrt(np.outer(variance, variance))
        np.testing.assert_allclose(np.cov(frames.T) / deviations, covariance / deviations, atol=0.03)

    def test_each_component_gets_its_share_and_its_spread(self):
        mixture = Mixture(np.array([0.2, 0.8]), np.array([[-50.0], [50.0]]), np.array([[4.0], [1.0]]))
        frames = mixture.sample(50_000, seed=0)[:, 0]
        assert abs((frames < 0).mean() - 0.2) < 0.01
        assert abs(frames[frames < 0].std() - 2.0) < 0.05
        assert abs(frames[frames > 0].std() - 1.0) < 0.02

    @every_type
    def test_each_component_has_its_own_covariance(self, covariance_type):
        mixture = random_mixture(2, covariance_type, n_components=2, n_features=3)
        apart = Mixture(
            mixture.weights, mixture.means + np.array([[-1e3], [1e3]]), mixture.covariances, covariance_type
        )
        frames = apart.sample(60_000, seed=0)
        for k, matrix in enumerate(naive.matrices_of(mixture)):
            own = frames[(frames[:, 0] > 0) == (k == 1)]
            # About 2 % from some 20 000 frames, five times over.
            np.testing.assert_allclose(np.cov(own.T), matrix, atol=0.1 * np.max(matrix))

    def test_the_seed_decides(self):
        mixture = random_mixture()
        np.testing.assert_array_equal(mixture.sample(20, seed=1), mixture.sample(20, seed=1))
        assert not np.array_equal(mixture.sample(20, seed=1), mixture.sample(20, seed=2))
        assert mixture.sample(0).shape == (0, 5)


class TestValue:
    @every_type
    def test_keep_scales_the_weights(self, covariance_type):
        mixture = random_mixture(covariance_type=covariance_type)
        kept = mixture.keep(np.array([True, False, True, False]))
        assert kept.covariance_type == covariance_type
        np.testing.assert_array_equal(kept.means, mixture.means[[0, 2]])
        own = mixture.covariances if covariance_type == "tied" else mixture.covariances[[0, 2]]
        np.testing.assert_array_equal(kept.covariances, own)
        np.testing.assert_allclose(kept.weights, mixture.weights[[0, 2]] / mixture.weights[[0, 2]].sum())
        assert mixture.keep(np.arange(4)[::-1]).means[0].tolist() == mixture.means[3].tolist()

    def test_nobody_can_change_it(self):
        weights, means, covariances = np.ones(1), np.zeros((1, 2)), np.ones((1, 2))
        mixture = Mixture(weights, means, covariances)
        means[0, 0] = 7.0
        assert mixture.means[0, 0] == 0.0
        for name in ("weights", "means", "covariances"):
            with pytest.raises(ValueError, match="read-only"):
                getattr(mixture, name)[0] = 5.0
            with pytest.raises(AttributeError, match=f"cannot assign to field '{name}'"):
                setattr(mixture, name, weights)

    @every_type
    def test_nobody_can_change_a_copy_from_another_process(self, covariance_type):
        mixture = random_mixture(covariance_type=covariance_type)
        copy = pickle.loads(pickle.dumps(mixture))
        assert copy == mixture and copy.covariance_type == covariance_type
        with pytest.raises(ValueError, match="read-only"):
            copy.weights[0] = 5.0

    def test_equal_values_are_equal(self):
        mixture = random_mixture()
        assert mixture == random_mixture() and mixture != random_mixture(seed=1)
        assert mixture == pickle.loads(pickle.dumps(mixture))
        assert mixture != "a mixture"
        one = np.ones(1), np.zeros((1, 1)), np.ones((1, 1))
        assert Mixture(*one, "diag") != Mixture(*one, "tied")  # the same numbers, another meaning
        assert (mixture.n_components, mixture.n_features) == (4, 5)
        with pytest.raises(TypeError, match="unhashable"):
            hash(mixture)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"weights": [0.5, np.nan]}, "mixture `weights` has values that are not finite"),
            ({"means": [[np.inf], [0]]}, "mixture `means` has values that are not finite"),
            ({"covariances": [[-np.inf], [1]]}, "mixture `covariances` has values that are not finite"),
            (
                {"weights": 1.0},
                r"`weights` \(\) and `means` \(2, 1\) must have the shapes \(n_components,\) and",
            ),
            ({"means": [0.0, 1.0]}, r"`weights` \(2,\) and `means` \(2,\) must have the shapes"),
            (
                {"means": np.zeros((2, 0)), "covariances": np.ones((2, 0))},
                r"`means` \(2, 0\) must have the shapes",
            ),
            (
                {"weights": [1.0]},
                r"`weights` \(1,\), `means` \(2, 1\) and diag `covariances` \(2, 1\) disagree",
            ),
            ({"covariances": np.ones((2, 3))}, r"diag `covariances` \(2, 3\) disagree"),
            ({"means": [[1e38], [0.0]]}, "`means` reach 1e\\+38 .*beyond what can be computed with"),
            ({"covariances": [[1e75], [1.0]]}, "`covariances` 1e\\+75; that is beyond"),
            ({"covariances": [[1.0], [0.0]]}, "`covariances` has the value 0.0; it must be positive"),
            ({"covariances": [[1.0], [-2.0]]}, "`covariances` has the value -2.0; it must be positive"),
            (
                {"weights": [0.5, 0.6]},
                r"`weights` sum to 1.1, the least is 0.5; they must not be negative and",
            ),
            ({"weights": [1.5, -0.5]}, "`weights` sum to 1.0, the least is -0.5"),
        ],
    )
    def test_what_is_no_mixture_is_refused(self, changes, message):
        parts = {"weights": [0.5, 0.5], "means": [[0.0], [1.0]], "covariances": [[1.0], [1.0]], **changes}
        with pytest.raises(InputError, match=message):
            Mixture(**{name: np.asarray(value, np.float64) for name, value in parts.items()})


class TestTypes:
    @pytest.mark.parametrize(
        ("covariance_type", "covariances", "message"),
        [
            ("full", np.ones((2, 3)), r"full `covariances` \(2, 3\) disagree"),
            ("full", np.eye(3), r"full `covariances` \(3, 3\) disagree"),
            ("tied", np.stack([np.eye(3)] * 2), r"tied `covariances` \(2, 3, 3\) disagree"),
            ("spherical", np.ones((2, 3)), r"spherical `covariances` \(2, 3\) disagree"),
            ("diag", np.ones(2), r"diag `covariances` \(2,\) disagree"),
            ("tied", -np.eye(3), "`covariances` has the value -1.0; it must be positive"),
            ("spherical", np.array([1.0, 0.0]), "`covariances` has the value 0.0; it must be positive"),
            ("tied", np.eye(3) + np.eye(3, k=1), "`covariances` has a matrix that is not symmetric"),
            ("tied", np.ones((3, 3)), r"not positive definite \(features that depend on one another\?\)"),
            ("full", np.stack([np.eye(3), np.ones((3, 3))]), "a matrix that is not positive definite"),
            ("diagonal", np.ones((2, 3)), "is 'diagonal'; it must be one of diag, full, tied, spherical"),
            ("Full", np.ones((2, 3)), "`covariance_type` is 'Full'; it must be one of"),
        ],
    )
    def test_what_is_no_mixture_is_refused(self, covariance_type, covariances, message):
        with pytest.raises(InputError, match=message):
            Mixture(np.full(2, 0.5), np.zeros((2, 3)), covariances, covariance_type)

    @every_type
    def test_parameters_and_criteria_are_those_of_scikit_learn(self, covariance_type):
        mixture, frames = random_mixture(covariance_type=covariance_type), random_frames()
        peer = naive.peer_of(mixture)
        total = mixture.log_likelihoods(frames).sum()
        assert mixture.n_parameters == peer._n_parameters()
        # The same numbers in double precision.
        assert mixture.bic(total, len(frames)) == pytest.approx(peer.bic(frames), rel=1e-12)
        assert mixture.aic(total) == pytest.approx(peer.aic(frames), rel=1e-12)

    @every_type
    def test_variances_and_deviations(self, covariance_type):
        mixture = random_mixture(covariance_type=covariance_type)
        matrices = np.array(naive.matrices_of(mixture))
        np.testing.assert_array_equal(mixture.variances, matrices.diagonal(axis1=1, axis2=2))
        assert mixture.has_matrices == (covariance_type in ("full", "tied"))
        for k in range(4):
            # One deviation along each axis of the factor: a squared distance of as many as there are features.
            step = mixture.deviations(k)
            assert step @ np.linalg.solve(matrices[k], step) == pytest.approx(5.0, rel=1e-9)

    @every_type
    @pytest.mark.parametrize("to", ["diag", "full"])
    def test_as_another_type_it_has_the_same_densities(self, covariance_type, to):
        mixture, frames = random_mixture(covariance_type=covariance_type), random_frames()
        if to == "diag" and mixture.has_matrices:
            with pytest.raises(
                InputError, match=f"a mixture of {covariance_type} cov.* is none of diag ones"
            ):
                mixture.with_type(to)
            return
        other = mixture.with_type(to)
        assert other.covariance_type == to
        # A matrix goes through its factor: a few roundings in double precision.
        np.testing.assert_allclose(other.log_densities(frames), mixture.log_densities(frames), rtol=1e-12)


class TestCoordinates:
    def test_both_values_are_exact_in_float32(self):
        coordinates = Coordinates(np.array([-500.123456789, 0.1]), np.array([3.0, 0.4]))
        assert (coordinates.origin == coordinates.origin.astype(np.float32)).all()
        assert coordinates.scale.tolist() == [4.0, 0.5]
        assert coordinates.log_volume == pytest.approx(np.log(2.0))
        np.testing.assert_array_equal(
            coordinates.apply(coordinates.origin[None] + [[4.0, 1.0]]), [[1.0, 2.0]]
        )

    def test_moments_give_values_of_order_one(self):
        frames = random_frames(n_frames=500) * [1e-6, 1.0, 1e5, 3.0, 1.0] + [0, -500, 1e4, 0, 7]
        x = Coordinates.from_moments(frames.mean(axis=0), frames.var(axis=0)).apply(frames)
        assert np.abs(x.mean(axis=0)).max() < 1e-3
        assert (x.std(axis=0) > 0.7).all() and (x.std(axis=0) < 1.42).all()

    def test_same_as_looks_at_both(self):
        one = Coordinates(np.zeros(2), np.ones(2))
        assert one.same_as(Coordinates(np.zeros(2), np.ones(2)))
        assert not one.same_as(Coordinates(np.zeros(2), np.array([1.0, 2.0])))
        assert not one.same_as(Coordinates(np.array([0.0, 1.0]), np.ones(2)))

    def test_a_constant_dimension_gets_a_variance_of_its_own(self):
        mean, variance = np.array([0.0, -500.0, -500.0, 2.0]), np.array([0.0, 0.0, 1e-8, 3.0])
        assert constant_dimensions(mean, variance).tolist() == [True, True, True, False]
        np.testing.assert_allclose(reference_variance(mean, variance), [1.0, 0.25, 0.25, 3.0])

    @pytest.mark.parametrize("turned", [False, True])
    def test_there_and_back(self, turned):
        rng = np.random.default_rng(0)
        coordinates = Coordinates(rng.normal(size=3), np.array([0.5, 8.0, 1.0]))
        matrix = np.cov(rng.standard_normal((20, 3)).T) * np.outer([1.0, 9.0, 1.0], [1.0, 9.0, 1.0])
        if turned:
            coordinates = coordinates.whitening(matrix, 1e-6)
        frames = rng.standard_normal((7, 3))
        np.testing.assert_allclose(coordinates.undo(coordinates.apply(frames)), frames, atol=1e-12)
        inside = coordinates.apply_to_matrices(matrix)
        np.testing.assert_allclose(coordinates.undo_matrices(inside), matrix, atol=1e-11)
        # Densities shrink as volume grows.
        volume = 0.5 * (np.linalg.slogdet(matrix)[1] - np.linalg.slogdet(inside)[1])
        assert coordinates.log_volume == pytest.approx(volume, abs=1e-9)

    def test_whitening_gives_frames_the_identity_as_covariance(self):
        rng = np.random.default_rng(1)
        frames = rng.standard_normal((500, 4)) @ rng.standard_normal((4, 4)) * [1, 100, 1e-3, 1] - 500
        plain = Coordinates.from_moments(frames.mean(axis=0), frames.var(axis=0))
        x = plain.whitening(np.cov(frames.T), 1e-6).apply(frames)
        np.testing.assert_allclose(np.cov(x.T), np.eye(4), atol=1e-9)

    def test_whitening_takes_directions_without_variance_for_small_ones(self):
        frames = np.random.default_rng(2).standard_normal((50, 2)) @ [[1.0, 0, 1.0], [0, 1.0, 1.0]]
        turned = Coordinates(np.zeros(3), np.ones(3)).whitening(np.cov(frames.T), 1e-4)
        assert np.isfinite(turned.transform).all()
        largest = np.linalg.eigvalsh(np.cov(frames.T)).max()
        # The direction that frames lie across, measured in a hundredth of the largest deviation.
        lengths = np.linalg.norm(turned.transform, axis=0)
        np.testing.assert_allclose(lengths.max(), 1 / np.sqrt(1e-4 * largest), rtol=1e-9)

    def test_other_turns_are_not_the_same(self):
        plain = Coordinates(np.zeros(2), np.ones(2))
        turned = plain.whitening(np.array([[2.0, 1.0], [1.0, 2.0]]), 1e-6)
        assert turned.same_as(plain.whitening(np.array([[2.0, 1.0], [1.0, 2.0]]), 1e-6))
        assert not turned.same_as(plain) and not plain.same_as(turned)
        assert not turned.same_as(plain.whitening(np.array([[2.0, 0.9], [0.9, 2.0]]), 1e-6))
