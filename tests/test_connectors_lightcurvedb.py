"""Light curves in lightcurvedb, on a real PostgreSQL: both generations of tables, written twice, read by its client."""

import asyncio
import importlib.metadata
import json
import uuid
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import postgres
import pytest
from clients import process

from sotrplib import store, tables
from sotrplib.connectors import ServiceError, collect, lightcurve_files, lightcurvedb

NIGHT = 1_760_100_000.0
MAPS = ["solat_i1_f090_1760100000", "solat_i1_f150_1760100000", "solat_i3_f090_1760100600", "act_pa5_f090_1760186400"]
STAR, LIMIT, FLARE, COMET = "J0001-30", "J2359-30", "SOTRP_J000024.0-300600", "SOTRP_J000048.0-300600"
SOCAT = {STAR: "17"}
NO_TIME = tables.flag("NO_TIME")
NO_FILES = importlib.metadata.version("lightcurvedb").startswith("0.0.")
OF_00 = pytest.mark.skipif(not NO_FILES, reason="needs the client of lightcurvedb 0.0, as on PyPI")
# As the tables of lightcurvedb 0.1 are declared: types, keys and checks.
TABLES_01 = """
CREATE TABLE sources (source_id uuid PRIMARY KEY DEFAULT gen_random_uuid(), socat_id int UNIQUE, name text,
    ra float8 CHECK (ra BETWEEN -180 AND 180), dec float8 CHECK (dec BETWEEN -90 AND 90),
    variable bool NOT NULL DEFAULT false, extra jsonb);
CREATE TABLE instruments (frequency int, module text, telescope text NOT NULL, instrument text NOT NULL, details jsonb,
    PRIMARY KEY (frequency, module));
CREATE TABLE flux_measurements (measurement_id uuid PRIMARY KEY DEFAULT gen_random_uuid(), frequency int NOT NULL,
    module text NOT NULL, source_id uuid REFERENCES sources (source_id), time timestamptz NOT NULL,
    ra real NOT NULL CHECK (ra BETWEEN -180 AND 180), dec real NOT NULL CHECK (dec BETWEEN -90 AND 90),
    ra_uncertainty real, dec_uncertainty real, flux real NOT NULL, flux_err real, extra jsonb,
    FOREIGN KEY (frequency, module) REFERENCES instruments (frequency, module));
CREATE TABLE cutouts (measurement_id uuid PRIMARY KEY REFERENCES flux_measurements (measurement_id),
    source_id uuid REFERENCES sources (source_id), frequency int NOT NULL, module text NOT NULL, data real[][] NOT NULL,
    time timestamptz NOT NULL, units text NOT NULL,
    FOREIGN KEY (frequency, module) REFERENCES instruments (frequency, module));
"""


def measurements():
    """A bright source, one that is not there (flux below zero), a flare and a comet in four maps.

    One position has no data in one map (flux NaN) and one has no time of its own.
    """
    rows = []
    for k, map_id in enumerate(MAPS):
        labels = dict(zip(("instrument", "array", "band", "time"), map_id.split("_"), strict=True))
        for name, ra, flux, kind in (
            (STAR, 0.25, 500.0 + k, "forced"),
            (LIMIT, 359.75, -3.0 - k, "forced"),
            (FLARE, 0.1, 80.0 * k, "confirm"),
            (COMET, 0.2, 60.0, "confirm"),
            (FLARE, 0.1, 81.0 * k, "blind"),
        ):
            row = dict.fromkeys(tables.column_names("measurements"), np.nan)
            row |= {"map_id": map_id, "source_id": name, "source_name": name, "kind": kind, "array": labels["array"]}
            row |= {"band": labels["band"], "ra_deg": ra, "dec_deg": -30.1, "flux_mjy": flux, "flux_err_mjy": 10.0}
            rows.append(row | {"snr": flux / 10, "time_unix_s": float(labels["time"]) + 7.5, "flags": 0})
    frame = pd.DataFrame(rows)
    first = (frame["map_id"] == MAPS[0]) & (frame["source_id"] == LIMIT)
    frame.loc[first, ["flux_mjy", "flags"]] = np.nan, tables.flag("NO_DATA")
    last = (frame["map_id"] == MAPS[3]) & (frame["source_id"] == LIMIT)
    frame.loc[last, ["time_unix_s", "flags"]] = np.nan, NO_TIME
    return tables.make("measurements", frame)


