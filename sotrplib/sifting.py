"""Sorts what was found in one map into known, moving, noise, flare and transient.

The rules, in the order they are tried; the first that holds gives the class (numbers are options):

moving
    a moving object, at the time this pixel was observed, lies within ``moving_sigma`` of the joint
    position error and within ``moving_radius_arcmin`` (from the rim of its disc, for a planet).
known
    a catalogue source lies within ``match_sigma`` of the joint position error and within
    ``match_radius_arcmin``. The joint error of a coordinate is that of the detection, of the
    object and ``pointing_floor_arcsec`` in quadrature.
noise
    a flag of ``reject_flags``; within ``edge_arcmin`` of the edge of the good area; fainter than
    ``bright_residual_fraction`` of the SNR of a catalogue source or detection within
    ``bright_radius_fwhm`` (imperfect subtraction, or wings); within ``bright_radius_arcmin_1jy`` of a
    catalogue source, times its flux over 1 Jy where that is less than one, whatever its SNR; a shape
    unlike the template; one of more than ``cluster_n_max`` such detections within ``cluster_radius_arcmin``.
transient
    anything else found blindly.
flare
    a catalogue source whose forced flux exceeds its catalogue flux by ``flare_sigma`` and by the factor
    ``flare_ratio_min``. The error of the excess has four parts in quadrature: of the flux, of the
    calibration (``calibration_err``, a fraction), of the catalogue flux, and of bringing that to this
    band (``spectral_index_err``).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from sotrplib import crossmatch, matches, tables, variability

NOTHING_NEAR = "no known source within"
_JY = 1000.0
# columns of width and elongation, and their errors at SNR 1 (see shapes.measure and shapes.measure_islands)
_CURVATURE = ("fwhm_ratio", "elongation", 0.5, 2.8)
_MOMENTS = ("island_fwhm_ratio", "island_elongation", 0.7, 4.2)
_SHAPES = {"curvature": (_CURVATURE,), "photutils": (_MOMENTS,), "both": (_CURVATURE, _MOMENTS)}


@dataclass(frozen=True)
class MapBand:
    """What the rules need to know of the map's band: beam, and its frequency over the catalogue's."""

    fwhm_arcmin: float
    freq_ratio: float = 1.0


def sift(detections, forced, catalog, moving, options, *, band):
    """Give each detection of a map its class, and add the catalogue sources that flare.

    In two steps, :func:`sort_detections` and :func:`add_flares`, between which the forced fluxes may be flagged for
    what was detected beside them.

    Parameters
    ----------
    detections, forced, catalog, moving : pandas.DataFrame
        Tables of these names; any may have no rows. ``moving`` may hold several times of an object: the one
        closest to the observation of the detection is propagated with its rates.
    options : mapping
        Section ``sift_candidates`` of the configuration.
    band : MapBand
        Beam and frequency of the map.

    Returns
    -------
    pandas.DataFrame
        Table ``sifted``: the detections in their order, then the flaring sources (origin ``forced``,
        detection_id -1). ``matched_name`` is the source_id or the name of the moving object.
    """
    found = sort_detections(detections, forced, catalog, moving, options, band=band)
    return add_flares(found, forced, catalog, moving, options, band=band)


def sort_detections(detections, forced, catalog, moving, options, *, band):
    """Rows of :func:`sift` that are detections."""
    blind = detections.reset_index(drop=True)
    on_source = matches.match_catalog(blind, forced, catalog, options)
    on_mover = matches.match_moving(blind, moving, options)
    named = on_mover["matched"] | on_source["matched"]
    noise = _noise_reasons(blind, forced, named, options, band)
    verdict = pd.DataFrame({"class": "transient", "reason": _unmatched(on_source, options)}, dtype=object)
    verdict.loc[noise != "", "class"] = "noise"
    verdict["reason"] = np.where(noise != "", noise, verdict["reason"])
    verdict = _put_match(verdict, on_source, "known", "catalogue source")
    verdict = _put_match(verdict, on_mover, "moving", "moving object")
    match = on_source.where(~on_mover["matched"], on_mover)
    return tables.make("sifted", blind.assign(origin="blind", **verdict, **_match_columns(match)))


def add_flares(found, forced, catalog, moving, options, *, band):
    """Rows of :func:`sift`: those of :func:`sort_detections`, then the flaring sources."""
    flares = _flares(forced, catalog, moving, options, band)
    return tables.make("sifted", pd.concat([found, flares], ignore_index=True))


def flare_significance(forced, options, freq_ratio):
    """Excess of the forced over the catalogue flux, over its error with all four parts.

    Parameters
    ----------
    forced : pandas.DataFrame
        Table ``forced`` of one map, catalogue flux and error in the band of the map; an error that is not
        known counts as ``catalog_flux_err_fraction`` of the flux.
    options : mapping
        Section ``sift_candidates``.
    freq_ratio : float
        Frequency of the map over that of the catalogue.

    Returns
    -------
    array, shape (n,)
    """
    return variability.excess_significance(forced.assign(freq_ghz=freq_ratio), options, 1.0)


# ---- noise -----------------------------------------------------------------------------------------


def _noise_reasons(found, forced, named, options, band):
    """Why each detection is noise, empty where it is not."""
    single = _first_reason([_flag_reasons, _edge_reasons, _shape_reasons], found, options)
    bright = _bright_reasons(found, forced, options, band)
    bright = np.where(bright != "", bright, _surroundings_reasons(found, forced, options))
    reasons = np.where(bright != "", bright, single)
    return np.where(reasons != "", reasons, _cluster_reasons(found, ~named.to_numpy() & (bright == ""), options))


def _first_reason(rules, found, options):
    reasons = np.full(len(found), "", dtype=object)
    for rule in rules:
        reasons = np.where(reasons != "", reasons, rule(found, options))
    return reasons


def _where(bad, text, *columns):
    """Reasons: ``text`` filled with the columns' values where ``bad``, else empty."""
    rows = zip(np.asarray(bad), *(np.asarray(column) for column in columns), strict=True)
    return np.array([text.format(*values) if hit else "" for hit, *values in rows], dtype=object)


