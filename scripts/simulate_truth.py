"""Draw the true sky that all simulated maps share."""

from sotrplib import logs, simulate, truth


def main(job):
    options = simulate.on_geometry(job.params.options)
    objects = truth.read_objects(job.input.objects)
    truth.write_truth(job.output.truth, truth.simulate_truth(options, job.params.seed, objects))


with logs.capture(snakemake.log[0]):
    main(snakemake)
