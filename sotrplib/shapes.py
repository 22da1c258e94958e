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
    y, x, height = peaks[:3]
    width, elongation = _curvature_shape(image, peaks, template, subtracted)
    chi2, n_pixels = np.full(len(y), np.nan), np.zeros(len(y), int)
    bands = templates.band_of(template, y)
    for band in np.unique(bands):
        index = np.flatnonzero(bands == band)
        points, half = _chi2_points(template, band), stamp_half(template, band)
        for part in np.array_split(index, max(1, -(-len(index) // _BLOCK))):
            own = _own_stamps(image, (y[part], x[part], height[part]), template, half, subtracted[part])
            chi2[part] = _chi2(own.residual, height[part], points, template_err)
            n_pixels[part] = count_above_half(own.source, height[part])
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
    y, x, height = peaks[:3]
    shape = np.full((2, len(y)), np.nan)
    bands = templates.band_of(template, y)
    for band in np.unique(bands):
        index, half = np.flatnonzero(bands == band), stamp_half(template, band)
        for part in np.array_split(index, max(1, -(-len(index) // _BLOCK))):
            own = _own_stamps(image, (y[part], x[part], height[part]), template, half, subtracted[part])
            pair = [_island_moments(pixels, height[part]) for pixels in (own.source, own.source - own.residual)]
            shape[:, part] = moments_against(*pair)
    return Islands(*shape)


def moments_against(moments, reference):
    """Width ratio and elongation (n,) of second moments (n, 2, 2) against others; NaN where either has no extent."""
    known = [np.isfinite(m).all(axis=(1, 2)) & (np.linalg.det(np.nan_to_num(m)) > 0) for m in (moments, reference)]
    known = known[0] & known[1]
    inverse = [np.linalg.inv(np.where(known[:, None, None], m, np.eye(2))) for m in (moments, reference)]
    return np.where(known, shape_against(*inverse), np.nan)


def _island_moments(sources, height):
    """Second moments (n, 2, 2), [yy, yx, xx], of the pixels above half of ``height`` around the middle of stamps.

    The covariance of photutils' SourceCatalog, which a test compares; importing it would take several times as long as
    a whole search. Islands thinner than a pixel are widened by the variance of a pixel, 1/12, as there.
    """
    above = _above_half(sources, height)
    inner, crosses = _inner(above)
    moments = _moments(sources[:, inner, inner], above[:, inner, inner])
    moments[crosses] = _moments(sources[crosses], above[crosses])
    return moments


def _moments(sources, above):
    """Second moments (n, 2, 2) of the pixels ``above`` that are connected to the middle of each stamp (n, k, k)."""
    labels = _label_stamps(above)
    middle = sources.shape[1] // 2
    own = (labels == labels[:, middle, middle][:, None, None]) & (labels > 0)
    weight = np.where(own, sources, 0)
    total = weight.sum(axis=(1, 2))
    weight /= np.where(total > 0, total, np.nan)[:, None, None]
    axis = np.arange(sources.shape[1])
    offsets = [axis - np.einsum(f"nij,{k}->n", weight, axis)[:, None] for k in "ij"]
    yy, xx = (np.einsum(f"nij,n{k}->n", weight, d**2) for k, d in zip("ij", offsets, strict=True))
    yx = np.einsum("nij,ni,nj->n", weight, *offsets)
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
    root = np.linalg.inv(np.linalg.cholesky(reference))
    ratio = np.linalg.eigvalsh(root @ matrix @ np.swapaxes(root, -1, -2))
    low, high = np.maximum(ratio, _NARROWEST).T
    return (low * high) ** -0.25, np.sqrt(high / low)


def stamp_half(template, band):
    """Half size in pixels of the stamps shapes are measured on."""
    width = templates.fwhm_arcmin(template, float(template.row_edges[band]))
    half = int(np.ceil(RADIUS_FWHM * width / np.min(template.step_arcmin[band])))
    return max(min(half, templates.half_size(template)), 1)


def count_above_half(sources, height):
    """Connected pixels above half of ``height`` around the middle of each stamp (n, k, k)."""
    above = _above_half(sources, height)
    inner, crosses = _inner(above)
    counts = _count_connected(above[:, inner, inner])
    counts[crosses] = _count_connected(above[crosses])
    return counts


def _inner(above):
    """Slice of the inner half of stamps (n, k, k), and whether any pixel of its border is ``above``, (n,)."""
    middle = above.shape[1] // 2
    low, high = middle - middle // 2, middle + middle // 2
    sides = (
        above[:, low, low : high + 1],
        above[:, high, low : high + 1],
        above[:, low : high + 1, low],
        above[:, low : high + 1, high],
    )
    return slice(low, high + 1), np.any([side.any(axis=1) for side in sides], axis=0)


def _count_connected(above):
    """Number of pixels of each stamp (n, k, k) bool connected to the one in its middle."""
    labels, middle = _label_stamps(above), above.shape[1] // 2
    sizes = np.bincount(labels.ravel(), minlength=1)
    sizes[0] = 0
    return sizes[labels[:, middle, middle]]


def _above_half(sources, height):
    with np.errstate(invalid="ignore"):
        return sources > (0.5 * height[:, None, None]).astype(sources.dtype)


def _label_stamps(above):
    """Labels of the connected pixels in each stamp (n, k, k) bool, 0 elsewhere."""
    from scipy import ndimage

    in_plane = np.zeros((3, 3, 3), int)
    in_plane[1] = 1
    return ndimage.label(above, in_plane)[0]


class _Stamps(NamedTuple):
    residual: np.ndarray
    source: np.ndarray


def _own_stamps(image, place, template, half, subtracted):
    """Stamps of each source (y, x, height) alone, and of what is left without it."""
    y, x, height = place
    pixels = stamps.around(image, y, x, half, outside=np.nan)
    model = templates.patches(template, y - np.rint(y), x - np.rint(x), y, half)
    model = np.multiply(model, height[:, None, None], dtype=pixels.dtype, casting="same_kind")
    with_it, without = pixels.copy(), pixels
    with_it[subtracted] += model[subtracted]
    without[~subtracted] -= model[~subtracted]
    return _Stamps(without, with_it)


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
