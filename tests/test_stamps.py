"""Stamps hold the pixels around a position, and something else off the image."""

import numpy as np

from sotrplib import stamps


def test_a_stamp_is_the_padded_image_around_its_pixel(rng):
    """Every stamp is what the same slice of the image padded with the value for outside is, also far off the image."""
    image = rng.normal(size=(12, 17)).astype(np.float32)
    y, x = rng.uniform(-30, 45, 300), rng.uniform(-30, 50, 300)
    padded = np.pad(image, 60, constant_values=np.nan)
    found = stamps.around(image, y, x, 3, outside=np.nan)
    assert found.dtype == image.dtype
    for stamp, i, j in zip(found, np.rint(y).astype(int) + 60, np.rint(x).astype(int) + 60, strict=True):
        np.testing.assert_array_equal(stamp, padded[i - 3 : i + 4, j - 3 : j + 4])


def test_no_positions_and_images_smaller_than_a_stamp():
    """No position gives no stamp; a stamp wider than the image holds the image."""
    image = np.ones((2, 3), np.float32)
    assert stamps.around(image, np.zeros(0), np.zeros(0), 4).shape == (0, 9, 9)
    assert stamps.around(image, np.array([0.0]), np.array([1.0]), 4).sum() == 6
