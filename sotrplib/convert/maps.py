"""Maps of an old configuration: a list of files, a database, or maps to simulate."""

import math
import re
from pathlib import Path

from sotrplib import mapindex
from sotrplib.convert.draft import (
    NOT_GIVEN,
    Refuse,
    To,
    Unneeded,
    apply_rules,
    duration_s,
    quantity,
    tidy,
    truth,
    unix_time,
)

INSTRUMENTS = {
    "solat": "solat",
    "lat": "solat",
    "act": "act",
    "actpol": "act",
    "advact": "act",
    "spt": "spt",
    "spt3g": "spt",
    "sat1": "sosat",
    "sat2": "sosat",
    "sat3": "sosat",
}
FORMS = {"filtered": "rho_kappa", "inverse_variance": "intensity_ivar", "flux_and_snr": "flux_snr"}
_PRODUCTS = {"intensity": "intensity_ivar", "flux": "flux_snr", "rhokappa": "rho_kappa"}
_NO_COADDS = "coadds of mapcat are not read: list their files in a map table, or have them made by coadd_maps.groups"
_PATHS = {
    "intensity_map_path": "map_path",
    "rho_map_path": "map_path",
    "flux_map_path": "map_path",
    "weights_map_path": "weight_path",
    "kappa_map_path": "weight_path",
    "snr_map_path": "weight_path",
    "time_map_path": "time_path",
    "info_path": "info_path",
}
_UNITS = {
    "inverse_variance": ("intensity_units", "K"),
    "filtered": ("flux_units", "Jy"),
    "flux_and_snr": ("flux_units", "Jy"),
}
_DEFAULT_BAND, _DEFAULT_ARRAY = "f090", "pa5"
_SIMULATED = ("simulated", "simulated_geometry")
_LABELS = ("frequency", "array", "band", "instrument")
_BOXES = ("sky_box", "box")


def convert_maps(draft, given, instrument):
    """Maps of a run, into rows of a map table or a selection.

    Parameters
    ----------
    draft : Draft
    given : list or dict
        The option ``maps``: maps, or one generator of maps.
    instrument : str or None
        The option ``instrument`` of the whole configuration.
    """
    if isinstance(given, dict):
        generator = given.get("map_generator_type")
        known = {"sim_map_generator": _simulated_series, "mapcat_database": _database}
        if generator in known:
            known[generator](draft, given, instrument)
        else:
            draft.refuse("maps", given, f"{generator}: known are {', '.join(known)}; {_NO_COADDS}")
        return
    for n, entry in enumerate(given):
        where = f"maps[{n}]"
        kind = entry.get("map_type")
        if kind in FORMS:
            for name, box in _file_map(draft, where, entry, instrument).items():
                _box(draft, f"{where}.{name}", box)
        elif kind in _SIMULATED:
            _simulated_map(draft, where, entry, instrument)
        else:
            draft.refuse(where, entry, f"map_type {kind!r}; known: {', '.join([*FORMS, *_SIMULATED])}")


def _file_map(draft, where, entry, instrument):
    """Row of the map table for a map in files; what it says of a box, if anything."""
    kind, row = entry["map_type"], dict.fromkeys(mapindex.COLUMNS, "")
    row |= _labels(draft, where, entry, instrument) | {"form": FORMS[kind]}
    draft.column(row, "form", FORMS[kind], f"{where}.map_type", kind)
    unit_name, default = _UNITS[kind]
    unit = entry.get(unit_name)
    draft.column(
        row, "unit", unit or default, f"{where}.{unit_name}" + ("" if unit else " (default)"), unit or NOT_GIVEN
    )
    rules = {
        "observation_start": lambda d, option, found: d.column(
            row, "time_unix_s", _text(unix_time(found)), option, found
        ),
        "observation_end": Unneeded("the time map says when each pixel was observed"),
    }
    for old, ours in _PATHS.items():
        rules[old] = lambda d, option, found, ours=ours: d.column(row, ours, found, option, found)
    apply_rules(draft, where, entry, rules, done=("map_type", unit_name, *_LABELS, *_BOXES))
    _name(draft, where, row)
    return {name: entry[name] for name in _BOXES if entry.get(name)}


