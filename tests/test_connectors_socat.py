"""Sources from socat: both generations of its client, boxes across RA 0, moving objects, and what it refuses."""

import contextlib
import importlib.metadata
import io
import os
import pickle
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
import uuid
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import socat01
from astropy import units
from astropy.coordinates import ICRS
from astropy.time import Time
from clients import process

from sotrplib import bodies, sources
from sotrplib.connectors import ServiceError, footprints, socat, socat_http

OF_00 = importlib.metadata.version("socat").startswith("0.0.")
NIGHT = 1_760_100_000
STEP_S = 3600
ACROSS = {"ra_min_deg": 358.0, "ra_max_deg": 2.0, "dec_min_deg": -31.0, "dec_max_deg": -29.0}
PLACES = {  # name: RA, Dec, flux in mJy
    "west": (359.5, -30.0, 100.0),
    "zero": (0.0, -30.0, 200.0),
    "east": (1.5, -30.5, 300.0),
    "faint": (1.0, -29.5, None),
    "beside": (3.0, -30.0, 400.0),
    "north": (0.5, 40.0, 500.0),
}
WITHIN = ["east", "faint", "west", "zero"]
# A main-belt object that crosses RA 0, one elsewhere, one with too few rows.
MOVING = {"(1) Ceres": (359.9, 48), "(4) Vesta": (120.0, 48), "(2) Pallas": (0.5, 3)}


def position(ra, dec):
    return ICRS(ra=ra % 360 * units.deg, dec=dec * units.deg)


def ephemeris(ra0, n_rows):
    """Rows (unix seconds, RA, Dec) an hour apart, from 24 hours before the night; 0.01 degrees an hour."""
    return [(NIGHT + (k - 24) * STEP_S, ra0 + 0.01 * k, -30.2) for k in range(n_rows)]


def fill(client):
    """Put the sources into a client of either generation."""
    for name, (ra, dec, flux) in PLACES.items():
        client.create_source(position=position(ra, dec), name=name, flux=None if flux is None else flux * units.mJy)
    new = hasattr(client, "get_box_fixed")
    objects, rows = (client, client) if new else (client.sso, client.ephem)
    for number, (name, track) in enumerate(MOVING.items(), 1):
        own = objects.create_sso(name=name, MPC_id=number)
        labels = {"sso_id": own.sso_id, "MPC_id": number, "name": name}
        for when, ra, dec in ephemeris(*track):
            rows.create_ephem(**labels, time=Time(when, format="unix") if new else when, position=position(ra, dec))


def make_databases(folder):
    """A SQLite database and a pickle, made with socat's own client."""
    import sqlalchemy
    from socat.client import mock
    from socat.client.settings import SOCatClientSettings
    from sqlmodel import SQLModel

    os.environ.update(socat_client_client_type="db", socat_model_database_name=f"{folder}/socat.db")
    client = SOCatClientSettings().client  # of 0.0 makes its tables itself
    SQLModel.metadata.create_all(sqlalchemy.create_engine(f"sqlite:///{folder}/socat.db"))
    fill(client)
    client = mock.Client()
    fill(client)
    Path(folder, "socat.pickle").write_bytes(pickle.dumps(client))


def read(boxes, database=""):
    """The tables that a job reads, from the client of the environment."""
    return socat.read(socat.open_client(database), boxes, (NIGHT, NIGHT + 3600))


def open_only(database=""):
    socat.open_client(database)


@pytest.fixture(scope="module")
def ask():
    with process() as ask:
        yield ask


@pytest.fixture(scope="module")
def folder(ask, tmp_path_factory):
    folder = tmp_path_factory.mktemp("socat")
    ask(make_databases, str(folder))
    return folder


@pytest.fixture(scope="module", params=["database", "pickle", "0.1"])
def tables(request, ask, folder):
    """Sources in a box across RA 0, from each kind of client."""
    if request.param == "database":
        return ask(read, [ACROSS], str(folder / "socat.db"))
    if request.param == "pickle":
        kind = {"socat_client_client_type": "pickle", "socat_client_pickle_path": str(folder / "socat.pickle")}
        return ask(read, [ACROSS], **kind)
    client = socat01.Client()
    fill(client)
    return socat.read(client, [ACROSS], (NIGHT, NIGHT + 3600))


