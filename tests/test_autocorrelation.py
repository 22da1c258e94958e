"""The autocorrelation of noise, measured on images with holes, without taking scatter for shape."""

import numpy as np
import pytest
from filtered_skies import filtered_noise, filtered_sources, make_template
from scipy.ndimage import gaussian_filter

from sotrplib import autocorrelation
from sotrplib import template as templates

SIGMA_PIX = 2.0
F090 = {"fwhm_arcmin": 2.05, "knee": 0.14}
F150 = {"fwhm_arcmin": 1.3, "knee": 0.14}


def correlated_noise(rng, shape=(500, 600)):
    """Noise of unit variance whose autocorrelation is a Gaussian of SIGMA_PIX * sqrt(2) pixels."""
    image = gaussian_filter(rng.normal(size=shape), SIGMA_PIX, mode="wrap")
    return image / image.std()


def truth(half):
    axis = np.arange(-half, half + 1)
    return np.exp(-(axis[:, None] ** 2 + axis**2) / (4 * SIGMA_PIX**2))


def test_shape_is_that_of_the_noise(rng):
    """The measured autocorrelation of smoothed noise is the known Gaussian within 1.5 % of its peak."""
    image = correlated_noise(rng)
    values = autocorrelation.measure(image, np.ones(image.shape, bool), 24)
    assert values[24, 24] == 1
    np.testing.assert_allclose(values, truth(24), atol=0.015)


def test_scatter_far_out_is_not_kept(rng):
    """Beyond the noise's correlation what is left is below 0.4 %, less than half of the raw estimate's scatter."""
    image = correlated_noise(rng)
    good = np.ones(image.shape, bool)
    far = np.hypot(*(np.indices((65, 65)) - 32)) > 16
    raw, smooth = autocorrelation.correlate(image, good, 32), autocorrelation.measure(image, good, 32)
    assert smooth[far].std() < 0.004 and smooth[far].std() < raw[far].std() / 2


def test_holes_do_not_bias(rng):
    """A third of the pixels missing in blocks leaves the shape as it is; what they hold does not matter."""
    image = correlated_noise(rng)
    good = np.ones(image.shape, bool)
    good[100:250, 50:380] = False
    values = autocorrelation.measure(np.where(good, image, 1e6), good, 24)
    np.testing.assert_allclose(values, truth(24), atol=0.02)


def test_true_anisotropy_is_kept(rng):
    """Noise twice as wide along x as along y is measured so, to 3 % of the peak."""
    image = gaussian_filter(rng.normal(size=(500, 600)), (1.5, 3.0), mode="wrap")
    values = autocorrelation.measure(image, np.ones(image.shape, bool), 24)
    assert abs(values[24, 24 + 4] - np.exp(-16 / (4 * 9))) < 0.03
    assert abs(values[24 + 4, 24] - np.exp(-16 / (4 * 2.25))) < 0.03


def test_surroundings_of_peaks_are_found():
    """Every pixel within the square around a peak is marked, none beyond it."""
    image = np.zeros((21, 21))
    image[10, 10] = -9
    near = autocorrelation.near_peaks(image, 5.0, 3)
    assert near.sum() == 49 and near[7, 7] and not near[6, 10]


@pytest.mark.parametrize("spectrum", [F090, F150])
def test_template_measured_from_noise(spectrum, rng):
    """A measured on a map with holes and sources is within 0.025 of the truth at every offset."""
    shape = (700, 700)
    y, x = rng.uniform(0, 700, (2, 30))
    s = filtered_noise(shape, rng, **spectrum) + filtered_sources(shape, y, x, np.full(30, 20.0), **spectrum)
    mask = np.zeros(shape, "u1")
    mask[:, :60] = 1
    mask[rng.integers(0, 700, 300), rng.integers(0, 700, 300)] = 4
    measured = autocorrelation.measure_template(np.where(mask, 1e4, s), mask, (0.5, 0.5), half_size=24)
    truth = make_template(**spectrum).values[0, 16:65, 16:65]
    np.testing.assert_allclose(measured.values[0], truth, atol=0.025)
    assert measured.row_edges.tolist() == [0, 700]


def test_measured_template_keeps_anisotropy(rng):
    """Noise that is wider along one axis is measured wider along that axis."""
    shape = (600, 600)
    ky, kx = np.fft.fftfreq(600)[:, None], np.fft.rfftfreq(600)
    power = np.exp(-((2 * np.pi) ** 2) * ((2.5 * ky) ** 2 + (1.5 * kx) ** 2))
    s = np.fft.irfft2(np.fft.rfft2(rng.normal(size=shape)) * np.sqrt(power), s=shape)
    measured = autocorrelation.measure_template(s / s.std(), np.zeros(shape, "u1"), (0.5, 0.5), half_size=20)
    curvature = templates.curvature(measured, 0)
    assert np.sqrt(curvature[1, 1] / curvature[0, 0]) == pytest.approx(2.5 / 1.5, rel=0.05)


def test_measured_template_needs_pixels():
    """A map with fewer good pixels than the template has says so, with the cure."""
    with pytest.raises(ValueError, match="usable pixels; more than 4225 are needed"):
        autocorrelation.measure_template(np.zeros((60, 60)), np.zeros((60, 60)), (0.5, 0.5))
