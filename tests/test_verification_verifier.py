"""verification.verifier: decisions against the rule worked out by hand, among speakers made on the spot."""

import math
from dataclasses import replace

import numpy as np
import pytest

from speechgmm.audio import read_audio
from speechgmm.em.adaptation import Adaptation
from speechgmm.errors import InputError, SpeechGMMWarning
from speechgmm.features.config import FeatureConfig
from speechgmm.features.extract import FeatureExtractor
from speechgmm.metrics.detection import eer
from speechgmm.verification.background import UbmSettings, train_ubm_on_frames
from speechgmm.verification.enrolment import Enroller
from speechgmm.verification.scoring import TrialScorer
from speechgmm.verification.speaker_store import SpeakerStore
from speechgmm.verification.system import System
from speechgmm.verification.verifier import OperatingPoint, Verifier, known_llr
from tests import naive
from tests.test_verification_store_calibration import (
    ENROLLED,
    STRANGERS,
    calibrated_store,
    plain_store,
    spoken,
)

SYSTEMS = [System("top", 3), System("dense"), System("linear", 3, "s"), System("top", 2, "adaptive_s", 5)]
every_system = pytest.mark.parametrize("system", SYSTEMS, ids=str)
POINTS = [
    OperatingPoint(),
    OperatingPoint(0.01),
    OperatingPoint(0.2, 10.0, 3.0),
    OperatingPoint(0.9, 1.0, 5.0),
]
NAMES = (*ENROLLED, *STRANGERS)


def made_tests(n=2):
    """Frames, ids and speakers of utterances that enrolled nobody."""
    made = [(name, *one) for name in NAMES for one in spoken(name, n, first=3)]
    return [one[2] for one in made], [one[1] for one in made], [one[0] for one in made]


def uncalibrated_store():
    store = plain_store()
    store.enrol({name: spoken(name, 3) for name in ENROLLED})
    return store


class TestOperatingPoint:
    @pytest.mark.parametrize("point", POINTS, ids=str)
    def test_at_the_threshold_both_decisions_cost_the_same(self, point):
        odds = math.exp(point.threshold) * point.p_target / (1 - point.p_target)
        probability = odds / (1 + odds)
        assert probability * point.c_miss == pytest.approx((1 - probability) * point.c_fa, rel=1e-12)

    def test_even_odds_and_equal_costs_are_decided_at_zero(self):
        assert OperatingPoint().threshold == 0

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"p_target": 0.0}, "`p_target` is 0"),
            ({"p_target": 1.0}, "`p_target` is 1"),
            ({"p_target": 50}, "`p_target` is 50"),
            ({"p_target": float("nan")}, "`p_target` is nan"),
            ({"c_miss": 0.0}, "`c_miss` is 0"),
            ({"c_fa": -1.0}, "`c_fa` is -1"),
        ],
    )
    def test_what_cannot_be_is_refused(self, values, message):
        with pytest.raises(InputError, match=message):
            OperatingPoint(**values)


