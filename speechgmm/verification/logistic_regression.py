"""Prior-weighted logistic regression of few columns, by Newton's method: assumes good input."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechgmm.errors import InputError

# Newton's method needs about ten steps; what has not settled after so many has no finite optimum.
MAX_STEPS = 100
# It has settled when the next step promises less than this fraction of the loss,
SETTLED = 1e-12
# and is shorter than this fraction of the way so far (or its square, where there is no way to go): steps towards a
# limit that is never reached stay long.
SHORT = 1e-3
# Steps are halved so often, at most, until the loss falls.
MAX_HALVINGS = 40
# Columns of which one is a weighted sum of the others have no smallest eigenvalue but rounding.
LEAST_EIGENVALUE = 1e-10

Floats = NDArray[np.float64]


class PriorWeightedRegression:
    """The weights and the offset whose llrs, at one prior, lose least: logistic regression, both sides weighted.

    The loss in nats, with l = weights · scores + offset: p times the mean over targets of log(1 + exp(-l - logit p)),
    plus 1 - p times the mean over nontargets of log(1 + exp(l + logit p)).

    Parameters
    ----------
    target, nontarget : (n, n_systems)
        Scores.
    target_counts, nontarget_counts : (n,)
        How often each trial counts; more than 0.
    p_target : float

    Raises
    ------
    InputError
        If a column is constant or a weighted sum of the others.
    """

    def __init__(
        self,
        target: Floats,
        nontarget: Floats,
        target_counts: Floats,
        nontarget_counts: Floats,
        p_target: float,
    ) -> None:
        scores = np.concatenate([target, nontarget])
        # Both sides count for half, however many trials each has.
        halves = np.concatenate([counts / counts.sum() / 2 for counts in (target_counts, nontarget_counts)])
        self._centre = halves @ scores
        self._scale = np.sqrt(halves @ (scores - self._centre) ** 2)
        _refuse_constant(scores, self._scale)
        standard = (scores - self._centre) / self._scale
        _refuse_dependent(standard, halves)
        self._rows = np.column_stack([standard, np.ones(len(scores))])
        self._signs = np.repeat([1.0, -1.0], [len(target), len(nontarget)])
        self._shares = 2 * halves * np.where(self._signs > 0, p_target, 1 - p_target)
        self._logit = logit(p_target)

    def solve(self, ridge: float = 0.0) -> tuple[Floats, float] | None:
        """Weights (n_systems,) and offset; None if they have no finite optimum, which a ridge prevents.

        Parameters
        ----------
        ridge : float
            Half of it times the square of the standardised scores' weights is added to the loss.
        """
        solution = np.zeros(self._rows.shape[1])
        penalty = np.append(np.full(len(solution) - 1, ridge), 0.0)
        loss = self._loss(solution, penalty)
        for _ in range(MAX_STEPS):
            gradient, hessian = self._slopes(solution, penalty)
            try:
                step = -np.linalg.solve(hessian, gradient)
            except np.linalg.LinAlgError:
                return None
            settled = -float(gradient @ step) <= SETTLED * loss and np.abs(step).max() <= SHORT * max(
                SHORT, np.abs(solution + step).max()
            )
            for _ in range(MAX_HALVINGS):
                if (new := self._loss(solution + step, penalty)) <= loss:
                    solution, loss = solution + step, new
                    break
                step /= 2
            # Certain, and sooner than long steps would show it.
            if not ridge and self._separates(solution):
                return None
            if settled:
                weights = solution[:-1] / self._scale
                return weights, float(solution[-1] - np.sum(weights * self._centre))
        return None

    def _margins(self, solution: Floats) -> Floats:
        """How much log odds speak for the truth."""
        return np.asarray(self._signs * (self._rows @ solution + self._logit))

    def _loss(self, solution: Floats, penalty: Floats) -> float:
        losses = np.logaddexp(0.0, -self._margins(solution))
        return float(self._shares @ losses + 0.5 * np.sum(penalty * solution**2))

    def _slopes(self, solution: Floats, penalty: Floats) -> tuple[Floats, Floats]:
        """Gradient and Hessian of the loss."""
        wrong = sigmoid(-self._margins(solution))
        gradient = -(self._signs * self._shares * wrong) @ self._rows + penalty * solution
        curved = self._shares * wrong * (1.0 - wrong)
        return gradient, self._rows.T @ (curved[:, None] * self._rows) + np.diag(penalty)

    def _separates(self, solution: Floats) -> bool:
        """Whether no nontarget is above any target: larger weights are then better without end."""
        fused = self._rows[:, :-1] @ solution[:-1]
        return bool(fused[self._signs > 0].min() >= fused[self._signs < 0].max())


def logit(probability: float) -> float:
    """Log odds."""
    return math.log(probability) - math.log1p(-probability)


def sigmoid(log_odds: Any) -> Floats:
    """1 / (1 + exp(-x)), without overflow."""
    return np.asarray(np.exp(-np.logaddexp(0.0, -log_odds)))


def _refuse_constant(scores: Floats, scale: Floats) -> None:
    # A deviation below this fraction of the scores is rounding.
    if (flat := np.flatnonzero(scale <= 1e-13 * np.abs(scores).max(0))).size:
        raise InputError(
            f"all scores of system {flat[0]} (from 0) are {scores[0, flat[0]]:g}; nothing can be learnt from them"
        )


def _refuse_dependent(standard: Floats, shares: Floats) -> None:
    """Refuse systems whose weights could be traded for one another."""
    if np.linalg.eigvalsh(standard.T @ (shares[:, None] * standard))[0] < LEAST_EIGENVALUE:
        raise InputError(
            f"the scores of the {standard.shape[1]} systems are not independent: one is a weighted sum of the "
            "others (the same system twice?)"
        )
