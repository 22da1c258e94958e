"""Figures of the instrument over time, and of how well a night is measured."""

import matplotlib
import numpy as np

from sotrplib.plots.style import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    RED,
    STYLE,
    array_markers,
    band_style,
    date_axis,
    decades,
    legend_above,
    new_figure,
)


def trend(rows, value, label, *, error=None, level=None, log=False):
    """One number of each map against time: bands by colour, arrays by marker.

    Parameters
    ----------
    rows : pandas.DataFrame
        time_unix_s, band, array and the columns named.
    value, label : str
        Column, and words for it with its unit.
    error : str, optional
        Column of its error.
    level : float, optional
        Where it should lie.
    log : bool, default False
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(5.0, 2.4, (0.15, 0.19, 0.83, 0.66))
        if level is not None:
            axes.axhline(level, color=MUTED, linewidth=0.8)
        markers = array_markers(rows["array"])
        for (band, array), part in rows.groupby(["band", "array"]):
            err = part[error] if error else None
            style = {"fmt": markers[array], "markersize": 4.5, "elinewidth": 1, "alpha": 0.85}
            axes.errorbar(
                part["time_unix_s"] / 86400,
                part[value],
                err,
                color=band_style(band)[0],
                label=f"{array} {band}",
                **style,
            )
        if log:
            axes.set_yscale("log")
        axes.set_ylabel(label)
        date_axis(axes, rows["time_unix_s"].to_numpy())
        legend_above(axes)
        return figure


def completeness(rows):
    """Part of the injected sources that the search finds, against their SNR, with what theory says.

    Parameters
    ----------
    rows : pandas.DataFrame
        true_snr, completeness, completeness_err, completeness_theory and band, those of one band in order of SNR.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(3.9, 2.8, (0.16, 0.17, 0.81, 0.7))
        axes.plot(rows["true_snr"], rows["completeness_theory"], "_", color=INK, markersize=9, label="theory")
        for band, part in rows.groupby("band"):
            axes.errorbar(part["true_snr"], part["completeness"], part["completeness_err"], **_points(band))
        axes.set(xlim=(0, 10), ylim=(-0.05, 1.08), xlabel="SNR of the injected source", ylabel="part found")
        legend_above(axes)
        return figure


def completeness_by_flux(rows):
    """Part of the injected sources that the search finds, against flux.

    Parameters
    ----------
    rows : pandas.DataFrame
        band, flux_mjy, completeness, completeness_err.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(3.9, 2.8, (0.16, 0.17, 0.81, 0.7))
        for band, part in rows.groupby("band"):
            axes.errorbar(part["flux_mjy"], part["completeness"], part["completeness_err"], **_points(band))
        axes.set_xscale("log")
        decades(axes.xaxis)
        axes.set(ylim=(-0.05, 1.08), xlabel="flux of the injected source [mJy]", ylabel="part found")
        legend_above(axes)
        return figure


def _points(band):
    colour, marker = band_style(band)
    return {"fmt": marker, "markersize": 4, "elinewidth": 1, "color": colour, "alpha": 0.85, "label": band}


def purity(rows):
    """Part of the detections that the negative of the map does not explain, against the threshold, by band.

    Parameters
    ----------
    rows : pandas.DataFrame
        band, flux_mjy (the threshold times the median flux error), purity, purity_err.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(3.9, 2.8, (0.16, 0.17, 0.81, 0.7))
        for band, part in rows.groupby("band"):
            axes.errorbar(part["flux_mjy"], part["purity"], part["purity_err"], **_points(band))
        axes.set(ylim=(-0.05, 1.08), xlabel="threshold of the search [mJy]", ylabel="purity")
        legend_above(axes)
        return figure


def pulls(edges, counts):
    """Histograms of pulls, (measured - true) / error, against the unit Gaussian.

    Parameters
    ----------
    edges : array (n + 1,)
    counts : mapping of str to array (n,)
        What is pulled, to the number in each bin.
    """
    from scipy.special import ndtr

    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(3.9, 2.8, (0.16, 0.17, 0.81, 0.7))
        for (name, number), colour in zip(counts.items(), (BLUE, GREEN, RED), strict=False):
            total = max(np.sum(number), 1)
            axes.stairs(number / total / np.diff(edges), edges, color=colour, linewidth=1.3, label=name)
        expected = np.diff(ndtr(edges)) / np.diff(edges)
        axes.plot((edges[1:] + edges[:-1]) / 2, expected, color=INK, linestyle="--", linewidth=1, label="unit Gaussian")
        axes.set(xlim=edges[[0, -1]], xlabel="pull", ylabel="density")
        axes.set_ylim(bottom=0)
        legend_above(axes, columns=4)
        return figure
