"""Compiled inner loops of trial scoring: no checks, the interpreter lock released.

Sixteen enrolled models lie side by side as a vector (see `speechgmm.features.lanes`). What a model adds to the log2
density of a component of the background is linear in the terms of a frame: a bank has one row for each term, and a
last one for the constant.
"""

import numpy as np
from numba import njit, types

from speechgmm.compiled import MATRIX32, OPTIONS, VECTOR32, VECTOR64, compiled, log
from speechgmm.em.kernels import exp2
from speechgmm.em.terms import BLOCK
from speechgmm.features.lanes import LANES, load, spread, store
from speechgmm.verification.kernels_background import NUMBERS

# Frames that go through a component of a bank together: so many that no sum waits for its last step.
TOGETHER = 8
# Sums of ratios beyond these are formed again where nothing overflows or is cut off.
LARGEST_EXPONENT = np.float32(100.0)
LARGEST, SMALLEST = np.float32(2.0**60), np.float32(2.0**-32)


def _by_component(components, values, n_components):  # type: ignore[no-untyped-def]
    """Frames and what they have for a component sorted by it: those of k are at starts[k] : starts[k + 1]."""
    n_frames, n_chosen = components.shape
    starts = np.zeros(n_components + 1, np.int64)
    for i in range(n_frames):
        for c in range(n_chosen):
            starts[components[i, c] + 1] += 1
    starts = np.cumsum(starts)
    places = starts.copy()
    frames, sorted_ = np.empty(n_frames * n_chosen, np.int64), np.empty(n_frames * n_chosen, np.float32)
    for i in range(n_frames):
        for c in range(n_chosen):
            k = components[i, c]
            frames[places[k]], sorted_[places[k]] = i, values[i, c]
            places[k] += 1
    return starts, frames, sorted_


by_component = njit(**OPTIONS)(_by_component)


def _put_ratios(terms, frames, bank, first, ratios):  # type: ignore[no-untyped-def]
    """Write what sixteen models add to the log2 density of one component for some frames, a row each."""
    n_terms, last = terms.shape[1], frames.size - 1
    for start in range(0, frames.size, TOGETHER):
        f0, f1 = frames[start], frames[min(start + 1, last)]
        f2, f3 = frames[min(start + 2, last)], frames[min(start + 3, last)]
        f4, f5 = frames[min(start + 4, last)], frames[min(start + 5, last)]
        f6, f7 = frames[min(start + 6, last)], frames[min(start + 7, last)]
        r0 = load(bank, first + n_terms)
        r1, r2, r3, r4, r5, r6, r7 = r0, r0, r0, r0, r0, r0, r0
        for j in range(n_terms):
            row = load(bank, first + j)
            r0 = r0 + row * spread(terms[f0, j])
            r1 = r1 + row * spread(terms[f1, j])
            r2 = r2 + row * spread(terms[f2, j])
            r3 = r3 + row * spread(terms[f3, j])
            r4 = r4 + row * spread(terms[f4, j])
            r5 = r5 + row * spread(terms[f5, j])
            r6 = r6 + row * spread(terms[f6, j])
            r7 = r7 + row * spread(terms[f7, j])
        store(ratios, start, r0)
        store(ratios, start + 1, r1)
        store(ratios, start + 2, r2)
        store(ratios, start + 3, r3)
        store(ratios, start + 4, r4)
        store(ratios, start + 5, r5)
        store(ratios, start + 6, r6)
        store(ratios, start + 7, r7)


put_ratios = njit(**OPTIONS)(_put_ratios)


def _ratio_exactly(terms, components, shares, rest, bank, first, n_rows, lane):  # type: ignore[no-untyped-def]
    """The natural log of one model's density over the background's, of one frame, in float64."""
    peak, total = -1e300, 0.0
    if rest > 0.0:  # what is left to the other components, which the model has as the background does
        peak, total = np.log2(np.float64(rest)), 1.0
    for c in range(components.size):
        row = first + components[c] * n_rows
        value = np.float64(shares[c]) + bank[row + n_rows - 1, lane]
        for j in range(n_rows - 1):
            value += np.float64(bank[row + j, lane]) * terms[j]
        if value > peak:
            total, peak = total * np.exp2(peak - value), value
        total += np.exp2(value - peak)
    return (peak + np.log2(total)) * np.log(2.0)


ratio_exactly = njit(**OPTIONS)(_ratio_exactly)


