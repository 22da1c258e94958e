"""The matched filter with a noise model measured on the map itself, minus its sources.

One 3 Jy source would raise the noise of a whole field. Each pass filters the map, finds what stands above
``find_snr`` (known or not), refines the positions, solves the blends, and takes all of it out of the map before
the next measurement of the noise. The catalogue of known sources is not needed. What was taken out is put back
into rho as templates, so that the ripples of the filter around a bright source end where its template ends.
"""

import logging
from typing import NamedTuple

import numpy as np

from sotrplib import beams, inpainting, matched_filter, noise, photometry, positions, subtraction, tapers
from sotrplib.template import Template, band_of, fwhm_arcmin

log = logging.getLogger(__name__)


class Bright(NamedTuple):
    """Sources taken out of the noise: pixel positions, flux [mJy] and SNR, arrays of shape (n,)."""

    y: np.ndarray
    x: np.ndarray
    flux: np.ndarray
    snr: np.ndarray


_FEWEST_PIXELS = 2500  # with fewer, far from edges, the noise is not measured
_COARSE_FWHM, _COARSE_FIRST_FWHM = 3.8, 2.6  # beam in pixels for coarse passes: all but the last, and the first
_COARSE_MIN_PIXELS = 128
_COARSE_MAX_SNR = 3000.0  # of brighter sources their error of a thousandth would be seen
_NO_SOURCES = Bright(*(np.zeros(0) for _ in range(4)))


def filter_converged(signal, ivar, pixels, beam_ell, options, *, exclude=None):
    """Filter a map with a noise model measured on the map itself, minus its sources.

    Parameters
    ----------
    signal, ivar : ndarray (ny, nx) float32
        mJy/sr and its inverse variance.
    pixels : matched_filter.Pixels
    beam_ell : (ell, B)
        Beam transform, B(0) = 1.
    options : mapping
        Section ``preprocess_map`` of the configuration.
    exclude : ndarray (ny, nx) bool, optional
        Pixels to leave out of the noise measurement (bright Galactic emission, for one).

    Returns
    -------
    rho, rho_residual : ndarray (ny, nx) float32
        Filtered map, sources above ``find_snr`` standing in it as their templates; the same without them.
    kappa, template
        As from :func:`matched_filter.filter_map`.
    spectra : pandas.DataFrame
        Table ``noise_spectra``: what the noise of the map is and what the last pass took it for.
    """
    passes = options["passes"] if options["noise_model"] == "measured" else 1
    whole = plan_grid(signal, ivar, pixels, options, exclude=exclude)
    n_coarse = _count_coarse(whole, beam_ell, passes, options)
    sources = _NO_SOURCES
    if n_coarse:
        sources = _search(_halve(whole, options, exclude), beam_ell, sources, options, n_coarse)
        sources = _on_data(sources._replace(y=2 * sources.y + 0.5, x=2 * sources.x + 0.5), ivar)
        n_coarse -= bool(np.any(sources.snr > _COARSE_MAX_SNR))
    sources = _search(whole, beam_ell, sources, options, passes - 1 - n_coarse)
    *filtered, (found, used) = _filter_without(whole, beam_ell, sources, options)
    measured = found if options["noise_model"] == "measured" else None
    return *filtered, noise.tabulate(measured, used, [zone.rows for zone in whole.zones])


class Grid(NamedTuple):
    """A map as it is filtered: its pixels, the bands and zones it is cut into, and its apodisation (or None)."""

    signal: np.ndarray
    ivar: np.ndarray
    pixels: matched_filter.Pixels
    bands: list
    zones: list
    apodisation: np.ndarray | None


