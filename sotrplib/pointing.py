"""Pointing of a map: measured minus catalogue positions of bright known sources, and a smooth model of them.

The model belongs to one map and never moves the catalogue: a source is expected at catalogue + offset, and a
detection lies on the sky at measured - offset.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from sotrplib import crossmatch, geometry, positions, shapes, stamps, tables
from sotrplib import template as templates

_MEDIAN_SQUARE = 0.4549  # median of the square of a unit normal
_GROSS_SIGMA = 6.0
_GROSS_SOURCES = 300
_BRIGHTEST = 20.0
_CLIPPINGS = 20


@dataclass(frozen=True, eq=False)
class PointingModel:
    """Offset of a map's positions, measured minus catalogue, as a polynomial of low order.

    Parameters
    ----------
    kind : str
        identity, constant, polynomial or fixed (a shift known beforehand).
    order : int
        Highest total power of the two coordinates.
    centre : (float, float)
        RA and Dec (degrees) the coordinates are measured from, along RA and Dec on the sky.
    scale_deg : float
        Unit of the coordinates.
    coefficients : array (2, n_terms)
        For the offsets along RA (times cos dec) and Dec, arcsec.
    covariance : array (2, n_terms, n_terms)
        Of each row of ``coefficients``, arcsec squared.
    scatter_arcsec : float
        Scatter of the sources about the model beyond their errors, per coordinate.
    n_used : int
        Sources the model was fitted to.
    """

    kind: str = "identity"
    order: int = 0
    centre: tuple = (0.0, 0.0)
    scale_deg: float = 1.0
    coefficients: np.ndarray = field(default_factory=lambda: np.zeros((2, 1)))
    covariance: np.ndarray = field(default_factory=lambda: np.zeros((2, 1, 1)))
    scatter_arcsec: float = 0.0
    n_used: int = 0


def fit(sources, options, *, centre=None):
    """Fit a pointing model, leaving out sources that do not agree with the others.

    Parameters
    ----------
    sources : pandas.DataFrame
        Table ``pointing_sources``.
    options : mapping
        ``model`` (constant, polynomial, fixed or identity), ``order``, ``average`` (of the constant model: mean or
        median), ``ra_shift_arcsec``, ``dec_shift_arcsec``, ``n_min``, ``clip_sigma``: section ``fit_pointing``.
    centre : (float, float), optional
        RA and Dec of the middle of the map, degrees; default the mean of the sources.

    Returns
    -------
    PointingModel
        Where fewer than ``n_min`` sources are left the shift known beforehand, or the identity if that is zero. A
        polynomial needs two sources more than it has terms, else its order is lowered.
    pandas.DataFrame
        ``sources`` with the column ``used``.

    Notes
    -----
    Weights are those of the offsets' errors and a scatter common to all sources, in quadrature; the scatter is
    fitted where chi-square is more than two sigma above its expectation. The median has weights 1 / error, by which
    its variance is pi / 2 times that of the mean.
    """
    highest = {"identity": -1, "fixed": -1, "constant": 0, "polynomial": options["order"]}
    if options["model"] not in highest:
        raise ValueError(f"fit_pointing.model is {options['model']!r}; expected one of {', '.join(highest)}")
    ra, dec = sources["ra_deg"].to_numpy(), sources["dec_deg"].to_numpy()
    offset = sources[["ra_offset_arcsec", "dec_offset_arcsec"]].to_numpy().T
    error = sources[["ra_offset_err_arcsec", "dec_offset_err_arcsec"]].to_numpy().T
    used = np.isfinite(offset).all(axis=0) & np.isfinite(error).all(axis=0) & (error > 0).all(axis=0)
    where = _frame(ra, dec, used, centre) if used.any() else None
    for order in range(_affordable(highest[options["model"]], used.sum(), options["n_min"]), -1, -1):
        terms = _terms(*_coordinates(ra, dec, *where), order)
        model, kept = _fit_clipped(terms, offset, error, used, options)
        if _affordable(order, kept.sum(), options["n_min"]) == order:
            kind = "polynomial" if order else "constant"
            return PointingModel(kind, order, *where, *model, n_used=int(kept.sum())), sources.assign(used=kept)
    return _without_fit(options), sources.assign(used=False)


def _without_fit(options):
    """Model of a map whose sources are not used: the shift known beforehand, exact, or the identity."""
    shift = _known_shift(options)
    if options["model"] == "identity" or options["model"] != "fixed" and not shift.any():
        return PointingModel()
    return PointingModel("fixed", coefficients=shift[:, None])


def _known_shift(options):
    return np.array([options["ra_shift_arcsec"], options["dec_shift_arcsec"]])


def evaluate(model, ra_deg, dec_deg):
    """Offset of the map at sky positions.

    Parameters
    ----------
    model : PointingModel
    ra_deg, dec_deg : array (n,)

    Returns
    -------
    dra_arcsec, ddec_arcsec : array (n,)
        Measured minus catalogue; RA times cos dec.
    dra_err_arcsec, ddec_err_arcsec : array (n,)
        Error of the model, its scatter included.
    """
    ra, dec = np.broadcast_arrays(np.asarray(ra_deg, float), np.asarray(dec_deg, float))
    terms = _terms(*_coordinates(ra.ravel(), dec.ravel(), model.centre, model.scale_deg), model.order)
    offsets = np.asarray(model.coefficients) @ terms
    variance = np.einsum("in,cij,jn->cn", terms, np.asarray(model.covariance), terms) + model.scatter_arcsec**2
    return tuple(values.reshape(ra.shape)[()] for values in (*offsets, *np.sqrt(variance)))


def to_dict(model):
    """Model as plain numbers, lists and text; see :func:`from_dict`."""
    plain = {name: getattr(model, name) for name in ("kind", "order", "scale_deg", "scatter_arcsec", "n_used")}
    arrays = {name: np.asarray(getattr(model, name)).tolist() for name in ("centre", "coefficients", "covariance")}
    return plain | arrays


def from_dict(values):
    """Model from :func:`to_dict`."""
    arrays = {name: np.asarray(values[name], float) for name in ("coefficients", "covariance")}
    return PointingModel(**{**values, **arrays, "centre": tuple(values["centre"])})


def reach_arcmin(options):
    """How far from its catalogue position a source may be measured by :func:`measure_offsets`."""
    return 2 * options["radius_arcmin"] + float(np.hypot(*_known_shift(options))) / 60


class Shifts(NamedTuple):
    """How a map looks where its brightest sources would be if it were shifted: what :func:`common_shift` needs.

    ``expected`` (n,) is the SNR the sources should have, ``values`` (n, m) that of the map, at each of the shifts
    ``grid`` (2, m) in arcsec.
    """

    expected: np.ndarray
    values: np.ndarray
    grid: np.ndarray


def measure_offsets(skymap, catalog, options, *, own=None, shift=None):
    """Measured minus catalogue positions of bright isolated sources.

    A shift common to all sources is looked for first, in the mean of the map around their positions, up to
    ``radius_arcmin`` from the shift known beforehand; then the highest peak near each shifted position is refined.

    Parameters
    ----------
    skymap : maps.SkyMap
    catalog : pandas.DataFrame
        Table ``catalog``, fluxes in the band of the map; a source without flux is taken as just bright enough.
    options : mapping
        ``snr_min``, ``flux_min_mjy``, ``radius_arcmin``, ``isolation_arcmin``, ``isolation_flux_ratio``,
        ``chi2_max`` (None for any), ``catalog_err_arcsec``, ``ra_shift_arcsec``, ``dec_shift_arcsec``: section
        ``fit_pointing``.
    own : array (n,) bool, optional
        Sources of the catalogue to measure; the others only stand beside them. Default all.
    shift : array (2,), optional
        The common shift in arcsec where it is known, as of :func:`common_shift`.

    Returns
    -------
    pandas.DataFrame
        Table ``pointing_sources``; errors include that of the catalogue position.
    """
    picked, expected = _bright_isolated(skymap, catalog, options, own)
    if not len(picked):
        return tables.empty("pointing_sources")
    if shift is None:
        shift = common_shift([_sample_around(skymap, picked, expected, options)], options)
    s = stamps.Significance(skymap.rho, skymap.kappa, skymap.mask)
    return _measure_near(s, skymap, picked, shift, options)


def sample_shifts(skymap, catalog, options, *, own=None):
    """:class:`Shifts` of the sources that :func:`measure_offsets` would measure on a map, or a strip of one."""
    return _sample_around(skymap, *_bright_isolated(skymap, catalog, options, own), options)


def common_shift(samples, options):
    """Shift (dra, ddec) in arcsec common to the brightest of all sources in ``samples`` (list of :class:`Shifts`).

    That at which s around them is highest, or the one known beforehand if nothing stands out.
    """
    expected = np.concatenate([sample.expected for sample in samples])
    brightest = _brightest(expected)
    values, grid = np.concatenate([sample.values for sample in samples])[brightest], samples[0].grid
    if not len(brightest):
        return _known_shift(options)
    weight = np.clip(expected[brightest], 1, _BRIGHTEST)
    stack = weight @ np.clip(np.nan_to_num(values), -_BRIGHTEST, _BRIGHTEST) / np.sqrt(np.sum(weight**2))
    best = int(np.argmax(stack))
    return grid[:, best] if stack[best] > _GROSS_SIGMA else _known_shift(options)


def _brightest(expected):
    return np.argsort(-expected, kind="stable")[:_GROSS_SOURCES]


def _bright_isolated(skymap, catalog, options, own=None):
    """Rows of the catalogue on good pixels that should be bright and stand alone, and their expected SNR."""
    ra, dec = catalog["ra_deg"].to_numpy(), catalog["dec_deg"].to_numpy()
    y, x = geometry.sky2pix(skymap.wcs, ra, dec, skymap.rho.shape)
    on_map = geometry.inside(skymap.rho.shape, y, x)
    row, column = (np.rint(np.where(on_map, p, 0)).astype(int) for p in (y, x))
    good = (skymap.kappa[row, column] > 0) & (skymap.mask[row, column] == 0)
    error = 1 / np.sqrt(np.where(good, skymap.kappa[row, column], np.nan))
    flux = catalog["flux_mjy"].to_numpy(float)
    expected = np.where(np.isfinite(flux), flux / error, options["snr_min"])
    on_map &= good if own is None else good & own
    bright = (expected >= 0.5 * options["snr_min"]) & ~(flux < options["flux_min_mjy"])
    candidate = np.flatnonzero(on_map & bright)
    i, j, _ = crossmatch.match(ra[candidate], dec[candidate], ra, dec, 60 * options["isolation_arcmin"])
    near = np.nan_to_num(flux)[j] > options["isolation_flux_ratio"] * np.nan_to_num(flux)[candidate[i]]
    crowded = np.unique(i[near & (candidate[i] != j)])
    alone = np.delete(candidate, crowded)
    return catalog.iloc[alone].reset_index(drop=True), expected[alone]


def _shift_grid(template, radius_arcmin):
    """Offsets (2, n) in arcsec, a quarter of the template's width apart, within the radius."""
    spacing = 0.25 * float(templates.fwhm_arcmin(template, template.row_edges[0]))
    half = int(np.ceil(radius_arcmin / spacing))
    offsets = np.stack(np.meshgrid(*(np.arange(-half, half + 1) * spacing,) * 2)).reshape(2, -1)
    return 60 * offsets[:, np.hypot(*offsets) <= radius_arcmin]


