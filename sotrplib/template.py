"""The shape of a point source in a filtered map, and the reading of maps between pixels that follows from it.

In ``s = rho / sqrt(kappa)`` a point source has the shape A(d) = IFT[B^2/C], A(0) = 1, and the noise has
covariance A as well. One function therefore gives the model of a source, the covariance of neighbours, the
error of a position and the best interpolation between pixels: Wiener weights w = C^-1 c with C and c taken
from A, which lose nothing that the pixels hold.

A is kept as sum_r u_r(dy) v_r(dx), the singular value decomposition of its samples, so that a shifted copy
costs two small one-dimensional look-ups.
"""

from dataclasses import dataclass, field

import numpy as np

from sotrplib import autocorrelation, stamps
from sotrplib.interpolation import N_SUB, Table, continue_samples, decompose, look_up, wiener_weights

N_TAPS = 8
_FAR = 1e6  # pixels, for positions that are not known
_FACTOR_TAPS = 48
_HOLE_RIDGE = 1e-7
_LOSS_IGNORED = 1e-4
_ORDERS = ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2))
_N_OUTPUTS = (1, 3, 6)


@dataclass(frozen=True, eq=False)
class Template:
    """Shape of a point source in a filtered map, for each band of rows.

    Parameters
    ----------
    values : array (nband, m, m) float32
        A at the pixels around the source, [row, column], A = 1 at index ``m // 2`` of both axes.
    row_edges : array (nband + 1,) int
        Band i serves the rows ``row_edges[i] <= row < row_edges[i + 1]``; rows outside take the nearest band.
    step_arcmin : array (nband, 2)
        Physical size (dy, dx) of the pixels of ``values``.

    Raises
    ------
    ValueError
        If the shapes disagree or a template is not 1 at its centre.
    """

    values: np.ndarray
    row_edges: np.ndarray
    step_arcmin: np.ndarray
    _tables: dict = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self):
        shape, n_band = np.shape(self.values), len(self.row_edges) - 1
        if len(shape) != 3 or shape[0] != n_band or shape[1] != shape[2] or shape[1] < 3:
            raise ValueError(
                f"template: values have shape {shape}; expected ({n_band}, m, m) with m >= 3 for {n_band + 1} row edges"
            )
        if np.shape(self.step_arcmin) != (n_band, 2):
            raise ValueError(f"template: step_arcmin has shape {np.shape(self.step_arcmin)}; expected ({n_band}, 2)")
        centre = np.asarray(self.values)[:, shape[1] // 2, shape[1] // 2]
        if not np.allclose(centre, 1, atol=1e-3):
            raise ValueError(f"template: centre values are {centre}; expected 1: divide the template by its centre")


def gaussian_template(fwhm_arcmin, step_arcmin, *, autocorrelate=True, n_rows=1, radius_fwhm=3.0):
    """Template of a Gaussian beam.

    Parameters
    ----------
    fwhm_arcmin : float
        Full width of the beam at half maximum.
    step_arcmin : float or (float, float)
        Pixel size, or (dy, dx).
    autocorrelate : bool, default True
        Whether the map was filtered with its beam, which makes the source sqrt(2) wider than the beam. False
        is for maps in which a source has the width ``fwhm_arcmin`` itself.
    n_rows : int, default 1
        Rows of the map (only recorded: there is one band).
    radius_fwhm : float, default 3
        Half size of the template in units of the width of A.

    Returns
    -------
    Template
    """
    step = np.broadcast_to(np.asarray(step_arcmin, float), 2)
    width = fwhm_arcmin * (np.sqrt(2) if autocorrelate else 1)
    half = max(int(np.ceil(radius_fwhm * width / step.min())), N_TAPS)
    axis = np.arange(-half, half + 1)
    squared = (axis[:, None] * step[0]) ** 2 + (axis * step[1]) ** 2
    values = np.exp(-4 * np.log(2) * squared / width**2)
    return Template(values[None].astype("f4"), np.array([0, n_rows]), step[None].copy())


def template_from_autocorrelation(snr, mask, step_arcmin, *, row_edges=None, half_size=32, clip=5.0):
    """Measure the template from the noise of a map that arrives already filtered.

    The noise of rho/sqrt(kappa) has covariance A, so A is its autocorrelation (see :mod:`autocorrelation`).

    Parameters
    ----------
    snr : array (ny, nx)
        rho/sqrt(kappa).
    mask : array (ny, nx)
        0 where the map may be used (see ``tables.MASK_BITS``).
    step_arcmin : array (nband, 2) or (2,)
        Physical pixel size (dy, dx).
    row_edges : sequence of int, optional
        Bands of rows, default the whole map.
    half_size : int, default 32
        Half size of the template in pixels.
    clip : float, default 5
        Pixels above this significance, and those within ``half_size // 3`` of them, are left out as sources;
        around those ten times as bright, all within ``half_size``.

    Returns
    -------
    Template

    Raises
    ------
    ValueError
        If a band has no more good pixels than the template has.
    """
    edges = np.asarray([0, snr.shape[0]] if row_edges is None else row_edges)
    step = np.broadcast_to(np.asarray(step_arcmin, float), (len(edges) - 1, 2)).copy()
    good = (np.asarray(mask) == 0) & np.isfinite(snr)
    for level, radius in ((clip, max(half_size // 3, 1)), (10 * clip, half_size)):
        good &= ~autocorrelation.near_peaks(np.where(good, snr, 0), level, radius)
    bands = []
    for low, high, size in zip(edges[:-1], edges[1:], step, strict=True):
        if np.count_nonzero(good[low:high]) <= (2 * half_size + 1) ** 2:
            raise ValueError(
                f"template: rows {low} to {high} have {np.count_nonzero(good[low:high])} usable pixels; more than "
                f"{(2 * half_size + 1) ** 2} are needed: use fewer bands, a smaller half_size or the beam instead"
            )
        bands.append(autocorrelation.measure(snr[low:high], good[low:high], half_size, size))
    return Template(np.array(bands, "f4"), edges, step)


def band_of(template, row):
    """Band that serves a row (nearest pixel row of ``row``, an array or a number), as an integer array."""
    index = np.searchsorted(template.row_edges, np.rint(row), side="right") - 1
    return np.clip(index, 0, len(template.values) - 1)


def pixel_width_arcmin(template, row):
    """Physical width of the pixels of a row, linear between the middles of the bands (and beyond them)."""
    edges, widths = np.asarray(template.row_edges), np.asarray(template.step_arcmin)[:, 1]
    if len(widths) == 1:
        return np.full(np.shape(row), widths[0])
    middles = (edges[:-1] + edges[1:] - 1) / 2
    row = np.clip(row, edges[0], edges[-1] - 1)
    low = np.clip(np.searchsorted(middles, row) - 1, 0, len(widths) - 2)
    return widths[low] + (row - middles[low]) * (np.diff(widths) / np.diff(middles))[low]


def _stretch(template, row, band, *, filtered=True):
    """Factor on offsets along x, in pixels, at which the template of a band holds for a source of this row.

    The filter has the beam of the band's middle row and the source that of its own row, whose pixels have
    another width. The response is as wide as the two beams together: exact for Gaussian beams and white noise.
    """
    ratio = np.asarray(template.step_arcmin)[band, 1] / pixel_width_arcmin(template, row)
    return np.sqrt(2 / (1 + ratio**2)) if filtered else 1 / ratio


def select_bands(template, bands, row_edges):
    """Template of an image put together from pieces of a map, with ``bands[i]`` of the map from ``row_edges[i]`` on."""
    bands = np.asarray(bands)
    part = Template(template.values[bands], np.asarray(row_edges), np.asarray(template.step_arcmin)[bands])
    part._tables.update({new: template._tables.setdefault(old, {}) for new, old in enumerate(bands.tolist())})
    return part


def evaluate(template, dy_arcmin, dx_arcmin, row):
    """A at physical offsets from a source.

    Parameters
    ----------
    template : Template
    dy_arcmin, dx_arcmin : float or array
        Offsets, positive toward increasing row and column; broadcast against each other and ``row``.
    row : float or array
        Row of the source in the map, which selects the band.

    Returns
    -------
    array
        A, to about 1e-5 of its peak; 0 beyond the support of the template.
    """
    dy_step = np.asarray(template.step_arcmin)[band_of(template, row), 0]
    return evaluate_pixels(template, dy_arcmin / dy_step, dx_arcmin / pixel_width_arcmin(template, row), row)


def evaluate_pixels(template, dy, dx, row, *, orders=(0, 0)):
    """A, or a derivative of it, at offsets in pixels of the map.

    Parameters
    ----------
    template : Template
    dy, dx, row : float or array
        As for :func:`evaluate`, in pixels.
    orders : (int, int)
        Orders of the derivative along y and x, 0 to 2 each, per pixel.

    Returns
    -------
    array
    """
    bands = band_of(template, row)
    dx = np.asarray(dx, float) * _stretch(template, row, bands)
    dy, dx, bands = np.broadcast_arrays(np.asarray(dy, float), dx, bands)
    result = np.empty(dy.size)
    for band, index in _by_band(bands.ravel()):
        left = look_up(_factor(template, band, 0, orders[0]), dy.ravel()[index])
        right = look_up(_factor(template, band, 1, orders[1]), dx.ravel()[index])
        result[index] = np.einsum("nr,nr->n", left, right)
    return result.reshape(dy.shape)


def _by_band(bands, block=1 << 17):
    """Pairs of a band and the indices that it serves, no more than ``block`` at a time."""
    for band in np.unique(bands):
        index = np.flatnonzero(bands == band)
        for start in range(0, len(index), block):
            yield band, index[start : start + block]


def patches(template, fy, fx, row, half, *, filtered=True):
    """Copies of A on pixel grids, for painting.

    Parameters
    ----------
    template : Template
    fy, fx : array (n,)
        Position of each source relative to the middle pixel of its patch, in pixels.
    row : array (n,)
        Row of each source.
    half : int
        Half size of the patches.
    filtered : bool, default True
        Whether the template is that of a filtered map; False if it is the beam itself.

    Returns
    -------
    array (n, 2 half + 1, 2 half + 1)
        A at every pixel of each patch; in a filtered map, as the band of that pixel has it.
    """
    fy, fx, row = np.broadcast_arrays(fy, fx, row)
    axis = np.arange(-half, half + 1)
    result = np.empty((len(fy), len(axis), len(axis)))
    for band, index in _by_band(band_of(template, row)):
        result[index] = _patches_of_band(template, band, (fy[index], fx[index], row[index]), axis, filtered)
    if filtered and len(template.values) > 1:
        _mend_foreign_rows(template, result, (fy, fx, row), axis)
    return result


def _patches_of_band(template, band, places, axis, filtered):
    """Patches of A as one band has it; ``places`` are fy, fx, row of :func:`patches`."""
    fy, fx, row = places
    stretch = np.broadcast_to(_stretch(template, row, band, filtered=filtered), fy.shape)
    left = look_up(_factor(template, band, 0, 0), axis - fy[:, None])
    right = look_up(_factor(template, band, 1, 0), (axis - fx[:, None]) * stretch[:, None])
    return left @ right.transpose(0, 2, 1)


def _mend_foreign_rows(template, result, places, axis):
    """Make anew those rows of patches that lie in another band than their source."""
    fy, fx, row = places
    ends = [band_of(template, row - fy + end) for end in (axis[0], axis[-1])]
    straddling = np.flatnonzero(ends[0] != ends[1])
    home, bands = band_of(template, row[straddling]), band_of(template, (row - fy)[straddling, None] + axis)
    for band in np.unique(bands):
        chosen = (bands == band) & (home != band)[:, None]
        index = straddling[chosen.any(axis=1)]
        part = _patches_of_band(template, band, (fy[index], fx[index], row[index]), axis, True)
        result[index] = np.where(chosen[chosen.any(axis=1)][:, :, None], part, result[index])


def half_size(template):
    """Pixels from the centre of the template to its edge."""
    return (template.values.shape[1] - 1) // 2


def envelope(template):
    """Largest |A| at the distances 0, 1, 2, ... pixels and beyond, over all bands; the last is 0."""
    axis = np.arange(template.values.shape[1]) - template.values.shape[1] // 2
    distance = np.hypot(axis[:, None], axis).astype(int)
    largest = np.zeros(distance.max() + 2)
    np.maximum.at(largest, distance, np.abs(template.values).max(axis=0))
    return np.maximum.accumulate(largest[::-1])[::-1]


def curvature(template, row):
    """M = -grad grad A(0), the inverse covariance of the position of a source of SNR 1.

    Parameters
    ----------
    template : Template
    row : float or array

    Returns
    -------
    array (..., 2, 2)
        [[yy, yx], [yx, xx]] in arcmin^-2, for each row.
    """
    step = np.asarray(template.step_arcmin)[band_of(template, row)]
    zero = np.zeros(np.shape(row))
    yy, yx, xx = (-evaluate_pixels(template, zero, zero, row, orders=orders) for orders in ((2, 0), (1, 1), (0, 2)))
    matrix = np.stack([yy, yx, yx, xx], -1).reshape(*np.shape(row), 2, 2)
    return matrix / (step[..., :, None] * step[..., None, :])


def fwhm_arcmin(template, row):
    """Full width of A at half maximum, geometric mean of both axes; a float, or an array for an array of rows."""
    bands, inverse = np.unique(band_of(template, row), return_inverse=True)
    widths = np.array([_band_fwhm(template, band) for band in bands])
    return widths[inverse] if np.ndim(row) else float(widths[0])


def _band_fwhm(template, band):
    widths = []
    for axis, step in enumerate(template.step_arcmin[band]):
        position = np.arange(0, half_size(template) + 1, 1 / 16)
        cut = look_up(_factor(template, band, axis, 0), position)
        cut = cut @ look_up(_factor(template, band, 1 - axis, 0), np.zeros(1))[0]
        first = np.argmax(np.append(cut[1:] < 0.5, True)) + 1
        widths.append(2 * step * np.interp(-0.5, -cut[first - 1 : first + 1], position[first - 1 : first + 1]))
    return float(np.sqrt(widths[0] * widths[1]))


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
    return interpolate(_taps(image, y, x, np.nan), y, x, template, derivatives)


def _taps(image, y, x, outside):
    """The 8 x 8 pixels (n, 8, 8) around each position, ``outside`` where they are off the image."""
    row, column = (np.clip(np.where(np.isfinite(p), p, -_FAR), -_FAR, _FAR) for p in (y, x))
    first = (np.floor(p).astype(int) + 1 - N_TAPS // 2 for p in (row, column))
    return stamps.cut(image, *first, N_TAPS, outside=outside)


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


def read_at(rho, kappa, y, x, template):
    """Read a filtered map between its pixels.

    Parameters
    ----------
    rho, kappa : array (ny, nx)
        In mJy^-1 and mJy^-2; kappa = 0 where unobserved.
    y, x : array (n,)
        Positions in pixels.
    template : Template

    Returns
    -------
    s : array (n,)
        rho/sqrt(kappa), with noise of unit variance. NaN where the nearest pixel is unobserved or off the map.
    kappa : array (n,)
        Such that ``s / sqrt(kappa)`` is the flux and ``kappa**-0.5`` its error.

    Notes
    -----
    s is interpolated from its pixels, sqrt(kappa) linearly from the observed pixels among the nearest four.
    Interpolation makes a source at the position appear lower by a known factor r (less than 1e-4 below 1 at
    f150 and longer waves, 4e-3 at f280 with pixels of 0.5', more beside holes); the flux is divided by r and
    kappa multiplied by it, which keeps the one unbiased and the other true.
    """
    rho_taps, kappa_taps = (_taps(image, y, x, 0) for image in (rho, kappa))
    observed = kappa_taps > 0
    depth = np.sqrt(np.where(observed, kappa_taps, 0))
    s = interpolate(np.divide(rho_taps, depth, out=np.full(depth.shape, np.nan, "f4"), where=observed), y, x, template)
    response = _own_response(template, observed, y, x)
    return s / np.sqrt(response), np.where(np.isfinite(s), _linear(depth, y, x) ** 2 * response, np.nan)


def response(template, y, x):
    """What interpolation between whole pixels gives of the height of a source at each position, array (n,)."""
    whole = np.ones((len(y), N_TAPS, N_TAPS), bool)
    return _own_response(template, whole, np.asarray(y, float), np.asarray(x, float))


def tap_weights(template, row, position, axis):
    """Weights (n, 8) of the pixels around positions (n,) on an axis (0 for y, 1 for x) for sources of given rows (n,).

    Pixels floor(position) - 3 to floor(position) + 4, as in :func:`sample`.
    """
    start = band_of(template, row) * (1 + 1 / N_SUB)
    return look_up(_stacked_weights(template, axis, 0), np.mod(position, 1) + start)


def read_kappa(kappa, y, x):
    """kappa between its pixels, array (n,): linear in its root over observed pixels, NaN as for :func:`read_at`."""
    taps = _taps(kappa, y, x, 0)
    depth = np.sqrt(np.where(taps > 0, taps, 0))
    return np.where(_nearest_valid(depth > 0, y, x), _linear(depth, y, x) ** 2, np.nan)


def _own_response(template, observed, y, x):
    """What interpolation gives of the height of a source at each position, (n,); 1 where it is 1 to 1e-4."""
    middle = (np.asarray(template.row_edges)[:-1] + np.asarray(template.row_edges)[1:]) // 2 + 0.5
    if "worst" not in template._tables:
        whole = np.ones((len(middle), N_TAPS, N_TAPS), bool)
        template._tables["worst"] = _read_unit_source(template, whole, middle, middle * 0 + 0.5).min()
    result = np.ones(len(y))
    exact = np.isfinite(y) & np.isfinite(x)
    if template._tables["worst"] > 1 - _LOSS_IGNORED:
        exact &= ~observed.all(axis=(1, 2))
    if exact.any():
        result[exact] = _read_unit_source(template, observed[exact], y[exact], x[exact])
    return result


def _read_unit_source(template, observed, y, x):
    own = patches(template, np.mod(y, 1), np.mod(x, 1), y, N_TAPS // 2)[:, 1:, 1:]
    return interpolate(np.where(observed, own, np.nan), y, x, template)


def _linear(taps, y, x):
    """Linear interpolation over those of the nearest four pixels that are not 0; 0 if none is."""
    near = taps[:, N_TAPS // 2 - 1 : N_TAPS // 2 + 1, N_TAPS // 2 - 1 : N_TAPS // 2 + 1]
    fy, fx = (np.mod(np.where(np.isfinite(p), p, 0), 1) for p in (y, x))
    weights = np.stack([1 - fy, fy], 1)[:, :, None] * np.stack([1 - fx, fx], 1)[:, None, :] * (near != 0)
    total = weights.sum(axis=(1, 2))
    return np.divide((weights * near).sum(axis=(1, 2)), total, out=np.zeros(len(total)), where=total > 0)


def _nearest_valid(valid, y, x):
    known = np.isfinite(y) & np.isfinite(x)
    near = [N_TAPS // 2 - 1 + (np.mod(np.where(known, p, 0), 1) >= 0.5) for p in (y, x)]
    return known & valid[np.arange(len(valid)), near[0], near[1]]


def _separable(template, taps, y, x, derivatives):
    band = band_of(template, y)
    left, right = (
        np.stack(
            [look_up(_stacked_weights(template, axis, o), p % 1 + band * (1 + 1 / N_SUB)) for o in range(n_orders)]
        )
        for n_orders, axis, p in ((derivatives + 1, 0, y), (derivatives + 1, 1, x))
    )
    products = left.transpose(1, 0, 2) @ taps @ right.transpose(1, 2, 0)
    return np.stack([products[:, i, j] for i, j in _ORDERS[: _N_OUTPUTS[derivatives]]])


def _solved(template, taps, y, x, derivatives):
    """Wiener weights from the valid taps alone, w = C^-1 c."""
    result = np.empty((_N_OUTPUTS[derivatives], len(taps)))
    for band, index in _by_band(band_of(template, y), block=256):
        row = (template.row_edges[band] + template.row_edges[band + 1]) // 2
        valid = np.isfinite(taps[index]).reshape(len(index), -1)
        pixels = np.where(valid, taps[index].reshape(len(index), -1), 0)
        solution = np.linalg.solve(_tap_covariance(template, row, valid), pixels[:, :, None])[:, :, 0]
        offset_y, offset_x = (grid.ravel() - (N_TAPS // 2 - 1) for grid in np.indices((N_TAPS, N_TAPS)))
        dy, dx = y[index, None] % 1 - offset_y, x[index, None] % 1 - offset_x
        for order, orders in enumerate(_ORDERS[: len(result)]):
            covariance = np.where(valid, evaluate_pixels(template, dy, dx, row, orders=orders), 0)
            result[order, index] = np.einsum("nt,nt->n", covariance, solution)
    return result


def _tap_covariance(template, row, valid):
    """Covariance (n, 64, 64) of the taps; those that are not ``valid`` (n, 64) are set apart by zeros."""
    offset_y, offset_x = (grid.ravel() for grid in np.indices((N_TAPS, N_TAPS)))
    lags = np.subtract.outer(offset_y, offset_y), np.subtract.outer(offset_x, offset_x)
    matrix = np.where(valid[:, :, None] & valid[:, None, :], evaluate_pixels(template, *lags, row), 0)
    matrix[:, np.arange(N_TAPS**2), np.arange(N_TAPS**2)] = 1 + _HOLE_RIDGE
    return matrix


def _cached(template, band, key, make):
    tables = template._tables.setdefault(int(band), {})
    if key not in tables:
        tables[key] = make()
    return tables[key]


def _factor(template, band, axis, order):
    """Table of the factors u_r (axis 0) or v_r (axis 1) of A, or of a derivative, in pixels from the centre."""

    def make():
        samples = _cached(template, band, "svd", lambda: decompose(_odd_window(template, band)))[axis]
        return continue_samples(samples, _weights(template, band, axis, _FACTOR_TAPS)[order])

    return _cached(template, band, ("factor", axis, order), make)


def _stacked_weights(template, axis, order):
    """Weights of all bands in one table: band b starts at position b (1 + 1 / N_SUB)."""
    key = "stacked", axis, order
    if key not in template._tables:
        rows = [_weights(template, band, axis, N_TAPS)[order].rows for band in range(len(template.values))]
        template._tables[key] = Table(0.0, np.concatenate(rows))
    return template._tables[key]


def _weights(template, band, axis, n_taps):
    """Tables of Wiener weights, for value and derivatives, 0 to 1 pixel after the tap n_taps/2 - 1."""

    def make():
        values = _odd_window(template, band)
        cut = np.take(values, len(values) // 2, axis=1 - axis)
        return wiener_weights((cut + cut[::-1])[len(cut) // 2 :] / 2, n_taps)

    return _cached(template, band, ("weights", axis, n_taps), make)


def _odd_window(template, band):
    """The template of a band as an odd square about its centre, float64."""
    half, middle = half_size(template), template.values.shape[1] // 2
    window = slice(middle - half, middle + half + 1)
    return np.asarray(template.values[band][window, window], "f8")