def test_fixed_sources_on_both_sides_of_ra_0(tables):
    """A box across RA 0 gives the sources on both sides of it and at 0 itself, with positions and fluxes as entered."""
    fixed, _ = tables
    assert list(fixed["name"]) == WITHIN
    expected = [PLACES[name] for name in WITHIN]
    np.testing.assert_allclose(fixed["ra_deg"], [place[0] for place in expected], atol=1e-9)
    np.testing.assert_allclose(fixed["dec_deg"], [place[1] for place in expected], atol=1e-9)
    np.testing.assert_allclose(fixed["flux_mjy"], [np.nan if p[2] is None else p[2] for p in expected], rtol=1e-12)
    assert fixed["socat_id"].is_unique


def test_moving_objects_of_the_box_with_all_their_rows(tables):
    """An object that crosses the box comes with its rows of the night and a day on both sides; others do not come."""
    _, moving = tables
    assert set(moving["name"]) == {"(1) Ceres"}
    track = np.array([row for row in ephemeris(*MOVING["(1) Ceres"]) if row[0] <= NIGHT + 3600 + 86400])
    np.testing.assert_allclose(moving["time_unix_s"], track[:, 0], atol=1e-3)
    np.testing.assert_allclose(moving["ra_deg"], track[:, 1] % 360, atol=1e-9)


def test_snapshot_is_a_catalogue_and_an_ephemeris(tables, tmp_path):
    """What a job writes is read as catalogue and ephemeris; across RA 0 the object is where its motion takes it."""
    from sotrplib import snapshots

    fixed, moving = tables
    paths = tmp_path / "socat.csv", tmp_path / "moving.csv"
    for table, path in zip(tables, paths, strict=True):
        table.to_csv(path, index=False)
    options = {"format": "csv", "columns": snapshots.SOURCE_COLUMNS, "flux_unit": "mJy"}
    catalog = sources.read_catalog(paths[0], options | {"pos_err_arcsec": 1.5, "flux_min_mjy": 0.0})
    assert list(catalog["source_id"]) == ["east", "west", "zero"]  # "faint" has no flux
    assert list(catalog["flux_mjy"]) == [300.0, 100.0, 200.0]
    (track,) = bodies.read_table(paths[1])
    unit = track.spline(NIGHT - 24 * STEP_S + 10.5 * STEP_S)
    ra, _ = bodies.to_radec(unit[None] / np.linalg.norm(unit))
    np.testing.assert_allclose(ra, 359.9 + 0.01 * 10.5 - 360, atol=1e-5)


def test_pickle_of_the_other_generation_is_refused(ask, folder):
    """Sources whose ids are not of the installed generation would be compared wrongly, and are not read."""
    ask(rename_ids, folder / "socat.pickle", folder / "other.pickle")
    kind = {"socat_client_client_type": "pickle", "socat_client_pickle_path": str(folder / "other.pickle")}
    with pytest.raises(ServiceError, match=r"other\.pickle: made by socat 0\.[01], but .* is installed"):
        ask(open_only, **kind)


def rename_ids(path, other):
    """Write a pickled client again with UUIDs for numbers, or the other way round."""
    client = pickle.loads(path.read_bytes())
    ids = [uuid.UUID(int=k) if isinstance(own, int) else k for k, own in enumerate(client.catalog)]
    client.catalog = dict(zip(ids, client.catalog.values(), strict=True))
    other.write_bytes(pickle.dumps(client))


@pytest.fixture(scope="module")
def server(folder):
    """Address of socat's own web server, on the database."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "socat.api.app:app", "--port", str(port), "--log-level", "warning"]
    environment = os.environ | {"socat_model_database_name": str(folder / "socat.db")}
    with open(folder / "server.log", "wb") as log:
        running = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        for _ in range(300):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/docs", timeout=1):
                break
            assert running.poll() is None, (folder / "server.log").read_text()
            time.sleep(0.1)
        yield f"127.0.0.1:{port}"
    finally:
        running.terminate()
        running.wait(20)


def at(hostname):
    return {"socat_client_client_type": "http", "socat_client_hostname": hostname}


@pytest.mark.skipif(not OF_00, reason="the server of socat 0.0, as on PyPI")
def test_fixed_sources_of_the_server(ask, folder, server):
    """socat's web server gives the fixed sources that its database holds, on both sides of RA 0, and none that move."""
    fixed, moving = ask(read, [ACROSS], **at(server))
    expected, _ = ask(read, [ACROSS], str(folder / "socat.db"))
    pd.testing.assert_frame_equal(fixed, expected)
    assert list(fixed["name"]) == WITHIN and moving.empty
    assert len(ask(read, [footprints.WHOLE_SKY], **at(f"http://{server}/"))[0]) == len(PLACES)


