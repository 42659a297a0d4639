"""Decisions against a plain loop, audio from end to end, and what a small job loads."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from speechgmm.em.mixture import Mixture
from speechgmm.errors import InputError
from speechgmm.features.config import FeatureConfig
from speechgmm.features.extract import FeatureExtractor
from speechgmm.manifest import Utterance
from speechgmm.model_file import Model
from speechgmm.scorer import UNKNOWN, Scorer, Scores, class_posteriors, classify
from tests.test_scorer import random_model, sampled

# Pitches of three "voices", an octave and more apart.
PITCHES = {"alto": 320.0, "bass": 90.0, "child": 700.0}


def naive_decisions(model, scores, utterances, threshold):
    """Decisions by plain loops over plain numbers."""
    rows = []
    for i, utterance in enumerate(utterances):
        n = int(scores.n_frames[i])
        means = [float(value) for value in scores.classes[i]]
        evidence = [
            model.posterior_scale * n * mean + float(prior)
            for mean, prior in zip(means, model.log_priors, strict=True)
        ]
        ranking = sorted(range(len(means)), key=lambda c: (-evidence[c], c))
        best, second = ranking[0], ranking[1]
        llr = means[best] - float(scores.background[i])
        total = sum(math.exp(value - evidence[best]) for value in evidence)
        rows.append(
            {
                "utterance": utterance,
                "label": UNKNOWN if threshold is not None and llr < threshold else model.labels[best],
                "best": model.labels[best],
                "runner_up": model.labels[second],
                "score": means[best],
                "margin": means[best] - means[second],
                "llr": llr,
                "posterior": 1.0 / total,
                "n_frames": n,
            }
        )
    return rows


def random_scores(rng, n_utterances=40, n_classes=4):
    return Scores(
        rng.normal(-50, 1, (n_utterances, n_classes)),
        rng.normal(-50, 1, n_utterances),
        rng.integers(1, 60, n_utterances),
    )


@pytest.mark.parametrize("threshold", [None, 0.5, -1.0])
@pytest.mark.parametrize("scale", [0.013, 1.0])
@pytest.mark.parametrize("priors", [[0.25] * 4, [0.4, 0.3, 0.2, 0.1]])
def test_decisions_are_those_of_a_plain_loop(threshold, scale, priors):
    model = random_model(sizes=(1, 2, 1, 2), posterior_scale=scale, log_priors=np.log(priors))
    scores = random_scores(np.random.default_rng(8))
    utterances = [f"u{index}" for index in range(40)]
    decisions = Scorer(model).decide(scores, utterances, threshold)
    expected = naive_decisions(model, scores, utterances, threshold)
    assert len({decision.best for decision in decisions}) > 1
    for decision, row in zip(decisions, expected, strict=True):
        for name in ("utterance", "label", "best", "runner_up", "score", "margin", "llr", "n_frames"):
            assert getattr(decision, name) == row[name], name
        # exp of the same numbers, summed in another order: a few roundings.
        assert decision.posterior == pytest.approx(row["posterior"], rel=1e-12)
        assert decision.accepted == (row["label"] != UNKNOWN)
    if threshold is not None:
        assert {decision.accepted for decision in decisions} == {True, False}


def decide(classes, background=-50.0, n_frames=10, threshold=None, **changes):
    """One decision, from the scores of one utterance."""
    model = random_model(sizes=(1,) * len(classes), **changes)
    scores = Scores(np.array([classes]), np.array([background]), np.array([n_frames]))
    (decision,) = Scorer(model).decide(scores, ["u"], threshold)
    return decision


def test_a_winner_below_the_threshold_is_unknown_but_still_named():
    # 0.25 is exact in binary: a winner at the threshold itself is accepted.
    for threshold, label in (
        (None, "0001"),
        (0.25, "0001"),
        (np.nextafter(0.25, 1), UNKNOWN),
        (9.0, UNKNOWN),
    ):
        decision = decide([-51.0, -49.75, -50.5], threshold=threshold)
        assert (decision.label, decision.best, decision.runner_up) == (label, "0001", "0002")
        assert (decision.score, decision.margin, decision.llr) == (-49.75, 0.75, 0.25)
        assert decision.accepted == (label != UNKNOWN)


def test_ties_keep_the_order_of_the_labels():
    decision = decide([-60.0, -50.0, -50.0, -50.0], posterior_scale=1.0)
    assert (decision.best, decision.runner_up, decision.margin) == ("0001", "0002", 0.0)
    assert decision.posterior == pytest.approx(1 / 3, rel=1e-12)  # the fourth is e**-100 likely
    # Sorting is stable by chance where there are few classes.
    many = decide([-60.0] * 3 + [-50.0] * 60)
    assert (many.best, many.runner_up) == ("0003", "0004")


def test_of_one_class_there_is_no_runner_up():
    decision = decide([-50.0], background=-49.0)
    assert (decision.label, decision.runner_up, decision.posterior) == ("0000", "", 1.0)
    assert decision.margin == math.inf
    assert decide([-50.0], background=-49.0, threshold=0.0).label == UNKNOWN


def test_priors_can_turn_a_decision_and_then_the_margin_is_negative():
    even = decide([-50.5, -50.0], n_frames=10, posterior_scale=0.1)
    assert (even.best, even.margin) == ("0001", 0.5)
    assert even.posterior == pytest.approx(1 / (1 + math.exp(-0.5)), rel=1e-12)
    uneven = decide([-50.5, -50.0], n_frames=10, posterior_scale=0.1, log_priors=np.log([0.75, 0.25]))
    assert (uneven.best, uneven.runner_up, uneven.margin) == ("0000", "0001", -0.5)
    assert uneven.posterior == pytest.approx(0.75 / (0.75 + 0.25 * math.exp(0.5)), rel=1e-12)
    # More frames, more evidence.
    assert (
        decide([-50.5, -50.0], 50.0, 100, posterior_scale=0.1, log_priors=np.log([0.75, 0.25])).best == "0001"
    )


def test_posteriors_sum_to_one_however_far_the_classes_are_apart():
    scores = Scores(
        np.array([[-1e6, -10.0, -1e9], [5.0, 5.0, -4e4]]), np.zeros(2), np.array([3000, 1], np.int64)
    )
    posteriors = class_posteriors(scores, 1.0, np.log(np.full(3, 1 / 3)))
    np.testing.assert_allclose(posteriors, [[0, 1, 0], [0.5, 0.5, 0]], rtol=1e-12)


def test_a_threshold_that_is_not_a_number_is_refused():
    with pytest.raises(InputError, match="`threshold` is nan"):
        decide([-50.0, -49.0], threshold=float("nan"))


@pytest.mark.parametrize(
    "ids",
    [
        pytest.param(["u"], id="too few"),
        pytest.param(["u", "v", "w"], id="too many"),
    ],
)
def test_as_many_ids_as_scores_are_needed(ids):
    model = random_model()
    scores = Scorer(model).score(sampled(model, [3, 3]))
    with pytest.raises(InputError, match=f"2 .*{len(ids)}"):
        Scorer(model).decide(scores, ids)


# --- audio


def tone_config():
    return FeatureConfig(sample_rate=8000, n_coefficients=6, delta_orders=0)


@pytest.fixture
def voices(tmp_path, write_tone):
    """Two short files of each voice."""
    return [
        Utterance(
            f"{name}{take}",
            write_tone(tmp_path / f"{name}{take}.wav", pitch, 0.25, 8000, seed=10 * take),
            labels={"speaker": name},
        )
        for name, pitch in PITCHES.items()
        for take in (1, 2)
    ]


@pytest.fixture
def voice_model(voices):
    """One Gaussian for the first file of each voice."""
    extractor = FeatureExtractor(tone_config())
    frames = [extractor.from_utterance(utterance).astype(np.float64) for utterance in voices[::2]]
    mixtures = [
        Mixture([1.0], array.mean(0)[None], array.var(0)[None] + 0.01)
        for array in (*frames, np.concatenate(frames))
    ]
    return Model(
        label="speaker",
        labels=tuple(PITCHES),
        mixtures=tuple(mixtures[:-1]),
        background=mixtures[-1],
        posterior_scale=0.1,
        log_priors=np.full(3, -math.log(3)),
        features=tone_config(),
    )


def test_audio_is_classified_and_a_bad_file_is_a_problem(tmp_path, voices, voice_model):
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"not audio at all")
    utterances = [*voices[:3], Utterance("bad", bad), *voices[3:], Utterance("gone", tmp_path / "gone.wav")]
    seen = []
    outcome = classify(voice_model, utterances, progress=lambda *args: seen.append(args))
    assert [decision.utterance for decision in outcome.decisions] == [voice.id for voice in voices]
    assert [decision.label for decision in outcome.decisions] == [voice.label("speaker") for voice in voices]
    assert [problem.utterance for problem in outcome.problems] == ["bad", "gone"]
    assert "bad.wav: cannot be read as audio" in outcome.problems[0].message
    assert "gone.wav: cannot be opened" in outcome.problems[1].message
    assert seen == [("features", n, 8) for n in range(1, 9)] + [("scores", n, 6) for n in range(1, 7)]


def test_classifying_is_scoring_the_frames_of_the_audio(voices, voice_model):
    outcome = classify(voice_model, voices, threshold=0.1, n_jobs=2)
    frames = FeatureExtractor(tone_config()).extract(voices).frames
    scorer = Scorer(voice_model)
    ids = [voice.id for voice in voices]
    assert list(outcome.decisions) == scorer.decide(scorer.score(frames), ids, threshold=0.1)
    assert outcome.decisions == classify(voice_model, voices, threshold=0.1, n_jobs=1).decisions
    assert classify(voice_model, voices[::-1], threshold=0.1).decisions == outcome.decisions[::-1]
    (strict,) = classify(voice_model, voices[:1], threshold=1e6).decisions
    assert (strict.label, strict.best) == (UNKNOWN, "alto")


def test_nothing_to_classify_gives_nothing(tmp_path, voice_model):
    assert classify(voice_model, []).decisions == ()
    outcome = classify(voice_model, [Utterance("gone", tmp_path / "gone.wav")])
    assert outcome.decisions == ()
    assert len(outcome.problems) == 1


def test_a_model_of_frames_refuses_audio(voices):
    with pytest.raises(
        InputError, match=r"trained on frames made elsewhere, not on audio; use Scorer\(model\)"
    ):
        classify(random_model(), voices)


def test_classifying_a_short_file_loads_nothing_heavy(tmp_path, voices, voice_model):
    voice_model.save(tmp_path / "model.safetensors")
    code = (
        "import sys; from speechgmm import Model, Utterance, classify; "
        "outcome = classify(Model.load(sys.argv[1]), [Utterance('u', sys.argv[2])], n_jobs=2); "
        "print(outcome.decisions[0].label, *sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model.safetensors"), str(voices[3].audio)],
        cwd=Path(__file__).parent.parent,
        env=os.environ,
        capture_output=True,
        text=True,
        check=True,
    )
    label, *modules = done.stdout.split()
    assert label == "bass"
    assert done.stderr == ""
    # The front end is compiled, the scorer is not.
    heavy = {
        "librosa",
        "sklearn",
        "scipy.signal",
        "scipy.optimize",
        "joblib",
        "pandas",
        "speechgmm.em.kernels",
    }
    assert heavy & set(modules) == set()
    assert {"speechgmm.scorer", "speechgmm.features.kernels"} <= set(modules)
