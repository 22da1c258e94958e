"""The list of maps: the table and the directory give the same rows, and every fault is named with its line."""

import subprocess
import sys
from pathlib import Path

import pytest

from sotrplib import mapindex

ROW = {
    "map_id": "solat_i1_f090_1763085600",
    "instrument": "solat",
    "array": "i1",
    "band": "f090",
    "form": "intensity_ivar",
    "map_path": "{data_dir}/m.fits",
    "weight_path": "{data_dir}/i.fits",
}
HEADER = ",".join(ROW)
LINE = ",".join(ROW.values())


def write(path, *lines):
    path.write_text("\n".join(lines) + "\n")
    return path


def touch(directory, *names):
    for name in names:
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.touch()


def test_table_without_optional_columns(tmp_path):
    """Columns left out are empty; {data_dir} is replaced; comments, blank lines and a BOM are skipped."""
    path = tmp_path / "maps.csv"
    path.write_text(f"\ufeff# my maps\n{HEADER}\n\n{LINE}\n", encoding="utf-8")
    (row,) = mapindex.read_map_table(path, data_dir="/data")
    assert tuple(row) == mapindex.COLUMNS
    assert row["map_path"] == "/data/m.fits" and row["gain"] == row["time_path"] == ""


def test_table_and_directory_give_the_same_rows(tmp_path):
    """A directory written out as a table and read back is the same list."""
    names = ["depth1_1763085600_i1_f090_map.fits", "depth1_1763085600_i1_f090_ivar.fits"]
    touch(tmp_path, *(f"17630/{name}" for name in names), "17630/depth1_1763085600_i1_f090_info.hdf")
    rows = mapindex.discover_depth1(tmp_path, "solat")
    mapindex.write_map_table(tmp_path / "maps.csv", rows)
    assert mapindex.read_map_table(tmp_path / "maps.csv") == rows
    assert rows[0]["map_id"] == "solat_i1_f090_1763085600"
    assert rows[0]["info_path"].endswith("_info.hdf") and rows[0]["time_path"] == ""


def test_directory_is_searched_by_name(tmp_path):
    """Maps here and one level down are found, raw before filtered, sorted by map_id; other files are not."""
    touch(
        tmp_path,
        "depth1_0000000007_pa5_f090_map.fits",
        "a/depth1_1505603191_pa4_f150_rho.fits",
        "a/depth1_1505603191_pa4_f150_kappa.fits",
        "a/depth1_1505603190_pa4_f150_map.fits",
        "a/depth1_1505603190_pa4_f150_rho.fits",
        "a/depth1_1505603190_pa4_f150_time.fits",
        "a/notes.txt",
        "a/coadd_f090_map.fits",
    )
    rows = mapindex.discover_depth1(tmp_path, "act")
    assert [row["map_id"] for row in rows] == ["act_pa4_f150_1505603190", "act_pa4_f150_1505603191", "act_pa5_f090_7"]
    assert [row["form"] for row in rows] == ["intensity_ivar", "rho_kappa", "intensity_ivar"]
    assert rows[1]["weight_path"] == str(tmp_path / "a/depth1_1505603191_pa4_f150_kappa.fits")
    assert rows[0]["weight_path"].endswith("_ivar.fits"), "a missing weight is listed, and found missing on reading"


def test_empty_or_missing_directory(tmp_path):
    """A directory without maps, or none, says what was looked for."""
    with pytest.raises(mapindex.MapTableError, match="holds no file named depth1_"):
        mapindex.discover_depth1(tmp_path, "act")
    with pytest.raises(mapindex.MapTableError, match="no such directory; give the one"):
        mapindex.discover_depth1(tmp_path / "gone", "act")


