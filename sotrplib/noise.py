"""Noise of a map: its two-dimensional power spectrum after whitening with the inverse variance.

The model is N^-1 = C^-1/2 ivar C^-1/2, with C the power of (map - sources) * sqrt(ivar) in units where
white noise of the stated variance has C = 1. C is a radial spectrum times a smooth anisotropy: enough
modes stand behind every number that a filter built from the data does not fit the data's own
fluctuations, which would bias every flux low.
"""

from dataclasses import dataclass, replace

import ducc0
import numpy as np

from sotrplib import tables

_RING_WIDENING = 0.08  # rings are at least this fraction of their multipole wide
_NO_WEIGHT = 1e12  # factor of the power of multipoles that are to have no weight
_BLOCK_MIN_ELL = 200.0  # finer blocks follow nothing real and fit the filter to the very sources it measures
_TABULATED_ELL = 25_000.0  # highest multipole of the table of spectra: no beam of ours leaves anything beyond
_N_DIRECTIONS = 24  # in which the model is read for the table
_SMOOTHED_VARIANCE = 0.14  # sum of squares of the (1, 2, 1) / 4 weights over both axes


@dataclass(frozen=True)
class NoiseModel:
    """Power spectrum C(ell_y, ell_x) = power(|ell|) * exp(log_ratio).

    Attributes
    ----------
    ell, power : ndarray (n,)
        Radial spectrum, interpolated log-linearly; constant beyond both ends.
    log_ratio : ndarray (2 k + 1, k' + 1)
        Log of the anisotropy at ell_y + shear ell_x = (i - k) * block_ell, ell_x = j * block_ell (j >= 0; C is even).
    block_ell : float
        Spacing of that grid.
    shear : float
        Way along x that the stripes of the scan go on a unit way along y; the grid follows them.
    """

    ell: np.ndarray
    power: np.ndarray
    log_ratio: np.ndarray
    block_ell: float
    shear: float = 0.0


def white():
    """Noise model of a map whose inverse variance says all there is to say."""
    return NoiseModel(np.array([0.0, 1e5]), np.ones(2), np.zeros((3, 2)), 1e5)


def power_law(ell_knee, alpha):
    """Noise model C = 1 + (ell_knee / ell)**alpha, isotropic."""
    ell = np.geomspace(10, 1e5, 400)
    return NoiseModel(ell, 1 + (ell_knee / ell) ** alpha, np.zeros((3, 2)), 1e5)


def cut_below(model, ell_min):
    """Noise model with so much power below a multipole that a filter gives it no weight there."""
    if not ell_min > 0:
        return model
    kept, power = model.ell > ell_min, np.exp(np.interp(ell_min, model.ell, np.log(model.power)))
    ell = np.concatenate([[0.0, ell_min * (1 - 1e-6), ell_min], model.ell[kept]])
    return replace(model, ell=ell, power=np.append(power * np.array([_NO_WEIGHT, _NO_WEIGHT, 1]), model.power[kept]))


def tabulate(measured, used, rows):
    """Spectra of zones of a map.

    Parameters
    ----------
    measured : list of NoiseModel, or None
        One a zone, as measured; None where the model was given.
    used : list of NoiseModel
        As taken for the filter.
    rows : list of slice
        Rows of the map that each zone holds.

    Returns
    -------
    pandas.DataFrame
        Table ``noise_spectra``.
    """
    import pandas as pd

    parts = [tables.empty("noise_spectra")]
    for zone, (model, taken, part) in enumerate(zip(measured or used, used, rows, strict=True)):
        ell = model.ell[(model.ell > 0) & (model.ell < _TABULATED_ELL)]
        columns = {"zone": zone, "row_first": part.start, "row_stop": part.stop, "ell": ell}
        columns["measured"] = np.interp(ell, model.ell, model.power) if measured else np.nan
        columns["model"], columns["model_min"], columns["model_max"] = over_directions(taken, ell)
        parts.append(tables.make("noise_spectra", columns))
    return pd.concat(parts, ignore_index=True)


