"""Distances to the outline of an area: a curve of very many points that the positions may be far away from.

A k-d tree is fast for positions close to its points. The regions of its nodes reach from the outline far into the
area, and a position in there has to look at most of the points. Such positions are compared with straight pieces of
the outline first.
"""

from typing import NamedTuple

import numpy as np

_PIECE_PIX = 64
_NEAR_PIECES = 2.0  # positions nearer than this many times the widest piece are left to the tree
_AT_ONCE = 2_000_000
_ROUNDING = 1e-12


class _Pieces(NamedTuple):
    """Points (m, 3) in the order of their pieces, and for each piece (k,) the first of its points and their number.

    A piece lies within ``radius`` of its point ``middle`` and within ``thickness`` of the line ``start`` to ``end``.
    """

    points: np.ndarray
    first: np.ndarray
    count: np.ndarray
    middle: np.ndarray
    radius: np.ndarray
    start: np.ndarray
    end: np.ndarray
    thickness: np.ndarray


def nearest(positions, points, pixels):
    """Straight distance of each position to the nearest of many points.

    Parameters
    ----------
    positions : array (n, 3)
        Unit vectors, as ``points``.
    points : array (m, 3)
        At least one.
    pixels : (row, column), arrays (m,) int
        Of the points; pieces are what lies in one square of 64 x 64 pixels.

    Returns
    -------
    array (n,)
    """
    from scipy.spatial import cKDTree

    pieces = _cut(points, pixels)
    reach = _NEAR_PIECES * pieces.radius.max() + _ROUNDING
    distance = cKDTree(points).query(positions, distance_upper_bound=reach)[0]
    far = np.flatnonzero(~np.isfinite(distance))
    for part in np.array_split(far, len(far) * len(pieces.count) // _AT_ONCE + 1):
        distance[part] = _nearest_far(positions[part], pieces)
    return distance


def _cut(points, pixels):
    row, column = (np.asarray(p) // _PIECE_PIX for p in pixels)
    order = np.lexsort((column, row))
    points, row, column = points[order], row[order], column[order]
    first = np.flatnonzero(np.append(True, (np.diff(row) != 0) | (np.diff(column) != 0)))
    count = np.diff(np.append(first, len(points)))
    start, end, middle = points[first], points[first + count - 1], points[first + count // 2]
    off_middle = np.linalg.norm(points - np.repeat(middle, count, axis=0), axis=1)
    off_line = _to_lines(points, *(np.repeat(corner, count, axis=0) for corner in (start, end)))
    radius, thickness = (np.maximum.reduceat(off, first) for off in (off_middle, off_line))
    return _Pieces(points, first, count, middle, radius, start, end, thickness)


def _nearest_far(positions, pieces):
    from scipy.spatial.distance import cdist

    to_middle = cdist(positions, pieces.middle)
    enough = to_middle.min(axis=1, initial=np.inf) + _ROUNDING
    i, piece = np.nonzero(to_middle - pieces.radius <= enough[:, None])
    lowest = _to_lines(positions[i], pieces.start[piece], pieces.end[piece]) - pieces.thickness[piece]
    close = lowest <= enough[i]
    i, piece = i[close], piece[close]
    count = pieces.count[piece]
    member = np.arange(count.sum()) + np.repeat(pieces.first[piece] - np.cumsum(count) + count, count)
    offset = pieces.points[member]
    offset -= np.repeat(positions[i], count, axis=0)
    square = np.einsum("ij,ij->i", offset, offset)
    of_position = np.append(0, np.cumsum(count))[np.searchsorted(i, np.arange(len(positions)))]
    return np.sqrt(np.minimum.reduceat(square, of_position))


def _to_lines(positions, start, end):
    """Distance (n,) of positions (n, 3) to the straight lines from ``start`` to ``end`` (n, 3)."""
    along, offset = end - start, positions - start
    length = np.einsum("ij,ij->i", along, along)
    part = np.divide(np.einsum("ij,ij->i", along, offset), length, out=np.zeros(len(length)), where=length > 0)
    offset -= np.clip(part, 0, 1)[:, None] * along
    return np.sqrt(np.einsum("ij,ij->i", offset, offset))
