"""FITS images as the workflow writes them: one plane, its WCS, a few cards, and no dates."""

import numpy as np
from astropy.io import fits

from sotrplib import store


def write_image(path, values, wcs, cards):
    """Write an image; the file appears when whole.

    Parameters
    ----------
    path : path
    values : array (..., ny, nx)
        Integers are kept as they are, other numbers become float32.
    wcs : astropy.wcs.WCS
        Of the last two axes.
    cards : mapping
        Further cards of the header, such as BUNIT.
    """
    header = wcs.to_header(relax=True)
    header.update(cards)
    values = np.asarray(values)
    values = values if values.dtype.kind in "iu" else values.astype(">f4")
    with store.atomic_path(path) as temporary:
        fits.PrimaryHDU(values, header).writeto(temporary, overwrite=True)


def write_no_image(path, cards):
    """Write a FITS file that holds cards and no pixels, in place of an image that cannot be had."""
    header = fits.Header()
    header.update(cards)
    with store.atomic_path(path) as temporary:
        fits.PrimaryHDU(None, header).writeto(temporary, overwrite=True)
