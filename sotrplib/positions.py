"""Positions of sources between the pixels of s = rho / sqrt(kappa).

A source of significance S at x0 gives s(x) = S A(x - x0) plus noise of covariance A. Its most likely position
is the maximum of s, found by Newton's method, with covariance M^-1 / S^2, M = -grad grad A(0): the Cramer-Rao
bound.
"""

from typing import NamedTuple

import numpy as np

from sotrplib import geometry, reading
from sotrplib import template as templates

_BLOCK_ROWS = 128  # few enough to stay in the cache
_LAST_STEP_PIX = 0.03  # after a step this short the error is some 1e-4 pixels
_LONGEST_STEP_PIX = 1.0
_AROUND = ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1))
_FLATTEST = 0.02  # curvature of a peak relative to the template's for which Newton's step is taken
_ROUNDING = 1e-5  # of the interpolation, relative to s


class Refined(NamedTuple):
    """Maxima of s: arrays of shape (n,), positions in pixels, covariances in pixels squared."""

    y: np.ndarray
    x: np.ndarray
    s_max: np.ndarray
    cov_yy: np.ndarray
    cov_yx: np.ndarray
    cov_xx: np.ndarray
    converged: np.ndarray


def local_maxima(image, threshold, mask=None):
    """Pixels above a threshold that no pixel of the 3 x 3 around them exceeds.

    Parameters
    ----------
    image : array (ny, nx)
        NaN counts as lower than anything.
    threshold : float
    mask : array (ny, nx), optional
        0 where a maximum may lie, default everywhere; the other pixels may still exceed it.

    Returns
    -------
    y, x : array (n,) int
        In the order of the pixels. Of equal neighbours the first counts.
    """
    ny, nx = image.shape
    found = [_block_maxima(image, slice(row, row + _BLOCK_ROWS), threshold) for row in range(0, ny, _BLOCK_ROWS)]
    index = np.concatenate(found) if found else np.zeros(0, int)
    return np.divmod(index if mask is None else index[mask.ravel().take(index) == 0], nx)


def _block_maxima(image, rows, threshold):
    """Index into the whole image of the maxima in some of its rows."""
    ny, nx = image.shape
    with np.errstate(invalid="ignore"):
        index = np.flatnonzero(image[rows] > threshold) + rows.start * nx
    column, values = index % nx, image.ravel()
    on_border = (index < nx) | (index >= (ny - 1) * nx) | (column == 0) | (column == nx - 1)
    inside, border = index[~on_border], index[on_border]
    here = values.take(inside)
    for step in _AROUND:
        keep = np.flatnonzero(~_is_lower(here, values.take(inside + (step[0] * nx + step[1])), step))
        inside, here = inside.take(keep), here.take(keep)
    for step in _AROUND if border.size else ():
        y, x = np.divmod(border, nx)
        border = border[~_is_lower(values.take(border), _pixel_or_nan(image, y + step[0], x + step[1]), step)]
    return np.sort(np.concatenate([inside, border])) if border.size else inside


def _is_lower(here, there, step):
    """Whether a pixel is lower than its neighbour; of equal ones the first is the higher."""
    return there >= here if step < (0, 0) else there > here


