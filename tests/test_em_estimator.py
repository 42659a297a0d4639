"""The scikit-learn face: it behaves as scikit-learn asks, and finds what scikit-learn finds."""

import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.mixture import GaussianMixture as Peer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from speechgmm.em import inference
from speechgmm.em.estimator import INITIALISERS, GaussianMixture
from speechgmm.em.fit import fit
from speechgmm.em.mixture import Mixture
from speechgmm.em.online import StepwiseEM
from speechgmm.em.sources import SHARD
from speechgmm.errors import SpeechGMMWarning
from tests import naive

TYPES = ("full", "tied", "diag", "spherical")


@pytest.mark.filterwarnings(
    # The checks fit what does not converge, constant features and copies of one sample.
    "ignore::speechgmm.errors.SpeechGMMWarning",
    "ignore::sklearn.exceptions.ConvergenceWarning",
)
@parametrize_with_checks(
    [GaussianMixture(covariance_type=covariance_type) for covariance_type in TYPES]
    + [
        GaussianMixture(warm_start=True, n_jobs=2),
        GaussianMixture(2, init_params="random", n_init=2, max_iter=5),
    ],
    # A random start is another where frames are repeated instead of weighted.
    expected_failed_checks=lambda estimator: (
        {"check_sample_weight_equivalence_on_dense_data": "the start is random"}
        if estimator.n_components > 1
        else {}
    ),
)
def test_scikit_learn_s_own_checks(estimator, check):
    check(estimator)


def blobs(n_samples=1800, n_features=4, seed=0):
    """Three clusters that touch, correlated, of different sizes and widths."""
    rng = np.random.default_rng(seed)
    parts = []
    for share, centre, width in ((0.5, 0.0, 1.0), (0.3, 3.0, 1.5), (0.2, -4.0, 0.7)):
        mixing = width * (np.eye(n_features) + 0.3 * rng.normal(size=(n_features, n_features)))
        parts.append(rng.normal(size=(round(share * n_samples), n_features)) @ mixing + centre)
    return rng.permutation(np.concatenate(parts))


def start_for(X, covariance_type, n_components=3):
    """Initial parameters for both programs: means of thirds of the frames, the overall covariance."""
    order = np.argsort(X[:, 0])
    means = np.array([X[part].mean(axis=0) for part in np.array_split(order, n_components)])
    covariance = np.atleast_2d(np.cov(X.T))
    precisions = {
        "full": np.tile(np.linalg.inv(covariance), (n_components, 1, 1)),
        "tied": np.linalg.inv(covariance),
        "diag": np.tile(1 / np.diag(covariance), (n_components, 1)),
        "spherical": np.full(n_components, 1 / np.diag(covariance).mean()),
    }[covariance_type]
    weights = np.arange(1.0, n_components + 1)
    return {"weights_init": weights / weights.sum(), "means_init": means, "precisions_init": precisions}


def both(X, covariance_type, n_iterations, peers_X=None):
    """Ours and scikit-learn's after the same number of M-steps from the same start; theirs in float64."""
    peers_X = np.asarray(X, np.float64) if peers_X is None else peers_X
    start = start_for(np.asarray(X, np.float64), covariance_type)
    settings = {"covariance_type": covariance_type, "tol": 0.0, "max_iter": n_iterations, **start}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        ours = GaussianMixture(3, **settings).fit(X)
        peer = Peer(3, **{**settings, **start_for(peers_X, covariance_type)}).fit(peers_X)
    return ours, peer


def relative_to_deviations(difference, covariances, n_features):
    """Differences of covariances in units of the product of the two deviations."""
    if covariances.ndim == 1 or covariances.shape[-2:] != (n_features, n_features):
        return difference / covariances
    variances = np.diagonal(covariances, axis1=-2, axis2=-1)
    return difference / np.sqrt(variances[..., :, None] * variances[..., None, :])


