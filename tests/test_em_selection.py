"""em.selection: criteria against scikit-learn and closed forms; whole groups held out; the choice."""

import math
from functools import partial

import numpy as np
import pytest

from speechgmm.em import selection
from speechgmm.em.restarts import fit_mixture
from speechgmm.em.selection import select_components
from speechgmm.em.sources import SHARD, BlockSource, as_source
from speechgmm.errors import InputError
from tests import naive

TYPES = ("diag", "full", "tied", "spherical")

every_type = pytest.mark.parametrize("covariance_type", TYPES)


def three_clusters(n_frames=900, seed=0):
    rng = np.random.default_rng(seed)
    centres = np.array([[0.0, 0.0], [12.0, 0.0], [0.0, 12.0]])
    return centres[rng.integers(3, size=n_frames)] + rng.standard_normal((n_frames, 2))


def in_scikit_learn(mixture):
    """The same mixture as a fitted estimator of scikit-learn's."""
    from sklearn.mixture import GaussianMixture

    model = GaussianMixture(mixture.n_components, covariance_type=mixture.covariance_type)
    model.weights_, model.means_, model.covariances_ = mixture.weights, mixture.means, mixture.covariances
    if mixture.has_matrices:
        model.precisions_cholesky_ = np.swapaxes(
            np.linalg.inv(np.linalg.cholesky(mixture.covariances)), -1, -2
        )
    else:
        model.precisions_cholesky_ = 1 / np.sqrt(mixture.covariances)
    return model


class TestInformationCriteria:
    @every_type
    def test_against_scikit_learn(self, covariance_type):
        frames = three_clusters()
        for n_components in (1, 4):
            found = select_components(frames, [n_components], covariance_type=covariance_type)
            (row,) = found.curve
            model = in_scikit_learn(found.mixture)
            assert row.n_components == n_components
            assert row.n_parameters == model._n_parameters()
            # Likelihoods come from products in float32: 1e-5 a frame.
            assert row.log_likelihood == pytest.approx(model.score(frames), abs=1e-5)
            assert row.bic == pytest.approx(model.bic(frames), abs=0.02)
            assert row.aic == pytest.approx(model.aic(frames), abs=0.02)
            exact = found.mixture.log_likelihoods(frames).sum()
            assert found.mixture.bic(exact, len(frames)) == pytest.approx(model.bic(frames), rel=1e-12)
            assert found.mixture.aic(exact) == pytest.approx(model.aic(frames), rel=1e-12)

    @every_type
    @pytest.mark.parametrize("criterion", ["bic", "aic", "held_out"])
    def test_three_clusters_are_found(self, covariance_type, criterion):
        frames = three_clusters()
        found = select_components(
            *(frames, [5, 1, 3, 2, 3]),
            criterion=criterion,
            groups=np.arange(900) // 30,
            folds=3,
            covariance_type=covariance_type,
            n_init=3,
        )
        assert found.n_components == found.mixture.n_components == 3
        assert [row.n_components for row in found.curve] == [1, 2, 3, 5]
        assert found.criterion == criterion
        whole = fit_mixture(frames, 3, covariance_type=covariance_type, n_init=3)
        assert found.mixture == whole.mixture and found.result.history == whole.history

    def test_of_equals_the_smallest_is_chosen(self):
        rows = [selection.Candidate(n, 0.0, 1, 5.0 - (n > 1), 3.0, -2.0 + (n > 2)) for n in (1, 2, 4, 8)]
        assert selection._best(rows, "bic") == 1
        assert selection._best(rows, "aic") == 0
        assert selection._best(rows, "held_out") == 2

    def test_weights_are_the_number_of_frames(self):
        frames = three_clusters(300)
        counts = np.random.default_rng(0).integers(0, 4, 300)
        choose = partial(select_components, candidates=[1], criterion="bic")
        (weighted,) = choose(as_source(frames, counts.astype(np.float64))).curve
        (copied,) = choose(np.repeat(frames, counts, axis=0)).curve
        # One component has nothing random; likelihoods are good to 1e-5 a frame.
        assert weighted.log_likelihood == pytest.approx(copied.log_likelihood, abs=1e-5)
        assert weighted.bic == pytest.approx(copied.bic, abs=0.02)
        assert weighted.aic == pytest.approx(copied.aic, abs=0.02)

    def test_without_groups_nothing_is_held_out(self):
        assert math.isnan(select_components(three_clusters(), [1]).curve[0].held_out)


