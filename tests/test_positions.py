"""Maxima of s between the pixels, and their errors."""

import numpy as np
import pytest
from astropy.wcs import WCS
from filtered_skies import filtered_noise, filtered_sources, make_filtered_sky, make_template
from scipy.spatial import cKDTree

from sotrplib import geometry, positions, reading
from sotrplib import template as templates


def find_all(image, template, threshold):
    start = positions.local_maxima(image, 0.75 * threshold)
    return positions.refine(image, *start, template)


def test_positions_reach_the_cramer_rao_bound(rng):
    """For SNR 7 to 20 the rms error of positions is below 1.1 times the bound, and the errors are true to 12 %."""
    sky = make_filtered_sky((1536, 1536), rng, [7, 7.5, 8, 10, 14, 20], spacing_pix=40)
    found = find_all(sky.s, sky.template, 5.0)
    distance, index = cKDTree(np.stack(found[:2], 1)).query(np.stack([sky.y, sky.x], 1))
    near = distance < 3
    assert near.sum() >= 1000
    assert near.mean() > 0.97
    error = np.stack([found.y[index] - sky.y, found.x[index] - sky.x])[:, near]
    bound = 1 / np.sqrt(templates.pixel_curvature(sky.template, [0.0])[0].diagonal()) / sky.snr[near, None]
    claimed = np.sqrt(np.stack([found.cov_yy, found.cov_xx])[:, index[near]])
    assert np.sqrt(np.mean((error.T / bound) ** 2)) < 1.1
    assert np.std(error / claimed) == pytest.approx(1, abs=0.12)
    assert abs(np.mean(error / claimed)) < 4 / np.sqrt(error.size)
    assert found.converged[index[near]].mean() > 0.995


@pytest.mark.parametrize("knee", [0.0, 0.02])
def test_a_source_without_noise_is_found_exactly(rng, knee):
    """Without noise position and height come out to 0.003 pixels and 0.02 %."""
    y, x = rng.uniform(60, 68, (2, 20)) + np.array([[0], [3]])
    template = make_template(knee=knee)
    for y0, x0 in zip(y, x, strict=True):
        image = filtered_sources((128, 128), [y0], [x0], [100.0], knee=knee)
        found = find_all(image, template, 50.0)
        assert found.y == pytest.approx([y0], abs=3e-3)
        assert found.x == pytest.approx([x0], abs=3e-3)
        assert found.s_max == pytest.approx([100], rel=2e-4)


def test_starts_need_not_be_near_the_peak():
    """A start 2 pixels from a peak, between the pixels, still ends on it; beyond max_shift_pix it stays and says so."""
    template, image = make_template(), filtered_sources((96, 96), [40.2], [50.7], [30.0])
    found = positions.refine(image, [41.9], [49.5], template, max_shift_pix=3.0)
    assert (found.y[0], found.x[0], found.converged[0]) == (
        pytest.approx(40.2, abs=0.01),
        pytest.approx(50.7, abs=0.01),
        True,
    )
    far = positions.refine(image, [43.2], [50.7], template, max_shift_pix=1.0)
    assert not far.converged[0]
    assert np.hypot(far.y[0] - 43.2, far.x[0] - 50.7) <= 1 + 1e-9


def test_a_start_without_data_stays_where_it_is():
    """Starts off the image or on NaN keep their position, have s_max NaN and are not converged."""
    image = filtered_sources((64, 64), [30.0], [30.0], [30.0])
    image[10, 10] = np.nan
    found = positions.refine(image, [10.0, -5.0, 70.0], [10.0, 20.0, 20.0], make_template())
    assert np.isnan(found.s_max).all()
    assert not found.converged.any()
    assert found.y.tolist() == [10.0, -5.0, 70.0]


def test_a_hole_beside_a_source_does_not_move_it(rng):
    """With pixels missing 2 pixels away the position is right within 4 of its errors, and s_max within 3."""
    template = make_template()
    image = filtered_noise((96, 96), rng) + filtered_sources((96, 96), [48.3], [47.8], [40.0])
    image[50:54, 44:52] = np.nan
    found = positions.refine(image, *positions.local_maxima(image, 20.0), template)
    assert found.y == pytest.approx([48.3], abs=4 * np.sqrt(found.cov_yy[0]))
    assert found.x == pytest.approx([47.8], abs=4 * np.sqrt(found.cov_xx[0]))
    assert found.s_max == pytest.approx([40], abs=3)


