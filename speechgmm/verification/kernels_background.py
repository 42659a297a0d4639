"""Compiled inner loops of the background's part in trials: no checks, the interpreter lock released.

For each frame they find the components that matter. Densities of a frame lie in a row, sixteen of them a vector (see
`speechgmm.features.lanes`).
"""

import numpy as np
from numba import njit, types

from speechgmm.compiled import MATRIX32, OPTIONS, VECTOR32, VECTOR64, compiled
from speechgmm.em.kernels import FRAMES32, FRAMES64, exp2, expand
from speechgmm.em.terms import BLOCK, DIAG, FAR, LOG2_OF_NOTHING
from speechgmm.features.lanes import LANES, bits_set, larger, load, reaching, store

NUMBERS = types.int32[:, ::1]
# Where a search begins at least: equals would halve it, frame after frame, until nothing is left.
LEAST_GAP = np.float32(2.0**-6)
# What `exp2` makes of all that is smaller.
NOTHING = np.float32(2.0**-60)


def _count(densities, first, n_rows, bound):  # type: ignore[no-untyped-def]
    """How many numbers in some rows are no less than a bound."""
    total = np.int32(0)
    for row in range(first, first + n_rows):
        total += bits_set(reaching(load(densities, row), bound))
    return total


count = njit(**OPTIONS)(_count)


def _find_bound(densities, first, n_rows, wanted, gap, buffer):  # type: ignore[no-untyped-def]
    """The largest number in some rows, and how far below it is a bound that no fewer reach than wanted, and few more.

    `gap` is where to begin: that of the frame before saves most of the search, and decides nothing. `buffer` (1, LANES)
    is room to work in.
    """
    peaks = load(densities, first)
    for row in range(first + 1, first + n_rows):
        peaks = larger(peaks, load(densities, row))
    store(buffer, 0, peaks)
    peak = buffer[0].max()
    too_small, enough = np.float32(0.0), np.float32(0.0)
    gap = max(gap, LEAST_GAP)
    for attempt in range(256):
        found = count(densities, first, n_rows, peak - gap)
        if found < wanted:
            too_small = gap
        else:
            enough = gap
            if found <= wanted + wanted // 4 or attempt > 8:
                break
        gap = np.float32(0.5) * (too_small + enough) if enough > 0.0 else np.float32(1.5) * gap
    return peak, enough


find_bound = njit(**OPTIONS)(_find_bound)


def _choose_best(densities, first, n_rows, numbers, values, n_wanted, gap, buffer):  # type: ignore[no-untyped-def]
    """Find the largest numbers in some rows, counted from 0, and their values; returns the very largest, and a gap.

    Of equals the first. No branch depends on a single number: wrong guesses would take longer than all the rest.
    """
    peak, gap = find_bound(densities, first, n_rows, n_wanted, gap, buffer)
    bound, n_kept = peak - gap, 0
    for row in range(n_rows):
        found = reaching(load(densities, first + row), bound)
        if found:
            for s in range(LANES):
                numbers[n_kept], values[n_kept] = row * LANES + s, densities[first + row, s]
                n_kept += (found >> s) & 1
    while n_kept > n_wanted:
        least = 0
        for c in range(n_kept):
            least = c if values[c] <= values[least] else least
        n_kept -= 1
        for c in range(least, n_kept):
            numbers[c], values[c] = numbers[c + 1], values[c + 1]
    return peak, gap


choose_best = njit(**OPTIONS)(_choose_best)


