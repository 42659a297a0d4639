"""Compiled passes over the graph of an utterance: forward, backward, Viterbi; no checks, the lock released.

Everything is in natural logs. `NEVER` stands for the log of nothing, because fastmath knows no infinity. Of each frame
only a window of states is kept: from the first to the last whose forward score lies within the beam of the best one.
Windows lie one after another in flat arrays: that of frame t begins with state lows[t] at place offsets[t].
"""

import numpy as np
from numba import njit, types

from speechgmm.compiled import MATRIX32, OPTIONS, VECTOR32, VECTOR64, compiled, inlined, log
from speechgmm.em.kernels import exp2

NEVER = -1e30
# Below this a score is that of no path at all.
NO_PATH = -1e29
LOG2_E = np.float32(np.log2(np.e))
# What is added to a number this much larger (in logs) does not change it in float64.
NOTHING = -37.0
NUMBERS32, NUMBERS64 = types.int32[::1], types.int64[::1]
# pdfs, starts, sources, weights, loops: see `forward_backward`.
GRAPH = (NUMBERS32, NUMBERS64, NUMBERS32, VECTOR64, VECTOR64)


def _log_add(a, b):  # type: ignore[no-untyped-def]
    """log(exp(a) + exp(b)), to 1e-7."""
    larger, difference = max(a, b), -abs(a - b)
    if difference < NOTHING:
        return larger
    return larger + log(np.float32(1.0) + exp2(np.float32(difference) * LOG2_E))


def _ensured(array, size):  # type: ignore[no-untyped-def]
    """The array, or a copy of at least twice its length, so that `size` items fit."""
    if size <= array.size:
        return array
    larger = np.empty(max(size, 2 * array.size), array.dtype)
    larger[: array.size] = array
    return larger


def _reach(starts, sources):  # type: ignore[no-untyped-def]
    """For each state, the last one that it or a state before it leads to."""
    n_states = starts.size - 1
    reach = np.arange(n_states)
    for target in range(n_states):
        for arc in range(starts[target], starts[target + 1]):
            reach[sources[arc]] = max(reach[sources[arc]], target)
    for state in range(1, n_states):
        reach[state] = max(reach[state], reach[state - 1])
    return reach


def _trimmed(values, best, beam):  # type: ignore[no-untyped-def]
    """The first and the last but one of the values within the beam of the best."""
    first, last = 0, values.size
    while values[first] < best - beam:
        first += 1
    while values[last - 1] < best - beam:
        last -= 1
    return first, last


log_add = inlined(_log_add)
ensured, reach_of, trimmed = njit(**OPTIONS)(_ensured), njit(**OPTIONS)(_reach), njit(**OPTIONS)(_trimmed)


def _forward(  # type: ignore[no-untyped-def]
    scores, pdfs, starts, sources, weights, loops, entries, beam, lows, offsets
):
    """Forward scores of all windows; `lows` (n_frames) and `offsets` (n_frames + 1) are filled."""
    n_frames, n_states = len(scores), pdfs.size
    reach = reach_of(starts, sources)
    alphas, now = np.empty(64 * n_frames), np.empty(n_states)
    offsets[0] = 0
    low, high = 0, n_states
    for t in range(n_frames):
        row, best = scores[t], NEVER
        before = alphas[offsets[t - 1] : offsets[t]] if t > 0 else alphas[:0]
        before_low, before_high = low, high
        if t > 0:
            high = reach[before_high - 1] + 1
        for j in range(low, high):
            if t == 0:
                value = entries[j]
            else:
                value = before[j - before_low] + loops[j] if j < before_high else NEVER
                for arc in range(starts[j], starts[j + 1]):
                    source = sources[arc]
                    if before_low <= source < before_high:
                        value = log_add(value, before[source - before_low] + weights[arc])
            value = max(value + row[pdfs[j]], NEVER)
            now[j] = value
            best = max(best, value)
        first, last = trimmed(now[low:high], best, beam)
        low, high = low + first, low + last
        lows[t], offsets[t + 1] = low, offsets[t] + high - low
        alphas = ensured(alphas, offsets[t + 1])
        alphas[offsets[t] : offsets[t + 1]] = now[low:high]
    return alphas[: offsets[n_frames]]


forward = njit(**OPTIONS)(_forward)


def _backward_step(  # type: ignore[no-untyped-def]
    row, pdfs, starts, sources, weights, loops, after, after_low, low, high, now
):
    """Backward scores `now` of states low to high, from those of the next frame, whose scores are `row`."""
    after_high = after_low + after.size
    for j in range(low, high):
        here = after_low <= j < after_high
        now[j - low] = loops[j] + row[pdfs[j]] + after[j - after_low] if here else NEVER
    for k in range(after_low, after_high):
        value = row[pdfs[k]] + after[k - after_low]
        for arc in range(starts[k], starts[k + 1]):
            source = sources[arc] - low
            if 0 <= source < high - low:
                now[source] = log_add(now[source], weights[arc] + value)


backward_step = njit(**OPTIONS)(_backward_step)


