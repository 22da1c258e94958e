"""Joint detection: the maps of one observation searched together, for sources too faint for each of them.

All arrays and bands of an observation are summed with weights f_b = (nu_b / nu_0)^alpha (:mod:`coadd`), and each sum is
searched as a map is. A source of 3.5 sigma in each of four maps has 7 sigma in the sum of its spectral index; another
index loses 1 - cos of the angle between the vectors f_b kappa_b^1/2 of the two, 4 % of the SNR between alpha 0.5 and 2
for equal weights at 90 and 150 GHz. Of what several sums find at one place the most significant is kept.

What the search of one map has called noise for its shape, or for what is beside it, remains noise where that map gives
most of the sum: a spike of one pixel is no longer one pixel wide among the others.

A known source has in a sum the flux that its spectrum gives it there. What it is compared with, to call it a flare, is
therefore its catalogue flux in each band, summed with the same weights.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from sotrplib import (
    coadd,
    coadd_members,
    crossmatch,
    detection,
    ephemerides,
    photometry,
    positions,
    sifting,
    sources,
    store,
    tables,
    workers,
)

_SAME_FWHM = 0.75  # detections of several sums, or of a sum and a map, this close are one
_MOST = 0.5  # share of the SNR in a sum that a map gives to the noise in it
_MAP_ALONE = ("edge", "flagged")  # reasons of noise that hold in one map only, whose pixels there a sum leaves out


class Sky(NamedTuple):
    """What is known of the sky: the table ``catalog``, its reference (attributes of its file), and a function.

    ``moving(wcs, clock, site)`` gives the table ``moving`` of a map, as :func:`ephemerides.positions_in_map` does.
    """

    catalog: pd.DataFrame
    reference: dict
    moving: object


def search(headers, map_id, sky, sections):
    """Search the maps of one observation together.

    Parameters
    ----------
    headers : sequence of coadd_members.Header
        Of its maps; those that failed are left out.
    map_id : str
        Of the observation.
    sky : Sky
    sections : mapping
        Sections of the configuration by name: search_jointly, coadd_maps, find_sources, forced_photometry,
        sift_candidates.

    Returns
    -------
    sifted : pandas.DataFrame
        Table ``sifted_jointly``: what was found, fluxes at nu_0, each with the spectral index of the sum it is in.
    members : pandas.DataFrame
        Table ``coadd_members``.

    Notes
    -----
    Nothing is searched where fewer than two maps can be summed: each map is searched alone anyway.
    """
    good = [header for header in headers if not header.reason]
    if len(good) < 2:
        return tables.empty("sifted_jointly"), coadd_members.tabulate(
            [coadd_members.left_out(header) for header in headers]
        )
    options = sections["coadd_maps"] | {"moving_mask_arcmin": 0.0}
    indices = tuple(sections["search_jointly"]["spectral_indices"])
    one_band = len({header.info.freq_ghz for header in good}) == 1
    total = coadd.start_sum(headers, spectral_indices=indices[:1] if one_band else indices, counted=False)
    coadd.add_all(total, headers, options)
    if len([row for row in total.members if row["n_pixels"]]) < 2:
        return tables.empty("sifted_jointly"), coadd_members.tabulate(total.members)
    attrs = coadd.shared_attrs(headers, total)
    sifted = search_sums(total, map_id, attrs, sky, sections)
    noise = pd.concat([_read_noise(header) for header in good], ignore_index=True)
    return keep_noise(sifted, noise, attrs["fwhm_arcmin"]), coadd_members.tabulate(total.members)


def search_sums(total, map_id, attrs, sky, sections):
    """Search all sums of a :class:`coadd.Sum`; the table ``sifted_jointly``.

    ``attrs`` has fwhm_arcmin and site; other parameters as of :func:`search`.
    """
    with workers.processes(lambda k: _search_sum(total, k, map_id, attrs, sky, sections)) as each:
        parts = list(each(range(len(total.spectral_indices))))
    return _strongest(pd.concat(parts, ignore_index=True), attrs["fwhm_arcmin"])


def keep_noise(sifted, noise, fwhm_arcmin):
    """Sifted detections of a sum, those as noise that are noise in a map which gives most of them.

    Parameters
    ----------
    sifted : pandas.DataFrame
        Table ``sifted_jointly``.
    noise : pandas.DataFrame
        Rows of the tables ``sifted`` of the maps that are noise, with the column ``map_id``.
    fwhm_arcmin : float
    """
    place = ((frame["ra_deg"], frame["dec_deg"]) for frame in (sifted, noise))
    i, j, _ = crossmatch.match(*(values for pair in place for values in pair), 60 * _SAME_FWHM * fwhm_arcmin)
    most = noise["snr"].to_numpy()[j] > _MOST * sifted["snr"].to_numpy()[i]
    found = (sifted["origin"] == "blind") & (sifted["class"] == "transient")
    pairs = [(a, b) for a, b in zip(i[most], j[most], strict=True) if found[a]]
    kind, reason = sifted["class"].to_numpy(object).copy(), sifted["reason"].to_numpy(object).copy()
    for a, b in pairs:
        kind[a], reason[a] = "noise", f"noise in {noise['map_id'][b]}: {noise['reason'][b]}"
    return tables.make("sifted_jointly", sifted.assign(**{"class": kind, "reason": reason}))


def _read_noise(header):
    """What the search of a map has called noise, but for reasons that are those of the map's own limits."""
    rows = store.read_table(header.files.sifted, "sifted")
    kept = rows[(rows["class"] == "noise") & ~rows["reason"].str.startswith(_MAP_ALONE)]
    return kept.assign(map_id=header.map_id)


