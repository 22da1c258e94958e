"""Which known source, and which moving object at the time its pixel was observed, a detection of one map is."""

import numpy as np
import pandas as pd

from sotrplib import crossmatch, geometry, tables

_HOUR_S = 3600.0


def all_matches(detections, catalog, options):
    """Every catalogue source that a detection may be, by the rule for known sources.

    Parameters
    ----------
    detections, catalog : pandas.DataFrame
        Tables of these names; the fluxes of the catalogue in the band of the map.
    options : mapping
        ``match_sigma``, ``match_radius_arcmin`` and ``pointing_floor_arcsec`` of section ``sift_candidates``.

    Returns
    -------
    pandas.DataFrame
        Table ``matches``, in the order of the detections, for each by significance; its first is the ``matched_name``
        of a detection that is no moving object.
    """
    i, targets, sep, sigma = _near_sources(detections, catalog, options)
    near = sigma < options["match_sigma"]
    order = np.lexsort((targets["source_id"].to_numpy("U"), sep, sigma, i))
    order = order[near[order]]
    columns = {name: targets[name].to_numpy()[order] for name in ("source_id", "source_name")}
    columns |= {"detection_id": detections["detection_id"].to_numpy()[i[order]]}
    columns |= {"sep_arcsec": sep[order], "sep_sigma": sigma[order]}
    return tables.make("matches", columns | {"catalog_flux_mjy": targets["flux_mjy"].to_numpy()[order]})


def _near_sources(found, catalog, options):
    """Pairs within the radius: rows of ``found``, their sources, separation [arcsec] and its significance."""
    i, j, _ = crossmatch.match(*radec(found), *radec(catalog), 60 * options["match_radius_arcmin"])
    targets = catalog.iloc[j].reset_index(drop=True)
    errors = np.nan_to_num(targets["pos_err_arcsec"].to_numpy())
    return i, targets, *_separation(found.iloc[i], targets, errors, options)


def match_catalog(found, forced, catalog, options):
    """The catalogue source that each detection most significantly is.

    Parameters
    ----------
    found, forced, catalog : pandas.DataFrame
        Tables ``detections``, ``forced`` and ``catalog``, of one map and in its band.
    options : mapping
        Section ``sift_candidates``.

    Returns
    -------
    pandas.DataFrame
        A row for each detection: ``name``, ``sep`` in arcsec, ``sigma``, ``flux`` in mJy, and whether it is
        ``matched``; an empty name and NaN where nothing is near.
    """
    i, targets, sep, sigma = _near_sources(found, catalog, options)
    flux = forced.set_index("source_id")["catalog_flux_mjy"].reindex(targets["source_id"]).to_numpy()
    best = _closest(len(found), i, sep, sigma, targets["source_id"], flux)
    return best.assign(matched=best["sigma"] < options["match_sigma"])


def match_moving(found, moving, options):
    """The moving object that each detection most significantly is, as :func:`match_catalog`; its flux is NaN."""
    disc = 60 * moving["radius_arcmin"].to_numpy()
    reach = 60 * options["moving_radius_arcmin"] + disc.max(initial=0) + _longest_path(found, moving)
    i, j, _ = crossmatch.match(*radec(found), *radec(moving), reach)
    i, j = _closest_in_time(found, moving, i, j)
    targets = propagate(moving.iloc[j], found["time_unix_s"].to_numpy()[i]).reset_index(drop=True)
    sep, _ = _separation(found.iloc[i], targets, targets["pos_err_arcsec"].to_numpy(), options)
    sep, sigma = _separation(
        found.iloc[i], targets, targets["pos_err_arcsec"].to_numpy(), options, shrink=_rim(sep, disc[j])
    )
    near = sep <= 60 * options["moving_radius_arcmin"]
    names, flux = targets["name"][near], np.full(near.sum(), np.nan)
    best = _closest(len(found), i[near], sep[near], sigma[near], names, flux)
    return best.assign(matched=best["sigma"] < options["moving_sigma"])


