"""Injection and recovery: what the stages find of sources of known flux in a map, and what theory says they would.

Sources are painted into copies of a map as it was given, at positions between the pixels where nothing else is
known, few enough at a time to leave its noise alone. Each copy goes through the same stages as the map itself. The
map's pointing model counts as exact, since the sources are put where it says.
"""

import dataclasses
import logging
from typing import NamedTuple

import numpy as np
import pandas as pd

from sotrplib import (
    crossmatch,
    detection,
    geometry,
    injections,
    photometry,
    preprocessing,
    revisits,
    selection,
    subtraction,
    tables,
)

log = logging.getLogger(__name__)


class Recovery(NamedTuple):
    """Tables ``injections``, ``recovery`` and ``false_alarms``, and numbers of the whole (dict)."""

    injections: pd.DataFrame
    recovery: pd.DataFrame
    false_alarms: pd.DataFrame
    numbers: dict


# ---- the measurement -------------------------------------------------------------------------------------------------


def measure(scene, sections, seed):
    """Inject sources into copies of a map and recover them.

    Parameters
    ----------
    scene : injections.Scene
    sections : mapping
        Sections ``measure_recovery``, ``preprocess_map``, ``forced_photometry`` and ``find_sources`` of the
        configuration.
    seed : int
        With the map_id it decides all positions.

    Returns
    -------
    Recovery
        ``numbers``: n_copies, n_per_copy, and flux_err_ratio, the median flux error of the copies over that of the
        map, above 1 where the injected sources themselves have raised the noise.

    Raises
    ------
    maps.MapError
        If there is no room for a source.
    """
    exact = {"covariance": np.zeros_like(scene.pointing.covariance), "scatter_arcsec": 0.0}
    scene = dataclasses.replace(scene, pointing=dataclasses.replace(scene.pointing, **exact))
    options = sections["measure_recovery"]
    drawn = injections.draw_injections(scene, options, seed)
    parts, ratios = zip(*_recover_all(scene, drawn, sections), strict=True)
    injected = tables.make("injections", pd.concat(parts))
    numbers = {"n_copies": len(parts), "n_per_copy": len(drawn) / len(parts), "flux_err_ratio": float(np.mean(ratios))}
    levels = summarize(injected, options["level_unit"], sections["find_sources"]["snr_min"])
    return Recovery(injected, levels, count_false_alarms(scene, sections), numbers)


def _recover_all(scene, drawn, sections):
    """:func:`recover` of every copy of the map, one after the other."""
    copies = drawn.groupby("realisation")
    for k, (_, rows) in enumerate(copies):
        log.info("copy %d of %d", k + 1, len(copies))
        yield recover(scene, rows, sections)


def recover(scene, rows, sections):
    """Inject the sources of one realisation and measure them.

    Parameters
    ----------
    scene : injections.Scene
    rows : pandas.DataFrame
        Of :func:`injections.draw_injections`.
    sections : mapping
        As for :func:`measure`.

    Returns
    -------
    pandas.DataFrame
        Table ``injections``.
    float
        Median flux error of the copy over that of the map.
    """
    place = photometry.expected_positions(scene.sky_map, rows["ra_deg"], rows["dec_deg"], scene.pointing)
    pixel_window = sections["preprocess_map"]["pixel_window"]
    given = injections.inject(scene, place, rows["true_flux_mjy"].to_numpy(), pixel_window)
    sky_map = preprocessing.preprocess(given, scene.beam, sections["preprocess_map"], areas=scene.areas)
    columns = _forced_columns(scene, sky_map, rows, sections["forced_photometry"])
    unknown = _without_known(scene, sky_map, sections)
    detections = _find(sky_map, unknown.rho, sections["find_sources"], scene)
    radius = sections["measure_recovery"]["match_fwhm"] * injections.width_arcmin(sky_map)
    columns |= _detected_columns(rows, detections, radius)
    good = (sky_map.mask == 0) & (scene.sky_map.mask == 0)
    ratio = np.median(scene.sky_map.kappa[good] / sky_map.kappa[good]) ** 0.5
    return tables.make("injections", columns | {name: rows[name].to_numpy() for name in rows}), ratio


