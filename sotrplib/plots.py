"""Figures of maps, light curves and fluxes: the only module that imports matplotlib.

Functions named after what they show return a matplotlib Figure, ready to be saved as PDF or PNG. :func:`to_svg` makes
one fit for an HTML page: its colours become the CSS variables of :data:`THEME`, so that it follows the page from
light to dark. Images of pixels are PNG with a palette. Equal inputs give equal bytes.

Bands differ in colour (Okabe and Ito's palette, which the colour-blind can tell apart) and in marker.
"""

import base64
import io
import re

import matplotlib
import numpy as np
from matplotlib.figure import Figure

# Colour in a figure: CSS variable in a page. The page defines both its light and its dark value.
THEME = {
    "#1b1f24": "--ink",
    "#6b7280": "--muted",
    "#d5d9de": "--line",
    "#0072b2": "--blue",
    "#d55e00": "--red",
    "#009e73": "--green",
    "#b5658f": "--purple",
    "#b07d00": "--yellow",
    "#2f8fc4": "--sky",
}
INK, MUTED, LINE, BLUE, RED, GREEN, PURPLE, YELLOW, SKY = THEME
_BAND_STYLES = [(BLUE, "o"), (RED, "s"), (GREEN, "^"), (PURPLE, "D"), (YELLOW, "v"), (SKY, "P")]
_KNOWN_BANDS = ["f090", "f150", "f220", "f280", "f030", "f040"]
CLASS_STYLES = {
    "transient": (RED, "*"),
    "flare": (YELLOW, "^"),
    "new_source": (BLUE, "s"),
    "moving": (GREEN, "D"),
    "artefact": (MUTED, "x"),
}
SNR_MAX = 6.0  # the colour scale of every SNR image runs from -SNR_MAX to SNR_MAX
_SNR_COLOURS = "RdBu_r"
_N_COLOURS = 63
_MASKED, _UNOBSERVED = _N_COLOURS, _N_COLOURS + 1
_RASTER_ABOVE = 1500  # points; more are drawn as an image inside the figure
_STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "svg.fonttype": "none",
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": False,
    "axes.formatter.use_mathtext": False,
    "grid.color": LINE,
    "grid.linewidth": 0.5,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.handletextpad": 0.3,
    "lines.linewidth": 1.0,
    "timezone": "UTC",
}


def band_style(band):
    """Colour and marker of a band; the same on every figure."""
    known = _KNOWN_BANDS.index(band) if band in _KNOWN_BANDS else sum(band.encode())
    return _BAND_STYLES[known % len(_BAND_STYLES)]


def upper_limit(flux, flux_err, probability=0.95):
    """Upper limit of a flux that cannot be negative.

    Parameters
    ----------
    flux, flux_err : float or array
        Measured flux, of any sign, and its Gaussian error; the limit is in their unit.
    probability : float, default 0.95

    Returns
    -------
    float or array
        The flux below which the true one lies with this probability, for a prior that is constant above 0.

    Notes
    -----
    Helene 1983, NIM 212, 319. For no flux measured it is 1.96 sigma, for a bright source flux + 1.645 sigma.
    """
    from scipy.special import log_ndtr, ndtri_exp

    above = np.log1p(-probability) + log_ndtr(np.asarray(flux) / flux_err)
    return flux - flux_err * ndtri_exp(above)


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
    with matplotlib.rc_context(_STYLE):
        figure, axes = _new_figure(5.0, 2.6, (0.13, 0.17, 0.85, 0.72))
        for band, rows in curve.groupby("band"):
            _draw_band(axes, band, rows, snr_min)
            if steady and np.isfinite(steady.get(band, np.nan)):
                axes.axhline(steady[band], color=band_style(band)[0], linestyle="--", linewidth=0.8)
        axes.axhline(0, color=MUTED, linewidth=0.7)
        axes.set_ylabel("flux [mJy]")
        _date_axis(axes, curve["time_unix_s"].to_numpy())
        _legend_above(axes)
        return figure