def assert_alike(ours, peer, X, peers_X, offset=0.0):
    """Products in the fit are float32 where terms are up to a thousand times what they sum to.

    That is 6e-8 a product, averaged over many frames: measured 1e-6 of a deviation in the means, 1e-5 in the
    covariances, and what follows from them in the likelihood of single frames. Tolerances are 10 times that.
    """
    deviations = peers_X.std(axis=0)
    np.testing.assert_allclose(ours.weights_, peer.weights_, rtol=0, atol=1e-5)
    np.testing.assert_allclose(
        (ours.means_ - offset) / deviations, peer.means_ / deviations, rtol=0, atol=1e-5
    )
    assert ours.covariances_.shape == peer.covariances_.shape
    difference = relative_to_deviations(ours.covariances_ - peer.covariances_, peer.covariances_, X.shape[1])
    np.testing.assert_allclose(difference, 0, rtol=0, atol=1e-4)
    np.testing.assert_allclose(ours.score_samples(X), peer.score_samples(peers_X), rtol=0, atol=2e-3)
    np.testing.assert_allclose(ours.score(X), peer.score(peers_X), rtol=0, atol=2e-5)
    np.testing.assert_allclose(ours.bic(X), peer.bic(peers_X), rtol=1e-5)
    np.testing.assert_allclose(ours.aic(X), peer.aic(peers_X), rtol=1e-5)
    np.testing.assert_allclose(ours.predict_proba(X), peer.predict_proba(peers_X), rtol=0, atol=1e-3)
    assert np.mean(ours.predict(X) == peer.predict(peers_X)) >= 0.999


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_iterations", [1, 12])
@pytest.mark.parametrize("covariance_type", TYPES)
def test_results_are_scikit_learn_s(covariance_type, n_iterations, dtype):
    X = blobs().astype(dtype)
    ours, peer = both(X, covariance_type, n_iterations)
    assert_alike(ours, peer, X, X.astype(np.float64))
    assert ours.n_iter_ == peer.n_iter_ == n_iterations
    assert len(ours.lower_bounds_) == n_iterations
    # Ours are those after each M-step, theirs those before it.
    np.testing.assert_allclose(ours.lower_bounds_[:-1], peer.lower_bounds_[1:], rtol=0, atol=2e-5)
    assert ours.lower_bound_ == ours.lower_bounds_[-1]
    np.testing.assert_allclose(ours.lower_bound_, ours.score(X), rtol=0, atol=2e-5)


@pytest.mark.parametrize("covariance_type", TYPES)
def test_results_are_scikit_learn_s_on_real_frames(covariance_type, speech_data):
    # Two delta orders would leave a full matrix fewer frames than it takes to estimate it.
    X = naive.real_frames(speech_data, 0)
    ours, peer = both(X, covariance_type, 10)
    assert_alike(ours, peer, X, X.astype(np.float64))


@pytest.mark.parametrize("offset", [1e4, 1e6])
@pytest.mark.parametrize("covariance_type", TYPES)
def test_offsets_change_nothing(covariance_type, offset):
    """scikit-learn itself loses digits there (diag, 1e6: 9 % of a variance), so it gets the frames without."""
    X = blobs()
    ours, peer = both(X + offset, covariance_type, 12, peers_X=X)
    assert_alike(ours, peer, X + offset, X, offset)


@pytest.mark.parametrize("covariance_type", TYPES)
def test_attributes_belong_together(covariance_type):
    X = blobs()
    ours = GaussianMixture(3, covariance_type=covariance_type, random_state=0).fit(X)
    assert ours.converged_
    assert ours.n_features_in_ == 4
    assert not hasattr(ours, "feature_names_in_")
    mixture = ours.mixture_
    assert isinstance(mixture, Mixture)
    assert mixture.covariance_type == covariance_type
    np.testing.assert_array_equal(mixture.means, ours.means_)
    identity = np.eye(4)
    if covariance_type in ("full", "tied"):
        np.testing.assert_allclose(
            ours.precisions_ @ ours.covariances_,
            np.broadcast_to(identity, ours.covariances_.shape),
            atol=1e-9,
        )
        cholesky = ours.precisions_cholesky_
        np.testing.assert_array_equal(cholesky, np.triu(cholesky))
        np.testing.assert_allclose(cholesky @ np.swapaxes(cholesky, -1, -2), ours.precisions_, rtol=1e-9)
    else:
        np.testing.assert_allclose(ours.precisions_ * ours.covariances_, 1.0)
        np.testing.assert_allclose(ours.precisions_cholesky_**2, ours.precisions_)
    # scikit-learn computes with the Cholesky factors alone, so they must be what it means by them.
    peer = Peer(3, covariance_type=covariance_type)
    for name in ("weights_", "means_", "covariances_", "precisions_cholesky_"):
        setattr(peer, name, getattr(ours, name))
    np.testing.assert_allclose(peer.score_samples(X), ours.score_samples(X), rtol=0, atol=1e-9)
    assert ours.bic(X) == pytest.approx(peer.bic(X), rel=1e-12)
    assert ours.aic(X) == pytest.approx(peer.aic(X), rel=1e-12)
    # And the other way round: a mixture that was not fitted, but put together.
    built = GaussianMixture(3, covariance_type=covariance_type)
    for name in ("weights_", "means_", "covariances_"):
        setattr(built, name, getattr(ours, name))
    np.testing.assert_array_equal(built.predict(X), ours.predict(X))


