"""Work over several cores: order, errors, and the number of BLAS threads."""

import threading
import time

import joblib
import numpy as np
import pytest
import threadpoolctl

from speechgmm.errors import InputError
from speechgmm.parallel import (
    largest_first,
    no_progress,
    one_blas_thread,
    parallel_map,
    shard_map,
    worker_count,
)


def blas_threads():
    """Threads of NumPy's own BLAS."""
    (first, *_) = [library for library in threadpoolctl.threadpool_info() if "numpy" in library["filepath"]]
    return first["num_threads"]


@pytest.fixture
def outer_threads():
    """Two BLAS threads outside, whatever the machine."""
    with threadpoolctl.threadpool_limits(2, "blas"):
        assert blas_threads() == 2
        yield 2


@pytest.mark.parametrize("n_jobs", [1, 2, 3])
def test_results_come_in_order_whatever_takes_long(n_jobs):
    def slow(n):
        time.sleep(0.02 if n % 4 == 0 else 0.0)
        return n * n

    assert list(parallel_map(slow, range(40), n_jobs)) == [n * n for n in range(40)]
    assert list(parallel_map(slow, iter([5, 3, 9]), n_jobs)) == [25, 9, 81]
    assert list(parallel_map(slow, [], n_jobs)) == []


def test_several_workers_work_at_once():
    both = threading.Barrier(2, timeout=30)

    def meet(n):
        both.wait()  # breaks, with an error, unless two are here
        return threading.get_ident()

    assert len(set(parallel_map(meet, range(4), 2))) == 2


def test_one_worker_is_the_caller_and_lazy():
    seen = []

    def note(n):
        seen.append(threading.get_ident())
        return n

    results = parallel_map(note, range(100), 1)
    assert next(results) == 0
    assert seen == [threading.get_ident()]


def test_few_results_wait_at_a_time():
    started = []
    results = parallel_map(lambda n: started.append(n) or n, range(300), 2)
    assert next(results) == 0
    deadline = time.monotonic() + 1.0
    while time.monotonic() < deadline and len(started) < 300:
        time.sleep(0.01)
    n_started = len(started)
    assert list(results) == list(range(1, 300))
    assert n_started < 50


@pytest.mark.parametrize("ordered", [True, False])
def test_another_backend_may_be_chosen(ordered):
    with joblib.parallel_config(backend="sequential"):
        callers = set(parallel_map(lambda n: threading.get_ident(), range(5), 2, ordered=ordered))
    assert callers == {threading.get_ident()}


# --- results as they come


def test_unordered_results_come_as_they_are_done():
    second_is_done = threading.Event()

    def first_waits(n):
        if n == 0:
            assert second_is_done.wait(30)
        return n

    results = parallel_map(first_waits, range(6), 2, ordered=False)
    assert next(results) != 0  # in order, nothing could come before the first
    second_is_done.set()
    rest = list(results)
    assert 0 in rest and len(rest) == 5


def test_an_ordered_result_waits_for_those_before_it():
    second_is_done = threading.Event()

    def first_waits(n):
        if n == 1:
            second_is_done.set()
        return n if n else second_is_done.wait(30) and n

    assert next(parallel_map(first_waits, range(6), 2)) == 0


@pytest.mark.parametrize("n_jobs", [1, 2, 3])
@pytest.mark.parametrize("n_items", [0, 1, 2, 15, 100])
def test_unordered_results_are_all_there_once(n_jobs, n_items):
    for items in (range(n_items), iter(range(n_items))):
        results = list(parallel_map(lambda n: n * n, items, n_jobs, ordered=False))
        assert sorted(results) == [n * n for n in range(n_items)]
        if n_jobs == 1:
            assert results == sorted(results)  # there is nobody to overtake


def test_few_unordered_results_wait_at_a_time():
    started = []
    results = parallel_map(lambda n: started.append(n) or n, range(300), 2, ordered=False)
    first = next(results)
    deadline = time.monotonic() + 0.3
    while time.monotonic() < deadline and len(started) < 300:
        time.sleep(0.01)
    n_started = len(started)
    assert sorted([first, *results]) == list(range(300))
    assert n_started < 50


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_an_error_among_unordered_results_reaches_the_caller(n_jobs):
    def fail(n):
        if n == 7:
            raise InputError("frame 7 is bad")
        return n

    with pytest.raises(InputError, match="frame 7 is bad"):
        list(parallel_map(fail, range(200), n_jobs, ordered=False))
    assert sorted(parallel_map(fail, range(3), n_jobs, ordered=False)) == [0, 1, 2]  # and the next call works


