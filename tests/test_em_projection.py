"""Log-densities as matrix products: which components need float64, and that they get it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechgmm.em import Coordinates, Mixture
from speechgmm.em.projection import Projection, working_coordinates
from speechgmm.em.statistics import accumulate
from speechgmm.em.terms import LOG2_OF_NOTHING, n_terms, terms_of
from speechgmm.errors import InputError
from tests import naive

UNIT = Coordinates(np.zeros(3), np.ones(3))
every_type = pytest.mark.parametrize("covariance_type", naive.COVARIANCE_TYPES)


def mixture(deviation, distance, covariance_type="diag"):
    """A broad component at the origin, and one of the given deviation at the given distance; tied ones are alike."""
    means = np.array([[0.0, 0.0, 0.0], [distance, -distance, distance]])
    variances = np.array([1.0, deviation**2])
    covariances = {
        "diag": np.tile(variances[:, None], 3),
        "full": variances[:, None, None] * np.eye(3),
        "tied": deviation**2 * np.eye(3),
        "spherical": variances,
    }[covariance_type]
    return Mixture(np.array([0.7, 0.3]), means, covariances, covariance_type)


class TestProduct:
    @every_type
    @given(st.integers(0, 10_000), st.floats(-500, 500), st.integers(-10, 10), st.integers(1, 6))
    @settings(max_examples=30, deadline=None, derandomize=True)
    def test_one_product_gives_the_log2_densities(self, covariance_type, seed, offset, exponent, n_features):
        scale = 2.0**exponent
        weights, means, covariances = naive.random_parts(seed, covariance_type, 4, n_features)
        moved = Mixture(weights, scale * means + offset, scale**2 * covariances, covariance_type)
        coordinates = Coordinates(np.full(n_features, offset), np.full(n_features, 4 * scale))
        working = working_coordinates(moved, coordinates)
        frames = 3 * scale * np.random.default_rng(seed).standard_normal((50, n_features)) + offset
        projection = Projection.of(moved, working)
        assert projection.exact.shape == (4, n_terms(moved.type.kind, n_features))
        product = projection.exact @ terms_of(working.apply(frames).T, moved.type.kind)
        expected = moved.log_densities(frames) + working.log_volume
        # All in float64; the terms that cancel add up to a few thousand.
        np.testing.assert_allclose(product.T * np.log(2), expected, atol=1e-9)

    def test_full_covariances_in_coordinates_that_turn(self):
        turned = Mixture(*naive.random_parts(3, "full"), "full")
        frames = 3 * np.random.default_rng(0).standard_normal((50, 5))
        working = Coordinates(np.ones(5), np.full(5, 2.0)).whitening(
            np.cov(frames.T) + turned.covariances[0], 1e-6
        )
        product = Projection.of(turned, working).exact @ terms_of(working.apply(frames).T, turned.type.kind)
        expected = turned.log_densities(frames) + working.log_volume
        np.testing.assert_allclose(product.T * np.log(2), expected, atol=1e-9)

    @every_type
    def test_a_weight_of_zero_stays_finite(self, covariance_type):
        parts = mixture(1.0, 1.0, covariance_type)
        nothing = Mixture(np.array([1.0, 0.0]), parts.means, parts.covariances, covariance_type)
        projection = Projection.of(nothing, working_coordinates(nothing, UNIT))
        assert projection.matrix.dtype == np.float32 and projection.matrix.flags.c_contiguous
        assert np.isfinite(projection.matrix).all()
        terms = terms_of(np.ones((3, 4), np.float32), nothing.type.kind)
        assert ((projection.matrix @ terms)[1] <= 0.99 * LOG2_OF_NOTHING).all()

    def test_coordinates_must_suit(self):
        turning = UNIT.whitening(np.eye(3) + 0.5, 1e-6)
        for covariance_type in ("diag", "spherical"):
            with pytest.raises(InputError, match="coordinates that turn frames do not suit variances"):
                Projection.of(mixture(1.0, 1.0, covariance_type), turning)
        uneven = Coordinates(np.zeros(3), np.array([1.0, 2.0, 1.0]))
        with pytest.raises(InputError, match="several scales do not suit spherical covariances"):
            Projection.of(mixture(1.0, 1.0, "spherical"), uneven)


class TestSideBySide:
    def test_rows_are_those_of_each_and_ones_that_never_matter(self):
        parts = [
            Mixture(*naive.random_parts(seed, "diag", size, 3)) for seed, size in ((0, 2), (1, 4), (2, 1))
        ]
        apart = [Projection.of(part, UNIT) for part in parts]
        together = Projection.side_by_side(apart)
        assert together.matrix.shape == (12, 7)
        rows = together.matrix.reshape(3, 4, 7)
        for index, projection in enumerate(apart):
            size = len(projection.matrix)
            np.testing.assert_array_equal(rows[index, :size], projection.matrix)
            assert (rows[index, size:, -1] == np.float32(LOG2_OF_NOTHING)).all()
            assert (rows[index, size:, :-1] == 0).all()

    def test_what_is_sharp_in_one_is_sharp_in_all(self):
        together = Projection.side_by_side(
            [Projection.of(mixture(1.0, 1.0), UNIT), Projection.of(mixture(0.03, 2.0), UNIT)]
        )
        assert together.sharp.tolist() == [3] and not together.too_sharp
        np.testing.assert_array_equal(together.sharp_rows, Projection.of(mixture(0.03, 2.0), UNIT).exact[[1]])


class TestSharp:
    @pytest.mark.parametrize(
        ("deviation", "distance", "sharp", "too_sharp"),
        [
            (1.0, 2.0, [], False),
            (0.1, 0.5, [], False),  # 3 x (0.5 / 0.1)² = 75
            (0.03, 2.0, [1], False),  # 13,000
            (1e-3, 2.0, [1], False),  # 12,000,000
            (1e-5, 2.0, [1], True),  # 120,000,000,000
            (1e-7, 0.0, [1], True),  # too narrow, wherever it lies
        ],
    )
    @pytest.mark.parametrize("covariance_type", ["diag", "full", "spherical"])
    def test_sharp_components_are_found(self, covariance_type, deviation, distance, sharp, too_sharp):
        projection = Projection.of(mixture(deviation, distance, covariance_type), UNIT)
        assert projection.sharp.tolist() == sharp
        assert projection.too_sharp == too_sharp
        assert (projection.matrix[sharp] == 0).all()

    @pytest.mark.parametrize(
        ("deviation", "sharp", "too_sharp"), [(1.0, [], False), (0.03, [1], False), (1e-5, [1], True)]
    )
    def test_tied_ones_by_how_far_they_lie_apart(self, deviation, sharp, too_sharp):
        narrow = mixture(deviation, 2.0, "tied")
        projection = Projection.of(narrow, working_coordinates(narrow, UNIT))
        assert projection.sharp.tolist() == sharp
        assert projection.too_sharp == too_sharp

    def test_correlation_counts(self):
        # Narrow across the diagonal, broad along it: variances alone look harmless.
        matrix = np.array([[1.0, 0.9999], [0.9999, 1.0]])
        parts = np.ones(1), np.array([[5.0, -5.0]]), matrix[None]
        projection = Projection.of(Mixture(*parts, "full"), Coordinates(np.zeros(2), np.ones(2)))
        assert projection.sharp.tolist() == [0]

    @pytest.mark.parametrize("deviation", [1.0, 0.1, 0.03, 0.01, 0.005])
    @every_type
    def test_likelihoods_keep_their_digits_near_a_narrow_component(self, covariance_type, deviation):
        sharp = mixture(deviation, 2.0, covariance_type)
        # Frames that float32 holds exactly, so that only the products are judged; enough for the compiled pass.
        frames = sharp.sample(1500, seed=1).astype(np.float32)
        found = accumulate(sharp, frames, UNIT).mean_log_likelihood
        # Terms of the product that are not sharp add up to 1000 at the most, 6e-8 of that in each frame.
        assert found == pytest.approx(sharp.log_likelihoods(frames).mean(), abs=1e-5)

    @pytest.mark.parametrize("deviation", [0.01, 1e-3, 1e-5])
    @every_type
    def test_statistics_of_a_narrow_component_keep_their_digits(self, covariance_type, deviation):
        sharp = mixture(deviation, 2.0, covariance_type)
        frames = sharp.sample(2000, seed=2)
        found = accumulate(sharp, frames, UNIT)
        zeroth, first, second, *_ = naive.statistics(sharp, frames, UNIT.origin, UNIT.scale)
        covariances = sharp.type.estimate(found.zeroth, found.first / found.zeroth[:, None], found.second)
        expected = sharp.type.estimate(zeroth, first / zeroth[:, None], second)
        # In float32 the squares near 4 would leave 1e-4 of a variance of 1e-4 as 0.5 %; posteriors are float32 still.
        # Of a variance of 1e-10 float64 squares near 4 leave five digits.
        tolerance = 1e-5 if deviation > 1e-4 else 1e-4
        narrow = ... if covariance_type == "tied" else 1
        np.testing.assert_allclose(
            covariances[narrow], expected[narrow], atol=tolerance * deviation**2, rtol=0
        )
