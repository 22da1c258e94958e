"""A filtered map on the pixels of another grid: moved by its pointing, cut out across RA 0, or in another projection.

What is moved is s = rho / sqrt(kappa), with the Wiener weights that follow from the template (:mod:`template`), and
the depth sqrt(kappa), linearly. A moved pixel is what forced photometry reads at its centre: rho / kappa is the flux
of a source there and kappa**-0.5 its error. The weights lose nothing that the pixels hold; what pixels too coarse for
the beam do not hold makes a source lower by a known factor (1e-4 at 0.5' and f150, 4e-3 at f280), which is made good.
Where a map is moved by whole pixels they are copied; where each row is moved by one amount, which a constant pointing
offset does, rows and columns are interpolated one after the other; everything else is read pixel by pixel.
"""

from typing import NamedTuple

import numpy as np

from sotrplib import geometry, reading, workers
from sotrplib import template as templates

ALIGNED_PIX = 2e-3  # positions this close to those of whole pixels, or of other pixels of the row, count as equal
_FRAME_STEPS = 33  # points along each side of a map that tell which part of the grid it covers
_MARGIN_PIX = 4
_BLOCK = 200_000
_BLOCK_ROWS = 64  # rows interpolated at a time, few enough to stay in the cache
_N_TAPS = templates.N_TAPS


class Grid(NamedTuple):
    """Pixels of a map: shape (ny, nx) and WCS."""

    shape: tuple
    wcs: object


class Layer(NamedTuple):
    """A map on the part of a grid that it covers.

    ``rows`` is a slice of the grid's rows, ``columns`` (n,) the numbers of its columns. rho, kappa (mJy^-1, mJy^-2, 0
    where unobserved), time (as that of the map, NaN where unknown; None without) and mask (bits of
    :data:`tables.MASK_BITS`) are arrays (n rows, n columns).
    """

    rows: slice
    columns: np.ndarray
    rho: np.ndarray
    kappa: np.ndarray
    time: np.ndarray | None
    mask: np.ndarray


def union_grid(grids):
    """Smallest grid with the pixels of the first of some grids that covers all of them, also across RA 0."""
    first = grids[0]
    period = geometry.column_period(first.wcs)
    rows, columns = (np.array(limits) for limits in zip(*(_frame(grid, first) for grid in grids), strict=True))
    low, high = np.floor(columns[:, 0].min()), np.ceil(columns[:, 1].max())
    if period is not None and high - low + 1 > period:
        high = low + round(period) - 1
    window = slice(int(np.floor(rows[:, 0].min())), int(np.ceil(rows[:, 1].max())) + 1), slice(int(low), int(high) + 1)
    wcs = geometry.slice_wcs(first.wcs, window)
    return Grid(wcs.array_shape, wcs)


def resample(sky_map, grid, usable, move=None):
    """Put a map on a grid.

    Parameters
    ----------
    sky_map : maps.SkyMap
    grid : Grid
    usable : array (ny, nx) bool
        Pixels of the map that may be used; others still help to interpolate if they are observed.
    move : function, optional
        (ra_deg, dec_deg) of true positions to their offsets (dra_arcsec, ddec_arcsec) in the map, measured minus true.

    Returns
    -------
    Layer or None
        None where the map and the grid have nothing in common.

    Notes
    -----
    A pixel is unobserved where the nearest of the map is not usable and, between pixels, where one of the 8 x 8 around
    it is unobserved.
    """
    window, period = _covered(sky_map, grid), geometry.column_period(grid.wcs)
    if window is None:
        return None
    rows, columns = window
    locate = locator(sky_map, grid, move)
    moved = _row_shifts(locate, rows, columns)
    images = _by_pixels(sky_map, usable, locate, rows, columns) if moved is None else _by_rows(sky_map, usable, *moved)
    if period is None:
        return Layer(rows, columns, *images)
    columns = np.mod(columns, round(period))
    inside = columns < grid.shape[1]
    if inside.all():
        return Layer(rows, columns, *images)
    return Layer(rows, columns[inside], *(None if image is None else image[:, inside] for image in images))


def locator(sky_map, grid, move=None):
    """Function (y, x) of grid pixels to those of a map, parameters as of :func:`resample`."""

    def locate(y, x):
        ra, dec = geometry.pix2sky(grid.wcs, y, x)
        ra, dec = (ra, dec) if move is None else geometry.offset_position(ra, dec, *move(ra, dec))
        return geometry.sky2pix(sky_map.wcs, ra, dec, sky_map.rho.shape)

    return locate


# ---- which part of the grid ------------------------------------------------------------------------------------------


