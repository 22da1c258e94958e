"""From an input map to rho and kappa with true errors: noise model, matched filter, masks, flat field.

The noise model is measured on the map minus its sources: one 3 Jy source would raise it for a whole field.
Each pass filters the map, finds what stands above ``find_snr`` (known or not), refines the positions,
solves the blends, and takes all of it out of the map before the next measurement of the noise. The
catalogue of known sources is not needed.
"""

import logging

import numpy as np

from sotrplib import beams, flatfield, geometry, masks, matched_filter, noise, photometry, positions, subtraction
from sotrplib.maps import MapError, SkyMap
from sotrplib.tables import MASK_BITS
from sotrplib.template import Template, gaussian_template, template_from_autocorrelation

log = logging.getLogger(__name__)

ELL = np.arange(0, 62000, 20.0)


def preprocess(input_map, beam, options, *, planets=None, galaxy=None):
    """Turn an input map into rho, kappa, time and mask.

    Parameters
    ----------
    input_map : maps.InputMap
    beam : beams.Beam
    options : mapping
        Section ``preprocess_map`` of the configuration.
    planets : DataFrame, optional
        Rows of the table "moving" to mask, with their discs.
    galaxy : ndarray (ny, nx) bool, optional
        Pixels under the galaxy mask.

    Returns
    -------
    maps.SkyMap

    Raises
    ------
    maps.MapError
        If nothing of the map is left to use.
    """
    shape, wcs = input_map.signal.shape, input_map.wcs
    galaxy = np.zeros(shape, bool) if galaxy is None else galaxy
    discs = _planet_mask(shape, wcs, planets, options)
    weight = masks.clean_kappa(np.where(discs, 0, input_map.weight), options["kappa_min_fraction"])
    signal = np.where(weight > 0, input_map.signal, np.float32(0))
    if not (weight > 0).any():
        raise MapError(f"{input_map.info.map_id}: no pixel is left after the planet mask and the cleaning of weights")
    pixels = map_pixels(shape, wcs)
    if input_map.form == "intensity_ivar":
        beam_ell = ELL, beams.beam_transform(beam, ELL)
        rho, kappa, template = filter_converged(signal, weight, pixels, beam_ell, options, exclude=galaxy)
    else:
        rho, kappa = signal, weight
        template = given_template(rho, kappa, pixels, beam, input_map.info, options)
    mask = _mask(kappa, discs, galaxy, wcs, options)
    rho, kappa = _flatten(rho, kappa, mask, pixels, options)
    return SkyMap(rho, kappa, input_map.time, mask, wcs, input_map.info, template)


def summarize(sky_map):
    """Numbers of a map for the table of maps: time_unix_s, area_deg2, flux_err_mjy (median) and snr_std (robust)."""
    good = sky_map.mask == 0
    summary = {
        "time_unix_s": float(sky_map.info.t_ref_unix_s),
        "area_deg2": float(geometry.area_deg2(good.shape, sky_map.wcs, good)),
        "flux_err_mjy": float("nan"),
        "snr_std": float("nan"),
    }
    if good.any():
        rho, kappa = sky_map.rho[good], sky_map.kappa[good]
        low, high = np.percentile((rho / np.sqrt(kappa))[::7], [15.865, 84.135])
        summary |= {"flux_err_mjy": float(np.median(kappa) ** -0.5), "snr_std": float(high - low) / 2}
    return summary


