"""Add up all maps at a list of positions."""

from sotrplib import catalogs, logs, periods, provenance, revisits, stacking, store


def main(job):
    paths = periods.all_files(job.input)
    maps = catalogs.read_maps(paths["forced"], paths["maps"])
    lists = zip(paths["filtered"], paths["pointing"], paths["forced"], strict=True)
    files = dict(zip(maps["map_id"], (revisits.MapFiles(*own) for own in lists), strict=True))
    positions = stacking.read_positions(*job.input.positions, *job.input.made)
    usable = maps[maps["status"] == "ok"]
    result = stacking.stack(files, usable, positions, job.params.options, job.params.photometry)
    stacks, measurements, stamps = result
    store.write(
        job.output.stacks,
        attrs={"provenance": provenance.job_record(job)},
        arrays=stacking.stamp_arrays(stamps),
        frames={"stacks": ("stacks", stacks), "measurements": ("stack_measurements", measurements)},
    )


logs.run_job(snakemake, main)
