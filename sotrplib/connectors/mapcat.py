"""mapcat, the Simons Observatory's catalogue of maps: which maps to process, and what became of them.

The database is the one that mapcat's own environment variables name (``MAPCAT_DATABASE_NAME``,
``MAPCAT_DATABASE_TYPE``, ``MAPCAT_DEPTH_ONE_PARENT``). Two generations of its schema are in use: whole-number ids and
times as unix seconds (to 0.3), UUID ids and times as UTC dates (from 0.4 on, 1.0 of PyPI), and migrated databases
mix them. A comparison with the wrong type raises nothing and matches all or none, so the type of each column is read
first, and tables are used as they are there.

``python -m sotrplib.connectors.mapcat FILE`` writes the map table of a selection that it reads as JSON.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from sotrplib import boxes, mapindex, snapshots, store
from sotrplib.connectors import ServiceError, databases, footprints
from sotrplib.connectors import pointing_models as models

MAPS, STATES, POINTING = "depth_one_maps", "time_domain_processing", "depth_one_pointing_residuals"
COVERAGE = "depth_one_sky_coverage"
_NEEDED = {
    MAPS: ["map_id", "map_name", "map_path", "ivar_path", "rho_path", "kappa_path", "mean_time_path", "tube_slot",
           "frequency", "ctime"],
    STATES: ["processing_status_id", "map_id", "processing_start", "processing_end", "processing_status"],
    POINTING: ["pointing_residual_id", "map_id", "residual_model"],
    COVERAGE: ["map_id", "x", "y"],
}  # fmt: skip
_CURE = "make the tables, or bring them up to date, with mapcatmigrate"
# form: columns of the map and its weight, and the ending of the map's name
_FORMS = {
    "intensity_ivar": ("map_path", "ivar_path", "_map.fits"),
    "rho_kappa": ("rho_path", "kappa_path", "_rho.fits"),
    "flux_snr": ("flux_path", "snr_path", "_flux.fits"),
}
_TILE_DEG = 10.0
_log = logging.getLogger(__name__)


class Catalog:
    """An open database of mapcat.

    Parameters
    ----------
    database : str
        SQLite file, or ``postgresql://...``; empty for what mapcat's environment variables say.

    Raises
    ------
    ServiceError
        If mapcat is not installed, or the database is not there, refuses, or lacks a table or column.

    Notes
    -----
    mapcat's migrations turn the times of the maps into dates but leave those of the processing declared as numbers,
    in which its classes write and expect dates all the same; SQLite holds either. ``dated`` says that it is so.
    """

    def __init__(self, database=""):
        kind = "postgresql" if database.startswith("postgresql://") else "sqlite"
        databases.set_environment(MAPCAT_DATABASE_NAME=database, MAPCAT_DATABASE_TYPE=kind if database else "")
        settings = databases.client_settings("mapcat.helper")
        name = settings.database_name
        self.name = f"mapcat {name.rpartition('@')[2]}"
        self.parent = settings.depth_one_parent
        self.engine = databases.make_engine(settings.database_type, name, "MAPCAT_DATABASE_NAME")
        self.tables = databases.reflect(self.engine, list(_NEEDED), self.name, _CURE)
        for table, columns in _NEEDED.items():
            databases.require_columns(self.tables[table], columns, self.name, _CURE)
        ctime = self.tables[MAPS].c.ctime
        self.dated = self.engine.dialect.name == "sqlite" and isinstance(as_stored(ctime, 0.0), datetime)


def select_maps(catalog, options):
    """Rows of the map table for the maps that are wanted.

    Parameters
    ----------
    catalog : Catalog
    options : mapping
        Of section ``maps`` of the configuration: ``mapcat`` (``ids``, ``form``, ``statuses``, ``stale_h``),
        ``select``, ``instrument``, ``box`` and ``roots``.

    Returns
    -------
    list of dict
        By time and name; see :mod:`sotrplib.mapindex`.

    Raises
    ------
    ServiceError
        If no map is wanted: says how many there are in each state.
    mapindex.MapTableError
        If a record names a file outside of mapcat's folder, the working directory and ``roots``.
    """
    with databases.explained(catalog.name):
        known = _read_known(catalog, options["select"])
        states = _read_states(catalog, options["mapcat"]["stale_h"])
        tiles = _read_tiles(catalog) if options["box"] else {}
    known = [_with_state(record, states) for record in known]
    chosen = [record for record in known if _is_wanted(record, options["mapcat"])]
    rows = [(record, _row(record, catalog.parent, options)) for record in chosen]
    rows = [row for record, row in rows if _touches(row, tiles.get(record["map_id"]), options["box"])]
    mapindex.check_rows(rows, source=catalog.name)
    rows = mapindex.select(rows, options["select"])
    mapindex.check_roots(rows, [catalog.parent, *options["roots"]], catalog.name)
    if not rows:
        count = pd.Series([record["state"] for record in known], dtype=object).value_counts().to_dict()
        raise ServiceError(
            f"{catalog.name}: none of its maps is wanted; in these bands, arrays and times it has {count or 'none'}: "
            "see maps.mapcat and maps.select"
        )
    return rows


def mark_processing(catalog, map_ids, instrument):
    """Set the maps to "processing" from now on; returns how many there were in the database."""
    with databases.explained(catalog.name), catalog.engine.begin() as connection:
        ids = _database_ids(catalog, connection, instrument)
        changes = {"processing_status": "processing", "processing_start": _now(), "processing_end": None}
        for map_id in map_ids:
            _upsert_state(catalog, connection, ids.get(map_id), changes)
    return sum(map_id in ids for map_id in map_ids)


def write_results(catalog, maps, pointing, instrument):
    """Write what became of the maps: status, time, and the pointing model of those that have one.

    Parameters
    ----------
    catalog : Catalog
    maps : pandas.DataFrame
        Table ``maps``: "ok" becomes "completed", "failed" stays "failed".
    pointing : dict of str to (PointingModel, pandas.DataFrame)
        By map_id: model and the table ``pointing_sources`` it was fitted to.
    instrument : str
        First part of the map_ids.

    Returns
    -------
    int
        Maps that the database has. One transaction: all of it is written, or nothing.
    """
    with databases.explained(catalog.name), catalog.engine.begin() as connection:
        ids = _database_ids(catalog, connection, instrument)
        for row in maps.itertuples():
            status = "completed" if row.status == "ok" else "failed"
            _upsert_state(
                catalog, connection, ids.get(row.map_id), {"processing_status": status, "processing_end": _now()}
            )
            if row.map_id in ids and row.status == "ok" and row.map_id in pointing:
                _upsert_pointing(catalog, connection, ids[row.map_id], *pointing[row.map_id])
    return int(maps["map_id"].isin(list(ids)).sum())


def to_unix(value):
    """Unix seconds of a time as a database of either generation holds it; dates without a zone are UTC."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    return float(value)


