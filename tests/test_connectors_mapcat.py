"""Maps from mapcat and results back to it, in databases of both generations made by its own migrations and tools."""

import os
import sqlite3
import uuid
from datetime import UTC, datetime

import numpy as np
import pytest
from clients import process

from sotrplib import boxes, catalogs, geometry, ingest, mapindex, pointing, skies, snapshots, store, tables
from sotrplib.connectors import ServiceError, databases, mapcat, pointing_models

NIGHT = 1_760_100_000
OLD, NEW = "46575bc0d660", "head"  # the last schema with whole-number ids, and the newest
LABELS = [("i1", "f090", 0), ("i1", "f150", 0), ("i3", "f090", 600), ("i1", "f090", 86400)]
IDS = [f"solat_{array}_{band}_{NIGHT + time}" for array, band, time in LABELS]
BOX = {"ra_min_deg": 350.0, "ra_max_deg": 5.0, "dec_min_deg": -40.0, "dec_max_deg": -20.0}
FAR = {"ra_min_deg": 100.0, "ra_max_deg": 120.0, "dec_min_deg": -40.0, "dec_max_deg": -20.0}
SELECT = {
    "arrays": [], "bands": [], "exclude": [], "time_min_unix_s": None, "time_max_unix_s": None, "n_max": None,
}  # fmt: skip
MAPCAT = {"database": "", "ids": [], "form": "auto", "statuses": [], "stale_h": 2.0, "write_back": True}


def asked(*, box=None, select=None, **chosen):
    """Section ``maps`` of the configuration with some keys changed."""
    own = {"instrument": "solat", "box": box, "roots": []}
    return own | {"select": SELECT | (select or {}), "mapcat": MAPCAT | chosen}


def migrate(path, revision):
    """Make a database, or bring it up to a revision, by mapcat's own migrations."""
    from alembic import command
    from alembic.config import Config
    from mapcat import alembic_location

    config = Config(alembic_location)
    config.set_main_option("sqlalchemy.url", f"sqlite:///{path}")
    command.upgrade(config, revision)


def write_nights(folder):
    """Maps in the naming of depth-1 maps: their headers, info files and an inverse variance."""
    shape, wcs = geometry.make_car(0.6, -30.0, 0.5, 0.5, 2.0)
    for array, band, time in LABELS:
        stem = folder / f"{(NIGHT + time) // 100000}" / f"depth1_{NIGHT + time}_{array}_{band}"
        stem.parent.mkdir(exist_ok=True)
        for kind in ("map", "ivar", "time"):
            write_fits(f"{stem}_{kind}.fits", shape, wcs)
        ids = [f"obs_{NIGHT + time}_{array}_111"]
        period = np.array([NIGHT + time - 300.0, NIGHT + time + 300.0])
        info = {
            "array": f"{array}_{band}",
            "t": NIGHT + time + 0.25,
            "period": period,
            "ids": ids,
            "box": np.zeros((2, 2)),
        }
        store.write_info(f"{stem}_info.hdf", info)


def write_fits(path, shape, wcs):
    from astropy.io import fits

    fits.writeto(path, np.ones(shape, "f4"), wcs.to_header())


def make_new(folder):
    """A database as the tables of mapcat 1.0 make it (dates everywhere), with the records of its tool for ACT maps.

    The tool's records of observations lack a column that these tables require, so they are left out.
    """
    from mapcat.toolkit import act
    from sqlmodel import Session, SQLModel, create_engine

    engine = create_engine(f"sqlite:///{folder}/new.db")
    SQLModel.metadata.create_all(engine)
    with Session(engine) as session:
        for record in act.glob("*/*_map.fits", folder, "lat"):
            record.tods = []
            session.add(record)
        session.commit()


