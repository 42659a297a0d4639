"""How well a model does on utterances whose labels are known."""

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from speechgmm.errors import InputError, SpeechGMMWarning
from speechgmm.features.extract import Problem
from speechgmm.manifest import Utterance
from speechgmm.metrics.identification import (
    ClassResult,
    accuracy,
    per_class,
    top_confusions,
    wilson_interval,
)
from speechgmm.model_file import UNKNOWN, Model
from speechgmm.parallel import Progress, no_progress
from speechgmm.scorer import Decision, classify


@dataclass(frozen=True)
class Evaluation:
    """Figures of an evaluation.

    Parameters
    ----------
    accuracy : float
        Share of the utterances that were decided rightly. Right for an utterance of no class of the model is
        "unknown".
    interval : (float, float)
        95 % confidence interval (Wilson); it takes utterances as independent.
    n_utterances, n_correct : int
    classes : tuple of ClassResult
    confusions : tuple of (truth, decided, count)
        The most frequent first.
    decisions : tuple of Decision
    problems : tuple of Problem
        Utterances that could not be read; they count for nothing.
    """

    accuracy: float
    interval: tuple[float, float]
    n_utterances: int
    n_correct: int
    classes: tuple[ClassResult, ...]
    confusions: tuple[tuple[str, str, int], ...]
    decisions: tuple[Decision, ...]
    problems: tuple[Problem, ...]

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain values, for JSON."""
        return {
            "accuracy": self.accuracy,
            "accuracy_interval_95": list(self.interval),
            "n_utterances": self.n_utterances,
            "n_correct": self.n_correct,
            "classes": [asdict(result) for result in self.classes],
            "confusions": [
                {"truth": truth, "decided": decided, "count": count}
                for truth, decided, count in self.confusions
            ],
            "problems": [asdict(problem) for problem in self.problems],
        }


def evaluate(
    model: Model,
    utterances: Sequence[Utterance],
    *,
    threshold: float | None = None,
    n_jobs: int = 1,
    progress: Progress = no_progress,
) -> Evaluation:
    """Classify utterances and compare the decisions with their labels.

    Parameters
    ----------
    model : Model
    utterances : sequence of Utterance
        With the label that the model was trained for.
    threshold : float, optional
        See `speechgmm.scorer.Scorer.decide`.
    n_jobs : int
    progress : callable

    Raises
    ------
    InputError
        If an utterance lacks the label, or none could be read.
    """
    truth = {utterance.id: utterance.label(model.label) for utterance in utterances}
    if len(truth) < len(utterances):
        raise InputError("utterance ids occur twice; `speechgmm manifest check` lists them")
    outcome = classify(model, utterances, threshold=threshold, n_jobs=n_jobs, progress=progress)
    return judge(model, outcome.decisions, truth, outcome.problems)


def judge(
    model: Model,
    decisions: Sequence[Decision],
    truth: dict[str, str],
    problems: Sequence[Problem] = (),
) -> Evaluation:
    """Compare decisions with the true label of each utterance id.

    Raises
    ------
    InputError
        If there are no decisions.
    """
    if not decisions:
        first = f"; the first: {problems[0].message}" if problems else ""
        raise InputError(f"there is nothing to evaluate: no utterance could be used{first}")
    without = [decision.utterance for decision in decisions if decision.utterance not in truth]
    if without:
        raise InputError(f"no truth is given for {len(without)} utterances, such as {without[0]!r}")
    strangers = sorted({truth[d.utterance] for d in decisions} - set(model.labels))
    if strangers:
        warnings.warn(
            f"the model does not know {model.label} {', '.join(strangers[:5])}"
            f"{f' and {len(strangers) - 5} more' if len(strangers) > 5 else ''}; the right answer to them is "
            f"{UNKNOWN!r}, which only a threshold can give",
            SpeechGMMWarning,
            stacklevel=2,
        )
    expected = [truth[d.utterance] if truth[d.utterance] in model.labels else UNKNOWN for d in decisions]
    decided = [d.label for d in decisions]
    correct = sum(right == answer for right, answer in zip(expected, decided, strict=True))
    classes = sorted(set(expected) | (set(decided) - {UNKNOWN}))
    return Evaluation(
        accuracy=accuracy(expected, decided),
        interval=wilson_interval(correct, len(decisions)),
        n_utterances=len(decisions),
        n_correct=correct,
        classes=tuple(per_class(expected, decided, classes)),
        confusions=tuple((str(a), str(b), n) for a, b, n in top_confusions(expected, decided)),
        decisions=tuple(decisions),
        problems=tuple(problems),
    )
