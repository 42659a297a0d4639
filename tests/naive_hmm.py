"""Slow twins of HMMs in plain loops and double precision, and small HMMs to compare them on.

They follow the definitions and share nothing with the package: `paths` writes out every way through a transcript,
without a graph; the passes go over a graph's arcs one by one; the decoder keeps, for every history that an n-gram
model can tell apart, the best path in every state.
"""

import itertools
import math
from typing import NamedTuple

import numpy as np

from speechgmm.em.mixture import Mixture
from speechgmm.phones.hmm import HmmSet
from tests import naive


def hmm_set(lengths, seed=0, n_components=1, n_features=2, spread=2.0, shared=None, covariance_type="diag"):
    """HMMs of units "A", "B", … with so many states each; `shared`: the mixtures of all states, one after another."""
    rng = np.random.default_rng(seed)
    numbers = list(range(sum(lengths))) if shared is None else list(shared)
    n_mixtures = max(numbers) + 1
    mixtures = [
        random_mixture(rng, n_components, n_features, spread, covariance_type) for _ in range(n_mixtures)
    ]
    edges = np.cumsum([0, *lengths])
    states = tuple(tuple(numbers[a:b]) for a, b in itertools.pairwise(edges))
    units = tuple("ABCDEFGHIJ"[: len(lengths)])
    return HmmSet(units, states, tuple(mixtures), rng.uniform(0.2, 0.9, n_mixtures))


def random_mixture(rng, n_components, n_features, spread, covariance_type="diag"):
    means = spread * rng.standard_normal((n_components, n_features))
    variances = rng.uniform(0.5, 2.0, (n_components, n_features))
    if covariance_type == "spherical":
        covariances = variances[:, 0]
    elif covariance_type == "diag":
        covariances = variances
    else:
        turns = 0.3 * rng.standard_normal((n_components, n_features, n_features))
        covariances = np.array([np.diag(v) + t @ t.T for v, t in zip(variances, turns, strict=True)])
        covariances = covariances[0] if covariance_type == "tied" else covariances
    return Mixture(rng.dirichlet(np.full(n_components, 5.0)), means, covariances, covariance_type)


def sampled(hmms, units, rng):
    """Frames of a string of units, drawn state by state, and the mixture of each."""
    pdfs = []
    for unit in units:
        for pdf in hmms.states_of(unit):
            pdfs += [pdf] * int(rng.geometric(1 - hmms.stays[pdf]))
    frames = [hmms.mixtures[pdf].sample(1, int(rng.integers(2**31)))[0] for pdf in pdfs]
    return np.array(frames), np.array(pdfs)


def emissions(hmms, frames):
    """Log-likelihood of each frame under each mixture, (n_frames, n_mixtures)."""
    return np.stack([naive.log_likelihoods(mixture, frames) for mixture in hmms.mixtures], axis=1)


def log_sum(values):
    """log Σ exp(value); nothing is -inf."""
    peak = max(values, default=-math.inf)
    if peak == -math.inf:
        return peak
    return peak + math.log(math.fsum(math.exp(value - peak) for value in values))


# Every way through a transcript


class WholePath(NamedTuple):
    """One way to say and to time a transcript: its score, and for every frame its state.

    A state is (place of the transcript, alternative, unit in it, state in that, mixture).
    """

    score: float
    states: tuple[tuple[int, int, int, int, int], ...]

    @property
    def pdfs(self):
        return tuple(state[-1] for state in self.states)


def readings(hmms, transcript):
    """Every string of states that a transcript allows, and the log-probability of choosing it."""
    places = []
    for place, step in enumerate(transcript):
        ways = []
        distinct = list(dict.fromkeys(step.alternatives))
        for number, units in enumerate(distinct):
            states = [
                (place, number, position, state, pdf)
                for position, unit in enumerate(units)
                for state, pdf in enumerate(hmms.states[hmms.units.index(unit)])
            ]
            ways.append((-math.log(len(distinct)), states))
        places.append(ways)
    for chosen in itertools.product(*places):
        yield sum(weight for weight, _ in chosen), [state for _, states in chosen for state in states]