def make_old(folder, name):
    """A database of the older schema, with the rows that its tool made: ids 1, 2, ... and unix seconds."""
    migrate(folder / name, OLD)
    columns = (
        "map_id, map_name, map_path, ivar_path, mean_time_path, tube_slot, frequency, ctime, start_time, stop_time"
    )
    with sqlite3.connect(folder / name) as connection:
        for number, (array, band, time) in enumerate(LABELS, 1):
            when = NIGHT + time
            stem = f"{when // 100000}/depth1_{when}_{array}_{band}"
            paths = [stem, *(f"{stem}_{kind}.fits" for kind in ("map", "ivar", "time"))]
            values = [number, *paths, array, band.removeprefix("f"), when + 0.25, when - 300.0, when + 300.0]
            connection.execute(f"INSERT INTO depth_one_maps ({columns}) VALUES ({', '.join('?' * 10)})", values)


@pytest.fixture(scope="module")
def ask():
    with process() as ask:
        yield ask


@pytest.fixture(scope="module")
def folder(ask, tmp_path_factory):
    """Maps of two nights and three databases of them: new, old, and old brought up to date."""
    folder = tmp_path_factory.mktemp("mapcat")
    write_nights(folder)
    ask(make_new, folder)
    for name in ("old.db", "migrated.db"):
        ask(make_old, folder, name)
    ask(migrate, folder / "migrated.db", NEW)
    return folder


@pytest.fixture(params=["new.db", "old.db", "migrated.db"])
def database(request, folder, tmp_path):
    """A copy of each database, to be changed."""
    path = tmp_path / request.param
    path.write_bytes((folder / request.param).read_bytes())
    return path


def select(database, folder, options):
    os.environ["MAPCAT_DEPTH_ONE_PARENT"] = str(folder)
    return mapcat.select_maps(mapcat.Catalog(str(database)), options)


def selected(ask, database, folder, **chosen):
    """map_ids of a selection."""
    return [row["map_id"] for row in ask(select, database, folder, asked(**chosen))]


def test_rows_are_those_of_the_directory(ask, folder, database):
    """The rows of every generation are those that searching the directory gives, times and frequencies included."""
    found = ask(select, database, folder, asked())
    expected = mapindex.discover_depth1(folder, "solat")
    assert sorted(found, key=lambda row: row["map_id"]) == expected
    assert [row["map_id"] for row in found] == [IDS[i] for i in (0, 1, 2, 3)]


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({"select": {"time_max_unix_s": NIGHT + 600.0}}, (0, 1, 2)),
        ({"select": {"time_max_unix_s": NIGHT + 599.0}}, (0, 1)),
        ({"select": {"time_min_unix_s": NIGHT + 1.0}}, (2, 3)),
        ({"select": {"time_min_unix_s": float(NIGHT)}}, (0, 1, 2, 3)),
        ({"select": {"bands": ["f150"]}}, (1,)),
        ({"select": {"arrays": ["i3"]}}, (2,)),
        ({"select": {"n_max": 2}}, (0, 1)),
        ({"select": {"exclude": [IDS[0]]}}, (1, 2, 3)),
        ({"ids": [f"{NIGHT // 100000}/depth1_{NIGHT}_i1_f150"]}, (1,)),
        ({"box": BOX}, (0, 1, 2, 3)),
        ({"statuses": ["none"]}, (0, 1, 2, 3)),
    ],
)
def test_selection(ask, folder, database, chosen, expected):
    """Time range, band, array, number, name, sky and state select the same maps in every generation."""
    assert selected(ask, database, folder, **chosen) == [IDS[i] for i in expected]


@pytest.mark.parametrize("escape", ["/etc/passwd", "../../../../../../../../etc/passwd"])
def test_files_outside_of_its_folder_are_refused(ask, folder, database, escape):
    """A record that names a file outside of mapcat's folder is refused by name, unless a root allows it."""
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE depth_one_maps SET mean_time_path = ? WHERE tube_slot = 'i3'", [escape])
    with pytest.raises(mapindex.MapTableError, match=f"{IDS[2]}: time_path .*etc/passwd' is outside .* maps.roots"):
        ask(select, database, folder, asked())
    assert len(ask(select, database, folder, asked() | {"roots": ["/"]})) == 4


