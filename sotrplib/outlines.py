"""Distances to the outline of an area: a curve of very many points that the positions may be far away from.

A k-d tree is fast for positions close to its points. The regions of its nodes reach from the outline far into the
area, and a position in there has to look at most of the points. Such positions are compared with straight pieces of
the outline first.
"""

from typing import NamedTuple

import numpy as np

_PIECE_PIX = 64
_NEAR_PIECES = 2.0  # positions nearer than this many times the widest piece are left to the tree
_BESIDE = 3  # points of a straight piece on either side of the foot that may be the nearest
_AT_ONCE = 2_000_000
_ROUNDING = 1e-12


class _Pieces(NamedTuple):
    """Points (m, 3) in the order of their pieces, and for each piece (k,) the first of its points and their number.

    A piece lies within ``radius`` of its point ``middle`` and within ``thickness`` of the line ``start`` to ``end``;
    the points of a ``straight`` one are evenly spaced along it.
    """

    points: np.ndarray
    first: np.ndarray
    count: np.ndarray
    middle: np.ndarray
    radius: np.ndarray
    start: np.ndarray
    end: np.ndarray
    thickness: np.ndarray
    straight: np.ndarray


def nearest(positions, points, pixels):
    """Straight distance of each position to the nearest of many points.

    Parameters
    ----------
    positions : array (n, 3)
        Unit vectors, as ``points``.
    points : array (m, 3)
        At least one.
    pixels : (row, column), arrays (m,) int
        Of the points, each once; pieces are what lies in one square of 64 x 64 pixels.

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
    place = np.stack(pixels)
    order = np.lexsort((*place[::-1], *(place[::-1] // _PIECE_PIX)))
    points, place = points[order], place[:, order]
    row, column = place // _PIECE_PIX
    first = np.flatnonzero(np.append(True, (np.diff(row) != 0) | (np.diff(column) != 0)))
    count = np.diff(np.append(first, len(points)))
    start, end, middle = points[first], points[first + count - 1], points[first + count // 2]
    off_middle = np.linalg.norm(points - np.repeat(middle, count, axis=0), axis=1)
    off_line, _ = _to_lines(points, *(np.repeat(corner, count, axis=0) for corner in (start, end)))
    extent = np.abs(place[:, first + count - 1] - place[:, first])
    straight = (extent.min(axis=0) == 0) & (extent.max(axis=0) == count - 1)
    radius, thickness = (np.maximum.reduceat(off, first) for off in (off_middle, off_line))
    return _Pieces(points, first, count, middle, radius, start, end, thickness, straight)


def _nearest_far(positions, pieces):
    from scipy.spatial.distance import cdist

    to_middle = cdist(positions, pieces.middle)
    enough = to_middle.min(axis=1, initial=np.inf) + _ROUNDING
    i, piece = np.nonzero(to_middle - pieces.radius <= enough[:, None])
    to_line, part = _to_lines(positions[i], pieces.start[piece], pieces.end[piece])
    close = to_line - pieces.thickness[piece] <= enough[i]
    i, piece, part = i[close], piece[close], part[close]
    first, count = _members(pieces, piece, part)
    member = np.arange(count.sum()) + np.repeat(first - np.cumsum(count) + count, count)
    offset = pieces.points[member]
    offset -= np.repeat(positions[i], count, axis=0)
    square = np.einsum("ij,ij->i", offset, offset)
    of_position = np.append(0, np.cumsum(count))[np.searchsorted(i, np.arange(len(positions)))]
    return np.sqrt(np.minimum.reduceat(square, of_position))


def _members(pieces, piece, part):
    """First and number of the points of a piece that can be the nearest: of a straight one those beside the foot."""
    first, count = pieces.first[piece], pieces.count[piece]
    foot = np.rint(part * (count - 1)).astype(int)
    low, high = np.maximum(foot - _BESIDE, 0), np.minimum(foot + _BESIDE + 1, count)
    straight = pieces.straight[piece]
    return np.where(straight, first + low, first), np.where(straight, high - low, count)


def _to_lines(positions, start, end):
    """Distance (n,) of positions (n, 3) to the lines from ``start`` to ``end`` (n, 3), and the foot on them, 0 to 1."""
    along, offset = end - start, positions - start
    length = np.einsum("ij,ij->i", along, along)
    part = np.divide(np.einsum("ij,ij->i", along, offset), length, out=np.zeros(len(length)), where=length > 0)
    np.clip(part, 0, 1, out=part)
    offset -= part[:, None] * along
    return np.sqrt(np.einsum("ij,ij->i", offset, offset)), part