def _flag_reasons(found, options):
    hit = found["flags"].to_numpy() & np.uint32(tables.flag(*options["reject_flags"]))
    names = [", ".join(tables.flag_names(bits)) for bits in hit]
    return _where(hit > 0, "flagged {}", names)


def _edge_reasons(found, options):
    distance, least = found["edge_distance_arcmin"].to_numpy(), options["edge_arcmin"]
    return _where(distance < least, "edge: {:.1f}′ from unobserved or masked sky, below " + f"{least:g}′", distance)


def _shape_reasons(found, options):
    """Cuts on chi-square, and on width and elongation by the measures that ``shapes`` names."""
    chi2, chi2_max = found["template_chi2"].to_numpy(), np.full(len(found), options["chi2_max"])
    rules = [_where(chi2 > chi2_max, "shape: reduced chi2 {:.1f} against the template, above {:.1f}", chi2, chi2_max)]
    for measure in _SHAPES[options["shapes"]]:
        rules += _outline_reasons(found, options, *measure)
    return _first_reason([lambda *_, r=reasons: r for reasons in rules], found, options)


def _outline_reasons(found, options, width_name, elongation_name, width_err, elongation_err):
    """Limits on one measure of width and elongation, loosened by what noise does to it."""
    slack = options["shape_slack"] / found["snr"].to_numpy()
    width, elongation = found[width_name].to_numpy(), found[elongation_name].to_numpy()
    narrow, wide = options["fwhm_ratio_min"] - width_err * slack, options["fwhm_ratio_max"] + width_err * slack
    longest = options["elongation_max"] + elongation_err * slack
    label = "island " if width_name.startswith("island") else ""
    return [
        _where(width < narrow, f"shape: {label}width {{:.2f}} of the template's, below {{:.2f}}", width, narrow),
        _where(width > wide, f"shape: {label}width {{:.2f}} of the template's, above {{:.2f}}", width, wide),
        _where(elongation > longest, f"shape: {label}elongation {{:.2f}}, above {{:.2f}}", elongation, longest),
    ]


def _bright_reasons(found, forced, options, band):
    """Residuals or wings of sources far brighter than the detection."""
    fraction, radius = options["bright_residual_fraction"], 60 * options["bright_radius_fwhm"] * band.fwhm_arcmin
    bright = pd.concat(
        [
            forced[["source_id", "ra_deg", "dec_deg", "snr"]].rename(columns={"source_id": "name"}),
            found[["ra_deg", "dec_deg", "snr"]].assign(name=[f"detection {k}" for k in found["detection_id"]]),
        ]
    )
    bright = bright[bright["snr"] * fraction > found["snr"].min()] if len(found) else bright[:0]
    i, j, sep = crossmatch.match(*matches.radec(found), *matches.radec(bright), radius)
    snr, limit = found["snr"].to_numpy()[i], fraction * bright["snr"].to_numpy()[j]
    names = bright["name"].to_numpy(dtype=object)[j]
    text = f"bright neighbour: SNR {{:.1f}} below {fraction:g} of that of {{}} ({{:.0f}}), {{:.1f}}′ away"
    reasons = np.full(len(found), "", dtype=object)
    order = np.argsort(-sep, kind="stable")
    texts = _where(snr < limit, text, snr, names, limit / fraction, sep / 60)[order]
    rows = np.asarray(i)[order]
    reasons[rows[texts != ""]] = texts[texts != ""]
    return reasons


