"""Offsets of known sources from where they are expected in a filtered map: positions fitted to each of them alone.

Sources that no other reaches are fitted on the map as it is; around the rest stamps are made from which the models of
the others are taken away.
"""

from typing import NamedTuple

import numpy as np

from sotrplib import geometry, positions, shapes, stamps
from sotrplib import template as templates

_STAMP_WING = 0.02  # significance above which a neighbour is taken out of a stamp
_STAMPS_AT_ONCE = 2048
_PAIRS_AT_ONCE = 512


class Heights(NamedTuple):
    """Heights of sources in s (n,), and s with its derivatives (6, n) at their positions if it was read already."""

    fitted: np.ndarray
    values: np.ndarray | None = None


def measure(skymap, expected, heights, chosen, options):
    """Fitted minus expected positions of sources.

    Parameters
    ----------
    skymap : maps.SkyMap
    expected : photometry.Expected
        Of all sources (n,), whose light is taken away from each other.
    heights : Heights
    chosen : array (m,) int
        Index of the sources whose positions are fitted.
    options : mapping
        ``offset_max_arcmin`` and ``chi2_max`` of the section ``forced_photometry`` of the configuration.

    Returns
    -------
    columns : dict
        Those of the table ``forced``, arrays (n,): NaN for sources not chosen and where the fit failed.
    bad_shape : array (n,) bool
        Which of them do not look like the template; none if ``chi2_max`` is 0.
    """
    offset, error = np.full((2, 2, len(expected.y)), np.nan)
    bad_shape = np.zeros(len(expected.y), bool)
    if len(chosen):
        found, chi2 = _refine_alone(skymap, expected, heights, chosen, options)
        bad_shape[chosen] = chi2 > (options["chi2_max"] or np.inf)
        good = found.converged & (found.s_max > 0)
        index, y, x = chosen[good], found.y[good], found.x[good]
        origin = expected.ra_deg[index], expected.dec_deg[index]
        offset[:, index] = geometry.tangent_offsets(*geometry.pix2sky(skymap.wcs, y, x), *origin)
        error[:, index] = positions.sky_errors(skymap.wcs, y, x, [values[good] for values in found[3:6]])
    names = "ra_offset_arcsec", "dec_offset_arcsec", "ra_offset_err_arcsec", "dec_offset_err_arcsec"
    return dict(zip(names, (*offset, *error), strict=True)), bad_shape


def _refine_alone(skymap, expected, heights, chosen, options):
    """Positions of sources as they are when the models of all others are taken away.

    And their reduced chi-square against the template, NaN if ``chi2_max`` is 0. Sources that no other reaches are
    looked at in the map as it is; for the rest stamps of s are made.
    """
    template = skymap.template
    max_shift = options["offset_max_arcmin"] / np.mean(template.step_arcmin[:, 0])
    half = _stamp_half(template, max_shift, options["chi2_max"])
    size = half, max_shift, options["chi2_max"]
    around = np.sqrt(2) * (half + 1)
    stamp, other = _neighbours(expected, heights.fitted, chosen, around, templates.envelope(template))
    parts = _parts(expected.y[chosen], np.bincount(stamp, minlength=len(chosen)) > 0)
    found = [_refine_on_map(skymap, expected, heights.values, chosen[parts[0]], size)]
    place = np.full(len(chosen), -1)
    for part in parts[1:]:
        place[:], place[part] = -1, np.arange(len(part))
        here = place[stamp] >= 0
        pairs = place[stamp[here]], other[here]
        found.append(_refine_stamps(skymap, expected, heights.fitted, (chosen[part], pairs), size))
    order, columns = np.argsort(np.concatenate(parts)), zip(*found, strict=True)
    *refined, chi2 = (np.concatenate(values)[order] for values in columns)
    return positions.Refined(*refined), chi2


def _stamp_half(template, max_shift, chi2_max):
    """Half size of stamps that hold all that is read of a source moved by up to ``max_shift`` pixels.

    A source is within half a pixel of the middle, and read from the pixel below it, three before and four behind.
    """
    half = int(max_shift + 0.5) + templates.N_TAPS // 2
    if chi2_max:
        around = max(shapes.stamp_half(template, band) for band in range(len(template.step_arcmin)))
        half = max(half, int(max_shift + 1) + around)
    return half


