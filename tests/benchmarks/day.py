"""What a day of survey maps costs: the whole workflow, engine included, beside the floors measured in the same run.

    python tests/benchmarks/day.py [--maps 4] [--area 1] [--stages apart] [--against FILE]
    python tests/benchmarks/day.py --empty 100          the engine and its imports alone: tiny maps of empty sky
    python tests/benchmarks/day.py --scaling            areas of 1/16, 1/4 and 1, and 1, 10 and 100 tiny maps
    python tests/benchmarks/day.py --starts             what each script costs before it does anything

Maps are simulated once, under results/day, and not timed. Each run starts from an empty folder; its costs are kept as
results/day/{maps}x{area}_{stages}.json, to compare another with. On a busy machine compare CPU time.
"""

import argparse
import json
import sys
from pathlib import Path

import dayruns
import floors
import numpy as np
import starts

from sotrplib import stages
from sotrplib.report import resources

TINY = 1 / 850  # of the area of a survey map
READ_WHOLE = {"find_sources", "view_map", "search_jointly"}  # stages that use every pixel of the filtered maps
_CHAIN = ("search_jointly", "confirm_candidates", "merge_catalogs", "build_lightcurves", "report", "check_maps")
OF_MAPS = (*stages.NAMES, "process_map")
TARGETS = {"wall_s": 12.0, "memory_mb": 2500.0, "empty_cpu_s": 2.0}
_HEADER = (
    "| stage | jobs | wall s a map | CPU s a map | peak MB | read MB a map | written MB a map | floor CPU s | ratio |\n"
    + "|---" * 9
    + "|\n"
)


def main(arguments=None):
    """Measure what is asked for, print its tables, keep its costs."""
    options = _parse(arguments)
    if options.starts:
        _print(starts.describe(sorted((dayruns.scenes.ROOT / "scripts").glob("*.py"))))
        return
    if options.scaling:
        _print(scaling(options.cores, options.stages))
        return
    n_maps, area = (options.empty, TINY) if options.empty else (options.maps, options.area)
    sky = dayruns.simulated(area, n_maps, empty=bool(options.empty))
    floor = floors.measure(sky / f"maps_{n_maps}.csv")
    run = dayruns.run_workflow(sky, n_maps, cores=options.cores, stages=options.stages)
    _print(describe(run, floor, n_maps, empty=bool(options.empty)))
    label = f"{n_maps}x{'tiny' if options.empty else f'{area:g}'}_{options.stages}"
    kept = dayruns.FOLDER / f"{label}.json"
    if options.against:
        _print("\n" + resources.compare(run.jobs, json.loads(Path(options.against).read_text())["jobs"]))
    kept.write_text(json.dumps(run._asdict() | {"n_maps": n_maps, "floor": floor}, indent=1))
    _print(f"\nkept as {kept.relative_to(dayruns.scenes.ROOT)}\n")


def _parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--maps", type=int, default=4, help="number of maps; a day has 24")
    parser.add_argument("--area", type=float, default=1.0, help="of a map, in units of 850 square degrees")
    parser.add_argument("--empty", type=int, metavar="N", help="N tiny maps of empty sky instead")
    parser.add_argument("--scaling", action="store_true", help="how costs grow with area and number of maps")
    parser.add_argument("--starts", action="store_true", help="CPU time that scripts take to start")
    parser.add_argument("--stages", choices=("together", "apart"), default="together", help="as maps.stages")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--against", metavar="FILE", help="costs of an earlier run, as kept by this command")
    return parser.parse_args(arguments)


def _print(text):
    sys.stdout.write(text)
    sys.stdout.flush()


def describe(run, floor, n_maps, *, empty=False):
    """Table of the stages of a run beside their floors, and its totals beside the targets."""
    lines = [_HEADER]
    totals = resources.by_rule(run.jobs)
    for name, total in totals.items():
        least = stage_floor(name, floor, total["jobs"] / n_maps)
        numbers = [f"{total[key] / n_maps:.2f}" for key in ("seconds", "cpu_s")]
        numbers += [f"{total['memory_mb']:.0f}", *(f"{total[key] / n_maps:.1f}" for key in ("read_mb", "written_mb"))]
        numbers += [f"{least:.2f}", f"{total['cpu_s'] / n_maps / least:.1f}"]
        lines.append(f"| {name} | {total['jobs']} | " + " | ".join(numbers) + " |\n")
    jobs_cpu = sum(total["cpu_s"] for total in totals.values())
    peak = max(total["memory_mb"] for total in totals.values())
    lines += [
        f"| all jobs | {len(run.jobs)} | | {jobs_cpu / n_maps:.2f} | {peak:.0f} | | | | |\n",
        f"| engine | | | {(run.cpu_s - jobs_cpu) / n_maps:.2f} | | | | | |\n",
        f"| whole run | | {run.wall_s / n_maps:.2f} | {run.cpu_s / n_maps:.2f} | {peak:.0f} | | | | |\n\n",
        f"floors, CPU s a map: {', '.join(f'{name} {value:.3f}' for name, value in floor.items())}\n",
    ]
    if empty:
        return "".join(lines) + f"CPU s a map: {run.cpu_s / n_maps:.2f}, target <= {TARGETS['empty_cpu_s']:g}\n"
    wall, memory = TARGETS["wall_s"], TARGETS["memory_mb"]
    lines.append(f"wall s a map: {run.wall_s / n_maps:.1f}, target <= {wall:g}; peak MB: {peak:.0f}, <= {memory:g}\n")
    lines.append(f"wall s a map if two cores were free, from CPU times: {free_wall(run) / n_maps:.1f}\n")
    return "".join(lines)


