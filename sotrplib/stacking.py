"""Stacks at a list of positions: all maps added up at each, for sources too faint to be seen in any.

At every position each map gives a flux by forced photometry, known sources taken out and its pointing taken off, and a
stamp of the map, resampled so that the position is its middle. Weighted by their inverse variances the fluxes of a band
add up to one flux, and so do the stamps. The flux of a position where there is nothing is zero within its error.

Maps of one place share its sky: the CMB and sources below the noise do not average away. If c is the variance of that
sky in a filtered map, and w the inverse variances of n maps with the sum W, then the variance of the mean is
1/W + c (1 - sum w^2 / W^2), or (1 + c W (1 - 1/n)) / W for maps of one depth. c is measured on the stamps, away from
their middles; without stamps it is not known and taken to be none.
"""

import numpy as np
import pandas as pd

from sotrplib import crossmatch, geometry, maps, photometry, pointing, reading, revisits, store, tables, variability

EVERY = "(all)"  # name of the stack of all positions
_REQUIRED = ["name", "ra_deg", "dec_deg"]
_LIMITS = {"time_min_unix_s": -np.inf, "time_max_unix_s": np.inf}
_BLOCK = 200
_MIDDLE_ARCMIN = 4.0  # no place for measuring noise: the source is there
_SIGMAS = 15.865, 84.135  # percentiles, one sigma below and above the median


class StackError(ValueError):
    """Positions that cannot be used; names file, what was found and the cure."""


class Stamps:
    """Sums of rho and kappa around positions, by band: ``rho[band]`` and ``kappa[band]`` are (n, k, k)."""

    def __init__(self, n, size_arcmin, step_arcmin):
        self.half, self.step_arcmin, self.n = int(size_arcmin / step_arcmin / 2), step_arcmin, n
        self.rho, self.kappa = {}, {}

    def add(self, band, index, rho, kappa):
        """Add stamps (m, k, k) of the positions ``index`` (m,)."""
        shape = (self.n, 2 * self.half + 1, 2 * self.half + 1)
        for sums, values in ((self.rho, rho), (self.kappa, kappa)):
            sums.setdefault(band, np.zeros(shape))[index] += values

    def images(self, band):
        """Flux in mJy and its SNR, (n + 1, k, k) float32; the last is that of all positions. NaN without data."""
        rho, kappa = (np.concatenate([s[band], s[band].sum(axis=0)[None]]) for s in (self.rho, self.kappa))
        with np.errstate(divide="ignore", invalid="ignore"):
            return (rho / kappa).astype("f4"), (rho / np.sqrt(kappa)).astype("f4")


def read_positions(path):
    """Positions to stack at.

    Parameters
    ----------
    path : path
        CSV with columns name, ra_deg, dec_deg and, where wanted, time_min_unix_s and time_max_unix_s: only maps that
        observed the position between these count; empty for no limit. Lines that start with # are comments.

    Returns
    -------
    pandas.DataFrame
        With all five columns.

    Raises
    ------
    StackError
        If the file cannot be read, lacks a column, holds a name twice or a position that is no number.
    """
    try:
        table = pd.read_csv(path, comment="#", skipinitialspace=True, dtype={"name": str})
    except (OSError, ValueError) as error:
        raise StackError(f"{path}: cannot be read ({error}); expected a CSV with {', '.join(_REQUIRED)}") from error
    missing = [name for name in _REQUIRED if name not in table]
    if missing:
        raise StackError(f"{path}: no column {', '.join(missing)}, only {', '.join(table)}; add it")
    for name in [*_REQUIRED[1:], *_LIMITS]:
        table[name] = pd.to_numeric(table[name], errors="coerce").astype(float) if name in table else np.nan
    bad = table[~np.isfinite(table[_REQUIRED[1:]]).all(axis=1) | (table["dec_deg"].abs() > 90) | table["name"].isna()]
    if len(bad):
        raise StackError(f"{path}: row {bad.index[0] + 1} is {bad.iloc[0].to_dict()}; expected a name and a position")
    if table["name"].duplicated().any():
        raise StackError(f"{path}: {table['name'][table['name'].duplicated()].iloc[0]!r} occurs twice; rename one")
    return table[[*_REQUIRED, *_LIMITS]].fillna(_LIMITS)


