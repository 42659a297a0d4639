"""Scores against the plain equation in float64, decisions against a plain loop, and what a small job loads."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from speechgmm import scorer as scorer_module
from speechgmm.em.mixture import Mixture
from speechgmm.errors import InputError
from speechgmm.features.config import FeatureConfig
from speechgmm.features.extract import FeatureExtractor
from speechgmm.manifest import Utterance
from speechgmm.model_file import Model
from speechgmm.scorer import COLUMNS, UNKNOWN, MixtureBank, Scorer, Scores, class_posteriors, classify

# float32 products are right to about 6e-8 of their largest terms. For frames within a few deviations these are
# some hundred nats: 1e-5 a frame, and less in the mean over frames.
PER_FRAME = 1e-5
# Of frames far away the terms grow as the score does.
RELATIVE = 1e-6
# Pitches of three "voices", an octave and more apart.
PITCHES = {"alto": 320.0, "bass": 90.0, "child": 700.0}


def random_mixture(rng, n_components, n_features, origin=0.0, deviation=1.0):
    weights = rng.uniform(0.2, 1.0, n_components)
    return Mixture(
        weights / weights.sum(),
        origin + deviation * rng.normal(size=(n_components, n_features)),
        deviation**2 * rng.uniform(0.3, 2.0, (n_components, n_features)),
    )


def random_model(sizes=(1, 8, 3), n_features=5, seed=0, origin=0.0, deviation=1.0, **changes):
    """A model with classes a, b, c, … of the given numbers of components, and a background."""
    rng = np.random.default_rng(seed)
    mixtures = [random_mixture(rng, size, n_features, origin, deviation) for size in (*sizes, 6)]
    values = {
        "label": "speaker",
        "labels": tuple(f"{index:04d}" for index in range(len(sizes))),
        "mixtures": tuple(mixtures[:-1]),
        "background": mixtures[-1],
        "posterior_scale": 0.1,
        "log_priors": np.full(len(sizes), -math.log(len(sizes))),
        "features": None,
    }
    return Model(**(values | changes))


def exact_scores(model, frames):
    """Mean log-likelihoods in float64; the background last."""
    mixtures = (*model.mixtures, model.background)
    return np.array([[mixture.log_likelihoods(array).mean() for mixture in mixtures] for array in frames])


def joined(scores):
    return np.column_stack([scores.classes, scores.background])


def sampled(model, lengths, seed=0):
    """Utterances drawn from the classes in turn."""
    return [
        model.mixtures[index % len(model.mixtures)].sample(length, seed + index).astype(np.float32)
        for index, length in enumerate(lengths)
    ]


def choose_path(monkeypatch, compiled):
    monkeypatch.setattr(scorer_module, "WORTH_COMPILED_CODE", 0 if compiled else 10**18)


@pytest.fixture(params=[False, True], ids=["numpy", "compiled"])
def path(request, monkeypatch):
    """Both ways to add up densities."""
    choose_path(monkeypatch, request.param)


# --- scores


@pytest.mark.parametrize(("origin", "deviation"), [(0.0, 1.0), (-500.0, 1.0), (-500.0, 40.0), (3e4, 1e-2)])
@pytest.mark.usefixtures("path")
def test_scores_are_mean_log_likelihoods(origin, deviation):
    model = random_model(origin=origin, deviation=deviation, n_features=12)
    # Around the 512 frames of a block, too.
    frames = [array.astype(np.float64) for array in sampled(model, [1, 2, 100, 511, 512, 513, 1100])]
    scores = Scorer(model).score(frames)
    exact = exact_scores(model, frames)
    assert np.abs(exact).max() < 300
    np.testing.assert_allclose(joined(scores), exact, rtol=0, atol=PER_FRAME)
    assert scores.n_frames.tolist() == [1, 2, 100, 511, 512, 513, 1100]


def test_the_compiled_pass_agrees_with_numpy(monkeypatch):
    model = random_model(sizes=(8, 5, 8, 1), n_features=12, origin=-500.0)
    frames = sampled(model, [1, 300, 700])
    plain = joined(Scorer(model).score(frames))
    calls = []
    from speechgmm.em import kernels

    kernel = kernels.add_log2_likelihoods
    monkeypatch.setattr(kernels, "add_log2_likelihoods", lambda *args: calls.append(1) or kernel(*args))
    choose_path(monkeypatch, compiled=True)
    np.testing.assert_allclose(joined(Scorer(model).score(frames)), plain, rtol=0, atol=PER_FRAME)
    assert len(calls) == 4  # one a block: the compiled pass was really used, and not before


def test_more_classes_than_fit_in_one_product():
    sizes = [1, 3, 2] * 400
    model = random_model(sizes=sizes, n_features=2)
    assert len(sizes) * max(sizes) > 3 * COLUMNS
    frames = sampled(model, [7, 600, 1])
    np.testing.assert_allclose(
        joined(Scorer(model).score(frames)), exact_scores(model, frames), rtol=0, atol=PER_FRAME
    )


@pytest.mark.parametrize("columns", [1, 8, 17, 10**6])
@pytest.mark.usefixtures("path")
def test_any_number_of_columns_gives_the_same_scores(monkeypatch, columns):
    model = random_model(sizes=(4, 8, 1, 2, 8))
    frames = sampled(model, [20, 513])
    monkeypatch.setattr(scorer_module, "COLUMNS", columns)
    np.testing.assert_allclose(
        joined(Scorer(model).score(frames)), exact_scores(model, frames), rtol=0, atol=PER_FRAME
    )


def test_components_of_weight_zero_count_for_nothing():
    rng = np.random.default_rng(3)
    means, variances = rng.normal(size=(3, 4)), np.ones((3, 4))
    half = Mixture([0.5, 0.0, 0.5], means, variances)
    frames = means[[1, 1, 1]]
    np.testing.assert_allclose(
        MixtureBank([half]).mean_log_likelihoods(frames),
        half.log_likelihoods(frames).mean(),
        atol=PER_FRAME,
    )


@pytest.mark.usefixtures("path")
def test_scores_are_the_same_bits_alone_and_in_a_batch():
    model = random_model(sizes=(4, 1, 7), n_features=13)
    frames = sampled(model, [512, 3, 900, 1, 40, 40])
    frames[2][100] = 1e8  # far from all others
    for batch in (frames[:3], frames[::-1], [frames[2], frames[5], frames[0]]):
        together = joined(Scorer(model).score(batch))
        for row, array in zip(together, batch, strict=True):
            np.testing.assert_array_equal(joined(Scorer(model).score([array]))[0], row)


def test_scores_are_the_same_bits_for_any_number_of_threads(monkeypatch):
    model = random_model(n_features=4)
    frames = sampled(model, [500] * 110)  # more than 100 blocks: enough for a second thread
    asked = []
    ordered_map = scorer_module.ordered_map
    monkeypatch.setattr(
        scorer_module, "ordered_map", lambda *args: asked.append(args[2]) or ordered_map(*args)
    )
    one, two = (joined(Scorer(model).score(frames, n_jobs)) for n_jobs in (1, 2))
    np.testing.assert_array_equal(one, two)
    few = joined(Scorer(model).score(frames[:3], n_jobs=2))
    np.testing.assert_array_equal(few, one[:3])
    assert asked == [1, 2, 1]


def test_the_way_to_add_up_is_chosen_by_the_utterance_alone(monkeypatch):
    model = random_model(n_features=4)  # 4 mixtures of up to 8 components
    frames = sampled(model, [99, 100, 5, 300])
    used = []
    add = scorer_module._sums
    monkeypatch.setattr(scorer_module, "_sums", lambda *args: used.append(args[1]) or add(*args))
    monkeypatch.setattr(scorer_module, "WORTH_COMPILED_CODE", 100 * 4 * 8)
    Scorer(model).score(frames)
    assert used == [False, True, False, True]


def test_scoring_holds_blas_to_one_thread_and_tells_progress():
    from threadpoolctl import threadpool_info, threadpool_limits

    def blas_threads():
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    model, seen = random_model(), []
    with threadpool_limits(2, "blas"):
        Scorer(model).score(
            sampled(model, [3, 4]), progress=lambda *args: seen.append((*args, *blas_threads()))
        )
        assert blas_threads() == {2}
    assert seen == [("scores", 1, 2, 1), ("scores", 2, 2, 1)]


# --- frames far away


@pytest.mark.usefixtures("path")
def test_frames_far_away_among_others_lose_nothing():
    model = random_model(sizes=(3, 8), n_features=6, origin=-500.0)
    (frames,) = sampled(model, [600])
    frames[[0, 17, 511, 599]] += np.float32(1e6)
    exact = exact_scores(model, [frames])
    np.testing.assert_allclose(joined(Scorer(model).score([frames])), exact, rtol=RELATIVE)
    # What tells the classes apart is right, too: their difference is as large as the terms.
    assert abs(exact[0, 0] - exact[0, 1]) > 1e6


@pytest.mark.parametrize(
    "lengths",
    [
        pytest.param([1], id="one frame"),
        pytest.param([3, 700], id="all"),
    ],
)
@pytest.mark.usefixtures("path")
def test_utterances_far_away_as_a_whole_are_scored(lengths):
    model = random_model(sizes=(3, 8), n_features=6)
    frames = [array + np.float32(1e6) for array in sampled(model, lengths)]
    scores = Scorer(model).score(frames)
    np.testing.assert_allclose(joined(scores), exact_scores(model, frames), rtol=1e-12)


def test_a_block_far_away_is_scored():
    model = random_model(sizes=(3, 8), n_features=6)
    (frames,) = sampled(model, [600])
    frames[:512] += np.float32(1e6)
    np.testing.assert_allclose(
        joined(Scorer(model).score([frames])), exact_scores(model, [frames]), rtol=RELATIVE
    )


@pytest.mark.parametrize("factor", [5, 15, 30])
@pytest.mark.usefixtures("path")
def test_frames_many_deviations_off_keep_seven_digits(factor):
    # Variances a hundredth of the spread, as at the variance floor: the worst case for float32.
    rng = np.random.default_rng(5)
    mixtures = [
        Mixture(np.full(8, 1 / 8), 3 * rng.normal(size=(8, 20)), np.full((8, 20), 0.1)) for _ in "abc"
    ]
    frames = factor * rng.normal(size=(100, 20))
    exact = [mixture.log_likelihoods(frames).mean() for mixture in mixtures]
    np.testing.assert_allclose(MixtureBank(mixtures).mean_log_likelihoods(frames), exact, rtol=RELATIVE)


@pytest.mark.parametrize("value", [1e100, 1e160, 1e300])
def test_huge_values_are_scored_or_refused(value):
    model = random_model()
    (frames,) = sampled(model, [20])
    frames = frames.astype(np.float64)
    frames[3] = value
    try:
        assert np.isfinite(joined(Scorer(model).score([frames]))).all()
    except InputError as error:
        if "frames[0]" not in str(error):
            raise


# --- what cannot be scored


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros((0, 5)), r"`frames\[1\]` holds no frames; an utterance needs at least 1"),
        (np.zeros((3, 4)), r"`frames\[1\]` has 4 features; the mixture has 5 \(deltas missing"),
        (np.zeros(5), r"`frames\[1\]` has 1 dimensions; it must have 2"),
        (np.zeros((2, 3, 5)), r"`frames\[1\]` has 3 dimensions; it must have 2"),
        ([["a"] * 5], r"`frames\[1\]` holds <U1 values; numbers are needed"),
        (np.array([[0, 0, np.nan, 0, 0]]), r"`frames\[1\]` has the value nan at frame 0, feature 2"),
        (
            np.array([[0.0] * 5, [0, 0, 0, 0, -np.inf]]),
            r"`frames\[1\]` has the value -inf at frame 1, feature 4",
        ),
    ],
)
def test_frames_that_cannot_be_scored_are_named(frames, message):
    model = random_model()
    with pytest.raises(InputError, match=message):
        Scorer(model).score([np.zeros((2, 5)), frames])


def test_frames_may_be_lists_integers_or_no_utterances_at_all():
    scorer = Scorer(random_model())
    whole = np.arange(15).reshape(3, 5) % 4
    expected = joined(scorer.score([whole.astype(np.float64)]))
    for frames in (whole, whole.tolist(), whole.astype(np.float16), np.asfortranarray(whole)):
        np.testing.assert_array_equal(joined(scorer.score([frames])), expected)
    nothing = scorer.score([])
    assert nothing.classes.shape == (0, 3)
    assert scorer.decide(nothing, []) == []


def test_lists_may_hold_a_frame_far_away():
    model = random_model()
    frames = [[1e6] * 5, [0.0] * 5]
    np.testing.assert_allclose(
        joined(Scorer(model).score([frames])), exact_scores(model, [frames]), rtol=RELATIVE
    )


def test_a_number_of_workers_that_cannot_be_is_refused():
    model = random_model()
    with pytest.raises(InputError, match="`n_jobs` is 0"):
        Scorer(model).score(sampled(model, [3, 3]), n_jobs=0)


# --- decisions


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
    heavy = {"numba", "llvmlite", "librosa", "sklearn", "scipy.signal", "scipy.optimize", "joblib", "pandas"}
    assert heavy & set(modules) == set()
    assert {"speechgmm.scorer", "scipy.fft"} <= set(modules)
