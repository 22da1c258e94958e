"""Measure every known source in the map, corrected for its pointing."""

from sotrplib import logs, maps, photometry, pointing, sources, store


def measure(job):
    sky_map = maps.read_sky_map(job.input.map)
    catalog, reference = store.read_table(job.input.catalog, "catalog"), store.read_attrs(job.input.catalog)
    catalog = sources.in_band(catalog, sky_map.info.freq_ghz, reference)
    model = pointing.from_dict(store.read_attrs(job.input.pointing)["pointing"])
    forced = photometry.measure_known(sky_map, catalog, model, job.params.options)
    arrays = photometry.cutout_arrays(sky_map, forced, job.params.options["cutout_arcmin"], pointing=model)
    return {"frames": {"forced": ("forced", forced)}, "arrays": arrays}


logs.run_map_job(snakemake, measure, schemas=("forced",))
