"""The merged catalogue from tables of single maps."""

import numpy as np
import pandas as pd
import pytest
from nights import MERGE

from sotrplib import catalogs, spools, store, tables

ROW = {"map_id": "solat_i1_f090_1750000000", "instrument": "solat", "array": "i1", "band": "f090", "freq_ghz": 90.0}


def filled(schema, n, **columns):
    """A table of ones and empty texts, changed by ``columns``."""
    blank = {"str": "", "bool": False}
    given = {
        c.name: np.full(n, blank.get(c.dtype, 1), object if c.dtype == "str" else None) for c in tables.SCHEMAS[schema]
    }
    return tables.make(schema, given | columns)


def candidates(n):
    ids = [f"C{k}" for k in range(n)]
    return filled("candidates", n, candidate_id=ids, ra_deg=np.arange(n) + 0.5, matched_name=["", "Ceres"][:n])


def test_forced_photometry_becomes_measurements():
    """Rows keep their numbers and take the names of their map; kind is forced."""
    forced = filled("forced", 2, source_id=["a", "b"], flux_mjy=[3.0, np.nan], flags=[0, 1])
    found = catalogs.forced_measurements(forced, ROW)
    assert found["flux_mjy"].tolist()[0] == 3 and np.isnan(found["flux_mjy"][1])
    assert set(found["map_id"]) == {ROW["map_id"]} and set(found["kind"]) == {"forced"}
    assert found["flags"].tolist() == [0, 1]


def test_blind_detections_are_named():
    """Detections take the id of their candidate or known source; stray noise and flares leave none."""
    sifted = filled("sifted", 5, origin=["blind"] * 4 + ["forced"], matched_name=["", "Ceres", "s7", "", "s8"])
    sifted["class"] = ["transient", "moving", "known", "noise", "flare"]
    sifted = sifted.assign(map_id="m", array="i1", band="f090", freq_ghz=90.0)
    found = catalogs.blind_measurements(sifted, [0, 1, -1, -1, 0], candidates(2))
    assert found["source_id"].tolist() == ["C0", "C1", "s7"]
    assert found["source_name"].tolist() == ["C0", "Ceres", "s7"] and set(found["kind"]) == {"blind"}


def test_merging_does_not_depend_on_the_order_of_maps(rng):
    """Any order of the maps gives the same table, failed maps without rows included."""
    parts = []
    for k in range(6):
        forced = filled("forced", 4, source_id=list("abcd"), flux_mjy=rng.normal(size=4))
        parts.append(catalogs.forced_measurements(forced, ROW | {"map_id": f"m{k}"}))
    parts.append(tables.empty("measurements"))
    merged = catalogs.merge_measurements(iter(parts))
    assert len(merged) == 24
    pd.testing.assert_frame_equal(merged, catalogs.merge_measurements(parts[::-1]))


def test_sources_hold_positions_and_statistics():
    """A source has its catalogue position and a row a band; a candidate its own position, not one along its way."""
    forced = filled("forced", 2, source_id="a", ra_deg=10.0, flux_mjy=[1.0, 3.0], flags=0)
    first = catalogs.forced_measurements(forced, ROW)
    other = catalogs.forced_measurements(
        forced.assign(flux_mjy=[5.0, np.nan]), ROW | {"band": "f150", "freq_ghz": 150.0}
    )
    moving = first.assign(source_id="C1", source_name="Ceres", kind="confirm", ra_deg=[20.0, 21.0])
    blind = first.assign(kind="blind", source_id="a", ra_deg=99.0)
    sources, bands = catalogs.merge_sources(pd.concat([blind, first, other, moving]), candidates(2), MERGE, 90.0)
    assert sources["source_id"].tolist() == ["C1", "a"] and sources["ra_deg"].tolist() == [1.5, 10.0]
    assert sources["n_measurements"].tolist() == [2, 3] and sources["source_name"].tolist() == ["Ceres", ""]
    assert bands["band"].tolist() == ["f090", "f090", "f150"]
    assert bands["mean_flux_mjy"].tolist() == [2.0, 2.0, 5.0]


def test_sources_never_measured_are_kept():
    """A source under every map's holes is listed with no measurement and no band."""
    forced = filled("forced", 1, source_id="a", flux_mjy=np.nan, flags=tables.flag("NO_DATA"))
    sources, bands = catalogs.merge_sources(catalogs.forced_measurements(forced, ROW), candidates(0), MERGE, 90.0)
    assert sources["n_measurements"].tolist() == [0] and len(bands) == 0


