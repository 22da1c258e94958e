"""Write every flux of the run, detected or not, with its source and cutout to lightcurvedb."""

import logging

from sotrplib import logs, store
from sotrplib.connectors import collect

TABLES = ("measurements", "sources", "candidates", "maps")


def main(job):
    tables = {name: store.read_table(job.input.catalog, name) for name in TABLES}
    known = store.read_table(job.input.known, "catalog"), (job.input.snapshot or [None])[0]
    paths = zip(job.input.maps, job.input.pointing, job.input.forced, strict=True)
    files = dict(zip(job.params.map_ids, paths, strict=True))
    done = collect.write_lightcurves(tables, known, files, job.params.options)
    summary = ", ".join(f"{number} {name}" for name, number in done.items()) + " written"
    logging.info(summary)
    with store.atomic_path(job.output.done) as path:
        path.write_text(summary + "\n")


logs.run_job(snakemake, main)
