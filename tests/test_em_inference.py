"""Likelihoods and posteriors of many frames: as exact as the plain equation, and alike whatever comes with them."""

import tracemalloc

import numpy as np
import pytest
import threadpoolctl
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from speechgmm.em import inference
from speechgmm.em.mixture import Mixture
from speechgmm.em.sources import SHARD, BlockSource
from speechgmm.errors import InputError

TYPES = ("diag", "full", "tied", "spherical")
# What float64 products of terms of up to 1e5 may cost: absolute below 1, relative above.
EXACT = {"rtol": 1e-9, "atol": 1e-9}


def mixture_of(covariance_type, n_components=5, n_features=6, offset=0.0, width=1.0, seed=0):
    """Overlapping components; matrices far from diagonal."""
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(n_components, n_features)) + offset
    if covariance_type == "diag":
        covariances = rng.gamma(3.0, size=means.shape)
    elif covariance_type == "spherical":
        covariances = rng.gamma(3.0, size=n_components)
    else:
        factors = rng.normal(size=(n_components, n_features, 2 * n_features))
        covariances = factors @ np.swapaxes(factors, 1, 2)
        covariances = covariances if covariance_type == "full" else covariances[0]
    return Mixture(rng.dirichlet(np.ones(n_components)), means, width**2 * covariances, covariance_type)


def reference(mixture, frames):
    """Log of weight times density, (n_frames, n_components), by somebody else's code."""
    columns = []
    for k, mean in enumerate(mixture.means):
        covariance = mixture.covariances if mixture.covariance_type == "tied" else mixture.covariances[k]
        if np.ndim(covariance) < 2:
            covariance = np.diag(np.broadcast_to(covariance, mean.shape))
        columns.append(multivariate_normal(mean, covariance).logpdf(np.asarray(frames, np.float64)))
    with np.errstate(divide="ignore"):
        return np.stack(columns, axis=1) + np.log(mixture.weights)


@pytest.fixture
def no_plain_equation(monkeypatch):
    """Makes the slow way fail, so that a test can tell that the fast one was taken."""

    def refuse(*arguments):
        raise AssertionError("the plain equation was used")

    monkeypatch.setattr(Mixture, "unchecked_log_densities", refuse)


@pytest.mark.usefixtures("no_plain_equation")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("offset", [0.0, 500.0])
@pytest.mark.parametrize("covariance_type", TYPES)
def test_answers_are_those_of_the_equations(covariance_type, offset, dtype):
    mixture = mixture_of(covariance_type, offset=offset)
    frames = mixture.sample(1300, seed=1).astype(dtype)
    expected = reference(mixture, frames)
    np.testing.assert_allclose(
        inference.log_likelihoods(mixture, frames), logsumexp(expected, axis=1), **EXACT
    )
    posteriors = inference.posteriors(mixture, frames)
    np.testing.assert_allclose(
        posteriors, np.exp(expected - logsumexp(expected, axis=1, keepdims=True)), rtol=0, atol=1e-9
    )
    np.testing.assert_allclose(posteriors.sum(axis=1), 1.0, rtol=1e-12)
    assigned = inference.assign(mixture, frames)
    assert assigned.dtype == np.intp
    np.testing.assert_array_equal(assigned, expected.argmax(axis=1))


@pytest.mark.parametrize("covariance_type", TYPES)
def test_one_component(covariance_type):
    mixture = mixture_of(covariance_type, n_components=1, n_features=1)
    frames = mixture.sample(7)
    np.testing.assert_allclose(
        inference.log_likelihoods(mixture, frames), reference(mixture, frames)[:, 0], **EXACT
    )
    np.testing.assert_array_equal(inference.posteriors(mixture, frames), np.ones((7, 1)))


@pytest.mark.parametrize("function", [inference.log_likelihoods, inference.posteriors])
@pytest.mark.parametrize("covariance_type", TYPES)
def test_a_frame_has_the_same_answer_alone_and_in_any_batch(covariance_type, function):
    mixture = mixture_of(covariance_type, n_components=17, n_features=13)
    frames = mixture.sample(1100, seed=2)
    frames[5] += 1e5  # a far one must not change the way of the others
    together = function(mixture, frames)
    alone = np.concatenate([function(mixture, frames[i : i + 1]) for i in range(40)])
    np.testing.assert_allclose(alone, together[:40], **EXACT)
    np.testing.assert_allclose(function(mixture, frames[::-3]), together[::-3], **EXACT)