def test_fitted_attributes_are_the_caller_s_own():
    ours = GaussianMixture(2, random_state=0).fit(blobs())
    ours.means_ += 1.0  # as arrays of scikit-learn's allow
    np.testing.assert_array_equal(ours.mixture_.means, ours.means_)


@pytest.mark.parametrize(
    ("covariance_type", "init_params"),
    [("diag", name) for name in sorted(INITIALISERS)]
    + [(name, "kmeans") for name in TYPES if name != "diag"],
)
def test_every_start_leads_as_far_as_scikit_learn_s(covariance_type, init_params):
    X = blobs(900)
    settings = {
        "covariance_type": covariance_type,
        "max_iter": 300,
        "tol": 1e-4,
        "n_init": 2,
        "random_state": 1,
    }
    ours = GaussianMixture(3, init_params=init_params, **settings).fit(X)
    peer = Peer(3, init_params="kmeans" if init_params == "split" else init_params, **settings).fit(X)
    # At this tolerance a fit may still be so far from where it goes.
    assert ours.lower_bound_ > peer.lower_bound_ - 0.01


@pytest.mark.parametrize("covariance_type", TYPES)
def test_clusters_that_anyone_sees_are_found(covariance_type):
    X = np.array([[1.0, 2], [1, 4], [1, 0], [10, 12], [10, 14], [10, 10]])
    for seed in range(8):
        ours = GaussianMixture(2, covariance_type=covariance_type, random_state=seed).fit(X)
        np.testing.assert_allclose(sorted(ours.means_.tolist()), [[1, 2], [10, 12]], atol=1e-4)


def test_the_kinds_of_start_differ_as_their_names_say():
    X = blobs()
    starts = {}
    for init_params in INITIALISERS:
        ours = GaussianMixture(3, init_params=init_params, max_iter=0, random_state=0, covariance_type="diag")
        starts[init_params] = ours.fit(X)
        assert ours.n_iter_ == 0
        assert ours.lower_bounds_ == []
        assert not ours.converged_
    spread = {name: start.means_.std(axis=0).max() for name, start in starts.items()}
    # Random parts all have the overall mean, to within a deviation over the root of their sizes.
    assert spread["random"] < 0.3 < min(spread[name] for name in spread if name != "random")
    distances = np.abs(starts["random_from_data"].means_[:, None] - X).max(axis=2).min(axis=1)
    np.testing.assert_allclose(distances, 0, atol=1e-6)
    assert starts["kmeans"].lower_bound_ > starts["k-means++"].lower_bound_ > starts["random"].lower_bound_


@pytest.mark.parametrize("init_params", sorted(INITIALISERS))
def test_the_same_random_state_gives_the_same_bits_on_any_number_of_threads(init_params):
    X = np.concatenate([blobs(seed=seed) for seed in range(10)]).astype(np.float32)
    assert len(X) > SHARD
    settings = {"init_params": init_params, "covariance_type": "diag", "n_init": 2, "tol": 0.01}
    fitted = [
        GaussianMixture(4, random_state=state, n_jobs=n_jobs, **settings).fit(X)
        for state, n_jobs in ((3, None), (3, 2), (np.random.RandomState(3), 1))
    ]
    for other in fitted[1:]:
        for name in ("weights_", "means_", "covariances_", "lower_bounds_"):
            np.testing.assert_array_equal(getattr(other, name), getattr(fitted[0], name), err_msg=name)
        np.testing.assert_array_equal(other.score_samples(X), fitted[0].score_samples(X))
    for state in (4, None):
        different = GaussianMixture(4, random_state=state, **settings).fit(X)
        assert not np.array_equal(different.means_, fitted[0].means_)


