"""The template: its shape between pixels, its derivatives, and the reading of images with it."""

import numpy as np
import pytest
from filtered_skies import filtered_sources, make_template, spectra

from sotrplib import template as templates

F090 = {"fwhm_arcmin": 2.05, "knee": 0.14}
F150 = {"fwhm_arcmin": 1.3, "knee": 0.14}
ROOT2 = np.sqrt(2)


def gaussian(fwhm, dy, dx):
    return np.exp(-4 * np.log(2) * (dy**2 + dx**2) / fwhm**2)


@pytest.mark.parametrize("fwhm", [1.3, 2.05, 7.4])
def test_evaluate_is_exact_between_pixels(fwhm, rng):
    """A of a Gaussian beam at any offset is right to 1e-5 of its peak."""
    template = templates.gaussian_template(fwhm, 0.5)
    dy, dx = rng.uniform(-2 * fwhm, 2 * fwhm, (2, 2000))
    values = templates.evaluate(template, dy, dx, 0)
    np.testing.assert_allclose(values, gaussian(ROOT2 * fwhm, dy, dx), atol=1e-5)


def test_all_derivatives_are_those_of_each_order(rng):
    """One look-up of all orders gives what one for each does, in every band."""
    template = templates.select_bands(make_template(n_rows=90), [0, 0], [0, 50, 90])
    (dy, dx), row = rng.uniform(-9, 9, (2, 200)), rng.uniform(0, 89, 200)
    found = templates.evaluate_derivatives(template, dy, dx, row)
    for values, orders in zip(found, templates.ORDERS, strict=True):
        np.testing.assert_allclose(values, templates.evaluate_pixels(template, dy, dx, row, orders=orders), atol=1e-12)


def test_patches_of_a_height_are_scaled_copies(rng):
    """With an amplitude patches are those without it times that, to single precision."""
    template, places = make_template(n_rows=90), (*rng.uniform(-0.5, 0.5, (2, 20)), rng.uniform(0, 89, 20))
    amplitude = rng.uniform(-100, 100, 20)
    scaled = templates.patches(template, *places, 9, amplitude=amplitude)
    expected = templates.patches(template, *places, 9) * amplitude[:, None, None]
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, expected, atol=1e-6 * 100)


@pytest.mark.parametrize("spectrum", [F090, F150])
def test_patches_of_a_filtered_source_are_exact(spectrum, rng):
    """The model of a source at a sub-pixel position, ring included, is right to 1e-4 of its peak."""
    template, shape = make_template(**spectrum), (512, 512)
    for fy, fx in rng.uniform(-0.5, 0.5, (4, 2)):
        truth = filtered_sources(shape, np.array([256 + fy]), np.array([256 + fx]), np.ones(1), **spectrum)
        model = templates.patches(template, np.array([fy]), np.array([fx]), np.zeros(1), 30)[0]
        np.testing.assert_allclose(model, truth[226:287, 226:287], atol=1e-4)


def test_patches_have_the_shape_of_the_band_of_each_pixel():
    """A source beside the border of two bands is painted in each of them as that band sees it."""
    narrow, wide = (templates.gaussian_template(fwhm, 0.5, radius_fwhm=30 / fwhm) for fwhm in (1.5, 3.0))
    both = templates.Template(np.concatenate([narrow.values, wide.values]), [0, 100, 200], np.full((2, 2), 0.5))
    model = templates.patches(both, np.array([0.3]), np.array([-0.2]), np.array([97.3]), 8)[0]
    first, second = (
        templates.patches(t, np.array([0.3]), np.array([-0.2]), np.array([97.3]), 8)[0] for t in (narrow, wide)
    )
    np.testing.assert_allclose(model, np.concatenate([first[:11], second[11:]]), atol=1e-6)
    beyond = [templates.patches(t, *(np.array([v]) for v in (-6.7, -0.2, 97.3)), 2)[0] for t in (both, wide)]
    np.testing.assert_allclose(*beyond, atol=1e-6)


def test_evaluate_is_zero_beyond_the_support():
    """Far from the source the template is exactly 0, without an error."""
    template = templates.gaussian_template(2, 0.5)
    assert templates.evaluate(template, [500.0, 0.0, -80.0], [0.0, -500.0, 80.0], 0).tolist() == [0, 0, 0]


def test_even_and_odd_templates_agree():
    """Whether the stored square has an even or an odd side does not change A."""
    odd = templates.gaussian_template(2, 0.5, radius_fwhm=4)
    even = templates.Template(np.pad(odd.values, ((0, 0), (1, 0), (1, 0))), odd.row_edges, odd.step_arcmin)
    offsets = np.linspace(-3, 3, 41)
    ours, theirs = (templates.evaluate(t, offsets, 0.3, 0) for t in (odd, even))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_bands_serve_their_rows():
    """A row takes the template of the band that starts at or before it; rows off the map that of the nearest."""
    narrow, wide = (templates.gaussian_template(fwhm, 0.5, radius_fwhm=30 / fwhm) for fwhm in (1.5, 3.0))
    both = templates.Template(np.concatenate([narrow.values, wide.values]), [0, 100, 200], np.full((2, 2), 0.5))
    np.testing.assert_allclose(
        templates.fwhm_arcmin(both, np.array([-5.0, 99.4, 99.6, 300.0])), ROOT2 * np.array([1.5, 1.5, 3, 3]), rtol=1e-4
    )
    assert templates.fwhm_arcmin(both, 99.4) == pytest.approx(ROOT2 * 1.5, rel=1e-4)


