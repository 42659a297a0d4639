"""Figures of an evaluation against cases counted by hand."""

import json
import math

import numpy as np
import pytest

from speechgmm.em.mixture import Mixture
from speechgmm.errors import InputError, SpeechGMMWarning
from speechgmm.evaluation import evaluate, judge
from speechgmm.features.config import FeatureConfig
from speechgmm.features.extract import FeatureExtractor, Problem
from speechgmm.manifest import Utterance
from speechgmm.metrics.identification import ClassResult
from speechgmm.model_file import Model
from speechgmm.scorer import UNKNOWN, Decision


def small_model(labels=("ann", "ben", "cat"), features=None, mixtures=None):
    n_features = 1 if features is None else features.n_features
    one = Mixture([1.0], np.zeros((1, n_features)), np.ones((1, n_features)))
    return Model(
        label="speaker",
        labels=tuple(labels),
        mixtures=tuple(mixtures or [one] * len(labels)),
        background=one,
        posterior_scale=0.1,
        log_priors=np.full(len(labels), -math.log(len(labels))),
        features=features,
    )


def judged(truth, decided, model=None, problems=()):
    """Judge utterances u0, u1, … that are `truth` and were decided as `decided`, each a text of names."""
    truth, decided = truth.split(), decided.split()
    decisions = [
        Decision(f"u{index}", label, best="ann", runner_up="ben", score=-1.0, margin=0.5, llr=0.1, posterior=0.9,
                 n_frames=3)
        for index, label in enumerate(decided)
    ]  # fmt: skip
    known = {f"u{index}": label for index, label in enumerate(truth)}
    return judge(model or small_model(), decisions, known, problems)


# --- by hand


def test_figures_counted_by_hand():
    evaluation = judged("ann ann ann ann ben ben cat cat", "ann ann ben unknown ben cat ben cat")
    assert (evaluation.n_utterances, evaluation.n_correct, evaluation.accuracy) == (8, 4, 0.5)
    assert evaluation.classes == (
        ClassResult("ann", n=4, correct=2, recall=0.5, precision=1.0, f1=2 / 3),
        ClassResult("ben", n=2, correct=1, recall=0.5, precision=1 / 3, f1=0.4),
        ClassResult("cat", n=2, correct=1, recall=0.5, precision=0.5, f1=0.5),
    )
    assert evaluation.confusions == (
        ("ann", "ben", 1), ("ann", "unknown", 1), ("ben", "cat", 1), ("cat", "ben", 1),
    )  # fmt: skip
    assert [decision.utterance for decision in evaluation.decisions] == [f"u{n}" for n in range(8)]


def test_the_interval_is_wilsons():
    # (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n) with z = 1.959964, worked out for 8 of 10.
    z, p, n = 1.959964, 0.8, 10
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    evaluation = judged("ann " * 10, "ann " * 8 + "ben ben")
    assert evaluation.accuracy == 0.8
    assert evaluation.interval == pytest.approx(
        ((centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)), abs=1e-6
    )
    assert evaluation.interval == pytest.approx((0.4902, 0.9433), abs=5e-5)  # as tables give it
    assert judged("ann", "ann").interval[1] == 1.0


def test_confusions_come_most_frequent_first():
    evaluation = judged("ben ben cat ben ann", "cat cat ann ann ann")
    assert evaluation.confusions == (("ben", "cat", 2), ("ben", "ann", 1), ("cat", "ann", 1))


def test_a_class_that_is_only_ever_decided_is_listed_and_one_that_never_occurs_is_not():
    evaluation = judged("ann ann", "ann ben")
    assert evaluation.classes == (
        ClassResult("ann", n=2, correct=1, recall=0.5, precision=1.0, f1=2 / 3),
        ClassResult("ben", n=0, correct=0, recall=0.0, precision=0.0, f1=0.0),
    )


def test_faultless_decisions():
    evaluation = judged("ann ben cat", "ann ben cat")
    assert (evaluation.accuracy, evaluation.n_correct, evaluation.confusions) == (1.0, 3, ())


# --- people the model does not know


def test_the_right_answer_to_a_stranger_is_unknown_and_that_is_said():
    message = (
        r"the model does not know speaker dan, eve; the right answer to them is 'unknown', "
        "which only a threshold can give"
    )
    with pytest.warns(SpeechGMMWarning, match=message):
        evaluation = judged("ann eve dan eve ann", "ann unknown ann unknown unknown")
    assert (evaluation.n_correct, evaluation.accuracy) == (3, 0.6)
    assert evaluation.classes == (
        ClassResult("ann", n=2, correct=1, recall=0.5, precision=0.5, f1=0.5),
        ClassResult(UNKNOWN, n=3, correct=2, recall=2 / 3, precision=2 / 3, f1=2 / 3),
    )
    assert evaluation.confusions == (("ann", UNKNOWN, 1), (UNKNOWN, "ann", 1))


def test_many_strangers_are_not_all_listed():
    names = " ".join(f"s{n}" for n in range(7))
    with pytest.warns(SpeechGMMWarning, match="speaker s0, s1, s2, s3, s4 and 2 more; the right answer"):
        assert judged(names, " ".join(["ann"] * 7)).accuracy == 0.0