def _surroundings_reasons(found, forced, options):
    """Surroundings of bright catalogue sources, by the larger of their fluxes in the map and in the catalogue."""
    reasons = np.full(len(found), "", dtype=object)
    if options["bright_radius_arcmin_1jy"] == 0:
        return reasons
    flux = np.fmax(forced["flux_mjy"].to_numpy(), forced["catalog_flux_mjy"].to_numpy())
    radius = options["bright_radius_arcmin_1jy"] * np.minimum(flux / _JY, 1)
    i, j, sep = crossmatch.match(*matches.radec(forced), *matches.radec(found), 60 * radius)
    text = "bright neighbour: {} ({:.0f} mJy), {:.1f}′ away, closer than {:.1f}′"
    texts = _where(np.ones(len(i), bool), text, forced["source_id"].to_numpy(object)[i], flux[i], sep / 60, radius[i])
    order = np.argsort(-sep, kind="stable")
    reasons[j[order]] = texts[order]
    return reasons


def _cluster_reasons(found, counted, options):
    ra, dec = matches.radec(found)
    radius, most = options["cluster_radius_arcmin"], options["cluster_n_max"]
    i, j, _ = crossmatch.match(ra[counted], dec[counted], ra[counted], dec[counted], 60 * radius)
    size = np.zeros(len(found), int)
    size[counted] = np.bincount(i, minlength=int(counted.sum()))
    return _where(size > most, f"cluster: {{}} detections within {radius:g}′, more than {most}", size)


# ---- classes ----------------------------------------------------------------------------------------


def _unmatched(nearest, options):
    none = f"{NOTHING_NEAR} {options['match_radius_arcmin']:g}′"
    far = _where(
        nearest["name"] != "", "{} lies {:.0f}″ away, {:.1f} sigma", *(nearest[k] for k in ("name", "sep", "sigma"))
    )
    return np.where(far != "", far, none)


def _put_match(verdict, match, name, words):
    text = words + " {} at {:.1f}″, {:.1f} sigma"
    reasons = _where(match["matched"], text, match["name"], match["sep"], match["sigma"])
    hit = match["matched"].to_numpy()
    return pd.DataFrame(
        {"class": np.where(hit, name, verdict["class"]), "reason": np.where(hit, reasons, verdict["reason"])}
    )


def _match_columns(match):
    hit = match["matched"].to_numpy(dtype=bool)
    return {
        "matched_name": np.where(hit, match["name"], ""),
        "matched_sep_arcsec": np.where(hit, match["sep"].to_numpy(float), np.nan),
        "catalog_flux_mjy": np.where(hit, match["flux"].to_numpy(float), np.nan),
    }


def _flares(forced, catalog, moving, options, band):
    """Rows of the table ``sifted`` for the catalogue sources that flare."""
    sigma = flare_significance(forced, options, band.freq_ratio)
    ratio_exceeded = forced["flux_mjy"] > options["flare_ratio_min"] * forced["catalog_flux_mjy"]
    bad = (forced["flags"] & np.uint32(tables.flag(*options["flare_reject_flags"]))) > 0
    near_edge = forced["edge_distance_arcmin"] < options["edge_arcmin"]
    picked = forced.assign(sigma=sigma)[(sigma > options["flare_sigma"]) & ratio_exceeded & ~bad & ~near_edge]
    picked = picked.sort_values("source_id", ignore_index=True)
    errors = catalog.drop_duplicates("source_id").set_index("source_id")["pos_err_arcsec"].reindex(picked["source_id"])
    rows = _flare_rows(picked, np.nan_to_num(errors.to_numpy(float)))
    on_mover = matches.match_moving(rows, moving, options)
    verdict = _put_match(rows[["class", "reason"]], on_mover, "moving", "on a known source: moving object")
    hit = on_mover["matched"].to_numpy(dtype=bool)
    rows = rows.assign(**verdict, matched_name=np.where(hit, on_mover["name"], rows["matched_name"]))
    return tables.make("sifted", rows)


def _flare_rows(forced, pos_err):
    text = "{:.1f} mJy where the catalogue has {:.1f}: {:.1f} times, {:.1f} sigma with both errors"
    flux, expected = forced["flux_mjy"].to_numpy(), forced["catalog_flux_mjy"].to_numpy()
    with np.errstate(divide="ignore"):
        ratio = flux / expected
    shared = [n for n in tables.column_names("sifted") if n in forced and n not in ("source_id", "source_name")]
    fixed = {"detection_id": -1, "origin": "forced", "class": "flare", "n_pixels": 0, "matched_sep_arcsec": 0.0}
    unknown = dict.fromkeys(("template_chi2", *_CURVATURE[:2], *_MOMENTS[:2]), np.nan)
    return forced[shared].assign(
        **fixed,
        **unknown,
        ra_err_arcsec=pos_err,
        dec_err_arcsec=pos_err,
        snr_peak=forced["snr"],
        reason=_where(np.ones(len(forced), bool), text, flux, expected, ratio, forced["sigma"]),
        matched_name=forced["source_id"],
    )
