"""The filtered map and its file."""

import dataclasses
import os

import numpy as np
import pytest

from sotrplib import geometry, maps, store, tables
from sotrplib.template import Template

SHAPE, CAR = geometry.make_car(10.0, -5.0, 2.0, 1.5, 2.0)
T_REF = 1763085600


def make_sky_map(rng, time=True):
    kappa = rng.uniform(0.5, 1, SHAPE).astype(np.float32)
    kappa[:4] = 0
    rho = (rng.normal(size=SHAPE) * np.sqrt(kappa)).astype(np.float32)
    seconds = np.where(kappa > 0, 3.5, np.nan).astype(np.float32) if time else None
    mask = np.where(kappa > 0, 0, tables.MASK_BITS["UNOBSERVED"]).astype(np.uint8)
    info = maps.MapInfo(
        f"solat_i1_f090_{T_REF}", "solat", "i1", "f090", 90.0, T_REF + 0.25, None, {"ids": ["x"] * 9000}
    )
    values = np.zeros((2, 5, 5), np.float32)
    values[:, 2, 2] = 1
    template = Template(values, np.array([0, 20, SHAPE[0]]), np.full((2, 2), 2.0))
    return maps.SkyMap(rho, kappa, seconds, mask, CAR, info, template)


def test_flux_error_and_snr_of_a_filtered_map(rng):
    """flux = rho / kappa, error = kappa^-1/2, snr = flux / error; NaN where unobserved."""
    skymap = make_sky_map(rng)
    flux, error, snr = maps.flux(skymap), maps.flux_err(skymap), maps.snr(skymap)
    observed = skymap.kappa > 0
    np.testing.assert_allclose(flux[observed] * skymap.kappa[observed], skymap.rho[observed], rtol=1e-6)
    np.testing.assert_allclose(snr[observed], (flux / error)[observed], rtol=1e-5)
    assert all(np.isnan(values[~observed]).all() and values.dtype == np.float32 for values in (flux, error, snr))


@pytest.mark.parametrize("time", [True, False])
def test_filtered_maps_survive_their_file(tmp_path, rng, time):
    """A filtered map written and read back is the same map, with or without times, and equal maps make equal bytes."""
    skymap = make_sky_map(rng, time)
    maps.write_sky_map(tmp_path / "a.h5", skymap, {"status": "ok"})
    maps.write_sky_map(tmp_path / "b.h5", skymap, {"status": "ok"})
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    back = maps.read_sky_map(tmp_path / "a.h5")
    for name in ("rho", "kappa", "mask") + ("time",) * time:
        np.testing.assert_array_equal(getattr(back, name), getattr(skymap, name))
        assert getattr(back, name).dtype == getattr(skymap, name).dtype
    assert back.info == skymap.info and (back.time is None) == (not time)
    alone, wcs, info = maps.read_times(tmp_path / "a.h5")
    np.testing.assert_array_equal(alone, skymap.time)
    assert wcs.array_shape == SHAPE and info == skymap.info
    np.testing.assert_allclose(geometry.pix2sky(back.wcs, 3, 4), geometry.pix2sky(CAR, 3, 4), rtol=1e-12)
    for name in ("values", "row_edges", "step_arcmin"):
        np.testing.assert_array_equal(getattr(back.template, name), getattr(skymap.template, name))


def test_part_of_a_filtered_map(tmp_path, rng):
    """A window of a filtered map keeps its sky, and its rows their template."""
    skymap = make_sky_map(rng)
    maps.write_sky_map(tmp_path / "a.h5", skymap)
    window = (slice(15, 30), slice(5, 25))
    part = maps.read_sky_map(tmp_path / "a.h5", window)
    np.testing.assert_array_equal(part.rho, skymap.rho[window])
    assert list(part.template.row_edges) == [-15, 5, 30] and part.wcs.array_shape == (15, 20)
    np.testing.assert_allclose(geometry.pix2sky(part.wcs, 1, 2), geometry.pix2sky(CAR, 16, 7), rtol=1e-12)


def test_failed_maps_have_no_pixels(tmp_path):
    """Reading the file of a failed map repeats its reason."""
    store.write(tmp_path / "a.h5", attrs={"status": "failed", "reason": "m.fits: is truncated"})
    with pytest.raises(maps.MapError, match="records a failed map .m.fits: is truncated"):
        maps.read_sky_map(tmp_path / "a.h5")
    with pytest.raises(maps.MapError, match="is truncated"):
        maps.read_times(tmp_path / "a.h5")


def test_a_kept_map_is_read_once(tmp_path, rng):
    """Within ``keep_last`` who reads a map again gets the same, read-only, until its file is another."""
    path = tmp_path / "map.h5"
    given = make_sky_map(rng)
    maps.write_sky_map(path, given, {"status": "ok"})
    with maps.keep_last():
        first = maps.read_sky_map(path)
        assert maps.read_sky_map(path, with_time=False) is first and first.time is not None
        window = maps.read_sky_map(path, (slice(5, 9), slice(3, 7)))
        assert window.rho.shape == (4, 4) and window.rho.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            first.rho[0, 0] = 1
        maps.write_sky_map(path, given, {"status": "ok"})
        os.utime(path, ns=(1, 1))
        assert maps.read_sky_map(path) is not first
    again = maps.read_sky_map(path)
    assert again is not maps.read_sky_map(path) and again.rho.flags.writeable
    np.testing.assert_array_equal(again.rho, first.rho)


@pytest.mark.parametrize("with_time", [True, False])
def test_a_map_just_written_is_kept_as_its_file_has_it(tmp_path, rng, with_time):
    """Within ``keep_last`` a map that was written is not read again, and is what its file holds, types included."""
    given = make_sky_map(rng)
    given = dataclasses.replace(given, rho=given.rho.astype(float), time=given.time if with_time else None)
    path = tmp_path / "map.h5"
    with maps.keep_last():
        maps.write_sky_map(path, given, {"status": "ok"})
        kept = maps.read_sky_map(path)
        assert np.shares_memory(kept.kappa, given.kappa) and not kept.rho.flags.writeable
    read = maps.read_sky_map(path)
    assert read.info == kept.info and (kept.time is None) == (read.time is None) == (not with_time)
    for name in ("rho", "kappa", "mask", *(["time"] if with_time else [])):
        one, other = getattr(kept, name), getattr(read, name)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(kept.template.values, read.template.values)
