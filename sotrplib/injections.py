"""Sources of known flux painted into copies of a map as it was given, few enough at a time to leave its noise alone."""

import dataclasses
import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sotrplib import (
    beams,
    convergence,
    crossmatch,
    geometry,
    masks,
    matched_filter,
    photometry,
    positions,
    preprocessing,
    reading,
    skies,
    subtraction,
    tables,
)
from sotrplib import pointing as pointings
from sotrplib import template as templates
from sotrplib.maps import MapError

log = logging.getLogger(__name__)

RADEC = ["ra_deg", "dec_deg"]
_DRAWN_PER_PLACE = 20  # positions drawn for each one wanted, most of which may be taken


@dataclass(frozen=True, eq=False)
class Scene:
    """A map and what the stages made of it.

    ``given`` is the map as read (:class:`maps.InputMap`), ``beam`` its beam, ``sky_map`` the same map filtered,
    ``catalog`` the known sources with fluxes in its band (table ``catalog``), ``pointing`` its pointing model,
    ``detections`` what was found in it (table ``detections``) and ``areas`` its masks (:class:`preprocessing.Areas`).
    """

    given: object
    beam: object
    sky_map: object
    catalog: pd.DataFrame
    pointing: object
    detections: pd.DataFrame
    areas: object = None


def draw_injections(scene, options, seed):
    """Positions and fluxes of all injected sources.

    Parameters
    ----------
    scene : Scene
    options : mapping
        Section ``measure_recovery`` of the configuration.
    seed : int

    Returns
    -------
    pandas.DataFrame
        Columns injection_id, realisation, level, ra_deg, dec_deg, true_flux_mjy and true_snr; ``n_per_level`` rows for
        each of the ``levels``, in as many realisations as it takes to keep them apart.
    """
    sky_map = scene.sky_map
    copies = _draw_copies(scene, options, seed)
    ra, dec = np.concatenate(copies, axis=1)
    level = np.resize(np.asarray(options["levels"], float), len(ra))
    place = photometry.expected_positions(sky_map, ra, dec, scene.pointing)
    error = reading.read_at(sky_map.rho, sky_map.kappa, place.y, place.x, sky_map.template)[1] ** -0.5
    flux = level * (error if options["level_unit"] == "snr" else 1)
    realisation = np.repeat(np.arange(len(copies)), [len(copy[0]) for copy in copies])
    columns = {"injection_id": np.arange(len(ra)), "realisation": realisation, "level": level}
    return pd.DataFrame(columns | {"ra_deg": ra, "dec_deg": dec, "true_flux_mjy": flux, "true_snr": flux / error})


def _draw_copies(scene, options, seed):
    """Positions (ra_deg, dec_deg) for each copy of the map, until there are enough of all levels."""
    sky_map = scene.sky_map
    width = width_arcmin(sky_map)
    good = sky_map.mask == 0
    good &= ~masks.edge_mask(good, sky_map.wcs, options["edge_arcmin"])
    area = 3600 * geometry.area_deg2(good.shape, sky_map.wcs, good)
    per_copy = max(1, int(area / (options["fwhm2_per_source"] * width**2)))
    left, copies = options["n_per_level"] * len(options["levels"]), []
    while left:
        rng = skies.rng_for(seed, sky_map.info.map_id, "recovery", len(copies))
        copies.append(draw_positions(scene, good, min(per_copy, left), options["separation_fwhm"] * width, rng))
        left -= len(copies[-1][0])
    log.info("%d copies with %d sources each, %.2f arcmin wide", len(copies), per_copy, width)
    return copies


def draw_positions(scene, good, count, separation_arcmin, rng):
    """Up to ``count`` true positions (ra_deg, dec_deg), uniform over good pixels and between them.

    None is closer than ``separation_arcmin`` to another, to a known source or to a detection.
    """
    sky_map = scene.sky_map
    area = np.count_nonzero(good, axis=1) * geometry.pixel_area_sr(good.shape, sky_map.wcs)
    if not area.any():
        raise MapError(_no_room(scene, "every pixel is masked or near an edge: lower measure_recovery.edge_arcmin"))
    row = rng.choice(len(area), _DRAWN_PER_PLACE * count, p=area / area.sum())
    column = np.array([rng.choice(np.flatnonzero(good[i])) for i in row])
    y, x = np.stack([row, column]) + rng.uniform(-0.5, 0.5, (2, len(row)))
    ra, dec = geometry.pix2sky(sky_map.wcs, y, x)
    dra, ddec, *_ = pointings.evaluate(scene.pointing, ra, dec)
    ra, dec = geometry.offset_position(ra, dec, -dra, -ddec)
    taken = [np.concatenate([table[name] for table in (scene.catalog, scene.detections)]) for name in RADEC]
    free = crossmatch.nearest(ra, dec, *taken, 60 * separation_arcmin)[0] < 0
    ra, dec = ra[free], dec[free]
    i, j, _ = crossmatch.match(ra, dec, ra, dec, 60 * separation_arcmin)
    apart = positions.keep_highest(-np.arange(len(ra)), i[i != j], j[i != j])
    if not apart.any():
        raise MapError(_no_room(scene, "known sources are everywhere: lower measure_recovery.separation_fwhm"))
    return ra[apart][:count], dec[apart][:count]


def inject(scene, place, flux_mjy, pixel_window=True):
    """Copy of a map as given with point sources added.

    Parameters
    ----------
    scene : Scene
    place : photometry.Expected
        Where the sources are in the map.
    flux_mjy : array (n,)
    pixel_window : bool, default True
        Whether pixels hold the mean over their area.

    Returns
    -------
    maps.InputMap
        Sources have the beam at their distance on the sky. In a map that came filtered they have the template found
        for it. Under the discs of planets the map is unobserved, as the filter makes it.
    """
    given, sky_map, lit = scene.given, scene.sky_map, flux_mjy != 0
    y, x, ra, dec, flux = (values[lit] for values in (*place[:4], flux_mjy))
    planet = (sky_map.mask & tables.MASK_BITS["PLANET"]) > 0
    weight = np.where(planet, np.float32(0), given.weight)
    shape = weight.shape
    if given.form != "intensity_ivar":
        added = subtraction.model_rho(shape, y, x, flux, weight, sky_map.template)
    elif pixel_window:
        added = skies.paint_point_sources(shape, given.wcs, ra, dec, flux, scene.beam)
    else:
        added = _paint_points(given, (y, x, flux), scene.beam)
    return dataclasses.replace(given, signal=np.where(weight > 0, given.signal + added, 0), weight=weight)


def _paint_points(given, sources, beam):
    """Map of sources (y, x, flux) whose pixels hold the sky at their centres."""
    shape = given.signal.shape
    pixels = preprocessing.map_pixels(shape, given.wcs)
    beam_ell = preprocessing.ELL, beams.beam_transform(beam, preprocessing.ELL)
    bands, bright = matched_filter.plan_bands(shape, pixels), convergence.Bright(*sources, sources[2])
    return convergence.paint_sources(shape, pixels, bands, beam_ell, bright, pixel_window=False)


def width_arcmin(sky_map):
    """Width of a source in the middle of a map."""
    return templates.fwhm_arcmin(sky_map.template, sky_map.mask.shape[0] // 2)


def _no_room(scene, cause):
    return f"{scene.sky_map.info.map_id}: no room to inject a source, {cause}"
