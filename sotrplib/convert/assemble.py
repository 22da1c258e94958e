"""The whole of an old configuration: its sections in order, what it leaves out, and the files that are written."""

import io
import json
import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from sotrplib import configuration, mapindex, store
from sotrplib.convert import maps, sources, stages
from sotrplib.convert.draft import REFUSED, VERDICTS, Draft, Refuse, Unneeded, apply_rules

_OUTPUTS = ("source_outputs", "outputs", "map_outputs")
_LEVELS = {"10": "DEBUG", "20": "INFO", "30": "WARNING", "ERROR": "WARNING", "CRITICAL": "WARNING", "40": "WARNING"}

# Section: the option that names the handler, the options of each handler, and keys that a handler sets by being there.
_STAGES = {
    "pointing_provider": ("photometry_type", stages.POINTING, stages.POINTING_KEYS),
    "pointing_residual": ("pointing_residual_type", stages.RESIDUAL, stages.RESIDUAL_KEYS),
    "forced_photometry": ("photometry_type", stages.PHOTOMETRY, stages.PHOTOMETRY_KEYS),
    "source_subtractor": ("subtractor_type", stages.SUBTRACTOR, stages.SUBTRACTOR_KEYS),
    "blind_search": ("search_type", stages.SEARCH, stages.SEARCH_KEYS),
    "sifter": ("sifter_type", stages.SIFTER, {}),
    "map_matcher": ("matcher_type", stages.MATCHER, stages.MATCHER_KEYS),
}
_HOMES = {
    "pointing_provider": "fit_pointing",
    "pointing_residual": "fit_pointing",
    "forced_photometry": "forced_photometry",
    "source_subtractor": "find_sources",
    "blind_search": "find_sources",
    "sifter": "sift_candidates",
    "map_matcher": "confirm_candidates",
}
_LIST, _DICT, _WORD = "a list of objects {...}", "an object {...}", "a word"
_FORMS = dict.fromkeys(
    (*_STAGES, "forced_photometry_catalog", "source_injector", "map_coadder", "mapcat_registration"), _DICT
)
_FORMS |= dict.fromkeys(
    ("maps", "preprocessors", "postprocessors", "source_catalogs", "sso_catalogs", *_OUTPUTS), _LIST
)
_FORMS |= {"source_simulators": _LIST} | dict.fromkeys(("instrument", "observatory", "runner", "log_level"), _WORD)
_OURS = ("maps", "instrument", "log_level", "forced_photometry")  # names that both kinds of configuration have
OLD_KEYS = tuple(sorted(set(_FORMS) - {*_OURS, "runner"}))
# Where an absent handler means that the original does nothing, and ours would by default.
_ABSENT_SECTIONS = (
    "pointing_provider",
    "pointing_residual",
    "forced_photometry",
    "source_subtractor",
    "blind_search",
    "map_matcher",
)
_ABSENT_PROCESSORS = {
    "planet_mask": ("preprocess_map.planet_mask_radius_arcmin", 0.0),
    "edge_mask": ("preprocess_map.edge_arcmin", 0.0),
    "kappa_rho": ("preprocess_map.kappa_min_fraction", 0.0),
    "flatfield": ("preprocess_map.flatfield_tile_deg", 0.0),
}


class ConvertError(ValueError):
    """A file that is no configuration of the original, or an output that is in the way."""


@dataclass(frozen=True)
class Result:
    """A converted configuration: ours as a dict, files beside it by name, and a note for each old option."""

    config: dict
    files: dict
    notes: list


def is_old(config):
    """Whether a dict looks like a configuration of the original."""
    listed = config.get("maps")
    generated = isinstance(listed, dict) and "map_generator_type" in listed
    return generated or isinstance(listed, list) or bool(set(OLD_KEYS) & set(config))


def convert_file(path, output, *, schema):
    """Convert the configuration in a JSON file.

    Parameters
    ----------
    path, output : path
        Of the old configuration and the new one; the latter's name begins those of files beside it.
    schema : dict
        Of our configuration.

    Raises
    ------
    ConvertError
        If the file is not JSON, gives a key twice, or is no configuration of the original.
    """
    try:
        old = json.loads(Path(path).read_text(encoding="utf-8-sig"), object_pairs_hook=_once)
    except ValueError as error:
        raise ConvertError(f"{path}: {error}") from error
    if not isinstance(old, dict) or not is_old(old):
        raise ConvertError(f"{path}: is no configuration of the original sotrplib: none of {', '.join(OLD_KEYS)} in it")
    return convert(old, prefix=str(Path(output).with_suffix("")), schema=schema)


