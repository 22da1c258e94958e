"""Masks in FITS files, of any pixels and coordinates, on the pixels of a map."""

from typing import NamedTuple

import numpy as np

from sotrplib import geometry, maps


def read_mask(path, shape, wcs, *, masked=0):
    """Pixels of a map under a mask given as a FITS image.

    Parameters
    ----------
    path : path
        First image of the file, in any celestial projection in RA, Dec (ICRS, FK5) or Galactic coordinates.
    shape, wcs
        Of the map.
    masked : {0, 1}
        What stands for masked sky in the file: 0 (values below one half; the default, as in masks that multiply the
        map) or 1 (values of one half and above). NaN is masked. Sky outside the file is not masked.

    Returns
    -------
    array (ny, nx) bool
        True where masked; the nearest pixel of the file is taken.

    Raises
    ------
    maps.MapError
        If the file is no FITS image with a celestial WCS, or ``masked`` is neither 0 nor 1.
    """
    from sotrplib import images  # and astropy.io.fits

    if masked not in (0, 1):
        raise maps.MapError(f"{path}: masked is {masked!r}; expected 0 or 1, what stands for masked sky in the file")
    header = images.read_image_header(path)
    try:
        mask_wcs = geometry.header_to_wcs(header)
    except ValueError as error:
        raise maps.MapError(f"{path}: {error}") from error
    pick = None
    if geometry.is_plain_car(wcs) and geometry.is_plain_car(mask_wcs):
        pick = _pick_car(mask_wcs, shape, wcs)
    values = images.read_image(path, pick.window if pick else (slice(None), slice(None)))
    bad = ~(values >= 0.5) if masked == 0 else ~(values < 0.5)
    if pick:
        return _sample_car(bad, pick)
    rows = max(1, 1_000_000 // shape[1])
    parts = [
        _sample(bad, mask_wcs, wcs, np.arange(y, min(y + rows, shape[0])), shape[1]) for y in range(0, shape[0], rows)
    ]
    return np.concatenate(parts)


class _Pick(NamedTuple):
    """Rows and columns of a CAR mask for those of a CAR map (-1: off the mask), and the window that holds them."""

    rows: np.ndarray
    columns: np.ndarray
    window: tuple


def _pick_car(mask_wcs, shape, wcs):
    _, dec = geometry.pix2sky(wcs, np.arange(shape[0]), shape[1] / 2)
    ra, _ = geometry.pix2sky(wcs, np.full(shape[1], wcs.wcs.crpix[1] - 1), np.arange(shape[1]))
    size = mask_wcs.array_shape
    y, _ = geometry.sky2pix(mask_wcs, 0.0, dec, size)
    _, x = geometry.sky2pix(mask_wcs, ra, 0.0, size)
    rows, columns = (
        np.where(on_mask, np.floor(np.where(on_mask, p, 0) + 0.5), -1).astype(int)
        for p, on_mask in ((y, geometry.inside(size, y, 0)), (x, geometry.inside(size, 0, x)))
    )
    used = rows[rows >= 0]
    part = slice(int(used.min()), int(used.max()) + 1) if used.size else slice(0, 1)
    return _Pick(rows, columns, (part, slice(0, size[1])))


def _sample_car(bad, pick):
    """Nearest pixels of the window of a CAR mask for a CAR map: rows go to rows, columns to columns."""
    result = np.zeros((len(pick.rows), len(pick.columns)), bool)
    in_y, in_x = pick.rows >= 0, pick.columns >= 0
    result[np.ix_(in_y, in_x)] = bad[np.ix_(pick.rows[in_y] - pick.window[0].start, pick.columns[in_x])]
    return result


def _sample(bad, mask_wcs, wcs, rows, n_columns):
    """Nearest pixels of a mask for some rows of a map, any projection."""
    longitude, latitude = geometry.pix2sky(wcs, rows[:, None], np.arange(n_columns))
    if mask_wcs.wcs.lngtyp == "GLON":
        from astropy.coordinates import SkyCoord

        galactic = SkyCoord(np.nan_to_num(longitude), np.nan_to_num(latitude), unit="deg").galactic
        longitude, latitude = galactic.l.deg, galactic.b.deg
    elif mask_wcs.wcs.lngtyp != "RA":
        raise maps.MapError(f"mask in {mask_wcs.wcs.lngtyp} coordinates; expected RA, Dec or Galactic: reproject it")
    y, x = geometry.sky2pix(mask_wcs, longitude, latitude, bad.shape)
    hit = geometry.inside(bad.shape, y, x)
    result = np.zeros(y.shape, bool)
    result[hit] = bad[np.floor(y[hit] + 0.5).astype(int), np.floor(x[hit] + 0.5).astype(int)]
    return result
