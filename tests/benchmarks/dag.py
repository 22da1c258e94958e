"""Cost of the graph of jobs for 100 to 10,000 maps: a dry run of this workflow beside the engine's own floor.

Two generated workflows are the floor. "bare" has as many rules a map, each a shell command with one input and one
output in a chain, and one merge of the last files. "same files" has the inputs, outputs, logs, benchmarks and scripts
of this workflow and nothing else: no parameter, function, digest or configuration. "together" is this workflow with
`maps.stages: together`, one job a map in place of six.

    python tests/benchmarks/dag.py [--maps 100 1000 10000] [--repeat 3]

Each state (all missing, up to date, one map added) is a fresh process; the fastest of the repeats counts, and every
number of jobs is checked. CPU seconds are what to compare on a machine that is busy with other things.
"""

import argparse
import pstats
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import engine
import numpy as np
from astropy.io import fits

from sotrplib import mapindex

ROOT = Path(__file__).resolve().parents[2]
STATES = ("all missing", "up to date", "one map added")
WORKFLOWS = ("bare", "same files", "ours", "together")
PER_MAP = {
    "preprocessed": ("given",),
    "pointing": ("preprocessed", "catalog"),
    "forced_photometry": ("preprocessed", "pointing", "catalog"),
    "detections": ("preprocessed", "pointing", "forced_photometry"),
    "sifted": ("preprocessed", "forced_photometry", "detections", "catalog"),
    "views": ("preprocessed", "pointing", "forced_photometry", "sifted"),
}
SHEET = "results/figures/{map_id}.png"  # what a view has beside it
MERGES = {
    "candidates": ("preprocessed", "pointing", "forced_photometry", "sifted"),
    "merged": ("forced_photometry", "sifted", "candidates"),
    "lightcurves": ("merged",),
    "exports": ("merged",),
    "config": ("merged",),
    "report": ("preprocessed", "views", "merged", "catalog"),
    "checked": ("merged", "views", "lightcurves", "exports", "config", "report"),
}
CONFIG = """\
maps: {{table: maps.csv, stages: {}}}
catalog: {{path: given/catalog.csv}}
ephemerides: {{tables: []}}
"""
HEADER = 'MAPS = open("maps.txt").read().split()\n\n\nwildcard_constraints:\n    map_id="[a-z0-9_]+",\n\n\n'
RULE = "rule {name}:\n    input:\n        {inputs},\n    output:\n        {outputs},\n{rest}\n\n"


class Cost(NamedTuple):
    """Wall and CPU seconds, peak memory in MB, and the number of jobs of one dry run."""

    wall_s: float
    cpu_s: float
    memory_mb: float
    n_jobs: int


def main(arguments=None):
    """Print one row a number of maps and state."""
    options = _parse(arguments)
    sys.stdout.write(
        "| maps | state | jobs | bare floor | same files | ours | together | ours / bare | ours / same files "
        "| together / bare |\n" + "|---" * 10 + "|\n"
    )
    for n_maps in options.maps:
        with tempfile.TemporaryDirectory(prefix="dag") as folder:
            for state, costs in measure(Path(folder), n_maps, options.repeat):
                sys.stdout.write(_row(n_maps, state, costs))
                sys.stdout.flush()


def measure(folder, n_maps, repeat=1, names=WORKFLOWS):
    """(state, costs by workflow) of every state, for one number of maps; works below ``folder``."""
    folders = {name: folder / name.replace(" ", "_") for name in names}
    for name in names:
        WRITERS[name](folders[name], n_maps)
    for state in STATES:
        if state == "up to date":
            for path in folders.values():
                finish(path)
        if state == "one map added":
            for name in names:
                WRITERS[name](folders[name], n_maps + 1)
        runs = [{name: dry_run(folders[name]) for name in names} for _ in range(repeat)]
        yield state, {name: min((run[name] for run in runs), key=lambda cost: cost.cpu_s) for name in names}


def write_floor(folder, n_maps, *, same_files):
    """Generated workflow of trivial rules."""
    folder.mkdir(exist_ok=True)
    (folder / "maps.txt").write_text("\n".join(map_ids(n_maps)))
    for name in ("given", "script.py"):
        _write_new(folder / name, "")
    per_map = PER_MAP if same_files else _chain(PER_MAP)
    merges = MERGES if same_files else {"merged": ("views",)}
    rules = ["rule all:\n    input:\n        " + _inputs(("views", *merges), per_map, merges, None) + ",\n\n\n"]
    if same_files:
        rules.append(_rule("catalog", "'given'", ["results/catalog.h5"], per_job="", same_files=True))
    for name, inputs in per_map.items():
        text = _inputs(inputs, per_map, merges, "{map_id}")
        made = [f"results/{name}/{{map_id}}.h5"] + [SHEET] * (same_files and name == "views")
        rules.append(_rule(name, text, made, per_job="/{map_id}", same_files=same_files))
    for name, inputs in merges.items():
        text = _inputs(inputs, per_map, merges, None)
        rules.append(_rule(name, text, [f"results/{name}.h5"], per_job="", same_files=same_files))
    (folder / "Snakefile").write_text(HEADER + "".join(rules))


