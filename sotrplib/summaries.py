"""What the last stage of a map says of it, so that merges of many maps open one small file of each."""

import numpy as np

from sotrplib import tables

FILTERED = ("time_unix_s", "area_deg2", "flux_err_mjy", "snr_std", "fwhm_arcmin")
FITTED = ("n_pointing", "ra_offset_arcsec", "dec_offset_arcsec")
COUNTED = ("n_detections", "n_candidates")
NEAR_BRIGHT = "near_bright"
_NO_CANDIDATES = ("known", "moving", "noise")


def of_map(filtered, fitted, detections, sifted):
    """Attributes of a map's last file.

    Parameters
    ----------
    filtered, fitted : mapping
        Attributes of the filtered map and of its pointing.
    detections, sifted : pandas.DataFrame
        Tables of these names.

    Returns
    -------
    dict
        :data:`FILTERED`, freq_ghz, :data:`FITTED` and :data:`COUNTED`; NaN for what a file does not say.
    """
    known = filtered | fitted | {"n_detections": len(detections), "n_candidates": count_candidates(sifted)}
    said = {name: known.get(name, np.nan) for name in (*FILTERED, *FITTED, *COUNTED)}
    return said | {"freq_ghz": filtered["info"]["freq_ghz"]}


def count_candidates(sifted):
    """Detections of a map, and catalogue sources, that are not known, moving or noise."""
    return int((~sifted["class"].isin(_NO_CANDIDATES)).sum())


def rows_near_bright(before, after):
    """Numbers of the rows whose flags the search has changed, all of them by NEAR_BRIGHT; array of int32."""
    return np.flatnonzero(before["flags"].to_numpy() != after["flags"].to_numpy()).astype(np.int32)


def flag_near_bright(forced, rows):
    """Table ``forced`` of a map with the flag NEAR_BRIGHT in those rows."""
    flags = forced["flags"].to_numpy().copy()
    flags[rows] |= flags.dtype.type(tables.flag("NEAR_BRIGHT"))
    return forced.assign(flags=flags)