def map_pixels(shape, wcs):
    """Pixels of a map by row (matched_filter.Pixels)."""
    dy_arcmin, dx_arcmin = geometry.pixel_scales(shape, wcs)
    arcmin = np.radians(1 / 60)
    return matched_filter.Pixels(dy_arcmin * arcmin, dx_arcmin * arcmin, geometry.pixel_area_sr(shape, wcs))


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
        Pixels to leave out of the noise measurement (bright Galactic emission).

    Returns
    -------
    rho, kappa, template
        As from :func:`matched_filter.filter_map`.
    """
    bands = matched_filter.plan_bands(
        signal.shape, pixels, band_rows=options["band_rows"], pad_rows=options["pad_rows"]
    )
    window = options["pixel_window"]
    observed = ivar > 0 if exclude is None else (ivar > 0) & ~exclude
    residual, trusted = signal, observed
    passes = options["passes"] if options["noise_model"] == "measured" else 1
    for step in range(passes):
        models = noise_models(residual, ivar, observed, trusted, pixels, bands, options)
        rho, kappa, template = matched_filter.filter_map(
            signal, ivar, pixels, beam_ell, models, bands=bands, pixel_window=window
        )
        if step + 1 < passes:
            found = bright_sources(rho, kappa, template, options["find_snr"])
            log.info("pass %d: %d sources above %g sigma", step + 1, len(found[0]), options["find_snr"])
            residual = signal - paint_sources(signal.shape, pixels, bands, beam_ell, found, pixel_window=window)
            trusted = observed & ~_uncertain(signal.shape, pixels, beam_ell, found, options["beam_error"])
    return rho, kappa, template


def noise_models(residual, ivar, observed, trusted, pixels, bands, options):
    """Noise model of every band: the one configured, or measured in zones of ``noise_zone_deg`` of declination."""
    if options["noise_model"] == "white":
        return [noise.white()] * len(bands)
    if options["noise_model"] == "power_law":
        return [noise.power_law(options["ell_knee"], options["alpha"])] * len(bands)
    models = []
    for zone in _zones(bands, pixels, np.radians(options["noise_zone_deg"])):
        rows = slice(zone[0].start, zone[-1].stop)
        parts = (image[rows] for image in (residual, ivar, observed, trusted))
        step_rad = zone[len(zone) // 2].step_rad
        models += [_measure_noise(*parts, step_rad, options["noise_taper_arcmin"])] * len(zone)
    return models


def bright_sources(rho, kappa, template, snr_min):
    """Peaks above ``snr_min``: y, x (pixels), flux (mJy, blends solved) and SNR, each of shape (n,)."""
    snr = np.where(kappa > 0, rho / np.sqrt(np.where(kappa > 0, kappa, 1)), np.nan).astype(np.float32)
    y, x = positions.local_maxima(snr, 0.75 * snr_min)
    y, x, peak = positions.refine(snr, y, x, template)[:3]
    keep = positions.distinct(y, x, peak) & (peak >= snr_min)
    flux, error, _ = photometry.measure(rho, kappa, y[keep], x[keep], template)
    good = np.isfinite(flux) & (flux > 0)
    return y[keep][good], x[keep][good], flux[good], flux[good] / error[good]


def paint_sources(shape, pixels, bands, beam_ell, sources, *, pixel_window=True):
    """Map [mJy/sr] of sources (y, x, flux, ...) as :func:`bright_sources` gives them."""
    stamps, peaks = zip(*(matched_filter.beam_stamp(b.step_rad, beam_ell, pixel_window) for b in bands), strict=True)
    edges = np.array([bands[0].start] + [band.stop for band in bands])
    template = Template(np.array(stamps), edges, np.degrees([band.step_rad for band in bands]) * 60)
    y, x, flux = sources[:3]
    band = np.clip(np.searchsorted(edges, np.rint(y), side="right") - 1, 0, len(bands) - 1)
    return subtraction.paint(shape, y, x, flux * np.array(peaks)[band], template, filtered=False)


def given_template(rho, kappa, pixels, beam, info, options):
    """Template of a map that arrives filtered: the autocorrelation of its own noise, or its beam."""
    middle = len(pixels.dy_rad) // 2
    step = np.degrees([pixels.dy_rad[middle], pixels.dx_rad[middle]]) * 60
    if options["given_template"] == "beam":
        return gaussian_template(beams.beam_fwhm_arcmin(beam), step, autocorrelate=False, n_rows=rho.shape[0])
    snr = np.where(kappa > 0, rho / np.sqrt(np.where(kappa > 0, kappa, 1)), np.nan)
    try:
        return template_from_autocorrelation(snr, kappa <= 0, step)
    except ValueError as error:
        log.warning("%s: %s; the beam is used as its template", info.map_id, error)
        return gaussian_template(beams.beam_fwhm_arcmin(beam), step, n_rows=rho.shape[0])


def _measure_noise(residual, ivar, observed, trusted, step_rad, taper_arcmin):
    """Noise model of the rows of a zone; white where there is too little of it to measure."""
    width = np.radians(taper_arcmin / 60) / step_rad[0]
    taper = masks.taper(observed, width, aspect=step_rad[1] / step_rad[0])
    if np.count_nonzero(taper > 0.5) < 2500:
        log.warning("noise: only %d pixels away from edges; white noise assumed", np.count_nonzero(taper > 0.5))
        return noise.white()
    ivar = np.where(trusted, ivar, 0)
    whitened = matched_filter.fill(residual, ivar) * np.sqrt(matched_filter.fill(ivar, (ivar > 0).astype(np.float32)))
    return noise.estimate(whitened, taper, step_rad)


def _zones(bands, pixels, height_rad):
    """Lists of neighbouring bands, each about ``height_rad`` high."""
    rows = bands[-1].stop - bands[0].start
    count = max(1, round(rows * float(pixels.dy_rad[0]) / height_rad))
    return [[bands[i] for i in part] for part in np.array_split(range(len(bands)), min(count, len(bands)))]


def _uncertain(shape, pixels, beam_ell, sources, beam_error):
    """Pixels around sources so bright (SNR > 0.3 / beam_error) that what the beam leaves of them shows in the noise."""
    y, x, _, snr = (values[sources[3] > 0.3 / beam_error] for values in sources)
    radius = 2 * beams.transform_fwhm_rad(*beam_ell) * np.sqrt(np.maximum(np.log2(snr * beam_error / 0.3), 1))
    result = np.zeros(shape, bool)
    for row, column, reach in zip(y, x, radius, strict=True):
        dy, dx = pixels.dy_rad[round(row)], pixels.dx_rad[round(row)]
        low, left = max(0, int(row - reach / dy)), max(0, int(column - reach / dx))
        window = slice(low, int(row + reach / dy) + 2), slice(left, int(column + reach / dx) + 2)
        rows, columns = np.ogrid[: result[window].shape[0], : result[window].shape[1]]
        distance = np.hypot((rows + low - row) * dy, (columns + left - column) * dx)
        result[window] |= distance < reach
    return result


def _planet_mask(shape, wcs, planets, options):
    if planets is None or not len(planets) or not options["planet_mask_radius_arcmin"]:
        return np.zeros(shape, bool)
    radius = np.maximum(planets["radius_arcmin"].to_numpy(), options["planet_mask_radius_arcmin"])
    return masks.disc_mask(shape, wcs, planets["ra_deg"].to_numpy(), planets["dec_deg"].to_numpy(), radius)


def _mask(kappa, discs, galaxy, wcs, options):
    observed = kappa > 0
    mask = np.where(observed, 0, MASK_BITS["UNOBSERVED"]).astype(np.uint8)
    mask[masks.edge_mask(observed, wcs, options["edge_arcmin"])] |= MASK_BITS["EDGE"]
    mask[galaxy] |= MASK_BITS["GALAXY"]
    mask[discs] |= MASK_BITS["PLANET"]
    return mask


def _flatten(rho, kappa, mask, pixels, options):
    """rho and kappa with the local rms of the SNR made 1 (see :mod:`flatfield`)."""
    tile = options["flatfield_tile_deg"]
    if not tile:
        return rho, kappa
    middle = len(pixels.dy_rad) // 2
    tile_pix = tuple(max(16, round(np.radians(tile) / s)) for s in (pixels.dy_rad[middle], pixels.dx_rad[middle]))
    snr = np.divide(rho, np.sqrt(kappa), out=np.zeros_like(rho), where=kappa > 0)
    return flatfield.apply(rho, kappa, flatfield.local_rms(snr, mask == 0, tile_pix))
