"""Light curves along the way of moving objects, on maps whose content is known."""

import numpy as np
import pandas as pd
import pytest

from sotrplib import movers, tables

MAPS = pd.DataFrame(
    {"map_id": ["m1", "m2", "m3"], "array": ["i1", "i3", "i1"], "band": "f090", "freq_ghz": 93.0, "time_unix_s": 5.0}
)


def way(name, ra_deg, **columns):
    """Rows of an object in the maps m1, m2, ... at these right ascensions."""
    given = {"name": name, "time_unix_s": 1e9, "ra_deg": ra_deg, "dec_deg": -10.0, "ra_rate_arcsec_h": 30.0}
    given |= {"dec_rate_arcsec_h": 0.0, "pos_err_arcsec": 0.2, "radius_arcmin": 0.0, "kind": "asteroid"}
    frame = tables.make("moving", given | columns)
    return frame.assign(map_id=[f"m{k + 1}" for k in range(len(frame))])


def sky(places, *, no_data=(), no_time=()):
    """A function that finds ``places[map_id]`` = (ra_deg, flux) within an arcsecond, 0 elsewhere, errors 2 mJy."""

    def measure(map_id, targets):
        ra, flux = places[map_id]
        hit = np.abs(targets["ra_deg"].to_numpy() - ra) < 1 / 3600
        value = np.where(hit, flux, 0.0) if map_id not in no_data else np.full(len(targets), np.nan)
        columns = dict.fromkeys(tables.column_names("forced"), 0.0) | {name: targets[name] for name in targets}
        columns |= {
            "source_name": "",
            "flux_mjy": value,
            "flux_err_mjy": 2.0,
            "snr": value / 2.0,
            "catalog_flux_mjy": np.nan,
        }
        columns |= {"time_unix_s": np.nan if map_id in no_time else 1e9}
        flags = tables.flag("NO_DATA") if map_id in no_data else 0
        return tables.make("forced", columns | {"flags": flags, "n_blend": 1})

    return measure


def test_objects_are_measured_where_they_were():
    """An asteroid has its flux in every map, at another place each; its light curve has its name."""
    moving = way("(1) Ceres", [7.20, 7.15, 7.01])
    places = {"m1": (7.20, 320.0), "m2": (7.15, 318.0), "m3": (7.01, 310.0)}
    found = movers.follow(moving, sky(places), MAPS, 10.0)
    assert found["flux_mjy"].tolist() == [320.0, 318.0, 310.0] and found["ra_deg"].tolist() == [7.20, 7.15, 7.01]
    assert set(found["source_id"]) == set(found["source_name"]) == {"(1) Ceres"} and set(found["kind"]) == {"moving"}
    assert found["array"].tolist() == ["i1", "i3", "i1"] and set(found["freq_ghz"]) == {93.0}


def test_undetected_objects_are_measured_too():
    """Objects without flux give fluxes near zero, not none; maps without data give no row."""
    places = dict.fromkeys(MAPS["map_id"], (0.0, 0.0))
    moving = pd.concat([way("(9) Metis", [1.0, 1.1, 1.2]), way("(8) Flora", [2.0])])
    found = movers.follow(moving, sky(places, no_data=["m2"]), MAPS, 10.0)
    assert found["source_id"].tolist() == ["(8) Flora", "(9) Metis", "(9) Metis"]
    assert found["map_id"].tolist() == ["m1", "m1", "m3"] and (found["flux_mjy"] == 0).all()


def test_unknown_times_are_those_of_the_map():
    """Where the map has no time of its own the measurement has that of the map."""
    found = movers.follow(way("a", [3.0]), sky({"m1": (3.0, 9.0)}, no_time=["m1"]), MAPS, 10.0)
    assert found["time_unix_s"].tolist() == [5.0]


@pytest.mark.parametrize("columns", [{"pos_err_arcsec": 10.1}, {"radius_arcmin": 0.6, "kind": "planet"}])
def test_objects_that_would_be_measured_wrongly_are_left_out(columns):
    """Places known too badly, and discs, have no flux: it would be too low."""
    assert movers.follow(way("a", [3.0], **columns), sky({"m1": (3.0, 9.0)}), MAPS, 10.0).empty


def test_nothing_moves():
    """No moving objects, and maps that are not used, give an empty table."""
    empty = movers.follow(way("a", []), None, MAPS, 10.0)
    pd.testing.assert_frame_equal(empty, tables.empty("measurements"))
    assert movers.follow(way("a", [3.0]), None, MAPS[1:], 10.0).empty
