"""Smooth filling of unobserved pixels, so that a Fourier filter meets no edges.

Push-pull: means of 2 x 2 pixels, weighted, are taken until every pixel has some weight, and the empty pixels
of each level are then interpolated from the level above. Arrays are periodic, as the Fourier transform has them.
"""

import ducc0
import numpy as np

_TINY = np.float32(1e-30)
_MANY = 0.15  # of the pixels empty, from which on all are interpolated and those filled copied


def good_size(n):
    """Even size of at least n that transforms fast."""
    return 2 * ducc0.fft.good_size(-(-n // 2))


def pad(image, shape):
    """``image`` in the first corner of an array of zeros of ``shape``, float32."""
    padded = np.zeros(shape, np.float32)
    padded[: image.shape[0], : image.shape[1]] = image
    return padded


def fill(image, weight):
    """:func:`inpaint` for arrays of any size."""
    shape = tuple(good_size(n) for n in image.shape)
    return inpaint(pad(image, shape), pad(weight, shape))[: image.shape[0], : image.shape[1]]


def fill_spots(image, weight, empty, windows):
    """Fill the ``empty`` pixels of small windows, in place, from what has weight around them.

    Parameters
    ----------
    image, weight : ndarray (ny, nx) float32
        Pixels of zero weight are neither used nor filled.
    empty : ndarray (ny, nx) bool
    windows : list of (slice, slice)
        Rows and columns that hold all empty pixels; each is taken with as much again on all sides, so that the cost is
        that of the windows and not of the image.
    """
    for window in windows:
        around = tuple(
            slice(max(0, 2 * w.start - w.stop), min(n, 2 * w.stop - w.start))
            for w, n in zip(window, image.shape, strict=True)
        )
        part, observed = image[around], weight[around] > 0
        spot = empty[around] & observed
        part[spot] = fill(part, (observed & ~spot).astype(np.float32))[spot]


def inpaint(image, weight):
    """Fill pixels of zero weight, in place, from a pyramid of weighted means.

    Parameters
    ----------
    image, weight : ndarray (ny, nx) float32

    Returns
    -------
    ndarray (ny, nx) float32
        ``image`` itself, a smooth continuation now where weight is 0.
    """
    empty = np.flatnonzero(weight <= 0)
    if not empty.size:
        return image
    if min(image.shape) <= 4:
        total = float(weight.sum(dtype=np.float64))
        image.flat[empty] = float(np.sum(image * weight, dtype=np.float64)) / total if total > 0 else 0.0
        return image
    even = tuple(n + n % 2 for n in image.shape)
    blocks = (image, weight) if even == image.shape else (pad(image, even), pad(weight, even))
    coarse = inpaint(*mean_blocks(*blocks))
    if empty.size > _MANY * weight.size:
        fine = _refine(_refine(coarse, 0), 1)[: image.shape[0], : image.shape[1]]
        np.copyto(image, fine, where=weight <= 0)
    else:
        image.flat[empty] = _interpolate(coarse, empty.astype(np.int32), image.shape[1])
    return image


def mean_blocks(image, weight):
    """Weighted means of 2 x 2 pixels (0 without weight), and their weights; both sides of ``image`` are even."""
    total = _sum_blocks(weight)
    mean = _sum_blocks(image * weight)
    mean /= np.maximum(total, _TINY)
    return mean, total


def _sum_blocks(image):
    rows = image[0::2] + image[1::2]
    return rows[:, 0::2] + rows[:, 1::2]


def _refine(coarse, axis):
    """Twice as many rows (axis 0) or columns (1), linear between the middles of the given ones, periodic."""
    shape = list(coarse.shape)
    shape[axis] *= 2
    fine, own = np.empty(shape, np.float32), np.float32(0.75) * coarse
    even, odd = (fine[::2], fine[1::2]) if axis == 0 else (fine[:, ::2], fine[:, 1::2])
    quarter = np.float32(0.25) * coarse
    np.add(own, np.roll(quarter, 1, axis), out=even)
    np.add(own, np.roll(quarter, -1, axis), out=odd)
    return fine


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
