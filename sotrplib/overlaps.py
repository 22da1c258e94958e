"""Positions and heights of sources that overlap in s = rho / sqrt(kappa), fitted together.

The likelihood of sources of height h_i at x_i is h.s - h.A.h / 2 with s_i = s(x_i) and A_ij = A(x_i - x_j): the
heights solve A h = s, and each source lies at the maximum of s minus the templates of the others.
"""

from typing import NamedTuple

import numpy as np

from sotrplib import positions, reading
from sotrplib import template as templates
from sotrplib.positions import Refined

_TOLERANCE_PIX = 2e-4  # steps shorter than this are not taken
_N_STEPS = 30
_ORDERS = ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2))
_STRONG = 0.05  # sources that overlap by more are fitted together,
_STRONG_SIGMA = 0.5  # as are those of which one adds more than this to the other;
_WING_SIGMA = 0.05  # what is less than that and more than this counts for the heights alone
_ENTRIES = 1 << 16  # of matrices made at a time
_CLOSE = 0.1  # overlap from which errors are larger than those of single sources


class Pairs(NamedTuple):
    """Pairs i < j of sources whose templates overlap, and A at their separation; arrays of shape (n_pairs,)."""

    i: np.ndarray
    j: np.ndarray
    overlap: np.ndarray


def overlapping_pairs(y, x, height, template, *, limit, contribution):
    """Pairs of sources with |A| above ``limit`` at their separation, or with more than ``contribution`` of either.

    ``contribution`` is in the units of ``height``, the significance of the sources. Returns :class:`Pairs`.
    """
    smallest = min(limit, contribution / max(float(np.max(height, initial=0)), 1e-3))
    i, j = positions.close_pairs(y, x, positions.reach_pix(template, smallest)).T
    overlap = templates.evaluate_pixels(template, y[i] - y[j], x[i] - x[j], y[i])
    nearby = _largest_nearby(y[i] - y[j], x[i] - x[j], y[i], overlap, template)
    keep = nearby > np.minimum(limit, contribution / np.maximum(np.maximum(height[i], height[j]), 1e-3))
    return Pairs(i[keep], j[keep], overlap[keep])


def _largest_nearby(dy, dx, row, overlap, template):
    """Largest |A| at separations a pixel shorter, as they are, and a pixel longer.

    Where A crosses zero its slope is steepest: such neighbours add nothing to each other's height, but move each other.
    """
    step = 1 / np.maximum(np.hypot(dy, dx), 1)
    beside = (np.abs(templates.evaluate_pixels(template, dy * f, dx * f, row)) for f in (1 - step, 1 + step))
    return np.maximum.reduce([np.abs(overlap), *beside])


def refine_together(s_image, peaks, template, *, max_shift_pix=2.0):
    """Peaks with those that overlap strongly at their most likely positions and heights together.

    Parameters
    ----------
    s_image : array (ny, nx)
        s = rho / sqrt(kappa), NaN where there are no data.
    peaks : positions.Refined
        Peaks of ``s_image``, each found by itself; no two at the same place.
    template : template.Template
    max_shift_pix : float, default 2
        No position moves farther than this.

    Returns
    -------
    positions.Refined
        ``s_max`` is the height of each source without the others that overlap it by more than 0.05, or add more
        than 0.5 to it. Sources without such neighbours are as they were.
    """
    pairs = _strong_pairs(peaks, template)
    members = _members(pairs)
    if not members.size:
        return peaks
    i, j = (np.searchsorted(members, part) for part in pairs[:2])
    group = Refined(*(values[members] for values in peaks))
    fitted = _fit(s_image, group, Pairs(i, j, pairs.overlap), template, max_shift_pix)
    result = Refined(*(values.copy() for values in peaks))
    for whole, part in zip(result, fitted, strict=True):
        whole[members] = part
    return result


