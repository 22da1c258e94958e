"""Put what the merges read of the maps of a closed period into one file."""

from sotrplib import logs, mapindex, periods


def main(job):
    periods.seal(job.output.tables, job.input)
    mapindex.write_map_table(job.output.maps, job.params.rows)


logs.run_job(snakemake, main)