def test_ids_of_the_database(ask, folder):
    """A map is selected by its id: a whole number in the old generation, a UUID with or without dashes in the new."""
    with sqlite3.connect(folder / "new.db") as connection:
        ((text,),) = connection.execute("SELECT map_id FROM depth_one_maps WHERE tube_slot = 'i3'").fetchall()
    for own in (text, str(uuid.UUID(text))):
        assert selected(ask, folder / "new.db", folder, ids=[own]) == [IDS[2]]
    assert selected(ask, folder / "old.db", folder, ids=[3, 4]) == [IDS[2], IDS[3]]


def test_box_by_tiles(ask, folder, database):
    """Where the database knows the tiles of 10 degrees that a map covers, they and not the header decide."""
    with sqlite3.connect(database) as connection:
        first = connection.execute("SELECT map_id FROM depth_one_maps WHERE tube_slot = 'i3'").fetchone()[0]
        connection.execute("INSERT INTO depth_one_sky_coverage (x, y, map_id) VALUES (11, 6, ?)", [first])
    assert selected(ask, database, folder, box=FAR) == [IDS[2]]
    assert IDS[2] not in selected(ask, database, folder, box=BOX)


def test_nothing_selected_says_what_there_is(ask, folder, database):
    """An empty selection is an error that counts the maps by state."""
    with pytest.raises(ServiceError, match=r"none of its maps is wanted; .* \{'none': 4\}: see maps\.mapcat"):
        ask(select, database, folder, asked(statuses=["completed"]))


def claim(database, map_ids):
    return mapcat.mark_processing(mapcat.Catalog(str(database)), map_ids, "solat")


def finish(database, table, models):
    return mapcat.write_results(mapcat.Catalog(str(database)), table, models, "solat")


def outcome(statuses):
    """Table ``maps`` of a run."""
    rows = []
    for map_id, status in statuses.items():
        labels = dict(zip(("instrument", "array", "band"), map_id.split("_"), strict=False))
        rows.append(catalogs.map_row({"map_id": map_id} | labels, {"status": status}, 0, (0, 0, 0)))
    return catalogs.make_maps(rows)


def read_states(database):
    """Status, start and end (unix seconds) of each map, by array, band and time."""
    query = """SELECT tube_slot, frequency, ctime, processing_status, processing_start, processing_end
        FROM time_domain_processing JOIN depth_one_maps USING (map_id)"""
    with sqlite3.connect(database) as connection:
        rows = connection.execute(query).fetchall()
    keys = [mapcat.map_id_of({"tube_slot": row[0], "frequency": row[1], "ctime": row[2]}, "solat") for row in rows]
    return {key: (row[3], row[4], row[5]) for key, row in zip(keys, rows, strict=True)}


def test_states_are_written_back(ask, folder, database):
    """Maps become processing, then completed or failed, one row each, with times of now; a re-run changes the rows."""
    before = datetime.now(tz=UTC).timestamp()
    assert ask(claim, database, [*IDS[:2], "solat_i9_f090_1"]) == 2
    assert {key: row[0] for key, row in read_states(database).items()} == dict.fromkeys(IDS[:2], "processing")
    assert selected(ask, database, folder, statuses=["none", "stale", "failed"]) == IDS[2:]
    assert selected(ask, database, folder, statuses=["stale"], stale_h=0.0) == IDS[:2]
    assert ask(finish, database, outcome({IDS[0]: "ok", IDS[1]: "failed"}), {}) == 2
    states = read_states(database)
    assert {key: row[0] for key, row in states.items()} == {IDS[0]: "completed", IDS[1]: "failed"}
    after = datetime.now(tz=UTC).timestamp()
    for _, start, end in states.values():
        assert before <= mapcat.to_unix(start) <= mapcat.to_unix(end) <= after
    assert selected(ask, database, folder, statuses=["none", "stale", "failed"]) == IDS[1:]
    ask(claim, database, IDS[1:2])
    ask(finish, database, outcome({IDS[1]: "ok"}), {})
    assert {key: row[0] for key, row in read_states(database).items()} == dict.fromkeys(IDS[:2], "completed")


