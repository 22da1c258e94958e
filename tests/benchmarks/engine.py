"""Calls of Snakemake in fresh processes, and what they cost."""

import os
import re
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple


class Call(NamedTuple):
    """Wall and CPU seconds of a call, all its jobs included, peak memory in MB, exit status, and what was said."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    status: int
    text: str


def environment(path):
    """Environment variables of a process that imports from the folders of ``path`` and knows of no run around it."""
    bare = {name: value for name, value in os.environ.items() if not re.match("SNAKEMAKE|SLURM", name)}
    return bare | {"PYTHONPATH": os.pathsep.join(map(str, path)), "OMP_NUM_THREADS": "1"}


def snakemake(folder, *arguments, path):
    """Call Snakemake in a folder, with one thread a job and the folders of ``path`` to import from (Call)."""
    command = [sys.executable, "-m", "snakemake", *arguments]
    with tempfile.TemporaryFile("w+") as output:
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, env=environment(path), stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - start
        output.seek(0)
        text = output.read()
    return Call(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, process.returncode, text)