def night():
    """Tables of a catalogue."""
    rows = measurements()
    own = rows.drop_duplicates("source_id")
    sources = {name: 0.0 for name in tables.column_names("sources")}
    sources |= own[["source_id", "source_name", "ra_deg", "dec_deg"]].to_dict("list")
    columns = {name: 1.0 for name in tables.column_names("candidates")} | {"candidate_id": [FLARE, COMET]}
    texts = ("reason", "band", "map_id", "matched_name", "external_name", "external_catalog")
    columns |= dict.fromkeys(texts, "") | {
        "class": ["transient", "moving"],
        "ra_err_arcsec": 3.6,
        "dec_err_arcsec": 7.2,
    }
    maps = {name: np.nan for name in tables.column_names("maps")} | {
        name: 0 for name in tables.column_names("maps")[-4:]
    }
    labels = [map_id.split("_") for map_id in MAPS]
    maps |= {name: [label[k] for label in labels] for k, name in enumerate(("instrument", "array", "band"))}
    maps |= {"map_id": MAPS, "status": "ok", "reason": "", "time_unix_s": [float(label[3]) for label in labels]}
    frames = {"measurements": rows, "sources": tables.make("sources", sources)}
    return frames | {"candidates": tables.make("candidates", columns), "maps": tables.make("maps", maps)}


def errors():
    return pd.DataFrame({"ra_err_arcsec": [3.6, 1.5], "dec_err_arcsec": [7.2, 1.5]}, index=[FLARE, STAR])


def images():
    """A cutout of the flare in the last map, in mJy, with a pixel without data."""
    image = np.arange(9.0).reshape(3, 3)
    image[2, 2] = np.nan
    return [(lightcurvedb.measurement_id(MAPS[3], FLARE), image)]


def write(frames, cutouts=(), flux_unit="Jy", socat=SOCAT):
    """Write a night as a job does; in the process of the client."""
    with lightcurvedb.connect() as connection:
        return lightcurvedb.write(connection, *content(frames, socat), cutouts=cutouts, flux_unit=flux_unit)


def write_files(frames, cutouts=()):
    """The same with lightcurvedb's file backend."""
    settings, kind = lightcurvedb.read_settings()
    assert kind == "parquet"
    return lightcurve_files.write(settings, *content(frames, SOCAT), cutouts=cutouts)


def content(frames, socat):
    """Measurements, sources and telescopes of a night, as they are written."""
    rows = lightcurvedb.rows_of(frames["measurements"], frames["maps"], errors())
    moving = collect.moving_sources(frames["measurements"], frames["candidates"])
    sources = lightcurvedb.sources_of(frames["sources"], moving, socat)
    return rows, sources, dict(zip(frames["maps"]["map_id"], frames["maps"]["instrument"], strict=True))


def read_files():
    """Instruments, and by source its RA, measurements and cutouts, as lightcurvedb's file backend reads them."""

    async def read():
        found = {}
        async with lightcurvedb.read_settings()[0].backend as backend:
            for source in await backend.sources.get_all():
                curves = await backend.lightcurves.get_source_lightcurve(source.source_id, "instrument")
                rows = [measurement.model_dump() for curve in curves for measurement in curve]
                images = await backend.cutouts.retrieve_cutouts_for_source(source.source_id)
                found[source.name] = source.ra, rows, [image.model_dump() for image in images]
            return {(one.frequency, one.module) for one in await backend.instruments.get_all()}, found

    return asyncio.run(read())


def read_settings():
    return lightcurvedb.read_settings()[1]


def create_tables(address):
    from lightcurvedb import models
    from lightcurvedb.managers import SyncSessionManager

    assert models.TABLES
    SyncSessionManager(address).create_all()


def query(text, *values):
    """Rows of a query on the database of the environment."""
    with lightcurvedb.connect() as connection:
        done = connection.execute(text, values)
        return done.fetchall() if done.description else []