def convert(old, *, prefix, schema):
    """Convert a configuration of the original.

    Parameters
    ----------
    old : dict
    prefix : str
        Beginning of the names of files made beside the configuration.
    schema : dict
        Of our configuration; values that do not fit it are refused.

    Returns
    -------
    Result
    """
    wrong = {name: old[name] for name in old if not _has_form(name, old[name])}
    draft = Draft()
    _run_sections(draft, {name: value for name, value in old.items() if name not in wrong}, prefix)
    for name, value in wrong.items():
        draft.refuse(name, value, f"expected {_FORMS.get(name, 'no such option')}")
    if draft.rows:
        _map_table(draft, f"{prefix}_maps.csv")
    _fit(draft, schema)
    order = {name: n for n, name in enumerate(schema["properties"])}
    config = {name: draft.config[name] for name in sorted(draft.config, key=order.get)}
    return Result(config, draft.files, draft.notes)


def _run_sections(draft, old, prefix):
    """Convert all sections that this module knows."""
    _plain(draft, old)
    maps.convert_maps(draft, old.get("maps") or [], old.get("instrument"))
    if draft.simulated:
        sources.convert_simulated(draft, _entries(old, "source_simulators"), old.get("source_injector"), prefix)
    else:
        _refuse_injection(draft, old)
    _processors(draft, old)
    sources.convert_catalogs(draft, _entries(old, "source_catalogs"), old.get("forced_photometry_catalog"), prefix)
    sources.convert_moving(draft, _entries(old, "sso_catalogs"))
    for name, (kind, handlers, keys) in _STAGES.items():
        _stage(draft, name, old.get(name), kind=kind, handlers=handlers, keys=keys)
    for name in _OUTPUTS:
        sources.convert_outputs(draft, name, _entries(old, name))
    if draft.get("export_catalogs.formats") is None:
        draft.put("export_catalogs.formats", [], "outputs: none that is a table")
    _coadds(draft, old)
    draft.put("search_jointly.enabled", False, "maps are searched one by one")


def _plain(draft, old):
    """Options of the whole configuration."""
    for name in ("instrument", "observatory"):
        if name in old:
            draft.skip(name, old[name], "column instrument of the map table")
    if "runner" in old:
        draft.skip("runner", old["runner"], f"sotrp --runner {old['runner']}, or sotrp_runner in the environment")
    if "log_level" in old:
        level = str(old["log_level"]).upper()
        draft.put("log_level", _LEVELS.get(level, level), "log_level", old["log_level"])


def _processors(draft, old):
    """Preprocessors and postprocessors; ours has a fixed order, and an absent one is switched off."""
    seen = set()
    for section in ("preprocessors", "postprocessors"):
        for n, entry in enumerate(_entries(old, section)):
            name = next((key for key in ("preprocessor_type", "postprocessor_type") if key in entry), None)
            seen.add(_handler(draft, f"{section}[{n}]", entry, kind=name, handlers=stages.PROCESSORS))
    for name in sorted(set(_ABSENT_PROCESSORS) - seen):
        key, off = _ABSENT_PROCESSORS[name]
        draft.put(key, off, f"no {name}")
    raw = any(row["form"] == "intensity_ivar" for row in draft.rows)
    if raw and "matched_filter" not in seen:
        draft.put("preprocess_map.noise_model", "white", "no matched_filter: the beam alone is the filter")


def _stage(draft, name, given, *, kind, handlers, keys):
    """One stage: the handler named by the option ``kind``, or none."""
    if not given:
        for key, value in keys.get("empty", {}).items() if name in _ABSENT_SECTIONS else ():
            draft.put(key, _beside_shift(draft, key, value), f"no {name}")
        return
    if given.get(kind, "empty") == "empty" and "empty" not in handlers:
        draft.refuse(f"{name}.{kind}", "empty", "detections are always sifted")
        return
    used = _handler(draft, name, {kind: "empty"} | given, kind=kind, handlers=handlers)
    for key, value in keys.get(used, {}).items():
        draft.put(key, _beside_shift(draft, key, value), f"{name}.{kind}", used)


def _beside_shift(draft, key, value):
    """The value of a key that a handler sets; without a fit of the pointing, a shift from `map_shifter` still holds."""
    shifted = any(draft.get(f"fit_pointing.{axis}_shift_arcsec") for axis in ("ra", "dec"))
    return "fixed" if shifted and (key, value) == ("fit_pointing.model", "identity") else value


