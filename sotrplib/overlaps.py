"""Positions and heights of sources that overlap in s = rho / sqrt(kappa), fitted together.

The likelihood of sources of height h_i at x_i is h.s - h.A.h / 2 with s_i = s(x_i) and A_ij = A(x_i - x_j): the
heights solve A h = s, and each source lies at the maximum of s minus the templates of the others.
"""

from typing import NamedTuple

import numpy as np

from sotrplib import crossmatch, positions, reading
from sotrplib import template as templates
from sotrplib.positions import Refined

_TOLERANCE_PIX = 2e-4  # steps shorter than this are not taken
_N_STEPS = 30
_STRONG = 0.05  # sources that overlap by more are fitted together,
_STRONG_SIGMA = 0.5  # as are those of which one adds more than this to the other;
_WING_SIGMA = 0.05  # what is less than that and more than this counts for the heights alone
_ENTRIES = 1 << 16  # of matrices made at a time
_DENSE_MAX = 32  # sources in a group that is solved as a full matrix
_SINGULAR = 1e10  # product of the largest entries of a matrix and its inverse
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
    active, groups = np.arange(len(peaks.y)), _group(pairs, len(peaks.y))
    start = np.stack([peaks.y, peaks.x])
    position, curvature = start.copy(), templates.pixel_curvature(template, peaks.y)
    converged, values = peaks.converged.copy(), np.zeros((6, len(peaks.y)))
    values[0] = peaks.s_max
    height, overlap = peaks.s_max.copy(), pairs.overlap.copy()
    for _ in range(_N_STEPS):
        near = np.flatnonzero(_touched(pairs, active, len(height)))
        i, j = pairs.i[near], pairs.j[near]
        overlap[near], *slopes = templates.evaluate_derivatives(
            template, *(position[:, i] - position[:, j]), position[0, i]
        )
        values[:, active] = reading.sample(s_image, *position[:, active], template, 2)
        _solve_groups(height, groups, values[0], overlap, active)
        alone = values[1:, active] - _light_of_others(slopes, i, j, height)[:, active]
        step = positions.newton_step(np.concatenate([height[None, active], alone]), curvature[active])
        converged[active] = ~(np.hypot(*step) >= _TOLERANCE_PIX)
        step = np.where(converged[active], 0, step)
        position[:, active] = positions.within(position[:, active] + step, start[:, active], max_shift_pix)
        active = _with_neighbours(active[~converged[active]], pairs, len(converged))
        if not active.size:
            break
    values[0] = reading.sample(s_image, *position, template)
    overlap = templates.evaluate_pixels(template, *(position[:, pairs.i] - position[:, pairs.j]), position[0, pairs.i])
    _solve_groups(height, groups, values[0], overlap, np.arange(len(height)))
    return Refined(*position, height, *positions.position_covariance(curvature, height), converged)


def strong_members(peaks, template):
    """Index (m,) of the peaks that :func:`refine_together` fits together."""
    return _members(_strong_pairs(peaks, template))


