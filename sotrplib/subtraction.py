"""Models of point sources on a map, to be taken away from it."""

import numpy as np

from sotrplib import reading
from sotrplib import template as templates

_BLOCK_PIXELS = 1 << 21
_HALF_STEP = 8
_BLOCK_ROWS = 64  # few enough to stay in the cache


def paint(shape, y, x, amplitude, template, *, tolerance=0.0, filtered=True):
    """Sum of copies of the template on a map.

    Parameters
    ----------
    shape : (ny, nx)
    y, x : array (n,)
        Positions in pixels; they may lie off the map.
    amplitude : array (n,)
        Peak of each copy. Sources whose amplitude or position is not finite are left out.
    template : template.Template
    tolerance : float
        A copy ends where it stays below this, in units of ``amplitude``; default at the template's edge.
    filtered : bool, default True
        Whether the template is that of a filtered map; False if it is the beam itself.

    Returns
    -------
    array (ny, nx) float32
    """
    model = np.zeros(shape, "f4")
    paint_onto(model, y, x, amplitude, template, tolerance=tolerance, filtered=filtered)
    return model


def paint_onto(image, y, x, amplitude, template, *, tolerance=0.0, filtered=True):
    """Add copies of the template to ``image`` (ny, nx) float32 itself; the others as for :func:`paint`."""
    y, x, amplitude = (np.asarray(values, float) for values in (y, x, amplitude))
    half = extents(template, amplitude, tolerance)
    with np.errstate(invalid="ignore"):
        near = [(p > -0.5 - half) & (p < n - 0.5 + half) for p, n in zip((y, x), image.shape, strict=True)]
    painted = near[0] & near[1] & np.isfinite(amplitude) & (amplitude != 0)
    for size in np.unique(half[painted]):
        index = np.flatnonzero(painted & (half == size))
        for part in np.array_split(index, -(-len(index) * (2 * size + 1) ** 2 // _BLOCK_PIXELS)):
            _add_patches(image, y[part], x[part], amplitude[part], template, (int(size), filtered))


def extents(template, amplitude, tolerance):
    """Half size in pixels of the square in which each copy of that amplitude is painted, (n,)."""
    full = templates.half_size(template) + 1
    with np.errstate(invalid="ignore"):
        wanted = np.count_nonzero(np.abs(amplitude)[:, None] * templates.envelope(template) > tolerance, axis=1)
    return np.clip(-(-wanted // _HALF_STEP) * _HALF_STEP, 1, full)


def _add_patches(image, y, x, amplitude, template, patch):
    (half, filtered), (ny, nx) = patch, image.shape
    row, column = np.rint(y).astype(int), np.rint(x).astype(int)
    stamps = templates.patches(template, y - row, x - column, y, half, filtered=filtered, amplitude=amplitude)
    size = 2 * half + 1
    for stamp, i, j in zip(stamps, (row - half).tolist(), (column - half).tolist(), strict=True):
        if i < 0 or j < 0 or i + size > ny or j + size > nx:
            stamp = stamp[max(-i, 0) : ny - i, max(-j, 0) : nx - j]
        target = image[max(i, 0) : i + size, max(j, 0) : j + size]
        target += stamp


def model_rho(shape, y, x, flux, kappa, template, *, tolerance=0.01):
    """rho of point sources: F sqrt(kappa(x) kappa_i) A(x - x_i).

    Parameters
    ----------
    shape : (ny, nx)
    y, x : array (n,)
        Positions in pixels.
    flux : array (n,)
        In mJy; sources with NaN are left out.
    kappa : array (ny, nx)
        In mJy^-2; 0 where unobserved, where the model is 0 too.
    template : template.Template
    tolerance : float, default 0.01
        A source ends where its model stays below this significance.

    Returns
    -------
    array (ny, nx) float32
        In mJy^-1.

    Notes
    -----
    kappa_i is that of :func:`reading.read_at`. A source that is not on an observed pixel is left out.
    """
    depth = np.sqrt(reading.read_kappa(kappa, y, x))
    model = paint(shape, y, x, np.asarray(flux, float) * depth, template, tolerance=tolerance)
    for start in range(0, len(model), _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        model[rows] *= np.sqrt(np.maximum(kappa[rows], 0))
    return model


def subtract_sources(rho, kappa, y, x, flux, template, *, tolerance=0.01):
    """rho of a map without the given sources: a new array (ny, nx) float32 (see :func:`model_rho`)."""
    model = model_rho(rho.shape, y, x, flux, kappa, template, tolerance=tolerance)
    return np.subtract(rho, model, out=model)


def subtract_from_snr(snr, kappa, y, x, flux, template, *, tolerance=0.01):
    """SNR rho / sqrt(kappa) of a map without the given sources: a new array; the others as for :func:`model_rho`.

    A third of the work of :func:`subtract_sources`, for a model that is not needed by itself.
    """
    depth = np.sqrt(reading.read_kappa(kappa, y, x))
    left = snr.copy()
    paint_onto(left, y, x, -np.asarray(flux, float) * depth, template, tolerance=tolerance)
    return left
