"""Distances to the outline of an area: a curve of very many points that the positions may be far away from.

A k-d tree is fast for positions close to its points. The regions of its nodes reach from the outline far into the
area, and a position in there has to look at most of the points. Here the outline is cut into pieces of pieces: what
lies in one square of pixels. A piece that is straight lies beside one line, which tells it from others that are farther
away, and its nearest point is found from three of them; other pieces are looked at in smaller squares.
"""

from typing import NamedTuple

import numpy as np

_SQUARES_BITS = (9, 5, 0)  # sides of the squares, as powers of two; the last are single points
_STRAIGHT = 0.1  # thickness over radius of pieces on which the distance is a parabola to a pixel
_BESIDE = 2  # points on either side of its vertex that may be the nearest
_AT_ONCE = 250_000
_ROUNDING = 1e-7  # of distances between unit vectors by their product


class _Pieces(NamedTuple):
    """Pieces of an outline (k,): the first of its points, their number, and the first of its own pieces one level down.

    A piece lies within ``radius`` of its point ``middle`` (k, 3) and within ``thickness`` of the line ``start`` to
    ``end``; the points of a ``straight`` one follow each other along it.
    """

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
        Of the points, each once.

    Returns
    -------
    array (n,)
    """
    place = np.stack(pixels)
    place = place - place.min(axis=1, keepdims=True)
    order = np.argsort(_nested_key(*place))
    points, place = points.take(order, axis=0), place.take(order, axis=1)
    levels = [_cut(points, place, bits) for bits in _SQUARES_BITS]
    distance = np.empty(len(positions))
    for part in np.array_split(np.arange(len(positions)), len(positions) * len(levels[0].count) // _AT_ONCE + 1):
        distance[part] = _nearest(positions[part], points, levels)
    return distance


def _nested_key(row, column):
    """Numbers that order pixels by the largest square they are in, in there by the next smaller one, and so on."""
    key, above = np.zeros(len(row), np.int64), max(int(max(row.max(), column.max())).bit_length(), 1)
    for bits in _SQUARES_BITS:
        width = max(above - bits, 0)
        for place in (row, column):
            key = key << width | place >> bits & (1 << width) - 1
        above = min(above, bits)
    return key


def _cut(points, place, bits):
    """Pieces of points in the order of :func:`_nested_key`, for squares of 2**bits pixels."""
    row, column = place >> bits
    first = np.flatnonzero(np.append(True, (np.diff(row) != 0) | (np.diff(column) != 0)))
    count = np.diff(np.append(first, len(points)))
    start, end, middle = (points.take(index, axis=0) for index in (first, first + count - 1, first + count // 2))
    if not bits:
        return _Pieces(first, count, middle, np.zeros(len(first)), start, end, *np.zeros((2, len(first))))
    off_middle = _norm(points - np.repeat(middle, count, axis=0))
    off_line = _to_lines(points, *(np.repeat(corner, count, axis=0) for corner in (start, end)))
    radius, thickness = (np.maximum.reduceat(off, first) for off in (off_middle, off_line))
    extent = np.maximum.reduceat(place, first, axis=1) - np.minimum.reduceat(place, first, axis=1)
    straight = (extent.min(axis=0) == 0) & (extent.max(axis=0) == count - 1) & (thickness <= _STRAIGHT * radius)
    return _Pieces(first, count, middle, radius, start, end, thickness, straight)


def _nearest(positions, points, levels):
    """:func:`nearest` from the pieces of all levels."""
    to_middle = np.sqrt(np.maximum(2 - 2 * positions @ levels[0].middle.T, 0))
    enough = to_middle.min(axis=1) + _ROUNDING
    near = np.flatnonzero(to_middle - (enough + _ROUNDING)[:, None] <= levels[0].radius)
    i, piece = np.divmod(near, to_middle.shape[1])
    for pieces, below in zip(levels[:-1], levels[1:], strict=True):
        near = _to_lines(positions.take(i, axis=0), *(ends.take(piece, axis=0) for ends in (pieces.start, pieces.end)))
        near = near - pieces.thickness[piece] <= enough[i] + _ROUNDING
        i, piece = i[near], piece[near]
        straight = pieces.straight[piece]
        to_straight = _to_straight(positions.take(i[straight], axis=0), points, pieces, piece[straight])
        np.minimum.at(enough, i[straight], to_straight)
        if straight.all():
            break
        i, piece = _descend(i[~straight], piece[~straight], pieces, below)
        to_middle = _norm(positions.take(i, axis=0) - below.middle.take(piece, axis=0))
        np.minimum.at(enough, i, to_middle)
        near = to_middle - below.radius[piece] <= enough[i] + _ROUNDING
        i, piece = i[near], piece[near]
    return enough


def _descend(i, piece, pieces, below):
    """Pairs of a position and a piece for pairs of it and each piece one level ``below``."""
    ends = np.searchsorted(below.first, np.append(pieces.first, pieces.first[-1] + pieces.count[-1]))
    first, count = ends[piece], np.diff(ends)[piece]
    return np.repeat(i, count), np.arange(count.sum()) + np.repeat(first - np.cumsum(count) + count, count)


def _to_straight(positions, points, pieces, piece):
    """Distance (n,) of each position to the nearest point of a straight piece."""
    first, last = pieces.first[piece], pieces.count[piece] - 1
    middle = (last + 1) // 2
    at_start, at_middle, at_end = (
        -_dot(positions, corner.take(piece, axis=0)) for corner in (pieces.start, pieces.middle, pieces.end)
    )
    slope = (at_middle - at_start) / np.maximum(middle, 1)
    bend = ((at_end - at_middle) / np.maximum(last - middle, 1) - slope) / np.maximum(last, 1)
    vertex = np.divide(-slope, 2 * bend, out=np.where(at_start <= at_end, -np.inf, np.inf), where=bend > 0) + middle / 2
    low = np.clip(np.rint(np.clip(vertex, 0, last)).astype(int) - _BESIDE, 0, np.maximum(last - 2 * _BESIDE, 0))
    members = (first + np.minimum(low + step, last) for step in range(2 * _BESIDE + 1))
    return np.min([_norm(positions - points.take(index, axis=0)) for index in members], axis=0)


def _to_lines(positions, start, end):
    """Distance (n,) of positions (n, 3) to the lines from ``start`` to ``end`` (n, 3)."""
    along, offset = end - start, positions - start
    length = _dot(along, along)
    part = np.divide(_dot(along, offset), length, out=np.zeros(len(length)), where=length > 0)
    np.clip(part, 0, 1, out=part)
    offset -= part[:, None] * along
    return _norm(offset)


def _norm(vectors):
    return np.sqrt(_dot(vectors, vectors))


def _dot(a, b):
    """Products (n,) of vectors (n, 3), written out: einsum takes three times as long."""
    return a[:, 0] * b[:, 0] + a[:, 1] * b[:, 1] + a[:, 2] * b[:, 2]
