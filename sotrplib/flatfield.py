"""Flat field: the local rms of the SNR map, by which rho and kappa are divided so that errors are true.

The noise model is one spectrum a zone; where the noise of the map differs from it the SNR has a standard
deviation r other than 1. Dividing rho and kappa by r**2 leaves the flux as it is and makes its error true.
"""

import math
from typing import NamedTuple

import numpy as np

from sotrplib import workers

_MEDIAN_SQUARE = 0.4549  # median of the square of a unit normal
_LEAST = 1e-12  # variance
_ITERATIONS = 4
_SAMPLE = np.s_[2::5, 2::5]  # pixels that the variance of a tile is first guessed from,
_SMALLEST_SAMPLE = 100  # if there are so many
_SURE = 0.6  # squares below this part of the first cut are within every later one
_ROWS_AT_ONCE = 64


class Field(NamedTuple):
    """Smooth map of the local rms: ``values`` (nty, nx) float32 at the rows ``centres`` (nty,), linear between them."""

    values: np.ndarray
    centres: np.ndarray


def tile_rms(snr, weight, tile_pix, *, clip_sigma=3.0, iterations=_ITERATIONS):
    """Clipped rms of ``snr`` in tiles.

    Parameters
    ----------
    snr : ndarray (ny, nx)
        rho / sqrt(kappa); any value where weight is False.
    weight : ndarray (ny, nx) bool
        Pixels that count.
    tile_pix : (ty, tx)
        Size of a tile in pixels; the last row and column of tiles may be smaller.
    clip_sigma : float
        Pixels beyond so many rms do not count.
    iterations : int
        Times the rms is made again from the pixels within that.

    Returns
    -------
    rms, count : ndarray (nty, ntx)
        NaN and 0 where a tile has no pixel; ``count`` is the pixels kept by the clipping.
    """

    def read(rows):
        return np.square(snr[rows], dtype=np.float32), weight[rows]

    return _tiles(read, len(snr), tile_pix, (clip_sigma, iterations))


def local_rms(snr, weight, tile_pix, *, clip_sigma=3.0, min_pixels=400):
    """Smooth map of the local rms of ``snr``: tiles, weighted 3 x 3 smoothing, linear interpolation.

    Tiles with fewer than ``min_pixels`` good pixels lean on their neighbours. Returns ndarray (ny, nx)
    float32; 1 everywhere where nothing can be measured. Tile error: sqrt(int A^2 / 2 Omega), A the
    template and Omega the tile.
    """
    field = _smooth_field(tile_rms(snr, weight, tile_pix, clip_sigma=clip_sigma), snr.shape, tile_pix, min_pixels)
    result = np.empty(snr.shape, np.float32)
    for rows in _blocks(len(snr), _ROWS_AT_ONCE):
        result[rows] = read_rows(field, np.arange(rows.start, rows.stop))
    return result


def measure(rho, kappa, mask, tile_pix, *, clip_sigma=3.0, min_pixels=400):
    """:func:`local_rms` of the unmasked pixels of a filtered map, as a :class:`Field`.

    Parameters
    ----------
    rho, kappa : ndarray (ny, nx)
    mask : ndarray (ny, nx)
        0 where a pixel counts, which must be observed.
    tile_pix, clip_sigma, min_pixels
        See :func:`local_rms`.
    """

    def read(rows):
        return _read_squares(rho[rows], kappa[rows], mask[rows] == 0)

    tiles = _tiles(read, len(rho), tile_pix, (clip_sigma, _ITERATIONS))
    return _smooth_field(tiles, rho.shape, tile_pix, min_pixels)


def uniform(shape):
    """:class:`Field` of 1 everywhere."""
    return Field(np.ones((1, shape[1]), np.float32), np.zeros(1))


def read_rows(field, rows):
    """Local rms in rows (n,) of the map, ndarray (n, nx) float32."""
    last = len(field.centres) - 1
    place = np.interp(rows, field.centres, np.arange(last + 1))
    low = np.minimum(place.astype(int), max(last - 1, 0))
    share = (place - low).astype(np.float32)[:, None]
    return field.values[low] * (1 - share) + field.values[np.minimum(low + 1, last)] * share


def sample(field, tile_pix):
    """Local rms at the middle of the tiles it was measured in, ndarray (nty, ntx) float32."""
    return field.values[:, np.rint(tile_centres(field.values.shape[1], tile_pix)).astype(int)]


def resample(sampled, shape, tile_pix, rows, columns):
    """Local rms at rows (n,) and columns (m,) of a map, from what :func:`sample` gave of it; (n, m) float32."""
    down, across = (tile_centres(n, tile) for n, tile in zip(shape, tile_pix, strict=True))
    of_columns = np.array([np.interp(columns, across, row) for row in sampled])
    return np.array([np.interp(rows, down, column) for column in of_columns.T], np.float32).T


def tile_centres(n, tile):
    """Middle of each tile along an axis of n pixels, array (nt,)."""
    starts = np.arange(0, n, tile)
    return (starts + np.minimum(starts + tile, n) - 1) / 2


