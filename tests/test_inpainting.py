"""Filling of unobserved pixels: smooth, within the range of what surrounds them, data untouched."""

import numpy as np
import pytest

from sotrplib import inpainting


def test_inpainting_continues_a_plane():
    """A hole in a gentle slope is filled within the range of its rim; data are untouched."""
    y, x = np.mgrid[:128, :128]
    image = (y + x).astype(np.float32)
    weight = np.ones_like(image)
    weight[50:60, 50:60] = 0
    filled = inpainting.inpaint(image * weight, weight)
    assert np.abs(filled - image)[50:60, 50:60].max() < 12
    np.testing.assert_array_equal(filled[weight > 0], image[weight > 0])


def test_a_constant_is_continued_as_it_is():
    """Edges and holes of a constant map are filled with the constant, whatever lies under them."""
    weight = np.ones((96, 160), np.float32)
    weight[:7] = 0
    weight[40:60, 100:130] = 0
    image = np.where(weight > 0, np.float32(3.5), np.float32(1e6))
    np.testing.assert_allclose(inpainting.inpaint(image, weight), 3.5, rtol=1e-6)


def test_filling_is_periodic():
    """A gap at the right border is filled from the left border as well."""
    image = np.zeros((64, 64), np.float32)
    image[:, :32] = 1
    weight = np.ones_like(image)
    weight[:, 56:] = 0
    filled = inpainting.inpaint(image, weight)
    assert (filled[:, 62:] > 0.5).all() and (filled[:, 56:58] < 0.5).all()


@pytest.mark.parametrize("shape", [(1, 1), (33, 47), (100, 101)])
def test_any_size_and_nothing_observed(shape):
    """fill() takes arrays of any size; without any data the result is 0."""
    assert not inpainting.fill(np.ones(shape, np.float32), np.zeros(shape, np.float32)).any()
    ones = np.ones(shape, np.float32)
    np.testing.assert_array_equal(inpainting.fill(ones, ones), ones)


@pytest.mark.parametrize(("corner", "most"), [((40, 50), 0.12), ((0, 0), 0.3), ((90, 110), 0.3)])
def test_spots_are_filled_from_around_them(corner, most):
    """A spot in a slope, at an edge too, gets the level around it; nothing else changes, unobserved pixels neither."""
    y, x = np.mgrid[:100, :120]
    slope = (1 + 0.01 * y + 0.01 * x).astype(np.float32)
    observed = np.ones(slope.shape, bool)
    observed[:, 60:62] = False
    window = tuple(slice(c, c + 10) for c in corner)
    empty = np.zeros_like(observed)
    empty[window] = True
    image = np.where(observed & ~empty, slope, np.float32(1e6))
    given = image.copy()
    inpainting.fill_spots(image, observed.astype(np.float32), empty, [window])
    np.testing.assert_array_equal(image[~empty | ~observed], given[~empty | ~observed])
    assert np.abs(image - slope)[empty & observed].max() < most
