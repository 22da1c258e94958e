"""Tables of weights and of functions between their samples."""

import numpy as np
import pytest
from scipy import interpolate

from sotrplib import interpolation


def test_look_up_is_linear_and_zero_off_the_table():
    """Between its steps a table is linear; before its start and after its end it is 0."""
    rows = np.stack([np.arange(5.0), 10 - np.arange(5.0)], 1)
    table = interpolation.Table(-1.0, rows)
    step = 1 / interpolation.N_SUB
    values = interpolation.look_up(table, -1 + step * np.array([-1, 0, 1.25, 4, 4.1]))
    np.testing.assert_allclose(values, [[0, 0], [0, 10], [1.25, 8.75], [4, 6], [0, 0]], atol=1e-12)


@pytest.mark.parametrize("width, error", [(2.5, 1e-2), (4, 1e-4), (20, 1e-5)])
def test_weights_interpolate_a_gaussian(width, error):
    """Eight samples give a Gaussian of FWHM ``width`` samples and its derivatives between them."""
    c = 4 * np.log(2) / width**2
    tables = interpolation.wiener_weights(np.exp(-c * np.arange(60.0) ** 2), 8)
    offset = np.linspace(0, 1, 50, endpoint=False)
    samples = np.exp(-c * (np.arange(-3, 5) - 0.4) ** 2)
    d = offset - 0.4
    curve = np.exp(-c * d**2)
    truths = curve, -2 * c * d * curve, (4 * c**2 * d**2 - 2 * c) * curve
    for table, truth in zip(tables, truths, strict=True):
        np.testing.assert_allclose(interpolation.look_up(table, offset) @ samples, truth, atol=5 * error)


def test_weights_return_samples_at_samples():
    """At a sample the interpolated value is that sample."""
    weights = interpolation.wiener_weights(np.exp(-0.1 * np.arange(40.0) ** 2), 8)[0]
    np.testing.assert_allclose(interpolation.look_up(weights, np.zeros(1))[0], np.eye(8)[3], atol=1e-6)


def test_weights_stand_rounding_and_one_lag():
    """A rounded autocorrelation of very smooth signals, or one of a single lag, gives finite weights of sum about 1."""
    smooth = np.exp(-0.002 * np.arange(100.0) ** 2).astype("f4")
    rows = interpolation.wiener_weights(smooth, 8)[0].rows
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-4)
    assert np.abs(rows).max() < 3
    assert np.isfinite(interpolation.wiener_weights(np.ones(1), 8)[0].rows).all()


def test_decompose_gives_the_matrix_back():
    """u v^T is the matrix to 1e-5, with few columns for a nearly separable one."""
    axis = np.arange(-20, 21)
    radius = np.hypot(axis[:, None], axis)
    values = np.exp(-((radius / 5) ** 2)) - 0.1 * np.exp(-((radius / 9) ** 2))
    u, v = interpolation.decompose(values / values[20, 20])
    np.testing.assert_allclose(u @ v.T, values / values[20, 20], atol=2e-5)
    assert u.shape[1] == 2


@pytest.mark.parametrize("n_knots", [4, 5, 60])
@pytest.mark.parametrize("level_start", [False, True])
def test_spline_is_that_of_scipy(n_knots, level_start):
    """Values of two columns at, between and beyond uneven knots are those of scipy's spline to rounding."""
    rng = np.random.default_rng(n_knots)
    knots = np.cumsum(rng.uniform(0.2, 2.0, n_knots))
    values = rng.standard_normal((n_knots, 2))
    ends = ((1, np.zeros(2)) if level_start else "not-a-knot", "not-a-knot")
    at = np.append(np.linspace(knots[0] - 0.5, knots[-1] + 0.5, 301), knots)
    expected = interpolate.CubicSpline(knots, values, bc_type=ends)(at)
    found = interpolation.cubic_spline(knots, values, level_start=level_start)(at)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    single = interpolation.cubic_spline(knots, values[:, 0], level_start=level_start)(at.reshape(-1, 1))
    np.testing.assert_allclose(single, expected[:, :1], rtol=1e-9, atol=1e-9)


def test_spline_of_two_and_three_knots():
    """Two knots give a straight line, three a curve through them whose ends are straight."""
    assert interpolation.cubic_spline([0.0, 2.0], [1.0, 5.0])([-1.0, 1.0]).tolist() == [-1.0, 3.0]
    expected = interpolate.CubicSpline([0.0, 1.0, 3.0], [0.0, 2.0, 1.0], bc_type="natural")([0.0, 0.5, 2.0, 3.0])
    found = interpolation.cubic_spline([0.0, 1.0, 3.0], [0.0, 2.0, 1.0])([0.0, 0.5, 2.0, 3.0])
    np.testing.assert_allclose(found, expected, rtol=1e-12)