@pytest.mark.filterwarnings("ignore:.*tasks have been successfully executed:UserWarning")  # joblib's
@pytest.mark.parametrize("ordered", [True, False])
def test_results_left_alone_stop_the_work(ordered):
    started = []

    def note(n):
        started.append(n)
        time.sleep(0.001)
        return n

    results = parallel_map(note, range(300), 2, ordered=ordered)
    next(results)
    results.close()
    assert len(started) < 100
    assert sorted(parallel_map(note, range(5), 2, ordered=ordered)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_an_error_in_a_worker_reaches_the_caller(n_jobs):
    def fail(n):
        if n == 7:
            raise InputError("frame 7 is bad")
        return n

    results = parallel_map(fail, range(20), n_jobs)
    with pytest.raises(InputError, match="frame 7 is bad"):
        list(results)
    with pytest.raises(InputError, match="frame 7 is bad"):
        largest_first(fail, range(20), [1] * 20, n_jobs)
    assert list(parallel_map(fail, range(3), n_jobs)) == [0, 1, 2]  # and the next call works


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_largest_first_returns_in_the_order_given(n_jobs):
    done = []
    sizes = [3, 9, 1, 9, 5]
    results = largest_first(lambda text: text.upper(), list("abcde"), sizes, n_jobs, done.append)
    assert results == list("ABCDE")
    assert done == [1, 2, 3, 4, 5]
    assert largest_first(str, [], [], n_jobs) == []


def test_largest_first_starts_with_the_largest():
    started = []
    sizes = [3, 9, 1, 9, 5]
    largest_first(started.append, list("abcde"), sizes, 1)
    assert started == list("bdeac")  # equals in the order given


@pytest.mark.parametrize("n_jobs", [2, 3])
def test_largest_first_is_the_same_with_uneven_work(n_jobs):
    def slow(n):
        time.sleep(0.005 * (n % 3))
        return -n

    assert largest_first(slow, range(20), list(range(20)), n_jobs) == [-n for n in range(20)]


def test_worker_count():
    assert [worker_count(n) for n in (1, 2, 17)] == [1, 2, 17]
    assert worker_count(-1) == joblib.cpu_count()
    assert worker_count(-2) == max(1, joblib.cpu_count() - 1)
    assert worker_count(-1000) == 1


@pytest.mark.parametrize("n_jobs", [0, 2.0, "2", None])
def test_a_bad_number_of_workers_is_refused(n_jobs):
    message = rf"`n_jobs` is {n_jobs!r}; it must be 1 or more, or -1 for all cores"
    with pytest.raises(InputError, match=message):
        worker_count(n_jobs)
    with pytest.raises(InputError, match=message):
        list(parallel_map(str, [1, 2, 3], n_jobs))


def test_true_is_not_a_number_of_workers():
    with pytest.raises(InputError, match="`n_jobs` is True; it must be 1 or more"):
        worker_count(True)


@pytest.mark.parametrize(("items", "n_jobs"), [([], 0), ([1], 0), ([1], "2"), ([1, 2], True)])
def test_a_bad_number_of_workers_is_refused_for_few_items_too(items, n_jobs):
    for ordered in (True, False):
        with pytest.raises(InputError, match="`n_jobs` is"):
            list(parallel_map(str, items, n_jobs, ordered=ordered))


def test_no_progress_shows_nothing(capsys):
    no_progress("features", 1, 2)
    assert capsys.readouterr() == ("", "")


def test_blas_has_one_thread_inside_and_the_former_number_after(outer_threads):
    with one_blas_thread():
        assert blas_threads() == 1
    assert blas_threads() == outer_threads


def test_one_blas_thread_nests(outer_threads):
    with one_blas_thread():
        with one_blas_thread(), one_blas_thread():
            assert blas_threads() == 1
        assert blas_threads() == 1
    assert blas_threads() == outer_threads


def test_blas_has_its_threads_back_after_an_error(outer_threads):
    with pytest.raises(InputError, match="inside"), one_blas_thread():
        raise InputError("inside")
    assert blas_threads() == outer_threads


def test_one_blas_thread_from_several_threads(outer_threads):
    """They come and go at different times; while any is inside there is one, afterwards the former number."""
    seen = []

    def work(seed):
        rng = np.random.default_rng(seed)
        for pause in rng.uniform(0, 0.002, 20):
            with one_blas_thread():
                time.sleep(pause)
                seen.append(blas_threads())
            time.sleep(pause / 2)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [1] * 120
    assert blas_threads() == outer_threads


def test_the_first_to_leave_does_not_take_the_limit_along(outer_threads):
    entered, leave = threading.Event(), threading.Event()

    def stay():
        with one_blas_thread():
            entered.set()
            leave.wait(30)

    thread = threading.Thread(target=stay)
    with one_blas_thread():
        thread.start()
        assert entered.wait(30)
    assert blas_threads() == 1
    leave.set()
    thread.join()
    assert blas_threads() == outer_threads


def test_workers_inside_have_one_thread_too(outer_threads):
    with one_blas_thread():
        assert set(parallel_map(lambda n: blas_threads(), range(8), 2)) == {1}
    assert blas_threads() == outer_threads


@pytest.mark.parametrize("n_jobs", [1, 2, 3])
def test_shards_come_in_order_whatever_takes_long(n_jobs):
    def slow(n):
        time.sleep(0.02 if n % 4 == 0 else 0.0)
        return n * n

    assert list(shard_map(slow, range(40), n_jobs)) == [n * n for n in range(40)]
    assert list(shard_map(slow, iter([5, 3, 9]), n_jobs)) == [25, 9, 81]
    assert list(shard_map(slow, iter([]), n_jobs)) == []


def test_shards_are_taken_as_results_are():
    taken = []
    results = shard_map(lambda n: n, (taken.append(n) or n for n in range(300)), 2)
    assert next(results) == 0
    time.sleep(0.05)
    assert len(taken) <= 8
    assert list(results) == list(range(1, 300))


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_an_error_in_a_shard_reaches_the_caller_and_stops_the_others(n_jobs):
    done = []

    def fail(n):
        if n == 7:
            raise InputError("frame 7 is bad")
        done.append(n)

    with pytest.raises(InputError, match="frame 7 is bad"):
        list(shard_map(fail, range(300), n_jobs))
    assert len(done) < 20


def test_shards_left_alone_leave_no_thread_behind():
    before = threading.active_count()
    results = shard_map(lambda n: n, range(100), 3)
    next(results)
    results.close()
    assert threading.active_count() == before
    with pytest.raises(InputError, match="`n_jobs` is 0"):
        next(shard_map(lambda n: n, range(3), 0))
