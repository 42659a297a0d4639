"""verification.trial_running, store_audio and settings_file: trials and audio with a store, from Python."""

import shutil
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest

from speechgmm.em.adaptation import Adaptation
from speechgmm.errors import FormatError, InputError, SpeechGMMWarning
from speechgmm.features.extract import FeatureExtractor
from speechgmm.files import sha256
from speechgmm.manifest import read_manifest
from speechgmm.settings import TrainingSettings, read_tables
from speechgmm.tensor_file import CLASSIFIER, SPEAKERS, kind_of
from speechgmm.verification.background import Background, UbmSettings
from speechgmm.verification.cross_fitting import cohort_of
from speechgmm.verification.settings_file import VerificationSettings, read_verification_settings
from speechgmm.verification.speaker_store import SpeakerStore
from speechgmm.verification.store_audio import (
    calibrate_audio,
    enrol_audio,
    identify_audio,
    recording_keys,
    speakers_heard,
    store_frames,
    verify_audio,
)
from speechgmm.verification.store_calibration import speech_of
from speechgmm.verification.system import System
from speechgmm.verification.trial_evaluation import trial_figures
from speechgmm.verification.trial_lists import Trial, read_trials
from speechgmm.verification.trial_running import evaluate_trials, score_trials
from speechgmm.verification.verifier import OperatingPoint, Verifier
from tests.cli_tools import BACKGROUND, ENROLLED, N_TAKES, make_voices, make_world


@pytest.fixture(scope="module")
def voices(tmp_path_factory):
    return make_voices(tmp_path_factory.mktemp("voices"))


@pytest.fixture
def store(voices):
    return SpeakerStore.load(voices.ready)


@pytest.fixture(scope="module")
def people(voices):
    return read_manifest(voices.people)


# Trials


def test_scores_are_those_of_a_verifier_one_trial_at_a_time(voices, store, people):
    trials = read_trials(voices.trials)
    scored = score_trials(store, trials, people)
    assert scored.trials == tuple(trials)
    assert (scored.n_left_out, scored.problems) == (0, ())
    verifier, extractor = Verifier(store), FeatureExtractor(store.background.features)
    by_id = {one.id: one for one in people}
    for trial, score, llr in zip(trials, scored.scores, scored.llrs, strict=True):
        frames = extractor.from_utterance(by_id[trial.test])
        (alone,) = verifier.verify([frames], [trial.test], [trial.model])
        assert (alone.score, alone.llr) == (score, llr)


def test_scores_keep_the_order_of_trials_and_need_not_the_key(voices, store, people):
    trials = [replace(trial, is_target=None) for trial in read_trials(voices.trials)]
    forward = score_trials(store, trials, people, n_jobs=1)
    back = score_trials(store, trials[::-1], people[::-1], n_jobs=2)
    np.testing.assert_array_equal(forward.scores, back.scores[::-1], strict=True)


def test_only_what_trials_name_is_read(store, people):
    trials = [Trial("ann", "eve/take 1"), Trial("eve/take 2", "eve/take 1")]
    with patch("speechgmm.verification.trial_running.store_frames", wraps=store_frames) as read:
        score_trials(store, trials, people)
    assert [one.id for one in read.call_args.args[1]] == ["eve/take 1", "eve/take 2"]


def test_recordings_that_enrolled_their_model_are_warned_of_whatever_they_are_called(
    voices, people, tmp_path
):
    store = SpeakerStore.load(voices.empty)
    enrol_audio(store, read_manifest(voices.enrolment))
    enrolled = next(one for one in read_manifest(voices.enrolment) if one.labels["speaker"] == "ann")
    copy = replace(enrolled, id="copy", audio=tmp_path / "copy.wav")
    shutil.copy(enrolled.audio, copy.audio)
    with pytest.warns(
        SpeechGMMWarning, match="^1 of 2 trials test .* their model, such as 'copy' and 'ann'; that"
    ):
        score_trials(store, [Trial("ann", "copy"), Trial("dé f", "copy")], [*people, copy])
    # A model of one utterance, and a copy of it.
    with pytest.warns(SpeechGMMWarning, match=f"^1 of 1 trials .* such as 'copy' and '{enrolled.id}'"):
        score_trials(store, [Trial(enrolled.id, "copy")], [*people, copy])


def test_a_store_without_speakers_is_told_from_names_that_are_not_there(voices, store, people):
    trials = read_trials(voices.trials)
    for run in (score_trials, evaluate_trials):
        with pytest.raises(
            InputError, match=r"^nobody is enrolled in this store; `speechgmm enrol` adds the speakers"
        ):
            run(SpeakerStore.load(voices.empty), trials, people)
        with pytest.raises(
            InputError, match=r"^1 of 1 models of the trials are not among the .* there are: 'ana'"
        ):
            run(store, [Trial("ana", people[0].id, True)], people)


