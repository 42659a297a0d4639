"""verification.cross_fitting: who is in which background, cohort and model, and scores that others can check."""

from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest

from speechgmm.em.adaptation import Adaptation
from speechgmm.em.mixture import Mixture
from speechgmm.errors import InputError
from speechgmm.files import sha256_of_text
from speechgmm.verification.background import UbmSettings, train_ubm_on_frames
from speechgmm.verification.cross_fitting import CrossFit, cohort_of, cross_fit, explanations, in_order
from speechgmm.verification.enrolment import Enroller
from speechgmm.verification.score_normalisation import normalise_scores
from speechgmm.verification.scoring import TrialScorer
from speechgmm.verification.system import System, SystemScorer
from tests import naive

file = import_module("speechgmm.verification.cross_fitting")
UBM = UbmSettings(n_components=4, max_iterations=3)
RAW, LINEAR, DENSE = System("top", 3), System("linear", 2), System("dense")
ZT, ADAPTIVE = System("top", 3, "zt"), System("top", 3, "adaptive_s", 3)
SYSTEMS = (RAW, LINEAR, DENSE, ZT, ADAPTIVE)


def made_speech(n_speakers=7, seed=0, n_utterances=None):
    """Speakers somewhat apart, two to four utterances each of 30 to 50 frames."""
    rng = np.random.default_rng(seed)
    speech = {}
    for number in range(n_speakers):
        centre, name = 1.5 * rng.standard_normal(3), f"speaker{number}"
        speech[name] = [
            (
                f"{name}/{take}",
                (centre + rng.standard_normal((30 + rng.integers(20), 3))).astype(np.float32),
                0.5,
            )
            for take in range(n_utterances or 2 + number % 3)
        ]
    return speech


@pytest.fixture(scope="module")
def speech():
    return made_speech()


def run(speech, systems=SYSTEMS, **options):
    return cross_fit(speech, systems, **{"ubm": UBM, "n_folds": 2, **options})


@pytest.fixture(scope="module")
def fitted(speech):
    return run(speech)


def folds_of(speech, n_folds=2):
    ordered = sorted(speech, key=sha256_of_text)
    return [ordered[number::n_folds] for number in range(n_folds)]


class Watched:
    """What a run of cross-fitting trains on, enrols and scores: one entry a fold, or a trial."""

    def __init__(self, speech, monkeypatch):
        self.speaker_of = {id(frames): name for name, own in speech.items() for _, frames, _ in own}
        self.key_of = {id(frames): key for own in speech.values() for key, frames, _ in own}
        self.backgrounds, self.cohorts, self.trials = [], [], []
        self._enrolments = {}
        train, cohort, model, score = train_ubm_on_frames, cohort_of, Enroller.model, SystemScorer.score

        def watched_train(frames, **options):
            self.backgrounds.append([self.speaker_of[id(one)] for one in frames])
            return train(frames, **options)

        def watched_cohort(*arguments, **options):
            made = cohort(*arguments, **options)
            self.cohorts.append(made)
            return made

        def watched_model(enroller, enrolment):
            mixture = model(enroller, enrolment)
            self._enrolments[id(mixture)] = mixture, enrolment
            return mixture

        class WatchedScorer(SystemScorer):
            def __init__(scorer, ubm, models, *arguments):
                scorer.enrolments = [self._enrolments[id(mixture)][1] for mixture in models]
                super().__init__(ubm, models, *arguments)

            def score(scorer, frames, models, tests, *arguments):
                fold = [
                    (scorer.enrolments[m], self.speaker_of[id(frames[t])], self.key_of[id(frames[t])])
                    for m, t in zip(models, tests, strict=True)
                ]
                self.trials.append(fold)
                return score(scorer, frames, models, tests, *arguments)

        monkeypatch.setattr(file, "train_ubm_on_frames", watched_train)
        monkeypatch.setattr(file, "cohort_of", watched_cohort)
        monkeypatch.setattr(Enroller, "model", watched_model)
        monkeypatch.setattr(file, "SystemScorer", WatchedScorer)


