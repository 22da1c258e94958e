"""socat, the Simons Observatory's catalogue of sources: what it knows in some boxes of the sky, as plain tables.

The client is the one that socat's own environment variables choose (``socat_client_client_type`` db or pickle,
``socat_model_database_name``, ``socat_client_pickle_path``), or our own of its web server (http,
``socat_client_hostname``). Two generations of it are in use, with other names and
types: 0.0 (PyPI), whose boxes do not cross RA 0 and which cannot be asked for moving objects in a box, and 0.1, told
apart by its method ``get_box_fixed``. Boxes are split at RA 0 for both.
"""

import importlib.metadata
import logging
import pickle
import sqlite3
from pathlib import Path

import numpy as np
import pandas as pd

from sotrplib import bodies
from sotrplib.boxes import widen
from sotrplib.connectors import ServiceError, databases, socat_http

FIXED_COLUMNS = ["socat_id", "name", "ra_deg", "dec_deg", "flux_mjy"]
MOVING_COLUMNS = ["socat_id", "name", "time_unix_s", "ra_deg", "dec_deg"]
_TABLES = {
    "fixed_sources": ["source_id", "ra_deg", "dec_deg", "flux_mJy", "name"],
    "solarsystem_objects": ["sso_id", "name"],
    "moving_sources": ["sso_id", "name", "time", "ra_deg", "dec_deg"],
}
_MOVING_MARGIN_ARCMIN = 60.0  # what an object may move between two rows of its ephemeris
_TIME_MARGIN_S = 86400.0
_log = logging.getLogger(__name__)


def open_client(database=""):
    """socat's client.

    Parameters
    ----------
    database : str
        SQLite file; empty for what socat's environment variables say.

    Raises
    ------
    ServiceError
        If socat is not installed, its database or pickle is not there, or is not one of socat.
    """
    if database:
        databases.set_environment(socat_client_client_type="db", socat_model_database_name=database)
    settings = databases.client_settings("socat.client.settings", "SOCatClientSettings")
    if settings.client_type == "db":
        _check_database()
    elif settings.client_type == "pickle":
        return _unpickle(settings)
    elif settings.client_type == "http":
        return _open_server(settings)
    with databases.explained("socat"):
        return settings.client


def _open_server(settings):
    if not settings.hostname:
        raise ServiceError(
            "socat_client_hostname: found nothing, expected the address of socat's server, http://host:port"
        )
    if settings.identity_server:
        raise ServiceError(
            f"socat_client_identity_server is {settings.identity_server}: nothing but a server that asks for no token "
            "can be read; unset it, or read the database behind that server (socat_client_client_type=db)"
        )
    _log.warning("socat: %s cannot be asked for moving objects; give ephemerides.tables for them", settings.hostname)
    return socat_http.Client(settings.hostname)


def read(client, boxes, times):
    """Fixed and moving sources in boxes on the sky.

    Parameters
    ----------
    client : socat client of either generation
    boxes : list of dict
        ``ra_min_deg, ra_max_deg, dec_min_deg, dec_max_deg``; ra_min > ra_max crosses RA 0.
    times : (float, float)
        First and last time of the observations, unix seconds.

    Returns
    -------
    fixed : pandas.DataFrame
        One row a source, sorted by name and id: ``FIXED_COLUMNS``; flux NaN where socat has none.
    moving : pandas.DataFrame
        One row an object and time, from a day before to a day after the times, of objects that pass through a box
        (or a degree beside it): ``MOVING_COLUMNS``.
    """
    with databases.explained("socat"), databases.understood("socat"):
        fixed = _read_fixed(client, split_boxes(boxes))
        wider = split_boxes([widen(box, _MOVING_MARGIN_ARCMIN) for box in boxes])
        span = times[0] - _TIME_MARGIN_S, times[1] + _TIME_MARGIN_S
        moving = []
        if not isinstance(client, socat_http.Client):
            ask = _moving_by_query if hasattr(client, "get_box_fixed") else _moving_by_table
            moving = ask(client, wider, span)
    fixed = pd.DataFrame(fixed, columns=FIXED_COLUMNS).drop_duplicates("socat_id")
    moving = pd.DataFrame(moving, columns=MOVING_COLUMNS).drop_duplicates(["socat_id", "time_unix_s"])
    return (
        fixed.sort_values(["name", "socat_id"], ignore_index=True),
        _interpolable(moving.sort_values(["name", "socat_id", "time_unix_s"], ignore_index=True)),
    )


def split_boxes(boxes):
    """Boxes (ra_min, ra_max, dec_min, dec_max) that do not cross RA 0 and cover the given ones; none within another."""
    parts = []
    for box in boxes:
        low, high, *dec = (box[f"{name}_deg"] for name in ("ra_min", "ra_max", "dec_min", "dec_max"))
        whole = abs(high - low) >= 360
        low, high = (0.0, 360.0) if whole else (low % 360.0, high % 360.0)
        parts += [(low, high, *dec)] if low <= high else [(low, 360.0, *dec), (0.0, high, *dec)]
    parts = list(dict.fromkeys(parts))
    return [part for part in parts if not any(other != part and _within(part, other) for other in parts)]


def _within(part, other):
    return other[0] <= part[0] and part[1] <= other[1] and other[2] <= part[2] and part[3] <= other[3]


def _corners(box):
    """Corners as socat takes them; 360 degrees would be taken for 0."""
    from astropy import units
    from astropy.coordinates import ICRS

    ra_min, ra_max, dec_min, dec_max = box
    ra_max = min(ra_max, np.nextafter(360.0, 0.0))
    lower, upper = ((ra_min, dec_min), (ra_max, dec_max))
    return {
        "lower_left": ICRS(ra=lower[0] * units.deg, dec=lower[1] * units.deg),
        "upper_right": ICRS(ra=upper[0] * units.deg, dec=upper[1] * units.deg),
    }


