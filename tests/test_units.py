"""Units: factors against pixell and closed forms, spellings as found in real headers."""

import numpy as np
import pytest

from sotrplib import units

FREQUENCIES = np.array([30.0, 90.0, 150.0, 220.0, 280.0])


def test_dplanck_agrees_with_pixell():
    """dB/dT is that of pixell, which rounds its constants, to 1e-6."""
    from pixell import utils

    np.testing.assert_allclose(units.dplanck(FREQUENCIES), utils.dplanck(FREQUENCIES * 1e9), rtol=1e-6)


def test_dplanck_is_the_slope_of_the_planck_function():
    """dB/dT is the numerical derivative of 2 h nu^3 / c^2 / (exp(h nu / k T) - 1)."""

    def planck(temperature, freq_ghz):
        nu = freq_ghz * 1e9
        x = 6.62607015e-34 * nu / (1.380649e-23 * temperature)
        return 2e26 * 6.62607015e-34 * nu**3 / 299792458.0**2 / np.expm1(x)

    slope = (planck(2.72548 + 1e-4, FREQUENCIES) - planck(2.72548 - 1e-4, FREQUENCIES)) / 2e-4
    np.testing.assert_allclose(units.dplanck(FREQUENCIES), slope, rtol=1e-7)


@pytest.mark.parametrize(
    ("text", "unit", "power"),
    [
        ("K", "K", 1),
        ("uK", "uK", 1),
        ("µK", "uK", 1),
        ("UK", "uK", 1),
        ("uK_CMB", "uK", 1),
        ("K (CMB)", "K", 1),
        ("K^-2", "K", -2),
        ("uK-2", "uK", -2),
        ("1/uK^2", "uK", -2),
        ("uK_CMB**-2", "uK", -2),
        ("Jy/beam", "Jy/beam", 1),
        ("JY/BEAM", "Jy/beam", 1),
        ("mJy beam-1", "mJy/beam", 1),
        ("Jy.beam^-1", "Jy/beam", 1),
        ("MJy sr-1", "MJy/sr", 1),
        ("MJY/SR", "MJy/sr", 1),
        ("(mJy/sr)^-2", "mJy/sr", -2),
        ("1/mJy", "mJy", -1),
        ("mJy^-2", "mJy", -2),
        (" Jy ", "Jy", 1),
    ],
)
def test_spellings_of_units(text, unit, power):
    """A unit is understood however its header spells it."""
    assert units.normalize_unit(text) == (unit, power)


@pytest.mark.parametrize("text", ["", "K_RJ", "MK", "MJY/BEAM", "counts", "-2", "1"])
def test_unknown_units_are_refused(text):
    """What is not known is refused with the list of what is; mega is not taken for milli."""
    with pytest.raises(units.UnitError, match="is not known; expected one of K, mK, uK"):
        units.normalize_unit(text)


def test_milli_and_mega_differ_by_their_case():
    """MJy/sr is a billion mJy/sr."""
    ratio = units.intensity_factor("MJy/sr", 90.0) / units.intensity_factor("mJy/sr", 90.0)
    assert ratio == pytest.approx(1e9)


def test_kelvin_become_intensity_at_the_frequency():
    """1 uK is 1e-6 K, and K becomes mJy/sr by 1000 dB/dT."""
    assert units.intensity_factor("K", 150.0) == pytest.approx(1e3 * units.dplanck(150.0))
    assert units.intensity_factor("uK", 150.0) == pytest.approx(1e-6 * units.intensity_factor("K", 150.0))


def test_per_beam_needs_the_beam():
    """1 Jy/beam of a 100 nsr beam is 1e10 mJy/sr; without a beam it is refused."""
    assert units.intensity_factor("Jy/beam", 90.0, beam_area_sr=1e-7) == pytest.approx(1e10)
    with pytest.raises(units.UnitError, match="needs the solid angle"):
        units.intensity_factor("Jy/beam", 90.0)


@pytest.mark.parametrize(("unit", "factor"), [("Jy", 1e3), ("mJy", 1.0), ("uJy", 1e-3), ("mJy/beam", 1.0)])
def test_flux_factors(unit, factor):
    """Fluxes become mJy; per beam is the flux of a point source at its peak."""
    assert units.flux_factor(unit) == factor


def test_kinds_of_units_are_kept_apart():
    """A temperature is no flux, a flux no intensity, and a power no unit."""
    with pytest.raises(units.UnitError, match="'K' is no flux"):
        units.flux_factor("K")
    with pytest.raises(units.UnitError, match="'Jy' is no intensity"):
        units.intensity_factor("Jy", 90.0)
    with pytest.raises(units.UnitError, match="to the power -2; expected uK"):
        units.intensity_factor("uK^-2", 90.0)