def over_directions(model, ell):
    """Radial part of a model at multipoles (n,), and its extremes over all directions: three arrays (n,)."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, _N_DIRECTIONS, endpoint=False)
    ratio = [np.diagonal(_log_anisotropy(model, ell * np.sin(a), ell * np.cos(a))) for a in angle]
    radial = np.interp(ell, model.ell, model.power)
    return radial, radial * np.exp(np.min(ratio, axis=0)), radial * np.exp(np.max(ratio, axis=0))


def frequencies(shape, step_rad):
    """Multipoles of a real FFT: ell_y (ny,) with both signs and ell_x (nx // 2 + 1,), for steps (dy, dx) in radians."""
    ell_y = 2 * np.pi * np.fft.fftfreq(shape[0], step_rad[0])
    ell_x = 2 * np.pi * np.fft.rfftfreq(shape[1], step_rad[1])
    return ell_y.astype(np.float32), ell_x.astype(np.float32)


def evaluate(model, ell_y, ell_x, *, power=1.0):
    """C**power on the grid of ell_y (ny,) by ell_x (nx,), shape (ny, nx), float32."""
    return evaluate_with(model, ell_y, ell_x, (), power=power)[0]


def evaluate_with(model, ell_y, ell_x, functions, *, power=1.0):
    """C**power, and functions of |ell| given as (ell, values), on the same grid as in :func:`evaluate`; a list."""
    log_power, *others = radial_grids(ell_y, ell_x, [(model.ell, np.log(model.power)), *functions])
    log_power += _log_anisotropy(model, ell_y, ell_x)
    log_power *= np.float32(power)
    return [np.exp(log_power, out=log_power), *others]


def _log_anisotropy(model, ell_y, ell_x):
    """Linear interpolation of ``model.log_ratio``, shape (ny, nx)."""
    half = model.log_ratio.shape[0] // 2
    if model.shear:
        from scipy.ndimage import map_coordinates

        sheared = np.abs(ell_x) * np.float32(model.shear)
        grid = (ell_y[:, None] + sheared) / model.block_ell + half, np.abs(ell_x)[None] / model.block_ell
        return map_coordinates(model.log_ratio, np.broadcast_arrays(*grid), np.float32, order=1, mode="nearest")
    rows = _linear_weights(ell_y / model.block_ell + half, model.log_ratio.shape[0])
    cols = _linear_weights(np.abs(ell_x) / model.block_ell, model.log_ratio.shape[1])
    return (rows @ model.log_ratio.astype(np.float32)) @ cols.T


def radial_grid(ell_y, ell_x, ell, values):
    """Function of |ell|, given by ``values`` at ``ell``, on the grid of ell_y (ny,) by ell_x (nx,), float32."""
    return radial_grids(ell_y, ell_x, [(ell, values)])[0]


def radial_grids(ell_y, ell_x, functions, steps=65536):
    """Functions of |ell|, each given as (ell, values), on the grid of ell_y (ny,) by ell_x (nx,); list of float32.

    From the nearest step of a table: at most 0.3 off in multipole for pixels of 0.5', at random from mode to mode.
    Where ell_y has the order of a Fourier transform, -ell_y is copied from ell_y.
    """
    unique = _unique_rows(ell_y)
    distance = np.hypot(ell_y[:unique, None], ell_x[None, :], dtype=np.float32)
    top = float(distance.max()) or 1.0
    distance *= np.float32(steps / top)
    distance += np.float32(0.5)
    index = distance.astype(np.int32)
    grids = []
    for ell, values in functions:
        table = np.interp(np.linspace(0, top, steps + 1), ell, values).astype(np.float32)
        grid = np.empty((len(ell_y), len(ell_x)), np.float32)
        np.take(table, index, out=grid[:unique], mode="clip")
        grids.append(_mirror(grid, unique))
    return grids


def _unique_rows(ell_y):
    """Number of first rows that the others mirror: n // 2 + 1 in the order of a Fourier transform, else all."""
    n = len(ell_y)
    half = n // 2 + 1
    return half if n > 2 and np.array_equal(ell_y[half:], -ell_y[1 : n - half + 1][::-1]) else n


def _mirror(grid, unique):
    """The grid with its rows from ``unique`` on copied from the first ones (ell_y -> -ell_y)."""
    grid[unique:] = grid[1 : len(grid) - unique + 1][::-1]
    return grid


def estimate(whitened, taper, step_rad, *, ring_ell=40.0, ring_modes=100, block_modes=50, shear=0.0):
    """Measure the noise model of a whitened map.

    Parameters
    ----------
    whitened : ndarray (ny, nx)
        (map - sources) * sqrt(ivar), filled smoothly where unobserved.
    taper : ndarray (ny, nx)
        Weight from 0 to 1 that goes smoothly to 0 at every edge of the data.
    step_rad : (dy, dx)
        Pixel size in radians.
    ring_ell, ring_modes : float, int
        Width of a ring of the radial mean, widened until it holds this many independent modes.
    block_modes : int
        Independent modes, at least, in a block of the anisotropy; blocks are no finer than 200 in multipole.
    shear : float
        Direction of the stripes of the scan that the blocks follow, see :class:`NoiseModel`.

    Returns
    -------
    NoiseModel

    Raises
    ------
    ValueError
        If the taper leaves nothing to measure.
    """
    norm, norm_4 = _power_sums(taper)
    if norm <= 0:
        raise ValueError("noise: no area is left after tapering; expected a region wider than twice the taper")
    padded = _pad_to_good_size(whitened, taper)
    power = _power(padded)
    power *= np.float32(1 / norm)
    effective = norm**2 / norm_4 / padded.size
    ell_y, ell_x = frequencies(padded.shape, step_rad)
    ell, radial = _ring_means(ell_y, ell_x, power, ring_ell, ring_modes / effective)
    solid_angle = effective * padded.size * step_rad[0] * step_rad[1]
    block_ell = max(2 * np.pi * np.sqrt(block_modes / solid_angle), _BLOCK_MIN_ELL)
    block_modes = solid_angle * (block_ell / (2 * np.pi)) ** 2
    fine = np.linspace(0, float(np.hypot(ell_y.max(), ell_x.max())), 8192)
    power *= radial_grid(ell_y, ell_x, fine, np.exp(-np.interp(fine, ell, np.log(radial))))
    if shear:
        sums = _sheared_block_sums(power, ell_y, ell_x, block_ell, shear)
    else:
        sums = _block_sums(power, ell_y, ell_x, block_ell)
    return NoiseModel(ell, radial, _block_log_means(*sums, block_modes), block_ell, shear)


def _power(image):
    """Square of the modulus of the real Fourier transform."""
    parts = ducc0.fft.r2c(image, nthreads=0).view(np.float32)
    np.square(parts, out=parts)  # in one sweep over memory
    return parts[:, 0::2] + parts[:, 1::2]


def _power_sums(image):
    """Sums of the squares and of the fourth powers, added up row by row."""
    squares = image**2
    return tuple(
        float(np.einsum("ij,ij->i", a, b).sum(dtype=np.float64)) for a, b in ((image, image), (squares, squares))
    )


def _pad_to_good_size(image, taper):
    """Product of both in the first corner of an array of zeros whose size transforms fast."""
    shape = [ducc0.fft.good_size(n, True) for n in image.shape]
    padded = np.zeros(shape, np.float32)
    np.multiply(image, taper, out=padded[: image.shape[0], : image.shape[1]])
    return padded


def _ring_means(ell_y, ell_x, power, width, n_modes):
    """Mean multipole and mean power in rings, merged outward until each holds ``n_modes`` bins of the half plane."""
    unique = _unique_rows(ell_y)
    folded = power[:unique].copy()
    folded[1 : len(power) - unique + 1] += power[unique:][::-1]
    index = (np.hypot(ell_y[:unique, None], ell_x) * np.float32(1 / width)).astype(np.intp)
    sums = np.bincount(index.ravel(), weights=folded.ravel())
    rings = len(sums)
    count = sum(np.bincount(i.ravel(), minlength=rings) for i in (index, index[1 : len(power) - unique + 1]))
    starts = _ring_starts(count, n_modes)
    radii = (np.arange(len(count)) + 0.5) * width * count
    count, radii, total = (np.add.reduceat(values, starts) for values in (count, radii, sums))
    good = total > 0
    return radii[good] / count[good], total[good] / count[good]


def _ring_starts(counts, enough):
    """First narrow ring of every ring that counts ``enough`` bins and is wide enough for its multipole."""
    starts, held = [0], 0
    for ring, count in enumerate(counts):
        held += count
        wide = ring + 1 - starts[-1] >= _RING_WIDENING * ring
        if held >= enough and wide and counts[ring + 1 :].sum() >= enough:
            starts.append(ring + 1)
            held = 0
    return starts


def _block_sums(ratio, ell_y, ell_x, block_ell):
    """Sum and count of ``ratio`` in blocks around the points of the grid of :class:`NoiseModel`."""
    half = int(np.ceil(np.abs(ell_y).max() / block_ell))
    width = int(np.ceil(ell_x.max() / block_ell)) + 1
    columns = np.flatnonzero(np.diff(np.rint(ell_x / block_ell), prepend=-1))
    rows = np.rint(ell_y / block_ell).astype(int) + half
    which = np.zeros((2 * half + 1, len(ell_y)), np.float32)
    which[rows, np.arange(len(ell_y))] = 1
    sums, counts = np.zeros((2 * half + 1, width)), np.zeros((2 * half + 1, width))
    filled = np.rint(ell_x[columns] / block_ell).astype(int)
    sums[:, filled] = which @ np.add.reduceat(ratio, columns, axis=1)
    counts[:, filled] = which.sum(axis=1)[:, None] * np.diff(columns, append=len(ell_x))
    return sums, counts


def _sheared_block_sums(ratio, ell_y, ell_x, block_ell, shear):
    """:func:`_block_sums` of blocks sheared along x, which do not share rows."""
    sheared = ell_y[:, None] + np.float32(shear) * ell_x
    half = int(np.ceil(np.abs(sheared).max() / block_ell))
    width = int(np.ceil(ell_x.max() / block_ell)) + 1
    block = (np.rint(sheared / block_ell).astype(np.int32) + half) * width + np.rint(ell_x / block_ell).astype(np.int32)
    shape, size = (2 * half + 1, width), (2 * half + 1) * width
    sums, counts = (np.bincount(block.ravel(), weights, size) for weights in (ratio.ravel(), None))
    return sums.reshape(shape), counts.reshape(shape).astype(float)


def _block_log_means(sums, counts, block_modes):
    total, weight = _smooth_even(sums), _smooth_even(counts)
    log_ratio = np.log(np.maximum(total / np.maximum(weight, 1), 1e-6))
    return _shrink(log_ratio, _SMOOTHED_VARIANCE / block_modes).astype(np.float32)


def _shrink(log_ratio, variance):
    """Pull the anisotropy to zero where it does not exceed its own scatter, so that noise is not fitted to itself."""
    ones = np.ones_like(log_ratio)
    excess = _smooth_even(log_ratio**2) / _smooth_even(ones)
    return log_ratio * np.clip(1 - 2 * variance / np.maximum(excess, 1e-12), 0, 1)


def _smooth_even(half_plane):
    """Weighted sum over neighbours (1, 2, 1 along both axes) of a half plane f(y, x >= 0) with f(-y, -x) = f(y, x)."""
    whole = np.concatenate([half_plane[::-1, 1:2], half_plane], axis=1)
    whole[:, 1] += half_plane[::-1, 0]
    whole = np.pad(whole, ((1, 1), (0, 1)))
    rows = whole[:-2] + 2 * whole[1:-1] + whole[2:]
    return rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]


def _linear_weights(position, size):
    """Matrix (n, size) of linear interpolation weights at fractional grid positions, clipped to the grid."""
    position = np.clip(np.asarray(position, np.float32), 0, size - 1)
    low = np.minimum(position.astype(int), max(size - 2, 0))
    weights = np.zeros((len(position), size), np.float32)
    rows = np.arange(len(position))
    weights[rows, low] = 1 - (position - low)
    if size > 1:
        weights[rows, low + 1] = position - low
    return weights