def _fit(s_image, peaks, pairs, template, max_shift_pix):
    """:func:`refine_together` of peaks that all have neighbours."""
    active = np.arange(len(peaks.y))
    start = np.stack([peaks.y, peaks.x])
    position, curvature = start.copy(), templates.pixel_curvature(template, peaks.y)
    converged, values = peaks.converged.copy(), np.zeros((6, len(peaks.y)))
    values[0] = peaks.s_max
    for _ in range(_N_STEPS):
        pairs = _update_overlaps(pairs, position, active, template)
        values[:, active] = reading.sample(s_image, *position[:, active], template, 2)
        height = solve_heights(values[0], pairs)
        alone = values[1:, active] - _light_of_others(position, height, pairs, active, template)
        step = positions.newton_step(np.concatenate([height[None, active], alone]), curvature[active])
        converged[active] = ~(np.hypot(*step) >= _TOLERANCE_PIX)
        step = np.where(converged[active], 0, step)
        position[:, active] = positions.within(position[:, active] + step, start[:, active], max_shift_pix)
        active = _with_neighbours(active[~converged[active]], pairs, len(converged))
        if not active.size:
            break
    values[0] = reading.sample(s_image, *position, template)
    height = solve_heights(values[0], _update_overlaps(pairs, position, np.arange(len(height)), template))
    return Refined(*position, height, *positions.position_covariance(curvature, height), converged)


def strong_members(peaks, template):
    """Index (m,) of the peaks that :func:`refine_together` fits together."""
    return _members(_strong_pairs(peaks, template))


def separate_heights(s_image, peaks, template):
    """Heights without the wings of all others, and errors, of sources whose positions are known.

    Returns
    -------
    positions.Refined
        The peaks with those heights, and covariances that count the overlap with close neighbours.
    height_err : array (n,)
        Error of the heights: 1 without close neighbours.
    blended : array (n,) bool
        Sources that another adds more than 0.5 to, and those others.
    """
    pairs = overlapping_pairs(*peaks[:3], template, limit=_STRONG, contribution=_WING_SIGMA)
    height = solve_heights(reading.sample(s_image, peaks.y, peaks.x, template), pairs)
    curvature = templates.pixel_curvature(template, peaks.y)
    result = Refined(*peaks[:2], height, *positions.position_covariance(curvature, height), peaks.converged)
    height_err, blended = np.ones(len(height)), np.zeros(len(height), bool)
    index, covariance = joint_errors(*result[:3], pairs, template, limit=_CLOSE)
    height_err[index] = np.sqrt(covariance[:, 0, 0])
    result.cov_yy[index], result.cov_yx[index], result.cov_xx[index] = covariance[:, (1, 1, 2), (1, 2, 2)].T
    added = np.abs(pairs.overlap) * np.maximum(height[pairs.i], height[pairs.j])
    blended[_members(pairs, added > _STRONG_SIGMA)] = True
    return result, height_err, blended


def solve_heights(s, pairs):
    """Heights h with s_i = sum_j A_ij h_j: those of overlapping sources from the values of s at their positions."""
    from scipy.sparse import coo_array, eye_array
    from scipy.sparse.linalg import spsolve

    height = np.array(s, float)
    if not pairs.i.size:
        return height
    members = _members(pairs)
    i, j = np.searchsorted(members, pairs.i), np.searchsorted(members, pairs.j)
    both, n = (np.concatenate([i, j]), np.concatenate([j, i])), len(members)
    matrix = coo_array((np.concatenate([pairs.overlap] * 2), both), shape=(n, n)) + eye_array(n)
    finite = np.isfinite(height[members])
    solved = spsolve(matrix.tocsc(), np.where(finite, height[members], 0))
    height[members] = np.where(finite, solved, np.nan)
    return height


