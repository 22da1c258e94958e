"""Sort the measurements of every source into its light curve."""

from pathlib import Path

from sotrplib import lightcurves, logs, provenance


def main(job):
    folder = Path(job.output.lightcurves).parent
    curves, index = lightcurves.stream(job.input.catalog, job.params.options, folder)
    lightcurves.write(job.output.lightcurves, curves, index, {"provenance": provenance.job_record(job)})


logs.run_job(snakemake, main)