def test_threads_reach_the_engine(monkeypatch):
    seen = []

    def spy(function):
        def call(*arguments, **options):
            seen.append(options.get("n_jobs", arguments[-1]))
            return function(*arguments, **options)

        return call

    monkeypatch.setitem(INITIALISERS, "kmeans", spy(INITIALISERS["kmeans"]))
    monkeypatch.setattr("speechgmm.em.estimator.fit", spy(fit))
    for name in ("assign", "posteriors", "log_likelihoods"):
        monkeypatch.setattr(inference, name, spy(getattr(inference, name)))
    X = blobs(100)
    for n_jobs, expected in ((None, 1), (2, 2)):
        seen.clear()
        ours = GaussianMixture(n_jobs=n_jobs, covariance_type="diag")
        ours.fit_predict(X)
        ours.predict(X), ours.predict_proba(X), ours.score(X)
        assert seen == [expected] * 6


def test_the_best_of_several_starts_is_kept():
    X = blobs()
    settings = {"init_params": "random_from_data", "covariance_type": "diag", "tol": 1e-2}
    rng = np.random.RandomState(2)
    single = [GaussianMixture(6, random_state=rng, **settings).fit(X).lower_bound_ for _ in range(4)]
    best = GaussianMixture(6, random_state=2, n_init=4, **settings).fit(X)
    assert single[0] < max(single)
    assert best.lower_bound_ == max(single)


def test_parts_of_the_start_can_be_given():
    X = blobs()
    start = start_for(X, "diag")
    plain = GaussianMixture(3, covariance_type="diag", random_state=0, max_iter=0).fit(X)
    homes = {"weights_init": "weights_", "means_init": "means_", "precisions_init": "precisions_"}
    for name, value in start.items():
        given = GaussianMixture(3, covariance_type="diag", random_state=0, max_iter=0, **{name: value}).fit(X)
        for other, home in homes.items():
            expected = value if other == name else getattr(plain, home)
            np.testing.assert_allclose(getattr(given, home), expected, rtol=1e-12)


def test_no_start_is_looked_for_where_all_is_given(monkeypatch):
    X = blobs()
    monkeypatch.setitem(INITIALISERS, "kmeans", None)
    GaussianMixture(3, covariance_type="diag", tol=1e-2, **start_for(X, "diag")).fit(X)
    with pytest.raises(TypeError, match="not callable"):
        GaussianMixture(3, covariance_type="diag", means_init=start_for(X, "diag")["means_init"]).fit(X)


def test_parts_cannot_be_given_where_components_are_missing():
    X = np.repeat([[0.0, 0.0], [4.0, 4.0]], 20, axis=0)
    with (
        pytest.warns(SpeechGMMWarning, match="only 2 distinct"),
        pytest.raises(ValueError, match="only 2 of 3 components have samples to start from; give all"),
    ):
        GaussianMixture(3, weights_init=[0.3, 0.3, 0.4]).fit(X)


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("weights_init", [0.5, 0.5], r"`weights_init` has the shape \(2,\); it must be \(3,\)"),
        ("weights_init", [0.5, 0.5, 0.5], "sum to 1"),
        ("weights_init", [1.5, -0.5, 0.0], "must not be negative"),
        ("means_init", np.zeros((3, 5)), r"`means_init` has the shape \(3, 5\); it must be \(3, 4\)"),
        ("means_init", np.full((3, 4), np.nan), "not finite"),
        ("precisions_init", np.zeros(7), "`precisions_init` has the shape"),
        ("precisions_init", "negative", "`precisions_init` has .*positive"),
        ("precisions_init", "not symmetric", "`precisions_init` has .*positive"),
    ],
)
def test_starts_that_cannot_be_used(covariance_type, name, value, message):
    X = blobs()
    start = start_for(X, covariance_type)
    if isinstance(value, str):
        precisions = start[name].copy()
        if value == "not symmetric" and covariance_type in ("full", "tied"):
            precisions[..., 0, 1] += 1
        else:
            precisions *= -1
        value = precisions
    with pytest.raises(ValueError, match=message):
        GaussianMixture(3, covariance_type=covariance_type, **{**start, name: value}).fit(X)


