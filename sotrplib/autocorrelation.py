"""Autocorrelation of the noise of an image with missing pixels, which is the template of a filtered map."""

import numpy as np

from sotrplib.template import Template

_CLEAR = 9.0  # deviations count from this many times the mean square of the scatter on


def near_peaks(image, threshold, radius):
    """Pixels within a square of half size ``radius`` around one whose absolute value is above ``threshold``."""
    from scipy.ndimage import maximum_filter

    return maximum_filter((np.abs(image) > threshold).view("u1"), size=2 * radius + 1).astype(bool)


def measure(image, good, half, step=(1.0, 1.0)):
    """Measure the autocorrelation of an image of zero mean, 1 at no shift.

    The sum of products of good pixels at every shift is divided by the number of such pairs, the
    autocorrelation of ``good``. Noise of the estimate is reduced by keeping means over rings whole and the
    deviation from them only as far as it exceeds its scatter far out.

    Parameters
    ----------
    image : array (ny, nx)
        Any value where not good.
    good : array (ny, nx) bool
    half : int
        Largest shift.
    step : (float, float)
        Size of a pixel along y and x, any unit.

    Returns
    -------
    array (2 half + 1, 2 half + 1)
    """
    return _smooth(correlate(image, good, half), step)


def correlate(image, good, half):
    """Plain autocorrelation at shifts up to ``half`` along both axes, 1 at no shift (see :func:`measure`)."""
    from scipy import fft

    shape = [fft.next_fast_len(n + half, real=True) for n in image.shape]
    sums = []
    for part in (np.where(good, image, 0).astype("f4"), good.astype("f4")):
        power = np.abs(fft.rfft2(part, shape)) ** 2
        shifted = np.roll(fft.irfft2(power, shape), (half, half), (0, 1))
        sums.append(shifted[: 2 * half + 1, : 2 * half + 1].astype("f8"))
    values = sums[0] / np.maximum(sums[1], 1)
    return values / values[half, half]


def _smooth(values, step):
    """Means over rings, plus the deviation from them where it clearly exceeds the scatter far out.

    The scatter has the correlation length of A itself: what little of it is kept makes false sources around a
    bright one, at its significance times the scatter.
    """
    from scipy.ndimage import uniform_filter

    half = len(values) // 2
    axis = np.arange(-half, half + 1)
    radius = np.hypot(axis[:, None] * step[0], axis * step[1]) / max(step)
    smooth = _ring_means(values, radius)
    deviation = values - smooth
    scatter = np.var(deviation[(radius > 0.75 * half) & (radius <= half)])
    power = uniform_filter(deviation**2, 5)
    result = smooth + deviation * np.clip(1 - _CLEAR * scatter / np.maximum(power, 1e-12), 0, 1)
    result[half, half] = 1
    return result


def _ring_means(values, radius):
    """Means in rings half a pixel wide at their mean radius, joined linearly; the corners are one ring."""
    rings = np.minimum(np.rint(2 * radius).astype(int), len(values) - 1).ravel()
    counts = np.bincount(rings)
    used = counts > 0
    means, centres = (np.bincount(rings, part.ravel())[used] / counts[used] for part in (values, radius))
    return np.interp(radius, centres, means)


def measure_template(snr, mask, step_arcmin, *, row_edges=None, half_size=32, clip=5.0):
    """Measure the template from the noise of a map that arrives already filtered.

    The noise of rho/sqrt(kappa) has covariance A, so A is its autocorrelation (:func:`measure`).

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
        good &= ~near_peaks(np.where(good, snr, 0), level, radius)
    bands = []
    for low, high, size in zip(edges[:-1], edges[1:], step, strict=True):
        if np.count_nonzero(good[low:high]) <= (2 * half_size + 1) ** 2:
            raise ValueError(
                f"template: rows {low} to {high} have {np.count_nonzero(good[low:high])} usable pixels; more than "
                f"{(2 * half_size + 1) ** 2} are needed: use fewer bands, a smaller half_size or the beam instead"
            )
        bands.append(measure(snr[low:high], good[low:high], half_size, size))
    return Template(np.array(bands, "f4"), edges, step)
