"""Sort what was found in the map into known, moving, noise, flare and transient."""

from sotrplib import ephemerides, logs, maps, matches, pointing, revisits, sifting, sources, store, summaries


def sift(job):
    (time, wcs, info), attrs = maps.read_times(job.input.map, job.params.strip_mpix), store.read_attrs(job.input.map)
    catalog, reference = store.read_table(job.input.catalog, "catalog"), store.read_attrs(job.input.catalog)
    clock = ephemerides.PixelClock(time, info.t_ref_unix_s, wcs.array_shape)
    moving = ephemerides.positions_in_map(job.params.ephemerides, wcs, clock, attrs["site"])
    known = sources.in_band(catalog, info.freq_ghz, reference), moving, job.params.options
    band = sifting.MapBand(attrs["fwhm_arcmin"], info.freq_ghz / reference["freq_ghz"])
    forced = store.read_table(job.input.forced, "forced")
    detections = store.read_table(job.input.detections, "detections")
    found = sifting.sort_detections(detections, forced, *known, band=band)
    fitted = store.read_attrs(job.input.pointing)
    flagged = revisits.flag_near_detections(job.input.map, forced, found, pointing.from_dict(fitted["pointing"]))
    sifted = sifting.add_flares(found, flagged, *known, band=band)
    frames = {"sifted": sifted, "matches": matches.all_matches(detections, known[0], job.params.options)}
    return {
        "attrs": summaries.of_map(attrs, fitted, detections, sifted),
        "arrays": {summaries.NEAR_BRIGHT: summaries.rows_near_bright(forced, flagged)},
        "frames": {name: (name, frame) for name, frame in (frames | {"moving": moving}).items()},
    }


logs.run_map_job(snakemake, sift, schemas=("sifted", "matches", "moving"))
