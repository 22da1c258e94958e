"""Alerts: what is said, once, in which form, and that brokers of the field take it."""

import json
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import comet
import jsonschema
import numpy as np
import pytest
from lxml import etree
from nights import candidate_table, confirming, map_row

from sotrplib import alerts, configuration, packets, tables

ROOT = Path(__file__).parents[1]
SCHEMA = configuration.read_yaml(ROOT / "config/schemas/config.schema.yaml")
DEFAULTS = configuration.fill_defaults({}, SCHEMA["properties"]["export_alerts"])
VOEVENT = etree.XMLSchema(etree.parse(Path(comet.__file__).parent / "schema" / "VOEvent-v2.0.xsd"))
ROWS = [map_row("i1", 1_760_100_000), map_row("i3", 1_760_100_600)]
DAY = 86400.0
NUMBER, TEXT = {"type": "number"}, {"type": "string"}
UTC_TIME = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"}
# The properties of the core schemas of GCN (7.2.3) that a notice uses, and their types there.
GCN = {
    "$schema": TEXT,
    "alert_datetime": UTC_TIME,
    "alert_type": {"enum": ["initial", "subsequent", "update", "retraction"]},
    "alert_tense": {"enum": ["current", "archival", "planned", "injection", "commanded", "test"]},
    "mission": TEXT,
    "instrument": TEXT,
    "messenger": {"enum": ["EM", "GW", "Neutrino"]},
    "record_number": NUMBER,
    "event_name": TEXT,
    "id": {"type": "array", "items": TEXT},
    "trigger_time": UTC_TIME,
    "ra": NUMBER | {"minimum": 0, "maximum": 360},
    "dec": NUMBER | {"minimum": -90, "maximum": 90},
    "ra_dec_error": {"type": "array", "items": NUMBER, "minItems": 1, "maxItems": 3},
    "containment_probability": NUMBER,
    "systematic_included": {"type": "boolean"},
    "image_snr": NUMBER,
    "far": NUMBER,
    "flux_density": NUMBER,
    "flux_density_error": NUMBER,
    "flux_density_unit": {"enum": ["erg/cm2/s/Hz", "erg/cm2/s/keV", "erg/cm2/s/nm"]},
    "flux_density_spectral_point": NUMBER,
    "flux_density_spectral_point_unit": {"enum": ["keV", "nm", "MHz"]},
    "additional_info": TEXT,
}


def options(folder, **changed):
    return DEFAULTS | {"archive": str(folder / "alerts")} | changed


def night(**values):
    """Candidates and their measurements in both maps."""
    candidates = candidate_table(**values)
    return candidates, confirming(candidates, ROWS, (150.0, 140.0))


def issued(folder, changed=None, **values):
    """Kinds of all alerts in the archive after one more run."""
    settings = options(folder, **(changed or {}))
    alerts.issue(*night(**values), settings)
    return alerts.read_ledger(settings["archive"])["kind"].tolist()


def test_packet_is_valid_and_says_what_the_candidate_says(tmp_path):
    """The VOEvent is valid against the schema of the IVOA and holds place, time, flux, evidence and light curve."""
    settings = options(tmp_path)
    found = alerts.issue(*night(), settings)
    tree = etree.parse(tmp_path / "alerts" / f"{found['alert_id'][0]}.xml")
    VOEVENT.assertValid(tree)
    assert tree.getroot().get("ivorn") == "ivo://org.example.sotrp/alerts#SOTRP_J000024.0-300600.1"
    assert tree.getroot().get("role") == "test" and tree.find("Who/Date") is None
    assert float(tree.findtext(".//C1")) == pytest.approx(0.1) and float(tree.findtext(".//C2")) == pytest.approx(-30.1)
    assert float(tree.findtext(".//Error2Radius")) == pytest.approx(4 / 3600 * 2.146, rel=1e-3)
    assert tree.findtext(".//ISOTime") == "2025-10-10T12:40:00.000"
    params = {param.get("name"): param for param in tree.findall("What/Param")}
    assert params["flux_mjy"].get("value") == "150" and params["flux_mjy"].get("unit") == "mJy"
    assert params["n_arrays_against"].get("value") == "0" and params["n_maps"].get("dataType") == "int"
    assert "external_name" not in params and "<in one>" in tree.findtext("Why/Description")
    rows = [[cell.text for cell in row] for row in tree.findall("What/Table/Data/TR")]
    assert [row[1] for row in rows] == ["i1", "i3"] and [float(row[4]) for row in rows] == [150.0, 140.0]
    assert rows[0][0] == "1760100000.0"