def flux_comparison(catalog_flux, flux, flux_err, band):
    """Measured against catalogue flux (mJy, arrays of one shape), both logarithmic, with the line of equality."""
    shown = (catalog_flux > 0) & (flux > 0) & (flux_err > 0)
    catalog_flux, flux, flux_err = catalog_flux[shown], flux[shown], flux_err[shown]
    colour, marker = band_style(band)
    with matplotlib.rc_context(_STYLE):
        figure, axes = _new_figure(3.9, 3.5, (0.18, 0.14, 0.79, 0.83))
        ends = _log_limits(catalog_flux, flux)
        axes.plot(ends, ends, color=INK, linewidth=0.8)
        dense = len(flux) > _RASTER_ABOVE
        if not dense:
            lower = np.minimum(flux_err, flux * 0.999)
            axes.errorbar(catalog_flux, flux, (lower, flux_err), fmt="none", ecolor=colour, elinewidth=0.6, alpha=0.5)
        size = {"markersize": 2 if dense else 3.5, "alpha": 0.4 if dense else 0.9, "rasterized": dense}
        axes.plot(catalog_flux, flux, marker, color=colour, markeredgewidth=0, **size)
        axes.set(xlim=ends, ylim=ends, xlabel=f"catalogue flux in {band} [mJy]", ylabel="forced flux [mJy]")
        _log_axes(axes)
        return figure


def snr_histogram(edges, counts, residual_counts):
    """Histogram of the SNR of a map with and without its sources, against the unit Gaussian.

    Parameters
    ----------
    edges : array (n + 1,)
    counts, residual_counts : array (n,)
        Pixels of the map, and of the map minus its sources; the end bins hold all that lies beyond.
    """
    from scipy.special import ndtr

    with matplotlib.rc_context(_STYLE):
        figure, axes = _new_figure(3.9, 2.6, (0.18, 0.18, 0.79, 0.66))
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
        _decades(axes.yaxis)
        _legend_above(axes)
        return figure


def sky(coverage, sources, candidates, links=()):
    """Map of the sky in RA and Dec: coverage, known sources, candidates, the Galactic plane and the ecliptic.

    Parameters
    ----------
    coverage : mapping
        ra0_deg (middle of the figure), x_deg and dec_deg (edges of the cells, x being RA minus ra0, rising) and
        count (ny, nx), the number of maps that cover a cell.
    sources, candidates : pandas.DataFrame
        ra_deg, dec_deg and flux_mjy of known sources; ra_deg, dec_deg and class of candidates.
    links : sequence of str
        One link a candidate, for SVG.
    """
    with matplotlib.rc_context(_STYLE):
        height = _sky_height(coverage)
        figure, axes = _new_figure(8.6, height, (0.09, 0.46 / height, 0.9, 1 - 0.86 / height))
        ra0 = coverage["ra0_deg"]
        _draw_coverage(figure, axes, coverage)
        _draw_sources(axes, sources, ra0)
        _draw_candidates(axes, candidates, ra0, np.asarray(links, dtype=object))
        _sky_axes(axes, coverage)
        _draw_circles(axes, ra0)
        _legend_above(axes, columns=5)
        return figure


def snr_image(snr, masked=None):
    """PNG of an SNR image, blue negative and red positive, as a data URI.

    Parameters
    ----------
    snr : array (ny, nx)
        First row at the top; clipped at -+SNR_MAX; NaN is transparent.
    masked : array (ny, nx) bool, optional
        Pixels drawn grey.
    """
    level = np.nan_to_num(np.clip(snr / SNR_MAX, -1, 1)) * 0.5 + 0.5
    index = np.rint(level * (_N_COLOURS - 1)).astype("u1")
    index[np.isnan(snr)] = _UNOBSERVED
    if masked is not None:
        index[masked] = _MASKED
    return _palette_png(index)


def snr_gradient():
    """CSS gradient of the colours of :func:`snr_image`, from -SNR_MAX to SNR_MAX."""
    colours = matplotlib.colormaps[_SNR_COLOURS](np.linspace(0, 1, 9))
    return "linear-gradient(to right, " + ", ".join(matplotlib.colors.to_hex(c) for c in colours) + ")"


