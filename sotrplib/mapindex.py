"""The list of maps to process: read from a table or found in a directory, one row a map.

A row is a dict of text with the keys ``COLUMNS``. Standard library only: the Snakefile imports this at every call.
"""

import csv
import math
import os
import re
from functools import cache
from pathlib import Path

REQUIRED = ("map_id", "instrument", "array", "band", "form", "map_path", "weight_path")
OPTIONAL = ("time_path", "info_path", "unit", "time_unix_s", "gain")
COLUMNS = REQUIRED + OPTIONAL
PATHS = ("map_path", "weight_path", "time_path", "info_path")
FORMS = ("intensity_ivar", "rho_kappa", "flux_snr", "flux_rms")
MAP_ID = r"[a-z0-9]+_[a-z0-9]+_[a-z0-9]+_[0-9]+"

_DEPTH1 = re.compile(r"depth1_(?P<time>\d+)_(?P<array>[a-z0-9]+)_(?P<band>[a-z0-9]+)_(?P<kind>map|rho)\.fits")


class MapTableError(ValueError):
    """A map table or map directory that cannot be used; names file, line, what was found and the cure."""


def read_map_table(path, data_dir=""):
    """Read a map table (CSV with a header; lines that start with # are comments).

    Parameters
    ----------
    path : path
    data_dir : str
        Replaces ``{data_dir}`` in the path columns.

    Returns
    -------
    list of dict
        In the order of the table; columns it leaves out are empty.

    Raises
    ------
    MapTableError
        If the file is missing, or a row does not pass :func:`check_rows`.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise MapTableError(f"{path}: cannot be read ({error}); give the map table in `maps: table`") from error
    numbered = [(n, line) for n, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
    reader = csv.reader(line for _, line in numbered)
    try:
        cells = [([cell.strip() for cell in row], numbered[reader.line_num - 1][0]) for row in reader]
    except csv.Error as error:
        raise MapTableError(f"{path}: is no CSV ({error}); expected one row a line") from error
    if not cells:
        raise MapTableError(f"{path}: is empty; expected a header line {','.join(COLUMNS)}")
    header = cells[0][0]
    _check_header(path, header)
    for row, number in cells[1:]:
        if len(row) != len(header):
            raise MapTableError(f"{path} line {number}: has {len(row)} cells; expected {len(header)} as in the header")
    rows = [{**dict.fromkeys(COLUMNS, ""), **dict(zip(header, row, strict=True))} for row, _ in cells[1:]]
    check_rows(rows, source=path, numbers=[number for _, number in cells[1:]])
    return [_with_data_dir(row, data_dir, path) for row in rows]


def check_roots(rows, roots, source):
    """Make sure that every file of a map table is below one of the folders that it may name files in.

    Parameters
    ----------
    rows : list of dict
    roots : list of path
        These folders; those below the working directory are allowed without them. A path with ``..`` counts as what
        it leads to, links followed; others as they are written, so a link inside a root may lead out of it.
    source : path or str
        Named in messages.

    Raises
    ------
    MapTableError
        At the first file outside of them.
    """
    folders = [os.path.expanduser(root) for root in (".", *filter(None, roots))]
    allowed = [os.path.join(form(root), "") for root in folders for form in (os.path.abspath, os.path.realpath)]
    for row in rows:
        for name in PATHS:
            path = row[name]
            climbs = ".." in path
            if "\0" in path or (climbs or path.startswith(("/", "~"))) and not _below(path, tuple(allowed), climbs):
                raise MapTableError(
                    f"{source}: {row['map_id']}: {name} {path!r} is outside of the working directory, data_dir (or "
                    "mapcat's folder) and maps.roots; correct it, or add its folder to maps.roots"
                )


def _below(path, allowed, climbs):
    full = os.path.expanduser(path)  # as Snakemake does
    return (os.path.realpath(full) if climbs else os.path.abspath(full)).startswith(allowed)


@cache
def is_made(path):
    """Whether a path is written by a rule of the workflow."""
    return Path(path).parts[:1] == ("results",)


def outside_files(row):
    """Files of a map that no rule makes."""
    return [row[name] for name in PATHS if row[name] and not is_made(row[name])]


def select(rows, options):
    """Rows of the maps that are wanted, in the order given.

    Parameters
    ----------
    rows : list of dict
    options : mapping
        ``arrays``, ``bands``: only these, empty for all; ``exclude``: map_ids left out; ``time_min_unix_s``,
        ``time_max_unix_s``: limits on the time in the map_id, None for none; ``n_max``: only the first so many.
    """
    low = -math.inf if options["time_min_unix_s"] is None else options["time_min_unix_s"]
    high = math.inf if options["time_max_unix_s"] is None else options["time_max_unix_s"]
    wanted = [
        row
        for row in rows
        if row["map_id"] not in options["exclude"]
        and (not options["arrays"] or row["array"] in options["arrays"])
        and (not options["bands"] or row["band"] in options["bands"])
        and low <= int(row["map_id"].rsplit("_", 1)[1]) <= high
    ]
    return wanted[: options["n_max"]]


def write_map_table(path, rows):
    """Write rows as a map table."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        write_rows(file, rows)


