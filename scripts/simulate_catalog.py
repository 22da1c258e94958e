"""Write what is known of the simulated sky beforehand: the catalogue of sources and the ephemeris of moving objects."""

from sotrplib import logs, truth


def main(job):
    sky = truth.read_truth(job.input.truth)
    truth.write_catalog(job.output.catalog, sky, job.params.options, job.params.seed)
    truth.write_ephemeris(job.output.ephemeris, sky, job.params.options)


logs.run_job(snakemake, main)