def _handler(draft, where, entry, *, kind, handlers):
    """Apply the rules of one handler; its name, or None if it is not known."""
    name = entry.get(kind)
    if name not in handlers:
        draft.refuse(where, entry, f"no handler {name!r}; known: {', '.join(handlers)}")
        return None
    draft.note(f"{where}.{kind}", name, f"section {_HOMES.get(where, 'preprocess_map')}")
    apply_rules(draft, where, entry, handlers[name], done=(kind,))
    return name


def _refuse_injection(draft, old):
    for n, entry in enumerate(_entries(old, "source_simulators")):
        reason = "nothing is injected into real maps but by `sotrp -c CONFIG -- recovery`, see measure_recovery"
        draft.refuse(f"source_simulators[{n}]", entry, reason)
    if old.get("source_injector"):
        draft.refuse("source_injector", old["source_injector"], "nothing to inject; see measure_recovery")


def _coadds(draft, old):
    """One coadd of all maps for each band, and each array if asked; single maps are analysed beside it."""
    given, registration = old.get("map_coadder") or {}, old.get("mapcat_registration") or {}
    if given.get("coadd_type", "empty") == "empty":
        for name in given:
            draft.skip(f"map_coadder.{name}", given[name], "no coadds")
    else:
        name = re.sub("[^a-z0-9]", "", str(registration.get("coadd_name", "")).lower()) or "all"
        group = {"name": name, "per_array": bool(given.get("arrays"))}
        draft.put("coadd_maps.groups", [group], "map_coadder.coadd_type", given["coadd_type"])
        select = {
            "frequencies": lambda d, option, found: d.put(
                "maps.select.bands", [maps.band(n) for n in found], option, found
            ),
            "arrays": lambda d, option, found: d.put("maps.select.arrays", [n.lower() for n in found], option, found),
            "instrument": Unneeded("that of the maps"),
        }
        apply_rules(draft, "map_coadder", given, select, done=("coadd_type",))
    reason = "coadds are files of ours, results/preprocessed/*_coadd*.h5; they are not registered in mapcat"
    rules = {"coadd_name": Unneeded("name of the group in coadd_maps.groups"), "coadd_type": Refuse(reason)}
    rules["enabled"] = Refuse(reason, harmless=(False,))
    apply_rules(draft, "mapcat_registration", registration, rules)


def _fit(draft, schema):
    """Take out what our schema does not allow, and refuse the options it came from."""
    for line in configuration.find_problems(configuration.fill_defaults(draft.config, schema), schema):
        key, _, reason = line.partition(": ")
        draft.reject(key, reason)


def _map_table(draft, path):
    text = io.StringIO()
    mapindex.write_rows(text, draft.rows)
    draft.files[path] = text.getvalue()
    draft.put("maps.table", path, "maps: listed one by one")


def describe(notes):
    """The account as text: mapped, not needed, refused, each with its options."""
    blocks = []
    for verdict in VERDICTS:
        lines = [f"  {note}" for note in notes if note.verdict == verdict]
        blocks += [f"{verdict} ({len(lines)})", *lines] if lines else []
    return "\n".join(blocks)


def write(result, output, *, overwrite=False):
    """Write a converted configuration and the files beside it; their paths.

    What was refused stands as comments at the top, so that it is not forgotten.

    Raises
    ------
    ConvertError
        If a file exists and ``overwrite`` is false; nothing is written then.
    """
    refused = [f"#   {note}" for note in result.notes if note.verdict == REFUSED]
    head = ["# Converted from a configuration of the original sotrplib."]
    head += ["# Without counterpart here:", *refused] if refused else []
    text = "\n".join([*head, "", yaml.safe_dump(result.config, sort_keys=False, width=110)])
    files = {str(output): text, **result.files}
    there = [path for path in files if Path(path).exists()]
    if there and not overwrite:
        raise ConvertError(f"{', '.join(there)}: exists; name another with -o, or write over it with --force")
    for path, content in files.items():
        with store.atomic_path(path) as temporary:
            temporary.write_text(content)
    return list(files)


def _entries(old, name):
    return old.get(name) or []


def _has_form(name, value):
    """Whether an option of the whole configuration is known and of the type it should be; null is as if not given."""
    expected = _FORMS.get(name)
    if value is None or expected is None:
        return expected is not None
    if name == "maps" and isinstance(value, dict):
        return True
    kinds = {_LIST: list, _DICT: dict, _WORD: (str, int)}
    entries = value if isinstance(value, list) else []
    return isinstance(value, kinds[expected]) and all(isinstance(entry, dict) for entry in entries)


def _once(pairs):
    """Dict of a JSON object, none of whose keys is given twice."""
    keys = [key for key, _ in pairs]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} given twice in one object; only the last would count: remove one")
    return dict(pairs)
