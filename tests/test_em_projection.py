"""Log-densities as matrix products: which components need float64, and that they get it."""

import numpy as np
import pytest

from speechgmm.em import Coordinates, Mixture, kernels
from speechgmm.em.projection import LOG2_OF_NOTHING, Projection, in_float64
from speechgmm.em.statistics import accumulate
from tests import naive

UNIT = Coordinates(np.zeros(3), np.ones(3))


def mixture(deviation, distance):
    """A broad component at the origin, and one of the given deviation at the given distance."""
    means = np.array([[0.0, 0.0, 0.0], [distance, -distance, distance]])
    return Mixture(np.array([0.7, 0.3]), means, np.array([[1.0] * 3, [deviation**2] * 3]))


def expanded(frames):
    result = np.empty((len(frames), 7), np.float32)
    kernels.expand(np.ascontiguousarray(frames), *UNIT.in_precision(frames.dtype), result)
    return result


@pytest.mark.parametrize(
    ("deviation", "distance", "sharp", "too_sharp"),
    [
        (1.0, 2.0, [], False),
        (0.1, 1.0, [], False),  # 3 x (1 / 0.1)² = 300
        (0.03, 2.0, [1], False),  # 13,000
        (1e-3, 2.0, [1], True),  # 12,000,000
        (1e-5, 0.0, [1], True),  # too narrow, wherever it lies
    ],
)
def test_sharp_components_are_found(deviation, distance, sharp, too_sharp):
    projection = Projection(mixture(deviation, distance).projection(UNIT))
    assert projection.sharp.tolist() == sharp
    assert projection.too_sharp == too_sharp


@pytest.mark.parametrize("deviation", [1.0, 0.1, 0.03, 0.01, 0.005])
def test_densities_keep_their_digits_near_a_narrow_component(deviation):
    sharp = mixture(deviation, 2.0)
    # Frames that float32 holds exactly, so that only the products are judged.
    frames = sharp.sample(600, seed=1)[:512].astype(np.float32)
    densities = np.empty((512, 2), np.float32)
    Projection(sharp.projection(UNIT)).log2_densities(expanded(frames), densities)
    # Float32 holds densities themselves to 6e-8; those that matter are below 100. Terms of the product that are not
    # sharp add up to 1000 at the most.
    near = np.abs(sharp.log_densities(frames)) < 100
    np.testing.assert_allclose(
        (densities * np.log(2))[near],
        sharp.log_densities(frames)[near],
        atol=1e-4 if deviation >= 0.1 else 2e-5,
    )


def test_statistics_of_a_narrow_component_keep_their_digits():
    sharp = mixture(0.01, 2.0)
    frames = sharp.sample(2000, seed=2).astype(np.float32)
    statistics = accumulate(sharp, frames, UNIT)
    zeroth, first, second, *_ = naive.statistics(sharp, frames, UNIT.origin, UNIT.scale)
    variance = statistics.second[1] / statistics.zeroth[1] - (statistics.first[1] / statistics.zeroth[1]) ** 2
    expected = np.array(second[1]) / zeroth[1] - (np.array(first[1]) / zeroth[1]) ** 2
    # In float32 the squares near 4 would leave 1e-4 of a variance of 1e-4 as 0.5 %; posteriors are float32 still.
    np.testing.assert_allclose(variance, expected, rtol=1e-5)


def test_a_component_without_weight_has_no_density():
    nothing = Mixture(np.array([1.0, 0.0]), np.zeros((2, 3)), np.ones((2, 3)))
    densities = np.empty((4, 2), np.float32)
    Projection(nothing.projection(UNIT)).log2_densities(expanded(np.ones((4, 3))), densities)
    assert np.isfinite(densities).all() and (densities[:, 1] <= 0.99 * LOG2_OF_NOTHING).all()


def test_squares_in_float64_are_exact():
    frames = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    values = frames.astype(np.float64)
    exact = in_float64(expanded(frames))
    np.testing.assert_array_equal(exact, np.concatenate([values, values**2, np.ones((5, 1))], axis=1))
