"""Flat field: the local rms of the SNR map, by which rho and kappa are divided so that errors are true.

The noise model is one spectrum a zone; where the noise of the map differs from it the SNR has a standard
deviation r other than 1. Dividing rho and kappa by r**2 leaves the flux as it is and makes its error true.
"""

import math

import numpy as np

_MEDIAN_SQUARE = 0.4549  # median of the square of a unit normal


def tile_rms(snr, weight, tile_pix, *, clip_sigma=3.0, iterations=4):
    """Clipped rms of ``snr`` in tiles.

    Parameters
    ----------
    snr : ndarray (ny, nx)
        rho / sqrt(kappa); any finite value where weight is False.
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
    shape = tuple(-(-n // t) for n, t in zip(snr.shape, tile_pix, strict=True))
    rms, count = np.full(shape, np.nan), np.zeros(shape, int)
    for tile in np.ndindex(shape):
        window = tuple(slice(i * t, (i + 1) * t) for i, t in zip(tile, tile_pix, strict=True))
        squares = np.square(snr[window][weight[window]])
        if squares.size:
            rms[tile], count[tile] = _clipped_rms(squares, clip_sigma, iterations)
    return rms, count


def local_rms(snr, weight, tile_pix, *, clip_sigma=3.0, min_pixels=400):
    """Smooth map of the local rms of ``snr``: tiles, weighted 3 x 3 smoothing, linear interpolation.

    Tiles with fewer than ``min_pixels`` good pixels lean on their neighbours. Returns ndarray (ny, nx)
    float32; 1 everywhere where nothing can be measured. Tile error: sqrt(int A^2 / 2 Omega), A the
    template and Omega the tile.
    """
    rms, count = tile_rms(snr, weight, tile_pix, clip_sigma=clip_sigma)
    known = (count >= min_pixels) & np.isfinite(rms) & (rms > 0)
    if not known.any():
        return np.ones(snr.shape, np.float32)
    field = _smooth(np.where(known, rms, 0), np.where(known, count, 0))
    return _stretch(field, snr.shape, tile_pix)


def apply(rho, kappa, rms):
    """Divide rho and kappa by rms**2: flux unchanged, error times rms. Returns new arrays."""
    squared = np.square(rms)
    return rho / squared, kappa / squared


def clipped_variance(clip_sigma):
    """Variance of a unit normal cut at +-clip_sigma."""
    density = math.exp(-(clip_sigma**2) / 2) / math.sqrt(2 * math.pi)
    return 1 - 2 * clip_sigma * density / math.erf(clip_sigma / math.sqrt(2))


def _clipped_rms(squares, clip_sigma, iterations):
    """Rms and number of values from their squares, cut and corrected for the cut; starts from the median."""
    expected = clipped_variance(clip_sigma)
    variance = max(float(np.median(squares[::3])) / _MEDIAN_SQUARE, 1e-12)
    for _ in range(iterations):
        kept = squares[squares < clip_sigma**2 * variance]
        variance = max(float(kept.mean()) / expected, 1e-12) if kept.size else variance
    return np.sqrt(variance), kept.size


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


def _stretch(field, shape, tile_pix):
    """Linear interpolation of tile values (at tile centres) to every pixel."""
    rows, cols = (_weights(n, t, k) for n, t, k in zip(shape, tile_pix, field.shape, strict=True))
    return (rows @ field.astype(np.float32)) @ cols.T


def _weights(n, tile, count):
    starts = np.arange(count) * tile
    centres = (starts + np.minimum(starts + tile, n) - 1) / 2
    return np.array([np.interp(np.arange(n), centres, row) for row in np.eye(count)], np.float32).T
