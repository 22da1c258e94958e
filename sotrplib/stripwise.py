"""The stages of a filtered map that is too large for memory: each strip measured or searched as a map of its own.

A map of no more pixels than may be held is one strip, and goes through the functions of whole maps as it is. The
margins of other strips hold all that a source in the core is measured with: its template, those of sources that it
overlaps and of what these overlap, its stamps, and the edges that flags speak of. Distances to edges that are
farther away are measured to the rim of the whole map, gathered from all strips.
"""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from sotrplib import detection, geometry, maps, masks, photometry, pointing, revisits, strips, tables
from sotrplib import template as templates

_SPARE_ROWS = 16
_REACH_TEMPLATES = 2  # margins in half sizes of the template: a source, and what overlaps the sources it overlaps


class _Sheet(NamedTuple):
    """A filtered map in its file: path, WCS with the shape of the map, template, and strips."""

    path: str
    wcs: object
    template: templates.Template
    strips: list

    def read(self, strip):
        """A strip as a map (maps.SkyMap)."""
        return maps.read_sky_map(self.path, (strip.rows, slice(0, self.wcs.array_shape[1])), template=self.template)


def measure_offsets(path, catalog, options, strip_mpix):
    """:func:`pointing.measure_offsets` on the map in a file, by strips if it has more million pixels than that.

    A shift common to all sources is that of the brightest of the whole map.
    """
    reach = 2 * options["radius_arcmin"] + np.hypot(options["ra_shift_arcsec"], options["dec_shift_arcsec"]) / 60
    sheet = _open(path, strip_mpix, reach)
    if len(sheet.strips) == 1:
        return pointing.measure_offsets(maps.read_sky_map(path), catalog, options)
    y, _ = geometry.sky2pix(sheet.wcs, catalog["ra_deg"].to_numpy(), catalog["dec_deg"].to_numpy())
    each = [(strip, strips.owns(strip, y)) for strip in sheet.strips]
    samples = [pointing.sample_shifts(sheet.read(strip), catalog, options, own=own) for strip, own in each]
    shift = pointing.common_shift(samples, options)
    parts = [pointing.measure_offsets(sheet.read(strip), catalog, options, own=own, shift=shift) for strip, own in each]
    return pd.concat(parts, ignore_index=True)


def measure_known(path, catalog, model, options, strip_mpix):
    """Forced photometry and cutouts of the known sources on the map in a file.

    Parameters
    ----------
    path : path
        Filtered map.
    catalog, model, options
        As for :func:`photometry.measure_known`.
    strip_mpix : float
        Maps of more million pixels are measured strip by strip.

    Returns
    -------
    pandas.DataFrame
        Table ``forced``.
    dict
        Cutouts, as of :func:`photometry.cutout_arrays`.
    """
    sheet = _open(path, strip_mpix, max(options["near_edge_arcmin"], options["cutout_arcmin"]))
    if len(sheet.strips) == 1:
        return _measure_known(maps.read_sky_map(path), catalog, model, options)
    catalog = _measurable(sheet, catalog, model, options)
    y, x = _pixels(sheet.wcs, catalog, model)
    parts, index, rims = [], [], []
    for strip in sheet.strips:
        sky_map, near = sheet.read(strip), np.flatnonzero(strips.reaches(strip, y))
        own = strips.owns(strip, y[near])
        parts.append(_take(*_measure_known(sky_map, catalog.iloc[near], model, options), own))
        index.append(near[own])
        rims.append(_rim_of_core(strip, photometry.unusable_pixels(sky_map), sheet.wcs))
    table, arrays = _take(*_join(parts), np.argsort(np.concatenate(index)))
    return tables.make("forced", _with_distances(table, rims, sheet.wcs, (y, x))), arrays


def find(path, forced, model, options, strip_mpix):
    """Blind detections on the map in a file, and their cutouts.

    Parameters
    ----------
    path : path
        Filtered map.
    forced : pandas.DataFrame or None
        Table ``forced`` of the sources to be taken out of the map first; None for none.
    model : pointing.PointingModel
        Of the map.
    options : mapping
        Section ``find_sources`` of the configuration.
    strip_mpix : float
        Maps of more million pixels are searched strip by strip.

    Returns
    -------
    pandas.DataFrame
        Table ``detections``; what lies on the seam of two strips is in it once.
    dict
        Cutouts, as of :func:`photometry.cutout_arrays`.
    """
    sheet = _open(path, strip_mpix, max(options["near_edge_arcmin"], options["cutout_arcmin"]))
    if len(sheet.strips) == 1:
        return _find(maps.read_sky_map(path), forced, model, options)
    parts, numbers, rims = [], [], []
    for k, strip in enumerate(sheet.strips):
        sky_map = sheet.read(strip)
        found, arrays = _find(sky_map, forced, model, options)
        near = strips.may_own(strip, _pixels(sheet.wcs, found, model)[0])
        parts.append(_take(found, arrays, near))
        numbers.append(np.full(np.count_nonzero(near), k))
        rims.append(_rim_of_core(strip, sky_map.mask, sheet.wcs))
    table, arrays = _join(parts)
    place = _pixels(sheet.wcs, table, model)
    kept = np.flatnonzero(strips.once(sheet.strips, np.concatenate(numbers), *place))
    kept = kept[np.argsort(-table["flux_mjy"].to_numpy()[kept], kind="stable")]
    table, arrays = _take(table, arrays, kept)
    table = _with_distances(table, rims, sheet.wcs, [values[kept] for values in place])
    return tables.make("detections", table.assign(detection_id=np.arange(len(kept)))), arrays


