"""Search of s = rho / sqrt(kappa) for point sources.

Peaks are refined between the pixels and kept above a threshold. What bright ones leave around them (noise on
their shoulders, rings of the template, companions that make no maximum of their own) is decided on the map
without their templates, sources that overlap are fitted together, and this is repeated until nothing is found.
"""

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sotrplib import crossmatch, geometry, overlaps, positions, reading, shapes, stamps, subtraction
from sotrplib import template as templates
from sotrplib.positions import Refined

_LOWEST_START = 0.75  # maxima of pixels are followed from this fraction of the threshold on,
_START_MARGIN = 0.06  # or from this less than a source in the corner of four pixels has in them
_BRIGHT = 2.0  # sources above this many thresholds are searched around
_SAME_PIX = 1.0  # peaks closer than this are one
_NO_LOAD = 0.1  # what a brighter peak may add to another before it counts, in sigma
_ROUNDS = 10
_ATTEMPTS = 10
_PAINT_TOLERANCE = 0.3  # templates end below this, in sigma
_NEAR_FWHM = 0.5
_ONE_AT_A_TIME_FWHM = 2.0  # of new sources closer than this one enters at a time
_LARGEST_SHIFT_FWHM = 0.5  # of a source in a joint fit
_SAME_HEIGHT = 0.03  # sources that change by less are not painted again, in sigma
_BLOCK = 4000
_BLOCK_ROWS = 64  # few enough to stay in the cache


class Found(NamedTuple):
    """Sources, and the map s without the templates of those ``painted``.

    ``peaks`` (:class:`positions.Refined`) has heights without the light of the others, ``height_err`` their error
    (1 for a source alone), ``blended`` those that overlap, ``light`` what :func:`models_near` gives; arrays (n,).
    ``residual`` is (ny, nx).
    """

    peaks: Refined
    height_err: np.ndarray
    blended: np.ndarray
    painted: np.ndarray
    light: np.ndarray
    residual: np.ndarray


class _Scene(NamedTuple):
    """The map s without some sources, (3, n) of y, x and height; it changes with them."""

    sources: np.ndarray
    residual: np.ndarray


def _bare(field):
    return _Scene(np.zeros((3, 0)), significance(field.rho, field.skymap.kappa))


@dataclass(frozen=True, eq=False)
class Field:
    """What is searched.

    ``rho`` (ny, nx) is that of the map ``skymap``, or that without models of known sources; ``options`` the section
    ``find_sources`` of the configuration.
    """

    rho: np.ndarray
    skymap: object
    options: dict

    @property
    def s(self):
        """What is searched as :class:`stamps.Significance`."""
        return stamps.Significance(self.rho, self.skymap.kappa)

    @property
    def has_models(self):
        """Whether models of known sources are missing in rho."""
        return self.rho is not self.skymap.rho

    @property
    def template(self):
        """Shape of a source."""
        return self.skymap.template


def make_field(skymap, rho, options):
    """:class:`Field` of a map whose rho, less the models of known sources, is ``rho``."""
    return Field(rho, skymap, options)


