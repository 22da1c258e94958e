"""Draw the true sky that all simulated maps share."""

from sotrplib import logs, simulate, truth


def main(job):
    options = simulate.on_geometry(job.params.options)
    objects = truth.read_objects(job.input.objects)
    truth.write_truth(job.output.truth, truth.simulate_truth(options, job.params.seed, objects))


logs.run_job(snakemake, main)
