"""em.restarts: one call is a start and a fit; the best of several; the same bits on any number of threads."""

import time
import warnings
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechgmm.em import restarts
from speechgmm.em.checkpoint import Checkpoint
from speechgmm.em.fit import FitResult, fit
from speechgmm.em.initialise import kmeans, random_frames, split
from speechgmm.em.restarts import fit_mixture, seeds_of
from speechgmm.em.sources import BlockSource, as_source
from speechgmm.errors import InputError, SpeechGMMWarning
from tests import naive

TYPES = ("diag", "full", "tied", "spherical")
INITIALISERS = {"kmeans": kmeans, "random": random_frames, "split": split}

every_type = pytest.mark.parametrize("covariance_type", TYPES)


def frames_of(seed=0, n_frames=1500, n_features=3, n_clusters=6, deviation=1.0):
    """Frames of clusters that overlap, so that fits from different starts differ."""
    rng = np.random.default_rng(seed)
    means = 2 * rng.standard_normal((n_clusters, n_features))
    noise = deviation * rng.standard_normal((n_frames, n_features))
    return means[rng.integers(n_clusters, size=n_frames)] + noise


def same(one, other):
    return one.mixture == other.mixture and one.history == other.history


class TestOneFit:
    @every_type
    @pytest.mark.parametrize("initialisation", INITIALISERS)
    def test_it_is_a_start_and_a_fit(self, covariance_type, initialisation):
        frames = frames_of()
        result = fit_mixture(
            frames,
            5,
            covariance_type=covariance_type,
            initialisation=initialisation,
            seed=3,
            max_iterations=4,
            tolerance=1e-9,
            variance_floor=0.3,
            reg_covar=0.01,
        )
        options = {"variance_floor": 0.3, "reg_covar": 0.01}
        start = INITIALISERS[initialisation](frames, 5, covariance_type=covariance_type, seed=3, **options)
        assert same(result, fit(frames, start, max_iterations=4, tolerance=1e-9, **options))
        assert result.mixture.covariance_type == covariance_type

    @every_type
    def test_the_likelihood_never_falls(self, speech_data, covariance_type):
        frames = naive.real_frames(speech_data, 0).copy()
        result = fit_mixture(frames, 6, covariance_type=covariance_type, max_iterations=15, tolerance=0.0)
        assert not result.reseeded and result.n_iterations == 15
        assert all(later >= earlier - 1e-5 for earlier, later in pairwise(result.history))

    def test_a_mixture_is_the_start_itself(self):
        frames = frames_of()
        start = kmeans(frames, 5, seed=9)
        result = fit_mixture(frames, 5, initialisation=start, max_iterations=3)
        assert same(result, fit(frames, start, max_iterations=3))
        again = fit_mixture(frames, 5, initialisation=result.mixture, max_iterations=0)
        assert again.history[0] == result.history[-1]

    def test_iterations_are_told(self):
        seen = []
        result = fit_mixture(
            frames_of(), 3, max_iterations=3, tolerance=0.0, on_iteration=lambda *told: seen.append(told)
        )
        assert seen == list(enumerate(result.history))

    @every_type
    @pytest.mark.parametrize("initialisation", INITIALISERS)
    def test_weights_count(self, covariance_type, initialisation):
        frames = np.concatenate([frames_of(), frames_of(1) + 1e3])
        weights = np.repeat([1.0, 0.0], 1500)
        result = fit_mixture(
            as_source(frames, weights), 4, covariance_type=covariance_type, initialisation=initialisation
        )
        assert np.abs(result.mixture.means).max() < 20
        expected = np.mean(result.mixture.log_likelihoods(frames[:1500]))
        # Products in float32; the unused frames make the coordinates no coarser.
        assert result.history[-1] == pytest.approx(expected, abs=1e-4)


