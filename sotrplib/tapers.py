"""Weights that fall smoothly to 0 towards edges and holes of what was observed."""

import numpy as np

from sotrplib import masks

_TAPER_CELLS = 8  # a taper is computed on cells of 1 / _TAPER_CELLS of its width


def taper(observed, width_pix, aspect=1.0):
    """Cosine taper over the observed pixels: 0 where unobserved and at the border of the array, 1 well inside.

    Parameters
    ----------
    observed : array (ny, nx) bool
    width_pix : float
        Distance from the edge, in rows, at which it reaches 1.
    aspect : float
        Width of a pixel over its height.

    Returns
    -------
    array (ny, nx) float32
        Good to about an eighth of the width.
    """
    cell = max(1, int(width_pix * min(1.0, 1 / aspect) / _TAPER_CELLS))
    weight = _distance_to_edge(_all_observed(observed, cell), width_pix / cell, aspect)
    weight *= np.float32(np.pi * cell / width_pix)
    np.cos(weight, out=weight)
    weight *= np.float32(-0.5)
    weight += np.float32(0.5)
    if cell == 1:
        return weight
    across = _refine(np.ascontiguousarray(weight.T), cell, observed.shape[1])
    weight = _refine(np.ascontiguousarray(across.T), cell, observed.shape[0])
    weight *= observed
    return weight


def apodisation(observed, step_arcmin, *, edge_arcmin=0.0, hole_arcmin=0.0):
    """Cosine taper over the observed pixels, of one width along the outer edge and another around holes.

    Parameters
    ----------
    observed : array (ny, nx) bool
    step_arcmin : (float, float)
        Physical size (dy, dx) of the pixels in the middle of the map.
    edge_arcmin, hole_arcmin : float
        Width of the taper along the border of the observed area, and around the holes inside; 0 for none.

    Returns
    -------
    array (ny, nx) float32 or None
        From 0 to 1, see :func:`taper`; None if both widths are 0.
    """
    if not (edge_arcmin > 0 or hole_arcmin > 0):
        return None
    holes, aspect = masks.find_holes(observed), step_arcmin[1] / step_arcmin[0]
    weight = observed.astype(np.float32)
    if edge_arcmin > 0:
        weight *= taper(observed | holes, edge_arcmin / step_arcmin[0], aspect)
    if hole_arcmin > 0:
        margin = [int(hole_arcmin / step) + 2 for step in step_arcmin]
        framed = np.pad(~holes, [(m, m) for m in margin], constant_values=True)
        inner = tuple(slice(m, -m) for m in margin)
        weight *= taper(framed, hole_arcmin / step_arcmin[0], aspect)[inner]
    return weight


def _distance_to_edge(observed, most, aspect):
    """Distance of each pixel to the nearest one unobserved or off the array, in rows, at most ``most``; float32.

    Along rows first, then over the rows in reach: for the few pixels of a taper that is less than what a general
    distance transform takes, and than the import of one.
    """
    column, n_columns = np.arange(observed.shape[1], dtype=np.int32), observed.shape[1]
    before = np.maximum.accumulate(np.where(observed, np.int32(-1), column), axis=1)
    after = np.minimum.accumulate(np.where(observed, np.int32(n_columns), column)[:, ::-1], axis=1)[:, ::-1]
    along = np.minimum(column - before, after - column).astype(np.float32) * np.float32(aspect)
    along = np.minimum(along, np.float32(most), out=along) ** 2
    row = np.arange(1, len(along) + 1, dtype=np.float32)
    squared = np.minimum(along, (np.minimum(row, row[::-1]) ** 2)[:, None])
    for step in range(1, int(np.ceil(most))):
        np.minimum(squared[step:], along[:-step] + np.float32(step**2), out=squared[step:])
        np.minimum(squared[:-step], along[step:] + np.float32(step**2), out=squared[:-step])
    return np.sqrt(squared, out=squared)


def _all_observed(observed, cell):
    """Cells of ``cell`` x ``cell`` pixels that are observed throughout."""
    if cell == 1:
        return observed
    pad = [(0, -n % cell) for n in observed.shape]
    padded = np.pad(observed, pad, mode="edge")
    rows = padded.reshape(-1, cell, padded.shape[1]).all(axis=1)  # whole rows first: they lie together in memory
    return rows.reshape(len(rows), -1, cell).all(axis=2)


def _refine(values, factor, n):
    """The first ``n`` of ``factor`` times as many rows, linear between the middles of the given ones."""
    before, after = (np.concatenate(parts) for parts in ((values[:1], values[:-1]), (values[1:], values[-1:])))
    before -= values
    after -= values
    fine = np.empty((len(values), factor, values.shape[1]), values.dtype)
    for phase in range(factor):
        share = np.float32((phase + 0.5) / factor - 0.5)
        np.multiply(before if share < 0 else after, abs(share), out=fine[:, phase])
        fine[:, phase] += values
    return fine.reshape(-1, values.shape[1])[:n]
