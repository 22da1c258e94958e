"""Figures of one source, one map or one place, and their pixels as FITS, from the results in this folder."""

from pathlib import Path

import numpy as np

from sotrplib import boxes, geometry, lightcurves, mapexports, maps, plots, pointing, store, variability

RESULTS = Path("results")
FIELDS = {
    "snr": ("SNR", maps.snr),
    "flux": ("flux [mJy]", maps.flux),
    "flux_err": ("flux error [mJy]", maps.flux_err),
}


def draw_light_curve(source):
    """Light curve of a source, given by its source_id or its name.

    Raises
    ------
    ValueError
        If there is no such source.
    """
    named = store.read_table(RESULTS / "catalogs" / "catalog.h5", "sources", columns=["source_id", "source_name"])
    match = named.loc[(named["source_id"] == source) | (named["source_name"] == source), "source_id"]
    if match.empty:
        raise ValueError(f"no source {source!r} among {len(named)}; sotrp show results/catalogs/catalog.h5 sources")
    curve = lightcurves.read_source(RESULTS / "lightcurves" / "lightcurves.h5", match.iloc[0])
    steady = curve.dropna(subset=["catalog_flux_mjy"]).drop_duplicates("band")
    usable = curve[variability.usable(curve)]
    if usable.empty:
        raise ValueError(f"{source} has no measurement that can be used: see its flags in lightcurves.h5")
    return plots.light_curve(usable, steady=dict(zip(steady["band"], steady["catalog_flux_mjy"], strict=True)))


def draw_map(map_id, field, box=None):
    """A field of a filtered map, or of the part of it in a box; see :func:`read_map`."""
    return _draw(read_map(map_id, box), field)


def draw_cutout(map_id, field, position, size_arcmin):
    """A field of a filtered map around a position (RA, Dec in degrees), which is circled where the pointing puts it."""
    sky_map, centre = read_cutout(map_id, position, size_arcmin)
    return _draw(sky_map, field, marks=[centre])


def write_map(path, map_id, field, box=None):
    """Write a field of a map, or of the part of it in a box, as a FITS image."""
    mapexports.write_field(path, read_map(map_id, box), field)


def write_cutout(path, map_id, field, place, size_arcmin):
    """Write a field of a map around a place, as :func:`find_position` takes it, as a FITS image."""
    sky_map, _ = read_cutout(map_id, find_position(place), size_arcmin)
    mapexports.write_field(path, sky_map, field)


def read_map(map_id, box=None):
    """A filtered map, or the part of it in a box.

    Parameters
    ----------
    map_id : str
    box : mapping, optional
        ra_min_deg, ra_max_deg, dec_min_deg and dec_max_deg; ra_min > ra_max crosses RA 0.
    """
    path = _map_path(map_id)
    window = None
    if box:
        wcs = geometry.text_to_wcs(store.read_attrs(path)["wcs"])
        window = boxes.find_slices(wcs.array_shape, wcs, box)
    return maps.read_sky_map(path, window)


def read_cutout(map_id, position, size_arcmin):
    """Part of a filtered map around a position, and where the map's pointing puts that; RA and Dec in degrees.

    Raises
    ------
    ValueError
        If there is no such map, or it does not cover the position.
    """
    path = _map_path(map_id)
    wcs = geometry.text_to_wcs(store.read_attrs(path)["wcs"])
    centre = _seen_at(map_id, wcs, position)
    y, x = (float(v[0]) for v in geometry.sky2pix(wcs, *(np.array([v]) for v in centre)))
    scales = (float(np.mean(scale)) for scale in geometry.pixel_scales(wcs.array_shape, wcs))
    window = []
    for middle, scale, n in zip((y, x), scales, wcs.array_shape, strict=True):
        half = size_arcmin / scale / 2
        if not (np.isfinite(middle) and -half < middle < n + half):
            raise ValueError(f"{map_id} does not cover RA {position[0]:g}, Dec {position[1]:g}")
        window.append(slice(max(int(middle - half), 0), min(int(middle + half) + 2, n)))
    return maps.read_sky_map(path, tuple(window)), centre


def find_position(text):
    """RA and Dec in degrees from "RA,DEC", or of a source by its source_id or name."""
    parts = text.split(",")
    try:
        ra, dec = (float(part) for part in parts)
    except ValueError:
        table = store.read_table(RESULTS / "catalogs" / "catalog.h5", "sources")
        rows = table[(table["source_id"] == text) | (table["source_name"] == text)]
        if rows.empty:
            raise ValueError(f"{text!r} is neither RA,DEC in degrees nor one of {len(table)} sources") from None
        ra, dec = rows.iloc[0][["ra_deg", "dec_deg"]]
    return float(ra), float(dec)


def _draw(sky_map, field, marks=()):
    label, read = FIELDS[field]
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.where(sky_map.kappa > 0, read(sky_map), np.nan)
    good = (sky_map.mask == 0) & (sky_map.kappa > 0)
    if not good.any():
        raise ValueError(f"{sky_map.info.map_id}: no usable pixel there")
    scales = {"snr": plots.SNR_MAX, "flux": plots.SNR_MAX * float(np.median(sky_map.kappa[good] ** -0.5))}
    masked = (sky_map.mask > 0) & (sky_map.kappa > 0)
    words = f"{label}, {sky_map.info.array} {sky_map.info.band}"
    return plots.sky_image(values, sky_map.wcs, words, largest=scales.get(field), masked=masked, marks=marks)


def _seen_at(map_id, wcs, position):
    """Position moved by the map's pointing."""
    attrs = store.read_attrs(RESULTS / "pointing" / f"{map_id}.h5")
    model = pointing.from_dict(attrs["pointing"]) if "pointing" in attrs else pointing.PointingModel()
    dra, ddec = pointing.evaluate(model, *position)[:2]
    return tuple(float(v) for v in geometry.offset_position(*position, dra, ddec))


def _map_path(map_id):
    path = RESULTS / "preprocessed" / f"{map_id}.h5"
    if not path.is_file():
        raise ValueError(f"no map {map_id!r} in {path.parent}; see sotrp status, or ls {path.parent}")
    return path
