"""Measure how far the map's positions are off, from bright isolated known sources."""

from sotrplib import geometry, logs, maps, pointing, sources, store


def fit(job):
    sky_map = maps.read_sky_map(job.input.map)
    catalog, reference = store.read_table(job.input.catalog, "catalog"), store.read_attrs(job.input.catalog)
    catalog = sources.in_band(catalog, sky_map.info.freq_ghz, reference)
    measured = pointing.measure_offsets(sky_map, catalog, job.params.options)
    centre = geometry.pix2sky(sky_map.wcs, *((n - 1) / 2 for n in sky_map.rho.shape))
    model, used = pointing.fit(measured, job.params.options, centre=centre)
    ra_offset, dec_offset, *_ = pointing.evaluate(model, *centre)
    attrs = {"ra_offset_arcsec": ra_offset, "dec_offset_arcsec": dec_offset, "n_pointing": model.n_used}
    attrs["pointing"] = pointing.to_dict(model)
    return {"attrs": attrs, "frames": {"pointing_sources": ("pointing_sources", used)}}


logs.run_map_job(snakemake, fit, schemas=("pointing_sources",))