def _sample_around(skymap, sources, expected, options):
    """:class:`Shifts` of the brightest of some sources, around the shift known beforehand."""
    grid = _shift_grid(skymap.template, options["radius_arcmin"]) + _known_shift(options)[:, None]
    brightest = _brightest(expected)
    ra, dec = (sources[name].to_numpy()[brightest, None] for name in ("ra_deg", "dec_deg"))
    s = stamps.Significance(skymap.rho, skymap.kappa, skymap.mask)
    values = _nearest_values(s, skymap.wcs, *geometry.offset_position(ra, dec, *grid[:, None, :]))
    return Shifts(expected[brightest], values, grid)


def _nearest_values(image, wcs, ra, dec):
    """Pixel values at sky positions, NaN off the map."""
    y, x = geometry.sky2pix(wcs, ra, dec, image.shape)
    on_map = geometry.inside(image.shape, y, x)
    row, column = (np.rint(np.where(on_map, p, 0)).astype(int) for p in (y, x))
    return np.where(on_map, image[row, column], np.nan)


def _measure_near(s, skymap, sources, shift, options):
    """Table of the peaks nearest the shifted positions."""
    ra, dec = sources["ra_deg"].to_numpy(), sources["dec_deg"].to_numpy()
    width = float(templates.fwhm_arcmin(skymap.template, s.shape[0] // 2))
    radius = min(options["radius_arcmin"], 0.75 * width + 0.25)
    start = _highest_near(s, skymap.wcs, ra, dec, shift[:, None] + _shift_grid(skymap.template, radius))
    peak = positions.refine(s, *start, skymap.template, max_shift_pix=3.0)
    offset = np.stack(geometry.tangent_offsets(*geometry.pix2sky(skymap.wcs, peak.y, peak.x), ra, dec))
    kept = peak.converged & (peak.s_max >= options["snr_min"])
    kept &= np.hypot(*(offset - shift[:, None])) <= 60 * radius
    if options["chi2_max"] is not None:
        kept[kept] = ~(_chi2(s, peak, kept, skymap.template) > options["chi2_max"])
    known = np.maximum(np.nan_to_num(sources["pos_err_arcsec"].to_numpy(float)), options["catalog_err_arcsec"])
    error = np.hypot(positions.sky_errors(skymap.wcs, peak.y, peak.x, peak[3:6]), known)
    columns = {"source_id": sources["source_id"].to_numpy(), "ra_deg": ra, "dec_deg": dec, "used": kept}
    columns |= dict(zip(("ra_offset_arcsec", "dec_offset_arcsec"), offset, strict=True))
    columns |= dict(zip(("ra_offset_err_arcsec", "dec_offset_err_arcsec"), error, strict=True))
    columns["snr"] = np.sqrt(np.maximum(peak.s_max**2 - 2, 0))
    return tables.make("pointing_sources", {name: values[kept] for name, values in columns.items()})


def _chi2(s, peak, kept, template):
    """Reduced chi-square of the peaks kept against the template."""
    chosen = positions.Refined(*(values[kept] for values in peak))
    return shapes.measure(s, chosen, template, subtracted=np.zeros(len(chosen.y), bool)).template_chi2


def _highest_near(s, wcs, ra, dec, grid):
    """Pixel coordinates of the highest pixel among those at offsets ``grid`` (2, n) from each position."""
    ra, dec = geometry.offset_position(ra[:, None], dec[:, None], *grid[:, None, :])
    best = np.argmax(np.nan_to_num(_nearest_values(s, wcs, ra, dec), nan=-np.inf), axis=1)
    each = np.arange(len(ra))
    return geometry.sky2pix(wcs, ra[each, best], dec[each, best], s.shape)


def _frame(ra, dec, used, centre):
    """Centre and unit of the polynomial's coordinates."""
    if centre is None:
        x, y, z = geometry.unit_vectors(ra[used], dec[used]).mean(axis=0)
        centre = geometry.wrap_ra(np.degrees(np.arctan2(y, x))), np.degrees(np.arctan2(z, np.hypot(x, y)))
    distance = geometry.separation_arcsec(ra[used], dec[used], *centre) / 3600
    return (float(centre[0]), float(centre[1])), float(max(distance.max(), 0.1))


def _coordinates(ra, dec, centre, scale_deg):
    return np.stack(geometry.tangent_offsets(ra, dec, *centre)) / (3600 * scale_deg)


def _terms(u, v, order):
    """Powers u^i v^j with i + j <= order, (n_terms, n)."""
    return np.stack([u**i * v ** (n - i) for n in range(order + 1) for i in range(n, -1, -1)])


def _affordable(order, n, n_min):
    """Highest order, up to ``order``, that n sources allow; -1 for none."""
    while order >= 0 and n < max(n_min, (order + 1) * (order + 2) // 2 + 2 if order else 1):
        order -= 1
    return order


def _fit_clipped(terms, offset, error, usable, options):
    """(coefficients, covariance, scatter) and which sources were kept; clipping ends when too few are left."""
    kept, coefficients = usable, _robust_coefficients(terms[:, usable], offset[:, usable], error[:, usable])
    residual = offset - coefficients @ terms
    scatter = _extra_scatter(residual[:, kept], error[:, kept], len(terms), robust=True)
    for _ in range(_CLIPPINGS):
        pull = np.abs(residual / np.hypot(error, scatter)).max(axis=0)
        previous, kept = kept, usable & (pull < options["clip_sigma"])
        if kept.sum() < len(terms):
            return None, np.zeros_like(usable)
        average = _weighted_median if options["average"] == "median" and len(terms) == 1 else _solve
        coefficients, covariance = average(terms[:, kept], offset[:, kept], np.hypot(error, scatter)[:, kept])
        residual = offset - coefficients @ terms
        scatter = _extra_scatter(residual[:, kept], error[:, kept], len(terms))
        if np.array_equal(kept, previous):
            break
    return (coefficients, covariance, scatter), kept


def _solve(terms, offset, error):
    """Weighted least squares for both coordinates: coefficients (2, n_terms), covariance (2, n_terms, n_terms)."""
    covariance = np.linalg.pinv(np.einsum("in,cn,jn->cij", terms, error**-2.0, terms), hermitian=True)
    return np.einsum("cij,jn,cn->ci", covariance, terms, offset * error**-2.0), covariance


def _weighted_median(terms, offset, error):
    """Median of both coordinates with weights 1 / error, in place of the mean of :func:`_solve`."""
    order = np.argsort(offset, axis=1, kind="stable")
    values, weights = (np.take_along_axis(array, order, axis=1) for array in (offset, 1 / error))
    middle = (np.cumsum(weights, axis=1) - weights / 2) / weights.sum(axis=1, keepdims=True)
    median = [np.interp(0.5, *pair) for pair in zip(middle, values, strict=True)]
    return np.array(median)[:, None], np.pi / 2 * _solve(terms, offset, error)[1]


def _robust_coefficients(terms, offset, error):
    """Coefficients of least absolute deviation, by least squares with weights remade 30 times."""
    start = np.median(offset, axis=1, keepdims=True)
    residual = offset - start
    for _ in range(30):
        weighted = error * np.sqrt(np.maximum(np.hypot(*(residual / error)), 0.3))
        coefficients, _ = _solve(terms, offset, weighted)
        residual = offset - coefficients @ terms
    return coefficients


def _extra_scatter(residual, error, n_terms, *, robust=False):
    """Scatter that brings chi-square to its expectation; 0 where it is not two sigma above it."""
    freedom = residual.size - 2 * n_terms
    if freedom <= 0:
        return 0.0

    def excess(scatter):
        squares = residual**2 / (error**2 + scatter**2)
        total = np.median(squares) / _MEDIAN_SQUARE * residual.size if robust else squares.sum()
        return total - freedom

    if excess(0.0) < 2 * np.sqrt(2 * freedom):
        return 0.0
    low, high = 0.0, 2 * float(np.abs(residual).max())
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return high
