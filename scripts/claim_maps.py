"""Tell mapcat that the maps of this run are being processed."""

import logging

from sotrplib import logs, store
from sotrplib.connectors import mapcat


def main(job):
    catalog = mapcat.Catalog(job.params.database)
    found = mapcat.mark_processing(catalog, job.params.map_ids, job.params.instrument)
    summary = f"{found} of {len(job.params.map_ids)} maps marked as processing"
    logging.info(summary)
    with store.atomic_path(job.output.done) as path:
        path.write_text(summary + "\n")


logs.run_job(snakemake, main)
