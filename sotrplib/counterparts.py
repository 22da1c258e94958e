"""Counterparts of candidates in catalogues from elsewhere, and how likely each is there by chance."""

from dataclasses import dataclass

import numpy as np

from sotrplib import crossmatch, sources
from sotrplib.units import ARCSEC

DENSITY_RADIUS_DEG = 1.0
NONE = {
    "external_name": "",
    "external_catalog": "",
    "external_sep_arcsec": np.nan,
    "external_p_chance": np.nan,
}


@dataclass(frozen=True)
class Catalog:
    """A catalogue from elsewhere: its name, positions (n,) in degrees and the names of its sources (n,)."""

    name: str
    ra_deg: np.ndarray
    dec_deg: np.ndarray
    labels: np.ndarray


def read_catalog(entry):
    """Read the positions of a catalogue from elsewhere.

    Parameters
    ----------
    entry : mapping
        One of ``confirm_candidates.external_catalogs``: ``path`` of a CSV, FITS or ECSV table, ``name`` to call
        the catalogue by, and the names of its columns ``ra_deg``, ``dec_deg`` (degrees) and ``label``; without a
        label the sources are called by their positions.

    Returns
    -------
    Catalog
        Rows without a finite position are left out.

    Raises
    ------
    sotrplib.sources.CatalogError
        If the file cannot be read, lacks a column or gives positions in another unit.
    """
    wanted = [entry[key] for key in ("ra_deg", "dec_deg", "label") if entry[key]]
    frame = sources.read_columns(entry["path"], wanted, key="confirm_candidates.external_catalogs")
    ra, dec = (sources.as_numbers(frame[entry[key]]) for key in ("ra_deg", "dec_deg"))
    good = np.isfinite(ra) & (np.abs(dec) <= 90)
    if len(frame) and not good.any():
        raise sources.CatalogError(
            f"{entry['path']}: no row of columns {wanted[:2]} is a position in degrees; "
            "correct confirm_candidates.external_catalogs"
        )
    labels = frame[entry["label"]].to_numpy(object) if entry["label"] else np.full(len(frame), "", object)
    return Catalog(entry["name"], ra[good] % 360, dec[good], labels[good])


def find(candidates, catalogs, options):
    """Name the nearest counterpart of each candidate.

    Parameters
    ----------
    candidates : pandas.DataFrame
        Table ``candidates``.
    catalogs : sequence of Catalog
    options : mapping
        Section ``confirm_candidates``: ``external_radius_arcmin`` and ``external_match_sigma``.

    Returns
    -------
    pandas.DataFrame
        Table ``candidates`` with the columns ``external_*`` filled where a source of any catalogue lies within
        ``external_match_sigma`` times the larger of the candidate's two position errors and within
        ``external_radius_arcmin``; of several the nearest.

    Notes
    -----
    The probability of one or more unrelated sources so close is 1 - exp(-n pi sep^2), with the density n of the
    counterpart's catalogue within a degree of the candidate, itself included (Downes et al. 1986, at one flux).
    It is too low by up to a factor of a few where the catalogue ends within that degree.
    """
    error = candidates[["ra_err_arcsec", "dec_err_arcsec"]].max(axis=1, skipna=False).to_numpy()
    reach = np.minimum(60 * options["external_radius_arcmin"], options["external_match_sigma"] * error)
    found = candidates.assign(**NONE)
    separation = np.full(len(candidates), np.inf)
    for catalog in catalogs:
        near = _nearest(candidates, catalog, reach)
        better = near["external_sep_arcsec"] < separation
        separation = np.where(better, near["external_sep_arcsec"], separation)
        found = found.assign(**{name: np.where(better, values, found[name]) for name, values in near.items()})
    return found


def chance(separation_arcsec, n_within, radius_deg):
    """Probability of an unrelated source within a separation, where ``n_within`` lie within ``radius_deg``.

    Returns
    -------
    float or array
        1 - exp(-density pi sep^2), with the density over the area of the cap; NaN where the separation is NaN.
    """
    cap_sr = 2 * np.pi * (1 - np.cos(np.radians(radius_deg)))
    return -np.expm1(-n_within / cap_sr * np.pi * (np.asarray(separation_arcsec) * ARCSEC) ** 2)


def _nearest(candidates, catalog, reach_arcsec):
    """Columns ``external_*`` of one catalogue, each (n,); empty and NaN without a counterpart."""
    ra, dec = candidates["ra_deg"].to_numpy(), candidates["dec_deg"].to_numpy()
    j, separation = crossmatch.nearest(ra, dec, catalog.ra_deg, catalog.dec_deg, reach_arcsec)
    hit = np.flatnonzero(j >= 0)
    labels, p_chance = np.full(len(ra), "", object), np.full(len(ra), np.nan)
    labels[hit] = [_label(catalog, k) for k in j[hit]]
    n_within = crossmatch.count(ra[hit], dec[hit], catalog.ra_deg, catalog.dec_deg, 3600 * DENSITY_RADIUS_DEG)
    p_chance[hit] = chance(separation[hit], n_within, DENSITY_RADIUS_DEG)
    return {
        "external_name": labels,
        "external_catalog": np.where(j >= 0, catalog.name, ""),
        "external_sep_arcsec": separation,
        "external_p_chance": p_chance,
    }


def _label(catalog, k):
    return catalog.labels[k] or sources.position_name(catalog.ra_deg[k], catalog.dec_deg[k])
