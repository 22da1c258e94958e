"""Inject sources into copies of the map, run the stages on them, and write what came of it."""

from sotrplib import beams, ingest, injections, logs, maps, pointing, preprocessing, recovery, sources, store


def measure(job):
    row, params = job.params.row, job.params
    instruments = beams.load_instruments(job.input.instruments)
    band = beams.band_info(instruments, row["instrument"], row["array"], row["band"], params.beams)
    catalog, reference = store.read_table(job.input.catalog, "catalog"), store.read_attrs(job.input.catalog)
    given = ingest.read_map(row, band, box=params.box, margin_arcmin=params.box_margin_arcmin)
    scene = injections.Scene(
        given=given,
        beam=beams.band_beam(band),
        sky_map=maps.read_sky_map(job.input.map),
        catalog=sources.in_band(catalog, band.freq_ghz, reference),
        pointing=pointing.from_dict(store.read_attrs(job.input.pointing)["pointing"]),
        detections=store.read_table(job.input.detections, "detections"),
        areas=preprocessing.read_areas(params.preprocess, given.signal.shape, given.wcs),
    )
    sections = {"measure_recovery": params.options, "preprocess_map": params.preprocess}
    sections |= {"forced_photometry": params.photometry, "find_sources": params.search}
    result = recovery.measure(scene, sections, params.seed)
    names = ("injections", "recovery", "false_alarms")
    return {"attrs": result.numbers, "frames": {name: (name, getattr(result, name)) for name in names}}


logs.run_map_job(snakemake, measure, schemas=("injections", "recovery", "false_alarms"))
