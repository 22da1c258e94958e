"""Alerts of confirmed candidates in the field's forms: VOEvent 2.0 and notices in the terms of NASA's GCN.

An alert is written once and never changed. The archive folder holds its two files and ``issued.csv``, which remembers
what was said of which event: a run on the same or on more data repeats nothing. It says more when

* an event is confirmed for the first time: ``initial``;
* its class is another one than was said last: ``update``, which supersedes that alert;
* a transient or flare that was announced peaks again, ``repeat_gap_h`` or more away: ``subsequent``;
* it is there but no longer confirmed: ``retraction``. An event that is merely not among the candidates of a run (other
  maps, another box) is not retracted.

Events are recognised by position, with the errors of both. Files are all that is made unless ``send`` names commands;
without it, alerts hold no time of writing, so that equal candidates give equal bytes.
"""

import json
import logging
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from sotrplib import crossmatch, geometry, packets, store
from sotrplib.packets import Alert

LEDGER = "issued.csv"
_REPEATING = ("transient", "flare")
_LEDGER_COLUMNS = {
    "alert_id": "str",
    "event_id": "str",
    "version": "int64",
    "kind": "str",
    "class": "str",
    "time_unix_s": "float64",
    "ra_deg": "float64",
    "dec_deg": "float64",
    "ra_err_arcsec": "float64",
    "dec_err_arcsec": "float64",
    "state": "str",
}
_log = logging.getLogger(__name__)


class AlertError(ValueError):
    """Alerts that could not be sent, or an archive that cannot be read."""


# ---- what to say ------------------------------------------------------------------------------------


def read_ledger(archive):
    """Alerts issued so far, oldest first, from the folder they are kept in; none if there is no such folder."""
    path = Path(archive, LEDGER)
    if not path.exists():
        return pd.DataFrame({name: pd.Series([], dtype=kind) for name, kind in _LEDGER_COLUMNS.items()})
    frame = pd.read_csv(path, dtype=_LEDGER_COLUMNS, keep_default_na=False)
    if list(frame.columns) != list(_LEDGER_COLUMNS):
        raise AlertError(f"{path}: has columns {list(frame.columns)}, expected {list(_LEDGER_COLUMNS)}; move it away")
    return frame


def decide(candidates, ledger, options):
    """Alerts that the candidates ask for beyond those issued.

    Parameters
    ----------
    candidates : pandas.DataFrame
        Table ``candidates``.
    ledger : pandas.DataFrame
        From :func:`read_ledger`.
    options : mapping
        Section ``export_alerts``: classes, same_sigma, same_radius_arcmin, repeat_gap_h.

    Returns
    -------
    alerts : list of (int, Alert)
        Row of each candidate that has something new to say, and its alert.
    events : array of str, shape (n,)
        Event of each candidate, empty where there is none (nor an alert).
    """
    events = _known_events(candidates, ledger, options)
    issued = dict(iter(ledger.groupby("event_id")))
    alerts = []
    for k, row in enumerate(candidates.to_dict("records")):
        before = issued.get(events[k], ledger[:0])
        kind = _kind(row, before, options)
        if kind:
            events[k] = events[k] or row["candidate_id"]
            last = before["alert_id"].iloc[-1] if len(before) else ""
            alerts.append((k, Alert(f"{events[k]}.{len(before) + 1}", events[k], len(before) + 1, kind, last)))
    return alerts, events


def _known_events(candidates, ledger, options):
    """Event of each candidate that an issued alert is about: the most significant match in position, else empty."""
    events = np.full(len(candidates), "", object)
    ra, dec, ra_issued, dec_issued = (f[c].to_numpy() for f in (candidates, ledger) for c in ("ra_deg", "dec_deg"))
    i, j, _ = crossmatch.match(ra, dec, ra_issued, dec_issued, 60 * options["same_radius_arcmin"])
    offsets = geometry.tangent_offsets(ra[i], dec[i], ra_issued[j], dec_issued[j])
    sigma = np.zeros(len(i))
    for offset, name in zip(offsets, ("ra_err_arcsec", "dec_err_arcsec"), strict=True):
        sigma = np.hypot(sigma, offset / np.hypot(candidates[name].to_numpy()[i], ledger[name].to_numpy()[j]))
    order = np.lexsort((j, -sigma))
    order = order[sigma[order] < options["same_sigma"]]
    events[i[order]] = ledger["event_id"].to_numpy(object)[j[order]]
    return events


