"""Filtered maps, whole or, where they are too large for memory, put together in their file strip by strip.

Each strip is filtered as a map of its own with the noise measured in it, so that a strip is at least a noise zone
high. What a map decides as a whole (which weights are too low, the half size of templates) is decided for all
strips alike from a look through its files.
"""

import dataclasses
import logging
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from sotrplib import (
    beams,
    ephemerides,
    flatfield,
    geometry,
    ingest,
    maps,
    masks,
    matched_filter,
    preprocessing,
    strips,
    tables,
)
from sotrplib import template as templates

log = logging.getLogger(__name__)

_REACHES = ("edge_arcmin", "hole_min_arcmin", "apodise_edge_arcmin", "apodise_hole_arcmin", "noise_taper_arcmin")
_ZONE_ROWS = ("row_first", "row_stop")
_NOTHING = {"rho": 0.0, "kappa": 0.0, "time": np.nan, "mask": tables.MASK_BITS["UNOBSERVED"]}


class Source(NamedTuple):
    """A map to filter: its row of the map table, its band and beam, and where and with what moving objects it was seen.

    ``options`` is the section ``preprocess_map`` of the configuration, ``ephemerides`` that of this name, ``watch`` as
    for :func:`ingest.read_map`.
    """

    row: dict
    band: beams.BandInfo
    beam: beams.Beam
    options: dict
    ephemerides: dict
    site: tuple
    watch: Callable = ingest.unwatched


class Cut(NamedTuple):
    """What of a map is wanted: a ``box`` (None for all) with its margin, cut on reading or when ``filtered``."""

    box: dict | None = None
    margin_arcmin: float = 60.0
    filtered: bool = False


class Whole(NamedTuple):
    """A filtered map in memory, and what was learnt of it (:class:`preprocessing.Record`)."""

    sky_map: maps.SkyMap
    record: preprocessing.Record

    def write(self, path, attrs):
        """Write it to its file, with ``attrs`` and its numbers for the table of maps."""
        numbers = preprocessing.summarize(self.sky_map)
        maps.write_sky_map(path, self.sky_map, attrs | numbers, **_recorded(*self.record))


class Drafted(NamedTuple):
    """A filtered map whose images are in the draft of its file, and all else of it."""

    draft: maps.SkyMapDraft
    info: maps.MapInfo
    template: templates.Template
    record: preprocessing.Record
    numbers: dict

    def write(self, path, attrs):
        """Finish the file; its name was given to the draft."""
        self.draft.finish(self.info, self.template, attrs | self.numbers, **_recorded(*self.record))


class _Plan(NamedTuple):
    """How a map is put together: what its files hold, its strips and its WCS, and the window of it that is kept.

    ``half`` is the half size of its templates, ``level`` the lowest weight that is used.
    """

    survey: ingest.Survey
    strips: list
    wcs: object
    kept: tuple
    half: int
    level: float


class _Part(NamedTuple):
    """What is left of a strip when its images are written.

    ``template`` and ``record`` are those of the core, in rows of the map; ``kappa`` (n,) is a sample of the good
    pixels that are kept, and ``area_deg2`` that of all of them.
    """

    info: maps.MapInfo
    template: templates.Template
    record: preprocessing.Record
    area_deg2: float
    kappa: np.ndarray


