"""Sort what was found in the map into known, moving, noise, flare and transient."""

from sotrplib import ephemerides, logs, maps, sifting, sources, store


def sift(job):
    sky_map, attrs = maps.read_sky_map(job.input.map), store.read_attrs(job.input.map)
    catalog, reference = store.read_table(job.input.catalog, "catalog"), store.read_attrs(job.input.catalog)
    freq_ghz = sky_map.info.freq_ghz
    clock = ephemerides.PixelClock(sky_map.time, sky_map.info.t_ref_unix_s, sky_map.rho.shape)
    moving = ephemerides.positions_in_map(job.params.ephemerides, sky_map.wcs, clock, attrs["site"])
    sifted = sifting.sift(
        store.read_table(job.input.detections, "detections"),
        store.read_table(job.input.forced, "forced"),
        sources.in_band(catalog, freq_ghz, reference),
        moving,
        job.params.options,
        band=sifting.MapBand(attrs["fwhm_arcmin"], freq_ghz / reference["freq_ghz"]),
    )
    return {"frames": {"sifted": ("sifted", sifted), "moving": ("moving", moving)}}


logs.run_map_job(snakemake, sift, schemas=("sifted", "moving"))
