"""Merge the measurements of all maps into one catalogue of sources, candidates and maps."""

from functools import cache
from pathlib import Path

from sotrplib import catalogs, logs, periods, pointing, provenance, revisits, spools, store


def main(job):
    paths = periods.all_files(job.input)
    maps = catalogs.read_maps(paths["maps"], paths["sifted"])
    names = ("filtered", "pointing", "forced", "detections", "sifted")
    files = zip(maps.to_dict("records"), *(paths[name] for name in names), strict=True)
    names = ("measurements", "candidates", "counterparts")
    tables = {name: store.read_table(job.input.candidates, name) for name in names}
    others, candidates, rows = tables.pop("measurements"), tables["candidates"], []
    n_rows = len(others) + sum(store.count_rows(path, "forced") for path in paths["forced"])

    def read_maps():
        for row, *own in files:
            summary, forced = read_map(row, *own)
            rows.append(summary)
            yield row, forced

    with spools.Spool(1 + n_rows // spools.ROWS, Path(job.output.catalog).parent) as spool:
        stream = spool.passed(catalogs.stream_measurements(read_maps(), others), "source_id")
        options, reference_ghz = job.params.options, job.params.reference_ghz
        merged = cache(lambda: catalogs.merge_parts(spool.parts(), candidates, options, reference_ghz))
        frames = {"measurements": store.Blocks(n_rows, stream), "sources": lambda: merged()[0]}
        frames |= {"source_bands": lambda: merged()[1], "maps": lambda: catalogs.make_maps(rows), **tables}
        frames = {name: (name, frame) for name, frame in frames.items()}
        store.write(job.output.catalog, attrs={"provenance": provenance.job_record(job)}, frames=frames)


def read_map(row, map_path, pointing_path, forced_path, detections_path, sifted_path):
    attrs, forced = store.read_attrs(pointing_path), store.read_table(forced_path, "forced")
    detections, sifted = store.read_table(detections_path, "detections"), store.read_table(sifted_path, "sifted")
    n_rows = (len(forced), len(detections), catalogs.count_candidates(sifted))
    offset = tuple(attrs.get(f"{axis}_offset_arcsec", 0.0) for axis in ("ra", "dec"))
    if len(forced) and len(sifted):
        forced = revisits.flag_near_detections(map_path, forced, sifted, pointing.from_dict(attrs["pointing"]))
    return catalogs.map_row(row, row, attrs.get("n_pointing", 0), n_rows, offset=offset), forced


logs.run_job(snakemake, main)