def _frame(grid, other):
    """Limits of the rows and of the columns (unwrapped) of ``other`` that a grid covers: two pairs, pixel centres."""
    nx, period = grid.shape[1], geometry.column_period(other.wcs)
    y, x = np.meshgrid(*(np.linspace(-0.5, n - 0.5, _FRAME_STEPS) for n in grid.shape), indexing="ij")
    rows, columns = geometry.sky2pix(other.wcs, *geometry.pix2sky(grid.wcs, y, x), other.shape)
    if not np.isfinite(rows).any():
        return (np.nan, np.nan), (np.nan, np.nan)
    if period is not None:
        if geometry.column_period(grid.wcs) is not None and nx >= geometry.column_period(grid.wcs) - 1:
            middle = (other.shape[1] - 1) / 2
            columns = np.array([middle - period / 2, middle + period / 2 - 1])
        else:
            middle = columns[_FRAME_STEPS // 2, _FRAME_STEPS // 2]
            columns = middle + np.mod(columns - middle + period / 2, period) - period / 2
    return tuple((float(np.nanmin(p) + 0.5), float(np.nanmax(p) - 0.5)) for p in (rows, columns))


def _covered(sky_map, grid):
    """Rows (slice) and columns (numbers, unwrapped) of the grid that a map may cover, or None."""
    ny, nx = grid.shape
    (top, bottom), (left, right) = _frame(Grid(sky_map.rho.shape, sky_map.wcs), grid)
    if not np.isfinite([top, left]).all():
        return None
    rows = slice(max(int(np.floor(top)) - _MARGIN_PIX, 0), min(int(np.ceil(bottom)) + _MARGIN_PIX + 1, ny))
    columns = np.arange(int(np.floor(left)) - _MARGIN_PIX, int(np.ceil(right)) + _MARGIN_PIX + 1)
    period = geometry.column_period(grid.wcs)
    on_grid = columns if period is None else np.mod(columns, round(period))
    columns = columns[(on_grid >= 0) & (on_grid < nx)] if period is None else columns[: round(period)]
    if not ((on_grid >= 0) & (on_grid < nx)).any():
        return None
    return (rows, columns) if rows.stop > rows.start and columns.size else None


def _row_shifts(locate, rows, columns):
    """For a map moved row by row: row of the map for each row of the grid, column for the first column; else None."""
    y, x = np.arange(rows.start, rows.stop), columns[0] + np.array([0, len(columns) // 2, len(columns) - 1])
    few = y[np.unique(np.linspace(0, len(y) - 1, _FRAME_STEPS).astype(int))]
    sample_y, sample_x = locate(few[:, None], x)
    steps = sample_x - x
    if not (np.ptp(sample_y, axis=1) < ALIGNED_PIX).all() or not (np.ptp(steps, axis=1) < ALIGNED_PIX).all():
        return None
    at_y, at_x = locate(y, x[1])
    return at_y, at_x - (x[1] - x[0]), len(columns)


# ---- row by row ------------------------------------------------------------------------------------------------------


def _by_rows(sky_map, usable, y, x, n_columns):
    """rho, kappa, time and mask where grid row r is row y[r] of the map and its first column x[r]."""
    aligned = max(np.abs(p - np.rint(p)).max() for p in (y, x)) < ALIGNED_PIX
    fields = None if aligned else _fields_between(sky_map)
    size, time = (len(y), n_columns), sky_map.time
    rho, kappa, mask = (np.empty(size, kind) for kind in ("f4", "f4", "u1"))
    time = None if time is None else np.empty(size, time.dtype)

    def fill(start):
        part = slice(start, start + _BLOCK_ROWS)
        at = np.rint(y[part]).astype(int), np.rint(x[part]).astype(int)
        near, mask[part] = (_take(image, at, n_columns, 0) for image in (usable, sky_map.mask))
        if time is not None:
            time[part] = _take(sky_map.time, at, n_columns, np.nan)
        if aligned:
            images = (_take(image, at, n_columns, 0) for image in (sky_map.rho, sky_map.kappa))
            rho[part], kappa[part] = (np.where(near, image, np.float32(0)) for image in images)
        else:
            rho[part], kappa[part] = _between(sky_map.template, fields, near, y[part], x[part])

    workers.in_threads(fill, range(0, len(y), _BLOCK_ROWS))
    return rho, kappa, time, mask


def _fields_between(sky_map):
    """What is interpolated of a map: rho / sqrt(kappa), sqrt(kappa), and whether all pixels around are observed."""
    depth = np.sqrt(np.maximum(sky_map.kappa, 0))
    s = np.divide(sky_map.rho, depth, out=np.zeros_like(depth), where=depth > 0)
    return s, depth, _complete(sky_map.kappa > 0)


def _between(template, fields, near, y, x):
    """rho and kappa of rows between those of a map; ``near`` is where the nearest pixel may be used."""
    s, depth, complete = fields
    low, n_columns = (np.floor(y).astype(int), np.floor(x).astype(int)), near.shape[1]
    whole = near & _take(complete, low, n_columns, False)
    weights = [reading.tap_weights(template, y, position, axis) for axis, position in enumerate((y, x))]
    linear = [np.stack([1 - p % 1, p % 1], 1) for p in (y, x)]
    s, depth = _interpolate(s, low, weights, n_columns), _interpolate(depth, low, linear, n_columns)
    response = np.sqrt(reading.response(template, y, x)).astype("f4")[:, None]
    depth = np.where(whole, depth * response, np.float32(0))
    return np.where(whole, s / response, 0).astype("f4") * depth, depth**2


def _take(image, low, n_columns, fill):
    """Rows ``low[0]`` of an image from their columns ``low[1]`` on, ``fill`` off it."""
    return _take_columns(_take_rows(image, low[0], fill), low[1], n_columns, fill)


def _interpolate(image, low, weights, n_columns):
    """Weighted sums of the taps around the pixels ``low`` (rows, first columns), weights (n rows, n taps) for each."""
    first = [p - (w.shape[1] // 2 - 1) for p, w in zip(low, weights, strict=True)]
    by_y, by_x = (w.astype("f4").T[:, :, None] for w in weights)
    rows = _weighted_sum(by_y, (_take_rows(image, first[0] + k, 0) for k in range(len(by_y))))
    return _weighted_sum(by_x, (_take_columns(rows, first[1] + k, n_columns, 0) for k in range(len(by_x))))


def _weighted_sum(weights, images):
    """Sum of images times their weights, in two arrays, with no new one for each tap."""
    pairs = zip(weights, images, strict=True)
    total = np.multiply(*next(pairs))
    product = np.empty_like(total)
    for weight, image in pairs:
        total += np.multiply(weight, image, out=product)
    return total


def _take_rows(image, rows, fill):
    """Rows of an image, ``fill`` off it; a view where they follow each other on it."""
    if rows[0] >= 0 and rows[-1] < len(image) and (np.diff(rows) == 1).all():
        return image[rows[0] : rows[-1] + 1]
    taken = image[np.clip(rows, 0, len(image) - 1)]
    taken[(rows < 0) | (rows >= len(image))] = fill
    return taken


def _take_columns(image, first, count, fill):
    """``count`` columns of each row from the column ``first`` (n rows,) on, ``fill`` off the image.

    A view where all rows begin at the same column and end on the image.
    """
    if 0 <= first[0] <= image.shape[1] - count and (first == first[0]).all():
        return image[:, first[0] : first[0] + count]
    taken = np.full((len(image), count), fill, image.dtype)
    for start in np.unique(first):
        chosen, low, high = first == start, max(start, 0), min(start + count, image.shape[1])
        if high > low:
            taken[chosen, low - start : high - start] = image[chosen, low:high]
    return taken


def _complete(observed):
    """Whether the pixels -3 to +4 around each are all observed."""
    from scipy.ndimage import minimum_filter

    return minimum_filter(observed.view("u1"), _N_TAPS, mode="constant", origin=-1).astype(bool)


# ---- pixel by pixel --------------------------------------------------------------------------------------------------


def _by_pixels(sky_map, usable, locate, rows, columns):
    """rho, kappa, time and mask on the grid's rows and columns, each pixel read at its own position."""
    shape, complete = sky_map.rho.shape, _complete(sky_map.kappa > 0)
    size = rows.stop - rows.start, len(columns)
    rho, kappa, mask = (np.zeros(size, kind) for kind in ("f4", "f4", "u1"))
    time = None if sky_map.time is None else np.full(size, np.nan, "f4")
    step = max(1, _BLOCK // size[1])
    for start in range(0, size[0], step):
        part = slice(start, min(start + step, size[0]))
        y, x = locate(rows.start + np.arange(part.start, part.stop)[:, None], columns)
        on_map = geometry.inside(shape, y, x)
        here = tuple(np.rint(np.where(on_map, p, 0)).astype(int) for p in (y, x))
        low = tuple(np.clip(np.floor(np.where(on_map, p, 0)).astype(int), 0, None) for p in (y, x))
        good = on_map & usable[here] & complete[low]
        s, found = reading.read_at(sky_map.rho, sky_map.kappa, y[good], x[good], sky_map.template)
        kappa[part][good], rho[part][good] = found, s * np.sqrt(found)
        mask[part] = np.where(on_map, sky_map.mask[here], 0)
        if time is not None:
            time[part] = np.where(on_map, sky_map.time[here], np.nan)
    return rho, kappa, time, mask
