"""Masks: where a map is unobserved, near its edge or under a planet.

Every mask is boolean and true where a pixel is NOT to be used, as the bits of :data:`tables.MASK_BITS`; only arrays
named ``observed`` are true where there is data.
"""

import numpy as np

from sotrplib import geometry, outlines, stamps
from sotrplib.units import ARCMIN

_MEDIAN_SAMPLES = 1_000_000
_REFERENCES = {"median": 50, "percentile": 95, "max": 100}  # percentiles of the weights
_BLOCK_ROWS = 64  # looked at at a time, few enough to stay in the cache
_SLACK = 1.5  # windows of discs are larger by this, for projections whose scale changes along a row


def unobserved_mask(kappa):
    """Pixels without data: kappa (or any weight) that is not positive."""
    return ~(kappa > 0)


def clean_kappa(kappa, fraction, *, reference="median"):
    """Weight with its unreliable pixels set to 0.

    Parameters
    ----------
    kappa : array (ny, nx)
        Weight of any kind, 0 where unobserved.
    fraction : float
        Pixels below this fraction of the reference are set to 0.
    reference : {"median", "percentile", "max"}
        Of the observed pixels; percentile is the 95th.

    Returns
    -------
    array (ny, nx)
        A new array, or ``kappa`` itself if all of it stays. The reference is that of a regular sample of about a
        million pixels of larger maps.
    """
    step = sample_step(kappa.size)
    sample = kappa[::step, ::step]
    return drop_below(kappa, lowest_kappa(sample[sample > 0], fraction, reference=reference))


def sample_step(n_pixels):
    """Pixels from one to the next, along both axes, of a regular sample of about a million of so many."""
    return max(1, int(np.sqrt(n_pixels / _MEDIAN_SAMPLES)))


def lowest_kappa(observed, fraction, *, reference="median"):
    """Smallest weight that is reliable, from a sample (n,) of those of observed pixels; see :func:`clean_kappa`."""
    return fraction * np.percentile(observed, _REFERENCES[reference]) if observed.size else 0.0