def paths(hmms, transcript, scores):
    """Every path of an utterance with these emissions."""
    n_frames = len(scores)
    for weight, states in readings(hmms, transcript):
        if not 0 < len(states) <= n_frames:
            continue
        for cuts in itertools.combinations(range(1, n_frames), len(states) - 1):
            yield _timed(hmms, weight, states, [0, *cuts, n_frames], scores)


def _timed(hmms, weight, states, edges, scores):
    score, along = weight, []
    for state, (first, stop) in zip(states, itertools.pairwise(edges), strict=True):
        pdf, stay = state[-1], float(hmms.stays[state[-1]])
        score += (stop - first - 1) * math.log(stay) + math.log(1 - stay)
        for frame in range(first, stop):
            score += float(scores[frame][pdf])
            along.append(state)
    return WholePath(score, tuple(along))


def enumerated(hmms, transcript, scores):
    """Log-likelihood, posteriors (n_frames, n_mixtures), expected stays (n_mixtures,), and the best path."""
    every = list(paths(hmms, transcript, scores))
    total = log_sum([path.score for path in every])
    posteriors = np.zeros((len(scores), len(hmms.mixtures)))
    stays = np.zeros(len(hmms.mixtures))
    for path in every:
        share = math.exp(path.score - total)
        for frame, state in enumerate(path.states):
            posteriors[frame, state[-1]] += share
            if frame and path.states[frame - 1] == state:
                stays[state[-1]] += share
    best = max(every, key=lambda path: path.score)
    return total, posteriors, stays, best


# Passes over a graph


def arcs(hmms, graph):
    """(source, target, log-probability) of all arcs, loops too, and those of beginning and of ending in states."""
    found = []
    for target, pdf in enumerate(graph.pdfs):
        found.append((target, target, math.log(hmms.stays[pdf])))
        for arc in range(graph.starts[target], graph.starts[target + 1]):
            source = int(graph.sources[arc])
            leave = math.log(1 - hmms.stays[graph.pdfs[source]])
            found.append((source, target, leave + float(graph.branches[arc])))
    exits = [
        float(value) + math.log(1 - hmms.stays[pdf])
        for value, pdf in zip(graph.exits, graph.pdfs, strict=True)
    ]
    return found, [float(value) for value in graph.entries], exits


def forward(hmms, graph, scores):
    """Forward scores, (n_frames, n_states), and the log-likelihood."""
    found, entries, exits = arcs(hmms, graph)
    n_states = len(graph.pdfs)
    rows = [[entries[j] + float(scores[0][graph.pdfs[j]]) for j in range(n_states)]]
    for t in range(1, len(scores)):
        coming = [[] for _ in range(n_states)]
        for source, target, weight in found:
            coming[target].append(rows[-1][source] + weight)
        rows.append([log_sum(coming[j]) + float(scores[t][graph.pdfs[j]]) for j in range(n_states)])
    return rows, log_sum([rows[-1][j] + exits[j] for j in range(n_states)])


def backward(hmms, graph, scores):
    """Backward scores, (n_frames, n_states), and the log-likelihood."""
    found, entries, exits = arcs(hmms, graph)
    n_states = len(graph.pdfs)
    rows = [exits]
    for t in range(len(scores) - 1, 0, -1):
        leaving = [[] for _ in range(n_states)]
        for source, target, weight in found:
            leaving[source].append(weight + float(scores[t][graph.pdfs[target]]) + rows[0][target])
        rows.insert(0, [log_sum(leaving[j]) for j in range(n_states)])
    first = [entries[j] + float(scores[0][graph.pdfs[j]]) + rows[0][j] for j in range(n_states)]
    return rows, log_sum(first)


