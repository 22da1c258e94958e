"""Measurements in the columns of the original sotrplib, for programs that read its pickled pandas tables."""

import numpy as np
import pandas as pd

from sotrplib import tables

_NAMES = """
source_type | str | 1 | forced, blind, confirm or moving
ra | f8 | deg | right ascension, 0 to 360
dec | f8 | deg | declination
err_ra | f8 | deg | error along RA (times cos dec); NaN for known sources
err_dec | f8 | deg | error along Dec
flux | f8 | mJy | flux
err_flux | f8 | mJy | its error
frequency | f8 | GHz | centre of the band
ctime | f8 | s | UTC of the observation of the position, unix seconds
arr | str | 1 | detector array
map_id | str | 1 | map
source_id | str | 1 | unique name of the source, or candidate_id
catalog_crossmatch | bool | 1 | whether it is a known source
crossmatch_names | object | 1 | list of the names of what is known there
crossmatch_probabilities | object | 1 | list of as many ones: a match is one by stated cuts
fit_type | str | 1 | forced or blind
fwhm_ra | f8 | arcmin | NaN: widths are not fitted to measurements
fwhm_dec | f8 | arcmin | NaN
err_fwhm_ra | f8 | arcmin | NaN
err_fwhm_dec | f8 | arcmin | NaN
orientation | f8 | deg | NaN
"""
COLUMNS = tuple(tables.Column(*map(str.strip, line.split("|"))) for line in _NAMES.strip().split("\n"))


def measured_sources(measurements, candidates):
    """Measurements in the original's columns.

    Parameters
    ----------
    measurements, candidates : pandas.DataFrame
        Tables of these names.

    Returns
    -------
    frame : pandas.DataFrame
        One row a measurement, in their order, with the columns :data:`COLUMNS`.
    """
    own = candidates.set_index("candidate_id")
    ids, kind = measurements["source_id"], measurements["kind"]
    matched = own["matched_name"].reindex(ids).fillna("").to_numpy(object)
    names = np.where(ids.isin(own.index), matched, measurements["source_name"].to_numpy(object))
    values = {
        "source_type": kind,
        "ra": measurements["ra_deg"],
        "dec": measurements["dec_deg"],
        "err_ra": own["ra_err_arcsec"].reindex(ids).to_numpy() / 3600,
        "err_dec": own["dec_err_arcsec"].reindex(ids).to_numpy() / 3600,
        "flux": measurements["flux_mjy"],
        "err_flux": measurements["flux_err_mjy"],
        "frequency": measurements["freq_ghz"],
        "ctime": measurements["time_unix_s"],
        "arr": measurements["array"],
        "map_id": measurements["map_id"],
        "source_id": ids,
        "catalog_crossmatch": names != "",
        "crossmatch_names": [[name] if name else [] for name in names],
        "crossmatch_probabilities": [[1.0] if name else [] for name in names],
        "fit_type": np.where(kind == "blind", "blind", "forced"),
    }
    missing = {column.name: np.nan for column in COLUMNS if column.name not in values}
    frame = pd.DataFrame(values | missing, index=measurements.index)
    return frame[[column.name for column in COLUMNS]].reset_index(drop=True)
