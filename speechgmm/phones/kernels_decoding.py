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


def _grown(table):  # type: ignore[no-untyped-def]
    """A copy with twice the rows."""
    larger = np.empty((2 * len(table), table.shape[1]), table.dtype)
    larger[: len(table)] = table
    return larger


def _advance(row, pdfs, lengths, stays, leaves, entries, entered, tokens, records):  # type: ignore[no-untyped-def]
    """Take all states one frame further; return the best score.

    `tokens` (n_instances, n_states) hold scores, and `records` by which record their instance was entered.
    """
    best = NEVER
    for i in range(len(pdfs)):
        score, record = tokens[i], records[i]
        if score[0] == NEVER and entries[i] == NEVER and score.max() == NEVER:
            continue
        for s in range(lengths[i] - 1, -1, -1):
            pdf = pdfs[i, s]
            value = score[s] + stays[pdf]
            if s > 0:
                moved = score[s - 1] + leaves[pdfs[i, s - 1]]
                if moved > value:
                    value, record[s] = moved, record[s - 1]
            elif entries[i] > value:
                value, record[s] = entries[i], entered[i]
            value = max(value + row[pdf], NEVER)
            score[s] = value
            best = max(best, value)
    return best


def _prune(tokens, best, beam):  # type: ignore[no-untyped-def]
    """Give up what lies outside the beam, and measure the rest from the best."""
    for i in range(len(tokens)):
        score = tokens[i]
        for s in range(score.size):
            value = score[s] - best
            score[s] = value if value >= -beam else NEVER


def _leave(pdfs, lengths, leaves, tokens, junctions, beam, finest, winners):  # type: ignore[no-untyped-def]
    """The best instance that may be left at each junction, and its score."""
    finest[:] = NEVER
    for i in range(len(pdfs)):
        last = lengths[i] - 1
        if tokens[i, last] >= -beam:
            value = tokens[i, last] + leaves[pdfs[i, last]]
            if value > finest[junctions[i]]:
                finest[junctions[i]], winners[junctions[i]] = value, i


advance, prune, leave, grown = (
    njit(**OPTIONS)(_advance),
    njit(**OPTIONS)(_prune),
    njit(**OPTIONS)(_leave),
    njit(**OPTIONS)(_grown),
)


def _trace(history, record, path):  # type: ignore[no-untyped-def]
    """The instances of a path and the frames they end before, the last first; returns how many there are."""
    n_found = 0
    while record >= 0:
        path[n_found, 0], path[n_found, 1] = history[record, 0], history[record, 1]
        n_found += 1
        record = history[record, 2]
    return n_found


trace = njit(**OPTIONS)(_trace)


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
    n_frames, n_instances = len(scores), len(pdfs)
    tokens = np.full(pdfs.shape, NEVER, np.float32)
    records = np.full(pdfs.shape, -1, np.int32)
    coming, entered = entries.copy(), np.full(n_instances, -1, np.int32)
    finest, winners = np.empty(firsts.size, np.float32), np.zeros(firsts.size, np.int32)
    history, n_records, offset = np.empty((4096, 3), np.int32), 0, 0.0
    for t in range(n_frames):
        best = advance(scores[t], pdfs, lengths, stays, leaves, coming, entered, tokens, records)
        prune(tokens, best, beam)
        offset += best
        leave(pdfs, lengths, leaves, tokens, junctions, beam, finest, winners)
        if t == n_frames - 1:
            break
        coming[:] = NEVER
        for junction in range(firsts.size):
            if finest[junction] < -beam:
                continue
            winner = winners[junction]
            if n_records == len(history):
                history = grown(history)
            history[n_records, 0], history[n_records, 1] = winner, t + 1
            history[n_records, 2] = records[winner, lengths[winner] - 1]
            row, first = weights[junction], firsts[junction]
            for k in range(row.size):
                value = finest[junction] + row[k]
                if value > coming[first + k]:
                    coming[first + k], entered[first + k] = value, n_records
            n_records += 1
    total, winner = NEVER, -1
    for i in range(n_instances):
        last = lengths[i] - 1
        value = tokens[i, last] + leaves[pdfs[i, last]] + exits[i]
        if value > total:
            total, winner = value, i
    path = np.empty((n_frames + 1, 2), np.int32)
    if total < NO_PATH:
        return np.float64(NEVER), path[:0].copy()
    path[0, 0], path[0, 1] = winner, n_frames
    n_found = 1 + trace(history, records[winner, lengths[winner] - 1], path[1:])
    return offset + total, path[:n_found][::-1].copy()
