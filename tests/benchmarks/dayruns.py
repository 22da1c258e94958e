"""One run of the workflow on the maps of a day, and what each of its jobs used."""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import engine
import scenes

from sotrplib.report import resources

FOLDER = scenes.ROOT / "results" / "day"
PATH = scenes.ROOT, Path(__file__).parent
CONFIG = """\
maps: {{table: {table}, roots: [{sky}], stages: {stages}}}
catalog: {{path: {sky}/catalog.csv}}
ephemerides: {{tables: [{sky}/ephemeris.csv]}}
"""


class Run(NamedTuple):
    """Wall and CPU seconds of a whole run, engine included, and its jobs as of :func:`resources.read_benchmarks`."""

    wall_s: float
    cpu_s: float
    jobs: list


def simulated(area, n_maps, *, empty=False):
    """Folder of a simulated sky, made by a process of its own if it is not there yet."""
    command = [sys.executable, str(Path(__file__).with_name("daysky.py")), json.dumps([area, n_maps, empty])]
    done = subprocess.run(command, env=engine.environment(PATH), stdout=subprocess.PIPE, text=True, check=True)
    return Path(done.stdout.split()[-1])


def run_workflow(sky, n_maps, *, cores=2, stages="apart"):
    """Cost of the whole workflow on the maps of a simulated sky, from an empty folder; ``maps.stages`` as given."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="run_", dir=FOLDER) as folder:
        table = sky / f"maps_{n_maps}.csv"
        Path(folder, "run.yaml").write_text(CONFIG.format(table=table, sky=sky, stages=stages))
        command = ["--snakefile", str(scenes.ROOT / "Snakefile"), "--configfile", "run.yaml", "--cores", str(cores)]
        wall, cpu = snakemake(folder, *command)
        return Run(wall, cpu, resources.read_benchmarks(Path(folder, "results", "benchmarks")))


def snakemake(folder, *arguments):
    """Wall and CPU seconds of one call in a folder, all its jobs included."""
    done = engine.snakemake(folder, "--quiet", "rules", *arguments, path=PATH)
    if done.status:
        kept = shutil.copytree(folder, tempfile.mkdtemp(prefix="day_failed_"), dirs_exist_ok=True)
        raise RuntimeError(
            f"snakemake {' '.join(arguments)} failed, its folder is kept in {kept}:\n{done.text[-3000:]}"
        )
    return done.wall_s, done.cpu_s
