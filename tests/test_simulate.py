"""Simulated maps hold what was injected, where and when it should be, in the format of real depth-1 maps."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from sotrplib import beams, configuration, geometry, ingest, maps, simulate, skies, store, truth, units

ROOT = Path(__file__).parents[1]
SCHEMA = configuration.read_yaml(ROOT / "config/schemas/config.schema.yaml")
SMALL = {"width_deg": 1.6, "height_deg": 1.2, "n_sources": 12, "noise_uk_arcmin": {"f090": 75.0, "f150": 95.0}}
OPTIONS = configuration.fill_defaults({}, SCHEMA)["simulate"] | SMALL
QUIET = OPTIONS | {"noise_uk_arcmin": {"f090": 1e-3}, "cmb": False, "n_holes": 0, "calibration_rms": 0.0}
BAND = beams.BandInfo(freq_ghz=90.0, fwhm_arcmin=2.2)
BEAM = beams.gaussian(2.2)
START = int(OPTIONS["start_unix_s"])
SUFFIXES = ("map.fits", "ivar.fits", "time.fits", "info.hdf")


def row_of(array="i1", band="f090", time=START, folder="", **values):
    """Row of the map table for a map written under ``folder``."""
    map_id = f"solat_{array}_{band}_{time}"
    names = ("map_path", "weight_path", "time_path", "info_path")
    paths = {name: f"{folder}/{map_id}_{suffix}" for name, suffix in zip(names, SUFFIXES, strict=True)}
    labels = {"map_id": map_id, "instrument": "solat", "array": array, "band": band, "form": "intensity_ivar"}
    return labels | paths | {"unit": "uK", "time_unix_s": "", "gain": ""} | values


def sky_of(*objects, n_sources=0):
    """Truth of the given odd objects (dicts) alone."""
    frame = pd.DataFrame([truth.OBJECT_DEFAULTS | {"name": f"o{i}"} | thing for i, thing in enumerate(objects)])
    return truth.simulate_truth(OPTIONS | {"n_sources": n_sources}, 1, frame if objects else None)


def odd(kind, east_arcmin, north_arcmin, **values):
    return {"class": kind, "ra_offset_arcmin": east_arcmin, "dec_offset_arcmin": north_arcmin} | values


def flux_around(input_map, ra_deg, dec_deg, radius_arcmin=8.0):
    """Flux in mJy and flux-weighted position (y, x) of what a map holds around a position."""
    ra, dec = geometry.pix2sky(input_map.wcs, *np.indices(input_map.signal.shape))
    near = geometry.separation_arcsec(ra, dec, ra_deg, dec_deg) < 60 * radius_arcmin
    weight = np.where(near, input_map.signal, 0) * geometry.pixel_area_sr(near.shape, input_map.wcs)[:, None]
    return weight.sum(), [(weight * index).sum() / weight.sum() for index in np.indices(near.shape)]


@pytest.fixture(scope="module")
def sky():
    return sky_of(n_sources=12)


@pytest.fixture(scope="module")
def simulated(sky):
    return simulate.simulate_map(row_of(), sky, BAND, BEAM, OPTIONS, 1)


def test_map_keeps_the_form_of_the_library(simulated):
    """A map is float32 on the grid of the options, 0 where unobserved, with a time wherever it has a weight."""
    shape, _ = simulate.map_grid(OPTIONS)
    observed = simulated.weight > 0
    assert {a.dtype for a in (simulated.signal, simulated.weight, simulated.time)} == {np.dtype("f4")}
    assert simulated.signal.shape == shape
    assert not simulated.signal[~observed].any()
    np.testing.assert_array_equal(np.isfinite(simulated.time), observed)
    assert 0.5 < observed.mean() < 1


def test_noise_has_the_stated_level(sky):
    """Without 1/f noise and sky the map scatters by its weight, and the median weight is the depth asked for."""
    options = OPTIONS | {"noise_knee_ell": 1e-3, "cmb": False}
    quiet = simulate.simulate_map(row_of(), sky[:0], BAND, BEAM, options, 1)
    pull = (quiet.signal * np.sqrt(quiet.weight))[quiet.weight > 0]
    assert abs(pull.std() - 1) < 5 / np.sqrt(2 * pull.size)
    shape, wcs = simulate.map_grid(options)
    sigma = 1 / np.sqrt(np.median(quiet.weight[quiet.weight > 0])) / units.intensity_factor("uK", BAND.freq_ghz)
    arcmin = np.sqrt(np.prod(skies.pixel_steps(shape, wcs))) / units.ARCMIN
    assert sigma * arcmin == pytest.approx(75.0, rel=1e-3)


def test_source_has_its_flux_where_the_pointing_puts_it():
    """A source holds its flux to 1e-3 and lies at its position plus the pointing error of the map, to 0.5 arcsec."""
    sky = sky_of(odd("new_source", 5.3, -7.1, steady_mjy=800.0))
    quiet = simulate.simulate_map(row_of(), sky, BAND, BEAM, QUIET, 1)
    errors = simulate.map_errors(row_of()["map_id"], QUIET, 1)
    here = sky.loc[0, "ra_deg"], sky.loc[0, "dec_deg"]
    expected = geometry.offset_position(*here, errors.ra_offset_arcsec, errors.dec_offset_arcsec)
    flux, pixel = flux_around(quiet, *here)
    assert flux == pytest.approx(800.0, rel=1e-3)
    assert geometry.separation_arcsec(*geometry.pix2sky(quiet.wcs, *pixel), *expected) < 0.5
    assert np.hypot(errors.ra_offset_arcsec, errors.dec_offset_arcsec) > 2


def test_calibration_error_scales_the_sky():
    """A map with a calibration error holds its sources times that factor."""
    sky = sky_of(odd("new_source", 5.3, -7.1, steady_mjy=800.0))
    options = QUIET | {"calibration_rms": 0.1}
    flux, _ = flux_around(
        simulate.simulate_map(row_of(), sky, BAND, BEAM, options, 1), *sky.loc[0, ["ra_deg", "dec_deg"]]
    )
    assert flux / 800 == pytest.approx(simulate.map_errors(row_of()["map_id"], options, 1).calibration, rel=1e-3)


@pytest.mark.parametrize("hours", [0, 20])
def test_moving_object_is_where_its_ephemeris_says(tmp_path, hours):
    """The ephemeris table gives its place when its pixel was observed, to 0.5 arcsec at 5 arcmin an hour."""
    motion = {"ra_rate_arcsec_h": -250.0, "dec_rate_arcsec_h": 166.0, "peak_h": float(hours)}
    sky = sky_of(odd("moving", 6.0, 4.0, steady_mjy=500.0, **motion))
    options = QUIET | {"pointing_rms_arcsec": 0.0}
    quiet = simulate.simulate_map(row_of(time=START + 3600 * hours), sky, BAND, BEAM, options, 1)
    truth.write_ephemeris(tmp_path / "ephemeris.csv", sky, options)
    table = pd.read_csv(tmp_path / "ephemeris.csv")
    flux, (y, x) = flux_around(quiet, *truth.positions(sky, START + 3600 * (hours + 0.2)), radius_arcmin=10.0)
    assert flux == pytest.approx(500.0, rel=1e-3)
    seen = START + 3600 * hours + float(quiet.time[round(y), round(x)])
    time = (table["julian_day"].to_numpy() - 2440587.5) * 86400
    ra = np.interp(seen, time, np.unwrap(table["ra_deg"], period=360))
    apart = geometry.separation_arcsec(*geometry.pix2sky(quiet.wcs, y, x), ra, np.interp(seen, time, table["dec_deg"]))
    assert apart < 0.5


def test_transient_is_there_on_its_night_alone():
    """A flash that decays in two hours is bright in its map and gone the next night."""
    sky = sky_of(odd("transient", 0.0, 0.0, peak_mjy=300.0, peak_h=0.1, rise_h=1.0, decay_h=2.0))
    here = sky.loc[0, ["ra_deg", "dec_deg"]]
    flux = [
        flux_around(simulate.simulate_map(row_of(time=START + wait), sky, BAND, BEAM, QUIET, 1), *here)[0]
        for wait in (0, 86400)
    ]
    assert 250 < flux[0] < 300
    assert abs(flux[1]) < 0.1


@pytest.mark.parametrize(("shape", "n_pixels"), [("pixel", 1), ("trail", 13)])
def test_artefact_is_in_one_array_alone(shape, n_pixels):
    """A glitch fills bare pixels with its flux in the map of its array, and no other array sees it."""
    sky = sky_of(odd("artefact", 3.0, 3.0, steady_mjy=60.0, array="i3", shape=shape))
    bare, other = (simulate.simulate_map(row_of(array), sky, BAND, BEAM, QUIET, 1) for array in ("i3", "i1"))
    assert (bare.signal > 0.5 * bare.signal.max()).sum() == n_pixels
    assert flux_around(bare, *sky.loc[0, ["ra_deg", "dec_deg"]])[0] == pytest.approx(60.0, rel=1e-3)
    assert other.signal.max() < 0.01 * bare.signal.max()


@pytest.mark.parametrize(("unit", "gain"), [("uK", 1.0), ("K", 1.02), ("Jy/sr", 0.9)])
def test_written_map_reads_back(simulated, tmp_path, unit, gain):
    """What is written in any unit and gain is read as it was: values and weights to 1e-6, times exactly."""
    row = row_of(folder=tmp_path, unit=unit, gain=str(gain))
    simulate.write_depth1(tmp_path / row["map_id"], simulated, unit=unit, gain=gain)
    back = ingest.read_map(row, BAND)
    np.testing.assert_allclose(back.signal, simulated.signal, atol=1e-6 * simulated.signal.max())
    np.testing.assert_allclose(back.weight, simulated.weight, rtol=1e-6)
    np.testing.assert_array_equal(back.time, simulated.time)
    assert back.info.t_ref_unix_s == START
    assert maps.geometry.wcs_to_text(back.wcs) == maps.geometry.wcs_to_text(simulated.wcs)


def test_files_have_the_format_of_real_ones(simulated, tmp_path):
    """Files are big-endian float32, [T, Q, U] where polarised, with BUNIT, time 0 where unhit, and an info file."""
    stokes = simulate.simulate_polarisation(simulated, OPTIONS, 1)
    simulate.write_depth1(tmp_path / "a", simulated, polarisation=stokes)
    with fits.open(tmp_path / "a_map.fits") as hdus:
        assert hdus[0].data.shape == (3, *simulated.signal.shape)
        assert hdus[0].data.dtype == np.dtype(">f4")
        assert (hdus[0].header["BUNIT"], hdus[0].header["ARRAY"], hdus[0].header["CRVAL2"]) == ("uK", "i1", 0.0)
    assert fits.getheader(tmp_path / "a_ivar.fits")["BUNIT"] == "uK^-2"
    time = fits.getdata(tmp_path / "a_time.fits")
    np.testing.assert_array_equal(time == 0, simulated.weight == 0)
    assert time.min() >= 0
    info = store.read_info(tmp_path / "a_info.hdf")
    assert info["array"] == "i1_f090" and info["t"] == START
    assert info["period"][0] > START and info["profile"].shape == (2, 100)
    assert info["box"][0][0] < info["box"][1][0] and info["box"][0][1] > info["box"][1][1]


def test_unpolarised_arrays_have_no_stokes(simulated):
    """An array and band that are not listed as polarised have T alone."""
    assert simulate.simulate_polarisation(simulated, OPTIONS | {"polarised": []}, 1) is None


def test_equal_seeds_give_equal_bytes(sky, tmp_path):
    """Simulating and writing a map twice gives the same bytes in all four files."""
    for name in "ab":
        again = simulate.simulate_map(row_of(), sky, BAND, BEAM, OPTIONS, 1)
        simulate.write_depth1(tmp_path / name, again, polarisation=simulate.simulate_polarisation(again, OPTIONS, 1))
    for suffix in SUFFIXES:
        assert (tmp_path / f"a_{suffix}").read_bytes() == (tmp_path / f"b_{suffix}").read_bytes()


def test_maps_share_the_sky_and_nothing_else(sky):
    """Two arrays see the same CMB, each with a depth, noise and errors of its own; another seed is another sky."""
    still = OPTIONS | {
        "pointing_rms_arcsec": 0.0,
        "calibration_rms": 0.0,
        "noise_uk_arcmin": {"f090": 1e-3},
        "n_holes": 0,
    }
    one, two = (simulate.simulate_map(row_of(array), sky, BAND, BEAM, still, 1) for array in ("i1", "i3"))
    both = (one.weight > 0) & (two.weight > 0)
    assert np.abs(one.signal - two.signal)[both].max() < 1e-3 * one.signal.std()
    assert not np.allclose(one.weight, two.weight)
    ids = [row_of(array)["map_id"] for array in ("i1", "i3")]
    assert simulate.map_errors(ids[0], OPTIONS, 1) != simulate.map_errors(ids[1], OPTIONS, 1)
    other = simulate.simulate_map(row_of(), sky, BAND, BEAM, still, 2)
    assert np.corrcoef(one.signal[both], other.signal[both])[0, 1] < 0.8


def test_default_maps_see_every_odd_object():
    """With the default options and seed every default map observes the odd objects it should see, far from edges."""
    from sotrplib import mapindex

    options = configuration.fill_defaults({}, SCHEMA)["simulate"]
    sky = truth.simulate_truth(options, 1, truth.read_objects(ROOT / options["objects"]))
    for row in mapindex.read_map_table(ROOT / "config/maps.csv"):
        seen = sky["array"].isin(["", row["array"]]) & sky["band"].isin(["", row["band"]]) & (sky["class"] != "known")
        input_map = simulate.simulate_map(row, sky[:0], BAND, BEAM, options | {"cmb": False}, 1)
        time = input_map.info.t_ref_unix_s
        pixels = geometry.sky2pix(input_map.wcs, *truth.positions(sky[seen], time), input_map.weight.shape)
        y, x = np.rint(pixels).astype(int)
        assert all((input_map.weight[i - 9 : i + 10, j - 9 : j + 10] > 0).all() for i, j in zip(y, x, strict=True))


def test_band_without_noise_is_named(sky):
    """A band that the options give no noise for stops with its name and the cure."""
    with pytest.raises(simulate.SimulationError, match=r"noise_uk_arcmin: no band 'f220' of solat_i1_f220_.*add it"):
        simulate.simulate_map(row_of(band="f220"), sky, BAND, BEAM, OPTIONS, 1)


def test_unit_of_a_weight_is_refused(simulated, tmp_path):
    """A map cannot be written in inverse units."""
    with pytest.raises(simulate.SimulationError, match=r"unit 'uK\^-2' of the map; expected an intensity"):
        simulate.write_depth1(tmp_path / "a", simulated, unit="uK^-2")


def write_image(path, values, wcs):
    fits.PrimaryHDU(np.asarray(values, ">f4"), wcs.to_header()).writeto(path)
    return str(path)


def tangent_wcs(shape, ra_deg=359.8, dec_deg=-55.0, step_arcmin=0.6):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [ra_deg, dec_deg]
    wcs.wcs.cdelt, wcs.wcs.crpix = [-step_arcmin / 60, step_arcmin / 60], [(shape[1] + 1) / 2, (shape[0] + 1) / 2]
    return wcs


def test_map_on_the_geometry_of_another(tmp_path):
    """With a geometry map, a tangent plane at RA 0, a map has its pixels, and a source its flux where it should be."""
    shape = (100, 140)
    wcs = tangent_wcs(shape)
    options = simulate.on_geometry(QUIET | {"geometry_map": write_image(tmp_path / "g.fits", np.zeros(shape), wcs)})
    thing = pd.DataFrame([truth.OBJECT_DEFAULTS | {"name": "o"} | odd("new_source", 5.3, -7.1, steady_mjy=800.0)])
    sky = truth.simulate_truth(options | {"n_sources": 0}, 1, thing)
    quiet = simulate.simulate_map(row_of(), sky, BAND, BEAM, options, 1)
    errors = simulate.map_errors(row_of()["map_id"], options, 1)
    here = geometry.offset_position(*wcs.wcs.crval, 60 * 5.3, -60 * 7.1)
    expected = geometry.offset_position(*here, errors.ra_offset_arcsec, errors.dec_offset_arcsec)
    flux, pixel = flux_around(quiet, *here)
    assert quiet.signal.shape == shape
    assert flux == pytest.approx(800.0, rel=2e-3)
    assert geometry.separation_arcsec(*geometry.pix2sky(wcs, *pixel), *expected) < 0.5
    assert options["width_deg"] == pytest.approx(1.4, rel=1e-3)


def test_times_of_a_given_map_are_kept(tmp_path):
    """With a time map a pixel is seen at its time, a moving object where it is then, and what has no time is unseen."""
    shape, wcs = simulate.map_grid(OPTIONS)
    time = np.full(shape, 7200.0)
    time[:20] = 0
    still = QUIET | {"pointing_rms_arcsec": 0.0, "time_map": write_image(tmp_path / "t.fits", time, wcs)}
    sky = sky_of(odd("moving", 6.0, 4.0, steady_mjy=500.0, ra_rate_arcsec_h=-120.0, dec_rate_arcsec_h=60.0))
    quiet = simulate.simulate_map(row_of(), sky, BAND, BEAM, still, 1)
    assert np.unique(quiet.time[np.isfinite(quiet.time)]).tolist() == [7200.0]
    assert not quiet.weight[:20].any() and quiet.weight[25:].any()
    there = truth.positions(sky, START + 7200.0)
    _, pixel = flux_around(quiet, *there)
    assert geometry.separation_arcsec(*geometry.pix2sky(wcs, *pixel), *there) < 0.5


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [(1.7e9, simulate.SimulationError, "expected seconds since"), (None, maps.MapError, r"shape \(7, 9\); expected")],
)
def test_wrong_time_map_is_named(tmp_path, values, error, message):
    """A time map of absolute times, or of another shape, stops with what was found and what was expected."""
    shape, wcs = simulate.map_grid(OPTIONS)
    image = np.full((7, 9) if values is None else shape, values or 1.0)
    options = QUIET | {"time_map": write_image(tmp_path / "t.fits", image, wcs)}
    with pytest.raises(error, match=message):
        simulate.simulate_map(row_of(), sky_of(), BAND, BEAM, options, 1)
