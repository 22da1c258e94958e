"""Figure of the sky: coverage, known sources, candidates, the Galactic plane and the ecliptic."""

import matplotlib
import numpy as np

from sotrplib.plots.style import CLASS_STYLES, MUTED, PURPLE, RASTER_ABOVE, STYLE, legend_above, new_figure

CIRCLES = {"Galactic plane": "galactic", "ecliptic": "barycentricmeanecliptic"}  # name: frame whose equator it is


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
    with matplotlib.rc_context(STYLE):
        height = _sky_height(coverage)
        figure, axes = new_figure(8.6, height, (0.09, 0.46 / height, 0.9, 1 - 0.86 / height))
        ra0 = coverage["ra0_deg"]
        _draw_coverage(figure, axes, coverage)
        _draw_sources(axes, sources, ra0)
        _draw_candidates(axes, candidates, ra0, np.asarray(links, dtype=object))
        _sky_axes(axes, coverage)
        _draw_circles(axes, ra0)
        legend_above(axes, columns=5)
        return figure


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
    for (label, frame), style in zip(CIRCLES.items(), ("-.", ":"), strict=True):
        x, dec = great_circle(frame, ra0)
        if np.any((x > right) & (x < left) & (dec > low) & (dec < high)):
            axes.plot(x, dec, color=PURPLE, linestyle=style, linewidth=1.3, label=label, scalex=False, scaley=False)


def great_circle(frame, ra0):
    """The equator of a frame as RA minus ``ra0``, rising, and Dec."""
    from astropy import units
    from astropy.coordinates import SkyCoord

    angle = np.linspace(0, 360, 3601) * units.deg
    icrs = SkyCoord(angle, 0 * angle, frame=frame).icrs
    x, dec = unwrap(icrs.ra.deg, ra0), icrs.dec.deg
    order = np.argsort(x)
    return x[order], dec[order]


def unwrap(ra_deg, ra0):
    """RA minus ``ra0`` between -180 and 180 degrees."""
    return np.mod(np.asarray(ra_deg, float) - ra0 + 180, 360) - 180


def _draw_sources(axes, sources, ra0):
    bright = np.log10(np.clip(np.nan_to_num(sources["flux_mjy"].to_numpy(), nan=1.0), 1, 1e4))
    axes.scatter(
        unwrap(sources["ra_deg"], ra0), sources["dec_deg"], s=3 + 4 * bright, color=MUTED, alpha=0.7, linewidths=0,
        rasterized=len(sources) > RASTER_ABOVE, label=f"{len(sources)} known source{'s' * (len(sources) != 1)}",
    )  # fmt: skip


def _draw_candidates(axes, candidates, ra0, links):
    kinds = candidates["class"].to_numpy()
    for kind, (colour, marker) in reversed(CLASS_STYLES.items()):
        chosen = kinds == kind
        if chosen.any():
            x, dec = unwrap(candidates["ra_deg"][chosen], ra0), candidates["dec_deg"][chosen]
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
