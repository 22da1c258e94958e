"""Time and memory that the jobs have used, from Snakemake's benchmark files."""

import csv
import math
from pathlib import Path

from sotrplib import logs

_COLUMNS = {"seconds": "s", "cpu_s": "cpu_time", "memory_mb": "max_rss", "read_mb": "io_in", "written_mb": "io_out"}


def read_benchmarks(folder):
    """Time and memory of each job that left a benchmark file.

    Parameters
    ----------
    folder : path
        Holds ``{rule}.tsv`` and ``{rule}/{map_id}.tsv``. It is no input of any rule: what is not there is not told.

    Returns
    -------
    list of dict
        rule, map_id (empty for a job of all maps), seconds, and cpu_s, memory_mb (resident, largest), read_mb and
        written_mb, by rule and map. The last four are what the job said in its log (``logs/`` beside the folder),
        else what Snakemake sampled, twice a second; None where the job was over before that.
    """
    jobs = []
    for path in sorted(Path(folder).rglob("*.tsv")):
        alone = path.parent == Path(folder)
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        if rows:
            named = {"rule": path.stem if alone else path.parent.name, "map_id": "" if alone else path.stem}
            sampled = {name: _number(rows[-1].get(column)) for name, column in _COLUMNS.items()}
            log = Path(folder).parent / "logs" / path.relative_to(folder).with_suffix(".log")
            jobs.append(named | sampled | logs.read_resources(log) | {"seconds": sampled["seconds"] or 0.0})
    return sorted(jobs, key=lambda job: (job["rule"], job["map_id"]))


def _number(text):
    """Number in a benchmark file, None where there is none."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None
