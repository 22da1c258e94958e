"""Draw what the page shows of a map, and the sheet with its checks."""

from sotrplib import logs
from sotrplib.report import mapviews


def view(job):
    paths = job.input.map, job.input.pointing, job.input.forced, job.input.sifted
    return mapviews.view_map(*paths, most_mpix=job.params.strip_mpix)


def write(path, result, attrs):
    content, sheet = result
    mapviews.write_sheet(snakemake.output.sheet, sheet)
    logs.write_tables(path, content, attrs)


def write_failed(reason):
    mapviews.write_failed_sheet(snakemake.output.sheet, snakemake.wildcards.map_id, reason)


logs.run_map_job(snakemake, view, schemas=("compared",), write=write, before_failed=write_failed)
