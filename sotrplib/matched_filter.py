"""Matched filter for point sources in noise that is correlated and of uneven depth.

For a map m [mJy/sr] of sources and noise with N^-1 = C^-1/2 ivar C^-1/2 (the form of pixell's
``analysis.matched_filter_constcorr_dual``)::

    rho   = A^-1 irfft[B C^-1/2 rfft(ivar irfft(C^-1/2 rfft(m)))]
    kappa = A^-2 (K^2 convolved with ivar),   K = irfft[B C^-1/2]

with A the local pixel area and B the beam times the pixel window. Then flux = rho / kappa with error
kappa^-1/2. The map is filtered in bands of rows that overlap by a pad; within a band the sky is taken
as flat, and the row's true beam gives the response R(row) that makes the flux right at every row.
Unobserved pixels are filled smoothly before the Fourier transform and have rho = kappa = 0 after it, so
nothing is tapered and the flux holds up to the edges.
"""

from dataclasses import dataclass

import ducc0
import numpy as np

from sotrplib import inpainting
from sotrplib import noise as noise_models
from sotrplib.template import Template

PADS = 32, 48  # pixels of smooth continuation along y and x, so that the sides of a band do not meet
_HALF_MIN, _HALF_MAX = 40, 160  # pixels from the centre of a template to its edge
_HALF_SQUARE = 96  # the same of the square of the filter's kernel
_HALF_FWHM = 10  # the same in beam widths


@dataclass(frozen=True)
class Band:
    """Rows of one flat-sky band: rows [start, stop) are kept of the filtered rows [low, high)."""

    start: int
    stop: int
    low: int
    high: int
    step_rad: tuple  # pixel size (dy, dx) at the middle row


@dataclass(frozen=True)
class Pixels:
    """Physical pixels of a map: size along y and x (radians) and area (sr) of each row, each of shape (ny,).

    ``margin_rows`` is how many of the first and of the last rows only surround the map: no band has some of them and
    some of the others.
    """

    dy_rad: np.ndarray
    dx_rad: np.ndarray
    area_sr: np.ndarray
    margin_rows: tuple = (0, 0)


def plan_bands(shape, pixels, *, band_rows=400, pad_rows=40):
    """Cut a map of ``shape`` into bands of about ``band_rows`` rows, margins apart, each padded by ``pad_rows``."""
    first, last = pixels.margin_rows[0], shape[0] - pixels.margin_rows[1]
    count = max(1, round((last - first) / band_rows))
    edges = np.linspace(first, last, count + 1).round().astype(int)
    edges = np.unique(np.concatenate([[0], edges, [shape[0]]]))
    bands = []
    for start, stop in zip(edges[:-1], edges[1:], strict=True):
        middle = (start + stop) // 2
        step = float(pixels.dy_rad[middle]), float(pixels.dx_rad[middle])
        bands.append(Band(int(start), int(stop), max(0, start - pad_rows), min(shape[0], stop + pad_rows), step))
    return bands


def filter_map(signal, ivar, pixels, beam_ell, noise, *, bands, pixel_window=True, apodisation=None):
    """Filter a map.

    Parameters
    ----------
    signal, ivar : ndarray (ny, nx) float32
        Map in mJy/sr and its inverse variance; ivar = 0 where unobserved.
    pixels : Pixels
        Pixel sizes and areas by row.
    beam_ell : (ell, B)
        Beam transform with B(0) = 1.
    noise : list of NoiseModel
        One a band.
    bands : list of Band
        From :func:`plan_bands`.
    pixel_window : bool
        Whether a pixel holds the mean over its area, as in maps made from time streams.
    apodisation : ndarray (ny, nx) float32, optional
        Weight from 0 to 1 of the pixels beside their inverse variance. Fluxes stay right and the errors
        grow by what the weight gives away.

    Returns
    -------
    rho, kappa : ndarray (ny, nx) float32
        In mJy^-1 and mJy^-2; exactly 0 where unobserved.
    template : Template
        Shape A of a point source in rho / sqrt(kappa), by band.
    """
    rho, kappa = (np.zeros(signal.shape, signal.dtype) for _ in range(2))
    templates, half = [], template_half(bands, beam_ell)
    for band, model in zip(bands, noise, strict=True):
        columns = _observed_columns(ivar[band.low : band.high])
        templates.append(band_template(band.step_rad, beam_ell, model, half, pixel_window=pixel_window))
        if columns is None:
            continue
        rows = slice(band.low, band.high)
        kept = slice(band.start - band.low, band.stop - band.low)
        images = tuple(None if i is None else i[rows, columns] for i in (signal, ivar, apodisation))
        filtered = _filter_band(images, band.step_rad, beam_ell, model, pixel_window)
        factor = row_response(pixels.dx_rad[band.start : band.stop], band.step_rad, beam_ell, model, pixel_window)
        factor = (factor / pixels.area_sr[band.start : band.stop])[:, None]
        np.multiply(filtered[0][kept], factor, out=rho[band.start : band.stop, columns])
        np.multiply(filtered[1][kept], factor**2, out=kappa[band.start : band.stop, columns])
        del filtered  # before the next band needs the room
    edges = np.array([bands[0].start] + [band.stop for band in bands])
    steps = np.degrees([band.step_rad for band in bands]) * 60
    return rho, kappa, Template(np.array(templates, np.float32), edges, steps)


