"""Schemas, flags and mask bits: declared once, and what is made from them is exactly them."""

import hashlib

import numpy as np
import pytest

from sotrplib import tables

DTYPES = {"f8": "float64", "i4": "int32", "i8": "int64", "u4": "uint32", "bool": "bool", "str": "str"}


DECLARED = {7: "5b2e2a1ca0875006"}  # of columns, flags and mask bits, by version


def test_the_version_changes_with_the_columns():
    """A column, flag or bit that is added, removed or renamed needs a new tables.VERSION, and its digest here."""
    columns = {name: [(c.name, c.dtype, c.unit) for c in schema] for name, schema in tables.SCHEMAS.items()}
    bits = {name: bit for name, (bit, _) in tables.FLAGS.items()}
    digest = hashlib.sha256(repr((columns, bits, tables.MASK_BITS)).encode()).hexdigest()[:16]
    assert {tables.VERSION: digest} == DECLARED


def columns_of(schema, n=2):
    values = {"str": "x", "bool": True}
    return {column.name: [values.get(column.dtype, 1)] * n for column in tables.SCHEMAS[schema]}


@pytest.mark.parametrize("schema", list(tables.SCHEMAS))
def test_every_schema_is_described(schema):
    """Each column has a known type, a unit and a sentence, and no name occurs twice."""
    columns = tables.SCHEMAS[schema]
    assert len(set(tables.column_names(schema))) == len(columns)
    for column in columns:
        assert column.dtype in DTYPES and column.unit and len(column.description) > 5, column


@pytest.mark.parametrize("schema", list(tables.SCHEMAS))
def test_full_and_empty_tables_have_the_same_types(schema):
    """A table with no rows has the columns and types of one with rows, in the order of the schema."""
    full, empty = tables.make(schema, columns_of(schema)), tables.empty(schema)
    assert len(full) == 2 and len(empty) == 0
    assert list(full.columns) == list(empty.columns) == tables.column_names(schema)
    assert list(full.dtypes) == list(empty.dtypes)
    for column in tables.SCHEMAS[schema]:
        assert str(full[column.name].dtype) == DTYPES[column.dtype]


@pytest.mark.parametrize("schema", ["forced", "sifted", "candidates"])
def test_units_stand_in_the_names(schema):
    """A column whose name ends in a unit has that unit."""
    for column in tables.SCHEMAS[schema]:
        for ending, unit in (
            ("_mjy", "mJy"),
            ("_deg", "deg"),
            ("_arcsec", "arcsec"),
            ("_arcmin", "arcmin"),
            ("_s", "s"),
        ):
            if column.name.endswith(ending):
                assert column.unit == unit, column


def test_missing_and_unknown_columns_are_refused():
    """A table with a misspelt column names what is missing and what is not known."""
    columns = columns_of("catalog")
    columns["flux"] = columns.pop("flux_mjy")
    with pytest.raises(ValueError, match=r"missing columns \['flux_mjy'\], unknown columns \['flux'\]"):
        tables.make("catalog", columns)


def test_scalars_are_repeated_and_none_is_empty():
    """A scalar stands for all rows; None in a text column is the empty text."""
    found = tables.make("catalog", columns_of("catalog") | {"source_name": [None, 7], "flux_mjy": 2.0})
    assert list(found["source_name"]) == ["", "7"] and list(found["flux_mjy"]) == [2.0, 2.0]


def test_tables_are_copies():
    """Changing a table leaves the array it was made from alone."""
    flux = np.array([1.0, 2.0])
    found = tables.make("catalog", columns_of("catalog") | {"flux_mjy": flux})
    found.loc[0, "flux_mjy"] = 99.0
    assert list(flux) == [1.0, 2.0]


def test_flags_are_distinct_bits():
    """Flags and mask bits do not overlap and fit their columns; names and bits are inverse."""
    bits = [bit for bit, _ in tables.FLAGS.values()]
    assert len(set(bits)) == len(bits) and max(bits) < 32
    values = list(tables.MASK_BITS.values())
    assert sum(values) == np.bitwise_or.reduce(values) < 256
    assert tables.flag_names(tables.flag("MASKED", "BLENDED", "MASKED")) == ["MASKED", "BLENDED"]
    assert tables.flag() == 0 and tables.flag_names(0) == []
    with pytest.raises(KeyError, match="NONSENSE"):
        tables.flag("NONSENSE")
