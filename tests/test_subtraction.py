"""Models of sources on maps."""

import numpy as np
import pytest
from filtered_skies import filtered_sources, make_template

from sotrplib import reading, subtraction
from sotrplib import template as templates

F090 = {"fwhm_arcmin": 2.05, "knee": 0.14}
SHAPE = (300, 260)


@pytest.fixture(scope="module")
def template():
    return make_template(n_rows=SHAPE[0], **F090)


def test_painted_sources_are_those_of_the_sky(template, rng):
    """The sum of 40 sources at sub-pixel positions is the truth to 1e-4 of their height near every source."""
    y, x = rng.uniform(60, 240, 40), rng.uniform(60, 200, 40)
    height = rng.uniform(-1, 1, 40)
    truth = filtered_sources(SHAPE, y, x, height, **F090)
    model = subtraction.paint(SHAPE, y, x, height, template)
    tail = 40 * np.abs(template.values[0, 0]).max()
    np.testing.assert_allclose(model[40:260, 40:220], truth[40:260, 40:220], atol=1e-4 * 40 + tail)


def test_a_single_source_is_painted_exactly(template):
    """One source is right to 2e-5 of its height on every pixel of its template."""
    truth = filtered_sources((512, 512), np.array([250.31]), np.array([249.56]), np.ones(1), **F090)
    model = subtraction.paint((512, 512), [250.31], [249.56], [1.0], template)
    np.testing.assert_allclose(model[212:289, 212:289], truth[212:289, 212:289], atol=2e-5)


def test_sources_over_and_beyond_the_border(template):
    """A source at the border, or just off the map, leaves on the map what it would on a larger one."""
    y, x = np.array([1.3, -6.2, 150.0, 900.0]), np.array([0.2, 30.0, 262.7, 20.0])
    larger = subtraction.paint((400, 360), y + 50, x + 50, np.ones(4), template)
    model = subtraction.paint(SHAPE, y, x, np.ones(4), template)
    np.testing.assert_allclose(model, larger[50:350, 50:310], atol=1e-6)


def test_tolerance_bounds_what_is_left_out(template, rng):
    """Ending each source where it falls below the tolerance changes no pixel by more than that for each source."""
    y, x, height = rng.uniform(20, 240, 30), rng.uniform(20, 240, 30), 10 ** rng.uniform(-1, 3, 30)
    whole = subtraction.paint(SHAPE, y, x, height, template)
    cut = subtraction.paint(SHAPE, y, x, height, template, tolerance=0.01)
    assert np.abs(whole - cut).max() < 0.01 * 10
    assert (cut == 0).any()


def test_nothing_to_paint(template):
    """No sources, and sources without a finite flux or position, leave zeros of the shape asked for."""
    for values in (np.zeros((3, 0)), np.array([[5, np.nan, 5], [5, 5, 5], [np.nan, 1, 0]])):
        model = subtraction.paint(SHAPE, *values, template)
        assert model.shape == SHAPE and model.dtype == np.float32 and not model.any()


def test_model_rho_follows_the_depth(template):
    """rho of a source is F sqrt(kappa(x) kappa_i) A: read back it gives the flux, with uneven depth and by a hole."""
    kappa = (0.04 * (1 + np.arange(SHAPE[1]) / 100) * np.ones(SHAPE)).astype("f4")
    kappa[100:110, 100:110] = 0
    y, x, flux = np.array([60.3, 112.4, 200.7]), np.array([70.8, 104.6, 150.2]), np.array([100.0, 300.0, -50.0])
    rho = subtraction.model_rho(SHAPE, y, x, flux, kappa, template)
    s, depth = reading.read_at(rho, kappa, y, x, template)
    np.testing.assert_allclose(s / np.sqrt(depth), flux, rtol=2e-3)
    assert not rho[kappa == 0].any()


def test_subtraction_leaves_its_input_alone(template):
    """Subtracting what was added gives the map back, in a new array."""
    kappa = np.full(SHAPE, 0.04, "f4")
    noise = np.random.default_rng(1).normal(size=SHAPE).astype("f4")
    sources = np.array([40.0, 100.2]), np.array([50.5, 120.1]), np.array([30.0, 1000.0])
    rho = noise + subtraction.model_rho(SHAPE, *sources, kappa, template)
    before = rho.copy()
    np.testing.assert_allclose(subtraction.subtract_sources(rho, kappa, *sources, template), noise, atol=1e-4)
    np.testing.assert_array_equal(rho, before)


def test_sources_off_the_data_are_left_out(template):
    """A source on an unobserved pixel has no model: its depth is not known."""
    kappa = np.full(SHAPE, 0.04, "f4")
    kappa[:50] = 0
    rho = subtraction.model_rho(SHAPE, [48.0, -3.0], [100.0, 100.0], [1e3, 1e3], kappa, template)
    assert not rho.any()


def test_an_unfiltered_source_has_the_width_of_its_own_row():
    """The beam itself is as wide in pixels as the pixels of the source's row are narrow."""
    stamps = [
        templates.gaussian_template(2, (0.5, w), autocorrelate=False, radius_fwhm=4).values[0] for w in (0.4, 0.3)
    ]
    size = min(map(len, stamps))
    values = np.array([s[(k := (len(s) - size) // 2) : k + size, k : k + size] for s in stamps])
    template = templates.Template(values, [0, 101, 202], np.array([[0.5, 0.4], [0.5, 0.3]]))
    model = subtraction.paint((202, 80), [75.0], [40.0], [1.0], template, filtered=False)
    width = templates.pixel_width_arcmin(template, 75.0)
    np.testing.assert_allclose(
        model[75, 30:51], np.exp(-4 * np.log(2) * (np.arange(-10, 11) * width) ** 2 / 4), atol=2e-4
    )


def test_sources_are_taken_from_the_snr_as_from_the_map(template, rng):
    """SNR without sources is rho without them over the root of kappa; neither input changes, holes stay NaN."""
    kappa = rng.uniform(0.5, 1.5, SHAPE).astype("f4")
    kappa[100:110, 90:120] = 0
    rho = np.where(kappa > 0, rng.normal(size=SHAPE), 0).astype("f4")
    with np.errstate(invalid="ignore"):
        snr = rho / np.sqrt(kappa)
    y, x, flux = rng.uniform(5, 290, 20), rng.uniform(5, 250, 20), 10 ** rng.uniform(0, 3, 20)
    before = snr.copy()
    left = subtraction.subtract_from_snr(snr, kappa, y, x, flux, template)
    with np.errstate(invalid="ignore"):
        expected = subtraction.subtract_sources(rho, kappa, y, x, flux, template) / np.sqrt(kappa)
    np.testing.assert_allclose(left, expected, atol=1e-3)
    np.testing.assert_array_equal(snr, before)