def read_states_by_class(database):
    from mapcat.database import TimeDomainProcessingTable
    from sqlmodel import Session, create_engine, select

    with Session(create_engine(f"sqlite:///{database}")) as session:
        rows = session.exec(select(TimeDomainProcessingTable)).all()
        return [(row.processing_status, row.processing_start, row.processing_end) for row in rows]


@pytest.mark.parametrize("name", ["new.db", "migrated.db"])
def test_states_are_read_by_mapcat_itself(ask, folder, tmp_path, name):
    """mapcat's own class reads states and times, in tables that it made and in those that its migrations changed."""
    database = tmp_path / name
    database.write_bytes((folder / name).read_bytes())
    before = datetime.now(tz=UTC).replace(tzinfo=None)
    ask(claim, database, IDS[:1])
    assert [row[0] for row in ask(read_states_by_class, database)] == ["processing"]
    ask(finish, database, outcome({IDS[0]: "ok"}), {})
    ((status, start, end),) = ask(read_states_by_class, database)
    assert status == "completed" and before <= start <= end


def test_map_given_up_for_good_stays_so(ask, folder, database):
    """A map that an operator has set to permafail is not taken, and failing again leaves it as it is."""
    ask(finish, database, outcome({IDS[0]: "failed"}), {})
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE time_domain_processing SET processing_status = 'permafail'")
    assert selected(ask, database, folder, statuses=["none", "stale", "failed"]) == IDS[1:]
    ask(finish, database, outcome({IDS[0]: "failed"}), {})
    assert read_states(database)[IDS[0]][0] == "permafail"


def sources_around(model, rng):
    """Table ``pointing_sources`` that fits a model, with 1 arcsec of noise."""
    ra0, dec0 = model.centre
    ra, dec = ra0 + rng.uniform(-20, 20, 400), dec0 + rng.uniform(-5, 5, 400)
    dra, ddec, *_ = pointing.evaluate(model, ra, dec)
    columns = {name: 1.0 for name in tables.column_names("pointing_sources")} | {"source_id": "s", "used": True}
    columns |= {"ra_deg": ra % 360, "dec_deg": dec, "snr": 50.0}
    columns |= {"ra_offset_arcsec": dra + rng.normal(size=400), "dec_offset_arcsec": ddec + rng.normal(size=400)}
    return tables.make("pointing_sources", columns)


def constant(centre=(0.6, -30.0)):
    return pointing.PointingModel("constant", 0, centre, 1.0, np.array([[12.0], [-7.0]]), np.zeros((2, 1, 1)), n_used=9)


def sloping(centre=(60.0, -30.0)):
    terms = np.array([[12.0, 3.0, -2.0], [-7.0, 1.0, 4.0]])
    return pointing.PointingModel("polynomial", 1, centre, 10.0, terms, np.zeros((2, 3, 3)), n_used=9)


def read_models(database):
    """mapcat's own models, and what they make of positions in the map, by map_id of the database's newest class."""
    from mapcat.database import DepthOneMapTable, PointingResidualTable
    from sqlmodel import Session, create_engine, select

    with Session(create_engine(f"sqlite:///{database}")) as session:
        query = select(PointingResidualTable, DepthOneMapTable).join(DepthOneMapTable)
        return {
            f"{found.tube_slot}_{found.frequency}": (row.residual_model, row.residual_stats)
            for row, found in session.exec(query)
        }


