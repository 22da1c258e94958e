"""One service and one question, in a process of its own: ``python services.py ACTION ARGUMENTS``.

The clients share a registry of tables, so each action imports one of them.
"""

import asyncio
import csv
import json
import sys
from pathlib import Path


def make_socat(catalog, ephemeris):
    """Fill the database that socat's environment names with the simulated sources and moving objects."""
    from astropy import units
    from astropy.coordinates import ICRS
    from socat.client.settings import SOCatClientSettings

    def position(row, ra, dec):
        return ICRS(ra=float(row[ra]) * units.deg, dec=float(row[dec]) * units.deg)

    client = SOCatClientSettings().client
    for row in read_rows(catalog):
        flux = float(row["fluxJy"]) * units.Jy
        client.create_source(position=position(row, "raDeg", "decDeg"), name=row["name"], flux=flux)
    objects = {}
    for row in read_rows(ephemeris):
        name = row["designation"]
        if name not in objects:
            objects[name] = client.sso.create_sso(name=name, MPC_id=len(objects) + 1)
        when = round((float(row["julian_day"]) - 2440587.5) * 86400)
        labels = {"sso_id": objects[name].sso_id, "MPC_id": objects[name].MPC_id, "name": name, "time": when}
        client.ephem.create_ephem(**labels, position=position(row, "ra_deg", "dec_deg"))


def make_lightcurvedb(address):
    """Make the tables of lightcurvedb."""
    from lightcurvedb import models
    from lightcurvedb.managers import SyncSessionManager

    assert models.TABLES
    SyncSessionManager(address).create_all()


def read_lightcurve(address, name, path):
    """Write the light curve of a source, read with lightcurvedb's client, as JSON."""
    curves = asyncio.run(ask_lightcurve(address, name))
    Path(path).write_text(json.dumps(curves, indent=1))


async def ask_lightcurve(address, name):
    from lightcurvedb.client.lightcurve import lightcurve_read_source
    from lightcurvedb.client.source import source_read_all
    from lightcurvedb.managers import AsyncSessionManager

    manager = AsyncSessionManager(address)
    async with manager.session() as session:
        known = {source.extra.cross_matches[0].name: source.id for source in await source_read_all(session)}
        found = await lightcurve_read_source(known[name], session)
    await manager.engine.dispose()
    return {
        band.band.name: {
            "time": [moment.isoformat() for moment in band.time],
            "flux_jy": band.i_flux,
            "flux_err_jy": band.i_uncertainty,
            "flags": [extra.flags for extra in band.extra],
        }
        for band in found.bands
    }


def list_states():
    """Print the state of each map in the database that mapcat's environment names."""
    from mapcat.database import TimeDomainProcessingTable
    from mapcat.helper import settings
    from sqlmodel import select

    with settings.session() as session:
        rows = session.execute(select(TimeDomainProcessingTable)).scalars().all()
        for row in sorted(rows, key=lambda row: row.map.map_name):
            print(f"  {row.map.map_name}: {row.processing_status}")


def read_rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