def plan_grid(signal, ivar, pixels, options, *, exclude=None, binning=1):
    """Grid of a map whose pixels are ``binning`` times as large as those of the map that the options are for.

    Its bands hold as many rows, and are the higher on the sky.
    """
    pad_rows = max(1, options["pad_rows"] // binning)
    bands = matched_filter.plan_bands(signal.shape, pixels, band_rows=options["band_rows"], pad_rows=pad_rows)
    observed = ivar > 0
    apodisation = _apodisation(observed, pixels, options)
    if exclude is not None:
        observed &= ~exclude
    return Grid(signal, ivar, pixels, bands, plan_zones(observed, pixels, bands, options), apodisation)


def _count_coarse(grid, beam_ell, passes, options):
    """How many of the passes before the last may be made on pixels of twice the size.

    They only have to find what is bright. Two of the larger pixels in a beam hold all that there is of it, and
    less will do at first; the pixel window of the larger pixels is that of a mean over the small ones.
    """
    width = beams.transform_fwhm_rad(*beam_ell) / float(grid.pixels.dy_rad[0])
    if not options["pixel_window"] or min(grid.signal.shape) < _COARSE_MIN_PIXELS:
        return 0
    return passes - 1 if width >= _COARSE_FWHM else min(1, passes - 1) if width >= _COARSE_FIRST_FWHM else 0


def _halve(grid, options, exclude):
    """The same map in pixels of twice the size, each the weighted mean of four."""
    even = tuple(slice(0, n - n % 2) for n in grid.signal.shape)
    signal, ivar = inpainting.mean_blocks(grid.signal[even], grid.ivar[even])
    p = grid.pixels
    dy, dx, area = (values[even[0]].reshape(-1, 2) for values in (p.dy_rad, p.dx_rad, p.area_sr))
    margin_rows = tuple(n // 2 for n in p.margin_rows)
    pixels = matched_filter.Pixels(dy.sum(axis=1), 2 * dx.mean(axis=1), 2 * area.sum(axis=1), margin_rows)
    if exclude is not None:
        exclude = exclude[even].reshape(len(dy), 2, -1, 2).any(axis=(1, 3))
    return plan_grid(signal, ivar, pixels, options, exclude=exclude, binning=2)


def _on_data(sources, ivar):
    """Sources whose nearest pixel is observed: what is taken out of a map elsewhere would not be put back into it."""
    pixel = tuple(np.clip(np.rint(p).astype(int), 0, n - 1) for p, n in zip(sources[:2], ivar.shape, strict=True))
    return Bright(*(values[ivar[pixel] > 0] for values in sources))


def _search(grid, beam_ell, sources, options, passes):
    """Bright sources after further passes of filtering and finding."""
    for k in range(passes):
        filtered = _filter_without(grid, beam_ell, sources, options)[:4]
        sources = find_bright(*filtered, sources, options["find_snr"])
        size, snr = " x ".join(map(str, grid.signal.shape)), options["find_snr"]
        log.info("search %d of %d on %s pixels: %d sources above %g sigma", k + 1, passes, size, len(sources.y), snr)
    return sources


def _filter_without(grid, beam_ell, sources, options):
    """One pass: rho, rho without ``sources``, kappa, template, the noise measured without ``sources``.

    Last come the noise models of the zones: before and after the cut of low multipoles.
    """
    window, residual, suspect = options["pixel_window"], grid.signal, None
    if len(sources.y):
        residual = paint_sources(residual.shape, grid.pixels, grid.bands, beam_ell, sources, pixel_window=window)
        np.subtract(grid.signal, residual, out=residual)
        suspect = _find_suspect(residual.shape, grid.pixels, beam_ell, sources, options["beam_error"])
    whole_models = noise_models(residual, grid.ivar, suspect, grid.zones, options)
    models = [noise.cut_below(model, options["ell_min"]) for model in whole_models]
    rho_residual, kappa, template = matched_filter.filter_map(
        residual,
        grid.ivar,
        grid.pixels,
        beam_ell,
        models,
        bands=grid.bands,
        pixel_window=window,
        apodisation=grid.apodisation,
    )
    of_zones = np.cumsum([0, *(zone.n_bands for zone in grid.zones[:-1])])
    noted = tuple([chosen[k] for k in of_zones] for chosen in (whole_models, models))
    return _put_back(rho_residual, sources, kappa, template), rho_residual, kappa, template, noted


class Zone(NamedTuple):
    """Rows over which the noise is measured: their bands, pixel size, and the taper of the observed pixels.

    The taper is None where the noise is not measured.
    """

    rows: slice
    n_bands: int
    step_rad: tuple
    taper: np.ndarray | None


def plan_zones(observed, pixels, bands, options):
    """Zones of about ``noise_zone_deg`` of declination, each of whole bands; margins come on top."""
    height = (bands[-1].stop - bands[0].start - sum(pixels.margin_rows)) * float(pixels.dy_rad[0])
    count = min(len(bands), max(1, round(height / np.radians(options["noise_zone_deg"]))))
    zones = []
    for part in np.array_split(np.arange(len(bands)), count):
        rows, step = slice(bands[part[0]].start, bands[part[-1]].stop), bands[part[len(part) // 2]].step_rad
        width = np.radians(options["noise_taper_arcmin"] / 60) / step[0]
        aspect, measured = step[1] / step[0], options["noise_model"] == "measured"
        taper = tapers.taper(observed[rows], width, aspect=aspect) if measured else None
        zones.append(Zone(rows, len(part), step, taper))
    return zones


def noise_models(residual, ivar, suspect, zones, options):
    """Noise model of every band: the one configured, or measured in its zone.

    ``residual`` is the map without its sources; where it is ``suspect`` (Suspect, None for nowhere) it is filled in.
    """
    if options["noise_model"] == "white":
        return [noise.white()] * sum(zone.n_bands for zone in zones)
    if options["noise_model"] == "power_law":
        return [noise.power_law(options["ell_knee"], options["alpha"])] * sum(zone.n_bands for zone in zones)
    models = []
    for zone in zones:
        doubtful = None if suspect is None else _cut_rows(suspect, zone.rows)
        part = residual[zone.rows], ivar[zone.rows], doubtful
        models += [_measure_noise(*part, zone, options["noise_shear"])] * zone.n_bands
    return models


def find_bright(rho, rho_residual, kappa, template, known, snr_min):
    """Sources of a map above ``snr_min``: those known so far, and new peaks of the map without them.

    Parameters
    ----------
    rho, rho_residual, kappa : ndarray (ny, nx)
        rho with and without the sources known so far.
    template : template.Template
    known : Bright
    snr_min : float

    Returns
    -------
    Bright
        All positions refined and all fluxes solved together on the map with the sources in it.
    """
    snr_residual, snr = (matched_filter.significance(image, kappa) for image in (rho_residual, rho))
    y, x = positions.local_maxima(snr_residual, 0.75 * snr_min)
    y, x, peak = positions.refine(snr_residual, y, x, template)[:3]
    new = (peak >= snr_min) & positions.distinct(y, x, peak)
    y, x = np.append(known.y, y[new]), np.append(known.x, x[new])
    refined = positions.refine(snr, y, x, template)
    y, x = np.where(refined.converged, refined.y, y), np.where(refined.converged, refined.x, x)
    apart = positions.distinct(y, x, refined.s_max, _fwhm_pix(template))
    y, x = y[apart], x[apart]
    flux, error, _ = photometry.measure(rho, kappa, y, x, template)
    good = np.nan_to_num(flux / error) >= snr_min
    return Bright(y[good], x[good], flux[good], (flux / error)[good])


def paint_sources(shape, pixels, bands, beam_ell, sources, *, pixel_window=True):
    """Map [mJy/sr] of ``sources`` (Bright), beam and pixel window included."""
    half = matched_filter.template_half(bands, beam_ell)
    stamps, peaks = zip(
        *(matched_filter.beam_stamp(b.step_rad, beam_ell, half, pixel_window) for b in bands), strict=True
    )
    edges = np.array([bands[0].start] + [band.stop for band in bands])
    template = Template(np.array(stamps), edges, np.degrees([band.step_rad for band in bands]) * 60)
    amplitude = sources.flux * np.array(peaks)[band_of(template, sources.y)]
    return subtraction.paint(shape, sources.y, sources.x, amplitude, template, filtered=False)


def _put_back(rho, sources, kappa, template):
    """rho with the templates of ``sources`` (Bright) added."""
    if not len(sources.y):
        return rho
    return rho + subtraction.model_rho(rho.shape, sources.y, sources.x, sources.flux, kappa, template)


def _fwhm_pix(template):
    """Width of the template of the middle band in rows."""
    middle = len(template.values) // 2
    return float(fwhm_arcmin(template, template.row_edges[middle]) / template.step_arcmin[middle][0])


def _apodisation(observed, pixels, options):
    """Taper of the edges and holes that the options ask for, None for none."""
    middle = len(pixels.dy_rad) // 2
    step = np.degrees([pixels.dy_rad[middle], pixels.dx_rad[middle]]) * 60
    widths = {"edge_arcmin": options["apodise_edge_arcmin"], "hole_arcmin": options["apodise_hole_arcmin"]}
    return tapers.apodisation(observed, step, **widths)


def _measure_noise(residual, ivar, suspect, zone, shear):
    """Noise model of the rows of a zone; white where there is too little of it to measure."""
    n_inside = np.count_nonzero(zone.taper > 0.5)
    if n_inside < _FEWEST_PIXELS:
        log.warning("noise: only %d pixels away from edges; white noise assumed", n_inside)
        return noise.white()
    whitened = residual * np.sqrt(ivar)
    if suspect is not None:
        inpainting.fill_spots(whitened, ivar, suspect.pixels, suspect.windows)
    return noise.estimate(whitened, zone.taper, zone.step_rad, shear=shear)


class Suspect(NamedTuple):
    """Pixels (ny, nx) bool that are not to count as noise, and windows (rows, columns: slices) that hold them all."""

    pixels: np.ndarray
    windows: list


def _find_suspect(shape, pixels, beam_ell, sources, beam_error):
    """Discs around sources so bright (SNR > 0.3 / beam_error) that what the beam leaves of them shows in the noise."""
    y, x, _, snr = (values[sources.snr > 0.3 / beam_error] for values in sources)
    radius = 2 * beams.transform_fwhm_rad(*beam_ell) * np.sqrt(np.maximum(np.log2(snr * beam_error / 0.3), 1))
    result = Suspect(np.zeros(shape, bool), [])
    for row, column, reach in zip(y, x, radius, strict=True):
        dy, dx = pixels.dy_rad[round(row)], pixels.dx_rad[round(row)]
        low, left = max(0, int(row - reach / dy)), max(0, int(column - reach / dx))
        window = slice(low, int(row + reach / dy) + 2), slice(left, int(column + reach / dx) + 2)
        part = result.pixels[window]
        rows, columns = np.ogrid[: part.shape[0], : part.shape[1]]
        distance = np.hypot((rows + low - row) * dy, (columns + left - column) * dx)
        part |= distance < reach
        result.windows.append((slice(low, low + part.shape[0]), slice(left, left + part.shape[1])))
    return result


def _cut_rows(suspect, rows):
    """What is suspect in some rows of a map."""
    cut = [(slice(max(w.start, rows.start), min(w.stop, rows.stop)), columns) for w, columns in suspect.windows]
    moved = [(slice(w.start - rows.start, w.stop - rows.start), columns) for w, columns in cut if w.start < w.stop]
    return Suspect(suspect.pixels[rows], moved)
