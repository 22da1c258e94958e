"""A job's messages reach its log, and a map that cannot be used costs that map alone."""

import errno
import logging
import os
import signal
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest

from sotrplib import logs, store, tables, tries

MAP_ID = "solat_i1_f090_1760100000"


@pytest.fixture
def job(tmp_path, monkeypatch):
    """What a script of a map's rule sees of Snakemake; the working directory is an empty one."""
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path / "folder")
    upstream = tmp_path / "map.h5"
    store.write(upstream, attrs={"status": "ok", "reason": ""})
    return SimpleNamespace(
        rule="find_sources",
        input=[str(upstream)],
        output=[str(tmp_path / "out.h5")],
        log=[str(tmp_path / "out.log")],
        params={"options": {"snr_min": 5.0}},
        wildcards=SimpleNamespace(map_id=MAP_ID),
        resources=SimpleNamespace(attempt=1),
    )


def run(job, work):
    logs.run_map_job(job, work, schemas=("detections",))
    return store.read_attrs(job.output[0])


def fail(error):
    def work(_):
        raise error

    return work


def test_everything_said_reaches_the_log(tmp_path):
    """Logging, warnings and what is written to the file descriptor of standard error are all in the log."""
    path = tmp_path / "job.log"
    with logs.capture(path):
        logging.getLogger("any").info("from logging")
        warnings.warn("from warnings", stacklevel=1)
        os.write(2, b"from a compiled library\n")
    text = path.read_text()
    assert all(words in text for words in ("from logging", "from warnings", "from a compiled library"))


@pytest.mark.parametrize(("level", "said"), [("DEBUG", "abc"), ("INFO", "bc"), ("WARNING", "c"), (None, "bc")])
def test_level_is_that_of_the_environment(tmp_path, monkeypatch, level, said):
    """Messages below the level asked for, or INFO, are left out."""
    monkeypatch.delenv("SOTRP_LOG_LEVEL", raising=False)
    if level:
        monkeypatch.setenv("SOTRP_LOG_LEVEL", level)
    with logs.capture(tmp_path / "job.log"):
        for word, importance in zip("abc", (logging.DEBUG, logging.INFO, logging.WARNING), strict=True):
            logging.getLogger("any").log(importance, word)
    lines = (tmp_path / "job.log").read_text().splitlines()
    assert "".join(line[-1] for line in lines if " any: " in line) == said


def test_log_ends_with_what_the_job_used(tmp_path):
    """The last line of a log says CPU time, memory at the peak and bytes read and written since the process began."""
    path, before = tmp_path / "job.log", logs.resources_used()
    with logs.capture(path):
        (tmp_path / "data").write_bytes(bytes(30_000_000))
        (tmp_path / "data").read_bytes()
    used = logs.read_resources(path)
    assert used["cpu_s"] >= before["cpu_s"] > 0 and used["memory_mb"] > 30
    assert used["written_mb"] - before["written_mb"] == pytest.approx(30, abs=1)
    assert used["read_mb"] - before["read_mb"] == pytest.approx(30, abs=5)


def test_log_of_another_kind_says_nothing(tmp_path):
    """A log that does not end with that line, or is not there, has nothing to say."""
    (tmp_path / "job.log").write_text("used up\n")
    assert logs.read_resources(tmp_path / "job.log") == {} == logs.read_resources(tmp_path / "none.log")


def test_traceback_reaches_the_log(tmp_path):
    """An error is written to the log with its traceback and raised again."""
    path = tmp_path / "job.log"
    with pytest.raises(KeyError), logs.capture(path):
        raise KeyError("band")
    assert "Traceback" in path.read_text() and "KeyError: 'band'" in path.read_text()


def test_capture_leaves_standard_error_as_it_was(tmp_path, capfd):
    """After the job, standard error is the terminal again."""
    with logs.capture(tmp_path / "job.log"):
        pass
    os.write(2, b"to the terminal\n")
    assert capfd.readouterr().err == "to the terminal\n"