class TestHeldOut:
    @pytest.mark.parametrize("weighted", [False, True])
    def test_against_the_closed_form(self, weighted):
        """One diagonal component has a closed form; more frames than one shard."""
        n_frames = SHARD + 3000
        frames = three_clusters(n_frames)
        groups = np.random.default_rng(1).integers(0, 8, n_frames)
        weights = (
            np.random.default_rng(2).choice([0.0, 1.0, 2.0], n_frames) if weighted else np.ones(n_frames)
        )
        source = as_source(frames, weights if weighted else None)
        found = select_components(
            source, [1], criterion="held_out", groups=groups, folds=3, seed=5, variance_floor=0.0
        )
        total = 0.0
        for out in selection._folds(source, groups, 3, seed=5):
            for x in frames.T:
                mean = np.average(x[~out], weights=weights[~out])
                variance = np.average(np.square(x[~out] - mean), weights=weights[~out])
                distances = np.square(x[out] - mean) / variance
                total -= 0.5 * weights[out] @ (math.log(2 * math.pi * variance) + distances)
        # Products in float32.
        assert found.curve[0].held_out == pytest.approx(total / weights.sum(), abs=1e-5)

    def test_groups_are_held_out_whole_and_once(self):
        groups = np.random.default_rng(0).choice(["a", "b", "cc", "d", "e", "f", "g"], 500)
        folds = selection._folds(as_source(np.zeros((500, 1))), groups, 3, seed=1)
        assert sorted(len(set(groups[out])) for out in folds) == [2, 2, 3]
        np.testing.assert_array_equal(np.sum(folds, axis=0), 1)
        for name in set(groups):
            assert sum(bool(out[groups == name].any()) for out in folds) == 1
        other = selection._folds(as_source(np.zeros((500, 1))), groups, 3, seed=2)
        assert not np.array_equal(folds, other)

    def test_neither_fits_nor_scores_see_the_others_frames(self, monkeypatch):
        groups = np.repeat(np.arange(4), 50)
        frames, fitted, scored = three_clusters(200), [], []
        real_fit, real_score = selection.fit_mixture, selection.accumulate
        monkeypatch.setattr(
            selection,
            "fit_mixture",
            lambda source, *rest, **options: (
                fitted.append(source.weights) or real_fit(source, *rest, **options)
            ),
        )
        monkeypatch.setattr(
            selection,
            "accumulate",
            lambda mixture, source, *rest: (
                scored.append(source.weights) or real_score(mixture, source, *rest)
            ),
        )
        select_components(frames, [2], criterion="held_out", groups=groups, folds=4)
        assert fitted[0] is None and len(fitted) == 5 and len(scored) == 4
        for seen, unseen in zip(fitted[1:], scored, strict=True):
            np.testing.assert_array_equal(seen + unseen, 1)
            assert set(groups[seen > 0]) | set(groups[unseen > 0]) == {0, 1, 2, 3}
            assert len(set(groups[unseen > 0])) == 1

    def test_groups_of_weight_zero_are_not_there(self):
        weights = np.repeat([1.0, 1.0, 0.0], 100)
        source = as_source(three_clusters(300), weights)
        with pytest.raises(InputError, match="`groups` has 2 distinct labels; that is too few for `folds` 3"):
            select_components(source, [1], criterion="held_out", groups=np.repeat([1, 2, 3], 100), folds=3)
        found = select_components(
            source, [1], criterion="held_out", groups=np.repeat([1, 2, 3], 100), folds=2
        )
        assert np.isfinite(found.curve[0].held_out)

    def test_too_many_components_are_seen(self, speech_data):
        frames = naive.real_frames(speech_data, 0).copy()
        groups = np.arange(len(frames)) // 40
        found = select_components(
            frames, [2, 8, 200], criterion="held_out", groups=groups, folds=2, max_iterations=10
        )
        likelihood, held_out = (
            [getattr(row, name) for row in found.curve] for name in ("log_likelihood", "held_out")
        )
        assert likelihood == sorted(likelihood)
        assert found.n_components == 8 and held_out[2] < held_out[1]