def refine(s_image, y, x, template, *, max_shift_pix=2.0, n_iter=12, values=None):
    """Nearest maximum of s to each position.

    Parameters
    ----------
    s_image : array (ny, nx)
        s = rho / sqrt(kappa), best NaN where there are no data.
    y, x : array (n,)
        Positions to start from, in pixels.
    template : template.Template
        Shape of a source in ``s_image``.
    max_shift_pix : float, default 2
        No position moves farther than this from its start.
    n_iter : int, default 12
        Most steps taken. A step is Newton's where s is curved like a peak, else up the gradient with the
        template's curvature; it is shortened until s rises.
    values : array (6, n), optional
        s and its derivatives at the positions, as :func:`reading.sample` gives them, if they are known.

    Returns
    -------
    Refined
        Covariance M^-1 / (s_max^2 - 2), the denominator at least 1. ``converged`` is False where no maximum
        was reached; where the start is off the image or NaN, s_max is NaN and the position the start.
    """
    start = np.stack([np.asarray(y, float), np.asarray(x, float)])
    curvature = templates.pixel_curvature(template, start[0])
    if values is None:
        position = within(start + _pixel_vertex(s_image, *start), start, max_shift_pix)
        values = np.array(reading.sample(s_image, *position, template, 2))
    else:
        position, values = start.copy(), np.array(values)
    converged, damping = np.zeros(start.shape[1], bool), np.ones(start.shape[1])
    active = np.flatnonzero(np.isfinite(values[0]))
    for _ in range(n_iter):
        step = newton_step(values[:, active], curvature[active])
        small = np.hypot(*step) < _LAST_STEP_PIX
        last = active[small]
        converged[last] = True
        values[0, last] += 0.5 * np.sum(values[1:3, last] * step[:, small], axis=0)
        position[:, last] += step[:, small]
        step, active = step[:, ~small], active[~small]
        if not active.size:
            break
        trial = within(position[:, active] + step * damping[active], start[:, active], max_shift_pix)
        risen = np.array(reading.sample(s_image, *trial, template, 2))
        better = risen[0] > values[0, active] * (1 - _ROUNDING)
        position[:, active[better]], values[:, active[better]] = trial[:, better], risen[:, better]
        damping[active] = np.where(better, 1, damping[active] / 4)
    return Refined(*position, values[0], *position_covariance(curvature, values[0]), converged)


def position_covariance(curvature, s_max):
    """cov_yy, cov_yx, cov_xx = M^-1 / (s_max^2 - 2), pixels squared; the denominator is at least 1."""
    (yy, yx), (_, xx) = curvature.transpose(1, 2, 0)
    scale = 1 / ((yy * xx - yx**2) * np.maximum(np.square(s_max) - 2, 1))
    return xx * scale, -yx * scale, yy * scale


def distinct(y, x, s, radius_pix=1.0):
    """Which positions are not within ``radius_pix`` of a higher one that is kept itself, array (n,) bool."""
    return keep_highest(s, *close_pairs(y, x, radius_pix).T)


def keep_highest(s, i, j):
    """Which of n values to keep so that of every pair (i, j) at most one is kept, the higher first; array (n,) bool."""
    order = np.argsort(-np.nan_to_num(np.asarray(s, float), nan=-np.inf), kind="stable")
    rank = np.empty(len(order), int)
    rank[order] = np.arange(len(order))
    pairs = np.sort(rank[np.stack([i, j], 1)], axis=1)
    keep = np.ones(len(order), bool)
    for high, low in np.unique(pairs[pairs[:, 0] < pairs[:, 1]], axis=0):
        keep[low] &= not keep[high]
    return keep[rank]


def close_pairs(y, x, radius_pix):
    """Pairs of positions no farther apart than ``radius_pix``: array (n_pairs, 2) int; NaN is close to nothing.

    The first index of a pair is the smaller. In the plane squares of that size are several times faster than a tree.
    """
    points = np.stack([np.asarray(y, float), np.asarray(x, float)])
    finite = np.flatnonzero(np.isfinite(points).all(axis=0))
    if finite.size < 2:
        return np.empty((0, 2), int)
    points = points.take(finite, axis=1)
    order, groups = _in_squares(points, max(radius_pix, 1.0))
    points, found = points.take(order, axis=1), []
    for first, count in groups:
        i = np.repeat(np.arange(len(order)), count)
        j = np.arange(len(i)) + np.repeat(first - np.cumsum(count) + count, count)
        offset = points.take(i, axis=1) - points.take(j, axis=1)
        close = offset[0] ** 2 + offset[1] ** 2 <= radius_pix**2
        found.append(np.stack([i[close], j[close]], 1))
    return np.sort(finite[order[np.concatenate(found)]], axis=1)


def _in_squares(points, side):
    """Order of points (2, n) by the square they are in, and the ranges of those that may be within ``side`` of each.

    The ranges are first and count, arrays (n,) into the points in that order: the rest of the point's own square and
    the next one of the row, then three squares of the next row.
    """
    row, column = np.floor((points - points.min(axis=1, keepdims=True)) / side).astype(np.int64) + 1
    width = column.max() + 2
    key = row * width + column
    order = np.argsort(key)
    key = key[order]
    own = np.arange(1, len(key) + 1)
    below = np.searchsorted(key, key + width - 1)
    counts = np.searchsorted(key, key + 1, side="right") - own, np.searchsorted(key, key + width + 2) - below
    return order, zip((own, below), counts, strict=True)