@pytest.mark.parametrize("covariance_type", TYPES)
def test_what_is_added_to_collapsed_clusters(covariance_type):
    """Copies of a few samples: every covariance is what was added, and the little that the engine keeps of its own."""
    centres = np.array([[0.0, 0.0], [1.0, 2.0], [3.0, -1.0]])
    X = np.repeat(centres, 50, axis=0)
    for reg_covar in (1e-2, 1e-4):
        ours = GaussianMixture(3, covariance_type=covariance_type, reg_covar=reg_covar, random_state=0).fit(X)
        np.testing.assert_allclose(sorted(ours.means_.tolist()), sorted(centres.tolist()), atol=1e-4)
        # Its own: a millionth of the frames' variance, which is about 2.
        if covariance_type in ("full", "tied"):
            own = np.linalg.eigvalsh(ours.covariances_ - reg_covar * np.eye(2))
        else:
            own = ours.covariances_ - reg_covar
        assert own.max() <= 5e-6
        assert own.min() >= -1e-9


@pytest.mark.parametrize("covariance_type", TYPES)
def test_what_is_added_to_ordinary_clusters_is_what_scikit_learn_adds(covariance_type):
    X = blobs()
    start = start_for(X, covariance_type)
    settings = {"covariance_type": covariance_type, "reg_covar": 3.0, "max_iter": 3, "tol": 0.0, **start}
    with pytest.warns(ConvergenceWarning, match="did not converge in 3 iterations"):
        ours = GaussianMixture(3, **settings).fit(X)
    with pytest.warns(ConvergenceWarning):
        peer = Peer(3, **settings).fit(X)
    assert_alike(ours, peer, X, X)
    assert np.diagonal(np.atleast_2d(ours.covariances_), axis1=-2, axis2=-1).min() > 3.0


@pytest.mark.parametrize("covariance_type", TYPES)
def test_weights_are_repetitions(covariance_type):
    X = blobs(900)
    counts = np.random.default_rng(0).integers(0, 4, len(X))
    start = start_for(X, covariance_type)
    settings = {"covariance_type": covariance_type, "tol": 1e-4, **start}
    weighted = GaussianMixture(3, **settings).fit(X, sample_weight=counts)
    repeated = GaussianMixture(3, **settings).fit(np.repeat(X, counts, axis=0))
    assert weighted.n_iter_ == repeated.n_iter_
    np.testing.assert_allclose(weighted.lower_bound_, repeated.lower_bound_, rtol=0, atol=1e-5)
    np.testing.assert_allclose(weighted.means_, repeated.means_, rtol=0, atol=1e-4)
    np.testing.assert_allclose(weighted.weights_, repeated.weights_, rtol=0, atol=1e-4)
    for wrong, message in ((-counts, "must be 0 or more"), (counts[1:], "must be"), (0 * counts, "zero")):
        with pytest.raises(ValueError, match=f"`weights`.*{message}"):
            GaussianMixture(3, **settings).fit(X, sample_weight=wrong)


@pytest.mark.parametrize("covariance_type", TYPES)
def test_labels_of_fit_predict_are_those_of_predict(covariance_type):
    X = blobs()
    ours = GaussianMixture(3, covariance_type=covariance_type, random_state=0)
    labels = ours.fit_predict(X)
    np.testing.assert_array_equal(labels, ours.predict(X))
    np.testing.assert_array_equal(labels, ours.predict_proba(X).argmax(axis=1))
    assert set(labels) == {0, 1, 2}


