"""Merge the measurements of all maps into one catalogue of sources, candidates and maps."""

from functools import cache
from pathlib import Path

from sotrplib import catalogs, logs, periods, provenance, spools, store


def main(job):
    paths = periods.all_files(job.input)
    maps = catalogs.read_maps(paths["sifted"]).to_dict("records")
    names = ("measurements", "candidates", "counterparts")
    tables = {name: store.read_table(job.input.candidates, name) for name in names}
    others, candidates, rows = tables.pop("measurements"), tables["candidates"], []
    n_rows = len(others) + sum(store.count_rows(path, "forced") for path in paths["forced"])

    def read_maps():
        for row, *files in zip(maps, paths["forced"], paths["sifted"], strict=True):
            forced = catalogs.read_forced(row, *files)
            counts = (len(forced), row["n_detections"], row["n_candidates"])
            offset = (row["ra_offset_arcsec"], row["dec_offset_arcsec"])
            rows.append(catalogs.map_row(row, row, row["n_pointing"], counts, offset=offset))
            yield row, forced

    with spools.Spool(1 + n_rows // spools.ROWS, Path(job.output.catalog).parent) as spool:
        stream = spool.passed(catalogs.stream_measurements(read_maps(), others), "source_id")
        options, reference_ghz = job.params.options, job.params.reference_ghz
        merged = cache(lambda: catalogs.merge_parts(spool.parts(), candidates, options, reference_ghz))
        frames = {"measurements": store.Blocks(n_rows, stream), "sources": lambda: merged()[0]}
        frames |= {"source_bands": lambda: merged()[1], "maps": lambda: catalogs.make_maps(rows), **tables}
        frames = {name: (name, frame) for name, frame in frames.items()}
        store.write(job.output.catalog, attrs={"provenance": provenance.job_record(job)}, frames=frames)


logs.run_job(snakemake, main)
