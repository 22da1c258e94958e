"""Pixels and sky: every conversion between them, and offsets and distances on the sphere.

Maps are ``(ny, nx)`` arrays, axis order [dec, ra]; pixel coordinates ``(y, x)`` are 0-based floats with integers
at pixel centres; ``wcs`` is a two-dimensional celestial ``astropy.wcs.WCS``. Angles are degrees unless named
otherwise. Offsets along RA are true angles (times cos dec). Plain CAR maps (CRVAL2 = 0, not rotated) are computed
directly, everything else by wcslib. Half a second of every job is what astropy takes to be imported: a plain CAR map
of ours is a :class:`CarWCS` until somebody asks it for more than numbers.
"""

import copy
import re
import warnings
from types import SimpleNamespace

import numpy as np

from sotrplib.units import ARCSEC, DEG

_CYLINDRICAL = ("CAR", "CEA", "CYP", "MER")
# Of a header only these cards of the first two axes reach wcslib, which can crash on impossible numbers of axes.
WCS_KEYWORD = re.compile(
    r"(CTYPE|CRVAL|CRPIX|CDELT|CUNIT|CROTA)[12]|(CD|PC)[12]_[12]|P[VS][12]_\d{1,2}|LONPOLE|LATPOLE|RADECSYS|RADESYS"
    r"|EQUINOX|EPOCH|[AB]P?_(ORDER|\d_\d)"
)

_CARD = re.compile(r"(?m)^(\w+) *= *('[^']*'|\S+)")
_CAR_CARDS = {"CTYPE1": "'RA---CAR'", "CTYPE2": "'DEC--CAR'", "CUNIT1": "'deg'", "CUNIT2": "'deg'", "CRVAL2": "0.0"}
_CAR_CARDS |= {"LONPOLE": "0.0", "LATPOLE": "90.0", "RADESYS": "'ICRS'", "NAXIS": "2", "WCSAXES": "2"}
_CAR_NUMBERS = {f"{name}{i}" for name in ("CRPIX", "CDELT", "NAXIS") for i in (1, 2)} | {"CRVAL1"}
_NO_MATTER = {"MJDREF"}


def sky2pix(wcs, ra_deg, dec_deg, shape=None):
    """Pixel coordinates of sky positions.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
    ra_deg, dec_deg : float or array
        Positions; any RA, wrapped or not.
    shape : (ny, nx), optional
        Of the map; taken from the WCS if it knows it. Where a map wraps around the sky, the column nearest the middle
        of the map is chosen (nearest the reference pixel if the shape is not known).

    Returns
    -------
    y, x : float or array
        NaN where the position cannot be projected.
    """
    ra, dec = np.broadcast_arrays(np.asarray(ra_deg, float), np.asarray(dec_deg, float))
    if is_plain_car(wcs):
        (ra0, _), (x0, y0), (dx, dy) = wcs.wcs.crval, wcs.wcs.crpix - 1, np.diag(wcs.pixel_scale_matrix)
        x, y = x0 + (ra - ra0) / dx, np.where(np.abs(dec) <= 90, y0 + dec / dy, np.nan)
    else:
        x, y = (values.reshape(ra.shape) for values in wcs.all_world2pix(ra.ravel(), dec.ravel(), 0))
    period = column_period(wcs)
    if period is not None:
        shape = wcs.array_shape if shape is None else shape
        middle = wcs.wcs.crpix[0] - 1 if shape is None else (shape[1] - 1) / 2
        x = _wrap(x, middle, period)
    return y[()], x[()]


def pix2sky(wcs, y, x):
    """Sky positions of pixel coordinates.

    Returns
    -------
    ra_deg, dec_deg : float or array
        RA in 0..360; both NaN where the pixel is not on the sky.
    """
    y, x = np.broadcast_arrays(np.asarray(y, float), np.asarray(x, float))
    if is_plain_car(wcs):
        (ra0, _), (x0, y0), (dx, dy) = wcs.wcs.crval, wcs.wcs.crpix - 1, np.diag(wcs.pixel_scale_matrix)
        ra, dec = ra0 + (x - x0) * dx, (y - y0) * dy
        on_sky = np.abs(dec) <= 90 + 1e-9
        ra, dec = np.where(on_sky, ra, np.nan), np.where(on_sky, np.clip(dec, -90, 90), np.nan)
    else:
        period = column_period(wcs)
        x = x if period is None else _wrap(x, wcs.wcs.crpix[0] - 1, period)
        ra, dec = (values.reshape(y.shape) for values in wcs.all_pix2world(x.ravel(), y.ravel(), 0))
    return wrap_ra(ra), dec[()]


