"""Figures that say how far to trust a map."""

import math

import matplotlib
import numpy as np

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


def snr_histogram(edges, counts, residual_counts):
    """Histogram of the SNR of a map with and without its sources, against the unit Gaussian.

    Parameters
    ----------
    edges : array (n + 1,)
    counts, residual_counts : array (n,)
        Pixels of the map, and of the map minus its sources; the end bins hold all that lies beyond.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(3.9, 2.6, _BOX)
        axes.stairs(counts, edges, color=MUTED, linewidth=0.8, label="map")
        axes.stairs(residual_counts, edges, color=BLUE, linewidth=1.3, label="minus sources")
        expected = np.sum(residual_counts) * np.diff([0.5 * math.erfc(-edge / math.sqrt(2)) for edge in edges])
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


def noise_spectra(spectra):
    """Power of the noise by multipole in each zone: measured, and the model used with its range over directions.

    Parameters
    ----------
    spectra : pandas.DataFrame
        Table ``noise_spectra``.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(3.9, 2.6, _BOX)
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


def beam_response(profile):
    """Mean profile of bright sources in the filtered map against the shape that the filter expects.

    Parameters
    ----------
    profile : mapping
        ``radius_arcmin``, ``measured``, ``measured_err`` and ``expected``, arrays (n,), 1 being the peak.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(3.9, 2.6, _BOX)
        radius = profile["radius_arcmin"]
        axes.plot(radius, profile["expected"], color=RED, linestyle="--", label="expected")
        style = {"fmt": "o", "markersize": 3.5, "elinewidth": 1, "color": BLUE}
        axes.errorbar(radius, profile["measured"], profile["measured_err"], label="bright sources", **style)
        axes.axhline(0, color=MUTED, linewidth=0.7)
        axes.set(xlabel="distance [arcmin]", ylabel="response")
        legend_above(axes)
        return figure


def pointing_residuals(before, after, used):
    """Measured minus catalogue positions of bright sources, as found and with the pointing model taken off.

    Parameters
    ----------
    before, after : array (2, n)
        Offsets along RA (times cos dec) and Dec, arcsec.
    used : array (n,) bool
        Whether the model was fitted to the source; others are crossed out.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(3.2, 3.2, (0.2, 0.16, 0.77, 0.72))
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


def snr_map(snr, masked, aspect):
    """SNR of a map with its scale.

    Parameters
    ----------
    snr : array (ny, nx)
        First row at the top.
    masked : array (ny, nx) bool
        Pixels left grey.
    aspect : float
        How much wider than high a pixel is.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(3.9, 3.5, (0.03, 0.2, 0.94, 0.78))
        shown = axes.imshow(
            np.where(masked, np.nan, snr), cmap=DIVERGING, vmin=-SNR_MAX, vmax=SNR_MAX, aspect=1 / aspect
        )
        axes.set_facecolor("#c8c8c8")
        axes.set(xticks=[], yticks=[], xlabel="north up, east left")
        scale, ticks = figure.add_axes((0.12, 0.12, 0.76, 0.025)), np.linspace(-SNR_MAX, SNR_MAX, 5)
        figure.colorbar(shown, cax=scale, label="SNR", orientation="horizontal", ticks=ticks)
        return figure
