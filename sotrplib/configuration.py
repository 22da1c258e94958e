"""The configuration: defaults filled in, paths completed, and every mistake named before the first job."""

import copy
import difflib
import re

import yaml

HINT_NUMBER = "YAML reads 1e-3 as text; write 1.0e-3"


class ConfigError(ValueError):
    """A configuration that does not fit its schema: names the key, what was found and what was expected."""


def read_yaml(path):
    """Content of a YAML file as plain Python values; an empty file is an empty dict."""
    with open(path) as file:
        return yaml.safe_load(file) or {}


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
    """Copy of ``value`` with the keys it lacks taken from the schema's defaults, in the schema's order."""
    properties = schema.get("properties", {})
    if not isinstance(value, dict) or not properties:
        return copy.deepcopy(value)
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
        if value.strip() and value.strip() != "{}" or comment and not indent:
            rows.append((".".join(section), value.strip(), comment.strip()))
    return rows


def _describe(error):
    where = ".".join(map(str, error.path))
    if error.validator == "additionalProperties":
        known = list(error.schema.get("properties", {}))
        unknown = [key for key in error.instance if key not in known]
        return [_describe_unknown(f"{where}.{key}" if where else str(key), key, known) for key in unknown]
    text = f"{where or 'top level'}: found {error.instance!r}, expected {_expected(error)}"
    return [f"{text} ({HINT_NUMBER})" if _is_number_text(error) else text]


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


def _is_number_text(error):
    if error.validator != "type" or not isinstance(error.instance, str):
        return False
    try:
        float(error.instance)
    except ValueError:
        return False
    return bool({"number", "integer"} & set(_as_list(error.validator_value)))


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