def _add_logs(terms, components, shares, rests, bank, first, sums, llrs):  # type: ignore[no-untyped-def]
    """Add the natural logs of sums of ratios, (n_frames, LANES), to the llrs of sixteen models."""
    n_rows = terms.shape[1] + 1
    logs = np.empty(LANES)
    for i in range(len(sums)):
        row, extreme = sums[i], False
        for s in range(LANES):
            logs[s] = log(row[s])
            extreme |= not SMALLEST < row[s] < LARGEST
        if extreme:  # not for the others among the sixteen: no score may depend on its fellows
            for s in range(LANES):
                if not SMALLEST < row[s] < LARGEST:
                    logs[s] = ratio_exactly(
                        terms[i], components[i], shares[i], rests[i], bank, first, n_rows, s
                    )
        for s in range(LANES):
            llrs[s] += logs[s]


add_logs = njit(**OPTIONS)(_add_logs)


@compiled(types.void(MATRIX32, NUMBERS, MATRIX32, VECTOR32, MATRIX32, types.int64, VECTOR64))
def add_llrs(terms, components, shares, rests, bank, n_components, llrs):  # type: ignore[no-untyped-def]
    """Add to `llrs` the log-likelihood ratios of the frames of an utterance, natural log.

    Parameters
    ----------
    terms : (n_frames, n_terms) float32
    components : (n_frames, n_chosen) int32
        Those of the background that count for each frame.
    shares : (n_frames, n_chosen) float32
        Log2 of their posteriors.
    rests : (n_frames,) float32
        The posterior of all others.
    bank : (n_tiles * n_components * (n_terms + 1), LANES) float32
    n_components : int
    llrs : (n_tiles * LANES,) float64
    """
    n_frames, n_rows = terms.shape[0], terms.shape[1] + 1
    starts, frames, own_shares = by_component(components, shares, n_components)
    ratios = np.empty((np.diff(starts).max() + TOGETHER, LANES), np.float32)
    sums = np.empty((n_frames, LANES), np.float32)
    for tile in range(llrs.size // LANES):
        first = tile * n_components * n_rows
        for i in range(n_frames):
            sums[i, :] = rests[i]
        for k in range(n_components):
            own = frames[starts[k] : starts[k + 1]]
            if own.size == 0:
                continue
            put_ratios(terms, own, bank, first + k * n_rows, ratios)
            for j in range(own.size):
                share, row, target = own_shares[starts[k] + j], ratios[j], sums[own[j]]
                for s in range(LANES):
                    target[s] += exp2(min(share + row[s], LARGEST_EXPONENT))
        add_logs(terms, components, shares, rests, bank, first, sums, llrs[tile * LANES : (tile + 1) * LANES])


@compiled(types.void(MATRIX32, NUMBERS, MATRIX32, MATRIX32, MATRIX32))
def centred_statistics(x, components, shares, means, first):  # type: ignore[no-untyped-def]
    """Sum the distances of frames from the means of their components, weighted with posteriors.

    Parameters
    ----------
    x : (n_frames, n_features) float32
    components : (n_frames, n_chosen) int32
    shares : (n_frames, n_chosen) float32
        Log2 of their posteriors.
    means, first : (n_components, n_features) float32
        `first` gets the sums.
    """
    n_components, n_features = means.shape
    starts, frames, own_shares = by_component(components, shares, n_components)
    total = np.empty(n_features)
    for k in range(n_components):
        mean, target = means[k], first[k]
        total[:] = 0.0
        # A float32 loses digits as a sum grows: no sum has more than a block of frames.
        for start in range(starts[k], starts[k + 1], BLOCK):
            target[:] = 0.0
            for place in range(start, min(start + BLOCK, starts[k + 1])):
                posterior, frame = exp2(own_shares[place]), x[frames[place]]
                for j in range(n_features):
                    target[j] += posterior * (frame[j] - mean[j])
            for j in range(n_features):
                total[j] += target[j]
        for j in range(n_features):
            target[j] = total[j]


@compiled(types.void(MATRIX32, MATRIX32, MATRIX32))
def products(vectors, bank, results):  # type: ignore[no-untyped-def]
    """Products of vectors with the vectors in a bank, whose last row is a constant.

    Parameters
    ----------
    vectors : (n_vectors, n_items) float32
    bank : (n_tiles * (n_items + 1), LANES) float32
    results : (n_vectors, n_tiles * LANES) float32
    """
    n_vectors, n_rows = len(vectors), vectors.shape[1] + 1
    rows = np.empty((n_vectors + TOGETHER, LANES), np.float32)
    for tile in range(results.shape[1] // LANES):
        put_ratios(vectors, np.arange(n_vectors), bank, tile * n_rows, rows)
        for i in range(n_vectors):
            for s in range(LANES):
                results[i, tile * LANES + s] = rows[i, s]
