"""Small skies with known truth for the tests: noise of a given spectrum, point sources of a given flux."""

from dataclasses import dataclass

import numpy as np

from sotrplib import matched_filter, noise

ARCMIN = np.radians(1 / 60)


@dataclass(frozen=True)
class Sky:
    """A map of noise [mJy/sr] with its inverse variance, pixels and beam transform."""

    signal: np.ndarray
    ivar: np.ndarray
    pixels: matched_filter.Pixels
    beam_ell: tuple
    power: np.ndarray  # C on the grid of the real FFT of the whole map


def pixels_of(shape, dec_deg=0.0, resolution_arcmin=0.5):
    """Pixels of a CAR map of ``shape`` centred on ``dec_deg``."""
    ny = shape[0]
    dy = np.full(ny, resolution_arcmin * ARCMIN)
    dec = np.radians(dec_deg) + (np.arange(ny) - (ny - 1) / 2) * dy
    dx = dy * np.cos(dec)
    return matched_filter.Pixels(dy, dx, dy * dx)


def gaussian_beam(fwhm_arcmin):
    """Transform (ell, B) of a Gaussian beam."""
    ell = np.arange(0, 62000, 20.0)
    return ell, np.exp(-0.5 * (ell * fwhm_arcmin * ARCMIN / np.sqrt(8 * np.log(2))) ** 2)


def make_sky(shape, rng, *, dec_deg=0.0, fwhm_arcmin=2.05, ell_knee=3000.0, alpha=3.0, stripes=0.0, sigma=2e6):
    """Noise C = 1 + (ell_knee / ell)**alpha (plus stripes along y), uneven depth of about ``sigma`` mJy/sr a pixel."""
    pixels = pixels_of(shape, dec_deg)
    step = pixels.dy_rad[0], pixels.dx_rad[shape[0] // 2]
    ell_y, ell_x = noise.frequencies(shape, step)
    radius = np.maximum(np.hypot(ell_y[:, None], ell_x), 2 * np.pi / (max(shape) * step[0]))
    power = 1 + (ell_knee / radius) ** alpha + stripes * np.exp(-0.5 * (ell_y[:, None] / 400) ** 2)
    white = np.fft.rfft2(rng.normal(size=shape))
    unit = np.fft.irfft2(white * np.sqrt(power), s=shape)
    depth = sigma * (1 + 0.5 * np.sin(np.arange(shape[1]) / 200))
    ivar = np.broadcast_to(1 / depth**2, shape).astype(np.float32)
    return Sky((unit * depth).astype(np.float32), ivar, pixels, gaussian_beam(fwhm_arcmin), power)


def point_source(sky, y, x, flux_mjy):
    """Map [mJy/sr] of one point source of ``flux_mjy`` at pixel (y, x), beam and pixel window of its row's width."""
    shape = sky.signal.shape
    row = int(round(y))
    step = sky.pixels.dy_rad[row], sky.pixels.dx_rad[row]
    ell_y, ell_x = noise.frequencies(shape, step)
    phase = np.exp(-1j * (ell_y[:, None] * step[0] * y + ell_x * step[1] * x))
    radius = np.hypot(ell_y[:, None], ell_x)
    transfer = np.interp(radius, *sky.beam_ell)
    transfer *= np.sinc(ell_y[:, None] * step[0] / (2 * np.pi)) * np.sinc(ell_x * step[1] / (2 * np.pi))
    return flux_mjy * np.fft.irfft2(transfer * phase, s=shape) / sky.pixels.area_sr[row]


def edge_taper(observed, width_pix):
    """Cosine taper that reaches 0 at every unobserved pixel and at the border of the array."""
    from scipy.ndimage import distance_transform_edt

    distance = distance_transform_edt(np.pad(observed, 1))[1:-1, 1:-1]
    return (0.5 - 0.5 * np.cos(np.pi * np.clip(distance / width_pix, 0, 1))).astype(np.float32)


def measured_noise(sky):
    """Noise model measured on the sky itself."""
    whitened = sky.signal * np.sqrt(sky.ivar)
    step = sky.pixels.dy_rad[0], sky.pixels.dx_rad[sky.signal.shape[0] // 2]
    return noise.estimate(whitened, edge_taper(sky.ivar > 0, 40), step)


def filter_sky(sky, model, signal=None):
    """rho, kappa, template of a sky (or of another signal with its ivar), one noise model for all bands."""
    bands = matched_filter.plan_bands(sky.signal.shape, sky.pixels)
    signal = sky.signal if signal is None else signal
    signal = np.where(sky.ivar > 0, signal, 0).astype(np.float32)
    return matched_filter.filter_map(signal, sky.ivar, sky.pixels, sky.beam_ell, [model] * len(bands), bands=bands)
