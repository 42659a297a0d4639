"""Model files of format 2: mixtures of any kind of covariance.

The golden file `golden/model_v2.safetensors` holds the values written out below. It was made with

    PYTHONPATH=. python -c "from tests.test_model_file_v2 import *; write(GOLDEN, HEADER, ARRAYS)"

by safetensors alone, not by the code under test. It stays as it is: a change of format adds a file.
"""

from pathlib import Path

import numpy as np
import pytest

from speechgmm.em.mixture import Mixture
from speechgmm.errors import FormatError
from speechgmm.features.config import FeatureConfig
from speechgmm.model_file import Model
from speechgmm.scorer import Scorer
from speechgmm.settings import TrainingSettings
from speechgmm.trainer import train_on_frames
from tests import test_model_file as v1
from tests.test_model_file import load_edited, write  # noqa: F401  (`write` makes the golden file)

GOLDEN = Path(__file__).parent / "golden" / "model_v2.safetensors"
TYPES = ["full", "spherical", "tied"]
HEADER = v1.HEADER | {"format": 2, "covariance_types": TYPES}
FULL = [[[4.0, 0.5], [0.5, 1.0]], [[2.0, -0.25], [-0.25, 3.0]]]
# Two full matrices for anna, one variance for zoë, one matrix for both components of the background.
ARRAYS = v1.ARRAYS | {"covariances": np.array([*np.ravel(FULL), 9.0, 16.0, 1.5, 1.5, 25.0])}


def hand_made():
    means, weights = v1.ARRAYS["means"], v1.ARRAYS["weights"]
    anna = Mixture(weights[:2], means[:2], np.array(FULL), "full")
    zoe = Mixture(weights[2:3], means[2:3], np.array([9.0]), "spherical")
    background = Mixture(weights[3:], means[3:], np.array([[16.0, 1.5], [1.5, 25.0]]), "tied")
    return v1.hand_made(mixtures=(anna, zoe), background=background)


def test_the_released_format_still_loads_with_the_right_values():
    model = Model.load(GOLDEN)
    v1.assert_same(model, hand_made())
    assert [mixture.covariance_type for mixture in (*model.mixtures, model.background)] == TYPES
    np.testing.assert_array_equal(model.mixtures[0].covariances, FULL)
    assert model.features.to_dict() == FeatureConfig().to_dict() | v1.FEATURES


def test_the_golden_file_is_small_and_holds_what_this_file_says():
    v1.assert_holds(GOLDEN, HEADER, ARRAYS)


def test_saving_and_loading_changes_nothing(tmp_path):
    hand_made().save(tmp_path / "model")
    v1.assert_same(Model.load(tmp_path / "model"), hand_made())


def test_arrays_that_lie_by_columns_in_memory_are_saved_as_they_are(tmp_path):
    anna = hand_made().mixtures[0]
    turned = Mixture(anna.weights, np.asfortranarray(anna.means), np.asfortranarray(anna.covariances), "full")
    v1.hand_made(mixtures=(turned, turned)).save(tmp_path / "model")
    assert Model.load(tmp_path / "model").mixtures[1] == anna


@pytest.mark.parametrize(
    ("header", "arrays", "message"),
    [
        ({"covariance_types": ["full", "spherical"]}, {}, "`covariance_types` must be a list of 3 names"),
        ({"covariance_types": "full"}, {}, "`covariance_types` must be a list of 3 names"),
        ({"covariance_types": ["full", "round", "tied"]}, {}, "`covariance_type` is 'round'; it must be one"),
        ({"covariance_types": ["full", 3, "tied"]}, {}, "`covariance_type` is '3'; it must be one of"),
        (
            {"covariance_types": ["diag", "spherical", "tied"]},
            {},
            "holds 13 rows of float64; there must be 9",
        ),
        ({}, {"covariances": ARRAYS["covariances"][:-1]}, "holds 12 rows of float64; there must be 13"),
        ({}, {"covariances": ARRAYS["covariances"][:, None]}, "`covariances` has 2 dimensions; it must have"),
        (
            {},
            {"covariances": ARRAYS["covariances"] * [*[1.0] * 12, -1.0]},
            "has the value -25.0; it must be positive",
        ),
        ({}, {"means": np.zeros(5)}, "`means` has 1 dimensions; it must have 2"),
        (
            {},
            {"covariances": np.array([4.0, 5.0, 5.0, 1.0, *ARRAYS["covariances"][4:]])},
            "a matrix that is not positive definite",
        ),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, header, arrays, message):
    with pytest.raises(FormatError, match=message):
        load_edited(tmp_path, HEADER | header, ARRAYS | arrays)


@pytest.mark.parametrize("covariance_type", ["full", "tied", "spherical"])
def test_a_model_of_any_kind_is_trained_saved_and_scores_the_same(tmp_path, covariance_type):
    rng = np.random.default_rng(0)
    # Two classes that differ only in how their features vary together.
    turns = {"left": np.array([[1.0, 0.9], [0.9, 1.0]]), "right": np.array([[1.0, -0.9], [-0.9, 1.0]])}
    frames = [
        rng.multivariate_normal([0, 0], turn, 400, method="cholesky")
        for turn in turns.values()
        for _ in range(6)
    ]
    labels = [label for label in turns for _ in range(6)]
    settings = TrainingSettings(n_components=1, covariance_type=covariance_type)
    model = train_on_frames(frames, labels, settings=settings).model
    model.save(tmp_path / "model")
    loaded = Model.load(tmp_path / "model")
    v1.assert_same(loaded, model)
    assert loaded.mixtures[0].covariance_type == covariance_type
    scores = Scorer(loaded).score(frames)
    expected = [[mixture.log_likelihoods(part).mean() for mixture in model.mixtures] for part in frames]
    np.testing.assert_allclose(scores.classes, expected, atol=1e-5)  # float32 products
    if covariance_type == "full":
        assert [model.labels[best] for best in scores.classes.argmax(axis=1)] == labels
