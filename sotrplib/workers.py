"""Work spread over the cores of a job, its results in the order of what they are made of.

The cores are those of OMP_NUM_THREADS, which Snakemake sets to the ``threads`` of a rule. On one core, and without the
variable, everything is done one after the other.
"""

import os
from collections import deque
from contextlib import contextmanager

_VARIABLE = "OMP_NUM_THREADS"
_LIBRARIES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of malloc.h
_KEPT_BYTES = 96 * 2**20
_work = None  # in a process of a pool: what it does; a closure cannot be sent to it


def n_cores():
    """Cores of this job; of a list, as OpenMP takes it for nested work, the first."""
    return max(1, int((os.environ.get(_VARIABLE) or "1").split(",")[0]))


@contextmanager
def processes(function):
    """A function of items that gives ``function`` of each, several at a time in processes of their own.

    The processes are forks of this one: they have its memory at no cost, and give back what can be pickled. A context
    manager; on one core the results are made when they are asked for, and no process is.

    Examples
    --------
    >>> with processes(abs) as each:
    ...     list(each([-1, 2]))
    [1, 2]
    """
    if n_cores() == 1:
        yield lambda items: map(function, items)
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(n_cores(), context, initializer=_begin, initargs=(function,)) as pool:
        yield lambda items: pool.map(_do, items)


def in_threads(function, items):
    """``function`` of each item, several at a time: for NumPy's work on arrays, which leaves the interpreter free."""
    if n_cores() == 1:
        return [function(item) for item in items]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(n_cores()) as pool:
        return list(pool.map(function, items))


def ahead(function, items):
    """``function`` of each item in turn; on several cores that of the next is made while the last is used."""
    if n_cores() == 1:
        yield from map(function, items)
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        coming = deque()
        for item in items:
            coming.append(pool.submit(function, item))
            if len(coming) > 1:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()


def limit_libraries():
    """Give linear algebra one thread, those that are loaded and those to come, where a job has several cores.

    Ours is of small matrices: threads wait for each other longer than they work, all the more in many processes.
    """
    if n_cores() > 1:
        from threadpoolctl import threadpool_limits

        os.environ.update(dict.fromkeys(_LIBRARIES, "1"))
        threadpool_limits(1, user_api="blas")


def keep_memory():
    """Let the C library keep the memory of arrays that are gone for those to come, where it can be told to (glibc).

    It maps the room of each array of more than 128 KiB anew and gives it back at once, so that the system clears every
    page of the next: an eighth of the CPU time of a large map. Without such mappings arrays take the place of others.
    """
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def give_back_memory():
    """Give what the C library kept (:func:`keep_memory`) back to the system, before arrays of other sizes are made."""
    import ctypes

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)


def _begin(function):
    """Start a process of a pool, which has one core."""
    global _work
    limit_libraries()
    os.environ[_VARIABLE] = "1"
    _work = function


def _do(item):
    return _work(item)
