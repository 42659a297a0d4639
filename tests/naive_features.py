"""Slow twins of the feature module in plain loops and float64: nothing here is clever, so it can be trusted."""

import math

import numpy as np


def window_weight(n, length, kind, symmetric):
    """Weight n of a window of `length` samples."""
    turn = math.cos(2 * math.pi * n / (length - 1 if symmetric else length))
    return {
        "hamming": 0.54 - 0.46 * turn,
        "hann": 0.5 - 0.5 * turn,
        "povey": (0.5 - 0.5 * turn) ** 0.85,
        "rectangular": 1.0,
    }[kind]


def first_samples(n_samples, config):
    """Where the window of each frame begins."""
    length = round(config.window_length * config.sample_rate)
    hop = round(config.hop_length * config.sample_rate)
    firsts, frame = [], 0
    while True:
        if config.framing == "centred":
            centre = frame * hop
            if centre > n_samples:
                return firsts
            firsts.append(centre - math.ceil(length / 2))
        else:
            if frame * hop + length > n_samples:
                return firsts
            firsts.append(frame * hop)
        frame += 1


def window_of(samples, first, config):
    """The samples of one window as its transform takes them, and its energy before pre-emphasis."""
    length = round(config.window_length * config.sample_rate)
    places = [first + n for n in range(length)]
    inside = [0 <= place < len(samples) for place in places]

    def audio(place):
        return config.scale * float(samples[place]) if 0 <= place < len(samples) else 0.0

    values = [audio(place) for place in places]
    before = audio(first - 1)
    if config.remove_offset:
        mean = sum(values) / length
        values = [value - mean for value in values]
        before -= mean
    energy = sum(value * value for value in values)
    emphasised = []
    for n, value in enumerate(values):
        previous = values[n - 1] if n > 0 else before
        if config.emphasis_by == "frame":
            emphasised.append(value - config.pre_emphasis * (previous if n > 0 else value))
        elif not inside[n]:
            emphasised.append(0.0)
        else:  # before its first sample the audio was steady
            emphasised.append(value - config.pre_emphasis * (value if places[n] == 0 else previous))
    weights = [window_weight(n, length, config.window, config.window_symmetric) for n in range(length)]
    return [value * weight for value, weight in zip(emphasised, weights, strict=True)], energy


def transform_length(config):
    """The length asked for, or the smallest power of two that holds a window."""
    length = 2
    while length < round(config.window_length * config.sample_rate):
        length *= 2
    return config.fft_length or length


