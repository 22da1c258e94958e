"""Merge the measurements of all maps into one catalogue of sources, candidates and maps."""

from sotrplib import catalogs, logs, pointing, provenance, revisits, store


def main(job):
    maps = catalogs.read_maps(job.input.maps, job.input.sifted)
    lists = (job.input.maps, job.input.pointing, job.input.forced, job.input.detections, job.input.sifted)
    rows, parts = [], [store.read_table(job.input.candidates, "measurements")]
    for row, *paths in zip(maps.to_dict("records"), *lists, strict=True):
        summary, forced = read_map(row, *paths)
        rows.append(summary)
        parts.append(catalogs.forced_measurements(forced, row))
    measurements = catalogs.merge_measurements(parts)
    candidates = store.read_table(job.input.candidates, "candidates")
    options, reference_ghz = job.params.options, job.params.reference_ghz
    sources, bands = catalogs.merge_sources(measurements, candidates, options, reference_ghz)
    frames = {"measurements": measurements, "sources": sources, "source_bands": bands, "candidates": candidates}
    frames["counterparts"] = store.read_table(job.input.candidates, "counterparts")
    frames["maps"] = catalogs.make_maps(rows)
    store.write(
        job.output.catalog,
        attrs={"provenance": provenance.job_record(job)},
        frames={name: (name, frame) for name, frame in frames.items()},
    )


def read_map(row, map_path, pointing_path, forced_path, detections_path, sifted_path):
    attrs, forced = store.read_attrs(pointing_path), store.read_table(forced_path, "forced")
    detections, sifted = store.read_table(detections_path, "detections"), store.read_table(sifted_path, "sifted")
    n_rows = (len(forced), len(detections), catalogs.count_candidates(sifted))
    offset = tuple(attrs.get(f"{axis}_offset_arcsec", 0.0) for axis in ("ra", "dec"))
    if len(forced) and len(sifted):
        forced = revisits.flag_near_detections(map_path, forced, sifted, pointing.from_dict(attrs["pointing"]))
    return catalogs.map_row(row, row, attrs.get("n_pointing", 0), n_rows, offset=offset), forced


logs.run_job(snakemake, main)