def _kind(row, before, options):
    """Kind of the alert that a candidate asks for, given those before; empty for none."""
    if not row["confirmed"]:
        return "retraction" if len(before) and before["kind"].iloc[-1] != "retraction" else ""
    if row["class"] not in options["classes"]:
        return ""
    if before.empty:
        return "initial"
    if before["kind"].iloc[-1] == "retraction" or before["class"].iloc[-1] != row["class"]:
        return "update"
    apart = np.min(np.abs(before["time_unix_s"] - row["time_unix_s"]))
    return "subsequent" if row["class"] in _REPEATING and apart >= 3600 * options["repeat_gap_h"] else ""


# ---- saying it --------------------------------------------------------------------------------------


def issue(candidates, measurements, options, *, now=None):
    """Write the alerts that are due to the archive, and send them if ``send`` says how.

    Parameters
    ----------
    candidates, measurements : pandas.DataFrame
        Tables of these names; of the measurements those of kind ``confirm``.
    options : mapping
        Section ``export_alerts``.
    now : function, optional
        Gives the time of issue; UTC of the clock if not given. Only asked where alerts are sent.

    Returns
    -------
    pandas.DataFrame
        Ledger of all alerts issued about these candidates: what has just been written and what was before.

    Raises
    ------
    AlertError
        If a command of ``send`` failed: all other alerts are sent, the next run tries again. An alert may so arrive
        twice, under one name.
    """
    ledger, archive = read_ledger(options["archive"]), Path(options["archive"])
    alerts, events = decide(candidates, ledger, options)
    curves = dict(iter(measurements[measurements["kind"] == "confirm"].groupby("source_id")))
    failed = _retry(ledger, archive, options)
    for k, alert in alerts:
        candidate = candidates.iloc[k].to_dict()
        curve = curves.get(candidate["candidate_id"], measurements[:0])
        date = (now or _clock)() if options["send"] else None
        _write(archive, candidate, curve, alert, options, date)
        state = _send(archive, alert.alert_id, options)
        failed += state == "failed"
        ledger = pd.concat([ledger, _entry(candidate, alert, state)], ignore_index=True)
        _write_ledger(archive, ledger)
        _log.info("%s: %s alert %s, %s", candidate["candidate_id"], alert.kind, alert.alert_id, state)
    if failed:
        raise AlertError(f"{failed} alerts could not be sent, see the messages above; run again to try them again")
    return ledger[ledger["event_id"].isin(set(events) - {""})].reset_index(drop=True)


def _clock():
    return datetime.now(UTC)


def _entry(candidate, alert, state):
    given = {"alert_id": alert.alert_id, "event_id": alert.event_id, "version": alert.version, "kind": alert.kind}
    row = candidate | given | {"state": state}
    return pd.DataFrame({name: pd.Series([row[name]], dtype=kind) for name, kind in _LEDGER_COLUMNS.items()})


def _paths(archive, alert_id):
    return {"voevent": Path(archive, f"{alert_id}.xml"), "notice": Path(archive, f"{alert_id}.json")}


def _write(archive, candidate, curve, alert, options, date):
    """Both files of an alert."""
    paths = _paths(archive, alert.alert_id)
    freq = curve.loc[curve["map_id"] == candidate["map_id"], "freq_ghz"]
    found = packets.notice(candidate, freq.iloc[0] if len(freq) else np.nan, alert, options, date=date)
    texts = {
        "voevent": packets.voevent(candidate, curve, alert, options, date=date),
        "notice": (json.dumps(found, indent=2, ensure_ascii=False) + "\n").encode(),
    }
    for form, path in paths.items():
        with store.atomic_path(path) as temporary:
            temporary.write_bytes(texts[form])


def _write_ledger(archive, ledger):
    with store.atomic_path(Path(archive, LEDGER)) as temporary:
        ledger.to_csv(temporary, index=False, lineterminator="\n")


def _send(archive, alert_id, options):
    """Run the commands for one alert; the state it is in then: written (none to run), sent or failed."""
    paths = {form: str(path) for form, path in _paths(archive, alert_id).items()}
    for command in options["send"]:
        words = [word.format(**paths) for word in command]
        try:
            subprocess.run(words, check=True, capture_output=True, text=True, timeout=options["send_timeout_s"])
        except (OSError, subprocess.SubprocessError) as error:
            _log.error("%s: not sent by %s: %s %s", alert_id, words[0], error, getattr(error, "stderr", None) or "")
            return "failed"
    return "sent" if options["send"] else "written"


def _retry(ledger, archive, options):
    """Send once more what failed before, and note what worked; the number of alerts that failed again."""
    if not options["send"]:
        return 0
    waiting = np.flatnonzero(ledger["state"] == "failed")
    for k in waiting:
        ledger.loc[k, "state"] = _send(archive, ledger["alert_id"][k], options)
        _write_ledger(archive, ledger)
    return int((ledger["state"].iloc[waiting] == "failed").sum())
