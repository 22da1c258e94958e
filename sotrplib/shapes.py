"""How much a peak of s = rho / sqrt(kappa) looks like the template: its width, its elongation, and chi-square.

A real source has the shape A of the template. A glitch of one pixel of the raw map is narrower (IFT[B/C]), a
planet or a galaxy wider, a streak longer.
"""

from typing import NamedTuple

import numpy as np

from sotrplib import reading, stamps
from sotrplib import template as templates

RADIUS_FWHM = 1.5
_SPACING_FWHM = 0.4
_FLOOR = 0.01  # variance added to s at the points of chi-square: errors of interpolation and of the covariance
_NARROWEST = 0.01  # of the curvature relative to the template's, so that widths stay finite
_BLOCK = 1000
_PIXEL_VARIANCE = 1 / 12


class Shapes(NamedTuple):
    """Shape of n peaks, arrays (n,); the columns of the table ``detections`` of these names."""

    template_chi2: np.ndarray
    fwhm_ratio: np.ndarray
    elongation: np.ndarray
    n_pixels: np.ndarray


class Islands(NamedTuple):
    """Shape of the pixels above half of n peaks, arrays (n,); columns of the table ``detections`` of these names."""

    island_fwhm_ratio: np.ndarray
    island_elongation: np.ndarray


class _Points(NamedTuple):
    """Points of chi-square in one band: pixel offsets (2, k) and the eigenvectors of the covariance A of s there."""

    offsets: np.ndarray
    variance: np.ndarray
    expected: np.ndarray
    vectors: np.ndarray


def measure(image, peaks, template, *, subtracted, template_err=0.02):
    """Shapes of peaks.

    Parameters
    ----------
    image : array (ny, nx)
        s, with the templates of some sources taken out; NaN where there are no data.
    peaks : positions.Refined
        Fitted positions in pixels and heights, arrays (n,); only these are used.
    template : template.Template
    subtracted : array (n,) bool
        Whether the template of this peak is among those taken out of ``image``.
    template_err : float, default 0.02
        Uncertainty of the template as a fraction of the peak.

    Returns
    -------
    Shapes
        Width and elongation from the curvature of the peak over its height, against the template's; their errors at
        significance S are about 0.5 / S and 2.8 / S. Chi-square from points 0.4 FWHM apart out to 1.5 FWHM, with
        covariance A + (template_err S)^2, over its expectation for a source of the template's shape.
    """
    width, elongation = _curvature_shape(image, peaks, template, subtracted)
    chi2, n_pixels = np.full(len(width), np.nan), np.zeros(len(width), int)
    for part, own, points in _stamps_of_bands(image, peaks, template, subtracted):
        chi2[part] = _chi2(own.residual, peaks[2][part], points, template_err)
        n_pixels[part] = count_above_half(own.residual + own.model, peaks[2][part])
    return Shapes(chi2, width, elongation, n_pixels)


def measure_islands(image, peaks, template, *, subtracted):
    """Shapes of peaks by the second moments of their pixels above half the peak, those of photutils' SourceCatalog.

    Parameters
    ----------
    image, peaks, template, subtracted
        As for :func:`measure`.

    Returns
    -------
    Islands
        Against the moments of the template cut and sampled alike; NaN for islands without extent. At significance S
        the errors are about 0.7 / S in width and 4.2 / S in elongation: half as much again as those of the curvature
        (:func:`measure`), which knows that the noise is smooth. Streaks are told as well, glitches of one pixel less.
    """
    shape = np.full((2, len(peaks[0])), np.nan)
    for part, own, _ in _stamps_of_bands(image, peaks, template, subtracted):
        shape[:, part] = _island_shapes(own, peaks[2][part])[0]
    return Islands(*shape)