def filter_map(source, cut, strip_mpix, path, *, when_read=lambda: None):
    """Filter a map.

    Parameters
    ----------
    source : Source
    cut : Cut
    strip_mpix : float
        Maps of more million pixels are filtered strip by strip.
    path : path
        File that the result will be written to: strips go there at once, under a temporary name.
    when_read : function without arguments
        Called when no file of the map will be read any more.

    Returns
    -------
    Whole or Drafted

    Raises
    ------
    maps.MapError
        As of :func:`ingest.read_map` and :func:`preprocessing.preprocess_recorded`.
    """
    about = {"box": None if cut.filtered else cut.box, "margin_arcmin": cut.margin_arcmin}
    window = ingest.find_window(source.row, **about)
    if math.prod(geometry.window_shape(window)) > strip_mpix * 1e6:
        plan = _plan(source, cut, window, strip_mpix)
        if len(plan.strips) > 1:
            return _filter_strips(source, plan, path, when_read)
        about = {"window": plan.survey.window}
    given = ingest.read_map(source.row, source.band, **about, watch=source.watch)
    when_read()
    sky_map, record = _filter(given, source, source.options)
    if cut.filtered and cut.box:
        sky_map = maps.cut_sky_map(sky_map, cut.box, cut.margin_arcmin)
    return Whole(sky_map, record)


def _filter(given, source, options, margin_rows=(0, 0)):
    """Filter a map as read, or a strip of one: maps.SkyMap and preprocessing.Record."""
    clock = ephemerides.PixelClock(given.time, given.info.t_ref_unix_s, given.signal.shape)
    radii = options["planet_mask_radius_arcmin"], options["asteroid_mask_radius_arcmin"]
    reach = {"margin_arcmin": max(radii), "kinds": ephemerides.KINDS if radii[1] else ("planet",)}
    moving = ephemerides.positions_in_map(source.ephemerides, given.wcs, clock, source.site, **reach)
    known = {"moving": moving, "areas": preprocessing.read_areas(options, given.signal.shape, given.wcs)}
    return preprocessing.preprocess_recorded(given, source.beam, options, **known, margin_rows=margin_rows)


# ---- strips ------------------------------------------------------------------------------------------


def _plan(source, cut, window, strip_mpix):
    """Look through a map and cut it up (:class:`_Plan`); one strip if little of its files is observed."""
    options, step = source.options, masks.sample_step(math.prod(geometry.window_shape(window)))
    survey = ingest.survey(source.row, source.band, window, grid=step, watch=source.watch)
    wcs, shape = geometry.slice_wcs(survey.wcs, survey.window), geometry.window_shape(survey.window)
    pixels = preprocessing.map_pixels(shape, wcs)
    bands = matched_filter.plan_bands(shape, pixels, band_rows=options["band_rows"], pad_rows=options["pad_rows"])
    half = matched_filter.template_half(bands, preprocessing.beam_ell(source.beam))
    row_arcmin = float(np.degrees(pixels.dy_rad.min()) * 60)
    reach = max(options[name] for name in _REACHES) / row_arcmin
    margin = options["pad_rows"] + math.ceil(max(half, reach))
    planned = strips.plan(shape, strip_mpix, margin, least_rows=60 * options["noise_zone_deg"] / row_arcmin)
    box = cut.box if cut.filtered else None
    kept = maps.box_window(source.row["map_id"], wcs, box, cut.margin_arcmin)
    level = masks.lowest_kappa(survey.weights, options["kappa_min_fraction"], reference=options["kappa_reference"])
    return _Plan(survey, planned, wcs, kept, half, level)


def _filter_strips(source, plan, path, when_read):
    """Filter the strips of a map one after the other into the draft of its file (:class:`Drafted`)."""
    has_time = bool(source.row.get("time_path"))
    with maps.SkyMapDraft(path, geometry.slice_wcs(plan.wcs, plan.kept), has_time=has_time) as draft:
        parts = [_try_strip(source, plan, strip, draft) for strip in plan.strips]
        when_read()
        if not any(isinstance(part, _Part) for part in parts):
            raise next(part for part in parts if part)
        return _put_together(source, plan, draft, parts)


