"""Tables of weights and of functions between their samples."""

import numpy as np
import pytest

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
