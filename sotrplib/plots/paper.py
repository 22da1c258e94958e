"""Maps as figures for papers and talks: axes on the sky, a colour bar with its unit."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from sotrplib.plots.images import DIVERGING
from sotrplib.plots.style import INK, MUTED, STYLE

_WIDTH, _LARGEST = 4.7, 7.0  # of the image, inches
_LEFT, _BOTTOM, _RIGHT, _TOP = 0.85, 0.55, 0.95, 0.15  # around it
_SEQUENTIAL = "cividis"  # the same to the colour-blind


def sky_image(values, wcs, label, *, largest=None, masked=None, marks=()):
    """An image on the sky.

    Parameters
    ----------
    values : array (ny, nx)
        NaN is left blank.
    wcs : astropy.wcs.WCS
        Of its pixels.
    label : str
        What is shown and its unit, beside the colour bar.
    largest : float, optional
        Colours run from -largest to largest, blue to red; default from the least to the largest value.
    masked : array (ny, nx) bool, optional
        Pixels drawn grey.
    marks : sequence of (ra_deg, dec_deg)
        Positions to circle.
    """
    from astropy.visualization.wcsaxes import WCSAxes

    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        ratio = values.shape[0] / values.shape[1]
        width = min(_WIDTH, _LARGEST / ratio)
        height = width * ratio
        size = np.array([width + _LEFT + _RIGHT, height + _BOTTOM + _TOP])
        figure = Figure(figsize=size)
        inches = np.array([[_LEFT, _BOTTOM], [width, height]])
        axes = WCSAxes(figure, tuple((inches / size).ravel()), wcs=wcs)
        figure.add_axes(axes)
        colours = {"cmap": DIVERGING, "vmin": -largest, "vmax": largest} if largest else {"cmap": _SEQUENTIAL}
        shown = axes.imshow(values, origin="lower", interpolation="nearest", aspect="equal", **colours)
        if masked is not None and masked.any():
            grey = np.zeros((*masked.shape, 4), np.float32)
            grey[masked] = matplotlib.colors.to_rgba("#969696")
            axes.imshow(grey, origin="lower", interpolation="nearest", aspect="equal")
        for ra, dec in marks:
            style = {"marker": "o", "s": 90, "facecolor": "none", "edgecolor": INK}
            axes.scatter(ra, dec, transform=axes.get_transform("world"), **style)
        axes.set_xlabel("RA")
        axes.set_ylabel("Dec")
        for coordinate in axes.coords:
            coordinate.grid(color=MUTED, alpha=0.25, linewidth=0.4)
        beside = np.array([[_LEFT + width + 0.12, _BOTTOM], [0.14, height]])
        figure.colorbar(shown, cax=figure.add_axes(tuple((beside / size).ravel())), label=label)
        return figure
