"""phones.vocal_tract: filters moved until a voice is most like those in training."""

import warnings
from dataclasses import replace

import pytest

from speechgmm.errors import InputError, SpeechGMMWarning
from speechgmm.features.config import FeatureConfig
from speechgmm.features.extract import FeatureExtractor
from speechgmm.phones.hmm_training import HmmSettings
from speechgmm.phones.recogniser_training import RecogniserSettings, train_recogniser
from speechgmm.phones.vocal_tract import WARPS, fitting_voice, warped
from tests.test_recognition import RATE, make_speech

SETTINGS = RecogniserSettings(context=0, order=2, smoothing="witten_bell", language_model_weight=1.0)
# Filters that all of `WARPS` leave below half the sample rate.
LOWER = 3400.0


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    return make_speech(tmp_path_factory.mktemp("voices"))


def trained(utterances, **features):
    hmm = HmmSettings(n_components=2)
    return train_recogniser(utterances, features=features, settings=SETTINGS, hmm=hmm).recogniser


@pytest.fixture(scope="module")
def recogniser(speech):
    """One as it is where nothing is asked for: its filters end at half the sample rate."""
    return trained(speech[:8])


@pytest.fixture(scope="module")
def lower(speech):
    return trained(speech[:8], high_frequency=LOWER)


def test_a_voice_is_that_under_which_what_is_recognised_is_most_likely(lower, speech):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        voice = fitting_voice(lower, speech[8:], n_jobs=2)
    scores = {}
    for warp in WARPS:
        frames = FeatureExtractor(warped(lower.features, warp)).extract(speech[8:]).frames
        scores[warp] = sum(lower.recognise(own).score for own in frames)
    assert voice.warp == max(scores, key=scores.get)
    # The voices are those of training.
    assert 0.95 <= voice.warp <= 1.05
    assert len(voice.extraction.frames) == 4


def test_filters_that_end_elsewhere_in_training_are_moved_there(lower, speech):
    # Trained as if voices were lower by a tenth: their filters must be moved up to sound alike.
    other = replace(lower, features=warped(lower.features, 1 / 1.1))
    assert fitting_voice(other, speech[8:]).warp == 1.1


def test_warps_beyond_half_the_sample_rate_are_left_out_with_one_warning(recogniser, speech):
    with pytest.warns(SpeechGMMWarning) as caught:
        voice = fitting_voice(recogniser, speech[8:])
    (warning,) = caught
    assert str(warning.message).startswith(
        f"filters up to {RATE / 2:g} Hz cannot be moved by 1.05, 1.1, 1.15: they would end above {RATE / 2:g} Hz"
    )
    assert "train the recogniser with a lower `high_frequency`" in str(warning.message)
    assert warning.filename == __file__
    below = [warp for warp in WARPS if warp <= 1]
    assert voice.warp == fitting_voice(recogniser, speech[8:], below).warp


@pytest.mark.parametrize(
    ("warps", "message"),
    [
        ((), "`warps` is empty"),
        ((1.05, 1.1), r"cannot be moved by 1\.05: .* \(choose a lower `high_frequency`\)"),
        ((1.0, -1.0), r"`warp` is -1\.0; it must be a factor above 0"),
    ],
)
def test_warps_of_which_none_is_left_or_that_are_none_are_refused(recogniser, speech, warps, message):
    with pytest.raises(InputError, match=message):
        fitting_voice(recogniser, speech[8:], warps)


def test_speech_that_cannot_be_used_is_refused(recogniser, speech):
    gone = replace(speech[8], audio=speech[8].audio.with_name("gone.wav"))
    with pytest.raises(InputError, match="none of 1 utterances can be read and is long enough for a phone"):
        fitting_voice(recogniser, [gone], (1.0,))


def test_filters_are_moved_by_a_factor():
    features = FeatureConfig(sample_rate=16000, low_frequency=100.0, high_frequency=6000.0)
    moved = warped(features, 1.1)
    assert (moved.low_frequency, moved.high_frequency) == pytest.approx((110.0, 6600.0))
    assert warped(features, 1.0) is features