def as_stored(column, unix_s, *, dated=False):
    """Unix seconds as a column of a reflected table holds them.

    Parameters
    ----------
    column : sqlalchemy.Column
    unix_s : float
    dated : bool
        Write a date even if the column is declared as a number: see :class:`Catalog`.
    """
    from sqlalchemy import DateTime, type_coerce

    moment = datetime.fromtimestamp(unix_s, tz=UTC)
    if isinstance(column.type, DateTime):
        return moment if column.type.timezone else moment.replace(tzinfo=None)
    return type_coerce(moment.replace(tzinfo=None), DateTime()) if dated else float(unix_s)


def map_id_of(record, instrument):
    """map_id of a map: its instrument, tube, band and (whole) reference time."""
    return f"{instrument}_{record['tube_slot'].lower()}_{_band(record['frequency'])}_{int(to_unix(record['ctime']))}"


def _band(frequency):
    """Band as we name it: older databases say 090 for f090."""
    text = str(frequency).lower().removeprefix("f")
    return f"f{int(text):03d}" if text.isdecimal() else str(frequency).lower()


def _now():
    return datetime.now(tz=UTC).timestamp()


def _read_known(catalog, chosen):
    from sqlalchemy import select

    table = catalog.tables[MAPS]
    query = select(table).order_by(table.c.ctime, table.c.map_name)
    low, high = chosen["time_min_unix_s"], chosen["time_max_unix_s"]
    if low is not None:
        query = query.where(table.c.ctime >= as_stored(table.c.ctime, low))
    if high is not None:
        query = query.where(table.c.ctime < as_stored(table.c.ctime, high + 1))  # a map_id holds whole seconds
    with catalog.engine.connect() as connection:
        records = [dict(row) for row in connection.execute(query).mappings()]
    return [
        record
        for record in records
        if (not chosen["arrays"] or record["tube_slot"].lower() in chosen["arrays"])
        and (not chosen["bands"] or _band(record["frequency"]) in chosen["bands"])
    ]


def _read_states(catalog, stale_h):
    """State of each map that was ever processed, by its id in the database; the last one counts."""
    from sqlalchemy import select

    table, now = catalog.tables[STATES], _now()
    with catalog.engine.connect() as connection:
        rows = connection.execute(select(table).where(table.c.map_id.is_not(None))).mappings().all()
    start = {id(row): to_unix(row["processing_start"]) if row["processing_start"] is not None else 0.0 for row in rows}
    states = {}
    for row in sorted(rows, key=lambda row: start[id(row)]):
        stale = row["processing_status"] == "processing" and now - start[id(row)] > stale_h * 3600
        states[row["map_id"]] = "stale" if stale else row["processing_status"]
    return states


def _read_tiles(catalog):
    """Tiles of 10 degrees that each map covers, by its id in the database."""
    from sqlalchemy import select

    table, tiles = catalog.tables[COVERAGE], {}
    with catalog.engine.connect() as connection:
        for map_id, x, y in connection.execute(select(table.c.map_id, table.c.x, table.c.y)):
            tiles.setdefault(map_id, []).append((int(x), int(y)))
    return tiles


