"""From an input map to rho and kappa with true errors: matched filter, masks, flat field."""

import dataclasses
import logging
from typing import NamedTuple

import numpy as np

from sotrplib import (
    autocorrelation,
    beams,
    convergence,
    flatfield,
    geometry,
    maskfiles,
    masks,
    matched_filter,
    tables,
    workers,
)
from sotrplib.maps import EmptyMapError, SkyMap
from sotrplib.tables import MASK_BITS
from sotrplib.template import gaussian_template

log = logging.getLogger(__name__)

ELL = np.arange(0, 62000, 20.0)


class Areas(NamedTuple):
    """Masked sky, each an array (ny, nx) bool or None for none of it.

    ``galaxy`` and ``extra`` are not used; ``noise`` is only left out where the noise is measured, as both others are.
    """

    galaxy: np.ndarray | None = None
    extra: np.ndarray | None = None
    noise: np.ndarray | None = None


class Record(NamedTuple):
    """What was learnt of a map on the way and is not in it.

    ``spectra`` is the table ``noise_spectra``, without rows for a map that came filtered; ``local_rms`` (nty, ntx)
    float32 the rms of the SNR by tile, by which the errors were corrected.
    """

    spectra: object
    local_rms: np.ndarray


_SAMPLE_PIXELS = 200_000
_UNIFORM_TILE = 64  # pixels; at which a flat field of 1 is recorded


def preprocess(input_map, beam, options, *, moving=None, areas=None):
    """Turn an input map into rho, kappa, time and mask (maps.SkyMap); see :func:`preprocess_recorded`."""
    return preprocess_recorded(input_map, beam, options, moving=moving, areas=areas)[0]


def preprocess_recorded(input_map, beam, options, *, moving=None, areas=None, margin_rows=(0, 0)):
    """Turn an input map into rho, kappa, time and mask, and tell what was measured for it.

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
    margin_rows : (int, int)
        How many of the first and of the last rows only surround the map; the bands of the template end there.

    Returns
    -------
    maps.SkyMap
    Record

    Raises
    ------
    maps.EmptyMapError
        If nothing of the map is left to use.
    """
    shape, wcs = input_map.signal.shape, input_map.wcs
    areas = areas or Areas()
    discs = _disc_mask(shape, wcs, moving, options)
    weight = input_map.weight if discs is None else np.where(discs, np.float32(0), input_map.weight)
    weight = masks.clean_kappa(weight, options["kappa_min_fraction"], reference=options["kappa_reference"])
    observed = weight > 0
    if not observed.any():
        raise EmptyMapError(
            f"{input_map.info.map_id}: no pixel is left after the planet mask and the cleaning of weights"
        )
    signal = input_map.signal if observed.all() else np.where(observed, input_map.signal, np.float32(0))
    del observed
    pixels = map_pixels(shape, wcs, margin_rows)
    if input_map.form == "intensity_ivar":
        rho, quiet, kappa, template, spectra = convergence.filter_converged(
            signal, weight, pixels, beam_ell(beam), options, exclude=_union(areas)
        )
        workers.give_back_memory()  # bands are done with; from here on whole maps are made
    else:
        rho, quiet, kappa, spectra = signal, signal, weight, tables.empty("noise_spectra")
        template = given_template(input_map, kappa, pixels, beam, options)
    del signal, weight  # copies, where part of the map is unobserved
    mask = _mask(kappa, discs, areas, wcs, options)
    tile_size = tile_pix(pixels, options["flatfield_tile_deg"])
    field = _flat_field(quiet, kappa, mask, tile_size, options)
    noted = input_map.info.info | {"snr_std": _robust_std(quiet, kappa, mask, field)}
    info = dataclasses.replace(input_map.info, info=noted)
    own = input_map.form == "intensity_ivar"
    rho, kappa = flatfield.apply(rho, kappa, field, out=(rho, kappa) if own else None)
    record = Record(spectra, flatfield.sample(field, tile_size[1] if tile_size else _UNIFORM_TILE))
    return SkyMap(rho, kappa, input_map.time, mask, wcs, info, template), record


