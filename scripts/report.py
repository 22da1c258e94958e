"""Write the page of what the run found."""

from sotrplib import logs, report, store

TABLES = ("maps", "candidates", "sources", "source_bands", "measurements")


def main(job):
    frames = {name: store.read_table(job.input.catalog, name) for name in TABLES}
    frames["catalog"] = store.read_table(job.input.known, "catalog")
    files = list(zip(job.input.maps, job.input.pointing, job.input.forced, job.input.sifted, strict=True))
    report.write_page(job.output.page, frames, files)


with logs.capture(snakemake.log[0]):
    main(snakemake)
