"""What the scripts of the rules cost before they do anything: CPU seconds of their imports, in fresh processes."""

import ast
import os
import subprocess
import sys

import engine
import scenes

ENGINE = "from snakemake import script"  # what the engine itself puts before every script
TABLES = "import h5py, numpy, pandas"  # what reads the tables of every stage
TABLE_HEADER = "| script | CPU s to start | beyond the engine and tables |\n" + "|---" * 3 + "|\n"


def describe(scripts):
    """Table of the CPU seconds that scripts take to start, those of the engine and of tables first."""
    least = cpu_seconds([ENGINE, TABLES])
    text = TABLE_HEADER + f"| engine alone | {cpu_seconds([ENGINE]):.2f} | |\n| engine and tables | {least:.2f} | |\n"
    for script in scripts:
        taken = cpu_seconds([ENGINE, *imports(script)])
        text += f"| {script.stem} | {taken:.2f} | {max(taken - least, 0):.2f} |\n"
    return text


def imports(script):
    """Import statements at the top of a script."""
    body = ast.parse(script.read_text(encoding="utf-8")).body
    return [ast.unparse(node) for node in body if isinstance(node, ast.Import | ast.ImportFrom)]


def cpu_seconds(statements, repeat=3):
    """CPU seconds of a fresh process that runs some statements and ends: the least of several."""
    command = [sys.executable, "-c", "\n".join(statements)]
    environment = engine.environment([scenes.ROOT])
    times = []
    for _ in range(repeat):
        process = subprocess.Popen(command, env=environment)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if status:
            raise RuntimeError(f"{'; '.join(statements)} failed with exit status {process.returncode}")
        times.append(used.ru_utime + used.ru_stime)
    return min(times)
