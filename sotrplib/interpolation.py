"""Reading sampled functions between their samples, by small tables made once.

For a stationary signal of known autocorrelation A the linear combination of n samples with the smallest
error at a position is w = C^-1 c, with C_ij = A(i - j) and c_i = A(position - i): the Wiener weights. They
are tabulated at ``N_SUB`` steps a sample and interpolated linearly between these. Derivatives of the
weights give derivatives of the interpolated function.
"""

from typing import NamedTuple

import numpy as np

N_SUB = 128
_RIDGE = 1e-11
_RANK_ERROR = 1e-5
_MIN_LAGS = 32


class Table(NamedTuple):
    """Rows tabulated at steps of 1 / N_SUB from ``start`` on."""

    start: float
    rows: np.ndarray


class Cubic(NamedTuple):
    """Cubic spline: called with places, any shape, gives its values there; beyond its ends its outer cubics go on."""

    knots: np.ndarray
    values: np.ndarray
    slopes: np.ndarray

    def __call__(self, at):
        at = np.asarray(at, float)
        k = np.clip(np.searchsorted(self.knots, at, side="right") - 1, 0, len(self.knots) - 2)
        extra = (...,) + (None,) * (self.values.ndim - 1)
        width, part = np.diff(self.knots)[k][extra], at[extra] - self.knots[k][extra]
        low, high = self.values[k], self.values[k + 1]
        t, rise = part / width, high - low
        bend = width * self.slopes[k] - rise, width * self.slopes[k + 1] - rise
        return low + t * rise + t * (1 - t) * ((1 - t) * bend[0] - t * bend[1])


def cubic_spline(knots, values, *, level_start=False):
    """Cubic spline through ``values`` (n, ...) at ascending ``knots`` (n,), n >= 2.

    The outer two pieces at each end are one cubic ("not a knot"), or, of fewer than four knots, the ends are
    straight. With ``level_start`` the slope at the first knot is 0. A few lines, because scipy.interpolate takes
    a small job a fifth of its time to import.
    """
    h, values = np.diff(knots), np.asarray(values, float)
    rise = (np.diff(values, axis=0).T / h).T
    below, diagonal, above = np.append(h[1:], 1.0), np.full(len(knots), 2.0), np.append(1.0, h[:-1])
    slope = np.concatenate([3 * rise[:1], np.zeros_like(values[2:]), 3 * rise[-1:]])
    diagonal[1:-1] = 2 * (h[:-1] + h[1:])
    slope[1:-1] = 3 * (h[1:] * rise[:-1].T + h[:-1] * rise[1:].T).T
    if len(knots) >= 4:
        diagonal[0], above[0], slope[0] = _not_a_knot(h[0], h[1], rise[0], rise[1])
        diagonal[-1], below[-1], slope[-1] = _not_a_knot(h[-1], h[-2], rise[-1], rise[-2])
    if level_start:
        diagonal[0], above[0], slope[0] = 1.0, 0.0, 0.0
    columns = [
        _solve(*(part.tolist() for part in (below, diagonal, above, c))) for c in slope.reshape(len(h) + 1, -1).T
    ]
    return Cubic(np.asarray(knots, float), values, np.array(columns).T.reshape(slope.shape))


def _solve(below, diagonal, above, right):
    """Solution of a tridiagonal system, all lists of numbers; the lists are used up."""
    for i, under in enumerate(below):
        factor = under / diagonal[i]
        diagonal[i + 1] -= factor * above[i]
        right[i + 1] -= factor * right[i]
    right[-1] /= diagonal[-1]
    for i in range(len(above) - 1, -1, -1):
        right[i] = (right[i] - above[i] * right[i + 1]) / diagonal[i]
    return right


def _not_a_knot(outer, inner, rise_outer, rise_inner):
    """Coefficients of the slope at an end and beside it, and right side, for one cubic over the two outer pieces."""
    both = outer + inner
    return inner, both, ((outer + 2 * both) * inner * rise_outer + outer**2 * rise_inner) / both