@pytest.mark.parametrize("covariance_type", TYPES)
def test_the_bits_do_not_depend_on_the_number_of_threads_or_the_form_of_the_frames(covariance_type, tmp_path):
    mixture = mixture_of(covariance_type, n_components=3, n_features=4)
    frames = mixture.sample(2 * SHARD + 100, seed=3)
    np.save(tmp_path / "frames.npy", frames)
    one = inference.log_likelihoods(mixture, frames)
    forms = {
        "memory map": np.load(tmp_path / "frames.npy", mmap_mode="r"),
        "columns in turn": np.asfortranarray(frames),
        "strided": np.repeat(frames, 2, axis=1)[:, ::2],
        "blocks": BlockSource([frames[:1000], frames[1000:]]),
        "nested list": frames[:50].tolist(),
    }
    for form, value in forms.items():
        for n_jobs in (1, 2):
            answer = inference.log_likelihoods(mixture, value, n_jobs)
            np.testing.assert_array_equal(answer[:50], one[:50], err_msg=form)
            if form != "nested list":
                np.testing.assert_array_equal(answer, one, err_msg=form)
    np.testing.assert_array_equal(
        inference.posteriors(mixture, frames, 2), inference.posteriors(mixture, frames, 1)
    )
    np.testing.assert_array_equal(
        inference.assign(mixture, frames, 2), inference.posteriors(mixture, frames).argmax(axis=1)
    )


@pytest.mark.parametrize("covariance_type", TYPES)
def test_components_whose_terms_cancel(covariance_type):
    """Deviations of a thousandth to a millionth of the distances: the products would keep few digits of them."""
    for width in (1e-3, 1e-6):
        mixture = mixture_of(covariance_type, width=width)
        frames = mixture.sample(600, seed=4)
        expected = mixture.log_densities(frames)
        np.testing.assert_allclose(
            inference.log_likelihoods(mixture, frames), logsumexp(expected, axis=1), rtol=0, atol=1e-9
        )
        np.testing.assert_array_equal(inference.assign(mixture, frames), expected.argmax(axis=1))


@pytest.mark.parametrize("covariance_type", ["diag", "full", "spherical"])
def test_one_collapsed_component_among_others(covariance_type):
    mixture = mixture_of(covariance_type)
    covariances, weights = mixture.covariances.copy(), mixture.weights.copy()
    covariances[1] *= 1e-10
    covariances[3] *= 1e-10
    weights[:] = [0.3, 0.3, 0.2, 0.0, 0.2]
    mixture = Mixture(weights, mixture.means, covariances, covariance_type)
    frames = mixture.sample(900, seed=5)
    expected = mixture.log_densities(frames)
    np.testing.assert_allclose(
        inference.log_likelihoods(mixture, frames), logsumexp(expected, axis=1), rtol=0, atol=1e-9
    )
    posteriors = inference.posteriors(mixture, frames)
    assert (posteriors[:, 3] == 0).all()
    assert (inference.assign(mixture, frames) == 1).sum() > 200


def test_thin_sheets_that_no_turn_of_the_axes_resolves():
    thin = 1e-8
    crossed = [[[1, sign * (1 - thin)], [sign * (1 - thin), 1]] for sign in (1, -1)]
    mixture = Mixture([0.5, 0.3, 0.2], np.zeros((3, 2)), [*crossed, [[1, 0], [0, thin]]], "full")
    frames = mixture.sample(2000, seed=6)
    # Matrices of this condition leave no more digits, whatever is computed with them.
    np.testing.assert_allclose(
        inference.log_likelihoods(mixture, frames), mixture.log_likelihoods(frames), rtol=0, atol=1e-7
    )


@pytest.mark.parametrize("covariance_type", TYPES)
def test_frames_far_from_everything(covariance_type):
    mixture = mixture_of(covariance_type)
    frames = mixture.sample(600, seed=7)
    frames[:100] *= np.logspace(1, 12, 100)[:, None]
    expected = mixture.log_densities(frames)
    np.testing.assert_allclose(
        inference.log_likelihoods(mixture, frames), logsumexp(expected, axis=1), rtol=1e-12, atol=1e-9
    )
    np.testing.assert_array_equal(inference.assign(mixture, frames), expected.argmax(axis=1))
    posteriors = inference.posteriors(mixture, frames)
    assert np.isfinite(posteriors).all()


