"""The compiled pass from samples to cepstra: no checks, the interpreter lock released.

Sixteen frames go through the whole chain side by side, in tables of a few ten kilobytes, so nothing but samples and
cepstra ever leaves the nearest cache. What a frame becomes does not depend on the frames beside it.
"""

import numpy as np
from numba import njit, types

from speechgmm.compiled import MATRIX32, OPTIONS, VECTOR32, compiled, inlined, log
from speechgmm.features.lanes import LANES, larger, load, spread, store, turn

SAMPLES = types.Array(types.float32, 1, "C", readonly=True)
INTEGERS = types.int64[::1]


def _sums(source, start, hop, length, means, squared, piece, sums):  # type: ignore[no-untyped-def]
    """The sum of each window's samples, or of their squared distances from `means`."""
    total, mean = spread(np.float32(0.0)), load(means, 0)
    for chunk in range(0, length, LANES):
        turn(source, start + chunk, hop, piece, 0)
        for row in range(min(LANES, length - chunk)):
            value = load(piece, row) - mean
            total = total + (value * value if squared else value)
    store(sums, 0, total)


def _emphasise(source, start, hop, factor, by_frame, means, window, piece, real, imaginary):  # type: ignore[no-untyped-def]
    """Pre-emphasised, windowed samples: the even ones into `real`, the odd ones into `imaginary`.

    `window` is filled up with zeros to a multiple of LANES.
    """
    weight, mean = spread(factor), load(means, 0)
    turn(source, start if by_frame else start - 1, hop, piece, 0)
    before = load(piece, 0) - mean
    for chunk in range(0, window.size, LANES):
        turn(source, start + chunk, hop, piece, 0)
        for row in range(0, LANES, 2):
            n = chunk + row
            even, odd = load(piece, row) - mean, load(piece, row + 1) - mean
            store(real, n >> 1, (even - weight * before) * spread(window[n]))
            store(imaginary, n >> 1, (odd - weight * even) * spread(window[n + 1]))
            before = odd
    nothing = spread(np.float32(0.0))
    for row in range(window.size >> 1, real.shape[0]):
        store(real, row, nothing)
        store(imaginary, row, nothing)


def _mend_edges(samples, first, hop, n_frames, begin, end, factor, means, window, real, imaginary):  # type: ignore[no-untyped-def]
    """Where the audio begins it is taken to have been steady before; beyond both its ends windows hold zeros."""
    for lane in range(n_frames):
        start = first + lane * hop
        for n in range(max(0, min(begin - start, window.size))):
            _half(n, real, imaginary)[n >> 1, lane] = 0.0
        for n in range(max(0, end - start), window.size):
            _half(n, real, imaginary)[n >> 1, lane] = 0.0
        n = begin - start
        if 0 <= n < window.size:
            value = (samples[begin] - means[0, lane]) * (np.float32(1.0) - factor) * window[n]
            _half(n, real, imaginary)[n >> 1, lane] = value


@inlined
def _half(n, real, imaginary):  # type: ignore[no-untyped-def]
    """Where sample n of a window lies."""
    return imaginary if n & 1 else real


def _copy_span(samples, start, span):  # type: ignore[no-untyped-def]
    """Fill `span` with the samples from `start` on, and zeros where there are none."""
    span[:] = 0.0
    inside = samples[max(0, start) : max(0, start + span.size)]
    span[max(0, -start) :][: inside.size] = inside


def _transform(real, imaginary, turns):  # type: ignore[no-untyped-def]
    """Discrete Fourier transforms of the columns, in place, frequencies in the order of `transform_order`.

    Decimation in frequency by four, and by two at the end where needed. Row j of a stage's `turns` holds the powers
    1, 2, 3 of exp(-2 pi i j / size).
    """
    n = real.shape[0]
    size, row = n, 0
    while size >= 4:
        quarter = size >> 2
        for j in range(quarter):
            turn = turns[row + j]
            r1, i1, r2, i2 = spread(turn[0]), spread(turn[1]), spread(turn[2]), spread(turn[3])
            r3, i3 = spread(turn[4]), spread(turn[5])
            for a in range(j, n, size):
                b, c, d = a + quarter, a + 2 * quarter, a + 3 * quarter
                ar, br, cr, dr = load(real, a), load(real, b), load(real, c), load(real, d)
                ai, bi, ci, di = (
                    load(imaginary, a),
                    load(imaginary, b),
                    load(imaginary, c),
                    load(imaginary, d),
                )
                even_r, even_i, odd_r, odd_i = ar + cr, ai + ci, br + dr, bi + di
                left_r, left_i, right_r, right_i = ar - cr, ai - ci, br - dr, bi - di
                store(real, a, even_r + odd_r)
                store(imaginary, a, even_i + odd_i)
                xr, xi = left_r + right_i, left_i - right_r
                store(real, b, xr * r1 - xi * i1)
                store(imaginary, b, xr * i1 + xi * r1)
                xr, xi = even_r - odd_r, even_i - odd_i
                store(real, c, xr * r2 - xi * i2)
                store(imaginary, c, xr * i2 + xi * r2)
                xr, xi = left_r - right_i, left_i + right_r
                store(real, d, xr * r3 - xi * i3)
                store(imaginary, d, xr * i3 + xi * r3)
        row += quarter
        size = quarter
    if size == 2:
        for a in range(0, n, 2):
            ar, ai, br, bi = load(real, a), load(imaginary, a), load(real, a + 1), load(imaginary, a + 1)
            store(real, a, ar + br)
            store(imaginary, a, ai + bi)
            store(real, a + 1, ar - br)
            store(imaginary, a + 1, ai - bi)


