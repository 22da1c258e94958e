"""Fluxes of sources that overlap in a filtered map.

Read at the positions of the sources, s = rho/sqrt(kappa) is K a + noise of covariance K, with
K_ij = A(x_i - x_j) and a = F sqrt(kappa). Hence a = K^-1 s with covariance K^-1. Groups of sources that
overlap are solved exactly; what the far wings of one group add to another is taken off by iteration.
"""

from typing import NamedTuple

import numpy as np

from sotrplib import crossmatch, positions
from sotrplib import template as templates

MERGE_OVERLAP = 0.98  # sources that overlap more than this (0.15 FWHM) cannot be told apart
_WING = 0.02  # significance at another source above which a wing is taken off
_BRIGHT = 20.0  # significance above which wings are followed to the end of the template
_FAR = 0.1  # of the blend limit: wings of any source are followed to here
_CROWD = (
    10  # sources in a group above which no wing is dropped: many small ones add up, and s hides what they come from
)
_EIGENVALUE_MIN = 1e-3
_DENSE_MAX = 300
_NEAR = 0.01  # overlap of the neighbours that variances in larger groups are made from
_N_ITERATIONS = 20
_TOLERANCE = 1e-4


class Blends(NamedTuple):
    """Result of :func:`solve_blends`, arrays of shape (n,).

    ``flux`` and ``flux_err`` are in mJy, ``n_blend`` counts the sources solved together, the source included (0
    where there are no data), ``merged`` tells the sources that share one solution, ``wings`` is the largest
    significance that any one source more than ten times as bright adds at this position.
    """

    flux: np.ndarray
    flux_err: np.ndarray
    n_blend: np.ndarray
    merged: np.ndarray
    wings: np.ndarray


class _System(NamedTuple):
    """Equations K a = s of m unknowns: pairs i < j and their entry in K, the diagonal (m,), and groups' labels (m,)."""

    i: np.ndarray
    j: np.ndarray
    value: np.ndarray
    diagonal: np.ndarray
    labels: np.ndarray


def solve_blends(y, x, rho, kappa, template, *, blend_limit=0.01, shares=None):
    """Solve the fluxes of sources at given positions, jointly where they overlap.

    Parameters
    ----------
    y, x : array (n,)
        Positions in pixels.
    rho, kappa : array (n,)
        Read at the positions, rho = s sqrt(kappa) (see :func:`reading.read_at`). NaN where there are no data.
    template : template.Template
    blend_limit : float, default 0.01
        Sources whose templates overlap by more than this are solved together.
    shares : array (n,), optional
        How sources too close to be told apart share their flux, for example their catalogue fluxes; default
        equally.

    Returns
    -------
    Blends
        Flux and error NaN where rho or kappa is NaN. Sources closer than A = 0.98 (about 0.15 FWHM) are solved as
        one: they share its flux, and each has the error of the whole.
    """
    y, x, rho, kappa = (np.asarray(values, float) for values in (y, x, rho, kappa))
    result = Blends(*np.full((2, len(y)), np.nan), np.zeros(len(y), "i4"), np.zeros(len(y), bool), np.zeros(len(y)))
    good = np.flatnonzero(np.isfinite(rho) & (kappa > 0))
    if not good.size:
        return result
    root = np.sqrt(kappa[good])
    shares = np.ones(len(y)) if shares is None else np.asarray(shares, float)
    height, variance, *rest = _solve(y[good], x[good], rho[good] / root, template, (blend_limit, shares[good]))
    for whole, part in zip(result, (height / root, np.sqrt(variance) / root, *rest), strict=True):
        whole[good] = part
    return result


def _solve(y, x, s, template, options):
    """Height, variance, n_blend, merged and wings of sources that all have data."""
    limit, shares = options
    i, j, overlap = _overlaps(y, x, s, template, limit)
    owner, share = _merge(i, j, overlap, shares)
    merged = np.bincount(owner)[owner] > 1
    system = _system(i, j, overlap, owner, share, limit)
    height, variance = _solve_system(system, np.bincount(owner, share * s))
    height, labels = share * height[owner], system.labels[owner]
    return height, variance[owner], np.bincount(labels)[labels], merged, _wings(i, j, overlap, height)


