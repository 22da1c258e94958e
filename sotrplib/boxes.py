"""Boxes on the sky: ``ra_min_deg, ra_max_deg, dec_min_deg, dec_max_deg``; ra_min > ra_max crosses RA 0."""

import numpy as np

from sotrplib import geometry

NAMES = ("ra_min_deg", "ra_max_deg", "dec_min_deg", "dec_max_deg")


def find_slices(shape, wcs, box, margin_arcmin=0.0):
    """Part of a map that covers a box on the sky.

    Parameters
    ----------
    shape : (ny, nx)
    wcs : astropy.wcs.WCS
    box : mapping
    margin_arcmin : float
        Added on all sides.

    Returns
    -------
    (slice, slice)
        Rows and columns. A box over the seam of a map of the whole sky takes all columns.

    Raises
    ------
    ValueError
        If the box does not touch the map.
    """
    area = _area(box, margin_arcmin)
    solid = box["ra_min_deg"] != box["ra_max_deg"] and box["dec_min_deg"] < box["dec_max_deg"]
    find = _car_ranges if geometry.is_plain_car(wcs) else _sampled_ranges
    ranges = find(shape, wcs, area) if solid else None
    if ranges is None:
        centre = geometry.pix2sky(wcs, (shape[0] - 1) / 2, (shape[1] - 1) / 2)
        raise ValueError(
            f"box {dict(box)} does not touch the map of {shape[0]} x {shape[1]} pixels around "
            f"RA {centre[0]:.3f} Dec {centre[1]:.3f}; correct the box or leave the map out"
        )
    return tuple(slice(int(first), int(last) + 1) for first, last in ranges)


def outline(shape, wcs):
    """Smallest box around a map.

    Parameters
    ----------
    shape : (ny, nx)
    wcs : astropy.wcs.WCS

    Returns
    -------
    dict
        RA from 0 to 360, 0 and 360 for every RA. From 128 points a side, the outer rims of the pixels.
    """
    ends = [np.linspace(-0.5, n - 0.5, 129) for n in shape]
    y = np.concatenate([ends[0], ends[0], np.full(129, -0.5), np.full(129, shape[0] - 0.5)])
    x = np.concatenate([np.full(129, -0.5), np.full(129, shape[1] - 0.5), ends[1], ends[1]])
    ra, dec = geometry.pix2sky(wcs, y, x)
    middle, _ = geometry.pix2sky(wcs, (shape[0] - 1) / 2, (shape[1] - 1) / 2)
    offset = (ra - middle + 180.0) % 360.0 - 180.0
    ra_min, ra_max = geometry.wrap_ra(middle + np.nanmin(offset)), geometry.wrap_ra(middle + np.nanmax(offset))
    dec_min, dec_max = np.nanmin(dec), np.nanmax(dec)
    poles = geometry.inside(shape, *geometry.sky2pix(wcs, middle, np.array([-90.0, 90.0]), shape))
    period = geometry.column_period(wcs)
    if poles.any() or (period is not None and shape[1] >= period - 1) or np.isnan(ra).any():
        ra_min, ra_max = 0.0, 360.0
    dec_min, dec_max = -90.0 if poles[0] else dec_min, 90.0 if poles[1] else dec_max
    return _make(ra_min, ra_max, dec_min, dec_max)


def widen(box, margin_arcmin):
    """Box with a margin, in true angles, on all sides."""
    ra_min, degrees, low, high = _area(box, margin_arcmin)
    ends = (0.0, 360.0) if degrees >= 360 else (geometry.wrap_ra(ra_min), geometry.wrap_ra(ra_min + degrees))
    return _make(*ends, low, high)


def overlap(one, other):
    """Whether two boxes have sky in common."""
    if one["dec_min_deg"] > other["dec_max_deg"] or other["dec_min_deg"] > one["dec_max_deg"]:
        return False
    first, second = width(one), width(other)
    start = (other["ra_min_deg"] - one["ra_min_deg"]) % 360.0
    return start <= first or start + second >= 360.0


def width(box):
    """Degrees of RA in a box, at most 360."""
    low, high = box["ra_min_deg"], box["ra_max_deg"]
    return 360.0 if abs(high - low) >= 360 else (high - low) % 360.0


def _make(*ends):
    return dict(zip(NAMES, map(float, ends), strict=True))


def _area(box, margin_arcmin):
    """ra_min, width (at most 360), dec_min and dec_max in degrees of a box with a margin."""
    degrees, margin = width(box), margin_arcmin / 60
    low, high = max(box["dec_min_deg"] - margin, -90.0), min(box["dec_max_deg"] + margin, 90.0)
    side = min(margin / max(np.cos(np.radians(max(abs(low), abs(high)))), 1e-9), (360 - degrees) / 2)
    return box["ra_min_deg"] - side, degrees + 2 * side, low, high


def _car_ranges(shape, wcs, area):
    """First and last row and column of the area (ra_min, width, dec_min, dec_max), or None."""
    ra_min, degrees, low, high = area
    y, x = geometry.sky2pix(wcs, ra_min + degrees / 2, np.array([low, high]), shape)
    half = degrees / 2 / 360 * geometry.column_period(wcs)
    turns = np.array([-1, 0, 1]) * geometry.column_period(wcs)
    left, right = x[0] - half + turns, x[0] + half + turns
    touched = (right >= -0.5) & (left <= shape[1] - 0.5)
    if not touched.any() or y.max() < -0.5 or y.min() > shape[0] - 0.5:
        return None
    columns = left[touched].min(), right[touched].max()
    return _clip((y.min(), y.max()), shape[0]), _clip(columns, shape[1])


def _sampled_ranges(shape, wcs, area):
    """As :func:`_car_ranges` for any projection, from grids on box and map; larger by a grid step at most."""
    ra_min, degrees, low, high = area
    ra, dec = np.meshgrid(ra_min + np.linspace(0, degrees, 129), np.linspace(low, high, 129))
    y, x = geometry.sky2pix(wcs, ra.ravel(), dec.ravel(), shape)
    hit = geometry.inside(shape, y, x)
    rows, columns = (np.unique(np.linspace(0, n - 1, 129).round()) for n in shape)
    map_y, map_x = (grid.ravel() for grid in np.meshgrid(rows, columns, indexing="ij"))
    map_ra, map_dec = geometry.pix2sky(wcs, map_y, map_x)
    covered = ((map_ra - ra_min) % 360 <= degrees) & (map_dec >= low) & (map_dec <= high)
    y, x = np.append(y[hit], map_y[covered]), np.append(x[hit], map_x[covered])
    if not len(y):
        return None
    pad_y, pad_x = shape[0] / 128, shape[1] / 128
    return _clip((y.min() - pad_y, y.max() + pad_y), shape[0]), _clip((x.min() - pad_x, x.max() + pad_x), shape[1])


def _clip(ends, n):
    return np.clip(np.floor(ends[0] + 0.5), 0, n - 1), np.clip(np.ceil(ends[1] - 0.5), 0, n - 1)
