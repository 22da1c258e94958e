"""Figures: limits, styles, colours that follow the page, and equal bytes for equal inputs."""

import base64
import io
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sotrplib import plots, tables, variability

DAY = 86400.0


def curve(**values):
    """Four measurements in two bands; the second of each is no detection."""
    columns = {name: 0.0 for name in tables.column_names("measurements")}
    columns |= {"map_id": "", "source_id": "s", "source_name": "s", "kind": "confirm", "array": "i1", "flags": 0}
    columns |= {"band": ["f090", "f090", "f150", "f150"], "time_unix_s": 1.76e9 + DAY * np.arange(4)}
    columns |= {"flux_mjy": [100.0, -3.0, 80.0, 12.0], "flux_err_mjy": 5.0}
    return tables.make("measurements", columns | values)


def coverage():
    x, dec = np.linspace(-2, 2, 41), np.linspace(-31, -29, 21)
    return {"ra0_deg": 0.0, "x_deg": x, "dec_deg": dec, "count": np.ones((20, 40), int)}


def sky_tables(n=3):
    sources = pd.DataFrame({"ra_deg": np.linspace(359, 361, n) % 360, "dec_deg": -30.0, "flux_mjy": 100.0})
    candidates = pd.DataFrame({"ra_deg": [0.5, 359.5], "dec_deg": [-30.5, -29.5], "class": ["transient", "moving"]})
    return sources, candidates


def decode(uri):
    """Image of a data URI as RGBA."""
    head, data = uri.split(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA"))


def test_light_curve_draws_limits():
    """Measurements below 3 sigma stand at their upper limit, the others at their flux."""
    (axes,) = plots.light_curve(curve()).axes
    lines = {line.get_label(): line for line in axes.lines}
    assert lines["f090 95 % limit"].get_ydata() == pytest.approx(variability.upper_limits(np.array([-3.0]), 5.0))
    assert lines["f150 95 % limit"].get_ydata() == pytest.approx(variability.upper_limits(np.array([12.0]), 5.0))
    detections = {c.get_label(): c.lines[0].get_ydata().tolist() for c in axes.containers}
    assert detections == {"f090": [100.0], "f150": [80.0]}


def test_light_curve_leaves_out_what_was_not_measured():
    """NaN fluxes and times draw nothing and do not stop the figure."""
    (axes,) = plots.light_curve(curve(flux_mjy=np.nan)).axes
    assert axes.get_legend() is None
    plots.light_curve(curve(time_unix_s=np.nan))


def test_bands_differ_in_colour_and_marker():
    """The bands of the telescopes have colours and markers of their own, any other band has one too."""
    styles = [plots.band_style(band) for band in ("f030", "f040", "f090", "f150", "f220", "f280")]
    assert len({colour for colour, _ in styles}) == len({marker for _, marker in styles}) == 6
    assert plots.band_style("x123") == plots.band_style("x123")


def test_svg_follows_the_page():
    """An SVG is well formed, has variables in place of the figure's colours, and a label that is escaped."""
    text = plots.to_svg(plots.light_curve(curve()), "a", 'of "A" <B> & C')
    root = ET.fromstring(text.replace("xlink:href", "href"))
    assert root.get("aria-label") == 'of "A" <B> & C'
    assert "var(--ink)" in text and "var(--blue)" in text and "var(--red)" in text
    assert not any(colour in text for colour in plots.THEME)
    assert "<style" not in text and "<metadata" not in text


def test_identifiers_of_figures_do_not_meet():
    """Two figures in one page share no identifier."""
    texts = [plots.to_svg(plots.light_curve(curve()), name, "x").replace("xlink:href", "href") for name in "ab"]
    first, second = ({e.get("id") for e in ET.fromstring(text).iter()} - {None} for text in texts)
    assert first and not first & second


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plots.light_curve(curve(), steady={"f090": 50.0}),
        lambda: plots.flux_comparison(np.array([10.0, 300]), np.array([11.0, 290]), np.array([2.0, 2]), "f150"),
        lambda: plots.snr_histogram(np.arange(-5.0, 6), np.arange(10), np.arange(10)),
        lambda: plots.sky(coverage(), *sky_tables(), ["#a", "#b"]),
    ],
    ids=["light_curve", "flux_comparison", "snr_histogram", "sky"],
)
def test_equal_figures_give_equal_bytes(draw):
    """Every figure drawn twice gives the same SVG."""
    assert plots.to_svg(draw(), "a", "x") == plots.to_svg(draw(), "a", "x")


