"""Work spread over cores."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from sotrplib import store, workers


@pytest.fixture(params=["1", "2"])
def cores(request, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", request.param)
    return int(request.param)


def test_results_come_in_order_and_from_other_processes(cores):
    """Whatever the cores, results are in the order of the items; with several, none is made in this process."""
    shift = 10
    with workers.processes(lambda item: (item + shift, os.getpid())) as each:
        found = list(each(range(5)))
    assert [value for value, _ in found] == [10, 11, 12, 13, 14]
    assert (os.getpid() in {process for _, process in found}) is (cores == 1)


def test_threads_fill_an_array(cores):
    """Blocks written by threads are all there, and what they return is in order."""
    image = np.zeros((64, 8))

    def fill(row):
        image[row] = row
        return row

    assert workers.in_threads(fill, range(64)) == list(range(64))
    np.testing.assert_array_equal(image, np.arange(64)[:, None] * np.ones(8))


def test_errors_come_back(cores):
    """An error in a process is raised by its result, a damaged file with its path."""

    def fail(item):
        raise store.DamagedError(f"results/{item}.h5", "truncated")

    with workers.processes(fail) as each, pytest.raises(store.DamagedError, match="results/7.h5.*truncated") as error:
        list(each([7]))
    assert error.value.path == "results/7.h5"
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)


@pytest.mark.parametrize("value, cores", [("", 1), ("1", 1), ("3", 3), ("4,2", 4)])
def test_cores_are_those_of_the_variable(monkeypatch, value, cores):
    """An empty variable is none: one core."""
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert workers.n_cores() == cores


def test_linear_algebra_has_one_thread_in_a_job_of_two():
    """Libraries that were loaded with two threads have one after the limit, and those that come later too."""
    code = (
        "import numpy, threadpoolctl; from sotrplib import workers; workers.limit_libraries(); import scipy.linalg\n"
        "print({pool['num_threads'] for pool in threadpoolctl.threadpool_info() if pool['user_api'] == 'blas'})"
    )
    environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "2")
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{1}"


def test_results_ahead_come_in_order_with_one_more_at_most_begun(cores):
    """Each result comes in its turn; on several cores the next item is begun, and no more than that."""
    begun = []

    def double(item):
        begun.append(item)
        return 2 * item

    for n, value in enumerate(workers.ahead(double, range(5))):
        assert value == 2 * n
        assert len(begun) <= n + cores
    assert begun == list(range(5))


def test_what_fails_ahead_is_raised_in_its_turn(cores):
    """An item that fails does so when it is asked for, after those before it."""
    found = []
    with pytest.raises(ZeroDivisionError):
        found.extend(workers.ahead(lambda item: 1 / item, [2, 1, 0, 4]))
    assert found == [0.5, 1.0]


def test_memory_is_kept_between_arrays_until_it_is_given_back():
    """In a process that keeps its memory a second array of 80 MB costs no new pages, where the C library obeys."""
    program = (
        "import resource, numpy as np\n"
        "from sotrplib import workers\n"
        "workers.keep_memory()\n"
        "faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "def touch():\n"
        "    before = faults(); np.ones(20_000_000, 'f4'); return faults() - before\n"
        "first, second = touch(), touch()\n"
        "workers.give_back_memory()\n"
        "third = touch()\n"
        "import ctypes\n"
        "assert third > first // 2 or not hasattr(ctypes.CDLL(None), 'malloc_trim'), (first, third)\n"
        "assert second < max(first // 10, 20) or not hasattr(ctypes.CDLL(None), 'mallopt'), (first, second)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
