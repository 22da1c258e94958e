"""The catalogue of known sources: any format gives the same table, and every oddity is handled or named."""

from pathlib import Path

import numpy as np
import pytest
from astropy.table import MaskedColumn, Table

from sotrplib import sources, tables

DATA = Path(__file__).parents[2] / "shared" / "data"
COLUMNS = {"ra_deg": "raDeg", "dec_deg": "decDeg", "flux": "fluxJy", "flux_err": "err_fluxJy", "name": "name"}
OPTIONS = {
    "format": "auto",
    "columns": COLUMNS | {"spectral_index": None},
    "flux_unit": "Jy",
    "pos_err_arcsec": 1.5,
    "flux_min_mjy": 0.0,
}


def make_table(**columns):
    base = {"name": ["A", "B", "C"], "raDeg": [10.0, -20.0, 359.5], "decDeg": [-1.0, 2.5, 80.0]}
    return Table(base | {"fluxJy": [0.1, 0.02, 3.0], "err_fluxJy": [0.001, 0.002, 0.003]} | columns)


def read(tmp_path, table, name="c.csv", **options):
    kinds = {".csv": "ascii.csv", ".fits": "fits", ".ecsv": "ascii.ecsv"}
    path = tmp_path / name
    table.write(path, format=kinds.get(path.suffix, "ascii.csv"), overwrite=True)
    return sources.read_catalog(path, OPTIONS | options)


@pytest.mark.parametrize("name", ["c.csv", "c.fits", "c.ecsv"])
def test_every_format_gives_the_same_table(tmp_path, name):
    """CSV, FITS and ECSV become the table `catalog`: mJy, RA in 0..360, in the order of the file."""
    found = read(tmp_path, make_table(), name)
    assert list(found.columns) == tables.column_names("catalog")
    assert list(found["source_id"]) == list(found["source_name"]) == ["A", "B", "C"]
    np.testing.assert_allclose(found["ra_deg"], [10.0, 340.0, 359.5])
    np.testing.assert_allclose(found["flux_mjy"], [100.0, 20.0, 3000.0])
    np.testing.assert_allclose(found["flux_err_mjy"], [1.0, 2.0, 3.0])
    assert found["spectral_index"].isna().all() and set(found["pos_err_arcsec"]) == {1.5}
    assert found.attrs == {"n_dropped": 0, "n_faint": 0}


def test_stated_format_wins_over_the_name(tmp_path):
    """A CSV with another ending is read as CSV, by default and if told."""
    assert len(read(tmp_path, make_table(), "c.dat")) == len(read(tmp_path, make_table(), "c.dat", format="csv")) == 3


def test_columns_are_named_in_the_configuration(tmp_path):
    """Other names, units and a column of spectral indices are taken as told; spaces and comments do not matter."""
    path = tmp_path / "c.csv"
    path.write_text(
        "\ufeff# radio survey\n ra , dec, peak , alpha\n10, 20, 5.5, -0.3\n11, 21, 6.5, \n", encoding="utf-8"
    )
    columns = {
        "ra_deg": "ra",
        "dec_deg": "dec",
        "flux": "peak",
        "spectral_index": "alpha",
        "flux_err": None,
        "name": None,
    }
    found = sources.read_catalog(path, OPTIONS | {"columns": columns, "flux_unit": "mJy"})
    assert list(found["flux_mjy"]) == [5.5, 6.5] and found["flux_err_mjy"].isna().all()
    np.testing.assert_array_equal(found["spectral_index"], [-0.3, np.nan])
    assert list(found["source_id"]) == ["J004000.0+200000", "J004400.0+210000"]


@pytest.mark.parametrize("name", ["c.csv", "c.fits", "c.ecsv"])
def test_rows_without_position_or_flux_are_left_out(tmp_path, name, caplog):
    """NaN, infinite and masked values, and declinations off the sky, drop their row, with a count and a warning."""
    flux = MaskedColumn([np.nan, 1, 1, 1, np.inf, 1, 2], mask=[0, 0, 0, 0, 0, 1, 0])
    ra = [1, np.nan, 1, 1, 1, 1, 7.0]
    dec = [1, 1, np.nan, 91, 1, 1, 8.0]
    table = Table({"name": list("abcdefg"), "raDeg": ra, "decDeg": dec, "fluxJy": flux})
    found = read(tmp_path, table, name)
    assert list(found["source_id"]) == ["g"] and found.attrs["n_dropped"] == 6
    assert "6 of 7 rows have no finite position and flux; left out" in caplog.text


