"""verification.enrolment: statistics that add to the same bits whenever they come, models, and what is refused."""

import math
import pickle
from dataclasses import replace

import numpy as np
import pytest

from speechgmm.em.adaptation import Adaptation, adapt, adapt_to_frames
from speechgmm.em.fit import fit
from speechgmm.em.initialise import kmeans
from speechgmm.em.mixture import Mixture
from speechgmm.em.moments import moments_of
from speechgmm.em.statistics import EStep
from speechgmm.errors import InputError
from speechgmm.verification.background import Background
from speechgmm.verification.enrolment import Enroller, Enrolment
from tests import naive

ALL = ("means", "variances", "weights")
every_type = pytest.mark.parametrize("covariance_type", naive.COVARIANCE_TYPES)


def made_background(covariance_type="diag", seed=0, n_features=3):
    parts = naive.random_parts(seed, covariance_type, n_features=n_features)
    return Background(Mixture(*parts, covariance_type))


def made_speech(background, lengths, seed=0, prefix="u"):
    """Utterances of some lengths: (key, frames, seconds), the frames in float32 as features are."""
    return [
        (
            f"{prefix}{seed}-{number}",
            (background.ubm.sample(length, 100 * seed + number) + 0.5).astype(np.float32),
            length / 100,
        )
        for number, length in enumerate(lengths)
    ]


def statistics_of(background, frames):
    """Those of one utterance, as the engine forms them."""
    ubm = background.ubm
    coordinates = moments_of(ubm).coordinates(ubm.covariance_type)
    return EStep(ubm, coordinates, short_exactly=False).statistics_of(frames)


def assert_same(one, other):
    """Equal in everything, statistics to the bit."""
    for name in ("speaker", "utterances", "background", "seconds", "adaptation"):
        assert getattr(one, name) == getattr(other, name), name
    for name in ("zeroth", "first", "second"):
        np.testing.assert_array_equal(getattr(one.statistics, name), getattr(other.statistics, name))
    assert one.statistics.log_likelihood == other.statistics.log_likelihood
    assert one.n_frames == other.n_frames
    assert one.statistics.coordinates.same_as(other.statistics.coordinates)


