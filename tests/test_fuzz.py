"""Input from elsewhere is data and nothing else: whatever is in it, it is used or refused with an error of ours.

Bounded: every function is tried on as many inputs as its settings say, and the number is printed.
"""

import ast
import csv
import io
import resource
import subprocess
import sys
from functools import cache
from pathlib import Path

import h5py
import hypothesis
import numpy as np
import pytest
from astropy.io import fits
from hypothesis import strategies as st

from sotrplib import beams, configuration, ingest, mapindex, maps, sources, store

ROOT = Path(__file__).parents[1]
TRIED = {}  # inputs tried, by test
CATALOG = {
    "format": "auto",
    "columns": {"ra_deg": "raDeg", "dec_deg": "decDeg", "flux": "fluxJy", "flux_err": "e", "name": "name"}
    | {"spectral_index": None},
    "flux_unit": "Jy",
    "pos_err_arcsec": 1.5,
    "flux_min_mjy": 0.0,
}
ODD_TEXT = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["", "nan", "inf", "-1e400", "1e3", "\x00", '"', "../../etc/passwd", "{data_dir}", "#", "é", "0x1"]
    ),
)
ODD_VALUE = st.one_of(
    st.integers(-(10**13), 10**13), st.floats(), st.booleans(), st.text(st.characters(codec="ascii"), max_size=12)
)
GOOD_CELLS = ("solat_i1_f090_17", "solat", "i1", "f090", "rho_kappa", "a.fits", "b.fits", "", "", "", "1e9", "1")
ODD_ROW = st.one_of(
    st.lists(ODD_TEXT, max_size=13),
    st.tuples(*(st.one_of(st.just(cell), st.just(cell), ODD_TEXT) for cell in GOOD_CELLS)),
    st.tuples(st.from_regex(mapindex.MAP_ID, fullmatch=True), *map(st.just, GOOD_CELLS[1:])),
)
NUMBER = st.one_of(st.floats(), st.floats(-400, 400), ODD_TEXT).map(str)
NAMES = ["NAXIS", "NAXIS1", "NAXIS2", "NAXIS3", "BITPIX", "CTYPE1", "CTYPE2", "CRVAL1", "CRVAL2", "CDELT1", "CDELT2"]
NAMES += ["CRPIX1", "CRPIX2", "CD1_1", "CD1_2", "PC1_1", "PV2_1", "CUNIT1", "BUNIT", "BSCALE", "BZERO", "BLANK", "TREF"]
NAMES += ["RADESYS", "EQUINOX", "LONPOLE", "LATPOLE", "SIMPLE", "EXTEND", "XTENSION", "PCOUNT", "GCOUNT", "ZIMAGE"]


def bounded(number):
    """Settings of a test that tries a number of inputs, the same ones every time."""
    checks = [hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow]
    return hypothesis.settings(
        max_examples=number, deadline=None, derandomize=True, database=None, suppress_health_check=checks
    )


def count(name):
    TRIED[name] = TRIED.get(name, 0) + 1


@pytest.fixture(scope="module", autouse=True)
def say_how_many(request):
    """Print the number of inputs tried."""
    yield
    total = ", ".join(f"{name} {number}" for name, number in TRIED.items())
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        sys.stdout.write(f"\ninputs tried: {sum(TRIED.values())} ({total})\n")


@pytest.fixture(scope="module")
def band():
    return beams.band_info(beams.load_instruments(ROOT / "config/instruments.yaml"), "solat", "i1", "f090", {})


def write_fits(path, cards, data=b""):
    """A FITS file of given cards, whatever they say, and given bytes."""
    text = "".join(str(fits.Card(name, value)).ljust(80)[:80] for name, value in cards) + "END".ljust(80)
    text += " " * (-len(text) % 2880)
    path.write_bytes(text.encode("ascii", "replace") + data)


def map_cards(shape=(30, 40)):
    """Cards of a good map."""
    values = {"SIMPLE": True, "BITPIX": -32, "NAXIS": 2, "NAXIS1": shape[1], "NAXIS2": shape[0]}
    values |= {
        "CTYPE1": "RA---CAR",
        "CTYPE2": "DEC--CAR",
        "CRVAL1": 0.0,
        "CRVAL2": 0.0,
        "CDELT1": -0.01,
        "CDELT2": 0.01,
    }
    return values | {"CRPIX1": 20.0, "CRPIX2": 15.0, "BUNIT": "uK"}


def map_row(path, **values):
    row = {"map_id": "solat_i1_f090_1760100000", "instrument": "solat", "array": "i1", "band": "f090"}
    row |= {"form": "intensity_ivar", "map_path": str(path), "weight_path": str(path)}
    return dict.fromkeys(mapindex.COLUMNS, "") | row | values


# ---- tables ----------------------------------------------------------------------------------------------------------