def _labels(draft, where, entry, instrument):
    """Instrument, array and band. Early versions called the array `band`; the band was always `frequency`."""
    array = str(entry.get("array") or entry.get("band") or _DEFAULT_ARRAY).lower()
    found = entry.get("instrument") or (None if array.startswith("pa") else instrument)
    name = INSTRUMENTS.get(str(found).lower()) or ("act" if array.startswith("pa") else "solat")
    labels = {"instrument": name, "array": "spt3g" if name == "spt" else array, "band": band(entry.get("frequency"))}
    for ours, old in (
        ("instrument", "instrument"),
        ("array", "array" if entry.get("array") else "band"),
        ("band", "frequency"),
    ):
        given = entry.get(old)
        option = f"{where}.{old}" if given else f"{where}.{old} (default)"
        draft.note(option, given or NOT_GIVEN, f"map table, {ours} {labels[ours]}")
    return labels


def band(found):
    """Our name of a band from ``f090``, ``90GHz``, ``90`` or nothing."""
    digits = re.sub(r"\D", "", str(found or ""))
    return f"f{int(digits):03d}" if digits else _DEFAULT_BAND


def _name(draft, where, row):
    """Give a row its map_id, by the time in the name of its file, else by the start of the observation."""
    stamp = re.search(r"depth1_(\d+)_", Path(row["map_path"]).name)
    time = stamp[1] if stamp else row["time_unix_s"].split(".")[0]
    if not time:
        draft.refuse(
            where,
            row["map_path"],
            "no time in the file's name and no observation_start: add the map to the map table by hand",
        )
        return
    row["map_id"] = f"{row['instrument']}_{row['array']}_{row['band']}_{int(time)}"
    try:
        mapindex.check_rows([*draft.rows, row], source="map table")
    except mapindex.MapTableError as error:
        draft.refuse(where, row["map_path"], str(error))
    else:
        draft.rows.append(row)


def _box(draft, option, found):
    """One box for all maps, as ours has it."""
    try:
        draft.put("maps.box", _corners(found), option, found)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        draft.refuse(option, found, f"cannot be read ({error!r}); give maps.box")


def _corners(found):
    """Box of the sky from two corners: {ra, dec} each, or [[dec, ra], [dec, ra]] as pixell has it."""
    if isinstance(found, dict):
        unit = found["unit"]
        (dec0, ra0), (dec1, ra1) = [
            [quantity({"value": x, "unit": unit}, "deg") for x in corner] for corner in found["value"]
        ]
    else:
        (ra0, dec0), (ra1, dec1) = [[quantity(corner[name], "deg") for name in ("ra", "dec")] for corner in found]
    if 0 < ra0 - ra1 <= 180:  # given from left to right on the sky; a larger step is a box across RA 0
        ra0, ra1 = ra1, ra0
    low, high = sorted((dec0, dec1))
    return {"ra_min_deg": tidy(ra0), "ra_max_deg": tidy(ra1), "dec_min_deg": tidy(low), "dec_max_deg": tidy(high)}


# ---- maps to simulate ------------------------------------------------------------------------------------------------

_NOISE = Refuse("noise is in uK arcmin by band: simulate.noise_uk_arcmin")
_GEOMETRY = {
    "center_ra": To("simulate.center_ra_deg", "deg", default="16.3 deg"),
    "center_dec": To("simulate.center_dec_deg", "deg", default="-1.8 deg"),
    "resolution": To("simulate.resolution_arcmin", "arcmin", default="0.5 arcmin"),
    "map_noise": _NOISE,
}
_DEFAULT_WIDTHS = {"width_ra": "2 deg", "width_dec": "1 deg"}


def _simulated_map(draft, where, entry, instrument):
    """A simulated map becomes a row whose files the rule simulate_map makes."""
    parameters = dict(entry.get("simulation_parameters") or {})
    if entry["map_type"] == "simulated":
        _geometry(draft, f"{where}.simulation_parameters", parameters)
    labels = _labels(draft, where, entry, instrument)
    rules = {
        "observation_start": lambda d, option, found: _simulated_row(d, option, found, labels),
        "observation_end": Unneeded("a simulated map takes the time its scan needs"),
        "resolution": _GEOMETRY["resolution"],
        "geometry_source_map": To("simulate.geometry_map", kind=str),
        "time_map_filename": To("simulate.time_map", kind=str),
        "map_noise": _NOISE,
    }
    if entry["map_type"] == "simulated":
        rules = {name: rules[name] for name in ("observation_start", "observation_end")}
    draft.note(f"{where}.map_type", entry["map_type"], "map table, paths below results/simulated")
    apply_rules(draft, where, entry, rules, done=("map_type", "simulation_parameters", *_LABELS))