class TestVerify:
    @every_system
    @pytest.mark.parametrize("point", POINTS, ids=str)
    def test_by_the_rule(self, system, point):
        store, _ = calibrated_store(system)
        frames, ids, _ = made_tests()
        claims = [ENROLLED[number % len(ENROLLED)] for number in range(len(ids))]
        found = Verifier(store).verify(frames, ids, claims, point)
        scores = Verifier(store).score(frames, claims, np.arange(len(ids)))
        (weight,), offset = store.calibration.calibration.weights, store.calibration.calibration.offset
        limit = math.log(point.c_fa / point.c_miss) - math.log(point.p_target / (1 - point.p_target))
        for one, name, claim, score, array in zip(found, ids, claims, scores, frames, strict=True):
            llr = weight * score + offset
            assert (one.utterance, one.claim, one.score) == (name, claim, score)
            assert one.llr == pytest.approx(llr, rel=1e-12)
            odds = math.exp(llr) * point.p_target / (1 - point.p_target)
            assert one.posterior == pytest.approx(odds / (1 + odds), rel=1e-9)
            assert one.accepted is (one.llr >= limit)
            # The same decision by its expected costs.
            assert one.accepted == (one.posterior * point.c_miss >= (1 - one.posterior) * point.c_fa)
            assert one.n_frames == len(array)
        if point == OperatingPoint():
            assert {one.accepted for one in found} == {True, False}

    def test_scores_are_those_of_the_models(self):
        store, _ = calibrated_store(System("dense"))
        frames, _, _ = made_tests(1)
        ubm = store.background.ubm
        model = Enroller(store.background, store.adaptation).model(store.enrolments["carl"])
        found = Verifier(store).score(frames, ["carl"] * len(frames), range(len(frames)))
        for one, array in zip(found, frames, strict=True):
            expected = naive.mean_log_likelihood(model, array) - naive.mean_log_likelihood(ubm, array)
            # Posteriors in float32.
            assert one == pytest.approx(expected, abs=1e-5)

    def test_normalised_scores_are_those_of_the_cohort(self):
        store, _ = calibrated_store(System("dense", normalisation="s"))
        ((_, frames, _),) = spoken("carl", 1, first=3)
        (found,) = Verifier(store).score([frames], ["carl"], [0])
        ubm, cohort = store.background.ubm, store.cohort
        model = store.model("carl")
        raw = TrialScorer(ubm, [model], "dense").score_all([frames]).item()
        z = TrialScorer(ubm, [model], "dense").score_all(cohort.frames)[0]
        t = TrialScorer(ubm, store.cohort_models(), "dense").score_all([frames])[:, 0]
        expected = 0.5 * sum((raw - side.mean()) / side.std() for side in (z, t))
        assert found == pytest.approx(expected, rel=1e-9)

    def test_true_claims_are_believed_and_false_ones_are_not(self):
        store, _ = calibrated_store()
        frames, ids, speakers = made_tests(4)
        verifier, decisions = Verifier(store), {True: [], False: []}
        for claim in ENROLLED:
            found = verifier.verify(frames, ids, [claim] * len(ids))
            for one, name in zip(found, speakers, strict=True):
                decisions[name == claim].append(one.accepted)
        assert np.mean(decisions[True]) > 0.8 and np.mean(decisions[False]) < 0.2  # 0.92 and 0.09 seen

    def test_without_a_calibration_nothing_is_decided(self):
        frames, ids, speakers = made_tests()
        claims = [name if name in ENROLLED else "anna" for name in speakers]
        verifier = Verifier(uncalibrated_store())
        assert verifier.system == System()
        for one, score in zip(
            verifier.verify(frames, ids, claims),
            verifier.score(frames, claims, np.arange(len(ids))),
            strict=True,
        ):
            assert (one.llr, one.posterior, one.accepted) == (None, None, None)
            assert one.score == score

    def test_another_system_is_not_calibrated(self):
        store, _ = calibrated_store(System("top", 3))
        frames, ids, _ = made_tests(1)
        claims = ["anna"] * len(ids)
        dense = Verifier(store, System("dense"))
        assert dense.system == System("dense")
        assert {one.llr for one in dense.verify(frames, ids, claims)} == {None}
        plain = Verifier(replace(store, calibration=None), System("dense"))
        assert dense.verify(frames, ids, claims) == plain.verify(frames, ids, claims)
        own = Verifier(store, System("top", 3)).verify(frames, ids, claims)
        assert own == Verifier(store).verify(frames, ids, claims) and own[0].llr is not None

    @every_system
    @pytest.mark.parametrize("n_jobs", [1, 2])
    def test_alone_or_in_a_batch_the_answers_are_the_same(self, system, n_jobs):
        store, _ = calibrated_store(system)
        frames, ids, _ = made_tests()
        claims = [ENROLLED[number % 4] for number in range(len(ids))]
        together = Verifier(store).verify(frames, ids, claims, n_jobs=n_jobs)
        for number in (0, 5, 17):
            alone = Verifier(store).verify([frames[number]], [ids[number]], [claims[number]])
            assert alone == [together[number]]
        again = Verifier(store)
        assert again.verify(frames[::-1], ids[::-1], claims[::-1])[::-1] == together
        assert again.verify(frames, ids, claims) == together

    def test_what_changes_in_the_store_later_is_left_to_another_verifier(self):
        store, _ = calibrated_store()
        verifier = Verifier(store)
        before = verifier.identify(*made_tests()[:2])
        name = ENROLLED[0]
        store.enrol({name: spoken(name, 2, first=20)})
        store.remove(ENROLLED[1])
        store.calibration = None
        verifier.verify([spoken(name, 1, first=3)[0][1]], ["u"], [name])  # other models than those in use
        assert verifier.identify(*made_tests()[:2]) == before
        assert Verifier(store).identify(*made_tests()[:2]) != before

    def test_no_utterances_are_no_answers(self):
        verifier = Verifier(uncalibrated_store())
        assert verifier.verify([], [], []) == [] and verifier.identify([], []) == []

    def test_a_claim_of_nobody_names_those_who_are_called_alike(self):
        frames, ids, _ = made_tests(1)
        verifier = Verifier(uncalibrated_store())
        claims = ["anna"] * (len(ids) - 1)
        with pytest.raises(InputError, match="there is no speaker 'annna'; called alike: 'anna'"):
            verifier.verify(frames, ids, [*claims, "annna"])
        with pytest.raises(InputError, match="there is no speaker 'qqq'; enrolled: 'anna', 'bea', 'carl'"):
            verifier.score(frames, ["qqq"], [0])


