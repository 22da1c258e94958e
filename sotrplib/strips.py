"""Strips: rows of a map that is too large for memory, worked through one after the other.

A strip answers for its core rows and is read with a margin on both sides, so that what lies in the core has around
it all that its numbers depend on. As a map it is an ordinary one of fewer rows: all functions of maps take it. The
cores tile the map, and whatever lies at a row of the map belongs to the one strip whose core holds that row.
"""

from typing import NamedTuple

import numpy as np

from sotrplib import positions, store

_SAME_PIX = 1.0  # what two strips found no farther apart than this is one
_ROUNDING = 1e-6  # pixels
_SEAM_PIX = 2.0  # what lies no farther beyond the core may have been found in the core by the other strip


class Strip(NamedTuple):
    """Rows of a map: those it answers for, and those that are read for it."""

    core: slice
    rows: slice

    @property
    def margin_rows(self):
        """How many of the first and of the last rows read are not of the core."""
        return self.core.start - self.rows.start, self.rows.stop - self.core.stop


def plan(shape, strip_mpix, margin_rows, *, least_rows=1):
    """Cut a map into strips of nearly equal height.

    Parameters
    ----------
    shape : (ny, nx)
    strip_mpix : float
        Most million pixels of a strip, its margin included. The height of a core is a multiple of the chunks of our
        files where that is small against it, which adds up to half a chunk.
    margin_rows : int
        Rows read on both sides of a core, as far as the map goes. Cores are no lower than that.
    least_rows : float
        Nor are they lower than this, give or take half a chunk.

    Returns
    -------
    list of Strip
        From the first row on; one strip of all rows if the map has no more pixels than that.
    """
    ny, nx = shape
    high = max(int(strip_mpix * 1e6 // nx) - 2 * margin_rows, margin_rows, 1)
    whole = ny * nx <= strip_mpix * 1e6
    count = 1 if whole else max(1, min(-(-ny // high), int(ny // least_rows)))
    unit = store.CHUNK if ny // count >= 2 * store.CHUNK else 1
    edges = [int(np.rint(edge / unit)) * unit for edge in np.linspace(0, ny, count + 1)[:-1]] + [ny]
    cores = [slice(*ends) for ends in zip(edges[:-1], edges[1:], strict=True)]
    return [Strip(c, slice(max(c.start - margin_rows, 0), min(c.stop + margin_rows, ny))) for c in cores]


def owns(strip, y):
    """Whether rows ``y`` (n,) of the map are nearest to one of the core."""
    return (y >= strip.core.start - 0.5) & (y < strip.core.stop - 0.5)


def reaches(strip, y):
    """Whether rows ``y`` (n,) of the map are nearest to one that is read, and no rounding puts them beyond it."""
    return owns(strip, y) | ((y > strip.rows.start - 0.5 + _ROUNDING) & (y < strip.rows.stop - 0.5 - _ROUNDING))


def may_own(strip, y):
    """Whether what was found at rows ``y`` (n,) of the map may turn out to be in the core."""
    return (y >= strip.core.start - 0.5 - _SEAM_PIX) & (y < strip.core.stop - 0.5 + _SEAM_PIX)


def once(cut, number, y, x):
    """Of what the strips of a map found, each source once.

    Positions that two strips measure differ in the last digits, or by what lies beyond the margin of one of them.

    Parameters
    ----------
    cut : list of Strip
    number : array (n,) int
        Strip that found it, where it :func:`may_own` the place.
    y, x : array (n,)
        Rows and columns of the map.

    Returns
    -------
    array (n,) bool
        Of two findings of one place that which lies deeper in its core, or less far beyond it, and of all others those
        in their core.
    """
    low, high = (np.array([getattr(strip.core, end) for strip in cut])[number] - 0.5 for end in ("start", "stop"))
    depth = np.minimum(y - low, high - y)
    i, j = positions.close_pairs(y, x, _SAME_PIX).T
    apart = number[i] != number[j]
    i, j = i[apart], j[apart]
    twice = np.zeros(len(y), bool)
    twice[i] = twice[j] = True
    return positions.keep_highest(depth, i, j) & (twice | (y >= low) & (y < high))