def _geometry(draft, where, parameters):
    """Centre, pixel and extent; the original takes its widths to either side of the centre, along RA in coordinate."""
    widths = {name: parameters.pop(name, None) or default for name, default in _DEFAULT_WIDTHS.items()}
    apply_rules(draft, where, parameters, _GEOMETRY)
    stretch = math.cos(math.radians(draft.get("simulate.center_dec_deg") or 0.0))
    for old, ours, factor in (("width_ra", "width_deg", 2 * stretch), ("width_dec", "height_deg", 2.0)):
        To(f"simulate.{ours}", "deg", factor=factor)(draft, f"{where}.{old}", widths[old])


def _simulated_series(draft, given, instrument):
    """A map every `observation_length` from `observation_start` to `observation_end`."""
    series = ("observation_start", "observation_end", "observation_length")
    missing = [name for name in series if not given.get(name)]
    if missing:
        draft.refuse("maps", given, f"{', '.join(missing)} not given")
        return
    labels = _labels(draft, "maps", given, instrument)
    start, end = (unix_time(given[name]) for name in series[:2])
    length = duration_s(given["observation_length"])
    for n in range(math.ceil((end - start) / length)):
        _append_simulated(draft, start + n * length, labels)
    for name in ("map_generator_type", *series):
        draft.note(f"maps.{name}", given[name], f"map table, {len(draft.rows)} maps below results/simulated")
    _geometry(draft, "maps.simulation_parameters", dict(given.get("simulation_parameters") or {}))
    done = ("map_generator_type", "simulation_parameters", *series, *_LABELS)
    apply_rules(draft, "maps", given, {"map_noise": _NOISE}, done=done)


def _simulated_row(draft, option, found, labels):
    map_id = _append_simulated(draft, unix_time(found), labels)
    draft.note(option, found, f"map table, map_id {map_id}")


def _append_simulated(draft, time, labels):
    map_id = f"{labels['instrument']}_{labels['array']}_{labels['band']}_{int(time)}"
    ends = {"map_path": "map.fits", "weight_path": "ivar.fits", "time_path": "time.fits", "info_path": "info.hdf"}
    paths = {column: f"results/simulated/{map_id}_{end}" for column, end in ends.items()}
    row = {"map_id": map_id, **labels, "form": "intensity_ivar", **paths, "unit": "uK"}
    draft.rows.append(dict.fromkeys(mapindex.COLUMNS, "") | row)
    if draft.get("simulate.start_unix_s") is None:
        draft.put("simulate.start_unix_s", time, "maps: start of the first")
    return map_id


# ---- maps from a database --------------------------------------------------------------------------------------------


def _database(draft, given, instrument):
    """A selection of maps of a mapcat database, which its environment variables name as always."""
    draft.put("maps.kind", "mapcat", "maps.map_generator_type", given["map_generator_type"])
    rules = {
        "number_to_read": To("maps.select.n_max", kind=int),
        "frequency": lambda d, option, found: d.put("maps.select.bands", [band(found)], option, found),
        "array": lambda d, option, found: d.put("maps.select.arrays", [str(found).lower()], option, found),
        "instrument": lambda d, option, found: d.put("maps.instrument", INSTRUMENTS[str(found).lower()], option, found),
        "start_time": lambda d, option, found: d.put("maps.select.time_min_unix_s", unix_time(found), option, found),
        "end_time": lambda d, option, found: d.put("maps.select.time_max_unix_s", unix_time(found), option, found),
        "sky_box": _box,
        "map_units": Unneeded("the header's BUNIT"),
        "intensity_units": Unneeded("the header's BUNIT"),
        "map_type": To("maps.mapcat.form", names=_PRODUCTS),
        "map_ids": lambda d, option, found: d.put("maps.mapcat.ids", found, option, found),
        "coadd_type": Refuse(_NO_COADDS),
        "time_binning": Refuse("maps are selected by the time at which they begin"),
        "rerun": _rerun,
        "track_processing": To("maps.mapcat.write_back", names={True: True, False: False}),
    }
    apply_rules(draft, "maps", given, rules, done=("map_generator_type",))


def _rerun(draft, option, found):
    """Maps in any state of processing, or those that wait, are stale or failed."""
    states = [] if truth(found) else ["none", "stale", "failed"]
    draft.put("maps.mapcat.statuses", states, option, found)


def _text(number):
    return f"{number:.3f}".rstrip("0").rstrip(".")