def propagate(moving, time_unix_s):
    """Moving objects at other times, along their rates.

    Parameters
    ----------
    moving : pandas.DataFrame
        Table ``moving``, one row a wanted position.
    time_unix_s : array, shape (n,)
        Wanted times; where NaN the row is returned as it is.

    Returns
    -------
    pandas.DataFrame
        Table ``moving`` with ra_deg, dec_deg and time_unix_s replaced.
    """
    time = np.where(np.isfinite(time_unix_s), time_unix_s, moving["time_unix_s"].to_numpy())
    hours = (time - moving["time_unix_s"].to_numpy()) / _HOUR_S
    steps = [moving[f"{axis}_rate_arcsec_h"].to_numpy() * hours for axis in ("ra", "dec")]
    ra, dec = geometry.offset_position(*radec(moving), *steps)
    return moving.assign(ra_deg=ra, dec_deg=dec, time_unix_s=time)


def radec(frame):
    """Right ascension and declination (deg) of the rows of a table, as arrays."""
    return frame["ra_deg"].to_numpy(), frame["dec_deg"].to_numpy()


def _separation(found, targets, target_err, options, *, shrink=1.0):
    """Separation [arcsec] and its significance; ``shrink`` scales the offsets (to the rim of a disc)."""
    offsets = np.array(geometry.tangent_offsets(*radec(found), *radec(targets))).reshape(2, -1) * shrink
    floor = target_err**2 + options["pointing_floor_arcsec"] ** 2
    errors = np.array([found["ra_err_arcsec"].to_numpy(), found["dec_err_arcsec"].to_numpy()])
    return np.hypot(*offsets), np.hypot(*(offsets / np.sqrt(errors**2 + floor)))


def _rim(sep, radius):
    return np.clip(sep - radius, 0, None) / np.where(sep > 0, sep, 1)


def _closest(n, i, sep, sigma, names, flux):
    """Most significant match of each of ``n`` detections: a row each, NaN and empty where there is none."""
    order = np.lexsort((np.asarray(names, dtype="U"), sep, sigma, i))
    rows, first = np.unique(np.asarray(i)[order], return_index=True)
    pick = order[first]
    best = pd.DataFrame({"name": pd.Series("", range(n), dtype=object), "sep": np.nan, "sigma": np.nan, "flux": np.nan})
    best.loc[rows, "name"] = np.asarray(names, dtype=object)[pick]
    for column, values in (("sep", sep), ("sigma", sigma), ("flux", flux)):
        best.loc[rows, column] = np.asarray(values, float)[pick]
    return best


def _longest_path(found, moving):
    """Longest way [arcsec] an object goes between a time in its table and one of the detections'."""
    times = found["time_unix_s"].to_numpy()
    times = times[np.isfinite(times)]
    if not times.size or moving.empty:
        return 0.0
    table_times = moving["time_unix_s"].to_numpy()
    gap = np.maximum(np.abs(times.max() - table_times), np.abs(times.min() - table_times))
    rate = np.hypot(moving["ra_rate_arcsec_h"].to_numpy(), moving["dec_rate_arcsec_h"].to_numpy())
    return float((rate * gap).max() / _HOUR_S)


def _closest_in_time(found, moving, i, j):
    """Pairs whose row of the object is its closest in time to the detection; all where that has no time."""
    order = np.lexsort((moving["time_unix_s"].to_numpy(), moving["name"].to_numpy(dtype="U")))
    time, name = (moving[column].to_numpy()[order] for column in ("time_unix_s", "name"))
    middle = np.where(name[1:] == name[:-1], (time[1:] + time[:-1]) / 2, np.nan)
    first, last = np.empty((2, len(order)))
    first[order] = np.append(-np.inf, np.where(np.isnan(middle), -np.inf, middle))[: len(order)]
    last[order] = np.append(np.where(np.isnan(middle), np.inf, middle), np.inf)[: len(order)]
    seen = found["time_unix_s"].to_numpy()[i]
    kept = ~((seen < first[j]) | (seen >= last[j]))
    return i[kept], j[kept]
