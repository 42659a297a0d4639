"""Parts of the compiled pass, each against NumPy or SciPy in float64: the transform, filters, logarithms, vectors."""

import operator

import numpy as np
import pytest
import scipy.fft
from numba import njit

from speechgmm.compiled import OPTIONS, log
from speechgmm.features import kernels
from speechgmm.features.cepstra import cosine_transform, transform_tables
from speechgmm.features.config import FeatureConfig
from speechgmm.features.filter_bank import filter_bank
from speechgmm.features.lanes import LANES, bits_set, larger, load, reaching, spread, store, turn

SIZES = [2**n for n in range(1, 13)]
# Half a step of float32, relative.
EPSILON = 2.0**-24


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# The Fourier transform.


def spectrum(samples):
    """Complex spectrum of the even samples plus i times the odd ones, and powers, of samples in columns."""
    turns, order, half_turns = transform_tables(len(samples))
    real, imaginary = samples[::2].copy(), samples[1::2].copy()
    powers = np.full((len(samples) // 2 + 1, LANES), np.nan, np.float32)
    kernels.transform(real, imaginary, turns)
    kernels.to_powers(real, imaginary, order, half_turns, powers)
    return (real + 1j * imaginary)[order], powers


def relative_error(actual, expected):
    """Root mean square, relative to what is expected."""
    return np.sqrt(np.mean(np.abs(actual - expected) ** 2) / np.mean(np.abs(expected) ** 2))


@pytest.mark.parametrize("size", [*SIZES, 1 << 17])
def test_transform_is_scipys(size):
    samples = random(size, LANES, seed=size)
    exact = samples.astype(np.float64)
    transformed, powers = spectrum(samples)
    # As random errors of half a step, one a stage: at the longest 17 of them, 2.5e-7.
    expected = scipy.fft.fft(exact[::2] + 1j * exact[1::2], axis=0)
    assert relative_error(transformed, expected) < EPSILON * (1 + np.log2(size) / 2)
    expected = np.abs(scipy.fft.rfft(exact, axis=0)) ** 2
    assert powers.shape == expected.shape
    assert relative_error(powers, expected) < EPSILON * (2 + np.log2(size))
    # No single bin is far off, measured by the size of all.
    assert np.abs(powers - expected).max() < 20 * EPSILON * expected.max()


@pytest.mark.parametrize("size", SIZES)
def test_transform_is_as_accurate_as_scipys_in_float32(size):
    samples = np.concatenate([random(size, LANES, seed=seed) for seed in range(20)], axis=1)
    expected = scipy.fft.rfft(samples.astype(np.float64), axis=0)
    powers = np.concatenate([spectrum(part)[1] for part in np.split(samples, 20, axis=1)], axis=1)
    theirs = scipy.fft.rfft(samples, axis=0)
    assert theirs.dtype == np.complex64
    their_powers = theirs.real**2 + theirs.imag**2
    exact = np.abs(expected) ** 2
    assert relative_error(powers, exact) < 1.5 * relative_error(their_powers, exact)


@pytest.mark.parametrize("size", SIZES)
def test_transform_of_a_tone_is_one_bin(size):
    """Leaks of rounding from a loud bin into silent ones are 130 dB below it."""
    bins = size // 2 + 1
    for first in range(0, bins, max(1, bins // 3)):
        turns = np.arange(size)[:, None] * (np.arange(first, first + LANES) % bins) / size
        powers = spectrum(np.cos(2 * np.pi * turns).astype(np.float32))[1]
        for lane in range(LANES):
            k = (first + lane) % bins
            expected = np.zeros(bins)
            expected[k] = (size if k in (0, size // 2) else size / 2) ** 2
            np.testing.assert_allclose(powers[:, lane], expected, rtol=1e-5, atol=1e-13 * size**2)


@pytest.mark.parametrize("size", [2, 64, 512])
def test_columns_do_not_see_one_another(size):
    samples = random(size, LANES)
    together = spectrum(samples)[1]
    for lane in range(LANES):
        alone = np.zeros((size, LANES), np.float32)
        alone[:, (lane + 5) % LANES] = samples[:, lane]
        np.testing.assert_array_equal(spectrum(alone)[1][:, (lane + 5) % LANES], together[:, lane])


# Filters, peaks, square roots, cepstra.


@pytest.mark.parametrize("scale", ["htk", "slaney", "linear"])
@pytest.mark.parametrize("n_filters", [1, 20, 200])
def test_bands_are_the_dense_matrix_product(scale, n_filters):
    """Of 200 filters many are narrower than a bin is wide, and some hold none."""
    config = FeatureConfig(
        n_filters=n_filters, n_coefficients=1, frequency_scale=scale, high_frequency=7321.0
    )
    filters = filter_bank(config)
    used = [np.flatnonzero(column) for column in filters.T]
    starts = np.array([bins[0] if bins.size else 0 for bins in used])
    stops = np.array([bins[-1] + 1 if bins.size else 0 for bins in used])
    weights = np.concatenate([filters[a:b, i] for i, (a, b) in enumerate(zip(starts, stops, strict=True))])
    powers = np.square(random(len(filters), LANES))
    bands, levels = np.full((2, n_filters, LANES), np.nan, np.float32)
    kernels.to_bands(powers, starts, stops, weights.astype(np.float32), bands, levels)
    expected = filters.T @ powers.astype(np.float64)
    # Terms are positive: n of them, and their weights, are rounded to half a step each.
    np.testing.assert_allclose(bands, expected, rtol=EPSILON * (len(filters) + 1))
    np.testing.assert_allclose(levels[0], expected.sum(axis=0), rtol=EPSILON * (len(filters) + n_filters))
    assert (bands[[bins.size == 0 for bins in used]] == 0).all()


@pytest.mark.parametrize("n_frames", [1, 5, LANES])
def test_highest_is_of_the_frames_there_are(n_frames):
    """The other columns hold whatever the last frames left there; the row to spare is written to, not read."""
    for seed in range(5):
        values = np.square(random(31, LANES, seed=seed))
        values[:-1, n_frames:] += 100
        values[-1] = 1e6
        expected = values[:-1, :n_frames].max()
        before = values[:-1].copy()
        assert kernels.highest(values, n_frames) == expected
        np.testing.assert_array_equal(values[:-1], before)
    assert kernels.highest(np.zeros((2, LANES), np.float32), n_frames) == 0


def test_magnitudes_are_square_roots():
    powers = np.square(random(33, LANES)) * np.logspace(-37, 37, 33, dtype=np.float32)[:, None]
    powers[3] = 0.0
    expected = np.sqrt(powers)
    kernels.to_magnitudes(powers)
    # The processor's own square root, or an approximation refined to a step.
    np.testing.assert_allclose(powers, expected, rtol=2 * EPSILON)


@pytest.mark.parametrize(("n_filters", "kept"), [(40, 20), (23, 13), (3, 1), (128, 128)])
def test_cepstra_are_the_matrix_product(n_filters, kept):
    config = FeatureConfig(n_filters=n_filters, n_coefficients=kept, lifter=22)
    matrix = np.zeros((-(-kept // 4) * 4, n_filters))
    matrix[:kept] = cosine_transform(config)
    bands = random(n_filters, LANES) - np.float32(20.0)
    expected = matrix @ bands.astype(np.float64)
    result = np.full((len(matrix), LANES), np.nan, np.float32)
    kernels.to_cepstra(bands, matrix.astype(np.float32), matrix.sum(axis=1).astype(np.float32), result)
    # Logarithms lie near -20 with a deviation of 1; only C0 has a part in the -20.
    limits = 4 * EPSILON * (np.abs(matrix).sum(axis=1) + 20 * np.abs(matrix.sum(axis=1)) + 1)
    assert (np.abs(result - expected) <= limits[:, None] * np.sqrt(n_filters)).all()


# Logarithms.


def logarithms(values, floor=2.0**-126):
    """Of any number of values, through the kernel for rows of sixteen."""
    rows = np.ones(-(-values.size // LANES) * LANES, np.float32)
    rows[: values.size] = values
    rows = rows.reshape(-1, LANES)
    kernels.to_logarithms(rows, np.float32(floor))
    return rows.ravel()[: values.size]


def assert_logarithms(values):
    """To 1e-7 relative or 6e-8 absolute, as `log` says, and to 1.5 steps of float32 (ulp) where they are not near 0."""
    actual, expected = logarithms(values), np.log(values.astype(np.float64))
    error = np.abs(actual - expected)
    assert (error <= np.maximum(1e-7 * np.abs(expected), 6e-8)).all()
    away = np.abs(expected) > 0.5
    assert (error[away] <= 1.5 * np.spacing(np.abs(expected[away]).astype(np.float32))).all()


@pytest.mark.parametrize(
    ("low", "high", "step"), [(0.5, 2.0, 7), (0.706, 0.708, 1), (0.99, 1.01, 1), (1.414, 1.415, 1)]
)
def test_log_around_one_and_where_its_parts_meet(low, high, step):
    """Every fraction that the polynomial sees, in steps of seven, and every float32 near 1 and sqrt(1/2)."""
    first, last = (np.float32(value).view(np.int32) for value in (low, high))
    assert_logarithms(np.arange(first, last + 1, step, dtype=np.int32).view(np.float32))


def test_log_of_every_magnitude():
    """All normal float32 numbers, every 997th of them: each of the 254 exponents 8 400 times."""
    first, last = (np.float32(value).view(np.int32) for value in (2.0**-126, np.finfo(np.float32).max))
    assert_logarithms(np.arange(first, last, 997, dtype=np.int32).view(np.float32))
    assert_logarithms(np.array([2.0**-126, np.finfo(np.float32).max, 1.0, np.sqrt(0.5)], np.float32))


def test_log_of_powers_of_two_rises_evenly_and_log_of_1_is_0():
    powers = 2.0 ** np.arange(-126, 128)
    np.testing.assert_allclose(logarithms(powers), np.arange(-126, 128) * np.log(2), rtol=EPSILON)
    assert logarithms(np.ones(1))[0] == 0.0


def test_log_never_falls_by_more_than_rounding():
    values = np.arange(np.float32(0.7).view(np.int32), np.float32(0.72).view(np.int32), dtype=np.int32)
    # The part before and after sqrt(1/2) are two polynomials.
    steps = np.diff(logarithms(values.view(np.float32)).astype(np.float64))
    assert steps.min() > -6e-8


@pytest.mark.parametrize("floor", [1e-30, 1e-10, 1.0, 1e10])
def test_what_lies_below_the_floor_is_the_floor(floor):
    values = np.array([0.0, 1e-45, floor / 2, floor, floor * 2, 1e-38, 3e38], np.float32)
    expected = np.log(np.maximum(values, np.float32(floor)).astype(np.float64))
    np.testing.assert_allclose(logarithms(values, floor), expected, rtol=1e-7, atol=6e-8)


def test_log_in_other_compiled_code():
    compiled = njit(**OPTIONS)(lambda value: log(value))
    for value in (1e-30, 0.3, 1.0, 7.0, 1e30):
        assert compiled(np.float32(value)) == logarithms(np.array([value]))[0]


# Vectors.


@njit(**OPTIONS)
def combined(left, right, number, out):
    """Every operation on vectors, one row of `out` each."""
    a, b = load(left, 1), load(right, 2)
    store(out, 0, a + b)
    store(out, 1, a - b)
    store(out, 2, a * b)
    store(out, 3, larger(a, b))
    store(out, 4, spread(number))
    store(out, 5, a)


@njit(**OPTIONS)
def turned(source, start, step, target, row):
    turn(source, start, step, target, row)


def test_operations_are_lane_by_lane():
    left, right, out = random(3, LANES, seed=1), random(3, LANES, seed=2), np.full((7, LANES), 7, np.float32)
    combined(left, right, np.float32(0.1), out)
    for row, operation in enumerate((operator.add, operator.sub, operator.mul, np.maximum)):
        np.testing.assert_array_equal(out[row], operation(left[1], right[2]))
    np.testing.assert_array_equal(out[4], np.full(LANES, 0.1, np.float32))
    np.testing.assert_array_equal(out[5], left[1])
    assert (out[6] == 7).all()


@njit(**OPTIONS)
def reached(array, row, bound):
    found = reaching(load(array, row), bound)
    return found, bits_set(found)


def assert_reached(rows, row, bound):
    expected = rows[row] >= np.float32(bound)
    found, count = reached(rows, row, np.float32(bound))
    assert found == sum(1 << lane for lane in range(LANES) if expected[lane])
    assert count == expected.sum()


@pytest.mark.parametrize("seed", range(5))
def test_lanes_that_reach_a_number_are_bits(seed):
    rows = random(3, LANES, seed=seed)
    for bound in (*rows[1], *np.nextafter(rows[1], np.float32(9)), -9.0, 9.0, 0.0, -0.0, -1e30, 1e30):
        assert_reached(rows, 1, bound)


def test_each_lane_has_its_bit():
    for lane in range(LANES):
        rows = np.full((1, LANES), -1.0, np.float32)
        rows[0, lane] = 2.0
        assert reached(rows, 0, np.float32(2.0)) == (1 << lane, 1)
    rows = np.full((1, LANES), -1e30, np.float32)  # what stands for the logarithm of nothing
    assert reached(rows, 0, np.float32(-1e30)) == ((1 << LANES) - 1, LANES)


def test_bits_are_counted():
    count = njit(**OPTIONS)(lambda number: bits_set(number))
    for number in (0, 1, 2, 3, 0x5555, 0xFFFF, 0x7FFFFFFF, -1):
        assert count(np.int32(number)) == (number & 0xFFFFFFFF).bit_count()


@pytest.mark.parametrize("step", [0, 1, 2, 16, 37, 160])
@pytest.mark.parametrize("start", [0, 1, 5])
def test_turn_transposes(start, step):
    """Row i of the target holds item `start + i`, and the items `step` further on."""
    source = np.arange(start + 15 * step + LANES, dtype=np.float32)  # not one item more
    target = np.full((LANES + 3, LANES), -1, np.float32)
    turned(source, start, step, target, 2)
    expected = start + np.arange(LANES)[:, None] + step * np.arange(LANES)
    np.testing.assert_array_equal(target[2:-1], expected)
    assert (target[[0, 1, -1]] == -1).all()


@pytest.mark.parametrize("offset", [0, 1, 2, 3])
def test_rows_may_lie_anywhere_in_memory(offset):
    memory = random(offset + 4 * LANES, seed=3)
    rows = memory[offset : offset + 3 * LANES].reshape(3, LANES)
    out = np.zeros(offset + LANES * LANES, np.float32)[offset:].reshape(LANES, LANES)
    combined(rows, rows, np.float32(1.0), out)
    np.testing.assert_array_equal(out[0], rows[1] + rows[2])
    turned(memory, offset, 2, out, 0)
    np.testing.assert_array_equal(out[3], memory[offset + 3 : offset + 3 + 2 * LANES : 2])