def _choose(log2_densities, skipped, components, shares, rests):  # type: ignore[no-untyped-def]
    """Find the components with the largest densities of each frame, and their posteriors.

    Parameters
    ----------
    log2_densities : (n_frames, n_components) float32
        Overwritten. The number of components is a whole number of vectors; those filled up have no density.
    skipped : (n_frames,) bool
        Frames to leave out: all that they get are numbers of components.
    components : (n_frames, n_chosen) int32
        Gets their numbers, in rising order.
    shares : (n_frames, n_chosen) float32
        Gets log2 of their posteriors, which may be too small for a float32.
    rests : (n_frames,) float32
        Gets the posterior of all other components, not counting those below 2**-60.
    """
    n_frames, n_chosen = components.shape
    n_components = log2_densities.shape[1]
    n_rows = n_components // LANES
    densities = log2_densities.reshape((n_frames * n_rows, LANES))
    # Each write may go one vector beyond what is kept.
    numbers, values = np.empty(n_components + LANES, np.int32), np.empty(n_components + LANES, np.float32)
    buffer, gap = np.empty((1, LANES), np.float32), np.float32(8.0)
    for i in range(n_frames):
        row, own, chosen = log2_densities[i], components[i], np.float32(0.0)
        own[:] = 0
        if skipped[i]:
            continue
        peak, gap = choose_best(densities, i * n_rows, n_rows, numbers, values, n_chosen, gap, buffer)
        for k in range(n_components):
            row[k] = exp2(row[k] - peak) - NOTHING
        for c in range(n_chosen):
            own[c] = numbers[c]
            chosen += row[numbers[c]] + NOTHING
            row[numbers[c]] = 0.0
        others = load(densities, i * n_rows)
        for k in range(1, n_rows):
            others = others + load(densities, i * n_rows + k)
        store(buffer, 0, others)
        rest = buffer[0].sum()
        mass = chosen + rest
        rests[i] = rest / mass
        for c in range(n_chosen):
            shares[i, c] = values[c] - peak - np.float32(np.log2(np.float64(mass)))


choose = compiled(types.void(MATRIX32, types.boolean[::1], NUMBERS, MATRIX32, VECTOR32))(_choose)


def _put_sharp(rows, sharp, centres, log2_densities):  # type: ignore[no-untyped-def]
    """Put the densities of sharp components in their places: by distances from the mean, where nothing cancels."""
    n_features, n_frames = centres.shape[1] // 2, len(log2_densities)
    values = np.empty(n_frames, np.float32)
    for s in range(sharp.size):
        values[:] = centres[s, 2 * n_features]
        for j in range(n_features):
            row, mean, factor = rows[j], centres[s, j], centres[s, n_features + j]
            for i in range(n_frames):
                distance = row[i] - mean
                values[i] -= factor * distance * distance
        for i in range(n_frames):
            log2_densities[i, sharp[s]] = max(values[i], np.float32(LOG2_OF_NOTHING))


put_sharp = njit(**OPTIONS)(_put_sharp)


@compiled(
    *(
        types.void(
            *(frames, vector, vector, MATRIX32, types.int64[::1], MATRIX32),
            *(VECTOR32, MATRIX32, NUMBERS, MATRIX32, VECTOR32, types.boolean[::1]),
        )
        for frames, vector in ((FRAMES32, VECTOR32), (FRAMES64, VECTOR64))
    )
)
def explain(  # type: ignore[no-untyped-def]
    frames, origin, inverse_scale, matrix, sharp, centres, room, x, components, shares, rests, far
):
    """Find the background's best components of each frame.

    Parameters
    ----------
    frames : (n_frames, n_features) float32 or float64
    origin, inverse_scale : (n_features,)
        In the precision of the frames.
    matrix : (n_components, n_terms) float32
        Of a `Projection`, filled up to a whole number of vectors.
    sharp : (n_sharp,) int64
        Components whose terms would cancel.
    centres : (n_sharp, 2 * n_features + 1) float32
        Their means, what squared distances count for, and log2 of weight times density at the mean.
    room : ((n_components + n_terms) * BLOCK,) float32
        To work in; fresh memory for each utterance would take long.
    x : (n_frames, n_features) float32
        Gets the frames, in coordinates.
    components, shares, rests
        As in `choose`.
    far : (n_frames,) bool
        Frames to leave out; gets those for which this is not exact enough.
    """
    n_frames, n_features = frames.shape
    n_components, n_rows = matrix.shape
    peaks, densities, terms = np.empty(BLOCK, np.float32), room[n_rows * BLOCK :], room[: n_rows * BLOCK]
    for start in range(0, n_frames, BLOCK):
        part = frames[start : start + BLOCK]
        size = part.shape[0]
        stop = start + size
        rows = terms[: n_rows * size].reshape((n_rows, size))
        log2_densities = densities[: n_components * size].reshape((size, n_components))
        expand(part, origin, inverse_scale, DIAG, rows, peaks[:size])
        np.dot(rows.T, matrix.T, log2_densities)
        put_sharp(rows, sharp, centres, log2_densities)
        for i in range(size):
            far[start + i] |= not peaks[i] <= FAR * FAR
            frame, scaled = part[i], x[start + i]
            for j in range(n_features):
                scaled[j] = (frame[j] - origin[j]) * inverse_scale[j]
        choose(log2_densities, far[start:stop], components[start:stop], shares[start:stop], rests[start:stop])
