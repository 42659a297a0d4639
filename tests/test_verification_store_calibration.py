"""verification.store_calibration: what a store learns from background speakers, and whether it holds for others."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from speechgmm.em.adaptation import Adaptation
from speechgmm.em.mixture import Mixture
from speechgmm.errors import InputError
from speechgmm.features.extract import Extraction
from speechgmm.manifest import Utterance
from speechgmm.metrics.detection import cllr
from speechgmm.verification.background import Background, UbmSettings, train_ubm_on_frames
from speechgmm.verification.calibration import fit_calibration
from speechgmm.verification.cross_fitting import cohort_of, cross_fit
from speechgmm.verification.speaker_store import SpeakerStore
from speechgmm.verification.store_calibration import calibrate_store, speech_of
from speechgmm.verification.stored_calibration import Basis
from speechgmm.verification.system import System
from speechgmm.verification.verifier import Verifier
from tests import naive

SETTINGS = UbmSettings(n_components=4, max_iterations=5)
BACKGROUND = tuple(f"background-{number:02}" for number in range(12))
ENROLLED = ("anna", "bea", "carl", "dora", "ella", "fay")
STRANGERS = ("xena", "yuri", "zoë")
VOICES = Mixture(*naive.random_parts(5, n_features=6))


def spoken(name, n_utterances, n_frames=60, first=0):
    """Utterances of one speaker, (key, frames, seconds): the same voices for all, moved a little for each speaker."""
    number = (*BACKGROUND, *ENROLLED, *STRANGERS).index(name)
    own = 0.6 * np.random.default_rng(number).standard_normal(6)
    made = []
    for index in range(first, first + n_utterances):
        session = 0.15 * np.random.default_rng([number, index]).standard_normal(6)
        frames = VOICES.sample(n_frames, 1000 * number + index) + own + session
        made.append((f"{name}/{index}", frames.astype(np.float32), n_frames / 100))
    return made


@cache
def background_speech():
    return {name: spoken(name, 4) for name in BACKGROUND}


@cache
def background():
    frames = [one for own in background_speech().values() for _, one, _ in own]
    return train_ubm_on_frames(frames, settings=SETTINGS).background


def plain_store(adaptation=None):
    """A store that nobody is enrolled in."""
    return SpeakerStore.create(background(), adaptation or Adaptation(8.0))


@cache
def _calibrated(system, adaptation):
    store = plain_store(adaptation)
    trials = calibrate_store(store, background_speech(), system, n_folds=2, n_enrol=3)
    store.enrol({name: spoken(name, 3) for name in ENROLLED})
    return store, trials


def calibrated_store(system=None, adaptation=None):
    """A store of its own with everybody enrolled, and the trials that calibrated it."""
    store, trials = _calibrated(system or System("top", 3), adaptation)
    return replace(store), trials


def test_the_store_knows_how_its_scores_are_read():
    system = System("linear", 2, "s")
    store, trials = calibrated_store(system)
    assert store.calibration.system == system
    scores = trials.scores[system]
    expected = fit_calibration(scores[trials.is_target], scores[~trials.is_target], 0.1)
    assert store.calibration.calibration == expected
    assert (expected.n_target, expected.n_nontarget) == (48, 240)
    assert store.calibration.basis == Basis(
        background().fingerprint, Adaptation(8.0), store.cohort.fingerprint
    )
    np.testing.assert_allclose(store.calibration.explanations, trials.explanations, atol=5.1e-7)
    record = store.calibration.record
    assert record["speakers"] == list(BACKGROUND)
    assert (record["utterances"], record["n_folds"], record["n_enrol"]) == (48, 2, 3)


def test_trials_are_those_of_the_background_settings_and_the_adaptation():
    system = System("top", 3)
    _, trials = calibrated_store(system)
    again = cross_fit(
        background_speech(), [system], ubm=SETTINGS, adaptation=Adaptation(8.0), n_folds=2, n_enrol=3
    )
    np.testing.assert_array_equal(trials.scores[system], again.scores[system])
    other = cross_fit(
        background_speech(), [system], ubm=SETTINGS, adaptation=Adaptation(1.0), n_folds=2, n_enrol=3
    )
    assert (other.scores[system] != again.scores[system]).all()


def test_the_cohort_is_all_background_speakers():
    assert calibrated_store()[0].cohort is None  # nobody would read it
    system = System("top", 3, "s")
    store, _ = calibrated_store(system)
    assert store.cohort.speakers == BACKGROUND
    assert store.cohort.frame_speakers == tuple(name for name in BACKGROUND for _ in range(4))
    assert {len(one.utterances) for one in store.cohort.enrolments} == {3}
    expected = cohort_of(store.enroller, background_speech(), 3)
    assert store.cohort.fingerprint == expected.fingerprint
    few = plain_store()
    calibrate_store(few, background_speech(), system, n_folds=2, cohort_utterances=1)
    assert len(few.cohort.frames) == 12
    assert {len(one.utterances) for one in few.cohort.enrolments} == {4}


@pytest.mark.parametrize("system", [System("top", 3), System("dense"), System("linear", 3, "s")], ids=str)
def test_llrs_of_speakers_it_has_not_heard_mean_what_they_say(system):
    store, _ = calibrated_store(system)
    verifier = Verifier(store)
    names = (*ENROLLED, *STRANGERS)
    frames = [one for name in names for _, one, _ in spoken(name, 4, first=3)]
    claims = [claim for claim in ENROLLED for _ in frames]
    scores = verifier.score(frames, claims, np.tile(np.arange(len(frames)), len(ENROLLED)))
    llrs = store.calibration.calibration.apply(scores)
    is_target = np.array([claim == name for claim in ENROLLED for name in names for _ in range(4)])
    # 24 targets, 192 nontargets: 0.27 and 0.33 bits seen; 1 says nothing.
    assert cllr(llrs[is_target], llrs[~is_target]) < 0.45
    assert np.mean(llrs[is_target] > 0) > 0.8 and np.mean(llrs[~is_target] < 0) > 0.8


def test_bits_do_not_depend_on_workers(tmp_path):
    for n_jobs in (1, 3):
        store = plain_store()
        calibrate_store(store, background_speech(), System("top", 3, "s"), n_folds=2, n_jobs=n_jobs)
        store.save(tmp_path / str(n_jobs))
    assert (tmp_path / "1").read_bytes() == (tmp_path / "3").read_bytes()


def test_a_file_brings_everything_back(tmp_path):
    store, _ = calibrated_store(System("top", 3, "adaptive_s", 5))
    store.save(tmp_path / "store")
    loaded = SpeakerStore.load(tmp_path / "store")
    assert loaded.calibration.to_dict() == store.calibration.to_dict()
    frames = [spoken("anna", 1, first=9)[0][1], spoken("xena", 1)[0][1]]
    assert Verifier(loaded).identify(frames, ["a", "x"]) == Verifier(store).identify(frames, ["a", "x"])


def test_another_adaptation_needs_another_calibration():
    store, _ = calibrated_store()
    with pytest.raises(InputError, match="is of scores with another adaptation than this store has now"):
        replace(store, adaptation=Adaptation(2.0))
    other = replace(store, adaptation=Adaptation(2.0), calibration=None)
    for name in ENROLLED:
        other.remove(name)
    calibrate_store(other, background_speech(), System("top", 3), n_folds=2, n_enrol=3)
    assert other.calibration.calibration != store.calibration.calibration
    other.require_whole()


def test_several_iterations_of_adaptation():
    adaptation = Adaptation(8.0, iterations=2)
    store, trials = calibrated_store(adaptation=adaptation)
    store.require_whole()
    assert {one.adaptation for one in store.enrolments.values()} == {adaptation}
    _, once = calibrated_store()
    (scores,), (others,) = trials.scores.values(), once.scores.values()
    assert (scores != others).all() and np.corrcoef(scores, others)[0, 1] > 0.9


def test_a_background_model_made_elsewhere_is_trained_alike():
    # Nothing is recorded of it; folds get as many components as it has.
    store = SpeakerStore.create(Background(background().ubm), Adaptation(8.0))
    trials = calibrate_store(store, background_speech(), System("top", 3), n_folds=2)
    settings = UbmSettings(n_components=4)
    expected = cross_fit(
        background_speech(), [System("top", 3)], ubm=settings, adaptation=Adaptation(8.0), n_folds=2
    )
    np.testing.assert_array_equal(*(one.scores[System("top", 3)] for one in (trials, expected)))


def test_progress_counts_folds():
    told = []
    calibrate_store(
        plain_store(),
        background_speech(),
        System("top", 3),
        n_folds=2,
        progress=lambda *one: told.append(one),
    )
    assert told == [("cross-fitting", done, 2) for done in (0, 1, 2)]


class TestRefused:
    def assert_refused(self, store, speech, message, **options):
        before = store.cohort, store.calibration
        with pytest.raises(InputError, match=message):
            calibrate_store(store, speech, System("top", 3), **{"n_folds": 2, **options})
        assert (store.cohort, store.calibration) == before

    def test_speakers_who_are_enrolled(self):
        store, _ = calibrated_store()
        speech = background_speech() | {name: spoken(name, 2) for name in ("bea", "anna")}
        self.assert_refused(store, speech, "'anna', 'bea' would calibrate and are enrolled")

    def test_too_few_speakers(self):
        store, _ = calibrated_store()
        few = {name: background_speech()[name] for name in BACKGROUND[:5]}
        self.assert_refused(store, few, "there are 5 speakers; 2 folds need 6 or more")

    def test_a_speaker_of_one_utterance(self):
        speech = background_speech() | {BACKGROUND[3]: spoken(BACKGROUND[3], 1)}
        self.assert_refused(plain_store(), speech, "have one utterance only, such as 'background-03'")

    def test_other_covariances(self):
        full = Background(Mixture(*naive.random_parts(5, "full", n_features=6), "full"))
        self.assert_refused(
            SpeakerStore.create(full), background_speech(), "the background model has full covariances"
        )


def test_speech_of_an_extraction_is_grouped_by_its_label():
    utterances = [
        Utterance(f"u{number}", f"{number}.wav", labels={"speaker": name, "word": "yes"})
        for number, name in enumerate(("bea", "anna", "bea"))
    ]
    frames = [np.full((2, 3), number, np.float32) for number in range(3)]
    extraction = Extraction(tuple(utterances), tuple(frames), (0.5, 1.0, 1.5), ())
    speech = speech_of(extraction)
    assert {name: [key for key, _, _ in own] for name, own in speech.items()} == {
        "bea": ["u0", "u2"],
        "anna": ["u1"],
    }
    assert speech["bea"][1][1] is frames[2] and speech["bea"][1][2] == 1.5
    assert list(speech_of(extraction, "id")) == ["u0", "u1", "u2"]
    with pytest.raises(InputError, match="accent"):
        speech_of(extraction, "accent")
