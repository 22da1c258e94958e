"""The truth of a simulated sky: what is injected, what the catalogues say of it, and what was found of it.

Fluxes are mJy at the frequency of the row, angles degrees, offsets arcsec, times unix seconds UTC. Odd objects,
listed in a table, are variables, transients, new sources, artefacts and moving objects; all others are known sources
of constant flux.
"""

import numpy as np
import pandas as pd

from sotrplib import crossmatch, geometry, skies, store, tables

ODD_CLASSES = ("variable", "transient", "new_source", "artefact", "moving")
EPHEMERIS_STEP_S = 3600.0
_CLEAR_ARCSEC = 360.0  # known sources keep this far away from the odd objects
_JULIAN_DAY_1970 = 2440587.5
OBJECT_KEYS = ("name", "class", "ra_offset_arcmin", "dec_offset_arcmin")
OBJECT_DEFAULTS = {
    "steady_mjy": 0.0,
    "peak_mjy": 0.0,
    "spectral_index": 0.0,
    "peak_h": 0.0,
    "rise_h": 1.0,
    "decay_h": 1.0,
    "ra_rate_arcsec_h": 0.0,
    "dec_rate_arcsec_h": 0.0,
    "array": "",
    "band": "",
    "shape": "point",
}
_SHAPES = ("point", "pixel", "trail")
_COMPARISON = ("name", "injected", "injected_mjy", "found", "confirmed", "band", "found_mjy", "found_err_mjy", "snr")
_COMPARISON += ("sep_arcsec", "n_found")


class TruthError(ValueError):
    """A sky that cannot be simulated as asked; names key, found, expected."""


def read_objects(path):
    """Read the table of odd objects.

    Parameters
    ----------
    path : path
        CSV with the columns ``OBJECT_KEYS``: name, class (one of ``ODD_CLASSES``) and offset from the centre of the
        map; and any of ``OBJECT_DEFAULTS``, whose values stand for empty cells: the steady flux and the peak of a
        flare (mJy), its spectral index, the hours of its peak after the start, its e-folding times, the motion, the
        only array and band to see it, and its shape (point, pixel or trail). Lines that start with # are comments.

    Returns
    -------
    DataFrame
        All these columns, complete.

    Raises
    ------
    TruthError
        If a column is missing or unknown, a class or shape unknown, a number no number, or a name used twice.
    """
    text = pd.read_csv(path, comment="#", dtype=str, keep_default_na=False, skipinitialspace=True)
    missing, unknown = set(OBJECT_KEYS) - set(text), set(text) - set(OBJECT_KEYS) - set(OBJECT_DEFAULTS)
    if missing or unknown:
        raise TruthError(f"{path}: missing columns {sorted(missing)}, unknown columns {sorted(unknown)}")
    columns = {name: text[name].str.strip() for name in ("name", "class")}
    for name in OBJECT_KEYS[2:]:
        columns[name] = _numbers(path, name, text[name])
    for name, default in OBJECT_DEFAULTS.items():
        cells = text.get(name, pd.Series("", text.index)).str.strip().replace("", str(default))
        columns[name] = cells if isinstance(default, str) else _numbers(path, name, cells)
    _check_values(path, "class", columns["class"], ODD_CLASSES)
    _check_values(path, "shape", columns["shape"], _SHAPES)
    repeated = sorted(set(columns["name"][columns["name"].duplicated()]))
    if repeated:
        raise TruthError(f"{path}: names {repeated} occur twice; give each object its own")
    return pd.DataFrame(columns)


def simulate_truth(options, seed, objects=None):
    """Draw the sky: known sources with power-law counts, and the given odd objects.

    Parameters
    ----------
    options : dict
        Section ``simulate`` of the configuration.
    seed : int
        Seed of the configuration.
    objects : DataFrame, optional
        From :func:`read_objects`; they keep a distance of 6 arcmin from the known sources.

    Returns
    -------
    DataFrame
        Schema ``truth``, odd objects first.
    """
    odd = tables.empty("truth") if objects is None else _odd_objects(options, objects)
    known = _known_sources(options, skies.rng_for(seed, "sources"), odd)
    return pd.concat([odd, known], ignore_index=True) if len(odd) else known


