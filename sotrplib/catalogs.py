"""The merged catalogue: what all maps say of all sources, in five tables.

measurements (one row a flux), sources and source_bands (one row a source, and a band of it), candidates
and maps. Maps that failed give a row in ``maps`` and none elsewhere.
"""

import numpy as np
import pandas as pd

from sotrplib import spectra, store, summaries, tables, variability

_MAP_TEXTS = ("map_id", "status", "reason")
_LABELS = ("instrument", "array", "band")
_NOTHING_SAID = dict.fromkeys((*summaries.FILTERED, "freq_ghz", *summaries.FITTED), np.nan)
_NOTHING_SAID |= {"n_pointing": 0} | dict.fromkeys(summaries.COUNTED, 0)
_MAP_NUMBERS = ("time_unix_s", "area_deg2", "flux_err_mjy", "snr_std")
_SORTED_BY = ["map_id", "kind", "source_id", "ra_deg", "dec_deg"]


def read_maps(last, preprocessed=None):
    """What the files of the maps say of them, one row a map.

    Parameters
    ----------
    last : sequence of path
        Files of each map's last stage, which hands on the failure of any other.
    preprocessed : sequence of path, optional
        Filtered maps in the same order, where the last files say nothing but their status.

    Returns
    -------
    pandas.DataFrame
        map_id, instrument, array, band, status, reason and what :func:`summaries.of_map` tells: NaN for a failed map
        and for what its files do not tell, but for counts, which are 0 then; in the order given.
    """
    rows = []
    for k, path in enumerate(last):
        attrs = store.read_attrs(path)
        if preprocessed is not None and attrs["status"] == "ok":  # the first file of a failed map may be damaged
            first = store.read_attrs(preprocessed[k])
            attrs = first | {"freq_ghz": first.get("info", {}).get("freq_ghz", np.nan)} | attrs
        labels = dict(zip(_LABELS, attrs["map_id"].split("_"), strict=False))
        numbers = {name: attrs.get(name, nothing) for name, nothing in _NOTHING_SAID.items()}
        rows.append({**{name: attrs[name] for name in _MAP_TEXTS}, **labels, **numbers})
    return pd.DataFrame(rows, columns=[*_MAP_TEXTS, *_LABELS, *_NOTHING_SAID])


def read_forced(row, forced, last):
    """Forced photometry of a map, with the flags that the search of the map has added.

    Parameters
    ----------
    row : mapping
        Of :func:`read_maps`.
    forced, last : path
        Files of the map.
    """
    table = store.read_table(forced, "forced")
    if row["status"] != "ok":
        return table
    return summaries.flag_near_bright(table, store.read_array(last, summaries.NEAR_BRIGHT))


def read_stacked(paths, name, maps):
    """One table of all maps that did not fail, with the columns map_id, array, band and freq_ghz besides.

    Parameters
    ----------
    paths : sequence of path
        Files that hold the table, in the order of ``maps``.
    name : str
        Name of the table and of its schema.
    maps : pandas.DataFrame
        From :func:`read_maps`.
    """
    usable = [(path, row) for path, row in zip(paths, maps.to_dict("records"), strict=True) if row["status"] == "ok"]
    parts = [store.read_table(path, name).assign(**_labels(row)) for path, row in usable]
    nothing = tables.empty(name).assign(map_id="", array="", band="", freq_ghz=0.0)
    return pd.concat([part for part in parts if len(part)] or [nothing], ignore_index=True)


def add_searches(sifted, paths):
    """Detections of single maps, with those of searches of several maps below them.

    Parameters
    ----------
    sifted : pandas.DataFrame
        From :func:`read_stacked`.
    paths : sequence of path
        Files of the searches; of one that failed there are no rows.
    """
    found = read_stacked(paths, "sifted", read_maps(paths, paths))
    return pd.concat([sifted, found[sifted.columns]], ignore_index=True) if len(found) else sifted


def forced_measurements(forced, row):
    """Forced photometry of one map as measurements.

    Parameters
    ----------
    forced : pandas.DataFrame
        Table ``forced`` of the map.
    row : mapping
        map_id, array, band and freq_ghz of the map.

    Returns
    -------
    pandas.DataFrame
        Table ``measurements``, kind ``forced``.
    """
    shared = [name for name in tables.column_names("measurements") if name in forced]
    return tables.make("measurements", forced[shared].assign(kind="forced", **_labels(row)))


def blind_measurements(sifted, events, candidates):
    """Blind detections as measurements, named by the candidate or the known source they belong to.

    Parameters
    ----------
    sifted : pandas.DataFrame
        Table ``sifted`` of any number of maps, with the columns map_id, array, band and freq_ghz besides.
    events : array of int, shape (n,)
        Event of each row, from ``association.associate``.
    candidates : pandas.DataFrame
        Table ``candidates``, in the order of the events.

    Returns
    -------
    pandas.DataFrame
        Table ``measurements``, kind ``blind``. Noise that belongs to no event is left out.
    """
    events = np.asarray(events, int)
    ids, names = (np.append(candidates[name].to_numpy(object), "") for name in ("candidate_id", "matched_name"))
    known = (sifted["class"] == "known").to_numpy()
    source_id = np.where(known, sifted["matched_name"], ids[events])
    matched = np.where(known, sifted["matched_name"], names[events])
    rows = sifted.assign(
        source_id=source_id,
        source_name=np.where(matched != "", matched, source_id),
        kind="blind",
        **dict.fromkeys(("ra_offset_arcsec", "dec_offset_arcsec", "catalog_flux_err_mjy"), np.nan),
    )
    kept = (sifted["origin"] == "blind").to_numpy() & (known | (events >= 0))
    return tables.make("measurements", rows.loc[kept, tables.column_names("measurements")])