def separate_heights(s_image, peaks, template, *, values=None):
    """Heights without the wings of all others, and errors, of sources whose positions are known.

    ``values`` (n,) are those of s at their positions, if they were read already.

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
    values = reading.sample(s_image, peaks.y, peaks.x, template) if values is None else values
    height = solve_heights(values, pairs)
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
    height, s = np.array(s, float), np.asarray(s, float)
    if pairs.i.size:
        _solve_groups(height, _group(pairs, len(s)), s, pairs.overlap, np.arange(len(s)))
    return height


class _Groups(NamedTuple):
    """Groups of n sources joined by m pairs.

    ``small`` are (index, entries) for every size k: the members (g, k) of groups, and (g, k, k) where the entries of
    their matrices are in the overlaps of all pairs followed by 0 and 1. ``members`` (n_large,), and ``i``, ``j`` among
    them and ``pairs`` of their overlaps, are of all groups too large for full matrices.
    """

    small: list
    members: np.ndarray
    i: np.ndarray
    j: np.ndarray
    pairs: np.ndarray


def _group(pairs, n):
    """:class:`_Groups` of n sources; those alone are in none."""
    labels = crossmatch.connected(n, pairs.i, pairs.j)
    sizes, order = np.bincount(labels, minlength=1), np.argsort(labels, kind="stable")
    start, place = np.cumsum(sizes) - sizes, np.empty(n, int)
    place[order] = np.arange(n) - np.repeat(start, sizes)
    of_pair, small = sizes[labels[pairs.i]], []
    for size in np.unique(of_pair[of_pair <= _DENSE_MAX]):
        chosen, here = np.flatnonzero(sizes == size), np.flatnonzero(of_pair == size)
        entries = np.full((len(chosen), size, size), len(pairs.i))
        entries[:, np.arange(size), np.arange(size)] += 1
        i, j, rank = place[pairs.i[here]], place[pairs.j[here]], np.searchsorted(chosen, labels[pairs.i[here]])
        entries[rank, i, j] = entries[rank, j, i] = here
        small.append((order[start[chosen][:, None] + np.arange(size)], entries))
    members, large = np.flatnonzero(sizes[labels] > _DENSE_MAX), np.flatnonzero(of_pair > _DENSE_MAX)
    return _Groups(small, members, *(np.searchsorted(members, part[large]) for part in pairs[:2]), large)


def _solve_groups(height, groups, s, overlap, chosen):
    """Put into ``height`` what s gives for the groups that any of the chosen sources is in; NaN where s is."""
    wanted = np.zeros(len(height), bool)
    wanted[chosen] = True
    known, entry = np.where(np.isfinite(s), s, 0), np.append(overlap, [0, 1])
    for index, entries in groups.small:
        rows = np.flatnonzero(wanted[index].any(axis=1))
        index = index[rows]
        height[index] = _solve_full(entry[entries[rows]], known[index])
    if wanted[groups.members].any():
        height[groups.members] = _solve_sparse(groups, known[groups.members], overlap[groups.pairs])
    height[~np.isfinite(s)] = np.nan


def _solve_full(matrix, s):
    """Solutions (g, k) of systems (g, k, k); of pairs, the most frequent, written out."""
    if s.shape[1] > 2:
        return np.linalg.solve(matrix, s[:, :, None])[:, :, 0]
    overlap = matrix[:, 0, 1]
    return (s - overlap[:, None] * s[:, ::-1]) / (1 - overlap**2)[:, None]


def _solve_sparse(groups, s, overlap):
    from scipy.sparse import coo_array, eye_array
    from scipy.sparse.linalg import spsolve

    both, n = (np.append(groups.i, groups.j), np.append(groups.j, groups.i)), len(s)
    matrix = coo_array((np.append(overlap, overlap), both), shape=(n, n)) + eye_array(n)
    return spsolve(matrix.tocsc(), s)


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
            covariance[chosen[part]] = _invert(fisher)[:, :3, :3]
    return index, covariance


def _invert(matrix):
    """Inverse of symmetric matrices (g, k, k), the pseudo-inverse of those that are nearly singular."""
    try:
        inverse = np.linalg.inv(matrix)
    except np.linalg.LinAlgError:
        return np.linalg.pinv(matrix, hermitian=True)
    size = np.abs(matrix).max(axis=(1, 2), initial=0) * np.abs(inverse).max(axis=(1, 2), initial=0)
    bad = np.flatnonzero(~(size < _SINGULAR))
    inverse[bad] = np.linalg.pinv(matrix[bad], hermitian=True)
    return inverse


def _fisher(y, x, height, template):
    """Fisher matrices (g, 3 n, 3 n) of (height, y, x) of each of n sources in g groups (g, n)."""
    dy, dx = (p[:, :, None] - p[:, None, :] for p in (y, x))
    row = y.mean(axis=1)[:, None, None]
    value, ay, ax, ayy, ayx, axx = templates.evaluate_derivatives(template, dy, dx, row)
    blocks = np.array([[value, -ay, -ax], [ay, -ayy, -ayx], [ax, -ayx, -axx]])
    scale = np.stack([np.ones(height.shape), height, height])
    matrix = blocks * scale[:, None, :, :, None] * scale[None, :, :, None, :]
    return matrix.transpose(2, 3, 0, 4, 1).reshape(len(y), 3 * y.shape[1], 3 * y.shape[1])


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


def _light_of_others(slopes, i, j, height):
    """First and second derivatives (5, n) at each source of the templates of those that overlap it.

    ``slopes`` are those of A (5, n_pairs) at the separation of the pairs i, j.
    """
    light, to = np.empty((5, len(height))), np.append(i, j)
    for total, derivative, order in zip(light, slopes, templates.ORDERS[1:], strict=True):
        weights = np.append(derivative * height[j], derivative * height[i] * (-1) ** sum(order))
        total[:] = np.bincount(to, weights, minlength=len(height))
    return light
