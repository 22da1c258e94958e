"""Time and memory that the jobs have used, from Snakemake's benchmark files."""

import csv
import math
from pathlib import Path


def read_benchmarks(folder):
    """Time and memory of each job that left a benchmark file.

    Parameters
    ----------
    folder : path
        Holds ``{rule}.tsv`` and ``{rule}/{map_id}.tsv``. It is no input of any rule: what is not there is not told.

    Returns
    -------
    list of dict
        rule, map_id (empty for a job of all maps), seconds, and memory_mb (resident, largest; None where the job was
        over before it could be measured), by rule and map.
    """
    jobs = []
    for path in sorted(Path(folder).rglob("*.tsv")):
        alone = path.parent == Path(folder)
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        if rows:
            seconds, memory = (_number(rows[-1].get(name)) for name in ("s", "max_rss"))
            named = {"rule": path.stem if alone else path.parent.name, "map_id": "" if alone else path.stem}
            jobs.append(named | {"seconds": seconds or 0.0, "memory_mb": memory})
    return sorted(jobs, key=lambda job: (job["rule"], job["map_id"]))


def _number(text):
    """Number in a benchmark file, None where there is none."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None
