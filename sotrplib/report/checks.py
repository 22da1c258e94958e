"""Numbers that say how far to trust a map: its noise, its negative, its beam, its fluxes, its positions."""

import numpy as np

from sotrplib import photometry, pointing, positions, selection, subtraction, tables, template

SEARCH_SNR = 5.0  # what lies below minus this in the map without its sources is counted as false
UNSURE = tables.flag("NO_DATA", "MASKED", "NEAR_EDGE", "BLENDED", "NEAR_BRIGHT")
_BEAM_SNR, _BEAM_SOURCES = 20.0, 60  # faintest source whose shape is looked at, and how many of them
_BEAM_REACH_FWHM, _BEAM_BINS = 1.6, 12
_WIDTHS = np.linspace(0.8, 1.25, 181)
_SAMPLE = 1 << 20  # pixels that tell the width of the noise to 0.1 %
_MEDIAN_ERROR = 1.2533  # error of a median over that of a mean


def residual_snr(sky_map, snr, model, forced, sifted):
    """SNR of a map minus the sources that were measured or found in it and are not noise.

    A source that could not be measured, being masked, is taken away with its catalogue flux.

    Parameters
    ----------
    sky_map : maps.SkyMap
    snr : array (ny, nx)
        Its SNR, NaN where unobserved.
    model : pointing.PointingModel
    forced, sifted : pandas.DataFrame
        Tables of the map.
    """
    found = sifted[(sifted["origin"] == "blind") & (sifted["class"] != "noise")]
    forced = forced.assign(flux_mjy=forced["flux_mjy"].fillna(forced["catalog_flux_mjy"]))
    ra, dec, flux = found[["ra_deg", "dec_deg", "flux_mjy"]].to_numpy(float).T
    place = photometry.expected_positions(sky_map, ra, dec, model)
    known = photometry.fitted_sources(sky_map, forced, model)
    y, x, flux = (np.concatenate(both) for both in zip(known, (place.y, place.x, flux), strict=True))
    return subtraction.subtract_from_snr(snr, sky_map.kappa, y, x, flux, sky_map.template)


