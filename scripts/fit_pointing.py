"""Measure how far the map's positions are off, from bright isolated known sources."""

from sotrplib import geometry, logs, pointing, sources, store, stripwise


def fit(job):
    options = job.params.options
    sheet = stripwise.open_map(job.input.map, job.params.strip_mpix, pointing.reach_arcmin(options))
    catalog, reference = store.read_table(job.input.catalog, "catalog"), store.read_attrs(job.input.catalog)
    catalog = sources.in_band(catalog, sheet.info.freq_ghz, reference)
    measured = stripwise.measure_offsets(sheet, catalog, options)
    centre = geometry.pix2sky(sheet.wcs, *((n - 1) / 2 for n in sheet.wcs.array_shape))
    model, used = pointing.fit(measured, options, centre=centre)
    ra_offset, dec_offset, *_ = pointing.evaluate(model, *centre)
    attrs = {"ra_offset_arcsec": ra_offset, "dec_offset_arcsec": dec_offset, "n_pointing": model.n_used}
    attrs["pointing"] = pointing.to_dict(model)
    return {"attrs": attrs, "frames": {"pointing_sources": ("pointing_sources", used)}}


logs.run_map_job(snakemake, fit, schemas=("pointing_sources",))
