"""Counterparts of candidates in catalogues from elsewhere, and how likely each is there by chance."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from sotrplib import crossmatch, geometry, sources, tables
from sotrplib.units import ARCSEC

DENSITY_RADIUS_DEG = 1.0
NONE = {
    "external_name": "",
    "external_catalog": "",
    "external_sep_arcsec": np.nan,
    "external_p_chance": np.nan,
    "external_type": "",
    "external_score": np.nan,
}
_SMALLEST_ERR_ARCSEC = 0.1


@dataclass(frozen=True)
class Catalog:
    """A catalogue from elsewhere: its name, positions (n,) in degrees, the names of its sources (n,) and their type."""

    name: str
    ra_deg: np.ndarray
    dec_deg: np.ndarray
    labels: np.ndarray
    kind: str = ""


_NOTHING = Catalog("", np.zeros(0), np.zeros(0), np.zeros(0, object))


def read_catalog(entry):
    """Read the positions of a catalogue from elsewhere.

    Parameters
    ----------
    entry : mapping
        One of ``confirm_candidates.external_catalogs``: ``path`` of a CSV, FITS or ECSV table, ``name`` to call
        the catalogue by, the names of its columns ``ra_deg``, ``dec_deg`` (degrees) and ``label`` (without a label the
        sources are called by their positions), and the ``type`` of its sources.

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
    return Catalog(entry["name"], ra[good] % 360, dec[good], labels[good], entry["type"])


def find(candidates, catalogs, options):
    """All counterparts of candidates.

    Parameters
    ----------
    candidates : pandas.DataFrame
        Table ``candidates``.
    catalogs : sequence of Catalog
    options : mapping
        Section ``confirm_candidates``: ``external_radius_arcmin``, ``external_match_sigma``, ``external_priors`` and
        ``external_score_min``.

    Returns
    -------
    pandas.DataFrame
        Table ``counterparts``: sources of any catalogue within ``external_match_sigma`` times the larger of the
        candidate's two position errors and within ``external_radius_arcmin``, whose score reaches
        ``external_score_min``; the candidates in their order, of each the highest score first.

    Notes
    -----
    The score is odds / (1 + odds), where the odds are prior * f / n (Sutherland & Saunders 1992, at one flux): f is the
    density of true counterparts at this offset, Gaussian of the candidate's errors, n that of the counterpart's
    catalogue within a degree of the candidate, itself included, and the prior that of its type. The probability of one
    or more unrelated sources so close is 1 - exp(-n pi sep^2) (Downes et al. 1986); it is too low by up to a factor of
    a few where the catalogue ends within that degree.
    """
    parts = [_matches(candidates, catalog, options) for catalog in catalogs] or [
        _matches(candidates, _NOTHING, options)
    ]
    found = pd.concat(parts, ignore_index=True)
    found = found[found["external_score"] >= options["external_score_min"]]
    order = np.lexsort((found["external_sep_arcsec"], -found["external_score"], found["row"]))
    return tables.make("counterparts", found.iloc[order].drop(columns="row"))


def choose(candidates, counterparts, options):
    """Candidates with the columns ``external_*`` of one of their :func:`find` counterparts.

    ``external_choice`` of the options says which: that of the highest score, or the closest. Empty and NaN without one.
    """
    key = {"score": "external_score", "closest": "external_sep_arcsec"}[options["external_choice"]]
    best = counterparts.sort_values(key, ascending=key == "external_sep_arcsec", kind="stable")
    best = best.drop_duplicates("candidate_id").set_index("candidate_id").reindex(candidates["candidate_id"])
    named = best["external_score"].notna().to_numpy()
    return candidates.assign(**{name: np.where(named, best[name], empty) for name, empty in NONE.items()})


def chance(separation_arcsec, n_within, radius_deg):
    """Probability of an unrelated source within a separation, where ``n_within`` lie within ``radius_deg``.

    Returns
    -------
    float or array
        1 - exp(-density pi sep^2), with the density over the area of the cap; NaN where the separation is NaN.
    """
    return -np.expm1(-n_within / _cap_arcsec2(radius_deg) * np.pi * np.asarray(separation_arcsec) ** 2)


def _matches(candidates, catalog, options):
    """Rows of the table ``counterparts`` in one catalogue, and the ``row`` of their candidates."""
    ra, dec = candidates["ra_deg"].to_numpy(), candidates["dec_deg"].to_numpy()
    errors = candidates[["ra_err_arcsec", "dec_err_arcsec"]].to_numpy().T
    reach = np.minimum(60 * options["external_radius_arcmin"], options["external_match_sigma"] * errors.max(axis=0))
    i, j, separation = crossmatch.match(ra, dec, catalog.ra_deg, catalog.dec_deg, reach)
    n_within = crossmatch.count(ra[i], dec[i], catalog.ra_deg, catalog.dec_deg, 3600 * DENSITY_RADIUS_DEG)
    offsets = np.array(geometry.tangent_offsets(catalog.ra_deg[j], catalog.dec_deg[j], ra[i], dec[i]))
    odds = options["external_priors"].get(catalog.kind, 1.0) * likelihood_ratio(offsets, errors[:, i], n_within)
    columns = {
        "candidate_id": candidates["candidate_id"].to_numpy(object)[i],
        "external_name": [_label(catalog, k) for k in j],
        "external_catalog": catalog.name,
        "external_type": catalog.kind,
        "external_sep_arcsec": separation,
        "external_p_chance": chance(separation, n_within, DENSITY_RADIUS_DEG),
        "external_score": odds / (1 + odds),
    }
    return pd.DataFrame(columns | {"row": i})


def likelihood_ratio(offsets_arcsec, errors_arcsec, n_within):
    """Density of true counterparts at offsets (2, n) from candidates of errors (2, n), over that of unrelated sources.

    Of the latter ``n_within`` (n,) lie within ``DENSITY_RADIUS_DEG``.
    """
    errors = np.maximum(errors_arcsec, _SMALLEST_ERR_ARCSEC)
    true = np.exp(-0.5 * np.sum((offsets_arcsec / errors) ** 2, axis=0)) / (2 * np.pi * np.prod(errors, axis=0))
    return true * _cap_arcsec2(DENSITY_RADIUS_DEG) / n_within


def _cap_arcsec2(radius_deg):
    return 2 * np.pi * (1 - np.cos(np.radians(radius_deg))) / ARCSEC**2


def _label(catalog, k):
    return catalog.labels[k] or sources.position_name(catalog.ra_deg[k], catalog.dec_deg[k])
