"""The shape of a point source in a filtered map.

In ``s = rho / sqrt(kappa)`` a point source has the shape A(d) = IFT[B^2/C], A(0) = 1, and the noise has
covariance A as well. One function therefore gives the model of a source, the covariance of neighbours, the
error of a position and the best interpolation between pixels (:mod:`reading`).

A is kept as sum_r u_r(dy) v_r(dx), the singular value decomposition of its samples, so that a shifted copy
costs two small one-dimensional look-ups.
"""

from dataclasses import dataclass, field

import numpy as np

from sotrplib.interpolation import continue_samples, decompose, look_up, read_middle, wiener_weights

N_TAPS = 8  # pixels on each axis that a value between pixels is read from
ORDERS = ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2))  # of derivatives along y and x
_FACTOR_TAPS = 48


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


def join(parts, half):
    """Template of a map from those of its strips.

    Parameters
    ----------
    parts : list of Template
        Their row edges are rows of the map, each beginning where the one before it ends.
    half : int
        Half size that all get: 0 is added around smaller ones, larger ones are cut.
    """
    values = np.concatenate([_resize(part.values, half) for part in parts])
    edges = [part.row_edges[:-1] for part in parts] + [parts[-1].row_edges[-1:]]
    return Template(values, np.concatenate(edges), np.concatenate([part.step_arcmin for part in parts]))


def _resize(values, half):
    """Squares (n, m, m) cut, or surrounded by 0, to m = 2 half + 1, the middle where it was."""
    more = half - values.shape[1] // 2
    if more >= 0:
        return np.pad(values, ((0, 0), (more, more), (more, more)))
    return values[:, -more:more, -more:more]


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
    for band, index in by_band(bands.ravel()):
        left = look_up(_factor(template, band, 0, orders[0]), dy.ravel()[index])
        right = look_up(_factor(template, band, 1, orders[1]), dx.ravel()[index])
        result[index] = np.einsum("nr,nr->n", left, right)
    return result.reshape(dy.shape)


def evaluate_derivatives(template, dy, dx, row):
    """A and its derivatives up to the second at offsets in pixels of the map, per pixel and per pixel squared.

    Parameters
    ----------
    template : Template
    dy, dx, row : array
        As for :func:`evaluate_pixels`.

    Returns
    -------
    array (6, ...)
        A, dy, dx, dyy, dyx, dxx: what :func:`evaluate_pixels` gives for each of these orders.
    """
    bands = band_of(template, row)
    dx = np.asarray(dx, float) * _stretch(template, row, bands)
    dy, dx, bands = np.broadcast_arrays(np.asarray(dy, float), dx, bands)
    result = np.empty((len(ORDERS), dy.size))
    for band, index in by_band(bands.ravel()):
        left, right = (
            [look_up(_factor(template, band, axis, order), offset.ravel()[index]) for order in range(3)]
            for axis, offset in enumerate((dy, dx))
        )
        result[:, index] = [np.einsum("nr,nr->n", left[i], right[j]) for i, j in ORDERS]
    return result.reshape(-1, *dy.shape)


def by_band(bands, block=1 << 17):
    """Pairs of a band and the indices that it serves, no more than ``block`` at a time."""
    for band in np.unique(bands):
        index = np.flatnonzero(bands == band)
        for start in range(0, len(index), block):
            yield band, index[start : start + block]


def patches(template, fy, fx, row, half, *, filtered=True, amplitude=None):
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
    amplitude : array (n,), optional
        Height of each copy, default 1. With it the patches are float32, to some 1e-7 of it, which is faster.

    Returns
    -------
    array (n, 2 half + 1, 2 half + 1)
        A at every pixel of each patch, times the amplitude; in a filtered map, as the band of that pixel has it.
    """
    dtype = "f8" if amplitude is None else "f4"
    places = np.broadcast_arrays(fy, fx, row, 1.0 if amplitude is None else amplitude)
    axis, bands = np.arange(-half, half + 1), band_of(template, places[2])
    if len(bands) and (bands == bands[0]).all():
        result = _patches_of_band(template, bands[0], places, axis, (filtered, dtype))
    else:
        result = np.empty((len(bands), len(axis), len(axis)), dtype)
        for band, index in by_band(bands):
            here = [values[index] for values in places]
            result[index] = _patches_of_band(template, band, here, axis, (filtered, dtype))
    if filtered and len(template.values) > 1:
        _mend_foreign_rows(template, result, places, axis)
    return result


def _patches_of_band(template, band, places, axis, form):
    """Patches of A as one band has it; ``places`` are fy, fx, row and amplitude, ``form`` filtered and the dtype."""
    (fy, fx, row, amplitude), (filtered, dtype) = places, form
    stretch = np.broadcast_to(_stretch(template, row, band, filtered=filtered), fy.shape)
    left = look_up(_factor(template, band, 0, 0), axis - fy[:, None], dtype)
    right = look_up(_factor(template, band, 1, 0), (axis - fx[:, None]) * stretch[:, None], dtype)
    left *= amplitude[:, None, None]
    return left @ right.transpose(0, 2, 1)


def _mend_foreign_rows(template, result, places, axis):
    """Make anew those rows of patches that lie in another band than their source."""
    fy, _, row, _ = places
    ends, home = [band_of(template, row - fy + end) for end in (axis[0], axis[-1])], band_of(template, row)
    straddling = np.flatnonzero((ends[0] != home) | (ends[1] != home))
    home, bands = home[straddling], band_of(template, (row - fy)[straddling, None] + axis)
    for band in np.unique(bands):
        chosen = (bands == band) & (home != band)[:, None]
        index = straddling[chosen.any(axis=1)]
        here = [values[index] for values in places]
        part = _patches_of_band(template, band, here, axis, (True, result.dtype))
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
    return pixel_curvature(template, row) / (step[..., :, None] * step[..., None, :])


def pixel_curvature(template, row):
    """:func:`curvature` in pixels of the band's middle row, per pixel squared."""
    bands, inverse = np.unique(band_of(template, row), return_inverse=True)
    values = [_cached(template, band, "curvature", lambda band=band: _band_curvature(template, band)) for band in bands]
    return np.array(values).reshape(-1, 2, 2)[inverse.reshape(np.shape(row))]


def _band_curvature(template, band):
    tables = [weight_tables(template, band, axis, _FACTOR_TAPS) for axis in (0, 1)]
    (u, du, ddu), (v, dv, ddv) = (
        [read_middle(samples, weights) for weights in own]
        for samples, own in zip(_samples(template, band), tables, strict=True)
    )
    return -np.array([[ddu @ v, du @ dv], [du @ dv, u @ ddv]])


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


def remember(template, key, make):
    """What ``make()`` gives for a template, made once."""
    if key not in template._tables:
        template._tables[key] = make()
    return template._tables[key]


def _cached(template, band, key, make):
    tables = remember(template, int(band), dict)
    if key not in tables:
        tables[key] = make()
    return tables[key]


def _factor(template, band, axis, order):
    """Table of the factors u_r (axis 0) or v_r (axis 1) of A, or of a derivative, in pixels from the centre."""

    def make():
        weights = weight_tables(template, band, axis, _FACTOR_TAPS)
        return continue_samples(_samples(template, band)[axis], weights[order])

    return _cached(template, band, ("factor", axis, order), make)


def _samples(template, band):
    """Samples of the factors u and v of A in one band."""
    return _cached(template, band, "svd", lambda: decompose(_odd_window(template, band)))


def weight_tables(template, band, axis, n_taps):
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
