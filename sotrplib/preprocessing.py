"""From an input map to rho and kappa with true errors: noise model, matched filter, masks, flat field.

The noise model is measured on the map minus its sources: one 3 Jy source would raise it for a whole field.
Each pass filters the map, finds what stands above ``find_snr`` (known or not), refines the positions,
solves the blends, and takes all of it out of the map before the next measurement of the noise. The
catalogue of known sources is not needed. What was taken out is put back into rho as templates, so that
the ripples of the filter around a bright source end where its template ends.
"""

import dataclasses
import logging
from typing import NamedTuple

import numpy as np

from sotrplib import (
    beams,
    flatfield,
    geometry,
    inpainting,
    masks,
    matched_filter,
    noise,
    photometry,
    positions,
    subtraction,
)
from sotrplib.maps import MapError, SkyMap
from sotrplib.tables import MASK_BITS
from sotrplib.template import Template, band_of, fwhm_arcmin, gaussian_template, template_from_autocorrelation

log = logging.getLogger(__name__)

ELL = np.arange(0, 62000, 20.0)


class Bright(NamedTuple):
    """Sources taken out of the noise: pixel positions, flux [mJy] and SNR, arrays of shape (n,)."""

    y: np.ndarray
    x: np.ndarray
    flux: np.ndarray
    snr: np.ndarray


class Areas(NamedTuple):
    """Masked sky, each an array (ny, nx) bool or None for none of it.

    ``galaxy`` and ``extra`` are not used; ``noise`` is only left out where the noise is measured, as both others are.
    """

    galaxy: np.ndarray | None = None
    extra: np.ndarray | None = None
    noise: np.ndarray | None = None


_SAMPLE_PIXELS = 200_000
_FEWEST_PIXELS = 2500  # with fewer, far from edges, the noise is not measured
_NO_SOURCES = Bright(*(np.zeros(0) for _ in range(4)))


def preprocess(input_map, beam, options, *, moving=None, areas=None):
    """Turn an input map into rho, kappa, time and mask.

    Parameters
    ----------
    input_map : maps.InputMap
    beam : beams.Beam
    options : mapping
        Section ``preprocess_map`` of the configuration.
    moving : DataFrame, optional
        Table ``moving``: planets and small bodies, to be masked as far as the options say.
    areas : Areas, optional
        Masked sky, see :func:`read_areas`.

    Returns
    -------
    maps.SkyMap

    Raises
    ------
    maps.MapError
        If nothing of the map is left to use.
    """
    shape, wcs = input_map.signal.shape, input_map.wcs
    areas = areas or Areas()
    discs = _disc_mask(shape, wcs, moving, options)
    weight = np.where(discs, 0, input_map.weight)
    weight = masks.clean_kappa(weight, options["kappa_min_fraction"], reference=options["kappa_reference"])
    signal = np.where(weight > 0, input_map.signal, np.float32(0))
    if not (weight > 0).any():
        raise MapError(f"{input_map.info.map_id}: no pixel is left after the planet mask and the cleaning of weights")
    pixels = map_pixels(shape, wcs)
    if input_map.form == "intensity_ivar":
        beam_ell = ELL, beams.beam_transform(beam, ELL)
        rho, quiet, kappa, template = filter_converged(signal, weight, pixels, beam_ell, options, exclude=_union(areas))
    else:
        rho, quiet, kappa = signal, signal, weight
        template = given_template(rho, kappa, pixels, beam, input_map.info, options)
    mask = _mask(kappa, discs, areas, wcs, options)
    field = _flat_field(quiet, kappa, mask, pixels, options)
    noted = input_map.info.info | {"snr_std": _robust_std(quiet, kappa, mask, field)}
    info = dataclasses.replace(input_map.info, info=noted)
    rho, kappa = flatfield.apply(rho, kappa, field)
    return SkyMap(rho, kappa, input_map.time, mask, wcs, info, template)


def read_areas(options, shape, wcs):
    """Masks that the section ``preprocess_map`` names files of, on the pixels of a map (Areas)."""
    paths = options["galaxy_mask"], options["extra_mask"], options["noise_mask"]
    masked = options["galaxy_masked_value"]
    return Areas(*(masks.galaxy_mask(path, shape, wcs, masked=masked) if path else None for path in paths))


