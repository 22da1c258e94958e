"""What the services are told of a run, gathered from its files."""

import logging

import numpy as np
import pandas as pd

from sotrplib import crossmatch, maps, photometry, pointing, store
from sotrplib.connectors import lightcurve_files, lightcurvedb

_SAME_ARCSEC = 0.1
_log = logging.getLogger(__name__)


def pointing_models(paths, map_ids):
    """Pointing model and sources of each map that has a model: dict of map_id to (model, table)."""
    models = {}
    for path, map_id in zip(paths, map_ids, strict=True):
        attrs = store.read_attrs(path)
        model = pointing.from_dict(attrs["pointing"]) if "pointing" in attrs else pointing.PointingModel()
        if model.kind != "identity":
            models[map_id] = model, store.read_table(path, "pointing_sources")
    return models


def position_errors(known, candidates):
    """Errors of the positions of all sources, indexed by source_id: ra_err_arcsec and dec_err_arcsec."""
    own = candidates.set_index("candidate_id")[["ra_err_arcsec", "dec_err_arcsec"]]
    given = known.set_index("source_id")["pos_err_arcsec"]
    both = pd.concat([own, pd.DataFrame({name: given for name in own.columns})])
    return both[~both.index.duplicated()]


def moving_sources(measurements, candidates):
    """Names of all sources that move: followed along their ephemeris, or found to move."""
    followed = measurements.loc[measurements["kind"] == "moving", "source_id"]
    return set(followed) | set(candidates.loc[candidates["class"] == "moving", "candidate_id"])


def socat_ids(known, snapshot):
    """Id in socat, by source_id, of the sources that came from there.

    Parameters
    ----------
    known : pandas.DataFrame
        Table ``catalog``.
    snapshot : path or None
        CSV of :mod:`sotrplib.connectors.socat`.
    """
    if not snapshot:
        return {}
    rows = pd.read_csv(snapshot, dtype={"socat_id": str, "name": str})
    places = [frame[name].to_numpy(float) for frame in (known, rows) for name in ("ra_deg", "dec_deg")]
    nearest, _ = crossmatch.nearest(*places, _SAME_ARCSEC)
    found = nearest >= 0
    return dict(zip(known["source_id"][found], rows["socat_id"].to_numpy()[nearest[found]], strict=True))


def cutouts(files, rows, size_arcmin, snr_min):
    """Cutouts of measurements, map by map.

    Parameters
    ----------
    files : dict of str to (path, path, path)
        Preprocessed map, pointing and forced photometry of each map, by map_id.
    rows : pandas.DataFrame
        As of :func:`lightcurvedb.rows_of`.
    size_arcmin : float
        Side of those that are not in the file of the forced photometry.
    snr_min : float or None
        Only of measurements of this SNR or more, of either sign; 0 for all, None for none.

    Yields
    ------
    measurement_id : UUID
    image : array (k, k)
        Flux in mJy.
    """
    if snr_min is None or not size_arcmin:
        return
    wanted = rows[np.abs(rows["snr"]) >= snr_min]
    for map_id, group in wanted.groupby("map_id"):
        map_path, pointing_path, forced_path = files[map_id]
        left = dict(zip(group["source"], group["measurement_id"], strict=True))
        sources = store.read_table(forced_path, "forced", columns=["source_id"])["source_id"]
        if "cutouts/flux" in store.list_contents(forced_path):
            images = store.read_array(forced_path, "cutouts/flux")
            yield from ((left.pop(name), images[i]) for i, name in enumerate(sources) if name in left)
        if left:
            yield from _cut_from_map(map_path, pointing_path, group[group["source"].isin(left)], size_arcmin)


def _cut_from_map(map_path, pointing_path, group, size_arcmin):
    sky_map = maps.read_sky_map(map_path)
    model = pointing.from_dict(store.read_attrs(pointing_path)["pointing"])
    images, _ = photometry.cutouts(
        sky_map, group["ra"].to_numpy(), group["dec"].to_numpy(), size_arcmin, pointing=model
    )
    yield from zip(group["measurement_id"], images[:, 0], strict=True)


def write_lightcurves(tables, known, files, options):
    """Write a run to lightcurvedb.

    Parameters
    ----------
    tables : dict of str to pandas.DataFrame
        measurements, sources, candidates and maps of the catalogue.
    known : (pandas.DataFrame, path or None)
        Table ``catalog``, and the snapshot of socat that it was read from.
    files : dict of str to (path, path, path)
        As of :func:`cutouts`.
    options : mapping
        ``flux_unit``, ``cutout_snr_min``, ``cutout_arcmin``.

    Returns
    -------
    dict of str to int
        What was written, see :func:`lightcurvedb.write`.
    """
    catalog, snapshot = known
    errors = position_errors(catalog, tables["candidates"])
    rows = lightcurvedb.rows_of(tables["measurements"], tables["maps"], errors)
    moving = moving_sources(tables["measurements"], tables["candidates"])
    sources = lightcurvedb.sources_of(tables["sources"], moving, socat_ids(catalog, snapshot))
    telescopes = dict(zip(tables["maps"]["map_id"], tables["maps"]["instrument"], strict=True))
    images = cutouts(files, rows, options["cutout_arcmin"], options["cutout_snr_min"])
    what = {"cutouts": images, "flux_unit": options["flux_unit"]}
    settings, kind = lightcurvedb.read_settings()
    if kind == "parquet":
        return lightcurve_files.write(settings, rows, sources, telescopes, **what)
    with lightcurvedb.connect() as connection:
        return lightcurvedb.write(connection, rows, sources, telescopes, **what)
