"""``sotrp plot``: figures of sources, maps and places from the results in a folder."""

import nights
import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from click.testing import CliRunner
from PIL import Image

from sotrplib import geometry, lightcurves, maps, store
from sotrplib.cli import figures, main

MAP_ID = nights.TWO_MAPS[0]["map_id"]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A folder with the results of a small night."""
    folder = tmp_path_factory.mktemp("figures")
    rng = np.random.default_rng(1)
    frames, _ = nights.write_night(folder / "results", rng, nights.TWO_MAPS, nights.candidate_table())
    store.write(folder / "results/catalogs/catalog.h5", frames={"sources": ("sources", frames["sources"])})
    curves, index = lightcurves.build(frames["measurements"], {"detect_snr": 3.0, "limit_confidence": 0.95})
    lightcurves.write(folder / "results/lightcurves/lightcurves.h5", curves, index)
    return folder


@pytest.fixture
def plot(results, monkeypatch):
    """Function that runs ``sotrp plot`` in that folder and returns its exit status and what it says."""
    monkeypatch.chdir(results)

    def run(*words):
        done = CliRunner().invoke(main, ["plot", *words])
        return done.exit_code, done.output

    return run


@pytest.mark.parametrize(
    "words",
    [
        ("lightcurve", nights.CANDIDATE),
        ("lightcurve", nights.KNOWN_ID),
        ("map", MAP_ID, "--field", "flux_err"),
        ("map", MAP_ID, "--box", "359.8,0.2,-30.3,-29.9"),
        ("cutout", MAP_ID, "0.1,-30.1", "--field", "flux"),
        ("cutout", MAP_ID, "k3", "--size", "8"),
    ],
    ids=["candidate", "known", "map", "box", "position", "source"],
)
def test_figures_are_written(plot, tmp_path, words):
    """Each command writes a picture of more than a few colours and says where."""
    path = tmp_path / "figure.png"
    assert plot(*words, "-o", str(path)) == (0, f"wrote {path}\n")
    assert len(Image.open(path).convert("RGB").getcolors(10**7)) > 20


def test_figures_are_pdf_by_default(plot, results):
    """Without a name a PDF is written here, and again with the same bytes."""
    assert plot("lightcurve", "k2") == (0, "wrote lightcurve_k2.pdf\n")
    first = (results / "lightcurve_k2.pdf").read_bytes()
    assert first.startswith(b"%PDF")
    assert plot("lightcurve", "k2")[0] == 0
    assert (results / "lightcurve_k2.pdf").read_bytes() == first


def test_a_box_shows_its_part_of_the_map(results, monkeypatch):
    """The image of a box over RA 0 has the pixels of the box alone."""
    monkeypatch.chdir(results)
    box = {"ra_min_deg": 359.9, "ra_max_deg": 0.1, "dec_min_deg": -30.1, "dec_max_deg": -29.9}
    image = figures.draw_map(MAP_ID, "snr", box).axes[0].images[0].get_array()
    assert image.shape == pytest.approx((24, 24), abs=2)


def test_a_cutout_is_centred_where_the_pointing_puts_the_source(results, monkeypatch):
    """The brightest pixel of the cutout around a known source is the one in its middle, 20 arcsec off the catalogue."""
    monkeypatch.chdir(results)
    image = figures.draw_cutout(MAP_ID, "snr", (0.3, -30.1), 6.0).axes[0].images[0].get_array()
    peak = np.unravel_index(np.argmax(image), image.shape)
    assert np.abs(np.array(peak) - (np.array(image.shape) - 1) / 2).max() <= 1.5


def test_a_cutout_as_fits_has_the_pixels_of_the_map(plot, results, tmp_path):
    """A cutout with the suffix .fits holds the map's own values where its coordinates say; a box alike."""
    wcs = geometry.text_to_wcs(store.read_attrs(results / f"results/preprocessed/{MAP_ID}.h5")["wcs"])
    whole = maps.snr(maps.read_sky_map(results / f"results/preprocessed/{MAP_ID}.h5"))
    path = tmp_path / "cutout.fits"
    for words in (("cutout", MAP_ID, "k3", "--size", "8"), ("map", MAP_ID, "--box", "359.9,0.1,-30.1,-29.9")):
        assert plot(*words, "-o", str(path)) == (0, f"wrote {path}\n")
        with fits.open(path) as hdus:
            values, header = hdus[0].data, hdus[0].header
            ra, dec = WCS(header).wcs_pix2world([[0, 0]], 0)[0]
        assert (header["MAP_ID"], header["FIELD"]) == (MAP_ID, "snr") and values.shape == pytest.approx((20, 20), abs=6)
        y, x = (round(float(v[0])) for v in geometry.sky2pix(wcs, np.array([ra]), np.array([dec])))
        np.testing.assert_allclose(values, whole[y : y + values.shape[0], x : x + values.shape[1]], rtol=1e-6)


@pytest.mark.parametrize(
    ("words", "said", "status"),
    [
        (("lightcurve", "nobody"), "no source 'nobody' among 4", 1),
        (("map", "solat_i9_f090_1"), "no map 'solat_i9_f090_1'", 1),
        (("cutout", MAP_ID, "100,20"), "does not cover RA 100, Dec 20", 1),
        (("cutout", MAP_ID, "there"), "'there' is neither RA,DEC in degrees nor one of 4 sources", 1),
        (("map", MAP_ID, "--box", "1,2,3"), "expected four numbers in degrees", 2),
        (("cutout", MAP_ID, "100,20", "-o", "c.fits"), "does not cover RA 100, Dec 20", 1),
        (("lightcurve", nights.KNOWN_ID, "-o", "c.fits"), "expected a name that ends in pdf, png, svg", 2),
        (("map", MAP_ID, "-o", "figure.gif"), "expected a name that ends in pdf, png, svg", 2),
    ],
)
def test_what_is_wrong_is_said(plot, words, said, status):
    """A mistake is told in one line that names it and the cure."""
    code, output = plot(*words)
    assert code == status and said in " ".join(output.split())