def test_selected_bands_keep_their_shape():
    """An image put together from pieces of bands has the template of each band at its piece."""
    fwhms = np.array([1.5, 2.0, 3.0])
    parts = [templates.gaussian_template(fwhm, 0.5, radius_fwhm=30 / fwhm).values for fwhm in fwhms]
    whole = templates.Template(np.concatenate(parts), [0, 10, 20, 30], np.full((3, 2), 0.5))
    part = templates.select_bands(whole, [0, 2], [0, 50, 90])
    np.testing.assert_allclose(templates.fwhm_arcmin(part, np.array([49, 50])), ROOT2 * fwhms[[0, 2]], rtol=1e-4)


def test_pixel_width_follows_the_row():
    """The width of pixels is linear between the middles of the bands, where it is that of the template."""
    values = np.repeat(templates.gaussian_template(2, 0.5).values, 2, axis=0)
    template = templates.Template(values, [0, 101, 202], [[0.5, 0.4], [0.5, 0.3]])
    np.testing.assert_allclose(templates.pixel_width_arcmin(template, np.array([50, 100.5, 151])), [0.4, 0.35, 0.3])


def test_a_source_between_bands_has_the_width_of_both_beams():
    """Away from the middle of a band a source is as wide as the filter's beam and its own together."""
    fwhm, widths = 2.0, (0.4, 0.3)
    stamps = [templates.gaussian_template(fwhm, (0.5, width)).values[0] for width in widths]
    size = min(map(len, stamps))
    middle = [(len(s) - size) // 2 for s in stamps]
    cut = [s[m : m + size, m : m + size] for s, m in zip(stamps, middle, strict=True)]
    template = templates.Template(np.array(cut), [0, 101, 202], np.array([(0.5, w) for w in widths]))
    pixels = np.linspace(-6, 6, 25)
    own, filtered = fwhm / 0.375, fwhm / 0.4
    values = templates.evaluate_pixels(template, 0.0, pixels, 75.25)
    np.testing.assert_allclose(values, gaussian(np.hypot(own, filtered), 0, pixels), atol=1e-4)


def test_curvature_of_a_gaussian():
    """M of a Gaussian of width w is 8 ln 2 / w^2 along both axes, also on pixels that are not square."""
    template = templates.gaussian_template(2.05, (0.5, 0.4))
    expected = 8 * np.log(2) / (2 * 2.05**2) * np.eye(2)
    np.testing.assert_allclose(templates.curvature(template, 0), expected, atol=1e-5)
    assert templates.curvature(template, np.zeros((3, 2))).shape == (3, 2, 2, 2)


@pytest.mark.parametrize("spectrum", [F090, F150])
def test_curvature_is_that_of_the_spectrum(spectrum):
    """M equals the mean of k^2 over the power spectrum of s."""
    beam, noise = spectra((512, 512), **spectrum)
    power = (beam**2 / noise) * np.where(np.arange(257) % 256, 2, 1)
    k_y = 2 * np.pi * np.fft.fftfreq(512, 0.5)[:, None]
    truth = np.sum(power * k_y**2) / np.sum(power)
    assert templates.curvature(make_template(**spectrum), 0)[0, 0] == pytest.approx(truth, rel=1e-3)


def test_wrong_templates_are_refused():
    """A template whose shapes disagree, or that is not 1 at its centre, names what was found and expected."""
    good = templates.gaussian_template(2, 0.5)
    with pytest.raises(ValueError, match=r"expected \(2, m, m\)"):
        templates.Template(good.values, [0, 1, 2], good.step_arcmin)
    with pytest.raises(ValueError, match=r"step_arcmin has shape \(2,\); expected \(1, 2\)"):
        templates.Template(good.values, [0, 1], np.array([0.5, 0.5]))
    with pytest.raises(ValueError, match="divide the template by its centre"):
        templates.Template(2 * good.values, [0, 1], good.step_arcmin)


def test_joined_templates_serve_their_own_rows():
    """Templates of strips put together are read in the rows of each, smaller ones with 0 around them."""
    parts = [templates.gaussian_template(2.0, 0.5), templates.gaussian_template(3.0, (0.5, 0.25))]
    shifted = [templates.select_bands(parts[0], [0], [0, 40]), templates.select_bands(parts[1], [0], [40, 100])]
    joined = templates.join(shifted, 20)
    assert joined.row_edges.tolist() == [0, 40, 100] and templates.half_size(joined) == 20
    for row, part in ((19.5, parts[0]), (69.5, parts[1])):
        for offset in (0.0, 1.0, 2.3):
            assert templates.evaluate_pixels(joined, offset, offset, row) == pytest.approx(
                templates.evaluate_pixels(part, offset, offset, 0), abs=2e-3
            )
