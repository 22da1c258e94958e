"""Filter one map: rho, kappa, time and mask in the one form that all later stages read."""

from sotrplib import beams, ephemerides, ingest, logs, mapindex, maps, preprocessing, provenance


def filter_map(job):
    row, options = job.params.row, job.params.options
    instruments = beams.load_instruments(job.input.instruments)
    band = beams.band_info(instruments, row["instrument"], row["array"], row["band"], job.params.beams)
    beam, site = beams.band_beam(band), (band.latitude_deg, band.longitude_deg, band.height_m)
    box, margin = job.params.box, job.params.box_margin_arcmin
    cut_after = box and job.params.box_cut == "filtered"
    given = ingest.read_map(row, band, box=None if cut_after else box, margin_arcmin=margin)
    read = mapindex.outside_files(row)
    provenance.require_unchanged(row["map_id"], read, job.params.digest_mode, job.params.digest)
    clock = ephemerides.PixelClock(given.time, given.info.t_ref_unix_s, given.signal.shape)
    radii = options["planet_mask_radius_arcmin"], options["asteroid_mask_radius_arcmin"]
    reach = {"margin_arcmin": max(radii), "kinds": ephemerides.KINDS if radii[1] else ("planet",)}
    moving = ephemerides.positions_in_map(job.params.ephemerides, given.wcs, clock, site, **reach)
    areas = preprocessing.read_areas(options, given.signal.shape, given.wcs)
    sky_map, record = preprocessing.preprocess_recorded(given, beam, options, moving=moving, areas=areas)
    if cut_after:
        sky_map = maps.cut_sky_map(sky_map, box, margin)
    return sky_map, record, {"site": site, "fwhm_arcmin": beams.beam_fwhm_arcmin(beam)}


def write(path, result, attrs):
    sky_map, record, own = result
    about = {
        "unit": "1",
        "description": "rms of the SNR by tile, of the map as filtered; the errors are corrected by it",
    }
    maps.write_sky_map(
        path,
        sky_map,
        attrs | own | preprocessing.summarize(sky_map),
        more_arrays={"flatfield/local_rms": (record.local_rms, about)},
        frames={"noise_spectra": ("noise_spectra", record.spectra)},
    )


logs.run_map_job(snakemake, filter_map, write=write)