def to_svg(figure, name, label):
    """A figure as SVG for an HTML page.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    name : str
        Unique in the page; makes the identifiers inside unique.
    label : str
        What the figure shows, for those who cannot see it.
    """
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", dpi=150, transparent=True, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text).groups()
    text = text[text.index(">") + 1 :]
    text = re.sub(
        r"<metadata>.*?</metadata>|<defs>\s*<style[^>]*>.*?</style>\s*</defs>|<!--.*?-->", "", text, flags=re.S
    )
    text = re.sub(r'<g id="[^"]*"', "<g", text).replace("'DejaVu Sans'", "system-ui").replace(' target="_blank"', "")
    for colour, variable in THEME.items():
        text = text.replace(colour, f"var({variable})")
    text = re.sub(r"\n\s*", "\n", text).strip()
    escaped = label.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return f'<svg role="img" aria-label="{escaped}" viewBox="0 0 {width} {height}">{text}'


def _new_figure(width, height, box):
    figure = Figure(figsize=(width, height))
    return figure, figure.add_axes(box)


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
        top = upper_limit(flux[limit], flux_err[limit])
        axes.plot(days[limit], top, color=colour, label=f"{band} 95 % limit", **style)


def _date_axis(axes, time_unix_s):
    from matplotlib import dates

    days = time_unix_s[np.isfinite(time_unix_s)] / 86400.0
    if len(days):
        pad = max(0.04 * np.ptp(days), 0.02)
        axes.set_xlim(days.min() - pad, days.max() + pad)
    locator = dates.AutoDateLocator(minticks=3, maxticks=6)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
    axes.set_xlabel("time (UTC)")


def _legend_above(axes, columns=6):
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.legend(
            handles, labels, loc="lower left", bbox_to_anchor=(-0.01, 0.985), ncols=columns, borderpad=0.2,
            columnspacing=1.0, handlelength=1.6,
        )  # fmt: skip


def _log_limits(*arrays):
    values = np.concatenate(arrays)
    if not len(values):
        return 1.0, 1000.0
    low, high = np.percentile(values, 1), np.max(values)
    return max(low, high / 1e5) / 1.5, high * 1.5


def _log_axes(axes):
    for axis, set_scale in ((axes.xaxis, axes.set_xscale), (axes.yaxis, axes.set_yscale)):
        set_scale("log")
        _decades(axis)


def _decades(axis):
    """Ticks with plain numbers at powers of ten, in a narrow range at twice and five times them too."""
    low, high = axis.get_view_interval()
    subs = (1, 2, 5) if high < 60 * low else (1,)
    axis.set_major_locator(matplotlib.ticker.LogLocator(subs=subs, numticks=6))
    axis.set_major_formatter(_plain_number)
    axis.set_minor_locator(matplotlib.ticker.NullLocator())


def _plain_number(value, _position=None):
    return f"{value:.0e}".replace("e+0", "e") if value >= 1e5 else f"{value:g}"


def _sky_height(coverage):
    """Height in inches that gives the sky its shape, within bounds."""
    x, dec = coverage["x_deg"], coverage["dec_deg"]
    ratio = np.ptp(dec) / (np.ptp(x) * max(np.cos(np.radians(dec.mean())), 0.1))
    return float(np.clip(7.74 * ratio + 0.86, 3.0, 6.5))


def _draw_coverage(figure, axes, coverage):
    count = coverage["count"]
    top = max(int(count.max(initial=0)), 1)
    opacity = np.where(count > 0, 0.12 + 0.5 * count / top, 0.0)
    pixels = np.zeros((*count.shape, 4))
    pixels[..., :3] = matplotlib.colors.to_rgb("#3b8fc4")
    pixels[..., 3] = opacity
    x, dec = coverage["x_deg"], coverage["dec_deg"]
    axes.imshow(pixels, extent=(x[0], x[-1], dec[0], dec[-1]), origin="lower", interpolation="none", aspect="auto")
    axes.grid(True)
    words = "covered by 1 map" if top == 1 else f"covered by 1 (pale) to {top} maps"
    axes.plot([], [], "s", color="#3b8fc4", alpha=0.5, markersize=7, label=words)


def _draw_circles(axes, ra0):
    """The Galactic plane and the ecliptic, where they cross the figure."""
    (right, left), (low, high) = sorted(axes.get_xlim()), sorted(axes.get_ylim())
    circles = (("Galactic plane", "galactic", "-."), ("ecliptic", "barycentricmeanecliptic", ":"))
    for label, frame, style in circles:
        x, dec = great_circle(frame, ra0)
        if np.any((x > right) & (x < left) & (dec > low) & (dec < high)):
            axes.plot(x, dec, color=PURPLE, linestyle=style, linewidth=1.3, label=label, scalex=False, scaley=False)


