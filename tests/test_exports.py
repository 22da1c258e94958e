"""Exports: every format gives the numbers back, and equal tables give equal bytes."""

import functools
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import astropy.io.votable
import lxml.etree
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.io.votable import parse as parse_votable
from astropy.table import Table
from astropy.time import Time

from sotrplib import exports, store, tables


def filled(schema, n=5):
    """A table of any schema with NaN, text beyond ASCII and large flags in it."""
    makers = {
        "str": lambda k: [f"{k} {i} ′" for i in range(n)],
        "f8": lambda k: np.where(np.arange(n) == 1, np.nan, np.arange(n) / 3),
        "bool": lambda k: np.arange(n) % 2 == 0,
        "u4": lambda k: np.full(n, 2**32 - 1),
    }
    default = lambda k: np.arange(n)  # noqa: E731
    return tables.make(schema, {c.name: makers.get(c.dtype, default)(c.name) for c in tables.SCHEMAS[schema]})


READERS = {
    ".parquet": pd.read_parquet,
    ".csv": pd.read_csv,
    ".pkl": pd.read_pickle,
    ".fits": lambda path: Table.read(path).to_pandas(),
}


@pytest.mark.parametrize("suffix", READERS)
@pytest.mark.parametrize("schema", ["measurements", "sources", "candidates", "counterparts", "maps"])
def test_numbers_come_back(tmp_path, suffix, schema):
    """Numbers written in any format read back equal."""
    frame, path = filled(schema), tmp_path / f"{schema}{suffix}"
    exports.export(path, frame, tables.SCHEMAS[schema])
    found = READERS[suffix](path)
    assert list(found.columns) == list(frame.columns)
    for column in tables.SCHEMAS[schema]:
        if column.dtype != "str":
            np.testing.assert_array_equal(found[column.name].to_numpy(), frame[column.name].to_numpy())
        elif suffix != ".fits":
            assert found[column.name].tolist() == frame[column.name].tolist()


@pytest.mark.parametrize("suffix", READERS)
def test_empty_tables_are_written(tmp_path, suffix):
    """A table without rows keeps its columns in every format."""
    path = tmp_path / f"empty{suffix}"
    exports.export(path, tables.empty("candidates"), tables.SCHEMAS["candidates"])
    found = READERS[suffix](path)
    assert len(found) == 0 and list(found.columns) == tables.column_names("candidates")


def test_units_stand_in_fits_and_parquet(tmp_path):
    """Units and descriptions are in the FITS header and in the Parquet schema."""
    frame, columns = filled("sources"), tables.SCHEMAS["sources"]
    for suffix in (".fits", ".parquet"):
        exports.export(tmp_path / f"s{suffix}", frame, columns)
    header = fits.getheader(tmp_path / "s.fits", 1)
    assert (header["TTYPE3"], header["TUNIT3"], header["TCOMM3"]) == ("ra_deg", "deg", "right ascension, 0 to 360")
    assert "TUNIT1" not in header
    field = pq.read_schema(tmp_path / "s.parquet").field("dec_deg")
    assert field.metadata == {b"unit": b"deg", b"description": b"declination"}


def test_fits_passes_verification(tmp_path):
    """The FITS file meets the standard, text beyond ASCII included."""
    exports.export(tmp_path / "m.fits", filled("maps"), tables.SCHEMAS["maps"])
    with fits.open(tmp_path / "m.fits") as hdus:
        hdus.verify("exception")
        assert hdus[1].data["map_id"][0] == "map_id 0 \\u2032"


def test_equal_tables_give_equal_bytes(tmp_path):
    """Another process with another hash seed writes the same bytes in every format."""
    code = (
        "import sys; from test_exports import filled; from sotrplib import exports, tables;"
        "schema = tables.SCHEMAS['measurements'];"
        "[exports.export(sys.argv[1] + s, filled('measurements'), schema) for s in exports.SUFFIXES.values()]"
    )
    path = [os.path.dirname(__file__), os.path.dirname(os.path.dirname(__file__))]
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(path)}
    subprocess.run([sys.executable, "-c", code, tmp_path / "other"], check=True, env=environment)
    for suffix in exports.SUFFIXES.values():
        exports.export(tmp_path / f"own{suffix}", filled("measurements"), tables.SCHEMAS["measurements"])
        assert (tmp_path / f"own{suffix}").read_bytes() == (tmp_path / f"other{suffix}").read_bytes()


