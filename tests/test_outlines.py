"""The distance to an outline is that of brute force, near it and far inside."""

import numpy as np
import pytest

from sotrplib import outlines


def sphere(row, column, *, step_arcmin=5.0):
    """Unit vectors of pixels of a plate carree map that starts at dec -20."""
    dec, ra = np.radians(row * step_arcmin / 60 - 20), np.radians(column * step_arcmin / 60)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], 1)


def rectangle(height, width):
    row, column = np.indices((height, width)).reshape(2, -1)
    border = (row == 0) | (row == height - 1) | (column == 0) | (column == width - 1)
    return row[border], column[border]


def ragged(height, width, rng):
    """A rectangle with teeth, and a few single pixels inside."""
    row, column = rectangle(height, width)
    inside = rng.integers(0, height, 5), rng.integers(0, width, 5)
    pixels = np.append(row + rng.integers(-9, 10, len(row)), inside[0]), np.append(column, inside[1])
    return tuple(rng.permutation(np.unique(np.stack(pixels), axis=1), axis=1))


def test_nearest_is_right_far_from_a_parallel_at_high_declination(rng):
    """Rows of pixels are curved on the sky: seen from 30 degrees away the nearest is the one on the meridian."""
    row, column = np.full(1500, 960), np.arange(1500)
    points, positions = sphere(row, column), sphere(rng.uniform(400, 900, 300), rng.uniform(0, 1499, 300))
    truth = np.linalg.norm(positions[:, None] - points, axis=2).min(axis=1)
    np.testing.assert_allclose(outlines.nearest(positions, points, (row, column)), truth, atol=1e-12)


@pytest.mark.parametrize("outline", ["straight", "ragged", "one point"])
def test_nearest_is_that_of_brute_force(outline, rng):
    """The distance to the nearest point is right to rounding wherever the position is."""
    pixels = {"straight": rectangle(400, 700), "ragged": ragged(400, 700, rng), "one point": (np.array([3]),) * 2}[
        outline
    ]
    points = sphere(*pixels)
    positions = sphere(rng.uniform(-20, 420, 500), rng.uniform(-20, 720, 500))
    truth = np.sqrt(np.min([np.sum((positions - point) ** 2, axis=1) for point in points], axis=0))
    np.testing.assert_allclose(outlines.nearest(positions, points, pixels), truth, atol=1e-12)