def corrected(model, ra, dec):
    """Positions on the sky of positions in a map, by mapcat's model."""
    from astropy import units
    from astropy.coordinates import SkyCoord

    found = model.predict(SkyCoord(ra, dec, unit=units.deg))
    return found.ra.deg, found.dec.deg


@pytest.mark.parametrize("name", ["new.db", "migrated.db"])
def test_pointing_models_are_read_by_mapcat_itself(ask, folder, tmp_path, name):
    """mapcat's classes read back the models, once each after two runs, and put measured positions on the sky.

    The constant is exact at the centre of the map; the polynomial to 0.2 arcsec wherever its sources are.
    """
    database = tmp_path / name
    database.write_bytes((folder / name).read_bytes())
    rng = skies.rng_for(1, "pointing")
    models = {
        IDS[0]: (constant(), sources_around(constant(), rng)),
        IDS[2]: (sloping(), sources_around(sloping(), rng)),
    }
    for _ in range(2):
        ask(finish, database, outcome(dict.fromkeys(IDS[:3], "ok")), models)
    found = ask(read_models, database)
    assert set(found) in ({"i1_f090", "i3_f090"}, {"i1_090", "i3_090"})
    for (stored, statistics), own in zip(found.values(), (constant(), sloping()), strict=True):
        ra, dec = np.meshgrid(own.centre[0] + np.linspace(-18, 18, 7), own.centre[1] + np.linspace(-4.5, 4.5, 7))
        if not own.order:
            ra, dec = np.array([own.centre[0]]), np.array([own.centre[1]])
        dra, ddec, *_ = pointing.evaluate(own, ra.ravel(), dec.ravel())
        measured = geometry.offset_position(ra.ravel(), dec.ravel(), dra, ddec)
        back = ask(corrected, stored, *measured)
        assert geometry.separation_arcsec(ra.ravel(), dec.ravel(), *back).max() < 0.2
        assert statistics.n_sources == 400
        # 400 offsets of 1 arcsec: the scatter in Dec is known to 1 / sqrt(800) = 3.5 per cent
        assert statistics.stddev_dec_offset.to_value("arcsec") == pytest.approx(1.0, abs=0.15)


def to_mapcat(model, sources):
    return pointing_models.to_mapcat(model, sources)


def test_polynomial_across_ra_0_becomes_the_offset_at_the_centre(ask):
    """Where RA jumps from 360 to 0 a polynomial of it would too: the constant at the centre is written."""
    model = sloping((0.6, -30.0))
    written = ask(to_mapcat, model, sources_around(model, skies.rng_for(1, "across")))
    assert written["model_type"] == "constant"


def write_snapshot(path, options):
    import json

    mapcat.main(path, json.dumps(options))