def _read_fixed(client, boxes):
    ask = getattr(client, "get_box_fixed", None) or client.get_box
    return [_fixed_row(source) for box in boxes for source in ask(**_corners(box))]


def _fixed_row(source):
    flux = np.nan if source.flux is None else source.flux.to_value("mJy")
    return str(source.source_id), source.name or "", *_radec(source.position), flux


def _moving_by_query(client, boxes, span):
    """Rows of the ephemerides of the objects that socat 0.1 finds in the boxes, at the times it has them for."""
    from astropy.time import Time

    t_min, t_max = (Time(value, format="unix") for value in span)
    rows = []
    for box in boxes:
        for found in client.get_box_sso(**_corners(box), t_min=t_min, t_max=t_max) or []:
            points = client.get_ephem_points(sso_id=found.sso_id, t_min=t_min, t_max=t_max) or []
            rows += [(str(found.sso_id), found.name, p.time.unix, *_radec(p.position)) for p in points]
    return rows


def _moving_by_table(client, boxes, span):
    """The same of socat 0.0, which lists no ephemerides: read from its tables, or from its pickled dictionary."""
    if hasattr(client.ephem, "catalog"):
        points = [
            (p.sso_id, p.name, p.time, *_radec(p.position))
            for p in client.ephem.catalog.values()
            if span[0] <= p.time <= span[1]
        ]
    else:
        points = _query_moving(span)
    frame = pd.DataFrame(points, columns=MOVING_COLUMNS)
    ra, dec = frame["ra_deg"].to_numpy(float), frame["dec_deg"].to_numpy(float)
    inside = np.zeros(len(frame), bool)
    for ra_min, ra_max, dec_min, dec_max in boxes:
        inside |= (ra >= ra_min) & (ra <= ra_max) & (dec >= dec_min) & (dec <= dec_max)
    wanted = set(frame["socat_id"][inside])
    return list(frame[frame["socat_id"].isin(wanted)].astype({"socat_id": str}).itertuples(index=False, name=None))


def _query_moving(span):
    from socat.database import RegisteredMovingSourceTable as Point
    from socat.database.session import create_sync_session_interface
    from sqlalchemy import select

    columns = (Point.sso_id, Point.name, Point.time, Point.ra_deg, Point.dec_deg)
    with create_sync_session_interface()() as session:
        query = select(*columns).where(span[0] <= Point.time, Point.time <= span[1])
        return [tuple(row) for row in session.execute(query)]


def _radec(position):
    return float(position.ra.to_value("deg")), float(position.dec.to_value("deg"))


def _interpolable(moving):
    """The objects with enough rows without a gap to interpolate between."""
    good = moving.groupby("name")["time_unix_s"].transform(lambda time: bool(bodies.stretches(time.to_numpy(float))))
    few = sorted(set(moving["name"][~good.astype(bool)]))
    if few:
        _log.warning("socat: too few positions without a gap to follow %s; left out", ", ".join(few))
    return moving[good.astype(bool)].reset_index(drop=True)


def _unpickle(settings):
    path = settings.pickle_path
    if not (path and Path(path).is_file()):
        raise ServiceError(
            f"socat_client_pickle_path: found {path or 'nothing'}, expected a file; give one, or a database by "
            "socat_client_client_type=db and socat_model_database_name (or the key catalog.socat.database)"
        )
    try:
        client = settings.client
    except (pickle.UnpicklingError, AttributeError, ImportError, EOFError, IndexError) as error:
        raise ServiceError(f"{path}: not a pickled client of socat {_version()} ({error}); make it anew") from error
    if not isinstance(getattr(client, "catalog", None), dict):
        raise ServiceError(f"{path}: holds a {type(client).__name__}, expected a client of socat; make it anew")
    if client.catalog:
        _check_generation(path, all(isinstance(own, int) for own in client.catalog))
    return client


def _check_generation(name, numbered):
    """Refuse what another generation of socat made: its ids are whole numbers in 0.0 and UUIDs in 0.1."""
    from socat.client.core import ClientBase

    if numbered == hasattr(ClientBase, "get_box_fixed"):
        made = "0.0" if numbered else "0.1"
        raise ServiceError(
            f"{name}: made by socat {made}, but {_version()} is installed; install the former, or make it anew"
        )


def _version():
    return importlib.metadata.version("socat")


def _check_database():
    """Refuse what is no database of socat: its client would make the tables in any file, and find them empty."""
    settings = databases.client_settings("socat.settings")
    if settings.database_type != "sqlite":
        return
    name = settings.database_name
    if not Path(name).is_file():
        raise ServiceError(
            f"{name}: no such database file; correct socat_model_database_name or catalog.socat.database"
        )
    try:
        with sqlite3.connect(f"file:{Path(name).resolve()}?mode=ro", uri=True) as connection:
            found = {table: _columns(connection, table) for table in _TABLES}
    except sqlite3.Error as error:
        raise ServiceError(f"{name}: not a readable SQLite database ({error}); give one of socat") from error
    for table, expected in _TABLES.items():
        missing = [column for column in expected if column not in found[table]]
        if missing:
            state = f"lacks the columns {missing}" if found[table] else "is missing"
            raise ServiceError(f"{name}: table {table} {state}; make or bring it up to date with socat-migrate")
    _check_generation(name, found["fixed_sources"]["source_id"] == "INTEGER")


def _columns(connection, table):
    """Type by name of the columns of a table; empty if there is none."""
    return {row[1]: row[2] for row in connection.execute(f"PRAGMA table_info({table})")}
