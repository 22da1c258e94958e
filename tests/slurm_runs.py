"""Runs of the workflow in folders of their own, locally or on a Slurm, and ways to disturb them."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from sotrplib import mapgroups, mapindex, stages, store

ROOT = Path(__file__).parents[1]
CODE = ("Snakefile", "rules", "scripts", "config", "envs", "profiles", "slurm", "sotrplib")
STAGES = stages.NAMES
FIRST, SECOND, LARGE = "solat_i1_f090_1760100000", "solat_i3_f090_1760100600", "solat_i1_f090_1760186400"
KINDS = {"map_path": "map.fits", "weight_path": "ivar.fits", "time_path": "time.fits", "info_path": "info.hdf"}
HASTE = ("--slurm-init-seconds-before-status-checks", "4")  # an idle controller may be asked oftener
OBJECTS = """name,class,ra_offset_arcmin,dec_offset_arcmin,peak_mjy,peak_h,rise_h,decay_h
flash,transient,10,-12,400,0.2,1,4
"""
SIMULATE = """
maps: {{table: maps.csv}}
simulate: {{objects: objects.csv, width_deg: {0}, height_deg: {0}, n_sources: 60, flux_min_mjy: 100.0, n_holes: 1}}
"""
GIVEN = """
catalog: {path: given/catalog.csv}
ephemerides: {tables: [given/ephemeris.csv]}
"""


def copy_code(folder):
    """Copy the workflow into a new folder."""
    folder.mkdir(parents=True)
    for name in CODE:
        source = ROOT / name
        if source.is_symlink() or source.is_file():
            shutil.copy2(source, folder / name, follow_symlinks=False)
        else:
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def make_maps(folder, sizes_deg):
    """Simulate square maps under ``given`` of a new copy of the workflow, as if they came from outside.

    Parameters
    ----------
    folder : Path
    sizes_deg : dict of str to float
        map_id to side in degrees; the sources are those of the first size.
    """
    copy_code(folder)
    (folder / "objects.csv").write_text(OBJECTS)
    given = folder / "given"
    given.mkdir()
    for size in dict.fromkeys(sizes_deg.values()):
        names = [name for name in sizes_deg if sizes_deg[name] == size]
        mapindex.write_map_table(folder / "maps.csv", [_row(name, "results/simulated") for name in names])
        (folder / "test.yaml").write_text(SIMULATE.format(size))
        targets = ["results/simulated/catalog.csv", *(f"results/simulated/{name}_map.fits" for name in names)]
        assert finish(start(folder, *targets, "--cores", "2")) == 0, said(folder)
        for path in (folder / "results/simulated").iterdir():
            if not (given / path.name).exists():
                path.rename(given / path.name)
        for name in ("results", ".snakemake"):
            shutil.rmtree(folder / name)
    mapindex.write_map_table(folder / "maps.csv", [_row(name, "given") for name in sizes_deg])
    (folder / "test.yaml").write_text(SIMULATE.format(1) + GIVEN)
    return folder


def _row(map_id, folder):
    instrument, array, band, _ = map_id.split("_")
    paths = {key: f"{folder}/{map_id}_{name}" for key, name in KINDS.items()}
    labels = {"map_id": map_id, "instrument": instrument, "array": array, "band": band, "form": "intensity_ivar"}
    return dict.fromkeys(mapindex.COLUMNS, "") | labels | paths


def copy(folder, target):
    """Copy a folder with its runs; the copy's path."""
    return Path(shutil.copytree(folder, target, symlinks=True))


def start(folder, *arguments, command=(sys.executable, "-m", "snakemake"), config="test.yaml"):
    """Start the workflow in a folder; what it says goes to ``head.log`` there."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "PATH": path}
    with open(folder / "head.log", "a") as log:
        return subprocess.Popen(
            [*command, *arguments, "--configfile", config],
            cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            preexec_fn=_hear_interrupts,
        )  # fmt: skip


def _hear_interrupts():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by what a shell starts in the background


def start_on_slurm(folder, *arguments):
    """Start ``snakemake --profile slurm``."""
    return start(folder, "--profile", "slurm", *arguments, *HASTE)


def resume(folder, *arguments):
    """Start the documented command for going on after the head was lost."""
    return start(folder, *arguments, *HASTE, command=("slurm/resume",))


def finish(process, timeout_s=1200):
    """Exit status of a run, waited for."""
    try:
        return process.wait(timeout_s)
    finally:
        process.kill()


def said(folder):
    """What the heads in a folder said."""
    return (folder / "head.log").read_text()


def wait_for(condition, what, timeout_s=300, interval_s=0.1):
    """The first true value of ``condition()``."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(interval_s)
    raise TimeoutError(f"{what}: not within {timeout_s} s")


