"""Draw the true sky that all simulated maps share."""

from sotrplib import logs, truth


def main(job):
    objects = truth.read_objects(job.input.objects)
    truth.write_truth(job.output.truth, truth.simulate_truth(job.params.options, job.params.seed, objects))


with logs.capture(snakemake.log[0]):
    main(snakemake)
