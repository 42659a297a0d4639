"""verification.system: scores that a loop over trials and `normalise_scores` would give, and what is asked for once."""

import numpy as np
import pytest

from speechgmm.em.adaptation import Adaptation, adapt_to_frames
from speechgmm.em.mixture import Mixture
from speechgmm.errors import InputError
from speechgmm.verification import system as system_file
from speechgmm.verification.score_normalisation import METHODS as NORMALISATIONS
from speechgmm.verification.score_normalisation import NEEDS, normalise_scores
from speechgmm.verification.scoring import TrialScorer
from speechgmm.verification.system import CohortSpeech, System, SystemScorer
from tests import naive

SYSTEMS = tuple(System("top", 5, name, 4 if name == "adaptive_s" else None) for name in NORMALISATIONS)
COHORT = ("ada", "ben", "cleo", "dan", "eve", "finn")


class Speech:
    """A background, four enrolled models, nine test utterances, and a cohort of six with two utterances each."""

    def __init__(self):
        self.ubm = Mixture(*naive.random_parts(0, "diag", 7, 3))
        self.models = [self.model(seed) for seed in range(4)]
        self.frames = [self.spoken(seed % 5, 20 + seed, 100 + seed) for seed in range(9)]
        self.cohort = CohortSpeech(
            [self.model(10 + number) for number in range(6)],
            COHORT,
            [self.spoken(10 + number, 30, 200 + number + 6 * take) for take in (0, 1) for number in range(6)],
            [*COHORT, *COHORT],
        )
        rng = np.random.default_rng(0)
        self.trials = rng.integers(4, size=40), rng.integers(9, size=40)

    def spoken(self, speaker, n_frames, seed):
        shift = np.random.default_rng(speaker).standard_normal(3)
        return (self.ubm.sample(n_frames, seed) + shift).astype(np.float32)

    def model(self, speaker):
        return adapt_to_frames(self.ubm, self.spoken(speaker, 80, 1000 + speaker), Adaptation())

    def scorer(self, method="top", cohort=True):
        return SystemScorer(self.ubm, self.models, method, 5, self.cohort if cohort else None)


@pytest.fixture(scope="module")
def speech():
    return Speech()


def by_loops(speech, method, trials):
    """Raw scores and cohort matrices, each pair scored by a scorer of its own."""

    def score(model, frames):
        return TrialScorer(speech.ubm, [model], method, 5).score([frames], [0], [0])[0]

    cohort = speech.cohort
    matrices = {
        "model_cohort": [[score(model, frames) for frames in cohort.frames] for model in speech.models],
        "test_cohort": [[score(model, frames) for model in cohort.models] for frames in speech.frames],
        "cohort_cohort": [
            [
                np.nan if name == spoken else score(model, frames)
                for frames, spoken in zip(cohort.frames, cohort.frame_speakers, strict=True)
            ]
            for model, name in zip(cohort.models, cohort.speakers, strict=True)
        ],
    }
    raw = [score(speech.models[m], speech.frames[t]) for m, t in zip(*trials, strict=True)]
    return np.array(raw), {name: np.array(matrix) for name, matrix in matrices.items()}


@pytest.mark.parametrize("method", ["top", "linear", "dense"])
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_scores_are_those_of_a_loop_over_trials(speech, method, n_jobs):
    raw, matrices = by_loops(speech, method, speech.trials)
    found = speech.scorer(method).score(speech.frames, *speech.trials, SYSTEMS, n_jobs)
    assert len(found) == len(SYSTEMS)
    for system, scores in zip(SYSTEMS, found, strict=True):
        expected = normalise_scores(
            raw,
            *speech.trials,
            system.normalisation,
            top_n=system.top_n,
            **{name: matrices[name] for name in NEEDS[system.normalisation]},
        )
        np.testing.assert_array_equal(scores, expected, err_msg=str(system))
    assert len({scores.tobytes() for scores in found}) == len(SYSTEMS)


def test_each_system_alone_gives_the_same_bits(speech):
    together = speech.scorer().score(speech.frames, *speech.trials, SYSTEMS)
    for system, expected in zip(SYSTEMS, together, strict=True):
        (alone,) = speech.scorer().score(speech.frames, *speech.trials, [system])
        np.testing.assert_array_equal(alone, expected, err_msg=str(system))
    backwards = speech.scorer().score(speech.frames, *speech.trials, SYSTEMS[::-1])
    for scores, expected in zip(backwards[::-1], together, strict=True):
        np.testing.assert_array_equal(scores, expected)


def test_trials_a_few_at_a_time_give_the_same_bits(speech):
    expected = speech.scorer().score(speech.frames, *speech.trials, SYSTEMS)
    scorer, parts = speech.scorer(), []
    for start in range(0, 40, 7):
        numbers, tests = (side[start : start + 7] for side in speech.trials)
        parts.append(scorer.score(speech.frames, numbers, tests, SYSTEMS))
    for place, scores in enumerate(expected):
        np.testing.assert_array_equal(np.concatenate([part[place] for part in parts]), scores)


