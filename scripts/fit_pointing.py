"""Measure how far the map's positions are off, from bright isolated known sources."""

from sotrplib import geometry, logs, maps, pointing, sources, store, stripwise


def fit(job):
    wcs, info = maps.read_header(job.input.map)
    catalog, reference = store.read_table(job.input.catalog, "catalog"), store.read_attrs(job.input.catalog)
    catalog = sources.in_band(catalog, info.freq_ghz, reference)
    measured = stripwise.measure_offsets(job.input.map, catalog, job.params.options, job.params.strip_mpix)
    centre = geometry.pix2sky(wcs, *((n - 1) / 2 for n in wcs.array_shape))
    model, used = pointing.fit(measured, job.params.options, centre=centre)
    ra_offset, dec_offset, *_ = pointing.evaluate(model, *centre)
    attrs = {"ra_offset_arcsec": ra_offset, "dec_offset_arcsec": dec_offset, "n_pointing": model.n_used}
    attrs["pointing"] = pointing.to_dict(model)
    return {"attrs": attrs, "frames": {"pointing_sources": ("pointing_sources", used)}}


logs.run_map_job(snakemake, fit, schemas=("pointing_sources",))
