"""em.mixture, em.coordinates and em.kernels: densities against loops and scipy, and what is refused."""

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

import speechgmm
from speechgmm.em import kernels
from speechgmm.em.coordinates import Coordinates, constant_dimensions, reference_variance
from speechgmm.em.mixture import Mixture, log_sum_exp
from speechgmm.em.projection import Projection
from speechgmm.errors import InputError, SpeechGMMWarning
from tests import naive


def random_mixture(seed=0, n_components=4, n_features=5, spread=2.0):
    rng = np.random.default_rng(seed)
    return Mixture(
        weights=rng.dirichlet(np.full(n_components, 5.0)),
        means=spread * rng.standard_normal((n_components, n_features)),
        covariances=np.exp(rng.uniform(-1.5, 1.5, (n_components, n_features))),
    )


def random_frames(seed=0, n_frames=50, n_features=5):
    return 3.0 * np.random.default_rng(seed).standard_normal((n_frames, n_features))


class TestDensities:
    @given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 6), st.integers(1, 9))
    @settings(max_examples=40, deadline=None, derandomize=True)
    def test_they_are_those_of_plain_loops(self, seed, n_components, n_features, n_frames):
        mixture = random_mixture(seed, n_components, n_features)
        frames = random_frames(seed + 1, n_frames, n_features)
        expected = naive.log_densities(mixture, frames)
        # Double precision on both sides; only the order of the sums differs.
        np.testing.assert_allclose(mixture.log_densities(frames), expected, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(mixture.posteriors(frames), naive.posteriors(mixture, frames), atol=1e-12)
        np.testing.assert_allclose(
            mixture.log_likelihoods(frames), naive.log_likelihoods(mixture, frames), rtol=1e-12, atol=1e-12
        )

    def test_they_are_those_of_scipy(self):
        mixture, frames = random_mixture(), random_frames(n_frames=1030)  # more than two blocks
        for k in range(mixture.n_components):
            normal = multivariate_normal(mixture.means[k], np.diag(mixture.covariances[k]))
            expected = np.log(mixture.weights[k]) + normal.logpdf(frames)
            np.testing.assert_allclose(mixture.log_densities(frames)[:, k], expected, rtol=1e-12)

    def test_posteriors_sum_to_one_also_far_from_every_component(self):
        mixture = random_mixture()
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
    def test_it_has_the_moments_of_the_mixture(self):
        mixture = random_mixture()
        frames = mixture.sample(200_000, seed=3)
        mean = mixture.weights @ mixture.means
        variance = mixture.weights @ (mixture.covariances + mixture.means**2) - mean**2
        # Five standard errors of the mean; a variance of 200 000 frames is good to about 1 %.
        assert (np.abs(frames.mean(axis=0) - mean) < 5 * np.sqrt(variance / 200_000)).all()
        np.testing.assert_allclose(frames.var(axis=0), variance, rtol=0.03)

    def test_each_component_gets_its_share_and_its_spread(self):
        mixture = Mixture(np.array([0.2, 0.8]), np.array([[-50.0], [50.0]]), np.array([[4.0], [1.0]]))
        frames = mixture.sample(50_000, seed=0)[:, 0]
        assert abs((frames < 0).mean() - 0.2) < 0.01
        assert abs(frames[frames < 0].std() - 2.0) < 0.05
        assert abs(frames[frames > 0].std() - 1.0) < 0.02

    def test_the_seed_decides(self):
        mixture = random_mixture()
        np.testing.assert_array_equal(mixture.sample(20, seed=1), mixture.sample(20, seed=1))
        assert not np.array_equal(mixture.sample(20, seed=1), mixture.sample(20, seed=2))
        assert mixture.sample(0).shape == (0, 5)


class TestProjection:
    @given(st.integers(0, 10_000), st.floats(-500, 500), st.integers(-10, 10))
    @settings(max_examples=40, deadline=None, derandomize=True)
    def test_one_product_gives_the_log2_densities(self, seed, offset, exponent):
        scale = 2.0**exponent
        near = random_mixture(seed)
        mixture = Mixture(near.weights, scale * near.means + offset, scale**2 * near.covariances)
        coordinates = Coordinates(np.full(5, offset), np.full(5, 4 * scale))
        frames = scale * random_frames(seed) + offset
        x = coordinates.apply(frames)
        expanded = np.concatenate([x, x * x, np.ones((len(x), 1))], axis=1)
        product = expanded @ mixture.projection(coordinates)
        expected = mixture.log_densities(frames) + coordinates.log_volume
        # All in float64; the terms that cancel add up to a few hundred.
        np.testing.assert_allclose(product * np.log(2), expected, atol=1e-10)

    def test_a_weight_of_zero_stays_finite(self):
        mixture = Mixture(np.array([1.0, 0.0]), np.zeros((2, 1)), np.ones((2, 1)))
        projection = Projection(mixture.projection(Coordinates(np.zeros(1), np.ones(1)))).matrix
        assert projection.dtype == np.float32 and projection.flags.c_contiguous
        assert np.isfinite(projection).all()
        assert projection[2, 1] < -1e29


class TestValue:
    def test_keep_scales_the_weights(self):
        mixture = random_mixture()
        kept = mixture.keep(np.array([True, False, True, False]))
        np.testing.assert_array_equal(kept.means, mixture.means[[0, 2]])
        np.testing.assert_array_equal(kept.covariances, mixture.covariances[[0, 2]])
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

    def test_nobody_can_change_a_copy_from_another_process(self):
        copy = pickle.loads(pickle.dumps(random_mixture()))
        with pytest.raises(ValueError, match="read-only"):
            copy.weights[0] = 5.0

    def test_equal_values_are_equal(self):
        mixture = random_mixture()
        assert mixture == random_mixture() and mixture != random_mixture(seed=1)
        assert mixture == pickle.loads(pickle.dumps(mixture))
        assert mixture != "a mixture"
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
            ({"weights": [1.0]}, r"`weights` \(1,\), `means` \(2, 1\) and `covariances` \(2, 1\) disagree"),
            ({"covariances": np.ones((2, 3))}, r"`covariances` \(2, 3\) disagree"),
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


@pytest.fixture(scope="module")
def import_without_cache(tmp_path_factory):
    """Import a copy of the package where every folder that numba could keep compiled code in is blocked."""
    tmp_path = tmp_path_factory.mktemp("no_cache")
    package = tmp_path / "speechgmm"
    shutil.copytree(Path(speechgmm.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "em" / "__pycache__").write_text("a file where the folder should be")
    blocked = {name: os.path.join(os.devnull, "x") for name in ("NUMBA_CACHE_DIR", "HOME", "XDG_CACHE_HOME")}
    environment = {**os.environ, **blocked, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTHONWARNINGS", None)
    program = "import numpy; from speechgmm.em import kernels; print(kernels.exp2(numpy.float32(-2)))"
    return subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )


class TestKernels:
    def test_exp2_is_exact_to_a_few_units_in_the_last_place(self):
        exponents = np.linspace(-60.0, 0.0, 300_001).astype(np.float32)
        # Through the pass that uses it, and so as the compiler vectorises it.
        log2_densities = np.stack([np.zeros_like(exponents), exponents], axis=1)
        expanded = np.ones((len(exponents), 1), np.float32)
        kernels.posteriors(log2_densities, expanded, np.empty_like(expanded))
        exact = np.exp2(exponents.astype(np.float64))
        assert np.abs(log2_densities[:, 1] / exact - 1.0).max() <= 3e-7
        assert (log2_densities[:, 0] == 1.0).all()

    def test_exp2_stops_at_a_value_whose_products_are_normal_numbers(self):
        assert [kernels.exp2(np.float32(x)) for x in (-61.0, -1e4, -1e30)] == [np.float32(2.0**-60)] * 3

    def test_sums_of_classes_are_those_of_numpy(self):
        log2 = (10 * np.random.default_rng(0).standard_normal((40, 3, 6))).astype(np.float32)
        sums = np.ones(3)
        kernels.add_log2_likelihoods(log2, sums)
        expected = 1.0 + np.log2(np.exp2(log2.astype(np.float64)).sum(axis=2)).sum(axis=0)
        np.testing.assert_allclose(sums, expected, rtol=1e-6)  # float32 sums of posteriors

    def test_assign_finds_the_centre_that_loops_find(self):
        rng = np.random.default_rng(0)
        points, centres = rng.standard_normal((300, 3)).astype(np.float32), rng.standard_normal((7, 3))
        labels, error = naive.nearest(points, centres)
        affinities = (points @ centres.T - 0.5 * (centres**2).sum(axis=1)).astype(np.float32)
        sums = np.zeros((7, 3))
        total = kernels.assign(affinities, points, sums)
        np.testing.assert_allclose(sums, [points[labels == k].sum(axis=0) for k in range(7)], atol=1e-5)
        assert (points.astype(np.float64) ** 2).sum() - 2 * total == pytest.approx(error, rel=1e-5)

    def test_without_a_cache_folder_code_is_compiled_anew_with_a_warning(self, monkeypatch):
        calls = []

        def njit(signatures, cache=False, **options):
            calls.append(cache)
            if cache:
                raise RuntimeError("no locator available")
            return lambda function: function

        monkeypatch.setattr(kernels, "njit", njit)
        with pytest.warns(
            SpeechGMMWarning, match=r"cannot be kept \(no locator.*Set NUMBA_CACHE_DIR to"
        ) as caught:
            double = kernels.compiled("float64(float64)")(lambda x: 2 * x)
        assert double(3.0) == 6.0
        assert calls == [True, False] and len(caught) == 1

    def test_one_warning_for_all_kernels(self, import_without_cache):
        assert import_without_cache.stderr.count("SpeechGMMWarning") == 1

    def test_kernels_work_without_any_cache_folder(self, import_without_cache):
        assert import_without_cache.returncode == 0, import_without_cache.stderr
        assert import_without_cache.stdout.strip() == "0.25"
        assert "Set NUMBA_CACHE_DIR to a folder that can be written." in import_without_cache.stderr