class TestStatistics:
    @every_type
    @pytest.mark.parametrize("length", [5, 700])
    def test_of_one_utterance_are_those_of_its_frames(self, covariance_type, length):
        background = made_background(covariance_type)
        ((key, frames, seconds),) = made_speech(background, [length])
        found = Enroller(background).enrol("anna", [frames], [key], seconds)
        expected = statistics_of(background, frames)
        np.testing.assert_array_equal(found.statistics.zeroth, expected.zeroth)
        np.testing.assert_array_equal(found.statistics.first, expected.first)
        assert found.statistics.second.shape == expected.second.shape and not found.statistics.second.any()
        assert found.statistics.log_likelihood == expected.log_likelihood
        assert (found.speaker, found.utterances) == ("anna", (key,))
        assert (found.n_frames, found.seconds) == (length, seconds)
        assert found.background == background.fingerprint

    def test_second_moments_are_kept_where_variances_are_adapted(self):
        background = made_background()
        ((key, frames, _),) = made_speech(background, [700])
        found = Enroller(background, Adaptation(parts=ALL)).enrol("anna", [frames], [key])
        expected = statistics_of(background, frames).second
        np.testing.assert_array_equal(found.statistics.second, expected)

    def test_of_many_speakers_take_little_memory(self):
        background = made_background("full", n_features=20)
        found = Enroller(background).enrol_many({"anna": made_speech(background, [30, 40])})["anna"]
        assert found.statistics.second.shape == (4, 20, 20) and set(found.statistics.second.strides) == {0}

    def test_of_several_utterances_are_their_sum_in_order(self):
        background = made_background()
        speech = made_speech(background, [600, 40, 1500])
        found = Enroller(background).enrol_many({"anna": speech})["anna"]
        parts = [statistics_of(background, frames) for _, frames, _ in speech]
        np.testing.assert_array_equal(found.statistics.first, (parts[0] + parts[1] + parts[2]).first)
        assert found.utterances == tuple(key for key, _, _ in speech)
        assert found.seconds == pytest.approx(21.4, rel=1e-12)

    @every_type
    def test_utterances_that_come_later_give_the_same_bits(self, covariance_type):
        background = made_background(covariance_type)
        parts = ("means", "weights") if covariance_type == "tied" else ALL
        enroller = Enroller(background, Adaptation(parts=parts))
        speech = made_speech(background, [600, 40, 1500, 700, 1, 512])
        at_once = enroller.enrol_many({"anna": speech})["anna"]
        for cut in (1, 2, 3, 4, 5):
            first = enroller.enrol_many({"anna": speech[:cut]})
            later = enroller.enrol_many({"anna": speech[cut:]}, known=first)["anna"]
            assert_same(later, at_once)
            assert enroller.model(later) == enroller.model(at_once)
        one_by_one = None
        for key, frames, seconds in speech:
            one_by_one = enroller.enrol("anna", [frames], [key], seconds, one_by_one)
        assert_same(one_by_one, at_once)

    def test_an_enrolment_extended_by_one_utterance_gives_the_same_bits(self):
        background = made_background()
        enroller = Enroller(background)
        speech = made_speech(background, [600, 800])
        one, other = (enroller.enrol_many({"anna": [piece]})["anna"] for piece in speech)
        assert_same(one.extended(other), enroller.enrol_many({"anna": speech})["anna"])

    @pytest.mark.parametrize("n_jobs", [2, 3, -1])
    def test_bits_do_not_depend_on_workers_or_fellows(self, n_jobs):
        background = made_background()
        enroller = Enroller(background)
        groups = {
            name: made_speech(background, [300, 17_000, 40], seed=number)
            for number, name in enumerate(("zoë", "anna", "bea"))
        }
        one_by_one = {name: enroller.enrol_many({name: groups[name]})[name] for name in groups}
        together = enroller.enrol_many(groups, n_jobs=n_jobs)
        assert list(together) == ["anna", "bea", "zoë"]
        for name, enrolment in together.items():
            assert_same(enrolment, one_by_one[name])
        # One utterance alone is cut among the threads.
        key, frames, seconds = groups["bea"][1]
        assert_same(
            enroller.enrol("bea", [frames], [key], seconds, n_jobs=n_jobs),
            enroller.enrol("bea", [frames], [key], seconds),
        )

    def test_frames_of_other_types_and_layouts(self):
        background = made_background()
        ((key, frames, _),) = made_speech(background, [700])
        enroller = Enroller(background)
        expected = enroller.enrol("anna", [frames], [key])
        assert_same(enroller.enrol("anna", [np.asfortranarray(frames)], [key]), expected)
        assert_same(enroller.enrol("anna", [np.repeat(frames, 2, axis=0)[::2]], [key]), expected)
        double = enroller.enrol("anna", [frames.astype(np.float64)], [key])
        np.testing.assert_allclose(double.statistics.first, expected.statistics.first, rtol=1e-5, atol=1e-4)

    def test_progress_counts_utterances(self):
        background, told = made_background(), []
        groups = {name: made_speech(background, [30, 40], seed=ord(name)) for name in "ab"}
        Enroller(background).enrol_many(groups, n_jobs=2, progress=lambda *words: told.append(words))
        assert told == [("enrolment", done, 4) for done in (2, 4)]


