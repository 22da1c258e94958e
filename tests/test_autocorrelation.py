"""The autocorrelation of noise, measured on images with holes, without taking scatter for shape."""

import numpy as np
from scipy.ndimage import gaussian_filter

from sotrplib import autocorrelation

SIGMA_PIX = 2.0


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
