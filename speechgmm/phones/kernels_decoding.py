"""The compiled Viterbi search through a loop of units: no checks, the interpreter lock released.

An instance is a unit with what the language model must remember of the units before it. Instances that leave the
same memory meet in a junction, of which only the best goes on, and from a junction lead arcs to instances numbered one
after another. Scores of a frame are kept relative to the best one, in float32; what was taken away is summed up.
"""

import numpy as np
from numba import njit, types

from speechgmm.compiled import MATRIX32, OPTIONS, VECTOR32, compiled

NEVER = np.float32(-1e30)
NO_PATH = np.float32(-1e29)
NUMBERS32 = types.int32[::1]
TABLE32 = types.int32[:, ::1]
# Values that are compared side by side.
WIDE = 64


def _grown(table):  # type: ignore[no-untyped-def]
    """A copy with twice the rows."""
    larger = np.empty((2 * len(table), table.shape[1]), table.dtype)
    larger[: len(table)] = table
    return larger


def _advance(emitted, stays, moves, coming, entered, tokens, records):  # type: ignore[no-untyped-def]
    """Take all states one frame further.

    `tokens` (n_states, n_instances) hold scores, and `records` by which record their instance was entered. No branches:
    the inner loop is over instances side by side.
    """
    n_states, n_instances = tokens.shape
    for s in range(n_states - 1, -1, -1):
        for i in range(n_instances):
            stayed = tokens[s, i] + stays[s, i]
            moved = (tokens[s - 1, i] if s > 0 else coming[i]) + moves[s, i]
            passed = records[s - 1, i] if s > 0 else entered[i]
            tokens[s, i] = max(max(stayed, moved) + emitted[s, i], NEVER)
            records[s, i] = passed if moved > stayed else records[s, i]


def _best(tokens):  # type: ignore[no-untyped-def]
    """The best score, found in as many running maxima as a vector holds: one would wait for its last step each time."""
    maxima, flat = np.full(WIDE, NEVER, np.float32), tokens.ravel()
    whole = flat.size - flat.size % WIDE
    for start in range(0, whole, WIDE):
        for k in range(WIDE):
            maxima[k] = max(maxima[k], flat[start + k])
    best = maxima.max()
    for i in range(whole, flat.size):
        best = max(best, flat[i])
    return best


def _prune(tokens, best, beam):  # type: ignore[no-untyped-def]
    """Give up what lies outside the beam, and measure the rest from the best."""
    for s in range(len(tokens)):
        score = tokens[s]
        for i in range(score.size):
            value = score[i] - best
            score[i] = value if value >= -beam else NEVER


def _arranged(pdfs, lengths, stays, leaves):  # type: ignore[no-untyped-def]
    """State by state: mixtures, and log-probabilities of staying and of coming from the state before."""
    n_instances, n_states = pdfs.shape
    numbers = np.empty((n_states, n_instances), np.int32)
    stay, move = np.full(numbers.shape, NEVER, np.float32), np.full(numbers.shape, NEVER, np.float32)
    for i in range(n_instances):
        for s in range(n_states):
            numbers[s, i] = pdfs[i, s]
            if s < lengths[i]:
                stay[s, i] = stays[pdfs[i, s]]
                move[s, i] = leaves[pdfs[i, s - 1]] if s > 0 else np.float32(0.0)
    return numbers, stay, move


def _leave(lengths, outs, tokens, junctions, beam, finest, winners):  # type: ignore[no-untyped-def]
    """The best instance that may be left at each junction, and its score."""
    finest[:] = NEVER
    for i in range(lengths.size):
        score = tokens[lengths[i] - 1, i]
        if score >= -beam and score + outs[i] > finest[junctions[i]]:
            finest[junctions[i]], winners[junctions[i]] = score + outs[i], i


advance, best_of, prune, leave, grown, arranged = (
    njit(**OPTIONS)(_advance),
    njit(**OPTIONS)(_best),
    njit(**OPTIONS)(_prune),
    njit(**OPTIONS)(_leave),
    njit(**OPTIONS)(_grown),
    njit(**OPTIONS)(_arranged),
)


def _follow(score, weights, record, coming, entered, first):  # type: ignore[no-untyped-def]
    """Offer the instances that follow a junction to be entered from it."""
    for k in range(weights.size):
        value, old = score + weights[k], coming[first + k]
        entered[first + k] = record if value > old else entered[first + k]
        coming[first + k] = max(value, old)