def summarize(injected, level_unit, threshold):
    """Completeness, biases and pulls by flux level.

    Parameters
    ----------
    injected : pandas.DataFrame
        Table ``injections``.
    level_unit : str
        Of the levels: snr or mjy.
    threshold : float
        Of the search, in SNR.

    Returns
    -------
    pandas.DataFrame
        Table ``recovery``, a row for each level.
    """
    rows = [_summarize_level(rows, threshold) for _, rows in injected.groupby("level")]
    return tables.make("recovery", {name: [row[name] for row in rows] for name in rows[0]} | {"level_unit": level_unit})


def count_false_alarms(scene, sections):
    """What a search finds in the map and in its negative, without injections.

    Noise is as often negative as positive, sources are not. Sources that are (clusters seen by the
    Sunyaev-Zeldovich effect) are counted as false alarms.

    Parameters
    ----------
    scene : injections.Scene
    sections : mapping
        As for :func:`measure`; the thresholds are ``false_alarm_snr`` and that of the search itself.

    Returns
    -------
    pandas.DataFrame
        Table ``false_alarms``, a row for each threshold.
    """
    sky_map, options = scene.sky_map, sections["find_sources"]
    unknown = _without_known(scene, sky_map, sections)
    found = (scene.detections[name] for name in injections.RADEC)
    place = photometry.expected_positions(sky_map, *found, scene.pointing)
    sources = place.y, place.x, scene.detections["flux_mjy"]
    noise = subtraction.subtract_sources(unknown.rho, sky_map.kappa, *sources, sky_map.template)
    negative = dataclasses.replace(sky_map, rho=-sky_map.rho)
    rows = []
    for snr_min in sorted({options["snr_min"], *sections["measure_recovery"]["false_alarm_snr"]}):
        lowered = {**options, "snr_min": snr_min}
        n_found = len(_find(sky_map, unknown.rho, lowered, scene))
        n_negative = len(_find(negative, -noise, lowered, scene))
        expected = selection.expected_false_alarms(sky_map, snr_min)
        rows.append((snr_min, n_found, n_negative, expected, *_purity(n_found, n_negative)))
    return tables.make("false_alarms", dict(zip(tables.column_names("false_alarms"), np.transpose(rows), strict=True)))


# ---- one copy of the map ---------------------------------------------------------------------------------------------


def _without_known(scene, sky_map, sections):
    options = sections["forced_photometry"]
    if options["method"] == "none" or not sections["find_sources"]["subtract_known"]:
        return sky_map
    known = photometry.forced_photometry(sky_map, scene.catalog, scene.pointing, options)
    return revisits.without_known(sky_map, known, scene.pointing)


def _find(sky_map, rho, options, scene):
    return detection.find(sky_map, rho, options, scene.pointing)


def _forced_columns(scene, sky_map, rows, options):
    """Forced photometry of the injected sources, measured as if they were in the catalogue."""
    bright = scene.catalog[~(scene.catalog["flux_mjy"] < options["flux_min_mjy"])]
    names = [f"injected {k}" for k in rows["injection_id"]]
    own = {"source_id": names, "source_name": names, "flux_mjy": rows["true_flux_mjy"].to_numpy()}
    own |= {name: rows[name].to_numpy() for name in injections.RADEC} | {"spectral_index": np.nan}
    injected = tables.make("catalog", own | {"flux_err_mjy": 0.0, "pos_err_arcsec": 0.0})
    free = {**options, "flux_min_mjy": -np.inf}
    forced = photometry.forced_photometry(sky_map, pd.concat([bright, injected]), scene.pointing, free)
    forced = forced.set_index("source_id").loc[names]
    flux, error = forced["flux_mjy"].to_numpy(), forced["flux_err_mjy"].to_numpy()
    columns = {"forced_flux_mjy": flux, "forced_flux_err_mjy": error, "forced_flags": forced["flags"].to_numpy()}
    return columns | {"forced_pull": (flux - rows["true_flux_mjy"].to_numpy()) / error}


