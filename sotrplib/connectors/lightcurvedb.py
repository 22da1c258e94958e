"""lightcurvedb, the Simons Observatory's database of light curves: every flux of a run, measured or merely a limit.

A PostgreSQL database that lightcurvedb's own environment variables name (``LIGHTCURVEDB_POSTGRES_HOST``, ``_PORT``,
``_USER``, ``_PASSWORD``, ``_DB``), of either generation of its tables: 0.0 (PyPI), with whole-number ids and bands,
and 0.1, with UUIDs and instruments. Rows go in by COPY, all in one transaction. Each measurement has an id made from
its map and source, so that what is written again replaces itself; nothing is ever deleted.

Fluxes are written in Jy (or mJy: pipelines before this one did both), angles in degrees, right ascension from -180 to
180.
"""

import importlib.metadata
import json
import logging
import os
import uuid
from contextlib import contextmanager

import numpy as np
import pandas as pd

from sotrplib import tables, units
from sotrplib.connectors import ServiceError, databases

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "sotrp/lightcurvedb")
FIRST_OWN_ID = 2**30  # in the tables of 0.0, ids below this are those of socat
_CURE = "make its tables with lightcurvedb-setup"
_KINDS = ("forced", "confirm", "moving")
_STAGED = "measurement_id, source, band, module, frequency, time, ra, dec, ra_unc, dec_unc, flux, flux_err, extra"
_log = logging.getLogger(__name__)


def measurement_id(map_id, source_id):
    """Id of the measurement of a source in a map."""
    return uuid.uuid5(NAMESPACE, f"measurement/{map_id}/{source_id}")


def source_uuid(source_id):
    """Id of a source that no other program has entered before."""
    return uuid.uuid5(NAMESPACE, f"source/{source_id}")


def rows_of(measurements, maps, positions):
    """Measurements as they are written.

    Parameters
    ----------
    measurements, maps : pandas.DataFrame
        Tables of these names.
    positions : pandas.DataFrame
        Of every source, indexed by source_id: ra_err_arcsec, dec_err_arcsec.

    Returns
    -------
    pandas.DataFrame
        One row a measurement at a known place (not blind) with a flux, detected or not: measurement_id, source,
        map_id, band, module, frequency, time (UTC; that of the map where a position has none), ra, dec, ra_unc,
        dec_unc (true angles), flux and flux_err in mJy, snr and extra (JSON: flags, map_id, kind, measurement_id).
    """
    kept = measurements[measurements["kind"].isin(_KINDS) & np.isfinite(measurements["flux_mjy"])]
    time = kept["time_unix_s"].fillna(kept["map_id"].map(maps.set_index("map_id")["time_unix_s"]))
    kept, time = kept[time.notna()], time[time.notna()]
    ids = [measurement_id(*pair) for pair in zip(kept["map_id"], kept["source_id"], strict=True)]
    errors = positions.reindex(kept["source_id"]).fillna(0.0) / 3600
    labels = zip(ids, kept["map_id"], kept["kind"], kept["flags"], strict=True)
    return pd.DataFrame(
        {
            "measurement_id": ids,
            "source": kept["source_id"].to_numpy(object),
            "map_id": kept["map_id"].to_numpy(object),
            "band": (kept["array"] + "_" + kept["band"]).to_numpy(object),
            "module": kept["array"].to_numpy(object),
            "frequency": [band_ghz(band) for band in kept["band"]],
            "time": pd.to_datetime(time.to_numpy(), unit="s", utc=True),
            "ra": signed_ra(kept["ra_deg"].to_numpy()),
            "dec": kept["dec_deg"].to_numpy(),
            "ra_unc": errors["ra_err_arcsec"].to_numpy(),
            "dec_unc": errors["dec_err_arcsec"].to_numpy(),
            "flux": kept["flux_mjy"].to_numpy(),
            "flux_err": kept["flux_err_mjy"].to_numpy(),
            "snr": kept["snr"].to_numpy(),
            "extra": [_extra(*label) for label in labels],
        }
    ).drop_duplicates("measurement_id", ignore_index=True)


