"""Closed periods: nights whose maps are finished for good, kept in one file and no longer jobs of the workflow.

A period is the beginning of a date in UTC, ``2025``, ``2025-10`` or ``2025-10-10``, and holds the maps, and the
searches of several maps, whose time in the map_id begins so. ``results/periods/{period}.h5`` holds what the merges read
of each of them, a group ``{stage}/{map_id}.h5`` in place of the file ``results/{stage}/{map_id}.h5``; the filtered maps
themselves stay where they are, with only their attributes in it. ``results/periods/{period}.csv`` lists the maps as a
map table. Standard library only, but for what opens files: the Snakefile imports this.
"""

from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from sotrplib.mapindex import MapTableError, read_map_table

FOLDER = "results/periods"
PERIOD = r"[0-9]{4}(?:-[0-9]{2}(?:-[0-9]{2})?)?"
# Folder of results by the name that jobs of all maps give to its files; searches of several maps have folders by kind.
STAGES = {"maps": "preprocessed", "pointing": "pointing", "forced": "forced_photometry", "detections": "detections"}
STAGES |= {"sifted": "sifted", "searches": "searches"}


@cache
def date_of(map_id):
    """Date of a map in UTC, as text, from the time in its map_id."""
    return datetime.fromtimestamp(int(map_id.rpartition("_")[2]), UTC).date().isoformat()


def is_in(map_id, periods):
    """Whether a map belongs to one of the periods."""
    return bool(periods) and date_of(map_id).startswith(tuple(periods))


def require_complete(rows, sealed):
    """Make sure that sealed periods hold the maps that the map table lists in them, no fewer and no more.

    Parameters
    ----------
    rows : mapping of str to mapping
        Rows of the map table by map_id.
    sealed : list of str
        Periods.

    Raises
    ------
    MapTableError
        If a period has no file or is part of another, if maps came or went since it was sealed, or if no map is open;
        names them and says what to do.
    """
    if rows and sealed and all(is_in(map_id, sealed) for map_id in rows):
        raise MapTableError(f"maps.sealed: all {len(rows)} maps are sealed; leave the last period open")
    for period in sealed:
        _require_own(period, sealed)
        listed = Path(FOLDER, f"{period}.csv")
        cure = f"take {period} out of maps.sealed, run snakemake --cores all {FOLDER}/{period}.h5, and put it back"
        if not listed.exists():
            raise MapTableError(f"maps.sealed: {listed} does not exist; {cure}")
        known = {row["map_id"] for row in read_map_table(listed, "{data_dir}")}
        wanted = {map_id for map_id in rows if is_in(map_id, [period])}
        if known != wanted:
            raise MapTableError(
                f"maps.sealed: {period} was sealed without {sorted(wanted - known)[:5]} and with "
                f"{sorted(known - wanted)[:5]}, unlike the map table; {cure}"
            )


def _require_own(period, sealed):
    whole = [other for other in sealed if other != period and period.startswith(other)]
    if whole or sealed.count(period) > 1:
        raise MapTableError(f"maps.sealed: {period} is named twice, or within {whole}; leave one of them out")


def require_whole(groups, sealed):
    """Make sure that no coadd that was sealed has members that are open.

    Parameters
    ----------
    groups : mapping of str to Coadd
        Coadds whose detections are merged.
    sealed : list of str

    Raises
    ------
    MapTableError
        At the first that would grow after it was sealed.
    """
    for map_id, group in groups.items():
        left = [member for member in group.members if not is_in(member, sealed)]
        if is_in(map_id, sealed) and left:
            raise MapTableError(
                f"maps.sealed: the coadd {map_id} began in a sealed period and grows, with {left[:3]}; "
                "choose coadd_maps.groups that end with a period, or set coadd_maps.add_candidates: false"
            )


def open_pattern(sealed):
    """Regular expression of the periods that may be sealed: those that are not yet."""
    return rf"(?!(?:{'|'.join(sealed)})\.){PERIOD}" if sealed else PERIOD


def seal(path, inputs):
    """Write the file of a period.

    Parameters
    ----------
    path : path
        Final name.
    inputs : mapping of str to list of path
        Files by the names of :data:`STAGES`, each named by its map_id.
    """
    from sotrplib import store

    files = {f"{stage}/{Path(path).name}": path for name, stage in STAGES.items() for path in inputs[name]}
    store.bundle(path, files, without_data={name for name in files if name.startswith("preprocessed/")})


def all_files(inputs):
    """Files of all maps, open and sealed.

    Parameters
    ----------
    inputs : mapping of str to list of path
        Inputs of a job: files of the open maps by any of the names of :data:`STAGES`, ``maps`` among them, and
        ``sealed``, the files of sealed periods.

    Returns
    -------
    dict of str to list of str
        The same names without ``sealed``, files sorted by map_id, and ``filtered``, the filtered maps themselves, where
        ``maps`` may have their attributes alone. Parts of a file of a period are named as if it were a folder, which
        :mod:`store` understands.
    """
    from sotrplib import store

    found = {name: [str(path) for path in inputs[name]] for name in STAGES if name in inputs.keys()}  # noqa: SIM118
    if "maps" in found:
        found["filtered"] = list(found["maps"])
    for period in inputs["sealed"]:
        for name in found.keys() - {"filtered"}:
            found[name] += [f"{period}/{STAGES[name]}/{part}" for part in store.list_names(period, STAGES[name])]
        if "maps" in found:
            found["filtered"] += [f"results/preprocessed/{part}" for part in store.list_names(period, STAGES["maps"])]
    return {name: sorted(paths, key=_map_id) for name, paths in found.items()}


def _map_id(path):
    return Path(path).stem