def _with_state(record, states):
    return record | {"state": states.get(record["map_id"], "none")}


def _is_wanted(record, options):
    names = {str(record["map_id"]), str(record["map_id"]).replace("-", ""), record["map_name"]}
    asked = {name for text in options["ids"] for name in (str(text), str(text).replace("-", ""))}
    return (not asked or bool(names & asked)) and (not options["statuses"] or record["state"] in options["statuses"])


def _row(record, parent, options):
    """Row of the map table of one record."""
    form = _form(record, options["mapcat"]["form"])
    columns, ending = _FORMS[form][:2], _FORMS[form][2]
    paths = [str(Path(parent, record[name])) if record.get(name) else "" for name in columns]
    info = paths[0].removesuffix(ending) + "_info.hdf"
    labels = {"instrument": options["instrument"], "array": record["tube_slot"].lower()}
    return (
        dict.fromkeys(mapindex.COLUMNS, "")
        | labels
        | {
            "map_id": map_id_of(record, options["instrument"]),
            "band": _band(record["frequency"]),
            "form": form,
            "map_path": paths[0],
            "weight_path": paths[1],
            "time_path": str(Path(parent, record["mean_time_path"])) if record["mean_time_path"] else "",
            "info_path": info if Path(info).is_file() else "",
        }
    )


def _form(record, asked):
    """The form asked for, or (auto) the first that the record has whole."""
    whole = [form for form, columns in _FORMS.items() if all(record.get(name) for name in columns[:2])]
    if asked != "auto" and asked in whole:
        return asked
    if asked != "auto" or not whole:
        wanted = asked if asked != "auto" else "map and weight of one form"
        raise ServiceError(
            f"mapcat: map {record['map_name']} has no {wanted}, only {whole}; complete the record, leave the map out "
            "with maps.mapcat.ids or another form with maps.mapcat.form"
        )
    return whole[0]


def _touches(row, tiles, box):
    """Whether a map has sky in the box: by its tiles, else by its header; one that cannot be read is kept."""
    if not box:
        return True
    parts = [_tile_box(*tile) for tile in tiles] if tiles else footprints.of_maps([row["map_path"]])
    return any(boxes.overlap(part, box) for part in parts)


def _tile_box(x, y):
    ra, dec = x * _TILE_DEG, y * _TILE_DEG - 90.0
    return {"ra_min_deg": ra, "ra_max_deg": ra + _TILE_DEG, "dec_min_deg": dec, "dec_max_deg": dec + _TILE_DEG}


def _database_ids(catalog, connection, instrument):
    """Id in the database of every map, by map_id."""
    from sqlalchemy import select

    table = catalog.tables[MAPS]
    query = select(table.c.map_id, table.c.tube_slot, table.c.frequency, table.c.ctime)
    return {map_id_of(row, instrument): row["map_id"] for row in connection.execute(query).mappings()}


def _upsert_state(catalog, connection, map_id, changes):
    """Change the row of a map, or make one; a map that was given up for good and fails again stays so."""
    from sqlalchemy import insert, select, update

    if map_id is None:
        return
    table = catalog.tables[STATES]
    stored = {name: _stored(catalog, table.c[name], value) for name, value in changes.items()}
    found = connection.execute(select(table.c.processing_status).where(table.c.map_id == map_id)).scalars().all()
    if "permafail" in found and changes["processing_status"] == "failed":
        return
    if found:
        connection.execute(update(table).where(table.c.map_id == map_id).values(stored))
    else:
        taken = select(table.c.processing_status_id).where(table.c.processing_status_id == map_id)
        own = {} if connection.execute(taken).first() else {"processing_status_id": map_id}
        connection.execute(insert(table).values({"map_id": map_id} | own | stored))


def _stored(catalog, column, value):
    return as_stored(column, value, dated=catalog.dated) if isinstance(value, float) else value


def _upsert_pointing(catalog, connection, map_id, model, sources):
    from sqlalchemy import JSON, insert, select, update

    table = catalog.tables[POINTING]
    values = {"residual_model": models.to_mapcat(model, sources), "residual_stats": models.statistics(model, sources)}
    values = {name: value for name, value in values.items() if name in table.c}
    plain = {n: v if isinstance(table.c[n].type, JSON) else json.dumps(v) for n, v in values.items()}
    if connection.execute(select(table.c.map_id).where(table.c.map_id == map_id)).first():
        connection.execute(update(table).where(table.c.map_id == map_id).values(plain))
    else:
        connection.execute(insert(table).values({"map_id": map_id} | plain))


def main(path, text):
    """Write the snapshot that :func:`snapshots.read_maps` asks for."""
    asked = json.loads(text)
    rows = select_maps(Catalog(asked["mapcat"]["database"]), asked)
    with store.atomic_path(path) as temporary:
        mapindex.write_map_table(temporary, rows)
        temporary.write_text(snapshots.mark(asked) + "\n" + temporary.read_text())


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.stdin.read())
    except (ServiceError, mapindex.MapTableError) as problem:
        sys.exit(str(problem))
