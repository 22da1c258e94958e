"""Matching of positions on the sky: pairs, nearest neighbours and groups.

Pairs are looked for in bands of declination, which takes a third of the time of a k-d tree; nearest neighbours at any
distance by a tree of unit vectors. Right at any declination and over the RA wrap; positions that are NaN match nothing.
Knows no tables.
"""

import numpy as np

from sotrplib.geometry import separation_arcsec, unit_vectors
from sotrplib.units import ARCSEC, DEG

_BAND_MIN_DEG = 1e-3
_TURN = 1080.0  # a band's share of the keys: its RA, and copies of it a turn before and after
_SLACK_DEG = 1e-6  # more than the rounding of keys
_FAR_DEG = 0.1  # nearest neighbours farther away than this are left to the tree


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
    i, j = _near((ra1[first], dec1[first]), (ra2[second], dec2[second]), radius[first])
    i, j = first[i], second[j]
    separation = separation_arcsec(ra1[i], dec1[i], ra2[j], dec2[j])
    close = separation <= radius[i]
    i, j, separation = i[close], j[close], separation[close]
    order = np.lexsort((j, separation, i))
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
    place = ra[chosen], dec[chosen]
    low, high = np.sort(_near(place, place, np.full(len(chosen), radius[chosen].max()), bands=(0, 1)), axis=0)
    pairs = np.unique((low * len(chosen) + high)[low < high])
    i, j = (chosen[part] for part in np.divmod(pairs, len(chosen)))
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
    if np.all(np.asarray(radius_arcsec) <= 3600 * _FAR_DEG):
        i, near, distance = match(ra1, dec1, ra2, dec2, radius_arcsec)
        closest = np.flatnonzero(np.diff(i, prepend=-1))
        j[i[closest]], separation[i[closest]] = near[closest], distance[closest]
        return j, separation
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
    first, before = np.arange(n), None
    while not np.array_equal(first, before):
        before, lowest = first, np.minimum(first[i], first[j])
        first = first.copy()
        for node in (before[i], before[j]):
            np.minimum.at(first, node, lowest)
        while not np.array_equal(first, first := first[first]):
            pass
    return np.cumsum(first == np.arange(n))[first] - 1 if n else first


def _near(first, second, radius_arcsec, *, bands=(-1, 0, 1)):
    """Pairs i, j of positions (ra, dec) of two lists: all within the radius (n1,) of the first, and some more.

    Of one list with itself the ``bands`` 0 and 1 give each pair of different bands once.
    """
    (ra1, dec1), (ra2, dec2) = ((np.mod(ra, 360), dec) for ra, dec in (first, second))
    height = max(radius_arcsec.max() / 3600, _BAND_MIN_DEG)
    reach = _reach_deg(dec1, radius_arcsec / 3600)
    after, before = np.flatnonzero(ra2 < reach.max()), np.flatnonzero(ra2 >= 360 - reach.max())
    source = np.concatenate([np.arange(len(ra2)), after, before])
    turn = np.repeat([0.0, 360.0, -360.0], [len(ra2), len(after), len(before)])
    key = np.floor(dec2[source] / height) * _TURN + ra2[source] + turn
    order = np.argsort(key)
    source, key = source[order], key[order]
    band = np.floor(dec1 / height) * _TURN + ra1
    by_key, pairs = np.argsort(band), []
    for step in bands:
        low, high = (np.searchsorted(key, (band + step * _TURN + side * reach)[by_key]) for side in (-1, 1))
        i = np.repeat(by_key, high - low)
        pairs.append((i, source[np.arange(len(i)) + np.repeat(high - np.cumsum(high - low), high - low)]))
    i, j = (np.concatenate(part) for part in zip(*pairs, strict=True))
    return (i, j) if reach.max() < 180 else np.divmod(np.unique(i * len(ra2) + j), len(ra2))


def _reach_deg(dec, radius):
    """Difference in RA that positions within a radius of a declination have at most, 180 where a pole is among them."""
    around_pole = np.abs(dec) + radius + _SLACK_DEG >= 90
    sine = np.sin(radius * DEG) / np.where(around_pole, 1, np.cos(dec * DEG))
    return np.where(around_pole, 180, np.arcsin(np.minimum(sine, 1)) / DEG) + _SLACK_DEG


def _tree(points):
    from scipy.spatial import cKDTree

    return cKDTree(points)


def _finite(ra, dec):
    return np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))


def _chord(radius_arcsec):
    """Straight distance of unit vectors that far apart, a little more so that rounding loses no pair."""
    return 2 * np.sin(np.minimum(radius_arcsec * ARCSEC, np.pi) / 2) * (1 + 1e-9) + 1e-15
