"""What goes wrong while the workflow runs, each fault injected for real, and one command that puts it right.

`make test-faults` runs all of them; a short core is part of the other tests.
"""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from slurm_runs import copy_code, wait_for
from test_workflow import CONFIG, GIVEN, OBJECTS, copy, of_all, of_map, row, snakemake
from test_workflow import planned as planned_in

from sotrplib import mapindex, store, tries

pytestmark = pytest.mark.slow
every_fault = pytest.mark.faults  # left out where the marker is, in favour of the short core

FIRST, SECOND = MAP_IDS = "solat_i1_f090_1760100000", "solat_i3_f090_1760100600"
LARGE = "solat_i1_f090_1760200000"
DAY = 86_400
WORKER_BYTES = 1_500_000_000  # of addresses; the large map needs 10 GB, a map of the night 1
TIME_LIMIT_S = 300  # of a run, which takes 15
STARTED = []
MADE = ("catalogs", "lightcurves", "exports", "preprocessed", "pointing", "forced_photometry", "detections", "sifted")
MADE += ("views", "figures")


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A copy of the code with two maps as files from outside, and no results."""
    folder = copy_code(tmp_path_factory.mktemp("start") / "run")
    (folder / "objects.csv").write_text(OBJECTS)
    (folder / "test.yaml").write_text(CONFIG)
    mapindex.write_map_table(folder / "maps.csv", [row(name, "results/simulated") for name in MAP_IDS])
    simulated = [f"results/simulated/{name}_map.fits" for name in MAP_IDS]
    expect(snakemake(folder, *simulated, "results/simulated/catalog.csv"), 0)
    (folder / "results/simulated").rename(folder / "given")
    for name in ("results", ".snakemake"):
        shutil.rmtree(folder / name)
    (folder / "test.yaml").write_text(CONFIG + GIVEN)
    mapindex.write_map_table(folder / "maps.csv", [row(name, "given") for name in MAP_IDS])
    return folder


@pytest.fixture(scope="module")
def finished(start, tmp_path_factory):
    """An undisturbed run."""
    folder = copy(start, tmp_path_factory.mktemp("finished") / "run")
    expect(snakemake(folder), 0)
    return folder


@pytest.fixture
def run(start, tmp_path):
    """A run that has not begun."""
    return copy(start, tmp_path / "run")


@pytest.fixture
def done(finished, tmp_path):
    """A finished run to disturb."""
    return copy(finished, tmp_path / "run")


def expect(process, status):
    """The output of a process that must have ended with a status."""
    assert process.returncode == status, process.stdout
    return process.stdout


@pytest.fixture(autouse=True)
def no_process_left():
    """Whatever a test that failed or hung left running ends with it."""
    yield
    while STARTED:
        head = STARTED.pop()
        with suppress(ProcessLookupError):
            os.killpg(head.pid, signal.SIGKILL)
        head.wait()


def begin(folder, *, limits=()):
    """The workflow started in a folder, in a session of its own."""
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", "test.yaml"]
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}

    def limit():
        for name, value in limits:
            resource.setrlimit(name, (value, value))

    with open(folder / "head.log", "w") as log:
        head = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True, preexec_fn=limit
        )
    STARTED.append(head)
    return head


def finish(process, folder):
    """Status and output of a started workflow, when it has ended."""
    process.wait(timeout=TIME_LIMIT_S)
    return process.returncode, (folder / "head.log").read_text()


def job_process(head, rule, map_id=""):
    """Process of a job of a rule, at work on a map if one is named, among what a head has started, or None."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words, status = (entry / "cmdline").read_bytes(), (entry / "stat").read_text()
        except OSError:
            continue
        ours = int(status.rpartition(")")[2].split()[3]) == head and f".{rule}.py".encode() in words
        if ours and (not map_id or map_id in _open_files(entry)):
            return int(entry.name)
    return None


