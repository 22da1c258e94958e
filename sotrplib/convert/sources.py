"""Catalogues, simulated sources and outputs of an old configuration."""

from sotrplib import truth
from sotrplib.convert.draft import NOT_GIVEN, Refuse, To, Unneeded, apply_rules

_FILES = ("fits", "mock_act", "mock_socat", "socat")  # socat with a path is an early name of fits
EMPTY_CATALOG = "raDeg,decDeg,fluxJy,err_fluxJy,name\n"
_LIMIT = "0.03 Jy"
_POSITIONS = Refuse("write them into a CSV as the catalogue has it and list that in catalog.additional")


def convert_catalogs(draft, given, brighter, prefix):
    """Known sources.

    Parameters
    ----------
    draft : Draft
    given : list of dict
        The option ``source_catalogs``.
    brighter : dict or None
        The option ``forced_photometry_catalog`` of early versions: the same sources down to another flux.
    prefix : str
        Beginning of the names of files that are made: a catalogue without sources where there is none.
    """
    for n, entry in enumerate(given):
        _catalog(draft, f"source_catalogs[{n}]", entry)
    if brighter:
        _brighter(draft, brighter)
    if draft.get("catalog.path") is None and draft.get("catalog.kind") is None and not draft.simulated:
        name = f"{prefix}_catalog.csv"
        draft.files[name] = EMPTY_CATALOG
        draft.put("catalog.path", name, "source_catalogs: no file of sources")


def _path(entry):
    return entry.get("path") or entry.get("db_path")


def _catalog(draft, where, entry):
    kind, path = entry.get("catalog_type"), _path(entry)
    if kind == "empty":
        draft.skip(f"{where}.catalog_type", kind, "no sources")
        return
    rules = {
        "hdu": Refuse("the first table of a FITS file is read", harmless=(1,)),
        "flux_lower_limit": To("catalog.flux_min_mjy", "mJy", default=_LIMIT),
        "additional_positions": _POSITIONS,
        "additional_fluxes": _POSITIONS,
        "additional_source_ids": _POSITIONS,
    }
    if kind == "socat" and not path:
        draft.put("catalog.kind", "socat", f"{where}.catalog_type", kind)
    elif kind in _FILES and path:
        draft.note(
            f"{where}.catalog_type", kind, "catalog, by the ending of the file's name, columns as in catalog.columns"
        )
        _file(draft, f"{where}.{'db_path' if 'db_path' in entry else 'path'}", path)
    else:
        cure = "save the catalogue as CSV, FITS or ECSV and name it in catalog.path"
        draft.refuse(where, entry, f"{kind}: {cure}")
        return
    apply_rules(draft, where, entry, rules, done=("catalog_type", "path", "db_path"))


def _file(draft, option, path):
    """The first file is the catalogue, others add to it."""
    if draft.get("catalog.path") is None and draft.get("catalog.kind") is None:
        draft.put("catalog.path", path, option, path)
    else:
        draft.add("catalog.additional", path, option, path)


def _brighter(draft, entry):
    where = "forced_photometry_catalog"
    same = entry.get("catalog_type") == "socat" == draft.get("catalog.kind") or _path(entry) == draft.get(
        "catalog.path"
    )
    if not same:
        draft.refuse(where, entry, "fluxes are forced for the sources of `catalog`; add the file to catalog.additional")
        return
    draft.skip(where, entry, "the same sources as source_catalogs")
    To("forced_photometry.flux_min_mjy", "mJy")(
        draft, f"{where}.flux_lower_limit", entry.get("flux_lower_limit", _LIMIT)
    )


def convert_moving(draft, given):
    """Solar-system objects: orbital elements of the Minor Planet Center as CSV, or a ready-made ephemeris."""
    draft.put("ephemerides.tables", [], "sso_catalogs: no simulated ephemeris")
    for n, entry in enumerate(given):
        where, path = f"sso_catalogs[{n}]", entry.get("db_path") or entry.get("path")
        rules = dict.fromkeys(("observer_lat", "observer_lon", "observer_elev"), Refuse("the site is in `instruments`"))
        rules |= dict.fromkeys(("start_time", "stop_time"), Unneeded("the times of the maps count"))
        rules["catalog_type"] = Unneeded("orbital elements")
        apply_rules(draft, where, entry, rules, done=("db_path", "path"))
        if str(path).endswith(".csv"):
            draft.put("ephemerides.elements", path, f"{where}.db_path", path)
        else:
            draft.refuse(
                f"{where}.db_path", path, "give elements of the MPC as CSV in ephemerides.elements, or SPK kernels"
            )


