"""Filter one map: rho, kappa, time and mask in the one form that all later stages read."""

from sotrplib import assembly, beams, logs, mapindex, versions


def filter_map(job):
    row, params = job.params.row, job.params
    instruments = beams.load_instruments(job.input.instruments)
    band = beams.band_info(instruments, row["instrument"], row["array"], row["band"], params.beams)
    beam, site = beams.band_beam(band), (band.latitude_deg, band.longitude_deg, band.height_m)
    reading = versions.Reading(row["map_id"], mapindex.outside_files(row), params.digest_mode)
    source = assembly.Source(row, band, beam, params.options, params.ephemerides, site, reading.watch)
    cut = assembly.Cut(params.box, params.box_margin_arcmin, params.box_cut == "filtered")
    about = {"site": site, "fwhm_arcmin": beams.beam_fwhm_arcmin(beam)}

    def close():
        about["inputs_digest"] = reading.close()

    return assembly.filter_map(source, cut, params.strip_mpix, job.output[0], when_read=close), about


def write(path, result, attrs):
    filtered, own = result
    filtered.write(path, attrs | own)


logs.run_map_job(snakemake, filter_map, write=write)