def read_curves(address):
    """Light curves of all sources, with lightcurvedb's own client: by name, then by band."""
    from lightcurvedb.client.lightcurve import lightcurve_read_source
    from lightcurvedb.client.source import source_read_all
    from lightcurvedb.managers import AsyncSessionManager

    async def read():
        manager, curves = AsyncSessionManager(address), {}
        async with manager.session() as session:
            for source in await source_read_all(session):
                found = await lightcurve_read_source(source.id, session)
                name = source.extra.cross_matches[0].name
                curves[name] = source.model_dump(), {band.band.name: band.model_dump() for band in found.bands}
        await manager.engine.dispose()
        return curves

    return asyncio.run(read())


def read_cutout(address, flux_id):
    from lightcurvedb.client.cutouts import cutout_read_from_flux_id
    from lightcurvedb.managers import AsyncSessionManager

    async def read():
        manager = AsyncSessionManager(address)
        async with manager.session() as session:
            found = (await cutout_read_from_flux_id(flux_id, session)).model_dump()
        await manager.engine.dispose()
        return found

    return asyncio.run(read())


@pytest.fixture(scope="module")
def ask():
    with process() as ask:
        yield ask


@pytest.fixture(scope="module")
def running():
    with postgres.server() as running:
        yield running


@pytest.fixture(scope="module")
def first(ask, running):
    """A database of 0.0 with a night, written twice: its environment and its address."""
    environment = postgres.make_database(running, "first")
    ask(create_tables, postgres.url(environment))
    for _ in range(2):
        done = ask(write, night(), images(), **environment)
    assert done == {"measurements": 15, "sources": 4, "cutouts": 1}
    return environment, postgres.url(environment)


@pytest.fixture(scope="module")
def second(ask, running):
    """The same with the tables of 0.1, where another program has entered one source before."""
    environment = postgres.make_database(running, "second")
    ask(query, TABLES_01, **environment)
    ask(query, "INSERT INTO sources (socat_id, name, ra, dec) VALUES (17, 'theirs', 0.25, -30.1)", **environment)
    for _ in range(2):
        ask(write, night(), images(), **environment)
    return environment


@OF_00
def test_light_curves_read_by_the_client(ask, first):
    """lightcurvedb's client reads every flux once, in Jy, with its error, time and flags, limits included."""
    curves = ask(read_curves, first[1])
    assert set(curves) == {STAR, LIMIT, FLARE, COMET}
    source, bands = curves[FLARE]
    assert set(bands) == {"i1_f090", "i1_f150", "i3_f090", "pa5_f090"}
    assert source["variable"] is False and source["ra"] == pytest.approx(0.1)
    assert [bands[name]["i_flux"] for name in sorted(bands)] == [[0.0], [0.08], [0.16], [0.24]]
    assert bands["i3_f090"]["i_uncertainty"] == [0.01]
    assert bands["i3_f090"]["ra_uncertainty"] == [0.001] and bands["i3_f090"]["dec_uncertainty"] == [0.002]
    assert bands["i3_f090"]["time"] == [datetime(2025, 10, 10, 12, 50, 7, 500000)]
    assert bands["pa5_f090"]["band"] == {
        "name": "pa5_f090",
        "telescope": "act",
        "instrument": "pa5",
        "frequency": 90.0,
    }
    _, limits = curves[LIMIT]
    assert {name: band["i_flux"] for name, band in limits.items()} == {
        "i1_f150": [-0.004],
        "i3_f090": [-0.005],
        "pa5_f090": [-0.006],
    }
    assert limits["pa5_f090"]["extra"][0]["flags"] == ["NO_TIME"]
    assert limits["pa5_f090"]["time"] == [datetime(2025, 10, 11, 12, 40)]  # that of the map
    assert limits["i3_f090"]["ra"] == [pytest.approx(-0.25)]


@OF_00
def test_sources_keep_the_ids_of_socat(ask, first):
    """A source of socat has its id there, others have ids that socat does not reach; what moves has no position."""
    curves = ask(read_curves, first[1])
    ids = {name: source["id"] for name, (source, _) in curves.items()}
    assert ids.pop(STAR) == 17
    assert all(own >= lightcurvedb.FIRST_OWN_ID for own in ids.values()) and len(set(ids.values())) == 3
    assert curves[COMET][0]["variable"] is True and curves[COMET][0]["ra"] is None