def test_a_warm_start_goes_on():
    X = blobs()
    settings = {"covariance_type": "diag", "tol": 0.0, **start_for(X, "diag")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        steps = GaussianMixture(3, max_iter=4, warm_start=True, n_init=3, **settings)
        first = steps.fit(X).lower_bound_
        second = steps.fit(X)
        whole = GaussianMixture(3, max_iter=8, **settings).fit(X)
    assert second.lower_bound_ > first
    assert second.n_iter_ == 4
    np.testing.assert_array_equal(second.means_, whole.means_)
    assert second.lower_bound_ == whole.lower_bound_
    cold = clone(steps).set_params(warm_start=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        assert cold.fit(X).fit(X).lower_bound_ == first


@pytest.mark.parametrize("covariance_type", TYPES)
def test_samples_come_from_the_mixture(covariance_type):
    X = blobs()
    ours = GaussianMixture(3, covariance_type=covariance_type, random_state=0).fit(X)
    drawn, labels = ours.sample(60_000)
    assert drawn.shape == (60_000, 4)
    assert labels.shape == (60_000,)
    assert (np.diff(labels) >= 0).all()
    np.testing.assert_allclose(np.bincount(labels) / 60_000, ours.weights_, atol=0.01)
    matrices = ours.mixture_.type.expanded(ours.covariances_, 3, 4)
    for k in range(3):
        own = drawn[labels == k]
        matrix = matrices[k] if matrices.ndim == 3 else np.diag(matrices[k])
        # Five standard errors of a mean; covariances to 10 %.
        errors = np.sqrt(np.diag(matrix) / len(own))
        assert (np.abs(own.mean(axis=0) - ours.means_[k]) < 5 * errors).all()
        scale = np.sqrt(np.outer(np.diag(matrix), np.diag(matrix)))
        np.testing.assert_allclose(np.cov(own.T) / scale, matrix / scale, atol=0.1)
    np.testing.assert_array_equal(ours.sample(60_000)[0], drawn)
    assert not np.array_equal(ours.set_params(random_state=1).sample(60_000)[0], drawn)
    assert ours.sample()[0].shape == (1, 4)
    one = GaussianMixture(covariance_type=covariance_type).fit(X)
    first, second = (one.set_params(random_state=state).sample(10)[0] for state in (0, 1))
    assert np.abs(first - second).min() > 0
    with pytest.raises(ValueError, match="`n_samples` is 0; at least 1"):
        ours.sample(0)
    with pytest.raises(NotFittedError, match="not fitted yet"):
        GaussianMixture().sample()


@pytest.mark.parametrize("covariance_type", TYPES)
def test_learning_bit_by_bit_comes_near_a_fit_of_all(covariance_type):
    X = np.concatenate([blobs(seed=0), blobs(seed=0)[::-1]])
    X = X[np.random.default_rng(0).permutation(len(X))]
    # Near the clusters, but without their widths: from afar, one pass is no more than a few iterations.
    start = start_for(X, covariance_type)
    start["means_init"] = np.array([[0.5] * 4, [2.5] * 4, [-3.5] * 4])
    start["precisions_init"] = {
        "full": np.tile(np.eye(4), (3, 1, 1)),
        "tied": np.eye(4),
        "diag": np.ones((3, 4)),
        "spherical": np.ones(3),
    }[covariance_type]
    whole = GaussianMixture(3, covariance_type=covariance_type, **start).fit(X)
    online = GaussianMixture(3, covariance_type=covariance_type, **start)
    for _ in range(4):
        for batch in np.array_split(X, 12):
            assert online.partial_fit(batch) is online
    assert online.score(X) == pytest.approx(whole.score(X), abs=0.02)
    assert np.isfinite(online.lower_bound_)
    online.partial_fit(X[:1])
    online.partial_fit(X[:100], sample_weight=np.ones(100))
    assert pickle.loads(pickle.dumps(online)).partial_fit(X[:50]).score(X) == pytest.approx(
        online.partial_fit(X[:50]).score(X), rel=1e-12
    )


def test_learning_goes_on_after_a_fit_and_starts_anew_with_the_next():
    X = blobs()
    ours = GaussianMixture(3, covariance_type="diag", random_state=0).fit(X)
    fitted = ours.means_.copy()
    moved = ours.partial_fit(X[:300]).means_.copy()
    assert 0 < np.abs(moved - fitted).max() < 1
    np.testing.assert_array_equal(ours.fit(X).means_, fitted)
    np.testing.assert_array_equal(ours.partial_fit(X[:300]).means_, moved)
    learner = StepwiseEM(clone(ours).fit(X).mixture_, variance_floor=np.zeros(4), reg_covar=1e-6)
    for weights in (None, np.arange(300.0)):
        log_likelihood = learner.update(X[:300], weights)
        if weights is not None:
            ours.partial_fit(X[:300], sample_weight=weights)
        assert ours.mixture_ == learner.mixture
        assert ours.lower_bound_ == log_likelihood
    with pytest.raises(ValueError, match="X has 3 features, but GaussianMixture is expecting 4"):
        ours.partial_fit(X[:, :3])
    assert ours.n_features_in_ == 4
    with pytest.raises(ValueError, match="Expected n_samples >= n_components"):
        GaussianMixture(3).partial_fit(X[:2])


def test_what_is_added_goes_into_learning_bit_by_bit_too():
    X = np.repeat([[0.0, 0.0], [4.0, 4.0]], 1000, axis=0)
    ours = GaussianMixture(2, covariance_type="diag", reg_covar=1e-3, random_state=0)
    for _ in range(20):
        ours.partial_fit(X)
    # The start counts for little by now; the engine's own floor is a millionth of the frames' variance of 4.
    np.testing.assert_allclose(ours.covariances_, 1e-3, rtol=0, atol=1e-5)


def test_it_works_in_pipelines_and_searches_and_can_be_copied():
    X = blobs()
    pipeline = make_pipeline(StandardScaler(), GaussianMixture(3, random_state=0)).fit(X)
    assert pipeline.predict(X).shape == (len(X),)
    assert np.isfinite(pipeline.score(X))
    weighted = clone(pipeline).fit(X, gaussianmixture__sample_weight=np.arange(len(X)))
    assert weighted.score(X) != pipeline.score(X)
    search = GridSearchCV(
        GaussianMixture(random_state=0),
        {"n_components": [1, 3], "covariance_type": ["full", "spherical"]},
        cv=3,
    ).fit(X)
    assert search.best_params_ == {"n_components": 3, "covariance_type": "full"}
    ours = search.best_estimator_
    copied = pickle.loads(pickle.dumps(ours))
    np.testing.assert_array_equal(copied.score_samples(X), ours.score_samples(X))
    fresh = clone(ours)
    assert fresh.get_params() == ours.get_params()
    with pytest.raises(NotFittedError, match="not fitted yet"):
        fresh.predict(X)
    assert not hasattr(fresh, "mixture_")


def test_parameters_are_scikit_learn_s_and_a_few_more():
    theirs, ours = Peer().get_params(), GaussianMixture().get_params()
    assert theirs.items() <= ours.items()
    assert set(ours) - set(theirs) == {"n_jobs"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_components": 0}, "'n_components' parameter"),
        ({"covariance_type": "diagonal"}, "'covariance_type' parameter"),
        ({"tol": -1}, "'tol' parameter"),
        ({"reg_covar": -1e-6}, "'reg_covar' parameter"),
        ({"max_iter": -1}, "'max_iter' parameter"),
        ({"n_init": 0}, "'n_init' parameter"),
        ({"init_params": "k-mean"}, "'init_params' parameter"),
        ({"n_jobs": 0}, "`n_jobs` is 0"),
    ],
)
def test_wrong_parameters(settings, message):
    for method in ("fit", "fit_predict"):
        with pytest.raises(ValueError, match=message):
            getattr(GaussianMixture(**settings), method)(blobs(100))


@pytest.mark.parametrize("covariance_type", TYPES)
class TestUnusualFrames:
    def test_too_few(self, covariance_type):
        ours = GaussianMixture(3, covariance_type=covariance_type)
        X = blobs()
        for method in (ours.fit, ours.fit_predict):
            with pytest.raises(ValueError, match="Expected n_samples >= n_components but got"):
                method(X[:2])
            with pytest.raises(ValueError, match=r"minimum of 2 is required"):
                method(X[:1])
            with pytest.raises(ValueError, match="Expected 2D array, got 1D array"):
                method(X[0])
            with pytest.raises(ValueError, match="NaN"):
                method(np.where(X > 5, np.nan, X))

    def test_one_feature(self, covariance_type):
        X = blobs()[:, :1]
        ours, peer = both(X, covariance_type, 5)
        assert_alike(ours, peer, X, X)

    def test_as_many_samples_as_components(self, covariance_type):
        X = np.array([[0.0, 1.0], [5.0, 3.0], [-4.0, 2.0]])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SpeechGMMWarning)
            ours = GaussianMixture(3, covariance_type=covariance_type, random_state=0).fit(X)
        assert np.isfinite(ours.score(X))
        assert len(ours.weights_) <= 3

    def test_constant_features(self, covariance_type):
        X = blobs()
        X[:, 2] = 7.0
        with pytest.warns(SpeechGMMWarning, match="1 of 4 features do not vary"):
            ours = GaussianMixture(3, covariance_type=covariance_type, random_state=0).fit(X)
        np.testing.assert_allclose(ours.means_[:, 2], 7.0, rtol=1e-5)
        assert np.isfinite(ours.score_samples(X)).all()
        assert len(set(ours.predict(X))) == 3

    def test_fewer_distinct_samples_than_components(self, covariance_type):
        X = np.repeat([[0.0, 0.0], [4.0, 4.0]], 20, axis=0)
        with pytest.warns(SpeechGMMWarning, match="only 2 distinct"):
            ours = GaussianMixture(4, covariance_type=covariance_type, random_state=0).fit(X)
        assert ours.means_.shape == (2, 2)
        assert ours.predict_proba(X).shape == (40, 2)

    def test_outliers(self, covariance_type):
        X = np.concatenate([blobs(), [[1e5, -1e5, 1e5, 1e5]]])
        with pytest.warns(SpeechGMMWarning, match=r"one of \d+ frames makes \d+% of the variance"):
            ours = GaussianMixture(4, covariance_type=covariance_type, random_state=0).fit(X)
        assert np.isfinite(ours.score_samples(X)).all()
        if covariance_type != "tied":
            # One component for it alone, and the others for the rest.
            assert ours.predict(X[-1:])[0] not in ours.predict(X[:-1])

    def test_likelihoods_rise(self, covariance_type):
        for X in (blobs(), blobs() * [1e-4, 1.0, 1e3, 1e6]):
            ours = GaussianMixture(3, covariance_type=covariance_type, random_state=0, tol=1e-5, max_iter=300)
            bounds = ours.fit(X).lower_bounds_
            assert np.diff(bounds).min() > -1e-5


