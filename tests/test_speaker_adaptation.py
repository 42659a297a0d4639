"""phones.speaker_adaptation and phones.vocal_tract: known distortions of made frames, voices made higher or lower."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import soundfile

from speechgmm.errors import InputError, SpeechGMMWarning
from speechgmm.features.config import FeatureConfig
from speechgmm.features.extract import FeatureExtractor
from speechgmm.manifest import Utterance
from speechgmm.phones.fmllr import estimate_fmllr, fmllr_prior, fmllr_statistics
from speechgmm.phones.front_end import FrontEnd
from speechgmm.phones.graph import compose, transcript_of
from speechgmm.phones.hmm_training import HmmSettings
from speechgmm.phones.label_files import read_labels
from speechgmm.phones.labels import attach
from speechgmm.phones.passes import best_path, log_likelihoods
from speechgmm.phones.recogniser import PhoneRecogniser
from speechgmm.phones.recogniser_training import RecogniserSettings, train_recogniser
from speechgmm.phones.speaker_adaptation import PRIOR_FRAMES, adapted_to
from speechgmm.phones.transforms import LinearTransform
from speechgmm.phones.vocal_tract import WARPS, fitting_voice, warped
from tests import naive_hmm
from tests.made_phones import SAMPLE_RATE, sentence
from tests.test_recogniser import error_rate, made, said_by

# Adaptation to made frames


def distortion(size=0.3, shift=2.5, seed=0):
    """An affine transform not far from the identity."""
    rng = np.random.default_rng(seed)
    return LinearTransform(np.eye(4) + size * rng.standard_normal((4, 4)), shift * rng.standard_normal(4))


def distorted(frames, own):
    return [own.apply(one).astype(np.float32) for one in frames]


def undone(own):
    inverse = np.linalg.inv(own.matrix)
    return LinearTransform(inverse, -inverse @ own.offset)


def explained(recogniser, frames):
    """Log-likelihood of the frames as they were given, whatever the front end does to them."""
    total = sum(recogniser.recognise(own).score for own in frames)
    transform = recogniser.front_end.transform
    return total + (sum(map(len, frames)) * transform.log_determinant if transform else 0.0)


@pytest.mark.parametrize("seed", [0, 2, 3])
def test_a_known_distortion_is_undone(seed):
    recogniser = made(spread=3.0)
    own = distortion(seed=seed)
    strings, frames = said_by(recogniser.hmms, 30, 12, seed=seed)
    voice = distorted(frames, own)
    adapted = adapted_to(recogniser, voice[:20], rounds=4)
    before, after = (error_rate(one, strings[20:], voice[20:]) for one in (recogniser, adapted))
    possible = error_rate(recogniser, strings[20:], frames[20:])
    # Of utterances that it was not adapted to.
    assert after < before / 2
    assert after < possible + 0.03
    # 1000 frames and more, and 200 that speak for no change.
    expected = undone(own)
    found = adapted.front_end.transform
    np.testing.assert_allclose(found.matrix, expected.matrix, atol=0.25)
    assert explained(adapted, voice[20:]) > explained(recogniser, voice[20:]) + sum(map(len, voice[20:]))


def test_a_second_round_is_an_estimate_from_what_the_first_made_of_the_frames():
    hmms = naive_hmm.hmm_set((1, 2, 2, 2), 1, n_components=3, n_features=4)
    recogniser = replace(made(), hmms=hmms)
    _, frames = said_by(hmms, 8, 12)
    voice = distorted(frames, distortion())
    first, second = (adapted_to(recogniser, voice, rounds=rounds) for rounds in (1, 2))
    transform = first.front_end.transform
    found = []
    for own in voice:
        graph = compose(hmms, transcript_of(one.label for one in first.recognise(own).phones))
        pdfs = graph.pdfs[best_path(hmms, graph, log_likelihoods(hmms, first.front_end.apply(own))).states]
        # The components of a mixture share a frame out as it is after the first transform.
        found.append(
            fmllr_statistics(hmms.mixtures, own, pdfs, range(len(pdfs)), np.ones(len(pdfs)), transform)
        )
    expected = estimate_fmllr(sum(found[1:], found[0]), fmllr_prior(hmms.mixtures, PRIOR_FRAMES))
    np.testing.assert_allclose(second.front_end.transform.matrix, expected.matrix, atol=1e-9)
    np.testing.assert_allclose(second.front_end.transform.offset, expected.offset, atol=1e-9)


def test_more_rounds_are_no_worse():
    recogniser = made(spread=3.0)
    _, frames = said_by(recogniser.hmms, 20, 12, seed=1)
    voice = distorted(frames, distortion(0.3, 2.0, seed=1))
    values = [explained(adapted_to(recogniser, voice, rounds=rounds), voice) for rounds in (1, 2, 4)]
    # The prior is no part of the likelihood, so that the last bit may fall again.
    assert values[0] < values[1] < values[2] + 10


def test_with_nothing_to_adapt_hardly_anything_changes():
    recogniser = made(spread=4.0)
    strings, frames = said_by(recogniser.hmms, 30, 12)
    adapted = adapted_to(recogniser, frames)
    found = adapted.front_end.transform
    # An entry of the matrix is known to 1 / sqrt(1000 frames) or so, where states differ as much as here.
    np.testing.assert_allclose(found.matrix, np.eye(4), atol=0.1)
    np.testing.assert_allclose(found.offset, np.zeros(4), atol=0.2)
    assert error_rate(adapted, strings, frames) <= error_rate(recogniser, strings, frames) + 0.01


def test_little_speech_changes_little():
    recogniser = made(spread=3.0)
    own = distortion()
    _, frames = said_by(recogniser.hmms, 30, 12)
    voice = distorted(frames, own)
    away = [
        np.abs(adapted_to(recogniser, given).front_end.transform.offset).sum()
        for given in ([voice[0][:10]], voice[:2], voice)
    ]
    assert away[0] < away[1] < away[2]
    # 10 frames against 200 that speak for no change.
    assert PRIOR_FRAMES == 200
    assert away[0] < 0.15 * np.abs(undone(own).offset).sum()


def test_the_recogniser_stays_what_it_was_and_adapts_from_where_its_front_end_ends():
    plain = made(spread=3.0)
    _, frames = said_by(plain.hmms, 20, 12)
    turn = distortion(0.4, 1.0, seed=7)
    # The same recogniser for frames in other coordinates.
    turned = replace(plain, front_end=FrontEnd(4, 0, undone(turn)))
    voice = distorted(frames, distortion())
    one, two = adapted_to(plain, voice), adapted_to(turned, distorted(voice, turn))
    assert plain.front_end.transform is None and turned.front_end.transform == undone(turn)
    both = two.front_end.transform.after(turn)
    # float32 frames, from which decisions between states follow.
    np.testing.assert_allclose(both.matrix, one.front_end.transform.matrix, atol=1e-3)
    np.testing.assert_allclose(both.offset, one.front_end.transform.offset, atol=1e-3)
    again = adapted_to(one, voice)
    assert explained(again, voice) >= explained(one, voice) - 1.0


def test_the_same_bits_for_any_number_of_workers_and_after_a_round_trip(tmp_path):
    recogniser = made(spread=3.0)
    _, frames = said_by(recogniser.hmms, 12, 12)
    voice = distorted(frames, distortion())
    one, two = (adapted_to(recogniser, voice, n_jobs=n_jobs) for n_jobs in (1, 2))
    assert one.front_end.transform == two.front_end.transform
    one.save(tmp_path / "file")
    loaded = PhoneRecogniser.load(tmp_path / "file")
    assert [loaded.recognise(own) for own in voice] == [one.recognise(own) for own in voice]


def test_utterances_that_are_too_short_are_passed_over():
    recogniser = made(lengths=(2, 2, 2))
    _, frames = said_by(recogniser.hmms, 5, 12)
    short = [frames[0][:1], frames[0][:0]]
    with_them = adapted_to(recogniser, [short[0], *frames, short[1]])
    assert with_them.front_end.transform == adapted_to(recogniser, frames).front_end.transform
    with pytest.raises(InputError, match="none of 2 utterances is long enough for a phone; there is nothing"):
        adapted_to(recogniser, short)


def test_what_cannot_be_adapted_to():
    recogniser = made()
    with pytest.raises(InputError, match="adaptation needs 1 round or more, and speech; 2 and 0 were given"):
        adapted_to(recogniser, [])
    with pytest.raises(InputError, match="adaptation needs 1 round or more, and speech; 0 and 1 were given"):
        adapted_to(recogniser, [np.zeros((9, 4))], rounds=0)
    with pytest.raises(InputError, match="frames have 5 values; the recogniser needs 4"):
        adapted_to(recogniser, [np.zeros((9, 5))])


# Vocal tract length

FEATURES = {"high_frequency": 6500.0, "normalisation": "mean"}
SETTINGS = RecogniserSettings(
    n_states=1, silence_states=1, context=0, language_model_weight=1.0, insertion=0.0
)


def test_filters_are_moved_together():
    features = FeatureConfig(low_frequency=100.0, high_frequency=4000.0, n_filters=20)
    moved = warped(features, 1.1)
    assert (moved.low_frequency, moved.high_frequency) == pytest.approx((110.0, 4400.0))
    assert replace(moved, low_frequency=100.0, high_frequency=4000.0) == features
    assert warped(features, 1.0) is features
    # 0 stands for half the sample rate, which may be moved down and not up.
    assert warped(FeatureConfig(), 0.9).high_frequency == pytest.approx(7200.0)
    assert warped(replace(features, high_frequency=4000.0), 2.0).high_frequency == 8000.0


@pytest.mark.parametrize(
    ("high", "warp", "message"),
    [
        (
            0.0,
            1.05,
            r"filters up to 8000 Hz cannot be moved by 1\.05: they would end above 8000 Hz, half the",
        ),
        (
            7500.0,
            1.1,
            r"filters up to 7500 Hz cannot be moved by 1\.1: they would end above .* `high_frequency`",
        ),
        (4000.0, 0.0, r"`warp` is 0\.0; it must be a factor above 0"),
        (4000.0, -1.0, r"`warp` is -1\.0; it must be a factor above 0"),
        (4000.0, float("nan"), "`warp` is nan; it must be a factor above 0"),
    ],
)
def test_filters_cannot_be_moved_anywhere(high, warp, message):
    with pytest.raises(InputError, match=message):
        warped(FeatureConfig(high_frequency=high), warp)


def speak(folder, voice, numbers):
    """Made sentences of one voice."""
    utterances = []
    for number in numbers:
        samples, segments, _ = sentence(voice, 8, number)
        path = folder / f"{voice}-{number}.wav"
        soundfile.write(path, samples, SAMPLE_RATE)
        utterances.append(Utterance(path.stem, path, segments={"phones": segments}))
    return utterances


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("voices")


@pytest.fixture(scope="module")
def recogniser(folder):
    hmm = HmmSettings(2, start_iterations=2, last_iterations=2)
    return train_recogniser(
        speak(folder, 1.0, range(12)), features=FEATURES, settings=SETTINGS, hmm=hmm
    ).recogniser


def errors_of(recogniser, utterances, extraction):
    strings = [[segment.label for segment in one.segments["phones"]] for one in utterances]
    return error_rate(recogniser, strings, extraction.frames)


@pytest.mark.parametrize("voice", [0.9, 1.0, 1.1])
def test_the_warp_of_a_made_voice_is_found(recogniser, folder, voice):
    utterances = speak(folder, voice, range(50, 53))
    found = fitting_voice(recogniser, utterances, (0.9, 1.0, 1.1))
    assert found.warp == voice
    assert found.extraction.utterances == tuple(utterances)
    plain = FeatureExtractor(recogniser.features).extract(utterances)
    same = [np.array_equal(*pair) for pair in zip(found.extraction.frames, plain.frames, strict=True)]
    assert same == [voice == 1.0] * 3
    if voice != 1.0:
        assert errors_of(recogniser, utterances, found.extraction) < 0.6 * errors_of(
            recogniser, utterances, plain
        )


def test_the_same_voice_for_any_number_of_workers(recogniser, folder):
    utterances = speak(folder, 1.1, range(60, 63))
    one, two = (fitting_voice(recogniser, utterances, (1.0, 1.1), n_jobs=n_jobs) for n_jobs in (1, 2))
    assert one.warp == two.warp
    assert all(map(np.array_equal, one.extraction.frames, two.extraction.frames))


def test_one_bad_or_short_utterance_stops_no_other(recogniser, folder):
    soundfile.write(folder / "short.wav", np.zeros(0), SAMPLE_RATE)
    (folder / "text.wav").write_text("this is not audio")
    bad = [Utterance(name, folder / f"{name}.wav") for name in ("short", "text")]
    long_phones = replace(
        recogniser, hmms=replace(recogniser.hmms, states=[(own[0],) * 3 for own in recogniser.hmms.states])
    )
    soundfile.write(folder / "brief.wav", 0.01 * np.random.default_rng(0).standard_normal(100), SAMPLE_RATE)
    brief = Utterance("brief", folder / "brief.wav")
    good = speak(folder, 1.1, [70])
    found = fitting_voice(long_phones, [*bad, brief, *good], (1.0, 1.1))
    assert found.warp == fitting_voice(long_phones, good, (1.0, 1.1)).warp
    # The brief one has frames, though nothing can be recognised in them.
    assert [one.id for one in found.extraction.utterances] == ["brief", "1.1-70"]
    with pytest.raises(InputError, match="none of 3 utterances can be read and is long enough for a phone"):
        fitting_voice(long_phones, [*bad, brief], (1.0,))


def test_frames_may_be_normalised_together(recogniser, folder):
    utterances = speak(folder, 1.1, [80, 81])
    seen = []

    def normalised(extraction):
        seen.append(extraction)
        return replace(extraction, frames=tuple(own * np.float32(0.5) for own in extraction.frames))

    found = fitting_voice(recogniser, utterances, (1.0, 1.1), normalised=normalised)
    plain = seen[(1.0, 1.1).index(found.warp)]
    assert len(seen) == 2
    assert all(map(np.array_equal, found.extraction.frames, [own * np.float32(0.5) for own in plain.frames]))


def test_warps_that_lead_too_high_are_left_out(recogniser, folder):
    utterances = speak(folder, 1.1, [90, 91])
    with pytest.warns(SpeechGMMWarning, match=r"up to 6500 Hz cannot be moved by 1\.5, 2: .* 8000 Hz, half"):
        found = fitting_voice(recogniser, utterances, (1.0, 1.5, 1.1, 2.0))
    assert found.warp == fitting_voice(recogniser, utterances, (1.0, 1.1)).warp


def test_warps_that_cannot_be_are_refused_before_any_work(recogniser):
    fit = partial(fitting_voice, recogniser, [Utterance("gone", "gone.wav")])
    with pytest.raises(InputError, match="`warps` is empty; one factor at least is needed"):
        fit(())
    with pytest.raises(InputError, match=r"filters up to 6500 Hz cannot be moved by 1\.5"):
        fit((1.5, 2.0))
    with pytest.raises(InputError, match=r"`warp` is -1; it must be a factor above 0"):
        fit((1.0, -1))
    with pytest.raises(InputError, match="none of 1 utterances can be read"):
        fit(WARPS)


# Played slower, the voice ends at 3600 Hz; the filters that suit it do at 3060.
@pytest.mark.filterwarnings("ignore:10 audio files at 7200 Hz brought up")
def test_real_voices_that_are_played_faster_or_slower(speech_data, tmp_path):
    names = [f"{digit}_george_{take}" for digit in range(10) for take in range(8)]
    utterances = [Utterance(name, speech_data / "fsdd" / "recordings" / f"{name}.wav") for name in names]
    utterances = attach(utterances, read_labels(speech_data / "fsdd" / "phones.tsv"), missing="drop")
    settings = RecogniserSettings(n_states=2, silence_states=1, context=0)
    features = {"high_frequency": 3400.0, "n_coefficients": 10, "delta_orders": 1}
    recogniser = train_recogniser(
        utterances, features=features, settings=settings, hmm=HmmSettings(4, start_iterations=2, iterations=1)
    ).recogniser
    for factor in (0.9, 1.0, 1.1):
        played = []
        for name in [f"{digit}_george_9" for digit in range(10)]:
            samples, rate = soundfile.read(speech_data / "fsdd" / "recordings" / f"{name}.wav")
            soundfile.write(tmp_path / f"{name}.wav", samples, round(rate * factor))
            played.append(Utterance(name, tmp_path / f"{name}.wav"))
        assert fitting_voice(recogniser, played, (0.9, 1.0, 1.1)).warp == factor
