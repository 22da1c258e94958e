"""Light curves of moving objects: each measured in every map at the place where it was when the map saw it."""

import numpy as np
import pandas as pd

from sotrplib import tables, workers

RESOLVED_ARCMIN = 0.5  # radius of a disc whose flux a template for points no longer measures


def follow(moving, measure, maps, pos_err_max_arcsec):
    """Measure all moving objects in all maps, whether they were detected or not.

    Parameters
    ----------
    moving : pandas.DataFrame
        Tables ``moving`` of the maps in one, with a column ``map_id`` besides.
    measure : callable
        As for ``confirmation.confirm``: ``measure(map_id, targets)`` returns a row of the table ``forced`` a target.
    maps : pandas.DataFrame
        The maps to use: map_id, array, band, freq_ghz, time_unix_s (reference time).
    pos_err_max_arcsec : float
        Objects whose place is known no better than this are left out: a flux read beside the source is too low.

    Returns
    -------
    pandas.DataFrame
        Table ``measurements`` of kind ``moving``, sorted by source_id and map_id; source_id is the object's name.
        Maps without data at its place give no row, discs of more than half an arcminute neither. An object under
        the planet mask has a flux with the flag MASKED.
    """
    pointlike = moving["radius_arcmin"] <= RESOLVED_ARCMIN
    targets = moving[pointlike & (moving["pos_err_arcsec"] <= pos_err_max_arcsec)]
    groups = dict(iter(targets.groupby("map_id")))
    rows = [row for row in maps.to_dict("records") if row["map_id"] in groups]
    if not rows:
        return tables.empty("measurements")
    with workers.processes(lambda row: _measure_map(groups[row["map_id"]], measure, row)) as each:
        found = pd.concat(each(rows), ignore_index=True)
    found = found.sort_values(["source_id", "map_id"], kind="stable")
    return tables.make("measurements", found)


def _measure_map(objects, measure, row):
    targets = objects[["ra_deg", "dec_deg"]].assign(source_id="").reset_index(drop=True)
    found = measure(row["map_id"], targets[["source_id", "ra_deg", "dec_deg"]])
    names = objects["name"].to_numpy()
    labels = {name: row[name] for name in ("map_id", "array", "band", "freq_ghz")}
    time = found["time_unix_s"].fillna(row["time_unix_s"])
    columns = [name for name in tables.column_names("measurements") if name in found]
    found = found[columns].assign(**labels, time_unix_s=time, kind="moving", source_id=names, source_name=names)
    covered = (found["flags"] & np.uint32(tables.flag("NO_DATA"))) == 0
    return found[covered & np.isfinite(found["flux_mjy"])]
