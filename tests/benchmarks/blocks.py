"""The usual building blocks that the pipeline is compared with: pixell, lmfit, photutils, as pipelines use them."""

import warnings

import numpy as np

APOD_RAD = np.radians(10 / 60)
HOLE_RAD = np.radians(5 / 60)
BAND_RAD = np.radians(1.0)


def banded_matched_filter(signal, ivar, wcs, beam_ell, *, resolution_ell=(70, 100)):
    """rho and kappa by ``pixell.analysis.matched_filter_constcorr_dual`` in bands of one degree.

    The holes are closed and the edges apodised, the noise is the block mean of the power of the apodised map, and
    each band is padded by twice the width of the apodisation and blended with its neighbours.
    """
    from pixell import enmap

    signal, ivar = enmap.enmap(signal.copy(), wcs), enmap.enmap(ivar.copy(), wcs)
    hit = enmap.shrink_mask(enmap.grow_mask(ivar > 0, HOLE_RAD), HOLE_RAD)
    apod = enmap.apod_mask(hit, APOD_RAD)
    signal *= apod
    whitened = signal * np.sqrt(ivar * apod)
    power = np.abs(enmap.fft(whitened)) ** 2 / np.mean(apod**2)
    blocks = np.maximum(np.rint(np.array(resolution_ell) / power.lpixshape()).astype(int), (1, 4))
    smooth = enmap.downgrade(power, blocks, inclusive=True)
    inverse = 1 / enmap.upgrade(smooth, blocks, inclusive=True, oshape=power.shape)
    rho, kappa, total = signal * 0, signal * 0, np.zeros(signal.shape[0], signal.dtype)
    step = int(np.ceil(2 * APOD_RAD / signal.pixshape()[0]))
    count = int(np.ceil(signal.extent()[0] / BAND_RAD))
    for low, high in zip(
        *(np.arange(count + 1)[i : i + count] * signal.shape[0] // count for i in (0, 1)), strict=True
    ):
        rows = slice(max(low - 2 * step, 0), min(high + 2 * step, signal.shape[0]))
        kept = slice(max(low - step, 0), min(high + step, signal.shape[0]))
        part = slice(kept.start - rows.start, kept.stop - rows.start)
        weight = np.minimum(
            1,
            np.minimum(np.arange(kept.stop - kept.start) + 1, np.arange(kept.stop - kept.start)[::-1] + 1) / (2 * step),
        )
        images = _filter_band(signal[rows], ivar[rows], hit[rows], inverse, beam_ell)
        for whole, image in zip((rho, kappa), images, strict=True):
            whole[kept] += image[part] * weight[:, None]
        total[kept] += weight
    return rho / total[:, None], kappa / total[:, None]


def _filter_band(signal, ivar, hit, inverse, beam_ell):
    from pixell import analysis, enmap, uharm, utils

    shifted = enmap.fftshift(inverse)
    noise = enmap.ifftshift(enmap.resample(shifted, signal.shape, method="spline", order=1))
    noise.wcs = signal.wcs.deepcopy()
    beam = enmap.samewcs(utils.interp(signal.modlmap(), *beam_ell), signal)
    beam = enmap.apply_window(beam, order=0, nofft=True)
    weight = ivar * enmap.apod_mask(hit, APOD_RAD)
    transform = uharm.UHT(signal.shape, signal.wcs, mode="flat")
    rho, kappa = analysis.matched_filter_constcorr_dual(signal, beam, weight, noise, transform)
    return rho * hit, kappa * hit


def gaussian_fitter():
    """Name of the fitter at hand, and a function that fits a 2-D Gaussian to a stamp (ny, nx) with its error."""
    try:
        import lmfit
    except ImportError:
        return "scipy curve_fit", _fit_with_scipy
    model = lmfit.models.Gaussian2dModel() + lmfit.models.ConstantModel()
    return "lmfit", lambda stamp, error: _fit_with_lmfit(model, stamp, error)


def _fit_with_lmfit(model, stamp, error):
    y, x = (grid.ravel() for grid in np.indices(stamp.shape, dtype=float))
    centre, peak = (stamp.shape[0] - 1) / 2, float(stamp.max())
    start = {"centerx": centre, "centery": centre, "sigmax": 2.2, "sigmay": 2.2, "amplitude": peak * 2 * np.pi * 2.2**2}
    return model.fit(stamp.ravel(), x=x, y=y, weights=1 / error.ravel(), c=0.0, **start)


def _fit_with_scipy(stamp, error):
    from scipy.optimize import curve_fit

    grid = np.indices(stamp.shape, dtype=float).reshape(2, -1)
    centre = (stamp.shape[0] - 1) / 2

    def gaussian(position, amplitude, y, x, sigma_y, sigma_x, offset):
        square = ((position[0] - y) / sigma_y) ** 2 + ((position[1] - x) / sigma_x) ** 2
        return amplitude * np.exp(-square / 2) + offset

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start = [float(stamp.max()), centre, centre, 2.2, 2.2, 0.0]
        return curve_fit(gaussian, grid, stamp.ravel(), start, error.ravel(), maxfev=2000)


def segment(snr, *, threshold=3.0, n_pixels=2, snr_min=5.0):
    """Number of sources by photutils: connected pixels, deblended, measured, of those that peak above ``snr_min``."""
    from photutils.segmentation import SourceCatalog, deblend_sources, detect_sources

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        islands = detect_sources(snr, threshold, n_pixels)
        islands = deblend_sources(snr, islands, n_pixels, progress_bar=False)
        table = SourceCatalog(snr, islands).to_table()
    return int(np.count_nonzero(table["max_value"] >= snr_min))


def background(image, box):
    """Clipped mean and rms in boxes of ``box`` pixels, interpolated, by photutils."""
    from photutils.background import Background2D

    result = Background2D(image, box)
    return result.background, result.background_rms
