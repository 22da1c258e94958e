"""Smooth filling of unobserved pixels, so that a Fourier filter meets no edges.

Push-pull: means of 2 x 2 pixels, weighted, are taken until every pixel has some weight, and the empty pixels
of each level are then interpolated from the level above. Arrays are periodic, as the Fourier transform has them.
"""

import ducc0
import numpy as np

_GRAIN = 32  # sides are multiples of this, so that they halve evenly five times
_TINY = np.float32(1e-30)


def good_size(n):
    """Size of at least n that halves evenly a few times and transforms fast."""
    return _GRAIN * ducc0.fft.good_size(-(-n // _GRAIN), True)


def pad(image, shape):
    """``image`` in the first corner of an array of zeros of ``shape``, float32."""
    padded = np.zeros(shape, np.float32)
    padded[: image.shape[0], : image.shape[1]] = image
    return padded


def fill(image, weight):
    """:func:`inpaint` for arrays of any size."""
    shape = tuple(good_size(n) for n in image.shape)
    return inpaint(pad(image, shape), pad(weight, shape))[: image.shape[0], : image.shape[1]]


def inpaint(image, weight):
    """Fill pixels of zero weight from a pyramid of weighted means.

    Parameters
    ----------
    image, weight : ndarray (ny, nx) float32
        Both sides should be multiples of a power of two; the pyramid stops at an odd side.

    Returns
    -------
    ndarray (ny, nx) float32
        ``image`` where weight > 0, a smooth continuation elsewhere; ``image`` itself if nothing is empty.
    """
    empty = np.flatnonzero(weight <= 0)
    if not empty.size:
        return image
    filled = image.copy()
    if image.shape[0] % 2 or image.shape[1] % 2 or min(image.shape) <= 4:
        total = float(weight.sum(dtype=np.float64))
        filled.flat[empty] = float(np.sum(image * weight, dtype=np.float64)) / total if total > 0 else 0.0
        return filled
    coarse_weight = _sum_blocks(weight)
    coarse = _sum_blocks(image * weight)
    coarse /= np.maximum(coarse_weight, _TINY)
    filled.flat[empty] = _interpolate(inpaint(coarse, coarse_weight), empty.astype(np.int32), image.shape[1])
    return filled


def _sum_blocks(image):
    rows = image[0::2] + image[1::2]
    return rows[:, 0::2] + rows[:, 1::2]


def _interpolate(coarse, pixels, nx):
    """Bilinear interpolation of ``coarse`` at flat pixel numbers of an array of twice its size and ``nx`` columns."""
    y, x = np.divmod(pixels, np.int32(nx))
    near_y, far_y = _neighbours(y, coarse.shape[0])
    near_x, far_x = _neighbours(x, coarse.shape[1])
    values, width = coarse.ravel(), np.int32(coarse.shape[1])
    near = np.float32(0.75) * values[near_y * width + near_x] + np.float32(0.25) * values[near_y * width + far_x]
    far = np.float32(0.75) * values[far_y * width + near_x] + np.float32(0.25) * values[far_y * width + far_x]
    return np.float32(0.75) * near + np.float32(0.25) * far


def _neighbours(fine, size):
    """Nearest and second nearest coarse cells of fine ones, periodic."""
    near = fine >> 1
    return near, (near + ((fine & 1) << 1) - 1) % np.int32(size)
