"""Filtered skies with exact truth for the tests: noise of covariance A and sources of shape A, made by FFT.

The sky is periodic, so that every source is exactly S A(x - x0) whatever its sub-pixel position.
"""

from typing import NamedTuple

import numpy as np

from sotrplib import geometry, maps, tables
from sotrplib.template import Template

STEP_ARCMIN = 0.5
FWHM_ARCMIN = 2.0  # of the beam
HALF = 40


class FilteredSky(NamedTuple):
    """s = rho / sqrt(kappa) of a sky, with its template and the truth."""

    s: np.ndarray
    template: Template
    y: np.ndarray
    x: np.ndarray
    snr: np.ndarray


def spectra(shape, *, fwhm_arcmin=FWHM_ARCMIN, knee=0.0):
    """Beam B and noise C = 1 + (knee / k)**3 over the real FFT of a map; ``knee`` in cycles per arcmin."""
    ky = np.fft.fftfreq(shape[0], STEP_ARCMIN)[:, None]
    k = np.hypot(ky, np.fft.rfftfreq(shape[1], STEP_ARCMIN))
    beam = np.exp(-((np.pi * k * fwhm_arcmin) ** 2) / (4 * np.log(2)))
    return beam, 1 + (knee / np.maximum(k, 1 / 2000)) ** 3


def make_template(*, n_rows=1, **spectrum):
    """Template A = IFT[B^2 / C] of :func:`spectra`."""
    beam, noise = spectra((512, 512), **spectrum)
    image = np.fft.fftshift(np.fft.irfft2(beam**2 / noise, s=(512, 512)))
    window = slice(256 - HALF, 256 + HALF + 1)
    values = image[window, window] / image[256, 256]
    return Template(values[None].astype("f4"), np.array([0, n_rows]), np.array([[STEP_ARCMIN, STEP_ARCMIN]]))


def filtered_noise(shape, rng, **spectrum):
    """Gaussian noise of covariance A, unit variance, (ny, nx)."""
    beam, noise = spectra(shape, **spectrum)
    transfer = beam / np.sqrt(noise)
    image = np.fft.irfft2(np.fft.rfft2(rng.normal(size=shape)) * transfer, s=shape)
    return image / np.sqrt(np.mean(np.fft.irfft2(transfer, s=shape) ** 2) * shape[0] * shape[1])


def filtered_sources(shape, y, x, snr, *, power=2, **spectrum):
    """Sum of sources of significance ``snr`` at pixels (y, x); ``power`` 1 makes one-pixel spikes of the raw map."""
    beam, noise = spectra(shape, **spectrum)
    transfer = beam**power / noise
    transfer = transfer / np.fft.irfft2(transfer, s=shape)[0, 0]
    phase_y = np.exp(-2j * np.pi * np.outer(np.fft.fftfreq(shape[0]), y))
    phase_x = np.exp(-2j * np.pi * np.outer(x, np.fft.rfftfreq(shape[1])))
    return np.fft.irfft2(transfer * ((phase_y * snr) @ phase_x), s=shape)


def make_filtered_sky(shape, rng, snr, *, spacing_pix=32, knee=0.02):
    """Noise and isolated sources, one in each cell of ``spacing_pix``, ``snr`` repeated over the cells."""
    cells = np.stack(np.meshgrid(*(np.arange(n // spacing_pix) for n in shape), indexing="ij")).reshape(2, -1)
    y, x = (cells + 0.5) * spacing_pix + rng.uniform(-spacing_pix / 6, spacing_pix / 6, cells.shape)
    snr = np.resize(snr, y.size).astype(float)
    s = filtered_noise(shape, rng, knee=knee) + filtered_sources(shape, y, x, snr, knee=knee)
    return FilteredSky(s.astype("f4"), make_template(n_rows=shape[0], knee=knee), y, x, snr)


def make_sky_map(s, template, *, kappa=0.04, mask=None, ra0_deg=10.0, dec0_deg=0.0):
    """Sky map of uniform kappa (mJy^-2) with s = rho / sqrt(kappa), CAR around (ra0, dec0); NaN in s is unobserved."""
    ny, nx = s.shape
    width = nx * STEP_ARCMIN / 60
    shape, wcs = geometry.make_car(ra0_deg, dec0_deg, width, ny * STEP_ARCMIN / 60, STEP_ARCMIN)
    assert shape == s.shape
    observed = np.isfinite(s)
    kappa = np.where(observed, kappa, 0).astype("f4")
    rho = np.where(observed, s, 0).astype("f4") * np.sqrt(kappa)
    time = np.where(observed, 100.0, np.nan).astype("f4")
    bits = np.where(observed, 0, tables.MASK_BITS["UNOBSERVED"]) if mask is None else mask
    info = maps.MapInfo("test_a1_f090_1700000000", "test", "a1", "f090", 90.0, 1.7e9)
    return maps.SkyMap(rho, kappa, time, bits.astype("u1"), wcs, info, template)