def write_truth(path, truth):
    """Write the truth as HDF5 table ``truth``."""
    store.write(path, frames={"truth": ("truth", truth)})


def read_truth(path):
    """Read the truth written by :func:`write_truth`."""
    return store.read_table(path, "truth")


def positions(truth, time_unix_s):
    """True positions (ra_deg, dec_deg) of the objects at a time: one for all, one each, or (m, 1) for shape (m, n)."""
    rates = truth[["ra_rate_arcsec_h", "dec_rate_arcsec_h"]].to_numpy().T
    hours = (np.asarray(time_unix_s, float) - truth["time_unix_s"].to_numpy()) / 3600
    east, north = (np.where(rate == 0, 0.0, rate * hours) for rate in rates)
    return geometry.offset_position(truth["ra_deg"].to_numpy(), truth["dec_deg"].to_numpy(), east, north)


def fluxes(truth, freq_ghz, time_unix_s):
    """True fluxes in mJy of the objects at a frequency and a time (broadcast as in :func:`positions`)."""
    column = {name: truth[name].to_numpy() for name in truth.columns}
    since = np.asarray(time_unix_s, float) - column["time_unix_s"]
    scale = np.where(since < 0, column["rise_s"], column["decay_s"])
    flare = column["peak_mjy"] * np.exp(-np.abs(since) / scale)
    light = column["flux_mjy"] + np.where(column["peak_mjy"] == 0, 0.0, flare)
    return light * (freq_ghz / column["freq_ghz"]) ** column["spectral_index"]


def write_catalog(path, truth, options, seed):
    """Write the catalogue of known sources (CSV in the ACT convention) with its errors of position and flux."""
    known = truth[truth["in_catalog"]].sort_values("name")
    rng = skies.rng_for(seed, "catalog")
    east, north = options["catalog_pos_err_arcsec"] * rng.standard_normal((2, len(known)))
    ra, dec = geometry.offset_position(known["ra_deg"].to_numpy(), known["dec_deg"].to_numpy(), east, north)
    error = options["catalog_flux_err"] * known["flux_mjy"].to_numpy()
    flux = known["flux_mjy"].to_numpy() + error * np.clip(rng.standard_normal(len(known)), -3, 3)
    columns = {"raDeg": ra, "decDeg": dec, "fluxJy": flux / 1e3, "err_fluxJy": error / 1e3}
    _write_csv(path, pd.DataFrame({"name": known["name"].to_numpy(), **columns}))


def write_ephemeris(path, truth, options):
    """Write the positions of the moving objects, one an hour: CSV of designation, julian_day (UTC), ra_deg, dec_deg."""
    moving = truth[truth["class"] == "moving"].reset_index(drop=True)
    first = options["start_unix_s"] - 12 * EPHEMERIS_STEP_S
    times = first + EPHEMERIS_STEP_S * np.arange(int(options["ephemeris_h"]) + 25)
    ra, dec = positions(moving, times[:, None])
    frame = pd.DataFrame(
        {
            "designation": np.repeat(moving["name"].to_numpy(), len(times)),
            "julian_day": np.tile(times / 86400 + _JULIAN_DAY_1970, len(moving)),
            "ra_deg": np.reshape(ra, (len(times), -1)).T.ravel(),
            "dec_deg": np.reshape(dec, (len(times), -1)).T.ravel(),
        }
    )
    _write_csv(path, frame)