def stack(files, maps_table, positions, options, photometry_options):
    """Measure positions in all maps, one map at a time, and add up.

    Parameters
    ----------
    files : mapping of str to revisits.MapFiles
        By map_id.
    maps_table : pandas.DataFrame
        The maps to use: map_id, array, band, time_unix_s.
    positions : pandas.DataFrame
        From :func:`read_positions`.
    options, photometry_options : mapping
        Sections ``stack_sources`` and ``forced_photometry`` of the configuration.

    Returns
    -------
    stacks, measurements : pandas.DataFrame
        Tables ``stacks`` and ``stack_measurements``; the latter holds the light curves.
    stamps : Stamps or None
        None if ``stamp_arcmin`` is 0.
    """
    size, parts = options["stamp_arcmin"], [tables.empty("stack_measurements")]
    stamps = Stamps(len(positions), size, options["stamp_step_arcmin"]) if size else None
    for row in maps_table.sort_values(["time_unix_s", "map_id"]).to_dict("records"):
        found = _measure(files[row["map_id"]], row, positions, options, photometry_options)
        parts.append(found)
        if stamps is not None and len(found):
            index = pd.Index(positions["name"]).get_indexer(found["name"])
            _add_stamps(stamps, files[row["map_id"]], row["band"], positions.iloc[index], index, options)
    measurements = pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)
    stacks = summarize(measurements, positions)
    return with_shared_sky(stacks, shared_sky(stacks, stamps)), measurements, stamps


def shared_sky(stacks, stamps):
    """Variance in mJy^2 of the sky that the maps of a band share, by band; empty without stamps."""
    found = {}
    for band, rows in stacks[stacks["name"] != EVERY].groupby("band"):
        if stamps is None or band not in stamps.rho:
            continue
        axis = (np.arange(2 * stamps.half + 1) - stamps.half) * stamps.step_arcmin
        away = np.hypot(axis[:, None], axis) > _MIDDLE_ARCMIN
        snr = stamps.images(band)[1][:-1, away]
        low, high = np.percentile(snr[np.isfinite(snr)], _SIGMAS) if np.isfinite(snr).any() else (np.nan, np.nan)
        weight = rows["flux_err_mjy"] ** -2.0 * (1 - 1 / rows["n_maps"])
        if weight.mean() > 0 and np.isfinite(high):
            found[band] = max(((high - low) ** 2 / 4 - 1) / weight.mean(), 0.0)
    return found


def with_shared_sky(stacks, variance):
    """Table ``stacks`` with the sky that maps share in the errors; ``variance`` from :func:`shared_sky`."""
    sky = stacks["band"].map(variance).astype(float)
    weight = stacks["flux_err_mjy"] ** -2.0
    factor = 1 + sky.fillna(0) * weight * (1 - 1 / stacks["n_maps"])
    every = stacks["name"] == EVERY
    mean = (weight * factor)[~every].groupby(stacks["band"]).sum() / weight[~every].groupby(stacks["band"]).sum()
    factor = factor.where(~every, stacks["band"].map(mean))  # other places have other sky
    err = stacks["flux_err_mjy"] * np.sqrt(factor.astype(float))
    return stacks.assign(flux_err_mjy=err, snr=stacks["flux_mjy"] / err, sky_err_mjy=np.sqrt(sky))


