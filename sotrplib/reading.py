"""Reading of filtered maps between their pixels.

Signal and noise of ``s = rho / sqrt(kappa)`` have the same covariance A, the template. The best interpolation has
Wiener weights w = C^-1 c with C and c taken from A, and loses nothing that the pixels hold.
"""

import numpy as np

from sotrplib import stamps
from sotrplib import template as templates
from sotrplib.interpolation import N_SUB, Table, look_up
from sotrplib.template import N_TAPS

_FAR = 1e6  # pixels, for positions that are not known
_HOLE_RIDGE = 1e-7
_LOSS_IGNORED = 1e-4
_N_OUTPUTS = (1, 3, 6)
_BLOCK = 2000


def sample(image, y, x, template, derivatives=0):
    """Read an image between its pixels with the interpolation that is best for signals of the template's shape.

    Where pixels of the 8 x 8 around a position are off the image or NaN, the weights are solved from the
    template for those that remain.

    Parameters
    ----------
    image : array (ny, nx) or stamps.Significance
        s = rho/sqrt(kappa), NaN where there are no data.
    y, x : array (n,)
        Positions in pixels.
    template : Template
    derivatives : {0, 1, 2}
        Highest derivative wanted.

    Returns
    -------
    array (n,), or tuple of arrays
        The value; with derivatives (value, dy, dx) or (value, dy, dx, dyy, dyx, dxx), per pixel and per pixel
        squared. NaN where the nearest pixel is off the image or NaN.
    """
    result = np.empty((_N_OUTPUTS[derivatives], len(y)))
    for part in _blocks(y):
        result[:, part] = interpolate(_taps(image, y[part], x[part], np.nan), y[part], x[part], template, derivatives)
    return tuple(result) if derivatives else result[0]


def _blocks(y):
    """Index of positions in the order of their rows, so few at a time that what is made of them stays in the cache."""
    order = np.argsort(y)
    return [order[start : start + _BLOCK] for start in range(0, len(order), _BLOCK)]