def measure_both(image, peaks, template, *, subtracted, template_err=0.02):
    """:class:`Shapes` and :class:`Islands` of peaks from the same stamps; parameters as for :func:`measure`."""
    width, elongation = _curvature_shape(image, peaks, template, subtracted)
    chi2, shape, n_pixels = np.full(len(width), np.nan), np.full((2, len(width)), np.nan), np.zeros(len(width), int)
    for part, own, points in _stamps_of_bands(image, peaks, template, subtracted):
        chi2[part] = _chi2(own.residual, peaks[2][part], points, template_err)
        shape[:, part], n_pixels[part] = _island_shapes(own, peaks[2][part])
    return Shapes(chi2, width, elongation, n_pixels), Islands(*shape)


def _stamps_of_bands(image, peaks, template, subtracted):
    """Index of some peaks of one band, in the order of their rows, their :class:`_Stamps`, and :class:`_Points`."""
    y, x, height = peaks[:3]
    order = np.argsort(y, kind="stable")
    bands = templates.band_of(template, y)[order]
    for band in np.unique(bands):
        index, points, half = order[bands == band], _chi2_points(template, band), stamp_half(template, band)
        for part in np.array_split(index, max(1, -(-len(index) // _BLOCK))):
            yield part, _own_stamps(image, (y[part], x[part], height[part]), template, half, subtracted[part]), points


def moments_against(moments, reference):
    """Width ratio and elongation (n,) of second moments (n, 2, 2) against others; NaN where either has no extent."""
    known = [np.isfinite(m).all(axis=(1, 2)) & (_det(np.nan_to_num(m)) > 0) for m in (moments, reference)]
    known = known[0] & known[1]
    inverse = [_invert(np.where(known[:, None, None], m, np.eye(2))) for m in (moments, reference)]
    return np.where(known, shape_against(*inverse), np.nan)


def _det(matrix):
    return matrix[:, 0, 0] * matrix[:, 1, 1] - matrix[:, 0, 1] * matrix[:, 1, 0]


def _invert(matrix):
    """Inverse of symmetric matrices (n, 2, 2), written out: LAPACK takes ten times as long for so small ones."""
    yy, yx, xx = matrix[:, 0, 0], matrix[:, 0, 1], matrix[:, 1, 1]
    return (np.stack([xx, -yx, -yx, yy], -1) / _det(matrix)[:, None]).reshape(-1, 2, 2)


def _island_shapes(own, height):
    """Width ratio and elongation (2, n) of islands against those of the models in the stamps, and their pixels (n,)."""
    inner = _inner(own.model.shape[1])
    near = [np.ascontiguousarray(pixels[:, inner, inner]) for pixels in own]
    (moments, n_pixels), (reference, _) = (
        _islands(part, height, lambda index, of=of: sum(pixels[index] for pixels in of))
        for part, of in ((near[0] + near[1], own), (near[1], own[1:]))
    )
    return moments_against(moments, reference), n_pixels


def _islands(near, height, whole):
    """Second moments (n, 2, 2), [yy, yx, xx], and number (n,) of the pixels above half of ``height``.

    Those connected to the middle of stamps, of which ``near`` (n, k, k) is the inner half and ``whole(index)`` all. The
    covariance of photutils' SourceCatalog, which a test compares; importing it would take several times as long as a
    whole search. Islands thinner than a pixel are widened by the variance of a pixel, 1/12, as there.
    """
    own = _connected(_above_half(near, height))
    moments, count = _moments(near, own), own.reshape(len(own), -1).sum(axis=1)
    crosses = np.flatnonzero(own[:, [0, -1]].any(axis=(1, 2)) | own[:, :, [0, -1]].any(axis=(1, 2)))
    if crosses.size:
        sources = whole(crosses)
        own = _connected(_above_half(sources, height[crosses]))
        moments[crosses], count[crosses] = _moments(sources, own), own.sum(axis=(1, 2))
    return moments, count


def _inner(size):
    """Slice of the inner half of stamps (n, size, size), where most islands end."""
    middle = size // 2
    return slice(middle - middle // 2, middle + middle // 2 + 1)


def _moments(sources, own):
    """Second moments (n, 2, 2) of the pixels ``own`` of each stamp (n, k, k)."""
    k = sources.shape[1]
    i, j = (grid.ravel() - k // 2 for grid in np.indices((k, k), float))
    weight = np.where(own, sources, 0).reshape(len(sources), -1)
    total, y, x, *squares = (weight @ np.stack([np.ones(k * k), i, j, i * i, i * j, j * j], 1)).T
    total = np.where(total > 0, total, np.nan)
    y, x = y / total, x / total
    yy, yx, xx = (square / total - product for square, product in zip(squares, (y * y, y * x, x * x), strict=True))
    while (thin := yy * xx - yx**2 < _PIXEL_VARIANCE**2).any():
        yy, xx = yy + thin * _PIXEL_VARIANCE, xx + thin * _PIXEL_VARIANCE
    return np.stack([yy, yx, yx, xx], -1).reshape(-1, 2, 2)


def shape_against(matrix, reference):
    """Width ratio and elongation of quadratic forms (n, 2, 2) of curvature against those of the template.

    Returns
    -------
    fwhm_ratio, elongation : array (n,)
        Geometric mean of the widths over the reference's, and longer over shorter axis after scaling by it.
    """
    low, high = np.maximum(_relative_eigenvalues(matrix, reference), _NARROWEST)
    return (low * high) ** -0.25, np.sqrt(high / low)


def _relative_eigenvalues(matrix, reference):
    """Eigenvalues (2, n) of L^-1 M L^-T with the reference L L^T, the lower first; symmetric matrices (n, 2, 2)."""
    (myy, myx), (_, mxx) = matrix.transpose(1, 2, 0)
    (ryy, ryx), (_, rxx) = reference.transpose(1, 2, 0)
    first, lower = np.sqrt(ryy), ryx / np.sqrt(ryy)
    second = np.sqrt(rxx - lower**2)
    yy, part = myy / first**2, (myx - myy / first * lower) / first
    xx = (mxx - 2 * lower * myx / first + lower**2 * myy / first**2) / second**2
    middle, half = (yy + xx) / 2, np.hypot((yy - xx) / 2, part / second)
    return np.stack([middle - half, middle + half])


def stamp_half(template, band):
    """Half size in pixels of the stamps shapes are measured on."""
    width = templates.fwhm_arcmin(template, float(template.row_edges[band]))
    half = int(np.ceil(RADIUS_FWHM * width / np.min(template.step_arcmin[band])))
    return max(min(half, templates.half_size(template)), 1)


def count_above_half(sources, height):
    """Connected pixels above half of ``height`` around the middle of each stamp (n, k, k)."""
    return np.count_nonzero(_connected(_above_half(sources, height)), axis=(1, 2))


def _connected(above):
    """Which pixels of each stamp (n, k, k) bool are connected to its middle, over edges or corners.

    Only stamps in which one of them has no neighbour nearer to the middle are filled from there, step by step.
    """
    middle = above.shape[1] // 2
    toward = np.zeros_like(above)
    toward[:, :middle], toward[:, middle + 1 :] = above[:, 1 : middle + 1], above[:, middle:-1]
    toward[:, :, :middle] |= above[:, :, 1 : middle + 1]
    toward[:, :, middle + 1 :] |= above[:, :, middle:-1]
    toward[:, middle, middle] = True
    odd = np.flatnonzero((above > toward).any(axis=(1, 2)))
    result = above.copy()
    if odd.size:
        result[odd] = _fill(above[odd])
    return result


def _fill(above):
    """:func:`_connected` for stamps of any form; scipy would take longer to be imported."""
    own, middle, count = np.zeros_like(above), above.shape[1] // 2, -1
    own[:, middle, middle] = above[:, middle, middle]
    while count != (count := np.count_nonzero(own)):
        rows = own.copy()
        rows[:, 1:] |= own[:, :-1]
        rows[:, :-1] |= own[:, 1:]
        own = rows & above
        own[:, :, 1:] |= rows[:, :, :-1]
        own[:, :, :-1] |= rows[:, :, 1:]
        own &= above
    return own


def _above_half(sources, height):
    with np.errstate(invalid="ignore"):
        return sources > (0.5 * height[:, None, None]).astype(sources.dtype)


class _Stamps(NamedTuple):
    """Stamps (n, k, k) float32 without each source, and of its model: their sum is the source alone."""

    residual: np.ndarray
    model: np.ndarray


def _own_stamps(image, place, template, half, subtracted):
    """:class:`_Stamps` of sources (y, x, height)."""
    y, x, height = place
    residual = stamps.around(image, y, x, half, outside=np.nan)
    model = templates.patches(template, y - np.rint(y), x - np.rint(x), y, half, amplitude=height)
    there = np.flatnonzero(~subtracted)
    residual[there] -= model[there]
    return _Stamps(residual, model)


def _curvature_shape(image, peaks, template, subtracted):
    """Width ratio and elongation from the second derivatives at the peak; NaN where they cannot be read."""
    y, x, height = peaks[:3]
    reference = templates.pixel_curvature(template, y)
    yy, yx, xx = reading.sample(image, y, x, template, 2)[3:]
    matrix = -np.stack([yy, yx, yx, xx], -1).reshape(-1, 2, 2) / np.maximum(height, 1e-3)[:, None, None]
    matrix = matrix + np.where(subtracted[:, None, None], reference, 0)
    known = np.isfinite(matrix).all(axis=(1, 2))
    width, elongation = shape_against(np.where(known[:, None, None], matrix, reference), reference)
    return np.where(known, width, np.nan), np.where(known, elongation, np.nan)


def _chi2_points(template, band):
    row, half = float(template.row_edges[band]), stamp_half(template, band)
    fwhm_pix = templates.fwhm_arcmin(template, row) / np.asarray(template.step_arcmin[band])
    axes = [
        s * np.arange(-(half // s), half // s + 1) for s in np.maximum(np.rint(_SPACING_FWHM * fwhm_pix), 1).astype(int)
    ]
    dy, dx = (grid.ravel() for grid in np.meshgrid(*axes, indexing="ij"))
    near = np.hypot(dy / fwhm_pix[0], dx / fwhm_pix[1]) <= RADIUS_FWHM
    dy, dx = dy[near], dx[near]
    lags = np.subtract.outer(dy, dy), np.subtract.outer(dx, dx)
    variance, vectors = np.linalg.eigh(templates.evaluate_pixels(template, *lags, row))
    fitted = _fitted_part(template, dy, dx, row)
    expected = variance - np.einsum("ka,kl,la->a", vectors, fitted, vectors)
    return _Points(np.stack([dy, dx]), np.maximum(variance, 0), np.maximum(expected, 0), vectors)


def _fitted_part(template, dy, dx, row):
    """Covariance (k, k) at the points of the noise that goes into the height and position of a source."""
    value, along_y, along_x = (
        templates.evaluate_pixels(template, dy, dx, row, orders=o) for o in ((0, 0), (1, 0), (0, 1))
    )
    slopes = np.stack([along_y, along_x])
    inverse = np.linalg.inv(templates.pixel_curvature(template, [row])[0])
    return np.outer(value, value) + slopes.T @ inverse @ slopes


def _chi2(residual, height, points, template_err):
    middle = residual.shape[1] // 2
    values = residual[:, middle + points.offsets[0], middle + points.offsets[1]]
    valid = np.isfinite(values)
    projected = np.where(valid, values, 0) @ points.vectors
    model = np.square(template_err * height)[:, None]
    variance = points.variance + _FLOOR + model
    expected = np.sum((points.expected + model) / variance, axis=1) * valid.mean(axis=1)
    return np.sum(projected**2 / variance, axis=1) / np.maximum(expected, 1e-3)
