"""lightcurvedb without a server: the folder of Parquet files that is one of the backends of its version 0.1.

Chosen by lightcurvedb's own variables, ``LIGHTCURVEDB_BACKEND_TYPE=parquet`` and ``LIGHTCURVEDB_PARQUET_BASE_PATH``,
and written through its own backend, one source after another: there are no transactions, so a run that is broken off
is completed by the next. Ids, units and angles are those of :mod:`sotrplib.connectors.lightcurvedb`. Ids of socat are
left out, since the backend cannot read a table back that holds them for some sources only.
"""

import asyncio
import itertools
import json

import numpy as np

from sotrplib import units
from sotrplib.connectors import ServiceError, lightcurvedb

_TOLERANCE = {"rtol": 1e-6, "atol": 1e-9}  # of numbers that are the same
_BATCH = 500  # cutouts held at a time


def write(settings, rows, sources, telescopes, *, cutouts=(), flux_unit="Jy"):
    """Write measurements with their sources, instruments and cutouts; what is there already is brought up to date.

    Parameters
    ----------
    settings : lightcurvedb.config.Settings
        Its ``backend_type`` is parquet.
    rows, sources, telescopes, cutouts, flux_unit
        As of :func:`lightcurvedb.write`.

    Returns
    -------
    dict of str to int
        Number of measurements, of sources and of cutouts written or found as they should be.

    Raises
    ------
    ServiceError
        If the folder cannot be written.

    Notes
    -----
    A measurement whose position alone became more or less certain stays as it is.
    """
    scale = 1 / units.flux_factor(flux_unit)
    rows = rows.assign(flux=rows["flux"] * scale, flux_err=rows["flux_err"] * scale)
    sources = sources[sources["source"].isin(rows["source"])]
    images = ((own_id, np.asarray(image, float) * scale) for own_id, image in cutouts)
    try:
        n_cutouts = asyncio.run(_write(settings, rows, sources, telescopes, (images, flux_unit)))
    except OSError as error:
        raise ServiceError(
            f"lightcurvedb in {settings.parquet_base_path}: {error}; see LIGHTCURVEDB_PARQUET_BASE_PATH"
        ) from error
    return {"measurements": len(rows), "sources": len(sources), "cutouts": n_cutouts}


async def _write(settings, rows, sources, telescopes, images):
    settings.parquet_base_path.mkdir(parents=True, exist_ok=True)
    async with settings.backend as backend:
        await _write_sources(backend.sources, sources)
        await _write_instruments(backend.instruments, lightcurvedb.bands_of(rows, telescopes))
        for source, group in rows.groupby("source", sort=False):
            await _write_curve(backend, lightcurvedb.source_uuid(source), group)
        return await _write_cutouts(backend.cutouts, rows.set_index("measurement_id"), *images)


async def _write_sources(storage, sources):
    from lightcurvedb.models import Source

    there = {source.source_id: source for source in await storage.get_all()}
    added = []
    for row in sources.itertuples():
        values = lightcurvedb.source_values(row)
        names = {"cross_matches": [{"name": row.source}]}
        own = lightcurvedb.source_uuid(row.source)
        wanted = {key: values[key] for key in ("name", "ra", "dec", "variable")}
        if own in there and _same(there[own], wanted):
            continue
        if own in there:
            await storage.delete(own)
        added.append(Source(source_id=own, extra=names, **wanted))
    if added:
        await storage.create_batch(added)


async def _write_instruments(storage, bands):
    from lightcurvedb.models import Instrument

    there = {(one.frequency, one.module) for one in await storage.get_all()}
    added = [
        Instrument(
            frequency=band["frequency"],
            module=band["module"],
            telescope=band["telescope"],
            instrument=band["telescope"],
            details={"band": band["band"]},  # Parquet has no empty structures
        )
        for band in bands
        if (band["frequency"], band["module"]) not in there
    ]
    if added:
        await storage.create_batch(added)


async def _write_curve(backend, own, group):
    """Measurements of one source."""
    from lightcurvedb.models import FluxMeasurement

    curves = await backend.lightcurves.get_source_lightcurve(own, "instrument")
    there = {measurement.measurement_id: measurement for curve in curves for measurement in curve}
    added = []
    for row in group.itertuples():
        wanted = {key: getattr(row, key) for key in ("frequency", "module", "ra", "dec", "flux", "flux_err")}
        wanted["time"] = row.time.to_pydatetime()
        found = there.get(row.measurement_id)
        extra = {"flags": json.loads(row.extra)["flags"]}
        if found and _same(found, wanted) and found.extra.flags == extra["flags"]:
            continue
        if found:
            await backend.fluxes.delete(row.measurement_id)
        errors = {"ra_uncertainty": row.ra_unc, "dec_uncertainty": row.dec_unc}
        added.append(FluxMeasurement(measurement_id=row.measurement_id, source_id=own, extra=extra, **errors, **wanted))
    if added:
        await backend.fluxes.create_batch(added)


async def _write_cutouts(storage, rows, images, flux_unit):
    """Cutouts of measurements; number of them."""
    n_cutouts, wanted = 0, ((own_id, image) for own_id, image in images if own_id in rows.index)
    while batch := list(itertools.islice(wanted, _BATCH)):
        given = [_cutout(rows.loc[own_id], own_id, image, flux_unit) for own_id, image in batch]
        there = {}
        for source_id in {cutout.source_id for cutout in given}:
            there |= {found.measurement_id: found for found in await storage.retrieve_cutouts_for_source(source_id)}
        added = [cutout for cutout in given if not _same_image(there.get(cutout.measurement_id), cutout)]
        for cutout in added:
            if cutout.measurement_id in there:
                await storage.delete(cutout.measurement_id)
        await storage.create_batch(added)
        n_cutouts += len(given)
    return n_cutouts


def _same_image(found, cutout):
    if found is None or found.units != cutout.units or np.shape(found.data) != np.shape(cutout.data):
        return False
    return np.allclose(found.data, cutout.data, equal_nan=True, **_TOLERANCE)


def _cutout(row, own_id, image, flux_unit):
    from lightcurvedb.models import Cutout

    labels = {"frequency": row["frequency"], "module": row["module"], "time": row["time"].to_pydatetime()}
    source_id = lightcurvedb.source_uuid(row["source"])
    return Cutout(measurement_id=own_id, source_id=source_id, data=image.tolist(), units=flux_unit, **labels)


def _same(found, wanted):
    """Whether the attributes of a model have these values, numbers but for rounding."""
    return all(_equal(getattr(found, key), value) for key, value in wanted.items())


def _equal(one, other):
    numbers = [np.nan if value is None else value for value in (one, other)]
    if all(isinstance(value, float) for value in numbers):
        return bool(np.isclose(*numbers, equal_nan=True, **_TOLERANCE))
    return one == other