def sources_of(sources, moving, socat_ids=None):
    """Sources as they are written.

    Parameters
    ----------
    sources : pandas.DataFrame
        Table of this name.
    moving : set of str
        source_id of those that move.
    socat_ids : dict of str to str, optional
        Id in socat, by source_id.

    Returns
    -------
    pandas.DataFrame
        source, name, ra, dec, variable (moves: no position of its own) and socat_id (text, empty for none).
    """
    variable = sources["source_id"].isin(moving).to_numpy()
    columns = {"source": sources["source_id"].to_numpy(object), "name": sources["source_name"].to_numpy(object)}
    columns["ra"] = np.where(variable, np.nan, signed_ra(sources["ra_deg"].to_numpy()))
    columns["dec"] = np.where(variable, np.nan, sources["dec_deg"].to_numpy())
    columns["variable"] = variable
    columns["socat_id"] = [(socat_ids or {}).get(name, "") for name in sources["source_id"]]
    return pd.DataFrame(columns)


def band_ghz(band):
    """Frequency in the name of a band: 90 for f090."""
    digits = "".join(filter(str.isdecimal, band))
    if not digits:
        raise ServiceError(f"lightcurvedb: band {band!r} has no frequency in its name; expected one like f090")
    return int(digits)


def signed_ra(ra_deg):
    """RA from -180 to 180 (180 itself included)."""
    return -((180.0 - np.asarray(ra_deg)) % 360.0 - 180.0)


def read_settings():
    """lightcurvedb's settings, as its environment variables say, and the kind of its backend.

    Returns
    -------
    settings : lightcurvedb.config.Settings
    kind : str
        postgres, or what ``LIGHTCURVEDB_BACKEND_TYPE`` says.

    Raises
    ------
    ServiceError
        If lightcurvedb is not installed, does not have that backend or does not understand a variable.
    """
    settings = databases.client_settings("lightcurvedb.config")
    named = next((value for key, value in os.environ.items() if key.lower() == "lightcurvedb_backend_type"), "postgres")
    if not hasattr(settings, "backend_type") and named.lower() != "postgres":
        raise ServiceError(
            f"LIGHTCURVEDB_BACKEND_TYPE is {named}, which lightcurvedb {importlib.metadata.version('lightcurvedb')} "
            "does not have; install 0.1, or give a PostgreSQL database"
        )
    return settings, getattr(settings, "backend_type", "postgres")


@contextmanager
def connect():
    """Connection to the database, one transaction: committed at the end, or nothing is written.

    Raises
    ------
    ServiceError
        If lightcurvedb or psycopg is not installed, the server cannot be reached or refuses the user, or a statement
        fails.
    """
    options, _ = read_settings()
    try:
        import psycopg
    except ImportError as error:
        raise ServiceError(f"psycopg is not installed ({error}); pip install 'sotrplib[lightcurvedb]'") from error
    where = {"host": options.postgres_host, "port": options.postgres_port, "dbname": options.postgres_db}
    what = "lightcurvedb {dbname} on {host}:{port}".format(**where)
    login = {"user": options.postgres_user, "password": options.postgres_password, "connect_timeout": 10}
    try:
        with psycopg.connect(**where, **login) as connection:
            yield connection
    except psycopg.Error as error:
        reason = " ".join(str(error).split())
        raise ServiceError(f"{what}: {reason}; see LIGHTCURVEDB_POSTGRES_HOST, _PORT, _USER, _PASSWORD, _DB") from error


