"""One look at the waiting jobs is due at a time, and none that was asked for is left out."""

import threading
import time
from types import SimpleNamespace

from sotrplib import pacing


def test_many_requests_give_one_call():
    """Whatever asks while a call is due is served by it."""
    calls = []
    timer = pacing.SingleTimer(lambda: calls.append(time.monotonic()))
    for _ in range(50):
        timer(0.05)
    time.sleep(0.5)
    assert len(calls) == 1


def test_a_request_during_the_call_starts_another():
    """A call that asks again is followed by another: the chain of looks does not end by itself."""
    done = threading.Event()
    calls = []

    def release():
        calls.append(1)
        done.set() if len(calls) == 5 else timer(0.001)

    timer = pacing.SingleTimer(release)
    timer(0.001)
    assert done.wait(20)


def test_timers_do_not_keep_a_process_alive():
    """A run that is over ends at once, whatever was due later."""
    timer = pacing.SingleTimer(lambda: None)
    before = set(threading.enumerate())
    timer(60.0)
    (started,) = set(threading.enumerate()) - before
    assert started.daemon
    started.cancel()


class Limiter:
    """Limit of starts with a number of places free."""

    def __init__(self, free):
        self.free = free

    def get_free_jobs(self):
        return self.free


def scheduler_with(limiter):
    """What a scheduler of the engine has to do with timers."""
    return SimpleNamespace(_open_jobs=threading.Semaphore(0), _schedule_reevalutation=None, job_rate_limiter=limiter)


def test_the_engine_still_has_what_is_replaced():
    """The names that are replaced are those of the engine as installed."""
    from snakemake.scheduling import job_scheduler

    assert callable(job_scheduler.JobScheduler._schedule_reevalutation)
    assert callable(job_scheduler.JobRateLimiter.get_free_jobs)
    assert {"_open_jobs", "job_rate_limiter"} <= set(job_scheduler.JobScheduler.__init__.__code__.co_names)


def test_what_the_limit_held_back_is_looked_at_again():
    """Without a free place the scheduler is woken when the span is over."""
    scheduler = scheduler_with(Limiter(0))
    assert pacing.calm(scheduler)
    scheduler._schedule_reevalutation(0.001)
    assert scheduler._open_jobs.acquire(timeout=20)


def test_what_waits_for_cores_is_not():
    """With places free the end of a job is what starts another."""
    scheduler = scheduler_with(Limiter(7))
    assert pacing.calm(scheduler)
    scheduler._schedule_reevalutation(0.001)
    assert not scheduler._open_jobs.acquire(timeout=0.2)


def test_a_scheduler_without_timers_is_left_alone():
    """Another version of the engine may have none."""
    assert not pacing.calm(SimpleNamespace())
