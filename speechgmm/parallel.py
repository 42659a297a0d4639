"""Work over several cores: joblib, one BLAS thread for each worker, and progress."""

import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from itertools import islice
from numbers import Integral
from typing import Any, Literal, Protocol, TypeVar

from speechgmm.errors import InputError

# Results of each worker that may wait to be taken.
WAITING = 16

Workers = Literal["threads", "processes"]
Item = TypeVar("Item")
Result = TypeVar("Result")


class Progress(Protocol):
    """Called as work goes on: `progress(stage, done, total)`."""

    def __call__(self, stage: str, done: int, total: int) -> None: ...


def no_progress(stage: str, done: int, total: int) -> None:
    """Show nothing."""


def check_jobs(n_jobs: int) -> None:
    """Raise `InputError` unless `n_jobs` is a whole number other than 0."""
    if isinstance(n_jobs, bool) or not isinstance(n_jobs, Integral) or n_jobs == 0:
        raise InputError(f"`n_jobs` is {n_jobs!r}; it must be 1 or more, or -1 for all cores")


def worker_count(n_jobs: int) -> int:
    """How many workers `n_jobs` stands for: 1 and more as given, -1 all cores, -2 all but one.

    Raises
    ------
    InputError
        If `n_jobs` is 0 or not a whole number.
    """
    check_jobs(n_jobs)
    if n_jobs > 0:
        return n_jobs
    import joblib

    return int(max(1, joblib.cpu_count() + 1 + n_jobs))


def parallel_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    n_jobs: int = 1,
    prefer: Workers = "threads",
    ordered: bool = True,
) -> Iterator[Result]:
    """Yield `function(item)` of many items, computed by several workers.

    In the order of `items`, so a caller that folds the results gets the same bits on any number of cores. Few
    results wait at a time.

    Parameters
    ----------
    function : callable
    items : iterable
    n_jobs : int
        See `worker_count`.
    prefer : {"threads", "processes"}
        Threads for work that releases the interpreter lock: NumPy on large arrays, BLAS, FFT, the compiled
        kernels. `joblib.parallel_config` may choose another backend.
    ordered : bool
        False: as they come.
    """
    check_jobs(n_jobs)
    if n_jobs == 1 or (isinstance(items, Sequence) and len(items) < 2):
        yield from map(function, items)
        return
    # Imported here: it takes longer than classifying a short file.
    import joblib

    workers, rest = worker_count(n_jobs), iter(items)
    # In slices, because joblib goes on working however many results wait to be taken.
    form = "generator" if ordered else "generator_unordered"
    backend, _ = joblib.parallel.get_active_backend(prefer=prefer)
    if not backend.supports_return_generator:  # multiprocessing: a slice at a time, then
        form = "list"
    with joblib.Parallel(n_jobs=workers, prefer=prefer, return_as=form) as parallel:
        while slice_ := list(islice(rest, WAITING * workers)):
            results = parallel(joblib.delayed(function)(item) for item in slice_)
            try:
                for result in results:  # noqa: UP028 (`yield from` would close them, and joblib warn, too soon)
                    yield result
            except GeneratorExit:  # whoever took the results has enough of them, which joblib warns of
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)
                    results.close()
                raise


def shard_map(function: Callable[[Item], Result], items: Iterable[Item], n_jobs: int = 1) -> Iterator[Result]:
    """`parallel_map` for pieces of work that take milliseconds and release the interpreter lock.

    In threads of this process, without joblib, which looks for results only every 10 ms. Items are taken from their
    iterator as results are taken, a few ahead, so a stream is read while workers work, and never piles up.
    """
    check_jobs(n_jobs)
    if n_jobs == 1 or (isinstance(items, Sequence) and len(items) < 2):
        yield from map(function, items)
        return
    workers, rest = worker_count(n_jobs), iter(items)
    executor = ThreadPoolExecutor(workers)
    try:
        running = deque(executor.submit(function, item) for item in islice(rest, 3 * workers))
        while running:
            result = running.popleft().result()
            running.extend(executor.submit(function, item) for item in islice(rest, 1))
            yield result
    finally:
        executor.shutdown(cancel_futures=True)


def largest_first(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    sizes: Sequence[int],
    n_jobs: int = 1,
    on_done: Callable[[int], None] | None = None,
) -> list[Result]:
    """`[function(item) for item in items]`, started with the largest so that no core ends up waiting for it."""
    order = sorted(range(len(items)), key=lambda index: (-sizes[index], index))
    results: dict[int, Result] = {}
    for result in parallel_map(function, [items[index] for index in order], n_jobs):
        results[order[len(results)]] = result
        if on_done is not None:
            on_done(len(results))
    return [results[index] for index in range(len(items))]


def _controller() -> Any:
    """The BLAS libraries of this process: NumPy's, and SciPy's from when the compiled kernels load it."""
    return _find_libraries("scipy.linalg.cython_blas" in sys.modules)


@cache
def _find_libraries(with_scipy: bool) -> Any:
    """Found once for each set, because the search takes milliseconds."""
    import numpy  # noqa: F401  (loads the BLAS that is to be found)
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _take_control() -> None:
    """Let this thread set the limit: threadpoolctl 3.8 and later otherwise heed only the one that set it last."""
    for library in _controller().lib_controllers:
        clear = getattr(library, "clear_controlling_thread", None)
        if clear is not None:
            clear(force=True)


_lock = threading.Lock()
_holders = 0
_limit: AbstractContextManager[Any] | None = None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold BLAS to one thread while inside; nests, and is safe from several threads at once.

    Workers times BLAS threads would be more threads than cores, and two BLAS threads change the last bits.
    The number of threads belongs to the whole process: the first to enter sets it, the last to leave restores it.
    """
    global _holders, _limit
    with _lock:
        if _holders == 0:
            _take_control()
            _limit = _controller().limit(limits=1, user_api="blas")
            _limit.__enter__()
        _holders += 1
    try:
        yield
    finally:
        with _lock:
            _holders -= 1
            if _holders == 0 and _limit is not None:
                _take_control()
                _limit.__exit__(None, None, None)
                _limit = None
