"""Blind detections of a filtered map: peaks of s = rho / sqrt(kappa), or connected islands of it.

Two finders of one table. Peaks are for point sources and reach the completeness that the noise allows; islands,
by photutils, are for extended or merged emission.
"""

import warnings

import numpy as np

from sotrplib import geometry, masks, peaks, pointing, positions, reading, shapes, tables
from sotrplib import template as templates


def find(skymap, rho, options, pointing_model):
    """Sources of a map by the ``finder`` of the options; parameters as :func:`find_peaks`."""
    return FINDERS[options["finder"]](skymap, rho, options, pointing_model)


def find_nothing(skymap, rho, options, pointing_model):
    """Table ``detections`` without rows, for maps that are not to be searched; parameters as :func:`find_peaks`."""
    return tables.empty("detections")


def find_peaks(skymap, rho, options, pointing_model):
    """Point sources of a map.

    Parameters
    ----------
    skymap : maps.SkyMap
    rho : array (ny, nx)
        rho of the map to search: ``skymap.rho`` less the model of the known sources, in 1/mJy.
    options : mapping
        Section ``find_sources`` of the configuration: ``snr_min``, ``min_separation_fwhm``, ``template_err``,
        ``near_edge_arcmin``, and for the flags of shape ``chi2_max``, ``fwhm_ratio_min``, ``fwhm_ratio_max``.
    pointing_model : pointing.PointingModel
        Taken off the positions; its error is added to theirs.

    Returns
    -------
    pandas.DataFrame
        Table ``detections``, brightest first.

    Notes
    -----
    A peak counts if s >= ``snr_min`` * sqrt(1 + (``template_err`` m)^2), where m is the largest |s| of models taken
    out of the map within half a FWHM of it. Its snr is sqrt(s^2 - 2): s was maximised over two coordinates.
    """
    field = peaks.make_field(skymap, rho, options)
    found = peaks.search(field)
    return _table(field, found, _measure(field, found), pointing_model)


def find_segments(skymap, rho, options, pointing_model):
    """Sources of a map as connected islands of pixels, deblended by photutils; parameters as :func:`find_peaks`.

    Islands are pixels above ``segment_snr``, at least ``segment_n_pixels`` of them, whose peak reaches ``snr_min``,
    split with ``deblend_n_levels`` and ``deblend_contrast``. The flux is that of a template at the peak of the island,
    fitted together with those that overlap it. Deblending needs scikit-image.

    Returns
    -------
    pandas.DataFrame
        Table ``detections``; fwhm_ratio and elongation from the second moments of the island against those of the
        template cut at the same level.
    """
    field = peaks.make_field(skymap, rho, options)
    start, moments = _islands(field, options)
    tops = positions.refine(field.s, *start, skymap.template)
    high = tops.s_max >= peaks.limit(field, field.s, tops, np.zeros(len(tops.y), bool))
    kept = np.flatnonzero(high & positions.distinct(*tops[:3]))
    found, index = peaks.settle(field, peaks.take(tops, kept))
    columns = _measure(field, found)
    columns |= _moment_shapes(found.peaks, moments[kept[index]], skymap.template, options["segment_snr"])
    return _table(field, found, columns, pointing_model)


# ---- islands -----------------------------------------------------------------------------------------


