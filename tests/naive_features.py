"""Slow twins of the feature module in plain loops: nothing here is clever, so it can be trusted."""

import math

import numpy as np


def pre_emphasised(samples, factor):
    """y[n] = x[n] - a x[n-1], the audio taken to have been steady before its first sample."""
    return [float(x) - factor * float(samples[max(n - 1, 0)]) for n, x in enumerate(samples)]


def window_weight(n, length, kind):
    """Weight n of a periodic window."""
    turn = math.cos(2 * math.pi * n / length)
    return 0.54 - 0.46 * turn if kind == "hamming" else 0.5 - 0.5 * turn


def frame(samples, centre, length, kind):
    """Windowed samples around a centre, which lies at `length / 2`, rounded up; zeros outside of the audio."""
    first = centre - (length + 1) // 2
    values = []
    for n in range(length):
        inside = 0 <= first + n < len(samples)
        values.append(samples[first + n] * window_weight(n, length, kind) if inside else 0.0)
    return values


def power_spectrum(values, fft_length):
    """Squared magnitude of the discrete Fourier transform, by its definition."""
    powers = []
    for k in range(fft_length // 2 + 1):
        real = imaginary = 0.0
        for n, value in enumerate(values):
            turn = 2 * math.pi * k * n / fft_length
            real += value * math.cos(turn)
            imaginary -= value * math.sin(turn)
        powers.append(real * real + imaginary * imaginary)
    return powers


def triangle(frequency, left, centre, right):
    """Height at a frequency of a triangle of height 1."""
    if left < frequency <= centre:
        return (frequency - left) / (centre - left)
    if centre < frequency < right:
        return (right - frequency) / (right - centre)
    return 0.0


def htk_edges(low, high, n_mels):
    """Frequencies in Hz, evenly spaced in 2595 log10(1 + f/700)."""
    first, last = (2595 * math.log10(1 + f / 700) for f in (low, high))
    mels = [first + (last - first) * i / (n_mels + 1) for i in range(n_mels + 2)]
    return [700 * (10 ** (mel / 2595) - 1) for mel in mels]


def cosine_transform(values, n_coefficients):
    """The orthonormal discrete cosine transform of type 2, by its definition."""
    n = len(values)
    result = []
    for k in range(n_coefficients):
        total = sum(value * math.cos(math.pi * k * (2 * m + 1) / (2 * n)) for m, value in enumerate(values))
        result.append(total * math.sqrt((1 if k == 0 else 2) / n))
    return result


def mfcc(samples, config):
    """Cepstra on the "htk" scale, without `top_db`, (n_frames, n_coefficients) float64."""
    audio = pre_emphasised(samples, config.pre_emphasis)
    length = round(config.window_length * config.sample_rate)
    hop = round(config.hop_length * config.sample_rate)
    fft_length = 2
    while fft_length < length:
        fft_length *= 2
    edges = htk_edges(config.low_frequency, config.high_frequency or config.sample_rate / 2, config.n_mels)
    rows = []
    for centre in range(0, len(audio) + 1, hop):
        powers = power_spectrum(frame(audio, centre, length, config.window), fft_length)
        levels = []
        for band in range(config.n_mels):
            total = 0.0
            for k, power in enumerate(powers):
                total += power * triangle(k * config.sample_rate / fft_length, *edges[band : band + 3])
            levels.append(10 * math.log10(max(total, 1e-10)))
        rows.append(cosine_transform(levels, config.n_coefficients))
    return np.array(rows)


def regression_deltas(values, width):
    """HTK's formula, frames beyond an edge taken to equal the edge."""
    values = np.asarray(values, np.float64)
    last = len(values) - 1
    result = np.zeros_like(values)
    for t in range(len(values)):
        for step in range(1, width + 1):
            result[t] += step * (values[min(t + step, last)] - values[max(t - step, 0)])
        result[t] /= 2 * sum(step * step for step in range(1, width + 1))
    return result


def polynomial_deltas(values, width, order):
    """Derivative of the polynomial of that order fitted to the frames around; edges as their nearest full fit.

    Where no frame has all its neighbours, frames beyond an edge are taken to equal the edge.
    """
    values = np.asarray(values, np.float64)
    n = len(values)
    steps = range(-width, width + 1)
    result = np.zeros_like(values)
    for t in range(n):
        centre = t if n <= 2 * width else min(max(t, width), n - 1 - width)
        around = np.array([values[min(max(centre + step, 0), n - 1)] for step in steps])
        leading = np.polyfit(list(steps), around, order)[0]
        result[t] = math.factorial(order) * leading
    return result