@OF_00
def test_cutout_read_by_the_client(ask, first):
    """The cutout of a measurement comes back in Jy, NaN where there is no data, once after two runs."""
    _, bands = ask(read_curves, first[1])[FLARE]
    found = ask(read_cutout, first[1], bands["pa5_f090"]["id"][0])
    expected = images()[0][1] / 1000
    np.testing.assert_allclose(found["data"], expected, rtol=1e-6)
    assert found["units"] == "Jy" and found["band_name"] == "pa5_f090"


@OF_00
def test_changed_flux_replaces_the_old_one(ask, running):
    """A run after a change brings each measurement up to date under its id and adds none."""
    environment = postgres.make_database(running, "changed")
    ask(create_tables, postgres.url(environment))
    ask(write, night(), images(), **environment)
    before = ask(read_curves, postgres.url(environment))
    frames = night()
    frames["measurements"]["flux_mjy"] *= 2
    ask(write, frames, [(own, 2 * image) for own, image in images()], **environment)
    after = ask(read_curves, postgres.url(environment))
    for name, (source, bands) in before.items():
        assert after[name][0]["id"] == source["id"]
        for band, curve in bands.items():
            assert after[name][1][band]["id"] == curve["id"]
            assert after[name][1][band]["i_flux"] == [2 * flux for flux in curve["i_flux"]]
    ((number, value),) = ask(query, "SELECT count(*), max(data[2][3]) FROM cutouttable", **environment)
    assert number == 1 and value == pytest.approx(0.01)


def test_fluxes_in_the_other_unit(ask, running):
    """In mJy fluxes, errors and cutouts are a thousand times the numbers in Jy, and the cutout says so."""
    environment = postgres.make_database(running, "milli")
    ask(query, TABLES_01, **environment)
    ask(write, night(), images(), "mJy", **environment)
    assert ask(query, "SELECT min(flux), max(flux_err) FROM flux_measurements", **environment) == [(-6.0, 10.0)]
    assert ask(query, "SELECT data[2][3], units FROM cutouts", **environment) == [(5.0, "mJy")]


def test_tables_of_the_next_generation(ask, second):
    """The tables of 0.1 hold the same fluxes by instrument, under ids made from map and source."""
    text = """
        SELECT f.measurement_id, s.name, f.module, f.frequency, f.flux, f.flux_err, f.time, f.extra
        FROM flux_measurements f JOIN sources s USING (source_id) WHERE f.flux < 0 ORDER BY f.flux
    """
    rows = ask(query, text, **second)
    assert [row[:4] for row in rows] == [
        (lightcurvedb.measurement_id(MAPS[k], LIMIT), LIMIT, *module)
        for k, module in ((3, ("pa5", 90)), (2, ("i3", 90)), (1, ("i1", 150)))
    ]
    assert [row[4] for row in rows] == pytest.approx([-0.006, -0.005, -0.004])
    assert rows[1][6] == datetime.fromtimestamp(NIGHT + 607.5, tz=UTC)
    assert rows[0][7]["flags"] == ["NO_TIME"] and rows[0][7]["map_id"] == MAPS[3]
    counts = "SELECT (SELECT count(*) FROM flux_measurements), (SELECT count(*) FROM sources), count(*) FROM cutouts"
    assert ask(query, counts, **second) == [(15, 4, 1)]
    instruments = ask(query, "SELECT frequency, module, telescope FROM instruments ORDER BY module, 1", **second)
    assert instruments == [(90, "i1", "solat"), (150, "i1", "solat"), (90, "i3", "solat"), (90, "pa5", "act")]


def test_ids_of_socat_as_uuids(ask, running):
    """Tables of 0.1 whose ids of socat are UUIDs hold those of socat 0.1, and find the sources entered under them."""
    environment = postgres.make_database(running, "uuids")
    ask(query, TABLES_01.replace("socat_id int", "socat_id uuid"), **environment)
    own = str(uuid.UUID(int=17))
    ask(query, "INSERT INTO sources (socat_id, name) VALUES (%s, 'theirs')", own, **environment)
    for socat in ({STAR: own, LIMIT: str(uuid.UUID(int=18))}, {STAR: "17"}):
        ask(write, night(), (), "Jy", socat, **environment)
        found = dict(ask(query, "SELECT name, socat_id::text FROM sources", **environment))
        assert found.pop("theirs") == own and found[LIMIT] == str(uuid.UUID(int=18)) and found[FLARE] is None
    assert found[STAR] is None  # a whole number is no id of these tables


