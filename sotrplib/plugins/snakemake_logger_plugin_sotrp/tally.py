"""Counts of a run by rule, its rate and the time left, from Snakemake's log events."""

import logging
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

LOG_LINES = 12  # of the log of a job that failed
FIRST_GUESS = 3  # jobs that must be done before the time left is told


@dataclass
class Job:
    """A job that was started."""

    rule: str
    name: str
    started: float


_ALL_STAGES = "process_map"  # the job of a map where `maps.stages` is together


class Tally:
    """State of one run.

    Parameters
    ----------
    unit : str
        Rule whose jobs are counted as maps; jobs are counted where the run has none of it.
    clock : function, optional
        Gives seconds.
    """

    def __init__(self, *, unit, clock=time.monotonic):
        self.unit, self.clock = unit, clock
        self.totals, self.done, self.seconds = Counter(), Counter(), Counter()
        self.running, self.failed = {}, {}
        self.started = clock()

    def handle(self, record):
        """Take in one log record; text for people if there is any worth telling."""
        event = str(getattr(record, "event", None) or "")
        act = getattr(self, f"_on_{event}", None)
        if act is not None:
            return act(record) or ""
        return record.getMessage() if not event and record.levelno >= logging.WARNING and record.msg else ""

    def counts(self):
        """Number of maps, or of jobs in a run without maps: (done, total, name)."""
        for unit in (self.unit, _ALL_STAGES):
            if self.totals[unit]:
                return self.done[unit], self.totals[unit], "maps"
        return self.done.total(), self.totals.total(), "jobs"

    def elapsed_s(self):
        """Seconds since the start."""
        return self.clock() - self.started

    def rate_per_min(self):
        """Maps, or jobs, a minute."""
        return 60 * self.counts()[0] / max(self.elapsed_s(), 1e-3)

    def left_s(self):
        """Seconds left, None before there is anything to tell it from.

        The jobs left at the mean time of their rule, that of all jobs for rules without a finished job, shared among
        as many jobs as ran at a time so far.
        """
        n_done, spent = self.done.total(), self.seconds.total()
        if n_done < FIRST_GUESS or not spent:
            return None
        means = {rule: self.seconds[rule] / self.done[rule] for rule in self.done}
        work = sum((self.totals[rule] - self.done[rule]) * means.get(rule, spent / n_done) for rule in self.totals)
        ages = [(job.rule, self.clock() - job.started) for job in list(self.running.values())]
        spent += sum(age for _, age in ages)
        work -= sum(min(age, means.get(rule, age)) for rule, age in ages)
        return max(work, 0.0) / max(spent / max(self.elapsed_s(), 1e-3), 1.0)

    def _on_run_info(self, record):
        self.totals = Counter({rule: count for rule, count in record.stats.items() if rule != "total"})
        self.started = self.clock()

    def _on_job_info(self, record):
        name = " ".join([record.rule_name, *map(str, dict(record.wildcards or {}).values())])
        self.failed.pop(record.jobid, None)
        self.running[record.jobid] = Job(record.rule_name, name, self.clock())

    def _on_job_finished(self, record):
        job = self.running.pop(record.job_id, None)
        if job is not None:
            self.done[job.rule] += 1
            self.seconds[job.rule] += self.clock() - job.started

    def _on_job_error(self, record):
        job = self.running.pop(record.jobid, None)
        self.failed[record.jobid] = job
        logs = [str(path).split(" (")[0] for path in record.log or ()]
        return "\n".join([f"failed: {job.name if job else record.rule_name}", *(_tail(path) for path in logs)])

    def _on_error(self, record):
        return "" if self.failed else record.getMessage()


def _tail(path):
    """Last lines of a text file, indented; its name alone if it cannot be read."""
    try:
        lines = Path(path).read_text(errors="replace").splitlines()[-LOG_LINES:]
    except OSError:
        lines = []
    return "\n".join([f"  {path}", *(f"    {line}" for line in lines)])