@pytest.mark.skipif(not OF_00, reason="the server of socat 0.0, as on PyPI")
def test_server_that_is_none_of_socat_is_named(ask, server):
    """No server, one without the path, one that answers something else: each says who, what and the cure."""
    with pytest.raises(
        ServiceError, match=r"http://127\.0\.0\.1:9/api/v1/source/box: .*refused.*; correct socat_client_h"
    ):
        ask(read, [ACROSS], **at("127.0.0.1:9"))
    with pytest.raises(
        ServiceError, match=r"/elsewhere/api/v1/source/box: refused with 404 .*; correct socat_client_h"
    ):
        ask(read, [ACROSS], **at(f"{server}/elsewhere"))
    with pytest.raises(ServiceError, match=r"found ftp://x, expected http://host:port"):
        ask(read, [ACROSS], **at("ftp://x"))


@pytest.mark.parametrize("answer", ['{"a": 1}', '[{"source_id": 1}]', '[{"position": {}, "flux": 3, "name": ""}]'])
def test_answer_that_is_none_of_socat_is_named(monkeypatch, answer):
    """What is no list of sources is not taken for one."""
    client = socat_http.Client("127.0.0.1:9")
    monkeypatch.setattr(socat_http, "urlopen", lambda *_, **__: io.BytesIO(answer.encode()))
    with pytest.raises(ServiceError, match=r"http://127\.0\.0\.1:9: not an answer of socat"):
        client.get_box(lower_left=position(0, 0), upper_right=position(1, 1))


def test_moving_objects_far_from_the_night_are_left_out(ask, folder):
    """A night a month later has no moving objects: their rows do not reach it."""
    _, moving = ask(read_later, str(folder / "socat.db"))
    assert moving.empty and list(moving.columns) == socat.MOVING_COLUMNS


def read_later(database):
    month = 30 * 86400
    return socat.read(socat.open_client(database), [ACROSS], (NIGHT + month, NIGHT + month + 3600))


def test_whole_sky_and_overlapping_boxes_give_every_source_once(ask, folder):
    """The whole sky reaches to just below RA 360, and a source in two boxes comes once."""
    fixed, _ = ask(read, [footprints.WHOLE_SKY, ACROSS], str(folder / "socat.db"))
    assert sorted(fixed["name"]) == sorted(PLACES)


@pytest.mark.parametrize(
    ("box", "parts"),
    [
        ((10.0, 20.0), [(10.0, 20.0)]),
        ((350.0, 10.0), [(350.0, 360.0), (0.0, 10.0)]),
        ((-10.0, 10.0), [(350.0, 360.0), (0.0, 10.0)]),
        ((0.0, 360.0), [(0.0, 360.0)]),
        ((-180.0, 180.0), [(0.0, 360.0)]),
    ],
)
def test_boxes_are_split_at_ra_0(box, parts):
    """Boxes become parts that do not cross RA 0, whichever way they are written."""
    given = {"ra_min_deg": box[0], "ra_max_deg": box[1], "dec_min_deg": -1.0, "dec_max_deg": 1.0}
    assert socat.split_boxes([given]) == [(*part, -1.0, 1.0) for part in parts]


def test_a_box_within_another_is_not_asked_for():
    """Maps of one field cost one query."""
    inner = ACROSS | {"ra_min_deg": 359.0, "ra_max_deg": 1.0}
    assert socat.split_boxes([inner, ACROSS, ACROSS]) == socat.split_boxes([ACROSS])


def _no_file(folder):
    return {"database": str(folder / "absent.db")}, r"absent\.db: no such database file; correct socat_model_database"


def _empty_file(folder):
    (folder / "empty.db").touch()
    return {"database": str(folder / "empty.db")}, r"table fixed_sources is missing; .* socat-migrate"


def _older_schema(folder):
    with sqlite3.connect(folder / "older.db") as connection:
        connection.execute("CREATE TABLE fixed_sources (id INTEGER, ra REAL, dec REAL)")
    return {"database": str(folder / "older.db")}, r"table fixed_sources lacks the columns \['source_id', 'ra_deg'"


