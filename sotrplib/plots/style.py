"""What all figures share: colours, markers, axes, and how a figure becomes part of a page or a file."""

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
ARRAY_MARKERS = "os^DvPX<>*"
_BAND_STYLES = [(BLUE, "o"), (RED, "s"), (GREEN, "^"), (PURPLE, "D"), (YELLOW, "v"), (SKY, "P")]
_KNOWN_BANDS = ["f090", "f150", "f220", "f280", "f030", "f040"]
CLASS_STYLES = {
    "transient": (RED, "*"),
    "flare": (YELLOW, "^"),
    "new_source": (BLUE, "s"),
    "moving": (GREEN, "D"),
    "artefact": (MUTED, "x"),
}
KINDS = ("pdf", "png", "svg")
SNR_MAX = 6.0  # the colour scale of every SNR image runs from -SNR_MAX to SNR_MAX
RASTER_ABOVE = 1500  # points; more are drawn as an image inside the figure
STYLE = {
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


def array_markers(arrays):
    """Marker of each array of a figure: dict in the order of their names."""
    return {array: ARRAY_MARKERS[k % len(ARRAY_MARKERS)] for k, array in enumerate(sorted(set(arrays)))}


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


def save(figure, path, *, dpi=300):
    """Write a figure for a paper or a talk, its kind by the ending of the name: pdf, png or svg.

    Raises
    ------
    ValueError
        If the ending is another.
    """
    kind = str(path).rpartition(".")[2].lower()
    if kind not in KINDS:
        raise ValueError(f"{path}: kind of figure {kind!r}; expected a name that ends in {', '.join(KINDS)}")
    nothing = {"pdf": {"CreationDate": None, "Producer": None}, "svg": {"Date": None}, "png": {}}
    with matplotlib.rc_context({"svg.hashsalt": "sotrp", "pdf.fonttype": 42}):
        figure.savefig(path, format=kind, dpi=dpi, facecolor="white", metadata=nothing[kind] | {"Creator": None})


def new_figure(width, height, box):
    """A figure of so many inches, and axes in the part ``box`` (left, bottom, width, height) of it."""
    figure = Figure(figsize=(width, height))
    return figure, figure.add_axes(box)


def date_axis(axes, time_unix_s):
    """Days as dates along x, for unix seconds divided by 86400."""
    from matplotlib import dates

    days = time_unix_s[np.isfinite(time_unix_s)] / 86400.0
    if len(days):
        pad = max(0.04 * np.ptp(days), 0.02)
        axes.set_xlim(days.min() - pad, days.max() + pad)
    locator = dates.AutoDateLocator(minticks=3, maxticks=6)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
    axes.set_xlabel("time (UTC)")


def legend_above(axes, columns=6):
    """Legend in a row above the axes, if anything has a label."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.legend(
            handles, labels, loc="lower left", bbox_to_anchor=(-0.01, 0.985), ncols=columns, borderpad=0.2,
            columnspacing=1.0, handlelength=1.6,
        )  # fmt: skip


def log_limits(*arrays):
    """Ends of a logarithmic axis that shows all of these positive values but the lowest percent."""
    values = np.concatenate(arrays)
    if not len(values):
        return 1.0, 1000.0
    low, high = np.percentile(values, 1), np.max(values)
    return max(low, high / 1e5) / 1.5, high * 1.5


def log_axes(axes):
    """Logarithmic axes with plain numbers."""
    for axis, set_scale in ((axes.xaxis, axes.set_xscale), (axes.yaxis, axes.set_yscale)):
        set_scale("log")
        decades(axis)


def decades(axis):
    """Ticks with plain numbers at powers of ten, in a narrow range at twice and five times them too."""
    low, high = axis.get_view_interval()
    subs = (1, 2, 5) if high < 60 * low else (1,)
    axis.set_major_locator(matplotlib.ticker.LogLocator(subs=subs, numticks=6))
    axis.set_major_formatter(_plain_number)
    axis.set_minor_locator(matplotlib.ticker.NullLocator())


def _plain_number(value, _position=None):
    return f"{value:.0e}".replace("e+0", "e") if value >= 1e5 else f"{value:g}"
