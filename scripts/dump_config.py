"""Write the resolved configuration and the code that made the results beside them."""

import yaml

from sotrplib import logs, provenance, store


def main(job):
    record = provenance.run_record(job.params.config)
    with store.atomic_path(job.output.config) as path, open(path, "w") as file:
        yaml.safe_dump(record, file, sort_keys=False)


logs.run_job(snakemake, main)
