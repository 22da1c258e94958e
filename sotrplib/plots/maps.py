"""Figures that say how far to trust a map."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from sotrplib.plots.images import DIVERGING
from sotrplib.plots.style import (
    BLUE,
    INK,
    MUTED,
    RED,
    SNR_MAX,
    STYLE,
    YELLOW,
    decades,
    legend_above,
    log_axes,
    new_figure,
)

_BOX = (0.18, 0.18, 0.79, 0.66)
_SHEET = {"left": 0.06, "right": 0.985, "bottom": 0.085, "top": 0.885, "wspace": 0.3, "hspace": 0.36}


def snr_histogram(edges, counts, residual_counts, *, axes=None):
    """Histogram of the SNR of a map with and without its sources, against the unit Gaussian.

    Parameters
    ----------
    edges : array (n + 1,)
    counts, residual_counts : array (n,)
        Pixels of the map, and of the map minus its sources; the end bins hold all that lies beyond.
    axes : matplotlib Axes, optional
        Where to draw, as in the other functions here; default a figure of its own.
    """
    from scipy.special import ndtr

    with matplotlib.rc_context(STYLE):
        figure, axes = _axes_or_new(axes)
        axes.stairs(counts, edges, color=MUTED, linewidth=0.8, label="map")
        axes.stairs(residual_counts, edges, color=BLUE, linewidth=1.3, label="minus sources")
        expected = np.sum(residual_counts) * np.diff(ndtr(edges))
        axes.plot(
            (edges[1:] + edges[:-1]) / 2, expected, color=RED, linestyle="--", linewidth=1.2, label="unit Gaussian"
        )
        top = max(np.max(counts, initial=0), 1.0)
        axes.set(xlim=edges[[0, -1]], ylim=(0.5, 3 * top), xlabel="SNR of a pixel", ylabel="pixels")
        axes.set_yscale("log")
        axes.set_xticks(np.arange(np.ceil(edges[0] / 2) * 2, edges[-1] + 1e-6, 2))
        decades(axes.yaxis)
        legend_above(axes)
        return figure


def noise_spectra(spectra, *, axes=None):
    """Power of the noise by multipole in each zone: measured, and the model used with its range over directions.

    Parameters
    ----------
    spectra : pandas.DataFrame
        Table ``noise_spectra``.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes_or_new(axes)
        for k, (_, rows) in enumerate(spectra.groupby("zone")):
            ell, words = rows["ell"], {} if k else {"label": "model, all directions"}
            axes.fill_between(ell, rows["model_min"], rows["model_max"], color=YELLOW, alpha=0.25, linewidth=0, **words)
            axes.plot(ell, rows["model"], color=RED, linestyle="--", label=None if k else "model")
            if rows["measured"].notna().any():
                axes.plot(ell, rows["measured"], ".", color=BLUE, markersize=2.5, label=None if k else "measured")
        axes.axhline(1, color=MUTED, linewidth=0.7)
        shown = spectra["measured"].fillna(spectra["model"])
        low, high = shown.min(), shown.max()
        log_axes(axes)
        axes.set(ylim=(min(low, 1) / 3, max(high, 1) * 3), xlabel="multipole ℓ", ylabel="power (white noise = 1)")
        decades(axes.xaxis)
        decades(axes.yaxis)
        legend_above(axes, columns=3)
        return figure


def beam_response(profile, *, axes=None):
    """Mean profile of bright sources in the filtered map against the shape that the filter expects.

    Parameters
    ----------
    profile : mapping
        ``radius_arcmin``, ``measured``, ``measured_err`` and ``expected``, arrays (n,), 1 being the peak.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes_or_new(axes)
        radius = profile["radius_arcmin"]
        axes.plot(radius, profile["expected"], color=RED, linestyle="--", label="expected")
        style = {"fmt": "o", "markersize": 3.5, "elinewidth": 1, "color": BLUE}
        axes.errorbar(radius, profile["measured"], profile["measured_err"], label="bright sources", **style)
        axes.axhline(0, color=MUTED, linewidth=0.7)
        axes.set(xlabel="distance [arcmin]", ylabel="response")
        legend_above(axes)
        return figure


def pointing_residuals(before, after, used, *, axes=None):
    """Measured minus catalogue positions of bright sources, as found and with the pointing model taken off.

    Parameters
    ----------
    before, after : array (2, n)
        Offsets along RA (times cos dec) and Dec, arcsec.
    used : array (n,) bool
        Whether the model was fitted to the source; others are crossed out.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes_or_new(axes, (3.2, 3.2), (0.2, 0.16, 0.77, 0.72))
        style = {"linestyle": "none", "markersize": 4}
        axes.plot(*before[:, used], marker="o", color=MUTED, markerfacecolor="none", label="before", **style)
        axes.plot(*after[:, used], marker="o", color=BLUE, label="after", **style)
        if not used.all():
            axes.plot(*before[:, ~used], marker="x", color=RED, label="not used", **style)
        reach = 1.15 * max(np.max(np.abs(before), initial=0), np.max(np.abs(after), initial=0), 3.0)
        axes.axhline(0, color=INK, linewidth=0.6)
        axes.axvline(0, color=INK, linewidth=0.6)
        axes.set(xlim=(reach, -reach), ylim=(-reach, reach), xlabel="ΔRA cos Dec [arcsec]", ylabel="ΔDec [arcsec]")
        axes.set_aspect("equal")
        legend_above(axes)
        return figure


def overview(title, image, draw):
    """An image of a map and its checks on one sheet.

    Parameters
    ----------
    title : str
    image : (array (ny, nx), array (ny, nx) bool, float), or None
        SNR with the first row at the top, the masked pixels, and how much wider than high its pixels are; None for a
        map that failed.
    draw : list of function
        Each draws into the axes that it is called with.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11, 6.2))
        figure.suptitle(title, fontsize=10, y=0.985)
        if image is None:
            return figure
        grid = figure.add_gridspec(2, 3, **_SHEET)
        axes = figure.add_subplot(grid[0, 0])
        snr, masked, aspect = image
        shown = axes.imshow(
            np.where(masked, np.nan, snr), cmap=DIVERGING, vmin=-SNR_MAX, vmax=SNR_MAX, aspect=1 / aspect
        )
        axes.set_facecolor("#c8c8c8")
        axes.set(xticks=[], yticks=[], xlabel="north up, east left")
        ticks = np.linspace(-SNR_MAX, SNR_MAX, 5)
        figure.colorbar(shown, ax=axes, label="SNR", location="bottom", shrink=0.8, pad=0.12, ticks=ticks)
        for k, one in enumerate(draw, start=1):
            one(figure.add_subplot(grid[divmod(k, 3)]))
        return figure


def _axes_or_new(axes, size=(3.9, 2.6), box=_BOX):
    return (axes.figure, axes) if axes is not None else new_figure(*size, box)
