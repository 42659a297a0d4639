"""em.kernels and em.terms: each compiled loop against NumPy in double precision, and life without a cache folder."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import speechgmm
from speechgmm import compiled
from speechgmm.em import kernels
from speechgmm.em.terms import (
    BLOCK,
    DIAG,
    FAR,
    FULL,
    LOG2_OF_NOTHING,
    SPHERICAL,
    block_size,
    n_terms,
    terms_of,
)
from speechgmm.errors import SpeechGMMWarning

NO_WEIGHTS, NONE_SHARP = np.empty(0), np.empty(0, np.int64)
KINDS = (DIAG, SPHERICAL, FULL)
every_kind = pytest.mark.parametrize("kind", KINDS, ids=["diag", "spherical", "full"])


def exact_terms(x, kind):
    """The terms of each frame, by loops over features, in double precision."""
    columns = [x[:, j] for j in range(x.shape[1])]
    if kind == DIAG:
        squares = [column * column for column in columns]
    elif kind == SPHERICAL:
        squares = [sum(column * column for column in columns)]
    else:
        squares = [columns[i] * columns[j] for i in range(len(columns)) for j in range(i, len(columns))]
    return np.array([*columns, *squares, np.ones(len(x))])


def expanded(frames, origin, inverse_scale, kind, dtype=np.float32):
    terms = np.full((n_terms(kind, frames.shape[1]), len(frames)), np.nan, dtype)
    peaks = np.full(len(frames), np.nan, np.float32)
    # Terms in float64 are formed in float64 from the beginning.
    own = frames.dtype if dtype == np.float32 else np.float64
    far = kernels.expand(frames, origin.astype(own), inverse_scale.astype(own), kind, terms, peaks)
    return terms, peaks, far


class TestExp2:
    def test_it_is_exact_to_a_few_units_in_the_last_place(self):
        exponents = np.linspace(-60.0, 0.0, 300_001).astype(np.float32)
        # Through the pass that uses it, and so as the compiler vectorises it.
        log2_densities = np.stack([np.zeros_like(exponents), exponents])
        peaks, masses = np.empty_like(exponents), np.empty_like(exponents)
        kernels.posteriors(log2_densities, peaks, masses)
        exact = np.exp2(exponents.astype(np.float64))
        assert np.abs(log2_densities[1] / exact - 1.0).max() <= 3e-7
        assert (log2_densities[0] == 1.0).all()

    def test_it_stops_at_a_value_whose_products_are_normal_numbers(self):
        assert [kernels.exp2(np.float32(x)) for x in (-61.0, -1e4, -1e30)] == [np.float32(2.0**-60)] * 3


class TestTerms:
    @every_kind
    @pytest.mark.parametrize("n_features", [1, 2, 7])
    @pytest.mark.parametrize("n_frames", [1, 15, 16, 17, 512])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_they_are_those_of_loops(self, kind, n_features, n_frames, dtype):
        rng = np.random.default_rng(0)
        frames = (0.5 * rng.standard_normal((n_frames, n_features)) - 500).astype(dtype)
        origin = np.full(n_features, -500.0) + rng.integers(-1, 2, n_features)
        inverse_scale = np.exp2(rng.integers(-2, 3, n_features))
        x = (frames.astype(np.float64) - origin) * inverse_scale
        terms, peaks, far = expanded(frames, origin, inverse_scale, kind)
        # One rounding of x to float32, one of each product, and one for each feature in |x|².
        np.testing.assert_allclose(terms, exact_terms(x, kind), rtol=4e-7)
        np.testing.assert_allclose(peaks, (x * x).max(axis=1), rtol=4e-7)
        assert not far
        exact, _, _ = expanded(frames, origin, inverse_scale, kind, np.float64)
        np.testing.assert_allclose(exact, exact_terms(x, kind), rtol=1e-14)

    @every_kind
    @pytest.mark.parametrize(("factor", "far"), [(0.99, False), (1.01, True), (1e15, True)])
    def test_a_frame_beyond_the_limit_is_reported(self, kind, factor, far):
        frames = np.zeros((20, 3))
        frames[7, 2] = -factor * FAR
        _, peaks, found = expanded(frames, np.zeros(3), np.ones(3), kind)
        assert found == far
        assert peaks.argmax() == 7 and peaks[7] == pytest.approx((factor * FAR) ** 2, rel=1e-6)

    @every_kind
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_numpy_makes_the_same(self, kind, dtype):
        frames = np.random.default_rng(1).standard_normal((40, 4)).astype(dtype)
        made = terms_of(np.ascontiguousarray(frames.T), kind)
        assert made.dtype == dtype
        terms, _, _ = expanded(frames, np.zeros(4), np.ones(4), kind, dtype)
        # Sums of squares may be formed in another order.
        np.testing.assert_allclose(made, terms, rtol=1e-6 if dtype == np.float32 else 1e-14)

    @every_kind
    @pytest.mark.parametrize("n_features", [1, 13, 60, 200])
    def test_blocks_divide_the_largest(self, kind, n_features):
        size = block_size(kind, n_features)
        assert BLOCK % size == 0 and 32 <= size <= BLOCK


class TestLoops:
    def test_posteriors(self):
        log2 = (20 * np.random.default_rng(0).standard_normal((5, 300)) - 1000).astype(np.float32)
        exact = np.exp2(log2.astype(np.float64) - log2.max(axis=0))
        gamma, peaks, masses = log2.copy(), np.empty(300, np.float32), np.empty(300, np.float32)
        kernels.posteriors(gamma, peaks, masses)
        np.testing.assert_array_equal(peaks, log2.max(axis=0))
        np.testing.assert_allclose(gamma, exact, rtol=4e-7, atol=2.0**-59)
        np.testing.assert_allclose(masses, exact.sum(axis=0), rtol=1e-6)

    def test_small_ones(self):
        rows = np.arange(12, dtype=np.float32).reshape(3, 4)
        blanked, scaled, sums = rows.copy(), rows.copy(), np.full((3, 4), 1e9)
        kernels.blank(blanked, np.array([False, True, False, True]))
        np.testing.assert_array_equal(blanked, rows * [1, 0, 1, 0])
        shares = np.array([2, 0, -1, 0.5], np.float32)
        kernels.scale_columns(scaled, shares)
        np.testing.assert_array_equal(scaled, rows * shares)
        kernels.add(rows, sums)
        np.testing.assert_array_equal(sums, 1e9 + rows.astype(np.float64))


class TestAccumulate:
    """The whole pass, against the same sums in double precision."""

    @staticmethod
    def inputs(kind, n_frames=700, n_features=3, n_components=4, seed=0):
        rng = np.random.default_rng(seed)
        frames = rng.standard_normal((n_frames, n_features)).astype(np.float32)
        matrix = 0.5 * rng.standard_normal((n_components, n_terms(kind, n_features)))
        return frames, matrix

    @staticmethod
    def run(frames, weights, kind, matrix, sharp=NONE_SHARP, block=128, n_exact_sums=None):
        rough = matrix.astype(np.float32)
        rough[sharp] = 0.0
        far, sums = np.zeros(len(frames), bool), np.zeros(matrix.shape[::-1])
        place = np.stack([np.zeros(frames.shape[1]), np.ones(frames.shape[1])])
        own = place.astype(frames.dtype)
        total = kernels.accumulate(
            *(frames, weights, *own, place, kind, block, rough),
            *(sharp, len(sharp) if n_exact_sums is None else n_exact_sums, matrix[sharp].copy(), far, sums),
        )
        return total, sums, far

    @staticmethod
    def expected(frames, weights, kind, matrix):
        terms = exact_terms(frames.astype(np.float64), kind)
        densities = np.exp2(matrix @ terms)
        share = np.ones(len(frames)) if weights.size == 0 else weights
        gamma = share * densities / densities.sum(axis=0)
        return share @ np.log2(densities.sum(axis=0)), terms @ gamma.T, np.abs(terms) @ gamma.T

    @every_kind
    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("sharp", [[], [2], [0, 1, 2, 3]])
    @pytest.mark.parametrize("n_components", [4, 40])  # on either side of the number of terms
    def test_sums(self, kind, weighted, sharp, n_components):
        frames, matrix = self.inputs(kind, n_components=n_components)
        weights = np.random.default_rng(1).uniform(0, 3, 700) if weighted else NO_WEIGHTS
        total, sums, far = self.run(frames, weights, kind, matrix, np.array(sharp, np.int64))
        exact_total, exact_sums, bound = self.expected(frames, weights, kind, matrix)
        # Posteriors in float32: their exponents are below 30, so good to some 1e-6; sums average that.
        assert (np.abs(sums - exact_sums) <= 5e-6 * bound).all()
        assert total == pytest.approx(exact_total, abs=700 * 1e-6)
        assert not far.any()

    @every_kind
    def test_frames_far_away_are_marked_and_left_out(self, kind):
        frames, matrix = self.inputs(kind)
        frames[[3, 500], 1] = [1.1 * FAR, -1e20]
        total, sums, far = self.run(frames, NO_WEIGHTS, kind, matrix, np.array([1]))
        assert np.flatnonzero(far).tolist() == [3, 500]
        exact_total, exact_sums, bound = self.expected(frames[~far], NO_WEIGHTS, kind, matrix)
        assert (np.abs(sums - exact_sums) <= 5e-6 * bound).all()
        assert total == pytest.approx(exact_total, abs=700 * 1e-6)

    @every_kind
    def test_some_sharp_components_need_no_exact_sums(self, kind):
        frames, matrix = self.inputs(kind)
        exact_total, exact_sums, bound = self.expected(frames, NO_WEIGHTS, kind, matrix)
        errors = []
        for n in (0, 1, 2):
            total, sums, _ = self.run(frames, NO_WEIGHTS, kind, matrix, np.array([3, 0]), n_exact_sums=n)
            assert total == pytest.approx(exact_total, abs=700 * 1e-6)
            errors.append(np.abs(sums - exact_sums)[1:-1] / bound[1:-1])
            assert (errors[-1] <= 5e-6).all()
        # Posteriors are in float32 in any case; what changes is which components go through float64.
        assert (errors[1][:, 3] != errors[0][:, 3]).any() and (errors[1][:, 0] == errors[0][:, 0]).all()
        assert (errors[2][:, 0] != errors[0][:, 0]).any()

    @every_kind
    def test_it_adds_to_what_is_there(self, kind):
        frames, matrix = self.inputs(kind)
        _, alone, _ = self.run(frames, NO_WEIGHTS, kind, matrix)
        sums = np.full_like(alone, 1000.0)
        place = np.array([[0.0] * 3, [1.0] * 3])
        arguments = (*place.astype(np.float32), place, kind, 128, matrix.astype(np.float32))
        kernels.accumulate(
            *(frames, NO_WEIGHTS, *arguments, NONE_SHARP, 0, matrix[NONE_SHARP]),
            *(np.zeros(700, bool), sums),
        )
        np.testing.assert_allclose(sums, 1000.0 + alone, rtol=1e-12)

    @every_kind
    def test_a_component_of_no_density_gets_nothing(self, kind):
        frames, matrix = self.inputs(kind)
        matrix[1] = 0.0
        matrix[1, -1] = LOG2_OF_NOTHING
        for sharp in (NONE_SHARP, np.array([1])):
            _, sums, _ = self.run(frames, NO_WEIGHTS, kind, matrix, sharp)
            assert 0 <= sums[-1, 1] <= 700 * 2.0**-59


@pytest.fixture(scope="module")
def import_without_cache(tmp_path_factory):
    """Import a copy of the package where every folder that numba could keep compiled code in is blocked."""
    tmp_path = tmp_path_factory.mktemp("no_cache")
    package = tmp_path / "speechgmm"
    shutil.copytree(Path(speechgmm.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "em" / "__pycache__").write_text("a file where the folder should be")
    blocked = {name: os.path.join(os.devnull, "x") for name in ("NUMBA_CACHE_DIR", "HOME", "XDG_CACHE_HOME")}
    environment = {**os.environ, **blocked, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTHONWARNINGS", None)
    program = "import numpy; from speechgmm.em import kernels; print(kernels.exp2(numpy.float32(-2)))"
    return subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )


class TestCache:
    def test_without_a_cache_folder_code_is_compiled_anew_with_a_warning(self, monkeypatch):
        calls = []

        def njit(signatures=None, cache=False, **options):
            calls.append(cache)
            if cache:
                raise RuntimeError("no locator available")
            return lambda function: function

        monkeypatch.setattr(compiled, "njit", njit)
        monkeypatch.setattr(compiled, "_cacheable", True)
        with pytest.warns(
            SpeechGMMWarning, match=r"cannot be kept \(no locator.*Set NUMBA_CACHE_DIR to"
        ) as caught:
            double = compiled.compiled("float64(float64)")(lambda x: 2 * x)
        assert double(3.0) == 6.0
        assert calls == [True, False] and len(caught) == 1
        compiled.compiled("float64(float64)")(lambda x: x)  # no second warning
        assert calls == [True, False, False]

    def test_kept_code_is_used_until_a_source_of_any_kernel_changes(self, monkeypatch, tmp_path):
        path = tmp_path / "doubling.py"
        path.write_text("def double(x):\n    return 2 * x\n")

        def hits():
            spec = importlib.util.spec_from_file_location("doubling", path)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            double = compiled.compiled("float64(float64)")(module.double)
            assert double(3.0) == 6.0
            return sum(double.stats.cache_hits.values())

        assert [hits(), hits()] == [0, 1]
        monkeypatch.setattr(compiled, "SOURCES", "others")
        assert [hits(), hits()] == [0, 1]

    def test_one_warning_for_all_kernels(self, import_without_cache):
        assert import_without_cache.stderr.count("SpeechGMMWarning") == 1

    def test_kernels_work_without_any_cache_folder(self, import_without_cache):
        assert import_without_cache.returncode == 0, import_without_cache.stderr
        assert import_without_cache.stdout.strip() == "0.25"
        assert "Set NUMBA_CACHE_DIR to a folder that can be written." in import_without_cache.stderr
