"""Places in space: ellipses against geometry, series and elements against JPL's integrations."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sotrplib import bodies, orbits

DATA = Path(__file__).parents[2] / "shared" / "data" / "ephemerides"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="ephemerides of ../shared/data are not there")
EPOCH_JD = 2461000.5
OBLIQUITY = np.radians(84381.448 / 3600)


def elements_of(**given):
    """One body on the ecliptic, at perihelion at the epoch, one degree a day; angles in degrees."""
    row = {"name": "test", "h": 5.0, "epoch_jd": EPOCH_JD, "anomaly": 0.0, "perihelion": 0.0, "node": 0.0}
    row |= {"inclination": 0.0, "eccentricity": 0.0, "motion": 1.0, "axis_au": 2.0}
    return orbits.elements_from_frame(pd.DataFrame([row | given]))


def position_au(elements, days):
    """Heliocentric positions (m, 3) on the ecliptic axes of J2000 at days since the epoch."""
    days = np.atleast_1d(np.asarray(days, float))
    x, y, z = orbits.two_body_km(elements, np.zeros(len(days), int), EPOCH_JD + days).T / orbits.AU_KM
    return np.stack([x, np.cos(OBLIQUITY) * y + np.sin(OBLIQUITY) * z, np.cos(OBLIQUITY) * z - np.sin(OBLIQUITY) * y]).T


def separation_arcsec(a, b):
    cross = np.linalg.norm(np.cross(a, b), axis=-1)
    return np.degrees(np.arctan2(cross, np.sum(a * b, axis=-1))) * 3600


@pytest.mark.parametrize(
    "text, date",
    [("K25BL", "2025-11-21"), ("J9611", "1996-01-01"), ("I01AM", "1801-10-22"), ("K01CV", "2001-12-31")],
)
def test_packed_epochs(text, date):
    """Packed dates of the Minor Planet Center are midnight of the date they spell."""
    assert orbits.packed_epoch_jd(text) == pd.Timestamp(date).to_julian_date()


def test_packed_epoch_with_fraction():
    """Further digits are the fraction of the day."""
    assert orbits.packed_epoch_jd("K25BL75") == EPOCH_JD + 0.75


@pytest.mark.parametrize("text", ["", "2025-11-21", "K25DL", "K25B0", "Z25BL"])
def test_bad_packed_epoch(text):
    """What is no packed date is refused by name."""
    with pytest.raises(orbits.EphemerisError, match=f"packed epoch '{text}': expected"):
        orbits.packed_epoch_jd(text)


def test_kepler_equation_holds(rng):
    """E - e sin E = M to 1e-12 rad for all mean anomalies and eccentricities up to 0.99."""
    mean, e = rng.uniform(-np.pi, np.pi, 20000), rng.uniform(0, 0.99, 20000)
    eccentric = orbits.solve_kepler(mean + 2 * np.pi * rng.integers(-9, 9, 20000), e)
    assert np.abs(eccentric - e * np.sin(eccentric) - mean).max() < 1e-12


def test_circular_orbit():
    """A body on a circular orbit moves uniformly on the ecliptic circle of its radius."""
    days = np.linspace(-700, 700, 29)
    expected = 2 * np.stack([np.cos(np.radians(days)), np.sin(np.radians(days)), 0 * days], axis=1)
    np.testing.assert_allclose(position_au(elements_of(), days), expected, atol=1e-12)


def test_apsides_of_an_ellipse():
    """Perihelion lies at a(1-e) in the direction node + argument, aphelion half a period later at a(1+e)."""
    body = elements_of(eccentricity=0.4, node=30.0, perihelion=60.0)
    np.testing.assert_allclose(position_au(body, [0, 180]), [[0, 1.2, 0], [0, -2.8, 0]], atol=1e-12)


def test_inclined_orbit():
    """A quarter turn after the node the body stands at the ecliptic latitude of its inclination."""
    place = position_au(elements_of(inclination=25.0, node=40.0), [0, 90])
    np.testing.assert_allclose(place[0], [2 * np.cos(np.radians(40)), 2 * np.sin(np.radians(40)), 0], atol=1e-12)
    assert np.degrees(np.arcsin(place[1, 2] / 2)) == pytest.approx(25, abs=1e-10)


def test_two_body_error_grows():
    """The stated error is 0.3" at epoch, 4.6" at 90 days, 71" at a year, 283" at two, and larger nearby."""
    far, near = 3 * orbits.AU_KM, 0.5 * orbits.AU_KM
    stated = orbits.two_body_error_arcsec(np.array([0, 90, -365, 730]), far)
    np.testing.assert_allclose(stated, [0.3, 4.6, 70.9, 282.7], atol=0.1)
    assert orbits.two_body_error_arcsec(90, near) == pytest.approx(0.3 + 4 * 4.293, abs=0.01)


def test_elements_without_a_column(tmp_path):
    """A file of other columns is refused by its name, the missing columns and those it has."""
    (tmp_path / "orbits.csv").write_text("designation,a\n(1) Ceres,2.7\n")
    with pytest.raises(orbits.EphemerisError, match=r"orbits.csv: has no columns \['magnitude_H'.*only"):
        orbits.read_elements(tmp_path / "orbits.csv")


@pytest.mark.parametrize("content", [b"", b"not a kernel", b"DAF/SPK " + bytes(100)])
def test_not_a_kernel(tmp_path, content):
    """A file that is no SPK kernel is refused by name."""
    (tmp_path / "a.bsp").write_bytes(content)
    with pytest.raises(orbits.EphemerisError, match="a.bsp: not an SPK kernel"):
        orbits.Kernels([tmp_path / "a.bsp"])


def test_missing_kernel():
    """A kernel that does not exist is named."""
    with pytest.raises(orbits.EphemerisError, match="nowhere.bsp: no such ephemeris file"):
        orbits.Kernels(["nowhere.bsp"])


@needs_data
def test_truncated_kernel(tmp_path):
    """Half a kernel is refused before anything is read from it."""
    whole = (DATA / "sb441-n16_2017-2030.bsp").read_bytes()
    (tmp_path / "half.bsp").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(orbits.EphemerisError, match="half.bsp: has 250240 of 500480 bytes"):
        orbits.Kernels([tmp_path / "half.bsp"])


@needs_data
@pytest.mark.parametrize("name", bodies.PLANETS)
def test_series_are_as_good_as_stated(name):
    """Without kernels planets are, seen from Earth in 2017-2029, within four times the stated error of DE440."""
    targets, _, stated = bodies.PLANETS[name]
    jd = np.linspace(2457760, 2462490, 1500)
    kernels = orbits.Kernels([DATA / "de440_2017-2030.bsp"])
    truth = kernels.position_km(targets[-1], jd) - kernels.position_km(orbits.EARTH, jd)
    series = orbits.series_km(targets[-1], jd) - orbits.series_km(orbits.EARTH, jd)
    error = separation_arcsec(truth, series)
    assert error.max() < 4 * stated
    assert np.percentile(error, 68) < 1.2 * stated


@needs_data
@pytest.mark.parametrize("days, median", [(0, 0.05), (90, 3.0), (365, 40.0), (725, 200.0)])
def test_two_body_against_kernels(days, median):
    """Elements agree with JPL's 16 asteroids as stated: medians 2", 31", 160", within 4 (5) sigma to 1 (2) years."""
    kernels = orbits.Kernels([DATA / "de440_2017-2030.bsp", DATA / "sb441-n16_2017-2030.bsp"])
    elements = orbits.read_elements(DATA / "mpc_orbital_params_bright_asteroids.csv")
    targets = kernels.small_bodies()
    index = [elements.frame.index[elements.frame["name"].str.startswith(f"({n % 1000}) ")][0] for n in targets]
    errors, ratios = [], []
    for day in (-days - 4, -days + 4, days - 4, days + 4):
        jd = np.array([EPOCH_JD + day])
        sun, earth = (kernels.position_km(body, jd) for body in (orbits.SUN, orbits.EARTH))
        truth = np.concatenate([kernels.position_km(n, jd) for n in targets]) - earth
        found = sun + orbits.two_body_km(elements, np.array(index), np.repeat(jd, len(index))) - earth
        errors.append(separation_arcsec(truth, found))
        ratios.append(errors[-1] / orbits.two_body_error_arcsec(day, np.linalg.norm(truth, axis=1)))
    assert np.median(errors) < median
    assert np.max(ratios) < (4 if days < 400 else 5)


@needs_data
def test_kernel_spans():
    """Bodies are known from a day after the start of the kernel to a day before its end, others never."""
    kernels = orbits.Kernels([DATA / "sb441-n16_2017-2030.bsp"])
    assert kernels.spans_jd(2000001) == [(2457755.5, 2462501.5)]
    assert kernels.spans_jd(5) == []
    assert np.isnan(kernels.position_km(2000001, np.array([2440000.5]))).all()