def test_an_absent_error_column_is_nan(tmp_path, caplog):
    """Optional columns that the file lacks are NaN, with a warning that names them."""
    table = make_table()
    table.remove_column("err_fluxJy")
    assert read(tmp_path, table)["flux_err_mjy"].isna().all()
    assert "has no column err_fluxJy" in caplog.text


def test_names_become_unique(tmp_path, caplog):
    """Repeated names are numbered without a clash; source_name stays; empty names come from the position."""
    table = Table(
        {
            "name": ["A", "A_2", "A", "A", ""],
            "raDeg": [1.0, 2, 3, 4, 187.70593],
            "decDeg": [0.0, 0, 0, 0, -12.39112],
            "fluxJy": [1.0] * 5,
        }
    )
    found = read(tmp_path, table)
    assert list(found["source_id"]) == ["A", "A_2", "A_3", "A_4", "J123049.4-122328"]
    assert list(found["source_name"][:4]) == ["A", "A_2", "A", "A"]
    assert "2 names occur more than once" in caplog.text


def test_numbers_as_names(tmp_path):
    """Names that look like numbers stay text."""
    assert list(read(tmp_path, make_table(name=["007", "1e5", "NaN"]))["source_id"]) == ["007", "1e5", "NaN"]


def test_faint_sources_are_left_out(tmp_path):
    """flux_min_mjy drops fainter sources, and counts them apart."""
    found = read(tmp_path, make_table(), flux_min_mjy=50.0)
    assert list(found["source_id"]) == ["A", "C"] and found.attrs == {"n_dropped": 0, "n_faint": 1}


def test_an_empty_catalogue_is_an_empty_table(tmp_path):
    """A file with a header and no rows gives no rows of the right types."""
    found = read(tmp_path, make_table()[:0])
    assert len(found) == 0 and list(found.dtypes) == list(tables.empty("catalog").dtypes)


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (
            make_table(),
            {"columns": OPTIONS["columns"] | {"flux": "flux"}},
            r"has no column \['flux'\], only \['name', 'raDeg'",
        ),
        (make_table(raDeg=["00:10", "00:11", "00:12"]), {}, "column raDeg holds '00:10'; expected numbers"),
    ],
)
def test_faults_of_a_catalogue_are_named(tmp_path, table, options, message):
    """A column that is missing or holds no numbers is refused with its file and the cure."""
    with pytest.raises(sources.CatalogError, match=message) as error:
        read(tmp_path, table, **options)
    assert "c.csv" in str(error.value) and "catalog.columns" in str(error.value)


@pytest.mark.parametrize(("column", "unit"), [("fluxJy", "mJy"), ("err_fluxJy", "mJy"), ("raDeg", "rad")])
@pytest.mark.parametrize("name", ["c.fits", "c.ecsv"])
def test_units_in_the_file_are_believed(tmp_path, name, column, unit):
    """A FITS or ECSV column that states another unit than the configuration is refused, the same unit is not."""
    table = make_table()
    table["fluxJy"].unit, table["raDeg"].unit = "Jy", "deg"
    assert len(read(tmp_path, table, name)) == 3
    table[column].unit = unit
    with pytest.raises(sources.CatalogError, match=f"column {column} is in {unit}; expected"):
        read(tmp_path, table, name)


@pytest.mark.parametrize(("name", "content"), [("c.fits", b"no table"), ("c.ecsv", b"# %ECSV 1.0\n"), ("c.csv", b"")])
def test_files_that_are_no_catalogue(tmp_path, name, content):
    """Missing, empty and foreign files are refused with the key that names them."""
    path = tmp_path / name
    with pytest.raises(sources.CatalogError, match="no such file; correct catalog.path"):
        sources.read_catalog(path, OPTIONS)
    path.write_bytes(content)
    with pytest.raises(sources.CatalogError, match=f"{name}: not a readable .* table .*; correct catalog.path"):
        sources.read_catalog(path, OPTIONS)