def test_cohort_utterances_are_scored_once_against_each_model(speech, monkeypatch):
    pairs = []
    score = TrialScorer.score

    def watched(scorer, frames, models, tests, *options):
        if frames is speech.cohort.frames:
            pairs.extend(zip(np.asarray(models).tolist(), np.asarray(tests).tolist(), strict=True))
        return score(scorer, frames, models, tests, *options)

    monkeypatch.setattr(TrialScorer, "score", watched)
    scorer = speech.scorer()
    z = [System(normalisation="z"), System(normalisation="s")]
    scorer.score(speech.frames, np.array([2, 2]), np.array([0, 1]), z)
    assert sorted(pairs) == [(2, number) for number in range(12)]
    scorer.score(speech.frames, np.array([2]), np.array([5]), z)
    assert len(pairs) == 12
    scorer.score(speech.frames, np.array([0, 2, 3]), np.array([5, 5, 5]), z)
    assert sorted(pairs[12:]) == [(model, number) for model in (0, 3) for number in range(12)]
    # The others need none.
    scorer.score(speech.frames, np.array([1]), np.array([5]), [System(), System(normalisation="t")])
    assert len(pairs) == 36


def test_models_that_no_trial_names_are_not_looked_at(speech, monkeypatch):
    """Whatever lies in memory that has not been written to."""
    real = np.empty

    class Numpy:
        def __getattr__(self, name):
            return getattr(np, name)

        def empty(self, *arguments, **options):
            array = real(*arguments, **options)
            array[...] = np.inf
            return array

    monkeypatch.setattr(system_file, "np", Numpy())
    (scores,) = speech.scorer().score(
        speech.frames, np.array([1]), np.array([0]), [System(normalisation="z")]
    )
    assert np.isfinite(scores).all()


def test_no_trials(speech):
    nothing = np.empty(0, np.int64)
    for scores in speech.scorer().score(speech.frames, nothing, nothing, SYSTEMS):
        assert scores.shape == (0,)
    assert speech.scorer().score(speech.frames, *speech.trials, []) == []


@pytest.mark.parametrize("system", SYSTEMS[1:], ids=str)
def test_normalisation_needs_a_cohort(speech, system):
    cohort = speech.cohort
    without = [
        None,
        CohortSpeech([], [], cohort.frames, cohort.frame_speakers),
        CohortSpeech(cohort.models, cohort.speakers, [], []),
    ]
    for other in without:
        scorer = SystemScorer(speech.ubm, speech.models, "top", 5, other)
        with pytest.raises(InputError, match="normalisation needs a cohort's models and utterances"):
            scorer.score(speech.frames, *speech.trials, [System(), system])
        (scores,) = scorer.score(speech.frames, *speech.trials, [System()])
        assert scores.shape == (40,)


def test_errors_of_trials_and_models_come_through(speech):
    with pytest.raises(InputError, match="`models` has numbers from 4 to 4"):
        speech.scorer().score(speech.frames, np.array([4]), np.array([0]), [System()])
    with pytest.raises(InputError, match="`method` is 'fast'"):
        speech.scorer("fast")
    other = Mixture(*naive.random_parts(0, "diag", 6, 3))
    cohort = CohortSpeech([other], ["ada"], speech.cohort.frames[:1], ["ada"])
    with pytest.raises(InputError, match="model 0 has 6 components"):
        SystemScorer(speech.ubm, speech.models, "top", 5, cohort)


def test_progress_is_that_of_the_trials(speech):
    told = []
    speech.scorer().score(
        speech.frames, np.array([0, 1]), np.array([3, 6]), SYSTEMS, 1, lambda *news: told.append(news)
    )
    assert told == [("trials", 1, 2), ("trials", 2, 2)]


class TestSystem:
    def test_names(self):
        assert [str(system) for system in SYSTEMS] == [
            "top-5",
            "top-5 z",
            "top-5 t",
            "top-5 zt",
            "top-5 s",
            "top-5 adaptive_s-4",
        ]
        assert str(System("dense")) == "dense"
        assert str(System("linear", 30, "z")) == "linear-30 z"

    def test_is_a_value(self):
        for system in SYSTEMS:
            assert System.from_dict(system.to_dict()) == system
            assert hash(System.from_dict(system.to_dict())) == hash(system)
        assert len(set(SYSTEMS)) == len(SYSTEMS)
        assert System().to_dict() == {"method": "top", "top": 20, "normalisation": "none", "top_n": None}

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"method": "fast"}, "system `method` is 'fast'; it can be top, dense, linear"),
            ({"method": None}, "system `method` is None"),
            (
                {"normalisation": "q"},
                "system `normalisation` is 'q'; it can be none, z, t, zt, s, adaptive_s",
            ),
            ({"top": 0}, "system `top` is 0; it must be a whole number from 1"),
            ({"top": True}, "system `top` is True"),
            ({"top": 2.0}, "system `top` is 2.0"),
            ({"top": None}, "system `top` is None"),
            (
                {"normalisation": "adaptive_s", "top_n": 1},
                "system `top_n` is 1; it must be a whole number from 2",
            ),
            ({"normalisation": "adaptive_s", "top_n": 9.5}, "system `top_n` is 9.5"),
            ({"normalisation": "adaptive_s"}, "adaptive_s needs a `top_n`"),
            ({"normalisation": "z", "top_n": 9}, "and the others take none"),
            ({"top_n": 9}, "and the others take none"),
        ],
    )
    def test_refuses(self, fields, message):
        with pytest.raises(InputError, match=message):
            System(**fields)

    def test_from_a_table(self):
        assert System.from_dict({}) == System()
        assert System.from_dict({"method": "dense", "normalisation": "z"}) == System(
            "dense", normalisation="z"
        )
        with pytest.raises(InputError, match="unknown system setting 'topn'; known are method, top, norm"):
            System.from_dict({"topn": 3})
        with pytest.raises(InputError, match="a system is 'top-20'; it must be a table"):
            System.from_dict("top-20")