def _try_strip(source, plan, strip, draft):
    """What :func:`_filter_strip` gives, or why there is nothing in the strip: its rows are unobserved then.

    None if nothing of its core is kept.
    """
    core = f"rows {strip.core.start} to {strip.core.stop}"
    rows = slice(max(strip.core.start, plan.kept[0].start), min(strip.core.stop, plan.kept[0].stop))
    if rows.start >= rows.stop:
        return None
    log.info("strip of %s", core)
    try:
        return _filter_strip(source, plan, strip, rows, draft)
    except maps.EmptyMapError as error:
        log.warning("%s: nothing to filter in %s: %s", source.row["map_id"], core, error)
        shape = geometry.window_shape((rows, plan.kept[1]))
        draft.put(rows.start - plan.kept[0].start, {name: np.full(shape, value) for name, value in _NOTHING.items()})
        return error


def _filter_strip(source, plan, strip, rows, draft):
    """Filter a strip, write those ``rows`` of the map that are kept of its core, and keep the rest (:class:`_Part`)."""
    given = ingest.read_map(source.row, source.band, window=_in_files(plan, strip), watch=source.watch)
    given = dataclasses.replace(given, weight=masks.drop_below(given.weight, plan.level))
    sky_map, record = _filter(given, source, source.options | {"kappa_min_fraction": 0.0}, strip.margin_rows)
    del given
    window = slice(rows.start - strip.rows.start, rows.stop - strip.rows.start), plan.kept[1]
    own = maps.cut_window(sky_map, window)
    draft.put(rows.start - plan.kept[0].start, vars(own))
    good, step = own.mask == 0, masks.sample_step(math.prod(geometry.window_shape(plan.kept)))
    sample = own.kappa[::step, ::step][good[::step, ::step]]
    area = geometry.area_deg2(good.shape, own.wcs, good)
    rms = _rms_of_core(record.local_rms, strip, plan, source.options)
    record = preprocessing.Record(_spectra_of_core(record.spectra, strip), rms)
    return _Part(sky_map.info, _template_of_core(sky_map.template, strip), record, area, sample)


def _in_files(plan, strip):
    """Window of the files that holds a strip."""
    rows, columns = plan.survey.window
    return slice(rows.start + strip.rows.start, rows.start + strip.rows.stop), columns


def _template_of_core(template, strip):
    """Bands of the template of a strip that serve its core, in rows of the map."""
    edges = np.clip(np.asarray(template.row_edges) + strip.rows.start, strip.core.start, strip.core.stop)
    held = np.flatnonzero(np.diff(edges))
    return templates.select_bands(template, held, np.append(edges[held], strip.core.stop))


def _spectra_of_core(spectra, strip):
    """Table ``noise_spectra`` of the zones in the core of a strip, in rows of the map."""
    ends = {name: (spectra[name] + strip.rows.start).clip(strip.core.start, strip.core.stop) for name in _ZONE_ROWS}
    spectra = spectra.assign(**ends)
    return spectra[spectra["row_first"] < spectra["row_stop"]]


def _rms_of_core(local_rms, strip, plan, options):
    """Local rms in the core of a strip at the middle of the tiles of the map (nty, ntx), from that by its own tiles."""
    rows, columns = _tile_centres(plan, options)
    inside = rows[(rows >= strip.core.start) & (rows < strip.core.stop)] - strip.rows.start
    window = strip.rows, slice(0, plan.wcs.array_shape[1])
    shape, wcs = geometry.window_shape(window), geometry.slice_wcs(plan.wcs, window)
    size = preprocessing.tile_pix(preprocessing.map_pixels(shape, wcs), options["flatfield_tile_deg"])
    if size is None:
        return np.ones((len(inside), len(columns)), np.float32)
    return flatfield.resample(local_rms, shape, size, inside, columns)


def _tile_centres(plan, options):
    """Rows and columns at the middle of the tiles of the flat field of a map; of one tile if there are to be none."""
    shape = geometry.window_shape(plan.survey.window)
    size = preprocessing.tile_pix(preprocessing.map_pixels(shape, plan.wcs), options["flatfield_tile_deg"]) or shape
    return tuple(flatfield.tile_centres(n, tile) for n, tile in zip(shape, size, strict=True))


# ---- the map of all strips ---------------------------------------------------------------------------


