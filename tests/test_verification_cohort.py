"""verification.cohort: what cannot be one, and a fingerprint of all that scores rest on."""

import re
from dataclasses import replace

import numpy as np
import pytest

from speechgmm.em.adaptation import Adaptation
from speechgmm.errors import InputError
from speechgmm.verification.cohort import Cohort
from speechgmm.verification.enrolment import Enroller
from tests.test_verification_enrolment import ALL, made_background, made_speech
from tests.test_verification_speaker_store import made_cohort, made_store


class TestValues:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"enrolments": "reversed"}, "must be sorted by speaker, one each"),
            ({"enrolments": "twice"}, "must be sorted by speaker, one each"),
            ({"frames": ()}, "a cohort of 0 `frames` and 3 `frame_speakers`"),
            ({"enrolments": (), "frames": (), "frame_speakers": ()}, "needs enrolments, frames, or both"),
            ({"frame_speakers": ("otto", "", "x")}, "`speaker` is ''"),
            (
                {"frames": (np.ones((3, 3)), np.ones((3, 2)), np.ones((3, 3)))},
                r"`frames\[1\]` has 2 features",
            ),
            (
                {"frames": (np.ones((3, 3)), np.ones((0, 3)), np.ones((3, 3)))},
                r"`frames\[1\]` holds no frames",
            ),
            (
                {"frames": (np.ones((3, 3)), np.full((3, 3), np.nan), np.ones((3, 3)))},
                r"`frames\[1\]` has the v",
            ),
            (
                {"frames": (np.float64(1), np.ones((3, 3)), np.ones((3, 3)))},
                r"`frames\[0\]` has 0 dimensions",
            ),
        ],
        ids=lambda value: str(value)[:30],
    )
    def test_what_cannot_be_is_refused(self, changes, message):
        cohort = made_cohort(made_store(names=()))
        one, other = cohort.enrolments
        made = {"reversed": (other, one), "twice": (one, one)}
        given = {name: made[value] if isinstance(value, str) else value for name, value in changes.items()}
        with pytest.raises(InputError, match=message):
            replace(cohort, **given)

    def test_frames_are_kept_in_float32(self):
        cohort = Cohort((), [np.ones((3, 2)), np.ones((4, 2), np.float32)], ["a", "b"])
        assert [frames.dtype for frames in cohort.frames] == [np.float32] * 2


class TestFingerprint:
    def test_equal_cohorts_have_the_same(self):
        one, other = (made_cohort(made_store(names=())) for _ in range(2))
        assert one is not other and one.fingerprint == other.fingerprint
        assert re.fullmatch("[0-9a-f]{64}", one.fingerprint)

    def test_all_that_scores_rest_on_changes_it(self):
        cohort = made_cohort(made_store(names=()))
        anna, bea = cohort.enrolments
        frames = list(cohort.frames)
        moved = replace(anna, statistics=anna.statistics.scaled(1 + 1e-15))
        others = [
            replace(cohort, enrolments=(anna,)),
            replace(cohort, enrolments=(moved, bea)),
            replace(cohort, enrolments=(anna, replace(bea, speaker="zoë"))),
            replace(cohort, enrolments=()),
            replace(cohort, frames=frames[:2], frame_speakers=cohort.frame_speakers[:2]),
            replace(cohort, frames=[*frames[1:], frames[0]]),
            replace(cohort, frames=[np.nextafter(frames[0], 1e3), *frames[1:]]),
            replace(cohort, frame_speakers=("otto", "otto", "rita")),
            # The same rows, cut elsewhere.
            replace(
                cohort, frames=[*np.split(np.concatenate(frames[:2]), [len(frames[0]) - 1]), *frames[2:]]
            ),
        ]
        assert len({cohort.fingerprint, *(other.fingerprint for other in others)}) == 1 + len(others)

    def test_second_moments_do_not_count(self):
        background = made_background()
        groups = {"otto": made_speech(background, [60])}
        poor, rich = (
            Enroller(background, Adaptation(parts=parts)).enrol_many(groups)["otto"]
            for parts in (("means",), ALL)
        )
        assert rich.statistics.second.any()
        assert Cohort((poor,), (), ()).fingerprint == Cohort((rich,), (), ()).fingerprint
