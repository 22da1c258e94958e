"""Write the tables of the merged catalogue for other programs."""

from pathlib import Path

from sotrplib import exports, logs, originals, store, tables

TABLES = ("candidates", "counterparts", "maps")


def main(job):
    frames = {name: (store.read_table(job.input.catalog, name), tables.SCHEMAS[name]) for name in TABLES}
    candidates, columns = frames["candidates"]
    chosen = exports.of_classes(candidates, job.params.options["classes"])
    frames["candidates"] = chosen, columns
    frames["counterparts"] = exports.of_candidates(frames["counterparts"][0], chosen), tables.SCHEMAS["counterparts"]
    sources, source_bands = (store.read_table(job.input.catalog, name) for name in ("sources", "source_bands"))
    frames["sources"] = exports.wide_sources(sources, source_bands)
    for path in job.output:
        name = Path(path).stem
        exports.export(path, *(frames[name] if name in frames else read_long(job.input.catalog, name, candidates)))


def read_long(catalog, name, candidates):
    """Blocks of the measurements, in our columns or the original's, and the columns."""
    n_rows, blocks = store.count_rows(catalog, "measurements"), store.read_blocks(catalog, "measurements")
    if name == "measurements":
        return store.Blocks(n_rows, blocks), tables.SCHEMAS[name]
    translated = (originals.measured_sources(block, candidates) for block in blocks)
    return store.Blocks(n_rows, translated), originals.COLUMNS


logs.run_job(snakemake, main)
