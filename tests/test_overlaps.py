"""Sources that overlap, fitted together."""

import numpy as np
import pytest
from filtered_skies import filtered_noise, filtered_sources, make_template

from sotrplib import overlaps, positions
from sotrplib import template as templates

FWHM_PIX = 2.0 * np.sqrt(2) / 0.5


def make_pairs(rng, separation_fwhm, heights, *, n=16, spacing=56):
    """n x n pairs on a sky with noise: image, template, true (y, x) each of shape (2, n_pairs)."""
    size = n * spacing
    centres = (np.stack(np.meshgrid(np.arange(n), np.arange(n))).reshape(2, -1) + 0.5) * spacing
    angle = rng.uniform(0, 2 * np.pi, n * n)
    offset = separation_fwhm * FWHM_PIX * np.stack([np.sin(angle), np.cos(angle)])
    first = centres + rng.uniform(-3, 3, centres.shape)
    y, x = np.stack([first, first + offset], 1)
    snr = np.repeat(heights, n * n)
    image = filtered_noise((size, size), rng) + filtered_sources((size, size), y.ravel(), x.ravel(), snr)
    return image, make_template(n_rows=size), y, x


def as_peaks(y, x, height):
    zero = np.zeros(len(y))
    return positions.Refined(y, x, height, zero, zero, zero, np.ones(len(y), bool))


@pytest.mark.parametrize("separation_fwhm", [0.75, 1.0])
def test_heights_and_positions_of_pairs_are_unbiased_with_true_errors(rng, separation_fwhm):
    """Pairs of SNR 20 and 40: height bias below 0.2 sigma, pulls of heights and positions 0.88 to 1.12."""
    image, template, y, x = make_pairs(rng, separation_fwhm, [20.0, 40.0])
    start = as_peaks(*(p.ravel() + rng.uniform(-0.3, 0.3, p.size) for p in (y, x)), np.repeat([25.0, 45.0], y.shape[1]))
    fitted = overlaps.refine_together(image, start, template, max_shift_pix=3.0)
    fitted, error, blended = overlaps.separate_heights(image, fitted, template)
    pull = ((fitted.s_max - np.repeat([20.0, 40.0], y.shape[1])) / error).reshape(2, -1)
    assert blended.all()
    assert fitted.converged.mean() > 0.99
    assert np.abs(pull.mean(axis=1)) == pytest.approx([0, 0], abs=0.2)
    assert pull.std() == pytest.approx(1, abs=0.12)
    moved = np.stack([(fitted.y - y.ravel()) / np.sqrt(fitted.cov_yy), (fitted.x - x.ravel()) / np.sqrt(fitted.cov_xx)])
    assert moved.std() == pytest.approx(1, abs=0.12)


def test_sources_alone_stay_as_they_are(rng):
    """Without overlap nothing is fitted again: the same arrays come back."""
    peaks = as_peaks(np.array([30.0, 90.0]), np.array([30.0, 90.0]), np.array([8.0, 9.0]))
    assert overlaps.refine_together(np.zeros((128, 128)), peaks, make_template(n_rows=128)) is peaks


def test_heights_solve_the_overlap_exactly():
    """Values of s made from heights and overlaps give the heights back, for a chain of three."""
    template, height = make_template(), np.array([10.0, -3.0, 25.0])
    y, x = np.array([50.0, 54.0, 57.5]), np.array([50.0, 51.0, 47.0])
    pairs = overlaps.overlapping_pairs(y, x, height, template, limit=0.0, contribution=0.0)
    matrix = templates.evaluate_pixels(template, y[:, None] - y, x[:, None] - x, 50.0)
    assert overlaps.solve_heights(matrix @ height, pairs) == pytest.approx(height, rel=1e-6)


def test_a_missing_value_spoils_no_other():
    """A source on NaN has the height NaN, and one far away keeps its own."""
    template = make_template()
    y, x = np.array([50.0, 54.0, 150.0]), np.full(3, 50.0)
    pairs = overlaps.overlapping_pairs(y, x, np.full(3, 9.0), template, limit=0.01, contribution=0.1)
    height = overlaps.solve_heights(np.array([9.0, np.nan, 7.0]), pairs)
    assert np.isfinite(height).tolist() == [True, False, True]
    assert height[2] == 7.0


def test_errors_far_apart_are_those_of_single_sources():
    """At 2 FWHM the joint covariance is that of two single sources: 1 for the height, M^-1 / S^2 for the position."""
    template, height = make_template(), np.array([20.0, 40.0])
    y, x = np.array([50.0, 50.0 + 2 * FWHM_PIX]), np.full(2, 50.0)
    pairs = overlaps.overlapping_pairs(y, x, height, template, limit=0.0, contribution=0.0)
    _, covariance = overlaps.joint_errors(y, x, height, pairs, template, limit=0.0)
    alone = np.linalg.inv(templates.pixel_curvature(template, y)) / height[:, None, None] ** 2
    assert covariance[:, 0, 0] == pytest.approx([1, 1], rel=0.01)
    assert covariance[:, 1:, 1:] == pytest.approx(alone, rel=0.02, abs=1e-6)


def test_neighbours_where_the_template_crosses_zero_move_each_other():
    """At the zero of A, where its slope is steepest, two sources of 40 sigma are fitted together and found in place."""
    template = make_template(n_rows=128, knee=0.02)
    radius = np.arange(2, 12, 0.05)
    zero = radius[np.argmax(templates.evaluate_pixels(template, 0 * radius, radius, 64) < 0)]
    y, x = np.array([64.2, 64.2]), np.array([60.3, 60.3 + zero])
    image = filtered_sources((128, 128), y, x, np.array([40.0, 40.0]), knee=0.02)
    fitted = overlaps.refine_together(image, as_peaks(y, x + [0.4, -0.4], np.array([42.0, 42.0])), template)
    assert abs(templates.evaluate_pixels(template, 0.0, zero, 64)) < 0.01
    np.testing.assert_allclose(fitted.x, x, atol=0.01)
    np.testing.assert_allclose(fitted.s_max, 40, rtol=0.005)