def _open_files(process):
    """Names of the files that a process, a folder of /proc, has open; empty when it has ended."""
    try:
        return " ".join(os.readlink(entry) for entry in (process / "fd").iterdir())
    except OSError:
        return ""


def _half_maps(folder):
    return [path for path in half_files(folder) if path.parent.name == "preprocessed"]


def half_files(folder):
    return list((folder / "results").glob("*/.*.h5.*"))


def made(folder):
    """Bytes of every result, by path; but of the alerts, which tell what changed since the run before."""
    paths = [path for name in MADE for path in (folder / "results" / name).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths if path.name != "alerts.csv"}


def assert_equal_results(folder, finished, *, but=()):
    """All results have the bytes of an undisturbed run, nothing is left over and nothing is left to do."""
    here, there = made(folder), made(finished)
    changed = [path for path in sorted(here.keys() | there.keys()) if here.get(path) != there.get(path)]
    assert [path for path in changed if path.split("/")[1] not in but] == []
    assert planned_in(folder) == set()


def status_of(folder, map_id):
    """Status and reason of a map in the catalogue."""
    maps = store.read_table(folder / "results/catalogs/catalog.h5", "maps").set_index("map_id")
    return tuple(maps.loc[map_id, ["status", "reason"]])


def flip(path, n=200):
    """Change bytes all over a file and leave its date."""
    date, content = path.stat(), bytearray(path.read_bytes())
    for place in np.random.default_rng(1).integers(len(content) // 8, len(content), n):
        content[place] ^= 0x5A
    path.write_bytes(content)
    os.utime(path, ns=(date.st_atime_ns, date.st_mtime_ns))


def truncate(path):
    """Cut a file in half and leave its date."""
    date = path.stat()
    os.truncate(path, date.st_size // 2)
    os.utime(path, ns=(date.st_atime_ns, date.st_mtime_ns))


def remove(folder, pattern, *, but):
    """Remove results by pattern, but for one folder of them."""
    for path in (folder / "results").glob(pattern):
        if path.parent.name != but:
            path.unlink()


@contextmanager
def mounted(*arguments, on):
    """A mount for a while; skips where that is not allowed."""
    done = subprocess.run(["mount", *arguments, str(on)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"needs the right to mount: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(on)], check=True)


def remount(folder, options):
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


# ---- killed ----------------------------------------------------------------------------------------------------------


def test_job_killed_while_writing(run, finished):
    """A job killed with half a file written is tried again; nothing is left of it, and the bytes are as ever."""
    head = begin(run)
    writing = wait_for(lambda: _half_maps(run), "a half-written map", interval_s=0.0005)
    os.kill(wait_for(lambda: job_process(head.pid, "preprocess_map"), "a job", interval_s=0), signal.SIGKILL)
    status, text = finish(head, run)
    assert status == 0 and writing
    assert "Trying to restart job" in text
    assert half_files(run) == []
    assert_equal_results(run, finished)


@every_fault
def test_job_killed_every_time(run, finished):
    """A map whose job is killed at three tries is failed in the catalogue, the other is not; the next run cures it."""
    head, killed, end = begin(run), set(), time.monotonic() + TIME_LIMIT_S
    while head.poll() is None and time.monotonic() < end:
        process = job_process(head.pid, "fit_pointing", FIRST)
        if process and len(killed | {process}) <= tries.TRIES:
            os.kill(process, signal.SIGKILL)
            killed.add(process)
        time.sleep(0.001)
    assert len(killed) == tries.TRIES
    status, text = finish(head, run)
    assert status == 1 and f"{FIRST}: given up after 3 tries: fit_pointing was killed" in text
    assert [status_of(run, name)[0] for name in MAP_IDS] == ["failed", "ok"]
    expect(snakemake(run), 0)
    assert_equal_results(run, finished)


@every_fault
@pytest.mark.parametrize("stage", ["preprocessed", "sifted", "catalogs"])
def test_head_killed(run, finished, stage):
    """After kill -9 of the head, `--unlock` and the same command finish, whatever jobs it left running."""
    head = begin(run)
    wait_for(lambda: list((run / "results" / stage).glob("*.h5")), f"a file of {stage}", interval_s=0.01)
    os.kill(head.pid, signal.SIGKILL)
    head.wait()
    assert "cannot be locked" in expect(snakemake(run), 1)
    expect(snakemake(run, "--unlock"), 0)
    expect(snakemake(run), 0)
    assert_equal_results(run, finished)


@every_fault
def test_second_head_refuses(run, finished):
    """A second head in the same folder says that it is locked, changes nothing, and the first one finishes."""
    head = begin(run)
    wait_for((run / "results/logs").exists, "the first log", interval_s=0.01)
    assert "cannot be locked" in expect(snakemake(run), 1)
    assert finish(head, run)[0] == 0
    assert_equal_results(run, finished)


# ---- disks -----------------------------------------------------------------------------------------------------------


@every_fault
def test_disk_full(run, finished):
    """On a full disk the jobs fail that cannot write, nothing half written is there, and with room all is made."""
    target = run / "results/preprocessed"
    target.mkdir(parents=True)
    with mounted("-t", "tmpfs", "-o", "size=64k", "tmpfs", on=target):
        assert "No space left" in expect(snakemake(run), 1) + _logs(run)
        assert half_files(run) == []
        assert {status_of(run, name)[0] for name in MAP_IDS} == {"failed"}
        remount(target, "size=64m")
        expect(snakemake(run), 0)
        assert_equal_results(run, finished)


@every_fault
def test_file_size_limit(run, finished):
    """A quota on the size of files fails the maps that cannot be written, by name; without it they are made."""
    head = begin(run, limits=[(resource.RLIMIT_FSIZE, 300_000)])
    assert finish(head, run)[0] == 1
    assert "File too large" in _logs(run)
    assert half_files(run) == []
    for name in MAP_IDS:
        assert status_of(run, name)[0] == "failed" and "File too large" in status_of(run, name)[1]
    expect(snakemake(run), 0)
    assert_equal_results(run, finished)


@every_fault
def test_folder_is_read_only(run, finished):
    """A folder that cannot be written fails the jobs that write there by name, and writable again it is filled."""
    target = run / "results/pointing"
    target.mkdir(parents=True)
    with mounted("--bind", str(target), on=target):
        remount(target, "bind,ro")
        assert "Read-only file system" in expect(snakemake(run), 1) + _logs(run)
        assert (run / f"results/preprocessed/{SECOND}.h5").exists()
        remount(target, "bind,rw")
        expect(snakemake(run), 0)
        assert_equal_results(run, finished)


def _logs(folder):
    return "".join(path.read_text() for path in (folder / "results/logs").rglob("*.log"))


# ---- memory ----------------------------------------------------------------------------------------------------------


@every_fault
def test_out_of_memory(done):
    """A map too large for its worker is failed in the catalogue and tried again by the next run; others are fine."""
    with fits.open(done / f"given/{FIRST}_ivar.fits") as hdus:
        header = hdus[0].header.copy()
    header["BUNIT"] = "uK"
    fits.writeto(done / "given/large.fits", np.broadcast_to(np.float32(1), (12_000, 12_000)), header)
    large = row(LARGE, "given") | {"map_path": "given/large.fits", "weight_path": "given/large.fits", "time_path": ""}
    mapindex.write_map_table(done / "maps.csv", [*(row(name, "given") for name in MAP_IDS), large | {"info_path": ""}])
    head, limited = begin(done), set()
    end = time.monotonic() + TIME_LIMIT_S
    while head.poll() is None and time.monotonic() < end:
        process = job_process(head.pid, "preprocess_map")  # of the large map: the others are done
        if process and process not in limited:
            with suppress(ProcessLookupError):
                resource.prlimit(process, resource.RLIMIT_AS, (WORKER_BYTES,) * 2)
                limited.add(process)
        time.sleep(0.005)
    status, text = finish(head, done)
    assert status == 1 and len(limited) == tries.TRIES + 1  # the last only records
    assert f"{LARGE}: given up after 3 tries: preprocess_map ended with" in text and "MemoryError" in text
    assert status_of(done, LARGE)[0] == "failed"
    assert [status_of(done, name)[0] for name in MAP_IDS] == ["ok", "ok"]
    assert planned_in(done) == of_map(LARGE) | of_all()


# ---- damaged and replaced files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [flip, pytest.param(truncate, marks=every_fault)])
def test_damaged_map(done, finished, damage):
    """A filtered map that changed on disk is noticed by the job that reads it, said in the catalogue, and made anew."""
    damage(done / f"results/preprocessed/{FIRST}.h5")
    remove(done, f"*/{FIRST}.h5", but="preprocessed")
    assert f"{FIRST}: " in expect(snakemake(done), 1)
    assert status_of(done, FIRST)[0] == "failed" and "not a readable HDF5 file" in status_of(done, FIRST)[1]
    assert status_of(done, SECOND)[0] == "ok"
    assert planned_in(done) == of_map(FIRST) | of_all()
    expect(snakemake(done), 0)
    assert_equal_results(done, finished)


@every_fault
@pytest.mark.parametrize("damage", [flip, truncate])
@pytest.mark.parametrize(
    ("damaged", "missing"),
    [
        (f"sifted/{FIRST}.h5", "catalogs/*.h5"),
        ("catalogs/candidates.h5", "catalogs/catalog.h5"),
        ("catalogs/catalog.h5", "lightcurves/*.h5"),
        (f"views/{FIRST}.h5", "report.html"),
        ("inputs/catalog.h5", f"*/{FIRST}.h5"),
    ],
)
def test_damaged_table(done, finished, damage, damaged, missing):
    """A table that changed on disk is noticed by the job that reads it; within two calls all is as it was."""
    damage(done / "results" / damaged)
    remove(done, missing, but="preprocessed")
    expect(snakemake(done), 1)
    expect(snakemake(done), 0)
    assert_equal_results(done, finished)


@every_fault
def test_input_replaced_while_it_is_read(run):
    """A map replaced after its job was planned is not used, said in the catalogue, and measured by the next run."""
    path, new = run / f"given/{FIRST}_map.fits", run / "new.fits"
    with fits.open(path) as hdus:
        fits.writeto(new, hdus[0].data * np.float32(1.01), hdus[0].header)
    head = begin(run)
    wait_for((run / f"results/logs/preprocess_map/{FIRST}.log").exists, "the log of the first map", interval_s=0.002)
    os.replace(new, path)
    status, text = finish(head, run)
    assert status == 1
    assert f"{FIRST}: " in text and "replaced while it was being read" in status_of(run, FIRST)[1]
    assert status_of(run, SECOND)[0] == "ok"
    expect(snakemake(run), 0)
    assert [status_of(run, name)[0] for name in MAP_IDS] == ["ok", "ok"]
    assert planned_in(run) == set()


# ---- clocks ----------------------------------------------------------------------------------------------------------


@every_fault
@pytest.mark.parametrize("shift", [DAY, -20 * 365 * DAY])
def test_inputs_of_another_time(run, finished, shift):
    """Input dated into the future or long ago is used like any other; that of the future is in no record of inputs."""
    for path in (run / "given").iterdir():
        os.utime(path, (time.time() + shift,) * 2)
    expect(snakemake(run), 0)
    assert_equal_results(run, finished, but=("preprocessed", "sifted") if shift > 0 else ())


@every_fault
@pytest.mark.parametrize("stage", ["preprocessed", "sifted"])
def test_results_of_another_clock(done, finished, stage):
    """Results dated into the future cost what follows them once, and nothing more."""
    os.utime(done / f"results/{stage}/{FIRST}.h5", (time.time() + DAY,) * 2)
    expect(snakemake(done), 0)
    assert_equal_results(done, finished)
