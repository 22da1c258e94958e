"""Which source, and which moving object, a detection is."""

import numpy as np
import pytest
from test_sifting import OPTIONS, TIME, catalog, detections, forced, movers, sift

from sotrplib import geometry, matches


def test_all_matches_are_listed():
    """Each source in reach of a detection, most significant first; the first is the match; far ones are not listed."""
    dec = np.array([0.0, 60.0, -60.0]) / 3600
    known = catalog([10.0, 10.0, 10.0], dec, flux_mjy=[50.0, 70.0, 90.0])
    found = detections([10.0, 50.0, 10.0], [35 / 3600, 0.0, -31 / 3600], dec_err_arcsec=12.0)
    listed = matches.all_matches(found, known, OPTIONS)
    assert listed["detection_id"].tolist() == [0, 0, 2, 2]
    assert listed["source_id"].tolist() == ["s1", "s0", "s2", "s0"]
    np.testing.assert_allclose(listed["sep_arcsec"], [25, 35, 29, 31], atol=0.01)
    sigma = np.sqrt(12**2 + 1.5**2 + OPTIONS["pointing_floor_arcsec"] ** 2)
    np.testing.assert_allclose(listed["sep_sigma"], listed["sep_arcsec"] / sigma, rtol=1e-6)
    assert listed["catalog_flux_mjy"].tolist() == [70, 50, 90, 50]
    first = listed.drop_duplicates("detection_id").set_index("detection_id")["source_id"]
    assert sift(found, known)["matched_name"].tolist() == [first.get(k, "") for k in range(3)]
    assert matches.all_matches(found[:0], known, OPTIONS).empty and matches.all_matches(found, known[:0], OPTIONS).empty


def test_match_is_the_source_nearest_by_its_errors():
    """Of two sources the one with the smaller offset in sigma is the match; far from all there is none."""
    known = catalog([10.0, 10.0, 359.999], [20 / 3600, -12 / 3600, 0.0], flux_mjy=[50.0, 70.0, 90.0])
    found = detections([10.0, 30.0, 0.001], [0.0, 0.0, 0.0])
    best = matches.match_catalog(found, forced(known), known, OPTIONS)
    assert best["name"].tolist() == ["s1", "", "s2"]
    assert best["matched"].tolist() == [True, False, True]
    np.testing.assert_allclose(best["sep"], [12, np.nan, 7.2], atol=0.01)
    np.testing.assert_allclose(best["flux"], [70, np.nan, 90])


def test_match_needs_both_limits():
    """A source beyond the radius is not near; one beyond the significance is near and no match."""
    known = catalog([10.0], [0.0])
    for offset, name, matched in ((600.0, "", False), (60.0, "s0", False), (6.0, "s0", True)):
        found = detections([10.0], [offset / 3600], dec_err_arcsec=2.0)
        options = OPTIONS | {"match_radius_arcmin": 3.0, "match_sigma": 5.0, "pointing_floor_arcsec": 1.0}
        best = matches.match_catalog(found, forced(known), known, options)
        assert (best["name"][0], best["matched"][0]) == (name, matched)


def test_moving_object_is_matched_at_the_time_of_each_detection():
    """An object that crosses two detections is the match of each only at the time it was there."""
    mover = movers(["x", "x"], [10.0, 10.1], [0.0, 0.0], ra_rate_arcsec_h=360.0, time_unix_s=[TIME, TIME + 3600])
    found = detections([10.0, 10.0, 10.05], [0.0, 0.0, 0.0], time_unix_s=[TIME, TIME + 3600, TIME + 1800])
    best = matches.match_moving(found, mover, OPTIONS)
    assert best["matched"].tolist() == [True, False, True]
    np.testing.assert_allclose(best["sep"][[0, 2]], 0, atol=0.01)


@pytest.mark.parametrize(("ra", "dec"), [(10.0, 0.0), (359.999, -52.0), (0.0, 89.9)])
def test_propagated_object_has_gone_its_way(ra, dec):
    """After two hours an object is its rates times two away, across RA 0 and near a pole; without a time it stays."""
    mover = movers(["x"], [ra], [dec], ra_rate_arcsec_h=30.0, dec_rate_arcsec_h=-40.0)
    moved = matches.propagate(mover, np.array([TIME + 7200]))
    offset = geometry.tangent_offsets(moved["ra_deg"].to_numpy(), moved["dec_deg"].to_numpy(), ra, dec)
    np.testing.assert_allclose(np.ravel(offset), [60, -80], rtol=2e-3)
    assert 0 <= moved["ra_deg"][0] < 360 and moved["time_unix_s"][0] == TIME + 7200
    assert matches.propagate(mover, np.array([np.nan]))["dec_deg"][0] == dec


def test_tables_without_rows_match_nothing():
    """No detections, no sources and no objects: no rows, or rows without a match."""
    found, known, moving = detections([10.0], [0.0]), catalog([], []), movers([], [], [])
    assert matches.match_catalog(found[:0], forced(known), known, OPTIONS).empty
    assert not matches.match_catalog(found, forced(known), known, OPTIONS)["matched"].any()
    assert not matches.match_moving(found, moving, OPTIONS)["matched"].any()