@pytest.mark.parametrize(
    ("ra", "dec", "name"),
    [
        (0.0, 0.0, "J000000.0+000000"),
        (359.99999, -0.00001, "J235959.9-000000"),
        (187.70593, 12.39112, "J123049.4+122328"),
        (15.0, -89.99999, "J010000.0-895959"),
    ],
)
def test_position_names_are_truncated(ra, dec, name):
    """Names of positions follow the IAU: truncated, not rounded."""
    assert sources.position_name(ra, dec) == name


def test_fluxes_are_scaled_to_the_band():
    """flux (freq / reference)^alpha with the source's own index or the default; errors scale alike; input untouched."""
    catalog = tables.make("catalog", {name: [] for name in tables.column_names("catalog")})
    columns = {"source_id": ["a", "b"], "source_name": "", "ra_deg": 0.0, "dec_deg": 0.0, "pos_err_arcsec": 1.0}
    columns |= {"flux_mjy": [100.0, 100.0], "flux_err_mjy": [10.0, 10.0], "spectral_index": [2.0, np.nan]}
    catalog = tables.make("catalog", columns)
    flux, error = sources.flux_in_band(catalog, 180.0, 90.0, -1.0)
    np.testing.assert_allclose(flux, [400.0, 50.0])
    np.testing.assert_allclose(error, [40.0, 5.0])
    assert list(catalog["flux_mjy"]) == [100.0, 100.0]


@pytest.mark.skipif(not (DATA / "nights").is_dir(), reason="the catalogue of ../shared/data is not here")
def test_catalogue_of_the_nights():
    """The catalogue beside the depth-1 maps is read whole."""
    found = sources.read_catalog(DATA / "nights" / "catalog.csv", OPTIONS)
    assert len(found) == 94 and found["flux_mjy"].between(1, 1e4).all() and found["source_id"].is_unique


def test_catalogue_in_a_band_keeps_all_but_the_fluxes():
    """Scaled from 90 to 180 GHz at the default index -1, fluxes and errors halve; names and positions stay."""
    row = {"source_id": ["a"], "source_name": ["A"], "ra_deg": [1.0], "dec_deg": [2.0], "flux_mjy": [50.0]}
    row |= {"flux_err_mjy": [5.0], "spectral_index": [np.nan], "pos_err_arcsec": [1.5]}
    catalog = tables.make("catalog", row)
    found = sources.in_band(catalog, 180.0, {"freq_ghz": 90.0, "spectral_index": -1.0})
    assert found[["flux_mjy", "flux_err_mjy"]].to_numpy().tolist() == [[25.0, 2.5]]
    kept = [name for name in catalog if not name.startswith("flux")]
    assert found[kept].equals(catalog[kept])
    assert catalog["flux_mjy"].tolist() == [50.0]


def test_additional_sources_follow_those_of_the_main_catalogue(tmp_path):
    """A second file adds what lies beyond twice the position error, over RA 0 too, under names of its own."""
    make_table().write(tmp_path / "main.csv", format="ascii.csv")
    near, far = 2.9 / 3600, 3.1 / 3600
    more = make_table(raDeg=[10.0, -20.0 + 360, 359.5], decDeg=[-1.0 + near, 2.5 + far, 80.0 + far])
    more.write(tmp_path / "more.fits")
    options = OPTIONS | {"additional": [tmp_path / "more.fits"]}
    found = sources.read_catalogs(tmp_path / "main.csv", options)
    assert list(found["source_id"]) == ["A", "B", "C", "B_2", "C_2"]
    assert list(found["source_name"]) == ["A", "B", "C", "B", "C"]
    assert found.attrs == {"n_dropped": 0, "n_faint": 0, "n_duplicate": 1}
    alone = sources.read_catalogs(tmp_path / "main.csv", OPTIONS | {"additional": []})
    assert alone.equals(sources.read_catalog(tmp_path / "main.csv", OPTIONS))