def test_wide_sources_have_the_bands_side_by_side(tmp_path):
    """A source measured in one band of two has numbers there and NaN in the other."""
    sources = filled("sources", 2).assign(source_id=["a", "b"])
    columns = {c.name: [1.0, 2.0, 3.0] for c in tables.SCHEMAS["source_bands"]}
    columns |= {"source_id": ["b", "a", "b"], "band": ["f090", "f150", "f150"]}
    frame, described = exports.wide_sources(sources, tables.make("source_bands", columns))
    np.testing.assert_array_equal(frame["mean_flux_f090_mjy"], [np.nan, 1])
    np.testing.assert_array_equal(frame["mean_flux_err_f150_mjy"], [2, 3])
    assert [c.name for c in described] == list(frame.columns)
    assert {c.unit for c in described if "f090" in c.name and c.name.endswith("_mjy")} == {"mJy"}
    np.testing.assert_array_equal(frame["eta_f090"], [np.nan, 1])
    assert {c.unit for c in described if c.name in ("eta_f090", "flare_sigma_f150")} == {"1"}
    exports.export(tmp_path / "sources.fits", frame, described)


def test_candidates_are_chosen_by_class():
    """Only candidates of the classes named are kept, in their order; no name keeps all."""
    table = filled("candidates", 4).assign(**{"class": ["flare", "moving", "transient", "flare"]})
    assert exports.of_classes(table, ["flare", "transient"])["candidate_id"].tolist() == [
        table["candidate_id"][k] for k in (0, 2, 3)
    ]
    assert exports.of_classes(table, []).equals(table)
    assert list(exports.of_classes(table, ["artefact"]).columns) == list(table.columns)


def test_counterparts_are_those_of_the_candidates_exported():
    """A counterpart goes with its candidate, in order; none stays alone."""
    candidates = filled("candidates", 3).assign(candidate_id=["a", "b", "c"])
    table = filled("counterparts", 4).assign(candidate_id=["c", "b", "a", "c"])
    chosen = exports.of_candidates(table, candidates[candidates["candidate_id"] != "b"])
    assert chosen["candidate_id"].tolist() == ["c", "a", "c"]
    assert exports.of_candidates(table, candidates[:0]).empty


def test_wide_sources_without_any_band():
    """No measurements leave the columns of the plain table."""
    frame, _ = exports.wide_sources(tables.empty("sources"), tables.empty("source_bands"))
    assert list(frame.columns) == tables.column_names("sources")


