"""Moving objects in maps: at the time their pixel was observed, in every geometry."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from sotrplib import bodies, ephemerides, geometry, tables

DATA = Path(__file__).parents[2] / "shared" / "data"
SITE = (-22.961, -67.788, 5147.0)
START = 1763085600.0


def table_options(path, ra0, dec0, rate_deg_h, name="mover"):
    """An object that moves along RA by a constant rate for 30 hours around START."""
    hours = np.arange(-15, 16)
    ra = np.mod(ra0 + rate_deg_h * hours, 360)
    columns = {"name": name, "time_unix_s": START + 3600 * hours, "ra_deg": ra, "dec_deg": dec0}
    pd.DataFrame(columns).to_csv(path, index=False)
    return {"planets": False, "tables": [str(path)]}


def clock_of(seconds, wcs):
    """Clock of a map with these times, or without."""
    return ephemerides.PixelClock(seconds, START, wcs.array_shape)


def tan_map(ra0, dec0, n, step_deg):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [ra0, dec0]
    wcs.wcs.crpix, wcs.wcs.cdelt = [(n + 1) / 2, (n + 1) / 2], [-step_deg, step_deg]
    wcs.wcs.set()
    wcs.array_shape = n, n
    return wcs


def test_locating_solves_for_time():
    """Uniform motion through a uniform scan is found at the crossing of both lines."""
    speed, scan = 1e-4, 0.01  # of the object and of the scan, deg/s
    place = np.array([0.0, 1.0, -2.0])
    ra, dec, time = ephemerides.locate_in_map(
        lambda t: (place + speed * t, 0 * t), lambda ra, dec: (dec, ra), lambda y, x: x / scan, np.zeros(3)
    )
    np.testing.assert_allclose(time, place / (scan - speed), atol=0.01)
    np.testing.assert_allclose(ra, place + speed * time, atol=1e-9)
    assert (dec == 0).all()


@pytest.mark.parametrize("ra0", [0.0, 137.0, 359.99])
def test_position_at_the_time_of_its_pixel(tmp_path, ra0):
    """A fast object lies where the table has it when the scan reached that pixel, to 0.1", also over RA 0."""
    shape, wcs = geometry.make_car(ra0, -10.0, 8.0, 4.0, 1.0)
    seconds = np.broadcast_to(np.linspace(-7200, 7200, shape[1]).astype("f4"), shape)
    options = table_options(tmp_path / "t.csv", ra0, -10.2, 0.5)
    found = ephemerides.positions_in_map(options, wcs, clock_of(seconds, wcs), SITE)
    assert found["name"].tolist() == ["mover"]
    y, x = geometry.sky2pix(wcs, found["ra_deg"].to_numpy(), found["dec_deg"].to_numpy(), shape)
    when = seconds[int(np.rint(y[0])), int(np.rint(x[0]))]
    assert found["time_unix_s"][0] - START == pytest.approx(when, abs=0.5)
    truth = (ra0 + 0.5 * (found["time_unix_s"][0] - START) / 3600) % 360
    assert geometry.separation_arcsec(found["ra_deg"][0], found["dec_deg"][0], truth, -10.2) < 0.1


def test_object_that_leaves_before_the_scan(tmp_path):
    """An object inside the map at its reference time, but gone when the scan arrives, is not in the map."""
    shape, wcs = geometry.make_car(40.0, -10.0, 2.0, 2.0, 1.0)
    options = table_options(tmp_path / "t.csv", 40.9, -10.0, 0.5)
    late = np.full(shape, 7200, "f4")
    assert len(ephemerides.positions_in_map(options, wcs, clock_of(0 * late, wcs), SITE)) == 1
    assert ephemerides.positions_in_map(options, wcs, clock_of(late, wcs), SITE).empty


def test_object_that_enters_for_the_scan(tmp_path):
    """An object far outside the map for most of its time, but there when the scan reached it, is in the map."""
    shape, wcs = geometry.make_car(40.0, -10.0, 8.0, 4.0, 1.0)
    seconds = np.full(shape, -7200, "f4")
    seconds[:, -120:] = 7200
    options = table_options(tmp_path / "t.csv", 36.5 - 2 * 2, -10.0, 2.0)
    found = ephemerides.positions_in_map(options, wcs, clock_of(seconds, wcs), SITE)
    np.testing.assert_allclose(found[["ra_deg", "time_unix_s"]], [[36.5, START + 7200]], atol=1e-5)