def wrap_ra(ra_deg):
    """RA taken to 0 <= RA < 360."""
    ra = np.mod(ra_deg, 360.0)
    return np.where(ra >= 360.0, 0.0, ra)[()]


def is_plain_car(wcs):
    """Whether the map is CAR with the equator of the projection on that of the sky: y is dec, x is RA."""
    if not wcs.wcs.ctype[0].startswith("RA---CAR") or wcs.wcs.crval[1] != 0 or wcs.has_distortion:
        return False
    (_, shear), (rotation, _) = wcs.pixel_scale_matrix
    lonpole, latpole = wcs.wcs.lonpole, wcs.wcs.latpole
    upright = (lonpole == 0 or np.isnan(lonpole)) and (latpole > 0 or np.isnan(latpole))
    return bool(upright and shear == 0 and rotation == 0)


def column_period(wcs):
    """Columns in a full turn of RA for upright cylindrical projections, else None."""
    matrix = wcs.pixel_scale_matrix
    if wcs.wcs.ctype[0][-3:] not in _CYLINDRICAL or matrix[0, 1] or matrix[1, 0]:
        return None
    return 360.0 / abs(matrix[0, 0])


def unit_vectors(ra_deg, dec_deg):
    """Cartesian unit vectors, shape (n, 3), of n positions."""
    ra, dec = np.radians(np.atleast_1d(ra_deg)), np.radians(np.atleast_1d(dec_deg))
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec) + 0 * ra], axis=-1)


def separation_arcsec(ra1_deg, dec1_deg, ra2_deg, dec2_deg):
    """Angular distance in arcsec (Vincenty's formula: exact from 0 to 180 degrees); arrays are broadcast."""
    east, north, cosine = _direction(ra1_deg, dec1_deg, ra2_deg, dec2_deg)
    return np.arctan2(np.hypot(east, north), cosine) / ARCSEC


def tangent_offsets(ra_deg, dec_deg, ra0_deg, dec0_deg):
    """Offset of positions from (ra0, dec0) along RA and Dec.

    Length and direction are those of the great circle from (ra0, dec0), so that
    ``hypot(dra, ddec)`` is the separation at any distance, over the RA wrap and at the poles.

    Returns
    -------
    dra_arcsec, ddec_arcsec : float or array
        East and north, in arcsec on the sky.
    """
    east, north, cosine = _direction(ra0_deg, dec0_deg, ra_deg, dec_deg)
    sine = np.hypot(east, north)
    scale = np.divide(np.arctan2(sine, cosine), sine, out=np.ones_like(sine), where=sine > 0) / ARCSEC
    return (east * scale)[()], (north * scale)[()]


def offset_position(ra_deg, dec_deg, dra_arcsec, ddec_arcsec):
    """Position at an offset (east, north) from a position: the inverse of :func:`tangent_offsets`."""
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    east, north = np.asarray(dra_arcsec) * ARCSEC, np.asarray(ddec_arcsec) * ARCSEC
    distance = np.hypot(east, north)
    ratio = np.sinc(distance / np.pi)  # sin(distance) / distance
    x = np.cos(dec) * np.cos(distance) - np.sin(dec) * north * ratio
    y = east * ratio
    z = np.sin(dec) * np.cos(distance) + np.cos(dec) * north * ratio
    new_ra = np.degrees(ra + np.arctan2(y, x))
    return wrap_ra(new_ra), np.degrees(np.arctan2(z, np.hypot(x, y)))


def pixel_scales(shape, wcs):
    """Physical size of the pixels of every row.

    Returns
    -------
    dy_arcmin, dx_arcmin : array (ny,)
        Size along the column and along the row, at the middle column. For CAR dx is the mean width
        of the pixel, |CDELT1| cos dec, also where a pixel straddles the pole.
    """
    rows, middle = np.arange(shape[0]), (shape[1] - 1) / 2
    if is_plain_car(wcs):
        dy = np.full(shape[0], abs(wcs.pixel_scale_matrix[1, 1]) * 60)
        return dy, pixel_area_sr(shape, wcs) / (dy / 60 * DEG) / DEG * 60
    low, high = pix2sky(wcs, rows - 0.5, middle), pix2sky(wcs, rows + 0.5, middle)
    left, right = pix2sky(wcs, rows, middle - 0.5), pix2sky(wcs, rows, middle + 0.5)
    return _fill(separation_arcsec(*low, *high) / 60), _fill(separation_arcsec(*left, *right) / 60)