def summarize(sky_map):
    """Numbers of a map for the table of maps: time_unix_s, area_deg2, flux_err_mjy (median) and snr_std.

    The last is the robust standard deviation of the SNR after the flat field, without the sources found.
    """
    good = sky_map.mask == 0
    return {
        "time_unix_s": float(sky_map.info.t_ref_unix_s),
        "area_deg2": float(geometry.area_deg2(good.shape, sky_map.wcs, good)),
        "flux_err_mjy": float(np.median(sky_map.kappa[good]) ** -0.5) if good.any() else float("nan"),
        "snr_std": sky_map.info.info["snr_std"],
    }


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
        Pixels to leave out of the noise measurement (bright Galactic emission, for one).

    Returns
    -------
    rho, rho_residual : ndarray (ny, nx) float32
        Filtered map, sources above ``find_snr`` standing in it as their templates; the same without them.
    kappa, template
        As from :func:`matched_filter.filter_map`.
    """
    bands = matched_filter.plan_bands(
        signal.shape, pixels, band_rows=options["band_rows"], pad_rows=options["pad_rows"]
    )
    window = options["pixel_window"]
    observed = ivar > 0 if exclude is None else (ivar > 0) & ~exclude
    zones = plan_zones(observed, pixels, bands, options)
    apodisation = _apodisation(ivar > 0, pixels, options)
    residual, suspect, sources = signal, None, _NO_SOURCES
    passes = options["passes"] if options["noise_model"] == "measured" else 1
    for step in range(passes):
        models = noise_models(residual, ivar, suspect, zones, options)
        models = [noise.cut_below(model, options["ell_min"]) for model in models]
        rho_residual, kappa, template = matched_filter.filter_map(
            residual, ivar, pixels, beam_ell, models, bands=bands, pixel_window=window, apodisation=apodisation
        )
        rho = _put_back(rho_residual, sources, kappa, template)
        if step + 1 < passes:
            sources = find_bright(rho_residual, rho, kappa, template, sources, options["find_snr"])
            log.info("pass %d: %d sources above %g sigma", step + 1, len(sources.y), options["find_snr"])
            residual = signal - paint_sources(signal.shape, pixels, bands, beam_ell, sources, pixel_window=window)
            suspect = _uncertain(signal.shape, pixels, beam_ell, sources, options["beam_error"])
    return rho, rho_residual, kappa, template


class Zone(NamedTuple):
    """Rows over which the noise is measured: their bands, pixel size, and the taper of the observed pixels."""

    rows: slice
    n_bands: int
    step_rad: tuple
    taper: np.ndarray


def plan_zones(observed, pixels, bands, options):
    """Zones of about ``noise_zone_deg`` of declination, each of whole bands."""
    height = (bands[-1].stop - bands[0].start) * float(pixels.dy_rad[0])
    count = min(len(bands), max(1, round(height / np.radians(options["noise_zone_deg"]))))
    zones = []
    for part in np.array_split(np.arange(len(bands)), count):
        rows, step = slice(bands[part[0]].start, bands[part[-1]].stop), bands[part[len(part) // 2]].step_rad
        width = np.radians(options["noise_taper_arcmin"] / 60) / step[0]
        zones.append(Zone(rows, len(part), step, masks.taper(observed[rows], width, aspect=step[1] / step[0])))
    return zones


def noise_models(residual, ivar, suspect, zones, options):
    """Noise model of every band: the one configured, or measured in its zone.

    ``residual`` is the map without its sources; where it is ``suspect`` (bool, None for nowhere) it is filled in.
    """
    if options["noise_model"] == "white":
        return [noise.white()] * sum(zone.n_bands for zone in zones)
    if options["noise_model"] == "power_law":
        return [noise.power_law(options["ell_knee"], options["alpha"])] * sum(zone.n_bands for zone in zones)
    models = []
    for zone in zones:
        doubtful = None if suspect is None else suspect[zone.rows]
        part = residual[zone.rows], ivar[zone.rows], doubtful
        models += [_measure_noise(*part, zone, options["noise_shear"])] * zone.n_bands
    return models


def find_bright(rho_residual, rho, kappa, template, known, snr_min):
    """Sources of a map above ``snr_min``: those known so far, and new peaks of the map without them.

    Parameters
    ----------
    rho_residual, rho, kappa : ndarray (ny, nx)
        rho without and with the sources known so far.
    template : template.Template
    known : Bright
    snr_min : float

    Returns
    -------
    Bright
        All positions refined and all fluxes solved together on the map with the sources in it.
    """
    snr_residual, snr = (_significance(image, kappa) for image in (rho_residual, rho))
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


def given_template(rho, kappa, pixels, beam, info, options):
    """Template of a map that arrives filtered: the autocorrelation of its own noise, or its beam."""
    middle = len(pixels.dy_rad) // 2
    step = np.degrees([pixels.dy_rad[middle], pixels.dx_rad[middle]]) * 60
    if options["given_template"] == "beam":
        return gaussian_template(beams.beam_fwhm_arcmin(beam), step, autocorrelate=False, n_rows=rho.shape[0])
    try:
        return template_from_autocorrelation(_significance(rho, kappa), kappa <= 0, step)
    except ValueError as error:
        log.warning("%s: %s; the beam is used as its template", info.map_id, error)
        return gaussian_template(beams.beam_fwhm_arcmin(beam), step, n_rows=rho.shape[0])


def _put_back(rho, sources, kappa, template):
    """rho with the templates of ``sources`` (Bright) added."""
    if not len(sources.y):
        return rho
    return rho + subtraction.model_rho(rho.shape, sources.y, sources.x, sources.flux, kappa, template)


def _significance(rho, kappa):
    """rho / sqrt(kappa), NaN where unobserved."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return rho / np.sqrt(kappa)


