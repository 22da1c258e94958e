"""Measure every known source in the map, corrected for its pointing."""

from sotrplib import logs, photometry, pointing, sources, store, stripwise


def measure(job):
    options = job.params.options
    sheet = stripwise.open_map(job.input.map, job.params.strip_mpix, photometry.reach_arcmin(options))
    catalog, reference = store.read_table(job.input.catalog, "catalog"), store.read_attrs(job.input.catalog)
    catalog = photometry.to_measure(sources.in_band(catalog, sheet.info.freq_ghz, reference), options)
    model = pointing.from_dict(store.read_attrs(job.input.pointing)["pointing"])

    def measure_on(sky_map, catalog):
        forced = photometry.measure_known(sky_map, catalog, model, options)
        return forced, photometry.cutout_arrays(sky_map, forced, options["cutout_arcmin"], pointing=model)

    forced, arrays = stripwise.measure_known(sheet, catalog, model, measure_on, photometry.unusable_pixels)
    return {"frames": {"forced": ("forced", forced)}, "arrays": arrays}


logs.run_map_job(snakemake, measure, schemas=("forced",))