def test_wrong_requests_are_refused(tmp_path):
    """An unknown format and columns of another table are errors that name the file, and leave none behind."""
    with pytest.raises(ValueError, match="cannot export to '.xls'"):
        exports.export(tmp_path / "a.xls", filled("maps"), tables.SCHEMAS["maps"])
    with pytest.raises(ValueError, match="a.csv: the table has columns"):
        exports.export(tmp_path / "a.csv", filled("maps"), tables.SCHEMAS["sources"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("schema", ["measurements", "sources", "candidates", "maps"])
def test_json_gives_every_row_back(tmp_path, schema):
    """JSON holds a list of rows that any reader takes: numbers and text exactly, null for NaN, [] for no rows."""
    frame = filled(schema)
    exports.export(tmp_path / "t.json", frame, tables.SCHEMAS[schema])
    rows = json.loads((tmp_path / "t.json").read_text(), parse_constant=pytest.fail)
    expected = [{k: None if v != v else v for k, v in row.items()} for row in frame.to_dict("records")]
    assert rows == expected
    exports.export(tmp_path / "t.json", frame[:0], tables.SCHEMAS[schema])
    assert json.loads((tmp_path / "t.json").read_text()) == []


@pytest.mark.parametrize("schema", ["measurements", "sources", "candidates", "maps"])
def test_votable_is_valid_and_gives_the_numbers_back(tmp_path, schema):
    """A VOTable fits its own schema; numbers, text beyond ASCII, units and descriptions come back, empty ones too."""
    schemas = Path(astropy.io.votable.__file__).parent / "data"
    for frame in (filled(schema), tables.empty(schema)):
        path = tmp_path / f"{schema}.vot"
        exports.export(path, frame, tables.SCHEMAS[schema])
        version = re.search(rb'VOTABLE[^>]*version="([\d.]+)"', path.read_bytes())[1].decode()
        rules = lxml.etree.XMLSchema(lxml.etree.parse(schemas / f"VOTable.v{version}.xsd"))
        rules.assertValid(lxml.etree.parse(path))
        found = Table.read(path, format="votable")
        assert found.colnames == list(frame.columns) and len(found) == len(frame)
        for column in tables.SCHEMAS[schema]:
            assert str(found[column.name].unit or "1") == column.unit
            assert found[column.name].description.split() == column.description.split()
            if len(frame):
                values = np.ma.getdata(
                    found[column.name].filled(np.nan) if column.dtype == "f8" else found[column.name]
                )
                expected = frame[column.name].to_numpy()
                assert list(values) == list(expected) or np.array_equal(values, expected, equal_nan=True)


def test_votable_marks_positions(tmp_path):
    """Programs of the virtual observatory find RA, Dec, fluxes and the identifier by their UCD."""
    path = tmp_path / "candidates.vot"
    exports.export(path, filled("candidates"), tables.SCHEMAS["candidates"])
    fields = {field.name: field.ucd for field in parse_votable(path).get_first_table().fields}
    assert fields["ra_deg"] == "pos.eq.ra;meta.main" and fields["dec_deg"] == "pos.eq.dec;meta.main"
    assert fields["candidate_id"] == "meta.id;meta.main" and fields["flux_mjy"] == "phot.flux.density;em.mm"
    assert fields["map_id"] == "meta.id"
    exports.export(tmp_path / "candidates.fits", filled("candidates"), tables.SCHEMAS["candidates"])
    header = fits.getheader(tmp_path / "candidates.fits", 1)
    assert {header[f"TTYPE{k}"]: header.get(f"TUCD{k}") for k in range(1, header["TFIELDS"] + 1)} == fields


def test_votable_says_frame_and_clock(tmp_path):
    """Positions refer to ICRS, times to the unix epoch in UTC; a table without either declares neither."""
    exports.export(tmp_path / "m.vot", filled("measurements"), tables.SCHEMAS["measurements"])
    (resource,) = parse_votable(tmp_path / "m.vot").resources
    (frame,), (clock,) = resource.coordinate_systems, resource.time_systems
    refs = {field.name: field.ref for field in resource.tables[0].fields if field.ref}
    assert frame.system == "ICRS" and refs == {"ra_deg": frame.ID, "dec_deg": frame.ID, "time_unix_s": clock.ID}
    assert clock.timescale == "UTC" and Time(clock.timeorigin, format="jd").unix == 0.0
    exports.export(tmp_path / "c.vot", filled("counterparts"), tables.SCHEMAS["counterparts"])
    (resource,) = parse_votable(tmp_path / "c.vot").resources
    assert not resource.coordinate_systems and not resource.time_systems


@pytest.mark.skipif(shutil.which("stilts") is None, reason="needs stilts, TOPCAT on the command line (Debian: stilts)")
def test_topcat_opens_the_tables(tmp_path):
    """STILTS finds nothing to warn of in a VOTable, and reads columns, units, UCDs and rows of it and of FITS alike."""
    frames = {"none": tables.empty("candidates"), "some": filled("candidates")}
    stilts = functools.partial(subprocess.run, check=True, capture_output=True, text=True)
    heads = {}
    for name, suffix in itertools.product(frames, (".vot", ".fits")):
        path = tmp_path / f"{name}{suffix}"
        exports.export(path, frames[name], tables.SCHEMAS["candidates"])
        done = stilts(["stilts", "tpipe", f"in={path}", "cmd=meta name units ucd", "omode=out", "ofmt=csv"])
        heads[path.name] = done.stdout
        count = stilts(["stilts", "tpipe", f"in={path}", "omode=count"]).stdout.split()
        assert count == ["columns:", str(len(frames[name].columns)), "rows:", str(len(frames[name]))]
    assert len(set(heads.values())) == 1 and "ra_deg,deg,pos.eq.ra;meta.main" in heads["none.vot"]
    for name in frames:
        assert stilts(["stilts", "votlint", tmp_path / f"{name}.vot"]).stdout == ""


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".fits"])
@pytest.mark.parametrize("n", [0, 7])
def test_blocks_export_like_the_whole(tmp_path, suffix, n):
    """A table exported block by block has the rows, types and descriptions of the table exported whole."""
    columns = tables.SCHEMAS["sources"]
    frame = pd.concat([tables.empty("sources")] + [_one_source(k) for k in range(n)], ignore_index=True)
    frame = tables.make("sources", frame)
    blocks = store.Blocks(n, [frame[:3], frame[3:]])
    exports.export(tmp_path / f"whole{suffix}", frame, columns)
    exports.export(tmp_path / f"blocks{suffix}", blocks, columns)
    if suffix == ".parquet":
        whole, again = (pq.read_table(tmp_path / f"{name}{suffix}") for name in ("whole", "blocks"))
        assert whole.equals(again) and whole.schema.equals(again.schema, check_metadata=True)
    else:
        assert (tmp_path / f"whole{suffix}").read_bytes() == (tmp_path / f"blocks{suffix}").read_bytes()


def _one_source(k):
    blank = {"str": f"s{k}", "bool": False}
    return tables.make("sources", {c.name: [blank.get(c.dtype, k)] for c in tables.SCHEMAS["sources"]})