def significance(rho, kappa):
    """SNR rho / sqrt(kappa), NaN where unobserved; shape and type of its inputs."""
    root = np.sqrt(kappa)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.divide(rho, root, out=root)


def template_half(bands, beam_ell):
    """Pixels from the centre of a template to its edge, the same for all bands: ten beam widths within reason."""
    ell, b_ell = beam_ell
    width = np.sqrt(8 * np.log(2)) / ell[np.argmax(np.append(b_ell, 0) < np.exp(-0.5))]
    step = min(min(band.step_rad) for band in bands)
    return int(np.clip(np.ceil(_HALF_FWHM * width / step), _HALF_MIN, _HALF_MAX))


def band_template(step_rad, beam_ell, noise, half, *, pixel_window=True):
    """Template A = IFT[B^2 / C] of one band, A = 1 at the centre; shape (2 half + 1, 2 half + 1)."""
    ell_y, ell_x = noise_models.frequencies(_patch(half), step_rad)
    beam = _beam_grid(ell_y, ell_x, step_rad, beam_ell, pixel_window)
    return _cut_patch(beam**2 / noise_models.evaluate(noise, ell_y, ell_x), half)[0]


def beam_stamp(step_rad, beam_ell, half, pixel_window=True):
    """A point source in the unfiltered map of one band.

    Returns
    -------
    stamp : ndarray (2 half + 1, 2 half + 1) float32
        Beam with pixel window, 1 at the centre.
    peak_per_flux : float
        Value of the central pixel in mJy/sr for 1 mJy.
    """
    ell_y, ell_x = noise_models.frequencies(_patch(half), step_rad)
    stamp, peak = _cut_patch(_beam_grid(ell_y, ell_x, step_rad, beam_ell, pixel_window), half)
    return stamp, peak / (step_rad[0] * step_rad[1])


def row_response(dx_rad, step_rad, beam_ell, noise, pixel_window=True):
    """Flux response sum(B_t B_row / C) / sum(B_t^2 / C) of rows with pixel width ``dx_rad`` (n,), shape (n,) float32.

    B_t is the beam at the band's middle, B_row that of the row. Computed at five widths and interpolated.
    """
    ell_y, ell_x = noise_models.frequencies(_patch(_HALF_MIN), step_rad)
    middle = _beam_grid(ell_y, ell_x, step_rad, beam_ell, pixel_window)
    weighted = middle / noise_models.evaluate(noise, ell_y, ell_x) * _half_plane_weights(len(ell_x))
    low, high = float(np.min(dx_rad)), float(np.max(dx_rad))
    if high - low < 1e-6 * step_rad[1]:
        low, high = low * (1 - 1e-6), high * (1 + 1e-6)
    widths = np.linspace(low, high, 5)
    scales = step_rad[1] / widths
    values = [np.sum(weighted * _beam_grid(ell_y, ell_x * s, step_rad, beam_ell, pixel_window, ell_x)) for s in scales]
    polynomial = np.polynomial.Polynomial.fit(widths, np.array(values) / np.sum(weighted * middle), 4)
    return polynomial(dx_rad).astype(np.float32)


def _patch(half):
    """Shape of the patch on which templates and responses are computed."""
    side = 1 << int(np.ceil(np.log2(4 * half + 1)))
    return side, side