@bounded(400)
@hypothesis.given(st.one_of(st.binary(max_size=200), st.lists(ODD_ROW, max_size=4)))
def test_any_map_table_is_read_or_refused(tmp_path_factory, content):
    """Bytes or cells of any kind give rows with all columns, or a MapTableError."""
    path = tmp_path_factory.getbasetemp() / "maps.csv"
    path.write_bytes(content if isinstance(content, bytes) else _table(mapindex.COLUMNS, content))
    count("map tables")
    try:
        rows = mapindex.read_map_table(path, "data")
        mapindex.check_roots(rows, ["data"], path)
    except mapindex.MapTableError:
        return
    assert all(set(row) == set(mapindex.COLUMNS) for row in rows)


@bounded(400)
@hypothesis.given(
    st.lists(st.sampled_from(["..", ".", "a", "~", "", "etc", "data", "\\", "~root"]), max_size=8), ODD_TEXT
)
def test_no_path_of_a_table_escapes(parts, tail):
    """A path that is accepted leads below the working directory or a root."""
    path = "/".join([*parts, tail])
    count("paths")
    try:
        mapindex.check_roots([map_row(path)], ["/srv/data"], "maps.csv")
    except mapindex.MapTableError:
        return
    assert Path(path).resolve().is_relative_to(Path.cwd()) or Path(path).resolve().is_relative_to("/srv/data")


@bounded(300)
@hypothesis.given(
    st.one_of(st.binary(max_size=300), st.lists(st.tuples(NUMBER, NUMBER, NUMBER, NUMBER, ODD_TEXT), max_size=5))
)
def test_any_catalogue_is_read_or_refused(tmp_path_factory, content):
    """Bytes or cells of any kind give sources with positions on the sky and finite fluxes, or a CatalogError."""
    path = tmp_path_factory.getbasetemp() / "catalog.csv"
    names = ("raDeg", "decDeg", "fluxJy", "e", "name")
    path.write_bytes(content if isinstance(content, bytes) else _table(names, content))
    count("catalogues")
    try:
        frame = sources.read_catalog(path, CATALOG)
    except sources.CatalogError:
        return
    assert np.isfinite(frame[["ra_deg", "dec_deg", "flux_mjy"]].to_numpy()).all()
    assert frame["ra_deg"].between(0, 360).all() and frame["dec_deg"].between(-90, 90).all()


@cache
def read_schema():
    return configuration.read_yaml(ROOT / "config/schemas/config.schema.yaml")


@bounded(300)
@hypothesis.given(st.recursive(ODD_TEXT, lambda part: st.dictionaries(ODD_TEXT, part, max_size=4), max_leaves=8))
def test_any_configuration_is_completed_or_refused(value):
    """A configuration of any shape is completed from the schema, or a ConfigError."""
    schema = read_schema()
    count("configurations")
    try:
        filled = configuration.resolve(value if isinstance(value, dict) else {"maps": value}, schema)
    except configuration.ConfigError:
        return
    assert set(filled) >= set(schema["properties"])


def _table(names, rows):
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(names)
    try:
        writer.writerows(rows)
    except csv.Error:
        hypothesis.reject()
    return text.getvalue().encode("utf-8", "surrogatepass")


# ---- headers ---------------------------------------------------------------------------------------------------------


@bounded(250)
@hypothesis.given(st.dictionaries(st.sampled_from(NAMES), ODD_VALUE, min_size=1, max_size=4), st.integers(0, 6000))
def test_any_header_is_read_or_refused(tmp_path_factory, band, changes, n_bytes):
    """A good map with any of its cards changed, and any number of bytes behind them, is a map or a MapError."""
    path = tmp_path_factory.getbasetemp() / "map.fits"
    try:
        write_fits(path, (map_cards() | changes).items(), b"\x3f" * n_bytes)
    except ValueError:
        hypothesis.reject()
    count("FITS headers")
    try:
        read = ingest.read_map(map_row(path), band)
    except maps.MapError:
        return
    assert read.signal.shape == read.weight.shape and np.isfinite(read.signal).all() and (read.weight >= 0).all()


@bounded(200)
@hypothesis.given(st.integers(0, 10_000), st.integers(0, 255), st.integers(0, 12_000))
def test_any_byte_of_a_map_may_change(tmp_path_factory, band, place, value, size):
    """A map with one byte changed, cut anywhere, is a map or a MapError."""
    path = tmp_path_factory.getbasetemp() / "map.fits"
    write_fits(path, map_cards().items(), np.ones(1200, ">f4").tobytes())
    content = bytearray(path.read_bytes())
    content[place % len(content)] = value
    path.write_bytes(content[:size])
    count("FITS bytes")
    try:
        ingest.read_map(map_row(path), band)
    except maps.MapError:
        return