def drop_below(kappa, level):
    """Weight (ny, nx) with what is below a level set to 0: a new array, or ``kappa`` itself if all of it stays."""
    result = kappa
    for start in range(0, len(kappa), _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        low = ~(kappa[rows] >= max(level, 0)) & (kappa[rows] != 0)
        if low.any():
            result = kappa.copy() if result is kappa else result
            result[rows][low] = 0
    return result


def edge_mask(observed, wcs, distance_arcmin, *, holes=True):
    """Observed pixels close to unobserved sky.

    Parameters
    ----------
    observed : array (ny, nx) bool
    wcs : astropy.wcs.WCS
    distance_arcmin : float
        Pixels whose centre is nearer than this to the centre of an unobserved pixel are masked. Beyond the border of
        the map all is unobserved, except that a map of a full turn in RA continues on its other side.
    holes : bool
        Whether unobserved pixels enclosed by data count.

    Returns
    -------
    array (ny, nx) bool
        Unobserved pixels themselves are not in it.
    """
    shape = observed.shape
    if not distance_arcmin > 0:
        return np.zeros(shape, bool)
    dy, dx = geometry.pixel_scales(shape, wcs)
    filled = observed if holes else observed | find_holes(observed)
    y, x = _rim(filled, np.asarray, _full_turn(shape, wcs))
    if _full_turn(shape, wcs):
        y, x = np.repeat(y, 3), (x[:, None] + np.array([-shape[1], 0, shape[1]])).ravel()
    reach, result = int(distance_arcmin / dy.min()), np.empty(shape, bool)
    for start in range(0, shape[0], _BLOCK_ROWS):
        block = slice(start, min(start + _BLOCK_ROWS, shape[0]))
        change = np.zeros((block.stop - block.start, shape[1] + 1), np.int32)
        for step in range(-reach, reach + 1):
            near = slice(*np.searchsorted(y, [block.start - step, block.stop - step]))
            low, high, rows = _runs(y[near] + step, x[near], distance_arcmin, step, (dy, dx), shape)
            np.add.at(change, (rows - block.start, low), 1)
            np.add.at(change, (rows - block.start, high), -1)
        np.logical_and(np.cumsum(change, axis=1, out=change)[:, :-1] > 0, observed[block], out=result[block])
    return result


def distance_to_bad_arcmin(bad, wcs, y, x, *, bits=None):
    """Distance of positions to the nearest bad pixel.

    Parameters
    ----------
    bad : array (ny, nx)
        Not 0 at pixels that are unobserved or masked; all beyond the border of the map is bad too, except that a map of
        a full turn in RA continues on its other side.
    wcs : astropy.wcs.WCS
    y, x : array (n,)
        Pixel coordinates.
    bits : int, optional
        Those of ``bad`` that count, default all.

    Returns
    -------
    array (n,)
        Arcmin from the position to the centre of that pixel; 0 on a bad pixel and off the map, inf if no pixel is bad.
    """
    y, x = np.atleast_1d(np.asarray(y, float)), np.atleast_1d(np.asarray(x, float))
    is_good = _test_of(bits)
    good = geometry.inside(bad.shape, y, x)
    good[good] = is_good(bad[np.floor(y[good] + 0.5).astype(int), np.floor(x[good] + 0.5).astype(int)])
    return distance_to_rim_arcmin(find_rim(bad, wcs, bits=bits), wcs, y, x, good=good)


def find_rim(bad, wcs, *, bits=None):
    """Bad pixels next to a good one, those just beyond the border included: rows and columns, arrays (n,) int.

    ``bad``, ``wcs`` and ``bits`` as of :func:`distance_to_bad_arcmin`.
    """
    return _rim(bad, _test_of(bits), _full_turn(bad.shape, wcs))


def _test_of(bits):
    """Function that tells which pixels of a mask are good; True where all of them are."""

    def is_good(pixels):
        if not pixels.any():
            return True
        return np.logical_not(pixels) if bits is None else pixels & pixels.dtype.type(bits) == 0

    return is_good


def distance_to_rim_arcmin(rim, wcs, y, x, *, good):
    """:func:`distance_to_bad_arcmin` from what :func:`find_rim` gave; ``good`` (n,) bool: positions on good pixels."""
    row, column = rim
    rim = geometry.unit_vectors(*geometry.pix2sky(wcs, row, column))
    seen = np.isfinite(rim).all(axis=1)
    position = geometry.unit_vectors(*geometry.pix2sky(wcs, y, x))
    good = good & np.isfinite(position).all(axis=1)
    distance = np.where(good, np.inf, 0.0)
    if good.any() and seen.any():
        chord = outlines.nearest(position[good], rim[seen], (row[seen], column[seen]))
        distance[good] = 2 * np.arcsin(np.minimum(chord / 2, 1)) / ARCMIN
    return distance


def unobserved_within(kappa, wcs, y, x, radius_arcmin):
    """Whether a pixel without data, or one off the map, lies within a radius (n,) of each position on a map.

    Pixels are taken to be as large as those of the nearest row.
    """
    if not len(y):
        return np.zeros(0, bool)
    row, column = np.rint(y).astype(int), np.rint(x).astype(int)
    dy, dx = (step[row] for step in geometry.pixel_scales(kappa.shape, wcs))
    half = int(np.ceil(np.max(radius_arcmin / np.minimum(dy, dx))))
    axis = np.arange(-half, half + 1)
    across = (axis + (row - y)[:, None]) * dy[:, None], (axis + (column - x)[:, None]) * dx[:, None]
    inside = np.hypot(across[0][:, :, None], across[1][:, None, :]) < radius_arcmin[:, None, None]
    return (inside & ~(stamps.around(kappa, y, x, half) > 0)).any(axis=(1, 2))


def find_holes(observed):
    """Unobserved pixels enclosed by data: those not connected to the border of the map, over edges or corners."""
    labels, outside = _label_holes(observed)
    return ~outside[labels]


def small_holes(observed, wcs, diameter_arcmin):
    """Unobserved pixels of the holes (:func:`find_holes`) that are less wide and high than a diameter."""
    if not diameter_arcmin > 0 or observed.all():
        return np.zeros(observed.shape, bool)
    from scipy.ndimage import find_objects

    labels, outside = _label_holes(observed)
    dy, dx = geometry.pixel_scales(observed.shape, wcs)
    small = ~outside
    for index, window in enumerate(find_objects(labels), 1):
        height, width = dy[window[0]].sum(), np.max(dx[window[0]]) * (window[1].stop - window[1].start)
        small[index] &= max(height, width) < diameter_arcmin
    return small[labels]


def _label_holes(observed):
    """Labels of the connected unobserved pixels, 0 where observed, and which labels reach the border (or are 0)."""
    from scipy.ndimage import label

    labels, count = label(~observed, structure=np.ones((3, 3)))
    outside = np.zeros(count + 1, bool)
    outside[0] = True
    for border in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        outside[border] = True
    return labels, outside


def disc_mask(shape, wcs, ra_deg, dec_deg, radius_arcmin):
    """Pixels whose centre lies within discs on the sky.

    Parameters
    ----------
    shape, wcs
        Of the map.
    ra_deg, dec_deg : array (n,)
        Centres, which may lie off the map.
    radius_arcmin : float or array (n,)

    Returns
    -------
    array (ny, nx) bool
    """
    mask = np.zeros(shape, bool)
    discs = np.broadcast_arrays(*(np.atleast_1d(np.asarray(v, float)) for v in (ra_deg, dec_deg, radius_arcmin)))
    scales = geometry.pixel_scales(shape, wcs)
    y, x = geometry.sky2pix(wcs, discs[0], discs[1], shape)
    visible = np.isfinite(y) & np.isfinite(x) & (discs[2] >= 0)
    for ra, dec, radius, row, column in np.transpose([*discs, y, x])[visible]:
        for window in _disc_windows(shape, wcs, scales, (radius, row, column)):
            grid_y, grid_x = np.arange(window[0].start, window[0].stop), np.arange(window[1].start, window[1].stop)
            sky = geometry.pix2sky(wcs, grid_y[:, None], grid_x)
            mask[window] |= geometry.separation_arcsec(*sky, ra, dec) <= radius * 60
    return mask


def _full_turn(shape, wcs):
    period = geometry.column_period(wcs)
    return period is not None and shape[1] >= period - 0.5


def _rim(image, is_observed, full_turn):
    """Unobserved pixels (y, x) next to an observed one, those just beyond the border included, in order of rows.

    ``is_observed`` makes what is observed out of some rows of ``image``, True if all is.
    """
    ny, nx = image.shape
    found = []
    for row in range(0, ny + 1, _BLOCK_ROWS):
        rows = slice(row - 1, min(row + _BLOCK_ROWS, ny + 1))
        inside = slice(max(rows.start, 0), min(rows.stop, ny))
        observed = is_observed(image[inside])
        if inside != rows or not np.all(observed):
            padded = np.zeros((rows.stop - rows.start, nx + 2), bool)
            padded[inside.start - rows.start : inside.stop - rows.start, 1:-1] = observed
            found.append(_rim_of_rows(padded, full_turn) + row * (nx + 2))
        elif not full_turn:
            found.append((np.arange(row, row + rows.stop - rows.start)[:, None] * (nx + 2) + [0, nx + 1]).ravel())
    index = np.sort(np.concatenate(found))
    y, x = np.divmod(index[np.append(True, np.diff(index) > 0)[: len(index)]], nx + 2)
    return y - 1, x - 1


def _rim_of_rows(padded, full_turn):
    """Flat index of the unobserved pixels beside observed ones, of rows with a column to spare on both sides."""
    if full_turn:
        padded[:, 0], padded[:, -1] = padded[:, -2], padded[:, 1]
    flat, found = padded.ravel(), []
    for step in (1, padded.shape[1]):
        changes = np.flatnonzero(flat[step:] != flat[:-step])
        found.append(changes + np.where(flat[changes], step, 0))
    return np.concatenate(found)


def _runs(rows, columns, distance, step, scales, shape):
    """First and last-plus-one column, and row, of the pixels nearer than ``distance`` to pixels ``step`` rows away."""
    on_map = (rows >= 0) & (rows < shape[0])
    rows, columns = rows[on_map], columns[on_map]
    dy, dx = scales[0][rows], scales[1][rows]
    across = np.sqrt(np.maximum(distance**2 - (step * dy) ** 2, 0))
    half = np.ceil(np.minimum(across / np.maximum(dx, 1e-9), 2 * shape[1])).astype(int) - 1
    near = half >= 0
    low, high = columns - half, columns + half + 1
    low, high = np.clip(low[near], 0, shape[1]), np.clip(high[near], 0, shape[1])
    return low, high, rows[near]


def _disc_windows(shape, wcs, scales, disc):
    """Windows of the map that hold a disc (radius, row, column), one for each turn of the sky it may show up in."""
    radius, row, column = disc
    half_y = _SLACK * radius / scales[0].min() + 1
    rows = slice(*np.clip([row - half_y, row + half_y + 2], 0, shape[0]).astype(int))
    if rows.start >= rows.stop:
        return []
    half_x = _SLACK * radius / max(scales[1][rows].min(), 1e-9) + 1
    period = geometry.column_period(wcs)
    shifts = np.array([0.0]) if period is None else np.array([-period, 0.0, period])
    first = np.clip(column + shifts - half_x, 0, shape[1]).astype(int)
    last = np.clip(column + shifts + half_x + 2, 0, shape[1]).astype(int)
    return [(rows, slice(low, high)) for low, high in zip(first, last, strict=True) if low < high]
