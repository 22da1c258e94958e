"""The configuration: defaults filled in, paths completed, and every mistake named before the first job."""

import copy
import difflib
import json
import math
import re

import yaml

_SAFE = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # plain values only; the one in C is ten times as fast


class ConfigError(ValueError):
    """A configuration that does not fit its schema: names the key, what was found and what was expected."""


def read_yaml(path):
    """Content of a YAML file as plain Python values; an empty file is an empty dict."""
    with open(path) as file:
        return yaml.load(file, Loader=_SAFE) or {}


def read_config(path):
    """What a user's configuration file gives, YAML or JSON.

    Raises
    ------
    ConfigError
        If the file is neither, or holds something else than keys and values; names line and column.
    """
    with open(path, encoding="utf-8-sig") as file:
        text = file.read()
    try:
        found = json.loads(text) if str(path).endswith(".json") else yaml.safe_load(text)
    except (json.JSONDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(found or {}, dict):
        raise ConfigError(f"holds a {type(found).__name__}; expected keys and values, as in config/config.yaml")
    return found or {}


def resolve(config, schema):
    """Complete and check a configuration.

    Parameters
    ----------
    config : dict
        Keys and values as the user gave them; left as it is.
    schema : dict
        JSON schema with a default for every key.

    Returns
    -------
    dict
        All keys of the schema in its order, ``{data_dir}`` replaced in every text.

    Raises
    ------
    ConfigError
        With one line a mistake: the key, what was found, what was expected, and the nearest valid key.
    """
    filled = fill_defaults(config, schema)
    problems = find_problems(filled, schema)
    if problems:
        raise ConfigError("\n  ".join(["the configuration does not fit its schema:", *problems]))
    return _replace_data_dir(filled, filled.get("data_dir", ""), "")


def fill_defaults(value, schema):
    """Copy of ``value`` with the keys it lacks taken from the schema's defaults, in the schema's order.

    Text that stands for a number, true, false or null where the schema has no text is read as such: YAML takes
    1e-3 for text, and ``snakemake --config section={key: 1}`` everything. A whole number is made a float where
    the schema wants a number, so that 5 and 5.0 are one value.
    """
    properties = schema.get("properties", {})
    if isinstance(value, list) and "items" in schema:
        return [fill_defaults(part, schema["items"]) for part in value]
    if not isinstance(value, dict) or not properties:
        return _plain(value, schema)
    defaults = {key: part["default"] for key, part in properties.items() if "default" in part}
    keys = [key for key in properties if key in value or key in defaults]
    filled = {key: fill_defaults(value.get(key, defaults.get(key)), properties[key]) for key in keys}
    return filled | {key: copy.deepcopy(value[key]) for key in value if key not in properties}


def find_problems(config, schema):
    """One line of text for everything in ``config`` that the schema does not allow."""
    from jsonschema import Draft202012Validator

    errors = sorted(Draft202012Validator(schema).iter_errors(config), key=lambda error: list(map(str, error.path)))
    return [line for error in errors for line in _describe(error)]


def list_keys(schema, prefix=""):
    """Dotted names of all keys of a schema with their defaults, as a dict; sections themselves are left out."""
    keys = {}
    for key, part in schema.get("properties", {}).items():
        if part.get("type") == "object" and "properties" in part:
            keys |= list_keys(part, f"{prefix}{key}.")
        else:
            keys[prefix + key] = part.get("default")
    return keys


def describe_keys(text):
    """Documentation of a configuration file with a comment behind every key.

    Parameters
    ----------
    text : str
        YAML of ``key: value # what it means`` lines, sections indented by two blanks.

    Returns
    -------
    list of (str, str, str)
        Dotted key, default as written, comment; sections themselves are left out.
    """
    rows, section = [], []
    for indent, key, rest in re.findall(r"(?m)^( *)(\w+):(.*)$", text):
        section = [*section[: len(indent) // 2], key]
        value, _, comment = rest.partition(" # ")
        if value.strip() and (value.strip() != "{}" or comment):
            rows.append((".".join(section), value.strip(), comment.strip()))
    return rows


def list_files(config):
    """Files that a resolved configuration names and every run needs: list of (key, path), paths as given."""
    ephemerides = config["ephemerides"]
    keys = [("catalog.path", config["catalog"]["path"]), ("ephemerides.elements", ephemerides["elements"])]
    external = config["confirm_candidates"]["external_catalogs"]
    keys += [("confirm_candidates.external_catalogs", entry["path"]) for entry in external]
    keys += [("catalog.additional", path) for path in config["catalog"]["additional"]]
    keys += [("coadd_maps.table", config["coadd_maps"]["table"])]
    keys += [("stack_sources.positions", config["stack_sources"]["positions"])]
    keys += [(f"ephemerides.{key}", path) for key in ("kernels", "tables") for path in ephemerides[key]]
    keys += [(f"beams.{band}", path) for band, path in config["beams"].items() if isinstance(path, str)]
    named = {"preprocess_map": ("galaxy_mask", "extra_mask", "noise_mask"), "simulate": ("geometry_map", "time_map")}
    return keys + [(f"{section}.{name}", config[section][name]) for section, names in named.items() for name in names]


def _describe(error):
    where = ".".join(map(str, error.path))
    if error.validator == "additionalProperties":
        known = list(error.schema.get("properties", {}))
        unknown = [key for key in error.instance if key not in known]
        return [_describe_unknown(f"{where}.{key}" if where else str(key), key, known) for key in unknown]
    return [f"{where or 'top level'}: found {error.instance!r}, expected {_expected(error)}"]


def _describe_unknown(where, key, known):
    close = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
    cure = f"did you mean {close[0]!r}?" if close else f"known keys here: {', '.join(known) or 'none'}"
    return f"{where}: unknown key; {cure}"


def _expected(error):
    words = {
        "type": "type {}",
        "enum": "one of {}",
        "minimum": "at least {}",
        "exclusiveMinimum": "more than {}",
        "maximum": "at most {}",
        "exclusiveMaximum": "less than {}",
        "pattern": "text of the form {}",
        "required": "all of the keys {}",
    }
    return words.get(error.validator, error.validator + " {}").format(error.validator_value)


def _plain(value, schema):
    """``value`` as the type that the schema wants, if it stands for one (see :func:`fill_defaults`)."""
    wanted = set(_as_list(schema.get("type", "string")))
    if isinstance(value, str) and "string" not in wanted:
        value = _read_text(value)
    if isinstance(value, int) and not isinstance(value, bool) and "number" in wanted:
        return float(value)
    return copy.deepcopy(value)


def _read_text(text):
    words = {"true": True, "false": False, "null": None}
    if text in words:
        return words[text]
    for kind in (int, float):
        try:
            return kind(text) if math.isfinite(kind(text)) else text
        except ValueError:
            continue
    return text


def _as_list(value):
    return value if isinstance(value, list) else [value]


def _replace_data_dir(value, data_dir, where):
    if isinstance(value, dict):
        return {key: _replace_data_dir(part, data_dir, f"{where}.{key}".lstrip(".")) for key, part in value.items()}
    if isinstance(value, list):
        return [_replace_data_dir(part, data_dir, where) for part in value]
    if not isinstance(value, str) or "{data_dir}" not in value:
        return value
    if not data_dir:
        raise ConfigError(f"configuration: {where}: found {value!r}, but data_dir is empty; add --config data_dir=PATH")
    return value.replace("{data_dir}", data_dir.rstrip("/"))
