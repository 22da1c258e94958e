"""Write a filtered map as FITS images for other programs."""

from sotrplib import logs, mapexports, maps


def main(job):
    reason = logs.failure(job.input)
    sky_map = None if reason else maps.read_sky_map(job.input.map)
    for field, path in zip(job.params.options["fields"], job.output, strict=True):
        if reason:
            mapexports.write_failed(path, job.wildcards.map_id, reason)
        else:
            mapexports.write_field(path, sky_map, field)


logs.run_job(snakemake, main)