class TestWhoIsWhere:
    @pytest.mark.parametrize("n_folds", [2, 3])
    def test_no_speaker_of_a_fold_is_in_its_background_or_cohort(self, n_folds, monkeypatch):
        speech = made_speech(10)
        watched = Watched(speech, monkeypatch)
        run(speech, [replace(RAW, normalisation="s")], n_folds=n_folds)
        assert len(watched.backgrounds) == len(watched.cohorts) == len(watched.trials) == n_folds
        folds = folds_of(speech, n_folds)
        assert sorted(name for fold in folds for name in fold) == sorted(speech)
        assert min(map(len, folds)) >= 3
        for fold, background, cohort, trials in zip(
            folds, watched.backgrounds, watched.cohorts, watched.trials, strict=True
        ):
            others = set(speech) - set(fold)
            assert set(background) == others
            assert len(background) == sum(len(speech[name]) for name in others)
            assert set(cohort.speakers) == set(cohort.frame_speakers) == others
            assert {key.split("/")[0] for one in cohort.enrolments for key in one.utterances} == others
            assert {enrolment.speaker for enrolment, _, _ in trials} == set(fold)
            assert {spoken for _, spoken, _ in trials} == set(fold)

    @pytest.mark.parametrize("n_enrol", [None, 1, 2])
    def test_no_model_has_the_tested_utterance(self, speech, n_enrol, monkeypatch):
        watched = Watched(speech, monkeypatch)
        found = run(speech, [RAW], n_enrol=n_enrol)
        trials = [trial for fold in watched.trials for trial in fold]
        assert len(trials) == len(found.is_target)
        for (enrolment, spoken, key), is_target in zip(trials, found.is_target, strict=True):
            assert is_target == (enrolment.speaker == spoken)
            assert key not in enrolment.utterances
            order = [name for name, _, _ in in_order(speech[enrolment.speaker]) if name != key]
            assert enrolment.utterances == tuple(order[:n_enrol])
            if n_enrol:
                assert 1 <= len(enrolment.utterances) <= n_enrol
        for cohort in watched.cohorts:
            for enrolment in cohort.enrolments:
                order = [name for name, _, _ in in_order(speech[enrolment.speaker])]
                assert enrolment.utterances == tuple(order[:n_enrol])

    def test_everybody_is_tried_against_everybody_in_the_fold(self, speech, fitted):
        expected = [
            (name, spoken, name == spoken)
            for fold in folds_of(speech)
            for spoken in fold
            for _ in speech[spoken]
            for name in fold
        ]
        found = zip(
            fitted.model_speakers.tolist(),
            fitted.test_speakers.tolist(),
            fitted.is_target.tolist(),
            strict=True,
        )
        assert list(found) == expected
        assert fitted.is_target.sum() == sum(map(len, speech.values())) == len(fitted.explanations)
        assert set(fitted.scores) == set(SYSTEMS)
        assert all(scores.shape == (len(expected),) for scores in fitted.scores.values())


def by_hand(speech, adaptation=None):
    """The raw scores, normalised ones and explanations of the first fold, model after model."""
    fold = folds_of(speech)[0]
    outside = {name: speech[name] for name in sorted(set(speech) - set(fold))}
    frames = [one for own in outside.values() for _, one, _ in own]
    background = train_ubm_on_frames(frames, settings=UBM).background
    enroller = Enroller(background, adaptation)

    def model(name, without=None):
        own = [one for one in in_order(speech[name]) if one[0] != without]
        return enroller.model(enroller.enrol(name, [one[1] for one in own], [one[0] for one in own]))

    def score(mixtures, tests, system=RAW):
        scorer = TrialScorer(background.ubm, mixtures, system.method, system.top)
        return scorer.score_all(tests)

    scores = {system: [] for system in (RAW, LINEAR, DENSE, ADAPTIVE)}
    cohort_models = [model(name) for name in outside]
    cohort_frames = [one for own in outside.values() for _, one, _ in in_order(own)]
    explained = []
    for spoken in fold:
        for key, test, _ in speech[spoken]:
            models = [model(name, key if name == spoken else None) for name in fold]
            for system in (RAW, LINEAR, DENSE):
                scores[system].extend(score(models, [test], system)[:, 0])
            raw = score(models, [test])[:, 0]
            scores[ADAPTIVE].extend(
                normalise_scores(
                    raw,
                    np.arange(len(models)),
                    np.zeros(len(models), int),
                    "adaptive_s",
                    model_cohort=score(models, cohort_frames),
                    test_cohort=score(cohort_models, [test]).T,
                    top_n=3,
                )
            )
            explained.append(background.ubm.log_likelihoods(test).mean() + max(raw.max(), 0.0))
    return scores, explained


