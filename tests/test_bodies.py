"""What the files know and where it is seen: tables between their rows, light time, parallax, precedence."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.coordinates import EarthLocation
from astropy.time import Time
from astropy.utils import iers

from sotrplib import bodies, ephemerides, geometry, orbits

DATA = Path(__file__).parents[2] / "shared" / "data" / "ephemerides"
SITE = (-22.961, -67.788, 5147.0)
START = 1763085600.0
COLUMNS = (
    "designation,magnitude_H,epoch_packed,mean_anomaly_degrees,argument_of_perihelion_degrees,"
    "longitude_of_ascending_node_degrees,inclination_degrees,eccentricity,mean_daily_motion_degrees,semimajor_axis_au"
)
CERES = "(1) Ceres,3.35,K25BL,231.53975,73.29974,80.24963,10.58789,0.0795763,0.21429712,2.7656157"
FAINT = "(99999) Faint,15.0,K25BL,31.5,73.3,80.2,10.6,0.08,0.2143,2.7656"
COMET = "C/2025 A1,9.0,K25BL,0.1,73.3,80.2,10.6,1.02,0.2143,2.7656"


def write_elements(path, *lines):
    path.write_text("\n".join([COLUMNS, *lines]) + "\n")
    return {"planets": False, "elements": str(path)}


def track(hours, ra0=359.9, name="mover"):
    """An object crossing RA 0 on a curved path, with its position at each hour."""
    hours = np.asarray(hours, float)
    ra = (ra0 + 0.02 * hours + 1e-4 * hours**2) % 360
    columns = {"name": name, "time_unix_s": START + 3600 * hours, "ra_deg": ra, "dec_deg": -10 + 0.01 * hours}
    return pd.DataFrame(columns)


def write_table(path, frame):
    frame.to_csv(path, index=False)
    return {"planets": False, "tables": [str(path)]}


def test_table_between_its_rows(tmp_path):
    """Hourly positions are interpolated to 0.01" between rows, across RA 0, with the rate of the path."""
    options = write_table(tmp_path / "t.csv", track(np.arange(12)))
    hours = np.linspace(0.1, 10.9, 40)
    found, truth = ephemerides.moving_objects(START + 3600 * hours, SITE, options), track(hours)
    away = geometry.separation_arcsec(found["ra_deg"], found["dec_deg"], truth["ra_deg"], truth["dec_deg"])
    assert away.max() < 0.01
    cosine = np.cos(np.radians(truth["dec_deg"]))
    np.testing.assert_allclose(found["ra_rate_arcsec_h"], (72 + 0.72 * hours) * cosine, atol=0.02)
    np.testing.assert_allclose(found["dec_rate_arcsec_h"], 36, atol=0.02)
    assert set(found["kind"]) == {"table"} and (found["pos_err_arcsec"] < 0.2).all()


def test_table_ends_where_it_ends(tmp_path):
    """Outside its span and inside a gap a table gives no rows; at its first and last row it does."""
    frame = track([0, 1, 2, 3, 4, 20, 21, 22, 23, 24])
    options = write_table(tmp_path / "t.csv", frame)
    found = ephemerides.moving_objects(START + 3600 * np.array([-0.01, 0, 4, 4.01, 12, 20, 24, 24.01]), SITE, options)
    np.testing.assert_allclose((found["time_unix_s"] - START) / 3600, [0, 4, 20, 24])


def test_table_in_horizons_columns(tmp_path):
    """Parquet with designation and julian_day reads the same as CSV with name and time_unix_s."""
    frame = track(np.arange(8))
    renamed = frame.assign(julian_day=frame["time_unix_s"] / 86400 + 2440587.5).rename(columns={"name": "designation"})
    renamed.drop(columns="time_unix_s").to_parquet(tmp_path / "t.parquet")
    one = ephemerides.moving_objects(START + 5000, SITE, write_table(tmp_path / "t.csv", frame))
    two = ephemerides.moving_objects(START + 5000, SITE, {"planets": False, "tables": [str(tmp_path / "t.parquet")]})
    np.testing.assert_allclose(one[["ra_deg", "dec_deg"]], two[["ra_deg", "dec_deg"]], atol=1e-7)
    assert two["name"].tolist() == ["mover"]


def test_table_that_cannot_be_used(tmp_path):
    """Too few rows and missing columns are errors that name the file; no rows at all are none."""
    with pytest.raises(orbits.EphemerisError, match=r"few.csv: mover has 3 rows; expected at least 4"):
        bodies.load(write_table(tmp_path / "few.csv", track(np.arange(3))))
    with pytest.raises(orbits.EphemerisError, match=r"bad.csv: has no columns \['time_unix_s'\], only"):
        bodies.load(write_table(tmp_path / "bad.csv", track(np.arange(9)).drop(columns="time_unix_s")))
    options = write_table(tmp_path / "none.csv", track([]))
    assert len(ephemerides.moving_objects(START, SITE, options)) == 0