def test_holes_take_the_time_beside_them(tmp_path):
    """An object in an unobserved hole has a row, with the time of the nearest observed part."""
    shape, wcs = geometry.make_car(40.0, -10.0, 4.0, 4.0, 1.0)
    seconds = np.full(shape, 600, "f4")
    seconds[:, : shape[1] // 2] = 300
    seconds[100:140, 60:110] = np.nan
    y, x = np.array([120.0]), np.array([75.0])
    options = table_options(tmp_path / "t.csv", *(float(v[0]) for v in geometry.pix2sky(wcs, y, x)), 0.0)
    assert ephemerides.positions_in_map(options, wcs, clock_of(seconds, wcs), SITE)["time_unix_s"][0] == START + 300


def test_clock_of_maps_without_time():
    """Without times, or with none known, everything was observed at the reference time."""
    for image in (None, np.full((40, 30), np.nan, "f4")):
        clock = ephemerides.PixelClock(image, START, (40, 30))
        np.testing.assert_array_equal(clock(np.array([-5.0, 3, np.nan]), np.array([2.0, 99, 1])), START)


def test_clock_outside_and_on_tiny_maps():
    """Pixels outside take the time of the nearest part, single pixels their own."""
    image = np.arange(12, dtype="f4").reshape(3, 4)
    clock = ephemerides.PixelClock(image, START, image.shape)
    np.testing.assert_array_equal(clock(np.array([-3, 1.2, 9]), np.array([0, 2.4, 9])) - START, [0, 6, 11])


def test_margin(tmp_path):
    """With a margin an object outside the map is listed out to that distance and no farther."""
    shape, wcs = geometry.make_car(40.0, -60.0, 4.0, 4.0, 1.0)
    edge, _ = geometry.pix2sky(wcs, shape[0] / 2, -0.5)
    options = table_options(tmp_path / "t.csv", edge + 8 / 60 / np.cos(np.radians(60)), -60.0, 0.0)
    counts = [
        len(ephemerides.positions_in_map(options, wcs, clock_of(None, wcs), SITE, margin_arcmin=margin))
        for margin in (0, 7.9, 8.1)
    ]
    assert counts == [0, 0, 1]


def test_disc_that_reaches_into_the_map():
    """The Sun beside a map is listed as long as its disc touches it."""
    sun = ephemerides.moving_objects(START, SITE, {}).set_index("name").loc["Sun"]
    counts = []
    for gap in (10, 20):
        wcs = tan_map(sun["ra_deg"], sun["dec_deg"] + (30 + gap) / 60, 60, 1 / 60)
        counts.append(len(ephemerides.positions_in_map({}, wcs, clock_of(None, wcs), SITE)))
    assert counts == [1, 0]


def test_whole_sky_and_polar_maps():
    """A map of the whole sky has every planet, a polar one none."""
    shape, wcs = geometry.make_car(0.0, 0.0, 360.0, 180.0, 30.0)
    found = ephemerides.positions_in_map({}, wcs, clock_of(np.zeros(shape, "f4"), wcs), SITE)
    assert sorted(found["name"]) == sorted(bodies.PLANETS)
    wcs = tan_map(0.0, -90.0, 200, 0.1)
    assert ephemerides.positions_in_map({}, wcs, clock_of(None, wcs), SITE).empty


def test_no_objects_at_all():
    """With nothing configured the table is empty and of the right types."""
    shape, wcs = geometry.make_car(40.0, -10.0, 4.0, 4.0, 1.0)
    found = ephemerides.positions_in_map({"planets": False}, wcs, clock_of(np.zeros(shape, "f4"), wcs), SITE)
    pd.testing.assert_frame_equal(found, tables.empty("moving"))


def test_kinds(tmp_path):
    """Only the kinds asked for are read: files of the others need not exist."""
    options = {"planets": True, "tables": ["missing.csv"], "elements": "missing.csv"}
    assert set(ephemerides.moving_objects(START, SITE, options, kinds=("planet",))["kind"]) == {"planet"}
    with pytest.raises(ValueError, match="kinds .*: expected some of"):
        ephemerides.moving_objects(START, SITE, options, kinds=("planets",))


@pytest.mark.parametrize(
    "ra_min, ra_max, inside", [(350, 10, True), (10, 350, False), (0, 360, True), (355, 359, False)]
)
def test_box(tmp_path, ra_min, ra_max, inside):
    """A box may cross RA 0."""
    options = table_options(tmp_path / "t.csv", 359.5, -10.0, 0.0)
    box = {"ra_min_deg": ra_min, "ra_max_deg": ra_max, "dec_min_deg": -11, "dec_max_deg": -9}
    assert len(ephemerides.moving_objects(START, SITE, options, box=box)) == inside


@pytest.mark.skipif(not (DATA / "nights").is_dir(), reason="nights of ../shared/data are not there")
def test_ceres_in_a_map_of_the_nights():
    """Among 1,282 asteroids and the planets Ceres alone is in the first map, at the time of its pixel."""
    folder = DATA / "ephemerides"
    options = {
        "kernels": [folder / "de440_2017-2030.bsp", folder / "sb441-n16_2017-2030.bsp"],
        "elements": folder / "mpc_orbital_params_bright_asteroids.csv",
    }
    path = next((DATA / "nights" / "17630").glob("*i1_f150_time.fits"))
    seconds, wcs = fits.getdata(path), geometry.header_to_wcs(fits.getheader(path))
    seconds = np.where(seconds > 0, seconds, np.nan).astype("f4")
    found = ephemerides.positions_in_map(options, wcs, clock_of(seconds, wcs), SITE)
    assert found["name"].tolist() == ["(1) Ceres"]
    row = found.iloc[0]
    assert geometry.separation_arcsec(row["ra_deg"], row["dec_deg"], 7.23056, -10.65930) < 0.2
    assert 600 < row["time_unix_s"] - START < 700