def look_up(table, position, dtype="f8"):
    """Rows of a table at positions of shape (...), linear between its steps and 0 off its ends: (..., n)."""
    fine = (np.asarray(position) - table.start) * N_SUB
    last = len(table.rows) - 1
    low = np.clip(fine, 0, last - 1).astype(int)
    part = (fine - low).astype(dtype, copy=False)[..., None]
    values = table.rows.take(low, axis=0) * (1 - part)
    values += table.rows.take(low + 1, axis=0) * part
    outside = (fine < 0) | (fine > last)
    if outside.any():
        values[outside] = 0
    return values


def wiener_weights(correlation, n_taps):
    """Wiener weights for the value and two derivatives.

    Parameters
    ----------
    correlation : array (n,)
        Autocorrelation A of the signal at lags 0, 1, 2, ... samples; taken as 0 beyond. Its power spectrum is
        made non-negative, so rounding in A does no harm.
    n_taps : int
        Even number of samples used.

    Returns
    -------
    list of Table
        Weights (n_taps,) of the samples around a position, for the value, its first and its second
        derivative; position 0 to 1 counts from the sample ``n_taps // 2 - 1``.
    """
    power = _even_power(correlation)
    size = 2 * (len(power) - 1)
    frequency = 2j * np.pi * np.arange(len(power)) / size
    curves = [np.fft.irfft(power * frequency**order, size * N_SUB) * size * N_SUB for order in range(3)]
    taps = np.arange(n_taps) - (n_taps // 2 - 1)
    matrix = curves[0][(taps[:, None] - taps) * N_SUB] + _RIDGE * np.eye(n_taps)
    offsets = np.arange(N_SUB + 1)[:, None] - taps * N_SUB
    return [Table(0.0, np.ascontiguousarray(np.linalg.solve(matrix, curve[offsets].T).T)) for curve in curves]


def _even_power(correlation):
    """Non-negative power spectrum with unit sum over both signs of frequency; the last bin counts half."""
    lags = np.zeros(max(len(correlation), _MIN_LAGS + 1))
    lags[: len(correlation)] = correlation
    power = np.maximum(np.fft.rfft(np.concatenate([lags, lags[-2:0:-1]])).real, 0)
    power[-1] /= 2
    return power / (power[0] + 2 * power[1:].sum())


def decompose(values):
    """Factors u (n, r) and v (n, r) with A = u v^T, of the point-symmetric part of a square A, scaled to A(0) = 1."""
    middle = len(values) // 2
    left, size, right = np.linalg.svd((values + values[::-1, ::-1]) / (2 * values[middle, middle]))
    dropped = np.sqrt(np.cumsum(size[::-1] ** 2))[::-1]
    rank = max(np.count_nonzero(dropped > _RANK_ERROR), 1)
    root = np.sqrt(size[:rank])
    return left[:, :rank] * root, right[:rank].T * root


def continue_samples(samples, weights):
    """Table of sampled functions between their samples.

    Parameters
    ----------
    samples : array (n, r)
        r functions at positions -(n // 2) ... n // 2, taken as constant beyond. n is odd.
    weights : Table
        Of weights, from :func:`wiener_weights`; those of a derivative give its table.

    Returns
    -------
    Table
        From -(n // 2) - 1 to n // 2 + 1.
    """
    n_taps = weights.rows.shape[1]
    padded = _pad_edges(samples, n_taps)
    windows = np.lib.stride_tricks.sliding_window_view(padded, n_taps, axis=0)
    fine = np.matmul(weights.rows[:-1], windows.transpose(0, 2, 1)).reshape(-1, samples.shape[1])
    half = len(samples) // 2
    fine = fine[: (2 * half + 2) * N_SUB + 1]
    return Table(-half - 1.0, fine.astype("f4"))  # a rounding of 1e-7 of the peak


def read_middle(samples, weights):
    """The functions of :func:`continue_samples`, or their derivatives, at position 0 alone: array (r,)."""
    n_taps, first = weights.rows.shape[1], len(samples) // 2 + 1
    return weights.rows[0] @ _pad_edges(samples, n_taps)[first : first + n_taps]


def _pad_edges(samples, n_taps):
    return np.pad(samples, ((n_taps // 2, n_taps // 2 + 1), (0, 0)), mode="edge")