def test_figures_are_those_of_the_llrs(voices, store, people):
    result = evaluate_trials(store, read_trials(voices.trials), people, n_replicates=50, seed=3)
    models = [trial.model for trial in result.scored.trials]
    tests = [trial.test.split("/")[0] for trial in result.scored.trials]
    expected = trial_figures(
        result.scored.llrs, result.is_target, models, tests, calibrated=True, n_replicates=50, seed=3
    )
    assert result.figures.figures == expected.figures
    assert result.figures.intervals == expected.intervals
    assert result.n_speakers == len(ENROLLED)
    assert result.curve.eer == expected.figures["eer"]


def test_the_curve_is_of_what_the_figures_are(voices, store, people):
    turned = replace(store.calibration.calibration, weights=(-1.0,))
    store = replace(store, calibration=replace(store.calibration, calibration=turned))
    result = evaluate_trials(store, read_trials(voices.trials), people, n_replicates=0)
    assert result.curve.eer == result.figures.figures["eer"] > 0.4


def test_a_model_called_as_an_utterance_is_of_its_speaker(voices, people):
    store = SpeakerStore.load(voices.empty)
    enrol_audio(store, read_manifest(voices.enrolment), label="id")
    model = next(iter(store.enrolments))
    other = next(one.id for one in people if one.id.split("/")[0] == model.split("/")[0] and one.id != model)
    trials = [Trial(model, other, True), Trial(model, "eve/take 1", False)]
    assert evaluate_trials(store, trials, people, n_replicates=0).n_speakers == 2


def test_answers_that_contradict_another_label(store, people):
    trials = [Trial("ann", "eve/take 1", False), Trial("ann", "ann/take 1", True)]
    message = "^1 of 2 trials contradict .* is a target trial, of the take 'ann' as model and '1' as test"
    with pytest.raises(InputError, match=message):
        evaluate_trials(store, trials, people, "take")


def test_labels_are_needed_of_what_trials_name_alone(voices, store, people):
    bare = [replace(one, labels={}) if one.id == "eve/take 0" else one for one in people]
    evaluate_trials(store, read_trials(voices.trials), bare, n_replicates=0)
    with pytest.raises(InputError, match="has no label 'speaker'"):
        evaluate_trials(store, [Trial("ann", "eve/take 0", False)], bare)


def test_infinities_are_not_in_json(voices, store, people):
    result = evaluate_trials(store, read_trials(voices.trials), people, n_replicates=0)
    figures = replace(result.figures, figures={"cllr": np.inf}, intervals={"cllr": (0.5, np.inf)})
    table = replace(result, figures=figures).to_dict()
    assert (table["figures"], table["intervals_95"]) == ({"cllr": None}, {"cllr": [0.5, None]})


# Audio


def test_calibrate_enrol_verify_and_identify(voices, people):
    store = SpeakerStore.load(voices.empty)
    calibrated = calibrate_audio(store, read_manifest(voices.background), System("dense"))
    assert calibrated.problems == ()
    assert calibrated.trials.is_target.sum() == len(BACKGROUND) * N_TAKES
    assert enrol_audio(store, read_manifest(voices.enrolment)) == ()
    ann = [one for one in people if one.labels["speaker"] == "ann"]
    claims = verify_audio(store, ann, "ann", OperatingPoint(0.9))
    assert [one.utterance for one in claims.results] == [one.id for one in ann]
    assert all(one.accepted for one in claims.results)
    assert {one.label for one in identify_audio(store, ann).results} == {"ann"}


def test_copies_of_a_recording_calibrate_once(voices, tmp_path):
    utterances = read_manifest(voices.background)
    plain, copied = SpeakerStore.load(voices.empty), SpeakerStore.load(voices.empty)
    calibrate_audio(plain, utterances)
    first = utterances[0]
    copy = replace(first, id="copy", audio=tmp_path / "copy.wav")
    shutil.copy(first.audio, copy.audio)
    with pytest.warns(
        SpeechGMMWarning, match="^1 utterances are recordings that are there already .*: 'copy'"
    ):
        calibrate_audio(copied, [*utterances, copy])
    assert copied.calibration.to_dict() == plain.calibration.to_dict()


def test_a_recording_is_known_by_its_content_and_read_once(people):
    one, other = people[:2]
    parts = [
        one,
        replace(one, id="whole", start=0.0),
        replace(one, id="part", start=0.1),
        replace(one, id="start", end=0.2),
        other,
    ]
    with patch("speechgmm.verification.store_audio.sha256", wraps=sha256) as read:
        keys = recording_keys(parts)
    assert read.call_count == 2
    assert keys[one.id] == keys["whole"] == f"{sha256(one.audio)}:None:None"
    assert len(set(keys.values())) == 4


def test_speakers_with_one_utterance_are_left_out_of_calibration(voices):
    store, background = SpeakerStore.load(voices.empty), read_manifest(voices.background)
    lone = replace(background[0], id="lone", labels={"speaker": "lone"}, start=0.1)
    with pytest.warns(
        SpeechGMMWarning, match="^1 of 10 speakers have one utterance only: 'lone'; they are left out"
    ):
        result = calibrate_audio(store, [*background, lone])
    assert result.trials.is_target.sum() == len(BACKGROUND) * N_TAKES
    assert store.calibration.record["speakers"] == sorted(BACKGROUND)


