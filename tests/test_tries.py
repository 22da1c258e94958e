"""A job that is cut off leaves a note, and the last try of a map's job finds it."""

import os
import signal
from types import SimpleNamespace

import pytest

from sotrplib import store, tries

MAP_ID = "solat_i1_f090_1760100000"


@pytest.fixture
def job(tmp_path):
    """What a script sees of Snakemake at its fourth try."""
    return SimpleNamespace(
        rule="find_sources", log=[str(tmp_path / "a.log")], resources=SimpleNamespace(attempt=tries.TRIES + 1)
    )


def test_good_end_leaves_no_note(job):
    """A job that ends well is not given up afterwards, however often its group was tried."""
    with tries.noted(job):
        assert tries.note_path(job).exists()
    assert not tries.note_path(job).exists()
    assert tries.given_up(job) == ""


def test_killed_job_leaves_a_note(job):
    """A process killed by SIGKILL leaves the note that it was."""
    child = os.fork()
    if child == 0:
        with tries.noted(job):
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    reason = tries.given_up(job)
    assert reason == f"given up after 3 tries: find_sources {tries.KILLED}"
    assert tries.is_given_up(reason)


def test_early_tries_are_made(job):
    """Up to the third try a job is not given up, whatever became of the one before."""
    with pytest.raises(MemoryError), tries.noted(job):
        raise MemoryError
    assert tries.given_up(job)
    for job.resources.attempt in range(1, tries.TRIES + 1):
        assert tries.given_up(job) == ""


def test_job_killed_as_it_notes(job):
    """A note without a word, since its job was killed in that moment, is one of a killed job."""
    tries.note_path(job).touch()
    assert tries.given_up(job) == f"given up after 3 tries: find_sources {tries.KILLED}"


def test_what_was_recorded_is_forgotten(tmp_path):
    """Maps that were given up are forgotten whatever ended the run; maps at fault themselves are not."""
    for name, reason in ((MAP_ID, f"{tries.GIVEN_UP}: a was killed"), ("other", "no image")):
        store.write(tmp_path / "a" / f"{name}.h5", attrs={"status": "failed", "reason": reason})
        log = tmp_path / "logs" / "a" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        tries.remember(SimpleNamespace(log=[str(log)]), reason)
    tries.forget_all(tmp_path)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["other.h5"]
    assert list((tmp_path / "logs" / "a").iterdir()) == []


def test_forgetting_leaves_good_results(tmp_path):
    """What a given-up map recorded as failed goes, and the damaged file it names; good files and others' stay."""
    for stage, name, status in (("a", MAP_ID, "ok"), ("b", MAP_ID, "failed"), ("b", "other", "failed")):
        store.write(tmp_path / stage / f"{name}.h5", attrs={"status": status})
    damaged = tmp_path / "c" / "x.h5"
    damaged.parent.mkdir()
    damaged.write_bytes(b"half")
    tries.forget(tmp_path, MAP_ID, tries.GIVEN_UP)
    assert damaged.exists()
    tries.forget(tmp_path, MAP_ID, tries.of_damage(damaged, "cut short: half"))
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.h5"))
    assert left == [f"a/{MAP_ID}.h5", "b/other.h5"]


@pytest.mark.parametrize("reason", ["", "a.fits: is truncated"])
def test_bad_map_is_not_given_up(reason):
    """A map that is bad in itself is not tried again before its file changes."""
    assert not tries.is_given_up(reason)
