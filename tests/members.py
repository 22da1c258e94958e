"""Maps of one sky on disk, each with the files of its stages, for tests of maps together."""

import dataclasses
from pathlib import Path

import numpy as np
from filtered_skies import filtered_noise, filtered_sources, make_sky_map, make_template

from sotrplib import coadd_members, configuration, geometry, maps, photometry, pointing, store, tables

ROOT = Path(__file__).parents[1]
SCHEMA = configuration.read_yaml(ROOT / "config/schemas/config.schema.yaml")
NIGHT = 1_760_100_000
KNEE = 0.02


def section(name):
    """Options of a section of the configuration by their defaults."""
    return configuration.fill_defaults({}, SCHEMA["properties"][name])


def true_catalog(ra, dec, flux_mjy):
    """Table ``catalog`` of sources without errors."""
    ids = [f"s{k}" for k in range(len(ra))]
    columns = {"source_id": ids, "source_name": ids, "ra_deg": ra, "dec_deg": dec, "flux_mjy": flux_mjy}
    return tables.make("catalog", columns | {"flux_err_mjy": 1.0, "spectral_index": 0.0, "pos_err_arcsec": 1.0})


def make_map(rng, sources, **values):
    """A filtered map of noise and ``sources`` (ra_deg, dec_deg, flux_mjy), seen ``offset`` arcsec from where they are.

    ``values``: map_id, shape, err_mjy, freq_ghz, fwhm_arcmin, offset, ra0_deg, late_s (time of the map since NIGHT).
    """
    given = {"map_id": f"solat_i1_f090_{NIGHT}", "shape": (192, 256), "err_mjy": 5.0, "freq_ghz": 90.0, "ra0_deg": 10.0}
    given |= {"fwhm_arcmin": 2.0, "offset": (0.0, 0.0), "late_s": 0.0, "noise": 1.0} | values
    shape, spectrum = given["shape"], {"knee": KNEE, "fwhm_arcmin": given["fwhm_arcmin"]}
    template = make_template(n_rows=shape[0], **spectrum)
    empty = make_sky_map(np.zeros(shape), template, kappa=given["err_mjy"] ** -2, ra0_deg=given["ra0_deg"])
    ra, dec, flux = (np.asarray(values, float) for values in sources)
    y, x = geometry.sky2pix(empty.wcs, *geometry.offset_position(ra, dec, *given["offset"]), shape)
    s = given["noise"] * filtered_noise(shape, rng, **spectrum)
    s = s + filtered_sources(shape, y, x, flux / given["err_mjy"], **spectrum)
    info = maps.MapInfo(*_labels(given["map_id"]), given["freq_ghz"], NIGHT + given["late_s"])
    return dataclasses.replace(empty, rho=(s / given["err_mjy"]).astype("f4"), info=info)


def cut(sky_map, rows, columns):
    """Part of a map, in a map of its own."""
    window = slice(*rows), slice(*columns)
    images = {name: getattr(sky_map, name)[window].copy() for name in ("rho", "kappa", "time", "mask")}
    return dataclasses.replace(sky_map, **images, wcs=geometry.slice_wcs(sky_map.wcs, window))


def write_member(folder, sky_map, catalog=None, *, offset=(0.0, 0.0), moving=None, reason=""):
    """MemberFiles of a map whose pointing model is ``offset`` and whose known sources are ``catalog``."""
    map_id = sky_map.info.map_id
    paths = [folder / stage / f"{map_id}.h5" for stage in ("preprocessed", "pointing", "forced_photometry", "sifted")]
    files, attrs = (
        coadd_members.MemberFiles(*paths),
        {"map_id": map_id, "status": "failed" if reason else "ok", "reason": reason},
    )
    model = pointing.PointingModel("constant", coefficients=np.array(offset)[:, None], n_used=5)
    catalog = tables.empty("catalog") if catalog is None else catalog
    forced = photometry.forced_photometry(sky_map, catalog, model, section("forced_photometry"))
    own = {"fwhm_arcmin": 2.0, "site": (-22.96, -67.79, 5147.0)}
    maps.write_sky_map(files.preprocessed, sky_map, attrs | own)
    store.write(files.pointing, attrs=attrs | {"pointing": pointing.to_dict(model)})
    store.write(files.forced, attrs=attrs, frames={"forced": ("forced", forced)})
    moving = tables.empty("moving") if moving is None else moving
    frames = {"sifted": ("sifted", tables.empty("sifted")), "moving": ("moving", moving)}
    store.write(files.sifted, attrs=attrs, frames=frames)
    return files


def _labels(map_id):
    return map_id, *map_id.split("_")[:3]