def test_linear_scores_need_means_that_are_adapted(store, people):
    bare = SpeakerStore.create(store.background, Adaptation(parts=("variances", "weights")))
    with pytest.raises(
        InputError, match=r"'linear' scores by adapted means alone, .* adapts variances and weights: all"
    ):
        calibrate_audio(bare, people, System("linear"))


def test_ids_must_be_distinct(store, people):
    with pytest.raises(
        InputError, match="utterance ids occur twice: 'ann/take 0'; `speechgmm manifest check`"
    ):
        store_frames(store, [one for one in people if one.id == "ann/take 0"] * 2)


def test_a_store_of_frames_made_elsewhere_takes_no_audio(store, people):
    frames_only = SpeakerStore.create(Background(store.background.ubm))
    with pytest.raises(InputError, match="was trained on frames made elsewhere, not on audio"):
        store_frames(frames_only, people)


def test_no_utterances_are_an_error(store):
    with pytest.raises(InputError, match=r"none of the 0 utterances can be used$"):
        enrol_audio(store, [])


def test_speakers_heard_are_those_that_records_name(voices, store):
    assert speakers_heard(store) == set(BACKGROUND)
    ubm = store.background.ubm
    for named in (3, "b0", None, [["b0"], 7]):
        assert speakers_heard(SpeakerStore.create(Background(ubm, record={"speakers": named}))) == set()
    # A cohort needs no record.
    speech = speech_of(store_frames(store, read_manifest(voices.background)))
    silent = replace(
        store,
        calibration=None,
        background=Background(ubm, store.background.features),
        cohort=cohort_of(store.enroller, speech),
    )
    assert speakers_heard(silent) == set(BACKGROUND)


def test_a_background_speaker_is_enrolled_with_a_warning(voices):
    store = SpeakerStore.load(voices.empty)
    with pytest.warns(SpeechGMMWarning, match="the background model was trained on speech of 'b0'"):
        enrol_audio(store, read_manifest(voices.background)[:2])
    assert list(store.enrolments) == ["b0"]


def test_recordings_that_would_count_twice_are_named_with_what_they_are_copies_of(voices, tmp_path):
    store = SpeakerStore.load(voices.empty)
    ann = [one for one in read_manifest(voices.enrolment) if one.labels["speaker"] == "ann"]
    copies = [replace(one, id=f"copy {n}", audio=tmp_path / f"{n}.wav") for n, one in enumerate(ann)]
    for one, copy in zip(ann, copies, strict=True):
        shutil.copy(one.audio, copy.audio)
    message = f"^duplicated enrolment: 1 of 4 utterances .*: 'copy 0' \\(as '{ann[0].id}'\\)$"
    with pytest.raises(InputError, match=message):
        enrol_audio(store, [*ann, copies[0]])
    assert store.enrolments == {}
    # One recording may be of two speakers, as where it is a conversation.
    enrol_audio(store, [*ann, replace(copies[0], labels={"speaker": "zoe"})])
    message = r"3 of 3 .*: 'copy 0' \(enrolled before\), 'copy 1' \(enrolled before\), 'copy 2' \(enrolled before\)$"
    with pytest.raises(InputError, match=message):
        enrol_audio(store, copies)


# Settings, and kinds of files


def test_settings_of_a_file_and_those_it_does_not_give(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("")
    assert read_verification_settings(path) == VerificationSettings() == ({}, UbmSettings(), Adaptation())
    path.write_text(
        "[features]\nn_filters = 24\n[background]\nseed = 4\n[adaptation]\nrelevance_factor = inf\n"
    )
    assert read_verification_settings(path) == (
        {"n_filters": 24},
        UbmSettings(seed=4),
        Adaptation(relevance_factor=np.inf),
    )


def test_a_table_of_no_reader_is_refused(tmp_path):
    (tmp_path / "c.toml").write_text("[training]\nseed = 1\n")
    assert read_tables(tmp_path / "c.toml", {"training": TrainingSettings.from_dict, "other": dict}) == {
        "training": TrainingSettings(seed=1),
        "other": {},
    }
    with pytest.raises(
        FormatError, match=r"has 'training'; there can be the tables \[one\], \[two\] and \[three\]$"
    ):
        read_tables(tmp_path / "c.toml", {"one": dict, "two": dict, "three": dict})


def test_kinds_of_files(voices, tmp_path):
    assert kind_of(voices.ready) == SPEAKERS
    assert kind_of(make_world(tmp_path).model) == CLASSIFIER
    (tmp_path / "text").write_text("this is no tensor file")
    for path in (tmp_path / "text", tmp_path / "none", tmp_path):
        assert kind_of(path) is None