def _islands(field, options):
    """Peak pixels (y, x) of the deblended islands and the second moments (n, 2, 2) of their pixels, [yy, yx, xx]."""
    from photutils.segmentation import SourceCatalog, deblend_sources, detect_sources

    s = peaks.significance(field.rho, field.skymap.kappa)
    image = np.where(field.skymap.mask == 0, np.nan_to_num(s), 0)
    lowest = peaks.lowest_start(field.template) * options["snr_min"]
    n_pixels = options["segment_n_pixels"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nothing detected, nothing deblended: both are answers
        islands = detect_sources(image, options["segment_snr"], n_pixels)
        if islands is not None:
            tall = np.unique(islands.data[(image >= lowest) & (islands.data > 0)])
            islands.keep_labels(tall)
        if islands is None or not islands.n_labels:
            return (np.zeros(0, int),) * 2, np.zeros((0, 2, 2))
        levels = {"n_levels": options["deblend_n_levels"], "contrast": options["deblend_contrast"]}
        islands = deblend_sources(image, islands, n_pixels, **levels, progress_bar=False)
        moments = np.asarray(SourceCatalog(image, islands).covariance.value)[:, ::-1, ::-1]
    return _highest_pixels(image, islands.data, islands.labels), moments


def _highest_pixels(image, labels, wanted):
    from scipy.ndimage import maximum_position

    return tuple(np.array(maximum_position(image, labels, wanted)).T)


def _moment_shapes(tops, moments, template, level):
    """Columns fwhm_ratio and elongation from the moments of islands cut at ``level``."""
    reference = _template_moments(tops, template, level)
    width, elongation = shapes.moments_against(moments, reference)
    return {"fwhm_ratio": width, "elongation": elongation}


def _template_moments(tops, template, level):
    """Second moments (n, 2, 2) of the template of each peak's height where it is above ``level``."""
    moments = np.full((len(tops.y), 2, 2), np.nan)
    for k, (y, x, height) in enumerate(zip(*tops[:3], strict=True)):
        half = shapes.stamp_half(template, int(templates.band_of(template, y)))
        fraction = np.array([y - np.rint(y)]), np.array([x - np.rint(x)])
        stamp = height * templates.patches(template, *fraction, np.array([y]), half)[0]
        weight = np.where(stamp > level, stamp, 0)
        grid = np.indices(weight.shape) - half
        total = weight.sum()
        offset = grid - (np.einsum("aij,ij->a", grid, weight) / max(total, 1e-9))[:, None, None]
        moments[k] = np.einsum("aij,bij,ij->ab", offset, offset, weight) / max(total, 1e-9)
    return moments


# ---- the table ---------------------------------------------------------------------------------------


def _measure(field, found):
    """Columns of shape, and distance to the edge."""
    error, skymap = field.options["template_err"], field.skymap
    what = found.residual, found.peaks, skymap.template
    shape, islands = shapes.measure_both(*what, subtracted=found.painted, template_err=error)
    edge = masks.distance_to_bad_arcmin(skymap.mask, skymap.wcs, *found.peaks[:2])
    return shape._asdict() | islands._asdict() | {"edge_distance_arcmin": edge}


def _table(field, found, columns, pointing_model):
    """Table ``detections`` of the sources found."""
    skymap, place = field.skymap, found.peaks[:2]
    columns = columns | _sky_positions(found.peaks, skymap.wcs, pointing_model)
    columns["snr_peak"] = found.peaks.s_max / found.height_err
    columns["snr"] = np.sqrt(np.maximum(columns["snr_peak"] ** 2 - 2, 0))
    columns["flux_err_mjy"] = found.height_err / np.sqrt(reading.read_kappa(skymap.kappa, *place))
    columns["flux_mjy"] = columns["snr"] * columns["flux_err_mjy"]
    columns["time_unix_s"] = _times(skymap, *place)
    columns["flags"] = _flags(field, found, columns, pointing_model)
    order = np.argsort(-columns["flux_mjy"], kind="stable")
    columns = {name: np.asarray(values)[order] for name, values in columns.items()}
    return tables.make("detections", columns | {"detection_id": np.arange(len(order))})


def _times(skymap, y, x):
    if skymap.time is None:
        return np.full(len(y), np.nan)
    return skymap.info.t_ref_unix_s + skymap.time[_pixels(y, x, skymap.time.shape)].astype(float)


def _pixels(y, x, shape):
    return tuple(np.clip(np.rint(p).astype(int), 0, n - 1) for p, n in zip((y, x), shape, strict=True))


def _sky_positions(found, wcs, pointing_model):
    """Positions with the pointing model taken off, and their errors with its own."""
    ra, dec = geometry.pix2sky(wcs, found.y, found.x)
    errors = positions.sky_errors(wcs, found.y, found.x, (found.cov_yy, found.cov_yx, found.cov_xx))
    dra, ddec, *model_errors = pointing.evaluate(pointing_model, ra, dec)
    names = ("ra_deg", "dec_deg", "ra_err_arcsec", "dec_err_arcsec")
    return dict(
        zip(names, (*geometry.offset_position(ra, dec, -dra, -ddec), *np.hypot(errors, model_errors)), strict=True)
    )


def _flags(field, found, columns, pointing_model):
    skymap, options, width = field.skymap, field.options, columns["fwhm_ratio"]
    error = 0.5 / np.maximum(columns["snr"], 1)
    narrow = width < np.minimum(options["fwhm_ratio_min"], 1 - 2 * error)
    wide = width > np.maximum(options["fwhm_ratio_max"], 1 + 4 * error)
    edge = columns["edge_distance_arcmin"]
    raised = {
        "MASKED": skymap.mask[_pixels(*found.peaks[:2], skymap.mask.shape)] > 0,
        "NEAR_EDGE": edge < options["near_edge_arcmin"],
        "NEAR_HOLE": _near_hole(skymap, *found.peaks[:2], edge),
        "BLENDED": found.blended,
        "POINTING_IDENTITY": np.full(len(edge), pointing_model.kind == "identity"),
        "NO_OFFSET": ~found.peaks.converged,
        "NEAR_BRIGHT": found.light > columns["snr_peak"],
        "BAD_SHAPE": narrow | wide | (columns["template_chi2"] > options["chi2_max"]),
        "EXTENDED": wide,
        "NO_TIME": ~np.isfinite(columns["time_unix_s"]),
    }
    return np.bitwise_or.reduce(
        [np.where(on, np.uint32(tables.flag(name)), np.uint32(0)) for name, on in raised.items()]
    )


def _near_hole(skymap, y, x, edge_distance):
    """Whether a pixel without data lies within one width of the template."""
    width = templates.fwhm_arcmin(skymap.template, y)
    near = np.flatnonzero(edge_distance < width)
    result = np.zeros(len(y), bool)
    result[near] = masks.unobserved_within(skymap.kappa, skymap.wcs, y[near], x[near], width[near])
    return result


FINDERS = {"peaks": find_peaks, "segments": find_segments, "none": find_nothing}
