"""Time, memory and disk of the merges of many maps, each in a fresh process as the workflow runs it.

    python tests/benchmarks/merges.py [--maps 100 1000] [--sources 2000] [--sealed]

The files of the maps are made up: known sources measured in every map, with noise, and some detections; maps share the
bytes of what does not matter here by hard links. No maps are filtered and no candidate is revisited. With ``--sealed``
nine tenths of the maps are in one closed period.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import nights  # noqa: E402

from sotrplib import configuration, mapindex, store, summaries, tables  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
STAGES = {"maps": "preprocessed", "pointing": "pointing", "forced": "forced_photometry", "detections": "detections"}
STAGES |= {"sifted": "sifted"}
PERIOD = "results/periods/2025.h5"
N_FORCED_FILES, N_SIFTED = 40, 30
RULES = ("confirm_candidates", "merge_catalogs", "build_lightcurves", "export_catalogs")
JOB = """
import json, runpy, sys
from types import SimpleNamespace
from snakemake.iocontainers import InputFiles, OutputFiles, Params
job = json.loads(sys.stdin.read())
run = SimpleNamespace(rule=job["rule"], log=["job.log"], input=InputFiles())
for name, paths in job["input"].items():
    single = isinstance(paths, str)
    run.input.extend([paths] if single else paths)
    start = len(run.input) - (1 if single else len(paths))
    run.input._set_name(name, start, end=None if single else len(run.input))
run.output, run.params = OutputFiles(fromdict=job["output"]), Params(fromdict=job["params"])
runpy.run_path(job["script"], init_globals={"snakemake": run})
"""


def main(arguments=None):
    """Print one row a number of maps and rule."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--maps", type=int, nargs="+", default=[100, 1000], help="numbers of maps")
    parser.add_argument("--sources", type=int, default=2000, help="known sources in each map")
    parser.add_argument("--sealed", action="store_true", help="nine tenths of the maps in a closed period")
    options = parser.parse_args(arguments)
    sys.stdout.write("| maps | rows | rule | wall [s] | CPU [s] | memory [MB] | written [MB] |\n" + "|---" * 7 + "|\n")
    for n_maps in options.maps:
        with tempfile.TemporaryDirectory(prefix="merges") as folder:
            write_results(Path(folder), n_maps, options.sources)
            n_sealed = 9 * n_maps // 10 if options.sealed else 0
            for rule in ["seal_period"] * options.sealed + [*RULES]:
                cost = run_rule(Path(folder), rule, map_ids(n_maps), n_sealed)
                sys.stdout.write(f"| {n_maps} | {n_maps * options.sources} | {rule} | {cost} |\n")
                sys.stdout.flush()


def map_ids(n_maps):
    return [f"solat_i{1 + k % 3}_f{('090', '150')[k % 2]}_{1760100000 + 3600 * k}" for k in range(n_maps)]


def write_results(folder, n_maps, n_sources):
    """What the stages leave of each map."""
    rng = np.random.default_rng(1)
    files = nights.write_map(folder / "model", nights.map_row("i1", nights.NIGHT), rng)
    first, pointing = (store.read_attrs(path) for path in files[:2])
    store.write(folder / "detections.h5", frames={"detections": ("detections", tables.empty("detections"))})
    for k in range(min(n_maps, N_FORCED_FILES)):
        frames = {"forced": ("forced", make_forced(n_sources, rng))}
        store.write(folder / f"forced_{k}.h5", attrs={"status": "ok"}, frames=frames)
    known, nothing = make_sifted(N_SIFTED, rng), tables.empty("detections")
    store.write(
        folder / "sifted.h5",
        attrs={"map_id": "", "status": "ok", "reason": ""} | summaries.of_map(first, pointing, nothing, known),
        arrays={summaries.NEAR_BRIGHT: np.arange(N_SIFTED, dtype="i4")},
        frames={"sifted": ("sifted", known), "moving": ("moving", tables.empty("moving"))},
    )
    for stage in STAGES.values():
        (folder / "results" / stage).mkdir(parents=True)
    for k, map_id in enumerate(map_ids(n_maps)):
        shared = {"preprocessed": files[0], "pointing": files[1], "detections": folder / "detections.h5"}
        shared["forced_photometry"] = folder / f"forced_{k % N_FORCED_FILES}.h5"
        for stage, path in shared.items():
            os.link(path, folder / f"results/{stage}/{map_id}.h5")
        path = folder / f"results/sifted/{map_id}.h5"
        shutil.copy(folder / "sifted.h5", path)
        with h5py.File(path, "r+") as file:
            file.attrs.update(map_id=map_id, time_unix_s=1.7601e9 + 3600.0 * k)


