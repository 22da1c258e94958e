"""The whole chain on services of its own: socat and mapcat to the workflow to lightcurvedb, and a flare read back.

Simulates three small nights, enters their sources into a socat database and their maps into a mapcat database,
runs the workflow from both, fills lightcurvedb on a temporary PostgreSQL, reads the light curve of the flaring star
with lightcurvedb's client and plots it. Everything is below ``results/end_to_end``; no container, no network.
"""

import json
import os
import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

import postgres  # noqa: E402

HERE = Path(__file__).parent
FOLDER = Path("results/end_to_end")
FLARE = "flaring_star"
SKY = {
    "simulate": {
        "objects": str(HERE / "objects.csv"), "width_deg": 2.0, "height_deg": 2.0, "n_sources": 60,
        "flux_min_mjy": 60.0, "n_holes": 1,
    },
}  # fmt: skip
RUN = {
    "maps": {"kind": "mapcat"},
    "catalog": {"kind": "socat"},
    "ephemerides": {"tables": []},
    "write_lightcurvedb": {"enabled": True, "cutout_snr_min": 5.0},
}


def main(cores="2"):
    """Do all of it; returns the light curve of the flare by band."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    folder = FOLDER.resolve()
    sky, run = folder / "sky", folder / "run"
    say("simulating three nights")
    snakemake(sky, SKY, cores, *simulated_files())
    services = {
        "socat_client_client_type": "db",
        "socat_model_database_name": str(folder / "socat.db"),
        "MAPCAT_DATABASE_NAME": str(folder / "mapcat.db"),
        "MAPCAT_DEPTH_ONE_PARENT": str(sky / "results/simulated"),
    }
    say("entering sources into socat.db, maps into mapcat.db")
    simulated = sky / "results/simulated"
    ask("make_socat", simulated / "catalog.csv", simulated / "ephemeris.csv", **services)
    command([tool("mapcatmigrate")], **services)
    command([tool("actingest"), "-r", simulated, "-g", "*_map.fits", "-t", "solat"], **services)
    with postgres.server() as running:
        services |= postgres.make_database(running, "lightcurves")
        address = postgres.url(services)
        ask("make_lightcurvedb", address)
        say("running the workflow from both, into lightcurvedb")
        snakemake(run, RUN, cores, **services)
        ask("read_lightcurve", address, FLARE, folder / "flare.json")
    say("states in mapcat:")
    ask("list_states", **services)
    curves = json.loads((folder / "flare.json").read_text())
    plot(curves, folder / "flare.png")
    say(f"light curve of {FLARE}: {FOLDER}/flare.json and flare.png")
    return curves


def simulated_files():
    """Maps of the table that comes with the workflow, and what is known of their sky."""
    sys.path.insert(0, str(ROOT))
    from sotrplib import mapindex

    rows = mapindex.read_map_table(ROOT / "config/maps.csv")
    return [row["map_path"] for row in rows] + ["results/simulated/catalog.csv"]


def snakemake(folder, config, cores, *targets, **environment):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    arguments = ["--snakefile", ROOT / "Snakefile", "--configfile", "config.json", "--cores", cores, "--quiet", "all"]
    command([sys.executable, "-m", "snakemake", *arguments, "--", *targets], cwd=folder, **environment)


def ask(action, *arguments, **environment):
    command([sys.executable, HERE / "services.py", action, *arguments], **environment)


def tool(name):
    """Path of a command that comes with a client, beside the interpreter."""
    return Path(sys.executable).parent / name


def command(words, cwd=None, **environment):
    variables = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    done = subprocess.run(list(map(str, words)), cwd=cwd, env=variables, text=True, capture_output=True, check=False)
    sys.stdout.write(done.stdout)
    if done.returncode:
        sys.exit(f"{done.stderr}\n{Path(words[0]).name} failed with status {done.returncode}")


def plot(curves, path):
    """Fluxes of the flare with their errors over time, a colour a band."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import dates, pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for band, curve in sorted(curves.items()):
        times = [datetime.fromisoformat(text) for text in curve["time"]]
        flux, error = ([1000 * value for value in curve[f"{name}_jy"]] for name in ("flux", "flux_err"))
        axes.errorbar(times, flux, error, fmt="o", capsize=2, label=band.replace("_", " "))
    axes.axhline(0, color="0.8", linewidth=1, zorder=0)
    axes.set(ylabel="flux (mJy)", title=f"{FLARE.replace('_', ' ')}, read from lightcurvedb")
    axes.xaxis.set_major_formatter(dates.DateFormatter("%d %b %H:%M"))
    axes.tick_params(axis="x", rotation=20)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


def say(text):
    print(text, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
