"""FITS images as the workflow writes them: one plane, its WCS, a few cards, and no dates."""

import numpy as np
from astropy.io import fits

from sotrplib import store
from sotrplib.template import Template

TEMPLATE = "TEMPLATE"  # name of the extension with the shape of a point source in a filtered map


def write_image(path, values, wcs, cards, *, template=None):
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
    template : template.Template, optional
        Shape of a point source in the image, for the extension :data:`TEMPLATE`: a table with a row a band.
    """
    header = wcs.to_header(relax=True)
    header.update(cards)
    values = np.asarray(values)
    values = values if values.dtype.kind in "iu" else values.astype(">f4")
    with store.atomic_path(path) as temporary:
        hdus = [fits.PrimaryHDU(values, header)] + ([] if template is None else [_template_table(template)])
        fits.HDUList(hdus).writeto(temporary, overwrite=True)


def _template_table(template):
    n_band, height, width = template.values.shape
    return fits.BinTableHDU.from_columns(
        [
            fits.Column("row_start", "J", array=template.row_edges[:-1]),
            fits.Column("row_stop", "J", array=template.row_edges[1:]),
            fits.Column("step_arcmin", "2D", unit="arcmin", array=template.step_arcmin),
            fits.Column("values", f"{height * width}E", dim=f"({width},{height})", array=template.values),
        ],
        name=TEMPLATE,
    )


def read_template(path):
    """Template that :func:`write_image` left in a file; None if there is none.

    Raises
    ------
    ValueError
        If the extension is there and does not hold one.
    """
    with fits.open(path) as hdus:
        if TEMPLATE not in hdus:
            return None
        table = hdus[TEMPLATE].data
        missing = {"row_start", "row_stop", "step_arcmin", "values"} - set(table.names)
        if missing or not len(table) or table["values"].ndim != 3:
            raise ValueError(f"{path}: its extension {TEMPLATE} holds no template; export the map again or remove it")
        edges = np.append(table["row_start"], table["row_stop"][-1]).astype(int)
        return Template(table["values"].astype("f4"), edges, table["step_arcmin"].astype(float))


def write_no_image(path, cards):
    """Write a FITS file that holds cards and no pixels, in place of an image that cannot be had."""
    header = fits.Header()
    header.update(cards)
    with store.atomic_path(path) as temporary:
        fits.PrimaryHDU(None, header).writeto(temporary, overwrite=True)