def forward_backward(hmms, graph, scores):
    """Log-likelihood, posteriors (n_frames, n_mixtures), and expected stays (n_mixtures,)."""
    alphas, total = forward(hmms, graph, scores)
    betas, _ = backward(hmms, graph, scores)
    posteriors = np.zeros((len(scores), len(hmms.mixtures)))
    stays = np.zeros(len(hmms.mixtures))
    for t in range(len(scores)):
        for j, pdf in enumerate(graph.pdfs):
            posteriors[t, pdf] += math.exp(alphas[t][j] + betas[t][j] - total)
            if t:
                stay = math.log(hmms.stays[pdf]) + float(scores[t][pdf])
                stays[pdf] += math.exp(alphas[t - 1][j] + stay + betas[t][j] - total)
    return total, posteriors, stays


def viterbi(hmms, graph, scores):
    """Score and states of the best path."""
    found, entries, exits = arcs(hmms, graph)
    n_states = len(graph.pdfs)
    best = [entries[j] + float(scores[0][graph.pdfs[j]]) for j in range(n_states)]
    origins = []
    for t in range(1, len(scores)):
        now, origin = [-math.inf] * n_states, [-1] * n_states
        for source, target, weight in found:
            if best[source] + weight > now[target]:
                now[target], origin[target] = best[source] + weight, source
        best = [now[j] + float(scores[t][graph.pdfs[j]]) for j in range(n_states)]
        origins.append(origin)
    state = max(range(n_states), key=lambda j: best[j] + exits[j])
    total, path = best[state] + exits[state], [state]
    for origin in reversed(origins):
        path.insert(0, origin[path[0]])
    return total, path


# Training


def reestimated(hmms, utterances, floor, method="baum_welch"):
    """One step of Baum-Welch or Viterbi training from (frames, graph): log-likelihood, and the HMMs after it."""
    n_mixtures = len(hmms.mixtures)
    gathered, stays, total = [[] for _ in range(n_mixtures)], np.zeros(n_mixtures), 0.0
    for frames, graph in utterances:
        scores = emissions(hmms, frames)
        if method == "baum_welch":
            score, posteriors, stayed = forward_backward(hmms, graph, scores)
        else:
            score, posteriors, stayed = _of_best_path(hmms, graph, scores)
        total += score
        stays += stayed
        for frame, row in zip(frames, posteriors, strict=True):
            for pdf in range(n_mixtures):
                gathered[pdf].append((frame, row[pdf]))
    mixtures = [_maximised(mixture, own, floor) for mixture, own in zip(hmms.mixtures, gathered, strict=True)]
    counts = np.array([math.fsum(weight for _, weight in own) for own in gathered])
    return total, hmms.with_mixtures(mixtures, stays / counts)


def _of_best_path(hmms, graph, scores):
    score, path = viterbi(hmms, graph, scores)
    posteriors, stays = np.zeros((len(scores), len(hmms.mixtures))), np.zeros(len(hmms.mixtures))
    for t, state in enumerate(path):
        posteriors[t, graph.pdfs[state]] = 1.0
        if t and path[t - 1] == state:
            stays[graph.pdfs[state]] += 1
    return score, posteriors, stays


def _maximised(mixture, weighted_frames, floor):
    """Weights, means and variances of diagonal Gaussians."""
    frames = np.array([frame for frame, _ in weighted_frames])
    shares = naive.posteriors(mixture, frames) * np.array([weight for _, weight in weighted_frames])[:, None]
    weights, means, variances = [], [], []
    for k in range(len(mixture.weights)):
        count = math.fsum(shares[:, k])
        mean = [math.fsum(shares[:, k] * frames[:, d]) / count for d in range(frames.shape[1])]
        away = np.square(frames - np.array(mean))
        variance = [math.fsum(shares[:, k] * away[:, d]) / count for d in range(frames.shape[1])]
        weights.append(count / math.fsum(shares.ravel()))
        means.append(mean)
        variances.append(np.maximum(variance, floor))
    return Mixture(np.array(weights), np.array(means), np.array(variances))


# hmmlearn. It knows no probability of ending: a last frame far from all others, which only a state of its own
# explains, stands for the end. The density of that frame is part of its log-likelihoods.

END = 1e3