def write(connection, rows, sources, telescopes, *, cutouts=(), flux_unit="Jy"):
    """Write measurements with their sources, bands and cutouts; what is there already is brought up to date.

    Parameters
    ----------
    connection : psycopg.Connection
    rows, sources : pandas.DataFrame
        As of :func:`rows_of` and :func:`sources_of`.
    telescopes : dict of str to str
        Instrument of each map, by map_id.
    cutouts : iterable of (UUID, array (ny, nx))
        Of measurements, flux in mJy; NaN where there is no data.
    flux_unit : {"Jy", "mJy"}
        Of fluxes and cutouts in the database.

    Returns
    -------
    dict of str to int
        Number of measurements, of sources and of cutouts written or brought up to date.

    Raises
    ------
    ServiceError
        If the tables are missing or of no known generation.
    """
    with connection.cursor() as cursor:
        layout = LAYOUTS[generation(cursor)]
        cursor.execute("SET LOCAL TIME ZONE 'UTC'")  # the tables of 0.0 hold times without a zone
        cursor.execute("LOCK TABLE sources IN SHARE ROW EXCLUSIVE MODE")
        ids = layout.match_sources(cursor, sources[sources["source"].isin(rows["source"])])
        cursor.executemany(layout.ADD_BAND, bands_of(rows, telescopes))
        scale = 1 / units.flux_factor(flux_unit)
        _stage(cursor, rows.assign(flux=rows["flux"] * scale, flux_err=rows["flux_err"] * scale), ids)
        cursor.execute(layout.UPDATE)
        cursor.execute(layout.INSERT)
        n_cutouts = _stage_cutouts(cursor, rows, cutouts, scale)
        for statement in (layout.UPDATE_CUTOUTS, layout.INSERT_CUTOUTS):
            cursor.execute(statement, {"unit": flux_unit})
    return {"measurements": len(rows), "sources": len(ids), "cutouts": n_cutouts}


def generation(cursor):
    """Generation of the tables: "0.0" or "0.1"."""
    query = """
        SELECT table_name, column_name FROM information_schema.columns
        WHERE table_schema = ANY (current_schemas(false))
    """
    found = {}
    for table, column in cursor.execute(query).fetchall():
        found.setdefault(table, set()).add(column)
    for name, layout in LAYOUTS.items():
        if all(columns <= found.get(table, set()) for table, columns in layout.TABLES.items()):
            return name
    raise ServiceError(
        f"lightcurvedb: the database has the tables {sorted(found) or 'none at all'}, not those of a known version; "
        f"{_CURE}, or bring them up to date"
    )


class Tables00:
    """The tables of lightcurvedb 0.0: whole-number ids, one band an array and frequency."""

    TABLES = {
        "sources": {"id", "ra", "dec", "variable", "extra"},
        "bands": {"name", "telescope", "instrument", "frequency"},
        "flux_measurements": {"id", "band_name", "source_id", "time", "i_flux", "i_uncertainty", "extra"},
        "cutouttable": {"id", "data", "time", "units", "band_name", "flux_id"},
    }
    ADD_BAND = """
        INSERT INTO bands (name, telescope, instrument, frequency)
        VALUES (%(band)s, %(telescope)s, %(module)s, %(frequency)s) ON CONFLICT DO NOTHING
    """
    UPDATE = """
        UPDATE flux_measurements f SET time = s.time, ra = s.ra, dec = s.dec, ra_uncertainty = s.ra_unc,
            dec_uncertainty = s.dec_unc, i_flux = s.flux, i_uncertainty = s.flux_err, extra = s.extra
        FROM staged s
        WHERE f.source_id = s.source_id::int AND f.extra ->> 'measurement_id' = s.measurement_id::text
    """
    INSERT = """
        INSERT INTO flux_measurements (band_name, source_id, time, ra, dec, ra_uncertainty, dec_uncertainty, i_flux,
            i_uncertainty, extra)
        SELECT band, source_id::int, time, ra, dec, ra_unc, dec_unc, flux, flux_err, extra FROM staged s
        WHERE NOT EXISTS (SELECT FROM flux_measurements f WHERE f.source_id = s.source_id::int
            AND f.extra ->> 'measurement_id' = s.measurement_id::text)
        ORDER BY s.source_id::int, s.time
    """
    _KEYS = """
        SELECT f.id, f.band_name, f.time, c.data FROM staged_cutouts c
        JOIN staged s USING (measurement_id)
        JOIN flux_measurements f
            ON f.source_id = s.source_id::int AND f.extra ->> 'measurement_id' = s.measurement_id::text
    """
    UPDATE_CUTOUTS = f"""
        UPDATE cutouttable t SET data = k.data, time = k.time, units = %(unit)s FROM ({_KEYS}) k WHERE t.flux_id = k.id
    """
    INSERT_CUTOUTS = f"""
        INSERT INTO cutouttable (data, time, units, band_name, flux_id)
        SELECT k.data, k.time, %(unit)s, k.band_name, k.id FROM ({_KEYS}) k
        WHERE NOT EXISTS (SELECT FROM cutouttable t WHERE t.flux_id = k.id)
    """

    @staticmethod
    def match_sources(cursor, sources):
        """Id of each source, by its source_id: that of socat, else that of the same name, else a new one."""
        query = "SELECT id, extra -> 'cross_matches' -> 0 ->> 'name' FROM sources"
        known = cursor.execute(query).fetchall()
        named = {name: number for number, name in known if number >= FIRST_OWN_ID}
        free = max([FIRST_OWN_ID - 1, *named.values()]) + 1
        ids = {}
        for row in sources.itertuples():
            own = int(row.socat_id) if row.socat_id.isdecimal() else named.get(row.source)
            ids[row.source] = free if own is None else own
            free += own is None
        add = """
            INSERT INTO sources (id, ra, dec, variable, extra)
            VALUES (%(id)s, %(ra)s, %(dec)s, %(variable)s, %(extra)s)
            ON CONFLICT (id) DO UPDATE SET ra = excluded.ra, dec = excluded.dec, variable = excluded.variable
        """
        cursor.executemany(add, [source_values(row) | {"id": ids[row.source]} for row in sources.itertuples()])
        return ids


