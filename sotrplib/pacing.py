"""How often Snakemake weighs which of the waiting jobs to start.

Snakemake limits the jobs that it starts in a span of time, and after each look at those that wait it sets a timer to
look again when the span is over. Each of these looks sets another timer, and so does each job that ends: after n jobs
it looks n times a span. A hundred small maps cost it three times what they need, ten thousand would keep it at nothing
else. The looks are of use where the limit held jobs back, and one of them is enough.
"""

import threading


class SingleTimer:
    """Calls ``release`` some time after it was asked to, once for all that ask in the meantime.

    Whoever asks while ``release`` is called starts a new timer: nobody who asked is forgotten.
    """

    def __init__(self, release):
        self._release = release
        self._lock = threading.Lock()
        self._waiting = False

    def __call__(self, delay):
        with self._lock:
            if self._waiting:
                return
            self._waiting = True
        timer = threading.Timer(delay, self._fire)
        timer.daemon = True  # nothing is left to look at when the run is over
        timer.start()

    def _fire(self):
        with self._lock:
            self._waiting = False
        self._release()


def calm(scheduler):
    """Let a scheduler of Snakemake look again only for what its limit held back, with one timer at a time.

    Parameters
    ----------
    scheduler : snakemake.scheduling.job_scheduler.JobScheduler
        That of the run, from ``workflow.scheduler``. One that knows of no such timers is left as it is.

    Returns
    -------
    bool
        Whether it had timers to replace.
    """
    if not all(hasattr(scheduler, name) for name in ("_schedule_reevalutation", "_open_jobs", "job_rate_limiter")):
        return False
    limiter, timer = scheduler.job_rate_limiter, SingleTimer(scheduler._open_jobs.release)

    def look_again(delay):
        if limiter is None or not limiter.get_free_jobs():  # else cores are what jobs wait for, and a job's end tells
            timer(delay)

    scheduler._schedule_reevalutation = look_again
    return True