def _system(i, j, overlap, owner, share, limit):
    """:class:`_System` of the owners, of which each source has a share."""
    m, entry = owner.max() + 1, overlap * share[i] * share[j]
    one, other = np.sort(owner[np.stack([i, j])], axis=0)
    within = one == other
    diagonal = np.bincount(owner, share**2) + np.bincount(one[within], 2 * entry[within], minlength=m)
    code, place = np.unique(one[~within] * m + other[~within], return_inverse=True)
    value, pair = np.bincount(place, entry[~within], minlength=len(code)), np.divmod(code, m)
    strong = np.abs(value) > limit
    return _System(*pair, value, diagonal, crossmatch.connected(m, pair[0][strong], pair[1][strong]))


def _overlaps(y, x, s, template, limit):
    """Pairs i, j of sources and A between them, where it is above the limit or adds more than ``_WING``.

    All pairs of sources in crowds: there a source of 20 sigma can stand where s = 0, in the wings of the others.
    """
    reach, far = positions.reach_pix(template, _FAR * limit), np.sqrt(2) * (templates.half_size(template) + 1)
    pairs = positions.close_pairs(y, x, max(reach, far))
    overlap, near = _overlap(y, x, pairs, template), _separations(y, x, pairs) <= reach
    crowded = _in_crowds(pairs[near], overlap[near], limit, len(s))
    followed = (np.abs(s) > _BRIGHT) | crowded
    i, j = pairs.T
    counts = near | followed[i] | followed[j]
    i, j, overlap = i[counts], j[counts], overlap[counts]
    strongest = np.maximum(np.abs(s[i]), np.abs(s[j]))
    keep = (np.abs(overlap) > limit) | (np.abs(overlap) * strongest > _WING) | crowded[i] | crowded[j]
    return i[keep], j[keep], overlap[keep]


def _overlap(y, x, pairs, template):
    """A between the sources of pairs (n_pairs, 2)."""
    i, j = pairs.T
    return templates.evaluate_pixels(template, y[j] - y[i], x[j] - x[i], (y[i] + y[j]) / 2)


def _separations(y, x, pairs):
    i, j = pairs.T
    return np.hypot(y[i] - y[j], x[i] - x[j])


def _in_crowds(pairs, overlap, limit, n):
    """Whether each of n sources is in a group of more than ``_CROWD``, array (n,) bool."""
    labels = crossmatch.connected(n, *pairs[np.abs(overlap) > limit].T)
    return (np.bincount(labels) > _CROWD)[labels]


def _merge(i, j, overlap, shares):
    """Owner of each source among the unknowns, (n,), and the share it has in its owner, (n,)."""
    close = overlap > MERGE_OVERLAP
    owner = crossmatch.connected(len(shares), i[close], j[close])
    shares = np.where(np.isfinite(shares) & (shares > 0), shares, 0)
    total, count = np.bincount(owner, shares)[owner], np.bincount(owner)[owner]
    return owner, np.divide(shares, total, out=1 / count, where=total > 0)


def _solve_system(system, s):
    """Unknowns and their variances: groups exactly, what is between them by iteration."""
    groups = _groups(system)
    variance = np.empty(len(s))
    for group in groups:
        variance[group.index] = group.variance
    height = _apply(groups, s)
    between = system.labels[system.i] != system.labels[system.j]
    i, j, value = system.i[between], system.j[between], system.value[between]
    for _ in range(_N_ITERATIONS if len(i) else 0):
        light = np.bincount(i, value * height[j], len(s)) + np.bincount(j, value * height[i], len(s))
        previous, height = height, _apply(groups, s - light)
        if np.max(np.abs(height - previous)) < _TOLERANCE:
            break
    return height, variance


