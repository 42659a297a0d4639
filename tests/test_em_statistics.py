"""em.statistics: the fast E-step against plain loops and scikit-learn."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechgmm.em.coordinates import Coordinates
from speechgmm.em.maximise import maximise
from speechgmm.em.mixture import Mixture
from speechgmm.em.moments import moments, moments_of
from speechgmm.em.sources import SHARD, as_source
from speechgmm.em.statistics import EStep, accumulate
from speechgmm.errors import InputError
from tests import naive

# float32 products: each term is good to 6e-8, a log-density to about 1e-6, so posteriors and sums are good to 1e-5.
RELATIVE = 1e-5
# Per frame; see above.
LOG_LIKELIHOOD = 1e-5


every_type = pytest.mark.parametrize("covariance_type", naive.COVARIANCE_TYPES)


def random_case(
    seed=0, n_frames=300, n_features=3, n_components=4, offset=0.0, scale=1.0, covariance_type="diag"
):
    """Frames from a random mixture, and another mixture near it."""
    weights, means, covariances = naive.random_parts(seed, covariance_type, n_components, n_features)
    covariances = scale**2 * covariances
    truth = Mixture(weights, offset + scale * means, covariances, covariance_type)
    moved = means + 0.3 * np.random.default_rng(seed).standard_normal(means.shape)
    return Mixture(weights, offset + scale * moved, covariances, covariance_type), truth.sample(
        n_frames, seed
    )


def bounds(second, covariance_type):
    """What errors of second moments and of Σγ|x| are measured against: sums of squares, where signs cancel."""
    if covariance_type in ("diag", "spherical"):
        return np.abs(second)
    roots = np.sqrt(np.abs(np.diagonal(second, axis1=-2, axis2=-1)))
    return roots[..., :, None] * roots[..., None, :]


def assert_as_loops(statistics, mixture, frames, weights=None):
    """Statistics agree with the naive loop's; errors of Σγx are measured against Σγ|x|."""
    place = statistics.coordinates
    zeroth, first, second, absolute, total = naive.statistics(
        mixture, frames, place.origin, place.scale, place.transform, weights
    )
    n_frames = len(frames) if weights is None else np.sum(weights)
    # Posteriors below 2**-60 count as 2**-60.
    tiny = 1e-15 * n_frames
    bound = bounds(second, mixture.covariance_type)
    assert (np.abs(statistics.zeroth - zeroth) <= RELATIVE * zeroth + tiny).all()
    assert (np.abs(statistics.first - first) <= RELATIVE * absolute + tiny).all()
    assert (np.abs(statistics.second - second) <= RELATIVE * bound + tiny).all()
    assert abs(statistics.log_likelihood - total) <= LOG_LIKELIHOOD * n_frames
    assert statistics.n_frames == pytest.approx(n_frames, rel=1e-12)
    assert statistics.zeroth.sum() == pytest.approx(n_frames, rel=1e-6)
    assert statistics.covariance_type == mixture.covariance_type


