"""Matching of positions on the sky: pairs, nearest neighbours and groups, by k-d trees of unit vectors.

Right at any declination and over the RA wrap; positions that are NaN match nothing. Knows no tables.
"""

import numpy as np

from sotrplib.geometry import separation_arcsec, unit_vectors
from sotrplib.units import ARCSEC


def match(ra1_deg, dec1_deg, ra2_deg, dec2_deg, radius_arcsec):
    """All pairs of two lists closer than a radius.

    Parameters
    ----------
    ra1_deg, dec1_deg : array (n1,)
    ra2_deg, dec2_deg : array (n2,)
    radius_arcsec : float or array (n1,)
        Largest separation; one for all or one for each position of the first list.

    Returns
    -------
    i, j : array (n,) int
        Indices into the first and second list, ordered by i, then by separation.
    separation_arcsec : array (n,)
    """
    ra1, dec1, ra2, dec2 = (np.atleast_1d(np.asarray(a, float)) for a in (ra1_deg, dec1_deg, ra2_deg, dec2_deg))
    radius = np.broadcast_to(np.asarray(radius_arcsec, float), ra1.shape)
    first, second = _finite(ra1, dec1), _finite(ra2, dec2)
    first = first[radius[first] >= 0]
    if not len(first) or not len(second):
        return np.zeros(0, int), np.zeros(0, int), np.zeros(0)
    tree = _tree(unit_vectors(ra2[second], dec2[second]))
    found = tree.query_ball_point(unit_vectors(ra1[first], dec1[first]), _chord(radius[first]))
    i = np.repeat(first, [len(indices) for indices in found])
    j = second[np.concatenate(found).astype(int)]
    separation = separation_arcsec(ra1[i], dec1[i], ra2[j], dec2[j])
    order = np.lexsort((j, separation, i))
    order = order[separation[order] <= radius[i[order]]]
    return i[order], j[order], separation[order]


def close_pairs(ra_deg, dec_deg, radius_arcsec):
    """All pairs of one list closer than a radius.

    Parameters
    ----------
    ra_deg, dec_deg : array (n,)
    radius_arcsec : float or array (n,)
        Largest separation; of a pair the larger counts.

    Returns
    -------
    i, j : array (n_pairs,) int
        Each pair once, i < j.
    """
    ra, dec = (np.atleast_1d(np.asarray(a, float)) for a in (ra_deg, dec_deg))
    radius, chosen = np.broadcast_to(np.asarray(radius_arcsec, float), ra.shape), _finite(ra, dec)
    if len(chosen) < 2:
        return np.zeros(0, int), np.zeros(0, int)
    tree = _tree(unit_vectors(ra[chosen], dec[chosen]))
    i, j = chosen[tree.query_pairs(_chord(radius[chosen].max()), output_type="ndarray")].T
    close = separation_arcsec(ra[i], dec[i], ra[j], dec[j]) <= np.maximum(radius[i], radius[j])
    return i[close], j[close]


def nearest(ra1_deg, dec1_deg, ra2_deg, dec2_deg, radius_arcsec=np.inf):
    """Nearest position of the second list for each of the first.

    Returns
    -------
    j : array (n1,) int
        Index into the second list; -1 if none is within ``radius_arcsec`` (a number or one each).
    separation_arcsec : array (n1,)
        NaN if none is.
    """
    ra1, dec1, ra2, dec2 = (np.atleast_1d(np.asarray(a, float)) for a in (ra1_deg, dec1_deg, ra2_deg, dec2_deg))
    j, separation = np.full(len(ra1), -1), np.full(len(ra1), np.nan)
    first, second = _finite(ra1, dec1), _finite(ra2, dec2)
    if len(first) and len(second):
        tree = _tree(unit_vectors(ra2[second], dec2[second]))
        j[first] = second[tree.query(unit_vectors(ra1[first], dec1[first]))[1]]
        separation[first] = separation_arcsec(ra1[first], dec1[first], ra2[j[first]], dec2[j[first]])
    far = ~(separation <= radius_arcsec)
    return np.where(far, -1, j), np.where(far, np.nan, separation)


def count(ra1_deg, dec1_deg, ra2_deg, dec2_deg, radius_arcsec):
    """How many positions of the second list lie within a radius of each of the first: int array (n1,)."""
    ra1, dec1, ra2, dec2 = (np.atleast_1d(np.asarray(a, float)) for a in (ra1_deg, dec1_deg, ra2_deg, dec2_deg))
    number = np.zeros(len(ra1), int)
    first, second = _finite(ra1, dec1), _finite(ra2, dec2)
    if len(first) and len(second):
        tree, points = _tree(unit_vectors(ra2[second], dec2[second])), unit_vectors(ra1[first], dec1[first])
        number[first] = tree.query_ball_point(points, _chord(radius_arcsec), return_length=True)
    return number


def groups(ra_deg, dec_deg, radius_arcsec):
    """Friends of friends: positions joined by steps of at most ``radius_arcsec`` share a label.

    Returns
    -------
    array (n,) int
        Labels 0, 1, ... in the order in which groups first appear. A position that is NaN is a group of its own.
    """
    i, j, _ = match(ra_deg, dec_deg, ra_deg, dec_deg, radius_arcsec)
    return connected(np.size(ra_deg), i, j)


def connected(n, i, j):
    """Labels (n,) of the connected components of n nodes joined by pairs (i, j), in order of first appearance."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(i), bool), (i, j)), shape=(n, n))
    labels = connected_components(graph, directed=False)[1]
    first = np.unique(labels, return_index=True)[1]
    rank = np.empty(len(first), int)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[labels]


def _tree(points):
    from scipy.spatial import cKDTree

    return cKDTree(points)


def _finite(ra, dec):
    return np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))


def _chord(radius_arcsec):
    """Straight distance of unit vectors that far apart, a little more so that rounding loses no pair."""
    return 2 * np.sin(np.minimum(radius_arcsec * ARCSEC, np.pi) / 2) * (1 + 1e-9) + 1e-15