def _parts(y, crowded):
    """Index of the sources that are not crowded, and those of the others some at a time, in the order of their rows."""
    rest = np.flatnonzero(crowded)
    rest = rest[np.argsort(y[rest], kind="stable")]
    parts = [rest[start : start + _STAMPS_AT_ONCE] for start in range(0, len(rest), _STAMPS_AT_ONCE)]
    return [np.flatnonzero(~crowded), *parts]


def _refine_on_map(skymap, expected, values, chosen, size):
    """:class:`positions.Refined` and chi-square of sources that stand alone, one after the other."""
    _, max_shift, chi2_max = size
    s, start = stamps.Significance(skymap.rho, skymap.kappa), (expected.y[chosen], expected.x[chosen])
    values = None if values is None else values[:, chosen]
    found = positions.refine(s, *start, skymap.template, max_shift_pix=max_shift, values=values)
    return *found, _chi2(s, found, skymap.template, chi2_max)


def _refine_stamps(skymap, expected, height, sources, size):
    """The same of sources in the order of their rows: their stamps are put below each other in one image."""
    (chosen, pairs), (half, max_shift, chi2_max) = sources, size
    images, row, column = _stamps(skymap, expected, height, chosen, pairs, half)
    image = images.reshape(-1, 2 * half + 1)
    bands, first = np.unique(templates.band_of(skymap.template, expected.y[chosen]), return_index=True)
    edges = np.append(first, len(chosen)) * (2 * half + 1)
    template = templates.select_bands(skymap.template, bands, edges)
    below, aside = np.arange(len(chosen)) * (2 * half + 1) + half - row, half - column
    start = expected.y[chosen] + below, expected.x[chosen] + aside
    found = positions.refine(image, *start, template, max_shift_pix=max_shift)
    chi2 = _chi2(image, found, template, chi2_max)
    return *found._replace(y=found.y - below, x=found.x - aside), chi2


def _chi2(image, found, template, chi2_max):
    """Reduced chi-square of peaks against the template; NaN where the fit of the position failed."""
    chi2, good = np.full(len(found.y), np.nan), found.converged & (found.s_max > 0)
    if chi2_max:
        peaks = positions.Refined(*(values[good] for values in found))
        chi2[good] = shapes.measure(image, peaks, template, subtracted=np.zeros(good.sum(), bool)).template_chi2
    return chi2


def _stamps(skymap, expected, height, chosen, pairs, half):
    """s around the chosen sources without the other sources, (n, k, k), and the middle pixel of each stamp.

    ``pairs`` are the numbers of a stamp and of a source that reaches it.
    """
    row, column = np.rint(expected.y[chosen]).astype(int), np.rint(expected.x[chosen]).astype(int)
    images = stamps.around(stamps.Significance(skymap.rho, skymap.kappa), row, column, half)
    stamp, other = (part[np.argsort(pairs[0], kind="stable")] for part in pairs)
    for start in range(0, len(stamp), _PAIRS_AT_ONCE):
        i, j = stamp[start : start + _PAIRS_AT_ONCE], other[start : start + _PAIRS_AT_ONCE]
        fy, fx = expected.y[j] - row[i], expected.x[j] - column[i]
        models = templates.patches(skymap.template, fy, fx, expected.y[j], half, amplitude=height[j])
        rank = np.arange(len(i)) - np.searchsorted(i, i)
        for k in range(rank.max() + 1):  # of each stamp one neighbour at a time
            images[i[rank == k]] -= models[rank == k]
    return images, row, column


def _neighbours(expected, height, chosen, around, envelope):
    """Pairs (index into chosen, index of another source) of sources that reach so many pixels ``around`` the chosen."""
    with np.errstate(invalid="ignore"):
        levels = _STAMP_WING / np.maximum(np.abs(np.nan_to_num(height)), 1e-9)
    reach = len(envelope) - np.searchsorted(envelope[::-1], levels, side="right")
    place = np.full(len(height), -1)
    place[chosen] = np.arange(len(chosen))
    pairs = positions.close_pairs(expected.y, expected.x, reach.max() + around)
    stamp, other = np.concatenate([pairs, pairs[:, ::-1]]).T
    separation = np.hypot(expected.y[stamp] - expected.y[other], expected.x[stamp] - expected.x[other])
    keep = (place[stamp] >= 0) & (reach[other] > 0) & (separation < reach[other] + around)
    return place[stamp[keep]], other[keep]
