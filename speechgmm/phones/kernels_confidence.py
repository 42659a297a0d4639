"""Compiled forward and backward passes over a loop of units: no checks, the interpreter lock released.

Everything is a probability in float64, not a log: an arc then costs one multiplication and one addition. The states of
a frame are scaled together so that they sum to `TOTAL`, and those below `LEAST` are given up; that is 830 nats below,
where the beams of other passes are narrower. Forward probabilities are kept for one block of frames at a time, and for
the first frame of each block; the others are computed again when the backward pass comes to their block.
"""

import numpy as np
from numba import njit, types

from speechgmm.compiled import MATRIX64, OPTIONS, VECTOR64, compiled

# The product of a forward and a backward probability, and the sum of many, stay below 2**1024.
TOTAL, LEAST = 2.0**500, 2.0**-700
# Less than this is what is left of a frame that no path leads to.
NO_PATH = 2.0**-500
NUMBERS32 = types.int32[::1]
STATES = types.Tuple((types.int32[:, ::1], MATRIX64, MATRIX64, NUMBERS32, VECTOR64))
LINKS = types.Tuple((NUMBERS32, NUMBERS32, MATRIX64))


def _dot(a, b):  # type: ignore[no-untyped-def]
    """The sum of products, in four sums: one would wait for its last addition each time."""
    first, second, third, fourth = 0.0, 0.0, 0.0, 0.0
    whole = a.size - a.size % 4
    for k in range(0, whole, 4):
        first += a[k] * b[k]
        second += a[k + 1] * b[k + 1]
        third += a[k + 2] * b[k + 2]
        fourth += a[k + 3] * b[k + 3]
    for k in range(whole, a.size):
        first += a[k] * b[k]
    return (first + second) + (third + fourth)


def _rescale(tokens, ones):  # type: ignore[no-untyped-def]
    """Make all states of a frame sum to `TOTAL`, or be nothing."""
    total = 0.0
    for s in range(len(tokens)):
        total += dot(tokens[s], ones)
    factor = TOTAL / total if total > NO_PATH else 0.0
    for s in range(len(tokens)):
        row = tokens[s]
        for i in range(row.size):
            value = row[i] * factor
            row[i] = value if value > LEAST else 0.0


dot = njit(**OPTIONS)(_dot)
rescale = njit(**OPTIONS)(_rescale)


def _enter(row, states, before, coming, after):  # type: ignore[no-untyped-def]
    """Forward probabilities `after` a frame whose mixtures have the probabilities `row`."""
    numbers, stay, move = states[:3]
    for s in range(len(before)):
        number, stays, moves, own, result = numbers[s], stay[s], move[s], before[s], after[s]
        previous = before[s - 1] if s > 0 else coming
        for i in range(own.size):
            result[i] = row[number[i]] * (own[i] * stays[i] + previous[i] * moves[i])


def _follow(states, links, before, collected, coming):  # type: ignore[no-untyped-def]
    """The probability with which each instance is entered from the junctions that lead to it."""
    lengths, outs = states[3:]
    junctions, firsts, weights = links
    collected[:] = 0.0
    for i in range(lengths.size):
        collected[junctions[i]] += before[lengths[i] - 1, i] * outs[i]
    coming[:] = 0.0
    for junction in range(firsts.size):
        score, weight = collected[junction], weights[junction]
        entered = coming[firsts[junction] : firsts[junction] + weight.size]
        for k in range(weight.size):
            entered[k] += score * weight[k]


def _retreat(row, states, links, after, collected, before):  # type: ignore[no-untyped-def]
    """Backward probabilities `before` a frame whose mixtures have the probabilities `row`; `after` is overwritten."""
    numbers, stay, move, lengths, outs = states
    junctions, firsts, weights = links
    for s in range(len(after)):
        number, value = numbers[s], after[s]
        for i in range(value.size):
            value[i] *= row[number[i]]
    for junction in range(firsts.size):
        weight, first = weights[junction], firsts[junction]
        collected[junction] = dot(weight, after[0, first : first + weight.size])
    n_states = len(after)
    for s in range(n_states):
        stays, own, result = stay[s], after[s], before[s]
        for i in range(own.size):
            result[i] = stays[i] * own[i]
        if s < n_states - 1:
            moves, next_ = move[s + 1], after[s + 1]
            for i in range(own.size):
                result[i] += moves[i] * next_[i]
    for i in range(lengths.size):
        before[lengths[i] - 1, i] += outs[i] * collected[junctions[i]]


