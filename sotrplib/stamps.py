"""Stamps: the small squares of pixels around positions on an image."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Significance:
    """s = rho / sqrt(kappa) of a map (ny, nx), made only where it is read; NaN where kappa is 0 or ``mask`` is not."""

    rho: np.ndarray
    kappa: np.ndarray
    mask: np.ndarray | None = None

    @property
    def shape(self):
        """(ny, nx)"""
        return self.rho.shape

    def __getitem__(self, pixels):
        return self.read(lambda image: image[pixels])

    def read(self, cut):
        """s of the pixels that ``cut`` takes out of an array of the map's shape."""
        with np.errstate(invalid="ignore", divide="ignore"):
            s = cut(self.rho) / np.sqrt(cut(self.kappa))
        return s if self.mask is None else np.where(cut(self.mask) == 0, s, np.float32(np.nan))


def cut(image, row, column, size, *, outside=0):
    """Squares of an image.

    Parameters
    ----------
    image : array (ny, nx) or Significance
    row, column : array (n,) int
        First row and column of each square; they may lie off the image.
    size : int
        Pixels along a side.
    outside : number, default 0
        What stands for pixels off the image; always NaN for :class:`Significance`.

    Returns
    -------
    array (n, size, size)
        Of the type of the image.
    """
    if isinstance(image, Significance):
        return image.read(lambda part: cut(part, row, column, size))
    ny, nx = image.shape
    inside = (row >= 0) & (row <= ny - size) & (column >= 0) & (column <= nx - size)
    if inside.all() and len(row):
        return _windows(image, size)[row, column].view(image.dtype).reshape(-1, size, size)
    result = np.full((len(row), size, size), outside, image.dtype)
    if inside.any():
        whole = np.flatnonzero(inside)
        result[whole] = cut(image, row[whole], column[whole], size)
    across = ~inside & (row > -size) & (row < ny) & (column > -size) & (column < nx)
    for k, i, j in zip(np.flatnonzero(across), row[across].tolist(), column[across].tolist(), strict=True):
        part = image[max(i, 0) : i + size, max(j, 0) : j + size]
        top, left = max(-i, 0), max(-j, 0)
        result[k, top : top + part.shape[0], left : left + part.shape[1]] = part
    return result


def _windows(image, size):
    """All squares of an image, [row, column, row in it, ...]; their rows are one item each, which copies faster."""
    if image.flags.c_contiguous:  # as below, but made in a tenth of the time
        (ny, nx), (down, along) = image.shape, image.strides
        shape, item = (ny - size + 1, nx - size + 1, size), np.dtype((np.void, size * image.itemsize))
        return np.ndarray(shape, item, image, strides=(down, along, down))
    return np.lib.stride_tricks.sliding_window_view(image, (size, size))


def around(image, y, x, half, *, outside=0):
    """Squares (n, 2 half + 1, 2 half + 1) around the pixels nearest to positions (n,); see :func:`cut`."""
    row, column = np.rint(y).astype(int), np.rint(x).astype(int)
    return cut(image, row - half, column - half, 2 * half + 1, outside=outside)
