"""The sheet of a map: its figures side by side in one PNG."""

import textwrap

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_DPI = 105
_COLUMNS, _COLUMN_INCH, _ROW_INCH, _LINE_INCH = 3, 3.9, 3.55, 0.22
_TITLE_LETTERS = 150  # in a line
_COMPRESSION = 4  # of the PNG: more takes five times as long and saves a tenth


def sheet(title, figures):
    """Figures under a title, in rows of three.

    Parameters
    ----------
    title : str
    figures : list of matplotlib.figure.Figure
        At most 3.9 inches wide and 3.5 high; drawn as they are, so what was drawn of them before is not laid out again.

    Returns
    -------
    array (ny, nx, 3) uint8
    """
    lines = textwrap.wrap(title, _TITLE_LETTERS)
    title_inch = (len(lines) + 1) * _LINE_INCH
    column, row, top = (round(inch * _DPI) for inch in (_COLUMN_INCH, _ROW_INCH, title_inch))
    n_rows = max(-(-len(figures) // _COLUMNS), 1)
    whole = np.full((top + n_rows * row, _COLUMNS * column, 3), 255, np.uint8)
    _paste(whole, _title("\n".join(lines), title_inch), 0, 0)
    for k, figure in enumerate(figures):
        down, along = divmod(k, _COLUMNS)
        _paste(whole, figure, top + down * row, along * column)
    return whole


def save_sheet(pixels, path):
    """Write a sheet as PNG."""
    from PIL import Image

    Image.fromarray(pixels).save(path, "PNG", compress_level=_COMPRESSION)


def _title(text, height_inch):
    figure = Figure(figsize=(_COLUMNS * _COLUMN_INCH, height_inch))
    figure.text(0.5, 0.5, text, fontsize=10, ha="center", va="center")
    return figure


def _paste(whole, figure, y, x):
    """Draw a figure into the part of an image (ny, nx, 3) from ``y`` and ``x`` on."""
    figure.set_dpi(_DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    part = whole[y : y + len(pixels), x : x + pixels.shape[1]]
    part[...] = pixels[: len(part), : part.shape[1]]