def write_ours(folder, n_maps, *, stages="apart"):
    """Configuration, map table and one tiny map that all rows of the table share."""
    (folder / "given").mkdir(parents=True, exist_ok=True)
    paths = {"map_path": "given/map.fits", "weight_path": "given/ivar.fits", "time_path": "given/time.fits"}
    for path in paths.values():
        if not (folder / path).exists():
            fits.writeto(folder / path, np.ones((8, 8), "f4"))
    rows = []
    for map_id in map_ids(n_maps):
        instrument, array, band, _ = map_id.split("_")
        labels = {"map_id": map_id, "instrument": instrument, "array": array, "band": band}
        rows.append(dict.fromkeys(mapindex.COLUMNS, "") | labels | paths | {"form": "intensity_ivar", "unit": "uK"})
    mapindex.write_map_table(folder / "maps.csv", rows)
    _write_new(folder / "given/catalog.csv", "name,raDeg,decDeg,fluxJy,err_fluxJy\na,0.1,0.1,1,0.1\n")
    _write_new(folder / "run.yaml", CONFIG.format(stages))


WRITERS = {
    "bare": lambda folder, n_maps: write_floor(folder, n_maps, same_files=False),
    "same files": lambda folder, n_maps: write_floor(folder, n_maps, same_files=True),
    "ours": write_ours,
    "together": lambda folder, n_maps: write_ours(folder, n_maps, stages="together"),
}


def map_ids(n_maps):
    """Names of maps of three arrays, ten minutes apart."""
    return [f"solat_i{1 + k % 3}_f090_{1760100000 + 600 * k}" for k in range(n_maps)]


def finish(folder):
    """Make every output, empty, and let the engine record it as made."""
    listed = _snakemake(folder, "--summary")[1]
    files = [line.split("\t")[0] for line in listed.splitlines() if line.startswith("results/")]
    for path in {folder / name for name in files}:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    _snakemake(folder, "--touch", "--quiet", "all", "--cores", "2", "--scheduler", "greedy")


def dry_run(folder):
    """Cost of a dry run in a folder."""
    cost, text = _snakemake(folder, "--dry-run", "--quiet", "rules")
    counted = re.search(r"(?m)^total +(\d+)", text)
    if not counted and "Nothing to be done" not in text:
        raise RuntimeError(f"{folder}: no number of jobs in the dry run:\n{text[-2000:]}")
    return cost._replace(n_jobs=int(counted[1]) if counted else 0)


def count_calls(folder):
    """Number of Python calls of a dry run in a folder: unlike its time the same on any machine, however busy."""
    profile = folder / "dry_run.prof"
    command = [sys.executable, "-m", "cProfile", "-o", str(profile), "-m", "snakemake", "--dry-run", "--quiet", "rules"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([*command, *_ours(folder)], cwd=folder, env=engine.environment([ROOT]), check=True, **quiet)
    return pstats.Stats(str(profile)).total_calls


def _ours(folder):
    """Arguments that make the engine run this workflow, where the folder has a configuration for it."""
    ours = ["--snakefile", str(ROOT / "Snakefile"), "--configfile", "run.yaml"]
    return ours if (folder / "run.yaml").exists() else []


def _snakemake(folder, *arguments):
    """Cost and output of one call."""
    done = engine.snakemake(folder, *arguments, *_ours(folder), path=[ROOT])
    if done.status:
        raise RuntimeError(f"snakemake {' '.join(arguments)} failed in {folder}:\n{done.text[-2000:]}")
    return Cost(done.wall_s, done.cpu_s, done.peak_mb, 0), done.text


def _chain(rules):
    """The same rules with one input each: what the one before makes."""
    names = list(rules)
    return {name: (before,) for name, before in zip(names, ["given", *names[:-1]], strict=True)}


def _inputs(names, per_map, merges, map_id):
    """Text of the inputs of a rule: of one map, or of all."""
    parts = []
    for name in names:
        if name == "given":
            parts.append("'given'")
        elif name in per_map:
            files = f"results/{name}/{{map_id}}.h5"
            parts.append(repr(files) if map_id else f"expand({files!r}, map_id=MAPS)")
        else:
            parts.append(repr(f"results/{name}.h5"))
    return ", ".join(parts)


def _rule(name, inputs, made, *, per_job, same_files):
    rest = '    shell:\n        "touch {output}"\n'
    if same_files:
        rest = (
            f"    log:\n        'results/logs/{name}{per_job}.log',\n"
            f"    benchmark:\n        'results/benchmarks/{name}{per_job}.tsv'\n"
            "    script:\n        'script.py'\n"
        )
    return RULE.format(name=name, inputs=inputs, outputs=", ".join(map(repr, made)), rest=rest)


def _write_new(path, text):
    if not path.exists():
        path.write_text(text)


def _row(n_maps, state, costs):
    bare, same, ours, together = (costs[name] for name in WORKFLOWS)
    cells = [f"{cost.wall_s:.1f} s, CPU {cost.cpu_s:.1f} s, {cost.memory_mb:.0f} MB" for cost in costs.values()]
    ratios = [
        f"CPU {mine.cpu_s / other.cpu_s:.2f}, memory {mine.memory_mb / other.memory_mb:.2f}"
        for mine, other in ((ours, bare), (ours, same), (together, bare))
    ]
    jobs = "/".join(str(costs[name].n_jobs) for name in WORKFLOWS)
    return f"| {n_maps} | {state} | {jobs} | {' | '.join(cells + ratios)} |\n"


def _parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--maps", type=int, nargs="+", default=[100, 1000, 10_000], help="numbers of maps")
    parser.add_argument("--repeat", type=int, default=3, help="dry runs of each kind, of which the fastest counts")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