class Tables01:
    """The tables of lightcurvedb 0.1: UUIDs, one instrument a module (array) and frequency."""

    TABLES = {
        "sources": {"source_id", "socat_id", "name", "ra", "dec", "variable", "extra"},
        "instruments": {"frequency", "module", "telescope", "instrument", "details"},
        "flux_measurements": {
            "measurement_id",
            "frequency",
            "module",
            "source_id",
            "time",
            "flux",
            "flux_err",
            "extra",
        },
        "cutouts": {"measurement_id", "source_id", "frequency", "module", "data", "time", "units"},
    }
    ADD_BAND = """
        INSERT INTO instruments (frequency, module, telescope, instrument, details)
        VALUES (%(frequency)s, %(module)s, %(telescope)s, %(telescope)s, '{}') ON CONFLICT DO NOTHING
    """
    UPDATE = """
        UPDATE flux_measurements f SET time = s.time, ra = s.ra, dec = s.dec, ra_uncertainty = s.ra_unc,
            dec_uncertainty = s.dec_unc, flux = s.flux, flux_err = s.flux_err, extra = s.extra
        FROM staged s WHERE f.measurement_id = s.measurement_id
    """
    INSERT = """
        INSERT INTO flux_measurements (measurement_id, frequency, module, source_id, time, ra, dec, ra_uncertainty,
            dec_uncertainty, flux, flux_err, extra)
        SELECT measurement_id, frequency, module, source_id::uuid, time, ra, dec, ra_unc, dec_unc, flux, flux_err, extra
        FROM staged s WHERE NOT EXISTS (SELECT FROM flux_measurements f WHERE f.measurement_id = s.measurement_id)
        ORDER BY source_id, time
    """
    UPDATE_CUTOUTS = """
        UPDATE cutouts t SET data = c.data, time = s.time, units = %(unit)s
        FROM staged_cutouts c JOIN staged s USING (measurement_id) WHERE t.measurement_id = c.measurement_id
    """
    INSERT_CUTOUTS = """
        INSERT INTO cutouts (measurement_id, source_id, frequency, module, data, time, units)
        SELECT c.measurement_id, s.source_id::uuid, s.frequency, s.module, c.data, s.time, %(unit)s
        FROM staged_cutouts c JOIN staged s USING (measurement_id)
        WHERE NOT EXISTS (SELECT FROM cutouts t WHERE t.measurement_id = c.measurement_id)
    """

    @staticmethod
    def match_sources(cursor, sources):
        """Id of each source, by its source_id: of the row with its id in socat, else one made from its name."""
        found = cursor.execute("SELECT source_id, socat_id::text FROM sources WHERE socat_id IS NOT NULL").fetchall()
        entered = {socat_id: own for own, socat_id in found}
        kind = (
            "SELECT data_type FROM information_schema.columns WHERE table_name = 'sources' AND column_name = 'socat_id'"
        )
        uuids = cursor.execute(kind).fetchone()[0] == "uuid"
        rows = [source_values(row) | _socat_value(row, uuids) for row in sources.itertuples()]
        ids = {row["source"]: entered.get(row["socat_id"]) or source_uuid(row["source"]) for row in rows}
        add = f"""
            INSERT INTO sources (source_id, socat_id, name, ra, dec, variable, extra)
            VALUES (%(id)s, %(socat_id)s::{"uuid" if uuids else "int"}, %(name)s, %(ra)s, %(dec)s, %(variable)s,
                %(extra)s)
            ON CONFLICT (source_id) DO UPDATE SET ra = excluded.ra, dec = excluded.dec, variable = excluded.variable
        """
        cursor.executemany(add, [row | {"id": ids[row["source"]]} for row in rows])
        return ids