def test_notice_has_the_terms_of_gcn(tmp_path):
    """The notice uses properties of GCN's core schemas alone; its numbers are the candidate's in GCN's units."""
    alerts.issue(*night(ra_err_arcsec=3.0, dec_err_arcsec=4.0), options(tmp_path))
    found = json.loads(next((tmp_path / "alerts").glob("*.json")).read_text())
    jsonschema.validate(found, {"type": "object", "properties": GCN, "additionalProperties": False})
    assert found["flux_density"] == pytest.approx(1.5e-24) and found["flux_density_spectral_point"] == 90000
    assert found["ra_dec_error"] == pytest.approx([4 / 3600 * 2.146, 3 / 3600 * 2.146, 0], rel=1e-3)
    assert found["far"] == pytest.approx(1e-9 / DAY) and found["alert_tense"] == "test"
    assert found["trigger_time"] == "2025-10-10T12:40:00.000Z"


def test_numbers_that_are_not_there_are_left_out(tmp_path):
    """NaN has no place in either form: the packet and the notice leave such numbers out and stay valid."""
    candidates, _ = night(combined_snr=np.nan, p_false_night=np.nan)
    alert = packets.Alert("a.1", "a", 1, "initial")
    settings = options(
        tmp_path, gcn_schema="https://example.org/s.json", role="observation", contact_name="A. N. Other"
    )
    row, nothing = candidates.iloc[0].to_dict(), tables.empty("measurements")
    tree = etree.fromstring(packets.voevent(row, nothing, alert, settings, date=datetime(2026, 1, 2, tzinfo=UTC)))
    VOEVENT.assertValid(tree)
    assert tree.findtext("Who/Date") == "2026-01-02T00:00:00" and tree.find("What/Table") is None
    found = packets.notice(row, np.nan, alert, settings, date=datetime(2026, 1, 2, tzinfo=UTC))
    jsonschema.validate(found, {"type": "object", "properties": GCN, "additionalProperties": False})
    assert not {"image_snr", "far", "flux_density_spectral_point"} & set(found)
    assert found["alert_datetime"] == "2026-01-02T00:00:00Z" and found["alert_tense"] == "current"


def test_nothing_is_said_twice(tmp_path):
    """The same candidates again, and the same event measured anew, make no second alert and change no file."""
    assert issued(tmp_path) == ["initial"]
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (tmp_path / "alerts").iterdir()}
    moved = {"ra_deg": 0.1005, "candidate_id": ["SOTRP_J000024.1-300600"], "flux_mjy": 151.0, "max_snr": 15.2}
    assert issued(tmp_path) == issued(tmp_path, **moved) == ["initial"]
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (tmp_path / "alerts").iterdir()} == before


def test_equal_candidates_give_equal_bytes(tmp_path):
    """Two archives of the same candidates are the same to the byte: no clock is read."""
    for name in ("one", "two"):
        issued(tmp_path / name)
    one, two = (sorted((tmp_path / name / "alerts").iterdir()) for name in ("one", "two"))
    assert [path.name for path in one] == [path.name for path in two]
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_only_confirmed_candidates_of_the_classes_asked_for(tmp_path):
    """Unconfirmed ones, artefacts and moving objects are no news; with no classes nothing is."""
    assert issued(tmp_path, confirmed=False) == []
    assert issued(tmp_path, **{"class": "artefact", "confirmed": False}) == []
    assert issued(tmp_path, **{"class": "moving"}) == []
    assert issued(tmp_path, {"classes": []}) == []
    assert issued(tmp_path, {"classes": ["moving"]}, **{"class": "moving"}) == ["initial"]


def test_an_event_that_changes_is_told_again(tmp_path):
    """Another class supersedes, lost confirmation retracts once, and its return is an update; all cite the last."""
    issued(tmp_path)
    assert issued(tmp_path, **{"class": "new_source"}) == ["initial", "update"]
    withdrawn = {"class": "artefact", "confirmed": False}
    assert issued(tmp_path, **withdrawn) == issued(tmp_path, **withdrawn) == ["initial", "update", "retraction"]
    assert issued(tmp_path)[-1] == "update"
    trees = [etree.parse(path) for path in sorted((tmp_path / "alerts").glob("*.xml"))]
    for tree in trees:
        VOEVENT.assertValid(tree)
    cited = [(c.get("cite"), c.text[-2:]) for tree in trees for c in tree.findall("Citations/EventIVORN")]
    assert cited == [("supersedes", ".1"), ("retraction", ".2"), ("supersedes", ".3")]


def test_a_second_flare_is_told_and_a_steady_source_is_not(tmp_path):
    """A flare a week later is a subsequent alert, whichever comes out highest; a better epoch of a new source none."""
    later = {"time_unix_s": ROWS[0]["time_unix_s"] + 7 * DAY}
    assert issued(tmp_path / "flare") == ["initial"]
    assert issued(tmp_path / "flare", **later) == issued(tmp_path / "flare") == ["initial", "subsequent"]
    for changed in ({}, later):
        assert issued(tmp_path / "steady", **{"class": "new_source"} | changed) == ["initial"]