def _trace(history, record, path):  # type: ignore[no-untyped-def]
    """The instances of a path and the frames they end before, the last first; returns how many there are."""
    n_found = 0
    while record >= 0:
        path[n_found, 0], path[n_found, 1] = history[record, 0], history[record, 1]
        n_found += 1
        record = history[record, 2]
    return n_found


follow, trace = njit(**OPTIONS)(_follow), njit(**OPTIONS)(_trace)


@compiled(
    types.Tuple((types.float64, TABLE32))(
        *(MATRIX32, TABLE32, NUMBERS32, VECTOR32, VECTOR32, NUMBERS32, NUMBERS32, MATRIX32),
        *(VECTOR32, VECTOR32, types.float32),
    )
)
def decode(  # type: ignore[no-untyped-def]
    scores, pdfs, lengths, stays, leaves, junctions, firsts, weights, entries, exits, beam
):
    """The best path through the loop.

    Parameters
    ----------
    scores : (n_frames, n_pdfs) float32
        Log-likelihood of each frame under each mixture.
    pdfs : (n_instances, n_states) int32
        The mixtures of the states of each instance, filled up on the right.
    lengths : (n_instances,) int32
        How many states it has.
    stays, leaves : (n_pdfs,) float32
        Log-probability of staying in a state, and of leaving it.
    junctions : (n_instances,) int32
        Where each leads.
    firsts : (n_junctions,) int32
        The first of the instances that follow a junction.
    weights : (n_junctions, n_following) float32
        Log-probability of each of them.
    entries, exits : (n_instances,) float32
        Of beginning and of ending with it.
    beam : float32

    Returns
    -------
    float64
        Its log-likelihood, `NEVER` where there is none.
    (n_units, 2) int32
        Instances, and the number of the frame after the last of each.
    """
    n_frames, (n_instances, n_states) = len(scores), pdfs.shape
    numbers, stay, move = arranged(pdfs, lengths, stays, leaves)
    outs = np.empty(n_instances, np.float32)
    for i in range(n_instances):
        outs[i] = leaves[pdfs[i, lengths[i] - 1]]
    emitted = np.empty((n_states, n_instances), np.float32)
    tokens = np.full((n_states, n_instances), NEVER, np.float32)
    records = np.full((n_states, n_instances), -1, np.int32)
    coming, entered = entries.copy(), np.full(n_instances, -1, np.int32)
    finest, winners = np.empty(firsts.size, np.float32), np.zeros(firsts.size, np.int32)
    history, n_records, offset = np.empty((4096, 3), np.int32), 0, 0.0
    for t in range(n_frames):
        row = scores[t]
        for s in range(n_states):
            for i in range(n_instances):
                emitted[s, i] = row[numbers[s, i]]
        advance(emitted, stay, move, coming, entered, tokens, records)
        best = best_of(tokens)
        if best < NO_PATH:  # measured from there, what was given up would be as good as anything
            return np.float64(NEVER), np.empty((0, 2), np.int32)
        prune(tokens, best, beam)
        offset += best
        if t == n_frames - 1:
            break
        leave(lengths, outs, tokens, junctions, beam, finest, winners)
        coming[:] = NEVER
        for junction in range(firsts.size):
            score = finest[junction]
            if score < -beam:
                continue
            winner = winners[junction]
            if n_records == len(history):
                history = grown(history)
            history[n_records, 0], history[n_records, 1] = winner, t + 1
            history[n_records, 2] = records[lengths[winner] - 1, winner]
            weight, first = weights[junction], firsts[junction]
            follow(score, weight, n_records, coming, entered, first)
            n_records += 1
    total, winner = NEVER, -1
    for i in range(n_instances):
        value = tokens[lengths[i] - 1, i] + outs[i] + exits[i]
        if value > total:
            total, winner = value, i
    path = np.empty((n_frames + 1, 2), np.int32)
    if total < NO_PATH:
        return np.float64(NEVER), path[:0].copy()
    path[0, 0], path[0, 1] = winner, n_frames
    n_found = 1 + trace(history, records[lengths[winner] - 1, winner], path[1:])
    return offset + total, path[:n_found][::-1].copy()