class TestScores:
    def test_are_those_of_trials_made_by_hand(self, speech, fitted):
        scores, explained = by_hand(speech)
        for system, expected in scores.items():
            np.testing.assert_array_equal(
                fitted.scores[system][: len(expected)], expected, err_msg=str(system)
            )
        # Of the plain equation; the fast one sums in another order.
        np.testing.assert_allclose(fitted.explanations[: len(explained)], explained, rtol=1e-9)

    @pytest.mark.parametrize("iterations", [1, 3])
    def test_with_another_adaptation(self, speech, fitted, iterations):
        adaptation = Adaptation(4.0, ("means", "weights"), iterations)
        found = run(speech, [RAW, DENSE], adaptation=adaptation)
        scores, _ = by_hand(speech, adaptation)
        for system in (RAW, DENSE):
            np.testing.assert_array_equal(found.scores[system][: len(scores[system])], scores[system])
            assert not np.array_equal(found.scores[system], fitted.scores[system])

    def test_targets_score_higher(self, fitted):
        for system, scores in fitted.scores.items():
            assert scores[fitted.is_target].mean() > scores[~fitted.is_target].mean() + 0.2, str(system)

    def test_an_explanation_is_never_worse_than_the_background(self):
        ubm = Mixture(*naive.random_parts(0, "diag", 4, 2))
        frames = [ubm.sample(40, seed) for seed in range(3)]
        expected = [ubm.log_likelihoods(one).mean() for one in frames]
        found = explanations(ubm, frames, np.array([-3.0, 0.0, 0.25]))
        np.testing.assert_allclose(found, np.add(expected, [0.0, 0.0, 0.25]), rtol=1e-9)


