"""Tries of a map's job that were cut off: by want of memory or time, or because their machine was lost.

A job that is killed cannot say so. Each try therefore leaves a note beside its log before it begins, and takes it
away when it has ended well. Snakemake tries a failed job again, with more memory and time where the profile says so,
and once more than ``TRIES`` times (``retries`` in profiles/default): the last try finds the note of the one before and
records the map as failed instead of working in vain, so that one map never costs the others. What was recorded for
such a reason is removed when the run ends, so that the same command tries it again; a second note beside the log
tells of it, for runs that fail before the rule which tells of failed maps.
"""

from contextlib import contextmanager
from pathlib import Path

from sotrplib import store

TRIES = 3
GIVEN_UP = f"given up after {TRIES} tries"
NOT_AT_FAULT = "to be made anew"  # begins the reason of a map whose files in the workflow are damaged
_RECORDED = ".recorded"
KILLED = "was killed: out of memory, out of time, or its machine was lost"


def note_path(job):
    """Where a job notes that it has not ended: beside its log."""
    return Path(job.log[0]).with_suffix(".stopped")


@contextmanager
def noted(job):
    """Note beside the log of ``job`` how this try ended, unless it ends well."""
    path = note_path(job)
    path.write_text(KILLED)
    try:
        yield
    except BaseException as error:
        path.write_text(f"ended with {type(error).__name__}: {error}")
        raise
    path.unlink(missing_ok=True)


def given_up(job):
    """Reason not to try ``job`` again, or empty text.

    Parameters
    ----------
    job : snakemake object of a script
        Its resource ``attempt`` counts the tries from 1, for all jobs of a group together: a job whose own last try
        ended well is never given up.
    """
    path = note_path(job)
    if job.resources.attempt <= TRIES or not path.exists():
        return ""
    return f"{GIVEN_UP}: {job.rule} {path.read_text() or KILLED}"  # empty: killed as it wrote


def is_given_up(reason):
    """Whether the reason of a failed map is one of :func:`given_up` or of damage: another run may do better."""
    return reason.startswith((GIVEN_UP, NOT_AT_FAULT))


def remember(job, reason):
    """Note beside the log of ``job`` that its map was recorded as failed, where another run may do better."""
    if is_given_up(reason):
        Path(job.log[0]).with_suffix(_RECORDED).write_text(reason)


def forget_all(folder):
    """:func:`forget` every map that a job was noted for by :func:`remember`; ``folder`` holds ``logs/{rule}`` too."""
    for path in Path(folder).glob(f"logs/*/*{_RECORDED}"):
        forget(folder, path.stem, path.read_text())


def of_damage(path, reason):
    """Reason of a map that failed since the file ``path`` of the workflow is damaged."""
    return f"{NOT_AT_FAULT}: {path}: {reason}"


def forget(folder, map_id, reason):
    """Remove what was recorded in place of the results of a map that was given up, so that another run tries it again.

    Parameters
    ----------
    folder : path
        Holds a folder of files ``{map_id}.h5`` for each stage, and the logs.
    map_id, reason : str
        The map, and why it failed: a damaged file that :func:`of_damage` named there is removed too. It could not be
        before, since the engine lets no job run whose input is missing.
    """
    if reason.startswith(NOT_AT_FAULT):
        Path(reason.split(": ")[1]).unlink(missing_ok=True)
    for path in Path(folder).glob(f"logs/*/{map_id}{_RECORDED}"):
        path.unlink()
    for path in Path(folder).glob(f"*/{map_id}.h5"):
        if store.read_attrs(path).get("status") == "failed":
            path.unlink()