enter, follow, retreat = njit(**OPTIONS)(_enter), njit(**OPTIONS)(_follow), njit(**OPTIONS)(_retreat)


def _fill(emissions, states, links, block):  # type: ignore[no-untyped-def]
    """Forward probabilities of all frames of a block but its first, which is there already."""
    n_instances = block.shape[2]
    collected, coming, ones = np.empty(links[1].size), np.empty(n_instances), np.ones(n_instances)
    for t in range(1, len(emissions)):
        follow(states, links, block[t - 1], collected, coming)
        enter(emissions[t], states, block[t - 1], coming, block[t])
        rescale(block[t], ones)


def _add_up(forward, backward, instances, sums):  # type: ignore[no-untyped-def]
    """The posterior of each unit at a frame; returns whether any path leads through it."""
    sums[:] = 0.0
    for s in range(len(forward)):
        for i in range(instances.size):
            sums[instances[i]] += forward[s, i] * backward[s, i]
    total = sums.sum()
    if total > 0.0:
        sums /= total
    return total > 0.0


fill, add_up = njit(**OPTIONS)(_fill), njit(**OPTIONS)(_add_up)


@compiled(
    types.boolean(MATRIX64, STATES, LINKS, VECTOR64, VECTOR64, NUMBERS32, types.float32[:, ::1]),
)
def forward_backward(emissions, states, links, entries, exits, instances, posteriors):  # type: ignore[no-untyped-def]
    """Write the posterior of each unit at each frame.

    Parameters
    ----------
    emissions : (n_frames, n_pdfs) float64
        Likelihood of each frame under each mixture; each frame in units of its own.
    states : tuple
        (n_states, n_instances) arrays: int32, the mixture of each state; float64, the probabilities of staying in it
        and of coming into it from the state, or the junction, before it, 0 for states that an instance lacks.
        (n_instances,) arrays: int32, how many states it has; float64, the probability of leaving the last one.
    links : tuple
        (n_instances,) int32, the junction that each leads to; (n_junctions,) int32, the first of the instances that
        follow it; (n_junctions, n_following) float64, the probability of each of them.
    entries, exits : (n_instances,) float64
        Of beginning and of ending with it.
    instances : (n_instances,) int32
        The unit of each.
    posteriors : (n_frames, n_units) float32

    Returns
    -------
    bool
        Whether there is a path.
    """
    n_frames, (n_states, n_instances) = len(emissions), states[0].shape
    size = int(np.ceil(np.sqrt(n_frames)))
    n_blocks = (n_frames + size - 1) // size
    block, firsts = np.zeros((size, n_states, n_instances)), np.zeros((n_blocks, n_states, n_instances))
    collected, coming, ones = np.empty(links[1].size), entries.copy(), np.ones(n_instances)
    sums = np.empty(posteriors.shape[1])
    for b in range(n_blocks):
        if b > 0:
            follow(states, links, block[size - 1], collected, coming)
        enter(emissions[b * size], states, block[size - 1], coming, firsts[b])
        rescale(firsts[b], ones)
        block[0] = firsts[b]
        fill(emissions[b * size : (b + 1) * size], states, links, block)
    now, after = np.zeros((n_states, n_instances)), np.zeros((n_states, n_instances))
    for i in range(n_instances):
        now[states[3][i] - 1, i] = states[4][i] * exits[i]
    for b in range(n_blocks - 1, -1, -1):
        start, stop = b * size, min((b + 1) * size, n_frames)
        if b < n_blocks - 1:  # the last one is still there
            block[0] = firsts[b]
            fill(emissions[start:stop], states, links, block)
        for t in range(stop - 1, start - 1, -1):
            if t < n_frames - 1:
                now, after = after, now
                retreat(emissions[t + 1], states, links, after, collected, now)
            rescale(now, ones)
            if not add_up(block[t - start], now, instances, sums):
                return False
            posteriors[t] = sums
    return True