@pytest.mark.parametrize("radius", [0.5, 9.0, 300.0])
def test_close_pairs_are_those_of_brute_force(radius, rng):
    """Each pair within the radius once, the smaller index first; NaN is close to nothing."""
    y, x = rng.uniform(-40, 200, (2, 300))
    y[7], (y[9], x[9]) = np.nan, (y[8], x[8])
    with np.errstate(invalid="ignore"):
        close = np.hypot(y[:, None] - y, x[:, None] - x) <= radius
    pairs = positions.close_pairs(y, x, radius)
    assert sorted(map(tuple, pairs.tolist())) == [tuple(p) for p in np.argwhere(np.triu(close, 1)).tolist()] != []


def test_what_was_read_starts_the_fit():
    """Values read before at the positions give the peak that reading them anew gives."""
    template, image = make_template(), filtered_sources((96, 96), [40.2], [50.7], [30.0])
    start = np.array([41.1]), np.array([50.2])
    values = np.array(reading.sample(image, *start, template, 2))
    anew, known = (positions.refine(image, *start, template, values=v) for v in (None, values))
    np.testing.assert_array_equal(np.array(anew[:6]), np.array(known[:6]))


def test_no_start_gives_no_peak():
    """Empty lists of starts are refined to empty arrays."""
    found = positions.refine(np.zeros((8, 8)), [], [], make_template())
    assert [len(values) for values in found] == [0] * 7


def test_maxima_lie_on_borders_and_beside_missing_pixels():
    """Pixels off the map and NaN count as lower than anything."""
    image = np.zeros((5, 6))
    image[0, 0], image[4, 3], image[2, 5] = 9.0, 8.0, 7.0
    image[3, 3] = np.nan
    y, x = positions.local_maxima(image, 1.0)
    assert list(zip(y, x, strict=True)) == [(0, 0), (2, 5), (4, 3)]


def test_a_plateau_has_one_maximum():
    """Of equal neighbours the first alone is a maximum."""
    image = np.zeros((6, 6))
    image[2:4, 2:4] = 5.0
    assert [p.tolist() for p in positions.local_maxima(image, 1.0)] == [[2], [2]]


def test_a_bad_pixel_hides_a_maximum_but_not_its_height():
    """A maximum on a pixel that is not good is none, and neither is the good pixel beside it."""
    image = np.zeros((6, 6))
    image[2, 2], image[2, 3] = 9.0, 8.0
    good = np.ones((6, 6), bool)
    good[2, 2] = False
    assert not len(positions.local_maxima(image, 1.0, ~good)[0])


def test_distinct_keeps_the_highest_of_a_chain():
    """Of positions closer than the radius the higher stays; one whose own better neighbour was dropped stays too."""
    y, x, s = np.array([0.0, 0.8, 1.6, 9.0]), np.zeros(4), np.array([5.0, 4.0, 3.0, 1.0])
    assert positions.distinct(y, x, s, 1.0).tolist() == [True, False, True, True]
    assert positions.distinct(y[:1], x[:1], s[:1]).tolist() == [True]


def test_errors_on_the_sky_are_those_of_the_pixels(rng):
    """An error of one pixel is the pixel's size on the sky, along RA times cos dec, on CAR at dec -60."""
    _, wcs = geometry.make_car(10.0, -60.0, 4.0, 2.0, 0.5)
    y, x = geometry.sky2pix(wcs, np.array([10.0]), np.array([-60.0]))
    ra_err, dec_err = positions.sky_errors(wcs, y, x, (np.ones(1), np.zeros(1), np.ones(1)))
    assert dec_err == pytest.approx([30.0], rel=1e-3)
    assert ra_err == pytest.approx([15.0], rel=1e-3)


def test_errors_follow_a_rotated_map():
    """On a map turned by 90 degrees the error along rows is that of Dec."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], [50.0, 20.0], [51.0, 51.0]
    wcs.wcs.cd = np.array([[0.0, 1.0], [1.0, 0.0]]) / 120
    ra_err, dec_err = positions.sky_errors(
        wcs, np.array([50.0]), np.array([50.0]), (np.ones(1), np.zeros(1), 4 * np.ones(1))
    )
    assert ra_err == pytest.approx([30.0], rel=1e-3)
    assert dec_err == pytest.approx([60.0], rel=1e-3)


def test_curvature_is_that_of_the_template():
    """M in pixels is the inverse square of the template's Gaussian width, for every row."""
    template = templates.gaussian_template(2.0, 0.5, n_rows=100)
    width = 2.0 * np.sqrt(2) / 0.5 / np.sqrt(8 * np.log(2))
    matrix = templates.pixel_curvature(template, np.array([0.0, 55.0]))
    assert matrix == pytest.approx(np.broadcast_to(np.eye(2) / width**2, (2, 2, 2)), rel=1e-3, abs=1e-6)