class TestIdentify:
    @every_system
    @pytest.mark.parametrize("point", POINTS, ids=str)
    def test_by_the_rule(self, system, point):
        store, _ = calibrated_store(system)
        frames, ids, _ = made_tests()
        verifier = Verifier(store)
        found = verifier.identify(frames, ids, point)
        for number, one in enumerate(found):
            each = verifier.verify([frames[number]] * 6, ["x"] * 6, ENROLLED)
            llrs = [claim.llr for claim in each]
            order = sorted(range(6), key=lambda index: -llrs[index])
            llr = math.log(math.fsum(math.exp(value) for value in llrs) / 6)
            assert (one.utterance, one.n_frames) == (ids[number], 60)
            assert (one.best, one.runner_up) == tuple(ENROLLED[index] for index in order[:2])
            assert one.score == each[order[0]].score
            assert one.llr == pytest.approx(llr, rel=1e-9, abs=1e-9)
            assert one.label == (one.best if one.llr >= point.threshold else "unknown")
            # Bayes: each of the six has a sixth of the prior, nobody has the rest.
            weights = [point.p_target / 6 * math.exp(value) for value in llrs]
            probabilities = [weight / (math.fsum(weights) + 1 - point.p_target) for weight in weights]
            nobody = (1 - point.p_target) / (math.fsum(weights) + 1 - point.p_target)
            assert one.posterior == pytest.approx(probabilities[order[0]], rel=1e-9)
            assert math.fsum(probabilities) + nobody == pytest.approx(1, rel=1e-12)
            accepted = point.c_miss * (1 - nobody) >= point.c_fa * nobody
            assert (one.label != "unknown") == accepted

    def test_strangers_are_unknown_and_the_enrolled_are_found(self):
        store, _ = calibrated_store()
        frames, ids, speakers = made_tests(4)
        found = Verifier(store).identify(frames, ids)
        right = [
            one.label == (name if name in ENROLLED else "unknown")
            for one, name in zip(found, speakers, strict=True)
        ]
        assert np.mean(right) > 0.8  # 0.86 seen; chance is one seventh

    def test_the_threshold_decides_who_is_unknown(self):
        store, _ = calibrated_store()
        frames, ids, _ = made_tests()
        verifier = Verifier(store)
        strict, lenient = (
            verifier.identify(frames, ids, OperatingPoint(c_fa=1e6, c_miss=1.0)),
            verifier.identify(frames, ids, OperatingPoint(c_fa=1.0, c_miss=1e6)),
        )
        assert {one.label for one in strict} == {"unknown"}
        assert [one.label for one in lenient] == [one.best for one in lenient]
        for one, other in zip(strict, lenient, strict=True):
            assert replace(one, label="") == replace(other, label="")

    def test_without_a_calibration_the_best_is_named_and_nothing_is_said_of_strangers(self):
        frames, ids, _ = made_tests()
        store = uncalibrated_store()
        scores = TrialScorer(store.background.ubm, [store.model(name) for name in ENROLLED]).score_all(frames)
        for number, one in enumerate(Verifier(store).identify(frames, ids)):
            order = np.argsort(-scores[:, number])
            assert one.label == one.best == ENROLLED[order[0]]
            assert one.runner_up == ENROLLED[order[1]] and one.score == scores[order[0], number]
            assert (one.llr, one.posterior, one.p_value) == (None, None, None)

    def test_one_speaker_alone_has_no_runner_up(self):
        store, _ = calibrated_store()
        for name in ENROLLED[1:]:
            store.remove(name)
        frames, ids, _ = made_tests(1)
        verifier = Verifier(store)
        for one, claim in zip(
            verifier.identify(frames, ids), verifier.verify(frames, ids, ["anna"] * len(ids)), strict=True
        ):
            assert (one.best, one.runner_up) == ("anna", "")
            assert one.llr == pytest.approx(claim.llr, rel=1e-12)
            assert one.posterior == pytest.approx(claim.posterior, rel=1e-9)

    @every_system
    @pytest.mark.parametrize("n_jobs", [1, 2])
    def test_alone_or_in_a_batch_the_answers_are_the_same(self, system, n_jobs):
        store, _ = calibrated_store(system)
        frames, ids, _ = made_tests()
        together = Verifier(store).identify(frames, ids, n_jobs=n_jobs)
        for number in (0, 7, 17):
            assert Verifier(store).identify([frames[number]], [ids[number]]) == [together[number]]
        verifier = Verifier(store)
        verifier.verify(frames, ids, ["bea"] * len(ids))  # between the two, another set of models
        assert verifier.identify(frames[::-1], ids[::-1])[::-1] == together

    def test_very_unlike_scores_do_not_run_over(self):
        assert known_llr(np.array([-2000.0, -3000.0])) == pytest.approx(-2000 - math.log(2))
        assert known_llr(np.array([900.0, 900.0])) == pytest.approx(900.0)


