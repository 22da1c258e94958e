"""Fluxes at any position in maps that were filtered before, known sources taken out, window by window.

Only the parts of a map around the positions are read, one at a time, so that memory stays bounded however
large the map.
"""

import dataclasses
import functools
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sotrplib import crossmatch, geometry, maps, matches, photometry, pointing, recall, store, subtraction, tables
from sotrplib import template as templates

_TILE = 1024  # pixels; positions in one square of this size are measured in one window
_MARGIN = 16  # pixels around the reach of the template
_OVERLAP_FWHM = 4.0  # known sources this close to a position may share its flux
_MERGED_FWHM = 0.3  # positions closer than this cannot be told apart and are measured one by one


@dataclass(frozen=True)
class MapFiles:
    """Files of one map: filtered map, pointing model, and forced photometry of the known sources."""

    preprocessed: str
    pointing: str
    forced: str


def measure_in_map(files, targets, options, *, known=None, memory=None):
    """Measure positions in one map.

    Parameters
    ----------
    files : MapFiles
    targets : pandas.DataFrame
        Columns source_id, ra_deg and dec_deg. A source_id that is not empty is a known source of this map,
        whose forced photometry is looked up; other positions are measured on the map minus all known sources.
    options : mapping
        Section ``forced_photometry`` of the configuration.
    known : pandas.DataFrame, optional
        Table ``forced`` of the known sources to take out; default that of the map.
    memory : recall.Memory, optional
        Windows whose targets are those of the last run are taken from it; what was measured is kept in it.

    Returns
    -------
    pandas.DataFrame
        Table ``forced``, row by row as ``targets``; NaN and flag NO_DATA where the map does not cover one.

    Raises
    ------
    maps.MapError
        If the file records a failed map.
    """
    targets = targets.reset_index(drop=True)
    memory = memory or recall.Memory()
    forced = functools.cache(lambda: store.read_table(files.forced, "forced") if known is None else known)
    template = functools.cache(lambda: maps.read_template(files.preprocessed))
    model = pointing.from_dict(store.read_attrs(files.pointing)["pointing"])

    def measure(window, inside):
        sky_map = maps.read_sky_map(files.preprocessed, window, template=template())
        return _measure(without_known(sky_map, forced(), model), inside, forced(), model, options)

    named = targets[targets["source_id"] != ""]
    parts = [_look_up(forced(), named)] if len(named) else []
    for window, inside, own in _windows(files.preprocessed, targets[targets["source_id"] == ""], model, options):
        parts.append(_remembered(memory, measure, window, inside, own))
    memory.save()
    found = pd.concat([tables.empty("forced"), *parts])
    missing = _no_data(targets.drop(found.index))
    return tables.make("forced", pd.concat([found, missing]).loc[targets.index])


def measure_again(files, options, code, name, map_id, targets):
    """:func:`measure_in_map` that takes from an earlier run what still holds.

    Parameters
    ----------
    files : mapping of str to MapFiles
        By map_id.
    options : mapping
        Section ``forced_photometry``.
    code : str
        Digest of the code that measures.
    name : str
        Of what is measured: lists of targets by one name take each other's place in the memory.
    map_id : str
    targets : pandas.DataFrame
    """
    own = recall.signature(dataclasses.astuple(files[map_id]), options, code)
    memory = recall.Memory(recall.path_of(map_id, name), own)
    return measure_in_map(files[map_id], targets, options, memory=memory)


def _remembered(memory, measure, window, inside, own):
    """Measurements of a window's own targets, with their index, from the memory if it has just these targets."""
    bounds = [(part.start, part.stop) for part in window]
    key = recall.key_of(bounds, inside["ra_deg"], inside["dec_deg"], inside.index.get_indexer(own))
    rows = memory.recall(key)
    if rows is None:
        found = measure(window, inside)
        found = found[found.index.isin(own)]
        missing = _no_data(inside.loc[own.difference(found.index, sort=False)])
        rows = tables.make("forced", pd.concat([found, missing]).loc[own])
    memory.keep(key, rows)
    return rows.set_axis(own)


def _look_up(forced, targets):
    """Forced photometry of the targets that are known sources, with their index."""
    rows = forced.drop_duplicates("source_id").set_index("source_id", drop=False)
    here = targets[targets["source_id"].isin(forced["source_id"])]
    return rows.loc[here["source_id"]].set_index(here.index)


def _no_data(targets):
    """Rows of the table ``forced`` for targets that the map does not cover."""
    if targets.empty:
        return tables.empty("forced")
    columns = dict.fromkeys(tables.column_names("forced"), np.nan)
    columns |= {"source_name": "", "n_blend": 0, "flags": tables.flag("NO_DATA")}
    return targets.assign(**{name: value for name, value in columns.items() if name not in targets})