def free_wall(run, cores=2):
    """Wall seconds of a run on idle cores: jobs of maps side by side, then what waits for all of them, and the engine.

    An estimate for a machine that is busy with other things, where the clock says little: it takes a second of CPU time
    for one on the clock, and leaves out waiting for the disk. A job that was faster than that had several cores.
    """
    totals = resources.by_rule(run.jobs)
    jobs_cpu = {name: total["cpu_s"] for name, total in totals.items()}
    side_by_side = sum(jobs_cpu.get(name, 0.0) for name in OF_MAPS)
    alone = sum(min(totals[name]["cpu_s"], totals[name]["seconds"]) for name in _CHAIN if name in totals)
    return side_by_side / cores + alone + run.cpu_s - sum(jobs_cpu.values())


def stage_floor(name, floor, jobs_a_map):
    """CPU seconds a map that a stage cannot do without: its processes, the pixels it reads or writes, the transforms.

    The filter needs three pairs of Fourier transforms, of which two are for rho and one is for kappa.
    """
    least = floor["empty job"] * jobs_a_map
    if name in ("preprocess_map", "process_map"):  # in one process the map need not be read again
        return least + floor["read FITS"] + 3 * floor["FFT forward and inverse"] + floor["write HDF5"]
    return least + (floor["read HDF5"] if name in READ_WHOLE else 0.0)


def scaling(cores, stages):
    """Tables of CPU seconds by area and by number of maps, with slopes; a unit is a megapixel, or a map."""
    text = "| map area | Mpixel | CPU s a map, its own stages | joint search | all jobs |\n" + "|---" * 5 + "|\n"
    steps = []
    for area in (1 / 16, 1 / 4, 1.0):
        sky = dayruns.simulated(area, 2)
        totals = resources.by_rule(dayruns.run_workflow(sky, 2, cores=cores, stages=stages).jobs)
        own = sum(totals[name]["cpu_s"] for name in OF_MAPS if name in totals) / 2
        joint = totals["search_jointly"]["cpu_s"] / 2
        jobs = sum(total["cpu_s"] for total in totals.values()) / 2
        steps.append((29.0 * area, own, joint, jobs))
        text += f"| {area:g} | {29.0 * area:.1f} | {own:.2f} | {joint:.2f} | {jobs:.2f} |\n"
    text += f"| slope | | {' | '.join(_slopes(steps))} |\n\n"
    text += "| tiny maps | CPU s, jobs of maps | jobs of all | engine | whole run |\n" + "|---" * 5 + "|\n"
    steps = []
    for n_maps in (1, 10, 100):
        run = dayruns.run_workflow(dayruns.simulated(TINY, n_maps, empty=True), n_maps, cores=cores, stages=stages)
        per_map = sum(job["cpu_s"] for job in run.jobs if job["rule"] in OF_MAPS)
        rest = sum(job["cpu_s"] for job in run.jobs) - per_map
        steps.append((n_maps, per_map, rest, run.cpu_s - per_map - rest, run.cpu_s))
        text += f"| {n_maps} | " + " | ".join(f"{value:.1f}" for value in steps[-1][1:]) + " |\n"
    return text + f"| slope | {' | '.join(_slopes(steps))} |\n"


def _slopes(steps):
    """Slope d log y / d log x between the last two of each column but the first, and increase a unit of x, each step.

    What is linear with a constant part has equal increases, and a slope below 1.
    """
    values = np.array(steps)
    slopes = np.diff(np.log(values[-2:]), axis=0)[0]
    rates = np.diff(values, axis=0)[:, 1:] / np.diff(values[:, :1], axis=0)
    told = (", ".join(f"{rate:.3g}" for rate in column) for column in rates.T)
    return [f"{slope:.2f} (+{rate} a unit)" for slope, rate in zip(slopes[1:] / slopes[0], told, strict=True)]


if __name__ == "__main__":
    main()