def test_source_that_another_program_entered_is_used(ask, second):
    """A source with the same id in socat takes the measurements, under the UUID it was given by others."""
    text = "SELECT s.name, s.source_id, count(*) FROM sources s JOIN flux_measurements USING (source_id) GROUP BY 1, 2"
    found = {name: (own, number) for name, own, number in ask(query, text, **second)}
    assert found["theirs"][1] == 4 and STAR not in found
    assert found[FLARE] == (lightcurvedb.source_uuid(FLARE), 4)


def test_refused_row_takes_everything_with_it(ask, running):
    """A declination that the tables refuse leaves them as they were: nothing is half-written."""
    environment = postgres.make_database(running, "refused")
    ask(query, TABLES_01, **environment)
    frames = night()
    frames["measurements"].loc[3, "dec_deg"] = 95.0
    with pytest.raises(ServiceError, match=r"lightcurvedb refused on .*: .*violates check constraint"):
        ask(write, frames, **environment)
    assert ask(query, "SELECT count(*) FROM sources", **environment) == [(0,)]


def test_empty_and_foreign_databases_are_refused(ask, running):
    """A database without the tables, or with others of their names, is named as such with the cure."""
    environment = postgres.make_database(running, "empty")
    with pytest.raises(ServiceError, match=r"has the tables none at all, .* lightcurvedb-setup"):
        ask(write, night(), **environment)
    ask(query, "CREATE TABLE sources (id int, ra float8)", **environment)
    with pytest.raises(ServiceError, match=r"has the tables \['sources'\], not those of a known version"):
        ask(write, night(), **environment)


def test_refused_password_and_absent_server(ask, running):
    """A wrong password and a server that is not there are said as such, without the password."""
    environment = postgres.make_database(running, "closed")
    running.psql("CREATE ROLE stranger LOGIN PASSWORD 'right'")
    rules = running.pgdata / "pg_hba.conf"
    rules.write_text("local all stranger scram-sha-256\n" + rules.read_text())
    running.psql("SELECT pg_reload_conf()")
    login = {"LIGHTCURVEDB_POSTGRES_USER": "stranger", "LIGHTCURVEDB_POSTGRES_PASSWORD": "sesame"}
    with pytest.raises(ServiceError, match="password authentication failed for user") as caught:
        ask(write, night(), **(environment | login))
    assert "sesame" not in str(caught.value)
    away = {"LIGHTCURVEDB_POSTGRES_HOST": "127.0.0.1", "LIGHTCURVEDB_POSTGRES_PORT": "9"}
    with pytest.raises(ServiceError, match=r"closed on 127\.0\.0\.1:9: .*refused.*; see LIGHTCURVEDB_POSTGRES_HOST"):
        ask(write, night(), **(environment | away))


FILE_BACKEND = {"LIGHTCURVEDB_BACKEND_TYPE": "parquet"}


