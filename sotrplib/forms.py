"""Forms of maps: what the files hold, in whatever unit, becomes one of the two forms of the library.

These are intensity in mJy/sr with its inverse variance, and rho (1/mJy) with kappa (1/mJy^2).
"""

import logging

import numpy as np

from sotrplib import units
from sotrplib.maps import MapError

log = logging.getLogger(__name__)

_BLOCK_ROWS = 128  # rows converted at a time, few enough to stay in the cache
# form: power of the unit in the signal file, in the weight file (0: no unit), whether the unit is a flux
_POWERS = {
    "intensity_ivar": (1, -2, False),
    "rho_kappa": (-1, -2, True),
    "flux_snr": (1, 0, True),
    "flux_rms": (1, 1, True),
}


def factors(row, band, header, weight_header):
    """Factors that take the signal and the weight of a map to the units of the library, gain included.

    Parameters
    ----------
    row : mapping
        Of the map table: ``form``, ``unit``, ``gain`` and the paths, for messages.
    band : beams.BandInfo
    header, weight_header : mapping
        Cards of the two files; BUNIT is the unit or, of a weight, a power of it.

    Returns
    -------
    float, float

    Raises
    ------
    maps.MapError
        If the form or the unit is not known, or there is no unit.
    """
    if row["form"] not in _POWERS:
        raise MapError(f"{row['map_id']}: form {row['form']!r}; expected one of {', '.join(_POWERS)}")
    signal_power, weight_power, is_flux = _POWERS[row["form"]]
    gain = float(row.get("gain") or 1)
    signal_unit = _unit(row["map_path"], header, row.get("unit"), signal_power)
    weight_unit = _unit(row["weight_path"], weight_header, signal_unit, weight_power) if weight_power else signal_unit
    try:
        signal_factor, weight_factor = (
            units.flux_factor(unit)
            if is_flux
            else units.intensity_factor(unit, band.freq_ghz, beam_area_sr=band.solid_angle_sr)
            for unit in (signal_unit, weight_unit)
        )
    except units.UnitError as error:
        raise MapError(f"{row['map_path']}: {error}; form is {row['form']}") from error
    return (signal_factor * gain) ** signal_power, (weight_factor * gain) ** weight_power


def _unit(path, header, fallback, power):
    """Name of the unit of a file from BUNIT, else ``fallback``; both may state the unit or its ``power``."""
    text = str(header.get("BUNIT", "")).strip() or (fallback or "")
    if not text:
        raise MapError(
            f"{path}: no BUNIT in the header; expected one, or the `unit` column of the map table: fill it in"
        )
    try:
        name, found = units.normalize_unit(text)
    except units.UnitError as error:
        raise MapError(f"{path}: {error}; correct BUNIT or the `unit` column of the map table") from error
    if found not in (1, power):
        raise MapError(f"{path}: unit {text!r}; expected {name}^{power}: correct BUNIT or `form` in the map table")
    if found != power and header.get("BUNIT"):
        log.warning("%s: BUNIT is %s, read as %s^%d", path, text, name, power)
    if fallback and units.normalize_unit(fallback)[0] != name:
        log.warning("%s: BUNIT %s is used, not %s", path, text, fallback)
    return name


def convert(signal, weight, factors, form):
    """Signal and weight of the library's two forms.

    Parameters
    ----------
    signal, weight : array (ny, nx)
        As in the files; arrays of float32 are overwritten.
    factors : (float, float)
        As of :func:`factors`.
    form : str
        Of :data:`mapindex.FORMS`.

    Returns
    -------
    array (ny, nx) float32, array (ny, nx) float32, int
        Intensity in mJy/sr and its inverse variance, or rho and kappa, 0 where unobserved; and the number of bad
        pixels: see :func:`ingest.read_map`.
    """
    zero = (signal == 0) & (weight == 0) if form == "flux_snr" else None
    results = [a if a.dtype == np.float32 and a.flags.writeable else np.empty(a.shape, "f4") for a in (signal, weight)]
    n_bad = 0
    for start in range(0, len(signal), _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        with np.errstate(all="ignore"):
            scaled = (np.multiply(a[rows], f, dtype="f4") for a, f in zip((signal, weight), factors, strict=True))
            *values, bad = _sanitise(*scaled, form)
        for result, part in zip(results, values, strict=True):
            result[rows] = part
        n_bad += int(np.count_nonzero(bad))
    if form == "flux_snr":
        results[1] = _fill_lone_zeros(results[1], zero)
    return *results, n_bad


def _sanitise(signal, weight, form):
    """Signal and weight of the library's two forms, 0 where unobserved, and whether a pixel was bad."""
    bad = ~(np.isfinite(signal) & np.isfinite(weight))
    if form == "flux_snr":
        bad |= signal * weight < 0
        observed = signal * weight > 0
        weight = (weight / signal) ** 2
    else:
        bad |= weight < 0
        observed = weight > 0
        weight = 1 / np.square(weight) if form == "flux_rms" else weight
    if form in ("flux_snr", "flux_rms"):
        signal = signal * weight
        bad |= observed & ~(np.isfinite(signal) & np.isfinite(weight))
    observed &= ~bad
    signal[~observed] = weight[~observed] = 0
    return signal, weight, bad


def _fill_lone_zeros(kappa, zero):
    """kappa at pixels of exactly zero flux among 8 observed neighbours: the mean of theirs."""
    y, x = np.nonzero(zero[1:-1, 1:-1])
    if not len(y):
        return kappa
    around = np.array([kappa[y + i, x + j] for i in range(3) for j in range(3) if (i, j) != (1, 1)])
    lone = np.all(around > 0, axis=0)
    filled = kappa.copy()
    filled[y[lone] + 1, x[lone] + 1] = around[:, lone].mean(axis=0)
    return filled