def summarize(measurements, positions):
    """Weighted means by position and band, and over all positions, as if no two maps had anything in common.

    Returns
    -------
    pandas.DataFrame
        Table ``stacks``: the positions in their order, then the stack of all of them under the name :data:`EVERY`.
    """
    everything = measurements.assign(name=EVERY, ra_deg=np.nan, dec_deg=np.nan)
    rows = pd.concat([measurements, everything], ignore_index=True)
    order = {name: k for k, name in enumerate([*positions["name"], EVERY])}
    group = rows.assign(order=rows["name"].map(order)).groupby(["order", "band"]).ngroup().to_numpy()
    n_groups = int(group.max(initial=-1)) + 1
    flux, err = rows["flux_mjy"].to_numpy(), rows["flux_err_mjy"].to_numpy()
    found = variability.statistics(flux, err, group, n_groups)
    first = rows.assign(group=group).drop_duplicates("group").sort_values("group")
    groups = rows.groupby(group)
    counts = {"n_maps": groups["map_id"].nunique(), "time_first_unix_s": groups["time_unix_s"].min()}
    counts["time_last_unix_s"] = groups["time_unix_s"].max()
    mean, error = found["mean"], found["mean_err"]
    columns = {name: first[name].to_numpy() for name in ("name", "band", "ra_deg", "dec_deg")}
    columns |= {name: values.to_numpy() for name, values in counts.items()}
    columns |= {"n_measurements": found["n"], "flux_mjy": mean, "flux_err_mjy": error, "snr": mean / error}
    return tables.make("stacks", columns | {"p_constant": found["p_constant"], "sky_err_mjy": np.nan})


def stamp_arrays(stamps):
    """Stamps as arrays for :func:`store.write`."""
    if stamps is None:
        return {}
    what = "[position, row, column]; the last is that of all positions; north up, east to the left"
    arrays = {}
    for band in sorted(stamps.rho):
        for (name, unit), image in zip((("flux", "mJy"), ("snr", "1")), stamps.images(band), strict=True):
            attrs = {"unit": unit, "description": what, "step_arcmin": stamps.step_arcmin}
            arrays[f"stamps/{band}/{name}"] = (image, attrs)
    return arrays


def _measure(files, row, positions, options, photometry_options):
    """Usable fluxes of the positions in a map within their times: table ``stack_measurements``."""
    targets = positions[["ra_deg", "dec_deg"]].assign(source_id="")
    known = _others(store.read_table(files.forced, "forced"), positions, options)
    found = revisits.measure_in_map(files, targets, photometry_options, known=known)
    found = found.assign(time_unix_s=found["time_unix_s"].fillna(row["time_unix_s"]))
    time = found["time_unix_s"].to_numpy()
    kept = variability.usable(found) & (time >= positions["time_min_unix_s"].to_numpy())
    kept &= time <= positions["time_max_unix_s"].to_numpy()
    labels = {name: row[name] for name in ("map_id", "array", "band")}
    names = [name for name in tables.column_names("stack_measurements") if name in found]
    return tables.make("stack_measurements", found[names].assign(**labels, name=positions["name"].to_numpy())[kept])


def _others(forced, positions, options):
    """Forced photometry of the known sources that are not themselves at one of the positions."""
    place = (frame[name].to_numpy() for frame in (forced, positions) for name in ("ra_deg", "dec_deg"))
    i, *_ = crossmatch.match(*place, 60 * options["own_radius_arcmin"])
    return forced.drop(index=forced.index[np.unique(i)])


def _add_stamps(stamps, files, band, positions, index, options):
    """Add the map around the positions to the stamps."""
    sky_map = maps.read_sky_map(files.preprocessed)
    model = pointing.from_dict(store.read_attrs(files.pointing)["pointing"])
    known = _others(store.read_table(files.forced, "forced"), positions, options)
    clean = revisits.without_known(sky_map, known, model)
    offset = (np.arange(2 * stamps.half + 1) - stamps.half) * 60 * stamps.step_arcmin
    for start in range(0, len(positions), _BLOCK):
        part = positions.iloc[start : start + _BLOCK]
        ra, dec = (part[name].to_numpy()[:, None, None] for name in ("ra_deg", "dec_deg"))
        place = geometry.offset_position(ra, dec, -offset, offset[:, None])
        where = photometry.expected_positions(clean, *(values.ravel() for values in place), model)
        s, kappa = reading.read_at(clean.rho, clean.kappa, where.y, where.x, clean.template)
        shape = (len(part), len(offset), len(offset))
        kappa = np.nan_to_num(kappa)
        rho = np.nan_to_num(s) * np.sqrt(kappa)
        stamps.add(band, index[start : start + _BLOCK], rho.reshape(shape), kappa.reshape(shape))
