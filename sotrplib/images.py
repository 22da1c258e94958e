"""FITS images: reading what others wrote without trusting it, and writing them with one plane, a WCS and no dates."""

import math
import warnings
from functools import partial
from itertools import chain, islice
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning

from sotrplib import digests, geometry, store
from sotrplib.maps import MapError
from sotrplib.template import Template

UNREADABLE = (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, fits.VerifyError)  # of such files
_BLOCK_ROWS = 128  # rows read at a time, few enough to stay in the cache
_BLOCK = 2880  # bytes of the blocks of a FITS file
_LONGEST_HEADER = 1500  # blocks
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


def read_image_header(path):
    """Header of the first image in a FITS file (the cards we read), checked against the size of the file.

    Raises
    ------
    MapError
        If the file is missing, no plain FITS image, or shorter than its header promises. Nothing is allocated.
    """
    return _with_image(path, lambda hdu: fits.Header([(c.keyword, c.value) for c in hdu.header.cards if _is_read(c)]))


def read_image(path, window, watch=None):
    """Pixels in ``window`` of the first image of a FITS file, first plane of a stack, native byte order.

    A :class:`digests.Watch` of the file is shown what is read of it: whole rows, which are read in any case.
    """

    def read(hdu):
        rows, columns = map(_with_ends, window, hdu.shape[-2:])
        if _is_scaled(hdu.header):
            return np.ascontiguousarray(hdu.section[(*(0,) * (len(hdu.shape) - 2), rows, columns)])
        return _read_rows(path, hdu, rows, columns, watch)

    data = _with_image(path, read)
    if not data.dtype.isnative and data.flags.writeable:
        return data.byteswap(inplace=True).view(data.dtype.newbyteorder("="))
    return data.astype(data.dtype.newbyteorder("="), copy=False)


def layout(path):
    """Where a FITS file has the first plane of its first image (:class:`digests.Layout`).

    None where :func:`read_image` would raise.
    """
    try:
        return _with_image(path, _layout)
    except MapError:
        return None


def _layout(hdu):
    start, size = hdu.fileinfo()["datLoc"], abs(hdu.header["BITPIX"]) // 8
    return digests.Layout(start, start + math.prod(hdu.shape[-2:]) * size, start + math.prod(hdu.shape) * size)


def _with_ends(part, size):
    return slice(*part.indices(size)[:2])


def _read_rows(path, hdu, rows, columns, watch):
    """Rows and columns of the first plane of an image, as its file holds them."""
    nx, dtype = hdu.shape[-1], _dtype(hdu.header["BITPIX"])
    data = np.empty((rows.stop - rows.start, columns.stop - columns.start), dtype)
    buffer = np.empty((min(_BLOCK_ROWS, len(data)), nx), dtype)
    with open(path, "rb") as file:
        for first in range(0, len(data), _BLOCK_ROWS):
            part = data[first : first + _BLOCK_ROWS]
            block = buffer[: len(part)]
            start = file.seek(hdu.fileinfo()["datLoc"] + (rows.start + first) * nx * dtype.itemsize)
            if file.readinto(block) != block.nbytes:
                raise OSError(f"ends within row {rows.start + first + len(part)} of its image")
            if watch:
                watch.saw(start, block.view(np.uint8))
            part[:] = block[:, columns]
    return data


def _is_scaled(header):
    """Whether the numbers of an image are not those in its file."""
    return header.get("BSCALE", 1) != 1 or header.get("BZERO", 0) != 0 or "BLANK" in header


def _dtype(bitpix):
    return np.dtype(f">{'f' if bitpix < 0 else 'u' if bitpix == 8 else 'i'}{abs(bitpix) // 8}")


def _is_read(card):
    return card.keyword in ("NAXIS1", "NAXIS2", "BUNIT", "TREF") or geometry.WCS_KEYWORD.fullmatch(card.keyword)


def _with_image(path, use):
    """``use(hdu)`` of the first image of a file whose size fits its header."""
    if not path or not Path(path).is_file():
        raise MapError(f"{path}: no such file; correct the map table or restore the file")
    size = Path(path).stat().st_size
    if not _header_ends(path):
        raise MapError(f"{path}: not a readable FITS image (no END in its header); expected plain FITS: fetch it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)
            with fits.open(path, memmap=False) as hdus:
                hdu = next((h for h in hdus if h.is_image and h.header["NAXIS"] >= 2), None)
                problem = _image_problem(hdu, size)
                result = None if problem else use(hdu)
    except UNREADABLE as error:
        raise MapError(
            f"{path}: not a readable FITS image ({error}); expected plain FITS: fetch the file again"
        ) from error
    if problem:
        raise MapError(f"{path}: {problem}")
    return result


def _header_ends(path):
    """Whether the first header of a FITS file has an end, so that no reader looks for it through the whole file."""
    with open(path, "rb") as file:
        first = file.read(_BLOCK)
        if not first.startswith(b"SIMPLE"):
            return True
        blocks = chain([first], iter(partial(file.read, _BLOCK), b""))
        return any(b"END     " in _cards(block) for block in islice(blocks, _LONGEST_HEADER))


def _cards(block):
    """First words of the cards in a block of a header."""
    return (block[k : k + 8] for k in range(0, len(block), 80))


def _image_problem(hdu, file_size):
    """Why the image cannot be read, or an empty text."""
    if hdu is None:
        return "holds no image; expected two or more axes: give the file that holds the map"
    if isinstance(hdu, fits.CompImageHDU) or hdu.fileinfo()["file"].compression:
        return "is compressed; expected plain FITS: unpack it (funpack, gunzip)"
    if hdu.header["BITPIX"] not in (8, 16, 32, 64, -32, -64):
        return f"has BITPIX {hdu.header['BITPIX']}; expected 8, 16, 32, 64, -32 or -64: fetch the file again"
    n_pixels = int(np.prod([int(n) for n in hdu.shape], dtype=object))
    promised = hdu.fileinfo()["datLoc"] + n_pixels * abs(hdu.header["BITPIX"]) // 8
    if n_pixels == 0:
        return f"holds an image of shape {hdu.shape}; expected pixels: fetch the file again"
    if promised > file_size:
        return f"is truncated: the header promises {promised} bytes, found {file_size}; fetch the file again"
    return ""