LAYOUTS = {"0.1": Tables01, "0.0": Tables00}


def _extra(own_id, map_id, kind, flags):
    labels = {"flags": tables.flag_names(flags), "map_id": map_id, "kind": kind, "measurement_id": str(own_id)}
    return json.dumps(labels)


def source_values(row):
    """Values of a source, ready for the database: no NaN."""
    values = {"source": row.source, "name": row.name, "variable": bool(row.variable)}
    values |= {name: None if np.isnan(getattr(row, name)) else float(getattr(row, name)) for name in ("ra", "dec")}
    return values | {"extra": json.dumps({"cross_matches": [{"name": row.source}]})}


def _socat_value(row, uuids):
    """The id in socat, if it is of the type that the database has."""
    number = row.socat_id.isdecimal()
    return {"socat_id": row.socat_id if row.socat_id and number != uuids else None}


def bands_of(rows, telescopes):
    """Bands of measurements with their telescopes: dicts of band, module, frequency, map_id and telescope."""
    first = rows.drop_duplicates("band")
    names = ("band", "module", "frequency", "map_id")
    records = first[list(names)].to_dict("records")
    return [record | {"telescope": telescopes[record["map_id"]]} for record in records]


def _stage(cursor, rows, ids):
    cursor.execute(
        "CREATE TEMP TABLE staged (measurement_id uuid PRIMARY KEY, source_id text, band text, module text, "
        "frequency int, time timestamptz, ra float8, dec float8, ra_unc float8, dec_unc float8, flux float8, "
        "flux_err float8, extra json) ON COMMIT DROP"
    )
    names = [name.strip() for name in _STAGED.split(",")]
    with cursor.copy(f"COPY staged ({_STAGED.replace('source,', 'source_id,')}) FROM STDIN") as copy:
        for row in rows[names].itertuples(index=False):
            values = row._asdict() | {"source": str(ids[row.source]), "time": row.time.to_pydatetime()}
            copy.write_row(list(values.values()))
    cursor.execute("ANALYZE staged")


def _stage_cutouts(cursor, rows, cutouts, scale):
    """Cutouts of measurements that are written, times ``scale``; number of them."""
    cursor.execute("CREATE TEMP TABLE staged_cutouts (measurement_id uuid PRIMARY KEY, data real[]) ON COMMIT DROP")
    wanted, n_written = set(rows["measurement_id"]), 0
    with cursor.copy("COPY staged_cutouts FROM STDIN") as copy:
        for own_id, image in cutouts:
            if own_id in wanted:
                copy.write_row((own_id, (np.asarray(image, float) * scale).tolist()))
                wanted.discard(own_id)
                n_written += 1
    return n_written