def merge_measurements(parts):
    """One table of the measurements of all maps, whatever their order.

    Parameters
    ----------
    parts : iterable of pandas.DataFrame
        Tables ``measurements``; a generator, so that no more than the result is held.

    Returns
    -------
    pandas.DataFrame
        Table ``measurements``, sorted by map_id, kind, source_id and position.
    """
    found = [part for part in parts if len(part)]
    if not found:
        return tables.empty("measurements")
    merged = pd.concat(found, ignore_index=True)
    return tables.make("measurements", merged.sort_values(_SORTED_BY, kind="stable", ignore_index=True))


def stream_measurements(maps, others):
    """The rows of :func:`merge_measurements`, one map at a time.

    Parameters
    ----------
    maps : iterable of (mapping, pandas.DataFrame)
        Row of each map (map_id, array, band and freq_ghz) and its table ``forced``, by map_id.
    others : pandas.DataFrame
        Table ``measurements`` of all other kinds, of these maps.

    Yields
    ------
    pandas.DataFrame
        Table ``measurements`` of a map, in the order of :func:`merge_measurements`.
    """
    by_map = dict(iter(others.groupby("map_id")))
    for row, forced in maps:
        yield merge_measurements([forced_measurements(forced, row), by_map.get(row["map_id"], others[:0])])


def merge_parts(parts, candidates, options, reference_ghz):
    """As :func:`merge_sources`, of measurements that come in parts, all of one source in one part."""
    found = [merge_sources(part, candidates, options, reference_ghz) for part in parts]
    found = found or [merge_sources(tables.empty("measurements"), candidates, options, reference_ghz)]
    sources, bands = (pd.concat(list(frames), ignore_index=True) for frames in zip(*found, strict=True))
    sources = sources.sort_values("source_id", kind="stable", ignore_index=True)
    return sources, bands.sort_values(["source_id", "band"], kind="stable", ignore_index=True)


def merge_sources(measurements, candidates, options, reference_ghz):
    """Sources and candidates that were measured, and their statistics in every band.

    Parameters
    ----------
    measurements, candidates : pandas.DataFrame
        Tables of these names.
    options : mapping
        Section ``merge_catalogs``.
    reference_ghz : float
        Frequency of the catalogue's fluxes.

    Returns
    -------
    sources, source_bands : pandas.DataFrame
        Tables of these names, sorted by source_id. The position is the one measured at; of a candidate its
        own. Sources that were never measured, for want of data, have n_measurements 0 and no band.
    """
    kept = measurements[measurements["kind"] != "blind"]
    first = kept.drop_duplicates("source_id").set_index("source_id")[["source_name", "ra_deg", "dec_deg"]].sort_index()
    own = candidates.drop_duplicates("candidate_id").set_index("candidate_id")[["ra_deg", "dec_deg"]]
    bands = variability.band_statistics(measurements, options, reference_ghz)
    indices = spectra.source_indices(measurements, options).reindex(first.index)
    count = bands.groupby("source_id")["n_measurements"].sum().reindex(first.index, fill_value=0)
    position = own.reindex(first.index).fillna(first[["ra_deg", "dec_deg"]])
    columns = {"source_id": first.index, "source_name": first["source_name"], "n_measurements": count}
    columns |= dict(indices.assign(n_simultaneous=indices["n_simultaneous"].fillna(0)).items())
    return tables.make("sources", columns | dict(position.items())), bands


def map_row(row, attrs, n_pointing, n_rows, *, offset=(0.0, 0.0)):
    """Row of the table ``maps`` of one map.

    Parameters
    ----------
    row : mapping
        map_id, instrument, array and band.
    attrs : mapping
        Attributes of the preprocessed map: status ("ok" or "failed"), reason, time_unix_s, area_deg2,
        flux_err_mjy, snr_std and freq_ghz; numbers that a failed map lacks become NaN.
    n_pointing : int
        Number of sources in the pointing fit.
    n_rows : (int, int, int)
        Forced measurements, detections and candidates.
    offset : (float, float)
        Pointing offset at the centre, RA (times cos dec) and Dec, in arcsec.

    Returns
    -------
    dict
        One value a column; see :func:`make_maps`.
    """
    numbers = {name: attrs.get(name, np.nan) for name in (*_MAP_NUMBERS, "freq_ghz")}
    status = attrs.get("status", "ok")
    dra, ddec = offset if status == "ok" else (np.nan, np.nan)
    return {
        **{name: row[name] for name in ("map_id", "instrument", "array", "band")},
        **numbers,
        "status": status,
        "reason": attrs.get("reason", ""),
        "ra_offset_arcsec": dra,
        "dec_offset_arcsec": ddec,
        "n_pointing": n_pointing,
        **dict(zip(("n_forced", "n_detections", "n_candidates"), n_rows, strict=True)),
    }


def make_maps(rows):
    """Table ``maps`` of rows from :func:`map_row`, sorted by map_id."""
    ordered = sorted(rows, key=lambda row: row["map_id"])
    return tables.make("maps", {name: [row[name] for row in ordered] for name in tables.column_names("maps")})


def _labels(row):
    return {name: row[name] for name in ("map_id", "array", "band", "freq_ghz")}
