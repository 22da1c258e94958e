"""Cutouts around candidates: the same sky at the same scale from every map, and its difference from other nights."""

from dataclasses import dataclass

import numpy as np

from sotrplib import geometry, maps, pointing, reading, store
from sotrplib.template import N_TAPS

CUTOUT_ARCMIN = 10.0
_STEP_ARCMIN = 0.25


@dataclass(frozen=True, eq=False)
class Stamp:
    """Flux (mJy) and inverse variance (1/mJy2) around a position, north up and east to the left, NaN and 0 outside."""

    flux: np.ndarray
    weight: np.ndarray

    @property
    def snr(self):
        return self.flux * np.sqrt(self.weight)


@dataclass(frozen=True, eq=False)
class Cut(Stamp):
    """Stamp of the nearest pixels, as they are; ``between`` is read between them, and can be subtracted."""

    between: Stamp


def cut(sky_map, position, model):
    """Stamps of a map.

    Parameters
    ----------
    sky_map : maps.SkyMap
    position : mapping
        ra_deg and dec_deg on the sky; the image is moved by the map's pointing offset there.
    model : pointing.PointingModel

    Returns
    -------
    Cut
    """
    place = locate(sky_map.wcs, position, model)
    rho, kappa = (take_nearest(image, *place) for image in (sky_map.rho, sky_map.kappa))
    y, x = (p.ravel() for p in place)
    s, depth = (
        values.reshape(rho.shape) for values in reading.read_at(sky_map.rho, sky_map.kappa, y, x, sky_map.template)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        between = Stamp((s / np.sqrt(depth)).astype("f4"), np.nan_to_num(depth).astype("f4"))
        return Cut(np.where(kappa > 0, rho / kappa, np.nan), np.nan_to_num(kappa), between)


def cut_from_file(path, positions, model):
    """Stamps of a filtered map, of which only the pixels around the positions are read.

    Parameters
    ----------
    path : path
        The map.
    positions : list of mapping
        source_id, ra_deg and dec_deg.
    model : pointing.PointingModel

    Returns
    -------
    dict of str to Cut
        By source_id.
    """
    template, wcs = maps.read_template(path), geometry.text_to_wcs(store.read_attrs(path)["wcs"])
    cuts = {}
    for position in positions:
        window = _window_around(wcs, position, model)
        sky_map = maps.read_sky_map(path, window, template=template, with_time=False)
        cuts[position["source_id"]] = cut(sky_map, position, model)
    return cuts


def _window_around(wcs, position, model):
    """Rows and columns (two slices) of a map that decide a stamp; of one that lies off the map the pixels nearest."""
    window = []
    for place, n in zip(locate(wcs, position, model), wcs.array_shape, strict=True):
        known = place[np.isfinite(place)]
        low, high = (int(np.clip(end(known), 0, n - 1)) if known.size else 0 for end in (np.min, np.max))
        window.append(slice(max(low - N_TAPS, 0), min(high + N_TAPS + 1, n)))
    return tuple(window)


def resample(image, wcs, position, model):
    """Nearest pixels of an image around a position, as in :func:`cut`."""
    return take_nearest(image, *locate(wcs, position, model))


def locate(wcs, position, model):
    """Pixel coordinates (y, x) of the points of a stamp, each (n, n)."""
    half = CUTOUT_ARCMIN / 2 - _STEP_ARCMIN / 2
    axis = np.arange(-half, half + 1e-6, _STEP_ARCMIN) * 60
    dra, ddec = pointing.evaluate(model, position["ra_deg"], position["dec_deg"])[:2]
    north, east = np.meshgrid(-axis + ddec, -axis + dra, indexing="ij")
    return geometry.sky2pix(wcs, *geometry.offset_position(position["ra_deg"], position["dec_deg"], east, north))


def take_nearest(image, y, x):
    """Pixels of an image nearest to points, NaN off it."""
    inside = geometry.inside(image.shape, y, x)
    taken = np.full(y.shape, np.nan, np.float32)
    taken[inside] = image[np.rint(y[inside]).astype(int), np.rint(x[inside]).astype(int)]
    return taken


def subtract(stamp, others):
    """Difference of a stamp and the weighted mean of others of its band; None if none of them sees anything."""
    weight = np.sum([other.weight for other in others], axis=0) if others else np.zeros(1)
    if not np.any(weight > 0):
        return None
    total = np.sum([np.nan_to_num(other.flux) * other.weight for other in others], axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        flux = stamp.flux - total / weight
        joint = 1 / (1 / stamp.weight + 1 / weight)
    both = (stamp.weight > 0) & (weight > 0)
    return Stamp(np.where(both, flux, np.nan), np.where(both, joint, 0.0))