def reach_pix(template, limit):
    """Distance in pixels beyond which |A| stays below ``limit`` in all bands."""
    return float(np.count_nonzero(templates.envelope(template) > limit))


def newton_step(values, curvature):
    """Step (2, n) to the maximum of the local parabola, at most ``_LONGEST_STEP_PIX`` long.

    ``values`` (6, n) are height, dy, dx, dyy, dyx and dxx; where they are not those of a peak, ``curvature`` (n, 2, 2)
    of the template is taken.
    """
    height, gy, gx, yy, yx, xx = values
    floor = np.maximum(height, 1) * _FLATTEST
    trace, det = yy + xx, yy * xx - yx**2
    (myy, myx), (_, mxx) = curvature.transpose(1, 2, 0)
    peaked = (trace < -floor * (myy + mxx)) & (det > (floor**2) * (myy * mxx - myx**2))
    height = np.maximum(height, 1)
    hyy, hyx, hxx = (np.where(peaked, -a, b * height) for a, b in ((yy, myy), (yx, myx), (xx, mxx)))
    det = hyy * hxx - hyx**2
    return shorten(np.stack([hxx * gy - hyx * gx, hyy * gx - hyx * gy]) / det)


def _pixel_vertex(image, y, x):
    """Offset (2, n) of the maximum from a pixel, from the logarithms of the pixels beside it; 0 between pixels."""
    row, column = (np.clip(np.rint(p), -2, n + 1).astype(int) for p, n in zip((y, x), image.shape, strict=True))
    if not ((row == y) & (column == x)).any():
        return np.zeros((2, len(row)))
    padded = [_pixel_or_nan(image, row + dy, column + dx) for dy, dx in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))]
    with np.errstate(invalid="ignore", divide="ignore"):
        middle, *beside = np.log(padded)
        shift = np.stack([(a - b) / (2 * middle - a - b) / 2 for a, b in (beside[:2], beside[2:])])
    usable = np.isfinite(shift) & (np.abs(shift) <= 0.75) & (row == y) & (column == x)
    return np.where(usable, shift, 0)


def _pixel_or_nan(image, row, column):
    ny, nx = image.shape
    inside = (row >= 0) & (row < ny) & (column >= 0) & (column < nx)
    return np.where(inside, image[np.clip(row, 0, ny - 1), np.clip(column, 0, nx - 1)], np.nan)


def shorten(step):
    """Steps (2, n) in pixels, at most ``_LONGEST_STEP_PIX`` long."""
    length = np.hypot(*step)
    return step * (_LONGEST_STEP_PIX / np.maximum(length, _LONGEST_STEP_PIX))


def within(position, centre, radius):
    """Positions (2, n) moved onto the circle of ``radius`` around ``centre`` where they are outside it."""
    offset = position - centre
    return centre + offset * (radius / np.maximum(np.hypot(*offset), radius))


def sky_errors(wcs, y, x, covariance):
    """Errors of positions along RA (times cos dec) and Dec.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
    y, x : array (n,)
        Positions in pixels.
    covariance : (cov_yy, cov_yx, cov_xx), arrays (n,)
        In pixels squared.

    Returns
    -------
    ra_err_arcsec, dec_err_arcsec : array (n,)
    """
    cov_yy, cov_yx, cov_xx = covariance
    if geometry.is_plain_car(wcs):  # rows are parallels and columns meridians
        dx, dy = 3600 * np.abs(np.diag(wcs.pixel_scale_matrix))
        _, dec = geometry.pix2sky(wcs, y, x)
        return dx * np.cos(np.radians(dec)) * np.sqrt(cov_xx), dy * np.sqrt(cov_yy)
    along_y, along_x = (_sky_step(wcs, y, x, *step) for step in ((0.5, 0.0), (0.0, 0.5)))
    return tuple(
        np.sqrt(a**2 * cov_yy + 2 * a * b * cov_yx + b**2 * cov_xx) for a, b in zip(along_y, along_x, strict=True)
    )


def _sky_step(wcs, y, x, dy, dx):
    low, high = geometry.pix2sky(wcs, y - dy, x - dx), geometry.pix2sky(wcs, y + dy, x + dx)
    return geometry.tangent_offsets(*high, *low)