def test_table_error_follows_its_sampling(tmp_path):
    """The error of a coarse table covers what interpolation loses; a given pos_err_arcsec is added."""
    hours = np.arange(0, 60, 6)
    wobble = track(hours).assign(dec_deg=-10 + 20 / 3600 * np.sin(2 * np.pi * hours / 24))
    middle = 33.0
    found = ephemerides.moving_objects(START + 3600 * middle, SITE, write_table(tmp_path / "t.csv", wobble))
    truth = -10 + 20 / 3600 * np.sin(2 * np.pi * middle / 24)
    assert abs(found["dec_deg"][0] - truth) * 3600 < found["pos_err_arcsec"][0]
    stated = write_table(tmp_path / "e.csv", track(np.arange(9)).assign(pos_err_arcsec=5.0))
    assert ephemerides.moving_objects(START, SITE, stated)["pos_err_arcsec"][0] == pytest.approx(5, abs=0.01)


def test_site_on_the_sky():
    """The observatory turns with the Earth as astropy's does, within 0.5 km (UT1 = UTC)."""
    times = 1577836800.0 + np.linspace(0, 86400, 7)
    with iers.conf.set_temp("auto_download", False):
        location = EarthLocation(lat=SITE[0] * u.deg, lon=SITE[1] * u.deg, height=SITE[2] * u.m)
        truth = location.get_gcrs_posvel(Time(times, format="unix"))[0].xyz.to_value("km").T
    assert np.abs(bodies._site_km(times, SITE) - truth).max() < 0.5


def test_light_time():
    """A planet is seen where it was when the light left it: for Jupiter 40 minutes ago, to 0.02"."""
    options = {"planets": True}
    found = ephemerides.moving_objects(START, SITE, options).set_index("name").loc["Jupiter"]
    jd = np.array([START / 86400 + 2440587.5 + 69.184 / 86400])
    observer = orbits.series_km(orbits.EARTH, jd) + bodies._site_km(np.array([START]), SITE)
    now = orbits.series_km(5, jd) - observer
    seen = orbits.series_km(5, jd - np.linalg.norm(now) / 299792.458 / 86400) - observer
    for vector, low, high in ((seen, 0, 0.02), (now, 5, 30)):
        away = geometry.separation_arcsec(found["ra_deg"], found["dec_deg"], *bodies.to_radec(vector))[0]
        assert low <= away < high


def test_parallax_of_the_moon():
    """Seen from two places on Earth the Moon is apart by their distance across the line of sight."""
    sites = [SITE, (50.0, 10.0, 0.0)]
    tables = [ephemerides.moving_objects(START, site, {}).set_index("name").loc["Moon"] for site in sites]
    (ra1, dec1), (ra2, dec2) = ((row["ra_deg"], row["dec_deg"]) for row in tables)
    base = np.subtract(*[bodies._site_km(np.array([START]), site)[0] for site in sites])
    distance = 1737 / np.sin(np.radians(tables[0]["radius_arcmin"] / 60))
    across = np.linalg.norm(np.cross(base, geometry.unit_vectors(ra2, dec2)[0]))
    expected = np.degrees(np.arcsin(across / distance)) * 3600
    assert geometry.separation_arcsec(ra1, dec1, ra2, dec2) == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("name", ["Moon", "Mercury", "Saturn"])
def test_rates(name):
    """Rates are the motion over ten minutes, to 1e-3, east and north."""
    frame = ephemerides.moving_objects(START + np.array([-300.0, 0, 300]), SITE, {"planets": True})
    ra, dec = (frame.loc[frame["name"] == name, column].to_numpy() for column in ("ra_deg", "dec_deg"))
    east, north = geometry.tangent_offsets(ra[2], dec[2], ra[0], dec[0])
    row = frame[frame["name"] == name].iloc[1]
    assert row["ra_rate_arcsec_h"] == pytest.approx(6 * east, rel=1e-3, abs=0.02)
    assert row["dec_rate_arcsec_h"] == pytest.approx(6 * north, rel=1e-3, abs=0.02)


@pytest.mark.parametrize("name", ["Ceres", "(1) Ceres", "1", "ceres", "00001"])
def test_designations(tmp_path, name):
    """An asteroid is chosen by name, number or both."""
    options = write_elements(tmp_path / "e.csv", CERES, FAINT) | {"designations": [name]}
    assert ephemerides.moving_objects(START, SITE, options)["name"].tolist() == ["(1) Ceres"]


def test_unknown_designation(tmp_path):
    """A name that no file has is an error, not an empty list."""
    options = write_elements(tmp_path / "e.csv", CERES) | {"designations": ["Cerses"]}
    with pytest.raises(orbits.EphemerisError, match=r"designations: \['Cerses'\] are in none"):
        bodies.load(options)


