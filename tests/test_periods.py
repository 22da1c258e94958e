"""Closed periods: which maps they hold, when they may be used, and that their parts read as the files did."""

import re

import h5py
import numpy as np
import pytest

from sotrplib import mapgroups, mapindex, periods, store

FIRST, SECOND, THIRD = "solat_i1_f090_1760100000", "solat_i3_f090_1760139999", "solat_i1_f090_1760140800"

MAP_STAGES = [stage for name, stage in periods.STAGES.items() if name != "searches"]


def rows(*map_ids):
    empty = dict.fromkeys(mapindex.COLUMNS, "") | {"form": "rho_kappa", "map_path": "a.fits", "weight_path": "b.fits"}
    labels = ("instrument", "array", "band")
    return {name: empty | {"map_id": name} | dict(zip(labels, name.split("_"), strict=False)) for name in map_ids}


def inputs():
    files = {
        name: [f"results/{stage}/{map_id}.h5" for map_id in (FIRST, SECOND)] for name, stage in periods.STAGES.items()
    }
    return files | {"searches": ["results/joint/solat_joint_multi_1760100000.h5"]}


@pytest.fixture
def sealed(tmp_path, monkeypatch):
    """A folder in which the day of the first two maps was sealed."""
    monkeypatch.chdir(tmp_path)
    for stage in MAP_STAGES:
        for name in (FIRST, SECOND):
            values = np.arange(4.0)
            store.write(f"results/{stage}/{name}.h5", attrs={"map_id": name, "status": "ok"}, arrays={"maps/a": values})
    store.write("results/joint/solat_joint_multi_1760100000.h5", attrs={"status": "ok"})
    periods.seal("results/periods/2025-10-10.h5", inputs())
    mapindex.write_map_table("results/periods/2025-10-10.csv", rows(FIRST, SECOND).values())
    return tmp_path


def test_days_end_at_midnight_utc():
    """A map belongs to the day, month and year in UTC of the time in its map_id."""
    assert [periods.date_of(name) for name in (FIRST, SECOND, THIRD)] == ["2025-10-10"] * 2 + ["2025-10-11"]
    assert periods.is_in(FIRST, ["2024", "2025-10"]) and periods.is_in(FIRST, ["2025-10-10"])
    assert not periods.is_in(FIRST, []) and not periods.is_in(THIRD, ["2025-10-10", "2024"])


def test_parts_read_as_the_files_did(sealed):
    """Parts of the file of a period hold what the files held, of filtered maps the attributes alone."""
    given = {name: [f"results/{stage}/{THIRD}.h5"] for name, stage in periods.STAGES.items()} | {"searches": []}
    found = periods.all_files(given | {"sealed": ["results/periods/2025-10-10.h5"]})
    lengths = {name: len(paths) for name, paths in found.items()}
    assert lengths == dict.fromkeys([*given, "filtered"], 3) | {"searches": 1}
    assert found["filtered"] == [f"results/preprocessed/{name}.h5" for name in (FIRST, THIRD, SECOND)]
    for name in ("pointing", "forced", "detections", "sifted"):
        stage = periods.STAGES[name]
        assert found[name][0] == f"results/periods/2025-10-10.h5/{stage}/{FIRST}.h5"
        assert store.read_attrs(found[name][0]) == store.read_attrs(f"results/{stage}/{FIRST}.h5")
        np.testing.assert_array_equal(store.read_array(found[name][0], "maps/a"), np.arange(4.0))
    assert store.read_attrs(found["maps"][2])["map_id"] == SECOND
    assert store.list_contents(found["maps"][2]) == {}
    with pytest.raises(store.StoreError, match="has no 'maps/a', only"):
        store.read_array(found["maps"][2], "maps/a")


def test_equal_files_give_equal_bytes(sealed):
    """Sealing again writes the same bytes."""
    path = sealed / "results/periods/2025-10-10.h5"
    with h5py.File(path) as file:
        assert sorted(file) == sorted(periods.STAGES.values())
    before = path.read_bytes()
    periods.seal(path, inputs())
    assert path.read_bytes() == before


def test_maps_that_come_and_go_are_noticed(sealed):
    """A period is used while the map table lists the maps that it was sealed with; the message says the cure."""
    periods.require_complete(rows(FIRST, SECOND, THIRD), ["2025-10-10"])
    with pytest.raises(
        mapindex.MapTableError, match=f"without .*1760100001.* and with .*{SECOND}.*take 2025-10-10 out"
    ):
        periods.require_complete(rows(FIRST, "solat_i1_f150_1760100001", THIRD), ["2025-10-10"])
    with pytest.raises(mapindex.MapTableError, match="2025-10-11.csv does not exist; take 2025-10-11 out"):
        periods.require_complete(rows(FIRST, SECOND, THIRD, "solat_i1_f090_1770000000"), ["2025-10-10", "2025-10-11"])
    with pytest.raises(mapindex.MapTableError, match="all 2 maps are sealed; leave the last period open"):
        periods.require_complete(rows(FIRST, SECOND), ["2025-10-10"])
    with pytest.raises(mapindex.MapTableError, match="2025-10-10 is named twice, or within"):
        periods.require_complete(rows(FIRST, SECOND, "solat_i1_f090_1770000000"), ["2025-10-10", "2025-10"])


def test_coadd_that_grows_is_refused():
    """A coadd that began in a sealed period and has open members would never hold them."""
    whole, growing = mapgroups.Coadd([FIRST, SECOND]), mapgroups.Coadd([FIRST, THIRD])
    periods.require_whole({"solat_coaddday_f090_1760054400": whole}, ["2025-10-10"])
    with pytest.raises(mapindex.MapTableError, match=f"grows, with .*{THIRD}"):
        periods.require_whole({"solat_coaddall_f090_1760100000": growing}, ["2025-10-10"])


def test_sealed_periods_are_not_made_again():
    """The rule of periods matches those that are not sealed, so that a sealed one is an input from outside."""
    assert re.fullmatch(periods.open_pattern([]), "2025-10")
    pattern = periods.open_pattern(["2025-10"])
    assert not re.match(rf"results/periods/{pattern}\.h5$", "results/periods/2025-10.h5")
    assert re.match(rf"results/periods/{pattern}\.h5$", "results/periods/2025-10-10.h5")