def great_circle(frame, ra0):
    """The equator of a frame as RA minus ``ra0``, rising, and Dec."""
    from astropy import units
    from astropy.coordinates import SkyCoord

    angle = np.linspace(0, 360, 3601) * units.deg
    icrs = SkyCoord(angle, 0 * angle, frame=frame).icrs
    x, dec = _unwrap(icrs.ra.deg, ra0), icrs.dec.deg
    order = np.argsort(x)
    return x[order], dec[order]


def _unwrap(ra_deg, ra0):
    return np.mod(np.asarray(ra_deg, float) - ra0 + 180, 360) - 180


def _draw_sources(axes, sources, ra0):
    bright = np.log10(np.clip(np.nan_to_num(sources["flux_mjy"].to_numpy(), nan=1.0), 1, 1e4))
    axes.scatter(
        _unwrap(sources["ra_deg"], ra0), sources["dec_deg"], s=3 + 4 * bright, color=MUTED, alpha=0.7, linewidths=0,
        rasterized=len(sources) > _RASTER_ABOVE, label=f"{len(sources)} known source{'s' * (len(sources) != 1)}",
    )  # fmt: skip


def _draw_candidates(axes, candidates, ra0, links):
    kinds = candidates["class"].to_numpy()
    for kind, (colour, marker) in reversed(CLASS_STYLES.items()):
        chosen = kinds == kind
        if chosen.any():
            x, dec = _unwrap(candidates["ra_deg"][chosen], ra0), candidates["dec_deg"][chosen]
            size = {"*": 110, "x": 30}.get(marker, 40)
            label = f"{kind.replace('_', ' ')}: {chosen.sum()}"
            points = axes.scatter(x, dec, s=size, marker=marker, color=colour, linewidths=1.2, zorder=3, label=label)
            points.set_urls(links[chosen] if len(links) else None)


def _sky_axes(axes, coverage):
    """Axes that show all of the coverage in the shape it has at its middle declination."""
    x, dec, ra0 = coverage["x_deg"], coverage["dec_deg"], coverage["ra0_deg"]
    stretch = max(np.cos(np.radians(dec.mean())), 0.1)
    width, height = axes.get_window_extent().size
    degrees = max(np.ptp(x) * stretch / width, np.ptp(dec) / height)
    half_x, half_dec = degrees * width / stretch / 2, degrees * height / 2
    middle_x, middle_dec = (x[0] + x[-1]) / 2, (dec[0] + dec[-1]) / 2
    axes.set(xlim=(middle_x + half_x, middle_x - half_x), ylim=(middle_dec - half_dec, middle_dec + half_dec))
    axes.set(xlabel="RA [deg]", ylabel="Dec [deg]")
    axes.xaxis.set_major_locator(_RightAscensionLocator(ra0))
    axes.xaxis.set_major_formatter(lambda value, _: f"{np.mod(np.round(value + ra0, 6), 360):g}")


class _RightAscensionLocator(matplotlib.ticker.MaxNLocator):
    """Ticks at round RA where the axis shows RA minus ``ra0``."""

    def __init__(self, ra0):
        super().__init__(nbins=9)
        self._ra0 = ra0

    def tick_values(self, vmin, vmax):
        self.set_params(steps=[1, 2, 5, 10] if abs(vmax - vmin) < 45 else [1, 1.5, 3, 6, 9, 10])
        return super().tick_values(vmin + self._ra0, vmax + self._ra0) - self._ra0


def _palette_png(index):
    from PIL import Image

    colours = matplotlib.colormaps[_SNR_COLOURS](np.linspace(0, 1, _N_COLOURS), bytes=True)[:, :3]
    palette = np.concatenate([colours, [[150, 150, 150], [0, 0, 0]]]).astype("u1")
    image = Image.fromarray(index)
    image.putpalette(palette.tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=bytes([255] * (_N_COLOURS + 1) + [0]), optimize=False, compress_level=9)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