class TestAnomalies:
    def p_values(self, store, frames):
        return [one.p_value for one in Verifier(store).identify(frames, [str(i) for i in range(len(frames))])]

    def test_by_counting_held_out_utterances(self):
        store, _ = calibrated_store()
        held_out = store.calibration.explanations
        assert len(held_out) == 48
        frames, _, _ = made_tests()
        ubm = store.background.ubm
        models = [store.model(name) for name in ENROLLED]
        best = TrialScorer(ubm, models, "top", 3).score_all(frames).max(axis=0)
        for found, array, ratio in zip(self.p_values(store, frames), frames, best, strict=True):
            explained = naive.mean_log_likelihood(ubm, array) + max(ratio, 0.0)
            assert found == pytest.approx((1 + sum(one <= explained for one in held_out)) / 49, rel=1e-12)

    def test_speech_is_usual_and_other_sounds_are_not(self):
        store, _ = calibrated_store()
        frames, _, _ = made_tests(4)
        assert 0.2 < np.median(self.p_values(store, frames)) < 0.8
        tone = np.tile(frames[0][:1] + 6, (60, 1))
        assert self.p_values(store, [tone, 20 * frames[0]]) == [1 / 49, 1 / 49]

    def test_they_are_of_scores_before_normalisation(self):
        frames, _, _ = made_tests()
        one, other = (calibrated_store(System("top", 3, name))[0] for name in ("none", "s"))
        assert one.calibration.explanations == other.calibration.explanations
        assert self.p_values(one, frames) == self.p_values(other, frames)

    def test_without_held_out_utterances_there_are_none(self):
        store, _ = calibrated_store()
        store.calibration = replace(store.calibration, explanations=())
        frames, _, _ = made_tests(1)
        assert set(self.p_values(store, frames)) == {None}
        assert set(self.p_values(uncalibrated_store(), frames)) == {None}