def compare_with_truth(truth, catalog, frequencies=None, *, radius_arcsec=90.0):
    """What was found beside what was injected.

    Parameters
    ----------
    truth : DataFrame
        From :func:`simulate_truth`.
    catalog : dict of str to DataFrame
        Tables of the merged catalogue, of which ``candidates`` is used.
    frequencies : dict of str to float, optional
        Band centre in GHz by band; by default the number in its name.
    radius_arcsec : float
        Largest distance of a candidate from the true position at its time.

    Returns
    -------
    DataFrame
        One row an odd object, found or not, and one a known source that became a candidate, each with the most
        significant of its candidates; then one a candidate without a cause (empty name, ``injected`` "nothing").
        Columns: name, injected (class), injected_mjy (at the time and band of the candidate; without one, at the
        peak and the truth's frequency), found (class, "" if not found), confirmed, band, found_mjy, found_err_mjy,
        snr, sep_arcsec, n_found (candidates of this object).
    """
    candidates = catalog["candidates"]
    frequencies = frequencies or _nominal_frequencies(candidates["band"])
    time = candidates["time_unix_s"].to_numpy()[:, None]
    here = candidates["ra_deg"].to_numpy()[:, None], candidates["dec_deg"].to_numpy()[:, None]
    separation = geometry.separation_arcsec(*here, *positions(truth, time)).reshape(len(candidates), len(truth))
    near = np.where(separation <= radius_arcsec, separation, np.inf)
    owner = np.where(np.isfinite(near).any(axis=1), np.argmin(near, axis=1), -1) if near.size else -np.ones(len(near))
    is_odd = truth["class"].isin(ODD_CLASSES).to_numpy()
    rows = []
    for k in np.flatnonzero(is_odd | np.isin(np.arange(len(truth)), owner)):
        found = candidates.assign(sep_arcsec=separation[:, k])[owner == k]
        rows.append(_injected(truth.iloc[[k]], found, frequencies) | _found(found))
    lone = [_found(candidates.iloc[[i]]) for i in np.flatnonzero(owner < 0)]
    rows += [{"name": "", "injected": "nothing", "injected_mjy": 0.0} | row for row in lone]
    return pd.DataFrame(rows, columns=_COMPARISON)


def compare_sources(truth, catalog, frequencies=None):
    """Mean flux of every catalogue source of constant flux beside its true flux, by band.

    Parameters
    ----------
    truth, frequencies
        As for :func:`compare_with_truth`.
    catalog : dict of str to DataFrame
        Tables of the merged catalogue, of which ``sources`` and ``source_bands`` are used.

    Returns
    -------
    DataFrame
        source_name, band, injected_mjy, mean_flux_mjy, mean_flux_err_mjy, pull; one row a source and band measured.
    """
    names = catalog["sources"][["source_id", "source_name"]]
    known = truth[truth["class"] == "known"]
    table = (
        catalog["source_bands"]
        .merge(names, on="source_id")
        .merge(known, left_on="source_name", right_on="name", suffixes=("", "_true"))
    )
    frequencies = frequencies or _nominal_frequencies(table["band"])
    freq_ghz = table["band"].map(frequencies).to_numpy(float)
    table["injected_mjy"] = table["flux_mjy"] * (freq_ghz / table["freq_ghz"]) ** table["spectral_index"]
    table["pull"] = (table["mean_flux_mjy"] - table["injected_mjy"]) / table["mean_flux_err_mjy"]
    return table[["source_name", "band", "injected_mjy", "mean_flux_mjy", "mean_flux_err_mjy", "pull"]]


def _numbers(path, name, cells):
    try:
        return cells.astype(float)
    except ValueError as error:
        raise TruthError(f"{path}: column {name}: {error}; expected numbers") from error


def _check_values(path, name, cells, known):
    unknown = sorted(set(cells) - set(known))
    if unknown:
        raise TruthError(f"{path}: {name} {unknown[0]!r}; expected one of {', '.join(known)}")


def _odd_objects(options, objects):
    centre = options["center_ra_deg"], options["center_dec_deg"]
    offsets = 60 * objects["ra_offset_arcmin"].to_numpy(), 60 * objects["dec_offset_arcmin"].to_numpy()
    ra, dec = geometry.offset_position(*centre, *offsets)
    same = {name: objects[name].to_numpy() for name in tables.column_names("truth") if name in objects}
    derived = {
        "ra_deg": ra,
        "dec_deg": dec,
        "flux_mjy": objects["steady_mjy"].to_numpy(),
        "freq_ghz": options["freq_ghz"],
        "time_unix_s": options["start_unix_s"] + 3600 * objects["peak_h"].to_numpy(),
        "rise_s": 3600 * objects["rise_h"].to_numpy(),
        "decay_s": 3600 * objects["decay_h"].to_numpy(),
        "in_catalog": objects["class"].to_numpy() == "variable",
    }
    return tables.make("truth", same | derived)


