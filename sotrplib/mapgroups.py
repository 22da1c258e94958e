"""Which maps belong together: observations, and the groups that are coadded.

Standard library only: the Snakefile imports this at every call. Times are those in the map_ids.
"""

import csv
import math
import re
from pathlib import Path
from typing import NamedTuple

from sotrplib.mapindex import MAP_ID

COADD_ARRAY, JOINT_ARRAY, DIFFERENCE_ARRAY = "coadd", "joint", "diff"  # the array in the id begins with this
FOUND_BY = {COADD_ARRAY: "coadd", JOINT_ARRAY: "joint", DIFFERENCE_ARRAY: "difference"}
ALL_BANDS = "multi"  # the band of maps of several
COADD_ID = rf"[a-z0-9]+_{COADD_ARRAY}[a-z0-9]*_[a-z0-9]+_[0-9]+"
SINGLE_ID = rf"(?![a-z0-9]+_({'|'.join(FOUND_BY)})){MAP_ID}"
_DAY_S = 86400


class Coadd(NamedTuple):
    """map_ids of the maps of a coadd in the order of time, and spectral index that links their bands."""

    members: list
    spectral_index: float = 0.0


class GroupError(ValueError):
    """Groups of maps that cannot be made; names key or file, what was found and the cure."""


def observations(rows, gap_s):
    """Maps of one instrument that began together.

    Parameters
    ----------
    rows : iterable of mapping
        Rows of the map table.
    gap_s : float
        An observation holds the maps that began no later than this after the first of it.

    Returns
    -------
    dict of str to list of str
        map_ids in the order of time, by the id of the observation: ``{instrument}_joint_multi_{time of the first}``.
    """
    return {
        f"{instrument}_{JOINT_ARRAY}_{ALL_BANDS}_{_time(ids[0])}": ids
        for instrument, group in _split(rows, ("instrument",)).items()
        for ids in _runs(group, gap_s, chained=False)
    }


def coadds(rows, options):
    """Maps of each coadd.

    Parameters
    ----------
    rows : iterable of mapping
        Rows of the map table.
    options : mapping
        Section ``coadd_maps`` of the configuration: ``groups``, each of name, bin_days, gap_s, per_array, per_band and
        spectral_index, and ``table``, the path of a group table (see :func:`read_group_table`) or nothing.

    Returns
    -------
    dict of str to Coadd
        By the map_id of the coadd: ``{instrument}_coadd{name}{array}_{band}_{time}``, time the beginning of the bin or
        of the first map, band ``multi`` and no array where there are several of them.

    Raises
    ------
    GroupError
        If two groups make one coadd, or the table is not usable.
    """
    rows, found = list(rows), {}
    parts = [_group(rows, group) for group in options["groups"]]
    if options["table"]:
        parts.append(read_group_table(options["table"], {row["map_id"] for row in rows}))
    for part in parts:
        twice = sorted(set(found) & set(part))
        if twice:
            raise GroupError(f"coadd_maps: {twice[0]} is made twice; give each group a name of its own")
        found |= part
    return found


def found_by(map_id):
    """What searched the map of this id: map (a search of that map alone), coadd, joint or difference."""
    array = (map_id.split("_") + [""])[1]
    return next((name for start, name in FOUND_BY.items() if array.startswith(start)), "map")


class Difference(NamedTuple):
    """A map to be searched for changes: its map_id, those of the other epochs, and the coadd used in their place."""

    map_id: str
    others: list
    reference: str = ""


def differences(map_ids, groups, options):
    """Maps that have a reference.

    Parameters
    ----------
    map_ids : iterable of str
    groups : mapping of str to list of str
        What :func:`observations` returned.
    options : mapping
        Section ``search_difference``: ``reference``, the word others or the path of a coadd with {instrument}, {array}
        and {band} in it, and ``same_array``.

    Returns
    -------
    dict of str to Difference
        By the id of the difference, ``{instrument}_diff{array}_{band}_{time}``.
    """
    if options["reference"] == "others":
        epochs = other_epochs(map_ids, groups, same_array=options["same_array"])
        return {_difference_id(map_id): Difference(map_id, ids) for map_id, ids in epochs.items() if ids}
    return {
        _difference_id(map_id): Difference(map_id, [], _fill_in(options["reference"], map_id)) for map_id in map_ids
    }


