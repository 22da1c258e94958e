"""What the page of a run shows of its maps: images, figures, warnings, part of the sky, cutouts around candidates.

Every map is read once; all of it comes from that one look.
"""

from dataclasses import dataclass, field
from enum import Enum
from functools import partial

import numpy as np

from sotrplib import geometry, maps, plots, pointing, store, tables
from sotrplib.report import checks, stamps, words

_IMAGE_PIXELS = 600  # longest side of the image of a map
_THUMBNAIL_PIXELS = 150
_EDGES = np.arange(-8.0, 8.01, 0.25)
_BLOCK = 1 << 16  # values counted at a time, few enough to stay in the cache
FLAT_RANGE = 0.2  # the flat field is drawn from 1 - this to 1 + this


class Draw(Enum):
    """What is drawn of a map: images and figures; these if it is not Gaussian, and else a small image; only that."""

    ALL = "all"
    IF_WARNED = "if warned"
    SMALL = "small"


@dataclass(frozen=True, eq=False)
class MapView:
    """What the page shows of one map, and what it says of the instrument.

    ``images`` (data URIs) and ``figures`` (SVG, with what is said below them) are empty where nothing was drawn, and
    ``thumbnail`` (data URI) is where they are not;
    ``footprint`` is usable blocks of pixels (boolean), pixels a block, WCS; ``stamps`` are by candidate.
    """

    map_id: str
    warnings: list
    numbers: dict
    footprint: tuple
    shape_arcmin: tuple
    masked: str = ""
    images: dict = field(default_factory=dict)
    figures: list = field(default_factory=list)
    stamps: dict = field(default_factory=dict)
    thumbnail: str = ""


@dataclass(frozen=True, eq=False)
class Look:
    """A map, its pointing and forced photometry, its SNR with and without sources, and its usable pixels."""

    sky_map: maps.SkyMap
    model: pointing.PointingModel
    offsets: tuple
    forced: object
    snr: np.ndarray
    residual: np.ndarray
    good: np.ndarray