_OBJECTS = "list each object in the table simulate.objects, see config/simulated_objects.csv"


def convert_simulated(draft, given, injector, prefix):
    """Simulated sources: constant ones by their number and fluxes, others refused one by one."""
    fixed = {
        "number": To("simulate.n_sources", kind=int),
        "min_flux": To("simulate.flux_min_mjy", "mJy"),
        "max_flux": To("simulate.flux_max_mjy", "mJy"),
        "catalog_fraction": Refuse("all constant sources are in the catalogue", harmless=(1, 1.0)),
    }
    for n, entry in enumerate(given):
        name = "simulation_type" if "simulation_type" in entry else "generator_type"
        where = f"source_simulators[{n}]"
        if entry.get(name) == "fixed":
            draft.note(f"{where}.{name}", "fixed", "simulate.n_sources and the keys below it")
            apply_rules(draft, where, entry, fixed, done=(name,))
        else:
            draft.refuse(where, entry, f"objects are not drawn at random: {_OBJECTS}")
    if draft.get("simulate.n_sources") is None:
        draft.put("simulate.n_sources", 0, "source_simulators: no constant sources")
    name = f"{prefix}_objects.csv"
    draft.files[name] = ",".join(truth.OBJECT_KEYS) + "\n"
    draft.put("simulate.objects", name, "source_simulators: no objects but those you list there")
    _injector(draft, injector or {})


def _injector(draft, given):
    rules = {
        "injector_type": Unneeded("simulated maps hold their sources"),
        "gauss_fwhm": Unneeded("sources have the beam of `instruments` or `beams`"),
        "gauss_theta_min": Refuse("beams are round"),
        "gauss_theta_max": Refuse("beams are round"),
        "fwhm_uncertainty_fraction": Refuse("all sources of a map have one beam"),
        "progress_bar": Unneeded("sotrp status, and the view of the run on a terminal"),
    }
    apply_rules(draft, "source_injector", given, rules)


_FIELDS = {"rho": "rho", "kappa": "kappa", "flux": "flux", "snr": "snr", "time_mean": "time"}
_FORMATS = {"pickle": "pickle", "parquet": "parquet", "csv": "csv", "fits": "fits", "json": "json"}
_ELSEWHERE = {
    "cutout": "cutouts are arrays beside the tables in results/forced_photometry and results/detections",
    "lightserve": "light curves are in results/lightcurves; nothing is sent over HTTP",
}
_NO_NEED = ("cutout",)
_SWITCHES = {"maps": "export_map.every_run", "lightcurvedb": "write_lightcurvedb.enabled"}
_DATABASE = "its address is in the environment variables of lightcurvedb, see config/README.md"
_HTTP = "nothing is sent over HTTP"
_OUTPUT_OPTIONS = {
    "directory": Unneeded("results are below ./results of the folder sotrp runs in"),
    "override_settings": Refuse(_DATABASE),
    "upsert_sources": Unneeded("sources are always written with their fluxes"),
    "hostname": Refuse(_HTTP),
    "token_tag": Refuse(_HTTP),
    "identity_server": Refuse(_HTTP),
}


def convert_outputs(draft, name, given):
    """Outputs of one list, ``source_outputs``, ``outputs`` or ``map_outputs``: formats, in folders of our own."""
    for n, entry in enumerate(given):
        where, kind = f"{name}[{n}]", entry.get("output_type")
        _output(draft, f"{where}.output_type", kind)
        if kind == "maps":
            _fields(draft, f"{where}.fields", entry.get("fields") or [])
        done = ("output_type", "fields") if kind == "maps" else ("output_type",)
        apply_rules(draft, where, entry, _OUTPUT_OPTIONS, done=done)


def _output(draft, option, kind):
    if kind in _FORMATS:
        draft.add("export_catalogs.formats", _FORMATS[kind], option, kind)
    elif kind in _SWITCHES:
        draft.put(_SWITCHES[kind], True, option, kind)
    elif kind in _NO_NEED:
        draft.skip(option, kind, _ELSEWHERE[kind])
    else:
        draft.refuse(option, kind, _ELSEWHERE.get(kind, f"no such output; known: {', '.join(_FORMATS)}"))


def _fields(draft, where, given):
    """Images of each map, those we have."""
    known = [_FIELDS[name] for name in given if name in _FIELDS]
    draft.put("export_map.fields", known, where, given)
    for name in given:
        if name not in _FIELDS:
            draft.refuse(f"{where} {name}", NOT_GIVEN, f"no such image; known: {', '.join(_FIELDS)}")
