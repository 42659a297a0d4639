"""verification.stored_calibration and the settings of a system: what goes to a file comes back, and nothing else."""

import json
from dataclasses import replace

import numpy as np
import pytest

from speechgmm.em.adaptation import Adaptation
from speechgmm.errors import InputError
from speechgmm.verification.calibration import Calibration
from speechgmm.verification.stored_calibration import Basis, StoredCalibration
from speechgmm.verification.system import System

CALIBRATION = Calibration((2.0,), -1.0, 0.5, 10, 90)
BASIS = Basis("ab" * 32, Adaptation(float("inf"), ("means", "weights"), 2), "cd" * 32)
STORED = StoredCalibration(
    CALIBRATION, BASIS, System("linear", 5, "adaptive_s", 200), (-1.5, 0.1), {"a": [1]}
)


def edited(name, value):
    table = json.loads(json.dumps(STORED.to_dict()))
    *path, last = name.split(".")
    inner = table
    for step in path:
        inner = inner[step]
    inner[last] = value
    return table


@pytest.mark.parametrize(
    "stored", [STORED, StoredCalibration(CALIBRATION, BASIS._replace(cohort=None))], ids=["all", "least"]
)
def test_round_trip(stored):
    table = stored.to_dict()
    found = StoredCalibration.from_dict(json.loads(json.dumps(table, allow_nan=False)))
    assert found.to_dict() == table
    for name in ("calibration", "basis", "system", "explanations", "record"):
        assert getattr(found, name) == getattr(stored, name)


def test_explanations_may_be_an_array():
    stored = replace(STORED, explanations=np.array([-1.0, -2.0]))
    assert stored.explanations == (-1.0, -2.0) and type(stored.explanations[0]) is float


def test_a_calibration_of_several_systems_is_refused():
    with pytest.raises(
        InputError, match="the calibration is of 2 systems' scores; a store reads those of one"
    ):
        replace(STORED, calibration=replace(CALIBRATION, weights=(1.0, 2.0)))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("colour", "blue", r"field `calibration\.colour` is unknown"),
        ("basis.colour", "blue", r"field `calibration\.basis\.colour` is unknown"),
        ("basis.adaptation.colour", "blue", r"field `calibration\.basis\.adaptation\.colour` is unknown"),
        ("system.colour", "blue", r"field `calibration\.system\.colour` is unknown"),
        ("calibration", [], r"field `calibration\.calibration` is \[\]; it must be of type dict"),
        ("system", "top-20", r"field `calibration\.system` is 'top-20'; it must be of type dict"),
        ("basis", None, r"field `calibration\.basis` is None; it must be of type dict"),
        ("basis.background", 5, r"field `calibration\.basis\.background` is 5; it must be of type str"),
        ("basis.cohort", 5, r"field `calibration\.basis\.cohort` is 5; it must be of type str"),
        ("basis.adaptation.iterations", 0, "adaptation `iterations` is 0"),
        ("explanations", {}, r"field `calibration\.explanations` is \{\}; it must be of type list"),
        ("explanations", [1.0, "2"], r"field `calibration\.explanations` holds '2'; finite numbers"),
        ("explanations", [float("nan")], r"field `calibration\.explanations` holds nan; finite numbers"),
        ("record", [], r"field `calibration\.record` is \[\]; it must be of type dict"),
    ],
)
def test_a_wrong_field_is_named(name, value, message):
    with pytest.raises(InputError, match=message):
        StoredCalibration.from_dict(edited(name, value))


@pytest.mark.parametrize("name", ["method", "top", "normalisation", "top_n"])
def test_the_system_of_a_file_is_whole(name):
    table = STORED.to_dict()
    del table["system"][name]
    with pytest.raises(InputError, match=rf"field `calibration\.system\.{name}` is missing"):
        StoredCalibration.from_dict(table)


class TestSystem:
    def test_fields_that_are_not_given_keep_their_defaults(self):
        assert System.from_dict({}) == System()
        assert System.from_dict({"normalisation": "s"}) == System(normalisation="s")

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"method": "all"}, "system `method` is 'all'; it can be top, dense, linear"),
            ({"method": None}, "system `method` is None; it can be"),
            ({"method": ["top"]}, r"system `method` is \['top'\]; it can be"),
            ({"normalisation": "tz"}, "system `normalisation` is 'tz'; it can be none, z, t, zt, s, adapt"),
            ({"normalisation": {}}, r"system `normalisation` is \{\}; it can be"),
            ({"top": 0}, "system `top` is 0; it must be a whole number from 1"),
            ({"top": None}, "system `top` is None; it must be a whole number"),
            ({"top": "20"}, "system `top` is '20'; it must be a whole number"),
            ({"top": True}, "system `top` is True; it must be a whole number"),
            ({"top": 20.0}, r"system `top` is 20\.0; it must be a whole number"),
            (
                {"top_n": 2.0, "normalisation": "adaptive_s"},
                r"system `top_n` is 2\.0; it must be a whole number from 2",
            ),
            ({"top_n": 2}, "`normalisation` is 'none' and `top_n` is 2; adaptive_s needs a `top_n`, and the"),
            (
                {"normalisation": "adaptive_s"},
                "`normalisation` is 'adaptive_s' and `top_n` is None; adaptive_s",
            ),
            (
                {"colour": "blue"},
                "unknown system setting 'colour'; known are method, top, normalisation, top_n",
            ),
            ({3: 4, "a": 5}, "unknown system setting '3'"),
            (["method"], r"a system is \['method'\]; it must be a table of its settings"),
            ("dense", "a system is 'dense'; it must be a table of its settings"),
            (None, "a system is None; it must be a table of its settings"),
        ],
        ids=str,
    )
    def test_settings_that_cannot_be(self, values, message):
        with pytest.raises(InputError, match=message):
            System.from_dict(values)