@bounded(200)
@hypothesis.given(st.integers(0, 10_000), st.integers(1, 255), st.integers(0, 20_000))
def test_any_byte_of_an_info_file_may_change(tmp_path_factory, place, change, size):
    """An info file with one byte changed, cut anywhere, gives plain values or a StoreError."""
    path = tmp_path_factory.getbasetemp() / "info.hdf"
    store.write_info(path, {"t": 1.7e9, "period": np.array([1.0, 2.0]), "array": "i1_f090"})
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= change
    path.write_bytes(content[:size])
    count("HDF5 bytes")
    try:
        assert isinstance(store.read_info(path), dict)
    except store.StoreError:
        return


# ---- sizes -----------------------------------------------------------------------------------------------------------

HOSTILE = """
import resource, sys
from sotrplib import beams, ingest, maps, store
resource.setrlimit(resource.RLIMIT_AS, (2_000_000_000,) * 2)
kind, path, weight = sys.argv[1:]
try:
    if kind == "info":
        store.read_info(path)
    else:
        row = dict(map_id="solat_i1_f090_1", instrument="solat", array="i1", band="f090", form="intensity_ivar")
        band = beams.band_info(beams.load_instruments("config/instruments.yaml"), "solat", "i1", "f090", {})
        ingest.read_map(row | dict(map_path=path, weight_path=weight), band)
except (maps.MapError, store.StoreError) as error:
    print(error)
"""


def refused(kind, path):
    """What is said of a file by a process that has 2 GB, and the memory that it took, in MB."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    command = [sys.executable, "-c", HOSTILE, kind, str(path), str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, max(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, before) / 1024


@pytest.mark.parametrize("sparse", [False, True])
def test_promise_of_a_trillion_pixels(tmp_path, sparse):
    """A header of 10^6 x 10^6 pixels is refused at once, be the file short or, with holes, as long as it says."""
    path = tmp_path / "map.fits"
    write_fits(path, (map_cards((10**6, 10**6)) | {"CDELT1": -1e-5, "CDELT2": 1e-5}).items())
    if sparse:
        try:
            with open(path, "r+b") as file:
                file.truncate(4 * 10**12 + 2880)
        except OSError as error:
            pytest.skip(f"no file of 4 TB here: {error}")
    said, memory_mb = refused("map", path)
    assert ("pixels to be read" if sparse else "is truncated") in said
    assert memory_mb < 1000


def test_header_without_end(tmp_path):
    """A header of two gigabytes that never ends is refused after a few megabytes."""
    path = tmp_path / "map.fits"
    write_fits(path, map_cards().items())
    content = path.read_bytes().replace(b"END     ", b"COMMENT ")
    path.write_bytes(content)
    with open(path, "r+b") as file:
        file.truncate(2 * 10**9)
    said, memory_mb = refused("map", path)
    assert "no END in its header" in said
    assert memory_mb < 1000


def test_info_file_of_a_trillion_numbers(tmp_path):
    """A dataset that promises 10^12 numbers, or is a link to another file, is not read."""
    path = tmp_path / "info.hdf"
    with h5py.File(path, "w") as file:
        file.create_dataset("t", shape=(10**12,), dtype="f8", chunks=(1000,))
    said, memory_mb = refused("info", path)
    assert "too large or kept elsewhere" in said
    assert memory_mb < 1000
    store.write_info(tmp_path / "secret.hdf", {"key": 1.0})
    with h5py.File(path, "w") as file:
        file["t"] = h5py.ExternalLink("secret.hdf", "key")
        file["ids"] = h5py.SoftLink("/t")
    assert store.read_info(path) == {}


def test_array_of_a_trillion_numbers(tmp_path):
    """An array that promises far more than its file can hold is damage, not memory."""
    path = tmp_path / "map.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("maps/rho", shape=(10**6, 10**6), dtype="f4", chunks=(256, 256))
    with pytest.raises(store.DamagedError, match="promises 4000000000000 bytes"):
        store.read_array(path, "maps/rho")


# ---- code ------------------------------------------------------------------------------------------------------------

UNSAFE = {"pickle.load", "pickle.loads", "pickle.Unpickler", "pd.read_pickle", "pandas.read_pickle", "joblib.load"}
UNSAFE |= {"yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "marshal.loads", "shelve.open", "eval", "exec"}


@pytest.mark.parametrize(
    "path", sorted([*ROOT.glob("sotrplib/**/*.py"), *ROOT.glob("scripts/*.py")]), ids=lambda p: p.name
)
def test_nothing_that_is_read_can_run(path):
    """No module reads a pickle, lets NumPy read one, loads YAML with other than a safe loader, or evaluates text."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            name, given = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
            assert name not in UNSAFE
            assert given.get("allow_pickle", "False") == "False"
            assert name != "yaml.load" or given["Loader"] == "_SAFE"
    assert configuration._SAFE.__name__ in ("CSafeLoader", "SafeLoader")
