"""Filtered maps as FITS images, read again as input."""

import dataclasses

import numpy as np
import pytest
from astropy.io import fits
from filtered_skies import make_filtered_sky, make_sky_map

from sotrplib import beams, geometry, ingest, mapexports, maps, tables

BAND = beams.BandInfo(freq_ghz=90.0, fwhm_arcmin=2.0)
LABELS = {"map_id": "test_a1_f090_1700000000", "instrument": "test", "array": "a1", "band": "f090"}


@pytest.fixture(scope="module")
def skymap():
    """A map of uneven depth across RA 0 with a hole and a mask."""
    sky = make_filtered_sky((128, 192), np.random.default_rng(4), [20.0, 50.0], spacing_pix=48)
    image = sky.s.copy()
    image[20:30, 40:60] = np.nan
    mask = np.where(np.isnan(image), tables.MASK_BITS["UNOBSERVED"], 0)
    mask[:5] |= tables.MASK_BITS["EDGE"]
    depth = 0.04 * np.linspace(0.5, 2, 192)
    made = make_sky_map(image, sky.template, kappa=depth, mask=mask, ra0_deg=0.0, dec0_deg=-35.0)
    return dataclasses.replace(made, time=np.where(made.kappa > 0, np.arange(1.0, 193.0), np.nan).astype("f4"))


def written(folder, skymap, *fields):
    paths = {field: str(folder / f"m_{field}.fits") for field in fields}
    for field, path in paths.items():
        mapexports.write_field(path, skymap, field)
    return paths


@pytest.mark.parametrize(("form", "signal", "weight"), [("rho_kappa", "rho", "kappa"), ("flux_snr", "flux", "snr")])
def test_export_is_read_again(tmp_path, skymap, form, signal, weight):
    """rho with kappa, and flux with snr, come back through the reader: the same rho, kappa, time, sky and zero time."""
    paths = written(tmp_path, skymap, signal, weight, "time")
    row = LABELS | {"form": form, "map_path": paths[signal], "weight_path": paths[weight]}
    again = ingest.read_map(row | {"time_path": paths["time"]}, BAND)
    # rho and kappa as stored; by way of flux and snr four roundings of float32
    tolerance = {"rtol": 0, "atol": 0} if form == "rho_kappa" else {"rtol": 1e-6, "atol": 0}
    np.testing.assert_allclose(again.signal, skymap.rho, **tolerance)
    np.testing.assert_allclose(again.weight, skymap.kappa, **tolerance)
    np.testing.assert_array_equal(again.time, skymap.time)
    assert again.info.t_ref_unix_s == skymap.info.t_ref_unix_s
    for name in ("values", "row_edges", "step_arcmin"):
        np.testing.assert_array_equal(getattr(again.template, name), getattr(skymap.template, name))
    corners = np.array([[0.0, 0.0], [127.0, 191.0]]).T
    np.testing.assert_allclose(geometry.pix2sky(again.wcs, *corners), geometry.pix2sky(skymap.wcs, *corners), atol=1e-9)


def test_mask_and_units_are_named(tmp_path, skymap):
    """The mask keeps its bits and names them; every field says its unit, and flux is NaN exactly where unobserved."""
    paths = written(tmp_path, skymap, *mapexports.UNITS)
    units = {field: fits.getheader(path).get("BUNIT", "") for field, path in paths.items()}
    assert units == mapexports.UNITS
    header = fits.getheader(paths["mask"])
    np.testing.assert_array_equal(fits.getdata(paths["mask"]), skymap.mask)
    assert {name: header[f"MASK{bit}"] for name, bit in tables.MASK_BITS.items()} == {n: n for n in tables.MASK_BITS}
    np.testing.assert_array_equal(np.isnan(fits.getdata(paths["flux"])), skymap.kappa == 0)


def test_map_without_times_has_none_in_its_export(tmp_path, skymap):
    """A map without times gives a time image of 0, which is what an unknown time is in these files."""
    path = written(tmp_path, dataclasses.replace(skymap, time=None), "time")["time"]
    assert not fits.getdata(path).any()


def test_failed_map_says_why(tmp_path):
    """A failed map gives a file without pixels, with its reason; letters beyond ASCII and line ends do not break it."""
    mapexports.write_failed(tmp_path / "m.fits", "x_y_z_1", "map.fits: is 3′ short;\nfetch it again")
    header = fits.getheader(tmp_path / "m.fits")
    assert (header["STATUS"], header["MAP_ID"]) == ("failed", "x_y_z_1")
    assert header["REASON"] == r"map.fits: is 3\u2032 short; fetch it again"


def test_damaged_template_is_a_map_error(tmp_path, skymap):
    """A file whose extension TEMPLATE holds something else is refused by name."""
    paths = written(tmp_path, skymap, "rho", "kappa")
    fits.append(paths["rho"], np.array([(1,)], [("a", "i4")]), fits.Header({"EXTNAME": "TEMPLATE"}))
    with fits.open(paths["rho"], mode="update") as hdus:
        del hdus[1]
    row = LABELS | {"form": "rho_kappa", "map_path": paths["rho"], "weight_path": paths["kappa"]}
    with pytest.raises(maps.MapError, match="m_rho.fits: its extension TEMPLATE holds no template"):
        ingest.read_map(row, BAND)