# --- plain values


def test_the_figures_are_json():
    problem = Problem("u9", "u9.wav: cannot be opened")
    figures = judged("ann ben", "ann unknown", problems=[problem]).to_dict()
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert figures == {
        "accuracy": 0.5,
        "accuracy_interval_95": list(judged("ann ben", "ann unknown").interval),
        "n_utterances": 2,
        "n_correct": 1,
        "classes": [
            {"label": "ann", "n": 1, "correct": 1, "recall": 1.0, "precision": 1.0, "f1": 1.0},
            {"label": "ben", "n": 1, "correct": 0, "recall": 0.0, "precision": 0.0, "f1": 0.0},
        ],
        "confusions": [{"truth": "ben", "decided": "unknown", "count": 1}],
        "problems": [{"utterance": "u9", "message": "u9.wav: cannot be opened"}],
    }


# --- what cannot be judged


def test_nothing_to_judge_is_refused_with_the_first_reason():
    with pytest.raises(InputError, match=r"^there is nothing to evaluate: no utterance could be used$"):
        judged("", "")
    problems = [Problem("a", "a.wav: is empty"), Problem("b", "b.wav: cannot be opened")]
    with pytest.raises(InputError, match=r"no utterance could be used; the first: a\.wav: is empty$"):
        judged("", "", problems=problems)


def test_a_decision_without_a_truth_is_named():
    with pytest.raises(InputError, match="u1"):
        judged("ann", "ann ben")


# --- audio


@pytest.fixture
def voices(tmp_path, write_tone):
    """Three short files of each of two voices."""
    return [
        Utterance(
            f"{name}{take}",
            write_tone(tmp_path / f"{name}{take}.wav", pitch, 0.2, 8000, seed=take),
            labels={"speaker": name},
        )
        for name, pitch in (("ann", 400.0), ("ben", 100.0))
        for take in range(3)
    ]


@pytest.fixture
def voice_model(voices):
    """A Gaussian for each voice."""
    config = FeatureConfig(sample_rate=8000, n_coefficients=5, delta_orders=0)
    frames = [FeatureExtractor(config).from_utterance(voice).astype(np.float64) for voice in voices[::3]]
    mixtures = [Mixture([1.0], array.mean(0)[None], array.var(0)[None] + 0.01) for array in frames]
    return small_model(("ann", "ben"), config, mixtures)


def test_audio_is_classified_and_compared_with_its_labels(tmp_path, voices, voice_model):
    mislabelled = Utterance("odd", voices[0].audio, labels={"speaker": "ben"})
    gone = Utterance("gone", tmp_path / "gone.wav", labels={"speaker": "ann"})
    seen = []
    evaluation = evaluate(
        voice_model, [*voices, gone, mislabelled], n_jobs=2, progress=lambda *args: seen.append(args)
    )
    assert (evaluation.n_utterances, evaluation.n_correct) == (7, 6)
    assert evaluation.confusions == (("ben", "ann", 1),)
    assert [problem.utterance for problem in evaluation.problems] == ["gone"]
    assert "gone.wav: cannot be opened" in evaluation.problems[0].message
    assert seen[-1] == ("scores", 7, 7)


def test_the_threshold_reaches_the_decisions(voices, voice_model):
    evaluation = evaluate(voice_model, voices, threshold=1e9)
    assert {decision.label for decision in evaluation.decisions} == {UNKNOWN}
    assert evaluation.accuracy == 0.0
    stranger = Utterance("s", voices[0].audio, labels={"speaker": "zed"})
    with pytest.warns(SpeechGMMWarning, match="the model does not know speaker zed"):
        assert evaluate(voice_model, [stranger], threshold=1e9).accuracy == 1.0


def test_ids_that_occur_twice_are_refused_before_any_audio_is_read(tmp_path, voice_model):
    twice = [Utterance("u", tmp_path / "gone.wav", labels={"speaker": "ann"})] * 2
    with pytest.raises(InputError, match="utterance ids occur twice; `speechgmm manifest check` lists them"):
        evaluate(voice_model, twice)


def test_a_missing_label_is_named(voices, voice_model):
    unlabelled = Utterance("u", voices[0].audio, labels={"word": "yes"})
    with pytest.raises(InputError, match="utterance 'u' has no label 'speaker'; it has 'word'"):
        evaluate(voice_model, [*voices, unlabelled])


def test_nothing_usable_is_refused_with_the_first_reason(tmp_path, voices, voice_model):
    with pytest.raises(InputError, match=r"^there is nothing to evaluate: no utterance could be used$"):
        evaluate(voice_model, [])
    gone = [Utterance(name, tmp_path / f"{name}.wav", labels={"speaker": "ann"}) for name in ("x", "y")]
    with pytest.raises(
        InputError, match=r"no utterance could be used; the first: .*x\.wav: cannot be opened"
    ):
        evaluate(voice_model, gone)
    with pytest.raises(InputError, match="trained on frames made elsewhere"):
        evaluate(small_model(("ann", "ben")), voices)