def _search_sum(total, k, map_id, attrs, sky, sections):
    """What one of the sums holds, sifted."""
    labels = {"map_id": map_id} | dict(zip(("instrument", "array", "band"), map_id.split("_"), strict=False))
    unknown, known = total.sky_map(labels, sections["coadd_maps"], k), total.known(k)
    whole, model = coadd.put_back(unknown, known), total.pointing_model()
    options = sections["find_sources"] | {"snr_min": sections["search_jointly"]["snr_min"]}
    detections = detection.find(whole, unknown.rho, options, model)
    catalog = sources.in_band(sky.catalog, unknown.info.freq_ghz, sky.reference)
    forced = photometry.measure_known(whole, catalog, model, sections["forced_photometry"])
    clock = ephemerides.PixelClock(unknown.time, unknown.info.t_ref_unix_s, unknown.rho.shape)
    moving = sky.moving(unknown.wcs, clock, attrs["site"])
    sifted = sifting.sift(
        detections,
        _expect(forced, known),
        catalog,
        moving,
        sections["sift_candidates"],
        band=sifting.MapBand(attrs["fwhm_arcmin"], unknown.info.freq_ghz / sky.reference["freq_ghz"]),
    )
    return tables.make("sifted_jointly", sifted.assign(spectral_index=total.spectral_indices[k]))


def _expect(forced, known):
    """Forced photometry with the catalogue fluxes that the sum should hold."""
    expected = known.set_index("source_id")[["catalog_flux_mjy", "catalog_flux_err_mjy"]].reindex(forced["source_id"])
    columns = {name: np.where(np.isfinite(values), values, forced[name]) for name, values in expected.items()}
    return forced.assign(**columns)


def _strongest(sifted, fwhm_arcmin):
    """Of what several sums have at one place the most significant, by falling significance."""
    place = sifted["ra_deg"].to_numpy(), sifted["dec_deg"].to_numpy()
    i, j, _ = crossmatch.match(*place, *place, 60 * _SAME_FWHM * fwhm_arcmin)
    origin, index = sifted["origin"].to_numpy(), sifted["spectral_index"].to_numpy()
    same = (origin[i] == origin[j]) & (index[i] != index[j])
    kept = sifted[positions.keep_highest(sifted["snr"], i[same], j[same])]
    kept = kept.sort_values(["snr", "ra_deg"], ascending=False, kind="stable", ignore_index=True)
    blind = kept["origin"] == "blind"
    return kept.assign(detection_id=np.where(blind, np.cumsum(blind) - 1, -1))