def as_hmmlearn(hmms, graph):
    """The graph as an ergodic GMMHMM or, of one Gaussian a state, GaussianHMM; the end is one state more."""
    from hmmlearn.hmm import GMMHMM, GaussianHMM

    n_states, n_mix = len(graph.pdfs), hmms.mixtures[0].n_components
    mixtures = [hmms.mixtures[pdf] for pdf in graph.pdfs]
    options = {"covariance_type": "diag", "init_params": "", "n_iter": 1, "tol": 0.0}
    means = np.array([*(one.means for one in mixtures), np.full((n_mix, hmms.n_features), END)])
    variances = np.array([*(one.variances for one in mixtures), np.ones((n_mix, hmms.n_features))])
    if n_mix == 1:
        model = GaussianHMM(n_states + 1, params="tmc", covars_prior=0.0, **options)
        model.means_, model.covars_ = means[:, 0], variances[:, 0]
    else:
        model = GMMHMM(n_states + 1, n_mix, params="tmcw", **options)
        model.means_, model.covars_ = means, variances
        model.weights_ = np.array([*(one.weights for one in mixtures), np.full(n_mix, 1 / n_mix)])
    found, entries, exits = arcs(hmms, graph)
    model.transmat_ = np.zeros((n_states + 1, n_states + 1))
    for source, target, weight in found:
        model.transmat_[source, target] = math.exp(weight)
    model.transmat_[:-1, -1] = np.exp(exits)
    model.transmat_[-1, -1] = 1.0
    model.startprob_ = np.append(np.exp(entries), 0.0)
    model.n_features = hmms.n_features
    return model


def ended(frames):
    """Frames, and the one that stands for the end."""
    return np.concatenate([frames, np.full((1, frames.shape[1]), END)])


def of_the_end(n_features):
    """The log-density of that frame."""
    return -0.5 * n_features * math.log(2 * math.pi)


# Decoding


def decoded(hmms, language_model, scores, weight=1.0, insertion=0.0):
    """The best string of (unit, first frame, frame after the last), and its score.

    Every unit costs its weighted log-probability after those before it, and `insertion`; so does the end, but for
    the insertion.
    """
    reach = language_model.order - 1
    vocabulary = language_model.vocabulary
    states_of = [hmms.states[hmms.units.index(unit)] for unit in vocabulary]

    def after(history):
        return [weight * float(value) for value in language_model.log_probabilities(history)]

    # By (the last units up to now, state): score, and units with the frames they begin in.
    best = {}
    for number, unit in enumerate(vocabulary):
        score = after(())[number] + insertion + float(scores[0][states_of[number][0]])
        _offer(best, ((unit,), 0), score, ((unit, 0),))
    for t in range(1, len(scores)):
        now = {}
        for (history, state), (score, said) in best.items():
            own = states_of[vocabulary.index(history[-1])]
            pdf = own[state]
            stay, leave = math.log(hmms.stays[pdf]), math.log(1 - hmms.stays[pdf])
            _offer(now, (history, state), score + stay + float(scores[t][pdf]), said)
            if state + 1 < len(own):
                value = score + leave + float(scores[t][own[state + 1]])
                _offer(now, (history, state + 1), value, said)
                continue
            following = after(history)
            for number, unit in enumerate(vocabulary):
                value = score + leave + following[number] + insertion + float(scores[t][states_of[number][0]])
                # As many units as the model looks back on, and one for the states.
                longer = (*history, unit)[-max(reach, 1) :]
                _offer(now, (longer, 0), value, (*said, (unit, t)))
        best = now
    return _finished(hmms, best, states_of, vocabulary, after, len(scores))


def _offer(best, key, score, said):
    if key not in best or score > best[key][0]:
        best[key] = (score, said)


def _finished(hmms, best, states_of, vocabulary, after, n_frames):
    total, winner = -math.inf, ()
    for (history, state), (score, said) in best.items():
        own = states_of[vocabulary.index(history[-1])]
        if state + 1 == len(own):
            value = score + math.log(1 - hmms.stays[own[-1]]) + after(history)[-1]
            if value > total:
                total, winner = value, said
    firsts = [first for _, first in winner]
    names = [unit for unit, _ in winner]
    return list(zip(names, firsts, [*firsts[1:], n_frames], strict=True)), total