def read_areas(options, shape, wcs):
    """Masks that the section ``preprocess_map`` names files of, on the pixels of a map (Areas)."""
    paths = options["galaxy_mask"], options["extra_mask"], options["noise_mask"]
    masked = options["galaxy_masked_value"]
    return Areas(*(maskfiles.read_mask(path, shape, wcs, masked=masked) if path else None for path in paths))


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


def beam_ell(beam):
    """Transform of a beam as the filter takes it: multipoles, and B there."""
    return ELL, beams.beam_transform(beam, ELL)


def map_pixels(shape, wcs, margin_rows=(0, 0)):
    """Pixels of a map by row (matched_filter.Pixels)."""
    dy_arcmin, dx_arcmin = geometry.pixel_scales(shape, wcs)
    arcmin = np.radians(1 / 60)
    area_sr = geometry.pixel_area_sr(shape, wcs)
    return matched_filter.Pixels(dy_arcmin * arcmin, dx_arcmin * arcmin, area_sr, margin_rows)


def tile_pix(pixels, tile_deg):
    """Rows and columns of a tile of the flat field; None if there is to be none."""
    if not tile_deg:
        return None
    middle = len(pixels.dy_rad) // 2
    return tuple(max(16, round(np.radians(tile_deg) / s)) for s in (pixels.dy_rad[middle], pixels.dx_rad[middle]))


def given_template(given, kappa, pixels, beam, options):
    """Template of a map that arrives filtered: that in its file, the autocorrelation of its own noise, or its beam."""
    if options["given_template"] == "file" and given.template is not None:
        return given.template
    rho, info = given.signal, given.info
    middle = len(pixels.dy_rad) // 2
    step = np.degrees([pixels.dy_rad[middle], pixels.dx_rad[middle]]) * 60
    if options["given_template"] == "beam":
        return gaussian_template(beams.beam_fwhm_arcmin(beam), step, autocorrelate=False, n_rows=rho.shape[0])
    try:
        return autocorrelation.measure_template(matched_filter.significance(rho, kappa), kappa <= 0, step)
    except ValueError as error:
        log.warning("%s: %s; the beam is used as its template", info.map_id, error)
        return gaussian_template(beams.beam_fwhm_arcmin(beam), step, n_rows=rho.shape[0])


def _robust_std(rho, kappa, mask, field):
    """Half the distance between the 16th and 84th percentile of a regular sample of the SNR; NaN of nothing."""
    step = max(1, int(np.sqrt(mask.size / _SAMPLE_PIXELS)))
    sample = np.s_[::step, ::step]
    rms = flatfield.read_rows(field, np.arange(len(rho))[::step])[:, ::step]
    snr = matched_filter.significance(rho[sample], kappa[sample]) / rms
    snr = snr[mask[sample] == 0]
    low, high = np.percentile(snr, [15.865, 84.135]) if snr.size else (np.nan, np.nan)
    return float(high - low) / 2


def _disc_mask(shape, wcs, moving, options):
    """Discs around planets and small bodies, none around those whose radius in the options is 0; None without any."""
    if moving is None:
        return None
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
    edge = _edge(observed, wcs, options)
    mask = np.where(observed, np.uint8(0), np.uint8(MASK_BITS["UNOBSERVED"]))
    for area, name in ((edge, "EDGE"), (discs, "PLANET"), (areas.galaxy, "GALAXY"), (areas.extra, "USER")):
        if area is not None:
            np.bitwise_or(mask, np.uint8(MASK_BITS[name]), out=mask, where=area)
    return mask


def _edge(observed, wcs, options):
    """Observed pixels close to the edge, small holes being none."""
    holes = masks.small_holes(observed, wcs, options["hole_min_arcmin"])
    if not holes.any():
        del holes
        return masks.edge_mask(observed, wcs, options["edge_arcmin"])
    edge = masks.edge_mask(np.logical_or(holes, observed, out=holes), wcs, options["edge_arcmin"])
    return np.logical_and(edge, observed, out=edge)


def _flat_field(rho, kappa, mask, tile_size, options):
    """Local rms of the SNR over the unmasked pixels (flatfield.Field); 1 if it is not asked for."""
    if tile_size is None:
        return flatfield.uniform(rho.shape)
    return flatfield.measure(rho, kappa, mask, tile_size, clip_sigma=options["flatfield_clip_sigma"])