class TestSeveralFits:
    def test_the_best_of_all_is_kept(self):
        frames = frames_of()
        options = {"max_iterations": 8, "tolerance": 0.0}
        single = [fit_mixture(frames, 6, seed=seed, **options) for seed in seeds_of(4, 5)]
        likelihoods = [result.history[-1] for result in single]
        best = int(np.argmax(likelihoods))
        assert best > 0 and len(set(likelihoods)) > 1  # or this test says nothing
        assert same(fit_mixture(frames, 6, seed=4, n_init=5, **options), single[best])

    def test_more_of_them_are_never_worse(self):
        frames = frames_of(2)
        likelihoods = [fit_mixture(frames, 6, n_init=n, max_iterations=5).history[-1] for n in range(1, 6)]
        assert likelihoods == sorted(likelihoods)

    def test_of_equals_the_first_is_kept(self, monkeypatch):
        histories = iter([(1.0,), (2.0,), (2.0,), (1.5,)])
        mixture = kmeans(frames_of(), 1)
        made = [FitResult(mixture, history, True, ()) for history in histories]
        results = iter(made)
        monkeypatch.setattr(restarts, "fit", lambda *arguments, **options: next(results))
        assert fit_mixture(frames_of(), 1, n_init=4) is made[1]

    @every_type
    @pytest.mark.parametrize("n_init", [1, 3])
    def test_the_same_bits_on_any_number_of_threads_and_from_a_stream(self, covariance_type, n_init):
        frames = frames_of(n_frames=20_000).astype(np.float32)
        options = {"covariance_type": covariance_type, "n_init": n_init, "max_iterations": 3}
        plain = fit_mixture(frames, 4, **options)
        assert same(fit_mixture(frames, 4, n_jobs=2, **options), plain)
        stream = BlockSource([frames[:7], frames[7:15_000], frames[15_000:]])
        assert same(fit_mixture(stream, 4, n_jobs=3, **options), plain)

    @pytest.mark.parametrize(("n_init", "inside"), [(1, 2), (3, 1)])
    def test_threads_are_used_once(self, monkeypatch, n_init, inside):
        seen, outside = [], []
        real_map = restarts.parallel_map
        monkeypatch.setattr(
            restarts, "parallel_map", lambda *rest: outside.append(rest[2]) or real_map(*rest)
        )
        monkeypatch.setitem(
            restarts.INITIALISATIONS,
            "kmeans",
            lambda *rest, **options: seen.append(options["n_jobs"]) or kmeans(*rest, **options),
        )
        monkeypatch.setattr(
            restarts, "fit", lambda *rest, **options: seen.append(options["n_jobs"]) or fit(*rest, **options)
        )
        fit_mixture(frames_of(), 2, n_init=n_init, n_jobs=2, max_iterations=1)
        assert seen == [inside] * (2 * n_init)
        assert outside == [2]

    def test_seeds(self):
        assert seeds_of(5, 1) == [5]
        assert seeds_of(5, 8)[:3] == seeds_of(5, 3)
        assert len(set(seeds_of(5, 100))) == 100
        assert not set(seeds_of(5, 10)) & set(seeds_of(6, 10))


class TestCheckpoints:
    def test_of_one_fit(self, tmp_path):
        frames, path = frames_of(), tmp_path / "state.safetensors"
        options = {"max_iterations": 6, "tolerance": 0.0}
        plain = fit_mixture(frames, 4, **options)
        fit_mixture(frames, 4, max_iterations=3, tolerance=0.0, checkpoint=Checkpoint(path, every=1))
        seen = []
        resumed = fit_mixture(
            *(frames, 4),
            checkpoint=Checkpoint(path, every=1),
            on_iteration=lambda number, _: seen.append(number),
            **options,
        )
        assert same(resumed, plain)
        assert seen[0] == 3  # it went on, and did not begin again

    def test_each_of_several_fits_has_its_own(self, tmp_path):
        frames, path = frames_of(), tmp_path / "state.safetensors"
        options = {"max_iterations": 3, "n_init": 3}
        plain = fit_mixture(frames, 4, **options)
        for _ in range(2):
            assert same(fit_mixture(frames, 4, checkpoint=Checkpoint(path), **options), plain)
        names = [f"state-{number}.safetensors" for number in (1, 2, 3)]
        assert sorted(file.name for file in tmp_path.iterdir()) == names