@pytest.mark.parametrize("offset", [1e4, 1e6])
@pytest.mark.parametrize("covariance_type", TYPES)
def test_offsets(covariance_type, offset):
    """Where all lies far from zero, only digits that the frames themselves do not hold are lost."""
    near, far = (mixture_of(covariance_type, offset=value) for value in (0.0, offset))
    frames = near.sample(600, seed=8)
    # Rounding moves frames and means by up to 1e-16 of the offset; a deviation is of order one.
    np.testing.assert_allclose(
        inference.log_likelihoods(far, frames + offset),
        inference.log_likelihoods(near, frames),
        rtol=0,
        atol=1e-14 * offset,
    )


def test_real_frames(speech_data):
    from tests import naive

    frames = naive.real_frames(speech_data)
    for covariance_type in TYPES:
        centres = frames[::150].astype(np.float64)
        deviations = frames.std(axis=0, dtype=np.float64)
        shape = {
            "diag": np.tile(deviations**2, (len(centres), 1)),
            "full": np.tile(np.cov(frames.T), (len(centres), 1, 1)),
            "tied": np.cov(frames.T),
            "spherical": np.full(len(centres), (deviations**2).mean()),
        }
        mixture = Mixture(
            np.full(len(centres), 1 / len(centres)), centres, shape[covariance_type], covariance_type
        )
        np.testing.assert_allclose(
            inference.log_likelihoods(mixture, frames), mixture.log_likelihoods(frames), **EXACT
        )


def test_blas_is_held_to_one_thread(monkeypatch):
    """Two threads would change the last bits on some machines."""
    seen = []

    def spy(values):
        seen.extend(
            library["num_threads"]
            for library in threadpoolctl.threadpool_info()
            if library["user_api"] == "blas"
        )
        return logsumexp(values, axis=1)

    monkeypatch.setattr(inference, "log_sum_exp", spy)
    mixture = mixture_of("diag")
    inference.log_likelihoods(mixture, mixture.sample(10))
    assert set(seen) == {1}


def test_likelihoods_need_no_array_of_frames_times_components():
    mixture = mixture_of("diag", n_components=64)
    frames = mixture.sample(40_000)
    inference.log_likelihoods(mixture, frames[:100])
    tracemalloc.start()
    inference.log_likelihoods(mixture, frames)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40_000 * 64 * 8 / 8


@pytest.mark.parametrize("function", [inference.log_likelihoods, inference.posteriors, inference.assign])
def test_frames_that_cannot_be_used(function):
    mixture = mixture_of("diag")
    frames = mixture.sample(SHARD + 1000)
    with pytest.raises(InputError, match=r"`frames` has 5 features; the mixture has 6"):
        function(mixture, frames[:, :5])
    with pytest.raises(InputError, match=r"`frames` has 1 dimensions"):
        function(mixture, frames[0])
    with pytest.raises(InputError, match=r"`frames` holds no frames"):
        function(mixture, frames[:0])
    for value in (np.nan, np.inf):
        wrong = frames.copy()
        wrong[SHARD + 600, 2] = value
        with pytest.raises(InputError, match=rf"the value {value} at frame {SHARD + 600}, feature 2"):
            function(mixture, wrong)
    huge = frames[:10].copy()
    huge[3] = 1e200
    with pytest.raises(InputError, match="so far from every component, that their squares overflow"):
        function(mixture, huge)


@pytest.mark.parametrize("covariance_type", TYPES)
def test_means_of_many_utterances_are_those_of_each_to_the_bit(covariance_type):
    mixture = mixture_of(covariance_type)
    rng = np.random.default_rng(1)
    utterances = [rng.normal(size=(n, 6)).astype(np.float32) for n in (1, 300, SHARD + 5)]
    expected = [inference.log_likelihoods(mixture, one).mean() for one in utterances]
    for n_jobs in (1, 2):
        found = inference.mean_log_likelihoods(mixture, utterances, n_jobs)
        assert found.tolist() == expected
    with pytest.raises(InputError, match="`frames` has 5 features; the mixture has 6"):
        inference.mean_log_likelihoods(mixture, [utterances[0][:, :5]])