def _put_together(source, plan, draft, parts):
    """:class:`Drafted` from what is left of the strips (:class:`_Part`, or anything else where that is nothing)."""
    filled = [part if isinstance(part, _Part) else None for part in parts]
    found = [part for part in filled if part]
    template = _join_templates(source, plan, filled)
    template = templates.select_bands(template, range(len(template.values)), template.row_edges - plan.kept[0].start)
    numbers = _summarize(found)
    notes = found[0].info.info | {"n_sanitised": plan.survey.n_sanitised, "snr_std": numbers["snr_std"]}
    info = dataclasses.replace(found[0].info, info=notes)
    record = preprocessing.Record(_join_spectra(found), _join_rms(plan, filled, source.options))
    return Drafted(draft, info, template, record, numbers)


def _join_templates(source, plan, parts):
    """Template of the map: that in its file where it is used, else those of its strips.

    A strip with nothing in it has that of the strip before it, or of the first that has one.
    """
    if source.row["form"] != "intensity_ivar" and source.options["given_template"] == "file":
        given = ingest.read_template(source.row["map_path"], plan.survey.window)
        if given is not None:
            return given
    pixels = preprocessing.map_pixels(geometry.window_shape(plan.survey.window), plan.wcs)
    last, joined = next(part.template for part in parts if part), []
    for strip, part in zip(plan.strips, parts, strict=True):
        last = part.template if part else _lend(last, strip.core, pixels)
        joined.append(last)
    half = plan.half if source.row["form"] == "intensity_ivar" else max(templates.half_size(part) for part in joined)
    return templates.join(joined, half)


def _lend(template, rows, pixels):
    """Template of rows that have none of their own: the last band of another, in pixels of their size."""
    middle = (rows.start + rows.stop) // 2
    step = np.degrees([[pixels.dy_rad[middle], pixels.dx_rad[middle]]]) * 60
    return templates.Template(template.values[-1:], np.array([rows.start, rows.stop]), step)


def _join_spectra(parts):
    """Table ``noise_spectra`` of the map, its zones numbered from the first row on."""
    import pandas as pd

    spectra = pd.concat([part.record.spectra for part in parts], ignore_index=True)
    first_rows, zone = np.unique(spectra["row_first"], return_inverse=True)
    return tables.make("noise_spectra", spectra.assign(zone=zone))


def _join_rms(plan, parts, options):
    """Local rms by tile of the map (nty, ntx) float32; 1 in strips with nothing in them."""
    rows, columns = _tile_centres(plan, options)
    result = np.ones((len(rows), len(columns)), np.float32)
    for strip, part in zip(plan.strips, parts, strict=True):
        if part:
            result[(rows >= strip.core.start) & (rows < strip.core.stop)] = part.record.local_rms
    return result


def _summarize(parts):
    """Numbers of a map as of :func:`preprocessing.summarize`.

    The median error is that of a sample of about a million pixels, and the variances of the SNR are averaged.
    """
    kappa = np.concatenate([part.kappa for part in parts])
    count, std = np.array([(len(part.kappa), part.info.info["snr_std"]) for part in parts]).T
    known = np.isfinite(std) & (count > 0)
    return {
        "time_unix_s": float(parts[0].info.t_ref_unix_s),
        "area_deg2": float(sum(part.area_deg2 for part in parts)),
        "flux_err_mjy": float(np.median(kappa) ** -0.5) if kappa.size else float("nan"),
        "snr_std": float(np.sqrt(np.average(std[known] ** 2, weights=count[known]))) if known.any() else float("nan"),
    }


def _recorded(spectra, local_rms):
    """What a filtered map's file holds beside the map."""
    description = "rms of the SNR by tile, of the map as filtered; the errors are corrected by it"
    arrays = {"flatfield/local_rms": (local_rms, {"unit": "1", "description": description})}
    return {"more_arrays": arrays, "frames": {"noise_spectra": ("noise_spectra", spectra)}}
