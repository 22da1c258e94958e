"""Say which maps failed and why, after everything else was made; the exit status is 1 if there are any."""

import logging
import sys

from sotrplib import logs, store


def main(job):
    maps = store.read_table(job.input.catalog, "maps", columns=["map_id", "status", "reason"])
    failed = maps[maps["status"] != "ok"]
    summary = f"{len(maps)} maps, {len(failed)} of them failed"
    lines = [summary, *(f"  {row.map_id}: {row.reason}" for row in failed.itertuples())]
    searches = {path: store.read_attrs(path) for path in job.input.searches}
    lines += [f"  {path}: {attrs['reason']}" for path, attrs in searches.items() if attrs["status"] != "ok"]
    logging.info("\n".join(lines))
    if len(lines) > 1:
        return "\n".join([*lines, "The catalogue was made from the rest; see results/logs, by rule and map."])
    with store.atomic_path(job.output.checked) as path:
        path.write_text(summary + "\n")
    return None


with logs.capture(snakemake.log[0]):
    message = main(snakemake)
sys.exit(message)