def make_forced(n, rng):
    """Table ``forced`` of sources with names as long as real ones."""
    columns = {column.name: rng.normal(size=n) for column in tables.SCHEMAS["forced"] if column.dtype != "str"}
    names = [f"ACT-S J{k:06d}.0-300000" for k in range(n)]
    columns |= {"source_id": names, "source_name": names, "ra_deg": rng.uniform(0, 360, n), "flags": np.zeros(n, int)}
    columns |= {"flux_mjy": rng.normal(100, 5, n), "flux_err_mjy": 5.0, "time_unix_s": 1.76e9 + rng.uniform(0, 1e6, n)}
    texts = {column.name: "" for column in tables.SCHEMAS["forced"] if column.name not in columns}
    return tables.make("forced", columns | {"n_blend": 1} | texts)


def make_sifted(n, rng):
    """Table ``sifted`` of known sources found blindly."""
    columns = {
        column.name: rng.normal(size=n) for column in tables.SCHEMAS["sifted"] if column.dtype not in ("str", "bool")
    }
    columns |= {column.name: "" for column in tables.SCHEMAS["sifted"] if column.dtype == "str"}
    columns |= {column.name: False for column in tables.SCHEMAS["sifted"] if column.dtype == "bool"}
    columns |= {"origin": "blind", "class": "known", "matched_name": [f"ACT-S J{k:06d}.0-300000" for k in range(n)]}
    return tables.make("sifted", columns | {"flags": 0, "ra_deg": rng.uniform(100, 200, n)})


def run_rule(folder, rule, ids, n_sealed=0):
    """Cost of the script of one rule, as cells of the table."""
    here = ids[:n_sealed] if rule == "seal_period" else ids[n_sealed:]
    stages = {name: [f"results/{stage}/{m}.h5" for m in here] for name, stage in STAGES.items()}
    sealed = [PERIOD] if n_sealed else []
    schema = configuration.read_yaml(ROOT / "config/schemas/config.schema.yaml")
    config = configuration.resolve({}, schema)
    params = {"options": config.get(rule), "photometry": config["forced_photometry"], "reference_ghz": 90.0}
    params["code"] = "benchmark"
    params["rows"] = [dict.fromkeys(mapindex.COLUMNS, "") | {"map_id": m} for m in here]
    last = {name: stages[name] for name in ("forced", "sifted")}
    inputs = {
        "seal_period": {**stages, "searches": []},
        "confirm_candidates": {**stages, "sealed": sealed, "searches": [], "shared": [], "made": []},
        "merge_catalogs": {"sealed": sealed, "candidates": "candidates.h5"} | last,
        "build_lightcurves": {"catalog": "catalog.h5"},
        "export_catalogs": {"catalog": "catalog.h5"},
    }
    outputs = {
        "seal_period": {"tables": PERIOD, "maps": "results/periods/2025.csv"},
        "confirm_candidates": {"candidates": "candidates.h5"},
        "merge_catalogs": {"catalog": "catalog.h5"},
        "build_lightcurves": {"lightcurves": "lightcurves.h5"},
        "export_catalogs": {"parquet": "measurements.parquet", "csv": "measurements.csv"},
    }
    script = str(ROOT / "scripts" / f"{rule}.py")
    return call(
        {"rule": rule, "script": script, "input": inputs[rule], "output": outputs[rule], "params": params}, folder
    )


def call(job, folder):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", JOB], cwd=folder, env=environment, stdin=subprocess.PIPE)
    process.stdin.write(json.dumps(job).encode())
    process.stdin.close()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    if status:
        raise RuntimeError(f"{job['rule']} failed:\n{(folder / 'job.log').read_text()[-3000:]}")
    written = sum((folder / path).stat().st_size for path in job["output"].values()) / 1e6
    return f"{wall:.1f} | {usage.ru_utime + usage.ru_stime:.1f} | {usage.ru_maxrss / 1024:.0f} | {written:.1f}"


if __name__ == "__main__":
    main()