def power_spectrum(values, fft_length):
    """Squared magnitude of the discrete Fourier transform, by its definition."""
    turns = [2 * math.pi * n / fft_length for n in range(fft_length)]
    cosines, sines = [math.cos(turn) for turn in turns], [math.sin(turn) for turn in turns]
    powers = []
    for k in range(fft_length // 2 + 1):
        real = imaginary = 0.0
        for n, value in enumerate(values):
            real += value * cosines[k * n % fft_length]
            imaginary -= value * sines[k * n % fft_length]
        powers.append(real * real + imaginary * imaginary)
    return powers


def on_scale(hertz, scale):
    """A frequency on a scale."""
    if scale == "linear":
        return hertz
    if scale == "htk":
        return 2595 * math.log10(1 + hertz / 700)
    return 3 * hertz / 200 if hertz < 1000 else 15 + 27 * math.log(hertz / 1000) / math.log(6.4)


def in_hertz(value, scale):
    """The frequency in Hz of a place on a scale."""
    if scale == "linear":
        return value
    if scale == "htk":
        return 700 * (10 ** (value / 2595) - 1)
    return 200 * value / 3 if value < 15 else 1000 * 6.4 ** ((value - 15) / 27)


def triangle(place, left, centre, right):
    """Height at a place of a triangle of height 1."""
    if left < place <= centre:
        return (place - left) / (centre - left)
    if centre < place < right:
        return (right - place) / (right - centre)
    return 0.0


def filters(config):
    """Weights of each bin in each filter, as a list of filters."""
    scale, length = config.frequency_scale, transform_length(config)
    high = config.high_frequency or config.sample_rate / 2
    first, last = on_scale(config.low_frequency, scale), on_scale(high, scale)
    count = config.n_filters + 1
    edges = [first + (last - first) * i / count for i in range(count + 1)]
    bank = []
    for left, centre, right in zip(edges, edges[1:], edges[2:], strict=False):
        corners = [in_hertz(edge, scale) for edge in (left, centre, right)]
        height = 2 / (corners[2] - corners[0]) if scale == "slaney" else 1.0
        weights = []
        for k in range(length // 2 + 1):
            hertz = k * config.sample_rate / length
            if config.filter_slopes == "hertz":
                weights.append(height * triangle(hertz, *corners))
            else:
                weights.append(height * triangle(on_scale(hertz, scale), left, centre, right))
        bank.append(weights)
    return bank


def bands(samples, config):
    """What the filters of each frame hold, and the energy of each window: (n_frames, n_filters), (n_frames,)."""
    bank, rows, energies = filters(config), [], []
    for first in first_samples(len(samples), config):
        values, energy = window_of(samples, first, config)
        spectrum = power_spectrum(values, transform_length(config))
        if config.spectrum == "magnitude":
            spectrum = [math.sqrt(power) for power in spectrum]
        rows.append([sum(w * s for w, s in zip(weights, spectrum, strict=True)) for weights in bank])
        energies.append(energy)
    return np.array(rows).reshape(-1, config.n_filters), np.array(energies)


def logarithm(value, scale):
    """The logarithm of a filter's value."""
    return {"decibel": 10 * math.log10(value), "natural": math.log(value), "log10": math.log10(value)}[scale]


def cosine_weights(config):
    """What each filter's logarithm counts in each coefficient, liftered: a list of coefficients."""
    count, rows = config.n_filters, []
    for k in range(config.n_coefficients):
        height = math.sqrt(2 / count)
        if k == 0 and config.dct == "orthonormal":
            height = math.sqrt(1 / count)
        if config.lifter:
            height *= 1 + config.lifter / 2 * math.sin(math.pi * k / config.lifter)
        rows.append([height * math.cos(math.pi * k * (m + 0.5) / count) for m in range(count)])
    return rows


def cepstra(values, energies, config):
    """The static values of frames, from what their filters hold: (n_frames, n_statics)."""
    floor = config.floor
    if config.top_db and len(values):
        floor = max(floor, values.max() / 10 ** (config.top_db / 10))
    weights, rows = cosine_weights(config), []
    for row, energy in zip(values, energies, strict=True):
        logs = [logarithm(max(value, floor), config.log_scale) for value in row]
        result = [sum(w * log for w, log in zip(ws, logs, strict=True)) for ws in weights]
        log_energy = logarithm(max(energy, config.floor), config.log_scale)
        if config.energy == "log":
            result[0] = log_energy
        elif config.energy == "both":
            result.append(log_energy)
        elif config.energy == "none":
            del result[0]
        rows.append(result)
    return np.array(rows)


def levels(values, config):
    """The natural logarithm of what all filters of each frame hold together."""
    return np.array([math.log(max(sum(row), config.floor)) for row in values])


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


def shifted_deltas(values, kept, reach, shift, blocks):
    """Block i holds c(t + iP + d) - c(t + iP - d) of the first N coefficients, frames beyond an end repeated."""
    values = np.asarray(values, np.float64)
    last = len(values) - 1
    result = np.zeros((len(values), blocks * kept))
    for t in range(len(values)):
        for block in range(blocks):
            for c in range(kept):
                later = values[min(max(t + block * shift + reach, 0), last), c]
                earlier = values[min(max(t + block * shift - reach, 0), last), c]
                result[t, block * kept + c] = later - earlier
    return result