def pixel_area_sr(shape, wcs):
    """Solid angle of the pixels of every row, shape (ny,), in sr.

    Exact for CAR. For other projections it is that of the pixel in the middle of the row, which for TAN
    and SIN differs from the ends of the row by about the square of their distance from the centre in radians.
    """
    rows, middle = np.arange(shape[0]), (shape[1] - 1) / 2
    if is_plain_car(wcs):
        dx, dy = np.abs(np.diag(wcs.pixel_scale_matrix))
        centre = (rows - (wcs.wcs.crpix[1] - 1)) * wcs.pixel_scale_matrix[1, 1]
        low, high = (np.radians(np.clip(centre + half, -90, 90)) for half in (-dy / 2, dy / 2))
        return dx * DEG * 2 * np.sin((high - low) / 2) * np.cos((high + low) / 2)
    along_y, along_x = (
        unit_vectors(*pix2sky(wcs, rows + oy, middle + ox)) - unit_vectors(*pix2sky(wcs, rows - oy, middle - ox))
        for oy, ox in ((0.5, 0.0), (0.0, 0.5))
    )
    return _fill(np.linalg.norm(np.cross(along_y, along_x), axis=1))


def area_deg2(shape, wcs, good):
    """Area in square degrees of the pixels where ``good`` (ny, nx) is true."""
    return float(np.sum(np.count_nonzero(good, axis=1) * pixel_area_sr(shape, wcs)) / DEG**2)


def inside(shape, y, x):
    """Whether pixel coordinates fall on a pixel of the map (NaN does not)."""
    y, x = np.asarray(y), np.asarray(x)
    return (y >= -0.5) & (y < shape[0] - 0.5) & (x >= -0.5) & (x < shape[1] - 0.5)


def slice_wcs(wcs, window):
    """WCS of the part ``window`` (two slices: rows, columns) of a map; it knows its shape."""
    rows, columns = window
    cut = wcs.deepcopy()
    start = np.array([columns.start or 0, rows.start or 0])
    cut.wcs.crpix = cut.wcs.crpix - start
    if cut.sip is not None:
        from astropy.wcs import Sip

        cut.sip = Sip(cut.sip.a, cut.sip.b, cut.sip.ap, cut.sip.bp, cut.sip.crpix - start)
    if None not in (rows.stop, columns.stop):
        cut.array_shape = (rows.stop - start[1], columns.stop - start[0])
    return cut


def window_shape(window):
    """Shape (ny, nx) of a window: two slices with start and stop."""
    return tuple(part.stop - part.start for part in window)