class TestWork:
    @pytest.mark.parametrize("criterion", ["aic", "held_out"])
    def test_the_same_bits_on_any_number_of_threads_and_from_a_stream(self, criterion):
        frames = three_clusters(2000).astype(np.float32)
        choose = partial(
            select_components,
            candidates=[1, 2, 4],
            criterion=criterion,
            groups=np.arange(2000) // 100,
            folds=2,
            max_iterations=4,
        )
        plain = choose(frames)
        for other in (choose(frames, n_jobs=2), choose(BlockSource([frames[:300], frames[300:]]), n_jobs=3)):
            assert other.curve == plain.curve and other.mixture == plain.mixture

    @pytest.mark.parametrize(("candidates", "inside"), [([2], 2), ([1, 2], 1)])
    def test_threads_are_used_once(self, monkeypatch, candidates, inside):
        seen, real = [], selection.fit_mixture
        monkeypatch.setattr(
            selection,
            "fit_mixture",
            lambda *rest, **options: seen.append(options["n_jobs"]) or real(*rest, **options),
        )
        select_components(three_clusters(200), candidates, n_jobs=2, max_iterations=1)
        assert seen == [inside] * len(candidates)

    def test_settings_reach_the_fits(self, monkeypatch):
        given = {
            "covariance_type": "full",
            "initialisation": "split",
            "n_init": 2,
            "seed": 3,
            "max_iterations": 4,
            "tolerance": 0.5,
            "variance_floor": 0.25,
            "reg_covar": 0.125,
        }
        seen, real = [], selection.fit_mixture
        monkeypatch.setattr(
            selection, "fit_mixture", lambda *rest, **options: seen.append(options) or real(*rest, **options)
        )
        select_components(three_clusters(200), [2], **given)
        assert seen == [{**given, "n_jobs": 1}]

    def test_progress(self):
        seen = []
        select_components(
            *(three_clusters(200), [1, 2]),
            groups=np.arange(200) // 20,
            folds=2,
            max_iterations=1,
            progress=lambda *told: seen.append(told),
        )
        assert seen == [("fits", done, 6) for done in range(7)]


class TestRefusals:
    def test_held_out_without_groups(self):
        with pytest.raises(InputError, match="criterion 'held_out' needs `groups`: a label for each frame"):
            select_components(three_clusters(), [1], criterion="held_out")

    def test_criterion(self):
        with pytest.raises(InputError, match="`criterion` is 'BIC'; it must be one of bic, aic, held_out"):
            select_components(three_clusters(), [1], criterion="BIC")

    def test_candidates(self):
        with pytest.raises(InputError, match="`candidates` is empty"):
            select_components(three_clusters(), [])
        for bad in (0, 2.0, True, "3"):
            with pytest.raises(InputError, match=r"`candidates` has .*; numbers of components are whole"):
                select_components(three_clusters(), [1, bad])

    def test_groups(self):
        with pytest.raises(InputError, match=r"`groups` has the shape \(899,\); with 900 frames it must be"):
            select_components(three_clusters(), [1], criterion="held_out", groups=np.zeros(899))
        with pytest.raises(InputError, match="`groups` has 4 distinct labels; that is too few for `folds` 5"):
            select_components(three_clusters(), [1], criterion="held_out", groups=np.arange(900) % 4)

    @pytest.mark.parametrize("folds", [1, 0, 2.0, True])
    def test_folds(self, folds):
        with pytest.raises(InputError, match=r"`folds` is .*; it must be a whole number of 2 or more"):
            select_components(three_clusters(), [1], groups=np.arange(900), folds=folds)
