"""verification.speaker_store: enrol, add, remove, save and load; the same bits whatever the way to a store."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from speechgmm.em.adaptation import Adaptation, adapt_to_frames
from speechgmm.em.coordinates import Coordinates
from speechgmm.errors import InputError
from speechgmm.verification.background import Background
from speechgmm.verification.calibration import Calibration
from speechgmm.verification.cohort import Cohort
from speechgmm.verification.enrolment import Enroller
from speechgmm.verification.speaker_store import SpeakerStore
from speechgmm.verification.stored_calibration import StoredCalibration
from speechgmm.verification.system import System
from tests import naive
from tests.test_verification_enrolment import ALL, assert_same, every_type, made_background, made_speech

CALIBRATION = Calibration((2.0,), -1.0, 0.5, 10, 90)


def made_groups(background, names=("anna", "bea", "zoë")):
    return {name: made_speech(background, [600, 40], seed=number) for number, name in enumerate(names)}


def made_store(covariance_type="diag", names=("anna", "bea", "zoë"), parts=("means",)):
    background = made_background(covariance_type)
    store = SpeakerStore.create(background, Adaptation(parts=parts))
    if names:
        store.enrol(made_groups(background, names))
    return store


def made_cohort(store, names=("otto", "paul")):
    groups = {name: made_speech(store.background, [60], seed=50 + i) for i, name in enumerate(names)}
    enrolments = store.enroller.enrol_many(groups)
    frames = [made_speech(store.background, [45], seed=70 + i)[0][1] for i in range(3)]
    return Cohort(tuple(enrolments.values()), frames, ("otto", "paul", "rita"))


def made_calibration(store, normalisation="none"):
    system = System("linear", 5, normalisation)
    return StoredCalibration(CALIBRATION, store.basis(system), system, (-1.5, -2.5), {"cllr": 0.1 + 0.2})


def saved_bytes(store, path):
    store.save(path)
    return path.read_bytes()


def assert_same_store(one, other):
    assert one.background.fingerprint == other.background.fingerprint
    assert (one.adaptation, list(one.enrolments)) == (other.adaptation, list(other.enrolments))
    for speaker, enrolment in one.enrolments.items():
        assert_same(enrolment, other.enrolments[speaker])
        assert one.model(speaker) == other.model(speaker)


class TestRoundTrip:
    @every_type
    @pytest.mark.parametrize("names", [(), ("anna", "zoë")])
    def test_every_kind_of_covariance(self, tmp_path, covariance_type, names):
        parts = ("means", "weights") if covariance_type == "tied" else ALL
        store = made_store(covariance_type, names, parts)
        store.save(tmp_path / "store")
        loaded = SpeakerStore.load(tmp_path / "store")
        assert_same_store(loaded, store)
        assert saved_bytes(loaded, tmp_path / "again") == (tmp_path / "store").read_bytes()

    def test_with_cohort_and_calibration(self, tmp_path):
        store = made_store()
        store.cohort = made_cohort(store)
        store.calibration = made_calibration(store, "s")
        store.save(tmp_path / "store")
        loaded = SpeakerStore.load(tmp_path / "store")
        assert loaded.cohort.speakers == ("otto", "paul")
        assert loaded.cohort.frame_speakers == ("otto", "paul", "rita")
        for found, given in zip(loaded.cohort.enrolments, store.cohort.enrolments, strict=True):
            assert_same(found, given)
        for found, given in zip(loaded.cohort.frames, store.cohort.frames, strict=True):
            np.testing.assert_array_equal(found, given, strict=True)
        assert loaded.cohort_models() == store.cohort_models() and len(store.cohort_models()) == 2
        assert loaded.calibration.to_dict() == store.calibration.to_dict()
        assert saved_bytes(loaded, tmp_path / "again") == (tmp_path / "store").read_bytes()

    @pytest.mark.parametrize("side", ["enrolments", "frames"])
    def test_a_cohort_may_have_one_side_only(self, tmp_path, side):
        store = made_store()
        whole = made_cohort(store)
        only = {
            "enrolments": Cohort(whole.enrolments, (), ()),
            "frames": Cohort((), whole.frames, whole.frame_speakers),
        }
        store.cohort = only[side]
        store.save(tmp_path / "store")
        loaded = SpeakerStore.load(tmp_path / "store").cohort
        assert (len(loaded.enrolments), len(loaded.frames)) == ((2, 0) if side == "enrolments" else (0, 3))

    @pytest.mark.parametrize(
        ("parts", "kept"), [(("means",), False), (("means", "weights"), False), (ALL, True)]
    )
    def test_only_what_is_adapted_takes_room(self, tmp_path, parts, kept):
        made_store(parts=parts).save(tmp_path / "store")
        with safe_open(tmp_path / "store", framework="np") as file:
            names = set(file.keys())
        assert {"zeroth", "first"} <= names and ("second" in names) == kept

    @every_type
    def test_speakers_enrolled_after_loading_have_the_same_bits(self, tmp_path, covariance_type):
        at_once = made_store(covariance_type)
        store = made_store(covariance_type, names=())
        for utterance in (0, 1):
            groups = {
                name: [speech[utterance]]
                for name, speech in made_groups(store.background, ("anna", "bea", "zoë")).items()
            }
            store.enrol(groups)
            store.save(tmp_path / "store")
            store = SpeakerStore.load(tmp_path / "store")
        assert_same_store(store, at_once)
        assert (tmp_path / "store").read_bytes() == saved_bytes(at_once, tmp_path / "other")

    def test_coordinates_come_from_the_file(self, tmp_path):
        # As if another machine had rounded them otherwise: what is enrolled later must still add up.
        background = made_background()
        other = Coordinates(np.full(3, 0.25), np.full(3, 4.0))
        store = SpeakerStore(background, coordinates=other)
        groups = made_groups(background)
        store.enrol({name: speech[:1] for name, speech in groups.items()})
        store.save(tmp_path / "store")
        loaded = SpeakerStore.load(tmp_path / "store")
        assert loaded.coordinates.same_as(other)
        loaded.enrol({name: speech[1:] for name, speech in groups.items()})
        whole = SpeakerStore(background, coordinates=other)
        whole.enrol(groups)
        assert_same_store(loaded, whole)


class TestBytes:
    def test_do_not_depend_on_the_order_of_enrolment_or_workers(self, tmp_path):
        expected = saved_bytes(made_store(), tmp_path / "a")
        background = made_background()
        store = SpeakerStore.create(background)
        for name, speech in reversed(made_groups(background).items()):
            store.enrol({name: speech}, n_jobs=2)
        assert list(store.enrolments) == ["anna", "bea", "zoë"]
        assert saved_bytes(store, tmp_path / "b") == expected
        store.remove("bea")
        assert saved_bytes(store, tmp_path / "c") != expected

    def test_are_equal_in_every_process(self, tmp_path):
        expected = saved_bytes(made_store(), tmp_path / "here")
        code = (
            "import sys; from pathlib import Path; from tests.test_verification_speaker_store import *; "
            "made_store().save(sys.argv[1])"
        )
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "there")],
            cwd=Path(__file__).parent.parent,
            env=os.environ | {"PYTHONHASHSEED": "7"},
            check=True,
        )
        assert (tmp_path / "there").read_bytes() == expected

    def test_a_write_that_fails_leaves_the_old_file(self, tmp_path, monkeypatch):
        path, store = tmp_path / "store", made_store()
        before = saved_bytes(store, path)
        store.remove("bea")

        def full(*_):
            raise OSError(28, "No space left on device")

        for step in ("fsync", "replace"):
            with monkeypatch.context() as patch:
                patch.setattr(os, step, full)
                with pytest.raises(InputError, match=r"store: cannot be written \(No space left on device\)"):
                    store.save(path)
            assert path.read_bytes() == before
            assert os.listdir(tmp_path) == ["store"]
        store.save(path)
        assert list(SpeakerStore.load(path).enrolments) == ["anna", "zoë"]

    @pytest.mark.parametrize(
        "record", [{"figure": float("nan")}, {"figure": np.float32(1)}, {"name": "\udce4"}]
    )
    def test_a_record_that_cannot_be_written_is_named(self, tmp_path, record):
        background = made_background()
        store = SpeakerStore.create(Background(background.ubm, None, record))
        with pytest.raises(InputError, match="speaker store `record` cannot be written as JSON"):
            store.save(tmp_path / "store")
        assert os.listdir(tmp_path) == []


class TestSpeakers:
    def test_rows_are_sorted(self):
        store = made_store(names=("zoë", "anna"))
        assert store.speakers() == [("anna", 2, 6.4, 640), ("zoë", 2, 6.4, 640)]
        assert store.speakers()[0].seconds == 6.4
        assert SpeakerStore.create(store.background).speakers() == []

    def test_models_are_those_of_the_enroller(self):
        store = made_store(parts=ALL)
        enroller = Enroller(store.background, store.adaptation)
        enrolled = enroller.enrol_many(made_groups(store.background))
        for name, enrolment in enrolled.items():
            assert store.model(name) == enroller.model(enrolment)

    def test_a_speaker_who_is_enrolled_is_added_to(self):
        store = made_store()
        more = made_speech(store.background, [300], seed=9)
        store.enrol({"bea": more, "carl": more})
        assert [(row.speaker, row.utterances) for row in store.speakers()] == [
            ("anna", 2),
            ("bea", 3),
            ("carl", 1),
            ("zoë", 2),
        ]
        whole = made_groups(store.background)["bea"] + more
        expected = store.enroller.enrol_many({"bea": whole})["bea"]
        assert_same(store.enrolments["bea"], expected)

    def test_all_are_enrolled_or_none(self):
        store = made_store(names=("anna",))
        before = dict(store.enrolments)
        groups = made_groups(store.background, ("carl", "dora"))
        groups["dora"][1] = ("bad", np.full((5, 3), np.nan), 0.1)
        with pytest.raises(InputError, match="frames of utterance bad` has the value nan"):
            store.enrol(groups)
        with pytest.raises(InputError, match="speaker 'anna': duplicated enrolment: 'u0-0', 'u0-1'"):
            store.enrol({"aaron": groups["carl"], "anna": made_groups(store.background)["anna"]})
        assert store.enrolments == before

    def test_a_removed_speaker_is_gone_and_can_come_again(self):
        store = made_store()
        before = store.model("bea")
        store.remove("bea")
        assert list(store.enrolments) == ["anna", "zoë"]
        store.enrol({"bea": made_groups(store.background)["bea"]})
        assert store.model("bea") == before

    @pytest.mark.parametrize("what", ["remove", "model"])
    def test_an_unknown_speaker_is_answered_with_names_that_are_near(self, what):
        store = made_store(names=("anna", "anne", "zoë"))
        with pytest.raises(InputError, match=r"no speaker 'annna'; called alike: 'anna', 'anne'$"):
            getattr(store, what)("annna")
        with pytest.raises(InputError, match=r"no speaker 'q'; enrolled: 'anna', 'anne', 'zoë'$"):
            getattr(store, what)("q")
        with pytest.raises(InputError, match="no speaker 'anna'; nobody is enrolled"):
            getattr(SpeakerStore.create(store.background), what)("anna")
        assert len(store.enrolments) == 3

    def test_other_settings_of_adaptation_for_the_same_speakers(self):
        store = made_store()
        nearer = replace(store, adaptation=Adaptation(1000.0))
        far = np.abs(store.model("anna").means - store.background.ubm.means).sum()
        assert np.abs(nearer.model("anna").means - store.background.ubm.means).sum() < 0.5 * far
        with pytest.raises(InputError, match="'anna' was enrolled without the second moments"):
            replace(store, adaptation=Adaptation(parts=ALL))


class TestAdd:
    def test_an_enrolment_made_elsewhere(self):
        store = made_store(names=("anna",))
        bea = Enroller(store.background).enrol_many({"bea": made_groups(store.background)["bea"]})["bea"]
        store.add(bea)
        assert_same(store.enrolments["bea"], bea)
        more = Enroller(store.background).enrol_many({"bea": made_speech(store.background, [99], 8)})["bea"]
        store.add(more)
        assert_same(store.enrolments["bea"], bea.extended(more))

    def test_moments_that_are_not_needed_are_left_behind(self):
        store = made_store(names=())
        rich = Enroller(store.background, Adaptation(parts=ALL)).enrol_many(made_groups(store.background))
        store.add(rich["anna"])
        assert_same_store(store, made_store(names=("anna",)))

    def test_what_does_not_fit_is_refused(self):
        store, other = made_store(names=("anna",)), made_background(seed=1)
        foreign = Enroller(other).enrol_many(made_groups(other, ("bea",)))["bea"]
        with pytest.raises(InputError, match="'bea' was enrolled under another background model"):
            store.add(foreign)
        elsewhere = Enroller(store.background, coordinates=Coordinates(np.zeros(3), np.ones(3)))
        with pytest.raises(InputError, match="'bea' was enrolled in other coordinates than those of this st"):
            store.add(elsewhere.enrol_many(made_groups(store.background, ("bea",)))["bea"])
        poor = store.enroller.enrol_many(made_groups(store.background, ("bea",)))["bea"]
        with pytest.raises(InputError, match="'bea' was enrolled without the second moments"):
            made_store(names=(), parts=ALL).add(poor)
        with pytest.raises(InputError, match="duplicated enrolment: 'u0-0', 'u0-1' would count twice"):
            store.add(store.enrolments["anna"])
        assert list(store.enrolments) == ["anna"]


class TestWhole:
    def test_nobody_of_the_cohort_is_enrolled(self, tmp_path):
        store = made_store()
        store.cohort = made_cohort(store)
        for name in ("otto", "rita"):
            with pytest.raises(InputError, match=f"both in the cohort and enrolled: {name}"):
                store.enrol({name: made_speech(store.background, [30])})
        otto = store.cohort.enrolments[0]
        with pytest.raises(InputError, match="both in the cohort and enrolled: otto"):
            store.add(otto)
        late = made_store(names=("otto",))
        late.cohort = made_cohort(late)
        with pytest.raises(InputError, match="both in the cohort and enrolled: otto"):
            late.save(tmp_path / "store")
        assert os.listdir(tmp_path) == []

    def test_a_cohort_of_another_background_is_refused(self, tmp_path):
        store, other = made_store(), made_background(seed=1)
        store.cohort = made_cohort(SpeakerStore.create(other))
        with pytest.raises(InputError, match="'otto' was enrolled under another background model"):
            store.save(tmp_path / "store")
        store.cohort = Cohort((), (np.ones((3, 4)),), ("paul",))
        with pytest.raises(
            InputError, match="the cohort's frames have 4 features; the background model has 3"
        ):
            store.save(tmp_path / "store")

    def test_a_calibration_of_normalised_scores_needs_a_cohort(self, tmp_path):
        store = made_store()
        with pytest.raises(InputError, match="scores are normalised by 'z', and there is no cohort"):
            store.basis(System(normalisation="z"))
        store.cohort = made_cohort(store)
        store.calibration = made_calibration(store, "z")
        store.save(tmp_path / "store")
        store.cohort = None
        with pytest.raises(InputError, match="scores are normalised by 'z', and there is no cohort"):
            store.save(tmp_path / "other")
        assert os.listdir(tmp_path) == ["store"]

    def test_an_enrolment_under_another_name_is_refused(self):
        store = made_store(names=("anna",))
        with pytest.raises(InputError, match="the enrolment of 'bea' in `enrolments` is that of 'anna'"):
            SpeakerStore(store.background, enrolments={"bea": store.enrolments["anna"]})

    def test_adaptation_that_cannot_be_is_refused_at_once(self):
        with pytest.raises(InputError, match="variances of tied covariances cannot be adapted"):
            SpeakerStore.create(made_background("tied"), Adaptation(parts=ALL))


class TestCalibrationFits:
    """A calibration is of scores; what those rest on may not change under it."""

    def calibrated(self, normalisation="s"):
        store = made_store()
        store.cohort = made_cohort(store)
        store.calibration = made_calibration(store, normalisation)
        store.require_whole()
        return store

    def test_another_adaptation_is_refused(self, tmp_path):
        store = self.calibrated("none")
        message = (
            "the calibration is of scores with another adaptation than this store has now; calibrate anew, or set "
            "`calibration` to None"
        )
        with pytest.raises(InputError, match=message):
            replace(store, adaptation=Adaptation(8.0))
        assert replace(store, adaptation=Adaptation(8.0), calibration=None).calibration is None
        store.adaptation = Adaptation(8.0)
        with pytest.raises(InputError, match=message):
            store.save(tmp_path / "store")
        assert os.listdir(tmp_path) == []

    def test_another_cohort_is_refused_where_scores_are_normalised(self, tmp_path):
        store = self.calibrated("s")
        store.cohort = replace(store.cohort, frames=[2 * one for one in store.cohort.frames])
        with pytest.raises(InputError, match="is of scores with another cohort than this store has now"):
            store.save(tmp_path / "store")
        plain = self.calibrated("none")
        plain.cohort = store.cohort
        plain.save(tmp_path / "store")
        plain.cohort = None
        plain.save(tmp_path / "store")

    def test_another_background_is_refused(self):
        store = self.calibrated("none")
        other = SpeakerStore.create(made_background(seed=1))
        other.calibration = store.calibration
        with pytest.raises(InputError, match="is of scores with another background than this"):
            other.require_whole()
        other.adaptation = Adaptation(8.0)
        with pytest.raises(InputError, match="with another background and another adaptation than this"):
            other.require_whole()

    def test_speakers_may_come_and_go(self, tmp_path):
        store = self.calibrated("s")
        store.enrol({"carl": made_speech(store.background, [300], seed=9)})
        store.remove("anna")
        store.save(tmp_path / "store")
        assert list(SpeakerStore.load(tmp_path / "store").enrolments) == ["bea", "carl", "zoë"]

    def test_richer_statistics_of_the_cohort_change_nothing(self, tmp_path):
        # A store that adapts means alone leaves second moments out of the file.
        store = made_store()
        rich = Enroller(store.background, Adaptation(parts=ALL))
        groups = {name: made_speech(store.background, [60], seed=3) for name in ("otto", "paul")}
        store.cohort = replace(made_cohort(store), enrolments=tuple(rich.enrol_many(groups).values()))
        store.calibration = made_calibration(store, "s")
        store.save(tmp_path / "store")
        assert SpeakerStore.load(tmp_path / "store").cohort.fingerprint == store.cohort.fingerprint


class TestSeveralIterations:
    ADAPTATION = Adaptation(8.0, ("means", "variances"), 3)

    def made(self):
        store = SpeakerStore.create(made_background(), self.ADAPTATION)
        store.enrol(made_groups(store.background))
        return store

    def test_round_trip(self, tmp_path):
        store = self.made()
        store.cohort = made_cohort(store)
        store.save(tmp_path / "store")
        loaded = SpeakerStore.load(tmp_path / "store")
        assert_same_store(loaded, store)
        assert loaded.cohort_models() == store.cohort_models()
        assert saved_bytes(loaded, tmp_path / "again") == (tmp_path / "store").read_bytes()

    def test_models_are_those_of_all_frames(self):
        store = self.made()
        for name, speech in made_groups(store.background).items():
            frames = np.concatenate([one for _, one, _ in speech])
            assert store.model(name) == adapt_to_frames(store.background.ubm, frames, self.ADAPTATION)

    def test_who_is_enrolled_is_removed_first(self):
        store = self.made()
        before = store.model("bea")
        more = made_speech(store.background, [300], seed=9)
        message = "'bea' is enrolled with 3 iterations .* remove the speaker first, then enrol anew with all"
        with pytest.raises(InputError, match=message):
            store.enrol({"bea": more})
        with pytest.raises(InputError, match=message):
            store.add(store.enroller.enrol_many({"bea": more})["bea"])
        assert store.model("bea") == before
        store.remove("bea")
        store.enrol({"bea": made_groups(store.background)["bea"] + more})
        assert store.speakers()[1][:2] == ("bea", 3)

    def test_enrolments_of_one_iteration_do_not_fit(self):
        once = made_store()
        with pytest.raises(
            InputError, match=r"'anna': the statistics are of 1 iteration of adaptation; this"
        ):
            replace(once, adaptation=replace(once.adaptation, iterations=2))
        with pytest.raises(
            InputError, match=r"'anna': the statistics are of 1 iteration of adaptation; this"
        ):
            self.made().add(once.enrolments["anna"])


def test_a_store_of_real_speech_knows_its_speakers(tmp_path, speech_data):
    from speechgmm.em.fit import fit
    from speechgmm.em.initialise import kmeans

    frames = naive.real_frames(speech_data)
    half = len(frames) // 2
    store = SpeakerStore.create(Background(fit(frames, kmeans(frames, 8, seed=0), max_iterations=5).mixture))
    store.enrol({"jackson": [("j", frames[:half:2], 1.0)], "theo": [("t", frames[half::2], 1.0)]})
    store.save(tmp_path / "store")
    loaded = SpeakerStore.load(tmp_path / "store")
    for name, part in (("jackson", frames[1:half:2]), ("theo", frames[half + 1 :: 2])):
        fits = {
            row.speaker: loaded.model(row.speaker).log_likelihoods(part).mean() for row in loaded.speakers()
        }
        assert max(fits, key=fits.get) == name


def test_of_two_who_change_a_store_at_once_the_second_is_told(tmp_path):
    made_store(names=("anna",)).save(tmp_path / "store")
    first, second = (SpeakerStore.load(tmp_path / "store") for _ in range(2))
    first.remove("anna")
    first.save(tmp_path / "store")
    first.save(tmp_path / "store")  # its own file
    written = (tmp_path / "store").read_bytes()
    with pytest.raises(
        InputError, match="another program has changed this store since it was read; nothing is written"
    ):
        second.save(tmp_path / "store")
    assert (tmp_path / "store").read_bytes() == written
    second.save(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").unlink()
    with pytest.raises(InputError, match="another program has changed"):
        second.save(tmp_path / "elsewhere")