def write_rows(file, rows):
    """Write rows as a map table into an open text file."""
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def discover_depth1(directory, instrument):
    """Find depth-1 maps by their names, in a directory and its subdirectories (one level).

    ``depth1_{time}_{array}_{band}_map.fits`` with ``_ivar`` (preferred), else ``_rho`` with ``_kappa``; ``_time.fits``
    and ``_info.hdf`` beside them where present. The weight is listed whether it exists or not, so that a map without
    one is reported as such when it is read.

    Parameters
    ----------
    directory : path
    instrument : str
        Name in the instrument file; also the first part of each ``map_id``.

    Returns
    -------
    list of dict
        Rows sorted by map_id.

    Raises
    ------
    MapTableError
        If the directory does not exist or holds no such map, or two files make the same map_id.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise MapTableError(f"{directory}: no such directory; give the one that holds the maps in `maps: directory`")
    files = sorted([*directory.glob("depth1_*.fits"), *directory.glob("*/depth1_*.fits")])
    named = [(path, match) for path in files if (match := _DEPTH1.fullmatch(path.name))]
    with_map = {_stem(path) for path, match in named if match["kind"] == "map"}
    rows = [
        _depth1_row(path, match, instrument)
        for path, match in named
        if match["kind"] == "map" or _stem(path) not in with_map
    ]
    if not rows:
        expected = "depth1_{time}_{array}_{band}_map.fits (or _rho.fits)"
        raise MapTableError(f"{directory}: holds no file named {expected}, here or one level down")
    rows.sort(key=lambda row: row["map_id"])
    check_rows(rows, source=directory)
    return rows


def check_rows(rows, source="map table", numbers=None):
    """Check rows of a map table.

    Parameters
    ----------
    rows : list of dict
    source : path or str
        Named in messages.
    numbers : list of int, optional
        Line of each row in its file; row numbers if not given.

    Raises
    ------
    MapTableError
        At the first row with missing or unknown columns, an empty required cell, a map_id of another pattern or that
        disagrees with its instrument, array and band, an unknown form, a bad number, or a duplicate map_id.
    """
    seen = {}
    for index, row in enumerate(rows):
        where = f"{source} line {numbers[index]}" if numbers else f"{source} row {index + 1}"
        _check_header(where, row)
        _check_row(where, row)
        if row["map_id"] in seen:
            raise MapTableError(f"{where}: map_id {row['map_id']!r} is also at {seen[row['map_id']]}; remove one")
        seen[row["map_id"]] = where


def _check_header(where, names):
    missing = [name for name in REQUIRED if name not in names]
    unknown = [name for name in names if name not in COLUMNS]
    repeated = sorted({name for name in names if list(names).count(name) > 1})
    if missing or unknown or repeated:
        raise MapTableError(
            f"{where}: missing columns {missing}, unknown columns {unknown}, repeated columns {repeated}; "
            f"required are {', '.join(REQUIRED)}, optional {', '.join(OPTIONAL)}"
        )


def _check_row(where, row):
    empty = [name for name in REQUIRED if not row[name]]
    if empty:
        raise MapTableError(f"{where}: {', '.join(empty)} empty; fill in")
    start = f"{row['instrument']}_{row['array']}_{row['band']}_"
    if not re.fullmatch(MAP_ID, row["map_id"]) or not row["map_id"].startswith(start):
        raise MapTableError(
            f"{where}: map_id {row['map_id']!r}; expected {start}<unix time>, lower-case letters and digits "
            "joined by underscores"
        )
    if row["form"] not in FORMS:
        raise MapTableError(f"{where}: form {row['form']!r}; expected one of {', '.join(FORMS)}")
    _check_number(where, row, "time_unix_s", low=-math.inf)
    _check_number(where, row, "gain", low=0.0)


def _check_number(where, row, name, *, low):
    text = row.get(name, "")
    try:
        good = not text or low < float(text) < math.inf
    except ValueError:
        good = False
    if not good:
        kind = "a positive number" if low == 0 else "a number"
        raise MapTableError(f"{where}: {name} is {text!r}; expected {kind} or nothing")


def _with_data_dir(row, data_dir, source):
    if not data_dir and any("{data_dir}" in row[name] for name in PATHS):
        raise MapTableError(
            f"{source}: {row['map_id']} uses {{data_dir}}, which is not set; give --config data_dir=..."
        )
    return {**row, **{name: row[name].replace("{data_dir}", str(data_dir)) for name in PATHS}}


def _stem(path):
    return str(path).rpartition("_")[0]


def _depth1_row(path, match, instrument):
    stem, raw = _stem(path), match["kind"] == "map"
    optional = {"time_path": f"{stem}_time.fits", "info_path": f"{stem}_info.hdf"}
    return {
        "map_id": f"{instrument}_{match['array']}_{match['band']}_{int(match['time'])}",
        "instrument": instrument,
        "array": match["array"],
        "band": match["band"],
        "form": "intensity_ivar" if raw else "rho_kappa",
        "map_path": str(path),
        "weight_path": f"{stem}_ivar.fits" if raw else f"{stem}_kappa.fits",
        **{name: value if Path(value).is_file() else "" for name, value in optional.items()},
        "unit": "",
        "time_unix_s": "",
        "gain": "",
    }
