"""The configuration, its schema, its documentation and the examples say the same."""

import re
from pathlib import Path

import pytest
import yaml

from sotrplib import configuration, mapindex

ROOT = Path(__file__).parents[1]
SCHEMA = configuration.read_yaml(ROOT / "config/schemas/config.schema.yaml")
CONFIG_TEXT = (ROOT / "config/config.yaml").read_text()
EXAMPLES = sorted((ROOT / "config/examples").glob("*.yaml"))


def resolve(text):
    return configuration.resolve(yaml.safe_load(text) or {}, SCHEMA)


def objects(schema):
    """Every part of a schema that describes named keys."""
    parts = [schema] if "properties" in schema else []
    return parts + [found for part in schema.get("properties", {}).values() for found in objects(part)]


def test_config_holds_exactly_the_defaults():
    """config.yaml lists every key of the schema with its default, in its order, and no other key."""
    assert yaml.dump(yaml.safe_load(CONFIG_TEXT), sort_keys=False) == yaml.dump(resolve(""), sort_keys=False)


def test_every_part_of_the_schema_is_strict():
    """No section takes unknown keys, and every key but those of the sky box has a default."""
    assert all(part["additionalProperties"] is False for part in objects(SCHEMA))
    names = [name for part in objects(SCHEMA) for name, key in part["properties"].items() if "default" not in key]
    assert names == ["ra_min_deg", "ra_max_deg", "dec_min_deg", "dec_max_deg"]


def test_every_key_is_explained():
    """Every line of config.yaml that gives a value carries a comment."""
    lines = [line for line in CONFIG_TEXT.splitlines() if re.match(r"\s*\w+: \S", line) and not line.endswith("{}")]
    assert [line for line in lines if " # " not in line] == []


def test_library_reads_only_declared_options():
    """Every options["key"] in the library is a key of the schema, so no option is read that cannot be set."""
    declared = {part for name in configuration.list_keys(SCHEMA) for part in name.split(".")}
    texts = [path.read_text() for path in sorted((ROOT / "sotrplib").rglob("*.py"))]
    used = {key for text in texts for key in re.findall(r"\boptions\[\"(\w+)\"\]", text)}
    assert sorted(used - declared) == []


def test_every_option_is_read_somewhere():
    """Every key of a rule's section is named in the library or the scripts, so no option is without effect."""
    library = [path for path in (ROOT / "sotrplib").rglob("*.py") if path.parent.name != "convert"]
    files = [*library, *(ROOT / "scripts").glob("*.py"), *(ROOT / "rules").glob("*.smk")]
    text = "\n".join(path.read_text() for path in files)
    keys = [name.rsplit(".", 1)[-1] for name in configuration.list_keys(SCHEMA)]
    assert [key for key in keys if not re.search(rf"[\"'.]{key}\b", text)] == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_loads(path):
    """Every example fits the schema."""
    given = configuration.read_yaml(path)
    resolved = configuration.resolve({"data_dir": "data"} | given, SCHEMA)
    assert "{data_dir}" not in yaml.dump(resolved)
    if resolved["maps"]["kind"] == "table":
        assert mapindex.read_map_table(ROOT / resolved["maps"]["table"])


def test_readme_lists_every_key():
    """config/README.md gives every key with its default and comment, and every column of the map table."""
    readme = (ROOT / "config/README.md").read_text()
    described = configuration.describe_keys(CONFIG_TEXT)
    assert [name for name, _, _ in described] == list(configuration.list_keys(SCHEMA))
    rows = [f"| `{name}` | `{default}` | {comment} |" for name, default, comment in described]
    assert [row for row in rows if row not in readme] == []
    assert [name for name in mapindex.COLUMNS if f"| `{name}` |" not in readme] == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("find_sources: {snr_mni: 5}", r"find_sources\.snr_mni: unknown key; did you mean 'snr_min'\?"),
        ("find_sorces: {snr_min: 5}", r"find_sorces: unknown key; did you mean 'find_sources'\?"),
        ("report: {colour: red}", r"report\.colour: unknown key; known keys here: "),
        ("find_sources: {snr_min: high}", r"find_sources\.snr_min: found 'high', expected type number"),
        ("find_sources: {snr_min: true}", r"find_sources\.snr_min: found True, expected type number"),
        ("find_sources: {cutout_arcmin: null}", r"find_sources\.cutout_arcmin: found None, expected type number"),
        ("find_sources: {finder: peak}", r"finder: found 'peak', expected one of \['peaks', 'segments', 'none'\]"),
        ("find_sources: {snr_min: -1}", r"found -1.0, expected more than 0"),
        ("find_sources:", r"find_sources: found None, expected type object"),
        ("maps: {box: {ra_min_deg: 5}}", r"maps\.box: found .*, expected all of the keys"),
        ("catalog: {path: '{data_dir}/a.csv'}", r"catalog\.path: .* data_dir is empty; add --config data_dir=PATH"),
    ],
)
def test_mistake_is_named(text, message):
    """A misspelt or mistyped key stops with its name, what was found, and the cure."""
    with pytest.raises(configuration.ConfigError, match=message):
        resolve(text)


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("find_sources: {snr_min: 6e0}", "snr_min", 6.0),
        ("find_sources: {snr_min: '6.5'}", "snr_min", 6.5),
        ("find_sources: {snr_min: 6}", "snr_min", 6.0),
        ("find_sources: {segment_n_pixels: '3'}", "segment_n_pixels", 3),
        ("find_sources: {finder: segments}", "finder", "segments"),
    ],
)
def test_number_given_as_text_is_a_number(text, key, value):
    """YAML's 6e0 and the text that --config makes of nested numbers are read as the numbers they stand for."""
    found = resolve(text)["find_sources"][key]
    assert (found, type(found)) == (value, type(value))


def test_all_mistakes_are_named_at_once():
    """Two mistakes give two lines."""
    with pytest.raises(configuration.ConfigError, match=r"find_sources\.snr_mni: .*\n  fit_pointing\.ordr: "):
        resolve("{find_sources: {snr_mni: 5}, fit_pointing: {ordr: 2}}")


def test_given_configuration_is_left_alone():
    """Resolving returns a new dict; the one given keeps its keys."""
    given = {"find_sources": {"snr_min": 6.0}, "data_dir": "x", "beams": {"f090": "{data_dir}/b.txt"}}
    kept = yaml.safe_load(yaml.dump(given))
    resolved = configuration.resolve(given, SCHEMA)
    assert given == kept
    assert resolved["beams"] == {"f090": "x/b.txt"}
    assert resolved["find_sources"]["snr_min"] == 6.0
    assert resolved["find_sources"]["finder"] == "peaks"
