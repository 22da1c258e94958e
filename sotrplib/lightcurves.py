"""Light curves: the measurements of each source side by side, ordered by band and time.

The file holds one table sorted by source, band and time, and an index of where each source begins, so
that the light curve of one source among millions is read without the rest.
"""

from collections import Counter

import numpy as np
import pandas as pd

from sotrplib import spools, store, tables, variability

TABLE = "lightcurves"


def build(measurements, options):
    """Sort measurements into light curves, with upper limits where the source was not detected.

    Parameters
    ----------
    measurements : pandas.DataFrame
        Table ``measurements``; the kinds ``forced``, ``confirm`` and ``moving`` are kept, since ``blind`` ones
        repeat them at a position of their own.
    options : mapping
        Section ``build_lightcurves``: a flux of less than ``detect_snr`` times its error is no detection and has an
        upper limit of ``limit_confidence``.

    Returns
    -------
    curves : pandas.DataFrame
        Table ``lightcurves`` sorted by source_id, band, time_unix_s (unknown times last) and map_id.
    index : pandas.DataFrame
        One row a source, sorted: source_id, first (row of its first measurement) and count.
    """
    kept = measurements[measurements["kind"] != "blind"]
    curves = kept.sort_values(["source_id", "band", "time_unix_s", "map_id", "kind"], kind="stable", ignore_index=True)
    ids, first, count = np.unique(curves["source_id"].to_numpy(dtype="U"), return_index=True, return_counts=True)
    index = pd.DataFrame({"source_id": ids.astype("U"), "first": first.astype("i8"), "count": count.astype("i8")})
    limits = _limits(curves, options)
    return tables.make("lightcurves", curves.assign(upper_limit_mjy=limits)), index


def stream(catalog, options, folder):
    """Light curves of a merged catalogue too long for memory.

    Parameters
    ----------
    catalog : path
        File with the table ``measurements``.
    options : mapping
        As of :func:`build`.
    folder : path
        Where the rows have room on their way.

    Returns
    -------
    curves : store.Blocks
        The rows of :func:`build`.
    index : pandas.DataFrame
        As of :func:`build`.
    """
    counts = _count_rows(catalog)
    ends = np.cumsum(counts.to_numpy())
    index = pd.DataFrame({"source_id": counts.index, "first": ends - counts.to_numpy(), "count": counts.to_numpy()})
    return store.Blocks(int(counts.sum()), _sorted_parts(catalog, spools.in_order(counts), options, folder)), index


def _count_rows(catalog):
    """Rows of each source, sorted by source."""
    counts = Counter()
    for block in store.read_blocks(catalog, "measurements", ["kind", "source_id"]):
        counts.update(block.loc[block["kind"] != "blind", "source_id"].value_counts().to_dict())
    ids = sorted(counts)
    return pd.Series([counts[name] for name in ids], index=pd.Index(ids, dtype="str"), dtype="i8")


def _sorted_parts(catalog, part, options, folder):
    with spools.Spool(1 + int(part.max()) if len(part) else 1, folder) as spool:
        for block in store.read_blocks(catalog, "measurements"):
            kept = block[block["kind"] != "blind"]
            spool.add(kept, part.reindex(kept["source_id"]).to_numpy())
        for rows in spool.parts():
            yield build(rows, options)[0]


def _limits(curves, options):
    flux, err = curves["flux_mjy"].to_numpy(), curves["flux_err_mjy"].to_numpy()
    missed = variability.usable(curves) & ~(flux >= options["detect_snr"] * err)
    return np.where(missed, variability.upper_limits(flux, err, options["limit_confidence"]), np.nan)


def write(path, curves, index, attrs=None):
    """Write light curves and their index, as :func:`build` returns them, to one HDF5 file."""
    arrays = {f"index/{name}": index[name].to_numpy() for name in ("first", "count")}
    arrays["index/source_id"] = _encoded(index["source_id"])
    store.write(path, attrs=attrs, arrays=arrays, frames={TABLE: (TABLE, curves)})


def read_index(path):
    """Index of a light curve file: source_id, first and count, sorted by source_id."""
    found = store.read_arrays(path, "index")
    return pd.DataFrame(
        {"source_id": np.char.decode(found["source_id"], "utf-8"), "first": found["first"], "count": found["count"]}
    )


def read_source(path, source_id):
    """Light curve of one source, reading only its rows.

    Returns
    -------
    pandas.DataFrame
        Table ``lightcurves``, sorted by band and time.

    Raises
    ------
    KeyError
        If the file has no such source.
    """
    index = read_index(path)
    row = int(np.searchsorted(index["source_id"].to_numpy(dtype="U"), source_id))
    if row == len(index) or index["source_id"][row] != source_id:
        raise KeyError(f"{path}: no light curve of {source_id!r}; it holds {len(index)} sources, see read_index")
    window = slice(int(index["first"][row]), int(index["first"][row] + index["count"][row]))
    columns = {name: _decoded(store.read_array(path, f"{TABLE}/{name}", window)) for name in _columns()}
    return tables.make(TABLE, columns)


def _columns():
    return tables.column_names(TABLE)


def _encoded(texts):
    values = [text.encode() for text in texts]
    return np.array(values, dtype=f"S{max(map(len, values), default=1) or 1}")


def _decoded(values):
    return np.char.decode(values, "utf-8") if values.dtype.kind == "S" else values