def _no_database(folder):
    (folder / "text.db").write_text("not a database, but long enough to be looked at by anyone " * 20)
    return {"database": str(folder / "text.db")}, r"text\.db: not a readable SQLite database"


def _no_pickle(folder):
    return {"socat_client_client_type": "pickle"}, r"socat_client_pickle_path: found nothing, expected a file"


def _no_host(folder):
    return {"socat_client_client_type": "http"}, r"socat_client_hostname: found nothing, expected the address"


def _tokens(folder):
    given = {"socat_client_client_type": "http", "socat_client_hostname": "http://127.0.0.1:9"}
    return given | {"socat_client_identity_server": "http://who"}, r"identity_server is http://who: .* unset it"


def _no_kind(folder):
    return {"socat_client_client_type": "htp"}, r"environment variables: client_type is 'htp': .* should be 'http',"


def _other_generation(folder):
    """Tables with ids of the generation that is not installed."""
    columns = {name: dict.fromkeys(found, "TEXT") for name, found in socat._TABLES.items()}
    columns["fixed_sources"]["source_id"] = "CHAR(32)" if OF_00 else "INTEGER"
    with sqlite3.connect(folder / "other.db") as connection:
        for name, types in columns.items():
            connection.execute(f"CREATE TABLE {name} ({', '.join(map(' '.join, types.items()))})")
    made = "0.1" if OF_00 else "0.0"
    return {"database": str(folder / "other.db")}, rf"other\.db: made by socat {made}, but [\d.]+ is installed; install"


def _damaged_pickle(folder):
    (folder / "damaged.pickle").write_bytes(pickle.dumps({"a": 1})[:-3])
    given = {"socat_client_client_type": "pickle", "socat_client_pickle_path": str(folder / "damaged.pickle")}
    return given, r"damaged\.pickle: not a pickled client of socat [\d.]+ \("


def _other_pickle(folder):
    (folder / "other.pickle").write_bytes(pickle.dumps({"a": 1}))
    given = {"socat_client_client_type": "pickle", "socat_client_pickle_path": str(folder / "other.pickle")}
    return given, r"other\.pickle: holds a dict, expected a client of socat"


FILES = [_no_file, _empty_file, _older_schema, _no_database, _other_generation]


@pytest.mark.parametrize("make", [*FILES, _no_pickle, _damaged_pickle, _other_pickle, _no_host, _tokens, _no_kind])
def test_unusable_database_is_refused_and_left_alone(ask, tmp_path, make):
    """A wrong path, older tables or others, no database, no pickle or no client: each says what, and the cure."""
    given, message = make(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    environment = {key: value for key, value in given.items() if key != "database"}
    with pytest.raises(ServiceError, match=message):
        ask(open_only, given.get("database", ""), **environment)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_database_key_wins_over_any_spelling_of_the_variable(ask, folder, tmp_path):
    """The key of the configuration is used though the environment names another database in upper case."""
    elsewhere = {"SOCAT_MODEL_DATABASE_NAME": str(tmp_path / "absent.db"), "SOCAT_CLIENT_CLIENT_TYPE": "http"}
    fixed, _ = ask(read, [ACROSS], str(folder / "socat.db"), **elsewhere)
    assert len(fixed) == len(WITHIN)


def test_map_without_a_readable_header_asks_for_the_whole_sky(tmp_path):
    """A file that is no map may be anywhere."""
    (tmp_path / "bad.fits").write_text("nothing")
    assert footprints.of_maps([tmp_path / "bad.fits"]) == [footprints.WHOLE_SKY]


def test_ids_of_socat_are_found_by_position(tmp_path):
    """A source of the catalogue has the id of the row it came from, though its name was used twice."""
    from sotrplib import tables as schemas
    from sotrplib.connectors import collect

    rows = {"socat_id": ["7", "8"], "name": ["a", "a"], "ra_deg": [10.0, 20.0], "dec_deg": [0.0, 0.0]}
    pd.DataFrame(rows).to_csv(tmp_path / "socat.csv", index=False)
    columns = {name: np.nan for name in schemas.column_names("catalog")}
    known = columns | {"source_id": ["a", "a_2", "b"], "source_name": "", "ra_deg": [10.0, 20.0, 30.0], "dec_deg": 0.0}
    assert collect.socat_ids(schemas.make("catalog", known), tmp_path / "socat.csv") == {"a": "7", "a_2": "8"}
