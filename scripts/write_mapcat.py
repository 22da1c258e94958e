"""Tell mapcat what became of each map, and where it points."""

import logging

from sotrplib import logs, store
from sotrplib.connectors import collect, mapcat


def main(job):
    maps = store.read_table(job.input.catalog, "maps")
    models = collect.pointing_models(job.input.pointing, job.params.map_ids)
    found = mapcat.write_results(mapcat.Catalog(job.params.database), maps, models, job.params.instrument)
    summary = f"{found} of {len(maps)} maps brought up to date, {len(models)} with a pointing model"
    logging.info(summary)
    with store.atomic_path(job.output.done) as path:
        path.write_text(summary + "\n")


logs.run_job(snakemake, main)