def view_map(map_path, pointing_path, source_paths, targets, *, draw=Draw.ALL, sheet=None):
    """Look at one map.

    Parameters
    ----------
    map_path, pointing_path : path
        The filtered map and its pointing.
    source_paths : (path, path)
        Forced photometry and sifted detections.
    targets : pandas.DataFrame
        Rows of ``measurements``; cutouts are made of those in this map.
    draw : Draw
        What is drawn for the page.
    sheet : path, optional
        PNG to write with the image and the checks of the map on one sheet.

    Returns
    -------
    MapView or None
        None for a failed map.
    """
    attrs = store.read_attrs(source_paths[-1])  # the last stage hands on what failed in any
    if attrs.get("status") == "failed":
        if sheet:
            _write_sheet(plots.overview(f"{attrs['map_id']} failed: {attrs['reason']}", None, []), sheet)
        return None
    look = take_look(map_path, pointing_path, source_paths)
    sky_map, map_id = look.sky_map, look.sky_map.info.map_id
    factor = max(-(-max(look.snr.shape) // _IMAGE_PIXELS), 1)
    scales = [float(np.mean(s)) for s in geometry.pixel_scales(look.snr.shape, sky_map.wcs)]
    wanted = targets[targets["map_id"] == map_id].to_dict("records")
    beam = checks.beam_profile(sky_map, look.residual, look.forced, look.model)
    numbers, warnings = _numbers(look, beam), checks.judge_noise(look.residual[look.good])
    full = draw is Draw.ALL or (draw is Draw.IF_WARNED and bool(warnings))
    made = _checks(look, beam, numbers, map_path) if full or sheet else []
    if sheet:
        _write_sheet(draw_overview(look, made, factor), sheet)
    return MapView(
        map_id=map_id,
        warnings=warnings,
        numbers=numbers,
        footprint=(_blocks(look.good, factor, np.logical_or), factor, sky_map.wcs),
        shape_arcmin=tuple(n * scale for n, scale in zip(look.snr.shape, scales, strict=True)),
        masked=_say_masked(sky_map) if full else "",
        images=_images(look, factor, map_path) if full else {},
        figures=_figures(made, map_id) if full else [],
        thumbnail="" if full else _thumbnail(look),
        stamps={row["source_id"]: stamps.cut(sky_map, row, look.model) for row in wanted},
    )


def _write_sheet(figure, path):
    with store.atomic_path(path) as temporary:
        plots.save(figure, temporary, dpi=110)


def take_look(map_path, pointing_path, source_paths):
    """Read a map and what the stages made of it (Look)."""
    sky_map = maps.read_sky_map(map_path)
    attrs = store.read_attrs(pointing_path)
    model = pointing.from_dict(attrs["pointing"]) if "pointing" in attrs else pointing.PointingModel()
    offsets = checks.pointing_offsets(store.read_table(pointing_path, "pointing_sources"), model)
    residual = checks.residual_snr(sky_map, model, source_paths)
    forced = store.read_table(source_paths[0], "forced")
    good = (sky_map.mask == 0) & (sky_map.kappa > 0)
    return Look(sky_map, model, offsets, forced, maps.snr(sky_map), residual, good)


def _numbers(look, beam):
    """What the page says of the instrument from this map."""
    ratio, ratio_err, n_ratio = checks.flux_ratio(checks.sure_fluxes(look.forced))
    n_negative, n_expected = checks.count_negative(look.sky_map, look.residual)
    _, after, used = look.offsets
    return {
        "flux_ratio": ratio, "flux_ratio_err": ratio_err, "n_flux_ratio": n_ratio,
        "n_negative": n_negative, "n_negative_expected": n_expected,
        "pointing_rms_arcsec": float(np.sqrt(np.mean(after[:, used] ** 2))) if used.any() else np.nan,
        "beam_width": beam["width"] if beam else np.nan,
    }  # fmt: skip


def _say_masked(sky_map):
    """Area under each mask in words."""
    bits = {name: bit for name, bit in tables.MASK_BITS.items() if name != "UNOBSERVED"}
    areas = {
        name.lower(): geometry.area_deg2(sky_map.mask.shape, sky_map.wcs, (sky_map.mask & bit) > 0)
        for name, bit in bits.items()
    }
    return ", ".join(f"{name} {words.format_number(area)} deg²" for name, area in areas.items() if area > 0)


def _images(look, factor, map_path):
    """Data URIs of the images of a map, by name."""
    wcs, err = look.sky_map.wcs, look.sky_map.kappa[look.good] ** -0.5
    largest = plots.SNR_MAX * float(np.median(err)) if err.size else 1.0
    result = {
        "snr": plots.snr_image(*map_image(look.snr, look.good, factor, wcs)),
        "flux": plots.image(*_with_scale(map_image(maps.flux(look.sky_map), look.good, factor, wcs), largest)),
        "flux_max": largest,
    }
    if "flatfield/local_rms" in store.list_contents(map_path):
        rms = store.read_array(map_path, "flatfield/local_rms")[_turn(look.snr.shape, wcs)]
        result |= {"flat": plots.image(rms - 1, FLAT_RANGE), "flat_min": rms.min(), "flat_max": rms.max()}
    return result


def _thumbnail(look):
    """Data URI of a small image of the SNR."""
    factor = max(-(-max(look.snr.shape) // _THUMBNAIL_PIXELS), 1)
    return plots.snr_image(*map_image(look.snr, look.good, factor, look.sky_map.wcs))


def _with_scale(image_and_mask, largest):
    return image_and_mask[0], largest, image_and_mask[1]


def _checks(look, beam, numbers, map_path):
    """Checks of a map: list of (name, what is shown, function that draws it, what is said below)."""
    made = [_histogram(look, numbers)]
    if "noise_spectra" in store.list_contents(map_path):
        spectra = store.read_table(map_path, "noise_spectra")
        if len(spectra):
            caption = f"noise without sources, and the filter's model of it; zones: {spectra['zone'].nunique()}"
            made.append(("noise", "Power spectrum of the noise", partial(plots.noise_spectra, spectra), caption))
    if beam:
        caption = f"{beam['n_sources']} bright sources are {beam['width']:.2f} times as wide as the filter expects"
        made.append(("beam", "Profile of bright sources", partial(plots.beam_response, beam), caption))
    if look.offsets[0].size:
        draw = partial(plots.pointing_residuals, *look.offsets)
        made.append(("pointing", "Pointing residuals", draw, _say_pointing(look)))
    fluxes = checks.sure_fluxes(look.forced)
    if len(fluxes):
        ratio, ratio_err, n = checks.flux_ratio(fluxes)
        told = words.format_pair(ratio, ratio_err)
        caption = f"{len(fluxes)} sources; median ratio of the {n} expected above 10σ: {told}"
        columns = (fluxes[f"{name}_mjy"].to_numpy() for name in ("catalog_flux", "flux", "flux_err"))
        draw = partial(plots.flux_comparison, *columns, look.sky_map.info.band)
        made.append(("flux", "Forced against catalogue flux", draw, caption))
    return made


def _histogram(look, numbers):
    counts = [count_in_bins(values[look.good]) for values in (look.snr, look.residual)]
    expected = words.format_number(numbers["n_negative_expected"], 2)
    caption = f"{numbers['n_negative']} peaks below −{checks.SEARCH_SNR:g}σ, of Gaussian noise {expected}"
    draw = partial(plots.snr_histogram, _EDGES, *counts)
    return "histogram", "Histogram of the SNR and the unit Gaussian", draw, caption


def count_in_bins(values):
    """Number of finite values (n,) in each of the bins of the histogram, whose end bins hold all that lies beyond."""
    n_bins, step = len(_EDGES) - 1, np.float32(_EDGES[1] - _EDGES[0])
    counts = np.zeros(n_bins, int)
    for start in range(0, len(values), _BLOCK):
        bins = np.floor((values[start : start + _BLOCK] - np.float32(_EDGES[0])) / step)
        bins = np.clip(bins[np.isfinite(bins)], 0, n_bins - 1)
        counts += np.bincount(bins.astype("u1"), minlength=n_bins)
    return counts


def _figures(made, map_id):
    """Checks for the page: list of dicts svg, caption."""
    return [
        {"svg": plots.to_svg(draw(), f"{name}-{map_id}", f"{label} of {map_id}"), "caption": caption}
        for name, label, draw, caption in made
    ]


def draw_overview(look, made, factor):
    """Image and checks of a map on one sheet."""
    steps = (float(np.mean(s)) for s in geometry.pixel_scales(look.snr.shape, look.sky_map.wcs))
    dy, dx = steps
    image = (*map_image(look.snr, look.good, factor, look.sky_map.wcs), dx / dy)
    verdict = checks.judge_noise(look.residual[look.good])
    title = look.sky_map.info.map_id + (": not Gaussian: " + "; ".join(verdict) if verdict else "")
    return plots.overview(title, image, [lambda axes, one=one: one(axes=axes) for _, _, one, _ in made])


def _say_pointing(look):
    before, after, used = look.offsets
    if not used.any():
        return "no source was used: positions are taken as they are"
    rms = [float(np.sqrt(np.mean(values[:, used] ** 2))) for values in (before, after)]
    return f"rms a coordinate {rms[0]:.1f}″ before, {rms[1]:.1f}″ after; {used.sum()} of {len(used)} sources used"


def _blocks(image, factor, combine):
    """Image of blocks of ``factor`` times ``factor`` pixels (less at the ends), ``combine`` being a binary ufunc."""
    starts = np.arange(0, image.shape[1], factor)
    rows = (combine.reduce(image[row : row + factor], axis=0) for row in range(0, len(image), factor))
    return np.stack([combine.reduceat(row, starts) for row in rows])


def map_image(values, good, factor, wcs):
    """Image of a map in blocks, the pixel farthest from 0 standing for its block, and its masked pixels.

    North is up, east to the left: two arrays, the first row being the northernmost.
    """
    high, low = _blocks(values, factor, np.fmax), _blocks(values, factor, np.fmin)
    image = np.where(high > -low, high, low)
    image = np.where(np.isfinite(image), image, np.nan)
    masked = np.isfinite(image) & ~_blocks(good, factor, np.logical_or)
    turn = _turn(values.shape, wcs)
    return image[turn], masked[turn]


def _turn(shape, wcs):
    """Slices that turn an image north up and east to the left."""
    y, x = ((n - 1) / 2 for n in shape)
    ra, dec = geometry.pix2sky(wcs, np.array([y, y + 1, y]), np.array([x, x, x + 1]))
    east, north = geometry.tangent_offsets(ra[1:], dec[1:], ra[0], dec[0])
    return slice(None, None, -1 if north[0] > 0 else 1), slice(None, None, -1 if east[1] > 0 else 1)