def test_result_is_written_with_status_ok(job):
    """A map that worked has status ok and names what it was made from."""
    detections = tables.empty("detections")
    attrs = run(job, lambda _: {"attrs": {"n": 3}, "frames": {"detections": ("detections", detections)}})
    assert (attrs["map_id"], attrs["status"], attrs["reason"], attrs["n"]) == (MAP_ID, "ok", "", 3)
    assert attrs["provenance"]["params"] == {"options": {"snr_min": 5.0}}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("a.fits: truncated"), "a.fits: truncated"),
        (KeyError("BUNIT"), "KeyError: 'BUNIT'"),
        (PermissionError(errno.EACCES, "denied", "a.fits"), "PermissionError: [Errno 13] denied: 'a.fits'"),
        (RuntimeError(), "RuntimeError: no message"),
    ],
)
def test_bad_map_is_recorded(job, error, reason):
    """Whatever stops a map's work is recorded with its reason, a zero-row table and the traceback in the log."""
    attrs = run(job, fail(error))
    assert (attrs["status"], attrs["reason"]) == ("failed", reason)
    assert len(store.read_table(job.output[0], "detections")) == 0
    assert "Traceback" in Path(job.log[0]).read_text()


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "disk full"), KeyboardInterrupt()])
def test_machine_trouble_is_not_the_maps(job, error):
    """A full disk or an interrupt fails the job and writes nothing, so that it is tried again."""
    with pytest.raises(type(error)):
        run(job, fail(error))
    assert not os.path.exists(job.output[0])


def test_job_that_was_cut_off_is_given_up(job):
    """After three tries without memory the fourth does no work and records the map as failed, with the last reason."""
    for job.resources.attempt in range(1, tries.TRIES + 1):
        with pytest.raises(MemoryError):
            run(job, fail(MemoryError("Unable to allocate 2 GiB")))
    job.resources.attempt += 1
    attrs = run(job, lambda _: pytest.fail("worked on a map that was given up"))
    expected = "given up after 3 tries: find_sources ended with MemoryError: Unable to allocate 2 GiB"
    assert (attrs["status"], attrs["reason"]) == ("failed", expected)
    assert len(store.read_table(job.output[0], "detections")) == 0


def test_job_told_to_stop_says_so(job):
    """SIGTERM, as at a time limit, ends the job with its traceback in the log; nothing is written."""
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(logs.Stopped, match="SIGTERM: out of time"):
        run(job, lambda _: os.kill(os.getpid(), signal.SIGTERM))
    assert "Traceback" in Path(job.log[0]).read_text()
    assert not os.path.exists(job.output[0])
    assert signal.getsignal(signal.SIGTERM) == handler


def test_damaged_results_are_named(job):
    """A map that cannot be done for a damaged file of the workflow says which; one from elsewhere is its fault."""
    reasons = [
        run(job, fail(store.DamagedError(path, "cut short")))["reason"] for path in ("results/a.h5", "given/a.h5")
    ]
    assert [tries.is_given_up(reason) for reason in reasons] == [True, False]
    assert "results/a.h5: not a readable HDF5 file" in reasons[0]


def test_damaged_tables_are_removed(job):
    """A damaged file of the workflow is gone after the job of all maps that found it; one from elsewhere stays."""
    for path in (Path("results/a.h5"), Path("given/a.h5")):
        path.parent.mkdir()
        path.write_bytes(b"half")
        for _ in range(2):
            with pytest.raises(store.DamagedError):
                logs.run_job(job, fail(store.DamagedError(path, "cut short")))
    assert not Path("results/a.h5").exists() and Path("given/a.h5").exists()


def test_future_dates_are_settled(job):
    """Files of the workflow dated into the future get the date of now; files from outside keep theirs."""
    paths = ["results/a.h5", "given/a.h5"]
    for path in map(Path, paths):
        path.parent.mkdir()
        path.touch()
        os.utime(path, (4e9, 4e9))
    job.input = paths
    logs.run_job(job, lambda _: None)
    assert os.stat(paths[0]).st_mtime < 4e9 == os.stat(paths[1]).st_mtime


def test_unwritable_output_fails_the_job(job, tmp_path):
    """An output that cannot be written is an error of the job, not of the map."""
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder should be")
    job.output = [str(blocked / "out.h5")]
    with pytest.raises(OSError, match="blocked"):
        run(job, lambda _: {})


def test_failure_is_passed_on(job):
    """A later stage of a failed map does no work and repeats the reason."""
    store.write(job.input[0], attrs={"status": "failed", "reason": "all pixels are zero"})
    attrs = run(job, lambda _: pytest.fail("worked on a failed map"))
    assert (attrs["status"], attrs["reason"]) == ("failed", "all pixels are zero")


def test_other_outputs_of_a_failed_map_are_made_first(job):
    """What a job makes besides its file is told why the map failed, before the file says so."""
    said = []
    logs.run_map_job(job, fail(ValueError("no unit")), before_failed=lambda reason: said.append((reason, made(job))))
    assert said == [("no unit", False)] and made(job)


def made(job):
    return Path(job.output[0]).exists()


def test_equal_jobs_write_equal_bytes(job, tmp_path):
    """The same job run twice writes the same bytes."""
    run(job, fail(ValueError("bad")))
    first = Path(job.output[0]).read_bytes()
    run(job, fail(ValueError("bad")))
    assert Path(job.output[0]).read_bytes() == first