def test_snapshot_is_made_once_and_again_when_asked_for_otherwise(ask, folder, tmp_path, monkeypatch):
    """The map table is read from the database when there is none or other maps are wanted, and else left alone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MAPCAT_DATABASE_NAME", str(folder / "new.db"))
    monkeypatch.setenv("MAPCAT_DEPTH_ONE_PARENT", str(folder))
    path = tmp_path / snapshots.MAPS
    for options, expected in ((asked(), IDS), (asked(select={"bands": ["f150"]}), IDS[1:2])):
        assert snapshots.read_maps(options) == snapshots.MAPS
        assert [row["map_id"] for row in mapindex.read_map_table(path)] == expected
    written = path.stat().st_mtime_ns
    monkeypatch.setenv("MAPCAT_DATABASE_NAME", "absent.db")
    snapshots.read_maps(asked(select={"bands": ["f150"]}))
    assert path.stat().st_mtime_ns == written
    with pytest.raises(
        snapshots.SnapshotError, match=r"absent\.db: no such database file; correct MAPCAT_DATABASE_NAME"
    ):
        snapshots.read_maps(asked())
    assert path.stat().st_mtime_ns == written and not (tmp_path / "absent.db").exists()


def open_only(database):
    mapcat.Catalog(database)


def _absent(folder, ask):
    return str(folder / "absent.db"), r"absent\.db: no such database file; correct MAPCAT_DATABASE_NAME"


def _empty(folder, ask):
    (folder / "empty.db").touch()
    return str(
        folder / "empty.db"
    ), r"has no table depth_one_maps, .* only none at all; make the tables, .* mapcatmigrate"


def _oldest(folder, ask):
    ask(migrate, folder / "oldest.db", "78293df04081")
    return str(folder / "oldest.db"), r"depth_one_maps has no column rho_path, .* up to date, with mapcatmigrate"


def _text(folder, ask):
    (folder / "text.db").write_text("not a database, but long enough to be looked at by anyone " * 20)
    return str(folder / "text.db"), r"text\.db: file is not a database; see that"


def _unreachable(folder, ask):
    return "postgresql://nobody:secret@127.0.0.1:9/none", r"mapcat 127\.0\.0\.1:9/none: connection failed: .*refused"


@pytest.mark.parametrize("make", [_absent, _empty, _oldest, _text, _unreachable])
def test_unusable_database_is_refused(ask, tmp_path, make):
    """A wrong path, an empty file, the oldest schema, another file, no server: each says what is wrong."""
    database, message = make(tmp_path, ask)
    with pytest.raises(ServiceError, match=message) as caught:
        ask(open_only, database)
    assert "secret" not in str(caught.value)


def test_record_without_files_is_named(ask, folder, tmp_path):
    """A record that has a map but no weight is refused by name."""
    database = tmp_path / "new.db"
    database.write_bytes((folder / "new.db").read_bytes())
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE depth_one_maps SET ivar_path = NULL WHERE tube_slot = 'i3'")
    with pytest.raises(ServiceError, match=r"depth1_1760100600_i3_f090 has no map and weight of one form, only \[\]"):
        ask(select, database, folder, asked())


def test_failed_write_leaves_nothing(ask, folder, tmp_path):
    """All states of a run are written in one transaction: one that is refused takes the others with it."""
    database = tmp_path / "new.db"
    database.write_bytes((folder / "new.db").read_bytes())
    trigger = """CREATE TRIGGER no BEFORE INSERT ON time_domain_processing WHEN (SELECT count(*) FROM
        time_domain_processing) > 0 BEGIN SELECT RAISE(ABORT, 'enough'); END"""
    with sqlite3.connect(database) as connection:
        connection.execute(trigger)
    with pytest.raises(ServiceError, match=r"new\.db: enough"):
        ask(claim, database, IDS)
    assert read_states(database) == {}


def test_times_of_both_generations():
    """A date without a zone is UTC, and unix seconds are themselves."""
    when = datetime.fromtimestamp(NIGHT, tz=UTC)
    for value in (NIGHT, float(NIGHT), when, when.replace(tzinfo=None), str(when.replace(tzinfo=None))):
        assert mapcat.to_unix(value) == NIGHT


def test_outline_of_a_map_is_read_from_its_header(folder):
    """A map of half a degree around RA 0.6, Dec -30 lies in the box and not in the far one."""
    path = next(folder.glob("*/depth1_*_map.fits"))
    assert boxes.overlap(ingest.read_outline(path), BOX)
    assert not boxes.overlap(ingest.read_outline(path), FAR)


def test_environment_is_replaced_whatever_its_case(monkeypatch):
    """Setting a variable removes other spellings of its name; an empty value changes nothing."""
    monkeypatch.setenv("MAPCAT_DATABASE_NAME", "one")
    databases.set_environment(mapcat_database_name="")
    assert os.environ["MAPCAT_DATABASE_NAME"] == "one"
    databases.set_environment(mapcat_database_name="two")
    assert os.environ.pop("mapcat_database_name") == "two" and "MAPCAT_DATABASE_NAME" not in os.environ