def _detected_columns(rows, detections, radius_arcmin):
    """The detection nearest each injected source, if it is within the radius."""
    true, flux = [rows[name].to_numpy() for name in injections.RADEC], rows["true_flux_mjy"].to_numpy()
    nearest, _ = crossmatch.nearest(*true, *(detections[name] for name in injections.RADEC), 60 * radius_arcmin)
    near = detections.reindex(nearest)  # -1 gives a row of NaN
    columns = {f"detected_{name}": near[name].to_numpy() for name in ("flux_mjy", "flux_err_mjy", "snr")}
    columns["detected_pull"] = (columns["detected_flux_mjy"] - flux) / columns["detected_flux_err_mjy"]
    offsets = geometry.tangent_offsets(*(near[name].to_numpy() for name in injections.RADEC), *true)
    for axis, offset in zip(("ra", "dec"), offsets, strict=True):
        columns[f"{axis}_offset_arcsec"] = offset
        columns[f"{axis}_pull"] = offset / near[f"{axis}_err_arcsec"].to_numpy()
    return columns | {"found": nearest >= 0, "detected_flags": near["flags"].fillna(0).to_numpy()}


# ---- numbers of a level ----------------------------------------------------------------------------------------------


def _summarize_level(rows, threshold):
    """Row of the table ``recovery`` as a dict, its unit apart."""
    found, snr = rows[rows["found"]], rows["true_snr"].to_numpy()
    n, k = len(rows), len(found)
    counts = {"level": rows["level"].iloc[0], "n_injected": n, "n_found": k, "true_snr": snr.mean()}
    counts |= {"completeness": k / n, "completeness_err": np.sqrt((k + 1) * (n - k + 1) / (n + 3)) / (n + 2)}
    counts["completeness_theory"] = selection.completeness(snr, threshold).mean()
    measured = rows["forced_flux_mjy"].to_numpy() / rows["forced_flux_err_mjy"].to_numpy()
    counts["completeness_forced"] = selection.reaches(measured[np.isfinite(measured)], threshold).mean()
    forced, detected = (_flux_numbers(part, name) for part, name in ((rows, "forced"), (found, "detected")))
    seen = found["true_snr"].to_numpy()
    lifted = _ratio(np.sum(seen * (selection.detected_snr(seen, threshold) - seen)), np.sum(seen**2))
    return counts | forced | detected | {"detected_bias_theory": lifted} | _position_numbers(found)


def _flux_numbers(rows, kind):
    """Bias of the flux as a fraction, weighted by the inverse square of its error, and mean and scatter of its pull."""
    rows = rows[np.isfinite(rows[f"{kind}_pull"])]
    pull, truth = rows[f"{kind}_pull"].to_numpy(), rows["true_flux_mjy"] / rows[f"{kind}_flux_err_mjy"]
    weight = np.sum(truth**2)
    return {
        f"{kind}_bias": _ratio(np.sum(truth * pull), weight),
        f"{kind}_bias_err": _ratio(_std(pull), np.sqrt(weight)),
        f"{kind}_pull_mean": _ratio(pull.sum(), len(pull)),
        f"{kind}_pull_sd": _std(pull),
    }


def _position_numbers(found):
    offset = found[["ra_offset_arcsec", "dec_offset_arcsec"]].to_numpy()
    pull = found[["ra_pull", "dec_pull"]].to_numpy()
    return {
        "position_rms_arcsec": _rms(offset),
        "position_err_arcsec": _rms(offset / pull),
        "position_pull_sd": _rms(pull),
    }


def _purity(n_found, n_negative):
    """Part of the detections that is no noise, at least 0, and its Poisson error."""
    if not n_found:
        return np.nan, np.nan
    share = n_negative / n_found
    return max(0.0, 1 - share), np.sqrt(max(n_negative, 1) * (1 + share)) / n_found


def _ratio(numerator, denominator):
    return numerator / denominator if denominator else np.nan


def _std(values):
    return np.std(values, ddof=1) if len(values) > 1 else np.nan


def _rms(values):
    values = values[np.isfinite(values)]
    return np.sqrt(np.mean(values**2)) if len(values) else np.nan