def _known_sources(options, rng, odd):
    """Known sources with counts N(>S) ~ S^-slope between two fluxes, away from the paths of the odd objects.

    One flux is drawn in each quantile of the counts, so that every sky has its few bright sources.
    """
    count = options["n_sources"]
    ra, dec = _random_positions(options, rng, 2 * count)
    times = options["start_unix_s"] + EPHEMERIS_STEP_S * np.arange(0, options["ephemeris_h"] + 1)
    path = [np.ravel(a) for a in positions(odd, times[:, None])]
    clear = np.flatnonzero(crossmatch.nearest(ra, dec, *path, _CLEAR_ARCSEC)[0] < 0)[:count]
    low, high, slope = options["flux_min_mjy"], options["flux_max_mjy"], options["counts_slope"]
    rank = (rng.permutation(len(clear)) + rng.uniform(size=len(clear))) / max(len(clear), 1)
    above = (low / high) ** slope + (1 - (low / high) ** slope) * rank
    columns = {
        "name": [f"SIM{number:04d}" for number in range(1, len(clear) + 1)],
        "class": "known",
        "ra_deg": ra[clear],
        "dec_deg": dec[clear],
        "flux_mjy": low * above ** (-1 / slope),
        "spectral_index": rng.normal(options["spectral_index"], options["spectral_index_rms"], len(clear)),
        "freq_ghz": options["freq_ghz"],
        "time_unix_s": options["start_unix_s"],
        "rise_s": 3600.0,
        "decay_s": 3600.0,
        "in_catalog": True,
    }
    fixed = {name: OBJECT_DEFAULTS[name] for name in tables.column_names("truth") if name in OBJECT_DEFAULTS}
    return tables.make("truth", fixed | columns)


def _random_positions(options, rng, count):
    """Positions of even density on the sphere, in the map and half a degree around it."""
    half_height = options["height_deg"] / 2 + 0.5
    half_width = (options["width_deg"] / 2 + 0.5) / np.cos(np.radians(options["center_dec_deg"]))
    low, high = np.sin(np.radians(options["center_dec_deg"] + np.array([-half_height, half_height])))
    ra = options["center_ra_deg"] + rng.uniform(-half_width, half_width, count)
    return ra % 360, np.degrees(np.arcsin(rng.uniform(low, high, count)))


def _write_csv(path, frame):
    with store.atomic_path(path) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.8f", lineterminator="\n")


def _nominal_frequencies(bands):
    return {band: float(band[1:]) for band in set(bands)}


def _injected(thing, found, frequencies):
    """Name, class and flux of one object of the truth (a one-row frame), the flux as its best candidate has it."""
    columns = thing.iloc[0]
    flux = columns["flux_mjy"] + columns["peak_mjy"]
    if len(found):
        best = found.loc[found["max_snr"].idxmax()]
        flux = fluxes(thing, frequencies[best["band"]], best["time_unix_s"])[0]
    return {"name": columns["name"], "injected": columns["class"], "injected_mjy": float(flux)}


def _found(found):
    """The most significant of the candidates of one object, in the columns of the comparison."""
    if not len(found):
        return {"found": "", "confirmed": False, "band": "", "n_found": 0}
    best = found.loc[found["max_snr"].idxmax()]
    names = {"found": "class", "found_mjy": "flux_mjy", "found_err_mjy": "flux_err_mjy", "snr": "max_snr"}
    names |= {name: name for name in ("confirmed", "band", "sep_arcsec") if name in best}
    return {new: best[old] for new, old in names.items()} | {"n_found": len(found)}