class TestRefused:
    def test_a_store_without_speakers(self):
        with pytest.raises(InputError, match="nobody is enrolled in this store; `speechgmm enrol` adds"):
            Verifier(plain_store())

    def test_a_calibration_that_no_longer_fits(self):
        store, _ = calibrated_store()
        store.adaptation = Adaptation(1.0)
        with pytest.raises(InputError, match="is of scores with another adaptation than this store has now"):
            Verifier(store)

    @pytest.mark.parametrize(
        ("n_frames", "n_ids", "n_claims", "message"),
        [
            (2, 1, 2, "2 `frames`, 1 `utterances`, 2 `claims` given; there must be as many of each"),
            (2, 2, 3, "2 `frames`, 2 `utterances`, 3 `claims` given"),
            (1, 2, 2, "1 `frames`, 2 `utterances`, 2 `claims` given"),
        ],
    )
    def test_another_number_of_ids_or_claims(self, n_frames, n_ids, n_claims, message):
        frames, ids, _ = made_tests(1)
        verifier = Verifier(uncalibrated_store())
        with pytest.raises(InputError, match=message):
            verifier.verify(frames[:n_frames], ids[:n_ids], ["anna"] * n_claims)
        if n_frames != n_ids:
            with pytest.raises(InputError, match=f"{n_frames} `frames`, {n_ids} `utterances` given"):
                verifier.identify(frames[:n_frames], ids[:n_ids])

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda x: x[:0], r"`frames\[1\]` .*no frames"),
            (lambda x: x[:, :3], r"`frames\[1\]` has 3 features"),
            (lambda x: np.full_like(x, np.nan), r"`frames\[1\]` has the value nan"),
        ],
        ids=["none", "features", "nan"],
    )
    def test_frames_that_cannot_be_scored(self, change, message):
        frames, ids, _ = made_tests(1)
        frames[1] = change(frames[1])
        store, _ = calibrated_store()
        verifier = Verifier(store)
        with pytest.raises(InputError, match=message):
            verifier.verify(frames, ids, ["anna"] * len(ids))
        with pytest.raises(InputError, match=message):
            verifier.identify(frames, ids)

    def test_a_normalisation_without_a_cohort(self):
        frames, ids, _ = made_tests(1)
        with pytest.raises(InputError, match="normalisation needs a cohort's models and utterances"):
            Verifier(uncalibrated_store(), System(normalisation="t")).identify(frames, ids)


def test_real_speakers_are_told_apart(speech_data):
    extractor = FeatureExtractor(FeatureConfig(sample_rate=8000))

    def digits(speaker, take):
        folder = speech_data / "fsdd" / "recordings"
        paths = [folder / f"{digit}_{speaker}_{take}.wav" for digit in range(10)]
        return [(path.stem, extractor.from_samples(read_audio(path)[0]), 0.4) for path in paths]

    others = [one for name in ("george", "lucas", "yweweler") for _, one, _ in digits(name, 5)]
    names = ("jackson", "nicolas", "theo")
    store = SpeakerStore.create(train_ubm_on_frames(others, settings=UbmSettings(n_components=16)).background)
    store.enrol({name: digits(name, 5) for name in names})
    tests = [(name, *one) for name in names for one in digits(name, 6)]
    frames, ids = [one[2] for one in tests], [one[1] for one in tests]
    found = Verifier(store).identify(frames, ids)
    assert np.mean([one.label == own for one, (own, *_) in zip(found, tests, strict=True)]) > 0.8
    scores = Verifier(store).score(frames * 3, [name for name in names for _ in tests], range(90))
    is_target = np.array([name == own for name in names for own, *_ in tests])
    assert eer(scores[is_target], scores[~is_target]) < 0.2


def test_a_warning_where_there_is_far_less_speech_than_the_calibration_knows():
    frames, ids, _ = made_tests(1)
    verifier = Verifier(calibrated_store()[0])
    usual = verifier.store.calibration.record["median_frames"]
    frames[1] = frames[1][: usual // 4 - 1]
    with pytest.warns(SpeechGMMWarning, match=f"'{ids[1]}': fewer frames than a quarter of the {usual} that"):
        verifier.verify(frames, ids, ["anna"] * len(ids))
    with pytest.warns(SpeechGMMWarning, match=f"'{ids[1]}': fewer frames than a quarter of the {usual} that"):
        verifier.identify(frames, ids)