class _Group(NamedTuple):
    """Groups of one size k: members (g, k), variances (g, k) and a function from s (g, k) to their heights."""

    index: np.ndarray
    variance: np.ndarray
    solve: object


def _apply(groups, s):
    height = np.empty(len(s))
    for group in groups:
        height[group.index] = group.solve(s[group.index])
    return height


def _groups(system):
    """All groups of the system, those of one size together."""
    labels = system.labels
    sizes, order = np.bincount(labels), np.argsort(labels, kind="stable")
    start, place = np.cumsum(sizes) - sizes, np.empty(len(labels), int)
    place[order] = np.arange(len(labels)) - np.repeat(start, sizes)
    inside, groups = np.where(labels[system.i] == labels[system.j], sizes[labels[system.i]], 0), []
    for size in np.unique(sizes):
        chosen, here = np.flatnonzero(sizes == size), inside == size
        index = order[start[chosen][:, None] + np.arange(size)]
        group, value = labels[system.i[here]], system.value[here]
        i, j = place[system.i[here]], place[system.j[here]]
        if size > _DENSE_MAX:
            parts = ((members, group == label) for members, label in zip(index, chosen, strict=True))
            groups += [_sparse_group(m, system.diagonal[m], i[part], j[part], value[part]) for m, part in parts]
            continue
        blocks = system.diagonal[index][:, :, None] * np.eye(size)
        rank = np.searchsorted(chosen, group)
        blocks[rank, i, j] = blocks[rank, j, i] = value
        groups.append(_dense_group(index, blocks))
    return groups


def _dense_group(index, blocks):
    inverse = 1 / blocks if blocks.shape[1] == 1 else _invert(blocks)
    variance = np.diagonal(inverse, axis1=1, axis2=2)
    return _Group(index, variance, lambda s: np.einsum("gij,gj->gi", inverse, s))


def _invert(blocks):
    """Inverse of covariances (..., k, k), bounded where they are nearly singular."""
    values, vectors = np.linalg.eigh(blocks)
    return (vectors / np.maximum(values, _EIGENVALUE_MIN)[..., None, :]) @ np.swapaxes(vectors, -1, -2)


def _sparse_group(members, diagonal, i, j, value):
    """A group too large for a dense inverse; variances are those of each source solved with its neighbours.

    Its members (k,), and of its matrix the diagonal (k,) and the entries that are not 0 above it.
    """
    from scipy.sparse import coo_array, diags_array, eye_array
    from scipy.sparse.linalg import splu

    half = coo_array((value, (i, j)), shape=(len(members),) * 2)
    block = (half + half.T + diags_array(diagonal)).tocsr()
    factors = splu((block + _EIGENVALUE_MIN**2 * eye_array(block.shape[0])).tocsc())
    return _Group(members[None], _local_variance(block)[None], lambda s: factors.solve(s[0])[None])


def _local_variance(matrix):
    """Diagonal of the inverse of a sparse matrix, from the rows and columns that overlap each unknown."""
    variance = np.empty(matrix.shape[0])
    near = (abs(matrix) > _NEAR).tocsr()
    counts = np.diff(near.indptr)
    for count in np.unique(counts):
        chosen = np.flatnonzero(counts == count)
        members = near.indices[near.indptr[chosen][:, None] + np.arange(count)]
        rows, columns = np.broadcast_arrays(members[:, :, None], members[:, None, :])
        blocks = np.asarray(matrix[rows.ravel(), columns.ravel()]).reshape(rows.shape)
        variance[chosen] = np.diagonal(_invert(blocks), axis1=1, axis2=2)[members == chosen[:, None]]
    return variance


def _wings(i, j, overlap, height):
    """Largest significance that a source more than ten times as bright adds at each position."""
    wings = np.zeros(len(height))
    for source, other in ((i, j), (j, i)):
        brighter = np.abs(height[other]) > 10 * np.maximum(np.abs(height[source]), 1)
        np.maximum.at(wings, source[brighter], np.abs(overlap * height[other])[brighter])
    return wings
