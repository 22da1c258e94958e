"""Measure every known source in the map, corrected for its pointing."""

from sotrplib import logs, maps, pointing, sources, store, stripwise


def measure(job):
    _, info = maps.read_header(job.input.map)
    catalog, reference = store.read_table(job.input.catalog, "catalog"), store.read_attrs(job.input.catalog)
    catalog = sources.in_band(catalog, info.freq_ghz, reference)
    model = pointing.from_dict(store.read_attrs(job.input.pointing)["pointing"])
    known = catalog, model, job.params.options
    forced, arrays = stripwise.measure_known(job.input.map, *known, job.params.strip_mpix)
    return {"frames": {"forced": ("forced", forced)}, "arrays": arrays}


logs.run_map_job(snakemake, measure, schemas=("forced",))