@compiled(
    types.Tuple((types.float64, NUMBERS32, NUMBERS32, VECTOR32))(
        MATRIX32, *GRAPH, VECTOR64, VECTOR64, types.float64, types.float64, VECTOR64
    )
)
def forward_backward(  # type: ignore[no-untyped-def]
    scores, pdfs, starts, sources, weights, loops, entries, exits, beam, least, stays
):
    """The posteriors of states, and the log-likelihood of an utterance.

    Parameters
    ----------
    scores : (n_frames, n_pdfs) float32
        Log-likelihood of each frame under each mixture.
    pdfs : (n_states,) int32
    starts : (n_states + 1,) int64
    sources : (n_arcs,) int32
    weights : (n_arcs,) float64
        Of the arcs between states, the log-probability of leaving their source included.
    loops : (n_states,) float64
        Log-probability of staying.
    entries, exits : (n_states,) float64
        Of beginning in a state, and of ending after it; `NEVER` where that cannot be.
    beam : float
    least : float
        Posteriors below it are left out.
    stays : (n_pdfs,) float64
        The expected number of times that each mixture's states are stayed in is added.

    Returns
    -------
    float64
        The log-likelihood, below `NO_PATH` where no path is left.
    (n_entries,) int32, int32, float32
        Frame, mixture, and posterior.
    """
    n_frames = len(scores)
    lows, offsets = np.empty(n_frames, np.int64), np.empty(n_frames + 1, np.int64)
    alphas = forward(scores, pdfs, starts, sources, weights, loops, entries, beam, lows, offsets)
    after, now = np.empty(pdfs.size), np.empty(pdfs.size)
    low, size = lows[n_frames - 1], offsets[n_frames] - offsets[n_frames - 1]
    total = NEVER
    for j in range(size):
        now[j] = exits[low + j]
        total = log_add(total, alphas[offsets[n_frames - 1] + j] + now[j])
    rows, found = np.empty(4 * n_frames, np.int32), np.empty(4 * n_frames, np.int32)
    gammas = np.empty(4 * n_frames, np.float32)
    n_found = 0
    if total < NO_PATH:
        return total, rows[:0], found[:0], gammas[:0]
    for t in range(n_frames - 1, -1, -1):
        low, size = lows[t], offsets[t + 1] - offsets[t]
        if t < n_frames - 1:
            after_low, after_size = lows[t + 1], offsets[t + 2] - offsets[t + 1]
            after, now = now, after
            row, later = scores[t + 1], after[:after_size]
            backward_step(
                row, pdfs, starts, sources, weights, loops, later, after_low, low, low + size, now[:size]
            )
        rows, found = ensured(rows, n_found + size), ensured(found, n_found + size)
        gammas = ensured(gammas, n_found + size)
        for j in range(size):
            pdf, alpha = pdfs[low + j], alphas[offsets[t] + j] - total
            gamma = exp2(min(np.float32(alpha + now[j]) * LOG2_E, np.float32(0.0)))
            if gamma < least:
                continue
            rows[n_found], found[n_found], gammas[n_found] = t, pdf, gamma
            n_found += 1
            if t < n_frames - 1 and after_low <= low + j < after_low + after_size:
                stay = alpha + loops[low + j] + row[pdf] + later[low + j - after_low]
                stays[pdf] += exp2(min(np.float32(stay) * LOG2_E, np.float32(0.0)))
    return total, rows[:n_found], found[:n_found], gammas[:n_found]


@compiled(types.float64(MATRIX32, *GRAPH, VECTOR64, VECTOR64, types.float64, NUMBERS32))
def viterbi(  # type: ignore[no-untyped-def]
    scores, pdfs, starts, sources, weights, loops, entries, exits, beam, path
):
    """Write the best path, one state a frame, and return its score; below `NO_PATH` there is none.

    Arguments as of `forward_backward`. Among equals, the path that stays wins, then the one from the lower state.
    """
    n_frames, n_states = len(scores), pdfs.size
    reach = reach_of(starts, sources)
    lows, offsets = np.empty(n_frames, np.int64), np.zeros(n_frames + 1, np.int64)
    back = np.empty(64 * n_frames, np.int32)
    before, now, origin = np.empty(n_states), np.empty(n_states), np.empty(n_states, np.int32)
    low, high = 0, n_states
    for t in range(n_frames):
        row, best = scores[t], NEVER
        before_low, before_high = low, high
        if t > 0:
            high = reach[before_high - 1] + 1
        for j in range(low, high):
            value = entries[j] if t == 0 else NEVER
            origin[j] = j
            if t > 0:
                if j < before_high:
                    value = before[j] + loops[j]
                for arc in range(starts[j], starts[j + 1]):
                    source = sources[arc]
                    if before_low <= source < before_high and before[source] + weights[arc] > value:
                        value, origin[j] = before[source] + weights[arc], source
            value = max(value + row[pdfs[j]], NEVER)
            now[j] = value
            best = max(best, value)
        first, last = trimmed(now[low:high], best, beam)
        low, high = low + first, low + last
        lows[t], offsets[t + 1] = low, offsets[t] + high - low
        back = ensured(back, offsets[t + 1])
        back[offsets[t] : offsets[t + 1]] = origin[low:high]
        before, now = now, before
    state, total = low, NEVER
    for j in range(low, high):
        if before[j] + exits[j] > total:
            state, total = j, before[j] + exits[j]
    if total > NO_PATH:
        for t in range(n_frames - 1, -1, -1):
            path[t] = state
            state = back[offsets[t] + state - lows[t]]
    return total