@pytest.mark.skipif(NO_FILES, reason="lightcurvedb before 0.1, as on PyPI, has no file backend")
def test_file_backend_holds_the_same(ask, tmp_path):
    """Written twice and changed, the Parquet files of lightcurvedb hold each flux once, as it is last."""
    environment = FILE_BACKEND | {"LIGHTCURVEDB_PARQUET_BASE_PATH": str(tmp_path / "curves")}
    for _ in range(2):
        done = ask(write_files, night(), images(), **environment)
        assert done == {"measurements": 15, "sources": 4, "cutouts": 1}
    instruments, found = ask(read_files, **environment)
    assert instruments == {(90, "i1"), (150, "i1"), (90, "i3"), (90, "pa5")}
    assert {name: len(rows) for name, (_, rows, _) in found.items()} == {STAR: 4, LIMIT: 3, FLARE: 4, COMET: 4}
    by_module = {row["module"]: row for row in found[LIMIT][1]}
    assert by_module["i3"]["flux"] == pytest.approx(-0.005) and by_module["i3"]["flux_err"] == pytest.approx(0.01)
    assert by_module["i3"]["time"] == datetime.fromtimestamp(NIGHT + 607.5, tz=UTC)
    assert by_module["pa5"]["measurement_id"] == lightcurvedb.measurement_id(MAPS[3], LIMIT)
    assert by_module["pa5"]["extra"]["flags"] == ["NO_TIME"] and found[LIMIT][0] == pytest.approx(-0.25)
    (cutout,) = found[FLARE][2]
    np.testing.assert_allclose(cutout["data"], images()[0][1] / 1000)
    frames = night()
    frames["measurements"]["flux_mjy"] *= 2
    ask(write_files, frames, [(own, 2 * image) for own, image in images()], **environment)
    _, after = ask(read_files, **environment)
    assert [row["flux"] for row in after[STAR][1]] == pytest.approx([2 * row["flux"] for row in found[STAR][1]])
    assert len(after[LIMIT][1]) == 3 and after[FLARE][2][0]["data"][1][2] == pytest.approx(0.01)


@pytest.mark.skipif(not NO_FILES, reason="this lightcurvedb has a file backend")
def test_backend_that_is_not_there_is_named(ask):
    """Files are not written to a database by mistake where lightcurvedb has no backend for them."""
    with pytest.raises(
        ServiceError, match=r"BACKEND_TYPE is parquet, which lightcurvedb [\d.]+ does not have; install 0"
    ):
        ask(read_settings, **FILE_BACKEND)
    assert ask(read_settings, lightcurvedb_backend_type="postgres") == "postgres"


def test_night_without_measurements(ask, running):
    """A night of empty skies writes nothing and is no error."""
    environment = postgres.make_database(running, "quiet")
    ask(query, TABLES_01, **environment)
    frames = {name: frame.iloc[:0] for name, frame in night().items()}
    assert ask(write, frames, **environment) == {"measurements": 0, "sources": 0, "cutouts": 0}


def test_rows_hold_what_was_measured():
    """Blind measurements repeat confirming ones and stay out, as do positions without data; RA is signed."""
    frames = night()
    rows = lightcurvedb.rows_of(frames["measurements"], frames["maps"], errors())
    assert len(rows) == 15 and set(rows["source"]) == {STAR, LIMIT, FLARE, COMET}
    assert (MAPS[0], LIMIT) not in set(zip(rows["map_id"], rows["source"], strict=True))
    np.testing.assert_allclose(lightcurvedb.signed_ra([0.0, 90.0, 180.0, 180.1, 359.0]), [0, 90, 180, -179.9, -1])
    assert json.loads(rows["extra"][0])["measurement_id"] == str(rows["measurement_id"][0])


def test_band_without_a_frequency_is_named():
    """A band whose name holds no number cannot be entered."""
    with pytest.raises(ServiceError, match="band 'wide' has no frequency in its name"):
        lightcurvedb.band_ghz("wide")


def test_cutouts_come_from_the_photometry_of_the_map(tmp_path):
    """Cutouts of known sources are those of the forced photometry, and only of measurements that are bright enough."""
    names = tables.column_names("forced")
    forced = tables.make("forced", {name: 0.0 for name in names} | {"source_id": [LIMIT, STAR], "source_name": ""})
    images = np.stack([np.zeros((3, 3)), np.ones((3, 3))])
    store.write(tmp_path / "forced.h5", arrays={"cutouts/flux": images}, frames={"forced": ("forced", forced)})
    frames = night()
    frames["measurements"] = frames["measurements"].query("source_id in @names", local_dict={"names": [STAR, LIMIT]})
    rows = lightcurvedb.rows_of(frames["measurements"], frames["maps"], errors())
    files = {map_id: (None, None, tmp_path / "forced.h5") for map_id in MAPS}
    found = dict(collect.cutouts(files, rows, 10.0, 5.0))
    assert found.keys() == {lightcurvedb.measurement_id(map_id, STAR) for map_id in MAPS}
    assert all((image == 1).all() for image in found.values())
    assert len(list(collect.cutouts(files, rows, 10.0, 0.0))) == len(rows)
    assert list(collect.cutouts(files, rows, 10.0, None)) == []
