"""Where a job's messages go, and what becomes of a map that cannot be used.

A map that cannot be used costs that map and nothing else: its job succeeds and writes a file with
status "failed", the reason and zero-row tables; later jobs of the map see the status and pass it on.
So does a map whose files in the workflow are damaged, or whose jobs were cut off time and again, but since
the map is not at fault the next call of the workflow tries it again.
"""

import atexit
import gc
import logging
import os
import re
import resource
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from sotrplib import mapindex, provenance, store, tables, tries, workers

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
LEVEL_VARIABLE = "SOTRP_LOG_LEVEL"  # environment variable: DEBUG, INFO or WARNING
_USED = "used {cpu_s:.2f} s of CPU, {memory_mb:.0f} MB at the peak, read {read_mb:.1f} MB, wrote {written_mb:.1f} MB"
_FOUND = re.compile(re.sub(r"\{(\w+):\S+?\}", r"(?P<\1>[\\d.]+)", _USED) + "$")
_GARBAGE_OBJECTS = 50_000  # more than before, by which garbage is looked for; Python's own number is 700
_log = logging.getLogger(__name__)
gc.set_threshold(_GARBAGE_OBJECTS)  # what is imported is no garbage: a twentieth of a small job was to look
atexit.register(gc.freeze)  # a fifth of a small job was the search for garbage in what the process is about to give up


class Stopped(BaseException):
    """The job was told to stop by a signal: its time is up, or it was cancelled."""


@contextmanager
def capture(path):
    """Send logging, warnings, standard error and the traceback of an error to the file ``path``.

    Standard error is redirected as a file descriptor, so what compiled libraries say is caught too.
    An error is raised again after it was written down. The least serious level logged is that of the environment
    variable ``SOTRP_LOG_LEVEL``, else INFO. SIGTERM, with which a cluster ends a job whose time is up, raises
    :class:`Stopped`, so that it is logged too. The last line says what the process used since it began.
    """
    workers.limit_libraries()
    workers.keep_memory()
    sys.stderr.flush()
    kept = os.dup(2)
    with open(path, "w", buffering=1) as file:
        handler = logging.StreamHandler(file)
        handler.setFormatter(logging.Formatter(FORMAT))
        root = logging.getLogger()
        level = root.level
        root.addHandler(handler)
        root.setLevel(os.environ.get(LEVEL_VARIABLE, "INFO"))
        logging.captureWarnings(True)
        os.dup2(file.fileno(), 2)
        handler_of_term = signal.signal(signal.SIGTERM, _stop)
        try:
            yield
        except BaseException:
            _log.exception("stopped")
            raise
        finally:
            _log.info(_USED.format(**resources_used()))
            signal.signal(signal.SIGTERM, handler_of_term)
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            logging.captureWarnings(False)
            root.setLevel(level)
            root.removeHandler(handler)


def resources_used():
    """What this process has used since it began, with the processes that it started and that are over.

    Returns
    -------
    dict
        ``cpu_s``; ``memory_mb``, resident at the peak; ``read_mb`` and ``written_mb`` by system calls, whether from a
        disk or its cache; the last three of this process alone. Where the system does not tell (no ``/proc``), 0.
    """
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    peak_kb, read, written = (_told("status", "VmHWM"), *(_told("io", name) for name in ("rchar", "wchar")))
    totals = {"memory_mb": peak_kb / 1024, "read_mb": read / 1e6, "written_mb": written / 1e6}
    return {"cpu_s": sum(one.ru_utime + one.ru_stime for one in used)} | totals


def _told(name, key):
    """Number of ``key`` in a file of /proc/self, 0 without one."""
    try:
        lines = Path("/proc/self", name).read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{key}:")), 0)


def read_resources(path):
    """What the job of a log file had used at its end, as of :func:`resources_used`; empty if it does not say."""
    try:
        last = Path(path).read_text(encoding="utf-8").rstrip().rpartition("\n")[2]
    except OSError:
        return {}
    found = _FOUND.search(last)
    return {name: float(value) for name, value in found.groupdict().items()} if found else {}


def _stop(number, _frame):
    raise Stopped(f"{signal.Signals(number).name}: out of time, or cancelled")