def assert_same(one: CrossFit, other: CrossFit, systems=SYSTEMS):
    for system in systems:
        np.testing.assert_array_equal(one.scores[system], other.scores[system], err_msg=str(system))
    for name in ("is_target", "model_speakers", "test_speakers", "explanations"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


class TestSameBits:
    @pytest.mark.parametrize("n_jobs", [1, 2])
    def test_for_any_number_of_threads(self, speech, fitted, n_jobs):
        assert_same(run(speech, n_jobs=n_jobs), fitted)

    def test_in_any_order_of_speakers(self, speech, fitted):
        assert_same(run(dict(reversed(speech.items()))), fitted)

    def test_of_each_system_alone(self, speech, fitted):
        for system in SYSTEMS:
            alone = run(speech, [system])
            assert set(alone.scores) == {system}
            np.testing.assert_array_equal(alone.scores[system], fitted.scores[system], err_msg=str(system))

    def test_of_systems_in_any_order_and_more_than_once(self, speech, fitted):
        found = run(speech, [RAW, *SYSTEMS[::-1], ZT])
        assert_same(found, fitted)

    def test_explanations_are_those_of_the_first_systems_method(self, speech, fitted):
        normalised = run(speech, [ZT, LINEAR])
        np.testing.assert_array_equal(normalised.explanations, fitted.explanations)
        other = run(speech, [LINEAR, RAW])
        assert not np.array_equal(other.explanations, fitted.explanations)


def test_progress_is_told_of_folds(speech):
    told = []
    run(speech, [RAW], progress=lambda *news: told.append(news))
    assert told == [("cross-fitting", done, 2) for done in (0, 1, 2)]


class TestErrors:
    @pytest.mark.parametrize(("n_speakers", "n_folds", "needed"), [(5, 2, 6), (7, 3, 9), (0, 2, 6)])
    def test_too_few_speakers(self, n_speakers, n_folds, needed):
        with pytest.raises(
            InputError, match=f"there are {n_speakers} speakers; {n_folds} folds need {needed} or more"
        ):
            run(made_speech(n_speakers), n_folds=n_folds)

    def test_as_few_speakers_as_can_be(self):
        assert run(made_speech(6), [RAW]).is_target.sum() == 18

    def test_one_utterance(self):
        speech = made_speech()
        speech["speaker3"] = speech["speaker3"][:1]
        with pytest.raises(InputError, match="1 speakers have one utterance only, such as 'speaker3'"):
            run(speech)
        speech["speaker1"] = []
        with pytest.raises(InputError, match="2 speakers have one utterance only, such as 'speaker1'"):
            run(speech)

    @pytest.mark.parametrize("other", ["speaker1", "speaker2"])
    def test_an_utterance_twice(self, other):
        speech = made_speech()
        speech[other] = [*speech[other], speech["speaker1"][0]]
        with pytest.raises(InputError, match="1 utterances occur twice, such as 'speaker1/0'"):
            run(speech)

    @pytest.mark.parametrize(
        ("name", "value", "least"),
        [
            *(("n_folds", 1, 2), ("n_folds", 2.0, 2), ("n_enrol", 0, 1), ("n_enrol", -1, 1)),
            *(("cohort_utterances", 0, 1), ("cohort_utterances", -1, 1), ("cohort_utterances", True, 1)),
        ],
    )
    def test_numbers_out_of_range(self, speech, name, value, least):
        with pytest.raises(
            InputError, match=f"^`{name}` is {value}; it must be a whole number from {least}$"
        ):
            run(speech, [replace(RAW, normalisation="s")], **{name: value})

    def test_without_normalisation_no_cohort_utterances_are_needed(self, speech):
        assert run(speech, [RAW], cohort_utterances=0).is_target.any()
        with pytest.raises(
            InputError, match=r"^`cohort_utterances` is -1; it must be a whole number from 0$"
        ):
            run(speech, [RAW], cohort_utterances=-1)

    def test_no_system(self, speech):
        with pytest.raises(InputError, match="there is no system to score by"):
            run(speech, [])

    def test_bad_frames(self):
        speech = made_speech()
        key, frames, seconds = speech["speaker2"][1]
        speech["speaker2"][1] = (key, np.full_like(frames, np.nan), seconds)
        with pytest.raises(InputError, match="has the value nan"):
            run(speech)


class TestCohort:
    @pytest.fixture(scope="class")
    def enroller(self, speech):
        frames = [frames for own in speech.values() for _, frames, _ in own]
        return Enroller(train_ubm_on_frames(frames, settings=UBM).background)

    @pytest.mark.parametrize(("name", "least"), [("n_enrol", 1), ("n_utterances", 0)])
    def test_numbers_out_of_range(self, speech, enroller, name, least):
        with pytest.raises(InputError, match=f"^`{name}` is -1; it must be a whole number from {least}$"):
            cohort_of(enroller, speech, **{name: -1})

    @pytest.mark.parametrize("n_enrol", [None, 1, 3])
    @pytest.mark.parametrize("n_utterances", [None, 1, 3])
    def test_has_a_model_and_utterances_of_each_speaker(self, speech, enroller, n_enrol, n_utterances):
        cohort = cohort_of(enroller, dict(reversed(speech.items())), n_enrol, n_utterances)
        assert cohort.speakers == tuple(sorted(speech))
        for enrolment in cohort.enrolments:
            keys = tuple(key for key, _, _ in in_order(speech[enrolment.speaker]))
            assert enrolment.utterances == keys[:n_enrol]
        expected = [
            (name, frames)
            for name in sorted(speech)
            for _, frames, _ in in_order(speech[name])[:n_utterances]
        ]
        assert cohort.frame_speakers == tuple(name for name, _ in expected)
        for frames, (_, own) in zip(cohort.frames, expected, strict=True):
            np.testing.assert_array_equal(frames, own)

    def test_does_not_depend_on_threads_or_the_order_of_utterances(self, speech, enroller):
        one = cohort_of(enroller, speech, 2)
        other = cohort_of(enroller, {name: own[::-1] for name, own in speech.items()}, 2, n_jobs=2)
        for mine, theirs in zip(one.enrolments, other.enrolments, strict=True):
            assert mine.utterances == theirs.utterances
            assert enroller.model(mine) == enroller.model(theirs)
        for mine, theirs in zip(one.frames, other.frames, strict=True):
            np.testing.assert_array_equal(mine, theirs)

    def test_utterances_are_in_no_order_of_names(self, speech):
        own = [(f"u{number:02}", None, 0.0) for number in range(20)]
        ordered = in_order(own)
        assert ordered == sorted(own, key=lambda one: sha256_of_text(one[0])) == in_order(ordered[::-1])
        assert ordered not in (own, own[::-1])


def test_a_cohort_is_made_where_scores_are_normalised_and_holds_no_more_than_asked_for(monkeypatch):
    speech = made_speech(10)
    watched = Watched(speech, monkeypatch)
    run(speech, [RAW], n_folds=2)
    assert watched.cohorts == []
    few, all_of_them = (
        run(speech, [System("top", 2, "s")], n_folds=2, cohort_utterances=n) for n in (1, None)
    )
    system = System("top", 2, "s")
    assert not np.array_equal(few.scores[system], all_of_them.scores[system])
