"""Tables that a run reads from services once, and everything else from then on: the maps, the known sources.

Standard library only, and no client of any service: the Snakefile imports this at every call. The list of maps must
be known before the first job, so it is read by a process of its own when it is not there yet or the configuration
asks for other maps; delete the file to have it read again. The sources are read by a rule.
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

MAPS = "results/inputs/mapcat.csv"
SOURCES = "results/inputs/socat.csv"
MOVING = "results/inputs/socat_moving.csv"
SOURCE_COLUMNS = {
    "ra_deg": "ra_deg",
    "dec_deg": "dec_deg",
    "flux": "flux_mjy",
    "flux_err": None,
    "name": "name",
    "spectral_index": None,
}
_MARK = "# selection "


class SnapshotError(RuntimeError):
    """A service could not be read; says why."""


def use_sources(config):
    """The configuration with the snapshot of socat as catalogue and ephemeris, if it asks for socat."""
    if config["catalog"]["kind"] != "socat":
        return config
    form = {"path": SOURCES, "format": "csv", "columns": SOURCE_COLUMNS, "flux_unit": "mJy"}
    ephemerides = config["ephemerides"]
    tables = [path for path in ephemerides["tables"] if path != MOVING] + [MOVING]
    return config | {"catalog": config["catalog"] | form, "ephemerides": ephemerides | {"tables": tables}}


def read_maps(options):
    """Make the snapshot of the map table if need be.

    Parameters
    ----------
    options : dict
        Section ``maps`` of the configuration.

    Returns
    -------
    str
        Path of a map table.

    Raises
    ------
    SnapshotError
        If mapcat cannot be read; nothing is written then.
    """
    asked = {key: options[key] for key in ("mapcat", "select", "instrument", "box", "roots")}
    if mark(asked) != _first_line(MAPS):
        command = [sys.executable, "-m", "sotrplib.connectors.mapcat", MAPS]
        done = subprocess.run(command, input=json.dumps(asked), text=True, capture_output=True, check=False)
        if done.returncode:
            raise SnapshotError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "mapcat: no answer")
    return MAPS


def mark(asked):
    """First line of a snapshot that holds the maps asked for."""
    text = json.dumps(asked, sort_keys=True)
    return _MARK + hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _first_line(path):
    try:
        with open(Path(path)) as file:
            return file.readline().rstrip("\n")
    except OSError:
        return ""
