"""Sort the measurements of every source into its light curve."""

from sotrplib import lightcurves, logs, provenance, store


def main(job):
    curves, index = lightcurves.build(store.read_table(job.input.catalog, "measurements"), job.params.options)
    lightcurves.write(job.output.lightcurves, curves, index, {"provenance": provenance.job_record(job)})


logs.run_job(snakemake, main)
