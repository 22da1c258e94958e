"""Reading of filtered maps between their pixels: values, derivatives, holes and edges."""

import numpy as np
import pytest
from filtered_skies import filtered_noise, filtered_sources, make_template

from sotrplib import reading
from sotrplib import template as templates

F090 = {"fwhm_arcmin": 2.05, "knee": 0.14}
F150 = {"fwhm_arcmin": 1.3, "knee": 0.14}


@pytest.mark.parametrize("spectrum, tolerance", [(F090, 1e-4), (F150, 5e-4)])
def test_sample_gives_value_and_derivatives(spectrum, tolerance, rng):
    """A bright source is read at any offset from its peak with its height, slope and curvature."""
    template, shape = make_template(**spectrum), (128, 128)
    image = filtered_sources(shape, np.array([64.3]), np.array([63.6]), np.ones(1), **spectrum).astype("f4")
    y, x = np.array([[64.3], [63.6]]) + rng.uniform(-2, 2, (2, 300))
    read = reading.sample(image, y, x, template, 2)
    for values, orders in zip(read, ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2)), strict=True):
        truth = templates.evaluate_pixels(template, y - 64.3, x - 63.6, 64, orders=orders)
        np.testing.assert_allclose(values, truth, atol=tolerance * 3 ** sum(orders))


@pytest.mark.parametrize("spectrum, error", [(F090, 1e-3), (F150, 1e-2)])
def test_sample_keeps_the_noise(spectrum, error, rng):
    """Noise read between pixels differs from the true noise there by far less than its sigma."""
    shape, shift = (256, 256), (0.37, 0.44)
    noise = filtered_noise(shape, rng, **spectrum)
    ky, kx = np.fft.fftfreq(256)[:, None], np.fft.rfftfreq(256)
    moved = np.fft.irfft2(np.fft.rfft2(noise) * np.exp(2j * np.pi * (ky * shift[0] + kx * shift[1])), s=shape)
    y, x = np.indices((230, 230)).reshape(2, -1) + 10
    read = reading.sample(noise, y + shift[0], x + shift[1], make_template(**spectrum))
    assert np.std(read - moved[y, x]) < error


def test_sample_beside_holes_uses_what_is_left(rng):
    """With up to half of the pixels around a position missing, noise is still read to a third of its sigma."""
    spectrum, shape = F090, (200, 200)
    noise = filtered_noise(shape, rng, **spectrum)
    template = make_template(**spectrum)
    y, x = np.indices((15, 15)).reshape(2, -1) * 12.0 + 10.3
    image = noise.copy()
    image[np.rint(y).astype(int) + 1] = np.nan
    for row in range(2, 5):
        image[np.rint(y).astype(int) + row] = np.nan
    read, truth = (reading.sample(im, y, x, template) for im in (image, noise))
    assert np.std(read - truth) < 0.33
    assert np.isfinite(read).all()


def test_sample_is_nan_where_the_nearest_pixel_has_no_value():
    """Positions off the image, on a NaN pixel or NaN themselves are NaN; half a pixel beside the border is on it."""
    template, image = templates.gaussian_template(2, 0.5), np.ones((20, 20))
    image[5, 5] = np.nan
    y = np.array([-0.6, 19.6, 5.2, np.nan, -0.4, 19.4, 1e9])
    x = np.array([3.0, 3.0, 4.8, 3.0, 3.0, 3.0, 3.0])
    assert np.isfinite(reading.sample(image, y, x, template)).tolist() == [False] * 4 + [True] * 2 + [False]


def test_sample_accepts_no_positions():
    """No positions give no values, whatever derivatives are asked for."""
    template = templates.gaussian_template(2, 0.5)
    assert len(reading.sample(np.ones((5, 5)), np.zeros(0), np.zeros(0), template)) == 0
    assert [len(v) for v in reading.sample(np.ones((5, 5)), np.zeros(0), np.zeros(0), template, 2)] == [0] * 6


def test_sample_reads_arrays_of_any_layout(rng):
    """A transposed or strided image is read as its contiguous copy."""
    template, image = templates.gaussian_template(2, 0.5), filtered_noise((64, 64), rng, **F090)
    y, x = rng.uniform(0, 31, (2, 50))
    for view in (image.T, image[::2, ::2]):
        np.testing.assert_array_equal(reading.sample(view, y, x, template), reading.sample(view.copy(), y, x, template))


@pytest.mark.parametrize("fwhm, tolerance", [(0.77, 2e-3), (0.89, 5e-4), (1.3, 5e-5)])
def test_read_at_is_unbiased_for_narrow_beams(fwhm, tolerance, rng):
    """The flux of a source is right whatever its position in a pixel, also where pixels barely sample it."""
    shape, spectrum = (256, 256), {"fwhm_arcmin": fwhm}
    cells = np.stack(np.meshgrid(np.arange(20, 250, 24), np.arange(20, 250, 24))).reshape(2, -1)
    y, x = cells + rng.uniform(-0.5, 0.5, (2, 100))
    s = filtered_sources(shape, y, x, np.ones(100), **spectrum)
    kappa = np.full(shape, 0.04, "f4")
    read, depth = reading.read_at((s * 0.2).astype("f4"), kappa, y, x, make_template(**spectrum))
    np.testing.assert_allclose(read / np.sqrt(depth), 5, rtol=tolerance)


def test_kappa_is_read_from_observed_pixels_alone():
    """Beside a hole kappa is that of the observed pixels, not a mean with the hole's 0."""
    kappa = np.full((20, 20), 4.0, "f4")
    kappa[:, 10:] = 0
    y, x = np.array([5.3, 5.3, 5.3]), np.array([9.4, 9.6, 3.2])
    np.testing.assert_allclose(reading.read_kappa(kappa, y, x), [4, np.nan, 4])
