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

from sotrplib import geometry, maps, masks, pointing, strips, tables
from sotrplib import template as templates

_SPARE_ROWS = 16
_REACH_TEMPLATES = 2  # margins in half sizes of the template: a source, and what overlaps the sources it overlaps


class Sheet(NamedTuple):
    """A filtered map in its file: path, WCS with the shape of the map, :class:`maps.MapInfo`, template, and strips."""

    path: str
    wcs: object
    info: maps.MapInfo
    template: templates.Template
    strips: list

    @property
    def is_whole(self):
        """Whether the map may be held as a whole."""
        return len(self.strips) == 1

    def read(self, strip=None):
        """A strip as a map (maps.SkyMap), or the whole map."""
        if strip is None:
            return maps.read_sky_map(self.path)
        return maps.read_sky_map(self.path, (strip.rows, slice(0, self.wcs.array_shape[1])), template=self.template)


def open_map(path, strip_mpix, reach_arcmin):
    """Look at the file of a filtered map.

    Parameters
    ----------
    path : path
    strip_mpix : float
        Maps of more million pixels are cut into strips.
    reach_arcmin : float
        How far from a source pixels count, if that is farther than templates reach.

    Returns
    -------
    Sheet

    Raises
    ------
    maps.MapError
        If the file records a failed map.
    """
    (wcs, info), template = maps.read_header(path), maps.read_template(path)
    step = float(np.min(np.asarray(template.step_arcmin)[:, 0]))
    margin = max(_REACH_TEMPLATES * templates.half_size(template), math.ceil(reach_arcmin / step)) + _SPARE_ROWS
    return Sheet(path, wcs, info, template, strips.plan(wcs.array_shape, strip_mpix, margin))


def measure_offsets(sheet, catalog, options):
    """:func:`pointing.measure_offsets` on the map of a :class:`Sheet`; the common shift is that of the whole map."""
    if sheet.is_whole:
        return pointing.measure_offsets(sheet.read(), catalog, options)
    y, _ = geometry.sky2pix(sheet.wcs, catalog["ra_deg"].to_numpy(), catalog["dec_deg"].to_numpy())
    each = [(strip, strips.owns(strip, y)) for strip in sheet.strips]
    samples = [pointing.sample_shifts(sheet.read(strip), catalog, options, own=own) for strip, own in each]
    shift = pointing.common_shift(samples, options)
    parts = [pointing.measure_offsets(sheet.read(strip), catalog, options, own=own, shift=shift) for strip, own in each]
    return pd.concat(parts, ignore_index=True)


def measure_known(sheet, catalog, model, measure, find_bad):
    """Measure the known sources on a map.

    Parameters
    ----------
    sheet : Sheet
    catalog : pandas.DataFrame
        Table ``catalog``, of the sources to measure alone.
    model : pointing.PointingModel
        Of the map.
    measure : function
        Of a map and a catalogue; gives the table ``forced``, a row for each of the catalogue's sources on the map in
        its order, and arrays beside it as of :func:`photometry.cutout_arrays`.
    find_bad : function
        Of a map; gives the pixels (ny, nx) that edge distances are measured to.

    Returns
    -------
    pandas.DataFrame, dict
        As ``measure`` would give them of the whole map.
    """
    if sheet.is_whole:
        return measure(sheet.read(), catalog)
    catalog = catalog[geometry.inside(sheet.wcs.array_shape, *_pixels(sheet.wcs, catalog, model))]
    place, parts, index, rims = _pixels(sheet.wcs, catalog, model), [], [], []
    for strip in sheet.strips:
        sky_map, near = sheet.read(strip), np.flatnonzero(strips.reaches(strip, place[0]))
        own = strips.owns(strip, place[0][near])
        parts.append(_take(*measure(sky_map, catalog.iloc[near]), own))
        index.append(near[own])
        rims.append(_rim_of_core(strip, find_bad(sky_map), sheet.wcs))
    table, arrays = _take(*_join(parts), np.argsort(np.concatenate(index)))
    return tables.make("forced", _with_distances(table, rims, sheet.wcs, place)), arrays


def find(sheet, model, search):
    """Find sources on a map.

    Parameters
    ----------
    sheet : Sheet
    model : pointing.PointingModel
        Of the map.
    search : function
        Of a map; gives the table ``detections``, whose edge distances are those to masked pixels, and arrays beside it
        as of :func:`photometry.cutout_arrays`.

    Returns
    -------
    pandas.DataFrame, dict
        As ``search`` would give them of the whole map; what lies on the seam of two strips is there once.
    """
    if sheet.is_whole:
        return search(sheet.read())
    parts, numbers, rims = [], [], []
    for k, strip in enumerate(sheet.strips):
        sky_map = sheet.read(strip)
        found, arrays = search(sky_map)
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
