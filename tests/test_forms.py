"""Every form and unit becomes intensity with inverse variance, or rho with kappa, in the units of the library."""

import numpy as np
import pytest

from sotrplib import beams, forms, maps, units

BAND = beams.BandInfo(90.0, 2.2, solid_angle_sr=1e-7)
MJY_PER_SR = units.intensity_factor("uK", 90.0)


def cell(form, **cells):
    return {"map_id": "m", "map_path": "map.fits", "weight_path": "weight.fits", "form": form, "unit": ""} | cells


def a(*values):
    return np.array([values], np.float32)


@pytest.mark.parametrize(
    ("form", "bunits", "expected"),
    [
        ("intensity_ivar", ("uK", "uK^-2"), (MJY_PER_SR, MJY_PER_SR**-2)),
        ("intensity_ivar", ("K", "K"), (MJY_PER_SR * 1e6, (MJY_PER_SR * 1e6) ** -2)),
        ("rho_kappa", ("1/Jy", "1/Jy^2"), (1e-3, 1e-6)),
        ("flux_rms", ("Jy", "Jy"), (1e3, 1e3)),
        ("flux_snr", ("mJy", ""), (1.0, 1.0)),
    ],
)
def test_factors_take_units_to_those_of_the_library(form, bunits, expected):
    """Kelvin become mJy/sr, jansky mJy, with the power that the form has; a gain of the signal counts in both."""
    headers = [{"BUNIT": text} if text else {} for text in bunits]
    np.testing.assert_allclose(forms.factors(cell(form), BAND, *headers), expected, rtol=1e-12)
    gain = forms.factors(cell(form, gain="2"), BAND, *headers)
    power = {"intensity_ivar": (1, -2), "rho_kappa": (-1, -2), "flux_rms": (1, 1), "flux_snr": (1, 0)}[form]
    np.testing.assert_allclose(gain, np.multiply(expected, np.power(2.0, power)), rtol=1e-12)


@pytest.mark.parametrize(
    ("row", "header", "message"),
    [
        (cell("snr"), {"BUNIT": "uK"}, "form 'snr'; expected one of intensity_ivar"),
        (cell("intensity_ivar"), {}, "no BUNIT in the header"),
        (cell("intensity_ivar"), {"BUNIT": "furlong"}, "furlong"),
        (cell("rho_kappa"), {"BUNIT": "uK"}, "form is rho_kappa"),
        (cell("flux_rms"), {"BUNIT": "Jy^-2"}, "expected Jy"),
    ],
)
def test_what_cannot_be_converted_is_an_error(row, header, message):
    """An unknown form or unit, none at all, an intensity where a flux belongs, and a wrong power name the file."""
    with pytest.raises(maps.MapError, match=message.replace("^", r"\^")):
        forms.factors(row, BAND, header, header)


def test_forms_of_a_flux_become_rho_and_kappa():
    """A flux of 6 mJy with error 2 (SNR 3) is rho = 1.5 / mJy and kappa = 0.25 / mJy^2, however it is stated."""
    for form, weight in (("flux_rms", 2.0), ("flux_snr", 3.0)):
        rho, kappa, n_bad = forms.convert(a(6.0), a(weight), (1.0, 1.0), form)
        np.testing.assert_allclose([rho[0, 0], kappa[0, 0], n_bad], [1.5, 0.25, 0], rtol=1e-6)
    rho, kappa, _ = forms.convert(a(1.5), a(0.25), (1.0, 1.0), "rho_kappa")
    np.testing.assert_allclose([rho[0, 0], kappa[0, 0]], [1.5, 0.25], rtol=1e-6)


@pytest.mark.parametrize(
    ("form", "signal", "weight", "n_bad"),
    [
        ("intensity_ivar", (np.nan, 1, 1, 1, 1), (1, np.inf, -1, 0, 1), 3),
        ("rho_kappa", (np.inf, 1, 1, 1, 1), (1, np.nan, -1, 0, 1), 3),
        ("flux_rms", (np.nan, 1, 1, 1, 1), (1, np.nan, -1, 0, 1), 3),
        ("flux_snr", (np.nan, 1, -1, 0, 1), (1, np.inf, 1, 2, 1), 3),
    ],
)
def test_bad_pixels_are_unobserved_and_counted(form, signal, weight, n_bad):
    """What is not finite, of negative weight or of contradicting signs is 0 in both; the good pixel stays."""
    signal, weight, found = forms.convert(a(*signal), a(*weight), (1.0, 1.0), form)
    assert found == n_bad
    assert not signal[0, :4].any() and not weight[0, :4].any() and weight[0, 4] == 1


def test_flux_of_zero_among_observed_pixels_takes_the_kappa_around_it():
    """In flux and SNR a pixel that is 0 in both is observed if its 8 neighbours are, and unobserved at a rim."""
    flux, snr = np.full((6, 6), 2.0, "f4"), np.full((6, 6), 4.0, "f4")
    for y, x in ((2, 2), (0, 3), (4, 4), (4, 5)):
        flux[y, x] = snr[y, x] = 0
    rho, kappa, n_bad = forms.convert(flux, snr, (1.0, 1.0), "flux_snr")
    assert kappa[2, 2] == pytest.approx(4) and rho[2, 2] == 0 and n_bad == 0
    assert not kappa[[0, 4, 4], [3, 4, 5]].any()


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4"])
def test_numbers_of_any_type_become_float32(dtype):
    """Integers and float64 are converted as float32 is."""
    signal, weight, _ = forms.convert(np.full((300, 4), 7, dtype), np.full((300, 4), 2, dtype), (0.5, 4.0), "rho_kappa")
    assert signal.dtype == weight.dtype == np.float32
    assert (signal == 3.5).all() and (weight == 8).all()