def _robust_std(rho, kappa, mask, field):
    """Half the distance between the 16th and 84th percentile of a regular sample of the SNR; NaN of nothing."""
    step = max(1, int(np.sqrt(mask.size / _SAMPLE_PIXELS)))
    sample = np.s_[::step, ::step]
    snr = _significance(rho[sample], kappa[sample]) / flatfield.read_rows(field, np.arange(len(rho))[::step])[:, ::step]
    snr = snr[mask[sample] == 0]
    low, high = np.percentile(snr, [15.865, 84.135]) if snr.size else (np.nan, np.nan)
    return float(high - low) / 2


def _fwhm_pix(template):
    """Width of the template of the middle band in rows."""
    middle = len(template.values) // 2
    return float(fwhm_arcmin(template, template.row_edges[middle]) / template.step_arcmin[middle][0])


def _apodisation(observed, pixels, options):
    """Taper of the edges and holes that the options ask for, None for none."""
    middle = len(pixels.dy_rad) // 2
    step = np.degrees([pixels.dy_rad[middle], pixels.dx_rad[middle]]) * 60
    widths = {"edge_arcmin": options["apodise_edge_arcmin"], "hole_arcmin": options["apodise_hole_arcmin"]}
    return masks.apodisation(observed, step, **widths)


def _measure_noise(residual, ivar, suspect, zone, shear):
    """Noise model of the rows of a zone; white where there is too little of it to measure."""
    n_inside = np.count_nonzero(zone.taper > 0.5)
    if n_inside < _FEWEST_PIXELS:
        log.warning("noise: only %d pixels away from edges; white noise assumed", n_inside)
        return noise.white()
    if suspect is not None and suspect.any():
        residual = inpainting.fill(residual, np.where(suspect, np.float32(0), ivar))
    return noise.estimate(residual * np.sqrt(ivar), zone.taper, zone.step_rad, shear=shear)


def _uncertain(shape, pixels, beam_ell, sources, beam_error):
    """Pixels around sources so bright (SNR > 0.3 / beam_error) that what the beam leaves of them shows in the noise."""
    y, x, _, snr = (values[sources.snr > 0.3 / beam_error] for values in sources)
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


def _disc_mask(shape, wcs, moving, options):
    """Discs around planets and around small bodies; those whose radius in the options is 0 have none."""
    if moving is None:
        return np.zeros(shape, bool)
    ra, dec, disc = (moving[name].to_numpy() for name in ("ra_deg", "dec_deg", "radius_arcmin"))
    planet = moving["kind"].to_numpy() == "planet"
    radius = np.where(planet, options["planet_mask_radius_arcmin"], options["asteroid_mask_radius_arcmin"])
    chosen = radius > 0
    return masks.disc_mask(shape, wcs, ra[chosen], dec[chosen], np.maximum(radius, disc)[chosen])


def _union(areas):
    """Pixels in any of the masks; None if there is none."""
    given = [area for area in areas if area is not None]
    return np.logical_or.reduce(given) if given else None


def _mask(kappa, discs, areas, wcs, options):
    observed = kappa > 0
    mask = np.where(observed, 0, MASK_BITS["UNOBSERVED"]).astype(np.uint8)
    solid = observed | masks.small_holes(observed, wcs, options["hole_min_arcmin"])
    mask[masks.edge_mask(solid, wcs, options["edge_arcmin"]) & observed] |= MASK_BITS["EDGE"]
    for area, name in ((discs, "PLANET"), (areas.galaxy, "GALAXY"), (areas.extra, "USER")):
        if area is not None:
            mask[area] |= MASK_BITS[name]
    return mask


def _flat_field(rho, kappa, mask, pixels, options):
    """Local rms of the SNR over the unmasked pixels (flatfield.Field); 1 if it is not asked for."""
    tile = options["flatfield_tile_deg"]
    if not tile:
        return flatfield.uniform(rho.shape)
    middle = len(pixels.dy_rad) // 2
    tile_pix = tuple(max(16, round(np.radians(tile) / s)) for s in (pixels.dy_rad[middle], pixels.dx_rad[middle]))
    return flatfield.measure(rho, kappa, mask, tile_pix, clip_sigma=options["flatfield_clip_sigma"])