class TestModels:
    @every_type
    @pytest.mark.parametrize("factor", [0.0, 16.0])
    def test_they_are_the_adapted_background(self, covariance_type, factor):
        background = made_background(covariance_type)
        parts = ("means", "weights") if covariance_type == "tied" else ALL
        enroller = Enroller(background, Adaptation(factor, parts))
        enrolment = enroller.enrol_many({"anna": made_speech(background, [700])})["anna"]
        expected = adapt(background.ubm, enrolment.statistics, factor, parts)
        assert enroller.model(enrolment) == expected
        assert expected != background.ubm

    def test_a_pickled_enrolment_gives_the_same_model(self):
        background = made_background()
        enroller = Enroller(background)
        enrolment = enroller.enrol_many({"anna": made_speech(background, [700])})["anna"]
        assert enroller.model(pickle.loads(pickle.dumps(enrolment))) == enroller.model(enrolment)

    def test_in_other_coordinates_the_model_is_the_same_but_for_rounding(self):
        background = made_background()
        speech = {"anna": made_speech(background, [700])}
        other = Enroller(
            background, coordinates=replace(moments_of(background.ubm).coordinates(), origin=np.ones(3))
        )
        found = other.model(other.enrol_many(speech)["anna"]).means
        usual = Enroller(background)
        # Products in float32 about another origin.
        np.testing.assert_allclose(found, usual.model(usual.enrol_many(speech)["anna"]).means, atol=1e-5)

    def test_on_real_speech_each_model_prefers_its_own_speaker(self, speech_data):
        frames = naive.real_frames(speech_data)
        halves = {"jackson": frames[: len(frames) // 2], "theo": frames[len(frames) // 2 :]}
        ubm = fit(frames, kmeans(frames, 8, seed=0), max_iterations=5).mixture
        enroller = Enroller(Background(ubm))
        enrolled = enroller.enrol_many({name: [(name, part[::2], 1.0)] for name, part in halves.items()})
        models = {name: enroller.model(enrolment) for name, enrolment in enrolled.items()}
        for name, part in halves.items():
            fits = {other: model.log_likelihoods(part[1::2]).mean() for other, model in models.items()}
            assert max(fits, key=fits.get) == name
            assert fits[name] > ubm.log_likelihoods(part[1::2]).mean()


class TestShortUtterances:
    """They go through the compiled float32 pass, one by one."""

    @every_type
    def test_models_are_near_those_of_exact_statistics(self, covariance_type):
        background = made_background(covariance_type, n_features=12)
        speech = made_speech(background, [30, 1, 300, 100, 512])
        enroller = Enroller(background)
        enrolment = enroller.enrol_many({"anna": speech})["anna"]
        exact = EStep(background.ubm, enroller.coordinates)
        first, *others = (exact.statistics_of(frames) for _, frames, _ in speech)
        expected = sum(others, first)
        for name in ("zeroth", "first"):
            found, sums = getattr(enrolment.statistics, name), getattr(expected, name)
            assert np.abs(found - sums).max() <= 1e-5 * np.abs(sums).max()  # what `EStep` promises
        found, means = enroller.model(enrolment).means, adapt(background.ubm, expected).means
        np.testing.assert_allclose(found, means, atol=1e-5)  # deviations are 0.5 and more

    def test_a_frame_far_from_all_others_is_as_good(self):
        background = made_background()
        ((key, frames, _),) = made_speech(background, [100])
        frames[7] += 1e4
        enroller = Enroller(background)
        found = enroller.enrol("anna", [frames], [key]).statistics
        exact = EStep(background.ubm, enroller.coordinates).statistics_of(frames)
        np.testing.assert_allclose(found.first, exact.first, rtol=1e-5, atol=1e-3)
        assert found.zeroth.sum() == pytest.approx(100, rel=1e-6)


class TestSeveralIterations:
    @every_type
    @pytest.mark.parametrize("iterations", [2, 5])
    def test_the_model_is_that_of_all_frames_together(self, covariance_type, iterations):
        background = made_background(covariance_type)
        parts = ("means", "weights") if covariance_type == "tied" else ALL
        adaptation = Adaptation(4.0, parts, iterations)
        enroller = Enroller(background, adaptation)
        speech = made_speech(background, [600, 40, 300])
        enrolment = enroller.enrol_many({"anna": speech})["anna"]
        frames = np.concatenate([frames for _, frames, _ in speech])
        model = enroller.model(enrolment)
        assert model == adapt_to_frames(background.ubm, frames, adaptation, enroller.coordinates)
        once = Enroller(background, replace(adaptation, iterations=1))
        other = once.model(once.enrol_many({"anna": speech})["anna"])
        assert np.abs(model.means - other.means).max() > 1e-3
        assert enrolment.utterances == tuple(key for key, _, _ in speech)
        assert (enrolment.n_frames, enrolment.adaptation) == (940, adaptation)
        assert enrolment.seconds == pytest.approx(9.4, rel=1e-12)

    def test_one_iteration_says_nothing_of_the_adaptation(self):
        background = made_background()
        enrolment = Enroller(background).enrol_many({"anna": made_speech(background, [30])})["anna"]
        assert enrolment.adaptation is None
        further = Enroller(background, Adaptation(100.0, ("means", "weights")))
        assert further.model(enrolment) == adapt(
            background.ubm, enrolment.statistics, 100.0, ("means", "weights")
        )

    @pytest.mark.parametrize("n_jobs", [2, 3])
    def test_bits_do_not_depend_on_workers_or_fellows(self, n_jobs):
        background = made_background()
        enroller = Enroller(background, Adaptation(iterations=3))
        groups = {
            name: made_speech(background, [300, 17_000], seed=number)
            for number, name in enumerate(("zoë", "anna", "bea"))
        }
        together = enroller.enrol_many(groups, n_jobs=n_jobs)
        for name, speech in groups.items():
            alone = enroller.enrol_many({name: speech}, n_jobs=n_jobs)[name]
            assert_same(together[name], alone)
            assert_same(alone, enroller.enrol_many({name: speech})[name])

    def test_second_moments_are_kept_only_where_they_are_read(self):
        background = made_background()
        groups = {"anna": made_speech(background, [300])}
        plain = Enroller(background, Adaptation(iterations=2)).enrol_many(groups)["anna"]
        assert not plain.statistics.second.any()

    def test_frames_of_two_types(self):
        background = made_background()
        (one, first, _), (other, second, _) = made_speech(background, [300, 400])
        enroller = Enroller(background, Adaptation(iterations=2))
        double = enroller.enrol("anna", [first, second.astype(np.float64)], [one, other])
        single = enroller.enrol("anna", [first, second], [one, other])
        np.testing.assert_allclose(double.statistics.first, single.statistics.first, rtol=1e-5, atol=1e-3)

    def test_utterances_cannot_be_added(self):
        background = made_background()
        speech = made_speech(background, [300, 400])
        enroller = Enroller(background, Adaptation(iterations=2))
        known = enroller.enrol_many({"anna": speech[:1]})
        message = (
            r"speaker 'anna' is enrolled with 2 iterations of adaptation \(means; 16\), each of which needs the "
            r"frames of all utterances; remove the speaker first, then enrol anew with all utterances"
        )
        with pytest.raises(InputError, match=message):
            enroller.enrol_many({"anna": speech[1:]}, known=known)
        with pytest.raises(InputError, match=message):
            known["anna"].extended(enroller.enrol_many({"anna": speech[1:]})["anna"])
        once = Enroller(background).enrol_many({"anna": speech[1:]})["anna"]
        for one, other in ((once, known["anna"]), (known["anna"], once)):
            with pytest.raises(InputError, match=message):
                one.extended(other)

    def test_statistics_of_another_adaptation_are_refused(self):
        background = made_background()
        groups = {"anna": made_speech(background, [300])}
        settings = {
            "once": Adaptation(),
            "twice": Adaptation(iterations=2),
            "nearer": Adaptation(40.0, iterations=2),
            "three": Adaptation(iterations=3),
        }
        enrollers = {name: Enroller(background, adaptation) for name, adaptation in settings.items()}
        made = {name: enroller.enrol_many(groups)["anna"] for name, enroller in enrollers.items()}
        for name, enroller in enrollers.items():
            enroller.model(made[name])
            for other in set(made) - {name}:
                with pytest.raises(
                    InputError, match=r"'anna': the statistics are of .*enrol anew from audio"
                ):
                    enroller.model(made[other])
        with pytest.raises(
            InputError,
            match=r"of 1 iteration of adaptation; .* those of 2 iterations of adaptation \(means; 40\)",
        ):
            enrollers["nearer"].model(made["once"])

    @pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
    def test_frames_are_checked(self, value):
        background = made_background()
        speech = made_speech(background, [30, 40])
        speech[1][1][3, 1] = value
        with pytest.raises(InputError, match="`frames of utterance u0-1` has "):
            Enroller(background, Adaptation(iterations=2)).enrol_many({"anna": speech})


class TestRefused:
    def test_variances_of_tied_covariances(self):
        with pytest.raises(InputError, match="variances of tied covariances cannot be adapted"):
            Enroller(made_background("tied"), Adaptation(parts=ALL))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda x: x[:0], "utterance 'u0-1' of speaker 'anna' has no frames .*without speech"),
            (lambda x: x[:, :2], "`frames of utterance u0-1` has 2 features; the mixture has 3"),
            (lambda x: x[0], "`frames of utterance u0-1` has 1 dimensions"),
            (lambda x: np.where(x == x[4, 1], np.nan, x), "u0-1` has the value nan at frame 4, feature 1"),
            (lambda x: np.where(x == x[4, 1], np.inf, x), "u0-1` has the value inf at frame 4, feature 1"),
            (lambda x: x * np.float32(1e37), "u0-1` has values so large that their squares overflow"),
            (lambda x: "speech.wav", "`frames of utterance u0-1` holds .* numbers are needed"),
        ],
        ids=["none", "features", "dimensions", "nan", "inf", "large", "text"],
    )
    def test_frames(self, change, message):
        background = made_background()
        speech = made_speech(background, [30, 40])
        speech[1] = (speech[1][0], change(speech[1][1]), 0.4)
        with pytest.raises(InputError, match=message):
            Enroller(background).enrol_many({"anna": speech})

    def test_another_number_of_keys(self):
        background = made_background()
        ((key, frames, _),) = made_speech(background, [30])
        with pytest.raises(InputError, match="2 `frames` and 1 `utterances` given"):
            Enroller(background).enrol("anna", [frames, frames], [key])

    def test_a_speaker_without_utterances(self):
        with pytest.raises(InputError, match="speaker 'anna' has no utterances"):
            Enroller(made_background()).enrol("anna", [], [])

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("", "`speaker` is ''; it must be a text that is not empty"),
            (7, "`speaker` is 7"),
            (None, "`speaker` is None"),
            ("a\nb", r"`speaker` is 'a\\nb'; .*without control characters"),
            ("unknown", "a speaker is named 'unknown', which is the answer for rejected utterances"),
        ],
    )
    def test_names(self, name, message):
        background = made_background()
        with pytest.raises(InputError, match=message):
            Enroller(background).enrol_many({"anna": made_speech(background, [9]), name: []})

    @pytest.mark.parametrize("key", ["", None, 3, "a\tb"])
    def test_keys(self, key):
        background = made_background()
        ((_, frames, _),) = made_speech(background, [30])
        with pytest.raises(InputError, match=r"speaker 'anna': utterance .*: keys must be texts"):
            Enroller(background).enrol("anna", [frames], [key])

    @pytest.mark.parametrize("seconds", [-1.0, math.nan, math.inf, "1", True])
    def test_seconds(self, seconds):
        background = made_background()
        ((key, frames, _),) = made_speech(background, [30])
        with pytest.raises(InputError, match=r"`seconds` is .*; it must be a number from 0"):
            Enroller(background).enrol("anna", [frames], [key], seconds)

    def test_an_utterance_twice(self):
        background = made_background()
        enroller = Enroller(background)
        first, second = made_speech(background, [30, 40])
        with pytest.raises(
            InputError, match="speaker 'anna': duplicated enrolment: 'u0-0' would count twice"
        ):
            enroller.enrol_many({"anna": [first, second, first]})
        known = enroller.enrol_many({"anna": [first, second]})
        with pytest.raises(InputError, match="duplicated enrolment: 'u0-1' would count twice"):
            enroller.enrol_many({"anna": [second]}, known=known)
        with pytest.raises(InputError, match="duplicated enrolment: 'u0-0', 'u0-1' would"):
            known["anna"].extended(known["anna"])
        # Of two speakers it may be: who is who is for others to say.
        assert list(enroller.enrol_many({"anna": [first], "bea": [first]})) == ["anna", "bea"]

    def test_what_is_refused_is_refused_before_any_work(self):
        background, told = made_background(), []
        groups = {"anna": made_speech(background, [30]), "zoë": made_speech(background, [30]) * 2}
        with pytest.raises(InputError, match="speaker 'zoë': duplicated enrolment"):
            Enroller(background).enrol_many(groups, progress=lambda *words: told.append(words))
        assert told == []

    def test_another_speaker(self):
        background = made_background()
        enroller = Enroller(background)
        anna = enroller.enrol_many({"anna": made_speech(background, [30])})["anna"]
        bea = enroller.enrol_many({"bea": made_speech(background, [30], seed=1)})["bea"]
        with pytest.raises(InputError, match="enrolments of 'anna' and of 'bea' cannot be joined"):
            anna.extended(bea)
        with pytest.raises(InputError, match="the enrolment known of 'bea' is that of 'anna'"):
            enroller.enrol_many({"bea": made_speech(background, [30])}, known={"bea": anna})

    def test_another_background(self):
        one, other = made_background(), made_background(seed=1)
        anna = Enroller(one).enrol_many({"anna": made_speech(one, [30])})
        later = Enroller(other).enrol_many({"anna": made_speech(other, [30], seed=1)})
        with pytest.raises(InputError, match=r"under two background models .* cannot be joined"):
            anna["anna"].extended(later["anna"])
        with pytest.raises(InputError, match="speaker 'anna' was enrolled under another background model"):
            Enroller(other).model(anna["anna"])
        with pytest.raises(InputError, match="speaker 'anna' was enrolled under another background model"):
            Enroller(other).enrol_many({"anna": made_speech(one, [30], seed=2)}, known=anna)

    def test_variances_without_second_moments(self):
        background = made_background()
        anna = Enroller(background).enrol_many({"anna": made_speech(background, [30])})["anna"]
        with pytest.raises(InputError, match="'anna' was enrolled without the second moments"):
            Enroller(background, Adaptation(parts=ALL)).model(anna)

    def test_an_enrolment_of_nothing(self):
        background = made_background()
        anna = Enroller(background).enrol_many({"anna": made_speech(background, [30])})["anna"]
        with pytest.raises(InputError, match="speaker 'anna': an enrolment needs at least 1 utterance"):
            Enrolment("anna", anna.statistics, (), background.fingerprint)

    @pytest.mark.parametrize("n_jobs", [0, 1.5, True])
    def test_workers(self, n_jobs):
        background = made_background()
        with pytest.raises(InputError, match="`n_jobs` is"):
            Enroller(background).enrol_many({"anna": made_speech(background, [30])}, n_jobs=n_jobs)