def _windows(path, targets, model, options):
    """Windows of the map that hold targets: slices, the targets in them, and the index of those to measure there."""
    attrs = store.read_attrs(path)
    if attrs.get("status") == "failed":
        raise maps.MapError(f"{path}: records a failed map ({attrs.get('reason')}); leave it out")
    wcs = geometry.text_to_wcs(attrs["wcs"])
    margin = _margin(path, options)
    y, x = _pixels(wcs, targets, model)
    covered = np.flatnonzero(geometry.inside(wcs.array_shape, y, x))
    order = np.lexsort([p[covered] for p in matches.radec(targets)])  # a window does not depend on their order
    covered = covered[order]
    targets, y, x = targets.iloc[covered], y[covered], x[covered]
    tile = pd.DataFrame({"y": y // _TILE, "x": x // _TILE})
    for rows in tile.groupby(["y", "x"]).indices.values():
        window = tuple(
            slice(max(int(p[rows].min()) - margin, 0), min(int(p[rows].max()) + margin + 2, n))
            for p, n in zip((y, x), wcs.array_shape, strict=True)
        )
        inside = (y >= window[0].start) & (y < window[0].stop) & (x >= window[1].start) & (x < window[1].stop)
        yield window, targets[inside], targets.index[rows]


def _margin(path, options):
    """Pixels around a position that decide its flux and flags."""
    half = (store.list_contents(path)["template/values"][-1] - 1) // 2
    step = store.read_array(path, "template/step_arcmin").min()
    return int(max(half, np.ceil(options["near_edge_arcmin"] / step))) + _MARGIN


def _pixels(wcs, targets, model):
    ra, dec = matches.radec(targets)
    dra, ddec, *_ = pointing.evaluate(model, ra, dec)
    return geometry.sky2pix(wcs, *geometry.offset_position(ra, dec, dra, ddec), wcs.array_shape)


def flag_near_detections(path, forced, sifted, model):
    """Flag known sources whose flux holds light of a brighter source that no catalogue knows.

    The forced fluxes are measured before the blind search and know of catalogue sources alone.

    Parameters
    ----------
    path : path
        Filtered map; only its template and WCS are read.
    forced, sifted : pandas.DataFrame
        Tables of this map.
    model : pointing.PointingModel
        Of the map.

    Returns
    -------
    pandas.DataFrame
        ``forced`` with the flag NEAR_BRIGHT where the template of a blind detection of larger flux adds more than three
        sigma; a detection that was matched with the source itself does not count.
    """
    found = sifted[sifted["origin"] == "blind"]
    if found.empty or forced.empty:
        return forced
    template, wcs = maps.read_template(path), geometry.text_to_wcs(store.read_attrs(path)["wcs"])
    reach = 60 * np.sqrt(2) * templates.half_size(template) * np.max(template.step_arcmin)
    i, j, _ = crossmatch.match(*matches.radec(forced), *matches.radec(found), reach)
    flux, error, names = (forced[key].to_numpy()[i] for key in ("flux_mjy", "flux_err_mjy", "source_id"))
    light, matched = (found[key].to_numpy()[j] for key in ("flux_mjy", "matched_name"))
    (y1, x1), (y2, x2) = (_pixels(wcs, table, model) for table in (forced, found))
    shape = templates.evaluate_pixels(template, y1[i] - y2[j], x1[i] - x2[j], y2[j])
    reached = (np.abs(shape) * light > photometry.WING_SIGMA * error) & (light > flux) & (names != matched)
    flags = forced["flags"].to_numpy().copy()
    flags[i[reached]] |= np.uint32(tables.flag("NEAR_BRIGHT"))
    return forced.assign(flags=flags)


def without_known(skymap, forced, model):
    """A map minus its known sources.

    Parameters
    ----------
    skymap : maps.SkyMap
    forced : pandas.DataFrame
        Table ``forced`` of the map: positions and fluxes; a source without a flux is left in.
    model : pointing.PointingModel
        Of the map.

    Returns
    -------
    maps.SkyMap
        With another rho and everything else shared.
    """
    y, x, flux = photometry.fitted_sources(skymap, forced, model)
    rho = subtraction.subtract_sources(skymap.rho, skymap.kappa, y, x, flux, skymap.template)
    return dataclasses.replace(skymap, rho=rho)


def _measure(skymap, targets, forced, model, options):
    """Forced photometry of targets, with their index; those too close to each other one after the other.

    The known sources around them, already taken out of the map, are solved for once more: where a target
    overlaps one, the flux that was taken out held part of its own.
    """
    width = 60 * templates.fwhm_arcmin(skymap.template, skymap.rho.shape[0] // 2)
    group = crossmatch.groups(targets["ra_deg"], targets["dec_deg"], _MERGED_FWHM * width)
    turn = pd.Series(group).groupby(group).cumcount().to_numpy()
    around = _as_catalog(_neighbours(targets, forced, width), "known ")
    catalog, free = _as_catalog(targets, ""), {**options, "flux_min_mjy": -np.inf}
    found = [
        photometry.forced_photometry(skymap, pd.concat([catalog[turn == k], around]), model, free)
        for k in range(turn.max() + 1)
    ]
    found = pd.concat(found)
    found = found[~found["source_id"].str.startswith("known ")]
    return found.set_index(found["source_id"].astype(int)).assign(source_id="", source_name="")


def _neighbours(targets, forced, width_arcsec):
    """Known sources near enough to overlap a target, and far enough to be told apart from it."""
    i, j, sep = crossmatch.match(*matches.radec(targets), *matches.radec(forced), _OVERLAP_FWHM * width_arcsec)
    return forced.iloc[np.setdiff1d(j, j[sep < _MERGED_FWHM * width_arcsec])]


def _as_catalog(positions, prefix):
    """Rows of the table ``catalog``, named by their index, of no known flux."""
    nothing = dict.fromkeys(("flux_mjy", "flux_err_mjy", "spectral_index"), np.nan)
    ra, dec = matches.radec(positions)
    names = [f"{prefix}{k}" for k in positions.index]
    own = {"source_id": names, "source_name": names, "ra_deg": ra, "dec_deg": dec, "pos_err_arcsec": 0.0}
    return tables.make("catalog", nothing | own)