def test_maps_are_listed_with_what_was_found():
    """A good map has its numbers, a failed one its reason, both sorted by map_id."""
    good = {"status": "ok", "reason": "", "time_unix_s": 5.0, "area_deg2": 24.0, "flux_err_mjy": 7.0, "snr_std": 1.01}
    bad = {"status": "failed", "reason": "x.fits: is truncated"}
    rows = [
        catalogs.map_row(ROW | {"map_id": "z"}, good, 12, (40, 3, 1), offset=(8.0, -3.0)),
        catalogs.map_row(ROW | {"map_id": "b"}, bad, 0, (0, 0, 0), offset=(0.0, 0.0)),
    ]
    found = catalogs.make_maps(rows)
    assert found["map_id"].tolist() == ["b", "z"] and found["status"].tolist() == ["failed", "ok"]
    assert found["reason"][0] == "x.fits: is truncated" and np.isnan(found["area_deg2"][0])
    assert np.isnan(found["ra_offset_arcsec"][0]) and found["ra_offset_arcsec"][1] == 8.0
    assert found[["n_pointing", "n_forced", "n_detections", "n_candidates"]].iloc[1].tolist() == [12, 40, 3, 1]


def test_maps_are_read_from_their_files(tmp_path):
    """Status and numbers come from the files; tables of good maps are put together, without those that failed."""
    good = {"status": "ok", "reason": "", "time_unix_s": 5.0, "area_deg2": 24.0, "info": {"freq_ghz": 93.0}}
    for map_id, first, last in (
        ("solat_i1_f090_1", good, {"status": "ok", "reason": ""}),
        ("solat_i3_f150_2", good, {"status": "failed", "reason": "too odd"}),
        ("solat_i4_f150_3", {"status": "failed", "reason": "truncated"}, {"status": "failed", "reason": "truncated"}),
    ):
        store.write(tmp_path / f"a_{map_id}.h5", attrs={"map_id": map_id} | first)
        frames = {"sifted": ("sifted", filled("sifted", 2))}
        store.write(tmp_path / f"b_{map_id}.h5", attrs={"map_id": map_id} | last, frames=frames)
    paths = sorted(tmp_path.glob("b_*"))
    found = catalogs.read_maps(paths, sorted(tmp_path.glob("a_*")))
    assert found["reason"].tolist() == ["", "too odd", "truncated"]
    assert found["array"].tolist() == ["i1", "i3", "i4"] and found["freq_ghz"].tolist()[0] == 93.0
    assert np.isnan(found["area_deg2"][2]) and np.isnan(found["freq_ghz"][2])
    stacked = catalogs.read_stacked(paths, "sifted", found)
    assert stacked["map_id"].tolist() == ["solat_i1_f090_1"] * 2
    nothing = catalogs.read_stacked(paths[1:], "sifted", found[1:])
    assert len(nothing) == 0 and list(nothing.columns) == list(stacked.columns)


@pytest.mark.parametrize("maps", [0, 2])
def test_nothing_gives_empty_tables(maps):
    """No maps, or none but failed ones, give empty tables of the right types."""
    merged = catalogs.merge_measurements([tables.empty("measurements")] * maps)
    sources, bands = catalogs.merge_sources(merged, candidates(0), MERGE, 90.0)
    for frame, schema in ((merged, "measurements"), (sources, "sources"), (bands, "source_bands")):
        assert frame.dtypes.equals(tables.empty(schema).dtypes) and len(frame) == 0
    empty = tables.empty("sifted").assign(map_id="", array="", band="", freq_ghz=0.0)
    assert len(catalogs.blind_measurements(empty, [], candidates(0))) == 0
    assert len(catalogs.make_maps([])) == 0


def test_streaming_changes_nothing(rng, tmp_path):
    """Map by map, and source by source through the disk, the tables are those made in memory, to the last bit."""
    forced = {f"m{k}": filled("forced", 30, source_id=[f"s{j}" for j in range(30)], flags=0) for k in range(12)}
    for frame in forced.values():
        frame["flux_mjy"], frame["time_unix_s"] = rng.normal(9, 2, 30), rng.uniform(1.7e9, 1.8e9, 30)
    rows = {name: ROW | {"map_id": name, "band": rng.choice(["f090", "f150"])} for name in forced}
    others = catalogs.forced_measurements(forced["m3"], rows["m3"]).assign(kind="confirm", source_id="C0")[:1]
    parts = [catalogs.forced_measurements(frame, rows[name]) for name, frame in forced.items()]
    expected = catalogs.merge_measurements([*parts, others])
    with spools.Spool(4, tmp_path) as spool:
        maps = ((rows[name], forced[name]) for name in sorted(forced))
        streamed = pd.concat(list(spool.passed(catalogs.stream_measurements(maps, others), "source_id")))
        found = catalogs.merge_parts(spool.parts(), candidates(1), MERGE, 90.0)
    pd.testing.assert_frame_equal(streamed.reset_index(drop=True), expected)
    for frame, other in zip(found, catalogs.merge_sources(expected, candidates(1), MERGE, 90.0), strict=True):
        pd.testing.assert_frame_equal(frame, other)
