"""Figures of the flux of a source: against time, against frequency, and against the catalogue."""

import matplotlib
import numpy as np

from sotrplib import variability
from sotrplib.plots.style import (
    INK,
    MUTED,
    RASTER_ABOVE,
    STYLE,
    band_style,
    date_axis,
    decades,
    legend_above,
    log_axes,
    log_limits,
    new_figure,
)


def light_curve(curve, *, snr_min=3.0, steady=None):
    """Flux against time, bands by colour and marker, non-detections as 95 % upper limits.

    Parameters
    ----------
    curve : pandas.DataFrame
        Rows of the table ``measurements`` of one source.
    snr_min : float, default 3
        Fainter measurements are drawn as limits.
    steady : mapping of str to float, optional
        Band to the flux (mJy) of the catalogue, drawn as a dashed line.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(5.0, 2.6, (0.13, 0.17, 0.85, 0.72))
        for band, rows in curve.groupby("band"):
            _draw_band(axes, band, rows, snr_min)
            if steady and np.isfinite(steady.get(band, np.nan)):
                axes.axhline(steady[band], color=band_style(band)[0], linestyle="--", linewidth=0.8)
        axes.axhline(0, color=MUTED, linewidth=0.7)
        axes.set_ylabel("flux [mJy]")
        date_axis(axes, curve["time_unix_s"].to_numpy())
        legend_above(axes)
        return figure


def _draw_band(axes, band, rows, snr_min):
    colour, marker = band_style(band)
    time, flux, flux_err = (rows[name].to_numpy() for name in ("time_unix_s", "flux_mjy", "flux_err_mjy"))
    days = time / 86400.0
    usable = np.isfinite(days + flux) & (flux_err > 0)
    seen = usable & (flux >= snr_min * flux_err)
    limit = usable & ~seen
    if seen.any():
        style = {"fmt": marker, "markersize": 4.5, "markeredgewidth": 0, "elinewidth": 1}
        axes.errorbar(days[seen], flux[seen], flux_err[seen], color=colour, label=band, **style)
    if limit.any():
        style = {"linestyle": "none", "marker": "v", "markersize": 5, "markerfacecolor": "none"}
        top = variability.upper_limits(flux[limit], flux_err[limit])
        axes.plot(days[limit], top, color=colour, label=f"{band} 95 % limit", **style)


def flux_comparison(catalog_flux, flux, flux_err, band):
    """Measured against catalogue flux (mJy, arrays of one shape), both logarithmic, with the line of equality."""
    shown = (catalog_flux > 0) & (flux > 0) & (flux_err > 0)
    catalog_flux, flux, flux_err = catalog_flux[shown], flux[shown], flux_err[shown]
    colour, marker = band_style(band)
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(3.9, 3.5, (0.18, 0.14, 0.79, 0.83))
        ends = log_limits(catalog_flux, flux)
        axes.plot(ends, ends, color=INK, linewidth=0.8)
        dense = len(flux) > RASTER_ABOVE
        if not dense:
            lower = np.minimum(flux_err, flux * 0.999)
            axes.errorbar(catalog_flux, flux, (lower, flux_err), fmt="none", ecolor=colour, elinewidth=0.6, alpha=0.5)
        size = {"markersize": 2 if dense else 3.5, "alpha": 0.4 if dense else 0.9, "rasterized": dense}
        axes.plot(catalog_flux, flux, marker, color=colour, markeredgewidth=0, **size)
        axes.set(xlim=ends, ylim=ends, xlabel=f"catalogue flux in {band} [mJy]", ylabel="forced flux [mJy]")
        log_axes(axes)
        return figure


def spectrum(points, *, power_law=None, snr_min=3.0):
    """Flux against frequency, both logarithmic; what is below ``snr_min`` as a 95 % upper limit.

    Parameters
    ----------
    points : pandas.DataFrame
        freq_ghz, band, flux_mjy and flux_err_mjy, one row a band.
    power_law : (float, float, float), optional
        Frequency (GHz), flux there (mJy) and index of a power law to draw.
    snr_min : float, default 3
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(3.0, 2.6, (0.22, 0.17, 0.75, 0.72))
        limits = variability.upper_limits(points["flux_mjy"].to_numpy(), points["flux_err_mjy"].to_numpy())
        for row, limit in zip(points.to_dict("records"), limits, strict=True):
            colour, marker = band_style(row["band"])
            place, flux, err = row["freq_ghz"], row["flux_mjy"], row["flux_err_mjy"]
            if flux >= snr_min * err:
                axes.errorbar(place, flux, err, fmt=marker, color=colour, markersize=4.5, elinewidth=1)
            else:
                axes.plot(place, limit, "v", color=colour, markersize=5, markerfacecolor="none")
        shown = np.where(points["flux_mjy"] >= snr_min * points["flux_err_mjy"], points["flux_mjy"], limits)
        ends = points["freq_ghz"].min() / 1.3, points["freq_ghz"].max() * 1.3
        if power_law:
            line = np.geomspace(*ends, 30)
            axes.plot(line, power_law[1] * (line / power_law[0]) ** power_law[2], color=MUTED, linestyle="--")
        log_axes(axes)
        axes.set(xlim=ends, ylim=(np.min(shown) / 2.5, np.max(shown) * 2.5), xlabel="frequency [GHz]")
        axes.set_ylabel("flux [mJy]")
        axes.set_xticks(points["freq_ghz"], [f"{freq:.0f}" for freq in points["freq_ghz"]])
        axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
        decades(axes.yaxis)
        return figure
