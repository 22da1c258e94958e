"""The maps that a sum is made of: their headers, read before any pixels, and each map without its known sources."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from sotrplib import geometry, maps, masks, photometry, pointing, revisits, store, tables
from sotrplib.resampling import Grid
from sotrplib.tables import MASK_BITS

UNUSED = MASK_BITS["EDGE"] | MASK_BITS["PLANET"]
_RADEC = ["ra_deg", "dec_deg"]
CATALOG = ["catalog_flux_mjy", "catalog_flux_err_mjy"]
NOTHING = {"n_pixels": 0, "weight": 0.0}


class MemberFiles(NamedTuple):
    """Files of one map to be summed; ``sifted`` is needed where moving objects are to be left out, else empty."""

    preprocessed: str
    pointing: str
    forced: str
    sifted: str = ""


class Header(NamedTuple):
    """What is known of a map before its pixels are read."""

    files: MemberFiles
    map_id: str
    reason: str
    grid: Grid | None = None
    info: maps.MapInfo | None = None
    half_arcmin: float = 0.0
    fwhm_arcmin: float = np.nan
    site: tuple = ()


class Member(NamedTuple):
    """A map without its known sources, where it may be used, its pointing, and those sources.

    ``known`` has source_id, ra_deg, dec_deg (true positions, as fitted), flux_mjy, and flux and error of the catalogue.
    """

    sky_map: maps.SkyMap
    usable: np.ndarray
    move: object
    pointing: pointing.PointingModel
    known: pd.DataFrame


def read_header(files):
    """:class:`Header` of a map; one that failed in any stage has its reason and nothing else."""
    attrs = store.read_attrs(files.preprocessed)
    reasons = [attrs.get("reason", ""), *(store.read_attrs(path).get("reason", "") for path in files[1:] if path)]
    reason = next((text for text in reasons if text), "")
    if reason:
        return Header(files, attrs["map_id"], reason)
    wcs = geometry.text_to_wcs(attrs["wcs"])
    half = store.list_contents(files.preprocessed)["template/values"][-1] // 2
    step = store.read_array(files.preprocessed, "template/step_arcmin")
    return Header(
        files,
        attrs["map_id"],
        "",
        Grid(wcs.array_shape, wcs),
        maps.MapInfo(**attrs["info"]),
        float(half * step[:, 0].max()),
        attrs["fwhm_arcmin"],
        tuple(attrs["site"]),
    )


def read_member(header, options):
    """Read one map and take its known sources out.

    Parameters
    ----------
    header : Header
    options : mapping
        ``correct_pointing``, ``moving_mask_arcmin`` (0 to keep moving objects in).

    Returns
    -------
    Member
    """
    files = header.files
    sky_map, forced = maps.read_sky_map(files.preprocessed), store.read_table(files.forced, "forced")
    model = pointing.from_dict(store.read_attrs(files.pointing)["pointing"])
    usable = (sky_map.kappa > 0) & (sky_map.mask & UNUSED == 0)
    if options["moving_mask_arcmin"]:
        moving = store.read_table(files.sifted, "moving")
        radius = np.maximum(moving["radius_arcmin"].to_numpy(), options["moving_mask_arcmin"])
        usable &= ~masks.disc_mask(sky_map.rho.shape, sky_map.wcs, *moving[_RADEC].to_numpy().T, radius)
    known = true_places(sky_map, forced, model)
    unknown = revisits.without_known(sky_map, forced, model)
    return Member(unknown, usable, mover(model) if options["correct_pointing"] else None, model, known)


def mover(model):
    """Function (ra_deg, dec_deg) of true positions to the offsets that a pointing model gives them."""
    return lambda ra, dec: pointing.evaluate(model, ra, dec)[:2]


def true_places(sky_map, forced, model):
    """Known sources of a map: where they truly are, as far as the map tells, and their fluxes."""
    y, x, flux = photometry.fitted_sources(sky_map, forced, model)
    ra, dec = geometry.pix2sky(sky_map.wcs, y, x)
    ra, dec = geometry.offset_position(ra, dec, *(-offset for offset in pointing.evaluate(model, ra, dec)[:2]))
    known = forced[["source_id", *CATALOG]].assign(ra_deg=ra, dec_deg=dec, flux_mjy=flux)
    return known[np.isfinite(flux) & np.isfinite(ra)]


def left_out(header):
    """Row of the table ``coadd_members`` for a map that is not in the sum."""
    return {"map_id": header.map_id, "freq_ghz": np.nan, "reason": header.reason} | NOTHING


def tabulate(rows):
    """Table ``coadd_members`` of rows."""
    return tables.make("coadd_members", pd.DataFrame(rows))