def assert_same_bits(one, other):
    for name in ("zeroth", "first", "second"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert one.log_likelihood == other.log_likelihood
    assert one.n_frames == other.n_frames
    assert one.coordinates.same_as(other.coordinates)


class TestAgainstLoops:
    @every_type
    @given(
        st.integers(0, 10_000),
        st.integers(1, 60),
        st.integers(1, 6),
        st.integers(1, 6),
        st.sampled_from([0.0, -500.0, 1e4]),
    )
    @settings(max_examples=25, deadline=None, derandomize=True)
    def test_any_shape(self, covariance_type, seed, n_frames, n_features, n_components, offset):
        mixture, frames = random_case(
            seed, n_frames, n_features, n_components, offset, covariance_type=covariance_type
        )
        own = Coordinates(np.full(n_features, offset), np.full(n_features, 2.0))
        assert_as_loops(accumulate(mixture, frames, own), mixture, frames)

    @every_type
    @given(
        st.integers(0, 10_000),
        st.integers(513, 700),
        st.integers(1, 5),
        st.integers(1, 5),
        st.integers(-6, 6),
        st.booleans(),
    )
    @settings(max_examples=8, deadline=None, derandomize=True)
    def test_any_shape_in_the_compiled_pass(
        self, covariance_type, seed, n_frames, n_features, n_components, exponent, weighted
    ):
        mixture, frames = random_case(
            seed, n_frames, n_features, n_components, -500.0, 10.0**exponent, covariance_type
        )
        weights = np.random.default_rng(seed).uniform(0, 2, n_frames) if weighted else None
        assert_as_loops(accumulate(mixture, as_source(frames, weights)), mixture, frames, weights)

    @pytest.mark.parametrize(
        ("covariance_type", "n_frames"),
        [(kind, n) for kind in ("diag", "tied") for n in (1, 511, 512, 513)]
        + [("diag", SHARD), ("tied", SHARD + 1)],
    )
    def test_around_the_ends_of_blocks_and_shards(self, covariance_type, n_frames):
        mixture, frames = random_case(1, n_frames, 2, 2, covariance_type=covariance_type)
        # One frame has no spread of its own to measure in.
        coordinates = Coordinates(np.zeros(2), np.full(2, 2.0))
        assert_as_loops(accumulate(mixture, frames, coordinates), mixture, frames)

    @pytest.mark.parametrize(("n_features", "n_components"), [(1, 1), (1, 5), (7, 1)])
    @every_type
    def test_one_feature_and_one_component(self, n_features, n_components, covariance_type):
        mixture, frames = random_case(2, 700, n_features, n_components, covariance_type=covariance_type)
        assert_as_loops(accumulate(mixture, frames), mixture, frames)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("offset", [0.0, -500.0])
    @every_type
    def test_raw_cepstra_lose_no_digits(self, dtype, offset, covariance_type):
        mixture, frames = random_case(3, 600, 5, offset=offset, covariance_type=covariance_type)
        frames = frames.astype(dtype)
        assert_as_loops(accumulate(mixture, frames), mixture, frames)

    def test_integers(self):
        frames = np.random.default_rng(0).integers(-30, 30, (600, 3))
        mixture = Mixture(np.array([0.5, 0.5]), np.array([[-9.0] * 3, [9.0] * 3]), np.full((2, 3), 200.0))
        for dtype in (np.int64, np.int16, np.float16):
            assert_as_loops(accumulate(mixture, frames.astype(dtype)), mixture, frames)

    @pytest.mark.parametrize("delta_orders", [0, 2])
    @every_type
    def test_real_frames_as_scikit_learn(self, speech_data, delta_orders, covariance_type):
        frames = naive.real_frames(speech_data, delta_orders)
        rng = np.random.default_rng(0)
        means = frames[rng.permutation(len(frames))[:6]].astype(np.float64)
        covariance = 0.5 * np.cov(frames.T.astype(np.float64))
        covariances = {
            "diag": np.tile(np.diag(covariance), (6, 1)),
            "full": np.tile(covariance, (6, 1, 1)),
            "tied": covariance,
            "spherical": np.full(6, np.diag(covariance).mean()),
        }[covariance_type]
        mixture = Mixture(np.full(6, 1 / 6), means, covariances, covariance_type)
        statistics = accumulate(mixture, frames)
        peer, double = naive.peer_of(mixture), frames.astype(np.float64)
        log_likelihood, log_posteriors = peer._e_step(double)
        gamma, x = np.exp(log_posteriors), statistics.coordinates.apply(frames)
        # The same E-step in double precision.
        assert statistics.mean_log_likelihood == pytest.approx(log_likelihood, abs=LOG_LIKELIHOOD)
        np.testing.assert_allclose(statistics.zeroth, gamma.sum(axis=0), rtol=RELATIVE)
        assert (np.abs(statistics.first - gamma.T @ x) <= RELATIVE * (gamma.T @ np.abs(x))).all()
        second = {
            "diag": lambda: gamma.T @ x**2,
            "full": lambda: np.einsum("nk,ni,nj->kij", gamma, x, x, optimize=True),
            "tied": lambda: x.T @ x,
            "spherical": lambda: gamma.T @ (x**2).sum(axis=1),
        }[covariance_type]()
        bound = bounds(second, covariance_type)
        assert (np.abs(statistics.second - second) <= RELATIVE * bound).all()

    @every_type
    def test_real_frames_as_loops(self, speech_data, covariance_type):
        frames = naive.real_frames(speech_data, 0)[::4]
        weights, means, covariances = naive.random_parts(0, covariance_type, 3, frames.shape[1])
        place = frames.mean(axis=0, dtype=np.float64), np.sqrt(frames.var(dtype=np.float64))
        mixture = Mixture(
            weights, place[0] + 0.1 * place[1] * means, place[1] ** 2 * covariances, covariance_type
        )
        assert_as_loops(accumulate(mixture, frames), mixture, frames)

    @every_type
    def test_frames_far_from_all_others(self, covariance_type):
        mixture, frames = random_case(4, 1200, 3, covariance_type=covariance_type)
        frames[[5, 600, 1199]] = [[1e3, 0, 0], [1e6, -1e6, 2.0], [1e30, 1e30, -1e30]]
        coordinates = Coordinates(np.zeros(3), np.full(3, 2.0))
        statistics = accumulate(mixture, frames[:-1], coordinates)
        origin, scale = coordinates.origin, coordinates.scale
        zeroth, first, second, absolute, total = naive.statistics(mixture, frames[:-1], origin, scale)
        np.testing.assert_allclose(statistics.zeroth, zeroth, rtol=RELATIVE)
        assert (np.abs(statistics.first - first) <= RELATIVE * absolute).all()
        bound = bounds(second, covariance_type)
        assert (np.abs(statistics.second - second) <= RELATIVE * bound).all()
        assert statistics.log_likelihood == pytest.approx(total, rel=1e-9)  # 1e12 is one frame's
        everything = accumulate(mixture, frames, coordinates)
        assert np.isfinite(everything.second).all() and np.isfinite(everything.log_likelihood)

    @pytest.mark.parametrize("n_frames", [400, 900])
    def test_a_frame_between_equals_counts_once_however_far_it_is(self, n_frames):
        mixture, frames = random_case(4, n_frames, 3, covariance_type="tied")
        frames[5] = 1e10
        same = Mixture(mixture.weights, np.zeros((4, 3)), mixture.covariances, "tied")
        statistics = accumulate(same, frames)
        assert statistics.zeroth.sum() == pytest.approx(n_frames, rel=1e-6)

    @every_type
    def test_a_component_of_weight_zero_gets_nothing(self, covariance_type):
        mixture, frames = random_case(5, n_components=2, covariance_type=covariance_type)
        mixture = replace(mixture, weights=np.array([1.0, 0.0]))
        statistics = accumulate(mixture, frames)
        assert statistics.zeroth[0] == pytest.approx(len(frames), rel=1e-6)
        assert statistics.zeroth[1] < 1e-12
        assert_as_loops(statistics, mixture, frames)

    @pytest.mark.parametrize("deviation", [1e-2, 1e-4])
    @every_type
    def test_narrow_components_away_from_the_origin(self, deviation, covariance_type):
        rng = np.random.default_rng(0)
        means = rng.standard_normal((4, 13))
        frames = means[rng.integers(4, size=400)] + deviation * rng.standard_normal((400, 13))
        unit = {"diag": np.ones((4, 13)), "full": np.tile(np.eye(13), (4, 1, 1)), "tied": np.eye(13)}
        covariances = deviation**2 * unit.get(covariance_type, np.ones(4))
        mixture = Mixture(np.full(4, 0.25), means, covariances, covariance_type)
        assert_as_loops(accumulate(mixture, frames), mixture, frames)

    @pytest.mark.parametrize(("place", "deviation"), [(1e20, 1e-5), (1e30, 1.0), (9e36, 1.0)])
    def test_a_component_absurdly_far_away_gets_nothing(self, place, deviation):
        mixture, frames = random_case(5, n_components=2)
        means, covariances = mixture.means.copy(), mixture.covariances.copy()
        means[1], covariances[1] = place, deviation**2
        mixture = Mixture(mixture.weights, means, covariances)
        assert_as_loops(accumulate(mixture, frames), mixture, frames)


class TestShortPieces:
    """`short_exactly=False`: float32 products whose rounding does not average away."""

    def assert_near(self, mixture, frames):
        coordinates = moments_of(mixture).coordinates(mixture.covariance_type)
        exact = EStep(mixture, coordinates).statistics_of(frames)
        fast = EStep(mixture, coordinates, short_exactly=False).statistics_of(frames)
        # As promised; the worst seen is 6e-7 of sums, and 4e-5 nats.
        for name in ("zeroth", "first", "second"):
            found, expected = getattr(fast, name), getattr(exact, name)
            assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max(), name
        assert abs(fast.log_likelihood - exact.log_likelihood) <= 1e-4 * len(frames)
        return exact, fast

    @every_type
    @pytest.mark.parametrize("n_frames", [1, 30, 300, 512])
    @pytest.mark.parametrize("offset", [0.0, -500.0])
    def test_stay_near_the_exact_sums(self, covariance_type, n_frames, offset):
        mixture, frames = random_case(3, n_frames, 20, 16, offset, covariance_type=covariance_type)
        exact, fast = self.assert_near(mixture, frames.astype(np.float32))
        assert fast.log_likelihood != exact.log_likelihood  # the compiled pass, or this test says nothing

    def test_by_default_are_exact(self):
        mixture, frames = random_case(3, 300)
        coordinates = moments_of(mixture).coordinates()
        assert_same_bits(
            EStep(mixture, coordinates).statistics_of(frames), accumulate(mixture, frames, coordinates)
        )

    def test_longer_ones_are_the_same_bits(self):
        mixture, frames = random_case(3, 513)
        coordinates = moments_of(mixture).coordinates()
        fast = EStep(mixture, coordinates, short_exactly=False).statistics_of(frames)
        assert_same_bits(fast, accumulate(mixture, frames, coordinates))

    def test_of_real_speech(self, speech_data):
        frames = naive.real_frames(speech_data)
        truth = accumulate(Mixture(*naive.random_parts(0, n_components=8, n_features=60)), frames)
        mixture = maximise(truth)
        for start in range(0, len(frames), 300):
            self.assert_near(mixture, frames[start : start + 300])

    def test_components_too_narrow_for_float32_stay_exact(self):
        parts = naive.random_parts(0, n_components=3, n_features=2)
        mixture = Mixture(parts[0], parts[1], 1e-14 * parts[2])
        coordinates = Coordinates(np.zeros(2), np.ones(2))
        frames = mixture.sample(40, 0)
        fast = EStep(mixture, coordinates, short_exactly=False).statistics_of(frames)
        assert_same_bits(fast, accumulate(mixture, frames, coordinates))


class TestWeights:
    @every_type
    @pytest.mark.parametrize("n_frames", [300, 1100])  # in double precision, and in the compiled pass
    def test_they_are_how_often_a_frame_counts(self, covariance_type, n_frames):
        mixture, frames = random_case(8, n_frames, covariance_type=covariance_type)
        counts = np.random.default_rng(8).integers(0, 4, n_frames)
        weighted = accumulate(mixture, as_source(frames, counts))
        repeated = accumulate(mixture, np.repeat(frames, counts, axis=0), weighted.coordinates)
        assert_as_loops(weighted, mixture, frames, counts)
        assert weighted.n_frames == repeated.n_frames == counts.sum()
        np.testing.assert_allclose(weighted.zeroth, repeated.zeroth, rtol=RELATIVE)
        bound = bounds(repeated.second, covariance_type)
        assert (np.abs(weighted.second - repeated.second) <= RELATIVE * bound).all()
        assert weighted.mean_log_likelihood == pytest.approx(repeated.mean_log_likelihood, abs=LOG_LIKELIHOOD)

    @every_type
    @pytest.mark.parametrize("n_frames", [300, 1100])
    def test_a_frame_of_weight_zero_is_not_there(self, covariance_type, n_frames):
        mixture, frames = random_case(10, n_frames, covariance_type=covariance_type)
        weights = np.random.default_rng(10).uniform(0.5, 2.0, n_frames)
        weights[::3] = 0.0
        frames[::3] = 1e6  # far, so that it would show
        frames[3] = np.float32(1e30)
        left = weights > 0
        statistics = accumulate(mixture, as_source(frames, weights))
        assert_as_loops(statistics, mixture, frames[left], weights[left])

    @every_type
    @pytest.mark.parametrize("factor", [1e-9, 2.0, 1e12])
    @pytest.mark.parametrize("n_frames", [300, 1100])
    def test_scaling_them_scales_the_sums(self, covariance_type, factor, n_frames):
        mixture, frames = random_case(11, n_frames, covariance_type=covariance_type)
        weights = np.random.default_rng(11).uniform(0.0, 2.0, n_frames)
        plain = accumulate(mixture, as_source(frames, weights))
        scaled = accumulate(mixture, as_source(frames, factor * weights), plain.coordinates)
        for name in ("zeroth", "first", "second"):
            one, other = factor * getattr(plain, name), getattr(scaled, name)
            np.testing.assert_allclose(one, other, rtol=RELATIVE, atol=RELATIVE * np.abs(one).max())
            np.testing.assert_array_equal(getattr(plain.scaled(factor), name), one)
        assert scaled.mean_log_likelihood == pytest.approx(plain.mean_log_likelihood, abs=LOG_LIKELIHOOD)
        assert plain.scaled(factor).mean_log_likelihood == pytest.approx(plain.mean_log_likelihood, rel=1e-12)
        assert plain.scaled(factor).n_frames == pytest.approx(scaled.n_frames, rel=1e-12)


class TestCoordinates:
    def test_tied_statistics_come_in_the_coordinates_asked_for(self):
        mixture, frames = random_case(12, 700, offset=-50.0, covariance_type="tied")
        plain = Coordinates(np.full(3, -50.0), np.full(3, 2.0))
        for asked in (plain, plain.whitening(np.cov(frames.T), 1e-6)):
            statistics = accumulate(mixture, frames, asked)
            assert statistics.coordinates.same_as(asked)
            assert_as_loops(statistics, mixture, frames)

    @every_type
    def test_the_default_ones_suit_the_frames(self, covariance_type):
        mixture, frames = random_case(13, 700, offset=-50.0, covariance_type=covariance_type)
        own = accumulate(mixture, frames).coordinates
        measured = moments(frames, covariance=True)
        assert own.same_as(measured.coordinates(covariance_type))
        x = own.apply(frames)
        if mixture.has_matrices:
            np.testing.assert_allclose(np.cov(x.T, bias=True), np.eye(3), atol=1e-5)
        else:
            assert 0.5 < np.square(x.std(axis=0)).mean() < 2
            assert covariance_type == "diag" or len(set(own.scale)) == 1

    def test_those_that_do_not_suit_are_refused(self):
        turning = Coordinates(np.zeros(3), np.ones(3)).whitening(np.eye(3) + 0.5, 1e-6)
        for covariance_type in ("diag", "spherical"):
            with pytest.raises(InputError, match="coordinates that turn frames do not suit variances"):
                accumulate(*random_case(covariance_type=covariance_type), turning)


class TestSum:
    @every_type
    def test_statistics_of_parts_add_up(self, covariance_type):
        mixture, frames = random_case(6, 1300, covariance_type=covariance_type)
        whole = accumulate(mixture, frames)
        coordinates = whole.coordinates
        parts = accumulate(mixture, frames[:700], coordinates) + accumulate(
            mixture, frames[700:], coordinates
        )
        assert_as_loops(parts, mixture, frames)
        # The cut makes other blocks; only float32 rounding inside them differs.
        np.testing.assert_allclose(parts.zeroth, whole.zeroth, rtol=RELATIVE)
        bound = bounds(whole.second, covariance_type)
        assert (np.abs(parts.second - whole.second) <= RELATIVE * bound).all()
        assert parts.mean_log_likelihood == pytest.approx(whole.mean_log_likelihood, abs=LOG_LIKELIHOOD)
        assert parts.mean_log_likelihood == parts.log_likelihood / 1300

    # Not tied ones, which each part turns into the coordinates asked for.
    @pytest.mark.parametrize("covariance_type", ["diag", "full", "spherical"])
    def test_parts_cut_between_shards_give_the_same_bits(self, covariance_type):
        mixture, frames = random_case(6, SHARD + 600, 2, 2, covariance_type=covariance_type)
        whole = accumulate(mixture, frames)
        parts = [accumulate(mixture, part, whole.coordinates) for part in (frames[:SHARD], frames[SHARD:])]
        assert_same_bits(parts[0] + parts[1], whole)

    def test_other_coordinates_are_refused(self):
        mixture, frames = random_case()
        here = accumulate(mixture, frames, Coordinates(np.zeros(3), np.ones(3)))
        for other in (Coordinates(np.ones(3), np.ones(3)), Coordinates(np.zeros(3), np.full(3, 2.0))):
            with pytest.raises(
                InputError, match=r"in different coordinates \(origin, scale\) cannot be added"
            ):
                here + accumulate(mixture, frames, other)

    def test_other_shapes_are_refused(self):
        mixture, frames = random_case()
        statistics = accumulate(mixture, frames)
        for other in (random_case(n_components=5), random_case(n_features=2)):
            shape = (other[0].n_components, other[0].n_features)
            with pytest.raises(
                InputError, match=rf"\(4, 3\) \(diag\) and \({shape[0]}, {shape[1]}\) \(diag\) cannot be"
            ):
                statistics + accumulate(*other)
        with pytest.raises(InputError, match=r"\(4, 3\) \(diag\) and \(4, 3\) \(spherical\) cannot be added"):
            statistics + accumulate(*random_case(covariance_type="spherical"))


class TestRefusals:
    @pytest.mark.parametrize("call", [moments, lambda frames: accumulate(random_case()[0], frames)])
    def test_frames_that_cannot_be_used(self, call):
        with pytest.raises(
            InputError, match=r"`frames` holds no frames; at least 1 is needed \(everything dropped"
        ):
            call(np.zeros((0, 3)))
        with pytest.raises(
            InputError, match=r"`frames` has 1 dimensions; it must have 2.*use frames\[:, None\]"
        ):
            call(np.zeros(3))
        with pytest.raises(InputError, match="`frames` holds <U5 values; numbers are needed"):
            call(np.array([["hello", "you", "x"]]))
        with pytest.raises(InputError, match="`frames` holds object values; numbers are needed"):
            call(np.array([[1.0, {}, 2.0]], dtype=object))

    @pytest.mark.parametrize(
        "frames", [[["1", "2", "3"]], [[1j, 2, 3]], np.array([["2020-01-01"] * 3], dtype="M8[D]")]
    )
    def test_what_only_looks_like_numbers(self, frames):
        with pytest.raises(InputError, match="numbers are needed"):
            accumulate(random_case()[0], frames)

    def test_rows_of_different_lengths(self):
        with pytest.raises(InputError, match="`frames`"):
            moments([[1.0, 2.0], [3.0]])

    def test_another_number_of_features(self):
        with pytest.raises(InputError, match="`frames` has 5 features; the mixture has 3"):
            accumulate(random_case()[0], np.zeros((4, 5)))

    @pytest.mark.parametrize("n_jobs", [0, 1.5, "2"])
    def test_n_jobs(self, n_jobs):
        with pytest.raises(InputError, match=r"`n_jobs` is .*; it must be 1 or more, or -1 for all cores"):
            accumulate(*random_case(), n_jobs=n_jobs)

    @every_type
    def test_not_finite_without_coordinates(self, covariance_type):
        mixture, frames = random_case(covariance_type=covariance_type)
        frames[7, 1] = np.nan
        with pytest.raises(InputError, match="the value nan at frame 7, feature 1"):
            accumulate(mixture, frames)

    @pytest.mark.parametrize("n_frames", [300, 1100])
    @pytest.mark.parametrize(
        ("covariance_type", "value"),
        [(kind, value) for kind in naive.COVARIANCE_TYPES for value in (np.nan, np.inf)],
    )
    def test_not_finite_with_coordinates(self, covariance_type, value, n_frames):
        mixture, frames = random_case(n_frames=n_frames, covariance_type=covariance_type)
        frames[7, 1] = value
        with pytest.raises(InputError, match=f"the value {value} at frame 7, feature 1"):
            accumulate(mixture, frames, Coordinates(np.zeros(3), np.ones(3)))