def _taps(image, y, x, outside, n_taps=N_TAPS):
    """The 8 x 8 pixels (n, 8, 8) around each position, ``outside`` where they are off the image."""
    row, column = (np.clip(np.where(np.isfinite(p), p, -_FAR), -_FAR, _FAR) for p in (y, x))
    first = (np.floor(p).astype(int) + 1 - n_taps // 2 for p in (row, column))
    return stamps.cut(image, *first, n_taps, outside=outside)


def interpolate(taps, y, x, template, derivatives=0):
    """Interpolate the 8 x 8 pixels around each position (see :func:`sample`).

    Parameters
    ----------
    taps : array (n, 8, 8)
        Pixels floor(y) - 3 to floor(y) + 4, and likewise in x, NaN where there are no data.
    y, x : array (n,)
    template : Template
    derivatives : {0, 1, 2}

    Returns
    -------
    As :func:`sample`.
    """
    whole = np.isfinite(np.einsum("nij->n", taps)) & np.isfinite(y) & np.isfinite(x)
    if whole.all():
        result = _separable(template, taps, y, x, derivatives)
        return tuple(result) if derivatives else result[0]
    result = np.full((_N_OUTPUTS[derivatives], len(taps)), np.nan)
    rest = np.flatnonzero(~whole)
    part = rest[_nearest_valid(np.isfinite(taps[rest]), y[rest], x[rest])]
    for index, method in ((np.flatnonzero(whole), _separable), (part, _solved)):
        if index.size:
            result[:, index] = method(template, taps[index], y[index], x[index], derivatives)
    return tuple(result) if derivatives else result[0]


def read_at(rho, kappa, y, x, template, derivatives=0):
    """Read a filtered map between its pixels.

    Parameters
    ----------
    rho, kappa : array (ny, nx)
        In mJy^-1 and mJy^-2; kappa = 0 where unobserved.
    y, x : array (n,)
        Positions in pixels.
    template : Template
    derivatives : {0, 1, 2}
        See below.

    Returns
    -------
    s : array (n,)
        rho/sqrt(kappa), with noise of unit variance. NaN where the nearest pixel is unobserved or off the map.
    kappa : array (n,)
        Such that ``s / sqrt(kappa)`` is the flux and ``kappa**-0.5`` its error.
    values : array (3 or 6, n)
        Only with derivatives: s without the correction of the notes and its derivatives, as by :func:`sample`.

    Notes
    -----
    s is interpolated from its pixels, sqrt(kappa) linearly from the observed pixels among the nearest four.
    Interpolation makes a source at the position appear lower by a known factor r (less than 1e-4 below 1 at
    f150 and longer waves, 4e-3 at f280 with pixels of 0.5', more beside holes); the flux is divided by r and
    kappa multiplied by it, which keeps the one unbiased and the other true.
    """
    result = np.empty((2 + _N_OUTPUTS[derivatives], len(y)))
    for part in _blocks(y):
        result[:, part] = _read_block(rho, kappa, y[part], x[part], template, derivatives)
    return (*result[:2], result[2:])[: 3 if derivatives else 2]


def _read_block(rho, kappa, y, x, template, derivatives):
    """s and kappa of :func:`read_at` for a few positions, and what :func:`sample` gives."""
    rho_taps, kappa_taps = (_taps(image, y, x, 0) for image in (rho, kappa))
    observed = kappa_taps > 0
    if observed.all():
        depth = np.sqrt(kappa_taps)
        s = rho_taps / depth
    else:
        depth = np.sqrt(np.where(observed, kappa_taps, 0))
        s = np.divide(rho_taps, depth, out=np.full(depth.shape, np.nan, "f4"), where=observed)
    values = np.reshape(interpolate(s, y, x, template, derivatives), (-1, len(y)))
    response = _own_response(template, observed, y, x)
    depth = np.where(np.isfinite(values[0]), _linear(depth, y, x) ** 2 * response, np.nan)
    return np.concatenate([[values[0] / np.sqrt(response), depth], values])


def response(template, y, x):
    """What interpolation between whole pixels gives of the height of a source at each position, array (n,)."""
    whole = np.ones((len(y), N_TAPS, N_TAPS), bool)
    return _own_response(template, whole, np.asarray(y, float), np.asarray(x, float))


def tap_weights(template, row, position, axis):
    """Weights (n, 8) of the pixels around positions (n,) on an axis (0 for y, 1 for x) for sources of given rows (n,).

    Pixels floor(position) - 3 to floor(position) + 4, as in :func:`sample`.
    """
    start = templates.band_of(template, row) * (1 + 1 / N_SUB)
    return look_up(_stacked_weights(template, axis, 1), np.mod(position, 1) + start)


def read_kappa(kappa, y, x):
    """kappa between its pixels, array (n,): linear in its root over observed pixels, NaN as for :func:`read_at`."""
    y, x = np.asarray(y, float), np.asarray(x, float)
    taps = _taps(kappa, y, x, 0, 2)
    depth = np.sqrt(np.where(taps > 0, taps, 0))
    return np.where(_nearest_valid(depth > 0, y, x), _linear(depth, y, x) ** 2, np.nan)


def _own_response(template, observed, y, x):
    """What interpolation gives of the height of a source at each position, (n,); 1 where it is 1 to 1e-4."""
    result = np.ones(len(y))
    exact = np.isfinite(y) & np.isfinite(x)
    if _worst_response(template) > 1 - _LOSS_IGNORED:
        exact &= ~observed.all(axis=(1, 2))
    if exact.any():
        result[exact] = _read_unit_source(template, observed[exact], y[exact], x[exact])
    return result


def _worst_response(template):
    """Response half way between pixels, in the band where it is least."""

    def make():
        edges = np.asarray(template.row_edges)
        middle = (edges[:-1] + edges[1:]) // 2 + 0.5
        whole = np.ones((len(middle), N_TAPS, N_TAPS), bool)
        return _read_unit_source(template, whole, middle, middle * 0 + 0.5).min()

    return templates.remember(template, "worst", make)


def _read_unit_source(template, observed, y, x):
    own = templates.patches(template, np.mod(y, 1), np.mod(x, 1), y, N_TAPS // 2)[:, 1:, 1:]
    return interpolate(np.where(observed, own, np.nan), y, x, template)


def _linear(taps, y, x):
    """Linear interpolation over those of the nearest four pixels that are not 0; 0 if none is."""
    first = taps.shape[1] // 2 - 1
    fy, fx = (p - np.floor(p) for p in (np.where(np.isfinite(p), p, 0) for p in (y, x)))
    total, weights = np.zeros((2, len(taps)))
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        near = taps[:, first + i, first + j]
        weight = (fy if i else 1 - fy) * (fx if j else 1 - fx) * (near != 0)
        total += weight * near
        weights += weight
    return np.divide(total, weights, out=np.zeros(len(total)), where=weights > 0)


def _nearest_valid(valid, y, x):
    known = np.isfinite(y) & np.isfinite(x)
    near = [valid.shape[1] // 2 - 1 + (np.mod(np.where(known, p, 0), 1) >= 0.5) for p in (y, x)]
    return known & valid[np.arange(len(valid)), near[0], near[1]]


def _separable(template, taps, y, x, derivatives):
    start, n_orders = templates.band_of(template, y) * (1 + 1 / N_SUB), derivatives + 1
    left, right = (
        look_up(_stacked_weights(template, axis, n_orders), p - np.floor(p) + start).reshape(-1, n_orders, N_TAPS)
        for axis, p in ((0, y), (1, x))
    )
    products = left @ taps @ right.transpose(0, 2, 1)
    return np.stack([products[:, i, j] for i, j in templates.ORDERS[: _N_OUTPUTS[derivatives]]])


def _solved(template, taps, y, x, derivatives):
    """Wiener weights from the valid taps alone, w = C^-1 c."""
    result = np.empty((_N_OUTPUTS[derivatives], len(taps)))
    for band, index in templates.by_band(templates.band_of(template, y), block=256):
        row = (template.row_edges[band] + template.row_edges[band + 1]) // 2
        valid = np.isfinite(taps[index]).reshape(len(index), -1)
        pixels = np.where(valid, taps[index].reshape(len(index), -1), 0)
        solution = np.linalg.solve(_tap_covariance(template, row, valid), pixels[:, :, None])[:, :, 0]
        offset_y, offset_x = (grid.ravel() - (N_TAPS // 2 - 1) for grid in np.indices((N_TAPS, N_TAPS)))
        dy, dx = y[index, None] % 1 - offset_y, x[index, None] % 1 - offset_x
        for order, orders in enumerate(templates.ORDERS[: len(result)]):
            covariance = np.where(valid, templates.evaluate_pixels(template, dy, dx, row, orders=orders), 0)
            result[order, index] = np.einsum("nt,nt->n", covariance, solution)
    return result


def _tap_covariance(template, row, valid):
    """Covariance (n, 64, 64) of the taps; those that are not ``valid`` (n, 64) are set apart by zeros."""

    def make():
        offset_y, offset_x = (grid.ravel() for grid in np.indices((N_TAPS, N_TAPS)))
        lags = np.subtract.outer(offset_y, offset_y), np.subtract.outer(offset_x, offset_x)
        return templates.evaluate_pixels(template, *lags, row)

    covariance = templates.remember(template, ("taps", int(row)), make)
    matrix = np.where(valid[:, :, None] & valid[:, None, :], covariance, 0)
    matrix[:, np.arange(N_TAPS**2), np.arange(N_TAPS**2)] = 1 + _HOLE_RIDGE
    return matrix


def _stacked_weights(template, axis, n_orders):
    """Weights of all bands in one table, derivatives behind each other: band b starts at position b (1 + 1 / N_SUB)."""

    def make():
        bands = [templates.weight_tables(template, band, axis, N_TAPS) for band in range(len(template.values))]
        orders = (np.concatenate([tables[order].rows for tables in bands]) for order in range(n_orders))
        return Table(0.0, np.concatenate(list(orders), axis=1))

    return templates.remember(template, ("stacked", axis, n_orders), make)