def test_the_same_map_twice_in_a_directory(tmp_path):
    """Two files that make one map_id are refused."""
    touch(tmp_path, "depth1_1763085600_i1_f090_map.fits", "a/depth1_1763085600_i1_f090_map.fits")
    with pytest.raises(mapindex.MapTableError, match="is also at .* row 1; remove one"):
        mapindex.discover_depth1(tmp_path, "solat")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "is empty; expected a header line map_id"),
        ([HEADER.replace(",weight_path", "")], r"missing columns \['weight_path'\]"),
        ([HEADER + ",gian", LINE + ",1"], r"unknown columns \['gian'\]"),
        ([HEADER + ",band", LINE + ",f090"], r"repeated columns \['band'\]"),
        ([HEADER, LINE, LINE], "line 3: map_id 'solat_i1_f090_1763085600' is also at .* line 2; remove one"),
        ([HEADER, "# x", LINE + ",1"], "line 3: has 8 cells; expected 7"),
        ([HEADER, LINE.replace("_1763085600", "")], "line 2: map_id 'solat_i1_f090'; expected solat_i1_f090_<unix"),
        ([HEADER, LINE.replace("solat_i1", "solat_i3")], "expected solat_i1_f090_<unix time>"),
        ([HEADER, LINE.replace("i1", "I1")], "lower-case letters"),
        ([HEADER, LINE.replace("intensity_ivar", "ivar")], "form 'ivar'; expected one of intensity_ivar, rho_kappa"),
        ([HEADER, LINE.replace("{data_dir}/i.fits", "")], "weight_path empty; fill in"),
        ([HEADER + ",gain", LINE + ",-1"], "gain is '-1'; expected a positive number or nothing"),
        ([HEADER + ",time_unix_s", LINE + ",noon"], "time_unix_s is 'noon'; expected a number or nothing"),
        ([HEADER, LINE], r"uses \{data_dir\}, which is not set"),
    ],
)
def test_faults_of_a_table_are_named(tmp_path, lines, message):
    """Each fault stops the run with the file, the line, what was found and the cure."""
    path = write(tmp_path / "maps.csv", *lines) if lines else tmp_path / "maps.csv"
    path.touch()
    with pytest.raises(mapindex.MapTableError, match=message) as error:
        mapindex.read_map_table(path)
    assert str(path) in str(error.value)


def test_missing_table(tmp_path):
    """A table that is not there names the key that points to it."""
    with pytest.raises(mapindex.MapTableError, match="give the map table in `maps: table`"):
        mapindex.read_map_table(tmp_path / "maps.csv")


def test_import_is_light():
    """Importing mapindex loads neither numpy nor anything else heavy: the Snakefile does it at every call."""
    code = "import sys; from sotrplib import mapindex; print({'numpy', 'pandas', 'astropy'} & set(sys.modules))"
    root = Path(__file__).parents[1]
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


def test_maps_are_selected_by_what_they_are():
    """Arrays, bands, times, names and a number each narrow the list and keep its order."""
    everything = {
        "arrays": [],
        "bands": [],
        "exclude": [],
        "time_min_unix_s": None,
        "time_max_unix_s": None,
        "n_max": None,
    }
    ids = [("i1", "f090", 100), ("i1", "f150", 100), ("i3", "f090", 200), ("i3", "f090", 300)]
    rows = [{"map_id": f"solat_{array}_{band}_{t}", "array": array, "band": band} for array, band, t in ids]

    def chosen(**options):
        return [rows.index(row) for row in mapindex.select(rows, everything | options)]

    assert chosen() == [0, 1, 2, 3]
    assert chosen(arrays=["i3"]) == [2, 3] and chosen(bands=["f150"]) == [1]
    assert chosen(time_min_unix_s=200, time_max_unix_s=250) == [2]
    assert chosen(exclude=["solat_i1_f090_100"], n_max=2) == [1, 2]


@pytest.mark.parametrize("path", ["/etc/passwd", "../map.fits", "data/../../map.fits", "~/map.fits"])
def test_files_outside_of_the_roots_are_refused(path):
    """A map table cannot name files outside of the working directory unless their folder is a root."""
    row = dict.fromkeys(mapindex.PATHS, "") | {"map_id": "a_b_c_1", "map_path": path}
    with pytest.raises(mapindex.MapTableError, match=r"a_b_c_1: map_path .* is outside .*maps\.roots"):
        mapindex.check_roots([row], ["", "elsewhere"], "maps.csv")
    mapindex.check_roots([row], ["/"], "maps.csv")


def test_files_of_the_roots_are_accepted(tmp_path):
    """Files below the working directory, a root, or reached through a link in one, are fine."""
    (tmp_path / "link").symlink_to("/usr")
    paths = [
        "map.fits",
        "a/../map.fits",
        f"{tmp_path}/map.fits",
        f"{tmp_path}/a/../map.fits",
        f"{tmp_path}/link/map.fits",
    ]
    rows = [dict.fromkeys(mapindex.PATHS, "") | {"map_id": "a_b_c_1", "map_path": path} for path in paths]
    mapindex.check_roots(rows, ["", str(tmp_path)], "maps.csv")
