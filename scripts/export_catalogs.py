"""Write the tables of the merged catalogue for other programs."""

from pathlib import Path

from sotrplib import exports, logs, originals, store, tables

TABLES = ("measurements", "candidates", "counterparts", "maps")


def main(job):
    frames = {name: (store.read_table(job.input.catalog, name), tables.SCHEMAS[name]) for name in TABLES}
    candidates, columns = frames["candidates"]
    chosen = exports.of_classes(candidates, job.params.options["classes"])
    frames["candidates"] = chosen, columns
    frames["counterparts"] = exports.of_candidates(frames["counterparts"][0], chosen), tables.SCHEMAS["counterparts"]
    sources, source_bands = (store.read_table(job.input.catalog, name) for name in ("sources", "source_bands"))
    frames["sources"] = exports.wide_sources(sources, source_bands)
    measurements, _ = frames["measurements"]
    frames["measured_sources"] = originals.measured_sources(measurements, candidates), originals.COLUMNS
    for path in job.output:
        exports.export(path, *frames[Path(path).stem])


logs.run_job(snakemake, main)
