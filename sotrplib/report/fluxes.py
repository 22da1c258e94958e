"""Forced against catalogue fluxes on the page, and what their ratio can tell in each band."""

import numpy as np

from sotrplib import plots
from sotrplib.report import checks, words

_SAME_BAND = 0.02  # frequencies that differ by less than this part are one


def compare_fluxes(compared, frames, reference):
    """Forced against catalogue flux by band.

    Parameters
    ----------
    compared : pandas.DataFrame
        Table ``compared`` of all maps, with the band of each.
    frames : mapping of str to DataFrame
        Table ``maps``.
    reference : mapping
        ``freq_ghz`` of the catalogue's fluxes, and the ``spectral_index`` of sources without one.

    Returns
    -------
    list of dict
        By band: figure (SVG), n sources, the median ratio of the n_bright above 10 sigma and its error, and in words
        what that ratio tells.
    """
    freq_ghz = frames["maps"].groupby("band")["freq_ghz"].median()
    return [_comparison(band, rows, float(freq_ghz[band]), reference) for band, rows in compared.groupby("band")]


def _comparison(band, rows, freq_ghz, reference):
    columns = (rows[f"{name}_mjy"].to_numpy() for name in ("catalog_flux", "flux", "flux_err"))
    figure = plots.flux_comparison(*columns, band)
    ratio, ratio_err, n_bright = checks.flux_ratio(rows)
    return {
        "band": band,
        "figure": plots.to_svg(figure, f"fluxes-{band}", f"Forced against catalogue flux in {band}"),
        "n": len(rows),
        "n_bright": n_bright,
        "ratio": ratio,
        "ratio_err": ratio_err,
        "told": explain_ratio(ratio, ratio_err, freq_ghz, reference),
    }


def explain_ratio(ratio, ratio_err, freq_ghz, reference):
    """What the ratio of forced to catalogue flux tells at a frequency, in words.

    Catalogue fluxes hold at the reference frequency. At another they rest on spectral indices: the ratio is the
    calibration times (frequency / reference)^(true minus assumed index), and fluxes alone do not tell these apart.
    """
    step = np.log(freq_ghz / reference["freq_ghz"])
    if abs(step) < _SAME_BAND:
        return "catalogue fluxes hold at this frequency: the ratio is the calibration"
    text = (
        f"catalogue fluxes hold at {reference['freq_ghz']:g} GHz and were brought to {freq_ghz:g} GHz with the index "
        f"{words.format_number(reference['spectral_index'])} where the catalogue gives none"
    )
    if not ratio > 0:
        return text
    shift = words.format_pair(np.log(ratio) / step, abs(ratio_err / ratio / step))
    return f"{text}; indices higher by {shift} make the ratio 1"