def test_events_missing_from_a_run_are_not_retracted(tmp_path):
    """A run without an announced event, for other maps were used, says nothing of it and lists nothing."""
    issued(tmp_path)
    found = alerts.issue(tables.empty("candidates"), tables.empty("measurements"), options(tmp_path))
    assert found.empty and alerts.read_ledger(tmp_path / "alerts")["kind"].tolist() == ["initial"]


def test_neighbours_are_events_of_their_own(tmp_path):
    """Of two candidates 40 arcsec apart each has its alert, and each knows its own again."""
    ids = ["SOTRP_J000024.0-300600", "SOTRP_J000024.0-300520"]
    pair = {"candidate_id": ids, "ra_deg": [0.1, 0.1], "dec_deg": [-30.1, -30.1 + 40 / 3600]}
    assert issued(tmp_path, **pair) == issued(tmp_path, **pair) == ["initial", "initial"]
    assert alerts.read_ledger(tmp_path / "alerts")["event_id"].tolist() == ids


def test_failed_sending_is_tried_again(tmp_path):
    """A command that fails is an error, after all else was written; the next run sends what waits, and only that."""
    told = tmp_path / "told"
    works = [
        sys.executable,
        "-c",
        "import sys; open(sys.argv[1], 'a').write(sys.argv[2] + '\\n')",
        str(told),
        "{notice}",
    ]
    with pytest.raises(alerts.AlertError, match="1 alerts could not be sent"):
        alerts.issue(*night(), options(tmp_path, send=[["false"]]))
    assert alerts.read_ledger(tmp_path / "alerts")["state"].tolist() == ["failed"]
    for _ in range(2):
        alerts.issue(*night(), options(tmp_path, send=[works]))
    assert told.read_text().splitlines() == [str(tmp_path / "alerts" / "SOTRP_J000024.0-300600.1.json")]
    assert alerts.read_ledger(tmp_path / "alerts")["state"].tolist() == ["sent"]


def test_what_was_written_for_nobody_is_never_sent(tmp_path):
    """Naming a broker later sends new alerts alone, with the time of sending in them."""
    issued(tmp_path)
    command = [sys.executable, "-c", "raise SystemExit(1)"]
    alerts.issue(*night(), options(tmp_path, send=[command]))
    assert alerts.read_ledger(tmp_path / "alerts")["state"].tolist() == ["written"]


def test_foreign_ledger_is_refused(tmp_path):
    """A file of other columns in the place of the ledger is an error that names it."""
    (tmp_path / alerts.LEDGER).write_text("a,b\n1,2\n")
    with pytest.raises(alerts.AlertError, match=r"issued.csv: has columns \['a', 'b'\], expected"):
        alerts.read_ledger(tmp_path)


@pytest.fixture
def broker(tmp_path):
    """A broker of the VOEvent network on this machine: its port, and the folder where it keeps what it takes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    kept = tmp_path / "taken"
    kept.mkdir()
    words = ["-n", f"--pidfile={tmp_path / 'pid'}", "comet", "--local-ivo=ivo://org.example/broker", "--receive"]
    words += [f"--receive-port={port}", "--save-event", f"--save-event-directory={kept}", f"--eventdb={tmp_path}"]
    program = Path(sys.executable).with_name("twistd")
    with open(tmp_path / "broker.log", "w") as log:
        process = subprocess.Popen([program, *words], stdout=log, stderr=log, cwd=tmp_path)
        try:
            _wait_for(port, process, tmp_path / "broker.log")
            yield port, kept
        finally:
            process.terminate()
            process.wait(20)


def _wait_for(port, process, log):
    for _ in range(300):
        assert process.poll() is None, log.read_text()
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(log.read_text())


@pytest.mark.slow
def test_brokers_of_the_field_take_the_packet(tmp_path, broker):
    """A broker of the VOEvent network (Comet) validates and keeps the packet that the configured command sends."""
    port, kept = broker
    send = [
        str(Path(sys.executable).with_name("comet-sendvo")),
        "--host=127.0.0.1",
        f"--port={port}",
        "--file={voevent}",
    ]
    found = alerts.issue(*night(), options(tmp_path, send=[send]), now=lambda: datetime(2026, 5, 6, tzinfo=UTC))
    assert found["state"].tolist() == ["sent"]
    for _ in range(100):
        if taken := list(kept.iterdir()):
            break
        time.sleep(0.1)
    written = etree.parse(tmp_path / "alerts" / f"{found['alert_id'][0]}.xml")
    received = etree.parse(taken[0])
    assert etree.tostring(received, method="c14n") == etree.tostring(written, method="c14n")
    assert received.findtext("Who/Date") == "2026-05-06T00:00:00"
