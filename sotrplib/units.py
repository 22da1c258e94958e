"""Units of maps and fluxes.

Inside the library a map is in mJy/sr (or, once filtered, in 1/mJy and 1/mJy^2), a flux in mJy. Kelvin
always means thermodynamic temperature of the CMB. Case matters only where it must: ``m`` is milli, ``M`` mega.
"""

import re

import numpy as np

DEG = np.pi / 180
ARCMIN = DEG / 60
ARCSEC = DEG / 3600

T_CMB = 2.72548  # K, Fixsen 2009
_PLANCK = 6.62607015e-34  # J s
_BOLTZMANN = 1.380649e-23  # J/K
_LIGHT = 299792458.0  # m/s

_KELVIN = {"K": 1.0, "mK": 1e-3, "uK": 1e-6}
_TO_MJY = {"Jy": 1e3, "mJy": 1.0, "uJy": 1e-3}
_PER_SR = {"MJy/sr": 1e9, "kJy/sr": 1e6, "Jy/sr": 1e3, "mJy/sr": 1.0}
_PER_BEAM = {f"{unit}/beam": factor for unit, factor in _TO_MJY.items()}
INTENSITY_UNITS = (*_KELVIN, *_PER_SR, *_PER_BEAM)
FLUX_UNITS = (*_TO_MJY, *_PER_BEAM)
_KNOWN = tuple(dict.fromkeys(INTENSITY_UNITS + FLUX_UNITS))


class UnitError(ValueError):
    """A unit that is not known, or not of the kind asked for."""


def dplanck(freq_ghz):
    """Derivative of the Planck function at the temperature of the CMB.

    Parameters
    ----------
    freq_ghz : float or array
        Frequency in GHz.

    Returns
    -------
    float or array
        dB/dT = 2 k^3 T^2 / (h c)^2 * x^4 e^x / (e^x - 1)^2, x = h nu / (k T), in Jy/sr per K_CMB.
    """
    x = _PLANCK * np.asarray(freq_ghz) * 1e9 / (_BOLTZMANN * T_CMB)
    shape = x**4 * np.exp(x) / np.expm1(x) ** 2
    return 1e26 * 2 * _BOLTZMANN**3 * T_CMB**2 / (_PLANCK * _LIGHT) ** 2 * shape


def normalize_unit(text):
    """Known name and power of a unit as people write it.

    Parameters
    ----------
    text : str
        For example ``"uK"``, ``"µK_CMB"``, ``"K-2"``, ``"1/uK^2"``, ``"MJy sr-1"``, ``"JY/BEAM"``.

    Returns
    -------
    unit : str
        One of ``INTENSITY_UNITS`` or ``FLUX_UNITS``.
    power : int
        -2 for ``"uK^-2"`` and ``"1/uK^2"``, 1 for the unit itself.

    Raises
    ------
    UnitError
        If the unit is not known. Rayleigh-Jeans temperatures (``K_RJ``) are not.
    """
    compact = re.sub(r"\s*([/^*.()])\s*", r"\1", text.strip().replace("**", "^").replace("µ", "u").replace("μ", "u"))
    compact = re.sub(r"(?<=K)[_ ]?\(?cmb\)?", "", compact, flags=re.IGNORECASE)
    compact = re.sub(r"(?<=Jy)[ .*]?(beam|sr)\^?\(?-1\)?", r"/\1", compact, flags=re.IGNORECASE)
    base, power = _split_power(compact)
    unit = _known_name(base)
    if unit is None:
        raise UnitError(f"unit {text!r} is not known; expected one of {', '.join(_KNOWN)}, or a power such as uK^-2")
    return unit, power


def intensity_factor(unit, freq_ghz, *, beam_area_sr=None):
    """Factor that takes a map from ``unit`` to mJy/sr.

    Parameters
    ----------
    unit : str
        Kelvin (CMB), Jy/sr or Jy/beam with the usual prefixes, see :func:`normalize_unit`.
    freq_ghz : float
        Frequency at which kelvin are converted.
    beam_area_sr : float, optional
        Solid angle of the beam; needed for units per beam.

    Raises
    ------
    UnitError
        If the unit is unknown, no intensity, or per beam without a beam.
    """
    name = _first_power(unit)
    if name in _KELVIN:
        return float(1e3 * dplanck(freq_ghz) * _KELVIN[name])
    if name in _PER_SR:
        return _PER_SR[name]
    if name in _PER_BEAM and beam_area_sr:
        return _PER_BEAM[name] / beam_area_sr
    if name in _PER_BEAM:
        raise UnitError(f"unit {unit!r} needs the solid angle of the beam; give solid_angle_nsr or a beam profile")
    raise UnitError(f"unit {unit!r} is no intensity; expected one of {', '.join(INTENSITY_UNITS)}")


def flux_factor(unit):
    """Factor that takes a flux from ``unit`` to mJy; per beam is read as the flux of a point source at its peak.

    Raises
    ------
    UnitError
        If the unit is unknown or no flux.
    """
    name = _first_power(unit)
    if name in _TO_MJY:
        return _TO_MJY[name]
    if name in _PER_BEAM:
        return _PER_BEAM[name]
    raise UnitError(f"unit {unit!r} is no flux; expected one of {', '.join(FLUX_UNITS)}")


def _first_power(text):
    unit, power = normalize_unit(text)
    if power != 1:
        raise UnitError(f"unit {text!r} is {unit} to the power {power}; expected {unit}")
    return unit


def _split_power(text):
    inverse = re.fullmatch(r"1/\(?(.*?)\)?(?:\^?(\d+))?", text)
    if inverse:
        return inverse[1], -int(inverse[2] or 1)
    power = re.fullmatch(r"\(?(.*?)\)?\^?\(?([+-]?\d+)\)?", text)
    if power:
        return power[1], int(power[2])
    return text.removeprefix("(").removesuffix(")"), 1


def _known_name(text):
    """The known unit that ``text`` spells: letters in any case, except that m and M differ as prefixes."""
    for name in _KNOWN:
        if text.lower() == name.lower() and (name[0] not in "mM" or text[0] == name[0]):
            return name
    return None