def joint_errors(y, x, height, pairs, template, *, limit=0.01):
    """Errors of height and position of overlapping sources, from the Fisher matrix of each with its neighbours.

    Parameters
    ----------
    y, x, height : array (n,)
        Positions in pixels and heights.
    pairs : Pairs
    template : template.Template
    limit : float, default 0.01
        Overlap from which a neighbour counts.

    Returns
    -------
    index : array (m,) int
        The sources that have such neighbours.
    covariance : array (m, 3, 3)
        Of (height, y, x), pixels; with every other parameter of the neighbours left free.
    """
    near = np.abs(pairs.overlap) > limit
    first, second = np.concatenate([pairs.i[near], pairs.j[near]]), np.concatenate([pairs.j[near], pairs.i[near]])
    order = np.argsort(first, kind="stable")
    index, start, count = np.unique(first[order], return_index=True, return_counts=True)
    covariance = np.empty((len(index), 3, 3))
    for size in np.unique(count):
        chosen = np.flatnonzero(count == size)
        neighbours = second[order][start[chosen, None] + np.arange(size)]
        group = np.concatenate([index[chosen, None], neighbours], axis=1)
        for part in np.array_split(np.arange(len(chosen)), len(chosen) * (size + 1) ** 2 // _ENTRIES + 1):
            fisher = _fisher(y[group[part]], x[group[part]], height[group[part]], template)
            covariance[chosen[part]] = np.linalg.pinv(fisher, hermitian=True)[:, :3, :3]
    return index, covariance


def _fisher(y, x, height, template):
    """Fisher matrices (g, 3 n, 3 n) of (height, y, x) of each of n sources in g groups (g, n)."""
    dy, dx = (p[:, :, None] - p[:, None, :] for p in (y, x))
    row = y.mean(axis=1)[:, None, None]
    value, ay, ax, ayy, ayx, axx = (templates.evaluate_pixels(template, dy, dx, row, orders=order) for order in _ORDERS)
    blocks = np.array([[value, -ay, -ax], [ay, -ayy, -ayx], [ax, -ayx, -axx]])
    scale = np.stack([np.ones(height.shape), height, height])
    matrix = blocks * scale[:, None, :, :, None] * scale[None, :, :, None, :]
    return matrix.transpose(2, 3, 0, 4, 1).reshape(len(y), 3 * y.shape[1], 3 * y.shape[1])


def _update_overlaps(pairs, position, moved, template):
    """Pairs with the overlap of those made anew in which a source has moved."""
    touched = _touched(pairs, moved, position.shape[1])
    i, j, overlap = pairs.i[touched], pairs.j[touched], pairs.overlap.copy()
    dy, dx = position[:, i] - position[:, j]
    overlap[touched] = templates.evaluate_pixels(template, dy, dx, position[0, i])
    return pairs._replace(overlap=overlap)


def _strong_pairs(peaks, template):
    return overlapping_pairs(*peaks[:3], template, limit=_STRONG, contribution=_STRONG_SIGMA)


def _members(pairs, chosen=slice(None)):
    """Sources in any of the chosen pairs, each once."""
    return np.unique(np.concatenate([pairs.i[chosen], pairs.j[chosen]]))


def _touched(pairs, sources, n):
    chosen = np.zeros(n, bool)
    chosen[sources] = True
    return chosen[pairs.i] | chosen[pairs.j]


def _with_neighbours(sources, pairs, n):
    touched = _touched(pairs, sources, n)
    return np.unique(np.concatenate([sources, pairs.i[touched], pairs.j[touched]]))


def _light_of_others(position, height, pairs, active, template):
    """First and second derivatives (5, n_active) at each active source of the templates of those that overlap it."""
    touched = _touched(pairs, active, position.shape[1])
    i, j = pairs.i[touched], pairs.j[touched]
    dy, dx = position[:, i] - position[:, j]
    light = np.zeros((5, position.shape[1]))
    for total, order in zip(light, _ORDERS[1:], strict=True):
        derivative = templates.evaluate_pixels(template, dy, dx, position[0, i], orders=order)
        np.add.at(total, i, derivative * height[j])
        np.add.at(total, j, derivative * height[i] * (-1) ** sum(order))
    return light[:, active]