def _open(path, strip_mpix, reach_arcmin):
    """The map of a file with its strips, whose margins are as wide as the reach and what templates need."""
    (wcs, _), template = maps.read_header(path), maps.read_template(path)
    step = float(np.min(np.asarray(template.step_arcmin)[:, 0]))
    margin = max(_REACH_TEMPLATES * templates.half_size(template), math.ceil(reach_arcmin / step)) + _SPARE_ROWS
    return _Sheet(path, wcs, template, strips.plan(wcs.array_shape, strip_mpix, margin))


def _measure_known(sky_map, catalog, model, options):
    forced = photometry.measure_known(sky_map, catalog, model, options)
    return forced, photometry.cutout_arrays(sky_map, forced, options["cutout_arcmin"], pointing=model)


def _find(sky_map, forced, model, options):
    unknown = sky_map if forced is None else revisits.without_known(sky_map, forced, model)
    found = detection.find(sky_map, unknown.rho, options, model)
    return found, photometry.cutout_arrays(unknown, found, options["cutout_arcmin"], pointing=model)


def _measurable(sheet, catalog, model, options):
    """Rows of the catalogue that forced photometry of the whole map would have rows for."""
    if options["method"] == "none":
        return catalog[:0]
    on_map = geometry.inside(sheet.wcs.array_shape, *_pixels(sheet.wcs, catalog, model))
    return catalog[on_map & ~(catalog["flux_mjy"].to_numpy(float) < options["flux_min_mjy"])]


def _pixels(wcs, table, model):
    """Rows and columns of the map at which positions of a table are expected, the pointing of the map counted."""
    ra, dec = table["ra_deg"].to_numpy(), table["dec_deg"].to_numpy()
    dra, ddec, *_ = pointing.evaluate(model, ra, dec)
    return geometry.sky2pix(wcs, *geometry.offset_position(ra, dec, dra, ddec))


def _rim_of_core(strip, bad, wcs):
    """Rim (:func:`masks.find_rim`) of what is bad in a strip, in pixels of the map: its part in the core.

    The pixels beyond the border of the map belong to the first and the last strip.
    """
    ny, nx = wcs.array_shape
    row, column = masks.find_rim(bad, geometry.slice_wcs(wcs, (strip.rows, slice(0, nx))))
    row = row + strip.rows.start
    first, stop = strip.core.start or -1, strip.core.stop + (strip.core.stop == ny)
    own = (row >= first) & (row < stop)
    return row[own], column[own]


def _with_distances(table, rims, wcs, place):
    """Table with the distances to the rim of the whole map; 0 stays, which is on a bad pixel."""
    rim = tuple(np.concatenate(values) for values in zip(*rims, strict=True))
    good = table["edge_distance_arcmin"].to_numpy() > 0
    return table.assign(edge_distance_arcmin=masks.distance_to_rim_arcmin(rim, wcs, *place, good=good))


def _take(table, arrays, index):
    """Rows of a table and of the arrays (with attributes) beside it."""
    taken = {name: (values[index], about) for name, (values, about) in arrays.items()}
    return (table[index] if index.dtype == bool else table.iloc[index]).reset_index(drop=True), taken


def _join(parts):
    """Tables below each other, and the arrays beside them: cutouts of all strips as large as the smallest."""
    found, arrays = zip(*parts, strict=True)
    joined = {}
    for name, (_, about) in arrays[0].items():
        values = [part[name][0] for part in arrays]
        side = min(v.shape[-1] for v in values)
        joined[name] = (np.concatenate([_middle(v, side) if v.ndim == 3 else v for v in values]), about)
    return pd.concat(found, ignore_index=True), joined


def _middle(images, side):
    """Middle of square images (n, k, k); ``side`` and k are odd."""
    cut = (images.shape[-1] - side) // 2
    return images[:, cut : cut + side, cut : cut + side]