def test_a_fit_that_does_not_converge_warns_the_caller():
    X = blobs()
    with pytest.warns(
        ConvergenceWarning, match="EM did not converge in 1 iterations; increase max_iter"
    ) as caught:
        ours = GaussianMixture(3, max_iter=1, random_state=0).fit(X)
    assert not ours.converged_
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        GaussianMixture(3, max_iter=0, random_state=0).fit(X)


def test_it_is_the_engine_s_own_fit():
    X = blobs()
    start = start_for(X, "diag")
    ours = GaussianMixture(3, covariance_type="diag", reg_covar=0.01, tol=1e-3, **start).fit(X)
    mixture = Mixture(start["weights_init"], start["means_init"], 1 / start["precisions_init"])
    result = fit(X, mixture, tolerance=1e-3, variance_floor=np.zeros(4), reg_covar=0.01)
    assert ours.mixture_ == result.mixture
    assert ours.n_iter_ == result.n_iterations
    assert ours.lower_bounds_ == list(result.history[1:])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_frames_are_not_copied(dtype, monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(
        "speechgmm.em.estimator.fit", lambda source, *_, **__: seen.append(source) or fit(source, *_, **__)
    )
    np.save(tmp_path / "X.npy", blobs().astype(dtype))
    X = np.load(tmp_path / "X.npy", mmap_mode="r")
    ours = GaussianMixture(2, random_state=0).fit(X)
    (shard,) = seen[0].shards()
    assert shard.frames.dtype == dtype
    assert np.shares_memory(shard.frames, X)
    np.testing.assert_array_equal(ours.predict(X), ours.predict(np.array(X)))


def test_what_is_printed(capsys):
    X = blobs()
    settings = {"covariance_type": "diag", "random_state": 0, "verbose_interval": 2, "n_init": 2, "tol": 1e-3}
    GaussianMixture(3, **settings).fit(X)
    assert capsys.readouterr().out == ""
    ours = GaussianMixture(3, verbose=1, **settings).fit(X)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Initialization 0"
    assert lines[1] == "  Iteration 2"
    assert lines.count("Initialization converged.") == 2
    assert f"  Iteration {ours.n_iter_ // 2 * 2}" in lines
    GaussianMixture(3, verbose=2, **settings).fit(X)
    text = capsys.readouterr().out
    assert text.count("time lapse") == len(lines) - 2
    assert text.splitlines()[1].startswith("  Iteration 2\t time lapse 0.")
    assert f"lower bound {ours.lower_bound_:.5f}." in text


def test_names_of_features_are_kept():
    pandas = pytest.importorskip("pandas")
    X = pandas.DataFrame(blobs(), columns=["a", "b", "c", "d"])
    ours = GaussianMixture(2, random_state=0).fit(X)
    assert ours.feature_names_in_.tolist() == ["a", "b", "c", "d"]
    with pytest.raises(ValueError, match="feature names"):
        ours.predict(X[["b", "a", "c", "d"]])