def _powers(real, imaginary, order, turns, powers):  # type: ignore[no-untyped-def]
    """Squared magnitudes of the spectra of real windows, whose even and odd samples were transformed as one.

    Row k of `turns` is exp(-2 pi i k / window) / 2: the halves of the sum and difference are taken here too.
    """
    n = real.shape[0]
    half = spread(np.float32(0.5))
    for k in range(n // 2 + 1):
        here, there = order[k], order[(n - k) % n]
        ar, ai, br, bi = load(real, here), load(imaginary, here), load(real, there), load(imaginary, there)
        # The spectra of the even samples, and of the odd ones times i.
        even_r, even_i = (ar + br) * half, (ai - bi) * half
        odd_r, odd_i = ai + bi, br - ar
        tr, ti = spread(turns[k, 0]), spread(turns[k, 1])
        xr, xi = odd_r * tr - odd_i * ti, odd_r * ti + odd_i * tr
        sum_r, sum_i, difference_r, difference_i = even_r + xr, even_i + xi, even_r - xr, even_i - xi
        store(powers, k, sum_r * sum_r + sum_i * sum_i)
        store(powers, n - k, difference_r * difference_r + difference_i * difference_i)


def _filter(powers, starts, stops, weights, bands, levels):  # type: ignore[no-untyped-def]
    """Power in each band, and in all of them."""
    all_bands = spread(np.float32(0.0))
    place = 0
    for band in range(starts.size):
        total = spread(np.float32(0.0))
        for k in range(starts[band], stops[band]):
            total = total + spread(weights[place]) * load(powers, k)
            place += 1
        store(bands, band, total)
        all_bands = all_bands + total
    store(levels, 0, all_bands)


def _to_magnitudes(powers):  # type: ignore[no-untyped-def]
    """Square roots, in place."""
    flat = powers.reshape(powers.size)
    for i in range(flat.size):
        flat[i] = np.sqrt(flat[i])


def _highest(values, n_frames):  # type: ignore[no-untyped-def]
    """The largest of some values >= 0 in the first columns; `values` has a row to spare, which is written to."""
    spare = values.shape[0] - 1
    largest = load(values, 0)
    for row in range(1, spare):
        largest = larger(largest, load(values, row))
    store(values, spare, largest)
    return values[spare, :n_frames].max()


def _to_logarithms(values, floor):  # type: ignore[no-untyped-def]
    """The logarithm of each value, or of the floor where that is higher, in place."""
    flat = values.reshape(values.size)
    for i in range(flat.size):
        flat[i] = log(max(flat[i], floor))


def _to_cepstra(bands, matrix, sums, cepstra):  # type: ignore[no-untyped-def]
    """`matrix` times the log bands. Their mean goes a way of its own: logarithms that are all far from 0 would add up
    to large numbers that must cancel. `sums` are those of the matrix' rows."""
    total = spread(np.float32(0.0))
    for band in range(bands.shape[0]):
        total = total + load(bands, band)
    mean = total * spread(np.float32(1.0 / bands.shape[0]))
    for band in range(bands.shape[0]):
        store(bands, band, load(bands, band) - mean)
    for c in range(0, matrix.shape[0], 4):  # four at a time, so that none waits for its last addition
        s0 = s1 = s2 = s3 = spread(np.float32(0.0))
        for band in range(bands.shape[0]):
            value = load(bands, band)
            s0 = s0 + spread(matrix[c, band]) * value
            s1 = s1 + spread(matrix[c + 1, band]) * value
            s2 = s2 + spread(matrix[c + 2, band]) * value
            s3 = s3 + spread(matrix[c + 3, band]) * value
        # The mean's part comes last: added to its large numbers one by one, small ones would lose their digits.
        store(cepstra, c, s0 + mean * spread(sums[c]))
        store(cepstra, c + 1, s1 + mean * spread(sums[c + 1]))
        store(cepstra, c + 2, s2 + mean * spread(sums[c + 2]))
        store(cepstra, c + 3, s3 + mean * spread(sums[c + 3]))


sums_of, copy_span = (njit(**OPTIONS)(part) for part in (_sums, _copy_span))
emphasise, mend_edges, transform = (njit(**OPTIONS)(part) for part in (_emphasise, _mend_edges, _transform))
to_powers, to_magnitudes, to_bands = (njit(**OPTIONS)(part) for part in (_powers, _to_magnitudes, _filter))
to_logarithms, to_cepstra, highest = (
    njit(**OPTIONS)(part) for part in (_to_logarithms, _to_cepstra, _highest)
)


@compiled(
    types.float32(
        *(SAMPLES, types.int64, types.int64, types.int64, types.int64, types.int64),
        *(types.float32, types.boolean, types.boolean, types.boolean, types.boolean, types.int64, VECTOR32),
        *(MATRIX32, INTEGERS, MATRIX32),
        *(INTEGERS, INTEGERS, VECTOR32, types.float32),
        *(types.int64, MATRIX32, VECTOR32, MATRIX32, VECTOR32, VECTOR32),
    )
)
def analyse(  # type: ignore[no-untyped-def]
    samples, first, hop, n_frames, begin, end,
    factor, by_frame, no_offset, with_energy, magnitude, length, window,
    turns, order, half_turns,
    starts, stops, weights, floor,
    n_values, matrix, sums, cepstra, levels, energies,
):  # fmt: skip
    """Write the cepstra of frames into the first columns of `cepstra`; return the highest power of any band.

    Parameters
    ----------
    samples : (n_samples,) float32
        A piece of the audio, with one sample before each window.
    first, hop : int
        Window i begins at sample `first + i * hop` of the piece.
    n_frames : int
    begin, end : int
        Where in the piece the audio begins and ends; beyond the piece where it does not.
    factor : float
        Of the pre-emphasis.
    by_frame : bool
        Take each frame to have been steady before its first sample, not only the audio.
    no_offset : bool
        Take away the mean of each window.
    with_energy : bool
        Measure the energy of each window.
    magnitude : bool
        Square roots of powers go into the bands.
    length : int
        Of a window.
    window : (length, and zeros up to a multiple of LANES,)
    turns : (n, 6); order : (fft_samples / 2,); half_turns : (fft_samples / 4 + 1, 2)
        Of the Fourier transform: see `transform_tables`.
    starts, stops : (n_filters,); weights : (sum of stops - starts,)
        Bins of each band, and their weights.
    floor : float
        The least power that logarithms are taken of.
    n_values : int
        Cepstra asked for.
    matrix : (n, n_filters); sums : (n,)
        From log powers to cepstra, n the next multiple of 4; the sums of its rows.
    cepstra : (n_frames, at least n_values); levels, energies : (n_frames,)
        Written to: cepstra, power in all bands, and, if asked for, energy of each window before pre-emphasis.
    """
    half_length = order.size
    # One sample before the first window to the last of the last, filled up to whole pieces.
    span = np.empty(1 + (LANES - 1) * hop + window.size, np.float32)
    piece, means = np.empty((LANES, LANES), np.float32), np.zeros((1, LANES), np.float32)
    rows = np.zeros((2, LANES), np.float32)
    # Short windows are filled up beyond the transform. Rows of the two that are used together must not lie a multiple
    # of 4096 bytes apart.
    height = max(half_length, window.size >> 1)
    both = np.empty((2 * height + 5, LANES), np.float32)
    all_real, all_imaginary = both[:height], both[height + 5 :]
    real, imaginary = all_real[:half_length], all_imaginary[:half_length]
    powers = np.empty((half_length + 1, LANES), np.float32)
    all_bands = np.empty((starts.size + 1, LANES), np.float32)
    bands, result = all_bands[:-1], np.empty((matrix.shape[0], LANES), np.float32)
    peak = np.float32(0.0)
    for frame in range(0, n_frames, LANES):
        here, size = first + frame * hop, min(LANES, n_frames - frame)
        if here >= 1 and here - 1 + span.size <= samples.size:
            source, start = samples, here
        else:
            copy_span(samples, here - 1, span)
            source, start = span, 1
        if no_offset:
            means[:] = 0.0
            sums_of(source, start, hop, length, means, False, piece, means)
            means /= np.float32(length)
        if with_energy:
            sums_of(source, start, hop, length, means, True, piece, rows[1:])
        emphasise(source, start, hop, factor, by_frame, means, window, piece, all_real, all_imaginary)
        if not by_frame and (here <= begin or here + (size - 1) * hop + length > end):
            mend_edges(samples, here, hop, size, begin, end, factor, means, window, all_real, all_imaginary)
        transform(real, imaginary, turns)
        to_powers(real, imaginary, order, half_turns, powers)
        if magnitude:
            to_magnitudes(powers)
        to_bands(powers, starts, stops, weights, bands, rows)
        peak = max(peak, highest(all_bands, size))
        to_logarithms(bands, floor)
        to_cepstra(bands, matrix, sums, result)
        for lane in range(size):
            levels[frame + lane], energies[frame + lane] = rows[0, lane], rows[1, lane]
            for c in range(n_values):
                cepstra[frame + lane, c] = result[c, lane]
    return peak