def make_car(ra0_deg, dec0_deg, width_deg, height_deg, res_arcmin):
    """Shape and WCS of a CAR map in the convention of ACT and SO maps (CRVAL2 = 0, RA to the left).

    Parameters
    ----------
    ra0_deg, dec0_deg : float
        Middle of the map, dec to the nearest half pixel.
    width_deg : float
        Extent in RA (coordinate, not times cos dec).
    height_deg : float
        Extent in dec.
    res_arcmin : float
        Pixel size.

    Returns
    -------
    (ny, nx), astropy.wcs.WCS
    """
    res = res_arcmin / 60
    shape = round(height_deg / res), round(width_deg / res)
    first_row = round((dec0_deg - height_deg / 2) / res)
    if min(shape) < 1 or first_row * res < -90 - 1e-9 or (first_row + shape[0] - 1) * res > 90 + 1e-9:
        raise ValueError(
            f"CAR map of {width_deg} x {height_deg} deg around dec {dec0_deg} at {res_arcmin} arcmin "
            "reaches beyond a pole or has no pixels; expected dec within -90..90"
        )
    from astropy.wcs import WCS

    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---CAR", "DEC--CAR"]
    wcs.wcs.crval = [ra0_deg, 0.0]
    wcs.wcs.cdelt = [-res, res]
    wcs.wcs.crpix = [shape[1] // 2 + 1, 1 - first_row]
    wcs.wcs.set()
    wcs.array_shape = shape
    return shape, wcs


def header_to_wcs(header):
    """Celestial WCS of the first two axes of a FITS header; it knows its shape.

    Raises
    ------
    ValueError
        If these axes are not longitude and latitude in this order, or the WCS is not valid or not finite.
    """
    from astropy.io import fits
    from astropy.wcs import WCS, FITSFixedWarning

    cards = [card for card in header.cards if WCS_KEYWORD.fullmatch(card.keyword)]
    plane = fits.Header([("NAXIS", 2), *((name, int(header[name])) for name in ("NAXIS1", "NAXIS2")), *cards])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        wcs = WCS(plane)
    if not wcs.has_celestial or (wcs.wcs.lng, wcs.wcs.lat) != (0, 1):
        found = [header.get(f"CTYPE{i}", "") for i in (1, 2)]
        raise ValueError(f"CTYPE1, CTYPE2 are {found}; expected longitude, latitude such as RA---CAR, DEC--CAR")
    numbers = np.concatenate([wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.get_cdelt(), np.ravel(wcs.wcs.get_pc())])
    if not np.all(np.isfinite(numbers)):
        raise ValueError(f"CRVAL, CRPIX, CDELT and PC are {numbers.tolist()}; expected finite numbers")
    return wcs


def wcs_to_text(wcs, shape=None):
    """FITS header cards of a WCS and a shape (ny, nx), one text; see :func:`text_to_wcs`."""
    from astropy.io import fits

    header = wcs.to_header(relax=True)
    shape = wcs.array_shape if shape is None else shape
    cards = [("NAXIS", 2), ("NAXIS1", int(shape[1])), ("NAXIS2", int(shape[0]))]
    return fits.Header(cards + list(header.cards)).tostring(sep="\n", endcard=False, padding=False)


def text_to_wcs(text):
    """WCS from :func:`wcs_to_text`, its shape in ``wcs.array_shape``; a :class:`CarWCS` for a plain CAR map."""
    cards = dict(_CARD.findall(text))
    if _CAR_CARDS.items() <= cards.items() and cards.keys() <= _CAR_CARDS.keys() | _CAR_NUMBERS | _NO_MATTER:
        return CarWCS(text, {name: float(cards[name]) for name in _CAR_NUMBERS})
    return _full_wcs(text)


def _full_wcs(text):
    from astropy.io import fits

    return header_to_wcs(fits.Header.fromstring(text, sep="\n"))


class CarWCS:
    """WCS of a plain CAR map, as from :func:`wcs_to_text`: its numbers, and astropy's for all else that is asked of it.

    Parameters
    ----------
    text : str
        What :func:`wcs_to_text` gave.
    numbers : mapping
        Values of CRPIX, CRVAL1, CDELT and NAXIS in it.
    """

    sip, has_distortion = None, False

    def __init__(self, text, numbers):
        self._text = text
        pairs = {name: np.array([numbers[f"{name}{i}"] for i in (1, 2)]) for name in ("CRPIX", "CDELT", "NAXIS")}
        crval = np.array([numbers["CRVAL1"], 0.0])
        own = {"ctype": ["RA---CAR", "DEC--CAR"], "crval": crval, "crpix": pairs["CRPIX"], "cdelt": pairs["CDELT"]}
        self.wcs = SimpleNamespace(**own, lonpole=0.0, latpole=90.0, lngtyp="RA", radesys="ICRS")
        self.pixel_scale_matrix = np.diag(pairs["CDELT"])
        self.array_shape = tuple(int(n) for n in pairs["NAXIS"][::-1])

    def deepcopy(self):
        """A copy that shares nothing with this one."""
        return copy.deepcopy(self)

    def full(self):
        """The same as ``astropy.wcs.WCS``."""
        wcs = _full_wcs(self._text)
        wcs.wcs.crpix = self.wcs.crpix
        wcs.array_shape = self.array_shape
        return wcs

    def __getattr__(self, name):
        if name.startswith("__") or "_text" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.full(), name)


def _wrap(x, middle, period):
    return x - period * np.floor((x - middle) / period + 0.5)


def _direction(ra1_deg, dec1_deg, ra2_deg, dec2_deg):
    """East and north component, seen from the first position, and cosine of the distance to the second."""
    dec1, dec2 = np.radians(dec1_deg), np.radians(dec2_deg)
    dra = np.radians(np.asarray(ra2_deg, float) - ra1_deg)
    bend = 2 * np.sin(dra / 2) ** 2 * np.cos(dec2)
    east = np.cos(dec2) * np.sin(dra)
    north = np.sin(dec2 - dec1) + np.sin(dec1) * bend
    cosine = np.cos(dec2 - dec1) - np.cos(dec1) * bend
    return east, north, cosine


def _fill(values):
    """Rows off the sky take the value of the nearest row on it."""
    good = np.isfinite(values)
    rows = np.arange(len(values))
    return values if good.all() or not good.any() else np.interp(rows, rows[good], values[good])