def other_epochs(map_ids, groups, *, same_array=True):
    """For each map those of the same instrument and band, and array if asked, that belong to other observations.

    Parameters
    ----------
    map_ids : iterable of str
    groups : mapping of str to list of str
        What :func:`observations` returned.
    same_array : bool

    Returns
    -------
    dict of str to list of str
        In the order of time.
    """
    alike = {}
    for group, ids in groups.items():
        for map_id in ids:
            alike.setdefault(_labels(map_id, same_array), []).append((group, map_id))
    own = {map_id: group for group, ids in groups.items() for map_id in ids}
    return {
        map_id: [other for group, other in alike[_labels(map_id, same_array)] if group != own[map_id]]
        for map_id in map_ids
    }


def read_group_table(path, known):
    """Groups from a CSV file with the columns ``coadd`` (map_id of the coadd) and ``map_id`` (one of its maps).

    Lines that start with # are comments. Maps that are not among the ``known`` are left out: they may not be selected.

    Raises
    ------
    GroupError
        If the file cannot be read, lacks a column, or the map_id of a coadd is not of the form COADD_ID.
    """
    try:
        lines = [line for line in Path(path).read_text().splitlines() if line.strip() and not line.startswith("#")]
    except (OSError, UnicodeDecodeError) as error:
        raise GroupError(f"{path}: cannot be read ({error}); correct coadd_maps.table") from error
    found = {}
    for row in csv.DictReader(lines):
        if not {"coadd", "map_id"} <= set(row):
            raise GroupError(f"{path}: columns are {', '.join(map(str, row))}; expected coadd and map_id")
        if not re.fullmatch(COADD_ID, row["coadd"].strip()):
            raise GroupError(f"{path}: coadd {row['coadd']!r}; expected {{instrument}}_coadd{{name}}_{{band}}_{{time}}")
        found.setdefault(row["coadd"].strip(), set()).add(row["map_id"].strip())
    kept = {name: sorted(ids & set(known), key=_order) for name, ids in sorted(found.items())}
    return {name: Coadd(ids) for name, ids in kept.items() if ids}


def _group(rows, group):
    """Coadds of one rule."""
    if group["bin_days"] is not None and group["gap_s"] is not None:
        raise GroupError(f"coadd_maps: group {group['name']} has bin_days and gap_s; expected one of them or none")
    keys = ["instrument", *(["array"] if group["per_array"] else []), *(["band"] if group["per_band"] else [])]
    found = {}
    for labels, part in _split(rows, keys).items():
        named = dict(zip(keys, labels.split("_"), strict=True))
        array, band = f"{COADD_ARRAY}{group['name']}{named.get('array', '')}", named.get("band", ALL_BANDS)
        for start, ids in _bins(part, group):
            found[f"{named['instrument']}_{array}_{band}_{start}"] = Coadd(ids, group["spectral_index"])
    return found


def _bins(rows, group):
    """Pairs of the time in the name and the map_ids."""
    if group["bin_days"] is None:
        gap = math.inf if group["gap_s"] is None else group["gap_s"]
        return [(_time(ids[0]), ids) for ids in _runs(rows, gap, chained=True)]
    width, bins = group["bin_days"] * _DAY_S, {}
    for map_id in sorted((row["map_id"] for row in rows), key=_order):
        bins.setdefault(int(_time(map_id) // width * width), []).append(map_id)
    return list(bins.items())


def _runs(rows, gap_s, *, chained):
    """map_ids in runs: a new one where a map began more than the gap after the last (chained) or first of the run."""
    runs = []
    for map_id in sorted((row["map_id"] for row in rows), key=_order):
        if not runs or _time(map_id) - _time(runs[-1][-1 if chained else 0]) > gap_s:
            runs.append([])
        runs[-1].append(map_id)
    return runs


def _split(rows, keys):
    """Rows by their labels, joined by underscores."""
    groups = {}
    for row in rows:
        groups.setdefault("_".join(row[key] for key in keys), []).append(row)
    return groups


def _difference_id(map_id):
    instrument, array, band, time = map_id.split("_")
    return f"{instrument}_{DIFFERENCE_ARRAY}{array}_{band}_{time}"


def _fill_in(path, map_id):
    """A path with the labels of a map in it."""
    for key, value in zip(("instrument", "array", "band"), map_id.split("_"), strict=False):
        path = path.replace(f"{{{key}}}", value)
    return path


def _labels(map_id, same_array):
    instrument, array, band, _ = map_id.split("_")
    return (instrument, band, array) if same_array else (instrument, band)


def _time(map_id):
    return int(map_id.rpartition("_")[2])


def _order(map_id):
    return _time(map_id), map_id