def run_job(job, main):
    """Do the job of a rule of all maps: ``main(job)``, with its messages in its log.

    Inputs that another clock dated into the future get the date of now, or Snakemake would not accept any output. A
    damaged file of the workflow is removed, so that the next call makes it anew, and the job fails.
    """
    with capture(job.log[0]):
        settle_dates(job.input)
        try:
            return main(job)
        except store.DamagedError as error:
            if mapindex.is_made(error.path):
                _log.error("%s: removed, to be made anew by the next call", error.path)
                Path(error.path).unlink(missing_ok=True)  # another job may have found it too
            raise


def settle_dates(paths):
    """Give files of the workflow that are dated into the future the date of now."""
    for path in filter(os.path.exists, filter(mapindex.is_made, paths)):
        if os.stat(path).st_mtime > time.time():
            _log.warning("%s: dated into the future; set to now: compare the clocks of the machines", path)
            os.utime(path)


def write_tables(path, result, attrs):
    """Write what a map's job returned: a dict with any of ``attrs``, ``arrays`` and ``frames``."""
    store.write(path, attrs=attrs | result.get("attrs", {}), arrays=result.get("arrays"), frames=result.get("frames"))


def run_map_job(job, work, *, schemas=(), write=write_tables, before_failed=None, required=None):
    """Do one map's job of one rule, and record a map that cannot be used instead of stopping the run.

    Parameters
    ----------
    job : snakemake object of a script
        With one log, a first output, the wildcard map_id and the resource ``attempt``.
    work : function of ``job``
        Reads and computes; its result is written outside of it, so that a full disk is not taken for a bad map.
    schemas : tuple of str, or dict of str to str
        Names of the tables of the output, each in the group of its name, or groups and their tables; without rows in a
        failed map.
    write : function of (path, result, attrs)
        Writes the result of ``work``.
    before_failed : function of the reason, optional
        Makes the other outputs of a map that failed, before its file is written.
    required : sequence of path, optional
        Input files whose failure is that of the job; default all of them.

    Raises
    ------
    MemoryError, OSError
        When the machine and not the map is at fault, or the output cannot be written: another try may succeed. After
        :data:`tries.TRIES` tries that were cut off the map is recorded as failed.
    """
    given_up = tries.given_up(job)
    with capture(job.log[0]), tries.noted(job):
        settle_dates(job.input)
        attrs = {"map_id": job.wildcards.map_id, "provenance": provenance.job_record(job)}
        result, reason = _try(job, work, given_up, job.input if required is None else required)
        if reason:
            groups = schemas if isinstance(schemas, dict) else {name: name for name in schemas}
            frames = {group: (name, tables.empty(name)) for group, name in groups.items()}
            if before_failed:
                before_failed(reason)
            store.write(job.output[0], attrs=attrs | {"status": "failed", "reason": reason}, frames=frames)
            tries.remember(job, reason)
        else:
            write(job.output[0], result, attrs | {"status": "ok", "reason": ""})


def _try(job, work, given_up, required):
    """Result of ``work`` and no reason, or None and the reason it cannot be had, such as ``given_up``."""
    try:
        reason = given_up or failure(required)
        if not reason:
            return work(job), ""
        _log.error("not tried: %s", reason)
    except Exception as error:  # whatever is wrong with one map must not cost the others
        if isinstance(error, MemoryError) or getattr(error, "errno", None) in store.MACHINE_TROUBLE:
            raise
        _log.exception("%s: this map is recorded as failed", job.wildcards.map_id)
        reason = _describe(error)
        if isinstance(error, store.DamagedError) and mapindex.is_made(error.path):
            reason = tries.of_damage(error.path, reason)
    return None, reason


def failure(paths):
    """Reason of the first of the workflow's own files that says its map failed, or empty text."""
    for path in paths:
        if str(path).endswith(".h5"):
            attrs = store.read_attrs(path)
            if attrs.get("status") == "failed":
                return attrs["reason"] or "no reason given"
    return ""


def _describe(error):
    text = str(error).strip() or "no message"
    return text if isinstance(error, ValueError) else f"{type(error).__name__}: {text}"
