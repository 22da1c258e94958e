"""Difference search: what a map holds that the other epochs of the same sky do not.

The reference is the sum of the other epochs (:mod:`coadd`), or a coadd given, at the true positions behind the pixels
of the map. The difference of the two fluxes has the variance 1 / kappa + 1 / kappa_ref, the depth of the reference
included: in it sources of constant flux, known or not, clusters and the CMB are gone, and what is left has the shape
of a source in the map. Known sources are taken out of both with their own templates, and their fluxes compared one by
one: a flare is what exceeds the mean of the other epochs, in place of the catalogue.
"""

import dataclasses

import numpy as np

from sotrplib import (
    coadd,
    coadd_members,
    detection,
    maps,
    photometry,
    pointing,
    revisits,
    sifting,
    sources,
    store,
    subtraction,
    tables,
)
from sotrplib.tables import MASK_BITS

_OWN = {"moving_mask_arcmin": 0.0}


def search(header, references, sky, sections):
    """Search a map for what its reference does not hold.

    Parameters
    ----------
    header : coadd_members.Header
        Of the map.
    references : sequence of coadd_members.Header
        Of the other epochs, or of one coadd whose files of pointing and forced photometry are not needed. Maps that
        failed are left out.
    sky : (pandas.DataFrame, dict)
        Table ``catalog`` and the attributes of its file.
    sections : mapping
        Sections of the configuration by name: search_difference, coadd_maps, find_sources, forced_photometry,
        sift_candidates.

    Returns
    -------
    sifted : pandas.DataFrame
        Table ``sifted``: positions and fluxes of what was found in the difference.
    members : pandas.DataFrame
        Table ``coadd_members`` of the reference.
    attrs : dict
        flux_err_mjy (median) and snr_std of the difference.

    Raises
    ------
    maps.MapError
        If the map is part of the coadd given, or has no sky in common with its reference.
    """
    member = coadd_members.read_member(header, sections["coadd_maps"] | _OWN)
    total = reference(header, member, references, sky, sections)
    unknown = subtract(member.sky_map, total, sections["coadd_maps"])
    forced = store.read_table(header.files.forced, "forced")
    y, x, flux = photometry.fitted_sources(unknown, forced, member.pointing)
    model = subtraction.model_rho(unknown.rho.shape, y, x, flux, unknown.kappa, unknown.template)
    whole = dataclasses.replace(unknown, rho=unknown.rho + model)
    options = sections["find_sources"] | {"snr_min": sections["search_difference"]["snr_min"]}
    sifted = sifting.sift(
        detection.find(whole, unknown.rho, options, member.pointing),
        _against(forced, total),
        sources.in_band(sky[0], header.info.freq_ghz, sky[1]),
        store.read_table(header.files.sifted, "moving"),
        sections["sift_candidates"],
        band=sifting.MapBand(header.fwhm_arcmin),
    )
    flares = sifted["origin"] == "forced"
    words = sifted["reason"].str.replace("the catalogue has", "the reference has")
    good = unknown.mask == 0
    attrs = {"flux_err_mjy": float(np.median(unknown.kappa[good]) ** -0.5), "snr_std": unknown.info.info["snr_std"]}
    sifted = tables.make("sifted", sifted.assign(reason=sifted["reason"].where(~flares, words)))
    return sifted, coadd_members.tabulate(total.members), attrs


def reference(header, member, references, sky, sections):
    """The reference of a map on its pixels, a :class:`coadd.Sum`; parameters as of :func:`search`."""
    total = coadd.Sum(header.grid, header.info.freq_ghz, header.info.t_ref_unix_s, header.half_arcmin)
    for other in references:
        if other.reason:
            total.skip(other)
            continue
        if header.map_id in other.info.info.get("members", []):
            cure = "give a coadd of other epochs"
            raise maps.MapError(f"{other.files.preprocessed}: holds {header.map_id} itself; {cure}")
        found = _read_coadd(other, sky, sections) if not other.files.forced else None
        found = found or coadd_members.read_member(other, sections["coadd_maps"])
        total.add(other, found._replace(move=_between(member, found, sections["coadd_maps"]["correct_pointing"])))
    return total


def subtract(sky_map, total, options):
    """A map minus its reference, both without their known sources.

    Parameters
    ----------
    sky_map : maps.SkyMap
    total : coadd.Sum
        Of the reference, on the pixels of the map.
    options : mapping
        ``flatfield_tile_deg``, ``flatfield_clip_sigma``.

    Returns
    -------
    maps.SkyMap
        rho = kappa (F - F_ref) with kappa = (1 / kappa_map + 1 / kappa_ref)^-1; unobserved where either is.
    """
    labels = {name: getattr(sky_map.info, name) for name in ("map_id", "instrument", "array", "band")}
    other = total.sky_map(labels, options)
    both = (sky_map.kappa > 0) & (other.kappa > 0)
    weight = np.where(both, sky_map.kappa + other.kappa, np.float32(1))
    rho = np.where(both, (other.kappa * sky_map.rho - sky_map.kappa * other.rho) / weight, np.float32(0))
    kappa = np.where(both, sky_map.kappa * other.kappa / weight, np.float32(0))
    mask = np.where(both, sky_map.mask | other.mask, sky_map.mask | MASK_BITS["UNOBSERVED"]).astype("u1")
    rho, kappa, snr_std = coadd.true_errors(rho, kappa, mask, sky_map.template, options)
    notes = {"kind": "difference", "snr_std": snr_std}
    info = dataclasses.replace(sky_map.info, info=notes)
    return dataclasses.replace(sky_map, rho=rho, kappa=kappa, mask=mask, info=info)


def _between(member, other, correct_pointing):
    """Function of positions in a map that gives their offsets in another: pointing of that minus that of the map."""
    if not correct_pointing:
        return None

    def move(ra, dec):
        there, here = pointing.evaluate(other.pointing, ra, dec), pointing.evaluate(member.pointing, ra, dec)
        return there[0] - here[0], there[1] - here[1]

    return move


def _read_coadd(header, sky, sections):
    """A coadd as a :class:`coadd_members.Member`: at true positions, its known sources measured in it."""
    sky_map = maps.read_sky_map(header.files.preprocessed)
    catalog, model = sources.in_band(sky[0], header.info.freq_ghz, sky[1]), pointing.PointingModel("constant")
    forced = photometry.measure_known(sky_map, catalog, model, sections["forced_photometry"])
    usable = (sky_map.kappa > 0) & (sky_map.mask & coadd_members.UNUSED == 0)
    known = coadd_members.true_places(sky_map, forced, model)
    return coadd_members.Member(revisits.without_known(sky_map, forced, model), usable, None, model, known)


def _against(forced, total):
    """Forced photometry of a map with the fluxes of the reference, and their errors, in place of the catalogue's."""
    known = total.known().set_index("source_id").reindex(forced["source_id"])
    flux, error = known["flux_mjy"].to_numpy(float), known["flux_err_mjy"].to_numpy(float)
    found = np.isfinite(flux)
    columns = {"catalog_flux_mjy": flux, "catalog_flux_err_mjy": error}
    return forced.assign(**{name: np.where(found, values, forced[name]) for name, values in columns.items()})