def judge_noise(residual):
    """What is not Gaussian about the SNR of a map minus its sources, in words; empty if nothing is.

    Parameters
    ----------
    residual : array (n,)
        SNR of the usable pixels.
    """
    if not len(residual):
        return ["no usable pixel"]
    low, high = np.percentile(residual[:: max(len(residual) // _SAMPLE, 1)], [15.865, 84.135])
    std, n_low = (high - low) / 2, int(np.count_nonzero(residual < -5))
    words = [f"the noise is {std:.2f} times the stated error"] if abs(std - 1) > 0.1 else []
    if n_low > max(1e-5 * len(residual), 10):
        words.append(f"{n_low} pixels lie below −5σ, {2.87e-7 * len(residual):.2g} are expected")
    return words


def count_negative(sky_map, residual):
    """Peaks of the negative map above ``SEARCH_SNR`` where sources are taken out, and how many Gaussian noise makes.

    Noise is as often negative as positive and sources are not: this is the number of false detections to expect.
    """
    y, _ = positions.local_maxima(-residual, SEARCH_SNR, sky_map.mask)
    return len(y), selection.expected_false_alarms(sky_map, SEARCH_SNR)


def beam_profile(sky_map, residual, forced, model):
    """Mean profile of the bright sources of a map, their neighbours taken out, against that of the template.

    Parameters
    ----------
    sky_map : maps.SkyMap
    residual : array (ny, nx)
        SNR of the map without its sources.
    forced : pandas.DataFrame
        Table ``forced`` of the map.
    model : pointing.PointingModel

    Returns
    -------
    dict or None
        radius_arcmin, measured, measured_err and expected, arrays (n,); n_sources; width, how many times as wide as
        expected the sources are. None without a bright source.
    """
    sure = (forced["flags"].to_numpy("u4") & np.uint32(UNSURE)) == 0
    bright = forced[sure & (forced["snr"] > _BEAM_SNR)].nlargest(_BEAM_SOURCES, "snr")
    if bright.empty:
        return None
    y, x, flux = photometry.fitted_sources(sky_map, bright, model)
    middle = len(sky_map.rho) // 2
    reach = _BEAM_REACH_FWHM * template.fwhm_arcmin(sky_map.template, middle)
    edges = np.linspace(0, reach, _BEAM_BINS + 1)
    rings = [_rings(sky_map, residual, source, edges) for source in zip(y, x, flux, strict=True)]
    measured, expected, weight = (np.array(values) for values in zip(*rings, strict=True))
    known = np.isfinite(measured).sum(axis=0) > 0
    weight = np.where(np.isfinite(measured), weight[:, None], 0.0)[:, known]
    measured, expected = np.nan_to_num(measured)[:, known], np.nan_to_num(expected)[:, known]
    total = weight.sum(axis=0)
    mean, shape = ((weight * values).sum(axis=0) / total for values in (measured, expected))
    scatter = np.sqrt((weight * (measured - mean) ** 2).sum(axis=0) / total / np.maximum(len(bright) - 1, 1))
    radius = ((edges[1:] + edges[:-1]) / 2)[known]
    profile = {"radius_arcmin": radius, "measured": mean, "expected": shape, "n_sources": len(bright)}
    profile["measured_err"] = np.hypot(scatter, total**-0.5)
    return profile | {"width": _relative_width(profile)}


def _rings(sky_map, residual, source, edges):
    """Mean of a source over its peak in rings, that of the template, and the square of its SNR."""
    y, x, flux = source
    row = int(np.clip(np.rint(y), 0, len(sky_map.rho) - 1))
    steps = template.pixel_width_arcmin(sky_map.template, row), sky_map.template.step_arcmin[0][0]
    dx_arcmin, dy_arcmin = (float(np.squeeze(step)) for step in steps)
    top, left = max(0, int(y - edges[-1] / dy_arcmin)), max(0, int(x - edges[-1] / dx_arcmin))
    window = np.s_[top : int(y + edges[-1] / dy_arcmin) + 2, left : int(x + edges[-1] / dx_arcmin) + 2]
    rows, columns = np.ogrid[window]
    rows, columns = rows[: residual[window].shape[0]], columns[:, : residual[window].shape[1]]
    shape = template.evaluate_pixels(sky_map.template, rows - y, columns - x, row)
    snr = flux * np.sqrt(sky_map.kappa[row, int(np.clip(np.rint(x), 0, residual.shape[1] - 1))])
    radius = np.hypot((rows - y) * dy_arcmin, (columns - x) * dx_arcmin)
    values = residual[window] / snr + shape
    good = np.isfinite(values) & (radius < edges[-1])
    ring = np.digitize(radius[good], edges) - 1
    count = np.bincount(ring, minlength=len(edges) - 1).astype(float)
    count[count == 0] = np.nan
    sums = (np.bincount(ring, image[good], len(edges) - 1) / count for image in (values, shape))
    return *sums, float(snr) ** 2


def _relative_width(profile):
    """Factor by which the profile is wider than expected, its height left free."""
    radius, measured, expected = (profile[name] for name in ("radius_arcmin", "measured", "expected"))
    core = expected > 0.2
    if core.sum() < 3:
        return np.nan
    models = np.array([np.interp(radius[core] / width, radius, expected) for width in _WIDTHS])
    height = (models @ measured[core]) / np.sum(models**2, axis=1)
    misfit = np.sum((measured[core] - height[:, None] * models) ** 2, axis=1)
    return float(_WIDTHS[np.argmin(misfit)])


def pointing_offsets(sources, model):
    """Offsets of the pointing sources before and after the model is taken off, and whether it was fitted to them.

    Parameters
    ----------
    sources : pandas.DataFrame
        Table ``pointing_sources``.
    model : pointing.PointingModel

    Returns
    -------
    before, after : array (2, n)
        Along RA (times cos dec) and Dec, arcsec.
    used : array (n,) bool
    """
    before = sources[["ra_offset_arcsec", "dec_offset_arcsec"]].to_numpy(float).T
    after = before - np.array(pointing.evaluate(model, sources["ra_deg"], sources["dec_deg"])[:2])
    return before, after, sources["used"].to_numpy(bool)


def sure_fluxes(forced):
    """Known sources without a flag that makes them unsure that are, or should be, above 5 sigma."""
    sure = (forced["flags"].to_numpy("u4") & np.uint32(UNSURE)) == 0
    visible = forced[["flux_mjy", "catalog_flux_mjy"]].max(axis=1) > 5 * forced["flux_err_mjy"]
    return forced[sure & visible & forced["flux_mjy"].notna() & (forced["catalog_flux_mjy"] > 0)]


def flux_ratio(rows):
    """Median ratio of forced to catalogue flux, its error, and the number of the sources it is of.

    These are the sources that the catalogue expects above 10 sigma: to choose them by their measured flux would prefer
    those that came out high.
    """
    catalog_flux, flux, flux_err = (rows[f"{name}_mjy"].to_numpy() for name in ("catalog_flux", "flux", "flux_err"))
    bright = catalog_flux > 10 * flux_err
    ratio = flux[bright] / catalog_flux[bright]
    if not len(ratio):
        return np.nan, np.nan, 0
    spread = np.subtract(*np.percentile(ratio, [84.135, 15.865])) / 2
    return float(np.median(ratio)), _MEDIAN_ERROR * spread / len(ratio) ** 0.5, len(ratio)