def apply(rho, kappa, field, *, out=None):
    """Divide rho and kappa by the square of the local rms: flux unchanged, error times rms.

    Returns new arrays, or the two of ``out``, which may be rho and kappa themselves.
    """
    results = out or (np.empty_like(rho), np.empty_like(kappa))

    def divide(rows):
        squared = np.square(read_rows(field, np.arange(rows.start, rows.stop)))
        for result, values in zip(results, (rho, kappa), strict=True):
            np.divide(values[rows], squared, out=result[rows])

    workers.in_threads(divide, _blocks(len(rho), _ROWS_AT_ONCE))
    return results


def clipped_variance(clip_sigma):
    """Variance of a unit normal cut at +-clip_sigma."""
    density = math.exp(-(clip_sigma**2) / 2) / math.sqrt(2 * math.pi)
    return 1 - 2 * clip_sigma * density / math.erf(clip_sigma / math.sqrt(2))


def _blocks(n, size):
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def _read_squares(rho, kappa, good):
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.square(rho) / kappa, good


def _tiles(read, n_rows, tile_pix, clip):
    """rms and count (nty, ntx) of tiles; ``read`` gives squares, to be overwritten, and weights of some rows."""
    blocks = list(_blocks(n_rows, tile_pix[0]))
    rows = workers.in_threads(lambda block: _row_of_tiles(*read(block), tile_pix[1], clip), blocks)
    return tuple(np.array(values) for values in zip(*rows, strict=True))


def _row_of_tiles(squares, weight, tile, clip):
    """rms and number of values (ntx,) of a row of tiles.

    All squares well within the first cut are summed once; the few others are looked at in every iteration.
    """
    first = np.arange(0, squares.shape[1], tile)
    squares[~weight] = 0
    guess = np.array([_guess_variance(squares[:, i : i + tile], weight[:, i : i + tile]) for i in first])
    limit = _SURE * clip[0] ** 2 * guess
    width = np.diff(np.append(first, squares.shape[1]))
    index = np.flatnonzero(squares > np.repeat(limit, width).astype(np.float32))
    high, of_tile = squares.ravel()[index].astype(float), index % squares.shape[1] // tile
    squares.ravel()[index] = 0
    count = np.add.reduceat(np.count_nonzero(weight, axis=0), first) - np.bincount(of_tile, minlength=len(first))
    total = np.add.reduceat(squares.sum(axis=0), first, dtype=float)
    variance, kept, lowest = _iterate((total, count), (high, of_tile), guess, clip)
    for k in np.flatnonzero(lowest * clip[0] ** 2 < limit):
        squares.ravel()[index] = high
        window, here = np.s_[:, k * tile : (k + 1) * tile], slice(k, k + 1)
        alone = squares[window][weight[window]].astype(float)
        variance[here], kept[here], _ = _iterate((0.0, 0), (alone, np.zeros(len(alone), int)), guess[here], clip)
    return np.where(kept > 0, np.sqrt(variance), np.nan), kept


def _iterate(sure, others, variance, clip):
    """Variance, number of values and lowest variance on the way, of tiles whose squares are cut again and again.

    ``sure`` is the sum and the number of squares that are always within the cut, ``others`` the other squares and
    their tiles.
    """
    (total, count), (squares, of_tile), (clip_sigma, iterations) = sure, others, clip
    lowest, expected = variance, clipped_variance(clip_sigma)
    for _ in range(iterations):
        within = squares < clip_sigma**2 * variance[of_tile]
        tiles = of_tile[within]
        kept = count + np.bincount(tiles, minlength=len(variance))
        mean = (total + np.bincount(tiles, squares[within], len(variance))) / np.maximum(kept, 1)
        variance = np.where(kept > 0, np.maximum(mean / expected, _LEAST), variance)
        lowest = np.minimum(lowest, variance)
    return variance, kept, lowest


def _guess_variance(squares, weight):
    """Variance of a tile from the median of a sample of its squares; of all if the sample holds too few."""
    sample = squares[_SAMPLE][weight[_SAMPLE]]
    if len(sample) < _SMALLEST_SAMPLE:
        sample = squares[weight]
    if not len(sample):
        return _LEAST
    middle = len(sample) // 2
    return max(float(np.partition(sample, middle)[middle]) / _MEDIAN_SQUARE, _LEAST)


def _smooth_field(tiles, shape, tile_pix, min_pixels):
    """:class:`Field` from the rms and count of tiles: those with few pixels lean on others; 1 if all have few."""
    rms, count = tiles
    known = (count >= min_pixels) & np.isfinite(rms) & (rms > 0)
    smooth = _smooth(np.where(known, rms, 0), np.where(known, count, 0)) if known.any() else np.ones(rms.shape)
    rows, columns = (tile_centres(n, tile) for n, tile in zip(shape, tile_pix, strict=True))
    values = np.array([np.interp(np.arange(shape[1]), columns, row) for row in smooth], np.float32)
    return Field(values, rows)


def _smooth(rms, count):
    """Mean of rms over 3 x 3 tiles weighted by pixel counts, widened until every tile has a value."""
    total, weight = _box_sum(rms * count), _box_sum(count.astype(float))
    while (weight == 0).any():
        total, weight = np.where(weight > 0, total, _box_sum(total)), np.where(weight > 0, weight, _box_sum(weight))
    return total / weight


def _box_sum(image):
    padded = np.pad(image, 1)
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    return rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
