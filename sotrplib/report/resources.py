"""Time and memory that the jobs have used, from Snakemake's benchmark files."""

import csv
import math
from pathlib import Path

from sotrplib import logs

_SUMS = ("seconds", "cpu_s", "read_mb", "written_mb")
_COLUMNS = {"seconds": "s", "cpu_s": "cpu_time", "memory_mb": "max_pss", "read_mb": "io_in", "written_mb": "io_out"}


def read_benchmarks(folder):
    """Time and memory of each job that left a benchmark file.

    Parameters
    ----------
    folder : path
        Holds ``{rule}.tsv`` and ``{rule}/{map_id}.tsv``. It is no input of any rule: what is not there is not told.

    Returns
    -------
    list of dict
        rule, map_id (empty for a job of all maps), seconds, and cpu_s, memory_mb (resident, largest, what processes of
        a job share counted once where the system tells), read_mb and written_mb, by rule and map. The last four are
        what the job said in its log (``logs/`` beside the folder), or what Snakemake sampled of it and its processes,
        twice a second, if that is more; None where a job said nothing and was over before that.
    """
    jobs = []
    for path in sorted(Path(folder).rglob("*.tsv")):
        alone = path.parent == Path(folder)
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        if rows:
            named = {"rule": path.stem if alone else path.parent.name, "map_id": "" if alone else path.stem}
            sampled = {name: _number(rows[-1].get(column)) for name, column in _COLUMNS.items()}
            sampled["memory_mb"] = sampled["memory_mb"] or _number(rows[-1].get("max_rss"))
            log = Path(folder).parent / "logs" / path.relative_to(folder).with_suffix(".log")
            told = {name: max(value, sampled[name] or 0.0) for name, value in logs.read_resources(log).items()}
            jobs.append(named | sampled | told | {"seconds": sampled["seconds"] or 0.0})
    return sorted(jobs, key=lambda job: (job["rule"], job["map_id"]))


def by_rule(jobs):
    """Totals of the jobs of each rule, in the order in which the first of each was found.

    Returns
    -------
    dict of str to dict
        By rule: jobs (their number), the sums seconds, cpu_s, read_mb, written_mb, and memory_mb of the largest job.
        What is not known of a job counts as 0.
    """
    totals = {}
    for job in jobs:
        total = totals.setdefault(job["rule"], {"jobs": 0, "memory_mb": 0.0} | dict.fromkeys(_SUMS, 0.0))
        total["jobs"] += 1
        total["memory_mb"] = max(total["memory_mb"], job["memory_mb"] or 0.0)
        for name in _SUMS:
            total[name] += job[name] or 0.0
    return totals


def describe(jobs):
    """Table (Markdown) of what the jobs of each rule took."""
    lines = ["| rule | jobs | wall s | CPU s | peak MB | read MB | written MB |", "|---" * 7 + "|"]
    for rule, total in by_rule(jobs).items():
        seconds = " | ".join(f"{total[name]:.1f}" for name in ("seconds", "cpu_s"))
        rest = " | ".join(f"{total[name]:.0f}" for name in ("memory_mb", "read_mb", "written_mb"))
        lines.append(f"| {rule} | {total['jobs']} | {seconds} | {rest} |")
    return "\n".join(lines) + "\n"


def compare(jobs, earlier):
    """Table (Markdown) of the time and memory of each rule in two runs, and their ratio now over earlier.

    Times are a job, so that runs of other numbers of maps compare.
    """
    now, then = by_rule(jobs), by_rule(earlier)
    lines = ["| rule | jobs | CPU s a job | earlier | ratio | peak MB | earlier | ratio |", "|---" * 8 + "|"]
    for rule in [name for name in now if name in then]:
        cpu = [run[rule]["cpu_s"] / run[rule]["jobs"] for run in (now, then)]
        peak = [run[rule]["memory_mb"] for run in (now, then)]
        numbers = [f"{cpu[0]:.2f} | {cpu[1]:.2f}", _ratio(*cpu), f"{peak[0]:.0f} | {peak[1]:.0f}", _ratio(*peak)]
        lines.append(f"| {rule} | {now[rule]['jobs']} | " + " | ".join(numbers) + " |")
    return "\n".join(lines) + "\n"


def _ratio(value, other):
    return f"{value / other:.2f}" if other else ""


def _number(text):
    """Number in a benchmark file, None where there is none."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None