def _cut_patch(spectrum, half):
    """Middle of the image of a real spectrum, divided by its central pixel, and that pixel."""
    side = spectrum.shape[0]
    image = np.fft.fftshift(np.fft.irfft2(spectrum, s=(side, side)))
    window = slice(side // 2 - half, side // 2 + half + 1)
    peak = float(image[side // 2, side // 2])
    return (image[window, window] / peak).astype(np.float32), peak


def _filter_band(images, step_rad, beam_ell, noise, pixel_window):
    """rho and kappa of one band, without the factors of pixel area and response.

    ``images``: signal, ivar and apodisation, the last one may be None.
    """
    signal, ivar, apodisation = images
    ny, nx = signal.shape
    shape = tuple(inpainting.good_size(n + pad) for n, pad in zip(signal.shape, PADS, strict=True))
    weight = inpainting.pad(ivar, shape)
    padded = inpainting.inpaint(inpainting.pad(signal, shape), weight)
    if apodisation is not None:
        weight[:ny, :nx] *= apodisation
    ell_y, ell_x = noise_models.frequencies(shape, step_rad)
    whiten, kernel = noise_models.evaluate_with(noise, ell_y, ell_x, [beam_ell], power=-0.5)
    kernel *= whiten
    if pixel_window:
        _apply_window(kernel, ell_y, ell_x, step_rad)
    padded = _convolve(padded, whiten)
    padded *= weight
    rho = _convolve(padded, kernel)[:ny, :nx]
    del padded, whiten
    squared = _square_transfer(kernel, step_rad, beam_ell, noise, pixel_window)
    kappa = _convolve(weight, squared)[:ny, :nx]
    if apodisation is not None:
        weight[:ny, :nx] *= apodisation
        rho, kappa = _reweigh(rho, kappa, _convolve(weight, squared)[:ny, :nx])
    np.maximum(kappa, 0, out=kappa)
    unobserved = ivar <= 0
    rho[unobserved] = kappa[unobserved] = 0
    return rho, kappa


def _square_transfer(kernel, step_rad, beam_ell, noise, pixel_window):
    """Transfer function (ny, nx) of the square of the image of ``kernel``, which is that of the noise and beam given.

    The image is narrow: it is squared on a small patch, scaled to the sum of its squares over the whole band.
    """
    shape, half = (kernel.shape[0], 2 * (kernel.shape[1] - 1)), _HALF_SQUARE
    if min(shape) <= 2 * half:
        image = _irfft(kernel.astype(np.complex64), shape)
        return _rfft(np.square(image, out=image)).real
    ell_y, ell_x = noise_models.frequencies((4 * half, 4 * half), step_rad)
    whiten, patch = noise_models.evaluate_with(noise, ell_y, ell_x, [beam_ell], power=-0.5)
    patch *= whiten
    if pixel_window:
        _apply_window(patch, ell_y, ell_x, step_rad)
    image = _irfft(patch.astype(np.complex64), (4 * half, 4 * half))
    np.square(image, out=image)
    rows = np.zeros((half, shape[1]), np.float32)  # those from the centre up; f(-y, -x) = f(y, x) gives the others
    rows[:, :half], rows[:, -half:] = image[:half, :half], image[:half, -half:]
    of_rows = np.zeros((shape[0] // 2 + 1, kernel.shape[1]), np.complex64)
    ducc0.fft.r2c(rows, axes=(1,), nthreads=0, out=of_rows[:half])
    squared = ducc0.fft.c2r(of_rows, axes=(0,), lastsize=shape[0], nthreads=0, allow_overwriting_input=True)
    total = np.einsum("ij,ij->j", kernel, kernel) @ _half_plane_weights(kernel.shape[1]) / (shape[0] * shape[1])
    squared *= np.float32(total / squared[0, 0])
    return squared


def _reweigh(rho, response, variance):
    """rho and kappa of filtered data whose weight is not its inverse variance.

    The flux is rho / response and its variance is variance / response^2, where ``variance`` is that of rho.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.where((response > 0) & (variance > 0), response / variance, 0).astype(np.float32)
    return rho * factor, response * factor


def _observed_columns(ivar):
    """Slice of the columns that hold any data, or None."""
    found = np.flatnonzero(ivar.any(axis=0))
    return slice(int(found[0]), int(found[-1]) + 1) if found.size else None


def _beam_grid(ell_y, ell_x, step_rad, beam_ell, pixel_window, window_ell_x=None):
    """Beam times pixel window on a grid of multipoles; ``window_ell_x``: the x frequencies the window is taken at."""
    beam = noise_models.radial_grid(ell_y, ell_x, *beam_ell)
    if pixel_window:
        _apply_window(beam, ell_y, ell_x if window_ell_x is None else window_ell_x, step_rad)
    return beam


def _apply_window(grid, ell_y, ell_x, step_rad):
    """Multiply a grid of multipoles, in place, by the transform of a pixel."""
    grid *= np.sinc(ell_y * step_rad[0] / (2 * np.pi)).astype(np.float32)[:, None]
    grid *= np.sinc(ell_x * step_rad[1] / (2 * np.pi)).astype(np.float32)[None, :]


def _half_plane_weights(n):
    """How often each column of a half plane of width n stands in the whole plane (even size)."""
    weights = np.full(n, 2.0, np.float32)
    weights[[0, -1]] = 1
    return weights


def _convolve(image, transfer):
    spectrum = _rfft(image)
    spectrum *= transfer
    return _irfft(spectrum, image.shape)


def _rfft(image):
    return ducc0.fft.r2c(image, nthreads=0)


def _irfft(spectrum, shape):
    """Image of ``shape``; the spectrum is used up."""
    options = {"inorm": 2, "forward": False, "nthreads": 0, "allow_overwriting_input": True}
    return ducc0.fft.c2r(spectrum, lastsize=shape[1], **options)