def script_process(folder, rule, map_id):
    """Process id of a rule's script at work on a map in a folder, waited for."""
    note = folder / f"results/logs/{rule}/{map_id}.stopped"
    wait_for(note.exists, f"{rule} of {map_id} at work", interval_s=0.01)
    return wait_for(lambda: _find_script(folder, rule, map_id), f"script of {rule}", timeout_s=10, interval_s=0.01)


def _find_script(folder, rule, map_id):
    log = (folder / f"results/logs/{rule}/{map_id}.log").resolve()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if Path(os.readlink(entry / "fd/2")) == log:
                return int(entry.name)
        except OSError:
            continue
    return None


def kill_in_write(folder, rule, map_id, output):
    """Kill -9 a map's job while its output is being written; the path of the half-written file."""
    process, folder_out = script_process(folder, rule, map_id), folder / Path(output).parent
    half = wait_for(lambda: next(folder_out.glob(f".{map_id}.h5.*"), None), "half a file", interval_s=0.0005)
    os.kill(process, signal.SIGKILL)
    return half


def differences(folder, other):
    """Names of the results in which two folders differ by a byte, or that only one of them has.

    The page is left out: it tells what the jobs took.
    """
    found = [{path.relative_to(run): path for path in _results(run)} for run in (folder, other)]
    names = sorted(found[0].keys() | found[1].keys())
    both = found[0].keys() & found[1].keys()
    same = {name for name in both if found[0][name].read_bytes() == found[1][name].read_bytes()}
    assert len(names) > 20, f"{folder}: only {names}"
    return [str(name) for name in names if name not in same]


def _results(folder):
    differing = ("logs", "benchmarks", "report.html")
    files = [path for path in (folder / "results").rglob("*") if path.is_file()]
    return [path for path in files if path.relative_to(folder).parts[1] not in differing and path.name[0] != "."]


def maps_table(folder):
    """The table of maps of a folder's catalogue, by map_id."""
    return store.read_table(folder / "results/catalogs/catalog.h5", "maps").set_index("map_id")


def map_jobs(cluster, before=()):
    """Slurm jobs of maps: list of (map_id, job), in the order of submission, without the job ids in ``before``."""
    return [(map_id, job) for map_id, job in _named_jobs(cluster, before) if mapgroups.found_by(map_id) == "map"]


def search_jobs(cluster, before=()):
    """Slurm jobs of searches of several maps, as :func:`map_jobs`."""
    return [(map_id, job) for map_id, job in _named_jobs(cluster, before) if mapgroups.found_by(map_id) != "map"]


def _named_jobs(cluster, before):
    jobs = {number: job for number, job in sorted(cluster.jobs().items()) if number not in before}
    found = {number: set(re.findall(r"map_id=(\w+)", cluster.script(number))) for number in jobs}
    return [(map_id, jobs[number]) for number, ids in found.items() for map_id in ids]


def overlaps(jobs):
    """Pairs of jobs that worked on one map at the same time."""
    pairs = [(a, b) for i, a in enumerate(jobs) for b in jobs[i + 1 :] if a[0] == b[0]]
    return [
        (a, b) for a, b in pairs if _interval(a[1])[0] < _interval(b[1])[1] and _interval(b[1])[0] < _interval(a[1])[1]
    ]


def _interval(job):
    """Times between which a job ran, as sortable text; equal for one that never ran."""
    begin, end = job["StartTime"], job["EndTime"]
    return (begin, end) if begin != "Unknown" and job["RunTime"] != "00:00:00" else (begin, begin)