def test_faint_asteroids_are_left_out(tmp_path):
    """Elements fainter than elements_max_h are not used, unless named."""
    options = write_elements(tmp_path / "e.csv", CERES, FAINT)
    assert bodies.load(options).bodies["name"].tolist() == ["(1) Ceres"]
    assert len(bodies.load(options | {"elements_max_h": 16.0}).bodies) == 2
    assert bodies.load(options | {"designations": ["Faint"]}).bodies["name"].tolist() == ["(99999) Faint"]


def test_open_orbits_are_left_out(tmp_path, caplog):
    """A comet on an open orbit is left out with a warning; the others stay."""
    with caplog.at_level(logging.WARNING):
        frame = ephemerides.moving_objects(START, SITE, write_elements(tmp_path / "e.csv", CERES, COMET))
    assert frame["name"].tolist() == ["(1) Ceres"] and "left out 1 bodies" in caplog.text


def test_elements_are_refused_far_from_epoch(tmp_path, caplog):
    """Two years from epoch elements still give positions, with their error; a day more gives none and a warning."""
    options = write_elements(tmp_path / "e.csv", CERES)
    epoch = (2461000.5 - 2440587.5) * 86400
    inside = ephemerides.moving_objects(epoch + 86400 * np.array([-730, 0, 730]), SITE, options)
    assert len(inside) == 3 and inside["pos_err_arcsec"].between([200, 0, 200], [500, 0.4, 500]).all()
    with caplog.at_level(logging.WARNING):
        assert ephemerides.moving_objects(epoch + 86400 * np.array([-731, 731]), SITE, options).empty
    assert "elements of 1 of 1 bodies not used" in caplog.text


def test_table_before_elements(tmp_path):
    """Where a table knows an asteroid its position is taken, elsewhere that of the elements, once an object."""
    options = write_elements(tmp_path / "e.csv", CERES) | {"tables": [str(tmp_path / "t.csv")]}
    write_table(tmp_path / "t.csv", track(np.arange(6), name="Ceres"))
    found = ephemerides.moving_objects(START + 3600 * np.array([-2, 1, 9]), SITE, options)
    assert found["kind"].tolist() == ["asteroid", "table", "asteroid"]
    np.testing.assert_allclose(found["ra_deg"][1], 359.9201, atol=1e-4)


def test_planets_stay_planets(tmp_path):
    """A table that holds a planet does not take its disc away."""
    options = write_table(tmp_path / "t.csv", track(np.arange(6), name="Mars")) | {"planets": True}
    mars = ephemerides.moving_objects(START + 3600, SITE, options).set_index("name").loc["Mars"]
    assert mars["kind"] == "planet" and 0.02 < mars["radius_arcmin"] < 0.3


def test_nothing_is_fetched(monkeypatch):
    """Predictions open no connection, even for a year whose leap seconds are not known."""

    def refuse(*_):
        raise AssertionError("tried to open a connection")

    monkeypatch.setattr("socket.socket.connect", refuse)
    assert len(ephemerides.moving_objects([START, START + 30 * 3.15e7], SITE, {})) == 18


@pytest.mark.skipif(not DATA.is_dir(), reason="ephemerides of ../shared/data are not there")
def test_ceres_over_the_nights():
    """Kernel and elements agree on Ceres to 0.1" near epoch, and put it where the maps of the nights show it."""
    kernels = {"planets": False, "kernels": [DATA / f"{n}_2017-2030.bsp" for n in ("de440", "sb441-n16")]}
    elements = {"planets": False, "elements": DATA / "mpc_orbital_params_bright_asteroids.csv"}
    times = [1763085600, 1763173800, 1763343600]
    one, two = (ephemerides.moving_objects(times, SITE, o | {"designations": ["Ceres"]}) for o in (kernels, elements))
    away = geometry.separation_arcsec(one["ra_deg"], one["dec_deg"], two["ra_deg"], two["dec_deg"])
    assert one["name"].tolist() == two["name"].tolist() == ["(1) Ceres"] * 3 and away.max() < 0.1
    np.testing.assert_allclose(one["ra_deg"], [7.23122, 7.15227, 7.01751], atol=2e-5)
    np.testing.assert_allclose(one["dec_deg"], [-10.65972, -10.60156, -10.48140], atol=2e-5)


@pytest.mark.skipif(not DATA.is_dir(), reason="ephemerides of ../shared/data are not there")
def test_files_together():
    """Kernels and elements together name every asteroid once; past the kernels' end the elements' limit holds."""
    options = {
        "kernels": [DATA / "de440_2017-2030.bsp", DATA / "sb441-n16_2017-2030.bsp"],
        "elements": DATA / "mpc_orbital_params_bright_asteroids.csv",
    }
    frame = ephemerides.moving_objects([START, START + 5 * 3.15e7], SITE, options)
    now, later = frame[frame["time_unix_s"] == START], frame[frame["time_unix_s"] > START]
    assert now["name"].is_unique and (now["pos_err_arcsec"] < 0.7).all() and len(now) > 400
    assert sorted(later["name"]) == sorted(bodies.PLANETS) and later["pos_err_arcsec"].max() == 30