class TestOddFrames:
    @every_type
    @pytest.mark.parametrize("initialisation", INITIALISERS)
    def test_copies(self, covariance_type, initialisation):
        frames = np.repeat(frames_of(n_frames=3), 20, axis=0)
        with pytest.warns(SpeechGMMWarning, match="5 components asked for, but only 3 distinct frames found"):
            result = fit_mixture(
                frames, 5, covariance_type=covariance_type, initialisation=initialisation, n_init=2
            )
        assert 1 <= result.mixture.n_components <= 3
        assert np.isfinite(result.history).all()

    @settings(max_examples=60, deadline=None)
    @given(
        values=st.lists(
            st.lists(st.sampled_from([0.0, 1.0, -1.0, 1.5, -500.0]), min_size=2, max_size=2),
            min_size=1,
            max_size=10,
        ),
        n_components=st.integers(1, 5),
        covariance_type=st.sampled_from(TYPES),
        initialisation=st.sampled_from(sorted(INITIALISERS)),
        n_init=st.integers(1, 2),
    )
    def test_few_frames_of_any_kind(self, values, n_components, covariance_type, initialisation, n_init):
        frames = np.array(values)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SpeechGMMWarning)
            result = fit_mixture(
                frames,
                n_components,
                covariance_type=covariance_type,
                initialisation=initialisation,
                n_init=n_init,
                max_iterations=5,
            )
        assert np.isfinite(result.history).all()
        assert result.mixture.n_components <= n_components
        # So few frames are handled in float64 throughout.
        expected = result.mixture.log_likelihoods(frames).mean()
        assert result.history[-1] == pytest.approx(expected, abs=1e-4, rel=1e-6)


class TestRefusals:
    @pytest.mark.parametrize("n_init", [0, -1, 1.5, True, None])
    def test_n_init(self, n_init):
        with pytest.raises(InputError, match=r"`n_init` is .*; it must be a whole number of 1 or more"):
            fit_mixture(frames_of(), 2, n_init=n_init)

    def test_initialisation(self):
        with pytest.raises(
            InputError, match="`initialisation` is 'k-means'; it must be a mixture or one of kmeans"
        ):
            fit_mixture(frames_of(), 2, initialisation="k-means")

    def test_several_fits_from_one_mixture(self):
        with pytest.raises(
            InputError, match="`n_init` is 2, but fits that start from the same mixture are all"
        ):
            fit_mixture(frames_of(), 2, initialisation=kmeans(frames_of(), 2), n_init=2)

    @pytest.mark.parametrize(("n_components", "covariance_type"), [(3, "diag"), (2, "full")])
    def test_a_mixture_of_another_kind(self, n_components, covariance_type):
        start = kmeans(frames_of(), 2)
        with pytest.raises(
            InputError, match=r"given as `initialisation` has 2 components \(diag\); asked for were"
        ):
            fit_mixture(frames_of(), n_components, covariance_type=covariance_type, initialisation=start)

    @pytest.mark.parametrize("seed", [-1, 0.5, True, None])
    def test_seed(self, seed):
        with pytest.raises(InputError, match=r"`seed` is .*; it must be a whole number of 0 or more"):
            fit_mixture(frames_of(), 2, seed=seed)

    def test_n_jobs(self):
        with pytest.raises(InputError, match="`n_jobs` is 0; it must be 1 or more, or -1"):
            fit_mixture(frames_of(), 2, n_jobs=0)


def test_a_fit_that_fails_stops_the_others():
    frames = np.random.default_rng(0).standard_normal((2000, 3))
    seen = []

    def fail(number, likelihood):
        seen.append(number)
        if len(seen) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_mixture(frames, 4, n_init=6, n_jobs=2, tolerance=0.0, max_iterations=100_000, on_iteration=fail)
    time.sleep(0.1)  # an iteration takes a millisecond
    n_seen = len(seen)
    time.sleep(0.3)
    assert len(seen) == n_seen