def significance(rho, kappa):
    """s = rho / sqrt(kappa), float32, NaN where kappa is 0."""
    s = np.empty(rho.shape, np.float32)
    for start in range(0, len(s), _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        with np.errstate(invalid="ignore", divide="ignore"):
            np.divide(rho[rows], np.sqrt(kappa[rows]), out=s[rows])
    return s


def search(field):
    """All sources of a field above the threshold ``snr_min`` (:class:`Found`)."""
    scene = _bare(field)
    first, painted = first_peaks(field, scene.residual)
    peaks = _fit(field, first)
    scene = _repaint(field, scene, peaks, painted)
    for _ in range(_ROUNDS if painted.any() else 0):
        new = _new_peaks(field, scene.residual, peaks)
        if not len(new.y):
            break
        peaks = _fit(field, _join(peaks, new))
        painted = np.append(painted, np.ones(len(new.y), bool))
        scene = _repaint(field, scene, peaks, painted)
    kept = _explained(field, scene.residual, peaks, painted, len(first.y))
    if len(kept) < len(peaks.y):
        peaks = _fit(field, _join(first, take(peaks, kept[len(first.y) :])))
    return settle(field, peaks, painted[kept], scene)[0]


def first_peaks(field, s):
    """Peaks of s above the threshold as they are, each by itself.

    Parameters
    ----------
    field : Field
    s : array (ny, nx) float32
        See :func:`significance`.

    Returns
    -------
    peaks : positions.Refined
        Those that no brighter one can have made.
    painted : array (n,) bool
        Which of them are to be taken out of the map before it is searched again.
    """
    return _sure_peaks(field, s, _maxima(field, s))


def settle(field, peaks, painted=None, scene=None):
    """Sources that stay above the threshold and apart from each other when all are fitted together.

    The others are left out the least significant of each neighbourhood first, with a new fit after each; after
    ``_ATTEMPTS`` fits all at once.

    Parameters
    ----------
    field : Field
    peaks : positions.Refined
    painted : array (n,) bool, optional
        Sources whose templates are taken out of the map besides those of blended ones; default none.
    scene : _Scene, optional
        To start from, and to be overwritten.

    Returns
    -------
    Found
    index : array (m,) int
        Which of the peaks they are.
    """
    index, scene = np.arange(len(peaks.y)), scene or _bare(field)
    painted = np.zeros(len(index), bool) if painted is None else painted
    values = reading.sample(field.s, peaks.y, peaks.x, field.template)
    for attempt in itertools.count():
        peaks, height_err, blended = overlaps.separate_heights(field.s, peaks, field.template, values=values)
        scene = _repaint(field, scene, peaks, painted | blended)
        light = models_near(field, scene.residual, peaks, painted | blended)
        found = Found(peaks, height_err, blended, painted | blended, light, scene.residual)
        significance = np.nan_to_num(peaks.s_max) / height_err
        keep = significance >= _limit(field, light)
        keep &= _apart(field, *peaks[:3], field.options["min_separation_fwhm"])
        if keep.all():
            return found, index
        if attempt < _ATTEMPTS:
            keep |= ~_apart(field, peaks.y, peaks.x, np.where(keep, -np.inf, -significance), _ONE_AT_A_TIME_FWHM)
        index, painted, values = index[keep], painted[keep], values[keep]
        before, peaks = take(peaks, keep), _fit(field, _leave_out(field, peaks, keep))
        moved = np.flatnonzero((peaks.y != before.y) | (peaks.x != before.x))
        values[moved] = reading.sample(field.s, peaks.y[moved], peaks.x[moved], field.template)


def limit(field, image, peaks, painted):
    """Threshold at each peak (n,): raised where a model taken out of the map, with its error, is close."""
    return _limit(field, models_near(field, image, peaks, painted))


def _limit(field, light):
    return field.options["snr_min"] * np.hypot(1, field.options["template_err"] * light)


def models_near(field, image, peaks, painted):
    """Largest |s| within half a FWHM of each peak of all that was taken out of the map, the peak itself apart.

    ``image`` is s without the templates of the peaks that are ``painted``.
    """
    largest = np.zeros(len(peaks.y))
    half = int(np.ceil(_NEAR_FWHM * np.max(fwhm_pix(field.template, peaks.y), initial=1)))
    index = np.arange(len(peaks.y)) if field.has_models else _reached(field, peaks, painted, half)
    for part in np.array_split(index, len(index) // _BLOCK + 1):
        y, x = peaks.y[part], peaks.x[part]
        rho, kappa, rest = (
            stamps.around(m, y, x, half, outside=np.nan) for m in (field.skymap.rho, field.skymap.kappa, image)
        )
        own = templates.patches(field.template, y - np.rint(y), x - np.rint(x), y, half)
        own *= np.where(painted[part], np.nan_to_num(peaks.s_max[part]), 0)[:, None, None]
        taken = np.abs(significance(rho, kappa) - rest - own)
        largest[part] = np.nan_to_num(taken).max(axis=(1, 2), initial=0)
    return largest


def _reached(field, peaks, painted, half):
    """Index of the peaks whose stamps of a half size are reached by the template of another that is painted."""
    if not painted.any():
        return np.zeros(0, int)
    reach = np.zeros(len(peaks.y))
    reach[painted] = subtraction.extents(field.template, peaks.s_max[painted], _PAINT_TOLERANCE) + 1.0
    i, j = positions.close_pairs(peaks.y, peaks.x, np.sqrt(2) * (reach.max(initial=0) + half)).T
    apart = np.maximum(np.abs(peaks.y[i] - peaks.y[j]), np.abs(peaks.x[i] - peaks.x[j])) - half
    return np.unique(np.concatenate([i[apart < reach[j]], j[apart < reach[i]]]))


def take(peaks, index):
    """Peaks of the given index."""
    return Refined(*(values[index] for values in peaks))


def fwhm_pix(template, y):
    """Width of the template in units of the shorter side of a pixel, for rows (n,)."""
    return templates.fwhm_arcmin(template, y) / np.min(template.step_arcmin, axis=1)[templates.band_of(template, y)]


def _maxima(field, image):
    lowest = lowest_start(field.template) * field.options["snr_min"]
    return positions.local_maxima(image, lowest, field.skymap.mask)


def lowest_start(template):
    """Fraction of the threshold that the highest pixel of a source has at least.

    Noise moves the ratio of pixel and maximum little: by 0.01 of the threshold of 5 for a template 5 pixels wide.
    """
    corner = templates.evaluate_pixels(template, 0.5, 0.5, np.asarray(template.row_edges)[:-1])
    return max(_LOWEST_START, float(np.min(corner)) - _START_MARGIN)


def _sure_peaks(field, image, start):
    """Refined maxima above the threshold that no brighter one can have made, and which of them to paint."""
    threshold = field.options["snr_min"]
    peaks = positions.refine(image, *start, field.template)
    enough = np.nan_to_num(peaks.s_max) >= _LOWEST_START * threshold
    peaks = take(peaks, np.flatnonzero(enough))
    peaks, (bright, faint, load) = _loads(peaks, field.template, threshold)
    most = np.zeros(len(peaks.y))
    np.maximum.at(most, faint, load)
    lowest = limit(field, image, peaks, np.zeros(len(peaks.y), bool))
    lowest = np.maximum(lowest, threshold * np.hypot(1, field.options["template_err"] * most))
    sure = peaks.s_max - most >= lowest
    painted = sure & (peaks.s_max > _BRIGHT * threshold)
    painted[bright[sure[bright] & ~sure[faint]]] = True
    kept = np.flatnonzero(sure)
    kept = kept[_apart(field, *take(peaks, kept)[:3], field.options["min_separation_fwhm"])]
    return take(peaks, kept), painted[kept]


def _loads(peaks, template, threshold):
    """Distinct peaks, pairs of one above the threshold and a fainter one, and the most that its template adds there."""
    envelope = templates.envelope(template)
    reach = np.count_nonzero(envelope * np.max(peaks.s_max, initial=1) > _NO_LOAD) + 1
    i, j = positions.close_pairs(peaks.y, peaks.x, reach).T
    i, j = np.where(peaks.s_max[i] >= peaks.s_max[j], [i, j], [j, i])
    distance = np.hypot(peaks.y[i] - peaks.y[j], peaks.x[i] - peaks.x[j])
    same = distance <= _SAME_PIX
    keep = positions.keep_highest(peaks.s_max, i[same], j[same])
    both = keep[i] & keep[j]
    peaks, place = take(peaks, np.flatnonzero(keep)), np.cumsum(keep) - 1
    i, j, distance = place[i[both]], place[j[both]], distance[both]
    load = peaks.s_max[i] * np.interp(distance, np.arange(len(envelope)), envelope)
    counts = (load > _NO_LOAD) & (peaks.s_max[i] >= threshold)
    return peaks, (i[counts], j[counts], load[counts])


def _new_peaks(field, residual, known):
    """Sure peaks of the map without the known sources, not too close to these; of close ones the highest alone."""
    start = _maxima(field, residual)
    away = _is_away(field, *start, known)
    new, _ = _sure_peaks(field, residual, (start[0][away], start[1][away]))
    away = _is_away(field, new.y, new.x, known)
    alone = _apart(field, *new[:3], max(_ONE_AT_A_TIME_FWHM, field.options["min_separation_fwhm"]))
    return take(new, np.flatnonzero(away & alone))


def _leave_out(field, peaks, keep):
    """The peaks kept; those that have lost all others they overlapped with are back at the maximum of s."""
    paired, rest = np.zeros(len(keep), bool), take(peaks, np.flatnonzero(keep))
    paired[overlaps.strong_members(peaks, field.template)] = True
    lonely = paired[keep]
    lonely[overlaps.strong_members(rest, field.template)] = False
    start, reach = (rest.y[lonely], rest.x[lonely]), _largest_shift(field, peaks)
    for values, new in zip(rest, positions.refine(field.s, *start, field.template, max_shift_pix=reach), strict=True):
        values[lonely] = new
    return rest


def _join(first, second):
    return Refined(*(np.concatenate(both) for both in zip(first, second, strict=True)))


def _explained(field, residual, peaks, painted, n_first):
    """Index of the peaks without those from ``n_first`` on that stand in something no sum of templates fits.

    These are the parts an extended source is taken to pieces into, or the remains of one whose template is wrong.
    """
    ra, dec = geometry.pix2sky(field.skymap.wcs, peaks.y, peaks.x)
    later, radius = np.arange(n_first, len(peaks.y)), _radius_arcsec(field, peaks.y, _ONE_AT_A_TIME_FWHM)
    i, j, _ = crossmatch.match(ra[later], dec[later], ra, dec, radius[later])
    near, options = np.unique(j), field.options
    chi2 = np.zeros(len(peaks.y))
    chi2[near] = shapes.measure(
        residual, take(peaks, near), field.template, subtracted=painted[near], template_err=options["template_err"]
    ).template_chi2
    failed = later[i[~(chi2[j] <= options["chi2_max"])]]
    return np.setdiff1d(np.arange(len(peaks.y)), failed)


def _fit(field, peaks):
    return overlaps.refine_together(field.s, peaks, field.template, max_shift_pix=_largest_shift(field, peaks))


def _largest_shift(field, peaks):
    return max(_LARGEST_SHIFT_FWHM * float(np.max(fwhm_pix(field.template, peaks.y), initial=0)), 2.0)


def _repaint(field, scene, peaks, painted):
    """Scene without the painted peaks, from an earlier one that is overwritten: only what has changed is painted."""
    wanted = np.stack(peaks[:3])[:, painted]
    known, still = _same(scene.sources, wanted), _same(wanted, scene.sources)
    sources = np.concatenate([scene.sources[:, still], wanted[:, ~known]], axis=1)
    changed = np.concatenate([wanted[:, ~known], scene.sources[:, ~still] * [[1], [1], [-1]]], axis=1)
    if not changed.size:
        return scene
    y, x, height = changed
    subtraction.paint_onto(scene.residual, y, x, -height, field.template, tolerance=_PAINT_TOLERANCE)
    return _Scene(sources, scene.residual)


def _same(present, wanted):
    """Which of the wanted sources (3, n) of y, x and height are among those present."""
    order = np.argsort(present[0], kind="stable")
    place = np.clip(np.searchsorted(present[0, order], wanted[0]), 0, max(len(order) - 1, 0))
    if not len(order):
        return np.zeros(wanted.shape[1], bool)
    close = np.abs(present[:, order[place]] - wanted) <= np.array([[0], [0], [_SAME_HEIGHT]])
    return close.all(axis=0)


def _apart(field, y, x, height, radius_fwhm):
    """Which positions are not within the radius of a higher one that is kept itself."""
    ra, dec = geometry.pix2sky(field.skymap.wcs, y, x)
    return positions.keep_highest(height, *crossmatch.close_pairs(ra, dec, _radius_arcsec(field, y, radius_fwhm)))


def _is_away(field, y, x, known):
    wcs, radius = field.skymap.wcs, _radius_arcsec(field, y, field.options["min_separation_fwhm"])
    return crossmatch.nearest(*geometry.pix2sky(wcs, y, x), *geometry.pix2sky(wcs, known.y, known.x), radius)[0] < 0


def _radius_arcsec(field, y, radius_fwhm):
    return 60 * radius_fwhm * templates.fwhm_arcmin(field.template, y)