def test_figures_of_nothing():
    """Empty inputs draw empty figures."""
    empty = np.empty(0)
    plots.to_svg(plots.light_curve(tables.empty("measurements")), "a", "x")
    plots.to_svg(plots.flux_comparison(empty, empty, empty, "f090"), "b", "x")
    plots.to_svg(plots.snr_histogram(np.arange(-5.0, 6), np.zeros(10, int), np.zeros(10, int)), "c", "x")
    sources, candidates = sky_tables()
    plots.to_svg(plots.sky(coverage(), sources[:0], candidates[:0]), "d", "x")


def test_flux_comparison_shows_all_positive_pairs():
    """Fluxes that are not positive have no place on logarithmic axes and are left out; the scales are equal."""
    flux = np.array([10.0, 0.0, 300.0, np.nan])
    (axes,) = plots.flux_comparison(np.array([11.0, 5, 290, 7]), flux, np.full(4, 2.0), "f090").axes
    assert axes.lines[-1].get_ydata().tolist() == [10.0, 300.0]
    assert axes.get_xlim() == axes.get_ylim()


def test_many_points_become_an_image():
    """Thousands of sources make a figure of limited size."""
    values = np.geomspace(1, 1e4, 5000)
    text = plots.to_svg(plots.flux_comparison(values, values, values / 10, "f090"), "a", "x")
    assert len(text) < 200_000 and "data:image/png" in text


def test_sky_runs_east_to_the_left_over_the_wrap():
    """RA falls from left to right and is labelled 0 to 360; sources at 359 and 1 degree are 2 degrees apart."""
    figure = plots.sky(coverage(), *sky_tables(), ["#a", "#b"])
    (axes,) = figure.axes
    figure.draw_without_rendering()
    assert axes.get_xlim()[0] > axes.get_xlim()[1]
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert "0" in labels and "359" in labels and all(0 <= float(label) < 360 for label in labels if label)
    sources = next(c for c in axes.collections if "known" in c.get_label())
    assert np.ptp(sources.get_offsets()[:, 0]) == pytest.approx(2)
    assert "#a" in plots.to_svg(figure, "sky", "x")


def test_planes_are_drawn_where_they_are():
    """The Galactic plane passes the Galactic centre, the ecliptic the vernal equinox."""
    x, dec = plots.great_circle("galactic", 266.405)
    assert np.interp(0, x, dec) == pytest.approx(-28.936, abs=0.01)
    x, dec = plots.great_circle("barycentricmeanecliptic", 0.0)
    assert np.interp(0, x, dec) == pytest.approx(0, abs=0.01)
    assert np.interp(90, x, dec) == pytest.approx(23.44, abs=0.01)


def test_only_visible_planes_are_named():
    """Far from both planes the legend names neither; at the Galactic centre it names them."""
    texts = [text.get_text() for text in plots.sky(coverage(), *sky_tables()).axes[0].get_legend().get_texts()]
    assert "Galactic plane" not in texts and "ecliptic" not in texts
    centre = coverage() | {"ra0_deg": 266.4}
    texts = [text.get_text() for text in plots.sky(centre, *sky_tables()).axes[0].get_legend().get_texts()]
    assert "Galactic plane" in texts


def test_snr_image_colours():
    """Positive is red, negative blue, 0 white, NaN transparent and masked grey; the first row is at the top."""
    image = decode(
        plots.snr_image(
            np.array([[20.0, -20.0, 0.0], [np.nan, 5.0, 0.0]]), np.array([[False] * 3, [False, True, False]])
        )
    )
    red, blue, white = image[0]
    assert red[0] > red[2] + 50 and blue[2] > blue[0] + 50 and min(white[:3]) > 240
    assert image[1, 0, 3] == 0 and image[1, 1].tolist() == [150, 150, 150, 255]
    assert "linear-gradient" in plots.gradient()


def test_figures_are_side_by_side_on_a_sheet(tmp_path):
    """Each figure has its place, three in a row, below a title of as many lines as it needs; a drawn one can be SVG."""
    points = pd.DataFrame({"freq_ghz": [90.0, 150.0], "band": ["f090", "f150"], "flux_mjy": 9.0, "flux_err_mjy": 1.0})
    figures = [plots.light_curve(curve()), *(plots.spectrum(points) for _ in range(3))]
    one, two = plots.sheet("title", figures[:3]), plots.sheet("title", figures)
    assert one.shape[1] == two.shape[1] and one.dtype == np.uint8
    row = two.shape[0] - one.shape[0]
    assert (two[-row:, : one.shape[1] // 3] < 128).any() and (two[-row:, one.shape[1] // 3 :] == 255).all()
    nothing = plots.sheet("failed: " + "a long reason " * 40, [])
    assert (nothing < 128).any() and len(nothing) > len(plots.sheet("failed", []))
    plots.save_sheet(two, tmp_path / "sheet.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "sheet.png")), two)
    assert plots.to_svg(figures[0], "a", "b").startswith("<svg")
